//! Links without sockets: the same senders, events and bounds, for running many nodes in one process.
//!
//! Nothing is encrypted and nothing fails by itself; a link ends when one side ends it, overflows its control queue,
//! leaves or stops reading events. With tokio's paused clock a whole network runs as fast as the processor allows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::identity::NodeId;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::counters::Counters;
use crate::queue::{QueueLimits, SharedBudget, Work};
use crate::{
    Carrier, Channel, CloseReason, CounterSnapshot, EndpointConfig, LinkEvent, LinkId, LinkSender, NetError,
    Transport,
};

/// Bytes moved in one event, like one read of a socket.
const TURN_BYTES: usize = 64 * 1024;

/// How long shutdown waits for links to report their end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A set of nodes that can reach each other.
#[derive(Clone)]
pub struct MemoryNetwork(Arc<Net>);

struct Net {
    /// Queue bounds, `max_peers` and the pause before another attempt are taken from it.
    config: EndpointConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, Node>,
    /// Pairs, lower id first, that have a task keeping them linked.
    kept: BTreeSet<(NodeId, NodeId)>,
}

struct Node {
    address: SocketAddr,
    events: mpsc::Sender<LinkEvent>,
    counters: Arc<Counters>,
    budget: Arc<SharedBudget>,
    wanted: BTreeSet<NodeId>,
    links: BTreeMap<LinkId, LinkSender>,
    live: watch::Sender<usize>,
}

/// One side of a link.
struct Side {
    events: mpsc::Sender<LinkEvent>,
    counters: Arc<Counters>,
    sender: LinkSender,
    peer_address: SocketAddr,
    dialled: bool,
}

impl MemoryNetwork {
    /// An empty network. Of `config` the queue bounds, `max_peers` and `initial_backoff` matter.
    pub fn new(config: EndpointConfig) -> Self {
        Self(Arc::new(Net {
            config,
            state: Mutex::default(),
        }))
    }

    /// Adds a node that neighbours see at `address`. A node of the same id that is still there is replaced: its links
    /// end as if it had crashed.
    pub fn join(&self, node: NodeId, address: SocketAddr, events: mpsc::Sender<LinkEvent>) -> MemoryEndpoint {
        let counters = Arc::<Counters>::default();
        let entry = Node {
            address,
            events,
            counters: counters.clone(),
            budget: Arc::new(SharedBudget::new(self.0.config.total_data_queue_bytes)),
            wanted: BTreeSet::new(),
            links: BTreeMap::new(),
            live: watch::Sender::new(0),
        };
        if let Some(crashed) = self.0.state().nodes.insert(node, entry) {
            crashed.close_links(CloseReason::Shutdown);
        }
        MemoryEndpoint {
            net: self.0.clone(),
            me: node,
            address,
            counters,
        }
    }
}

impl Node {
    fn close_links(&self, reason: CloseReason) {
        for sender in self.links.values() {
            sender.close(reason);
        }
    }
}

impl Net {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links `a` and `b` again and again for as long as one of them wants it.
    async fn keep_linked(self: Arc<Self>, a: NodeId, b: NodeId) {
        loop {
            let opened = {
                let mut state = self.state();
                if !state.wants(a, b) && !state.wants(b, a) {
                    state.kept.remove(&(a, b));
                    return;
                }
                state.open(a, b, &self.config)
            };
            if let Some((at_a, at_b)) = opened {
                serve(&at_a, &at_b).await;
                self.end(a, &at_a);
                self.end(b, &at_b);
            }
            sleep(self.config.initial_backoff).await;
        }
    }

    fn end(&self, node: NodeId, side: &Side) {
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&node) else {
            return;
        };
        if node.links.remove(&side.sender.link()).is_some() {
            node.live.send_modify(|live| *live -= 1);
        }
    }
}

