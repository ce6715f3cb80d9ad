//! A Lightning network in one process, for tests and the demo.
//!
//! The nodes are real: LDK channel managers with signed commitments, gossip, routing by fees and liquidity, and Noise
//! over loopback TCP. Only the chain below them is simulated: blocks are mined when the devnet says
//! so. So a payment here takes every step a payment takes anywhere, in some milliseconds, without bitcoind and without
//! touching the disk; and no satoshi of it is worth anything.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use blvm_mesh::wallet::{Wallet, devnet::Devnet};
//!
//! let devnet = Devnet::line(3, 1_000_000, 1).await?; // 0 – 1 – 2, half of each channel on either side
//! let payer: Arc<dyn Wallet> = devnet.wallet(0)?;
//! println!("{:?}", payer.balance().await?);
//! devnet.shutdown().await;
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lightning::bitcoin::secp256k1::PublicKey;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

mod book;
mod chain;
mod node;
mod pump;
#[cfg(test)]
mod tests;
mod wallet;

use chain::SimChain;
use node::{FUNDING_DEPTH, LightningNode, sat_to_msat, unix_now};
pub use wallet::DevnetWallet;

/// The most nodes in one devnet. Each takes a few MB and three tasks; beyond this many, two cores spend their time
/// on gossip.
pub const MAX_NODES: usize = 64;

/// The smallest and largest channel, in sat. Below, the reserves that either side must keep (at least 1,000 sat)
/// leave nothing to pay with; above begins what BOLT 2 calls a large channel and most nodes refuse.
pub const CHANNEL_SAT: std::ops::RangeInclusive<u64> = 20_000..=16_777_215;

/// Confirmations after which nodes announce a channel to the network (BOLT 7).
const ANNOUNCE_DEPTH: u32 = 6;

/// The longest that any step of building the network may take. It takes milliseconds; a loaded test machine may be
/// a hundred times slower.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// How often a condition is looked at again although no news of it came. Nodes tell when a channel or payment has
/// moved, but LDK gives no notice when a handshake is done or a piece of gossip arrives.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How long gossip may bring nothing new before blocks are mined to stir it; doubled each time. The nodes at the two ends of
/// a channel do not send its announcement to each other, each makes its own; the terms that one of them sends right
/// after are lost if the other is not as far yet.
const STIR_AFTER: Duration = Duration::from_millis(20);

/// Blocks that stir gossip: LDK repeats the announcement of a channel at every sixth block after its funding, so six
/// in a row make every channel's announcement come again.
const STIR_BLOCKS: u32 = 6;

/// Attempts to connect two nodes: the transport gives its first message only 100 ms, which a loaded machine can miss.
const CONNECT_ATTEMPTS: u32 = 5;

/// How a devnet's nodes behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevnetOptions {
    /// The nodes' keys derive from it: the same seed gives the same node ids.
    pub seed: u64,
    /// What every node takes for forwarding a payment, in msat, whatever its amount.
    pub routing_base_msat: u32,
    /// What every node takes on top in proportion, in millionths of the amount. The default of 1,000 makes fees
    /// visible (1 msat per 1,000) and small.
    pub routing_ppm: u32,
}

impl Default for DevnetOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            routing_base_msat: 0,
            routing_ppm: 1_000,
        }
    }
}

/// Why a devnet could not be built or used.
#[derive(Debug, Error)]
pub enum DevnetError {
    /// More nodes than one process should run.
    #[error("a devnet has 1 to {MAX_NODES} nodes, not {wanted}")]
    NodeCount {
        /// How many were wanted.
        wanted: usize,
    },
    /// There is no node of that number.
    #[error("this devnet has no node {index}: it has {nodes}, numbered from 0")]
    NoSuchNode {
        /// The number asked for.
        index: usize,
        /// How many there are.
        nodes: usize,
    },
    /// The channel makes no sense.
    #[error("a devnet channel cannot be opened: {reason}")]
    Channel {
        /// Why not.
        reason: String,
    },
    /// The faucet has given away all it had.
    #[error(
        "the devnet's faucet holds {left_sat} sat, {wanted_sat} were wanted: open fewer or smaller channels"
    )]
    FaucetEmpty {
        /// What was wanted, in sat.
        wanted_sat: u64,
        /// What is left, in sat.
        left_sat: u64,
    },
    /// The loopback network failed.
    #[error("two devnet nodes cannot be connected over loopback")]
    Io(#[from] std::io::Error),
    /// A step took far too long.
    #[error("the devnet waited {} s in vain for {what}; the machine may be overloaded", STEP_LIMIT.as_secs())]
    TooSlow {
        /// What it waited for.
        what: &'static str,
    },
}

