//! How little the largest could have at the best, whoever chose the routes: what no policy can get below.
//!
//! Everybody's routes are chosen by one planner who knows all purchases and may split each over several ways, as long as
//! all together cost no more than so much above the cheapest. That is a linear program. Multiplicative weights approach
//! its optimum from above: whoever has much becomes dearer, and the mean over all rounds is a plan that could be
//! followed. From below, every round is a proof by Lagrangian duality: with those weights no plan does better.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::drop_reason::DropReason;
use mesh_core::fairness::entities::Entity;
use mesh_core::identity::NodeId;
use mesh_core::limits::MAX_HOPS;
use mesh_core::routing::COMPARISON_UNITS;
use mesh_core::routing::graph::{CandidatePath, NetworkGraph, PathQuery};

use super::{Market, graph_of, node_id, routers};
use crate::network::Topology;
use crate::random::Random;

/// What no choice of routes gets below.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limit {
    /// Share of the largest when everybody takes the cheapest way.
    pub cheapest: f64,
    /// What some entity earns of all because there is no way without it.
    pub forced: f64,
    /// Share of the largest in a plan that could be followed.
    pub reached: f64,
    /// What that plan costs, as a multiple of the cheapest.
    pub cost: f64,
    /// No plan within the budget has a largest share below this.
    pub proven: f64,
}

/// Looks for the limit over random purchases.
///
/// # Errors
/// [`DropReason`] when the topology is too large for a node's graph.
pub fn limit(
    topology: &Topology,
    market: &Market,
    purchases: usize,
    rounds: usize,
    budget: f64,
) -> Result<Limit, DropReason> {
    let graph = graph_of(topology, market)?;
    let mut random = Random::new(market.seed ^ 0x006c_696d_6974);
    let mut node = || node_id(random.below(topology.nodes as u64) as u32);
    let pairs: Vec<_> = (0..purchases)
        .map(|_| (node(), node()))
        .filter(|(a, b)| a != b)
        .collect();
    let planner = Planner { graph: &graph, pairs };
    let base = planner.round(&BTreeMap::new());
    let total: f64 = base.earned.values().sum();
    let mut limit = Limit {
        cheapest: largest(&base.earned) / total,
        forced: largest(&planner.forced()) / (total * budget),
        ..Limit::default()
    };
    // Dearness of everybody together, in prices; grows until the budget is used up.
    let (mut dearness, mut spent, mut sums) = (20.0, 0.0, BTreeMap::<Entity, f64>::new());
    for round in 0..rounds {
        let shares: f64 = sums.values().sum();
        let weights: BTreeMap<Entity, f64> = sums
            .iter()
            .map(|(entity, sum)| (*entity, (sum / shares * 400.0).exp()))
            .collect();
        let all: f64 = weights.values().sum();
        let factors: BTreeMap<Entity, f64> = weights.iter().map(|(e, w)| (*e, dearness * w / all)).collect();
        let plan = planner.round(&factors);
        if round > 0 {
            let multiplier = 1.0 / (budget * total * dearness);
            limit.proven = limit
                .proven
                .max(multiplier * (plan.with_surcharges - budget * base.cost));
        }
        for (entity, earned) in &plan.earned {
            *sums.entry(*entity).or_default() += earned;
        }
        spent += plan.cost;
        let mean = spent / (round + 1) as f64 / base.cost;
        dearness *= if mean < budget { 1.2 } else { 0.85 };
        limit.cost = mean;
        limit.reached = largest(&sums) / sums.values().sum::<f64>();
    }
    Ok(limit)
}

fn largest(earned: &BTreeMap<Entity, f64>) -> f64 {
    earned.values().copied().fold(0.0, f64::max)
}

struct Planner<'g> {
    graph: &'g NetworkGraph,
    pairs: Vec<(NodeId, NodeId)>,
}

#[derive(Default)]
struct Plan {
    earned: BTreeMap<Entity, f64>,
    cost: f64,
    with_surcharges: f64,
}

impl Planner<'_> {
    fn entity(&self, node: &NodeId) -> Entity {
        Entity(
            self.graph
                .facts(node)
                .and_then(|facts| facts.operator)
                .unwrap_or(*node),
        )
    }

    fn price(&self, node: &NodeId) -> f64 {
        self.graph
            .facts(node)
            .map_or(0.0, |facts| facts.price.msat_per_unit as f64)
    }

    /// Everybody takes the cheapest way where each entity's price is so many times dearer.
    fn round(&self, factors: &BTreeMap<Entity, f64>) -> Plan {
        let mut plan = Plan::default();
        let surcharge = |node: &NodeId| {
            factors
                .get(&self.entity(node))
                .map_or(0.0, |f| f * self.price(node))
        };
        let surcharges: BTreeMap<NodeId, u64> = self
            .graph
            .nodes()
            .map(|node| (node.id, (surcharge(&node.id) * COMPARISON_UNITS as f64) as u64))
            .filter(|(_, msat)| *msat > 0)
            .collect();
        for (number, (from, to)) in self.pairs.iter().enumerate() {
            let Some(way) = self.cheapest(from, to, &surcharges, number as u64) else {
                continue;
            };
            plan.cost += way.price_msat_per_unit as f64;
            plan.with_surcharges += way.price_msat_per_unit as f64;
            for router in routers(&way.path) {
                *plan.earned.entry(self.entity(router)).or_default() += self.price(router);
                plan.with_surcharges += surcharge(router);
            }
        }
        plan
    }

    fn cheapest(
        &self,
        from: &NodeId,
        to: &NodeId,
        surcharges: &BTreeMap<NodeId, u64>,
        chance: u64,
    ) -> Option<CandidatePath> {
        let paths = self.graph.diverse_paths(&PathQuery {
            from: *from,
            to: *to,
            max_hops: MAX_HOPS,
            most: 1,
            avoid: &BTreeSet::new(),
            latency_weight_msat: 0,
            surcharges_msat: Some(surcharges),
            tie_break: Some(chance),
        });
        paths.into_iter().next()
    }

    /// What each earns where there is no way without it.
    fn forced(&self) -> BTreeMap<Entity, f64> {
        let mut forced = BTreeMap::new();
        for (from, to) in &self.pairs {
            let ways = self.graph.ways(from, to, MAX_HOPS);
            let Some((first, rest)) = ways.split_first() else {
                continue;
            };
            for router in first {
                if rest.iter().all(|way| way.contains(router)) {
                    *forced.entry(self.entity(router)).or_default() += self.price(router);
                }
            }
        }
        forced
    }
}
