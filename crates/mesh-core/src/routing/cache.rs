//! Signed, priced paths found by discovery, kept until they expire or something on them changes.
//!
//! Every route is filed under its destination, under each node on it, and under its expiry, so that a change costs as
//! many steps as there are routes over what changed, never a scan of all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::event::RouteInfo;
use crate::identity::NodeId;
use crate::limits::{MAX_ROUTE_DESTINATIONS, MAX_ROUTES_PER_DESTINATION, ROUTE_LIFETIME};
use crate::message::{Price, QuoteRequest, RouteCertificate};
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

    /// Smaller is better; no two routes of one destination are equal.
    fn rank(&self) -> (u64, usize, &[NodeId]) {
        (self.rank_msat, self.certificate.hops(), &self.certificate.path)
    }
}

/// Names a route within the cache; never reused.
type RouteKey = u64;

/// The routes of one node: at most four per destination, over as many different entities as are known, best first.
#[derive(Debug)]
pub struct RouteCache {
    lifetime: Duration,
    next_key: RouteKey,
    routes: BTreeMap<RouteKey, Route>,
    /// Best first.
    by_destination: BTreeMap<NodeId, Vec<RouteKey>>,
    /// All nodes but the requester, which is on every route.
    by_node: BTreeMap<NodeId, BTreeSet<RouteKey>>,
    by_expiry: BTreeSet<(UnixMillis, RouteKey)>,
}

impl Default for RouteCache {
    fn default() -> Self {
        Self::new(ROUTE_LIFETIME)
    }
}

