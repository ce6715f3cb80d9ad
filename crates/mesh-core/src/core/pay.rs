//! As payer: quotes along a route.

use std::time::Duration;

use crate::chain::PaymentMethod;
use crate::chain_book::Bill;
use crate::check::refusal_signed;
use crate::drop_reason::DropReason;
use crate::event::{Answer, Buying, CommandId, QuotedPayee, QuotedSlice, Refusal};
use crate::identity::NodeId;
use crate::limits::{MAX_PENDING_COMMANDS, PAY_BY, PURCHASE_TIMEOUT, QUOTE_TIMEOUT, RETRY_INTERVAL};
use crate::message::{ControlMessage, QuoteAnswer, QuoteRequest, QuoteResponse, RequestId};
use crate::neighbours::Neighbour;
use crate::payer::QuoteSet;
use crate::routing_policy::TrafficClass;
use crate::time::Now;
use crate::verifier::InvoiceFacts;

use super::{Core, Timer};

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
        let total_msat = QuoteRequest::total_for(class, method, &certificate, units)?;
        let asked = units;
        let units = QuoteRequest::units_for(class, method, &certificate, asked, total_msat);
        let mut request = QuoteRequest {
            id: self.entropy.bytes16(),
            total_msat,
            certificate,
            class,
            units,
            accounts: accounts.iter().map(|account| account.public()).collect(),
            buying: vec![true; payees.len()],
            method,
        };
        for (place, payee) in payees.iter().enumerate() {
            let needed = request.terms(place + 1)?.price_msat.saturating_mul(asked);
            let buy = match buying {
                Buying::Everywhere => true,
                Buying::Nowhere => false,
                Buying::WhereNeeded => !self.payer.purses.covers(payee, needed, now.unix),
            };
            if let Some(slot) = request.buying.get_mut(place) {
                *slot = buy;
            }
        }
        self.check_losses(now, &request)?;
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

    /// Whoever took this node's money and carried nothing sells it nothing more for a while.
    fn check_losses(&self, now: Now, request: &QuoteRequest) -> Result<(), DropReason> {
        let sellers = request.certificate.sellers();
        let payees = request.certificate.path.iter().skip(1);
        let thief = payees
            .zip(&sellers)
            .zip(&request.buying)
            .any(|((payee, seller), buying)| {
                *buying && self.losses.is_too_much(*payee, *seller, now.instant)
            });
        if thief { Err(DropReason::LossLimit) } else { Ok(()) }
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
            missing: missing.into_iter().collect(),
            ..*Refusal::own(DropReason::Timeout)
        };
        self.answer(command, Err(Box::new(refusal)));
    }

    /// Quotes that are being paid outlive their time until the last payment is decided: a payment that found its quotes
    /// gone would be money nobody ever shows.
    pub(super) fn expire_quotes(&mut self, now: Now, id: RequestId) {
        if self.payer.openings.contains_key(&id) {
            self.set_timer(now.instant + PURCHASE_TIMEOUT, Timer::QuoteSetExpires(id));
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
                let (payee, key) = (quote.payee, invoice.as_ref().map(|invoice| invoice.payee));
                set.accept(quote, invoice, network, now.unix)?;
                let bills: Vec<Bill> = set
                    .quotes
                    .iter()
                    .flatten()
                    .filter_map(crate::payer::AcceptedQuote::bill)
                    .collect();
                if set.is_complete()
                    && let Some(command) = set.command.take()
                {
                    let slice = quoted_slice(set);
                    self.note_bills(bills);
                    self.answer(command, Ok(Answer::Quoted(Box::new(slice))));
                }
                if let Some(key) = key {
                    self.note_payee_key(payee, key);
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

pub(super) fn quoted_slice(set: &QuoteSet) -> QuotedSlice {
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
