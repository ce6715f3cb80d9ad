//! Why a call brought nothing.

use blvm_node::module::traits::ModuleError;
use mesh_api::{CallError, ClientError};

/// Why a method of [`MeshClient`](crate::MeshClient) has no result.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The request, the call or the answer failed, or there was no answer in time.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The protocol was not registered.
    #[error(
        "protocol {protocol_id} was not registered: another module has it, or the mesh has too many already"
    )]
    NotRegistered {
        /// The protocol.
        protocol_id: String,
    },
}

/// So that `?` works in functions of a module, whose errors are the node's.
impl From<MeshError> for ModuleError {
    fn from(error: MeshError) -> Self {
        match error {
            MeshError::Client(ClientError::TimedOut { .. }) => ModuleError::Timeout,
            MeshError::Client(ClientError::Call {
                source: CallError::Unreachable { reason },
                ..
            }) => ModuleError::IpcError(reason),
            MeshError::Client(ClientError::Request { .. } | ClientError::Response { .. }) => {
                ModuleError::SerializationError(error.to_string())
            }
            other => ModuleError::OperationError(other.to_string()),
        }
    }
}
