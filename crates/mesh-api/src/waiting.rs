//! The latest ModuleAPI: giving a protocol up, and calls that wait until something happens.
//!
//! A call that waits costs the mesh next to nothing and saves a module from asking again and again. The mesh lets so many
//! wait at once; one too many is answered at once, as if its time were over.

use serde::{Deserialize, Serialize};

use crate::bounded::AtMost;
use crate::codec::{size, wire};
use crate::limits::MAX_PROTOCOL_ID_BYTES;

/// Gives a protocol up, so that another module can have it. What still waits of it is kept for a while for whoever
/// registers it next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisterProtocolRequest {
    /// The protocol, registered by the same module, at most 64 bytes.
    #[serde(with = "AtMost::<MAX_PROTOCOL_ID_BYTES>")]
    pub protocol_id: String,
}

/// Whether a protocol was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisterProtocolResponse {
    /// False if the calling module did not have it, or the disk refused to forget it.
    pub success: bool,
}

/// Fetches packets as `poll_deliveries` does, and waits for the first if there is none. Answered with a
/// [`PollDeliveriesResponse`](crate::sessions::PollDeliveriesResponse), which is empty when none came in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitDeliveriesRequest {
    /// Which protocol's packets, at most 64 bytes; `None` for packets that name no protocol.
    #[serde(with = "AtMost::<MAX_PROTOCOL_ID_BYTES>")]
    pub protocol_id: Option<String>,
    /// Most packets to hand over, 1 to 64; more counts as 64.
    pub max_deliveries: u32,
    /// How long to wait for the first, in seconds, at most 300.
    pub timeout_seconds: u64,
}

/// Waits until what the node knows of the network is no longer what the caller saw: links come up and break, nodes
/// announce themselves, change their price, or can no longer be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitNetworkChangeRequest {
    /// The generation that the caller saw last; 0 at first, which is answered at once.
    pub generation: u64,
    /// How long to wait, in seconds, at most 300.
    pub timeout_seconds: u64,
}

/// How far the network has got. What changed is for `get_network_state` to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitNetworkChangeResponse {
    /// The present generation. It grows with every change that can be seen, and never repeats, not even across restarts of
    /// the node.
    pub generation: u64,
    /// Whether it is another than the caller's; false when the time was over.
    pub changed: bool,
    /// Neighbours with a live link.
    pub neighbours: u64,
    /// Nodes whose announcements hold, this one included.
    pub announced_nodes: u64,
    /// Other nodes to whom a way is known.
    pub reachable_nodes: u64,
}

wire!(UnregisterProtocolRequest, size::block(MAX_PROTOCOL_ID_BYTES));
wire!(UnregisterProtocolResponse, size::BOOL);
wire!(
    AwaitDeliveriesRequest,
    size::option(size::block(MAX_PROTOCOL_ID_BYTES)) + size::U32 + size::U64
);
wire!(AwaitNetworkChangeRequest, 2 * size::U64);
wire!(AwaitNetworkChangeResponse, size::BOOL + 4 * size::U64);
