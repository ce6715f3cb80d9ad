//! The blvm-node that this program is a module of, asked over its module protocol.
//!
//! It has no wallet. Scripts come from the operator's public descriptor ([`scripts`]), and whatever pays them is found in the
//! best chain by its name, spent or not, with no need of keys. The node's answers alone do not say enough for that, so three
//! things are kept beside it: which blocks the best chain has (`best_chain`), what the last of them hold (`contents`), and
//! whether its table of unspent outputs can be believed (`coins`).
//!
//! | asked | questions to the node |
//! |---|---|
//! | fresh script | the tip, once per script, to know from which block on it can be paid |
//! | transaction | `GetTxMetadata`, believed if the block it names is in the best chain; else the last blocks are read |
//! | replaced | `GetUtxo` of what it spends, once its body is known |
//! | output | `GetUtxo`, believed if it has the newest coinbase; `CheckTransactionInMempool` |
//! | depth of a block | headers back from the tip and from the block, until they meet |
//! | fee floor | nothing: a node does not say it; the configuration does |
//! | hand over | `SubmitMempoolTransaction`, unless it is known already or spends what is not there |
//!
//! **Replaced is said only when it is known.** A transaction that never was in any block this node saw is unknown to it, and
//! another one in its place does not tell. Such a one is [`Standing::Unconfirmed`] for ever; its quote runs out.
//!
//! **An answer belongs to one tip.** What takes several questions is asked again when the tip changed in between.
//!
//! **An error answer costs the connection** on the node as published, so nothing is asked that a healthy node refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::blockdata::constants::genesis_block;
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Network, Transaction};
use mesh_core::chain::{FundingFacts, OutPoint, Place, Standing};
use mesh_core::verifier::BitcoinNetwork;
use node_ipc::Hash;
use tokio::sync::Mutex;

use super::{ChainError, ChainSource, OwnTransaction, Tip};

pub mod asking;
mod best_chain;
mod coins;
mod contents;
pub mod scripts;

use asking::Answers;
use best_chain::BestChain;
use coins::Coins;
use contents::{Found, ReadBlocks};
use scripts::{FreshScripts, ScriptsError};

/// How often a question is begun again because the tip changed meanwhile. More often than blocks can come by chance.
const ATTEMPTS: usize = 4;

/// Headers that one question may follow: at the node's limit of requests, three seconds that nobody else gets.
const HEADERS_PER_QUESTION: usize = 256;

/// Blocks in which payments are looked for: an hour to pay and a week to redeem, with a tenth to spare.
const BLOCKS_LOOKED_BACK: u32 = 1_115;

/// How long one question may read blocks. What is left is read by the next.
const READING_PATIENCE: Duration = Duration::from_secs(8);

/// Inputs that are looked at to tell whether a transaction was replaced. Whoever spends more waits until his quote runs out.
const INPUTS_LOOKED_AT: usize = 64;

/// What is known of the chain beside the node.
#[derive(Debug, Default)]
struct View {
    chain: BestChain,
    read: ReadBlocks,
    coins: Coins,
}

/// The node we are a module of. See the [module](self).
#[derive(Debug)]
pub struct NodeChain {
    node: Arc<dyn Answers>,
    scripts: Arc<FreshScripts>,
    network: BitcoinNetwork,
    network_checked: AtomicBool,
    fee_floor: u64,
    view: Mutex<View>,
}

impl NodeChain {
    /// Over a node's client, for this network, with the least fee rate that the node relays (sats per 1,000 virtual
    /// bytes). Asks nothing yet.
    pub fn new(
        node: Arc<dyn Answers>,
        scripts: FreshScripts,
        network: BitcoinNetwork,
        fee_floor: u64,
    ) -> Self {
        Self {
            node,
            scripts: Arc::new(scripts),
            network,
            network_checked: AtomicBool::new(false),
            fee_floor,
            view: Mutex::default(),
        }
    }

