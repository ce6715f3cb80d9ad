//! The simulated chain: the only thing in the devnet that is not real.
//!
//! It keeps blocks and a mempool in memory, and a block is mined when somebody says so. Headers carry real (regtest)
//! proof of work, merkle roots and recent times, because Lightning nodes look at them; scripts and signatures are
//! not checked, fees are not charged, and there are no reorganisations. Coins come from a faucet: the first block's
//! subsidy, locked by nothing, handed out without waiting for maturity.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lightning::bitcoin::absolute::LockTime;
use lightning::bitcoin::block::{Header, Version};
use lightning::bitcoin::constants::{ChainHash, genesis_block};
use lightning::bitcoin::script::Builder;
use lightning::bitcoin::transaction::Version as TxVersion;
use lightning::bitcoin::{
    Amount, Block, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use lightning::chain::BestBlock;
use lightning::chain::chaininterface::BroadcasterInterface;
use lightning::routing::utxo::{UtxoLookup, UtxoLookupError, UtxoResult};

use super::DevnetError;

/// What the faucet holds at first, in sat: the subsidy of one early regtest block. Enough for 298 channels of the
/// largest size.
const FAUCET_SAT: u64 = 50 * 100_000_000;

/// The most transactions waiting to be mined. A devnet of [`super::MAX_NODES`] nodes opens at most a few hundred
/// channels between two blocks; beyond the bound a broadcast is dropped, as a full mempool does.
const MAX_MEMPOOL: usize = 4096;

/// Blocks, mempool and faucet.
#[derive(Debug)]
pub(super) struct SimChain {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By height; never empty, because it begins with the genesis block.
    blocks: Vec<Block>,
    mempool: Vec<Transaction>,
    /// Every transaction ever accepted, mined or not.
    known: HashSet<Txid>,
    /// Every output ever spent, by a mined transaction or a waiting one.
    spent: HashSet<OutPoint>,
    faucet: OutPoint,
    faucet_sat: u64,
}

impl SimChain {
    /// A chain of two blocks, the second of which fills the faucet, mined at the unix time `now`.
    pub(super) fn new(now: Duration) -> Self {
        let genesis = genesis_block(Network::Regtest);
        let subsidy = coinbase(1, FAUCET_SAT);
        let faucet = OutPoint {
            txid: subsidy.compute_txid(),
            vout: 0,
        };
        let first = sealed_block(&genesis.header, vec![subsidy], now);
        let state = State {
            blocks: vec![genesis, first],
            mempool: Vec::new(),
            known: HashSet::new(),
            spent: HashSet::new(),
            faucet,
            faucet_sat: FAUCET_SAT,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// The last block.
    pub(super) fn tip(&self) -> BestBlock {
        let state = self.lock();
        let height = u32::try_from(state.blocks.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let hash = state
            .blocks
            .last()
            .map_or_else(|| genesis_block(Network::Regtest).block_hash(), Block::block_hash);
        BestBlock::new(hash, height)
    }

    /// Mines everything that waits into one block with about the time `now`, and gives it with its height.
    pub(super) fn mine(&self, now: Duration) -> (Block, u32) {
        let mut state = self.lock();
        let height = u32::try_from(state.blocks.len()).unwrap_or(u32::MAX);
        let mut transactions = vec![coinbase(height, 0)];
        transactions.append(&mut state.mempool);
        let previous = state
            .blocks
            .last()
            .map_or_else(|| genesis_block(Network::Regtest).header, |b| b.header);
        let block = sealed_block(&previous, transactions, now);
        state.blocks.push(block.clone());
        (block, height)
    }

    /// A transaction that pays `sat` of the faucet's coins to `script` in its first output. It is not broadcast.
    pub(super) fn draw_from_faucet(&self, script: ScriptBuf, sat: u64) -> Result<Transaction, DevnetError> {
        let mut state = self.lock();
        let change_sat = state
            .faucet_sat
            .checked_sub(sat)
            .ok_or(DevnetError::FaucetEmpty {
                wanted_sat: sat,
                left_sat: state.faucet_sat,
            })?;
        let transaction = Transaction {
            version: TxVersion::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: state.faucet,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[anyone_can_spend().as_bytes()]),
            }],
            output: vec![
                TxOut {
                    value: Amount::from_sat(sat),
                    script_pubkey: script,
                },
                TxOut {
                    value: Amount::from_sat(change_sat),
                    script_pubkey: anyone_can_spend().to_p2wsh(),
                },
            ],
        };
        state.faucet = OutPoint {
            txid: transaction.compute_txid(),
            vout: 1,
        };
        state.faucet_sat = change_sat;
        Ok(transaction)
    }

    /// Whether the transaction was broadcast (mined or not).
    pub(super) fn knows(&self, txid: &Txid) -> bool {
        self.lock().known.contains(txid)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding the lock; were it to, the worst is a block or transaction missing here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BroadcasterInterface for SimChain {
    fn broadcast_transactions(&self, transactions: &[&Transaction]) {
        let mut state = self.lock();
        for transaction in transactions {
            let txid = transaction.compute_txid();
            let double_spend = transaction
                .input
                .iter()
                .any(|i| state.spent.contains(&i.previous_output));
            if state.known.contains(&txid) || double_spend || state.mempool.len() >= MAX_MEMPOOL {
                continue;
            }
            state.known.insert(txid);
            state
                .spent
                .extend(transaction.input.iter().map(|input| input.previous_output));
            state.mempool.push((*transaction).clone());
        }
    }
}

/// Gossip about a channel is believed only if its funding output stands in the chain, as on the real network.
impl UtxoLookup for SimChain {
    fn get_utxo(&self, chain: &ChainHash, short_channel_id: u64) -> UtxoResult {
        if *chain != ChainHash::REGTEST {
            return UtxoResult::Sync(Err(UtxoLookupError::UnknownChain));
        }
        UtxoResult::Sync(
            self.unspent_output(short_channel_id)
                .ok_or(UtxoLookupError::UnknownTx),
        )
    }
}

impl SimChain {
    /// The unspent output at a short channel id: block height (3 bytes), transaction (3), output (2), as in BOLT 7.
    fn unspent_output(&self, short_channel_id: u64) -> Option<TxOut> {
        let height = usize::try_from(short_channel_id >> 40).ok()?;
        let index = usize::try_from((short_channel_id >> 16) & 0xff_ffff).ok()?;
        let vout = u32::try_from(short_channel_id & 0xffff).ok()?;
        let state = self.lock();
        let transaction = state.blocks.get(height)?.txdata.get(index)?;
        let outpoint = OutPoint {
            txid: transaction.compute_txid(),
            vout,
        };
        if state.spent.contains(&outpoint) {
            return None;
        }
        transaction.output.get(usize::try_from(vout).ok()?).cloned()
    }
}

/// `OP_TRUE`.
fn anyone_can_spend() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

fn coinbase(height: u32, sat: u64) -> Transaction {
    // The height makes it unique (BIP 34); the extra zero keeps low heights at the two bytes a coinbase needs.
    let script_sig = Builder::new()
        .push_int(i64::from(height))
        .push_int(0)
        .into_script();
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(sat),
            script_pubkey: anyone_can_spend().to_p2wsh(),
        }],
    }
}

