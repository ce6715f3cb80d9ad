//! A blvm-node itself, on a regression-test chain: the one with repairs, because the published one serves one connection to
//! modules. BLVM_REPAIRED_HOST names it; skipped, saying so, without.
#![cfg(target_os = "linux")]

use std::os::unix::fs::PermissionsExt;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::QuotedSlice;
use mesh_core::fees::Split;
use serde_json::json;

use super::{Mesh, came_back, heard, proofs_of, reason, taken_back};
use crate::common::blvm_node::{BlvmNode, program};

/// Does nothing but be there: the node looks permissions up by a loaded module's name.
const MANIFEST: &str = r#"
name = "watcher"
version = "0.1.0"
entry_point = "watcher"
capabilities = ["read_blockchain", "read_chain_state", "read_utxo", "read_mempool"]
"#;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payment_proven_by_a_real_node_is_revoked_by_its_reorganisation_and_comes_back() {
    let Some(host) = program("BLVM_REPAIRED_HOST") else {
        return;
    };
    let mut node = BlvmNode::new("node", &host);
    let folder = tempfile::tempdir().unwrap();
    let watcher = folder.path().join("watcher");
    std::fs::write(&watcher, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&watcher, std::fs::Permissions::from_mode(0o755)).unwrap();
    node.install("watcher", MANIFEST, &watcher);
    node.start().await;
    node.wait_for_modules(&["watcher"]).await;
    let rewards = Address::p2wsh(&anybody(), Network::Regtest).to_string();
    node.rpc("generatetoaddress", json!([110, rewards])).await;
    let data = node.module_data("watcher");
    let socket = data.ancestors().nth(2).unwrap().join("sockets/node.sock");
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mesh = Mesh::raise(socket, "watcher", folders).await;

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
    hand_in(&node, &payment).await;
    node.mine(2).await;
    heard(&mut events, "the payment coming back", came_back).await;
    assert_eq!(mesh.credit().await, credit);
    mesh.stop().await;
}
