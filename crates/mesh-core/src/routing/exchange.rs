//! What one neighbour was told and still has to be told.
//!
//! One update is under way to a neighbour at a time. What changes meanwhile is only marked, and told as it is when its
//! turn comes: a slow neighbour is never behind by more than the present state, and the memory it costs is two bytes per
//! destination. An update that is not acknowledged in time is marked again and told anew, so that losses heal.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::LinkId;
use crate::identity::NodeId;
use crate::limits::{UPDATE_PACE, UPDATE_TIMEOUT, UPDATE_TIMEOUT_MOST};
use crate::routing::link_cost::LinkCost;
use crate::routing::pace::Pace;
use crate::routing::update::Plane;
use crate::time::Instant;

/// A destination's place in the distance vector's table.
pub(super) type Index = u32;

/// What is known about one destination and one neighbour, one bit each.
const QUEUED: u16 = 1 << 12;
const LAZY_QUEUED: u16 = 1 << 13;
const HAS_HEAD: u16 = 1 << 14;
const HAS_BODY: u16 = 1 << 15;

const fn dirty(plane: Plane) -> u16 {
    1 << plane.index()
}

const fn lazy(plane: Plane) -> u16 {
    1 << (4 + plane.index())
}

const fn told(plane: Plane) -> u16 {
    1 << (8 + plane.index())
}

/// A destination in the update under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) index: Index,
    pub(super) planes: [bool; 2],
    pub(super) with_head: bool,
    pub(super) with_body: bool,
}

struct UnderWay {
    number: u64,
    sent: Vec<Sent>,
    sent_at: Instant,
}

/// The routing side of one link.
pub(super) struct Exchange {
    pub(super) id: NodeId,
    pub(super) link: LinkId,
    pub(super) up_at: Instant,
    /// From when on it carries routes: a link that flaps rests first.
    pub(super) used_from: Instant,
    pub(super) cost: LinkCost,
    /// The number of the neighbour's last update taken in.
    pub(super) received: u64,
    /// How often the neighbour is asked for seqnos.
    pub(super) asks: Pace,
    /// How often it is asked for on this neighbour's behalf.
    pub(super) handed_on: Pace,
    /// When the timer that is set for this exchange goes off.
    pub(super) armed: Option<Instant>,
    flags: Vec<u16>,
    queue: VecDeque<Index>,
    lazies: Vec<Index>,
    under_way: Option<UnderWay>,
    numbered: u64,
    /// An update is sent even if it says nothing: its acknowledgement measures the link.
    probe: bool,
    flush_at: Option<Instant>,
    lazies_at: Option<Instant>,
    least_round_trip: Duration,
    timeouts: u32,
}

impl Exchange {
    /// A link that just came up: everything is to be told as soon as it is used.
    pub(super) fn new(id: NodeId, link: LinkId, now: Instant, used_from: Instant) -> Self {
        Self {
            id,
            link,
            up_at: now,
            used_from,
            cost: LinkCost::default(),
            received: 0,
            asks: Pace::default(),
            handed_on: Pace::default(),
            armed: None,
            flags: Vec::new(),
            queue: VecDeque::new(),
            lazies: Vec::new(),
            under_way: None,
            numbered: 0,
            probe: true,
            flush_at: Some(used_from),
            lazies_at: None,
            least_round_trip: Duration::ZERO,
            timeouts: 0,
        }
    }

    fn flags_mut(&mut self, index: Index) -> &mut u16 {
        let place = index as usize;
        if place >= self.flags.len() {
            self.flags.resize(place + 1, 0);
        }
        &mut self.flags[place]
    }

    fn flags(&self, index: Index) -> u16 {
        self.flags.get(index as usize).copied().unwrap_or(0)
    }

    /// The neighbour is to be told of these planes soon.
    pub(super) fn mark(&mut self, index: Index, plane: Option<Plane>, at: Instant) {
        let flags = self.flags_mut(index);
        *flags |= plane.map_or(0, dirty);
        if *flags & QUEUED == 0 {
            *flags |= QUEUED;
            self.queue.push_back(index);
        }
        let at = at.max(self.used_from);
        self.flush_at = Some(self.flush_at.map_or(at, |before| before.min(at)));
    }

    /// The neighbour is to be told of this plane some time.
    pub(super) fn mark_lazily(&mut self, index: Index, plane: Plane, at: Instant) {
        let flags = self.flags_mut(index);
        *flags |= lazy(plane);
        if *flags & LAZY_QUEUED == 0 {
            *flags |= LAZY_QUEUED;
            self.lazies.push(index);
        }
        self.lazies_at.get_or_insert(at);
    }

