//! A running node, as the rest of the process talks to it.

mod one_call;
mod patience;
mod reuse;

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mesh_core::chain::PaymentMethod;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Buying, Command, Delivery, Event, Funding, QuotedSlice, Refusal, RouteInfo};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::{MAX_PACKETS_PER_COMMAND, MAX_PAYLOAD_BYTES};
use mesh_core::message::RequestId;
use mesh_core::packet::units_of_packet;
use mesh_core::routing::snapshot::RouteSnapshot;
use mesh_core::routing_policy::TrafficClass;
use mesh_core::spending::Caller;
use mesh_net::{Carrier, CarrierPort, CounterSnapshot, Transport};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::store::StoreHealth;

use patience::Patience;
use reuse::SessionKey;

pub(crate) use one_call::FIRST_SLICE_UNITS;
pub(crate) use reuse::{OpenedRoute, Reusable};

/// Deliveries that wait for one reader. A payload is at most 256 KiB, so a reader that stands still costs 64 MiB.
const DELIVERY_QUEUE: usize = 256;

/// Why a command came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The node, or another one, refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The node is stopping.
    #[error("the node is stopping; start it again")]
    Stopped,
    /// More commands wait than the node takes.
    #[error("the node has too many commands waiting; try again in a moment")]
    Busy,
    /// The node answered something else than was asked.
    #[error("the node's answer does not fit the command; please report this")]
    Unexpected,
}

impl CommandError {
    /// The reason, when it was a refusal.
    pub fn reason(&self) -> Option<DropReason> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason),
            _ => None,
        }
    }
}

/// Not all packets of [`NodeHandle::send_many`] are on their way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("packet {} was not sent: {error}", .sent.len())]
pub struct SendManyError {
    /// The names of those that are, in order.
    pub sent: Vec<[u8; 32]>,
    /// Why the next one is not.
    #[source]
    pub error: CommandError,
}

/// A command on its way into the loop.
pub(crate) struct CommandInbox {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Answer, Box<Refusal>>>,
}

/// Readers of deliveries.
#[derive(Default)]
pub(crate) struct Readers {
    readers: Vec<(Option<String>, mpsc::Sender<Delivery>)>,
    /// Who keeps what modules are to have.
    keeper: Option<mpsc::Sender<Delivery>>,
    handed_over: u64,
    undelivered: u64,
}

impl Readers {
    /// Hands a delivery to everybody who reads its protocol; a slow reader loses it, and it is counted.
    pub(crate) fn deliver(&mut self, delivery: Delivery) {
        self.readers.retain(|(_, reader)| !reader.is_closed());
        let reads = |protocol: &Option<String>| {
            protocol
                .as_ref()
                .is_none_or(|protocol| *protocol == delivery.protocol_id)
        };
        let of_protocol = self.readers.iter().filter(|(protocol, _)| reads(protocol));
        let mut readers: Vec<&mpsc::Sender<Delivery>> = of_protocol.map(|(_, reader)| reader).collect();
        let mut taken = false;
        // Only a second reader costs a copy.
        let last = self.keeper.as_ref().or_else(|| readers.pop());
        for reader in readers {
            taken |= reader.try_send(delivery.clone()).is_ok();
        }
        if let Some(last) = last
            && last.try_send(delivery).is_ok()
        {
            taken = true;
            self.handed_over += u64::from(self.keeper.is_some());
        }
        if !taken {
            self.undelivered += 1;
        }
    }

    /// Deliveries that were handed over to whoever keeps them for modules, if there still is somebody.
    pub(crate) fn handed_over(&self) -> u64 {
        let kept = self.keeper.as_ref().is_some_and(|keeper| !keeper.is_closed());
        if kept { self.handed_over } else { 0 }
    }
}

/// Says how many of the deliveries that were handed over to it are safe: on disk, taken by a module, or dropped and counted.
/// Receipts for the others wait.
#[derive(Debug)]
pub(crate) struct Safe {
    count: watch::Sender<u64>,
    /// Deliveries that were handed over to somebody else before.
    before: u64,
}

impl Safe {
    /// One that nobody waits for but a test.
    #[cfg(test)]
    pub(crate) fn for_tests() -> (Self, watch::Receiver<u64>) {
        let (count, heard) = watch::channel(0);
        (Self { count, before: 0 }, heard)
    }

    /// So many are, of those that were handed over to this one.
    pub(crate) fn are(&self, deliveries: u64) {
        let safe = self.before + deliveries;
        self.count
            .send_if_modified(|known| safe > std::mem::replace(known, safe.max(*known)));
    }
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle {
    pub(crate) node_id: NodeId,
    pub(crate) route_lifetime: Duration,
    pub(crate) commands: mpsc::Sender<CommandInbox>,
    pub(crate) readers: Arc<Mutex<Readers>>,
    pub(crate) routes: Arc<ArcSwap<RouteSnapshot>>,
    pub(crate) generations: watch::Receiver<u64>,
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) links: CarrierPort,
    pub(crate) sessions: Arc<Mutex<Reusable>>,
    pub(crate) store: Arc<StoreHealth>,
    pub(crate) safe: watch::Sender<u64>,
}

