//! As payee: quotes asked of this node, and those of others on their way back.

use bytes::Bytes;

use crate::drop_reason::DropReason;
use crate::event::{Channel, Record, WalletQuestion};
use crate::identity::{NodeId, Signature, SignatureContext};
use crate::keys::DhSecret;
use crate::limits::{MAX_PENDING_INVOICES, PAY_BY, REDEEM_AFTER_PAY_BY};
use crate::message::{
    ControlMessage, PayeeTerms, Quote, QuoteAnswer, QuoteRequest, QuoteResponse, RequestId, refusal_bytes,
};
use crate::neighbours::Neighbour;
use crate::quotes::{InvoiceRecord, QuoteKeyRecord};
use crate::routing_policy::TrafficClass;
use crate::time::{Now, UnixMillis};
use crate::verifier::Commitment;

use super::{Asked, Core};

/// A quote that waits for the wallet's invoice.
pub(super) struct PendingQuote {
    request: RequestId,
    requester: NodeId,
    digest: [u8; 32],
    account: [u8; 32],
    terms: PayeeTerms,
    class: TrafficClass,
    previous: NodeId,
    next: Option<NodeId>,
    nonce: [u8; 16],
    pay_by: UnixMillis,
    redeem_by: UnixMillis,
}

/// A quote request that passed by.
pub(super) struct QuoteRelay {
    digest: [u8; 32],
    previous: NodeId,
    next: Option<NodeId>,
    mine: Option<Bytes>,
}

