//! Links over real sockets on loopback, and the crimes they must survive.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::identity::{Identity, NodeId};
use mesh_net::{
    Channel, CloseReason, DialError, Endpoint, EndpointConfig, LinkEvent, LinkId, LinkSender,
    MAX_CONTROL_FRAME_BYTES, MAX_DATA_FRAME_BYTES, SendError, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than anything here takes; only a broken link layer ever waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    id: NodeId,
    endpoint: Endpoint,
    events: mpsc::Receiver<LinkEvent>,
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32]).unwrap()
}

fn config() -> EndpointConfig {
    EndpointConfig {
        listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        initial_backoff: Duration::from_millis(20),
        max_backoff: Duration::from_millis(100),
        jitter_seed: Some(1),
        ..EndpointConfig::default()
    }
}

fn start(seed: u8, config: EndpointConfig) -> Node {
    let (sender, events) = mpsc::channel(16);
    let identity = identity(seed);
    let endpoint = Endpoint::bind(config, &identity, sender).unwrap();
    Node {
        id: identity.node_id(),
        endpoint,
        events,
    }
}

impl Node {
    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    fn dial(&self, other: &Node) {
        self.endpoint.add_peer(other.address(), other.id).unwrap();
    }

    async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event in time")
            .expect("an endpoint")
    }

    async fn up(&mut self) -> (LinkSender, NodeId, bool) {
        match self.next().await {
            LinkEvent::Up {
                peer,
                dialled,
                sender,
                ..
            } => (sender, peer, dialled),
            other => panic!("expected Up, got {other:?}"),
        }
    }

    async fn down(&mut self) -> (LinkId, CloseReason) {
        loop {
            match self.next().await {
                LinkEvent::Down { link, reason, .. } => return (link, reason),
                LinkEvent::Frames { .. } => {}
                other => panic!("expected Down, got {other:?}"),
            }
        }
    }

    /// The next `count` frames on `channel`; nothing else may come.
    async fn frames(&mut self, channel: Channel, count: usize) -> Vec<Bytes> {
        let mut got = Vec::new();
        while got.len() < count {
            match self.next().await {
                LinkEvent::Frames {
                    channel: on, frames, ..
                } if on == channel => got.extend(frames),
                other => panic!("expected {channel:?} frames, got {other:?}"),
            }
        }
        got
    }

    /// Waits until a connection was closed for `reason`.
    async fn closed(&self, reason: CloseReason) {
        self.until(
            |node| node.endpoint.counters().closed(reason) > 0,
            reason.as_str(),
        )
        .await;
    }

    async fn until(&self, done: impl Fn(&Self) -> bool, what: &str) {
        let waited = timeout(PATIENCE, async {
            while !done(self) {
                tokio::task::yield_now().await;
            }
        });
        assert!(
            waited.await.is_ok(),
            "{what} never came: {:?}",
            self.endpoint.counters()
        );
    }
}

/// Two linked nodes; the first dialled.
async fn linked(a: EndpointConfig, b: EndpointConfig) -> (Node, Node, LinkSender, LinkSender) {
    let (mut a, mut b) = (start(1, a), start(2, b));
    a.dial(&b);
    let (to_b, peer, dialled) = a.up().await;
    assert_eq!((peer, dialled), (b.id, true));
    let (to_a, peer, dialled) = b.up().await;
    assert_eq!((peer, dialled), (a.id, false));
    (a, b, to_b, to_a)
}

#[tokio::test]
async fn both_sides_exchange_frames_on_both_channels() {
    let (mut a, mut b, to_b, to_a) = linked(config(), config()).await;
    to_b.try_send_data(vec!["data to b".into()]).unwrap();
    assert_eq!(b.frames(Channel::Data, 1).await, ["data to b"]);
    to_b.try_send_control(vec!["control to b".into()]).unwrap();
    assert_eq!(b.frames(Channel::Control, 1).await, ["control to b"]);
    to_a.try_send_data(vec!["data to a".into()]).unwrap();
    assert_eq!(a.frames(Channel::Data, 1).await, ["data to a"]);
    to_a.try_send_control(vec!["control to a".into()]).unwrap();
    assert_eq!(a.frames(Channel::Control, 1).await, ["control to a"]);
    let counters = a.endpoint.counters();
    assert_eq!((counters.data_sent.frames, counters.data_sent.bytes), (1, 9));
    assert_eq!(
        (counters.control_received.frames, counters.control_received.bytes),
        (1, 12)
    );
}