/// What [`NodeHandle::send_packet`] is to do.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// To whom.
    pub destination: NodeId,
    /// What, at most 256 KiB.
    pub payload: Bytes,
    /// For which protocol; may be empty.
    pub protocol_id: String,
    /// How long the packet may take.
    pub ttl: Duration,
    /// Longest route wanted.
    pub max_hops: u8,
    /// How long finding a route and quotes may take.
    pub timeout: Duration,
    /// What is carried.
    pub class: TrafficClass,
    /// The most that all shares of a slice may cost, in msat; 0 pays nothing. By auto-pay Lightning fees count too.
    pub max_total_msat: u64,
    /// The most that Lightning fees may cost per payment, in msat.
    pub max_fee_msat: u64,
    /// For whom the node pays by itself: the operator's caps bound it besides. None: the limits above alone do.
    pub auto_pay: Option<Caller>,
}

impl SendRequest {
    /// Whose session may serve it: credit that was bought for one caller is not spent for another.
    fn key(&self) -> SessionKey {
        (self.auto_pay.clone(), self.destination, self.class as u8)
    }

    fn units(&self) -> u64 {
        units_of_packet(&self.protocol_id, &self.payload)
    }
}

/// A packet on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentPacket {
    /// Its name on the wire.
    pub packet_id: [u8; 32],
    /// The session it went over.
    pub session: SessionId,
    /// The route, this node first.
    pub path: Vec<NodeId>,
    /// What the session's slice cost, in msat.
    pub total_msat: u64,
    /// What a unit of it cost, in msat, rounded up.
    pub msat_per_unit: u64,
}

impl NodeHandle {
    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// How long it keeps a discovered route at the most.
    pub fn route_lifetime(&self) -> Duration {
        self.route_lifetime
    }

