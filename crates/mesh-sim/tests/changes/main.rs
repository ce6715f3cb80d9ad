//! Whole networks in which something changes: a link, a price, a node's life, its clock, its key's other holder. Each
//! time routes must follow within seconds, by announcements alone, and never run in circles meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod clocks;
mod links;
mod pages;
mod partition;
mod price;
mod replay;
mod restarts;
mod twins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mesh_core::event::{Answer, Command, Event, NetworkNode, RouteInfo};
use mesh_core::identity::NodeId;
use mesh_core::limits::MAX_HOPS;
use mesh_core::routing::Plane;
use mesh_sim::{LinkSpec, NodeIndex, NodeSpec, Simulation};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Until everybody's links were announced and heard of.
const CHARTED: Duration = Duration::from_secs(15);

/// A change is told after two seconds of settling, five after the announcement before it, and on its way over ten hops:
/// longer than this nobody is in the dark.
const TOLD: Duration = Duration::from_secs(8);

fn n(node: usize) -> NodeIndex {
    NodeIndex(node)
}

/// Announcing nodes of equal price that have heard of each other.
fn network(seed: u64, nodes: usize, links: &[(usize, usize)]) -> Simulation {
    let mut sim = Simulation::new(seed);
    for _ in 0..nodes {
        sim.add_node(NodeSpec::paid(5));
    }
    for (a, b) in links {
        sim.connect(n(*a), n(*b), LinkSpec::default());
    }
    sim.run_for(CHARTED);
    sim
}

fn ring(nodes: usize) -> Vec<(usize, usize)> {
    (0..nodes).map(|node| (node, (node + 1) % nodes)).collect()
}

fn grid(columns: usize, rows: usize) -> Vec<(usize, usize)> {
    let at = |column, row| row * columns + column;
    let mut links = Vec::new();
    for (column, row) in (0..columns).flat_map(|column| (0..rows).map(move |row| (column, row))) {
        links.extend((column + 1 < columns).then(|| (at(column, row), at(column + 1, row))));
        links.extend((row + 1 < rows).then(|| (at(column, row), at(column, row + 1))));
    }
    links
}

fn path(sim: &Simulation, nodes: &[usize]) -> Vec<NodeId> {
    nodes.iter().map(|node| sim.id(n(*node))).collect()
}

fn paths_of(routes: Vec<RouteInfo>) -> BTreeSet<Vec<NodeId>> {
    routes.into_iter().map(|route| route.path).collect()
}

/// The routes that a node knows to anybody.
fn known(sim: &mut Simulation, node: NodeIndex) -> BTreeSet<Vec<NodeId>> {
    let id = sim.command(node, Command::Routes);
    match sim.wait(id) {
        Some(Ok(Answer::Routes(routes))) => paths_of(routes),
        other => panic!("{other:?}"),
    }
}

/// Asks the network, whatever is known.
fn discover_afresh(sim: &mut Simulation, from: NodeIndex, to: NodeIndex) -> Vec<RouteInfo> {
    let command = Command::Discover {
        destination: sim.id(to),
        max_hops: MAX_HOPS as u8,
        timeout: 10 * SECOND,
        refresh: true,
    };
    let id = sim.command(from, command);
    match sim.wait(id) {
        Some(Ok(Answer::Routes(routes))) => routes,
        Some(Err(_)) => Vec::new(),
        other => panic!("{other:?}"),
    }
}

fn set_price(sim: &mut Simulation, node: NodeIndex, msat_per_unit: u64) {
    let id = sim.command(node, Command::SetPrice { msat_per_unit });
    assert!(matches!(sim.take_answer(id), Some(Ok(Answer::Done))));
}

/// The whole picture of the network that a node has, fetched in pages of this size.
fn picture(sim: &mut Simulation, node: NodeIndex, most: usize) -> Vec<NetworkNode> {
    let (mut nodes, mut after) = (Vec::new(), None);
    loop {
        let id = sim.command(node, Command::Network { after, most });
        let Some(Ok(Answer::Network(page))) = sim.take_answer(id) else {
            panic!("no page");
        };
        assert!(page.nodes.len() <= most);
        nodes.extend(page.nodes);
        after = page.next;
        if after.is_none() {
            assert_eq!(page.total_nodes, nodes.len());
            return nodes;
        }
    }
}

