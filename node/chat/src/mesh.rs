//! The mesh, called through the node.

use std::time::Duration;

use async_trait::async_trait;
use mesh_api::{
    CallError, ClientError, MeshClient, ModuleCaller, NodeId, RegisterProtocolRequest, SendPacketRequest,
};
use node_ipc::{NodeClient, RequestError};
use serde_json::{Value, json};

/// The name the mesh is loaded under.
const MESH: &str = "blvm-mesh";

/// What both ends of a chat agree on.
const PROTOCOL: &str = "messaging-v1";

/// Our method that the mesh calls with a message.
pub(crate) const HANDLER: &str = "chat_deliver";

/// A message that did not get through within a minute is of no more use.
const TTL_SECONDS: u64 = 60;

/// Until the mesh is asked again that is not there yet: modules start one after the other.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Carries the mesh client's calls over the node.
struct ThroughTheNode(NodeClient);

#[async_trait]
impl ModuleCaller for ThroughTheNode {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let answer = self.0.call_module(Some(MESH), method, payload).await;
        answer.map_err(|error| match error {
            RequestError::Refused { reason, .. } => CallError::Refused { reason },
            other => CallError::Unreachable {
                reason: other.to_string(),
            },
        })
    }
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The destination is no node's id.
    #[error("{0:?} is no node: a node's id has 64 hexadecimal digits")]
    Destination(String),
    /// The mesh did not answer. The message may or may not be on its way.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The mesh says why not: no route, no money, no answer.
    #[error("the mesh did not send it: {0}")]
    Refused(String),
}

/// The mesh of this node.
pub(crate) struct Mesh {
    client: MeshClient<ThroughTheNode>,
}

impl Mesh {
    /// The mesh that `node` runs.
    pub(crate) fn new(node: NodeClient) -> Self {
        Self {
            client: MeshClient::new(ThroughTheNode(node)),
        }
    }

    /// Asks for the chat's messages until the mesh is there and agrees. Asking twice does no harm.
    pub(crate) async fn register(&self) {
        loop {
            let request = RegisterProtocolRequest {
                protocol_id: PROTOCOL.to_owned(),
                handler_method: HANDLER.to_owned(),
            };
            let registered = self.client.register_protocol_handler(request).await;
            if registered.is_ok_and(|answer| answer.success) {
                return;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// The id under which others reach this node.
    pub(crate) async fn own_id(&self) -> Result<String, ClientError> {
        self.client.get_node_id().await.map(hex::encode)
    }

    /// Sends a message; the mesh finds the way and pays for it within its operator's limits.
    pub(crate) async fn send(&self, destination: &str, text: &str) -> Result<Value, SendError> {
        let mut id = NodeId::default();
        hex::decode_to_slice(destination, &mut id)
            .map_err(|_| SendError::Destination(destination.to_owned()))?;
        let request = SendPacketRequest {
            destination: id,
            payload: text.as_bytes().to_vec(),
            payment_proof: None,
            protocol_id: Some(PROTOCOL.to_owned()),
            ttl: Some(TTL_SECONDS),
        };
        let sent = self.client.send_packet(request).await?;
        if !sent.success {
            return Err(SendError::Refused(sent.error.unwrap_or_default()));
        }
        Ok(json!({
            "packet_id": hex::encode(sent.packet_id),
            "route_length": sent.route_length,
            "cost_sats": sent.estimated_cost_sats,
        }))
    }
}
