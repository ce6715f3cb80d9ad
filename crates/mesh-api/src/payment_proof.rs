//! How a caller shows that a packet is paid for.
//!
//! A proof convinces only the party that was paid: a preimage known to many is no money by itself, so each payee honours
//! nothing but proofs of payments to its own wallet, each once. What is checked is written at the verifier; here is only
//! what travels.

use serde::de::{self, Deserializer};
use serde::ser::{self, Serializer};
use serde::{Deserialize, Serialize};

use crate::bounded::{AtMost, Item};
use crate::codec::{size, wire};
use crate::limits::{
    MAX_COVENANT_PROOF_BYTES, MAX_INVOICE_BYTES, MAX_MERKLE_STEPS, MAX_PAYEES, MAX_PAYMENT_REQUEST_ID_BYTES,
};
use crate::types::{NodeId, SessionId};

/// Evidence of payment. The order of the variants is part of the layout; none depends on a build feature, so that every
/// two programs agree on what variant 3 means.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentProof {
    /// 0: a BOLT11 invoice and the preimage that paying it revealed. Counts for the payee that issued the invoice, and
    /// for nobody else on the route.
    Lightning {
        /// The invoice as text, at most 7,089 bytes.
        #[serde(with = "AtMost::<MAX_INVOICE_BYTES>")]
        invoice: String,
        /// Its SHA-256 is the invoice's payment hash.
        preimage: [u8; 32],
        /// What was paid, in msat.
        amount_msats: u64,
        /// When it was paid, in unix seconds.
        timestamp: u64,
        /// Until when the proof may be shown, in unix seconds.
        expires_at: u64,
    },
    /// 1: a confirmed transaction that pays a script the payee quoted.
    OnChainSettlement {
        /// The payee's name for what it asked for, at most 128 bytes.
        #[serde(with = "AtMost::<MAX_PAYMENT_REQUEST_ID_BYTES>")]
        payment_request_id: String,
        /// The transaction's id in internal byte order.
        tx_hash: [u8; 32],
        /// What it pays the payee, in satoshis.
        amount_sats: u64,
        /// When it was sent, in unix seconds.
        timestamp: u64,
    },
    /// 2: an output bound by a covenant (BIP-119) to be spent to the payees and to nobody else.
    InstantSettlement {
        /// The covenant's template with its outputs, at most 16 KiB.
        #[serde(with = "AtMost::<MAX_COVENANT_PROOF_BYTES>")]
        covenant_proof: Vec<u8>,
        /// Which output of the funding transaction is bound.
        output_index: u32,
        /// The path from the funding transaction to its block's Merkle root, leaf side first, at most 32 steps.
        #[serde(with = "AtMost::<MAX_MERKLE_STEPS>")]
        merkle_proof: Vec<[u8; 32]>,
        /// What the output holds, in satoshis.
        amount_sats: u64,
        /// When it was made, in unix seconds.
        timestamp: u64,
    },
    /// 3: one proof for each payee, at most 10. A split inside a split is refused while it is being read: each level
    /// would cost a hostile caller 44 bytes and the reader a frame of its stack.
    Split {
        /// Who is paid with what.
        #[serde(with = "AtMost::<MAX_PAYEES>")]
        proofs: Vec<PayeeProof>,
    },
    /// 4: nothing new; the packet draws on a session that was opened, and paid for, before.
    Session {
        /// The session, as `open_session` answered.
        session_id: SessionId,
    },
}

impl std::fmt::Debug for PaymentProof {
    /// A preimage is money until it is redeemed: whoever logs a request must not give it away.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lightning { amount_msats, .. } => write!(f, "Lightning({amount_msats} msat)"),
            Self::OnChainSettlement { amount_sats, .. } => write!(f, "OnChainSettlement({amount_sats} sat)"),
            Self::InstantSettlement { amount_sats, .. } => write!(f, "InstantSettlement({amount_sats} sat)"),
            Self::Split { proofs } => f.debug_tuple("Split").field(proofs).finish(),
            Self::Session { session_id } => f.debug_tuple("Session").field(session_id).finish(),
        }
    }
}

/// One payee's part of a [`PaymentProof::Split`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayeeProof {
    /// Who was paid: the node that is to honour the proof.
    pub payee: NodeId,
    /// The proof, of any kind but [`PaymentProof::Split`].
    #[serde(with = "single_proof")]
    pub proof: PaymentProof,
}

impl Item for PayeeProof {}

const LIGHTNING_BYTES: usize = size::VARIANT + size::block(MAX_INVOICE_BYTES) + size::ID32 + 3 * size::U64;
const INSTANT_BYTES: usize = size::VARIANT
    + size::block(MAX_COVENANT_PROOF_BYTES)
    + size::U32
    + size::list(MAX_MERKLE_STEPS, size::ID32)
    + 2 * size::U64;
const SINGLE_BYTES: usize = size::larger(LIGHTNING_BYTES, INSTANT_BYTES);
pub(crate) const PROOF_BYTES: usize = size::VARIANT + size::list(MAX_PAYEES, size::ID32 + SINGLE_BYTES);

wire!(PaymentProof, PROOF_BYTES);