    /// What had time is told now.
    pub(super) fn hurry_lazies(&mut self, now: Instant) {
        self.lazies_at = None;
        for index in std::mem::take(&mut self.lazies) {
            let flags = self.flags_mut(index);
            *flags &= !LAZY_QUEUED;
            for plane in Plane::ALL {
                if *flags & lazy(plane) != 0 {
                    *flags = (*flags & !lazy(plane)) | dirty(plane);
                }
            }
            self.mark(index, None, now);
        }
    }

    /// Whether this plane is to be told.
    pub(super) fn is_dirty(&self, index: Index, plane: Plane) -> bool {
        self.flags(index) & dirty(plane) != 0
    }

    /// Whether the neighbour was told a finite metric last.
    pub(super) fn was_told(&self, index: Index, plane: Plane) -> bool {
        self.flags(index) & told(plane) != 0
    }

    /// The plane is told with this update: a finite metric, or a retraction. What was to be told some time is told too.
    pub(super) fn tell(&mut self, index: Index, plane: Plane, finite: bool) {
        let flags = self.flags_mut(index);
        *flags &= !(dirty(plane) | lazy(plane) | told(plane));
        if finite {
            *flags |= told(plane);
        }
    }

    /// The plane needs no telling.
    pub(super) fn clear(&mut self, index: Index, plane: Plane) {
        *self.flags_mut(index) &= !(dirty(plane) | lazy(plane));
    }

    /// Whether the neighbour has the newest head and body.
    pub(super) fn has(&self, index: Index) -> (bool, bool) {
        let flags = self.flags(index);
        (flags & HAS_HEAD != 0, flags & HAS_BODY != 0)
    }

    /// The neighbour has, or no longer has, the newest head; and the same for the body unless that is left as it is.
    pub(super) fn set_has(&mut self, index: Index, head: bool, body: Option<bool>) {
        let flags = self.flags_mut(index);
        *flags = if head {
            *flags | HAS_HEAD
        } else {
            *flags & !HAS_HEAD
        };
        match body {
            Some(true) => *flags |= HAS_BODY,
            Some(false) => *flags &= !HAS_BODY,
            None => {}
        }
    }

    /// The next destination to tell of.
    pub(super) fn front(&self) -> Option<Index> {
        self.queue.front().copied()
    }

    /// The front destination is dealt with.
    pub(super) fn pop(&mut self) {
        if let Some(index) = self.queue.pop_front() {
            *self.flags_mut(index) &= !QUEUED;
        }
    }

    /// Whether an update may go out now.
    pub(super) fn may_send(&self) -> bool {
        self.under_way.is_none()
    }

    /// Whether an update goes out even if it says nothing.
    pub(super) fn is_probing(&self) -> bool {
        self.probe
    }

    /// The next update's number.
    pub(super) fn next_number(&self) -> u64 {
        self.numbered + 1
    }

    /// An update went out.
    pub(super) fn sent(&mut self, sent: Vec<Sent>, now: Instant) {
        self.numbered += 1;
        self.probe = false;
        self.under_way = Some(UnderWay {
            number: self.numbered,
            sent,
            sent_at: now,
        });
        // What did not fit follows, at a pace that the neighbour's budget for control messages allows.
        self.flush_at = (!self.queue.is_empty()).then_some(now + UPDATE_PACE);
    }

    /// Nothing was to be told.
    pub(super) fn idle(&mut self) {
        self.flush_at = None;
    }

    /// The neighbour acknowledged an update; how long that took, if it is the one under way.
    pub(super) fn acknowledged(&mut self, number: u64, now: Instant) -> Option<Duration> {
        let under_way = self.under_way.take_if(|under_way| under_way.number == number)?;
        self.timeouts = 0;
        let round_trip = now - under_way.sent_at;
        if self.least_round_trip.is_zero() || round_trip < self.least_round_trip {
            self.least_round_trip = round_trip;
        }
        Some(round_trip)
    }

    /// The update under way was lost, or its acknowledgement: all of it is to be told again. What was told as infinite
    /// counts as told finite, since the neighbour may not know better.
    pub(super) fn lost(&mut self, now: Instant) {
        let Some(under_way) = self.under_way.take() else {
            return;
        };
        self.timeouts += 1;
        self.probe = true;
        for sent in under_way.sent {
            let flags = self.flags_mut(sent.index);
            for plane in Plane::ALL {
                if sent.planes[plane.index()] {
                    *flags |= told(plane) | dirty(plane);
                }
            }
            if sent.with_head {
                *flags &= !HAS_HEAD;
            }
            if sent.with_body {
                *flags &= !HAS_BODY;
            }
            self.mark(sent.index, None, now);
        }
        self.flush_at = Some(now);
    }

