//! What to ask in a round of a discovery: a pure choice, so that it can be judged without a network.
//!
//! What is known decides. Paths from the graph are asked for by name; where they are few, branches go along the successors
//! of the distance vector; a ring floods only when neither is known, or when a round brought no answer: then either what
//! is known is wrong or somebody on it swallows, and asking everybody is the way around both.
//!
//! Who stayed silent is gone around while there is another way. Where there is none it is asked again: a lost message
//! looks like a villain, and refusing the only way would make every loss final.

use std::collections::BTreeMap;

use crate::identity::NodeId;
use crate::limits::{MAX_AVOIDED_NODES, MAX_BRANCHES, MAX_ROUTES_PER_DESTINATION, RING_HOPS};

/// What a round starts from.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// Counts from 0.
    pub number: u32,
    /// Longest path wanted, in hops.
    pub max_hops: u8,
    /// Paths that the graph suggests, this node first and the destination last, best first.
    pub candidates: &'a [Vec<NodeId>],
    /// Neighbours that the distance vector allows as next hop, best first.
    pub successors: &'a [NodeId],
    /// Paths asked for in earlier rounds of which nothing was heard, oldest first. Of a branch only its first hop is
    /// known: it is this node, that hop and the destination.
    pub silent: &'a [Vec<NodeId>],
}

/// One request of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// To confirm this path, this node first.
    Route(Vec<NodeId>),
    /// Along successors.
    Branch {
        /// The first hop.
        first: NodeId,
        /// Whom to go around.
        avoid: Vec<NodeId>,
    },
    /// To everybody near.
    Ring {
        /// How far.
        max_hops: u8,
        /// Whom to leave out.
        avoid: Vec<NodeId>,
    },
}

/// The requests of a round.
pub fn plan_round(round: &Round<'_>) -> Vec<Ask> {
    let suspects = suspects(round.silent);
    let routes = routes(round, &suspects);
    let branches = branches(round, &suspects, routes.len());
    let needs_ring = round.number > 0 || (routes.is_empty() && branches.is_empty());
    let ring = needs_ring.then(|| ring(round, &suspects));
    routes.into_iter().chain(branches).chain(ring).collect()
}

/// How far to look for a second way when only one of `hops` is known, found by nothing wider than a ring of `ring` hops
/// (0: by no ring); `None` when everything within the caller's limit was asked already.
pub fn wider_ring(ring: u8, hops: u8, max_hops: u8) -> Option<u8> {
    let reach = ring.max(hops);
    let step = RING_HOPS.into_iter().find(|step| *step > reach);
    Some(step.unwrap_or(max_hops).min(max_hops)).filter(|step| *step > ring)
}

/// The routers of silent paths, those of the most paths first: who swallows is on each of them.
fn suspects(silent: &[Vec<NodeId>]) -> Vec<NodeId> {
    let mut seen: BTreeMap<NodeId, (usize, usize)> = BTreeMap::new();
    let routers = silent
        .iter()
        .flat_map(|path| path.iter().skip(1).take(path.len().saturating_sub(2)));
    for (place, router) in routers.enumerate() {
        seen.entry(*router).or_insert((0, place)).0 += 1;
    }
    let mut suspects: Vec<_> = seen.into_iter().collect();
    suspects.sort_by_key(|(_, (times, first))| (usize::MAX - times, *first));
    suspects.into_iter().map(|(node, _)| node).collect()
}

/// Candidates that no suspect is on; when there is none, those with the fewest.
fn routes(round: &Round<'_>, suspects: &[NodeId]) -> Vec<Ask> {
    let mut fit: Vec<(usize, &Vec<NodeId>)> = Vec::new();
    for path in round.candidates {
        let hops = path.len().saturating_sub(1);
        let is_known = fit.iter().any(|(_, known)| *known == path);
        if (1..=usize::from(round.max_hops)).contains(&hops) && !is_known {
            let routers = path.iter().take(hops).skip(1);
            fit.push((routers.filter(|node| suspects.contains(node)).count(), path));
        }
    }
    fit.sort_by_key(|(suspected, _)| *suspected);
    if fit.first().is_some_and(|(suspected, _)| *suspected == 0) {
        fit.retain(|(suspected, _)| *suspected == 0);
    }
    fit.into_iter()
        .take(MAX_ROUTES_PER_DESTINATION)
        .map(|(_, path)| Ask::Route(path.clone()))
        .collect()
}

/// As many branches as routes are missing, over different first hops, suspected ones only when there are no others.
fn branches(round: &Round<'_>, suspects: &[NodeId], routes: usize) -> Vec<Ask> {
    let mut first_hops = round.successors.to_vec();
    if first_hops.iter().any(|first| !suspects.contains(first)) {
        first_hops.retain(|first| !suspects.contains(first));
    }
    first_hops
        .into_iter()
        .take(MAX_BRANCHES.saturating_sub(routes))
        .map(|first| Ask::Branch {
            first,
            avoid: shortened(suspects),
        })
        .collect()
}

/// Every other ring leaves nobody out: the suspects may be the only way.
fn ring(round: &Round<'_>, suspects: &[NodeId]) -> Ask {
    let step = RING_HOPS.get(round.number as usize).copied();
    let shortest = round.candidates.iter().map(|path| path.len().saturating_sub(1));
    let least = u8::try_from(shortest.min().unwrap_or(0)).unwrap_or(u8::MAX);
    Ask::Ring {
        max_hops: step.unwrap_or(u8::MAX).max(least).min(round.max_hops),
        avoid: if round.number % 2 == 1 {
            shortened(suspects)
        } else {
            Vec::new()
        },
    }
}

