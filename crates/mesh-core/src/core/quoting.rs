//! As payee: quotes asked of this node, and those of others on their way back.

use bytes::Bytes;

use crate::chain::{BillId, MSAT_PER_SAT, PaymentMethod, QuotedOutput};
use crate::drop_reason::DropReason;
use crate::event::{Channel, Record, WalletQuestion};
use crate::identity::{NodeId, Signature, SignatureContext};
use crate::keys::DhSecret;
use crate::limits::{MAX_PENDING_INVOICES, PAY_BY};
use crate::message::{
    ControlMessage, PayeeTerms, Quote, QuoteAnswer, QuoteRequest, QuoteResponse, RequestId, refusal_bytes,
};
use crate::neighbours::Neighbour;
use crate::quotes::{InvoiceRecord, QuoteKeyRecord};
use crate::routing_policy::TrafficClass;
use crate::time::{Now, UnixMillis};
use crate::verifier::Commitment;

use super::{Asked, Core};

/// A quote that waits for the wallet's invoice or the chain source's script.
pub(super) struct PendingQuote {
    request: RequestId,
    requester: NodeId,
    digest: [u8; 32],
    pub(super) account: [u8; 32],
    pub(super) terms: PayeeTerms,
    class: TrafficClass,
    pub(super) previous: NodeId,
    next: Option<NodeId>,
    nonce: [u8; 16],
    pay_by: UnixMillis,
    pub(super) redeem_by: UnixMillis,
    /// When the key is erased unless it opens a session before.
    key_until: UnixMillis,
    /// See [`crate::chain::OutputQuote::split`] and the place in it.
    pub(super) split: (Vec<u64>, u8),
}

impl PendingQuote {
    /// What the invoice or the bill commits to, as its hash.
    pub(super) fn description_hash(&self, payee: &NodeId) -> [u8; 32] {
        self.commitment(payee).description_hash()
    }

    /// The same as the text that is hashed.
    fn description(&self, payee: &NodeId) -> String {
        self.commitment(payee).description()
    }

    fn commitment<'a>(&'a self, payee: &'a NodeId) -> Commitment<'a> {
        Commitment {
            payee,
            account: &self.account,
            amount_msat: self.terms.amount_msat(),
            terms: &self.digest,
            pay_by: self.pay_by,
            redeem_by: self.redeem_by,
            nonce: &self.nonce,
        }
    }
}

/// What is to be paid for a quote.
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// An invoice, with its payment hash.
    Invoice(String, [u8; 32]),
    /// An output, with the name of its bill.
    Output(QuotedOutput, BillId),
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
        self.pauses.admit()?;
        self.policy.admit(request.class)?;
        if request.certificate.valid_until() < now.unix {
            return Err(DropReason::Expired);
        }
        if next.is_some_and(|next| self.neighbours.link_to(&next).is_none()) {
            return Err(DropReason::NextHopGone);
        }
        self.quotes.check_room(&previous)?;
        let terms = request.terms(place)?;
        let (pay_by, redeem_by) = request.method.deadlines(now.unix);
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
            redeem_by,
            // A payment over Lightning takes until pay-by; the open must still find its key then. On the chain it takes
            // longer, and is shown with a later quote.
            key_until: now.unix + PAY_BY + PAY_BY,
            split: split_for(request, place)?,
        };
        if terms.amount_msat() == 0 {
            return self.give_quote(pending, Due::Nothing);
        }
        if request.method.is_on_chain() {
            return self.ask_for_script(pending, request.method);
        }
        if !self.verifier.payable() {
            return Err(DropReason::PaymentsUnavailable);
        }
        if self.asked.len() >= MAX_PENDING_INVOICES {
            return Err(DropReason::TableFull);
        }
        let question = WalletQuestion::CreateInvoice {
            amount_msat: terms.amount_msat(),
            description: pending.description(&self.node_id()),
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
        self.give_or_refuse(pending, invoice.map(|(text, hash)| Due::Invoice(text, hash)));
    }

    /// What is to be paid is known, or why it is not.
    pub(super) fn give_or_refuse(&mut self, pending: PendingQuote, due: Result<Due, DropReason>) {
        let (request, requester, digest) = (pending.request, pending.requester, pending.digest);
        let given = due.and_then(|due| self.give_quote(pending, due));
        if let Err(reason) = given {
            self.count(reason);
            self.refuse_quote(request, requester, &digest, reason);
        }
    }

    fn give_quote(&mut self, pending: PendingQuote, due: Due) -> Result<(), DropReason> {
        let secret = self.entropy.bytes32();
        let (invoice, output, payment_hash, bill) = match due {
            Due::Nothing => (None, None, None, None),
            Due::Invoice(text, hash) => (Some(text), None, Some(hash), None),
            Due::Output(output, bill) => (None, Some(output), None, Some(bill)),
        };
        let quote = Quote {
            request_digest: pending.digest,
            payee: self.node_id(),
            key: DhSecret::new(secret)?.public(),
            price_msat: pending.terms.price_msat,
            amount_msat: pending.terms.amount_msat(),
            invoice,
            output,
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
            expires: pending.key_until,
        };
        if let (Some(output), Some(bill)) = (&quote.output, bill) {
            self.note_output_quote(&pending, bill, &output.script)?;
        }
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

/// What a covenant must pay to everybody who is bought from, in sats, and this node's place among them.
fn split_for(request: &QuoteRequest, place: usize) -> Result<(Vec<u64>, u8), DropReason> {
    if request.method != PaymentMethod::Ctv {
        return Ok((Vec::new(), 0));
    }
    let (amounts, own) = request.amounts_msat(place)?;
    let sats = amounts.iter().map(|msat| msat / MSAT_PER_SAT).collect();
    Ok((sats, u8::try_from(own).map_err(|_| DropReason::BadRoute)?))
}
