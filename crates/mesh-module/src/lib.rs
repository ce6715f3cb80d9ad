//! The mesh, for a module that talks with its node by [`node_ipc`].
//!
//! A module reaches the mesh, which is a module too, with a call through the node. [`ThroughNode`] carries such calls for
//! [`mesh_api::MeshClient`]. The mesh calls back when a packet of a protocol arrives that the module has registered:
//! that call comes as a [`node_ipc::Invocation`], and its parameters are a [`mesh_api::Delivery`].
//!
//! The crate depends on `mesh-api` and `node-ipc` and thereby on no node, so that a module is compiled in half a minute and is not tied to
//! the versions that blvm-node pins. Authors who use the node's own SDK take `blvm-mesh-client` instead.
//!
//! ```no_run
//! use mesh_module::mesh_api::{Delivery, MeshClient, SendPacketRequest, decode};
//! use mesh_module::node_ipc::{EventKind, Incoming, InvocationAnswer, InvocationKind, NodeClient, Options};
//! use mesh_module::{ThroughNode, has_come_up, register};
//!
//! # async fn module() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = Options::new(
//!     std::env::var("SOCKET_PATH")?,
//!     std::env::var("MODULE_NAME")?,
//!     std::env::var("MODULE_ID")?,
//!     env!("CARGO_PKG_VERSION"),
//! );
//! options.subscriptions = vec![EventKind::ModuleLoaded];
//! options.api_methods = vec!["on_message".to_owned()];
//! let (node, mut incoming) = NodeClient::start(options);
//! let mesh = MeshClient::new(ThroughNode::new(node));
//!
//! while let Some(incoming) = incoming.recv().await {
//!     if has_come_up("blvm-mesh", &incoming) {
//!         let mesh = mesh.clone();
//!         tokio::spawn(async move { register(&mesh, "messaging-v1", "on_message").await });
//!     }
//!     if let Incoming::Invocation(call) = incoming {
//!         let answer = match &call.kind {
//!             InvocationKind::ModuleApi { method, params, .. } if method == "on_message" => {
//!                 decode::<Delivery>(params)
//!                     .map(|delivery| println!("{} bytes arrived", delivery.payload.len()))
//!                     .map(|()| InvocationAnswer::ModuleApi(Vec::new()))
//!                     .map_err(|error| error.to_string())
//!             }
//!             other => Err(format!("no such call: {other:?}")),
//!         };
//!         call.answer(answer);
//!     }
//! }
//! # let destination = [0; 32];
//! mesh.send_packet(SendPacketRequest {
//!     destination,
//!     payload: b"hello".to_vec(),
//!     payment_proof: None,
//!     protocol_id: Some("messaging-v1".to_owned()),
//!     ttl: Some(60),
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

use std::time::Duration;

use async_trait::async_trait;
use mesh_api::{CallError, ClientError, MeshClient, ModuleCaller, RegisterProtocolRequest};
use node_ipc::{Event, EventPayload, Incoming, NodeClient, RequestError};

pub use {mesh_api, node_ipc};

/// The name the mesh is loaded under, unless its operator chose another.
pub const MESH: &str = "blvm-mesh";

/// The wait before the mesh is asked again: modules start one after the other, and a node takes only so many requests a second.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Carries calls to the mesh through the node.
///
/// A node gives a call up after a minute. Calls that may wait longer (`await_deliveries`) must be asked to wait less.
#[derive(Debug, Clone)]
pub struct ThroughNode {
    node: NodeClient,
    mesh: String,
}

impl ThroughNode {
    /// To the mesh by its usual name, [`MESH`].
    pub fn new(node: NodeClient) -> Self {
        Self::named(node, MESH)
    }

    /// To a mesh that is loaded under another name.
    pub fn named(node: NodeClient, mesh: impl Into<String>) -> Self {
        Self {
            node,
            mesh: mesh.into(),
        }
    }
}

#[async_trait]
impl ModuleCaller for ThroughNode {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let answer = self.node.call_module(Some(&self.mesh), method, payload).await;
        answer.map_err(|error| match error {
            RequestError::Refused { reason, .. } => CallError::Refused { reason },
            too_long @ RequestError::TooLong { .. } => CallError::Refused {
                reason: too_long.to_string(),
            },
            other => CallError::Unreachable {
                reason: other.to_string(),
            },
        })
    }
}

/// Whether this says that the mesh may have been started anew and may not know us: then protocols are to be registered (again).
/// The module must subscribe to [`node_ipc::EventKind::ModuleLoaded`] to be told.
pub fn has_come_up(mesh: &str, incoming: &Incoming) -> bool {
    match incoming {
        Incoming::Connected { .. } => true,
        Incoming::Event(Event {
            payload: Some(EventPayload::ModuleLoaded { module_name, .. }),
            ..
        }) => module_name == mesh,
        _ => false,
    }
}

/// Registers a protocol, so that its packets are handed to `method` of this module; asks again until the mesh is there.
///
/// # Errors
/// [`NotRegistered`] when asking again cannot help.
pub async fn register<C: ModuleCaller>(
    mesh: &MeshClient<C>,
    protocol: &str,
    method: &str,
) -> Result<(), NotRegistered> {
    loop {
        let request = RegisterProtocolRequest {
            protocol_id: protocol.to_owned(),
            handler_method: method.to_owned(),
        };
        match mesh.register_protocol_handler(request).await {
            Ok(answer) if answer.success => return Ok(()),
            Ok(_) => {
                return Err(NotRegistered::Taken {
                    protocol: protocol.to_owned(),
                });
            }
            Err(error @ ClientError::Request { .. }) => return Err(NotRegistered::Impossible(error)),
            Err(ClientError::Call {
                source: CallError::Refused { reason },
                ..
            }) if reason.contains("Permission denied") => return Err(NotRegistered::Denied { reason }),
            // Not loaded yet, not connected, busy: it may be in a moment.
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

/// Why a protocol was not registered.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    /// Another module has it, or the mesh has too many already.
    #[error(
        "protocol {protocol} was not registered: another module has it, or the mesh has too many already"
    )]
    Taken {
        /// The protocol.
        protocol: String,
    },
    /// The node does not let this module call others.
    #[error(
        "the node does not let this module call the mesh: {reason}; list `call_module` among the capabilities in module.toml, \
         before any table"
    )]
    Denied {
        /// What the node says.
        reason: String,
    },
    /// The names break a limit.
    #[error(transparent)]
    Impossible(ClientError),
}

/// The blocks of the guide that are no files of their own.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/MODULE_AUTHORS.md")]
struct Guide;
