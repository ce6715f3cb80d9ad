//! Whose a protocol is, and until when.

use std::time::Instant;

use super::queue::Queue;
use super::{
    Desk, LAPSES_AFTER, MAX_FAILURES, MAX_PROTOCOLS, MAX_PROTOCOLS_PER_CLIENT, MAX_UNREACHABLE, Taken,
};
use crate::api::client::Client;

/// One protocol that is owned.
pub(super) struct Handler {
    pub(super) owner: Client,
    /// Empty when its owner only polls.
    pub(super) method: String,
    pub(super) queue: Queue,
    pub(super) not_before: Instant,
    pub(super) unreachable: u32,
    /// When its owner was last heard of.
    pub(super) heard: Instant,
    /// Heard of in this life of the node, and not said to be gone since.
    pub(super) lives: bool,
    /// Since the last poll.
    pub(super) dropped: u64,
}

impl Handler {
    pub(super) fn may_be_pushed(&self) -> bool {
        !self.method.is_empty() && self.unreachable < MAX_UNREACHABLE && self.queue.has_below(MAX_FAILURES)
    }

    pub(super) fn is_heard(&mut self, now: Instant) {
        self.unreachable = 0;
        self.heard = now;
        self.lives = true;
    }

    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= LAPSES_AFTER
    }

    /// Whether another may take it. A module with nothing to do is silent and lives, and the host tells when it does not;
    /// nobody tells of a client of the socket, whose open connection counts as being heard.
    fn has_lapsed(&self, now: Instant) -> bool {
        let lives = self.lives && self.unreachable < MAX_UNREACHABLE && self.owner.module_name().is_some();
        self.is_silent(now) && !lives
    }
}

/// Who owns what.
impl Desk {
    /// Whether `client` may have the protocol.
    pub(in crate::api) fn may_register(
        &self,
        now: Instant,
        client: &Client,
        protocol: &str,
    ) -> Result<(), Taken> {
        match self.handlers.get(protocol) {
            Some(handler) if handler.owner == *client => return Ok(()),
            Some(handler) if !handler.has_lapsed(now) => {
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
    pub(in crate::api) fn register(&mut self, now: Instant, client: Client, protocol: &str, method: String) {
        let (mut queue, dropped) = match self.handlers.remove(protocol) {
            // Modules register again after every reconnect, and are still to learn what they lost.
            Some(handler) if handler.owner == client => (handler.queue, handler.dropped),
            Some(handler) => (handler.queue, 0),
            None => (Queue::default(), 0),
        };
        queue.forgive();
        self.handlers.insert(
            protocol.to_owned(),
            Handler {
                owner: client,
                method,
                queue,
                not_before: now,
                unreachable: 0,
                heard: now,
                lives: true,
                dropped,
            },
        );
        for waiting in self.unclaimed.take(protocol) {
            self.take_in(waiting);
        }
    }

    /// Gives a protocol to whom it belonged in an earlier life of this node, which may be no more.
    pub(in crate::api) fn restore_owner(
        &mut self,
        now: Instant,
        client: Client,
        protocol: &str,
        method: String,
    ) {
        self.register(now, client, protocol, method);
        if let Some(handler) = self.handlers.get_mut(protocol) {
            handler.lives = false;
        }
    }

    /// The owner of a protocol who has been silent for so long that only his being alive keeps it his.
    pub(in crate::api) fn silent_owner(&self, now: Instant, protocol: &str) -> Option<&Client> {
        let handler = self.handlers.get(protocol)?;
        handler.is_silent(now).then_some(&handler.owner)
    }

    /// Takes a protocol from its owner; what waits of it waits for the next one. Whether `client` had it.
    pub(in crate::api) fn unregister(&mut self, client: &Client, protocol: &str) -> bool {
        if !self.owns(client, protocol) {
            return false;
        }
        if let Some(mut handler) = self.handlers.remove(protocol) {
            self.bytes -= handler.queue.bytes();
            while let Some(waiting) = handler.queue.take_first() {
                let lost = self.unclaimed.put(waiting);
                self.lose(lost);
            }
        }
        true
    }

    pub(in crate::api) fn owns(&self, client: &Client, protocol: &str) -> bool {
        self.handlers
            .get(protocol)
            .is_some_and(|handler| handler.owner == *client)
    }

    /// All registrations: protocol, owner, method.
    pub(in crate::api) fn registrations(&self) -> impl Iterator<Item = (&str, &Client, &str)> {
        self.handlers
            .iter()
            .map(|(protocol, handler)| (protocol.as_str(), &handler.owner, handler.method.as_str()))
    }

    /// A client is gone: it is left alone as if it had been out of reach often enough.
    pub(in crate::api) fn is_gone(&mut self, client: &Client) {
        let of_client = |handler: &&mut Handler| handler.owner == *client;
        for handler in self.handlers.values_mut().filter(of_client) {
            handler.unreachable = MAX_UNREACHABLE;
            handler.lives = false;
        }
    }

    /// A client called, so it lives: what could not be pushed to it is tried again. Whether there is anything to try.
    pub(in crate::api) fn heard_of(&mut self, now: Instant, client: &Client) -> bool {
        let mut wakes = false;
        for handler in self
            .handlers
            .values_mut()
            .filter(|handler| handler.owner == *client)
        {
            if handler.unreachable > 0 {
                handler.not_before = now;
                wakes = true;
            }
            handler.is_heard(now);
        }
        wakes
    }
}
