//! What requests cost those who pass them on, and what a flood of them costs everybody else.

use std::collections::BTreeSet;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::Command;
use mesh_core::identity::NodeId;
use mesh_core::message::{ControlMessage, DiscoveryMode, DiscoveryRequest};
use mesh_sim::{LinkSpec, NodeIndex, RawPayer, Simulation};

use super::*;

/// B's neighbours are A, C (behind which D is) and a villain, which says `requests` a second to B for a minute while A
/// looks for D every three seconds.
fn flooded(seed: u64, per_second: u64, request: impl Fn(&Simulation, NodeIndex, u64) -> DiscoveryRequest) {
    let mut sim = unannounced(seed, 4, &line(4));
    let villain = sim.add_villain();
    sim.connect(villain, B, LinkSpec::default());
    sim.run_for(SECOND);
    let mut number = 0;
    for _ in 0..20 {
        let id = sim.command(
            A,
            Command::Discover {
                destination: sim.id(D),
                max_hops: 10,
                timeout: 10 * SECOND,
                refresh: true,
            },
        );
        for _ in 0..3 * per_second {
            number += 1;
            let frame = ControlMessage::DiscoveryRequest(request(&sim, villain, number)).encode();
            sim.inject(villain, B, frame.unwrap());
            sim.run_for(SECOND / u32::try_from(per_second).unwrap());
        }
        assert!(
            sim.take_answer(id).is_some_and(|answer| answer.is_ok()),
            "after {number} requests"
        );
    }
    assert!(sim.drops(B, DropReason::RateLimited) > 1000, "no flood");
    assert_eq!(
        sim.drops(C, DropReason::RateLimited),
        0,
        "B keeps within what C takes"
    );
    assert_eq!(sim.drops(C, DropReason::TableFull), 0);
    nobody_is_blamed(&sim);
}

#[test]
fn flood_of_rings_stops_nobody_elses_discovery() {
    flooded(17, 190, |sim, villain, number| {
        let mut request = RawPayer::discovery_request(sim, number, NodeIndex(4), &[villain]);
        request.destination = NodeId([9; 32]);
        request
    });
}

#[test]
fn flood_of_rings_in_others_names_stops_nobody_elses_discovery() {
    flooded(18, 1000, |sim, villain, number| {
        let mut request = RawPayer::discovery_request(sim, number, NodeIndex(4), &[A, villain]);
        request.destination = NodeId([9; 32]);
        request
    });
}

#[test]
fn flood_of_routes_stops_nobody_elses_discovery() {
    flooded(19, 190, |sim, villain, number| {
        let mut request = RawPayer::discovery_request(sim, number, D, &[villain]);
        let ahead = path(sim, &[1, 2, 3]);
        request.mode = DiscoveryMode::Route { ahead };
        request
    });
}

#[test]
fn one_request_along_a_route_or_branch_costs_a_relay_one_message_however_often_it_is_repeated() {
    let links = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)];
    let mut sim = announced(20, 5, &links, ROUTED);
    let villain = sim.add_villain();
    sim.connect(villain, B, LinkSpec::default());
    sim.run_for(SECOND);
    let overheard = overhear(&mut sim);
    let ask = |sim: &mut Simulation, number, mode: &DiscoveryMode| {
        let mut request = RawPayer::discovery_request(sim, number, NodeIndex(4), &[villain]);
        request.mode = mode.clone();
        for _ in 0..5 {
            let frame = ControlMessage::DiscoveryRequest(request.clone())
                .encode()
                .unwrap();
            sim.inject(villain, B, frame);
        }
        sim.settle();
        let passed_on = overheard.take().into_iter().filter(|(from, _, _)| *from == B);
        passed_on.map(|(_, to, _)| to).collect::<Vec<_>>()
    };
    let ahead = path(&sim, &[1, 3, 4]);
    assert_eq!(ask(&mut sim, 1, &DiscoveryMode::Route { ahead }), [D]);
    let branch = |tag, avoid| DiscoveryMode::Branch { tag, avoid };
    let first = ask(&mut sim, 2, &branch(0, Vec::new()));
    let second = ask(&mut sim, 2, &branch(1, Vec::new()));
    assert_eq!(
        [&first[..], &second[..]]
            .concat()
            .iter()
            .collect::<BTreeSet<_>>()
            .len(),
        2
    );
    let [one, both] = [&[2][..], &[2, 3]].map(|nodes| path(&sim, nodes));
    let around = ask(&mut sim, 3, &branch(0, one));
    assert_eq!(around, [D], "who is to be avoided is");
    let nowhere = ask(&mut sim, 4, &branch(0, both));
    assert_eq!(nowhere, []);
    assert_eq!(sim.drops(B, DropReason::AlreadyRelayed), 4 * 4);
}

#[test]
fn route_goes_to_those_it_names_in_their_order_or_nowhere() {
    let mut sim = unannounced(21, 4, &line(4));
    let villain = sim.add_villain();
    sim.connect(villain, B, LinkSpec::default());
    sim.run_for(SECOND);
    let overheard = overhear(&mut sim);
    let stranger = NodeId([5; 32]);
    let named: [(&[NodeId], DropReason); 3] = [
        (&path(&sim, &[2, 3]), DropReason::WrongHop),
        (&[sim.id(B), stranger, sim.id(D)], DropReason::NextHopGone),
        (&path(&sim, &[1, 2, 1, 3]), DropReason::BadRoute),
    ];
    for (number, (ahead, reason)) in (0..).zip(named) {
        let mut request = RawPayer::discovery_request(&sim, number, D, &[villain]);
        request.mode = DiscoveryMode::Route {
            ahead: ahead.to_vec(),
        };
        let frame = ControlMessage::DiscoveryRequest(request).encode().unwrap();
        sim.inject(villain, B, frame);
        sim.settle();
        assert_eq!(sim.drops(B, reason), 1, "{reason}");
    }
    let passed_on = overheard
        .borrow()
        .iter()
        .filter(|(from, _, _)| *from == B)
        .count();
    assert_eq!(passed_on, 0);
}
