//! Packets that nobody owns: a module that starts a moment after its first packet came still gets it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::queue::{Queue, Waiting};

/// How long such a packet waits. Modules start within seconds, and whoever polls without registering polls more often.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// Packets kept, all protocols together; the oldest makes room, since anybody who may send to this node can fill this.
const MAX_KEPT: usize = 256;

/// Bytes of them.
const MAX_KEPT_BYTES: usize = 8 << 20;

/// Packets by protocol; the empty one is that of packets that name none.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    by_protocol: BTreeMap<String, Queue>,
    packets: usize,
    bytes: usize,
}

impl Unclaimed {
    pub(super) fn len(&self) -> usize {
        self.packets
    }

    /// Keeps a packet. Those that had to make room: none for one that is owed, and none that is. Those are no more than were on
    /// disk at the start, and leave when their time is over or somebody registers.
    pub(super) fn put(&mut self, waiting: Waiting) -> Vec<Waiting> {
        let mut lost = Vec::new();
        while !waiting.owed && !self.has_room_for(&waiting) {
            let Some(oldest) = self.take_oldest_bounded() else {
                break;
            };
            lost.push(oldest);
        }
        self.packets += 1;
        self.bytes += waiting.bytes();
        let protocol = waiting.delivery.protocol_id.clone();
        self.by_protocol.entry(protocol).or_default().put(waiting);
        lost
    }

    fn has_room_for(&self, waiting: &Waiting) -> bool {
        let owed = self.by_protocol.values().map(Queue::owed);
        let (owed, owed_bytes) = owed.fold((0, 0), |(packets, bytes), (more, longer)| {
            (packets + more, bytes + longer)
        });
        self.packets - owed < MAX_KEPT && self.bytes - owed_bytes + waiting.bytes() <= MAX_KEPT_BYTES
    }

    /// Takes out what nobody asked for in time.
    pub(super) fn forget(&mut self, now: Instant) -> Vec<Waiting> {
        std::iter::from_fn(|| self.take_oldest(now)).collect()
    }

    /// Takes out all packets of a protocol, in order.
    pub(super) fn take(&mut self, protocol: &str) -> Vec<Waiting> {
        let mut taken = Vec::new();
        if let Some(mut queue) = self.by_protocol.remove(protocol) {
            self.packets -= queue.len();
            self.bytes -= queue.bytes();
            while let Some(waiting) = queue.take_first() {
                taken.push(waiting);
            }
        }
        taken
    }

    /// A protocol's queue, to be polled; [`Unclaimed::taken`] must hear of what was taken out.
    pub(super) fn queue(&mut self, protocol: &str) -> &mut Queue {
        self.by_protocol.entry(protocol.to_owned()).or_default()
    }

    pub(super) fn taken(&mut self, protocol: &str, packets: usize, bytes: usize) {
        self.packets -= packets;
        self.bytes -= bytes;
        self.by_protocol
            .retain(|name, queue| name != protocol || queue.len() > 0);
    }

    /// Takes out the oldest packet that may have to make room.
    fn take_oldest_bounded(&mut self) -> Option<Waiting> {
        let oldest = self
            .by_protocol
            .iter()
            .filter_map(|(protocol, queue)| Some((queue.first_bounded()?, protocol)))
            .min_by_key(|(waiting, _)| waiting.number);
        let protocol = oldest?.1.clone();
        let oldest = self.queue(&protocol).take_first_bounded()?;
        self.taken(&protocol, 1, oldest.bytes());
        Some(oldest)
    }

    /// Takes out the oldest packet if its time is over.
    fn take_oldest(&mut self, now: Instant) -> Option<Waiting> {
        let oldest = self
            .by_protocol
            .iter()
            .filter_map(|(protocol, queue)| Some((queue.front()?, protocol)))
            .min_by_key(|(waiting, _)| waiting.number);
        let (waiting, protocol) = oldest?;
        if now.saturating_duration_since(waiting.arrived) < KEPT_FOR {
            return None;
        }
        let protocol = protocol.clone();
        let oldest = self.queue(&protocol).take_first()?;
        self.taken(&protocol, 1, oldest.bytes());
        Some(oldest)
    }
}
