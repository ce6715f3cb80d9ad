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

    // The reader is killed: what arrives meanwhile waits for it, also when the mesh that it waits in is killed.
    trio.c.kill_module(CHAT).await;
    let mut all = vec!["hello", "while you were away", "and again", "and again and again"];
    for text in &all[1..] {
        trio.say(text).await;
        trio.waits_on_disk(text).await;
    }
    trio.c.kill_module(MESH).await;
    trio.load_again(&trio.c, MESH).await;
    trio.load_again(&trio.c, CHAT).await;
    trio.linked().await;
    trio.heard(&all).await;
    trio.repeated_once_a_kill(2);

    // The meshes of the destination and of the router are killed.
    for (node, text) in [
        (&trio.c, "the mesh of c is back"),
        (&trio.b, "the mesh of b is back"),
    ] {
        node.kill_module(MESH).await;
        trio.load_again(node, MESH).await;
        trio.linked().await;
        trio.say(text).await;
        all.push(text);
    }
    for module in [MESH, CHAT] {
        trio.reload(&trio.a, module).await;
    }
    trio.linked().await;
    trio.say("reloaded").await;
    all.push("reloaded");
    trio.heard(&all).await;
    trio.repeated_once_a_kill(3);

    // The sender's node is stopped, the reader's is killed.
    trio.a.terminate().await;
    trio::start(&mut trio.a).await;
    trio.c.kill().await;
    trio::start(&mut trio.c).await;
    trio.linked().await;
    trio.say("restarted").await;
    all.push("restarted");
    trio.heard(&all).await;
    trio.repeated_once_a_kill(4);
}
