//! What a node says to its module beyond calls of its API, and what it is told.

use mesh_core::drop_reason::DropReason;
use node_ipc::testing::FakeNode;
use node_ipc::{EventKind, EventPayload, InvocationAnswer, InvocationKind, Request};
use serde_json::{Value, json};

use crate::common::eventually;
use crate::process::{Home, Module};

/// A running module beside a node that knows all its doors.
async fn running(home: &Home, more: &[(&str, &str)]) -> (FakeNode, Module) {
    let node = home.node();
    let module = home.spawn(more);
    node.until("all doors", |node| {
        node.asked("RegisterCliSpec") == 1 && node.asked("RegisterRpcEndpoint") == 4
    })
    .await;
    home.until_it_runs().await;
    (node, module)
}

/// What the module asked to be told of.
fn subscribed(node: &FakeNode) -> Vec<EventKind> {
    let found = node.requests().into_iter().find_map(|request| match request {
        Request::SubscribeEvents { event_types } => Some(event_types),
        _ => None,
    });
    found.unwrap()
}

async fn command(node: &FakeNode, subcommand: &str, args: &[&str]) -> (String, String, i32) {
    let kind = InvocationKind::Cli {
        subcommand: subcommand.to_owned(),
        args: args.iter().map(ToString::to_string).collect(),
    };
    match node.invoke(kind).await.unwrap() {
        InvocationAnswer::Cli {
            stdout,
            stderr,
            exit_code,
        } => (stdout, stderr, exit_code),
        other => panic!("{other:?}"),
    }
}

async fn status(node: &FakeNode) -> Value {
    let (stdout, stderr, code) = command(node, "status", &["--json"]).await;
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

async fn until_refusing(node: &FakeNode, causes: Value) {
    eventually("a cause or its end", async || {
        (status(node).await["refuses_new"] == causes).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_sees_its_operators_commands_and_json_rpc_answered_by_the_module() {
    let home = Home::new();
    let (node, module) = running(&home, &[]).await;
    assert!(subscribed(&node).len() >= 46);
    assert!(status(&node).await["node_id"].is_string());
    assert_eq!(command(&node, "fly", &[]).await.2, 2);

    let rpc = |method: &str, params: Value| {
        node.invoke(InvocationKind::Rpc {
            method: method.to_owned(),
            params,
        })
    };
    match rpc("meshpollreceived", json!({ "protocol_id": "app-v1" })).await {
        Ok(InvocationAnswer::Rpc(answer)) => assert_eq!(answer["packets"], json!([])),
        other => panic!("{other:?}"),
    }
    let refused = rpc("meshsendpacket", json!({})).await.unwrap_err();
    assert!(refused.starts_with("invalid_params: "), "{refused}");
    module.kill().await;
}

#[tokio::test]
async fn the_nodes_mesh_packets_are_asked_for_only_by_a_module_that_carries_links_over_them() {
    for (carrier, wanted) in [("false", false), ("true", true)] {
        let home = Home::new();
        let (node, module) = running(&home, &[("MODULE_CONFIG_NODE_CARRIER", carrier)]).await;
        let asked = subscribed(&node).contains(&EventKind::MeshPacketReceived);
        assert_eq!(asked, wanted, "node_carrier = {carrier}");
        module.kill().await;
    }
}

#[tokio::test]
async fn maintenance_pauses_the_module_and_a_changed_file_changes_its_price() {
    let home = Home::new();
    let (node, module) = running(&home, &[]).await;
    node.publish(EventPayload::MaintenanceStarted {
        maintenance_type: "backup".to_owned(),
        estimated_duration_seconds: None,
    })
    .await;
    until_refusing(&node, json!(["maintenance"])).await;
    node.publish(EventPayload::MaintenanceCompleted {
        maintenance_type: "backup".to_owned(),
        success: true,
        duration_ms: 1,
        results: None,
    })
    .await;
    until_refusing(&node, json!([])).await;

    home.configure("[mesh]\nprice_msat_per_unit = 55\nmax_peers = 3\n");
    node.publish(EventPayload::ConfigLoaded {
        changed_sections: vec!["modules".to_owned()],
        config_json: None,
    })
    .await;
    eventually("the new price", async || {
        (status(&node).await["price_msat_per_unit"] == 55).then_some(())
    })
    .await;
    let log = home.log();
    assert!(
        log.contains("only after a restart of this module: mesh.max_peers"),
        "{log}"
    );
    assert!(
        !log.contains("mesh.max_peers,"),
        "nothing else is said to have changed: {log}"
    );
    module.kill().await;
}

#[tokio::test]
async fn disk_below_the_operators_limit_has_new_sessions_refused_from_the_start() {
    let home = Home::new();
    let (node, module) = running(&home, &[("MODULE_CONFIG_HOST.LEAST_FREE_DISK_MIB", "16777216")]).await;
    until_refusing(&node, json!([DropReason::DiskLow.as_str()])).await;
    module.kill().await;
}

#[tokio::test]
async fn other_modules_are_told_that_no_route_was_found() {
    let home = Home::new();
    let (node, module) = running(&home, &[]).await;
    let nobody = "22".repeat(32);
    let (_, stderr, code) = command(&node, "discover", &["--destination", &nobody, "--timeout", "1"]).await;
    assert_eq!(code, 1, "{stderr}");
    node.until("the event", |node| node.asked("PublishEvent") >= 1)
        .await;
    let published = node.requests().into_iter().find_map(|request| match request {
        Request::PublishEvent { payload } => Some(payload),
        _ => None,
    });
    assert_eq!(
        published,
        Some(EventPayload::RouteFailed {
            destination: vec![0x22; 32],
            reason: "no_route".to_owned(),
        })
    );
    module.kill().await;
}
