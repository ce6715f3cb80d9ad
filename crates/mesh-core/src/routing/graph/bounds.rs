//! Lower bounds for what is left of a path from each node on, swept back from the destination.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::obstacles::Obstacles;
use super::paths::PathQuery;
use super::search::Search;
use super::{NetworkGraph, Node};
use crate::fairness::entities::Entities;
use crate::identity::NodeId;
use crate::routing::COMPARISON_UNITS;

/// What one step of a path can cost in comparisons, in msat for [`COMPARISON_UNITS`], half of it for the node and half
/// for the link: 879,000 sat a KiB. Dearer ones are all the same, so that no announced price can make a sum overflow.
const MAX_HALF_STEP_MSAT: u64 = 1 << 43;

/// What breaks a tie, in msat for [`COMPARISON_UNITS`]: so much for a hop, and up to so much for whose node it is. Nine of
/// the latter are less than one of the former, and ten of both less than one msat a unit: hops come before chance, and
/// money before both.
const TIE_HOP_MSAT: u64 = 640;
const TIE_ENTITY_MSAT: u64 = 64;

/// Not reachable within the hop limit.
pub(super) const UNREACHABLE: u8 = u8::MAX;

/// The least that is left from each node on, in msat: exact below the horizon, and no less than it beyond.
#[derive(Default)]
pub(super) struct Bound {
    least: Vec<u64>,
    horizon: u64,
}

impl Bound {
    /// What is left from a node; nothing where no bound was made.
    #[inline]
    pub(super) fn at(&self, slot: u32) -> u64 {
        self.least
            .get(slot as usize)
            .map_or(0, |least| (*least).min(self.horizon))
    }
}

/// What a link costs in comparisons, in msat for [`COMPARISON_UNITS`], at a weight in msat a unit.
#[inline]
pub(super) fn link_msat(weight_msat: u64, cost: u16) -> u64 {
    weight_msat
        .saturating_mul(u64::from(cost) * COMPARISON_UNITS)
        .min(MAX_HALF_STEP_MSAT)
}

/// What entering each node costs in comparisons, in msat for [`COMPARISON_UNITS`].
pub(super) fn entry_costs(
    graph: &NetworkGraph,
    query: &PathQuery<'_>,
    entities: Option<&Entities>,
) -> Vec<u64> {
    let price = |node: &Node| {
        let msat_per_unit = node.facts.price.msat_per_unit;
        msat_per_unit
            .saturating_mul(COMPARISON_UNITS)
            .min(MAX_HALF_STEP_MSAT)
    };
    let nodes = graph.nodes.iter();
    let mut entry: Vec<u64> = nodes.map(|node| node.as_ref().map_or(0, price)).collect();
    for (id, surcharge) in query.surcharges_msat.into_iter().flatten() {
        if let Some(slot) = graph.slot(id) {
            let entry = &mut entry[slot as usize];
            *entry = entry.saturating_add(*surcharge).min(MAX_HALF_STEP_MSAT);
        }
    }
    if let Some(seed) = query.tie_break {
        let chance = FixedState::with_seed(seed);
        let merged: BTreeMap<u32, NodeId> = entities
            .into_iter()
            .flat_map(Entities::merged_otherwise)
            .filter_map(|(node, entity)| Some((graph.slot(&node)?, entity.0)))
            .collect();
        for (slot, entry) in entry.iter_mut().enumerate() {
            let slot = slot as u32;
            let owner = merged.get(&slot).copied().or_else(|| graph.entity_key(slot));
            let owner = owner.map(|key| key.0);
            *entry += TIE_HOP_MSAT + chance.hash_one(owner) % TIE_ENTITY_MSAT;
        }
    }
    entry
}

/// Fewest hops from each node to `to` past those to avoid, by breadth-first search. The source and the destination
/// are what the caller asked for, avoided or not.
pub(super) fn hops_left(graph: &NetworkGraph, from: u32, to: u32, max_hops: u8, avoided: &[bool]) -> Vec<u8> {
    let mut hops_left = vec![UNREACHABLE; graph.nodes.len()];
    hops_left[to as usize] = 0;
    let (mut ring, mut next) = (vec![to], Vec::new());
    for hops in 1..=max_hops {
        for node in ring.drain(..) {
            for edge in graph.edges_of(node) {
                let left = &mut hops_left[edge.to as usize];
                if *left == UNREACHABLE && (edge.to == from || !avoided[edge.to as usize]) {
                    *left = hops;
                    next.push(edge.to);
                }
            }
        }
        std::mem::swap(&mut ring, &mut next);
    }
    hops_left
}

