use std::collections::BTreeSet;

use blvm_node::module::ipc::protocol::{ModuleMessage, ResponseMessage, ResponsePayload};
use blvm_node::module::traits::{
    ChainInfo as TheirChainInfo, MempoolFeeRateSummary, MempoolSize as TheirMempoolSize,
    ModuleInfo as TheirModuleInfo, ModuleState as TheirState, NetworkStats as TheirStats,
    PeerInfo as TheirPeer, SyncStatus as TheirStatus, TxBlockMetadata,
};
use node_ipc::message::{Decoded, decode, encode};
use node_ipc::{
    Block, BlockHeader, ChainInfo, DecodeError, FeeRateSummary, MempoolSize, Message, ModuleInfo,
    ModuleState, NetworkStats, PeerInfo, Response, SyncStatus, TxMetadata, Utxo,
};

use super::requests::{their_transaction, transaction};
use super::{hash, same, text};

/// A response whose contents both sides call alike.
macro_rules! alike {
    ($name:ident $(($value:expr))? $({ $($field:ident: $inner:expr),* })?) => {
        (
            Response::$name $(($value))? $({ $($field: $inner),* })?,
            ResponsePayload::$name $(($value))? $({ $($field: $inner),* })?,
        )
    };
}

#[test]
fn every_response() {
    let mut tested = BTreeSet::new();
    for (ours, theirs) in alike().into_iter().chain(chain()).chain(others()) {
        tested.insert(ours.number());
        same(
            &Message::Response(7, Ok(ours)),
            &ModuleMessage::Response(ResponseMessage::success(7, theirs)),
        );
    }
    assert_eq!(
        tested,
        BTreeSet::from_iter(Response::NUMBERS.iter().copied()),
        "a response is not tested"
    );
}

#[test]
fn a_refusal() {
    let refused = Message::Response(7, Err(text("Permission denied: no")));
    same(
        &refused,
        &ModuleMessage::Response(ResponseMessage::error(7, text("Permission denied: no"))),
    );
}

#[test]
fn an_answer_we_do_not_know_says_whose_it_is() {
    let theirs = ResponseMessage::success(7, ResponsePayload::FileData(vec![1, 2, 3]));
    let bytes = bincode::serialize(&ModuleMessage::Response(theirs)).unwrap();
    let unknown = DecodeError::UnknownNumber {
        what: "response",
        number: 22,
    };
    assert_eq!(decode(&bytes), Ok(Decoded::UnreadableResponse(7, unknown)));
}

#[test]
fn fields_that_a_newer_node_appends_do_not_matter() {
    let ours = Message::Response(7, Ok(Response::U64(9)));
    let mut longer = encode(&ours);
    longer.extend_from_slice(&[1, 2, 3]);
    assert_eq!(decode(&longer), Ok(Decoded::Known(ours)));
}

fn alike() -> Vec<(Response, ResponsePayload)> {
    vec![
        alike!(HandshakeAck {
            node_version: text("0.1.83")
        }),
        alike!(Block(None)),
        alike!(BlockHeader(None)),
        alike!(Transaction(None)),
        alike!(Bool(true)),
        alike!(Bool(false)),
        alike!(Hash(hash(1))),
        alike!(U64(u64::MAX)),
        alike!(Utxo(None)),
        alike!(SubscribeAck),
        alike!(MempoolTransaction(None)),
        alike!(NetworkPeers(Vec::new())),
        alike!(BlockByHeight(None)),
        alike!(CheckTransactionInMempool(true)),
        alike!(FeeEstimate(12)),
        alike!(RpcEndpointRegistered),
        alike!(RpcEndpointUnregistered),
        alike!(MetricReported),
        alike!(ModuleInfo(None)),
        alike!(ModuleAvailable(true)),
        alike!(EventPublished),
        alike!(ModuleApiResponse(vec![1, 2, 3])),
        alike!(ModuleApiRegistered),
        alike!(ModuleApiUnregistered),
        alike!(HealthReported),
        alike!(MempoolTransactionSubmitted(false)),
        alike!(TxMetadata(None)),
    ]
}

