//! Making the world, breaking it and mending it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::core::{Announcing, Core, CoreConfig};
use mesh_core::event::{Input, LinkId, Record};
use mesh_core::fairness::policy::{FairnessPolicy, PolicyError};
use mesh_core::identity::Identity;
use mesh_core::verifier::BitcoinNetwork;

use crate::chain::Chain;
use crate::faults::{LinkSpec, Plan, Plans};
use crate::lightning::Lightning;
use crate::node::{CrashPoint, CrashWhen, NodeIndex, NodeSpec, SimNode};
use crate::random::Random;
use crate::simulation::{Direction, Happening, Simulation, Tamper};

/// How long after a link broke its ends notice.
const LINK_NOTICE: Duration = Duration::from_millis(50);

/// Making the world.
impl Simulation {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            now: 0,
            next_happening: 0,
            queue: BTreeMap::new(),
            nodes: Vec::new(),
            directions: BTreeMap::new(),
            cut: BTreeSet::new(),
            plans: Plans::default(),
            next_link: 0,
            signatures: Arc::default(),
            lightning: Lightning::new(),
            chain: Chain::default(),
            chain_policy: None,
            next_command: 0,
            answers: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            quoted: BTreeMap::new(),
            opening: BTreeMap::new(),
            sending: BTreeMap::new(),
            sent: BTreeMap::new(),
            sessions: BTreeMap::new(),
            own_sessions: BTreeSet::new(),
            carried_units: BTreeMap::new(),
            hash: blake3::Hasher::new(),
        }
    }

    /// Adds an honest node and starts it.
    pub fn add_node(&mut self, spec: NodeSpec) -> NodeIndex {
        let node = self.add(spec, false);
        self.start(node);
        node
    }

    /// Adds an honest node that says more of itself than its price.
    pub fn add_node_announcing(&mut self, spec: NodeSpec, announcing: Announcing) -> NodeIndex {
        let node = self.add(spec, false);
        self.nodes[node.0].announcing = announcing;
        self.start(node);
        node
    }

    /// What a node lets shares of its money grow to; forgotten with its next restart.
    ///
    /// # Errors
    /// Those of [`Core::set_fairness`].
    pub fn set_fairness(&mut self, node: NodeIndex, policy: FairnessPolicy) -> Result<(), PolicyError> {
        let core = self.nodes[node.0].core.as_mut();
        core.map_or(Ok(()), |core| core.set_fairness(policy, None))
    }

    /// Tells a node from which address it is connected with a neighbour.
    pub fn reach(&mut self, node: NodeIndex, peer: NodeIndex, address: IpAddr) {
        if let Some(link) = self.nodes[node.0].links.get(&peer).copied() {
            self.feed(node, Input::Reached { link, address });
        }
    }

    /// Adds a villain: a name and a wallet, but no core. It sends what it is told ([`Simulation::inject`]) and keeps
    /// what it receives ([`Simulation::inbox`]).
    pub fn add_villain(&mut self) -> NodeIndex {
        self.add(NodeSpec::paid(0), true)
    }

    /// Adds a node that was started from a copy of another's data directory: a second node with the same key, but with
    /// a wallet of its own.
    pub fn add_twin(&mut self, of: NodeIndex) -> NodeIndex {
        let twin = self.add(self.nodes[of.0].spec, false);
        let (original, copy) = (of.0, twin.0);
        self.nodes[copy].secret = self.nodes[original].secret;
        self.nodes[copy].id = self.nodes[original].id;
        self.nodes[copy].disk = self.nodes[original].disk.clone();
        self.start(twin);
        twin
    }

    pub(crate) fn add(&mut self, spec: NodeSpec, is_villain: bool) -> NodeIndex {
        let node = NodeIndex(self.nodes.len());
        let secret = self.secret_of(node, "identity", 0);
        let wallet = self.secret_of(node, "wallet", 0);
        let lightning_key = spec
            .payable
            .then(|| self.lightning.open_wallet(node, wallet, spec.balance_msat));
        self.nodes.push(SimNode {
            id: identity(secret).node_id(),
            secret,
            spec,
            lightning_key,
            core: None,
            is_villain,
            life: 0,
            clock_ahead_ms: 0,
            disk: Vec::new(),
            disk_at_start: 0,
            soon: Vec::new(),
            crash: None,
            wake: None,
            links: BTreeMap::new(),
            inbox: Vec::new(),
            dropped: Vec::new(),
            events: Vec::new(),
            deliveries: Vec::new(),
            announcing: Announcing::default(),
        });
        node
    }

    pub(crate) fn secret_of(&self, node: NodeIndex, purpose: &str, life: u64) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("mesh-sim secrets");
        hasher
            .update(&self.seed.to_be_bytes())
            .update(&(node.0 as u64).to_be_bytes());
        hasher.update(&life.to_be_bytes()).update(purpose.as_bytes());
        *hasher.finalize().as_bytes()
    }

    #[allow(clippy::panic)] // a disk that the core itself wrote and cannot read is a bug of the core
    pub(crate) fn start(&mut self, node: NodeIndex) {
        let now = self.now_at(node);
        let life = self.nodes[node.0].life;
        self.nodes[node.0].disk_at_start = self.nodes[node.0].disk.len();
        let (seed, account_secret) = (
            self.secret_of(node, "seed", life),
            self.secret_of(node, "account", 0),
        );
        let state = &mut self.nodes[node.0];
        let config = CoreConfig {
            mode: state.spec.mode,
            price_msat_per_unit: state.spec.price_msat,
            network: BitcoinNetwork::Regtest,
            lightning_key: state.lightning_key,
            operator: None,
            route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
            announcing: Announcing {
                enabled: state.spec.announces,
                ..state.announcing.clone()
            },
            free_bytes_per_second: state.spec.free_bytes_per_second,
            spending: state.spec.spending,
            account_secret,
            seed,
        };
        let mut core = Core::new(config, identity(state.secret), self.signatures.clone(), now);
        if let Some(policy) = &self.chain_policy {
            core.take_payments_on_chain(policy.clone());
        }
        if let Err(reason) = core.restore(state.disk.iter().cloned(), now) {
            panic!("node {} cannot read what it wrote down: {reason}", node.0);
        }
        state.core = Some(core);
        self.after_input(node);
    }

    /// Connects two nodes; both directions are alike until [`Simulation::link_mut`] changes one.
    pub fn connect(&mut self, a: NodeIndex, b: NodeIndex, spec: LinkSpec) {
        for direction in [(a, b), (b, a)] {
            let spec = spec.clone();
            self.directions
                .insert(direction, Direction { spec, tamper: None });
        }
        self.link_up(a, b);
    }

    /// One direction of a link, to change how it behaves from now on.
    ///
    /// # Panics
    /// When the two are not connected.
    pub fn link_mut(&mut self, from: NodeIndex, to: NodeIndex) -> &mut LinkSpec {
        &mut self.direction(from, to).spec
    }

    /// All directions of all links.
    pub fn directions(&self) -> Vec<(NodeIndex, NodeIndex)> {
        self.directions.keys().copied().collect()
    }

    /// Puts a villain on one direction of a link: a relay that alters, holds back or makes up what passes.
    ///
    /// # Panics
    /// When the two are not connected.
    pub fn tamper(&mut self, from: NodeIndex, to: NodeIndex, tamper: Tamper) {
        self.direction(from, to).tamper = Some(tamper);
    }

    #[allow(clippy::expect_used)] // documented at the callers
    pub(crate) fn direction(&mut self, from: NodeIndex, to: NodeIndex) -> &mut Direction {
        self.directions
            .get_mut(&(from, to))
            .expect("the nodes are connected")
    }

    /// Plans a fault.
    pub fn plan(&mut self, plan: Plan) {
        self.plans.add(plan);
    }

    /// Breaks a link; both ends notice a moment later. What is under way on it is lost.
    pub fn cut(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cut.extend([(a, b), (b, a)]);
        self.link_down(a, b);
    }

    /// Mends a link.
    pub fn heal(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
        self.link_up(a, b);
    }

    pub(crate) fn link_up(&mut self, a: NodeIndex, b: NodeIndex) {
        let connected = self.directions.contains_key(&(a, b)) && !self.cut.contains(&(a, b));
        if !connected || !self.nodes[a.0].is_up() || !self.nodes[b.0].is_up() {
            return;
        }
        self.link_down(a, b);
        self.next_link += 1;
        let link = LinkId(self.next_link);
        for (node, peer) in [(a, b), (b, a)] {
            self.nodes[node.0].links.insert(peer, link);
            self.schedule(LINK_NOTICE, Happening::LinkUp { node, peer, link });
        }
    }

    pub(crate) fn link_down(&mut self, a: NodeIndex, b: NodeIndex) {
        for (node, peer) in [(a, b), (b, a)] {
            if let Some(link) = self.nodes[node.0].links.remove(&peer) {
                self.schedule(LINK_NOTICE, Happening::LinkDown { node, link });
            }
        }
    }

    /// Kills a node as kill -9 does: it keeps what it wrote down.
    pub fn kill(&mut self, node: NodeIndex) {
        let state = &mut self.nodes[node.0];
        state.core = None;
        state.life += 1;
        state.crash = None;
        state.soon.clear();
        if let Some(wake) = state.wake.take() {
            self.queue.remove(&wake);
        }
        let peers: Vec<_> = self.nodes[node.0].links.keys().copied().collect();
        for peer in peers {
            self.link_down(node, peer);
        }
        self.unanswered.retain(|_, asked| *asked != node);
    }

    /// Starts a killed node from what it wrote down; its links come up again.
    pub fn restart(&mut self, node: NodeIndex) {
        self.start(node);
        let peers: Vec<_> = self
            .directions
            .keys()
            .filter(|(from, _)| *from == node)
            .map(|(_, to)| *to)
            .collect();
        for peer in peers {
            self.link_up(node, peer);
        }
    }

    /// Takes from a killed node everything that it wrote down; its key stays.
    ///
    /// # Panics
    /// When the node runs.
    pub fn lose_disk(&mut self, node: NodeIndex) {
        assert!(!self.is_up(node), "a running node holds its disk");
        self.nodes[node.0].disk.clear();
    }

    /// From now on a node's wall clock is ahead of everybody's by this much, or behind when negative, in milliseconds.
    /// Wallets keep the right time.
    pub fn set_clock(&mut self, node: NodeIndex, ahead_ms: i64) {
        self.nodes[node.0].clock_ahead_ms = ahead_ms;
    }

    /// Kills the node when it next writes down a record of this kind.
    pub fn crash_at(&mut self, node: NodeIndex, point: CrashPoint, when: impl Fn(&Record) -> bool + 'static) {
        let when: CrashWhen = Box::new(when);
        self.nodes[node.0].crash = Some((point, when));
    }
}

#[allow(clippy::expect_used)] // Ed25519 takes any 32 bytes as a seed
pub(crate) fn identity(secret: [u8; 32]) -> Identity {
    Identity::from_seed(secret).expect("any 32 bytes are a seed")
}
