//! Payments on the chain: what a payee asks its chain source, what it hears, and which of it is money.
//!
//! A payee that is paid on the chain quotes a script that it never gave to anybody before. What it honours is an output
//! to that script, once, keyed by the account that the quote was made for. It believes nothing that the payer says but
//! the transaction's name: whether that is in the best chain, how deep, and what it pays is its own chain source's word.
//!
//! **How deep is deep enough.** A reorganisation of k blocks takes back everything that was paid in the last k blocks at
//! once. So an output counts as deep enough when what one reorganisation would take with it (the output, and all
//! outputs honoured in the same block or later) is within the cap of its depth ([`ChainPolicy::depth_for`]). A thief who
//! cuts a large payment into many small ones gains nothing.
//!
//! **Spent, but by us.** The quoted script is one of the payee's own wallet, so nobody else can spend an output to it. An
//! output that the wallet spent meanwhile is still money received. What *funds* a payment can be spent by its payer in
//! another transaction: then the payment is not in the best chain and never will be ([`Standing::Replaced`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::limits::{
    CHAIN_PAY_BY, CHAIN_REDEEM_AFTER_PAY_BY, FINAL_DEPTH, MIN_CHAIN_SHARE_MSAT, MIN_SHARE_MSAT, PAY_BY,
    REDEEM_AFTER_PAY_BY,
};
use crate::payment_proof::PaymentProof;
use crate::time::UnixMillis;

/// Longest script that is quoted, in bytes: the largest witness program (BIP-141). Nothing else is a wallet's today.
pub const MAX_SCRIPT_BYTES: usize = 42;

/// Millisatoshi in a satoshi: the chain knows nothing smaller.
pub const MSAT_PER_SAT: u64 = 1000;

/// How a payer wants to pay the payees of a route; the order is part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum PaymentMethod {
    /// A BOLT11 invoice from each payee.
    #[default]
    Lightning,
    /// An output to a fresh script of each payee.
    OnChain,
    /// One output bound by a covenant (BIP-119) to be split among fresh scripts of all payees.
    Ctv,
}

impl PaymentMethod {
    /// The name used in configuration, logs and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lightning => "lightning",
            Self::OnChain => "onchain",
            Self::Ctv => "ctv",
        }
    }

    /// Whether payees quote scripts instead of invoices.
    pub fn is_on_chain(self) -> bool {
        self != Self::Lightning
    }

    /// The least share that this way of paying can carry, in msat.
    pub fn min_share_msat(self) -> u64 {
        if self.is_on_chain() {
            MIN_CHAIN_SHARE_MSAT
        } else {
            MIN_SHARE_MSAT
        }
    }

    /// Until when what is quoted now may be paid, and until when it is redeemed.
    pub fn deadlines(self, now: UnixMillis) -> (UnixMillis, UnixMillis) {
        let (pay, redeem) = if self.is_on_chain() {
            (CHAIN_PAY_BY, CHAIN_REDEEM_AFTER_PAY_BY)
        } else {
            (PAY_BY, REDEEM_AFTER_PAY_BY)
        };
        (now + pay, now + pay + redeem)
    }
}

impl std::str::FromStr for PaymentMethod {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Lightning, Self::OnChain, Self::Ctv]
            .into_iter()
            .find(|method| method.as_str() == text)
            .ok_or(UnknownMethod)
    }
}

/// A name that no way of paying has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no way of paying has that name; it is \"lightning\", \"onchain\" or \"ctv\"")]
pub struct UnknownMethod;

/// Names one payee's request to be paid by an output; both sides compute it from the signed quote, and a payer shows it
/// with its payment. It commits to the account key (by `description_hash`, see [`crate::verifier::Commitment`]) and to
/// the script.
pub type BillId = [u8; 32];

/// SHA256(tag ‖ commitment to the quote's terms ‖ script).
pub fn bill_id(description_hash: &[u8; 32], script: &[u8]) -> BillId {
    let mut hasher = Sha256::new();
    hasher.update(b"blvm-mesh/1 output\0");
    hasher.update(description_hash);
    hasher.update(script);
    hasher.finalize().into()
}

