//! Nodes of mode `open` carry for one another without any wallet.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{PATIENCE, TestNode, eventually, open_request, wait_linked};
use mesh_core::drop_reason::DropReason;
use mesh_core::limits::MAX_PAYLOAD_BYTES;
use mesh_core::routing_policy::MeshMode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_cross_a_router_in_both_directions_without_a_wallet() {
    let a = TestNode::without_wallet(1, MeshMode::Open).await;
    let b = TestNode::without_wallet(2, MeshMode::Open).await;
    let c = TestNode::without_wallet(3, MeshMode::Open).await;
    a.connect(&b);
    c.connect(&b);
    wait_linked(&[(&a, 1), (&b, 2), (&c, 1)]).await;

    for (from, to) in [(&a, &c), (&c, &a)] {
        let mut arrivals = to.node.handle().deliveries(Some("test".to_owned()));
        for number in 0..50u8 {
            let sent = from
                .node
                .handle()
                .send_packet(open_request(to.id(), &[number; 300]))
                .await
                .unwrap();
            assert_eq!(sent.path, [from.id(), b.id(), to.id()]);
            let delivery = tokio::time::timeout(PATIENCE, arrivals.recv())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(delivery.packet_id, sent.packet_id);
            assert_eq!(delivery.source, Some(from.id()));
            assert_eq!(&delivery.payload[..], &[number; 300]);
        }
    }
    for node in [a, b, c] {
        node.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_packets_arrives_in_order_and_says_which_one_was_refused() {
    let a = TestNode::without_wallet(4, MeshMode::Open).await;
    let b = TestNode::without_wallet(5, MeshMode::Open).await;
    a.connect(&b);
    wait_linked(&[(&a, 1), (&b, 1)]).await;
    let mut arrivals = b.node.handle().deliveries(Some("test".to_owned()));
    let first = a
        .node
        .handle()
        .send_packet(open_request(b.id(), b"first"))
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap();

    let ttl = Duration::from_secs(30);
    let mut payloads: Vec<Bytes> = (0..150u8).map(|number| Bytes::from(vec![number; 900])).collect();
    let handle = a.node.handle();
    let sent = handle
        .send_many(first.session, "test", payloads.clone(), ttl)
        .await
        .unwrap();
    for (payload, packet_id) in payloads.iter().zip(sent) {
        let delivery = tokio::time::timeout(PATIENCE, arrivals.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!((&delivery.payload, delivery.packet_id), (payload, packet_id));
    }

    payloads[70] = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
    let refused = handle
        .send_many(first.session, "test", payloads, ttl)
        .await
        .unwrap_err();
    assert_eq!(
        (refused.sent.len(), refused.error.reason()),
        (70, Some(DropReason::Oversize))
    );
    for node in [a, b] {
        node.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_ways_to_everybody_and_none_over_a_node_that_went() {
    let a = TestNode::without_wallet(6, MeshMode::Open).await;
    let b = TestNode::without_wallet(7, MeshMode::Open).await;
    let c = TestNode::without_wallet(8, MeshMode::Open).await;
    a.connect(&b);
    c.connect(&b);
    let (handle, b_id, c_id) = (a.node.handle().clone(), b.id(), c.id());
    let hops_to = |id| {
        let routes = handle.routes();
        let best = routes.look_up(&id)?.best();
        Some((routes.neighbour(best.neighbour)?, best.hops))
    };
    eventually("ways", async || {
        (hops_to(c_id) == Some((b_id, 2)) && hops_to(b_id) == Some((b_id, 1))).then_some(())
    })
    .await;
    assert_eq!(hops_to(a.id()), None, "nobody needs a way to himself");
    b.node.stop().await;
    eventually("no ways", async || handle.routes().is_empty().then_some(())).await;
    for node in [a, c] {
        node.node.stop().await;
    }
}
