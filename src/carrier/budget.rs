//! How often the carrier may speak.

use std::time::Duration;

use tokio::time::Instant;

use super::{FRAMES_BURST, FRAMES_PER_SECOND};

/// One frame's share of a second.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / FRAMES_PER_SECOND as u64);

/// Counts frames against the rate (the generic cell rate algorithm: one moment instead of a bucket).
#[derive(Debug)]
pub(crate) struct Budget {
    /// When everything spent so far would be earned back.
    even_at: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { even_at: now }
    }

    /// When the next frame may go; in the past if it may now.
    pub(crate) fn ready_at(&self) -> Instant {
        self.even_at - INTERVAL * (FRAMES_BURST - 1)
    }

    pub(crate) fn spend(&mut self, now: Instant) {
        self.even_at = self.even_at.max(now) + INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_sees_more_than_a_burst_above_the_rate_and_a_long_run_no_more_than_the_rate() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut sent = Vec::new();
        let mut now = start;
        // Pauses of many lengths, then everything that is allowed.
        for pause in [0u64, 10, 30, 200, 1_000, 3, 0, 700] {
            now += Duration::from_millis(pause);
            for _ in 0..30 {
                now = now.max(budget.ready_at());
                budget.spend(now);
                sent.push(now);
            }
        }
        for (first, moment) in sent.iter().enumerate() {
            let within = sent[first..]
                .iter()
                .take_while(|later| **later - *moment < Duration::from_secs(1));
            assert!(within.count() <= (FRAMES_PER_SECOND + FRAMES_BURST) as usize);
        }
    }
}
