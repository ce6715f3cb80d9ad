//! Why a request has no answer.

use std::time::Duration;

use crate::codec::DecodeError;

/// Why a request to the node failed. None of these is fatal: the client keeps trying to stay connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no connection to the node now.
    #[error("not connected to the node; it is tried again by itself")]
    NotConnected,
    /// The connection closed while the answer was awaited. The request may or may not have been carried out.
    #[error("the connection to the node closed before it answered: {reason}")]
    Disconnected {
        /// Why it closed, as far as known.
        reason: String,
    },
    /// The node said no, in its words.
    #[error("the node refused {request}: {reason}")]
    Refused {
        /// The request's name.
        request: &'static str,
        /// The node's words.
        reason: String,
    },
    /// No answer in time. The request may or may not have been carried out.
    #[error("the node did not answer {request} within {after:?}")]
    Timeout {
        /// The request's name.
        request: &'static str,
        /// How long was waited, from the call to `request` on.
        after: Duration,
    },
    /// Too many requests wait already: this module asks more than the node allows.
    #[error("{waiting} requests wait already; the node takes a limited number per second, ask less often")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The request is longer than a frame may be.
    #[error("the request is longer than the {limit} bytes a frame may have")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer could not be read.
    #[error("the node's answer to {request} cannot be read: {error}")]
    Unreadable {
        /// The request's name.
        request: &'static str,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The answer is one to something else.
    #[error("the node answered {request} with {answer}")]
    WrongAnswer {
        /// The request's name.
        request: &'static str,
        /// The answer's name.
        answer: &'static str,
    },
    /// The client was stopped.
    #[error("the client was stopped")]
    Stopped,
}
