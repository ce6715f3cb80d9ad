//! What a node says of itself to everybody, signed.
//!
//! An announcement is a small signed *head* and a larger *body* that the head names by its digest. The head's number, the
//! [seqno](Head::seqno), is what routing rests on: only the origin's signature makes a higher one, so nobody else can
//! make routes to it look fresher than they are. The body (prices, addresses, neighbours) feeds the graph from which
//! candidate paths are taken; it never decides whether a route is free of loops.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::certificate::Price;
use crate::drop_reason::DropReason;
use crate::identity::{Identity, NodeId, Signature, SignatureContext, SignatureVerifier};
use crate::limits::{
    ANNOUNCEMENT_LIFETIME, CLOCK_SKEW, MAX_ADDRESS_BYTES, MAX_ANNOUNCED_ADDRESSES, MAX_LISTED_NEIGHBOURS,
};
use crate::message::read_exactly;
use crate::time::UnixMillis;

/// The signed part of an announcement: 32 + 64 + 32 bytes and two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose it is.
    pub origin: NodeId,
    /// Grows with every announcement of the origin, across its restarts too. A route to the origin may carry this
    /// number or an earlier one, never a later one.
    pub seqno: u64,
    /// Until when it holds: at most an hour ahead.
    pub expires: UnixMillis,
    /// BLAKE3 of the body's bytes.
    pub body_digest: [u8; 32],
    /// The origin's signature over all of this.
    pub signature: Signature,
}

impl Head {
    /// Signs a head for these body bytes.
    pub fn sign(seqno: u64, expires: UnixMillis, body: &[u8], origin: &Identity) -> Self {
        let mut head = Self {
            origin: origin.node_id(),
            seqno,
            expires,
            body_digest: *blake3::hash(body).as_bytes(),
            signature: Signature([0; 64]),
        };
        head.signature = origin.sign(SignatureContext::Announcement, &head.signed_bytes());
        head
    }

    /// Whether the origin signed it. Unchecked, a relay could raise the seqno and draw everybody's traffic to itself as a
    /// fresher way than any honest one.
    pub fn verify(&self, verifier: &dyn SignatureVerifier) -> bool {
        let message = self.signed_bytes();
        verifier.verify(
            &self.origin,
            SignatureContext::Announcement,
            &message,
            &self.signature,
        )
    }

    /// Whether it may be taken up now: neither past nor further ahead than an honest clock can sign.
    pub fn check_expiry(&self, now: UnixMillis) -> Result<(), DropReason> {
        let past = self.expires + CLOCK_SKEW < now;
        if past || self.expires > now + ANNOUNCEMENT_LIFETIME + CLOCK_SKEW {
            Err(DropReason::Expired)
        } else {
            Ok(())
        }
    }

    fn signed_bytes(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        bytes[..32].copy_from_slice(&self.origin.0);
        bytes[32..40].copy_from_slice(&self.seqno.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.expires.0.to_be_bytes());
        bytes[48..].copy_from_slice(&self.body_digest);
        bytes
    }
}

/// A neighbour that an announcement lists, and what the link to it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListedNeighbour {
    /// The neighbour.
    pub node: NodeId,
    /// The announcer's cost of the link to it, in the cost plane's units, at least 1.
    pub cost: u16,
}

/// An operator's word that a node is his. Claims only ever merge nodes into one entity, so a node gains nothing by
/// showing one it does not deserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorCertificate {
    /// The operator's Ed25519 key.
    pub operator: NodeId,
    /// His signature over the node's id.
    pub signature: Signature,
}

impl OperatorCertificate {
    /// Signs for a node.
    pub fn sign(node: &NodeId, operator: &Identity) -> Self {
        Self {
            operator: operator.node_id(),
            signature: operator.sign(SignatureContext::Operator, &node.0),
        }
    }

    /// Whether the operator signed for this node.
    pub fn verify(&self, node: &NodeId, verifier: &dyn SignatureVerifier) -> bool {
        verifier.verify(
            &self.operator,
            SignatureContext::Operator,
            &node.0,
            &self.signature,
        )
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// What it charges.
    pub price: Price,
    /// Who operates it, if it says so.
    pub operator: Option<OperatorCertificate>,
    /// Where it can be dialled, as text (`host:port`).
    pub addresses: Vec<String>,
    /// Its live neighbours: at most [`MAX_LISTED_NEIGHBOURS`] of them, each once.
    pub neighbours: Vec<ListedNeighbour>,
}

impl Body {
    /// Its bytes.
    pub fn encode(&self) -> Result<Bytes, DropReason> {
        postcard::to_stdvec(self)
            .map(Bytes::from)
            .map_err(|_| DropReason::Malformed)
    }

