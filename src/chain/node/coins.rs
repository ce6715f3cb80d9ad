//! Whether the node's table of unspent outputs can be believed.
//!
//! A blvm-node that caught up with the network keeps its unspent outputs elsewhere than where a module's question looks: it then
//! answers "no such output" for every output there is. To take that for "spent" would call honest payments double spends.
//! But one output is known to be unspent in every chain: the tip's own coinbase, which no block can spend for a hundred
//! blocks. If the node does not find that one, what it says of others is nothing.

use mesh_core::chain::OutPoint;
use node_ipc::{Block, Hash};

use super::super::{ChainError, Tip};
use super::asking::{self, Answers};

/// Blocks tried: a coinbase that claims nothing has no output to look for.
const BLOCKS_TRIED: u32 = 3;

/// The opcode that begins outputs which can never be spent; no table has them.
const OP_RETURN: u8 = 0x6a;

/// The last tip whose coinbase was found.
#[derive(Debug, Default)]
pub(super) struct Coins {
    checked_at: Option<Hash>,
}

impl Coins {
    /// Fails unless the node's table has the newest coinbase.
    pub(super) async fn check(&mut self, node: &dyn Answers, tip: Tip) -> Result<(), ChainError> {
        if self.checked_at == Some(tip.block) {
            return Ok(());
        }
        for height in (1..=tip.height).rev().take(BLOCKS_TRIED as usize) {
            let Some((_, block)) = asking::block_at(node, height).await? else {
                return Err(ChainError::Pruned { height });
            };
            let Some(outpoint) = spendable_reward(&block) else {
                continue;
            };
            let found = asking::coin(node, outpoint).await?;
            if found.is_none_or(|coin| coin.height != height) {
                return Err(ChainError::CoinsUnreadable);
            }
            self.checked_at = Some(tip.block);
            return Ok(());
        }
        Err(ChainError::CoinsUnreadable)
    }
}

fn spendable_reward(block: &Block) -> Option<OutPoint> {
    let coinbase = block.transactions.first()?;
    let spendable = |output: &node_ipc::TransactionOutput| {
        output.value > 0 && output.script_pubkey.first() != Some(&OP_RETURN)
    };
    let place = coinbase.outputs.iter().position(spendable)?;
    Some(OutPoint {
        txid: asking::id_of(coinbase)?,
        vout: u32::try_from(place).ok()?,
    })
}
