//! One client: its hello, its calls, and what arrives for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mesh_api::frames::{Failure, FromMesh, LENGTH_BYTES, MAX_CALLS_IN_FLIGHT, ToMesh, VERSION, framed};
use mesh_api::limits::clip_reason;
use mesh_api::{CallError, Delivery, Method, decode};
use mesh_core::spending::ModuleName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::room::{Room, Share};
use super::server::Shared;
use super::{FRAME_TIME, HELLO_TIME, IDLE_TIME, MAX_FRAME_BYTES, OUTGOING, WRITE_TIME};
use crate::api::{Client, Door};
use crate::handle::lock;

/// The client is gone, or no longer worth talking to, and if it may still listen, why.
struct HangUp(Option<String>);

impl From<io::Error> for HangUp {
    fn from(_: io::Error) -> Self {
        Self(None)
    }
}

fn because(reason: impl Into<String>) -> HangUp {
    HangUp(Some(reason.into()))
}

/// A message from the client, and the room it takes.
type Read = (ToMesh, Room);

/// One client.
pub(super) struct Connection {
    reader: OwnedReadHalf,
    outgoing: mpsc::Sender<FromMesh>,
    shared: Arc<Shared>,
    /// Its client's part of the room for requests; none before the hello.
    share: Option<Share>,
    /// As many as calls of this connection may be under way.
    places: Arc<Semaphore>,
    /// Finished whatever happens to the connection: half a purchase is worse than an answer that nobody reads.
    calls: JoinSet<()>,
    /// Given up with the connection: what they would fetch would be lost.
    waits: JoinSet<()>,
}

impl Connection {
    /// Serves a client until it hangs up, or gives a reason to.
    pub(super) async fn serve(stream: UnixStream, shared: Arc<Shared>) {
        let (reader, writer) = stream.into_split();
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let mut connection = Self {
            reader,
            outgoing: outgoing.clone(),
            shared,
            share: None,
            places: Arc::new(Semaphore::new(MAX_CALLS_IN_FLIGHT)),
            calls: JoinSet::new(),
            waits: JoinSet::new(),
        };
        let mut writing = tokio::spawn(write(writer, queue));
        let ended = tokio::select! {
            ended = connection.talk() => ended,
            // It does not read what it asked for.
            _ = &mut writing => return,
        };
        drop(connection);
        if let Err(HangUp(Some(reason))) = ended {
            let reason = clip_reason(reason);
            // The writer gives up by itself, and then nobody is told.
            let _ = outgoing.send(FromMesh::Goodbye { reason }).await;
        }
        drop(outgoing);
        let _ = writing.await;
    }

    async fn talk(&mut self) -> Result<(), HangUp> {
        let (client, takes_deliveries) = self.greet().await?;
        let door = takes_deliveries.then(|| Arc::new(SocketDoor::new(self.outgoing.clone())));
        // Closed when this returns.
        let _open = door.as_ref().map(|door| {
            (
                self.shared.api.open_door(client.clone(), door.clone()),
                Shut(door.clone()),
            )
        });
        loop {
            let Some((message, room)) = self.next(door.is_some()).await? else {
                return Ok(());
            };
            match message {
                ToMesh::Hello { .. } => return Err(because("a second hello; say it once, and first")),
                ToMesh::Call { id, method, payload } => {
                    self.call(client.clone(), id, method, payload, room).await?;
                }
                ToMesh::Handled { id, error } => {
                    if let Some(door) = &door {
                        door.handled(id, error);
                    }
                }
            }
        }
    }

    async fn greet(&mut self) -> Result<(Client, bool), HangUp> {
        let hello = tokio::time::timeout(HELLO_TIME, self.read());
        let hello = hello
            .await
            .map_err(|_| because("no hello came; it is the first message"))?;
        let Some((
            ToMesh::Hello {
                version,
                name,
                takes_deliveries,
            },
            _,
        )) = hello?
        else {
            return Err(because("the first message must be a hello"));
        };
        if version != VERSION {
            return Err(because(format!(
                "this mesh speaks version {VERSION} of the socket's messages, not {version}; upgrade the older side"
            )));
        }
        let name = ModuleName::new(name).map_err(|error| because(error.to_string()))?;
        let node_id = self.shared.api.node().node_id().0;
        self.say(FromMesh::Welcome { version, node_id }).await?;
        let client = Client::over_socket(name);
        self.share = Some(self.shared.rooms.share(&client));
        Ok((client, takes_deliveries))
    }

    /// The next message; none when the client has hung up.
    async fn next(&mut self, may_be_silent: bool) -> Result<Option<Read>, HangUp> {
        loop {
            let silence = if may_be_silent || self.under_way() > 0 {
                Duration::MAX
            } else {
                IDLE_TIME
            };
            tokio::select! {
                readable = self.reader.readable() => {
                    readable?;
                    return self.read().await;
                }
                // The idle time begins when the last call has ended.
                Some(_) = self.calls.join_next() => {}
                Some(_) = self.waits.join_next() => {}
                () = tokio::time::sleep(silence) => {
                    let seconds = IDLE_TIME.as_secs();
                    return Err(because(format!("nothing was said for {seconds} s; connect again")));
                }
            }
        }
    }

    /// Calls that have not been answered.
    fn under_way(&mut self) -> usize {
        while self.calls.try_join_next().is_some() {}
        while self.waits.try_join_next().is_some() {}
        self.calls.len() + self.waits.len()
    }

