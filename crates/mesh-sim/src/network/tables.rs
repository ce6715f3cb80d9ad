//! What the routers hold, read from their own tables: for the watch after every input, for the oracle when it is asked.

use mesh_core::core::Core;
use mesh_core::identity::NodeId;
use mesh_core::routing::{Plane, RoutingCounters};

use super::Network;
use super::oracle::Graph;
use super::watch::Held;

impl Network {
    /// Tells the watch what changed at a node that has just taken an input.
    pub(super) fn watch_changes(&mut self, node: usize) {
        let Some(core) = self.nodes[node].core.as_mut() else {
            return;
        };
        for id in core.take_changed_destinations() {
            let Some(destination) = self.by_id.get(&id).map(|number| *number as usize) else {
                continue;
            };
            let place = self.places[destination];
            if place == u32::MAX || destination == node {
                continue;
            }
            for plane in Plane::ALL {
                let held = held(core, &id, plane, |neighbour| self.by_id.get(neighbour).copied());
                self.watch
                    .observe(self.now, plane.index(), place as usize, node as u32, held);
            }
        }
    }

    /// All directions of all live links at the costs that the cores themselves hold, or at 1 each to count hops. A
    /// direction that its core has not measured yet has no cost; it is left out of the costs, and counted.
    pub fn graph(&self, plane: Plane) -> (Graph, usize) {
        let mut directions = Vec::with_capacity(self.links.all.len() * 2);
        let mut unmeasured = 0;
        for (a, b) in self.live_links() {
            for (from, to) in [(a, b), (b, a)] {
                match plane {
                    Plane::Hops => directions.push((from as u32, to as u32, 1)),
                    Plane::Cost => match self.link_cost(from, to) {
                        Some(cost) => directions.push((from as u32, to as u32, cost)),
                        None => unmeasured += 1,
                    },
                }
            }
        }
        (Graph::new(self.nodes.len(), &directions), unmeasured)
    }

    /// What a node holds the link to a neighbour to cost.
    pub fn link_cost(&self, node: usize, neighbour: usize) -> Option<u32> {
        let core = self.nodes[node].core.as_ref()?;
        core.routing().vector.link_cost(&self.nodes[neighbour].id)
    }

    /// What all routers have said so far, those that are dead by now included.
    pub fn said(&self) -> RoutingCounters {
        let running = self.nodes.iter().filter_map(|node| node.core.as_ref());
        let counters = running.map(|core| core.routing().vector.counters);
        counters.fold(self.said_by_the_dead, |sum, one| add(&sum, &one))
    }

    /// Keeps what a node said before it dies.
    pub(super) fn keep_what_was_said(&mut self, node: usize) {
        if let Some(core) = &self.nodes[node].core {
            self.said_by_the_dead = add(&self.said_by_the_dead, &core.routing().vector.counters);
        }
    }
}

fn held(core: &Core, id: &NodeId, plane: Plane, number: impl Fn(&NodeId) -> Option<u32>) -> Held {
    let vector = &core.routing().vector;
    let next = vector.next_hop(id, plane);
    Held {
        next: next.and_then(|hop| Some((number(&hop.neighbour)?, hop.metric))),
        feasible: vector.feasible_distance(id, plane),
    }
}

fn add(a: &RoutingCounters, b: &RoutingCounters) -> RoutingCounters {
    let planes = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[1] + b[1]];
    RoutingCounters {
        update_frames_sent: a.update_frames_sent + b.update_frames_sent,
        routes_sent: planes(a.routes_sent, b.routes_sent),
        announcements_sent: a.announcements_sent + b.announcements_sent,
        bodies_sent: a.bodies_sent + b.bodies_sent,
        repeated: a.repeated + b.repeated,
        requests_sent: planes(a.requests_sent, b.requests_sent),
        requests_handed_on: a.requests_handed_on + b.requests_handed_on,
        seqnos_made: a.seqnos_made + b.seqnos_made,
    }
}