fn chain() -> Vec<(Response, ResponsePayload)> {
    let header = BlockHeader {
        version: -1,
        prev_block_hash: hash(1),
        merkle_root: hash(2),
        timestamp: 1_700_000_000,
        bits: 0x207f_ffff,
        nonce: 5,
    };
    let their_header = || blvm_node::BlockHeader {
        version: -1,
        prev_block_hash: hash(1),
        merkle_root: hash(2),
        timestamp: 1_700_000_000,
        bits: 0x207f_ffff,
        nonce: 5,
    };
    let block = Block {
        header: header.clone(),
        transactions: vec![transaction(), transaction()],
    };
    let their_block = || {
        blvm_node::Block::from_parts(
            their_header(),
            vec![their_transaction(), their_transaction()].into(),
        )
    };
    let utxo = |script: Vec<u8>| {
        (
            Response::Utxo(Some(Utxo {
                value: 5,
                script_pubkey: script.clone(),
                height: 6,
                is_coinbase: true,
            })),
            ResponsePayload::Utxo(Some(blvm_node::UTXO {
                value: 5,
                script_pubkey: script.into(),
                height: 6,
                is_coinbase: true,
            })),
        )
    };
    vec![
        (
            Response::Block(Some(block.clone())),
            ResponsePayload::Block(Some(their_block())),
        ),
        (
            Response::BlockByHeight(Some(block)),
            ResponsePayload::BlockByHeight(Some(their_block())),
        ),
        (
            Response::BlockHeader(Some(header)),
            ResponsePayload::BlockHeader(Some(their_header())),
        ),
        (
            Response::Transaction(Some(transaction())),
            ResponsePayload::Transaction(Some(their_transaction())),
        ),
        (
            Response::MempoolTransaction(Some(transaction())),
            ResponsePayload::MempoolTransaction(Some(their_transaction())),
        ),
        // The node keeps short scripts otherwise than long ones.
        utxo(vec![1; 22]),
        utxo(vec![2; 34]),
        (
            Response::TxMetadata(Some(TxMetadata {
                block_hash: hash(3),
                block_height: 9,
            })),
            ResponsePayload::TxMetadata(Some(TxBlockMetadata {
                block_hash: hash(3),
                block_height: 9,
            })),
        ),
        (
            Response::ChainInfo(ChainInfo {
                tip_hash: hash(4),
                height: 8,
                difficulty: 1.5,
                chain_work: 10,
                is_synced: true,
            }),
            ResponsePayload::ChainInfo(TheirChainInfo {
                tip_hash: hash(4),
                height: 8,
                difficulty: 1.5,
                chain_work: 10,
                is_synced: true,
            }),
        ),
        (
            Response::NodeSyncStatus(SyncStatus {
                phase: text("Blocks"),
                progress: 0.25,
                is_synced: false,
                error_message: Some(text("slow")),
            }),
            ResponsePayload::NodeSyncStatus(TheirStatus {
                phase: text("Blocks"),
                progress: 0.25,
                is_synced: false,
                error_message: Some(text("slow")),
            }),
        ),
    ]
}

fn others() -> Vec<(Response, ResponsePayload)> {
    let states = [
        (ModuleState::Stopped, TheirState::Stopped),
        (ModuleState::Initializing, TheirState::Initializing),
        (ModuleState::Running, TheirState::Running),
        (ModuleState::Stopping, TheirState::Stopping),
        (ModuleState::Error(text("why")), TheirState::Error(text("why"))),
    ];
    let (modules, their_modules): (Vec<_>, Vec<_>) = states
        .into_iter()
        .map(|(status, their_status)| {
            (
                ModuleInfo {
                    module_id: text("chat_1"),
                    module_name: text("chat"),
                    version: text("1.0.0"),
                    capabilities: vec![text("call_module")],
                    status,
                    api_version: 3,
                },
                TheirModuleInfo {
                    module_id: text("chat_1"),
                    module_name: text("chat"),
                    version: text("1.0.0"),
                    capabilities: vec![text("call_module")],
                    status: their_status,
                    api_version: 3,
                },
            )
        })
        .unzip();
    vec![
        (
            Response::ModuleInfo(modules.first().cloned()),
            ResponsePayload::ModuleInfo(their_modules.first().cloned()),
        ),
        (
            Response::ModuleList(modules),
            ResponsePayload::ModuleList(their_modules),
        ),
        (
            Response::MempoolSize(MempoolSize {
                transaction_count: 1,
                size_bytes: 2,
                total_fee_sats: 3,
            }),
            ResponsePayload::MempoolSize(TheirMempoolSize {
                transaction_count: 1,
                size_bytes: 2,
                total_fee_sats: 3,
            }),
        ),
        (
            Response::NetworkStats(NetworkStats {
                peer_count: 1,
                hash_rate: 2.5,
                bytes_sent: 3,
                bytes_received: 4,
            }),
            ResponsePayload::NetworkStats(TheirStats {
                peer_count: 1,
                hash_rate: 2.5,
                bytes_sent: 3,
                bytes_received: 4,
            }),
        ),
        (
            Response::NetworkPeers(vec![PeerInfo {
                addr: text("127.0.0.1:8333"),
                transport_type: text("tcp"),
                services: 1033,
                version: 70016,
                connected_since: 1_700_000_000,
            }]),
            ResponsePayload::NetworkPeers(vec![TheirPeer {
                addr: text("127.0.0.1:8333"),
                transport_type: text("tcp"),
                services: 1033,
                version: 70016,
                connected_since: 1_700_000_000,
            }]),
        ),
        (
            Response::MempoolFeeRateSummary(FeeRateSummary {
                sample_count: 1,
                avg_sat_vb: 2,
                median_sat_vb: 3,
            }),
            ResponsePayload::MempoolFeeRateSummary(MempoolFeeRateSummary {
                sample_count: 1,
                avg_sat_vb: 2,
                median_sat_vb: 3,
            }),
        ),
    ]
}
