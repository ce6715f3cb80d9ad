//! As payer: buying what was quoted. All payees are probed before any is paid, then all are paid side by side, within one
//! time for the whole purchase and the caller's limits. A purchase of which a part fails is no loss: the shares that were
//! paid are credit at their payees, on any route, and open the next session there.

use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::event::{Answer, CommandId, Funding, Payment, Record, Refusal, WalletQuestion};
use crate::identity::NodeId;
use crate::limits::{PROBE_TIMEOUT, PURCHASE_TIMEOUT};
use crate::message::RequestId;
use crate::payer::{AcceptedQuote, Opening, PurchasedProof, SpendingLimits};
use crate::payment_proof::PaymentProof;
use crate::spending::{Caller, SpendingCaps};
use crate::time::Now;

use super::auto_pay::Wanted;
use super::open_session::hash_of_shown;
use super::under_way::purchase;
use super::{Asked, Core};

/// What one payee is to be paid.
struct Bill {
    /// Its place in the quotes.
    place: usize,
    payee: NodeId,
    amount_msat: u64,
    invoice: String,
}

/// Who may pay what.
enum Allowed {
    /// Whoever gave the command decided by himself.
    Within(SpendingLimits),
    /// The operator's caps decide.
    ByCaps(Wanted),
}

impl Allowed {
    /// The most that any purchase may cost, before budgets are asked.
    fn at_most(&self, caps: &SpendingCaps) -> SpendingLimits {
        match self {
            Self::Within(limits) => *limits,
            Self::ByCaps(wanted) => SpendingLimits {
                max_total_msat: caps.max_total_msat.min(wanted.most_msat),
                most_msat: wanted.most_msat,
                max_fee_msat: caps.max_fee_msat.min(wanted.max_fee_msat),
            },
        }
    }

    fn caller(&self) -> Option<Caller> {
        match self {
            Self::Within(_) => None,
            Self::ByCaps(wanted) => Some(wanted.caller.clone()),
        }
    }
}

/// A command's funding, taken apart.
struct Paying {
    shown: Vec<(NodeId, PaymentProof)>,
    /// None when this node's wallet pays nothing.
    allowed: Option<Allowed>,
    keep_funded: bool,
}

impl Paying {
    fn by(funding: Funding) -> Self {
        match funding {
            Funding::Proofs(shown) => Self {
                shown,
                allowed: None,
                keep_funded: false,
            },
            Funding::Wallet {
                proofs,
                max_total_msat,
                max_fee_msat,
                keep_funded,
            } => Self {
                shown: proofs,
                allowed: Some(Allowed::Within(SpendingLimits {
                    max_total_msat,
                    most_msat: u64::MAX,
                    max_fee_msat,
                })),
                keep_funded,
            },
            Funding::AutoPay {
                proofs,
                caller,
                packet_units,
                most_msat,
                max_fee_msat,
                keep_funded,
            } => Self {
                allowed: Some(Allowed::ByCaps(Wanted {
                    caller,
                    packet_units,
                    most_msat,
                    max_fee_msat,
                    draws: proofs.is_empty(),
                })),
                shown: proofs,
                keep_funded,
            },
        }
    }
}

pub(super) fn sum(amounts_msat: &[u64]) -> u64 {
    amounts_msat
        .iter()
        .fold(0, |sum, amount| sum.saturating_add(*amount))
}

