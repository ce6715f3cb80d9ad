//! Auto-pay end to end: a node that pays by itself pays no more than its operator allows, whatever fails or is killed.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use common::SEEDS;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Event, Funding, OpenedSession, Record, Refusal};
use mesh_core::routing_policy::TrafficClass;
use mesh_core::spending::{Caller, ModuleName, SpendingCap, SpendingCaps, SpendingRefusal};
use mesh_core::time::UnixMillis;
use mesh_sim::{CrashPoint, LinkSpec, NodeIndex, NodeSpec, Simulation};

/// Room for one purchase of [`UNITS`] within an hour, and not for two.
const CAPS: SpendingCaps = SpendingCaps {
    per_packet_msat: 1_000,
    max_total_msat: 20_000,
    per_hour_msat: 30_000,
    per_day_msat: 70_000,
    per_destination_day_msat: 70_000,
    per_caller_day_msat: 70_000,
    unidentified_day_msat: 70_000,
    max_fee_msat: 1_000,
};

/// A slice over one router that charges 3 and a destination that charges 5 costs 16,670 msat.
const UNITS: u64 = 1_667;

const HOUR: Duration = Duration::from_secs(3600);

/// A payer with caps, a router and a destination; Lightning takes a little.
fn line(seed: u64, spending: SpendingCaps) -> (Simulation, [NodeIndex; 3]) {
    let mut sim = Simulation::new(seed);
    let payer = NodeSpec {
        spending,
        ..NodeSpec::paid(0)
    };
    let nodes = [payer, NodeSpec::paid(3), NodeSpec::paid(5)].map(|spec| sim.add_node(spec));
    sim.connect(nodes[0], nodes[1], LinkSpec::default());
    sim.connect(nodes[1], nodes[2], LinkSpec::default());
    sim.lightning.spec.fee_ppm = 10_000;
    sim.run_for(Duration::from_millis(100));
    (sim, nodes)
}

fn module(name: &str) -> Caller {
    Caller::Module(ModuleName::new(name).unwrap())
}

/// Buys a slice at everybody on the way, for a caller.
fn buy(
    sim: &mut Simulation,
    [a, _, c]: [NodeIndex; 3],
    caller: &Caller,
) -> Result<OpenedSession, Box<Refusal>> {
    let path = sim.discover(a, c)?[0].path.clone();
    let quoted = sim.quote(a, &path, TrafficClass::Paid, UNITS, Buying::Everywhere)?;
    let funding = Funding::AutoPay {
        proofs: Vec::new(),
        caller: caller.clone(),
        packet_units: 1,
        most_msat: u64::MAX,
        max_fee_msat: u64::MAX,
        keep_funded: false,
    };
    sim.open(a, &quoted, funding)
}

/// The cap that refused, what was left of it, and when it frees.
fn above(refused: Result<OpenedSession, Box<Refusal>>) -> (SpendingCap, u64, Option<Duration>) {
    let refusal = refused.unwrap_err();
    assert_eq!(refusal.reason, DropReason::LimitReached);
    match refusal.limit {
        Some(SpendingRefusal::Above {
            cap,
            left_msat,
            frees_in,
            ..
        }) => (cap, left_msat, frees_in),
        other => panic!("{other:?}"),
    }
}

/// What left the payer's wallet.
fn spent(sim: &Simulation, payer: NodeIndex) -> u64 {
    NodeSpec::paid(0).balance_msat - sim.lightning.balance_msat(payer)
}

#[test]
fn what_is_above_a_cap_is_refused_with_the_quote_to_pay_instead_until_the_window_has_passed() {
    for seed in SEEDS {
        let (mut sim, nodes) = line(seed, CAPS);
        buy(&mut sim, nodes, &module("chat")).unwrap();
        let first = spent(&sim, nodes[0]);
        assert!(first > 16_670, "shares and Lightning fees");

        let refused = buy(&mut sim, nodes, &module("mail"));
        let quote = refused.as_ref().unwrap_err().quote.clone().unwrap();
        let missing = refused.as_ref().unwrap_err().missing.clone();
        assert_eq!(missing, [sim.id(nodes[1]), sim.id(nodes[2])]);
        assert!(quote.payees.iter().all(|payee| payee.invoice.is_some()));
        let (cap, left, frees_in) = above(refused);
        assert_eq!((cap, left), (SpendingCap::Hour, 30_000 - first));
        assert_eq!(spent(&sim, nodes[0]), first, "nothing was paid for a refusal");

        sim.run_for(frees_in.unwrap());
        buy(&mut sim, nodes, &module("mail")).unwrap();
        sim.settle();
        sim.audit().unwrap();
    }
}

