//! Covenants: one output for everybody.

use mesh_core::chain::{ChainPolicy, OutPoint, PaymentMethod, TxOutput};
use mesh_core::ctv::{Covenant, CovenantForm};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Event, QuotedSlice};
use mesh_core::fees::Split;
use mesh_core::identity::NodeId;
use mesh_core::payment_proof::PaymentProof;
use mesh_sim::Transaction;
use std::time::Duration;

use crate::{Stage, outputs, policy, reason};

fn enforced() -> ChainPolicy {
    ChainPolicy {
        ctv_enforced_from: Some(0),
        ..policy()
    }
}

struct Bound {
    stage: Stage,
    slice: QuotedSlice,
    covenant: Covenant,
    funding: OutPoint,
}

/// Quoted and funded, two blocks deep.
fn bound(policy: ChainPolicy, form: CovenantForm) -> Bound {
    let mut stage = Stage::new(policy);
    stage.sim.chain.fee_floor = 1000;
    let slice = stage
        .try_quote(stage.payer, PaymentMethod::Ctv, Buying::Everywhere)
        .unwrap();
    let covenant = Covenant::paying(form, &outputs(&slice));
    let txid = stage.sim.chain.pay(vec![TxOutput {
        script: covenant.script().unwrap(),
        sats: covenant.least_sats(1000).unwrap(),
    }]);
    stage.sim.chain.mine(2);
    Bound {
        stage,
        slice,
        covenant,
        funding: OutPoint { txid, vout: 0 },
    }
}

impl Bound {
    fn proofs(&self) -> Vec<(NodeId, PaymentProof)> {
        let payees = self.slice.payees.iter();
        payees
            .map(|payee| {
                let bill = payee.output.as_ref().unwrap().0;
                (payee.payee, self.covenant.proof(bill, &self.funding, 0).unwrap())
            })
            .collect()
    }

    fn open(&mut self) -> Result<mesh_core::event::OpenedSession, Box<mesh_core::event::Refusal>> {
        let proofs = self.proofs();
        self.stage.open_later(self.stage.payer, proofs)
    }

    /// The transaction that the covenant allows waits to be mined.
    fn settle(&mut self) {
        let txid = bitcoin::hashes::Hash::to_byte_array(
            self.covenant.settling(&self.funding).unwrap().compute_txid(),
        );
        self.stage.sim.chain.announce(Transaction {
            txid,
            spends: vec![self.funding],
            outputs: outputs(&self.slice),
        });
    }

    /// Anybody takes the money, because nothing keeps him from it.
    fn steal(&mut self) {
        let thief = TxOutput {
            script: vec![0x51],
            sats: 1,
        };
        self.stage.sim.chain.spend(vec![self.funding], vec![thief]);
    }
}

const ROUND: Duration = Duration::from_secs(3);

#[test]
fn covenant_opens_a_session_at_all_payees_where_the_chain_enforces_it() {
    for form in [CovenantForm::Bare, CovenantForm::Wsh, CovenantForm::Taproot] {
        let mut bound = bound(enforced(), form);
        bound.open().unwrap();
        let split = Split::of(bound.slice.total_msat, 1).unwrap();
        let (router, destination) = (bound.stage.router, bound.stage.destination);
        assert_eq!(bound.stage.credit_at(router), split.routers_msat());
        assert_eq!(bound.stage.credit_at(destination), split.destination_msat());
        bound.stage.sim.settle();
        assert!(
            !bound.stage.sim.chain.broadcast.is_empty(),
            "whoever honours it settles it"
        );
    }
}

#[test]
fn where_nothing_is_enforced_it_is_refused_until_it_is_settled() {
    let mut bound = bound(policy(), CovenantForm::Wsh);
    assert_eq!(reason(bound.open()), DropReason::CtvNotEnforced);
    bound.settle();
    assert_eq!(reason(bound.open()), DropReason::CtvNotEnforced, "not mined yet");
    bound.stage.sim.chain.mine(2);
    bound.open().unwrap();
    let destination = bound.stage.destination;
    let split = Split::of(bound.slice.total_msat, 1).unwrap();
    assert_eq!(bound.stage.credit_at(destination), split.destination_msat());
}

