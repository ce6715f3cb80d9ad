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
//! * What an owner was being given when it gave its protocol up is still in its place: nothing overtakes it.
//!
//! Packets of protocols that nobody owns, and those that name none, wait for a while for whoever asks first.
//!
//! What waits for an owner outlives the process: every [`Move`] of such a packet is told to whoever writes it down.

mod owners;
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
use owners::Handler;
use pace::Pace;
use queue::Waiting;
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
    /// Packets that an earlier life of this node left, taken up at the start.
    pub restored: u64,
    /// Packets that are on disk: those that wait for owners or are being pushed, but for what came or went this moment.
    pub on_disk: u64,
}

/// What becomes of a packet that is to outlive the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Move {
    /// It waits for an owner, under this number.
    Came(u64, Delivery),
    /// It was handled, polled or dropped.
    Went(u64),
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

/// See the [module](self).
pub(super) struct Desk {
    handlers: BTreeMap<String, Handler>,
    unclaimed: Unclaimed,
    /// What is being pushed, by protocol: one packet of each, and whoever has the protocol meanwhile waits for its end.
    under_way: BTreeMap<String, (u64, Waiting)>,
    pushes: BTreeMap<Client, usize>,
    bytes: usize,
    numbers: u64,
    arrivals: u64,
    pace: Pace,
    /// The protocol that was served last: the next one's turn comes after it.
    turn: String,
    counters: DeliveryCounters,
    /// Not yet taken by whoever writes them down.
    moves: Vec<Move>,
    /// The node stops: nothing is given away any more.
    closed: bool,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            handlers: BTreeMap::new(),
            unclaimed: Unclaimed::default(),
            under_way: BTreeMap::new(),
            pushes: BTreeMap::new(),
            bytes: 0,
            numbers: 0,
            arrivals: 0,
            pace: Pace::default(),
            turn: String::new(),
            counters: DeliveryCounters::default(),
            moves: Vec::new(),
            closed: false,
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

    /// What is to be written down since this was asked last, in order.
    pub(super) fn take_moves(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.moves)
    }

    /// Packets that arrived, whatever became of them.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// The node stops, and what leaves now could not be written down as gone.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }
}

/// In.
impl Desk {
    /// A packet arrived. Whether it found room.
    pub(super) fn arrived(&mut self, now: Instant, delivery: Delivery) -> bool {
        self.arrivals += 1;
        self.numbers += 1;
        let waiting = Waiting {
            number: self.numbers,
            arrived: now,
            delivery,
            failures: 0,
            kept: false,
            owed: false,
        };
        let lost = (self.counters.dropped_full, self.counters.dropped_unclaimed);
        self.forget_unclaimed(now);
        self.take_in(waiting);
        lost == (self.counters.dropped_full, self.counters.dropped_unclaimed)
    }

    /// A packet that waited in an earlier life of this node, under the number that it had then; to be told in the order of
    /// numbers, once the registrations are known. How often it failed is forgotten: its handler may be another one now.
    pub(super) fn restore(&mut self, now: Instant, number: u64, delivery: Delivery) {
        self.numbers = self.numbers.max(number);
        self.counters.restored += 1;
        // Not against the bounds: its sender has a receipt, and there is one more of a protocol than they allow if that was being
        // pushed when the earlier life ended.
        let owed = !self.handlers.contains_key(&delivery.protocol_id);
        self.put_back(Waiting {
            number,
            arrived: now,
            delivery,
            failures: 0,
            kept: true,
            owed,
        });
    }

    /// The newest is dropped when there is no room at its owner's: what was taken in first is owed first.
    fn take_in(&mut self, mut waiting: Waiting) {
        let Some(handler) = self.handlers.get_mut(&waiting.delivery.protocol_id) else {
            let lost = self.unclaimed.put(waiting);
            return self.lose(lost);
        };
        let bytes = waiting.bytes();
        let owed = std::mem::take(&mut waiting.owed);
        let has_room = owed
            || (handler.queue.len() < MAX_QUEUED
                && handler.queue.bytes() + bytes <= MAX_QUEUED_BYTES
                && self.bytes + bytes <= MAX_ALL_QUEUED_BYTES);
        if !has_room {
            handler.dropped += 1;
            self.counters.dropped_full += 1;
            self.moves.extend(waiting.went());
            return;
        }
        self.moves.extend(waiting.came());
        self.bytes += bytes;
        handler.queue.put(waiting);
    }

    /// A packet that is not new goes where it was, whatever came meanwhile.
    fn put_back(&mut self, waiting: Waiting) {
        match self.handlers.get_mut(&waiting.delivery.protocol_id) {
            Some(handler) => {
                self.bytes += waiting.bytes();
                handler.queue.put(waiting);
            }
            None => {
                let lost = self.unclaimed.put(waiting);
                self.lose(lost);
            }
        }
    }

    fn forget_unclaimed(&mut self, now: Instant) {
        let lost = self.unclaimed.forget(now);
        self.lose(lost);
    }

    fn lose(&mut self, lost: Vec<Waiting>) {
        self.counters.dropped_unclaimed += lost.len() as u64;
        self.moves.extend(lost.iter().filter_map(Waiting::went));
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
        self.forget_unclaimed(now);
        let mut polled = Polled::default();
        if self.closed {
            return polled;
        }
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
            self.moves.extend(waiting.went());
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
        if self.closed {
            return None;
        }
        let host_waits = self.pace.wait_until(now).is_some();
        let (pushes, busy) = (&self.pushes, &self.under_way);
        let may_go = |protocol: &String, handler: &Handler| {
            handler.may_be_pushed()
                && !busy.contains_key(protocol)
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
        let (protocol, _) = later
            .chain(earlier)
            .find(|(protocol, handler)| may_go(protocol, handler))?;
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
        self.under_way.insert(push.protocol.clone(), (push.id, waiting));
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
        let pushable = self.handlers.iter().filter(|(protocol, handler)| {
            handler.may_be_pushed() && !self.under_way.contains_key(*protocol) && reaches(&handler.owner)
        });
        let moment = |(_, handler): (&String, &Handler)| match handler.owner.module_name() {
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
        let ended = self.under_way.get(&push.protocol);
        if ended.is_none_or(|(id, _)| *id != push.id) {
            return;
        }
        let Some((_, mut waiting)) = self.under_way.remove(&push.protocol) else {
            return;
        };
        // Whoever has the protocol by now is not to blame for what its last owner did.
        let handler = self.handlers.get_mut(&push.protocol);
        let handler = handler.filter(|handler| handler.owner == push.owner);
        match (outcome, handler) {
            (Outcome::Handled, handler) => {
                if let Some(handler) = handler {
                    handler.is_heard(now);
                }
                self.moves.extend(waiting.went());
                return;
            }
            (Outcome::Failed, Some(handler)) => {
                waiting.failures += 1;
                handler.not_before = now + pause(waiting.failures);
            }
            (Outcome::Unreachable, Some(handler)) => {
                handler.unreachable += 1;
                handler.not_before = now + pause(handler.unreachable);
            }
            (Outcome::Failed | Outcome::Unreachable, None) => waiting.failures = 0,
        }
        // It was taken out of the bounds' count, and comes back into it.
        self.put_back(waiting);
    }
}

/// After so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}
