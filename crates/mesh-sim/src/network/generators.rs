//! Made-up networks: small regular ones whose routes can be worked out by hand, and random ones of any size that look
//! like real ones. Whole numbers only, so that a seed gives the same network on every machine.

use serde::Deserialize;

use super::topology::{Topology, TopologyError};
use crate::random::{MILLION, Random};

/// Most nodes a generator makes.
const MAX_NODES: usize = 100_000;

/// Most links a generator makes.
const MAX_LINKS: usize = 2_000_000;

/// A made-up network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Generator {
    /// All in a row.
    Line {
        /// How many.
        nodes: usize,
    },
    /// A row whose ends are connected.
    Ring {
        /// How many.
        nodes: usize,
    },
    /// Rows and columns, each node with up to four neighbours.
    Grid {
        /// How many columns.
        width: usize,
        /// How many rows.
        height: usize,
    },
    /// Each node but the leaves has that many children.
    Tree {
        /// How many nodes.
        nodes: usize,
        /// Children of a node.
        children: usize,
    },
    /// Newcomers connect to `m` others, and the more readily the more links those have (Barabási and Albert 1999).
    BarabasiAlbert {
        /// How many nodes.
        nodes: usize,
        /// Links of a newcomer.
        m: usize,
        /// Another seed is another network.
        #[serde(default)]
        seed: u64,
    },
    /// A ring in which everybody knows the `k` nearest, and some links lead anywhere instead (Watts and Strogatz 1998).
    WattsStrogatz {
        /// How many nodes.
        nodes: usize,
        /// Nearest nodes each is connected with; even.
        k: usize,
        /// How many in a million links lead anywhere.
        rewired_ppm: u32,
        /// Another seed is another network.
        #[serde(default)]
        seed: u64,
    },
}

impl Generator {
    /// Makes the network.
    pub fn make(&self) -> Result<Topology, TopologyError> {
        self.check()?;
        let (name, nodes, pairs) = match *self {
            Self::Line { nodes } => (format!("line-{nodes}"), nodes, line(nodes)),
            Self::Ring { nodes } => (format!("ring-{nodes}"), nodes, ring(nodes)),
            Self::Grid { width, height } => {
                let name = format!("grid-{width}x{height}");
                (name, width * height, grid(width, height))
            }
            Self::Tree { nodes, children } => {
                (format!("tree-{nodes}-{children}"), nodes, tree(nodes, children))
            }
            Self::BarabasiAlbert { nodes, m, seed } => {
                let name = format!("barabasi-albert-{nodes}-{m}");
                (name, nodes, barabasi_albert(nodes, m, seed))
            }
            Self::WattsStrogatz {
                nodes,
                k,
                rewired_ppm,
                seed,
            } => {
                let name = format!("watts-strogatz-{nodes}-{k}");
                (name, nodes, watts_strogatz(nodes, k, rewired_ppm, seed))
            }
        };
        Topology::new(name, nodes, pairs)
    }

    fn check(&self) -> Result<(), TopologyError> {
        let (nodes, links_each, sound) = match *self {
            Self::Line { nodes } => (nodes, 1, nodes >= 2),
            Self::Ring { nodes } => (nodes, 1, nodes >= 3),
            Self::Grid { width, height } => (width.saturating_mul(height), 2, width >= 2 && height >= 2),
            Self::Tree { nodes, children } => (nodes, 1, nodes >= 2 && children >= 1),
            Self::BarabasiAlbert { nodes, m, .. } => (nodes, m, m >= 1 && nodes > m),
            Self::WattsStrogatz {
                nodes,
                k,
                rewired_ppm,
                ..
            } => {
                let sound = k >= 2 && k.is_multiple_of(2) && nodes > k && rewired_ppm <= MILLION;
                (nodes, k, sound)
            }
        };
        if sound && nodes <= MAX_NODES && nodes.saturating_mul(links_each) <= MAX_LINKS {
            Ok(())
        } else {
            Err(TopologyError::Impossible(format!(
                "no such network can be made: {self:?}"
            )))
        }
    }
}

type Pairs = Vec<(u32, u32)>;

fn pair(u: usize, v: usize) -> (u32, u32) {
    // Numbers of nodes were checked to be far below 2^32.
    (u as u32, v as u32)
}

fn line(nodes: usize) -> Pairs {
    (1..nodes).map(|node| pair(node - 1, node)).collect()
}

