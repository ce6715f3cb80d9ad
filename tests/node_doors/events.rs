//! Events of the node, over a real socket, at a real mesh node.

use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Command};
use node_ipc::testing::FakeAnswer;
use node_ipc::{EventPayload, ModuleHealth, Request, Response};

use crate::common::eventually;
use crate::stage::Stage;

fn maintenance_started() -> EventPayload {
    EventPayload::MaintenanceStarted {
        maintenance_type: "backup".to_owned(),
        estimated_duration_seconds: Some(60),
    }
}

fn maintenance_completed() -> EventPayload {
    EventPayload::MaintenanceCompleted {
        maintenance_type: "backup".to_owned(),
        success: true,
        duration_ms: 1,
        results: None,
    }
}

fn shutdown() -> EventPayload {
    EventPayload::NodeShutdown {
        reason: "rpc".to_owned(),
        timeout_seconds: 30,
    }
}

fn started() -> EventPayload {
    EventPayload::NodeStartupCompleted {
        duration_ms: 1,
        components: Vec::new(),
    }
}

fn fee_rate_changed() -> EventPayload {
    EventPayload::FeeRateChanged {
        old_fee_rate: 1.0,
        new_fee_rate: 1_000_000.0,
        mempool_size: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_refuses_new_sessions_by_name_until_it_is_completed() {
    let stage = Stage::new("").await;
    stage.happens(maintenance_started()).await;
    stage.until_refusing(&[DropReason::Maintenance.as_str()]).await;
    stage.happens(maintenance_completed()).await;
    stage.until_refusing(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_node_is_believed_until_it_starts_or_takes_us_in_again() {
    let stage = Stage::new("").await;
    stage.happens(shutdown()).await;
    stage.until_refusing(&[DropReason::ShuttingDown.as_str()]).await;
    stage.happens(started()).await;
    stage.until_refusing(&[]).await;

    let stage = Stage::new("").await;
    stage.happens(shutdown()).await;
    stage.until_refusing(&[DropReason::ShuttingDown.as_str()]).await;
    stage.node.close_all();
    stage.until_refusing(&[]).await;
    assert!(stage.client.is_connected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_payments_and_routes_change_no_book_and_no_status() {
    let stage = Stage::new("").await;
    let before = eventually("the node to have announced itself", async || {
        let status = stage.mesh.status().await;
        (status.announced_nodes == 1).then_some(status)
    })
    .await;
    for number in 0..50 {
        let payment_id = hex::encode([number; 32]);
        stage
            .happens(EventPayload::PaymentVerified {
                payment_id: payment_id.clone(),
                amount_msats: 1_000_000,
                invoice: "lnbcrt1".to_owned(),
            })
            .await;
        stage
            .happens(EventPayload::PaymentSettled {
                payment_id,
                tx_hash: [number; 32],
                confirmations: 100,
            })
            .await;
        stage
            .happens(EventPayload::RouteDiscovered {
                destination: vec![number; 32],
                route_path: vec!["192.0.2.1:8334".to_owned()],
                route_cost: 0,
            })
            .await;
    }
    stage.arrived("RouteDiscovered", 50).await;
    stage.arrived("PaymentSettled", 50).await;
    assert_eq!(stage.mesh.status().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn price_follows_what_the_node_says_when_asked_and_not_what_the_event_says() {
    let config = "[host]\nprice_follows_fee_rate = true\nprice_reference_sat_per_vbyte = 10";
    let answer = |request: &Request| match request {
        Request::GetFeeEstimate { .. } => Some(FakeAnswer::Reply(Response::FeeEstimate(20))),
        _ => None,
    };
    let stage = Stage::beside(config, |node| node.answer_with(answer)).await;
    for _ in 0..500 {
        stage.happens(fee_rate_changed()).await;
    }
    eventually("the new price", async || {
        (stage.mesh.status().await.price_msat_per_unit == 20).then_some(())
    })
    .await;
    stage.arrived("FeeRateChanged", 1).await;
    assert!(
        stage.node.asked("GetFeeEstimate") <= 2,
        "a storm is one question, and one when the connection was new"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn price_stays_where_nobody_said_that_it_follows() {
    let stage = Stage::new("").await;
    stage.happens(fee_rate_changed()).await;
    stage.happens(maintenance_started()).await;
    stage.until_refusing(&[DropReason::Maintenance.as_str()]).await;
    assert_eq!(stage.mesh.status().await.price_msat_per_unit, 10);
    assert_eq!(stage.node.asked("GetFeeEstimate"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_check_is_answered_with_what_is() {
    let stage = Stage::new("").await;
    let begun = std::time::Instant::now();
    for _ in 0..200 {
        stage
            .happens(EventPayload::HealthCheck {
                check_type: "periodic".to_owned(),
                node_healthy: true,
                health_report: None,
            })
            .await;
    }
    stage
        .node
        .until("a report with its figures", |node| {
            node.asked("ReportMetric") >= 7
        })
        .await;
    let reported = |request: &Request| {
        matches!(
            request,
            Request::ReportModuleHealth {
                health: ModuleHealth::Healthy
            }
        )
    };
    let requests = stage.node.requests();
    let reports = requests.iter().filter(|request| reported(request)).count() as u64;
    assert!(
        (1..=1 + begun.elapsed().as_secs() / 5).contains(&reports),
        "a storm is one report, and one in five seconds"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_calls_modules_hears_of_those_that_come_and_not_of_what_anybody_says_went() {
    let stage = Stage::new("").await;
    for module_name in ["there", "gone", "blvm-mesh"] {
        stage
            .happens(EventPayload::ModuleStopped {
                module_name: module_name.to_owned(),
            })
            .await;
    }
    stage
        .happens(EventPayload::ModuleLoaded {
            module_name: "zzz".to_owned(),
            version: "1".to_owned(),
        })
        .await;
    eventually("word of the module", async || {
        (!stage.modules.all().is_empty()).then_some(())
    })
    .await;
    assert_eq!(stage.modules.all(), ["module zzz came"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_and_their_packets_reach_the_second_carrier() {
    let stage = Stage::new("").await;
    let peer_addr = "192.0.2.1:8333".to_owned();
    stage
        .happens(EventPayload::PeerConnected {
            peer_addr: peer_addr.clone(),
            transport_type: "tcp".to_owned(),
            services: 0,
            version: 70016,
            peer_node_id: None,
        })
        .await;
    stage
        .happens(EventPayload::MeshPacketReceived {
            packet_data: vec![1; 30],
            peer_addr: peer_addr.clone(),
        })
        .await;
    stage
        .happens(EventPayload::PeerBanned {
            peer_addr,
            reason: "spam".to_owned(),
            ban_duration_seconds: 5,
        })
        .await;
    stage.arrived("PeerBanned", 1).await;
    assert_eq!(
        stage.carrier.all(),
        [
            "node is back",
            "came 192.0.2.1:8333",
            "packet of 30 from 192.0.2.1:8333",
            "went 192.0.2.1:8333"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_that_is_said_to_be_low_is_looked_at_and_nothing_is_refused_for_it() {
    let stage = Stage::new("").await;
    stage
        .happens(EventPayload::DiskSpaceLow {
            available_bytes: 0,
            total_bytes: 1,
            percent_free: 0.0,
            disk_path: "/".to_owned(),
        })
        .await;
    tokio::time::timeout(crate::common::PATIENCE, stage.disk.notified())
        .await
        .unwrap();
    assert_eq!(stage.refuses().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_read_again_and_a_broken_one_changes_nothing() {
    let stage = Stage::new("").await;
    let changed = || EventPayload::ConfigLoaded {
        changed_sections: vec!["modules".to_owned()],
        config_json: None,
    };
    *stage.file.lock().unwrap() = "[mesh]\nprice_msat_per_unit = oops".to_owned();
    stage.happens(changed()).await;
    stage.arrived("ConfigLoaded", 1).await;
    let text = "[mesh]\nprice_msat_per_unit = 77\nmax_peers = 5\n[[mesh.peers]]\naddress = \"192.0.2.1:1\"\n\
        node_id = \"0101010101010101010101010101010101010101010101010101010101010101\"";
    *stage.file.lock().unwrap() = text.to_owned();
    stage.happens(changed()).await;
    eventually("the new price", async || {
        (stage.mesh.status().await.price_msat_per_unit == 77).then_some(())
    })
    .await;
    eventually("the new neighbour", async || {
        (stage.neighbours.all() == ["1 neighbours added, 0 removed"]).then_some(())
    })
    .await;
    let config = stage.config.lock().unwrap();
    assert_eq!(config.mesh.price_msat_per_unit, 77);
    assert_ne!(config.mesh.max_peers, 5, "that needs a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storm_of_events_leaves_the_node_answering_and_within_its_requests() {
    let stage = Stage::new("").await;
    for height in 0..3000 {
        stage
            .happens(EventPayload::NewBlock {
                block_hash: [7; 32],
                height,
            })
            .await;
    }
    stage.happens(maintenance_started()).await;
    stage.until_refusing(&[DropReason::Maintenance.as_str()]).await;
    assert!(matches!(
        stage.mesh.node.handle().command(Command::Status).await,
        Ok(Answer::Status(_))
    ));
    assert!(
        stage.node.most_in_a_second() <= 90,
        "{}",
        stage.node.most_in_a_second()
    );
}
