//! The conversation with a node that behaves in every way a node may, and in some that it may not.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use node_ipc::testing::{FakeAnswer, FakeNode, NODE_VERSION};
use node_ipc::{
    CliSpec, Event, EventKind, EventPayload, Incoming, InvocationAnswer, InvocationKind, LogLevel, Message,
    NodeClient, Options, Request, RequestError, Response,
};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    _directory: TempDir,
    options: Options,
    node: FakeNode,
}

fn stage() -> Stage {
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

async fn next(incoming: &mut Receiver<Incoming>) -> Incoming {
    timeout(PATIENCE, incoming.recv())
        .await
        .expect("nothing came")
        .expect("the client ended")
}

async fn connected(incoming: &mut Receiver<Incoming>) {
    loop {
        if let Incoming::Connected { node_version } = next(incoming).await {
            assert_eq!(node_version, NODE_VERSION);
            return;
        }
    }
}

async fn next_event(incoming: &mut Receiver<Incoming>) -> Event {
    loop {
        if let Incoming::Event(event) = next(incoming).await {
            return event;
        }
    }
}

fn new_block(height: u64) -> EventPayload {
    EventPayload::NewBlock {
        block_hash: [7; 32],
        height,
    }
}

fn is_subscribed(node: &FakeNode) -> bool {
    node.asked("SubscribeEvents") >= 1
}

fn frame(contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap().to_be_bytes();
    [&length[..], contents].concat()
}

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
async fn subscribes_and_registers_again_after_every_reconnect() {
    let Stage {
        mut options,
        node,
        _directory,
    } = stage();
    options.api_methods = vec!["send_packet".to_owned()];
    options.rpc_endpoints = vec![("meshsendpacket".to_owned(), "Sends.".to_owned())];
    options.cli = Some(CliSpec {
        version: 1,
        name: "mesh".to_owned(),
        about: None,
        subcommands: Vec::new(),
    });
    let (_client, mut incoming) = NodeClient::start(options);
    for round in 1..=3 {
        connected(&mut incoming).await;
        node.until("everything registered", |node| {
            [
                "Handshake",
                "SubscribeEvents",
                "RegisterModuleApi",
                "RegisterRpcEndpoint",
                "RegisterCliSpec",
            ]
            .iter()
            .all(|name| node.asked(name) == round)
        })
        .await;
        node.publish(new_block(round as u64)).await;
        assert_eq!(
            next_event(&mut incoming).await,
            Event::from(new_block(round as u64))
        );
        node.close_all();
    }
}

#[tokio::test]
async fn registers_as_soon_as_the_node_says_that_it_has_started() {
    let Stage {
        mut options,
        node,
        _directory,
    } = stage();
    options.api_methods = vec!["send_packet".to_owned()];
    let begun = Instant::now();
    let (_client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    node.until("subscribed", is_subscribed).await;
    node.publish(EventPayload::NodeStartupCompleted {
        duration_ms: 1,
        components: Vec::new(),
    })
    .await;
    node.until("registered", |node| node.asked("RegisterModuleApi") == 1)
        .await;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "it waited although the node had said so"
    );
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
async fn a_registration_that_costs_the_connection_is_given_up_and_the_rest_lives() {
    let Stage {
        mut options,
        node,
        _directory,
    } = stage();
    options.api_methods = vec!["send_packet".to_owned()];
    options.rpc_endpoints = vec![
        ("meshsendpacket".to_owned(), String::new()),
        ("meshquoteroute".to_owned(), String::new()),
    ];
    node.answer_with(|request| {
        matches!(request, Request::RegisterRpcEndpoint { .. }).then_some(FakeAnswer::Close)
    });
    let (client, mut incoming) = NodeClient::start(options);
    let giving_up = async {
        while client.counters().registrations_given_up < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = giving_up => {}
        () = async { loop { next(&mut incoming).await; } } => {}
    }
    assert_eq!(
        node.asked("RegisterRpcEndpoint"),
        3,
        "the second was not tried after the first had shown what happens"
    );
    connected(&mut incoming).await;
    node.until("the API is registered again", |node| {
        node.asked("RegisterModuleApi") == 4
    })
    .await;
    assert_eq!(client.block_height().await, Ok(0));
    assert_eq!((client.counters().disconnects, node.accepted()), (3, 4));
}

#[tokio::test]
async fn a_refused_registration_is_tried_a_few_times_on_the_same_connection() {
    let Stage {
        mut options,
        node,
        _directory,
    } = stage();
    options.api_methods = vec!["send_packet".to_owned()];
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    node.answer_with(move |request| {
        let register = matches!(request, Request::RegisterModuleApi { .. });
        let early = register && counted.fetch_add(1, Ordering::SeqCst) == 0;
        early.then(|| FakeAnswer::Refuse("IPC handle not available".to_owned()))
    });
    let (client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    node.until("registered at the second attempt", |node| {
        node.asked("RegisterModuleApi") == 2
    })
    .await;
    assert_eq!(client.block_height().await, Ok(0));
    let counters = client.counters();
    assert_eq!(
        (
            counters.registrations_refused,
            counters.registrations_given_up,
            counters.disconnects
        ),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn calls_of_others_are_answered_and_a_forgotten_one_is_an_error() {
    let Stage {
        options,
        node,
        _directory,
    } = stage();
    let (_client, mut incoming) = NodeClient::start(options);
    connected(&mut incoming).await;
    let call = |method: &str| InvocationKind::ModuleApi {
        method: method.to_owned(),
        params: vec![1, 2],
        caller_module_id: "chat".to_owned(),
    };
    let module = async {
        for _ in 0..2 {
            match next(&mut incoming).await {
                Incoming::Invocation(invocation) if invocation.kind == call("echo") => {
                    invocation.answer(Ok(InvocationAnswer::ModuleApi(vec![2, 1])));
                }
                Incoming::Invocation(forgotten) => drop(forgotten),
                other => panic!("{other:?}"),
            }
        }
    };
    let callers = async {
        assert_eq!(
            node.invoke(call("echo")).await,
            Ok(InvocationAnswer::ModuleApi(vec![2, 1]))
        );
        assert_eq!(
            node.invoke(call("forget")).await,
            Err("the module did not answer".to_owned())
        );
    };
    tokio::join!(module, callers);
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
