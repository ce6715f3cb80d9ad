//! The ModuleAPI over a Unix socket of its own, `api.sock` in the data directory: for hosts whose inter-module call does not
//! work, and for programs that are no modules. The messages are told at [`mesh_api::frames`], the client is
//! `mesh_api::socket::SocketCaller`.
//!
//! # Who may use it
//!
//! The operator's own user: mode 0600 in a directory of mode 0700, and the kernel is asked who connects. A client says its
//! name, which is for telling clients' things apart and for nothing else: all of them together spend from the budget of
//! unidentified callers ([`Client::over_socket`](crate::api::Client::over_socket)).
//!
//! # What it can take from the node
//!
//! A program that has gone wrong must not take the node with it, so everything it can hold is bounded: connections, calls
//! under way, bytes of requests that are being read (of one client and of all), the time it may take for a hello, for the rest of a frame, for reading what
//! it asked for, and for saying nothing.

mod connection;
mod room;
mod server;

use std::time::Duration;

use mesh_api::Wire;
use mesh_api::frames::{self, ToMesh};
use mesh_core::limits::MAX_PAYLOAD_BYTES;

pub use server::SocketServer;

/// Connections at once: as many as a node has modules, and some tools.
pub const MAX_CONNECTIONS: usize = 64;

/// Calls of all connections under way at once, those that wait included. An answer may take 4 MiB, most take a hundred bytes.
pub const MAX_CALLS: usize = 256;

/// Bytes of requests that are being read or answered, all connections together.
pub const MAX_REQUEST_BYTES: usize = 32 << 20;

/// Those of one client, however many connections it has: a program that sends without end waits for itself, and the others
/// find room. All that one connection may have under way fits, so that a client which keeps to that never has its connection
/// stand still, and with it its word on what it handled.
pub const MAX_REQUEST_BYTES_PER_CLIENT: usize = MAX_REQUEST_BYTES / 2;

/// Messages up to this many bytes need no room of those: asking for what arrived, registering, a word on what was handed over.
/// They are bounded by the connections and the calls under way, and must get through whoever fills the room.
pub const SMALL_FRAME_BYTES: usize = 1024;

/// How long a connection may take to say hello.
pub const HELLO_TIME: Duration = Duration::from_secs(5);

/// How long the rest of a message may take once its first byte has come.
pub const FRAME_TIME: Duration = Duration::from_secs(10);

/// How long a client may fail to read what it asked for.
pub const WRITE_TIME: Duration = Duration::from_secs(10);

/// How long a connection without a call under way, which takes no deliveries, may say nothing. Its client connects again
/// when it has something to say.
pub const IDLE_TIME: Duration = Duration::from_secs(600);

/// Messages that wait for one connection's writer. Beyond that calls wait before they are answered.
const OUTGOING: usize = 8;

/// What a call that sends the longest payload has beside it.
const LONGEST_HEAD_BYTES: usize = 1024;

/// The longest message that is read.
const MAX_FRAME_BYTES: usize = <ToMesh as Wire>::MAX_ENCODED_BYTES;

// A permit is a byte.
const _: () =
    assert!(MAX_FRAME_BYTES <= MAX_REQUEST_BYTES_PER_CLIENT && MAX_REQUEST_BYTES <= u32::MAX as usize);
const _: () = assert!(
    frames::MAX_CALLS_IN_FLIGHT * (MAX_PAYLOAD_BYTES + LONGEST_HEAD_BYTES) <= MAX_REQUEST_BYTES_PER_CLIENT
);
const _: () = assert!(frames::MAX_CALLS_IN_FLIGHT <= MAX_CALLS);
