//! Where readers look routes up without ever waiting for the one loop that owns the core.
//!
//! The core keeps a [`SnapshotWriter`] beside its route table and tells it what changed. Now and then, at most every
//! five milliseconds, the hands have it [`publish`](SnapshotWriter::publish) and swap one pointer; API handlers and other
//! threads take the pointer and read a [`RouteSnapshot`], which never changes under them.
//!
//! **How.** Two levels, copy on write. The root is an array of pointers to shards, cut into pages; a shard is a small hash
//! table of some hundred destinations. A published shard is immutable: the writer copies it the first time it has to
//! change something in it, and goes on changing its own copy until the next publication. Publishing copies the pointers
//! to the pages and nothing else, so unchanged shards are shared by all snapshots that contain them.
//!
//! **Costs.** A look-up hashes the id once, follows three pointers and compares, nearly always, one id. A change copies
//! at most one shard and splits at most one. The shards grow in number with the table, one at a time (linear hashing,
//! W. Litwin, VLDB 1980): ten routes have one shard, and no change ever rebuilds more than two.
//!
//! **Attackers** choose their node ids, and with time to spare can choose them to collide in any hash function they
//! know. The hash is keyed by a seed that only this node knows; otherwise somebody could crowd one shard until every
//! change in it copies the whole table.
//!
//! **Order.** Where an entry lies depends on the seed and must never show: whatever goes through all entries sorts
//! them by node id first.

mod entry;
mod node_hash;
mod table;

use std::fmt;
use std::sync::Arc;

pub use entry::{InvalidRouteEntry, RouteEntry, Successor};

use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::limits::MAX_NEIGHBOURS;
use table::Table;

/// All routes of one moment. Cheap to clone, free to read from any thread, and the same for ever.
#[derive(Clone)]
pub struct RouteSnapshot {
    table: Arc<Table>,
    neighbours: Arc<Vec<Option<NodeId>>>,
}

impl RouteSnapshot {
    /// The routes to `destination`. They may have expired since: see [`RouteEntry::expires`].
    #[inline]
    pub fn look_up(&self, destination: &NodeId) -> Option<&RouteEntry> {
        self.table.get(destination)
    }

    /// Who the neighbour is that a [`Successor`] of this snapshot names by number.
    pub fn neighbour(&self, number: u32) -> Option<NodeId> {
        *self.neighbours.get(usize::try_from(number).ok()?)?
    }

    /// Number of destinations.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no route at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every destination with its routes, in the order of node ids. Sorts on each call: for listings, not for look-ups.
    pub fn iter_sorted(&self) -> impl ExactSizeIterator<Item = (&NodeId, &RouteEntry)> {
        let mut all: Vec<_> = self.table.iter().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        all.into_iter()
    }

    /// Bytes on the heap that the snapshot keeps alive, shared with other snapshots or not, as asked of the allocator.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.neighbours.capacity() * size_of::<Option<NodeId>>()
    }
}

impl fmt::Debug for RouteSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The table holds the key of its hash, which no log may show.
        f.debug_struct("RouteSnapshot")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The one writer of a series of snapshots. It holds the next one: what was published last, and every change since.
///
/// It keeps what it is given and is as large as the route table that it mirrors; the bound on destinations is there.
pub struct SnapshotWriter {
    table: Table,
    neighbours: Arc<Vec<Option<NodeId>>>,
    published: RouteSnapshot,
    dirty: bool,
}

impl SnapshotWriter {
    /// No routes yet. `hash_seed` keys the hash; whoever knows it can crowd a shard.
    pub fn new(hash_seed: u64) -> Self {
        let table = Table::new(hash_seed);
        let neighbours = Arc::new(Vec::new());
        Self {
            published: RouteSnapshot {
                table: Arc::new(table.clone()),
                neighbours: Arc::clone(&neighbours),
            },
            table,
            neighbours,
            dirty: false,
        }
    }

    /// From the next snapshot on, these are the routes to `destination`.
    pub fn set(&mut self, destination: NodeId, entry: RouteEntry) {
        self.dirty |= self.table.insert(destination, entry);
    }

    /// From the next snapshot on, there is no route to `destination`.
    pub fn remove(&mut self, destination: &NodeId) {
        self.dirty |= self.table.remove(destination);
    }

