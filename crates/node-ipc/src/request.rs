//! What a module asks of its node.

use crate::chain::{Hash, OutPoint, Transaction, Witness};
use crate::codec::{DecodeError, Reader, Wire, choice};
use crate::event::EventPayload;
use crate::event_kind::EventKind;
use crate::info::{Metric, ModuleHealth};
use crate::invocation::CliSpec;

choice! {
    /// A request. The node checks the permission for each; see its manifest's `capabilities`.
    pub enum Request as "request" {
        /// Who we are: the first message of every connection. Permissions are looked up by `module_id`.
        0 => Handshake { module_id: String, module_name: String, version: String },
        /// A block by its hash.
        1 => GetBlock { hash: Hash },
        /// A header by its block's hash.
        2 => GetBlockHeader { hash: Hash },
        /// A confirmed transaction.
        3 => GetTransaction { hash: Hash },
        /// Whether a transaction is known.
        4 => HasTransaction { hash: Hash },
        /// The tip's hash.
        5 => GetChainTip,
        /// The tip's height.
        6 => GetBlockHeight,
        /// An unspent output.
        7 => GetUtxo { outpoint: OutPoint },
        /// Tell us of these from now on, in place of what we asked for before.
        8 => SubscribeEvents { event_types: Vec<EventKind> },
        /// A transaction of the mempool.
        10 => GetMempoolTransaction { tx_hash: Hash },
        /// The mempool in numbers.
        11 => GetMempoolSize,
        /// The network in numbers.
        12 => GetNetworkStats,
        /// The node's peers.
        13 => GetNetworkPeers,
        /// The chain in numbers.
        14 => GetChainInfo,
        /// A block by its height.
        15 => GetBlockByHeight { height: u64 },
        /// Whether the mempool has a transaction.
        20 => CheckTransactionInMempool { tx_hash: Hash },
        /// The fee rate to be confirmed within so many blocks.
        21 => GetFeeEstimate { target_blocks: u32 },
        /// Give us calls of this JSON-RPC method.
        28 => RegisterRpcEndpoint { method: String, description: String },
        /// No longer.
        29 => UnregisterRpcEndpoint { method: String },
        /// A number for whoever watches the node.
        35 => ReportMetric { metric: Metric },
        /// The loaded modules.
        38 => DiscoverModules,
        /// One loaded module.
        39 => GetModuleInfo { module_id: String },
        /// Whether a module runs.
        40 => IsModuleAvailable { module_id: String },
        /// Tell the other modules.
        41 => PublishEvent { payload: EventPayload },
        /// Call a method of another module; of any that has it, without a target.
        42 => CallModule { target: Option<String>, method: String, params: Vec<u8> },
        /// Give us other modules' calls of these methods.
        43 => RegisterModuleApi { methods: Vec<String>, api_version: u32 },
        /// No longer.
        44 => UnregisterModuleApi,
        /// How we are.
        47 => ReportModuleHealth { health: ModuleHealth },
        /// Send bytes to a peer of the node's own network.
        48 => SendMeshPacketToPeer { peer_addr: String, packet_data: Vec<u8> },
        /// How far the node has caught up.
        61 => GetSyncStatus,
        /// Give us these commands of the node's command line.
        64 => RegisterCliSpec { spec: CliSpec },
        /// Put a transaction into the mempool; one that is there already is no error.
        67 => SubmitMempoolTransaction { tx: Transaction, witnesses: Option<Vec<Witness>> },
        /// Where a confirmed transaction is.
        68 => GetTxMetadata { txid: Hash },
        /// The mempool's fee rates.
        69 => GetMempoolFeeRateSummary,
    }
}

/// A request carries its kind twice: once as the number of its contents, and before it as a number of the node's list of message
/// types, which has the same names in almost the same order.
fn message_type(contents: u32) -> u32 {
    const HANDSHAKE: u32 = 8;
    match contents {
        0 => HANDSHAKE,
        1..=8 => contents - 1,
        9..=64 => contents,
        _ => contents + 6,
    }
}

impl Request {
    /// The message type a node expects before the contents.
    pub fn message_type(&self) -> u32 {
        message_type(self.number())
    }

    /// Message type and contents, as they follow the correlation id.
    pub(crate) fn put_typed(&self, out: &mut Vec<u8>) {
        self.message_type().put(out);
        match self {
            // The one request whose contents name something twice: an event's kind, then its contents.
            Self::PublishEvent { payload } => {
                self.number().put(out);
                payload.kind().put(out);
                payload.put(out);
            }
            other => other.put(out),
        }
    }

    pub(crate) fn take_typed(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const PUBLISH_EVENT: u32 = 41;
        let _message_type = u32::take(input)?;
        let mut ahead = input.clone();
        if u32::take(&mut ahead)? != PUBLISH_EVENT {
            return Self::take(input);
        }
        let kind = EventKind::take(&mut ahead)?;
        let payload = EventPayload::take(&mut ahead)?;
        *input = ahead;
        if payload.kind() != kind {
            return Err(DecodeError::WrongPayload {
                kind: kind.number(),
                payload: payload.kind().number(),
            });
        }
        Ok(Self::PublishEvent { payload })
    }
}
