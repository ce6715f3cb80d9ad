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
    /// The node we are a module of does not answer now.
    #[error(
        "the node that this module belongs to does not answer: {0}; payments on the chain wait until it does"
    )]
    NodeSilent(String),
    /// It refuses.
    #[error(
        "the node refuses {method}: {reason}; check that the module has its capabilities (module.toml) and that the node is up"
    )]
    NodeRefused {
        /// What was asked.
        method: &'static str,
        /// What it says.
        reason: String,
    },
    /// Its answer cannot be true.
    #[error(
        "the node's answer to {method} makes no sense: {reason}; blvm-node 0.1.83 and later are understood"
    )]
    NodeNonsense {
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The chain changes faster than it can be looked at.
    #[error("the node's tip changed again and again while it was asked; it is asked again")]
    Restless,
    /// Too much to be looked at in one go.
    #[error("the node's blocks are still being read, {left} are left; ask again")]
    StillReading {
        /// Blocks left.
        left: u32,
    },
    /// Older than anything that is looked at.
    #[error("that block is older than all that are looked at")]
    TooOld,
    /// A block that had to be read is not kept.
    #[error(
        "the node no longer keeps the block at height {height}, in which a payment may be; let it keep 1,115 blocks or more"
    )]
    Pruned {
        /// Its height.
        height: u32,
    },
    /// Its unspent outputs cannot be asked for.
    #[error(
        "the node does not find the newest coinbase among its unspent outputs, so what it says of others is not believed. \
         blvm-node 0.1.83 is so after it caught up with the network: covenants cannot be checked there"
    )]
    CoinsUnreadable,
    /// It is on a network that nobody knows.
    #[error(
        "the node has the first block of no known network; set up anew, or on a signet of its own, it cannot be used"
    )]
    UnknownNetwork,
    /// No fresh script.
    #[error(transparent)]
    Scripts(#[from] super::node::scripts::ScriptsError),
    /// A transaction is not handed over.
    #[error("the transaction cannot be handed to the network: {0}")]
    NotTaken(String),
}
