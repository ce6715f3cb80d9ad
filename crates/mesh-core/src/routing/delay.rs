//! Delay: what this node would pay for packets to be there and back sooner, in msat.
//!
//! Before a route was used, its round trip is what its links announce, by the class of each: a liar looks fast. What
//! receipts show is counted as soon as it is longer, so that a route is never taken for faster than it was. The least of
//! what was seen counts: queues and a destination that is late with a receipt make a trip longer, nothing makes it shorter.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::NodeId;
use crate::limits::{MAX_TIMED_PATHS, RECEIPT_INTERVAL};
use crate::time::Instant;

/// What a second of round trip is worth, in msat for [`COMPARISON_UNITS`](super::COMPARISON_UNITS): a hundred sats, against
/// routers that are paid some ten for each of a thousand units. Among routes of one price it decides, against a price it
/// does from a few hundred milliseconds on.
pub const SECOND_MSAT: u64 = 100_000;

/// After this long the least round trip is measured anew, and what was not measured again is forgotten: the path under a
/// route may have become another.
const WINDOW: Duration = Duration::from_secs(1800);

#[derive(Debug, Clone, Copy)]
struct Measured {
    least: Duration,
    since: Instant,
}

/// Round trips of routes that were used, at most [`MAX_TIMED_PATHS`] of them: further ones count as announced.
#[derive(Debug, Default)]
pub struct Delays {
    by_path: BTreeMap<Vec<NodeId>, Measured>,
}

impl Delays {
    /// A packet's receipt came back over `path` so long after it was sent. The destination may take its time with receipts,
    /// [`RECEIPT_INTERVAL`], which is nobody's delay.
    pub fn note(&mut self, path: &[NodeId], round_trip: Duration, now: Instant) {
        let least = round_trip.saturating_sub(RECEIPT_INTERVAL);
        if let Some(measured) = self.by_path.get_mut(path) {
            if measured.since + WINDOW <= now {
                *measured = Measured { least, since: now };
            }
            measured.least = measured.least.min(least);
        } else if self.by_path.len() < MAX_TIMED_PATHS {
            self.by_path.insert(path.to_vec(), Measured { least, since: now });
        }
    }

    /// What the round trip of a path is worth, where its links announce one of `announced`.
    pub fn worth_msat(&self, path: &[NodeId], announced: Duration) -> u64 {
        let measured = self.by_path.get(path).map_or(Duration::ZERO, |found| found.least);
        let millis = u64::try_from(measured.max(announced).as_millis()).unwrap_or(u64::MAX);
        millis.saturating_mul(SECOND_MSAT / 1000)
    }

    /// Forgets what was not measured for long.
    pub fn expire(&mut self, now: Instant) {
        self.by_path
            .retain(|_, measured| measured.since + 2 * WINDOW > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn path(over: u16) -> Vec<NodeId> {
        let mut router = [0; 32];
        router[..2].copy_from_slice(&over.to_be_bytes());
        vec![NodeId([1; 32]), NodeId(router), NodeId([9; 32])]
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn route_is_as_slow_as_it_announces_until_its_receipts_show_that_it_is_slower() {
        let mut delays = Delays::default();
        assert_eq!(delays.worth_msat(&path(2), ms(30)), 3_000);
        delays.note(&path(2), ms(210), Instant(0));
        assert_eq!(
            delays.worth_msat(&path(2), ms(30)),
            3_000,
            "a late receipt is no slow route"
        );
        let mut slow = Delays::default();
        slow.note(&path(2), ms(1_200), Instant(0));
        assert_eq!(slow.worth_msat(&path(2), ms(30)), SECOND_MSAT);
        slow.note(&path(2), ms(700), Instant(1));
        slow.note(&path(2), ms(5_000), Instant(2));
        assert_eq!(
            slow.worth_msat(&path(2), ms(30)),
            SECOND_MSAT / 2,
            "the least counts"
        );
        assert_eq!(
            slow.worth_msat(&path(3), ms(30)),
            3_000,
            "and for that route alone"
        );
    }

    #[test]
    fn route_that_became_slow_is_found_out_and_what_is_not_used_is_forgotten() {
        let mut delays = Delays::default();
        delays.note(&path(2), ms(300), Instant(0));
        delays.note(&path(2), ms(1_200), Instant(1801 * SECOND));
        assert_eq!(delays.worth_msat(&path(2), ms(0)), SECOND_MSAT);
        delays.expire(Instant(5402 * SECOND));
        assert_eq!(delays.worth_msat(&path(2), ms(0)), 0);
    }

    #[test]
    fn measured_routes_are_bounded() {
        let mut delays = Delays::default();
        for over in 0..=MAX_TIMED_PATHS as u16 {
            delays.note(&path(over), ms(1_200), Instant(0));
        }
        assert_eq!(delays.by_path.len(), MAX_TIMED_PATHS);
        assert_eq!(delays.worth_msat(&path(0), Duration::MAX), u64::MAX);
    }
}
