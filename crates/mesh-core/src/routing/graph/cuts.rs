//! Whom the network falls apart without.

use std::collections::BTreeSet;

use super::NetworkGraph;
use crate::identity::NodeId;

const UNSEEN: u32 = u32::MAX;

/// A node on the way from the root of the depth-first search to where it is.
struct Frame {
    node: u32,
    parent: u32,
    next_edge: usize,
    children: u32,
}

impl NetworkGraph {
    /// Nodes without which two others that reach each other would not (Hopcroft and Tarjan 1973): no path between
    /// those avoids them, so their share of the traffic is nobody's fault. One depth-first search over the whole graph,
    /// with a stack of its own: a chain of all nodes must not exhaust the thread's.
    pub fn cut_vertices(&self) -> BTreeSet<NodeId> {
        let mut search = DepthFirst {
            graph: self,
            order: vec![UNSEEN; self.nodes.len()],
            lowest: vec![UNSEEN; self.nodes.len()],
            seen: 0,
            cuts: BTreeSet::new(),
        };
        for root in 0..self.nodes.len() as u32 {
            if search.order[root as usize] == UNSEEN {
                search.run(root);
            }
        }
        let nodes = search.cuts.into_iter().filter_map(|slot| self.node(slot));
        nodes.map(|node| node.id).collect()
    }
}

struct DepthFirst<'g> {
    graph: &'g NetworkGraph,
    /// When each node was first seen.
    order: Vec<u32>,
    /// The earliest node that each node or one below it has a link to.
    lowest: Vec<u32>,
    seen: u32,
    cuts: BTreeSet<u32>,
}

impl DepthFirst<'_> {
    fn run(&mut self, root: u32) {
        let mut stack = vec![self.enter(root, root)];
        while let Some(frame) = stack.last_mut() {
            let (node, parent) = (frame.node, frame.parent);
            let Some(edge) = self.graph.edges_of(node).get(frame.next_edge) else {
                let children = frame.children;
                stack.pop();
                self.leave(node, parent, root, children);
                continue;
            };
            frame.next_edge += 1;
            let order = self.order[edge.to as usize];
            if order == UNSEEN {
                frame.children += 1;
                let child = self.enter(edge.to, node);
                stack.push(child);
            } else {
                let lowest = &mut self.lowest[node as usize];
                *lowest = order.min(*lowest);
            }
        }
    }

    fn enter(&mut self, node: u32, parent: u32) -> Frame {
        self.order[node as usize] = self.seen;
        self.lowest[node as usize] = self.seen;
        self.seen += 1;
        Frame {
            node,
            parent,
            next_edge: 0,
            children: 0,
        }
    }

    /// All below `node` is done: its parent is a cut when nothing there has a link past the parent. The root has
    /// nothing past it; it is a cut when it has two branches.
    fn leave(&mut self, node: u32, parent: u32, root: u32, children: u32) {
        if node == root {
            if children > 1 {
                self.cuts.insert(root);
            }
            return;
        }
        let lowest = self.lowest[node as usize];
        if parent != root && lowest >= self.order[parent as usize] {
            self.cuts.insert(parent);
        }
        let above = &mut self.lowest[parent as usize];
        *above = lowest.min(*above);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Price;
    use crate::routing::graph::{ListedNeighbour, NodeFacts};
    use crate::time::UnixMillis;

    fn id(number: u32) -> NodeId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    /// Nodes in a row.
    fn chain(length: u32) -> NetworkGraph {
        let facts = NodeFacts {
            price: Price {
                msat_per_unit: 1,
                payable: true,
            },
            operator: None,
            expires: UnixMillis(1),
        };
        let mut graph = NetworkGraph::new(1);
        for number in 1..=length {
            let beside = [number - 1, number + 1];
            let listed = beside.map(|number| ListedNeighbour {
                node: id(number),
                cost: 1,
            });
            graph.announce(id(number), facts, &listed).unwrap();
        }
        graph
    }

    #[test]
    fn chain_of_all_nodes_does_not_exhaust_the_stack() {
        let cuts = chain(50_000).cut_vertices();
        assert_eq!(cuts.len(), 49_998);
        assert!(!cuts.contains(&id(1)) && !cuts.contains(&id(50_000)));
    }
}
