//! The cheapest path within a hop limit.
//!
//! First two sweeps back from the destination: the fewest hops from each node to it, and the least money, hop limit or
//! not. Both are lower bounds for what a search from the source can still need, so that it follows little more than
//! the path it finds (A*). They are made once for a query: paths searched later must avoid more, hence cost no less.
//!
//! The search settles labels (node, hops) in the order of their cost. A node is settled again only with fewer hops than
//! before: a dearer way there that leaves more hops for the rest. So the cheapest way of 11 hops to somewhere does not
//! hide the dearer one of 9, and no path visits a node twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::paths::PathQuery;
use super::{Edge, NetworkGraph};
use crate::limits::MAX_HOPS;

/// What one step of a path can cost in comparisons, in msat, half of it for the node and half for the link: 176 BTC a
/// KiB. Dearer ones are all the same, so that no announced price can make a sum overflow.
const MAX_HALF_STEP_MSAT: u64 = 1 << 43;

/// What using an earlier path's link again costs in comparisons, in msat: more than any path of ten hops.
const REUSED_LINK_MSAT: u64 = 1 << 48;

/// What using an earlier path's router again costs in comparisons, in msat: more than using all its links again. Ten
/// hops, each used by three earlier paths, still fit.
const REUSED_ROUTER_MSAT: u64 = 1 << 54;

/// Not reachable within the hop limit.
pub(super) const UNREACHABLE: u8 = u8::MAX;

const NO_LABEL: u32 = u32::MAX;

/// What a search must not use, or only for want of anything else.
#[derive(Clone)]
pub(super) struct Obstacles {
    /// Routers not to be used, by slot.
    closed: Vec<bool>,
    /// Links not to be used, in the direction of the path.
    pub(super) barred: Vec<(u32, u32)>,
    /// How many earlier paths use a router or another of its entity, by slot.
    uses: Vec<u8>,
    /// Links of earlier paths.
    used_links: Vec<(u32, u32)>,
}

/// A path that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Slots, source first, destination last.
    pub(super) path: Vec<u32>,
    /// What it costs in comparisons: reuse of routers, of links, msat; then hops.
    pub(super) rank: (u64, usize),
}

impl Found {
    /// Its rank without what was added for reuse: msat, then hops.
    pub(super) fn price_rank(&self) -> (u64, usize) {
        (self.rank.0 % REUSED_LINK_MSAT, self.rank.1)
    }
}

/// One query's searches: the graph, what entering each node costs, and the lower bounds.
pub(super) struct Search<'g> {
    pub(super) graph: &'g NetworkGraph,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) max_hops: u8,
    weight_msat: u64,
    /// Price and surcharge of each node, in msat.
    entry: Vec<u64>,
    /// Fewest hops to the destination, past the nodes to avoid.
    pub(super) hops_left: Vec<u8>,
    bound: Bound,
    states: Vec<State>,
    round: u32,
    labels: Vec<Label>,
    heap: BinaryHeap<Reverse<(u64, u8, u32)>>,
}

/// The least that is still to be paid from each node on: exact below the horizon, and no less than it beyond.
#[derive(Default)]
struct Bound {
    least: Vec<u64>,
    horizon: u64,
}

impl Bound {
    fn at(&self, slot: u32) -> u64 {
        self.least[slot as usize].min(self.horizon)
    }
}

/// What is known of a node in one round.
#[derive(Clone, Copy, Default)]
struct State {
    round: u32,
    /// Fewest hops it was settled with.
    settled_hops: u8,
    /// The cheapest label waiting for it.
    waiting_hops: u8,
    waiting_cost: u64,
}

/// A way to a node.
struct Label {
    node: u32,
    parent: u32,
    cost: u64,
    hops: u8,
}

impl Obstacles {
    pub(super) fn none(graph: &NetworkGraph) -> Self {
        Self {
            closed: vec![false; graph.nodes.len()],
            barred: Vec::new(),
            uses: vec![0; graph.nodes.len()],
            used_links: Vec::new(),
        }
    }

    /// Closes the entities of a path's routers; of a path without routers, its link.
    pub(super) fn close(&mut self, graph: &NetworkGraph, path: &[u32]) {
        for member in routers(path).iter().flat_map(|router| graph.entity(*router)) {
            self.closed[member as usize] = true;
        }
        if let [from, to] = path {
            self.barred.push((*from, *to));
        }
    }

