//! One destination in one plane: what neighbours advertise, which route is selected, and the rule that keeps it free of
//! loops.
//!
//! # Why there are no loops
//!
//! The *feasible distance* is the best distance this node ever had to the destination. A neighbour's advertisement may
//! be selected only if it is strictly better than that (RFC 8966 §3.5.1, after DUAL): whoever has this node on its way
//! advertises something worse, since every hop adds at least 1. So along any chain of selected next hops the feasible
//! distance strictly falls, at every moment and however late news arrives, and a chain along which something strictly
//! falls does not close. Where only infeasible ways are left, a fresh seqno of the destination makes them feasible.

use crate::routing::requests::{Handed, Wanted};
use crate::routing::update::{Distance, INFINITE, Plane};

/// A neighbour's place in the distance vector's table.
pub(super) type Slot = u32;

/// What one neighbour advertises: how far the destination is from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advert {
    pub(super) distance: Distance,
    pub(super) neighbour: Slot,
}

/// The selected route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Selected {
    /// How far the destination is from here.
    pub(super) distance: Distance,
    /// Over whom.
    pub(super) neighbour: Slot,
}

/// What there is beside the selected route, and why it is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing better.
    None,
    /// There is no feasible route, but an infeasible one.
    Starving,
    /// An infeasible route would be better.
    Detour,
}

/// One destination in one plane.
#[derive(Debug, Default)]
pub(super) struct PlaneRoutes {
    pub(super) adverts: Vec<Advert>,
    pub(super) feasible: Option<Distance>,
    pub(super) selected: Option<Selected>,
    pub(super) wanted: Option<Box<Wanted>>,
    pub(super) handed: Option<Box<Handed>>,
}

impl PlaneRoutes {
    /// Takes in what a neighbour advertises; an infinite metric takes its route away.
    pub(super) fn advertised(&mut self, neighbour: Slot, distance: Distance) {
        let known = self
            .adverts
            .iter()
            .position(|advert| advert.neighbour == neighbour);
        match (known, distance.metric) {
            (Some(place), INFINITE) => {
                self.adverts.swap_remove(place);
            }
            (Some(place), _) => self.adverts[place].distance = distance,
            (None, INFINITE) => {}
            (None, _) => self.adverts.push(Advert { distance, neighbour }),
        }
    }

    /// Selects the best feasible route and lowers the feasible distance to it. `costs` are the links' costs by slot.
    /// Of equally good routes the present one stays: changing it would be news for the neighbours and gain nothing.
    pub(super) fn select(&mut self, plane: Plane, costs: &[u32], feasibility: bool) -> Option<Selected> {
        let best = self
            .adverts
            .iter()
            .filter(|advert| !feasibility || self.is_feasible(advert.distance))
            .filter_map(|advert| through(advert, plane, costs))
            .min_by_key(|route| {
                (
                    route.distance.metric,
                    self.is_other_than_selected(route),
                    route.neighbour,
                )
            });
        self.selected = best;
        if let Some(route) = best
            && self
                .feasible
                .is_none_or(|feasible| route.distance.is_better_than(feasible))
        {
            self.feasible = Some(route.distance);
        }
        best
    }

    fn is_other_than_selected(&self, route: &Selected) -> bool {
        self.selected
            .is_none_or(|selected| selected.neighbour != route.neighbour)
    }

    pub(super) fn is_feasible(&self, advertised: Distance) -> bool {
        self.feasible
            .is_none_or(|feasible| advertised.is_better_than(feasible))
    }

    /// Whether a fresh seqno would help.
    pub(super) fn need(&self, plane: Plane, costs: &[u32]) -> Need {
        let selected = self.selected.map_or(INFINITE, |route| route.distance.metric);
        let better = self.adverts.iter().any(|advert| {
            !self.is_feasible(advert.distance)
                && through(advert, plane, costs).is_some_and(|route| route.distance.metric < selected)
        });
        match (better, self.selected) {
            (false, _) => Need::None,
            (true, None) => Need::Starving,
            (true, Some(_)) => Need::Detour,
        }
    }

