//! What somebody on this machine wants of the core, and what comes of it.

use std::time::Duration;

use bytes::Bytes;

use crate::announcement::ListedNeighbour;
use crate::chain::{BillId, PaymentMethod, QuotedOutput};
use crate::drop_reason::DropReason;
use crate::event::LinkId;
use crate::fairness::explain::Candidate;
use crate::fairness::report::Report;
use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::message::{Price, RequestId};
use crate::packet::PacketId;
use crate::pause::Pause;
use crate::payment_proof::PaymentProof;
use crate::routing::RoutingCounters;
use crate::routing_policy::{MeshMode, TrafficClass};
use crate::spending::{Caller, SpendingCaps, SpendingRefusal};
use crate::time::UnixMillis;
use crate::treasury::TreasuryState;

/// What somebody on this machine wants.
#[derive(Debug, Clone)]
pub enum Command {
    /// Find routes to a node.
    Discover {
        /// The node.
        destination: NodeId,
        /// Longest route wanted, 1 to 10 hops.
        max_hops: u8,
        /// How long to wait for answers.
        timeout: Duration,
        /// Ask the network even if routes are known.
        refresh: bool,
    },
    /// Get quotes from every payee of a known route.
    Quote {
        /// The route: all nodes from this one to the destination, as [`Command::Discover`] returned it.
        path: Vec<NodeId>,
        /// What is to be carried.
        class: TrafficClass,
        /// Units the slice shall pay for (a unit is a started KiB of payload).
        units: u64,
        /// Where to buy credit.
        buying: Buying,
        /// How it is to be paid. On the chain it is the caller who pays, and shows the proofs when they are as deep as the
        /// payees ask for; this node's wallet pays over Lightning only.
        method: PaymentMethod,
        /// How long to wait for all quotes.
        timeout: Duration,
    },
    /// Open a session over quoted hops.
    Open {
        /// The quotes, as [`Command::Quote`] returned them.
        quotes: RequestId,
        /// Where the money comes from.
        funding: Funding,
        /// Whether to sign as source.
        sign_as_source: bool,
    },
    /// Send one packet over an open session.
    Send {
        /// The session.
        session: SessionId,
        /// The name of the protocol it is for; may be empty.
        protocol_id: String,
        /// The payload, at most 256 KiB.
        payload: Bytes,
        /// How long it may take.
        ttl: Duration,
    },
    /// Send several packets over an open session, in their order, until one is refused.
    SendMany {
        /// The session.
        session: SessionId,
        /// The name of the protocol they are for; may be empty.
        protocol_id: String,
        /// The payloads: at most [`crate::limits::MAX_PACKETS_PER_COMMAND`], together at most 256 KiB.
        payloads: Vec<Bytes>,
        /// How long each may take.
        ttl: Duration,
    },
    /// Forget a session of one's own. Credit at its hops is kept.
    Close {
        /// The session.
        session: SessionId,
    },
    /// How far a session of one's own has got.
    Session {
        /// The session.
        session: SessionId,
    },
    /// What this node knows of itself.
    Status,
    /// The routes this node knows.
    Routes,
    /// What nodes announced of themselves, a page at a time.
    Network {
        /// Where the last page ended.
        after: Option<NodeId>,
        /// Most nodes wanted; at most [`crate::limits::MAX_NETWORK_PAGE`] are given.
        most: usize,
    },
    /// How what this node paid was spread.
    Shares,
    /// Every way to a node that is known, and what it is compared by. Nobody is asked.
    Explain {
        /// The node.
        destination: NodeId,
    },
    /// How this node stands with its treasury.
    Treasury,
    /// Pay the treasury now.
    PayTreasury {
        /// How much, in msat; none is all that is owed, in whole satoshi.
        amount_msat: Option<u64>,
    },
    /// Change what this node charges. Prices it signed before hold until they expire.
    SetPrice {
        /// Millisatoshi per unit.
        msat_per_unit: u64,
    },
    /// Take new sessions, or refuse them, as far as this cause is concerned. What is open goes on; see [`crate::pause`].
    AcceptSessions {
        /// Whether to take them again; other causes may still hold.
        accept: bool,
        /// The cause.
        because: Pause,
    },
    /// Write down what only leases cover. Answered when it is durable; nothing else changes.
    Flush,
    /// Ask the chain source at once whether what was paid on the chain still stands, instead of at the next round. At most
    /// every [`crate::limits::CHAIN_RECHECK_EVERY`]; what is asked sooner is done then.
    RecheckChain,
    /// Change what this node may pay by itself. What was paid or set aside counts under the new caps as well.
    SetSpendingCaps {
        /// The caps.
        caps: SpendingCaps,
    },
}

/// Where a quote asks to buy credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buying {
    /// Where the known credit does not cover the units.
    WhereNeeded,
    /// At every payee.
    Everywhere,
    /// Nowhere: spend what is there.
    Nowhere,
}

