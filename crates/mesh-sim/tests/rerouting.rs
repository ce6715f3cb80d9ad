//! A way that breaks or falls silent under a session: the source learns of it, takes another confirmed way, and what it
//! paid to those who are on both is not paid again.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use common::{SEEDS, row};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Command, Event, RouteInfo};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::{BREAK_ERRORS_PER_STEP, MAX_HOPS, SESSION_SILENT_AFTER};
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{LinkSpec, NodeIndex, Simulation, Stage};

/// A ring of five: from A to C the short way is over B, the long one over E and D.
fn ring(seed: u64) -> (Simulation, [NodeIndex; 5]) {
    let (mut sim, nodes) = row(seed, [0, 3, 5, 2, 7]);
    sim.connect(nodes[4], nodes[0], LinkSpec::default());
    sim.run_for(Duration::from_millis(100));
    (sim, nodes)
}

fn ids<const N: usize>(sim: &Simulation, nodes: [NodeIndex; N]) -> Vec<NodeId> {
    nodes.map(|node| sim.id(node)).to_vec()
}

/// Who told `source` that the link behind it is gone.
fn told_of_break(sim: &Simulation, source: NodeIndex, of: SessionId) -> Option<NodeId> {
    sim.events(source).iter().find_map(|event| match event {
        Event::HopRefused {
            session,
            hop,
            refusal,
        } if *session == of && refusal.reason == DropReason::NextHopGone => Some(*hop),
        _ => None,
    })
}

fn silent(sim: &Simulation, source: NodeIndex) -> Vec<(SessionId, Vec<NodeId>)> {
    let silent = sim.events(source).iter().filter_map(|event| match event {
        Event::SessionSilent { session, path } => Some((*session, path.clone())),
        _ => None,
    });
    silent.collect()
}

/// From now on packets from one node to the other vanish, and nothing else does.
fn swallow_packets(sim: &mut Simulation, from: NodeIndex, to: NodeIndex) {
    let swallow = |stage: Stage, frame: &bytes::Bytes| match stage {
        Stage::Data => Vec::new(),
        _ => vec![frame.clone()],
    };
    sim.tamper(from, to, Box::new(swallow));
}

/// Asks the network, whatever is known.
fn discover_afresh(sim: &mut Simulation, from: NodeIndex, to: NodeIndex) -> Vec<RouteInfo> {
    let command = Command::Discover {
        destination: sim.id(to),
        max_hops: MAX_HOPS as u8,
        timeout: Duration::from_secs(10),
        refresh: true,
    };
    let id = sim.command(from, command);
    match sim.wait(id) {
        Some(Ok(Answer::Routes(routes))) => routes,
        other => panic!("{other:?}"),
    }
}

/// The ways that a node knows.
fn known(sim: &mut Simulation, node: NodeIndex) -> Vec<Vec<NodeId>> {
    let id = sim.command(node, Command::Routes);
    match sim.wait(id) {
        Some(Ok(Answer::Routes(routes))) => routes.into_iter().map(|route| route.path).collect(),
        other => panic!("{other:?}"),
    }
}

/// How many ways the node found by asking.
fn discovered(sim: &Simulation, node: NodeIndex) -> usize {
    let found = sim.events(node).iter();
    found
        .filter(|event| matches!(event, Event::RouteDiscovered { .. }))
        .count()
}

/// What was paid over Lightning to a node, in msat.
fn received(sim: &Simulation, node: NodeIndex) -> u64 {
    let settled = sim.lightning.settled();
    settled
        .filter(|payment| payment.payee == node)
        .map(|payment| payment.amount_msat)
        .sum()
}

#[test]
fn idle_source_is_told_of_the_break_one_trip_after_it_by_the_hop_before_it() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, ..]) = ring(seed);
        let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
        assert_eq!(trip.path, ids(&sim, [a, b, c]));
        sim.run_for(Duration::from_secs(5));
        sim.cut(b, c);
        let noticed_and_one_trip = Duration::from_millis(50 + 10);
        let told = sim.run_until(noticed_and_one_trip, |sim| {
            told_of_break(sim, a, trip.session).is_some()
        });
        assert!(told, "nothing was sent, and still the source is told");
        assert_eq!(told_of_break(&sim, a, trip.session), Some(sim.id(b)));
    }
}

