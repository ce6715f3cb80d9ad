//! The node's command line.

use std::sync::Arc;
use std::time::Instant;

use blvm_mesh::admin::{AdminService, NodeInfo};
use blvm_mesh::config::PaymentsConfig;
use blvm_mesh::host::commands::{Operator, answer, spec};
use blvm_mesh::host::events::EventCounts;
use blvm_mesh::host::publish::PublishCounts;
use mesh_core::routing_policy::MeshMode;
use node_ipc::InvocationAnswer;
use serde_json::Value;

use crate::common::TestNode;

struct Line {
    node: TestNode,
    admin: AdminService,
}

impl Line {
    async fn new() -> Self {
        let node = TestNode::without_wallet(1, MeshMode::PaymentGated).await;
        let info = NodeInfo {
            listen_addr: node.node.listen_addr(),
            network: "regtest".to_owned(),
            wallet: "none".to_owned(),
            started: Instant::now(),
        };
        let backend = Arc::new(node.node.handle().clone());
        let admin = AdminService::new(backend, info, PaymentsConfig::default()).with_books(node.node.books());
        Self { node, admin }
    }

    async fn run(&self, line: &str) -> (String, String, i32) {
        let mut words = line.split_whitespace();
        let subcommand = words.next().unwrap_or_default();
        let args: Vec<String> = words.map(str::to_owned).collect();
        let operator = Operator {
            admin: &self.admin,
            events: &EventCounts::default(),
            published: &PublishCounts::default(),
        };
        match answer(operator, subcommand, &args).await {
            InvocationAnswer::Cli {
                stdout,
                stderr,
                exit_code,
            } => (stdout, stderr, exit_code),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_sees_the_node_as_a_table_or_as_json() {
    let line = Line::new().await;
    let id = line.node.id().to_string();
    let (stdout, stderr, code) = line.run("status").await;
    assert!(stdout.contains(&id) && stdout.ends_with('\n'), "{stdout}");
    assert_eq!((stderr.as_str(), code), ("", 0));
    let (stdout, _, code) = line.run("status --json").await;
    let status: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status["node_id"].as_str(), code), (Some(id.as_str()), 0));
    for command in [
        "peers",
        "shares",
        "routes --explain 0202020202020202020202020202020202020202020202020202020202020202",
        "routes",
        "network",
        "ledger --limit 5",
        "fees",
        "treasury",
        "audit",
        "events",
    ] {
        let (stdout, stderr, code) = line.run(command).await;
        assert_eq!(code, 0, "{command}: {stdout}{stderr}");
        let (stdout, _, _) = line.run(&format!("{command} --json")).await;
        assert!(
            serde_json::from_str::<Value>(&stdout).is_ok(),
            "{command}: {stdout}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_is_exit_code_1_with_what_to_do_and_wrong_usage_2() {
    let line = Line::new().await;
    let nobody = "22".repeat(32);
    let (stdout, stderr, code) = line
        .run(&format!("discover --destination {nobody} --timeout 1"))
        .await;
    assert_eq!((stdout.as_str(), code), ("", 1));
    assert!(stderr.contains("no_route"), "{stderr}");
    for wrong in [
        "",
        "fly",
        "status --loud",
        "quote --units 1",
        "discover --destination 22",
        "price --msat-per-unit -1",
    ] {
        let (stdout, stderr, code) = line.run(wrong).await;
        assert_eq!((stdout.as_str(), code), ("", 2), "{wrong}");
        assert!(!stderr.is_empty());
    }
    let long = "x".repeat(1 << 20);
    assert_eq!(
        line.run(&format!("send --destination {nobody} --payload {long}"))
            .await
            .2,
        2
    );
    assert_eq!(
        line.run(&format!(
            "send --destination {nobody} --payload zz --hex --timeout 1"
        ))
        .await
        .2,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn price_is_changed_and_no_limit_of_money_can_be_named() {
    let line = Line::new().await;
    assert_eq!(line.run("price --msat-per-unit 42").await.2, 0);
    assert_eq!(line.node.status().await.price_msat_per_unit, 42);
    let nobody = "22".repeat(32);
    let spend = format!("send --destination {nobody} --payload x --max-total-msat 1000000");
    assert_eq!(
        line.run(&spend).await.2,
        2,
        "only the caps of [payments] count here"
    );
}

#[test]
fn node_is_told_of_every_command_with_its_arguments() {
    let spec = spec();
    assert_eq!((spec.version, spec.name.as_str()), (1, "blvm-mesh"));
    let names: Vec<&str> = spec
        .subcommands
        .iter()
        .map(|command| command.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "status", "peers", "routes", "shares", "network", "discover", "quote", "send", "price", "ledger",
            "fees", "treasury", "audit", "events"
        ]
    );
    assert!(spec.subcommands.iter().all(|command| command.about.is_some()));
    let send = spec
        .subcommands
        .iter()
        .find(|command| command.name == "send")
        .unwrap();
    let arg = |name: &str| {
        send.args
            .iter()
            .find(|arg| arg.long_name.as_deref() == Some(name))
            .unwrap()
    };
    assert_eq!(
        (arg("destination").required, arg("destination").takes_value),
        (Some(true), Some(true))
    );
    assert_eq!(
        (arg("hex").required, arg("hex").takes_value),
        (Some(false), Some(false))
    );
    assert_eq!(arg("ttl").default.as_deref(), Some("30"));
}
