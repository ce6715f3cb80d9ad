//! What a client is told at its start, and what it tells.

use std::path::PathBuf;

use crate::event::Event;
use crate::event_kind::EventKind;
use crate::invocation::CliSpec;

use super::invocation::Invocation;

/// How to reach the node, and what to be to it. All of it is done again after every reconnect.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's socket: `SOCKET_PATH` of the environment.
    pub socket_path: PathBuf,
    /// `MODULE_NAME`. The handshake uses it as the id too, because the node looks permissions up by it.
    pub module_name: String,
    /// `MODULE_ID`: the name and 32 hex digits. Only log lines carry it.
    pub module_id: String,
    /// Our version.
    pub version: String,
    /// The events to be told of.
    pub subscriptions: Vec<EventKind>,
    /// Our API's methods, for other modules; none registers no API.
    pub api_methods: Vec<String>,
    /// Our API's version.
    pub api_version: u32,
    /// JSON-RPC methods of ours, each with a description.
    pub rpc_endpoints: Vec<(String, String)>,
    /// Our commands on the node's command line.
    pub cli: Option<CliSpec>,
    /// Whether to leave a node alone that serves one connection only: the published node (0.1.83) does, and needs it for
    /// itself. Whether it has more is tried with a second connection, as `MODULE_NAME#probe`, before the first is used.
    pub leave_the_only_place: bool,
    /// Requests in any second, 1 to 100. The node counts 100 per second and has no patience above that.
    pub requests_per_second: u32,
}

impl Options {
    /// Somewhat under the node's 100 per second, so that clocks need not agree to the millisecond.
    pub const REQUESTS_PER_SECOND: u32 = 90;

    /// A module that asks, and offers nothing.
    pub fn new(
        socket_path: impl Into<PathBuf>,
        module_name: impl Into<String>,
        module_id: impl Into<String>,
        version: impl Into<String>,
    ) -> Self {
        Self {
            socket_path: socket_path.into(),
            module_name: module_name.into(),
            module_id: module_id.into(),
            version: version.into(),
            subscriptions: Vec::new(),
            api_methods: Vec::new(),
            api_version: 1,
            rpc_endpoints: Vec::new(),
            cli: None,
            leave_the_only_place: false,
            requests_per_second: Self::REQUESTS_PER_SECOND,
        }
    }
}

/// What comes from the node.
#[derive(Debug)]
pub enum Incoming {
    /// The node took us in.
    Connected {
        /// The node's version.
        node_version: String,
    },
    /// The connection is gone, or the first attempt failed. Said once; the client goes on trying.
    Disconnected {
        /// Why, as far as known.
        reason: String,
    },
    /// Something happened.
    Event(Event),
    /// Somebody calls us, through the node.
    Invocation(Invocation),
}
