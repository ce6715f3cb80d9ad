//! Watches every router after every input: do next hops go in circles, and does a feasible distance ever rise?
//!
//! A router's choice changes only while it takes an input, so a circle that comes about runs through the router that just
//! took one: it is enough to follow the next hops from there. That routers along the way know better a moment later does
//! not matter, a packet in between goes round; so every circle counts, however short it lasts.
//!
//! Feasible distances (RFC 8966 section 3.5.1) are why there should be none: within one sequence number of the
//! destination they may only fall, and the sequence number itself may only rise.

/// No next hop.
pub(crate) const NOBODY: u32 = u32::MAX;

/// How many planes there are.
pub(crate) const PLANES: usize = 2;

/// Most faults that are kept in full; the rest are only counted.
const KEPT: usize = 8;

/// A circle of next hops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loop {
    /// When it came about, in microseconds of the simulation.
    pub at_us: u64,
    /// In which plane.
    pub plane: usize,
    /// On the way to which node.
    pub destination: u32,
    /// The nodes in it, the one whose choice closed it first.
    pub nodes: Vec<u32>,
}

/// A feasible distance that rose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Risen {
    /// When, in microseconds of the simulation.
    pub at_us: u64,
    /// In which plane.
    pub plane: usize,
    /// At which node.
    pub node: u32,
    /// To which node.
    pub destination: u32,
    /// Sequence number and metric before.
    pub before: (u64, u32),
    /// Sequence number and metric after.
    pub after: (u64, u32),
}

/// What one router holds of one destination in one plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Held {
    /// The selected next hop and the metric through it.
    pub(crate) next: Option<(u32, u32)>,
    /// Sequence number and metric of the feasible distance.
    pub(crate) feasible: Option<(u64, u32)>,
}

/// What all routers hold of one destination in one plane.
struct Table {
    next: Vec<u32>,
    metric: Vec<u32>,
    feasible: Vec<Option<(u64, u32)>>,
}

/// What all routers hold, and what was wrong with it at any time.
pub struct Watch {
    /// The nodes that are destinations.
    destinations: Vec<u32>,
    /// Of plane `p` and the destination at place `d`: at `p * destinations + d`.
    tables: Vec<Table>,
    loops: [u64; PLANES],
    risen: [u64; PLANES],
    first_loops: Vec<Loop>,
    first_risen: Vec<Risen>,
    changes: [u64; PLANES],
    last_change_us: [u64; PLANES],
    /// Nodes that say what is not true.
    distrusted: Vec<bool>,
    loops_through_villains: [u64; PLANES],
}

impl Watch {
    pub(crate) fn new(nodes: usize, destinations: Vec<u32>) -> Self {
        let table = || Table {
            next: vec![NOBODY; nodes],
            metric: vec![0; nodes],
            feasible: vec![None; nodes],
        };
        let tables = std::iter::repeat_with(table).take(PLANES * destinations.len());
        Self {
            tables: tables.collect(),
            destinations,
            loops: [0; PLANES],
            risen: [0; PLANES],
            first_loops: Vec::new(),
            first_risen: Vec::new(),
            changes: [0; PLANES],
            last_change_us: [0; PLANES],
            distrusted: vec![false; nodes],
            loops_through_villains: [0; PLANES],
        }
    }

    /// The nodes whose routes are watched.
    pub fn destinations(&self) -> &[u32] {
        &self.destinations
    }

    /// Circles that came about so far, by plane, without a villain in them.
    pub fn loops(&self) -> [u64; PLANES] {
        self.loops
    }

    /// Circles with a villain in them, by plane: who says what is not true can send packets round in circles, and no rule
    /// that the others follow can keep him from it.
    pub fn loops_through_villains(&self) -> [u64; PLANES] {
        self.loops_through_villains
    }

    /// Feasible distances that rose so far, by plane.
    pub fn risen(&self) -> [u64; PLANES] {
        self.risen
    }

    /// The first few circles in full.
    pub fn first_loops(&self) -> &[Loop] {
        &self.first_loops
    }

    /// The first few feasible distances that rose, in full.
    pub fn first_risen(&self) -> &[Risen] {
        &self.first_risen
    }

    /// How often a router changed its next hop or metric so far, by plane.
    pub fn changes(&self) -> [u64; PLANES] {
        self.changes
    }

    /// When that last happened, in microseconds of the simulation, by plane.
    pub fn last_change_us(&self) -> [u64; PLANES] {
        self.last_change_us
    }

    /// Everybody's next hop towards the destination at this place; `u32::MAX` for none.
    pub fn next_hops(&self, plane: usize, place: usize) -> &[u32] {
        &self.table(plane, place).next
    }

    /// The metric through each node's next hop; it means nothing without one.
    pub fn metrics(&self, plane: usize, place: usize) -> &[u32] {
        &self.table(plane, place).metric
    }

    fn table(&self, plane: usize, place: usize) -> &Table {
        &self.tables[plane * self.destinations.len() + place]
    }

