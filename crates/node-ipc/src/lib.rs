//! A module's side of blvm-node's module protocol.
//!
//! A node runs modules as programs of their own and talks with each over one Unix socket: requests and answers, events,
//! and calls that the node hands on from its command line, its JSON-RPC and other modules. This crate has the messages as
//! types of its own, so that a module needs not a whole node to be compiled, and a client that keeps the conversation up.
//!
//! * [`Request`], [`Response`], [`Event`], [`InvocationKind`]: what is said;
//! * [`message`]: its bytes, and what becomes of messages that only a newer node knows (they are skipped, never fatal);
//! * [`NodeClient`]: the conversation: reconnects, subscribes and registers again, keeps under the node's request limit;
//! * `testing::FakeNode` (feature `testing`): the node's side, for tests.
//!
//! Everything is bounded. What a node sends can fill neither memory nor a task's time, and nothing that a module does here can
//! stall the node's loop.

#![forbid(unsafe_code)]

mod chain;
pub mod client;
mod codec;
mod event;
mod event_kind;
pub mod frame;
mod info;
mod invocation;
pub mod message;
mod request;
mod response;
#[cfg(feature = "testing")]
pub mod testing;

pub use chain::{
    Block, BlockHeader, ChainInfo, FeeRateSummary, Hash, MempoolSize, OutPoint, SyncStatus, Transaction,
    TransactionInput, TransactionOutput, TxMetadata, Utxo, Witness,
};
pub use client::{Counters, Incoming, Invocation, NodeClient, Options, RequestError};
pub use codec::DecodeError;
pub use event::{Event, EventPayload};
pub use event_kind::EventKind;
pub use info::{
    LogLevel, LogLine, Metric, MetricValue, ModuleHealth, ModuleInfo, ModuleState, NetworkStats, PeerInfo,
};
pub use invocation::{CliArg, CliSpec, CliSubcommand, InvocationAnswer, InvocationKind};
pub use message::{CorrelationId, Decoded, Message};
pub use request::Request;
pub use response::Response;
