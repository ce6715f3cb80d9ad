//! `blvm-mesh run`: the daemon.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::announcement::OperatorCertificate;
use mesh_core::core::Announcing;
use mesh_core::identity::{Ed25519Verifier, Identity, NodeId};
use mesh_core::verifier::BitcoinNetwork;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use super::{CliError, Global, Place, locate, print_answer};
use crate::admin::{AdminServer, AdminService, NodeInfo, Text};
use crate::chain;
use crate::config::{Config, MeshConfig, Peer};
use crate::data_dir::DataDir;
use crate::node::{NodeConfig, RunningNode};
#[cfg(feature = "ldk")]
use crate::wallet::LightningNetwork;
#[cfg(feature = "ldk")]
use crate::wallet::ldk::LdkWallet;
use crate::wallet::{Wallet, build};

/// How long stopping in order may take: goodbyes and one last write. Service managers wait at least this long before
/// they kill.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one name may take to be looked up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the names of configured neighbours are looked up again, because home connections change their address.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(300);

/// The same while some name is not known yet: name servers come up later than this program after a power cut.
const LOOKUP_RETRY: Duration = Duration::from_secs(15);

/// Addresses found that wait to be dialled; the look-up waits when it is full.
const FOUND_QUEUE: usize = 16;

/// What is said once the node is ready; scripts wait for it.
#[derive(Debug, Serialize)]
struct Ready {
    version: &'static str,
    node_id: Text<NodeId>,
    listen_addr: Option<SocketAddr>,
    data_dir: PathBuf,
    admin_socket: PathBuf,
}

/// Runs a node until it is told to stop.
pub(super) async fn run(global: &Global) -> Result<(), CliError> {
    start_log(global.json)?;
    let place = locate(global)?;
    say_where_from(&place);
    if !place.config.mesh.enabled {
        tracing::info!("enabled = false in [mesh]: nothing to do");
        return Ok(());
    }
    for warning in place.config.warnings() {
        tracing::warn!("{warning}");
    }
    let mut stop = StopSignals::new()?;
    let data_dir = DataDir::open(&place.data_dir)?;
    let (fixed, named) = split_peers(&place.config.mesh.peers);
    let starting = async {
        let wallet = connect_wallet(&place.config, &data_dir).await?;
        let node = start(&place.config, &data_dir, fixed, wallet.clone()).await?;
        Ok::<_, CliError>((node, wallet))
    };
    let (started, wallet) = tokio::select! {
        started = starting => started?,
        () = stop.wait() => return Ok(()),
    };
    let admin = open_admin(&place.config, &data_dir, &started, wallet.clone())?;
    print_answer(global.json, &ready(&data_dir, &started), show_ready)?;

    let ended = serve(&started, named, &mut stop).await;
    tracing::info!("stopping");
    let stopping = async {
        admin.stop().await;
        started.stop().await;
        // After the node: its last payments are still under way.
        if let Some(lightning) = wallet.lightning_node() {
            lightning.stop().await;
        }
    };
    let stopped = tokio::time::timeout(STOP_TIMEOUT, stopping).await;
    stopped.map_err(|_| {
        let limit = STOP_TIMEOUT.as_secs();
        CliError::Failed(format!(
            "the node did not stop within {limit} s and is abandoned; nothing durable is lost"
        ))
    })?;
    tracing::info!("stopped");
    ended
}

