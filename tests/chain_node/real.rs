//! A blvm-node itself as it is published, on a regression-test chain: BLVM_HOST names it; skipped, saying so, without. It has
//! loaded no module, so the one connection that it serves is free, and whoever takes it may ask about the chain.
#![cfg(target_os = "linux")]

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Block, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::QuotedSlice;
use mesh_core::fees::Split;
use serde_json::json;

use super::{Mesh, came_back, heard, proofs_of, reason, taken_back};
use crate::common::blvm_node::{BlvmNode, program};

const REWARD: u64 = 5_000_000_000;

/// OP_TRUE in a witness script: whoever shows it may spend, so no key is needed here.
fn anybody() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

/// A transaction that pays all quotes with the reward of a block, signed by nobody.
async fn payment(node: &BlvmNode, slice: &QuotedSlice, height: u32) -> Transaction {
    let block = node.rpc("getblockhash", json!([height])).await;
    let block = node.rpc("getblock", json!([block, 1])).await;
    let reward: Txid = block["tx"][0].as_str().unwrap().parse().unwrap();
    let mut output: Vec<TxOut> = slice
        .payees
        .iter()
        .map(|payee| TxOut {
            value: Amount::from_sat(payee.amount_msat / 1000),
            script_pubkey: ScriptBuf::from_bytes(payee.output.clone().unwrap().1.script),
        })
        .collect();
    let paid: u64 = output.iter().map(|output| output.value.to_sat()).sum();
    let fee = 10_000;
    output.push(TxOut {
        value: Amount::from_sat(REWARD - paid - fee),
        script_pubkey: anybody().to_p2wsh(),
    });
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint {
                txid: reward,
                vout: 0,
            },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[anybody().to_bytes()]),
        }],
        output,
    }
}

async fn hand_in(node: &BlvmNode, payment: &Transaction) {
    let raw = hex::encode(serialize(payment));
    let _: serde_json::Value = node.rpc("sendrawtransaction", json!([raw])).await;
}

/// A block by hand that holds the payment: the node refuses to take into its mempool again what its index knows, though its
/// block left.
async fn mine_by_hand(node: &BlvmNode, payment: &Transaction) {
    let tip = node.rpc("getbestblockhash", json!([])).await;
    let height = i64::try_from(node.height().await + 1).unwrap();
    // Blocks made at once are dated ahead of the clock, and each must be younger than those before it.
    let below = node.rpc("getblock", json!([tip, 1])).await;
    let time = u32::try_from(below["time"].as_u64().unwrap() + 1).unwrap();
    let reserved = [0; 32];
    let coinbase = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new()
                .push_int(height)
                .push_slice(b"by hand")
                .into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[reserved]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(REWARD),
            script_pubkey: anybody().to_p2wsh(),
        }],
    };
    let header = Header {
        version: BlockVersion::from_consensus(0x2000_0000),
        prev_blockhash: tip.as_str().unwrap().parse().unwrap(),
        merkle_root: TxMerkleNode::all_zeros(),
        time,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut block = Block {
        header,
        txdata: vec![coinbase, payment.clone()],
    };
    let root = block.witness_root().unwrap();
    let commitment = Block::compute_witness_commitment(&root, &reserved);
    let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    script.extend_from_slice(commitment.as_byte_array());
    block.txdata[0].output.push(TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::from_bytes(script),
    });
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
    node.rpc("submitblock", json!([hex::encode(serialize(&block))]))
        .await;
    let tip = node.rpc("getbestblockhash", json!([])).await;
    assert_eq!(tip, json!(block.block_hash().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payment_proven_by_a_real_node_is_revoked_by_its_reorganisation_and_comes_back() {
    let Some(host) = program("BLVM_HOST") else {
        return;
    };
    let mut node = BlvmNode::new("node", &host);
    node.start().await;
    node.until("its first block", async || {
        node.try_rpc("getbestblockhash", json!([]))
            .await
            .is_ok_and(|tip| tip.is_string())
    })
    .await;
    let rewards = Address::p2wsh(&anybody(), Network::Regtest).to_string();
    node.rpc("generatetoaddress", json!([110, rewards])).await;
    let data = node.module_data("nobody");
    let socket = data.ancestors().nth(2).unwrap().join("sockets/node.sock");
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mesh = Mesh::raise(socket, folders).await;

    let slice = mesh.quote().await;
    let payment = payment(&node, &slice, 1).await;
    let shown = proofs_of(&slice, payment.compute_txid().to_byte_array());
    assert_eq!(reason(mesh.open(&shown).await), DropReason::Unconfirmed);
    hand_in(&node, &payment).await;
    node.mine(1).await;
    assert_eq!(reason(mesh.open(&shown).await), DropReason::Unconfirmed);
    let with_it = node.rpc("getbestblockhash", json!([])).await;
    node.mine(1).await;
    let mut events = mesh.destination.node.handle().events();
    mesh.opened(&shown).await;
    let credit = mesh.credit().await;
    assert_eq!(credit, Split::of(slice.total_msat, 1).unwrap().destination_msat());

    node.rpc("invalidateblock", json!([with_it])).await;
    heard(&mut events, "the payment being taken back", taken_back).await;
    assert_eq!(mesh.credit().await, 0);
    mine_by_hand(&node, &payment).await;
    node.mine(1).await;
    heard(&mut events, "the payment coming back", came_back).await;
    assert_eq!(mesh.credit().await, credit);
    mesh.stop().await;
}
