//! Whole cores that look after who earns their money: what a share does to the next session, and what it does not.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use common::SEEDS;
use mesh_core::core::Announcing;
use mesh_core::fairness::Share;
use mesh_core::fairness::explain::{Candidate, Diversity, Twice};
use mesh_core::fairness::policy::{Caps, FairnessPolicy};
use mesh_core::identity::NodeId;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{LinkSpec, NodeIndex, NodeSpec, Simulation};

/// Shares are looked at, and written down, once a minute.
const A_LOOK: Duration = Duration::from_secs(70);

/// By then everybody has told of the links that came up after it started.
const ALL_ANNOUNCED: Duration = Duration::from_secs(30);

/// From A to C over one of several routers at these prices, which are few: they count from the first session on.
fn choice<const N: usize>(seed: u64, prices: [u64; N]) -> (Simulation, NodeIndex, [NodeIndex; N], NodeIndex) {
    let mut sim = Simulation::new(seed);
    let [a, c] = [0, 5].map(|price| sim.add_node(NodeSpec::paid(price)));
    let routers = prices.map(|price| sim.add_node(NodeSpec::paid(price)));
    for router in routers {
        sim.connect(a, router, LinkSpec::default());
        sim.connect(router, c, LinkSpec::default());
    }
    look_early(&mut sim, a);
    sim.run_for(ALL_ANNOUNCED);
    (sim, a, routers, c)
}

fn look_early(sim: &mut Simulation, node: NodeIndex) {
    let policy = FairnessPolicy {
        minimum_sample_msat: 300,
        ..FairnessPolicy::default()
    };
    sim.set_fairness(node, policy).unwrap();
}

/// A session of so many packets by whatever way is the best, and its only router.
fn session(sim: &mut Simulation, from: NodeIndex, to: NodeIndex, packets: usize) -> NodeId {
    let trip = sim.establish(from, to, TrafficClass::Paid, 500).unwrap();
    for _ in 0..packets {
        sim.send(from, trip.session, "", b"paid").unwrap();
    }
    sim.settle();
    sim.run_for(Duration::from_secs(1));
    assert_eq!(trip.path.len(), 3);
    trip.path[1]
}

fn share(sim: &Simulation, payer: NodeIndex, router: &NodeId) -> Share {
    let shares = sim.core(payer).unwrap().shares(sim.now_at(payer).unix);
    let of = |entity: &mesh_core::fairness::entities::Entity| entity.0 == *router;
    let found = shares.entities.iter().find(|(entity, _)| of(entity));
    found.map(|(_, share)| *share).unwrap_or_default()
}

fn explain(sim: &Simulation, from: NodeIndex, to: NodeIndex) -> Vec<Candidate> {
    let now = sim.now_at(from);
    sim.core(from).unwrap().explain(now, &sim.id(to))
}

fn over<'a>(candidates: &'a [Candidate], router: &NodeId) -> &'a Candidate {
    let found = candidates.iter().find(|candidate| candidate.path[1] == *router);
    found.expect("every way is told")
}

#[test]
fn router_above_its_cap_is_gone_around_by_the_next_session_and_used_again_when_its_share_has_faded() {
    // Where the others cost a hundred times as much, only the hard cap sends anybody there.
    for (seed, others) in [(1, 4), (2, 4), (3, 400)] {
        let (mut sim, a, routers, c) = choice(seed, [3, others, others]);
        let [cheap, ..] = routers.map(|router| sim.id(router));
        assert_eq!(session(&mut sim, a, c, 150), cheap);
        sim.run_for(A_LOOK);
        assert_eq!(share(&sim, a, &cheap).observed_ppm, 1_000_000);
        let told = explain(&sim, a, c);
        let passed_over = over(&told, &cheap);
        assert!(passed_over.excluded && !passed_over.chosen && passed_over.concentration_msat > 0);
        assert!(told[0].chosen && !told[0].excluded);
        let next = session(&mut sim, a, c, 1);
        assert_eq!(next, told[0].path[1], "what is told is what is done");
        assert_ne!(next, cheap);
        sim.run_for(Duration::from_secs(2 * 24 * 3600));
        assert!(share(&sim, a, &cheap).observed_ppm < 300_000);
        assert!(!over(&explain(&sim, a, c), &cheap).excluded);
        sim.run_for(Duration::from_secs(3 * 24 * 3600));
        assert_eq!(session(&mut sim, a, c, 1), cheap);
        sim.audit().unwrap();
    }
}

#[test]
fn node_with_two_providers_uses_both_and_excludes_neither() {
    let (mut sim, a, routers, c) = choice(1, [3, 4]);
    let ids = routers.map(|router| sim.id(router));
    let mut used = Vec::new();
    for _ in 0..8 {
        used.push(session(&mut sim, a, c, 30));
        sim.run_for(A_LOOK);
        let told = explain(&sim, a, c);
        assert!(told.iter().all(|candidate| !candidate.excluded), "{told:?}");
        assert_eq!(told.len(), 2);
    }
    assert!(ids.iter().all(|id| used.contains(id)), "both are paid");
}