    /// Reads a body and checks everything that needs no signature.
    pub fn decode(bytes: &[u8], origin: &NodeId) -> Result<Self, DropReason> {
        let body: Self = read_exactly(bytes)?;
        let addresses_fit = body.addresses.len() <= MAX_ANNOUNCED_ADDRESSES
            && body
                .addresses
                .iter()
                .all(|address| (1..=MAX_ADDRESS_BYTES).contains(&address.len()));
        let sorted = body
            .neighbours
            .windows(2)
            .all(|pair| matches!(pair, [first, second] if first.node < second.node));
        let listed_fit = body.neighbours.len() <= MAX_LISTED_NEIGHBOURS
            && body
                .neighbours
                .iter()
                .all(|listed| listed.cost > 0 && listed.node != *origin);
        if addresses_fit && sorted && listed_fit {
            Ok(body)
        } else {
            Err(DropReason::Malformed)
        }
    }
}

/// An announcement as it travels: the body is left out for a neighbour that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The signed part.
    pub head: Head,
    /// The bytes of the [`Body`].
    pub body: Option<Bytes>,
}

impl Announcement {
    /// Checks everything that does not depend on what is known already.
    pub fn check(&self, verifier: &dyn SignatureVerifier) -> Result<(), DropReason> {
        if let Some(bytes) = &self.body {
            if *blake3::hash(bytes).as_bytes() != self.head.body_digest {
                return Err(DropReason::Malformed);
            }
            let body = Body::decode(bytes, &self.head.origin)?;
            let certified = body
                .operator
                .is_none_or(|certificate| certificate.verify(&self.head.origin, verifier));
            if !certified {
                return Err(DropReason::BadSignature);
            }
        }
        if self.head.verify(verifier) {
            Ok(())
        } else {
            Err(DropReason::BadSignature)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Ed25519Verifier;
    use proptest::prelude::*;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    fn body(neighbours: &[u8]) -> Body {
        let mut neighbours: Vec<_> = neighbours
            .iter()
            .map(|byte| ListedNeighbour {
                node: identity(*byte).node_id(),
                cost: 9,
            })
            .collect();
        neighbours.sort_by_key(|listed| listed.node);
        Body {
            price: Price {
                msat_per_unit: 5,
                payable: true,
            },
            operator: Some(OperatorCertificate::sign(&identity(1).node_id(), &identity(7))),
            addresses: vec!["192.0.2.1:8334".to_owned()],
            neighbours,
        }
    }

    fn announcement(body: &Body) -> Announcement {
        let bytes = body.encode().unwrap();
        Announcement {
            head: Head::sign(3, UnixMillis(1000), &bytes, &identity(1)),
            body: Some(bytes),
        }
    }

    #[test]
    fn what_a_node_signed_is_taken_and_every_change_to_it_is_refused() {
        let honest = announcement(&body(&[2, 3]));
        assert_eq!(honest.check(&Ed25519Verifier), Ok(()));
        let mut fresher = honest.clone();
        fresher.head.seqno += 1;
        let mut longer = honest.clone();
        longer.head.expires = UnixMillis(2000);
        let mut anothers = honest.clone();
        anothers.head.origin = identity(2).node_id();
        anothers.body = None;
        for forged in [fresher, longer, anothers] {
            assert_eq!(forged.check(&Ed25519Verifier), Err(DropReason::BadSignature));
        }
        let mut swapped = honest;
        swapped.body = Some(body(&[2]).encode().unwrap());
        assert_eq!(swapped.check(&Ed25519Verifier), Err(DropReason::Malformed));
    }

    #[test]
    fn operator_who_signed_for_another_node_is_not_named() {
        let mut stolen = body(&[2]);
        stolen.operator = Some(OperatorCertificate::sign(&identity(9).node_id(), &identity(7)));
        assert_eq!(
            announcement(&stolen).check(&Ed25519Verifier),
            Err(DropReason::BadSignature)
        );
    }

    #[test]
    fn body_that_lists_itself_or_somebody_twice_or_too_many_is_malformed() {
        let me = identity(1).node_id();
        let twice = {
            let mut twice = body(&[2]);
            twice.neighbours.push(twice.neighbours[0]);
            twice
        };
        let mut free = body(&[2]);
        free.neighbours[0].cost = 0;
        let mut crowd = body(&[]);
        crowd.neighbours = (0..=MAX_LISTED_NEIGHBOURS as u16)
            .map(|n| {
                let mut id = [0xff; 32];
                id[..2].copy_from_slice(&n.to_be_bytes());
                ListedNeighbour {
                    node: NodeId(id),
                    cost: 1,
                }
            })
            .collect();
        for unfit in [body(&[1]), twice, free, crowd] {
            let bytes = unfit.encode().unwrap();
            assert_eq!(Body::decode(&bytes, &me), Err(DropReason::Malformed));
        }
    }

    #[test]
    fn head_is_taken_from_now_to_an_hour_ahead() {
        let now = UnixMillis(10_000_000);
        let expiring = |expires| Head::sign(1, expires, b"", &identity(1)).check_expiry(now);
        let (past, far) = (
            UnixMillis(now.0 - 61_000),
            now + ANNOUNCEMENT_LIFETIME + CLOCK_SKEW,
        );
        assert_eq!(expiring(now), Ok(()));
        assert_eq!(expiring(far), Ok(()));
        assert_eq!(expiring(past), Err(DropReason::Expired));
        assert_eq!(expiring(UnixMillis(far.0 + 1)), Err(DropReason::Expired));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Body::decode(&bytes, &NodeId([1; 32]));
        }
    }
}
