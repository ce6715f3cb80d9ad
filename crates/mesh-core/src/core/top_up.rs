//! As source: the next slice is bought before the one before runs out, so that a stream of packets never stalls.
//!
//! A top-up is what a careful caller would do himself: quotes along the route, payments, an open; only that the core gives
//! itself the commands. Credit belongs to accounts and not to sessions, so the stream goes on over the old session until the
//! new one is acknowledged, and then over the new one under the old name. The old one is closed.
//!
//! Slices are small at first and double as receipts come. The next is bought only when the destination has receipted a
//! quarter of the one before: whoever takes the money and carries nothing takes what is left of one slice.

use std::time::Duration;

use crate::chain::PaymentMethod;
use crate::drop_reason::DropReason;
use crate::event::{Answer, Buying, Command, CommandId, Event, Funding, QuotedSlice, Refusal};
use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::limits::{
    CLOSE_LINGER, DISCOVERY_TIMEOUT, MAX_HOPS, MAX_SLICE_UNITS, QUOTE_TIMEOUT, RENEW_SESSION_BEFORE,
    TOP_UP_RETRY, TOP_UP_RETRY_MOST,
};
use crate::message::QuoteRequest;
use crate::payer::{KeptFunded, OwnSession, TopUp};
use crate::routing_policy::TrafficClass;
use crate::spending::Caller;
use crate::time::Now;

use super::{Core, Timer};

/// Marks the ids of commands that the core gives itself; the hands count from 1.
const OWN_COMMAND: u64 = 1 << 63;

/// When.
impl Core {
    /// Begins a top-up if it is time for one and none is under way.
    pub(super) fn top_up_if_due(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.payer.sessions.get(id).filter(|session| !session.closing) else {
            return;
        };
        let Some(kept) = &session.kept else { return };
        let waits = match kept.top_up {
            TopUp::None => false,
            TopUp::UnderWay { .. } => true,
            TopUp::NotBefore(at) => at > now.instant,
        };
        if waits || session.opening.is_some() || session.watch.is_silent() {
            return;
        }
        let runs_out = self.is_low(session, kept) && is_receipted(session, kept);
        let ends = session.expires < now.unix + RENEW_SESSION_BEFORE;
        if runs_out || ends {
            if let Some(kept) = self
                .payer
                .sessions
                .get_mut(id)
                .and_then(|session| session.kept.as_mut())
            {
                kept.top_up = TopUp::UnderWay { searched: false };
            }
            self.quote_next(now, id, None);
        }
    }

    /// Whether credit for less than half a slice is left at some hop.
    fn is_low(&self, session: &OwnSession, kept: &KeptFunded) -> bool {
        let half_units = (kept.units / 2).max(1);
        let counted = session
            .ration
            .map(|ration| ration.units.saturating_sub(session.units));
        if counted.is_some_and(|units| units < half_units) {
            return true;
        }
        let payees = session.path.iter().skip(1);
        payees.zip(&session.prices_msat).any(|(payee, price)| {
            let half = price.saturating_mul(half_units);
            self.payer.purses.credit_msat(payee) < half
        })
    }

    /// Whether a session lacks credit for now only: the next slice is being bought, or will be as soon as receipts come.
    pub(super) fn is_being_topped_up(&self, now: Now, id: &SessionId) -> bool {
        let session = self.payer.sessions.get(id);
        let kept = session.and_then(|session| session.kept.as_ref());
        kept.is_some_and(|kept| !matches!(kept.top_up, TopUp::NotBefore(at) if at > now.instant))
    }
}

/// Whether enough of the present slice was carried to buy the next.
fn is_receipted(session: &OwnSession, kept: &KeptFunded) -> bool {
    let receipted = session.receipt.as_ref().map_or(0, |receipt| receipt.units);
    receipted >= kept.units / 4
}

/// How.
impl Core {
    /// Asks for the next slice, over the present route or another.
    fn quote_next(&mut self, now: Now, id: &SessionId, over: Option<Vec<NodeId>>) {
        let Some(session) = self.payer.sessions.get(id).filter(|session| !session.closing) else {
            return;
        };
        let Some(kept) = &session.kept else { return };
        let most = kept.units.saturating_mul(2).min(MAX_SLICE_UNITS);
        let max_total_msat = kept.limits.max_total_msat;
        let (path, class) = (over.unwrap_or_else(|| session.path.clone()), kept.class);
        let units = self.affordable(&path, class, most, max_total_msat, now);
        let command = Command::Quote {
            path,
            class,
            units,
            buying: Buying::WhereNeeded,
            method: PaymentMethod::Lightning,
            timeout: QUOTE_TIMEOUT,
        };
        self.command_oneself(now, *id, command);
    }

    /// The most units up to `most`, halving, that one purchase may cost. Where prices are not known the payees' quotes will
    /// tell.
    fn affordable(
        &self,
        path: &[NodeId],
        class: TrafficClass,
        most: u64,
        max_total_msat: u64,
        now: Now,
    ) -> u64 {
        let Some(route) = self.routes.cache.get(path, now.unix) else {
            return most;
        };
        let cost =
            |units| QuoteRequest::total_for(class, PaymentMethod::Lightning, &route.certificate, units).ok();
        let mut units = most.max(1);
        while units > 1 && cost(units).is_none_or(|total| total > max_total_msat) {
            units /= 2;
        }
        units
    }

