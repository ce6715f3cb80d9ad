//! Discovery: what finds a way, how far, how soon, at what cost to others, and what happens to those who lie about it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod crimes;
mod floods;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Command};
use mesh_core::identity::NodeId;
use mesh_core::message::{ControlMessage, DiscoveryMode, DiscoveryRequest};
use mesh_sim::{Fate, FaultRates, LinkSpec, NodeIndex, NodeSpec, Plan, Simulation, Stage};

const SECOND: Duration = Duration::from_secs(1);

/// Until everybody's links were announced and heard of.
const CHARTED: Duration = Duration::from_secs(15);

/// Until routes are told, and before anybody announced its links: the vector knows ways, the graph none.
const ROUTED: Duration = Duration::from_secs(1);

const A: NodeIndex = NodeIndex(0);
const B: NodeIndex = NodeIndex(1);
const C: NodeIndex = NodeIndex(2);
const D: NodeIndex = NodeIndex(3);

/// Every request that is put on a link: whence, whither, what.
type Overheard = Rc<RefCell<Vec<(NodeIndex, NodeIndex, DiscoveryRequest)>>>;

fn net(seed: u64, spec: NodeSpec, nodes: usize, links: &[(usize, usize)]) -> Simulation {
    let mut sim = Simulation::new(seed);
    for _ in 0..nodes {
        sim.add_node(spec);
    }
    for (a, b) in links {
        sim.connect(NodeIndex(*a), NodeIndex(*b), LinkSpec::default());
    }
    sim.run_for(Duration::from_millis(100));
    sim
}

/// Nobody knows anything of anybody but neighbours.
fn unannounced(seed: u64, nodes: usize, links: &[(usize, usize)]) -> Simulation {
    net(seed, NodeSpec::unannounced(1), nodes, links)
}

fn announced(seed: u64, nodes: usize, links: &[(usize, usize)], known_for: Duration) -> Simulation {
    let mut sim = net(seed, NodeSpec::paid(1), nodes, links);
    sim.run_for(known_for);
    sim
}

fn line(nodes: usize) -> Vec<(usize, usize)> {
    (1..nodes).map(|node| (node - 1, node)).collect()
}

fn look(
    sim: &mut Simulation,
    from: NodeIndex,
    to: NodeIndex,
    max_hops: u8,
    timeout: Duration,
) -> (Result<Vec<Vec<NodeId>>, DropReason>, Duration) {
    let before = sim.now().instant;
    let command = Command::Discover {
        destination: sim.id(to),
        max_hops,
        timeout,
        refresh: true,
    };
    let id = sim.command(from, command);
    assert!(sim.run_until(2 * timeout + SECOND, |sim| sim.is_answered(id)));
    let took = sim.now().instant - before;
    let found = match sim.take_answer(id).unwrap() {
        Ok(Answer::Routes(routes)) => Ok(routes.into_iter().map(|route| route.path).collect()),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.reason),
    };
    (found, took)
}

fn found(sim: &mut Simulation, from: NodeIndex, to: NodeIndex) -> BTreeSet<Vec<NodeId>> {
    look(sim, from, to, 10, 30 * SECOND)
        .0
        .unwrap()
        .into_iter()
        .collect()
}

fn path(sim: &Simulation, nodes: &[usize]) -> Vec<NodeId> {
    nodes.iter().map(|node| sim.id(NodeIndex(*node))).collect()
}

fn paths(sim: &Simulation, paths: &[&[usize]]) -> BTreeSet<Vec<NodeId>> {
    paths.iter().map(|nodes| path(sim, nodes)).collect()
}

fn overhear(sim: &mut Simulation) -> Overheard {
    let overheard = Overheard::default();
    for (from, to) in sim.directions() {
        let notes = overheard.clone();
        sim.tamper(
            from,
            to,
            Box::new(move |stage, frame| {
                if stage == Stage::DiscoveryRequest
                    && let Ok(ControlMessage::DiscoveryRequest(request)) = ControlMessage::decode(frame)
                {
                    notes.borrow_mut().push((from, to, request));
                }
                vec![frame.clone()]
            }),
        );
    }
    overheard
}

