use super::*;
use crate::host::events::table::TABLE;

const OWN: &str = "blvm-mesh";

fn follows(payload: EventPayload) -> Vec<Action> {
    decide(&Event::from(payload), OWN)
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn every_change_of_the_chain_has_what_was_honoured_looked_at() {
    let hash = [1; 32];
    for payload in [
        EventPayload::NewBlock {
            block_hash: hash,
            height: 7,
        },
        EventPayload::BlockMined {
            block_hash: hash,
            height: 7,
            miner_id: None,
        },
        EventPayload::BlockDisconnected { hash, height: 7 },
        EventPayload::ChainReorg {
            old_tip: hash,
            new_tip: [2; 32],
        },
    ] {
        let looked_at = follows(payload);
        assert_eq!(looked_at.first(), Some(&Action::RecheckChain));
    }
}

#[test]
fn price_follows_fee_rates_down_again_with_the_blocks() {
    let mined = EventPayload::NewBlock {
        block_hash: [1; 32],
        height: 7,
    };
    assert!(follows(mined).contains(&Action::Reprice));
}

#[test]
fn payments_that_other_modules_tell_of_change_nothing() {
    for payload in [
        EventPayload::PaymentRequestCreated {
            payment_id: text("x"),
            amount_sats: u64::MAX,
            invoice: Some(text("lnbc1")),
        },
        EventPayload::PaymentSettled {
            payment_id: text("x"),
            tx_hash: [0; 32],
            confirmations: 100,
        },
        EventPayload::PaymentVerified {
            payment_id: text("x"),
            amount_msats: u64::MAX,
            invoice: text("lnbc1"),
        },
        EventPayload::PaymentFailed {
            payment_id: text("x"),
            reason: text("no"),
        },
        EventPayload::ModulePurchaseCompleted {
            module_id: text("m"),
            payment_id: text("x"),
            amount_sats: 1,
        },
        EventPayload::RouteDiscovered {
            destination: vec![1; 32],
            route_path: vec![text("here")],
            route_cost: 0,
        },
        EventPayload::PeerUnbanned {
            peer_addr: text("192.0.2.1:8333"),
        },
    ] {
        assert_eq!(follows(payload.clone()), [], "{payload:?}");
    }
}

#[test]
fn no_event_pauses_a_node_for_ever() {
    let shutdown = |timeout_seconds| EventPayload::NodeShutdown {
        reason: text("forged"),
        timeout_seconds,
    };
    let started = |estimated_duration_seconds| EventPayload::MaintenanceStarted {
        maintenance_type: text("forged"),
        estimated_duration_seconds,
    };
    for (payload, most) in [
        (shutdown(0), 30),
        (shutdown(60), 90),
        (shutdown(u64::MAX), 630),
        (started(None), 600),
        (started(Some(60)), 120),
        (started(Some(u64::MAX)), 3600),
    ] {
        let actions = follows(payload);
        let [Action::Flush, Action::Refuse(_, time)] = actions.as_slice() else {
            panic!("{actions:?}");
        };
        assert_eq!(time.as_secs(), most);
    }
}

#[test]
fn what_a_started_node_lifts_is_what_a_stopping_or_maintained_one_set() {
    let lifted = follows(EventPayload::NodeStartupCompleted {
        duration_ms: 1,
        components: vec![],
    });
    for pause in [Pause::ShuttingDown, Pause::Maintenance] {
        assert!(lifted.contains(&Action::Accept(pause)));
    }
    let completed = follows(EventPayload::MaintenanceCompleted {
        maintenance_type: text("backup"),
        success: false,
        duration_ms: 1,
        results: None,
    });
    assert_eq!(
        completed,
        [Action::Accept(Pause::Maintenance), Action::RecheckChain]
    );
}

#[test]
fn data_maintenance_flushes_or_looks_at_the_disk_and_deletes_nothing() {
    let follows = |operation: &str, reason: &str| {
        follows(EventPayload::DataMaintenance {
            operation: text(operation),
            urgency: text("high"),
            reason: text(reason),
            target_age_days: Some(0),
            timeout_seconds: Some(1),
        })
    };
    assert_eq!(follows("flush", "shutdown"), [Action::Flush]);
    assert_eq!(follows("both", "low_disk"), [Action::Flush, Action::LookAtDisk]);
    assert_eq!(follows("cleanup", "periodic"), []);
    assert_eq!(follows("cleanup", "low_disk"), [Action::LookAtDisk]);
}

#[test]
fn a_disk_that_is_said_to_be_low_is_looked_at_and_not_believed() {
    let low = EventPayload::DiskSpaceLow {
        available_bytes: 0,
        total_bytes: 1,
        percent_free: 0.0,
        disk_path: text("/"),
    };
    assert_eq!(follows(low), [Action::LookAtDisk]);
}

#[test]
fn modules_come_and_this_one_does_not_mean_itself() {
    let loaded = |name: &str| {
        follows(EventPayload::ModuleLoaded {
            module_name: text(name),
            version: text("1"),
        })
    };
    assert_eq!(loaded("chat"), [Action::ModuleCame(text("chat"))]);
    assert_eq!(loaded(OWN), []);
}

/// The node answers no question about modules while it reloads one, and being asked stops it for good.
#[test]
fn news_that_a_module_went_has_nobody_asked_and_nothing_held_back() {
    let module_name = || text("chat");
    let news = [
        EventPayload::ModuleStopped {
            module_name: module_name(),
        },
        EventPayload::ModuleUnloaded {
            module_name: module_name(),
            version: text("1"),
        },
        EventPayload::ModuleCrashed {
            module_name: module_name(),
            error: text("killed"),
        },
    ];
    for event in news {
        assert_eq!(follows(event), []);
    }
}

#[test]
fn a_banned_peer_is_lost_to_the_second_carrier_only() {
    let banned = follows(EventPayload::PeerBanned {
        peer_addr: text("192.0.2.1:8333"),
        reason: text("spam"),
        ban_duration_seconds: 1,
    });
    assert_eq!(banned, [Action::PeerWent(text("192.0.2.1:8333"))]);
}

/// Kinds that say something but whose contents are not read follow from the kind alone.
#[test]
fn what_only_counts_does_nothing_even_without_contents() {
    for (_, rows) in TABLE {
        for (kind, deed) in *rows {
            let actions = decide(
                &Event {
                    kind: *kind,
                    payload: None,
                },
                OWN,
            );
            if deed.starts_with("count it") {
                assert_eq!(actions, [], "{kind:?}");
            }
        }
    }
    let backup = Event {
        kind: EventKind::DatabaseBackupStarted,
        payload: None,
    };
    assert_eq!(decide(&backup, OWN), [Action::Flush]);
}
