//! One Lightning node of the devnet: LDK's own parts, put together.
//!
//! Nothing here is a stand-in but the chain: channel manager, chain monitor, gossip, router, scorer and the Noise
//! transport are the ones that real LDK nodes run. State is kept in memory only.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lightning::bitcoin::Network;
use lightning::bitcoin::secp256k1::PublicKey;
use lightning::chain::chaininterface::{ConfirmationTarget, FeeEstimator};
use lightning::chain::chainmonitor::{self, Persist};
use lightning::chain::channelmonitor::{ChannelMonitor, ChannelMonitorUpdate};
use lightning::chain::{ChannelMonitorUpdateStatus, Filter, Listen};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{self, ChainParameters};
use lightning::ln::peer_handler::{self, IgnoringMessageHandler, MessageHandler};
use lightning::onion_message::messenger::NullMessageRouter;
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use lightning::sign::{EntropySource, InMemorySigner, KeysManager, NodeSigner};
use lightning::util::config::{MaxDustHTLCExposure, UserConfig};
use lightning::util::logger::{Level, Logger, Record};
use lightning::util::persist::MonitorName;
use lightning_net_tokio::SocketDescriptor;
use tokio::sync::watch;

use super::DevnetOptions;
use super::book::{InvoiceBook, MAX_RECORDS, PaymentBook};
use super::chain::SimChain;

/// The only feerate of the simulated chain, in sat per 1,000 weight units: the least that LDK accepts.
const FEERATE: u32 = 253;

/// Payments in flight at once per channel and direction: the most BOLT 2 allows, so that load tests meet the speed
/// of the machine and not a default.
const MAX_HTLCS: u16 = 483;

/// How much a channel may hold in payments too small for an output on chain, in msat: 10 bitcoin, more than any
/// channel here. On a real chain such payments are lost when a channel is closed by force, hence real nodes allow
/// little; here micropayments are the whole point and nobody closes by force.
const DUST_EXPOSURE_MSAT: u64 = 10 * 100_000_000 * 1_000;

/// Blocks until a funding transaction counts.
pub(super) const FUNDING_DEPTH: u32 = 1;

type Graph = NetworkGraph<Arc<LightningLog>>;
type Gossip = P2PGossipSync<Arc<Graph>, Arc<SimChain>, Arc<LightningLog>>;
type Scorer = ProbabilisticScorer<Arc<Graph>, Arc<LightningLog>>;
pub(super) type Router = DefaultRouter<
    Arc<Graph>,
    Arc<LightningLog>,
    Arc<KeysManager>,
    Arc<RwLock<Scorer>>,
    ProbabilisticScoringFeeParameters,
    Scorer,
>;
type ChainMonitor = chainmonitor::ChainMonitor<
    InMemorySigner,
    Arc<dyn Filter + Send + Sync>,
    Arc<SimChain>,
    Arc<FlatFees>,
    Arc<LightningLog>,
    Arc<NoDisk>,
    Arc<KeysManager>,
>;
type ChannelManager = channelmanager::ChannelManager<
    Arc<ChainMonitor>,
    Arc<SimChain>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<FlatFees>,
    Arc<Router>,
    Arc<NullMessageRouter>,
    Arc<LightningLog>,
>;
type PeerManager = peer_handler::PeerManager<
    SocketDescriptor,
    Arc<ChannelManager>,
    Arc<Gossip>,
    Arc<IgnoringMessageHandler>,
    Arc<LightningLog>,
    Arc<IgnoringMessageHandler>,
    Arc<KeysManager>,
    Arc<ChainMonitor>,
>;

/// One Lightning node with its wallet's books.
pub(super) struct LightningNode {
    pub(super) name: String,
    pub(super) id: PublicKey,
    pub(super) chain: Arc<SimChain>,
    pub(super) manager: Arc<ChannelManager>,
    pub(super) chain_monitor: Arc<ChainMonitor>,
    pub(super) peers: Arc<PeerManager>,
    pub(super) graph: Arc<Graph>,
    pub(super) router: Arc<Router>,
    pub(super) scorer: Arc<RwLock<Scorer>>,
    invoices: Mutex<InvoiceBook>,
    payments: Mutex<PaymentBook>,
    /// Changes whenever something has happened at any node of the devnet.
    pub(super) news: watch::Sender<()>,
}

