//! The nodes with a live link, and what each may still do.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

use crate::bucket::TokenBucket;
use crate::drop_reason::DropReason;
use crate::event::LinkId;
use crate::identity::NodeId;
use crate::limits::{CONTROL_BURST, CONTROL_MESSAGES_PER_SECOND, MAX_FRAME_BYTES, MAX_NEIGHBOURS};
use crate::time::Instant;

/// A neighbour's place in the table; valid while it has a link or a session refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour(usize);

/// What is known of one neighbour.
pub struct NeighbourState {
    /// Its id.
    pub id: NodeId,
    /// Its live link.
    pub link: Option<LinkId>,
    /// Control messages it may still send.
    pub control: TokenBucket,
    /// Free bytes it may still send.
    pub free_bytes: TokenBucket,
    /// Free sessions that came over it.
    pub free_sessions: usize,
    /// Sessions that refer to it.
    references: usize,
}

impl NeighbourState {
    /// Sessions that come from it or go to it.
    pub fn references(&self) -> usize {
        self.references
    }
}

/// All neighbours, with and without a live link.
pub struct Neighbours {
    slots: Vec<Option<NeighbourState>>,
    vacant: Vec<usize>,
    by_id: BTreeMap<NodeId, usize>,
    by_link: HashMap<LinkId, usize, FixedState>,
    free_bytes_per_second: u64,
}

