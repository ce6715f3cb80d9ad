use std::collections::BTreeSet;

use blvm_node::module::ipc::protocol::{EventMessage, EventPayload as TheirPayload, ModuleMessage};
use blvm_node::module::traits::EventType;
use node_ipc::message::{Decoded, decode};
use node_ipc::{DecodeError, Event, EventKind, EventPayload, Message};

use super::requests::their_kinds;
use super::{hash, same, text};

/// An event whose contents both sides call alike.
macro_rules! alike {
    ($name:ident { $($field:ident: $value:expr),* }) => {
        (EventPayload::$name { $($field: $value),* }, EventType::$name, TheirPayload::$name { $($field: $value),* })
    };
}

#[test]
fn every_kind_has_the_nodes_number_and_name() {
    let theirs: Vec<(u32, String)> = (0..)
        .zip(their_kinds().iter().map(|kind| format!("{kind:?}")))
        .collect();
    let ours: Vec<(u32, String)> = EventKind::ALL
        .iter()
        .map(|kind| (kind.number(), kind.name().to_owned()))
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 118);
}

#[test]
fn every_event_that_is_read_or_published() {
    let mut tested = BTreeSet::new();
    for (ours, event_type, payload) in events() {
        assert_eq!(format!("{event_type:?}"), ours.kind().name());
        tested.insert(ours.kind());
        same(
            &Message::Event(Event::from(ours)),
            &ModuleMessage::Event(EventMessage { event_type, payload }),
        );
    }
    assert_eq!(
        tested,
        BTreeSet::from_iter(EventPayload::KINDS.iter().copied()),
        "an event is not tested"
    );
}

#[test]
fn absent_options_too() {
    let (ours, event_type, payload) = alike!(PeerConnected {
        peer_addr: text("a"),
        transport_type: text("tcp"),
        services: 1,
        version: 2,
        peer_node_id: None
    });
    same(
        &Message::Event(Event::from(ours)),
        &ModuleMessage::Event(EventMessage { event_type, payload }),
    );
}

#[test]
fn an_event_whose_contents_are_not_read_is_known_by_its_kind() {
    let unread = [
        (
            EventType::StorageRead,
            TheirPayload::StorageRead {
                operation: text("get"),
                duration_ms: 1,
            },
        ),
        (
            EventType::DandelionFluffed,
            TheirPayload::DandelionFluffed {
                tx_hash: hash(1),
                stem_hops: 2,
            },
        ),
    ];
    for (event_type, payload) in unread {
        let bytes = bincode::serialize(&ModuleMessage::Event(EventMessage { event_type, payload })).unwrap();
        let kind = EventKind::from_name(&format!("{event_type:?}")).unwrap();
        assert_eq!(
            decode(&bytes),
            Ok(Decoded::Known(Message::Event(Event { kind, payload: None })))
        );
    }
}

/// Any module may publish any contents under any kind; the node passes it on.
#[test]
fn an_event_with_the_contents_of_another_is_not_believed() {
    let forged = EventMessage {
        event_type: EventType::ChainReorg,
        payload: TheirPayload::NewBlock {
            block_hash: hash(1),
            height: 1,
        },
    };
    let bytes = bincode::serialize(&ModuleMessage::Event(forged)).unwrap();
    assert!(matches!(decode(&bytes), Err(DecodeError::WrongPayload { .. })));
}

