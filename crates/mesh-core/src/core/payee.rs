//! As payee: sessions opened through or to this node, and the proofs of payment shown with them.

use bytes::Bytes;

use crate::account::AccountSlot;
use crate::drop_reason::DropReason;
use crate::event::{Channel, Event, LinkId, Output, Record, WalletQuestion};
use crate::keys::{HopSecret, PayloadSeal, SessionId, TagKey};
use crate::limits::{
    CLOCK_SKEW, MAX_FREE_SESSIONS_PER_NEIGHBOUR, MAX_PENDING_OPENS, MAX_SESSIONS_PER_NEIGHBOUR, SESSION_IDLE,
    SESSION_LIFETIME, SETTLEMENT_WAIT,
};
use crate::message::{ControlMessage, QuoteId};
use crate::neighbours::Neighbour;
use crate::open::{
    BackMessage, DestinationBox, HopBox, HopRefusal, OpenView, Transcript, advance, build_hop_error,
};
use crate::payment_proof::PaymentProof;
use crate::quotes::InvoiceRecord;
use crate::replay::SequenceWindow;
use crate::session::{DestinationEnd, HopSession};
use crate::time::Now;
use crate::verifier::{InvoiceFacts, Settlement, ShownProof};

use super::chain::ChainAsked;
use super::{Asked, Core, Timer};

/// An open whose proof is being checked.
pub(super) struct PendingOpen {
    frame: Bytes,
    from: Neighbour,
    index: u8,
    hops: u8,
    transcript: Transcript,
    hop_box: HopBox,
    secret: HopSecret,
    quote: QuoteId,
}

impl PendingOpen {
    /// The proof that it shows.
    pub(super) fn proof(&self) -> Option<&PaymentProof> {
        self.hop_box.proof.as_ref()
    }

    /// The session that it would open.
    pub(super) fn session(&self) -> SessionId {
        let mut session = SessionId([0; 16]);
        session.0.copy_from_slice(&self.transcript[..16]);
        session
    }

    /// The quote that it is sealed to.
    pub(super) fn quote(&self) -> &QuoteId {
        &self.quote
    }
}

impl Core {
    pub(super) fn on_open(&mut self, now: Now, link: LinkId, frame: Bytes) -> Result<(), DropReason> {
        let from = self.charge_control(now, link)?;
        let view = OpenView::parse(&frame)?;
        let id = view.session();
        if let Some(session) = self.sessions.get_mut(&id) {
            if session.transcript != view.transcript || session.previous != from {
                return Err(DropReason::DifferingOpen);
            }
            return self.repeat_open(&view, &frame);
        }
        if self.pending_opens.contains_key(&id) {
            return Err(DropReason::AlreadyRelayed);
        }
        let opened = self.unseal(now, from, &view);
        let (hop_box, secret) = match opened {
            Ok(opened) => opened,
            Err(reason) => {
                // Nobody is authenticated yet: the neighbour learns that it failed, nothing more.
                if let Ok(frame) = ControlMessage::Refused.encode() {
                    self.transmit(link, Channel::Control, frame);
                }
                return Err(reason);
            }
        };
        let pending = PendingOpen {
            from,
            index: view.index,
            hops: view.hops,
            transcript: view.transcript,
            hop_box,
            secret,
            quote: view.quote_id(),
            // A copy, because the frame is a slice of a buffer that would stay alive for as long as the proof is checked.
            frame: Bytes::copy_from_slice(&frame),
        };
        let outcome = self.admit(now, id, pending);
        outcome.map_err(|(pending, reason)| self.refuse_open(&pending, reason))
    }

    /// The ack or the open of a later hop was lost: nothing is credited again, the open goes on its way again.
    fn repeat_open(&mut self, view: &OpenView<'_>, frame: &Bytes) -> Result<(), DropReason> {
        if view.is_destination() {
            self.send_back(&view.session(), &BackMessage::OpenAck);
            return Ok(());
        }
        let next = self
            .sessions
            .get_mut(&view.session())
            .and_then(|session| session.next);
        let link = next
            .and_then(|next| self.neighbours.link_of(next))
            .ok_or(DropReason::NextHopGone)?;
        self.transmit(link, Channel::Control, advance(frame));
        Ok(())
    }

