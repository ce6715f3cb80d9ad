//! The graph of announcements on real networks, where they are there to be read.
// Helpers of tests may fail as tests do; what is skipped is said.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../benches/paths/topology.rs"]
mod topology;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_core::entropy::Entropy;
use mesh_core::identity::NodeId;
use mesh_core::routing::graph::{CandidatePath, NetworkGraph, PathQuery};
use topology::{Topology, folder, id};

const PAIRS: usize = 60;

const MAX_HOPS: usize = 10;

/// Every network there is, by name.
fn networks() -> Vec<(String, Topology)> {
    let Some(folder) = folder() else {
        println!("skipped: no shared/topologies beside the checkout, and no MESH_TOPOLOGIES");
        return Vec::new();
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "edges"))
        .collect();
    files.sort();
    let name = |file: &std::path::Path| file.file_stem().unwrap().to_string_lossy().into_owned();
    files
        .iter()
        .map(|file| (name(file), Topology::read(file)))
        .collect()
}

/// Hops from `from` to every node it reaches without passing `without`.
fn hops(network: &Topology, from: usize, without: Option<usize>) -> BTreeMap<usize, usize> {
    let mut hops = BTreeMap::from([(from, 0)]);
    let mut open = VecDeque::from([from]);
    while let Some(node) = open.pop_front() {
        let next = hops[&node] + 1;
        for other in network.neighbours(node) {
            if Some(*other) != without && !hops.contains_key(other) {
                hops.insert(*other, next);
                open.push_back(*other);
            }
        }
    }
    hops
}

fn pairs(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut entropy = Entropy::new([3; 32]);
    std::iter::repeat_with(move || {
        (
            (entropy.u64() % nodes as u64) as usize,
            (entropy.u64() % nodes as u64) as usize,
        )
    })
    .filter(|(from, to)| from != to)
    .take(PAIRS)
}

fn ask(graph: &NetworkGraph, from: usize, to: usize) -> Vec<CandidatePath> {
    graph.diverse_paths(&PathQuery {
        from: id(from),
        to: id(to),
        max_hops: MAX_HOPS,
        most: 4,
        avoid: &BTreeSet::new(),
        latency_weight_msat: 50,
        surcharges_msat: None,
        tie_break: None,
    })
}

fn routers(path: &CandidatePath) -> BTreeSet<NodeId> {
    path.path[1..path.path.len() - 1].iter().copied().collect()
}

#[test]
fn every_pair_within_ten_hops_gets_paths_and_two_independent_ones_where_no_single_router_can_part_it() {
    for (name, network) in networks() {
        let graph = network.graph(network.nodes());
        let (mut reached, mut apart) = (0, 0);
        for (from, to) in pairs(network.nodes()) {
            let paths = ask(&graph, from, to);
            let distance = hops(&network, from, None)[&to];
            assert_eq!(!paths.is_empty(), distance <= MAX_HOPS, "{name}: {from} to {to}");
            for path in &paths {
                assert!(path.path.len() <= MAX_HOPS + 1);
                assert_eq!(routers(path).len(), path.path.len() - 2, "no node twice");
                assert!(
                    path.path
                        .windows(2)
                        .all(|link| graph.has_edge(&link[0], &link[1]))
                );
            }
            let Some(first) = paths.first() else { continue };
            reached += 1;
            let independent = paths
                .iter()
                .filter(|path| !path.shares_router_with_earlier)
                .count();
            if independent >= 2 {
                apart += 1;
                assert!(routers(first).is_disjoint(&routers(&paths[1])));
                continue;
            }
            // Two independent paths exist unless some one router parts the pair (Menger 1927); it is on every path.
            let number: BTreeMap<NodeId, usize> = (0..network.nodes()).map(|node| (id(node), node)).collect();
            let parts = |router: &NodeId| !hops(&network, from, Some(number[router])).contains_key(&to);
            assert!(
                distance == 1 || routers(first).iter().any(parts),
                "{name}: {from} to {to}"
            );
        }
        println!("{name}: {reached} of {PAIRS} pairs reached, {apart} by independent paths");
    }
}

#[test]
fn whom_a_real_network_falls_apart_without_is_whom_removing_shows() {
    for (name, network) in networks()
        .into_iter()
        .filter(|(_, network)| network.nodes() <= 1000)
    {
        let cuts = network.graph(network.nodes()).cut_vertices();
        for node in 0..network.nodes() {
            let start = usize::from(node == 0);
            let falls_apart = hops(&network, start, Some(node)).len() < network.nodes() - 1;
            assert_eq!(cuts.contains(&id(node)), falls_apart, "{name}: {node}");
        }
    }
}
