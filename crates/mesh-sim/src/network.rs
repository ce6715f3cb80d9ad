//! Networks of thousands of real cores in virtual time, to prove routing.
//!
//! [`crate::Simulation`] is for money and sessions: few nodes, every output hashed. A [`Network`] is for routes: nodes and
//! links by number, a calendar queue, no wallets, and beside it judges that a real network has not: an [`oracle`] that
//! sees the whole graph, and a [`Watch`] that looks at every router after every input.
//!
//! # Contract
//!
//! A network is a pure function of its topology, its seed and what is done to it. [`Network::event_hash`] covers every
//! frame that arrived anywhere, with its time and its ends, in order: two runs that agree in it agreed in everything.
//!
//! Each core is driven as its contract says: one input, all outputs obeyed in their order, a timeout when it asked for
//! one. Nodes are in mode `open` and have no wallet. A killed node keeps what it wrote down and nothing else.

mod disk;
mod drive;
mod generators;
mod judge;
mod life;
mod links;
pub mod oracle;
mod play;
mod queue;
mod report;
pub mod scenario;
mod tables;
mod topology;
mod traffic;
mod villains;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use mesh_core::core::Core;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{CommandId, LinkId, Record, Ticket, WalletAnswer};
use mesh_core::identity::NodeId;
use mesh_core::routing::RoutingCounters;
use mesh_core::time::{Instant, Now, UnixMillis};

pub use generators::Generator;
pub use judge::{Gap, Judgement, PlaneJudgement, judge};
pub use links::{Faults, Latency};
pub use play::{Progress, play};
pub use report::{Check, PLANE_NAMES, PhaseReport, PlaneReport, Report, markdown};
pub use scenario::{Destinations, Scenario, ScenarioError};
pub use topology::{Edge, Topology, TopologyError, find_folder};
pub use traffic::TrafficReport;
pub use villains::VillainKind;
pub use watch::{Loop, Risen, Watch};

use crate::simulation::CommandOutcome;
use crate::verifier::MemoisingVerifier;
use disk::Disk;
use links::{Direction, Links};
use queue::Queue;
use traffic::Traffic;
use villains::Villain;

/// Virtual time starts here: some day in 2027, so that clocks look like real ones.
const EPOCH: UnixMillis = UnixMillis(1_800_000_000_000);

enum Happening {
    Frame {
        direction: Direction,
        generation: u32,
        frame: Bytes,
    },
    LinkUp {
        link: u32,
        generation: u32,
    },
    LinkDown {
        node: u32,
        link: LinkId,
    },
    Wake {
        node: u32,
    },
    Write {
        node: u32,
        life: u32,
    },
    Wallet {
        node: u32,
        life: u32,
        ticket: Ticket,
        answer: Box<WalletAnswer>,
    },
    PacketWanted {
        pair: u32,
    },
    TrafficGoesOn {
        pair: u32,
    },
    VillainActs {
        node: u32,
    },
    LinkBreaks {
        link: u32,
        down_ms: u32,
    },
    LinkHeals {
        link: u32,
    },
}

struct Node {
    id: NodeId,
    secret: [u8; 32],
    /// None while it is down.
    core: Option<Core>,
    /// Counts restarts.
    life: u32,
    /// Whether it announces itself as a destination.
    announces: bool,
    disk: Disk,
    /// What is to be written soon; a kill loses it.
    soon: Vec<Record>,
    /// The wake-up that counts: others for this node are stale.
    wake_at: u64,
    /// How far its wall clock is off, in milliseconds.
    clock_offset_ms: i64,
    villain: Option<Box<Villain>>,
}

/// What a network is made of, besides its topology and seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// How long frames take.
    pub latency: Latency,
    /// How long after a link broke or came back its ends notice.
    pub notice: Duration,
    /// Links that come up together are up within this of each other.
    pub spread: Duration,
    /// Whether routers keep to the feasibility condition.
    pub feasibility: bool,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            latency: Latency::default(),
            notice: Duration::from_millis(50),
            spread: Duration::from_millis(20),
            feasibility: true,
        }
    }
}

