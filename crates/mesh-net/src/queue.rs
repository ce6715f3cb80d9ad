//! What waits to be sent on one connection, and the handle to put it there.
//!
//! A queue is a short critical section and nothing else: whole batches move in and out, the writer is woken only when
//! it sleeps, and never while the lock is held.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mesh_core::identity::NodeId;

use crate::counters::Counters;
use crate::{Channel, CloseReason, LinkId};

/// A batch was not taken for sending. None of it will be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The neighbour takes less than it is sent; the batch was dropped and counted.
    #[error("the link's queue is full; the batch was dropped")]
    QueueFull,
    /// The link is gone or going.
    #[error("the link is down ({0})")]
    LinkDown(CloseReason),
    /// A frame that the channel cannot carry: the caller's mistake.
    #[error("a frame of {given} bytes does not fit: 1 to {max} are allowed")]
    FrameLength {
        /// Its length.
        given: usize,
        /// The longest allowed.
        max: usize,
    },
}

/// How much one queue may hold.
#[derive(Debug, Clone)]
pub(crate) struct QueueLimits {
    pub(crate) bytes: usize,
    pub(crate) batches: usize,
    /// Shared by the data queues of all links of a transport.
    pub(crate) shared: Option<Arc<SharedBudget>>,
}

/// Bytes queued on all links together.
#[derive(Debug)]
pub(crate) struct SharedBudget {
    used: AtomicUsize,
    max: usize,
}

impl SharedBudget {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            max,
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.max;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Batch {
    frames: Vec<Bytes>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    bytes: usize,
    closed: Option<CloseReason>,
    poked: bool,
    writer: Option<Waker>,
    /// Whether the writer sleeps because it has nothing to send; else only the end of the link need wake it.
    writer_wants_work: bool,
}

/// What the writer finds when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Frames were moved out.
    Frames,
    /// Somebody wants a sign of life sent.
    Poke,
    /// The link is to end.
    Close(CloseReason),
}

/// The queue of one connection.
#[derive(Debug)]
pub(crate) struct SendQueue {
    channel: Channel,
    limits: QueueLimits,
    state: Mutex<State>,
}

impl SendQueue {
    pub(crate) fn new(channel: Channel, limits: QueueLimits) -> Self {
        Self {
            channel,
            limits,
            state: Mutex::default(),
        }
    }

    /// Puts a batch at the end, or refuses it as a whole.
    fn push(&self, frames: Vec<Bytes>) -> Result<(), SendError> {
        let bytes = self.measure(&frames)?;
        if frames.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        if let Some(reason) = state.closed {
            return Err(SendError::LinkDown(reason));
        }
        let fits = state.batches.len() < self.limits.batches && state.bytes + bytes <= self.limits.bytes;
        if !fits
            || !self
                .limits
                .shared
                .as_ref()
                .is_none_or(|budget| budget.take(bytes))
        {
            return Err(SendError::QueueFull);
        }
        state.bytes += bytes;
        state.batches.push_back(Batch { frames, bytes });
        if state.writer_wants_work {
            wake(state);
        }
        Ok(())
    }

    fn measure(&self, frames: &[Bytes]) -> Result<usize, SendError> {
        let max = self.channel.max_frame_bytes();
        frames.iter().try_fold(0usize, |sum, frame| {
            let given = frame.len();
            if given == 0 || given > max {
                return Err(SendError::FrameLength { given, max });
            }
            Ok(sum.saturating_add(given))
        })
    }

    /// Moves whole batches into `frames` until at least `enough` bytes are there, or says what else there is to do.
    /// With nothing to do the task is woken when there is. With `enough` zero only the end of the link is work.
    pub(crate) fn poll_work(
        &self,
        context: &mut Context<'_>,
        frames: &mut VecDeque<Bytes>,
        enough: usize,
    ) -> Poll<Work> {
        let mut state = self.lock();
        if let Some(reason) = state.closed {
            return Poll::Ready(Work::Close(reason));
        }
        let mut moved = 0;
        while moved < enough
            && let Some(batch) = state.batches.pop_front()
        {
            moved += batch.bytes;
            frames.extend(batch.frames);
        }
        if moved > 0 {
            state.bytes -= moved;
            if let Some(budget) = &self.limits.shared {
                budget.give_back(moved);
            }
            return Poll::Ready(Work::Frames);
        }
        if enough > 0 && std::mem::take(&mut state.poked) {
            return Poll::Ready(Work::Poke);
        }
        if !state
            .writer
            .as_ref()
            .is_some_and(|known| known.will_wake(context.waker()))
        {
            state.writer = Some(context.waker().clone());
        }
        state.writer_wants_work = enough > 0;
        Poll::Pending
    }

