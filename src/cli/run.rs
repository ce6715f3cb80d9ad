//! `blvm-mesh run`: the daemon, in the foreground.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;

use mesh_core::identity::NodeId;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::{CliError, Global, Place, locate, print_answer};
use crate::admin::Text;
use crate::daemon::{Daemon, Setup, StopSignals};
use crate::data_dir::DataDir;

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
    let daemon = tokio::select! {
        started = Daemon::start(Setup::new(place.config, data_dir)) => started?,
        () = stop.wait() => return Ok(()),
    };
    print_answer(global.json, &ready(&daemon), show_ready)?;

    let ended = tokio::select! {
        error = daemon.serve() => Err(error.into()),
        () = stop.wait() => Ok(()),
    };
    tracing::info!("stopping");
    daemon.stop().await?;
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

fn ready(daemon: &Daemon) -> Ready {
    let (node, data_dir) = (daemon.node(), daemon.data_dir());
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

#[cfg(test)]
mod tests {
    use super::*;

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
