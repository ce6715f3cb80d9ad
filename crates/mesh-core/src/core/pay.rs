//! As payer: quotes along a route, and the payments that follow.

use std::time::Duration;

use crate::chain::PaymentMethod;
use crate::chain_book::Bill;
use crate::check::refusal_signed;
use crate::drop_reason::DropReason;
use crate::event::{
    Answer, Buying, CommandId, Funding, Payment, QuotedPayee, QuotedSlice, Record, Refusal, WalletQuestion,
};
use crate::identity::NodeId;
use crate::limits::{MAX_PENDING_COMMANDS, PAY_BY, QUOTE_TIMEOUT, RETRY_INTERVAL};
use crate::message::{ControlMessage, QuoteAnswer, QuoteRequest, QuoteResponse, RequestId};
use crate::neighbours::Neighbour;
use crate::payer::{AcceptedQuote, Opening, PurchasedProof, QuoteSet};
use crate::payment_proof::PaymentProof;
use crate::routing_policy::TrafficClass;
use crate::time::Now;
use crate::verifier::InvoiceFacts;

use super::open_session::hash_of_shown;
use super::under_way::purchase;
use super::{Asked, Core, Timer};

/// How long the wallet may try to pay one share.
const PAYMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Quotes.
impl Core {
    #[allow(clippy::too_many_arguments)] // they are the command's own fields
    pub(super) fn start_quotes(
        &mut self,
        now: Now,
        command: CommandId,
        path: &[NodeId],
        class: TrafficClass,
        units: u64,
        buying: Buying,
        method: PaymentMethod,
        timeout: Duration,
    ) -> Result<Option<Answer>, Box<Refusal>> {
        let outcome = self.ask_for_quotes(now, command, path, class, units, buying, method, timeout);
        outcome.map(|()| None).map_err(Refusal::own)
    }

    #[allow(clippy::too_many_arguments)] // they are the command's own fields
    fn ask_for_quotes(
        &mut self,
        now: Now,
        command: CommandId,
        path: &[NodeId],
        class: TrafficClass,
        units: u64,
        buying: Buying,
        method: PaymentMethod,
        timeout: Duration,
    ) -> Result<(), DropReason> {
        if self.payer.quote_sets.len() >= MAX_PENDING_COMMANDS {
            return Err(DropReason::TableFull);
        }
        if units == 0 {
            return Err(DropReason::BadCommand);
        }
        let certificate = self
            .routes
            .cache
            .get(path, now.unix)
            .ok_or(DropReason::NoRoute)?
            .certificate
            .clone();
        let payees = path.get(1..).ok_or(DropReason::BadRoute)?;
        if method.is_on_chain() {
            self.payer.bills.check_room(payees.len())?;
        }
        let accounts = payees
            .iter()
            .map(|payee| self.account_key(payee))
            .collect::<Result<Vec<_>, _>>()?;
        let mut request = QuoteRequest {
            id: self.entropy.bytes16(),
            total_msat: QuoteRequest::total_for(class, method, &certificate, units)?,
            certificate,
            class,
            units,
            accounts: accounts.iter().map(|account| account.public()).collect(),
            buying: vec![true; payees.len()],
            method,
        };
        for (place, payee) in payees.iter().enumerate() {
            let needed = request.terms(place + 1)?.price_msat.saturating_mul(units);
            let buy = match buying {
                Buying::Everywhere => true,
                Buying::Nowhere => false,
                Buying::WhereNeeded => !self.payer.purses.covers(payee, needed, now.unix),
            };
            if let Some(slot) = request.buying.get_mut(place) {
                *slot = buy;
            }
        }
        let id = request.id;
        let set = QuoteSet {
            command: Some(command),
            digest: request.digest(),
            quotes: vec![None; payees.len()],
            accounts,
            request,
        };
        self.payer.quote_sets.insert(id, set);
        self.set_timer(now.instant + timeout.min(QUOTE_TIMEOUT), Timer::QuoteEnds(id));
        self.set_timer(now.instant + PAY_BY, Timer::QuoteSetExpires(id));
        self.retry_quotes(now, id);
        Ok(())
    }

    /// Sends the request, or sends it again: payees answer a repetition with the same quote.
    pub(super) fn retry_quotes(&mut self, now: Now, id: RequestId) {
        let Some(set) = self.payer.quote_sets.get(&id).filter(|set| set.command.is_some()) else {
            return;
        };
        let Some(first) = set.payees().first().copied() else {
            return;
        };
        let message = ControlMessage::QuoteRequest(Box::new(set.request.clone()));
        if let Err(reason) = self.send_message(&first, &message) {
            self.count(reason);
        }
        self.set_timer(now.instant + RETRY_INTERVAL, Timer::QuoteRetry(id));
    }

