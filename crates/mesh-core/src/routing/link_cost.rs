//! What a link costs in the cost plane: a constant per hop and a class of latency.
//!
//! Latency is what an update and its acknowledgement take, the least of what was seen: queues make a round trip longer,
//! nothing makes it shorter. It enters in coarse classes, and a link keeps its class until the measurement is two
//! classes away: every change of a cost is news for the whole network.

use std::time::Duration;

use crate::time::Instant;

/// What every hop costs beside its latency: as much as the median class, so that a way over many short links is not
/// preferred to one over a few links of usual length. Each further hop is one more router to pay and to rely on.
pub const HOP_COST: u32 = 6;

/// Least round trip of each class but the first, in microseconds, and what the class costs.
const CLASSES: [(u64, u32); 10] = [
    (0, 1),
    (1_000, 2),
    (2_000, 3),
    (5_000, 4),
    (10_000, 5),
    (20_000, 6),
    (50_000, 8),
    (100_000, 12),
    (200_000, 16),
    (500_000, 25),
];

/// After this long the least round trip is measured anew: the path under a link may have become longer for good.
const WINDOW: Duration = Duration::from_secs(600);

/// One link's cost.
#[derive(Debug, Clone, Default)]
pub struct LinkCost {
    class: Option<usize>,
    least: Option<Duration>,
    window_began: Instant,
}

impl LinkCost {
    /// Takes in a round trip; whether the cost changed.
    pub fn measured(&mut self, round_trip: Duration, now: Instant) -> bool {
        if now - self.window_began > WINDOW {
            self.window_began = now;
            self.least = None;
        }
        let least = self.least.map_or(round_trip, |least| least.min(round_trip));
        self.least = Some(least);
        let found = class_of(least);
        let moved = self.class.is_none_or(|class| class.abs_diff(found) > 1);
        if moved {
            self.class = Some(found);
        }
        moved
    }

    /// The cost, once it was measured.
    pub fn get(&self) -> Option<u32> {
        let (_, cost) = CLASSES.get(self.class?)?;
        Some(HOP_COST + cost)
    }
}

/// The least round trip of the class that a link of this cost announces.
pub fn least_round_trip(cost: u32) -> Duration {
    let class = CLASSES
        .iter()
        .rposition(|(_, of_class)| HOP_COST + of_class <= cost)
        .unwrap_or(0);
    Duration::from_micros(CLASSES[class].0)
}

fn class_of(round_trip: Duration) -> usize {
    let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    CLASSES
        .iter()
        .rposition(|(least, _)| *least <= micros)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_link_has_no_cost_until_it_was_measured_and_then_that_of_its_class() {
        let mut cost = LinkCost::default();
        assert_eq!(cost.get(), None);
        assert!(cost.measured(30 * MS, Instant(0)));
        assert_eq!(cost.get(), Some(12));
    }

    #[test]
    fn cost_tells_the_least_round_trip_of_its_class_whatever_is_announced() {
        for (least, cost) in CLASSES {
            assert_eq!(least_round_trip(HOP_COST + cost), Duration::from_micros(least));
        }
        assert_eq!(least_round_trip(0), Duration::ZERO);
        assert_eq!(least_round_trip(u32::MAX), 500 * MS);
    }

    #[test]
    fn jitter_around_the_edge_of_a_class_changes_nothing() {
        let mut cost = LinkCost::default();
        cost.measured(51 * MS, Instant(0));
        let before = cost.get();
        assert!((0..100).all(|round| !cost.measured((30 + round % 60) * MS, Instant(0))));
        assert_eq!(cost.get(), before);
        assert!(cost.measured(MS, Instant(0)), "a much shorter one does");
    }

    #[test]
    fn a_longer_path_shows_after_the_window_and_a_full_queue_never() {
        let mut cost = LinkCost::default();
        cost.measured(MS, Instant(0));
        assert!(!cost.measured(400 * MS, Instant(0)));
        let later = Instant(0) + WINDOW + MS;
        assert!(cost.measured(400 * MS, later));
        assert_eq!(cost.get(), Some(HOP_COST + 16));
    }
}
