//! What is searched for on a network of two thousand nodes.

use std::collections::BTreeSet;

use criterion::Criterion;
use mesh_core::entropy::Entropy;
use mesh_core::routing::graph::NetworkGraph;

use crate::topology::{Topology, folder};

/// The Lightning nodes of April 2025 that have much capacity, with the fees they announced.
pub(crate) const NAME: &str = "lightning-2025-04-30-highcap.edges";

const PAIRS: usize = 500;

pub(crate) struct Network {
    graph: NetworkGraph,
    pub(crate) pairs: Vec<(usize, usize)>,
}

impl Network {
    /// `None` when it is not there.
    pub(crate) fn read() -> Option<Self> {
        let file = folder()?.join(NAME);
        let network = file.is_file().then(|| Topology::read(&file))?;
        let mut entropy = Entropy::new([7; 32]);
        let mut node = || (entropy.u64() % network.nodes() as u64) as usize;
        let pairs = (0..PAIRS).map(|_| (node(), node())).filter(|(a, b)| a != b);
        Some(Self {
            pairs: pairs.collect(),
            graph: network.graph(mesh_core::limits::MAX_LISTED_NEIGHBOURS),
        })
    }

    pub(crate) fn benches(&self, criterion: &mut Criterion) {
        println!(
            "{NAME}: {} nodes, {} edges",
            self.graph.node_count(),
            self.graph.edge_count()
        );
        let mut pairs = self.pairs.iter().cycle();
        let mut pair = || *pairs.next().expect("it never ends");
        criterion.bench_function("ways to a destination", |bencher| {
            bencher.iter(|| counted::ways(self, pair()));
        });
        for (name, chance) in [("4 paths", None), ("4 paths, ties by chance", Some(7))] {
            criterion.bench_function(name, |bencher| {
                bencher.iter(|| counted::paths(self, pair(), chance));
            });
        }
    }
}

/// What is counted when instructions are.
pub(crate) mod counted {
    use super::{BTreeSet, Network};
    use crate::topology::id;
    use mesh_core::identity::NodeId;
    use mesh_core::limits::MAX_HOPS;
    use mesh_core::routing::graph::{CandidatePath, PathQuery};

    /// Who is unavoidable between two nodes.
    #[inline(never)]
    pub(crate) fn ways(network: &Network, (from, to): (usize, usize)) -> Vec<Vec<NodeId>> {
        network.graph.ways(&id(from), &id(to), MAX_HOPS)
    }

    /// Four diverse paths.
    #[inline(never)]
    pub(crate) fn paths(
        network: &Network,
        (from, to): (usize, usize),
        tie_break: Option<u64>,
    ) -> Vec<CandidatePath> {
        network.graph.diverse_paths(&PathQuery {
            from: id(from),
            to: id(to),
            max_hops: MAX_HOPS,
            most: 4,
            avoid: &BTreeSet::new(),
            latency_weight_msat: 100,
            surcharges_msat: None,
            tie_break,
        })
    }
}
