//! A node is killed and comes back: with what it wrote down, before anybody noticed, or with its key alone.

use mesh_core::event::{Event, Record};
use mesh_sim::{NodeIndex, Simulation};

use super::*;

/// Ten nodes; the one in the middle is on many ways, but on no only one.
fn wheel(seed: u64) -> (Simulation, NodeIndex) {
    let mut links = ring(9);
    links.extend([(9, 0), (9, 3), (9, 6)]);
    (network(seed, 10, &links), n(9))
}

fn killed_and_back(seed: u64, down_for: Duration) {
    let (mut sim, hub) = wheel(seed);
    let before = seqno_at(&sim, n(4), hub).unwrap();
    sim.kill(hub);
    run_without_circles(&mut sim, down_for);
    sim.restart(hub);
    run_without_circles(&mut sim, CHARTED);
    routes_are_the_best(&sim, &[]);
    for node in 0..9 {
        assert!(
            seqno_at(&sim, n(node), hub).unwrap() > before,
            "{node} heard of its new life"
        );
    }
    let taken = sim.disk(hub).iter().filter_map(|record| match record {
        Record::OwnSeqno(seqno) => Some(*seqno),
        _ => None,
    });
    assert!(taken.max().unwrap() >= seqno_at(&sim, n(4), hub).unwrap());
    assert_eq!(own_id_seen(&sim, hub), 0, "it never used a number twice");
    assert!(!discover_afresh(&mut sim, n(1), hub).is_empty());
}

#[test]
fn killed_node_that_was_found_dead_is_routed_to_again_when_it_is_back() {
    for seed in 1..4 {
        killed_and_back(seed, 20 * SECOND);
    }
}

#[test]
fn node_that_is_back_before_its_neighbours_notice_is_taken_up_as_well() {
    for seed in 4..7 {
        killed_and_back(seed, Duration::ZERO);
    }
}

#[test]
fn node_that_is_killed_again_and_again_goes_on_behind_every_number_it_used() {
    let (mut sim, hub) = wheel(7);
    let mut before = 0;
    for _ in 0..10 {
        sim.kill(hub);
        sim.restart(hub);
        run_without_circles(&mut sim, 10 * SECOND);
        let now = seqno_at(&sim, hub, hub).unwrap();
        assert!(now > before);
        before = now;
    }
    // Whoever flaps like that rests for up to a minute before he is a way to others again.
    sim.run_for(2 * MINUTE);
    routes_are_the_best(&sim, &[]);
    assert_eq!(own_id_seen(&sim, hub), 0);
}

#[test]
fn node_that_lost_its_disk_moves_above_its_own_old_announcements() {
    for seed in 1..4 {
        let (mut sim, hub) = wheel(seed);
        for price in 20..30 {
            set_price(&mut sim, hub, price);
            sim.run_for(TOLD);
        }
        let old = seqno_at(&sim, n(4), hub).unwrap();
        assert!(old >= 10, "{old}");
        sim.kill(hub);
        sim.lose_disk(hub);
        run_without_circles(&mut sim, SECOND);
        sim.restart(hub);
        run_without_circles(&mut sim, CHARTED);
        let seen = sim.events(hub).iter().find_map(|event| match event {
            Event::OwnIdSeen { seqno } => Some(*seqno),
            _ => None,
        });
        assert_eq!(seen, Some(old));
        routes_are_the_best(&sim, &[]);
        let id = sim.id(hub);
        for node in (0..9).map(n) {
            assert!(seqno_at(&sim, node, hub).unwrap() > old);
            let facts = sim.routing(node).unwrap().graph.facts(&id);
            assert_eq!(facts.unwrap().price.msat_per_unit, 5, "what it says in this life");
        }
        let told = own_id_seen(&sim, hub);
        sim.run_for(10 * MINUTE);
        assert_eq!(own_id_seen(&sim, hub), told, "once it is above them it is quiet");
        assert!(!discover_afresh(&mut sim, n(1), hub).is_empty());
    }
}
