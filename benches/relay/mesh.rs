//! Complete nodes, and an open session from the first to the last.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::handle::NodeHandle;
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::wallet::Wallet;
use blvm_mesh::wallet::devnet::Devnet;
use blvm_mesh::wallet::none::NoWallet;
use bytes::Bytes;
use mesh_core::event::{Answer, Buying, Command, Delivery, Funding};
use mesh_core::identity::Identity;
use mesh_core::keys::SessionId;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::EndpointConfig;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::line::{Line, Load, Window};

/// Units in the one slice that is bought: more than all rounds send.
const UNITS: u64 = 4_000_000;

/// What each node charges, in msat per unit.
const PRICE_MSAT: u64 = 10;

/// Large enough to pay that slice to one payee over one channel.
const CHANNEL_SAT: u64 = 16_000_000;

const PATIENCE: Duration = Duration::from_secs(20);

/// Nodes in a row.
pub(crate) struct MeshLine {
    source: NodeHandle,
    session: SessionId,
    window: Window,
    nodes: Vec<(RunningNode, TempDir)>,
}

impl MeshLine {
    pub(crate) async fn start(hops: usize, mode: MeshMode) -> Self {
        let devnet = match mode {
            MeshMode::PaymentGated => Some(payer_joined_to_all(hops).await),
            _ => None,
        };
        let mut nodes = Vec::new();
        for node in 0..=hops {
            let wallet: Arc<dyn Wallet> = match &devnet {
                Some(devnet) => devnet.wallet(node).unwrap(),
                None => Arc::new(NoWallet),
            };
            nodes.push(start_node(node as u8 + 1, mode, wallet).await);
        }
        for pair in nodes.windows(2) {
            let [(node, _), (next, _)] = pair else {
                unreachable!("windows of two")
            };
            node.add_peer(next.listen_addr().unwrap(), next.handle().node_id())
                .unwrap();
        }
        for (place, (node, _)) in nodes.iter().enumerate() {
            let links = if place == 0 || place == hops { 1 } else { 2 };
            wait_linked(node.handle(), links).await;
        }
        let (source, destination) = (nodes[0].0.handle().clone(), nodes[hops].0.handle().clone());
        let class = if devnet.is_some() {
            TrafficClass::Paid
        } else {
            TrafficClass::Open
        };
        let session = open(&source, &destination, hops, class).await;
        if let Some(devnet) = devnet {
            devnet.shutdown().await;
        }
        let window = Window::new();
        // Registered before anything is sent, else the first messages find no reader.
        let arrivals = destination.deliveries(Some("bench".to_owned()));
        tokio::spawn(count(arrivals, window.clone()));
        Self {
            source,
            session,
            window,
            nodes,
        }
    }

    async fn send(&self, load: &Load) {
        let payload = Bytes::from(vec![7; load.bytes]);
        self.window.open(load.window);
        let mut left = load.messages;
        while left > 0 {
            let batch = left.min(load.batch);
            self.take(batch).await;
            let payloads = vec![payload.clone(); batch];
            self.source
                .send_many(self.session, "bench", payloads, Duration::from_secs(30))
                .await
                .unwrap();
            left -= batch;
        }
        self.take(load.window).await;
    }

    async fn take(&self, messages: usize) {
        if self.window.take(messages).await {
            return;
        }
        for (place, (node, _)) in self.nodes.iter().enumerate() {
            let counters = node.handle().link_counters();
            let Ok(Answer::Status(status)) = node.handle().command(Command::Status).await else {
                continue;
            };
            println!(
                "node {place}: refused {:?}, undelivered {}, not queued {}, sent {}, received {}",
                status.dropped,
                node.handle().undelivered(),
                counters.data_frames_dropped,
                counters.data_sent.frames,
                counters.data_received.frames,
            );
        }
        panic!("a message was lost");
    }
}

impl Line for MeshLine {
    fn carry<'a>(&'a mut self, load: &'a Load) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.send(load))
    }
}

async fn count(mut arrivals: mpsc::Receiver<Delivery>, window: Window) {
    let mut some = Vec::new();
    while arrivals.recv_many(&mut some, 64).await > 0 {
        window.arrived(some.len());
        some.clear();
    }
}

/// Wallet 0 pays; every other has a channel with it.
async fn payer_joined_to_all(payees: usize) -> Devnet {
    let edges: Vec<_> = (1..=payees).map(|payee| (0, payee)).collect();
    Devnet::mesh(payees + 1, &edges, CHANNEL_SAT, 7).await.unwrap()
}

async fn start_node(seed: u8, mode: MeshMode, wallet: Arc<dyn Wallet>) -> (RunningNode, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        identity: Identity::from_seed([seed; 32]).unwrap(),
        account_secret: [seed; 32],
        data_dir: directory.path().to_owned(),
        mode,
        price_msat_per_unit: PRICE_MSAT,
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
        wallet,
        treasury: None,
        fairness: Default::default(),
        chain: None,
    };
    (RunningNode::start(config).await.unwrap(), directory)
}

async fn wait_linked(node: &NodeHandle, links: usize) {
    let linked = async {
        loop {
            match node.command(Command::Status).await.unwrap() {
                Answer::Status(status) if status.neighbours.len() == links => return,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, linked)
        .await
        .expect("links come up");
}

async fn open(source: &NodeHandle, destination: &NodeHandle, hops: usize, class: TrafficClass) -> SessionId {
    let routes = source
        .discover(destination.node_id(), 10, PATIENCE, false)
        .await
        .unwrap();
    let path = routes[0].path.clone();
    assert_eq!(path.len(), hops + 1);
    let slice = source
        .quote(path, class, UNITS, Buying::WhereNeeded, PATIENCE)
        .await
        .unwrap();
    assert_eq!(slice.total_msat > 0, class == TrafficClass::Paid);
    let funding = Funding::Wallet {
        proofs: Vec::new(),
        max_total_msat: u64::MAX,
        max_fee_msat: 1_000_000,
        keep_funded: false,
    };
    source.open(slice.id, funding).await.unwrap().session
}