#[test]
fn only_provider_is_neither_priced_nor_excluded() {
    let (mut sim, a, [only], c) = choice(1, [3]);
    let only = sim.id(only);
    for _ in 0..3 {
        assert_eq!(session(&mut sim, a, c, 50), only);
        sim.run_for(A_LOOK);
    }
    let told = explain(&sim, a, c);
    assert_eq!(
        (told.len(), told[0].concentration_msat, told[0].excluded),
        (1, 0, false)
    );
    let share = share(&sim, a, &only);
    assert_eq!(
        (share.observed_ppm, share.forced_ppm, share.excess_ppm()),
        (1_000_000, 1_000_000, 0)
    );
}

#[test]
fn neighbours_at_one_address_are_gone_around_as_one_and_whoever_only_claims_it_is_not_among_them() {
    let mut sim = Simulation::new(4);
    let [a, c] = [0, 5].map(|price| sim.add_node(NodeSpec::paid(price)));
    let [cheap, second, claims] = [3, 4, 5].map(|price| {
        let announcing = at("9.9.9.9:8335");
        sim.add_node_announcing(NodeSpec::paid(price), announcing)
    });
    let apart = sim.add_node(NodeSpec::paid(9));
    for router in [cheap, second, claims, apart] {
        sim.connect(a, router, LinkSpec::default());
        sim.connect(router, c, LinkSpec::default());
    }
    // The caps of networks are out of the way, as all three say that they are in one; and so is what costs below a cap.
    let policy = FairnessPolicy {
        price_at_hard_cap_percent: 0,
        minimum_sample_msat: 300,
        group: Caps {
            soft_ppm: 999_999,
            hard_ppm: 1_000_000,
        },
        ..FairnessPolicy::default()
    };
    sim.set_fairness(a, policy).unwrap();
    sim.run_for(ALL_ANNOUNCED);
    for (router, address) in [(cheap, "9.9.9.9"), (second, "9.9.9.9"), (claims, "9.9.9.8")] {
        sim.reach(a, router, address.parse().unwrap());
    }
    assert_eq!(session(&mut sim, a, c, 150), sim.id(cheap));
    sim.run_for(A_LOOK);
    let told = explain(&sim, a, c);
    let excluded = [cheap, second, claims, apart].map(|router| over(&told, &sim.id(router)).excluded);
    assert_eq!(excluded, [true, true, false, false]);
    assert_eq!(session(&mut sim, a, c, 1), sim.id(claims));
}

#[test]
fn rivals_packets_through_this_node_and_his_victim_change_nothing_here() {
    let mut sim = Simulation::new(3);
    let [rival, me, victim, rivals_own, target] =
        [0, 1, 3, 4, 5].map(|price| sim.add_node(NodeSpec::paid(price)));
    for (from, to) in [
        (rival, me),
        (me, victim),
        (me, rivals_own),
        (victim, target),
        (rivals_own, target),
    ] {
        sim.connect(from, to, LinkSpec::default());
    }
    look_early(&mut sim, me);
    sim.run_for(ALL_ANNOUNCED);
    let path = [rival, me, victim, target].map(|node| sim.id(node));
    assert_eq!(sim.discover(rival, target).unwrap()[0].path, path);
    let before = explain(&sim, me, target);
    for _ in 0..5 {
        let trip = sim.establish_over(rival, &path, TrafficClass::Paid, 300).unwrap();
        for _ in 0..100 {
            sim.send(rival, trip.session, "", b"washed").unwrap();
        }
        sim.run_for(A_LOOK);
    }
    assert_eq!(sim.deliveries(target).len(), 500);
    assert_eq!(explain(&sim, me, target), before);
    assert!(
        sim.core(me)
            .unwrap()
            .shares(sim.now_at(me).unix)
            .entities
            .is_empty()
    );
    assert_eq!(session(&mut sim, me, target, 1), sim.id(victim));
}

#[test]
fn killed_node_still_knows_who_earned_its_money_and_goes_around_him() {
    for seed in SEEDS {
        let (mut sim, a, routers, c) = choice(seed, [3, 4, 4]);
        let cheap = sim.id(routers[0]);
        assert_eq!(session(&mut sim, a, c, 150), cheap);
        sim.run_for(A_LOOK);
        let before = sim.core(a).unwrap().shares(sim.now_at(a).unix);
        assert!(!before.entities.is_empty());
        sim.kill(a);
        sim.run_for(Duration::from_secs(1));
        sim.restart(a);
        look_early(&mut sim, a);
        assert_eq!(sim.core(a).unwrap().shares(sim.now_at(a).unix), before);
        sim.run_for(Duration::from_secs(10));
        assert_ne!(session(&mut sim, a, c, 1), cheap);
        sim.audit().unwrap();
    }
}

/// What a node at this address says of itself.
fn at(address: &str) -> Announcing {
    Announcing {
        addresses: vec![address.to_owned()],
        ..Announcing::default()
    }
}

