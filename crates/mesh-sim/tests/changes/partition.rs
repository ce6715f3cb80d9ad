//! The network falls in two while sessions are open across, and is mended.

use mesh_core::drop_reason::DropReason;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{Simulation, Trip};

use super::*;

/// The links between the halves.
const BRIDGES: [(usize, usize); 3] = [(0, 10), (4, 14), (7, 17)];

/// Two rings of ten with shortcuts, and three bridges.
fn halves(seed: u64) -> Simulation {
    let mut links = ring(10);
    links.extend([(0, 5), (2, 7)]);
    let other: Vec<_> = links.iter().map(|(a, b)| (a + 10, b + 10)).collect();
    links.extend(other);
    links.extend(BRIDGES);
    network(seed, 20, &links)
}

const ACROSS: [(usize, usize); 4] = [(1, 11), (18, 3), (6, 19), (12, 5)];

fn open_across(sim: &mut Simulation) -> Vec<Trip> {
    let open = |(from, to): (usize, usize)| sim.establish(n(from), n(to), TrafficClass::Paid, 100).unwrap();
    ACROSS.map(open).into()
}

fn say(sim: &mut Simulation, trips: &[Trip], text: &[u8]) {
    for ((from, _), trip) in ACROSS.iter().zip(trips) {
        sim.send(n(*from), trip.session, "", text).unwrap();
    }
    sim.settle();
}

fn arrived(sim: &Simulation) -> [usize; 4] {
    ACROSS.map(|(_, to)| sim.deliveries(n(to)).len())
}

#[test]
fn halves_route_on_among_themselves_and_find_each_other_again() {
    for seed in 1..3 {
        let mut sim = halves(seed);
        let trips = open_across(&mut sim);
        say(&mut sim, &trips, b"before");
        assert_eq!(arrived(&sim), [1; 4]);
        for (a, b) in BRIDGES {
            sim.cut(n(a), n(b));
        }
        run_without_circles(&mut sim, 30 * SECOND);
        routes_are_the_best(&sim, &BRIDGES);
        for ((from, to), trip) in ACROSS.iter().zip(&trips) {
            assert!(
                !known(&mut sim, n(*from)).contains(&trip.path),
                "known to be broken"
            );
            let refusal = sim.discover(n(*from), n(*to)).unwrap_err();
            assert_eq!(refusal.reason, DropReason::NoRoute);
        }
        let within = sim.establish(n(1), n(8), TrafficClass::Paid, 100).unwrap();
        sim.send(n(1), within.session, "", b"within").unwrap();
        sim.settle();
        assert_eq!(sim.deliveries(n(8)).len(), 1);

        for (a, b) in BRIDGES {
            sim.heal(n(a), n(b));
        }
        run_without_circles(&mut sim, 30 * SECOND);
        routes_are_the_best(&sim, &[]);
        say(&mut sim, &trips, b"the same session, after");
        assert_eq!(
            arrived(&sim),
            [2; 4],
            "both ends and all between them remember it"
        );
        let again = open_across(&mut sim);
        say(&mut sim, &again, b"a new one");
        assert_eq!(arrived(&sim), [3; 4]);
        sim.audit().unwrap();
    }
}

#[test]
fn halves_that_were_apart_until_they_forgot_each_other_are_one_again() {
    let mut sim = halves(3);
    for (a, b) in BRIDGES {
        sim.cut(n(a), n(b));
    }
    sim.run_for(100 * MINUTE);
    assert_eq!(picture(&mut sim, n(1), 20).len(), 10);
    for (a, b) in BRIDGES {
        sim.heal(n(a), n(b));
    }
    run_without_circles(&mut sim, CHARTED);
    routes_are_the_best(&sim, &[]);
    assert_eq!(picture(&mut sim, n(1), 20).len(), 20);
}