/// Nobody is held responsible for anything.
#[track_caller]
fn nobody_is_blamed(sim: &Simulation) {
    for node in sim.all_nodes() {
        for reason in [DropReason::BadSignature, DropReason::Unsolicited] {
            assert_eq!(sim.drops(node, reason), 0, "{node:?} {reason}");
        }
    }
}

/// `judge` dropped something for this reason, and all of it came from `culprit`.
#[track_caller]
fn blames(sim: &Simulation, judge: NodeIndex, culprit: NodeIndex, reason: DropReason) {
    let from: BTreeSet<_> = sim
        .dropped(judge)
        .iter()
        .filter(|dropped| dropped.reason == reason)
        .map(|dropped| dropped.from)
        .collect();
    assert_eq!(from, BTreeSet::from([Some(culprit)]), "{judge:?} {reason}");
}

#[test]
fn ring_finds_two_independent_ways_though_nothing_is_known() {
    let mut sim = unannounced(1, 6, &[(0, 1), (1, 5), (0, 2), (2, 3), (3, 4), (4, 5)]);
    let overheard = overhear(&mut sim);
    let both = found(&mut sim, A, NodeIndex(5));
    assert_eq!(both, paths(&sim, &[&[0, 1, 5], &[0, 2, 3, 4, 5]]));
    let is_ring = |request: &DiscoveryRequest| matches!(request.mode, DiscoveryMode::Ring { .. });
    assert!(overheard.borrow().iter().all(|(_, _, request)| is_ring(request)));
    nobody_is_blamed(&sim);
}

#[test]
fn known_paths_are_confirmed_by_those_on_them_and_nobody_else_is_troubled() {
    // Four ways over one router each, a fifth over two, and ten more nodes behind the destination.
    let mut links = vec![
        (0, 1),
        (1, 5),
        (0, 2),
        (2, 5),
        (0, 3),
        (3, 5),
        (0, 4),
        (4, 5),
        (0, 6),
        (6, 7),
        (7, 5),
    ];
    links.extend((8..18).map(|node| (5, node)));
    let mut sim = announced(2, 18, &links, CHARTED);
    let overheard = overhear(&mut sim);
    let ways = found(&mut sim, A, NodeIndex(5));
    assert_eq!(
        ways,
        paths(&sim, &[&[0, 1, 5], &[0, 2, 5], &[0, 3, 5], &[0, 4, 5]])
    );
    assert_eq!(overheard.borrow().len(), 8, "four paths of two hops");
    nobody_is_blamed(&sim);
}

#[test]
fn branches_follow_the_distance_vector_while_the_graph_is_unknown() {
    let links = [(0, 1), (1, 3), (3, 5), (0, 2), (2, 4), (4, 5)];
    let mut sim = announced(3, 6, &links, ROUTED);
    let overheard = overhear(&mut sim);
    let ways = found(&mut sim, A, NodeIndex(5));
    assert_eq!(ways, paths(&sim, &[&[0, 1, 3, 5], &[0, 2, 4, 5]]));
    assert_eq!(overheard.borrow().len(), 6, "two branches of three hops");
    nobody_is_blamed(&sim);
}

#[test]
fn branches_that_meet_at_a_router_are_led_apart() {
    // Both branches come to node 3, from which two equally good ways lead on.
    let links = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 6), (5, 6)];
    let mut sim = announced(4, 7, &links, ROUTED);
    let ways = found(&mut sim, A, NodeIndex(6));
    let routers: BTreeSet<_> = ways
        .iter()
        .flat_map(|way| way[1..way.len() - 1].to_vec())
        .collect();
    assert_eq!(routers, path(&sim, &[1, 2, 3, 4, 5]).into_iter().collect());
}

