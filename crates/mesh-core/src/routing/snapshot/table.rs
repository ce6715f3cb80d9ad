//! The root: shards in a number that fits the table.

use std::sync::Arc;

use super::entry::RouteEntry;
use super::node_hash::NodeHash;
use super::shard::Shard;
use crate::identity::NodeId;

/// Most shards: publishing copies a pointer to each. A table of a million has 256 entries in each, 27 KB to copy when
/// one of them changes.
const MAX_SHARDS: usize = 4096;

/// Entries a shard holds on average when the next change splits one: it costs about 10 KB to copy then.
const SPLIT_ABOVE: usize = 128;

/// Entries a shard holds on average when the next removal merges two. Far below [`SPLIT_ABOVE`], so that a table that
/// shrinks and grows by turns does not split and merge by turns.
const MERGE_BELOW: usize = SPLIT_ABOVE / 4;

/// A hash table of shards. Cloning it clones pointers; a shard that is shared with a clone is copied before it changes.
///
/// Linear hashing: with `n` shards, the lowest bits of the hash choose one, as many as number the `n` shards; when that
/// one does not exist yet, one bit fewer. The shard that is added next takes over half of the one that answered for it
/// till then. The number of shards is enough to know where everything lies.
#[derive(Clone)]
pub(super) struct Table {
    shards: Vec<Arc<Shard>>,
    len: usize,
    hasher: NodeHash,
}

