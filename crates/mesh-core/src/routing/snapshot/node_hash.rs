//! The keyed hash that decides where a node's entry lies.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use crate::identity::NodeId;

/// A hash function of node ids. All its constants come from the seed: with the library's fixed ones an attacker could
/// aim for ids whose second half cancels a constant, and those collide whatever the rest of the key is.
#[derive(Clone)]
pub(super) struct NodeHash {
    start: u64,
    constants: SharedSeed,
}

impl NodeHash {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            start: seed,
            constants: SharedSeed::from_u64(seed),
        }
    }

    /// 64 bits, each as good as any other.
    #[inline]
    pub(super) fn hash(&self, id: &NodeId) -> u64 {
        let (mut low, mut high) = ([0; 16], [0; 16]);
        low.copy_from_slice(&id.0[..16]);
        high.copy_from_slice(&id.0[16..]);
        let mut hasher = FoldHasher::with_seed(self.start, &self.constants);
        // Two numbers, because the way the library takes a slice of 32 bytes is not inlined.
        hasher.write_u128(u128::from_le_bytes(low));
        hasher.write_u128(u128::from_le_bytes(high));
        hasher.finish()
    }
}
