//! What is bounded: requests in a second, those that wait, events that nobody takes, calls.

use std::time::Duration;

use node_ipc::testing::FakeAnswer;
use node_ipc::{Event, EventPayload, Incoming, InvocationKind, Message, NodeClient, Request, RequestError};
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage, connected, is_subscribed, new_block, next_event, stage};

#[tokio::test]
async fn no_second_of_the_node_sees_more_requests_than_allowed() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    let asks: Vec<_> = (0..250)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.block_height().await })
        })
        .collect();
    for ask in asks {
        assert_eq!(ask.await.unwrap(), Ok(0));
    }
    assert!(
        node.most_in_a_second() <= 90,
        "{} in one second",
        node.most_in_a_second()
    );
}

#[tokio::test]
async fn a_module_that_asks_too_much_is_told_to_ask_less() {
    let Stage {
        mut options,
        node,
        _directory,
    } = stage();
    options.requests_per_second = 1;
    node.answer_with(|request| matches!(request, Request::GetChainTip).then_some(FakeAnswer::Silence));
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    let (to, mut failed) = tokio::sync::mpsc::channel(1000);
    for _ in 0..600 {
        let (client, to) = (client.clone(), to.clone());
        tokio::spawn(async move { to.send(client.chain_tip().await).await });
    }
    let first = timeout(PATIENCE, failed.recv()).await.unwrap().unwrap();
    assert!(matches!(first, Err(RequestError::Busy { .. })), "{first:?}");
}

#[tokio::test]
async fn a_slow_module_loses_events_but_not_those_that_must_arrive() {
    const FLOOD: u64 = 3000;
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    node.until("subscribed", is_subscribed).await;
    for height in 0..FLOOD {
        node.publish(new_block(height)).await;
    }
    let reorganised = EventPayload::ChainReorg {
        old_tip: [1; 32],
        new_tip: [2; 32],
    };
    node.publish(reorganised.clone()).await;
    // The reader was not held up: an answer that came after all of them is here.
    assert_eq!(client.block_height().await, Ok(0));
    assert!(client.counters().events_dropped > FLOOD / 2);
    let mut last = next_event(&mut incoming).await;
    while let Ok(Some(Incoming::Event(event))) = timeout(Duration::from_millis(500), incoming.recv()).await {
        last = event;
    }
    assert_eq!(last, Event::from(reorganised));
}

#[tokio::test]
async fn a_flood_of_calls_is_refused_and_not_queued_without_end() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    for id in 1000..1500 {
        let kind = InvocationKind::Cli {
            subcommand: "status".to_owned(),
            args: Vec::new(),
        };
        node.say(&Message::Invocation(id, kind)).await;
    }
    assert_eq!(client.block_height().await, Ok(0));
    let counters = client.counters();
    assert_eq!((counters.invocations, counters.invocations_refused), (128, 372));
    assert_eq!(counters.disconnects, 0);
}
