//! The daemon: a node with its wallet, its sockets and its neighbours, from the configuration to an orderly stop.
//!
//! `blvm-mesh run` and the module of a node are the same daemon; they differ in who tells it to stop and where its log
//! goes.

mod neighbours;
mod parts;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh_core::identity::{Identity, NodeId};
use mesh_core::verifier::BitcoinNetwork;
use node_ipc::NodeClient;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::admin::{AdminServer, AdminService, BindError, NodeInfo};
use crate::api::{MeshModuleApi, OpenError};
use crate::carrier::NodeCarrier;
use crate::chain;
use crate::chain::ChainError;
use crate::chain::node::asking::Answers;
use crate::config::{Config, LiveConfig};
use crate::data_dir::{DataDir, DataDirError};
use crate::disk;
use crate::fairness::Fairness;
use crate::host::events::ReloadPeers;
use crate::node::{NodeConfig, RunningNode, StartError};
use crate::socket::SocketServer;
use crate::store::DEFAULT_CACHE_BYTES;
use crate::wallet::Wallet;
use neighbours::{Kept, split_peers};
use parts::{announcing, connect_wallet};

/// How long stopping in order may take: goodbyes and one last write. Service managers wait at least this long before
/// they kill.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a daemon does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The node.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The Lightning node inside this program.
    #[cfg(feature = "ldk")]
    #[error(transparent)]
    Ldk(#[from] crate::wallet::ldk::LdkError),
    /// The admin socket, or that of programs.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The protocols that modules registered, and what waits for them.
    #[error(transparent)]
    Api(#[from] OpenError),
    /// The configuration says what cannot be honoured.
    #[error("{0}")]
    Refused(String),
    /// The wallet does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// Something else went wrong.
    #[error("{0}")]
    Failed(String),
}

impl DaemonError {
    /// Whether starting again may help, because something did not answer that may answer later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Start(StartError::Wallet(_)) => true,
            Self::Start(StartError::Chain(error)) => !matches!(error, ChainError::WrongNetwork { .. }),
            _ => false,
        }
    }

    /// Whether the operator must change the configuration or the data directory; starting again changes nothing.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::DataDir(_) | Self::Refused(_))
    }
}

/// What a daemon is started with.
pub struct Setup {
    /// What the operator says.
    pub config: Config,
    /// Where its state is; locked.
    pub data_dir: DataDir,
    /// Bytes of the database that are kept in memory.
    pub database_cache_bytes: usize,
    /// The Bitcoin node that we are a module of.
    pub bitcoin_node: Option<NodeClient>,
}

impl Setup {
    /// The usual daemon.
    pub fn new(config: Config, data_dir: DataDir) -> Self {
        Self {
            config,
            data_dir,
            database_cache_bytes: DEFAULT_CACHE_BYTES,
            bitcoin_node: None,
        }
    }
}

/// A running daemon.
pub struct Daemon {
    node: RunningNode,
    wallet: Arc<dyn Wallet>,
    admin: AdminServer,
    operator: Arc<AdminService>,
    carrier: Option<Arc<NodeCarrier>>,
    neighbours: Arc<Kept>,
    look_at_disk: Arc<Notify>,
    config: LiveConfig,
    api: Arc<MeshModuleApi>,
    socket: SocketServer,
    /// Its lock goes last.
    data_dir: DataDir,
}

impl Daemon {
    /// Starts everything; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn start(setup: Setup) -> Result<Self, DaemonError> {
        let over_node = carrier_node(&setup)?;
        let (fixed, named) = split_peers(&setup.config.mesh.peers);
        let wallet = connect_wallet(&setup.config, &setup.data_dir).await?;
        let node = start_node(&setup, fixed, wallet.clone()).await?;
        let config = Arc::new(Mutex::new(setup.config.clone()));
        let operator = Arc::new(operators_service(config.clone(), &node, wallet.clone()));
        let admin = AdminServer::start(&setup.data_dir.admin_socket(), operator.clone())?;
        let network = setup.config.mesh.network;
        let carrier =
            over_node.map(|client| Arc::new(NodeCarrier::over_node(node.carrier_port(), client, network)));
        let handle = node.handle().clone();
        let look_at_disk = Arc::new(Notify::new());
        // It ends with the node.
        tokio::spawn(disk::watch(
            handle.clone(),
            setup.data_dir.path().to_owned(),
            setup.config.host.least_free_disk_mib,
            look_at_disk.clone(),
        ));
        let api = MeshModuleApi::open(node.handle().clone(), setup.data_dir.path())?;
        let api = Arc::new(api);
        let socket = SocketServer::start(&setup.data_dir.api_socket(), api.clone())?;
        Ok(Self {
            node,
            wallet,
            admin,
            operator,
            carrier,
            neighbours: Arc::new(Kept::new(handle, named)),
            look_at_disk,
            config,
            api,
            socket,
            data_dir: setup.data_dir,
        })
    }

    /// The node.
    pub fn node(&self) -> &RunningNode {
        &self.node
    }

    /// The carrier of links over the Bitcoin node's own connections, if it is on; events of the node are for it.
    pub fn carrier(&self) -> Option<Arc<NodeCarrier>> {
        self.carrier.clone()
    }

    /// What modules and other programs call.
    pub fn api(&self) -> &Arc<MeshModuleApi> {
        &self.api
    }

    /// What answers the operator.
    pub fn operator(&self) -> &Arc<AdminService> {
        &self.operator
    }

    /// Where its state is.
    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// Keeps it going: looks for neighbours by name. Comes back only when the node ended by itself, and says so. May be
    /// dropped and called again at any time.
    pub async fn serve(&self) -> DaemonError {
        tokio::select! {
            () = self.node.handle().stopped() => {}
            () = self.neighbours.run() => {}
        }
        DaemonError::Failed("the node ended by itself; its log says why".into())
    }

    /// The configured neighbours, which a new configuration may change.
    pub fn neighbours(&self) -> Arc<dyn ReloadPeers> {
        self.neighbours.clone()
    }

    /// The configuration in force: whoever changes it does so here.
    pub fn config(&self) -> &LiveConfig {
        &self.config
    }

    /// Has the disk looked at when it is notified.
    pub fn look_at_disk(&self) -> Arc<Notify> {
        self.look_at_disk.clone()
    }

    /// Stops in order: links say goodbye, records are written.
    ///
    /// # Errors
    /// [`DaemonError::Failed`] when that takes longer than [`STOP_TIMEOUT`]; nothing durable is lost by ending then.
    pub async fn stop(self) -> Result<(), DaemonError> {
        let Self {
            node,
            wallet,
            admin,
            api,
            socket,
            carrier,
            data_dir: _locked_until_the_end,
            ..
        } = self;
        let stopping = async {
            admin.stop().await;
            socket.stop().await;
            node.stop().await;
            // After the node: what arrived last is to be written too.
            api.stop().await;
            // After the node: its links' last words are what is to be sent.
            if let Some(carrier) = carrier {
                carrier.stop().await;
            }
            // After the node: its last payments are still under way.
            if let Some(lightning) = wallet.lightning_node() {
                lightning.stop().await;
            }
        };
        let stopped = tokio::time::timeout(STOP_TIMEOUT, stopping).await;
        stopped.map_err(|_| {
            let limit = STOP_TIMEOUT.as_secs();
            DaemonError::Failed(format!(
                "the node did not stop within {limit} s and is abandoned; nothing durable is lost"
            ))
        })
    }
}

