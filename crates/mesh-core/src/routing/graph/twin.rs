//! A slow and obvious twin judges the graph: it keeps what was announced as it came, and tries every path.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::routing::COMPARISON_UNITS;

/// What was announced: facts, and costs by neighbour.
#[derive(Debug, Clone, Default)]
struct Twin(BTreeMap<NodeId, (NodeFacts, BTreeMap<NodeId, u16>)>);

/// What a query asks for, with its own weights.
#[derive(Debug, Clone)]
struct Question {
    from: NodeId,
    to: NodeId,
    max_hops: usize,
    most: usize,
    avoid: BTreeSet<NodeId>,
    weight: u64,
    surcharges: BTreeMap<NodeId, u64>,
    tie_break: Option<u64>,
}

impl Question {
    fn ask(&self, graph: &NetworkGraph) -> Vec<CandidatePath> {
        graph.diverse_paths(&PathQuery {
            from: self.from,
            to: self.to,
            max_hops: self.max_hops,
            most: self.most,
            avoid: &self.avoid,
            latency_weight_msat: self.weight,
            surcharges_msat: Some(&self.surcharges),
            tie_break: self.tie_break,
        })
    }
}

impl Twin {
    fn mutual(&self, a: &NodeId, b: &NodeId) -> bool {
        let lists = |one: &NodeId, other: &NodeId| {
            self.0
                .get(one)
                .is_some_and(|(_, listed)| listed.contains_key(other))
        };
        lists(a, b) && lists(b, a)
    }

    fn neighbours(&self, node: &NodeId) -> Vec<NodeId> {
        let listed = self.0.get(node).map(|(_, listed)| listed.keys().copied());
        let listed = listed.into_iter().flatten();
        listed.filter(|other| self.mutual(node, other)).collect()
    }

    fn edges(&self) -> usize {
        self.0
            .keys()
            .map(|node| self.neighbours(node).len())
            .sum::<usize>()
            / 2
    }

    /// Every simple path within the limit.
    fn paths(&self, question: &Question) -> Vec<Vec<NodeId>> {
        let mut done = Vec::new();
        let mut open = vec![vec![question.from]];
        while let Some(path) = open.pop() {
            let last = *path.last().unwrap();
            if last == question.to {
                done.push(path);
            } else if path.len() <= question.max_hops {
                for next in self.neighbours(&last) {
                    let passable = next == question.to || !question.avoid.contains(&next);
                    if passable && !path.contains(&next) {
                        open.push([path.clone(), vec![next]].concat());
                    }
                }
            }
        }
        done.retain(|path| path.len() > 1);
        done
    }

    fn price(&self, path: &[NodeId]) -> u64 {
        path[1..]
            .iter()
            .map(|node| self.0[node].0.price.msat_per_unit)
            .sum()
    }

    fn cost(&self, path: &[NodeId]) -> u32 {
        path.windows(2)
            .map(|link| u32::from(self.0[&link[0]].1[&link[1]]))
            .sum()
    }

    /// Money, then hops.
    fn rank(&self, question: &Question, path: &[NodeId]) -> (u64, usize) {
        let surcharges: u64 = path[1..]
            .iter()
            .filter_map(|node| question.surcharges.get(node))
            .sum();
        let links = u64::from(self.cost(path)) * question.weight;
        (
            (self.price(path) + links) * COMPARISON_UNITS + surcharges,
            path.len() - 1,
        )
    }

    fn entities(&self, path: &[NodeId]) -> BTreeSet<NodeId> {
        let routers = path[1..path.len() - 1].iter();
        routers
            .map(|node| self.0[node].0.operator.unwrap_or(*node))
            .collect()
    }

    fn has_operators(&self) -> bool {
        self.0.values().any(|(facts, _)| facts.operator.is_some())
    }

