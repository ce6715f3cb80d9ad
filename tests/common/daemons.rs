//! Daemons as an operator runs them: `blvm-mesh run` in processes of their own.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a process that gives no notice is asked again.
pub const ASK_AGAIN: Duration = Duration::from_millis(50);

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blvm-mesh"));
    command
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Below the ports that systems hand out to connections, which could take one before the daemon does.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

static PORTS_TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port that is free now and that this process hands out once. Test processes begin at different places.
pub fn free_port() -> u16 {
    let begin = std::process::id().wrapping_mul(131);
    let free = (0..PORTS.len()).find_map(|_| {
        let next = begin.wrapping_add(PORTS_TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + next % (PORTS.end - PORTS.start)).unwrap();
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    });
    free.expect("a free port")
}

/// Gives a daemon that was never started the identity that follows from this number.
pub fn write_identity(data_dir: &Path, seed: u8) {
    let mut file = std::fs::OpenOptions::new();
    let path = data_dir.join("identity.key");
    let mut file = file.write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(format!("{seed:02x}").repeat(32).as_bytes())
        .unwrap();
}

/// A directory that only its owner can look into, with a configuration.
pub struct Home {
    path: PathBuf,
    /// Removed with it, if it is ours.
    _directory: Option<TempDir>,
}

impl Home {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            path: directory.path().to_owned(),
            _directory: Some(directory),
        }
    }

    /// A directory that somebody else made, and removes.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            _directory: None,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its daemons say what they do, one after the other.
    fn log(&self) -> std::fs::File {
        let mut file = std::fs::OpenOptions::new();
        file.create(true).append(true);
        file.open(self.path().join("daemon.log")).unwrap()
    }

    /// What the last daemon said last.
    pub fn end_of_log(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub fn configure(&self, listen_addr: &str, neighbours: &[&Daemon]) {
        let mut config = format!("[mesh]\nmode = \"open\"\nlisten_addr = \"{listen_addr}\"\n");
        for neighbour in neighbours {
            let (address, id) = (&neighbour.listen_addr, &neighbour.node_id);
            config += &format!("[[mesh.peers]]\naddress = \"{address}\"\nnode_id = \"{id}\"\n");
        }
        std::fs::write(self.path().join("config.toml"), config).unwrap();
    }

    /// Adds sections to the end of the configuration.
    pub fn add_to_config(&self, sections: &str) {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(self.path().join("config.toml"))
            .unwrap();
        file.write_all(sections.as_bytes()).unwrap();
    }

    /// Runs a command of this home's to its end.
    pub async fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = program();
        command.arg("--data-dir").arg(self.path()).args(arguments);
        timeout(PATIENCE, command.output())
            .await
            .expect("an answer")
            .unwrap()
    }

    pub async fn ask_json(&self, arguments: &[&str]) -> Value {
        let output = self.ask(&[&["--json"], arguments].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub async fn wait_for_peers(&self, count: usize) {
        let linked = timeout(PATIENCE, async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            while self.ask_json(&["peers"]).await["peers"].as_array().unwrap().len() != count {
                again.tick().await;
            }
        });
        linked.await.expect("links come up");
    }

    pub async fn send(&self, to: &Daemon, payload: &str) -> Output {
        let class = ["--class", "open", "--protocol", "test", "--timeout", "2"];
        self.ask(&[&["send", &to.node_id, payload], &class[..]].concat())
            .await
    }
}

pub fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// A running `blvm-mesh run`.
pub struct Daemon {
    child: Child,
    pub node_id: String,
    pub listen_addr: String,
    /// Kept open: a daemon whose output nobody reads is no crime, but not what is tested here.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Daemon {
    /// Starts it and waits until it says that it runs.
    pub async fn start(home: &Home) -> Self {
        let mut command = program();
        command.arg("--data-dir").arg(home.path()).args(["--json", "run"]);
        let mut child = command.stdout(Stdio::piped()).stderr(home.log()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, stdout.next_line()).await.expect("it starts");
        let Some(line) = line.unwrap() else {
            panic!("it does not run: {}", home.end_of_log());
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self {
            node_id: text("node_id"),
            listen_addr: text("listen_addr"),
            child,
            _stdout: stdout,
        }
    }

    pub async fn kill(mut self) {
        timeout(PATIENCE, self.child.kill()).await.unwrap().unwrap();
    }

    /// Sends it a signal by name, as `kill` does.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let told = Command::new("kill").args([name, &id]).status().await.unwrap();
        assert!(told.success());
    }

    pub async fn terminate(mut self) -> ExitStatus {
        self.signal("-TERM").await;
        timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .unwrap()
    }
}
