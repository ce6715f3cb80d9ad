//! What other modules say to the mesh, and what it answers: the ModuleAPI.
//!
//! A module of blvm-node reaches the mesh with one call of the host: a method's name and a few bytes go in, bytes come
//! out. This crate is that contract and nothing else. It knows no mesh, opens no socket and keeps no state, so that a
//! module author depends on a page of types instead of a network stack.
//!
//! * [`types`], [`sessions`] and [`waiting`]: every request and response, with units and limits at each field;
//! * [`concentration`]: who carries what the node pays for;
//! * [`payment_proof`]: the ways to show that a packet is paid for;
//! * [`payment_required`]: what to pay when the mesh may not pay by itself;
//! * [`codec`]: the byte layout, that of `bincode::serialize` of bincode 1.3, with a size limit for every type;
//! * [`methods`]: the methods by name, and which request belongs to which response;
//! * [`client_api`]: [`MeshClient`], the typed way to call them, over anything that is a [`ModuleCaller`];
//! * [`frames`]: what goes over the mesh's own Unix socket;
//! * `socket` (feature `socket`): `SocketCaller`, a [`ModuleCaller`] over that socket, which also takes deliveries.
//!
//! The layout is a promise between programs that are built and upgraded separately: fields are never added, removed or
//! reordered in a published type, enum variants are never feature-gated, and new needs get new methods. The bytes of
//! every type are committed as snapshots and compared with the real bincode.

#![forbid(unsafe_code)]

mod bounded;
pub mod client_api;
pub mod codec;
pub mod concentration;
pub mod frames;
pub mod limits;
pub mod methods;
pub mod payment_proof;
pub mod payment_required;
pub mod sessions;
#[cfg(feature = "socket")]
pub mod socket;
pub mod types;
pub mod waiting;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod samples;

pub use client_api::{CallError, ClientError, MeshClient, ModuleCaller};
pub use codec::{CodecError, Wire, decode, encode, encoded_len};
pub use concentration::{
    EntityShare, GetConcentrationRequest, GetConcentrationResponse, GroupShare, NetworkGroup, Share,
    ShareCaps, Spread,
};
pub use methods::{ApiRequest, Method, UnknownMethod};
pub use payment_proof::{PayeeProof, PaymentProof};
pub use sessions::{
    CloseSessionRequest, CloseSessionResponse, Concentration, Delivery, GetNetworkStateRequest,
    GetNetworkStateResponse, GetQuoteRequest, GetSessionRequest, GetSessionResponse, NodeState,
    OpenSessionRequest, OpenSessionResponse, PayeeQuote, PaymentMethod, PollDeliveriesRequest,
    PollDeliveriesResponse, QuoteRouteRequest, QuoteRouteResponse, QuotedOutput, RouteQuote, SessionInfo,
};
pub use types::{
    DiscoverRouteRequest, DiscoverRouteResponse, GetNodeIdRequest, GetNodeIdResponse, GetRoutingStatsRequest,
    MeshMode, MeshStats, NodeId, PacketId, QuoteId, RegisterProtocolRequest, RegisterProtocolResponse,
    ReplayStats, RoutingStats, SendPacketRequest, SendPacketResponse, SessionId,
};
pub use waiting::{
    AwaitDeliveriesRequest, AwaitNetworkChangeRequest, AwaitNetworkChangeResponse, UnregisterProtocolRequest,
    UnregisterProtocolResponse,
};
