//! Covenants on a chain that does not enforce them, which is every chain today.

use std::time::Duration;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use mesh_core::chain::{ChainPolicy, OutPoint, PaymentMethod, TxOutput};
use mesh_core::ctv::{Covenant, CovenantForm};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, QuotedSlice};
use mesh_core::fees::Split;
use mesh_core::identity::NodeId;
use mesh_core::payment_proof::PaymentProof;
use serde_json::json;

use super::{Stage, eventually_refused, internal, policy, raw, reason};
use crate::common::eventually;

const FORMS: [CovenantForm; 3] = [CovenantForm::Bare, CovenantForm::Wsh, CovenantForm::Taproot];

struct Bound {
    slice: QuotedSlice,
    covenant: Covenant,
    funding: OutPoint,
}

/// Quotes, and funds a covenant that pays them, in a block.
async fn bind(stage: &Stage, form: CovenantForm) -> Bound {
    let slice = stage
        .try_quote(PaymentMethod::Ctv, Buying::Everywhere)
        .await
        .unwrap();
    let outputs: Vec<TxOutput> = slice
        .payees
        .iter()
        .map(|payee| TxOutput {
            script: payee.output.clone().unwrap().1.script,
            sats: payee.amount_msat / 1000,
        })
        .collect();
    let covenant = Covenant::paying(form, &outputs);
    let funding = fund(stage, &covenant).await;
    Bound {
        slice,
        covenant,
        funding,
    }
}

/// A transaction with one output to the covenant's script, mined. A bare script has no address, so it is made by hand.
async fn fund(stage: &Stage, covenant: &Covenant) -> OutPoint {
    let output = TxOut {
        value: Amount::from_sat(covenant.least_sats(5000).unwrap()),
        script_pubkey: ScriptBuf::from_bytes(covenant.script().unwrap()),
    };
    let unfunded = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: Vec::new(),
        output: vec![output],
    };
    // Without inputs and without a witness marker; the wallet is told so.
    let options = json!({"changePosition": 1, "fee_rate": 2});
    let funded = stage
        .bitcoind
        .rpc(
            "fundrawtransaction",
            json!([hex::encode(serialize_bare(&unfunded)), options, false]),
        )
        .await;
    let signed = stage
        .bitcoind
        .rpc("signrawtransactionwithwallet", json!([funded["hex"]]))
        .await;
    let transaction = signed["hex"].as_str().unwrap().to_owned();
    let read = stage
        .bitcoind
        .rpc("decoderawtransaction", json!([transaction]))
        .await;
    raw::mine_with(&stage.bitcoind, &[transaction]).await;
    OutPoint {
        txid: internal(read["txid"].as_str().unwrap()),
        vout: 0,
    }
}

/// As it travels before BIP-141: one that has no inputs would else read as one with a witness.
fn serialize_bare(transaction: &Transaction) -> Vec<u8> {
    let mut bytes = serialize(&transaction.version);
    bytes.push(0);
    bytes.extend(serialize(&transaction.output));
    bytes.extend(serialize(&transaction.lock_time));
    bytes
}

impl Bound {
    fn proofs(&self) -> Vec<(NodeId, PaymentProof)> {
        let payees = self.slice.payees.iter();
        payees
            .map(|payee| {
                let (bill, _) = payee.output.as_ref().unwrap();
                (payee.payee, self.covenant.proof(*bill, &self.funding, 0).unwrap())
            })
            .collect()
    }

    /// The one transaction that the covenant allows.
    fn settling(&self) -> String {
        hex::encode(serialize(&self.covenant.settling(&self.funding).unwrap()))
    }

    /// Another that takes everything: valid wherever BIP-119 is not enforced.
    async fn theft(&self, stage: &Stage) -> String {
        let address = stage.bitcoind.rpc("getnewaddress", json!([])).await;
        let info = stage.bitcoind.rpc("getaddressinfo", json!([address])).await;
        let script = hex::decode(info["scriptPubKey"].as_str().unwrap()).unwrap();
        let mut theft = self.covenant.settling(&self.funding).unwrap();
        theft.output = vec![TxOut {
            value: Amount::from_sat(2000),
            script_pubkey: ScriptBuf::from_bytes(script),
        }];
        hex::encode(serialize(&theft))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn covenant_of_every_form_is_refused_until_it_is_settled_and_then_honoured() {
    let Some(stage) = Stage::start(policy()).await else {
        return;
    };
    let mut credit = 0;
    for form in FORMS {
        let bound = bind(&stage, form).await;
        stage.bitcoind.mine(1).await;
        let open = reason(stage.open_later(bound.proofs()).await);
        assert_eq!(open, DropReason::CtvNotEnforced, "{form:?}");
        raw::mine_with(&stage.bitcoind, &[bound.settling()]).await;
        stage.bitcoind.mine(1).await;
        eventually("the session", async || {
            stage.open_later(bound.proofs()).await.ok()
        })
        .await;
        credit += Split::of(bound.slice.total_msat, 1).unwrap().destination_msat();
        assert_eq!(stage.credit_at_destination().await, credit, "{form:?}");
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thief_takes_the_money_of_an_open_covenant_and_nobody_is_credited_for_it() {
    let Some(stage) = Stage::start(policy()).await else {
        return;
    };
    for form in FORMS {
        let bound = bind(&stage, form).await;
        stage.bitcoind.mine(1).await;
        raw::mine_with(&stage.bitcoind, &[bound.theft(&stage).await]).await;
        stage.bitcoind.mine(2).await;
        eventually_refused(&stage, &bound.proofs(), DropReason::FundingSpent).await;
    }
    assert_eq!(stage.credit_at_destination().await, 0);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_who_believes_his_chain_enforces_covenants_loses_no_more_than_one_theft() {
    let believing = ChainPolicy {
        ctv_enforced_from: Some(0),
        watch_every: Duration::from_millis(50),
        ..policy()
    };
    let Some(stage) = Stage::start(believing).await else {
        return;
    };
    let bound = bind(&stage, CovenantForm::Wsh).await;
    let shallow = reason(stage.open_later(bound.proofs()).await);
    assert_eq!(shallow, DropReason::Unconfirmed);
    stage.bitcoind.mine(1).await;
    eventually("the session", async || {
        stage.open_later(bound.proofs()).await.ok()
    })
    .await;
    assert!(stage.credit_at_destination().await > 0);
    raw::mine_with(&stage.bitcoind, &[bound.theft(&stage).await]).await;
    eventually("the theft being noticed", async || {
        (stage.credit_at_destination().await == 0).then_some(())
    })
    .await;
    let txid = bound.covenant.settling(&bound.funding).unwrap().compute_txid();
    assert_ne!(txid.to_byte_array(), [0; 32]);
    stage.stop().await;
}
