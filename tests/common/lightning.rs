//! Daemons whose wallets are real Lightning nodes (`ldk`) on one regtest bitcoind, each kept at its addresses and keys
//! across kills.

use std::time::Duration;

use blvm_mesh::admin::{
    AdminClient, ChannelReply, ClientError, Request, StatusReply, WalletAddressReply, WalletBalanceReply,
    WalletChannelsReply, WalletInfoReply, WalletOpenedReply, WalletParams,
};
use mesh_core::identity::{Identity, NodeId};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::bitcoind::{Bitcoind, USER};
use super::daemons::{ASK_AGAIN, Daemon, Home, free_port, write_identity};

/// Longer than anything on a chain takes on a busy machine: nodes look for blocks every other second.
pub const CHAIN_PATIENCE: Duration = Duration::from_secs(120);

/// One daemon, or the place where it can be started again.
pub struct Node {
    pub home: Home,
    pub id: NodeId,
    pub name: String,
    seed: u8,
    mesh_port: u16,
    lightning_port: u16,
    daemon: Option<Daemon>,
}

impl Node {
    /// A node that is not started yet, whose key follows from its number.
    pub fn new(number: u8) -> Self {
        Self::at(number, Home::new())
    }

    /// The same, in a directory that is there already.
    pub fn at(number: u8, home: Home) -> Self {
        let seed = number + 1;
        write_identity(home.path(), seed);
        Self {
            home,
            id: Identity::from_seed([seed; 32]).unwrap().node_id(),
            name: format!("node {number}"),
            seed,
            mesh_port: free_port(),
            lightning_port: free_port(),
            daemon: None,
        }
    }

    /// Writes its configuration: neighbours that it keeps a link to, and what it charges.
    pub fn configure(&self, bitcoind: &Bitcoind, neighbours: &[&Node], msat_per_unit: u64) {
        let mut config = format!(
            "[mesh]\nlisten_addr = \"127.0.0.1:{}\"\nnetwork = \"regtest\"\nprice_msat_per_unit = {msat_per_unit}\n",
            self.mesh_port
        );
        for neighbour in neighbours {
            let (port, id) = (neighbour.mesh_port, neighbour.id);
            config += &format!("[[mesh.peers]]\naddress = \"127.0.0.1:{port}\"\nnode_id = \"{id}\"\n");
        }
        config += &format!(
            "[wallet]\nbackend = \"ldk\"\n[wallet.ldk]\nlisten_addr = \"127.0.0.1:{}\"\nalias = \"mesh-{}\"\n\
             anchor_reserve_sats = 10000\n[wallet.ldk.chain]\nkind = \"bitcoind\"\nurl = \"http://127.0.0.1:{}\"\n\
             user = \"{USER}\"\npassword = \"{USER}\"\n",
            self.lightning_port, self.seed, bitcoind.rpc_port
        );
        std::fs::write(self.home.path().join("config.toml"), config).unwrap();
    }

    pub async fn start(&mut self) {
        self.daemon = Some(Daemon::start(&self.home).await);
    }

    pub fn is_up(&self) -> bool {
        self.daemon.is_some()
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.daemon.take().unwrap().kill().await;
    }

    pub async fn stop(&mut self) {
        let ended = self.daemon.take().unwrap().terminate().await;
        assert_eq!(ended.code(), Some(0), "{}", self.home.end_of_log());
    }

    /// Asks over the admin socket.
    pub async fn try_call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ClientError> {
        let mut client = AdminClient::connect(&self.home.path().join("admin.sock")).await?;
        client.call(request).await
    }

    pub async fn call<T: DeserializeOwned>(&self, request: &Request) -> T {
        match self.try_call(request).await {
            Ok(reply) => reply,
            Err(error) => panic!("{}: {request:?}: {error}", self.name),
        }
    }

    pub async fn status(&self) -> StatusReply {
        self.call(&Request::Status).await
    }

    pub async fn balance(&self) -> WalletBalanceReply {
        self.call(&Request::Wallet(WalletParams::Balance {})).await
    }

    pub async fn channels(&self) -> Vec<ChannelReply> {
        let reply: WalletChannelsReply = self.call(&Request::Wallet(WalletParams::Channels {})).await;
        reply.channels
    }

    /// The Lightning node's key.
    pub async fn lightning_id(&self) -> String {
        let info: WalletInfoReply = self.call(&Request::Wallet(WalletParams::Info {})).await;
        assert_eq!(info.backend, "ldk");
        info.node_id.unwrap()
    }

    /// Where others open channels to.
    pub async fn lightning_address(&self) -> String {
        format!("{}@127.0.0.1:{}", self.lightning_id().await, self.lightning_port)
    }

    pub async fn fund(&self, bitcoind: &Bitcoind, sats: u64) {
        let request = Request::Wallet(WalletParams::Address {});
        let reply: WalletAddressReply = self.call(&request).await;
        bitcoind.pay(&reply.address, sats).await;
    }

    /// Waits until its wallet sees that much to spend on-chain.
    pub async fn wait_for_coins(&self, sats: u64) {
        until(&format!("the coins of {}", self.name), async || {
            let coins = self.balance().await.on_chain.unwrap();
            coins.spendable_sats >= sats
        })
        .await;
    }

    /// Waits until that many of its channels can be used.
    pub async fn wait_for_channels(&self, count: usize) {
        until(&format!("the channels of {}", self.name), async || {
            let channels = self.channels().await;
            channels.iter().filter(|channel| channel.usable).count() >= count
        })
        .await;
    }

    pub async fn open_channel(&self, to: &Node, sats: u64, push_msat: u64) {
        let address = to.lightning_address().await;
        let (node_id, address) = address.split_once('@').unwrap();
        let params = WalletParams::OpenChannel {
            node_id: node_id.to_owned(),
            address: address.to_owned(),
            sats,
            push_msat,
        };
        let _: WalletOpenedReply = self.call(&Request::Wallet(params)).await;
    }
}

/// Waits until it holds; nothing here gives notice across processes.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = timeout(CHAIN_PATIENCE, async {
        let mut again = tokio::time::interval(ASK_AGAIN);
        while !holds().await {
            again.tick().await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// Waits until all nodes' wallets are at the chain's tip and no funding is missing, then mines blocks for channels
/// that were just opened.
pub async fn confirm_channels(bitcoind: &Bitcoind, fundings: usize) {
    until("the funding transactions", async || {
        let waiting = bitcoind.rpc("getrawmempool", serde_json::json!([])).await;
        waiting.as_array().unwrap().len() >= fundings
    })
    .await;
    bitcoind.mine(6).await;
}
