//! One TLS connection at work: socket to events, queue to socket, both in one task and 64 KiB at a time.
//!
//! rustls is driven directly: one read of the socket takes up to 64 KiB, all of it is decrypted and leaves as one
//! event; everything queued up to 64 KiB is encrypted into full records and leaves with one write. Reading stops
//! while the last event waits for room in the channel, writing never waits for reading: two nodes that both send
//! more than the other takes cannot lock each other up.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::frame::{FrameReader, HEADER_BYTES, header};
use crate::queue::{LinkSender, Work};
use crate::wire::Wire;
use crate::{Channel, CloseReason, LinkEvent};

/// Bytes moved in one go: four full TLS records, below which the cost of a system call shows, above which latency does.
const TURN_BYTES: usize = 64 * 1024;

/// Frames sent in one go, however short: bounds the lists made for it.
const MAX_TURN_FRAMES: usize = 1024;

/// Room made for the frames of one read; a guess that saves the first few reallocations.
const EXPECTED_FRAMES: usize = 32;

thread_local! {
    /// Where ciphertext lands between the socket and rustls: used within one call only, so a thread needs one.
    static CIPHERTEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; TURN_BYTES]);
}

/// A connection whose TLS handshake and hello are done.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: Wire,
    tls: Connection,
}

impl TlsSocket {
    /// Takes over from tokio-rustls, with whatever it has decrypted already.
    pub(crate) fn new(stream: Wire, mut tls: Connection) -> Self {
        // The pump encrypts only when everything before is written, so this holds one turn at most.
        tls.set_buffer_limit(None);
        Self { stream, tls }
    }

    /// Reads once and decrypts all of it. Ready also when no frame became complete.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut FrameReader,
        frames: &mut Vec<Bytes>,
    ) -> Poll<Result<(), CloseReason>> {
        // What came with the hello is decrypted already and no socket event will tell of it.
        if self.drain(reader, frames)? {
            return Poll::Ready(reader.flush(frames).map_err(|_| CloseReason::FrameTooLong));
        }
        CIPHERTEXT.with_borrow_mut(|space| {
            let mut space = ReadBuf::new(space);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut space))
                .map_err(|error| CloseReason::of(&error))?;
            if space.filled().is_empty() {
                return Poll::Ready(Err(CloseReason::PeerClosed));
            }
            Poll::Ready(self.decrypt(space.filled(), reader, frames))
        })
    }

    fn decrypt(
        &mut self,
        mut ciphertext: &[u8],
        reader: &mut FrameReader,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), CloseReason> {
        while !ciphertext.is_empty() {
            let taken = self
                .tls
                .read_tls(&mut ciphertext)
                .map_err(|_| CloseReason::TlsViolation)?;
            let state = self
                .tls
                .process_new_packets()
                .map_err(|_| CloseReason::TlsViolation)?;
            self.drain(reader, frames)?;
            if taken == 0 || state.peer_has_closed() {
                return Err(CloseReason::PeerClosed);
            }
        }
        reader.flush(frames).map_err(|_| CloseReason::FrameTooLong)
    }

    /// Moves decrypted bytes on; whether there were any.
    fn drain(&mut self, reader: &mut FrameReader, frames: &mut Vec<Bytes>) -> Result<bool, CloseReason> {
        let mut any = false;
        loop {
            let mut plaintext = self.tls.reader();
            let length = match io::BufRead::fill_buf(&mut plaintext) {
                Ok([]) => return Err(CloseReason::PeerClosed),
                Ok(chunk) => {
                    reader
                        .feed(chunk, frames)
                        .map_err(|_| CloseReason::FrameTooLong)?;
                    chunk.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(_) => return Err(CloseReason::PeerClosed),
            };
            io::BufRead::consume(&mut plaintext, length);
            any = true;
        }
    }

    /// Encrypts; the records wait in rustls until they are transmitted.
    fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> Result<(), CloseReason> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        match self.tls.writer().write_vectored(slices) {
            Ok(written) if written == total => Ok(()),
            // Less than all would tear a frame apart. It cannot happen without a buffer limit, except when TLS is dead.
            _ => Err(CloseReason::TlsViolation),
        }
    }

    /// Writes until nothing encrypted is left or the socket takes no more.
    fn poll_transmit(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        while self.tls.wants_write() {
            let mut socket = SocketWriter {
                stream: &mut self.stream,
                context,
            };
            match self.tls.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(CloseReason::ConnectionLost)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(CloseReason::of(&error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says goodbye as far as that works without waiting.
    fn say_goodbye(&mut self) {
        self.tls.send_close_notify();
        let mut context = Context::from_waker(std::task::Waker::noop());
        let _ = self.poll_transmit(&mut context);
    }
}

/// Lets rustls write to a socket that may not be ready.
struct SocketWriter<'s, 'c, 'w> {
    stream: &'s mut Wire,
    context: &'c mut Context<'w>,
}

impl Write for SocketWriter<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.stream).poll_write_vectored(self.context, slices) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// When to speak up and when to give up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) keepalive: Duration,
    pub(crate) idle: Duration,
}

