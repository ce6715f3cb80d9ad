//! What a node answers.

use crate::chain::{
    Block, BlockHeader, ChainInfo, FeeRateSummary, Hash, MempoolSize, SyncStatus, Transaction, TxMetadata,
    Utxo,
};
use crate::codec::choice;
use crate::info::{ModuleInfo, NetworkStats, PeerInfo};

choice! {
    /// An answer to a request.
    pub enum Response as "response" {
        /// The node knows who we are.
        0 => HandshakeAck { node_version: String },
        /// To `GetBlock`.
        1 => Block(block: Option<Block>),
        /// To `GetBlockHeader`.
        2 => BlockHeader(header: Option<BlockHeader>),
        /// To `GetTransaction`.
        3 => Transaction(transaction: Option<Transaction>),
        /// To `HasTransaction`, `SendMeshPacketToPeer` and `RegisterCliSpec`.
        4 => Bool(value: bool),
        /// To `GetChainTip`.
        5 => Hash(hash: Hash),
        /// To `GetBlockHeight`.
        6 => U64(value: u64),
        /// To `GetUtxo`.
        7 => Utxo(utxo: Option<Utxo>),
        /// To `SubscribeEvents`.
        8 => SubscribeAck,
        /// To `GetMempoolTransaction`.
        10 => MempoolTransaction(transaction: Option<Transaction>),
        /// To `GetMempoolSize`.
        11 => MempoolSize(size: MempoolSize),
        /// To `GetNetworkStats`.
        12 => NetworkStats(stats: NetworkStats),
        /// To `GetNetworkPeers`.
        13 => NetworkPeers(peers: Vec<PeerInfo>),
        /// To `GetChainInfo`.
        14 => ChainInfo(info: ChainInfo),
        /// To `GetBlockByHeight`.
        15 => BlockByHeight(block: Option<Block>),
        /// To `CheckTransactionInMempool`.
        20 => CheckTransactionInMempool(there: bool),
        /// To `GetFeeEstimate`: satoshis per virtual byte.
        21 => FeeEstimate(rate: u64),
        /// To `RegisterRpcEndpoint`.
        25 => RpcEndpointRegistered,
        /// To `UnregisterRpcEndpoint`.
        26 => RpcEndpointUnregistered,
        /// To `ReportMetric`.
        33 => MetricReported,
        /// To `DiscoverModules`.
        36 => ModuleList(modules: Vec<ModuleInfo>),
        /// To `GetModuleInfo`.
        37 => ModuleInfo(info: Option<ModuleInfo>),
        /// To `IsModuleAvailable`.
        38 => ModuleAvailable(available: bool),
        /// To `PublishEvent`.
        39 => EventPublished,
        /// To `CallModule`: what the other module answered.
        40 => ModuleApiResponse(answer: Vec<u8>),
        /// To `RegisterModuleApi`.
        41 => ModuleApiRegistered,
        /// To `UnregisterModuleApi`.
        42 => ModuleApiUnregistered,
        /// To `ReportModuleHealth`.
        45 => HealthReported,
        /// To `GetSyncStatus`.
        53 => NodeSyncStatus(status: SyncStatus),
        /// To `SubmitMempoolTransaction`: whether it is new.
        54 => MempoolTransactionSubmitted(added: bool),
        /// To `GetTxMetadata`.
        55 => TxMetadata(metadata: Option<TxMetadata>),
        /// To `GetMempoolFeeRateSummary`.
        56 => MempoolFeeRateSummary(summary: FeeRateSummary),
    }
}
