//! [`SocketCaller`]: the mesh over its own Unix socket.
//!
//! A program that is no module of the node, or whose node cannot carry calls between modules, talks to the mesh here, with
//! the same [`MeshClient`](crate::MeshClient):
//!
//! ```no_run
//! # use mesh_api::socket::SocketCaller;
//! # use mesh_api::{ClientError, MeshClient};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let socket = SocketCaller::connect("/var/lib/mesh/api.sock", "my-tool").await?;
//! println!("{:?}", MeshClient::new(socket).get_node_id().await?);
//! # Ok(())
//! # }
//! ```
//!
//! With [`SocketCaller::connect_for_deliveries`] packets for the protocols that were registered under the same name are
//! handed over as they arrive. The mesh keeps registrations, so none needs to be repeated after a reconnect.
//!
//! The connection is made again when it breaks: for deliveries at once and then at growing intervals, else when there is
//! something to say. Calls that were under way fail at once, and none is repeated: a packet or a payment must not happen twice
//! because an answer was lost.

mod connection;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::client_api::{CallError, ModuleCaller};
use crate::frames::{MAX_CALLS_IN_FLIGHT, MAX_NAME_BYTES};
use crate::sessions::Delivery;
use crate::types::NodeId;
use connection::{Keeper, Order};

/// How long connecting and the greeting may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Calls that wait for the connection's writer.
const ORDERS: usize = 64;

