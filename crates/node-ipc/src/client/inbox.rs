//! What has come from the node and waits for the module.
//!
//! The reader never waits for the module: a slow module loses events, which are counted, and calls are refused. What must arrive
//! has a reserve of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::event::Event;

use super::counters::{Counting, count};
use super::options::Incoming;

/// Handed over and not yet taken. Small: what waits here cannot be dropped any more.
pub(super) const HANDED_OVER: usize = 32;

/// Events that may wait: some seconds of a busy node's.
const EVENTS: usize = 1024;

/// Bytes that waiting events may hold. A node's module has 512 MiB for everything.
const BYTES: usize = 16 * 1024 * 1024;

/// The longest event that is kept: anybody on the node's network can send long mesh frames.
pub(super) const MAX_EVENT: usize = 1024 * 1024;

/// Room above [`EVENTS`] for what must arrive. These are rare; only a module that stands still fills it.
const RESERVE: usize = 256;

/// The same for bytes.
const RESERVE_BYTES: usize = 4 * 1024 * 1024;

/// The queue, on the reader's side.
#[derive(Debug)]
pub(super) struct Inbox {
    to: mpsc::Sender<Incoming>,
    waiting: VecDeque<(Incoming, usize)>,
    bytes: usize,
    counters: Arc<Counting>,
}

impl Inbox {
    pub(super) fn new(to: mpsc::Sender<Incoming>, counters: Arc<Counting>) -> Self {
        Self {
            to,
            waiting: VecDeque::new(),
            bytes: 0,
            counters,
        }
    }

    /// An event of so many bytes.
    pub(super) fn event(&mut self, event: Event, bytes: usize) {
        let must_arrive = event.kind.must_arrive();
        if bytes > MAX_EVENT {
            count(&self.counters.events_too_long);
        } else if self.has_room(bytes) || (must_arrive && self.has_reserve(bytes)) {
            count(&self.counters.events);
            self.push(Incoming::Event(event), bytes);
        } else if must_arrive {
            count(&self.counters.life_cycle_dropped);
        } else {
            count(&self.counters.events_dropped);
        }
    }

    /// A call. There are never more of them than permits.
    pub(super) fn invocation(&mut self, incoming: Incoming) {
        self.push(incoming, 0);
    }

    /// Connected, or no longer.
    pub(super) fn state(&mut self, incoming: Incoming) {
        if self.has_reserve(0) {
            self.push(incoming, 0);
        } else {
            count(&self.counters.life_cycle_dropped);
        }
    }

    /// Hands one on as soon as the module takes it. May be given up at any moment; never returns while there is nothing.
    pub(super) async fn deliver(&mut self) {
        if self.waiting.is_empty() {
            return std::future::pending().await;
        }
        match self.to.reserve().await {
            Ok(place) => {
                if let Some((incoming, bytes)) = self.waiting.pop_front() {
                    self.bytes -= bytes;
                    place.send(incoming);
                }
            }
            // The module listens no more; it may still ask.
            Err(_) => {
                self.waiting.clear();
                self.bytes = 0;
            }
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.len() < EVENTS && self.bytes + bytes <= BYTES
    }

    fn has_reserve(&self, bytes: usize) -> bool {
        self.waiting.len() < EVENTS + RESERVE && self.bytes + bytes <= BYTES + RESERVE_BYTES
    }

    fn push(&mut self, incoming: Incoming, bytes: usize) {
        self.bytes += bytes;
        self.waiting.push_back((incoming, bytes));
    }
}
