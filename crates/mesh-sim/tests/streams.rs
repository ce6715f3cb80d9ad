//! A stream that is kept funded: the next slice is there before the one before is spent, and nobody is paid who carries
//! nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use common::{SEEDS, row};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Event, Funding};
use mesh_core::keys::SessionId;
use mesh_core::ledger::{EntryKind, SessionMemo};
use mesh_core::limits::{CLOSE_LINGER, SESSION_IDLE, SESSION_LIFETIME};
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{NodeIndex, Simulation};

/// Between two packets.
const PACE: Duration = Duration::from_millis(1);

fn kept_funded(max_total_msat: u64) -> Funding {
    Funding::Wallet {
        proofs: Vec::new(),
        max_total_msat,
        max_fee_msat: 1_000_000,
        keep_funded: true,
    }
}

fn open(sim: &mut Simulation, from: NodeIndex, to: NodeIndex, units: u64, max_total_msat: u64) -> SessionId {
    let path = sim.discover(from, to).unwrap()[0].path.clone();
    let quoted = sim
        .quote(from, &path, TrafficClass::Paid, units, Buying::WhereNeeded)
        .unwrap();
    sim.open(from, &quoted, kept_funded(max_total_msat))
        .unwrap()
        .session
}

fn continued(sim: &Simulation, node: NodeIndex) -> usize {
    let events = sim.events(node).iter();
    events
        .filter(|event| matches!(event, Event::SessionContinued { .. }))
        .count()
}

fn closed(sim: &Simulation, node: NodeIndex) -> Vec<(SessionId, SessionMemo)> {
    let records = sim.disk(node).iter();
    let entries = records.filter_map(|record| match record {
        mesh_core::event::Record::Booked(entry) if entry.kind == EntryKind::SessionClosed => {
            Some((entry.session?, entry.memo?))
        }
        _ => None,
    });
    entries.collect()
}

#[test]
fn paced_stream_of_many_slices_never_waits_for_credit() {
    for seed in 1..3 {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        let session = open(&mut sim, a, c, 1024, 10_000_000);
        let packets = 40_000;
        for number in 0..packets {
            sim.send(a, session, "stream", b"one unit")
                .unwrap_or_else(|refusal| panic!("packet {number}: {refusal}"));
            sim.run_for(PACE);
        }
        sim.run_for(2 * CLOSE_LINGER);
        assert_eq!(sim.deliveries(c).len(), packets);
        assert!(continued(&sim, a) >= 5, "{}", continued(&sim, a));
        assert_eq!(
            sim.status(b).unwrap().sessions,
            1,
            "the old ones are closed at the hops"
        );
        let books = sim.audit().unwrap();
        assert_eq!(books.unredeemed, 0);
    }
}

#[test]
fn destination_that_takes_the_money_and_receipts_nothing_is_paid_no_second_slice() {
    let (mut sim, [a, b, c]) = row(1, [0, 3, 5]);
    let session = open(&mut sim, a, c, 1024, 10_000_000);
    let paid = sim.lightning.balance_msat(c);
    sim.link_mut(b, a).rates.loss = 1_000_000;
    let refused = (0..5000).find_map(|_| {
        let refused = sim.send(a, session, "", b"into the void").err();
        sim.run_for(PACE);
        refused
    });
    let reason = refused.unwrap().reason;
    assert!(
        matches!(reason, DropReason::CreditComing | DropReason::SessionSilent),
        "{reason}"
    );
    assert_eq!(sim.lightning.balance_msat(c), paid);
}

#[test]
fn operator_that_took_too_much_for_nothing_sells_nothing_more_for_a_day() {
    let (mut sim, [a, b, c]) = row(7, [0, 3, 5000]);
    let session = open(&mut sim, a, c, 256, 100_000_000);
    sim.link_mut(b, a).rates.loss = 1_000_000;
    while sim.send(a, session, "", b"into the void").is_ok() {}
    sim.run_for(Duration::from_secs(5));
    sim.link_mut(b, a).rates.loss = 0;
    let path = sim.discover(a, c).unwrap()[0].path.clone();
    let quote = |sim: &mut Simulation| sim.quote(a, &path, TrafficClass::Paid, 256, Buying::Everywhere);
    let paid = sim.lightning.balance_msat(c);
    assert_eq!(quote(&mut sim).unwrap_err().reason, DropReason::LossLimit);
    assert_eq!(sim.lightning.balance_msat(c), paid);
    sim.run_for(Duration::from_secs(24 * 3600));
    sim.discover(a, c).unwrap();
    quote(&mut sim).unwrap();
}

#[test]
fn slice_beyond_the_limit_of_one_purchase_is_halved_until_it_fits() {
    let (mut sim, [a, _, c]) = row(2, [0, 3, 5]);
    let limit = 20_000;
    let session = open(&mut sim, a, c, 1024, limit);
    for _ in 0..10_000 {
        sim.send(a, session, "", b"x").unwrap();
        sim.run_for(PACE);
    }
    sim.settle();
    assert!(continued(&sim, a) >= 3);
    for payment in sim.lightning.settled() {
        assert!(payment.amount_msat <= limit);
    }
    sim.audit().unwrap();
}