    pub(super) fn quotes_timed_out(&mut self, now: Now, id: RequestId) {
        let Some(set) = self.payer.quote_sets.get_mut(&id) else {
            return;
        };
        let Some(command) = set.command.take() else { return };
        let silent = set
            .payees()
            .iter()
            .zip(&set.quotes)
            .find(|(_, quote)| quote.is_none());
        let missing = silent.map(|(payee, _)| *payee);
        let path = set.request.certificate.path.clone();
        self.payer.quote_sets.remove(&id);
        self.routes.cache.forget(&path);
        self.blame.note_silent(&path, now.instant);
        let refusal = Refusal {
            reason: DropReason::Timeout,
            by: None,
            missing: missing.into_iter().collect(),
        };
        self.answer(command, Err(Box::new(refusal)));
    }

    /// Quotes that are being paid outlive their time until the last payment is decided: a payment that found its quotes
    /// gone would be money nobody ever shows.
    pub(super) fn expire_quotes(&mut self, now: Now, id: RequestId) {
        if self.payer.openings.contains_key(&id) {
            self.set_timer(now.instant + PAYMENT_TIMEOUT, Timer::QuoteSetExpires(id));
        } else {
            self.payer.quote_sets.remove(&id);
        }
    }

    /// A payee's answer; a quote's signature was checked.
    pub(super) fn on_quote_response(
        &mut self,
        now: Now,
        from: Neighbour,
        response: QuoteResponse,
        invoice: Option<InvoiceFacts>,
    ) -> Result<(), DropReason> {
        if response.requester != self.node_id() {
            return self.relay_quote(from, response);
        }
        let network = self.verifier.network();
        let set = self
            .payer
            .quote_sets
            .get_mut(&response.request)
            // Another payee refused and the request was given up, or it was long ago: nobody's fault.
            .ok_or(DropReason::AlreadyRelayed)?;
        if set.command.is_none() {
            return Err(DropReason::AlreadyRelayed);
        }
        match response.answer {
            QuoteAnswer::Quote(quote) => {
                set.accept(quote, invoice, network, now.unix)?;
                let bills: Vec<Bill> = set
                    .quotes
                    .iter()
                    .flatten()
                    .filter_map(AcceptedQuote::bill)
                    .collect();
                if set.is_complete()
                    && let Some(command) = set.command.take()
                {
                    let slice = quoted_slice(set);
                    self.note_bills(bills);
                    self.answer(command, Ok(Answer::Quoted(Box::new(slice))));
                }
                Ok(())
            }
            QuoteAnswer::Refusal {
                payee,
                reason,
                signature,
            } => {
                let concerns_us = set.payees().contains(&payee)
                    && refusal_signed(&set.digest, &payee, reason, &signature, self.signatures.as_ref());
                if !concerns_us {
                    // Relays cannot check a refusal, so this one is not held against the neighbour.
                    return Err(DropReason::QuoteMismatch);
                }
                let command = set.command.take();
                let path = set.request.certificate.path.clone();
                self.payer.quote_sets.remove(&response.request);
                self.routes.cache.forget(&path);
                if let Some(command) = command {
                    self.answer(command, Err(Refusal::by(reason, payee)));
                }
                Ok(())
            }
        }
    }
}

fn quoted_slice(set: &QuoteSet) -> QuotedSlice {
    let payees = set.quotes.iter().flatten().map(|accepted| QuotedPayee {
        payee: accepted.quote.payee,
        amount_msat: accepted.quote.amount_msat,
        treasury_msat: accepted.terms.treasury_msat,
        price_msat: accepted.quote.price_msat,
        invoice: accepted.quote.invoice.clone(),
        output: accepted.payment_hash.zip(accepted.quote.output.clone()),
        pay_by: accepted.quote.pay_by,
        redeem_by: accepted.quote.redeem_by,
    });
    QuotedSlice {
        id: set.request.id,
        path: set.request.certificate.path.clone(),
        class: set.request.class,
        units: set.request.units,
        method: set.request.method,
        total_msat: set.request.total_msat,
        payees: payees.collect(),
    }
}

