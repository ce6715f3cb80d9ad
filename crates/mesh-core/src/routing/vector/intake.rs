//! What comes in: updates, acknowledgements, requests for seqnos. Signatures were checked before.

use crate::announcement::{Announcement, Body};
use crate::drop_reason::DropReason;
use crate::event::LinkId;
use crate::identity::NodeId;
use crate::limits::{
    CLOCK_SKEW, HANDED_ON_BURST, HANDED_ON_INTERVAL, HANDED_ON_REQUEST_BURST, HANDED_ON_REQUEST_PACE,
    MAX_DESTINATIONS, MAX_DESTINATIONS_PER_NEIGHBOUR, MAX_REQUEST_HOPS, REQUEST_INTERVAL, STARVING_DELAY,
    UPDATE_DELAY,
};
use crate::message::ControlMessage;
use crate::routing::exchange::Index;
use crate::routing::pace::{Pace, PaceLimit};
use crate::routing::plane::Slot;
use crate::routing::requests::Handed;
use crate::routing::update::{Distance, INFINITE, Plane, RouteUpdate, RoutingUpdate, SeqnoRequest};
use crate::time::{Instant, Now, UnixMillis};

use super::{Destination, DistanceVector, Due, News};

/// The least cost of a way that leads over at least one link.
const LEAST_METRIC: [u32; 2] = [crate::routing::link_cost::HOP_COST + 1, 1];

/// How often one origin's announcements are handed on.
const ANNOUNCEMENT_PACE: PaceLimit = PaceLimit {
    interval: HANDED_ON_INTERVAL,
    burst: HANDED_ON_BURST,
};

/// How often requests of one neighbour are handed on.
const HAND_ON_PACE: PaceLimit = PaceLimit {
    interval: HANDED_ON_REQUEST_PACE,
    burst: HANDED_ON_REQUEST_BURST,
};

/// How often a neighbour is asked for a route of its that was refused: for a minute.
const ROUNDS: u8 = 6;

impl DistanceVector {
    /// A neighbour's update. What is refused of it is returned; the rest is taken in, and all of it acknowledged.
    pub fn on_update(&mut self, link: LinkId, update: RoutingUpdate, now: Now) -> Vec<DropReason> {
        let Some(slot) = self.by_link.get(&link).copied() else {
            return vec![DropReason::Unsolicited];
        };
        let Some(exchange) = self.exchange_mut(slot) else {
            return vec![DropReason::Unsolicited];
        };
        if update.number < exchange.received {
            // Overtaken by a repetition that said the same and more.
            return Vec::new();
        }
        let seen = update.number == exchange.received;
        exchange.received = update.number;
        let number = update.number;
        self.messages.push((link, ControlMessage::RoutingAck { number }));
        if seen {
            return Vec::new();
        }
        let mut refused = Vec::new();
        for announcement in update.announcements {
            refused.extend(self.on_announcement(slot, announcement, now).err());
        }
        for route in update.routes {
            refused.extend(self.on_route(slot, &route, now.instant).err());
        }
        refused
    }

    /// A neighbour took in an update: the next may go. Whether the link's cost changed by what that took.
    pub fn on_ack(&mut self, link: LinkId, number: u64, now: Instant) -> bool {
        let Some(slot) = self.by_link.get(&link).copied() else {
            return false;
        };
        let Some(exchange) = self.exchange_mut(slot) else {
            return false;
        };
        let round_trip = exchange.acknowledged(number, now);
        let moved = round_trip.is_some_and(|round_trip| exchange.cost.measured(round_trip, now));
        if moved {
            self.link_measured(slot, now);
        }
        self.flush_if_due(slot, now);
        self.arm(slot);
        moved
    }

    fn on_announcement(
        &mut self,
        slot: Slot,
        announcement: Announcement,
        now: Now,
    ) -> Result<(), DropReason> {
        let head = announcement.head;
        if head.origin == self.me {
            return self.on_own_announcement(slot, &announcement, now);
        }
        head.check_expiry(now.unix)?;
        let index = match self.by_id.get(&head.origin).copied() {
            Some(index) if self.is_news(slot, index, &announcement, now.instant)? => index,
            Some(_) => return Ok(()),
            None => self.introduce(slot, &announcement, now)?,
        };
        self.take_up(slot, index, announcement, now);
        Ok(())
    }

