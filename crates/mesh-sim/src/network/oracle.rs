//! What the best routes are, worked out from the whole graph at once: the slow, obvious twin that judges the routers.
//!
//! Hops: breadth first, at most [`MAX_HOPS`] far. Cost: Dijkstra over the costs that the routers themselves have measured,
//! without a limit of hops. And the cheapest of all routes within the limit of hops (Bellman and Ford, one round per hop),
//! which no distance vector finds, to say how far the routers' answers are from it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use mesh_core::limits::MAX_HOPS;

/// Farther than any route: there is none.
pub const UNREACHABLE: u64 = u64::MAX;

/// The live part of a network: every direction of every live link with its cost.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Where each node's part of `into` begins, and where the last one ends.
    starts: Vec<u32>,
    /// For each node the links that lead into it, in the order of whence: from whom, and what that one holds the link to
    /// cost.
    into: Vec<(u32, u32)>,
}

impl Graph {
    /// A graph of so many nodes with these directions: from, to, cost.
    pub fn new(nodes: usize, directions: &[(u32, u32, u32)]) -> Self {
        let mut starts = vec![0u32; nodes + 1];
        for (_, to, _) in directions {
            starts[*to as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut filled = starts.clone();
        let mut into = vec![(0, 0); directions.len()];
        for (from, to, cost) in directions {
            let place = &mut filled[*to as usize];
            into[*place as usize] = (*from, *cost);
            *place += 1;
        }
        for node in 0..nodes {
            into[starts[node] as usize..starts[node + 1] as usize].sort_unstable();
        }
        Self { starts, into }
    }

    /// How many nodes there are, live or not.
    pub fn nodes(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    fn into(&self, node: usize) -> &[(u32, u32)] {
        &self.into[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// The cost of using the link from one node to another; none without a live link.
    pub fn cost(&self, from: usize, to: usize) -> Option<u32> {
        let into = self.into(to);
        let place = into.binary_search_by_key(&from, |(other, _)| *other as usize);
        place.ok().map(|place| into[place].1)
    }

    /// How many hops each node is from `destination`.
    pub fn hops_to(&self, destination: usize) -> Vec<u64> {
        let mut hops = vec![UNREACHABLE; self.nodes()];
        hops[destination] = 0;
        let mut waiting = VecDeque::from([destination]);
        while let Some(node) = waiting.pop_front() {
            let next = hops[node] + 1;
            if next > MAX_HOPS as u64 {
                break;
            }
            for (from, _) in self.into(node) {
                if hops[*from as usize] == UNREACHABLE {
                    hops[*from as usize] = next;
                    waiting.push_back(*from as usize);
                }
            }
        }
        hops
    }

    /// What the cheapest route of each node to `destination` costs.
    pub fn cost_to(&self, destination: usize) -> Vec<u64> {
        let mut costs = vec![UNREACHABLE; self.nodes()];
        costs[destination] = 0;
        let mut waiting = BinaryHeap::from([(Reverse(0), destination)]);
        while let Some((Reverse(cost), node)) = waiting.pop() {
            if cost > costs[node] {
                continue;
            }
            for (from, link) in self.into(node) {
                let through = cost + u64::from(*link);
                if through < costs[*from as usize] {
                    costs[*from as usize] = through;
                    waiting.push((Reverse(through), *from as usize));
                }
            }
        }
        costs
    }

    /// What the cheapest route within [`MAX_HOPS`] hops of each node to `destination` costs.
    pub fn cost_within_hops_to(&self, destination: usize) -> Vec<u64> {
        let mut costs = vec![UNREACHABLE; self.nodes()];
        costs[destination] = 0;
        let mut changed = vec![destination];
        for _ in 0..MAX_HOPS {
            // What was found in this round must not be built on before the next: it is one hop longer.
            let found: Vec<(usize, u64)> = changed
                .iter()
                .flat_map(|node| {
                    let cost = costs[*node];
                    let into = self.into(*node).iter();
                    into.map(move |(from, link)| (*from as usize, cost + u64::from(*link)))
                })
                .collect();
            changed.clear();
            for (node, cost) in found {
                if cost < costs[node] {
                    costs[node] = cost;
                    changed.push(node);
                }
            }
            changed.sort_unstable();
            changed.dedup();
        }
        costs
    }
}

/// Where following the next hops leads, for every node at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// What the links on the way cost together; [`UNREACHABLE`] when it does not arrive.
    pub cost: u64,
    /// How many there are.
    pub hops: u32,
}

const LOST: Walk = Walk {
    cost: UNREACHABLE,
    hops: u32::MAX,
};

/// Follows everybody's next hop towards `destination`: `next` gives each node's, `u32::MAX` when it has none. Whoever's
/// way ends, leads over a dead link or in a circle does not arrive.
pub fn walk_all(graph: &Graph, destination: usize, next: &[u32]) -> Vec<Walk> {
    let mut walks: Vec<Option<Walk>> = vec![None; graph.nodes()];
    walks[destination] = Some(Walk { cost: 0, hops: 0 });
    let mut way = Vec::new();
    for start in 0..graph.nodes() {
        let mut node = start;
        while walks[node].is_none() {
            // Until the way is known to arrive it counts as lost: a circle ends on itself here.
            walks[node] = Some(LOST);
            way.push(node);
            if next[node] == u32::MAX {
                break;
            }
            node = next[node] as usize;
        }
        while let Some(node) = way.pop() {
            walks[node] = Some(step(graph, node, next[node], &walks));
        }
    }
    walks.into_iter().map(|walk| walk.unwrap_or(LOST)).collect()
}

fn step(graph: &Graph, node: usize, next: u32, walks: &[Option<Walk>]) -> Walk {
    let arrives = walks.get(next as usize).copied().flatten();
    let Some(rest) = arrives.filter(|rest| *rest != LOST) else {
        return LOST;
    };
    graph.cost(node, next as usize).map_or(LOST, |cost| Walk {
        cost: rest.cost + u64::from(cost),
        hops: rest.hops + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Generator;
    use crate::random::Random;

    /// Cheap links the long way round, one dear one straight across.
    fn diamond() -> Graph {
        Graph::new(
            4,
            &[(0, 1, 1), (1, 2, 1), (2, 3, 1), (0, 3, 10), (3, 0, 10), (1, 0, 1)],
        )
    }

    #[test]
    fn costs_count_in_the_direction_of_travel() {
        let graph = diamond();
        assert_eq!(graph.cost_to(3), [3, 2, 1, 0]);
        assert_eq!(graph.hops_to(3), [1, 2, 1, 0]);
        assert_eq!(graph.cost_to(0), [0, 1, 11, 10]);
    }

    #[test]
    fn hops_end_where_the_limit_is_and_costs_do_not() {
        let nodes = MAX_HOPS as u32 + 3;
        let line: Vec<_> = (1..nodes).map(|node| (node - 1, node, 7)).collect();
        let graph = Graph::new(nodes as usize, &line);
        let last = nodes as usize - 1;
        assert_eq!(graph.hops_to(last)[last - MAX_HOPS], MAX_HOPS as u64);
        assert_eq!(graph.hops_to(last)[last - MAX_HOPS - 1], UNREACHABLE);
        assert_eq!(graph.cost_within_hops_to(last)[last - MAX_HOPS - 1], UNREACHABLE);
        assert_eq!(graph.cost_to(last)[0], u64::from(nodes - 1) * 7);
    }

    #[test]
    fn cheapest_within_the_limit_is_never_cheaper_than_without_and_equal_where_that_is_short() {
        let topology = Generator::WattsStrogatz {
            nodes: 120,
            k: 4,
            rewired_ppm: 50_000,
            seed: 3,
        };
        let topology = topology.make().unwrap();
        let mut random = Random::new(5);
        let mut directions = Vec::new();
        for edge in &topology.edges {
            directions.push((edge.a, edge.b, 1 + random.below(100) as u32));
            directions.push((edge.b, edge.a, 1 + random.below(100) as u32));
        }
        let graph = Graph::new(topology.nodes, &directions);
        let (mut equal, mut dearer) = (0, 0);
        for destination in 0..topology.nodes {
            let free = graph.cost_to(destination);
            let within = graph.cost_within_hops_to(destination);
            let hops = graph.hops_to(destination);
            for node in 0..topology.nodes {
                assert!(within[node] >= free[node]);
                assert_eq!(within[node] == UNREACHABLE, hops[node] == UNREACHABLE);
                if within[node] == free[node] {
                    equal += 1;
                } else {
                    dearer += 1;
                }
            }
        }
        assert!(equal > 0 && dearer > 0, "{equal} equal, {dearer} dearer");
    }

    #[test]
    fn walks_arrive_end_or_circle() {
        let both = |a, b| [(a, b, 5), (b, a, 5)];
        let links = [both(0, 1), both(1, 2), both(2, 3), both(3, 4), both(4, 5)].concat();
        let graph = Graph::new(7, &links);
        let none = u32::MAX;
        // 2 → 1 → 0 arrives, 3 and 4 circle, 5 leads into the circle, 6 has no way.
        let walks = walk_all(&graph, 0, &[none, 0, 1, 4, 3, 4, none]);
        let costs: Vec<_> = walks.iter().map(|walk| walk.cost).collect();
        let far = UNREACHABLE;
        assert_eq!(costs, [0, 5, 10, far, far, far, far]);
        assert_eq!(walks[2].hops, 2);
    }

    #[test]
    fn next_hop_over_a_dead_link_does_not_arrive() {
        let graph = Graph::new(3, &[(0, 1, 1)]);
        let walks = walk_all(&graph, 2, &[1, 2, u32::MAX]);
        assert_eq!(walks[0].cost, UNREACHABLE);
    }
}
