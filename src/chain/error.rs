//! Why the chain source does not answer.

use mesh_core::verifier::BitcoinNetwork;

use crate::http::HttpError;

/// Why the chain source does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It cannot be reached.
    #[error(
        "the Bitcoin node does not answer: {0}; check that it runs and that [chain] url is its RPC address"
    )]
    Unreachable(#[from] HttpError),
    /// The RPC user is not known there.
    #[error("the Bitcoin node refuses this user; check [chain] cookie_file, or user and password_file")]
    Unauthorised,
    /// The wallet is not there, or not loaded.
    #[error(
        "the Bitcoin node has no wallet {wallet:?} loaded; load it there (loadwallet), or name another in [chain] wallet"
    )]
    NoWallet {
        /// The wallet.
        wallet: String,
    },
    /// It says no.
    #[error("the Bitcoin node refuses {method}: {message} ({code})")]
    Refused {
        /// What was called.
        method: &'static str,
        /// Its error code.
        code: i64,
        /// What it says.
        message: String,
    },
    /// Its answer makes no sense.
    #[error(
        "the Bitcoin node's answer to {method} makes no sense: {reason}; Bitcoin Core and Knots from version 25 on are understood"
    )]
    Malformed {
        /// What was called.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The password or the cookie cannot be read.
    #[error("{0}")]
    Secret(String),
    /// It is on another network than configured.
    #[error(
        "the Bitcoin node is on {found:?}, the configuration says {configured:?}; set `network` or [chain] url"
    )]
    WrongNetwork {
        /// The node's.
        found: BitcoinNetwork,
        /// The configuration's.
        configured: BitcoinNetwork,
    },
}
