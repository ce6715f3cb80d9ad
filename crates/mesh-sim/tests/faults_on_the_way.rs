//! Frames are lost, doubled and overtaken, one at a time at every stage and all at once: money and packets survive it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use common::{five_nodes, make_faulty, row, soup};
use mesh_core::event::{Buying, Event};
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{Fate, NodeIndex, Plan, Simulation, Stage};

const PACKETS: usize = 6;

fn trip_with_one_fault(seed: u64, stage: Stage, nth: usize, fate: Fate) {
    let (mut sim, [a, b, c, d, e]) = five_nodes(seed);
    sim.plan(Plan {
        stage,
        nth,
        fate,
        on: None,
    });
    let what = format!("seed {seed}: {stage:?} {nth} {fate:?}");
    let path = [a, b, c, d, e].map(|node| sim.id(node));
    let routes = sim.discover(a, e).unwrap();
    let path = routes
        .iter()
        .map(|route| &route.path[..])
        .find(|known| *known == path)
        .unwrap_or(&routes[0].path);
    let trip = sim.establish_over(a, path, TrafficClass::Paid, 100);
    let trip =
        trip.unwrap_or_else(|refusal| panic!("{what}: one fault is made good without the user: {refusal}"));
    for number in 0..PACKETS {
        sim.send(a, trip.session, "test", &[number as u8; 300]).unwrap();
        sim.run_for(Duration::from_millis(1));
    }
    sim.settle();
    let lost = usize::from(stage == Stage::Data && fate == Fate::Lost);
    assert!(sim.deliveries(e).len() >= PACKETS - lost, "{what}");
    assert_eq!(sim.unanswered(), 0, "{what}");
    let books = sim.audit().unwrap_or_else(|found| panic!("{what}: {found:?}"));
    assert_eq!(books.unredeemed, 0, "{what}: all that was paid is credited");
    let known = sim.status(a).unwrap().own_credit_msat;
    assert!(
        known <= books.balances,
        "{what}: the payer believes to hold more than it does"
    );
    if lost == 0 {
        assert_eq!(known, books.balances, "{what}");
    }
}

fn one_fault_at_every_stage(fate: Fate) {
    for stage in Stage::ALL_OF_A_TRIP {
        for nth in 0..10 {
            trip_with_one_fault(nth as u64, stage, nth, fate);
        }
    }
}

#[test]
fn one_frame_lost_at_any_stage_costs_nobody_anything() {
    one_fault_at_every_stage(Fate::Lost);
}

#[test]
fn one_frame_doubled_at_any_stage_counts_once() {
    one_fault_at_every_stage(Fate::Duplicated);
}

#[test]
fn one_frame_overtaken_at_any_stage_changes_nothing() {
    one_fault_at_every_stage(Fate::HeldBack);
}

/// Everything goes wrong at once, until the session is open and packets flow; then the links heal and all is counted.
fn through_the_soup(seed: u64) {
    let (mut sim, [a, .., e]) = five_nodes(seed);
    make_faulty(&mut sim, soup());
    let trip = sim.establish(a, e, TrafficClass::Paid, 200);
    let trip = trip.unwrap_or_else(|refusal| panic!("seed {seed}: {refusal}"));
    let mut sent = 0;
    for number in 0..40u8 {
        sent += usize::from(sim.send(a, trip.session, "test", &[number; 100]).is_ok());
    }
    sim.settle();
    let books = sim
        .audit()
        .unwrap_or_else(|found| panic!("seed {seed}: {found:?}"));
    let delivered = sim.deliveries(e).len();
    assert!(
        delivered <= sent && delivered * 3 > sent,
        "seed {seed}: {delivered} of {sent}"
    );
    assert!(
        sim.status(a).unwrap().own_credit_msat <= books.balances,
        "seed {seed}"
    );
    assert_eq!(sim.unanswered(), 0, "seed {seed}");
    assert!(receipted(&sim, a) <= delivered as u64, "seed {seed}");
}

