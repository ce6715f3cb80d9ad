//! A stand-in for the Bitcoin chain, for the simulator only: one chain for everybody, whose blocks a test mines and takes
//! away as it likes. Only what payees ask about is there: who pays which script, in which block, and what was spent.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::chain::{
    ChainAnswer, ChainQuestion, CovenantFacts, FundingFacts, OutPoint, PaymentFacts, Place, Standing,
    TxOutput,
};

/// A transaction: what it spends and what it pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its name.
    pub txid: [u8; 32],
    /// What it spends.
    pub spends: Vec<OutPoint>,
    /// Its outputs.
    pub outputs: Vec<TxOutput>,
}

struct Block {
    name: [u8; 32],
    transactions: Vec<Transaction>,
}

/// The chain that everybody sees.
#[derive(Default)]
pub struct Chain {
    blocks: Vec<Block>,
    mempool: Vec<Transaction>,
    /// Transactions that were known once: a wallet forgets none.
    known: BTreeMap<[u8; 32], Transaction>,
    names_given: u64,
    /// What must be paid to be mined, in sats per 1,000 virtual bytes.
    pub fee_floor: u64,
    /// Whether it can be asked at all.
    pub is_down: bool,
    /// What was handed to the network by payees.
    pub broadcast: Vec<Vec<u8>>,
    /// How often it was asked something.
    pub asked: u64,
}

impl Chain {
    fn name(&mut self) -> [u8; 32] {
        self.names_given += 1;
        *blake3::hash(&self.names_given.to_be_bytes()).as_bytes()
    }

    /// Makes a transaction that pays these outputs, out of an input of its own, and leaves it unmined.
    pub fn pay(&mut self, outputs: Vec<TxOutput>) -> [u8; 32] {
        let coin = OutPoint {
            txid: self.name(),
            vout: 0,
        };
        self.spend(vec![coin], outputs)
    }

    /// Makes a transaction that spends these outputs and leaves it unmined; others that spend the same leave the mempool.
    pub fn spend(&mut self, spends: Vec<OutPoint>, outputs: Vec<TxOutput>) -> [u8; 32] {
        let txid = self.name();
        self.announce(Transaction {
            txid,
            spends,
            outputs,
        });
        txid
    }

    /// As [`Chain::spend`], for a transaction whose name is known.
    pub fn announce(&mut self, transaction: Transaction) {
        self.mempool.retain(|other| {
            !other
                .spends
                .iter()
                .any(|spent| transaction.spends.contains(spent))
        });
        self.known.insert(transaction.txid, transaction.clone());
        self.mempool.push(transaction);
    }

    /// What a transaction spends.
    pub fn spent_by(&self, txid: &[u8; 32]) -> Vec<OutPoint> {
        self.known
            .get(txid)
            .map(|transaction| transaction.spends.clone())
            .unwrap_or_default()
    }

    /// Mines what waits into one block, and so many empty ones upon it.
    pub fn mine(&mut self, blocks: usize) {
        for _ in 0..blocks {
            let name = self.name();
            let transactions = std::mem::take(&mut self.mempool);
            self.blocks.push(Block { name, transactions });
        }
    }

    /// Takes the newest blocks away; what was in them waits again.
    pub fn take_away(&mut self, blocks: usize) {
        let stay = self.blocks.len().saturating_sub(blocks);
        for block in self.blocks.split_off(stay) {
            self.mempool.extend(block.transactions);
        }
    }

    /// What waits to be mined never was.
    pub fn forget_waiting(&mut self) {
        self.mempool.clear();
    }

    fn place(&self, txid: &[u8; 32]) -> Option<Place> {
        let found = self.blocks.iter().position(|block| {
            block
                .transactions
                .iter()
                .any(|transaction| transaction.txid == *txid)
        })?;
        Some(Place {
            block: self.blocks[found].name,
            height: found as u32,
            depth: (self.blocks.len() - found) as u32,
        })
    }

    fn mined(&self) -> impl Iterator<Item = &Transaction> {
        self.blocks.iter().flat_map(|block| &block.transactions)
    }

    fn standing(&self, txid: &[u8; 32]) -> Standing {
        if let Some(place) = self.place(txid) {
            return Standing::Confirmed(place);
        }
        let spends: BTreeSet<OutPoint> = self.spent_by(txid).into_iter().collect();
        let replaced = self
            .mined()
            .any(|other| other.spends.iter().any(|spent| spends.contains(spent)));
        if replaced {
            Standing::Replaced
        } else {
            Standing::Unconfirmed
        }
    }

    fn output(&self, outpoint: &OutPoint) -> FundingFacts {
        let output = self
            .known
            .get(&outpoint.txid)
            .and_then(|transaction| transaction.outputs.get(outpoint.vout as usize));
        let spent = self.mined().any(|other| other.spends.contains(outpoint));
        match (output, self.place(&outpoint.txid)) {
            (Some(output), Some(place)) if !spent => FundingFacts::Unspent(output.clone(), place),
            (Some(_), None) if !spent => FundingFacts::Unconfirmed,
            _ => FundingFacts::Gone,
        }
    }

    /// Answers a payee's question.
    pub fn answer(&mut self, question: &ChainQuestion) -> ChainAnswer {
        self.asked += 1;
        use mesh_core::drop_reason::DropReason::ChainUnavailable;
        if self.is_down {
            return match question {
                ChainQuestion::FreshScript => ChainAnswer::Script(Err(ChainUnavailable)),
                ChainQuestion::Payment { .. } => ChainAnswer::Payment(Err(ChainUnavailable)),
                ChainQuestion::Covenant { .. } => ChainAnswer::Covenant(Err(ChainUnavailable)),
                ChainQuestion::Blocks { .. } => ChainAnswer::Blocks(Err(ChainUnavailable)),
                ChainQuestion::Broadcast { .. } => ChainAnswer::Broadcast(Err(ChainUnavailable)),
            };
        }
        match question {
            ChainQuestion::FreshScript => {
                let name = self.name();
                ChainAnswer::Script(Ok([&[0, 20], &name[..20]].concat()))
            }
            ChainQuestion::Payment { txid } => {
                let known = self.known.get(txid);
                ChainAnswer::Payment(Ok(PaymentFacts {
                    standing: self.standing(txid),
                    outputs: known
                        .map(|transaction| transaction.outputs.clone())
                        .unwrap_or_default(),
                }))
            }
            ChainQuestion::Covenant { funding, settling } => ChainAnswer::Covenant(Ok(CovenantFacts {
                funding: self.output(funding),
                settling: self.standing(settling),
                fee_floor: self.fee_floor,
            })),
            ChainQuestion::Blocks { blocks } => {
                let depth = |name: &[u8; 32]| {
                    let height = self.blocks.iter().position(|block| block.name == *name)?;
                    u32::try_from(self.blocks.len() - height).ok()
                };
                let tip = self.blocks.len().saturating_sub(1) as u32;
                ChainAnswer::Blocks(Ok((tip, blocks.iter().map(depth).collect())))
            }
            ChainQuestion::Broadcast { transaction } => {
                self.broadcast.push(transaction.clone());
                ChainAnswer::Broadcast(Ok(()))
            }
        }
    }
}
