//! A few paths that fail, and cheat, independently of one another.

use std::collections::{BTreeMap, BTreeSet};

use super::NetworkGraph;
use super::obstacles::{Obstacles, routers};
use super::pair::fewest_hops_pair;
use super::search::{Found, Search};
use crate::fairness::entities::Entities;
use crate::identity::NodeId;
use crate::limits::MAX_ROUTES_PER_DESTINATION;

/// Searches made for one more path where those that share least are known already. On the real networks studied none
/// are needed as a rule and fifteen at the most; a network made to need thousands must not hold a node up.
const MAX_DETOURS: usize = 32;

/// Which paths are wanted.
#[derive(Debug, Clone, Copy)]
pub struct PathQuery<'a> {
    /// The source.
    pub from: NodeId,
    /// The destination.
    pub to: NodeId,
    /// Longest path wanted, in hops (1 to 10; more counts as 10).
    pub max_hops: usize,
    /// How many paths (1 to 4; more counts as 4).
    pub most: usize,
    /// Nodes that shall not be routers.
    pub avoid: &'a BTreeSet<NodeId>,
    /// What one would pay, in msat a unit, to avoid one unit of link cost.
    pub latency_weight_msat: u64,
    /// What one would pay besides to avoid a node, in msat for [`COMPARISON_UNITS`](crate::routing::COMPARISON_UNITS).
    pub surcharges_msat: Option<&'a BTreeMap<NodeId, u64>>,
    /// Which of equally dear paths of as many hops is the better: another for every number, and the same entity counts as
    /// one however many nodes it has. Where everybody breaks ties the same way, everybody pays the same few.
    pub tie_break: Option<u64>,
}

/// A path for discovery to confirm: what it costs is what its nodes announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidatePath {
    /// All nodes, source first, destination last.
    pub path: Vec<NodeId>,
    /// What routers and destination charge together, in msat a unit.
    pub price_msat_per_unit: u64,
    /// Cost of its links, as the nearer end of each announced it.
    pub cost: u32,
    /// Whether a router, or another of the same entity, serves an earlier path of the answer too.
    pub shares_router_with_earlier: bool,
}

impl NetworkGraph {
    /// Up to `most` paths from one node to another, all different, each within the hop limit; none when there is none.
    ///
    /// **Order.** First paths of which no two have a router in common, or routers of one entity; then, as far as there
    /// are not enough of those, paths that use routers of earlier ones, as few as they can; they are marked. Each
    /// group with the cheapest first: price, surcharges and weighted link cost; of equals the one with fewer hops.
    ///
    /// **Promises.** The cheapest path within the hop limit is the first. There is one exception: when every other
    /// shares a router with it although two of them share none. Then these two come first, and the cheapest of all
    /// is among those that follow, if more than two are wanted. Two independent paths are found whenever the hop limit allows any two that have,
    /// together, no more hops than the limit and the shortest path have together, as long as no routers share an
    /// operator; and often otherwise. Always to find them is NP-complete with a hop limit (Li, McCormick and
    /// Simchi-Levi 1990). A third and a fourth are what there is beside those before them, not the most there could
    /// be.
    pub fn diverse_paths(&self, query: &PathQuery<'_>) -> Vec<CandidatePath> {
        self.search_paths(query, None)
    }

    /// The same, where nodes are one also for what the graph does not know: a Lightning node, an address.
    pub fn diverse_paths_among(&self, query: &PathQuery<'_>, entities: &Entities) -> Vec<CandidatePath> {
        self.search_paths(query, Some(entities))
    }

    fn search_paths(&self, query: &PathQuery<'_>, entities: Option<&Entities>) -> Vec<CandidatePath> {
        let most = query.most.min(MAX_ROUTES_PER_DESTINATION);
        if most == 0 {
            return Vec::new();
        }
        let Some(mut search) = Search::prepare(self, query, entities) else {
            return Vec::new();
        };
        let (mut chosen, left_out) = independent(&mut search, most);
        let sharing = least_sharing(&mut search, &chosen, left_out, most);
        chosen.extend(sharing);
        self.candidates(&chosen, entities)
    }

    fn candidates(&self, chosen: &[Found], entities: Option<&Entities>) -> Vec<CandidatePath> {
        // The routers of earlier paths and all that are one with them.
        let mut seen: BTreeSet<u32> = BTreeSet::new();
        let candidate = |found: &Found| {
            let routers = routers(&found.path);
            let shares_router_with_earlier = routers.iter().any(|router| seen.contains(router));
            seen.extend(routers.iter().flat_map(|router| self.one_with(*router, entities)));
            self.candidate(&found.path, shares_router_with_earlier)
        };
        chosen.iter().map(candidate).collect()
    }