/// The bill that an on-chain proof says it pays; none for other kinds, and when it names none. In a covenant's proof it
/// stands in front, so that it can be read by a node that does not accept covenants.
pub fn bill_of(proof: &PaymentProof) -> Option<BillId> {
    match proof {
        PaymentProof::OnChainSettlement {
            payment_request_id, ..
        } => {
            let mut id = [0; 32];
            hex::decode_to_slice(payment_request_id, &mut id).ok()?;
            Some(id)
        }
        PaymentProof::InstantSettlement { covenant_proof, .. } => covenant_proof.first_chunk::<32>().copied(),
        _ => None,
    }
}

/// Where the payee wants the output, as its signed quote says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotedOutput {
    /// The scriptPubKey: fresh, and the payee's own.
    pub script: Vec<u8>,
    /// Blocks that must have confirmed the output before it is honoured, at the least: more when others pay at the
    /// same time.
    pub depth: u32,
}

/// An output of a transaction, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutPoint {
    /// The transaction, in internal byte order.
    pub txid: [u8; 32],
    /// Its place among the outputs.
    pub vout: u32,
}

impl OutPoint {
    /// What it is remembered as once it was honoured: hashed, because payers choose transactions.
    pub fn key(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"blvm-mesh/1 outpoint\0");
        hasher.update(self.txid);
        hasher.update(self.vout.to_le_bytes());
        hasher.finalize().into()
    }
}

impl std::fmt::Display for OutPoint {
    /// As block explorers show it: the transaction's bytes reversed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = self.txid;
        shown.reverse();
        write!(f, "{}:{}", hex::encode(shown), self.vout)
    }
}

/// An output of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxOutput {
    /// Its scriptPubKey.
    pub script: Vec<u8>,
    /// What it holds, in sats.
    pub sats: u64,
}

/// A place in the best chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The block.
    pub block: [u8; 32],
    /// Its height.
    pub height: u32,
    /// Blocks from it to the tip, itself counted: at least 1.
    pub depth: u32,
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody here knows it, or it waits to be mined.
    Unconfirmed,
    /// Another transaction that spends the same money is in the best chain.
    Replaced,
    /// In the best chain.
    Confirmed(Place),
}

/// A transaction that pays this node, as its chain source knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentFacts {
    /// Where it stands.
    pub standing: Standing,
    /// Its outputs in order; empty when it is not known.
    pub outputs: Vec<TxOutput>,
}

/// What became of the output that funds a covenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FundingFacts {
    /// In the best chain and not spent there.
    Unspent(TxOutput, Place),
    /// Known, and not yet in the best chain.
    Unconfirmed,
    /// Spent, or never seen.
    Gone,
}

/// A covenant as the chain source knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CovenantFacts {
    /// The output that funds it.
    pub funding: FundingFacts,
    /// Where the transaction stands that the covenant allows.
    pub settling: Standing,
    /// What transactions must pay at the least to be mined, in sats per 1,000 virtual bytes.
    pub fee_floor: u64,
}

/// A question to the chain source; the hands answer each exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainQuestion {
    /// A script of this node's wallet that was never given to anybody.
    FreshScript,
    /// A transaction that is said to pay this node.
    Payment {
        /// Its name, in internal byte order.
        txid: [u8; 32],
    },
    /// A covenant and the one transaction that it allows.
    Covenant {
        /// The output that funds it.
        funding: OutPoint,
        /// The transaction that it allows.
        settling: [u8; 32],
    },
    /// How deep these blocks are in the best chain.
    Blocks {
        /// The blocks: at most [`crate::limits::MAX_BLOCKS_ASKED`].
        blocks: Vec<[u8; 32]>,
    },
    /// Hand a transaction to the network.
    Broadcast {
        /// The transaction, as it travels.
        transaction: Vec<u8>,
    },
}

/// What the chain source says. [`DropReason::ChainUnavailable`] when it does not.
#[derive(Debug, Clone)]
pub enum ChainAnswer {
    /// The script.
    Script(Result<Vec<u8>, DropReason>),
    /// The transaction.
    Payment(Result<PaymentFacts, DropReason>),
    /// The covenant.
    Covenant(Result<CovenantFacts, DropReason>),
    /// The height of the tip, and for each block its depth, none when it is not in the best chain.
    Blocks(Result<(u32, Vec<Option<u32>>), DropReason>),
    /// Whether the network took it, or has it already.
    Broadcast(Result<(), DropReason>),
}