fn events() -> Vec<(EventPayload, EventType, TheirPayload)> {
    vec![
        alike!(NewBlock {
            block_hash: hash(1),
            height: 2007
        }),
        alike!(NewTransaction { tx_hash: hash(1) }),
        alike!(BlockDisconnected {
            hash: hash(1),
            height: 2007
        }),
        alike!(ChainReorg {
            old_tip: hash(1),
            new_tip: hash(2)
        }),
        alike!(PaymentRequestCreated {
            payment_id: text("s1"),
            amount_sats: 2007,
            invoice: Some(text("o3"))
        }),
        alike!(PaymentSettled {
            payment_id: text("s1"),
            tx_hash: hash(2),
            confirmations: 70003
        }),
        alike!(PaymentFailed {
            payment_id: text("s1"),
            reason: text("s2")
        }),
        alike!(PaymentVerified {
            payment_id: text("s1"),
            amount_msats: 2007,
            invoice: text("s3")
        }),
        alike!(PaymentRouteFound {
            payment_id: text("s1"),
            route_hops: 2007,
            route_cost_msats: 3007
        }),
        alike!(PaymentRouteFailed {
            payment_id: text("s1"),
            reason: text("s2")
        }),
        alike!(ChannelOpened {
            channel_id: text("s1"),
            peer_pubkey: vec![2, 2, 3],
            capacity_sats: 3007
        }),
        alike!(ChannelClosed {
            channel_id: text("s1"),
            reason: text("s2")
        }),
        alike!(BlockMined {
            block_hash: hash(1),
            height: 2007,
            miner_id: Some(text("o3"))
        }),
        alike!(PeerConnected {
            peer_addr: text("s1"),
            transport_type: text("s2"),
            services: 3007,
            version: 70004,
            peer_node_id: Some(vec![4; 32])
        }),
        alike!(PeerDisconnected {
            peer_addr: text("s1"),
            reason: text("s2")
        }),
        alike!(PeerBanned {
            peer_addr: text("s1"),
            reason: text("s2"),
            ban_duration_seconds: 3007
        }),
        alike!(PeerUnbanned {
            peer_addr: text("s1")
        }),
        alike!(MessageReceived {
            peer_addr: text("s1"),
            message_type: text("s2"),
            message_size: 3007,
            protocol_version: 70004
        }),
        alike!(MessageSent {
            peer_addr: text("s1"),
            message_type: text("s2"),
            message_size: 3007
        }),
        alike!(BroadcastStarted {
            message_type: text("s1"),
            target_peers: 2007
        }),
        alike!(BroadcastCompleted {
            message_type: text("s1"),
            successful: 2007,
            failed: 3007
        }),
        alike!(RouteDiscovered {
            destination: vec![1, 2, 3],
            route_path: vec![text("a2"), text("")],
            route_cost: 3007
        }),
        alike!(RouteFailed {
            destination: vec![1, 2, 3],
            reason: text("s2")
        }),
        alike!(ConnectionAttempt {
            peer_addr: text("s1"),
            success: true,
            error: Some(text("o3"))
        }),
        alike!(AddressDiscovered {
            peer_addr: text("s1"),
            source: text("s2")
        }),
        alike!(AddressExpired {
            peer_addr: text("s1")
        }),
        alike!(NetworkPartition {
            partition_id: vec![1, 2, 3],
            disconnected_peers: vec![text("a2"), text("")],
            partition_size: 3007
        }),
        alike!(NetworkReconnected {
            partition_id: vec![1, 2, 3],
            reconnected_peers: vec![text("a2"), text("")]
        }),
        alike!(DoSAttackDetected {
            peer_addr: text("s1"),
            attack_type: text("s2"),
            severity: text("s3")
        }),
        alike!(RateLimitExceeded {
            peer_addr: text("s1"),
            limit_type: text("s2"),
            current_rate: 3.5,
            limit: 4.5
        }),
        alike!(BlockValidationStarted {
            block_hash: hash(1),
            height: 2007
        }),
        alike!(BlockValidationCompleted {
            block_hash: hash(1),
            height: 2007,
            success: true,
            validation_time_ms: 4007,
            error: Some(text("o5"))
        }),
        alike!(SoftForkActivated {
            fork_name: text("s1"),
            height: 2007
        }),
        alike!(SoftForkLockedIn {
            fork_name: text("s1"),
            height: 2007
        }),
        alike!(HeadersSyncStarted { start_height: 1007 }),
        alike!(HeadersSyncProgress {
            current_height: 1007,
            target_height: 2007,
            progress_percent: 3.5
        }),
        alike!(HeadersSyncCompleted {
            final_height: 1007,
            duration_seconds: 2007
        }),
        alike!(BlockSyncStarted {
            start_height: 1007,
            target_height: 2007
        }),
        alike!(BlockSyncProgress {
            current_height: 1007,
            target_height: 2007,
            progress_percent: 3.5,
            blocks_per_second: 4.5
        }),
        alike!(BlockSyncCompleted {
            final_height: 1007,
            duration_seconds: 2007
        }),
        alike!(SyncStateChanged {
            old_state: text("s1"),
            new_state: text("s2")
        }),
        alike!(MempoolTransactionAdded {
            tx_hash: hash(1),
            fee_rate: 2.5,
            mempool_size: 3007
        }),
        alike!(MempoolTransactionRemoved {
            tx_hash: hash(1),
            reason: text("s2"),
            mempool_size: 3007
        }),
        alike!(MempoolThresholdExceeded {
            current_size: 1007,
            threshold: 2007
        }),
        alike!(FeeRateChanged {
            old_fee_rate: 1.5,
            new_fee_rate: 2.5,
            mempool_size: 3007
        }),
        alike!(MempoolCleared { cleared_count: 1007 }),
        alike!(ModuleLoaded {
            module_name: text("s1"),
            version: text("s2")
        }),
        alike!(ModuleUnloaded {
            module_name: text("s1"),
            version: text("s2")
        }),
        alike!(ModuleReloaded {
            module_name: text("s1"),
            old_version: text("s2"),
            new_version: text("s3")
        }),
        alike!(ModuleStarted {
            module_name: text("s1")
        }),
        alike!(ModuleStopped {
            module_name: text("s1")
        }),
        alike!(MeshPacketReceived {
            packet_data: vec![1, 2, 3],
            peer_addr: text("s2")
        }),
        alike!(ModuleCrashed {
            module_name: text("s1"),
            error: text("s2")
        }),
        alike!(ModuleHealthChanged {
            module_name: text("s1"),
            old_health: text("s2"),
            new_health: text("s3")
        }),
        alike!(ModuleStateChanged {
            module_name: text("s1"),
            old_state: text("s2"),
            new_state: text("s3")
        }),
        alike!(ConfigLoaded {
            changed_sections: vec![text("a1"), text("")],
            config_json: Some(text("o2"))
        }),
        alike!(NodeShutdown {
            reason: text("s1"),
            timeout_seconds: 2007
        }),
        alike!(NodeShutdownCompleted { duration_ms: 1007 }),
        alike!(NodeStartupCompleted {
            duration_ms: 1007,
            components: vec![text("a2"), text("")]
        }),
        alike!(MaintenanceStarted {
            maintenance_type: text("s1"),
            estimated_duration_seconds: Some(2)
        }),
        alike!(MaintenanceCompleted {
            maintenance_type: text("s1"),
            success: true,
            duration_ms: 3007,
            results: Some(text("o4"))
        }),
        alike!(DataMaintenance {
            operation: text("s1"),
            urgency: text("s2"),
            reason: text("s3"),
            target_age_days: Some(4),
            timeout_seconds: Some(5)
        }),
        alike!(HealthCheck {
            check_type: text("s1"),
            node_healthy: true,
            health_report: Some(text("o3"))
        }),
        alike!(DiskSpaceLow {
            available_bytes: 1007,
            total_bytes: 2007,
            percent_free: 3.5,
            disk_path: text("s4")
        }),
        alike!(ResourceLimitWarning {
            resource_type: text("s1"),
            usage_percent: 2.5,
            current_usage: 3007,
            limit: 4007,
            threshold_percent: 5.5
        }),
        alike!(ModulePurchaseCompleted {
            module_id: text("s1"),
            payment_id: text("s2"),
            amount_sats: 3007
        }),
        alike!(ModuleDiscovered {
            module_name: text("s1"),
            version: text("s2"),
            source: text("s3")
        }),
        alike!(ModuleInstalled {
            module_name: text("s1"),
            version: text("s2")
        }),
        alike!(ModuleUpdated {
            module_name: text("s1"),
            old_version: text("s2"),
            new_version: text("s3")
        }),
        alike!(ModuleRemoved {
            module_name: text("s1"),
            version: text("s2")
        }),
        alike!(PeerPayment {
            command: text("s1"),
            payload: vec![2, 2, 3],
            peer_addr: text("s3")
        }),
    ]
}
