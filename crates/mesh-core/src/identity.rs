//! Who is who: node ids and the key that proves one.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A node's name and its Ed25519 public key at once: 32 bytes, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 32]);

/// A text that is no node id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not a node id: expected 64 hexadecimal digits, the node's Ed25519 public key")]
pub struct InvalidNodeId {
    given: String,
}

impl NodeId {
    /// The first eight hexadecimal digits: enough for a person to tell nodes apart, never for a program.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 32];
        hex::decode_to_slice(text.trim(), &mut id).map_err(|_| InvalidNodeId {
            given: text.chars().take(80).collect(),
        })?;
        Ok(Self(id))
    }
}

/// An Ed25519 signature (RFC 8032), 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Two halves, because serde derives arrays only up to 32 elements.
        let (low, high) = self.0.split_at(32);
        let mut halves = ([0u8; 32], [0u8; 32]);
        halves.0.copy_from_slice(low);
        halves.1.copy_from_slice(high);
        halves.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", hex::encode(&self.0[..4]))
    }
}

/// What a signature is for. Every signed message is prefixed with its context, so that a signature made for one
/// purpose can never be shown for another: without it a router could pass off a signed quote as a signed path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureContext {
    /// A destination's word that a path leads to it.
    DestinationPath,
    /// A router's word on its own place and price in a path.
    RouterAttestation,
    /// A payee's quote.
    Quote,
    /// The source's name on a session it opens.
    SessionSource,
    /// The destination's cumulative receipt.
    Receipt,
    /// What a node announces of itself.
    Announcement,
    /// An operator's word that a node is his.
    Operator,
    /// Until when it is to be shown.
    OperatorEnd,
}

impl SignatureContext {
    /// The bytes put before the message.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Self::DestinationPath => b"blvm-mesh/1 destination path\0",
            Self::RouterAttestation => b"blvm-mesh/1 router attestation\0",
            Self::Quote => b"blvm-mesh/1 quote\0",
            Self::SessionSource => b"blvm-mesh/1 session source\0",
            Self::Receipt => b"blvm-mesh/1 receipt\0",
            Self::Announcement => b"blvm-mesh/1 announcement\0",
            Self::Operator => b"blvm-mesh/1 operator\0",
            Self::OperatorEnd => b"blvm-mesh/1 operator end\0",
        }
    }

    fn message(self, message: &[u8]) -> Vec<u8> {
        [self.prefix(), message].concat()
    }
}

/// A node's secret key. It signs for the node id; whoever reads it is the node.
pub struct Identity {
    id: NodeId,
    seed: Zeroizing<[u8; 32]>,
    key: Ed25519KeyPair,
}

/// A secret that is no Ed25519 seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the identity key is not a valid Ed25519 seed; restore it from a backup or remove it to start as a new node"
)]
pub struct InvalidIdentity;

impl Identity {
    /// The identity of a 32-byte Ed25519 seed (RFC 8032 section 5.1.5).
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, InvalidIdentity> {
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| InvalidIdentity)?;
        let mut id = [0; 32];
        id.copy_from_slice(key.public_key().as_ref());
        Ok(Self {
            id: NodeId(id),
            seed: Zeroizing::new(seed),
            key,
        })
    }

    /// The public name of this identity.
    pub fn node_id(&self) -> NodeId {
        self.id
    }

    /// The secret seed, for the file it is kept in and for the TLS key; it must never reach a log.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Signs `message` for one purpose only.
    pub fn sign(&self, context: SignatureContext, message: &[u8]) -> Signature {
        let signature = self.key.sign(&context.message(message));
        let mut bytes = [0; 64];
        bytes.copy_from_slice(signature.as_ref());
        Signature(bytes)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.id.short())
    }
}

/// Checks signatures. A trait, because a simulated network of thousands of nodes checks the same signature once and
/// remembers the answer, where a real node has to do the work itself.
pub trait SignatureVerifier {
    /// Whether `signature` is `signer`'s over `message`, made for `context`.
    fn verify(
        &self,
        signer: &NodeId,
        context: SignatureContext,
        message: &[u8],
        signature: &Signature,
    ) -> bool;
}

/// Checks every signature for real (28 µs each).
#[derive(Debug, Clone, Copy, Default)]
pub struct Ed25519Verifier;

impl SignatureVerifier for Ed25519Verifier {
    fn verify(
        &self,
        signer: &NodeId,
        context: SignatureContext,
        message: &[u8],
        signature: &Signature,
    ) -> bool {
        UnparsedPublicKey::new(&ED25519, signer.0)
            .verify(&context.message(message), &signature.0)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    #[test]
    fn node_id_survives_its_text_form() {
        let id = identity(7).node_id();
        assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
        assert_eq!(id.to_string().len(), 64);
    }

    #[test]
    fn text_that_is_no_node_id_is_refused_with_the_reason() {
        let error = "xyz".parse::<NodeId>().unwrap_err();
        assert!(error.to_string().contains("64 hexadecimal digits"));
    }

    #[test]
    fn signature_for_one_purpose_is_worthless_for_another() {
        let signer = identity(1);
        let signature = signer.sign(SignatureContext::Quote, b"message");
        let verifies =
            |context, message: &[u8], by: NodeId| Ed25519Verifier.verify(&by, context, message, &signature);
        assert!(verifies(SignatureContext::Quote, b"message", signer.node_id()));
        assert!(!verifies(SignatureContext::Receipt, b"message", signer.node_id()));
        assert!(!verifies(SignatureContext::Quote, b"massage", signer.node_id()));
        assert!(!verifies(
            SignatureContext::Quote,
            b"message",
            identity(2).node_id()
        ));
    }

    #[test]
    fn rfc_8032_test_vector_1() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let identity = Identity::from_seed(seed.try_into().unwrap()).unwrap();
        assert_eq!(
            identity.node_id().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn secret_key_never_shows_in_debug_output() {
        assert!(!format!("{:?}", identity(9)).contains("0909"));
    }
}
