//! The state machine of one mesh node.
//!
//! # Contract
//!
//! Feed one [`Input`] with the moment it happened ([`Core::handle`]), drain all [`Output`]s ([`Core::poll_output`]), feed
//! the next. The core never blocks, waits, reads a clock, touches a file or a socket, or makes up randomness: given the
//! same configuration, seed and inputs it makes the same outputs, byte for byte.
//!
//! Outputs are obeyed in their order (but see [`Output`] for packets). What stands before an [`Output::Persist`] may
//! become visible at any time; what stands after it only when the record is durable: a hop that forwarded an open
//! before it wrote the redemption down could be killed in between and honour the same payment twice. The records that
//! follow from one input become durable together or not at all: a credit without the redemption that it came from
//! would be given twice.
//!
//! Every question to the wallet is answered exactly once, every command gets exactly one answer. When nothing happens,
//! feed [`Input::Timeout`] at [`Core::next_timeout`].
//!
//! # One packet's way
//!
//! Header checked once → session (index, neighbours, class fixed when it opened) → window, read only → this hop's tag →
//! credit drawn and window marked together → next link, or opened and delivered. See `relay.rs`.

mod answers;
mod auto_pay;
mod books;
mod breaks;
mod candidates;
mod chain;
mod chain_watch;
mod chart;
mod closing;
mod commands;
mod discover;
mod fair;
mod open_session;
mod pay;
mod payee;
mod purchase;
mod quoting;
mod relay;
mod route;
mod silence;
mod timers;
mod top_up;
mod treasury;
mod under_way;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::account::Accounts;
use crate::announcement::OperatorCertificate;
use crate::discovery::RouteDiscovery;
use crate::drop_reason::DropReason;
use crate::entropy::Entropy;
use crate::event::{
    Answer, Channel, CommandId, Event, Input, LinkId, Output, Refusal, Ticket, WalletQuestion,
};
use crate::identity::{Identity, NodeId, SignatureVerifier};
use crate::keys::{DhSecret, SessionId};
use crate::limits::{HOUSEKEEPING_INTERVAL, MAX_ACCOUNTS};
use crate::losses::Losses;
use crate::message::{ControlMessage, Price, RequestId};
use crate::neighbours::{Neighbour, Neighbours};
use crate::packet::{FrameKind, Preamble};
use crate::pause::Pauses;
use crate::payer::{Payer, account_key};
use crate::quotes::QuoteBook;
use crate::relays::Relays;
use crate::replay::ReplayPrevention;
use crate::routing::RoutingTable;
use crate::routing::blame::Blame;
use crate::routing::delay::Delays;
use crate::routing::snapshot::{RouteSnapshot, SnapshotWriter};
use crate::routing_policy::{MeshMode, RoutingPolicyEngine};
use crate::session::Sessions;
use crate::spending::{Spending, SpendingCaps};
use crate::time::{Instant, Now, UnixMillis};
use crate::verifier::{BitcoinNetwork, PaymentVerifier};

/// What distinguishes one node from another.
pub struct CoreConfig {
    /// What this node carries.
    pub mode: MeshMode,
    /// What it charges per unit (a started KiB of payload), in msat; 0 carries for free.
    pub price_msat_per_unit: u64,
    /// The network of its wallet.
    pub network: BitcoinNetwork,
    /// Where its wallet receives; none when it cannot be paid.
    pub lightning_key: Option<[u8; 33]>,
    /// Its operator's key, if it names one.
    pub operator: Option<NodeId>,
    /// Whether and how it announces itself.
    pub announcing: Announcing,
    /// How long it keeps a discovered route at the most; prices are signed for an hour, so a longer time changes nothing.
    pub route_lifetime: Duration,
    /// Free bytes that each neighbour may send per second; 0 refuses all free packets.
    pub free_bytes_per_second: u64,
    /// What it may pay by itself for callers on this machine.
    pub spending: SpendingCaps,
    /// The secret that this node's account keys at payees derive from. It outlives restarts: credit is bound to it.
    pub account_secret: [u8; 32],
    /// Fresh secret randomness, different at every start.
    pub seed: [u8; 32],
}

