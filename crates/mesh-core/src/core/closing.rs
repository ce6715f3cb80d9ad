//! How sessions end: closed by their source, idle, or out of time, and never silently. Both sides' books say what was
//! done and what is left; the credit that is left stays the payer's.

use bytes::Bytes;

use crate::drop_reason::DropReason;
use crate::event::{Answer, Event, Output, Refusal};
use crate::keys::SessionId;
use crate::ledger::SessionMemo;
use crate::limits::{CLOCK_SKEW, CLOSE_LINGER, SESSION_IDLE};
use crate::packet::PacketView;
use crate::session::HopSession;
use crate::time::Now;

use super::{Core, Timer};

/// At a hop.
impl Core {
    /// The source says that it sends no more. The session lingers for what is still on its way back.
    pub(super) fn on_close(
        &mut self,
        now: Now,
        view: &PacketView<'_>,
        frame: &Bytes,
    ) -> Result<(), DropReason> {
        let session = self
            .sessions
            .get_mut(&view.session)
            .ok_or(DropReason::UnknownSession)?;
        // It costs nothing, so a second one would be carried for nothing.
        if session.closing {
            return Err(DropReason::Duplicate);
        }
        if let Some(end) = &session.end
            && view.open(&end.payload).is_none()
        {
            return Err(DropReason::PayloadAltered);
        }
        session.window.mark(view.sequence);
        session.closing = true;
        let next = session.next;
        let unreceipted = session
            .end
            .as_ref()
            .is_some_and(|end| session.packets > end.receipted);
        if let Some(link) = next.and_then(|next| self.neighbours.link_of(next)) {
            let frame = frame.clone();
            self.outputs.push_back(Output::Forward { link, frame });
        }
        if unreceipted {
            self.send_receipt(&view.session);
        }
        self.set_timer(now.instant + CLOSE_LINGER, Timer::SessionEnds(view.session));
        Ok(())
    }

    /// Ends a session without traffic, or looks again when it would be without for long enough.
    pub(super) fn end_if_idle(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let idle_at = session.last_packet + SESSION_IDLE;
        if idle_at <= now.instant {
            self.end_session(now, id);
        } else {
            self.set_timer(idle_at, Timer::SessionIdle(*id));
        }
    }

    /// A session's time is over: its keys are erased, its credit stays.
    pub(super) fn end_session(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.sessions.remove(id) else {
            return;
        };
        self.release_neighbours(&session);
        if let Some(account) = session.account {
            if let Some(lease) = self.accounts.lease(account) {
                self.write_lease(now.unix, &lease);
            }
            let memo = SessionMemo {
                packets: session.packets,
                units: session.units,
                spent_msat: session.units.saturating_mul(session.price_msat),
                left_msat: self.accounts.balance_msat(account),
                receipted: session.end.as_ref().map_or(0, |end| end.receipted),
            };
            self.book_closed(now.unix, *id, memo);
        }
        self.event(Event::SessionClosed { session: *id });
    }

    fn release_neighbours(&mut self, session: &HopSession) {
        if session.account.is_none()
            && let Some(state) = self.neighbours.get_mut(session.previous)
        {
            state.free_sessions = state.free_sessions.saturating_sub(1);
        }
        self.neighbours.release(session.previous);
        if let Some(next) = session.next {
            self.neighbours.release(next);
        }
    }
}

/// At the source.
impl Core {
    /// Ends the session that is known by this id.
    pub(super) fn close_named(&mut self, now: Now, name: &SessionId) -> Result<Answer, DropReason> {
        let id = self.payer.current(name);
        self.close_own(now, &id)
    }

    /// Ends a session of one's own and tells its hops. It lingers, unusable, for the last receipt.
    pub(super) fn close_own(&mut self, now: Now, id: &SessionId) -> Result<Answer, DropReason> {
        let session = self
            .payer
            .sessions
            .get_mut(id)
            .filter(|session| !session.closing)
            .ok_or(DropReason::UnknownSession)?;
        if let Some((command, _)) = session.opening.take() {
            self.payer.sessions.remove(id);
            self.answer(command, Err(Refusal::own(DropReason::BadCommand)));
            self.event(Event::SessionClosed { session: *id });
            return Ok(Answer::Done);
        }
        session.closing = true;
        let name = session.name;
        if session.expires > now.unix {
            self.tell_hops_of_close(now, id);
        }
        self.set_timer(now.instant + CLOSE_LINGER, Timer::OwnSessionGone(*id));
        self.event(Event::SessionClosed { session: name });
        Ok(Answer::Done)
    }

    /// A close that is lost is no harm: hops end idle sessions by themselves.
    pub(super) fn tell_hops_of_close(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.payer.sessions.get_mut(id) else {
            return;
        };
        let expiry = session.expires.min(now.unix + CLOCK_SKEW);
        let link = session
            .path
            .get(1)
            .and_then(|first| self.neighbours.link_to(first));
        match (link, session.source.close(expiry)) {
            (Some(link), Ok(frame)) => self.outputs.push_back(Output::Forward { link, frame }),
            (None, _) => self.count(DropReason::NextHopGone),
            (_, Err(reason)) => self.count(reason),
        }
    }

    pub(super) fn close_own_if_idle(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.payer.sessions.get(id) else {
            return;
        };
        // Earlier than the hops, so that they hear of it instead of ending it by themselves.
        let idle_at = session.last_packet + SESSION_IDLE.saturating_sub(CLOCK_SKEW);
        if idle_at > now.instant {
            self.set_timer(idle_at, Timer::OwnSessionIdle(*id));
        } else if let Err(reason) = self.close_own(now, id) {
            self.count(reason);
        }
    }

    /// The last receipt has come, or will not come any more.
    pub(super) fn forget_own(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.payer.sessions.remove(id) else {
            return;
        };
        if self.payer.names.get(&session.name) == Some(id) {
            self.payer.names.remove(&session.name);
        }
        let payees = session.path.get(1..).unwrap_or_default();
        for payee in payees {
            self.write_spent(now.unix, payee, false);
        }
        if session.prices_msat.iter().all(|price| *price == 0) {
            return;
        }
        let left = payees.iter().map(|payee| self.payer.purses.credit_msat(payee));
        let memo = SessionMemo {
            packets: session.packets,
            units: session.units,
            spent_msat: session
                .prices_msat
                .iter()
                .map(|price| price.saturating_mul(session.units))
                .fold(0, u64::saturating_add),
            left_msat: left.fold(0, u64::saturating_add),
            receipted: session.receipt.as_ref().map_or(0, |receipt| receipt.packets),
        };
        self.book_closed(now.unix, *id, memo);
    }
}