/// Where the money for a session comes from.
#[derive(Debug, Clone)]
pub enum Funding {
    /// This node's wallet pays, within these limits, everybody for whom the caller shows no proof.
    Wallet {
        /// What the caller paid by himself, each proof for its payee.
        proofs: Vec<(NodeId, PaymentProof)>,
        /// The most that all shares together may cost, in msat.
        max_total_msat: u64,
        /// The most that Lightning fees may cost per payment, in msat.
        max_fee_msat: u64,
        /// Whether to buy the next slice, within the same limits each, before the one before runs out, as long as
        /// packets are sent and their receipts come.
        keep_funded: bool,
    },
    /// This node's wallet pays for a caller, within the operator's caps ([`crate::spending`]), everybody for whom the caller
    /// shows no proof.
    AutoPay {
        /// What the caller paid by himself, each proof for its payee.
        proofs: Vec<(NodeId, PaymentProof)>,
        /// Who he is, as the host authenticated him.
        caller: Caller,
        /// Units of the packet that is to be sent first.
        packet_units: u64,
        /// The caller's own limit: the most that all payments together may cost, Lightning fees included, in msat.
        most_msat: u64,
        /// The caller's own limit on Lightning fees per payment, in msat.
        max_fee_msat: u64,
        /// Whether to buy the next slice, within the caps, before the one before runs out, as with [`Funding::Wallet`].
        keep_funded: bool,
    },
    /// The caller paid and shows the proofs, each for its payee.
    Proofs(Vec<(NodeId, PaymentProof)>),
}

/// What came of a command.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Routes, cheapest first, where a router of a silent session counts as dearer; at least one.
    Routes(Vec<RouteInfo>),
    /// All quotes of a route.
    Quoted(Box<QuotedSlice>),
    /// The session is open.
    Opened(Box<OpenedSession>),
    /// The packet is on its way.
    Sent {
        /// Its name on the wire.
        packet_id: PacketId,
        /// Its place in the session.
        sequence: u64,
    },
    /// The packets are on their way, at least the first ones.
    SentMany {
        /// Their names on the wire, in order.
        packet_ids: Vec<PacketId>,
        /// Why the next one was refused; none when all are on their way.
        refused: Option<DropReason>,
    },
    /// Done.
    Done,
    /// How far a session of one's own has got.
    Session(Box<SessionState>),
    /// What this node knows of itself.
    Status(Box<Status>),
    /// How what this node paid was spread.
    Shares(Box<Report>),
    /// Every way to a node, best first; empty when none is known.
    Explained(Vec<Candidate>),
    /// How this node stands with its treasury.
    Treasury(Box<TreasuryState>),
    /// The treasury was paid.
    TreasuryPaid {
        /// How much, in msat.
        amount_msat: u64,
        /// What it cost on the way, in msat.
        fee_msat: u64,
    },
    /// What nodes announced of themselves.
    Network(Box<NetworkPage>),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", told(.reason, .limit), .by.map(|node| format!(" (said node {})", node.short())).unwrap_or_default())]
pub struct Refusal {
    /// Why.
    pub reason: DropReason,
    /// Which node refused; none when it was this one.
    pub by: Option<NodeId>,
    /// The payees that are not yet paid.
    pub missing: Vec<NodeId>,
    /// Payees that this node's wallet paid before it came to that, with the amount and the Lightning fee, in msat: credit
    /// there, which the next session over them uses.
    pub paid: Vec<(NodeId, u64, u64)>,
    /// Which of the operator's caps was reached, where it was one.
    pub limit: Option<SpendingRefusal>,
    /// What was too dear: the caller may pay its invoices by himself and open it with the proofs.
    pub quote: Option<Box<QuotedSlice>>,
}

fn told(reason: &DropReason, limit: &Option<SpendingRefusal>) -> String {
    match limit {
        Some(limit) => format!("{}: {limit}", reason.as_str()),
        None => reason.to_string(),
    }
}

impl Refusal {
    /// A refusal by this node.
    pub fn own(reason: DropReason) -> Box<Self> {
        Box::new(Self {
            reason,
            by: None,
            missing: Vec::new(),
            paid: Vec::new(),
            limit: None,
            quote: None,
        })
    }

    /// A refusal by another node.
    pub fn by(reason: DropReason, node: NodeId) -> Box<Self> {
        Box::new(Self {
            reason,
            by: Some(node),
            missing: Vec::new(),
            paid: Vec::new(),
            limit: None,
            quote: None,
        })
    }
}

/// A route as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// All nodes, this one first, the destination last.
    pub path: Vec<NodeId>,
    /// What each payee charges per unit, first router first.
    pub prices: Vec<Price>,
    /// The least fee for one unit over this route, in msat, before the rounding of small slices.
    pub msat_per_unit: u64,
    /// Until when it is kept.
    pub expires: UnixMillis,
}

