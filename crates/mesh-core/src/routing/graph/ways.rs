//! How many ways there are that have nobody in common: what nobody on them can help earning.

use super::NetworkGraph;
use super::obstacles::routers;
use crate::fairness::entities::Entities;
use crate::identity::NodeId;
use crate::limits::MAX_HOPS;

/// Ways counted between two ends at the most. With this many each is unavoidable to a sixteenth, which is below any cap
/// that makes sense; and a search per way is what counting costs.
pub const MAX_WAYS: usize = 16;

const UNSEEN: u32 = u32::MAX;

impl NetworkGraph {
    /// The routers of ways from one node to another within `max_hops`, at most [`MAX_WAYS`] of them, that have no entity
    /// in common but those without whom there is no way at all (these are on every one). Empty when there is no way.
    ///
    /// The shortest is taken first, then the shortest beside it, and so on: there may be more, so that this says more is
    /// unavoidable than is, never less than one in sixteen.
    pub fn ways(&self, from: &NodeId, to: &NodeId, max_hops: usize) -> Vec<Vec<NodeId>> {
        self.walk_ways(from, to, max_hops, None)
    }

    /// The same, where nodes are one also for what the graph does not know: a Lightning node, an address.
    pub fn ways_among(
        &self,
        from: &NodeId,
        to: &NodeId,
        max_hops: usize,
        entities: &Entities,
    ) -> Vec<Vec<NodeId>> {
        self.walk_ways(from, to, max_hops, Some(entities))
    }

    fn walk_ways(
        &self,
        from: &NodeId,
        to: &NodeId,
        max_hops: usize,
        entities: Option<&Entities>,
    ) -> Vec<Vec<NodeId>> {
        let ends = self.slot(from).zip(self.slot(to));
        let Some((from, to)) = ends.filter(|(from, to)| from != to) else {
            return Vec::new();
        };
        let mut walk = Walk {
            graph: self,
            entities,
            from,
            to,
            max_hops: max_hops.min(MAX_HOPS),
            closed: vec![false; self.nodes.len()],
            without_link: false,
            before: Vec::new(),
        };
        let ways = walk.all();
        let id = |slot: &u32| self.node(*slot).map(|node| node.id);
        ways.iter()
            .map(|way| way.iter().filter_map(id).collect())
            .collect()
    }
}

/// Searches for the shortest way past what is closed.
struct Walk<'g> {
    graph: &'g NetworkGraph,
    entities: Option<&'g Entities>,
    from: u32,
    to: u32,
    max_hops: usize,
    closed: Vec<bool>,
    /// The direct link between the ends is not to be used: it was.
    without_link: bool,
    before: Vec<u32>,
}

