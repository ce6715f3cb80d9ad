//! Requests by name, with the answer's type.

use crate::chain::{
    Block, BlockHeader, FeeRateSummary, Hash, OutPoint, Transaction, TxMetadata, Utxo, Witness,
};
use crate::event::EventPayload;
use crate::info::{Metric, PeerInfo};
use crate::request::Request;
use crate::response::Response;

use super::NodeClient;
use super::error::RequestError;

macro_rules! call {
    ($client:expr, $request:expr, $($answer:pat => $value:expr),+) => {{
        let request = $request;
        let name = request.name();
        match $client.request(request).await? {
            $($answer => Ok($value),)+
            other => Err(RequestError::WrongAnswer { request: name, answer: other.name() }),
        }
    }};
}

/// Each fails as [`NodeClient::request`] does, or with [`RequestError::WrongAnswer`].
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl NodeClient {
    /// The tip's hash.
    pub async fn chain_tip(&self) -> Result<Hash, RequestError> {
        call!(self, Request::GetChainTip, Response::Hash(hash) => hash)
    }

    /// The tip's height.
    pub async fn block_height(&self) -> Result<u64, RequestError> {
        call!(self, Request::GetBlockHeight, Response::U64(height) => height)
    }

    /// A confirmed transaction; `None` if the node does not know it.
    pub async fn transaction(&self, hash: Hash) -> Result<Option<Transaction>, RequestError> {
        call!(self, Request::GetTransaction { hash }, Response::Transaction(transaction) => transaction)
    }

    /// Where a confirmed transaction is; `None` if it is not confirmed.
    pub async fn tx_metadata(&self, txid: Hash) -> Result<Option<TxMetadata>, RequestError> {
        call!(self, Request::GetTxMetadata { txid }, Response::TxMetadata(metadata) => metadata)
    }

    /// An unspent output; `None` if it is spent or never was.
    pub async fn utxo(&self, outpoint: OutPoint) -> Result<Option<Utxo>, RequestError> {
        call!(self, Request::GetUtxo { outpoint }, Response::Utxo(utxo) => utxo)
    }

    /// The block at a height; `None` above the tip.
    pub async fn block_by_height(&self, height: u64) -> Result<Option<Block>, RequestError> {
        call!(self, Request::GetBlockByHeight { height }, Response::BlockByHeight(block) => block)
    }

    /// A block's header; `None` for an unknown block.
    pub async fn block_header(&self, hash: Hash) -> Result<Option<BlockHeader>, RequestError> {
        call!(self, Request::GetBlockHeader { hash }, Response::BlockHeader(header) => header)
    }

    /// The peers of the node's own network.
    pub async fn network_peers(&self) -> Result<Vec<PeerInfo>, RequestError> {
        call!(self, Request::GetNetworkPeers, Response::NetworkPeers(peers) => peers)
    }

    /// The fee rate, in satoshis per virtual byte, to be confirmed within so many blocks.
    pub async fn fee_estimate(&self, target_blocks: u32) -> Result<u64, RequestError> {
        call!(self, Request::GetFeeEstimate { target_blocks }, Response::FeeEstimate(rate) => rate)
    }

    /// The mempool's fee rates.
    pub async fn mempool_fee_rates(&self) -> Result<FeeRateSummary, RequestError> {
        call!(self, Request::GetMempoolFeeRateSummary, Response::MempoolFeeRateSummary(summary) => summary)
    }

    /// Calls a method of another module, or of whichever has it; its answer's bytes. May take a minute.
    pub async fn call_module(
        &self,
        target: Option<&str>,
        method: &str,
        params: Vec<u8>,
    ) -> Result<Vec<u8>, RequestError> {
        let request = Request::CallModule {
            target: target.map(str::to_owned),
            method: method.to_owned(),
            params,
        };
        call!(self, request, Response::ModuleApiResponse(answer) => answer)
    }

    /// Whether a module is loaded and runs.
    ///
    /// Not for modules that run beside others: asked while it loads, unloads or reloads a module, however long that takes,
    /// the node (0.1.83, repaired or not) waits for the lock which that holds, keeping one that it needs next, and answers
    /// no module any more.
    pub async fn is_module_available(&self, module: &str) -> Result<bool, RequestError> {
        let request = Request::IsModuleAvailable {
            module_id: module.to_owned(),
        };
        call!(self, request, Response::ModuleAvailable(available) => available)
    }

    /// Tells all modules that subscribed to this kind of event.
    pub async fn publish(&self, payload: EventPayload) -> Result<(), RequestError> {
        call!(self, Request::PublishEvent { payload }, Response::EventPublished => ())
    }

    /// A number for whoever watches the node.
    pub async fn report_metric(&self, metric: Metric) -> Result<(), RequestError> {
        call!(self, Request::ReportMetric { metric }, Response::MetricReported => ())
    }

    /// Sends bytes to a peer of the node's own network. That the node took them does not say that they arrive.
    pub async fn send_mesh_packet(&self, peer_addr: &str, packet_data: Vec<u8>) -> Result<(), RequestError> {
        let request = Request::SendMeshPacketToPeer {
            peer_addr: peer_addr.to_owned(),
            packet_data,
        };
        call!(self, request, Response::Bool(_) => ())
    }

    /// Puts a transaction into the mempool; `false` if it was there already.
    pub async fn submit_transaction(
        &self,
        tx: Transaction,
        witnesses: Option<Vec<Witness>>,
    ) -> Result<bool, RequestError> {
        let request = Request::SubmitMempoolTransaction { tx, witnesses };
        call!(self, request, Response::MempoolTransactionSubmitted(added) => added)
    }
}
