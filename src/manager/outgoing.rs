//! What the core says is done: frames to links, questions to the wallet, answers and events to who waits, records to the
//! disk, and nothing behind a record before it is durable.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Channel, LinkId, Output};
use mesh_core::time::Now;

use super::{Held, MeshManager};
use crate::handle::lock;
use crate::workers::{ask_chain, ask_wallet};

/// Bytes of packets gathered for one link before they are handed over within the turn. A link writes as much at once,
/// so more would only come later; and a batch larger than a link's whole queue would be refused though it is empty.
const BATCH_BYTES: usize = 64 * 1024;

/// How long leases wait for company before they are written: a commit costs as much processor time as carrying a hundred
/// packets, and at full speed an account uses up a lease every few milliseconds.
const LEASES_WAIT: Duration = Duration::from_millis(50);

/// Leases that are written without waiting for more, so that a crash forgets few of them however fast they come: these,
/// and those that came while the disk was busy with the ones before.
const LEASES_TOGETHER: usize = 16;

/// Receipts that wait for the disk. Beyond that the oldest is forgotten: the session's next one covers what it said.
const MAX_RECEIPTS: usize = 4096;

/// What goes out.
impl MeshManager {
    pub(super) fn drain(&mut self, now: Now) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Forward { link, frame } => self.queue(link, Channel::Data, frame),
                Output::Deliver(delivery) => lock(&self.readers).deliver(*delivery),
                Output::Dropped { reason, link } => {
                    tracing::debug!(%reason, ?link, "dropped");
                    if let Some(link) = link {
                        self.blame(now, link, reason);
                    }
                }
                Output::PersistSoon(record) => {
                    if self.unwritten.is_empty() {
                        self.write_at = now.instant + LEASES_WAIT;
                    }
                    self.unwritten.push(*record);
                }
                Output::Persist(record) => {
                    self.write_at = now.instant;
                    self.unwritten.push(*record);
                    self.held
                        .push_back(Held::Until(self.submitted + self.unwritten.len() as u64));
                }
                output if self.held.is_empty() || only_shows(&output) => self.obey(output),
                output => self.held.push_back(Held::Output(output)),
            }
        }
    }

    /// Ends the link of a neighbour that goes on sending what no neighbour may send.
    fn blame(&mut self, now: Now, link: LinkId, reason: DropReason) {
        if !is_misbehaviour(reason) {
            return;
        }
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.condemned || state.misbehaviour.take(1, now.instant) {
            return;
        }
        state.condemned = true;
        let peer = state.sender.peer();
        tracing::warn!(peer = %peer.short(), %reason, "a neighbour goes on sending what no honest one sends; its link is closed");
        self.transport
            .disconnect(state.sender.link(), mesh_net::CloseReason::Misbehaved);
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Transmit { link, channel, frame } => self.queue(link, channel, frame),
            Output::Receipt { link, frame } => self.send_when_safe(link, frame),
            Output::AskWallet { ticket, question } => {
                ask_wallet(
                    self.wallet.clone(),
                    self.treasury.clone(),
                    ticket,
                    question,
                    self.inputs.clone(),
                    &mut self.tasks,
                );
            }
            Output::AskChain { ticket, question } => {
                let (chain, inputs) = (self.chain.clone(), self.inputs.clone());
                ask_chain(chain, ticket, question, inputs, &mut self.tasks);
            }
            Output::Answer { id, answer } => {
                if let Some(reply) = self.replies.remove(&id) {
                    // Whoever asked may have gone away; what was done stays done.
                    let _ = reply.send(answer);
                }
            }
            Output::Event(event) => {
                tracing::debug!(?event, "event");
                // An event nobody listens to is no error.
                let _ = self.events.send(Arc::from(event));
            }
            Output::Forward { .. }
            | Output::Deliver(_)
            | Output::Dropped { .. }
            | Output::Persist(_)
            | Output::PersistSoon(_) => {
                debug_assert!(false, "these are never held back");
            }
        }
    }

    fn queue(&mut self, link: LinkId, channel: Channel, frame: Bytes) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.data.is_empty() && state.control.is_empty() && self.touched.last() != Some(&link) {
            self.touched.push(link);
        }
        match channel {
            Channel::Data => {
                state.data_bytes += frame.len();
                state.data.push(frame);
                if state.data_bytes >= BATCH_BYTES {
                    state.hand_over();
                }
            }
            Channel::Control => state.control.push(frame),
        }
    }

    pub(super) fn hand_over_batches(&mut self) {
        for link in std::mem::take(&mut self.touched) {
            if let Some(state) = self.links.get_mut(&link) {
                state.hand_over();
            }
        }
    }
}

