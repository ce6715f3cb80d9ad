//! A wall clock that is wrong. What hangs on the wall clock is what somebody signed for others: announcements, quotes,
//! deadlines. Routes hang on the monotonic clock, so nobody loses a route to anybody else.

use mesh_core::drop_reason::DropReason;
use mesh_core::limits::{ANNOUNCEMENT_LIFETIME, ANNOUNCEMENT_REFRESH};
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{NodeIndex, Simulation};

use super::*;

const LATE: NodeIndex = NodeIndex(2);

/// Eight in a ring, the third of which is on the one way from 0 to 4.
fn net(seed: u64) -> Simulation {
    network(seed, 8, &ring(8))
}

fn jump(sim: &mut Simulation, ahead: Duration) {
    sim.set_clock(LATE, ahead.as_millis() as i64);
}

/// The others route to each other as if nothing had happened, over the node as well.
#[track_caller]
fn others_are_as_before(sim: &Simulation) {
    for (from, to) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))) {
        if from != to && n(to) != LATE && n(from) != LATE {
            let vector = &sim.routing(n(from)).unwrap().vector;
            let hops = vector
                .next_hop(&sim.id(n(to)), Plane::Hops)
                .map(|route| route.metric);
            let around = from.abs_diff(to).min(8 - from.abs_diff(to)) as u32;
            assert_eq!(hops, Some(around), "from {from} to {to}");
        }
    }
}

#[track_caller]
fn works(sim: &mut Simulation, from: NodeIndex, to: NodeIndex) {
    let before = sim.deliveries(to).len();
    let trip = sim.establish(from, to, TrafficClass::Paid, 10).unwrap();
    sim.send(from, trip.session, "", b"x").unwrap();
    sim.settle();
    assert_eq!(sim.deliveries(to).len(), before + 1);
}

#[test]
fn clock_within_the_tolerance_changes_nothing() {
    for ahead in [30_000, -30_000] {
        let mut sim = net(1);
        sim.set_clock(LATE, ahead);
        for _ in 0..4 {
            sim.run_for(ANNOUNCEMENT_REFRESH);
            routes_are_the_best(&sim, &[]);
            assert_eq!(picture(&mut sim, LATE, 8).len(), 8);
            works(&mut sim, LATE, n(5));
            works(&mut sim, n(5), LATE);
            let found = paths_of(discover_afresh(&mut sim, n(0), n(4)));
            assert!(found.contains(&path(&sim, &[0, 1, 2, 3, 4])), "over it too");
        }
        for node in (0..8).map(n) {
            assert_eq!(sim.drops(node, DropReason::Expired), 0);
        }
    }
}

/// While the clock is wrong the node is no partner for anything that is signed: nobody believes what it announces, and it
/// takes part in no discovery, as source, router or destination. Routes that others know still lead over it.
fn far_ahead(seed: u64, ahead: Duration) -> Simulation {
    let mut sim = net(seed);
    jump(&mut sim, ahead);
    run_without_circles(&mut sim, 10 * SECOND);
    routes_are_the_best(&sim, &[]);
    let found = paths_of(discover_afresh(&mut sim, n(0), n(4)));
    assert_eq!(
        found,
        [path(&sim, &[0, 7, 6, 5, 4])].into(),
        "discoveries go around it"
    );
    works(&mut sim, n(0), n(4));
    assert!(sim.discover(LATE, n(5)).is_err() && sim.discover(n(5), LATE).is_err());
    others_are_as_before(&sim);
    sim
}

#[test]
fn node_ten_minutes_ahead_is_forgotten_by_others_in_an_hour_and_found_again_when_its_clock_is_right() {
    let mut sim = far_ahead(2, 10 * MINUTE);
    for _ in 0..8 {
        sim.run_for(15 * MINUTE);
        others_are_as_before(&sim);
        assert_eq!(picture(&mut sim, LATE, 8).len(), 8, "it hears of everybody");
    }
    for node in (0..8).map(n).filter(|node| *node != LATE) {
        let vector = &sim.routing(node).unwrap().vector;
        assert_eq!(vector.next_hop(&sim.id(LATE), Plane::Hops), None);
    }
    assert!(sim.drops(n(1), DropReason::Expired) > 0);
    works(&mut sim, n(0), n(4));
    jump(&mut sim, Duration::ZERO);
    sim.run_for(ANNOUNCEMENT_REFRESH);
    routes_are_the_best(&sim, &[]);
    works(&mut sim, n(5), LATE);
    works(&mut sim, LATE, n(5));
}

#[test]
fn node_that_was_two_hours_ahead_for_a_while_works_as_before_at_once() {
    let mut sim = far_ahead(3, 120 * MINUTE);
    sim.run_for(10 * MINUTE);
    others_are_as_before(&sim);
    jump(&mut sim, Duration::ZERO);
    sim.run_for(SECOND);
    routes_are_the_best(&sim, &[]);
    assert_eq!(picture(&mut sim, LATE, 8).len(), 8);
    works(&mut sim, LATE, n(5));
    works(&mut sim, n(5), LATE);
}

#[test]
fn node_that_stays_two_hours_ahead_loses_everybody_in_an_hour_and_finds_them_when_its_clock_is_right() {
    let mut sim = far_ahead(4, 120 * MINUTE);
    sim.run_for(ANNOUNCEMENT_LIFETIME + 2 * ANNOUNCEMENT_REFRESH);
    others_still_find_each_other(&sim);
    assert_eq!(picture(&mut sim, LATE, 8).len(), 1, "only itself");
    jump(&mut sim, Duration::ZERO);
    sim.run_for(ANNOUNCEMENT_REFRESH + TOLD);
    routes_are_the_best(&sim, &[]);
    assert_eq!(picture(&mut sim, LATE, 8).len(), 8);
    works(&mut sim, LATE, n(5));
    works(&mut sim, n(5), LATE);
}

/// The node itself knows no routes any more, so the others go the other way round.
#[track_caller]
fn others_still_find_each_other(sim: &Simulation) {
    for (from, to) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))) {
        if from != to && n(to) != LATE && n(from) != LATE {
            for plane in Plane::ALL {
                let end = follow(sim, &peers(sim), n(from), sim.id(n(to)), plane);
                assert_eq!(end, Some(n(to)), "from {from} to {to}");
            }
        }
    }
}