    /// Makes using a path's routers and links again a last resort.
    pub(super) fn discourage(&mut self, graph: &NetworkGraph, path: &[u32]) {
        let mut members: Vec<u32> = routers(path)
            .iter()
            .flat_map(|router| graph.entity(*router))
            .collect();
        members.sort_unstable();
        members.dedup();
        for member in members {
            self.uses[member as usize] += 1;
        }
        self.used_links
            .extend(path.windows(2).map(|link| (link[0], link[1])));
    }

    fn reuse_msat(&self, from: u32, to: u32) -> u64 {
        if self.used_links.is_empty() {
            return 0;
        }
        let links = self.used_links.iter().filter(|link| **link == (from, to)).count() as u64;
        u64::from(self.uses[to as usize]) * REUSED_ROUTER_MSAT + links * REUSED_LINK_MSAT
    }
}

/// The nodes between source and destination.
pub(super) fn routers(path: &[u32]) -> &[u32] {
    path.get(1..path.len().saturating_sub(1)).unwrap_or_default()
}

impl<'g> Search<'g> {
    /// Makes ready for a query; `None` when no path within its hop limit exists.
    pub(super) fn prepare(graph: &'g NetworkGraph, query: &PathQuery<'_>) -> Option<Self> {
        let (from, to) = (graph.slot(&query.from)?, graph.slot(&query.to)?);
        let max_hops = query.max_hops.min(MAX_HOPS) as u8;
        let mut avoided = vec![false; graph.nodes.len()];
        for slot in query.avoid.iter().filter_map(|id| graph.slot(id)) {
            avoided[slot as usize] = true;
        }
        let hops_left = hops_left(graph, from, to, max_hops, &avoided);
        if from == to || hops_left[from as usize] == UNREACHABLE {
            return None;
        }
        let mut search = Self {
            graph,
            from,
            to,
            max_hops,
            weight_msat: query.latency_weight_msat,
            entry: entry_costs(graph, query),
            hops_left,
            bound: Bound::default(),
            states: vec![State::default(); graph.nodes.len()],
            round: 0,
            labels: Vec::new(),
            heap: BinaryHeap::new(),
        };
        search.rebound(&Obstacles::none(graph));
        Some(search)
    }

    /// Computes the bounds anew for searches with these obstacles or more.
    pub(super) fn rebound(&mut self, obstacles: &Obstacles) {
        self.bound = self.least_to_pay(obstacles);
    }

    /// The cheapest path past the obstacles; of equally cheap ones the one with the fewest hops.
    pub(super) fn cheapest(&mut self, obstacles: &Obstacles) -> Option<Found> {
        self.round += 1;
        self.labels.clear();
        self.heap.clear();
        let mut ceiling = u64::MAX;
        self.put(self.from, NO_LABEL, 0, 0);
        while let Some(Reverse((_, hops, label))) = self.heap.pop() {
            let Label { node, cost, .. } = self.labels[label as usize];
            if node == self.to {
                return Some(self.found(label));
            }
            let state = &mut self.states[node as usize];
            if state.settled_hops <= hops {
                continue;
            }
            state.settled_hops = hops;
            for edge in self.graph.edges_of(node) {
                self.step(obstacles, label, node, edge, cost, hops + 1, &mut ceiling);
            }
        }
        None
    }

    /// Follows one edge, if that can lead to a path no dearer than `ceiling`, the cheapest known.
    #[allow(clippy::too_many_arguments)]
    fn step(
        &mut self,
        obstacles: &Obstacles,
        parent: u32,
        node: u32,
        edge: &Edge,
        cost: u64,
        hops: u8,
        ceiling: &mut u64,
    ) {
        let next = edge.to;
        if self.hops_left[next as usize].saturating_add(hops) > self.max_hops
            || (next != self.to && obstacles.closed[next as usize])
            || obstacles.barred.contains(&(node, next))
        {
            return;
        }
        let cost = cost + self.step_msat(next, edge.cost) + obstacles.reuse_msat(node, next);
        if cost.saturating_add(self.bound.at(next)) > *ceiling {
            return;
        }
        if self.put(next, parent, cost, hops) && next == self.to {
            *ceiling = cost;
        }
    }