impl LightningNode {
    pub(super) fn new(
        name: String,
        seed: [u8; 32],
        options: &DevnetOptions,
        chain: &Arc<SimChain>,
        news: watch::Sender<()>,
    ) -> Self {
        let now = unix_now();
        let log = Arc::new(LightningLog { node: name.clone() });
        let fees = Arc::new(FlatFees);
        let keys = Arc::new(KeysManager::new(&seed, now.as_secs(), now.subsec_nanos(), true));
        let graph = Arc::new(NetworkGraph::new(Network::Regtest, Arc::clone(&log)));
        let gossip = Arc::new(P2PGossipSync::new(
            Arc::clone(&graph),
            Some(Arc::clone(chain)),
            Arc::clone(&log),
        ));
        let scorer = Arc::new(RwLock::new(ProbabilisticScorer::new(
            ProbabilisticScoringDecayParameters::default(),
            Arc::clone(&graph),
            Arc::clone(&log),
        )));
        let router = Arc::new(DefaultRouter::new(
            Arc::clone(&graph),
            Arc::clone(&log),
            Arc::clone(&keys),
            Arc::clone(&scorer),
            ProbabilisticScoringFeeParameters::default(),
        ));
        let chain_monitor = Arc::new(ChainMonitor::new(
            None,
            Arc::clone(chain),
            Arc::clone(&log),
            Arc::clone(&fees),
            Arc::new(NoDisk { news: news.clone() }),
            Arc::clone(&keys),
            keys.get_peer_storage_key(),
        ));
        let block_time = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let manager = Arc::new(ChannelManager::new(
            fees,
            Arc::clone(&chain_monitor),
            Arc::clone(chain),
            Arc::clone(&router),
            Arc::new(NullMessageRouter {}),
            Arc::clone(&log),
            Arc::clone(&keys),
            Arc::clone(&keys),
            Arc::clone(&keys),
            channel_rules(options),
            ChainParameters {
                network: Network::Regtest,
                best_block: chain.tip(),
            },
            block_time,
        ));
        let handlers = MessageHandler {
            chan_handler: Arc::clone(&manager),
            route_handler: gossip,
            onion_message_handler: Arc::new(IgnoringMessageHandler {}),
            custom_message_handler: Arc::new(IgnoringMessageHandler {}),
            send_only_message_handler: Arc::clone(&chain_monitor),
        };
        let peers = PeerManager::new(handlers, block_time, &keys.get_secure_random_bytes(), log, keys);
        Self {
            name,
            id: manager.get_our_node_id(),
            chain: Arc::clone(chain),
            manager,
            chain_monitor,
            peers: Arc::new(peers),
            graph,
            router,
            scorer,
            invoices: Mutex::new(InvoiceBook::new(MAX_RECORDS)),
            payments: Mutex::new(PaymentBook::new(MAX_RECORDS)),
            news,
        }
    }

    /// Feeds one block to everything that watches the chain.
    pub(super) fn connect_block(&self, block: &lightning::bitcoin::Block, height: u32) {
        self.chain_monitor.block_connected(block, height);
        self.manager.block_connected(block, height);
    }

    pub(super) fn invoices(&self) -> MutexGuard<'_, InvoiceBook> {
        // No code panics while holding a book, so a poisoned lock cannot hide half an entry.
        self.invoices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn payments(&self) -> MutexGuard<'_, PaymentBook> {
        self.payments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of how many directions of these channels (by short id) its graph holds the terms, which is what the router
    /// needs to use them: 2 for a channel that is fully known.
    pub(super) fn heard_of(&self, channels: &BTreeSet<u64>) -> usize {
        let graph = self.graph.read_only();
        channels
            .iter()
            .filter_map(|id| graph.channel(*id))
            .map(|channel| {
                usize::from(channel.one_to_two.is_some()) + usize::from(channel.two_to_one.is_some())
            })
            .sum()
    }

    /// Whether no payment is under way in any of its channels, in either direction.
    pub(super) fn is_quiet(&self) -> bool {
        self.manager.list_channels().iter().all(|channel| {
            channel.pending_inbound_htlcs.is_empty() && channel.pending_outbound_htlcs.is_empty()
        })
    }
}

impl fmt::Debug for LightningNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LightningNode")
            .field("name", &self.name)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a node owns in one channel, in msat, read from the channel and exact when nothing is in flight there.
