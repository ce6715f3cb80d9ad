//! What a blvm-node is asked, and what its answers must be to be believed.
//!
//! The node is the operator's own and its chain is believed; what cannot be true of any chain is not: a transaction of
//! another name than was asked for, a negative amount, a height beyond all blocks. Such an answer is an error and nobody's
//! money.

use async_trait::async_trait;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, Sequence, TxMerkleNode, Txid, Witness};
use mesh_core::chain::{OutPoint, TxOutput};
use node_ipc::{Block, BlockHeader, Hash, NodeClient, Request, RequestError, Response, Transaction};

use super::super::{ChainError, Tip};

/// Who answers for the node. The client does; tests answer themselves.
#[async_trait]
pub trait Answers: std::fmt::Debug + Send + Sync {
    /// Asks one question.
    ///
    /// # Errors
    /// [`RequestError`].
    async fn ask(&self, request: Request) -> Result<Response, RequestError>;
}

#[async_trait]
impl Answers for NodeClient {
    async fn ask(&self, request: Request) -> Result<Response, RequestError> {
        self.request(request).await
    }
}

/// An unspent output and where it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coin {
    pub(super) output: TxOutput,
    pub(super) height: u32,
}

macro_rules! ask {
    ($node:expr, $request:expr, $answer:path) => {{
        let request = $request;
        let method = request.name();
        match $node.ask(request).await? {
            $answer(value) => Ok::<_, ChainError>(value),
            other => Err(malformed(method, format!("it answers with {}", other.name()))),
        }
    }};
}

/// The tip. The node tells hash and height one after the other; asked until they belong together.
pub(super) async fn tip(node: &dyn Answers) -> Result<Tip, ChainError> {
    let mut block = tip_block(node).await?;
    for _ in 0..super::ATTEMPTS {
        let height = ask!(node, Request::GetBlockHeight, Response::U64)?;
        let again = tip_block(node).await?;
        if again == block {
            let height = height_of("GetBlockHeight", height)?;
            return Ok(Tip { height, block });
        }
        block = again;
    }
    Err(ChainError::Restless)
}

pub(super) async fn tip_block(node: &dyn Answers) -> Result<Hash, ChainError> {
    ask!(node, Request::GetChainTip, Response::Hash)
}

/// The block before this one; none when the node does not know it.
pub(super) async fn parent(node: &dyn Answers, hash: Hash) -> Result<Option<Hash>, ChainError> {
    let header = ask!(node, Request::GetBlockHeader { hash }, Response::BlockHeader)?;
    let Some(header) = header else {
        return Ok(None);
    };
    if block_hash(&header) != hash {
        return Err(malformed(
            "GetBlockHeader",
            "it is the header of another block".to_owned(),
        ));
    }
    Ok(Some(header.prev_block_hash))
}

/// A block with its hash; none when the node keeps no such block.
pub(super) async fn block_at(node: &dyn Answers, height: u32) -> Result<Option<(Hash, Block)>, ChainError> {
    let height = u64::from(height);
    let block = ask!(
        node,
        Request::GetBlockByHeight { height },
        Response::BlockByHeight
    )?;
    Ok(block.map(|block| (block_hash(&block.header), block)))
}

/// Where the node's index has a transaction. It may be a block that is not in the best chain.
pub(super) async fn indexed_at(node: &dyn Answers, txid: Hash) -> Result<Option<(u32, Hash)>, ChainError> {
    let found = ask!(node, Request::GetTxMetadata { txid }, Response::TxMetadata)?;
    let Some(found) = found else {
        return Ok(None);
    };
    Ok(Some((
        height_of("GetTxMetadata", found.block_height)?,
        found.block_hash,
    )))
}

/// A transaction that the node's index knows, whether its block counts or not.
pub(super) async fn indexed(node: &dyn Answers, txid: Hash) -> Result<Option<Transaction>, ChainError> {
    let found = ask!(
        node,
        Request::GetTransaction { hash: txid },
        Response::Transaction
    )?;
    if found.as_ref().is_some_and(|found| id_of(found) != Some(txid)) {
        return Err(malformed(
            "GetTransaction",
            "it is another transaction".to_owned(),
        ));
    }
    Ok(found)
}

pub(super) async fn in_mempool(node: &dyn Answers, tx_hash: Hash) -> Result<bool, ChainError> {
    ask!(
        node,
        Request::CheckTransactionInMempool { tx_hash },
        Response::CheckTransactionInMempool
    )
}

/// An output in the node's table of unspent ones. That it is not there says something only if the table is kept: see
/// [`super::coins`].
pub(super) async fn coin(node: &dyn Answers, outpoint: OutPoint) -> Result<Option<Coin>, ChainError> {
    let outpoint = node_ipc::OutPoint {
        hash: outpoint.txid,
        index: outpoint.vout,
    };
    let found = ask!(node, Request::GetUtxo { outpoint }, Response::Utxo)?;
    let Some(found) = found else {
        return Ok(None);
    };
    let output = TxOutput {
        sats: sats_of("GetUtxo", found.value)?,
        script: found.script_pubkey,
    };
    let height = height_of("GetUtxo", found.height)?;
    Ok(Some(Coin { output, height }))
}

