//! A blvm-node's chain as modules see it, with the ways in which the real one's answers are less than they seem.
#![allow(dead_code)] // the tests in src/chain/node and those over a socket use their parts

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::asking::{Answers, block_hash, id_of};
use async_trait::async_trait;
use bitcoin::Network;
use bitcoin::blockdata::constants::genesis_block;
use bitcoin::hashes::Hash as _;
use node_ipc::{
    Block, BlockHeader, Hash, OutPoint, Request, RequestError, Response, Transaction, TransactionInput,
    TransactionOutput, TxMetadata, Utxo,
};

/// What can be wrong with a node.
#[derive(Debug, Default)]
pub(crate) struct Flaws {
    /// New blocks' transactions are not indexed: they came while it caught up.
    pub(crate) no_index: bool,
    /// Its unspent outputs are where no module finds them.
    pub(crate) no_coins: bool,
    /// Bodies below this height are not kept.
    pub(crate) pruned_below: u32,
    /// No answers.
    pub(crate) silent: bool,
    /// Transactions, and unspent outputs, are told with this value.
    pub(crate) lying_value: Option<i64>,
    /// The tip changes at every question.
    pub(crate) restless: bool,
    /// What happens to the chain, once, as this is asked.
    pub(crate) meanwhile: Option<Meanwhile>,
    /// How often blocks' bodies were asked for.
    pub(crate) bodies_asked: u32,
    /// How often anything was.
    pub(crate) asked: u32,
}

/// Which question, and what happens.
type Meanwhile = (&'static str, fn(&FakeChain));

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<Hash, Block>,
    active: Vec<Hash>,
    index: HashMap<Hash, (Transaction, TxMetadata)>,
    mempool: HashSet<Hash>,
    submitted: Vec<Transaction>,
    blocks_made: u32,
}

/// The node.
#[derive(Debug, Default)]
pub(crate) struct FakeChain {
    state: Mutex<State>,
    pub(crate) flaws: Mutex<Flaws>,
}

/// A transaction that spends these and pays this script.
pub(crate) fn paying(spent: &[(Hash, u32)], script: &[u8], sats: i64) -> Transaction {
    let inputs = spent.iter().map(|(hash, index)| TransactionInput {
        prevout: OutPoint {
            hash: *hash,
            index: *index,
        },
        sequence: 0xffff_fffd,
        script_sig: Vec::new(),
    });
    Transaction {
        version: 2,
        inputs: inputs.collect(),
        outputs: vec![TransactionOutput {
            value: sats,
            script_pubkey: script.to_vec(),
        }],
        lock_time: 0,
    }
}

pub(crate) fn id(transaction: &Transaction) -> Hash {
    id_of(transaction).unwrap()
}

impl FakeChain {
    /// A regression-test chain of so many blocks above the first.
    pub(crate) fn new(blocks: usize) -> Self {
        let first = genesis_block(Network::Regtest).header;
        let header = BlockHeader {
            version: i64::from(first.version.to_consensus()),
            prev_block_hash: [0; 32],
            merkle_root: first.merkle_root.to_byte_array(),
            timestamp: u64::from(first.time),
            bits: u64::from(first.bits.to_consensus()),
            nonce: u64::from(first.nonce),
        };
        let hash = block_hash(&header);
        let chain = Self::default();
        {
            let mut state = chain.state.lock().unwrap();
            state.blocks.insert(
                hash,
                Block {
                    header,
                    transactions: Vec::new(),
                },
            );
            state.active.push(hash);
        }
        for _ in 0..blocks {
            chain.mine(&[]);
        }
        chain
    }

    pub(crate) fn flaw(&self, change: impl FnOnce(&mut Flaws)) {
        change(&mut self.flaws.lock().unwrap());
    }

    pub(crate) fn tip(&self) -> (u32, Hash) {
        let state = self.state.lock().unwrap();
        (
            u32::try_from(state.active.len() - 1).unwrap(),
            *state.active.last().unwrap(),
        )
    }

    /// The coinbase of a block in the best chain: money to spend.
    pub(crate) fn coinbase(&self, height: usize) -> (Hash, u32) {
        let state = self.state.lock().unwrap();
        (id(&state.blocks[&state.active[height]].transactions[0]), 0)
    }

    /// A block on the tip.
    pub(crate) fn mine(&self, transactions: &[Transaction]) -> Hash {
        let (height, tip) = self.tip();
        let hash = self.store(tip, height + 1, transactions);
        self.state.lock().unwrap().active.push(hash);
        hash
    }

    /// A block beside the one at this height, as it arrives when somebody else found one: stored and indexed, and not in
    /// the best chain.
    pub(crate) fn beside(&self, height: u32, transactions: &[Transaction]) -> Hash {
        let below = self.state.lock().unwrap().active[height as usize - 1];
        self.store(below, height, transactions)
    }

    /// Takes the best chain back to this height.
    pub(crate) fn disconnect_to(&self, height: u32) {
        self.state.lock().unwrap().active.truncate(height as usize + 1);
    }

    pub(crate) fn wait_in_mempool(&self, transaction: &Transaction) {
        self.state.lock().unwrap().mempool.insert(id(transaction));
    }

