//! Who never becomes a neighbour, and who stops being one.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_core::identity::Identity;
use mesh_core::routing_policy::MeshMode;
use mesh_net::{CloseReason, EndpointConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{PATIENCE, eventually};
use crate::stage::*;

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
            idle_timeout: Duration::from_secs(4),
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
