//! Routing: hands the distance vector what concerns it, obeys what it says, and announces this node.

use std::collections::BTreeSet;

use crate::announcement::{Body, Head, ListedNeighbour};
use crate::drop_reason::DropReason;
use crate::event::{Answer, Channel, Event, LinkId, NetworkNode, NetworkPage, Record};
use crate::identity::NodeId;
use crate::limits::{
    ANNOUNCEMENT_INTERVAL, ANNOUNCEMENT_LIFETIME, ANNOUNCEMENT_REFRESH, ANNOUNCEMENT_SETTLING,
    MAX_LISTED_NEIGHBOURS, MAX_NETWORK_PAGE, SEQNO_LEASE,
};
use crate::message::{RoutingUpdate, SeqnoRequest};
use crate::routing::Plane;
use crate::routing::graph::GraphNode;
use crate::routing::snapshot::RouteEntry;
use crate::routing::vector::News;
use crate::routing_policy::MeshMode;
use crate::time::{Instant, Now, UnixMillis};

use super::{Announcing, Core, Timer};

/// What this node announces of itself, and when.
pub(super) struct Announcer {
    announcing: Announcing,
    /// The number of the last announcement.
    seqno: u64,
    /// Numbers up to this one are durably taken.
    leased: u64,
    /// When the last one was made.
    made_at: Option<Instant>,
    /// When the next one is due.
    due_at: Instant,
    body: Option<bytes::Bytes>,
}

impl Announcer {
    pub(super) fn new(announcing: Announcing) -> Self {
        Self {
            announcing,
            seqno: 0,
            leased: 0,
            made_at: None,
            due_at: Instant(0),
            body: None,
        }
    }

    /// An earlier life may have used numbers up to this one.
    pub(super) fn resume_behind(&mut self, seqno: u64) {
        self.seqno = self.seqno.max(seqno);
        self.leased = self.leased.max(seqno);
    }
}

/// What comes in.
impl Core {
    pub(super) fn route_over(&mut self, now: Now, link: LinkId, peer: NodeId) {
        self.routes.vector.link_up(link, peer, now.instant);
        self.show_neighbour(self.routes.vector.number_of(&peer), Some(peer));
        self.announce_change(now);
        self.obey_vector(now);
    }

    pub(super) fn route_no_more_over(&mut self, now: Now, link: LinkId) {
        let number = self.routes.vector.number_on(link);
        self.routes.vector.link_down(link, now.instant);
        self.show_neighbour(number, None);
        self.announce_change(now);
        self.obey_vector(now);
    }

    pub(super) fn on_routing_update(&mut self, now: Now, link: LinkId, update: RoutingUpdate) {
        for reason in self.routes.vector.on_update(link, update, now) {
            self.drop_from(link, reason);
        }
        self.obey_vector(now);
    }

    pub(super) fn on_routing_ack(&mut self, now: Now, link: LinkId, number: u64) {
        if self.routes.vector.on_ack(link, number, now.instant) {
            self.announce_change(now);
        }
        self.obey_vector(now);
    }

    pub(super) fn on_seqno_request(
        &mut self,
        now: Now,
        link: LinkId,
        request: SeqnoRequest,
    ) -> Result<(), DropReason> {
        let outcome = self.routes.vector.on_request(link, request, now.instant);
        self.obey_vector(now);
        outcome
    }

    pub(super) fn route_timeout(&mut self, now: Now) {
        if self
            .routes
            .vector
            .next_timeout()
            .is_some_and(|at| at <= now.instant)
        {
            self.routes.vector.on_timeout(now.instant);
            self.obey_vector(now);
        }
    }

    /// What an earlier life had seen of others is forgotten when it could no longer be replayed.
    pub(super) fn forget_seen(&mut self, now: Now) {
        self.routes.vector.expire_seen(now.unix);
        self.obey_vector(now);
    }
}