    fn unseal(
        &self,
        now: Now,
        from: Neighbour,
        view: &OpenView<'_>,
    ) -> Result<(HopBox, HopSecret), DropReason> {
        let quote = self
            .quotes
            .key(&view.quote_id())
            .ok_or(DropReason::UnknownQuote)?;
        if quote.record.expires < now.unix {
            return Err(DropReason::UnknownQuote);
        }
        if quote.record.previous != self.id_of(from)? {
            return Err(DropReason::WrongHop);
        }
        // Also for the open that it opened its one session with: that session has ended, or the open would have found it.
        // Opened again it would count no sequence number as seen, and whoever brings the old packets once more would have
        // the payer pay for them once more.
        if quote.opened.is_some() {
            return Err(DropReason::DifferingOpen);
        }
        view.unseal(&self.node_id(), &quote.key, &quote.record.account)
    }

    #[allow(clippy::result_large_err)] // the error is the open itself, handed back to be refused
    fn admit(
        &mut self,
        now: Now,
        id: SessionId,
        pending: PendingOpen,
    ) -> Result<(), (PendingOpen, DropReason)> {
        if let Err(reason) = self.check_box(now, &pending) {
            return Err((pending, reason));
        }
        match &pending.hop_box.proof {
            // Old credit buys a session elsewhere as well; who shows a payment has paid for this one.
            None => match self.pauses.admit() {
                Ok(()) => self.finish_open(now, pending),
                Err(reason) => Err((pending, reason)),
            },
            Some(PaymentProof::Lightning { .. }) if self.pending_opens.len() >= MAX_PENDING_OPENS => {
                Err((pending, DropReason::TableFull))
            }
            Some(PaymentProof::Lightning { invoice, .. }) => {
                let question = WalletQuestion::CheckProof {
                    invoice: invoice.clone(),
                    wait: SETTLEMENT_WAIT,
                };
                // Kept while the wallet is asked: the neighbour may leave meanwhile, and whoever takes its place in the
                // table must not get its session.
                self.neighbours.retain(pending.from);
                self.pending_opens.insert(id, pending);
                self.ask_wallet(Asked::ProofOf(id), question);
                Ok(())
            }
            Some(PaymentProof::OnChainSettlement { .. } | PaymentProof::InstantSettlement { .. }) => {
                match self.question_about(now, &pending) {
                    Ok(question) => {
                        self.neighbours.retain(pending.from);
                        self.pending_opens.insert(id, pending);
                        self.ask_chain(ChainAsked::ProofOf(id), question);
                        Ok(())
                    }
                    Err(reason) => Err((pending, reason)),
                }
            }
            Some(_) => Err((pending, DropReason::ProofKindRefused)),
        }
    }

    fn check_box(&self, now: Now, pending: &PendingOpen) -> Result<(), DropReason> {
        let quote = self.quotes.key(&pending.quote).ok_or(DropReason::UnknownQuote)?;
        let hop_box = &pending.hop_box;
        if hop_box.class != quote.record.class || hop_box.next != quote.record.next {
            return Err(DropReason::QuoteMismatch);
        }
        self.policy.admit(hop_box.class)?;
        if hop_box.expires <= now.unix || hop_box.expires > now.unix + SESSION_LIFETIME + CLOCK_SKEW {
            return Err(DropReason::Expired);
        }
        if let Some(DestinationBox {
            source: Some((source, signature)),
            back_secrets,
        }) = &hop_box.destination
        {
            let view = OpenView::parse(&pending.frame)?;
            if !view.source_signed(&self.node_id(), source, signature, self.signatures.as_ref()) {
                return Err(DropReason::BadSourceSignature);
            }
            if back_secrets.len() + 1 != usize::from(pending.hops) {
                return Err(DropReason::BadRoute);
            }
        }
        if let Some(next) = &hop_box.next
            && self.neighbours.link_to(next).is_none()
        {
            return Err(DropReason::NextHopGone);
        }
        self.sessions.check_room()
    }

    /// The worker's and the wallet's word on the proof in an open.
    pub(super) fn on_proof(
        &mut self,
        now: Now,
        id: &SessionId,
        found: Result<(InvoiceFacts, Settlement), DropReason>,
    ) {
        self.decide_open(now, id, |core, pending| {
            let (facts, settlement) = found?;
            core.redeem(now, pending, &facts, settlement)
        });
    }