#[test]
fn network_that_serves_twice_is_passed_over_where_another_way_exists_and_told_of_where_none_does() {
    let mut sim = Simulation::new(5);
    let [a, c] = [0, 5].map(|price| sim.add_node(NodeSpec::paid(price)));
    // Four cheap ways over two routers of one network each, and a dear one over two networks.
    let mut links = Vec::new();
    for row in 1..=4 {
        let pair = [1, 2].map(|place| {
            let announcing = at(&format!("9.9.{row}.{place}:8335"));
            sim.add_node_announcing(NodeSpec::paid(1), announcing)
        });
        links.extend([(a, pair[0]), (pair[0], pair[1]), (pair[1], c)]);
    }
    let dear = ["11.1.0.1:8335", "12.1.0.1:8335"]
        .map(|address| sim.add_node_announcing(NodeSpec::paid(20), at(address)));
    links.extend([(a, dear[0]), (dear[0], dear[1]), (dear[1], c)]);
    for (from, to) in links {
        sim.connect(from, to, LinkSpec::default());
    }
    sim.run_for(ALL_ANNOUNCED);
    let routes = sim.discover(a, c).unwrap();
    let apart = [a, dear[0], dear[1], c].map(|node| sim.id(node));
    assert_eq!(routes[0].path, apart);
    let told = explain(&sim, a, c);
    assert_eq!(
        (told[0].path.as_slice(), told[0].diversity),
        (&apart[..], Diversity::Strict)
    );
    let relaxed = |candidate: &&Candidate| matches!(candidate.diversity, Diversity::Relaxed(Twice::Group(_)));
    assert!(told.iter().filter(relaxed).count() >= 3, "{told:?}");
    assert!(told[1].score_msat < told[0].score_msat, "though they are cheaper");
    sim.cut(dear[0], dear[1]);
    sim.run_for(Duration::from_secs(30));
    let routes = sim.discover(a, c).unwrap();
    assert_eq!(routes[0].path.len(), 4, "any way is better than none");
    let told = explain(&sim, a, c);
    assert!(told[0].chosen && relaxed(&&told[0]));
    assert!(told[0].diversity.to_string().contains("9.9.0.0/16"));
}

#[test]
fn slow_way_of_the_same_price_is_the_second_choice() {
    let mut sim = Simulation::new(6);
    let [a, slow, fast, c] = [0, 3, 3, 5].map(|price| sim.add_node(NodeSpec::paid(price)));
    let far = LinkSpec {
        latency: Duration::from_millis(150),
        ..LinkSpec::default()
    };
    for (from, to, spec) in [
        (a, slow, far.clone()),
        (slow, c, far),
        (a, fast, LinkSpec::default()),
        (fast, c, LinkSpec::default()),
    ] {
        sim.connect(from, to, spec);
    }
    sim.run_for(Duration::from_secs(5));
    assert_eq!(session(&mut sim, a, c, 10), sim.id(fast));
    let told = explain(&sim, a, c);
    let [slow, fast] = [slow, fast].map(|router| over(&told, &sim.id(router)).latency_msat);
    assert!(slow > fast + 20_000, "{slow} {fast}");
}

#[test]
fn better_way_than_the_only_one_known_is_asked_for_before_a_monopolist_is_paid_again() {
    let (mut sim, a, routers, c) = choice(7, [3, 4, 4]);
    let cheap = sim.id(routers[0]);
    assert_eq!(session(&mut sim, a, c, 150), cheap);
    // The others are forgotten with their links, and nobody asked again since these came back.
    for other in &routers[1..] {
        sim.cut(*other, c);
    }
    sim.run_for(A_LOOK);
    for other in &routers[1..] {
        sim.heal(*other, c);
    }
    sim.run_for(A_LOOK);
    let told = explain(&sim, a, c);
    assert!(
        over(&told, &cheap).quoted && over(&told, &cheap).excluded,
        "{told:?}"
    );
    assert_eq!(told.iter().filter(|candidate| candidate.quoted).count(), 1);
    let chosen = told.iter().find(|candidate| candidate.chosen).unwrap();
    assert!(!chosen.quoted && !chosen.excluded);
    assert_ne!(session(&mut sim, a, c, 1), cheap);
}

#[test]
fn monopolist_is_paid_again_where_the_better_way_does_not_answer_and_nobody_waits_for_it_twice() {
    let (mut sim, a, routers, c) = choice(8, [3, 4, 4]);
    let cheap = sim.id(routers[0]);
    assert_eq!(session(&mut sim, a, c, 150), cheap);
    for other in &routers[1..] {
        sim.cut(*other, c);
    }
    sim.run_for(A_LOOK);
    for other in &routers[1..] {
        sim.heal(*other, c);
        // It announces its links and answers nobody.
        let drop_requests = |stage: mesh_sim::Stage, frame: &bytes::Bytes| match stage {
            mesh_sim::Stage::DiscoveryRequest => Vec::new(),
            _ => vec![frame.clone()],
        };
        sim.tamper(a, *other, Box::new(drop_requests));
    }
    sim.run_for(A_LOOK);
    for patience in [Duration::from_secs(1), Duration::ZERO] {
        let before = sim.now().instant;
        let routes = sim.discover(a, c).unwrap();
        assert_eq!(routes[0].path[1], cheap);
        assert!(sim.now().instant - before <= patience);
    }
}
