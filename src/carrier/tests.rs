//! The carrier between mesh nodes whose Bitcoin nodes pass messages in memory, in paused time: links as over TCP, and what
//! bad ways and bad neighbours may do to them.

mod hub;
mod nodes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mesh_net::{Carrier, Channel, CloseReason, EndpointConfig, MAX_DATA_FRAME_BYTES, Transport};
use tokio::time::Instant;

use super::envelope::ENVELOPE_BYTES;
use super::frame::{Carry, End, Frame, Token};
use super::*;
use hub::{Mesh, connect, each, swapping};

async fn linked() -> (Mesh, Mesh, SocketAddr, SocketAddr) {
    let (mut a, mut b) = (Mesh::start(1), Mesh::start(2));
    let (b_address, a_address) = connect(&a, &b);
    assert_eq!(a.up().await.0, b.id);
    assert_eq!(b.up().await.0, a.id);
    (a, b, b_address, a_address)
}

#[tokio::test(start_paused = true)]
async fn link_comes_up_over_frames_and_carries_packets_of_every_size_both_ways() {
    let (mut a, mut b) = (Mesh::start(1), Mesh::start(2));
    connect(&a, &b);
    let (to_b, to_a) = (a.up().await.1, b.up().await.1);
    assert_eq!(a.endpoint.carrier_port().link_to(&b.id), Some(Carrier::Node));
    let long: Bytes = (0..MAX_DATA_FRAME_BYTES)
        .map(|i| i as u8)
        .collect::<Vec<_>>()
        .into();
    let batch = vec!["short".into(), long.clone(), long, "end".into()];
    to_b.try_send_data(batch.clone()).unwrap();
    to_a.try_send_data(batch.clone()).unwrap();
    assert_eq!(b.frames(Channel::Data, 4).await, batch);
    assert_eq!(a.frames(Channel::Data, 4).await, batch);
    to_a.try_send_control(vec!["control".into()]).unwrap();
    assert_eq!(a.frames(Channel::Control, 1).await, ["control"]);
}