    /// Redeems the proof in an open and goes on with it, or refuses it.
    pub(super) fn decide_open(
        &mut self,
        now: Now,
        id: &SessionId,
        redeem: impl FnOnce(&mut Self, &PendingOpen) -> Result<(), DropReason>,
    ) {
        let Some(pending) = self.pending_opens.remove(id) else {
            return;
        };
        let from = pending.from;
        let outcome = match redeem(self, &pending) {
            Ok(()) => self.finish_open(now, pending),
            Err(reason) => Err((pending, reason)),
        };
        if let Err((pending, reason)) = outcome {
            let reason = self.refuse_open(&pending, reason);
            self.count(reason);
            self.outputs.push_back(Output::Dropped { reason, link: None });
        }
        self.neighbours.release(from);
    }

    fn redeem(
        &mut self,
        now: Now,
        pending: &PendingOpen,
        facts: &InvoiceFacts,
        settlement: Settlement,
    ) -> Result<(), DropReason> {
        let Some(PaymentProof::Lightning {
            preimage,
            invoice: paid,
            ..
        }) = &pending.hop_box.proof
        else {
            return Err(DropReason::ProofKindRefused);
        };
        let quote = self.quotes.key(&pending.quote).ok_or(DropReason::UnknownQuote)?;
        let account = quote.record.account;
        let invoice = self.quotes.invoice(&facts.payment_hash).copied();
        let quoted = invoice.as_ref().map(InvoiceRecord::quoted);
        let shown = ShownProof {
            facts,
            preimage,
            account: &account,
            quoted: quoted.as_ref(),
            redeemed: self.replay.is_redeemed(&facts.payment_hash),
            settlement,
        };
        self.verifier.judge(&shown, now.unix)?;
        let invoice = invoice.ok_or(DropReason::InvoiceNotMine)?;
        let Settlement::Settled {
            amount_msat: arrived_msat,
        } = settlement
        else {
            return Err(DropReason::NotSettled);
        };
        let slot = self.accounts.slot(&account)?;
        let treasury_owed = self
            .treasury_owed_msat
            .checked_add(invoice.treasury_msat)
            .ok_or(DropReason::LimitReached)?;
        self.replay
            .redeem(&facts.payment_hash, invoice.redeem_by, now.unix)?;
        let record = self.accounts.credit(slot, invoice.credit_msat)?;
        self.quotes.close_invoice(&facts.payment_hash);
        self.treasury_owed_msat = treasury_owed;
        self.earned_msat = self.earned_msat.saturating_add(invoice.credit_msat);
        let mut session = SessionId([0; 16]);
        session.0.copy_from_slice(&pending.transcript[..16]);
        self.book_credited(now.unix, session, &invoice, arrived_msat);
        self.persist(Record::Account(record));
        self.persist(Record::Earned(self.earned_msat));
        self.persist(Record::TreasuryOwed(treasury_owed));
        self.persist(Record::InvoiceClosed {
            payment_hash: facts.payment_hash,
            redeemed_until: Some(invoice.redeem_by),
        });
        self.event(Event::PaymentVerified {
            payment_hash: facts.payment_hash,
            invoice: Some(paid.clone()),
            credit_msat: invoice.credit_msat,
            treasury_msat: invoice.treasury_msat,
        });
        Ok(())
    }

    /// All is paid: makes the session and hands the open on, or acknowledges it.
    #[allow(clippy::result_large_err)] // the error is the open itself, handed back to be refused
    fn finish_open(&mut self, now: Now, pending: PendingOpen) -> Result<(), (PendingOpen, DropReason)> {
        match self.prepare(&pending) {
            Ok((account, price_msat, next)) => {
                self.establish(now, pending, account, price_msat, next);
                Ok(())
            }
            Err(reason) => Err((pending, reason)),
        }
    }

