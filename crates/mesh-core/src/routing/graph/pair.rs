//! Two paths without a common router and with the fewest hops together (Suurballe 1974, in the form that Bhandari gives
//! for routers: each router of the shortest path is split in two, so that the second path may touch it only to walk the
//! shortest one backwards).
//!
//! Hops are counted, not money: every reduced length is then 0, 1 or 2, a few buckets serve for a priority queue, and
//! what can be promised about the hop limit is plain.

use std::collections::BTreeMap;

use super::bounds::UNREACHABLE;
use super::search::Search;

const UNSETTLED: u32 = u32::MAX;

/// The walk that makes a second path. It runs from the destination to the source, because hops to the destination
/// are known; they are the potentials. A state is a node, doubled: even for the side on which any link may be taken,
/// odd for having come upon a router of the shortest path, which leaves only the way back along it.
struct Walk<'s, 'g> {
    search: &'s Search<'g>,
    /// The shortest path, destination first.
    shortest: Vec<u32>,
    /// Places of its routers in it.
    places: BTreeMap<u32, usize>,
    parents: Vec<u32>,
    /// States to be settled and whence, by reduced length.
    buckets: Vec<Vec<(u32, u32)>>,
}

/// The two paths, source first. `None` when no two exist whose hops together are within twice the limit.
pub(super) fn fewest_hops_pair(search: &Search<'_>) -> Option<[Vec<u32>; 2]> {
    let open = |end: u32| {
        let edges = search.graph.edges_of(end).iter();
        edges
            .filter(|edge| search.hops_left[edge.to as usize] != UNREACHABLE)
            .count()
    };
    if open(search.from) < 2 || open(search.to) < 2 {
        return None;
    }
    let mut walk = Walk::new(search)?;
    walk.run().then(|| walk.pair()).flatten()
}

fn free_side(node: u32) -> u32 {
    2 * node
}

fn bound_side(node: u32) -> u32 {
    2 * node + 1
}

impl<'s, 'g> Walk<'s, 'g> {
    fn new(search: &'s Search<'g>) -> Option<Self> {
        let shortest = shortest(search)?;
        let hops = shortest.len() - 1;
        let slack = 2 * usize::from(search.max_hops).saturating_sub(hops);
        let places = shortest[1..hops]
            .iter()
            .enumerate()
            .map(|(place, node)| (*node, place + 1))
            .collect();
        Some(Self {
            search,
            places,
            parents: vec![UNSETTLED; 2 * search.graph.nodes.len()],
            buckets: vec![Vec::new(); slack + 1],
            shortest,
        })
    }

    /// Walks until the source is reached; false when it is not.
    fn run(&mut self) -> bool {
        let start = free_side(self.search.to);
        self.buckets[0].push((start, start));
        for length in 0..self.buckets.len() {
            while let Some((state, parent)) = self.buckets[length].pop() {
                if self.parents[state as usize] != UNSETTLED {
                    continue;
                }
                self.parents[state as usize] = parent;
                if state == free_side(self.search.from) {
                    return true;
                }
                self.leave(state, length);
            }
        }
        false
    }

    fn leave(&mut self, state: u32, length: usize) {
        let node = state / 2;
        let place = self.places.get(&node).copied();
        match place {
            Some(place) if state == bound_side(node) => {
                // Length −1, and one hop nearer to the destination: reduced to 0.
                let before = self.shortest[place - 1];
                if before != self.search.to {
                    self.buckets[length].push((free_side(before), state));
                }
            }
            _ => {
                self.take_links(node, place, state, length);
                if place.is_some() {
                    self.buckets[length].push((bound_side(node), state));
                }
            }
        }
    }

    fn take_links(&mut self, node: u32, place: Option<usize>, state: u32, length: usize) {
        let hops_left = &self.search.hops_left;
        let on_shortest = if node == self.search.to { Some(0) } else { place };
        let next_on_shortest = on_shortest.and_then(|place| self.shortest.get(place + 1));
        for edge in self.search.graph.edges_of(node) {
            let next = edge.to;
            if hops_left[next as usize] == UNREACHABLE
                || next == self.search.to
                || next_on_shortest == Some(&next)
            {
                continue;
            }
            let reduced = 1 + hops_left[node as usize] - hops_left[next as usize];
            let side = if self.places.contains_key(&next) {
                bound_side(next)
            } else {
                free_side(next)
            };
            if let Some(bucket) = self.buckets.get_mut(length + usize::from(reduced)) {
                bucket.push((side, state));
            }
        }
    }

    /// The two paths that the shortest one and the walk are together, without the links that one takes forwards and
    /// the other backwards.
    fn pair(&self) -> Option<[Vec<u32>; 2]> {
        let mut links: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for link in self.shortest.windows(2) {
            links.entry(link[0]).or_default().push(link[1]);
        }
        let mut state = free_side(self.search.from);
        while self.parents[state as usize] != state {
            let parent = self.parents[state as usize];
            let (from, to) = (parent / 2, state / 2);
            if from != to && parent == bound_side(from) {
                links.get_mut(&to)?.retain(|next| *next != from);
            } else if from != to {
                links.entry(from).or_default().push(to);
            }
            state = parent;
        }
        Some([self.follow(&mut links)?, self.follow(&mut links)?])
    }

    fn follow(&self, links: &mut BTreeMap<u32, Vec<u32>>) -> Option<Vec<u32>> {
        let mut path = vec![self.search.to];
        let mut at = self.search.to;
        while at != self.search.from {
            at = links.get_mut(&at)?.pop()?;
            path.push(at);
        }
        path.reverse();
        Some(path)
    }
}

/// A path with the fewest hops, destination first.
fn shortest(search: &Search<'_>) -> Option<Vec<u32>> {
    let mut path = vec![search.from];
    let mut at = search.from;
    while at != search.to {
        let left = search.hops_left[at as usize].checked_sub(1)?;
        let mut edges = search.graph.edges_of(at).iter();
        at = edges.find(|edge| search.hops_left[edge.to as usize] == left)?.to;
        path.push(at);
    }
    path.reverse();
    Some(path)
}