/// A Lightning network in this process. See the [module](self).
///
/// Its tasks end when it is dropped; [`Devnet::shutdown`] also waits for that.
pub struct Devnet {
    nodes: Vec<Arc<LightningNode>>,
    chain: Arc<SimChain>,
    /// Held while a block is mined and fed to the nodes: each must see all blocks, in order.
    mining: Mutex<()>,
    next_channel: AtomicU64,
    /// How many channels have been opened with success.
    opened: AtomicUsize,
    news: watch::Sender<()>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Devnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Devnet")
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

impl Devnet {
    /// Starts `nodes` nodes (1 to [`MAX_NODES`]) without channels, named `ln0`, `ln1`, …
    ///
    /// # Errors
    /// [`DevnetError::NodeCount`].
    pub async fn start(nodes: usize, seed: u64) -> Result<Self, DevnetError> {
        let names: Vec<String> = (0..nodes.min(MAX_NODES + 1))
            .map(|index| format!("ln{index}"))
            .collect();
        Self::start_with(
            &names,
            DevnetOptions {
                seed,
                ..DevnetOptions::default()
            },
        )
        .await
    }

    /// Starts one node for each name, without channels. Must be called within a tokio runtime, best one of several
    /// threads; the nodes' tasks run there.
    ///
    /// # Errors
    /// [`DevnetError::NodeCount`].
    pub async fn start_with(names: &[impl AsRef<str>], options: DevnetOptions) -> Result<Self, DevnetError> {
        if names.is_empty() || names.len() > MAX_NODES {
            return Err(DevnetError::NodeCount { wanted: names.len() });
        }
        let chain = Arc::new(SimChain::new(unix_now()));
        let news = watch::Sender::new(());
        let stop = watch::Sender::new(false);
        let mut nodes = Vec::with_capacity(names.len());
        let mut tasks = JoinSet::new();
        for (index, name) in names.iter().enumerate() {
            let seed = node_seed(options.seed, index);
            let name = name.as_ref().to_owned();
            let node = Arc::new(LightningNode::new(name, seed, &options, &chain, news.clone()));
            tasks.spawn(pump::run(Arc::clone(&node), stop.subscribe()));
            nodes.push(node);
        }
        Ok(Self {
            nodes,
            chain,
            mining: Mutex::new(()),
            next_channel: AtomicU64::new(1),
            opened: AtomicUsize::new(0),
            news,
            stop,
            tasks: Mutex::new(tasks),
        })
    }

    /// A ready network of `nodes` nodes in a line, each joined to the next by a channel of `capacity_sat`, half of it
    /// on either side.
    ///
    /// # Errors
    /// Any [`DevnetError`].
    pub async fn line(nodes: usize, capacity_sat: u64, seed: u64) -> Result<Self, DevnetError> {
        let edges: Vec<_> = (1..nodes.min(MAX_NODES + 1))
            .map(|next| (next - 1, next))
            .collect();
        Self::mesh(nodes, &edges, capacity_sat, seed).await
    }

    /// A ready network of `nodes` nodes with a channel of `capacity_sat` along every edge, half of it on either side.
    ///
    /// # Errors
    /// Any [`DevnetError`].
    pub async fn mesh(
        nodes: usize,
        edges: &[(usize, usize)],
        capacity_sat: u64,
        seed: u64,
    ) -> Result<Self, DevnetError> {
        let devnet = Self::start(nodes, seed).await?;
        for (from, to) in edges {
            devnet
                .open_channel(*from, *to, capacity_sat, sat_to_msat(capacity_sat) / 2)
                .await?;
        }
        devnet.wait_ready().await?;
        Ok(devnet)
    }