    /// A router took an input: this is what it holds of one destination now.
    pub(crate) fn observe(&mut self, at_us: u64, plane: usize, place: usize, node: u32, held: Held) {
        let destination = self.destinations[place];
        let slot = plane * self.destinations.len() + place;
        let table = &mut self.tables[slot];
        let before = std::mem::replace(&mut table.feasible[node as usize], held.feasible);
        if let (Some(before), Some(after)) = (before, held.feasible)
            && (after.0 < before.0 || after.0 == before.0 && after.1 > before.1)
        {
            self.risen[plane] += 1;
            let risen = Risen {
                at_us,
                plane,
                node,
                destination,
                before,
                after,
            };
            keep(&mut self.first_risen, risen);
        }
        let (next, metric) = held.next.unwrap_or((NOBODY, 0));
        let old = std::mem::replace(&mut table.next[node as usize], next);
        let old_metric = std::mem::replace(&mut table.metric[node as usize], metric);
        if (old, old_metric) == (next, metric) {
            return;
        }
        self.changes[plane] += 1;
        self.last_change_us[plane] = at_us;
        if old != next && leads_back(&table.next, node) {
            let nodes = circle(&table.next, node);
            if nodes.iter().any(|node| self.distrusted[*node as usize]) {
                self.loops_through_villains[plane] += 1;
                return;
            }
            self.loops[plane] += 1;
            let found = Loop {
                at_us,
                plane,
                destination,
                nodes,
            };
            keep(&mut self.first_loops, found);
        }
    }

    /// From now on a node says what is not true, or no more.
    pub(crate) fn distrust(&mut self, node: usize, distrusted: bool) {
        self.distrusted[node] = distrusted;
    }

    /// A router is gone, and with it all it held.
    pub(crate) fn forget(&mut self, node: usize) {
        for table in &mut self.tables {
            table.next[node] = NOBODY;
            table.feasible[node] = None;
        }
    }
}

fn keep<T>(list: &mut Vec<T>, item: T) {
    if list.len() < KEPT {
        list.push(item);
    }
}

/// Whether following the next hops from `node` comes back to it. A circle further on that does not run through it ends
/// the search after as many steps as there are nodes.
fn leads_back(next: &[u32], node: u32) -> bool {
    let mut at = next[node as usize];
    for _ in 0..next.len() {
        if at == NOBODY || at == node {
            return at == node;
        }
        at = next[at as usize];
    }
    false
}

fn circle(next: &[u32], node: u32) -> Vec<u32> {
    let mut nodes = vec![node];
    let mut at = next[node as usize];
    while at != node {
        nodes.push(at);
        at = next[at as usize];
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(next: u32) -> Held {
        Held {
            next: Some((next, 1)),
            feasible: None,
        }
    }

    fn feasible(seqno: u64, metric: u32) -> Held {
        Held {
            next: None,
            feasible: Some((seqno, metric)),
        }
    }

    #[test]
    fn circle_is_found_when_its_last_node_closes_it_and_once() {
        let mut watch = Watch::new(5, vec![0]);
        for (node, next) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
            watch.observe(1, 0, 0, node, by(next));
        }
        assert_eq!(watch.loops(), [0, 0]);
        watch.observe(2, 0, 0, 2, by(4));
        watch.observe(3, 0, 0, 2, by(4));
        watch.observe(4, 1, 0, 2, by(4));
        assert_eq!(watch.loops(), [1, 0]);
        assert_eq!(watch.first_loops()[0].nodes, [2, 4, 3]);
        assert_eq!(watch.first_loops()[0].at_us, 2);
    }

    #[test]
    fn way_into_a_circle_is_not_another_one() {
        let mut watch = Watch::new(4, vec![0]);
        watch.observe(1, 0, 0, 1, by(2));
        watch.observe(1, 0, 0, 2, by(1));
        watch.observe(1, 0, 0, 3, by(1));
        assert_eq!(watch.loops(), [1, 0]);
    }

    #[test]
    fn feasible_distance_may_rise_with_a_new_sequence_number_only() {
        let mut watch = Watch::new(2, vec![0]);
        for held in [
            feasible(1, 10),
            feasible(1, 7),
            feasible(2, 90),
            Held::default(),
            feasible(1, 99),
        ] {
            watch.observe(1, 0, 0, 1, held);
        }
        assert_eq!(watch.risen(), [0, 0]);
        watch.observe(1, 0, 0, 1, feasible(1, 100));
        watch.observe(1, 0, 0, 1, feasible(0, 1));
        assert_eq!(watch.risen(), [2, 0]);
        assert_eq!(watch.first_risen()[0].before, (1, 99));
    }

    #[test]
    fn router_that_is_gone_closes_no_circle() {
        let mut watch = Watch::new(3, vec![0]);
        watch.observe(1, 0, 0, 1, by(2));
        watch.forget(1);
        watch.observe(2, 0, 0, 2, by(1));
        assert_eq!(watch.loops(), [0, 0]);
    }
}
