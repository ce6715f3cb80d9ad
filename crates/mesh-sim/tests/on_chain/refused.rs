//! What is no money, each crime under its own name. Whatever is refused credits nothing.

use std::time::Duration;

use mesh_core::chain::{ChainPolicy, DepthStep, PaymentMethod, TxOutput};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Funding};
use mesh_core::limits::{CHAIN_PAY_BY, CHAIN_REDEEM_AFTER_PAY_BY};
use mesh_core::payment_proof::PaymentProof;

use crate::{Stage, outputs, policy, proofs, reason};

fn nothing_credited(stage: &mut Stage) {
    let (router, destination) = (stage.router, stage.destination);
    assert_eq!(stage.credit_at(router) + stage.credit_at(destination), 0);
    assert!(stage.booked(router).is_empty() && stage.booked(destination).is_empty());
}

#[test]
fn unconfirmed_shallow_or_unknown_payment_is_refused_until_it_is_deep_enough() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    assert_eq!(reason(stage.open(&slice, txid)), DropReason::Unconfirmed);
    stage.sim.chain.mine(1);
    let payer = stage.payer;
    let shallow = stage.open_later(payer, proofs(&slice, txid));
    assert_eq!(reason(shallow), DropReason::Unconfirmed);
    let made_up = stage.open_later(payer, proofs(&slice, [0x99; 32]));
    assert_eq!(reason(made_up), DropReason::Unconfirmed);
    nothing_credited(&mut stage);
    stage.sim.chain.mine(1);
    assert!(stage.open_later(payer, proofs(&slice, txid)).is_ok());
}

#[test]
fn payment_to_another_script_is_refused() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let mut elsewhere = outputs(&slice);
    for output in &mut elsewhere {
        output.script = vec![0; 22];
    }
    let txid = stage.sim.chain.pay(elsewhere);
    stage.sim.chain.mine(2);
    assert_eq!(reason(stage.open(&slice, txid)), DropReason::OutputMismatch);
    nothing_credited(&mut stage);
}

#[test]
fn one_satoshi_too_little_is_refused() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let mut short = outputs(&slice);
    short[0].sats -= 1;
    let txid = stage.sim.chain.pay(short);
    stage.sim.chain.mine(2);
    assert_eq!(reason(stage.open(&slice, txid)), DropReason::Underpaid);
    nothing_credited(&mut stage);
}

#[test]
fn two_outputs_that_only_together_are_enough_are_refused() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let mut cut = outputs(&slice);
    let half = TxOutput {
        sats: cut[0].sats / 2,
        ..cut[0].clone()
    };
    cut[0].sats -= half.sats;
    cut.push(half);
    let txid = stage.sim.chain.pay(cut);
    stage.sim.chain.mine(2);
    assert_eq!(reason(stage.open(&slice, txid)), DropReason::Underpaid);
}

#[test]
fn payment_that_its_payer_replaced_is_refused_before_and_after_the_other_is_mined() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    let coins = stage.sim.chain.spent_by(&txid);
    let back_to_himself = TxOutput {
        script: vec![0x51],
        sats: 1,
    };
    stage.sim.chain.spend(coins, vec![back_to_himself]);
    let payer = stage.payer;
    assert_eq!(reason(stage.open(&slice, txid)), DropReason::Unconfirmed);
    stage.sim.chain.mine(2);
    let replaced = stage.open_later(payer, proofs(&slice, txid));
    assert_eq!(reason(replaced), DropReason::FundingSpent);
    nothing_credited(&mut stage);
}

#[test]
fn payment_is_redeemed_once_whoever_shows_it_however_often_over_restarts() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    stage.open(&slice, txid).unwrap();
    let (payer, rival, router) = (stage.payer, stage.rival, stage.router);
    let credit = stage.credit_at(router);
    stage.make_payer_forget();
    let again = stage.open_later(payer, proofs(&slice, txid));
    assert_eq!(reason(again), DropReason::AlreadyRedeemed);
    stage.sim.kill(router);
    stage.sim.restart(router);
    stage.sim.run_for(Duration::from_secs(1));
    for thief in [payer, rival] {
        let again = stage.open_later(thief, proofs(&slice, txid));
        assert_eq!(reason(again), DropReason::AlreadyRedeemed);
    }
    // Until long after it is final, and after its quote could have expired.
    stage.sim.chain.mine(200);
    let long = CHAIN_PAY_BY + CHAIN_REDEEM_AFTER_PAY_BY + Duration::from_secs(48 * 3600);
    stage.sim.set_clock(router, long.as_millis() as i64);
    stage.sim.run_for(Duration::from_secs(20));
    stage.sim.set_clock(router, 0);
    stage.sim.kill(router);
    stage.sim.restart(router);
    stage.sim.run_for(Duration::from_secs(1));
    let late = stage.open_later(payer, proofs(&slice, txid));
    assert_eq!(reason(late), DropReason::AlreadyRedeemed);
    assert_eq!(stage.credit_at(router), credit);
}