    /// Gives the node a command and waits for its answer.
    pub async fn command(&self, command: Command) -> Result<Answer, CommandError> {
        let (reply, answer) = oneshot::channel();
        let inbox = CommandInbox { command, reply };
        self.commands.try_send(inbox).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopped,
        })?;
        answer
            .await
            .map_err(|_| CommandError::Stopped)?
            .map_err(CommandError::Refused)
    }

    /// Waits until the node has stopped.
    pub async fn stopped(&self) {
        self.commands.closed().await;
    }

    /// What arrives for one protocol (`Some("")`: for none), or all of it. A reader that falls 256 packets behind loses
    /// the newest.
    pub fn deliveries(&self, protocol: Option<String>) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(DELIVERY_QUEUE);
        lock(&self.readers).readers.push((protocol, sender));
        receiver
    }

    /// All that arrives, for the one who keeps it until modules take it, and to whom it is to be told what is safe. Whoever did
    /// so before gets nothing more.
    pub(crate) fn deliveries_to_keep(&self) -> (mpsc::Receiver<Delivery>, Safe) {
        let (sender, receiver) = mpsc::channel(DELIVERY_QUEUE);
        let mut readers = lock(&self.readers);
        readers.keeper = Some(sender);
        let (count, before) = (self.safe.clone(), readers.handed_over);
        (receiver, Safe { count, before })
    }

    /// The routes as they were a few milliseconds ago at the most: looking one up waits for nobody. Who looks up many keeps
    /// the snapshot; it never changes.
    pub fn routes(&self) -> Arc<RouteSnapshot> {
        self.routes.load_full()
    }

    /// Grows with every change of [`NodeHandle::routes`], by 1 or more, and never repeats, not even across restarts: who
    /// waits for it need not look again and again.
    pub fn route_generations(&self) -> watch::Receiver<u64> {
        self.generations.clone()
    }

    /// A reader of all deliveries had no room for one.
    pub(crate) fn count_undelivered(&self) {
        lock(&self.readers).undelivered += 1;
    }

    /// Deliveries that no reader took.
    pub fn undelivered(&self) -> u64 {
        lock(&self.readers).undelivered
    }

    /// What happens at the node from now on; a reader that falls behind is told how much it missed.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// What happened on its links, by name.
    pub fn link_counters(&self) -> CounterSnapshot {
        self.transport.counters()
    }

    /// What the link to a neighbour runs over; none when there is none.
    pub fn link_over(&self, neighbour: &NodeId) -> Option<Carrier> {
        self.links.link_to(neighbour)
    }

    /// Whether its disk takes what has to survive a crash.
    pub fn store_health(&self) -> &StoreHealth {
        &self.store
    }

    /// Routes to a node, best first: cheapest, those over routers of silent sessions later.
    pub async fn discover(
        &self,
        destination: NodeId,
        max_hops: u8,
        timeout: Duration,
        refresh: bool,
    ) -> Result<Vec<RouteInfo>, CommandError> {
        match self
            .command(Command::Discover {
                destination,
                max_hops,
                timeout,
                refresh,
            })
            .await?
        {
            Answer::Routes(routes) => Ok(routes),
            _ => Err(CommandError::Unexpected),
        }
    }

    /// Quotes of everybody on a route, to be paid over Lightning.
    pub async fn quote(
        &self,
        path: Vec<NodeId>,
        class: TrafficClass,
        units: u64,
        buying: Buying,
        timeout: Duration,
    ) -> Result<QuotedSlice, CommandError> {
        self.quote_by(PaymentMethod::Lightning, path, class, units, buying, timeout)
            .await
    }

    /// Quotes of everybody on a route, to be paid by `method`. On the chain the caller pays, and opens with
    /// [`Funding::Proofs`] when his payments are as deep as the quotes say: with these quotes while they hold, or with
    /// later ones that buy nowhere.
    pub async fn quote_by(
        &self,
        method: PaymentMethod,
        path: Vec<NodeId>,
        class: TrafficClass,
        units: u64,
        buying: Buying,
        timeout: Duration,
    ) -> Result<QuotedSlice, CommandError> {
        match self
            .command(Command::Quote {
                path,
                class,
                units,
                buying,
                method,
                timeout,
            })
            .await?
        {
            Answer::Quoted(slice) => Ok(*slice),
            _ => Err(CommandError::Unexpected),
        }
    }

    /// Opens a session over quoted hops.
    pub async fn open(
        &self,
        quotes: RequestId,
        funding: Funding,
    ) -> Result<mesh_core::event::OpenedSession, CommandError> {
        match self
            .command(Command::Open {
                quotes,
                funding,
                sign_as_source: true,
            })
            .await?
        {
            Answer::Opened(opened) => Ok(*opened),
            _ => Err(CommandError::Unexpected),
        }
    }

    /// Sends one packet over an open session; waits while the credit for it is being bought.
    pub async fn send(
        &self,
        session: SessionId,
        protocol_id: &str,
        payload: Bytes,
        ttl: Duration,
    ) -> Result<[u8; 32], CommandError> {
        let mut patience = Patience::new(session);
        loop {
            match self.send_now(session, protocol_id, payload.clone(), ttl).await {
                Err(error) if patience.is_worth_it(self, &error).await => {}
                sent => return sent,
            }
        }
    }

    async fn send_now(
        &self,
        session: SessionId,
        protocol_id: &str,
        payload: Bytes,
        ttl: Duration,
    ) -> Result<[u8; 32], CommandError> {
        let protocol_id = protocol_id.to_owned();
        match self
            .command(Command::Send {
                session,
                protocol_id,
                payload,
                ttl,
            })
            .await?
        {
            Answer::Sent { packet_id, .. } => Ok(packet_id),
            _ => Err(CommandError::Unexpected),
        }
    }

    /// Sends many packets over an open session, in their order: what a stream of packets is sent with, because the node
    /// is woken once for many of them. Waits while the credit for the next ones is being bought.
    ///
    /// # Errors
    /// At the first packet that is refused; those before it are on their way, those behind it were not tried.
    pub async fn send_many(
        &self,
        session: SessionId,
        protocol_id: &str,
        payloads: Vec<Bytes>,
        ttl: Duration,
    ) -> Result<Vec<[u8; 32]>, SendManyError> {
        let mut sent = Vec::with_capacity(payloads.len());
        let mut payloads = payloads.into_iter().peekable();
        let mut unsent: VecDeque<Bytes> = VecDeque::new();
        let mut patience = Patience::new(session);
        loop {
            if unsent.is_empty() {
                unsent.extend(next_command(&mut payloads));
            }
            if unsent.is_empty() {
                return Ok(sent);
            }
            let command = Command::SendMany {
                session,
                protocol_id: protocol_id.to_owned(),
                payloads: unsent.iter().cloned().collect(),
                ttl,
            };
            let error = match self.command(command).await {
                Ok(Answer::SentMany { packet_ids, refused }) => {
                    unsent.drain(..packet_ids.len().min(unsent.len()));
                    if !packet_ids.is_empty() {
                        patience.refresh();
                    }
                    sent.extend(packet_ids);
                    match refused {
                        None => continue,
                        Some(reason) => CommandError::Refused(Refusal::own(reason)),
                    }
                }
                Ok(_) => CommandError::Unexpected,
                Err(error) => error,
            };
            if !patience.is_worth_it(self, &error).await {
                return Err(SendManyError { sent, error });
            }
        }
    }
}

/// As many payloads as fit into one command, at least one.
fn next_command(payloads: &mut Peekable<impl Iterator<Item = Bytes>>) -> Vec<Bytes> {
    let mut bytes = 0usize;
    let mut batch = Vec::new();
    while batch.len() < MAX_PACKETS_PER_COMMAND {
        let room = MAX_PAYLOAD_BYTES.saturating_sub(bytes);
        let first = batch.is_empty();
        let Some(payload) = payloads.next_if(|payload| first || payload.len() <= room) else {
            break;
        };
        bytes += payload.len();
        batch.push(payload);
    }
    batch
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave the value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
