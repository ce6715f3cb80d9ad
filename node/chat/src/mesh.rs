//! The mesh, called through the node.

use mesh_module::mesh_api::{ClientError, MeshClient, NodeId, SendPacketRequest};
use mesh_module::node_ipc::NodeClient;
use mesh_module::{NotRegistered, ThroughNode};
use serde_json::{Value, json};

/// What both ends of a chat agree on.
const PROTOCOL: &str = "messaging-v1";

/// Our method that the mesh calls with a message.
pub(crate) const HANDLER: &str = "chat_deliver";

/// A message that did not get through within a minute is of no more use.
const TTL_SECONDS: u64 = 60;

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
    client: MeshClient<ThroughNode>,
}

impl Mesh {
    /// The mesh that `node` runs.
    pub(crate) fn new(node: NodeClient) -> Self {
        Self {
            client: MeshClient::new(ThroughNode::new(node)),
        }
    }

    /// Asks for the chat's messages until the mesh is there. Asking twice does no harm.
    pub(crate) async fn register(&self) -> Result<(), NotRegistered> {
        mesh_module::register(&self.client, PROTOCOL, HANDLER).await
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