    fn prepare(
        &mut self,
        pending: &PendingOpen,
    ) -> Result<(Option<AccountSlot>, u64, Option<Neighbour>), DropReason> {
        let quote = self.quotes.key(&pending.quote).ok_or(DropReason::UnknownQuote)?;
        // Another open may have used the quote while this one's proof was being checked.
        if quote.opened.is_some() {
            return Err(DropReason::DifferingOpen);
        }
        let (price_msat, key) = (quote.record.price_msat, quote.record.account);
        let previous = self.neighbours.get(pending.from).ok_or(DropReason::WrongHop)?;
        if previous.references() >= MAX_SESSIONS_PER_NEIGHBOUR {
            return Err(DropReason::TableFull);
        }
        let next = match &pending.hop_box.next {
            Some(next) => Some(self.neighbours.by_id(next).ok_or(DropReason::NextHopGone)?),
            None => None,
        };
        self.sessions.check_room()?;
        if price_msat > 0 {
            let slot = self.accounts.slot(&key)?;
            if self.accounts.balance_msat(slot) < price_msat {
                return Err(DropReason::PaymentMissing);
            }
            return Ok((Some(slot), price_msat, next));
        }
        let state = self
            .neighbours
            .get_mut(pending.from)
            .ok_or(DropReason::WrongHop)?;
        if state.free_sessions >= MAX_FREE_SESSIONS_PER_NEIGHBOUR {
            return Err(DropReason::TableFull);
        }
        state.free_sessions += 1;
        Ok((None, 0, next))
    }

    fn establish(
        &mut self,
        now: Now,
        pending: PendingOpen,
        account: Option<AccountSlot>,
        price_msat: u64,
        next: Option<Neighbour>,
    ) {
        let PendingOpen {
            frame,
            from,
            index,
            hops,
            transcript,
            hop_box,
            secret,
            quote,
        } = pending;
        let mut id = SessionId([0; 16]);
        id.0.copy_from_slice(&transcript[..16]);
        let end = hop_box.destination.map(|destination| {
            Box::new(DestinationEnd {
                source: destination.source.map(|(source, _)| source),
                payload: PayloadSeal::new(&secret.data_key(&id), hop_box.class.is_in_clear()),
                back: PayloadSeal::Sealed(secret.back_cipher(&id)),
                back_tag_keys: destination
                    .back_secrets
                    .iter()
                    .map(|s| TagKey::of_back_secret(s, &id))
                    .collect(),
                back_sequence: 0,
                bytes: 0,
                highest_sequence: 0,
                receipted: 0,
                receipt_due: false,
            })
        });
        let is_destination = end.is_some();
        let session = HopSession {
            index,
            hops,
            previous: from,
            next,
            class: hop_box.class,
            price_msat,
            account,
            transcript,
            tag_key: secret.tag_key(&id),
            back_tag_key: TagKey::of_back_secret(&secret.back_secret(), &id),
            errors: secret.error_cipher(&id),
            window: SequenceWindow::new(),
            back_window: SequenceWindow::new(),
            expires: hop_box.expires,
            back_allowance: HopSession::FIRST_BACK_ALLOWANCE,
            packets: 0,
            units: 0,
            last_packet: now.instant,
            closing: false,
            last_error: None,
            end,
        };
        self.neighbours.retain(from);
        if let Some(next) = next {
            self.neighbours.retain(next);
        }
        self.sessions.insert(id, session);
        self.set_timer(now.instant + (hop_box.expires - now.unix), Timer::SessionEnds(id));
        self.set_timer(now.instant + SESSION_IDLE, Timer::SessionIdle(id));
        // The key is erased from the store before the open is seen elsewhere: after a crash nobody can open the same
        // session again and have its old packets count a second time.
        self.quotes.mark_opened(&quote, transcript);
        self.persist(Record::QuoteKeyErased(quote));
        self.event(Event::SessionOpened {
            session: id,
            is_destination,
        });
        if is_destination {
            self.send_back(&id, &BackMessage::OpenAck);
        } else if let Some(link) = next.and_then(|next| self.neighbours.link_of(next)) {
            self.transmit(link, Channel::Control, advance(&frame));
        }
    }

    /// Tells the source why this hop does not open its session: it has proved to hold the account key.
    fn refuse_open(&mut self, pending: &PendingOpen, reason: DropReason) -> DropReason {
        let mut id = SessionId([0; 16]);
        id.0.copy_from_slice(&pending.transcript[..16]);
        let account = self.quotes.key(&pending.quote).map(|quote| quote.record.account);
        let credit_msat = account.map_or(0, |account| self.accounts.balance_of(&account));
        let refusal = HopRefusal { reason, credit_msat };
        // The counter must differ from any used before under this key, also for a repetition of this open.
        let counter = self.entropy.u64();
        let frame = build_hop_error(
            &id,
            pending.index,
            &pending.secret.error_cipher(&id),
            counter,
            &refusal,
        );
        if let Some(link) = self.neighbours.link_of(pending.from) {
            self.transmit(link, Channel::Control, frame);
        }
        reason
    }
}
