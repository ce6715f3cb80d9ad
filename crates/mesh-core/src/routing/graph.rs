//! The graph of what nodes announced of themselves: who is whose neighbour, and at what price.
//!
//! It proposes: candidate paths for discovery to confirm, how many of them are independent, whom the network could not
//! do without, and a picture for people. It never decides: no packet is forwarded because of it, and loop freedom
//! rests on the route table's own rules alone. So a lie in it costs a failed confirmation, not money.

mod cuts;
mod pair;
mod paths;
mod search;
#[cfg(test)]
mod twin;

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;

use crate::certificate::Price;
use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::limits::{MAX_GRAPH_LISTINGS, MAX_GRAPH_NODES, MAX_LISTED_NEIGHBOURS};
use crate::time::UnixMillis;

pub use crate::announcement::ListedNeighbour;
pub use paths::{CandidatePath, PathQuery};

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

/// What an announcement, a withdrawal or an expiry changed for routes that use the node.
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

/// The bounded, expiring graph of what nodes announced of themselves.
///
/// **An edge counts when both ends list each other.** A liar can list whom it wants; without their listing it back, it
/// has made nothing but a longer announcement. Two liars can invent a link between themselves, and nothing else.
///
/// **Only announcers are nodes.** An id that is listed but announced nothing has no place of its own: otherwise one
/// announcement of invented neighbours would take the places of 64 honest nodes.
///
/// **Bounded** by [`GraphLimits`]; when full, the new is refused and nothing old is forgotten before it expires.
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
    by_expiry: BTreeSet<(UnixMillis, u32)>,
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
            by_expiry: BTreeSet::new(),
            by_operator: BTreeSet::new(),
            listings: 0,
            edges: 0,
        }
    }

    /// Replaces what `origin` announced before. Refused, with nothing changed:
    /// [`Malformed`](DropReason::Malformed) when it lists itself, somebody twice, a cost of 0 or too many;
    /// [`TableFull`](DropReason::TableFull) when the graph has no room for it.
    pub fn announce(
        &mut self,
        origin: NodeId,
        facts: NodeFacts,
        neighbours: &[ListedNeighbour],
    ) -> Result<GraphChange, DropReason> {
        let listed = self.checked_listing(&origin, neighbours)?;
        let slot = self.admit(&origin, facts, listed.len())?;
        let (edges, one_sided) = self.split_by_mutuality(slot, &origin, &listed);
        let lost = self.drop_edges(slot, &origin, |edge| {
            edges.binary_search_by_key(&edge.to, |new| new.to).is_err()
        });
        let mut repriced = false;
        if let Some(node) = self.node_mut(slot) {
            repriced = node.facts.price != facts.price;
            let before = std::mem::replace(&mut node.facts, facts);
            node.edges = edges;
            node.one_sided = one_sided;
            self.file(slot, &before, &facts);
        }
        Ok(GraphChange { repriced, lost })
    }

    /// Forgets what `origin` announced; nothing happens when that was nothing.
    pub fn withdraw(&mut self, origin: &NodeId) -> GraphChange {
        let Some(slot) = self.slots.remove(origin) else {
            return GraphChange::default();
        };
        let lost = self.drop_edges(slot, origin, |_| true);
        if let Some(node) = self.nodes.get_mut(slot as usize).and_then(Option::take) {
            self.listings -= node.edges.len() + node.one_sided.len();
            self.by_expiry.remove(&(node.facts.expires, slot));
            if let Some(operator) = node.facts.operator {
                self.by_operator.remove(&(operator, slot));
            }
            self.free.push(slot);
        }
        GraphChange {
            repriced: false,
            lost,
        }
    }

    /// Forgets every announcement that holds until `now` or less, the oldest first. Costs nothing when none does.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<(NodeId, GraphChange)> {
        let mut gone = Vec::new();
        while let Some(&(expires, slot)) = self.by_expiry.first()
            && expires <= now
        {
            let Some(id) = self.node(slot).map(|node| node.id) else {
                break;
            };
            let change = self.withdraw(&id);
            gone.push((id, change));
        }
        gone
    }

    /// Whether both list each other.
    pub fn has_edge(&self, a: &NodeId, b: &NodeId) -> bool {
        let ends = self.slots.get(a).zip(self.slots.get(b));
        ends.is_some_and(|(a, b)| self.edge(*a, *b).is_some())
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

    /// The listing by id, if it is one.
    fn checked_listing(
        &self,
        origin: &NodeId,
        neighbours: &[ListedNeighbour],
    ) -> Result<Vec<ListedNeighbour>, DropReason> {
        if neighbours.len() > self.limits.listed {
            return Err(DropReason::Malformed);
        }
        let mut listed = neighbours.to_vec();
        listed.sort_unstable();
        let twice = listed.windows(2).any(|pair| pair[0].node == pair[1].node);
        let bad = listed
            .iter()
            .any(|entry| entry.node == *origin || entry.cost == 0);
        if twice || bad {
            return Err(DropReason::Malformed);
        }
        Ok(listed)
    }

    /// The slot of `origin`, new if need be, with `listed` listings instead of those it had.
    fn admit(&mut self, origin: &NodeId, facts: NodeFacts, listed: usize) -> Result<u32, DropReason> {
        let known = self.slots.get(origin).copied();
        let before = known
            .and_then(|slot| self.node(slot))
            .map_or(0, |node| node.edges.len() + node.one_sided.len());
        let listings = self.listings - before + listed;
        if listings > self.limits.listings || (known.is_none() && self.slots.len() >= self.limits.nodes) {
            return Err(DropReason::TableFull);
        }
        let slot = match known {
            Some(slot) => slot,
            None => self.new_slot(origin, facts)?,
        };
        self.listings = listings;
        Ok(slot)
    }

    fn new_slot(&mut self, origin: &NodeId, facts: NodeFacts) -> Result<u32, DropReason> {
        let node = Node {
            id: *origin,
            facts,
            edges: Vec::new(),
            one_sided: Vec::new(),
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => u32::try_from(self.nodes.len()).map_err(|_| DropReason::TableFull)?,
        };
        if slot as usize == self.nodes.len() {
            self.nodes.push(Some(node));
        } else if let Some(place) = self.nodes.get_mut(slot as usize) {
            *place = Some(node);
        }
        self.slots.insert(*origin, slot);
        Ok(slot)
    }

    /// Splits what `origin` lists now into edges (by slot) and what is not returned (by id), and tells the other ends.
    fn split_by_mutuality(
        &mut self,
        slot: u32,
        origin: &NodeId,
        listed: &[ListedNeighbour],
    ) -> (Vec<Edge>, Vec<ListedNeighbour>) {
        let (mut edges, mut one_sided) = (Vec::new(), Vec::new());
        for entry in listed {
            let other = self.slots.get(&entry.node).copied();
            match other.and_then(|to| Some((to, self.return_edge(to, slot, origin, entry.cost)?))) {
                Some((to, cost_back)) => edges.push(Edge {
                    to,
                    cost: entry.cost,
                    cost_back,
                }),
                None => one_sided.push(*entry),
            }
        }
        edges.sort_unstable_by_key(|edge| edge.to);
        edges.shrink_to_fit();
        one_sided.shrink_to_fit();
        (edges, one_sided)
    }

    /// At node `at`, makes or updates the edge to `slot` if `at` lists it; its own cost of that link.
    fn return_edge(&mut self, at: u32, slot: u32, origin: &NodeId, cost_back: u16) -> Option<u16> {
        let node = self.node_mut(at)?;
        match node.edges.binary_search_by_key(&slot, |edge| edge.to) {
            Ok(place) => {
                node.edges[place].cost_back = cost_back;
                Some(node.edges[place].cost)
            }
            Err(place) => {
                let listed = node.one_sided.binary_search_by_key(origin, |entry| entry.node);
                let cost = node.one_sided.remove(listed.ok()?).cost;
                shrink(&mut node.one_sided);
                let edge = Edge {
                    to: slot,
                    cost,
                    cost_back,
                };
                node.edges.reserve_exact(1);
                node.edges.insert(place, edge);
                self.edges += 1;
                Some(cost)
            }
        }
    }

    /// Turns those edges of `slot` that `is_lost` picks into listings of the other ends alone; who those are, by id.
    fn drop_edges(&mut self, slot: u32, origin: &NodeId, is_lost: impl Fn(&Edge) -> bool) -> Vec<NodeId> {
        let edges = self.node(slot).map(|node| node.edges.as_slice());
        let ends: Vec<u32> = edges
            .unwrap_or_default()
            .iter()
            .filter(|edge| is_lost(edge))
            .map(|edge| edge.to)
            .collect();
        let mut lost = Vec::with_capacity(ends.len());
        for end in ends {
            let Some(node) = self.node_mut(end) else { continue };
            lost.push(node.id);
            let Ok(place) = node.edges.binary_search_by_key(&slot, |edge| edge.to) else {
                continue;
            };
            let cost = node.edges.remove(place).cost;
            let entry = ListedNeighbour { node: *origin, cost };
            let place = node.one_sided.partition_point(|other| *other < entry);
            node.one_sided.insert(place, entry);
            self.edges -= 1;
        }
        lost.sort_unstable();
        lost
    }

    /// Files `slot` under its new expiry and operator.
    fn file(&mut self, slot: u32, before: &NodeFacts, facts: &NodeFacts) {
        self.by_expiry.remove(&(before.expires, slot));
        self.by_expiry.insert((facts.expires, slot));
        if let Some(operator) = before.operator {
            self.by_operator.remove(&(operator, slot));
        }
        if let Some(operator) = facts.operator {
            self.by_operator.insert((operator, slot));
        }
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

    /// The operator's key, or the node's own.
    fn entity_key(&self, slot: u32) -> Option<NodeId> {
        self.node(slot).map(|node| node.facts.operator.unwrap_or(node.id))
    }
}

/// Gives back the room of a list that has emptied.
fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > 2 * list.len() {
        list.shrink_to_fit();
    }
}
