//! What this node knows of the ways through the mesh.

mod cache;
pub mod snapshot;

use crate::drop_reason::DropReason;
use crate::fees;

pub use cache::{COMPARISON_UNITS, Route, RouteCache};

/// Everything this node knows of the ways through the mesh.
#[derive(Debug, Default)]
pub struct RoutingTable {
    /// Signed, priced paths found by discovery: what quotes are asked for.
    pub cache: RouteCache,
}

impl RoutingTable {
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
