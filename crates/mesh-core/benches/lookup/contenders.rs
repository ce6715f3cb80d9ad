//! Tables that many threads can read while one writes.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::quality::FixedState;
use left_right::{Absorb, ReadHandle, WriteHandle};
use mesh_core::identity::NodeId;
use mesh_core::routing::snapshot::{RouteEntry, RouteSnapshot, SnapshotWriter, Successor};

/// The writer's side of a table, and how its readers look something up.
pub(crate) trait Contender: Sized {
    const NAME: &'static str;

    /// What a reader keeps between two look-ups.
    type Reader;

    fn build(routes: &[(NodeId, RouteEntry)]) -> (Self, Self::Reader);

    fn set(&mut self, id: NodeId, entry: RouteEntry);

    /// Shows readers what was set, if that takes anything.
    fn publish(&mut self);

    fn look_up(reader: &mut Self::Reader, id: &NodeId) -> Option<Successor>;
}

/// Snapshots behind one pointer, as the hands publish them. The reader keeps the snapshot and checks at each look-up
/// whether there is a newer one.
pub(crate) struct Snapshot {
    writer: SnapshotWriter,
    shown: Arc<ArcSwap<RouteSnapshot>>,
}

impl Contender for Snapshot {
    const NAME: &'static str = "snapshot, kept";
    type Reader = arc_swap::Cache<Arc<ArcSwap<RouteSnapshot>>, Arc<RouteSnapshot>>;

    fn build(routes: &[(NodeId, RouteEntry)]) -> (Self, Self::Reader) {
        let mut writer = SnapshotWriter::new(1);
        for (id, entry) in routes {
            writer.set(*id, *entry);
        }
        let shown = Arc::new(ArcSwap::from_pointee(writer.publish()));
        let reader = arc_swap::Cache::new(Arc::clone(&shown));
        (Self { writer, shown }, reader)
    }

    fn set(&mut self, id: NodeId, entry: RouteEntry) {
        self.writer.set(id, entry);
    }

    fn publish(&mut self) {
        self.shown.store(Arc::new(self.writer.publish()));
    }

    fn look_up(reader: &mut Self::Reader, id: &NodeId) -> Option<Successor> {
        Some(reader.load().look_up(id)?.best())
    }
}

/// The same, but the reader keeps nothing and takes the pointer for each look-up.
pub(crate) struct SnapshotLoaded(Snapshot);

impl Contender for SnapshotLoaded {
    const NAME: &'static str = "snapshot, taken";
    type Reader = Arc<ArcSwap<RouteSnapshot>>;

    fn build(routes: &[(NodeId, RouteEntry)]) -> (Self, Self::Reader) {
        let (writer, _) = Snapshot::build(routes);
        let reader = Arc::clone(&writer.shown);
        (Self(writer), reader)
    }

    fn set(&mut self, id: NodeId, entry: RouteEntry) {
        self.0.set(id, entry);
    }

    fn publish(&mut self) {
        self.0.publish();
    }

    fn look_up(reader: &mut Self::Reader, id: &NodeId) -> Option<Successor> {
        Some(reader.load().look_up(id)?.best())
    }
}

/// A node id that is hashed as fast as snapshots hash it: as two numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(NodeId);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (mut low, mut high) = ([0; 16], [0; 16]);
        low.copy_from_slice(&self.0.0[..16]);
        high.copy_from_slice(&self.0.0[16..]);
        state.write_u128(u128::from_le_bytes(low));
        state.write_u128(u128::from_le_bytes(high));
    }
}

/// The crate `dashmap`: shards behind a lock each.
pub(crate) struct DashMap(Arc<dashmap::DashMap<Key, RouteEntry, FixedState>>);

impl Contender for DashMap {
    const NAME: &'static str = "dashmap";
    type Reader = Arc<dashmap::DashMap<Key, RouteEntry, FixedState>>;

    fn build(routes: &[(NodeId, RouteEntry)]) -> (Self, Self::Reader) {
        let map = Arc::new(dashmap::DashMap::with_hasher(FixedState::with_seed(1)));
        for (id, entry) in routes {
            map.insert(Key(*id), *entry);
        }
        (Self(Arc::clone(&map)), map)
    }

    fn set(&mut self, id: NodeId, entry: RouteEntry) {
        self.0.insert(Key(id), entry);
    }

    fn publish(&mut self) {}

    fn look_up(reader: &mut Self::Reader, id: &NodeId) -> Option<Successor> {
        Some(reader.get(&Key(*id))?.best())
    }
}

/// The crate `papaya`: one table without locks, entries reclaimed when no reader can see them.
pub(crate) struct Papaya(Arc<papaya::HashMap<Key, RouteEntry, FixedState>>);

impl Contender for Papaya {
    const NAME: &'static str = "papaya";
    type Reader = Arc<papaya::HashMap<Key, RouteEntry, FixedState>>;

    fn build(routes: &[(NodeId, RouteEntry)]) -> (Self, Self::Reader) {
        let map = Arc::new(papaya::HashMap::with_hasher(FixedState::with_seed(1)));
        for (id, entry) in routes {
            map.pin().insert(Key(*id), *entry);
        }
        (Self(Arc::clone(&map)), map)
    }

    fn set(&mut self, id: NodeId, entry: RouteEntry) {
        self.0.pin().insert(Key(id), entry);
    }

    fn publish(&mut self) {}

    fn look_up(reader: &mut Self::Reader, id: &NodeId) -> Option<Successor> {
        Some(reader.pin().get(&Key(*id))?.best())
    }
}

/// The crate `left-right`: the table twice, one for readers while the other is written.
pub(crate) struct LeftRight(WriteHandle<Plain, Set>);

/// What `left-right` keeps two of.
#[derive(Clone)]
pub(crate) struct Plain(HashMap<Key, RouteEntry, FixedState>);

pub(crate) struct Set(Key, RouteEntry);

impl Absorb<Set> for Plain {
    fn absorb_first(&mut self, Set(key, entry): &mut Set, _: &Self) {
        self.0.insert(*key, *entry);
    }

    fn sync_with(&mut self, first: &Self) {
        self.0.clone_from(&first.0);
    }
}

impl Contender for LeftRight {
    const NAME: &'static str = "left-right";
    type Reader = ReadHandle<Plain>;

    fn build(routes: &[(NodeId, RouteEntry)]) -> (Self, Self::Reader) {
        let mut map = HashMap::with_hasher(FixedState::with_seed(1));
        map.extend(routes.iter().map(|(id, entry)| (Key(*id), *entry)));
        let (mut writer, reader) = left_right::new_from_empty(Plain(map));
        writer.publish();
        (Self(writer), reader)
    }

    fn set(&mut self, id: NodeId, entry: RouteEntry) {
        self.0.append(Set(Key(id), entry));
    }

    fn publish(&mut self) {
        self.0.publish();
    }

    fn look_up(reader: &mut Self::Reader, id: &NodeId) -> Option<Successor> {
        Some(reader.enter()?.0.get(&Key(*id))?.best())
    }
}
