//! kill -9 at the worst moments: what was paid stays paid, what was spent stays spent.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::{SEEDS, row};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Funding, Record};
use mesh_core::limits::CRASH_LOSS_MSAT;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{CrashPoint, NodeIndex, Simulation, Stage, Trip};

type Recorded = Rc<RefCell<Vec<Bytes>>>;

/// Keeps a copy of every frame of a stage in one direction of a link.
fn record(sim: &mut Simulation, from: NodeIndex, to: NodeIndex, wanted: Stage) -> Recorded {
    let kept = Recorded::default();
    let keep = kept.clone();
    sim.tamper(
        from,
        to,
        Box::new(move |stage, frame| {
            if stage == wanted {
                keep.borrow_mut().push(frame.clone());
            }
            vec![frame.clone()]
        }),
    );
    kept
}

fn restart(sim: &mut Simulation, node: NodeIndex) {
    sim.kill(node);
    sim.run_for(Duration::from_secs(1));
    sim.restart(node);
    sim.run_for(Duration::from_secs(1));
}

fn packets(sim: &mut Simulation, source: NodeIndex, trip: &Trip, count: usize) {
    for number in 0..count {
        sim.send(source, trip.session, "", &[number as u8; 100]).unwrap();
    }
    sim.settle();
}

fn is_redemption(record: &Record) -> bool {
    matches!(
        record,
        Record::InvoiceClosed {
            redeemed_until: Some(_),
            ..
        }
    )
}

#[test]
fn hop_killed_between_payment_and_open_still_honours_the_payment() {
    for seed in SEEDS {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        let path = sim.discover(a, c).unwrap()[0].path.clone();
        let quoted = sim
            .quote(a, &path, TrafficClass::Paid, 500, Buying::WhereNeeded)
            .unwrap();
        let proofs = quoted.payees.iter().map(|payee| {
            let invoice = payee.invoice.clone().unwrap();
            let now = sim.now().unix;
            let paid = sim
                .lightning
                .pay(a, &invoice, 1000, now, &mut mesh_sim::Random::new(1))
                .unwrap();
            let proof = mesh_core::payment_proof::PaymentProof::Lightning {
                invoice,
                preimage: paid.preimage,
                amount_msats: paid.amount_msat,
                timestamp: now.seconds(),
                expires_at: payee.redeem_by.seconds(),
            };
            (payee.payee, proof)
        });
        let proofs: Vec<_> = proofs.collect();
        restart(&mut sim, b);
        let opened = sim.open(a, &quoted, Funding::Proofs(proofs)).unwrap();
        for _ in 0..500 {
            sim.send(a, opened.session, "", b"paid by the caller himself")
                .unwrap();
        }
        sim.settle();
        assert_eq!(sim.deliveries(c).len(), 500);
        assert_eq!(sim.audit().unwrap().unredeemed, 0);
    }
}

#[test]
fn killed_at_the_redemption_itself_credits_once_and_only_once() {
    for point in [CrashPoint::BeforeWriting, CrashPoint::AfterWriting] {
        for seed in SEEDS {
            for victim in 1..4 {
                let (mut sim, nodes) = row(seed, [0, 3, 5, 2]);
                let [a, .., d] = nodes;
                sim.crash_at(nodes[victim], point, is_redemption);
                sim.discover(a, d).unwrap();
                let failed = sim.establish_once(a, d, TrafficClass::Paid, 500);
                assert!(failed.is_err(), "it was killed while opening");
                sim.restart(nodes[victim]);
                sim.run_for(Duration::from_secs(1));
                let trip = sim.establish(a, d, TrafficClass::Paid, 500).unwrap();
                assert_eq!(
                    sim.lightning.settled().count(),
                    3,
                    "{point:?} {seed} {victim}: nobody is paid twice"
                );
                packets(&mut sim, a, &trip, 400);
                assert_eq!(sim.deliveries(d).len(), 400);
                assert_eq!(sim.audit().unwrap().unredeemed, 0, "{point:?} {seed} {victim}");
            }
        }
    }
}

#[test]
fn hop_killed_after_the_open_loses_the_session_but_no_credit() {
    for seed in SEEDS {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        let trip = sim.establish(a, c, TrafficClass::Paid, 2000).unwrap();
        packets(&mut sim, a, &trip, 50);
        restart(&mut sim, b);
        sim.send(a, trip.session, "", b"lost").unwrap();
        sim.settle();
        assert_eq!(sim.drops(b, DropReason::UnknownSession), 1);
        let again = sim.establish(a, c, TrafficClass::Paid, 1000).unwrap();
        assert!(again.opened.paid.is_empty(), "the credit serves the new session");
        packets(&mut sim, a, &again, 100);
        assert_eq!(sim.deliveries(c).len(), 150);
        sim.audit().unwrap();
    }
}

#[test]
fn old_open_replayed_after_restart_is_refused() {
    for seed in SEEDS {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        let opens = record(&mut sim, a, b, Stage::Open);
        let trip = sim.establish(a, c, TrafficClass::Paid, 500).unwrap();
        packets(&mut sim, a, &trip, 5);
        restart(&mut sim, b);
        let (sessions, before) = (
            sim.status(b).unwrap().sessions,
            sim.drops(b, DropReason::UnknownQuote),
        );
        let open = opens.borrow()[0].clone();
        sim.inject(a, b, open);
        sim.settle();
        assert_eq!(sim.status(b).unwrap().sessions, sessions);
        assert_eq!(sim.drops(b, DropReason::UnknownQuote), before + 1);
        sim.audit().unwrap();
    }
}

