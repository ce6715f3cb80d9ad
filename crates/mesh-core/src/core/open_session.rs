//! As source: opening sessions, sending over them, and what comes back.

use std::time::Duration;

use bytes::Bytes;

use crate::chain::bill_of;
use crate::drop_reason::DropReason;
use crate::event::{Answer, Channel, Event, OpenedSession, Output, Refusal, SessionState};
use crate::identity::NodeId;
use crate::keys::{DhSecret, SessionId};
use crate::limits::{
    ACCOUNT_LEASE_MSAT, CLOCK_SKEW, MAX_OWN_SESSIONS, MAX_PACKETS_PER_COMMAND, MAX_PAYLOAD_BYTES,
    OPEN_TIMEOUT, RETRY_INTERVAL, SESSION_IDLE, SESSION_LIFETIME, TOP_UP_RETRY,
};
use crate::neighbours::Neighbour;
use crate::open::{BackMessage, HopErrorView, HopPlan, OpenPlan};
use crate::packet::{PacketId, PacketView, units_of_packet};
use crate::payer::{KeptFunded, Opening, OwnSession, TopUp};
use crate::payment_proof::PaymentProof;
use crate::receipt_watch::ReceiptWatch;
use crate::time::Now;

use super::{Core, Timer};

/// Opening.
impl Core {
    pub(super) fn open_session(&mut self, now: Now, opening: Opening) -> Result<(), Box<Refusal>> {
        self.try_open(now, opening).map_err(Refusal::own)
    }

    fn try_open(&mut self, now: Now, opening: Opening) -> Result<(), DropReason> {
        if self.payer.sessions.len() >= MAX_OWN_SESSIONS {
            return Err(DropReason::TableFull);
        }
        let ephemeral = DhSecret::new(self.entropy.bytes32())?;
        // Quotes open one session: whatever comes of this one, the next needs fresh ones.
        let set = self
            .payer
            .quote_sets
            .remove(&opening.quotes)
            .ok_or(DropReason::UnknownQuote)?;
        let accepted = set.quotes.iter().flatten();
        let hops: Vec<HopPlan> = accepted
            .clone()
            .zip(&set.accounts)
            .zip(&opening.proofs)
            .map(|((accepted, account), proof)| HopPlan {
                node: accepted.quote.payee,
                quote_id: accepted.quote.id(),
                quote_key: accepted.quote.key,
                account: account.clone(),
                proof: proof.clone(),
            })
            .collect();
        let expires = now.unix + SESSION_LIFETIME;
        let source = opening.sign_as_source.then_some(&self.identity);
        let (frame, source) = OpenPlan {
            hops: &hops,
            class: set.request.class,
            expires,
            ephemeral,
            source,
        }
        .build()?;
        let id = source.id();
        let session = OwnSession {
            id,
            name: id,
            source,
            path: set.request.certificate.path.clone(),
            sellers: set.request.certificate.sellers(),
            prices_msat: accepted.map(|accepted| accepted.quote.price_msat).collect(),
            shown: opening
                .proofs
                .iter()
                .map(|proof| proof.as_ref().and_then(hash_of_shown))
                .collect(),
            redemptions: self.redemptions_at(set.payees()),
            expires,
            opening: Some((opening.command, frame)),
            paid: opening.paid,
            ration: opening.ration,
            caller: opening.caller,
            kept: opening
                .limits
                .filter(|_| opening.keep_funded)
                .map(|limits| KeptFunded {
                    limits,
                    class: set.request.class,
                    sign_as_source: opening.sign_as_source,
                    units: set.request.units,
                    next_units: set.request.units,
                    next_msat_per_unit: set.request.total_msat.div_ceil(set.request.units.max(1)),
                    top_up: TopUp::None,
                    pause: TOP_UP_RETRY,
                }),
            packets: 0,
            units: 0,
            last_packet: now.instant,
            closing: false,
            receipt: None,
            credited_units: 0,
            watch: ReceiptWatch::default(),
        };
        self.payer.sessions.insert(id, session);
        self.set_timer(now.instant + OPEN_TIMEOUT, Timer::OpenEnds(id));
        self.retry_open(now, &id);
        Ok(())
    }

