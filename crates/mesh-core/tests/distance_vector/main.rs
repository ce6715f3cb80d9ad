//! Networks of distance vectors: whatever is lost, cut or restarted, no loop ever forms in either plane, and when it is
//! quiet every node has the best way there is.

mod net;

use mesh_core::routing::Plane;
use net::{Net, Random};
use proptest::prelude::*;

fn ring(nodes: usize) -> Vec<(usize, usize)> {
    (0..nodes).map(|node| (node, (node + 1) % nodes)).collect()
}

/// A connected random graph.
fn random_graph(nodes: usize, more: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let mut edges: Vec<(usize, usize)> = (1..nodes).map(|node| (random.below(node), node)).collect();
    for _ in 0..more {
        let (a, b) = (random.below(nodes), random.below(nodes));
        if a != b && !edges.contains(&(a, b)) && !edges.contains(&(b, a)) {
            edges.push((a, b));
        }
    }
    edges
}

#[test]
fn everybody_finds_the_best_way_to_everybody() {
    let mut net = Net::new(1, 8, &ring(8));
    net.run_until_quiet();
    net.assert_optimal();
    assert_eq!(net.reachable(Plane::Hops), 8 * 7);
}

#[test]
fn ways_longer_than_a_route_exist_in_the_cost_plane_only() {
    let line: Vec<(usize, usize)> = (0..14).map(|node| (node, node + 1)).collect();
    let mut net = Net::new(2, 15, &line);
    net.run_until_quiet();
    net.assert_optimal();
    assert!(net.reachable(Plane::Hops) < net.reachable(Plane::Cost));
}

#[test]
fn broken_ring_is_used_the_other_way_round() {
    let mut net = Net::new(3, 6, &ring(6));
    net.run_until_quiet();
    net.cut(0, 1);
    net.run_until_quiet();
    net.assert_optimal();
    assert_eq!(net.reachable(Plane::Hops), 6 * 5);
    net.heal(0, 1);
    net.run_until_quiet();
    net.assert_optimal();
}

#[test]
fn longer_detour_that_is_infeasible_is_freed_by_a_fresh_seqno() {
    // Node 3 is two hops away for 1, which told 2 so; when 1 and 3 part, 2's own way (over 4 and 5) is infeasible
    // for 1 until 3 makes a new seqno.
    let edges = [(1, 3), (1, 2), (2, 4), (4, 5), (5, 3), (0, 1)];
    let mut net = Net::new(4, 6, &edges);
    net.run_until_quiet();
    net.cut(1, 3);
    net.run_until_quiet();
    net.assert_optimal();
    assert_eq!(net.reachable(Plane::Hops), 6 * 5);
}

#[test]
fn parted_network_forgets_the_other_side_and_finds_it_again() {
    let edges = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3), (2, 3)];
    let mut net = Net::new(5, 6, &edges);
    net.run_until_quiet();
    net.cut(2, 3);
    net.run_until_quiet();
    net.assert_optimal();
    assert_eq!(net.reachable(Plane::Cost), 2 * 3 * 2);
    net.heal(2, 3);
    net.run_until_quiet();
    net.assert_optimal();
    assert_eq!(net.reachable(Plane::Cost), 6 * 5);
}

#[test]
fn without_the_feasibility_condition_the_same_cuts_make_loops() {
    let loops: usize = (0..20)
        .map(|seed| {
            let mut random = Random(seed);
            let edges = random_graph(12, 10, &mut random);
            let mut net = Net::new(seed, 12, &edges);
            net.without_feasibility();
            net.run_for_ms(5_000);
            net.kill(net.busiest());
            net.run_for_ms(5_000);
            net.loops
        })
        .sum();
    assert!(loops > 0, "the detector sees nothing");
}