    /// Whether an announcement is newer than the one known; an equal one shows that the neighbour has it.
    fn is_news(
        &mut self,
        slot: Slot,
        index: Index,
        announcement: &Announcement,
        now: Instant,
    ) -> Result<bool, DropReason> {
        let destination = self.destination(index).ok_or(DropReason::Unannounced)?;
        let (known, alive) = (destination.head, destination.alive);
        let has_body = destination.body.is_some();
        let misses_body = !has_body && announcement.body.is_some();
        let head = announcement.head;
        if head.seqno < known.seqno {
            return Err(DropReason::StaleAnnouncement);
        }
        if head.seqno > known.seqno {
            return Ok(true);
        }
        if head != known {
            return Err(DropReason::ConflictingAnnouncement);
        }
        if let Some(exchange) = self.exchange_mut(slot) {
            exchange.set_has(index, true, announcement.body.is_some().then_some(true));
            // Who hands on a head without the body, and was not sent it from here, lacks it: somebody on the way took it
            // off, and without this whoever is quickest could hide what others say of themselves.
            if has_body && alive && !exchange.has(index).1 {
                exchange.set_has(index, false, None);
                exchange.mark(index, None, now + UPDATE_DELAY);
                self.arm(slot);
            }
        }
        // Both sides of a link tell each other what both know; only a body that was missed makes it news.
        if alive {
            Ok(misses_body)
        } else {
            Err(DropReason::Expired)
        }
    }

    fn introduce(&mut self, slot: Slot, announcement: &Announcement, now: Now) -> Result<Index, DropReason> {
        let head = announcement.head;
        if let Some((floor, _)) = self.floors.get(&head.origin)
            && head.seqno < *floor
        {
            return Err(DropReason::StaleAnnouncement);
        }
        let neighbour = self.exchange_mut(slot).ok_or(DropReason::Unsolicited)?.id;
        let share = self.introduced.get(&neighbour).copied().unwrap_or(0);
        if self.by_id.len() >= MAX_DESTINATIONS || share >= MAX_DESTINATIONS_PER_NEIGHBOUR {
            return Err(DropReason::TableFull);
        }
        *self.introduced.entry(neighbour).or_default() += 1;
        self.floors.remove(&head.origin);
        Ok(self.insert(Destination {
            id: head.origin,
            head,
            body: None,
            alive: false,
            planes: Default::default(),
            changed: false,
            introduced_by: neighbour,
            ends_at: now.instant,
            spread: Pace::default(),
            spreading: false,
            rounds: 0,
        }))
    }

    pub(super) fn insert(&mut self, destination: Destination) -> Index {
        let id = destination.id;
        let index = match self.vacant.pop() {
            Some(index) => {
                self.destinations[index as usize] = Some(destination);
                index
            }
            None => {
                self.destinations.push(Some(destination));
                (self.destinations.len() - 1) as Index
            }
        };
        self.by_id.insert(id, index);
        index
    }

    /// Takes an announcement up and sees to it that everybody else gets it.
    fn take_up(&mut self, slot: Slot, index: Index, announcement: Announcement, now: Now) {
        let Announcement { head, body } = announcement;
        let Some(destination) = self.destination_mut(index) else {
            return;
        };
        let same_body = destination.head.body_digest == head.body_digest && destination.body.is_some();
        let came_with_body = body.is_some();
        destination.head = head;
        let was_alive = std::mem::replace(&mut destination.alive, true);
        if came_with_body || !same_body {
            destination.body = body;
        }
        self.end_at(index, now.instant + (head.expires - now.unix));
        for other in self.slots() {
            let Some(exchange) = self.exchange_mut(other) else {
                continue;
            };
            exchange.set_has(index, false, (!same_body).then_some(false));
            if other == slot {
                exchange.set_has(index, true, came_with_body.then_some(true));
            }
        }
        if !was_alive {
            for plane in Plane::ALL {
                self.reselect(index, plane, now.instant);
            }
        }
        self.ask_again(index, now.instant);
        self.hand_on(index, now.instant);
    }

    /// Neighbours of whose routes some were refused before, for want of an announcement, are asked for this one: they tell
    /// a route once, and without this a node whose clock was wrong would not hear of it again.
    fn ask_again(&mut self, index: Index, now: Instant) {
        let mut exchanges = self.exchanges.iter().flatten();
        if exchanges.any(|exchange| exchange.refused)
            && let Some(destination) = self.destination_mut(index)
            && std::mem::replace(&mut destination.rounds, ROUNDS) == 0
        {
            self.timers.insert((now + STARVING_DELAY, Due::AskAgain(index)));
        }
    }

