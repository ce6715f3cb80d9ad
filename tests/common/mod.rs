//! Nodes on loopback for end-to-end tests.
#![allow(dead_code, unreachable_pub)] // each test file uses its part
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

#[cfg(unix)]
pub mod bitcoind;
#[cfg(unix)]
pub mod blvm_node;
#[cfg(unix)]
pub mod daemons;
#[cfg(all(unix, feature = "ldk"))]
pub mod lightning;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::handle::SendRequest;
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::wallet::Wallet;
use blvm_mesh::wallet::none::NoWallet;
use bytes::Bytes;
use mesh_core::event::{Answer, Command, Status};
use mesh_core::identity::{Identity, NodeId};
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::EndpointConfig;
use tempfile::TempDir;

/// Long enough for a busy machine, short enough that a hanging test is noticed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct TestNode {
    pub node: RunningNode,
    pub directory: TempDir,
}

pub fn node_config(seed: u8, mode: MeshMode, wallet: Arc<dyn Wallet>, directory: &TempDir) -> NodeConfig {
    NodeConfig {
        identity: Identity::from_seed([seed; 32]).unwrap(),
        account_secret: [seed.wrapping_add(100); 32],
        data_dir: directory.path().to_owned(),
        mode,
        price_msat_per_unit: 10,
        network: BitcoinNetwork::Regtest,
        operator: None,
        announcing: Default::default(),
        route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
        free_bytes_per_second: 64 << 20,
        spending: Default::default(),
        links: EndpointConfig {
            listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            initial_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(100),
            ..EndpointConfig::default()
        },
        peers: Vec::new(),
        wallet,
        chain: None,
        treasury: None,
        fairness: Default::default(),
    }
}

impl TestNode {
    pub async fn start(seed: u8, mode: MeshMode, wallet: Arc<dyn Wallet>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = RunningNode::start(node_config(seed, mode, wallet, &directory))
            .await
            .unwrap();
        Self { node, directory }
    }

    pub async fn without_wallet(seed: u8, mode: MeshMode) -> Self {
        Self::start(seed, mode, Arc::new(NoWallet)).await
    }

    pub fn id(&self) -> NodeId {
        self.node.handle().node_id()
    }

    pub async fn status(&self) -> Status {
        match self.node.handle().command(Command::Status).await.unwrap() {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub fn connect(&self, to: &Self) {
        self.node
            .add_peer(to.node.listen_addr().unwrap(), to.id())
            .unwrap();
    }
}

/// How often something is looked at again that gives no notice: often enough to lose no time, rarely enough to leave the
/// machine to what is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Looks again and again until there is something, for a bounded time.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        let mut again = tokio::time::interval(LOOK_AGAIN);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            again.tick().await;
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits until every node has as many live links as told.
pub async fn wait_linked(nodes: &[(&TestNode, usize)]) {
    for (node, links) in nodes {
        eventually("links", async || {
            (node.status().await.neighbours.len() >= *links).then_some(())
        })
        .await;
    }
}

pub fn open_request(destination: NodeId, payload: &[u8]) -> SendRequest {
    SendRequest {
        destination,
        payload: Bytes::copy_from_slice(payload),
        protocol_id: "test".to_owned(),
        ttl: Duration::from_secs(30),
        max_hops: 10,
        timeout: Duration::from_secs(10),
        class: TrafficClass::Open,
        max_total_msat: 0,
        max_fee_msat: 0,
        auto_pay: None,
    }
}
