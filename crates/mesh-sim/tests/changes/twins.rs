//! Two live nodes with one key, in opposite corners of the network.

use mesh_core::drop_reason::DropReason;
use mesh_core::limits::SEQNO_INTERVAL;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{LinkSpec, NodeIndex, Simulation};

use super::*;

/// A grid of twenty, and in the corner opposite to node 0 its twin.
fn with_twin(seed: u64) -> (Simulation, NodeIndex, NodeIndex) {
    let mut sim = network(seed, 20, &grid(5, 4));
    let twin = sim.add_twin(n(0));
    sim.connect(twin, n(19), LinkSpec::default());
    (sim, n(0), twin)
}

fn announcements_sent(sim: &mut Simulation) -> u64 {
    let nodes: Vec<_> = sim.all_nodes().collect();
    let sent = nodes
        .into_iter()
        .map(|node| sim.status(node).unwrap().routing.announcements_sent);
    sent.sum()
}

#[test]
fn twins_are_both_told_and_make_no_storm() {
    let (mut sim, original, twin) = with_twin(1);
    sim.run_for(MINUTE);
    let (told, number, sent) = (
        [original, twin].map(|node| own_id_seen(&sim, node)),
        seqno_at(&sim, n(7), original).unwrap(),
        announcements_sent(&mut sim),
    );
    let minutes = 10;
    sim.run_for(minutes * MINUTE);
    let again = [original, twin].map(|node| own_id_seen(&sim, node));
    assert!(
        again[0] > told[0] + 10 && again[1] > told[1] + 10,
        "{told:?} {again:?}"
    );
    // Each of the two makes one in two seconds at the most.
    let most = u64::from(minutes) * 2 * MINUTE.as_secs() / SEQNO_INTERVAL.as_secs();
    let made = seqno_at(&sim, n(7), original).unwrap() - number;
    assert!(made <= most + 16, "{made} announcements in {minutes} minutes");
    // Each goes at most once over each direction of the 32 links, and others announce themselves once in half an hour.
    let sent = announcements_sent(&mut sim) - sent;
    assert!(sent <= made * 64 + 20 * 64, "{sent} for {made}");
}

#[test]
fn everybody_else_is_led_to_one_of_the_twins_and_nobody_in_circles() {
    for seed in 1..3 {
        let (mut sim, original, twin) = with_twin(seed);
        let id = sim.id(original);
        run_without_circles(&mut sim, MINUTE);
        let (peers, mut reached) = (peers(&sim), 0);
        for _ in 0..60 {
            run_without_circles(&mut sim, SECOND);
            for (node, plane) in (1..20).flat_map(|node| Plane::ALL.map(|plane| (node, plane))) {
                let end = follow(&sim, &peers, n(node), id, plane);
                reached += usize::from(end == Some(original) || end == Some(twin));
            }
        }
        assert!(reached * 100 >= 99 * 60 * 19 * 2, "{reached} of {}", 60 * 19 * 2);
        let arrived = |sim: &Simulation| sim.deliveries(original).len() + sim.deliveries(twin).len();
        for from in [1, 9, 18] {
            let before = arrived(&sim);
            let trip = sim.establish(n(from), original, TrafficClass::Paid, 10).unwrap();
            sim.send(n(from), trip.session, "", b"whoever you are").unwrap();
            sim.settle();
            assert_eq!(arrived(&sim), before + 1);
        }
    }
}

#[test]
fn network_is_quiet_again_when_one_of_the_twins_is_gone() {
    let (mut sim, original, twin) = with_twin(3);
    sim.run_for(2 * MINUTE);
    sim.kill(twin);
    run_without_circles(&mut sim, MINUTE);
    let told = own_id_seen(&sim, original);
    let number = seqno_at(&sim, n(7), original).unwrap();
    sim.run_for(5 * MINUTE);
    assert_eq!(own_id_seen(&sim, original), told);
    assert_eq!(seqno_at(&sim, n(7), original), Some(number));
    for node in 1..20 {
        for plane in Plane::ALL {
            assert_eq!(
                follow(&sim, &peers(&sim), n(node), sim.id(original), plane),
                Some(original)
            );
        }
    }
    assert_eq!(sim.drops(n(7), DropReason::BadSignature), 0);
}
