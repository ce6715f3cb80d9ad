//! What can go wrong when an endpoint starts or dials.

use std::net::SocketAddr;

use mesh_core::identity::NodeId;

use crate::CloseReason;
use crate::hello::Refusal;

/// An endpoint cannot do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address is taken, not ours or not permitted.
    #[error("cannot listen on {address}: {source}; choose another listen_addr or stop what uses it")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The identity cannot be used for TLS.
    #[error("cannot set up TLS: {0}; the identity key or the cryptography library is unusable")]
    Tls(#[from] rustls::Error),
    /// The system gives no randomness.
    #[error("the system gives no random numbers; links cannot be made safely")]
    NoRandomness,
    /// A setting that cannot work.
    #[error("setting {name} must not be zero")]
    ZeroSetting {
        /// Its name.
        name: &'static str,
    },
    /// The dial list is full.
    #[error("the list of peers to dial holds its maximum of {max}; remove one first")]
    TooManyPeers {
        /// How many fit.
        max: usize,
    },
    /// A peer with our own id.
    #[error("{0} is this node's own id; a node cannot be its own neighbour")]
    OwnId(NodeId),
    /// The endpoint was shut down.
    #[error("the endpoint is shut down")]
    ShutDown,
}

/// Why an attempt to dial a peer did not make a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// TCP could not connect.
    #[error("cannot connect to {address}: {message}")]
    Connect {
        /// The dialled address.
        address: SocketAddr,
        /// What the system said.
        message: String,
    },
    /// What carries the streams to the peer gave up.
    #[error("the way to {address} ended: {reason}")]
    Carrier {
        /// Where they led.
        address: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// Not done in time.
    #[error("{address} did not finish the handshake in time")]
    Timeout {
        /// The dialled address.
        address: SocketAddr,
    },
    /// Another node answered; somebody sits in between, or the peer has a new key.
    #[error("expected node {expected} but node {found} answered; check the address and the id")]
    WrongIdentity {
        /// The node that was dialled.
        expected: NodeId,
        /// The key that was shown. Nothing proves that whoever showed it owns it.
        found: NodeId,
    },
    /// TLS failed.
    #[error("TLS with {address} failed: {message}")]
    Tls {
        /// The dialled address.
        address: SocketAddr,
        /// What rustls said.
        message: String,
    },
    /// The answer to our hello makes no sense.
    #[error("{address} sent an unusable hello ({reason})")]
    Hello {
        /// The dialled address.
        address: SocketAddr,
        /// Bad or of another version.
        reason: CloseReason,
    },
    /// The peer said no.
    #[error("the peer refused: {0}")]
    Refused(Refusal),
    /// A link to the peer came up meanwhile, or no place is free for another.
    #[error("given up: {0}")]
    Unneeded(CloseReason),
}

impl DialError {
    /// The reason under which the attempt is counted.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Connect { .. } => CloseReason::ConnectFailed,
            Self::Timeout { .. } => CloseReason::HandshakeTimeout,
            Self::WrongIdentity { .. } => CloseReason::WrongIdentity,
            Self::Tls { .. } => CloseReason::HandshakeFailed,
            Self::Carrier { reason, .. } | Self::Hello { reason, .. } | Self::Unneeded(reason) => *reason,
            Self::Refused(_) => CloseReason::RefusedByPeer,
        }
    }
}
