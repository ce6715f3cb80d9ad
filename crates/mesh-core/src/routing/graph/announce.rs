//! How the graph changes: a node announces itself, or what it announced holds no more.

use super::{Edge, GraphChange, ListedNeighbour, NetworkGraph, Node, NodeFacts};
use crate::drop_reason::DropReason;
use crate::identity::NodeId;

impl NetworkGraph {
    /// Replaces what `origin` announced before. Refused, with nothing changed:
    /// [`Malformed`](DropReason::Malformed) when it lists itself, somebody twice, a cost of 0 or too many;
    /// [`TableFull`](DropReason::TableFull) when the graph has no room for it.
    pub fn announce(
        &mut self,
        origin: NodeId,
        facts: NodeFacts,
        neighbours: &[ListedNeighbour],
    ) -> Result<GraphChange, DropReason> {
        let listed = self.checked_listing(&origin, neighbours)?;
        let slot = self.admit(&origin, facts, listed.len())?;
        let (edges, one_sided) = self.split_by_mutuality(slot, &origin, &listed);
        let lost = self.drop_edges(slot, &origin, |edge| {
            edges.binary_search_by_key(&edge.to, |new| new.to).is_err()
        });
        let mut repriced = false;
        if let Some(node) = self.node_mut(slot) {
            repriced = node.facts.price != facts.price;
            let before = std::mem::replace(&mut node.facts, facts);
            node.edges = edges;
            node.one_sided = one_sided;
            self.file(slot, &before, &facts);
        }
        Ok(GraphChange { repriced, lost })
    }

    /// Forgets what `origin` announced; nothing happens when that was nothing.
    pub fn withdraw(&mut self, origin: &NodeId) -> GraphChange {
        let Some(slot) = self.slots.remove(origin) else {
            return GraphChange::default();
        };
        let lost = self.drop_edges(slot, origin, |_| true);
        if let Some(node) = self.nodes.get_mut(slot as usize).and_then(Option::take) {
            self.listings -= node.edges.len() + node.one_sided.len();
            if let Some(operator) = node.facts.operator {
                self.by_operator.remove(&(operator, slot));
            }
            self.free.push(slot);
        }
        GraphChange {
            repriced: false,
            lost,
        }
    }

    /// The listing by id, if it is one.
    fn checked_listing(
        &self,
        origin: &NodeId,
        neighbours: &[ListedNeighbour],
    ) -> Result<Vec<ListedNeighbour>, DropReason> {
        if neighbours.len() > self.limits.listed {
            return Err(DropReason::Malformed);
        }
        let mut listed = neighbours.to_vec();
        listed.sort_unstable();
        let twice = listed.windows(2).any(|pair| pair[0].node == pair[1].node);
        let bad = listed
            .iter()
            .any(|entry| entry.node == *origin || entry.cost == 0);
        if twice || bad {
            return Err(DropReason::Malformed);
        }
        Ok(listed)
    }

    /// The slot of `origin`, new if need be, with `listed` listings instead of those it had.
    fn admit(&mut self, origin: &NodeId, facts: NodeFacts, listed: usize) -> Result<u32, DropReason> {
        let known = self.slots.get(origin).copied();
        let before = known
            .and_then(|slot| self.node(slot))
            .map_or(0, |node| node.edges.len() + node.one_sided.len());
        let listings = self.listings - before + listed;
        if listings > self.limits.listings || (known.is_none() && self.slots.len() >= self.limits.nodes) {
            return Err(DropReason::TableFull);
        }
        let slot = match known {
            Some(slot) => slot,
            None => self.new_slot(origin, facts)?,
        };
        self.listings = listings;
        Ok(slot)
    }

    fn new_slot(&mut self, origin: &NodeId, facts: NodeFacts) -> Result<u32, DropReason> {
        let node = Node {
            id: *origin,
            facts,
            edges: Vec::new(),
            one_sided: Vec::new(),
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => u32::try_from(self.nodes.len()).map_err(|_| DropReason::TableFull)?,
        };
        if slot as usize == self.nodes.len() {
            self.nodes.push(Some(node));
        } else if let Some(place) = self.nodes.get_mut(slot as usize) {
            *place = Some(node);
        }
        self.slots.insert(*origin, slot);
        Ok(slot)
    }