    pub(crate) fn submitted(&self) -> Vec<Transaction> {
        self.state.lock().unwrap().submitted.clone()
    }

    fn store(&self, below: Hash, height: u32, transactions: &[Transaction]) -> Hash {
        let no_index = self.flaws.lock().unwrap().no_index;
        let mut state = self.state.lock().unwrap();
        state.blocks_made += 1;
        let mut coinbase = paying(&[([0; 32], u32::MAX)], &[0x51], 5_000_000_000);
        coinbase.lock_time = u64::from(state.blocks_made);
        let mut all = vec![coinbase];
        all.extend_from_slice(transactions);
        let header = BlockHeader {
            version: 0x2000_0000,
            prev_block_hash: below,
            merkle_root: [3; 32],
            timestamp: 1_700_000_000 + u64::from(height),
            bits: 0x207f_ffff,
            nonce: u64::from(state.blocks_made),
        };
        let hash = block_hash(&header);
        for transaction in all.iter().filter(|_| !no_index) {
            let metadata = TxMetadata {
                block_hash: hash,
                block_height: u64::from(height),
            };
            state
                .index
                .insert(id(transaction), (transaction.clone(), metadata));
        }
        state.blocks.insert(
            hash,
            Block {
                header,
                transactions: all,
            },
        );
        hash
    }

    /// The node's answer; none to what is no question about the chain.
    pub(crate) fn reply(&self, request: &Request) -> Option<Response> {
        {
            let mut flaws = self.flaws.lock().unwrap();
            flaws.asked += 1;
            if matches!(request, Request::GetBlockByHeight { .. }) {
                flaws.bodies_asked += 1;
            }
        }
        if self.flaws.lock().unwrap().restless {
            self.mine(&[]);
        }
        let answer = self.answer(request);
        let due = {
            let mut flaws = self.flaws.lock().unwrap();
            flaws.meanwhile.take_if(|(name, _)| *name == request.name())
        };
        if let Some((_, happen)) = due {
            happen(self);
        }
        if let Request::SubmitMempoolTransaction { tx, .. } = &request {
            self.state.lock().unwrap().submitted.push(tx.clone());
            return Some(Response::MempoolTransactionSubmitted(true));
        }
        answer
    }

    fn answer(&self, request: &Request) -> Option<Response> {
        let flaws = self.flaws.lock().unwrap();
        let state = self.state.lock().unwrap();
        let lie = |mut transaction: Transaction| {
            if let Some(value) = flaws.lying_value {
                transaction.outputs[0].value = value;
            }
            transaction
        };
        Some(match request {
            Request::GetChainTip => Response::Hash(*state.active.last().unwrap()),
            Request::GetBlockHeight => Response::U64(state.active.len() as u64 - 1),
            Request::GetBlockHeader { hash } => {
                Response::BlockHeader(state.blocks.get(hash).map(|block| block.header.clone()))
            }
            Request::GetBlockByHeight { height } => {
                let kept = *height >= u64::from(flaws.pruned_below);
                let hash = state.active.get(usize::try_from(*height).unwrap());
                Response::BlockByHeight(hash.filter(|_| kept).map(|hash| state.blocks[hash].clone()))
            }
            Request::GetTransaction { hash } => Response::Transaction(
                state
                    .index
                    .get(hash)
                    .map(|(transaction, _)| lie(transaction.clone())),
            ),
            Request::GetTxMetadata { txid } => {
                Response::TxMetadata(state.index.get(txid).map(|(_, metadata)| metadata.clone()))
            }
            Request::GetUtxo { outpoint } => {
                let coin = unspent(&state, outpoint).filter(|_| !flaws.no_coins);
                Response::Utxo(coin.map(|mut coin| {
                    coin.value = flaws.lying_value.unwrap_or(coin.value);
                    coin
                }))
            }
            Request::CheckTransactionInMempool { tx_hash } => {
                Response::CheckTransactionInMempool(state.mempool.contains(tx_hash))
            }
            _ => return None,
        })
    }
}

fn unspent(state: &State, outpoint: &OutPoint) -> Option<Utxo> {
    let bodies = state.active.iter().map(|hash| &state.blocks[hash]);
    let mut found = None;
    for (height, block) in bodies.enumerate() {
        for transaction in &block.transactions {
            if transaction.inputs.iter().any(|input| input.prevout == *outpoint) {
                found = None;
            }
            if id(transaction) == outpoint.hash {
                let output = transaction.outputs.get(outpoint.index as usize)?;
                found = Some(Utxo {
                    value: output.value,
                    script_pubkey: output.script_pubkey.clone(),
                    height: height as u64,
                    is_coinbase: false,
                });
            }
        }
    }
    found
}

#[async_trait]
impl Answers for FakeChain {
    async fn ask(&self, request: Request) -> Result<Response, RequestError> {
        if self.flaws.lock().unwrap().silent {
            return Err(RequestError::NotConnected);
        }
        let refused = RequestError::Refused {
            request: request.name(),
            reason: "a node refuses this".to_owned(),
        };
        self.reply(&request).ok_or(refused)
    }
}
