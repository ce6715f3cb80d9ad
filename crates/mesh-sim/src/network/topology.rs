//! Who is connected with whom: real networks from files.
//!
//! The format is lines of text: headers `# key=value`, then `u v [attributes]` for each edge, with dense node numbers from
//! zero. Attributes are named by the header `columns`; only the distance, `km`, means something here. Several edges
//! between the same two nodes are one link, and an edge from a node to itself is none.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};

/// Most nodes a file may name: far above any network studied, far below what would exhaust memory.
const MAX_NODES: usize = 1_000_000;

/// One link between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The node with the smaller number.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// How far apart they are, in metres, where the topology knows.
    pub metres: Option<u32>,
}

/// A connected network: nodes 0 to `nodes - 1`, and each link once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// What it is called.
    pub name: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// Its links, in order.
    pub edges: Vec<Edge>,
}

/// Why a topology cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The folder of real networks is nowhere.
    #[error(
        "no folder shared/topologies beside the project or above it; set MESH_TOPOLOGIES to where the topologies are"
    )]
    NoFolder,
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line says nothing that makes sense.
    #[error("line {line}: {problem}")]
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A generator cannot make what it is asked for.
    #[error("{0}")]
    Impossible(String),
    /// Some nodes cannot reach the others.
    #[error(
        "only {reached} of {nodes} nodes are connected with each other; give the largest component alone"
    )]
    Disconnected {
        /// Nodes that node 0 reaches, itself included.
        reached: usize,
        /// All nodes.
        nodes: usize,
    },
}

impl Topology {
    /// A network of these links; doubled ones count once.
    pub fn new(
        name: impl Into<String>,
        nodes: usize,
        pairs: impl IntoIterator<Item = (u32, u32)>,
    ) -> Result<Self, TopologyError> {
        let edges = pairs.into_iter().map(|(u, v)| ((u, v), None));
        Self::of_edges(name.into(), nodes, edges)
    }

    fn of_edges(
        name: String,
        nodes: usize,
        edges: impl IntoIterator<Item = ((u32, u32), Option<u32>)>,
    ) -> Result<Self, TopologyError> {
        let mut links = BTreeMap::new();
        for ((u, v), metres) in edges {
            if u != v {
                let known: &mut Option<u32> = links.entry((u.min(v), u.max(v))).or_default();
                // Of several ways between the same two nodes the shortest counts.
                *known = [*known, metres].into_iter().flatten().min();
            }
        }
        let edges = links
            .into_iter()
            .map(|((a, b), metres)| Edge { a, b, metres })
            .collect();
        let topology = Self { name, nodes, edges };
        topology.check_connected()?;
        Ok(topology)
    }

    /// Reads a file of the format above.
    pub fn load(path: &Path) -> Result<Self, TopologyError> {
        let text = std::fs::read_to_string(path).map_err(|source| TopologyError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self::parse(&text, &stem.unwrap_or_default())
    }

    /// Reads the text of such a file; `name` is used when no header names the network.
    pub fn parse(text: &str, name: &str) -> Result<Self, TopologyError> {
        let mut headers = BTreeMap::new();
        let mut edges = Vec::new();
        let mut km_column = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some((key, value)) = line.strip_prefix('#').and_then(|header| header.split_once('=')) {
                headers.insert(key.trim(), value.trim());
                if key.trim() == "columns" {
                    km_column = value.split_whitespace().position(|column| column == "km");
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                let edge = parse_edge(line, km_column).map_err(|problem| TopologyError::Malformed {
                    line: index + 1,
                    problem,
                })?;
                edges.push(edge);
            }
        }
        let nodes = edges
            .iter()
            .map(|((u, v), _)| *u.max(v) as usize + 1)
            .max()
            .unwrap_or(1);
        let name = headers.get("name").copied().unwrap_or(name).to_owned();
        Self::of_edges(name, nodes, edges)
    }

    /// The neighbours of every node, in order.
    pub fn neighbours(&self) -> Vec<Vec<u32>> {
        let mut neighbours = vec![Vec::new(); self.nodes];
        for edge in &self.edges {
            neighbours[edge.a as usize].push(edge.b);
            neighbours[edge.b as usize].push(edge.a);
        }
        neighbours
    }

    /// The node with most links; of equals the one with the smallest number.
    pub fn busiest(&self) -> usize {
        let degrees: Vec<usize> = self.neighbours().iter().map(Vec::len).collect();
        let most = degrees.iter().copied().max().unwrap_or_default();
        degrees
            .iter()
            .position(|degree| *degree == most)
            .unwrap_or_default()
    }

    fn check_connected(&self) -> Result<(), TopologyError> {
        let neighbours = self.neighbours();
        let mut seen = vec![false; self.nodes];
        let mut waiting = VecDeque::from([0]);
        let mut reached = 0;
        if let Some(first) = seen.first_mut() {
            *first = true;
        }
        while let Some(node) = waiting.pop_front() {
            reached += 1;
            for next in &neighbours[node] {
                if !std::mem::replace(&mut seen[*next as usize], true) {
                    waiting.push_back(*next as usize);
                }
            }
        }
        if reached == self.nodes {
            Ok(())
        } else {
            Err(TopologyError::Disconnected {
                reached,
                nodes: self.nodes,
            })
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} nodes, {} links",
            self.name,
            self.nodes,
            self.edges.len()
        )
    }
}