/// The least price and reuse from each node on past the obstacles, whatever the hops: Dijkstra as far as nodes can lie
/// on a cheapest way from the source, whose first step costs something too.
pub(super) fn least_price(search: &Search<'_>, obstacles: &Obstacles) -> Bound {
    let (from, to) = (search.from as usize, search.to);
    let first_step = first_step_msat(search, obstacles);
    let mut least = vec![u64::MAX; search.graph.nodes.len()];
    least[to as usize] = 0;
    let mut heap = BinaryHeap::from([Reverse((0, to))]);
    while let Some(Reverse((cost, node))) = heap.pop() {
        if cost > least[from].saturating_sub(first_step) {
            break;
        }
        if cost > least[node as usize] {
            continue;
        }
        let entered = cost.saturating_add(search.entry[node as usize]);
        for edge in search.graph.edges_of(node) {
            let before = edge.to as usize;
            // Most have a cheaper way by now; only then what the link costs.
            if least[before] <= entered {
                continue;
            }
            let link = link_msat(search.weight_msat, edge.cost_back) + obstacles.reuse_msat(edge.to, node);
            let cost = entered.saturating_add(link);
            let too_dear = cost.saturating_add(first_step) > least[from] && before != from;
            let passable = search.hops_left[before] != UNREACHABLE
                && obstacles.open(edge.to)
                && obstacles.allow(edge.to, node);
            if cost < least[before] && !too_dear && passable {
                least[before] = cost;
                heap.push(Reverse((cost, edge.to)));
            }
        }
    }
    let horizon = least[from].saturating_sub(first_step);
    Bound { least, horizon }
}

/// What the cheapest first step from the source costs.
fn first_step_msat(search: &Search<'_>, obstacles: &Obstacles) -> u64 {
    let edges = search.graph.edges_of(search.from).iter();
    edges
        .filter(|edge| obstacles.allow(search.from, edge.to))
        .map(|edge| search.step_msat(obstacles, search.from, edge))
        .min()
        .unwrap_or_default()
}

/// The least reuse from each node on, whatever the price and the hops. There are few different amounts, so nodes are
/// kept by amount rather than in a heap.
///
/// It ends when a quarter of all links is behind it. What cannot be avoided close to the destination is known by
/// then, and it is what misleads a search: it looks at the whole network for a way around. What cannot be avoided
/// close to the source the search meets at once.
pub(super) fn least_reuse(search: &Search<'_>, obstacles: &Obstacles) -> Bound {
    let mut least = vec![u64::MAX; search.graph.nodes.len()];
    least[search.to as usize] = 0;
    let mut by_amount = BTreeMap::from([(0, vec![search.to])]);
    let mut links_left = search.graph.edges / 2;
    let mut horizon = 0;
    while links_left > 0
        && let Some((amount, mut nodes)) = by_amount.pop_first()
    {
        horizon = amount;
        if least[search.from as usize] <= amount {
            break;
        }
        while links_left > 0
            && let Some(node) = nodes.pop()
        {
            if least[node as usize] < amount {
                continue;
            }
            let links = search.graph.edges_of(node);
            links_left = links_left.saturating_sub(links.len());
            for edge in links {
                let before = edge.to as usize;
                if least[before] <= amount {
                    continue;
                }
                let reuse = amount.saturating_add(obstacles.reuse_msat(edge.to, node));
                if reuse < least[before] && search.hops_left[before] != UNREACHABLE {
                    least[before] = reuse;
                    if reuse == amount {
                        nodes.push(edge.to);
                    } else {
                        by_amount.entry(reuse).or_default().push(edge.to);
                    }
                }
            }
        }
    }
    Bound { least, horizon }
}

/// Whether the obstacles leave any path within the hop limit: breadth first from both ends, always on where there are
/// fewer links to look at. A leaf whose only neighbour is closed is found out in one step; a search that starts at the
/// far end would look at the whole network in vain.
pub(super) fn leaves_a_path(search: &Search<'_>, obstacles: &Obstacles) -> bool {
    let mut seen = vec![None; search.graph.nodes.len()];
    let mut rings = [
        Ring::start(search, search.from, true),
        Ring::start(search, search.to, false),
    ];
    for ring in &rings {
        ring.nodes
            .iter()
            .for_each(|node| seen[*node as usize] = Some(ring.forward));
    }
    for _ in 0..search.max_hops {
        rings.sort_by_key(|ring| ring.links);
        if rings[0].widen(search, obstacles, &mut seen) {
            return true;
        }
    }
    false
}

/// Nodes that were just reached from one end.
struct Ring {
    forward: bool,
    nodes: Vec<u32>,
    links: usize,
}

impl Ring {
    fn start(search: &Search<'_>, end: u32, forward: bool) -> Self {
        Self {
            forward,
            nodes: vec![end],
            links: search.graph.edges_of(end).len(),
        }
    }

    /// Takes one more hop; true when that meets what was reached from the other end.
    fn widen(&mut self, search: &Search<'_>, obstacles: &Obstacles, seen: &mut [Option<bool>]) -> bool {
        self.links = 0;
        for node in std::mem::take(&mut self.nodes) {
            for edge in search.graph.edges_of(node) {
                let (start, end) = if self.forward {
                    (node, edge.to)
                } else {
                    (edge.to, node)
                };
                let passable = search.hops_left[edge.to as usize] != UNREACHABLE && obstacles.open(edge.to);
                if !passable || !obstacles.allow(start, end) {
                    continue;
                }
                match &mut seen[edge.to as usize] {
                    Some(forward) if *forward != self.forward => return true,
                    Some(_) => {}
                    unseen => {
                        *unseen = Some(self.forward);
                        self.nodes.push(edge.to);
                        self.links += search.graph.edges_of(edge.to).len();
                    }
                }
            }
        }
        false
    }
}
