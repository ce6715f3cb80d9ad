//! Nodes of mode `open` carry for one another without any wallet.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use common::{PATIENCE, TestNode, open_request, wait_linked};
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
