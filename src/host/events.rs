//! What this module makes of the node's events.
//!
//! ```text
//! event ──► counted ──► decide (pure) ──► actions ──► chores, each once at a time (chores.rs)
//!                                              ├────► pauses that lift themselves (pauses.rs)
//!                                              ├────► whoever calls modules
//!                                              └────► the second carrier
//! ```
//! [`NodeEvents::on_event`] never waits, and a storm of events costs as much as its first and its last: what it asks for is
//! kept as one wish of each kind, not as a queue. `docs/EVENTS.md` says what is done about which event.

mod chores;
mod decide;
mod health;
mod pauses;
mod reload;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::event::{Answer, Command};
use mesh_core::pause::Pause;
use mesh_core::routing_policy::MeshMode;
use node_ipc::{Event, EventKind, EventPayload, NodeClient};
use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use reload::ReloadPeers;
pub use table::{TABLE, subscriptions};

use crate::config::{Config, ConfigError, LiveConfig};
use crate::handle::{NodeHandle, lock};
use crate::pricing::REPRICE_EVERY;
use chores::Chore;
use decide::{Action, decide};
use pauses::Pauses;

/// Blocks within which a transaction at the fee rate that prices follow is to be confirmed: an hour, as wallets' defaults are.
const REPRICE_TARGET_BLOCKS: u32 = 6;

/// Least time between two flushes: each is a commit to the disk.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Least time between two looks at the chain; the core bounds them too.
const RECHECK_EVERY: Duration = Duration::from_millis(200);

/// Least time between two reports of health: a handful of requests each.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Least time between two readings of the configuration.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Least time between two log lines because of events: any module can publish an event that is said.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The second carrier, as it hears of the node's peers. Nothing here may wait.
pub trait PeerFrames: Send + Sync {
    /// The node has a peer.
    fn came(&self, peer: &str);
    /// The node lost a peer.
    fn went(&self, peer: &str);
    /// A mesh packet came from a peer.
    fn packet(&self, peer: &str, packet: &[u8]);
    /// The connection to the node is new.
    fn node_is_back(&self);
}

/// Whoever calls modules, as it hears of them. Nothing here may wait.
pub trait ModuleLife: Send + Sync {
    /// A module is there, perhaps again.
    fn came(&self, name: &str);
}

/// What events are obeyed with.
pub struct Hands {
    /// The mesh node.
    pub node: NodeHandle,
    /// The Bitcoin node.
    pub client: NodeClient,
    /// What the Bitcoin node calls this module.
    pub own_name: String,
    /// The second carrier, if it runs.
    pub carrier: Option<Arc<dyn PeerFrames>>,
    /// Whoever calls modules.
    pub modules: Arc<dyn ModuleLife>,
    /// The configuration in force, which reloading changes.
    pub config: LiveConfig,
    /// Reads the configuration anew, from wherever it came.
    pub load: Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// Takes up changed neighbours.
    pub peers: Arc<dyn ReloadPeers>,
    /// Has the disk looked at.
    pub look_at_disk: Arc<Notify>,
}

/// See the [module](self). Dropping it ends what it has under way.
pub struct NodeEvents {
    own_name: String,
    carrier: Option<Arc<dyn PeerFrames>>,
    recheck: Chore,
    reprice: Chore,
    flush: Chore,
    health: Chore,
    reload: Chore,
    disk: Chore,
    pauses: Pauses,
    life: Arc<dyn ModuleLife>,
    said: Mutex<Option<tokio::time::Instant>>,
    counts: Arc<EventCounts>,
    _tasks: JoinSet<()>,
}

impl NodeEvents {
    /// Ready for events; must be called within a tokio runtime.
    pub fn start(hands: Hands) -> Self {
        let Hands {
            node,
            client,
            own_name,
            carrier,
            modules: life,
            config,
            load,
            peers,
            look_at_disk,
        } = hands;
        let mut tasks = JoinSet::new();
        let pauses = Pauses::default();
        tasks.spawn(pauses.clone().run(node.clone()));
        let commanded = |command: fn() -> Command| {
            let node = node.clone();
            move || obey(node.clone(), command())
        };
        let recheck = Chore::start(&mut tasks, RECHECK_EVERY, commanded(|| Command::RecheckChain));
        let flush = Chore::start(&mut tasks, FLUSH_EVERY, commanded(|| Command::Flush));
        let reprice = {
            let (node, client, config) = (node.clone(), client.clone(), config.clone());
            Chore::start(&mut tasks, REPRICE_EVERY, move || {
                reprice(node.clone(), client.clone(), config.clone())
            })
        };
        let health = {
            let (node, client) = (node.clone(), client.clone());
            Chore::start(&mut tasks, REPORT_EVERY, move || {
                let (node, client) = (node.clone(), client.clone());
                async move { health::report(&node, &client).await }
            })
        };
        let reload = {
            let (load, reprice) = (Arc::new(load), reprice.clone());
            Chore::start(&mut tasks, RELOAD_EVERY, move || {
                let (node, config, load, peers) = (node.clone(), config.clone(), load.clone(), peers.clone());
                let reprice = reprice.clone();
                async move {
                    reload::reload(&node, &config, &*load, peers.as_ref()).await;
                    reprice.ask();
                }
            })
        };
        Self {
            own_name,
            carrier,
            recheck,
            reprice,
            flush,
            health,
            reload,
            disk: Chore::of(look_at_disk),
            pauses,
            life,
            said: Mutex::default(),
            counts: Arc::default(),
            _tasks: tasks,
        }
    }

