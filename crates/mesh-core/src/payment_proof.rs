//! What a payer shows to be credited. The order of the kinds is part of the protocol and is never feature-gated.

use serde::{Deserialize, Serialize};

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
        /// Payee and proof; no proof in it is itself a split.
        proofs: Vec<(NodeId, PaymentProof)>,
    },
    /// Credit of an open session.
    Session {
        /// The session.
        session_id: SessionId,
    },
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
