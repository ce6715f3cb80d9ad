//! Outputs of transactions, as a node tells of them.

use mesh_core::drop_reason::DropReason;
use mesh_core::fees::Split;
use node_ipc::Request;
use node_ipc::testing::FakeAnswer;

use super::{Stage, came_back, heard, id, paying, proofs, reason, serve, taken_back};
use crate::common::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payment_to_scripts_of_a_node_without_a_wallet_opens_a_session_once_it_is_deep_enough() {
    let stage = Stage::start().await;
    let slice = stage.quote().await;
    let payment = stage.payment(&slice, 1);
    let shown = proofs(&slice, &payment);
    assert_eq!(reason(stage.open(&shown).await), DropReason::Unconfirmed);
    stage.chain.mine(std::slice::from_ref(&payment));
    assert_eq!(reason(stage.open(&shown).await), DropReason::Unconfirmed);
    stage.chain.mine(&[]);
    stage.opened(&shown).await;
    let split = Split::of(slice.total_msat, 1).unwrap();
    assert_eq!(stage.credit().await, split.destination_msat());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reorganisation_takes_the_credit_back_and_a_new_block_gives_it_again() {
    let stage = Stage::start().await;
    let slice = stage.quote().await;
    let payment = stage.payment(&slice, 1);
    let shown = proofs(&slice, &payment);
    let mut events = stage.destination.node.handle().events();
    let (before, _) = stage.chain.tip();
    stage.chain.mine(std::slice::from_ref(&payment));
    stage.chain.mine(&[]);
    stage.opened(&shown).await;
    let credit = stage.credit().await;
    assert!(credit > 0);

    stage.chain.disconnect_to(before);
    for _ in 0..3 {
        stage.chain.mine(&[]);
    }
    heard(&mut events, "the payment being taken back", taken_back).await;
    assert_eq!(stage.credit().await, 0);
    stage.chain.mine(std::slice::from_ref(&payment));
    stage.chain.mine(&[]);
    heard(&mut events, "the payment coming back", came_back).await;
    assert_eq!(stage.credit().await, credit);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn double_spend_in_a_reorganisation_takes_the_credit_and_is_refused_by_its_name() {
    let stage = Stage::start().await;
    let slice = stage.quote().await;
    let payment = stage.payment(&slice, 1);
    let shown = proofs(&slice, &payment);
    let (before, _) = stage.chain.tip();
    let money = stage.chain.coinbase(1);
    stage.chain.mine(std::slice::from_ref(&payment));
    stage.chain.disconnect_to(before);
    stage.chain.mine(&[paying(&[money], &[0x52], 10)]);
    stage.chain.mine(&[]);
    assert_eq!(reason(stage.open(&shown).await), DropReason::FundingSpent);
    assert_eq!(stage.credit().await, 0);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payment_is_refused_a_second_time_after_everybody_restarted_and_scripts_stay_fresh() {
    let stage = Stage::start().await;
    let slice = stage.quote().await;
    let payment = stage.payment(&slice, 1);
    let shown = proofs(&slice, &payment);
    stage.chain.mine(std::slice::from_ref(&payment));
    stage.chain.mine(&[]);
    stage.opened(&shown).await;
    let credit = stage.credit().await;
    let stage = stage.restart_with_a_cheat().await;
    assert_eq!(reason(stage.open(&shown).await), DropReason::AlreadyRedeemed);
    assert_eq!(stage.credit().await, credit);
    let scripts = |payment: &node_ipc::Transaction| {
        let outputs = payment.outputs.iter();
        outputs
            .map(|output| output.script_pubkey.clone())
            .collect::<Vec<_>>()
    };
    let again = stage.payment(&stage.quote().await, 2);
    for script in scripts(&again) {
        assert!(!scripts(&payment).contains(&script), "a script was quoted twice");
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_node_is_away_nothing_is_honoured_and_nothing_taken_back() {
    let mut stage = Stage::start().await;
    let (slice, later) = (stage.quote().await, stage.quote().await);
    let payment = stage.payment(&slice, 1);
    let second = stage.payment(&later, 2);
    stage.chain.mine(&[payment.clone(), second.clone()]);
    stage.chain.mine(&[]);
    stage.opened(&proofs(&slice, &payment)).await;
    let credit = stage.credit().await;

    drop(stage.node.take());
    eventually("the connection to close", async || {
        (!stage.client.is_connected()).then_some(())
    })
    .await;
    let shown = proofs(&later, &second);
    assert_eq!(reason(stage.open(&shown).await), DropReason::ChainUnavailable);
    assert_eq!(stage.credit().await, credit);

    stage.node = Some(serve(&stage.chain, &stage.socket));
    stage.connected().await;
    stage.opened(&shown).await;
    assert!(stage.credit().await > credit);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_hangs_up_in_the_middle_of_an_answer_credits_nobody() {
    let stage = Stage::start().await;
    let slice = stage.quote().await;
    let payment = stage.payment(&slice, 1);
    let shown = proofs(&slice, &payment);
    stage.chain.mine(std::slice::from_ref(&payment));
    stage.chain.mine(&[]);
    let chain = stage.chain.clone();
    let node = stage.node.as_ref().unwrap();
    node.answer_with(move |request| match request {
        Request::GetTransaction { .. } => Some(FakeAnswer::Close),
        other => chain.reply(other).map(FakeAnswer::Reply),
    });
    assert_eq!(reason(stage.open(&shown).await), DropReason::ChainUnavailable);
    assert_eq!(stage.credit().await, 0);
    assert!(node.asked("GetTransaction") > 0, "{}", hex::encode(id(&payment)));
    let chain = stage.chain.clone();
    node.answer_with(move |request| chain.reply(request).map(FakeAnswer::Reply));
    stage.opened(&shown).await;
    assert!(stage.credit().await > 0);
    stage.stop().await;
}