/// Payments.
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
        let mut opening = Opening {
            command,
            quotes,
            sign_as_source,
            proofs: vec![None; set.quotes.len()],
            unpaid: 0,
            paid: Vec::new(),
            failure: None,
        };
        match funding {
            Funding::Proofs(proofs) => {
                self.take_proofs(now, quotes, &mut opening, &proofs);
                self.check_bills_paid(quotes, &opening)?;
                self.open_session(now, opening)?;
            }
            Funding::Wallet {
                proofs,
                max_total_msat,
                max_fee_msat,
            } => {
                self.take_proofs(now, quotes, &mut opening, &proofs);
                let bills = self.bills(now, quotes, &mut opening);
                self.check_bills_paid(quotes, &opening)?;
                let total = bills
                    .iter()
                    .fold(0u64, |sum, (_, amount, _)| sum.saturating_add(*amount));
                if total > max_total_msat {
                    let missing = self.unpaid_payees(quotes, &bills);
                    return Err(Box::new(Refusal {
                        reason: DropReason::LimitReached,
                        by: None,
                        missing,
                    }));
                }
                opening.unpaid = bills.len();
                if bills.is_empty() {
                    self.open_session(now, opening)?;
                } else {
                    self.payer.openings.insert(quotes, opening);
                    for (place, ..) in &bills {
                        if let Some(accepted) = self.accepted(quotes, *place) {
                            self.note_begun(now, &accepted);
                        }
                    }
                    for (place, _, invoice) in bills {
                        let question = WalletQuestion::Pay {
                            invoice,
                            max_fee_msat,
                            timeout: PAYMENT_TIMEOUT,
                        };
                        self.ask_wallet(Asked::Payment { quotes, place }, question);
                    }
                }
            }
        }
        Ok(None)
    }

    /// What has to be paid: place, amount and invoice. Payments made earlier and not yet redeemed are shown first, and
    /// nobody is paid for whom the caller showed a proof.
    fn bills(&self, now: Now, quotes: RequestId, opening: &mut Opening) -> Vec<(usize, u64, String)> {
        let Some(set) = self.payer.quote_sets.get(&quotes) else {
            return Vec::new();
        };
        let mut bills = Vec::new();
        for (place, accepted) in set.quotes.iter().enumerate() {
            let Some(accepted) = accepted else { continue };
            let unredeemed = self.payer.purses.unredeemed(&accepted.quote.payee, now.unix);
            match (&accepted.quote.invoice, unredeemed) {
                (None, Some(proof)) => {
                    if let Some(slot) = opening.proofs.get_mut(place) {
                        *slot = Some(proof.proof.clone());
                    }
                }
                (Some(invoice), _) if opening.proofs.get(place).is_some_and(Option::is_none) => {
                    bills.push((place, accepted.quote.amount_msat, invoice.clone()));
                }
                (Some(_), _) | (None, None) => {}
            }
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
        // Fills in what was paid earlier; the bills are the caller's business.
        let _ = self.bills(now, quotes, opening);
        let Some(set) = self.payer.quote_sets.get(&quotes) else {
            return;
        };
        let mut bought = Vec::new();
        for (slot, accepted) in opening.proofs.iter_mut().zip(set.quotes.iter().flatten()) {
            let payee = accepted.quote.payee;
            let Some((_, proof)) = shown.iter().find(|(paid, _)| *paid == payee) else {
                continue;
            };
            let bill = hash_of_shown(proof)
                .and_then(|id| self.payer.bills.get(&id))
                .filter(|bill| bill.payee == payee);
            if bill.is_some_and(|bill| bill.redeemed) {
                continue;
            }
            *slot = Some(proof.clone());
            // Only a payment of this very quote has a known worth; others are credited there, but not counted here.
            if let (Some(payment_hash), Some(shown_hash)) = (accepted.payment_hash, hash_of_shown(proof))
                && payment_hash == shown_hash
            {
                bought.push(PurchasedProof {
                    payee,
                    payment_hash,
                    proof: proof.clone(),
                    credit_msat: accepted.terms.credit_msat,
                    redeem_by: accepted.quote.redeem_by,
                });
            } else if let Some(bill) = bill {
                // Blocks take their time: what is paid on the chain is mostly shown with later quotes.
                bought.push(PurchasedProof {
                    payee,
                    payment_hash: bill.id,
                    proof: proof.clone(),
                    credit_msat: bill.credit_msat,
                    redeem_by: bill.redeem_by,
                });
            }
        }
        for proof in bought {
            self.keep_proof(proof);
        }
    }

    fn unpaid_payees(&self, quotes: RequestId, bills: &[(usize, u64, String)]) -> Vec<NodeId> {
        let Some(set) = self.payer.quote_sets.get(&quotes) else {
            return Vec::new();
        };
        bills
            .iter()
            .filter_map(|(place, ..)| set.payees().get(*place).copied())
            .collect()
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
        opening.unpaid = opening.unpaid.saturating_sub(1);
        let done = opening.unpaid == 0;
        match paid {
            Ok(payment) => {
                opening.paid.push((payee, payment.amount_msat, payment.fee_msat));
                if let Some(purchased) = purchase(now, &accepted, payment.preimage, payment.amount_msat) {
                    if let Some(slot) = opening.proofs.get_mut(place) {
                        *slot = Some(purchased.proof.clone());
                    }
                    self.keep_proof(purchased);
                }
            }
            Err(reason) => {
                opening.failure.get_or_insert((payee, reason));
                self.note_failed(now, &accepted, reason);
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
        let Some(opening) = self.payer.openings.remove(&quotes) else {
            return;
        };
        let command = opening.command;
        if let Some((payee, reason)) = opening.failure {
            // The shares that were paid stay in their purses and open the next session over those payees.
            let missing = vec![payee];
            return self.answer(
                command,
                Err(Box::new(Refusal {
                    reason,
                    by: None,
                    missing,
                })),
            );
        }
        if let Err(refusal) = self.open_session(now, opening) {
            self.answer(command, Err(refusal));
        }
    }
}
