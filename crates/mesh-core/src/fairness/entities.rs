//! Which nodes are one: entities, by what cannot cheaply be split.
//!
//! A node is cheap; an operator's key, a Lightning node and an address are less so. Nodes that share one of them are one
//! entity. Ties only ever merge: showing none makes a node an entity of its own, which is what it would be anyway, and
//! showing another's joins it to that one's share. So a tie must be one that both sides stand for; what a node merely
//! says of an address that another has proven is no tie (see [`Tie::Address`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::identity::NodeId;
use crate::limits::{MAX_GRAPH_NODES, MAX_TIES_PER_NODE};

/// What makes nodes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// An operator's key: the operator signed for the node, and the node shows it under its own signature.
    Operator(NodeId),
    /// The Lightning node that issues the invoices: it signed one that commits to the payee's id.
    Payee([u8; 33]),
    /// Where this node itself reached it, or was reached from: what somebody says of an address is no tie.
    Address(AddressBlock),
}

/// What one machine, or one customer's line, has of an address space: an IPv4 address, an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressBlock {
    /// The whole address.
    V4([u8; 4]),
    /// The first eight bytes.
    V6([u8; 8]),
}

impl AddressBlock {
    /// The block of a public address. `None` for those that many have at once, such as loopback and private ones: they
    /// would make one entity of all who live behind a router at home.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let shared = v4.is_private()
                    || v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_unspecified()
                    || v4.is_multicast()
                    || v4.is_broadcast()
                    || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64);
                (!shared).then_some(Self::V4(v4.octets()))
            }
            IpAddr::V6(v6) => {
                let first = v6.segments()[0];
                let shared = v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || first & 0xfe00 == 0xfc00
                    || first & 0xffc0 == 0xfe80;
                let mut block = [0; 8];
                block.copy_from_slice(&v6.octets()[..8]);
                (!shared).then_some(Self::V6(block))
            }
        }
    }
}

/// An entity, named by the least id among the nodes that ever were in it: the same name whatever the order in which ties
/// became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entity(pub NodeId);

/// All entities of more than one node, kept up as ties become known.
///
/// A union-find forest (Tarjan 1975, union by size): a tie costs one union, a question a walk of at most log2 n steps.
/// Unions cannot be undone, so a node that is forgotten stays in the forest until as many are forgotten as are known;
/// then the forest is grown anew from what is known, which costs each forgotten node a constant on average.
#[derive(Debug, Default)]
pub struct Entities {
    /// By id, those too that left since the forest was grown: entities may be named after them.
    known: BTreeMap<NodeId, Member>,
    /// The first node that showed each tie, by slot.
    first: BTreeMap<Tie, u32>,
    parent: Vec<u32>,
    size: Vec<u32>,
    /// The least id in the tree of each root.
    least: Vec<NodeId>,
    /// The nodes in the tree of each root, forgotten ones too.
    members: Vec<Vec<NodeId>>,
    /// Roots of trees that something else than an operator's key united.
    otherwise: BTreeSet<u32>,
    forgotten: usize,
}

#[derive(Debug)]
struct Member {
    slot: u32,
    ties: BTreeSet<Tie>,
    /// It left; its place in the forest is still there.
    left: bool,
}

impl Entities {
    /// Notes that a node shows a tie. Whether anything became one that was not.
    ///
    /// Of a node the first [`MAX_TIES_PER_NODE`] are remembered. A further one makes it one with those who showed the same
    /// before: else it would show so many that nobody shares, and then whatever it likes. Nodes beyond [`MAX_GRAPH_NODES`]
    /// show none, which leaves them entities of their own.
    pub fn tie(&mut self, node: NodeId, tie: Tie) -> bool {
        if self.known.get(&node).is_none_or(|member| member.left) {
            if self.present() >= MAX_GRAPH_NODES {
                return false;
            }
            self.settle(node);
        }
        let Some(member) = self.known.get_mut(&node) else {
            return false;
        };
        let slot = member.slot;
        let has_room = member.ties.len() < MAX_TIES_PER_NODE;
        if has_room && !member.ties.insert(tie) {
            return false;
        }
        let first = match self.first.get(&tie) {
            Some(first) => *first,
            None if has_room => *self.first.entry(tie).or_insert(slot),
            None => return false,
        };
        let is_new = self.unite(first, slot);
        if is_new && !matches!(tie, Tie::Operator(_)) {
            self.otherwise.insert(self.root(slot));
        }
        is_new
    }

