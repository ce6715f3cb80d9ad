//! As source: the ways to a destination, those confirmed and those that the graph proposes, and what they are compared by.
//!
//! Each way is weighed once, by [`Core::weigh`], whatever it is weighed for: routes are offered in the order of what comes
//! out, and a person who asks why is shown the same figures.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::event::RouteInfo;
use crate::fairness::explain::{Candidate, Twice};
use crate::fees;
use crate::identity::NodeId;
use crate::limits::{MAX_HOPS, MAX_ROUTES_PER_DESTINATION, MIN_SHARE_MSAT};
use crate::routing::link_cost::least_round_trip;
use crate::routing::{COMPARISON_UNITS, PathQuery, Route};
use crate::time::Now;

use super::Core;
use super::fair::routers_of;

/// What a millisatoshi a unit is worth against a unit of link cost when the graph proposes: price decides, and of equally
/// dear paths the one with fewer hops. Latency is weighed among what was proposed.
const LATENCY_WEIGHT_MSAT: u64 = 0;

/// Searches made for a path on which nobody serves twice: two for each of three who do.
const SEARCHES_APART: usize = 6;

/// Which ways are looked for.
pub(super) struct Wanted<'a> {
    /// Whither.
    pub(super) destination: NodeId,
    /// Longest path wanted, in hops.
    pub(super) max_hops: u8,
    /// Paths that were asked for and stayed silent.
    pub(super) silent: &'a [Vec<NodeId>],
}

impl Core {
    /// What a path is compared by, in msat for [`COMPARISON_UNITS`]; `fee_msat` is what its payees would be paid for them.
    fn weigh(&self, now: Now, path: &[NodeId], fee_msat: u64) -> Candidate {
        let routers = routers_of(path);
        let failures_msat = self.blame.of_path(path, now.instant);
        let latency_msat = self.delays.worth_msat(path, self.announced_round_trip(path));
        let concentration_msat = self.fair.concentration_msat(routers);
        let terms = [failures_msat, latency_msat, concentration_msat];
        let sum_msat = terms.into_iter().fold(fee_msat, u64::saturating_add);
        let hysteresis_msat = self.fair.hysteresis_msat(path, sum_msat);
        Candidate {
            path: path.to_vec(),
            quoted: false,
            fee_msat,
            failures_msat,
            latency_msat,
            concentration_msat,
            hysteresis_msat,
            score_msat: sum_msat - hysteresis_msat,
            excluded: self.fair.excludes(routers),
            diversity: self.fair.fairness().diversity(routers),
            chosen: false,
        }
    }

    fn weigh_route(&self, now: Now, route: &Route) -> Candidate {
        Candidate {
            quoted: true,
            ..self.weigh(now, &route.certificate.path, route.rank_msat)
        }
    }

    fn weigh_proposal(&self, now: Now, path: &[NodeId]) -> Candidate {
        self.weigh(now, path, self.announced_fee_msat(path))
    }

    /// Confirmed routes, best first. What fell silent before, and who has too much already, costs what one would pay to
    /// avoid it, and stays on offer: where there is one way only, it is used.
    fn ranked_routes(&self, now: Now, destination: &NodeId, max_hops: u8) -> Vec<(Candidate, &Route)> {
        let routes = self
            .routes
            .cache
            .find(destination, usize::from(max_hops), now.unix);
        let mut ranked: Vec<_> = routes
            .into_iter()
            .map(|route| (self.weigh_route(now, route), route))
            .collect();
        // Stable: of equals the one with fewer hops stays first.
        ranked.sort_by_key(|(candidate, _)| candidate.rank());
        ranked
    }

