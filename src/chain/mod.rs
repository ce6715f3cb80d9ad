//! The chain: how this node is paid by outputs of transactions, and how it knows that it was.
//!
//! Everything above this module speaks to one trait, [`ChainSource`]. Behind it stands a Bitcoin node that the operator
//! trusts as he trusts his own: what it says of the best chain is believed, and nothing that anybody else says.
//! [`bitcoind::Bitcoind`] asks Bitcoin Core or Knots over JSON-RPC; [`node::NodeChain`] asks the blvm-node that this program is a
//! module of. [`open::open`] makes the one that the configuration names.
//!
//! # The contract
//!
//! **Names are in internal byte order**: transactions, blocks and scripts are the bytes that travel, not the reversed
//! digits that people read.
//!
//! **A fresh script is fresh.** [`ChainSource::fresh_script`] never gives the same one twice, over restarts too, and its
//! money can be spent by this node's operator alone.
//!
//! **Only the best chain counts.** A transaction in a block that was reorganised away is not confirmed. One that can
//! never be mined any more, because another that spends the same money was, is [`Standing::Replaced`].
//!
//! **What paid this node stays known**, spent or not: a wallet keeps its own transactions, so a pruned node without an index of
//! transactions is enough for [`bitcoind`]; without a wallet they are found in the blocks of the best chain ([`node`]).
//!
//! **Not knowing is an error**, never an answer: a source that cannot be asked says so ([`ChainError`]), and the core
//! then credits nothing and takes nothing back.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mesh_core::chain::{
    ChainAnswer, ChainPolicy, ChainQuestion, CovenantFacts, FundingFacts, OutPoint, PaymentFacts, Standing,
    TxOutput,
};
use mesh_core::drop_reason::DropReason;
use mesh_core::verifier::BitcoinNetwork;

pub mod bitcoind;
mod error;
pub mod node;
pub mod open;
mod uri;

pub use error::ChainError;
pub use uri::payment_uri;

/// The tip of the best chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: u32,
    /// Its block.
    pub block: [u8; 32],
}

/// A transaction that pays or is paid by this node's wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTransaction {
    /// Where it stands.
    pub standing: Standing,
    /// Its outputs in order.
    pub outputs: Vec<TxOutput>,
}

/// A view of the chain. See the [module's contract](self).
#[async_trait]
pub trait ChainSource: fmt::Debug + Send + Sync {
    /// Which network it is on. Asked once at the start, so that a wrong address is found then.
    ///
    /// # Errors
    /// [`ChainError`], also when the wallet that scripts come from is not there.
    async fn network(&self) -> Result<BitcoinNetwork, ChainError>;

    /// The tip of the best chain.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn tip(&self) -> Result<Tip, ChainError>;

    /// A script of this node's wallet that was never given to anybody.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn fresh_script(&self) -> Result<Vec<u8>, ChainError>;

    /// A transaction of this node's wallet; `None` when the wallet does not know it.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn transaction(&self, txid: [u8; 32]) -> Result<Option<OwnTransaction>, ChainError>;

    /// Anybody's output: what it holds, where it stands, whether the best chain spends it.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn output(&self, outpoint: OutPoint) -> Result<FundingFacts, ChainError>;

    /// How deep a block is in the best chain, itself counted; `None` when it is not in it.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn depth(&self, block: [u8; 32]) -> Result<Option<u32>, ChainError>;

    /// What transactions must pay at the least to be relayed now, in sats per 1,000 virtual bytes.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn fee_floor(&self) -> Result<u64, ChainError>;

    /// Hands a transaction to the network. One that is known already is no error.
    ///
    /// # Errors
    /// [`ChainError::Refused`] when the node does not take it.
    async fn broadcast(&self, transaction: &[u8]) -> Result<(), ChainError>;
}

/// How a node is paid on the chain.
#[derive(Debug, Clone)]
pub struct ChainSetup {
    /// Whom it asks.
    pub source: Arc<dyn ChainSource>,
    /// What it asks of payments.
    pub policy: ChainPolicy,
}

/// Answers one of the core's questions.
pub(crate) async fn answer(source: &dyn ChainSource, question: ChainQuestion) -> ChainAnswer {
    match question {
        ChainQuestion::FreshScript => ChainAnswer::Script(told(source.fresh_script().await)),
        ChainQuestion::Payment { txid } => ChainAnswer::Payment(told(payment(source, txid).await)),
        ChainQuestion::Covenant { funding, settling } => {
            ChainAnswer::Covenant(told(covenant(source, funding, settling).await))
        }
        ChainQuestion::Blocks { blocks } => ChainAnswer::Blocks(told(depths(source, blocks).await)),
        ChainQuestion::Broadcast { transaction } => {
            ChainAnswer::Broadcast(told(source.broadcast(&transaction).await))
        }
    }
}

/// What is answered when there is nobody to ask.
pub(crate) fn unavailable(question: &ChainQuestion) -> ChainAnswer {
    let reason = DropReason::ChainUnavailable;
    match question {
        ChainQuestion::FreshScript => ChainAnswer::Script(Err(reason)),
        ChainQuestion::Payment { .. } => ChainAnswer::Payment(Err(reason)),
        ChainQuestion::Covenant { .. } => ChainAnswer::Covenant(Err(reason)),
        ChainQuestion::Blocks { .. } => ChainAnswer::Blocks(Err(reason)),
        ChainQuestion::Broadcast { .. } => ChainAnswer::Broadcast(Err(reason)),
    }
}

fn told<T>(answer: Result<T, ChainError>) -> Result<T, DropReason> {
    answer.map_err(|error| {
        tracing::warn!(%error, "the chain source could not answer");
        DropReason::ChainUnavailable
    })
}

async fn payment(source: &dyn ChainSource, txid: [u8; 32]) -> Result<PaymentFacts, ChainError> {
    let known = source.transaction(txid).await?;
    Ok(known.map_or(
        PaymentFacts {
            standing: Standing::Unconfirmed,
            outputs: Vec::new(),
        },
        |known| PaymentFacts {
            standing: known.standing,
            outputs: known.outputs,
        },
    ))
}

async fn covenant(
    source: &dyn ChainSource,
    funding: OutPoint,
    settling: [u8; 32],
) -> Result<CovenantFacts, ChainError> {
    // The funding first: what settles between the two questions is then seen by the second.
    let funding = source.output(funding).await?;
    let settling = source.transaction(settling).await?;
    Ok(CovenantFacts {
        funding,
        settling: settling.map_or(Standing::Unconfirmed, |known| known.standing),
        fee_floor: source.fee_floor().await?,
    })
}

async fn depths(
    source: &dyn ChainSource,
    blocks: Vec<[u8; 32]>,
) -> Result<(u32, Vec<Option<u32>>), ChainError> {
    let mut depths = Vec::with_capacity(blocks.len());
    for block in blocks {
        depths.push(source.depth(block).await?);
    }
    Ok((source.tip().await?.height, depths))
}
