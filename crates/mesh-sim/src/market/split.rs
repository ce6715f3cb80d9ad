//! An earner who splits into many nodes, and what that gains him.
//!
//! Two exchanges have twenty customers each. Between the exchanges are [`HONEST`] routers that are as dear as one another,
//! each its own entity in a network of its own; and beside them the parts of the one who splits.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use mesh_core::drop_reason::DropReason;
use mesh_core::fairness::entities::Tie;

use super::{Market, Outcome, node_id, play};
use crate::network::{Edge, Topology};

/// Routers that do not split.
pub const HONEST: u32 = 20;

const CUSTOMERS: u32 = 40;

/// What the parts have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// An operator's key.
    Operator,
    /// The Lightning node that their invoices are of.
    Payee,
    /// The first two bytes of their addresses.
    Network,
    /// Nothing.
    Nothing,
}

/// Two exchanges, nodes 0 and 1, with forty customers, and `routers` between the exchanges: nodes 2 and on.
pub fn between(routers: u32) -> Topology {
    let nodes = 2 + routers + CUSTOMERS;
    let link = |a, b| Edge { a, b, metres: None };
    let routes = (2..2 + routers).flat_map(|router| [link(0, router), link(1, router)]);
    let customers = (2 + routers..nodes).map(|customer| link(customer % 2, customer));
    Topology {
        name: "between".to_owned(),
        nodes: nodes as usize,
        edges: routes.chain(customers).collect(),
    }
}

/// What one of `market` earns who splits into so many parts, of all that routers between the exchanges do: 0 to 1.
///
/// # Errors
/// [`DropReason`] when there are too many parts for a node's graph.
pub fn share_of_split(parts: u32, behind: Behind, market: &Market) -> Result<f64, DropReason> {
    let nodes = 2 + HONEST..2 + HONEST + parts;
    let tie = match behind {
        Behind::Operator => Some(Tie::Operator(node_id(u32::MAX))),
        Behind::Payee => Some(Tie::Payee([7; 33])),
        Behind::Network | Behind::Nothing => None,
    };
    let market = Market {
        ties: tie.map_or_else(Vec::new, |tie| nodes.clone().map(|node| (node, tie)).collect()),
        addresses: (2..2 + HONEST + parts)
            .map(|node| (node, address(node, behind == Behind::Network && nodes.contains(&node))))
            .collect(),
        ..market.clone()
    };
    let outcome = play(&between(HONEST + parts), &market)?;
    Ok(share_of(&outcome, nodes, 2..2 + HONEST + parts))
}

/// An address in a network of its own, or in the one network of who splits.
fn address(node: u32, in_one_network: bool) -> IpAddr {
    let [.., high, low] = node.to_be_bytes();
    IpAddr::V4(match in_one_network {
        true => Ipv4Addr::new(99, 99, high, low),
        false => Ipv4Addr::new(100 + high, low, 0, 1),
    })
}

/// What `nodes` earned of what all nodes `of_all` did: 0 to 1.
pub fn share_of(outcome: &Outcome, nodes: std::ops::Range<u32>, of_all: std::ops::Range<u32>) -> f64 {
    let earned = |nodes: std::ops::Range<u32>| -> u64 {
        let ids: BTreeSet<_> = nodes.map(node_id).collect();
        let theirs = outcome.earned.iter().filter(|(entity, _)| ids.contains(&entity.0));
        theirs.map(|(_, msat)| *msat).sum()
    };
    earned(nodes) as f64 / earned(of_all).max(1) as f64
}