    fn reached(&self, from: &NodeId, without: Option<&NodeId>) -> BTreeSet<NodeId> {
        let mut reached = BTreeSet::from([*from]);
        let mut open = vec![*from];
        while let Some(node) = open.pop() {
            for next in self.neighbours(&node) {
                if Some(&next) != without && reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    }

    /// Those without whom a neighbour of theirs no longer reaches all the others.
    fn cut_vertices(&self) -> BTreeSet<NodeId> {
        let is_cut = |node: &&NodeId| {
            let neighbours = self.neighbours(node);
            neighbours.first().is_some_and(|first| {
                let reached = self.reached(first, Some(node));
                neighbours.iter().any(|other| !reached.contains(other))
            })
        };
        self.0.keys().filter(is_cut).copied().collect()
    }
}

fn id(number: u8) -> NodeId {
    NodeId(*blake3::hash(&[number]).as_bytes())
}

#[derive(Debug, Clone)]
enum Step {
    Announce(u8, NodeFacts, BTreeMap<u8, u16>),
    Withdraw(u8),
}

fn facts() -> impl Strategy<Value = NodeFacts> {
    (0..6u64, prop::option::weighted(0.15, 0..4u8), 1..30u64).prop_map(|(price, operator, expires)| {
        NodeFacts {
            price: Price {
                msat_per_unit: price * 100,
                payable: true,
            },
            operator: operator.map(id),
            expires: UnixMillis(expires),
        }
    })
}

fn listing(nodes: u8) -> impl Strategy<Value = BTreeMap<u8, u16>> {
    prop::collection::btree_map(0..nodes, 1..9u16, 0..6)
}

fn step(nodes: u8) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..nodes, facts(), listing(nodes)).prop_map(|(node, facts, listed)| Step::Announce(node, facts, listed)),
        1 => (0..nodes).prop_map(Step::Withdraw),
    ]
}

/// A connected-ish random graph, everything mutual, announced into both.
fn network() -> impl Strategy<Value = (Twin, NetworkGraph)> {
    (4..10u8).prop_flat_map(|nodes| {
        let links = prop::collection::btree_map((0..nodes, 0..nodes), (1..9u16, 1..9u16), 0..24);
        let all = usize::from(nodes);
        (links, prop::collection::vec(facts(), all), any::<bool>()).prop_map(|(links, facts, operators)| {
            let mut twin = Twin::default();
            for (number, mut facts) in facts.into_iter().enumerate() {
                facts.operator = facts.operator.filter(|_| operators);
                twin.0.insert(id(number as u8), (facts, BTreeMap::new()));
            }
            for ((a, b), (there, back)) in links.into_iter().filter(|((a, b), _)| a != b) {
                twin.0.get_mut(&id(a)).unwrap().1.insert(id(b), there);
                twin.0.get_mut(&id(b)).unwrap().1.insert(id(a), back);
            }
            let graph = announced(&twin);
            (twin, graph)
        })
    })
}

fn announced(twin: &Twin) -> NetworkGraph {
    let mut graph = NetworkGraph::new(1);
    for (node, (facts, listed)) in &twin.0 {
        graph.announce(*node, *facts, &as_listing(listed)).unwrap();
    }
    graph
}

fn as_listing(listed: &BTreeMap<NodeId, u16>) -> Vec<ListedNeighbour> {
    let listed = listed.iter();
    listed
        .map(|(node, cost)| ListedNeighbour {
            node: *node,
            cost: *cost,
        })
        .collect()
}

fn question() -> impl Strategy<Value = Question> {
    let nodes = prop::collection::btree_set(4..10u8, 0..3);
    let surcharges = prop::collection::btree_map(0..10u8, 0..400u64, 0..4);
    let tie_break = prop::option::of(0..9u64);
    (2..11usize, 1..5usize, nodes, 0..200u64, surcharges, tie_break).prop_map(
        |(max_hops, most, avoid, weight, surcharges, tie_break)| Question {
            from: id(0),
            to: id(1),
            max_hops,
            most,
            avoid: avoid.into_iter().map(id).collect(),
            weight,
            surcharges: surcharges
                .into_iter()
                .map(|(node, msat)| (id(node), msat * COMPARISON_UNITS))
                .collect(),
            tie_break,
        },
    )
}

/// Whether two of the paths share no entity, and together have at most `hops` hops.
fn two_independent(twin: &Twin, paths: &[Vec<NodeId>], hops: usize) -> bool {
    paths.iter().enumerate().any(|(place, one)| {
        paths[..place].iter().any(|other| {
            let together = one.len() + other.len() - 2;
            together <= hops && twin.entities(one).is_disjoint(&twin.entities(other))
        })
    })
}

fn check_graph(twin: &Twin, graph: &NetworkGraph) -> Result<(), TestCaseError> {
    prop_assert_eq!(graph.node_count(), twin.0.len());
    prop_assert_eq!(graph.edge_count(), twin.edges());
    let nodes: Vec<_> = graph.nodes().collect();
    prop_assert_eq!(nodes.len(), twin.0.len());
    for (node, (id, (facts, listed))) in nodes.iter().zip(&twin.0) {
        prop_assert_eq!((&node.id, node.facts), (id, facts));
        prop_assert_eq!(graph.facts(id), Some(facts));
        let mut mutual = listed.clone();
        mutual.retain(|other, _| twin.mutual(id, other));
        prop_assert_eq!(&node.neighbours, &as_listing(&mutual));
        for other in twin.0.keys() {
            prop_assert_eq!(graph.has_edge(id, other), twin.mutual(id, other));
        }
    }
    prop_assert_eq!(graph.cut_vertices(), twin.cut_vertices());
    Ok(())
}

