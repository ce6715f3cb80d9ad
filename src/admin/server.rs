//! The daemon's end of the admin socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::event::Delivery;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::backend::AdminService;
use super::line::{LineError, read_line};
use super::wire::{AdminError, ListenParams, ListenReply, Reply, Request, codes};
use super::{IDLE_TIMEOUT, MAX_CONNECTIONS, MAX_REQUEST_BYTES, WRITE_TIMEOUT, convert};

/// The pause after a failed accept: out of file descriptors, trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A live daemon answers there.
    #[error("another daemon answers on {}; stop it, or give this one its own --data-dir", .0.display())]
    InUse(PathBuf),
    /// Something else than a socket has its name.
    #[error("{} is in the way and no socket; move it away", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refuses.
    #[error(
        "cannot open the socket {}: {source}; its path must be shorter than 108 bytes and its directory writable",
        .path.display()
    )]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An open admin socket; closed by [`AdminServer::stop`] or when dropped.
pub struct AdminServer {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Opens the socket at `path` (mode 0600) and answers on it. What a dead daemon left there is replaced. The
    /// directory must be closed to others and locked by the caller. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn start(path: &Path, service: impl Into<Arc<AdminService>>) -> Result<Self, BindError> {
        let listener = bind_private(path)?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(accept(listener, service.into(), stopped));
        Ok(Self {
            path: path.to_owned(),
            stop: Some(stop),
            task,
        })
    }

    /// Closes the socket and all connections.
    pub async fn stop(mut self) {
        // Dropping the sender says the same; whether the loop still listens does not matter.
        drop(self.stop.take());
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the admin socket's loop ended badly");
        }
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // A socket that stays behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens a socket that only its owner can connect to (mode 0600). What a dead daemon left there is replaced. The directory
/// must be closed to others and locked by the caller.
pub(crate) fn bind_private(path: &Path) -> Result<UnixListener, BindError> {
    let io_error = |source| BindError::Io {
        path: path.to_owned(),
        source,
    };
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(io_error)?;
    // Between the two calls only the directory's mode keeps others out; hence 0700.
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io_error)?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let io_error = |source| BindError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io_error)
        }
        Err(error) => Err(io_error(error)),
    }
}

async fn accept(listener: UnixListener, service: Arc<AdminService>, mut stopped: oneshot::Receiver<()>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        // What has ended is forgotten here, so that the set stays as small as the semaphore.
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin socket cannot accept; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let service = service.clone();
                connections.spawn(async move {
                    Connection::new(stream, service).serve().await;
                    drop(place);
                });
            }
            Err(_) => turn_away(&stream),
        }
    }
    connections.shutdown().await;
}

/// Says why and hangs up, without a task: what fits the socket's buffer is sent, and the rest is the client's loss.
fn turn_away(stream: &UnixStream) {
    let error = AdminError::new(
        codes::TOO_MANY_CONNECTIONS,
        format!("{MAX_CONNECTIONS} clients are connected"),
        "close some of them, such as forgotten `listen`s",
    );
    let line = serde_json::to_vec(&Reply::<()>::Error(error)).unwrap_or_default();
    let _ = stream.try_write(&[&line[..], b"\n"].concat());
}

/// One client.
struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    service: Arc<AdminService>,
}

/// The client is gone, or no longer worth talking to.
struct HangUp;

impl Connection {
    fn new(stream: UnixStream, service: Arc<AdminService>) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader: BufReader::new(reader),
            writer,
            service,
        }
    }

    async fn serve(mut self) {
        while let Ok(line) = self.next_line().await {
            let goes_on = match Request::parse(&line) {
                Ok(Request::Listen(params)) => self.serve_deliveries(params).await,
                Ok(request) => {
                    let answer = self.service.answer(request).await;
                    self.reply(answer).await
                }
                Err(error) => self.refuse(error).await,
            };
            if goes_on.is_err() {
                return;
            }
        }
    }

    async fn next_line(&mut self) -> Result<Vec<u8>, HangUp> {
        let read = tokio::time::timeout(IDLE_TIMEOUT, read_line(&mut self.reader, MAX_REQUEST_BYTES));
        let why = match read.await {
            Ok(Ok(Some(line))) => return Ok(line),
            Ok(Ok(None) | Err(LineError::Io(_))) => return Err(HangUp),
            Ok(Err(error @ LineError::TooLong { .. })) => AdminError::new(
                codes::LINE_TOO_LONG,
                error.to_string(),
                "a packet carries at most 256 KiB; split the payload",
            ),
            Err(_) => AdminError::new(
                codes::IDLE,
                format!("no request came within {} s", IDLE_TIMEOUT.as_secs()),
                "connect again",
            ),
        };
        self.refuse(why).await?;
        Err(HangUp)
    }

    /// Passes on what arrives until the client hangs up or the node stops.
    async fn serve_deliveries(&mut self, params: ListenParams) -> Result<(), HangUp> {
        let mut deliveries = match self.service.listen(params) {
            Ok(deliveries) => deliveries,
            Err(error) => return self.refuse(error).await,
        };
        self.reply(Ok(ListenReply { listening: true })).await?;
        loop {
            match self.next_delivery(&mut deliveries).await {
                Some(delivery) => self.reply(Ok(convert::delivery(&delivery))).await?,
                None => return Err(HangUp),
            }
        }
    }

    /// `None` when the client said anything at all: its end of the stream is how it hangs up, and nothing else is
    /// expected from a listener.
    async fn next_delivery(&mut self, deliveries: &mut mpsc::Receiver<Delivery>) -> Option<Delivery> {
        let mut one_byte = [0];
        tokio::select! {
            delivery = deliveries.recv() => delivery,
            _ = self.reader.read(&mut one_byte) => None,
        }
    }

    async fn refuse(&mut self, error: AdminError) -> Result<(), HangUp> {
        self.reply(Err::<(), _>(error)).await
    }

    async fn reply(&mut self, answer: Result<impl Serialize, AdminError>) -> Result<(), HangUp> {
        let reply = match answer {
            Ok(answer) => Reply::Ok(answer),
            Err(error) => Reply::Error(error),
        };
        let mut line = serde_json::to_vec(&reply).map_err(|_| HangUp)?;
        line.push(b'\n');
        match tokio::time::timeout(WRITE_TIMEOUT, self.writer.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(HangUp),
        }
    }
}