impl RouteCache {
    /// An empty cache that keeps a route for `lifetime` at the most; its signed prices may end sooner.
    pub fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            next_key: 0,
            routes: BTreeMap::new(),
            by_destination: BTreeMap::new(),
            by_node: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
        }
    }

    /// Takes in a path whose signatures were checked; it replaces what was known of the same path. Of more than four to
    /// one destination, those stay that share the fewest entities, and of equally shared ones the cheaper. The
    /// cheapest of all always stays: who runs many nodes could else crowd it out with dear ones. So does the shortest:
    /// a caller with a lower hop limit finds a route whenever one is known.
    pub fn insert(&mut self, certificate: RouteCertificate, now: UnixMillis) -> Result<(), DropReason> {
        self.insert_preferring(certificate, now, &|_| true)
    }

    /// The same; and of the paths that are `sound` the cheapest always stays too, however many others are cheaper.
    pub fn insert_preferring(
        &mut self,
        certificate: RouteCertificate,
        now: UnixMillis,
        sound: &dyn Fn(&[NodeId]) -> bool,
    ) -> Result<(), DropReason> {
        let destination = *certificate.destination().ok_or(DropReason::BadRoute)?;
        let is_new = !self.by_destination.contains_key(&destination);
        if is_new && self.by_destination.len() >= MAX_ROUTE_DESTINATIONS {
            return Err(DropReason::TableFull);
        }
        let route = Route {
            expires: certificate.valid_until().min(now + self.lifetime),
            rank_msat: QuoteRequest::least_total(&certificate, COMPARISON_UNITS)?,
            certificate,
        };
        self.forget(&route.certificate.path);
        self.next_key += 1;
        let key = self.next_key;
        for node in route.certificate.path.iter().skip(1) {
            self.by_node.entry(*node).or_default().insert(key);
        }
        self.by_expiry.insert((route.expires, key));
        self.routes.insert(key, route);
        self.by_destination.entry(destination).or_default().push(key);
        self.choose(&destination, sound);
        Ok(())
    }

    /// Routes to `destination` that are valid and short enough, best first.
    pub fn find(&self, destination: &NodeId, max_hops: usize, now: UnixMillis) -> Vec<&Route> {
        self.to(destination)
            .filter(|route| route.expires > now && route.certificate.hops() <= max_hops)
            .collect()
    }

    /// The valid route over exactly these nodes.
    pub fn get(&self, path: &[NodeId], now: UnixMillis) -> Option<&Route> {
        self.to(path.last()?)
            .find(|route| route.certificate.path == path && route.expires > now)
    }

    /// All valid routes, by destination, best first.
    pub fn all(&self, now: UnixMillis) -> impl Iterator<Item = &Route> {
        self.by_destination
            .keys()
            .flat_map(|destination| self.to(destination))
            .filter(move |route| route.expires > now)
    }

    /// Number of routes kept.
    pub fn cached_routes(&self) -> usize {
        self.routes.len()
    }

    /// Forgets the routes whose first hop is gone.
    pub fn forget_via(&mut self, neighbour: &NodeId) {
        self.forget_over(neighbour, |route| {
            route.certificate.path.get(1) == Some(neighbour)
        });
    }

    /// Forgets the routes over the link between `a` and `b`, in either direction: it is gone.
    pub fn forget_edge(&mut self, a: &NodeId, b: &NodeId) {
        let over = |node| self.by_node.get(node).map_or(0, BTreeSet::len);
        // The requester is filed nowhere: its links are found under the other end.
        let end = match (over(a), over(b)) {
            (0, _) => b,
            (_, 0) => a,
            (at_a, at_b) if at_a <= at_b => a,
            _ => b,
        };
        self.forget_over(&end.clone(), |route| {
            let mut links = route.certificate.path.windows(2);
            links.any(|link| link == [*a, *b] || link == [*b, *a])
        });
    }

    /// Forgets the routes on which `node` signed another price than `price`: its quotes would differ from them.
    pub fn forget_repriced(&mut self, node: &NodeId, price: Price) {
        self.forget_over(node, |route| {
            let place = route.certificate.path.iter().position(|hop| hop == node);
            place.and_then(|place| route.certificate.price_at(place)) != Some(price)
        });
    }

    /// Forgets one route: a hop on it refused or is gone.
    pub fn forget(&mut self, path: &[NodeId]) {
        if let Some(destination) = path.last() {
            self.forget_over(destination, |route| route.certificate.path == path);
        }
    }

    /// Forgets what has expired.
    pub fn expire(&mut self, now: UnixMillis) {
        while let Some((_, key)) = self.by_expiry.first().copied().filter(|(at, _)| *at <= now) {
            self.remove(key);
        }
    }

    fn to(&self, destination: &NodeId) -> impl Iterator<Item = &Route> {
        let keys = self.by_destination.get(destination).into_iter().flatten();
        keys.filter_map(|key| self.routes.get(key))
    }

    fn forget_over(&mut self, node: &NodeId, is_affected: impl Fn(&Route) -> bool) {
        let over = self.by_node.get(node).into_iter().flatten();
        let affected: Vec<RouteKey> = over
            .filter(|key| self.routes.get(key).is_some_and(&is_affected))
            .copied()
            .collect();
        for key in affected {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: RouteKey) {
        let Some(route) = self.routes.remove(&key) else {
            return;
        };
        self.by_expiry.remove(&(route.expires, key));
        for node in route.certificate.path.iter().skip(1) {
            if let Some(over) = self.by_node.get_mut(node) {
                over.remove(&key);
                if over.is_empty() {
                    self.by_node.remove(node);
                }
            }
        }
        if let Some(destination) = route.certificate.destination()
            && let Some(known) = self.by_destination.get_mut(destination)
        {
            known.retain(|other| *other != key);
            if known.is_empty() {
                self.by_destination.remove(destination);
            }
        }
    }

    /// Ranks the routes of a destination and drops what is too much.
    fn choose(&mut self, destination: &NodeId, sound: &dyn Fn(&[NodeId]) -> bool) {
        let mut ranked: Vec<(RouteKey, &Route)> = self
            .by_destination
            .get(destination)
            .into_iter()
            .flatten()
            .filter_map(|key| Some((*key, self.routes.get(key)?)))
            .collect();
        ranked.sort_by(|(_, a), (_, b)| a.rank().cmp(&b.rank()));
        let kept = most_diverse(&ranked, sound);
        let (kept, surplus): (Vec<_>, Vec<_>) = ranked
            .into_iter()
            .map(|(key, _)| key)
            .partition(|key| kept.contains(key));
        self.by_destination.insert(*destination, kept);
        for key in surplus {
            self.remove(key);
        }
    }
}

