//! What a transport counts: ends by reason, traffic by channel, drops.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Channel, CloseReason};

/// Counts of one channel and direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames, keep-alives not counted.
    pub frames: u64,
    /// Bytes of frame bodies.
    pub bytes: u64,
}

/// All counters at one moment. They only grow, from zero at the start of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterSnapshot {
    closed: Vec<u64>,
    /// TCP connections taken from the listener.
    pub accepted: u64,
    /// Attempts to dial.
    pub dialled: u64,
    /// Links that came up.
    pub links_up: u64,
    /// Data frames thrown away because a link's queue was full.
    pub data_frames_dropped: u64,
    /// Received on data connections.
    pub data_received: Traffic,
    /// Received on control connections.
    pub control_received: Traffic,
    /// Sent on data connections.
    pub data_sent: Traffic,
    /// Sent on control connections.
    pub control_sent: Traffic,
}

impl CounterSnapshot {
    /// How many connections or links ended for `reason`. A link counts once, whichever connection failed.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize).copied().unwrap_or_default()
    }

    /// Every reason with its count, for metrics.
    pub fn closed_by_reason(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL
            .iter()
            .map(|reason| (*reason, self.closed(*reason)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct TrafficCounter {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl TrafficCounter {
    pub(crate) fn add(&self, frames: usize, bytes: usize) {
        self.frames.fetch_add(frames as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn get(&self) -> Traffic {
        Traffic {
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Counters {
    closed: Vec<AtomicU64>,
    pub(crate) accepted: AtomicU64,
    pub(crate) dialled: AtomicU64,
    pub(crate) links_up: AtomicU64,
    pub(crate) data_frames_dropped: AtomicU64,
    data_received: TrafficCounter,
    control_received: TrafficCounter,
    data_sent: TrafficCounter,
    control_sent: TrafficCounter,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            closed: CloseReason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            accepted: AtomicU64::default(),
            dialled: AtomicU64::default(),
            links_up: AtomicU64::default(),
            data_frames_dropped: AtomicU64::default(),
            data_received: TrafficCounter::default(),
            control_received: TrafficCounter::default(),
            data_sent: TrafficCounter::default(),
            control_sent: TrafficCounter::default(),
        }
    }
}

impl Counters {
    pub(crate) fn closed(&self, reason: CloseReason) {
        if let Some(counter) = self.closed.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn received(&self, channel: Channel) -> &TrafficCounter {
        match channel {
            Channel::Data => &self.data_received,
            Channel::Control => &self.control_received,
        }
    }

    pub(crate) fn sent(&self, channel: Channel) -> &TrafficCounter {
        match channel {
            Channel::Data => &self.data_sent,
            Channel::Control => &self.control_sent,
        }
    }

    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            closed: self
                .closed
                .iter()
                .map(|counter| counter.load(Ordering::Relaxed))
                .collect(),
            accepted: self.accepted.load(Ordering::Relaxed),
            dialled: self.dialled.load(Ordering::Relaxed),
            links_up: self.links_up.load(Ordering::Relaxed),
            data_frames_dropped: self.data_frames_dropped.load(Ordering::Relaxed),
            data_received: self.data_received.get(),
            control_received: self.control_received.get(),
            data_sent: self.data_sent.get(),
            control_sent: self.control_sent.get(),
        }
    }
}