    /// From the next snapshot on, `number` stands for this neighbour, or for nobody. Numbers from [`MAX_NEIGHBOURS`] on
    /// are refused with [`DropReason::TableFull`]: they index an array, and a stray one must not allocate gigabytes.
    pub fn set_neighbour(&mut self, number: u32, id: Option<NodeId>) -> Result<(), DropReason> {
        let number = usize::try_from(number).map_err(|_| DropReason::TableFull)?;
        if number >= MAX_NEIGHBOURS {
            return Err(DropReason::TableFull);
        }
        if self.neighbours.get(number).copied().flatten() == id {
            return Ok(());
        }
        let neighbours = Arc::make_mut(&mut self.neighbours);
        if neighbours.len() <= number {
            neighbours.resize(number + 1, None);
        }
        neighbours[number] = id;
        self.dirty = true;
        Ok(())
    }

    /// Whether the next snapshot will differ from the last one, or was changed and changed back.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Number of destinations in the next snapshot.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether the next snapshot has no route at all.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// The snapshot of this moment; the last one again when nothing has changed.
    pub fn publish(&mut self) -> RouteSnapshot {
        if self.dirty {
            self.published = RouteSnapshot {
                table: Arc::new(self.table.clone()),
                neighbours: Arc::clone(&self.neighbours),
            };
            self.dirty = false;
        }
        self.published.clone()
    }
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("len", &self.len())
            .field("dirty", &self.dirty)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What a routing table might tell the writer.
    #[derive(Debug, Clone)]
    enum Step {
        Set(u16, u32),
        SetMany(u16, u16),
        Remove(u16),
        RemoveMany(u16, u16),
        Publish,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let id = || any::<u16>().prop_map(|id| id % 2000);
        let step = prop_oneof![
            8 => (id(), any::<u32>()).prop_map(|(id, price)| Step::Set(id, price)),
            2 => (id(), 0..800_u16).prop_map(|(from, count)| Step::SetMany(from, count)),
            8 => id().prop_map(Step::Remove),
            2 => (id(), 0..800_u16).prop_map(|(from, count)| Step::RemoveMany(from, count)),
            3 => Just(Step::Publish),
        ];
        proptest::collection::vec(step, 1..60)
    }