    /// Routes to a destination with which its caller may be served at once; none when the network is to be asked first,
    /// because nothing is known, or because all that is known is over somebody above a hard cap, or serving twice, and the
    /// graph has something better.
    pub(super) fn routes_at_hand(&mut self, now: Now, destination: &NodeId, max_hops: u8) -> Vec<RouteInfo> {
        let ranked = self.ranked_routes(now, destination, max_hops);
        let best = ranked.first().map(|(best, _)| best.clone());
        let known = ranked.into_iter().map(|(_, route)| route.info()).collect();
        let Some(flawed) = best.filter(Candidate::is_flawed) else {
            return known;
        };
        if !self.fair.may_seek(destination, now.instant) {
            return known;
        }
        self.fair.note_sought(destination, now.instant);
        let wanted = Wanted {
            destination: *destination,
            max_hops,
            silent: &[],
        };
        let proposed = self.candidates(now, &wanted);
        let mut weighed = proposed.iter().map(|path| self.weigh_proposal(now, path));
        if weighed.any(|other| other.mends(&flawed)) {
            Vec::new()
        } else {
            known
        }
    }

    pub(super) fn known_routes(&self, now: Now, destination: &NodeId, max_hops: u8) -> Vec<RouteInfo> {
        let ranked = self.ranked_routes(now, destination, max_hops);
        ranked.into_iter().map(|(_, route)| route.info()).collect()
    }

    /// Every way to a destination that this node considers, and each term of what it is compared by: first the confirmed
    /// routes in the order in which they are offered, then what the graph proposes beside them, best first. Of what nobody
    /// confirmed yet the fee is what was announced.
    ///
    /// Searches the graph: for a person's question, not for every packet.
    pub fn explain(&self, now: Now, destination: &NodeId) -> Vec<Candidate> {
        let confirmed = self.ranked_routes(now, destination, MAX_HOPS as u8);
        let mut candidates: Vec<Candidate> = confirmed.into_iter().map(|(candidate, _)| candidate).collect();
        let wanted = Wanted {
            destination: *destination,
            max_hops: MAX_HOPS as u8,
            silent: &[],
        };
        let mut proposed = self.candidates(now, &wanted);
        // Those too that are passed over: the question is often why.
        proposed.extend(self.paths_around(now, &wanted, &BTreeSet::new()));
        let mut others: Vec<Candidate> = Vec::new();
        for path in proposed {
            let known = candidates.iter().chain(&others).any(|other| other.path == path);
            if !known {
                others.push(self.weigh_proposal(now, &path));
            }
        }
        others.sort_by_key(Candidate::rank);
        let mut chosen = 0;
        if let (Some(best), Some(other)) = (candidates.first(), others.first())
            && other.mends(best)
            && self.fair.may_seek(destination, now.instant)
        {
            chosen = candidates.len();
        }
        candidates.append(&mut others);
        if let Some(chosen) = candidates.get_mut(chosen) {
            chosen.chosen = true;
        }
        candidates
    }

    /// Paths that the graph suggests and whose first hop has a live link: around the routers of silent paths, and should
    /// those be too few, over them.
    pub(super) fn candidates(&self, now: Now, wanted: &Wanted<'_>) -> Vec<Vec<NodeId>> {
        let silent = wanted.silent.iter();
        let suspects: BTreeSet<NodeId> = silent.flat_map(|path| routers_of(path)).copied().collect();
        // Whoever has far too much is gone around too, as long as there is a way.
        let mut avoid = suspects.clone();
        avoid.extend(&self.fair.surcharges().excluded);
        let mut candidates = self.paths_around(now, wanted, &avoid);
        if candidates.is_empty() && avoid.len() > suspects.len() {
            candidates = self.paths_around(now, wanted, &suspects);
        }
        if candidates.len() < MAX_ROUTES_PER_DESTINATION && !suspects.is_empty() {
            candidates.extend(self.paths_around(now, wanted, &BTreeSet::new()));
        }
        candidates
    }

    /// Paths past those to avoid, first those on which nobody serves twice if there are any.
    fn paths_around(&self, now: Now, wanted: &Wanted<'_>, avoid: &BTreeSet<NodeId>) -> Vec<Vec<NodeId>> {
        let mut found = self.search(now, wanted, avoid);
        found.sort_by_cached_key(|path| self.twice_on(path).is_some());
        let Some(dependent) = found.first().filter(|path| self.twice_on(path).is_some()) else {
            return found;
        };
        let mut paths = self.paths_apart(now, wanted, avoid, dependent);
        paths.append(&mut found);
        paths.truncate(MAX_ROUTES_PER_DESTINATION);
        paths
    }

