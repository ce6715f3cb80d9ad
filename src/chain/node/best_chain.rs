//! Which blocks the best chain has, as far back as anybody asked.
//!
//! A blvm-node tells the tip, and of each header the one before it; not the height of a block, nor whether it is in the
//! best chain. So the chain is followed back from the tip, once: what is known is kept, and a new tip costs one header per
//! new block. A reorganisation shows by itself, because the headers from the new tip lead past the blocks that left.

use std::collections::{HashMap, HashSet, VecDeque};

use node_ipc::Hash;

use super::super::{ChainError, Tip};
use super::asking::{self, Answers, malformed};
use super::{ATTEMPTS, HEADERS_PER_QUESTION};

/// Blocks that are kept in mind, some 15 months. What is older takes a longer look than a payment is worth.
const KEPT: usize = 65_536;

/// The upper end of the best chain.
#[derive(Debug, Default)]
pub(super) struct BestChain {
    /// The block at `lowest`, and all above it up to the tip.
    blocks: VecDeque<Hash>,
    lowest: u32,
    heights: HashMap<Hash, u32>,
}

impl BestChain {
    /// Follows the node to its tip.
    pub(super) async fn catch_up(&mut self, node: &dyn Answers) -> Result<Tip, ChainError> {
        for _ in 0..ATTEMPTS {
            if let Some(known) = self.tip()
                && asking::tip_block(node).await? == known.block
            {
                return Ok(known);
            }
            let tip = asking::tip(node).await?;
            if self.follow(node, tip).await? {
                return Ok(tip);
            }
        }
        Err(ChainError::Restless)
    }

    fn tip(&self) -> Option<Tip> {
        let block = *self.blocks.back()?;
        let height = *self.heights.get(&block)?;
        Some(Tip { height, block })
    }

    /// Whether the way from that tip led to what is known, at the height that it says.
    async fn follow(&mut self, node: &dyn Answers, tip: Tip) -> Result<bool, ChainError> {
        let mut new = vec![tip.block];
        let mut below = tip;
        loop {
            if self.heights.is_empty() || new.len() > HEADERS_PER_QUESTION || below.height <= self.lowest {
                // Nothing known, the node was far ahead of us, or all that is known has left: begin at its tip.
                *self = Self::default();
                self.lowest = tip.height;
                self.push(tip.block);
                return Ok(true);
            }
            let Some(parent) = asking::parent(node, below.block).await? else {
                return Ok(false);
            };
            let Some(height) = below.height.checked_sub(1) else {
                return Err(malformed(
                    "GetBlockHeader",
                    "blocks below the first one".to_owned(),
                ));
            };
            below = Tip {
                height,
                block: parent,
            };
            if let Some(known) = self.heights.get(&parent).copied() {
                if known != height {
                    return Ok(false);
                }
                self.cut_above(known);
                new.into_iter().rev().for_each(|block| self.push(block));
                return Ok(true);
            }
            new.push(parent);
        }
    }

    fn push(&mut self, block: Hash) {
        let height = self.lowest + u32::try_from(self.blocks.len()).unwrap_or(u32::MAX);
        self.heights.insert(block, height);
        self.blocks.push_back(block);
        if self.blocks.len() > KEPT
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.heights.remove(&oldest);
            self.lowest += 1;
        }
    }

    fn cut_above(&mut self, height: u32) {
        while self.blocks.len() > 1 && self.tip().is_some_and(|tip| tip.height > height) {
            if let Some(left) = self.blocks.pop_back() {
                self.heights.remove(&left);
            }
        }
    }

    /// Looks one block further down; false at the first block of all.
    async fn extend_down(&mut self, node: &dyn Answers) -> Result<bool, ChainError> {
        let (Some(lowest), Some(height)) = (self.blocks.front().copied(), self.lowest.checked_sub(1)) else {
            return Ok(false);
        };
        if self.blocks.len() >= KEPT {
            return Err(ChainError::TooOld);
        }
        let Some(parent) = asking::parent(node, lowest).await? else {
            return Err(malformed(
                "GetBlockHeader",
                "a block of the best chain is missing".to_owned(),
            ));
        };
        self.blocks.push_front(parent);
        self.heights.insert(parent, height);
        self.lowest = height;
        Ok(true)
    }

    /// The block at a height; none above the tip.
    pub(super) async fn block_at(
        &mut self,
        node: &dyn Answers,
        height: u32,
    ) -> Result<Option<Hash>, ChainError> {
        let Some(tip) = self.tip().filter(|tip| height <= tip.height) else {
            return Ok(None);
        };
        for _ in 0..HEADERS_PER_QUESTION {
            if height >= self.lowest {
                break;
            }
            self.extend_down(node).await?;
        }
        let Some(place) = height.checked_sub(self.lowest) else {
            // Further down than one question may look: the node's own list of heights, which has the bodies only.
            let found = asking::block_at(node, height).await?;
            return match found {
                Some((hash, _)) => Ok(Some(hash)),
                None => Err(ChainError::StillReading {
                    left: tip.height - height,
                }),
            };
        };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        Ok(self.blocks.get(place).copied())
    }

    /// How deep a block is, itself counted; none when it is not in the best chain.
    pub(super) async fn depth(&mut self, node: &dyn Answers, block: Hash) -> Result<Option<u32>, ChainError> {
        let Some(tip) = self.tip() else {
            return Ok(None);
        };
        let mut beside = block;
        let mut seen = HashSet::new();
        for _ in 0..HEADERS_PER_QUESTION {
            if let Some(height) = self.heights.get(&block) {
                return Ok(Some(tip.height - height + 1));
            }
            // Down the chain of the block itself: where it joins what is known, the block stood beside it.
            // Below the first block there is nothing; the best chain may still have to be followed down to the block.
            if beside != [0; 32] {
                let Some(parent) = asking::parent(node, beside).await? else {
                    return Ok(None);
                };
                if self.heights.contains_key(&parent) || !seen.insert(parent) {
                    return Ok(None);
                }
                beside = parent;
            }
            if !self.extend_down(node).await? {
                return Ok(None);
            }
        }
        Err(ChainError::StillReading { left: self.lowest })
    }

    /// How deep a height is; none above the tip.
    pub(super) fn depth_of(&self, height: u32) -> Option<u32> {
        let tip = self.tip()?;
        Some(tip.height.checked_sub(height)? + 1)
    }
}