#[tokio::test]
async fn longest_frames_arrive_whole_between_small_ones() {
    let (_a, mut b, to_b, _to_a) = linked(config(), config()).await;
    let big: Bytes = (0..MAX_DATA_FRAME_BYTES)
        .map(|i| i as u8)
        .collect::<Vec<_>>()
        .into();
    let batch = vec!["before".into(), big.clone(), big.clone(), "after".into()];
    to_b.try_send_data(batch.clone()).unwrap();
    assert_eq!(b.frames(Channel::Data, 4).await, batch);
    let control = vec![Bytes::from(vec![7; MAX_CONTROL_FRAME_BYTES])];
    to_b.try_send_control(control.clone()).unwrap();
    assert_eq!(b.frames(Channel::Control, 1).await, control);
}

#[tokio::test]
async fn batches_arrive_in_order_and_packed() {
    let (_a, mut b, to_b, _to_a) = linked(config(), config()).await;
    let mut sent = Vec::new();
    for batch in 0..200u32 {
        let frames: Vec<Bytes> = (0..16u32)
            .map(|i| vec![(batch * 16 + i) as u8; 1024].into())
            .collect();
        sent.extend(frames.iter().cloned());
        while to_b.try_send_data(frames.clone()) == Err(SendError::QueueFull) {
            tokio::task::yield_now().await;
        }
    }
    let mut got = Vec::new();
    let mut events = 0;
    while got.len() < sent.len() {
        match b.next().await {
            LinkEvent::Frames { frames, .. } => got.extend(frames),
            other => panic!("unexpected {other:?}"),
        }
        events += 1;
    }
    assert!(got == sent);
    assert!(
        events < sent.len() / 8,
        "{events} events for {} frames",
        sent.len()
    );
}

#[tokio::test]
async fn impostor_at_the_dialled_address_is_refused_by_name() {
    let (a, b) = (start(1, config()), start(2, config()));
    let expected = identity(9).node_id();
    a.endpoint.add_peer(b.address(), expected).unwrap();
    a.closed(CloseReason::WrongIdentity).await;
    a.until(|a| a.endpoint.dial_error(&expected).is_some(), "the error")
        .await;
    let wrong = DialError::WrongIdentity {
        expected,
        found: b.id,
    };
    assert_eq!(a.endpoint.dial_error(&expected), Some(wrong));
    assert_eq!(a.endpoint.live_links() + b.endpoint.live_links(), 0);
}

#[tokio::test]
async fn node_with_our_own_key_is_not_let_in() {
    let (a, b) = (start(1, config()), start(2, config()));
    let twin = start(1, config());
    twin.endpoint.add_peer(a.address(), b.id).unwrap();
    assert!(a.endpoint.add_peer(b.address(), a.id).is_err());
    twin.closed(CloseReason::WrongIdentity).await;
    assert_eq!(a.endpoint.live_links(), 0);
}

#[tokio::test]
async fn garbage_instead_of_tls_is_closed_and_counted() {
    let a = start(1, config());
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 0, 4, 1, 2, 3, 4]] {
        let mut stream = TcpStream::connect(a.address()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new()))
            .await
            .expect("closed in time");
    }
    a.until(
        |a| a.endpoint.counters().closed(CloseReason::NotTls) == 2,
        "not_tls",
    )
    .await;
}

fn hasty() -> EndpointConfig {
    EndpointConfig {
        handshake_timeout: Duration::from_millis(100),
        ..config()
    }
}

#[tokio::test]
async fn silent_connection_is_closed_as_half_open() {
    let a = start(1, hasty());
    let _silent = TcpStream::connect(a.address()).await.unwrap();
    a.closed(CloseReason::HalfOpen).await;
}

#[tokio::test]
async fn slow_loris_is_closed_however_it_trickles() {
    let a = start(1, hasty());
    let mut loris = TcpStream::connect(a.address()).await.unwrap();
    loris.write_all(&[22, 3, 1]).await.unwrap();
    a.closed(CloseReason::HandshakeTimeout).await;
}