    /// Whether nothing is left to tell the neighbour of a destination: it holds no finite metric, and nothing is under way.
    pub(super) fn may_forget(&self, index: Index) -> bool {
        let waits = QUEUED | LAZY_QUEUED | told(Plane::Cost) | told(Plane::Hops);
        let in_update = self
            .under_way
            .as_ref()
            .is_some_and(|under_way| under_way.sent.iter().any(|sent| sent.index == index));
        self.flags(index) & waits == 0 && !in_update
    }

    /// Forgets a destination: its place may be another's.
    pub(super) fn forget(&mut self, index: Index) {
        *self.flags_mut(index) = 0;
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = match &self.under_way {
            Some(under_way) => Some(under_way.sent_at + self.timeout()),
            None => self.flush_at,
        };
        next.into_iter().chain(self.lazies_at).min()
    }

    /// When what had time is to be told.
    pub(super) fn lazies_due(&self, now: Instant) -> bool {
        self.lazies_at.is_some_and(|at| at <= now)
    }

    /// Whether an update is to go out.
    pub(super) fn flush_due(&self, now: Instant) -> bool {
        self.may_send() && self.flush_at.is_some_and(|at| at <= now)
    }

    /// Whether the acknowledgement is overdue.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.under_way
            .as_ref()
            .is_some_and(|under_way| under_way.sent_at + self.timeout() <= now)
    }

    fn timeout(&self) -> Duration {
        let once = UPDATE_TIMEOUT.max(self.least_round_trip.saturating_mul(3));
        once.saturating_mul(1 << self.timeouts.min(3))
            .min(UPDATE_TIMEOUT_MOST.max(once))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000_000);

    fn exchange() -> Exchange {
        Exchange::new(NodeId([1; 32]), LinkId(1), NOW, NOW)
    }

    fn told_of(exchange: &mut Exchange, finite: bool) -> Sent {
        let index = exchange.front().unwrap();
        exchange.pop();
        exchange.tell(index, Plane::Hops, finite);
        Sent {
            index,
            planes: [false, true],
            with_head: false,
            with_body: false,
        }
    }

    #[test]
    fn changes_while_an_update_is_under_way_wait_and_coalesce() {
        let mut exchange = exchange();
        exchange.mark(7, Some(Plane::Hops), NOW);
        let sent = told_of(&mut exchange, true);
        exchange.sent(vec![sent], NOW);
        for _ in 0..10 {
            exchange.mark(7, Some(Plane::Hops), NOW);
        }
        assert!(!exchange.flush_due(NOW));
        assert_eq!(
            exchange.acknowledged(1, NOW + Duration::from_millis(5)),
            Some(Duration::from_millis(5))
        );
        assert!(exchange.flush_due(NOW));
        assert_eq!(exchange.front(), Some(7));
        exchange.pop();
        assert_eq!(exchange.front(), None);
    }

    #[test]
    fn lost_retraction_is_told_again() {
        let mut exchange = exchange();
        exchange.mark(7, Some(Plane::Hops), NOW);
        let sent = told_of(&mut exchange, false);
        exchange.sent(vec![sent], NOW);
        assert!(!exchange.was_told(7, Plane::Hops));
        assert!(exchange.is_overdue(NOW + UPDATE_TIMEOUT));
        exchange.lost(NOW);
        assert!(exchange.was_told(7, Plane::Hops) && exchange.is_dirty(7, Plane::Hops));
        assert_eq!(exchange.front(), Some(7));
        assert_eq!(
            exchange.acknowledged(1, NOW),
            None,
            "too late: another is to follow"
        );
    }

    #[test]
    fn repetitions_slow_down_for_a_neighbour_that_does_not_answer() {
        let mut exchange = exchange();
        let waits: Vec<u64> = (0..6)
            .map(|_| {
                exchange.sent(Vec::new(), NOW);
                let wait = exchange.due().unwrap() - NOW;
                exchange.lost(NOW);
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn what_had_time_goes_along_when_the_same_is_told_early() {
        let mut exchange = exchange();
        exchange.mark_lazily(3, Plane::Hops, NOW + Duration::from_secs(1));
        exchange.mark(3, Some(Plane::Hops), NOW);
        told_of(&mut exchange, true);
        exchange.hurry_lazies(NOW);
        assert!(!exchange.is_dirty(3, Plane::Hops));
    }

    #[test]
    fn destination_is_forgotten_only_when_nothing_of_it_is_left_to_tell() {
        let mut exchange = exchange();
        exchange.mark(3, Some(Plane::Hops), NOW);
        assert!(!exchange.may_forget(3));
        let sent = told_of(&mut exchange, true);
        exchange.sent(vec![sent], NOW);
        assert!(!exchange.may_forget(3));
        exchange.acknowledged(1, NOW);
        assert!(!exchange.may_forget(3), "it was told a finite metric");
        exchange.tell(3, Plane::Hops, false);
        assert!(exchange.may_forget(3));
    }
}