impl Core {
    /// A quote request whose route's signatures were checked.
    pub(super) fn on_quote_request(
        &mut self,
        now: Now,
        from: Neighbour,
        request: QuoteRequest,
    ) -> Result<(), DropReason> {
        let previous = self.id_of(from)?;
        let path = &request.certificate.path;
        let me = self.node_id();
        let place = path
            .iter()
            .position(|node| *node == me)
            .ok_or(DropReason::WrongHop)?;
        if place == 0 || path.get(place - 1) != Some(&previous) {
            return Err(DropReason::WrongHop);
        }
        let next = path.get(place + 1).copied();
        let (id, digest) = (request.id, request.digest());
        let known = self
            .quote_relays
            .get_mut(&id)
            .map(|relay| (relay.digest, relay.mine.clone()));
        if let Some((first_digest, mine)) = known {
            if first_digest != digest {
                return Err(DropReason::AlreadyRelayed);
            }
            self.pass_on(next, request);
            return match (mine, self.neighbours.link_of(from)) {
                (Some(frame), Some(link)) => {
                    self.transmit(link, Channel::Control, frame);
                    Ok(())
                }
                _ => Ok(()),
            };
        }
        self.quote_relays.insert(
            id,
            QuoteRelay {
                digest,
                previous,
                next,
                mine: None,
            },
            previous,
            now.instant,
        )?;
        let offered = self.offer(now, &request, digest, place, previous, next);
        let requester = *path.first().ok_or(DropReason::BadRoute)?;
        self.pass_on(next, request);
        match offered {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.refuse_quote(id, requester, &digest, reason);
                Err(reason)
            }
        }
    }

    fn pass_on(&mut self, next: Option<NodeId>, request: QuoteRequest) {
        if let Some(next) = next
            && let Err(reason) = self.send_message(&next, &ControlMessage::QuoteRequest(Box::new(request)))
        {
            self.count(reason);
        }
    }

    fn offer(
        &mut self,
        now: Now,
        request: &QuoteRequest,
        digest: [u8; 32],
        place: usize,
        previous: NodeId,
        next: Option<NodeId>,
    ) -> Result<(), DropReason> {
        self.policy.admit(request.class)?;
        if request.certificate.valid_until() < now.unix {
            return Err(DropReason::Expired);
        }
        if next.is_some_and(|next| self.neighbours.link_to(&next).is_none()) {
            return Err(DropReason::NextHopGone);
        }
        self.quotes.check_room(&previous)?;
        let terms = request.terms(place)?;
        let pay_by = now.unix + PAY_BY;
        let pending = PendingQuote {
            request: request.id,
            requester: *request.certificate.requester().ok_or(DropReason::BadRoute)?,
            digest,
            account: *request.accounts.get(place - 1).ok_or(DropReason::BadRoute)?,
            terms,
            class: request.class,
            previous,
            next,
            nonce: self.entropy.bytes16(),
            pay_by,
            redeem_by: pay_by + REDEEM_AFTER_PAY_BY,
        };
        if terms.amount_msat() == 0 {
            return self.give_quote(pending, None);
        }
        if !self.verifier.payable() {
            return Err(DropReason::PaymentsUnavailable);
        }
        if self.asked.len() >= MAX_PENDING_INVOICES {
            return Err(DropReason::TableFull);
        }
        let commitment = Commitment {
            payee: &self.node_id(),
            account: &pending.account,
            amount_msat: terms.amount_msat(),
            terms: &digest,
            pay_by,
            redeem_by: pending.redeem_by,
            nonce: &pending.nonce,
        };
        let question = WalletQuestion::CreateInvoice {
            amount_msat: terms.amount_msat(),
            description: commitment.description(),
            expiry: PAY_BY,
        };
        self.ask_wallet(Asked::InvoiceFor(Box::new(pending)), question);
        Ok(())
    }

    pub(super) fn on_invoice(
        &mut self,
        pending: PendingQuote,
        invoice: Result<(String, [u8; 32]), DropReason>,
    ) {
        let (request, requester, digest) = (pending.request, pending.requester, pending.digest);
        let given = invoice.and_then(|invoice| self.give_quote(pending, Some(invoice)));
        if let Err(reason) = given {
            self.count(reason);
            self.refuse_quote(request, requester, &digest, reason);
        }
    }

    fn give_quote(
        &mut self,
        pending: PendingQuote,
        invoice: Option<(String, [u8; 32])>,
    ) -> Result<(), DropReason> {
        let secret = self.entropy.bytes32();
        let (invoice, payment_hash) = match invoice {
            Some((text, hash)) => (Some(text), Some(hash)),
            None => (None, None),
        };
        let quote = Quote {
            request_digest: pending.digest,
            payee: self.node_id(),
            key: DhSecret::new(secret)?.public(),
            price_msat: pending.terms.price_msat,
            amount_msat: pending.terms.amount_msat(),
            invoice,
            nonce: pending.nonce,
            pay_by: pending.pay_by,
            redeem_by: pending.redeem_by,
            signature: Signature([0; 64]),
        }
        .sign(&self.identity);
        let key = QuoteKeyRecord {
            id: quote.id(),
            secret,
            account: pending.account,
            previous: pending.previous,
            next: pending.next,
            class: pending.class,
            price_msat: pending.terms.price_msat,
            // A payment takes until pay-by; the open must still find its key then.
            expires: pending.pay_by + PAY_BY,
        };
        self.quotes.insert_key(key.clone())?;
        self.persist(Record::QuoteKey(key));
        if let Some(payment_hash) = payment_hash {
            let invoice = InvoiceRecord {
                payment_hash,
                account: pending.account,
                credit_msat: pending.terms.credit_msat,
                treasury_msat: pending.terms.treasury_msat,
                pay_by: pending.pay_by,
                redeem_by: pending.redeem_by,
                previous: pending.previous,
            };
            self.quotes.insert_invoice(invoice);
            self.persist(Record::Invoice(invoice));
        }
        self.respond(pending.request, pending.requester, QuoteAnswer::Quote(quote));
        Ok(())
    }

    fn refuse_quote(&mut self, request: RequestId, requester: NodeId, digest: &[u8; 32], reason: DropReason) {
        let signature = self
            .identity
            .sign(SignatureContext::Quote, &refusal_bytes(digest, reason));
        self.respond(
            request,
            requester,
            QuoteAnswer::Refusal {
                payee: self.node_id(),
                reason,
                signature,
            },
        );
    }

    fn respond(&mut self, request: RequestId, requester: NodeId, answer: QuoteAnswer) {
        let response = ControlMessage::QuoteResponse(QuoteResponse {
            request,
            requester,
            answer,
        });
        let Ok(frame) = response.encode() else {
            return self.count(DropReason::Oversize);
        };
        let Some(relay) = self.quote_relays.get_mut(&request) else {
            return;
        };
        relay.mine = Some(frame.clone());
        let previous = relay.previous;
        match self.neighbours.link_to(&previous) {
            Some(link) => self.transmit(link, Channel::Control, frame),
            None => self.count(DropReason::NextHopGone),
        }
    }

    /// Another payee's answer, on its way back to the requester.
    pub(super) fn relay_quote(&mut self, from: Neighbour, response: QuoteResponse) -> Result<(), DropReason> {
        let from = self.id_of(from)?;
        let relay = self
            .quote_relays
            .get_mut(&response.request)
            // A wallet may take longer for an invoice than relays remember.
            .ok_or(DropReason::AlreadyRelayed)?;
        if relay.next != Some(from) {
            return Err(DropReason::Unsolicited);
        }
        let previous = relay.previous;
        self.send_message(&previous, &ControlMessage::QuoteResponse(response))
    }
}