impl Neighbours {
    /// None yet; each will have this quota of free bytes per second.
    pub fn new(hash_seed: u64, free_bytes_per_second: u64) -> Self {
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            by_id: BTreeMap::new(),
            by_link: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            free_bytes_per_second,
        }
    }

    /// What a quiet neighbour may send at once: two seconds' worth, and at least one packet of the largest size, which
    /// would otherwise never get through. With no quota nothing gets through.
    fn free_burst(&self) -> u64 {
        match self.free_bytes_per_second {
            0 => 0,
            rate => rate.saturating_mul(2).max(MAX_FRAME_BYTES as u64),
        }
    }

    /// A link came up. An older link of the same neighbour is forgotten.
    pub fn link_up(&mut self, link: LinkId, peer: NodeId, now: Instant) -> Result<Neighbour, DropReason> {
        let slot = match self.by_id.get(&peer) {
            Some(slot) => *slot,
            None => self.insert(peer, now)?,
        };
        if let Some(state) = self.slots[slot].as_mut() {
            if let Some(old) = state.link.replace(link) {
                self.by_link.remove(&old);
            }
            self.by_link.insert(link, slot);
        }
        Ok(Neighbour(slot))
    }

    fn insert(&mut self, peer: NodeId, now: Instant) -> Result<usize, DropReason> {
        if self.by_id.len() >= MAX_NEIGHBOURS {
            return Err(DropReason::TableFull);
        }
        let state = NeighbourState {
            id: peer,
            link: None,
            control: TokenBucket::new(CONTROL_MESSAGES_PER_SECOND, CONTROL_BURST, now),
            free_bytes: TokenBucket::new(self.free_bytes_per_second, self.free_burst(), now),
            free_sessions: 0,
            references: 0,
        };
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(state);
        self.by_id.insert(peer, slot);
        Ok(slot)
    }

    /// A link is gone; who was on it, unless the link was replaced before.
    pub fn link_down(&mut self, link: LinkId) -> Option<(Neighbour, NodeId)> {
        let slot = self.by_link.remove(&link)?;
        let state = self.slots[slot].as_mut()?;
        state.link = None;
        let id = state.id;
        self.forget_if_unused(slot);
        Some((Neighbour(slot), id))
    }

    /// A session refers to the neighbour from now on.
    pub fn retain(&mut self, neighbour: Neighbour) {
        if let Some(Some(state)) = self.slots.get_mut(neighbour.0) {
            state.references += 1;
        }
    }

    /// A session no longer refers to it.
    pub fn release(&mut self, neighbour: Neighbour) {
        if let Some(Some(state)) = self.slots.get_mut(neighbour.0) {
            state.references = state.references.saturating_sub(1);
            self.forget_if_unused(neighbour.0);
        }
    }

    fn forget_if_unused(&mut self, slot: usize) {
        let unused = self.slots[slot]
            .as_ref()
            .filter(|state| state.references == 0 && state.link.is_none());
        if let Some(id) = unused.map(|state| state.id) {
            self.by_id.remove(&id);
            self.slots[slot] = None;
            self.vacant.push(slot);
        }
    }

    /// Who is on a link.
    pub fn on_link(&self, link: LinkId) -> Option<Neighbour> {
        self.by_link.get(&link).copied().map(Neighbour)
    }

    /// The neighbour with that id.
    pub fn by_id(&self, id: &NodeId) -> Option<Neighbour> {
        self.by_id.get(id).copied().map(Neighbour)
    }

    /// What is known of a neighbour.
    pub fn get(&self, neighbour: Neighbour) -> Option<&NeighbourState> {
        self.slots.get(neighbour.0)?.as_ref()
    }

    /// What is known of a neighbour, to change it.
    pub fn get_mut(&mut self, neighbour: Neighbour) -> Option<&mut NeighbourState> {
        self.slots.get_mut(neighbour.0)?.as_mut()
    }

    /// The live link to a node.
    pub fn link_to(&self, id: &NodeId) -> Option<LinkId> {
        self.by_id(id).and_then(|neighbour| self.link_of(neighbour))
    }

    /// The live link of a neighbour.
    pub fn link_of(&self, neighbour: Neighbour) -> Option<LinkId> {
        self.get(neighbour)?.link
    }

    /// All live links, in the order of the neighbours' ids.
    pub fn live(&self) -> impl Iterator<Item = (LinkId, NodeId)> + '_ {
        self.by_id
            .iter()
            .filter_map(|(id, slot)| Some((self.slots[*slot].as_ref()?.link?, *id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    #[test]
    fn strangers_that_come_and_go_leave_nothing_behind() {
        let mut neighbours = Neighbours::new(1, 0);
        for round in 0..1000u64 {
            neighbours
                .link_up(LinkId(round), id(round as u8), Instant(0))
                .unwrap();
            neighbours.link_down(LinkId(round)).unwrap();
        }
        assert_eq!(
            (
                neighbours.slots.len(),
                neighbours.by_id.len(),
                neighbours.by_link.len()
            ),
            (1, 0, 0)
        );
    }

    #[test]
    fn the_smallest_quota_lets_the_largest_packet_through_and_no_quota_nothing() {
        for (quota, passes) in [(1, true), (0, false)] {
            let mut neighbours = Neighbours::new(1, quota);
            let neighbour = neighbours.link_up(LinkId(1), id(1), Instant(0)).unwrap();
            let state = neighbours.get_mut(neighbour).unwrap();
            assert_eq!(state.free_bytes.take(MAX_FRAME_BYTES as u64, Instant(0)), passes);
            assert!(!state.free_bytes.take(1, Instant(0)));
        }
    }

    #[test]
    fn sessions_find_a_neighbour_again_on_its_new_link() {
        let mut neighbours = Neighbours::new(1, 0);
        let neighbour = neighbours.link_up(LinkId(1), id(1), Instant(0)).unwrap();
        neighbours.retain(neighbour);
        neighbours.link_down(LinkId(1)).unwrap();
        assert_eq!(neighbours.link_of(neighbour), None);
        assert_eq!(
            neighbours.link_up(LinkId(2), id(1), Instant(0)).unwrap(),
            neighbour
        );
        assert_eq!(neighbours.link_of(neighbour), Some(LinkId(2)));
    }

    #[test]
    fn replaced_link_going_down_late_does_not_take_the_new_one_with_it() {
        let mut neighbours = Neighbours::new(1, 0);
        neighbours.link_up(LinkId(1), id(1), Instant(0)).unwrap();
        neighbours.link_up(LinkId(2), id(1), Instant(0)).unwrap();
        assert!(neighbours.link_down(LinkId(1)).is_none());
        assert_eq!(neighbours.link_to(&id(1)), Some(LinkId(2)));
    }
}
