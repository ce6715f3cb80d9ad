//! What goes out: updates, and requests for seqnos.

use crate::announcement::Announcement;
use crate::limits::{
    MAX_ANNOUNCEMENTS_PER_UPDATE, MAX_ASKED_NEIGHBOURS, MAX_CONTROL_BYTES, MAX_REQUEST_HOPS,
    MAX_ROUTES_PER_UPDATE, REQUEST_BURST, REQUEST_PACE, UPDATE_JITTER,
};
use crate::message::ControlMessage;
use crate::routing::exchange::{Exchange, Index, Sent};
use crate::routing::pace::PaceLimit;
use crate::routing::plane::Slot;
use crate::routing::update::{Distance, INFINITE, Plane, RouteUpdate, RoutingUpdate, SeqnoRequest};
use crate::time::Instant;

use super::{Destination, DistanceVector, Due};

/// Bytes of an update that routes and announcements may fill: the frame's limit less preamble, number and the lengths of
/// two lists.
const UPDATE_ROOM: usize = MAX_CONTROL_BYTES - 64;

/// A route with both planes, at the most.
const ROUTE_BYTES: usize = 32 + 2 * (1 + 10 + 5);

/// A head, and the length of a body, at the most.
const HEAD_BYTES: usize = 32 + 10 + 10 + 32 + 64 + 4;

/// How often one neighbour is asked for seqnos.
const ASK_PACE: PaceLimit = PaceLimit {
    interval: REQUEST_PACE,
    burst: REQUEST_BURST,
};

impl DistanceVector {
    /// Does what is due at one exchange.
    pub(super) fn exchange_due(&mut self, slot: Slot, now: Instant) {
        let Some(exchange) = self.exchange_mut(slot) else {
            return;
        };
        exchange.armed = None;
        if exchange.lazies_due(now) {
            exchange.hurry_lazies(now);
        }
        if exchange.is_overdue(now) {
            exchange.lost(now);
            self.counters.repeated += 1;
        }
        self.flush_if_due(slot, now);
        self.arm(slot);
    }

    /// Sends an update if one is due and none is under way.
    pub(super) fn flush_if_due(&mut self, slot: Slot, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        if !exchange.flush_due(now) {
            return;
        }
        let mut draft = Draft::new(exchange.next_number());
        while let Some(index) = exchange.front() {
            let own_seqnos = (self.own == Some(index)).then_some(self.own_seqnos);
            let destination = self.destinations.get(index as usize).and_then(Option::as_ref);
            if let Some(destination) = destination
                && !draft.add(exchange, slot, index, destination, own_seqnos)
            {
                break;
            }
            exchange.pop();
        }
        let Draft { update, sent, .. } = draft;
        if update.routes.is_empty() && update.announcements.is_empty() && !exchange.is_probing() {
            exchange.idle();
            return;
        }
        let counters = &mut self.counters;
        counters.update_frames_sent += 1;
        counters.announcements_sent += update.announcements.len() as u64;
        for announcement in &update.announcements {
            counters.bodies_sent += u64::from(announcement.body.is_some());
        }
        for route in &update.routes {
            for plane in Plane::ALL {
                counters.routes_sent[plane.index()] += u64::from(route.planes[plane.index()].is_some());
            }
        }
        exchange.sent(sent, now);
        let link = exchange.link;
        self.messages
            .push((link, ControlMessage::RoutingUpdate(Box::new(update))));
    }

    /// Asks for a fresh seqno if it is still needed and its time has come.
    pub(super) fn ask_if_due(&mut self, index: Index, plane: Plane, now: Instant) {
        let jitter = self.jitter(UPDATE_JITTER);
        let costs = &self.costs[plane.index()];
        let Some(destination) = self.destinations.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let origin = destination.id;
        let routes = &mut destination.planes[plane.index()];
        let Some(feasible) = routes.feasible else { return };
        let ask = routes.infeasible(plane, costs);
        let behind = |slot: &Slot| {
            let mut adverts = routes.adverts.iter();
            adverts.any(|advert| advert.neighbour == *slot && advert.distance.seqno < feasible.seqno)
        };
        // Neighbours that are only behind will have the newer seqno soon, without anybody making another.
        let patient = ask.iter().all(behind);
        let Some(wanted) = routes.wanted.as_mut().filter(|wanted| wanted.ask_at <= now) else {
            return;
        };
        let wait = !wanted.starving && patient && wanted.asked < PATIENCE;
        wanted.was_asked(now, jitter);
        let again = wanted.ask_at;
        self.timers.insert((again, Due::Request(index, plane)));
        if wait {
            return;
        }
        // An origin at the end of the numbers has made itself unreachable; asking for number 0 is malformed.
        let Some(seqno) = feasible.seqno.checked_add(1) else {
            return;
        };
        let request = SeqnoRequest {
            origin,
            plane,
            seqno,
            hops: MAX_REQUEST_HOPS,
        };
        for slot in ask.into_iter().take(MAX_ASKED_NEIGHBOURS) {
            let sent = self.send_request(slot, request, now);
            self.counters.requests_sent[plane.index()] += u64::from(sent);
        }
    }