fn shortened(suspects: &[NodeId]) -> Vec<NodeId> {
    suspects.iter().take(MAX_AVOIDED_NODES).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(nodes: &[u8]) -> Vec<NodeId> {
        nodes.iter().map(|byte| NodeId([*byte; 32])).collect()
    }

    fn first_round<'a>(candidates: &'a [Vec<NodeId>], successors: &'a [NodeId]) -> Round<'a> {
        Round {
            number: 0,
            max_hops: 10,
            candidates,
            successors,
            silent: &[],
        }
    }

    fn ring_of(asks: &[Ask]) -> Option<(u8, Vec<NodeId>)> {
        asks.iter().find_map(|ask| match ask {
            Ask::Ring { max_hops, avoid } => Some((*max_hops, avoid.clone())),
            _ => None,
        })
    }

    #[test]
    fn four_known_paths_are_confirmed_and_nobody_else_is_asked() {
        let candidates: Vec<_> = [2, 3, 4, 5, 6].map(|router| path(&[1, router, 9])).into();
        let successors = path(&[2, 3]);
        let asks = plan_round(&first_round(&candidates, &successors));
        let named: Vec<_> = candidates[..4].iter().cloned().map(Ask::Route).collect();
        assert_eq!(asks, named);
    }

    #[test]
    fn branches_make_up_for_missing_candidates_over_different_first_hops() {
        let candidates = [path(&[1, 2, 9])];
        let successors = path(&[3, 4, 5, 6]);
        let asks = plan_round(&first_round(&candidates, &successors));
        let firsts: Vec<_> = asks
            .iter()
            .filter_map(|ask| match ask {
                Ask::Branch { first, .. } => Some(*first),
                _ => None,
            })
            .collect();
        assert_eq!(firsts, path(&[3, 4, 5]));
        assert_eq!(ring_of(&asks), None);
    }

    #[test]
    fn ring_grows_when_nothing_is_known_and_keeps_to_the_callers_limit() {
        for (max_hops, reach) in [(10, [2, 4, 10, 10]), (3, [2, 3, 3, 3]), (1, [1, 1, 1, 1])] {
            for (number, expected) in (0..).zip(reach) {
                let round = Round {
                    number,
                    max_hops,
                    ..first_round(&[], &[])
                };
                assert_eq!(
                    plan_round(&round),
                    [Ask::Ring {
                        max_hops: expected,
                        avoid: Vec::new()
                    }]
                );
            }
        }
    }

    #[test]
    fn silence_brings_a_ring_and_a_way_around_the_silent() {
        let candidates = [path(&[1, 2, 3, 9]), path(&[1, 4, 5, 9])];
        let silent = [path(&[1, 2, 3, 9]), path(&[1, 2, 6, 9])];
        let successors = path(&[2, 4]);
        let round = Round {
            number: 1,
            silent: &silent,
            ..first_round(&candidates, &successors)
        };
        let asks = plan_round(&round);
        assert_eq!(asks[0], Ask::Route(candidates[1].clone()));
        let avoid = path(&[2, 3, 6]);
        let first = NodeId([4; 32]);
        assert_eq!(
            asks[1],
            Ask::Branch {
                first,
                avoid: avoid.clone()
            }
        );
        assert_eq!(ring_of(&asks), Some((4, avoid)));
        assert_eq!(asks.len(), 3);
    }

    #[test]
    fn only_way_is_asked_again_though_it_stayed_silent() {
        let (candidates, successors) = ([path(&[1, 2, 9])], path(&[2]));
        let round = Round {
            number: 2,
            silent: &candidates,
            ..first_round(&candidates, &successors)
        };
        let asks = plan_round(&round);
        assert_eq!(asks[0], Ask::Route(candidates[0].clone()));
        assert!(matches!(&asks[1], Ask::Branch { first, .. } if *first == NodeId([2; 32])));
        assert_eq!(
            ring_of(&asks),
            Some((10, Vec::new())),
            "nobody is left out of this one"
        );
    }

    #[test]
    fn ring_reaches_at_least_as_far_as_the_nearest_candidate() {
        let candidates = [path(&[1, 2, 3, 4, 5, 6, 9]), path(&[1, 7, 2, 3, 4, 5, 6, 9])];
        let round = Round {
            number: 1,
            ..first_round(&candidates, &[])
        };
        assert_eq!(ring_of(&plan_round(&round)), Some((6, Vec::new())));
    }

    #[test]
    fn second_way_is_looked_for_one_step_further_out() {
        let asked = [
            (2, 1, 10),
            (2, 2, 10),
            (4, 4, 10),
            (0, 3, 10),
            (0, 7, 10),
            (2, 2, 3),
        ];
        let wider = asked.map(|(ring, hops, max_hops)| wider_ring(ring, hops, max_hops));
        assert_eq!(wider, [Some(4), Some(4), Some(10), Some(4), Some(10), Some(3)]);
        assert_eq!(wider_ring(3, 3, 3), None);
        assert_eq!(wider_ring(10, 2, 10), None);
    }

    #[test]
    fn lists_stay_within_their_bounds_and_long_candidates_are_left_out() {
        let long: Vec<u8> = (1..=12).collect();
        let silent: Vec<_> = (0..8).map(|_| path(&long)).collect();
        let round = Round {
            number: 1,
            silent: &silent,
            ..first_round(&silent, &[])
        };
        let asks = plan_round(&round);
        let (_, avoid) = ring_of(&asks).unwrap();
        assert_eq!((asks.len(), avoid.len()), (1, MAX_AVOIDED_NODES));
    }
}
