//! What happens next, for millions of events: a calendar queue (Brown 1988) with a heap for the slot that time is in.
//!
//! Most events of a network lie a few milliseconds ahead. They are dropped unsorted into slots of a quarter of a
//! millisecond, and only the slot that time has reached is put in order: its heap stays small enough for the processor's
//! cache however much waits. Whatever lies beyond the current lap of the calendar (timers, mostly) waits by lap.
//!
//! The order is by time, and among events of the same time by when they were put in: the same on every machine.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// A slot is 2^8 µs long.
const SLOT_BITS: u32 = 8;

/// A lap has 2^12 slots: a little over a second, longer than any latency.
const LAP_BITS: u32 = 12;

const SLOTS: usize = 1 << LAP_BITS;

struct Entry<E> {
    at: u64,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// Reversed: the standard heap gives the greatest first, and the earliest is wanted.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Events by time, in microseconds.
pub(crate) struct Queue<E> {
    /// Events of the slot that time is in, and any that were put in for earlier.
    near: BinaryHeap<Entry<E>>,
    /// Later slots of the current lap, unsorted.
    slots: Vec<Vec<Entry<E>>>,
    /// Later laps, unsorted.
    far: BTreeMap<u64, Vec<Entry<E>>>,
    /// The slot that `near` holds, counted from the beginning of time.
    slot: u64,
    /// Events in `slots`.
    in_lap: usize,
    next_order: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            near: BinaryHeap::new(),
            slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect(),
            far: BTreeMap::new(),
            slot: 0,
            in_lap: 0,
            next_order: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Puts in an event that happens at `at`.
    pub(crate) fn push(&mut self, at: u64, event: E) {
        self.next_order += 1;
        let order = self.next_order;
        self.place(Entry { at, order, event });
    }

    fn place(&mut self, entry: Entry<E>) {
        let slot = entry.at >> SLOT_BITS;
        if slot <= self.slot {
            self.near.push(entry);
        } else if slot >> LAP_BITS == self.slot >> LAP_BITS {
            self.slots[slot as usize & (SLOTS - 1)].push(entry);
            self.in_lap += 1;
        } else {
            self.far.entry(slot >> LAP_BITS).or_default().push(entry);
        }
    }

    /// When the next event happens.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        self.advance();
        self.near.peek().map(|entry| entry.at)
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        self.advance();
        self.near.pop().map(|entry| (entry.at, entry.event))
    }

    /// Events that wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.near.len() + self.in_lap + self.far.values().map(Vec::len).sum::<usize>()
    }

    /// Moves to the next slot with events, unless the current one still has some.
    fn advance(&mut self) {
        while self.near.is_empty() {
            if self.in_lap > 0 {
                self.slot += 1;
                // The slot's memory goes with it: after a storm the calendar is as small as before.
                let slot = std::mem::take(&mut self.slots[self.slot as usize & (SLOTS - 1)]);
                self.in_lap -= slot.len();
                self.near = slot.into();
            } else if let Some((lap, entries)) = self.far.pop_first() {
                self.slot = lap << LAP_BITS;
                for entry in entries {
                    self.place(entry);
                }
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn events_come_by_time_and_among_equals_in_the_order_they_were_put_in() {
        let mut random = Random::new(1);
        let mut queue = Queue::default();
        let mut twin = BTreeMap::new();
        let (mut now, mut order) = (0, 0);
        for _ in 0..200_000 {
            if random.chance(550_000) {
                let ahead = match random.below(4) {
                    0 => random.below(3),
                    1 => random.below(1 << 13),
                    2 => random.below(1 << 21),
                    _ => random.below(1 << 24),
                };
                queue.push(now + ahead, order);
                twin.insert((now + ahead, order), order);
                order += 1;
            } else {
                let expected = twin.pop_first().map(|((at, _), order)| (at, order));
                assert_eq!(queue.next_at(), expected.map(|(at, _)| at));
                assert_eq!(queue.pop(), expected);
                now = expected.map_or(now, |(at, _)| at);
            }
        }
        assert_eq!(queue.len(), twin.len());
    }

    #[test]
    fn nothing_waits_in_an_empty_queue() {
        let mut queue = Queue::<u8>::default();
        assert_eq!((queue.next_at(), queue.pop()), (None, None));
    }
}