impl Walk<'_> {
    fn all(&mut self) -> Vec<Vec<u32>> {
        let Some(shortest) = self.shortest() else {
            return Vec::new();
        };
        let cuts: Vec<u32> = shortest
            .iter()
            .copied()
            .filter(|router| self.is_cut(*router))
            .collect();
        let mut ways = vec![shortest];
        while ways.len() < MAX_WAYS
            && let Some(way) = ways.last()
        {
            let mut apart: Vec<u32> = way.clone();
            apart.retain(|router| !cuts.contains(router));
            if apart.is_empty() && !way.is_empty() {
                break;
            }
            self.without_link |= way.is_empty();
            for router in apart {
                self.close(router, true);
            }
            let Some(next) = self.shortest() else { break };
            ways.push(next);
        }
        ways
    }

    fn is_cut(&mut self, router: u32) -> bool {
        self.close(router, true);
        let is_cut = self.shortest().is_none();
        self.close(router, false);
        is_cut
    }

    /// Closes a router and all others of its entity, never the ends.
    fn close(&mut self, router: u32, closed: bool) {
        for member in self.graph.one_with(router, self.entities) {
            if member != self.from && member != self.to {
                self.closed[member as usize] = closed;
            }
        }
    }

    /// The routers of the shortest way, by breadth-first search.
    fn shortest(&mut self) -> Option<Vec<u32>> {
        self.before.clear();
        self.before.resize(self.graph.nodes.len(), UNSEEN);
        self.before[self.from as usize] = self.from;
        let (mut ring, mut next) = (vec![self.from], Vec::new());
        for _ in 0..self.max_hops {
            for node in ring.drain(..) {
                for edge in self.graph.edges_of(node) {
                    let other = edge.to as usize;
                    let barred = self.without_link && node == self.from && edge.to == self.to;
                    if self.before[other] != UNSEEN || self.closed[other] || barred {
                        continue;
                    }
                    self.before[other] = node;
                    if edge.to == self.to {
                        return Some(self.walked());
                    }
                    next.push(edge.to);
                }
            }
            std::mem::swap(&mut ring, &mut next);
        }
        None
    }

    fn walked(&self) -> Vec<u32> {
        let mut path = vec![self.to];
        let mut at = self.to;
        while at != self.from {
            at = self.before[at as usize];
            path.push(at);
        }
        path.reverse();
        routers(&path).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::certificate::Price;
    use crate::fairness::entities::Tie;
    use crate::routing::graph::{ListedNeighbour, NodeFacts};
    use crate::time::UnixMillis;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    fn graph(links: &[(u8, u8)], operators: &[(u8, u8)]) -> NetworkGraph {
        let mut graph = NetworkGraph::new(1);
        let nodes: BTreeSet<u8> = links.iter().flat_map(|(a, b)| [*a, *b]).collect();
        for node in nodes {
            let others = links.iter().filter_map(|(a, b)| match node {
                node if node == *a => Some(*b),
                node if node == *b => Some(*a),
                _ => None,
            });
            let listed: Vec<_> = others
                .map(|other| ListedNeighbour {
                    node: id(other),
                    cost: 1,
                })
                .collect();
            let facts = NodeFacts {
                price: Price {
                    msat_per_unit: 1,
                    payable: true,
                },
                operator: operators
                    .iter()
                    .find(|(of, _)| *of == node)
                    .map(|(_, key)| id(*key)),
                expires: UnixMillis(1),
            };
            graph.announce(id(node), facts, &listed).unwrap();
        }
        graph
    }

    fn ways(graph: &NetworkGraph, from: u8, to: u8, max_hops: usize) -> Vec<Vec<u8>> {
        let ways = graph.ways(&id(from), &id(to), max_hops);
        ways.iter()
            .map(|way| way.iter().map(|node| node.0[0]).collect())
            .collect()
    }

    #[test]
    fn who_is_behind_one_provider_has_as_many_ways_as_the_provider_and_all_over_him() {
        let links = [(1, 3), (3, 4), (3, 5), (3, 6), (4, 2), (5, 2), (6, 7), (7, 2)];
        let found = ways(&graph(&links, &[]), 1, 2, 10);
        assert_eq!(found, [vec![3, 4], vec![3, 5], vec![3, 6, 7]]);
        assert_eq!(ways(&graph(&links, &[]), 1, 2, 3).len(), 2, "within the limit");
    }

    #[test]
    fn nodes_of_one_operator_are_one_way() {
        let links = [(1, 3), (3, 2), (1, 4), (4, 2), (1, 5), (5, 2)];
        assert_eq!(ways(&graph(&links, &[]), 1, 2, 10).len(), 3);
        assert_eq!(ways(&graph(&links, &[(3, 9), (4, 9)]), 1, 2, 10).len(), 2);
        let all = [(3, 9), (4, 9), (5, 9)];
        assert_eq!(
            ways(&graph(&links, &all), 1, 2, 10),
            [[3]],
            "a cut of three nodes"
        );
    }

    #[test]
    fn nodes_that_one_lightning_node_is_paid_for_are_one_way() {
        let links = [(1, 3), (3, 2), (1, 4), (4, 2), (1, 5), (5, 2)];
        let graph = graph(&links, &[(4, 9), (5, 9)]);
        let mut entities = Entities::default();
        for node in [4, 5] {
            entities.tie(id(node), Tie::Operator(id(9)));
        }
        let count = |entities: &Entities| graph.ways_among(&id(1), &id(2), 10, entities).len();
        assert_eq!(count(&entities), 2);
        entities.tie(id(3), Tie::Payee([7; 33]));
        assert_eq!(count(&entities), 2);
        entities.tie(id(4), Tie::Payee([7; 33]));
        assert_eq!(count(&entities), 1, "and so is the operator's other node");
    }

    #[test]
    fn neighbours_have_their_link_and_the_ways_around_it() {
        let links = [(1, 2), (1, 3), (3, 2)];
        assert_eq!(ways(&graph(&links, &[]), 1, 2, 10), [vec![], vec![3]]);
    }

    #[test]
    fn no_more_ways_than_are_counted_and_none_where_there_is_none() {
        let links: Vec<_> = (10..60).flat_map(|router| [(1, router), (router, 2)]).collect();
        let graph = graph(&[&links[..], &[(3, 4)]].concat(), &[]);
        assert_eq!(ways(&graph, 1, 2, 10).len(), MAX_WAYS);
        assert!(ways(&graph, 1, 3, 10).is_empty() && ways(&graph, 1, 1, 10).is_empty());
        assert!(ways(&graph, 1, 99, 10).is_empty());
    }

    #[test]
    fn chain_is_unavoidable_from_end_to_end() {
        let links = [(1, 3), (3, 4), (4, 2)];
        assert_eq!(ways(&graph(&links, &[]), 1, 2, 10), [[3, 4]]);
    }
}
