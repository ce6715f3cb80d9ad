//! Who may connect, and how many.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_api::frames::{FromMesh, framed};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::connection::Connection;
use super::room::Rooms;
use super::{MAX_CALLS, MAX_CONNECTIONS};
use crate::admin::{BindError, bind_private};
use crate::api::MeshModuleApi;

/// The pause after a failed accept: out of file descriptors, trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open socket; closed by [`SocketServer::stop`] or when dropped.
pub struct SocketServer {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl SocketServer {
    /// Opens the socket at `path` (mode 0600) and serves the API on it. What a dead daemon left there is replaced. The
    /// directory must be closed to others and locked by the caller. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn start(path: &Path, api: Arc<MeshModuleApi>) -> Result<Self, BindError> {
        let listener = bind_private(path)?;
        let metadata = std::fs::metadata(path).map_err(|source| BindError::Io {
            path: path.to_owned(),
            source,
        })?;
        let shared = Arc::new(Shared {
            api,
            owner: metadata.uid(),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            rooms: Rooms::default(),
        });
        let (stop, stopped) = oneshot::channel();
        Ok(Self {
            path: path.to_owned(),
            stop: Some(stop),
            task: tokio::spawn(accept(listener, shared, stopped)),
        })
    }

    /// Closes the socket and all connections; calls under way are given up.
    pub async fn stop(mut self) {
        // Dropping the sender says the same; whether the loop still listens does not matter.
        drop(self.stop.take());
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the API socket's loop ended badly");
        }
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        // A socket that stays behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) api: Arc<MeshModuleApi>,
    /// The user who may connect: whose the socket is.
    owner: u32,
    pub(super) calls: Arc<Semaphore>,
    pub(super) rooms: Rooms,
}

impl Shared {
    /// The owner, or the superuser, who can become him anyway.
    fn lets_in(&self, stream: &UnixStream) -> bool {
        let peer = stream.peer_cred().map(|peer| peer.uid());
        peer.is_ok_and(|uid| uid == self.owner || uid == 0)
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
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
                tracing::warn!(%error, "the API socket cannot accept; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !shared.lets_in(&stream) {
            tracing::warn!("another user's program connected to the API socket and was turned away");
            continue;
        }
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    Connection::serve(stream, shared).await;
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
    let reason = format!("{MAX_CONNECTIONS} clients are connected; close some of them");
    if let Ok(frame) = framed(&FromMesh::Goodbye { reason }) {
        let _ = stream.try_write(&frame);
    }
}
