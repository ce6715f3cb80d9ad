//! What the carrier counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters with their meanings once.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// All counts of the carrier at one moment. They only grow, from zero at its start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct CarrierCounts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> CarrierCounts {
                CarrierCounts { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Frames the node took for sending.
    frames_sent,
    /// Their bytes, without the envelope.
    bytes_sent,
    /// Frames that came and were handled.
    frames_received,
    /// Their bytes, without the envelope.
    bytes_received,
    /// Peers that were asked whether they speak this.
    asks_sent,
    /// Peers that asked us and got an answer.
    asks_answered,
    /// Conversations that were agreed on.
    conversations,
    /// Frames that nobody can read.
    unreadable,
    /// Frames of a conversation that is over, or never was.
    stray,
    /// Frames that were not taken in, because too many came at once or a peer asked too often.
    flooded,
    /// Asks, answers and ends that were not sent, because too many waited.
    unsent,
    /// Frames the node did not take for sending.
    refused,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