    /// Ends the link; what is queued is lost. The first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(reason);
        let dropped = std::mem::take(&mut state.batches);
        if let Some(budget) = &self.limits.shared {
            budget.give_back(state.bytes);
        }
        state.bytes = 0;
        wake(state);
        drop(dropped);
    }

    /// Asks the writer to send a keep-alive now: if the other side has forgotten the connection, TCP will say so.
    fn poke(&self) {
        let mut state = self.lock();
        state.poked = true;
        if state.writer_wants_work {
            wake(state);
        }
    }

    fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave the state half changed, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        self.close(CloseReason::Shutdown);
    }
}

/// Wakes the writer after the lock is gone, else it would run straight into it.
fn wake(mut state: MutexGuard<'_, State>) {
    let writer = state.writer.take();
    drop(state);
    if let Some(writer) = writer {
        writer.wake();
    }
}

#[derive(Debug)]
struct Inner {
    link: LinkId,
    peer: NodeId,
    data: SendQueue,
    control: SendQueue,
    counters: Arc<Counters>,
}

/// Puts frames on a link. Cheap to clone; usable from any thread; harmless after the link went down.
#[derive(Debug, Clone)]
pub struct LinkSender(Arc<Inner>);

impl LinkSender {
    pub(crate) fn new(
        link: LinkId,
        peer: NodeId,
        data: QueueLimits,
        control: QueueLimits,
        counters: Arc<Counters>,
    ) -> Self {
        let data = SendQueue::new(Channel::Data, data);
        let control = SendQueue::new(Channel::Control, control);
        Self(Arc::new(Inner {
            link,
            peer,
            data,
            control,
            counters,
        }))
    }

    /// The link this sends on.
    pub fn link(&self) -> LinkId {
        self.0.link
    }

    /// The neighbour it leads to.
    pub fn peer(&self) -> NodeId {
        self.0.peer
    }

    /// Queues packets, in order. When the neighbour is too slow the whole batch is dropped and counted: packets are
    /// repeated by who sent them, and old ones are worth more than new ones that would only wait longer.
    pub fn try_send_data(&self, batch: Vec<Bytes>) -> Result<(), SendError> {
        let frames = batch.len();
        let result = self.0.data.push(batch);
        if result == Err(SendError::QueueFull) {
            self.0
                .counters
                .data_frames_dropped
                .fetch_add(frames as u64, Ordering::Relaxed);
        }
        result
    }

    /// Queues control messages, in order. None is ever dropped alone: if they do not fit, the link ends with
    /// [`CloseReason::ControlOverflow`] and both sides start afresh, because a neighbour that missed one update would
    /// route by a lie from then on. Look at [`LinkSender::control_backlog`] first to merge updates instead.
    pub fn try_send_control(&self, batch: Vec<Bytes>) -> Result<(), SendError> {
        let result = self.0.control.push(batch);
        if result == Err(SendError::QueueFull) {
            self.close(CloseReason::ControlOverflow);
        }
        result
    }

    /// Bytes waiting on the data connection.
    pub fn data_backlog(&self) -> usize {
        self.0.data.bytes()
    }

    /// Bytes waiting on the control connection.
    pub fn control_backlog(&self) -> usize {
        self.0.control.bytes()
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        self.0.control.close(reason);
        self.0.data.close(reason);
    }

    pub(crate) fn poke(&self) {
        self.0.control.poke();
        self.0.data.poke();
    }

