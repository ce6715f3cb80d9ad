//! How often the host may be asked to call a module.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Pushes through the host in any second: a node cuts off a module at its 101st request within one, and the mesh's other
/// requests (the chain, the fee rate, events) need their half.
pub(super) const PUSHES_PER_SECOND: usize = 50;

const SECOND: Duration = Duration::from_secs(1);

/// The moments of the last second's pushes. A bucket that refills would let through twice the limit around a pause.
#[derive(Debug, Default)]
pub(super) struct Pace {
    taken: VecDeque<Instant>,
}

impl Pace {
    /// From when on the next push may go; none if it may go now.
    pub(super) fn wait_until(&mut self, now: Instant) -> Option<Instant> {
        while let Some(oldest) = self.taken.front()
            && *oldest + SECOND <= now
        {
            self.taken.pop_front();
        }
        if self.taken.len() < PUSHES_PER_SECOND {
            return None;
        }
        self.taken.front().map(|oldest| *oldest + SECOND)
    }

    /// A push goes now.
    pub(super) fn take(&mut self, now: Instant) {
        self.taken.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_wherever_it_begins_has_more_pushes_than_the_limit() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut taken: Vec<Instant> = Vec::new();
        for millisecond in 0..5_000u64 {
            let now = start + Duration::from_millis(millisecond);
            // Greedy after a pause, which is where a bucket fails.
            while !(10..=700).contains(&millisecond) && pace.wait_until(now).is_none() {
                pace.take(now);
                taken.push(now);
            }
        }
        for first in &taken {
            let within = taken.iter().filter(|at| **at >= *first && **at < *first + SECOND);
            assert!(within.count() <= PUSHES_PER_SECOND);
        }
        assert!(taken.len() >= 4 * PUSHES_PER_SECOND, "{}", taken.len());
    }
}