#[test]
fn operators_own_limits_ask_no_cap_and_use_up_none() {
    let (mut sim, nodes) = line(1, CAPS);
    for _ in 0..5 {
        let path = sim.discover(nodes[0], nodes[2]).unwrap()[0].path.clone();
        let quoted = sim
            .quote(nodes[0], &path, TrafficClass::Paid, UNITS, Buying::Everywhere)
            .unwrap();
        sim.open(nodes[0], &quoted, Simulation::from_the_wallet())
            .unwrap();
    }
    buy(&mut sim, nodes, &module("chat")).unwrap();
}

#[test]
fn node_whose_operator_allows_nothing_pays_nothing_and_carries_what_others_paid() {
    let (mut sim, nodes) = line(1, SpendingCaps::default());
    let refusal = buy(&mut sim, nodes, &Caller::Operator).unwrap_err();
    assert_eq!(refusal.limit, Some(SpendingRefusal::Off));
    assert_eq!(sim.lightning.settled().count(), 0);
    let trip = sim
        .establish(nodes[0], nodes[2], TrafficClass::Paid, UNITS)
        .unwrap();
    sim.send(nodes[0], trip.session, "", &[7; 100_000]).unwrap();
}

#[test]
fn payment_that_certainly_failed_gives_the_budget_back() {
    for seed in SEEDS {
        let (mut sim, nodes) = line(seed, CAPS);
        sim.lightning.spec.fails = 1_000_000;
        for _ in 0..5 {
            let refusal = buy(&mut sim, nodes, &module("chat")).unwrap_err();
            assert_eq!(refusal.reason, DropReason::PaymentFailed);
        }
        sim.lightning.spec.fails = 0;
        buy(&mut sim, nodes, &module("chat")).unwrap();
    }
}

#[test]
fn payment_of_unknown_outcome_stays_counted_with_the_most_it_may_have_cost() {
    for seed in SEEDS {
        let (mut sim, nodes) = line(seed, CAPS);
        sim.lightning.spec.unknown = 1_000_000;
        let refusal = buy(&mut sim, nodes, &module("chat")).unwrap_err();
        assert_eq!(refusal.reason, DropReason::PaymentUnknown);
        let (cap, left, _) = above(buy(&mut sim, nodes, &module("chat")));
        assert_eq!(cap, SpendingCap::Hour);
        assert_eq!(left, 30_000 - 20_000 - 2 * CAPS.max_fee_msat);
    }
}

#[test]
fn kill_at_any_moment_of_a_purchase_refills_no_budget() {
    let is_reservation: fn(&Record) -> bool = |record| matches!(record, Record::Spending(_));
    let is_begun: fn(&Record) -> bool =
        |record| matches!(record, Record::Proof(proof) if proof.is_under_way());
    let is_paid: fn(&Record) -> bool =
        |record| matches!(record, Record::Proof(proof) if !proof.is_under_way());
    for seed in SEEDS {
        for (when, point) in [
            (is_reservation, CrashPoint::AfterWriting),
            (is_begun, CrashPoint::BeforeWriting),
            (is_begun, CrashPoint::AfterWriting),
            (is_paid, CrashPoint::BeforeWriting),
            (is_paid, CrashPoint::AfterWriting),
        ] {
            let (mut sim, nodes) = line(seed, CAPS);
            sim.crash_at(nodes[0], point, when);
            assert!(buy(&mut sim, nodes, &module("chat")).is_err(), "it was killed");
            sim.run_for(Duration::from_secs(10));
            sim.restart(nodes[0]);
            sim.run_for(Duration::from_secs(1));
            let (cap, left, frees_in) = above(buy(&mut sim, nodes, &module("chat")));
            assert_eq!(cap, SpendingCap::Hour);
            assert!(left <= 30_000 - spent(&sim, nodes[0]));
            assert!(frees_in.unwrap() <= HOUR + Duration::from_secs(60));
        }
        // Killed before even that was written: nothing was paid, and nothing counts.
        let (mut sim, nodes) = line(seed, CAPS);
        sim.crash_at(nodes[0], CrashPoint::BeforeWriting, is_reservation);
        assert!(buy(&mut sim, nodes, &module("chat")).is_err());
        sim.restart(nodes[0]);
        sim.run_for(Duration::from_secs(1));
        assert_eq!(spent(&sim, nodes[0]), 0);
        buy(&mut sim, nodes, &module("chat")).unwrap();
    }
}

