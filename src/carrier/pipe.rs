//! A stream of bytes between a link and the carrier: the link reads and writes it like a socket.
//!
//! Both directions are bounded. What came and was not read is at most the window, because the other side may not send
//! more ([`WINDOW_BYTES`]); what was written and not sent is at most one frame, beyond which the link's own queue fills.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use mesh_net::CloseReason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::WINDOW_BYTES;
use super::frame::MAX_CHUNK_BYTES;

/// What was taken and not told before the other side is told without being asked: it stops when a window is untold.
const TELL_AFTER_BYTES: u64 = WINDOW_BYTES as u64 / 2;

#[derive(Debug, Default)]
struct State {
    /// Came and was not read, at most [`WINDOW_BYTES`]: copied, because a slice would keep its whole frame alive.
    incoming: VecDeque<u8>,
    /// Bytes read by the link in all.
    taken: u64,
    /// How many of them the other side was told of.
    told: u64,
    /// Written and not sent, at most [`MAX_CHUNK_BYTES`].
    outgoing: BytesMut,
    /// The carrier's last word.
    ended: Option<CloseReason>,
    /// The link has dropped the stream.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The carrier's end.
#[derive(Debug)]
pub(crate) struct Pipe(Arc<Shared>);

/// The link's end.
#[derive(Debug)]
pub(crate) struct PipeStream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Tells the carrier that there is something to send or to notice.
    carrier: Arc<Notify>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a stream; `carrier` is notified whenever the link did something that the carrier should see to.
pub(crate) fn pipe(carrier: Arc<Notify>) -> (Pipe, PipeStream) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        carrier,
    });
    (Pipe(shared.clone()), PipeStream(shared))
}

impl Pipe {
    /// Hands bytes to the link; whether they were within the window.
    pub(crate) fn put(&self, bytes: &[u8]) -> bool {
        let mut state = self.0.lock();
        if state.abandoned || bytes.is_empty() {
            return true;
        }
        if state.incoming.len() + bytes.len() > WINDOW_BYTES {
            return false;
        }
        state.incoming.extend(bytes);
        wake(state, |state| state.reader.take());
        true
    }

    /// Takes up to `most` bytes that the link wrote.
    pub(crate) fn take(&self, most: usize) -> Bytes {
        let mut state = self.0.lock();
        let length = state.outgoing.len().min(most);
        let bytes = state.outgoing.split_to(length).freeze();
        if !bytes.is_empty() {
            wake(state, |state| state.writer.take());
        }
        bytes
    }

    /// Bytes that wait to be taken.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().outgoing.len()
    }

    /// Whether the other side should be told what was taken although there is nothing to send.
    pub(crate) fn must_tell(&self) -> bool {
        let state = self.0.lock();
        state.taken - state.told >= TELL_AFTER_BYTES
    }

    /// How many bytes the link has taken in all, noted as told.
    pub(crate) fn tell(&self) -> u64 {
        let mut state = self.0.lock();
        state.told = state.taken;
        state.taken
    }

    /// Ends the stream for the link, after what came already. The first reason counts.
    pub(crate) fn end(&self, reason: CloseReason) {
        let mut state = self.0.lock();
        state.ended.get_or_insert(reason);
        let reader = state.reader.take();
        wake(state, |state| state.writer.take());
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether the link has dropped the stream.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.lock().abandoned
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.end(CloseReason::CarrierGone);
    }
}

impl Drop for PipeStream {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.abandoned = true;
        state.incoming = VecDeque::new();
        drop(state);
        self.0.carrier.notify_one();
    }
}

/// Wakes a task after the lock is gone, else it would run straight into it.
fn wake(mut state: MutexGuard<'_, State>, waker: impl FnOnce(&mut State) -> Option<Waker>) {
    let waker = waker(&mut state);
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl AsyncRead for PipeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let length = state.incoming.len().min(space.remaining());
        if length > 0 || space.remaining() == 0 {
            let (front, back) = state.incoming.as_slices();
            let from_front = front.len().min(length);
            space.put_slice(&front[..from_front]);
            space.put_slice(&back[..length - from_front]);
            state.incoming.drain(..length);
            state.taken += length as u64;
            let must_tell = state.taken - state.told >= TELL_AFTER_BYTES;
            drop(guard);
            if must_tell {
                self.0.carrier.notify_one();
            }
            return Poll::Ready(Ok(()));
        }
        match state.ended {
            Some(CloseReason::PeerClosed) => Poll::Ready(Ok(())),
            Some(reason) => Poll::Ready(Err(io::Error::other(reason))),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for PipeStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if let Some(reason) = state.ended {
            return Poll::Ready(Err(io::Error::other(reason)));
        }
        let mut room = MAX_CHUNK_BYTES - state.outgoing.len();
        if room == 0 {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut written = 0;
        for slice in slices {
            let length = slice.len().min(room);
            state.outgoing.extend_from_slice(&slice[..length]);
            written += length;
            room -= length;
        }
        drop(state);
        self.0.carrier.notify_one();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Half a stream is of no use to a link: what ends it is that it is dropped.
        Poll::Ready(Ok(()))
    }
}
