//! Blame: what this node would pay to keep a router off its routes, in msat.
//!
//! When a session falls silent its source cannot know which router took the packets and carried none, so all on the
//! route share the blame equally: the source would pay [`SILENCE_MSAT`] to avoid the whole of it. Who is innocent is
//! cleared by other routes: a receipt over any of them halves the blame of everybody on it, and time halves all blame
//! every [`HALF_LIFE`], so that a node that was mended is used again without anybody's doing.
//!
//! Blame is this node's own experience and its own price. It is told to nobody, enters no metric, and only orders
//! routes: where there is one way only, that way stays offered. A router that swallows packets can so have the honest
//! ones beside it avoided for a while; it cannot have them excluded.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::NodeId;
use crate::limits::MAX_BLAMED_NODES;
use crate::time::Instant;

/// What one silent session costs the routers on its route together, in msat. Ten thousand sats, against routes compared
/// by the fee of ten thousand units: a silent route loses to any other that costs up to a sat more per KiB.
pub const SILENCE_MSAT: u64 = 10_000_000;

/// The most that one node is blamed for, in msat: the worst is forgotten within three hours.
const MAX_BLAME_MSAT: u64 = 16 * SILENCE_MSAT;

/// Time in which blame halves.
pub const HALF_LIFE: Duration = Duration::from_secs(600);

/// Blame below this is forgotten, in msat: no route is a sat better for it.
const FORGOTTEN_BELOW_MSAT: u64 = 1000;

#[derive(Debug, Clone, Copy)]
struct Entry {
    msat: u64,
    /// When it was this much.
    at: Instant,
}

impl Entry {
    /// Halved for every half-life that passed; on a straight line in between.
    fn left(self, now: Instant) -> u64 {
        let (passed, half_life) = ((now - self.at).as_micros(), HALF_LIFE.as_micros());
        let halvings = u32::try_from(passed / half_life).unwrap_or(u32::MAX);
        let whole = self.msat.checked_shr(halvings).unwrap_or(0);
        let since_then = u128::from(whole) * (passed % half_life) / (2 * half_life);
        // At most half of `whole`, so that it fits.
        whole - u64::try_from(since_then).unwrap_or(whole)
    }
}

/// The blamed, at most [`MAX_BLAMED_NODES`]: when more are, the least blamed is forgotten.
#[derive(Debug, Default)]
pub struct Blame {
    by_node: BTreeMap<NodeId, Entry>,
}

impl Blame {
    /// A session over `path` (all nodes, source and destination included) fell silent.
    pub fn note_silent(&mut self, path: &[NodeId], now: Instant) {
        let routers = routers_of(path);
        let share = SILENCE_MSAT.div_ceil((routers.len() as u64).max(1));
        for router in routers {
            let msat = self.surcharge_msat(router, now).saturating_add(share);
            self.set(router, msat.min(MAX_BLAME_MSAT), now);
        }
    }

    /// A receipt for new packets came over `path`.
    pub fn note_receipt(&mut self, path: &[NodeId], now: Instant) {
        // Almost always nobody is blamed, and receipts are many.
        if self.by_node.is_empty() {
            return;
        }
        for router in routers_of(path) {
            if self.by_node.contains_key(router) {
                let msat = self.surcharge_msat(router, now) / 2;
                self.set(router, msat, now);
            }
        }
    }

    /// What one would pay to avoid `node`, in msat.
    pub fn surcharge_msat(&self, node: &NodeId, now: Instant) -> u64 {
        self.by_node.get(node).map_or(0, |entry| entry.left(now))
    }

    /// What one would pay to avoid all routers of a path, in msat.
    pub fn of_path(&self, path: &[NodeId], now: Instant) -> u64 {
        let surcharges = routers_of(path)
            .iter()
            .map(|router| self.surcharge_msat(router, now));
        surcharges.fold(0, u64::saturating_add)
    }

    /// What one would pay to avoid each of the blamed, in msat: for whoever looks for new paths.
    pub fn surcharges_msat(&self, now: Instant) -> BTreeMap<NodeId, u64> {
        let blamed = self.by_node.iter();
        blamed.map(|(node, entry)| (*node, entry.left(now))).collect()
    }

    fn set(&mut self, node: &NodeId, msat: u64, now: Instant) {
        if msat < FORGOTTEN_BELOW_MSAT {
            self.by_node.remove(node);
            return;
        }
        if !self.by_node.contains_key(node) && self.by_node.len() >= MAX_BLAMED_NODES {
            self.forget_least(now);
        }
        self.by_node.insert(*node, Entry { msat, at: now });
    }

