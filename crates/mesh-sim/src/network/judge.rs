//! Judges what the routers hold against the oracle's answers in the same run, at one moment.

use mesh_core::limits::{MAX_COST, MAX_HOPS};
use mesh_core::routing::Plane;
use serde::Serialize;

use super::Network;
use super::oracle::{Graph, UNREACHABLE, Walk, walk_all};
use super::watch::NOBODY;

/// One plane's routes against its oracle's. Pairs are of a live node and a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PlaneJudgement {
    /// All pairs.
    pub pairs: u64,
    /// Pairs that the oracle connects.
    pub reachable: u64,
    /// Of those, pairs whose next hops lead to the destination, in the hops plane within the limit.
    pub reached: u64,
    /// Of those, pairs whose way is worse than the oracle's.
    pub suboptimal: u64,
    /// Of those, pairs whose table names another metric than the way has.
    pub wrong_metric: u64,
    /// Pairs with a next hop though the oracle knows no way.
    pub ghosts: u64,
}

/// How far the routes of the cost plane are from the cheapest ways within the limit of hops, which no distance vector
/// finds. A route of the cost plane that is longer than that cannot be used: the pair takes the hops plane's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Gap {
    /// Pairs with a way within the limit.
    pub pairs: u64,
    /// Of those, pairs whose route in the cost plane is too long.
    pub too_long: u64,
    /// Of those, pairs that have no usable route in either plane.
    pub without_route: u64,
    /// Pairs that pay more than they must.
    pub dearer: u64,
    /// How much more all pairs together pay, in parts per million.
    pub excess_ppm: u64,
    /// The most that one pair pays more, in parts per thousand.
    pub worst_per_mille: u64,
}

/// Both planes, and how far the cost plane is from the true optimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Judgement {
    /// By plane.
    pub planes: [PlaneJudgement; 2],
    /// The gap.
    pub gap: Gap,
    /// Directions of live links that their nodes have not measured.
    pub unmeasured: usize,
}

/// Adds up what all pairs pay and would have to.
#[derive(Default)]
struct Paid {
    optimum: u128,
    actual: u128,
}

/// Judges all routes as they are now.
pub fn judge(network: &Network) -> Judgement {
    let (costs, unmeasured) = network.graph(Plane::Cost);
    let (hops, _) = network.graph(Plane::Hops);
    let mut judgement = Judgement {
        unmeasured,
        ..Judgement::default()
    };
    let mut paid = Paid::default();
    for (place, destination) in network.watch().destinations().iter().enumerate() {
        let destination = *destination as usize;
        let alive = network.is_up(destination);
        let best = |graph: &Graph, find: fn(&Graph, usize) -> Vec<u64>| {
            if alive {
                find(graph, destination)
            } else {
                vec![UNREACHABLE; graph.nodes()]
            }
        };
        let by_cost = Side::of(network, Plane::Cost, place, &costs, best(&costs, Graph::cost_to));
        let by_hops = Side::of(network, Plane::Hops, place, &hops, best(&hops, Graph::hops_to));
        let within = best(&costs, Graph::cost_within_hops_to);
        let dear_hops = walk_all(&costs, destination, network.watch().next_hops(1, place));
        for node in network.live().filter(|node| *node != destination) {
            by_cost.judge(node, &mut judgement.planes[0]);
            by_hops.judge(node, &mut judgement.planes[1]);
            if within[node] != UNREACHABLE {
                let routes = [by_cost.walks[node], dear_hops[node]];
                judge_gap(within[node], routes, &mut judgement.gap, &mut paid);
            }
        }
    }
    let excess = paid.actual.saturating_sub(paid.optimum) * 1_000_000;
    judgement.gap.excess_ppm = (excess / paid.optimum.max(1)) as u64;
    judgement
}

/// One plane's routes to one destination, and the oracle's.
struct Side<'a> {
    plane: Plane,
    best: Vec<u64>,
    walks: Vec<Walk>,
    next: &'a [u32],
    metrics: &'a [u32],
}

impl<'a> Side<'a> {
    fn of(network: &'a Network, plane: Plane, place: usize, graph: &Graph, best: Vec<u64>) -> Self {
        let watch = network.watch();
        let destination = watch.destinations()[place] as usize;
        let next = watch.next_hops(plane.index(), place);
        Self {
            plane,
            best,
            walks: walk_all(graph, destination, next),
            next,
            metrics: watch.metrics(plane.index(), place),
        }
    }

    fn judge(&self, node: usize, found: &mut PlaneJudgement) {
        let limit = match self.plane {
            Plane::Cost => u64::from(MAX_COST),
            Plane::Hops => MAX_HOPS as u64,
        };
        let (best, way) = (self.best[node], self.walks[node]);
        found.pairs += 1;
        if best > limit {
            found.ghosts += u64::from(self.next[node] != NOBODY);
            return;
        }
        found.reachable += 1;
        if way.cost <= limit {
            found.reached += 1;
            found.suboptimal += u64::from(way.cost > best);
            found.wrong_metric += u64::from(u64::from(self.metrics[node]) != way.cost);
        }
    }
}

fn judge_gap(optimum: u64, [by_cost, by_hops]: [Walk; 2], gap: &mut Gap, paid: &mut Paid) {
    let usable = |way: &Walk| way.cost != UNREACHABLE && way.hops <= MAX_HOPS as u32;
    gap.pairs += 1;
    gap.too_long += u64::from(by_cost.cost != UNREACHABLE && !usable(&by_cost));
    let Some(way) = [by_cost, by_hops].into_iter().find(usable) else {
        gap.without_route += 1;
        return;
    };
    gap.dearer += u64::from(way.cost > optimum);
    let excess = way.cost.saturating_sub(optimum) * 1000;
    gap.worst_per_mille = gap.worst_per_mille.max(excess / optimum.max(1));
    paid.optimum += u128::from(optimum);
    paid.actual += u128::from(way.cost);
}