#[test]
fn failed_top_up_is_told_and_the_session_lives_on_what_it_has() {
    let (mut sim, [a, _, c]) = row(3, [0, 3, 5]);
    let session = open(&mut sim, a, c, 1024, 10_000_000);
    sim.lightning.lock(a);
    let mut sent = 0;
    let refused = loop {
        match sim.send(a, session, "", b"x") {
            Ok(_) => sent += 1,
            Err(refusal) => break refusal.reason,
        }
        sim.run_for(PACE);
    };
    assert!(sent >= 1024, "what was bought is carried: {sent}");
    assert_eq!(refused, DropReason::CreditSpent);
    let told = sim.events(a).iter().any(|event| {
        matches!(event, Event::TopUpFailed { session: named, reason: DropReason::PaymentFailed } if *named == session)
    });
    assert!(told);
    sim.lightning.unlock(a);
    sim.run_for(Duration::from_secs(3));
    sim.send(a, session, "", b"funded again").unwrap();
    sim.settle();
    sim.audit().unwrap();
}

#[test]
fn stream_outlives_the_lifetime_of_a_session() {
    let (mut sim, [a, _, c]) = row(4, [0, 3, 5]);
    let session = open(&mut sim, a, c, 1024, 10_000_000);
    let every = Duration::from_secs(30);
    let packets = 3 * SESSION_LIFETIME.as_secs() / every.as_secs();
    for number in 0..packets {
        sim.send(a, session, "", b"now and then")
            .unwrap_or_else(|refusal| panic!("packet {number}: {refusal}"));
        sim.run_for(every);
    }
    sim.settle();
    assert_eq!(sim.deliveries(c).len() as u64, packets);
    sim.audit().unwrap();
}

#[test]
fn closed_session_ends_at_every_hop_and_both_books_say_what_was_left() {
    for seed in SEEDS {
        let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
        let session = open(&mut sim, a, c, 1024, 10_000_000);
        for _ in 0..100 {
            sim.send(a, session, "", b"x").unwrap();
        }
        sim.run_for(Duration::from_millis(500));
        let command = mesh_core::event::Command::Close { session };
        let id = sim.command(a, command);
        sim.wait(id).unwrap().unwrap();
        assert_eq!(
            sim.send(a, session, "", b"x").unwrap_err().reason,
            DropReason::UnknownSession
        );
        sim.run_for(2 * CLOSE_LINGER);
        for node in [b, c] {
            assert_eq!(sim.status(node).unwrap().sessions, 0);
        }
        sim.run_for(Duration::from_secs(1));
        let (at_source, at_router, at_end) = (closed(&sim, a), closed(&sim, b), closed(&sim, c));
        for books in [&at_source, &at_router, &at_end] {
            let [(named, memo)] = books.as_slice() else {
                panic!("{books:?}")
            };
            assert_eq!((*named, memo.packets, memo.units), (session, 100, 100));
        }
        assert_eq!(
            at_source[0].1.receipted, 100,
            "the last receipt came after the close"
        );
        assert_eq!(
            at_source[0].1.left_msat,
            at_router[0].1.left_msat + at_end[0].1.left_msat
        );
        assert_eq!(
            at_source[0].1.spent_msat,
            at_router[0].1.spent_msat + at_end[0].1.spent_msat
        );
        sim.audit().unwrap();
    }
}

#[test]
fn idle_session_is_closed_by_its_source_and_forgotten_nowhere() {
    let (mut sim, [a, b, c]) = row(5, [0, 3, 5]);
    let session = open(&mut sim, a, c, 1024, 10_000_000);
    sim.send(a, session, "", b"x").unwrap();
    sim.run_for(SESSION_IDLE + Duration::from_secs(1));
    assert!(
        sim.events(a)
            .iter()
            .any(|event| matches!(event, Event::SessionClosed { session: named } if *named == session))
    );
    for node in [a, b, c] {
        assert_eq!(closed(&sim, node).len(), 1, "{node:?}");
    }
    assert_eq!(sim.status(b).unwrap().sessions, 0);
    sim.audit().unwrap();
}

#[test]
fn source_that_vanished_leaves_no_session_behind() {
    let (mut sim, [a, b, c]) = row(6, [0, 3, 5]);
    let session = open(&mut sim, a, c, 1024, 10_000_000);
    sim.send(a, session, "", b"x").unwrap();
    sim.run_for(Duration::from_secs(1));
    sim.kill(a);
    sim.run_for(SESSION_IDLE + Duration::from_secs(2));
    for node in [b, c] {
        assert_eq!(sim.status(node).unwrap().sessions, 0);
        assert_eq!(closed(&sim, node).len(), 1);
    }
}
