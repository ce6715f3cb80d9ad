//! One conversation: the two streams of a link, cut into frames and put together again.
//!
//! The node's connections keep order and lose nothing, but the queues on the way do: a node drops events that its module
//! does not take fast enough. Frames are therefore numbered. One that comes early waits a moment for those before it; one
//! that stays away is lost, and the conversation with it: the link comes up anew, which costs less than a
//! retransmission that nobody needs on a good day.
//!
//! Nothing here waits or does input and output; time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_net::CloseReason;
use tokio::time::Instant;

use super::WINDOW_BYTES;
use super::frame::{Carry, Frame, MAX_CHUNK_BYTES, Token};
use super::pipe::Pipe;

/// Frames held that came before their turn. Order is broken only where a node handles two messages at once; at this many
/// a frame is lost, not late.
pub const MAX_EARLY_FRAMES: usize = 4;

/// How long an early frame waits for those before it.
pub const EARLY_PATIENCE: Duration = Duration::from_secs(1);

/// Of a full frame, what control messages may take while data waits too: they go first, but do not stop everything else.
const MAX_CONTROL_SHARE_BYTES: usize = MAX_CHUNK_BYTES / 2;

/// Data and control, in the order of their chunks.
const DATA: usize = 0;
const CONTROL: usize = 1;

/// Both sides agreed to talk.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// What the other side calls it towards us.
    pub(crate) mine: Token,
    /// What we call it towards the other side.
    pub(crate) theirs: Token,
    pub(crate) since: Instant,
    pipes: [Pipe; 2],
    /// Our next carry.
    number: u64,
    /// Bytes sent of each stream in all.
    sent: [u64; 2],
    /// How many of them the other side has taken.
    taken: [u64; 2],
    /// The other side's next carry.
    expected: u64,
    early: BTreeMap<u64, Carry>,
    early_since: Option<Instant>,
}

impl Conversation {
    pub(crate) fn new(mine: Token, theirs: Token, pipes: [Pipe; 2], now: Instant) -> Self {
        Self {
            mine,
            theirs,
            since: now,
            pipes,
            number: 0,
            sent: [0; 2],
            taken: [0; 2],
            expected: 0,
            early: BTreeMap::new(),
            early_since: None,
        }
    }

    /// A carry came that names this conversation. An error ends it.
    pub(crate) fn hear(&mut self, carry: Carry, now: Instant) -> Result<(), CloseReason> {
        if carry.number < self.expected {
            // Said already; a node that says things twice loses nothing.
            return Ok(());
        }
        if carry.number > self.expected {
            // One that is held already takes no further place.
            if self.early.len() >= MAX_EARLY_FRAMES && !self.early.contains_key(&carry.number) {
                return Err(CloseReason::FramesLost);
            }
            self.early.insert(carry.number, carry);
            self.early_since.get_or_insert(now);
            return Ok(());
        }
        self.take_up(carry)?;
        while let Some(next) = self.early.remove(&self.expected) {
            self.take_up(next)?;
            self.early_since = Some(now);
        }
        if self.early.is_empty() {
            self.early_since = None;
        }
        Ok(())
    }

    /// Whether frames are missing for too long.
    pub(crate) fn check(&self, now: Instant) -> Result<(), CloseReason> {
        match self.patience_ends() {
            Some(end) if now >= end => Err(CloseReason::FramesLost),
            _ => Ok(()),
        }
    }

    /// When [`Conversation::check`] should be called at the latest.
    pub(crate) fn patience_ends(&self) -> Option<Instant> {
        Some(self.early_since? + EARLY_PATIENCE)
    }

    fn take_up(&mut self, carry: Carry) -> Result<(), CloseReason> {
        self.expected += 1;
        for (stream, taken) in carry.taken.into_iter().enumerate() {
            if taken > self.sent[stream] {
                // More than was ever sent: a lie, or another conversation's frame. Nothing can be built on it.
                return Err(CloseReason::BadCarrierFrame);
            }
            self.taken[stream] = self.taken[stream].max(taken);
        }
        for (pipe, chunk) in self.pipes.iter().zip(&carry.chunks) {
            if !pipe.put(chunk) {
                return Err(CloseReason::WindowOverrun);
            }
        }
        Ok(())
    }

    /// Whether there is something to say now.
    pub(crate) fn has_something_to_say(&self) -> bool {
        [DATA, CONTROL]
            .into_iter()
            .any(|stream| self.pipes[stream].must_tell() || self.sendable(stream) > 0)
    }

    /// What to say next, if anything.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        if !self.has_something_to_say() {
            return None;
        }
        let data_waits = self.sendable(DATA);
        let control_share = match data_waits {
            0 => MAX_CHUNK_BYTES,
            data => MAX_CONTROL_SHARE_BYTES.max(MAX_CHUNK_BYTES.saturating_sub(data)),
        };
        let control = self.pipes[CONTROL].take(self.sendable(CONTROL).min(control_share));
        let data = self.pipes[DATA].take(data_waits.min(MAX_CHUNK_BYTES - control.len()));
        self.sent[DATA] += data.len() as u64;
        self.sent[CONTROL] += control.len() as u64;
        let carry = Carry {
            to: self.theirs,
            number: self.number,
            taken: [self.pipes[DATA].tell(), self.pipes[CONTROL].tell()],
            chunks: [data, control],
        };
        self.number += 1;
        Some(Frame::Carry(carry))
    }

    /// Bytes that wait and that the other side has room for.
    fn sendable(&self, stream: usize) -> usize {
        let under_way = self.sent[stream] - self.taken[stream];
        let room = (WINDOW_BYTES as u64).saturating_sub(under_way) as usize;
        self.pipes[stream].waiting().min(room)
    }

    /// Whether the link is gone and its last words, as far as there was room for them, are sent.
    pub(crate) fn is_over(&self) -> bool {
        self.pipes.iter().all(Pipe::is_abandoned) && !self.has_something_to_say()
    }

    /// Ends both streams for the link.
    pub(crate) fn end(&self, reason: CloseReason) {
        for pipe in &self.pipes {
            pipe.end(reason);
        }
    }
}
