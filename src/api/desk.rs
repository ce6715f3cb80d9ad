//! The front desk: what arrived for whom, and whose turn it is to be given something. Decides, and does nothing.
//!
//! A protocol has one owner. What arrives for it waits in one queue, in the order of its arrival, and leaves it in one of
//! two ways: it is *pushed*, by calling the method that the owner registered, or *polled*. A push takes the packet out; a
//! push that fails puts it back where it was, so that a poll never hands over what a handler is being given. So a packet
//! that was handled or polled is gone, and one that was neither is still there.
//!
//! * One push at a time for each protocol, since handlers rely on the order; [`MAX_PUSHES_PER_CLIENT`] for each owner, since a
//!   handler that hangs must not take all; and those through the host at the pace that the host bears ([`pace`]).
//! * A handler that answers an error is asked again for the same packet, [`MAX_FAILURES`] times in all. Then the packet is
//!   left to the owner's poll and the next one is pushed: one packet that a handler chokes on must not end its traffic.
//! * An owner that cannot be reached is tried at growing intervals, [`MAX_UNREACHABLE`] times, and then again when it is heard of.
//! * A push without an answer in time may have been handled. It comes again: a packet twice can be told by its id, one that
//!   never comes cannot.
//!
//! Packets of protocols that nobody owns, and those that name none, wait for a while for whoever asks first.

mod pace;
mod queue;
#[cfg(test)]
mod tests;
mod unclaimed;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use mesh_core::event::Delivery;

use super::client::Client;
use pace::Pace;
use queue::{Queue, Waiting};
use unclaimed::Unclaimed;

/// Protocols that are owned: more than a node has modules. Each may take [`MAX_QUEUED_BYTES`].
pub(super) const MAX_PROTOCOLS: usize = 256;

/// Protocols of one owner: no module speaks more, and none may take the table away from the others.
pub(super) const MAX_PROTOCOLS_PER_CLIENT: usize = 32;

/// Packets that wait for one owner: twenty seconds of pushes.
pub(super) const MAX_QUEUED: usize = 1024;

/// Bytes of them: two polls' worth.
pub(super) const MAX_QUEUED_BYTES: usize = 8 << 20;

/// Bytes that wait in all queues together: an eighth of the address space that a host leaves a module by default.
pub(super) const MAX_ALL_QUEUED_BYTES: usize = 64 << 20;

/// Pushes under way to one owner.
pub(super) const MAX_PUSHES_PER_CLIENT: usize = 4;

/// How often a handler is called for one packet.
pub(super) const MAX_FAILURES: u32 = 3;

/// How often in a row an owner may be out of reach before it is left alone until it is heard of.
pub(super) const MAX_UNREACHABLE: u32 = 10;

/// The pause after a push that failed; twice as long after each further one…
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long an owner may be silent, neither calling nor taking a push, before another may take its protocol: a module that
/// was removed must not keep it for ever, one that is being repaired must not lose it.
pub(super) const LAPSES_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What the desk did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounters {
    /// Packets that a handler took.
    pub pushed: u64,
    /// Calls of handlers that failed.
    pub push_failures: u64,
    /// Packets handed over to polls.
    pub polled: u64,
    /// Packets dropped because their owner's queue, or the memory for all queues, was full.
    pub dropped_full: u64,
    /// Packets of protocols that nobody owns, dropped because nobody asked for them in time or others came after them.
    pub dropped_unclaimed: u64,
    /// Packets that wait for owners.
    pub waiting: u64,
    /// Packets that wait for anybody.
    pub unclaimed: u64,
}

/// How a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The handler took it.
    Handled,
    /// The handler answered an error, or nothing in time.
    Failed,
    /// The owner was not reached.
    Unreachable,
}

/// A packet on its way to a handler.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) id: u64,
    pub(super) protocol: String,
    pub(super) owner: Client,
    pub(super) method: String,
    pub(super) delivery: Delivery,
}

/// What a poll brings.
#[derive(Debug, Default)]
pub(super) struct Polled {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) more: bool,
    pub(super) dropped: u64,
}

