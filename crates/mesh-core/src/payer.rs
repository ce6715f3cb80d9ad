//! What a payer keeps: quotes it asked for, sessions it opened, and its money at others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chain::{BillId, bill_id};
use crate::chain_book::{Bill, Bills};
use crate::drop_reason::DropReason;
use crate::event::{CommandId, SessionState};
use crate::identity::{NodeId, Signature};
use crate::keys::{DhSecret, SessionId};
use crate::limits::{MAX_PURSES, REDEEM_AFTER_PAY_BY};
use crate::message::{PayeeTerms, Quote, QuoteRequest, RequestId};
use crate::open::{Receipt, SourceSession};
use crate::payment_proof::PaymentProof;
use crate::receipt_watch::ReceiptWatch;
use crate::routing_policy::TrafficClass;
use crate::spending::{Caller, Reservation};
use crate::time::{Instant, UnixMillis};
use crate::verifier::{Commitment, InvoiceFacts};

/// A payer's account key at a payee: a different one at each, so that payees cannot compare payers.
pub fn account_key(account_secret: &[u8; 32], payee: &NodeId) -> Result<DhSecret, DropReason> {
    DhSecret::new(*blake3::keyed_hash(account_secret, &payee.0).as_bytes())
}

/// A payment that was made and is not yet known to be redeemed. It belongs to the payee and the account key, so any
/// later session over that payee can redeem it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurchasedProof {
    /// Who was paid.
    pub payee: NodeId,
    /// The payment hash.
    pub payment_hash: [u8; 32],
    /// What to show.
    pub proof: PaymentProof,
    /// The credit it buys, in msat.
    pub credit_msat: u64,
    /// Until when it is redeemed.
    pub redeem_by: UnixMillis,
}

impl PurchasedProof {
    /// Stands for the preimage as long as the payment is under way. A payee that makes this its real preimage only
    /// cheats itself out of being shown it.
    pub const UNDER_WAY: [u8; 32] = [0; 32];

    /// Whether the payment was begun and its outcome is not known.
    pub fn is_under_way(&self) -> bool {
        matches!(&self.proof, PaymentProof::Lightning { preimage, .. } if *preimage == Self::UNDER_WAY)
    }
}

/// This node's money at one payee.
#[derive(Debug, Default)]
pub struct Purse {
    /// Credit there, in msat: never more than it is, since packets lost on the way are counted as drawn.
    pub credit_msat: u64,
    /// What of it is written down: this, and not yet that some of it was spent.
    pub durable_msat: u64,
    /// Payments not yet redeemed, by payment hash.
    pub proofs: BTreeMap<[u8; 32], PurchasedProof>,
    /// Payments redeemed since the start.
    pub redemptions: u64,
}

impl Purse {
    /// What was spent and is not written down, in msat.
    pub fn unwritten_msat(&self) -> u64 {
        self.durable_msat.saturating_sub(self.credit_msat)
    }
}

/// This node's money at all payees.
#[derive(Default)]
pub struct Purses {
    by_payee: BTreeMap<NodeId, Purse>,
}

impl Purses {
    /// The purse at a payee, made empty if there is none.
    pub fn at(&mut self, payee: &NodeId) -> Result<&mut Purse, DropReason> {
        if !self.by_payee.contains_key(payee) && self.by_payee.len() >= MAX_PURSES {
            return Err(DropReason::TableFull);
        }
        Ok(self.by_payee.entry(*payee).or_default())
    }

    /// Whether nothing needs to be bought at a payee to spend `needed_msat` there. A payment not yet redeemed always
    /// comes first, however small: bought over, it would lie there until it expired.
    pub fn covers(&self, payee: &NodeId, needed_msat: u64, now: UnixMillis) -> bool {
        let credit = self.by_payee.get(payee).map_or(0, |purse| purse.credit_msat);
        credit >= needed_msat || self.unredeemed(payee, now).is_some()
    }

    /// How often payments were redeemed at a payee: tells a refusal that speaks of older credit from one that does not.
    pub fn redemptions(&self, payee: &NodeId) -> u64 {
        self.by_payee.get(payee).map_or(0, |purse| purse.redemptions)
    }

    /// A payee says that it will never redeem this payment. It is no longer shown or counted on; the store keeps it.
    pub fn set_aside(&mut self, payee: &NodeId, payment_hash: &[u8; 32]) {
        if let Some(purse) = self.by_payee.get_mut(payee) {
            purse.proofs.remove(payment_hash);
        }
    }

    /// An unredeemed payment to a payee: the one that expires first.
    pub fn unredeemed(&self, payee: &NodeId, now: UnixMillis) -> Option<&PurchasedProof> {
        let proofs = self.by_payee.get(payee)?.proofs.values();
        proofs
            .filter(|proof| proof.redeem_by > now)
            .min_by_key(|proof| (proof.redeem_by, proof.payment_hash))
    }

