//! A node that plays whatever role a test gives it, and what is heard of it.

use std::time::Duration;

use node_ipc::testing::{FakeNode, NODE_VERSION};
use node_ipc::{Event, EventKind, EventPayload, Incoming, Options};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    pub(crate) _directory: TempDir,
    pub(crate) options: Options,
    pub(crate) node: FakeNode,
}

pub(crate) fn stage() -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node.sock");
    let node = FakeNode::bind(&socket).unwrap();
    let mut options = Options::new(
        socket,
        "blvm-mesh",
        "blvm-mesh_0123456789abcdef0123456789abcdef",
        "0.1.0",
    );
    options.subscriptions = vec![
        EventKind::NewBlock,
        EventKind::NodeShutdown,
        EventKind::ChainReorg,
    ];
    Stage {
        _directory: directory,
        options,
        node,
    }
}

pub(crate) async fn next(incoming: &mut Receiver<Incoming>) -> Incoming {
    timeout(PATIENCE, incoming.recv())
        .await
        .expect("nothing came")
        .expect("the client ended")
}

pub(crate) async fn connected(incoming: &mut Receiver<Incoming>) {
    loop {
        if let Incoming::Connected { node_version } = next(incoming).await {
            assert_eq!(node_version, NODE_VERSION);
            return;
        }
    }
}

pub(crate) async fn next_event(incoming: &mut Receiver<Incoming>) -> Event {
    loop {
        if let Incoming::Event(event) = next(incoming).await {
            return event;
        }
    }
}

pub(crate) fn new_block(height: u64) -> EventPayload {
    EventPayload::NewBlock {
        block_hash: [7; 32],
        height,
    }
}

pub(crate) fn is_subscribed(node: &FakeNode) -> bool {
    node.asked("SubscribeEvents") >= 1
}

pub(crate) fn frame(contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap().to_be_bytes();
    [&length[..], contents].concat()
}
