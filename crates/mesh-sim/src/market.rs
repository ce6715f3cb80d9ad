//! A market of routes: many payers on one network, each choosing among the ways it knows, over and over.
//!
//! Nothing is sent: the question is who earns, not whether packets arrive ([`crate::network`] and [`crate::Simulation`] are
//! for that). Every payer has a [`Fairness`] of its own and knows the whole graph; it asks the graph for candidates as a core
//! does, takes the first, and is told its receipts at once. What all payers paid in the last rounds is measured.

mod limit;
mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use mesh_core::certificate::Price;
use mesh_core::drop_reason::DropReason;
use mesh_core::fairness::entities::{Entities, Entity, Tie};
use mesh_core::fairness::measures::Measures;
use mesh_core::fairness::policy::{FairnessPolicy, HYSTERESIS_PARTS};
use mesh_core::fairness::{Carried, Fairness, Surcharges};
use mesh_core::identity::NodeId;
use mesh_core::limits::MAX_HOPS;
use mesh_core::routing::COMPARISON_UNITS;
use mesh_core::routing::graph::{CandidatePath, ListedNeighbour, NetworkGraph, NodeFacts, PathQuery};
use mesh_core::time::UnixMillis;

use crate::network::Topology;
use crate::random::Random;

pub use limit::{Limit, limit};
pub use split::{Behind, CUSTOMERS, HONEST, crossing, share_of, share_of_split};

/// Units bought at once.
const UNITS: u64 = 1_000;

/// What to play.
///
/// By default a small market of equal prices without any policy: twenty payers, a hundred purchases a day to random
/// destinations, two days to settle and one measured.
#[derive(Debug, Clone)]
pub struct Market {
    /// Payers, taken at random from the nodes.
    pub payers: usize,
    /// Purchases of each payer in a day.
    pub purchases_per_day: u64,
    /// Days before measuring, and days measured.
    pub days: (u64, u64),
    /// What routers charge, in msat a unit: least and most; each draws its own.
    pub prices_msat: (u64, u64),
    /// What payers do about shares; none: nothing.
    pub policy: Option<FairnessPolicy>,
    /// Destinations that each payer buys ways to; 0 for another one every time.
    pub destinations: usize,
    /// What nodes show of whose they are; who shows nothing is his own.
    pub ties: Vec<(u32, Tie)>,
    /// Where nodes are; the others are in no network that is known.
    pub addresses: Vec<(u32, IpAddr)>,
    /// What these charge instead of a price that they draw, in msat a unit.
    pub own_prices_msat: Vec<(u32, u64)>,
    /// Nodes that payers and destinations are taken from; none: all.
    pub ends: Option<Range<u32>>,
    /// Everything random comes from it.
    pub seed: u64,
}

impl Default for Market {
    fn default() -> Self {
        Self {
            payers: 20,
            purchases_per_day: 100,
            days: (2, 1),
            prices_msat: (10, 10),
            policy: None,
            destinations: 0,
            ties: Vec::new(),
            addresses: Vec::new(),
            own_prices_msat: Vec::new(),
            ends: None,
            seed: 1,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How concentrated what all payers paid to routers was.
    pub fees: Measures,
    /// What a unit cost on average, in 1/1000 msat.
    pub mean_cost: u64,
    /// Routers on a route on average, in 1/1000.
    pub mean_routers: u64,
    /// Purchases for which there was no route.
    pub without_route: u64,
    /// How often a payer took another route to a destination than the last time, in 1/1000 per purchase of a pair bought
    /// before.
    pub changes: u64,
    /// The same by time: how often a payer took another route to a destination than the last time, in 1/1000 per payer and
    /// hour.
    pub changes_per_hour: u64,
    /// What each entity earned, in msat.
    pub earned: BTreeMap<Entity, u64>,
    /// What each entity carried, in units.
    pub carried: BTreeMap<Entity, u64>,
    /// What each entity could not but earn, in msat.
    pub unavoidable: BTreeMap<Entity, u64>,
}

struct Payer {
    node: NodeId,
    fairness: Fairness,
    surcharges: Surcharges,
    seed: u64,
    destinations: Vec<NodeId>,
    /// The graph does not change.
    ways: BTreeMap<NodeId, Vec<Vec<NodeId>>>,
    last: BTreeMap<NodeId, CandidatePath>,
}

/// The id of a node by number.
pub fn node_id(number: u32) -> NodeId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&Random::new(u64::from(number)).next_u64().to_be_bytes());
    id[28..].copy_from_slice(&number.to_be_bytes());
    NodeId(id)
}

