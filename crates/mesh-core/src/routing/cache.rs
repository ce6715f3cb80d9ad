//! Signed, priced paths found by discovery, kept until they expire or something on them changes.

use std::collections::BTreeMap;

use crate::drop_reason::DropReason;
use crate::event::RouteInfo;
use crate::identity::NodeId;
use crate::limits::{MAX_ROUTE_DESTINATIONS, MAX_ROUTES_PER_DESTINATION, ROUTE_LIFETIME};
use crate::message::{QuoteRequest, RouteCertificate};
use crate::time::UnixMillis;

/// A route that can be quoted.
#[derive(Debug, Clone)]
pub struct Route {
    /// The path with everybody's signed price.
    pub certificate: RouteCertificate,
    /// Until when it is kept.
    pub expires: UnixMillis,
    /// What a slice of [`COMPARISON_UNITS`] units costs, in msat: routes are ranked by it.
    pub rank_msat: u64,
}

/// Routes are compared by the fee of a slice of this size: large enough that the least payable share does not hide
/// the difference in price.
pub const COMPARISON_UNITS: u64 = 10_000;

impl Route {
    /// The route as callers see it.
    pub fn info(&self) -> RouteInfo {
        RouteInfo {
            path: self.certificate.path.clone(),
            prices: self.certificate.prices(),
            msat_per_unit: self.rank_msat.div_ceil(COMPARISON_UNITS),
            expires: self.expires,
        }
    }

    fn first_hop(&self) -> Option<&NodeId> {
        self.certificate.path.get(1)
    }
}

/// The routes of one node, at most four per destination, cheapest first.
#[derive(Debug, Default)]
pub struct RouteCache {
    routes: BTreeMap<NodeId, Vec<Route>>,
}

impl RouteCache {
    /// Takes in a path whose signatures were checked. When four cheaper ones are known it is left out.
    pub fn insert(&mut self, certificate: RouteCertificate, now: UnixMillis) -> Result<(), DropReason> {
        let destination = *certificate.destination().ok_or(DropReason::BadRoute)?;
        if !self.routes.contains_key(&destination) && self.routes.len() >= MAX_ROUTE_DESTINATIONS {
            return Err(DropReason::TableFull);
        }
        let expires = certificate.valid_until().min(now + ROUTE_LIFETIME);
        let rank_msat = QuoteRequest::least_total(&certificate, COMPARISON_UNITS)?;
        let known = self.routes.entry(destination).or_default();
        known.retain(|route| route.certificate.path != certificate.path);
        known.push(Route {
            certificate,
            expires,
            rank_msat,
        });
        known.sort_by(|a, b| {
            let key = |route: &Route| (route.rank_msat, route.certificate.hops());
            key(a)
                .cmp(&key(b))
                .then_with(|| a.certificate.path.cmp(&b.certificate.path))
        });
        known.truncate(MAX_ROUTES_PER_DESTINATION);
        Ok(())
    }

    /// Routes to `destination` that are valid and short enough, cheapest first.
    pub fn find(&self, destination: &NodeId, max_hops: usize, now: UnixMillis) -> Vec<&Route> {
        let known = self
            .routes
            .get(destination)
            .map(Vec::as_slice)
            .unwrap_or_default();
        known
            .iter()
            .filter(|route| route.expires > now && route.certificate.hops() <= max_hops)
            .collect()
    }

    /// The valid route over exactly these nodes.
    pub fn get(&self, path: &[NodeId], now: UnixMillis) -> Option<&Route> {
        let known = self.routes.get(path.last()?)?;
        known
            .iter()
            .find(|route| route.certificate.path == path && route.expires > now)
    }

    /// All valid routes.
    pub fn all(&self, now: UnixMillis) -> impl Iterator<Item = &Route> {
        self.routes
            .values()
            .flatten()
            .filter(move |route| route.expires > now)
    }

    /// Forgets the routes whose first hop is gone.
    pub fn forget_via(&mut self, neighbour: &NodeId) {
        self.retain(|route| route.first_hop() != Some(neighbour));
    }

    /// Forgets the routes that go from one node straight to the other: the link between them is gone.
    pub fn forget_edge(&mut self, from: &NodeId, to: &NodeId) {
        let passes = |path: &[NodeId]| path.windows(2).any(|pair| pair[0] == *from && pair[1] == *to);
        self.retain(|route| !passes(&route.certificate.path));
    }

    /// Forgets one route: a hop on it refused or is gone.
    pub fn forget(&mut self, path: &[NodeId]) {
        self.retain(|route| route.certificate.path != path);
    }

    /// Forgets what has expired.
    pub fn expire(&mut self, now: UnixMillis) {
        self.retain(|route| route.expires > now);
    }

    /// Number of routes kept.
    pub fn cached_routes(&self) -> usize {
        self.routes.values().map(Vec::len).sum()
    }

    fn retain(&mut self, keep: impl Fn(&Route) -> bool) {
        self.routes.retain(|_, known| {
            known.retain(&keep);
            !known.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::message::Price;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    fn route(over: &[u8], price: u64) -> RouteCertificate {
        let price = Price {
            msat_per_unit: price,
            payable: true,
        };
        let path = over.iter().map(|byte| identity(*byte).node_id()).collect();
        let last = identity(*over.last().unwrap());
        let mut certificate = RouteCertificate::sign([0; 16], path, price, UnixMillis(1000), &last);
        for router in over[1..over.len() - 1].iter().rev() {
            certificate
                .attest(price, None, UnixMillis(1000), &identity(*router))
                .unwrap();
        }
        certificate
    }

    #[test]
    fn cheapest_of_at_most_four_come_first() {
        let mut table = RouteCache::default();
        for (over, price) in [
            ([1, 2, 9], 5),
            ([1, 3, 9], 1),
            ([1, 4, 9], 4),
            ([1, 5, 9], 3),
            ([1, 6, 9], 2),
        ] {
            table.insert(route(&over, price), UnixMillis(0)).unwrap();
        }
        let found = table.find(&identity(9).node_id(), 10, UnixMillis(0));
        let seconds: Vec<_> = found.iter().map(|route| route.certificate.path[1]).collect();
        assert_eq!(seconds, [3, 6, 5, 4].map(|byte| identity(byte).node_id()));
    }

    #[test]
    fn dead_neighbour_long_path_and_expiry_take_routes_away() {
        let mut table = RouteCache::default();
        table.insert(route(&[1, 2, 9], 1), UnixMillis(0)).unwrap();
        table.insert(route(&[1, 3, 4, 9], 1), UnixMillis(0)).unwrap();
        let destination = identity(9).node_id();
        assert_eq!(table.find(&destination, 2, UnixMillis(0)).len(), 1);
        assert_eq!(table.find(&destination, 10, UnixMillis(1000)).len(), 0);
        table.forget_via(&identity(2).node_id());
        assert_eq!(table.find(&destination, 10, UnixMillis(0)).len(), 1);
        assert_eq!(table.cached_routes(), 1);
    }

    #[test]
    fn dead_link_takes_away_every_route_over_it_in_its_direction() {
        let mut table = RouteCache::default();
        for over in [&[1, 2, 3, 9][..], &[1, 3, 2, 9], &[1, 2, 9], &[1, 2, 3]] {
            table.insert(route(over, 1), UnixMillis(0)).unwrap();
        }
        table.forget_edge(&identity(2).node_id(), &identity(3).node_id());
        let left: Vec<_> = table.all(UnixMillis(0)).collect();
        let left: Vec<_> = left.iter().map(|route| route.certificate.path[1]).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(table.find(&identity(3).node_id(), 10, UnixMillis(0)).is_empty());
    }
}
