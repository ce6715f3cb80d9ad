//! The words of paying the treasury its part.
//!
//! A destination collects the treasury's part with its own share and owes it. That it passes it on is its own will: nobody
//! can make it, and no session waits for it. Whither it goes is the hands' business: they turn a Lightning address into an
//! invoice, or name an offer.

use serde::{Deserialize, Serialize};

use crate::time::UnixMillis;
use crate::verifier::InvoiceFacts;

/// How a node pays its treasury.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreasuryPolicy {
    /// From what is owed on it is paid without being told, in msat; 0 never.
    pub threshold_msat: u64,
    /// The most that Lightning fees may cost per payment, in msat.
    pub max_fee_msat: u64,
}

/// What is to be paid, as the hands found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreasuryBill {
    /// A BOLT11 invoice, and what it says.
    Invoice {
        /// The invoice.
        invoice: String,
        /// What was read in it.
        facts: InvoiceFacts,
    },
    /// A BOLT12 offer.
    Offer(String),
}

/// Where the money of a payment goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreasuryPayee {
    /// A BOLT11 invoice.
    Invoice(String),
    /// A BOLT12 offer.
    Offer(String),
}

/// A payment to the treasury whose outcome is not known. Written down before the wallet is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreasuryPayment {
    /// Names it in the wallet: the payment hash of the invoice, or what makes paying the offer again pay nothing again.
    pub reference: [u8; 32],
    /// Where it goes.
    pub payee: TreasuryPayee,
    /// How much, in msat.
    pub amount_msat: u64,
    /// The most that it may cost on the way, in msat.
    pub max_fee_msat: u64,
    /// When it was begun.
    pub begun: UnixMillis,
}

/// How the node stands with its treasury.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreasuryState {
    /// What is owed, in msat, with what is under way.
    pub owed_msat: u64,
    /// How it is paid; none when no treasury is configured.
    pub policy: Option<TreasuryPolicy>,
    /// Whether an invoice is being asked for.
    pub asking: bool,
    /// The payment whose outcome is not known: its amount in msat, and when it was begun.
    pub under_way: Option<(u64, UnixMillis)>,
}