#[test]
fn second_output_to_a_redeemed_script_buys_nothing() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    stage.open(&slice, txid).unwrap();
    stage.make_payer_forget();
    let second = stage.pay(&slice);
    stage.sim.chain.mine(2);
    let again = stage.open_later(stage.payer, proofs(&slice, second));
    assert_eq!(reason(again), DropReason::AlreadyRedeemed);
}

#[test]
fn thief_who_saw_the_payment_on_the_chain_cannot_redeem_it() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    let stolen = stage.open_later(stage.rival, proofs(&slice, txid));
    assert_eq!(reason(stolen), DropReason::WrongAccountKey);
    nothing_credited(&mut stage);
    assert!(stage.open(&slice, txid).is_ok(), "it is still its payer's");
}

#[test]
fn payment_shown_after_redeem_by_is_refused() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    let (router, payer) = (stage.router, stage.payer);
    let late = CHAIN_PAY_BY + CHAIN_REDEEM_AFTER_PAY_BY;
    for node in [payer, router, stage.destination] {
        stage.sim.set_clock(node, late.as_millis() as i64);
    }
    stage.sim.run_for(Duration::from_secs(1));
    let outcome = stage.open_later(payer, proofs(&slice, txid));
    let why = reason(outcome);
    assert!(
        [DropReason::ProofExpired, DropReason::InvoiceNotMine].contains(&why),
        "{why}"
    );
    nothing_credited(&mut stage);
}

#[test]
fn proof_that_names_no_bill_or_anothers_is_refused() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    let payer = stage.payer;
    let naming = |id: &str| {
        let (payee, _) = &proofs(&slice, txid)[0];
        let proof = PaymentProof::OnChainSettlement {
            payment_request_id: id.to_owned(),
            tx_hash: txid,
            amount_sats: 1,
            timestamp: 0,
        };
        vec![(*payee, proof)]
    };
    let nonsense = stage.open_later(payer, naming("not a name"));
    assert_eq!(reason(nonsense), DropReason::InvoiceInvalid);
    let unknown = stage.open_later(payer, naming(&"99".repeat(32)));
    assert_eq!(reason(unknown), DropReason::InvoiceNotMine);
    nothing_credited(&mut stage);
}

#[test]
fn what_the_chain_source_cannot_say_is_not_credited() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    stage.sim.chain.is_down = true;
    assert_eq!(reason(stage.open(&slice, txid)), DropReason::ChainUnavailable);
    let refused = stage
        .try_quote(stage.payer, PaymentMethod::OnChain, Buying::Everywhere)
        .unwrap_err();
    assert_eq!(refused.reason, DropReason::ChainUnavailable);
    nothing_credited(&mut stage);
    stage.sim.chain.is_down = false;
    assert!(stage.open_later(stage.payer, proofs(&slice, txid)).is_ok());
}

#[test]
fn many_small_payments_in_one_block_need_the_depth_of_their_sum() {
    let one_block_for_little = ChainPolicy {
        steps: vec![
            DepthStep {
                up_to_sats: 10_000,
                blocks: 1,
            },
            DepthStep {
                up_to_sats: 1_000_000,
                blocks: 3,
            },
        ],
        ..policy()
    };
    let mut stage = Stage::new(one_block_for_little);
    let slices: Vec<_> = (0..5).map(|_| stage.quote()).collect();
    assert!(slices[0].payees[0].output.as_ref().unwrap().1.depth == 1);
    let paid: Vec<_> = slices.iter().map(|slice| stage.pay(slice)).collect();
    stage.sim.chain.mine(1);
    let outcomes: Vec<_> = slices
        .iter()
        .zip(&paid)
        .map(|(slice, txid)| stage.open(slice, *txid))
        .collect();
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!(outcomes[0].is_ok(), "the first is within the cap");
    assert!((1..5).contains(&refused), "{refused}");
    // At the depth of the sum all of them are.
    stage.sim.chain.mine(2);
    for ((slice, txid), outcome) in slices.iter().zip(&paid).zip(outcomes) {
        if outcome.is_err() {
            let opened = stage.open_later(stage.payer, proofs(slice, *txid));
            assert!(opened.is_ok(), "{opened:?}");
        }
    }
}

