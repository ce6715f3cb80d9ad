//! The later ModuleAPI: quotes, sessions, deliveries and the network's state.
//!
//! A module that pays by itself asks `quote_route`, pays each payee's invoice with its own wallet, and hands the
//! preimages back with `open_session`; packets then name the session as their
//! [`PaymentProof::Session`]. Refusals are ordinary answers and not errors of
//! the call, because a host may cut off a caller at the first error.

use serde::{Deserialize, Serialize};

use crate::bounded::{AtMost, Item};
use crate::codec::{size, wire};
use crate::limits::{
    MAX_AVOIDED_NODES, MAX_DELIVERIES_PER_POLL, MAX_INVOICE_BYTES, MAX_LISTED_NEIGHBOURS, MAX_NODES_PER_PAGE,
    MAX_PAYEES, MAX_PAYLOAD_BYTES, MAX_POLL_RESPONSE_BYTES, MAX_PROTOCOL_ID_BYTES, MAX_REASON_BYTES,
    MAX_ROUTE_NODES,
};
use crate::payment_proof::{PROOF_BYTES, PaymentProof};
use crate::types::{MeshMode, NodeId, PacketId, QuoteId, ROUTE_BYTES, SessionId};

/// Asks what it costs to send to a node, with invoices that can be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteRouteRequest {
    /// Where the packets are to go.
    pub destination: NodeId,
    /// Most hops the route may have, 1 to 10; 10 if not given.
    pub max_hops: Option<u8>,
    /// How long to look for a route and collect quotes, in seconds, at most 300; 30 if not given.
    pub timeout_seconds: Option<u64>,
    /// How much is to be sent, in units of one KiB begun per packet.
    pub units: u64,
    /// The most the whole may cost, in msat; dearer routes are not quoted.
    pub max_fee_msat: Option<u64>,
    /// Nodes that must not be on the route, at most 64.
    #[serde(with = "AtMost::<MAX_AVOIDED_NODES>")]
    pub avoid: Vec<NodeId>,
}

/// A quote, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuoteRouteResponse {
    /// 0: this route at this price.
    Quoted(RouteQuote),
    /// 1: no route, too dear, or a payee did not answer.
    Refused {
        /// What is missing and what would help, at most 1,024 bytes.
        #[serde(with = "AtMost::<MAX_REASON_BYTES>")]
        reason: String,
    },
}

/// A route and what every payee on it asks for. It belongs to the module that asked, and opens one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteQuote {
    /// Names the quote in `open_session`.
    pub quote_id: QuoteId,
    /// Source, routers and destination in order, at most 11 nodes.
    #[serde(with = "AtMost::<MAX_ROUTE_NODES>")]
    pub route: Vec<NodeId>,
    /// What all payees together ask for, in msat, without the fees of the payments themselves.
    pub total_fee_msat: u64,
    /// Who is to be paid what, at most 10. Payees whom earlier credit already covers ask for nothing.
    #[serde(with = "AtMost::<MAX_PAYEES>")]
    pub payees: Vec<PayeeQuote>,
}

/// What one payee asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayeeQuote {
    /// The node that earns the share.
    pub payee: NodeId,
    /// The share, in msat.
    pub amount_msat: u64,
    /// The BOLT11 invoice to pay, at most 7,089 bytes; `None` if credit at this payee covers the share.
    #[serde(with = "AtMost::<MAX_INVOICE_BYTES>")]
    pub invoice: Option<String>,
    /// Until when it can be paid, in unix milliseconds.
    pub pay_by_unix_ms: u64,
    /// Until when the payment can be redeemed, in unix milliseconds; later the money is the payee's and the credit lost.
    pub redeem_by_unix_ms: u64,
}

impl Item for PayeeQuote {}

/// Asks for a quote that the mesh gave this caller before: as the answer to `quote_route`, or because `send_packet`
/// required payment ([`SendPacketResponse::required_quote`](crate::types::SendPacketResponse::required_quote)). Answered
/// with a [`QuoteRouteResponse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetQuoteRequest {
    /// The quote, given to the same module.
    pub quote_id: QuoteId,
}

/// Binds a quoted route for packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSessionRequest {
    /// The quote, as `quote_route` answered to the same module.
    pub quote_id: QuoteId,
    /// What the caller has paid. Payees it does not cover are paid by the mesh, if its operator allows.
    pub payment_proof: Option<PaymentProof>,
    /// The most the mesh may pay in this call, in msat, fees included; the operator's limits apply besides.
    pub max_fee_msat: Option<u64>,
}