    /// A payment turned out to be redeemed: its credit counts from now on. What it comes to; none if there was no such
    /// payment.
    pub fn redeemed(&mut self, payee: &NodeId, payment_hash: &[u8; 32]) -> Option<u64> {
        let purse = self.by_payee.get_mut(payee)?;
        let proof = purse.proofs.remove(payment_hash)?;
        purse.credit_msat = purse.credit_msat.saturating_add(proof.credit_msat);
        purse.durable_msat = purse.durable_msat.saturating_add(proof.credit_msat);
        purse.redemptions += 1;
        Some(proof.credit_msat)
    }

    /// A payment that is known and not yet redeemed.
    pub fn proof(&self, payee: &NodeId, payment_hash: &[u8; 32]) -> Option<&PurchasedProof> {
        self.by_payee.get(payee)?.proofs.get(payment_hash)
    }

    /// Takes out payments that can no longer be redeemed.
    pub fn expire_proofs(&mut self, now: UnixMillis) -> Vec<PurchasedProof> {
        let mut expired = Vec::new();
        for purse in self.by_payee.values_mut() {
            let over = purse.proofs.values().filter(|proof| proof.redeem_by < now);
            expired.extend(over.cloned());
            purse.proofs.retain(|_, proof| proof.redeem_by >= now);
        }
        expired
    }

    /// Credit at a payee, in msat.
    pub fn credit_msat(&self, payee: &NodeId) -> u64 {
        self.by_payee.get(payee).map_or(0, |purse| purse.credit_msat)
    }

    /// A payment was redeemed, whoever's it was.
    pub fn forget_proof(&mut self, payment_hash: &[u8; 32]) {
        for purse in self.by_payee.values_mut() {
            purse.proofs.remove(payment_hash);
        }
    }

    /// Payees at which something was spent that is not written down.
    pub fn unwritten(&self) -> Vec<NodeId> {
        let unwritten = self
            .by_payee
            .iter()
            .filter(|(_, purse)| purse.unwritten_msat() > 0);
        unwritten.map(|(payee, _)| *payee).collect()
    }

    /// Credit known at all payees, in msat.
    pub fn total_credit_msat(&self) -> u64 {
        self.by_payee
            .values()
            .fold(0, |sum, purse| sum.saturating_add(purse.credit_msat))
    }
}

/// One payee's quote, checked against what was asked.
#[derive(Debug, Clone)]
pub struct AcceptedQuote {
    /// The quote.
    pub quote: Quote,
    /// What it was checked against.
    pub terms: PayeeTerms,
    /// The payment hash of its invoice, or the name of its bill to be paid on the chain.
    pub payment_hash: Option<[u8; 32]>,
    /// Whether its payment is in the books: begun and not certainly failed, or brought by somebody on this machine.
    /// Opened again, it is neither paid nor booked again.
    pub booked: bool,
}

impl AcceptedQuote {
    /// The bill to be paid on the chain, if it is one.
    pub fn bill(&self) -> Option<Bill> {
        self.quote.output.as_ref()?;
        Some(Bill {
            id: self.payment_hash?,
            payee: self.quote.payee,
            credit_msat: self.terms.credit_msat,
            treasury_msat: self.terms.treasury_msat,
            redeem_by: self.quote.redeem_by,
            redeemed: false,
        })
    }
}

/// Quotes that this node asked for along one route.
pub struct QuoteSet {
    /// Who waits for it; none once answered.
    pub command: Option<CommandId>,
    /// What was asked.
    pub request: QuoteRequest,
    /// Its digest.
    pub digest: [u8; 32],
    /// The payer's account at each payee.
    pub accounts: Vec<DhSecret>,
    /// What came in, in route order.
    pub quotes: Vec<Option<AcceptedQuote>>,
}

impl QuoteSet {
    /// Whether every payee has quoted.
    pub fn is_complete(&self) -> bool {
        self.quotes.iter().all(Option::is_some)
    }

    /// The payees in route order.
    pub fn payees(&self) -> &[NodeId] {
        self.request.certificate.path.get(1..).unwrap_or_default()
    }