impl State {
    fn wants(&self, who: NodeId, whom: NodeId) -> bool {
        self.nodes
            .get(&who)
            .is_some_and(|node| node.wanted.contains(&whom))
    }

    /// Makes a link if both are there and have room; otherwise counts why not.
    fn open(&mut self, a: NodeId, b: NodeId, config: &EndpointConfig) -> Option<(Side, Side)> {
        let a_dials = self.wants(a, b);
        let full = |node: &Node| node.links.len() >= config.max_peers;
        let refusal = match (self.nodes.get(&a), self.nodes.get(&b)) {
            (Some(at_a), Some(at_b)) if !full(at_a) && !full(at_b) => None,
            (Some(_), Some(_)) => Some(CloseReason::PeersFull),
            _ => Some(CloseReason::ConnectFailed),
        };
        if let Some(reason) = refusal {
            let dialler = if a_dials { a } else { b };
            if let Some(node) = self.nodes.get(&dialler) {
                node.counters.closed(reason);
            }
            return None;
        }
        let side_of_a = self.side(a, b, a_dials, config)?;
        let side_of_b = self.side(b, a, !a_dials, config)?;
        Some((side_of_a, side_of_b))
    }

    fn side(&mut self, me: NodeId, peer: NodeId, dialled: bool, config: &EndpointConfig) -> Option<Side> {
        let peer_address = self.nodes.get(&peer)?.address;
        let node = self.nodes.get_mut(&me)?;
        let batches = config.queue_batches;
        let data = QueueLimits {
            bytes: config.data_queue_bytes,
            batches,
            shared: Some(node.budget.clone()),
        };
        let control = QueueLimits {
            bytes: config.control_queue_bytes,
            batches,
            shared: None,
        };
        let sender = LinkSender::new(crate::next_link_id(), peer, data, control, node.counters.clone());
        node.links.insert(sender.link(), sender.clone());
        node.live.send_modify(|live| *live += 1);
        Some(Side {
            events: node.events.clone(),
            counters: node.counters.clone(),
            sender,
            peer_address,
            dialled,
        })
    }
}

/// `Up` on both sides, everything between, `Down` on both.
async fn serve(a: &Side, b: &Side) {
    tokio::join!(a.report_up(), b.report_up());
    let (reason_a, reason_b) = tokio::select! {
        biased;
        reason = carry(a, b, Channel::Control) => (reason, CloseReason::PeerClosed),
        reason = carry(b, a, Channel::Control) => (CloseReason::PeerClosed, reason),
        reason = carry(a, b, Channel::Data) => (reason, CloseReason::PeerClosed),
        reason = carry(b, a, Channel::Data) => (CloseReason::PeerClosed, reason),
    };
    tokio::join!(a.report_down(reason_a), b.report_down(reason_b));
}

impl Side {
    async fn report_up(&self) {
        let sender = self.sender.clone();
        let (link, peer, address) = (sender.link(), sender.peer(), self.peer_address);
        self.counters.links_up.fetch_add(1, Ordering::Relaxed);
        self.report(LinkEvent::Up {
            link,
            peer,
            address,
            dialled: self.dialled,
            carrier: Carrier::Direct,
            sender,
        })
        .await;
    }

    async fn report_down(&self, reason: CloseReason) {
        self.sender.close(reason);
        self.counters.closed(reason);
        let (link, peer) = (self.sender.link(), self.sender.peer());
        self.report(LinkEvent::Down { link, peer, reason }).await;
    }

    async fn report(&self, event: LinkEvent) {
        // A node whose events nobody reads is as good as gone; the link ends when it is used.
        let _ = self.events.send(event).await;
    }
}

