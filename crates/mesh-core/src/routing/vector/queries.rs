//! What others want to know of the routes.

use crate::announcement::Head;
use crate::event::LinkId;
use crate::identity::NodeId;
use crate::limits::MAX_ALTERNATIVES;
use crate::routing::plane::{PlaneRoutes, Selected};
use crate::routing::snapshot::Successor;
use crate::routing::update::{INFINITE, Plane};

use super::DistanceVector;

/// A route's next hop, and how far the destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The neighbour.
    pub neighbour: NodeId,
    /// The metric from here.
    pub metric: u32,
}

impl DistanceVector {
    /// The selected route.
    pub fn next_hop(&self, destination: &NodeId, plane: Plane) -> Option<NextHop> {
        let route = self.routes(destination, plane)?.selected?;
        self.named(route)
    }

    /// Up to four feasible routes, best first.
    pub fn alternatives(&self, destination: &NodeId, plane: Plane) -> Vec<NextHop> {
        let Some(routes) = self.routes(destination, plane) else {
            return Vec::new();
        };
        let feasible = routes.alternatives(plane, &self.costs[plane.index()]);
        feasible
            .into_iter()
            .take(MAX_ALTERNATIVES)
            .filter_map(|route| self.named(route))
            .collect()
    }

    /// Up to four feasible next hops as readers see them, best first; none where there is no way.
    pub fn shown(&self, destination: &NodeId) -> Vec<Successor> {
        let Some(index) = self.by_id.get(destination) else {
            return Vec::new();
        };
        let Some(destination) = self.destination(*index) else {
            return Vec::new();
        };
        let routes = Plane::ALL.map(|plane| {
            let routes = &destination.planes[plane.index()];
            routes.alternatives(plane, &self.costs[plane.index()])
        });
        let [cheapest, shortest] = &routes;
        let mut shown: Vec<Successor> = Vec::with_capacity(MAX_ALTERNATIVES);
        let by_rank = (0..cheapest.len().max(shortest.len()))
            .flat_map(|rank| [cheapest.get(rank), shortest.get(rank)].into_iter().flatten());
        for route in by_rank {
            if shown.len() == MAX_ALTERNATIVES {
                break;
            }
            if shown.iter().any(|known| known.neighbour == route.neighbour) {
                continue;
            }
            let metric = |routes: &[Selected]| {
                let mut over = routes.iter();
                let found = over.find(|other| other.neighbour == route.neighbour);
                found.map(|found| found.distance.metric)
            };
            shown.push(Successor {
                neighbour: route.neighbour,
                cost: metric(cheapest).unwrap_or(INFINITE),
                // Further than a packet's route may be long, when only the cost plane has it.
                hops: metric(shortest)
                    .and_then(|hops| u8::try_from(hops).ok())
                    .unwrap_or(u8::MAX),
            });
        }
        shown
    }

    /// The number that a live neighbour has in what readers see.
    pub fn number_of(&self, neighbour: &NodeId) -> Option<u32> {
        self.by_neighbour.get(neighbour).copied()
    }

    /// The same of the neighbour on a link.
    pub fn number_on(&self, link: LinkId) -> Option<u32> {
        self.by_link.get(&link).copied()
    }

    /// Whether something was heard of a destination since [`DistanceVector::take_changed`].
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Something that is shown of a destination changed elsewhere.
    pub fn show_again(&mut self, destination: &NodeId) {
        if let Some(index) = self.by_id.get(destination).copied() {
            self.note_changed(index);
        }
    }

    /// Up to four neighbours over which a destination can be reached: the cheapest way's first, then the shortest way's,
    /// then what else is feasible.
    pub fn successors(&self, destination: &NodeId) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = Vec::new();
        let by_plane = Plane::ALL.map(|plane| self.alternatives(destination, plane));
        for rank in 0..MAX_ALTERNATIVES {
            for routes in &by_plane {
                if let Some(route) = routes.get(rank)
                    && !found.contains(&route.neighbour)
                {
                    found.push(route.neighbour);
                }
            }
        }
        found.truncate(MAX_ALTERNATIVES);
        found
    }

    /// The feasible distance: seqno and metric.
    pub fn feasible_distance(&self, destination: &NodeId, plane: Plane) -> Option<(u64, u32)> {
        let feasible = self.routes(destination, plane)?.feasible?;
        Some((feasible.seqno, feasible.metric))
    }

    /// What the link to a live neighbour costs, once it was measured.
    pub fn link_cost(&self, neighbour: &NodeId) -> Option<u32> {
        let slot = *self.by_neighbour.get(neighbour)? as usize;
        Some(self.costs[Plane::Cost.index()][slot]).filter(|cost| *cost != INFINITE)
    }

    /// The newest announcement of a node that holds.
    pub fn head(&self, origin: &NodeId) -> Option<&Head> {
        let destination = self.destination(*self.by_id.get(origin)?)?;
        destination.alive.then_some(&destination.head)
    }

    /// Whether the vector remembers an announcement of a node, holding or not.
    pub fn knows(&self, origin: &NodeId) -> bool {
        self.by_id.contains_key(origin)
    }

    /// Destinations whose announcements hold, itself included.
    pub fn destinations(&self) -> usize {
        self.destinations
            .iter()
            .flatten()
            .filter(|destination| destination.alive)
            .count()
    }

    /// Destinations within the hops of a route.
    pub fn reachable(&self) -> usize {
        self.destinations
            .iter()
            .flatten()
            .filter(|destination| destination.planes[Plane::Hops.index()].selected.is_some())
            .count()
    }

    /// The seqnos this node advertises itself with, by plane.
    pub fn own_seqnos(&self) -> [u64; 2] {
        self.own_seqnos
    }

    fn routes(&self, destination: &NodeId, plane: Plane) -> Option<&PlaneRoutes> {
        let destination = self.destination(*self.by_id.get(destination)?)?;
        Some(&destination.planes[plane.index()])
    }

    fn named(&self, route: Selected) -> Option<NextHop> {
        let exchange = self.exchanges.get(route.neighbour as usize)?.as_ref()?;
        Some(NextHop {
            neighbour: exchange.id,
            metric: route.distance.metric,
        })
    }
}