#[test]
fn ten_hops_are_found_and_eleven_are_not() {
    for nodes in [11, 12] {
        let last = NodeIndex(nodes - 1);
        let blind = unannounced(5, nodes, &line(nodes));
        let seeing = announced(5, nodes, &line(nodes), CHARTED);
        for mut sim in [blind, seeing] {
            let (outcome, _) = look(&mut sim, A, last, 10, 10 * SECOND);
            let whole = path(&sim, &(0..nodes).collect::<Vec<_>>());
            let expected = if nodes == 11 {
                Ok(vec![whole])
            } else {
                Err(DropReason::NoRoute)
            };
            assert_eq!(outcome, expected, "{nodes} nodes");
            nobody_is_blamed(&sim);
        }
    }
}

#[test]
fn callers_hop_limit_is_kept_to_by_every_kind_of_request() {
    // Three hops over 1 and 2, four over 4, 5 and 6.
    let links = [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (6, 3)];
    for known_for in [None, Some(ROUTED), Some(CHARTED)] {
        for (max_hops, ways) in [(2, 0), (3, 1), (4, 2)] {
            let mut sim = match known_for {
                None => unannounced(6, 7, &links),
                Some(span) => announced(6, 7, &links, span),
            };
            let (outcome, _) = look(&mut sim, A, D, max_hops, 5 * SECOND);
            let found = outcome.unwrap_or_default();
            assert_eq!(found.len(), ways, "{known_for:?}, {max_hops} hops: {found:?}");
        }
    }
}

#[test]
fn caller_is_answered_when_it_said_and_not_a_moment_later() {
    for seconds in [1, 7, 30, 45] {
        let mut sim = unannounced(7, 4, &[(0, 1), (1, 2)]);
        let (outcome, took) = look(&mut sim, A, D, 10, seconds * SECOND);
        assert_eq!((outcome, took), (Err(DropReason::NoRoute), seconds * SECOND));
        assert_eq!(
            sim.drops(B, DropReason::Expired),
            0,
            "no request asks for more than relays give"
        );
    }
}

#[test]
fn lost_messages_are_made_good() {
    let links = [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 3)];
    let lossy = FaultRates {
        loss: 150_000,
        ..FaultRates::default()
    };
    for seed in 0..20 {
        let blind = unannounced(seed, 6, &links);
        let seeing = announced(seed, 6, &links, CHARTED);
        for mut sim in [blind, seeing] {
            for (from, to) in sim.directions() {
                sim.link_mut(from, to).rates = lossy;
            }
            let (outcome, _) = look(&mut sim, A, D, 10, 30 * SECOND);
            assert!(outcome.is_ok(), "seed {seed}");
            nobody_is_blamed(&sim);
        }
    }
}

/// Makes `node` swallow the answers that it should hand to A.
fn swallow(sim: &mut Simulation, node: NodeIndex) {
    sim.tamper(
        node,
        A,
        Box::new(|stage, frame| match stage {
            Stage::DiscoveryResponse => Vec::new(),
            _ => vec![frame.clone()],
        }),
    );
}

#[test]
fn relay_that_swallows_answers_is_gone_around() {
    // The only feasible way leads over B; around it is longer.
    let links = [(0, 1), (1, 5), (0, 2), (2, 3), (3, 4), (4, 5)];
    for known_for in [ROUTED, CHARTED] {
        let mut sim = announced(8, 6, &links, known_for);
        swallow(&mut sim, B);
        let (outcome, took) = look(&mut sim, A, NodeIndex(5), 10, 30 * SECOND);
        assert_eq!(outcome, Ok(vec![path(&sim, &[0, 2, 3, 4, 5])]), "{known_for:?}");
        assert!(took < 3 * SECOND, "{took:?}");
    }
}

#[test]
fn swallowing_relay_that_many_paths_share_is_gone_around_by_name() {
    // The graph's four best all lead over B or C, which both swallow; the fifth over D is dear.
    let mut sim = Simulation::new(9);
    for price in [0, 1, 1, 500, 1, 1, 1, 1, 0] {
        sim.add_node(NodeSpec::paid(price));
    }
    for (a, b) in [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 4),
        (1, 5),
        (2, 6),
        (2, 7),
        (3, 8),
        (4, 8),
        (5, 8),
        (6, 8),
        (7, 8),
    ] {
        sim.connect(NodeIndex(a), NodeIndex(b), LinkSpec::default());
    }
    sim.run_for(CHARTED);
    swallow(&mut sim, B);
    swallow(&mut sim, C);
    let (outcome, took) = look(&mut sim, A, NodeIndex(8), 10, 30 * SECOND);
    assert_eq!(outcome, Ok(vec![path(&sim, &[0, 3, 8])]));
    assert!(took < 3 * SECOND, "{took:?}");
}