#[tokio::test]
async fn silent_neighbour_is_dropped_as_idle_and_keepalives_prevent_it() {
    let patience = |keepalive, idle| EndpointConfig {
        keepalive_interval: Duration::from_millis(keepalive),
        idle_timeout: Duration::from_millis(idle),
        ..config()
    };
    let mut impatient = start(1, patience(50, 200));
    let mut talkative = start(2, patience(20, 10_000));
    let mut mute = start(3, patience(1_000_000, 1_000_000));
    talkative.dial(&impatient);
    talkative.up().await;
    let to_talkative = impatient.up().await.0;
    mute.dial(&impatient);
    mute.up().await;
    let to_mute = impatient.up().await.0;
    // The younger link dies of silence, the older one still stands by then.
    assert_eq!(impatient.down().await, (to_mute.link(), CloseReason::Idle));
    assert!(impatient.endpoint.sender(to_talkative.link()).is_some());
    to_talkative.try_send_data(vec!["still here".into()]).unwrap();
    assert_eq!(talkative.frames(Channel::Data, 1).await, ["still here"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_leave_exactly_one_link() {
    for round in 0..20 {
        let (mut a, mut b) = (start(1, config()), start(2, config()));
        a.dial(&b);
        b.dial(&a);
        let (to_b, _, a_dialled) = a.up().await;
        let (_, _, b_dialled) = b.up().await;
        assert_ne!(a_dialled, b_dialled, "round {round}");
        // Another pair would show as an event before this echo of many frames has passed.
        for _ in 0..50 {
            to_b.try_send_data(vec!["ping".into()]).unwrap();
            b.frames(Channel::Data, 1).await;
        }
        assert_eq!((a.endpoint.live_links(), b.endpoint.live_links()), (1, 1));
        assert_eq!(
            (a.endpoint.counters().links_up, b.endpoint.counters().links_up),
            (1, 1),
            "no flapping"
        );
    }
}

#[tokio::test]
async fn peer_that_was_killed_is_found_again() {
    let (mut a, b, to_b, _) = linked(config(), config()).await;
    let address = b.address();
    drop(b);
    let (link, reason) = a.down().await;
    assert_eq!(link, to_b.link());
    assert!(
        matches!(reason, CloseReason::PeerClosed | CloseReason::ConnectionLost),
        "{reason}"
    );
    let mut b = start(
        2,
        EndpointConfig {
            listen_addr: Some(address),
            ..config()
        },
    );
    let (again, ..) = a.up().await;
    assert_ne!(again.link(), link);
    b.up().await;
}

#[tokio::test]
async fn restarted_neighbour_replaces_its_dead_link_at_once() {
    // The higher node dials; the lower one has not noticed the restart and would otherwise insist on its own link.
    let (mut a, mut b) = (start(1, config()), start(2, config()));
    let (low, high) = if a.id < b.id {
        (&mut a, &mut b)
    } else {
        (&mut b, &mut a)
    };
    low.dial(high);
    low.up().await;
    high.up().await;
    let seed = if high.id == identity(1).node_id() { 1 } else { 2 };
    let mut restarted = start(seed, config());
    restarted.dial(low);
    restarted.up().await;
    assert_eq!(low.down().await.1, CloseReason::Superseded);
    let (_, peer, dialled) = low.up().await;
    assert_eq!((peer, dialled), (restarted.id, false));
}

#[tokio::test]
async fn slow_consumer_stops_the_sender_and_the_newest_packets_are_dropped_and_counted() {
    let small = EndpointConfig {
        data_queue_bytes: 1 << 20,
        ..config()
    };
    let (a, mut b, to_b, _) = linked(small, config()).await;
    let batch = vec![Bytes::from(vec![1; 64 * 1024])];
    let mut accepted = 0;
    let mut full = 0;
    // Until sockets, the event channel and the queue are all full; b reads nothing meanwhile.
    while full < 1_000 {
        match to_b.try_send_data(batch.clone()) {
            Ok(()) => accepted += 1,
            Err(error) => {
                assert_eq!(error, SendError::QueueFull);
                full += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(a.endpoint.counters().data_frames_dropped >= 1_000);
    // Control still works, and what was accepted arrives once b reads again.
    to_b.try_send_control(vec!["urgent".into()]).unwrap();
    let mut data = 0;
    let mut urgent = false;
    while data < accepted || !urgent {
        match b.next().await {
            LinkEvent::Frames {
                channel: Channel::Data,
                frames,
                ..
            } => data += frames.len(),
            LinkEvent::Frames {
                channel: Channel::Control,
                ..
            } => urgent = true,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(data, accepted);
}

#[tokio::test]
async fn neighbour_that_does_not_take_control_messages_loses_the_link() {
    let small = EndpointConfig {
        control_queue_bytes: 1 << 20,
        ..config()
    };
    let (mut a, _b, to_b, _) = linked(small, config()).await;
    let batch = vec![Bytes::from(vec![1; MAX_CONTROL_FRAME_BYTES])];
    while to_b.try_send_control(batch.clone()).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(a.down().await, (to_b.link(), CloseReason::ControlOverflow));
    assert_eq!(a.endpoint.counters().closed(CloseReason::ControlOverflow), 1);
}

#[tokio::test]
async fn full_node_refuses_by_name_and_dials_nobody() {
    let one = EndpointConfig {
        max_peers: 1,
        ..config()
    };
    let (a, _b, _, _) = linked(config(), one).await;
    let b_address = _b.address();
    let c = start(3, config());
    c.endpoint.add_peer(b_address, _b.id).unwrap();
    _b.closed(CloseReason::PeersFull).await;
    c.closed(CloseReason::RefusedByPeer).await;
    assert!(matches!(
        c.endpoint.dial_error(&_b.id),
        Some(DialError::Refused(_))
    ));
    assert_eq!((a.endpoint.live_links(), _b.endpoint.live_links()), (1, 1));
}

#[tokio::test]
async fn stranger_is_refused_where_only_a_list_is_allowed() {
    let mut b = start(
        2,
        EndpointConfig {
            allowed_peers: Some([identity(1).node_id()].into()),
            ..config()
        },
    );
    let (mut a, c) = (start(1, config()), start(3, config()));
    c.dial(&b);
    b.closed(CloseReason::NotAllowed).await;
    a.dial(&b);
    a.up().await;
    assert_eq!(b.up().await.1, a.id);
}

#[tokio::test]
async fn flood_from_one_address_is_cut_off_before_any_handshake() {
    let a = start(
        1,
        EndpointConfig {
            limit_loopback: true,
            max_handshakes_per_address: 3,
            accepts_per_minute_per_address: 100,
            ..config()
        },
    );
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.push(TcpStream::connect(a.address()).await.unwrap());
    }
    a.until(
        |a| a.endpoint.counters().closed(CloseReason::AddressBusy) == 7,
        "address_busy",
    )
    .await;
}

#[tokio::test]
async fn shutdown_ends_all_links_and_tasks_even_if_nobody_reads_events() {
    let (a, mut b, to_b, _) = linked(config(), config()).await;
    a.endpoint
        .add_peer(SocketAddr::from(([127, 0, 0, 1], 1)), identity(7).node_id())
        .unwrap();
    timeout(PATIENCE, a.endpoint.shutdown()).await.unwrap();
    assert_eq!(
        to_b.try_send_data(vec!["late".into()]),
        Err(SendError::LinkDown(CloseReason::Shutdown))
    );
    assert_eq!(b.down().await.1, CloseReason::PeerClosed);
    assert!(TcpStream::connect(a.address()).await.is_err());
    let mut events = a.events;
    // Every task held a sender; the channel ends only when all are gone.
    drop(a.endpoint);
    let rest = async { while events.recv().await.is_some() {} };
    timeout(PATIENCE, rest).await.expect("no task left");
}

#[tokio::test]
async fn disconnect_carries_its_reason_and_the_wanted_link_returns() {
    let (mut a, mut b, to_b, _) = linked(config(), config()).await;
    a.endpoint.disconnect(to_b.link(), CloseReason::Misbehaved);
    assert_eq!(a.down().await, (to_b.link(), CloseReason::Misbehaved));
    b.down().await;
    a.up().await;
    b.up().await;
    assert!(a.endpoint.sender(to_b.link()).is_none());
}
