//! Looking: routes, the node, its figures. Nothing here costs money.

use std::time::{Duration, Instant};

use mesh_api::limits::MAX_TIMEOUT_SECONDS;
use mesh_api::{DiscoverRouteRequest, DiscoverRouteResponse, MeshStats, ReplayStats, RoutingStats};
use mesh_core::event::{Answer, Command, RouteInfo, Status};
use mesh_core::identity::NodeId;
use mesh_core::limits::{DISCOVERY_TIMEOUT, MAX_HOPS, REPLAY_MEMORY};
use mesh_core::routing_policy::{MeshMode, TrafficClass};

use super::MeshModuleApi;
use super::proofs::wire_path;
use crate::handle::CommandError;

impl MeshModuleApi {
    pub(super) async fn discover_route(&self, request: DiscoverRouteRequest) -> DiscoverRouteResponse {
        let started = Instant::now();
        let routes = self
            .routes_to(request.destination, request.max_hops, request.timeout_seconds)
            .await;
        let cheapest = routes.ok().and_then(|routes| routes.into_iter().next());
        DiscoverRouteResponse {
            route_cost_sats: cheapest
                .as_ref()
                .map_or(0, |route| route.msat_per_unit.div_ceil(1000)),
            route: cheapest.map(|route| wire_path(&route.path)),
            discovery_time_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) async fn routes_to(
        &self,
        destination: [u8; 32],
        max_hops: Option<u8>,
        timeout_seconds: Option<u64>,
    ) -> Result<Vec<RouteInfo>, CommandError> {
        let max_hops = max_hops.unwrap_or(MAX_HOPS as u8);
        self.node
            .discover(NodeId(destination), max_hops, looking_for(timeout_seconds), false)
            .await
    }

    pub(super) async fn status(&self) -> Result<Status, CommandError> {
        match self.node.command(Command::Status).await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(CommandError::Unexpected),
        }
    }

    pub(super) async fn stats(&self) -> Result<MeshStats, CommandError> {
        let status = self.status().await?;
        Ok(MeshStats {
            enabled: true,
            mode: wire_mode(status.mode),
            routing: RoutingStats {
                total_routes: status.reachable_nodes,
                direct_peers: status.neighbours.len(),
                cached_routes: status.routes,
                route_expiry_seconds: self.node.route_lifetime().as_secs(),
            },
            replay: ReplayStats {
                active_hashes: status.redeemed,
                tracked_peers: status.sessions,
                expiry_seconds: REPLAY_MEMORY.as_secs(),
            },
        })
    }

    /// The node's mode, which holds as long as it runs: asked once.
    pub(super) async fn mode(&self) -> Result<MeshMode, CommandError> {
        let asked = self.mode.get_or_try_init(async || Ok(self.status().await?.mode));
        asked.await.copied()
    }

    /// What modules send: paid where the node's mode asks for payment, else what the mode carries for free.
    pub(super) async fn class(&self) -> Result<TrafficClass, CommandError> {
        Ok(match self.mode().await? {
            MeshMode::PaymentGated => TrafficClass::Paid,
            MeshMode::Open => TrafficClass::Open,
            MeshMode::BitcoinOnly => TrafficClass::BitcoinP2p,
        })
    }
}

/// How long to look for routes and to wait for quotes.
pub(super) fn looking_for(timeout_seconds: Option<u64>) -> Duration {
    timeout_seconds.map_or(DISCOVERY_TIMEOUT, |seconds| {
        Duration::from_secs(seconds.min(MAX_TIMEOUT_SECONDS))
    })
}

pub(super) fn wire_mode(mode: MeshMode) -> mesh_api::MeshMode {
    match mode {
        MeshMode::BitcoinOnly => mesh_api::MeshMode::BitcoinOnly,
        MeshMode::PaymentGated => mesh_api::MeshMode::PaymentGated,
        MeshMode::Open => mesh_api::MeshMode::Open,
    }
}
