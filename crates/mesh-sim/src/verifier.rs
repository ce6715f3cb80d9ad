//! Signatures checked once per simulation instead of once per node.

use std::collections::BTreeMap;
use std::sync::Mutex;

use mesh_core::identity::{Ed25519Verifier, NodeId, Signature, SignatureContext, SignatureVerifier};

/// Remembers by digest what each check came to: whether a signature holds depends on nothing else.
#[derive(Debug, Default)]
pub struct MemoisingVerifier {
    known: Mutex<BTreeMap<[u8; 32], bool>>,
}

impl SignatureVerifier for MemoisingVerifier {
    fn verify(
        &self,
        signer: &NodeId,
        context: SignatureContext,
        message: &[u8],
        signature: &Signature,
    ) -> bool {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&signer.0)
            .update(&signature.0)
            .update(context.prefix())
            .update(message);
        let digest = *hasher.finalize().as_bytes();
        // Poisoned means that a check panicked, which the simulation that shares it has reported already.
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *known
            .entry(digest)
            .or_insert_with(|| Ed25519Verifier.verify(signer, context, message, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::identity::Identity;

    #[test]
    fn what_is_remembered_is_what_was_checked() {
        let signer = Identity::from_seed([1; 32]).unwrap();
        let verifier = MemoisingVerifier::default();
        let signature = signer.sign(SignatureContext::Quote, b"a");
        for _ in 0..2 {
            assert!(verifier.verify(&signer.node_id(), SignatureContext::Quote, b"a", &signature));
            assert!(!verifier.verify(&signer.node_id(), SignatureContext::Quote, b"b", &signature));
            assert!(!verifier.verify(&signer.node_id(), SignatureContext::Receipt, b"a", &signature));
        }
    }
}