/// The Bitcoin node that links are to run over, if the configuration says so.
fn carrier_node(setup: &Setup) -> Result<Option<NodeClient>, DaemonError> {
    match (setup.config.mesh.node_carrier, &setup.bitcoin_node) {
        (false, _) => Ok(None),
        (true, Some(client)) => Ok(Some(client.clone())),
        (true, None) => Err(DaemonError::Refused(
            "`node_carrier = true` needs a Bitcoin node that runs this program as its module; set it to false here"
                .into(),
        )),
    }
}

async fn start_node(
    setup: &Setup,
    peers: Vec<(SocketAddr, NodeId)>,
    wallet: Arc<dyn Wallet>,
) -> Result<RunningNode, DaemonError> {
    let Setup { config, data_dir, .. } = setup;
    let identity = Identity::from_seed(*data_dir.identity_seed()?)
        .map_err(|error| DaemonError::Failed(error.to_string()))?;
    let own = identity.node_id();
    if config.mesh.peers.iter().any(|peer| peer.node_id == own) {
        return Err(DaemonError::Refused(format!(
            "[[mesh.peers]] names {own}, which is this node itself; remove that entry"
        )));
    }
    let announcing = announcing(&config.mesh, data_dir.path(), &own)?;
    let chain = chain::open::open(
        &config.chain,
        config.mesh.network,
        data_dir.path(),
        asked(setup.bitcoin_node.as_ref()),
    )
    .map_err(|error| DaemonError::Refused(error.to_string()))?;
    let node = NodeConfig {
        identity,
        account_secret: *data_dir.account_secret()?,
        data_dir: data_dir.path().to_owned(),
        mode: config.mesh.mode,
        price_msat_per_unit: config.mesh.price_msat_per_unit,
        network: config.mesh.network,
        operator: announcing
            .certificate
            .map(|shown| shown.operator)
            .or(config.mesh.operator),
        announcing,
        route_lifetime: config.mesh.route_lifetime,
        free_bytes_per_second: config.mesh.limits.free_bytes_per_second,
        spending: config.payments.spending(),
        links: config.endpoint(),
        peers,
        wallet,
        chain,
        treasury: config.treasury.clone(),
        fairness: Fairness::open(&config.fairness)
            .map_err(|error| DaemonError::Refused(error.to_string()))?,
    };
    Ok(RunningNode::start_with_cache(node, setup.database_cache_bytes).await?)
}

/// The node that spawned us, as one that can be asked about the chain.
fn asked(node: Option<&NodeClient>) -> Option<Arc<dyn Answers>> {
    let node: Arc<dyn Answers> = Arc::new(node?.clone());
    Some(node)
}

fn operators_service(live: LiveConfig, node: &RunningNode, wallet: Arc<dyn Wallet>) -> AdminService {
    let config = crate::handle::lock(&live).clone();
    let info = NodeInfo {
        listen_addr: node.listen_addr(),
        network: network_name(config.mesh.network).to_owned(),
        wallet: config.wallet.backend.name().to_owned(),
        started: Instant::now(),
    };
    let backend = Arc::new(node.handle().clone());
    AdminService::new(backend, info, live)
        .with_wallet(wallet)
        .with_books(node.books())
}

fn network_name(network: BitcoinNetwork) -> &'static str {
    match network {
        BitcoinNetwork::Mainnet => "bitcoin",
        BitcoinNetwork::Testnet => "testnet",
        BitcoinNetwork::Signet => "signet",
        BitcoinNetwork::Regtest => "regtest",
    }
}

/// SIGTERM (service managers) and SIGINT (Ctrl-C).
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`DaemonError::Failed`]: the operating system refuses.
    pub fn new() -> Result<Self, DaemonError> {
        let register = |kind| {
            signal(kind).map_err(|error| DaemonError::Failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: register(SignalKind::terminate())?,
            interrupt: register(SignalKind::interrupt())?,
        })
    }

    /// Comes back when one arrives.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
