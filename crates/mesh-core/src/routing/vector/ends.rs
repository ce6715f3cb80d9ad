//! How destinations end: their announcements expire, and later they are forgotten.

use crate::limits::DESTINATION_MEMORY;
use crate::routing::exchange::Index;
use crate::routing::update::Plane;
use crate::time::Instant;

use super::{DistanceVector, Due, News};

impl DistanceVector {
    /// Sets a destination's one timer. The old one goes: an origin that announces itself all the time would else leave
    /// one behind with each announcement, for as long as it said that it held.
    pub(super) fn end_at(&mut self, index: Index, at: Instant) {
        let Some(destination) = self.destination_mut(index) else {
            return;
        };
        let before = std::mem::replace(&mut destination.ends_at, at);
        self.timers.remove(&(before, Due::Ends(index)));
        self.timers.insert((at, Due::Ends(index)));
    }

    pub(super) fn end(&mut self, index: Index, now: Instant) {
        match self.destination(index).map(|destination| destination.alive) {
            Some(true) => self.expire(index, now),
            Some(false) => self.forget(index, now),
            None => {}
        }
    }

    /// An announcement no longer holds: nobody is believed to know a way there.
    fn expire(&mut self, index: Index, now: Instant) {
        let Some(destination) = self.destination_mut(index) else {
            return;
        };
        destination.alive = false;
        let origin = destination.id;
        for plane in Plane::ALL {
            if let Some(routes) = self.plane_mut(index, plane) {
                routes.adverts.clear();
            }
            self.reselect(index, plane, now);
        }
        self.news.push(News::Withdrawn { origin });
        self.end_at(index, now + DESTINATION_MEMORY);
    }

    /// Forgets a destination whose announcement expired long ago, and with it the feasible distance: by now no news of it
    /// is under way that could lead back here.
    fn forget(&mut self, index: Index, now: Instant) {
        let mut exchanges = self.exchanges.iter().flatten();
        let told_everybody = exchanges.all(|exchange| exchange.may_forget(index));
        if !told_everybody {
            self.end_at(index, now + DESTINATION_MEMORY);
            return;
        }
        let Some(destination) = self.destinations.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        for exchange in self.exchanges.iter_mut().flatten() {
            exchange.forget(index);
        }
        self.vacant.push(index);
        self.by_id.remove(&destination.id);
        if let Some(count) = self.introduced.get_mut(&destination.introduced_by) {
            *count -= 1;
            if *count == 0 {
                self.introduced.remove(&destination.introduced_by);
            }
        }
        self.news.push(News::Forgotten {
            origin: destination.id,
        });
    }
}
