//! Randomness as an argument: every secret and nonce the core makes comes from the seed it was given.

use zeroize::Zeroizing;

/// A stream of secret bytes: BLAKE3 of a counter under the seed. The hands seed it from the operating system at every
/// start; a seed used twice would repeat keys. The simulator seeds it from the scenario, so that reruns are identical.
pub struct Entropy {
    seed: Zeroizing<[u8; 32]>,
    counter: u64,
}

impl Entropy {
    /// The stream of a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed: Zeroizing::new(seed),
            counter: 0,
        }
    }

    /// The next 32 bytes.
    pub fn bytes32(&mut self) -> [u8; 32] {
        self.counter += 1;
        *blake3::keyed_hash(&self.seed, &self.counter.to_be_bytes()).as_bytes()
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