#[test]
fn broken_route_is_replaced_by_the_other_known_one_and_credit_at_the_common_payee_is_drawn_not_bought() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, d, e]) = ring(seed);
        let first = sim.establish(a, c, TrafficClass::Paid, 2000).unwrap();
        sim.send(a, first.session, "", b"over b").unwrap();
        sim.settle();
        let paid_to = |sim: &Simulation| [b, c, d, e].map(|node| received(sim, node));
        let before = paid_to(&sim);
        let credit_at_c = sim.status(c).unwrap().payers_credit_msat;
        assert!(before[0] > 0 && before[1] > 0);

        sim.cut(b, c);
        sim.settle();
        let asked = discovered(&sim, a);
        let again = sim.establish_once(a, c, TrafficClass::Paid, 30).unwrap();
        assert_eq!(again.path, ids(&sim, [a, e, d, c]));
        assert_eq!(discovered(&sim, a), asked, "the other way was known");
        let bought: Vec<_> = again.opened.paid.iter().map(|(payee, ..)| *payee).collect();
        assert_eq!(bought, ids(&sim, [e, d]));
        let after = paid_to(&sim);
        assert_eq!(after[..2], before[..2], "B and C are paid nothing more");
        assert!(after[2] > 0 && after[3] > 0);

        sim.send(a, again.session, "", b"over e and d").unwrap();
        sim.settle();
        assert_eq!(sim.deliveries(c).len(), 2);
        assert!(
            sim.status(c).unwrap().payers_credit_msat < credit_at_c,
            "C draws from what was paid for the first route"
        );
        let books = sim.audit().unwrap();
        assert_eq!(books.unredeemed, 0);
        assert_eq!(sim.status(a).unwrap().own_credit_msat, books.balances);
    }
}

#[test]
fn link_that_comes_back_finds_the_session_as_it_was() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, ..]) = ring(seed);
        let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
        sim.cut(b, c);
        sim.run_for(Duration::from_secs(1));
        sim.heal(b, c);
        sim.run_for(Duration::from_secs(1));
        sim.send(a, trip.session, "", b"still here").unwrap();
        sim.settle();
        assert_eq!(sim.deliveries(c).len(), 1);
        sim.audit().unwrap();
    }
}

#[test]
fn packets_lost_in_a_break_that_was_named_make_no_session_silent_and_blame_nobody() {
    for broken in 0..2 {
        let (mut sim, [a, b, c, d, e]) = ring(2);
        let (short, long) = (ids(&sim, [a, b, c]), ids(&sim, [a, e, d, c]));
        let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
        let (from, to) = [(a, b), (b, c)][broken];
        sim.cut(from, to);
        sim.send(a, trip.session, "", b"lost").unwrap();
        sim.run_for(Duration::from_secs(10));
        assert!(told_of_break(&sim, a, trip.session).is_some());
        assert!(silent(&sim, a).is_empty());
        sim.heal(from, to);
        sim.run_for(Duration::from_millis(100));
        let routes = discover_afresh(&mut sim, a, c);
        let paths: Vec<_> = routes.into_iter().map(|route| route.path).collect();
        assert_eq!(paths, [short, long]);
        sim.send(a, trip.session, "", b"arrives").unwrap();
        sim.settle();
        assert_eq!(sim.deliveries(c).len(), 1);
    }
}

#[test]
fn sources_own_broken_link_is_named_by_itself_and_the_other_way_is_taken() {
    let (mut sim, [a, b, c, d, e]) = ring(3);
    let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
    sim.cut(a, b);
    sim.run_for(Duration::from_millis(50));
    assert_eq!(told_of_break(&sim, a, trip.session), Some(sim.id(a)));
    let again = sim.establish_once(a, c, TrafficClass::Paid, 100).unwrap();
    assert_eq!(again.path, ids(&sim, [a, e, d, c]));
}

#[test]
fn many_sources_over_one_broken_link_are_all_told_a_few_at_a_time() {
    let (mut sim, [a, b, c, ..]) = ring(4);
    let sessions: Vec<SessionId> = (0..3 * BREAK_ERRORS_PER_STEP)
        .map(|_| sim.establish(a, c, TrafficClass::Paid, 1).unwrap().session)
        .collect();
    let told = |sim: &Simulation| {
        let told = sessions.iter().filter(|id| told_of_break(sim, a, **id).is_some());
        told.count()
    };
    sim.cut(b, c);
    assert!(sim.run_until(Duration::from_secs(1), |sim| told(sim) > 0));
    sim.run_for(Duration::from_micros(500));
    assert_eq!(told(&sim), BREAK_ERRORS_PER_STEP, "packets come in between");
    sim.run_for(Duration::from_millis(5));
    assert_eq!(told(&sim), sessions.len());
    assert_eq!(sim.drops(a, DropReason::RateLimited), 0);
}

#[test]
fn flapping_link_costs_a_session_no_more_than_its_allowance() {
    let (mut sim, [a, b, c, ..]) = ring(5);
    let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
    for _ in 0..300 {
        sim.cut(b, c);
        sim.run_for(Duration::from_millis(150));
        sim.heal(b, c);
        sim.run_for(Duration::from_millis(150));
    }
    let told = sim
        .events(a)
        .iter()
        .filter(|event| matches!(event, Event::HopRefused { session, .. } if *session == trip.session));
    let told = told.count();
    assert!(
        told > 100 && told < 200,
        "{told} errors of some 60 bytes in 8,192"
    );
}

