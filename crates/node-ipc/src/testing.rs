//! A node's side of the socket, for tests of modules: it takes every connection, answers what it is told to answer, and remembers
//! what it was asked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use crate::event::{Event, EventPayload};
use crate::event_kind::EventKind;
use crate::frame::{FrameReader, framed};
use crate::info::LogLine;
use crate::invocation::{InvocationAnswer, InvocationKind};
use crate::message::{CorrelationId, Decoded, Message, decode};
use crate::request::Request;
use crate::response::Response;

/// The version that the fake node tells.
pub const NODE_VERSION: &str = "0.1.83";

/// How long [`FakeNode::until`] and [`FakeNode::invoke`] wait before they call it a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Frames that may wait for a connection's writer.
const OUTGOING: usize = 4096;

/// What to answer to a request.
#[derive(Debug, Clone)]
pub enum FakeAnswer {
    /// This.
    Reply(Response),
    /// An error, as the repaired node does.
    Refuse(String),
    /// Nothing, and the end of the connection: what the published node does instead of an error.
    Close,
    /// Nothing.
    Silence,
    /// These bytes as a frame's contents.
    Raw(Vec<u8>),
}

type Script = Arc<dyn Fn(&Request) -> Option<FakeAnswer> + Send + Sync>;
type Asker = oneshot::Sender<Result<InvocationAnswer, String>>;

/// The node. Dropped, it closes everything and removes its socket.
pub struct FakeNode {
    inner: Arc<Inner>,
    listener: JoinHandle<()>,
}

struct Inner {
    path: PathBuf,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    script: Option<Script>,
    requests: Vec<Request>,
    arrivals: HashMap<u64, usize>,
    logs: Vec<LogLine>,
    accepted: usize,
    next_id: CorrelationId,
    connections: Vec<Connection>,
    asked: HashMap<CorrelationId, Asker>,
}

struct Connection {
    number: usize,
    to: mpsc::Sender<Vec<u8>>,
    subscribed: Vec<EventKind>,
    tasks: [AbortHandle; 2],
}

