//! What the node knows of the network, and when that changes.

use std::time::Duration;

use mesh_api::limits::{MAX_LISTED_NEIGHBOURS, MAX_NODES_PER_PAGE, MAX_TIMEOUT_SECONDS};
use mesh_api::{
    AwaitNetworkChangeRequest, AwaitNetworkChangeResponse, GetNetworkStateRequest, GetNetworkStateResponse,
    NodeState,
};
use mesh_core::event::{Answer, Command, NetworkNode};
use mesh_core::identity::NodeId;

use super::MeshModuleApi;
use super::client::Client;
use super::concentration::in_short;
use super::look::wire_mode;
use crate::handle::CommandError;

/// How long a change waits for company before it is told: one link that breaks changes the way to many nodes within moments.
const CHANGE_SETTLES: Duration = Duration::from_millis(200);

impl MeshModuleApi {
    pub(super) async fn network_state(
        &self,
        request: &GetNetworkStateRequest,
    ) -> Result<GetNetworkStateResponse, CommandError> {
        let command = Command::Network {
            after: request.after.map(NodeId),
            most: (request.max_nodes as usize).clamp(1, MAX_NODES_PER_PAGE),
        };
        let Answer::Network(page) = self.node.command(command).await? else {
            return Err(CommandError::Unexpected);
        };
        Ok(GetNetworkStateResponse {
            node_id: self.node.node_id().0,
            mode: wire_mode(self.mode().await?),
            total_nodes: page.total_nodes as u64,
            nodes: page.nodes.into_iter().map(node_state).collect(),
            next: page.next.map(|next| next.0),
            concentration: in_short(&self.shares().await?),
        })
    }

    pub(super) async fn await_network_change(
        &self,
        client: &Client,
        request: AwaitNetworkChangeRequest,
    ) -> Result<AwaitNetworkChangeResponse, CommandError> {
        let mut generations = self.node.route_generations();
        if let Some(_place) = self.waits.enter(client) {
            let patience = Duration::from_secs(request.timeout_seconds.min(MAX_TIMEOUT_SECONDS));
            let other = generations.wait_for(|generation| *generation != request.generation);
            let changed = tokio::time::timeout(patience, other)
                .await
                .is_ok_and(|seen| seen.is_ok());
            if changed && request.generation != 0 {
                tokio::time::sleep(CHANGE_SETTLES).await;
            }
        }
        let generation = *generations.borrow_and_update();
        let status = self.status().await?;
        Ok(AwaitNetworkChangeResponse {
            generation,
            changed: generation != request.generation,
            neighbours: status.neighbours.len() as u64,
            announced_nodes: status.announced_nodes as u64,
            reachable_nodes: status.reachable_nodes as u64,
        })
    }
}

fn node_state(node: NetworkNode) -> NodeState {
    let neighbours = node.neighbours.iter().map(|listed| listed.node.0);
    NodeState {
        node_id: node.id.0,
        hops: node.hops.and_then(|hops| u8::try_from(hops).ok()),
        price_msat_per_unit: node.price.msat_per_unit,
        expires_at_unix_ms: node.expires.0,
        neighbours: neighbours.take(MAX_LISTED_NEIGHBOURS).collect(),
    }
}
