//! Making a network, breaking it and mending it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use mesh_core::core::{Announcing, Core, CoreConfig};
use mesh_core::identity::Identity;
use mesh_core::routing::RoutingCounters;
use mesh_core::routing_policy::MeshMode;
use mesh_core::time::{Instant, UnixMillis};
use mesh_core::verifier::BitcoinNetwork;

use super::disk::Disk;
use super::links::Links;
use super::queue::Queue;
use super::topology::Topology;
use super::watch::Watch;
use super::{EPOCH, Happening, Network, NetworkSpec, Node, Totals};
use crate::random::Random;
use crate::world::identity;

/// Free bytes that each neighbour may send per second.
const FREE_BYTES_PER_SECOND: u64 = 10_000_000;

impl Network {
    /// All nodes of a topology, running, their links about to come up; `destinations` announce themselves and are
    /// watched.
    pub fn new(topology: &Topology, destinations: &[usize], spec: NetworkSpec, seed: u64) -> Self {
        let mut announced: Vec<u32> = destinations.iter().map(|node| *node as u32).collect();
        announced.sort_unstable();
        announced.dedup();
        let mut places = vec![u32::MAX; topology.nodes];
        for (place, node) in announced.iter().enumerate() {
            places[*node as usize] = place as u32;
        }
        let mut network = Self {
            seed,
            now: 0,
            queue: Queue::default(),
            nodes: Vec::with_capacity(topology.nodes),
            links: Links::new(topology, &spec.latency, seed),
            spec,
            by_id: HashMap::with_hasher(FixedState::with_seed(0)),
            places,
            signatures: Arc::default(),
            watch: Watch::new(topology.nodes, announced),
            traffic: None,
            said_by_the_dead: RoutingCounters::default(),
            random: Random::new(seed ^ 0x11_fe),
            next_command: 0,
            answers: BTreeMap::new(),
            dropped: BTreeMap::new(),
            totals: Totals::default(),
            hash: blake3::Hasher::new(),
        };
        for node in 0..topology.nodes {
            network.add_node(node);
        }
        for link in 0..network.links.all.len() {
            network.link_up(link);
        }
        network
    }

    fn add_node(&mut self, node: usize) {
        let secret = self.secret_of(node, "identity", 0);
        let id = identity(secret).node_id();
        self.by_id.insert(id, node as u32);
        self.nodes.push(Node {
            id,
            secret,
            core: None,
            life: 0,
            announces: self.places[node] != u32::MAX,
            disk: Disk::default(),
            soon: Vec::new(),
            wake_at: u64::MAX,
            clock_offset_ms: 0,
            villain: None,
        });
        self.start(node);
    }

