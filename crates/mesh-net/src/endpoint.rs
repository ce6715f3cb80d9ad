//! A node's end of all its links: listener, diallers, link tasks, and the commands they obey.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_core::identity::{Identity, NodeId};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::accept::{self, Gate, Halves};
use crate::counters::Counters;
use crate::dial;
use crate::pump::Patience;
use crate::queue::{QueueLimits, SharedBudget};
use crate::registry::Registry;
use crate::tls::TlsIdentity;
use crate::{
    CloseReason, CounterSnapshot, DialError, EndpointConfig, LinkEvent, LinkId, LinkSender, NetError,
    Transport,
};

/// How long shutdown lets links report their end before it ends them without: the consumer may have stopped reading.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Connections the system may hold ready before we accept them.
const LISTEN_BACKLOG: i32 = 256;

/// What all tasks of an endpoint share.
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    /// Drawn at the start; tells neighbours that links from before are dead.
    pub(crate) instance: u64,
    pub(crate) config: EndpointConfig,
    pub(crate) tls: TlsIdentity,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) counters: Arc<Counters>,
    budget: Arc<SharedBudget>,
    registry: Mutex<Registry>,
    gate: Mutex<Gate>,
    halves: Mutex<Halves>,
    jitter: AtomicU64,
    /// Listener, diallers and handshakes: aborted at shutdown. `None` from then on.
    helpers: Mutex<Option<JoinSet<()>>>,
    /// Links: told to end at shutdown, then waited for.
    links: Mutex<Option<JoinSet<()>>>,
}

impl Shared {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    pub(crate) fn halves(&self) -> MutexGuard<'_, Halves> {
        lock(&self.halves)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        spawn_in(&self.helpers, task);
    }

    pub(crate) fn spawn_link(&self, task: impl Future<Output = ()> + Send + 'static) {
        spawn_in(&self.links, task);
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience {
            keepalive: self.config.keepalive_interval,
            idle: self.config.idle_timeout,
        }
    }

    /// Of a data queue and of a control queue.
    pub(crate) fn queue_limits(&self) -> (QueueLimits, QueueLimits) {
        let batches = self.config.queue_batches;
        let shared = Some(self.budget.clone());
        (
            QueueLimits {
                bytes: self.config.data_queue_bytes,
                batches,
                shared,
            },
            QueueLimits {
                bytes: self.config.control_queue_bytes,
                batches,
                shared: None,
            },
        )
    }

    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], NetError> {
        random()
    }

    /// Between half of `pause` and all of it.
    pub(crate) fn jittered(&self, pause: Duration) -> Duration {
        let step = self.jitter.fetch_add(SPLITMIX_STEP, Ordering::Relaxed);
        let half = pause / 2;
        half + half.mul_f64(f64::from(splitmix(step) as u32) / f64::from(u32::MAX))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The states behind these locks are consistent between any two statements that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a task and clears away those that are done; `None` once the set was closed.
fn spawn_in(
    set: &Mutex<Option<JoinSet<()>>>,
    task: impl Future<Output = ()> + Send + 'static,
) -> Option<AbortHandle> {
    let mut set = lock(set);
    let set = set.as_mut()?;
    while set.try_join_next().is_some() {}
    Some(set.spawn(task))
}

/// The increment of SplitMix64 (Steele, Lea, Flood 2014).
const SPLITMIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function: enough to spread retries, never used for secrets.
fn splitmix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn random<const N: usize>() -> Result<[u8; N], NetError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NetError::NoRandomness)?;
    Ok(bytes)
}

/// Links over TLS and TCP. Dropping it ends everything at once; [`Endpoint::shutdown`] lets links say goodbye.
pub struct Endpoint {
    shared: Arc<Shared>,
    local_addr: Option<SocketAddr>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("me", &self.shared.me)
            .field("local_addr", &self.local_addr)
            .finish()
    }
}

