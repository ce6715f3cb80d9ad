//! Signatures checked once per simulation instead of once per node.

use std::collections::HashMap;
use std::sync::Mutex;

use foldhash::fast::FixedState;
use mesh_core::identity::{Ed25519Verifier, NodeId, Signature, SignatureContext, SignatureVerifier};

/// Most checks remembered. When they are that many, all are forgotten and made again as they are asked for: what a check
/// comes to never depends on the memory, so forgetting changes nothing but how long the simulation takes.
const MAX_REMEMBERED: usize = 1 << 20;

/// Remembers by digest what each check came to: whether a signature holds depends on nothing else.
#[derive(Debug)]
pub struct MemoisingVerifier {
    known: Mutex<HashMap<[u8; 32], bool, FixedState>>,
}

impl Default for MemoisingVerifier {
    fn default() -> Self {
        Self {
            known: Mutex::new(HashMap::with_hasher(FixedState::with_seed(0))),
        }
    }
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
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
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