/// The number of the newest announcement of `of` that `at` holds.
fn seqno_at(sim: &Simulation, at: NodeIndex, of: NodeIndex) -> Option<u64> {
    let head = sim.routing(at)?.vector.head(&sim.id(of))?;
    Some(head.seqno)
}

fn own_id_seen(sim: &Simulation, node: NodeIndex) -> usize {
    let seen = sim.events(node).iter();
    seen.filter(|event| matches!(event, Event::OwnIdSeen { .. }))
        .count()
}

/// Who is whose neighbour over a link that stands, between nodes that run.
fn standing(sim: &Simulation, cut: &[(usize, usize)]) -> BTreeMap<NodeIndex, Vec<NodeIndex>> {
    let is_cut = |a: NodeIndex, b: NodeIndex| cut.contains(&(a.0, b.0)) || cut.contains(&(b.0, a.0));
    let mut standing: BTreeMap<NodeIndex, Vec<NodeIndex>> = BTreeMap::new();
    for (a, b) in sim.directions() {
        if sim.routing(a).is_some() && sim.routing(b).is_some() && !is_cut(a, b) {
            standing.entry(a).or_default().push(b);
        }
    }
    standing
}

/// Who is behind the neighbour that a node knows by this id: two nodes may have one.
type Peers = BTreeMap<(NodeIndex, NodeId), NodeIndex>;

fn peers(sim: &Simulation) -> Peers {
    let directions = sim.directions().into_iter();
    directions
        .map(|(here, there)| ((here, sim.id(there)), there))
        .collect()
}

/// Whom the next hops lead to from `from`; none when they end before. Fails when they run in a circle.
#[track_caller]
fn follow(sim: &Simulation, peers: &Peers, from: NodeIndex, to: NodeId, plane: Plane) -> Option<NodeIndex> {
    let (mut at, mut passed) = (from, Vec::new());
    while sim.id(at) != to {
        assert!(!passed.contains(&at), "{plane:?}: a circle over {passed:?}");
        passed.push(at);
        let next = sim.routing(at)?.vector.next_hop(&to, plane)?.neighbour;
        at = *peers.get(&(at, next))?;
    }
    Some(at)
}

#[track_caller]
fn no_circles(sim: &Simulation) {
    let peers = peers(sim);
    for (from, to) in sim.all_nodes().flat_map(|a| sim.all_nodes().map(move |b| (a, b))) {
        for plane in Plane::ALL {
            follow(sim, &peers, from, sim.id(to), plane);
        }
    }
}

/// Lets time pass, and looks for circles ten times a second.
#[track_caller]
fn run_without_circles(sim: &mut Simulation, span: Duration) {
    let step = Duration::from_millis(100);
    for _ in 0..span.as_millis() / step.as_millis() {
        sim.run_for(step);
        no_circles(sim);
    }
}

/// Everybody reaches whoever is connected to him, in both planes, and by as few hops as a search in breadth finds; those
/// who are not connected are unreachable.
#[track_caller]
fn routes_are_the_best(sim: &Simulation, cut: &[(usize, usize)]) {
    let (standing, peers) = (standing(sim, cut), peers(sim));
    for from in standing.keys() {
        let far = distances(&standing, *from);
        let vector = &sim.routing(*from).unwrap().vector;
        for to in standing.keys().filter(|to| *to != from) {
            let hops = vector
                .next_hop(&sim.id(*to), Plane::Hops)
                .map(|route| route.metric);
            assert_eq!(hops, far.get(to).copied(), "hops from {from:?} to {to:?}");
            let cheapest = follow(sim, &peers, *from, sim.id(*to), Plane::Cost);
            assert_eq!(
                cheapest.is_some(),
                far.contains_key(to),
                "from {from:?} to {to:?}"
            );
        }
    }
}

fn distances(links: &BTreeMap<NodeIndex, Vec<NodeIndex>>, from: NodeIndex) -> BTreeMap<NodeIndex, u32> {
    let (mut far, mut queue) = (BTreeMap::from([(from, 0)]), VecDeque::from([from]));
    while let Some(at) = queue.pop_front() {
        for next in links.get(&at).into_iter().flatten() {
            if !far.contains_key(next) {
                far.insert(*next, far[&at] + 1);
                queue.push_back(*next);
            }
        }
    }
    far
}
