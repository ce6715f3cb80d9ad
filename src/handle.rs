//! A running node, as the rest of the process talks to it.

mod reuse;

use std::iter::Peekable;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Buying, Command, Delivery, Event, Funding, QuotedSlice, Refusal, RouteInfo};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::{MAX_PACKETS_PER_COMMAND, MAX_PAYLOAD_BYTES};
use mesh_core::message::RequestId;
use mesh_core::routing::snapshot::RouteSnapshot;
use mesh_core::routing_policy::TrafficClass;
use mesh_net::{CounterSnapshot, Transport};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::store::StoreHealth;

pub(crate) use reuse::{OpenedRoute, Reusable};

/// Deliveries that wait for one reader. A payload is at most 256 KiB, so a reader that stands still costs 64 MiB.
const DELIVERY_QUEUE: usize = 256;

/// Units that [`NodeHandle::send_packet`] buys at once: a first slice is small, since a payer that is cheated loses one.
const FIRST_SLICE_UNITS: u64 = 256;

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
        let readers: Vec<&mpsc::Sender<Delivery>> = self
            .readers
            .iter()
            .filter(|(protocol, _)| reads(protocol))
            .map(|(_, reader)| reader)
            .collect();
        let mut taken = false;
        // Only a second reader costs a copy.
        if let Some((last, others)) = readers.split_last() {
            for reader in others {
                taken |= reader.try_send(delivery.clone()).is_ok();
            }
            taken |= last.try_send(delivery).is_ok();
        }
        if !taken {
            self.undelivered += 1;
        }
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
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) sessions: Arc<Mutex<Reusable>>,
    pub(crate) store: Arc<StoreHealth>,
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
    /// The most that all shares of a slice may cost, in msat; 0 pays nothing.
    pub max_total_msat: u64,
    /// The most that Lightning fees may cost per payment, in msat.
    pub max_fee_msat: u64,
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

    /// The routes as they were a few milliseconds ago at the most: looking one up waits for nobody. Who looks up many keeps
    /// the snapshot; it never changes.
    pub fn routes(&self) -> Arc<RouteSnapshot> {
        self.routes.load_full()
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

    /// Quotes of everybody on a route.
    pub async fn quote(
        &self,
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

    /// Sends one packet over an open session.
    pub async fn send(
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
    /// is woken once for many of them.
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
        while payloads.peek().is_some() {
            let command = Command::SendMany {
                session,
                protocol_id: protocol_id.to_owned(),
                payloads: next_command(&mut payloads),
                ttl,
            };
            let error = match self.command(command).await {
                Ok(Answer::SentMany { packet_ids, refused }) => {
                    sent.extend(packet_ids);
                    match refused {
                        None => continue,
                        Some(reason) => CommandError::Refused(Refusal::own(reason)),
                    }
                }
                Ok(_) => CommandError::Unexpected,
                Err(error) => error,
            };
            return Err(SendManyError { sent, error });
        }
        Ok(sent)
    }

    /// One call: finds a route, asks for quotes, pays within the limits, opens a session, sends. The next packet to the
    /// same destination goes over the same session as long as it holds credit and carries: when a link on its way breaks
    /// or nobody receipts its packets, the next one takes another known route, or one that is found then. Packets under
    /// way at that moment are lost.
    pub async fn send_packet(&self, request: SendRequest) -> Result<SentPacket, CommandError> {
        let key = (request.destination, request.class as u8);
        if let Some(known) = self.reusable(&key) {
            match self.send_over(&known, &request).await {
                Err(error) if !is_worn_out(&error) => return Err(error),
                Err(_) => lock(&self.sessions).remove(known.session),
                sent => return sent,
            }
        }
        self.close_ended().await;
        let opened = self.open_route(&request).await?;
        lock(&self.sessions).insert(key, opened.clone());
        self.send_over(&opened, &request).await
    }

    fn reusable(&self, key: &(NodeId, u8)) -> Option<OpenedRoute> {
        lock(&self.sessions).get(key)
    }

    async fn close_ended(&self) {
        let ended = lock(&self.sessions).take_to_close();
        for session in ended {
            // Refused when it was closed meanwhile, which is as well.
            if let Err(error) = self.command(Command::Close { session }).await {
                tracing::debug!(%session, %error, "not closed");
            }
        }
    }

    async fn send_over(
        &self,
        route: &OpenedRoute,
        request: &SendRequest,
    ) -> Result<SentPacket, CommandError> {
        let packet_id = self
            .send(
                route.session,
                &request.protocol_id,
                request.payload.clone(),
                request.ttl,
            )
            .await?;
        let OpenedRoute {
            session,
            path,
            total_msat,
            msat_per_unit,
        } = route.clone();
        Ok(SentPacket {
            packet_id,
            session,
            path,
            total_msat,
            msat_per_unit,
        })
    }

    /// Over a known route; when all of those turn out to be broken, over one that is found now.
    async fn open_route(&self, request: &SendRequest) -> Result<OpenedRoute, CommandError> {
        match self.open_one_of(false, request).await {
            Err(error) if error.reason() == Some(DropReason::NextHopGone) => {
                self.open_one_of(true, request).await
            }
            opened => opened,
        }
    }

    /// Tries the routes in turn, best first; the last refusal is the answer when none opens.
    async fn open_one_of(&self, refresh: bool, request: &SendRequest) -> Result<OpenedRoute, CommandError> {
        let routes = self
            .discover(request.destination, request.max_hops, request.timeout, refresh)
            .await?;
        let units = mesh_core::packet::units_of(request.payload.len()).max(FIRST_SLICE_UNITS);
        let mut refused = CommandError::Refused(Refusal::own(DropReason::NoRoute));
        for route in routes {
            match self.open_over(route, units, request).await {
                Ok(opened) => return Ok(opened),
                // Money may be on its way over this route: trying the next would pay twice.
                Err(error) if error.reason() == Some(DropReason::PaymentUnknown) => return Err(error),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    async fn open_over(
        &self,
        route: RouteInfo,
        units: u64,
        request: &SendRequest,
    ) -> Result<OpenedRoute, CommandError> {
        let slice = self
            .quote(
                route.path,
                request.class,
                units,
                Buying::WhereNeeded,
                request.timeout,
            )
            .await?;
        let funding = Funding::Wallet {
            proofs: Vec::new(),
            max_total_msat: request.max_total_msat,
            max_fee_msat: request.max_fee_msat,
            keep_funded: false,
        };
        let opened = self.open(slice.id, funding).await?;
        Ok(OpenedRoute {
            session: opened.session,
            path: opened.path,
            total_msat: slice.total_msat,
            msat_per_unit: slice.total_msat.div_ceil(slice.units.max(1)),
        })
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

/// Whether a new session would help.
fn is_worn_out(error: &CommandError) -> bool {
    let worn_out = [
        DropReason::UnknownSession,
        DropReason::CreditSpent,
        DropReason::Expired,
        DropReason::NextHopGone,
        DropReason::SessionSilent,
    ];
    error.reason().is_some_and(|reason| worn_out.contains(&reason))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave the value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