    fn forget_least(&mut self, now: Instant) {
        let blamed = self.by_node.iter();
        let least = blamed
            .min_by_key(|(_, entry)| entry.left(now))
            .map(|(node, _)| *node);
        if let Some(node) = least {
            self.by_node.remove(&node);
        }
    }
}

/// A source does not blame itself, and without its destination there is no route.
fn routers_of(path: &[NodeId]) -> &[NodeId] {
    path.get(1..path.len().saturating_sub(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000_000;

    fn path(over: &[u16]) -> Vec<NodeId> {
        over.iter().copied().map(node).collect()
    }

    fn node(number: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    #[test]
    fn routers_of_a_silent_route_share_the_blame_and_its_ends_have_none() {
        let mut blame = Blame::default();
        blame.note_silent(&path(&[1, 2, 3, 9]), Instant(0));
        let of = |number| blame.surcharge_msat(&node(number), Instant(0));
        assert_eq!(
            [of(1), of(2), of(3), of(9)],
            [0, SILENCE_MSAT / 2, SILENCE_MSAT / 2, 0]
        );
        assert_eq!(blame.of_path(&path(&[1, 2, 3, 9]), Instant(0)), SILENCE_MSAT);
        assert_eq!(blame.of_path(&path(&[1, 3, 8]), Instant(0)), SILENCE_MSAT / 2);
    }

    #[test]
    fn nobody_is_blamed_where_no_router_is() {
        let mut blame = Blame::default();
        for short in [path(&[]), path(&[1]), path(&[1, 2])] {
            blame.note_silent(&short, Instant(0));
        }
        assert!(blame.by_node.is_empty());
    }

    #[test]
    fn blame_halves_every_ten_minutes_and_with_every_receipt() {
        let mut blame = Blame::default();
        let route = path(&[1, 2, 9]);
        blame.note_silent(&route, Instant(0));
        let at = |blame: &Blame, minute| blame.surcharge_msat(&node(2), Instant(minute * MINUTE));
        assert_eq!(at(&blame, 10), SILENCE_MSAT / 2);
        assert_eq!(at(&blame, 30), SILENCE_MSAT / 8);
        assert!(at(&blame, 5) < SILENCE_MSAT && at(&blame, 5) > SILENCE_MSAT / 2);
        blame.note_receipt(&route, Instant(10 * MINUTE));
        assert_eq!(at(&blame, 10), SILENCE_MSAT / 4);
        assert_eq!(at(&blame, 20), SILENCE_MSAT / 8);
        assert_eq!(at(&blame, 100 * 365 * 24 * 60), 0);
    }

    #[test]
    fn receipts_over_other_routes_clear_who_is_innocent() {
        let mut blame = Blame::default();
        blame.note_silent(&path(&[1, 2, 3, 9]), Instant(0));
        assert_eq!(
            blame.surcharges_msat(Instant(0)).into_keys().collect::<Vec<_>>(),
            [node(2), node(3)]
        );
        let half = SILENCE_MSAT / 2;
        assert_eq!(
            blame.surcharges_msat(Instant(0)),
            BTreeMap::from([(node(2), half), (node(3), half)])
        );
        for _ in 0..4 {
            blame.note_receipt(&path(&[1, 2, 4, 9]), Instant(0));
        }
        for _ in 0..40 {
            blame.note_receipt(&path(&[1, 2, 3, 9]), Instant(0));
        }
        assert!(blame.by_node.is_empty(), "what is forgiven takes no room");
    }

    #[test]
    fn the_blamed_are_bounded_and_the_worst_stay() {
        let mut blame = Blame::default();
        blame.note_silent(&path(&[0, 7, 1]), Instant(0));
        for number in 0..MAX_BLAMED_NODES as u16 {
            let pair = 20_000 + 2 * number;
            blame.note_silent(&path(&[0, pair, pair + 1, 1]), Instant(0));
        }
        assert_eq!(blame.by_node.len(), MAX_BLAMED_NODES);
        assert_eq!(blame.surcharge_msat(&node(7), Instant(0)), SILENCE_MSAT);
    }

    proptest! {
        #[test]
        fn blame_never_grows_by_itself(msat in 0..=MAX_BLAME_MSAT, early in 0..u64::MAX, later in 0..u64::MAX) {
            let entry = Entry { msat, at: Instant(0) };
            let (early, late) = (early.min(later), early.max(later));
            prop_assert!(entry.left(Instant(early)) >= entry.left(Instant(late)));
            prop_assert!(entry.left(Instant(early)) <= msat);
        }
    }
}