#[test]
fn only_way_is_asked_again_after_it_stayed_silent() {
    for known_for in [ROUTED, CHARTED] {
        let mut sim = announced(10, 4, &line(4), known_for);
        let lost = Rc::new(RefCell::new(0));
        let so_far = lost.clone();
        sim.tamper(
            B,
            A,
            Box::new(move |stage, frame| {
                if stage == Stage::DiscoveryResponse && *so_far.borrow() < 4 {
                    *so_far.borrow_mut() += 1;
                    return Vec::new();
                }
                vec![frame.clone()]
            }),
        );
        assert_eq!(found(&mut sim, A, D), paths(&sim, &[&[0, 1, 2, 3]]));
        assert_eq!(*lost.borrow(), 4);
    }
}

#[test]
fn answer_that_comes_late_is_no_crime_and_is_kept() {
    let mut sim = unannounced(15, 4, &[(0, 1), (1, 3), (0, 2), (2, 3)]);
    sim.plan(Plan {
        stage: Stage::DiscoveryResponse,
        nth: 0,
        fate: Fate::HeldBack,
        on: Some((C, A)),
    });
    let (outcome, _) = look(&mut sim, A, D, 2, 30 * SECOND);
    assert_eq!(outcome, Ok(vec![path(&sim, &[0, 1, 3])]));
    sim.settle();
    assert_eq!(sim.status(A).unwrap().routes, 2);
    nobody_is_blamed(&sim);
}

#[test]
fn who_restarts_in_between_does_not_blame_its_neighbours_for_answers_it_forgot_asking_for() {
    let mut sim = unannounced(16, 4, &line(4));
    sim.plan(Plan {
        stage: Stage::DiscoveryResponse,
        nth: 0,
        fate: Fate::HeldBack,
        on: Some((C, B)),
    });
    let destination = sim.id(D);
    sim.command(
        A,
        Command::Discover {
            destination,
            max_hops: 10,
            timeout: 30 * SECOND,
            refresh: true,
        },
    );
    // The second ring reaches D after half a second, and its answer hangs between C and B.
    sim.run_for(Duration::from_millis(560));
    sim.kill(A);
    sim.restart(A);
    sim.settle();
    assert!(sim.drops(B, DropReason::NextHopGone) > 0);
    nobody_is_blamed(&sim);
}

#[test]
fn honest_networks_under_loss_and_delay_blame_nobody() {
    let links: Vec<(usize, usize)> = (0..16)
        .flat_map(|node| [(node, node + 1), (node, node + 4)])
        .filter(|(a, b)| *b < 16 && (*b != *a + 1 || *b % 4 != 0))
        .collect();
    let rough = FaultRates {
        loss: 100_000,
        reorder: 100_000,
        jitter: Duration::from_millis(40),
        ..FaultRates::default()
    };
    for seed in 0..4 {
        for known_for in [None, Some(ROUTED), Some(CHARTED)] {
            let mut sim = match known_for {
                None => unannounced(seed, 16, &links),
                Some(span) => announced(seed, 16, &links, span),
            };
            for (from, to) in sim.directions() {
                sim.link_mut(from, to).rates = rough;
            }
            for (from, to) in [(0, 15), (3, 12), (5, 10), (1, 13)] {
                let (outcome, _) = look(&mut sim, NodeIndex(from), NodeIndex(to), 10, 30 * SECOND);
                assert!(outcome.is_ok(), "seed {seed}, {known_for:?}");
            }
            sim.settle();
            nobody_is_blamed(&sim);
        }
    }
}
