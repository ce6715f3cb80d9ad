//! One regtest node of `blvm-node` that loads the modules of a folder, for tests.
//!
//! ```text
//! blvm-test-host DATA_DIR P2P_ADDRESS RPC_ADDRESS MODULES_DIR [--default-limits]
//! ```
//!
//! A process runs one node: its network parameters and consensus settings are global to the process. Modules keep their
//! data in `DATA_DIR/modules/NAME`, the socket they speak to is `DATA_DIR/sockets/node.sock`. JSON-RPC asks for the user
//! and password [`RPC_USER`]. Modules get generous resource limits, or with `--default-limits` those that an
//! operator's node gives them.
//!
//! `ready` on standard output says that JSON-RPC answers; modules may still be loading. The log goes to standard error,
//! filtered by `RUST_LOG`. SIGTERM stops the node and its modules; the exit code says whether that went well.
//!
//! The node reads two settings from the environment only, so whoever starts this process sets them: `DATA_DIR` to the
//! folder above, and `BLVM_IBD_PEER_HEIGHT_WAIT_MS=0`, for there is no chain to wait for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use blvm_node::ProtocolVersion;
use blvm_node::config::NodeConfig;
use blvm_node::node::Node;
use blvm_node::utils::create_shutdown_receiver;

/// User and password of the JSON-RPC interface. It is a test's, on loopback.
const RPC_USER: &str = "mesh";

/// How often the JSON-RPC port is tried until it answers.
const READY_POLL: Duration = Duration::from_millis(20);

struct Arguments {
    data_dir: PathBuf,
    p2p: SocketAddr,
    rpc: SocketAddr,
    modules_dir: PathBuf,
    default_limits: bool,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    std::fs::create_dir_all(&arguments.data_dir)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    // From here on SIGTERM is the node's to handle.
    let mut stopping = create_shutdown_receiver();
    let data_dir = text(&arguments.data_dir)?;
    let config = configuration(arguments)?;
    let node = Node::with_storage_config(
        data_dir,
        arguments.p2p,
        arguments.rpc,
        Some(ProtocolVersion::Regtest),
        config.storage.as_ref(),
    )?;
    let mut node = node
        .with_config(config.clone())?
        .with_modules_from_config(&config)?;
    let ready = tokio::spawn(say_when_ready(arguments.rpc));
    let outcome = tokio::select! {
        outcome = node.start() => outcome,
        // A node that still waits for its modules when it is told to stop does not look up.
        () = stopped_late(&mut stopping) => bail!("the node did not stop within {STOP_PATIENCE:?}"),
    };
    ready.abort();
    outcome
}

/// A node that takes longer to stop hangs.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

async fn stopped_late(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    // The sender lives as long as the process does.
    let _ = stopping.wait_for(|stop| *stop).await;
    tokio::time::sleep(STOP_PATIENCE).await;
}

async fn say_when_ready(rpc: SocketAddr) {
    while tokio::net::TcpStream::connect(rpc).await.is_err() {
        tokio::time::sleep(READY_POLL).await;
    }
    println!("ready");
}

/// What the node reads from a file elsewhere. Nothing here reaches beyond loopback: no discovery, no downloads.
fn configuration(arguments: &Arguments) -> Result<NodeConfig> {
    let limits = if arguments.default_limits {
        ""
    } else {
        "default_max_memory_bytes = 68719476736
         default_max_file_descriptors = 65536
         default_max_child_processes = 65536"
    };
    let text = format!(
        r#"
        transport_preference = "tcponly"
        enable_self_advertisement = false
        persistent_peers = []

        [modules]
        enabled = true
        modules_dir = {modules_dir:?}
        data_dir = {module_data:?}
        socket_dir = {sockets:?}
        registry_url = ""
        enabled_modules = []
        watch_enabled = false

        [module_resource_limits]
        {limits}

        [request_timeouts]
        handshake_timeout_secs = 1

        [rpc]
        ip_rate_limit_burst = 100000
        ip_rate_limit_rate = 100000
        max_connections_per_ip_per_minute = 100000

        [rpc_auth]
        required = true
        username = "{RPC_USER}"
        password = "{RPC_USER}"
        rate_limit_burst = 100000
        rate_limit_rate = 100000
        ip_rate_limit_burst = 100000
        ip_rate_limit_rate = 100000
        "#,
        modules_dir = text(&arguments.modules_dir)?,
        module_data = text(&arguments.data_dir.join("modules"))?,
        sockets = text(&arguments.data_dir.join("sockets"))?,
    );
    toml::from_str(&text).context("the test host's own configuration is none")
}

fn arguments() -> Result<Arguments> {
    let usage = "usage: blvm-test-host DATA_DIR P2P_ADDRESS RPC_ADDRESS MODULES_DIR [--default-limits]";
    let given: Vec<String> = std::env::args().skip(1).collect();
    let (paths, flags) = given.split_at_checked(4).context(usage)?;
    let default_limits = match flags {
        [] => false,
        [flag] if flag == "--default-limits" => true,
        _ => bail!(usage),
    };
    Ok(Arguments {
        data_dir: std::path::absolute(&paths[0])?,
        p2p: loopback(&paths[1])?,
        rpc: loopback(&paths[2])?,
        modules_dir: std::path::absolute(&paths[3])?,
        default_limits,
    })
}

fn loopback(address: &str) -> Result<SocketAddr> {
    let address: SocketAddr = address
        .parse()
        .with_context(|| format!("{address:?} is no address"))?;
    if !address.ip().is_loopback() {
        bail!("{address} is not on loopback, where tests belong");
    }
    Ok(address)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{path:?} is not valid UTF-8"))
}
