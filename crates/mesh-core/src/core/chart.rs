//! The graph of the mesh, kept up to date: others from what they announce, this node from its own links.

use crate::announcement::Body;
use crate::identity::NodeId;
use crate::limits::ANNOUNCEMENT_LIFETIME;
use crate::routing::graph::{GraphChange, NodeFacts};
use crate::time::{Now, UnixMillis};

use super::Core;

impl Core {
    /// A node announced itself. A graph without room is no reason to doubt the announcement: the vector reaches the node
    /// all the same.
    pub(super) fn chart(&mut self, origin: NodeId, body: &Body, expires: UnixMillis) {
        let facts = NodeFacts {
            price: body.price,
            operator: body.operator.map(|certificate| certificate.operator),
            expires,
        };
        self.note_owner(origin, body);
        match self.routes.graph.announce(origin, facts, &body.neighbours) {
            Ok(change) => self.forget_changed(&origin, &change),
            Err(reason) => self.count(reason),
        }
    }

    /// This node's own links changed. It does not wait for its own announcement, nor need it make any.
    pub(super) fn chart_self(&mut self, now: Now) {
        let body = self.own_body();
        self.chart(self.node_id(), &body, now.unix + ANNOUNCEMENT_LIFETIME);
    }

    /// What a node announced holds no more. The vector says when, by the monotonic clock: a wall clock that jumps would
    /// empty the graph at once, and what is announced unchanged would not come back with its refreshed head.
    pub(super) fn unchart(&mut self, origin: &NodeId) {
        // A neighbour is still reached where it is: it could else leave its entity by announcing nothing for a moment.
        if self.neighbours.link_to(origin).is_none() {
            self.forget_owner(origin);
        }
        let change = self.routes.graph.withdraw(origin);
        self.forget_changed(origin, &change);
    }

    /// Routes that a change made wrong are asked for anew.
    fn forget_changed(&mut self, origin: &NodeId, change: &GraphChange) {
        for neighbour in &change.lost {
            self.routes.cache.forget_edge(origin, neighbour);
        }
        if change.repriced
            && let Some(facts) = self.routes.graph.facts(origin)
        {
            let price = facts.price;
            self.routes.cache.forget_repriced(origin, price);
        }
    }
}