/// Why a protocol cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Taken {
    #[error("{0} has it")]
    By(Client),
    #[error("{MAX_PROTOCOLS_PER_CLIENT} protocols are registered by this caller, {MAX_PROTOCOLS} by all")]
    TooMany,
}

struct Handler {
    owner: Client,
    /// Empty when its owner only polls.
    method: String,
    queue: Queue,
    under_way: Option<(u64, Waiting)>,
    not_before: Instant,
    unreachable: u32,
    heard: Instant,
    /// Since the last poll.
    dropped: u64,
}

/// See the [module](self).
pub(super) struct Desk {
    handlers: BTreeMap<String, Handler>,
    unclaimed: Unclaimed,
    pushes: BTreeMap<Client, usize>,
    bytes: usize,
    numbers: u64,
    pace: Pace,
    /// The protocol that was served last: the next one's turn comes after it.
    turn: String,
    counters: DeliveryCounters,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            handlers: BTreeMap::new(),
            unclaimed: Unclaimed::default(),
            pushes: BTreeMap::new(),
            bytes: 0,
            numbers: 0,
            pace: Pace::default(),
            turn: String::new(),
            counters: DeliveryCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> DeliveryCounters {
        let waiting = self.handlers.values().map(|handler| handler.queue.len() as u64);
        DeliveryCounters {
            waiting: waiting.sum(),
            unclaimed: self.unclaimed.len() as u64,
            ..self.counters
        }
    }
}

/// Who owns what.
impl Desk {
    /// Whether `client` may have the protocol.
    pub(super) fn may_register(&self, now: Instant, client: &Client, protocol: &str) -> Result<(), Taken> {
        match self.handlers.get(protocol) {
            Some(handler) if handler.owner == *client => return Ok(()),
            Some(handler) if now.saturating_duration_since(handler.heard) < LAPSES_AFTER => {
                return Err(Taken::By(handler.owner.clone()));
            }
            Some(_) => {}
            None if self.handlers.len() >= MAX_PROTOCOLS => return Err(Taken::TooMany),
            None => {}
        }
        let owned = self.handlers.values().filter(|handler| handler.owner == *client);
        if owned.count() >= MAX_PROTOCOLS_PER_CLIENT {
            return Err(Taken::TooMany);
        }
        Ok(())
    }

    /// Gives a protocol to a client who [may have it](Desk::may_register), with what waits of it. Registered again by its
    /// owner it is as good as new: a module that registers has just started, and packets that its earlier life choked on are
    /// pushed again.
    pub(super) fn register(&mut self, now: Instant, client: Client, protocol: &str, method: String) {
        let known = self.handlers.remove(protocol);
        let (mut queue, under_way, dropped) = match known {
            // Modules register again after every reconnect, and are still to learn what they lost.
            Some(handler) if handler.owner == client => (handler.queue, handler.under_way, handler.dropped),
            Some(handler) => (handler.queue, handler.under_way, 0),
            None => (Queue::default(), None, 0),
        };
        queue.forgive();
        self.handlers.insert(
            protocol.to_owned(),
            Handler {
                owner: client,
                method,
                queue,
                under_way,
                not_before: now,
                unreachable: 0,
                heard: now,
                dropped,
            },
        );
        for waiting in self.unclaimed.take(protocol) {
            self.queue(waiting);
        }
    }

    /// Takes a protocol from its owner; what waits of it waits for the next one. Whether `client` had it.
    pub(super) fn unregister(&mut self, client: &Client, protocol: &str) -> bool {
        if !self.owns(client, protocol) {
            return false;
        }
        if let Some(mut handler) = self.handlers.remove(protocol) {
            self.bytes -= handler.queue.bytes();
            while let Some(waiting) = handler.queue.take_first() {
                self.counters.dropped_unclaimed += self.unclaimed.put(waiting);
            }
        }
        true
    }

    pub(super) fn owns(&self, client: &Client, protocol: &str) -> bool {
        self.handlers
            .get(protocol)
            .is_some_and(|handler| handler.owner == *client)
    }

