//! The simulation's own randomness: small, seeded, the same on every machine.

/// A stream of numbers (splitmix64, Steele, Lea and Flood 2014). Not secret and not meant to be.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// Probabilities are given in parts of this: whole numbers, since floats differ between machines.
pub(crate) const MILLION: u32 = 1_000_000;

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0. The bias of the remainder is far below what a simulation can see.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// True `per_million` times in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(u64::from(MILLION)) < u64::from(per_million)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_never_changes_between_versions() {
        let mut random = Random::new(0);
        assert_eq!(random.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn chance_is_about_what_it_says() {
        let mut random = Random::new(1);
        let hits = (0..10_000).filter(|_| random.chance(100_000)).count();
        assert!((900..1100).contains(&hits), "{hits}");
        assert!(!random.chance(0) && random.chance(MILLION));
    }
}
