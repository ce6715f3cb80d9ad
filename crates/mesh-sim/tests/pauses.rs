//! A node that takes nothing new for a while: what is refused, what goes on, and what is never lost.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use common::row;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Buying, Command, Record, Refusal};
use mesh_core::pause::Pause;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{NodeIndex, Simulation};

const UNITS: u64 = 1000;

const ALL: [(Pause, DropReason); 3] = [
    (Pause::DiskLow, DropReason::DiskLow),
    (Pause::Maintenance, DropReason::Maintenance),
    (Pause::ShuttingDown, DropReason::ShuttingDown),
];

fn accept(sim: &mut Simulation, node: NodeIndex, accept: bool, because: Pause) {
    let id = sim.command(node, Command::AcceptSessions { accept, because });
    assert!(matches!(sim.take_answer(id), Some(Ok(Answer::Done))));
}

/// Who refused and why.
fn told<T: std::fmt::Debug>(
    outcome: Result<T, Box<Refusal>>,
) -> (DropReason, Option<mesh_core::identity::NodeId>) {
    let refusal = outcome.unwrap_err();
    (refusal.reason, refusal.by)
}

#[test]
fn paused_router_gives_no_quote_and_names_the_cause_until_it_is_lifted() {
    for (seed, (pause, reason)) in ALL.into_iter().enumerate() {
        let (mut sim, [a, b, c]) = row(seed as u64, [0, 3, 5]);
        accept(&mut sim, b, false, pause);
        assert_eq!(sim.status(b).unwrap().pauses, [pause]);
        let refused = sim.establish_once(a, c, TrafficClass::Paid, UNITS);
        assert_eq!(told(refused), (reason, Some(sim.id(b))));
        accept(&mut sim, b, true, pause);
        sim.establish_once(a, c, TrafficClass::Paid, UNITS).unwrap();
        sim.audit().unwrap();
    }
}

#[test]
fn what_is_open_goes_on_while_a_hop_takes_nothing_new() {
    let (mut sim, [a, b, c]) = row(11, [0, 3, 5]);
    let trip = sim.establish_once(a, c, TrafficClass::Paid, UNITS).unwrap();
    for node in [a, b, c] {
        accept(&mut sim, node, false, Pause::DiskLow);
    }
    for _ in 0..20 {
        sim.send(a, trip.session, "", b"still paid for").unwrap();
    }
    sim.settle();
    assert_eq!(sim.deliveries(c).len(), 20);
    sim.audit().unwrap();
}

#[test]
fn open_over_old_credit_waits_for_the_end_of_the_pause_and_loses_nothing() {
    let (mut sim, [a, b, c]) = row(12, [0, 3, 5]);
    let trip = sim.establish_once(a, c, TrafficClass::Paid, UNITS).unwrap();
    let held = sim.status(b).unwrap().payers_credit_msat;
    let again = |sim: &mut Simulation| {
        let quoted = sim.quote(a, &trip.path, TrafficClass::Paid, UNITS / 2, Buying::Nowhere)?;
        accept(sim, b, false, Pause::Maintenance);
        sim.open(a, &quoted, Simulation::from_the_wallet())
    };
    assert_eq!(told(again(&mut sim)), (DropReason::Maintenance, Some(sim.id(b))));
    assert_eq!(sim.status(b).unwrap().payers_credit_msat, held);
    accept(&mut sim, b, true, Pause::Maintenance);
    sim.establish_once(a, c, TrafficClass::Paid, UNITS / 2).unwrap();
    assert_eq!(
        sim.status(b).unwrap().payers_credit_msat,
        held,
        "drawn from what was there"
    );
    sim.audit().unwrap();
}

#[test]
fn payment_that_this_node_asked_for_before_the_pause_is_honoured_in_it() {
    let (mut sim, [a, b, c]) = row(13, [0, 3, 5]);
    sim.discover(a, c).unwrap();
    let path = [a, b, c].map(|node| sim.id(node));
    let quoted = sim.quote(a, &path, TrafficClass::Paid, UNITS, Buying::Everywhere);
    for pause in ALL.map(|(pause, _)| pause) {
        accept(&mut sim, b, false, pause);
    }
    let opened = sim
        .open(a, &quoted.unwrap(), Simulation::from_the_wallet())
        .unwrap();
    sim.send(a, opened.session, "", b"paid").unwrap();
    sim.settle();
    assert_eq!(sim.deliveries(c).len(), 1);
    sim.audit().unwrap();
}

#[test]
fn paused_node_buys_and_pays_nothing_itself() {
    let (mut sim, [a, _, c]) = row(14, [0, 3, 5]);
    let routes = sim.discover(a, c).unwrap();
    let quoted = sim.quote(a, &routes[0].path, TrafficClass::Paid, UNITS, Buying::Everywhere);
    accept(&mut sim, a, false, Pause::DiskLow);
    let refused = sim.open(a, &quoted.unwrap(), Simulation::from_the_wallet());
    assert_eq!(told(refused), (DropReason::DiskLow, None));
    let refused = sim.quote(a, &routes[0].path, TrafficClass::Paid, UNITS, Buying::Everywhere);
    assert_eq!(told(refused), (DropReason::DiskLow, None));
    let id = sim.command(
        a,
        Command::PayTreasury {
            amount_msat: Some(1000),
        },
    );
    assert_eq!(told(sim.take_answer(id).unwrap()), (DropReason::DiskLow, None));
    assert_eq!(sim.lightning.settled().count(), 0);
}

#[test]
fn two_causes_hold_until_both_are_lifted() {
    let (mut sim, [a, b, c]) = row(15, [0, 3, 5]);
    accept(&mut sim, b, false, Pause::Maintenance);
    accept(&mut sim, b, false, Pause::DiskLow);
    accept(&mut sim, b, true, Pause::DiskLow);
    let refused = sim.establish_once(a, c, TrafficClass::Paid, UNITS);
    assert_eq!(told(refused).0, DropReason::Maintenance);
    accept(&mut sim, b, true, Pause::Maintenance);
    sim.establish_once(a, c, TrafficClass::Paid, UNITS).unwrap();
}

/// The newest balance of any account that a node wrote down.
fn written(sim: &Simulation, node: NodeIndex) -> Option<u64> {
    sim.disk(node).iter().rev().find_map(|record| match record {
        Record::Account(account) => Some(account.balance_msat),
        _ => None,
    })
}

#[test]
fn flush_is_answered_when_the_disk_has_what_was_drawn_and_a_kill_then_loses_nothing() {
    let (mut sim, [a, b, c]) = row(16, [0, 3, 5]);
    let trip = sim.establish_once(a, c, TrafficClass::Paid, UNITS).unwrap();
    for _ in 0..7 {
        sim.send(a, trip.session, "", b"seven").unwrap();
    }
    sim.run_for(Duration::from_millis(100));
    let held = sim.status(b).unwrap().payers_credit_msat;
    assert_ne!(written(&sim, b), Some(held), "draws are behind a lease");
    let id = sim.command(b, Command::Flush);
    assert!(matches!(sim.wait(id), Some(Ok(Answer::Done))));
    assert_eq!(written(&sim, b), Some(held));
    sim.kill(b);
    sim.restart(b);
    assert_eq!(sim.status(b).unwrap().payers_credit_msat, held);
    sim.audit().unwrap();
}
