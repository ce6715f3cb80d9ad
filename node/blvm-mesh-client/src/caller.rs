//! Calls to the mesh by the node's inter-module call.

use std::sync::Arc;

use async_trait::async_trait;
use blvm_node::module::traits::{ModuleError, NodeAPI};
use mesh_api::{CallError, ModuleCaller};
use tokio::sync::Semaphore;

/// Calls that may be unanswered at once. A node that answers nothing must not gather tasks.
const UNANSWERED: usize = 64;

/// Carries calls over a `NodeAPI`.
#[derive(Clone)]
pub(crate) struct NodeApiCaller {
    node_api: Arc<dyn NodeAPI>,
    mesh_module_id: Arc<str>,
    unanswered: Arc<Semaphore>,
}

impl NodeApiCaller {
    pub(crate) fn new(node_api: Arc<dyn NodeAPI>, mesh_module_id: String) -> Self {
        Self {
            node_api,
            mesh_module_id: mesh_module_id.into(),
            unanswered: Arc::new(Semaphore::new(UNANSWERED)),
        }
    }
}

#[async_trait]
impl ModuleCaller for NodeApiCaller {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let Ok(place) = self.unanswered.clone().try_acquire_owned() else {
            return Err(CallError::Refused {
                reason: format!(
                    "{UNANSWERED} calls are unanswered already: the node or the mesh is overloaded"
                ),
            });
        };
        let (node_api, mesh, method) = (
            self.node_api.clone(),
            self.mesh_module_id.clone(),
            method.to_owned(),
        );
        // In a task of its own: the client drops this future when its time is over, and the node's client, dropped between a request
        // and its answer, fails the next request with that answer.
        let call = tokio::spawn(async move {
            let answer = node_api.call_module(Some(&mesh), &method, payload).await;
            drop(place);
            answer
        });
        match call.await {
            Ok(answer) => answer.map_err(call_error),
            Err(died) => Err(CallError::Unreachable {
                reason: died.to_string(),
            }),
        }
    }
}

/// What the node says of a call that failed.
fn call_error(error: ModuleError) -> CallError {
    let reason = error.to_string();
    match error {
        ModuleError::IpcError(_)
        | ModuleError::ModuleNotFound(_)
        | ModuleError::ModuleCrashed(_)
        | ModuleError::InitializationError(_)
        | ModuleError::Timeout => CallError::Unreachable { reason },
        _ => CallError::Refused { reason },
    }
}
