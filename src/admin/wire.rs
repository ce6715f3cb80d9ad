//! What the two ends of the admin socket say to each other; one set of types for both.
//!
//! Ids, hashes and payloads are lower-case hexadecimal, amounts msat, durations ms, moments Unix ms.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use mesh_core::identity::NodeId;
use mesh_core::limits::{DISCOVERY_TIMEOUT, MAX_HOPS, MAX_NETWORK_PAGE};
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::books::LedgerParams;
use super::fairness::ExplainParams;
use super::treasury::PayTreasuryParams;
use super::wallet::WalletParams;

/// Error codes of this interface's own, beside the names of [`DropReason`](mesh_core::drop_reason::DropReason).
pub mod codes {
    /// The line is not a request, or a parameter is missing, unknown or out of range.
    pub const BAD_REQUEST: &str = "bad_request";
    /// There is no such method.
    pub const UNKNOWN_METHOD: &str = "unknown_method";
    /// The line is longer than a request can be; the connection is closed.
    pub const LINE_TOO_LONG: &str = "line_too_long";
    /// Too many clients are connected; the connection is closed.
    pub const TOO_MANY_CONNECTIONS: &str = "too_many_connections";
    /// The connection was silent too long and is closed.
    pub const IDLE: &str = "idle";
    /// The wallet refused, or does not do this.
    pub const WALLET: &str = "wallet";
    /// The node is stopping.
    pub const STOPPED: &str = "stopped";
    /// More commands wait than the node takes.
    pub const BUSY: &str = "busy";
    /// The node did not answer in time; what was asked may still happen.
    pub const NO_ANSWER: &str = "no_answer";
    /// The treasury cannot be paid now.
    pub const TREASURY: &str = "treasury";
    /// The database cannot be read.
    pub const UNREADABLE: &str = "unreadable";
    /// A defect of this program.
    pub const INTERNAL: &str = "internal";
}

/// A value that travels as its textual form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<T>(pub T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub enum Request {
    /// What the node knows of itself.
    Status,
    /// Its neighbours.
    Peers,
    /// The routes it knows.
    Routes,
    /// Every way to a node, and what it is compared by.
    Explain(ExplainParams),
    /// How what the node paid was spread.
    Shares,
    /// What nodes announced of themselves, a page at a time.
    Network(NetworkParams),
    /// Change what the node charges until it is restarted.
    SetPrice(SetPriceParams),
    /// Find routes.
    Discover(DiscoverParams),
    /// Ask what a route costs.
    Quote(QuoteParams),
    /// Send one packet.
    Send(SendParams),
    /// Entries of the ledger.
    Ledger(LedgerParams),
    /// What was earned, spent and is owed.
    Fees,
    /// Derive every figure of the ledger again and compare.
    Audit,
    /// How the node stands with its treasury.
    Treasury,
    /// Pay the treasury.
    PayTreasury(PayTreasuryParams),
    /// Read what arrives.
    Listen(ListenParams),
    /// Look at the wallet, or change its channels.
    Wallet(WalletParams),
}

impl Request {
    /// The names of all methods.
    pub const METHODS: [&'static str; 17] = [
        "status",
        "peers",
        "routes",
        "explain",
        "shares",
        "network",
        "set_price",
        "discover",
        "quote",
        "send",
        "ledger",
        "fees",
        "audit",
        "treasury",
        "pay_treasury",
        "listen",
        "wallet",
    ];