/// What a node says of itself beside its price and its neighbours.
#[derive(Debug, Clone)]
pub struct Announcing {
    /// Whether it announces itself at all: a node that does not is found by flooding only, and carries all the same.
    pub enabled: bool,
    /// Where it can be dialled, as `host:port`: at most [`crate::limits::MAX_ANNOUNCED_ADDRESSES`].
    pub addresses: Vec<String>,
    /// Its operator's word that the node is his.
    pub certificate: Option<OperatorCertificate>,
    /// From when on announcements no longer show it; none when it has no end.
    pub certificate_until: Option<UnixMillis>,
}

impl Default for Announcing {
    fn default() -> Self {
        Self {
            enabled: true,
            addresses: Vec::new(),
            certificate: None,
            certificate_until: None,
        }
    }
}

/// Pause between two bounded parts of forgetting old redemptions: packets go first, and a million are forgotten within
/// seconds.
const FORGET_ON_AFTER: Duration = Duration::from_millis(5);

/// Everything that waits for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Housekeeping,
    ForgetRedeemed,
    SessionEnds(SessionId),
    SessionIdle(SessionId),
    ReceiptDue(SessionId),
    DiscoveryRetry(CommandId),
    DiscoveryGathered(CommandId),
    DiscoveryEnds(CommandId),
    QuoteRetry(RequestId),
    QuoteEnds(RequestId),
    QuoteSetExpires(RequestId),
    OpenRetry(SessionId),
    TopUp(SessionId),
    OpenEnds(SessionId),
    OwnSessionEnds(SessionId),
    OwnSessionIdle(SessionId),
    OwnSessionGone(SessionId),
    ReceiptOverdue(SessionId),
    TellOfBreak(Neighbour),
    WatchChain,
    RecheckChain,
    LookUpPayments,
    LookUpTreasury,
    Announce,
}

/// Why a question was put to the wallet.
enum Asked {
    InvoiceFor(Box<quoting::PendingQuote>),
    ProofOf(SessionId),
    Probe { quotes: RequestId, place: usize },
    Payment { quotes: RequestId, place: usize },
    LookUp([u8; 32]),
    SettlementOf([u8; 32]),
    TreasuryBill,
    TreasuryPayment([u8; 32]),
}

/// One mesh node, without hands.
pub struct Core {
    identity: Identity,
    mode: MeshMode,
    price: Price,
    operator: Option<NodeId>,
    account_secret: [u8; 32],
    policy: RoutingPolicyEngine,
    pauses: Pauses,
    verifier: PaymentVerifier,
    signatures: Arc<dyn SignatureVerifier + Send + Sync>,
    entropy: Entropy,

    neighbours: Neighbours,
    sessions: Sessions,
    telling: BTreeMap<Neighbour, breaks::Telling>,
    accounts: Accounts,
    quotes: QuoteBook,
    replay: ReplayPrevention,
    pending_opens: BTreeMap<SessionId, payee::PendingOpen>,
    quote_relays: Relays<RequestId, quoting::QuoteRelay>,
    earned_msat: u64,
    treasury_owed_msat: u64,
    chain: chain::ChainDesk,
    treasury: treasury::Treasury,

    routes: RoutingTable,
    announcer: route::Announcer,
    snapshot: SnapshotWriter,
    blame: Blame,
    delays: Delays,
    fair: fair::FairDesk,
    discovery: RouteDiscovery,
    payer: Payer,
    losses: Losses,
    spending: Spending,

    /// Commands that the core gave itself to buy the next slice of a session, and what came of them.
    topping_up: BTreeMap<CommandId, SessionId>,
    topped_up: VecDeque<(SessionId, Result<Answer, Box<Refusal>>)>,
    own_commands: u64,

    asked: BTreeMap<Ticket, Asked>,
    next_ticket: u64,
    timers: BTreeSet<(Instant, Timer)>,
    outputs: VecDeque<Output>,
    /// Records put out so far.
    records: u64,
    dropped: BTreeMap<DropReason, u64>,
}