    /// Sends the open, or sends it again: hops that know it credit nothing and pass it on.
    pub(super) fn retry_open(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.payer.sessions.get_mut(id) else {
            return;
        };
        let Some((_, frame)) = &session.opening else {
            return;
        };
        session.watch.open_sent();
        let (frame, first) = (frame.clone(), session.path.get(1).copied());
        match first.and_then(|first| self.neighbours.link_to(&first)) {
            Some(link) => self.transmit(link, Channel::Control, frame),
            None => self.count(DropReason::NextHopGone),
        }
        self.set_timer(now.instant + RETRY_INTERVAL, Timer::OpenRetry(*id));
    }

    pub(super) fn open_timed_out(&mut self, now: Now, id: &SessionId) {
        let waiting = self
            .payer
            .sessions
            .get(id)
            .is_some_and(|session| session.opening.is_some());
        if !waiting {
            return;
        }
        let Some(session) = self.payer.sessions.remove(id) else {
            return;
        };
        self.routes.cache.forget(&session.path);
        self.blame.note_silent(&session.path, now.instant);
        if let Some((command, _)) = session.opening {
            self.answer(command, Err(Refusal::own(DropReason::Timeout)));
        }
    }

    /// The first `accepted` hops of a session let the open pass, so what they were shown is redeemed.
    fn note_redeemed(&mut self, now: Now, path: &[NodeId], shown: &[Option<[u8; 32]>], accepted: usize) {
        for (payee, payment_hash) in path.iter().skip(1).zip(shown).take(accepted) {
            let Some(payment_hash) = payment_hash else {
                continue;
            };
            self.redeemed_at(now.unix, payee, payment_hash);
            self.bill_redeemed_at(now.unix, payee, payment_hash);
        }
    }

    fn redemptions_at(&self, payees: &[NodeId]) -> Vec<u64> {
        payees
            .iter()
            .map(|payee| self.payer.purses.redemptions(payee))
            .collect()
    }
}

/// Whether a payee that gives this reason will give it again for the same payment.
fn is_final(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::InvoiceInvalid
            | DropReason::InvoiceNotMine
            | DropReason::WrongNetwork
            | DropReason::ProofExpired
            | DropReason::WrongPreimage
            | DropReason::Underpaid
            | DropReason::WrongAccountKey
            | DropReason::ProofKindRefused
            | DropReason::OutputMismatch
            | DropReason::FundingSpent
            | DropReason::TemplateMismatch
    )
}

/// The payment hash of a proof as it is shown.
pub(super) fn hash_of_shown(proof: &PaymentProof) -> Option<[u8; 32]> {
    match proof {
        PaymentProof::Lightning { preimage, .. } => {
            Some(<sha2::Sha256 as sha2::Digest>::digest(preimage).into())
        }
        proof => bill_of(proof),
    }
}

/// Looking.
impl Core {
    pub(super) fn session_state(&self, name: &SessionId) -> Result<SessionState, DropReason> {
        self.payer.state(name).ok_or(DropReason::UnknownSession)
    }
}

