//! What a node says to a module.

use node_ipc::message::encode;
use node_ipc::{
    Block, BlockHeader, Event, EventPayload, InvocationKind, Message, OutPoint, Response, Transaction,
};
use node_ipc::{TransactionInput, TransactionOutput};

use super::Seeds;

pub(super) fn add(seeds: &mut Seeds) {
    let mut add = |name: &str, message: Message| seeds.add("node", name, encode(&message));
    add(
        "handshake",
        Message::Response(
            1,
            Ok(Response::HandshakeAck {
                node_version: "0.1.83".to_owned(),
            }),
        ),
    );
    add(
        "refusal",
        Message::Response(2, Err("Permission denied".to_owned())),
    );
    add(
        "block",
        Message::Response(3, Ok(Response::BlockByHeight(Some(block())))),
    );
    add(
        "answer of a module",
        Message::Response(4, Ok(Response::ModuleApiResponse(vec![1, 2, 3]))),
    );
    let reorganised = EventPayload::ChainReorg {
        old_tip: [1; 32],
        new_tip: [2; 32],
    };
    add("reorganisation", Message::Event(Event::from(reorganised)));
    let packet = EventPayload::MeshPacketReceived {
        packet_data: vec![7; 40],
        peer_addr: "127.0.0.1:8333".to_owned(),
    };
    add("mesh packet", Message::Event(Event::from(packet)));
    let call = InvocationKind::ModuleApi {
        method: "send_packet".to_owned(),
        params: vec![5; 20],
        caller_module_id: "chat".to_owned(),
    };
    add("call of a module", Message::Invocation(5, call));
    let params = serde_json::json!(["00", { "ttl": 60 }]);
    add(
        "call by json",
        Message::Invocation(
            6,
            InvocationKind::Rpc {
                method: "meshsendpacket".to_owned(),
                params,
            },
        ),
    );
}

fn block() -> Block {
    let coinbase = Transaction {
        version: 2,
        inputs: vec![TransactionInput {
            prevout: OutPoint {
                hash: [0; 32],
                index: u32::MAX,
            },
            sequence: 0xffff_ffff,
            script_sig: vec![1, 101],
        }],
        outputs: vec![TransactionOutput {
            value: 5_000_000_000,
            script_pubkey: vec![0x51],
        }],
        lock_time: 0,
    };
    let header = BlockHeader {
        version: 0x2000_0000,
        prev_block_hash: [3; 32],
        merkle_root: [4; 32],
        timestamp: 1_700_000_000,
        bits: 0x207f_ffff,
        nonce: 2,
    };
    Block {
        header,
        transactions: vec![coinbase],
    }
}
