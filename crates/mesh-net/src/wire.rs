//! What a connection runs over: a TCP socket, or a stream of bytes that somebody else carries.
//!
//! An enum and not a type parameter: everything above is compiled once, and TCP pays one predictable branch for each
//! system call.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::CloseReason;

/// What a link runs over, the better one first. A neighbour has one link: a better one takes a worse one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// TCP, straight to the neighbour.
    Direct,
    /// Frames on the Bitcoin node's own connection to the neighbour's node: slow, so only where there is no direct way.
    Node,
}

/// An ordered, reliable stream of bytes that is not a socket of ours.
///
/// It ends by an [`io::Error`] that holds a [`CloseReason`], which then is the reason of the link's end; any other
/// error is a lost connection, and the end of the stream a closed one.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// Any byte stream, as links take it.
pub type CarriedStream = Box<dyn ByteStream>;

/// A connection below TLS.
pub(crate) enum Wire {
    Tcp(TcpStream),
    Carried(CarriedStream),
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(stream) => stream.fmt(f),
            Self::Carried(_) => f.write_str("Carried"),
        }
    }
}

impl CloseReason {
    /// Why a connection ended that reports `error`.
    pub(crate) fn of(error: &io::Error) -> Self {
        Self::told_by(error).unwrap_or(Self::ConnectionLost)
    }

    /// The reason that a carried stream put into `error`.
    pub(crate) fn told_by(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, space),
            Self::Carried(stream) => Pin::new(stream).poll_read(context, space),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Carried(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Carried(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Carried(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Carried(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Carried(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
