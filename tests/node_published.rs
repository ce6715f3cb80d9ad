//! Modules of `blvm-node` exactly as it is published, which serves one connection to modules at a time: the mesh must run all
//! the same, on its own links and its own socket.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::blvm_node::{BlvmNode, MESH_MANIFEST, program};
use common::daemons::{ASK_AGAIN, Home, PATIENCE, free_port, said};
use mesh_api::socket::SocketCaller;
use mesh_api::{MeshClient, RegisterProtocolRequest};
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

const SMOKE_MANIFEST: &str = r#"
name = "smoke"
version = "0.1.0"
entry_point = "smoke"
capabilities = ["read_blockchain", "read_chain_state", "subscribe_events"]
"#;

/// One test at a time: what makes the node serve a module is fit for an idle machine only.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How often the node is started at the most, and how long its module may take to be served: two seconds are usual.
const STARTS: usize = 4;
const SERVED_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_module_shakes_hands_asks_for_the_tip_and_sees_the_next_block() {
    let (Some(host), Some(smoke)) = (program("BLVM_HOST"), program("BLVM_SMOKE")) else {
        return;
    };
    let _alone = ALONE.lock().await;
    let (mut node, mut miner) = (BlvmNode::new("node", &host), BlvmNode::new("miner", &host));
    node.install("smoke", SMOKE_MANIFEST, &smoke);
    miner.start().await;
    start_until_served(&mut node).await;
    let noted = async |key: &str| {
        node.until(key, async || {
            node.lines("smoke", "smoke.jsonl")
                .iter()
                .any(|line| !line[key].is_null())
        })
        .await;
        let lines = node.lines("smoke", "smoke.jsonl");
        lines.into_iter().find(|line| !line[key].is_null()).unwrap()
    };
    let greeted = noted("node_version").await;
    assert_eq!(greeted["node_version"], "0.1.83");
    assert_eq!(greeted["height"], 0);
    let genesis = node.rpc("getblockhash", json!([0])).await;
    assert_eq!(greeted["tip"], genesis);

    node.wait_for_modules(&["smoke"]).await;
    node.add_node(&miner).await;
    let lines = || node.lines("smoke", "smoke.jsonl");
    miner
        .mine_until("a block to be seen", async || {
            lines().iter().any(|line| !line["new_block"].is_null())
        })
        .await;
    let seen = noted("new_block").await;
    let mined = miner.rpc("getblockhash", json!([seen["height"]])).await;
    assert_eq!((&seen["new_block"], &seen["known"]), (&mined, &json!(true)));
}

/// Starts a node, again if its module is not served: the module gets itself served by asking at the right moment, which a
/// busy machine may let pass.
async fn start_until_served(node: &mut BlvmNode) {
    for _ in 1..STARTS {
        node.start().await;
        let served = async {
            let mut again = interval(ASK_AGAIN);
            while !is_served(node) {
                again.tick().await;
            }
        };
        if timeout(SERVED_WITHIN, served).await.is_ok() {
            return;
        }
        node.kill().await;
    }
    node.start().await;
}

fn is_served(node: &BlvmNode) -> bool {
    let lines = node.lines("smoke", "smoke.jsonl");
    lines.iter().any(|line| !line["node_version"].is_null())
}

/// A published node with the mesh as its module, free of charge.
async fn with_mesh(
    name: &'static str,
    host: &Path,
    port: u16,
    neighbour: Option<(&Home, u16)>,
) -> (BlvmNode, Home) {
    let mut node = BlvmNode::new(name, host);
    node.install(
        "blvm-mesh",
        MESH_MANIFEST,
        Path::new(env!("CARGO_BIN_EXE_blvm-mesh")),
    );
    let home = Home::at(&node.module_data("blvm-mesh"));
    let mut config =
        format!("[mesh]\nmode = \"open\"\nlisten_addr = \"127.0.0.1:{port}\"\nnetwork = \"regtest\"\n");
    if let Some((neighbour, port)) = neighbour {
        let id = id(neighbour).await;
        config += &format!("[[mesh.peers]]\naddress = \"127.0.0.1:{port}\"\nnode_id = \"{id}\"\n");
    }
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    node.start().await;
    node.wait_for_modules(&["blvm-mesh"]).await;
    let socket = home.path().join("admin.sock");
    node.until("the mesh's socket", async || socket.exists()).await;
    (node, home)
}

async fn id(home: &Home) -> String {
    let status: Value = home.ask_json(&["status"]).await;
    status["node_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn three_published_nodes_carry_packets_over_the_meshs_own_links_though_they_do_not_serve_their_modules()
{
    let Some(host) = program("BLVM_HOST") else {
        return;
    };
    let _alone = ALONE.lock().await;
    let port = free_port();
    let (mut b, home_b) = with_mesh("b", &host, port, None).await;
    let (a, home_a) = with_mesh("a", &host, free_port(), Some((&home_b, port))).await;
    let (c, home_c) = with_mesh("c", &host, free_port(), Some((&home_b, port))).await;
    home_b.wait_for_peers(2).await;
    let (id_a, id_c) = (id(&home_a).await, id(&home_c).await);

    let socket = home_c.path().join("api.sock");
    let (caller, mut arrivals) = SocketCaller::connect_for_deliveries(socket, "reader")
        .await
        .unwrap();
    let request = RegisterProtocolRequest {
        protocol_id: "test".to_owned(),
        handler_method: "take".to_owned(),
    };
    let registered = MeshClient::new(caller).register_protocol_handler(request).await;
    assert!(registered.unwrap().success);
    let mut heard = async |text: &str| {
        let arrival = timeout(PATIENCE, arrivals.next())
            .await
            .expect("the packet arrives")
            .unwrap();
        assert_eq!(arrival.delivery.payload, text.as_bytes());
        assert_eq!(arrival.delivery.source.map(hex::encode).as_ref(), Some(&id_a));
        arrival.handled();
    };
    let send = ["send", &id_c, "hello", "--class", "open", "--protocol", "test"];
    let sent = home_a.ask(&send).await;
    assert!(sent.status.success(), "{}\n{}", said(&sent), a.end_of_log());
    heard("hello").await;

    // The node in the middle is killed and started again: its module comes back with it, and the way leads through it.
    b.kill().await;
    b.start().await;
    home_b_is_back(&b, &home_b).await;
    let sent = home_a.ask(&send).await;
    assert!(sent.status.success(), "{}\n{}", said(&sent), b.end_of_log());
    heard("hello").await;
    // All the while the nodes do what nodes are for.
    for node in [&a, &b, &c] {
        node.mine(1).await;
        assert_eq!(node.height().await, 1);
    }
}

async fn home_b_is_back(node: &BlvmNode, home: &Home) {
    node.until("the mesh and its links", async || {
        let peers = home.ask(&["--json", "peers"]).await;
        let peers: Value = serde_json::from_slice(&peers.stdout).unwrap_or_default();
        peers["peers"].as_array().is_some_and(|peers| peers.len() == 2)
    })
    .await;
}