    /// Reads one message. Its length is checked, and room for it found, before memory is taken.
    async fn read(&mut self) -> Result<Option<Read>, HangUp> {
        let mut length = [0; LENGTH_BYTES];
        let first = self.reader.read(&mut length).await?;
        if first == 0 {
            return Ok(None);
        }
        in_time(self.reader.read_exact(&mut length[first..])).await?;
        let bytes = u32::from_le_bytes(length);
        if bytes as usize > MAX_FRAME_BYTES {
            return Err(because(format!(
                "a message of {bytes} bytes; the longest has {MAX_FRAME_BYTES}"
            )));
        }
        let room = match &self.share {
            Some(share) => share.take(bytes).await.map_err(|_| HangUp(None))?,
            None => Room::of_small(bytes).ok_or_else(|| because("the first message must be a hello"))?,
        };
        let mut body = vec![0; bytes as usize];
        in_time(self.reader.read_exact(&mut body)).await?;
        let message = decode(&body).map_err(|error| because(error.to_string()))?;
        Ok(Some((message, room)))
    }

    async fn call(
        &mut self,
        client: Client,
        id: u64,
        method: String,
        payload: Vec<u8>,
        room: Room,
    ) -> Result<(), HangUp> {
        let own = self.places.clone().try_acquire_owned();
        let place = self.shared.calls.clone().try_acquire_owned();
        let (Ok(place), Ok(own)) = (place, own) else {
            let reason = format!(
                "{MAX_CALLS_IN_FLIGHT} calls of this connection, or too many of all, are under way; nothing was done, try again"
            );
            let failure = Failure::Busy;
            return self.say(FromMesh::Failed { id, failure, reason }).await;
        };
        let (api, outgoing) = (self.shared.api.clone(), self.outgoing.clone());
        let tasks = if waits(&method) {
            &mut self.waits
        } else {
            &mut self.calls
        };
        tasks.spawn(async move {
            let answer = match api.handle_for(&client, &method, &payload).await {
                Ok(payload) => FromMesh::Answered { id, payload },
                Err(error) => FromMesh::Failed {
                    id,
                    failure: Failure::Refused,
                    reason: clip_reason(reason_of(error)),
                },
            };
            let way = outgoing.reserve().await;
            // Before the client can hear of it: with the answer in hand it may make the next call.
            drop((place, own, room));
            // A client that is gone has no use for it.
            if let Ok(way) = way {
                way.send(answer);
            }
        });
        Ok(())
    }

    async fn say(&self, message: FromMesh) -> Result<(), HangUp> {
        self.outgoing.send(message).await.map_err(|_| HangUp(None))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.calls.detach_all();
    }
}

/// Whether a method only waits for something.
fn waits(method: &str) -> bool {
    matches!(
        method.parse(),
        Ok(Method::AwaitDeliveries | Method::AwaitNetworkChange)
    )
}

async fn in_time(reading: impl Future<Output = io::Result<usize>>) -> Result<(), HangUp> {
    match tokio::time::timeout(FRAME_TIME, reading).await {
        Ok(read) => read.map(drop).map_err(HangUp::from),
        Err(_) => Err(because("a message was begun and not finished")),
    }
}

fn reason_of(error: CallError) -> String {
    match error {
        CallError::Refused { reason } | CallError::Unreachable { reason } => reason,
    }
}

/// Writes what there is to say, until there is nothing more or the client does not read.
async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<FromMesh>) {
    while let Some(message) = queue.recv().await {
        let frame = match framed(&message) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%error, "an answer does not fit the socket's messages");
                return;
            }
        };
        match tokio::time::timeout(WRITE_TIME, writer.write_all(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// What was handed over and is not yet handled, by number: few, since each protocol has one at a time.
#[derive(Default)]
struct HandedOver {
    next: u64,
    shut: bool,
    waiting: BTreeMap<u64, oneshot::Sender<Result<(), String>>>,
}

/// The way by which packets reach a client over its connection.
struct SocketDoor {
    outgoing: mpsc::Sender<FromMesh>,
    handed_over: Mutex<HandedOver>,
}

impl SocketDoor {
    fn new(outgoing: mpsc::Sender<FromMesh>) -> Self {
        Self {
            outgoing,
            handed_over: Mutex::default(),
        }
    }

    fn handled(&self, id: u64, error: Option<String>) {
        if let Some(waiting) = lock(&self.handed_over).waiting.remove(&id) {
            // Nobody waits for it any more when it took too long.
            let _ = waiting.send(error.map_or(Ok(()), Err));
        }
    }
}

/// The connection has ended, and what was handed over will not be told of.
struct Shut(Arc<SocketDoor>);

impl Drop for Shut {
    fn drop(&mut self) {
        let mut handed_over = lock(&self.0.handed_over);
        handed_over.shut = true;
        handed_over.waiting.clear();
    }
}

/// Forgets what was handed over when nobody waits for it any more.
struct Forget<'a>(&'a SocketDoor, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.0.handed_over).waiting.remove(&self.1);
    }
}

#[async_trait]
impl Door for SocketDoor {
    async fn hand_over(&self, method: &str, delivery: Delivery) -> Result<(), CallError> {
        let gone = || CallError::Unreachable {
            reason: "its connection ended".to_owned(),
        };
        let (told, outcome) = oneshot::channel();
        let id = {
            let mut handed_over = lock(&self.handed_over);
            if handed_over.shut {
                return Err(gone());
            }
            handed_over.next += 1;
            let id = handed_over.next;
            handed_over.waiting.insert(id, told);
            id
        };
        let _forget = Forget(self, id);
        let message = FromMesh::Deliver {
            id,
            handler_method: method.to_owned(),
            delivery,
        };
        self.outgoing.send(message).await.map_err(|_| gone())?;
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(CallError::Refused { reason }),
            Err(_) => Err(gone()),
        }
    }
}
