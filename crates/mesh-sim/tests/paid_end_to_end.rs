//! The plain promise: a way is found, everybody on it is paid his share to the msat, and what is sent arrives.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::collections::BTreeSet;

use common::{SEEDS, five_nodes};
use mesh_core::event::{Event, Record};
use mesh_core::fees::Split;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::Simulation;

#[test]
fn both_ways_are_found_and_the_cheaper_comes_first() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, d, e]) = five_nodes(seed);
        let routes = sim.discover(a, e).unwrap();
        let paths: BTreeSet<_> = routes.iter().map(|route| route.path.clone()).collect();
        let long = [a, b, c, d, e].map(|node| sim.id(node)).to_vec();
        let short = [a, b, e].map(|node| sim.id(node)).to_vec();
        assert_eq!(paths, BTreeSet::from([long, short.clone()]));
        assert_eq!(routes[0].path, short, "the cheaper way comes first");
    }
}

#[test]
fn every_share_is_sixty_thirty_ten_to_the_msat_and_every_payee_credits_its_own() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, d, e]) = five_nodes(seed);
        let path = [a, b, c, d, e].map(|node| sim.id(node));
        sim.discover(a, e).unwrap();
        let trip = sim
            .establish_over(a, &path, TrafficClass::Paid, 777 + seed)
            .unwrap();
        let total = trip.quoted.total_msat;
        let split = Split::of(total, 3).unwrap();
        assert_eq!(split.treasury_msat(), total / 10);
        assert_eq!(split.routers_msat(), total * 4 / 10 - total / 10);
        assert_eq!(split.destination_msat(), total - total * 4 / 10);
        for (place, node) in [b, c, d, e].into_iter().enumerate() {
            let status = sim.status(node).unwrap();
            assert_eq!(
                Some(status.payers_credit_msat),
                split.share(place),
                "payee {place}"
            );
            let received = sim.lightning.balance_msat(node) - 1_000_000_000;
            assert_eq!(Some(received), split.payment(place), "payee {place}");
        }
        assert_eq!(sim.status(e).unwrap().treasury_owed_msat, split.treasury_msat());
        let books = sim.audit().unwrap();
        assert_eq!((books.paid, books.credited + books.treasury), (total, total));
        assert_eq!(books.unredeemed, 0);
    }
}

#[test]
fn what_is_paid_for_arrives_in_full_and_no_unit_more() {
    for seed in SEEDS {
        let (mut sim, [a, .., e]) = five_nodes(seed);
        let trip = sim.establish(a, e, TrafficClass::Paid, 100).unwrap();
        let mut sent = 0u64;
        while sim.send(a, trip.session, "test", &payload(sent)).is_ok() {
            sent += 1;
        }
        sim.settle();
        // The least payable share buys more than the hundred units asked for.
        assert!(sent >= 100, "{sent}");
        let arrived: BTreeSet<_> = sim
            .deliveries(e)
            .iter()
            .map(|delivery| delivery.sequence)
            .collect();
        assert_eq!(arrived, (0..sent).collect());
        assert!(
            sim.deliveries(e)
                .iter()
                .all(|delivery| delivery.source == Some(sim.id(a)))
        );
        let receipt = sim.events(a).iter().rev().find_map(|event| match event {
            Event::Receipt(receipt) => Some(receipt.packets),
            _ => None,
        });
        assert_eq!(receipt, Some(sent), "the last receipt covers everything");
        sim.audit().unwrap();
    }
}

fn payload(number: u64) -> Vec<u8> {
    vec![number as u8; 200 + number as usize % 50]
}

#[test]
fn a_payload_just_over_a_unit_costs_the_payer_what_the_hops_draw() {
    let (mut sim, [a, .., e]) = five_nodes(1);
    let trip = sim.establish(a, e, TrafficClass::Paid, 2000).unwrap();
    let before = sim.status(a).unwrap().own_credit_msat;
    for _ in 0..50 {
        sim.send(a, trip.session, "", &[7; 1025]).unwrap();
    }
    sim.settle();
    assert_eq!(sim.deliveries(e).len(), 50);
    let counted = before - sim.status(a).unwrap().own_credit_msat;
    let drawn: u64 = sim.all_nodes().map(|node| sim.drawn_at(node)).sum();
    assert_eq!(
        counted, drawn,
        "the payer's own count must not run away from the hops'"
    );
    sim.audit().unwrap();
}

#[test]
fn proof_is_durable_before_the_open_is_sent() {
    let (mut sim, [a, b, ..]) = five_nodes(3);
    sim.establish(a, b, TrafficClass::Paid, 100).unwrap();
    let records = sim.disk(a);
    let proof = records
        .iter()
        .position(|record| matches!(record, Record::Proof(_)));
    let redeemed = records
        .iter()
        .position(|record| matches!(record, Record::ProofRedeemed { .. }));
    assert!(proof.unwrap() < redeemed.unwrap());
}

#[test]
fn rerun_with_the_same_seed_is_identical_and_with_another_is_not() {
    let run = |seed| {
        let (mut sim, [a, .., e]) = five_nodes(seed);
        common::make_faulty(&mut sim, common::soup());
        let trip = sim.establish(a, e, TrafficClass::Paid, 100);
        if let Ok(trip) = trip {
            for number in 0..20 {
                let _ = sim.send(a, trip.session, "test", &payload(number));
            }
        }
        sim.settle();
        sim.event_hash()
    };
    for seed in SEEDS {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed), run(seed + 1000));
    }
    assert_ne!(Simulation::new(1).event_hash(), run(1));
}
