//! What it takes to propose four diverse paths on a real network: the Lightning network of May 2019, with the fees its
//! nodes announced for 1,000 sat as prices.
//!
//! ```text
//! cargo bench -p mesh-core --bench paths
//! ```
//! Besides criterion's mean it prints the middle and the 99th percentile over 1,000 pairs of nodes, each asked
//! three times and the fastest taken, and what the graph
//! takes in memory. Says so and does nothing when the networks are not there.
//!
//! Where other work on the machine blurs the time, count instructions: with `PATHS_COUNT=300` the benchmark asks for
//! the paths of that many pairs and nothing else, and
//! `valgrind --tool=callgrind --toggle-collect='paths::four_paths' BINARY` counts those instructions alone.
// A benchmark that cannot set up has nothing to say; what it says goes to whoever ran it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod topology;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group};
use mesh_core::entropy::Entropy;
use mesh_core::routing::graph::{CandidatePath, NetworkGraph, PathQuery};
use topology::{Topology, folder, id};

const NETWORK: &str = "lightning-2019-05-14.edges";

const PAIRS: usize = 1000;

/// All channels of the largest hub.
const ALL: usize = 2000;

fn network() -> Option<Topology> {
    let file = folder()
        .map(|folder| folder.join(NETWORK))
        .filter(|file| file.is_file());
    if file.is_none() {
        println!("skipped: no {NETWORK} in shared/topologies beside the checkout or in MESH_TOPOLOGIES");
    }
    file.map(|file| Topology::read(&file))
}

fn random_pairs(nodes: usize) -> Vec<(usize, usize)> {
    let mut entropy = Entropy::new([7; 32]);
    let mut node = || (entropy.u64() % nodes as u64) as usize;
    let mut pairs = Vec::new();
    while pairs.len() < PAIRS {
        let pair = (node(), node());
        if pair.0 != pair.1 {
            pairs.push(pair);
        }
    }
    pairs
}

#[inline(never)]
fn four_paths(graph: &NetworkGraph, (from, to): (usize, usize)) -> Vec<CandidatePath> {
    graph.diverse_paths(&PathQuery {
        from: id(from),
        to: id(to),
        max_hops: 10,
        most: 4,
        avoid: &BTreeSet::new(),
        latency_weight_msat: 100,
        surcharges_msat: None,
        tie_break: None,
    })
}

fn percentiles(graph: &NetworkGraph, pairs: &[(usize, usize)]) {
    let (mut micros, mut four, mut independent) = (Vec::new(), 0, 0);
    for pair in pairs {
        let (mut fastest, mut paths) = (u128::MAX, Vec::new());
        // Other work on the machine only ever adds.
        for _ in 0..3 {
            let started = Instant::now();
            paths = black_box(four_paths(graph, *pair));
            fastest = fastest.min(started.elapsed().as_micros());
        }
        micros.push(fastest);
        four += usize::from(paths.len() == 4);
        let apart = paths.iter().filter(|path| !path.shares_router_with_earlier);
        independent += usize::from(apart.count() >= 2);
    }
    micros.sort_unstable();
    println!(
        "{} nodes, {} edges: p50 {} µs, p99 {} µs; of {} pairs {four} have four paths, {independent} two independent ones",
        graph.node_count(),
        graph.edge_count(),
        micros[micros.len() / 2],
        micros[micros.len() * 99 / 100],
        pairs.len(),
    );
}

/// This process's resident memory in bytes, where the system tells.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn memory(network: &Topology) {
    const COPIES: usize = 16;
    let before = resident();
    let graphs: Vec<_> = (0..COPIES).map(|_| network.graph(ALL)).collect();
    if let Some((before, after)) = before.zip(resident()) {
        let graph = &graphs[0];
        println!(
            "{} bytes a graph: {} for each node and edge",
            (after - before) / COPIES,
            (after - before) / COPIES / (graph.node_count() + graph.edge_count()),
        );
    }
}

fn benches(criterion: &mut Criterion) {
    let Some(network) = network() else { return };
    memory(&network);
    let (graph, pairs) = (network.graph(ALL), random_pairs(network.nodes()));
    percentiles(&graph, &pairs);
    percentiles(&network.graph(mesh_core::limits::MAX_LISTED_NEIGHBOURS), &pairs);
    let mut pairs = pairs.iter().cycle();
    criterion.bench_function("4 diverse paths", |bencher| {
        bencher.iter(|| pairs.next().map(|pair| four_paths(&graph, *pair)));
    });
    let mut hub_change = graph;
    criterion.bench_function("cut vertices", |bencher| {
        bencher.iter(|| black_box(&mut hub_change).cut_vertices());
    });
}

criterion_group!(path_benches, benches);

fn main() {
    let counted = std::env::var("PATHS_COUNT")
        .ok()
        .and_then(|count| count.parse().ok());
    if let Some((count, network)) = counted.zip(network()) {
        let graph = network.graph(ALL);
        for pair in random_pairs(network.nodes()).into_iter().cycle().take(count) {
            black_box(four_paths(&graph, pair));
        }
        return;
    }
    path_benches();
    Criterion::default().configure_from_args().final_summary();
}