/// From the quotes to the open.
impl Core {
    pub(super) fn start_opening(
        &mut self,
        now: Now,
        command: CommandId,
        quotes: RequestId,
        funding: Funding,
        sign_as_source: bool,
    ) -> Result<Option<Answer>, Box<Refusal>> {
        let set = self.payer.quote_sets.get(&quotes).filter(|set| set.is_complete());
        let Some(set) = set else {
            return Err(Refusal::own(DropReason::UnknownQuote));
        };
        if self.payer.openings.contains_key(&quotes) {
            return Err(Refusal::own(DropReason::BadCommand));
        }
        let Paying {
            shown,
            allowed,
            keep_funded,
        } = Paying::by(funding);
        let mut opening = Opening {
            command,
            quotes,
            sign_as_source,
            proofs: vec![None; set.quotes.len()],
            limits: allowed
                .as_ref()
                .map(|allowed| allowed.at_most(self.spending.caps())),
            keep_funded,
            ends: now.instant + PURCHASE_TIMEOUT,
            unanswered: 0,
            paid: Vec::new(),
            failure: None,
            set_aside: None,
            uncertain_msat: 0,
            ration: None,
            caller: allowed.as_ref().and_then(Allowed::caller),
        };
        self.check_outcomes_known(quotes)?;
        self.take_proofs(now, quotes, &mut opening, &shown);
        let bills = self.bills(now, quotes, &mut opening);
        self.check_bills_paid(quotes, &opening)?;
        // Who shows that all is paid is let through: what he paid for does not keep. Nothing else begins in a pause.
        if shown.is_empty() || !bills.is_empty() {
            self.pauses.admit().map_err(Refusal::own)?;
        }
        if let (true, Some(Allowed::ByCaps(wanted))) = (bills.is_empty(), &allowed) {
            self.count_drawn(now, quotes, wanted, &mut opening)?;
        }
        let Some(allowed) = allowed.filter(|_| !bills.is_empty()) else {
            self.open_session(now, opening)?;
            return Ok(None);
        };
        for bill in &bills {
            // What is paid must have a place to be kept.
            self.payer.purses.at(&bill.payee).map_err(Refusal::own)?;
        }
        let amounts: Vec<u64> = bills.iter().map(|bill| bill.amount_msat).collect();
        let max_fee_msat = match allowed {
            Allowed::Within(limits) if sum(&amounts) <= limits.max_total_msat => Ok(limits.max_fee_msat),
            Allowed::Within(_) => Err(None),
            Allowed::ByCaps(wanted) => self.set_aside(now, quotes, &wanted, &amounts, &mut opening),
        };
        let missing = || bills.iter().map(|bill| bill.payee).collect();
        let max_fee_msat = max_fee_msat.map_err(|limit| self.limit_reached(quotes, missing(), limit))?;
        if let Some(limits) = &mut opening.limits {
            limits.max_fee_msat = max_fee_msat;
        }
        opening.unanswered = bills.len();
        self.payer.openings.insert(quotes, opening);
        for bill in bills {
            let question = WalletQuestion::Probe {
                invoice: bill.invoice,
                max_fee_msat,
                timeout: PROBE_TIMEOUT,
            };
            let place = bill.place;
            self.ask_wallet(Asked::Probe { quotes, place }, question);
        }
        Ok(None)
    }

