//! Nodes that pass messages to each other in memory, as well or badly as a test wants.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mesh_core::identity::{Identity, NodeId};
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::{
    CarrierPort, Channel, CloseReason, Endpoint, EndpointConfig, LinkEvent, LinkSender, Transport,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::carrier::{FramesError, MeshFrames, NodeCarrier};

/// In paused time this costs nothing; only a broken carrier ever waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(900);

/// What happens to a message on its way.
pub(super) type Fate = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send>;

/// The far end of one of the node's connections.
struct Line {
    /// What the far node calls this one.
    seen_as: String,
    far: Arc<Mutex<Option<Arc<NodeCarrier>>>>,
    fate: Option<Fate>,
}

/// One Bitcoin node, as its module sees it.
#[derive(Default)]
pub(super) struct FakeNode {
    lines: Mutex<BTreeMap<SocketAddr, Line>>,
    /// When messages were given to it, and to whom.
    pub(super) log: Mutex<Vec<(Instant, SocketAddr, Vec<u8>)>>,
    /// How long it takes over a request.
    pub(super) latency: Mutex<Duration>,
    /// Whether it takes messages for peers that it is not connected to.
    pub(super) swallows: AtomicBool,
}

#[async_trait]
impl MeshFrames for FakeNode {
    async fn send(&self, peer: SocketAddr, message: Vec<u8>) -> Result<(), FramesError> {
        let latency = *self.latency.lock().unwrap();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.log
            .lock()
            .unwrap()
            .push((Instant::now(), peer, message.clone()));
        let mut lines = self.lines.lock().unwrap();
        if !lines.contains_key(&peer) && self.swallows.load(Ordering::Relaxed) {
            return Ok(());
        }
        let line = lines
            .get_mut(&peer)
            .ok_or_else(|| FramesError("peer not found".into()))?;
        let messages = match &mut line.fate {
            Some(fate) => fate(&message),
            None => vec![message],
        };
        if let Some(far) = &*line.far.lock().unwrap() {
            for message in messages {
                far.on_packet(&line.seen_as, &message);
            }
        }
        Ok(())
    }

    async fn peers(&self) -> Result<Vec<SocketAddr>, FramesError> {
        Ok(self.lines.lock().unwrap().keys().copied().collect())
    }
}

/// A mesh node on a Bitcoin node.
pub(super) struct Mesh {
    pub(super) id: NodeId,
    pub(super) endpoint: Endpoint,
    pub(super) events: mpsc::Receiver<LinkEvent>,
    pub(super) node: Arc<FakeNode>,
    pub(super) carrier: Arc<NodeCarrier>,
    slot: Arc<Mutex<Option<Arc<NodeCarrier>>>>,
}

impl Mesh {
    pub(super) fn start(seed: u8) -> Self {
        Self::start_with(seed, EndpointConfig::default(), Arc::default())
    }

    /// On a node that may have connections already.
    pub(super) fn start_with(seed: u8, config: EndpointConfig, node: Arc<FakeNode>) -> Self {
        let identity = Identity::from_seed([seed; 32]).unwrap();
        let (sender, events) = mpsc::channel(64);
        let endpoint = Endpoint::bind(config, &identity, sender).unwrap();
        let carrier = Arc::new(carrier(endpoint.carrier_port(), node.clone()));
        Self {
            id: identity.node_id(),
            endpoint,
            events,
            node,
            slot: Arc::new(Mutex::new(Some(carrier.clone()))),
            carrier,
        }
    }

    /// Ends this one and starts another on the same Bitcoin node, with its connections.
    pub(super) fn replace(self, seed: u8) -> Self {
        let (slot, node) = (self.slot.clone(), self.node.clone());
        slot.lock().unwrap().take();
        drop(self);
        let mut next = Self::start_with(seed, EndpointConfig::default(), node);
        *slot.lock().unwrap() = Some(next.carrier.clone());
        next.slot = slot;
        next
    }

    pub(super) async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    pub(super) async fn up(&mut self) -> (NodeId, LinkSender) {
        match self.next().await {
            LinkEvent::Up { peer, sender, .. } => (peer, sender),
            other => panic!("expected Up, got {other:?}"),
        }
    }

    pub(super) async fn down(&mut self) -> CloseReason {
        loop {
            match self.next().await {
                LinkEvent::Down { reason, .. } => return reason,
                LinkEvent::Frames { .. } => {}
                other => panic!("expected Down, got {other:?}"),
            }
        }
    }

    pub(super) async fn frames(&mut self, channel: Channel, count: usize) -> Vec<Bytes> {
        let mut got = Vec::new();
        while got.len() < count {
            match self.next().await {
                LinkEvent::Frames {
                    channel: on, frames, ..
                } if on == channel => got.extend(frames),
                other => panic!("expected {channel:?} frames, got {other:?}"),
            }
        }
        got
    }

    pub(super) fn closed(&self, reason: CloseReason) -> u64 {
        self.endpoint.counters().closed(reason)
    }

    pub(super) async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let waited = timeout(PATIENCE, async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(
            waited.await.is_ok(),
            "{what} never came: {:?} {:?}",
            self.carrier.counters(),
            self.endpoint.counters()
        );
    }

    /// Lets `fate` decide about what this one sends to `peer`.
    pub(super) fn spoil(&self, peer: SocketAddr, fate: Option<Fate>) {
        self.node.lines.lock().unwrap().get_mut(&peer).unwrap().fate = fate;
    }

    pub(super) fn disconnect_untold(&self, peer: SocketAddr) {
        self.node.lines.lock().unwrap().remove(&peer);
    }

    pub(super) fn disconnect(&self, peer: SocketAddr) {
        self.disconnect_untold(peer);
        self.carrier.on_peer_disconnected(&peer.to_string());
    }

    /// A peer of the node's that is no mesh node of ours: what it is sent can be read from the log.
    pub(super) fn connect_stranger(&self, port: u16) -> SocketAddr {
        let address = SocketAddr::from(([10, 6, 6, 6], port));
        let line = Line {
            seen_as: String::new(),
            far: Arc::default(),
            fate: None,
        };
        self.node.lines.lock().unwrap().insert(address, line);
        self.carrier.on_peer_connected(&address.to_string());
        address
    }
}

fn carrier(port: CarrierPort, node: Arc<FakeNode>) -> NodeCarrier {
    NodeCarrier::start(port, node, BitcoinNetwork::Regtest)
}

/// Connects the Bitcoin nodes of two, `from` having dialled; what each calls the other.
pub(super) fn connect(from: &Mesh, to: &Mesh) -> (SocketAddr, SocketAddr) {
    let (called, ephemeral) = connect_untold(from, to);
    from.carrier.on_peer_connected(&called.to_string());
    to.carrier.on_peer_connected(&ephemeral.to_string());
    (called, ephemeral)
}

/// The same, and the nodes say nothing of it.
pub(super) fn connect_untold(from: &Mesh, to: &Mesh) -> (SocketAddr, SocketAddr) {
    let [first, second] = [from, to].map(|mesh| mesh.id.0[0]);
    let called = SocketAddr::from(([10, 0, first, second], 8333));
    let ephemeral = SocketAddr::from(([10, 0, second, first], 51_234));
    let line = |seen_as: SocketAddr, far: &Mesh| Line {
        seen_as: seen_as.to_string(),
        far: far.slot.clone(),
        fate: None,
    };
    from.node
        .lines
        .lock()
        .unwrap()
        .insert(called, line(ephemeral, to));
    to.node
        .lines
        .lock()
        .unwrap()
        .insert(ephemeral, line(called, from));
    (called, ephemeral)
}

/// Passes everything, except that what `which` names by its number is treated by `how`.
pub(super) fn each(mut how: impl FnMut(u64, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> Option<Fate> {
    let mut number = 0;
    Some(Box::new(move |message| {
        number += 1;
        how(number, message.to_vec())
    }))
}

/// Swaps every pair of neighbouring messages, without holding the last one back for ever: a held one goes with the next.
pub(super) fn swapping() -> Option<Fate> {
    let mut held = VecDeque::new();
    each(move |number, message| {
        if number % 5 == 4 {
            held.push_back(message);
            return Vec::new();
        }
        std::iter::once(message).chain(held.drain(..)).collect()
    })
}
