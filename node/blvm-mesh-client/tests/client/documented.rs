//! The calls as the system's documentation writes them, and all others.

use std::sync::Arc;

use blvm_mesh::api::{
    AwaitDeliveriesRequest, AwaitNetworkChangeRequest, DiscoverRouteResponse, GetConcentrationRequest,
    GetNetworkStateRequest, OpenSessionRequest, PollDeliveriesRequest, QuoteRouteRequest,
    RegisterProtocolResponse, SendPacketRequest, SendPacketResponse,
};
use blvm_mesh::{MeshClient, NodeId, PaymentProof};
use blvm_node::module::traits::{ModuleError, NodeAPI};

use super::stage::{Answer, stage};

fn healthy(method: &str, _params: &[u8]) -> Answer {
    let answer = match method {
        "send_packet" => bincode::serialize(&SendPacketResponse {
            success: true,
            packet_id: [1; 32],
            route_length: 2,
            estimated_cost_sats: 3,
            error: None,
        }),
        "discover_route" => bincode::serialize(&DiscoverRouteResponse {
            route: Some(vec![[1; 32], [2; 32]]),
            route_cost_sats: 3,
            discovery_time_ms: 4,
        }),
        _ => bincode::serialize(&RegisterProtocolResponse { success: true }),
    };
    Some(Ok(answer.unwrap()))
}

/// In a function of a module, whose errors are the node's.
async fn with_the_client(
    node_api: Arc<dyn NodeAPI>,
    destination: NodeId,
    payload: Vec<u8>,
    payment_proof: Option<PaymentProof>,
) -> Result<(), ModuleError> {
    let mesh_client = MeshClient::new(node_api, "blvm-mesh".to_string());
    let response = mesh_client
        .send_packet(
            "my-module-id",
            destination,
            payload,
            payment_proof,
            Some("onion-v1".to_string()),
        )
        .await?;
    assert!(response.success);
    let route = mesh_client
        .discover_route("my-module-id", destination, Some(10))
        .await?;
    assert_eq!(route.route_cost_sats, 3);
    mesh_client
        .register_protocol_handler(
            "my-module-id",
            "onion-v1".to_string(),
            "handle_packet".to_string(),
        )
        .await?;
    Ok(())
}

/// With any error, as in a `main`.
async fn without_the_client(
    node_api: Arc<dyn NodeAPI>,
    destination: NodeId,
    payment: PaymentProof,
) -> Result<SendPacketResponse, Box<dyn std::error::Error>> {
    let request = SendPacketRequest {
        destination,
        payload: vec![1, 2, 3],
        payment_proof: Some(payment),
        protocol_id: Some("onion-v1".to_string()),
        ttl: Some(300),
    };
    let response = node_api
        .call_module(Some("blvm-mesh"), "send_packet", bincode::serialize(&request)?)
        .await?;
    Ok(bincode::deserialize(&response)?)
}

#[tokio::test]
async fn the_documentations_lines_compile_and_do_what_they_say() {
    let stage = stage(healthy).await;
    with_the_client(stage.node_api.clone(), [9; 32], b"hello".to_vec(), None)
        .await
        .unwrap();
    let payment = PaymentProof::Lightning {
        invoice: "lnbcrt1".to_owned(),
        preimage: [4; 32],
        amount_msats: 5,
        timestamp: 6,
        expires_at: 7,
    };
    let sent = without_the_client(stage.node_api.clone(), [9; 32], payment)
        .await
        .unwrap();
    assert_eq!(sent.route_length, 2);
    let asked = stage.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "send_packet",
            "discover_route",
            "register_protocol_handler",
            "send_packet"
        ]
    );
}

/// Every call once.
pub(crate) async fn call_all(mesh: &MeshClient) {
    let (destination, id) = ([1; 32], [2; 16]);
    let _ = mesh.send_packet("me", destination, Vec::new(), None, None).await;
    let _ = mesh.discover_route("me", destination, None).await;
    let _ = mesh
        .register_protocol_handler("me", "p".to_string(), "m".to_string())
        .await;
    let _ = mesh.unregister_protocol_handler("p".to_string()).await;
    let _ = mesh.get_routing_stats().await;
    let _ = mesh.get_node_id().await;
    let quote = QuoteRouteRequest {
        destination,
        max_hops: None,
        timeout_seconds: None,
        units: 1,
        max_fee_msat: None,
        avoid: Vec::new(),
        method: Default::default(),
    };
    let _ = mesh.quote_route(quote).await;
    let _ = mesh.get_quote(id).await;
    let _ = mesh
        .open_session(OpenSessionRequest {
            quote_id: id,
            payment_proof: None,
            max_fee_msat: None,
        })
        .await;
    let _ = mesh.get_session(id).await;
    let _ = mesh.close_session(id).await;
    let _ = mesh
        .poll_deliveries(PollDeliveriesRequest {
            protocol_id: None,
            max_deliveries: 1,
        })
        .await;
    let wait = AwaitDeliveriesRequest {
        protocol_id: None,
        max_deliveries: 1,
        timeout_seconds: 1,
    };
    let _ = mesh.await_deliveries(wait).await;
    let _ = mesh
        .get_network_state(GetNetworkStateRequest {
            after: None,
            max_nodes: 1,
        })
        .await;
    let _ = mesh
        .await_network_change(AwaitNetworkChangeRequest {
            generation: 0,
            timeout_seconds: 1,
        })
        .await;
    let _ = mesh
        .get_concentration(GetConcentrationRequest { max_shares: 1 })
        .await;
}