/// Moves frames one way until the sending side's queue is closed or the receiving side stops reading.
async fn carry(from: &Side, to: &Side, channel: Channel) -> CloseReason {
    let queue = from.sender.queue(channel);
    let closed = || {
        poll_fn(
            |context| match queue.poll_work(context, &mut VecDeque::new(), 0) {
                Poll::Ready(Work::Close(reason)) => Poll::Ready(reason),
                _ => Poll::Pending,
            },
        )
    };
    loop {
        let mut frames = VecDeque::new();
        match poll_fn(|context| queue.poll_work(context, &mut frames, TURN_BYTES)).await {
            Work::Frames => {}
            Work::Poke => continue,
            Work::Close(reason) => return reason,
        }
        let frames = Vec::from(frames);
        let (count, bytes) = (frames.len(), frames.iter().map(Bytes::len).sum());
        from.counters.sent(channel).add(count, bytes);
        let event = LinkEvent::Frames {
            link: to.sender.link(),
            channel,
            frames,
        };
        tokio::select! {
            biased;
            sent = to.events.send(event) => match sent {
                Ok(()) => to.counters.received(channel).add(count, bytes),
                Err(_) => return CloseReason::PeerClosed,
            },
            reason = closed() => return reason,
        }
    }
}

/// One node of a [`MemoryNetwork`]. Dropping it is a crash: its links end.
pub struct MemoryEndpoint {
    net: Arc<Net>,
    me: NodeId,
    address: SocketAddr,
    counters: Arc<Counters>,
}

impl MemoryEndpoint {
    /// This node's entry, unless a later one of the same id took its place.
    fn with_node<T>(&self, act: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let mut state = self.net.state();
        let node = state.nodes.get_mut(&self.me)?;
        Arc::ptr_eq(&node.counters, &self.counters).then(|| act(node))
    }

    fn leave(&self) -> Option<watch::Receiver<usize>> {
        self.with_node(|node| {
            node.wanted.clear();
            node.close_links(CloseReason::Shutdown);
            node.live.subscribe()
        })
    }

    fn forget(&self) {
        let mut state = self.net.state();
        if state
            .nodes
            .get(&self.me)
            .is_some_and(|node| Arc::ptr_eq(&node.counters, &self.counters))
        {
            state.nodes.remove(&self.me);
        }
    }
}

impl Transport for MemoryEndpoint {
    fn node_id(&self) -> NodeId {
        self.me
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    /// The address is ignored: in memory the id is enough. Must be called within a tokio runtime.
    fn add_peer(&self, _address: SocketAddr, peer: NodeId) -> Result<(), NetError> {
        if peer == self.me {
            return Err(NetError::OwnId(peer));
        }
        self.with_node(|node| node.wanted.insert(peer))
            .ok_or(NetError::ShutDown)?;
        let (a, b) = (self.me.min(peer), self.me.max(peer));
        if self.net.state().kept.insert((a, b)) {
            tokio::spawn(self.net.clone().keep_linked(a, b));
        }
        Ok(())
    }

    fn remove_peer(&self, peer: &NodeId) {
        self.with_node(|node| node.wanted.remove(peer));
    }

    fn sender(&self, link: LinkId) -> Option<LinkSender> {
        self.with_node(|node| node.links.get(&link).cloned()).flatten()
    }

    fn disconnect(&self, link: LinkId, reason: CloseReason) {
        if let Some(sender) = self.sender(link) {
            sender.close(reason);
        }
    }

    fn counters(&self) -> CounterSnapshot {
        self.counters.snapshot()
    }

    fn shutdown(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let Some(mut live) = self.leave() {
                // Too late or node gone: either way nothing is left to wait for.
                let _ = timeout(SHUTDOWN_GRACE, live.wait_for(|live| *live == 0)).await;
            }
            self.forget();
        })
    }
}