/// What says that packets are in safe hands.
impl MeshManager {
    /// A receipt waits until what was handed over to modules' queues before it is safe ([`Safe`](crate::handle::Safe)).
    fn send_when_safe(&mut self, link: LinkId, frame: Bytes) {
        self.send_receipts();
        let handed_over = lock(&self.readers).handed_over();
        if *self.safe.borrow() >= handed_over {
            return self.queue(link, Channel::Data, frame);
        }
        if self.receipts.len() >= MAX_RECEIPTS {
            self.receipts.pop_front();
        }
        self.receipts.push_back((handed_over, link, frame));
    }

    /// Sends the receipts that need wait no longer.
    pub(super) fn send_receipts(&mut self) {
        let safe = *self.safe.borrow();
        let need_not_wait = self
            .receipts
            .partition_point(|(handed_over, ..)| *handed_over <= safe);
        for (_, link, frame) in self.receipts.drain(..need_not_wait).collect::<Vec<_>>() {
            self.queue(link, Channel::Data, frame);
        }
    }
}

/// What must be durable.
impl MeshManager {
    /// Hands the records that gathered to the writer, unless it is busy: they share the next commit. Leases alone, for
    /// which nothing waits, gather for a while.
    pub(super) fn write(&mut self) {
        if self.unwritten.is_empty() || self.commit_under_way {
            return;
        }
        let now = self.clock.now();
        if self.unwritten.len() < LEASES_TOGETHER && now.instant < self.write_at {
            return;
        }
        let records = std::mem::take(&mut self.unwritten);
        self.submitted += records.len() as u64;
        self.commit_under_way = true;
        let committed = self.committed.clone();
        let done = move || {
            // The loop takes them one by one; when it is gone nobody waits.
            let _ = committed.blocking_send(());
        };
        if let Err(error) = self.store.submit(records, now.unix, done) {
            tracing::error!(%error, "nothing can be made durable");
        }
    }

    pub(super) fn on_committed(&mut self) {
        self.durable = self.submitted;
        self.commit_under_way = false;
        while let Some(held) = self.held.pop_front() {
            match held {
                Held::Output(output) => self.obey(output),
                Held::Until(records) if records <= self.durable => {}
                Held::Until(records) => {
                    self.held.push_front(Held::Until(records));
                    break;
                }
            }
        }
    }
}

/// Whether only a broken or hostile *neighbour* can have caused it. A signature is checked, and an answer compared with what
/// was asked, by every node that hands it on, so a forged or unasked one is the fault of whom it came from. What a relay
/// cannot see because it is sealed to somebody else, and what honest nodes send when messages cross (an answer that comes
/// late, a request that others brought already), has other names and is not held against anybody.
fn is_misbehaviour(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::Malformed
            | DropReason::UnknownVersion
            | DropReason::UnknownKind
            | DropReason::Oversize
            | DropReason::BadSignature
            | DropReason::Unsolicited
            // What is possible over a link depends on nothing but who is at its other end.
            | DropReason::ImpossibleMetric
    )
}

/// Answers that change nothing wait for no disk: held back behind one that refuses, they would hide the very trouble
/// that they are asked about.
fn only_shows(output: &Output) -> bool {
    matches!(
        output,
        Output::Answer {
            answer: Ok(Answer::Status(_)
                | Answer::Session(_)
                | Answer::Network(_)
                | Answer::Routes(_)
                | Answer::Treasury(_)),
            ..
        }
    )
}
