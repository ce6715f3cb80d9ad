//! What a reorganisation takes away, and what comes back.

use std::time::Duration;

use mesh_core::chain::TxOutput;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Event, Record};
use mesh_core::ledger::{EntryKind, LedgerAccount};
use mesh_core::limits::FINAL_DEPTH;
use mesh_sim::Simulation;

use crate::{Stage, policy, proofs, reason};

/// Longer than a round of looking after outputs and its answers.
const ROUND: Duration = Duration::from_secs(3);

fn taken_back(event: &Event) -> bool {
    matches!(event, Event::OutputTakenBack { .. })
}

fn came_back(event: &Event) -> bool {
    matches!(event, Event::OutputCameBack { .. })
}

/// Paid, two deep and honoured everywhere; the transaction, and what each payee holds for the payer.
fn honoured() -> (
    Stage,
    [u8; 32],
    mesh_core::event::QuotedSlice,
    mesh_core::keys::SessionId,
) {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    let opened = stage.open(&slice, txid).unwrap();
    stage.sim.run_for(ROUND);
    (stage, txid, slice, opened.session)
}

fn on_chain(stage: &Stage, node: mesh_sim::NodeIndex) -> i64 {
    stage.balance(node, |account| *account == LedgerAccount::OnChain)
}

#[test]
fn block_that_is_replaced_by_another_with_the_same_payment_changes_nothing() {
    let (mut stage, ..) = honoured();
    let before = stage.credit_at(stage.destination);
    stage.sim.chain.take_away(2);
    stage.sim.chain.mine(3);
    stage.sim.run_for(ROUND);
    assert_eq!(stage.credit_at(stage.destination), before);
    assert_eq!(stage.happened(stage.destination, taken_back), 0);
    assert_eq!(stage.booked(stage.destination).len(), 1);
}

#[test]
fn payment_that_leaves_the_best_chain_takes_what_is_left_of_its_credit_with_it() {
    let (mut stage, txid, slice, session) = honoured();
    let (payer, at) = (stage.payer, stage.destination);
    for _ in 0..40 {
        stage.sim.send(payer, session, "test", &[1; 5000]).unwrap();
    }
    stage.sim.settle();
    let left = stage.credit_at(at);
    let treasury = slice.payees[1].treasury_msat;
    assert!(left > 0 && left < slice.payees[1].amount_msat - treasury);

    stage.sim.chain.take_away(2);
    stage.sim.chain.forget_waiting();
    stage.sim.chain.mine(3);
    stage.sim.run_for(ROUND);
    assert_eq!(stage.credit_at(at), 0, "what was left is frozen");
    assert_eq!(stage.happened(at, taken_back), 1);
    assert_eq!(stage.sim.status(at).unwrap().treasury_owed_msat, 0);
    assert_eq!(on_chain(&stage, at), 0);
    let entries = stage.booked(at);
    let revoked = entries.last().unwrap();
    assert_eq!(revoked.kind, EntryKind::Revoked);
    let lost = stage.balance(at, |account| *account == LedgerAccount::Lost);
    let drawn = slice.payees[1].amount_msat - treasury - left;
    assert_eq!(lost, drawn as i64, "what packets drew is the loss");
    // Nothing flows on credit that is not there, and the payment is refused by its own name.
    stage.sim.send(payer, session, "test", &[1; 5000]).unwrap();
    stage.sim.settle();
    assert!(stage.sim.drops(stage.router, DropReason::CreditSpent) > 0);
    stage.make_payer_forget();
    let shown = stage.open_later(payer, proofs(&slice, txid));
    assert_eq!(reason(shown), DropReason::Reorganised);
}