    /// Forgets a node that is no longer part of the network, with its ties.
    pub fn forget(&mut self, node: &NodeId) {
        let Some(member) = self.known.get_mut(node).filter(|member| !member.left) else {
            return;
        };
        member.left = true;
        self.forgotten += 1;
        if self.forgotten > self.present() {
            self.regrow();
        }
    }

    /// Whose a node is.
    pub fn entity_of(&self, node: &NodeId) -> Entity {
        let member = self.known.get(node).filter(|member| !member.left);
        Entity(member.map_or(*node, |member| self.least[self.root(member.slot) as usize]))
    }

    /// All nodes that are one with `node`, or with what it was when it left; in no order that means anything, but always in the same.
    pub fn members(&self, node: &NodeId) -> Vec<NodeId> {
        let Some(member) = self.known.get(node) else {
            return vec![*node];
        };
        let members = &self.members[self.root(member.slot) as usize];
        members
            .iter()
            .filter(|node| self.known.get(*node).is_some_and(|member| !member.left))
            .copied()
            .collect()
    }

    /// The nodes of entities that something else than an operator's key made one, with their entity: few, as payees and
    /// addresses become known one by one, whereas everybody's operator is announced.
    pub fn merged_otherwise(&self) -> impl Iterator<Item = (NodeId, Entity)> + '_ {
        self.otherwise.iter().flat_map(|root| {
            let (members, entity) = (&self.members[*root as usize], Entity(self.least[*root as usize]));
            let present = |node: &&NodeId| self.known.get(*node).is_some_and(|member| !member.left);
            members.iter().filter(present).map(move |node| (*node, entity))
        })
    }

    fn present(&self) -> usize {
        self.known.len() - self.forgotten
    }

    /// Gives a node a place of its own.
    fn settle(&mut self, node: NodeId) {
        let slot = self.plant(node);
        let ties = BTreeSet::new();
        let member = Member {
            slot,
            ties,
            left: false,
        };
        if self.known.insert(node, member).is_some() {
            self.forgotten -= 1;
        }
    }

    fn plant(&mut self, node: NodeId) -> u32 {
        // Slots are at most known and forgotten nodes, twice MAX_GRAPH_NODES and one.
        let slot = self.parent.len() as u32;
        self.parent.push(slot);
        self.size.push(1);
        self.least.push(node);
        self.members.push(vec![node]);
        slot
    }

    fn root(&self, mut slot: u32) -> u32 {
        while self.parent[slot as usize] != slot {
            slot = self.parent[slot as usize];
        }
        slot
    }

    fn unite(&mut self, a: u32, b: u32) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return false;
        }
        let (small, large) = if self.size[a as usize] < self.size[b as usize] {
            (a, b)
        } else {
            (b, a)
        };
        if self.otherwise.remove(&small) {
            self.otherwise.insert(large);
        }
        let moved = std::mem::take(&mut self.members[small as usize]);
        self.members[large as usize].extend(moved);
        self.parent[small as usize] = large;
        self.size[large as usize] += self.size[small as usize];
        self.least[large as usize] = self.least[large as usize].min(self.least[small as usize]);
        true
    }

    fn regrow(&mut self) {
        let known = std::mem::take(self).known;
        for (node, member) in known.into_iter().filter(|(_, member)| !member.left) {
            for tie in member.ties {
                self.tie(node, tie);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    fn operator(byte: u8) -> Tie {
        Tie::Operator(id(byte))
    }

    #[test]
    fn node_that_shows_nothing_is_its_own_entity() {
        let entities = Entities::default();
        assert_eq!(entities.entity_of(&id(7)), Entity(id(7)));
        assert_eq!(entities.members(&id(7)), [id(7)]);
    }

    #[test]
    fn fifty_nodes_behind_any_mix_of_ties_are_one() {
        let mut entities = Entities::default();
        for node in 1..=50 {
            // Each shows what the next one shows too, never all the same thing.
            let tie = |n: u8| match n % 3 {
                0 => operator(n),
                1 => Tie::Payee([n; 33]),
                _ => Tie::Address(AddressBlock::V4([9, 9, 9, n])),
            };
            entities.tie(id(node), tie(node));
            entities.tie(id(node), tie(node + 1));
        }
        for node in 1..=50 {
            assert_eq!(entities.entity_of(&id(node)), Entity(id(1)));
        }
        assert_eq!(entities.members(&id(1)).len(), 50);
    }

    #[test]
    fn node_that_is_forgotten_takes_its_ties_with_it_in_the_end() {
        let mut entities = Entities::default();
        entities.tie(id(1), operator(8));
        entities.tie(id(2), operator(8));
        entities.tie(id(2), operator(9));
        entities.tie(id(3), operator(9));
        assert_eq!(entities.entity_of(&id(3)), Entity(id(1)));
        entities.forget(&id(2));
        entities.forget(&id(2));
        assert!(!entities.members(&id(1)).contains(&id(2)));
        entities.tie(id(4), operator(9));
        entities.forget(&id(1));
        let members = entities.members(&id(1));
        assert_eq!(
            members,
            [id(3), id(4)],
            "an entity named after who left is still found"
        );
        entities.forget(&id(4));
        entities.tie(id(1), operator(8));
        for other in 10..20 {
            entities.tie(id(other), operator(100 + other));
            entities.forget(&id(other));
        }
        assert_eq!(entities.entity_of(&id(3)), Entity(id(3)), "the bridge is gone");
        assert_eq!(entities.entity_of(&id(1)), Entity(id(1)));
    }

    #[test]
    fn node_shows_so_many_ties_and_no_more() {
        let mut entities = Entities::default();
        for tie in 0..=MAX_TIES_PER_NODE as u8 {
            entities.tie(id(1), operator(tie));
        }
        entities.tie(id(2), operator(MAX_TIES_PER_NODE as u8));
        assert_eq!(entities.entity_of(&id(2)), Entity(id(2)), "not remembered");
        entities.tie(id(1), operator(MAX_TIES_PER_NODE as u8));
        assert_eq!(entities.entity_of(&id(2)), Entity(id(1)), "but never free of it");
    }

    #[test]
    fn address_that_many_have_at_once_ties_nobody() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "100.64.0.1",
            "169.254.1.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ];
        for address in private {
            assert_eq!(AddressBlock::of(address.parse().unwrap()), None, "{address}");
        }
        let block = |address: &str| AddressBlock::of(address.parse().unwrap());
        assert_eq!(block("2a01:4f8:1:2::5"), block("2a01:4f8:1:2:ffff::9"));
        assert_ne!(block("2a01:4f8:1:2::5"), block("2a01:4f8:1:3::5"));
        assert_eq!(block("::ffff:9.9.9.9"), Some(AddressBlock::V4([9, 9, 9, 9])));
    }

    proptest! {
        /// Whatever the order of ties, and whoever was forgotten in between and came back, the same nodes are one.
        #[test]
        fn entities_do_not_depend_on_the_order_of_ties(
            ties in prop::collection::vec((0u8..20, 0u8..12), 0..60),
            leavers in prop::collection::vec(20u8..40, 0..60),
        ) {
            let mut forward = Entities::default();
            for (at, (node, tie)) in ties.iter().enumerate() {
                forward.tie(id(*node), operator(*tie));
                if let Some(leaver) = leavers.get(at) {
                    forward.tie(id(*leaver), operator(200 + leaver));
                    forward.forget(&id(*leaver));
                }
            }
            let mut backward = Entities::default();
            for (node, tie) in ties.iter().rev() {
                backward.tie(id(*node), operator(*tie));
            }
            for node in 0..20 {
                prop_assert_eq!(forward.entity_of(&id(node)), backward.entity_of(&id(node)));
                let sorted = |entities: &Entities| {
                    let mut members = entities.members(&id(node));
                    members.sort();
                    members
                };
                prop_assert_eq!(sorted(&forward), sorted(&backward));
            }
        }
    }
}