    /// Paths on which nobody serves twice, where on the one found somebody does: without all of his nodes but one of the
    /// two, and so on with whoever serves twice then. That no such path exists is not proven when none is found.
    fn paths_apart(
        &self,
        now: Now,
        wanted: &Wanted<'_>,
        avoid: &BTreeSet<NodeId>,
        dependent: &[NodeId],
    ) -> Vec<Vec<NodeId>> {
        let mut to_do = VecDeque::from([(avoid.clone(), dependent.to_vec())]);
        let mut searches_left = SEARCHES_APART;
        while let Some((avoid, path)) = to_do.pop_front() {
            let Some((twice, both)) = self.twice_on(&path) else {
                continue;
            };
            for kept in both {
                if searches_left == 0 {
                    return Vec::new();
                }
                searches_left -= 1;
                let mut avoid = avoid.clone();
                avoid.extend(self.fair.fairness().all_but(twice, &kept));
                let found = self.search(now, wanted, &avoid);
                let next = found.first().cloned();
                let apart: Vec<_> = found
                    .into_iter()
                    .filter(|path| self.twice_on(path).is_none())
                    .collect();
                if !apart.is_empty() {
                    return apart;
                }
                to_do.extend(next.map(|next| (avoid, next)));
            }
        }
        Vec::new()
    }

    fn twice_on(&self, path: &[NodeId]) -> Option<(Twice, [NodeId; 2])> {
        self.fair.fairness().twice(routers_of(path))
    }

    /// Paths of the graph past those to avoid, the cheapest first, over live links.
    fn search(&self, now: Now, wanted: &Wanted<'_>, avoid: &BTreeSet<NodeId>) -> Vec<Vec<NodeId>> {
        let mut surcharges = self.blame.surcharges_msat(now.instant);
        for (node, msat) in &self.fair.surcharges().by_node {
            let sum = surcharges.entry(*node).or_default();
            *sum = sum.saturating_add(*msat);
        }
        let query = PathQuery {
            from: self.node_id(),
            to: wanted.destination,
            max_hops: usize::from(wanted.max_hops),
            most: MAX_ROUTES_PER_DESTINATION,
            avoid,
            latency_weight_msat: LATENCY_WEIGHT_MSAT,
            surcharges_msat: Some(&surcharges),
            tie_break: Some(self.fair.tie_break(&wanted.destination)),
        };
        let entities = self.fair.fairness().entities();
        let found = self.routes.graph.diverse_paths_among(&query, entities);
        let has_link = |path: &Vec<NodeId>| {
            let first = path.get(1);
            first.is_some_and(|first| self.neighbours.link_to(first).is_some())
        };
        let paths = found.into_iter().map(|candidate| candidate.path);
        paths.filter(has_link).collect()
    }

    /// The round trip of a path whose links are as fast as the class of each that is announced.
    fn announced_round_trip(&self, path: &[NodeId]) -> Duration {
        let links = path.windows(2).filter_map(|link| match link {
            [from, to] => self.routes.graph.cost(from, to),
            _ => None,
        });
        links.map(|cost| least_round_trip(u32::from(cost))).sum()
    }

    /// What the payees of a path would be paid at the prices they announced. Beyond all money where that is more than
    /// there is.
    fn announced_fee_msat(&self, path: &[NodeId]) -> u64 {
        let price = |node: &NodeId| {
            let facts = self.routes.graph.facts(node);
            facts.map_or(0, |facts| facts.price.msat_per_unit)
        };
        let routers: Vec<u64> = routers_of(path).iter().map(price).collect();
        let destination = path.last().map_or(0, price);
        fees::slice_total(&routers, destination, COMPARISON_UNITS, MIN_SHARE_MSAT).unwrap_or(u64::MAX)
    }
}