#[test]
fn old_packets_replayed_after_restart_are_not_counted_again() {
    for seed in SEEDS {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        let frames = record(&mut sim, a, b, Stage::Data);
        let trip = sim.establish(a, c, TrafficClass::Paid, 500).unwrap();
        packets(&mut sim, a, &trip, 20);
        restart(&mut sim, b);
        let credit = sim.status(b).unwrap().payers_credit_msat;
        let old = frames.borrow().clone();
        for frame in old {
            sim.inject(a, b, frame);
        }
        sim.settle();
        assert_eq!(sim.status(b).unwrap().payers_credit_msat, credit);
        assert_eq!(sim.deliveries(c).len(), 20);
        sim.audit().unwrap();
    }
}

#[test]
fn proof_shown_again_after_restart_is_already_redeemed() {
    for seed in SEEDS {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        sim.establish(a, c, TrafficClass::Paid, 500).unwrap();
        let proofs = sim.disk(a).iter().filter_map(|record| match record {
            Record::Proof(proof) => Some((proof.payee, proof.proof.clone())),
            _ => None,
        });
        let proofs: Vec<_> = proofs.collect();
        restart(&mut sim, b);
        let credit = sim.status(b).unwrap().payers_credit_msat;
        let path = [a, b, c].map(|node| sim.id(node));
        sim.discover(a, c).unwrap();
        let quoted = sim
            .quote(a, &path, TrafficClass::Paid, 500, Buying::Nowhere)
            .unwrap();
        let refusal = sim.open(a, &quoted, Funding::Proofs(proofs)).unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.by),
            (DropReason::AlreadyRedeemed, Some(sim.id(b)))
        );
        assert_eq!(sim.status(b).unwrap().payers_credit_msat, credit);
        sim.audit().unwrap();
    }
}

#[test]
fn crashed_hop_forgets_at_most_its_lease_and_to_its_own_loss() {
    for seed in SEEDS {
        let (mut sim, [a, b, c]) = row(seed, [0, 300, 300]);
        let trip = sim.establish(a, c, TrafficClass::Paid, 1000).unwrap();
        packets(&mut sim, a, &trip, 333);
        let before = sim.status(b).unwrap().payers_credit_msat;
        restart(&mut sim, b);
        let after = sim.status(b).unwrap().payers_credit_msat;
        assert!(
            after >= before && after - before <= CRASH_LOSS_MSAT,
            "{before} {after}"
        );
        sim.audit().unwrap();
    }
}

#[test]
fn payer_killed_while_paying_pays_nobody_twice_and_shows_the_proofs_in_its_next_life() {
    for point in [CrashPoint::BeforeWriting, CrashPoint::AfterWriting] {
        for seed in SEEDS {
            let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
            sim.crash_at(
                a,
                point,
                |record| matches!(record, Record::Proof(proof) if !proof.is_under_way()),
            );
            assert!(sim.establish_once(a, c, TrafficClass::Paid, 500).is_err());
            sim.run_for(Duration::from_secs(1));
            sim.restart(a);
            sim.run_for(Duration::from_secs(1));
            let trip = sim.establish(a, c, TrafficClass::Paid, 500).unwrap();
            packets(&mut sim, a, &trip, 400);
            for payee in [b, c] {
                let payments = sim.lightning.settled().filter(|payment| payment.payee == payee);
                assert_eq!(payments.count(), 1, "{point:?} {seed}");
            }
            assert_eq!(sim.audit().unwrap().unredeemed, 0, "{point:?} {seed}");
        }
    }
}

#[test]
fn payment_of_unknown_outcome_is_looked_up_and_never_paid_twice() {
    for seed in SEEDS {
        let (mut sim, [a, _, c]) = row(seed, [0, 3, 5]);
        sim.lightning.spec.unknown = 1_000_000;
        let refusal = sim.establish_once(a, c, TrafficClass::Paid, 500).unwrap_err();
        assert_eq!(refusal.reason, DropReason::PaymentUnknown);
        sim.run_for(Duration::from_secs(65));
        sim.establish_once(a, c, TrafficClass::Paid, 500).unwrap();
        assert_eq!(sim.lightning.settled().count(), 2);
        assert_eq!(sim.audit().unwrap().unredeemed, 0);
    }
}

#[test]
fn payer_that_believes_to_hold_more_than_it_does_is_told_and_buys() {
    let (mut sim, [a, b, c]) = row(2, [0, 3, 5]);
    // Everything bought is less than a lease, so that nothing of what is spent gets written down.
    let trip = sim.establish(a, c, TrafficClass::Paid, 10).unwrap();
    while sim.send(a, trip.session, "", b"x").is_ok() {}
    sim.settle();
    restart(&mut sim, a);
    assert!(
        sim.status(a).unwrap().own_credit_msat > 0,
        "it has forgotten what it spent"
    );
    let again = sim.establish(a, c, TrafficClass::Paid, 10).unwrap();
    assert!(!again.opened.paid.is_empty(), "told better, it buys");
    packets(&mut sim, a, &again, 10);
    assert!(sim.status(b).is_some());
    sim.audit().unwrap();
}

#[test]
fn payment_that_can_no_longer_be_redeemed_does_not_keep_the_payer_from_buying() {
    let (mut sim, [a, b, c]) = row(4, [0, 3, 5]);
    sim.discover(a, c).unwrap();
    sim.crash_at(b, CrashPoint::BeforeWriting, is_redemption);
    assert!(sim.establish_once(a, c, TrafficClass::Paid, 100).is_err());
    // The payee comes back a day after redeem-by.
    sim.run_for(Duration::from_secs(48 * 3600));
    sim.restart(b);
    sim.run_for(Duration::from_secs(1));
    let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
    assert_eq!(trip.opened.paid.len(), 2);
    packets(&mut sim, a, &trip, 100);
    assert_eq!(sim.deliveries(c).len(), 100);
}