    /// All registrations: protocol, owner, method.
    pub(super) fn registrations(&self) -> impl Iterator<Item = (&str, &Client, &str)> {
        self.handlers
            .iter()
            .map(|(protocol, handler)| (protocol.as_str(), &handler.owner, handler.method.as_str()))
    }

    /// A client is gone: it is left alone as if it had been out of reach often enough.
    pub(super) fn is_gone(&mut self, client: &Client) {
        let of_client = |handler: &&mut Handler| handler.owner == *client;
        for handler in self.handlers.values_mut().filter(of_client) {
            handler.unreachable = MAX_UNREACHABLE;
        }
    }

    /// A client called, so it lives: what could not be pushed to it is tried again. Whether there is anything to try.
    pub(super) fn heard_of(&mut self, now: Instant, client: &Client) -> bool {
        let mut wakes = false;
        for handler in self
            .handlers
            .values_mut()
            .filter(|handler| handler.owner == *client)
        {
            handler.heard = now;
            if handler.unreachable > 0 {
                handler.unreachable = 0;
                handler.not_before = now;
                wakes = true;
            }
        }
        wakes
    }
}

/// In.
impl Desk {
    /// A packet arrived. Whether it found room.
    pub(super) fn arrived(&mut self, now: Instant, delivery: Delivery) -> bool {
        self.numbers += 1;
        let waiting = Waiting {
            number: self.numbers,
            arrived: now,
            delivery,
            failures: 0,
        };
        if self.handlers.contains_key(&waiting.delivery.protocol_id) {
            return self.queue(waiting);
        }
        let lost = self.unclaimed.put(waiting) + self.unclaimed.forget(now);
        self.counters.dropped_unclaimed += lost;
        lost == 0
    }

    /// The newest is dropped when there is no room: what was taken in first is owed first.
    fn queue(&mut self, waiting: Waiting) -> bool {
        let Some(handler) = self.handlers.get_mut(&waiting.delivery.protocol_id) else {
            return false;
        };
        let bytes = waiting.bytes();
        let has_room = handler.queue.len() < MAX_QUEUED
            && handler.queue.bytes() + bytes <= MAX_QUEUED_BYTES
            && self.bytes + bytes <= MAX_ALL_QUEUED_BYTES;
        if !has_room {
            handler.dropped += 1;
            self.counters.dropped_full += 1;
            return false;
        }
        self.bytes += bytes;
        handler.queue.put(waiting);
        true
    }
}

/// Out, by polls.
impl Desk {
    /// Takes packets out for a client, at most `most` and as long as the next one `fits`: those of its own protocol, or of one
    /// that nobody owns. Nothing of anybody else's.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        client: &Client,
        protocol: &str,
        most: usize,
        mut fits: impl FnMut(&Delivery) -> bool,
    ) -> Polled {
        self.counters.dropped_unclaimed += self.unclaimed.forget(now);
        let mut polled = Polled::default();
        let queue = match self.handlers.get_mut(protocol) {
            Some(handler) if handler.owner == *client => {
                polled.dropped = std::mem::take(&mut handler.dropped);
                &mut handler.queue
            }
            Some(_) => return polled,
            None => self.unclaimed.queue(protocol),
        };
        let before = queue.bytes();
        while polled.deliveries.len() < most
            && queue.front().is_some_and(|waiting| fits(&waiting.delivery))
            && let Some(waiting) = queue.take_first()
        {
            polled.deliveries.push(waiting.delivery);
        }
        polled.more = queue.len() > 0;
        let taken = before - queue.bytes();
        if self.handlers.contains_key(protocol) {
            self.bytes -= taken;
        } else {
            self.unclaimed.taken(protocol, polled.deliveries.len(), taken);
        }
        self.counters.polled += polled.deliveries.len() as u64;
        polled
    }
}

