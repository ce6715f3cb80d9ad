//! Links go down and come up far away, or carry badly in one direction.

use mesh_core::drop_reason::DropReason;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{FaultRates, NodeIndex, Simulation};

use super::*;

#[test]
fn break_far_from_both_ends_takes_the_route_from_the_source_though_nothing_is_sent() {
    for seed in 1..4 {
        let mut sim = network(seed, 10, &ring(10));
        sim.discover(n(0), n(5)).unwrap();
        let (one, other) = ([0, 1, 2, 3, 4, 5], [0, 9, 8, 7, 6, 5]);
        let both: BTreeSet<_> = [path(&sim, &one), path(&sim, &other)].into();
        assert_eq!(known(&mut sim, n(0)), both);
        sim.cut(n(2), n(3));
        sim.run_for(TOLD);
        let left: BTreeSet<_> = [path(&sim, &other)].into();
        assert_eq!(known(&mut sim, n(0)), left);
        assert_eq!(paths_of(sim.discover(n(0), n(5)).unwrap()), left);
        assert_eq!(paths_of(discover_afresh(&mut sim, n(0), n(5))), left);
        sim.heal(n(2), n(3));
        sim.run_for(TOLD);
        assert_eq!(paths_of(discover_afresh(&mut sim, n(0), n(5))), both);
    }
}

#[test]
fn only_way_that_breaks_far_away_is_no_way() {
    let line: Vec<_> = (1..8).map(|node| (node - 1, node)).collect();
    let mut sim = network(4, 8, &line);
    sim.discover(n(0), n(7)).unwrap();
    sim.cut(n(4), n(5));
    sim.run_for(TOLD);
    assert_eq!(known(&mut sim, n(0)), BTreeSet::new());
    let refusal = sim.discover(n(0), n(7)).unwrap_err();
    assert_eq!(refusal.reason, DropReason::NoRoute);
    routes_are_the_best(&sim, &[(4, 5)]);
}

/// Ten nodes of which one direction of one link loses this many of a hundred frames from the beginning.
fn lame(seed: u64, percent: u32) -> (Simulation, NodeIndex, NodeIndex) {
    let mut links = ring(10);
    links.extend([(1, 6), (3, 8)]);
    let (from, to) = (n(1), n(6));
    let mut sim = network(seed, 10, &[]);
    for (a, b) in links {
        sim.connect(n(a), n(b), LinkSpec::default());
    }
    sim.link_mut(from, to).rates = FaultRates {
        loss: percent * 10_000,
        ..FaultRates::default()
    };
    (sim, from, to)
}

#[test]
fn link_that_is_deaf_in_one_direction_now_and_then_still_carries_routes() {
    for (seed, percent) in [(1, 30), (2, 40), (3, 50)] {
        let (mut sim, ..) = lame(seed, percent);
        run_without_circles(&mut sim, MINUTE);
        routes_are_the_best(&sim, &[]);
        sim.cut(n(3), n(8));
        run_without_circles(&mut sim, MINUTE);
        routes_are_the_best(&sim, &[(3, 8)]);
    }
}

#[test]
fn sessions_over_such_a_link_open_and_what_is_lost_is_the_packets_it_loses() {
    for (seed, percent) in [(1, 30), (2, 40), (3, 50)] {
        let (mut sim, from, to) = lame(seed, percent);
        sim.run_for(MINUTE);
        let there = sim.establish(from, to, TrafficClass::Paid, 1000).unwrap();
        let back = sim.establish(to, from, TrafficClass::Paid, 1000).unwrap();
        for _ in 0..100 {
            let _ = sim.send(from, there.session, "", b"may be lost");
            sim.send(to, back.session, "", b"arrives").unwrap();
            sim.run_for(Duration::from_millis(20));
        }
        sim.settle();
        let direct = there.path.len() == 2;
        let arrived = sim.deliveries(to).len();
        assert!(!direct || (30..=90).contains(&arrived), "{percent}: {arrived}");
        assert!(direct || arrived == 100, "{percent}: {arrived}");
        assert_eq!(sim.deliveries(from).len(), 100);
        sim.audit().unwrap();
    }
}
