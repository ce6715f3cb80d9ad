//! The first ModuleAPI: sending, discovering, registering and statistics.
//!
//! These layouts are published. They never change; what they cannot say is said by the methods in
//! [`sessions`](crate::sessions).

use serde::{Deserialize, Serialize};

use crate::bounded::{AtMost, as_u64};
use crate::codec::{size, wire};
use crate::limits::{
    MAX_METHOD_NAME_BYTES, MAX_PAYLOAD_BYTES, MAX_PROTOCOL_ID_BYTES, MAX_REASON_BYTES, MAX_ROUTE_NODES,
};
use crate::payment_proof::{PROOF_BYTES, PaymentProof};

/// A node: its Ed25519 public key, shown to people as 64 hexadecimal digits.
pub type NodeId = [u8; 32];

/// One packet, unique among all packets of all sessions.
pub type PacketId = [u8; 32];

/// A session: a route bound for packets.
pub type SessionId = [u8; 16];

/// An offer of a route at a price, good for opening one session.
pub type QuoteId = [u8; 16];

/// Sends one packet to a node, however many hops away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendPacketRequest {
    /// Who is to get it.
    pub destination: NodeId,
    /// What it is to get, at most 256 KiB.
    #[serde(with = "AtMost::<MAX_PAYLOAD_BYTES>")]
    pub payload: Vec<u8>,
    /// How the hops are paid. Without one the mesh pays by itself, within the limits its operator set for that; above
    /// them the answer is a quote ([`SendPacketResponse::required_quote`]).
    pub payment_proof: Option<PaymentProof>,
    /// Which protocol handler at the destination it is for, at most 64 bytes; `None` is for whoever polls without one.
    #[serde(with = "AtMost::<MAX_PROTOCOL_ID_BYTES>")]
    pub protocol_id: Option<String>,
    /// How long the packet may travel, in seconds, 60 if not given and never beyond its session's end; hops drop it after
    /// that, each by its own clock and a minute late at the most.
    pub ttl: Option<u64>,
}

/// What became of a packet to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendPacketResponse {
    /// Whether the packet left this node, paid for. It does not say that it arrived: a receipt does.
    pub success: bool,
    /// The packet, zeros if it was not sent.
    pub packet_id: PacketId,
    /// Hops of its route, 0 if it was not sent.
    #[serde(with = "as_u64")]
    pub route_length: usize,
    /// What the packet costs on that route, in satoshis, rounded up.
    pub estimated_cost_sats: u64,
    /// Why it was not sent, at most 1,024 bytes.
    #[serde(with = "AtMost::<MAX_REASON_BYTES>")]
    pub error: Option<String>,
}

impl SendPacketResponse {
    /// The answer for a packet that was not sent, with the reason cut to its limit.
    pub fn refused(reason: impl Into<String>) -> Self {
        SendPacketResponse {
            success: false,
            packet_id: [0; 32],
            route_length: 0,
            estimated_cost_sats: 0,
            error: Some(crate::limits::clip_reason(reason)),
        }
    }
}

/// Looks for a route without using it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverRouteRequest {
    /// Where the route is to end.
    pub destination: NodeId,
    /// Most hops it may have, 1 to 10; 10 if not given.
    pub max_hops: Option<u8>,
    /// How long to look, in seconds, at most 300; 30 if not given.
    pub timeout_seconds: Option<u64>,
}

/// The route that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverRouteResponse {
    /// Source, routers and destination in order, at most 11 nodes; `None` if there is no route within the limits asked
    /// for.
    #[serde(with = "AtMost::<MAX_ROUTE_NODES>")]
    pub route: Option<Vec<NodeId>>,
    /// What one packet of 1 KiB costs on it, in satoshis, rounded up.
    pub route_cost_sats: u64,
    /// How long it took to find, in milliseconds.
    pub discovery_time_ms: u64,
}

/// Asks for packets of a protocol to be handed to the calling module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterProtocolRequest {
    /// The protocol, at most 64 bytes.
    #[serde(with = "AtMost::<MAX_PROTOCOL_ID_BYTES>")]
    pub protocol_id: String,
    /// The caller's method that takes a [`Delivery`](crate::sessions::Delivery), at most 64 bytes.
    #[serde(with = "AtMost::<MAX_METHOD_NAME_BYTES>")]
    pub handler_method: String,
}

/// Whether a protocol was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterProtocolResponse {
    /// False if another module has the protocol, or there are too many.
    pub success: bool,
}

/// Asks for [`MeshStats`]. Encoded as no bytes at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRoutingStatsRequest {}

/// What traffic a node carries. The order is part of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeshMode {
    /// 0: no packets of others at all.
    BitcoinOnly,
    /// 1: paid packets, and a few named classes for free.
    PaymentGated,
    /// 2: also free packets, as far as there is room.
    Open,
}

/// The mesh at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshStats {
    /// Whether the mesh takes part at all.
    pub enabled: bool,
    /// What traffic it carries.
    pub mode: MeshMode,
    /// What it knows about ways.
    pub routing: RoutingStats,
    /// What it remembers against replay.
    pub replay: ReplayStats,
}

/// What a node knows about ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingStats {
    /// Destinations it has a route to.
    #[serde(with = "as_u64")]
    pub total_routes: usize,
    /// Neighbours with a live link.
    #[serde(with = "as_u64")]
    pub direct_peers: usize,
    /// Routes from discoveries that are still fresh.
    #[serde(with = "as_u64")]
    pub cached_routes: usize,
    /// How long a discovered route stays fresh, in seconds.
    pub route_expiry_seconds: u64,
}

/// What a node remembers so that nothing counts twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayStats {
    /// Single-use hashes remembered.
    #[serde(with = "as_u64")]
    pub active_hashes: usize,
    /// Peers with a window of sequence numbers.
    #[serde(with = "as_u64")]
    pub tracked_peers: usize,
    /// How long a hash is remembered at the least, in seconds.
    pub expiry_seconds: u64,
}

/// Asks for this node's id. Encoded as no bytes at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetNodeIdRequest {}

/// This node's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetNodeIdResponse {
    /// The id that others send packets to.
    pub node_id: NodeId,
}

pub(crate) const ROUTE_BYTES: usize = size::list(MAX_ROUTE_NODES, size::ID32);

wire!(
    SendPacketRequest,
    size::ID32
        + size::block(MAX_PAYLOAD_BYTES)
        + size::option(PROOF_BYTES)
        + size::option(size::block(MAX_PROTOCOL_ID_BYTES))
        + size::option(size::U64)
);
wire!(
    SendPacketResponse,
    size::BOOL + size::ID32 + 2 * size::U64 + size::option(size::block(MAX_REASON_BYTES))
);
wire!(
    DiscoverRouteRequest,
    size::ID32 + size::option(size::U8) + size::option(size::U64)
);
wire!(DiscoverRouteResponse, size::option(ROUTE_BYTES) + 2 * size::U64);
wire!(
    RegisterProtocolRequest,
    size::block(MAX_PROTOCOL_ID_BYTES) + size::block(MAX_METHOD_NAME_BYTES)
);
wire!(RegisterProtocolResponse, size::BOOL);
wire!(GetRoutingStatsRequest, 0);
wire!(MeshMode, size::VARIANT);
wire!(RoutingStats, 4 * size::U64);
wire!(ReplayStats, 3 * size::U64);
wire!(MeshStats, size::BOOL + size::VARIANT + 7 * size::U64);
wire!(GetNodeIdRequest, 0);
wire!(GetNodeIdResponse, size::ID32);
