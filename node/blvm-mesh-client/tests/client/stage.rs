//! The published node's own `NodeAPI` with its own router, and behind it a module that is called like the mesh.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use blvm_node::module::api::node_api::NodeApiImpl;
use blvm_node::module::inter_module::api::ModuleAPI;
use blvm_node::module::inter_module::registry::ModuleApiRegistry;
use blvm_node::module::inter_module::router::ModuleRouter;
use blvm_node::module::traits::{ModuleError, NodeAPI};
use blvm_node::storage::Storage;
use tempfile::TempDir;

/// How the mesh answers: `None` is never.
pub(crate) type Answer = Option<Result<Vec<u8>, ModuleError>>;

type Script = Box<dyn Fn(&str, &[u8]) -> Answer + Send + Sync>;

/// A mesh that answers by script, and the node it is loaded in.
pub(crate) struct Stage {
    pub(crate) node_api: Arc<dyn NodeAPI>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    _directory: TempDir,
}

struct Mesh {
    script: Script,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl ModuleAPI for Mesh {
    async fn handle_request(
        &self,
        method: &str,
        params: &[u8],
        _caller: &str,
    ) -> Result<Vec<u8>, ModuleError> {
        self.asked.lock().unwrap().push(method.to_owned());
        match (self.script)(method, params) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn list_methods(&self) -> Vec<String> {
        Vec::new()
    }

    fn api_version(&self) -> u32 {
        1
    }
}

pub(crate) async fn stage(script: impl Fn(&str, &[u8]) -> Answer + Send + Sync + 'static) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let storage = Arc::new(Storage::new(directory.path()).unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let registry = Arc::new(ModuleApiRegistry::new());
    let mesh = Mesh {
        script: Box::new(script),
        asked: asked.clone(),
    };
    registry
        .register_api("blvm-mesh".to_owned(), Arc::new(mesh))
        .await
        .unwrap();
    let mut node = NodeApiImpl::new(storage);
    node.set_module_api_registry(registry.clone(), Arc::new(ModuleRouter::new(registry)));
    node.set_current_module_id_for_api("my-module".to_owned());
    Stage {
        node_api: Arc::new(node),
        asked,
        _directory: directory,
    }
}