impl FakeNode {
    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    /// Those of binding the socket.
    pub fn bind(path: impl AsRef<Path>) -> std::io::Result<Self> {
        let path = path.as_ref().to_owned();
        let listener = UnixListener::bind(&path)?;
        let inner = Arc::new(Inner {
            path,
            state: Mutex::new(State::default()),
            changed: Notify::new(),
        });
        let accepting = inner.clone();
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.accept(stream);
            }
        });
        Ok(Self { inner, listener })
    }

    /// Answers by `script` from now on; where it says `None`, as by default: what a healthy node with an empty chain says.
    pub fn answer_with(&self, script: impl Fn(&Request) -> Option<FakeAnswer> + Send + Sync + 'static) {
        self.inner.state().script = Some(Arc::new(script));
    }

    /// Everything that was asked so far, handshakes included, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.inner.state().requests.clone()
    }

    /// How many requests were of this name.
    pub fn asked(&self, name: &str) -> usize {
        self.inner
            .state()
            .requests
            .iter()
            .filter(|request| request.name() == name)
            .count()
    }

    /// The most requests that arrived in one second of the clock, counted as a node counts.
    pub fn most_in_a_second(&self) -> usize {
        self.inner.state().arrivals.values().copied().max().unwrap_or(0)
    }

    /// Log lines of modules.
    pub fn logs(&self) -> Vec<LogLine> {
        self.inner.state().logs.clone()
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.inner.state().accepted
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.inner.state().connections.len()
    }

    /// Tells an event to every connection that subscribed to it.
    pub async fn publish(&self, payload: EventPayload) {
        let event = Event::from(payload);
        let subscribed = |connection: &&Connection| connection.subscribed.contains(&event.kind);
        let to: Vec<_> = self
            .inner
            .state()
            .connections
            .iter()
            .filter(subscribed)
            .map(|connection| connection.to.clone())
            .collect();
        self.send(to, &Message::Event(event)).await;
    }

    /// Sends a message to every connection.
    pub async fn say(&self, message: &Message) {
        let to = self.inner.everybody();
        self.send(to, message).await;
    }

    /// Sends bytes as they are to every connection: whole frames, broken ones, anything.
    pub async fn say_raw(&self, bytes: &[u8]) {
        for connection in self.inner.everybody() {
            let _ = connection.send(bytes.to_vec()).await;
        }
    }

    /// Calls the module that connected last.
    ///
    /// # Errors
    /// The module's error; that there is none connected; that it did not answer.
    pub async fn invoke(&self, kind: InvocationKind) -> Result<InvocationAnswer, String> {
        let (tell, told) = oneshot::channel();
        let (id, to) = {
            let mut state = self.inner.state();
            state.next_id += 1;
            let id = state.next_id;
            let to = state.connections.last().map(|connection| connection.to.clone());
            state.asked.insert(id, tell);
            (id, to)
        };
        let to = to.ok_or("no module is connected")?;
        self.send(vec![to], &Message::Invocation(id, kind)).await;
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the connection closed before the answer".to_owned()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Closes every connection; new ones are taken.
    pub fn close_all(&self) {
        let closed = std::mem::take(&mut self.inner.state().connections);
        for connection in &closed {
            connection.tasks.iter().for_each(AbortHandle::abort);
        }
        self.inner.changed.notify_waiters();
    }

    /// Waits until `holds`, looking again whenever something happens.
    ///
    /// # Panics
    /// When it does not hold within 20 seconds, with `what`.
    #[allow(clippy::panic, reason = "a test that waits in vain has failed")]
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.inner.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain: {what}; asked so far: {:?}", self.requests());
        }
    }

    async fn send(&self, to: Vec<mpsc::Sender<Vec<u8>>>, message: &Message) {
        let frame = framed(message).unwrap_or_default();
        for connection in to {
            let _ = connection.send(frame.clone()).await;
        }
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.listener.abort();
        self.close_all();
        let _ = std::fs::remove_file(&self.inner.path);
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn everybody(&self) -> Vec<mpsc::Sender<Vec<u8>>> {
        self.state()
            .connections
            .iter()
            .map(|connection| connection.to.clone())
            .collect()
    }

    fn accept(self: &Arc<Self>, stream: UnixStream) {
        let (read, mut write) = stream.into_split();
        let (to, mut frames) = mpsc::channel::<Vec<u8>>(OUTGOING);
        // Held until the connection is listed, so that its reader finds it.
        let mut state = self.state();
        state.accepted += 1;
        let number = state.accepted;
        let writer = tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                if write.write_all(&frame).await.is_err() {
                    return;
                }
            }
        });
        let serving = self.clone();
        let answers = to.clone();
        let reader = tokio::spawn(async move {
            let mut reader = FrameReader::new(read);
            while let Ok(frame) = reader.next().await {
                if !serving.on_frame(number, &frame, &answers).await {
                    break;
                }
            }
            serving.remove(number);
        });
        let tasks = [writer.abort_handle(), reader.abort_handle()];
        state.connections.push(Connection {
            number,
            to,
            subscribed: Vec::new(),
            tasks,
        });
        drop(state);
        self.changed.notify_waiters();
    }

    fn remove(&self, number: usize) {
        self.state().connections.retain(|connection| {
            let other = connection.number != number;
            if !other {
                connection.tasks[0].abort();
            }
            other
        });
        self.changed.notify_waiters();
    }

    /// `false` ends the connection.
    async fn on_frame(&self, number: usize, frame: &[u8], to: &mpsc::Sender<Vec<u8>>) -> bool {
        let stays = match decode(frame) {
            Ok(Decoded::Known(Message::Request(id, request))) => {
                let answer = self.on_request(number, &request);
                answer_frame(id, answer, to).await
            }
            Ok(Decoded::Known(Message::Log(line))) => {
                self.state().logs.push(line);
                true
            }
            Ok(Decoded::Known(Message::InvocationResult(id, answer))) => {
                let asker = self.state().asked.remove(&id);
                if let Some(asker) = asker {
                    let _ = asker.send(answer);
                }
                true
            }
            // A node closes a connection that says what it does not understand.
            _ => false,
        };
        self.changed.notify_waiters();
        stays
    }

    fn on_request(&self, number: usize, request: &Request) -> FakeAnswer {
        let mut state = self.state();
        state.requests.push(request.clone());
        if !matches!(
            request,
            Request::Handshake { .. } | Request::RegisterCliSpec { .. }
        ) {
            let second = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            *state.arrivals.entry(second).or_default() += 1;
        }
        let script = state.script.clone();
        let scripted = {
            drop(state);
            script.and_then(|script| script(request))
        };
        if let (None, Request::SubscribeEvents { event_types }) = (&scripted, request) {
            let mut state = self.state();
            let of_this = state
                .connections
                .iter_mut()
                .find(|connection| connection.number == number);
            if let Some(connection) = of_this {
                connection.subscribed.clone_from(event_types);
            }
        }
        scripted.unwrap_or_else(|| healthy(request))
    }
}

