//! The module within the limits that a node sets by default: 512 MiB of addresses, 256 descriptors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::identity::NodeId;
use mesh_core::routing_policy::MeshMode;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::common::daemons::PATIENCE;
use crate::common::{TestNode, eventually, open_request};
use crate::process::{Home, Module, kib_of};

/// Neighbours at once.
const NEIGHBOURS: u8 = 50;

/// Packets that each sends through the module.
const PACKETS: usize = 20;

/// Bytes of each.
const PAYLOAD: usize = 16 * 1024;

const ADDRESS_SPACE_KIB: u64 = 512 * 1024;

fn within_limits(home: &Home) -> Module {
    let mut command = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_blvm-mesh");
    let limited = format!("ulimit -v {ADDRESS_SPACE_KIB} && ulimit -n 256 && exec {binary}");
    home.environment(&mut command)
        .args(["-c", &limited])
        .env_remove("RUST_LOG")
        .kill_on_drop(true);
    Module::of(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_neighbours_and_their_traffic_fit_into_the_nodes_limits() {
    let home = Home::new();
    home.configure(
        "mode = \"open\"\n[limits]\nlimit_loopback = false\nfree_bytes_per_second = 1_000_000_000",
    );
    let module = within_limits(&home);
    home.until_it_runs().await;
    let idle = (kib_of(module.id(), "VmPeak"), kib_of(module.id(), "VmHWM"));
    let log = home.log();
    assert!(
        log.contains("max_peers is 80 instead of 128") && log.contains("RLIMIT_NOFILE"),
        "{log}"
    );

    let status = home.ask_json(&["status"]).await;
    let id: NodeId = status["node_id"].as_str().unwrap().parse().unwrap();
    let address = status["listen_addr"].as_str().unwrap().parse().unwrap();
    let mut nodes = Vec::new();
    for seed in 1..=NEIGHBOURS {
        let node = TestNode::without_wallet(seed, MeshMode::Open).await;
        node.node.add_peer(address, id).unwrap();
        nodes.push(Arc::new(node));
    }
    eventually("all links", async || {
        let peers = home.ask_json(&["peers"]).await;
        (peers["peers"].as_array().unwrap().len() == usize::from(NEIGHBOURS)).then_some(())
    })
    .await;

    let mut sending = JoinSet::new();
    for (index, from) in nodes.iter().enumerate() {
        let from = from.clone();
        let to = nodes[(index + 1) % nodes.len()].id();
        sending.spawn(async move {
            let mut request = open_request(to, b"");
            request.payload = Bytes::from(vec![7; PAYLOAD]);
            let mut refused = Vec::new();
            for _ in 0..PACKETS {
                let sent = tokio::time::timeout(PATIENCE, from.node.handle().send_packet(request.clone()));
                refused.extend(sent.await.expect("an answer").err());
            }
            refused
        });
    }
    let refused: Vec<_> = sending.join_all().await.into_iter().flatten().collect();
    assert!(refused.is_empty(), "{} refused: {refused:?}", refused.len());
    let wanted = usize::from(NEIGHBOURS) * PACKETS;
    let carried = eventually("traffic", async || {
        let packets = home.ask_json(&["status"]).await["links"]["data_sent"][0].as_u64()?;
        (packets as usize >= wanted).then_some(packets)
    })
    .await;

    let busy = (kib_of(module.id(), "VmPeak"), kib_of(module.id(), "VmHWM"));
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", module.id()))
        .unwrap()
        .count();
    println!(
        "VmPeak {} MiB idle, {} MiB with {NEIGHBOURS} neighbours; resident {} and {} MiB; {descriptors} descriptors, {} threads; \
         {carried} packets out",
        idle.0 / 1024,
        busy.0 / 1024,
        idle.1 / 1024,
        busy.1 / 1024,
        std::fs::read_dir(format!("/proc/{}/task", module.id()))
            .unwrap()
            .count(),
    );
    assert!(busy.0 < ADDRESS_SPACE_KIB && descriptors < 256);
    assert!(!home.log().contains("ERROR"), "{}", home.log());
    tokio::time::timeout(Duration::from_secs(20), module.terminate())
        .await
        .unwrap();
}

/// Runs the program as a user of its own, who may have so many threads; none when this test may not become one.
fn as_another_user(home: &Home, threads: u32) -> Option<Command> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    /// Nobody's, so that no thread of others is counted.
    const USER: u32 = 54_321;
    let place = home.data_dir();
    if std::fs::metadata(&place).unwrap().uid() != 0 {
        return None;
    }
    let root = place.parent().unwrap();
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = root.join("blvm-mesh-of-another-user");
    if std::fs::hard_link(env!("CARGO_BIN_EXE_blvm-mesh"), &binary).is_err() {
        std::fs::copy(env!("CARGO_BIN_EXE_blvm-mesh"), &binary).unwrap();
    }
    chown(&place, Some(USER), Some(USER)).unwrap();
    let mut command = Command::new("sh");
    let limited = format!(
        // Shells do not agree on the letter.
        "{{ ulimit -u {threads} 2>/dev/null || ulimit -p {threads}; }} && exec {}",
        binary.display()
    );
    home.environment(&mut command)
        .args(["-c", &limited])
        .env_remove("RUST_LOG");
    command.current_dir(root).uid(USER).gid(USER).kill_on_drop(true);
    Some(command)
}

#[tokio::test]
async fn a_user_with_few_threads_left_gets_a_module_in_one_and_with_none_a_refusal_that_names_the_limit() {
    let home = Home::new();
    let Some(mut command) = as_another_user(&home, 4) else {
        println!("skipped: only root can run a program as another user");
        return;
    };
    let module = Module::of(&mut command);
    home.until_it_runs().await;
    assert!(home.log().contains("workers=1"), "{}", home.log());
    assert_eq!(module.terminate().await.code(), Some(0));

    let home = Home::new();
    let mut command = as_another_user(&home, 1).unwrap();
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for word in ["RLIMIT_NPROC", "default_max_child_processes"] {
        assert!(said.contains(word) && home.log().contains(word), "{said}");
    }
}
