//! An earner who splits into many nodes, and what that gains him.
//!
//! There are [`HONEST`] routers that are as dear as one another, each an entity of its own in a network of its own; beside
//! them the parts of the one who splits; and [`CUSTOMERS`] who have a link to every one of them and buy ways to one another.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use mesh_core::drop_reason::DropReason;
use mesh_core::fairness::entities::Tie;

use super::{Market, Outcome, node_id, play};
use crate::network::{Edge, Topology};

/// Routers that do not split.
pub const HONEST: u32 = 20;

/// Who buys.
pub const CUSTOMERS: u32 = 40;

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

/// Routers, nodes 0 and on, and after them the customers, with a link between each router and each customer.
pub fn crossing(routers: u32) -> Topology {
    let nodes = routers + CUSTOMERS;
    let link = |a, b| Edge { a, b, metres: None };
    Topology {
        name: "crossing".to_owned(),
        nodes: nodes as usize,
        edges: (0..routers)
            .flat_map(|router| (routers..nodes).map(move |customer| link(router, customer)))
            .collect(),
    }
}

/// What one of `market` carries who splits into so many parts, of all that is carried: 0 to 1. The market's ties, addresses
/// and ends are this scenario's.
///
/// # Errors
/// [`DropReason`] when there are too many parts for a node's graph.
pub fn share_of_split(parts: u32, behind: Behind, market: &Market) -> Result<f64, DropReason> {
    let (all, theirs) = (0..HONEST + parts, HONEST..HONEST + parts);
    let tie = match behind {
        Behind::Operator => Some(Tie::Operator(node_id(u32::MAX))),
        Behind::Payee => Some(Tie::Payee([7; 33])),
        Behind::Network | Behind::Nothing => None,
    };
    let in_one_network = |node| behind == Behind::Network && theirs.contains(&node);
    let market = Market {
        ties: tie
            .into_iter()
            .flat_map(|tie| theirs.clone().map(move |node| (node, tie)))
            .collect(),
        addresses: all
            .clone()
            .map(|node| (node, address(node, in_one_network(node))))
            .collect(),
        ends: Some(all.end..all.end + CUSTOMERS),
        ..market.clone()
    };
    let outcome = play(&crossing(all.end), &market)?;
    Ok(share_of(&outcome, theirs))
}

/// An address in a network of its own, or in the one network of who splits.
fn address(node: u32, in_one_network: bool) -> IpAddr {
    let [.., high, low] = node.to_be_bytes();
    IpAddr::V4(match in_one_network {
        true => Ipv4Addr::new(99, 99, high, low),
        false => Ipv4Addr::new(100 + high, low, 0, 1),
    })
}

/// What `nodes` carried of all that was carried: 0 to 1.
pub fn share_of(outcome: &Outcome, nodes: Range<u32>) -> f64 {
    let ids: BTreeSet<_> = nodes.map(node_id).collect();
    let theirs = outcome
        .carried
        .iter()
        .filter(|(entity, _)| ids.contains(&entity.0));
    let all: u64 = outcome.carried.values().sum();
    theirs.map(|(_, units)| *units).sum::<u64>() as f64 / all.max(1) as f64
}
