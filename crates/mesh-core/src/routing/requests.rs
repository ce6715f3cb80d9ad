//! Requests for a fresh seqno: this node's own, repeated until they are no longer needed, and those it hands on.

use std::time::Duration;

use crate::limits::{
    DETOUR_DELAY, DETOUR_INTERVAL_MOST, MAX_REQUESTERS, REQUEST_INTERVAL, REQUEST_INTERVAL_MOST,
    REQUEST_SUPPRESSION, STARVING_DELAY,
};
use crate::routing::plane::{Need, Slot};
use crate::time::Instant;

/// A seqno this node wants.
#[derive(Debug)]
pub(super) struct Wanted {
    /// When to ask next.
    pub(super) ask_at: Instant,
    /// How often it was asked for.
    pub(super) asked: u32,
    /// Whether there was no route at all when it was last looked at.
    pub(super) starving: bool,
}

impl Wanted {
    /// A new want.
    pub(super) fn new(need: Need, now: Instant, jitter: Duration) -> Self {
        Self {
            ask_at: now + first_delay(need) + jitter,
            asked: 0,
            starving: need == Need::Starving,
        }
    }

    /// The need changed: who starves now asks earlier than it meant to.
    pub(super) fn became(&mut self, need: Need, now: Instant, jitter: Duration) {
        let starves_now = need == Need::Starving && !self.starving;
        self.starving = need == Need::Starving;
        if starves_now {
            self.ask_at = self.ask_at.min(now + first_delay(need) + jitter);
        }
    }

    /// It was asked for; when to ask again.
    pub(super) fn was_asked(&mut self, now: Instant, jitter: Duration) {
        let doubled = REQUEST_INTERVAL.saturating_mul(1 << self.asked.min(8));
        self.asked += 1;
        let pause = if self.starving {
            doubled.min(REQUEST_INTERVAL_MOST)
        } else {
            DETOUR_DELAY.max(doubled).min(DETOUR_INTERVAL_MOST)
        };
        self.ask_at = now + pause + jitter;
    }
}

fn first_delay(need: Need) -> Duration {
    match need {
        Need::Starving => STARVING_DELAY,
        Need::Detour | Need::None => DETOUR_DELAY,
    }
}

/// A seqno that neighbours want and that this node has asked for on their behalf.
#[derive(Debug)]
pub(super) struct Handed {
    seqno: u64,
    at: Instant,
    waiting: Vec<Slot>,
}

impl Handed {
    pub(super) fn new(seqno: u64, at: Instant, from: Slot) -> Self {
        Self {
            seqno,
            at,
            waiting: vec![from],
        }
    }

    /// A further request; whether it is to be handed on. The same one is not, for a moment: a hundred starving
    /// neighbours are served by one answer.
    pub(super) fn again(&mut self, seqno: u64, now: Instant, from: Slot) -> bool {
        if !self.waiting.contains(&from) && self.waiting.len() < MAX_REQUESTERS {
            self.waiting.push(from);
        }
        let fresh = seqno > self.seqno || now - self.at >= REQUEST_SUPPRESSION;
        if fresh {
            self.seqno = self.seqno.max(seqno);
            self.at = now;
        }
        fresh
    }

    /// Those who wait for a seqno up to this one; none while it is older than what they want.
    pub(super) fn served_by(&self, seqno: u64) -> Option<&[Slot]> {
        (seqno >= self.seqno).then_some(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    #[test]
    fn requests_are_repeated_ever_more_slowly_and_never_given_up() {
        let mut wanted = Wanted::new(Need::Starving, Instant(0), NONE);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let now = wanted.ask_at;
            wanted.was_asked(now, NONE);
            pauses.push((wanted.ask_at - now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16]);
    }

    #[test]
    fn a_node_that_lost_its_last_route_does_not_wait_as_for_a_detour() {
        let mut wanted = Wanted::new(Need::Detour, Instant(0), NONE);
        assert_eq!(wanted.ask_at, Instant(0) + DETOUR_DELAY);
        wanted.became(Need::Starving, Instant(0), NONE);
        assert_eq!(wanted.ask_at, Instant(0) + STARVING_DELAY);
        wanted.became(Need::Starving, Instant(50), NONE);
        assert_eq!(wanted.ask_at, Instant(0) + STARVING_DELAY);
    }

    #[test]
    fn many_who_want_the_same_are_served_by_one_request() {
        let mut handed = Handed::new(5, Instant(0), 1);
        assert!(!handed.again(5, Instant(1), 2));
        assert!(!handed.again(4, Instant(2), 3));
        assert_eq!(handed.served_by(4), None);
        assert_eq!(handed.served_by(5), Some([1, 2, 3].as_slice()));
        assert!(handed.again(6, Instant(3), 2), "a later seqno is another request");
        assert!(
            handed.again(6, Instant(3) + REQUEST_SUPPRESSION, 2),
            "and it may have been lost"
        );
        for slot in 0..100 {
            handed.again(6, Instant(4), slot);
        }
        assert_eq!(handed.served_by(6).map(<[Slot]>::len), Some(MAX_REQUESTERS));
    }
}