/// A session, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenSessionResponse {
    /// 0: the destination has answered; packets may flow.
    Opened(SessionInfo),
    /// 1: there is no session. What was paid stays credit of this node at the payees and serves the next attempt.
    Refused {
        /// What went wrong and what would help, at most 1,024 bytes.
        #[serde(with = "AtMost::<MAX_REASON_BYTES>")]
        reason: String,
        /// Payees that still have to be paid, at most 10.
        #[serde(with = "AtMost::<MAX_PAYEES>")]
        missing_payees: Vec<PayeeQuote>,
    },
}

/// An open session and how far it has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// The session.
    pub session_id: SessionId,
    /// Source, routers and destination in order, at most 11 nodes.
    #[serde(with = "AtMost::<MAX_ROUTE_NODES>")]
    pub route: Vec<NodeId>,
    /// Until when packets may be sent, in unix milliseconds.
    pub expires_at_unix_ms: u64,
    /// What is still paid for, in units of one KiB begun per packet.
    pub units_remaining: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets of these that the destination has signed receipts for.
    pub packets_receipted: u64,
    /// Payload bytes that the destination has signed receipts for.
    pub bytes_receipted: u64,
}

/// Ends a session. What is left of its credit stays with the payees for the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseSessionRequest {
    /// The session, opened by the same module.
    pub session_id: SessionId,
}

/// Whether a session was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseSessionResponse {
    /// False if the caller has no such session, be it closed before or never its own.
    pub closed: bool,
    /// Credit left on its accounts, all payees together, in msat.
    pub credit_left_msat: u64,
}

/// Asks how far a session has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetSessionRequest {
    /// The session, opened by the same module.
    pub session_id: SessionId,
}

/// How far a session has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetSessionResponse {
    /// `None` if the caller has no such session.
    pub session: Option<SessionInfo>,
}

/// Fetches packets that have arrived for the calling module. What an answer hands over is gone from the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollDeliveriesRequest {
    /// Which protocol's packets, at most 64 bytes; `None` for packets that name no protocol.
    #[serde(with = "AtMost::<MAX_PROTOCOL_ID_BYTES>")]
    pub protocol_id: Option<String>,
    /// Most packets to hand over, 1 to 64; more counts as 64.
    pub max_deliveries: u32,
}

/// Packets that have arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollDeliveriesResponse {
    /// In the order of their arrival, at most 64, together at most 4 MiB.
    #[serde(with = "AtMost::<MAX_DELIVERIES_PER_POLL>")]
    pub deliveries: Vec<Delivery>,
    /// Whether more are waiting.
    pub more: bool,
    /// Packets that were dropped since the last poll because the queue was full: the module polls too seldom.
    pub dropped: u64,
}

/// One packet that has arrived. Registered handlers are given it, encoded, as their argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Who sent it, proven by its signature; `None` if the sender chose not to say.
    pub source: Option<NodeId>,
    /// Which protocol it names, at most 64 bytes.
    #[serde(with = "AtMost::<MAX_PROTOCOL_ID_BYTES>")]
    pub protocol_id: Option<String>,
    /// What was sent, at most 256 KiB.
    #[serde(with = "AtMost::<MAX_PAYLOAD_BYTES>")]
    pub payload: Vec<u8>,
    /// The packet, as the sender knows it.
    pub packet_id: PacketId,
    /// The session it came by.
    pub session_id: SessionId,
    /// Its place in the session. Gaps are packets lost or overtaken; no number is delivered twice.
    pub sequence: u64,
}

impl Item for Delivery {}

/// Asks what this node knows about the network, one page of nodes at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetNetworkStateRequest {
    /// Where the last page ended; `None` for the first page.
    pub after: Option<NodeId>,
    /// Most nodes to list, 1 to 256; more counts as 256.
    pub max_nodes: u32,
}

/// A page of what this node knows about the network. It is what others have announced and signed, not what is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetNetworkStateResponse {
    /// This node.
    pub node_id: NodeId,
    /// What traffic it carries.
    pub mode: MeshMode,
    /// Nodes known in all, on this page or not.
    pub total_nodes: u64,
    /// Nodes in ascending order of their ids, at most 256.
    #[serde(with = "AtMost::<MAX_NODES_PER_PAGE>")]
    pub nodes: Vec<NodeState>,
    /// `after` for the next page; `None` if this was the last.
    pub next: Option<NodeId>,
    /// Who carried what this node paid for.
    pub concentration: Concentration,
}

