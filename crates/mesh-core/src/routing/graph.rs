//! The graph of what nodes announced of themselves: who is whose neighbour, and at what price.
//!
//! It proposes: candidate paths for discovery to confirm, how many of them are independent, whom the network could not
//! do without, and a picture for people. It never decides: no packet is forwarded because of it, and loop freedom
//! rests on the route table's own rules alone. So a lie in it costs a failed confirmation, not money.

mod announce;
mod bounds;
mod cuts;
mod obstacles;
mod pair;
mod paths;
mod search;
#[cfg(test)]
mod twin;
mod ways;

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;

use crate::certificate::Price;
use crate::fairness::entities::Entities;
use crate::identity::NodeId;
use crate::limits::{MAX_GRAPH_LISTINGS, MAX_GRAPH_NODES, MAX_LISTED_NEIGHBOURS};
use crate::time::UnixMillis;

pub use crate::announcement::ListedNeighbour;
pub use paths::{CandidatePath, PathQuery};
pub use ways::MAX_WAYS;

/// What a node announced of itself, besides its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFacts {
    /// What it charges.
    pub price: Price,
    /// The operator key it was shown to belong to. Nodes of one operator count as one entity, so a claim that nobody
    /// checked would let a node pass itself off as its rival's and take the rival off the list of alternatives.
    pub operator: Option<NodeId>,
    /// Until when all of it holds.
    pub expires: UnixMillis,
}

/// What an announcement or a withdrawal changed for routes that use the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphChange {
    /// Its price is another than it was.
    pub repriced: bool,
    /// Neighbours with whom its edge is gone, by id.
    pub lost: Vec<NodeId>,
}

/// How much a graph holds at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphLimits {
    /// Neighbours in one announcement.
    pub listed: usize,
    /// Nodes.
    pub nodes: usize,
    /// Neighbours in all announcements together.
    pub listings: usize,
}

impl Default for GraphLimits {
    fn default() -> Self {
        Self {
            listed: MAX_LISTED_NEIGHBOURS,
            nodes: MAX_GRAPH_NODES,
            listings: MAX_GRAPH_LISTINGS,
        }
    }
}

/// A node of the graph as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode<'g> {
    /// Its id.
    pub id: NodeId,
    /// What it announced.
    pub facts: &'g NodeFacts,
    /// Those who list it and whom it lists, by id, with its own cost of the link.
    pub neighbours: Vec<ListedNeighbour>,
}

/// The bounded graph of what nodes announced of themselves.
///
/// **An edge counts when both ends list each other.** A liar can list whom it wants; without their listing it back, it
/// has made nothing but a longer announcement. Two liars can invent a link between themselves, and nothing else.
///
/// **Only announcers are nodes.** An id that is listed but announced nothing has no place of its own: otherwise one
/// announcement of invented neighbours would take the places of 64 honest nodes.
///
/// **Bounded** by [`GraphLimits`]; when full, the new is refused and nothing old is forgotten before it is withdrawn.
///
/// **Without a clock**: the distance vector says when an announcement holds no more. By the wall clock here, one that
/// jumps ahead would empty the graph for as long as nobody announces anything new.
///
/// **Deterministic**: the same calls in the same order give the same answers; the seed only keys the hash table, which
/// is never iterated.
///
/// Nodes have dense numbers (slots), which a departed node leaves to the next newcomer. Signatures, and that an
/// announcement is newer than the one before, were checked elsewhere.
#[derive(Debug)]
pub struct NetworkGraph {
    limits: GraphLimits,
    slots: HashMap<NodeId, u32, FixedState>,
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    by_operator: BTreeSet<(NodeId, u32)>,
    listings: usize,
    edges: usize,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    facts: NodeFacts,
    /// Edges that count, by slot.
    edges: Vec<Edge>,
    /// Whom it lists without being listed back, by id.
    one_sided: Vec<ListedNeighbour>,
}

/// One end of an edge.
#[derive(Debug, Clone, Copy)]
struct Edge {
    to: u32,
    /// What this end says that the link costs.
    cost: u16,
    /// What the other end says: the way back.
    cost_back: u16,
}

impl NetworkGraph {
    /// An empty graph. `hash_seed` differs from node to node, so that nobody can choose ids that crowd one place.
    pub fn new(hash_seed: u64) -> Self {
        Self::with_limits(hash_seed, GraphLimits::default())
    }