    /// Opens an announced channel of `capacity_sat` (within [`CHANNEL_SAT`]), funded by the faucet, of which
    /// `push_msat` belong to `to` and the rest to `from`. Returns when its funding transaction waits to be mined;
    /// [`Self::wait_ready`] makes it usable.
    ///
    /// # Errors
    /// Any [`DevnetError`] but [`DevnetError::NodeCount`].
    pub async fn open_channel(
        &self,
        from: usize,
        to: usize,
        capacity_sat: u64,
        push_msat: u64,
    ) -> Result<(), DevnetError> {
        let refuse = |reason: String| DevnetError::Channel { reason };
        let (opener, peer) = (self.node(from)?, self.node(to)?);
        if from == to {
            return Err(refuse(format!("node {from} cannot have a channel with itself")));
        }
        if !CHANNEL_SAT.contains(&capacity_sat) || push_msat > sat_to_msat(capacity_sat) {
            return Err(refuse(format!(
                "its capacity must be within {CHANNEL_SAT:?} sat and hold what is pushed, not {capacity_sat} sat with {push_msat} msat pushed"
            )));
        }
        self.connect(opener, peer).await?;
        // Fresh on every call, so that this very channel is found again below.
        let number = u128::from(self.next_channel.fetch_add(1, Ordering::Relaxed));
        opener
            .manager
            .create_channel(peer.id, capacity_sat, push_msat, number, None, None)
            .map_err(|error| refuse(format!("{error:?}")))?;
        self.until("a funding transaction", || {
            let channels = opener.manager.list_channels();
            match channels.iter().find(|channel| channel.user_channel_id == number) {
                None => Some(Err(refuse("it was closed while it was being opened".to_owned()))),
                Some(channel) => {
                    let funding = channel.funding_txo?.txid;
                    self.chain.knows(&funding).then_some(Ok(()))
                }
            }
        })
        .await??;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Mines what is needed and waits until every channel is usable from both ends and every node has heard of all
    /// of them, in both directions: from then on any node can pay any other that money can reach.
    ///
    /// # Errors
    /// [`DevnetError::TooSlow`]; [`DevnetError::Channel`] if a channel was closed instead of becoming ready.
    pub async fn wait_ready(&self) -> Result<(), DevnetError> {
        // In two steps, because nodes that see six blocks at once want to announce a channel that their peer does not
        // yet call ready, and then wait for another block.
        self.mine(FUNDING_DEPTH);
        self.until("channels to become usable", || self.all_usable())
            .await??;
        self.mine(ANNOUNCE_DEPTH - FUNDING_DEPTH);
        let wanted: Vec<_> = (0..self.nodes.len())
            .map(|index| self.channels_within_reach(index))
            .collect();
        let to_hear: usize = wanted.iter().map(|channels| 2 * channels.len()).sum();
        let mut heard_before = 0;
        let mut rest = STIR_AFTER;
        let mut stir_at = Instant::now() + rest;
        self.until("gossip to reach every node", || {
            let heard = self
                .nodes
                .iter()
                .zip(&wanted)
                .map(|(node, channels)| node.heard_of(channels))
                .sum();
            if heard > heard_before {
                heard_before = heard;
                stir_at = Instant::now() + rest;
            } else if Instant::now() >= stir_at {
                self.mine(STIR_BLOCKS);
                rest *= 2;
                stir_at = Instant::now() + rest;
            }
            (heard >= to_hear).then_some(())
        })
        .await
    }

    /// Mines `blocks` blocks and feeds them to every node.
    pub fn mine(&self, blocks: u32) {
        let _in_order = self.mining.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..blocks {
            let (block, height) = self.chain.mine(unix_now());
            for node in &self.nodes {
                node.connect_block(&block, height);
            }
        }
    }

    /// Waits until no payment is under way in any channel, not even its last formal step: from then on the balances
    /// of all nodes add up exactly.
    ///
    /// # Errors
    /// [`DevnetError::TooSlow`].
    pub async fn wait_quiet(&self) -> Result<(), DevnetError> {
        let quiet = || self.nodes.iter().all(|node| node.is_quiet()).then_some(());
        self.until("payments to come to rest", quiet).await
    }

    /// The wallet of node `index`. It can be used as `Arc<dyn Wallet>`.
    ///
    /// # Errors
    /// [`DevnetError::NoSuchNode`].
    pub fn wallet(&self, index: usize) -> Result<Arc<DevnetWallet>, DevnetError> {
        let node = Arc::clone(self.node(index)?);
        Ok(Arc::new(DevnetWallet::new(node, self.stop.subscribe())))
    }

    /// How many nodes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a devnet has at least one node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Stops all nodes and waits until their tasks have ended. Wallets taken from it no longer pay.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        for node in &self.nodes {
            node.peers.disconnect_all_peers();
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}

impl Devnet {
    fn node(&self, index: usize) -> Result<&Arc<LightningNode>, DevnetError> {
        self.nodes.get(index).ok_or(DevnetError::NoSuchNode {
            index,
            nodes: self.nodes.len(),
        })
    }