    /// The next of a few rounds, until each of these neighbours told a route. One that has none is asked in vain.
    pub(super) fn ask_again_due(&mut self, index: Index, now: Instant) {
        let mut missing = false;
        for (slot, plane) in self
            .slots()
            .flat_map(|slot| Plane::ALL.map(|plane| (slot, plane)))
        {
            let Some(destination) = self.destination(index) else {
                return;
            };
            let mut adverts = destination.planes[plane.index()].adverts.iter();
            let told = adverts.any(|advert| advert.neighbour == slot);
            let request = SeqnoRequest {
                origin: destination.id,
                plane,
                seqno: 1,
                hops: MAX_REQUEST_HOPS,
            };
            if !told && self.exchange_mut(slot).is_some_and(|exchange| exchange.refused) {
                missing = true;
                self.send_request(slot, request, now);
            }
        }
        let Some(destination) = self.destination_mut(index) else {
            return;
        };
        destination.rounds = match missing && destination.alive {
            true => destination.rounds.saturating_sub(1),
            false => 0,
        };
        if destination.rounds > 0 {
            let pause = REQUEST_INTERVAL.saturating_mul(1 << (ROUNDS - destination.rounds));
            self.timers.insert((now + pause, Due::AskAgain(index)));
        }
    }

    /// What an announcement says is charted and written down, and everybody who lacks it is sent it: soon, or, if the
    /// origin makes them all the time, when it is its turn. Others would else pay for whoever signs a hundred a second,
    /// and everybody would pay, not only its neighbours.
    fn hand_on(&mut self, index: Index, now: Instant) {
        let Some(destination) = self.destination_mut(index) else {
            return;
        };
        let allowed_at = destination.spread.allowed_at(ANNOUNCEMENT_PACE);
        if allowed_at > now {
            if !std::mem::replace(&mut destination.spreading, true) {
                self.timers.insert((allowed_at, Due::Spread(index)));
            }
            return;
        }
        destination.spread.take(now, ANNOUNCEMENT_PACE);
        self.make_known(index);
        for slot in self.slots() {
            if let Some(exchange) = self.exchange_mut(slot).filter(|exchange| !exchange.has(index).0) {
                exchange.mark(index, None, now + UPDATE_DELAY);
                self.arm(slot);
            }
        }
    }

    /// The body counts anew though it may be the one known: what it says holds for longer now.
    fn make_known(&mut self, index: Index) {
        let Some(destination) = self.destination(index) else {
            return;
        };
        let (head, body) = (destination.head, destination.body.as_ref());
        // The check before the core has read it once already.
        let body = body.and_then(|bytes| Body::decode(bytes, &head.origin).ok());
        self.news.extend(body.map(|body| News::Announced {
            origin: head.origin,
            body,
            expires: head.expires,
        }));
        self.news.push(News::Seen {
            origin: head.origin,
            seqno: head.seqno,
            expires: head.expires,
        });
        self.note_changed(index);
    }

    /// It is an announcement's turn.
    pub(super) fn spread(&mut self, index: Index, now: Instant) {
        let Some(destination) = self.destination_mut(index) else {
            return;
        };
        destination.spreading = false;
        if destination.alive {
            self.hand_on(index, now);
        }
    }

    /// This node's own announcement came back: as it is, or from an earlier life, or from a second node with its key.
    fn on_own_announcement(
        &mut self,
        slot: Slot,
        announcement: &Announcement,
        now: Now,
    ) -> Result<(), DropReason> {
        let head = announcement.head;
        let own = self.own.and_then(|index| self.destination(index));
        let own = own.map(|destination| destination.head);
        if own == Some(head) {
            if let (Some(index), Some(exchange)) = (self.own, self.exchange_mut(slot)) {
                exchange.set_has(index, true, announcement.body.is_some().then_some(true));
            }
            return Ok(());
        }
        if own.is_some_and(|own| head.seqno < own.seqno) {
            return Err(DropReason::StaleAnnouncement);
        }
        self.news.push(News::OwnIdSeen { seqno: head.seqno });
        for plane in Plane::ALL {
            self.want_seqno(plane, now.instant);
        }
        Ok(())
    }

    fn on_route(&mut self, slot: Slot, route: &RouteUpdate, now: Instant) -> Result<(), DropReason> {
        if route.origin == self.me {
            // A way from a neighbour to this node is nothing this node needs.
            return Ok(());
        }
        let neighbour = self.exchange_mut(slot).ok_or(DropReason::Unsolicited)?.id;
        let Some(index) = self.by_id.get(&route.origin).copied() else {
            self.note_refused(slot);
            return Err(DropReason::Unannounced);
        };
        let mut outcome = Ok(());
        for plane in Plane::ALL {
            if let Some(distance) = route.planes[plane.index()] {
                let believable = self.is_believable(index, &neighbour, plane, distance);
                let distance = match believable {
                    Ok(()) => distance,
                    Err(reason) => {
                        outcome = Err(reason);
                        self.note_refused(slot);
                        Distance {
                            metric: INFINITE,
                            ..distance
                        }
                    }
                };
                if let Some(routes) = self.plane_mut(index, plane) {
                    routes.advertised(slot, distance);
                }
                self.reselect(index, plane, now);
            }
        }
        outcome
    }

