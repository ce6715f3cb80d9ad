//! Money at the edges: what is done twice counts once, and what nobody can tell yet is neither paid again nor forgotten.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::{SEEDS, row};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Command, Funding, QuotedSlice, Record};
use mesh_core::identity::NodeId;
use mesh_core::limits::{CLOSE_LINGER, SESSION_IDLE};
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::TrafficClass;
use mesh_core::spending::{Caller, SpendingCap, SpendingCaps, SpendingRefusal};
use mesh_sim::{CrashPoint, LinkSpec, NodeIndex, NodeSpec, Simulation, Stage};

/// A minute and a bit: payments of unknown outcome are looked up within it.
const LOOKED_UP: Duration = Duration::from_secs(65);

fn quote(sim: &mut Simulation, from: NodeIndex, to: NodeIndex, units: u64, buying: Buying) -> QuotedSlice {
    let path = sim.discover(from, to).unwrap()[0].path.clone();
    sim.quote(from, &path, TrafficClass::Paid, units, buying).unwrap()
}

/// Pays one payee's quote from the node's wallet behind the node's back.
fn pay_by_hand(
    sim: &mut Simulation,
    payer: NodeIndex,
    quoted: &QuotedSlice,
    payee: NodeId,
) -> (NodeId, PaymentProof) {
    let quote = quoted.payees.iter().find(|quote| quote.payee == payee).unwrap();
    let invoice = quote.invoice.clone().unwrap();
    let now = sim.now().unix;
    let mut random = mesh_sim::Random::new(1);
    let paid = sim
        .lightning
        .pay(payer, &invoice, 1_000_000, now, &mut random)
        .unwrap();
    let proof = PaymentProof::Lightning {
        invoice,
        preimage: paid.preimage,
        amount_msats: paid.amount_msat,
        timestamp: now.seconds(),
        expires_at: quote.redeem_by.seconds(),
    };
    (payee, proof)
}

/// The neighbour that brought an open and its packets brings them again when the session is over.
#[test]
fn open_and_packets_of_a_session_that_ended_are_not_carried_again() {
    for seed in SEEDS {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        sim.establish(a, c, TrafficClass::Paid, 1000).unwrap();
        let kept = Rc::new(RefCell::new(Vec::<Bytes>::new()));
        let keep = kept.clone();
        let tamper = move |stage: Stage, frame: &Bytes| {
            if matches!(stage, Stage::Open | Stage::Data) {
                keep.borrow_mut().push(frame.clone());
            }
            vec![frame.clone()]
        };
        sim.tamper(a, b, Box::new(tamper));
        // It is opened on credit: no redeemed proof stands in the way of a second open.
        let trip = sim.establish(a, c, TrafficClass::Paid, 10).unwrap();
        assert!(trip.opened.paid.is_empty());
        for number in 0..5 {
            sim.send(a, trip.session, "", &[number; 10]).unwrap();
        }
        sim.settle();
        let session = trip.session;
        let command = sim.command(a, Command::Close { session });
        sim.wait(command).unwrap().unwrap();
        sim.run_for(CLOSE_LINGER + Duration::from_secs(1));

        let held = [b, c].map(|node| sim.status(node).unwrap().payers_credit_msat);
        let frames = kept.borrow().clone();
        for frame in frames {
            sim.inject(a, b, frame);
            sim.settle();
        }
        let after = [b, c].map(|node| sim.status(node).unwrap().payers_credit_msat);
        assert_eq!(held, after, "the payer pays for no packet twice");
        assert_eq!(sim.deliveries(c).len(), 5);
        sim.audit().unwrap();
    }
}

