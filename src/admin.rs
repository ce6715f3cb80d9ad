//! The operator's door: a Unix socket in the data directory, over which the command line talks to the daemon.
//!
//! # The protocol
//!
//! One JSON object to a line, in both directions. A request names a method and its parameters; the answer is either
//! `ok` or `error`, never both:
//!
//! ```text
//! → {"method": "discover", "params": {"destination": "5f3a…", "max_hops": 10}}
//! ← {"ok": {"routes": [{"path": ["…", "…"], "msat_per_unit": 30, …}]}}
//! → {"method": "fly"}
//! ← {"error": {"code": "unknown_method", "message": "there is no method `fly`", "advice": "known methods: status, …"}}
//! ```
//!
//! | method | params | answer |
//! |---|---|---|
//! | `status` | | [`StatusReply`] |
//! | `peers` | | [`PeersReply`] |
//! | `routes` | | [`RoutesReply`] |
//! | `explain` | [`ExplainParams`] | [`ExplainReply`] |
//! | `shares` | | [`SharesReply`] |
//! | `discover` | [`DiscoverParams`] | [`RoutesReply`], at least one route |
//! | `quote` | [`QuoteParams`] | [`QuoteReply`] |
//! | `send` | [`SendParams`] | [`SendReply`] |
//! | `wallet` | [`WalletParams`] | what its `action` says |
//! | `ledger` | [`LedgerParams`] | [`LedgerReply`] |
//! | `fees` | | [`FeesReport`](crate::ledger::FeesReport) |
//! | `audit` | | [`AuditReport`](crate::ledger::AuditReport) |
//! | `treasury` | | [`TreasuryReply`] |
//! | `pay_treasury` | [`PayTreasuryParams`] | [`TreasuryPaidReply`], once the payment's outcome is known |
//! | `listen` | [`ListenParams`] | [`ListenReply`], then one [`DeliveryReply`] to a line until the client hangs up |
//!
//! `error.code` is a [`DropReason`](mesh_core::drop_reason::DropReason) name when the mesh refused, else one of
//! [`codes`]. Unknown parameters are refused. A connection may carry one request after another.
//!
//! # Who may use it
//!
//! Whoever can open the socket can spend the node's money: it has mode 0600 in a directory of mode 0700, and nothing
//! else guards it. Even so a client is bounded in all it can take: the length of a line, the time it may stay silent
//! or fail to read, and the number of connections.

mod backend;
mod books;
mod client;
mod convert;
mod fairness;
mod line;
mod server;
#[cfg(test)]
mod tests;
mod treasury;
mod wallet;
mod wire;

use std::time::Duration;

use mesh_core::limits::MAX_PAYLOAD_BYTES;

pub use backend::{AdminService, Backend, NodeInfo};
pub use books::{LedgerParams, LedgerReply, NodeBooks};
pub use client::{AdminClient, ClientError};
pub(crate) use fairness::shares;
pub use fairness::{
    CandidateReply, CapsReply, ExplainParams, ExplainReply, ShareReply, SharesReply, SpreadReply,
};
pub(crate) use server::bind_private;
pub use server::{AdminServer, BindError};
pub use treasury::{PayTreasuryParams, TreasuryPaidReply, TreasuryReply, UnderWayReply};
pub use wallet::{
    ChannelReply, OnChainReply, PaymentsReply, WalletAddressReply, WalletBalanceReply, WalletChannelsReply,
    WalletInfoReply, WalletOpenedReply, WalletParams,
};
pub use wire::{
    AdminError, DeliveryReply, DiscoverParams, DoneReply, LinksReply, ListenParams, ListenReply,
    NetworkNodeReply, NetworkParams, NetworkReply, PayeeReply, PeerReply, PeersReply, QuoteParams,
    QuoteReply, Reply, Request, RouteReply, RoutesReply, RoutingReply, SendParams, SendReply, SetPriceParams,
    StatusReply, Text, codes,
};

/// Longest request, in bytes without its line end: the largest payload in hexadecimal and 4 KiB for the rest.
pub const MAX_REQUEST_BYTES: usize = 2 * MAX_PAYLOAD_BYTES + 4096;

/// Longest answer a client takes, in bytes: four routes of ten hops to each of 4096 destinations are 15 MB of JSON.
pub const MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// Connections at once: an operator's shells, scripts and listeners, with room to spare.
pub const MAX_CONNECTIONS: usize = 32;

/// How long a connection may stay silent between requests.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client may fail to read what it asked for.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest `timeout_ms` that can be asked for.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest `ttl_ms` that can be asked for: a session's life.
pub const MAX_TTL: Duration = mesh_core::limits::SESSION_LIFETIME;

/// Most units that can be quoted at once: a tebibyte of payload, far above what anybody buys in one slice.
pub const MAX_UNITS: u64 = 1 << 30;

/// How long the node may take for an answer that it has at hand.
const LOOKUP_GUARD: Duration = Duration::from_secs(10);

/// How long a `send` may take in all: finding routes, then for each of four a quote, its payments and its open, and
/// none of them may be given up half-way, because money would be on its way.
const SEND_GUARD: Duration = Duration::from_secs(1000);

/// How long paying the treasury may take: asking its address, then the payment itself.
const TREASURY_GUARD: Duration = Duration::from_secs(150);

/// How long a client waits for an answer: longer than the daemon takes to give up.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1100);