impl Drop for MemoryEndpoint {
    fn drop(&mut self) {
        self.leave();
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TestNode {
        endpoint: MemoryEndpoint,
        events: mpsc::Receiver<LinkEvent>,
    }

    fn quick() -> EndpointConfig {
        EndpointConfig {
            initial_backoff: Duration::from_millis(1),
            ..EndpointConfig::default()
        }
    }

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    fn address(byte: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, byte], 8334))
    }

    fn join(network: &MemoryNetwork, byte: u8) -> TestNode {
        let (sender, events) = mpsc::channel(4);
        TestNode {
            endpoint: network.join(id(byte), address(byte), sender),
            events,
        }
    }

    async fn up(node: &mut TestNode) -> LinkSender {
        match node.events.recv().await.unwrap() {
            LinkEvent::Up { sender, .. } => sender,
            other => panic!("expected Up, got {other:?}"),
        }
    }

    async fn down(node: &mut TestNode) -> CloseReason {
        loop {
            if let LinkEvent::Down { reason, .. } = node.events.recv().await.unwrap() {
                return reason;
            }
        }
    }

    async fn pair(config: EndpointConfig) -> (TestNode, TestNode, LinkSender, LinkSender) {
        let network = MemoryNetwork::new(config);
        let (mut a, mut b) = (join(&network, 1), join(&network, 2));
        a.endpoint.add_peer(address(2), id(2)).unwrap();
        b.endpoint.add_peer(address(1), id(1)).unwrap();
        let (to_b, to_a) = (up(&mut a).await, up(&mut b).await);
        (a, b, to_b, to_a)
    }

    #[tokio::test]
    async fn frames_arrive_in_order_on_both_channels_over_the_one_link_of_a_pair() {
        let (_a, mut b, to_b, _) = pair(quick()).await;
        to_b.try_send_control(vec!["c1".into(), "c2".into()]).unwrap();
        to_b.try_send_data(vec!["d1".into()]).unwrap();
        to_b.try_send_data(vec!["d2".into()]).unwrap();
        let mut got = Vec::new();
        while got.len() < 4 {
            match b.events.recv().await.unwrap() {
                LinkEvent::Frames { frames, .. } => got.extend(frames),
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(got, ["c1", "c2", "d1", "d2"]);
        assert!(b.events.try_recv().is_err());
    }

    #[tokio::test]
    async fn link_that_was_closed_is_reported_with_its_reason_and_comes_back() {
        let (mut a, mut b, to_b, _) = pair(quick()).await;
        a.endpoint.disconnect(to_b.link(), CloseReason::Misbehaved);
        assert_eq!(down(&mut a).await, CloseReason::Misbehaved);
        assert_eq!(down(&mut b).await, CloseReason::PeerClosed);
        assert!(to_b.try_send_data(vec!["late".into()]).is_err());
        assert_ne!(up(&mut a).await.link(), to_b.link());
        assert_eq!(a.endpoint.counters().closed(CloseReason::Misbehaved), 1);
    }

    #[tokio::test]
    async fn consumer_that_stands_still_fills_the_queue_and_no_more() {
        let config = EndpointConfig {
            data_queue_bytes: 100_000,
            ..quick()
        };
        let (_a, _b, to_b, _) = pair(config).await;
        let mut refused = 0;
        for _ in 0..1_000 {
            refused += usize::from(
                to_b.try_send_data(vec![Bytes::from_static(&[0; 10_000])])
                    .is_err(),
            );
            tokio::task::yield_now().await;
        }
        assert!(refused > 900, "{refused}");
        assert_eq!(to_b.counters().snapshot().data_frames_dropped, refused as u64);
    }

    #[tokio::test]
    async fn node_that_leaves_ends_its_links_and_can_come_back() {
        let network = MemoryNetwork::new(quick());
        let (mut a, mut b) = (join(&network, 1), join(&network, 2));
        a.endpoint.add_peer(address(2), id(2)).unwrap();
        up(&mut a).await;
        up(&mut b).await;
        b.endpoint.shutdown().await;
        assert_eq!(down(&mut a).await, CloseReason::PeerClosed);
        drop(b);
        let mut b = join(&network, 2);
        up(&mut b).await;
        up(&mut a).await;
    }
}
