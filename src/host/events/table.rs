//! Which of the node's events this module is told of, and what it does about each. `docs/EVENTS.md` is this table.
//!
//! Not subscribed to are events that come with every message, transaction or packet of the Bitcoin network
//! (`MessageReceived`, `NewTransaction`, …): thousands a second while a node catches up, and of no use here.

use node_ipc::EventKind;

macro_rules! table {
    ($( $section:literal { $($kind:ident => $deed:literal,)* } )*) => {
        /// What is done about an event, by section and kind.
        pub const TABLE: &[(&str, &[(EventKind, &str)])] = &[
            $(($section, &[$((EventKind::$kind, $deed),)*]),)*
        ];
    };
}

table! {
    "The chain" {
        NewBlock => "look at once, and at most once a second, whether what was honoured on the chain still stands; re-price as with `FeeRateChanged`",
        BlockMined => "as `NewBlock`: the node that mined a block does not tell of it otherwise",
        BlockDisconnected => "as `NewBlock`: credit of a payment that left the best chain is taken back on the chain source's word",
        ChainReorg => "as `BlockDisconnected`",
        SoftForkActivated => "log it; whether covenants are taken is the operator's `ctv_enforced_from_height`",
        SoftForkLockedIn => "log it",
        HeadersSyncStarted => "count it",
        HeadersSyncCompleted => "as `NewBlock`",
        BlockSyncStarted => "count it",
        BlockSyncCompleted => "as `NewBlock`",
        SyncStateChanged => "as `NewBlock`",
    }
    "Payments" {
        PaymentRequestCreated => "count it: any module can tell it; this node believes its own wallet",
        PaymentSettled => "count it, as above",
        PaymentFailed => "count it, as above",
        PaymentVerified => "count it, as above; this node's own come back here",
        PaymentRouteFound => "count it, as above",
        PaymentRouteFailed => "count it, as above",
        ChannelOpened => "count it, as above",
        ChannelClosed => "count it, as above",
        ModulePurchaseCompleted => "count it, as above",
    }
    "The network" {
        PeerConnected => "tell the second carrier",
        PeerDisconnected => "tell the second carrier: its links over that peer end",
        PeerBanned => "tell the second carrier as of a lost peer; direct links stay: a neighbour is known by its key, and others may share its address",
        PeerUnbanned => "count it; `PeerConnected` follows when it comes back",
        MeshPacketReceived => "hand it to the second carrier; not subscribed to without it (`node_carrier = false`)",
        RouteDiscovered => "count it: this node's own come back here, others' prove nothing",
        RouteFailed => "count it, as above",
        ConnectionAttempt => "count it: of the Bitcoin network",
        AddressDiscovered => "count it, as above",
        AddressExpired => "count it, as above",
        NetworkPartition => "log it; the mesh has links and routes of its own",
        NetworkReconnected => "look at the chain as with `NewBlock`",
        DoSAttackDetected => "log it; the mesh has limits of its own",
        RateLimitExceeded => "count it",
    }
    "The mempool" {
        FeeRateChanged => "ask the node for its estimate and re-price by it, if `price_follows_fee_rate`",
        MempoolThresholdExceeded => "as `FeeRateChanged`",
        MempoolCleared => "as `FeeRateChanged`",
    }
    "Modules" {
        ModuleLoaded => "call its handlers again",
        ModuleStarted => "call its handlers again",
        ModuleReloaded => "call its handlers again",
        ModuleUpdated => "count it; `ModuleReloaded` says that it runs",
        ModuleUnloaded => "count it: a call that does not reach its handler shows it, and packets wait until one does. The node is not asked: while it reloads a module, a question about modules stops it",
        ModuleStopped => "as `ModuleUnloaded`",
        ModuleCrashed => "as `ModuleUnloaded`",
        ModuleRemoved => "as `ModuleUnloaded`",
        ModuleHealthChanged => "count it",
        ModuleStateChanged => "count it",
        ModuleDiscovered => "count it",
        ModuleInstalled => "count it",
    }
    "The node's life" {
        NodeStartupCompleted => "lift what `NodeShutdown` and `MaintenanceStarted` set; look at chain, disk and fee rate",
        NodeShutdown => "write down what only leases cover, and refuse new sessions as `shutting_down`; should the node live on, they are taken again half a minute after the time it named",
        NodeShutdownCompleted => "write down what only leases cover",
        ConfigLoaded => "read this module's configuration again; what can change takes effect, what needs a restart is named in the log",
    }
    "Maintenance" {
        MaintenanceStarted => "write down what only leases cover, and refuse new sessions as `maintenance`, for twice the estimated time and an hour at most",
        MaintenanceCompleted => "take new sessions again; look at the chain",
        DataMaintenance => "a flush: write down what only leases cover; a cleanup: nothing, because what may be forgotten is forgotten by itself; for want of room: look at the disk",
        DatabaseBackupStarted => "write down what only leases cover",
        DatabaseBackupCompleted => "count it",
        HealthCheck => "tell the node how this module is, with its figures",
    }
    "Resources" {
        DiskSpaceLow => "look at this module's own disk; below `least_free_disk_mib` new sessions are refused as `disk_low`, until there is half as much more",
        ResourceLimitWarning => "log it; of the disk: as `DiskSpaceLow`",
    }
}

/// The kinds of events to be told of. Mesh packets are for the second carrier alone: without it they would take the node's
/// and our time, and whoever sends them could do so at will.
pub fn subscriptions(with_second_carrier: bool) -> Vec<EventKind> {
    TABLE
        .iter()
        .flat_map(|(_, rows)| rows.iter().map(|(kind, _)| *kind))
        .filter(|kind| with_second_carrier || *kind != EventKind::MeshPacketReceived)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The table as the document has it.
    fn written() -> String {
        let mut text = String::new();
        for (section, rows) in TABLE {
            text += &format!("## {section}\n\n| event | what this module does |\n|---|---|\n");
            for (kind, deed) in *rows {
                text += &format!("| `{}` | {deed} |\n", kind.name());
            }
            text.push('\n');
        }
        text
    }

    #[test]
    fn document_says_what_is_done_about_every_event() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/EVENTS.md");
        let document = std::fs::read_to_string(path).unwrap();
        assert!(
            document.contains(written().trim_end()),
            "docs/EVENTS.md should have:\n\n{}",
            written()
        );
    }

    #[test]
    fn every_kind_is_subscribed_to_once() {
        let all = subscriptions(true);
        assert!(all.len() >= 46, "{}", all.len());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn mesh_packets_are_heard_of_only_with_the_carrier_that_takes_them() {
        let without = subscriptions(false);
        let only_with: Vec<_> = subscriptions(true)
            .into_iter()
            .filter(|kind| !without.contains(kind))
            .collect();
        assert_eq!(only_with, [EventKind::MeshPacketReceived]);
    }
}
