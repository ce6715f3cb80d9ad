//! A small hash table of routes, copied as a whole when one of them changes.
//!
//! Open addressing in groups of eight places. Each place has a tag of one byte: 0 while it is free, else seven bits of
//! the hash and a mark. The eight tags of a group are one number, so that a group is searched in a few instructions
//! (after M. Kulukundis's "Swiss table", CppCon 2017, without its vector instructions). Tags lie apart from the entries:
//! those of a million routes stay in the cache, and a look-up waits for the main memory once.

use super::entry::RouteEntry;
use super::node_hash::NodeHash;
use crate::identity::NodeId;

/// Places in a group: the bytes of a `u64`.
const GROUP: usize = 8;

/// A number with this value in every byte.
const fn in_every_byte(value: u8) -> u64 {
    u64::from_ne_bytes([value; GROUP])
}

/// Set in the tag of every place that is taken.
const TAKEN: u8 = 0x80;

/// Where in the hash the tag comes from: above what chooses the shard, below what chooses the group.
const TAG_SHIFT: u32 = 20;

/// A destination and its routes.
#[derive(Clone, Copy)]
struct Place {
    id: NodeId,
    entry: RouteEntry,
}

const FREE: Place = Place {
    id: NodeId([0; 32]),
    entry: RouteEntry::VACANT,
};

/// Routes to the destinations whose hashes led here. A group that was ever full stays full until the table is built
/// anew: who finds a group full has to look into the next, and who finds a free place in it need not.
#[derive(Clone, Default)]
pub(super) struct Shard {
    tags: Box<[u64]>,
    places: Box<[Place]>,
    len: usize,
}

impl Shard {
    /// An empty shard that takes `len` entries before it is built anew.
    fn with_room_for(len: usize) -> Self {
        // Filled to three quarters, so that the next sixth can come before the table is built anew at seven eighths.
        let groups = (len * 4).div_ceil(3 * GROUP);
        Self {
            tags: vec![0; groups].into_boxed_slice(),
            places: vec![FREE; groups * GROUP].into_boxed_slice(),
            len: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.len >= self.places.len() / 8 * 7
    }

    #[inline]
    pub(super) fn get(&self, hash: u64, id: &NodeId) -> Option<&RouteEntry> {
        let place = self.find(hash, id)?;
        Some(&self.places[place].entry)
    }

    /// Sets the routes to `id`. Returns whether it was not in the shard before.
    pub(super) fn insert(&mut self, hasher: &NodeHash, hash: u64, id: NodeId, entry: RouteEntry) -> bool {
        if let Some(place) = self.find(hash, &id) {
            self.places[place].entry = entry;
            return false;
        }
        if self.is_full() {
            self.rebuild(hasher, self.len + 1);
        }
        self.put(hash, id, entry);
        true
    }

    /// Removes the routes to `id`. Returns whether there were any.
    pub(super) fn remove(&mut self, hasher: &NodeHash, hash: u64, id: &NodeId) -> bool {
        let Some(place) = self.find(hash, id) else {
            return false;
        };
        let group = place / GROUP;
        let was_full = free_places(self.tags[group]) == 0;
        let mut tags = self.tags[group].to_le_bytes();
        tags[place % GROUP] = 0;
        self.tags[group] = u64::from_le_bytes(tags);
        self.places[place] = FREE;
        self.len -= 1;
        let is_sparse = self.len < self.places.len() / 8 * 3;
        if was_full || is_sparse {
            self.rebuild(hasher, self.len);
        }
        true
    }

    /// Its entries in two shards: those whose hash lacks `bit`, and those whose hash has it.
    pub(super) fn split(&self, hasher: &NodeHash, bit: u64) -> (Self, Self) {
        let has_bit = |id: &NodeId| hasher.hash(id) & bit != 0;
        let with_bit = self.iter().filter(|(id, _)| has_bit(id)).count();
        let mut without = Self::with_room_for(self.len - with_bit);
        let mut with = Self::with_room_for(with_bit);
        for (id, entry) in self.iter() {
            let target = if has_bit(id) { &mut with } else { &mut without };
            target.put(hasher.hash(id), *id, *entry);
        }
        (without, with)
    }

    /// One shard of its entries and those of another, which has none of its destinations.
    pub(super) fn merged(&self, hasher: &NodeHash, other: &Self) -> Self {
        let mut merged = Self::with_room_for(self.len + other.len);
        merged.put_all(hasher, self);
        merged.put_all(hasher, other);
        merged
    }

    /// All entries, in the order of their places: not to be shown to anybody unsorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeId, &RouteEntry)> {
        let groups = self.tags.iter().zip(self.places.chunks_exact(GROUP));
        groups
            .flat_map(|(tags, places)| tags.to_le_bytes().into_iter().zip(places))
            .filter(|(tag, _)| *tag != 0)
            .map(|(_, place)| (&place.id, &place.entry))
    }

    /// Bytes on the heap behind it.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.tags) + size_of_val(&*self.places)
    }

    #[inline]
    fn find(&self, hash: u64, id: &NodeId) -> Option<usize> {
        let wanted = in_every_byte(tag_of(hash));
        let mut group = self.home(hash);
        for _ in 0..self.tags.len() {
            let tags = *self.tags.get(group)?;
            let mut candidates = zero_bytes(tags ^ wanted);
            while candidates != 0 {
                let place = group * GROUP + first_byte(candidates);
                if self.places.get(place)?.id == *id {
                    return Some(place);
                }
                candidates &= candidates - 1;
            }
            if free_places(tags) != 0 {
                return None;
            }
            group = self.after(group);
        }
        None
    }

    /// Puts in an entry that is not there yet, into a table with a free place.
    fn put(&mut self, hash: u64, id: NodeId, entry: RouteEntry) {
        let mut group = self.home(hash);
        for _ in 0..self.tags.len() {
            let free = free_places(self.tags[group]);
            if free != 0 {
                let place = first_byte(free);
                self.tags[group] |= u64::from(tag_of(hash)) << (8 * place);
                self.places[group * GROUP + place] = Place { id, entry };
                self.len += 1;
                return;
            }
            group = self.after(group);
        }
    }

    fn put_all(&mut self, hasher: &NodeHash, other: &Self) {
        for (id, entry) in other.iter() {
            self.put(hasher.hash(id), *id, *entry);
        }
    }

    fn rebuild(&mut self, hasher: &NodeHash, room: usize) {
        let mut built = Self::with_room_for(room);
        built.put_all(hasher, self);
        *self = built;
    }

    /// The first group to look into: the upper half of the hash, as a fraction, of the number of groups.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.tags.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, group: usize) -> usize {
        if group + 1 == self.tags.len() {
            0
        } else {
            group + 1
        }
    }
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash >> TAG_SHIFT) as u8 | TAKEN
}

/// The upper bit of every byte of `word` that is zero, and sometimes of one above such a byte: candidates, to be
/// checked.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(in_every_byte(1)) & !word & in_every_byte(TAKEN)
}

/// The upper bit of every free place's byte.
#[inline]
fn free_places(tags: u64) -> u64 {
    !tags & in_every_byte(TAKEN)
}

/// The number of the lowest byte with its upper bit set.
#[inline]
fn first_byte(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}