type ParsedEdge = ((u32, u32), Option<u32>);

fn parse_edge(line: &str, km_column: Option<usize>) -> Result<ParsedEdge, String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let node = |place: usize| {
        let field = fields.get(place).ok_or("an edge needs two nodes")?;
        match field.parse::<u32>() {
            Ok(node) if (node as usize) < MAX_NODES => Ok(node),
            _ => Err(format!("'{field}' is no node number below {MAX_NODES}")),
        }
    };
    let metres = km_column.and_then(|place| fields.get(place));
    let metres = metres.map(|field| metres_of(field)).transpose()?;
    Ok(((node(0)?, node(1)?), metres))
}

/// Kilometres in decimal as whole metres: no floats, which differ between machines.
fn metres_of(km: &str) -> Result<u32, String> {
    let problem = || format!("'{km}' is no distance in kilometres");
    let (whole, fraction) = km.split_once('.').unwrap_or((km, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let number = |text: &str| text.parse::<u32>().map_err(|_| problem());
    number(whole)?
        .checked_mul(1000)
        .and_then(|metres| metres.checked_add(number(&digits).ok()?))
        .ok_or_else(problem)
}

/// The folder of real networks: the variable `MESH_TOPOLOGIES`, or else `shared/topologies` in one of the folders above
/// `start`.
pub fn find_folder(start: &Path) -> Result<PathBuf, TopologyError> {
    if let Some(folder) = std::env::var_os("MESH_TOPOLOGIES") {
        return Ok(folder.into());
    }
    start
        .ancestors()
        .map(|above| above.join("shared/topologies"))
        .find(|folder| folder.is_dir())
        .ok_or(TopologyError::NoFolder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_edges_are_one_link_and_its_length_the_shortest() {
        let text = "# name=three\n# columns=u v km type\n0 1 2.5 wifi\n1 0 0.25 vpn\n1 1 0 x\n2 1 19.3 y\n";
        let topology = Topology::parse(text, "file").unwrap();
        let edge = |a, b, metres| Edge {
            a,
            b,
            metres: Some(metres),
        };
        assert_eq!(topology.edges, [edge(0, 1, 250), edge(1, 2, 19_300)]);
        assert_eq!((topology.name.as_str(), topology.nodes), ("three", 3));
        assert_eq!(topology.busiest(), 1);
    }

    #[test]
    fn what_is_no_edge_is_refused_with_its_line() {
        for text in ["0 1\n1 x\n", "0 1\n7\n", "0 1\n1 4000000000\n"] {
            let error = Topology::parse(text, "t").unwrap_err().to_string();
            assert!(error.starts_with("line 2: "), "{error}");
        }
        let km = "# columns=u v km\n0 1 -3\n";
        assert!(Topology::parse(km, "t").is_err());
    }

    #[test]
    fn network_in_two_parts_is_refused() {
        let error = Topology::parse("0 1\n2 3\n", "t").unwrap_err();
        assert!(matches!(
            error,
            TopologyError::Disconnected { reached: 2, nodes: 4 }
        ));
    }

    #[test]
    fn real_networks_are_as_their_headers_say() {
        let Ok(folder) = find_folder(Path::new(env!("CARGO_MANIFEST_DIR"))) else {
            println!("skipped: the folder of real topologies is absent");
            return;
        };
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "edges") {
                let text = std::fs::read_to_string(&path).unwrap();
                let topology = Topology::load(&path).unwrap();
                let nodes = format!("# nodes={}\n", topology.nodes);
                assert!(text.contains(&nodes), "{topology}");
                assert!(text.contains(&format!("# name={}\n", topology.name)));
                assert!(topology.edges.len() <= text.lines().count());
            }
        }
    }
}
