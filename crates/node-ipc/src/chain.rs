//! What a node tells of its chain.

use crate::codec::record;

/// A block's or a transaction's hash in internal byte order: the reverse of what people read.
pub type Hash = [u8; 32];

/// Elements of one input's witness.
pub type Witness = Vec<Vec<u8>>;

record! {
    /// An output of a transaction, named.
    #[derive(Eq, Hash)]
    pub struct OutPoint {
        /// The transaction.
        pub hash: Hash,
        /// Which of its outputs.
        pub index: u32,
    }
}

record! {
    /// An input.
    #[derive(Eq)]
    pub struct TransactionInput {
        /// The output it spends.
        pub prevout: OutPoint,
        /// The sequence number, 32 bits wide although the layout has 64.
        pub sequence: u64,
        /// The unlocking script.
        pub script_sig: Vec<u8>,
    }
}

record! {
    /// An output.
    #[derive(Eq)]
    pub struct TransactionOutput {
        /// Value in satoshis.
        pub value: i64,
        /// The locking script.
        pub script_pubkey: Vec<u8>,
    }
}

record! {
    /// A transaction without its witnesses.
    #[derive(Eq)]
    pub struct Transaction {
        /// The version, 32 bits wide although the layout has 64.
        pub version: u64,
        /// What it spends.
        pub inputs: Vec<TransactionInput>,
        /// What it pays.
        pub outputs: Vec<TransactionOutput>,
        /// The lock time, 32 bits wide although the layout has 64.
        pub lock_time: u64,
    }
}

record! {
    /// A block's header.
    #[derive(Eq)]
    pub struct BlockHeader {
        /// The version.
        pub version: i64,
        /// The block before.
        pub prev_block_hash: Hash,
        /// The root over its transactions.
        pub merkle_root: Hash,
        /// Seconds since 1970.
        pub timestamp: u64,
        /// The target, compact.
        pub bits: u64,
        /// The nonce.
        pub nonce: u64,
    }
}

record! {
    /// A block without witnesses.
    #[derive(Eq)]
    pub struct Block {
        /// Its header.
        pub header: BlockHeader,
        /// Its transactions, the coinbase first.
        pub transactions: Vec<Transaction>,
    }
}

record! {
    /// An unspent output.
    #[derive(Eq)]
    pub struct Utxo {
        /// Value in satoshis.
        pub value: i64,
        /// The locking script.
        pub script_pubkey: Vec<u8>,
        /// The height of the block that made it.
        pub height: u64,
        /// Whether a coinbase made it.
        pub is_coinbase: bool,
    }
}

record! {
    /// Where a confirmed transaction is.
    #[derive(Eq)]
    pub struct TxMetadata {
        /// The block.
        pub block_hash: Hash,
        /// The block's height.
        pub block_height: u64,
    }
}

record! {
    /// The chain in a few numbers.
    pub struct ChainInfo {
        /// The tip's hash.
        pub tip_hash: Hash,
        /// The tip's height.
        pub height: u64,
        /// The difficulty.
        pub difficulty: f64,
        /// Work, as much of it as 64 bits hold.
        pub chain_work: u64,
        /// Whether the node thinks it has caught up.
        pub is_synced: bool,
    }
}

record! {
    /// How far the node has caught up.
    pub struct SyncStatus {
        /// The phase's name.
        pub phase: String,
        /// From 0 to 1.
        pub progress: f64,
        /// Whether it is done.
        pub is_synced: bool,
        /// What went wrong.
        pub error_message: Option<String>,
    }
}

record! {
    /// Fee rates of the mempool in satoshis per virtual byte; zeros for an empty one.
    #[derive(Eq)]
    pub struct FeeRateSummary {
        /// How many rates were looked at.
        pub sample_count: u64,
        /// Their average.
        pub avg_sat_vb: u64,
        /// Their median.
        pub median_sat_vb: u64,
    }
}

record! {
    /// The mempool in a few numbers.
    #[derive(Eq)]
    pub struct MempoolSize {
        /// Transactions.
        pub transaction_count: u64,
        /// Bytes.
        pub size_bytes: u64,
        /// Fees in satoshis.
        pub total_fee_sats: u64,
    }
}