    /// Connects two nodes, unless they are.
    ///
    /// The listening socket lives for this one connection, so nobody else can get in.
    async fn connect(&self, from: &LightningNode, to: &LightningNode) -> Result<(), DevnetError> {
        for _ in 0..CONNECT_ATTEMPTS {
            if are_connected(from, to) {
                return Ok(());
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let (outgoing, (incoming, origin)) =
                tokio::try_join!(TcpStream::connect(address), listener.accept())?;
            if outgoing.local_addr()? != origin {
                continue;
            }
            // Messages are small and answered at once; holding them back to fill packets would cost 40 ms each.
            outgoing.set_nodelay(true)?;
            incoming.set_nodelay(true)?;
            let inbound = lightning_net_tokio::setup_inbound(Arc::clone(&to.peers), incoming.into_std()?);
            let outbound =
                lightning_net_tokio::setup_outbound(Arc::clone(&from.peers), to.id, outgoing.into_std()?);
            {
                let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                tasks.spawn(inbound);
                tasks.spawn(outbound);
            }
            let shaken = self.until("a handshake", || are_connected(from, to).then_some(()));
            if tokio::time::timeout(Duration::from_secs(5), shaken).await.is_ok() {
                return Ok(());
            }
        }
        Err(DevnetError::TooSlow {
            what: "two nodes to connect",
        })
    }

    /// Waits until `done` answers, looking again at every piece of news and every [`LOOK_AGAIN`].
    async fn until<T>(
        &self,
        what: &'static str,
        mut done: impl FnMut() -> Option<T>,
    ) -> Result<T, DevnetError> {
        let mut news = self.news.subscribe();
        let deadline = Instant::now() + STEP_LIMIT;
        let mut look_again = tokio::time::interval(LOOK_AGAIN);
        look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < deadline {
            if let Some(answer) = done() {
                return Ok(answer);
            }
            tokio::select! {
                _ = news.changed() => {}
                _ = look_again.tick() => {}
            }
        }
        Err(DevnetError::TooSlow { what })
    }

    /// Whether every channel is usable from both ends; an error once one of them is gone.
    fn all_usable(&self) -> Option<Result<(), DevnetError>> {
        let opened = self.opened.load(Ordering::Relaxed);
        let mut usable = Vec::new();
        for node in &self.nodes {
            usable.extend(
                node.manager
                    .list_channels()
                    .iter()
                    .map(|channel| channel.is_usable),
            );
        }
        if usable.len() < 2 * opened {
            let reason = "one was closed before it was ready; the log says why".to_owned();
            return Some(Err(DevnetError::Channel { reason }));
        }
        usable.iter().all(|usable| *usable).then_some(Ok(()))
    }

    /// The short ids of all channels in the part of the network that node `index` is in: gossip travels along
    /// channels, so it can hear of no others.
    fn channels_within_reach(&self, index: usize) -> BTreeSet<u64> {
        let mut reached = BTreeSet::from([index]);
        let mut to_visit = vec![index];
        let mut channels = BTreeSet::new();
        while let Some(node) = to_visit.pop().and_then(|index| self.nodes.get(index)) {
            for channel in node.manager.list_channels() {
                channels.extend(channel.short_channel_id);
                let peer = self
                    .nodes
                    .iter()
                    .position(|other| other.id == channel.counterparty.node_id);
                to_visit.extend(peer.filter(|peer| reached.insert(*peer)));
            }
        }
        channels
    }
}

fn are_connected(from: &LightningNode, to: &LightningNode) -> bool {
    let sees = |node: &LightningNode, other: &PublicKey| node.peers.peer_by_node_id(other).is_some();
    sees(from, &to.id) && sees(to, &from.id)
}

/// The secret from which a devnet node derives its keys. Not secret at all: whoever knows the seed knows it.
fn node_seed(seed: u64, index: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("blvm-mesh devnet node seed v1");
    hasher.update(&seed.to_be_bytes());
    hasher.update(&(index as u64).to_be_bytes());
    *hasher.finalize().as_bytes()
}