fn ring(nodes: usize) -> Pairs {
    (0..nodes).map(|node| pair(node, (node + 1) % nodes)).collect()
}

fn grid(width: usize, height: usize) -> Pairs {
    let mut pairs = Vec::new();
    for node in 0..width * height {
        if node % width + 1 < width {
            pairs.push(pair(node, node + 1));
        }
        if node + width < width * height {
            pairs.push(pair(node, node + width));
        }
    }
    pairs
}

fn tree(nodes: usize, children: usize) -> Pairs {
    (1..nodes).map(|node| pair((node - 1) / children, node)).collect()
}

/// Picking an end of a link at random picks a node in proportion to its links.
fn barabasi_albert(nodes: usize, m: usize, seed: u64) -> Pairs {
    let mut random = Random::new(seed ^ 0xba);
    let mut pairs = line(m + 1);
    let mut ends: Vec<usize> = pairs
        .iter()
        .flat_map(|(u, v)| [*u as usize, *v as usize])
        .collect();
    for newcomer in m + 1..nodes {
        let mut chosen: Vec<usize> = Vec::with_capacity(m);
        while chosen.len() < m {
            let other = ends[random.below(ends.len() as u64) as usize];
            if !chosen.contains(&other) {
                chosen.push(other);
            }
        }
        for other in chosen {
            pairs.push(pair(other, newcomer));
            ends.extend([other, newcomer]);
        }
    }
    pairs
}

/// The link to the very next node is never rewired, so that everybody stays connected.
fn watts_strogatz(nodes: usize, k: usize, rewired_ppm: u32, seed: u64) -> Pairs {
    let mut random = Random::new(seed ^ 0x35);
    let mut pairs = ring(nodes);
    for step in 2..=k / 2 {
        for node in 0..nodes {
            let near = (node + step) % nodes;
            let other = if random.chance(rewired_ppm) {
                random.below(nodes as u64) as usize
            } else {
                near
            };
            pairs.push(pair(node, if other == node { near } else { other }));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(generator: Generator) -> (usize, usize) {
        let topology = generator.make().unwrap();
        (topology.nodes, topology.edges.len())
    }

    #[test]
    fn regular_networks_have_the_links_that_theory_gives_them() {
        assert_eq!(sizes(Generator::Line { nodes: 7 }), (7, 6));
        assert_eq!(sizes(Generator::Ring { nodes: 7 }), (7, 7));
        assert_eq!(sizes(Generator::Grid { width: 4, height: 3 }), (12, 17));
        assert_eq!(
            sizes(Generator::Tree {
                nodes: 40,
                children: 3
            }),
            (40, 39)
        );
    }

    #[test]
    fn random_networks_are_those_of_their_seed_and_grow_hubs() {
        let make = |seed| {
            let generator = Generator::BarabasiAlbert {
                nodes: 1000,
                m: 3,
                seed,
            };
            generator.make().unwrap()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert_eq!(make(1).edges.len(), 3 + 996 * 3);
        let degrees: Vec<usize> = make(1).neighbours().iter().map(Vec::len).collect();
        assert!(degrees[make(1).busiest()] > 40);
        assert!(degrees.iter().all(|degree| *degree >= 1));
    }

    #[test]
    fn small_world_rewires_about_as_many_links_as_it_is_told() {
        let generator = Generator::WattsStrogatz {
            nodes: 1000,
            k: 6,
            rewired_ppm: 100_000,
            seed: 1,
        };
        let topology = generator.make().unwrap();
        let far = topology.edges.iter().filter(|edge| {
            let apart = edge.b - edge.a;
            apart.min(1000 - apart) > 3
        });
        assert!((150..250).contains(&far.count()));
    }

    #[test]
    fn impossible_networks_are_refused() {
        for generator in [
            Generator::Line { nodes: 1 },
            Generator::Ring { nodes: usize::MAX },
            Generator::Grid {
                width: usize::MAX,
                height: 2,
            },
            Generator::BarabasiAlbert {
                nodes: 3,
                m: 3,
                seed: 0,
            },
            Generator::WattsStrogatz {
                nodes: 10,
                k: 3,
                rewired_ppm: 0,
                seed: 0,
            },
        ] {
            assert!(generator.make().is_err(), "{generator:?}");
        }
    }
}