#[test]
fn black_hole_is_noticed_within_three_seconds_and_the_next_trip_avoids_it() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, d, e]) = ring(seed);
        let trip = sim.establish(a, c, TrafficClass::Paid, 2000).unwrap();
        assert_eq!(trip.path, ids(&sim, [a, b, c]));
        sim.send(a, trip.session, "", b"arrives").unwrap();
        sim.settle();
        swallow_packets(&mut sim, b, c);
        sim.send(a, trip.session, "", b"vanishes").unwrap();
        sim.run_for(SESSION_SILENT_AFTER - Duration::from_millis(1));
        assert_eq!(silent(&sim, a), []);
        sim.run_for(Duration::from_millis(1));
        assert_eq!(silent(&sim, a), [(trip.session, trip.path.clone())]);
        assert_eq!(known(&mut sim, a), [ids(&sim, [a, e, d, c])]);
        let refused = sim.send(a, trip.session, "", b"too late").unwrap_err();
        assert_eq!(refused.reason, DropReason::SessionSilent);

        let paid_to_c = received(&sim, c);
        let again = sim.establish_once(a, c, TrafficClass::Paid, 30).unwrap();
        assert_eq!(again.path, ids(&sim, [a, e, d, c]));
        assert_eq!(received(&sim, c), paid_to_c, "its credit was kept");
        sim.send(a, again.session, "", b"arrives too").unwrap();
        sim.settle();
        assert_eq!(sim.deliveries(c).len(), 2);
        assert_eq!(silent(&sim, a).len(), 1);
        sim.audit().unwrap();
    }
}

#[test]
fn route_over_a_black_hole_is_offered_last_until_it_is_forgiven() {
    let (mut sim, [a, b, c, d, e]) = ring(6);
    let (short, long) = (ids(&sim, [a, b, c]), ids(&sim, [a, e, d, c]));
    let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
    swallow_packets(&mut sim, b, c);
    sim.send(a, trip.session, "", b"vanishes").unwrap();
    sim.run_for(SESSION_SILENT_AFTER);
    let paths = |routes: Vec<RouteInfo>| -> Vec<_> { routes.into_iter().map(|route| route.path).collect() };
    let routes = discover_afresh(&mut sim, a, c);
    assert_eq!(paths(routes), [long.clone(), short.clone()]);
    sim.run_for(Duration::from_secs(3 * 3600));
    let routes = discover_afresh(&mut sim, a, c);
    assert_eq!(paths(routes), [short, long]);
}

#[test]
fn silent_route_that_is_the_only_one_is_still_offered() {
    let (mut sim, [a, b, c]) = row(7, [0, 3, 5]);
    let trip = sim.establish(a, c, TrafficClass::Paid, 2000).unwrap();
    swallow_packets(&mut sim, b, c);
    sim.send(a, trip.session, "", b"vanishes").unwrap();
    sim.run_for(SESSION_SILENT_AFTER);
    assert_eq!(silent(&sim, a).len(), 1);
    let again = sim.establish_once(a, c, TrafficClass::Paid, 30).unwrap();
    assert_eq!(again.path, trip.path);
    assert_eq!(again.opened.paid, [], "the credit is still there");
    sim.audit().unwrap();
}

#[test]
fn black_hole_that_hands_out_old_receipts_again_is_noticed_all_the_same() {
    let (mut sim, [a, b, c, ..]) = ring(8);
    let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
    let repeat = |stage: Stage, frame: &bytes::Bytes| match stage {
        Stage::Receipt => vec![frame.clone(); 100],
        _ => vec![frame.clone()],
    };
    sim.tamper(b, a, Box::new(repeat));
    sim.send(a, trip.session, "", b"arrives").unwrap();
    sim.settle();
    swallow_packets(&mut sim, a, b);
    sim.send(a, trip.session, "", b"vanishes").unwrap();
    sim.run_for(SESSION_SILENT_AFTER);
    assert_eq!(silent(&sim, a).len(), 1);
}

#[test]
fn honest_route_is_never_silent_however_slowly_somebody_talks() {
    let (mut sim, [a, _, c, ..]) = ring(9);
    let trip = sim.establish(a, c, TrafficClass::Paid, 1000).unwrap();
    for _ in 0..200 {
        sim.send(a, trip.session, "chat", b"hm").unwrap();
        sim.run_for(Duration::from_secs(1));
    }
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.deliveries(c).len(), 200);
    let receipts = sim
        .events(a)
        .iter()
        .filter(|event| matches!(event, Event::Receipt(_)));
    assert!(
        receipts.count() < 100,
        "so few packets pay for a receipt now and then"
    );
    assert!(silent(&sim, a).is_empty());
}

#[test]
fn router_that_was_killed_and_started_again_has_forgotten_the_session_and_is_not_waited_for() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, d, e]) = ring(seed);
        let trip = sim.establish(a, c, TrafficClass::Paid, 100).unwrap();
        sim.kill(b);
        sim.restart(b);
        sim.run_for(Duration::from_millis(200));
        assert_eq!(told_of_break(&sim, a, trip.session), Some(sim.id(a)));
        let again = sim.establish_once(a, c, TrafficClass::Paid, 100).unwrap();
        assert_eq!(again.path, ids(&sim, [a, e, d, c]));
        sim.send(a, again.session, "", b"x").unwrap();
        sim.settle();
        assert_eq!(sim.deliveries(c).len(), 1);
        sim.audit().unwrap();
    }
}