    /// Reads a request from its line.
    ///
    /// # Errors
    /// An [`AdminError`] fit to be sent back.
    pub fn parse(line: &[u8]) -> Result<Self, AdminError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Envelope {
            method: String,
            #[serde(default)]
            params: Option<Value>,
        }
        let envelope: Envelope = serde_json::from_slice(line).map_err(|error| {
            AdminError::new(
                codes::BAD_REQUEST,
                format!("the line is not a request: {error}"),
                "send one JSON object to a line: {\"method\": \"…\", \"params\": {…}}",
            )
        })?;
        let params = envelope.params;
        match envelope.method.as_str() {
            "status" => no_params(params).map(|()| Self::Status),
            "peers" => no_params(params).map(|()| Self::Peers),
            "routes" => no_params(params).map(|()| Self::Routes),
            "explain" => read_params(params).map(Self::Explain),
            "shares" => no_params(params).map(|()| Self::Shares),
            "network" => read_params(params).map(Self::Network),
            "set_price" => read_params(params).map(Self::SetPrice),
            "discover" => read_params(params).map(Self::Discover),
            "quote" => read_params(params).map(Self::Quote),
            "send" => read_params(params).map(Self::Send),
            "ledger" => read_params(params).map(Self::Ledger),
            "fees" => no_params(params).map(|()| Self::Fees),
            "audit" => no_params(params).map(|()| Self::Audit),
            "treasury" => no_params(params).map(|()| Self::Treasury),
            "pay_treasury" => read_params(params).map(Self::PayTreasury),
            "listen" => read_params(params).map(Self::Listen),
            "wallet" => read_params(params).map(Self::Wallet),
            unknown => Err(AdminError::new(
                codes::UNKNOWN_METHOD,
                format!("there is no method `{}`", shortened(unknown)),
                format!("known methods: {}", Self::METHODS.join(", ")),
            )),
        }
    }
}

fn read_params<T: DeserializeOwned>(params: Option<Value>) -> Result<T, AdminError> {
    let params = params.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    serde_json::from_value(params).map_err(|error| AdminError::bad_request(shortened(&error.to_string())))
}

fn no_params(params: Option<Value>) -> Result<(), AdminError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoParams {}
    read_params(params).map(|NoParams {}| ())
}

/// Foreign text is repeated only in part: an answer must not be larger than its cause.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Parameters of `network`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkParams {
    /// Where the last page ended.
    #[serde(default)]
    pub after: Option<Text<NodeId>>,
    /// Most nodes on the page, 1 to 256.
    #[serde(default = "whole_page")]
    pub max_nodes: usize,
}

fn whole_page() -> usize {
    MAX_NETWORK_PAGE
}

/// Parameters of `set_price`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPriceParams {
    /// Millisatoshi per unit (a started KiB of payload).
    pub msat_per_unit: u64,
}

/// Parameters of `discover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscoverParams {
    /// To whom.
    pub destination: Text<NodeId>,
    /// Longest route wanted, 1 to 10 hops.
    #[serde(default = "default_max_hops")]
    pub max_hops: u8,
    /// How long to wait for answers, in ms; at most [`MAX_TIMEOUT`](super::MAX_TIMEOUT).
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Ask the network even if routes are known.
    #[serde(default)]
    pub refresh: bool,
}

/// Parameters of `quote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteParams {
    /// To whom; the cheapest route is quoted.
    pub destination: Text<NodeId>,
    /// How many units (started KiB of payload) are to be carried; at most [`MAX_UNITS`](super::MAX_UNITS).
    pub units: u64,
    /// What is to be carried.
    #[serde(default = "default_class")]
    pub class: TrafficClass,
    /// Longest route wanted, 1 to 10 hops.
    #[serde(default = "default_max_hops")]
    pub max_hops: u8,
    /// How long to wait for routes, and again for quotes, in ms; at most [`MAX_TIMEOUT`](super::MAX_TIMEOUT).
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// Parameters of `send`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendParams {
    /// To whom.
    pub destination: Text<NodeId>,
    /// What, in hexadecimal; at most 256 KiB when decoded.
    pub payload_hex: String,
    /// For which protocol; empty for none, at most 64 bytes.
    #[serde(default)]
    pub protocol: String,
    /// What is carried.
    #[serde(default = "default_class")]
    pub class: TrafficClass,
    /// How long the packet may take, in ms; at most [`MAX_TTL`](super::MAX_TTL).
    #[serde(default = "default_ttl_ms")]
    pub ttl_ms: u64,
    /// Longest route wanted, 1 to 10 hops.
    #[serde(default = "default_max_hops")]
    pub max_hops: u8,
    /// How long to wait for routes, and again for quotes, in ms; at most [`MAX_TIMEOUT`](super::MAX_TIMEOUT).
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// The most that all shares of a purchase may cost, in msat; 0 pays nothing. Left out, auto-pay decides, within the
    /// caps in `[payments]` of the daemon's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_msat: Option<u64>,
    /// The most that Lightning fees may cost per payment, in msat. Left out, `[payments]` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee_msat: Option<u64>,
}