#[test]
fn more_than_the_payee_takes_on_the_chain_is_not_quoted() {
    let little = ChainPolicy {
        steps: vec![DepthStep {
            up_to_sats: 1000,
            blocks: 1,
        }],
        ..policy()
    };
    let mut stage = Stage::new(little);
    let refused = stage
        .try_quote(stage.payer, PaymentMethod::OnChain, Buying::Everywhere)
        .unwrap_err();
    assert_eq!(refused.reason, DropReason::LimitReached);
}

#[test]
fn node_without_a_chain_source_quotes_no_script_and_takes_no_such_proof() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    stage.sim.chain_policy = None;
    let router = stage.router;
    stage.sim.kill(router);
    stage.sim.restart(router);
    stage.sim.run_for(Duration::from_secs(1));
    let shown = stage.open_later(stage.payer, proofs(&slice, txid));
    assert_eq!(reason(shown), DropReason::ProofKindRefused);
    let refused = stage
        .try_quote(stage.payer, PaymentMethod::OnChain, Buying::Everywhere)
        .unwrap_err();
    assert_eq!(refused.reason, DropReason::PaymentsUnavailable);
}

#[test]
fn bill_that_nobody_paid_is_told_before_anything_is_opened() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let payer = stage.payer;
    for funding in [
        Funding::Proofs(Vec::new()),
        mesh_sim::Simulation::from_the_wallet(),
    ] {
        let refusal = stage.sim.open(payer, &slice, funding).unwrap_err();
        assert_eq!(refusal.reason, DropReason::PaymentMissing);
        let missing = [stage.router, stage.destination].map(|node| stage.sim.id(node));
        assert_eq!(refusal.missing, missing);
    }
    assert_eq!(
        stage.sim.lightning.settled().count(),
        0,
        "nothing was paid instead"
    );
}

#[cfg(not(feature = "ctv"))]
#[test]
fn build_without_covenants_refuses_them_by_their_kind() {
    let mut stage = Stage::new(policy());
    let refused = stage
        .try_quote(stage.payer, PaymentMethod::Ctv, Buying::Everywhere)
        .unwrap_err();
    assert_eq!(refused.reason, DropReason::ProofKindRefused);
    let covenant = PaymentProof::InstantSettlement {
        covenant_proof: vec![0; 100],
        output_index: 0,
        merkle_proof: Vec::new(),
        amount_sats: 1,
        timestamp: 0,
    };
    let shown = vec![(stage.sim.id(stage.router), covenant)];
    let refused = stage.open_later(stage.payer, shown);
    assert_eq!(reason(refused), DropReason::ProofKindRefused);
}

#[test]
fn flooding_neighbour_fills_only_its_own_share_of_quoted_scripts() {
    // Asked through the core's own table: the network's control budget would make this test slow.
    use mesh_core::chain::OutputQuote;
    use mesh_core::chain_book::OutputQuotes;
    use mesh_core::identity::NodeId;
    use mesh_core::limits::MAX_OUTPUT_QUOTES_PER_NEIGHBOUR;
    use mesh_core::time::UnixMillis;
    let quote = |number: u32, previous: u8| {
        let mut bill = [previous; 32];
        bill[..4].copy_from_slice(&number.to_be_bytes());
        OutputQuote {
            bill,
            script: bill.to_vec(),
            account: [1; 32],
            credit_msat: 1_000_000,
            treasury_msat: 0,
            redeem_by: UnixMillis(10),
            previous: NodeId([previous; 32]),
            split: Vec::new(),
            place: 0,
        }
    };
    let mut quotes = OutputQuotes::default();
    for number in 0..MAX_OUTPUT_QUOTES_PER_NEIGHBOUR as u32 {
        quotes.insert(quote(number, 3)).unwrap();
    }
    assert_eq!(quotes.check_room(&NodeId([3; 32])), Err(DropReason::TableFull));
    assert_eq!(quotes.check_room(&NodeId([4; 32])), Ok(()));
}