/// One connection of a link, with all it needs to run.
pub(crate) struct Pump {
    socket: TlsSocket,
    channel: Channel,
    sender: LinkSender,
    events: mpsc::Sender<LinkEvent>,
    patience: Patience,
    reader: FrameReader,
    /// Received, not yet handed to the consumer.
    inbox: Vec<Bytes>,
    /// Taken from the queue, not yet encrypted: at most one turn and one batch.
    outbox: VecDeque<Bytes>,
    /// How much of the first frame's body in the outbox was encrypted already.
    begun: usize,
    heard: bool,
    spoke: bool,
    silent_ticks: u32,
}

impl Pump {
    pub(crate) fn new(
        socket: TlsSocket,
        channel: Channel,
        sender: LinkSender,
        events: mpsc::Sender<LinkEvent>,
        patience: Patience,
    ) -> Self {
        Self {
            socket,
            channel,
            sender,
            events,
            patience,
            reader: FrameReader::new(channel.max_frame_bytes()),
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            begun: 0,
            heard: false,
            spoke: false,
            silent_ticks: 0,
        }
    }

    /// Works until the connection or the link is to end, and says why.
    pub(crate) async fn run(&mut self) -> CloseReason {
        let events = self.events.clone();
        let mut tick = interval_at(Instant::now() + self.patience.keepalive, self.patience.keepalive);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let blocked = match self.offer(&events) {
                Ok(blocked) => blocked,
                Err(reason) => return reason,
            };
            let result = tokio::select! {
                biased;
                _ = tick.tick() => self.on_tick(),
                permit = events.reserve(), if blocked => match permit {
                    Ok(permit) => {
                        permit.send(self.take_inbox());
                        Ok(())
                    }
                    Err(_) => Err(CloseReason::ConsumerGone),
                },
                result = std::future::poll_fn(|context| self.poll_turn(context, !blocked)) => result,
            };
            if let Err(reason) = result {
                return reason;
            }
        }
    }

    /// What came before the end and was not handed over yet.
    pub(crate) fn leftovers(&mut self) -> Option<LinkEvent> {
        // A frame too long ends the stream here as anywhere; those before it were complete.
        let _ = self.reader.flush(&mut self.inbox);
        (!self.inbox.is_empty()).then(|| self.take_inbox())
    }

    pub(crate) fn say_goodbye(&mut self) {
        self.socket.say_goodbye();
    }

    /// Hands over what came; whether it must wait for room.
    fn offer(&mut self, events: &mpsc::Sender<LinkEvent>) -> Result<bool, CloseReason> {
        if self.inbox.is_empty() {
            return Ok(false);
        }
        match events.try_reserve() {
            Ok(permit) => {
                permit.send(self.take_inbox());
                Ok(false)
            }
            Err(mpsc::error::TrySendError::Full(())) => Ok(true),
            Err(mpsc::error::TrySendError::Closed(())) => Err(CloseReason::ConsumerGone),
        }
    }

    fn take_inbox(&mut self) -> LinkEvent {
        let frames = std::mem::take(&mut self.inbox);
        let bytes = frames.iter().map(Bytes::len).sum();
        self.sender
            .counters()
            .received(self.channel)
            .add(frames.len(), bytes);
        LinkEvent::Frames {
            link: self.sender.link(),
            channel: self.channel,
            frames,
        }
    }

    /// Does what can be done without waiting: one read, and writes until nothing is left or the socket is full.
    fn poll_turn(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<Result<(), CloseReason>> {
        let wrote = self.poll_send(context)?.is_ready();
        if !may_read {
            return if wrote { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        if self.inbox.capacity() == 0 {
            self.inbox.reserve(EXPECTED_FRAMES);
        }
        match self
            .socket
            .poll_receive(context, &mut self.reader, &mut self.inbox)?
        {
            Poll::Ready(()) => {
                self.heard = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending if wrote => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready when something was written and more may follow; pending when the socket is full or nothing is queued.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let flushed = self.socket.poll_transmit(context)?.is_ready();
        let enough = if flushed && self.outbox.is_empty() {
            TURN_BYTES
        } else {
            0
        };
        match self
            .sender
            .queue(self.channel)
            .poll_work(context, &mut self.outbox, enough)
        {
            Poll::Ready(Work::Frames) => {}
            Poll::Ready(Work::Poke) => self.encrypt_keepalive()?,
            Poll::Ready(Work::Close(reason)) => return Poll::Ready(Err(reason)),
            Poll::Pending if flushed && !self.outbox.is_empty() => {}
            Poll::Pending => return Poll::Pending,
        }
        self.encrypt_outbox()?;
        match self.socket.poll_transmit(context)? {
            // The rest goes when the socket has room, and the waker is set for that; the read side may go on.
            Poll::Ready(()) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    /// Encrypts up to one turn from the outbox; a frame longer than that goes in several.
    fn encrypt_outbox(&mut self) -> Result<(), CloseReason> {
        let headers: Vec<_> = self
            .outbox
            .iter()
            .take(MAX_TURN_FRAMES)
            .map(|frame| header(frame.len()))
            .collect();
        let mut slices = Vec::with_capacity(2 * headers.len());
        let (mut room, mut begun) = (TURN_BYTES, self.begun);
        let (mut finished, mut finished_bytes) = (0, 0);
        for (header, frame) in headers.iter().zip(&self.outbox) {
            if begun == 0 {
                slices.push(IoSlice::new(header));
                room -= HEADER_BYTES;
            }
            let rest = frame.get(begun..).unwrap_or_default();
            let (now, later) = rest.split_at(rest.len().min(room));
            slices.push(IoSlice::new(now));
            room -= now.len();
            if !later.is_empty() {
                begun += now.len();
                break;
            }
            begun = 0;
            finished += 1;
            finished_bytes += frame.len();
            // A header always travels with the beginning of its body, so that `begun` tells all there is to know.
            if room <= HEADER_BYTES {
                break;
            }
        }
        if slices.is_empty() {
            return Ok(());
        }
        self.socket.encrypt(&slices)?;
        self.begun = begun;
        self.outbox.drain(..finished);
        self.sender
            .counters()
            .sent(self.channel)
            .add(finished, finished_bytes);
        self.spoke = true;
        Ok(())
    }

    fn encrypt_keepalive(&mut self) -> Result<(), CloseReason> {
        self.spoke = true;
        self.socket.encrypt(&[IoSlice::new(&header(0))])
    }

    /// Once per keep-alive interval. Flags instead of clock readings, because a reading per batch would cost more
    /// than the coarseness of one interval is worth.
    fn on_tick(&mut self) -> Result<(), CloseReason> {
        // A pump that is held up by its own consumer reads nothing and must not blame the neighbour for it.
        if self.heard || !self.inbox.is_empty() {
            self.silent_ticks = 0;
        } else {
            self.silent_ticks += 1;
        }
        if self.patience.keepalive.saturating_mul(self.silent_ticks) >= self.patience.idle {
            return Err(CloseReason::Idle);
        }
        // While earlier records wait for the socket, TCP itself finds out whether anybody is there.
        if !self.spoke && !self.socket.tls.wants_write() {
            self.encrypt_keepalive()?;
        }
        self.heard = false;
        self.spoke = false;
        self.reader.release_if_empty();
        Ok(())
    }
}