///
/// LDK tells what can be *sent*: the balance less the reserve that the peer demands, never below zero. Adding the
/// reserve back gives the balance, unless it had been cut off at zero (a side that began with nothing may hold less
/// than its reserve); then the same is read from the other side: what the peer owns is what he can send us plus the
/// reserve we demand, and the rest of the channel is ours. Commitment fees are not subtracted by LDK here, and there
/// are no anchor outputs (see [`channel_rules`]), so nothing else stands between capacity and balance.
pub(super) fn owned_msat(channel: &ChannelDetails) -> u64 {
    let our_reserve = sat_to_msat(channel.unspendable_punishment_reserve.unwrap_or(0));
    if channel.outbound_capacity_msat > 0 {
        return channel.outbound_capacity_msat.saturating_add(our_reserve);
    }
    let in_flight: u64 = channel
        .pending_inbound_htlcs
        .iter()
        .map(|htlc| htlc.amount_msat)
        .sum::<u64>()
        + channel
            .pending_outbound_htlcs
            .iter()
            .map(|htlc| htlc.amount_msat)
            .sum::<u64>();
    let theirs = channel
        .inbound_capacity_msat
        .saturating_add(sat_to_msat(channel.counterparty.unspendable_punishment_reserve));
    sat_to_msat(channel.channel_value_satoshis)
        .saturating_sub(theirs)
        .saturating_sub(in_flight)
}

pub(super) const fn sat_to_msat(sat: u64) -> u64 {
    sat.saturating_mul(1_000)
}

/// The time of day. Before 1970 it is 1970.
pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Announced channels in which any amount from 1 msat may travel, at the devnet's routing fees.
fn channel_rules(options: &DevnetOptions) -> UserConfig {
    let mut rules = UserConfig::default();
    let handshake = &mut rules.channel_handshake_config;
    handshake.minimum_depth = FUNDING_DEPTH;
    handshake.announce_for_forwarding = true;
    handshake.our_htlc_minimum_msat = 1;
    handshake.our_max_accepted_htlcs = MAX_HTLCS;
    handshake.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
    // Anchors would need an on-chain wallet to bump fees from; their outputs would also blur balances.
    handshake.negotiate_anchors_zero_fee_htlc_tx = false;
    handshake.negotiate_anchor_zero_fee_commitments = false;
    rules.channel_config.forwarding_fee_base_msat = options.routing_base_msat;
    rules.channel_config.forwarding_fee_proportional_millionths = options.routing_ppm;
    rules.channel_config.max_dust_htlc_exposure = MaxDustHTLCExposure::FixedLimitMsat(DUST_EXPOSURE_MSAT);
    rules
}

/// The same feerate for every purpose, always: the simulated chain has no fee market.
#[derive(Debug)]
pub(super) struct FlatFees;

impl FeeEstimator for FlatFees {
    fn get_est_sat_per_1000_weight(&self, _target: ConfirmationTarget) -> u32 {
        FEERATE
    }
}

/// Keeps nothing on disk: a devnet ends with its process. What it does do is tell that a channel has moved: every
/// change of a channel's state passes here, and LDK has no other notice of the last step of a payment.
#[derive(Debug)]
pub(super) struct NoDisk {
    news: watch::Sender<()>,
}

impl Persist<InMemorySigner> for NoDisk {
    fn persist_new_channel(
        &self,
        _name: MonitorName,
        _monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        self.news.send_replace(());
        ChannelMonitorUpdateStatus::Completed
    }

    fn update_persisted_channel(
        &self,
        _name: MonitorName,
        _update: Option<&ChannelMonitorUpdate>,
        _monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        self.news.send_replace(());
        ChannelMonitorUpdateStatus::Completed
    }

    fn archive_persisted_channel(&self, _name: MonitorName) {}
}

/// LDK's log lines, as events of this program's own log.
#[derive(Debug)]
pub(super) struct LightningLog {
    node: String,
}

impl Logger for LightningLog {
    fn log(&self, record: Record<'_>) {
        // LDK's information is about single messages and blocks: detail, seen from here.
        match record.level {
            Level::Error => tracing::warn!(target: "lightning", node = %self.node, "{}", record.args),
            Level::Warn | Level::Info => {
                tracing::debug!(target: "lightning", node = %self.node, "{}", record.args);
            }
            Level::Debug | Level::Trace | Level::Gossip => {
                tracing::trace!(target: "lightning", node = %self.node, "{}", record.args);
            }
        }
    }
}
