//! A network of nothing but distance vectors, in virtual time.

#![allow(clippy::unwrap_used)] // a panic is how a test says no

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use mesh_core::announcement::Head;
use mesh_core::event::LinkId;
use mesh_core::identity::{Identity, NodeId};
use mesh_core::limits::{ANNOUNCEMENT_LIFETIME, MAX_HOPS};
use mesh_core::message::ControlMessage;
use mesh_core::routing::vector::News;
use mesh_core::routing::{DistanceVector, Plane};
use mesh_core::time::{Instant, Now, UnixMillis};

/// Splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

struct Node {
    identity: Identity,
    vector: Option<DistanceVector>,
    seqno: u64,
    /// Whether it makes its announcements anew.
    mute: bool,
    /// Seqno to feasible metric, last seen, per destination and plane.
    feasible: BTreeMap<(NodeId, Plane), (u64, u32)>,
}

enum Happening {
    Up(usize, usize, LinkId),
    Down(usize, LinkId),
    Message(usize, usize, LinkId, Box<ControlMessage>),
    Refresh(usize),
}

pub(crate) struct Net {
    nodes: Vec<Node>,
    latency_ms: BTreeMap<(usize, usize), u64>,
    links: BTreeMap<(usize, usize), LinkId>,
    cut: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(u64, u64), Happening>,
    now: u64,
    counter: u64,
    random: Random,
    pub(crate) loss_percent: usize,
    /// Of the messages, so many come a second time, late.
    pub(crate) twice_percent: usize,
    /// Messages are late by up to this, so that they overtake each other.
    pub(crate) late_ms: usize,
    /// How long announcements hold; they are made anew twice in that time.
    lifetime_ms: u64,
    refreshing: bool,
    pub(crate) loops: usize,
    quiet_since: u64,
}