#[test]
fn lost_updates_and_requests_are_made_good() {
    let mut random = Random(7);
    let edges = random_graph(20, 20, &mut random);
    let mut net = Net::new(7, 20, &edges);
    net.loss_percent = 30;
    net.run_until_quiet();
    net.assert_optimal();
    net.kill(net.busiest());
    net.run_until_quiet();
    net.assert_optimal();
}

#[test]
fn link_that_flaps_is_less_and_less_news_and_is_used_again_when_it_lasts() {
    let mut net = Net::new(9, 8, &ring(8));
    net.run_until_quiet();
    let flap_for_ten_seconds = |net: &mut Net| {
        let before = net.routes_sent();
        for _ in 0..10 {
            net.cut(0, 1);
            net.run_for_ms(500);
            net.heal(0, 1);
            net.run_for_ms(500);
        }
        net.routes_sent() - before
    };
    let first = flap_for_ten_seconds(&mut net);
    for _ in 0..4 {
        flap_for_ten_seconds(&mut net);
    }
    let last = flap_for_ten_seconds(&mut net);
    assert!(last * 4 < first, "{last} after {first}");
    net.run_until_quiet();
    net.assert_optimal();
}

/// What happens to a link or to its first node: cut, heal, kill, restart; lost numbers, a pause in announcing, a long
/// time, a time after which what ended is forgotten.
fn happen(net: &mut Net, edges: &[(usize, usize)], events: &[(u8, u16, u64)]) {
    for (what, which, pause) in events {
        let (a, b) = edges[usize::from(*which) % edges.len()];
        match what {
            0 => net.cut(a, b),
            1 => net.heal(a, b),
            2 => net.kill(a),
            3 => net.restart(a),
            4 => net.lose_numbers(a),
            5 => net.mute_or_unmute(a),
            6 => net.run_for_ms(30_000),
            _ => net.run_for_ms(700_000),
        }
        net.run_for_ms(*pause);
    }
}

#[test]
fn next_hop_learns_that_this_node_is_no_way_though_something_else_is_told_it_first() {
    // A next hop that never learned it would keep an old metric and ask for seqnos for ever: it was never quiet.
    let mut random = Random(12461088211961027890);
    let edges = random_graph(11, 27, &mut random);
    let mut net = Net::new(12461088211961027890, 11, &edges);
    let cuts = [
        (0, 48755, 15),
        (2, 32570, 0),
        (0, 13346, 264),
        (0, 10261, 0),
        (0, 10240, 1615),
    ];
    happen(&mut net, &edges, &cuts);
    happen(&mut net, &edges, &[(0, 18825, 0)]);
    net.run_until_quiet();
    net.assert_optimal();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn no_loop_ever_and_the_best_way_in_the_end(
        seed in any::<u64>(),
        nodes in 4..24usize,
        more in 0..30usize,
        events in proptest::collection::vec((0..4u8, any::<u16>(), 0..3000u64), 0..12),
    ) {
        let mut random = Random(seed);
        let edges = random_graph(nodes, more, &mut random);
        let mut net = Net::new(seed, nodes, &edges);
        happen(&mut net, &edges, &events);
        net.run_until_quiet();
        prop_assert_eq!(net.loops, 0);
        net.assert_optimal();
    }

    #[test]
    fn no_loop_though_frames_come_twice_and_late_and_announcements_end(
        seed in any::<u64>(),
        nodes in 4..12usize,
        more in 0..14usize,
        disorder in (0..20usize, 0..30usize, 0..60usize),
        events in proptest::collection::vec((0..8u8, any::<u16>(), 0..3000u64), 0..16),
    ) {
        let mut random = Random(seed);
        let edges = random_graph(nodes, more, &mut random);
        let mut net = Net::new(seed, nodes, &edges);
        (net.loss_percent, net.twice_percent, net.late_ms) = disorder;
        net.announce_every(20_000);
        happen(&mut net, &edges, &events);
        net.announce_for_good();
        net.run_until_quiet();
        prop_assert_eq!(net.loops, 0);
        net.assert_optimal();
    }
}
