//! The carrier's Bitcoin node: blvm-node, over its module protocol.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::CarrierPort;
use node_ipc::{Event, EventKind, EventPayload, NodeClient, RequestError};

use super::{FramesError, MeshFrames, NodeCarrier, address_of};

/// What must be subscribed to for [`NodeCarrier::on_event`]; without the carrier no packets need be heard.
pub const SUBSCRIPTIONS: [EventKind; 3] = [
    EventKind::PeerConnected,
    EventKind::PeerDisconnected,
    EventKind::MeshPacketReceived,
];

impl NodeCarrier {
    /// Starts the carrier over a node.
    pub fn over_node(port: CarrierPort, client: NodeClient, network: BitcoinNetwork) -> Self {
        Self::start(port, Arc::new(OverNode(client)), network)
    }

    /// Something happened at the node. Never waits; what is none of ours is passed over.
    pub fn on_event(&self, event: &Event) {
        match &event.payload {
            Some(EventPayload::PeerConnected { peer_addr, .. }) => self.on_peer_connected(peer_addr),
            Some(EventPayload::PeerDisconnected { peer_addr, .. }) => self.on_peer_disconnected(peer_addr),
            Some(EventPayload::MeshPacketReceived {
                packet_data,
                peer_addr,
            }) => self.on_packet(peer_addr, packet_data),
            _ => {}
        }
    }
}

struct OverNode(NodeClient);

#[async_trait]
impl MeshFrames for OverNode {
    async fn send(&self, peer: SocketAddr, message: Vec<u8>) -> Result<(), FramesError> {
        self.0
            .send_mesh_packet(&peer.to_string(), message)
            .await
            .map_err(refused)
    }

    async fn peers(&self) -> Result<Vec<SocketAddr>, FramesError> {
        let peers = self.0.network_peers().await.map_err(refused)?;
        Ok(peers.iter().filter_map(|peer| address_of(&peer.addr)).collect())
    }
}

fn refused(error: RequestError) -> FramesError {
    FramesError(error.to_string())
}
