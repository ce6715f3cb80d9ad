//! The command line's end of the admin socket.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::line::{LineError, read_line};
use super::wire::{AdminError, DeliveryReply, ListenParams, ListenReply, Reply, Request};
use super::{MAX_REPLY_BYTES, REPLY_TIMEOUT};

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no daemon answers at {} ({source}); start one with `blvm-mesh run`, or point to its --data-dir",
        .path.display()
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] AdminError),
    /// The connection broke or the daemon hung up.
    #[error("the daemon hung up ({0}); it may have stopped: look at its log")]
    Lost(io::Error),
    /// The daemon said something this program does not understand.
    #[error("the daemon's answer is not understood ({0}); are both of the same version?")]
    NotUnderstood(String),
    /// The daemon did not answer.
    #[error("the daemon did not answer within {} s; look at its log", REPLY_TIMEOUT.as_secs())]
    NoAnswer,
}

/// A connection to a daemon.
pub struct AdminClient {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl AdminClient {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let connected = UnixStream::connect(path).await;
        let stream = connected.map_err(|source| ClientError::NoDaemon {
            path: path.to_owned(),
            source,
        })?;
        let (reader, writer) = stream.into_split();
        Ok(Self {
            reader: BufReader::new(reader),
            writer,
        })
    }

    /// Makes a request and waits for its answer. After an error other than [`ClientError::Refused`] the connection
    /// is not to be used again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        let mut line =
            serde_json::to_vec(request).map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
        line.push(b'\n');
        let exchange = async {
            // A daemon that turns a client away says why and hangs up without reading: the reason counts.
            let written = self.writer.write_all(&line).await;
            match (self.next_reply().await, written) {
                (Err(ClientError::Lost(_)), Err(error)) => Err(ClientError::Lost(error)),
                (reply, _) => reply,
            }
        };
        match tokio::time::timeout(REPLY_TIMEOUT, exchange).await {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Ok(None)) => Err(ClientError::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ClientError::NoAnswer),
        }
    }

    /// Asks for deliveries; [`AdminClient::next_delivery`] then gives them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn listen(&mut self, params: ListenParams) -> Result<(), ClientError> {
        let ListenReply { .. } = self.call(&Request::Listen(params)).await?;
        Ok(())
    }

    /// The next payload that arrives, however long that takes; `None` when the daemon has stopped.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next_delivery(&mut self) -> Result<Option<DeliveryReply>, ClientError> {
        self.next_reply().await
    }

    async fn next_reply<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        let line = match read_line(&mut self.reader, MAX_REPLY_BYTES).await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(None),
            Err(LineError::Io(error)) => return Err(ClientError::Lost(error)),
            Err(error @ LineError::TooLong { .. }) => {
                return Err(ClientError::NotUnderstood(error.to_string()));
            }
        };
        match serde_json::from_slice(&line) {
            Ok(Reply::Ok(reply)) => Ok(Some(reply)),
            Ok(Reply::Error(error)) => Err(ClientError::Refused(error)),
            Err(error) => Err(ClientError::NotUnderstood(error.to_string())),
        }
    }
}
