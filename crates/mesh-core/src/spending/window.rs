//! What was spent within the last hour, or the last day, in bounded memory.

use std::collections::BTreeMap;
use std::time::Duration;

/// A moment on the timeline of [`Spending`](super::Spending), in microseconds.
pub(super) type Moment = u64;

/// Spending within the last `span`, counted in steps. A step counts until it has left the span as a whole: what was
/// spent is so counted for at least `span` and at most one step longer, and never forgotten early.
#[derive(Debug, Clone)]
pub(super) struct Window {
    step: u64,
    steps_per_span: u64,
    /// Step number to what was spent in it, in msat: at most one more than fit the span.
    spent: BTreeMap<u64, u64>,
}

impl Window {
    /// `span` must be a multiple of `step`, and `step` not zero: both are constants.
    pub(super) fn new(span: Duration, step: Duration) -> Self {
        let step = micros(step).max(1);
        Self {
            step,
            steps_per_span: micros(span).div_ceil(step),
            spent: BTreeMap::new(),
        }
    }

    /// What is counted at a moment, in msat. Steps of a later moment count too, should a clock run backwards.
    pub(super) fn spent_msat(&self, at: Moment) -> u64 {
        self.counted(at)
            .fold(0, |sum, (_, msat)| sum.saturating_add(*msat))
    }

    /// Counts spending at a moment, and forgets what no longer counts.
    pub(super) fn add(&mut self, at: Moment, msat: u64) {
        self.forget(at);
        if msat > 0 {
            let step = self.spent.entry(at / self.step).or_default();
            *step = step.saturating_add(msat);
        }
    }

    /// Forgets what no longer counts. Whether nothing is left.
    pub(super) fn forget(&mut self, at: Moment) -> bool {
        let oldest = self.oldest(at);
        if self
            .spent
            .first_key_value()
            .is_some_and(|(step, _)| *step < oldest)
        {
            self.spent = self.spent.split_off(&oldest);
        }
        self.spent.is_empty()
    }

    /// How long until what is counted has shrunk to `most_msat`, when nothing more is spent and `held_msat`, which is
    /// under way, is spent now. Zero when it is that small already.
    pub(super) fn frees_in(&self, at: Moment, held_msat: u64, most_msat: u64) -> Duration {
        let mut counted = self.spent_msat(at).saturating_add(held_msat);
        if counted <= most_msat {
            return Duration::ZERO;
        }
        for (step, msat) in self.counted(at) {
            counted = counted.saturating_sub(*msat);
            if counted <= most_msat {
                return self.leaves_in(at, *step);
            }
        }
        self.leaves_in(at, at / self.step)
    }

    fn counted(&self, at: Moment) -> impl Iterator<Item = (&u64, &u64)> {
        self.spent.range(self.oldest(at)..)
    }

    fn oldest(&self, at: Moment) -> u64 {
        (at / self.step).saturating_sub(self.steps_per_span)
    }

    fn leaves_in(&self, at: Moment, step: u64) -> Duration {
        let left = step
            .saturating_add(self.steps_per_span)
            .saturating_add(1)
            .saturating_mul(self.step);
        Duration::from_micros(left.saturating_sub(at))
    }
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;

    fn hour() -> Window {
        Window::new(Duration::from_secs(3600), Duration::from_secs(60))
    }

    #[test]
    fn spending_counts_for_the_whole_span_and_at_most_a_step_longer() {
        for offset in [0, 1, MINUTE / 2, MINUTE - 1] {
            let mut window = hour();
            let spent_at = 1000 * MINUTE + offset;
            window.add(spent_at, 7);
            assert_eq!(window.spent_msat(spent_at + 60 * MINUTE), 7);
            assert_eq!(window.spent_msat(spent_at + 61 * MINUTE), 0);
        }
    }

    #[test]
    fn steps_kept_are_bounded_however_often_is_spent() {
        let mut window = hour();
        for at in 0..100_000 {
            window.add(at * MINUTE / 7, 1);
        }
        assert!(window.spent.len() <= 61, "{}", window.spent.len());
    }

    #[test]
    fn the_moment_that_it_says_is_the_moment_it_frees() {
        let mut window = hour();
        window.add(100 * MINUTE + 5, 10);
        window.add(110 * MINUTE + 5, 20);
        let now = 120 * MINUTE;
        assert_eq!(window.frees_in(now, 0, 30), Duration::ZERO);
        for (most, spent_after) in [(29, 20), (20, 20), (19, 0), (0, 0)] {
            let free_at = now + micros(window.frees_in(now, 0, most));
            assert_eq!(window.spent_msat(free_at), spent_after);
            assert!(window.spent_msat(free_at - 1) > most);
        }
        assert_eq!(
            window.frees_in(now, 5, 4),
            Duration::from_secs(3660),
            "what is under way counts as spent now"
        );
    }

    #[test]
    fn clock_that_runs_backwards_frees_nothing() {
        let mut window = hour();
        window.add(500 * MINUTE, 9);
        assert_eq!(window.spent_msat(0), 9);
        window.add(0, 1);
        assert_eq!(window.spent_msat(1), 10);
    }
}