impl Table {
    pub(super) fn new(hash_seed: u64) -> Self {
        Self {
            shards: vec![Arc::default()],
            len: 0,
            hasher: NodeHash::new(hash_seed),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, id: &NodeId) -> Option<&RouteEntry> {
        let hash = self.hasher.hash(id);
        self.shards.get(self.shard_of(hash))?.get(hash, id)
    }

    /// Sets the routes to `id`. Returns whether that changed anything.
    pub(super) fn insert(&mut self, id: NodeId, entry: RouteEntry) -> bool {
        let hash = self.hasher.hash(&id);
        let shard = self.shard_of(hash);
        if self.shards[shard].get(hash, &id) == Some(&entry) {
            return false;
        }
        let is_new = Arc::make_mut(&mut self.shards[shard]).insert(&self.hasher, hash, id, entry);
        self.len += usize::from(is_new);
        if self.len > self.shards.len() * SPLIT_ABOVE && self.shards.len() < MAX_SHARDS {
            self.split_one();
        }
        true
    }

    /// Removes the routes to `id`. Returns whether there were any.
    pub(super) fn remove(&mut self, id: &NodeId) -> bool {
        let hash = self.hasher.hash(id);
        let shard = self.shard_of(hash);
        if self.shards[shard].get(hash, id).is_none() {
            return false;
        }
        Arc::make_mut(&mut self.shards[shard]).remove(&self.hasher, hash, id);
        self.len -= 1;
        if self.len < self.shards.len() * MERGE_BELOW {
            self.merge_one();
        }
        true
    }

    /// All entries, in an order that depends on the seed.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &RouteEntry)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Bytes on the heap, the table itself included.
    pub(super) fn bytes(&self) -> usize {
        // An `Arc` puts two counters before what it points to.
        let counters = 2 * size_of::<usize>();
        let shards = self.shards.iter();
        counters
            + size_of::<Self>()
            + self.shards.capacity() * size_of::<Arc<Shard>>()
            + shards
                .map(|shard| counters + size_of::<Shard>() + shard.bytes())
                .sum::<usize>()
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> usize {
        let highest = self.shards.len() - 1;
        // All ones up to the highest bit of `highest`.
        let mask = usize::MAX.checked_shr(highest.leading_zeros()).unwrap_or(0);
        let shard = hash as usize & mask;
        if shard <= highest {
            shard
        } else {
            shard & (mask >> 1)
        }
    }

    fn split_one(&mut self) {
        let (older, bit) = buddy(self.shards.len());
        let (stay, moved) = self.shards[older].split(&self.hasher, bit);
        self.shards[older] = Arc::new(stay);
        self.shards.push(Arc::new(moved));
    }

    fn merge_one(&mut self) {
        if self.shards.len() == 1 {
            return;
        }
        if let Some(youngest) = self.shards.pop() {
            let (older, _) = buddy(self.shards.len());
            self.shards[older] = Arc::new(self.shards[older].merged(&self.hasher, &youngest));
        }
    }
}

/// The shard that answers for shard `number` (at least 1) while that does not exist, and the bit of the hash that tells
/// the two apart.
fn buddy(number: usize) -> (usize, u64) {
    let bit = 1 << number.ilog2();
    (number ^ bit, bit as u64)
}

#[cfg(test)]
mod tests {
    use super::super::Successor;
    use super::*;
    use crate::time::UnixMillis;

    fn id(number: u64) -> NodeId {
        NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    fn entry(number: u64) -> RouteEntry {
        let successor = Successor {
            neighbour: number as u32,
            cost: 1,
            hops: 1,
        };
        RouteEntry::new(&[successor], number, UnixMillis(0)).unwrap()
    }

    fn filled(seed: u64, len: u64) -> Table {
        let mut table = Table::new(seed);
        for number in 0..len {
            assert!(table.insert(id(number), entry(number)));
        }
        table
    }

    fn largest_shard(table: &Table) -> usize {
        let sizes = table.shards.iter().map(|shard| shard.iter().count());
        sizes.max().unwrap()
    }

    #[test]
    fn shards_grow_in_number_with_the_table_and_every_route_stays_findable() {
        let mut table = Table::new(1);
        let mut shards = 1;
        for number in 0..20_000 {
            table.insert(id(number), entry(number));
            assert!(table.shards.len() - shards <= 1, "one change splits one shard");
            shards = table.shards.len();
            if number % 1000 == 0 || number < 1000 {
                assert!((0..=number).all(|known| table.get(&id(known)) == Some(&entry(known))));
                assert_eq!(table.get(&id(number + 1)), None);
            }
        }
        assert_eq!(shards, 20_000_usize.div_ceil(SPLIT_ABOVE));
        assert_eq!(filled(1, 10).shards.len(), 1);
    }

    #[test]
    fn shrinking_table_gives_its_shards_back_and_loses_no_other_route() {
        let mut table = filled(1, 20_000);
        let full = table.bytes();
        for number in 0..20_000 {
            assert!(table.remove(&id(number)) && !table.remove(&id(number)));
            if number % 1000 == 0 {
                assert!((number + 1..20_000).all(|left| table.get(&id(left)) == Some(&entry(left))));
            }
        }
        assert_eq!((table.len(), table.shards.len()), (0, 1));
        assert!(table.bytes() < full / 10, "{} of {full} bytes", table.bytes());
    }

    #[test]
    fn no_shard_is_crowded_and_the_seed_decides_which_entries_meet() {
        let (one, other) = (filled(1, 50_000), filled(2, 50_000));
        // Shards that have not been split yet hold twice as many as others; beyond that only chance.
        assert!(largest_shard(&one) < 3 * SPLIT_ABOVE && largest_shard(&other) < 3 * SPLIT_ABOVE);
        let first = |table: &Table| table.shards[0].iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_ne!(first(&one), first(&other));
        assert_eq!(
            first(&one),
            first(&filled(1, 50_000)),
            "the same seed and changes, the same layout"
        );
        assert!((0..50_000).all(|number| one.get(&id(number)) == other.get(&id(number))));
    }

    #[test]
    fn ids_ground_to_share_most_of_their_bytes_crowd_no_shard() {
        // All an attacker can do without the seed: 31 bytes the same, or differences in one place only.
        let mut table = Table::new(1);
        for number in 0..20_000_u64 {
            let mut ground = [7; 32];
            ground[24..].copy_from_slice(&(number << 40).to_be_bytes());
            table.insert(NodeId(ground), entry(number));
        }
        assert!(
            largest_shard(&table) < 3 * SPLIT_ABOVE,
            "{}",
            largest_shard(&table)
        );
    }

    #[test]
    fn route_with_four_successors_price_and_expiry_costs_at_most_130_bytes() {
        for len in [10_000, 60_000, 100_000] {
            let table = filled(1, len);
            assert!(table.bytes() <= 130 * table.len(), "{} bytes", table.bytes());
        }
    }

    #[test]
    fn change_copies_one_shard_and_what_was_published_keeps_the_others() {
        let mut table = filled(1, 20_000);
        let published = table.clone();
        table.insert(id(5), entry(6));
        let pairs = table.shards.iter().zip(&published.shards);
        let copied = pairs.filter(|(now, then)| !Arc::ptr_eq(now, then)).count();
        assert_eq!(copied, 1);
        assert_eq!(published.get(&id(5)), Some(&entry(5)));
        assert!(!table.insert(id(5), entry(6)), "the same again changes nothing");
    }
}