fn key(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Net {
    pub(crate) fn new(seed: u64, nodes: usize, edges: &[(usize, usize)]) -> Self {
        let mut random = Random(seed);
        let node = |index: usize| {
            let mut secret = [0; 32];
            secret[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
            Node {
                identity: Identity::from_seed(secret).unwrap(),
                vector: None,
                seqno: 0,
                mute: false,
                feasible: BTreeMap::new(),
            }
        };
        let latency_ms = edges
            .iter()
            .map(|(a, b)| (key(*a, *b), [1, 3, 8, 15, 30, 70][random.below(6)]))
            .collect();
        let mut net = Self {
            nodes: (0..nodes).map(node).collect(),
            latency_ms,
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            now: 0,
            counter: 0,
            random,
            loss_percent: 0,
            twice_percent: 0,
            late_ms: 0,
            lifetime_ms: ANNOUNCEMENT_LIFETIME.as_millis() as u64,
            refreshing: false,
            loops: 0,
            quiet_since: 0,
        };
        (0..nodes).for_each(|node| net.restart(node));
        net
    }

    pub(crate) fn without_feasibility(&mut self) {
        for node in &mut self.nodes {
            node.vector.as_mut().unwrap().without_feasibility();
        }
    }

    /// From now on announcements hold for this long.
    pub(crate) fn announce_every(&mut self, lifetime_ms: u64) {
        self.lifetime_ms = lifetime_ms;
        self.refreshing = true;
        for node in 0..self.nodes.len() {
            self.later(0, Happening::Refresh(node));
        }
    }

    /// From now on they hold for an hour.
    pub(crate) fn announce_for_good(&mut self) {
        self.lifetime_ms = ANNOUNCEMENT_LIFETIME.as_millis() as u64;
        self.refreshing = false;
        for node in 0..self.nodes.len() {
            self.nodes[node].mute = false;
            if self.nodes[node].vector.is_some() {
                self.announce(node, &[]);
            }
        }
    }

    /// A node stops, or begins again, to make its announcements anew.
    pub(crate) fn mute_or_unmute(&mut self, node: usize) {
        self.nodes[node].mute ^= true;
    }

    /// A node that is down loses everything it knew of itself.
    pub(crate) fn lose_numbers(&mut self, node: usize) {
        if self.nodes[node].vector.is_none() {
            self.nodes[node].seqno = 0;
        }
    }

    fn instant(&self) -> Instant {
        Instant(self.now)
    }

    fn later(&mut self, after_us: u64, happening: Happening) {
        self.counter += 1;
        self.queue.insert((self.now + after_us, self.counter), happening);
    }

    pub(crate) fn restart(&mut self, node: usize) {
        if self.nodes[node].vector.is_some() {
            return;
        }
        let id = self.nodes[node].identity.node_id();
        let seed = self.counter.wrapping_mul(31).wrapping_add(node as u64 + 1);
        self.nodes[node].vector = Some(DistanceVector::new(id, seed));
        self.nodes[node].feasible.clear();
        self.announce(node, &Plane::ALL);
        let edges: Vec<_> = self.latency_ms.keys().copied().collect();
        for (a, b) in edges {
            if a == node || b == node {
                self.up(a, b);
            }
        }
    }

    fn announce(&mut self, node: usize, fresh: &[Plane]) {
        let now = self.instant();
        let expires = UnixMillis(self.now / 1000 + self.lifetime_ms);
        let node = &mut self.nodes[node];
        node.seqno += 1;
        let body = Bytes::from_static(b"");
        let head = Head::sign(node.seqno, expires, &body, &node.identity);
        node.vector.as_mut().unwrap().announce(head, body, fresh, now);
    }

    fn up(&mut self, a: usize, b: usize) {
        let alive = self.nodes[a].vector.is_some() && self.nodes[b].vector.is_some();
        if !alive || self.cut.contains(&key(a, b)) || self.links.contains_key(&key(a, b)) {
            return;
        }
        self.counter += 1;
        let link = LinkId(self.counter);
        self.links.insert(key(a, b), link);
        self.later(1_000, Happening::Up(a, b, link));
        self.later(2_000, Happening::Up(b, a, link));
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert(key(a, b));
        self.down(a, b);
    }

    fn down(&mut self, a: usize, b: usize) {
        if let Some(link) = self.links.remove(&key(a, b)) {
            self.later(1_000, Happening::Down(a, link));
            self.later(20_000, Happening::Down(b, link));
        }
    }

    pub(crate) fn heal(&mut self, a: usize, b: usize) {
        self.cut.remove(&key(a, b));
        if self.latency_ms.contains_key(&key(a, b)) {
            self.up(a, b);
        }
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].vector = None;
        let edges: Vec<_> = self.links.keys().copied().collect();
        for (a, b) in edges {
            if a == node || b == node {
                self.down(a, b);
            }
        }
    }

    pub(crate) fn busiest(&self) -> usize {
        let degree = |node: usize| {
            self.links
                .keys()
                .filter(|(a, b)| *a == node || *b == node)
                .count()
        };
        (0..self.nodes.len()).max_by_key(|node| degree(*node)).unwrap()
    }

    pub(crate) fn run_for_ms(&mut self, span: u64) {
        self.run(self.now + span * 1000, u64::MAX);
    }

    /// Until no route changed for as long as the slowest request may pause.
    pub(crate) fn run_until_quiet(&mut self) {
        self.quiet_since = self.now;
        self.run(self.now + 3_600_000_000, 300_000_000);
        assert!(self.now - self.quiet_since >= 300_000_000, "never quiet");
    }

    fn run(&mut self, end: u64, quiet: u64) {
        loop {
            let wake = self.nodes.iter().enumerate().filter_map(|(node, state)| {
                let at = state.vector.as_ref()?.next_timeout()?;
                Some((at.0.max(self.now), node))
            });
            let wake = wake.min();
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let at = [wake.map(|(at, _)| at), next].into_iter().flatten().min();
            let limit = end.min(self.quiet_since.saturating_add(quiet));
            let Some(at) = at.filter(|at| *at <= limit) else {
                self.now = limit;
                return;
            };
            self.now = at;
            if next == Some(at) {
                let (_, happening) = self.queue.pop_first().unwrap();
                self.happen(happening);
            } else if let Some((_, node)) = wake {
                let now = self.instant();
                self.nodes[node].vector.as_mut().unwrap().on_timeout(now);
                self.after(node);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = Now {
            instant: self.instant(),
            unix: UnixMillis(self.now / 1000),
        };
        if let Happening::Refresh(node) = happening {
            if self.refreshing {
                self.refresh(node);
            }
            return;
        }
        let link_stands = |net: &Self, a, b, link| net.links.get(&key(a, b)) == Some(&link);
        match happening {
            Happening::Refresh(_) => {}
            Happening::Up(node, peer, link) => {
                if !link_stands(self, node, peer, link) {
                    return;
                }
                let peer = self.nodes[peer].identity.node_id();
                let Some(vector) = &mut self.nodes[node].vector else {
                    return;
                };
                vector.link_up(link, peer, now.instant);
                self.after(node);
            }
            Happening::Down(node, link) => {
                let Some(vector) = &mut self.nodes[node].vector else {
                    return;
                };
                vector.link_down(link, now.instant);
                self.after(node);
            }
            Happening::Message(from, to, link, message) => {
                if !link_stands(self, from, to, link) {
                    return;
                }
                let Some(vector) = &mut self.nodes[to].vector else {
                    return;
                };
                match *message {
                    ControlMessage::RoutingUpdate(update) => {
                        vector.on_update(link, *update, now);
                    }
                    ControlMessage::RoutingAck { number } => {
                        vector.on_ack(link, number, now.instant);
                    }
                    ControlMessage::SeqnoRequest(request) => {
                        let _ = vector.on_request(link, request, now.instant);
                    }
                    other => panic!("{other:?}"),
                }
                self.after(to);
            }
        }
    }

    fn refresh(&mut self, node: usize) {
        if self.nodes[node].vector.is_some() && !self.nodes[node].mute {
            self.announce(node, &[]);
            self.after(node);
        }
        self.later(self.lifetime_ms * 500, Happening::Refresh(node));
    }

    fn after(&mut self, node: usize) {
        loop {
            let vector = self.nodes[node].vector.as_mut().unwrap();
            let wanted: Vec<Plane> = vector
                .take_news()
                .into_iter()
                .filter_map(|news| match news {
                    News::SeqnoWanted { plane } => Some(plane),
                    News::OwnIdSeen { seqno } => {
                        self.nodes[node].seqno = self.nodes[node].seqno.max(seqno);
                        None
                    }
                    News::Forgotten { origin } => {
                        let feasible = &mut self.nodes[node].feasible;
                        feasible.retain(|(destination, _), _| *destination != origin);
                        None
                    }
                    _ => None,
                })
                .collect();
            if wanted.is_empty() {
                break;
            }
            self.announce(node, &wanted);
        }
        let vector = self.nodes[node].vector.as_mut().unwrap();
        let changed = vector.take_changed();
        for (link, message) in vector.take_messages() {
            let Some(((a, b), _)) = self.links.iter().find(|(_, known)| **known == link) else {
                continue;
            };
            let to = if *a == node { *b } else { *a };
            if self.random.below(100) < self.loss_percent {
                continue;
            }
            let late = self.random.below(1000 * self.late_ms + 300) as u64;
            let latency = self.latency_ms[&key(node, to)] * 1000 + late;
            if self.random.below(100) < self.twice_percent {
                let much_later = latency + self.random.below(3_000_000) as u64;
                let again = Box::new(message.clone());
                self.later(much_later, Happening::Message(node, to, link, again));
            }
            self.later(latency, Happening::Message(node, to, link, Box::new(message)));
        }
        for destination in changed {
            self.quiet_since = self.now;
            for plane in Plane::ALL {
                self.check_feasible_distance(node, destination, plane);
                self.look_for_loop(node, destination, plane);
            }
        }
    }

    fn check_feasible_distance(&mut self, node: usize, destination: NodeId, plane: Plane) {
        let state = &mut self.nodes[node];
        let vector = state.vector.as_ref().unwrap();
        if let Some(now) = vector.feasible_distance(&destination, plane) {
            let before = state.feasible.insert((destination, plane), now);
            assert!(
                before.is_none_or(|before| now.0 > before.0 || (now.0 == before.0 && now.1 <= before.1)),
                "a feasible distance rose within a seqno"
            );
        }
    }

    fn index(&self, id: &NodeId) -> usize {
        let mut nodes = self.nodes.iter();
        nodes.position(|node| node.identity.node_id() == *id).unwrap()
    }

    /// Follows next hops over links that stand.
    fn look_for_loop(&mut self, from: usize, destination: NodeId, plane: Plane) {
        let mut node = from;
        for _ in 0..self.nodes.len() {
            let Some(vector) = &self.nodes[node].vector else {
                return;
            };
            let Some(next) = vector.next_hop(&destination, plane) else {
                return;
            };
            let next = self.index(&next.neighbour);
            if !self.links.contains_key(&key(node, next)) {
                return;
            }
            node = next;
            if node == from {
                self.loops += 1;
                return;
            }
        }
    }

    fn cost(&self, from: usize, to: usize, plane: Plane) -> Option<u32> {
        self.links.get(&key(from, to))?;
        match plane {
            Plane::Hops => Some(1),
            Plane::Cost => {
                let to = self.nodes[to].identity.node_id();
                self.nodes[from].vector.as_ref()?.link_cost(&to)
            }
        }
    }

    /// Whole-graph shortest distances to a destination (Bellman-Ford).
    fn distances(&self, destination: usize, plane: Plane) -> Vec<Option<u32>> {
        let mut best = vec![None; self.nodes.len()];
        if self.nodes[destination].vector.is_none() {
            return best;
        }
        best[destination] = Some(0);
        let mut queue = VecDeque::from([destination]);
        while let Some(node) = queue.pop_front() {
            for from in 0..self.nodes.len() {
                let Some(cost) = self.cost(from, node, plane) else {
                    continue;
                };
                let through = best[node].unwrap() + cost;
                if best[from].is_none_or(|known| through < known) {
                    best[from] = Some(through);
                    queue.push_back(from);
                }
            }
        }
        let reach = if plane == Plane::Hops {
            MAX_HOPS as u32
        } else {
            u32::MAX
        };
        best.into_iter()
            .map(|metric| metric.filter(|metric| *metric <= reach))
            .collect()
    }

    pub(crate) fn assert_optimal(&self) {
        for destination in 0..self.nodes.len() {
            let id = self.nodes[destination].identity.node_id();
            for plane in Plane::ALL {
                let best = self.distances(destination, plane);
                for (node, state) in self.nodes.iter().enumerate() {
                    let Some(vector) = state.vector.as_ref().filter(|_| node != destination) else {
                        continue;
                    };
                    let found = vector.next_hop(&id, plane).map(|route| route.metric);
                    assert_eq!(found, best[node], "{node} to {destination} by {plane:?}");
                }
            }
        }
        assert_eq!(self.loops, 0);
    }

    /// Routes told by all nodes that are up, in both planes.
    pub(crate) fn routes_sent(&self) -> u64 {
        let vectors = self.nodes.iter().filter_map(|node| node.vector.as_ref());
        vectors
            .map(|vector| vector.counters.routes_sent.iter().sum::<u64>())
            .sum()
    }

    pub(crate) fn reachable(&self, plane: Plane) -> usize {
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.identity.node_id()).collect();
        let vectors = self.nodes.iter().filter_map(|node| node.vector.as_ref());
        vectors
            .map(|vector| {
                ids.iter()
                    .filter(|id| vector.next_hop(id, plane).is_some())
                    .count()
            })
            .sum()
    }
}