    /// Sends a request unless the neighbour was sent too many lately: whoever wants the seqno asks again.
    pub(super) fn send_request(&mut self, slot: Slot, request: SeqnoRequest, now: Instant) -> bool {
        let Some(exchange) = self.exchange_mut(slot) else {
            return false;
        };
        let sent = exchange.asks.try_take(now, ASK_PACE);
        if sent {
            let link = exchange.link;
            self.messages.push((link, ControlMessage::SeqnoRequest(request)));
        }
        sent
    }
}

/// Rounds in which a node with a route waits for neighbours that are only behind.
const PATIENCE: u32 = 3;

/// An update in the making.
struct Draft {
    update: RoutingUpdate,
    sent: Vec<Sent>,
    room: usize,
}

impl Draft {
    fn new(number: u64) -> Self {
        Self {
            update: RoutingUpdate {
                number,
                announcements: Vec::new(),
                routes: Vec::new(),
            },
            sent: Vec::new(),
            room: UPDATE_ROOM,
        }
    }

    /// Adds what a neighbour is to be told of a destination; false when there is no room for it.
    fn add(
        &mut self,
        exchange: &mut Exchange,
        slot: Slot,
        index: Index,
        destination: &Destination,
        own_seqnos: Option<[u64; 2]>,
    ) -> bool {
        let (has_head, has_body) = exchange.has(index);
        // A node that lost its numbers learns its last one even from an announcement that no longer holds.
        let with_head = (destination.alive || destination.id == exchange.id) && !has_head;
        let body = destination.body.as_ref().filter(|_| with_head && !has_body);
        let head_bytes = if with_head { HEAD_BYTES } else { 0 };
        let bytes = ROUTE_BYTES + head_bytes + body.map_or(0, bytes::Bytes::len);
        let full = self.update.routes.len() >= MAX_ROUTES_PER_UPDATE
            || (with_head && self.update.announcements.len() >= MAX_ANNOUNCEMENTS_PER_UPDATE);
        if full || bytes > self.room {
            return false;
        }
        let planes = Plane::ALL.map(|plane| {
            // Routes go with every announcement: who refused them without one (a full table, a clock that was wrong)
            // would else not hear of them again. What has time waits for it though the other plane is told now.
            if !with_head && !exchange.is_dirty(index, plane) {
                return None;
            }
            let told = exchange.was_told(index, plane);
            let distance = Some(distance_for(destination, plane, slot, own_seqnos))
                .filter(|distance| distance.metric != INFINITE || told);
            match distance {
                Some(distance) => exchange.tell(index, plane, distance.metric != INFINITE),
                None => exchange.clear(index, plane),
            }
            distance
        });
        let told = planes.map(|distance| distance.is_some());
        if !with_head && told == [false; 2] {
            return true;
        }
        self.room -= bytes;
        if with_head {
            self.update.announcements.push(Announcement {
                head: destination.head,
                body: body.cloned(),
            });
            exchange.set_has(index, true, body.is_some().then_some(true));
        }
        if told != [false; 2] {
            self.update.routes.push(RouteUpdate {
                origin: destination.id,
                planes,
            });
        }
        self.sent.push(Sent {
            index,
            planes: told,
            with_head,
            with_body: body.is_some(),
        });
        true
    }
}

/// How far a destination is for a neighbour: infinitely, if the way there leads over that neighbour.
fn distance_for(
    destination: &Destination,
    plane: Plane,
    slot: Slot,
    own_seqnos: Option<[u64; 2]>,
) -> Distance {
    if let Some(seqnos) = own_seqnos {
        return Distance {
            seqno: seqnos[plane.index()],
            metric: 0,
        };
    }
    let routes = &destination.planes[plane.index()];
    match routes.selected.filter(|route| route.neighbour != slot) {
        Some(route) => route.distance,
        None => Distance {
            seqno: routes.feasible.map_or(0, |feasible| feasible.seqno),
            metric: INFINITE,
        },
    }
}
