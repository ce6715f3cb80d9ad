//! One connection, as those see it who send over it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::codec::DecodeError;
use crate::message::CorrelationId;
use crate::response::Response;

use super::invocation::Answer;

/// Calls of others that may be under way. Above it, callers are told at once that we are busy.
pub(super) const INVOCATIONS: usize = 128;

/// Bytes of parameters of calls under way: a caller may send up to a frame.
pub(super) const INVOCATION_BYTES: usize = 32 * 1024 * 1024;

/// Refusals of calls that may wait to be written. A node that does not read them gets no more.
const REFUSALS: usize = 64;

/// Log lines that may wait to be written.
const LOG_LINES: usize = 256;

/// How long the last messages may take to be written at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a waiting request is told.
pub(super) type Told = Result<Result<Response, String>, DecodeError>;

/// The sending half.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) requests: mpsc::Sender<Vec<u8>>,
    pub(super) answers: mpsc::Sender<Answer>,
    pub(super) refusals: mpsc::Sender<Vec<u8>>,
    pub(super) logs: mpsc::Sender<Vec<u8>>,
    pub(super) invocations: Arc<Semaphore>,
    pub(super) invocation_bytes: Arc<Semaphore>,
    pending: Mutex<HashMap<CorrelationId, oneshot::Sender<Told>>>,
    closed: watch::Sender<Option<String>>,
}

/// What the writer takes from.
pub(super) struct Queues {
    requests: mpsc::Receiver<Vec<u8>>,
    answers: mpsc::Receiver<Answer>,
    refusals: mpsc::Receiver<Vec<u8>>,
    logs: mpsc::Receiver<Vec<u8>>,
}

/// A request's place among those that wait for answers; given back when dropped.
pub(super) struct Waiter<'a> {
    link: &'a Link,
    id: CorrelationId,
    told: oneshot::Receiver<Told>,
}

impl Link {
    /// A link on which so many requests may be under way.
    pub(super) fn new(requests: usize) -> (Arc<Self>, Queues) {
        let (to_requests, requests) = mpsc::channel(requests);
        let (to_answers, answers) = mpsc::channel(INVOCATIONS);
        let (to_refusals, refusals) = mpsc::channel(REFUSALS);
        let (to_logs, logs) = mpsc::channel(LOG_LINES);
        let link = Self {
            requests: to_requests,
            answers: to_answers,
            refusals: to_refusals,
            logs: to_logs,
            invocations: Arc::new(Semaphore::new(INVOCATIONS)),
            invocation_bytes: Arc::new(Semaphore::new(INVOCATION_BYTES)),
            pending: Mutex::new(HashMap::new()),
            closed: watch::Sender::new(None),
        };
        (
            Arc::new(link),
            Queues {
                requests,
                answers,
                refusals,
                logs,
            },
        )
    }

    /// Makes ready for the answer to `id`.
    pub(super) fn expect(&self, id: CorrelationId) -> Waiter<'_> {
        let (tell, told) = oneshot::channel();
        self.pending().insert(id, tell);
        Waiter { link: self, id, told }
    }

    /// Hands an answer to whoever waits; `false` when nobody does any more.
    pub(super) fn answered(&self, id: CorrelationId, told: Told) -> bool {
        self.pending()
            .remove(&id)
            .is_some_and(|tell| tell.send(told).is_ok())
    }

    /// Everybody who waits is told now.
    pub(super) fn close(&self, reason: &str) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    /// Waits for the end; its reason.
    pub(super) async fn closed(&self) -> String {
        let mut closed = self.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<CorrelationId, oneshot::Sender<Told>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// The answer. Never comes when the link closes: wait for that beside it.
    pub(super) async fn told(mut self) -> Told {
        match (&mut self.told).await {
            Ok(told) => told,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.link.pending().remove(&self.id);
    }
}

/// The one writer of a connection: answers to callers before requests before log lines. Ends when the socket fails, or when
/// told to `finish`, after writing what waits.
pub(super) async fn write_all<W: AsyncWrite + Unpin>(
    mut socket: W,
    mut queues: Queues,
    mut finish: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    loop {
        tokio::select! {
            biased;
            Some(answer) = queues.answers.recv() => socket.write_all(&answer.frame).await?,
            Some(frame) = queues.requests.recv() => socket.write_all(&frame).await?,
            Some(frame) = queues.refusals.recv() => socket.write_all(&frame).await?,
            Some(frame) = queues.logs.recv() => socket.write_all(&frame).await?,
            _ = &mut finish => break,
            else => break,
        }
    }
    let _ = tokio::time::timeout(LAST_WORDS, last_words(&mut socket, &mut queues)).await;
    Ok(())
}

async fn last_words<W: AsyncWrite + Unpin>(socket: &mut W, queues: &mut Queues) -> std::io::Result<()> {
    while let Ok(answer) = queues.answers.try_recv() {
        socket.write_all(&answer.frame).await?;
    }
    for queue in [&mut queues.requests, &mut queues.refusals, &mut queues.logs] {
        while let Ok(frame) = queue.try_recv() {
            socket.write_all(&frame).await?;
        }
    }
    socket.shutdown().await
}
