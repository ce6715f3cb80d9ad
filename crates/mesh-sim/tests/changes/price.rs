//! A router changes its price.

use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Command, QuotedSlice};
use mesh_core::limits::ROUTE_LIFETIME;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_sim::{LinkSpec, NodeIndex, NodeSpec, Simulation};

use super::*;

const UNITS: u64 = 10_000;

fn quote(sim: &mut Simulation, from: NodeIndex, over: &[usize]) -> QuotedSlice {
    let path = path(sim, over);
    let quoted = sim.quote(from, &path, TrafficClass::Paid, UNITS, Buying::WhereNeeded);
    quoted.unwrap()
}

/// What the slice pays to one payee per unit.
fn price_of(sim: &Simulation, slice: &QuotedSlice, payee: NodeIndex) -> u64 {
    let mut payees = slice.payees.iter();
    let quoted = payees.find(|quoted| quoted.payee == sim.id(payee));
    quoted.unwrap().price_msat
}

/// The price that everybody's picture of the network shows of a node.
fn shown(sim: &mut Simulation, of: NodeIndex) -> BTreeSet<u64> {
    let id = sim.id(of);
    let nodes: Vec<_> = sim.all_nodes().collect();
    let prices = nodes.into_iter().map(|node| {
        let facts = sim.routing(node).unwrap().graph.facts(&id);
        facts.unwrap().price.msat_per_unit
    });
    prices.collect()
}

#[test]
fn new_price_takes_the_old_routes_from_everybody_and_the_next_quote_asks_it() {
    let mut sim = network(1, 6, &ring(6));
    let over = |sim: &mut Simulation, node: usize| {
        let id = sim.id(n(1));
        known(sim, n(node))
            .into_iter()
            .filter(|path| path.contains(&id))
            .count()
    };
    for (from, to) in [(0, 3), (0, 1), (5, 2), (4, 1), (3, 0)] {
        sim.discover(n(from), n(to)).unwrap();
    }
    for source in [0, 3, 4, 5] {
        assert!(over(&mut sim, source) > 0, "{source}");
    }
    let before = quote(&mut sim, n(0), &[0, 1, 2, 3]);
    set_price(&mut sim, n(1), 90);
    sim.run_for(TOLD);
    for source in [0, 3, 4, 5] {
        assert_eq!(over(&mut sim, source), 0, "{source}");
    }
    assert_eq!(shown(&mut sim, n(1)), [90].into());

    let left = sim.discover(n(0), n(3)).unwrap();
    assert_eq!(
        paths_of(left),
        [path(&sim, &[0, 5, 4, 3])].into(),
        "the other way was not forgotten"
    );
    let found = discover_afresh(&mut sim, n(0), n(3));
    let dear = found.iter().find(|route| route.path[1] == sim.id(n(1))).unwrap();
    assert_eq!(dear.prices[0].msat_per_unit, 90);
    assert_ne!(found[0].path, dear.path, "the cheaper way comes first");
    let after = quote(&mut sim, n(0), &[0, 1, 2, 3]);
    assert!(price_of(&sim, &before, n(1)) < 90 && price_of(&sim, &after, n(1)) >= 90);
}

#[test]
fn destination_that_lowers_its_price_is_asked_anew_too() {
    let mut sim = network(2, 6, &ring(6));
    sim.discover(n(0), n(3)).unwrap();
    set_price(&mut sim, n(3), 0);
    sim.run_for(TOLD);
    assert_eq!(known(&mut sim, n(0)), BTreeSet::new());
    let found = sim.discover(n(0), n(3)).unwrap();
    assert_eq!(found[0].prices.last().unwrap().msat_per_unit, 0);
}