/// Plays a market on a topology.
///
/// # Errors
/// [`DropReason`] when the topology is too large for a node's graph.
pub fn play(topology: &Topology, market: &Market) -> Result<Outcome, DropReason> {
    let graph = graph_of(topology, market)?;
    let mut random = Random::new(market.seed ^ 0x6d61_726b_6574);
    let mut payers: Vec<Payer> = (0..market.payers)
        .map(|_| payer(topology, market, &mut random))
        .collect();
    let purchases = market.purchases_per_day * (market.days.0 + market.days.1);
    let day = Duration::from_secs(24 * 3600).as_millis() as u64;
    let mut tally = Tally::default();
    for purchase in 0..purchases {
        let now = UnixMillis(1_800_000_000_000 + purchase * day / market.purchases_per_day);
        let measured = purchase >= market.purchases_per_day * market.days.0;
        for payer in &mut payers {
            let to = match payer.destinations.len() as u64 {
                0 => anybody(topology, market, &mut random),
                some => payer.destinations[random.below(some) as usize],
            };
            if to != payer.node {
                payer.buy(
                    &graph,
                    to,
                    now,
                    market.policy.is_some(),
                    measured.then_some(&mut tally),
                );
            }
        }
    }
    Ok(tally.outcome(&payers, market.days.1 * 24))
}

fn graph_of(topology: &Topology, market: &Market) -> Result<NetworkGraph, DropReason> {
    let mut neighbours = vec![Vec::new(); topology.nodes];
    for edge in &topology.edges {
        neighbours[edge.a as usize].push(edge.b);
        neighbours[edge.b as usize].push(edge.a);
    }
    let mut random = Random::new(market.seed ^ 0x0070_7269_6365);
    let (least, most) = market.prices_msat;
    let limits = mesh_core::routing::graph::GraphLimits {
        listed: topology.nodes,
        ..Default::default()
    };
    let mut graph = NetworkGraph::with_limits(market.seed, limits);
    let mut entities = Entities::default();
    for (node, tie) in &market.ties {
        entities.tie(node_id(*node), *tie);
    }
    let own_prices: BTreeMap<u32, u64> = market.own_prices_msat.iter().copied().collect();
    for (node, others) in neighbours.iter().enumerate() {
        let listed: Vec<_> = others
            .iter()
            .map(|other| ListedNeighbour {
                node: node_id(*other),
                cost: 1,
            })
            .collect();
        let drawn = least + random.below(most - least + 1);
        let facts = NodeFacts {
            price: Price {
                msat_per_unit: own_prices.get(&(node as u32)).copied().unwrap_or(drawn),
                payable: true,
            },
            operator: Some(entities.entity_of(&node_id(node as u32)).0),
            expires: UnixMillis(u64::MAX),
        };
        graph.announce(node_id(node as u32), facts, &listed)?;
    }
    Ok(graph)
}

/// One of those that buy and are bought ways to.
fn anybody(topology: &Topology, market: &Market, random: &mut Random) -> NodeId {
    let ends = market.ends.clone().unwrap_or(0..topology.nodes as u32);
    node_id(ends.start + random.below(u64::from(ends.end - ends.start)) as u32)
}

fn payer(topology: &Topology, market: &Market, random: &mut Random) -> Payer {
    let mut fairness = Fairness::new(market.policy.unwrap_or_default(), None);
    for (node, tie) in &market.ties {
        fairness.tie(node_id(*node), *tie);
    }
    for (node, address) in &market.addresses {
        fairness.place(node_id(*node), *address);
    }
    Payer {
        node: anybody(topology, market, random),
        destinations: (0..market.destinations)
            .map(|_| anybody(topology, market, random))
            .collect(),
        seed: random.next_u64(),
        fairness,
        surcharges: Surcharges::default(),
        ways: BTreeMap::new(),
        last: BTreeMap::new(),
    }
}

impl Payer {
    fn buy(
        &mut self,
        graph: &NetworkGraph,
        to: NodeId,
        now: UnixMillis,
        fair: bool,
        tally: Option<&mut Tally>,
    ) {
        if fair {
            self.surcharges = self.fairness.surcharges(now);
        }
        let Some(chosen) = self.choose(graph, to) else {
            if let Some(tally) = tally {
                tally.without_route += 1;
            }
            return;
        };
        let earned: Vec<(NodeId, u64)> = routers(&chosen.path)
            .iter()
            .filter_map(|router| Some((*router, graph.facts(router)?.price.msat_per_unit * UNITS)))
            .collect();
        let from = self.node;
        let ways = self
            .ways
            .entry(to)
            .or_insert_with(|| graph.ways(&from, &to, MAX_HOPS));
        let carried = Carried {
            earned: &earned,
            units: UNITS,
            ways,
        };
        self.fairness.note_carried(&carried, now);
        if let Some(tally) = tally {
            tally.note_ways(carried.ways, earned.iter().map(|(_, msat)| msat).sum());
            tally.note(self.last.get(&to), &chosen, &earned);
        }
        self.last.insert(to, chosen);
    }

