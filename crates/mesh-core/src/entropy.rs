//! Randomness as an argument: every secret and nonce the core makes comes from the seed it was given.

use zeroize::Zeroizing;

/// A stream of secret bytes. After each output the state is replaced by a one-way function of itself, so whoever reads
/// the memory of a node later cannot compute the keys it has erased. The hands seed it from the operating system at
/// every start; a seed used twice would repeat keys. The simulator seeds it from the scenario, so that reruns are
/// identical.
pub struct Entropy {
    state: Zeroizing<[u8; 32]>,
}

impl Entropy {
    /// The stream of a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            state: Zeroizing::new(seed),
        }
    }

    /// The next 32 bytes.
    pub fn bytes32(&mut self) -> [u8; 32] {
        let output = *blake3::keyed_hash(&self.state, b"output").as_bytes();
        self.state = Zeroizing::new(*blake3::keyed_hash(&self.state, b"next state").as_bytes());
        output
    }

    /// The next 16 bytes.
    pub fn bytes16(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.bytes32()[..16]);
        bytes
    }

    /// The next number.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes32()[..8]);
        u64::from_be_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_nothing_repeats() {
        let (mut one, mut other) = (Entropy::new([1; 32]), Entropy::new([1; 32]));
        let stream: std::collections::BTreeSet<_> = (0..1000).map(|_| one.bytes32()).collect();
        assert_eq!(stream.len(), 1000);
        assert!((0..1000).all(|_| stream.contains(&other.bytes32())));
        assert!(!stream.contains(&Entropy::new([2; 32]).bytes32()));
    }

    #[test]
    fn the_state_that_is_left_does_not_give_away_what_came_out() {
        let mut entropy = Entropy::new([1; 32]);
        let erased = entropy.bytes32();
        let mut stolen = Entropy::new(*entropy.state);
        assert!((0..1000).all(|_| stolen.bytes32() != erased));
    }
}
