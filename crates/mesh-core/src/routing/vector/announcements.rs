//! Announcements that come in: which are news, what they bring with them, and whom they are handed on to.

use crate::announcement::{Announcement, Body};
use crate::drop_reason::DropReason;
use crate::limits::{
    HANDED_ON_BURST, HANDED_ON_INTERVAL, MAX_DESTINATIONS, MAX_DESTINATIONS_PER_NEIGHBOUR, MAX_REQUEST_HOPS,
    REQUEST_INTERVAL, STARVING_DELAY, UPDATE_DELAY,
};
use crate::routing::exchange::Index;
use crate::routing::pace::{Pace, PaceLimit};
use crate::routing::plane::Slot;
use crate::routing::update::{Plane, SeqnoRequest};
use crate::time::{Instant, Now};

use super::{Destination, DistanceVector, Due, News};

/// How often one origin's announcements are handed on.
const ANNOUNCEMENT_PACE: PaceLimit = PaceLimit {
    interval: HANDED_ON_INTERVAL,
    burst: HANDED_ON_BURST,
};

/// How often a neighbour is asked for a route of its that was refused: for a minute.
const ROUNDS: u8 = 6;

impl DistanceVector {
    pub(super) fn on_announcement(
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
            // A body that came along goes along: so that of a refresh reaches whoever forgot it.
            exchange.set_has(index, false, (came_with_body || !same_body).then_some(false));
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
}