    fn candidate(&self, path: &[u32], shares_router_with_earlier: bool) -> CandidatePath {
        let nodes = || path.iter().filter_map(|slot| self.node(*slot));
        let links = path.windows(2).filter_map(|link| self.edge(link[0], link[1]));
        CandidatePath {
            path: nodes().map(|node| node.id).collect(),
            price_msat_per_unit: nodes()
                .skip(1)
                .fold(0, |sum, node| sum.saturating_add(node.facts.price.msat_per_unit)),
            cost: links.map(|edge| u32::from(edge.cost)).sum(),
            shares_router_with_earlier,
        }
    }
}

/// Paths no two of which share an entity, each the cheapest beside those before. Where the cheapest of all stands in
/// the way of every other, two that leave each other room, and it besides; a place is kept for it if there are three.
fn independent(search: &mut Search<'_>, most: usize) -> (Vec<Found>, Option<Found>) {
    let mut obstacles = Obstacles::none(search.graph);
    let (mut chosen, mut left_out) = (Vec::new(), None);
    let kept_free = |left_out: &Option<Found>| usize::from(left_out.is_some() && most > 2);
    while chosen.len() + kept_free(&left_out) < most {
        if let Some(found) = search.cheapest(&obstacles) {
            obstacles.close(search, &found.path);
            chosen.push(found);
        } else if chosen.len() == 1
            && let Some(pair) = independent_pair(search)
        {
            left_out = chosen.pop();
            obstacles = Obstacles::none(search.graph);
            pair.iter().for_each(|found| obstacles.close(search, &found.path));
            chosen.extend(pair);
        } else {
            break;
        }
    }
    chosen.sort_by_key(Found::price_rank);
    (chosen, left_out)
}

/// Two paths that share no entity, where the cheapest path and any other do: the pair with the fewest hops shows
/// where they run, and each is then replaced by the cheapest beside the other.
fn independent_pair(search: &mut Search<'_>) -> Option<[Found; 2]> {
    let pair = fewest_hops_pair(search)?;
    pair.iter().find_map(|path| {
        let one = cheapest_beside(search, path)?;
        let other = cheapest_beside(search, &one.path)?;
        Some([one, other])
    })
}

fn cheapest_beside(search: &mut Search<'_>, path: &[u32]) -> Option<Found> {
    let mut obstacles = Obstacles::none(search.graph);
    obstacles.close(search, path);
    search.cheapest(&obstacles)
}

/// Paths to add to those chosen that share as little as possible with them, and the one left out before others.
fn least_sharing(
    search: &mut Search<'_>,
    independent: &[Found],
    left_out: Option<Found>,
    most: usize,
) -> Vec<Found> {
    if independent.len() >= most {
        return Vec::new();
    }
    let mut chosen = independent.to_vec();
    chosen.extend(left_out);
    let mut obstacles = Obstacles::none(search.graph);
    for found in &chosen {
        obstacles.discourage(search, &found.path);
    }
    while chosen.len() < most {
        search.expect_reuse(&obstacles);
        let mut detours = MAX_DETOURS;
        let Some(next) = least_shared(search, &mut obstacles, &chosen, &mut detours) else {
            break;
        };
        obstacles.discourage(search, &next.path);
        chosen.push(next);
    }
    let mut sharing = chosen.split_off(independent.len());
    sharing.sort_by_key(Found::price_rank);
    sharing
}

/// The path that shares least with those chosen. When that is one of them, which only happens where hardly any others
/// exist, the best that does without one of its links, and so on: every other path lacks a link of each of them.
fn least_shared(
    search: &mut Search<'_>,
    obstacles: &mut Obstacles,
    chosen: &[Found],
    detours: &mut usize,
) -> Option<Found> {
    let found = search.cheapest(obstacles)?;
    if is_new(chosen, &found) {
        return Some(found);
    }
    let mut best: Option<Found> = None;
    for link in found.path.windows(2) {
        if *detours == 0 {
            break;
        }
        *detours -= 1;
        obstacles.bar(link[0], link[1]);
        let other = least_shared(search, obstacles, chosen, detours);
        obstacles.unbar();
        best = best.into_iter().chain(other).min_by_key(|found| found.rank);
    }
    best
}

