//! The one task that keeps a connection: one reader, one writer, and what is under way.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Arrival, CONNECT_TIME, SocketError, State};
use crate::client_api::CallError;
use crate::codec::{Wire, decode};
use crate::frames::{Failure, FromMesh, LENGTH_BYTES, ToMesh, VERSION, framed};
use crate::types::NodeId;

/// The pause before the connection is made again; twice as long after each failure…
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Bytes that are read ahead.
const READ_AHEAD: usize = 64 * 1024;

/// How long the mesh may fail to read what is said to it.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// A call to make. Its answer's sender dropped says that the connection broke.
pub(super) struct Order {
    pub(super) method: String,
    pub(super) payload: Vec<u8>,
    pub(super) answer: oneshot::Sender<Result<Vec<u8>, CallError>>,
}

/// A fresh connection.
pub(super) struct Connected {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// What the task that keeps the connection has.
pub(super) struct Keeper {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) arrivals: Option<mpsc::Sender<Arrival>>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) state: watch::Sender<State>,
}

impl Keeper {
    /// Connects and is greeted.
    pub(super) async fn connect(&mut self) -> Result<(Connected, NodeId), SocketError> {
        match tokio::time::timeout(CONNECT_TIME, self.try_connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(SocketError::Unreachable {
                path: self.path.clone(),
                reason: format!("no answer within {CONNECT_TIME:?}"),
            }),
        }
    }

    async fn try_connect(&self) -> Result<(Connected, NodeId), SocketError> {
        let failed = |error: io::Error| SocketError::unreachable(&self.path, &error);
        let stream = UnixStream::connect(&self.path).await.map_err(failed)?;
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::with_capacity(READ_AHEAD, reader);
        let hello = ToMesh::Hello {
            version: VERSION,
            name: self.name.clone(),
            takes_deliveries: self.arrivals.is_some(),
        };
        let hello = framed(&hello).map_err(|error| SocketError::not_a_mesh(&self.path, error))?;
        // A mesh that turns everybody away may have hung up already, and still have said why.
        let said = writer.write_all(&hello).await;
        match read(&mut reader).await {
            Ok(FromMesh::Welcome { node_id, .. }) => Ok((Connected { reader, writer }, node_id)),
            Ok(FromMesh::Goodbye { reason }) => Err(SocketError::TurnedAway { reason }),
            Ok(_) => Err(SocketError::not_a_mesh(
                &self.path,
                "its first message is no welcome",
            )),
            Err(Broken::Io(error)) => Err(failed(said.err().unwrap_or(error))),
            Err(Broken::Nonsense(reason)) => Err(SocketError::not_a_mesh(&self.path, reason)),
        }
    }