/// Out, by pushes.
impl Desk {
    /// The next packet to push, if there is one that may go now: the protocols take turns.
    pub(super) fn next_push(&mut self, now: Instant, reaches: impl Fn(&Client) -> bool) -> Option<Push> {
        let host_waits = self.pace.wait_until(now).is_some();
        let pushes = &self.pushes;
        let may_go = |handler: &Handler| {
            handler.may_be_pushed()
                && handler.not_before <= now
                && !(host_waits && handler.owner.module_name().is_some())
                && pushes
                    .get(&handler.owner)
                    .is_none_or(|under_way| *under_way < MAX_PUSHES_PER_CLIENT)
                && reaches(&handler.owner)
        };
        let turn = self.turn.as_str();
        let later = (Bound::Excluded(turn), Bound::Unbounded);
        let earlier = (Bound::Unbounded, Bound::Included(turn));
        let later = self.handlers.range::<str, _>(later);
        let earlier = self.handlers.range::<str, _>(earlier);
        let (protocol, _) = later.chain(earlier).find(|(_, handler)| may_go(handler))?;
        let protocol = protocol.clone();
        self.begin(now, protocol)
    }

    fn begin(&mut self, now: Instant, protocol: String) -> Option<Push> {
        let handler = self.handlers.get_mut(&protocol)?;
        let waiting = handler.queue.take_first_below(MAX_FAILURES)?;
        self.bytes -= waiting.bytes();
        self.numbers += 1;
        let push = Push {
            id: self.numbers,
            owner: handler.owner.clone(),
            method: handler.method.clone(),
            delivery: waiting.delivery.clone(),
            protocol,
        };
        handler.under_way = Some((push.id, waiting));
        *self.pushes.entry(push.owner.clone()).or_default() += 1;
        if push.owner.module_name().is_some() {
            self.pace.take(now);
        }
        self.turn.clone_from(&push.protocol);
        Some(push)
    }

    /// When [`Desk::next_push`] may have more to say though nothing came in; none while there is nothing to wait for.
    pub(super) fn next_moment(&mut self, now: Instant, reaches: impl Fn(&Client) -> bool) -> Option<Instant> {
        let host_from = self.pace.wait_until(now).unwrap_or(now);
        let pushable = self
            .handlers
            .values()
            .filter(|handler| handler.may_be_pushed() && reaches(&handler.owner));
        let moment = |handler: &Handler| match handler.owner.module_name() {
            Some(_) => handler.not_before.max(host_from),
            None => handler.not_before,
        };
        pushable.map(moment).filter(|moment| *moment > now).min()
    }

    /// How a push ended.
    pub(super) fn pushed(&mut self, now: Instant, push: &Push, outcome: Outcome) {
        if let Some(under_way) = self.pushes.get_mut(&push.owner) {
            *under_way -= 1;
            if *under_way == 0 {
                self.pushes.remove(&push.owner);
            }
        }
        match outcome {
            Outcome::Handled => self.counters.pushed += 1,
            Outcome::Failed | Outcome::Unreachable => self.counters.push_failures += 1,
        }
        let handler = self.handlers.get_mut(&push.protocol);
        let under_way = handler.and_then(|handler| {
            let (_, waiting) = handler.under_way.take_if(|(id, _)| *id == push.id)?;
            Some((handler, waiting))
        });
        let Some((handler, mut waiting)) = under_way else {
            // Its owner gave the protocol up meanwhile: the packet is the next one's.
            if outcome != Outcome::Handled {
                self.arrived(now, push.delivery.clone());
            }
            return;
        };
        match outcome {
            Outcome::Handled => {
                handler.unreachable = 0;
                handler.heard = now;
                return;
            }
            Outcome::Failed => {
                waiting.failures += 1;
                handler.not_before = now + pause(waiting.failures);
            }
            Outcome::Unreachable => {
                handler.unreachable += 1;
                handler.not_before = now + pause(handler.unreachable);
            }
        }
        // It was taken out of the bounds' count, and comes back into it whatever came meanwhile.
        self.bytes += waiting.bytes();
        handler.queue.put(waiting);
    }
}

impl Handler {
    fn may_be_pushed(&self) -> bool {
        !self.method.is_empty()
            && self.under_way.is_none()
            && self.unreachable < MAX_UNREACHABLE
            && self.queue.has_below(MAX_FAILURES)
    }
}

/// After so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}
