//! The program as a module of a node: the real binary with a node's environment, and a fake node's socket.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(unreachable_pub, missing_docs)] // the modules of a test
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod doors;
mod limits;
mod manifest;
mod process;
mod refusals;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use blvm_mesh::host::log::{LOG_FILE_BYTES, LOG_FILES};
use common::daemons::{ASK_AGAIN, PATIENCE, program};
use common::eventually;
use mesh_api::{
    AwaitDeliveriesRequest, GetNodeIdRequest, GetRoutingStatsRequest, Method, RegisterProtocolRequest,
};
use node_ipc::{EventPayload, Request};
use process::{CALLER, Home, Module, NAME, call};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

fn register(protocol: &str) -> RegisterProtocolRequest {
    RegisterProtocolRequest {
        protocol_id: protocol.to_owned(),
        handler_method: "handle_packet".to_owned(),
    }
}

#[tokio::test]
async fn a_module_shakes_hands_under_its_name_registers_its_api_and_answers_modules_and_its_operator() {
    let home = Home::new();
    let node = home.node();
    let module = home.spawn(&[("MODULE_CONFIG_MODE", "open")]);
    node.until("registered", |node| node.asked("RegisterModuleApi") == 1)
        .await;
    let requests = node.requests();
    assert!(
        matches!(&requests[0], Request::Handshake { module_id, module_name, .. } if module_id == NAME && module_name == NAME),
        "{:?}",
        requests[0]
    );
    let registered = requests.iter().find_map(|request| match request {
        Request::RegisterModuleApi { methods, .. } => Some(methods.clone()),
        _ => None,
    });
    assert_eq!(registered.unwrap().len(), Method::ALL.len());

    let answer = call(&node, CALLER, &GetNodeIdRequest {}).await.unwrap();
    home.until_it_runs().await;
    let status = home.ask_json(&["status"]).await;
    let id: String = answer.node_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(status["node_id"], id.as_str());
    assert_eq!(status["mode"], "open");
    let stats = call(&node, CALLER, &GetRoutingStatsRequest {}).await.unwrap();
    assert!(stats.enabled);

    node.until("its log is told", |node| {
        node.logs()
            .iter()
            .any(|line| line.message.contains("the mesh is running"))
    })
    .await;
    assert_eq!(module.terminate().await.code(), Some(0));
    node.until("it is gone", |node| node.connections() == 0).await;
}

