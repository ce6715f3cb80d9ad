//! This node as a destination: its announcement, and the seqnos that others ask it for.

use bytes::Bytes;

use crate::announcement::Head;
use crate::limits::{SEQNO_BURST, SEQNO_INTERVAL, UPDATE_DELAY};
use crate::routing::exchange::Index;
use crate::routing::pace::{Pace, PaceLimit};
use crate::routing::update::Plane;
use crate::time::Instant;

use super::{Destination, DistanceVector, Due, News};

/// How often this node makes a seqno because others asked.
const SEQNO_PACE: PaceLimit = PaceLimit {
    interval: SEQNO_INTERVAL,
    burst: SEQNO_BURST,
};

impl DistanceVector {
    /// This node announces itself with this head. `fresh` are the planes in which routes to it become fresher: others
    /// keep the seqno they have, since a new price or neighbour is no news for routing.
    pub fn announce(&mut self, head: Head, body: Bytes, fresh: &[Plane], now: Instant) {
        let first = self.own.is_none();
        let index = match self.own {
            Some(index) => index,
            None => self.insert_own(head, body.clone()),
        };
        let Some(destination) = self.destination_mut(index) else {
            return;
        };
        // What somebody asked for is the number alone. A refresh brings everything: who was without a valid announcement
        // for a while, because a clock was wrong, has forgotten the body too.
        let with_body = first || fresh.is_empty() || destination.head.body_digest != head.body_digest;
        destination.head = head;
        destination.body = Some(body);
        for plane in Plane::ALL {
            if first || fresh.contains(&plane) {
                self.own_seqnos[plane.index()] = head.seqno;
                self.wanted_seqnos[plane.index()] = false;
            }
        }
        let at = now + UPDATE_DELAY;
        for slot in self.slots() {
            let Some(exchange) = self.exchange_mut(slot) else {
                continue;
            };
            exchange.set_has(index, false, with_body.then_some(false));
            exchange.mark(index, None, at);
            for plane in Plane::ALL {
                if first || fresh.contains(&plane) {
                    exchange.mark(index, Some(plane), at);
                }
            }
            self.arm(slot);
        }
    }

    fn insert_own(&mut self, head: Head, body: Bytes) -> Index {
        let own = Destination {
            id: self.me,
            head,
            body: Some(body),
            alive: true,
            planes: Default::default(),
            changed: false,
            introduced_by: self.me,
            // Its own announcement never expires here: it is made anew long before.
            ends_at: Instant(u64::MAX),
            spread: Pace::default(),
            spreading: false,
            rounds: 0,
        };
        let index = self.insert(own);
        self.own = Some(index);
        index
    }

    /// Somebody asked this node for a seqno above the present one.
    pub(super) fn want_seqno(&mut self, plane: Plane, now: Instant) {
        if !std::mem::replace(&mut self.wanted_seqnos[plane.index()], true) {
            let at = self.seqno_pace.allowed_at(SEQNO_PACE).max(now);
            self.timers.insert((at, Due::Seqno));
        }
    }

    pub(super) fn seqno_due(&mut self, now: Instant) {
        let allowed_at = self.seqno_pace.allowed_at(SEQNO_PACE);
        if allowed_at > now {
            self.timers.insert((allowed_at, Due::Seqno));
            return;
        }
        let wanted: Vec<Plane> = Plane::ALL
            .into_iter()
            .filter(|plane| self.wanted_seqnos[plane.index()])
            .collect();
        if wanted.is_empty() {
            return;
        }
        self.seqno_pace.take(now, SEQNO_PACE);
        self.counters.seqnos_made += 1;
        for plane in wanted {
            self.news.push(News::SeqnoWanted { plane });
        }
    }
}