#[tokio::test(start_paused = true)]
async fn control_passes_a_long_queue_of_data() {
    let (mut a, mut b) = (Mesh::start(1), Mesh::start(2));
    connect(&a, &b);
    let to_b = a.up().await.1;
    b.up().await;
    let data = vec![Bytes::from(vec![1; 100_000]); 20];
    to_b.try_send_data(data).unwrap();
    to_b.try_send_control(vec!["urgent".into()]).unwrap();
    let mut before = 0;
    loop {
        match b.next().await {
            mesh_net::LinkEvent::Frames {
                channel: Channel::Control,
                ..
            } => break,
            mesh_net::LinkEvent::Frames { frames, .. } => before += frames.len(),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(before <= 4, "{before} of 20 packets came first");
}

#[tokio::test(start_paused = true)]
async fn neighbour_that_takes_nothing_stops_the_sender_and_loses_nothing() {
    let (mut a, mut b) = (Mesh::start(1), Mesh::start(2));
    connect(&a, &b);
    let to_b = a.up().await.1;
    b.up().await;
    let sent: Vec<Bytes> = (0..90u8).map(|i| vec![i; 100_000].into()).collect();
    for packet in &sent {
        to_b.try_send_data(vec![packet.clone()]).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let taken = b.carrier.counters().bytes_received;
    // The 64 events that wait for the neighbour hold a packet each; besides there is the window.
    assert!(taken < 7_000_000, "{taken} bytes were sent to who takes nothing");
    assert_eq!(b.frames(Channel::Data, sent.len()).await, sent);
    assert_eq!(b.closed(CloseReason::WindowOverrun), 0);
}

#[tokio::test(start_paused = true)]
async fn lost_frame_ends_the_link_by_name_at_both_ends_and_it_comes_back() {
    let (mut a, mut b, b_address, _) = linked().await;
    a.spoil(
        b_address,
        each(|number, message| if number == 2 { vec![] } else { vec![message] }),
    );
    let to_b = a.endpoint.carrier_port();
    assert!(to_b.link_to(&b.id).is_some());
    assert_eq!(b.down().await, CloseReason::FramesLost);
    assert_eq!(a.down().await, CloseReason::FramesLost);
    assert_eq!(a.up().await.0, b.id);
    assert_eq!(b.up().await.0, a.id);
}

#[tokio::test(start_paused = true)]
async fn swapped_and_repeated_frames_change_nothing() {
    let (mut a, mut b) = (Mesh::start(1), Mesh::start(2));
    let (b_address, a_address) = connect(&a, &b);
    let to_b = a.up().await.1;
    b.up().await;
    a.spoil(b_address, swapping());
    b.spoil(a_address, each(|_, message| vec![message.clone(), message]));
    let sent: Vec<Bytes> = (0..200u8).map(|i| vec![i; 10_000].into()).collect();
    for packet in &sent {
        to_b.try_send_data(vec![packet.clone()]).unwrap();
    }
    assert_eq!(b.frames(Channel::Data, sent.len()).await, sent);
    assert_eq!(
        a.closed(CloseReason::FramesLost) + b.closed(CloseReason::FramesLost),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn changed_byte_is_noticed_as_on_any_wire() {
    let (mut a, mut b) = (Mesh::start(1), Mesh::start(2));
    let (b_address, _) = connect(&a, &b);
    let to_b = a.up().await.1;
    b.up().await;
    a.spoil(
        b_address,
        each(|_, mut message| {
            if let Some(last) = message.last_mut() {
                *last ^= 1;
            }
            vec![message]
        }),
    );
    to_b.try_send_data(vec!["to be tampered with".into()]).unwrap();
    assert_eq!(b.down().await, CloseReason::TlsViolation);
}

#[tokio::test(start_paused = true)]
async fn another_key_at_a_known_address_is_refused_by_name_before_it_is_a_stranger_again() {
    let (mut a, b) = (Mesh::start(1), Mesh::start(2));
    let (_, a_address) = connect(&a, &b);
    // Only a dials: what b asks is lost.
    let no_asks = each(|_, message| match read(&message) {
        Frame::Ask { .. } => vec![],
        _ => vec![message],
    });
    b.spoil(a_address, no_asks);
    assert_eq!(a.up().await.0, b.id);
    let mut thief = b.replace(3);
    a.down().await;
    let (peer, _) = a.up().await;
    assert_eq!((peer, thief.up().await.0), (thief.id, a.id));
    assert_eq!(a.closed(CloseReason::WrongIdentity), 1);
}

#[tokio::test(start_paused = true)]
async fn restarted_neighbour_is_linked_again() {
    let (mut a, b, _, _) = linked().await;
    let mut b = b.replace(2);
    let reason = a.down().await;
    assert!(
        matches!(reason, CloseReason::CarrierReset | CloseReason::PeerClosed),
        "{reason}"
    );
    assert_eq!((a.up().await.0, b.up().await.0), (b.id, a.id));
}

#[tokio::test(start_paused = true)]
async fn link_ends_with_the_connection_it_runs_over_and_returns_with_it() {
    let (mut a, mut b, b_address, a_address) = linked().await;
    a.disconnect(b_address);
    b.disconnect(a_address);
    assert_eq!(a.down().await, CloseReason::CarrierGone);
    assert_eq!(b.down().await, CloseReason::CarrierGone);
    connect(&b, &a);
    assert_eq!((a.up().await.0, b.up().await.0), (b.id, a.id));
}

#[tokio::test(start_paused = true)]
async fn events_about_peers_that_were_lost_are_made_up_for() {
    let (mut a, mut b) = (Mesh::start(1), Mesh::start(2));
    let (b_address, a_address) = hub::connect_untold(&a, &b);
    assert_eq!((a.up().await.0, b.up().await.0), (b.id, a.id));
    a.disconnect_untold(b_address);
    b.disconnect_untold(a_address);
    assert_eq!(a.down().await, CloseReason::CarrierGone);
    assert_eq!(b.down().await, CloseReason::CarrierGone);
}

#[tokio::test]
async fn direct_link_takes_the_place_of_a_carried_one_and_none_is_carried_while_it_stands() {
    let listening = EndpointConfig {
        listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..EndpointConfig::default()
    };
    tokio::time::pause();
    let mut a = Mesh::start_with(1, listening.clone(), Default::default());
    let mut b = Mesh::start_with(2, listening, Default::default());
    connect(&a, &b);
    a.up().await;
    b.up().await;
    tokio::time::resume();
    a.endpoint
        .add_peer(b.endpoint.local_addr().unwrap(), b.id)
        .unwrap();
    for mesh in [&mut a, &mut b] {
        let reason = mesh.down().await;
        assert!(
            matches!(reason, CloseReason::Superseded | CloseReason::PeerClosed),
            "{reason}"
        );
        mesh.up().await;
    }
    assert_eq!(a.endpoint.carrier_port().link_to(&b.id), Some(Carrier::Direct));
    let said_end = |mesh: &Mesh| {
        let log = mesh.node.log.lock().unwrap();
        log.iter()
            .any(|(_, _, message)| matches!(read(message), Frame::End { .. }))
    };
    a.until("the end of the conversation", |a| said_end(a) || said_end(&b))
        .await;
    assert_eq!((a.endpoint.live_links(), b.endpoint.live_links()), (1, 1));
}

fn read(message: &[u8]) -> Frame {
    Frame::decode(&Bytes::copy_from_slice(&message[ENVELOPE_BYTES..])).unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_second_sees_more_frames_than_the_budget_with_many_busy_neighbours() {
    let mut a = Mesh::start(1);
    let mut others: Vec<Mesh> = (2..8).map(Mesh::start).collect();
    for other in &others {
        connect(&a, other);
    }
    let mut senders = BTreeMap::new();
    while senders.len() < others.len() {
        let (peer, sender) = a.up().await;
        senders.insert(peer, sender);
    }
    for sender in senders.values() {
        sender
            .try_send_data(vec![Bytes::from(vec![7; 50_000]); 10])
            .unwrap();
    }
    for other in &mut others {
        other.up().await;
        other.frames(Channel::Data, 10).await;
    }
    let log = a.node.log.lock().unwrap();
    for (first, (start, ..)) in log.iter().enumerate() {
        let within = log[first..]
            .iter()
            .take_while(|(moment, ..)| *moment - *start < Duration::from_secs(1))
            .count();
        assert!(within <= (FRAMES_PER_SECOND + FRAMES_BURST) as usize, "{within}");
    }
    assert!(log.len() > 50, "the budget was put to the test");
}

#[tokio::test(start_paused = true)]
async fn peer_that_is_no_mesh_node_is_asked_thrice_and_left_alone() {
    let a = Mesh::start(1);
    let stranger = a.connect_stranger(1);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let log = a.node.log.lock().unwrap();
    assert_eq!(log.len(), MAX_UNANSWERED as usize);
    for (_, peer, message) in log.iter() {
        assert_eq!(*peer, stranger);
        assert!(matches!(read(message), Frame::Ask { .. }));
    }
}

/// A villain that speaks the frames well and nothing else.
fn villainous(a: &Mesh, villain: SocketAddr, frame: &Frame) -> usize {
    let bytes = frame.encode();
    a.carrier.on_packet(&villain.to_string(), &bytes);
    bytes.len()
}

#[tokio::test(start_paused = true)]
async fn flood_of_every_kind_is_bounded_counted_and_never_amplified() {
    let mut a = Mesh::start(1);
    let mut b = Mesh::start(2);
    let villain = a.connect_stranger(666);
    connect(&a, &b);
    let to_b = a.up().await.1;
    b.up().await;
    let mut heard_from_villain = 0;
    for round in 0..20_000u64 {
        let token = Token(round);
        let frame = match round % 4 {
            0 => Frame::Ask { from: token },
            1 => Frame::End {
                from: token,
                why: End::Lost,
            },
            2 => Frame::Answer {
                to: token,
                from: token,
            },
            _ => Frame::Carry(Carry {
                to: token,
                number: round,
                taken: [round; 2],
                chunks: ["x".into(), Bytes::new()],
            }),
        };
        heard_from_villain += villainous(&a, villain, &frame);
        a.carrier.on_packet(&villain.to_string(), &[round as u8; 100]);
        if round % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // The honest neighbour is still served.
    to_b.try_send_data(vec!["still here".into()]).unwrap();
    assert_eq!(b.frames(Channel::Data, 1).await, ["still here"]);
    let counts = a.carrier.counters();
    assert!(counts.flooded > 1_000 && counts.stray > 1_000, "{counts:?}");
    assert!(counts.unreadable > 1_000, "{counts:?}");
    assert_eq!(a.closed(CloseReason::BadCarrierFrame), counts.unreadable);
    let log = a.node.log.lock().unwrap();
    let said_to_villain: Vec<usize> = log
        .iter()
        .filter(|(_, peer, _)| *peer == villain)
        .map(|(_, _, message)| message.len() - ENVELOPE_BYTES)
        .collect();
    // Ten seconds passed: one answer in each, and what this side asked by itself.
    assert!(said_to_villain.len() <= 20, "{} answers", said_to_villain.len());
    assert!(said_to_villain.iter().all(|length| *length <= ASK_BYTES));
    assert!(said_to_villain.iter().sum::<usize>() < heard_from_villain);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_invented_peers_cost_a_bounded_table_and_few_conversations() {
    let mut a = Mesh::start(1);
    a.node.swallows.store(true, std::sync::atomic::Ordering::Relaxed);
    // The node's first list is here and empty; the next comes in a minute.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for number in 0..5_000u16 {
        let peer = SocketAddr::from(([10, (number >> 8) as u8, number as u8, 1], 8333));
        villainous(
            &a,
            peer,
            &Frame::Ask {
                from: Token(u64::from(number)),
            },
        );
        if number % 500 == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    a.until("refusals", |a| a.closed(CloseReason::PeersFull) > 4_000)
        .await;
    let counts = a.carrier.counters();
    assert_eq!(counts.conversations, MAX_CONVERSATIONS as u64);
    assert!(counts.asks_answered <= MAX_PEERS as u64);
    // None of them ever finishes the handshake: all of it is gone after its time.
    a.until("timeouts", |a| {
        a.closed(CloseReason::HandshakeTimeout) == 2 * MAX_CONVERSATIONS as u64
    })
    .await;
    let mut b = Mesh::start(2);
    // The node names whom it is connected to: the invented are forgotten, the true one is met.
    connect(&b, &a);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!((a.up().await.0, b.up().await.0), (b.id, a.id));
}

/// A villain that has agreed on a conversation with `a` as the one who asked.
async fn agreed(a: &Mesh, villain: SocketAddr) -> Token {
    villainous(a, villain, &Frame::Ask { from: Token(77) });
    a.until("an answer", |a| answer_to(a, villain).is_some()).await;
    answer_to(a, villain).unwrap()
}

fn answer_to(a: &Mesh, villain: SocketAddr) -> Option<Token> {
    let log = a.node.log.lock().unwrap();
    log.iter()
        .filter(|(_, peer, _)| *peer == villain)
        .find_map(|(_, _, message)| match read(message) {
            Frame::Answer { from, .. } => Some(from),
            _ => None,
        })
}

async fn last_word(a: &Mesh, villain: SocketAddr) -> End {
    let said = |a: &Mesh| {
        let log = a.node.log.lock().unwrap();
        log.iter()
            .filter(|(_, peer, _)| *peer == villain)
            .find_map(|(_, _, message)| match read(message) {
                Frame::End { why, .. } => Some(why),
                _ => None,
            })
    };
    a.until("an end", |a| said(a).is_some()).await;
    said(a).unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_overruns_the_window_or_lies_about_what_he_took_is_closed_by_name() {
    let lie = |to| Carry {
        to,
        number: 0,
        taken: [1, 0],
        chunks: [Bytes::new(), Bytes::new()],
    };
    let a = Mesh::start(1);
    let villain = a.connect_stranger(1);
    let to = agreed(&a, villain).await;
    villainous(&a, villain, &Frame::Carry(lie(to)));
    assert_eq!(last_word(&a, villain).await, End::Closed);
    a.until("its name", |a| a.closed(CloseReason::BadCarrierFrame) > 0)
        .await;

    let a = Mesh::start(1);
    let villain = a.connect_stranger(1);
    let to = agreed(&a, villain).await;
    // Nothing of this is TLS, so the first bytes end the handshake; what is held until then is bounded all the same.
    for number in 0..4 {
        let chunk = Bytes::from(vec![22; MAX_CHUNK_BYTES]);
        villainous(
            &a,
            villain,
            &Frame::Carry(Carry {
                to,
                number,
                taken: [0; 2],
                chunks: [chunk, Bytes::new()],
            }),
        );
    }
    a.until("the end", |a| {
        a.closed(CloseReason::WindowOverrun)
            + a.closed(CloseReason::NotTls)
            + a.closed(CloseReason::HandshakeFailed)
            > 0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn carrier_ends_with_its_endpoint() {
    let (mut a, b, _, _) = linked().await;
    drop(b.endpoint);
    assert!(matches!(
        a.down().await,
        CloseReason::PeerClosed | CloseReason::CarrierGone
    ));
    let started = Instant::now();
    while std::sync::Arc::strong_count(&b.node) > 1 {
        assert!(
            started.elapsed() < Duration::from_secs(100),
            "the task never ends"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[test]
fn peers_are_understood_as_the_node_names_them() {
    let named = |text: &str| address_of(text).map(|address| address.to_string());
    assert_eq!(named("1.2.3.4:8333").as_deref(), Some("1.2.3.4:8333"));
    assert_eq!(named("tcp:[::1]:50000").as_deref(), Some("[::1]:50000"));
    for other in ["0.0.0.0:0", "iroh:abcd", "", "example.org:8333"] {
        assert_eq!(named(other), None, "{other}");
    }
}

/// Not a promise, but what the documentation's figures come from: `cargo test --lib carrier -- --ignored --nocapture`.
#[tokio::test(start_paused = true)]
#[ignore = "measures"]
async fn measure_round_trip_and_throughput_at_the_nodes_pace() {
    let mut a = Mesh::start(1);
    let mut b = Mesh::start(2);
    for mesh in [&a, &b] {
        *mesh.node.latency.lock().unwrap() = Duration::from_micros(500);
    }
    connect(&a, &b);
    let met = Instant::now();
    let (to_b, to_a) = (a.up().await.1, b.up().await.1);
    println!("link up {:?} after the peer came", met.elapsed());
    let mut trips = Vec::new();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        to_b.try_send_data(vec![vec![1; 1024].into()]).unwrap();
        b.frames(Channel::Data, 1).await;
        to_a.try_send_data(vec![vec![1; 1024].into()]).unwrap();
        a.frames(Channel::Data, 1).await;
        trips.push(start.elapsed());
    }
    trips.sort();
    println!(
        "round trip of 1 KiB: median {:?}, worst {:?}",
        trips[20], trips[39]
    );
    for packet_bytes in [1024, 64 * 1024] {
        let before = a.carrier.counters().frames_sent;
        let start = Instant::now();
        let total = 8 * 1024 * 1024 / packet_bytes;
        let mut sent = 0;
        let mut got = 0;
        while got < total {
            while sent < total && sent < got + 500.min(2_000_000 / packet_bytes) {
                to_b.try_send_data(vec![vec![1; packet_bytes].into()]).unwrap();
                sent += 1;
            }
            match b.next().await {
                mesh_net::LinkEvent::Frames { frames, .. } => got += frames.len(),
                other => panic!("unexpected {other:?}"),
            }
        }
        let took = start.elapsed().as_secs_f64();
        println!(
            "one way, {packet_bytes} bytes: {:.2} MB/s, {:.0} packets/s, {:.1} frames/s",
            (total * packet_bytes) as f64 / took / 1e6,
            total as f64 / took,
            (a.carrier.counters().frames_sent - before) as f64 / took,
        );
    }
}

#[test]
fn protocol_document_says_what_the_code_does() {
    let document = include_str!("../../PROTOCOL.md");
    let (_, chapter) = document
        .split_once("## Links over the node's connections\n")
        .unwrap();
    let (chapter, _) = chapter.split_once("\n## ").unwrap();
    let count = |name: &str, value: u64| format!("| `{name}` | {value} |");
    let bytes = |name: &str, value: usize| format!("| `{name}` | {value} bytes |");
    let time = |name: &str, value: Duration| format!("| `{name}` | {} ms |", value.as_millis());
    let rows = [
        count("FRAMES_PER_SECOND", FRAMES_PER_SECOND.into()),
        count("FRAMES_BURST", FRAMES_BURST.into()),
        bytes("MAX_CHUNK_BYTES", MAX_CHUNK_BYTES),
        bytes("MAX_FRAME_BYTES", MAX_FRAME_BYTES),
        bytes("WINDOW_BYTES", WINDOW_BYTES),
        count("MAX_EARLY_FRAMES", MAX_EARLY_FRAMES as u64),
        time("EARLY_PATIENCE", EARLY_PATIENCE),
        count("MAX_PEERS", MAX_PEERS as u64),
        count("MAX_CONVERSATIONS", MAX_CONVERSATIONS as u64),
        time("FIRST_ASK_AFTER", FIRST_ASK_AFTER),
        time("ANSWER_WITHIN", ANSWER_WITHIN),
        count("MAX_UNANSWERED", MAX_UNANSWERED.into()),
        time("FIRST_PAUSE", FIRST_PAUSE),
        time("LONGEST_PAUSE", LONGEST_PAUSE),
    ];
    let written: Vec<&str> = chapter.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(written.len(), rows.len());
    for (line, row) in written.iter().zip(&rows) {
        assert!(line.starts_with(row.as_str()), "{line} should begin {row}");
    }
    let begins = format!("\"{}\" │ version", std::str::from_utf8(&MAGIC).unwrap());
    assert!(chapter.contains(&begins) && chapter.contains(&format!("u8 = {VERSION}")));
}