impl Core {
    /// A node that remembers nothing.
    pub fn new(
        config: CoreConfig,
        identity: Identity,
        signatures: Arc<dyn SignatureVerifier + Send + Sync>,
        now: Now,
    ) -> Self {
        let mut entropy = Entropy::new(config.seed);
        let me = identity.node_id();
        let payable = config.lightning_key.is_some();
        let price_msat = if config.mode == MeshMode::PaymentGated {
            config.price_msat_per_unit
        } else {
            0
        };
        let mut core = Self {
            identity,
            mode: config.mode,
            price: Price {
                msat_per_unit: price_msat,
                payable,
            },
            operator: config.operator,
            account_secret: config.account_secret,
            policy: RoutingPolicyEngine::new(config.mode),
            pauses: Pauses::default(),
            verifier: PaymentVerifier::new(config.network, config.lightning_key),
            signatures,
            neighbours: Neighbours::new(entropy.u64(), config.free_bytes_per_second),
            sessions: Sessions::new(entropy.u64()),
            telling: BTreeMap::new(),
            accounts: Accounts::new(entropy.u64()),
            quotes: QuoteBook::default(),
            replay: ReplayPrevention::new(&entropy.bytes32(), MAX_ACCOUNTS),
            pending_opens: BTreeMap::new(),
            quote_relays: Relays::default(),
            earned_msat: 0,
            treasury_owed_msat: 0,
            chain: chain::ChainDesk::default(),
            treasury: treasury::Treasury::default(),
            routes: RoutingTable::new(me, entropy.u64(), config.route_lifetime),
            announcer: route::Announcer::new(config.announcing),
            snapshot: SnapshotWriter::new(entropy.u64()),
            blame: Blame::default(),
            delays: Delays::default(),
            fair: fair::FairDesk::new(&config.account_secret),
            discovery: RouteDiscovery::default(),
            payer: Payer::default(),
            losses: Losses::default(),
            spending: Spending::new(config.spending),
            topping_up: BTreeMap::new(),
            topped_up: VecDeque::new(),
            own_commands: 0,
            asked: BTreeMap::new(),
            next_ticket: 0,
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            records: 0,
            dropped: BTreeMap::new(),
            entropy,
        };
        core.set_timer(now.instant + HOUSEKEEPING_INTERVAL, Timer::Housekeeping);
        core.set_timer(now.instant, Timer::Announce);
        core
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// Takes one input. Drain the outputs before the next.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Frame { link, frame } => self.on_frame(now, link, frame),
            Input::Message { link, message } => self.on_message(now, link, *message),
            Input::Command { id, command } => self.on_command(now, id, command),
            Input::Wallet { ticket, answer } => self.on_wallet(now, ticket, answer),
            Input::Chain { ticket, answer } => self.on_chain(now, ticket, answer),
            Input::Timeout => self.on_timeout(now),
            Input::Durable { records } => self.accounts.confirm(records),
            Input::Rejected { link, reason } => self.drop_from(link, reason),
            Input::LinkUp { link, peer } => match self.neighbours.link_up(link, peer, now.instant) {
                Ok(_) => self.route_over(now, link, peer),
                Err(reason) => self.drop_from(link, reason),
            },
            Input::Reached { link, address } => self.note_reached(link, address),
            Input::LinkDown { link } => {
                self.forget_unannounced(link);
                self.on_link_down(now, link);
                self.route_no_more_over(now, link);
            }
        }
        while let Some((session, outcome)) = self.topped_up.pop_front() {
            self.top_up_step(now, session, outcome);
        }
    }

    /// The next thing to do; `None` when everything that followed from the last input is out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to feed [`Input::Timeout`] if nothing else happens.
    pub fn next_timeout(&self) -> Option<Instant> {
        let own = self.timers.first().map(|(at, _)| *at);
        own.into_iter().chain(self.routes.vector.next_timeout()).min()
    }

    /// What this node knows of the ways through the mesh.
    pub fn routing(&self) -> &RoutingTable {
        &self.routes
    }

    /// Destinations of which something was heard, or whose route changed, since this or [`Core::publish_routes`] was last
    /// asked.
    pub fn take_changed_destinations(&mut self) -> Vec<NodeId> {
        self.routes.vector.take_changed()
    }

    /// Whether [`Core::publish_routes`] has something to say.
    pub fn routes_changed(&self) -> bool {
        self.routes.vector.has_changed() || self.snapshot.is_dirty()
    }

    /// The routes as readers are to see them from now on; none if nothing changed since this was last asked.
    pub fn publish_routes(&mut self) -> Option<RouteSnapshot> {
        self.copy_changed_routes();
        self.snapshot.is_dirty().then(|| self.snapshot.publish())
    }

    /// See [`crate::routing::DistanceVector::without_feasibility`].
    #[doc(hidden)]
    pub fn without_feasibility(&mut self) {
        self.routes.vector.without_feasibility();
    }

    fn on_frame(&mut self, now: Now, link: LinkId, frame: Bytes) {
        let outcome = match Preamble::parse(&frame) {
            Ok(preamble) => match preamble.kind {
                FrameKind::Data => self.on_data(now, link, frame),
                FrameKind::Back => self.on_back(now, link, frame),
                FrameKind::HopError => self.on_hop_error(now, link, frame),
                FrameKind::Open => self.on_open(now, link, frame),
                FrameKind::Control => Err(DropReason::UnknownKind),
            },
            Err(reason) => Err(reason),
        };
        if let Err(reason) = outcome {
            self.drop_from(link, reason);
        }
    }

    fn on_message(&mut self, now: Now, link: LinkId, message: crate::check::Checked) {
        let outcome = self.charge_control(now, link).and_then(|from| {
            let (message, invoice) = message.into_parts();
            match message {
                ControlMessage::DiscoveryRequest(request) => self.on_discovery_request(now, from, request),
                ControlMessage::DiscoveryResponse(certificate) => {
                    self.on_discovery_response(now, from, certificate)
                }
                ControlMessage::QuoteRequest(request) => self.on_quote_request(now, from, *request),
                ControlMessage::QuoteResponse(response) => {
                    self.on_quote_response(now, from, response, invoice)
                }
                ControlMessage::RoutingUpdate(update) => {
                    self.on_routing_update(now, link, *update);
                    Ok(())
                }
                ControlMessage::RoutingAck { number } => {
                    self.on_routing_ack(now, link, number);
                    Ok(())
                }
                ControlMessage::SeqnoRequest(request) => self.on_seqno_request(now, link, request),
                ControlMessage::Refused => Ok(()),
            }
        });
        if let Err(reason) = outcome {
            self.drop_from(link, reason);
        }
    }
}