    fn command_oneself(&mut self, now: Now, session: SessionId, command: Command) {
        self.own_commands += 1;
        let id = CommandId(OWN_COMMAND | self.own_commands);
        self.topping_up.insert(id, session);
        self.on_command(now, id, command);
    }

    /// What came of a command that the core gave itself.
    pub(super) fn top_up_step(
        &mut self,
        now: Now,
        session: SessionId,
        outcome: Result<Answer, Box<Refusal>>,
    ) {
        match outcome {
            Ok(Answer::Quoted(slice)) => self.buy_next(now, session, &slice),
            Ok(Answer::Opened(opened)) => self.go_on_over(now, &session, opened.session),
            Ok(Answer::Routes(routes)) => {
                let present = self
                    .payer
                    .sessions
                    .get(&session)
                    .map(|session| session.path.clone());
                let is_known = routes.iter().any(|route| Some(&route.path) == present.as_ref());
                let best = routes.into_iter().next().map(|route| route.path);
                self.quote_next(now, &session, best.filter(|_| !is_known));
            }
            Ok(_) => {}
            Err(refusal) => self.top_up_refused(now, &session, &refusal),
        }
    }

    fn buy_next(&mut self, now: Now, id: SessionId, slice: &QuotedSlice) {
        let Some(session) = self
            .payer
            .sessions
            .get_mut(&id)
            .filter(|session| !session.closing)
        else {
            return;
        };
        let Some(kept) = session.kept.as_mut() else { return };
        kept.next_units = slice.units;
        kept.next_msat_per_unit = slice.total_msat.div_ceil(slice.units.max(1));
        let command = Command::Open {
            quotes: slice.id,
            funding: funding(kept, session.caller.clone()),
            sign_as_source: kept.sign_as_source,
        };
        self.command_oneself(now, id, command);
    }

    /// The new session carries the stream from now on, under the old one's name.
    fn go_on_over(&mut self, now: Now, old_id: &SessionId, new_id: SessionId) {
        let old = self
            .payer
            .sessions
            .get_mut(old_id)
            .filter(|session| !session.closing);
        let Some((name, kept)) = old.map(|old| {
            old.closing = true;
            (old.name, old.kept.take())
        }) else {
            // Whoever sent over the old one has closed it meanwhile: what was bought stays credit.
            if let Err(reason) = self.close_own(now, &new_id) {
                self.count(reason);
            }
            return;
        };
        self.tell_hops_of_close(now, old_id);
        self.set_timer(now.instant + CLOSE_LINGER, Timer::OwnSessionGone(*old_id));
        self.payer.names.insert(name, new_id);
        let Some(new) = self.payer.sessions.get_mut(&new_id) else {
            return;
        };
        new.name = name;
        let msat_per_unit = kept.as_ref().map_or(0, |kept| kept.next_msat_per_unit);
        new.kept = kept.map(|kept| KeptFunded {
            units: kept.next_units,
            top_up: TopUp::None,
            pause: TOP_UP_RETRY,
            ..kept
        });
        let continued = Event::SessionContinued {
            session: name,
            by: new_id,
            path: new.path.clone(),
            prices_msat: new.prices_msat.clone(),
            msat_per_unit,
        };
        self.event(continued);
    }

    fn top_up_refused(&mut self, now: Now, id: &SessionId, refusal: &Refusal) {
        let Some(session) = self.payer.sessions.get_mut(id).filter(|session| !session.closing) else {
            return;
        };
        let (name, destination) = (session.name, session.path.last().copied());
        let Some(kept) = session.kept.as_mut() else { return };
        // The route was forgotten, or its prices have expired: looked for once, before this counts as a failure.
        if let (DropReason::NoRoute, TopUp::UnderWay { searched: false }, Some(destination)) =
            (refusal.reason, kept.top_up, destination)
        {
            kept.top_up = TopUp::UnderWay { searched: true };
            let command = Command::Discover {
                destination,
                max_hops: MAX_HOPS as u8,
                timeout: DISCOVERY_TIMEOUT,
                refresh: true,
            };
            return self.command_oneself(now, *id, command);
        }
        let again_at = now.instant + kept.pause;
        kept.top_up = TopUp::NotBefore(again_at);
        kept.pause = longer(kept.pause);
        self.set_timer(again_at, Timer::TopUp(*id));
        self.event(Event::TopUpFailed {
            session: name,
            reason: refusal.reason,
        });
    }
}

/// The next slice is paid as the first one was.
fn funding(kept: &KeptFunded, caller: Option<Caller>) -> Funding {
    let (max_total_msat, max_fee_msat) = (kept.limits.max_total_msat, kept.limits.max_fee_msat);
    match caller {
        None => Funding::Wallet {
            proofs: Vec::new(),
            max_total_msat,
            max_fee_msat,
            keep_funded: false,
        },
        Some(caller) => Funding::AutoPay {
            proofs: Vec::new(),
            caller,
            packet_units: 1,
            most_msat: kept.limits.most_msat,
            max_fee_msat,
            keep_funded: false,
        },
    }
}

fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).min(TOP_UP_RETRY_MOST)
}
