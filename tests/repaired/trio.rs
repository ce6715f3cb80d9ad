//! Three repaired nodes, linked as meshes in a row, a – b – c, and as nodes of the Bitcoin network around a.

use std::path::{Path, PathBuf};

use blvm_mesh::api::DELIVERIES_FILE;
use mesh_core::identity::Identity;
use serde_json::{Value, json};

use crate::common::blvm_node::{BlvmNode, MESH_MANIFEST, program};
use crate::common::daemons::{Home, free_port, write_identity};

/// What modules are called.
pub const MESH: &str = "blvm-mesh";
pub const CHAT: &str = "chat";

const CHAT_MANIFEST: &str = include_str!("../../node/chat/module.toml");

pub struct Trio {
    pub a: BlvmNode,
    pub b: BlvmNode,
    pub c: BlvmNode,
}

impl Trio {
    /// Three nodes with both modules, or why the test is skipped.
    pub fn new() -> Option<Self> {
        let (host, chat) = (program("BLVM_REPAIRED_HOST")?, program("BLVM_CHAT")?);
        let node = |name| {
            let node = BlvmNode::new(name, &host);
            node.install(MESH, MESH_MANIFEST, Path::new(env!("CARGO_BIN_EXE_blvm-mesh")));
            node.install(CHAT, CHAT_MANIFEST, &chat);
            node
        };
        Some(Self {
            a: node("a"),
            b: node("b"),
            c: node("c"),
        })
    }

    pub fn all(&self) -> [&BlvmNode; 3] {
        [&self.a, &self.b, &self.c]
    }

    pub fn home(node: &BlvmNode) -> Home {
        Home::at(&node.module_data(MESH))
    }

    /// Configures all three meshes, with these lines in `[mesh]` and these sections after it. The links are the ends'.
    pub fn configure(&self, mesh: &str, sections: &str) {
        let port = free_port();
        let id = identity(2);
        for (node, seed) in self.all().into_iter().zip(1..) {
            write_identity(&node.module_data(MESH), seed);
            let own_port = if node.name == "b" { port } else { free_port() };
            let mut config =
                format!("[mesh]\nlisten_addr = \"127.0.0.1:{own_port}\"\nnetwork = \"regtest\"\n{mesh}");
            if node.name != "b" {
                config += &format!("[[mesh.peers]]\naddress = \"127.0.0.1:{port}\"\nnode_id = \"{id}\"\n");
            }
            std::fs::write(config_file(node), config + sections).unwrap();
        }
    }

    /// Starts all, and waits until the modules have registered and the links are there.
    pub async fn start(&mut self) {
        for node in [&mut self.a, &mut self.b, &mut self.c] {
            start(node).await;
        }
        // A node that hears of a block from one that heard of it itself may fetch it for ever; so both hear of it from its miner.
        self.a.add_node(&self.b).await;
        self.a.add_node(&self.c).await;
        self.linked().await;
    }

    /// Waits until the mesh's links are up.
    pub async fn linked(&self) {
        for (node, links) in [(&self.a, 1), (&self.b, 2), (&self.c, 1)] {
            node.until("the mesh's links", async || peers(node).await == links)
                .await;
        }
    }

    /// Waits until the ends can find each other.
    pub async fn ends_know_each_other(&self) {
        let id = identity(3);
        let home = Self::home(&self.a);
        self.a
            .until("a way to c", async || {
                home.ask(&["discover", &id, "--timeout", "2"])
                    .await
                    .status
                    .success()
            })
            .await;
    }

    /// The chat of `a` sends this to `c`. What the mesh refuses is tried again: after a restart a way is to be found first.
    pub async fn say(&self, text: &str) -> Value {
        let id = identity(3);
        let sent = std::cell::RefCell::new(Value::Null);
        self.a
            .until(&format!("{text:?} to be sent"), async || {
                let answer = self.a.try_rpc("chatsend", json!([id, text])).await;
                if let Err(error) = &answer {
                    println!("not sent yet: {text:?}: {error}");
                }
                *sent.borrow_mut() = answer.unwrap_or_default();
                !sent.borrow().is_null()
            })
            .await;
        sent.into_inner()
    }