impl Endpoint {
    /// Starts listening, if configured, and is ready to dial. All that happens is told to `events`, whose length
    /// bounds the memory held for a slow consumer ([`RECOMMENDED_EVENT_QUEUE`](crate::RECOMMENDED_EVENT_QUEUE)).
    /// Must be called within a tokio runtime.
    pub fn bind(
        config: EndpointConfig,
        identity: &Identity,
        events: mpsc::Sender<LinkEvent>,
    ) -> Result<Self, NetError> {
        check(&config)?;
        let listener = config.listen_addr.map(listen_on).transpose()?;
        let local_addr = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let me = identity.node_id();
        let jitter = match config.jitter_seed {
            Some(seed) => seed,
            None => u64::from_ne_bytes(random()?),
        };
        let shared = Arc::new(Shared {
            me,
            instance: u64::from_ne_bytes(random()?),
            tls: TlsIdentity::new(identity)?,
            events,
            counters: Arc::default(),
            budget: Arc::new(SharedBudget::new(config.total_data_queue_bytes)),
            registry: Mutex::new(Registry::new(me, config.max_peers, config.allowed_peers.clone())),
            gate: Mutex::default(),
            halves: Mutex::default(),
            jitter: AtomicU64::new(jitter),
            helpers: Mutex::new(Some(JoinSet::new())),
            links: Mutex::new(Some(JoinSet::new())),
            config,
        });
        if let Some(listener) = listener {
            shared.spawn(accept::listen(shared.clone(), listener));
        }
        Ok(Self { shared, local_addr })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Why the latest attempt to dial `peer` failed; `None` if it did not, or the peer is not being dialled.
    pub fn dial_error(&self, peer: &NodeId) -> Option<DialError> {
        self.shared.registry().dial_error(peer)
    }

    /// How many links stand.
    pub fn live_links(&self) -> usize {
        self.shared.registry().live_links()
    }

    async fn shut_down(&self) {
        self.shared.registry().close();
        // Taken out before waiting: the lock must not be held over an await.
        let helpers = lock(&self.shared.helpers).take();
        if let Some(mut helpers) = helpers {
            helpers.shutdown().await;
        }
        let links = lock(&self.shared.links).take();
        if let Some(mut links) = links {
            let all = async { while links.join_next().await.is_some() {} };
            if timeout(SHUTDOWN_GRACE, all).await.is_err() {
                links.shutdown().await;
            }
        }
    }
}

impl Transport for Endpoint {
    fn node_id(&self) -> NodeId {
        self.shared.me
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    fn add_peer(&self, address: SocketAddr, peer: NodeId) -> Result<(), NetError> {
        let wanted = self.shared.registry().want(peer, address)?;
        let Some(linked) = wanted else { return Ok(()) };
        let task = dial::keep_linked(self.shared.clone(), peer, linked);
        let task = spawn_in(&self.shared.helpers, task).ok_or(NetError::ShutDown)?;
        self.shared.registry().set_dial_task(&peer, task);
        Ok(())
    }

    fn remove_peer(&self, peer: &NodeId) {
        self.shared.registry().unwant(peer);
    }

    fn sender(&self, link: LinkId) -> Option<LinkSender> {
        self.shared.registry().sender(link)
    }

    fn disconnect(&self, link: LinkId, reason: CloseReason) {
        let sender = self.shared.registry().sender(link);
        if let Some(sender) = sender {
            sender.close(reason);
        }
    }

    fn counters(&self) -> CounterSnapshot {
        self.shared.counters.snapshot()
    }

    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.shut_down())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // The tasks hold what holds them; without this they would keep each other alive.
        self.shared.registry().close();
        let helpers = lock(&self.shared.helpers).take();
        let links = lock(&self.shared.links).take();
        drop((helpers, links));
    }
}

fn check(config: &EndpointConfig) -> Result<(), NetError> {
    let zero = |name, is_zero: bool| {
        if is_zero {
            Err(NetError::ZeroSetting { name })
        } else {
            Ok(())
        }
    };
    zero("max_peers", config.max_peers == 0)?;
    zero("handshake_timeout", config.handshake_timeout.is_zero())?;
    zero("keepalive_interval", config.keepalive_interval.is_zero())?;
    zero("idle_timeout", config.idle_timeout.is_zero())?;
    zero("initial_backoff", config.initial_backoff.is_zero())?;
    zero("queue_batches", config.queue_batches == 0)
}

/// Listens, also when connections of an earlier run still linger on the port.
fn listen_on(address: SocketAddr) -> Result<TcpListener, NetError> {
    let listen = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|source| NetError::Listen { address, source })
}
