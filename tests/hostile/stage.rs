//! The honest line with a victim in the middle, and the rogues around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::handle::SendRequest;
use blvm_mesh::node::RunningNode;
use blvm_mesh::wallet::none::NoWallet;
use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Channel, Delivery, Status};
use mesh_core::identity::{Identity, NodeId};
use mesh_core::message::{ControlMessage, DiscoveryMode, DiscoveryRequest};
use mesh_core::packet::{FrameKind, Preamble};
use mesh_core::routing_policy::{GovernanceKind, MeshMode, TrafficClass, encode_governance};
use mesh_core::time::UnixMillis;
use mesh_net::{CloseReason, Endpoint, EndpointConfig, LinkEvent, LinkSender, Transport};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::common::{PATIENCE, TestNode, eventually, node_config, open_request, wait_linked};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The honest line A – victim – C. The victim dials both, so that limits on who dials it never touch them.
pub(crate) struct Line {
    pub a: TestNode,
    pub victim: TestNode,
    pub c: TestNode,
    pub mode: MeshMode,
    pub arrivals: mpsc::Receiver<Delivery>,
    pub sent: u64,
}

impl Line {
    pub(crate) async fn start(mode: MeshMode, links: EndpointConfig) -> Self {
        let a = start(1, mode, honest_links()).await;
        let c = start(3, mode, honest_links()).await;
        let victim = start(2, mode, links).await;
        victim.connect(&a);
        victim.connect(&c);
        wait_linked(&[(&a, 1), (&victim, 2), (&c, 1)]).await;
        let arrivals = c.node.handle().deliveries(Some("test".to_owned()));
        let mut line = Self {
            a,
            victim,
            c,
            mode,
            arrivals,
            sent: 0,
        };
        line.honest_packet_crosses().await;
        line
    }

    pub(crate) fn request(&mut self) -> SendRequest {
        self.sent += 1;
        let number = self.sent.to_be_bytes();
        match self.mode {
            MeshMode::Open => open_request(self.c.id(), &number),
            _ => SendRequest {
                class: TrafficClass::Governance,
                ..open_request(
                    self.c.id(),
                    &encode_governance(GovernanceKind::Vote, &number).unwrap(),
                )
            },
        }
    }

    /// From A over the victim to C, over the session that stands.
    pub(crate) async fn honest_packet_crosses(&mut self) {
        let request = self.request();
        let sent = self.a.node.handle().send_packet(request.clone()).await.unwrap();
        assert_eq!(sent.path, [self.a.id(), self.victim.id(), self.c.id()]);
        let delivery = timeout(PATIENCE, self.arrivals.recv()).await.unwrap().unwrap();
        assert_eq!(
            (delivery.packet_id, delivery.payload),
            (sent.packet_id, request.payload)
        );
    }

    /// The same with everything before it: discovery, quotes, a session of its own.
    pub(crate) async fn honest_session_opens(&mut self) {
        let (handle, class) = (self.a.node.handle().clone(), self.request().class);
        let routes = handle.discover(self.c.id(), 10, PATIENCE, true).await.unwrap();
        let path = routes.into_iter().next().unwrap().path;
        let buying = mesh_core::event::Buying::Nowhere;
        let slice = handle.quote(path, class, 16, buying, PATIENCE).await.unwrap();
        let opened = handle
            .open(slice.id, mesh_core::event::Funding::Proofs(Vec::new()))
            .await
            .unwrap();
        let payload = self.request().payload;
        handle
            .send(opened.session, "test", payload.clone(), PATIENCE)
            .await
            .unwrap();
        let delivery = timeout(PATIENCE, self.arrivals.recv()).await.unwrap().unwrap();
        assert_eq!((delivery.session, delivery.payload), (opened.session, payload));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.victim.node.listen_addr().unwrap()
    }

    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        self.victim.node.handle().link_counters().closed(reason)
    }

    /// Waits until the victim closed `count` connections for `reason`.
    pub(crate) async fn wait_closed(&self, reason: CloseReason, count: u64) {
        eventually(reason.as_str(), async || {
            (self.closed(reason) >= count).then_some(())
        })
        .await;
    }

    pub(crate) async fn dropped(&self, reason: DropReason) -> u64 {
        count_of(&self.victim.status().await, reason)
    }

    pub(crate) async fn stop(self) {
        for node in [self.a, self.victim, self.c] {
            timeout(PATIENCE, node.node.stop()).await.expect("stops in time");
        }
    }
}