    /// Quotes of which a payment was begun can be opened again when it is known what became of it: paid again, it might be
    /// paid twice, and a proof of it that somebody brings would be booked twice.
    fn check_outcomes_known(&self, quotes: RequestId) -> Result<(), Box<Refusal>> {
        let set = self.payer.quote_sets.get(&quotes);
        let accepted = set.into_iter().flat_map(|set| set.quotes.iter().flatten());
        let unknown = accepted.filter(|accepted| {
            accepted
                .payment_hash
                .is_some_and(|payment_hash| self.payer.under_way.contains_key(&payment_hash))
        });
        let missing: Vec<NodeId> = unknown.map(|accepted| accepted.quote.payee).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Box::new(Refusal {
            missing,
            ..*Refusal::own(DropReason::PaymentUnknown)
        }))
    }

    /// What has to be paid. Payments made earlier and not yet redeemed are shown first, and nobody is paid for whom the
    /// caller showed a proof.
    fn bills(&self, now: Now, quotes: RequestId, opening: &mut Opening) -> Vec<Bill> {
        let Some(set) = self.payer.quote_sets.get(&quotes) else {
            return Vec::new();
        };
        let mut bills = Vec::new();
        for (place, accepted) in set.quotes.iter().enumerate() {
            let Some(accepted) = accepted else { continue };
            let Some(slot) = opening.proofs.get_mut(place).filter(|slot| slot.is_none()) else {
                continue;
            };
            let (payee, purses) = (accepted.quote.payee, &self.payer.purses);
            let paid = match &accepted.quote.invoice {
                None => purses.unredeemed(&payee, now.unix),
                // Paid when these quotes were opened before; none if it was redeemed since.
                Some(_) if accepted.booked => accepted
                    .payment_hash
                    .and_then(|payment_hash| purses.proof(&payee, &payment_hash)),
                Some(invoice) => {
                    bills.push(Bill {
                        place,
                        payee,
                        amount_msat: accepted.quote.amount_msat,
                        invoice: invoice.clone(),
                    });
                    None
                }
            };
            *slot = paid.map(|paid| paid.proof.clone());
        }
        bills
    }

    /// Takes in what the caller paid by himself. What he does not show is taken from earlier payments.
    fn take_proofs(
        &mut self,
        now: Now,
        quotes: RequestId,
        opening: &mut Opening,
        shown: &[(NodeId, PaymentProof)],
    ) {
        let Some(set) = self.payer.quote_sets.get_mut(&quotes) else {
            return;
        };
        let mut bought = Vec::new();
        for (slot, accepted) in opening.proofs.iter_mut().zip(set.quotes.iter_mut().flatten()) {
            let payee = accepted.quote.payee;
            let Some((_, proof)) = shown.iter().find(|(paid, _)| *paid == payee) else {
                continue;
            };
            // Blocks take their time, so callers show together what was paid together, again and again. What one payee
            // has redeemed is not shown there once more: it would refuse the session.
            let bill = hash_of_shown(proof).and_then(|id| self.payer.bills.get(&id));
            if bill.is_some_and(|bill| bill.redeemed && bill.payee == payee) {
                continue;
            }
            let pays_this = accepted.payment_hash == hash_of_shown(proof) && accepted.quote.invoice.is_some();
            if pays_this && accepted.booked {
                // Held already, or redeemed since.
                continue;
            }
            *slot = Some(proof.clone());
            // Only a payment of this very quote has a known worth; others are credited there, but not counted here.
            if let Some(payment_hash) = accepted.payment_hash.filter(|_| pays_this) {
                accepted.booked = true;
                let purchased = PurchasedProof {
                    payee,
                    payment_hash,
                    proof: proof.clone(),
                    credit_msat: accepted.terms.credit_msat,
                    redeem_by: accepted.quote.redeem_by,
                };
                bought.push((purchased, accepted.terms.treasury_msat));
            }
        }
        for (proof, treasury_msat) in bought {
            self.book_brought(now.unix, &proof, treasury_msat);
            self.keep_proof(proof);
        }
    }
}

/// Probes and payments.
impl Core {
    /// The wallet's word on whether one payee can be paid. The last one decides whether anybody is.
    pub(super) fn on_probe(
        &mut self,
        now: Now,
        quotes: RequestId,
        place: usize,
        found: Result<(), DropReason>,
    ) {
        let payee = self.accepted(quotes, place).map(|accepted| accepted.quote.payee);
        let Some(opening) = self.payer.openings.get_mut(&quotes) else {
            return;
        };
        opening.unanswered = opening.unanswered.saturating_sub(1);
        if let (Err(reason), Some(payee)) = (found, payee) {
            opening.failure.get_or_insert((payee, reason));
        }
        if opening.unanswered > 0 {
            return;
        }
        if opening.failure.is_some() {
            self.payments_done(now, quotes);
        } else {
            self.pay_all(now, quotes);
        }
    }