/// To the standard error, which may be a terminal or a service manager's pipe. RUST_LOG chooses what is said.
fn start_log(as_json: bool) -> Result<(), CliError> {
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into());
    let filter = EnvFilter::try_new(&wanted).map_err(|error| {
        CliError::Usage(format!(
            "RUST_LOG = {wanted:?} is not a log filter: {error}; try \"info\""
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = if as_json {
        log.json().try_init()
    } else {
        log.try_init()
    };
    started.map_err(|error| CliError::Failed(format!("cannot start the log: {error}")))
}

fn say_where_from(place: &Place) {
    let file = place.file.display();
    if place.found {
        tracing::info!(%file, "configuration read");
    } else {
        tracing::info!(%file, "no configuration there: the defaults hold");
    }
}

/// A Lightning node of our own, if the configuration wants one; its chain source must answer.
#[cfg(feature = "ldk")]
async fn start_lightning(config: &Config, data_dir: &DataDir) -> Result<Option<Arc<dyn Wallet>>, CliError> {
    let Some(ldk) = &config.wallet.ldk else {
        return Ok(None);
    };
    let network = lightning_network(config.mesh.network);
    Ok(Some(LdkWallet::start(ldk, network, data_dir).await?))
}

/// The configuration refuses to want one.
#[cfg(not(feature = "ldk"))]
#[expect(clippy::unused_async, reason = "the same call in both builds")]
async fn start_lightning(_config: &Config, _data_dir: &DataDir) -> Result<Option<Arc<dyn Wallet>>, CliError> {
    Ok(None)
}

/// The wallet that the configuration names, once it answers.
async fn connect_wallet(config: &Config, data_dir: &DataDir) -> Result<Arc<dyn Wallet>, CliError> {
    if let Some(wallet) = start_lightning(config, data_dir).await? {
        return Ok(wallet);
    }
    let connected = build::connect(&config.wallet).await;
    let wallet = connected.map_err(|error| match error {
        build::ConnectError::Unreachable { .. } => CliError::Failed(error.to_string()),
        error => CliError::Usage(error.to_string()),
    })?;
    let granularity_msat = wallet.granularity_msat();
    if granularity_msat > 1 {
        tracing::info!(
            granularity_msat,
            "this wallet makes invoices over multiples of this only: payers who offer shares of anything else are refused; this program's do not"
        );
    }
    Ok(wallet)
}

async fn start(
    config: &Config,
    data_dir: &DataDir,
    peers: Vec<(SocketAddr, NodeId)>,
    wallet: Arc<dyn Wallet>,
) -> Result<RunningNode, CliError> {
    let identity = Identity::from_seed(*data_dir.identity_seed()?)
        .map_err(|error| CliError::Failed(error.to_string()))?;
    let own = identity.node_id();
    if config.mesh.peers.iter().any(|peer| peer.node_id == own) {
        return Err(CliError::Usage(format!(
            "[[mesh.peers]] names {own}, which is this node itself; remove that entry"
        )));
    }
    let announcing = announcing(&config.mesh, &own)?;
    let chain = chain::open::open(&config.chain, config.mesh.network, data_dir.path(), None)
        .map_err(|error| CliError::Usage(error.to_string()))?;
    let node = NodeConfig {
        identity,
        account_secret: *data_dir.account_secret()?,
        data_dir: data_dir.path().to_owned(),
        mode: config.mesh.mode,
        price_msat_per_unit: config.mesh.price_msat_per_unit,
        network: config.mesh.network,
        operator: config.mesh.operator,
        announcing,
        route_lifetime: config.mesh.route_lifetime,
        free_bytes_per_second: config.mesh.limits.free_bytes_per_second,
        spending: config.payments.spending(),
        links: config.endpoint(),
        peers,
        wallet,
        chain,
        treasury: config.treasury.clone(),
    };
    Ok(RunningNode::start(node).await?)
}

/// What the node says of itself; a certificate that does not fit would be refused by every other node.
fn announcing(mesh: &MeshConfig, own: &NodeId) -> Result<Announcing, CliError> {
    let claimed = mesh.operator.zip(mesh.operator_signature);
    let certificate = claimed.map(|(operator, signature)| OperatorCertificate { operator, signature });
    if certificate.is_some_and(|certificate| !certificate.verify(own, &Ed25519Verifier)) {
        return Err(CliError::Usage(format!(
            "operator_signature is not the operator's signature over this node's id {own}; sign that id, or remove it"
        )));
    }
    Ok(Announcing {
        enabled: mesh.announce,
        addresses: mesh.addresses.clone(),
        certificate,
    })
}

fn open_admin(
    config: &Config,
    data_dir: &DataDir,
    node: &RunningNode,
    wallet: Arc<dyn Wallet>,
) -> Result<AdminServer, CliError> {
    let info = NodeInfo {
        listen_addr: node.listen_addr(),
        network: network_name(config.mesh.network).to_owned(),
        wallet: config.wallet.backend.name().to_owned(),
        started: Instant::now(),
    };
    let backend = Arc::new(node.handle().clone());
    let service = AdminService::new(backend, info, config.payments.clone())
        .with_wallet(wallet)
        .with_books(node.books());
    Ok(AdminServer::start(&data_dir.admin_socket(), service)?)
}

fn ready(data_dir: &DataDir, node: &RunningNode) -> Ready {
    Ready {
        version: env!("CARGO_PKG_VERSION"),
        node_id: Text(node.handle().node_id()),
        listen_addr: node.listen_addr(),
        data_dir: data_dir.path().to_owned(),
        admin_socket: data_dir.admin_socket(),
    }
}

fn show_ready(ready: &Ready) -> String {
    let listening = match ready.listen_addr {
        Some(address) => address.to_string(),
        None => "nowhere".to_owned(),
    };
    format!(
        "blvm-mesh {} is running\n  node id    {}\n  listening  {listening}\n  data       {}",
        ready.version,
        ready.node_id.0,
        ready.data_dir.display()
    )
}

/// Until a signal comes, or the node ends by itself.
async fn serve(node: &RunningNode, named: Vec<Peer>, stop: &mut StopSignals) -> Result<(), CliError> {
    let (found_in, mut found) = mpsc::channel(FOUND_QUEUE);
    let lookups = look_up_for_ever(named, found_in);
    tokio::pin!(lookups);
    loop {
        tokio::select! {
            () = stop.wait() => return Ok(()),
            () = node.handle().commands.closed() => {
                return Err(CliError::Failed("the node ended by itself; its log says why".into()));
            }
            () = &mut lookups => {}
            Some((address, peer)) = found.recv() => {
                if let Err(error) = node.add_peer(address, peer) {
                    tracing::warn!(peer = %peer.short(), %address, %error, "cannot keep a link to this neighbour");
                }
            }
        }
    }
}

/// Looks the names of neighbours up, again and again; tells each address that is new. Never ends.
async fn look_up_for_ever(peers: Vec<Peer>, found: mpsc::Sender<(SocketAddr, NodeId)>) {
    let mut known = BTreeMap::new();
    loop {
        for peer in &peers {
            let Some(address) = look_up(peer).await else {
                continue;
            };
            if known.insert(peer.node_id, address) != Some(address) {
                tracing::info!(host = %peer.address, %address, peer = %peer.node_id.short(), "neighbour's address");
                // Nobody receives any more only when the daemon stops.
                let _ = found.send((address, peer.node_id)).await;
            }
        }
        let all_known = known.len() == peers.len();
        let pause = if all_known { LOOKUP_INTERVAL } else { LOOKUP_RETRY };
        tokio::time::sleep(pause).await;
    }
}

async fn look_up(peer: &Peer) -> Option<SocketAddr> {
    let looked_up = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(&peer.address)).await;
    let why = match looked_up {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(address) => return Some(address),
            None => "the name has no address".to_owned(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the name server does not answer".to_owned(),
    };
    tracing::warn!(host = %peer.address, peer = %peer.node_id.short(), why, "neighbour not found; trying again");
    None
}

/// Neighbours whose address is written out, and those whose name must be looked up.
fn split_peers(peers: &[Peer]) -> (Vec<(SocketAddr, NodeId)>, Vec<Peer>) {
    let mut fixed = Vec::new();
    let mut named = Vec::new();
    for peer in peers {
        match peer.address.parse() {
            Ok(address) => fixed.push((address, peer.node_id)),
            Err(_) => named.push(peer.clone()),
        }
    }
    (fixed, named)
}

#[cfg(feature = "ldk")]
fn lightning_network(network: BitcoinNetwork) -> LightningNetwork {
    match network {
        BitcoinNetwork::Mainnet => LightningNetwork::Bitcoin,
        BitcoinNetwork::Testnet => LightningNetwork::Testnet,
        BitcoinNetwork::Signet => LightningNetwork::Signet,
        BitcoinNetwork::Regtest => LightningNetwork::Regtest,
    }
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
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, CliError> {
        let register = |kind| {
            signal(kind).map_err(|error| CliError::Failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: register(SignalKind::terminate())?,
            interrupt: register(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.into(),
            node_id: NodeId([1; 32]),
        }
    }

    #[test]
    fn addresses_are_dialled_at_once_and_names_are_looked_up() {
        let peers = ["127.0.0.1:1", "[::1]:2", "localhost:3", "mesh.example.org:4"].map(peer);
        let (fixed, named) = split_peers(&peers);
        assert_eq!(fixed.len(), 2);
        assert_eq!(named, peers[2..]);
    }

    #[tokio::test]
    async fn a_name_that_is_found_is_told_once() {
        let (found_in, mut found) = mpsc::channel(4);
        tokio::select! {
            () = look_up_for_ever(vec![peer("localhost:3")], found_in) => {}
            told = found.recv() => {
                let (address, id) = told.unwrap();
                assert!(address.ip().is_loopback() && address.port() == 3);
                assert_eq!(id, NodeId([1; 32]));
            }
        }
    }

    #[test]
    fn the_ready_message_names_id_and_address() {
        let ready = Ready {
            version: "1",
            node_id: Text(NodeId([1; 32])),
            listen_addr: Some("127.0.0.1:8334".parse().unwrap()),
            data_dir: "/d".into(),
            admin_socket: "/d/admin.sock".into(),
        };
        let shown = show_ready(&ready);
        assert!(shown.contains(&"01".repeat(32)) && shown.contains("127.0.0.1:8334"));
        let json = serde_json::to_value(&ready).unwrap();
        assert_eq!(json["listen_addr"], "127.0.0.1:8334");
        assert_eq!(json["node_id"], "01".repeat(32));
    }
}