/// The small tools that every part of the core uses.
impl Core {
    fn transmit(&mut self, link: LinkId, channel: Channel, frame: Bytes) {
        self.outputs.push_back(Output::Transmit { link, channel, frame });
    }

    fn send_message(&mut self, to: &NodeId, message: &ControlMessage) -> Result<(), DropReason> {
        let link = self.neighbours.link_to(to).ok_or(DropReason::NextHopGone)?;
        let frame = message.encode()?;
        self.transmit(link, Channel::Control, frame);
        Ok(())
    }

    fn answer(&mut self, id: CommandId, answer: Result<Answer, Box<Refusal>>) {
        if let Err(refusal) = &answer {
            self.drop_own(refusal.reason);
        }
        if let Some(session) = self.topping_up.remove(&id) {
            return self.topped_up.push_back((session, answer));
        }
        self.outputs.push_back(Output::Answer { id, answer });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(Box::new(event)));
    }

    fn drop_from(&mut self, link: LinkId, reason: DropReason) {
        self.count(reason);
        self.outputs.push_back(Output::Dropped {
            reason,
            link: Some(link),
        });
    }

    fn drop_own(&mut self, reason: DropReason) {
        self.count(reason);
        self.outputs.push_back(Output::Dropped { reason, link: None });
    }

    fn count(&mut self, reason: DropReason) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, timer));
    }

    fn ask_wallet(&mut self, asked: Asked, question: WalletQuestion) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.asked.insert(ticket, asked);
        self.outputs.push_back(Output::AskWallet { ticket, question });
    }

    fn charge_control(&mut self, now: Now, link: LinkId) -> Result<Neighbour, DropReason> {
        let neighbour = self.neighbours.on_link(link).ok_or(DropReason::Unsolicited)?;
        let state = self
            .neighbours
            .get_mut(neighbour)
            .ok_or(DropReason::Unsolicited)?;
        if state.control.take(1, now.instant) {
            Ok(neighbour)
        } else {
            Err(DropReason::RateLimited)
        }
    }

    fn id_of(&self, neighbour: Neighbour) -> Result<NodeId, DropReason> {
        self.neighbours
            .get(neighbour)
            .map(|state| state.id)
            .ok_or(DropReason::Unsolicited)
    }

    fn account_key(&self, payee: &NodeId) -> Result<DhSecret, DropReason> {
        account_key(&self.account_secret, payee)
    }
}