#[test]
fn payment_that_comes_back_is_credited_again_exactly_once() {
    let (mut stage, txid, slice, _) = honoured();
    let at = stage.destination;
    let before = (
        stage.credit_at(at),
        stage.sim.status(at).unwrap().treasury_owed_msat,
    );
    for round in 1..=3 {
        stage.sim.chain.take_away(3);
        stage.sim.chain.mine(0);
        // It waits in the mempool, and is in no block.
        stage.sim.run_for(ROUND);
        assert_eq!(stage.credit_at(at), 0);
        stage.sim.chain.mine(1);
        stage.sim.run_for(ROUND);
        assert_eq!(stage.credit_at(at), 0, "not deep enough again");
        stage.sim.chain.mine(2);
        stage.sim.run_for(ROUND);
        let now = (
            stage.credit_at(at),
            stage.sim.status(at).unwrap().treasury_owed_msat,
        );
        assert_eq!(now, before);
        assert_eq!(
            (stage.happened(at, taken_back), stage.happened(at, came_back)),
            (round, round)
        );
    }
    stage.sim.run_for(10 * ROUND);
    assert_eq!(stage.credit_at(at), before.0);
    assert_eq!(on_chain(&stage, at), slice.payees[1].amount_msat as i64);
    assert_eq!(stage.balance(at, |account| *account == LedgerAccount::Lost), 0);
    stage.make_payer_forget();
    let again = stage.open_later(stage.payer, proofs(&slice, txid));
    assert_eq!(reason(again), DropReason::AlreadyRedeemed);
}

#[test]
fn reorganisation_while_the_payee_is_down_is_seen_when_it_is_up_again() {
    let (mut stage, ..) = honoured();
    let at = stage.destination;
    stage.sim.kill(at);
    stage.sim.chain.take_away(2);
    stage.sim.chain.forget_waiting();
    stage.sim.chain.mine(3);
    stage.sim.restart(at);
    stage.sim.run_for(ROUND);
    assert_eq!(stage.credit_at(at), 0);
    // And it is not forgotten what was taken, however often it restarts.
    stage.sim.kill(at);
    stage.sim.restart(at);
    stage.sim.run_for(ROUND);
    assert_eq!((stage.credit_at(at), on_chain(&stage, at)), (0, 0));
}

#[test]
fn double_spend_that_a_reorganisation_lets_through_is_taken_back_for_good() {
    let (mut stage, txid, ..) = honoured();
    let at = stage.destination;
    let coins = stage.sim.chain.spent_by(&txid);
    stage.sim.chain.take_away(2);
    let to_himself = TxOutput {
        script: vec![0x51],
        sats: 1,
    };
    stage.sim.chain.spend(coins, vec![to_himself]);
    stage.sim.chain.mine(6);
    stage.sim.run_for(ROUND);
    assert_eq!(stage.credit_at(at), 0);
    assert_eq!(stage.happened(at, came_back), 0);
}

#[test]
fn chain_source_that_does_not_answer_takes_nothing_back() {
    let (mut stage, ..) = honoured();
    let at = stage.destination;
    let before = stage.credit_at(at);
    stage.sim.chain.is_down = true;
    stage.sim.run_for(10 * ROUND);
    assert_eq!((stage.credit_at(at), stage.happened(at, taken_back)), (before, 0));
    stage.sim.chain.is_down = false;
    stage.sim.chain.take_away(2);
    stage.sim.run_for(ROUND);
    assert_eq!(stage.happened(at, taken_back), 1, "it goes on looking");
}

fn states(sim: &Simulation, node: mesh_sim::NodeIndex) -> Vec<mesh_core::chain_book::HonouredState> {
    let records = sim.disk(node).iter();
    records
        .filter_map(|record| match record {
            Record::Honoured(output) => Some(output.state),
            _ => None,
        })
        .collect()
}

#[test]
fn output_under_a_hundred_blocks_is_final_and_no_longer_looked_after() {
    use mesh_core::chain_book::HonouredState::{Final, Standing};
    let (mut stage, txid, slice, _) = honoured();
    let at = stage.destination;
    stage.sim.chain.mine(FINAL_DEPTH as usize - 3);
    stage.sim.run_for(ROUND);
    assert_eq!(states(&stage.sim, at), [Standing]);
    stage.sim.chain.mine(1);
    stage.sim.run_for(ROUND);
    assert_eq!(states(&stage.sim, at), [Standing, Final]);
    let before = stage.credit_at(at);
    stage.sim.chain.take_away(FINAL_DEPTH as usize + 1);
    stage.sim.chain.forget_waiting();
    stage.sim.run_for(ROUND);
    assert_eq!(
        stage.credit_at(at),
        before,
        "deeper reorganisations are not this node's to judge"
    );
    stage.make_payer_forget();
    let again = stage.open_later(stage.payer, proofs(&slice, txid));
    assert_eq!(reason(again), DropReason::AlreadyRedeemed);
}
