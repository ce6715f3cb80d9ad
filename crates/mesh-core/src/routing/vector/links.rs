//! Links come up, are measured, and go down.

use crate::event::LinkId;
use crate::identity::NodeId;
use crate::routing::exchange::{Exchange, Index};
use crate::routing::plane::Slot;
use crate::routing::update::{INFINITE, Plane};
use crate::time::Instant;

use super::{DistanceVector, Due};

impl DistanceVector {
    /// A link came up; an older link of the same neighbour is gone.
    pub fn link_up(&mut self, link: LinkId, neighbour: NodeId, now: Instant) {
        if let Some(slot) = self.by_neighbour.get(&neighbour).copied() {
            self.drop_exchange(slot, now);
        }
        let vacant = self.exchanges.iter().position(Option::is_none);
        let place = vacant.unwrap_or_else(|| {
            self.exchanges.push(None);
            self.costs.iter_mut().for_each(|costs| costs.push(INFINITE));
            self.exchanges.len() - 1
        });
        let slot = place as Slot;
        let used_from = now + self.flaps.pause(&neighbour);
        self.exchanges[place] = Some(Exchange::new(neighbour, link, now, used_from));
        self.timers.insert((used_from, Due::Admit(slot)));
        self.by_neighbour.insert(neighbour, slot);
        self.by_link.insert(link, slot);
        for index in 0..self.destinations.len() {
            if self.destinations[index].is_some()
                && let Some(exchange) = &mut self.exchanges[place]
            {
                for plane in Plane::ALL {
                    exchange.mark(index as Index, Some(plane), used_from);
                }
            }
        }
        self.admit_if_due(slot, now);
        self.arm(slot);
    }

    /// A link may be used from now on: what was heard over it meanwhile counts.
    pub(super) fn admit_if_due(&mut self, slot: Slot, now: Instant) {
        let due = self
            .exchange_mut(slot)
            .is_some_and(|exchange| exchange.used_from <= now);
        let cost = &mut self.costs[Plane::Hops.index()][slot as usize];
        if due && *cost == INFINITE {
            *cost = 1;
            self.reselect_over(slot, Plane::Hops, now);
        }
    }

    /// A link is gone.
    pub fn link_down(&mut self, link: LinkId, now: Instant) {
        if let Some(slot) = self.by_link.get(&link).copied() {
            self.drop_exchange(slot, now);
        }
    }

    /// Forgets everything that was heard over a link.
    fn drop_exchange(&mut self, slot: Slot, now: Instant) {
        let place = slot as usize;
        let Some(exchange) = self.exchanges.get_mut(place).and_then(Option::take) else {
            return;
        };
        self.by_neighbour.remove(&exchange.id);
        self.by_link.remove(&exchange.link);
        self.timers.remove(&(exchange.used_from, Due::Admit(slot)));
        if let Some(armed) = exchange.armed {
            self.timers.remove(&(armed, Due::Exchange(slot)));
        }
        self.flaps.went_down(&exchange.id, now - exchange.up_at);
        for plane in Plane::ALL {
            self.costs[plane.index()][place] = INFINITE;
        }
        for index in 0..self.destinations.len() {
            for plane in Plane::ALL {
                let Some(destination) = &mut self.destinations[index] else {
                    continue;
                };
                let routes = &mut destination.planes[plane.index()];
                let before = routes.adverts.len();
                routes.adverts.retain(|advert| advert.neighbour != slot);
                if routes.adverts.len() < before {
                    self.reselect(index as Index, plane, now);
                }
            }
        }
    }

    /// A link's cost became known or changed: every way over it is looked at anew.
    pub(super) fn link_measured(&mut self, slot: Slot, now: Instant) {
        let place = slot as usize;
        let Some(cost) = self.exchanges[place]
            .as_ref()
            .and_then(|exchange| exchange.cost.get())
        else {
            return;
        };
        self.costs[Plane::Cost.index()][place] = cost;
        self.reselect_over(slot, Plane::Cost, now);
    }

    /// Looks anew at every way over a link.
    fn reselect_over(&mut self, slot: Slot, plane: Plane, now: Instant) {
        for index in 0..self.destinations.len() {
            let concerned = self.destinations[index].as_ref().is_some_and(|destination| {
                let adverts = &destination.planes[plane.index()].adverts;
                adverts.iter().any(|advert| advert.neighbour == slot)
            });
            if concerned {
                self.reselect(index as Index, plane, now);
            }
        }
    }
}
