//! Two nodes, an open session from one to the other, and the ways to the first one's API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blvm_mesh::api::{CallerApi, Client, MeshModuleApi};
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::socket::SocketServer;
use blvm_mesh::wallet::none::NoWallet;
use bytes::Bytes;
use mesh_api::socket::{Arrivals, SocketCaller};
use mesh_api::{
    MeshClient, ModuleCaller, OpenSessionRequest, OpenSessionResponse, PaymentProof, QuoteRouteRequest,
    QuoteRouteResponse, RegisterProtocolRequest, SendPacketRequest,
};
use mesh_core::event::{Answer, Command, Delivery};
use mesh_core::identity::Identity;
use mesh_core::keys::SessionId;
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::ModuleName;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::EndpointConfig;
use tempfile::TempDir;
use tokio::sync::{Mutex, Notify, mpsc};

pub(crate) const PAYLOAD: [u8; 1024] = [7; 1024];
pub(crate) const PROTOCOL: &str = "bench";
pub(crate) const TTL: Duration = Duration::from_secs(30);

/// The protocol whose packets go to a handler over the socket.
const HANDLED: &str = "handled";

const PATIENCE: Duration = Duration::from_secs(20);

/// How a packet gets to the node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Node,
    InProcess,
    Socket,
}

pub(crate) const WAYS: [Way; 3] = [Way::Node, Way::InProcess, Way::Socket];

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::InProcess => "in process",
            Self::Socket => "socket",
        }
    }
}

#[derive(Default)]
struct Arrived {
    packets: AtomicU64,
    more: Notify,
}

pub(crate) struct Stage {
    pub(crate) from: RunningNode,
    pub(crate) to: RunningNode,
    pub(crate) session: SessionId,
    pub(crate) in_process: MeshClient<CallerApi>,
    pub(crate) socket: MeshClient<SocketCaller>,
    arrived: Arc<Arrived>,
    handler: Mutex<Arrivals>,
    _servers: (SocketServer, SocketServer),
    _directories: (TempDir, TempDir),
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let (from, from_directory) = start_node(1).await;
        let (to, to_directory) = start_node(2).await;
        from.add_peer(to.listen_addr().unwrap(), to.handle().node_id())
            .unwrap();
        linked(&from).await;
        let client = Client::over_socket(ModuleName::new("bench").unwrap());
        let (api, server, socket) = serve(&from, &from_directory).await;
        let in_process = MeshClient::new(api.for_client(client));
        let socket = MeshClient::new(socket);
        // The same client by either way, so the session is known to both.
        let session = open(&in_process, &to).await;