fn sealed_block(previous: &Header, transactions: Vec<Transaction>, now: Duration) -> Block {
    // Lightning nodes take the time of day from blocks, so it must be recent and must not stand still.
    let time = u32::try_from(now.as_secs())
        .unwrap_or(u32::MAX)
        .max(previous.time.saturating_add(1));
    let header = Header {
        version: Version::TWO,
        prev_blockhash: previous.block_hash(),
        merkle_root: previous.merkle_root,
        time,
        bits: previous.bits,
        nonce: 0,
    };
    let mut block = Block {
        header,
        txdata: transactions,
    };
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
    // On regtest every second hash is good enough.
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_790_000_000);

    #[test]
    fn blocks_follow_one_another_with_work_and_rising_times() {
        let chain = SimChain::new(NOW);
        let before = chain.tip();
        let (one, height) = chain.mine(NOW);
        let (two, _) = chain.mine(NOW);
        assert_eq!(
            (one.header.prev_blockhash, height),
            (before.block_hash, before.height + 1)
        );
        assert_eq!(two.header.prev_blockhash, one.block_hash());
        assert!(two.header.time > one.header.time && u64::from(one.header.time) > NOW.as_secs());
        assert!(two.check_merkle_root() && two.header.validate_pow(two.header.target()).is_ok());
        assert_eq!(chain.tip(), BestBlock::new(two.block_hash(), height + 1));
    }

    #[test]
    fn a_broadcast_transaction_is_mined_once_and_its_output_is_found_by_place() {
        let chain = SimChain::new(NOW);
        let script = ScriptBuf::from_bytes(vec![0x52]).to_p2wsh();
        let payment = chain.draw_from_faucet(script.clone(), 100_000).unwrap();
        assert!(!chain.knows(&payment.compute_txid()), "made, not broadcast");
        chain.broadcast_transactions(&[&payment, &payment]);
        assert!(chain.knows(&payment.compute_txid()));
        let (block, height) = chain.mine(NOW);
        assert_eq!(block.txdata.len(), 2);
        let place = (u64::from(height) << 40) | (1 << 16);
        let found = chain.unspent_output(place).unwrap();
        assert_eq!((found.value.to_sat(), found.script_pubkey), (100_000, script));
        assert_eq!(chain.unspent_output(place + 2), None);
        chain.broadcast_transactions(&[&payment]);
        assert_eq!(chain.mine(NOW).0.txdata.len(), 1, "mined already");
    }

    #[test]
    fn nothing_is_spent_twice() {
        let chain = SimChain::new(NOW);
        let first = chain.draw_from_faucet(ScriptBuf::new(), 1).unwrap();
        let mut thief = first.clone();
        thief.output.truncate(1);
        chain.broadcast_transactions(&[&first, &thief]);
        assert!(chain.knows(&first.compute_txid()) && !chain.knows(&thief.compute_txid()));
    }

    #[test]
    fn the_faucet_runs_dry_with_a_named_error() {
        let chain = SimChain::new(NOW);
        chain.draw_from_faucet(ScriptBuf::new(), FAUCET_SAT - 1).unwrap();
        assert!(matches!(
            chain.draw_from_faucet(ScriptBuf::new(), 2),
            Err(DevnetError::FaucetEmpty {
                wanted_sat: 2,
                left_sat: 1
            })
        ));
    }
}