fn is_new(chosen: &[Found], found: &Found) -> bool {
    chosen.iter().all(|known| known.path != found.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Price;
    use crate::fairness::entities::Tie;
    use crate::routing::graph::{ListedNeighbour, NodeFacts};
    use crate::time::UnixMillis;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    /// A graph of links with nodes that charge `price` of them; `operators` own some.
    fn graph(links: &[(u8, u8)], price: impl Fn(u8) -> u64, operators: &[(u8, u8)]) -> NetworkGraph {
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
                    msat_per_unit: price(node),
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

    const NOBODY: &BTreeSet<NodeId> = &BTreeSet::new();

    fn query(from: u8, to: u8) -> PathQuery<'static> {
        PathQuery {
            from: id(from),
            to: id(to),
            max_hops: 10,
            most: 4,
            avoid: NOBODY,
            latency_weight_msat: 0,
            surcharges_msat: None,
            tie_break: None,
        }
    }

    /// The paths' nodes, and whether they share.
    fn ask(graph: &NetworkGraph, query: PathQuery<'_>) -> Vec<(Vec<u8>, bool)> {
        let bytes = |path: &[NodeId]| path.iter().map(|node| node.0[0]).collect();
        let paths = graph.diverse_paths(&query);
        paths
            .iter()
            .map(|path| (bytes(&path.path), path.shares_router_with_earlier))
            .collect()
    }

    /// Two ways from 1 to 2 that meet at 3 on the way: a cheap one of eight hops to it and a dear one of six, and two
    /// more hops from there.
    fn cheap_but_long() -> NetworkGraph {
        let cheap = [
            (1, 10),
            (10, 11),
            (11, 12),
            (12, 13),
            (13, 14),
            (14, 15),
            (15, 16),
            (16, 3),
        ];
        let dear = [(1, 20), (20, 21), (21, 22), (22, 23), (23, 24), (24, 3)];
        let links = [&cheap[..], &dear, &[(3, 4), (4, 5), (5, 2)]].concat();
        graph(&links, |node| if node / 10 == 2 { 100 } else { 1 }, &[])
    }

    #[test]
    fn cheapest_way_over_eleven_hops_does_not_hide_the_dearer_one_of_nine() {
        let graph = cheap_but_long();
        let paths = ask(&graph, query(1, 2));
        assert_eq!(paths, [(vec![1, 20, 21, 22, 23, 24, 3, 4, 5, 2], false)]);
        let nine = PathQuery {
            max_hops: 9,
            ..query(1, 2)
        };
        assert_eq!(ask(&graph, nine).len(), 1);
        let eight = PathQuery {
            max_hops: 8,
            ..query(1, 2)
        };
        assert_eq!(ask(&graph, eight), []);
        // The longer way is taken where it fits.
        assert_eq!(
            ask(&graph, query(1, 4)),
            [
                (vec![1, 10, 11, 12, 13, 14, 15, 16, 3, 4], false),
                (vec![1, 20, 21, 22, 23, 24, 3, 4], true),
            ]
        );
    }

    #[test]
    fn dear_way_of_few_hops_to_a_node_is_kept_for_the_cheap_way_of_many_hops_from_it() {
        // To 3 over 10, 11, 12 (cheap) or 20 (dear); on to 2 over 13, 14, 15 (cheap) or 30 (very dear).
        let links = [
            &[(1, 10), (10, 11), (11, 12), (12, 3), (1, 20), (20, 3)][..],
            &[(3, 13), (13, 14), (14, 15), (15, 2), (3, 30), (30, 2)],
        ]
        .concat();
        let price = |node| match node {
            20 => 100,
            30 => 1000,
            _ => 1,
        };
        let six = PathQuery {
            max_hops: 6,
            most: 1,
            ..query(1, 2)
        };
        let paths = ask(&graph(&links, price, &[]), six);
        assert_eq!(paths, [(vec![1, 20, 3, 13, 14, 15, 2], false)]);
    }

    #[test]
    fn way_across_two_known_ones_is_found_though_either_would_share_less() {
        let links = [(1, 3), (3, 2), (1, 4), (4, 5), (5, 2), (3, 5)];
        let paths = ask(&graph(&links, |_| 1, &[]), query(1, 2));
        let expected = [
            (vec![1, 3, 2], false),
            (vec![1, 4, 5, 2], false),
            (vec![1, 3, 5, 2], true),
            (vec![1, 4, 5, 3, 2], true),
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn no_more_than_ten_hops_whatever_is_asked() {
        let row: Vec<_> = (1..12).map(|node| (node, node + 1)).collect();
        let graph = graph(&row, |_| 1, &[]);
        let far = |to| PathQuery {
            max_hops: 1000,
            most: 1000,
            ..query(1, to)
        };
        assert_eq!(ask(&graph, far(11)).len(), 1);
        assert_eq!(ask(&graph, far(12)), []);
    }

    #[test]
    fn two_independent_paths_are_found_though_the_cheapest_stands_in_the_way() {
        // 1-3-4-2 costs least and crosses both 1-3-5-2 and 1-6-4-2.
        let links = [(1, 3), (3, 4), (4, 2), (3, 5), (5, 2), (1, 6), (6, 4)];
        let graph = graph(
            &links,
            |node| if node >= 5 { 5 + u64::from(node) } else { 1 },
            &[],
        );
        let apart = [(vec![1, 3, 5, 2], false), (vec![1, 6, 4, 2], false)];
        let paths = ask(&graph, query(1, 2));
        assert_eq!(&paths[..2], apart);
        assert_eq!(paths[2], (vec![1, 3, 4, 2], true));
        let two = PathQuery {
            most: 2,
            ..query(1, 2)
        };
        assert_eq!(ask(&graph, two), apart);
        let one = PathQuery {
            most: 1,
            ..query(1, 2)
        };
        assert_eq!(ask(&graph, one), [(vec![1, 3, 4, 2], false)]);
    }

    #[test]
    fn cheapest_path_keeps_its_place_beside_three_independent_ones_that_it_crosses() {
        let across = [(1, 3), (3, 4), (4, 8), (8, 2)];
        let links = [
            &across[..],
            &[(3, 5), (5, 2), (1, 6), (6, 4), (4, 7), (7, 2), (1, 9), (9, 8)],
        ]
        .concat();
        let price = |node| match node {
            5 | 9 => 10,
            6 | 7 => 50,
            _ => 1,
        };
        let graph = graph(&links, price, &[]);
        let across = (vec![1, 3, 4, 8, 2], true);
        let three = PathQuery {
            most: 3,
            ..query(1, 2)
        };
        let paths = ask(&graph, three);
        assert_eq!((paths[1].1, &paths[2]), (false, &across));
        let paths = ask(&graph, query(1, 2));
        assert_eq!((paths[2].1, &paths[3]), (false, &across));
    }

    #[test]
    fn nodes_of_one_operator_do_not_stand_in_for_one_another() {
        let links = [(1, 3), (3, 2), (1, 4), (4, 2), (1, 5), (5, 2)];
        let paths = |operators: &[(u8, u8)]| ask(&graph(&links, |node| node.into(), operators), query(1, 2));
        let apart = paths(&[]);
        assert!(apart.len() == 3 && apart.iter().all(|(_, shares)| !shares));
        let merged = [
            (vec![1, 3, 2], false),
            (vec![1, 5, 2], false),
            (vec![1, 4, 2], true),
        ];
        assert_eq!(paths(&[(3, 99), (4, 99)]), merged);
        // The operator's key may be a node's own id.
        assert_eq!(paths(&[(4, 3)]), merged);
        // Whom the ends belong to closes neither them nor the way.
        assert_eq!(paths(&[(2, 99), (3, 99), (1, 4)]).len(), 3);
    }

    #[test]
    fn nodes_of_one_payee_do_not_stand_in_for_one_another_and_draw_one_lot() {
        let links = [(1, 3), (3, 2), (1, 4), (4, 2), (1, 5), (5, 2)];
        let mut entities = Entities::default();
        for node in [3, 4] {
            entities.tie(id(node), Tie::Payee([7; 33]));
        }
        let ask = |graph: &NetworkGraph, query: &PathQuery<'_>| -> Vec<(u8, bool)> {
            let paths = graph.diverse_paths_among(query, &entities);
            let of = |path: &CandidatePath| (path.path[1].0[0], path.shares_router_with_earlier);
            paths.iter().map(of).collect()
        };
        let rising = graph(&links, |node| node.into(), &[]);
        assert_eq!(ask(&rising, &query(1, 2)), [(3, false), (5, false), (4, true)]);
        let equal = graph(&links, |_| 10, &[]);
        let firsts = (0..300).map(|seed| {
            let asked = PathQuery {
                tie_break: Some(seed),
                ..query(1, 2)
            };
            ask(&equal, &asked)[0].0
        });
        let alone = firsts.filter(|router| *router == 5).count();
        assert!((110..190).contains(&alone), "half of 300, but {alone}");
    }

    #[test]
    fn behind_a_bottleneck_the_rest_still_differs_as_much_as_it_can() {
        let links = [(1, 3), (3, 4), (3, 5), (4, 6), (5, 6), (6, 2), (3, 6)];
        let paths = ask(&graph(&links, |_| 1, &[]), query(1, 2));
        let expected = [
            (vec![1, 3, 6, 2], false),
            (vec![1, 3, 4, 6, 2], true),
            (vec![1, 3, 5, 6, 2], true),
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn only_the_direct_link_and_ways_around_it() {
        let links = [(1, 2), (1, 3), (3, 2)];
        let paths = ask(&graph(&links, |_| 1, &[]), query(1, 2));
        assert_eq!(paths, [(vec![1, 2], false), (vec![1, 3, 2], false)]);
    }

    #[test]
    fn avoided_nodes_are_no_routers_and_surcharged_ones_come_last() {
        let links = [(1, 3), (3, 2), (1, 4), (4, 2)];
        let graph = graph(&links, |node| node.into(), &[]);
        let avoid = BTreeSet::from([id(3), id(1), id(2), id(77)]);
        let mut asked = query(1, 2);
        asked.avoid = &avoid;
        assert_eq!(ask(&graph, asked), [(vec![1, 4, 2], false)]);
        let surcharges = BTreeMap::from([(id(3), 20_000), (id(77), 50_000)]);
        let mut asked = query(1, 2);
        asked.surcharges_msat = Some(&surcharges);
        assert_eq!(ask(&graph, asked)[0], (vec![1, 4, 2], false));
    }

    #[test]
    fn payers_break_ties_differently_and_never_against_their_purse() {
        let links = [
            (1, 3),
            (3, 2),
            (1, 4),
            (4, 2),
            (1, 5),
            (5, 2),
            (1, 6),
            (6, 7),
            (7, 2),
        ];
        let firsts = |price: fn(u8) -> u64, operators: &[(u8, u8)]| -> BTreeMap<u8, usize> {
            let graph = graph(&links, price, operators);
            let mut firsts = BTreeMap::new();
            for seed in 0..300 {
                let asked = PathQuery {
                    tie_break: Some(seed),
                    ..query(1, 2)
                };
                *firsts.entry(ask(&graph, asked)[0].0[1]).or_default() += 1;
            }
            firsts
        };
        let even = firsts(|_| 0, &[]);
        assert_eq!(
            even.keys().collect::<Vec<_>>(),
            [&3, &4, &5],
            "and never over one hop more"
        );
        assert!(even.values().all(|count| (70..130).contains(count)), "{even:?}");
        let merged = firsts(|_| 7, &[(3, 9), (4, 9)]);
        assert!(
            (110..190).contains(&merged[&5]),
            "two nodes of one are drawn as one: {merged:?}"
        );
        assert_eq!(firsts(|node| u64::from(node == 4 || node == 5), &[]).len(), 1);
    }

    #[test]
    fn nobody_unknown_oneself_and_none_wanted_have_no_paths() {
        let graph = graph(&[(1, 2), (3, 4)], |_| 1, &[]);
        let none = PathQuery {
            most: 0,
            ..query(1, 2)
        };
        let no_hops = PathQuery {
            max_hops: 0,
            ..query(1, 2)
        };
        for query in [query(1, 3), query(1, 9), query(9, 1), query(1, 1), none, no_hops] {
            assert_eq!(ask(&graph, query), []);
        }
    }

    #[test]
    fn no_price_weight_or_surcharge_is_too_large() {
        let links = [(1, 3), (3, 4), (4, 2), (3, 5), (5, 2)];
        let graph = graph(&links, |_| u64::MAX, &[]);
        let surcharges = BTreeMap::from([(id(5), u64::MAX)]);
        let paths = graph.diverse_paths(&PathQuery {
            latency_weight_msat: u64::MAX,
            surcharges_msat: Some(&surcharges),
            ..query(1, 2)
        });
        let prices: Vec<_> = paths
            .iter()
            .map(|path| (path.price_msat_per_unit, path.cost))
            .collect();
        assert_eq!(prices, [(u64::MAX, 3), (u64::MAX, 3)]);
    }
}
