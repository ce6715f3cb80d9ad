//! What is paid as quoted and deep enough is credited, once, to the msat.

use mesh_core::chain::{MSAT_PER_SAT, PaymentMethod, TxOutput};
use mesh_core::event::{Buying, Event};
use mesh_core::fees::Split;
use mesh_core::ledger::LedgerAccount;

use crate::{Stage, outputs, policy, proofs, reason};
use mesh_core::drop_reason::DropReason;

#[test]
fn every_share_is_whole_satoshis_and_exactly_sixty_thirty_ten() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let split = Split::of(slice.total_msat, 1).unwrap();
    assert_eq!(split.destination_msat() * 10, slice.total_msat * 6);
    assert_eq!(split.routers_msat() * 10, slice.total_msat * 3);
    assert_eq!(split.treasury_msat() * 10, slice.total_msat);
    for (place, payee) in slice.payees.iter().enumerate() {
        assert_eq!(Some(payee.amount_msat), split.payment(place));
        assert_eq!(payee.amount_msat % MSAT_PER_SAT, 0);
        assert!(payee.amount_msat >= mesh_core::limits::MIN_CHAIN_SHARE_MSAT);
        let (_, output) = payee.output.as_ref().unwrap();
        assert_eq!(output.depth, 2);
        assert!(payee.invoice.is_none());
    }
    let scripts: Vec<_> = outputs(&slice).into_iter().map(|output| output.script).collect();
    assert_ne!(scripts[0], scripts[1]);
}

#[test]
fn payment_on_the_chain_opens_a_session_and_packets_draw_on_it() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    let opened = stage.open(&slice, txid).unwrap();
    let (router, destination) = (stage.router, stage.destination);
    let split = Split::of(slice.total_msat, 1).unwrap();
    assert_eq!(stage.credit_at(router), split.routers_msat());
    assert_eq!(stage.credit_at(destination), split.destination_msat());
    assert_eq!(
        stage.sim.status(destination).unwrap().treasury_owed_msat,
        split.treasury_msat()
    );
    assert_eq!(
        stage.own_credit(),
        split.routers_msat() + split.destination_msat(),
        "the payer knows what it bought"
    );
    let payer = stage.payer;
    stage
        .sim
        .send(payer, opened.session, "test", b"paid by an output")
        .unwrap();
    stage.sim.settle();
    assert_eq!(stage.sim.deliveries(destination).len(), 1);
    assert!(stage.credit_at(destination) < split.destination_msat());
}

#[test]
fn each_honoured_output_is_booked_with_its_treasury_part() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    stage.open(&slice, txid).unwrap();
    let split = Split::of(slice.total_msat, 1).unwrap();
    let at = stage.destination;
    let credit = |account: &LedgerAccount| matches!(account, LedgerAccount::PayerCredit(_));
    assert_eq!(stage.booked(at).len(), 1);
    assert_eq!(
        stage.balance(at, |account| *account == LedgerAccount::OnChain),
        (split.destination_msat() + split.treasury_msat()) as i64
    );
    assert_eq!(stage.balance(at, credit), -(split.destination_msat() as i64));
    assert_eq!(
        stage.balance(at, |account| *account == LedgerAccount::TreasuryOwed),
        -(split.treasury_msat() as i64)
    );
}

#[test]
fn what_is_paid_too_much_is_the_payees_and_buys_nothing_more() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let mut generous = outputs(&slice);
    generous[1].sats += 7;
    let txid = stage.sim.chain.pay(generous);
    stage.sim.chain.mine(2);
    stage.open(&slice, txid).unwrap();
    let split = Split::of(slice.total_msat, 1).unwrap();
    let at = stage.destination;
    assert_eq!(stage.credit_at(at), split.destination_msat());
    assert_eq!(
        stage.balance(at, |account| *account == LedgerAccount::Earned),
        -7000
    );
}

#[test]
fn payment_that_took_hours_is_shown_with_later_quotes_and_its_worth_is_known() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    let early = stage.open(&slice, txid);
    assert_eq!(reason(early), DropReason::Unconfirmed);
    // Longer than quotes are kept.
    stage.sim.run_for(std::time::Duration::from_secs(2 * 3600));
    stage.sim.chain.mine(2);
    stage.open_later(stage.payer, proofs(&slice, txid)).unwrap();
    let split = Split::of(slice.total_msat, 1).unwrap();
    assert_eq!(
        stage.own_credit(),
        split.routers_msat() + split.destination_msat()
    );
}

#[test]
fn payer_that_restarts_while_it_waits_for_blocks_still_knows_what_it_paid_for() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    let payer = stage.payer;
    stage.sim.settle();
    stage.sim.kill(payer);
    stage.sim.restart(payer);
    stage.sim.run_for(std::time::Duration::from_secs(1));
    stage.sim.chain.mine(2);
    stage.open_later(payer, proofs(&slice, txid)).unwrap();
    let split = Split::of(slice.total_msat, 1).unwrap();
    assert_eq!(
        stage.own_credit(),
        split.routers_msat() + split.destination_msat()
    );
}

#[test]
fn payee_that_restarts_before_it_is_shown_the_payment_honours_it() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    let (router, destination) = (stage.router, stage.destination);
    stage.sim.settle();
    for payee in [router, destination] {
        stage.sim.kill(payee);
        stage.sim.restart(payee);
    }
    stage.sim.run_for(std::time::Duration::from_secs(1));
    stage.sim.chain.mine(2);
    stage.open_later(stage.payer, proofs(&slice, txid)).unwrap();
    let credited = stage.happened(destination, |event| {
        matches!(event, Event::PaymentVerified { .. })
    });
    assert_eq!(credited, 1);
}

#[test]
fn payment_that_waits_for_blocks_keeps_nobody_from_paying_over_lightning() {
    let mut stage = Stage::new(policy());
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    assert_eq!(reason(stage.open(&slice, txid)), DropReason::Unconfirmed);
    let (payer, destination) = (stage.payer, stage.destination);
    let trip = stage
        .sim
        .establish_once(
            payer,
            destination,
            mesh_core::routing_policy::TrafficClass::Paid,
            10,
        )
        .unwrap();
    assert!(!trip.opened.paid.is_empty());
}

#[test]
fn free_routes_cost_nothing_on_the_chain_either() {
    let mut stage = Stage::new(policy());
    let path = [stage.payer, stage.router].map(|node| stage.sim.id(node));
    stage.sim.discover(stage.payer, stage.router).unwrap();
    let slice = stage
        .sim
        .quote_by(
            PaymentMethod::OnChain,
            stage.payer,
            &path,
            mesh_core::routing_policy::TrafficClass::Governance,
            1,
            Buying::Everywhere,
        )
        .unwrap();
    assert_eq!(slice.total_msat, 0);
    assert!(slice.payees.iter().all(|payee| payee.output.is_none()));
    let nothing: Vec<TxOutput> = outputs(&slice);
    assert!(nothing.is_empty());
}
