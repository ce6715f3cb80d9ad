//! What comes in: updates, acknowledgements, requests for seqnos. Signatures were checked before; what an announcement
//! brings with it is told in `announcements.rs`.

use crate::drop_reason::DropReason;
use crate::event::LinkId;
use crate::identity::NodeId;
use crate::limits::{CLOCK_SKEW, HANDED_ON_REQUEST_BURST, HANDED_ON_REQUEST_PACE, MAX_DESTINATIONS};
use crate::message::ControlMessage;
use crate::routing::exchange::Index;
use crate::routing::pace::PaceLimit;
use crate::routing::plane::Slot;
use crate::routing::requests::Handed;
use crate::routing::update::{Distance, INFINITE, Plane, RouteUpdate, RoutingUpdate, SeqnoRequest};
use crate::time::{Instant, Now, UnixMillis};

use super::{DistanceVector, News};

/// The least cost of a way that leads over at least one link.
const LEAST_METRIC: [u32; 2] = [crate::routing::link_cost::HOP_COST + 1, 1];

/// How often requests of one neighbour are handed on.
const HAND_ON_PACE: PaceLimit = PaceLimit {
    interval: HANDED_ON_REQUEST_PACE,
    burst: HANDED_ON_REQUEST_BURST,
};

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