    /// The cheapest way with surcharges, without the excluded if there is one without them; or the one used last, if the
    /// cheapest is not better by an eighth.
    fn choose(&self, graph: &NetworkGraph, to: NodeId) -> Option<CandidatePath> {
        let best = self.ask(graph, to, &self.surcharges.excluded);
        let best = best.or_else(|| self.ask(graph, to, &BTreeSet::new()))?;
        let used = self.last.get(&to).filter(|used| used.path != best.path);
        let kept = used.filter(|used| self.rank(used, HYSTERESIS_PARTS) <= self.rank(&best, 0));
        Some(kept.cloned().unwrap_or(best))
    }

    /// What a core ranks a route by: whether it is over somebody who is to be left out, and its price with surcharges,
    /// less one part in so many (none: 0).
    fn rank(&self, way: &CandidatePath, parts_off: u64) -> (bool, u64) {
        let surcharge = |router| self.surcharges.by_node.get(router).copied().unwrap_or(0);
        let price = way.price_msat_per_unit * COMPARISON_UNITS;
        let rank = routers(&way.path)
            .iter()
            .map(surcharge)
            .fold(price, u64::saturating_add);
        let excluded = routers(&way.path)
            .iter()
            .any(|router| self.surcharges.excluded.contains(router));
        (excluded, rank - rank.checked_div(parts_off).unwrap_or(0))
    }

    fn ask(&self, graph: &NetworkGraph, to: NodeId, avoid: &BTreeSet<NodeId>) -> Option<CandidatePath> {
        let paths = graph.diverse_paths(&PathQuery {
            from: self.node,
            to,
            max_hops: MAX_HOPS,
            most: 1,
            avoid,
            latency_weight_msat: 0,
            surcharges_msat: Some(&self.surcharges.by_node),
            tie_break: Some(self.seed ^ u64::from(to.0[0]) << 8 ^ u64::from(to.0[1])),
        });
        paths.into_iter().next()
    }
}

fn routers(path: &[NodeId]) -> &[NodeId] {
    &path[1..path.len() - 1]
}

#[derive(Default)]
struct Tally {
    earned: BTreeMap<NodeId, u64>,
    carried: BTreeMap<NodeId, u64>,
    unavoidable: BTreeMap<NodeId, u64>,
    purchases: u64,
    cost: u64,
    routers: u64,
    without_route: u64,
    again: u64,
    changed: u64,
}

impl Tally {
    fn note_ways(&mut self, ways: &[Vec<NodeId>], all_msat: u64) {
        for way in ways {
            for router in way {
                *self.unavoidable.entry(*router).or_default() += all_msat / (ways.len() * way.len()) as u64;
            }
        }
    }

    fn note(&mut self, last: Option<&CandidatePath>, chosen: &CandidatePath, earned: &[(NodeId, u64)]) {
        for (router, msat) in earned {
            *self.earned.entry(*router).or_default() += msat;
            *self.carried.entry(*router).or_default() += UNITS;
        }
        self.purchases += 1;
        self.cost += chosen.price_msat_per_unit;
        self.routers += earned.len() as u64;
        if let Some(last) = last {
            self.again += 1;
            self.changed += u64::from(last.path != chosen.path);
        }
    }

    fn outcome(self, payers: &[Payer], hours: u64) -> Outcome {
        let by_entity = |by_node: BTreeMap<NodeId, u64>| {
            let mut sums: BTreeMap<Entity, u64> = BTreeMap::new();
            for (node, msat) in by_node {
                let entity = payers
                    .first()
                    .map_or(Entity(node), |payer| payer.fairness.entity_of(&node));
                *sums.entry(entity).or_default() += msat;
            }
            sums
        };
        let earned = by_entity(self.earned);
        Outcome {
            fees: Measures::of(earned.values().copied()),
            mean_cost: (self.cost * 1000).checked_div(self.purchases).unwrap_or(0),
            mean_routers: (self.routers * 1000).checked_div(self.purchases).unwrap_or(0),
            without_route: self.without_route,
            changes: (self.changed * 1000).checked_div(self.again).unwrap_or(0),
            changes_per_hour: (self.changed * 1000)
                .checked_div(payers.len() as u64 * hours)
                .unwrap_or(0),
            earned,
            carried: by_entity(self.carried),
            unavoidable: by_entity(self.unavoidable),
        }
    }
}
