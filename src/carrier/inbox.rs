//! What came from the node and was not handled yet.
//!
//! The node's events must never wait for the carrier, so putting something here never does: what does not fit is dropped
//! and counted, and the conversation that misses it ends as such. One neighbour that floods fills his own share only.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Frames held for one peer: a second of the highest rate that an honest one can send.
const MAX_FRAMES_PER_PEER: usize = 64;

/// Bytes held for all peers together.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Things held in all, frames or not: the list itself must not grow either.
const MAX_ITEMS: usize = 4096;

/// What the node told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A frame of a peer's.
    Frame(SocketAddr, Bytes),
    /// A peer came.
    Came(SocketAddr),
    /// A peer went.
    Went(SocketAddr),
    /// Our connection to the node is new: what was sent before may be lost.
    NodeBack,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Heard>,
    bytes: usize,
    by_peer: BTreeMap<SocketAddr, usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<State>);

impl Inbox {
    /// Puts something in, or says that it does not fit.
    pub(crate) fn put(&self, heard: Heard) -> bool {
        let mut state = self.lock();
        if state.items.len() >= MAX_ITEMS {
            return false;
        }
        if let Heard::Frame(peer, frame) = &heard {
            let held = state.by_peer.get(peer).copied().unwrap_or_default();
            if held >= MAX_FRAMES_PER_PEER || state.bytes + frame.len() > MAX_BYTES {
                return false;
            }
            state.by_peer.insert(*peer, held + 1);
            state.bytes += frame.len();
        }
        state.items.push_back(heard);
        true
    }

    /// Takes all.
    pub(crate) fn take(&self) -> VecDeque<Heard> {
        std::mem::take(&mut *self.lock()).items
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_floods_fills_his_own_share_only_and_the_whole_stays_bounded() {
        let inbox = Inbox::default();
        let peer = |number: u16| SocketAddr::from(([10, 0, 0, 1], number));
        let frame = || Bytes::from(vec![0; 60_000]);
        let kept = (0..10_000).filter(|_| inbox.put(Heard::Frame(peer(1), frame())));
        assert_eq!(kept.count(), MAX_FRAMES_PER_PEER);
        assert!(
            inbox.put(Heard::Frame(peer(2), frame())),
            "others are still heard"
        );
        let kept = (0..10_000u16).filter(|number| inbox.put(Heard::Frame(peer(*number), frame())));
        assert!(kept.count() * 60_000 <= MAX_BYTES);
        let kept = (0..10_000u16).filter(|number| inbox.put(Heard::Came(peer(*number))));
        assert!(kept.count() <= MAX_ITEMS);
        assert!(!inbox.take().is_empty());
        assert!(
            inbox.put(Heard::Frame(peer(1), frame())),
            "room again once it was taken"
        );
    }
}
