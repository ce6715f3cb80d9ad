//! A few paths that fail, and cheat, independently of one another.

use std::collections::{BTreeMap, BTreeSet};

use super::NetworkGraph;
use super::pair::fewest_hops_pair;
use super::search::{Found, Obstacles, Search, routers};
use crate::identity::NodeId;
use crate::limits::MAX_ROUTES_PER_DESTINATION;

/// Which paths are wanted.
#[derive(Debug, Clone, Copy)]
pub struct PathQuery<'a> {
    /// The source.
    pub from: NodeId,
    /// The destination.
    pub to: NodeId,
    /// Longest path wanted, in hops (1 to 10; more counts as 10).
    pub max_hops: usize,
    /// How many paths (1 to 4; more counts as 4).
    pub most: usize,
    /// Nodes that shall not be routers.
    pub avoid: &'a BTreeSet<NodeId>,
    /// What one would pay, in msat a unit, to avoid one unit of link cost.
    pub latency_weight_msat: u64,
    /// What one would pay besides, in msat a unit, to avoid a node.
    pub surcharges_msat: Option<&'a BTreeMap<NodeId, u64>>,
}

/// A path for discovery to confirm: what it costs is what its nodes announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidatePath {
    /// All nodes, source first, destination last.
    pub path: Vec<NodeId>,
    /// What routers and destination charge together, in msat a unit.
    pub price_msat_per_unit: u64,
    /// Cost of its links, as the nearer end of each announced it.
    pub cost: u32,
    /// Whether a router, or another of the same entity, serves an earlier path of the answer too.
    pub shares_router_with_earlier: bool,
}

impl NetworkGraph {
    /// Up to `most` paths from one node to another, all different, each within the hop limit; none when there is none.
    ///
    /// **Order.** First paths of which no two have a router in common, or routers of one entity; then, as far as there
    /// are not enough of those, paths that use routers of earlier ones, as few as they can; they are marked. Each
    /// group with the cheapest first: price, surcharges and weighted link cost; of equals the one with fewer hops.
    ///
    /// **Promises.** The cheapest path within the hop limit is the first. There is one exception: when every other
    /// shares a router with it although two of them share none. Then these two come first, and the cheapest of all
    /// third, if so many are wanted. Two independent paths are found whenever the hop limit allows any two that have,
    /// together, no more hops than the limit and the shortest path have together, as long as no routers share an
    /// operator; and often otherwise. Always to find them is NP-complete with a hop limit (Li, McCormick and
    /// Simchi-Levi 1990). A third and a fourth are what there is beside those before them, not the most there could
    /// be.
    pub fn diverse_paths(&self, query: &PathQuery<'_>) -> Vec<CandidatePath> {
        let most = query.most.min(MAX_ROUTES_PER_DESTINATION);
        if most == 0 {
            return Vec::new();
        }
        let Some(mut search) = Search::prepare(self, query) else {
            return Vec::new();
        };
        let (mut chosen, left_out) = independent(&mut search, most);
        let sharing = least_sharing(&mut search, &chosen, left_out, most);
        chosen.extend(sharing);
        self.candidates(&chosen)
    }

    fn candidates(&self, chosen: &[Found]) -> Vec<CandidatePath> {
        let mut seen = BTreeSet::new();
        let candidate = |found: &Found| {
            let entities: BTreeSet<_> = routers(&found.path)
                .iter()
                .filter_map(|router| self.entity_key(*router))
                .collect();
            let shares_router_with_earlier = !seen.is_disjoint(&entities);
            seen.extend(entities);
            self.candidate(&found.path, shares_router_with_earlier)
        };
        chosen.iter().map(candidate).collect()
    }

    fn candidate(&self, path: &[u32], shares_router_with_earlier: bool) -> CandidatePath {
        let nodes = || path.iter().filter_map(|slot| self.node(*slot));
        let links = path.windows(2).filter_map(|link| self.edge(link[0], link[1]));
        CandidatePath {
            path: nodes().map(|node| node.id).collect(),
            price_msat_per_unit: nodes()
                .skip(1)
                .fold(0, |sum, node| sum.saturating_add(node.facts.price.msat_per_unit)),
            cost: links.map(|edge| u32::from(edge.cost)).sum(),
            shares_router_with_earlier,
        }
    }
}

/// Paths no two of which share an entity, each the cheapest beside those before. Where the cheapest of all stands in
/// the way of every other, two that leave each other room, and it besides.
fn independent(search: &mut Search<'_>, most: usize) -> (Vec<Found>, Option<Found>) {
    let mut obstacles = Obstacles::none(search.graph);
    let (mut chosen, mut left_out) = (Vec::new(), None);
    while chosen.len() < most {
        if let Some(found) = search.cheapest(&obstacles) {
            obstacles.close(search.graph, &found.path);
            chosen.push(found);
        } else if chosen.len() == 1
            && let Some(pair) = independent_pair(search)
        {
            left_out = chosen.pop();
            obstacles = Obstacles::none(search.graph);
            pair.iter()
                .for_each(|found| obstacles.close(search.graph, &found.path));
            chosen.extend(pair);
        } else {
            break;
        }
    }
    chosen.sort_by_key(Found::price_rank);
    (chosen, left_out)
}

/// Two paths that share no entity, where the cheapest path and any other do: the pair with the fewest hops shows
/// where they run, and each is then replaced by the cheapest beside the other.
fn independent_pair(search: &mut Search<'_>) -> Option<[Found; 2]> {
    let pair = fewest_hops_pair(search)?;
    pair.iter().find_map(|path| {
        let one = cheapest_beside(search, path)?;
        let other = cheapest_beside(search, &one.path)?;
        Some([one, other])
    })
}

fn cheapest_beside(search: &mut Search<'_>, path: &[u32]) -> Option<Found> {
    let mut obstacles = Obstacles::none(search.graph);
    obstacles.close(search.graph, path);
    search.cheapest(&obstacles)
}

/// Paths to add to those chosen that share as little as possible with them, and the one left out before others.
fn least_sharing(
    search: &mut Search<'_>,
    independent: &[Found],
    left_out: Option<Found>,
    most: usize,
) -> Vec<Found> {
    if independent.len() >= most {
        return Vec::new();
    }
    let mut chosen = independent.to_vec();
    chosen.extend(left_out);
    let mut obstacles = Obstacles::none(search.graph);
    for found in &chosen {
        obstacles.discourage(search.graph, &found.path);
    }
    search.rebound(&obstacles);
    while chosen.len() < most
        && let Some(next) = least_shared(search, &mut obstacles, &chosen)
    {
        obstacles.discourage(search.graph, &next.path);
        chosen.push(next);
    }
    let mut sharing = chosen.split_off(independent.len());
    sharing.sort_by_key(Found::price_rank);
    sharing
}

/// The path that shares least with those chosen. When that is one of them, which only happens where hardly any others
/// exist, the best that does without one of its links.
fn least_shared(search: &mut Search<'_>, obstacles: &mut Obstacles, chosen: &[Found]) -> Option<Found> {
    let found = search.cheapest(obstacles)?;
    if is_new(chosen, &found) {
        return Some(found);
    }
    let mut best: Option<Found> = None;
    for link in found.path.windows(2) {
        obstacles.barred.push((link[0], link[1]));
        let other = search.cheapest(obstacles);
        obstacles.barred.pop();
        let other = other.filter(|other| is_new(chosen, other));
        best = best.into_iter().chain(other).min_by_key(|found| found.rank);
    }
    best
}

fn is_new(chosen: &[Found], found: &Found) -> bool {
    chosen.iter().all(|known| known.path != found.path)
}