#[tokio::test]
async fn the_directory_that_the_node_made_is_closed_to_others() {
    let home = Home::new();
    std::fs::set_permissions(home.data_dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let module = home.spawn(&[]);
    home.until_it_runs().await;
    let mode = std::fs::metadata(home.data_dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    module.kill().await;
}

#[tokio::test]
async fn a_killed_module_comes_back_as_the_same_node_with_its_books_and_its_registrations() {
    let home = Home::new();
    let node = home.node();
    let first = home.spawn(&[]);
    node.until("registered", |node| node.asked("RegisterModuleApi") == 1)
        .await;
    let id = call(&node, CALLER, &GetNodeIdRequest {}).await.unwrap();
    assert!(call(&node, CALLER, &register("chat-v1")).await.unwrap().success);
    let fees = home.ask_json(&["fees"]).await;
    first.kill().await;
    node.until("it is gone", |node| node.connections() == 0).await;

    let second = home.spawn(&[]);
    node.until("registered again", |node| node.asked("RegisterModuleApi") == 2)
        .await;
    assert_eq!(call(&node, CALLER, &GetNodeIdRequest {}).await.unwrap(), id);
    let taken = call(&node, "other", &register("chat-v1")).await.unwrap();
    assert!(!taken.success, "chat-v1 has an owner already");
    let again = CALLER.replace('0', "f");
    assert!(
        call(&node, &again, &register("chat-v1")).await.unwrap().success,
        "the same module in another life"
    );
    assert_eq!(home.ask_json(&["fees"]).await, fees);
    let audit = home.ask_json(&["audit"]).await;
    assert_eq!(audit["findings"].as_array().map(Vec::len), Some(0), "{audit}");
    second.kill().await;
}

#[tokio::test]
async fn the_mesh_runs_without_a_node_and_takes_the_conversation_up_when_there_is_one() {
    let home = Home::new();
    let module = home.spawn(&[]);
    home.until_it_runs().await;
    home.ask_json(&["status"]).await;

    let node = home.node();
    node.until("registered", |node| node.asked("RegisterModuleApi") == 1)
        .await;
    drop(node);
    home.ask_json(&["status"]).await;

    let node = home.node();
    node.until("registered again", |node| node.asked("RegisterModuleApi") == 1)
        .await;
    call(&node, CALLER, &GetNodeIdRequest {}).await.unwrap();
    module.kill().await;
}

#[tokio::test]
async fn calls_that_wait_leave_room_for_others_and_one_too_many_is_refused_by_name() {
    let home = Home::new();
    let node = std::sync::Arc::new(home.node());
    let module = home.spawn(&[]);
    node.until("registered", |node| node.asked("RegisterModuleApi") == 1)
        .await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let node = node.clone();
        waiting.spawn(async move {
            let wait = AwaitDeliveriesRequest {
                protocol_id: None,
                max_deliveries: 1,
                timeout_seconds: 300,
            };
            call(&node, CALLER, &wait).await
        });
    }
    let refused = timeout(PATIENCE, waiting.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let refused = refused
        .map(|answer| format!("{answer:?}"))
        .unwrap_or_else(|error| error);
    assert!(refused.contains("busy") || refused.contains("many"), "{refused}");
    call(&node, "other_module", &GetNodeIdRequest {}).await.unwrap();
    module.kill().await;
}

#[tokio::test]
async fn a_module_whose_output_nobody_reads_never_waits_for_a_reader() {
    let home = Home::new();
    let node = home.node();
    let mut module = home.spawn(&[("RUST_LOG", "trace")]);
    node.until("registered", |node| node.asked("RegisterModuleApi") == 1)
        .await;
    for _ in 0..100 {
        call(&node, CALLER, &GetRoutingStatsRequest {}).await.unwrap();
    }
    home.until_it_runs().await;
    for stream in ["1", "2"] {
        let path = format!("/proc/{}/fd/{stream}", module.id());
        eventually("the streams lead nowhere", async || {
            (std::fs::read_link(&path).unwrap().to_str() == Some("/dev/null")).then_some(())
        })
        .await;
    }
    // What was written before it ran is a few lines, whatever the level: the pipe holds 64 KiB.
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut out, mut err) = (
        module.child.stdout.take().unwrap(),
        module.child.stderr.take().unwrap(),
    );
    module.kill().await;
    out.read_to_end(&mut stdout).await.unwrap();
    err.read_to_end(&mut stderr).await.unwrap();
    assert_eq!(
        (stdout.len(), stderr.len()),
        (0, 0),
        "{}",
        String::from_utf8_lossy(&stderr)
    );
    assert!(!home.log().is_empty());
}

#[tokio::test]
async fn the_log_never_takes_more_room_than_its_files() {
    let home = Home::new();
    let full = "x".repeat(usize::try_from(LOG_FILE_BYTES).unwrap() - 10);
    for name in ["module.log", "module.log.1", "module.log.2", "module.log.3"] {
        std::fs::write(home.data_dir().join(name), &full).unwrap();
    }
    let module = home.spawn(&[]);
    home.until_it_runs().await;
    module.kill().await;
    let logs = std::fs::read_dir(home.data_dir()).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        name.starts_with("module.log")
            .then(|| entry.metadata().unwrap().len())
    });
    let sizes: Vec<u64> = logs.collect();
    assert_eq!(sizes.len(), LOG_FILES as usize);
    assert!(sizes.iter().all(|size| *size <= LOG_FILE_BYTES), "{sizes:?}");
}

#[tokio::test]
async fn a_module_whose_node_was_killed_stops_in_order_and_leaves_its_directory_to_the_next() {
    let home = Home::new();
    // The shell is the node: it spawns the module and is killed.
    let mut command = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_blvm-mesh");
    command.args(["-c", &format!("{binary} & wait")]);
    let node = Module::of(home.environment(&mut command).kill_on_drop(true));
    home.until_it_runs().await;
    node.kill().await;
    // It is still there, and the next one waits for it.
    let next = home.spawn(&[]);
    timeout(PATIENCE, async {
        let mut again = tokio::time::interval(ASK_AGAIN);
        while home.log().matches("the mesh is running").count() < 2 {
            again.tick().await;
        }
    })
    .await
    .expect("the next one runs");
    let log = home.log();
    assert!(
        log.contains("the node is gone") && log.contains("stopped"),
        "{log}"
    );
    next.kill().await;
}

#[tokio::test]
async fn a_shutdown_that_is_announced_lets_nothing_new_begin_before_the_kill_follows() {
    let home = Home::new();
    let node = home.node();
    let module = home.spawn(&[]);
    node.until("registered", |node| node.asked("RegisterModuleApi") == 1)
        .await;
    let id = call(&node, CALLER, &GetNodeIdRequest {}).await.unwrap();
    node.publish(EventPayload::NodeShutdown {
        reason: "test".into(),
        timeout_seconds: 30,
    })
    .await;
    home.until_log_says("new sessions are refused").await;
    module.kill().await;
    let module = home.spawn(&[]);
    node.until("registered again", |node| node.asked("RegisterModuleApi") == 2)
        .await;
    assert_eq!(call(&node, CALLER, &GetNodeIdRequest {}).await.unwrap(), id);
    module.kill().await;
}

#[tokio::test]
async fn with_a_command_the_environment_of_a_module_changes_nothing() {
    let home = Home::new();
    let mut command = program();
    home.environment(&mut command)
        .arg("--version")
        .stdout(Stdio::piped());
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("blvm-mesh ")
    );
}
