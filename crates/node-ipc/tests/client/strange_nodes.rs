//! Nodes that say what nobody expects: newer ones, broken ones.

use node_ipc::testing::FakeAnswer;
use node_ipc::{Event, Incoming, NodeClient, Request, RequestError, Response};

use crate::stage::{Stage, connected, frame, is_subscribed, new_block, next, next_event, stage};

#[tokio::test]
async fn what_only_a_newer_node_says_is_skipped_and_counted() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    node.until("subscribed", is_subscribed).await;
    let unknown_message = frame(&77_u32.to_le_bytes());
    let unknown_event = frame(&[2_u32.to_le_bytes(), 118_u32.to_le_bytes(), 118_u32.to_le_bytes()].concat());
    node.say_raw(&unknown_message).await;
    node.say_raw(&unknown_event).await;
    node.publish(new_block(1)).await;
    assert_eq!(next_event(&mut incoming).await, Event::from(new_block(1)));
    let counters = client.counters();
    assert_eq!(
        (
            counters.unknown_messages,
            counters.unknown_events,
            counters.disconnects
        ),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn an_answer_of_an_unknown_kind_fails_its_request_and_nothing_else() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    node.answer_with(|request| matches!(request, Request::GetChainTip).then_some(FakeAnswer::Silence));
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.chain_tip().await }
    });
    node.until("asked", |node| node.asked("GetChainTip") == 1).await;
    // The one open request: every id up to a generous bound is answered with contents number 999.
    for id in 1..50_u64 {
        let contents = [
            &1_u32.to_le_bytes()[..],
            &id.to_le_bytes(),
            &[1, 1],
            &999_u32.to_le_bytes(),
            &[0],
        ]
        .concat();
        node.say_raw(&frame(&contents)).await;
    }
    assert!(matches!(
        asking.await.unwrap(),
        Err(RequestError::Unreadable { .. })
    ));
    assert_eq!(client.block_height().await, Ok(0));
}

#[tokio::test]
async fn garbage_in_frames_is_skipped_and_a_broken_stream_is_left_and_mended() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    for length in 0..200_usize {
        let contents: Vec<u8> = (0..length).map(|n| u8::try_from(n * 37 % 256).unwrap()).collect();
        node.say_raw(&frame(&contents)).await;
    }
    assert_eq!(client.block_height().await, Ok(0));
    assert_eq!(client.counters().disconnects, 0);
    node.say_raw(&[0xff; 64]).await;
    loop {
        if let Incoming::Disconnected { reason } = next(&mut incoming).await {
            assert!(reason.contains("above the limit"), "{reason}");
            break;
        }
    }
    connected(&mut incoming).await;
    assert_eq!(client.block_height().await, Ok(0));
}

#[tokio::test]
async fn an_answer_to_something_else_is_told_apart() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    node.answer_with(|request| {
        matches!(request, Request::GetBlockHeight).then_some(FakeAnswer::Reply(Response::SubscribeAck))
    });
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    let wrong = RequestError::WrongAnswer {
        request: "GetBlockHeight",
        answer: "SubscribeAck",
    };
    assert_eq!(client.block_height().await, Err(wrong));
}

#[tokio::test]
async fn a_call_that_cannot_be_read_is_refused_to_its_caller() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    // What the published node sends for JSON-RPC parameters: the value's bytes without its type.
    let contents = [
        &4_u32.to_le_bytes()[..],
        &9_u64.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &1_u64.to_le_bytes(),
        b"m",
        &[1],
    ]
    .concat();
    node.say_raw(&frame(&contents)).await;
    assert_eq!(client.block_height().await, Ok(0));
    assert_eq!(
        (
            client.counters().invocations_refused,
            client.counters().disconnects
        ),
        (1, 0)
    );
}
