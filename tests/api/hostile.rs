//! Programs that have gone wrong: what they may cost.

use std::collections::BTreeSet;
use std::time::Duration;

use blvm_mesh::socket::MAX_CONNECTIONS;
use mesh_api::frames::{Failure, FromMesh, MAX_CALLS_IN_FLIGHT, ToMesh, VERSION, framed};
use mesh_api::socket::{SocketCaller, SocketError};
use mesh_api::{
    AwaitDeliveriesRequest, DiscoverRouteRequest, MeshClient, ModuleCaller, SendPacketRequest, decode, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::common::{PATIENCE, eventually};
use crate::stage::Stage;

async fn raw(stage: &Stage) -> UnixStream {
    UnixStream::connect(stage.socket_path()).await.unwrap()
}

async fn say(stream: &mut UnixStream, message: &ToMesh) {
    stream.write_all(&framed(message).unwrap()).await.unwrap();
}

fn hello(name: &str, takes_deliveries: bool) -> ToMesh {
    ToMesh::Hello {
        version: VERSION,
        name: name.to_owned(),
        takes_deliveries,
    }
}

/// The next message; none when the mesh has hung up.
async fn hear(stream: &mut UnixStream) -> Option<FromMesh> {
    let reading = async {
        let length = stream.read_u32_le().await.ok()?;
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.ok()?;
        Some(decode(&body).unwrap())
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap()
}

async fn goodbye(stream: &mut UnixStream) -> String {
    match hear(stream).await {
        Some(FromMesh::Goodbye { reason }) => {
            assert_eq!(hear(stream).await, None, "and it hangs up");
            reason
        }
        other => panic!("{other:?}"),
    }
}

async fn greeted(stage: &Stage, name: &str, takes_deliveries: bool) -> UnixStream {
    let mut stream = raw(stage).await;
    say(&mut stream, &hello(name, takes_deliveries)).await;
    assert!(matches!(hear(&mut stream).await, Some(FromMesh::Welcome { .. })));
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_answered_with_a_reason_and_a_hang_up_and_others_are_served_on() {
    let stage = Stage::new(80).await;
    let server = stage.serve();
    let good = MeshClient::new(SocketCaller::connect(stage.socket_path(), "good").await.unwrap());

    let mut stream = raw(&stage).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(goodbye(&mut stream).await.contains("bytes"));

    let mut stream = raw(&stage).await;
    stream.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    assert!(goodbye(&mut stream).await.contains("4294967295 bytes"));

    let mut stream = raw(&stage).await;
    stream.write_all(&[4, 0, 0, 0, 9, 9, 9, 9]).await.unwrap();
    assert!(goodbye(&mut stream).await.contains("ToMesh"));

    let mut stream = raw(&stage).await;
    stream.write_all(&[0; 4]).await.unwrap();
    assert!(goodbye(&mut stream).await.contains("ToMesh"));

    let mut stream = raw(&stage).await;
    let call = ToMesh::Call {
        id: 1,
        method: "get_node_id".into(),
        payload: Vec::new(),
    };
    say(&mut stream, &call).await;
    assert!(goodbye(&mut stream).await.contains("hello"));

    let mut stream = raw(&stage).await;
    let other_version = ToMesh::Hello {
        version: 2,
        name: "x".into(),
        takes_deliveries: false,
    };
    say(&mut stream, &other_version).await;
    assert!(goodbye(&mut stream).await.contains("version 1"));

    let mut stream = raw(&stage).await;
    say(&mut stream, &hello("a\u{1b}[31m", false)).await;
    assert!(goodbye(&mut stream).await.contains("name"));

    let mut stream = greeted(&stage, "twice", false).await;
    say(&mut stream, &hello("twice", false)).await;
    assert!(goodbye(&mut stream).await.contains("second hello"));

    // A word on a packet that was never handed over means nothing.
    let mut stream = greeted(&stage, "liar", true).await;
    for id in [0, 1, u64::MAX] {
        say(&mut stream, &ToMesh::Handled { id, error: None }).await;
    }
    say(&mut stream, &call).await;
    assert!(matches!(
        hear(&mut stream).await,
        Some(FromMesh::Answered { id: 1, .. })
    ));

    assert!(good.get_node_id().await.is_ok());
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_are_told_so_and_places_come_free() {
    let stage = Stage::new(82).await;
    let server = stage.serve();
    let mut held = Vec::new();
    for number in 0..MAX_CONNECTIONS {
        held.push(greeted(&stage, &number.to_string(), false).await);
    }
    let refused = SocketCaller::connect(stage.socket_path(), "late")
        .await
        .err()
        .unwrap();
    match refused {
        SocketError::TurnedAway { reason } => assert!(reason.contains("64 clients"), "{reason}"),
        other => panic!("{other}"),
    }
    held.pop();
    eventually("a free place", async || {
        SocketCaller::connect(stage.socket_path(), "late").await.ok()
    })
    .await;
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beyond_those_that_may_be_under_way_fail_as_busy_and_nothing_else_does() {
    let stage = Stage::new(84).await;
    let server = stage.serve();
    let mut stream = greeted(&stage, "greedy", false).await;
    // Nobody has this id, so each of these takes its time.
    let look = DiscoverRouteRequest {
        destination: [0xee; 32],
        max_hops: None,
        timeout_seconds: Some(3),
    };
    let look = encode(&look).unwrap();
    let calls = MAX_CALLS_IN_FLIGHT as u64 + 10;
    for id in 0..calls {
        let (method, payload) = ("discover_route".to_owned(), look.clone());
        say(&mut stream, &ToMesh::Call { id, method, payload }).await;
    }
    for id in MAX_CALLS_IN_FLIGHT as u64..calls {
        match hear(&mut stream).await {
            Some(FromMesh::Failed {
                id: failed,
                failure: Failure::Busy,
                ..
            }) => assert_eq!(failed, id),
            other => panic!("{other:?}"),
        }
    }
    let mut found = BTreeSet::new();
    for _ in 0..MAX_CALLS_IN_FLIGHT {
        match hear(&mut stream).await {
            Some(FromMesh::Answered { id, .. }) => found.insert(id),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(found, (0..MAX_CALLS_IN_FLIGHT as u64).collect());
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_too_many_calls_that_wait_are_answered_at_once() {
    let stage = Stage::new(90).await;
    let server = stage.serve();
    let mut stream = greeted(&stage, "patient", false).await;
    let wait = AwaitDeliveriesRequest {
        protocol_id: Some("never".into()),
        max_deliveries: 1,
        timeout_seconds: 300,
    };
    let wait = encode(&wait).unwrap();
    for id in 0..10 {
        let (method, payload) = ("await_deliveries".to_owned(), wait.clone());
        say(&mut stream, &ToMesh::Call { id, method, payload }).await;
    }
    for _ in 8..10 {
        assert!(matches!(hear(&mut stream).await, Some(FromMesh::Answered { .. })));
    }
    assert_eq!(stage.api.waiting_calls(), 8);
    drop(stream);
    eventually("no wait", async || (stage.api.waiting_calls() == 0).then_some(())).await;
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_that_its_client_left_unread_waits_for_it() {
    let stage = Stage::new(86).await;
    let server = stage.serve();
    let mut stream = greeted(&stage, "deaf", true).await;
    let registering = ToMesh::Call {
        id: 1,
        method: "register_protocol_handler".into(),
        payload: encode(&mesh_api::RegisterProtocolRequest {
            protocol_id: "p".into(),
            handler_method: "on".into(),
        })
        .unwrap(),
    };
    say(&mut stream, &registering).await;
    assert!(matches!(
        hear(&mut stream).await,
        Some(FromMesh::Answered { id: 1, .. })
    ));
    stage.send(Some("p"), vec![0; 256 * 1024]).await;
    eventually("the packet", async || {
        let counters = stage.api.delivery_counters();
        (counters.waiting == 0 && counters.unclaimed == 0).then_some(())
    })
    .await;
    // The frame is longer than a socket's buffer; dropped unread, it was not handled.
    drop(stream);
    eventually("the packet back", async || {
        (stage.api.delivery_counters().waiting == 1).then_some(())
    })
    .await;
    let (_caller, mut arrivals) = SocketCaller::connect_for_deliveries(stage.socket_path(), "deaf")
        .await
        .unwrap();
    let arrival = tokio::time::timeout(PATIENCE, arrivals.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(arrival.delivery.payload.len(), 256 * 1024);
    arrival.handled();
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_sent_message_does_not_hold_a_place_for_ever() {
    let stage = Stage::new(88).await;
    let server = stage.serve();
    let mut silent = raw(&stage).await;
    let mut half = greeted(&stage, "half", false).await;
    half.write_all(&[200, 0, 0, 0, 1]).await.unwrap();
    let (no_hello, unfinished) = tokio::time::timeout(Duration::from_secs(25), async {
        tokio::join!(goodbye(&mut silent), goodbye(&mut half))
    })
    .await
    .unwrap();
    assert!(no_hello.contains("no hello"), "{no_hello}");
    assert!(unfinished.contains("not finished"), "{unfinished}");
    server.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_fills_its_share_of_the_room_for_requests_holds_up_itself_and_nobody_else() {
    let stage = Stage::new(92).await;
    let server = stage.serve();
    // Nobody has this id, so each of these takes its time, and its room.
    let send = SendPacketRequest {
        destination: [0xee; 32],
        payload: vec![0; 256 * 1024],
        payment_proof: None,
        protocol_id: None,
        ttl: None,
    };
    let payload = encode(&send).unwrap();
    let mut greedy = Vec::new();
    for _ in 0..5 {
        let mut stream = greeted(&stage, "greedy", false).await;
        let payload = payload.clone();
        greedy.push(tokio::spawn(async move {
            for id in 0..MAX_CALLS_IN_FLIGHT as u64 {
                let (method, payload) = ("send_packet".to_owned(), payload.clone());
                let call = ToMesh::Call { id, method, payload };
                let said = tokio::time::timeout(Duration::from_millis(500), say(&mut stream, &call));
                if said.await.is_err() {
                    return (stream, true);
                }
            }
            (stream, false)
        }));
    }
    // 160 requests of 256 KiB are more than all the room that there is: the mesh reads no more of them.
    let mut held = Vec::new();
    for stream in greedy {
        held.push(stream.await.unwrap());
    }
    assert!(held.iter().any(|(_, stalled)| *stalled), "it filled its share");
    let modest = SocketCaller::connect(stage.socket_path(), "modest")
        .await
        .unwrap();
    let long = modest.call("no_such_method", vec![0; 300 * 1024]);
    let refused = tokio::time::timeout(Duration::from_secs(2), long).await;
    assert!(refused.expect("it is read at once").is_err());
    // And the greedy one is still heard when it says little.
    let little = SocketCaller::connect(stage.socket_path(), "greedy")
        .await
        .unwrap();
    let id = tokio::time::timeout(Duration::from_secs(2), little.call("get_node_id", Vec::new()));
    assert!(id.await.expect("it is read at once").is_ok());
    drop(held);
    server.stop().await;
    stage.stop().await;
}
