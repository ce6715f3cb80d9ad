//! Subscribing and registering, on every connection anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use node_ipc::testing::FakeAnswer;
use node_ipc::{CliSpec, Event, EventPayload, NodeClient, Request};
use tokio::time::Instant;

use crate::stage::{Stage, connected, is_subscribed, new_block, next, next_event, stage};

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
