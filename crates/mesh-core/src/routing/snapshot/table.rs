//! The root: as many shards as fit the size of the table.

use std::sync::Arc;

use hashbrown::HashTable;

use super::entry::RouteEntry;
use super::node_hash::NodeHash;
use crate::identity::NodeId;

/// Most shards. A table of a million destinations has 244 in each, 40 KB with what is free in it: to be copied when one
/// of them changes.
const MAX_SHARDS: usize = 4096;

/// Entries a shard holds on average when the next change splits one: it costs about 10 KB to copy then.
const SPLIT_ABOVE: usize = 128;

/// Entries a shard holds on average when the next removal merges two. Far below [`SPLIT_ABOVE`], so that a table that
/// shrinks and grows by turns does not split and merge by turns.
const MERGE_BELOW: usize = SPLIT_ABOVE / 4;

/// Shards in a page. The square root of [`MAX_SHARDS`]: a publication copies no more than one pointer per page, and the
/// first change in a page no more than one pointer per shard of it. In one array a million routes took 60 µs to publish.
const SHARDS_PER_PAGE: usize = 64;

/// The lowest bit of a hash that chooses the shard. Within a shard these bits are the same for all, and the hash table
/// there must look at others: it takes those at both ends.
const SHARD_SHIFT: u32 = 32;

/// A destination and its routes.
#[derive(Clone, Copy)]
struct Place {
    id: NodeId,
    entry: RouteEntry,
}

type Shard = HashTable<Place>;

type Page = Arc<Vec<Arc<Shard>>>;

/// A hash table of shards. Cloning it clones pointers; a shard that is shared with a clone is copied before it changes.
///
/// Linear hashing: with `n` shards, as many bits of the hash choose one as number the `n` shards; when that one does not
/// exist yet, one bit fewer. The shard that is added next takes over half of the one that answered for it till then.
/// The number of shards is enough to know where everything lies.
#[derive(Clone)]
pub(super) struct Table {
    pages: Vec<Page>,
    shards: usize,
    /// All ones up to the highest bit of the last shard's number.
    mask: usize,
    len: usize,
    hasher: NodeHash,
}

impl Table {
    pub(super) fn new(hash_seed: u64) -> Self {
        Self {
            pages: vec![Arc::new(vec![Arc::default()])],
            shards: 1,
            mask: 0,
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
        find(self.shard(self.number_for(hash)), hash, id)
    }

    /// Sets the routes to `id`. Returns whether that changed anything.
    pub(super) fn insert(&mut self, id: NodeId, entry: RouteEntry) -> bool {
        let hash = self.hasher.hash(&id);
        let number = self.number_for(hash);
        if find(self.shard(number), hash, &id) == Some(&entry) {
            return false;
        }
        let shard = shard_mut(&mut self.pages, number);
        if let Some(place) = shard.find_mut(hash, |place| place.id == id) {
            place.entry = entry;
            return true;
        }
        put(shard, &self.hasher, Place { id, entry });
        self.len += 1;
        if self.len > self.shards * SPLIT_ABOVE && self.shards < MAX_SHARDS {
            self.split_one();
        }
        true
    }

    /// Removes the routes to `id`. Returns whether there were any.
    pub(super) fn remove(&mut self, id: &NodeId) -> bool {
        let hash = self.hasher.hash(id);
        let number = self.number_for(hash);
        if find(self.shard(number), hash, id).is_none() {
            return false;
        }
        let shard = shard_mut(&mut self.pages, number);
        if let Ok(place) = shard.find_entry(hash, |place| place.id == *id) {
            place.remove();
        }
        if shard.len() < shard.capacity() / 4 {
            shard.shrink_to_fit(|place| self.hasher.hash(&place.id));
        }
        self.len -= 1;
        if self.len < self.shards * MERGE_BELOW {
            self.merge_one();
        }
        true
    }

    /// All entries, in an order that depends on the seed.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &RouteEntry)> {
        self.shards()
            .flat_map(|shard| shard.iter())
            .map(|place| (&place.id, &place.entry))
    }

    /// Bytes on the heap, the table itself included.
    pub(super) fn bytes(&self) -> usize {
        // An `Arc` puts two counters before what it points to.
        let counters = 2 * size_of::<usize>();
        let page = |page: &Vec<Arc<Shard>>| {
            counters + size_of::<Vec<Arc<Shard>>>() + page.capacity() * size_of::<Arc<Shard>>()
        };
        let shard = |shard: &Shard| counters + size_of::<Shard>() + shard.allocation_size();
        let pages: usize = self.pages.iter().map(|one| page(one)).sum();
        let shards: usize = self.shards().map(shard).sum();
        counters + size_of::<Self>() + self.pages.capacity() * size_of::<usize>() + pages + shards
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.pages
            .iter()
            .flat_map(|page| page.iter())
            .map(|shard| &**shard)
    }

    #[inline]
    fn shard(&self, number: usize) -> &Shard {
        &self.pages[number / SHARDS_PER_PAGE][number % SHARDS_PER_PAGE]
    }

    #[inline]
    fn number_for(&self, hash: u64) -> usize {
        let number = (hash >> SHARD_SHIFT) as usize & self.mask;
        if number < self.shards {
            number
        } else {
            number & (self.mask >> 1)
        }
    }

    fn set_shards(&mut self, shards: usize) {
        self.shards = shards;
        self.mask = shards.next_power_of_two() - 1;
    }