    /// Checks a signed quote against what was asked and keeps it. A payee or a relay that changed the price, the
    /// amount, the invoice or what the invoice commits to is caught here, before anything is paid.
    pub fn accept(
        &mut self,
        quote: Quote,
        invoice: Option<InvoiceFacts>,
        network: crate::verifier::BitcoinNetwork,
        now: UnixMillis,
    ) -> Result<(), DropReason> {
        let place = self
            .payees()
            .iter()
            .position(|payee| *payee == quote.payee)
            .ok_or(DropReason::QuoteMismatch)?;
        let terms = self.request.terms(place + 1)?;
        let account = self.accounts.get(place).ok_or(DropReason::QuoteMismatch)?;
        let as_asked = quote.request_digest == self.digest
            && quote.price_msat <= terms.price_msat
            && quote.amount_msat == terms.amount_msat()
            && quote.pay_by > now
            && quote.redeem_by >= quote.pay_by + REDEEM_AFTER_PAY_BY
            && quote.fits(self.request.method);
        if !as_asked {
            return Err(DropReason::QuoteMismatch);
        }
        let commitment = Commitment {
            payee: &quote.payee,
            account: &account.public(),
            amount_msat: quote.amount_msat,
            terms: &self.digest,
            pay_by: quote.pay_by,
            redeem_by: quote.redeem_by,
            nonce: &quote.nonce,
        };
        let bill: Option<BillId> = quote
            .output
            .as_ref()
            .map(|output| bill_id(&commitment.description_hash(), &output.script));
        if let Some(facts) = &invoice {
            if facts.network != network {
                return Err(DropReason::WrongNetwork);
            }
            if facts.amount_msat != Some(quote.amount_msat)
                || facts.description_hash != Some(commitment.description_hash())
            {
                return Err(DropReason::QuoteMismatch);
            }
        }
        let payment_hash = invoice.map(|facts| facts.payment_hash).or(bill);
        // A wallet pays a payment hash once. Two payees who agree on one would have the books say twice.
        let mut others = self
            .quotes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place);
        if payment_hash.is_some()
            && others.any(|(_, other)| {
                other
                    .as_ref()
                    .is_some_and(|other| other.payment_hash == payment_hash)
            })
        {
            return Err(DropReason::QuoteMismatch);
        }
        let slot = self.quotes.get_mut(place).ok_or(DropReason::QuoteMismatch)?;
        if slot.is_none() {
            *slot = Some(AcceptedQuote {
                quote,
                terms,
                payment_hash,
                booked: false,
            });
        }
        Ok(())
    }
}

/// A payee's signed refusal to quote.
#[derive(Debug, Clone, Copy)]
pub struct QuoteRefusal {
    /// Who refuses.
    pub payee: NodeId,
    /// Why.
    pub reason: DropReason,
    /// Its signature.
    pub signature: Signature,
}

/// What one purchase may cost, in msat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpendingLimits {
    /// All shares together.
    pub max_total_msat: u64,
    /// Shares and Lightning fees together.
    pub most_msat: u64,
    /// Lightning fees, for each payment.
    pub max_fee_msat: u64,
}

/// What auto-pay counts a session for: it carries no more, and no dearer packet than the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ration {
    /// Units.
    pub units: u64,
    /// What one of them costs, in msat.
    pub msat_per_unit: u64,
    /// What they are worth of credit that was there before, in msat.
    pub drawn_msat: u64,
}

/// A purchase under way: quotes are complete, payments and the open come next.
pub struct Opening {
    /// Who waits for it.
    pub command: CommandId,
    /// The quotes.
    pub quotes: RequestId,
    /// Whether to sign as source.
    pub sign_as_source: bool,
    /// The proof for each payee, in route order.
    pub proofs: Vec<Option<PaymentProof>>,
    /// What this node's wallet may pay; none when it pays nothing.
    pub limits: Option<SpendingLimits>,
    /// Whether the session is to be kept funded.
    pub keep_funded: bool,
    /// When the whole purchase is to be over.
    pub ends: Instant,
    /// Probes or payments the wallet has not answered yet.
    pub unanswered: usize,
    /// What was paid: payee, amount and Lightning fee, in msat.
    pub paid: Vec<(NodeId, u64, u64)>,
    /// The first probe or payment that failed.
    pub failure: Option<(NodeId, DropReason)>,
    /// What auto-pay set aside for it.
    pub set_aside: Option<Reservation>,
    /// What payments of unknown outcome may have cost, with the most that their Lightning fees may be, in msat.
    pub uncertain_msat: u64,
    /// What auto-pay counts it for; none when it does not.
    pub ration: Option<Ration>,
    /// For whom auto-pay keeps the session funded; none when it does not.
    pub caller: Option<Caller>,
}

