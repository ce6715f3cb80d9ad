//! What the node knows of the network, page by page, and word of its changes.

use mesh_api::{AwaitNetworkChangeRequest, GetNetworkStateRequest, MeshMode, NodeState};

use crate::common::{TestNode, eventually};
use crate::stage::{ModuleClient, Stage};

async fn all_nodes(client: &ModuleClient, max_nodes: u32) -> Vec<NodeState> {
    let (mut nodes, mut after) = (Vec::new(), None);
    loop {
        let request = GetNetworkStateRequest { after, max_nodes };
        let page = client.get_network_state(request).await.unwrap();
        assert!(page.nodes.len() <= max_nodes as usize);
        nodes.extend(page.nodes);
        after = page.next;
        if after.is_none() {
            return nodes;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_is_told_a_page_at_a_time_with_distances_and_neighbours() {
    let stage = Stage::new(40).await;
    let far = TestNode::without_wallet(42, mesh_core::routing_policy::MeshMode::Open).await;
    far.connect(&stage.sender);
    let client = stage.module("m");
    let nodes = eventually("three nodes", async || {
        let nodes = all_nodes(&client, 2).await;
        let reached = nodes.iter().filter(|node| node.hops.is_some()).count();
        (reached == 3).then_some(nodes)
    })
    .await;
    let hops = |id: [u8; 32]| nodes.iter().find(|node| node.node_id == id).unwrap().hops;
    assert_eq!(hops(stage.receiver.id().0), Some(0));
    assert_eq!(hops(stage.sender.id().0), Some(1));
    assert_eq!(hops(far.id().0), Some(2));
    assert!(nodes.is_sorted_by_key(|node| node.node_id));

    let request = GetNetworkStateRequest {
        after: None,
        max_nodes: 1000,
    };
    let state = client.get_network_state(request).await.unwrap();
    assert_eq!((state.mode, state.total_nodes), (MeshMode::Open, 3));
    assert_eq!(
        state.concentration.entities, 0,
        "nothing is claimed that was not measured"
    );
    far.node.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_change_is_told_when_a_node_comes_and_when_it_goes() {
    let stage = Stage::new(44).await;
    let client = stage.module("m");
    let wait = |generation, timeout_seconds| AwaitNetworkChangeRequest {
        generation,
        timeout_seconds,
    };
    let mut seen = client.await_network_change(wait(0, 30)).await.unwrap();
    assert!(seen.changed && seen.generation > 0);

    let far = TestNode::without_wallet(46, mesh_core::routing_policy::MeshMode::Open).await;
    far.connect(&stage.sender);
    while seen.reachable_nodes < 2 {
        let next = client
            .await_network_change(wait(seen.generation, 30))
            .await
            .unwrap();
        assert!(next.changed && next.generation > seen.generation, "{next:?}");
        seen = next;
    }
    assert_eq!(seen.neighbours, 1);
    far.node.stop().await;
    while seen.reachable_nodes > 1 {
        seen = client
            .await_network_change(wait(seen.generation, 30))
            .await
            .unwrap();
        assert!(seen.changed);
    }
    // When nothing changes any more the time is waited out.
    loop {
        let next = client
            .await_network_change(wait(seen.generation, 1))
            .await
            .unwrap();
        if !next.changed {
            assert_eq!(next.generation, seen.generation);
            break;
        }
        seen = next;
    }
    stage.stop().await;
}
