//! The conversation with the node.
//!
//! One task connects, reads and connects again (`connection`), one writes (`link`). Whoever asks waits for its own
//! answer, for the end of the connection or for a deadline, whichever comes first. What a node sends waits in an inbox that drops
//! before it grows (`inbox`); what a module sends waits its turn under the node's limit (`budget`).

mod budget;
mod calls;
mod connection;
mod counters;
mod error;
mod inbox;
mod invocation;
mod link;
mod options;
mod registrar;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::frame::{MAX_FRAME, framed};
use crate::info::{LogLevel, LogLine};
use crate::message::{CorrelationId, Message};
use crate::request::Request;
use crate::response::Response;

pub use counters::Counters;
pub use error::RequestError;
pub use invocation::Invocation;
pub use options::{Incoming, Options};

use budget::Budget;
use counters::{Counting, count};
use inbox::Inbox;
use link::Link;

/// How long an answer may take, waiting for one's turn included.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same for calls of other modules: the node itself gives them a minute.
const CALL_PATIENCE: Duration = Duration::from_secs(65);

/// Requests that may wait for their turn or their answer. More of them would wait longer than [`PATIENCE`] anyway.
const WAITING: usize = 512;

/// The longest log line; longer ones are cut. The node's log is for people.
const LOG_LINE: usize = 4096;

/// The node limits a module to so many requests per second.
const NODE_LIMIT: u32 = 100;

/// A connection to the node that mends itself. Clones share it; the last one dropped ends it.
#[derive(Debug, Clone)]
pub struct NodeClient {
    shared: Arc<Shared>,
    _alive: Arc<StopWhenDropped>,
}

#[derive(Debug)]
struct StopWhenDropped(watch::Sender<bool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// What the client's parts share.
#[derive(Debug)]
struct Shared {
    options: Options,
    link: Mutex<Option<Arc<Link>>>,
    budget: Budget,
    waiting: Semaphore,
    next_id: AtomicU64,
    counters: Arc<Counting>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl NodeClient {
    /// Begins to connect, in the background, and to tell what comes. Must be called within a tokio runtime.
    ///
    /// Whoever drops the receiver gets no events, and its callers get errors; requests go on working.
    pub fn start(options: Options) -> (NodeClient, mpsc::Receiver<Incoming>) {
        let (to, incoming) = mpsc::channel(inbox::HANDED_OVER);
        let counters = Arc::new(Counting::default());
        let stop = watch::Sender::new(false);
        let shared = Arc::new(Shared {
            budget: Budget::new(budget_size(&options)),
            options,
            link: Mutex::new(None),
            waiting: Semaphore::new(WAITING),
            next_id: AtomicU64::new(1),
            counters: counters.clone(),
            stop: stop.clone(),
            task: Mutex::new(None),
        });
        let task = tokio::spawn(connection::run(shared.clone(), Inbox::new(to, counters)));
        *lock(&shared.task) = Some(task);
        (
            NodeClient {
                shared,
                _alive: Arc::new(StopWhenDropped(stop)),
            },
            incoming,
        )
    }

    /// Asks the node.
    ///
    /// # Errors
    /// [`RequestError`]: at once without a connection, promptly when it closes, and in any case within a deadline.
    pub async fn request(&self, request: Request) -> Result<Response, RequestError> {
        count(&self.shared.counters.requests);
        let link = lock(&self.shared.link)
            .clone()
            .ok_or_else(|| self.shared.no_link());
        let answer = match link {
            Ok(link) => self.shared.ask(&link, request).await,
            Err(error) => Err(error),
        };
        if answer.is_err() {
            count(&self.shared.counters.requests_failed);
        }
        answer
    }

    /// Whether the node has taken us in and the connection still stands, as far as known.
    pub fn is_connected(&self) -> bool {
        lock(&self.shared.link).is_some()
    }

    /// Puts a line into the node's log. Never waits: without room or connection the line is dropped and counted.
    pub fn log(&self, level: LogLevel, target: &str, message: &str) {
        let line = Message::Log(LogLine {
            level,
            module_id: self.shared.options.module_id.clone(),
            message: cut(message, LOG_LINE).to_owned(),
            target: cut(target, LOG_LINE).to_owned(),
            timestamp: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        });
        let link = lock(&self.shared.link).clone();
        let sent = link
            .zip(framed(&line))
            .is_some_and(|(link, frame)| link.logs.try_send(frame).is_ok());
        if !sent {
            count(&self.shared.counters.logs_dropped);
        }
    }

    /// Totals since the start.
    pub fn counters(&self) -> Counters {
        self.shared.counters.read()
    }

    /// Ends the conversation, for all clones: what waits to be written is written if the node takes it promptly, and requests under way
    /// fail.
    pub async fn stop(self) {
        self.shared.stop.send_replace(true);
        let task = lock(&self.shared.task).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

impl Shared {
    fn budget_size(&self) -> usize {
        budget_size(&self.options)
    }

    fn next_id(&self) -> CorrelationId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn set_link(&self, link: Option<Arc<Link>>) {
        *lock(&self.link) = link;
    }

    fn no_link(&self) -> RequestError {
        if *self.stop.borrow() {
            RequestError::Stopped
        } else {
            RequestError::NotConnected
        }
    }

    /// Asks over this connection.
    async fn ask(&self, link: &Link, request: Request) -> Result<Response, RequestError> {
        let name = request.name();
        let after = if matches!(request, Request::CallModule { .. }) {
            CALL_PATIENCE
        } else {
            PATIENCE
        };
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(RequestError::Busy { waiting: WAITING });
        };
        tokio::select! {
            biased;
            answer = self.exchange(link, request) => answer,
            reason = link.closed() => Err(RequestError::Disconnected { reason }),
            () = tokio::time::sleep(after) => Err(RequestError::Timeout { request: name, after }),
        }
    }

    async fn exchange(&self, link: &Link, request: Request) -> Result<Response, RequestError> {
        let name = request.name();
        let waiter = {
            let turn = self.budget.turn().await;
            let id = self.next_id();
            let frame =
                framed(&Message::Request(id, request)).ok_or(RequestError::TooLong { limit: MAX_FRAME })?;
            let waiter = link.expect(id);
            // There is room for every request that may be unanswered; only a closed connection has none.
            let gone = |_| RequestError::Disconnected {
                reason: "closed before the request was sent".to_owned(),
            };
            // Before the answer can come, else it would not be found in the book.
            turn.sent(id);
            link.requests.try_send(frame).map_err(gone)?;
            waiter
        };
        match waiter.told().await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(reason)) => Err(RequestError::Refused {
                request: name,
                reason,
            }),
            Err(error) => Err(RequestError::Unreadable { request: name, error }),
        }
    }
}

fn budget_size(options: &Options) -> usize {
    options.requests_per_second.clamp(1, NODE_LIMIT) as usize
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At most so many bytes of a text, at a character's boundary.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
