//! What events say: those that a mesh reads or publishes. An event of another kind arrives without contents.

use crate::chain::Hash;
use crate::codec::choice;
use crate::event_kind::EventKind;

macro_rules! payloads {
    ($($number:literal => $kind:ident { $($fields:tt)* }),* $(,)?) => {
        choice! {
            /// An event's contents. Each variant is called what its kind is called; its number is another.
            pub enum EventPayload as "event payload" {
                $($number => $kind { $($fields)* }),*
            }
        }

        impl EventPayload {
            /// The kind of event these are the contents of.
            pub fn kind(&self) -> EventKind {
                match self { $(Self::$kind { .. } => EventKind::$kind),* }
            }

            /// The kinds whose contents are read.
            pub const KINDS: &'static [EventKind] = &[$(EventKind::$kind),*];
        }
    };
}

payloads! {
    // The chain.
    0 => NewBlock { block_hash: Hash, height: u64 },
    1 => NewTransaction { tx_hash: Hash },
    2 => BlockDisconnected { hash: Hash, height: u64 },
    3 => ChainReorg { old_tip: Hash, new_tip: Hash },
    // Payments, as other modules tell of them: hints, never proof.
    4 => PaymentRequestCreated { payment_id: String, amount_sats: u64, invoice: Option<String> },
    5 => PaymentSettled { payment_id: String, tx_hash: Hash, confirmations: u32 },
    6 => PaymentFailed { payment_id: String, reason: String },
    7 => PaymentVerified { payment_id: String, amount_msats: u64, invoice: String },
    8 => PaymentRouteFound { payment_id: String, route_hops: u64, route_cost_msats: u64 },
    9 => PaymentRouteFailed { payment_id: String, reason: String },
    10 => ChannelOpened { channel_id: String, peer_pubkey: Vec<u8>, capacity_sats: u64 },
    11 => ChannelClosed { channel_id: String, reason: String },
    // Mining.
    12 => BlockMined { block_hash: Hash, height: u64, miner_id: Option<String> },
    // The network.
    26 => PeerConnected {
        peer_addr: String,
        transport_type: String,
        services: u64,
        version: u32,
        peer_node_id: Option<Vec<u8>>,
    },
    27 => PeerDisconnected { peer_addr: String, reason: String },
    28 => PeerBanned { peer_addr: String, reason: String, ban_duration_seconds: u64 },
    29 => PeerUnbanned { peer_addr: String },
    30 => MessageReceived {
        peer_addr: String, message_type: String, message_size: u64, protocol_version: u32,
    },
    31 => MessageSent { peer_addr: String, message_type: String, message_size: u64 },
    32 => BroadcastStarted { message_type: String, target_peers: u64 },
    33 => BroadcastCompleted { message_type: String, successful: u64, failed: u64 },
    34 => RouteDiscovered { destination: Vec<u8>, route_path: Vec<String>, route_cost: u64 },
    35 => RouteFailed { destination: Vec<u8>, reason: String },
    36 => ConnectionAttempt { peer_addr: String, success: bool, error: Option<String> },
    37 => AddressDiscovered { peer_addr: String, source: String },
    38 => AddressExpired { peer_addr: String },
    39 => NetworkPartition {
        partition_id: Vec<u8>, disconnected_peers: Vec<String>, partition_size: u64,
    },
    40 => NetworkReconnected { partition_id: Vec<u8>, reconnected_peers: Vec<String> },
    41 => DoSAttackDetected { peer_addr: String, attack_type: String, severity: String },
    42 => RateLimitExceeded { peer_addr: String, limit_type: String, current_rate: f64, limit: f64 },
    43 => BlockValidationStarted { block_hash: Hash, height: u64 },
    44 => BlockValidationCompleted {
        block_hash: Hash, height: u64, success: bool, validation_time_ms: u64, error: Option<String>,
    },
    // Consensus.
    50 => SoftForkActivated { fork_name: String, height: u64 },
    51 => SoftForkLockedIn { fork_name: String, height: u64 },
    // Catching up.
    53 => HeadersSyncStarted { start_height: u64 },
    54 => HeadersSyncProgress { current_height: u64, target_height: u64, progress_percent: f64 },
    55 => HeadersSyncCompleted { final_height: u64, duration_seconds: u64 },
    56 => BlockSyncStarted { start_height: u64, target_height: u64 },
    57 => BlockSyncProgress {
        current_height: u64, target_height: u64, progress_percent: f64, blocks_per_second: f64,
    },
    58 => BlockSyncCompleted { final_height: u64, duration_seconds: u64 },
    59 => SyncStateChanged { old_state: String, new_state: String },
    // The mempool.
    60 => MempoolTransactionAdded { tx_hash: Hash, fee_rate: f64, mempool_size: u64 },
    61 => MempoolTransactionRemoved { tx_hash: Hash, reason: String, mempool_size: u64 },
    62 => MempoolThresholdExceeded { current_size: u64, threshold: u64 },
    63 => FeeRateChanged { old_fee_rate: f64, new_fee_rate: f64, mempool_size: u64 },
    64 => MempoolCleared { cleared_count: u64 },
    // Modules.
    70 => ModuleLoaded { module_name: String, version: String },
    71 => ModuleUnloaded { module_name: String, version: String },
    72 => ModuleReloaded { module_name: String, old_version: String, new_version: String },
    73 => ModuleStarted { module_name: String },
    74 => ModuleStopped { module_name: String },
    // Mesh frames of the node's own network.
    75 => MeshPacketReceived { packet_data: Vec<u8>, peer_addr: String },
    // Modules.
    77 => ModuleCrashed { module_name: String, error: String },
    78 => ModuleHealthChanged { module_name: String, old_health: String, new_health: String },
    79 => ModuleStateChanged { module_name: String, old_state: String, new_state: String },
    // Configuration.
    80 => ConfigLoaded { changed_sections: Vec<String>, config_json: Option<String> },
    // The node's life.
    81 => NodeShutdown { reason: String, timeout_seconds: u64 },
    82 => NodeShutdownCompleted { duration_ms: u64 },
    83 => NodeStartupCompleted { duration_ms: u64, components: Vec<String> },
    // Maintenance.
    84 => MaintenanceStarted { maintenance_type: String, estimated_duration_seconds: Option<u64> },
    85 => MaintenanceCompleted {
        maintenance_type: String, success: bool, duration_ms: u64, results: Option<String>,
    },
    86 => DataMaintenance {
        operation: String,
        urgency: String,
        reason: String,
        target_age_days: Option<u64>,
        timeout_seconds: Option<u64>,
    },
    87 => HealthCheck { check_type: String, node_healthy: bool, health_report: Option<String> },
    // Resources.
    88 => DiskSpaceLow { available_bytes: u64, total_bytes: u64, percent_free: f64, disk_path: String },
    89 => ResourceLimitWarning {
        resource_type: String,
        usage_percent: f64,
        current_usage: u64,
        limit: u64,
        threshold_percent: f64,
    },
    // Purchases of modules.
    109 => ModulePurchaseCompleted { module_id: String, payment_id: String, amount_sats: u64 },
    // The registry of modules.
    113 => ModuleDiscovered { module_name: String, version: String, source: String },
    114 => ModuleInstalled { module_name: String, version: String },
    115 => ModuleUpdated { module_name: String, old_version: String, new_version: String },
    116 => ModuleRemoved { module_name: String, version: String },
    // Payment messages of peers.
    117 => PeerPayment { command: String, payload: Vec<u8>, peer_addr: String },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// What exactly; `None` for kinds whose contents a mesh has no use for.
    pub payload: Option<EventPayload>,
}

impl From<EventPayload> for Event {
    fn from(payload: EventPayload) -> Self {
        Self {
            kind: payload.kind(),
            payload: Some(payload),
        }
    }
}
