//! What was spent stays spent: nothing that buys or counts something is honoured twice.
//!
//! Two questions, asked at very different rates, have each their own structure:
//!
//! - *Was this packet seen before?* Asked for every packet. A session's sequence numbers mostly rise, so a
//!   [`SequenceWindow`] of 272 bytes per session and direction answers exactly.
//! - *Was this payment redeemed before?* Asked once per slice, but over everything redeemed for a day and
//!   more. The hashes have no order, so [`SingleUse`] is a set, 22 bytes per hash, and it never forgets
//!   early: a replay filter that forgets when full can be flooded until it forgets the very proof the
//!   attacker wants to spend again.
//!
//! [`ReplayPrevention`] is what the rest of the core holds: the set, and what an operator wants to know about
//! it. The windows live in their sessions.

mod sequence_window;
mod single_use;

use std::time::Duration;

pub use sequence_window::SequenceWindow;
pub use single_use::{MAX_CAPACITY, SingleUse};

use crate::drop_reason::DropReason;
use crate::limits::REPLAY_MEMORY;
use crate::time::UnixMillis;

/// Refuses payments that were redeemed before, and counts.
#[derive(Debug)]
pub struct ReplayPrevention {
    redeemed: SingleUse,
    replays_refused: u64,
    refused_when_full: u64,
}

/// What [`ReplayPrevention`] holds and did, for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayStats {
    /// Hashes remembered now.
    pub active_hashes: usize,
    /// Hashes that can be remembered at once.
    pub capacity: usize,
    /// Sequence windows in use: one for each session and direction that packets are counted on.
    pub tracked_sessions: usize,
    /// How long a hash is remembered at the least, in seconds.
    pub expiry_seconds: u64,
    /// Proofs refused since the start because they were redeemed before.
    pub replays_refused: u64,
    /// Proofs refused since the start because the set was full.
    pub refused_when_full: u64,
}

impl ReplayPrevention {
    /// A set that holds up to `capacity` hashes (at most [`MAX_CAPACITY`]), keyed by `seed`, which nobody
    /// else may know.
    pub fn new(seed: &[u8; 32], capacity: usize) -> Self {
        Self {
            redeemed: SingleUse::new(seed, capacity),
            replays_refused: 0,
            refused_when_full: 0,
        }
    }

    /// Redeems what `hash` stands for, once: see [`SingleUse::insert`]. Use it to restore what a store kept,
    /// too.
    pub fn redeem(
        &mut self,
        hash: &[u8; 32],
        expires: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), DropReason> {
        let outcome = self.redeemed.insert(hash, expires, now);
        match outcome {
            Err(DropReason::AlreadyRedeemed) => self.replays_refused += 1,
            Err(_) => self.refused_when_full += 1,
            Ok(()) => {}
        }
        outcome
    }

    /// Whether `hash` was redeemed and is remembered.
    pub fn is_redeemed(&self, hash: &[u8; 32]) -> bool {
        self.redeemed.contains(hash)
    }

    /// Forgets a bounded part of what is due: see [`SingleUse::expire`]. Returns whether more is left to do.
    pub fn expire(&mut self, now: UnixMillis) -> bool {
        self.redeemed.expire(now)
    }

    /// The figures of this moment. The session table says how many windows it keeps; a count kept here as
    /// well could only drift from it.
    pub fn stats(&self, tracked_sessions: usize) -> ReplayStats {
        ReplayStats {
            active_hashes: self.redeemed.len(),
            capacity: self.redeemed.capacity(),
            tracked_sessions,
            expiry_seconds: Duration::as_secs(&REPLAY_MEMORY),
            replays_refused: self.replays_refused,
            refused_when_full: self.refused_when_full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_counted_under_its_own_name() {
        let mut replay = ReplayPrevention::new(&[1; 32], 1);
        let now = UnixMillis(1_000_000);
        assert_eq!(replay.redeem(&[1; 32], now, now), Ok(()));
        assert_eq!(
            replay.redeem(&[1; 32], now, now),
            Err(DropReason::AlreadyRedeemed)
        );
        assert_eq!(replay.redeem(&[2; 32], now, now), Err(DropReason::TableFull));
        assert!(replay.is_redeemed(&[1; 32]) && !replay.is_redeemed(&[2; 32]));
        let expected = ReplayStats {
            active_hashes: 1,
            capacity: 1,
            tracked_sessions: 7,
            expiry_seconds: 24 * 3600,
            replays_refused: 1,
            refused_when_full: 1,
        };
        assert_eq!(replay.stats(7), expected);
    }
}
