//! Packets that wait for one protocol's owner, in the order of their arrival.

use std::collections::VecDeque;
use std::time::Instant;

use mesh_core::event::Delivery;

use super::Move;

/// What a waiting packet takes beside its payload, in bytes, generously: a flood of empty packets is bounded by it.
const OVERHEAD_BYTES: usize = 512;

/// A packet that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    /// Its place among all that arrived.
    pub(super) number: u64,
    /// When it came.
    pub(super) arrived: Instant,
    /// What came.
    pub(super) delivery: Delivery,
    /// How often its handler was called for it and failed.
    pub(super) failures: u32,
    /// Whether it was told as a [`Move::Came`].
    pub(super) kept: bool,
    /// An earlier life of the node owed it to an owner, and this one found none for it: no bound drops it, since its sender has
    /// a receipt.
    pub(super) owed: bool,
}

impl Waiting {
    pub(super) fn bytes(&self) -> usize {
        self.delivery.payload.len() + self.delivery.protocol_id.len() + OVERHEAD_BYTES
    }

    /// What is to be told now that it waits for an owner, if that was not told before.
    pub(super) fn came(&mut self) -> Option<Move> {
        let is_news = !std::mem::replace(&mut self.kept, true);
        is_news.then(|| Move::Came(self.number, self.delivery.clone()))
    }

    /// What is to be told now that it waits no more.
    pub(super) fn went(&self) -> Option<Move> {
        self.kept.then_some(Move::Went(self.number))
    }
}

/// What waits, in order. The bounds are for whoever puts something in: [`super::Desk`].
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Waiting>,
    bytes: usize,
    owed: usize,
    owed_bytes: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets that no bound drops, and their bytes.
    pub(super) fn owed(&self) -> (usize, usize) {
        (self.owed, self.owed_bytes)
    }

    /// Puts a packet in its place: at the end when it is new, where it was when it comes back from a handler that failed.
    pub(super) fn put(&mut self, waiting: Waiting) {
        let place = self.items.partition_point(|item| item.number < waiting.number);
        self.bytes += waiting.bytes();
        if waiting.owed {
            self.owed += 1;
            self.owed_bytes += waiting.bytes();
        }
        self.items.insert(place, waiting);
    }

    /// The first packet.
    pub(super) fn front(&self) -> Option<&Waiting> {
        self.items.front()
    }

    /// The first packet that bounds may drop. Those that they may not are older than all others.
    pub(super) fn first_bounded(&self) -> Option<&Waiting> {
        self.items.get(self.owed)
    }

    /// Takes [that packet](Queue::first_bounded) out.
    pub(super) fn take_first_bounded(&mut self) -> Option<Waiting> {
        self.take_at(self.owed)
    }

    /// Takes the first packet out.
    pub(super) fn take_first(&mut self) -> Option<Waiting> {
        self.take_at(0)
    }

    /// Takes out the first packet that failed less often than `failures`.
    pub(super) fn take_first_below(&mut self, failures: u32) -> Option<Waiting> {
        let place = self.items.iter().position(|item| item.failures < failures)?;
        self.take_at(place)
    }

    /// Whether [`Queue::take_first_below`] would find one.
    pub(super) fn has_below(&self, failures: u32) -> bool {
        self.items.iter().any(|item| item.failures < failures)
    }

    /// Every packet is as good as new to its handler.
    pub(super) fn forgive(&mut self) {
        for item in &mut self.items {
            item.failures = 0;
        }
    }

    fn take_at(&mut self, place: usize) -> Option<Waiting> {
        let taken = self.items.remove(place)?;
        self.bytes -= taken.bytes();
        if taken.owed {
            self.owed -= 1;
            self.owed_bytes -= taken.bytes();
        }
        Some(taken)
    }
}
