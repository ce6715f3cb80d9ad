//! The cheapest path within a hop limit.
//!
//! First two sweeps back from the destination: the fewest hops from each node to it, and the least money, hop limit or
//! not. Both are lower bounds for what a search from the source can still need, so that it follows little more than
//! the path it finds (A*). They are made once for a query: paths searched later must avoid more, hence cost no less.
//! Where they must avoid so much that the bounds mislead, the search is given up and begun again with exact ones.
//!
//! The search settles labels (node, hops) in the order of their cost. A node is settled again only with fewer hops than
//! before: a dearer way there that leaves more hops for the rest. So the cheapest way of 11 hops to somewhere does not
//! hide the dearer one of 9, and no path visits a node twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bounds::{
    Bound, UNREACHABLE, entry_costs, hops_left, least_price, least_reuse, leaves_a_path, link_msat,
};
use super::obstacles::{Obstacles, REUSED_LINK_MSAT};
use super::paths::PathQuery;
use super::{Edge, NetworkGraph};
use crate::fairness::entities::Entities;
use crate::limits::MAX_HOPS;

const NO_LABEL: u32 = u32::MAX;

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
    /// Who is one beyond what the graph knows.
    pub(super) entities: Option<&'g Entities>,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) max_hops: u8,
    pub(super) weight_msat: u64,
    /// Price and surcharge of each node, in msat for `COMPARISON_UNITS`, and what breaks ties.
    pub(super) entry: Vec<u64>,
    /// Fewest hops to the destination, past the nodes to avoid.
    pub(super) hops_left: Vec<u8>,
    price: Bound,
    reuse: Bound,
    states: Vec<State>,
    round: u32,
    /// What the cheapest path known in this round costs.
    ceiling: u64,
    labels: Vec<Label>,
    heap: BinaryHeap<Reverse<(u64, u8, u32)>>,
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

/// The bounds, made for fewer obstacles, lead the search astray.
struct Misled;

/// A way to a node.
#[derive(Clone, Copy)]
struct Label {
    node: u32,
    parent: u32,
    cost: u64,
    hops: u8,
}

impl<'g> Search<'g> {
    /// Makes ready for a query; `None` when no path within its hop limit exists.
    pub(super) fn prepare(
        graph: &'g NetworkGraph,
        query: &PathQuery<'_>,
        entities: Option<&'g Entities>,
    ) -> Option<Self> {
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
            entities,
            from,
            to,
            max_hops,
            weight_msat: query.latency_weight_msat,
            price: Bound::default(),
            reuse: Bound::default(),
            entry: entry_costs(graph, query, entities),
            hops_left,
            states: vec![State::default(); graph.nodes.len()],
            round: 0,
            ceiling: u64::MAX,
            labels: Vec::new(),
            heap: BinaryHeap::new(),
        };
        search.price = least_price(&search, &Obstacles::none(graph));
        Some(search)
    }

    /// Makes ready for searches that are to use as little again as these obstacles or more allow.
    pub(super) fn expect_reuse(&mut self, obstacles: &Obstacles) {
        self.reuse = least_reuse(self, obstacles);
    }

    /// The cheapest path past the obstacles; of equally cheap ones the one with the fewest hops.
    pub(super) fn cheapest(&mut self, obstacles: &Obstacles) -> Option<Found> {
        if !leaves_a_path(self, obstacles) {
            return None;
        }
        if let Ok(found) = self.run(obstacles, self.graph.nodes.len()) {
            return found;
        }
        let exact = least_price(self, obstacles);
        let usual = (
            std::mem::replace(&mut self.price, exact),
            std::mem::take(&mut self.reuse),
        );
        let found = self.run(obstacles, usize::MAX);
        (self.price, self.reuse) = usual;
        found.ok().flatten()
    }

    /// Searches until found, until nothing is left to look at, or until `patience` labels were made.
    fn run(&mut self, obstacles: &Obstacles, patience: usize) -> Result<Option<Found>, Misled> {
        self.round += 1;
        self.labels.clear();
        self.heap.clear();
        self.ceiling = self.descend(obstacles).unwrap_or(u64::MAX);
        self.put(self.from, NO_LABEL, 0, 0);
        while let Some(Reverse((_, hops, label))) = self.heap.pop() {
            let node = self.labels[label as usize].node;
            if node == self.to {
                return Ok(Some(self.found(label)));
            }
            let state = &mut self.states[node as usize];
            if state.settled_hops <= hops {
                continue;
            }
            state.settled_hops = hops;
            for edge in self.graph.edges_of(node) {
                self.step(obstacles, label, edge);
            }
            if self.labels.len() > patience {
                return Err(Misled);
            }
        }
        Ok(None)
    }

    /// What the way costs on which every step looks the cheapest; `None` when it does not arrive. The search need not
    /// look at anything dearer, which saves it most neighbours of the hubs.
    fn descend(&self, obstacles: &Obstacles) -> Option<u64> {
        let (mut node, mut cost) = (self.from, 0);
        for hops in 1..=self.max_hops {
            let edges = self.graph.edges_of(node).iter();
            let next = edges
                .filter(|edge| self.may_step(obstacles, node, edge.to, hops))
                .map(|edge| (self.step_msat(obstacles, node, edge), edge.to))
                .min_by_key(|(step, next)| (step.saturating_add(self.least_left(*next)), *next))?;
            cost += next.0;
            node = next.1;
            if node == self.to {
                return Some(cost);
            }
        }
        None
    }

    /// Follows one edge, if that can lead to a path no dearer than the cheapest one known.
    #[inline]
    fn step(&mut self, obstacles: &Obstacles, parent: u32, edge: &Edge) {
        let next = edge.to;
        let Label { node, cost, hops, .. } = self.labels[parent as usize];
        let cost = cost + self.step_msat(obstacles, node, edge);
        let too_dear = cost.saturating_add(self.least_left(next)) > self.ceiling;
        if too_dear || !self.may_step(obstacles, node, next, hops + 1) {
            return;
        }
        if self.put(next, parent, cost, hops + 1) && next == self.to {
            self.ceiling = cost;
        }
    }

    #[inline]
    fn may_step(&self, obstacles: &Obstacles, node: u32, next: u32, hops: u8) -> bool {
        self.hops_left[next as usize].saturating_add(hops) <= self.max_hops && obstacles.allow(node, next)
    }

    #[inline]
    pub(super) fn step_msat(&self, obstacles: &Obstacles, node: u32, edge: &Edge) -> u64 {
        let price = self.entry[edge.to as usize] + link_msat(self.weight_msat, edge.cost);
        price + obstacles.reuse_msat(node, edge.to)
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
        let least = cost.saturating_add(self.least_left(node));
        self.heap.push(Reverse((least, hops, label)));
        true
    }

    fn least_left(&self, node: u32) -> u64 {
        self.price.at(node).saturating_add(self.reuse.at(node))
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
}