    /// Before anything is believed of the node, once it answers: that it is on the configured network.
    async fn check_network(&self) -> Result<(), ChainError> {
        if self.network_checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let found = network_of(&*self.node).await?;
        if found != self.network {
            return Err(ChainError::WrongNetwork {
                found,
                configured: self.network,
            });
        }
        self.network_checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the tip is still this one: what was asked since then belongs together.
    async fn still(&self, tip: Tip) -> Result<bool, ChainError> {
        Ok(asking::tip_block(&*self.node).await? == tip.block)
    }

    /// Where a transaction is in the best chain.
    async fn find(&self, view: &mut View, tip: Tip, txid: Hash) -> Result<Option<Found>, ChainError> {
        let node = &*self.node;
        if let Some((height, block)) = asking::indexed_at(node, txid).await?
            && view.chain.block_at(node, height).await? == Some(block)
        {
            return match asking::indexed(node, txid).await? {
                Some(transaction) => Ok(Some(Found {
                    transaction,
                    block,
                    height,
                })),
                None => contents::take_out(node, block, height, txid).await,
            };
        }
        let since = self.scripts.since();
        view.read.find(node, &mut view.chain, tip, since, txid).await
    }

    async fn look_for(
        &self,
        view: &mut View,
        tip: Tip,
        txid: Hash,
    ) -> Result<Option<OwnTransaction>, ChainError> {
        if let Some(found) = self.find(view, tip, txid).await? {
            return Ok(Some(OwnTransaction {
                outputs: asking::outputs_of(&found.transaction)?,
                standing: Standing::Confirmed(place_of(view, found.block, found.height)?),
            }));
        }
        // The index keeps what was in blocks that left the best chain.
        let Some(left) = asking::indexed(&*self.node, txid).await? else {
            return Ok(None);
        };
        let standing = if self.is_replaced(view, tip, txid, &left).await? {
            Standing::Replaced
        } else {
            Standing::Unconfirmed
        };
        Ok(Some(OwnTransaction {
            outputs: asking::outputs_of(&left)?,
            standing,
        }))
    }

    /// Whether the best chain spends, in another transaction, what this one spends. The transaction is in none of the blocks
    /// that can be looked at.
    async fn is_replaced(
        &self,
        view: &mut View,
        tip: Tip,
        txid: Hash,
        transaction: &node_ipc::Transaction,
    ) -> Result<bool, ChainError> {
        let node = &*self.node;
        let was_at = asking::indexed_at(node, txid).await?.map(|(height, _)| height);
        let lowest = ReadBlocks::lowest(tip, self.scripts.since());
        // Where it may be in an older block, it is not known to be in none.
        if was_at.zip(lowest).is_none_or(|(was_at, lowest)| was_at < lowest) {
            return Ok(false);
        }
        view.coins.check(node, tip).await?;
        for input in transaction.inputs.iter().take(INPUTS_LOOKED_AT) {
            let spent = OutPoint {
                txid: input.prevout.hash,
                vout: input.prevout.index,
            };
            if asking::coin(node, spent).await?.is_some() {
                continue;
            }
            // Not there: spent, or made by a transaction that is itself not in the best chain.
            if self.find(view, tip, spent.txid).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn look_at(
        &self,
        view: &mut View,
        tip: Tip,
        outpoint: OutPoint,
    ) -> Result<FundingFacts, ChainError> {
        let node = &*self.node;
        view.coins.check(node, tip).await?;
        if let Some(coin) = asking::coin(node, outpoint).await? {
            let Some(block) = view.chain.block_at(node, coin.height).await? else {
                return Err(ChainError::Restless);
            };
            return Ok(FundingFacts::Unspent(
                coin.output,
                place_of(view, block, coin.height)?,
            ));
        }
        if asking::in_mempool(node, outpoint.txid).await? {
            return Ok(FundingFacts::Unconfirmed);
        }
        Ok(FundingFacts::Gone)
    }

    /// Whether the node would take it: each input's money is there, or waits to be.
    async fn can_be_spent(
        &self,
        view: &mut View,
        tip: Tip,
        transaction: &Transaction,
    ) -> Result<bool, ChainError> {
        let node = &*self.node;
        view.coins.check(node, tip).await?;
        for input in &transaction.input {
            let outpoint = OutPoint {
                txid: input.previous_output.txid.to_byte_array(),
                vout: input.previous_output.vout,
            };
            let there = asking::coin(node, outpoint).await?.is_some()
                || asking::in_mempool(node, outpoint.txid).await?;
            if !there {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn place_of(view: &View, block: Hash, height: u32) -> Result<Place, ChainError> {
    let depth = view.chain.depth_of(height).ok_or(ChainError::Restless)?;
    Ok(Place { block, height, depth })
}

#[async_trait]
impl ChainSource for NodeChain {
    /// The configured one while the node cannot be asked: the mesh runs on without it, and before anything is believed of
    /// the node later, its network is looked at again.
    async fn network(&self) -> Result<BitcoinNetwork, ChainError> {
        match network_of(&*self.node).await {
            Err(ChainError::NodeSilent(why)) => {
                tracing::warn!(%why, "the node does not answer yet; its network is checked when it does");
                Ok(self.network)
            }
            found => found,
        }
    }

    async fn tip(&self) -> Result<Tip, ChainError> {
        self.check_network().await?;
        self.view.lock().await.chain.catch_up(&*self.node).await
    }

    async fn fresh_script(&self) -> Result<Vec<u8>, ChainError> {
        let tip = self.tip().await?;
        let scripts = self.scripts.clone();
        // The disk is waited for: elsewhere, so that nothing else waits with it.
        let given = tokio::task::spawn_blocking(move || scripts.next(tip.height)).await;
        Ok(given.unwrap_or_else(|error| Err(ScriptsError::Disk(error.to_string().into())))?)
    }

    async fn transaction(&self, txid: [u8; 32]) -> Result<Option<OwnTransaction>, ChainError> {
        self.check_network().await?;
        let mut view = self.view.lock().await;
        for _ in 0..ATTEMPTS {
            let tip = view.chain.catch_up(&*self.node).await?;
            let known = self.look_for(&mut view, tip, txid).await;
            if self.still(tip).await? {
                return known;
            }
        }
        Err(ChainError::Restless)
    }

    async fn output(&self, outpoint: OutPoint) -> Result<FundingFacts, ChainError> {
        self.check_network().await?;
        let mut view = self.view.lock().await;
        for _ in 0..ATTEMPTS {
            let tip = view.chain.catch_up(&*self.node).await?;
            let found = self.look_at(&mut view, tip, outpoint).await;
            if self.still(tip).await? {
                return found;
            }
        }
        Err(ChainError::Restless)
    }

    async fn depth(&self, block: [u8; 32]) -> Result<Option<u32>, ChainError> {
        self.check_network().await?;
        let mut view = self.view.lock().await;
        view.chain.catch_up(&*self.node).await?;
        view.chain.depth(&*self.node, block).await
    }

    async fn fee_floor(&self) -> Result<u64, ChainError> {
        Ok(self.fee_floor)
    }

    async fn broadcast(&self, transaction: &[u8]) -> Result<(), ChainError> {
        self.check_network().await?;
        let transaction: Transaction = deserialize(transaction)
            .map_err(|error| ChainError::NotTaken(format!("it is no transaction: {error}")))?;
        let txid = transaction.compute_txid().to_byte_array();
        if asking::in_mempool(&*self.node, txid).await? {
            return Ok(());
        }
        let mut view = self.view.lock().await;
        let tip = view.chain.catch_up(&*self.node).await?;
        if self.find(&mut view, tip, txid).await?.is_some() {
            return Ok(());
        }
        if asking::indexed_at(&*self.node, txid).await?.is_some() {
            // The node refuses what its index knows, and brings it back to its mempool by itself after a reorganisation.
            return Err(ChainError::NotTaken("its block left the best chain".to_owned()));
        }
        if !self.can_be_spent(&mut view, tip, &transaction).await? {
            return Err(ChainError::NotTaken(
                "it spends what is spent or unknown".to_owned(),
            ));
        }
        asking::submit(&*self.node, &transaction).await
    }
}

/// The network whose first block the node has.
async fn network_of(node: &dyn Answers) -> Result<BitcoinNetwork, ChainError> {
    let networks = [
        (Network::Bitcoin, BitcoinNetwork::Mainnet),
        (Network::Regtest, BitcoinNetwork::Regtest),
        (Network::Signet, BitcoinNetwork::Signet),
        (Network::Testnet, BitcoinNetwork::Testnet),
        (Network::Testnet4, BitcoinNetwork::Testnet),
    ];
    for (network, ours) in networks {
        let first = genesis_block(network).block_hash().to_byte_array();
        if asking::knows_block(node, first).await? {
            return Ok(ours);
        }
    }
    Err(ChainError::UnknownNetwork)
}

impl From<node_ipc::RequestError> for ChainError {
    fn from(error: node_ipc::RequestError) -> Self {
        use node_ipc::RequestError;
        match error {
            RequestError::Refused { request, reason } => Self::NodeRefused {
                method: request,
                reason,
            },
            RequestError::Unreadable { request, error } => asking::malformed(request, error.to_string()),
            RequestError::WrongAnswer { request, answer } => {
                asking::malformed(request, format!("it answers with {answer}"))
            }
            silent => Self::NodeSilent(silent.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