/// How much may rest on a depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthStep {
    /// Up to this many sats…
    pub up_to_sats: u64,
    /// …this many blocks are enough.
    pub blocks: u32,
}

/// What a payee asks of payments on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPolicy {
    /// Caps per depth, both rising. What is above the last is not quoted.
    pub steps: Vec<DepthStep>,
    /// From which height on the chain enforces BIP-119; none when it does not, as on every public chain today. Said too
    /// early, anybody takes the money that covenants hold.
    pub ctv_enforced_from: Option<u32>,
    /// How often honoured outputs are looked after.
    pub watch_every: Duration,
}

impl ChainPolicy {
    /// How deep an amount must be; none when it is more than this payee takes on the chain.
    pub fn depth_for(&self, sats: u64) -> Option<u32> {
        let step = self.steps.iter().find(|step| sats <= step.up_to_sats);
        step.map(|step| step.blocks)
    }

    /// How deep a payment must be when a reorganisation that took it would take `sats` in all. What is above the last
    /// cap must be final.
    pub fn depth_at_stake(&self, sats: u64) -> u32 {
        self.depth_for(sats).unwrap_or(FINAL_DEPTH)
    }

    /// Whether the chain enforces BIP-119 at this height.
    pub fn enforces_ctv(&self, height: u32) -> bool {
        self.ctv_enforced_from.is_some_and(|from| height >= from)
    }
}

/// A payee's quote to be paid by an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputQuote {
    /// Its name.
    pub bill: BillId,
    /// The script, in no other quote.
    pub script: Vec<u8>,
    /// The account key that the quote was made for.
    pub account: [u8; 32],
    /// The payer's credit when it is paid, in msat.
    pub credit_msat: u64,
    /// The treasury's part, in msat.
    pub treasury_msat: u64,
    /// Until when it is redeemed.
    pub redeem_by: UnixMillis,
    /// The neighbour that it was asked over.
    pub previous: NodeId,
    /// What a covenant that pays it must pay to all payees that are bought from, in route order, in sats; empty where no
    /// covenant was asked for.
    pub split: Vec<u64>,
    /// This node's place in that list.
    pub place: u8,
}

impl OutputQuote {
    /// What is to be paid, in sats.
    pub fn sats(&self) -> u64 {
        self.credit_msat.saturating_add(self.treasury_msat) / MSAT_PER_SAT
    }
}

/// What was found to be money, before it is booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The output that is honoured and remembered for ever.
    pub outpoint: OutPoint,
    /// What it pays this node, in sats.
    pub sats: u64,
    /// Where it stands.
    pub place: Place,
    /// How it is looked after.
    pub watched_as: WatchedAs,
}

/// How an honoured output is looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchedAs {
    /// A transaction pays this node.
    Paid {
        /// The transaction.
        txid: [u8; 32],
    },
    /// A covenant will: its one transaction is not yet in the best chain.
    Bound {
        /// That transaction's name.
        settling: [u8; 32],
        /// The transaction itself; whoever has it can settle.
        transaction: Vec<u8>,
    },
}

/// Which output of a transaction pays a quote: of those to the quoted script the largest, of equal ones the first.
pub fn judge_payment(quote: &OutputQuote, txid: [u8; 32], facts: &PaymentFacts) -> Result<Found, DropReason> {
    let place = match facts.standing {
        Standing::Unconfirmed => return Err(DropReason::Unconfirmed),
        Standing::Replaced => return Err(DropReason::FundingSpent),
        Standing::Confirmed(place) => place,
    };
    let mut best: Option<(u32, u64)> = None;
    for (vout, output) in (0u32..).zip(&facts.outputs) {
        if output.script == quote.script && best.is_none_or(|(_, sats)| output.sats > sats) {
            best = Some((vout, output.sats));
        }
    }
    let (vout, sats) = best.ok_or(DropReason::OutputMismatch)?;
    if sats < quote.sats() {
        return Err(DropReason::Underpaid);
    }
    Ok(Found {
        outpoint: OutPoint { txid, vout },
        sats,
        place,
        watched_as: WatchedAs::Paid { txid },
    })
}

#[cfg(test)]
mod tests;
