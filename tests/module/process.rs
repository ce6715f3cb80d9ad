//! A module in a process of its own, as a node spawns it: no arguments, an environment, and pipes that nobody reads.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use mesh_api::ApiRequest;
use node_ipc::testing::FakeNode;
use node_ipc::{InvocationAnswer, InvocationKind};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::common::daemons::{ASK_AGAIN, PATIENCE, program, said};

pub const NAME: &str = "blvm-mesh";

/// Another module, by the id of one of its lives.
pub const CALLER: &str = "chat_00112233445566778899aabbccddeeff";

/// What a node has: a socket, and a directory for its module that others may read.
pub struct Home {
    directory: TempDir,
}

impl Home {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(NAME)).unwrap();
        Self { directory }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join(NAME)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("modules.sock")
    }

    pub fn node(&self) -> FakeNode {
        FakeNode::bind(self.socket()).unwrap()
    }

    pub fn configure(&self, text: &str) {
        std::fs::write(self.data_dir().join("config.toml"), text).unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("module.log")).unwrap_or_default()
    }

    /// Waits until the log says so.
    pub async fn until_log_says(&self, what: &str) {
        let says = timeout(PATIENCE, async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            while !self.log().contains(what) {
                again.tick().await;
            }
        });
        if says.await.is_err() {
            panic!("waited in vain for {what:?} in: {}", self.log());
        }
    }

    /// The environment that a node gives, around any program.
    pub fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("MODULE_NAME", NAME)
            .env("MODULE_ID", format!("{NAME}_{}", "0".repeat(32)))
            .env("SOCKET_PATH", self.socket())
            .env("DATA_DIR", self.data_dir())
            .env("MODULE_CONFIG_VERSION", "0.1.0")
            .env("MODULE_CONFIG_DATABASE_BACKEND", "sled")
            .env("MODULE_CONFIG_NODE_P2P_LISTEN_IP", "127.0.0.1")
            .env("MODULE_CONFIG_NODE_P2P_LISTEN_PORT", "18444")
            .env("MODULE_CONFIG_LISTEN_ADDR", "127.0.0.1:0")
    }

    pub fn spawn(&self, more: &[(&str, &str)]) -> Module {
        let mut command = program();
        self.environment(&mut command).envs(more.iter().copied());
        Module::of(&mut command)
    }

    /// Runs a module that ends by itself.
    pub async fn run(&self, more: &[(&str, &str)]) -> Output {
        let mut command = program();
        self.environment(&mut command).envs(more.iter().copied());
        timeout(PATIENCE, command.output())
            .await
            .expect("it ends")
            .unwrap()
    }

    /// The operator's command line on the module's directory.
    pub async fn ask_json(&self, arguments: &[&str]) -> Value {
        let mut command = program();
        command
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--json")
            .args(arguments);
        let output = timeout(PATIENCE, command.output())
            .await
            .expect("an answer")
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until the operator's command line is answered.
    pub async fn until_it_runs(&self) {
        self.until_log_says("the mesh is running").await;
    }
}

/// A running module.
pub struct Module {
    /// Its pipes are kept and never read.
    pub child: Child,
}

impl Module {
    pub fn of(command: &mut Command) -> Self {
        let piped = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            child: piped.spawn().unwrap(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub async fn kill(mut self) {
        timeout(PATIENCE, self.child.kill()).await.unwrap().unwrap();
    }

    pub async fn terminate(mut self) -> ExitStatus {
        let id = self.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        assert!(told.success());
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("it stops")
            .unwrap()
    }
}

/// Calls the module's API as another module does.
pub async fn call<R: ApiRequest>(node: &FakeNode, caller: &str, request: &R) -> Result<R::Response, String> {
    let kind = InvocationKind::ModuleApi {
        method: R::METHOD.to_string(),
        params: mesh_api::encode(request).unwrap(),
        caller_module_id: caller.to_owned(),
    };
    match node.invoke(kind).await? {
        InvocationAnswer::ModuleApi(bytes) => Ok(mesh_api::decode(&bytes).unwrap()),
        other => panic!("{other:?}"),
    }
}

/// A line of /proc/PID/status, in KiB.
pub fn kib_of(id: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status")).unwrap();
    let found = status.lines().find(|text| text.starts_with(line)).unwrap();
    found.split_whitespace().nth(1).unwrap().parse().unwrap()
}