fn receipted(sim: &Simulation, source: NodeIndex) -> u64 {
    let packets = sim.events(source).iter().filter_map(|event| match event {
        Event::Receipt(receipt) => Some(receipt.packets),
        _ => None,
    });
    packets.max().unwrap_or(0)
}

#[test]
fn ten_in_a_hundred_lost_doubled_and_overtaken_loses_no_msat() {
    for seed in 0..60 {
        through_the_soup(seed);
    }
}

#[test]
fn ack_that_never_comes_costs_patience_but_no_money() {
    for seed in 0..4 {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        for nth in 0..100 {
            sim.plan(Plan {
                stage: Stage::Ack,
                nth,
                fate: Fate::Lost,
                on: Some((b, a)),
            });
        }
        let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
        assert!(trip.attempts > 1);
        let paid: Vec<_> = sim.lightning.settled().map(|payment| payment.payee).collect();
        assert_eq!(
            paid.len(),
            2,
            "nobody is paid twice, however often the open is tried"
        );
        sim.send(a, trip.session, "", b"x").unwrap();
        sim.settle();
        assert_eq!(sim.deliveries(c).len(), 1);
        assert_eq!(sim.audit().unwrap().unredeemed, 0);
    }
}

#[test]
fn link_cut_on_the_way_is_named_and_credit_at_surviving_hops_serves_the_next_route() {
    let (mut sim, [a, b, c, d, e]) = five_nodes(9);
    let trip = sim.establish(a, e, TrafficClass::Paid, 2000).unwrap();
    assert_eq!(trip.path.len(), 3);
    sim.cut(b, e);
    sim.run_for(Duration::from_millis(200));
    sim.send(a, trip.session, "", b"x").unwrap();
    sim.settle();
    let refused = sim.events(a).iter().any(|event| {
        matches!(event, Event::HopRefused { hop, refusal, .. }
            if *hop == sim.id(b) && refusal.reason == mesh_core::drop_reason::DropReason::NextHopGone)
    });
    assert!(refused, "the hop before the cut says so and names itself");
    let again = sim.establish_once(a, e, TrafficClass::Paid, 30).unwrap();
    assert_eq!(again.path, [a, b, c, d, e].map(|node| sim.id(node)));
    let bought: Vec<_> = again.opened.paid.iter().map(|(payee, ..)| *payee).collect();
    assert_eq!(
        bought,
        [sim.id(c), sim.id(d)],
        "only who holds no credit yet is paid"
    );
    sim.send(a, again.session, "", b"y").unwrap();
    sim.settle();
    assert_eq!(sim.deliveries(e).len(), 1);
    sim.audit().unwrap();
}

#[test]
fn wallet_that_fails_half_of_all_payments_loses_none() {
    for seed in 0..20 {
        let (mut sim, [a, .., e]) = five_nodes(seed);
        sim.lightning.spec.fails = 500_000;
        sim.establish(a, e, TrafficClass::Paid, 100).unwrap();
        let books = sim
            .audit()
            .unwrap_or_else(|found| panic!("seed {seed}: {found:?}"));
        assert_eq!(
            books.unredeemed, 0,
            "seed {seed}: what was paid in a failed attempt is shown in the next"
        );
    }
}

#[test]
fn payment_that_outlives_its_quotes_is_neither_lost_nor_left_unanswered() {
    let (mut sim, [a, .., c]) = row(5, [0, 3, 5]);
    let path = sim.discover(a, c).unwrap()[0].path.clone();
    let quoted = sim
        .quote(a, &path, TrafficClass::Paid, 100, Buying::Everywhere)
        .unwrap();
    sim.run_for(Duration::from_secs(595));
    sim.lightning.spec.pays_after = Duration::from_secs(10);
    let id = sim.command(
        a,
        mesh_core::event::Command::Open {
            quotes: quoted.id,
            funding: Simulation::from_the_wallet(),
            sign_as_source: true,
        },
    );
    assert!(sim.wait(id).is_some(), "every command gets an answer");
    sim.settle();
    sim.audit().unwrap();
}
