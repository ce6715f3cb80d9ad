//! How often something may happen: a few times at once, then once in an interval (GCRA, ITU-T I.371).

use std::time::Duration;

use crate::time::Instant;

/// The numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct PaceLimit {
    /// Shortest time between two, sustained.
    pub(super) interval: Duration,
    /// How many may come at once, at least 1.
    pub(super) burst: u32,
}

/// One thing's pace: eight bytes, since there is one per destination.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    next: Instant,
}

impl Pace {
    /// From when on it may happen.
    pub(super) fn allowed_at(self, limit: PaceLimit) -> Instant {
        let ahead = limit.interval.saturating_mul(limit.burst.saturating_sub(1));
        Instant(self.next.0.saturating_sub((Instant(0) + ahead).0))
    }

    /// Whether it may happen now; if so, it does.
    pub(super) fn try_take(&mut self, now: Instant, limit: PaceLimit) -> bool {
        let allowed = self.allowed_at(limit) <= now;
        if allowed {
            self.take(now, limit);
        }
        allowed
    }

    /// It happens.
    pub(super) fn take(&mut self, now: Instant, limit: PaceLimit) {
        self.next = self.next.max(now) + limit.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_interval() {
        let limit = PaceLimit {
            interval: Duration::from_secs(2),
            burst: 3,
        };
        let mut pace = Pace::default();
        let mut now = Instant(0) + Duration::from_secs(100);
        let start = now;
        let mut at = Vec::new();
        for _ in 0..6 {
            now = now.max(pace.allowed_at(limit));
            pace.take(now, limit);
            at.push((now - start).as_secs());
        }
        assert_eq!(at, [0, 0, 0, 2, 4, 6]);
    }
}