#[test]
fn price_signed_before_is_honoured_until_it_expires_though_the_payee_asks_more_by_now() {
    let mut sim = Simulation::new(3);
    // Nobody announces, so nobody hears of the new price but by asking.
    let nodes = [0, 3, 5].map(|price| sim.add_node(NodeSpec::unannounced(price)));
    let [a, b, c] = nodes;
    sim.connect(a, b, LinkSpec::default());
    sim.connect(b, c, LinkSpec::default());
    sim.run_for(SECOND);
    sim.discover(a, c).unwrap();
    let before = quote(&mut sim, a, &[0, 1, 2]);
    set_price(&mut sim, b, 900);
    sim.run_for(ROUTE_LIFETIME - 5 * MINUTE);
    let path = path(&sim, &[0, 1, 2]);
    let trip = sim.establish_over(a, &path, TrafficClass::Paid, UNITS).unwrap();
    assert_eq!(price_of(&sim, &trip.quoted, b), price_of(&sim, &before, b));
    sim.send(a, trip.session, "", b"at the old price").unwrap();
    sim.settle();
    assert_eq!(sim.deliveries(c).len(), 1);

    sim.run_for(10 * MINUTE);
    let refused = sim.quote(a, &path, TrafficClass::Paid, UNITS, Buying::WhereNeeded);
    assert_eq!(refused.unwrap_err().reason, DropReason::NoRoute);
    sim.discover(a, c).unwrap();
    let anew = quote(&mut sim, a, &[0, 1, 2]);
    assert!(price_of(&sim, &anew, b) >= 900);
    sim.audit().unwrap();
}

#[test]
fn who_carries_for_nothing_has_no_price_to_set() {
    for mode in [MeshMode::Open, MeshMode::BitcoinOnly] {
        let mut sim = Simulation::new(4);
        let node = sim.add_node(NodeSpec::free(mode));
        let id = sim.command(node, Command::SetPrice { msat_per_unit: 1 });
        let refusal = sim.take_answer(id).unwrap().unwrap_err();
        assert_eq!(refusal.reason, DropReason::BadCommand, "{mode:?}");
    }
}

#[test]
fn restart_goes_back_to_the_configured_price_and_everybody_hears_of_it() {
    let mut sim = network(5, 6, &ring(6));
    set_price(&mut sim, n(1), 90);
    sim.run_for(TOLD);
    assert_eq!(shown(&mut sim, n(1)), [90].into());
    sim.discover(n(0), n(2)).unwrap();
    sim.kill(n(1));
    sim.run_for(SECOND);
    sim.restart(n(1));
    sim.run_for(TOLD);
    assert_eq!(shown(&mut sim, n(1)), [5].into());
    let found = discover_afresh(&mut sim, n(0), n(2));
    assert_eq!(found[0].path, path(&sim, &[0, 1, 2]));
    assert_eq!(found[0].prices[0].msat_per_unit, 5);
}

#[test]
fn price_that_is_changed_every_second_is_told_once_in_five() {
    let mut sim = network(6, 6, &ring(6));
    let before = seqno_at(&sim, n(4), n(1)).unwrap();
    for second in 0..60 {
        set_price(&mut sim, n(1), 100 + second);
        sim.run_for(SECOND);
    }
    sim.run_for(TOLD);
    let told = seqno_at(&sim, n(4), n(1)).unwrap() - before;
    assert!((10..=14).contains(&told), "{told}");
    assert_eq!(shown(&mut sim, n(1)), [159].into());
}

#[test]
fn new_price_moves_no_route() {
    let mut sim = network(7, 6, &ring(6));
    sim.run_for(MINUTE);
    let routes = |sim: &Simulation| -> Vec<_> {
        let pairs = sim.all_nodes().flat_map(|a| sim.all_nodes().map(move |b| (a, b)));
        let both = pairs.flat_map(|(a, b)| Plane::ALL.map(|plane| (a, b, plane)));
        let route = |(from, to, plane)| {
            let (vector, to) = (&sim.routing(from).unwrap().vector, sim.id(to));
            (vector.next_hop(&to, plane), vector.feasible_distance(&to, plane))
        };
        both.map(route).collect()
    };
    let before = routes(&sim);
    set_price(&mut sim, n(1), 90);
    for _ in 0..60 {
        sim.run_for(SECOND);
        assert_eq!(routes(&sim), before);
    }
    assert_eq!(shown(&mut sim, n(1)), [90].into());
}
