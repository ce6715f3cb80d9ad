//! Why a service was not heard.

use std::path::PathBuf;

/// What went wrong with a request. No variant carries a key, a body or a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Not a URL that can be asked.
    #[error("the address cannot be used: {reason}; write it as https://host:port")]
    BadUrl {
        /// What is wrong with it.
        reason: String,
    },
    /// It would go over the network for everybody to read.
    #[error(
        "plain http to {host} would show the key to everybody in between: use https, or set allow_plain_http if the network is yours alone"
    )]
    PlainHttp {
        /// Whom it was meant for.
        host: String,
    },
    /// This machine trusts nobody.
    #[error(
        "this machine has no certificate authorities, so nobody can vouch for {host}: install ca-certificates, or name its certificate in the configuration"
    )]
    NoAuthorities {
        /// Whom it was meant for.
        host: String,
    },
    /// A certificate file is no use.
    #[error("the certificate file {} cannot be used: {reason}", .path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The request could not be put together.
    #[error("{reason}")]
    Setup {
        /// Why not.
        reason: String,
    },
    /// Nobody answers there.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// Why not.
        reason: String,
    },
    /// Somebody answers, but not somebody we trust.
    #[error("{host} is not whom we trust: {reason}; check the certificate in the configuration")]
    Tls {
        /// Who was asked.
        host: String,
        /// Why not.
        reason: String,
    },
    /// Time ran out.
    #[error("{host} did not answer in time")]
    Timeout {
        /// Who was asked.
        host: String,
        /// Whether the request may have arrived.
        sent: bool,
    },
    /// The connection broke after the request may have arrived.
    #[error("the connection to {host} broke: {reason}")]
    Interrupted {
        /// Who was asked.
        host: String,
        /// How.
        reason: String,
    },
    /// The answer is longer than any that makes sense.
    #[error("the answer of {host} is longer than {limit} bytes; it was not read on")]
    Oversized {
        /// Who was asked.
        host: String,
        /// The longest that is taken.
        limit: usize,
    },
    /// The answer is not what was asked for.
    #[error("the answer of {host} cannot be understood: {reason}")]
    Malformed {
        /// Who was asked.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl HttpError {
    /// Whether it is certain that the request never left: nothing can have been done upon it.
    #[must_use]
    pub const fn nothing_sent(&self) -> bool {
        match self {
            Self::BadUrl { .. }
            | Self::PlainHttp { .. }
            | Self::NoAuthorities { .. }
            | Self::Certificate { .. }
            | Self::Setup { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Timeout { sent: false, .. } => true,
            Self::Timeout { sent: true, .. }
            | Self::Interrupted { .. }
            | Self::Oversized { .. }
            | Self::Malformed { .. } => false,
        }
    }
}
