//! The carrier over the module protocol itself: two nodes as their modules see them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::identity::{Identity, NodeId};
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::{Channel, CloseReason, Endpoint, EndpointConfig, LinkEvent, LinkSender};
use node_ipc::testing::{FakeAnswer, FakeNode};
use node_ipc::{EventPayload, Incoming, NodeClient, Options, PeerInfo, Request, Response};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::carrier::{FRAMES_BURST, FRAMES_PER_SECOND, NodeCarrier, SUBSCRIPTIONS};

const PATIENCE: Duration = Duration::from_secs(30);

/// A node that has one peer and passes on to it, as a node does: whole, in order, as an event at the other end.
struct Node {
    id: NodeId,
    fake: Arc<FakeNode>,
    /// What its module gave it for the peer; taken by the connection.
    given: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    events: mpsc::Receiver<LinkEvent>,
    _endpoint: Endpoint,
    _host: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn start(seed: u8, peer: SocketAddr) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("node.sock");
    let fake = Arc::new(FakeNode::bind(&socket).unwrap());
    let (give, given) = mpsc::unbounded_channel();
    fake.answer_with(move |request| match request {
        Request::SendMeshPacketToPeer {
            peer_addr,
            packet_data,
        } => {
            if *peer_addr != peer.to_string() {
                return Some(FakeAnswer::Refuse("peer not found".into()));
            }
            give.send(packet_data.clone()).unwrap();
            Some(FakeAnswer::Reply(Response::Bool(true)))
        }
        Request::GetNetworkPeers => Some(FakeAnswer::Reply(Response::NetworkPeers(vec![PeerInfo {
            addr: peer.to_string(),
            transport_type: "tcp".into(),
            services: 0,
            version: 70_015,
            connected_since: 0,
        }]))),
        _ => None,
    });
    let identity = Identity::from_seed([seed; 32]).unwrap();
    let (sender, events) = mpsc::channel(64);
    let endpoint = Endpoint::bind(EndpointConfig::default(), &identity, sender).unwrap();
    let mut options = Options::new(&socket, "blvm-mesh", "blvm-mesh_0", "1");
    options.subscriptions = SUBSCRIPTIONS.to_vec();
    let (client, mut incoming) = NodeClient::start(options);
    let carrier = NodeCarrier::over_node(endpoint.carrier_port(), client, BitcoinNetwork::Regtest);
    let host = tokio::spawn(async move {
        while let Some(said) = incoming.recv().await {
            match said {
                Incoming::Connected { .. } => carrier.on_node_connected(),
                Incoming::Event(event) => carrier.on_event(&event),
                Incoming::Disconnected { .. } | Incoming::Invocation(_) => {}
            }
        }
    });
    Node {
        id: identity.node_id(),
        fake,
        given: Some(given),
        events,
        _endpoint: endpoint,
        _host: host,
        _folder: folder,
    }
}

impl Node {
    async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn up(&mut self) -> (NodeId, LinkSender) {
        match self.next().await {
            LinkEvent::Up { peer, sender, .. } => (peer, sender),
            other => panic!("expected Up, got {other:?}"),
        }
    }

    async fn down(&mut self) -> CloseReason {
        match self.next().await {
            LinkEvent::Down { reason, .. } => reason,
            other => panic!("expected Down, got {other:?}"),
        }
    }

    async fn hears(&mut self, packet: &'static str) {
        match self.next().await {
            LinkEvent::Frames { frames, channel, .. } => {
                assert_eq!((channel, frames), (Channel::Data, vec![packet.into()]));
            }
            other => panic!("expected {packet}, got {other:?}"),
        }
    }
}

/// The connection between the two nodes: what each is given becomes an event at the other.
fn connect(a: &mut Node, called_by_b: SocketAddr, b: &mut Node, called_by_a: SocketAddr) {
    let fakes = (a.fake.clone(), b.fake.clone());
    for (from, called, to) in [(a, called_by_b, fakes.1), (b, called_by_a, fakes.0)] {
        let mut given = from.given.take().unwrap();
        tokio::spawn(async move {
            while let Some(packet_data) = given.recv().await {
                let peer_addr = called.to_string();
                to.publish(EventPayload::MeshPacketReceived {
                    packet_data,
                    peer_addr,
                })
                .await;
            }
        });
    }
}

#[tokio::test]
async fn two_modules_are_linked_through_their_nodes_and_again_after_a_node_was_away() {
    let called_by_a = SocketAddr::from(([10, 0, 0, 2], 8333));
    let called_by_b = SocketAddr::from(([10, 0, 0, 1], 51_234));
    let (mut a, mut b) = (start(1, called_by_a), start(2, called_by_b));
    connect(&mut a, called_by_b, &mut b, called_by_a);

    let (to_b, to_a) = (a.up().await, b.up().await);
    assert_eq!((to_b.0, to_a.0), (b.id, a.id));
    to_b.1.try_send_data(vec!["there".into()]).unwrap();
    b.hears("there").await;
    to_a.1.try_send_data(vec!["and back".into()]).unwrap();
    a.hears("and back").await;

    a.fake.close_all();
    assert_eq!(a.down().await, CloseReason::CarrierGone);
    b.down().await;
    let (again, _) = (a.up().await, b.up().await);
    again.1.try_send_data(vec!["again".into()]).unwrap();
    b.hears("again").await;
    let limit = (FRAMES_PER_SECOND + FRAMES_BURST) as usize;
    assert!(
        a.fake.most_in_a_second() <= limit + 10,
        "the rest of the node's budget is others'"
    );
}
