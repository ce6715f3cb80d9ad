//! An operator's word that a node is his, on its way from the one to the other.
//!
//! Both stand for it: the operator signs for the node's id, which is what announcements show
//! ([`OperatorCertificate`]), and the node signs the announcements that show it. Neither can say it of the other alone.
//!
//! On its way it also has an end, which the operator signs beside it. The node keeps to it: it takes no certificate that
//! ended, and announcements that it makes later do not show it. Others are not told the end and need not be: a claim only
//! ever merges nodes into one entity, so who shows one for too long has less of the mesh by it, not more.

use crate::announcement::OperatorCertificate;
use crate::identity::{Identity, NodeId, Signature, SignatureContext, SignatureVerifier};
use crate::time::UnixMillis;

/// A certificate with the node it is for and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatedCertificate {
    /// Whom the operator signed for.
    pub node: NodeId,
    /// From when on it is not to be shown.
    pub expires: UnixMillis,
    /// What announcements show.
    pub certificate: OperatorCertificate,
    /// The operator's signature over node and end.
    pub seal: Signature,
}

/// Why a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is for another node.
    #[error(
        "wrong node: the certificate is for {certified} and this node is {own}; have this node's id certified"
    )]
    WrongNode {
        /// Whom it is for.
        certified: NodeId,
        /// Who would show it.
        own: NodeId,
    },
    /// The operator did not sign what it says.
    #[error(
        "forged certificate: operator {operator} did not sign this node and this end; have the operator certify the node again"
    )]
    Forged {
        /// Whose it claims to be.
        operator: NodeId,
    },
    /// Its end is past.
    #[error("expired certificate: it ended at Unix time {} s; have the operator certify the node again", .expired.0 / 1000)]
    Expired {
        /// When it ended.
        expired: UnixMillis,
    },
}

impl DatedCertificate {
    /// Signs for a node until `expires`.
    pub fn sign(node: NodeId, expires: UnixMillis, operator: &Identity) -> Self {
        Self {
            node,
            expires,
            certificate: OperatorCertificate::sign(&node, operator),
            seal: operator.sign(SignatureContext::OperatorEnd, &sealed_bytes(&node, expires)),
        }
    }

    /// Whether the node `own` may show it now.
    ///
    /// # Errors
    /// [`CertificateError`]: it is another node's, the operator signed none of it or something else, or its end is past.
    pub fn check(
        &self,
        own: &NodeId,
        now: UnixMillis,
        verifier: &dyn SignatureVerifier,
    ) -> Result<(), CertificateError> {
        if self.node != *own {
            return Err(CertificateError::WrongNode {
                certified: self.node,
                own: *own,
            });
        }
        let operator = self.certificate.operator;
        let sealed = verifier.verify(
            &operator,
            SignatureContext::OperatorEnd,
            &sealed_bytes(&self.node, self.expires),
            &self.seal,
        );
        if !sealed || !self.certificate.verify(&self.node, verifier) {
            return Err(CertificateError::Forged { operator });
        }
        if self.expires <= now {
            return Err(CertificateError::Expired {
                expired: self.expires,
            });
        }
        Ok(())
    }
}

fn sealed_bytes(node: &NodeId, expires: UnixMillis) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&node.0);
    bytes[32..].copy_from_slice(&expires.0.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Ed25519Verifier;

    const NODE: NodeId = NodeId([1; 32]);
    const END: UnixMillis = UnixMillis(1_000);

    fn operator() -> Identity {
        Identity::from_seed([7; 32]).unwrap()
    }

    fn check(certificate: &DatedCertificate, now: u64) -> Result<(), CertificateError> {
        certificate.check(&NODE, UnixMillis(now), &Ed25519Verifier)
    }

    #[test]
    fn certificate_holds_for_its_node_until_its_end() {
        let certificate = DatedCertificate::sign(NODE, END, &operator());
        assert_eq!(check(&certificate, 999), Ok(()));
        assert_eq!(
            check(&certificate, 1_000),
            Err(CertificateError::Expired { expired: END })
        );
        let others = DatedCertificate::sign(NodeId([2; 32]), END, &operator());
        assert!(matches!(
            check(&others, 0),
            Err(CertificateError::WrongNode { own: NODE, .. })
        ));
    }

    #[test]
    fn nobody_can_move_the_end_or_the_node_or_sign_for_another_operator() {
        let honest = DatedCertificate::sign(NODE, END, &operator());
        let mut longer = honest;
        longer.expires = UnixMillis(u64::MAX);
        let mut taken = DatedCertificate::sign(NodeId([2; 32]), END, &operator());
        taken.node = NODE;
        let mut claimed = DatedCertificate::sign(NODE, END, &Identity::from_seed([8; 32]).unwrap());
        claimed.certificate.operator = operator().node_id();
        let mut unsigned = honest;
        unsigned.certificate.signature = Signature([0; 64]);
        for forged in [longer, taken, claimed, unsigned] {
            let operator = operator().node_id();
            assert_eq!(check(&forged, 0), Err(CertificateError::Forged { operator }));
        }
    }
}
