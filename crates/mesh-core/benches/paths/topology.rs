//! Real networks as graphs, read from a folder beside the checkout; they are not part of the project.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mesh_core::certificate::Price;
use mesh_core::identity::NodeId;
use mesh_core::routing::graph::{GraphLimits, ListedNeighbour, NetworkGraph, NodeFacts};
use mesh_core::time::UnixMillis;

/// Where the networks are: `MESH_TOPOLOGIES`, or `shared/topologies` beside the checkout or one of its parents.
pub(crate) fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("MESH_TOPOLOGIES") {
        return Some(PathBuf::from(folder)).filter(|folder| folder.is_dir());
    }
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|parent| parent.join("shared/topologies"))
        .find(|folder| folder.is_dir())
}

/// A network: who is whose neighbour, and what each node charges.
pub(crate) struct Topology {
    neighbours: Vec<BTreeSet<usize>>,
    prices: Vec<u64>,
}

impl Topology {
    /// Reads one file: lines of two node numbers, and for a Lightning network the channel's capacity and the base fee
    /// and rate each way, -1 when not announced.
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let lightning = text.contains("columns=u v capacity_sat base_msat_uv");
        let mut neighbours: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut fees: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (u, v): (usize, usize) = (fields[0].parse().unwrap(), fields[1].parse().unwrap());
            neighbours.entry(u).or_default().insert(v);
            neighbours.entry(v).or_default().insert(u);
            if lightning {
                fees.entry(u).or_default().extend(fee(&fields[3..5]));
                fees.entry(v).or_default().extend(fee(&fields[5..7]));
            }
        }
        let prices = neighbours
            .keys()
            .map(|node| middle(fees.remove(node).unwrap_or_default()))
            .collect();
        Self {
            neighbours: neighbours.into_values().collect(),
            prices,
        }
    }

    /// How many nodes it has.
    pub(crate) fn nodes(&self) -> usize {
        self.neighbours.len()
    }

    /// The neighbours of a node.
    pub(crate) fn neighbours(&self, node: usize) -> &BTreeSet<usize> {
        &self.neighbours[node]
    }

    /// The graph after every node announced itself. A hub of such a network may have more neighbours than an
    /// announcement lists; `listed` is how many it may list here.
    pub(crate) fn graph(&self, listed: usize) -> NetworkGraph {
        let limits = GraphLimits {
            listed,
            ..GraphLimits::default()
        };
        let mut graph = NetworkGraph::with_limits(7, limits);
        for node in 0..self.nodes() {
            let facts = NodeFacts {
                price: Price {
                    msat_per_unit: self.prices[node],
                    payable: true,
                },
                operator: None,
                expires: UnixMillis(u64::MAX),
            };
            graph
                .announce(id(node), facts, &self.listing(node, listed))
                .unwrap();
        }
        graph
    }

    fn listing(&self, node: usize, listed: usize) -> Vec<ListedNeighbour> {
        let neighbours = self.neighbours(node).iter().take(listed);
        neighbours
            .map(|other| ListedNeighbour {
                node: id(*other),
                cost: 1 + ((node * 31 + other * 17) % 8) as u16,
            })
            .collect()
    }
}

/// A node's id: as scattered as real ones.
pub(crate) fn id(node: usize) -> NodeId {
    NodeId(*blake3::hash(&(node as u64).to_le_bytes()).as_bytes())
}

/// What a channel charges for 1,000 sat, in msat, if it announced that.
fn fee(base_and_rate: &[&str]) -> Option<u64> {
    let base: u64 = base_and_rate[0].parse().ok()?;
    let parts_per_million: u64 = base_and_rate[1].parse().ok()?;
    Some(base + parts_per_million)
}

/// A node of ours has one price where a Lightning node has one for each channel: the middle one.
fn middle(mut fees: Vec<u64>) -> u64 {
    fees.sort_unstable();
    fees.get(fees.len() / 2).copied().unwrap_or_default()
}