/// What `node` is about to lose: its neighbours before that are none after.
fn lost(before: &Twin, after: &Twin, node: &NodeId) -> Vec<NodeId> {
    let mut lost = before.neighbours(node);
    lost.retain(|other| !after.mutual(node, other));
    lost
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_announced_and_withdrawn_the_twin_sees_the_same(
        steps in prop::collection::vec(step(7), 0..60),
    ) {
        let (mut twin, mut graph) = (Twin::default(), NetworkGraph::new(3));
        for step in steps {
            let before = twin.clone();
            match step {
                Step::Announce(node, facts, listed) => {
                    let node = id(node);
                    let mut listed: BTreeMap<_, _> = listed.into_iter().map(|(other, cost)| (id(other), cost)).collect();
                    listed.remove(&node);
                    let change = graph.announce(node, facts, &as_listing(&listed)).unwrap();
                    let known = before.0.get(&node);
                    prop_assert_eq!(change.repriced, known.is_some_and(|(known, _)| known.price != facts.price));
                    twin.0.insert(node, (facts, listed));
                    prop_assert_eq!(change.lost, lost(&before, &twin, &node));
                }
                Step::Withdraw(node) => {
                    twin.0.remove(&id(node));
                    prop_assert_eq!(graph.withdraw(&id(node)).lost, lost(&before, &twin, &id(node)));
                }
            }
            check_graph(&twin, &graph)?;
        }
        // What history left behind (reused slots, moved listings, costs that changed) changes no path's price.
        let fresh = announced(&twin);
        for (from, to) in (0..7).flat_map(|from| (0..7).map(move |to| (id(from), id(to)))) {
            let question = Question {
                from, to, max_hops: 10, most: 1, avoid: BTreeSet::new(), weight: 40, surcharges: BTreeMap::new(), tie_break: None,
            };
            let rank = |paths: Vec<CandidatePath>| paths.first().map(|path| twin.rank(&question, &path.path));
            prop_assert_eq!(rank(question.ask(&graph)), rank(question.ask(&fresh)));
        }
    }

    #[test]
    fn paths_are_as_cheap_and_as_independent_as_promised(
        (twin, graph) in network(),
        question in question(),
    ) {
        let every = twin.paths(&question);
        let answer = question.ask(&graph);
        prop_assert_eq!(&answer, &question.ask(&graph), "the same question has the same answer");

        // Each is a path within the limits, all differ, and they say what they cost.
        prop_assert!(answer.len() <= question.most);
        let found: BTreeSet<_> = answer.iter().map(|path| &path.path).collect();
        prop_assert_eq!(found.len(), answer.len());
        let mut seen = BTreeSet::new();
        for path in &answer {
            prop_assert!(every.contains(&path.path));
            prop_assert_eq!(path.price_msat_per_unit, twin.price(&path.path));
            prop_assert_eq!(path.cost, twin.cost(&path.path));
            let entities = twin.entities(&path.path);
            prop_assert_eq!(path.shares_router_with_earlier, !seen.is_disjoint(&entities));
            seen.extend(entities);
        }

        // Independent ones first, each group cheapest first.
        let ranks: Vec<_> = answer
            .iter()
            .map(|path| (path.shares_router_with_earlier, twin.rank(&question, &path.path)))
            .collect();
        prop_assert!(ranks.is_sorted());

        // None when there is none, and otherwise the cheapest among them.
        let cheapest = every.iter().map(|path| twin.rank(&question, path)).min();
        let cheapest_found = ranks.iter().map(|(_, rank)| *rank).min();
        prop_assert_eq!(cheapest.is_some(), cheapest_found.is_some());
        let apart = ranks.iter().filter(|(shares, _)| !shares).count();
        if question.most != 2 || apart < 2 {
            prop_assert_eq!(cheapest_found, cheapest);
        }

        // Two independent ones when there are two in reach; as many paths as there are, up to two.
        let shortest = every.iter().map(|path| path.len() - 1).min().unwrap_or_default();
        if question.most >= 2
            && !twin.has_operators()
            && two_independent(&twin, &every, question.max_hops + shortest)
        {
            prop_assert!(apart >= 2);
        }
        prop_assert!(answer.len() >= every.len().min(question.most).min(2));

        // Nothing independent of all was left out.
        if answer.len() < question.most || apart < answer.len() {
            let taken: BTreeSet<_> = answer[..apart].iter().flat_map(|path| twin.entities(&path.path)).collect();
            let missed = every.iter().find(|path| !found.contains(path) && twin.entities(path).is_disjoint(&taken));
            prop_assert_eq!(missed, None);
        }
    }
}