/// Parameters of `listen`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenParams {
    /// Only this protocol (`""`: none); left out, everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

fn default_max_hops() -> u8 {
    u8::try_from(MAX_HOPS).unwrap_or(u8::MAX)
}

fn default_timeout_ms() -> u64 {
    u64::try_from(DISCOVERY_TIMEOUT.as_millis()).unwrap_or(u64::MAX)
}

/// Half a minute crosses ten slow hops; a packet that takes longer is better sent again.
fn default_ttl_ms() -> u64 {
    30_000
}

fn default_class() -> TrafficClass {
    TrafficClass::Paid
}

/// An answer: `{"ok": …}` or `{"error": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    /// It was done.
    Ok(T),
    /// It was not.
    Error(AdminError),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}; {advice}")]
pub struct AdminError {
    /// For programs: a [`DropReason`](mesh_core::drop_reason::DropReason) name or one of [`codes`].
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub advice: String,
    /// The node that refused, when it was another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Text<NodeId>>>,
    /// The payees that are not yet paid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Text<NodeId>>,
}

impl AdminError {
    /// An error of this interface's own; `code` is one of [`codes`].
    pub fn new(code: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            advice: advice.into(),
            by: None,
            missing: Vec::new(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(codes::BAD_REQUEST, message, "correct the parameters")
    }
}

/// What the node knows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The daemon's version.
    pub version: String,
    /// The node's id.
    pub node_id: Text<NodeId>,
    /// Where it listens.
    pub listen_addr: Option<SocketAddr>,
    /// What it carries.
    pub mode: MeshMode,
    /// What it charges per unit, in msat.
    pub price_msat_per_unit: u64,
    /// Why it takes no new sessions just now, as they are refused; empty when it takes them.
    pub refuses_new: Vec<String>,
    /// The Bitcoin network of its invoices.
    pub network: String,
    /// The wallet behind it; `none` when it cannot be paid.
    pub wallet: String,
    /// How long it runs, in whole seconds.
    pub uptime_seconds: u64,
    /// Live links.
    pub peers: usize,
    /// Discovered paths kept.
    pub routes: usize,
    /// Nodes whose announcements hold, this one included.
    pub announced_nodes: usize,
    /// Other nodes to whom a way of at most 10 hops is known, announced or not.
    pub reachable_nodes: usize,
    /// What routing said so far.
    pub routing: RoutingReply,
    /// Sessions through or to it.
    pub sessions: usize,
    /// Sessions of its own.
    pub own_sessions: usize,
    /// What payers hold in accounts at it, in msat.
    pub payers_credit_msat: u64,
    /// What it holds in accounts at others, in msat.
    pub own_credit_msat: u64,
    /// What it earned by shares, in msat.
    pub earned_msat: u64,
    /// What it owes the treasury, in msat.
    pub treasury_owed_msat: u64,
    /// Redeemed payments remembered.
    pub redeemed_payments: usize,
    /// Deliveries that no reader took.
    pub undelivered: u64,
    /// Drops and refusals by reason, only those that happened.
    pub dropped: BTreeMap<String, u64>,
    /// What happened on its links.
    pub links: LinksReply,
}

/// What happened on a node's links since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinksReply {
    /// Connections taken.
    pub accepted: u64,
    /// Connections attempted.
    pub dialled: u64,
    /// Links that came up.
    pub links_up: u64,
    /// Packets received, in frames and bytes.
    pub data_received: (u64, u64),
    /// Packets sent, in frames and bytes.
    pub data_sent: (u64, u64),
    /// Control messages received, in frames and bytes.
    pub control_received: (u64, u64),
    /// Control messages sent, in frames and bytes.
    pub control_sent: (u64, u64),
    /// Packets thrown away because a neighbour was too slow.
    pub data_frames_dropped: u64,
    /// Connections and links that ended, by reason, only those that happened.
    pub closed: BTreeMap<String, u64>,
}

/// The neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersReply {
    /// One for each live link.
    pub peers: Vec<PeerReply>,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReply {
    /// Who it proved to be.
    pub node_id: Text<NodeId>,
    /// Its link's number; never used twice while the daemon runs.
    pub link: u64,
}