    fn note_refused(&mut self, slot: Slot) {
        if let Some(exchange) = self.exchange_mut(slot) {
            exchange.refused = true;
        }
    }

    /// Whether an honest neighbour can say this. A seqno that the origin did not sign, or a metric smaller than the
    /// cheapest link, would draw traffic that the neighbour has no way for.
    fn is_believable(
        &self,
        index: Index,
        neighbour: &NodeId,
        plane: Plane,
        distance: Distance,
    ) -> Result<(), DropReason> {
        if distance.metric == INFINITE {
            return Ok(());
        }
        let destination = self.destination(index).ok_or(DropReason::Unannounced)?;
        if distance.seqno > destination.head.seqno {
            return Err(DropReason::Unannounced);
        }
        let is_origin = destination.id == *neighbour;
        let possible = match is_origin {
            true => distance.metric == 0,
            false => (LEAST_METRIC[plane.index()]..=plane.largest()).contains(&distance.metric),
        };
        if possible {
            Ok(())
        } else {
            Err(DropReason::ImpossibleMetric)
        }
    }

    /// A neighbour asks for a seqno.
    pub fn on_request(
        &mut self,
        link: LinkId,
        request: SeqnoRequest,
        now: Instant,
    ) -> Result<(), DropReason> {
        let slot = *self.by_link.get(&link).ok_or(DropReason::Unsolicited)?;
        let index = *self.by_id.get(&request.origin).ok_or(DropReason::Unannounced)?;
        let plane = request.plane;
        if self.own == Some(index) {
            if request.seqno > self.own_seqnos[plane.index()] {
                self.want_seqno(plane, now);
            } else {
                self.mark(slot, index, plane, now);
            }
            return Ok(());
        }
        let costs = &self.costs[plane.index()];
        let Some(destination) = self.destinations.get_mut(index as usize).and_then(Option::as_mut) else {
            return Err(DropReason::Unannounced);
        };
        // Nobody honest asks for more than the next one. Remembered as it is, a number without end would keep what others
        // wait for from ever being told them at once.
        let seqno = request.seqno.min(destination.head.seqno.saturating_add(1));
        let routes = &mut destination.planes[plane.index()];
        let serves = routes
            .selected
            .is_some_and(|route| route.distance.seqno >= seqno && route.neighbour != slot);
        if serves {
            self.mark(slot, index, plane, now);
            return Ok(());
        }
        let hand_on = match &mut routes.handed {
            Some(handed) => handed.again(seqno, now, slot),
            empty @ None => {
                *empty = Some(Box::new(Handed::new(seqno, now, slot)));
                true
            }
        };
        let next = routes.towards_origin(plane, costs, slot);
        let Some(next) = next.filter(|_| hand_on && request.hops > 1) else {
            return Ok(());
        };
        let asker = self.exchange_mut(slot).ok_or(DropReason::Unsolicited)?;
        if !asker.handed_on.try_take(now, HAND_ON_PACE) {
            return Err(DropReason::RateLimited);
        }
        let request = SeqnoRequest {
            seqno,
            hops: request.hops - 1,
            ..request
        };
        let sent = self.send_request(next, request, now);
        self.counters.requests_handed_on += u64::from(sent);
        Ok(())
    }

    /// What an earlier life had seen. Beyond the bound it is not remembered: an announcement that was replayed would be
    /// taken up, until a neighbour tells a newer one, for the hour that it may hold.
    pub fn restore_seen(&mut self, origin: NodeId, seqno: u64, expires: UnixMillis) {
        if self.floors.len() < MAX_DESTINATIONS {
            self.floors.insert(origin, (seqno, expires));
        }
    }

    /// Forgets what an earlier life had seen and what could no longer be replayed: on the disk too, where it would else
    /// stay when the origin is never heard of again.
    pub fn expire_seen(&mut self, now: UnixMillis) {
        let news = &mut self.news;
        self.floors.retain(|origin, (_, expires)| {
            let holds = *expires + CLOCK_SKEW >= now;
            if !holds {
                news.push(News::Forgotten { origin: *origin });
            }
            holds
        });
    }
}