    /// Everything that is begun is written down before the first payment is.
    fn pay_all(&mut self, now: Now, quotes: RequestId) {
        let Some(mut opening) = self.payer.openings.remove(&quotes) else {
            return;
        };
        let bills = self.bills(now, quotes, &mut opening);
        let max_fee_msat = opening.limits.map_or(0, |limits| limits.max_fee_msat);
        let timeout = (opening.ends - now.instant).max(Duration::from_secs(1));
        opening.unanswered = bills.len();
        self.payer.openings.insert(quotes, opening);
        if bills.is_empty() {
            return self.payments_done(now, quotes);
        }
        for bill in &bills {
            if let Some(accepted) = self.accepted(quotes, bill.place) {
                self.note_begun(now, &accepted);
                self.set_booked(quotes, bill.place, true);
            }
        }
        for Bill { place, invoice, .. } in bills {
            let question = WalletQuestion::Pay {
                invoice,
                max_fee_msat,
                timeout,
            };
            self.ask_wallet(Asked::Payment { quotes, place }, question);
        }
    }

    pub(super) fn on_payment(
        &mut self,
        now: Now,
        quotes: RequestId,
        place: usize,
        paid: Result<Payment, DropReason>,
    ) {
        let Some(accepted) = self.accepted(quotes, place) else {
            return;
        };
        let payee = accepted.quote.payee;
        let Some(opening) = self.payer.openings.get_mut(&quotes) else {
            return;
        };
        opening.unanswered = opening.unanswered.saturating_sub(1);
        let done = opening.unanswered == 0;
        match paid {
            Ok(payment) => {
                opening.paid.push((payee, payment.amount_msat, payment.fee_msat));
                if let Some(purchased) = purchase(now, &accepted, payment.preimage, payment.amount_msat) {
                    if let Some(slot) = opening.proofs.get_mut(place) {
                        *slot = Some(purchased.proof.clone());
                    }
                    self.note_paid(now, &accepted, &payment);
                    self.keep_proof(purchased);
                }
            }
            Err(reason) => {
                opening.failure.get_or_insert((payee, reason));
                if reason == DropReason::PaymentUnknown {
                    let fee = opening.limits.map_or(0, |limits| limits.max_fee_msat);
                    let most = accepted.quote.amount_msat.saturating_add(fee);
                    opening.uncertain_msat = opening.uncertain_msat.saturating_add(most);
                }
                self.note_failed(now, &accepted, reason);
                self.set_booked(quotes, place, reason == DropReason::PaymentUnknown);
            }
        }
        if done {
            self.payments_done(now, quotes);
        }
    }

    fn accepted(&self, quotes: RequestId, place: usize) -> Option<AcceptedQuote> {
        self.payer
            .quote_sets
            .get(&quotes)?
            .quotes
            .get(place)
            .cloned()
            .flatten()
    }

    fn set_booked(&mut self, quotes: RequestId, place: usize, booked: bool) {
        let set = self.payer.quote_sets.get_mut(&quotes);
        if let Some(Some(accepted)) = set.and_then(|set| set.quotes.get_mut(place)) {
            accepted.booked = booked;
        }
    }

    /// What was paid is written down before it is shown to anybody: it is money until it is redeemed.
    pub(super) fn keep_proof(&mut self, proof: PurchasedProof) {
        match self.payer.purses.at(&proof.payee) {
            Ok(purse) => {
                purse.proofs.insert(proof.payment_hash, proof.clone());
            }
            Err(reason) => self.count(reason),
        }
        self.persist(Record::Proof(proof));
    }

    fn payments_done(&mut self, now: Now, quotes: RequestId) {
        let Some(mut opening) = self.payer.openings.remove(&quotes) else {
            return;
        };
        self.settle_spending(now, &mut opening);
        let command = opening.command;
        if let Some((payee, reason)) = opening.failure {
            // The shares that were paid stay in their purses and open the next session over those payees.
            let refusal = Refusal {
                missing: vec![payee],
                paid: opening.paid,
                ..*Refusal::own(reason)
            };
            return self.answer(command, Err(Box::new(refusal)));
        }
        if let Err(refusal) = self.open_session(now, opening) {
            self.answer(command, Err(refusal));
        }
    }
}
