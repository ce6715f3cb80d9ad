//! The log of a module: a file of bounded size in its data directory, and the node's own log.
//!
//! A published node gives its modules pipes as standard output and error and reads neither: who writes 64 KiB there
//! waits for ever. So nothing is written there once the module runs.

mod file;
mod node;

use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::ModuleError;
use file::RotatingFile;
pub use file::{LOG_FILE, LOG_FILE_BYTES, LOG_FILES};
pub(super) use node::NodeLog;

/// Starts the log; what the node shall see goes to `node` once it is connected. RUST_LOG chooses what is said.
pub(super) fn start(data_dir: &Path, node: NodeLog) -> Result<(), ModuleError> {
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .filter(|wanted| !wanted.trim().is_empty());
    let (filter, wrong) = match wanted.as_deref().map(EnvFilter::try_new) {
        None => (EnvFilter::new("info"), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new("info"), Some(error)),
    };
    let file = RotatingFile::open(&data_dir.join(LOG_FILE), LOG_FILE_BYTES, LOG_FILES);
    let file = file.map_err(|error| {
        ModuleError::Failed(format!(
            "cannot write the log {}: {error}; check the disk's free space and the directory's owner",
            data_dir.join(LOG_FILE).display()
        ))
    })?;
    let to_file = tracing_subscriber::fmt::layer()
        .with_writer(Mutex::new(file))
        .with_ansi(false)
        // It would complain on the standard error, of which see above.
        .log_internal_errors(false);
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(to_file.and_then(node))
        .try_init();
    started.map_err(|error| ModuleError::Failed(format!("cannot start the log: {error}")))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    if let Some(error) = wrong {
        // The node's environment, which is for the node as much as for us: no reason to leave it without a mesh.
        tracing::warn!(%error, "RUST_LOG is not a log filter; \"info\" holds");
    }
    Ok(())
}