/// What readers see.
impl Core {
    pub(super) fn copy_changed_routes(&mut self) {
        for destination in self.routes.vector.take_changed() {
            let successors = self.routes.vector.shown(&destination);
            let facts = self.routes.graph.facts(&destination);
            let price_msat = facts.map_or(0, |facts| facts.price.msat_per_unit);
            let head = self.routes.vector.head(&destination);
            let expires = head.map_or(UnixMillis(0), |head| head.expires);
            match RouteEntry::new(&successors, price_msat, expires) {
                Ok(entry) => self.snapshot.set(destination, entry),
                // No way there.
                Err(_) => self.snapshot.remove(&destination),
            }
        }
    }

    fn show_neighbour(&mut self, number: Option<u32>, id: Option<NodeId>) {
        if let Some(number) = number
            && let Err(reason) = self.snapshot.set_neighbour(number, id)
        {
            self.count(reason);
        }
    }
}

/// What somebody on this machine wants.
impl Core {
    pub(super) fn network_page(&self, after: Option<NodeId>, most: usize) -> NetworkPage {
        let most = most.clamp(1, MAX_NETWORK_PAGE);
        let (graph, vector, me) = (&self.routes.graph, &self.routes.vector, self.node_id());
        let metric = |id: &NodeId, plane| match *id == me {
            true => Some(0),
            false => vector.next_hop(id, plane).map(|route| route.metric),
        };
        let node = |node: GraphNode<'_>| NetworkNode {
            id: node.id,
            price: node.facts.price,
            operator: node.facts.operator,
            expires: node.facts.expires,
            neighbours: node.neighbours,
            hops: metric(&node.id, Plane::Hops),
            cost: metric(&node.id, Plane::Cost),
            over: vector.successors(&node.id),
        };
        let mut rest = graph
            .nodes()
            .filter(|node| after.is_none_or(|after| node.id > after));
        let nodes: Vec<NetworkNode> = rest.by_ref().take(most).map(node).collect();
        let next = rest.next().and(nodes.last()).map(|last| last.id);
        NetworkPage {
            total_nodes: graph.node_count(),
            total_links: graph.edge_count(),
            nodes,
            next,
        }
    }

    /// Nodes that routing reaches, and those that it does not know but to whom a path was discovered.
    pub(super) fn reachable_nodes(&self, now: Now) -> usize {
        let vector = &self.routes.vector;
        let discovered = self.routes.cache.all(now.unix);
        let others: BTreeSet<&NodeId> = discovered
            .filter_map(|route| route.certificate.destination())
            .filter(|destination| vector.next_hop(destination, Plane::Hops).is_none())
            .collect();
        vector.reachable() + others.len()
    }

    /// From now on quotes are asked at this price, and everybody is told. Only a node that carries for pay has one.
    pub(super) fn set_price(&mut self, now: Now, msat_per_unit: u64) -> Result<Answer, DropReason> {
        if self.mode != MeshMode::PaymentGated {
            return Err(DropReason::BadCommand);
        }
        self.price.msat_per_unit = msat_per_unit;
        self.announce_change(now);
        Ok(Answer::Done)
    }
}

/// What goes out.
impl Core {
    /// News may make the vector say something, and announcing makes it have no further news, so one round is enough.
    fn obey_vector(&mut self, now: Now) {
        let mut fresh = Vec::new();
        for news in self.routes.vector.take_news() {
            match news {
                News::Announced {
                    origin,
                    body,
                    expires,
                } => {
                    self.chart(origin, &body, expires);
                    self.routes.vector.show_again(&origin);
                }
                News::Withdrawn { origin } => self.unchart(&origin),
                News::Seen {
                    origin,
                    seqno,
                    expires,
                } => self.persist_soon(Record::AnnouncementSeen {
                    origin,
                    seqno,
                    expires,
                }),
                News::Forgotten { origin } => self.persist_soon(Record::AnnouncementForgotten { origin }),
                News::OwnIdSeen { seqno } => {
                    self.announcer.seqno = self.announcer.seqno.max(seqno);
                    self.event(Event::OwnIdSeen { seqno });
                }
                News::SeqnoWanted { plane } => fresh.push(plane),
            }
        }
        // A node that announces nothing is no destination; one that did not announce itself yet is about to.
        if !fresh.is_empty() && self.announcer.made_at.is_some() {
            self.announce(now, &fresh);
        }
        for (link, message) in self.routes.vector.take_messages() {
            match message.encode() {
                Ok(frame) => self.transmit(link, Channel::Control, frame),
                Err(reason) => self.count(reason),
            }
        }
    }