    fn secret_of(&self, node: usize, purpose: &str, life: u32) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("mesh-sim network secrets");
        hasher.update(&self.seed.to_be_bytes());
        hasher.update(&(node as u64).to_be_bytes());
        hasher.update(&life.to_be_bytes()).update(purpose.as_bytes());
        *hasher.finalize().as_bytes()
    }

    #[allow(clippy::panic)] // a disk that the core itself wrote and cannot read is a bug of the core
    fn start(&mut self, node: usize) {
        let now = self.now_at(node);
        let config = CoreConfig {
            mode: MeshMode::Open,
            price_msat_per_unit: 0,
            network: BitcoinNetwork::Regtest,
            lightning_key: None,
            operator: None,
            route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
            announcing: Announcing {
                enabled: self.nodes[node].announces,
                ..Announcing::default()
            },
            free_bytes_per_second: FREE_BYTES_PER_SECOND,
            spending: Default::default(),
            account_secret: self.secret_of(node, "account", 0),
            seed: self.secret_of(node, "seed", self.nodes[node].life),
        };
        let signatures = self.signatures.clone();
        let state = &mut self.nodes[node];
        let mut core = Core::new(config, identity(state.secret), signatures, now);
        if let Err(reason) = core.restore(state.disk.read(), now) {
            panic!("node {node} cannot read what it wrote down: {reason}");
        }
        if !self.spec.feasibility {
            core.without_feasibility();
        }
        state.core = Some(core);
        self.obey_outputs(node);
    }

    /// A node's secret name, for villains who have one.
    pub fn identity(&self, node: usize) -> Identity {
        identity(self.nodes[node].secret)
    }

    /// The link between two nodes; none when they are no neighbours.
    fn link_between(&self, a: usize, b: usize) -> Option<usize> {
        self.links.between(a, b).map(|link| link as usize)
    }

    fn link_up(&mut self, link: usize) {
        let state = &self.links.all[link];
        let ends_run = state.ends.iter().all(|end| self.is_up(*end as usize));
        if state.up || state.cut || !ends_run {
            return;
        }
        let spread = u64::try_from(self.spec.spread.as_micros()).unwrap_or(u64::MAX);
        let after = self.spec.notice + Duration::from_micros(self.random.below(spread + 1));
        let state = &mut self.links.all[link];
        state.up = true;
        state.generation += 1;
        let generation = state.generation;
        self.links.version += 1;
        let link = link as u32;
        self.schedule(after, Happening::LinkUp { link, generation });
    }

    fn link_down(&mut self, link: usize) {
        let id = self.links.id(link);
        let state = &mut self.links.all[link];
        if std::mem::replace(&mut state.up, false) {
            let ends = state.ends;
            self.links.version += 1;
            for node in ends {
                let happening = Happening::LinkDown { node, link: id };
                self.schedule(self.spec.notice, happening);
            }
        }
    }

    /// Breaks a link for good; both ends notice a moment later, and what is under way on it is lost. False when the two
    /// are no neighbours.
    pub fn cut(&mut self, a: usize, b: usize) -> bool {
        let Some(link) = self.link_between(a, b) else {
            return false;
        };
        self.links.all[link].cut = true;
        self.link_down(link);
        true
    }

    /// Mends a link. False when the two are no neighbours.
    pub fn heal(&mut self, a: usize, b: usize) -> bool {
        let Some(link) = self.link_between(a, b) else {
            return false;
        };
        self.heal_link(link);
        true
    }

    pub(super) fn heal_link(&mut self, link: usize) {
        self.links.all[link].cut = false;
        self.link_up(link);
    }

    /// Mends all cut links.
    pub fn heal_all(&mut self) {
        for link in 0..self.links.all.len() {
            self.heal_link(link);
        }
    }

    /// Breaks a link for a while, unless it is cut anyway.
    pub(super) fn break_link(&mut self, link: u32, down_ms: u32) {
        let state = &mut self.links.all[link as usize];
        if !std::mem::replace(&mut state.cut, true) {
            self.link_down(link as usize);
            let down = Duration::from_millis(u64::from(down_ms));
            self.schedule(down, Happening::LinkHeals { link });
        }
    }

    /// Kills a node as kill -9 does: it keeps what it wrote down.
    pub fn kill(&mut self, node: usize) {
        self.keep_what_was_said(node);
        let state = &mut self.nodes[node];
        state.core = None;
        state.life += 1;
        state.soon.clear();
        state.wake_at = u64::MAX;
        self.watch.forget(node);
        self.traffic_lost_node(node);
        for place in 0..self.links.of_node[node].len() {
            self.link_down(self.links.of_node[node][place].1 as usize);
        }
    }

    /// Starts a killed node from what it wrote down; its links come up again.
    pub fn restart(&mut self, node: usize) {
        if self.is_up(node) {
            return;
        }
        self.start(node);
        for place in 0..self.links.of_node[node].len() {
            self.link_up(self.links.of_node[node][place].1 as usize);
        }
    }

    /// Sets a node's wall clock ahead of what it showed, or back.
    pub fn jump_clock(&mut self, node: usize, milliseconds: i64) {
        self.nodes[node].clock_offset_ms += milliseconds;
    }

    /// What links do to frames from now on.
    pub fn set_faults(&mut self, faults: super::Faults) {
        self.links.faults = faults;
    }

    /// The live node with most live links; of equals the one with the smallest number.
    pub fn busiest(&self) -> Option<usize> {
        let degree = |node: &usize| {
            let links = self.links.of_node[*node].iter();
            links
                .filter(|(_, link)| self.links.all[*link as usize].up)
                .count()
        };
        let numbered = self.live().map(|node| (degree(&node), std::cmp::Reverse(node)));
        numbered.max().map(|(_, node)| node.0)
    }

    /// The wall clock of a node, as it shows it.
    pub fn clock(&self, node: usize) -> UnixMillis {
        self.now_at(node).unix
    }

    /// The moment virtual time began, on a wall clock that is right.
    pub fn epoch() -> (Instant, UnixMillis) {
        (Instant(0), EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Faults, Generator};
    use mesh_core::event::{Answer, Command, CommandId};
    use mesh_core::limits::{DISCOVERY_TIMEOUT, MAX_HOPS};

    fn network(generator: Generator, seed: u64) -> Network {
        let topology = generator.make().unwrap();
        let mut network = Network::new(&topology, &[0], NetworkSpec::default(), seed);
        network.run_for(Duration::from_millis(200));
        network
    }

    fn discover(network: &mut Network, from: usize, to: usize) -> CommandId {
        let command = Command::Discover {
            destination: network.id(to),
            max_hops: MAX_HOPS as u8,
            timeout: DISCOVERY_TIMEOUT,
            refresh: true,
        };
        network.command(from, command)
    }

    fn shortest(network: &mut Network, from: usize, to: usize) -> Option<usize> {
        let id = discover(network, from, to);
        network.run_for(Duration::from_secs(31));
        match network.take_answer(id)? {
            Ok(Answer::Routes(routes)) => routes.iter().map(|route| route.path.len() - 1).min(),
            _ => None,
        }
    }

    #[test]
    fn real_cores_find_each_other_over_made_up_links() {
        let mut network = network(Generator::Ring { nodes: 8 }, 1);
        assert_eq!(shortest(&mut network, 0, 3), Some(3));
        network.kill(1);
        assert_eq!(shortest(&mut network, 0, 3), Some(5));
        assert!(network.cut(7, 0) && !network.cut(7, 3));
        assert_eq!(shortest(&mut network, 0, 3), None);
        network.restart(1);
        assert_eq!(shortest(&mut network, 0, 3), Some(3));
        assert!(network.heal(7, 0));
    }

    #[test]
    fn same_seed_gives_the_same_frames_at_the_same_times_and_another_seed_others() {
        let run = |seed| {
            let generator = Generator::BarabasiAlbert {
                nodes: 60,
                m: 2,
                seed: 1,
            };
            let mut network = network(generator, seed);
            network.set_faults(Faults {
                jitter_us: 30_000,
                loss_ppm: 20_000,
                stall_ppm: 20_000,
                reorder_ppm: 20_000,
                duplicate_ppm: 20_000,
            });
            for node in 1..10 {
                discover(&mut network, 0, node);
            }
            network.run_for(Duration::from_secs(2));
            network.kill(network.busiest().unwrap());
            network.run_for(Duration::from_secs(2));
            assert!(network.totals().frames > 1000, "{:?}", network.totals());
            (network.event_hash(), network.totals())
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).0, run(2).0);
    }

    #[test]
    fn wall_clock_jumps_for_one_node_alone() {
        let mut network = network(Generator::Line { nodes: 2 }, 1);
        network.jump_clock(1, -3_600_000);
        assert_eq!(network.clock(0) - network.clock(1), Duration::from_secs(3600));
    }
}
