//! Routing: hands the distance vector what concerns it, obeys what it says, and announces this node.

use crate::announcement::{Body, Head, ListedNeighbour};
use crate::drop_reason::DropReason;
use crate::event::{Channel, Event, LinkId, Output, Record};
use crate::identity::NodeId;
use crate::limits::{
    ANNOUNCEMENT_INTERVAL, ANNOUNCEMENT_LIFETIME, ANNOUNCEMENT_REFRESH, ANNOUNCEMENT_SETTLING,
    MAX_LISTED_NEIGHBOURS, SEQNO_LEASE,
};
use crate::message::{RoutingUpdate, SeqnoRequest};
use crate::routing::Plane;
use crate::routing::vector::News;
use crate::time::{Instant, Now};

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
        self.announce_change(now);
        self.obey_vector(now);
    }

    pub(super) fn route_no_more_over(&mut self, now: Now, link: LinkId) {
        self.routes.vector.link_down(link, now.instant);
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
}

/// What goes out.
impl Core {
    /// News may make the vector say something, and announcing makes it have no further news, so one round is enough.
    fn obey_vector(&mut self, now: Now) {
        let mut fresh = Vec::new();
        for news in self.routes.vector.take_news() {
            match news {
                News::Announced { .. } | News::Withdrawn { .. } => {}
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
        if !fresh.is_empty() {
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
        let Some(body) = self.body() else {
            return self.count(DropReason::Malformed);
        };
        self.announcer.seqno += 1;
        let seqno = self.announcer.seqno;
        if seqno > self.announcer.leased {
            self.announcer.leased = seqno + SEQNO_LEASE;
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

    /// What this node says of itself now. With more neighbours than an announcement lists, the cheapest links are.
    fn body(&self) -> Option<bytes::Bytes> {
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
        let body = Body {
            price: self.price,
            operator: self.announcer.announcing.certificate,
            addresses: self.announcer.announcing.addresses.clone(),
            neighbours,
        };
        body.encode().ok()
    }

    fn persist_soon(&mut self, record: Record) {
        self.outputs.push_back(Output::PersistSoon(Box::new(record)));
    }
}