/// Sending.
impl Core {
    pub(super) fn send(
        &mut self,
        now: Now,
        id: &SessionId,
        protocol_id: &str,
        payload: &Bytes,
        ttl: Duration,
    ) -> Result<(PacketId, u64), DropReason> {
        let id = &self.payer.current(id);
        let session = self
            .payer
            .sessions
            .get_mut(id)
            .filter(|session| !session.closing)
            .ok_or(DropReason::UnknownSession)?;
        if session.opening.is_some() {
            return Err(DropReason::BadCommand);
        }
        if session.expires < now.unix {
            return Err(DropReason::Expired);
        }
        if session.watch.is_silent() {
            return Err(DropReason::SessionSilent);
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(DropReason::Oversize);
        }
        let first = session.path.get(1).ok_or(DropReason::BadRoute)?;
        let link = self.neighbours.link_to(first).ok_or(DropReason::NextHopGone)?;
        // As the hops count: a unit counted beyond theirs would be credit that nobody ever spends.
        let units = units_of_packet(protocol_id, payload);
        if let Some(ration) = session.ration {
            self.spending
                .allows_packet(ration.msat_per_unit.saturating_mul(units))
                .map_err(|_| DropReason::LimitReached)?;
            if session.units.saturating_add(units) > ration.units {
                return Err(self.out_of_credit(now, id));
            }
        }
        let costs: Vec<u64> = session
            .prices_msat
            .iter()
            .map(|price| price.saturating_mul(units))
            .collect();
        let payees = session.path.get(1..).unwrap_or_default();
        for (payee, cost) in payees.iter().zip(&costs) {
            if self.payer.purses.at(payee)?.credit_msat < *cost {
                return Err(self.out_of_credit(now, id));
            }
        }
        let expiry = (now.unix + ttl).min(session.expires);
        let sequence = session.source.packets();
        let (frame, packet_id) = session.source.packet(protocol_id, payload, expiry)?;
        session.packets += 1;
        let kept_funded = session.kept.is_some();
        session.units = session.units.saturating_add(units);
        session.last_packet = now.instant;
        let receipt_overdue_at = session.watch.sent(units, now.instant);
        let mut leases = Vec::new();
        for (payee, cost) in payees.iter().zip(&costs) {
            let purse = self.payer.purses.at(payee)?;
            purse.credit_msat -= cost;
            // Written down behind the draw: after a crash the payer may believe to hold a lease more than it does,
            // and is told better by the first refusal.
            if purse.unwritten_msat() >= ACCOUNT_LEASE_MSAT {
                leases.push(*payee);
            }
        }
        self.outputs.push_back(Output::Forward { link, frame });
        for payee in leases {
            self.write_spent(now.unix, &payee, false);
        }
        if let Some(at) = receipt_overdue_at {
            self.set_timer(at, Timer::ReceiptOverdue(*id));
        }
        if kept_funded {
            self.top_up_if_due(now, id);
        }
        Ok((packet_id, sequence))
    }

    /// Why a packet cannot be paid for: for now, while the next slice is being bought, or at all.
    fn out_of_credit(&mut self, now: Now, id: &SessionId) -> DropReason {
        self.top_up_if_due(now, id);
        if self.is_being_topped_up(now, id) {
            DropReason::CreditComing
        } else {
            DropReason::CreditSpent
        }
    }

    /// Sends until one packet is refused: those behind it would most likely be refused as well, and in any case would
    /// arrive without the one they follow.
    pub(super) fn send_many(
        &mut self,
        now: Now,
        id: &SessionId,
        protocol_id: &str,
        payloads: &[Bytes],
        ttl: Duration,
    ) -> Result<Answer, DropReason> {
        let bytes = payloads.iter().map(Bytes::len).fold(0, usize::saturating_add);
        if payloads.len() > MAX_PACKETS_PER_COMMAND || bytes > MAX_PAYLOAD_BYTES {
            return Err(DropReason::Oversize);
        }
        let mut packet_ids = Vec::with_capacity(payloads.len());
        for payload in payloads {
            match self.send(now, id, protocol_id, payload, ttl) {
                Ok((packet_id, _)) => packet_ids.push(packet_id),
                Err(reason) => {
                    self.drop_own(reason);
                    return Ok(Answer::SentMany {
                        packet_ids,
                        refused: Some(reason),
                    });
                }
            }
        }
        Ok(Answer::SentMany {
            packet_ids,
            refused: None,
        })
    }
}