    pub(crate) fn queue(&self, channel: Channel) -> &SendQueue {
        match channel {
            Channel::Data => &self.0.data,
            Channel::Control => &self.0.control,
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(bytes: usize, batches: usize, shared: usize) -> LinkSender {
        let shared = Some(Arc::new(SharedBudget::new(shared)));
        let control = QueueLimits {
            bytes,
            batches,
            shared: None,
        };
        let data = QueueLimits {
            bytes,
            batches,
            shared,
        };
        LinkSender::new(LinkId(1), NodeId([1; 32]), data, control, Arc::default())
    }

    fn frame(length: usize) -> Bytes {
        vec![1; length].into()
    }

    fn take(sender: &LinkSender, channel: Channel) -> (Poll<Work>, usize) {
        let mut frames = VecDeque::new();
        let mut context = Context::from_waker(Waker::noop());
        let work = sender
            .queue(channel)
            .poll_work(&mut context, &mut frames, 1 << 20);
        (work, frames.len())
    }

    #[test]
    fn full_data_queue_drops_the_newest_whole_and_counts_its_frames() {
        let sender = sender(100, 10, 1_000);
        sender.try_send_data(vec![frame(60), frame(30)]).unwrap();
        assert_eq!(
            sender.try_send_data(vec![frame(5), frame(6)]),
            Err(SendError::QueueFull)
        );
        assert_eq!(sender.data_backlog(), 90);
        assert_eq!(sender.counters().snapshot().data_frames_dropped, 2);
        assert_eq!(take(&sender, Channel::Data), (Poll::Ready(Work::Frames), 2));
        assert_eq!(take(&sender, Channel::Data), (Poll::Pending, 0));
        sender.try_send_data(vec![frame(5), frame(6)]).unwrap();
    }

    #[test]
    fn many_tiny_batches_are_bounded_by_number() {
        let sender = sender(100, 3, 1_000);
        let accepted = (0..10)
            .filter(|_| sender.try_send_data(vec![frame(1)]).is_ok())
            .count();
        assert_eq!(accepted, 3);
    }

    #[test]
    fn budget_shared_by_all_links_binds_and_is_given_back() {
        let sender = sender(100, 10, 50);
        sender.try_send_data(vec![frame(50)]).unwrap();
        assert_eq!(sender.try_send_data(vec![frame(1)]), Err(SendError::QueueFull));
        assert_eq!(take(&sender, Channel::Data).1, 1);
        sender.try_send_data(vec![frame(50)]).unwrap();
        sender.close(CloseReason::Requested);
        let budget = sender.0.data.limits.shared.as_ref().unwrap();
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn control_overflow_ends_the_link_and_sends_nothing_more() {
        let sender = sender(100, 10, 1_000);
        sender.try_send_control(vec![frame(90)]).unwrap();
        assert_eq!(
            sender.try_send_control(vec![frame(20)]),
            Err(SendError::QueueFull)
        );
        let overflow = CloseReason::ControlOverflow;
        assert_eq!(
            sender.try_send_data(vec![frame(1)]),
            Err(SendError::LinkDown(overflow))
        );
        assert_eq!(
            take(&sender, Channel::Control),
            (Poll::Ready(Work::Close(overflow)), 0)
        );
    }

    #[test]
    fn writer_stuck_on_its_socket_is_woken_by_the_end_of_the_link_and_not_by_more_work() {
        struct Flag(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let sender = sender(100, 10, 1_000);
        let flag = Arc::new(Flag(false.into()));
        let waker = Waker::from(flag.clone());
        let mut context = Context::from_waker(&waker);
        let stuck = sender
            .queue(Channel::Control)
            .poll_work(&mut context, &mut VecDeque::new(), 0);
        assert_eq!(stuck, Poll::Pending);
        sender.try_send_control(vec![frame(90)]).unwrap();
        assert!(!flag.0.load(Ordering::Relaxed));
        assert!(sender.try_send_control(vec![frame(90)]).is_err());
        assert!(flag.0.load(Ordering::Relaxed));
    }

    #[test]
    fn frames_that_the_other_side_would_refuse_never_leave() {
        let sender = sender(1 << 20, 10, 1 << 20);
        let max = crate::MAX_CONTROL_FRAME_BYTES;
        for given in [0, max + 1] {
            let refused = Err(SendError::FrameLength { given, max });
            assert_eq!(sender.try_send_control(vec![frame(1), frame(given)]), refused);
        }
        assert_eq!(sender.control_backlog(), 0);
        sender.try_send_control(vec![frame(max)]).unwrap();
    }
}