    /// Keeps the connection until nobody has orders any more.
    pub(super) async fn run(mut self, first: Connected) {
        let mut connected = Some(first);
        let mut pause = FIRST_PAUSE;
        // A call that made the connection necessary.
        let mut waiting: Option<Order> = None;
        loop {
            if let Some(connected) = connected.take() {
                self.state.send_replace(State::Up);
                pause = FIRST_PAUSE;
                Talk::new(&mut self, connected)
                    .until_it_breaks(waiting.take())
                    .await;
                self.state.send_replace(State::Down);
            }
            if self.arrivals.as_ref().is_some_and(mpsc::Sender::is_closed) {
                self.arrivals = None;
            }
            // Who takes deliveries is connected always, everybody else when there is something to say.
            let pausing = tokio::time::sleep(pause);
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => waiting = Some(order),
                    None if self.arrivals.is_none() => return,
                    None => pausing_for_arrivals(pause).await,
                },
                () = pausing, if self.arrivals.is_some() => {}
            }
            match self.connect().await {
                Ok((fresh, _)) => connected = Some(fresh),
                Err(error) => {
                    self.state.send_replace(State::Failed(error));
                    // Dropped, it tells its caller.
                    waiting = None;
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// All callers are gone, and somebody still takes deliveries: nothing is ordered any more.
async fn pausing_for_arrivals(pause: Duration) {
    tokio::time::sleep(pause).await;
}

/// Why a connection ended.
enum Broken {
    Io(io::Error),
    Nonsense(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads one message, as long as the mesh may make it and no longer.
async fn read(reader: &mut BufReader<OwnedReadHalf>) -> Result<FromMesh, Broken> {
    let mut length = [0; LENGTH_BYTES];
    reader.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FromMesh::MAX_ENCODED_BYTES {
        return Err(Broken::Nonsense(format!("a message of {length} bytes")));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    decode(&body).map_err(|error| Broken::Nonsense(error.to_string()))
}

type Pending = HashMap<u64, oneshot::Sender<Result<Vec<u8>, CallError>>>;

/// One connection's life.
struct Talk<'a> {
    keeper: &'a mut Keeper,
    connected: Connected,
    pending: Pending,
    next_id: u64,
}

impl<'a> Talk<'a> {
    fn new(keeper: &'a mut Keeper, connected: Connected) -> Self {
        Self {
            keeper,
            connected,
            pending: HashMap::new(),
            next_id: 0,
        }
    }

    /// Calls under way when it breaks fail: their answers' senders are dropped.
    async fn until_it_breaks(self, first: Option<Order>) {
        let Self {
            keeper,
            connected: Connected {
                mut reader,
                mut writer,
            },
            mut pending,
            mut next_id,
        } = self;
        // The reader runs by itself: a message that was read half would be lost with a cancelled read.
        let (messages, mut incoming) = mpsc::channel(16);
        let reading = async move {
            while let Ok(message) = read(&mut reader).await {
                if messages.send(message).await.is_err() {
                    return;
                }
            }
        };
        let _reading = AbortOnDrop(tokio::spawn(reading));
        // Holds no more than one word for each packet that the mesh handed over and waits for.
        let (told, mut outcomes) = mpsc::unbounded_channel();
        let mut first = first;
        loop {
            let message = if let Some(order) = first.take() {
                begin(order, &mut pending, &mut next_id)
            } else {
                let only_deliveries = keeper.orders.is_closed() && keeper.orders.is_empty();
                tokio::select! {
                    message = incoming.recv() => {
                        let Some(message) = message else { return };
                        if !take(message, &mut pending, keeper.arrivals.as_ref(), &told) {
                            return;
                        }
                        continue;
                    }
                    order = keeper.orders.recv(), if !only_deliveries => match order {
                        Some(order) => begin(order, &mut pending, &mut next_id),
                        None if keeper.arrivals.is_none() => return,
                        None => continue,
                    },
                    Some((id, error)) = outcomes.recv() => ToMesh::Handled { id, error },
                }
            };
            if !write(&mut writer, &message, &mut pending).await {
                return;
            }
        }
    }
}

fn begin(order: Order, pending: &mut Pending, next_id: &mut u64) -> ToMesh {
    *next_id += 1;
    // Whoever gave up waiting is forgotten, and his answer with him when it comes.
    pending.retain(|_, answer| !answer.is_closed());
    pending.insert(*next_id, order.answer);
    ToMesh::Call {
        id: *next_id,
        method: order.method,
        payload: order.payload,
    }
}

/// Takes what the mesh says. Whether the connection goes on.
fn take(
    message: FromMesh,
    pending: &mut Pending,
    arrivals: Option<&mpsc::Sender<Arrival>>,
    told: &mpsc::UnboundedSender<(u64, Option<String>)>,
) -> bool {
    match message {
        FromMesh::Answered { id, payload } => answer(pending, id, Ok(payload)),
        FromMesh::Failed { id, failure, reason } => {
            let error = match failure {
                Failure::Refused => CallError::Refused { reason },
                Failure::Busy => CallError::Unreachable { reason },
            };
            answer(pending, id, Err(error));
        }
        FromMesh::Deliver {
            id,
            handler_method,
            delivery,
        } => {
            let arrival = Arrival::new(handler_method, delivery, id, told.clone());
            match arrivals.map(mpsc::Sender::try_reserve) {
                Some(Ok(room)) => room.send(arrival),
                // One that is gone takes no more, which only another hello can say.
                Some(Err(mpsc::error::TrySendError::Closed(()))) => return false,
                // One that is behind says so by the arrival's being dropped: it comes again.
                Some(Err(mpsc::error::TrySendError::Full(()))) | None => {}
            }
        }
        FromMesh::Welcome { .. } => {}
        FromMesh::Goodbye { .. } => return false,
    }
    true
}

fn answer(pending: &mut Pending, id: u64, answer: Result<Vec<u8>, CallError>) {
    if let Some(waiting) = pending.remove(&id) {
        // Whoever asked may have given up.
        let _ = waiting.send(answer);
    }
}

/// Writes a message. Whether the connection goes on.
async fn write(writer: &mut OwnedWriteHalf, message: &ToMesh, pending: &mut Pending) -> bool {
    let frame = match framed(message) {
        Ok(frame) => frame,
        Err(error) => {
            // A call that is too long for the socket: nothing was sent, and the connection is as good as before.
            if let ToMesh::Call { id, .. } = message {
                let reason = error.to_string();
                answer(pending, *id, Err(CallError::Refused { reason }));
            }
            return true;
        }
    };
    let written = tokio::time::timeout(WRITE_TIME, writer.write_all(&frame)).await;
    matches!(written, Ok(Ok(())))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
