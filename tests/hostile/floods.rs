//! Neighbours that send more than their share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::Channel;
use mesh_core::identity::NodeId;
use mesh_core::message::{ControlMessage, QuoteRequest, RouteCertificate};
use mesh_core::packet::FrameKind;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_net::{CloseReason, EndpointConfig, LinkSender};
use tokio::time::timeout;

use crate::common::{PATIENCE, eventually};
use crate::stage::*;

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
        let certificate = rogue.hear().await.into_iter().find_map(|message| match message {
            ControlMessage::DiscoveryResponse(certificate) => Some(certificate),
            _ => None,
        });
        if let Some(certificate) = certificate {
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
        method: Default::default(),
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
