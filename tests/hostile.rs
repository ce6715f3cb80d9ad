//! A running node among hostile neighbours and strangers: it stays up, serves the honest meanwhile, calls every crime
//! by its name, and holds a bounded amount of memory.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use blvm_mesh::handle::SendRequest;
use blvm_mesh::node::RunningNode;
use blvm_mesh::wallet::none::NoWallet;
use bytes::Bytes;
use common::{PATIENCE, TestNode, eventually, node_config, open_request, wait_linked};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Channel, Delivery, Status};
use mesh_core::identity::{Identity, NodeId};
use mesh_core::message::{ControlMessage, DiscoveryRequest, QuoteRequest, RouteCertificate};
use mesh_core::packet::{FrameKind, Preamble};
use mesh_core::routing_policy::{GovernanceKind, MeshMode, TrafficClass, encode_governance};
use mesh_core::time::UnixMillis;
use mesh_net::{CloseReason, Endpoint, EndpointConfig, LinkEvent, LinkSender, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// What a link forgives at once, as `DropReason::Malformed` promises a bounded number.
const FORGIVEN: u64 = 32;

/// The honest line A – victim – C. The victim dials both, so that limits on who dials it never touch them.
struct Line {
    a: TestNode,
    victim: TestNode,
    c: TestNode,
    mode: MeshMode,
    arrivals: mpsc::Receiver<Delivery>,
    sent: u64,
}

impl Line {
    async fn start(mode: MeshMode, links: EndpointConfig) -> Self {
        let a = TestNode::without_wallet(1, mode).await;
        let c = TestNode::without_wallet(3, mode).await;
        let directory = tempfile::tempdir().unwrap();
        let mut config = node_config(2, mode, Arc::new(NoWallet), &directory);
        config.links = links;
        let node = RunningNode::start(config).await.unwrap();
        let victim = TestNode { node, directory };
        victim.connect(&a);
        victim.connect(&c);
        wait_linked(&[(&a, 1), (&victim, 2), (&c, 1)]).await;
        let arrivals = c.node.handle().deliveries(Some("test".to_owned()));
        let mut line = Self {
            a,
            victim,
            c,
            mode,
            arrivals,
            sent: 0,
        };
        line.honest_packet_crosses().await;
        line
    }

    fn request(&mut self) -> SendRequest {
        self.sent += 1;
        let number = self.sent.to_be_bytes();
        match self.mode {
            MeshMode::Open => open_request(self.c.id(), &number),
            _ => SendRequest {
                class: TrafficClass::Governance,
                ..open_request(
                    self.c.id(),
                    &encode_governance(GovernanceKind::Vote, &number).unwrap(),
                )
            },
        }
    }

    /// From A over the victim to C, over the session that stands.
    async fn honest_packet_crosses(&mut self) {
        let request = self.request();
        let sent = self.a.node.handle().send_packet(request.clone()).await.unwrap();
        assert_eq!(sent.path, [self.a.id(), self.victim.id(), self.c.id()]);
        let delivery = timeout(PATIENCE, self.arrivals.recv()).await.unwrap().unwrap();
        assert_eq!(
            (delivery.packet_id, delivery.payload),
            (sent.packet_id, request.payload)
        );
    }

    /// The same with everything before it: discovery, quotes, a session of its own.
    async fn honest_session_opens(&mut self) {
        let (handle, class) = (self.a.node.handle().clone(), self.request().class);
        let routes = handle.discover(self.c.id(), 10, PATIENCE, true).await.unwrap();
        let path = routes.into_iter().next().unwrap().path;
        let buying = mesh_core::event::Buying::Nowhere;
        let slice = handle.quote(path, class, 16, buying, PATIENCE).await.unwrap();
        let opened = handle
            .open(slice.id, mesh_core::event::Funding::Proofs(Vec::new()))
            .await
            .unwrap();
        let payload = self.request().payload;
        handle
            .send(opened.session, "test", payload.clone(), PATIENCE)
            .await
            .unwrap();
        let delivery = timeout(PATIENCE, self.arrivals.recv()).await.unwrap().unwrap();
        assert_eq!((delivery.session, delivery.payload), (opened.session, payload));
    }

    fn address(&self) -> SocketAddr {
        self.victim.node.listen_addr().unwrap()
    }

    fn closed(&self, reason: CloseReason) -> u64 {
        self.victim.node.handle().link_counters().closed(reason)
    }

    /// Waits until the victim closed `count` connections for `reason`.
    async fn wait_closed(&self, reason: CloseReason, count: u64) {
        eventually(reason.as_str(), async || {
            (self.closed(reason) >= count).then_some(())
        })
        .await;
    }

    async fn dropped(&self, reason: DropReason) -> u64 {
        count_of(&self.victim.status().await, reason)
    }

    async fn stop(self) {
        for node in [self.a, self.victim, self.c] {
            timeout(PATIENCE, node.node.stop()).await.expect("stops in time");
        }
    }
}

fn count_of(status: &Status, reason: DropReason) -> u64 {
    let found = status.dropped.iter().find(|(known, _)| *known == reason);
    found.map_or(0, |(_, count)| *count)
}

fn victim_links() -> EndpointConfig {
    EndpointConfig {
        listen_addr: Some(LOOPBACK),
        initial_backoff: Duration::from_millis(20),
        max_backoff: Duration::from_millis(100),
        ..EndpointConfig::default()
    }
}

/// A neighbour that has a key and a link, and sends whatever it likes.
struct Rogue {
    id: NodeId,
    endpoint: Endpoint,
    events: mpsc::Receiver<LinkEvent>,
}

impl Rogue {
    fn new(seed: u8, config: EndpointConfig) -> Self {
        let identity = Identity::from_seed([seed; 32]).unwrap();
        let (sender, events) = mpsc::channel(mesh_net::RECOMMENDED_EVENT_QUEUE);
        Self {
            id: identity.node_id(),
            endpoint: Endpoint::bind(config, &identity, sender).unwrap(),
            events,
        }
    }

    /// Links itself to the victim, once.
    async fn enter(&mut self, line: &Line) -> LinkSender {
        let victim = line.victim.id();
        self.endpoint.add_peer(line.address(), victim).unwrap();
        let sender = loop {
            if let LinkEvent::Up { sender, .. } = self.next().await {
                break sender;
            }
        };
        self.endpoint.remove_peer(&victim);
        sender
    }

    async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    /// The next control message that the victim sends.
    async fn hear(&mut self) -> ControlMessage {
        loop {
            if let LinkEvent::Frames {
                channel: Channel::Control,
                frames,
                ..
            } = self.next().await
                && let Some(message) = frames.iter().find_map(|frame| ControlMessage::decode(frame).ok())
            {
                return message;
            }
        }
    }
}

fn send(sender: &LinkSender, channel: Channel, frames: Vec<Bytes>) -> bool {
    match channel {
        Channel::Data => sender.try_send_data(frames),
        Channel::Control => sender.try_send_control(frames),
    }
    .is_ok()
}

fn preamble(kind: FrameKind, hops: u8) -> Vec<u8> {
    let preamble = Preamble { kind, hops, index: 0 };
    preamble.to_bytes().to_vec()
}

/// A frame of this kind followed by `length` bytes that mean nothing.
fn frame(kind: FrameKind, hops: u8, length: usize) -> Vec<u8> {
    let noise = (0..length).map(|at| (at * 131 + 7) as u8);
    preamble(kind, hops).into_iter().chain(noise).collect()
}

fn altered(at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame(FrameKind::Data, 2, 100);
    frame[at] = byte;
    frame
}

fn discovery(rogue: &NodeId, destination: NodeId, nonce: u64) -> ControlMessage {
    let mut long_nonce = [0; 16];
    long_nonce[..8].copy_from_slice(&nonce.to_be_bytes());
    long_nonce[8..].copy_from_slice(&rogue.0[..8]);
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    ControlMessage::DiscoveryRequest(DiscoveryRequest {
        nonce: long_nonce,
        destination,
        max_hops: 10,
        deadline: UnixMillis(unix.as_millis() as u64 + 20_000),
        path: vec![*rogue],
    })
}

/// Every way to be malformed that ends in its own branch of the code.
fn malformed_frames() -> Vec<(&'static str, Channel, Vec<u8>, DropReason)> {
    use Channel::{Control, Data};
    use DropReason::{Malformed, Oversize, UnknownKind, UnknownVersion};
    let trailing = [&ControlMessage::Refused.encode().unwrap()[..], &[0]].concat();
    vec![
        ("bytes of chance", Data, vec![0x5a; 200], Malformed),
        ("bytes of chance as control", Control, vec![0xa5; 200], Malformed),
        ("half a preamble", Data, b"MESH\x01\x01\x02".to_vec(), Malformed),
        ("wrong magic", Data, altered(0, b'm'), Malformed),
        ("wrong version", Data, altered(4, 2), UnknownVersion),
        ("unknown kind", Data, altered(5, 9), UnknownKind),
        (
            "control on the data connection",
            Data,
            ControlMessage::Refused.encode().unwrap().to_vec(),
            Malformed,
        ),
        (
            "open on the data connection",
            Data,
            frame(FrameKind::Open, 2, 300),
            Malformed,
        ),
        (
            "packet on the control connection",
            Control,
            frame(FrameKind::Data, 2, 300),
            Malformed,
        ),
        (
            "answer on the control connection",
            Control,
            frame(FrameKind::Back, 2, 300),
            Malformed,
        ),
        (
            "packet cut off in its header",
            Data,
            frame(FrameKind::Data, 2, 20),
            Malformed,
        ),
        (
            "packet that lies about its length",
            Data,
            frame(FrameKind::Data, 2, 300),
            Malformed,
        ),
        ("open cut off", Control, frame(FrameKind::Open, 2, 40), Malformed),
        (
            "error cut off",
            Control,
            frame(FrameKind::HopError, 0, 20),
            Malformed,
        ),
        (
            "error too long",
            Control,
            frame(FrameKind::HopError, 0, 200),
            Oversize,
        ),
        (
            "control message of nonsense",
            Control,
            frame(FrameKind::Control, 0, 90),
            Malformed,
        ),
        ("control message with a tail", Control, trailing, Malformed),
    ]
}

async fn malformed_frames_cost_the_link(mode: MeshMode) {
    let mut line = Line::start(mode, victim_links()).await;
    let mut rogue = Rogue::new(66, EndpointConfig::default());
    for (number, (crime, channel, frame, reason)) in (1..).zip(malformed_frames()) {
        let sender = rogue.enter(&line).await;
        let (frame, before) = (Bytes::from(frame), line.dropped(reason).await);
        let mut sent = 0;
        while line.closed(CloseReason::Misbehaved) < number {
            assert!(sent < FORGIVEN + 20, "{crime}: {sent} frames and no end");
            if send(&sender, channel, vec![frame.clone()]) {
                sent += 1;
            } else {
                // The link has just ended; that it ended for this crime is still to be seen.
                line.wait_closed(CloseReason::Misbehaved, number).await;
            }
            eventually(crime, async || {
                let counted = line.dropped(reason).await >= before + sent;
                (counted || line.closed(CloseReason::Misbehaved) >= number).then_some(())
            })
            .await;
        }
        let counted = line.dropped(reason).await - before;
        assert!(counted > FORGIVEN, "{crime}: lost its link after {counted}");
        loop {
            if let LinkEvent::Down { .. } = rogue.next().await {
                break;
            }
        }
        line.honest_packet_crosses().await;
    }
    line.honest_session_opens().await;
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbour_that_goes_on_sending_malformed_frames_loses_its_link_in_mode_open() {
    malformed_frames_cost_the_link(MeshMode::Open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbour_that_goes_on_sending_malformed_frames_loses_its_link_in_mode_payment_gated() {
    malformed_frames_cost_the_link(MeshMode::PaymentGated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_trickle_lie_or_stay_silent_are_closed_by_name_while_packets_cross() {
    let mut line = Line::start(
        MeshMode::Open,
        EndpointConfig {
            handshake_timeout: Duration::from_secs(1),
            ..victim_links()
        },
    )
    .await;
    let silent = TcpStream::connect(line.address()).await.unwrap();
    let loris = tokio::spawn(trickle(line.address()));
    line.honest_packet_crosses().await;
    line.wait_closed(CloseReason::HalfOpen, 1).await;
    line.wait_closed(CloseReason::HandshakeTimeout, 1).await;
    let trickled = timeout(PATIENCE, loris).await.unwrap().unwrap();
    assert!(
        trickled > 5,
        "the loris was closed on, not ignored: {trickled} bytes"
    );
    drop(silent);

    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x00\x00\x00\x00", &[0xff; 2000]] {
        let mut stranger = TcpStream::connect(line.address()).await.unwrap();
        stranger.write_all(garbage).await.unwrap();
        // Reset or end, as the system likes.
        let _ = timeout(PATIENCE, stranger.read_to_end(&mut Vec::new()))
            .await
            .unwrap();
    }
    line.wait_closed(CloseReason::NotTls, 3).await;

    let mut hasty = TcpStream::connect(line.address()).await.unwrap();
    hasty.shutdown().await.unwrap();
    line.wait_closed(CloseReason::PeerClosed, 1).await;

    line.honest_packet_crosses().await;
    line.honest_session_opens().await;
    line.stop().await;
}

/// One byte of a handshake at a time, until the other side has had enough; how many it took.
async fn trickle(victim: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(victim).await.unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let record = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for (sent, byte) in record.into_iter().chain(std::iter::repeat(0)).enumerate() {
        let gone = tokio::select! {
            _ = pace.tick() => stream.write_all(&[byte]).await.is_err(),
            read = async { let mut answer = [0; 64]; let (mut half, _) = stream.split(); half.read(&mut answer).await } => {
                matches!(read, Ok(0) | Err(_))
            }
        };
        if gone {
            return sent;
        }
    }
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_at_the_address_that_is_not_the_one_dialled_gets_no_link() {
    let mut line = Line::start(MeshMode::Open, victim_links()).await;
    let expected = Identity::from_seed([77; 32]).unwrap().node_id();
    line.a.node.add_peer(line.address(), expected).unwrap();
    let dialler = line.a.node.handle();
    eventually("the wrong key to be noticed", async || {
        (dialler.link_counters().closed(CloseReason::WrongIdentity) > 0).then_some(())
    })
    .await;
    line.wait_closed(CloseReason::HandshakeFailed, 1).await;
    let neighbours = line.a.status().await.neighbours;
    assert!(neighbours.iter().all(|(_, id)| *id == line.victim.id()));
    line.honest_packet_crosses().await;
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_connections_is_cut_off_and_neighbours_are_served_meanwhile() {
    let mut line = Line::start(
        MeshMode::Open,
        EndpointConfig {
            max_handshakes: 16,
            max_handshakes_per_address: 8,
            accepts_per_minute_per_address: 100,
            limit_loopback: true,
            ..victim_links()
        },
    )
    .await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(TcpStream::connect(line.address()).await.unwrap());
    }
    line.wait_closed(CloseReason::AddressBusy, 192).await;
    line.honest_packet_crosses().await;
    line.honest_session_opens().await;
    drop(flood);
    line.wait_closed(CloseReason::PeerClosed, 8).await;
    // Room again: the same address gets in, until its minute's worth is used up.
    let mut late = Rogue::new(67, EndpointConfig::default());
    late.enter(&line).await;
    let mut accepted = 8 + 2;
    while line.closed(CloseReason::AddressTooOften) == 0 {
        assert!(accepted <= 100, "more connections a minute than allowed");
        let before = line.closed(CloseReason::PeerClosed);
        drop(TcpStream::connect(line.address()).await.unwrap());
        eventually("the next stranger's end", async || {
            let ended = line.closed(CloseReason::PeerClosed) > before;
            (ended || line.closed(CloseReason::AddressTooOften) > 0).then_some(())
        })
        .await;
        accepted += 1;
    }
    line.honest_packet_crosses().await;
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbour_whose_machine_died_is_dropped_as_idle_and_the_others_stay() {
    let mut line = Line::start(
        MeshMode::Open,
        EndpointConfig {
            keepalive_interval: Duration::from_millis(500),
            // The honest neighbours send a keep-alive when they heard nothing new to say for a quarter of this.
            idle_timeout: Duration::from_secs(2),
            ..victim_links()
        },
    )
    .await;
    let mute = EndpointConfig {
        keepalive_interval: Duration::from_secs(1_000_000),
        idle_timeout: Duration::from_secs(2_000_000),
        ..EndpointConfig::default()
    };
    let mut dead = Rogue::new(68, mute);
    dead.enter(&line).await;
    let before = line.closed(CloseReason::Idle);
    let gone = timeout(PATIENCE, async {
        while line
            .victim
            .status()
            .await
            .neighbours
            .iter()
            .any(|(_, id)| *id == dead.id)
        {
            line.honest_packet_crosses().await;
        }
    });
    gone.await.expect("a dead neighbour is noticed");
    line.wait_closed(CloseReason::Idle, before + 1).await;
    line.stop().await;
}

/// What rogues do until they are told to stop, and how much of it.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    tasks: tokio::task::JoinSet<()>,
}

impl Flood {
    /// Each rogue sends batches of `next` as fast as its link takes them.
    fn start(
        rogues: Vec<(Rogue, LinkSender)>,
        channel: Channel,
        next: impl Fn(&NodeId, u64) -> Bytes + Clone + Send + 'static,
    ) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for (rogue, sender) in rogues {
            let (stop, sent, next) = (stop.clone(), sent.clone(), next.clone());
            tasks.spawn(async move {
                // All of it: the link lives as long as its endpoint.
                let Rogue {
                    id,
                    endpoint: _endpoint,
                    mut events,
                } = rogue;
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A full control queue would end the rogue's own link.
                    if sender.control_backlog() < 256 * 1024 && sender.data_backlog() < 1 << 20 {
                        let batch = (0..64).map(|place| next(&id, number + place)).collect();
                        if send(&sender, channel, batch) {
                            sent.fetch_add(64, Ordering::Relaxed);
                        }
                        number += 64;
                    }
                    while events.try_recv().is_ok() {}
                    tokio::task::yield_now().await;
                }
            });
        }
        Self { stop, sent, tasks }
    }

    async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.sent.load(Ordering::Relaxed)
    }
}

/// What this process holds in memory, in bytes; all nodes and rogues of the test together.
#[cfg(target_os = "linux")]
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kib * 1024
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> u64 {
    0
}

/// What the tests of this file may take in all while rogues flood: queues of four links on both sides, 8 MiB each at the
/// most, and twice that for what the allocator keeps.
const MEMORY_BOUND: u64 = 128 << 20;

async fn control_flood_is_rate_limited(mode: MeshMode) {
    let mut line = Line::start(mode, victim_links()).await;
    let mut rogues = Vec::new();
    let mut certificate = None;
    for seed in 70..73 {
        let mut rogue = Rogue::new(seed, EndpointConfig::default());
        let sender = rogue.enter(&line).await;
        if certificate.is_none() {
            certificate = Some(priced_route(&mut rogue, &sender, &line).await);
        }
        rogues.push((rogue, sender));
    }
    let (certificate, victim) = (certificate.unwrap(), line.victim.id());
    let class = line.request().class;
    let memory_before = resident_bytes();
    let before = line.dropped(DropReason::RateLimited).await;
    let flood = Flood::start(rogues, Channel::Control, move |rogue, number| {
        let mut stranger = NodeId([0xee; 32]);
        stranger.0[..8].copy_from_slice(&number.to_be_bytes());
        let message = match number % 3 {
            0 => discovery(rogue, stranger, number),
            1 => discovery(rogue, victim, number),
            _ => quote_request(&certificate, class, number),
        };
        message.encode().unwrap()
    });
    for _ in 0..10 {
        line.honest_session_opens().await;
        line.honest_packet_crosses().await;
    }
    eventually("the flood to meet its limit", async || {
        (line.dropped(DropReason::RateLimited).await >= before + 3000).then_some(())
    })
    .await;
    let grown = resident_bytes().saturating_sub(memory_before);
    let sent = flood.end().await;
    assert!(sent > 3000, "no flood: {sent}");
    assert!(grown < MEMORY_BOUND, "{} MiB for {sent} messages", grown >> 20);
    // What may be sent at once, and 200 a second after that, is served and no more is remembered.
    let status = line.victim.status().await;
    assert!(status.sessions <= 11 && status.routes <= 16, "{status:?}");
    assert_eq!(line.closed(CloseReason::ControlOverflow), 0);
    line.honest_session_opens().await;
    line.stop().await;
}

/// The victim's signed price, as any neighbour gets it for the asking.
async fn priced_route(rogue: &mut Rogue, sender: &LinkSender, line: &Line) -> RouteCertificate {
    let question = discovery(&rogue.id, line.victim.id(), u64::MAX).encode().unwrap();
    assert!(send(sender, Channel::Control, vec![question]));
    loop {
        if let ControlMessage::DiscoveryResponse(certificate) = rogue.hear().await {
            return certificate;
        }
    }
}

fn quote_request(certificate: &RouteCertificate, class: TrafficClass, number: u64) -> ControlMessage {
    let mut id = [0x99; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    ControlMessage::QuoteRequest(Box::new(QuoteRequest {
        id,
        certificate: certificate.clone(),
        class,
        units: 1,
        total_msat: 0,
        accounts: vec![[9; 32]],
        buying: vec![false],
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_flood_is_rate_limited_and_honest_sessions_open_meanwhile_in_mode_open() {
    control_flood_is_rate_limited(MeshMode::Open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_flood_is_rate_limited_and_honest_sessions_open_meanwhile_in_mode_payment_gated() {
    control_flood_is_rate_limited(MeshMode::PaymentGated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_packets_of_no_session_starves_neither_neighbours_nor_the_nodes_own_people() {
    let mut line = Line::start(MeshMode::Open, victim_links()).await;
    let mut rogues = Vec::new();
    for seed in 80..83 {
        let mut rogue = Rogue::new(seed, EndpointConfig::default());
        let sender = rogue.enter(&line).await;
        rogues.push((rogue, sender));
    }
    let memory_before = resident_bytes();
    // A packet in every respect but one: nobody opened its session.
    let mut packet = frame(FrameKind::Data, 2, 36 + 2 * 16 + 1024);
    packet[40..44].copy_from_slice(&1024u32.to_be_bytes());
    let packet = Bytes::from(packet);
    let flood = Flood::start(rogues, Channel::Data, move |_, _| packet.clone());
    for _ in 0..10 {
        line.honest_session_opens().await;
        line.honest_packet_crosses().await;
        timeout(PATIENCE, line.victim.status())
            .await
            .expect("the owner is heard");
    }
    eventually("each packet to be counted", async || {
        (line.dropped(DropReason::UnknownSession).await >= 10_000).then_some(())
    })
    .await;
    let grown = resident_bytes().saturating_sub(memory_before);
    flood.end().await;
    assert!(grown < MEMORY_BOUND, "{} MiB", grown >> 20);
    line.stop().await;
}
