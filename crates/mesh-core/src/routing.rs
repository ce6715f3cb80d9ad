//! What this node knows of the ways through the mesh.

pub mod blame;
mod cache;
pub mod delay;
mod exchange;
mod flaps;
pub mod graph;
pub mod link_cost;
mod pace;
mod plane;
mod requests;
pub mod snapshot;
pub mod update;
pub mod vector;

use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::fees;
use crate::identity::NodeId;

pub use cache::{COMPARISON_UNITS, Route, RouteCache};
pub use graph::{CandidatePath, NetworkGraph, PathQuery};
pub use update::Plane;
pub use vector::{DistanceVector, NextHop, RoutingCounters};

/// Everything this node knows of the ways through the mesh.
pub struct RoutingTable {
    /// Over which neighbour everybody can be reached.
    pub vector: DistanceVector,
    /// Who says what of himself: from where candidates for paths come.
    pub graph: NetworkGraph,
    /// Signed, priced paths found by discovery: what quotes are asked for.
    pub cache: RouteCache,
}

impl RoutingTable {
    /// One that knows nobody; the seed hides the places of ids in tables.
    pub fn new(me: NodeId, seed: u64, route_lifetime: Duration) -> Self {
        Self {
            vector: DistanceVector::new(me, seed),
            graph: NetworkGraph::new(seed),
            cache: RouteCache::new(route_lifetime),
        }
    }

    /// What a route of `route_length` hops costs for carrying a payment of `amount_msat`: base cost per hop and
    /// `parts_per_million` of the amount, in msat.
    pub fn calculate_fee(
        route_length: usize,
        base_cost_msat: u64,
        amount_msat: u64,
        parts_per_million: u64,
    ) -> Result<u64, DropReason> {
        fees::calculate_fee(route_length, base_cost_msat, amount_msat, parts_per_million)
            .map_err(|_| DropReason::LimitReached)
    }
}
