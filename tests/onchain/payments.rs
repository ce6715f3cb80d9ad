//! Outputs of transactions.

use std::time::Duration;

use bytes::Bytes;
use mesh_core::chain::PaymentMethod;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Event};
use mesh_core::fees::Split;
use serde_json::json;

use super::{Stage, bills, eventually_refused, heard, policy, proofs, raw, reason};
use crate::common::{PATIENCE, eventually};

fn taken_back(event: &Event) -> bool {
    matches!(event, Event::OutputTakenBack { .. })
}

fn came_back(event: &Event) -> bool {
    matches!(event, Event::OutputCameBack { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_payment_opens_a_session_once_it_is_deep_enough_and_packets_flow() {
    let Some(stage) = Stage::start(policy()).await else {
        return;
    };
    let slice = stage.quote().await;
    let txid = stage.pay(&slice).await;
    let shown = proofs(&slice, &txid);
    assert_eq!(
        reason(stage.open(&slice, shown.clone()).await),
        DropReason::Unconfirmed
    );
    stage.bitcoind.mine(1).await;
    assert_eq!(
        reason(stage.open_later(shown.clone()).await),
        DropReason::Unconfirmed
    );
    stage.bitcoind.mine(1).await;
    let opened = eventually("the session", async || stage.open_later(shown.clone()).await.ok()).await;

    let split = Split::of(slice.total_msat, 1).unwrap();
    assert_eq!(stage.credit_at_destination().await, split.destination_msat());
    let destination = stage.destination.status().await;
    assert_eq!(destination.treasury_owed_msat, split.treasury_msat());
    let mut arrivals = stage.destination.node.handle().deliveries(None);
    let payload = Bytes::from_static(b"paid by an output");
    stage
        .payer
        .node
        .handle()
        .send(opened.session, "test", payload.clone(), Duration::from_secs(30))
        .await
        .unwrap();
    let delivery = tokio::time::timeout(PATIENCE, arrivals.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(delivery.payload, payload);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payment_is_refused_a_second_time_after_everybody_restarted() {
    let Some(stage) = Stage::start(policy()).await else {
        return;
    };
    let slice = stage.quote().await;
    let txid = stage.pay(&slice).await;
    let shown = proofs(&slice, &txid);
    stage.bitcoind.mine(2).await;
    eventually("the session", async || stage.open_later(shown.clone()).await.ok()).await;
    let credit = stage.credit_at_destination().await;
    let stage = stage.restart_with_a_cheat().await;
    assert_eq!(reason(stage.open_later(shown).await), DropReason::AlreadyRedeemed);
    assert_eq!(stage.credit_at_destination().await, credit);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reorganisation_takes_the_credit_back_and_a_new_block_gives_it_again() {
    let Some(stage) = Stage::start(policy()).await else {
        return;
    };
    let slice = stage.quote().await;
    let txid = stage.pay(&slice).await;
    let shown = proofs(&slice, &txid);
    let mut events = stage.destination.node.handle().events();
    let blocks = stage.bitcoind.mine(2).await;
    eventually("the session", async || stage.open_later(shown.clone()).await.ok()).await;
    let credit = stage.credit_at_destination().await;
    assert!(credit > 0);

    stage.bitcoind.rpc("invalidateblock", json!([blocks[0]])).await;
    heard(&mut events, "the payment being taken back", taken_back).await;
    assert_eq!(stage.credit_at_destination().await, 0);

    // The transaction is in the mempool again and mined anew: into other blocks.
    stage.bitcoind.mine(3).await;
    heard(&mut events, "the payment coming back", came_back).await;
    assert_eq!(stage.credit_at_destination().await, credit);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payment_that_its_payer_replaced_by_fee_is_refused() {
    let Some(stage) = Stage::start(policy()).await else {
        return;
    };
    let slice = stage.quote().await;
    let coin = raw::coin(&stage.bitcoind).await;
    let pays: Vec<(String, u64)> = bills(&slice)
        .into_iter()
        .map(|(address, amount)| (address, raw::sats_of(&amount)))
        .collect();
    let payment = raw::spend(&stage.bitcoind, &coin, &pays, 1000).await;
    let txid = raw::send(&stage.bitcoind, &payment).await;
    let shown = proofs(&slice, &txid);
    let to_himself = raw::spend(&stage.bitcoind, &coin, &[], 50_000).await;
    raw::send(&stage.bitcoind, &to_himself).await;
    assert_eq!(
        reason(stage.open(&slice, shown.clone()).await),
        DropReason::Unconfirmed
    );
    stage.bitcoind.mine(3).await;
    eventually_refused(&stage, &shown, DropReason::FundingSpent).await;
    assert_eq!(stage.credit_at_destination().await, 0);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn double_spend_in_a_longer_chain_takes_the_credit_for_good() {
    let Some(stage) = Stage::start(policy()).await else {
        return;
    };
    let slice = stage.quote().await;
    let coin = raw::coin(&stage.bitcoind).await;
    let pays: Vec<(String, u64)> = bills(&slice)
        .into_iter()
        .map(|(address, amount)| (address, raw::sats_of(&amount)))
        .collect();
    let payment = raw::spend(&stage.bitcoind, &coin, &pays, 1000).await;
    let to_himself = raw::spend(&stage.bitcoind, &coin, &[], 50_000).await;
    let txid = raw::send(&stage.bitcoind, &payment).await;
    let shown = proofs(&slice, &txid);
    let blocks = stage.bitcoind.mine(2).await;
    eventually("the session", async || stage.open_later(shown.clone()).await.ok()).await;
    let mut events = stage.destination.node.handle().events();

    stage.bitcoind.rpc("invalidateblock", json!([blocks[0]])).await;
    raw::send(&stage.bitcoind, &to_himself).await;
    stage.bitcoind.mine(6).await;
    heard(&mut events, "the payment being taken back", taken_back).await;
    assert_eq!(stage.credit_at_destination().await, 0);
    let stage = stage.restart_with_a_cheat().await;
    assert_eq!(reason(stage.open_later(shown).await), DropReason::Reorganised);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_quote_has_a_script_of_its_own_which_the_payees_wallet_knows() {
    let Some(stage) = Stage::start(policy()).await else {
        return;
    };
    let mut scripts = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let slice = stage
            .try_quote(PaymentMethod::OnChain, Buying::Everywhere)
            .await
            .unwrap();
        scripts.extend(
            slice
                .payees
                .iter()
                .map(|payee| payee.output.clone().unwrap().1.script),
        );
    }
    assert_eq!(scripts.len(), 6);
    stage.stop().await;
}
