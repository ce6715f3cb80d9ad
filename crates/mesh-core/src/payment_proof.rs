//! What a payer shows to be credited. The order of the kinds is part of the protocol and is never feature-gated.

use serde::{Deserialize, Deserializer, Serialize};

use crate::identity::NodeId;
use crate::keys::SessionId;

/// A proof of payment, as it travels in a hop's sealed box and as modules hand it in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentProof {
    /// A paid BOLT11 invoice and its preimage. Convinces only the payee whose wallet settled it.
    Lightning {
        /// The invoice as it was quoted.
        invoice: String,
        /// What paying it revealed.
        preimage: [u8; 32],
        /// The amount paid, in msat.
        amount_msats: u64,
        /// When it was paid, in unix seconds.
        timestamp: u64,
        /// Until when it can be shown, in unix seconds.
        expires_at: u64,
    },
    /// A confirmed on-chain payment.
    OnChainSettlement {
        /// Which quote it pays.
        payment_request_id: String,
        /// The transaction, in internal byte order.
        tx_hash: [u8; 32],
        /// The amount paid, in sats.
        amount_sats: u64,
        /// When it was paid, in unix seconds.
        timestamp: u64,
    },
    /// An output locked to a covenant (CTV, BIP-119).
    InstantSettlement {
        /// The covenant's template.
        covenant_proof: Vec<u8>,
        /// The output that funds it.
        output_index: u32,
        /// Where the funding transaction stands in its block.
        merkle_proof: Vec<[u8; 32]>,
        /// The amount, in sats.
        amount_sats: u64,
        /// When it was made, in unix seconds.
        timestamp: u64,
    },
    /// One proof for each of several payees.
    Split {
        /// Payee and proof; no proof in it is itself a split, and a split inside a split is not even read.
        #[serde(deserialize_with = "read_single_proofs")]
        proofs: Vec<(NodeId, PaymentProof)>,
    },
    /// Credit of an open session.
    Session {
        /// The session.
        session_id: SessionId,
    },
}

/// The proofs of a split. They are read as a type that cannot nest: 32 KiB hold 900 splits inside one another, and
/// reading those by recursion would overflow the stack and so end the process, for the price of one free quote.
fn read_single_proofs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(NodeId, PaymentProof)>, D::Error> {
    let proofs = Vec::<(NodeId, SingleProof)>::deserialize(deserializer)?;
    Ok(proofs
        .into_iter()
        .map(|(payee, proof)| (payee, proof.into()))
        .collect())
}

/// [`PaymentProof`] without splits: the same kinds in the same order.
#[derive(Deserialize)]
enum SingleProof {
    Lightning {
        invoice: String,
        preimage: [u8; 32],
        amount_msats: u64,
        timestamp: u64,
        expires_at: u64,
    },
    OnChainSettlement {
        payment_request_id: String,
        tx_hash: [u8; 32],
        amount_sats: u64,
        timestamp: u64,
    },
    InstantSettlement {
        covenant_proof: Vec<u8>,
        output_index: u32,
        merkle_proof: Vec<[u8; 32]>,
        amount_sats: u64,
        timestamp: u64,
    },
    Split(NoSplit),
    Session {
        session_id: SessionId,
    },
}

/// A value that is never read: it keeps the place of splits among the kinds.
enum NoSplit {}

impl<'de> Deserialize<'de> for NoSplit {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(
            "a split inside a split; give every payee its own proof in one split",
        ))
    }
}

impl From<SingleProof> for PaymentProof {
    fn from(proof: SingleProof) -> Self {
        match proof {
            SingleProof::Lightning {
                invoice,
                preimage,
                amount_msats,
                timestamp,
                expires_at,
            } => Self::Lightning {
                invoice,
                preimage,
                amount_msats,
                timestamp,
                expires_at,
            },
            SingleProof::OnChainSettlement {
                payment_request_id,
                tx_hash,
                amount_sats,
                timestamp,
            } => Self::OnChainSettlement {
                payment_request_id,
                tx_hash,
                amount_sats,
                timestamp,
            },
            SingleProof::InstantSettlement {
                covenant_proof,
                output_index,
                merkle_proof,
                amount_sats,
                timestamp,
            } => Self::InstantSettlement {
                covenant_proof,
                output_index,
                merkle_proof,
                amount_sats,
                timestamp,
            },
            SingleProof::Split(never) => match never {},
            SingleProof::Session { session_id } => Self::Session { session_id },
        }
    }
}

impl std::fmt::Debug for PaymentProof {
    /// Preimages are money until redeemed and never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lightning { amount_msats, .. } => write!(f, "Lightning({amount_msats} msat)"),
            Self::OnChainSettlement { amount_sats, .. } => write!(f, "OnChainSettlement({amount_sats} sat)"),
            Self::InstantSettlement { amount_sats, .. } => write!(f, "InstantSettlement({amount_sats} sat)"),
            Self::Split { proofs } => write!(f, "Split({} payees)", proofs.len()),
            Self::Session { session_id } => write!(f, "Session({session_id})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `depth` splits, one inside the other, around a session proof, as postcard has them: 34 bytes each.
    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            bytes.extend([3, 1]);
            bytes.extend([9; 32]);
        }
        bytes.push(4);
        bytes.extend([7; 16]);
        bytes
    }

    #[test]
    fn splits_inside_splits_are_refused_before_they_fill_the_stack() {
        let decode = |depth| postcard::from_bytes::<PaymentProof>(&nested(depth));
        assert!(matches!(decode(0), Ok(PaymentProof::Session { .. })));
        assert!(matches!(decode(1), Ok(PaymentProof::Split { proofs }) if proofs.len() == 1));
        assert!(decode(2).is_err());
        assert!(decode(900).is_err(), "as many as an open has room for");
    }

    #[test]
    fn every_other_kind_inside_a_split_comes_back_as_it_was() {
        let kinds = vec![
            PaymentProof::Lightning {
                invoice: "lnbcrt1".into(),
                preimage: [1; 32],
                amount_msats: 2,
                timestamp: 3,
                expires_at: 4,
            },
            PaymentProof::OnChainSettlement {
                payment_request_id: "q".into(),
                tx_hash: [5; 32],
                amount_sats: 6,
                timestamp: 7,
            },
            PaymentProof::InstantSettlement {
                covenant_proof: vec![8],
                output_index: 9,
                merkle_proof: vec![[10; 32]],
                amount_sats: 11,
                timestamp: 12,
            },
            PaymentProof::Session {
                session_id: SessionId([13; 16]),
            },
        ];
        let split = PaymentProof::Split {
            proofs: kinds.into_iter().map(|kind| (NodeId([14; 32]), kind)).collect(),
        };
        let bytes = postcard::to_stdvec(&split).unwrap();
        assert_eq!(postcard::from_bytes::<PaymentProof>(&bytes).unwrap(), split);
    }
}
