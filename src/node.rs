//! A complete node, assembled: identity, store, wallet, links, core and loop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_core::core::{Announcing, Core, CoreConfig};
use mesh_core::drop_reason::DropReason;
use mesh_core::fairness::policy::PolicyError;
use mesh_core::identity::{Ed25519Verifier, Identity, NodeId};
use mesh_core::routing::snapshot::SnapshotWriter;
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::SpendingCaps;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::{CarrierPort, Endpoint, EndpointConfig, NetError, RECOMMENDED_EVENT_QUEUE, Transport};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::admin::NodeBooks;
use crate::chain::{ChainError, ChainSetup};
use crate::clock::Clock;
use crate::fairness::Fairness;
use crate::handle::{NodeHandle, Readers, Reusable};
use crate::http::HttpError;
use crate::manager::{ManagerParts, MeshManager};
use crate::store::{Restored, Store, StoreError};
use crate::treasury::{Treasury, TreasuryConfig};
use crate::wallet::{LightningNetwork, Wallet, WalletError};

/// Commands that wait for the loop.
const COMMAND_QUEUE: usize = 1024;

/// Events that a slow listener may be behind.
const EVENT_QUEUE: usize = 1024;

/// What a node is started with.
pub struct NodeConfig {
    /// Its key.
    pub identity: Identity,
    /// The secret its account keys derive from; kept beside the key.
    pub account_secret: [u8; 32],
    /// Where its database lives.
    pub data_dir: PathBuf,
    /// What it carries.
    pub mode: MeshMode,
    /// What it charges per unit (a started KiB), in msat.
    pub price_msat_per_unit: u64,
    /// The Bitcoin network it expects invoices of.
    pub network: BitcoinNetwork,
    /// Its operator's key.
    pub operator: Option<NodeId>,
    /// Whether and how it announces itself.
    pub announcing: Announcing,
    /// How long it keeps a discovered route at the most.
    pub route_lifetime: Duration,
    /// Free bytes that each neighbour may send per second.
    pub free_bytes_per_second: u64,
    /// What it may pay by itself for modules; the default is nothing.
    pub spending: SpendingCaps,
    /// Its links.
    pub links: EndpointConfig,
    /// Neighbours to keep a link to.
    pub peers: Vec<(SocketAddr, NodeId)>,
    /// How it is paid and pays.
    pub wallet: Arc<dyn Wallet>,
    /// How it is paid on the chain; none when it is not.
    pub chain: Option<ChainSetup>,
    /// Whither the treasury's part goes; none when it stays owed.
    pub treasury: Option<TreasuryConfig>,
    /// How much anybody may earn of what it pays before it goes around him.
    pub fairness: Fairness,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The links.
    #[error(transparent)]
    Net(#[from] NetError),
    /// What asks the treasury's Lightning address for invoices.
    #[error("the treasury's address cannot be asked: {0}")]
    Treasury(#[from] HttpError),
    /// The wallet.
    #[error("the wallet does not answer: {0}")]
    Wallet(#[from] WalletError),
    /// The wallet is on another network than configured.
    #[error(
        "the wallet is on {wallet}, the configuration says {configured:?}; set `network` to the wallet's or use another wallet"
    )]
    WrongNetwork {
        /// The wallet's.
        wallet: LightningNetwork,
        /// The configuration's.
        configured: BitcoinNetwork,
    },
    /// The chain source.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The caps of fairness.
    #[error("[fairness]: {0}")]
    Fairness(#[from] PolicyError),
    /// What was written down does not fit.
    #[error("the database holds more than this node takes up ({0}); nothing was changed")]
    Restore(DropReason),
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness; keys cannot be made")]
    NoRandomness,
}

/// A node that runs until it is stopped.
pub struct RunningNode {
    handle: NodeHandle,
    listen_addr: Option<SocketAddr>,
    books: NodeBooks,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl RunningNode {
    /// Starts a node; must be called within a tokio runtime.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        Self::start_on(config, Store::open).await
    }

    /// The same with so many bytes of the database kept in memory, for who must be sparing with it.
    ///
    /// # Errors
    /// As [`RunningNode::start`].
    pub async fn start_with_cache(config: NodeConfig, cache_bytes: usize) -> Result<Self, StartError> {
        Self::start_on(config, |path| Store::open_with_cache(path, cache_bytes)).await
    }

    async fn start_on(
        config: NodeConfig,
        open: impl FnOnce(&Path) -> Result<(Store, Restored), StoreError>,
    ) -> Result<Self, StartError> {
        let info = config.wallet.info().await?;
        if let Some(wallet) = info.network
            && wallet_network(wallet) != config.network
        {
            return Err(StartError::WrongNetwork {
                wallet,
                configured: config.network,
            });
        }
        if let Some(chain) = &config.chain {
            let found = chain.source.network().await?;
            if found != config.network {
                let configured = config.network;
                return Err(ChainError::WrongNetwork { found, configured }.into());
            }
        }
        let (store, restored) = open(&config.data_dir.join(crate::data_dir::DATABASE_FILE))?;
        let mut clock = Clock::starting_at(restored.wall_clock);
        let now = clock.now();

        let (link_events_in, link_events) = mpsc::channel(RECOMMENDED_EVENT_QUEUE);
        let endpoint = Endpoint::bind(config.links, &config.identity, link_events_in)?;
        let (listen_addr, carrier_port) = (endpoint.local_addr(), endpoint.carrier_port());
        let node_id = config.identity.node_id();
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| StartError::NoRandomness)?;
        let core_config = CoreConfig {
            mode: config.mode,
            price_msat_per_unit: config.price_msat_per_unit,
            network: config.network,
            lightning_key: info.payee,
            operator: config.operator,
            announcing: config.announcing,
            route_lifetime: config.route_lifetime,
            free_bytes_per_second: config.free_bytes_per_second,
            spending: config.spending,
            account_secret: config.account_secret,
            seed,
        };
        let mut core = Core::new(core_config, config.identity, Arc::new(Ed25519Verifier), now);
        core.set_fairness(config.fairness.policy, config.fairness.asmap)?;
        if let Some(chain) = &config.chain {
            core.take_payments_on_chain(chain.policy.clone());
        }
        let treasury = config.treasury.as_ref().map(Treasury::new).transpose()?;
        if let Some(treasury) = &config.treasury {
            core.set_treasury(treasury.policy());
        }
        core.restore(restored.records, now).map_err(StartError::Restore)?;
        for (address, peer) in config.peers {
            endpoint.add_peer(address, peer)?;
        }

        let transport: Arc<dyn Transport> = Arc::new(endpoint);
        let (commands_in, commands) = mpsc::channel(COMMAND_QUEUE);
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let readers = Arc::new(Mutex::new(Readers::default()));
        let routes = Arc::new(ArcSwap::from_pointee(SnapshotWriter::new(0).publish()));
        // Counted on from the time of day: routes are shown less often than every millisecond, so no later life of this node
        // begins at a number that this one has used.
        let (generations, shown) = watch::channel(now.unix.0);
        let (safe_in, safe) = watch::channel(0);
        let (stop_in, stop) = oneshot::channel();
        let handle = NodeHandle {
            node_id,
            route_lifetime: config.route_lifetime,
            commands: commands_in,
            readers: readers.clone(),
            routes: routes.clone(),
            generations: shown,
            events: events.clone(),
            transport: transport.clone(),
            links: carrier_port,
            sessions: Arc::new(Mutex::new(Reusable::new(events.subscribe()))),
            store: store.health(),
            safe: safe_in,
        };
        let books = NodeBooks::new(store.reader(), config.wallet.clone(), config.treasury);
        let parts = ManagerParts {
            core,
            clock,
            transport,
            link_events,
            commands,
            readers,
            routes,
            generations,
            events,
            wallet: config.wallet,
            chain: config.chain.map(|chain| chain.source),
            treasury,
            store,
            safe,
            stop,
        };
        let task = tokio::spawn(MeshManager::run(parts));
        Ok(Self {
            handle,
            listen_addr,
            books,
            stop: Some(stop_in),
            task,
        })
    }

    /// The way to talk to it.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Its books, to be read.
    pub fn books(&self) -> NodeBooks {
        self.books.clone()
    }

    /// Where it listens.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.listen_addr
    }

    /// The way in for links that are not TCP.
    pub fn carrier_port(&self) -> CarrierPort {
        self.handle.links.clone()
    }

    /// Adds a neighbour to keep a link to.
    pub fn add_peer(&self, address: SocketAddr, peer: NodeId) -> Result<(), NetError> {
        self.handle.transport.add_peer(address, peer)
    }

    /// Stops it in order: links say goodbye, records are written.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // A loop that has ended by itself needs no telling.
            let _ = stop.send(());
        }
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the node's loop ended badly");
        }
    }
}

fn wallet_network(network: LightningNetwork) -> BitcoinNetwork {
    match network {
        LightningNetwork::Bitcoin => BitcoinNetwork::Mainnet,
        LightningNetwork::Testnet => BitcoinNetwork::Testnet,
        LightningNetwork::Signet => BitcoinNetwork::Signet,
        LightningNetwork::Regtest => BitcoinNetwork::Regtest,
    }
}

#[cfg(test)]
mod tests;