/// What a network has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Things that happened: frames that arrived, links that came and went, timers that went off.
    pub events: u64,
    /// Frames that arrived.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames lost on their way.
    pub lost: u64,
}

/// A network of routers.
pub struct Network {
    seed: u64,
    now: u64,
    spec: NetworkSpec,
    queue: Queue<Happening>,
    nodes: Vec<Node>,
    links: Links,
    by_id: HashMap<NodeId, u32, FixedState>,
    /// Where each destination stands in [`Watch::destinations`], by node.
    places: Vec<u32>,
    signatures: Arc<MemoisingVerifier>,
    watch: Watch,
    traffic: Option<Traffic>,
    said_by_the_dead: RoutingCounters,
    random: crate::random::Random,
    next_command: u64,
    answers: BTreeMap<CommandId, CommandOutcome>,
    dropped: BTreeMap<DropReason, u64>,
    totals: Totals,
    hash: blake3::Hasher,
}

/// Time.
impl Network {
    /// The moment it is.
    pub fn now(&self) -> Instant {
        Instant(self.now)
    }

    fn now_at(&self, node: usize) -> Now {
        let unix = EPOCH + Duration::from_micros(self.now);
        Now {
            instant: Instant(self.now),
            unix: UnixMillis(unix.0.saturating_add_signed(self.nodes[node].clock_offset_ms)),
        }
    }

    /// Lets everything happen until that much time has passed.
    pub fn run_for(&mut self, span: Duration) {
        self.run_to(Instant(self.now) + span);
    }

    /// Lets everything happen up to a moment.
    pub fn run_to(&mut self, end: Instant) {
        while self.queue.next_at().is_some_and(|at| at <= end.0) {
            self.step();
        }
        self.now = self.now.max(end.0);
    }

    /// Lets things happen until `done`, or until `limit` has passed; whether it is done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = (Instant(self.now) + limit).0;
        while !done(self) {
            if self.queue.next_at().is_none_or(|at| at > end) {
                self.now = end;
                return false;
            }
            self.step();
        }
        true
    }

    /// Lets the next thing happen; false when nothing is left.
    pub fn step(&mut self) -> bool {
        let Some((at, happening)) = self.queue.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        self.happen(happening);
        true
    }
}

/// What can be seen from outside.
impl Network {
    /// How many nodes there are, live or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node's id.
    pub fn id(&self, node: usize) -> NodeId {
        self.nodes[node].id
    }

    /// The node of this id.
    pub fn node(&self, id: &NodeId) -> Option<usize> {
        self.by_id.get(id).map(|node| *node as usize)
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].core.is_some()
    }

    /// A running node's core, to look at.
    pub fn core(&self, node: usize) -> Option<&Core> {
        self.nodes[node].core.as_ref()
    }

    /// The live nodes' numbers.
    pub fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|node| self.is_up(*node))
    }

    /// Links whose both ends run and that are not cut, as pairs of nodes.
    pub fn live_links(&self) -> impl Iterator<Item = (usize, usize)> {
        let up = self.links.all.iter().filter(|link| link.up);
        up.map(|link| (link.ends[0] as usize, link.ends[1] as usize))
    }

    /// What was watched.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What happened so far, in numbers.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What all nodes together refused so far, by reason.
    pub fn dropped(&self) -> &BTreeMap<DropReason, u64> {
        &self.dropped
    }

    /// What a command came to, once.
    pub fn take_answer(&mut self, id: CommandId) -> Option<CommandOutcome> {
        self.answers.remove(&id)
    }

    /// A hash over every frame that arrived so far, with its time and ends, in their order.
    pub fn event_hash(&self) -> [u8; 32] {
        *self.hash.finalize().as_bytes()
    }
}
