//! The mesh for authors of blvm-node modules who have the node's `NodeAPI`.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use blvm_mesh::{MeshClient, MeshError};
//! use blvm_node::module::traits::NodeAPI;
//!
//! # async fn example(node_api: Arc<dyn NodeAPI>, destination: [u8; 32]) -> Result<(), MeshError> {
//! let mesh = MeshClient::new(node_api, "blvm-mesh".to_string());
//! let sent = mesh
//!     .send_packet("my-module", destination, b"hello".to_vec(), None, Some("messaging-v1".to_string()))
//!     .await?;
//! if let Some(reason) = sent.error {
//!     eprintln!("not sent: {reason}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! * [`MeshClient`]: the calls, with the signatures that the system's documentation gives, and all later ones;
//! * [`MeshError`]: why a call brought nothing;
//! * [`api`]: every request and response.
//!
//! Receiving: register a protocol with [`MeshClient::register_protocol_handler`]; the mesh then calls that method of the
//! module's API with an encoded [`api::Delivery`] for every packet. Modules without an API poll
//! ([`MeshClient::poll_deliveries`]).
//!
//! **Never wait for the mesh, or for any call of the `NodeAPI`, inside a handler of your API or of an event**: nodes handle a module's
//! messages one after the other, and the answer may stand behind the very call that waits for it. Spawn a task.
//!
//! A module that does not use the node's SDK takes `mesh-module` instead, which needs no node to be compiled.

#![forbid(unsafe_code)]

mod caller;
mod client;
mod error;

pub use client::MeshClient;
pub use error::MeshError;

/// Requests, responses and their bytes.
pub use mesh_api as api;
pub use mesh_api::{NodeId, PaymentProof};
