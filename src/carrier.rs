//! Links over the Bitcoin node's own connections: the second carrier, for where there is no direct way.
//!
//! A node that is behind a wall may still be connected to another's Bitcoin node. Over that connection the node passes
//! `mesh` messages to and fro for its module, a few dozen small ones a second. This makes links of them:
//!
//! ```text
//! link (mesh-net: TLS 1.3, the same as over TCP)
//!   │ two streams of bytes                 pipe.rs
//! conversation: numbered frames, windows   conversation.rs, frame.rs
//!   │                                      peers.rs: who asks whom, and when
//! budget, one frame at a time              run.rs, budget.rs
//!   │ Bitcoin message                      envelope.rs
//! the node (MeshFrames)
//! ```
//!
//! Nothing here is believed: the node and whoever sits on its connections may read, drop, change, repeat and invent frames,
//! and gain no more than he gains on a TCP connection: he can end a link. Who the neighbour is, is proven by the
//! handshake inside.
//!
//! It is slow ([`FRAMES_PER_SECOND`], for all neighbours together) and off by default. A direct link takes a carried one's
//! place as soon as there is one. What a neighbour may make us hold is bounded: two windows of a stream and some early
//! frames for each of at most [`MAX_CONVERSATIONS`] conversations.

mod budget;
mod conversation;
mod counters;
mod envelope;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod inbox;
mod node;
mod peers;
mod pipe;
mod run;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::CarrierPort;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use conversation::{EARLY_PATIENCE, MAX_EARLY_FRAMES};
pub use counters::CarrierCounts;
pub use frame::{ASK_BYTES, CARRY_HEADER_BYTES, END_BYTES, MAGIC, MAX_CHUNK_BYTES, MAX_FRAME_BYTES, VERSION};
pub use node::SUBSCRIPTIONS;
pub use peers::{
    ANSWER_WITHIN, FIRST_ASK_AFTER, FIRST_PAUSE, LONGEST_PAUSE, MAX_CONVERSATIONS, MAX_PEERS, MAX_UNANSWERED,
};

use counters::{Counters, count};
use envelope::{ENVELOPE_BYTES, Envelope};
use inbox::{Heard, Inbox};

/// Frames a second to all neighbours together. The node takes 100 requests a second of a module, whatever they are, and
/// most of the rest of the program's must find room too.
pub const FRAMES_PER_SECOND: u32 = 40;

/// Frames that may go at once after a silence: a handshake's worth.
pub const FRAMES_BURST: u32 = 8;

/// Bytes of a stream that may be under way, not yet taken by the other side: what it must be ready to hold.
pub const WINDOW_BYTES: usize = 128 * 1024;

/// How long stopping waits for the last words to be sent; a node kills its module 200 ms after saying so.
const FAREWELL: Duration = Duration::from_millis(150);

/// The node did not take a frame, or did not say whom it is connected to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the node refused: {0}")]
pub struct FramesError(pub String);

/// What carries frames: the node, or a test.
#[async_trait]
pub trait MeshFrames: Send + Sync + 'static {
    /// Gives a message for `peer` to the node. It is handed over when this returns; calls are never concurrent, and their
    /// order is that on the wire.
    async fn send(&self, peer: SocketAddr, message: Vec<u8>) -> Result<(), FramesError>;

    /// Whom the node is connected to.
    async fn peers(&self) -> Result<Vec<SocketAddr>, FramesError>;
}

/// The running carrier. Dropping it ends its links without a word to the neighbours; [`NodeCarrier::stop`] tells them.
#[derive(Debug)]
pub struct NodeCarrier {
    shared: Arc<Shared>,
    /// `None` once it was stopped.
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the task and those who feed it have in common.
#[derive(Debug)]
struct Shared {
    inbox: Inbox,
    counters: Arc<Counters>,
    work: Arc<Notify>,
    envelope: Envelope,
}

impl NodeCarrier {
    /// Starts it; must be called within a tokio runtime. It ends by itself when the endpoint behind `port` is gone.
    pub fn start(port: CarrierPort, frames: Arc<dyn MeshFrames>, network: BitcoinNetwork) -> Self {
        let shared = Arc::new(Shared {
            inbox: Inbox::default(),
            counters: Arc::default(),
            work: Arc::new(Notify::new()),
            envelope: Envelope::of(network),
        });
        let task = tokio::spawn(run::run(shared.clone(), port, frames));
        Self {
            shared,
            task: Mutex::new(Some(task)),
        }
    }

    /// The node gained a peer.
    pub fn on_peer_connected(&self, peer: &str) {
        self.put_about(peer, Heard::Came);
    }

    /// The node lost a peer.
    pub fn on_peer_disconnected(&self, peer: &str) {
        self.put_about(peer, Heard::Went);
    }

    /// A mesh packet came from a peer of the node's. Never waits: what is too much is dropped and counted.
    pub fn on_packet(&self, peer: &str, packet: &[u8]) {
        if packet.len() > ENVELOPE_BYTES + MAX_FRAME_BYTES {
            count(&self.shared.counters.unreadable);
            return;
        }
        let frame = Bytes::copy_from_slice(self.shared.envelope.unwrap(packet));
        self.put_about(peer, |peer| Heard::Frame(peer, frame));
    }

    /// The connection to the node is new: whom it is connected to is asked anew, and links over it begin anew.
    pub fn on_node_connected(&self) {
        self.put(Heard::NodeBack);
    }

    /// What happened so far.
    pub fn counters(&self) -> CarrierCounts {
        self.shared.counters.snapshot()
    }

    /// After the endpoint has ended: tells the neighbours, as far as that takes no more than a moment.
    pub async fn stop(&self) {
        if let Some(mut task) = self.take_task()
            && timeout(FAREWELL, &mut task).await.is_err()
        {
            task.abort();
        }
    }

    fn take_task(&self) -> Option<JoinHandle<()>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Peers without an address (those over other transports) are none of ours.
    fn put_about(&self, peer: &str, heard: impl FnOnce(SocketAddr) -> Heard) {
        match address_of(peer) {
            Some(peer) => self.put(heard(peer)),
            None => count(&self.shared.counters.stray),
        }
    }

    fn put(&self, heard: Heard) {
        if !self.shared.inbox.put(heard) {
            self.shared.counters.flooded.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.work.notify_one();
    }
}

impl Drop for NodeCarrier {
    fn drop(&mut self) {
        if let Some(task) = self.take_task() {
            task.abort();
        }
    }
}

/// A peer as the node names it: `host:port`, or with the transport in front.
pub(crate) fn address_of(peer: &str) -> Option<SocketAddr> {
    let address: SocketAddr = peer.strip_prefix("tcp:").unwrap_or(peer).parse().ok()?;
    // What a node says of a peer whose address it does not know.
    (address.port() != 0).then_some(address)
}