pub(crate) fn count_of(status: &Status, reason: DropReason) -> u64 {
    let found = status.dropped.iter().find(|(known, _)| *known == reason);
    found.map_or(0, |(_, count)| *count)
}

pub(crate) async fn start(seed: u8, mode: MeshMode, links: EndpointConfig) -> TestNode {
    let directory = tempfile::tempdir().unwrap();
    let mut config = node_config(seed, mode, Arc::new(NoWallet), &directory);
    config.links = links;
    let node = RunningNode::start(config).await.unwrap();
    TestNode { node, directory }
}

/// They give a sign of life often enough for the least patient victim.
pub(crate) fn honest_links() -> EndpointConfig {
    EndpointConfig {
        keepalive_interval: Duration::from_millis(250),
        ..victim_links()
    }
}

pub(crate) fn victim_links() -> EndpointConfig {
    EndpointConfig {
        listen_addr: Some(LOOPBACK),
        initial_backoff: Duration::from_millis(20),
        max_backoff: Duration::from_millis(100),
        ..EndpointConfig::default()
    }
}

/// A neighbour that has a key and a link, and sends whatever it likes.
pub(crate) struct Rogue {
    pub id: NodeId,
    pub endpoint: Endpoint,
    pub events: mpsc::Receiver<LinkEvent>,
}

impl Rogue {
    pub(crate) fn new(seed: u8, config: EndpointConfig) -> Self {
        let identity = Identity::from_seed([seed; 32]).unwrap();
        let (sender, events) = mpsc::channel(mesh_net::RECOMMENDED_EVENT_QUEUE);
        Self {
            id: identity.node_id(),
            endpoint: Endpoint::bind(config, &identity, sender).unwrap(),
            events,
        }
    }

    /// Links itself to the victim, once.
    pub(crate) async fn enter(&mut self, line: &Line) -> LinkSender {
        let victim = line.victim.id();
        self.endpoint.add_peer(line.address(), victim).unwrap();
        let sender = loop {
            if let LinkEvent::Up { sender, .. } = self.next().await {
                break sender;
            }
        };
        self.endpoint.remove_peer(&victim);
        sender
    }

    pub(crate) async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    /// The control messages that the victim sends next, at least one.
    pub(crate) async fn hear(&mut self) -> Vec<ControlMessage> {
        loop {
            if let LinkEvent::Frames {
                channel: Channel::Control,
                frames,
                ..
            } = self.next().await
            {
                let messages = frames
                    .iter()
                    .filter_map(|frame| ControlMessage::decode(frame).ok());
                let messages: Vec<_> = messages.collect();
                if !messages.is_empty() {
                    return messages;
                }
            }
        }
    }
}

pub(crate) fn send(sender: &LinkSender, channel: Channel, frames: Vec<Bytes>) -> bool {
    match channel {
        Channel::Data => sender.try_send_data(frames),
        Channel::Control => sender.try_send_control(frames),
    }
    .is_ok()
}

pub(crate) fn preamble(kind: FrameKind, hops: u8) -> Vec<u8> {
    let preamble = Preamble { kind, hops, index: 0 };
    preamble.to_bytes().to_vec()
}

/// A frame of this kind followed by `length` bytes that mean nothing.
pub(crate) fn frame(kind: FrameKind, hops: u8, length: usize) -> Vec<u8> {
    let noise = (0..length).map(|at| (at * 131 + 7) as u8);
    preamble(kind, hops).into_iter().chain(noise).collect()
}

pub(crate) fn altered(at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame(FrameKind::Data, 2, 100);
    frame[at] = byte;
    frame
}

pub(crate) fn discovery(rogue: &NodeId, destination: NodeId, nonce: u64) -> ControlMessage {
    let mut long_nonce = [0; 16];
    long_nonce[..8].copy_from_slice(&nonce.to_be_bytes());
    long_nonce[8..].copy_from_slice(&rogue.0[..8]);
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    ControlMessage::DiscoveryRequest(DiscoveryRequest {
        nonce: long_nonce,
        destination,
        max_hops: 10,
        deadline: UnixMillis(unix.as_millis() as u64 + 20_000),
        path: vec![*rogue],
        mode: DiscoveryMode::Ring { avoid: Vec::new() },
    })
}
