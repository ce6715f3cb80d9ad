//! The whole system on repaired nodes, which serve several modules: three nodes, each with the mesh and a chat (node/chat) that
//! talks over it, killed, reloaded and restarted.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![cfg(target_os = "linux")]

mod common;
#[path = "repaired/trio.rs"]
#[allow(unreachable_pub, dead_code)] // two tests, each with its part
mod trio;

#[path = "repaired/stopwatch.rs"]
mod stopwatch;

#[cfg(feature = "ldk")]
#[path = "repaired/lightning.rs"]
mod lightning;

use trio::{CHAT, MESH, Trio};

#[tokio::test]
async fn a_chat_over_three_nodes_loses_nothing_and_hears_nothing_twice_through_kills_reloads_and_restarts() {
    let Some(mut trio) = Trio::new() else {
        return;
    };
    trio.configure("mode = \"open\"\n", "");
    trio.start().await;
    trio.ends_know_each_other().await;

    trio.say("hello").await;
    trio.heard(&["hello"]).await;
    trio.a
        .until("news of the way", async || trio.event(&trio.a, "RouteDiscovered"))
        .await;

    // The reader is killed: what arrives meanwhile waits for it.
    trio.c.kill_module(CHAT).await;
    trio.say("while you were away").await;
    trio.load_again(&trio.c, CHAT).await;
    trio.heard(&["hello", "while you were away"]).await;

    // The meshes of the destination and of the router are killed.
    for node in [&trio.c, &trio.b] {
        node.kill_module(MESH).await;
        trio.load_again(node, MESH).await;
        trio.linked().await;
        let text = format!("the mesh of {} is back", node.name);
        trio.say(&text).await;
    }
    for module in [MESH, CHAT] {
        trio.reload(&trio.a, module).await;
    }
    trio.linked().await;
    trio.say("reloaded").await;
    // What has not reached its module is lost with the mesh that holds it.
    trio.heard(&[
        "hello",
        "while you were away",
        "the mesh of c is back",
        "the mesh of b is back",
        "reloaded",
    ])
    .await;

    // The sender's node is stopped, the reader's is killed.
    trio.a.terminate().await;
    trio::start(&mut trio.a).await;
    trio.c.kill().await;
    trio::start(&mut trio.c).await;
    trio.linked().await;
    trio.say("restarted").await;
    trio.heard(&[
        "hello",
        "while you were away",
        "the mesh of c is back",
        "the mesh of b is back",
        "reloaded",
        "restarted",
    ])
    .await;
}