    /// Something that is announced may have changed: it is told after a while, together with what else changes.
    fn announce_change(&mut self, now: Now) {
        self.chart_self(now);
        if self.announcer.made_at.is_none() || self.body().as_ref() == self.announcer.body.as_ref() {
            return;
        }
        let earliest = self
            .announcer
            .made_at
            .map_or(now.instant, |made_at| made_at + ANNOUNCEMENT_INTERVAL);
        let at = earliest.max(now.instant + ANNOUNCEMENT_SETTLING);
        if at < self.announcer.due_at {
            self.announcer.due_at = at;
            self.set_timer(at, Timer::Announce);
        }
    }

    pub(super) fn announce_if_due(&mut self, now: Now) {
        if self.announcer.announcing.enabled && self.announcer.due_at <= now.instant {
            let first = self.announcer.made_at.is_none();
            let fresh: &[Plane] = if first { &Plane::ALL } else { &[] };
            self.announce(now, fresh);
            self.obey_vector(now);
        }
    }

    /// Announces this node anew. In the `fresh` planes routes to it get the new number too.
    fn announce(&mut self, now: Now, fresh: &[Plane]) {
        self.end_certificate(now.unix);
        let Some(body) = self.body() else {
            return self.count(DropReason::Malformed);
        };
        self.chart_self(now);
        self.announcer.seqno = self.announcer.seqno.saturating_add(1);
        let seqno = self.announcer.seqno;
        if seqno > self.announcer.leased {
            self.announcer.leased = seqno.saturating_add(SEQNO_LEASE);
            self.persist(Record::OwnSeqno(self.announcer.leased));
        }
        let expires = now.unix + ANNOUNCEMENT_LIFETIME;
        let head = Head::sign(seqno, expires, &body, &self.identity);
        self.routes
            .vector
            .announce(head, body.clone(), fresh, now.instant);
        self.announcer.body = Some(body);
        self.announcer.made_at = Some(now.instant);
        self.announcer.due_at = now.instant + ANNOUNCEMENT_REFRESH;
        self.set_timer(self.announcer.due_at, Timer::Announce);
    }

    /// A certificate that ended is no longer shown, and its operator no longer named.
    fn end_certificate(&mut self, now: UnixMillis) {
        let announcing = &mut self.announcer.announcing;
        if announcing.certificate_until.is_some_and(|until| until <= now) {
            (announcing.certificate, announcing.certificate_until) = (None, None);
            self.operator = None;
        }
    }

    /// What this node says of itself now. With more neighbours than an announcement lists, the cheapest links are.
    pub(super) fn own_body(&self) -> Body {
        let vector = &self.routes.vector;
        let mut neighbours: Vec<ListedNeighbour> = self
            .neighbours
            .live()
            .filter_map(|(_, node)| {
                let cost = u16::try_from(vector.link_cost(&node)?).ok()?;
                Some(ListedNeighbour { node, cost })
            })
            .collect();
        if neighbours.len() > MAX_LISTED_NEIGHBOURS {
            neighbours.sort_by_key(|listed| (listed.cost, listed.node));
            neighbours.truncate(MAX_LISTED_NEIGHBOURS);
            neighbours.sort_by_key(|listed| listed.node);
        }
        Body {
            price: self.price,
            operator: self.announcer.announcing.certificate,
            addresses: self.announcer.announcing.addresses.clone(),
            neighbours,
        }
    }

    fn body(&self) -> Option<bytes::Bytes> {
        self.own_body().encode().ok()
    }
}