    /// Neighbours with an infeasible route better than the selected one, best first.
    pub(super) fn infeasible(&self, plane: Plane, costs: &[u32]) -> Vec<Slot> {
        let selected = self.selected.map_or(INFINITE, |route| route.distance.metric);
        let mut found: Vec<(u32, Slot)> = self
            .adverts
            .iter()
            .filter(|advert| !self.is_feasible(advert.distance))
            .filter_map(|advert| through(advert, plane, costs))
            .filter(|route| route.distance.metric < selected)
            .map(|route| (route.distance.metric, route.neighbour))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, neighbour)| neighbour).collect()
    }

    /// Feasible routes, best first.
    pub(super) fn alternatives(&self, plane: Plane, costs: &[u32]) -> Vec<Selected> {
        let mut found: Vec<Selected> = self
            .adverts
            .iter()
            .filter(|advert| self.is_feasible(advert.distance))
            .filter_map(|advert| through(advert, plane, costs))
            .collect();
        found.sort_unstable_by_key(|route| {
            (
                route.distance.metric,
                self.is_other_than_selected(route),
                route.neighbour,
            )
        });
        found
    }

    /// The neighbour on whose way a request gets nearer to the origin: the next hop, else the one with the nearest
    /// infeasible route; never the one it came from.
    pub(super) fn towards_origin(&self, plane: Plane, costs: &[u32], from: Slot) -> Option<Slot> {
        let next_hop = self
            .selected
            .map(|route| route.neighbour)
            .filter(|next_hop| *next_hop != from);
        let nearest = || {
            let others = self.adverts.iter().filter(|advert| advert.neighbour != from);
            let routes = others.filter_map(|advert| through(advert, plane, costs));
            routes
                .min_by_key(|route| (route.distance.metric, route.neighbour))
                .map(|route| route.neighbour)
        };
        next_hop.or_else(nearest)
    }
}

/// The route through a neighbour: none over a link without a cost, or further than the plane reaches.
fn through(advert: &Advert, plane: Plane, costs: &[u32]) -> Option<Selected> {
    let cost = costs.get(advert.neighbour as usize).copied()?;
    let metric = advert
        .distance
        .metric
        .checked_add(cost)
        .filter(|metric| *metric <= plane.largest())?;
    Some(Selected {
        distance: Distance {
            seqno: advert.distance.seqno,
            metric,
        },
        neighbour: advert.neighbour,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: [u32; 3] = [1, 1, INFINITE];

    fn distance(seqno: u64, metric: u32) -> Distance {
        Distance { seqno, metric }
    }

    fn selected(routes: &mut PlaneRoutes) -> Option<(u32, Slot)> {
        routes
            .select(Plane::Hops, &COSTS, true)
            .map(|route| (route.distance.metric, route.neighbour))
    }

    #[test]
    fn a_route_that_may_lead_back_here_is_not_taken_and_a_fresh_seqno_frees_it() {
        let mut routes = PlaneRoutes::default();
        routes.advertised(0, distance(1, 2));
        assert_eq!(selected(&mut routes), Some((3, 0)));
        routes.advertised(1, distance(1, 4));
        routes.advertised(0, distance(1, INFINITE));
        assert_eq!(
            selected(&mut routes),
            None,
            "4 is not below 3: it may come from here"
        );
        assert_eq!(routes.need(Plane::Hops, &COSTS), Need::Starving);
        routes.advertised(1, distance(2, 4));
        assert_eq!(selected(&mut routes), Some((5, 1)));
        assert_eq!(routes.need(Plane::Hops, &COSTS), Need::None);
    }

    #[test]
    fn a_present_route_stays_among_equals_and_a_better_one_takes_its_place() {
        let mut routes = PlaneRoutes::default();
        routes.advertised(1, distance(1, 3));
        assert_eq!(selected(&mut routes), Some((4, 1)));
        routes.advertised(0, distance(1, 3));
        assert_eq!(selected(&mut routes), Some((4, 1)));
        routes.advertised(0, distance(1, 2));
        assert_eq!(selected(&mut routes), Some((3, 0)));
    }

    #[test]
    fn a_selected_route_that_became_longer_is_kept_only_while_feasible() {
        let mut routes = PlaneRoutes::default();
        routes.advertised(0, distance(1, 2));
        selected(&mut routes);
        routes.advertised(0, distance(1, 3));
        assert_eq!(selected(&mut routes), None);
        assert_eq!(routes.infeasible(Plane::Hops, &COSTS), [0]);
    }

    #[test]
    fn links_without_a_cost_and_ways_longer_than_a_route_carry_nothing() {
        let mut routes = PlaneRoutes::default();
        routes.advertised(2, distance(1, 1));
        assert_eq!(selected(&mut routes), None);
        routes.advertised(0, distance(1, 10));
        assert_eq!(selected(&mut routes), None, "an eleventh hop");
        routes.advertised(0, distance(1, 9));
        assert_eq!(selected(&mut routes), Some((10, 0)));
    }

    #[test]
    fn a_request_goes_on_towards_the_origin_and_never_back() {
        let mut routes = PlaneRoutes::default();
        routes.advertised(0, distance(1, 2));
        routes.advertised(1, distance(1, 5));
        selected(&mut routes);
        assert_eq!(routes.towards_origin(Plane::Hops, &COSTS, 1), Some(0));
        assert_eq!(routes.towards_origin(Plane::Hops, &COSTS, 0), Some(1));
    }
}