/// What comes back.
impl Core {
    pub(super) fn on_own_back(
        &mut self,
        now: Now,
        from: Neighbour,
        view: &PacketView<'_>,
    ) -> Result<(), DropReason> {
        let from = self.id_of(from)?;
        let session = self
            .payer
            .sessions
            .get_mut(&view.session)
            .ok_or(DropReason::UnknownSession)?;
        if session.path.get(1) != Some(&from) {
            return Err(DropReason::WrongHop);
        }
        match session.source.open_back(view)? {
            BackMessage::OpenAck => {
                let Some((command, _)) = session.opening.take() else {
                    return Ok(());
                };
                let opened = OpenedSession {
                    session: session.id,
                    path: session.path.clone(),
                    paid: std::mem::take(&mut session.paid),
                    expires: session.expires,
                };
                let (path, shown) = (session.path.clone(), session.shown.clone());
                self.set_timer(
                    now.instant + (opened.expires - now.unix),
                    Timer::OwnSessionEnds(opened.session),
                );
                self.set_timer(
                    now.instant + SESSION_IDLE.saturating_sub(CLOCK_SKEW),
                    Timer::OwnSessionIdle(opened.session),
                );
                self.note_redeemed(now, &path, &shown, shown.len());
                let redemptions = self.redemptions_at(path.get(1..).unwrap_or_default());
                if let Some(session) = self.payer.sessions.get_mut(&view.session) {
                    session.redemptions = redemptions;
                }
                self.answer(command, Ok(Answer::Opened(Box::new(opened))));
                Ok(())
            }
            BackMessage::Receipt(receipt) => {
                let destination = session.path.last().ok_or(DropReason::BadRoute)?;
                if receipt.session != session.id || !receipt.verify(destination, self.signatures.as_ref()) {
                    // It came sealed: the destination's fault, and no neighbour could have seen it.
                    return Err(DropReason::PayloadAltered);
                }
                // Cumulative and monotonic: an older receipt that was overtaken says nothing new.
                if session
                    .receipt
                    .as_ref()
                    .is_some_and(|known| known.packets >= receipt.packets)
                {
                    return Err(DropReason::Duplicate);
                }
                session.receipt = Some(receipt.clone());
                self.note_receipt(now, &receipt, view.frame_bytes());
                self.event(Event::Receipt(receipt));
                Ok(())
            }
        }
    }

    pub(super) fn on_own_error(
        &mut self,
        now: Now,
        from: Neighbour,
        view: &HopErrorView<'_>,
    ) -> Result<(), DropReason> {
        let from = self.id_of(from)?;
        let session = self
            .payer
            .sessions
            .get_mut(&view.session)
            .ok_or(DropReason::UnknownSession)?;
        if session.path.get(1) != Some(&from) {
            return Err(DropReason::WrongHop);
        }
        let refusal = session.source.open_error(view)?;
        session.watch.refused();
        let place = usize::from(view.hop);
        let hop = *session.path.get(place + 1).ok_or(DropReason::BadRoute)?;
        let (path, shown, id) = (session.path.clone(), session.shown.clone(), session.id);
        let redemptions = session.redemptions.clone();
        let seller = session.sellers.get(place).copied();
        let was_opening = session.opening.is_some();
        self.event(Event::HopRefused {
            session: id,
            hop,
            refusal,
        });
        self.forget_broken(&path, &hop, refusal.reason);
        // The hop knows best what is left there, but an error that was held back or repeated speaks of the past: after
        // a later payment it would have the payer forget what he just bought.
        let credit_is_current = redemptions.get(place) == Some(&self.payer.purses.redemptions(&hop));
        if was_opening {
            // A hop that misses payment has credited what it was shown; one that redeemed it before will not again.
            let redeemed_there = matches!(
                refusal.reason,
                DropReason::AlreadyRedeemed | DropReason::PaymentMissing
            );
            self.note_redeemed(now, &path, &shown, place + usize::from(redeemed_there));
            if let Some(Some(payment_hash)) = shown.get(place)
                && is_final(refusal.reason)
            {
                self.payer.purses.set_aside(&hop, payment_hash);
            }
        }
        let credit_is_short = matches!(
            refusal.reason,
            DropReason::CreditSpent | DropReason::PaymentMissing
        );
        if credit_is_short && credit_is_current {
            let denied_msat = self.deny(now.unix, &hop, refusal.credit_msat);
            // After a crash this node may itself believe a lease too much: that is nobody's theft.
            if let Some(seller) = seller {
                let lost_msat = denied_msat.saturating_sub(ACCOUNT_LEASE_MSAT);
                self.losses.note(hop, seller, lost_msat, now.instant);
            }
        }
        if was_opening {
            self.routes.cache.forget(&path);
            if let Some((command, _)) = self
                .payer
                .sessions
                .remove(&id)
                .and_then(|session| session.opening)
            {
                self.answer(command, Err(Refusal::by(refusal.reason, hop)));
            }
        }
        Ok(())
    }
}
