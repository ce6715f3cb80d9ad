//! The client and the published node's own server, at the two ends of a socket.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blvm_node::module::api::events::EventManager;
use blvm_node::module::api::hub::ModuleApiHub;
use blvm_node::module::api::node_api::NodeApiImpl;
use blvm_node::module::ipc::protocol::EventPayload as TheirPayload;
use blvm_node::module::ipc::server::ModuleIpcServer;
use blvm_node::module::security::permissions::{Permission, PermissionSet};
use blvm_node::module::traits::EventType;
use blvm_node::storage::Storage;
use node_ipc::{Event, EventKind, EventPayload, Incoming, NodeClient, Options, RequestError};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// The node's server for modules, over an empty chain, with what a module asks for in its manifest.
fn serve(directory: &Path) -> Arc<EventManager> {
    // The server makes folders for modules where it stands.
    std::env::set_current_dir(directory).unwrap();
    let chain = directory.join("chain");
    std::fs::create_dir(&chain).unwrap();
    let storage = Arc::new(Storage::new(chain).unwrap());
    let events = Arc::new(EventManager::new());
    let node = Arc::new(NodeApiImpl::with_event_manager(
        storage,
        events.clone(),
        "node".to_owned(),
    ));
    let mut hub = ModuleApiHub::new(node.clone());
    let permissions = [
        Permission::ReadBlockchain,
        Permission::ReadChainState,
        Permission::SubscribeEvents,
    ];
    hub.register_module_permissions("mesh".to_owned(), PermissionSet::from_vec(permissions.to_vec()));
    let mut server = ModuleIpcServer::new(directory.join("node.sock"))
        .with_event_manager(events.clone())
        .with_api_hub(Arc::new(Mutex::new(hub)));
    tokio::spawn(async move { server.start(node).await });
    events
}

async fn next(incoming: &mut Receiver<Incoming>) -> Incoming {
    timeout(PATIENCE, incoming.recv()).await.unwrap().unwrap()
}

async fn connected(incoming: &mut Receiver<Incoming>) {
    loop {
        if let Incoming::Connected { node_version } = next(incoming).await {
            assert_eq!(node_version, "0.1.83");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_hears_keeps_the_nodes_limit_and_comes_back_after_an_error_that_cost_the_connection() {
    let directory = tempfile::tempdir().unwrap();
    let events = serve(directory.path());
    let mut options = Options::new(directory.path().join("node.sock"), "mesh", "mesh_1", "0.1.0");
    options.subscriptions = vec![EventKind::NewBlock];
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;

    // Far more than the node allows in a second: one request over its limit costs the connection.
    for n in 0..220_u8 {
        assert_eq!(client.transaction([n; 32]).await, Ok(None));
    }
    assert_eq!(client.counters().disconnects, 0);

    let subscribed = async {
        while !events
            .get_subscribers(EventType::NewBlock)
            .await
            .contains(&"mesh".to_owned())
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, subscribed).await.unwrap();
    let block = TheirPayload::NewBlock {
        block_hash: [5; 32],
        height: 7,
    };
    events
        .publish_event(EventType::NewBlock, block.clone())
        .await
        .unwrap();
    let heard = EventPayload::NewBlock {
        block_hash: [5; 32],
        height: 7,
    };
    assert!(
        matches!(next(&mut incoming).await, Incoming::Event(event) if event == Event::from(heard.clone()))
    );

    // An empty chain has no height: the published node has no answer for that but to hang up.
    let error = client.block_height().await.unwrap_err();
    assert!(matches!(error, RequestError::Disconnected { .. }), "{error}");
    connected(&mut incoming).await;
    assert_eq!(client.transaction([1; 32]).await, Ok(None));
    // And the subscription is there again.
    let hears = async {
        loop {
            events
                .publish_event(EventType::NewBlock, block.clone())
                .await
                .unwrap();
            if let Ok(Some(Incoming::Event(event))) =
                timeout(Duration::from_millis(100), incoming.recv()).await
            {
                assert_eq!(event, Event::from(heard.clone()));
                return;
            }
        }
    };
    timeout(PATIENCE, hears).await.unwrap();
    client.stop().await;
}