/// How much routing said since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingReply {
    /// Updates sent.
    pub updates: u64,
    /// Of them, those repeated because no acknowledgement came.
    pub repeated: u64,
    /// Routes told in them, by plane: cost, hops.
    pub routes_told: [u64; 2],
    /// Announcements handed on.
    pub announcements: u64,
    /// Requests for a seqno, this node's own, by plane.
    pub seqno_requests: [u64; 2],
    /// Seqnos made because others asked.
    pub seqnos_made: u64,
}

/// A page of what nodes announced of themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReply {
    /// Nodes known in all.
    pub total_nodes: usize,
    /// Links known in all: those that both ends announce.
    pub total_links: usize,
    /// Nodes in the order of their ids.
    pub nodes: Vec<NetworkNodeReply>,
    /// `after` of the next page; none after the last.
    pub next: Option<Text<NodeId>>,
}

/// One node as it announced itself, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkNodeReply {
    /// Its id.
    pub node_id: Text<NodeId>,
    /// Hops on the shortest way, 0 for this node; none without a way of at most 10.
    pub hops: Option<u32>,
    /// Metric of the cheapest way.
    pub cost: Option<u32>,
    /// What it charges per unit, in msat.
    pub price_msat: u64,
    /// Its operator, if one signed for it.
    pub operator: Option<Text<NodeId>>,
    /// When its announcement ends, in Unix ms.
    pub expires_unix_ms: u64,
    /// Neighbours of this node over which it can be reached, best first.
    pub over: Vec<Text<NodeId>>,
    /// Its neighbours that announce it too.
    pub neighbours: Vec<Text<NodeId>>,
}

/// Something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneReply {}

/// Routes, cheapest first for each destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesReply {
    /// The routes.
    pub routes: Vec<RouteReply>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReply {
    /// All nodes, this one first, the destination last.
    pub path: Vec<Text<NodeId>>,
    /// The least fee for one unit, in msat, before small slices are rounded up.
    pub msat_per_unit: u64,
    /// What each payee charges per unit, in msat, first router first, destination last.
    pub prices_msat: Vec<u64>,
    /// Until when it is kept, in Unix ms.
    pub expires_unix_ms: u64,
}

/// What a route costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteReply {
    /// All nodes, this one first.
    pub path: Vec<Text<NodeId>>,
    /// What is to be carried.
    pub class: TrafficClass,
    /// Units the purchase pays for.
    pub units: u64,
    /// The sum of all shares when everybody is to be paid, in msat.
    pub total_msat: u64,
    /// Who is to be paid what, first router first, destination last.
    pub payees: Vec<PayeeReply>,
}

/// One payee's quote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayeeReply {
    /// Who is to be paid.
    pub node_id: Text<NodeId>,
    /// What its invoice is for, in msat; 0 when credit suffices.
    pub amount_msat: u64,
    /// The part of it that goes on to the treasury, in msat.
    pub treasury_msat: u64,
    /// What is drawn per unit, in msat.
    pub price_msat: u64,
    /// The invoice (BOLT 11), when something is to be paid.
    pub invoice: Option<String>,
    /// Until when it may be paid, in Unix ms.
    pub pay_by_unix_ms: u64,
    /// Until when it is redeemed, in Unix ms.
    pub redeem_by_unix_ms: u64,
}

/// A packet on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReply {
    /// Its name on the wire.
    pub packet_id: String,
    /// The session it went over.
    pub session: String,
    /// The route, this node first.
    pub path: Vec<Text<NodeId>>,
    /// What the session's purchase was quoted at, in msat; packets that reuse a session cost nothing new.
    pub total_msat: u64,
}

/// From now on deliveries follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenReply {
    /// Always true.
    pub listening: bool,
}

/// A payload that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReply {
    /// Who sent it, if it proved so.
    pub source: Option<Text<NodeId>>,
    /// The session it came in.
    pub session: String,
    /// Its place in the session.
    pub sequence: u64,
    /// Its name on the wire.
    pub packet_id: String,
    /// The protocol it is for; may be empty.
    pub protocol: String,
    /// The payload in hexadecimal.
    pub payload_hex: String,
}