    /// An empty graph of another size.
    pub fn with_limits(hash_seed: u64, limits: GraphLimits) -> Self {
        Self {
            limits,
            slots: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            nodes: Vec::new(),
            free: Vec::new(),
            by_operator: BTreeSet::new(),
            listings: 0,
            edges: 0,
        }
    }

    /// Whether both list each other.
    pub fn has_edge(&self, a: &NodeId, b: &NodeId) -> bool {
        let ends = self.slots.get(a).zip(self.slots.get(b));
        ends.is_some_and(|(a, b)| self.edge(*a, *b).is_some())
    }

    /// What `from` says that its link to `to` costs, if both list each other.
    pub fn cost(&self, from: &NodeId, to: &NodeId) -> Option<u16> {
        let (from, to) = (self.slot(from)?, self.slot(to)?);
        self.edge(from, to).map(|edge| edge.cost)
    }

    /// What `node` announced.
    pub fn facts(&self, node: &NodeId) -> Option<&NodeFacts> {
        self.node(*self.slots.get(node)?).map(|node| &node.facts)
    }

    /// How many nodes announced themselves.
    pub fn node_count(&self) -> usize {
        self.slots.len()
    }

    /// How many edges count, each once.
    pub fn edge_count(&self) -> usize {
        self.edges
    }

    /// All nodes by id, with their neighbours. Sorts them first: for a person's question, not for every packet.
    pub fn nodes(&self) -> impl Iterator<Item = GraphNode<'_>> {
        let mut nodes: Vec<_> = self.nodes.iter().flatten().collect();
        nodes.sort_unstable_by_key(|node| node.id);
        nodes.into_iter().map(|node| GraphNode {
            id: node.id,
            facts: &node.facts,
            neighbours: self.neighbours(node),
        })
    }

    fn neighbours(&self, node: &Node) -> Vec<ListedNeighbour> {
        let mut neighbours: Vec<_> = node
            .edges
            .iter()
            .filter_map(|edge| {
                Some(ListedNeighbour {
                    node: self.node(edge.to)?.id,
                    cost: edge.cost,
                })
            })
            .collect();
        neighbours.sort_unstable();
        neighbours
    }

    fn node(&self, slot: u32) -> Option<&Node> {
        self.nodes.get(slot as usize)?.as_ref()
    }

    fn node_mut(&mut self, slot: u32) -> Option<&mut Node> {
        self.nodes.get_mut(slot as usize)?.as_mut()
    }

    fn slot(&self, id: &NodeId) -> Option<u32> {
        self.slots.get(id).copied()
    }

    fn edges_of(&self, slot: u32) -> &[Edge] {
        self.node(slot).map_or(&[], |node| &node.edges)
    }

    fn edge(&self, from: u32, to: u32) -> Option<&Edge> {
        let edges = self.edges_of(from);
        let place = edges.binary_search_by_key(&to, |edge| edge.to).ok()?;
        Some(&edges[place])
    }

    /// The slots that are one entity with `slot`, itself among them: those of its operator, and the node whose id is
    /// the operator's key.
    fn entity(&self, slot: u32) -> Vec<u32> {
        let Some(node) = self.node(slot) else {
            return Vec::new();
        };
        let key = self.entity_key(slot).unwrap_or(node.id);
        let mut members: Vec<u32> = self
            .by_operator
            .range((key, 0)..=(key, u32::MAX))
            .map(|(_, member)| *member)
            .collect();
        let namesake = self.slot(&key);
        members.extend(namesake.filter(|member| {
            self.node(*member)
                .is_some_and(|node| node.facts.operator.is_none())
        }));
        members
    }

    /// The slots that are one with `slot`, itself among them, also for what only `entities` knows; some twice.
    fn one_with(&self, slot: u32, entities: Option<&Entities>) -> Vec<u32> {
        let mut members = self.entity(slot);
        if let Some((entities, node)) = entities.zip(self.node(slot)) {
            let others = entities.members(&node.id);
            members.extend(others.iter().filter_map(|other| self.slot(other)));
        }
        members
    }

    /// The operator's key, or the node's own.
    fn entity_key(&self, slot: u32) -> Option<NodeId> {
        self.node(slot).map(|node| node.facts.operator.unwrap_or(node.id))
    }
}
