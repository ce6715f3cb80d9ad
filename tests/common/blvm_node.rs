//! Regtest nodes of `blvm-node` with modules, each in a process of its own on loopback (node/host), stopped with all their
//! modules when they are dropped.
//!
//! The programs are named by environment variables, see [`Programs`]; `.ci/node-programs` builds them. Without them the
//! test that asked says that it is skipped.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "who runs the tests is to know which were skipped, and what a node said"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::bitcoind::json_rpc;
use super::daemons::ASK_AGAIN;

/// Longer than anything a node does here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a block takes to a neighbour, generously.
const TIME_TO_ARRIVE: Duration = Duration::from_secs(3);

/// Nobody has its key: where blocks pay to when nobody is to be paid.
const NOBODY: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// The mesh's manifest, as it is installed.
pub const MESH_MANIFEST: &str = include_str!("../../module.toml");

/// The program that an environment variable names; without one the test that asks is to be skipped, and this says so.
pub fn program(variable: &str) -> Option<PathBuf> {
    let program = std::env::var_os(variable).filter(|program| !program.is_empty());
    if program.is_none() {
        println!("skipped: {variable} names no program (`.ci/node-programs` builds it)");
    }
    program.map(PathBuf::from)
}

/// One node, or the place where it can be started again.
pub struct BlvmNode {
    pub name: &'static str,
    host: PathBuf,
    directory: TempDir,
    p2p_port: u16,
    rpc_port: u16,
    default_limits: bool,
    process: Option<Child>,
}