/// What is known about one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The node.
    pub node_id: NodeId,
    /// Hops to it on the shortest known route, 0 for this node itself; `None` if there is no route.
    pub hops: Option<u8>,
    /// What it asks for carrying one unit, in msat.
    pub price_msat_per_unit: u64,
    /// When its announcement ends, in unix milliseconds.
    pub expires_at_unix_ms: u64,
    /// Neighbours that both ends have announced, at most 128.
    #[serde(with = "AtMost::<MAX_LISTED_NEIGHBOURS>")]
    pub neighbours: Vec<NodeId>,
}

impl Item for NodeState {}

/// How the routing fees this node has paid, and holds receipts for, were spread over operators in the last day.
///
/// Shares are in parts per million, so that no rounding of floating point differs between machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concentration {
    /// Operators that earned anything.
    pub entities: u64,
    /// Share of the largest, 0 to 1,000,000.
    pub top1_ppm: u32,
    /// Share of the five largest together, 0 to 1,000,000.
    pub top5_ppm: u32,
    /// Herfindahl–Hirschman index, the sum of the squared shares, 0 to 1,000,000.
    pub hhi_ppm: u32,
    /// Nakamoto coefficient: the fewest operators that together earned more than half; 0 if nobody did.
    pub nakamoto: u32,
}

const REASON_BYTES: usize = size::block(MAX_REASON_BYTES);
const PAYEE_QUOTE_BYTES: usize = size::ID32 + 3 * size::U64 + size::option(size::block(MAX_INVOICE_BYTES));
const PAYEES_BYTES: usize = size::list(MAX_PAYEES, PAYEE_QUOTE_BYTES);
const ROUTE_QUOTE_BYTES: usize = size::ID16 + ROUTE_BYTES + size::U64 + PAYEES_BYTES;
const SESSION_INFO_BYTES: usize = size::ID16 + ROUTE_BYTES + 5 * size::U64;
const PROTOCOL_BYTES: usize = size::option(size::block(MAX_PROTOCOL_ID_BYTES));
const NODE_STATE_BYTES: usize =
    size::ID32 + size::option(size::U8) + 2 * size::U64 + size::list(MAX_LISTED_NEIGHBOURS, size::ID32);
const CONCENTRATION_BYTES: usize = size::U64 + 4 * size::U32;

wire!(
    QuoteRouteRequest,
    size::ID32
        + size::option(size::U8)
        + size::option(size::U64)
        + size::U64
        + size::option(size::U64)
        + size::list(MAX_AVOIDED_NODES, size::ID32)
);
wire!(
    QuoteRouteResponse,
    size::VARIANT + size::larger(ROUTE_QUOTE_BYTES, REASON_BYTES)
);
wire!(
    OpenSessionRequest,
    size::ID16 + size::option(PROOF_BYTES) + size::option(size::U64)
);
wire!(
    OpenSessionResponse,
    size::VARIANT + size::larger(SESSION_INFO_BYTES, REASON_BYTES + PAYEES_BYTES)
);
wire!(GetQuoteRequest, size::ID16);
wire!(CloseSessionRequest, size::ID16);
wire!(CloseSessionResponse, size::BOOL + size::U64);
wire!(GetSessionRequest, size::ID16);
wire!(GetSessionResponse, size::option(SESSION_INFO_BYTES));
wire!(PollDeliveriesRequest, PROTOCOL_BYTES + size::U32);
// Less than its fields would allow: see the limit.
wire!(PollDeliveriesResponse, MAX_POLL_RESPONSE_BYTES);
wire!(
    Delivery,
    size::option(size::ID32)
        + PROTOCOL_BYTES
        + size::block(MAX_PAYLOAD_BYTES)
        + size::ID32
        + size::ID16
        + size::U64
);
wire!(GetNetworkStateRequest, size::option(size::ID32) + size::U32);
wire!(
    GetNetworkStateResponse,
    size::ID32
        + size::VARIANT
        + size::U64
        + size::list(MAX_NODES_PER_PAGE, NODE_STATE_BYTES)
        + size::option(size::ID32)
        + CONCENTRATION_BYTES
);