async fn answer_frame(id: CorrelationId, answer: FakeAnswer, to: &mpsc::Sender<Vec<u8>>) -> bool {
    let frame = match answer {
        FakeAnswer::Reply(response) => framed(&Message::Response(id, Ok(response))),
        FakeAnswer::Refuse(reason) => framed(&Message::Response(id, Err(reason))),
        FakeAnswer::Close => return false,
        FakeAnswer::Silence => return true,
        FakeAnswer::Raw(contents) => {
            let length = u32::try_from(contents.len()).unwrap_or(u32::MAX).to_be_bytes();
            Some([&length[..], &contents].concat())
        }
    };
    to.send(frame.unwrap_or_default()).await.is_ok()
}

/// What a healthy node with an empty chain and no other modules says.
fn healthy(request: &Request) -> FakeAnswer {
    FakeAnswer::Reply(match request {
        Request::Handshake { .. } => Response::HandshakeAck {
            node_version: NODE_VERSION.to_owned(),
        },
        Request::SubscribeEvents { .. } => Response::SubscribeAck,
        Request::GetBlock { .. } => Response::Block(None),
        Request::GetBlockHeader { .. } => Response::BlockHeader(None),
        Request::GetTransaction { .. } => Response::Transaction(None),
        Request::HasTransaction { .. } => Response::Bool(false),
        Request::GetChainTip => Response::Hash([0; 32]),
        Request::GetBlockHeight => Response::U64(0),
        Request::GetUtxo { .. } => Response::Utxo(None),
        Request::GetMempoolTransaction { .. } => Response::MempoolTransaction(None),
        Request::GetNetworkPeers => Response::NetworkPeers(Vec::new()),
        Request::GetBlockByHeight { .. } => Response::BlockByHeight(None),
        Request::CheckTransactionInMempool { .. } => Response::CheckTransactionInMempool(false),
        Request::GetFeeEstimate { .. } => Response::FeeEstimate(1),
        Request::RegisterRpcEndpoint { .. } => Response::RpcEndpointRegistered,
        Request::UnregisterRpcEndpoint { .. } => Response::RpcEndpointUnregistered,
        Request::ReportMetric { .. } => Response::MetricReported,
        Request::DiscoverModules => Response::ModuleList(Vec::new()),
        Request::GetModuleInfo { .. } => Response::ModuleInfo(None),
        Request::IsModuleAvailable { .. } => Response::ModuleAvailable(false),
        Request::PublishEvent { .. } => Response::EventPublished,
        Request::RegisterModuleApi { .. } => Response::ModuleApiRegistered,
        Request::UnregisterModuleApi => Response::ModuleApiUnregistered,
        Request::ReportModuleHealth { .. } => Response::HealthReported,
        Request::SendMeshPacketToPeer { .. } | Request::RegisterCliSpec { .. } => Response::Bool(true),
        Request::SubmitMempoolTransaction { .. } => Response::MempoolTransactionSubmitted(true),
        Request::GetTxMetadata { .. } => Response::TxMetadata(None),
        other => return FakeAnswer::Refuse(format!("the fake node has no answer to {}", other.name())),
    })
}