/// A session whose next slice is bought before the present one runs out.
#[derive(Debug, Clone, Copy)]
pub struct KeptFunded {
    /// What each purchase may cost.
    pub limits: SpendingLimits,
    /// What is carried.
    pub class: TrafficClass,
    /// Whether to sign as source.
    pub sign_as_source: bool,
    /// Units of the present slice.
    pub units: u64,
    /// Units of the slice that is being bought.
    pub next_units: u64,
    /// What a unit of it costs in all, in msat, rounded up.
    pub next_msat_per_unit: u64,
    /// How far the next purchase is.
    pub top_up: TopUp,
    /// How long to wait after the next failure.
    pub pause: std::time::Duration,
}

/// How far the purchase of the next slice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopUp {
    /// None is under way.
    None,
    /// One is.
    UnderWay {
        /// Whether the route had to be looked for.
        searched: bool,
    },
    /// One failed; the next is tried from this moment on.
    NotBefore(Instant),
}

/// A session of this node's own.
pub struct OwnSession {
    /// The keys.
    pub source: SourceSession,
    /// Its id.
    pub id: SessionId,
    /// The id that whoever opened it knows it by: its own, or that of the session it continues.
    pub name: SessionId,
    /// All nodes, this one first.
    pub path: Vec<NodeId>,
    /// What each payee draws per unit, in msat.
    pub prices_msat: Vec<u64>,
    /// Who runs each payee.
    pub sellers: Vec<NodeId>,
    /// The payment shown to each payee in the open.
    pub shown: Vec<Option<[u8; 32]>>,
    /// [`Purses::redemptions`] at each payee when the session began.
    pub redemptions: Vec<u64>,
    /// When it ends.
    pub expires: UnixMillis,
    /// While the ack is awaited: who waits, and the open to repeat.
    pub opening: Option<(CommandId, bytes::Bytes)>,
    /// What was paid for it.
    pub paid: Vec<(NodeId, u64, u64)>,
    /// What auto-pay counted it for; none when it did not.
    pub ration: Option<Ration>,
    /// For whom auto-pay buys its next slice; none when the limits in [`KeptFunded`] are somebody's own decision.
    pub caller: Option<Caller>,
    /// Whether and how it is kept funded.
    pub kept: Option<KeptFunded>,
    /// Packets sent.
    pub packets: u64,
    /// Units of them.
    pub units: u64,
    /// When the last of them was sent, or the open.
    pub last_packet: Instant,
    /// It takes no more packets and waits for the last receipt.
    pub closing: bool,
    /// The newest receipt.
    pub receipt: Option<Receipt>,
    /// Units that the routers on the path were credited with. No receipt lowers it: who could have the same units counted
    /// again would make a monopolist of whomever it likes.
    pub credited_units: u64,
    /// Whether receipts come as they should.
    pub watch: ReceiptWatch,
}

/// Everything of this node's own, as payer.
#[derive(Default)]
pub struct Payer {
    /// Quotes asked for.
    pub quote_sets: BTreeMap<RequestId, QuoteSet>,
    /// Purchases under way, by their quotes.
    pub openings: BTreeMap<RequestId, Opening>,
    /// Sessions, opening, open and closing.
    pub sessions: BTreeMap<SessionId, OwnSession>,
    /// Sessions that go on under another id than the one they were opened with: the first id to the present one.
    pub names: BTreeMap<SessionId, SessionId>,
    /// Money at others.
    pub purses: Purses,
    /// Bills to be paid on the chain.
    pub bills: Bills,
    /// Payments of unknown outcome, by payment hash: at most those that were being paid when an earlier life ended or
    /// that the wallet could not tell the end of.
    pub under_way: BTreeMap<[u8; 32], PurchasedProof>,
    /// Whether the timer runs that has them looked up.
    pub look_up_due: bool,
}

impl Payer {
    /// The session that this id names now.
    pub fn current(&self, id: &SessionId) -> SessionId {
        self.names.get(id).copied().unwrap_or(*id)
    }

    /// How far an open session has got; none if there is no such session.
    pub fn state(&self, name: &SessionId) -> Option<SessionState> {
        let session = self.sessions.get(&self.current(name));
        let session = session.filter(|session| session.opening.is_none() && !session.closing)?;
        let receipt = session.receipt.as_ref();
        Some(SessionState {
            path: session.path.clone(),
            expires: session.expires,
            units_left: self.units_left(session),
            packets: session.packets,
            receipted_packets: receipt.map_or(0, |receipt| receipt.packets),
            receipted_bytes: receipt.map_or(0, |receipt| receipt.bytes),
        })
    }

    fn units_left(&self, session: &OwnSession) -> u64 {
        let counted = session
            .ration
            .map(|ration| ration.units.saturating_sub(session.units));
        let payees = session.path.iter().skip(1).zip(&session.prices_msat);
        let covered = payees.filter_map(|(payee, price)| self.purses.credit_msat(payee).checked_div(*price));
        covered.chain(counted).min().unwrap_or(u64::MAX)
    }
}
