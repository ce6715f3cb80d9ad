//! Token buckets: how much of something a neighbour may do.

use crate::time::Instant;

/// A budget that refills with time up to a burst. Counted in millionths of a token, so that slow rates refill exactly.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: u64,
    burst: u64,
    micro_tokens: u128,
    refilled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        Self {
            per_second,
            burst,
            micro_tokens: u128::from(burst) * 1_000_000,
            refilled: now,
        }
    }

    /// Takes `tokens` if they are there; otherwise takes nothing.
    pub fn take(&mut self, tokens: u64, now: Instant) -> bool {
        let passed = (now - self.refilled).as_micros();
        self.refilled = self.refilled.max(now);
        let full = u128::from(self.burst) * 1_000_000;
        self.micro_tokens = (self.micro_tokens + passed * u128::from(self.per_second)).min(full);
        let wanted = u128::from(tokens) * 1_000_000;
        let granted = wanted <= self.micro_tokens;
        if granted {
            self.micro_tokens -= wanted;
        }
        granted
    }

    /// Whole tokens that are there.
    pub fn left(&mut self, now: Instant) -> u64 {
        self.take(0, now);
        u64::try_from(self.micro_tokens / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut bucket = TokenBucket::new(2, 3, Instant(0));
        assert!((0..3).all(|_| bucket.take(1, Instant(0))));
        assert!(!bucket.take(1, Instant(499_999)));
        assert!(bucket.take(1, Instant(500_000)));
        assert!(!bucket.take(1, Instant(500_001)));
        assert!(bucket.take(3, Instant(1_000_000_000)) && !bucket.take(1, Instant(1_000_000_000)));
    }

    #[test]
    fn clock_that_stands_still_or_jumps_back_grants_nothing() {
        let mut bucket = TokenBucket::new(1000, 1, Instant(1_000_000));
        assert!(bucket.take(1, Instant(1_000_000)));
        assert!(!bucket.take(1, Instant(0)));
        assert!(!bucket.take(1, Instant(1_000_000)));
    }
}