/// Whether the node knows a block.
pub(super) async fn knows_block(node: &dyn Answers, hash: Hash) -> Result<bool, ChainError> {
    let header = ask!(node, Request::GetBlockHeader { hash }, Response::BlockHeader)?;
    Ok(header.is_some())
}

/// Hands a transaction over; one that waits already is fine.
pub(super) async fn submit(node: &dyn Answers, transaction: &bitcoin::Transaction) -> Result<(), ChainError> {
    let witnesses = transaction
        .input
        .iter()
        .map(|input| input.witness.to_vec())
        .collect();
    let request = Request::SubmitMempoolTransaction {
        tx: as_the_node_has_it(transaction),
        witnesses: Some(witnesses),
    };
    ask!(node, request, Response::MempoolTransactionSubmitted).map(|_new| ())
}

/// The outputs of a transaction.
pub(super) fn outputs_of(transaction: &Transaction) -> Result<Vec<TxOutput>, ChainError> {
    let outputs = transaction.outputs.iter().map(|output| {
        Ok(TxOutput {
            sats: sats_of("GetTransaction", output.value)?,
            script: output.script_pubkey.clone(),
        })
    });
    outputs.collect()
}

/// A transaction's name; none when no transaction can be so.
pub fn id_of(transaction: &Transaction) -> Option<Hash> {
    let input = transaction.inputs.iter().map(|input| {
        Some(bitcoin::TxIn {
            previous_output: bitcoin::OutPoint {
                txid: Txid::from_byte_array(input.prevout.hash),
                vout: input.prevout.index,
            },
            script_sig: ScriptBuf::from_bytes(input.script_sig.clone()),
            sequence: Sequence(u32::try_from(input.sequence).ok()?),
            witness: Witness::new(),
        })
    });
    let output = transaction.outputs.iter().map(|output| {
        Some(bitcoin::TxOut {
            value: Amount::from_sat(u64::try_from(output.value).ok()?),
            script_pubkey: ScriptBuf::from_bytes(output.script_pubkey.clone()),
        })
    });
    let whole = bitcoin::Transaction {
        // Versions are 32 bits; whether with or without a sign the layout of 64 does not say.
        version: bitcoin::transaction::Version(low_32_bits(transaction.version).cast_signed()),
        lock_time: LockTime::from_consensus(u32::try_from(transaction.lock_time).ok()?),
        input: input.collect::<Option<_>>()?,
        output: output.collect::<Option<_>>()?,
    };
    Some(whole.compute_txid().to_byte_array())
}

fn as_the_node_has_it(transaction: &bitcoin::Transaction) -> Transaction {
    let inputs = transaction.input.iter().map(|input| node_ipc::TransactionInput {
        prevout: node_ipc::OutPoint {
            hash: input.previous_output.txid.to_byte_array(),
            index: input.previous_output.vout,
        },
        sequence: u64::from(input.sequence.0),
        script_sig: input.script_sig.to_bytes(),
    });
    let outputs = transaction
        .output
        .iter()
        .map(|output| node_ipc::TransactionOutput {
            value: i64::try_from(output.value.to_sat()).unwrap_or(i64::MAX),
            script_pubkey: output.script_pubkey.to_bytes(),
        });
    Transaction {
        version: u64::from(transaction.version.0.cast_unsigned()),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        lock_time: u64::from(transaction.lock_time.to_consensus_u32()),
    }
}

/// A block's hash from its header.
pub fn block_hash(header: &BlockHeader) -> Hash {
    let header = bitcoin::block::Header {
        version: bitcoin::block::Version::from_consensus(
            low_32_bits(header.version.cast_unsigned()).cast_signed(),
        ),
        prev_blockhash: BlockHash::from_byte_array(header.prev_block_hash),
        merkle_root: TxMerkleNode::from_byte_array(header.merkle_root),
        time: low_32_bits(header.timestamp),
        bits: CompactTarget::from_consensus(low_32_bits(header.bits)),
        nonce: low_32_bits(header.nonce),
    };
    header.block_hash().to_byte_array()
}

/// What of a 64-bit field travels on the network.
fn low_32_bits(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn height_of(method: &'static str, height: u64) -> Result<u32, ChainError> {
    u32::try_from(height).map_err(|_| malformed(method, format!("height {height} is beyond all blocks")))
}

fn sats_of(method: &'static str, value: i64) -> Result<u64, ChainError> {
    u64::try_from(value).map_err(|_| malformed(method, format!("an output of {value} sats")))
}

pub(super) fn malformed(method: &'static str, reason: String) -> ChainError {
    ChainError::NodeNonsense { method, reason }
}
