//! Reading the configuration again.

use mesh_core::event::Command;
use mesh_core::identity::NodeId;

use super::obey;
use crate::config::{Changes, Config, ConfigError, LiveConfig, Peer};
use crate::handle::{NodeHandle, lock};

/// Whoever keeps links to the configured neighbours.
pub trait ReloadPeers: Send + Sync {
    /// From now on links are kept to these too, or under these addresses; and no longer to those. Never waits.
    fn change(&self, added: Vec<Peer>, removed: Vec<NodeId>);
}

/// Reads it, and has take effect what can. One that cannot be read changes nothing.
pub(super) async fn reload(
    node: &NodeHandle,
    config: &LiveConfig,
    load: &(dyn Fn() -> Result<Config, ConfigError> + Send + Sync),
    peers: &dyn ReloadPeers,
) {
    // A file of a megabyte at the most, and not often.
    let new = match load() {
        Ok(new) => new,
        Err(error) => {
            return tracing::error!("the configuration stays as it is, because it cannot be read: {error}");
        }
    };
    let changes = {
        let mut config = lock(config);
        let changes = Changes::between(&config, &new);
        *config = Changes::in_force(&config, new);
        changes
    };
    say(&changes);
    if let Some(msat_per_unit) = changes.price_msat_per_unit {
        obey(node.clone(), Command::SetPrice { msat_per_unit }).await;
    }
    if let Some(caps) = changes.spending {
        obey(node.clone(), Command::SetSpendingCaps { caps }).await;
    }
    if !(changes.peers_added.is_empty() && changes.peers_removed.is_empty()) {
        peers.change(changes.peers_added, changes.peers_removed);
    }
}

fn say(changes: &Changes) {
    if !changes.live.is_empty() {
        tracing::info!(
            "changed in the configuration and in force: {}",
            changes.live.join(", ")
        );
    }
    if !changes.restart.is_empty() {
        tracing::warn!(
            "changed in the configuration, and in force only after a restart of this module: {}",
            changes.restart.join(", ")
        );
    }
}
