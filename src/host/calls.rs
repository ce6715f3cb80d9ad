//! Calls of other modules, through the node.

use async_trait::async_trait;
use mesh_api::CallError;
use node_ipc::{NodeClient, RequestError};

use crate::api::ModuleCalls;

/// What a node (0.1.83) says when it was not the module that refused: it is not loaded, not well, or has not registered its
/// API yet. All of that passes.
const NOT_THERE: [&str; 5] = [
    "not found or has no API registered",
    "is not healthy",
    "is not connected",
    "Dependency validation failed",
    "connection closed",
];

/// How what arrives reaches the module that registered for it.
pub(super) struct NodeCalls(pub(super) NodeClient);

#[async_trait]
impl ModuleCalls for NodeCalls {
    async fn call_module(&self, module: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let called = self.0.call_module(Some(module), method, payload).await;
        called.map_err(|error| match error {
            RequestError::Refused { reason, .. } if !NOT_THERE.iter().any(|said| reason.contains(said)) => {
                CallError::Refused { reason }
            }
            error => CallError::Unreachable {
                reason: error.to_string(),
            },
        })
    }

    async fn is_running(&self, module: &str) -> Option<bool> {
        self.0.is_module_available(module).await.ok()
    }
}