/// The quotes of all payees for one slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotedSlice {
    /// Names them in [`Command::Open`].
    pub id: RequestId,
    /// All nodes, this one first.
    pub path: Vec<NodeId>,
    /// What is to be carried.
    pub class: TrafficClass,
    /// Units the slice pays for.
    pub units: u64,
    /// How it is to be paid.
    pub method: PaymentMethod,
    /// The fee, in msat: the sum of all shares when everybody is to be paid.
    pub total_msat: u64,
    /// The payees, first router first, destination last.
    pub payees: Vec<QuotedPayee>,
}

/// One payee's quote as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotedPayee {
    /// Who is to be paid.
    pub payee: NodeId,
    /// What is to be paid, in msat; 0 when nothing is bought.
    pub amount_msat: u64,
    /// The part of it that the payee passes on to the treasury, in msat.
    pub treasury_msat: u64,
    /// What the session draws per unit, in msat.
    pub price_msat: u64,
    /// The invoice to pay; none when nothing is bought, or it is paid on the chain.
    pub invoice: Option<String>,
    /// The output to pay, and the name of the bill to show with it; none when nothing is bought, or it is paid over
    /// Lightning.
    pub output: Option<(BillId, QuotedOutput)>,
    /// Until when it may be paid.
    pub pay_by: UnixMillis,
    /// Until when it is redeemed.
    pub redeem_by: UnixMillis,
}

/// A session that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedSession {
    /// Names it in [`Command::Send`].
    pub session: SessionId,
    /// All nodes, this one first.
    pub path: Vec<NodeId>,
    /// What was paid by this node's wallet, with the Lightning fee, each in msat.
    pub paid: Vec<(NodeId, u64, u64)>,
    /// When it ends.
    pub expires: UnixMillis,
}

/// How far a session of one's own has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// All nodes, this one first.
    pub path: Vec<NodeId>,
    /// When it ends.
    pub expires: UnixMillis,
    /// What can still be sent, in units: as many as the credit at every payee covers, which other sessions over the same
    /// payees draw too, and within what auto-pay counted the session for. [`u64::MAX`] when nobody is paid.
    pub units_left: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets of these that the destination's newest receipt covers.
    pub receipted_packets: u64,
    /// Payload bytes that it covers.
    pub receipted_bytes: u64,
}

/// A page of what nodes announced of themselves. Each signed it; that it is true, nobody says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPage {
    /// Nodes known in all.
    pub total_nodes: usize,
    /// Links known in all: those that both ends announce.
    pub total_links: usize,
    /// Nodes in the order of their ids.
    pub nodes: Vec<NetworkNode>,
    /// Where the next page begins; none after the last.
    pub next: Option<NodeId>,
}

/// A node of the network as it announced itself, and how far it is from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkNode {
    /// Its id.
    pub id: NodeId,
    /// What it charges.
    pub price: Price,
    /// Its operator, if one signed for it.
    pub operator: Option<NodeId>,
    /// When its announcement ends.
    pub expires: UnixMillis,
    /// Its neighbours that announce it too, with its own cost of the link.
    pub neighbours: Vec<ListedNeighbour>,
    /// Hops on the shortest way; none without a way of at most 10, 0 for this node.
    pub hops: Option<u32>,
    /// Metric of the cheapest way.
    pub cost: Option<u32>,
    /// Neighbours of this node over which it can be reached, best first; at most four.
    pub over: Vec<NodeId>,
}

/// What this node knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub node_id: NodeId,
    /// What it carries.
    pub mode: MeshMode,
    /// What it charges per unit, in msat.
    pub price_msat_per_unit: u64,
    /// Why it takes nothing new just now; empty when it does.
    pub pauses: Vec<Pause>,
    /// Live links with the neighbour on each.
    pub neighbours: Vec<(LinkId, NodeId)>,
    /// Discovered paths kept.
    pub routes: usize,
    /// Nodes whose announcements hold, this one included.
    pub announced_nodes: usize,
    /// Other nodes to whom a way of at most 10 hops is known: by routing, or as a discovered path.
    pub reachable_nodes: usize,
    /// What routing said so far.
    pub routing: RoutingCounters,
    /// Sessions through or to this node.
    pub sessions: usize,
    /// Sessions of this node's own.
    pub own_sessions: usize,
    /// What payers hold in accounts at this node, in msat.
    pub payers_credit_msat: u64,
    /// What this node holds in accounts at others, in msat.
    pub own_credit_msat: u64,
    /// What this node earned by shares, in msat.
    pub earned_msat: u64,
    /// What this node owes the treasury, in msat.
    pub treasury_owed_msat: u64,
    /// Redeemed payments remembered.
    pub redeemed: usize,
    /// Drops and refusals by reason, only those that happened.
    pub dropped: Vec<(DropReason, u64)>,
}
