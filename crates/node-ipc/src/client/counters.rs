//! What is counted, for whoever looks after the module.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {
        /// Totals since the client's start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$meta])* pub $name: u64),* }

        #[derive(Debug, Default)]
        pub(super) struct Counting { $(pub(super) $name: AtomicU64),* }

        impl Counting {
            pub(super) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Connections on which the node took us in.
    connects,
    /// Connections that ended.
    disconnects,
    /// Attempts that led to no connection.
    failed_attempts,
    /// Requests asked for.
    requests,
    /// Requests without an answer, or with a refusal.
    requests_failed,
    /// Answers that nobody waited for any more.
    late_answers,
    /// Events told to the module.
    events,
    /// Events dropped because the module was slow.
    events_dropped,
    /// Events dropped although they must arrive: the module stood still.
    life_cycle_dropped,
    /// Events dropped because they were too long.
    events_too_long,
    /// Messages of kinds that only a newer node knows.
    unknown_messages,
    /// Events of kinds that only a newer node knows.
    unknown_events,
    /// Answers that could not be read.
    unreadable_answers,
    /// Frames that could not be read.
    unreadable_frames,
    /// Calls handed to the module.
    invocations,
    /// Calls refused because the module was slow, or because they could not be read.
    invocations_refused,
    /// Log lines that did not reach the node.
    logs_dropped,
    /// Registrations that the node refused, or closed the connection over.
    registrations_refused,
    /// Registrations given up.
    registrations_given_up,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