/// A payee that holds payments back makes them last for days.
#[test]
fn payments_held_on_their_way_are_looked_up_once_a_minute_each_however_many_they_are() {
    let (mut sim, [a, _, c]) = row(1, [0, 3, 5]);
    sim.lightning.spec.unknown = 1_000_000;
    sim.lightning.spec.holds = true;
    sim.lightning.spec.answers_after = Duration::from_millis(2);
    for _ in 0..3 {
        sim.run_for(Duration::from_millis(700));
        let quoted = quote(&mut sim, a, c, 500, Buying::Everywhere);
        let refusal = sim.open(a, &quoted, Simulation::from_the_wallet()).unwrap_err();
        assert_eq!(refusal.reason, DropReason::PaymentUnknown);
    }
    let minutes = 12;
    sim.run_for(Duration::from_secs(60 * minutes));
    assert!(
        sim.lightning.look_ups <= 6 * (minutes + 1),
        "six payments were looked up {} times",
        sim.lightning.look_ups
    );
    sim.lightning.spec.holds = false;
    sim.run_for(LOOKED_UP);
    sim.audit().unwrap();
}

/// One share went through, the other did not, and the same quotes are opened again.
#[test]
fn share_that_was_paid_is_not_paid_or_booked_again_when_its_quotes_are_opened_again() {
    let mut seen = 0;
    for seed in 1..20 {
        let (mut sim, [a, _, c]) = row(seed, [0, 3, 5]);
        let quoted = quote(&mut sim, a, c, 500, Buying::Everywhere);
        sim.lightning.spec.fails = 500_000;
        let refusal = sim.open(a, &quoted, Simulation::from_the_wallet()).err();
        sim.lightning.spec.fails = 0;
        let Some(refusal) = refusal.filter(|refusal| refusal.paid.len() == 1) else {
            continue;
        };
        seen += 1;
        assert_eq!(refusal.reason, DropReason::PaymentFailed);
        let opened = sim.open(a, &quoted, Simulation::from_the_wallet()).unwrap();
        assert_eq!(opened.paid.len(), 1, "the other one only");
        for _ in 0..300 {
            sim.send(a, opened.session, "", b"x").unwrap();
        }
        sim.settle();
        assert_eq!(sim.audit().unwrap().unredeemed, 0, "seed {seed}");
    }
    assert!(seen > 2, "{seen}");
}

/// The outcome of a payment is not known, and the same quotes are opened again: with the wallet, and with the proof that the
/// wallet's owner found in it.
#[test]
fn payment_of_unknown_outcome_is_neither_paid_again_nor_taken_for_somebody_elses() {
    for seed in SEEDS {
        let (mut sim, [a, _, c]) = row(seed, [0, 3, 5]);
        let quoted = quote(&mut sim, a, c, 500, Buying::Everywhere);
        sim.lightning.spec.unknown = 1_000_000;
        let refusal = sim.open(a, &quoted, Simulation::from_the_wallet()).unwrap_err();
        assert_eq!(refusal.reason, DropReason::PaymentUnknown);
        sim.lightning.spec.unknown = 0;

        let found = quoted.payees.iter().map(|quote| quote.payee).collect::<Vec<_>>();
        let found = found
            .into_iter()
            .map(|payee| pay_by_hand(&mut sim, a, &quoted, payee));
        let proofs: Vec<_> = found.collect();
        for funding in [Simulation::from_the_wallet(), Funding::Proofs(proofs)] {
            let refusal = sim.open(a, &quoted, funding).unwrap_err();
            assert_eq!(refusal.reason, DropReason::PaymentUnknown);
        }
        sim.run_for(LOOKED_UP);
        let opened = sim.open(a, &quoted, Simulation::from_the_wallet()).unwrap();
        assert!(opened.paid.is_empty(), "what was paid is shown");
        sim.settle();
        assert_eq!(sim.audit().unwrap().unredeemed, 0, "seed {seed}");
    }
}