/// Deliveries that wait for their taker: each protocol has one under way.
const ARRIVALS: usize = 64;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// Nobody answers there.
    #[error("cannot connect to {}: {reason}; check that the mesh runs, and that its data directory is the one meant", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The mesh turned this client away.
    #[error("the mesh turned this client away: {reason}")]
    TurnedAway {
        /// What it said.
        reason: String,
    },
    /// No client can have this name.
    #[error("{name:?} is no name: it has 1 to {MAX_NAME_BYTES} bytes and no control characters")]
    BadName {
        /// The name.
        name: String,
    },
    /// What answers is no mesh.
    #[error("what answers at {} does not speak as a mesh does: {reason}", .path.display())]
    NotAMesh {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl SocketError {
    fn unreachable(path: &Path, error: &io::Error) -> Self {
        Self::Unreachable {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    fn not_a_mesh(path: &Path, reason: impl ToString) -> Self {
        Self::NotAMesh {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// What the keeper of the connection last knew.
#[derive(Debug, Clone)]
enum State {
    /// Nobody needs it, or it is being made.
    Down,
    Up,
    /// It could not be made.
    Failed(SocketError),
}

/// The mesh over its socket. Cheap to clone; the connection ends with the last clone and with [`Arrivals`].
#[derive(Clone)]
pub struct SocketCaller {
    shared: Arc<Shared>,
}

struct Shared {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
    /// No more calls than the mesh takes of one connection.
    places: Semaphore,
    node_id: NodeId,
    _keeper: Arc<KeeperTask>,
}

/// Ends the connection when nobody uses it any more.
struct KeeperTask(JoinHandle<()>);

impl Drop for KeeperTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SocketCaller {
    /// Connects under a name: quotes, sessions and protocols belong to all clients of that name. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`].
    pub async fn connect(path: impl AsRef<Path>, name: impl Into<String>) -> Result<Self, SocketError> {
        let (caller, _) = Self::start(path.as_ref(), name.into(), None).await?;
        Ok(caller)
    }

    /// As [`SocketCaller::connect`], and takes what arrives for the protocols that are registered under this name. Whoever
    /// connects like this must take the arrivals: the mesh hands over the next of a protocol when the last is handled.
    ///
    /// # Errors
    /// As [`SocketCaller::connect`].
    pub async fn connect_for_deliveries(
        path: impl AsRef<Path>,
        name: impl Into<String>,
    ) -> Result<(Self, Arrivals), SocketError> {
        let (arrivals, queue) = mpsc::channel(ARRIVALS);
        let (caller, keeper) = Self::start(path.as_ref(), name.into(), Some(arrivals)).await?;
        let arrivals = Arrivals {
            queue,
            _keeper: keeper,
        };
        Ok((caller, arrivals))
    }

    /// The node that the mesh belonged to when the connection was first made.
    pub fn node_id(&self) -> NodeId {
        self.shared.node_id
    }

    async fn start(
        path: &Path,
        name: String,
        arrivals: Option<mpsc::Sender<Arrival>>,
    ) -> Result<(Self, Arc<KeeperTask>), SocketError> {
        let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
        if !fits || name.chars().any(char::is_control) {
            return Err(SocketError::BadName { name });
        }
        let (orders, orders_out) = mpsc::channel(ORDERS);
        let (state, state_out) = watch::channel(State::Down);
        let mut keeper = Keeper {
            path: path.to_owned(),
            name,
            arrivals,
            orders: orders_out,
            state,
        };
        let (connected, node_id) = keeper.connect().await?;
        let keeper = Arc::new(KeeperTask(tokio::spawn(keeper.run(connected))));
        let shared = Shared {
            orders,
            state: state_out,
            places: Semaphore::new(MAX_CALLS_IN_FLIGHT),
            node_id,
            _keeper: keeper.clone(),
        };
        let caller = Self {
            shared: Arc::new(shared),
        };
        Ok((caller, keeper))
    }
}

#[async_trait]
impl ModuleCaller for SocketCaller {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let unreachable = |reason: &str| CallError::Unreachable {
            reason: reason.to_owned(),
        };
        let place = self.shared.places.acquire().await;
        let _place = place.map_err(|_| unreachable("this client is closed"))?;
        let (answer, answered) = oneshot::channel();
        let order = Order {
            method: method.to_owned(),
            payload,
            answer,
        };
        self.shared
            .orders
            .send(order)
            .await
            .map_err(|_| unreachable("this client is closed"))?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) => {
                let state = self.shared.state.borrow().clone();
                Err(unreachable(&match state {
                    State::Failed(error) => error.to_string(),
                    State::Down | State::Up => "the connection broke before the answer came".to_owned(),
                }))
            }
        }
    }
}

/// What arrives for the protocols of one client. When it is dropped the connection is made anew, without deliveries, at the
/// next that comes; calls under way then fail.
pub struct Arrivals {
    queue: mpsc::Receiver<Arrival>,
    _keeper: Arc<KeeperTask>,
}

impl Arrivals {
    /// The next packet; waits for it, over reconnects.
    pub async fn next(&mut self) -> Option<Arrival> {
        self.queue.recv().await
    }
}

/// A packet that arrived and is to be handled. Dropped, it was not handled, and the mesh hands it over again later.
#[derive(Debug)]
pub struct Arrival {
    /// The method that was registered for its protocol.
    pub handler_method: String,
    /// The packet.
    pub delivery: Delivery,
    reply: Option<Reply>,
}

#[derive(Debug)]
struct Reply {
    id: u64,
    told: mpsc::UnboundedSender<(u64, Option<String>)>,
}

impl Arrival {
    fn new(
        handler_method: String,
        delivery: Delivery,
        id: u64,
        told: mpsc::UnboundedSender<(u64, Option<String>)>,
    ) -> Self {
        Self {
            handler_method,
            delivery,
            reply: Some(Reply { id, told }),
        }
    }

    /// It was handled, and never comes again; the next of its protocol may come.
    pub fn handled(mut self) {
        self.tell(None);
    }

    /// It was not handled: the mesh hands it over twice more, and then leaves it to a poll.
    pub fn failed(mut self, reason: impl Into<String>) {
        self.tell(Some(crate::limits::clip_reason(reason)));
    }

    fn tell(&mut self, error: Option<String>) {
        if let Some(Reply { id, told }) = self.reply.take() {
            // When the connection has ended meanwhile the packet comes again, handled or not: its id tells.
            let _ = told.send((id, error));
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.tell(Some("it was dropped".to_owned()));
    }
}