    fn id(number: u16) -> NodeId {
        let mut id = [0; 32];
        id[15..17].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    fn entry(price: u32) -> RouteEntry {
        let successor = Successor {
            neighbour: price % 7,
            cost: price,
            hops: 3,
        };
        RouteEntry::new(&[successor], u64::from(price), UnixMillis(1000)).unwrap()
    }

    type Twin = BTreeMap<NodeId, RouteEntry>;

    fn apply(step: &Step, writer: &mut SnapshotWriter, twin: &mut Twin) {
        match *step {
            Step::Set(number, price) => {
                writer.set(id(number), entry(price));
                twin.insert(id(number), entry(price));
            }
            Step::SetMany(from, count) => (from..from + count)
                .for_each(|number| apply(&Step::Set(number, u32::from(number)), writer, twin)),
            Step::Remove(number) => {
                writer.remove(&id(number));
                twin.remove(&id(number));
            }
            Step::RemoveMany(from, count) => {
                (from..from + count).for_each(|number| apply(&Step::Remove(number), writer, twin));
            }
            Step::Publish => {}
        }
    }

    fn assert_same(snapshot: &RouteSnapshot, twin: &Twin) {
        assert_eq!(snapshot.len(), twin.len());
        assert!(
            snapshot.iter_sorted().eq(twin.iter()),
            "entries in the order of ids"
        );
        for number in 0..3000 {
            assert_eq!(snapshot.look_up(&id(number)), twin.get(&id(number)));
        }
    }

    proptest! {
        #[test]
        fn every_snapshot_stays_what_the_table_was_when_it_was_published(steps in steps(), seed: u64) {
            let mut writer = SnapshotWriter::new(seed);
            let mut twin = Twin::new();
            let mut published = vec![(writer.publish(), twin.clone())];
            for step in steps {
                apply(&step, &mut writer, &mut twin);
                if let Step::Publish = step {
                    published.push((writer.publish(), twin.clone()));
                    prop_assert!(!writer.is_dirty());
                }
            }
            published.push((writer.publish(), twin));
            for (snapshot, twin) in &published {
                assert_same(snapshot, twin);
            }
        }

        #[test]
        fn two_seeds_give_the_same_answers(steps in steps(), seed: u64) {
            let (mut one, mut other) = (SnapshotWriter::new(seed), SnapshotWriter::new(!seed));
            let mut twin = Twin::new();
            for step in &steps {
                apply(step, &mut one, &mut twin);
                apply(step, &mut other, &mut Twin::new());
                prop_assert_eq!(one.is_dirty(), other.is_dirty());
            }
            let (one, other) = (one.publish(), other.publish());
            prop_assert!(one.iter_sorted().eq(other.iter_sorted()));
        }
    }

    #[test]
    fn what_is_not_published_yet_is_not_seen() {
        let mut writer = SnapshotWriter::new(1);
        writer.set(id(1), entry(5));
        let before = writer.publish();
        writer.set(id(1), entry(6));
        writer.set(id(2), entry(7));
        writer.remove(&id(1));
        assert!(writer.is_dirty());
        assert_eq!(before.look_up(&id(1)), Some(&entry(5)));
        assert_eq!(before.look_up(&id(2)), None);
        let after = writer.publish();
        assert_eq!(after.look_up(&id(1)), None);
        assert_eq!(after.look_up(&id(2)), Some(&entry(7)));
    }

    #[test]
    fn change_that_changes_nothing_needs_no_new_snapshot() {
        let mut writer = SnapshotWriter::new(1);
        writer.set(id(1), entry(5));
        writer.set_neighbour(3, Some(id(9))).unwrap();
        let first = writer.publish();
        writer.set(id(1), entry(5));
        writer.remove(&id(2));
        writer.set_neighbour(3, Some(id(9))).unwrap();
        writer.set_neighbour(800, None).unwrap();
        assert!(!writer.is_dirty());
        assert!(Arc::ptr_eq(&first.table, &writer.publish().table));
    }

    #[test]
    fn successor_is_named_by_the_snapshot_it_was_found_in() {
        let mut writer = SnapshotWriter::new(1);
        writer.set_neighbour(4, Some(id(1))).unwrap();
        let before = writer.publish();
        writer.set_neighbour(4, Some(id(2))).unwrap();
        writer.set_neighbour(6, Some(id(3))).unwrap();
        let after = writer.publish();
        assert_eq!((before.neighbour(4), before.neighbour(6)), (Some(id(1)), None));
        assert_eq!(
            (after.neighbour(4), after.neighbour(6)),
            (Some(id(2)), Some(id(3)))
        );
        assert_eq!((after.neighbour(5), after.neighbour(u32::MAX)), (None, None));
        writer.set_neighbour(4, None).unwrap();
        assert_eq!(writer.publish().neighbour(4), None);
    }

    #[test]
    fn stray_neighbour_number_allocates_nothing() {
        let mut writer = SnapshotWriter::new(1);
        for stray in [MAX_NEIGHBOURS as u32, u32::MAX] {
            assert_eq!(
                writer.set_neighbour(stray, Some(id(1))),
                Err(DropReason::TableFull)
            );
        }
        assert_eq!(
            writer.set_neighbour(MAX_NEIGHBOURS as u32 - 1, Some(id(1))),
            Ok(())
        );
    }

    #[test]
    fn other_threads_read_while_the_writer_goes_on() {
        fn shared<T: Send + Sync + Clone>(value: &T) -> T {
            value.clone()
        }
        let mut writer = SnapshotWriter::new(1);
        (0..1000).for_each(|number| writer.set(id(number), entry(1)));
        let snapshot = writer.publish();
        let reader = shared(&snapshot);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..1000 {
                    assert_eq!(reader.look_up(&id(number)), Some(&entry(1)));
                }
            });
            (0..1000).for_each(|number| writer.remove(&id(number)));
        });
        assert!(writer.publish().is_empty() && snapshot.len() == 1000);
    }

    #[test]
    fn log_shows_no_key() {
        let mut writer = SnapshotWriter::new(0x5eed_5eed_5eed_5eed);
        let snapshot = writer.publish();
        let shown = format!("{snapshot:?} {writer:?}");
        assert_eq!(
            shown,
            "RouteSnapshot { len: 0, .. } SnapshotWriter { len: 0, dirty: false, .. }"
        );
    }
}