    /// Something happened at the node. Never waits.
    pub fn on_event(&self, event: &Event) {
        self.counts.count(event.kind);
        for action in decide(event, &self.own_name) {
            self.act(action, event);
        }
    }

    /// The connection to the node is new: a node that takes us in is not being stopped, and what it told meanwhile is lost.
    pub fn on_connected(&self) {
        self.pauses.resume(Pause::ShuttingDown);
        self.recheck.ask();
        self.reprice.ask();
        if let Some(carrier) = &self.carrier {
            carrier.node_is_back();
        }
    }

    /// How many events of each kind came.
    pub fn counts(&self) -> Arc<EventCounts> {
        self.counts.clone()
    }

    fn act(&self, action: Action, event: &Event) {
        match action {
            Action::RecheckChain => self.recheck.ask(),
            Action::Reprice => self.reprice.ask(),
            Action::Flush => self.flush.ask(),
            Action::LookAtDisk => self.disk.ask(),
            Action::ReportHealth => self.health.ask(),
            Action::Reload => self.reload.ask(),
            Action::Refuse(pause, at_most) => self.pauses.pause(pause, at_most),
            Action::Accept(pause) => self.pauses.resume(pause),
            Action::ModuleCame(name) => self.life.came(&name),
            Action::PeerCame(peer) => self.with_carrier(|carrier| carrier.came(&peer)),
            Action::PeerWent(peer) => self.with_carrier(|carrier| carrier.went(&peer)),
            Action::Carry => self.carry(event),
            Action::Say(what) => self.say(event.kind, &what),
        }
    }

    fn with_carrier(&self, tell: impl FnOnce(&dyn PeerFrames)) {
        if let Some(carrier) = &self.carrier {
            tell(carrier.as_ref());
        }
    }

    fn carry(&self, event: &Event) {
        if let Some(EventPayload::MeshPacketReceived {
            packet_data,
            peer_addr,
        }) = &event.payload
        {
            self.with_carrier(|carrier| carrier.packet(peer_addr, packet_data));
        }
    }

    /// At most once in [`SAY_EVERY`], and so that nobody writes lines of his own into the log.
    fn say(&self, kind: EventKind, what: &str) {
        let now = tokio::time::Instant::now();
        let mut said = lock(&self.said);
        if said.is_some_and(|last| now < last + SAY_EVERY) {
            return;
        }
        *said = Some(now);
        let what: String = what.chars().filter(|c| !c.is_control()).take(256).collect();
        tracing::warn!(event = kind.name(), "{what}");
    }
}

/// How many events of each kind came.
#[derive(Debug)]
pub struct EventCounts([AtomicU64; EventKind::ALL.len()]);

impl Default for EventCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl EventCounts {
    fn count(&self, kind: EventKind) {
        if let Some(count) = self.0.get(kind.number() as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The kinds of which any came, by name.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let counts = EventKind::ALL.iter().zip(&self.0);
        counts
            .map(|(kind, count)| (kind.name(), count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

async fn obey(node: NodeHandle, command: Command) {
    if let Err(error) = node.command(command).await {
        tracing::warn!(%error, "an event could not be obeyed");
    }
}

/// Asks the node itself for its fee rate: the event may be anybody's.
async fn reprice(node: NodeHandle, client: NodeClient, config: LiveConfig) {
    let (configured_msat, rule) = {
        let config = lock(&config);
        let has_price = config.mesh.mode == MeshMode::PaymentGated;
        let rule = config.host.pricing.filter(|_| has_price);
        (config.mesh.price_msat_per_unit, rule)
    };
    let Some(rule) = rule else { return };
    let rate = match client.fee_estimate(REPRICE_TARGET_BLOCKS).await {
        Ok(rate) => rate,
        Err(error) => return tracing::debug!(%error, "no fee rate: the price stays"),
    };
    let Ok(Answer::Status(status)) = node.command(Command::Status).await else {
        return;
    };
    if let Some(msat_per_unit) = rule.change(configured_msat, status.price_msat_per_unit, rate) {
        tracing::info!(rate, msat_per_unit, "the price follows the fee rate");
        obey(node, Command::SetPrice { msat_per_unit }).await;
    }
}