#[test]
fn session_that_auto_pay_opened_carries_no_packet_above_the_cap() {
    let caps = SpendingCaps {
        per_packet_msat: 50,
        ..CAPS
    };
    let (mut sim, nodes) = line(1, caps);
    let opened = buy(&mut sim, nodes, &module("chat")).unwrap();
    sim.send(nodes[0], opened.session, "", &[0; 4 * 1024]).unwrap();
    let refusal = sim
        .send(nodes[0], opened.session, "", &[0; 6 * 1024])
        .unwrap_err();
    assert_eq!(refusal.reason, DropReason::LimitReached);
    assert!(matches!(
        refusal.limit,
        Some(SpendingRefusal::Above {
            cap: SpendingCap::Packet,
            cap_msat: 50,
            wanted_msat: 60..=70,
            ..
        })
    ));
}

/// A stream that auto-pay keeps funded stalls at no slice, and ends where the caller's budget does, though others left credit
/// at the same payees.
#[test]
fn stream_is_kept_funded_within_the_caps_and_ends_with_the_budget() {
    let caps = SpendingCaps {
        per_hour_msat: 1_000_000,
        per_day_msat: 1_000_000,
        per_destination_day_msat: 1_000_000,
        per_caller_day_msat: 60_000,
        ..CAPS
    };
    let (mut sim, nodes) = line(1, caps);
    let [a, _, c] = nodes;
    buy(&mut sim, nodes, &module("another")).unwrap();
    let before = spent(&sim, a);
    let path = sim.discover(a, c).unwrap()[0].path.clone();
    let quoted = sim
        .quote(a, &path, TrafficClass::Paid, 500, Buying::Everywhere)
        .unwrap();
    let funding = Funding::AutoPay {
        proofs: Vec::new(),
        caller: module("stream"),
        packet_units: 1,
        most_msat: u64::MAX,
        max_fee_msat: u64::MAX,
        keep_funded: true,
    };
    let session = sim.open(a, &quoted, funding).unwrap().session;
    let mut sent = 0u64;
    let refused = loop {
        match sim.send(a, session, "", b"one unit") {
            Ok(_) => sent += 1,
            Err(refusal) => break refusal,
        }
        assert!(
            sent < 10_000,
            "a budget of 60,000 msat carries no more than 6,000 units"
        );
        sim.run_for(Duration::from_millis(1));
    };
    assert!(
        matches!(refused.reason, DropReason::CreditSpent | DropReason::CreditComing),
        "{refused}"
    );
    assert!(sent > 1_500, "several slices, without a stall: {sent}");
    assert!(spent(&sim, a) - before <= 60_000);
    let failed = sim.events(a).iter().any(
        |event| matches!(event, Event::TopUpFailed { reason, .. } if *reason == DropReason::LimitReached),
    );
    assert!(failed, "the caps ended it");
    sim.settle();
    sim.audit().unwrap();
}

/// Whatever fails, is not told or is killed: what the wallets saw leave is within the caps, in every hour and every day.
#[test]
fn wallet_never_sees_more_leave_than_the_caps_allow_in_any_hour_or_day() {
    for seed in 1..4 {
        let (mut sim, nodes) = line(seed, CAPS);
        sim.lightning.spec.fails = 200_000;
        sim.lightning.spec.unknown = 200_000;
        let callers = [module("a"), module("b"), Caller::Unidentified, Caller::Operator];
        let (mut opened, mut refused) = (0, 0);
        for round in 0..120u64 {
            match buy(&mut sim, nodes, &callers[(round % 4) as usize]) {
                Ok(_) => opened += 1,
                Err(refusal) if refusal.reason == DropReason::LimitReached => refused += 1,
                Err(_) => {}
            }
            if round % 7 == seed {
                sim.kill(nodes[0]);
                sim.run_for(Duration::from_secs(1));
                sim.restart(nodes[0]);
            }
            sim.run_for(Duration::from_secs(600 + 61 * round));
        }
        assert!(opened > 4 && refused > 5, "{opened} opened, {refused} refused");
        let payments: Vec<(UnixMillis, u64)> = sim
            .lightning
            .settled()
            .filter(|payment| payment.payer == nodes[0])
            .map(|payment| (payment.visible, payment.amount_msat + payment.fee_msat))
            .collect();
        for (span, cap) in [(HOUR, CAPS.per_hour_msat), (24 * HOUR, CAPS.per_day_msat)] {
            for (end, _) in &payments {
                let within = payments.iter().filter(|(at, _)| at <= end && *end - *at <= span);
                assert!(within.map(|(_, msat)| msat).sum::<u64>() <= cap, "seed {seed}");
            }
        }
    }
}