/// Up to four of these routes, which come best first: the first, the shortest, the first that is sound, then always the one
/// that shares the fewest entities with those already chosen.
fn most_diverse(ranked: &[(RouteKey, &Route)], sound: &dyn Fn(&[NodeId]) -> bool) -> BTreeSet<RouteKey> {
    let shortest = ranked.iter().min_by_key(|(_, route)| route.certificate.hops());
    let first_sound = ranked.iter().find(|(_, route)| sound(&route.certificate.path));
    let (mut kept, mut used) = (BTreeSet::new(), BTreeSet::new());
    let mut firsts = ranked.first().into_iter().chain(shortest).chain(first_sound);
    while kept.len() < MAX_ROUTES_PER_DESTINATION.min(ranked.len()) {
        let left = || ranked.iter().filter(|(key, _)| !kept.contains(key));
        let shared = |route: &Route| {
            let entities = route.certificate.entities();
            entities.filter(|entity| used.contains(entity)).count()
        };
        let next = firsts
            .next()
            .or_else(|| left().min_by_key(|(_, route)| shared(route)));
        let Some((key, route)) = next else {
            break;
        };
        used.extend(route.certificate.entities());
        kept.insert(*key);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::message::Price;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    fn ids(nodes: &[u8]) -> Vec<NodeId> {
        nodes.iter().map(|byte| identity(*byte).node_id()).collect()
    }

    fn of(msat_per_unit: u64) -> Price {
        Price {
            msat_per_unit,
            payable: true,
        }
    }

    /// A route on which everybody charges `price`, and whose routers name `operator`.
    fn run_by(operator: Option<NodeId>, over: &[u8], price: u64) -> RouteCertificate {
        let last = identity(*over.last().unwrap());
        let mut certificate = RouteCertificate::sign([0; 16], ids(over), of(price), UnixMillis(1000), &last);
        for router in over[1..over.len() - 1].iter().rev() {
            certificate
                .attest(of(price), operator, UnixMillis(1000), &identity(*router))
                .unwrap();
        }
        certificate
    }

    fn route(over: &[u8], price: u64) -> RouteCertificate {
        run_by(None, over, price)
    }

    fn paths(cache: &RouteCache) -> Vec<Vec<NodeId>> {
        cache
            .all(UnixMillis(0))
            .map(|route| route.certificate.path.clone())
            .collect()
    }

    fn cache_of(routes: impl IntoIterator<Item = RouteCertificate>) -> RouteCache {
        let mut cache = RouteCache::default();
        for route in routes {
            cache.insert(route, UnixMillis(0)).unwrap();
        }
        cache
    }

    /// What the indices hold follows from the routes and from nothing else.
    #[track_caller]
    fn indices_agree(cache: &RouteCache) {
        let filed = |index: &BTreeMap<NodeId, BTreeSet<RouteKey>>| {
            let pairs = index
                .iter()
                .flat_map(|(node, keys)| keys.iter().map(|key| (*node, *key)));
            pairs.collect::<BTreeSet<_>>()
        };
        let nodes = cache.routes.iter().flat_map(|(key, route)| {
            let path = route.certificate.path.iter().skip(1);
            path.map(|node| (*node, *key))
        });
        assert_eq!(filed(&cache.by_node), nodes.collect());
        let destinations = cache.by_destination.values().flatten().copied();
        assert_eq!(
            destinations.collect::<BTreeSet<_>>(),
            cache.routes.keys().copied().collect()
        );
        let expiries = cache.routes.iter().map(|(key, route)| (route.expires, *key));
        assert_eq!(cache.by_expiry, expiries.collect());
        assert!(cache.by_node.values().all(|keys| !keys.is_empty()));
        assert!(cache.by_destination.values().all(|keys| !keys.is_empty()));
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
    fn independent_routes_stay_though_cheaper_ones_share_a_router() {
        let cheap = [3, 4, 5, 6].map(|second| route(&[1, 2, second, 9], u64::from(second)));
        let mut cache = cache_of(cheap);
        cache.insert(route(&[1, 7, 9], 50), UnixMillis(0)).unwrap();
        cache.insert(route(&[1, 8, 9], 60), UnixMillis(0)).unwrap();
        assert_eq!(cache.cached_routes(), 4);
        for over in [&[1, 2, 3, 9][..], &[1, 7, 9], &[1, 8, 9]].map(ids) {
            assert!(cache.get(&over, UnixMillis(0)).is_some(), "{over:?}");
        }
        indices_agree(&cache);
    }

    #[test]
    fn shortest_route_stays_for_callers_with_a_lower_hop_limit() {
        let cheap = [[2, 6], [3, 7], [4, 8], [5, 10]].map(|over| route(&[1, over[0], over[1], 9], 1));
        let mut cache = cache_of(cheap);
        cache.insert(route(&[1, 2, 9], 50), UnixMillis(0)).unwrap();
        assert_eq!(cache.find(&ids(&[9])[0], 2, UnixMillis(0)).len(), 1);
        assert_eq!(cache.find(&ids(&[9])[0], 10, UnixMillis(0)).len(), 4);
        indices_agree(&cache);
    }

    #[test]
    fn nodes_of_one_operator_are_no_alternative_to_one_another() {
        let operator = Some(NodeId([0x77; 32]));
        let one_owner = [2, 3, 4, 5].map(|router| run_by(operator, &[1, router, 9], 1));
        let mut cache = cache_of(one_owner);
        for router in [6, 7, 8] {
            cache.insert(route(&[1, router, 9], 100), UnixMillis(0)).unwrap();
        }
        let entities: BTreeSet<_> = cache
            .all(UnixMillis(0))
            .flat_map(|route| route.certificate.entities().collect::<Vec<_>>())
            .collect();
        assert_eq!(
            entities.len(),
            4,
            "three independent ones and the owner's cheapest"
        );
        assert_eq!(paths(&cache).len(), 4);
        indices_agree(&cache);
    }

    #[test]
    fn lost_link_takes_the_routes_over_it_and_no_others() {
        let routes = [&[1, 2, 3, 9][..], &[1, 3, 2, 9], &[1, 2, 4, 3, 9], &[1, 5, 9]];
        for link in [[2, 3], [3, 2]].map(|link| ids(&link)) {
            let mut cache = cache_of(routes.map(|over| route(over, 1)));
            cache.forget_edge(&link[0], &link[1]);
            assert_eq!(paths(&cache), [&[1, 5, 9][..], &[1, 2, 4, 3, 9]].map(ids));
            indices_agree(&cache);
        }
        for link in [[1, 5], [5, 1], [5, 9]].map(|link| ids(&link)) {
            let mut cache = cache_of(routes.map(|over| route(over, 1)));
            cache.forget_edge(&link[0], &link[1]);
            assert_eq!(cache.cached_routes(), 3);
            indices_agree(&cache);
        }
    }

    #[test]
    fn new_price_takes_the_routes_that_name_the_old_one() {
        let mut cache = cache_of([route(&[1, 2, 9], 5), route(&[1, 3, 9], 5), route(&[1, 9, 2], 7)]);
        cache.forget_repriced(&ids(&[2])[0], of(5));
        assert_eq!(cache.cached_routes(), 2, "only where it is not 5");
        cache.forget_repriced(&ids(&[9])[0], of(6));
        assert_eq!(cache.cached_routes(), 0, "the destination's price counts, too");
        indices_agree(&cache);
    }

    #[test]
    fn sound_route_stays_however_many_cheaper_ones_share_as_little() {
        let mut cache = RouteCache::default();
        let dear = ids(&[1, 8, 9]);
        let sound = |path: &[NodeId]| path == dear;
        for (over, price) in [
            ([1, 8, 9], 90),
            ([1, 2, 9], 1),
            ([1, 3, 9], 2),
            ([1, 4, 9], 3),
            ([1, 5, 9], 4),
        ] {
            cache
                .insert_preferring(route(&over, price), UnixMillis(0), &sound)
                .unwrap();
        }
        assert_eq!(
            paths(&cache),
            [&[1, 2, 9][..], &[1, 3, 9], &[1, 4, 9], &[1, 8, 9]].map(ids)
        );
        indices_agree(&cache);
    }

    #[test]
    fn same_path_again_replaces_what_was_known_of_it() {
        let cache = cache_of([route(&[1, 2, 9], 5), route(&[1, 2, 9], 3)]);
        let found = cache.get(&ids(&[1, 2, 9]), UnixMillis(0)).unwrap();
        assert_eq!(found.certificate.prices(), [of(3), of(3)]);
        assert_eq!(cache.cached_routes(), 1);
        indices_agree(&cache);
    }

    #[test]
    fn route_is_kept_no_longer_than_configured_and_no_longer_than_its_prices_hold() {
        for (lifetime, until) in [(400, 500), (5000, 1000)] {
            let mut cache = RouteCache::new(Duration::from_millis(lifetime));
            cache.insert(route(&[1, 2, 9], 5), UnixMillis(100)).unwrap();
            cache.expire(UnixMillis(until - 1));
            assert_eq!(cache.cached_routes(), 1);
            cache.expire(UnixMillis(until));
            assert_eq!(cache.cached_routes(), 0);
            indices_agree(&cache);
        }
    }

    #[test]
    fn whatever_comes_and_goes_the_indices_agree() {
        let mut state = 1u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut cache = RouteCache::default();
        for _ in 0..600 {
            let mut over = vec![1u8];
            for _ in 0..=draw(4) {
                let node = 2 + draw(8) as u8;
                if !over.contains(&node) {
                    over.push(node);
                }
            }
            match draw(8) {
                0 => cache.forget_edge(&ids(&over)[0], &ids(&[2 + draw(8) as u8])[0]),
                1 => cache.forget_repriced(&ids(&[2 + draw(8) as u8])[0], of(draw(3))),
                2 => cache.forget_via(&ids(&over)[1]),
                3 => cache.forget(&ids(&over)),
                _ => cache.insert(route(&over, draw(3)), UnixMillis(0)).unwrap(),
            }
            indices_agree(&cache);
        }
        assert!(cache.cached_routes() > 0);
    }
}