    /// Waits until the chat of `c` has these messages, in this order, and asserts that it has no others.
    pub async fn heard(&self, texts: &[&str]) {
        self.c
            .until(&format!("{texts:?}"), async || {
                self.received().len() >= texts.len()
            })
            .await;
        assert_eq!(self.received(), texts);
    }

    /// Waits until the mesh of `c` has this message on disk: the chat is not there to take it.
    pub async fn waits_on_disk(&self, text: &str) {
        let file = self.c.module_data(MESH).join(DELIVERIES_FILE);
        self.c
            .until(&format!("{text:?} to wait on disk"), async || {
                let bytes = std::fs::read(&file).unwrap_or_default();
                bytes.windows(text.len()).any(|window| window == text.as_bytes())
            })
            .await;
    }

    /// Asserts how often the mesh of `c` handed over a message that the chat had: the chat drops those and counts them. A kill
    /// of either repeats one at the most, for one push is under way at a time, and here nobody writes faster than the disk.
    pub fn repeated_once_a_kill(&self, kills: usize) {
        let repeats = self.c.lines(CHAT, "repeats.jsonl");
        assert!(repeats.len() <= kills, "{kills} kills: {repeats:?}");
    }

    fn received(&self) -> Vec<String> {
        let lines = self.c.lines(CHAT, "received.jsonl");
        lines
            .iter()
            .map(|line| line["text"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Whether the chat of this node was told of such an event.
    pub fn event(&self, node: &BlvmNode, kind: &str) -> bool {
        node.lines(CHAT, "events.jsonl")
            .iter()
            .any(|line| line["kind"] == kind)
    }

    /// Waits until the node has noticed that a module was killed, and loads it again: nodes do not by themselves.
    pub async fn load_again(&self, node: &BlvmNode, module: &str) {
        node.until("the kill to be noticed", async || {
            let loaded = node.rpc("listmodules", json!([])).await;
            !loaded.as_array().unwrap().contains(&json!(module))
        })
        .await;
        replace(node, "loadmodule", module).await;
    }

    /// The node's own way to replace a module.
    pub async fn reload(&self, node: &BlvmNode, module: &str) {
        replace(node, "reloadmodule", module).await;
    }
}

/// Starts a node, and waits until its modules have registered all they offer.
///
/// The node keeps modules waiting while one of them registers a JSON-RPC method, and keeps that waiting while one is
/// answered. So a method whose answer needs another module is not called in between: both would wait until the call times out.
pub async fn start(node: &mut BlvmNode) {
    let said = node.said_so_far();
    node.start().await;
    for module in [MESH, CHAT] {
        node.wait_for_method(last_method(module), said).await;
    }
}

async fn replace(node: &BlvmNode, how: &str, module: &str) {
    let said = node.said_so_far();
    node.rpc(how, json!([module])).await;
    node.wait_for_method(last_method(module), said).await;
}

/// The JSON-RPC method that a module registers last.
fn last_method(module: &str) -> &'static str {
    match module {
        MESH => "meshrequesthopinvoice",
        _ => "chatid",
    }
}

/// The id of the node whose number this is: 1, 2 or 3.
pub fn identity(number: u8) -> String {
    Identity::from_seed([number; 32]).unwrap().node_id().to_string()
}

fn config_file(node: &BlvmNode) -> PathBuf {
    node.module_data(MESH).join("config.toml")
}

async fn peers(node: &BlvmNode) -> usize {
    let peers = Trio::home(node).ask(&["--json", "peers"]).await;
    let peers: Value = serde_json::from_slice(&peers.stdout).unwrap_or_default();
    peers["peers"].as_array().map_or(0, Vec::len)
}