    /// Adds a shard and gives it half of its buddy's entries.
    fn split_one(&mut self) {
        let (older, bit) = buddy(self.shards);
        let has_bit = |place: &&Place| self.hasher.hash(&place.id) & bit != 0;
        let old = self.shard(older);
        let moved = collect(&self.hasher, old.iter().filter(has_bit));
        let stay = collect(&self.hasher, old.iter().filter(|place| !has_bit(place)));
        *pointer_mut(&mut self.pages, older) = Arc::new(stay);
        if self.shards.is_multiple_of(SHARDS_PER_PAGE) {
            self.pages.push(Arc::default());
        }
        if let Some(page) = self.pages.last_mut() {
            Arc::make_mut(page).push(Arc::new(moved));
        }
        self.set_shards(self.shards + 1);
    }

    /// Takes the youngest shard away and gives its entries to its buddy. The last one stays.
    fn merge_one(&mut self) {
        if self.shards == 1 {
            return;
        }
        let youngest = self.shards - 1;
        let (older, _) = buddy(youngest);
        let both = self.shard(older).iter().chain(self.shard(youngest));
        let merged = collect(&self.hasher, both);
        *pointer_mut(&mut self.pages, older) = Arc::new(merged);
        if let Some(page) = self.pages.last_mut() {
            Arc::make_mut(page).pop();
        }
        if youngest.is_multiple_of(SHARDS_PER_PAGE) {
            self.pages.pop();
        }
        self.set_shards(youngest);
    }
}

/// The pointer to shard `number`, in a page that is copied first if it is shared.
fn pointer_mut(pages: &mut [Page], number: usize) -> &mut Arc<Shard> {
    &mut Arc::make_mut(&mut pages[number / SHARDS_PER_PAGE])[number % SHARDS_PER_PAGE]
}

/// Shard `number`, copied first if it is shared.
fn shard_mut(pages: &mut [Page], number: usize) -> &mut Shard {
    Arc::make_mut(pointer_mut(pages, number))
}

/// The shard that answers for shard `number` (at least 1) while that does not exist, and the bit of the hash that tells
/// the two apart.
fn buddy(number: usize) -> (usize, u64) {
    let bit = 1 << number.ilog2();
    (number ^ bit, (bit as u64) << SHARD_SHIFT)
}

#[inline]
fn find<'a>(shard: &'a Shard, hash: u64, id: &NodeId) -> Option<&'a RouteEntry> {
    let place = shard.find(hash, |place| place.id == *id)?;
    Some(&place.entry)
}

fn put(shard: &mut Shard, hasher: &NodeHash, place: Place) {
    let hash = |place: &Place| hasher.hash(&place.id);
    shard.insert_unique(hash(&place), place, hash);
}

fn collect<'a>(hasher: &NodeHash, places: impl Iterator<Item = &'a Place> + Clone) -> Shard {
    let mut shard = Shard::with_capacity(places.clone().count());
    places.for_each(|place| put(&mut shard, hasher, *place));
    shard
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
        let sizes = table.shards().map(|shard| shard.len());
        sizes.max().unwrap()
    }

    #[test]
    fn shards_grow_in_number_with_the_table_and_every_route_stays_findable() {
        let mut table = Table::new(1);
        let mut shards = 1;
        for number in 0..20_000 {
            table.insert(id(number), entry(number));
            assert!(table.shards - shards <= 1, "one change splits one shard");
            shards = table.shards;
            if number % 1000 == 0 || number < 1000 {
                assert!((0..=number).all(|known| table.get(&id(known)) == Some(&entry(known))));
                assert_eq!(table.get(&id(number + 1)), None);
            }
        }
        assert_eq!(shards, 20_000_usize.div_ceil(SPLIT_ABOVE));
        assert_eq!(filled(1, 10).shards, 1);
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
        assert_eq!((table.len(), table.shards), (0, 1));
        assert!(table.bytes() < full / 10, "{} of {full} bytes", table.bytes());
    }

    #[test]
    fn no_shard_is_crowded_and_the_seed_decides_which_entries_meet() {
        let (one, other) = (filled(1, 50_000), filled(2, 50_000));
        // Shards that have not been split yet hold twice as many as others; beyond that only chance.
        assert!(largest_shard(&one) < 3 * SPLIT_ABOVE && largest_shard(&other) < 3 * SPLIT_ABOVE);
        let first = |table: &Table| table.shard(0).iter().map(|place| place.id).collect::<Vec<_>>();
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
    fn route_with_four_successors_price_and_expiry_costs_at_most_200_bytes() {
        for len in [10_000, 50_000, 60_000, 70_000, 100_000] {
            let table = filled(1, len);
            assert!(table.bytes() <= 200 * table.len(), "{} bytes", table.bytes());
        }
    }

    #[test]
    fn change_copies_one_shard_and_what_was_published_keeps_the_others() {
        let mut table = filled(1, 20_000);
        let published = table.clone();
        table.insert(id(5), entry(6));
        let copied = |of: &Table| {
            let pairs = of.shards().zip(published.shards());
            pairs.filter(|(now, then)| !std::ptr::eq(*now, *then)).count()
        };
        assert_eq!(copied(&table), 1);
        assert_eq!(published.get(&id(5)), Some(&entry(5)));
        assert!(!table.insert(id(5), entry(6)), "the same again changes nothing");
    }
}