impl PaymentProof {
    /// The single payments in this proof and, where the proof says so, whom each was made to.
    ///
    /// A proof that is not split counts for its own payee alone, the one that issued the invoice or quoted the output;
    /// `None` stands for that. [`PaymentProof::Session`] is no payment and yields nothing.
    pub fn payments(&self) -> impl Iterator<Item = (Option<NodeId>, &PaymentProof)> {
        let (lone, split): (_, &[PayeeProof]) = match self {
            PaymentProof::Split { proofs } => (None, proofs),
            PaymentProof::Session { .. } => (None, &[]),
            single => (Some((None, single)), &[]),
        };
        lone.into_iter()
            .chain(split.iter().map(|part| (Some(part.payee), &part.proof)))
    }
}

/// Reads and writes a proof that must not be a split.
mod single_proof {
    use super::*;

    const NESTED: &str = "a split payment proof may not contain another split";

    pub(super) fn serialize<S: Serializer>(proof: &PaymentProof, serializer: S) -> Result<S::Ok, S::Error> {
        match proof {
            PaymentProof::Split { .. } => Err(ser::Error::custom(NESTED)),
            single => single.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PaymentProof, D::Error> {
        Single::deserialize(deserializer)
    }

    /// The fields of [`PaymentProof`] again, with a split that fails before it reads anything. `remote` makes the
    /// compiler compare the two; the golden bytes compare the order.
    #[derive(Deserialize)]
    #[serde(remote = "PaymentProof")]
    enum Single {
        Lightning {
            #[serde(with = "AtMost::<MAX_INVOICE_BYTES>")]
            invoice: String,
            preimage: [u8; 32],
            amount_msats: u64,
            timestamp: u64,
            expires_at: u64,
        },
        OnChainSettlement {
            #[serde(with = "AtMost::<MAX_PAYMENT_REQUEST_ID_BYTES>")]
            payment_request_id: String,
            tx_hash: [u8; 32],
            amount_sats: u64,
            timestamp: u64,
        },
        InstantSettlement {
            #[serde(with = "AtMost::<MAX_COVENANT_PROOF_BYTES>")]
            covenant_proof: Vec<u8>,
            output_index: u32,
            #[serde(with = "AtMost::<MAX_MERKLE_STEPS>")]
            merkle_proof: Vec<[u8; 32]>,
            amount_sats: u64,
            timestamp: u64,
        },
        Split {
            #[serde(deserialize_with = "refuse")]
            proofs: Vec<PayeeProof>,
        },
        Session {
            session_id: SessionId,
        },
    }

    fn refuse<'de, D: Deserializer<'de>>(_: D) -> Result<Vec<PayeeProof>, D::Error> {
        Err(de::Error::custom(NESTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{CodecError, decode, encode};

    fn lightning() -> PaymentProof {
        PaymentProof::Lightning {
            invoice: "lnbcrt1".into(),
            preimage: [2; 32],
            amount_msats: 1000,
            timestamp: 1,
            expires_at: 2,
        }
    }

    fn split(parts: usize, proof: PaymentProof) -> PaymentProof {
        PaymentProof::Split {
            proofs: vec![
                PayeeProof {
                    payee: [7; 32],
                    proof
                };
                parts
            ],
        }
    }

    /// The bytes of `depth` splits of one part around a session proof, as a hostile caller would write them.
    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            bytes.extend(3u32.to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
            bytes.extend([7; 32]);
        }
        bytes.extend(4u32.to_le_bytes());
        bytes.extend([9; 16]);
        bytes
    }

    #[test]
    fn preimage_never_shows_in_debug_output() {
        let proof = PaymentProof::Lightning {
            invoice: "lnbc1".to_owned(),
            preimage: [201; 32],
            amount_msats: 7,
            timestamp: 1,
            expires_at: 2,
        };
        let split = PaymentProof::Split {
            proofs: vec![PayeeProof {
                payee: [1; 32],
                proof,
            }],
        };
        assert!(!format!("{split:?}").contains("201"));
    }

    #[test]
    fn a_split_in_a_split_is_refused_both_ways() {
        assert!(matches!(
            encode(&split(1, split(1, lightning()))),
            Err(CodecError::Unencodable { .. })
        ));
        assert_eq!(
            decode::<PaymentProof>(&nested(1)).unwrap(),
            split(1, PaymentProof::Session { session_id: [9; 16] })
        );
        let refused = decode::<PaymentProof>(&nested(2)).unwrap_err();
        assert!(
            refused.to_string().contains("may not contain another split"),
            "{refused}"
        );
    }

    #[test]
    fn thousands_of_nested_splits_do_not_exhaust_the_stack() {
        let bytes = nested(PROOF_BYTES / 44 - 1);
        assert!(bytes.len() <= PROOF_BYTES && bytes.len() > PROOF_BYTES - 200);
        assert!(matches!(
            decode::<PaymentProof>(&bytes),
            Err(CodecError::Malformed { .. })
        ));
    }

    #[test]
    fn ten_payees_can_be_paid_and_eleven_cannot() {
        assert_eq!(
            decode::<PaymentProof>(&encode(&split(10, lightning())).unwrap()).unwrap(),
            split(10, lightning())
        );
        assert!(matches!(
            encode(&split(11, lightning())),
            Err(CodecError::Unencodable { .. })
        ));
    }

    #[test]
    fn a_lone_lightning_proof_counts_for_its_own_payee() {
        let lone = lightning();
        assert_eq!(lone.payments().collect::<Vec<_>>(), [(None, &lone)]);
        let parts = split(2, lightning());
        assert_eq!(
            parts.payments().map(|(payee, _)| payee).collect::<Vec<_>>(),
            [Some([7; 32]); 2]
        );
        assert_eq!(
            PaymentProof::Session { session_id: [0; 16] }.payments().count(),
            0
        );
    }
}