    /// Splits what `origin` lists now into edges (by slot) and what is not returned (by id), and tells the other ends.
    fn split_by_mutuality(
        &mut self,
        slot: u32,
        origin: &NodeId,
        listed: &[ListedNeighbour],
    ) -> (Vec<Edge>, Vec<ListedNeighbour>) {
        let (mut edges, mut one_sided) = (Vec::new(), Vec::new());
        for entry in listed {
            let other = self.slots.get(&entry.node).copied();
            match other.and_then(|to| Some((to, self.return_edge(to, slot, origin, entry.cost)?))) {
                Some((to, cost_back)) => edges.push(Edge {
                    to,
                    cost: entry.cost,
                    cost_back,
                }),
                None => one_sided.push(*entry),
            }
        }
        edges.sort_unstable_by_key(|edge| edge.to);
        edges.shrink_to_fit();
        one_sided.shrink_to_fit();
        (edges, one_sided)
    }

    /// At node `at`, makes or updates the edge to `slot` if `at` lists it; its own cost of that link.
    fn return_edge(&mut self, at: u32, slot: u32, origin: &NodeId, cost_back: u16) -> Option<u16> {
        let node = self.node_mut(at)?;
        match node.edges.binary_search_by_key(&slot, |edge| edge.to) {
            Ok(place) => {
                node.edges[place].cost_back = cost_back;
                Some(node.edges[place].cost)
            }
            Err(place) => {
                let listed = node.one_sided.binary_search_by_key(origin, |entry| entry.node);
                let cost = node.one_sided.remove(listed.ok()?).cost;
                shrink(&mut node.one_sided);
                let edge = Edge {
                    to: slot,
                    cost,
                    cost_back,
                };
                node.edges.reserve_exact(1);
                node.edges.insert(place, edge);
                self.edges += 1;
                Some(cost)
            }
        }
    }

    /// Turns those edges of `slot` that `is_lost` picks into listings of the other ends alone; who those are, by id.
    fn drop_edges(&mut self, slot: u32, origin: &NodeId, is_lost: impl Fn(&Edge) -> bool) -> Vec<NodeId> {
        let edges = self.node(slot).map(|node| node.edges.as_slice());
        let ends: Vec<u32> = edges
            .unwrap_or_default()
            .iter()
            .filter(|edge| is_lost(edge))
            .map(|edge| edge.to)
            .collect();
        let mut lost = Vec::with_capacity(ends.len());
        for end in ends {
            let Some(node) = self.node_mut(end) else { continue };
            lost.push(node.id);
            let Ok(place) = node.edges.binary_search_by_key(&slot, |edge| edge.to) else {
                continue;
            };
            let cost = node.edges.remove(place).cost;
            let entry = ListedNeighbour { node: *origin, cost };
            let place = node.one_sided.partition_point(|other| *other < entry);
            node.one_sided.insert(place, entry);
            self.edges -= 1;
        }
        lost.sort_unstable();
        lost
    }

    /// Files `slot` under its new operator.
    fn file(&mut self, slot: u32, before: &NodeFacts, facts: &NodeFacts) {
        if let Some(operator) = before.operator {
            self.by_operator.remove(&(operator, slot));
        }
        if let Some(operator) = facts.operator {
            self.by_operator.insert((operator, slot));
        }
    }
}