/// A port that is free now. Whoever takes it before the node does makes the test fail loudly.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl BlvmNode {
    /// A node that is not started yet, and has no modules.
    pub fn new(name: &'static str, host: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("modules")).unwrap();
        Self {
            name,
            host: host.to_owned(),
            directory,
            p2p_port: free_port(),
            rpc_port: free_port(),
            default_limits: false,
            process: None,
        }
    }

    /// The manual way to install a module: a folder with its manifest and its program.
    pub fn install(&self, module: &str, manifest: &str, program: &Path) {
        let folder = self.directory.path().join("modules").join(module);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("module.toml"), manifest).unwrap();
        // A symbolic link leads out of the folder, which the node refuses. A hard link costs nothing, but not every disk has it.
        let installed = folder.join(module);
        if std::fs::hard_link(program, &installed).is_err() {
            std::fs::copy(program, &installed).unwrap();
        }
    }

    /// Where the node keeps everything.
    fn data_dir(&self) -> PathBuf {
        self.directory.path().join("node")
    }

    /// Where a module keeps its data; made now, for a configuration.
    pub fn module_data(&self, module: &str) -> PathBuf {
        let folder = self.data_dir().join("modules").join(module);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Starts it; its modules may still be loading when this comes back.
    pub async fn start(&mut self) {
        let mut log = std::fs::OpenOptions::new();
        let log = log.create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new(&self.host);
        command
            .arg(self.data_dir())
            .arg(format!("127.0.0.1:{}", self.p2p_port))
            .arg(format!("127.0.0.1:{}", self.rpc_port))
            .arg(self.directory.path().join("modules"))
            .args(self.default_limits.then_some("--default-limits"));
        command
            .current_dir(self.directory.path())
            .env("DATA_DIR", self.data_dir())
            .env("BLVM_IBD_PEER_HEIGHT_WAIT_MS", "0")
            // Left to itself the node computes it from the machine's memory, and on some panics while it catches up.
            .env("BLVM_IBD_MAX_PENDING_OPS", "1000000")
            .env("RUST_LOG", "info")
            .env_remove("BITCOIND_EXE");
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        self.process = Some(process);
        let line = timeout(PATIENCE, said.next_line()).await.expect("it starts");
        if line.unwrap().as_deref() != Some("ready") {
            panic!("{} does not run:\n{}", self.name, self.end_of_log());
        }
    }

    /// The operator's way to stop it.
    pub async fn terminate(&mut self) {
        let mut process = self.process.take().unwrap();
        signal(process.id().unwrap(), "-TERM").await;
        timeout(PATIENCE, process.wait())
            .await
            .expect("it stops")
            .unwrap();
        self.modules_gone().await;
    }

    /// kill -9. Its modules notice.
    pub async fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().await.unwrap();
        self.modules_gone().await;
    }

    async fn modules_gone(&self) {
        self.until("its modules to end", async || self.module_processes().is_empty())
            .await;
    }

    pub async fn rpc(&self, method: &str, params: Value) -> Value {
        match self.try_rpc(method, params).await {
            Ok(answer) => answer,
            Err(error) => panic!("{}: {method}: {error}\n{}", self.name, self.end_of_log()),
        }
    }

    pub async fn try_rpc(&self, method: &str, params: Value) -> Result<Value, String> {
        json_rpc(self.rpc_port, "/", method, params).await
    }

    /// Mines blocks that pay nobody.
    pub async fn mine(&self, blocks: u32) {
        self.rpc("generatetoaddress", json!([blocks, NOBODY])).await;
    }

    pub async fn height(&self) -> u64 {
        self.rpc("getblockcount", json!([])).await.as_u64().unwrap()
    }

    /// Links it to another node of the Bitcoin network; both run. A node as published may miss the other's greeting, and then
    /// neither speaks again: such a link is made anew.
    pub async fn add_node(&self, other: &Self) {
        let address = format!("127.0.0.1:{}", other.p2p_port);
        let greeted = async || self.all_peers_greeted().await && other.all_peers_greeted().await;
        let tried = tokio::sync::Mutex::new(None::<tokio::time::Instant>);
        self.until(
            &format!("the greetings of {} and {}", self.name, other.name),
            async || {
                let mut tried = tried.lock().await;
                if tried.is_none_or(|at| at.elapsed() > TIME_TO_ARRIVE) {
                    if tried.is_some() {
                        println!("{}: the link to {} is made anew", self.name, other.name);
                        let _ = self.try_rpc("disconnectnode", json!([address])).await;
                    }
                    // It may be connecting again by itself.
                    let _ = self.try_rpc("addnode", json!([address, "onetry"])).await;
                    *tried = Some(tokio::time::Instant::now());
                }
                greeted().await
            },
        )
        .await;
    }

    async fn all_peers_greeted(&self) -> bool {
        let peers = self.rpc("getpeerinfo", json!([])).await;
        let peers = peers.as_array().unwrap();
        !peers.is_empty()
            && peers
                .iter()
                .all(|peer| peer["version"].as_u64().is_some_and(|version| version > 0))
    }

    /// Waits until the node's main loop runs and these modules are loaded.
    pub async fn wait_for_modules(&self, modules: &[&str]) {
        self.until("its modules", async || {
            let loaded = self.try_rpc("listmodules", json!([])).await.unwrap_or_default();
            modules.iter().all(|module| {
                loaded
                    .as_array()
                    .is_some_and(|loaded| loaded.contains(&json!(module)))
            })
        })
        .await;
    }

    /// Waits until it holds; nothing here gives notice across processes.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let waited = timeout(PATIENCE, async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            while !holds().await {
                again.tick().await;
            }
        });
        if waited.await.is_err() {
            panic!("{}: waited in vain for {what}\n{}", self.name, self.end_of_log());
        }
    }

    /// How much it has said so far: where to begin to look for what follows.
    pub fn said_so_far(&self) -> usize {
        std::fs::metadata(self.log_file()).map_or(0, |file| usize::try_from(file.len()).unwrap())
    }

    /// Waits until a JSON-RPC method of a module is registered that was not when the node had said so much.
    pub async fn wait_for_method(&self, method: &str, said: usize) {
        let wanted = format!("Registered extension RPC endpoint '{method}'");
        self.until(&wanted, async || {
            let log = std::fs::read(self.log_file()).unwrap_or_default();
            String::from_utf8_lossy(log.get(said..).unwrap_or_default()).contains(&wanted)
        })
        .await;
    }

    /// Mines until it holds, for a block that is mined while nodes shake hands is not announced. Gives each block time to arrive.
    pub async fn mine_until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let mined = tokio::sync::Mutex::new(None::<tokio::time::Instant>);
        self.until(what, async || {
            let mut mined = mined.lock().await;
            if mined.is_none_or(|at| at.elapsed() > TIME_TO_ARRIVE) {
                self.mine(1).await;
                *mined = Some(tokio::time::Instant::now());
            }
            holds().await
        })
        .await;
    }

    /// The objects of a file of one to a line in a module's directory; an unfinished last line does not count.
    pub fn lines(&self, module: &str, file: &str) -> Vec<Value> {
        let path = self.data_dir().join("modules").join(module).join(file);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The process of a module.
    pub fn module_process(&self, module: &str) -> Option<u32> {
        let name = format!("MODULE_NAME={module}");
        self.module_processes()
            .into_iter()
            .find_map(|(process, environment)| environment.contains(&name).then_some(process))
    }

    /// kill -9 of a module, while the node lives on.
    pub async fn kill_module(&self, module: &str) {
        signal(self.module_process(module).expect("it runs"), "-KILL").await;
    }

    /// Processes that this node has started, by the socket it gave them, with their environments.
    fn module_processes(&self) -> Vec<(u32, Vec<String>)> {
        let socket = format!(
            "SOCKET_PATH={}",
            self.data_dir().join("sockets/node.sock").display()
        );
        let processes = std::fs::read_dir("/proc").unwrap();
        let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter_map(|process: u32| {
            let environment = std::fs::read(format!("/proc/{process}/environ")).ok()?;
            let environment = String::from_utf8_lossy(&environment);
            let variables: Vec<String> = environment.split('\0').map(str::to_owned).collect();
            variables.contains(&socket).then_some((process, variables))
        })
        .collect()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("node.log")
    }

    /// What it and its modules said last.
    pub fn end_of_log(&self) -> String {
        let mut said = last_lines(&self.log_file());
        for module in std::fs::read_dir(self.data_dir().join("modules"))
            .into_iter()
            .flatten()
            .flatten()
        {
            for file in std::fs::read_dir(module.path()).into_iter().flatten().flatten() {
                let path = file.path();
                if path
                    .extension()
                    .is_some_and(|extension| extension == "log" || extension == "jsonl")
                {
                    said += &format!("\n--- {}\n{}", path.display(), last_lines(&path));
                }
            }
        }
        said
    }
}

impl Drop for BlvmNode {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.start_kill();
        }
        for (process, _) in self.module_processes() {
            let _ = std::process::Command::new("kill")
                .args(["-KILL", &process.to_string()])
                .status();
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.end_of_log());
        }
    }
}

async fn signal(process: u32, name: &str) {
    let told = Command::new("kill")
        .args([name, &process.to_string()])
        .status()
        .await;
    assert!(told.unwrap().success());
}

fn last_lines(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // A node without blocks says so ten times a second.
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.ends_with("No blocks in storage"))
        .collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
