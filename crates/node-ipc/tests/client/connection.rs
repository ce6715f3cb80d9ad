//! The connection: asking over it, its loss, its end.

use std::time::Duration;

use node_ipc::testing::{FakeAnswer, FakeNode};
use node_ipc::{Event, EventPayload, Incoming, LogLevel, NodeClient, Options, Request, RequestError};
use tokio::time::{Instant, timeout};

use crate::stage::{PATIENCE, Stage, connected, is_subscribed, new_block, next, next_event, stage};

#[tokio::test]
async fn asks_and_is_answered_and_hears_what_it_subscribed_to() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    assert_eq!(client.block_height().await, Ok(0));
    assert_eq!(client.transaction([1; 32]).await, Ok(None));
    node.until("subscribed", is_subscribed).await;
    node.publish(EventPayload::PeerUnbanned {
        peer_addr: "not subscribed".to_owned(),
    })
    .await;
    node.publish(new_block(5)).await;
    assert_eq!(next_event(&mut incoming).await, Event::from(new_block(5)));
    client.stop().await;
}

#[tokio::test]
async fn says_its_name_as_its_id_because_the_node_looks_permissions_up_by_it() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (_client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    let handshake = Request::Handshake {
        module_id: "blvm-mesh".to_owned(),
        module_name: "blvm-mesh".to_owned(),
        version: "0.1.0".to_owned(),
    };
    assert_eq!(node.requests().first(), Some(&handshake));
}

#[tokio::test]
async fn whoever_waits_is_told_at_once_when_the_connection_closes() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    node.answer_with(|request| matches!(request, Request::GetChainTip).then_some(FakeAnswer::Silence));
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    let asks: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.chain_tip().await })
        })
        .collect();
    node.until("all asked", |node| node.asked("GetChainTip") == 50)
        .await;
    let closed = Instant::now();
    node.close_all();
    for ask in asks {
        assert!(matches!(
            ask.await.unwrap(),
            Err(RequestError::Disconnected { .. })
        ));
    }
    assert!(
        closed.elapsed() < Duration::from_secs(9),
        "took {:?}",
        closed.elapsed()
    );
}

#[tokio::test]
async fn without_a_node_requests_fail_at_once_and_the_state_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node.sock");
    let (client, mut incoming) = NodeClient::start(Options::new(&socket, "blvm-mesh", "id", "0.1.0"));
    assert!(matches!(next(&mut incoming).await, Incoming::Disconnected { .. }));
    assert_eq!(client.block_height().await, Err(RequestError::NotConnected));
    assert!(!client.is_connected());
    while client.counters().failed_attempts < 3 {
        tokio::task::yield_now().await;
    }
    let _node = FakeNode::bind(&socket).unwrap();
    assert!(
        matches!(next(&mut incoming).await, Incoming::Connected { .. }),
        "told more than once"
    );
    assert!(client.is_connected());
}

#[tokio::test]
async fn log_lines_reach_the_node_and_are_dropped_without_one() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    client.log(LogLevel::Warn, "mesh", &"ä".repeat(5000));
    node.until("the line", |node| node.logs().len() == 1).await;
    let line = node.logs().remove(0);
    assert_eq!(line.module_id, "blvm-mesh_0123456789abcdef0123456789abcdef");
    assert_eq!((line.message.len(), line.level), (4096, LogLevel::Warn));
    drop(node);
    while client.is_connected() {
        next(&mut incoming).await;
    }
    client.log(LogLevel::Warn, "mesh", "nobody hears this");
    assert_eq!(client.counters().logs_dropped, 1);
}

#[tokio::test]
async fn stopping_writes_the_last_words_and_fails_what_waits() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    node.answer_with(|request| matches!(request, Request::GetChainTip).then_some(FakeAnswer::Silence));
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.chain_tip().await }
    });
    node.until("asked", |node| node.asked("GetChainTip") == 1).await;
    client.log(LogLevel::Info, "mesh", "good bye");
    timeout(PATIENCE, client.clone().stop()).await.unwrap();
    assert!(matches!(
        asking.await.unwrap(),
        Err(RequestError::Disconnected { .. })
    ));
    node.until("the last line", |node| {
        node.logs().iter().any(|line| line.message == "good bye")
    })
    .await;
    node.until("gone", |node| node.connections() == 0).await;
    assert_eq!(client.block_height().await, Err(RequestError::Stopped));
}

#[tokio::test]
async fn whoever_drops_the_last_client_ends_it() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    drop(client);
    node.until("gone", |node| node.connections() == 0).await;
    assert!(timeout(PATIENCE, incoming.recv()).await.unwrap().is_none());
}