/// Gives back the room of a list that has emptied.
fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > 2 * list.len() {
        list.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Price;
    use crate::routing::graph::GraphLimits;
    use crate::time::UnixMillis;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    fn facts(price: u64, expires: u64) -> NodeFacts {
        NodeFacts {
            price: Price {
                msat_per_unit: price,
                payable: true,
            },
            operator: None,
            expires: UnixMillis(expires),
        }
    }

    fn listing(nodes: &[u8]) -> Vec<ListedNeighbour> {
        let entry = |byte: &u8| ListedNeighbour {
            node: id(*byte),
            cost: 1,
        };
        nodes.iter().map(entry).collect()
    }

    fn graph(announcements: &[(u8, &[u8])]) -> NetworkGraph {
        let mut graph = NetworkGraph::new(1);
        for (node, listed) in announcements {
            graph.announce(id(*node), facts(1, 10), &listing(listed)).unwrap();
        }
        graph
    }

    #[test]
    fn liar_cannot_invent_a_link_to_somebody_who_does_not_list_it() {
        let mut graph = graph(&[(1, &[2]), (2, &[1]), (9, &[1, 2])]);
        assert_eq!(graph.edge_count(), 1);
        assert!(!graph.has_edge(&id(9), &id(1)) && !graph.has_edge(&id(1), &id(9)));
        graph.announce(id(1), facts(1, 10), &listing(&[2, 9])).unwrap();
        assert!(graph.has_edge(&id(9), &id(1)) && graph.has_edge(&id(1), &id(9)));
    }

    #[test]
    fn invented_neighbours_are_no_nodes_and_take_nobodys_place() {
        let limits = GraphLimits {
            nodes: 2,
            ..GraphLimits::default()
        };
        let mut graph = NetworkGraph::with_limits(1, limits);
        graph.announce(id(1), facts(1, 10), &listing(&[7, 8, 9])).unwrap();
        assert_eq!((graph.node_count(), graph.facts(&id(7))), (1, None));
        graph.announce(id(2), facts(1, 10), &[]).unwrap();
        let refused = graph.announce(id(3), facts(1, 10), &[]);
        assert_eq!(refused, Err(DropReason::TableFull));
        graph.announce(id(1), facts(5, 10), &[]).unwrap();
        graph.withdraw(&id(2));
        graph.announce(id(3), facts(1, 10), &[]).unwrap();
    }

    #[test]
    fn listings_are_bounded_together_and_what_was_replaced_or_forgotten_makes_room() {
        let limits = GraphLimits {
            listings: 5,
            ..GraphLimits::default()
        };
        let mut graph = NetworkGraph::with_limits(1, limits);
        graph.announce(id(1), facts(1, 10), &listing(&[2, 8, 9])).unwrap();
        graph.announce(id(2), facts(1, 20), &listing(&[1, 9])).unwrap();
        let refused = graph.announce(id(3), facts(1, 10), &listing(&[1]));
        assert_eq!(refused, Err(DropReason::TableFull));
        assert_eq!(graph.facts(&id(3)), None);
        graph.announce(id(1), facts(1, 10), &listing(&[2, 8])).unwrap();
        graph.announce(id(3), facts(1, 10), &listing(&[1])).unwrap();
        graph.withdraw(&id(1));
        graph.withdraw(&id(3));
        graph.announce(id(4), facts(1, 10), &listing(&[1, 2, 3])).unwrap();
        let refused = graph.announce(id(2), facts(1, 20), &listing(&[1, 3, 9]));
        assert_eq!(refused, Err(DropReason::TableFull));
    }

    #[test]
    fn malformed_announcement_is_refused_and_what_was_known_stays() {
        let mut graph = graph(&[(1, &[2]), (2, &[1])]);
        let too_many: Vec<ListedNeighbour> = (0..=crate::limits::MAX_LISTED_NEIGHBOURS as u16)
            .map(|number| {
                let mut node = [0xee; 32];
                node[..2].copy_from_slice(&number.to_be_bytes());
                let node = NodeId(node);
                ListedNeighbour { node, cost: 1 }
            })
            .collect();
        let free = [ListedNeighbour { node: id(2), cost: 0 }];
        for bad in [&listing(&[1])[..], &listing(&[2, 3, 2]), &too_many, &free] {
            let refused = graph.announce(id(1), facts(7, 10), bad);
            assert_eq!(refused, Err(DropReason::Malformed));
        }
        assert_eq!(graph.facts(&id(1)), Some(&facts(1, 10)));
        assert!(graph.has_edge(&id(1), &id(2)));
    }

    #[test]
    fn whoever_stops_being_listed_is_lost_and_whoever_changes_its_price_is_named() {
        let mut graph = graph(&[(1, &[2, 3]), (2, &[1]), (3, &[1])]);
        let same = graph.announce(id(1), facts(1, 20), &listing(&[2, 3])).unwrap();
        assert_eq!(same, GraphChange::default());
        let change = graph.announce(id(1), facts(2, 20), &listing(&[3])).unwrap();
        let lost = vec![id(2)];
        assert_eq!(change, GraphChange { repriced: true, lost });
        // Its neighbour still lists it: listing it again brings the edge back.
        graph.announce(id(1), facts(2, 20), &listing(&[2, 3])).unwrap();
        assert!(graph.has_edge(&id(1), &id(2)));
    }

    #[test]
    fn withdrawn_nodes_are_gone_and_come_back_with_their_edges() {
        let mut graph = graph(&[(1, &[2]), (2, &[1, 3]), (3, &[2])]);
        let lost = |of: u8| GraphChange {
            repriced: false,
            lost: vec![id(of)],
        };
        assert_eq!(graph.withdraw(&id(3)), lost(2));
        assert_eq!(graph.withdraw(&id(1)), lost(2));
        assert_eq!(graph.withdraw(&id(1)), GraphChange::default());
        assert_eq!((graph.node_count(), graph.edge_count()), (1, 0));
        graph.announce(id(3), facts(1, 50), &listing(&[2])).unwrap();
        assert!(graph.has_edge(&id(2), &id(3)));
    }
}