    /// Adds a label unless one that is no worse is known.
    fn put(&mut self, node: u32, parent: u32, cost: u64, hops: u8) -> bool {
        let state = &mut self.states[node as usize];
        if state.round != self.round {
            *state = State {
                round: self.round,
                settled_hops: u8::MAX,
                waiting_hops: u8::MAX,
                waiting_cost: u64::MAX,
            };
        }
        if state.settled_hops <= hops || (state.waiting_cost <= cost && state.waiting_hops <= hops) {
            return false;
        }
        if cost <= state.waiting_cost {
            (state.waiting_cost, state.waiting_hops) = (cost, hops);
        }
        let label = self.labels.len() as u32;
        self.labels.push(Label {
            node,
            parent,
            cost,
            hops,
        });
        let least = cost.saturating_add(self.bound.at(node));
        self.heap.push(Reverse((least, hops, label)));
        true
    }

    fn step_msat(&self, into: u32, link_cost: u16) -> u64 {
        let link = self.weight_msat.saturating_mul(u64::from(link_cost));
        self.entry[into as usize] + link.min(MAX_HALF_STEP_MSAT)
    }

    fn found(&self, label: u32) -> Found {
        let last = &self.labels[label as usize];
        let mut path = Vec::with_capacity(usize::from(last.hops) + 1);
        let mut at = label;
        while at != NO_LABEL {
            let label = &self.labels[at as usize];
            path.push(label.node);
            at = label.parent;
        }
        path.reverse();
        Found {
            path,
            rank: (last.cost, usize::from(last.hops)),
        }
    }

    /// Dijkstra back from the destination until the source is settled.
    fn least_to_pay(&mut self, obstacles: &Obstacles) -> Bound {
        let mut least = vec![u64::MAX; self.graph.nodes.len()];
        least[self.to as usize] = 0;
        self.heap.clear();
        self.heap.push(Reverse((0, 0, self.to)));
        while let Some(Reverse((cost, _, node))) = self.heap.pop() {
            if node == self.from {
                return Bound { least, horizon: cost };
            }
            if cost > least[node as usize] {
                continue;
            }
            for edge in self.graph.edges_of(node) {
                let before = edge.to;
                if self.hops_left[before as usize] == UNREACHABLE {
                    continue;
                }
                let step = self.step_msat(node, edge.cost_back) + obstacles.reuse_msat(before, node);
                let cost = cost.saturating_add(step);
                if cost < least[before as usize] && cost <= least[self.from as usize] {
                    least[before as usize] = cost;
                    self.heap.push(Reverse((cost, 0, before)));
                }
            }
        }
        Bound {
            horizon: u64::MAX,
            least,
        }
    }
}

/// Fewest hops from each node to `to` past those to avoid, by breadth-first search. The source and the destination
/// are what the caller asked for, avoided or not.
fn hops_left(graph: &NetworkGraph, from: u32, to: u32, max_hops: u8, avoided: &[bool]) -> Vec<u8> {
    let mut hops_left = vec![UNREACHABLE; graph.nodes.len()];
    hops_left[to as usize] = 0;
    let mut ring = vec![to];
    for hops in 1..=max_hops {
        let mut next = Vec::new();
        for edge in ring.iter().flat_map(|node| graph.edges_of(*node)) {
            let left = &mut hops_left[edge.to as usize];
            if *left == UNREACHABLE && (edge.to == from || !avoided[edge.to as usize]) {
                *left = hops;
                next.push(edge.to);
            }
        }
        ring = next;
    }
    hops_left
}

/// What entering each node costs in comparisons, in msat.
fn entry_costs(graph: &NetworkGraph, query: &PathQuery<'_>) -> Vec<u64> {
    let price = |node: &super::Node| node.facts.price.msat_per_unit.min(MAX_HALF_STEP_MSAT);
    let mut entry: Vec<u64> = graph
        .nodes
        .iter()
        .map(|node| node.as_ref().map_or(0, price))
        .collect();
    for (id, surcharge) in query.surcharges_msat.into_iter().flatten() {
        if let Some(slot) = graph.slot(id) {
            let entry = &mut entry[slot as usize];
            *entry = entry.saturating_add(*surcharge).min(MAX_HALF_STEP_MSAT);
        }
    }
    entry
}
