//! What a search must not use, or only for want of anything else.

use std::collections::BTreeSet;

use super::NetworkGraph;
use super::search::Search;

/// What using an earlier path's link again costs in comparisons, in msat: more than any path of ten hops.
pub(super) const REUSED_LINK_MSAT: u64 = 1 << 48;

/// What using an earlier path's router again costs in comparisons, in msat: more than using all its links again. Ten
/// hops of both fit into 58 bits.
const REUSED_ROUTER_MSAT: u64 = 1 << 54;

/// Obstacles on the way of one search.
#[derive(Clone)]
pub(super) struct Obstacles {
    /// Routers not to be used, by slot.
    closed: Vec<bool>,
    /// Links not to be used, in the direction of the path.
    barred: Vec<(u32, u32)>,
    /// Routers of earlier paths, and others of their entities, by slot.
    used: Vec<bool>,
    /// Links of earlier paths, in their direction, and by slot whether one ends there.
    used_links: BTreeSet<(u32, u32)>,
    has_used_link: Vec<bool>,
}

impl Obstacles {
    pub(super) fn none(graph: &NetworkGraph) -> Self {
        Self {
            closed: vec![false; graph.nodes.len()],
            barred: Vec::new(),
            used: Vec::new(),
            used_links: BTreeSet::new(),
            has_used_link: Vec::new(),
        }
    }

    /// Closes the entities of a path's routers; of a path without routers, its link.
    pub(super) fn close(&mut self, search: &Search<'_>, path: &[u32]) {
        for member in entities(search, path) {
            self.closed[member] = true;
        }
        if let [from, to] = path {
            self.bar(*from, *to);
        }
    }

    /// Closes one link until it is unbarred.
    pub(super) fn bar(&mut self, from: u32, to: u32) {
        self.barred.push((from, to));
    }

    /// Opens the link barred last.
    pub(super) fn unbar(&mut self) {
        self.barred.pop();
    }

    /// Makes using a path's routers and links again a last resort.
    pub(super) fn discourage(&mut self, search: &Search<'_>, path: &[u32]) {
        self.used.resize(search.graph.nodes.len(), false);
        self.has_used_link.resize(search.graph.nodes.len(), false);
        for member in entities(search, path) {
            self.used[member] = true;
        }
        for link in path.windows(2) {
            self.used_links.insert((link[0], link[1]));
            self.has_used_link[link[1] as usize] = true;
        }
    }

    /// Whether a path may visit a node.
    #[inline]
    pub(super) fn open(&self, node: u32) -> bool {
        !self.closed[node as usize]
    }

    /// Whether a path may step from one node to the next.
    #[inline]
    pub(super) fn allow(&self, from: u32, next: u32) -> bool {
        self.open(next) && !self.barred.contains(&(from, next))
    }

    /// What stepping from one node to the next costs for being used already.
    #[inline]
    pub(super) fn reuse_msat(&self, from: u32, next: u32) -> u64 {
        if self.used.is_empty() {
            return 0;
        }
        let router = u64::from(self.used[next as usize]) * REUSED_ROUTER_MSAT;
        let link = self.has_used_link[next as usize] && self.used_links.contains(&(from, next));
        router + u64::from(link) * REUSED_LINK_MSAT
    }
}

/// The routers of a path and all others of their entities, by slot; never its ends, which every path has.
fn entities(search: &Search<'_>, path: &[u32]) -> impl Iterator<Item = usize> {
    let ends = (path.first().copied(), path.last().copied());
    let members = routers(path)
        .iter()
        .flat_map(|router| search.graph.one_with(*router, search.entities));
    members
        .filter(move |member| Some(*member) != ends.0 && Some(*member) != ends.1)
        .map(|member| member as usize)
}

/// The nodes between source and destination.
pub(super) fn routers(path: &[u32]) -> &[u32] {
    path.get(1..path.len().saturating_sub(1)).unwrap_or_default()
}
