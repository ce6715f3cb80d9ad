//! Which transactions the last blocks hold, for when the node's index does not say.
//!
//! A blvm-node indexes the transactions of each block that it takes up at the tip, but not of those that it caught up with,
//! and a block beside the best chain overwrites what the index said of the one in it. So what the index does not find is
//! looked for in the blocks themselves: each is read once, and four bytes are kept for each of its transactions. Only blocks
//! can matter that came after the first script was given and are young enough for a quote to be redeemed.
//!
//! A payer who shows invented names makes the node read each block once, and gains nothing.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use node_ipc::{Hash, Transaction};
use tokio::time::Instant;

use super::super::{ChainError, Tip};
use super::asking::{self, Answers};
use super::best_chain::BestChain;
use super::{BLOCKS_LOOKED_BACK, READING_PATIENCE};

/// Blocks that a reorganisation may reach below the tip at which the first script was given. One that is deeper hides what
/// is paid in the blocks that took their place, from this source and from no other answer.
const REORGANISED: u32 = 20;

/// What is kept of one block.
#[derive(Debug)]
struct Contents {
    block: Hash,
    /// [`ReadBlocks::short`] of each transaction, sorted; none when the node does not keep the block's body.
    names: Option<Box<[u32]>>,
}

/// The blocks that were read: at most [`BLOCKS_LOOKED_BACK`]. Some 18 MB with 4,000 transactions in each, 70 MB if all were
/// full of the smallest.
#[derive(Debug, Default)]
pub(super) struct ReadBlocks {
    read: BTreeMap<u32, Contents>,
    key: RandomState,
}

/// A transaction and where it was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) transaction: Transaction,
    pub(super) block: Hash,
    pub(super) height: u32,
}

impl ReadBlocks {
    /// The lowest block that is looked at. Blocks from `since` on can pay, and those that take their place in a
    /// reorganisation; none when no script was ever given. The first block of all pays nobody.
    pub(super) fn lowest(tip: Tip, since: Option<u32>) -> Option<u32> {
        let since = since?.saturating_sub(REORGANISED);
        Some(since.max(tip.height.saturating_sub(BLOCKS_LOOKED_BACK)).max(1))
    }

    /// What is kept of a name. Keyed, so that no payer can choose names that are taken for others and cost a look into
    /// a block each; by chance that happens once in a thousand questions.
    fn short(&self, txid: &Hash) -> u32 {
        let [a, b, c, d, ..] = self.key.hash_one(txid).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Looks for a transaction in the best chain's last blocks.
    ///
    /// [`ChainError::StillReading`] when they could not all be read in time, [`ChainError::Pruned`] when some are not there to be read
    /// and it is in none of the others.
    pub(super) async fn find(
        &mut self,
        node: &dyn Answers,
        chain: &mut BestChain,
        tip: Tip,
        since: Option<u32>,
        txid: Hash,
    ) -> Result<Option<Found>, ChainError> {
        let Some(lowest) = Self::lowest(tip, since) else {
            return Ok(None);
        };
        self.read = self.read.split_off(&lowest);
        // What is above the tip left with a reorganisation.
        drop(self.read.split_off(&tip.height.saturating_add(1)));
        let deadline = Instant::now() + READING_PATIENCE;
        let wanted = self.short(&txid);
        let mut pruned = None;
        for height in (lowest..=tip.height).rev() {
            let Some(block) = chain.block_at(node, height).await? else {
                return Err(ChainError::Restless);
            };
            if self.read.get(&height).is_none_or(|known| known.block != block) {
                if Instant::now() >= deadline {
                    let left = height - lowest + 1;
                    return Err(ChainError::StillReading { left });
                }
                let contents = self.read(node, block, height).await?;
                self.read.insert(height, contents);
            }
            let names = self.read.get(&height).and_then(|known| known.names.as_deref());
            let Some(names) = names else {
                pruned.get_or_insert(height);
                continue;
            };
            if names.binary_search(&wanted).is_ok()
                && let Some(found) = take_out(node, block, height, txid).await?
            {
                return Ok(Some(found));
            }
        }
        match pruned {
            Some(height) => Err(ChainError::Pruned { height }),
            None => Ok(None),
        }
    }

    async fn read(&self, node: &dyn Answers, block: Hash, height: u32) -> Result<Contents, ChainError> {
        let names = match asking::block_at(node, height).await? {
            Some((hash, _)) if hash != block => return Err(ChainError::Restless),
            Some((_, body)) => {
                let mut names: Vec<u32> = body
                    .transactions
                    .iter()
                    .filter_map(asking::id_of)
                    .map(|txid| self.short(&txid))
                    .collect();
                names.sort_unstable();
                Some(names.into())
            }
            None => None,
        };
        Ok(Contents { block, names })
    }
}

/// A transaction out of a block; none when it is in another, or the block's body is not kept.
pub(super) async fn take_out(
    node: &dyn Answers,
    block: Hash,
    height: u32,
    txid: Hash,
) -> Result<Option<Found>, ChainError> {
    let Some((hash, body)) = asking::block_at(node, height).await? else {
        return Ok(None);
    };
    if hash != block {
        return Err(ChainError::Restless);
    }
    let transaction = body
        .transactions
        .into_iter()
        .find(|transaction| asking::id_of(transaction) == Some(txid));
    Ok(transaction.map(|transaction| Found {
        transaction,
        block,
        height,
    }))
}