        let arrived = Arc::new(Arrived::default());
        tokio::spawn(count(
            to.handle().deliveries(Some(PROTOCOL.to_owned())),
            arrived.clone(),
        ));
        let (_, other_server, _) = serve(&to, &to_directory).await;
        let path = to_directory.path().join("api.sock");
        let (handler, arrivals) = SocketCaller::connect_for_deliveries(path, "bench").await.unwrap();
        let request = RegisterProtocolRequest {
            protocol_id: HANDLED.to_owned(),
            handler_method: "on".to_owned(),
        };
        let registered = MeshClient::new(handler).register_protocol_handler(request).await;
        assert!(registered.unwrap().success);
        Self {
            from,
            to,
            session,
            in_process,
            socket,
            arrived,
            handler: Mutex::new(arrivals),
            _servers: (server, other_server),
            _directories: (from_directory, to_directory),
        }
    }

    /// Sends one packet to the other node, and waits until it is on its way.
    pub(crate) async fn send(&self, way: Way) {
        match way {
            Way::Node => {
                let payload = Bytes::from_static(&PAYLOAD);
                let sent = self.from.handle().send(self.session, PROTOCOL, payload, TTL);
                sent.await.unwrap();
            }
            Way::InProcess => self.send_by(&self.in_process).await,
            Way::Socket => self.send_by(&self.socket).await,
        }
    }

    async fn send_by<C: ModuleCaller>(&self, client: &MeshClient<C>) {
        let sent = client.send_packet(SendPacketRequest {
            destination: self.to.handle().node_id().0,
            payload: PAYLOAD.to_vec(),
            payment_proof: Some(PaymentProof::Session {
                session_id: self.session.0,
            }),
            protocol_id: Some(PROTOCOL.to_owned()),
            ttl: Some(30),
        });
        let sent = sent.await.unwrap();
        assert!(sent.success, "{:?}", sent.error);
    }

    /// Sends one packet after the other to the handler at the other node.
    pub(crate) async fn to_handler(&self, packets: u64) {
        let mut arrivals = self.handler.lock().await;
        for _ in 0..packets {
            let payload = Bytes::from_static(&PAYLOAD);
            let sent = self.from.handle().send(self.session, HANDLED, payload, TTL);
            sent.await.unwrap();
            arrivals.next().await.unwrap().handled();
        }
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.packets.load(Ordering::Acquire)
    }

    /// Waits until so many packets have arrived since the start.
    pub(crate) async fn wait_for(&self, packets: u64) {
        let waiting = async {
            loop {
                let more = self.arrived.more.notified();
                if self.arrived() >= packets {
                    return;
                }
                more.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("no packet is lost");
    }
}

async fn count(mut arrivals: mpsc::Receiver<Delivery>, arrived: Arc<Arrived>) {
    let mut some = Vec::new();
    while arrivals.recv_many(&mut some, 64).await > 0 {
        arrived.packets.fetch_add(some.len() as u64, Ordering::Release);
        arrived.more.notify_waiters();
        some.clear();
    }
}

async fn serve(node: &RunningNode, directory: &TempDir) -> (Arc<MeshModuleApi>, SocketServer, SocketCaller) {
    let api = Arc::new(MeshModuleApi::new(node.handle().clone()));
    let path = directory.path().join("api.sock");
    let server = SocketServer::start(&path, api.clone()).unwrap();
    (api, server, SocketCaller::connect(path, "bench").await.unwrap())
}

async fn start_node(seed: u8) -> (RunningNode, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        identity: Identity::from_seed([seed; 32]).unwrap(),
        account_secret: [seed; 32],
        data_dir: directory.path().to_owned(),
        mode: MeshMode::Open,
        price_msat_per_unit: 0,
        network: BitcoinNetwork::Regtest,
        operator: None,
        announcing: Default::default(),
        route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
        // No quota that this benchmark could meet.
        free_bytes_per_second: 1 << 40,
        spending: Default::default(),
        links: EndpointConfig {
            listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..EndpointConfig::default()
        },
        peers: Vec::new(),
        wallet: Arc::new(NoWallet),
        treasury: None,
        fairness: Default::default(),
        chain: None,
    };
    (RunningNode::start(config).await.unwrap(), directory)
}

async fn linked(node: &RunningNode) {
    let linked = async {
        loop {
            match node.handle().command(Command::Status).await.unwrap() {
                Answer::Status(status) if !status.neighbours.is_empty() => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, linked)
        .await
        .expect("a link comes up");
}

async fn open<C: ModuleCaller>(client: &MeshClient<C>, to: &RunningNode) -> SessionId {
    let request = QuoteRouteRequest {
        destination: to.handle().node_id().0,
        max_hops: None,
        timeout_seconds: Some(10),
        units: 1 << 30,
        max_fee_msat: None,
        avoid: Vec::new(),
        method: Default::default(),
    };
    let quote_id = match client.quote_route(request).await.unwrap() {
        QuoteRouteResponse::Quoted(quote) => quote.quote_id,
        QuoteRouteResponse::Refused { reason } => panic!("{reason}"),
    };
    let request = OpenSessionRequest {
        quote_id,
        payment_proof: None,
        max_fee_msat: None,
    };
    match client.open_session(request).await.unwrap() {
        OpenSessionResponse::Opened(session) => SessionId(session.session_id),
        OpenSessionResponse::Refused { reason, .. } => panic!("{reason}"),
    }
}