#[test]
fn thief_who_takes_the_money_leaves_no_credit() {
    let mut bound = bound(policy(), CovenantForm::Bare);
    bound.steal();
    bound.stage.sim.chain.mine(2);
    assert_eq!(reason(bound.open()), DropReason::FundingSpent);
}

#[test]
fn covenant_is_redeemed_once_as_a_covenant_or_as_the_payment_that_it_became() {
    let mut bound = bound(enforced(), CovenantForm::Taproot);
    bound.open().unwrap();
    bound.settle();
    bound.stage.sim.chain.mine(3);
    bound.stage.make_payer_forget();
    assert_eq!(reason(bound.open()), DropReason::AlreadyRedeemed);
    let settled = bound.covenant.settling(&bound.funding).unwrap().compute_txid();
    let paid = crate::proofs(&bound.slice, bitcoin::hashes::Hash::to_byte_array(settled));
    let again = bound.stage.open_later(bound.stage.payer, paid);
    assert_eq!(reason(again), DropReason::AlreadyRedeemed);
}

#[test]
fn settled_covenant_may_be_shown_as_the_payment_it_is() {
    let mut bound = bound(policy(), CovenantForm::Wsh);
    bound.settle();
    bound.stage.sim.chain.mine(2);
    let settled = bound.covenant.settling(&bound.funding).unwrap().compute_txid();
    let paid = crate::proofs(&bound.slice, bitcoin::hashes::Hash::to_byte_array(settled));
    bound.stage.open_later(bound.stage.payer, paid).unwrap();
}

#[test]
fn covenant_that_was_honoured_and_then_stolen_after_all_is_taken_back() {
    // The operator said that his chain enforces covenants, and it does not.
    let mut bound = bound(enforced(), CovenantForm::Wsh);
    bound.open().unwrap();
    bound.steal();
    bound.stage.sim.chain.mine(1);
    bound.stage.sim.run_for(2 * ROUND);
    let destination = bound.stage.destination;
    assert_eq!(bound.stage.credit_at(destination), 0);
    let taken = bound.stage.happened(destination, |event| {
        matches!(event, Event::OutputTakenBack { .. })
    });
    assert_eq!(taken, 1);
}

#[test]
fn honoured_covenant_is_looked_after_through_its_settlement() {
    let mut bound = bound(enforced(), CovenantForm::Wsh);
    bound.open().unwrap();
    let destination = bound.stage.destination;
    let credit = bound.stage.credit_at(destination);
    bound.settle();
    bound.stage.sim.chain.mine(1);
    bound.stage.sim.run_for(2 * ROUND);
    assert_eq!(bound.stage.credit_at(destination), credit);
    // A reorganisation that takes the settlement away, and a double spend of what funded it.
    let coins = bound.stage.sim.chain.spent_by(&bound.funding.txid);
    bound.stage.sim.chain.take_away(3);
    bound.stage.sim.chain.forget_waiting();
    let elsewhere = TxOutput {
        script: vec![0x51],
        sats: 1,
    };
    bound.stage.sim.chain.spend(coins, vec![elsewhere]);
    bound.stage.sim.chain.mine(4);
    bound.stage.sim.run_for(2 * ROUND);
    assert_eq!(bound.stage.credit_at(destination), 0);
}

#[test]
fn covenant_that_is_not_the_split_is_refused_before_the_chain_is_asked() {
    let mut bound = bound(enforced(), CovenantForm::Wsh);
    let mut greedy = outputs(&bound.slice);
    greedy[0].sats -= 1000;
    greedy[1].sats += 1000;
    bound.covenant = Covenant::paying(CovenantForm::Wsh, &greedy);
    assert_eq!(reason(bound.open()), DropReason::OutputMismatch);
}

#[test]
fn covenant_that_was_never_funded_or_by_another_script_is_refused() {
    let mut bound = bound(enforced(), CovenantForm::Wsh);
    let elsewhere = bound.stage.sim.chain.pay(vec![TxOutput {
        script: vec![0x51],
        sats: 1_000_000,
    }]);
    bound.stage.sim.chain.mine(2);
    bound.funding.txid = elsewhere;
    assert_eq!(reason(bound.open()), DropReason::TemplateMismatch);
    bound.funding.txid = [0x99; 32];
    assert_eq!(reason(bound.open()), DropReason::FundingSpent);
}
