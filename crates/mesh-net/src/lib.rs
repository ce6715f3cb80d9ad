//! Links between neighbours.
//!
//! A **link** is what two nodes share when they talk directly: two TLS 1.3 connections over TCP, one for data and one
//! for control, so that a 256 KiB packet never delays a routing message. Both sides prove their node id by its
//! Ed25519 key, sent raw (RFC 7250); nobody is believed without a signature over the handshake.
//!
//! One consumer (the manager's loop) gets everything that happens over one bounded channel of [`LinkEvent`]s:
//!
//! * for each link exactly one [`LinkEvent::Up`], then its [`LinkEvent::Frames`], then exactly one
//!   [`LinkEvent::Down`]; of two links to the same neighbour the earlier one's `Down` comes before the later one's
//!   `Up`, so the consumer never sees two at once;
//! * a consumer that falls behind stops the sockets from being read, and TCP stops the neighbours: nothing piles up.
//!
//! What goes out is handed to a [`LinkSender`] in batches: one lock and at most one wake-up for a batch, no
//! allocation and no copy for a packet until TLS encrypts it.
//!
//! [`Endpoint`] is the real thing, [`memory::MemoryNetwork`] the same without sockets; both are a [`Transport`].

mod accept;
mod carried;
#[cfg(test)]
mod carried_tests;
mod config;
mod counters;
mod dial;
mod endpoint;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod link;
pub mod memory;
mod pump;
mod queue;
mod reason;
mod registry;
mod tls;
#[cfg(test)]
mod villains;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mesh_core::identity::NodeId;

pub use mesh_core::event::{Channel, LinkId};

pub use carried::{CarriedDial, CarriedPair, CarrierPort};
pub use config::{EndpointConfig, RECOMMENDED_EVENT_QUEUE};
pub use counters::{CounterSnapshot, Traffic};
pub use endpoint::Endpoint;
pub use error::{DialError, NetError};
pub use frame::{MAX_CONTROL_FRAME_BYTES, MAX_DATA_FRAME_BYTES};
pub use queue::{LinkSender, SendError};
pub use reason::CloseReason;
pub use wire::{ByteStream, CarriedStream, Carrier};

/// A handle never given out before in this process: a late command for a dead link can never hit its successor.
pub(crate) fn next_link_id() -> LinkId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    LinkId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a transport tells its consumer.
#[derive(Debug)]
pub enum LinkEvent {
    /// Both connections stand and the neighbour is who it says.
    Up {
        /// The new link.
        link: LinkId,
        /// The neighbour's proven id.
        peer: NodeId,
        /// Where it is connected from or was dialled at.
        address: SocketAddr,
        /// Whether this side dialled.
        dialled: bool,
        /// What it runs over.
        carrier: Carrier,
        /// The way to send on it.
        sender: LinkSender,
    },
    /// Frames that came in with one read of the socket, in order, none empty.
    ///
    /// They are slices of one shared buffer (64 KiB, or as long as one longer frame): whoever keeps a small frame
    /// for long copies it, else it keeps the whole buffer alive.
    Frames {
        /// The link they came over.
        link: LinkId,
        /// Which of its connections.
        channel: Channel,
        /// The bodies.
        frames: Vec<Bytes>,
    },
    /// The link is gone; what was queued on it is lost.
    Down {
        /// The link that ended.
        link: LinkId,
        /// The neighbour it led to.
        peer: NodeId,
        /// Why.
        reason: CloseReason,
    },
}

/// What carries links: TLS over TCP ([`Endpoint`]) or memory ([`memory::MemoryEndpoint`]).
pub trait Transport: Send + Sync {
    /// This node's own id.
    fn node_id(&self) -> NodeId;
    /// Where neighbours can reach this node, if it listens.
    fn local_addr(&self) -> Option<SocketAddr>;
    /// Keeps a link to `peer` at `address`: dials now, and again whenever there is none. Returns at once. A second
    /// call for the same peer replaces its address.
    fn add_peer(&self, address: SocketAddr, peer: NodeId) -> Result<(), NetError>;
    /// Stops dialling `peer`. A link that stands is left alone; see [`Transport::disconnect`].
    fn remove_peer(&self, peer: &NodeId);
    /// The way to send on a live link.
    fn sender(&self, link: LinkId) -> Option<LinkSender>;
    /// Ends a link; its `Down` carries `reason`. Unknown or dead links are ignored. A peer that was added is dialled
    /// again after its backoff.
    fn disconnect(&self, link: LinkId, reason: CloseReason);
    /// What happened so far, by name.
    fn counters(&self) -> CounterSnapshot;
    /// Ends all links and tasks within a bounded time.
    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
