//! The same API over the socket, with the published client.

use std::time::Duration;

use blvm_mesh::admin::BindError;
use blvm_mesh::socket::SocketServer;
use mesh_api::socket::{Arrivals, SocketCaller, SocketError};
use mesh_api::{
    AwaitDeliveriesRequest, CallError, ClientError, GetNodeIdRequest, MeshClient, ModuleCaller,
    OpenSessionRequest, OpenSessionResponse, QuoteRouteRequest, QuoteRouteResponse,
};

use crate::common::{PATIENCE, eventually};
use crate::stage::{Stage, poll, register};

async fn client(stage: &Stage, name: &str) -> MeshClient<SocketCaller> {
    MeshClient::new(SocketCaller::connect(stage.socket_path(), name).await.unwrap())
}

async fn next(arrivals: &mut Arrivals) -> mesh_api::socket::Arrival {
    tokio::time::timeout(PATIENCE, arrivals.next())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_calls_the_mesh_over_its_socket_as_a_module_would() {
    let stage = Stage::new(60).await;
    let server = stage.serve();
    let client = client(&stage, "tool").await;
    assert_eq!(client.get_node_id().await.unwrap(), stage.receiver.id().0);
    let stats = client.get_routing_stats().await.unwrap();
    assert_eq!(stats.routing.direct_peers, 1);
    let caller = SocketCaller::connect(stage.socket_path(), "raw").await.unwrap();
    assert_eq!(caller.node_id(), stage.receiver.id().0);
    match caller.call("fly", Vec::new()).await {
        Err(CallError::Refused { reason }) => assert!(reason.contains("fly"), "{reason}"),
        other => panic!("{other:?}"),
    }
    match caller.call("get_node_id", vec![1, 2, 3]).await {
        Err(CallError::Refused { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(
        caller.call("get_node_id", Vec::new()).await.is_ok(),
        "a refused call ends nothing"
    );
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_are_answered_each_with_its_own_and_a_slow_one_holds_up_none() {
    let stage = Stage::new(62).await;
    let server = stage.serve();
    let client = client(&stage, "tool").await;
    let slow = client.await_deliveries(AwaitDeliveriesRequest {
        protocol_id: Some("never".into()),
        max_deliveries: 1,
        timeout_seconds: 300,
    });
    let quick = async {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..500 {
            let client = client.clone();
            calls.spawn(async move { client.call(&GetNodeIdRequest {}).await.unwrap().node_id });
        }
        calls.join_all().await
    };
    tokio::select! {
        _ = slow => panic!("nothing came for it"),
        ids = tokio::time::timeout(PATIENCE, quick) => {
            assert_eq!(ids.unwrap(), vec![stage.receiver.id().0; 500]);
        }
    }
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_are_pushed_over_the_connection_in_order_and_the_next_waits_for_the_last() {
    let stage = Stage::new(64).await;
    let server = stage.serve();
    let (caller, mut arrivals) = SocketCaller::connect_for_deliveries(stage.socket_path(), "chat")
        .await
        .unwrap();
    let chat = MeshClient::new(caller);
    assert!(register(&chat, "messaging-v1", "on_message").await);
    for number in 0..100u8 {
        stage.send(Some("messaging-v1"), vec![number]).await;
    }
    let first = next(&mut arrivals).await;
    assert_eq!(
        (first.handler_method.as_str(), first.delivery.payload[0]),
        ("on_message", 0)
    );
    let early = tokio::time::timeout(Duration::from_millis(100), arrivals.next());
    assert!(early.await.is_err(), "one at a time");
    first.handled();
    for number in 1..100u8 {
        let arrival = next(&mut arrivals).await;
        assert_eq!(arrival.delivery.payload, [number]);
        arrival.handled();
    }
    eventually("the last word", async || {
        (stage.api.delivery_counters().pushed == 100).then_some(())
    })
    .await;
    assert!(poll(&chat, Some("messaging-v1")).await.is_empty());
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_arrival_that_was_refused_or_dropped_comes_again_and_a_poll_gets_what_nobody_takes() {
    let stage = Stage::new(66).await;
    let server = stage.serve();
    let (caller, mut arrivals) = SocketCaller::connect_for_deliveries(stage.socket_path(), "chat")
        .await
        .unwrap();
    let chat = MeshClient::new(caller);
    assert!(register(&chat, "p", "on").await);
    stage.send(Some("p"), vec![1]).await;
    stage.send(Some("p"), vec![2]).await;
    next(&mut arrivals).await.failed("not now");
    drop(next(&mut arrivals).await);
    let third = next(&mut arrivals).await;
    assert_eq!(third.delivery.payload, [1]);
    third.failed("never");
    let other = next(&mut arrivals).await;
    assert_eq!(
        other.delivery.payload,
        [2],
        "one bad packet does not end the traffic"
    );
    other.handled();
    let left = poll(&chat, Some("p")).await;
    assert_eq!((left.len(), left[0].payload.as_slice()), (1, &[1][..]));
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_mesh_fails_calls_at_once_and_deliveries_come_again_by_themselves() {
    let mut stage = Stage::new(68).await;
    let server = stage.serve();
    let (caller, mut arrivals) = SocketCaller::connect_for_deliveries(stage.socket_path(), "chat")
        .await
        .unwrap();
    let chat = MeshClient::new(caller);
    assert!(register(&chat, "p", "on").await);
    let waiting = tokio::spawn({
        let chat = chat.clone();
        async move {
            let wait = AwaitDeliveriesRequest {
                protocol_id: None,
                max_deliveries: 1,
                timeout_seconds: 300,
            };
            chat.await_deliveries(wait).await
        }
    });
    // The server has it when it has answered what came behind it.
    tokio::task::yield_now().await;
    chat.get_node_id().await.unwrap();
    server.stop().await;
    let failed = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(
        matches!(
            failed,
            Err(ClientError::Call {
                source: CallError::Unreachable { .. },
                ..
            })
        ),
        "{failed:?}"
    );
    match chat.get_node_id().await {
        Err(ClientError::Call {
            source: CallError::Unreachable { reason },
            ..
        }) => {
            assert!(reason.contains("api.sock"), "{reason}");
        }
        other => panic!("{other:?}"),
    }

    stage.restart_api().await;
    let server = stage.serve();
    stage.send(Some("p"), vec![7]).await;
    let arrival = next(&mut arrivals).await;
    assert_eq!(arrival.delivery.payload, [7], "without registering again");
    arrival.handled();
    assert_eq!(chat.get_node_id().await.unwrap(), stage.receiver.id().0);
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_one_name_share_what_they_have_and_the_host_s_module_of_that_name_has_its_own() {
    let stage = Stage::new(70).await;
    let server = stage.serve();
    let (one, same, other) = (
        client(&stage, "chat").await,
        client(&stage, "chat").await,
        client(&stage, "other").await,
    );
    assert!(register(&one, "p", "").await);
    assert!(register(&same, "p", "").await, "it is the same client");
    assert!(!register(&other, "p", "").await);
    assert!(
        !register(&stage.module("chat"), "p", "").await,
        "the socket's chat is not the host's"
    );
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_none_and_places_where_nobody_is_are_told_apart() {
    let stage = Stage::new(72).await;
    let nobody = SocketCaller::connect(stage.socket_path(), "tool")
        .await
        .err()
        .unwrap();
    assert!(matches!(&nobody, SocketError::Unreachable { .. }), "{nobody}");
    let server = stage.serve();
    for name in ["", "a\nb", &"x".repeat(65)] {
        let refused = SocketCaller::connect(stage.socket_path(), name)
            .await
            .err()
            .unwrap();
        assert!(matches!(&refused, SocketError::BadName { .. }), "{refused}");
    }
    let second = SocketServer::start(&stage.socket_path(), stage.api.clone());
    assert!(matches!(second, Err(BindError::InUse(_))));
    server.stop().await;
    assert!(!stage.socket_path().exists());

    // What a killed daemon leaves is replaced; what is no socket is not.
    let dead = std::os::unix::net::UnixListener::bind(stage.socket_path()).unwrap();
    drop(dead);
    stage.serve().stop().await;
    std::fs::write(stage.socket_path(), b"precious").unwrap();
    let refused = SocketServer::start(&stage.socket_path(), stage.api.clone());
    assert!(matches!(refused, Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read(stage.socket_path()).unwrap(), b"precious");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hangs_up_while_it_waits_loses_nothing() {
    let stage = Stage::new(74).await;
    let server = stage.serve();
    let keeper = client(&stage, "chat").await;
    assert!(register(&keeper, "p", "").await);
    let gone = client(&stage, "chat").await;
    let wait = AwaitDeliveriesRequest {
        protocol_id: Some("p".into()),
        max_deliveries: 1,
        timeout_seconds: 300,
    };
    let hung_up = tokio::time::timeout(Duration::from_millis(200), gone.await_deliveries(wait));
    assert!(hung_up.await.is_err());
    drop(gone);
    // The server has noticed when the wait is over; asked until then.
    eventually("the hang-up", async || {
        (stage.api.waiting_calls() == 0).then_some(())
    })
    .await;
    stage.send(Some("p"), vec![5]).await;
    let got = eventually("the packet", async || {
        Some(poll(&keeper, Some("p")).await).filter(|got| !got.is_empty())
    })
    .await;
    assert_eq!(got[0].payload, [5]);
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_known_over_every_connection_of_its_client_s_name_and_over_no_other() {
    let stage = Stage::new(76).await;
    let server = stage.serve();
    let (one, same, other) = (
        client(&stage, "chat").await,
        client(&stage, "chat").await,
        client(&stage, "other").await,
    );
    let quote = QuoteRouteRequest {
        destination: stage.sender.id().0,
        max_hops: None,
        timeout_seconds: Some(10),
        units: 100,
        max_fee_msat: None,
        avoid: Vec::new(),
        method: Default::default(),
    };
    let QuoteRouteResponse::Quoted(quote) = one.quote_route(quote).await.unwrap() else {
        panic!("no quote");
    };
    let open = || OpenSessionRequest {
        quote_id: quote.quote_id,
        payment_proof: None,
        max_fee_msat: None,
    };
    let stolen = other.open_session(open()).await.unwrap();
    assert!(matches!(stolen, OpenSessionResponse::Refused { .. }));
    let OpenSessionResponse::Opened(opened) = same.open_session(open()).await.unwrap() else {
        panic!("no session");
    };
    let session = one.get_session(opened.session_id).await.unwrap().unwrap();
    assert_eq!(
        (session.units_remaining, session.packets_sent),
        (u64::MAX, 0),
        "nobody is paid"
    );
    assert_eq!(other.get_session(opened.session_id).await.unwrap(), None);
    assert!(!other.close_session(opened.session_id).await.unwrap().closed);
    assert!(one.close_session(opened.session_id).await.unwrap().closed);
    server.stop().await;
    stage.stop().await;
}