/// A proof that a caller showed is redeemed by another session before he shows it again.
#[test]
fn proof_that_a_caller_shows_again_with_the_same_quotes_is_booked_once() {
    let (mut sim, [a, b, c]) = row(3, [0, 3, 5]);
    let quoted = quote(&mut sim, a, c, 500, Buying::Everywhere);
    let payee = sim.id(b);
    let proof = pay_by_hand(&mut sim, a, &quoted, payee);
    let funding = |max_total_msat| Funding::Wallet {
        proofs: vec![proof.clone()],
        max_total_msat,
        max_fee_msat: 1_000_000,
        keep_funded: false,
    };
    let refusal = sim.open(a, &quoted, funding(1)).unwrap_err();
    assert_eq!(
        refusal.reason,
        DropReason::LimitReached,
        "the other share is too dear"
    );
    sim.establish(a, b, TrafficClass::Paid, 10).unwrap();
    sim.settle();
    let before = sim.status(a).unwrap().own_credit_msat;
    let opened = sim.open(a, &quoted, funding(1_000_000)).unwrap();
    assert_eq!(opened.paid.len(), 1);
    let bought = opened.paid[0].1;
    assert!(sim.status(a).unwrap().own_credit_msat <= before + bought);
    let brought = sim.disk(a).iter().filter(|record| {
        matches!(record, Record::Booked(entry) if entry.kind == mesh_core::ledger::EntryKind::ProofBrought)
    });
    assert_eq!(brought.count(), 1);
    sim.settle();
    sim.audit().unwrap();
}

/// What was handed to the wallet in the last instant of one life may reach it in the first of the next.
#[test]
fn payment_that_the_wallet_has_not_heard_of_yet_is_not_forgotten_right_after_a_restart() {
    for seed in SEEDS {
        let (mut sim, [a, _, c]) = row(seed, [0, 3, 5]);
        sim.lightning.spec.pays_after = Duration::from_secs(2);
        sim.lightning.spec.books_later = true;
        let quoted = quote(&mut sim, a, c, 500, Buying::Everywhere);
        let funding = Simulation::from_the_wallet();
        sim.command(
            a,
            Command::Open {
                quotes: quoted.id,
                funding,
                sign_as_source: true,
            },
        );
        sim.run_until(Duration::from_secs(1), |sim| {
            let mut records = sim.disk(a).iter();
            records.any(|record| matches!(record, Record::Proof(proof) if proof.is_under_way()))
        });
        sim.kill(a);
        sim.restart(a);
        sim.run_for(LOOKED_UP);
        assert_eq!(sim.lightning.settled().count(), 2, "the wallet paid all the same");
        let trip = sim.establish(a, c, TrafficClass::Paid, 500).unwrap();
        assert!(trip.opened.paid.is_empty(), "and its node knows");
        sim.settle();
        assert_eq!(sim.audit().unwrap().unredeemed, 0);
    }
}

/// Small draws that no record tells stand in the way of a dear packet until they are written down.
#[test]
fn dear_packet_waits_for_the_disk_no_longer_than_a_commit_takes() {
    let (mut sim, [a, b, c]) = row(4, [0, 9_000, 0]);
    let trip = sim.establish(a, c, TrafficClass::Paid, 400).unwrap();
    sim.settle();
    sim.send(a, trip.session, "", b"one unit").unwrap();
    sim.run_for(Duration::from_millis(20));
    // 111 units cost 999,000: with the one before more than a crash may cost.
    let dear = vec![0; 111 * 1024 - 10];
    sim.send(a, trip.session, "", &dear).unwrap();
    sim.run_for(Duration::from_millis(100));
    assert_eq!(sim.drops(b, DropReason::DiskBehind), 1);
    sim.send(a, trip.session, "", &dear).unwrap();
    sim.run_for(Duration::from_millis(100));
    assert_eq!(sim.deliveries(c).len(), 2);
}

fn line(spending: SpendingCaps) -> (Simulation, [NodeIndex; 3]) {
    let mut sim = Simulation::new(1);
    let payer = NodeSpec {
        spending,
        ..NodeSpec::paid(0)
    };
    let nodes = [payer, NodeSpec::paid(3), NodeSpec::paid(5)].map(|spec| sim.add_node(spec));
    sim.connect(nodes[0], nodes[1], LinkSpec::default());
    sim.connect(nodes[1], nodes[2], LinkSpec::default());
    sim.run_for(Duration::from_millis(100));
    (sim, nodes)
}

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

fn auto_pay(proofs: Vec<(NodeId, PaymentProof)>) -> Funding {
    Funding::AutoPay {
        proofs,
        caller: Caller::Unidentified,
        packet_units: 1,
        most_msat: u64::MAX,
        max_fee_msat: u64::MAX,
        keep_funded: false,
    }
}

