//! What follows from an event. Decides, and does nothing.
//!
//! Any module of a node can publish any event. So an event is a reason to look, to write down or to refuse something for a
//! bounded time, and never a reason to believe that somebody paid, that a disk is full or that a block is gone: those who
//! know are asked.

use std::time::Duration;

use mesh_core::pause::Pause;
use mesh_core::spending::ModuleName;
use node_ipc::{Event, EventKind, EventPayload};

/// Longest time for which the word of a node that maintenance began holds back new sessions.
const LONGEST_MAINTENANCE: Duration = Duration::from_secs(3600);

/// The same when it does not say how long it will take.
const USUAL_MAINTENANCE: Duration = Duration::from_secs(600);

/// Longest time that a node may say its shutdown takes.
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(600);

/// A node that lives this much longer than its shutdown was to take is not being stopped.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// See whether what was honoured on the chain still stands.
    RecheckChain,
    /// See whether the price still fits the fee rate.
    Reprice,
    /// Make durable what only leases cover.
    Flush,
    /// Measure the room on the disk.
    LookAtDisk,
    /// Tell the node how this module is.
    ReportHealth,
    /// Read the configuration again.
    Reload,
    /// Refuse new sessions, for so long at the most.
    Refuse(Pause, Duration),
    /// Take new sessions again, as far as this cause goes.
    Accept(Pause),
    /// A module is there, perhaps again.
    ModuleCame(String),
    /// The node has a peer.
    PeerCame(String),
    /// The node lost a peer.
    PeerWent(String),
    /// A mesh packet came from a peer of the node; the event has it.
    Carry,
    /// The operator should see it in the log.
    Say(String),
}

/// What follows from an event. `own_name` is this module's name.
pub(super) fn decide(event: &Event, own_name: &str) -> Vec<Action> {
    use Action::*;
    match &event.payload {
        Some(payload) => from_payload(payload, own_name),
        None => match event.kind {
            EventKind::DatabaseBackupStarted => vec![Flush],
            _ => Vec::new(),
        },
    }
}

fn from_payload(payload: &EventPayload, own_name: &str) -> Vec<Action> {
    use Action::*;
    match payload {
        // The node tells of fee rates only when its mempool overflows, and a price that rose then would never fall again.
        EventPayload::NewBlock { .. } | EventPayload::BlockMined { .. } => vec![RecheckChain, Reprice],
        EventPayload::BlockDisconnected { .. }
        | EventPayload::ChainReorg { .. }
        | EventPayload::HeadersSyncCompleted { .. }
        | EventPayload::BlockSyncCompleted { .. }
        | EventPayload::SyncStateChanged { .. }
        | EventPayload::NetworkReconnected { .. } => vec![RecheckChain],
        EventPayload::FeeRateChanged { .. }
        | EventPayload::MempoolThresholdExceeded { .. }
        | EventPayload::MempoolCleared { .. } => vec![Reprice],
        EventPayload::PeerConnected { peer_addr, .. } => vec![PeerCame(peer_addr.clone())],
        EventPayload::PeerDisconnected { peer_addr, .. } | EventPayload::PeerBanned { peer_addr, .. } => {
            vec![PeerWent(peer_addr.clone())]
        }
        EventPayload::MeshPacketReceived { .. } => vec![Carry],
        EventPayload::ModuleLoaded { module_name, .. }
        | EventPayload::ModuleStarted { module_name }
        | EventPayload::ModuleReloaded { module_name, .. } => of_another(module_name, own_name, ModuleCame),
        EventPayload::NodeStartupCompleted { .. } => vec![
            Accept(Pause::ShuttingDown),
            Accept(Pause::Maintenance),
            RecheckChain,
            LookAtDisk,
            Reprice,
        ],
        EventPayload::NodeShutdown { timeout_seconds, .. } => {
            let named = Duration::from_secs(*timeout_seconds).min(LONGEST_SHUTDOWN);
            vec![Flush, Refuse(Pause::ShuttingDown, named + SHUTDOWN_GRACE)]
        }
        EventPayload::NodeShutdownCompleted { .. } => vec![Flush],
        EventPayload::ConfigLoaded { .. } => vec![Reload],
        EventPayload::MaintenanceStarted {
            estimated_duration_seconds,
            ..
        } => vec![
            Flush,
            Refuse(Pause::Maintenance, maintenance(*estimated_duration_seconds)),
        ],
        EventPayload::MaintenanceCompleted { .. } => vec![Accept(Pause::Maintenance), RecheckChain],
        EventPayload::DataMaintenance {
            operation, reason, ..
        } => data_maintenance(operation, reason),
        EventPayload::HealthCheck { .. } => vec![ReportHealth],
        EventPayload::DiskSpaceLow { .. } => vec![LookAtDisk],
        EventPayload::ResourceLimitWarning {
            resource_type,
            usage_percent,
            ..
        } => resource(resource_type, *usage_percent),
        EventPayload::SoftForkActivated { fork_name, height } => {
            vec![Say(format!(
                "soft fork {fork_name} is active from height {height}"
            ))]
        }
        EventPayload::SoftForkLockedIn { fork_name, height } => {
            vec![Say(format!(
                "soft fork {fork_name} is locked in at height {height}"
            ))]
        }
        EventPayload::NetworkPartition {
            disconnected_peers, ..
        } => vec![Say(format!(
            "the node lost {} of its peers at once",
            disconnected_peers.len()
        ))],
        EventPayload::DoSAttackDetected {
            peer_addr,
            attack_type,
            ..
        } => vec![Say(format!("the node is attacked by {peer_addr}: {attack_type}"))],
        // Hints at the most, and none that would change what is done anyway.
        _ => Vec::new(),
    }
}

fn of_another(name: &str, own_name: &str, action: impl Fn(String) -> Action) -> Vec<Action> {
    // What cannot be a module's name has no handlers, and may be long: whoever publishes events makes it up.
    if name == own_name || ModuleName::new(name).is_err() {
        return Vec::new();
    }
    vec![action(name.to_owned())]
}

/// Twice the estimate: work takes longer than one thinks.
fn maintenance(estimated_seconds: Option<u64>) -> Duration {
    estimated_seconds
        .map_or(USUAL_MAINTENANCE, |seconds| {
            Duration::from_secs(seconds.saturating_mul(2))
        })
        .min(LONGEST_MAINTENANCE)
}

fn data_maintenance(operation: &str, reason: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    if matches!(operation, "flush" | "both") {
        actions.push(Action::Flush);
    }
    if reason == "low_disk" {
        actions.push(Action::LookAtDisk);
    }
    actions
}

fn resource(resource_type: &str, usage_percent: f64) -> Vec<Action> {
    let mut actions = vec![Action::Say(format!(
        "the node uses {usage_percent:.0} % of its {resource_type}"
    ))];
    if resource_type == "disk" {
        actions.push(Action::LookAtDisk);
    }
    actions
}

#[cfg(test)]
mod tests;