/// Two purchases with the same quotes, the first of which paid one share.
#[test]
fn restart_remembers_what_every_purchase_with_the_same_quotes_cost() {
    let mut seen = 0;
    for fails in [300_000, 400_000, 500_000, 600_000, 700_000] {
        for units in 1_600..1_608 {
            let (mut sim, [a, _, c]) = line(CAPS);
            let quoted = quote(&mut sim, a, c, units, Buying::Everywhere);
            sim.lightning.spec.fails = fails;
            let refusal = sim.open(a, &quoted, auto_pay(Vec::new())).err();
            let Some(refusal) = refusal.filter(|refusal| refusal.paid.len() == 1) else {
                continue;
            };
            assert_eq!(refusal.reason, DropReason::PaymentFailed);
            seen += 1;
            sim.lightning.spec.fails = 1_000_000;
            sim.open(a, &quoted, auto_pay(Vec::new())).unwrap_err();
            sim.lightning.spec.fails = 0;
            sim.kill(a);
            sim.restart(a);
            sim.run_for(Duration::from_secs(1));
            let spent = NodeSpec::paid(0).balance_msat - sim.lightning.balance_msat(a);
            assert!(spent > 0);
            let mut left = 30_000;
            while left == 30_000 {
                let quoted = quote(&mut sim, a, c, 1_667, Buying::Everywhere);
                match sim.open(a, &quoted, auto_pay(Vec::new())) {
                    Ok(_) => {}
                    Err(refusal) => match refusal.limit {
                        Some(SpendingRefusal::Above { cap, left_msat, .. }) => {
                            assert_eq!(cap, SpendingCap::Hour);
                            left = left_msat;
                        }
                        other => panic!("{other:?}"),
                    },
                }
            }
            let spent = NodeSpec::paid(0).balance_msat - sim.lightning.balance_msat(a);
            assert!(left <= 30_000 - spent, "{left} left after {spent}");
        }
    }
    assert!(seen > 0);
}

#[test]
fn idle_session_replayed_is_refused_like_a_closed_one() {
    let (mut sim, [a, b, c]) = row(6, [0, 3, 5]);
    sim.establish(a, c, TrafficClass::Paid, 1000).unwrap();
    let opens = Rc::new(RefCell::new(Vec::<Bytes>::new()));
    let keep = opens.clone();
    let tamper = move |stage: Stage, frame: &Bytes| {
        if stage == Stage::Open {
            keep.borrow_mut().push(frame.clone());
        }
        vec![frame.clone()]
    };
    sim.tamper(a, b, Box::new(tamper));
    sim.establish(a, c, TrafficClass::Paid, 10).unwrap();
    sim.run_for(SESSION_IDLE + Duration::from_secs(10));
    assert_eq!(sim.status(b).unwrap().sessions, 0);
    let open = opens.borrow()[0].clone();
    sim.inject(a, b, open);
    sim.settle();
    assert_eq!(sim.status(b).unwrap().sessions, 0);
}

/// A killed payer shows what it paid, whichever of two opens with the same quotes paid it.
#[test]
fn payer_killed_between_two_opens_with_the_same_quotes_keeps_every_proof() {
    for seed in 1..20 {
        let (mut sim, [a, _, c]) = row(seed, [0, 3, 5]);
        let quoted = quote(&mut sim, a, c, 500, Buying::Everywhere);
        sim.lightning.spec.fails = 500_000;
        let first = sim.open(a, &quoted, Simulation::from_the_wallet()).err();
        sim.lightning.spec.fails = 0;
        if first.is_none_or(|refusal| refusal.paid.len() != 1) {
            continue;
        }
        sim.crash_at(
            a,
            CrashPoint::AfterWriting,
            |record| matches!(record, Record::Proof(proof) if !proof.is_under_way()),
        );
        assert!(sim.open(a, &quoted, Simulation::from_the_wallet()).is_err());
        sim.restart(a);
        sim.run_for(LOOKED_UP);
        sim.audit().unwrap();
    }
}
