//! A bitcoind on a regression-test chain of its own, on loopback, stopped when it is dropped.
//!
//! It is the program that BITCOIND_EXE names; without one [`Bitcoind::start`] answers `None`, and the test that asked
//! says that it is skipped. `.ci/bitcoind` prints a usable path.

#![allow(
    clippy::print_stdout,
    reason = "who runs the tests is to know which were skipped, and why"
)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Longer than anything asked here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a bitcoind that is not up yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// `mesh:mesh` as HTTP's basic authentication has it. It guards nothing but play money on loopback.
const BASIC_AUTH: &str = "bWVzaDptZXNo";

/// The user and the password of its RPC.
pub const USER: &str = "mesh";

/// Calls a method of a node on 127.0.0.1 as [`USER`]; the error is what the node said, or why it did not answer.
pub async fn json_rpc(port: u16, path: &str, method: &str, params: Value) -> Result<Value, String> {
    let body = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params}).to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {BASIC_AUTH}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(PATIENCE, exchange)
        .await
        .map_err(|error| error.to_string())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let mut reply: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
    match reply["error"].take() {
        Value::Null => Ok(reply["result"].take()),
        error => Err(error.to_string()),
    }
}

/// A running bitcoind.
pub struct Bitcoind {
    _child: Child,
    _directory: TempDir,
    /// Where its RPC listens, on 127.0.0.1.
    pub rpc_port: u16,
}

impl Bitcoind {
    /// Starts one with a wallet that holds mature coins, or says why the test is skipped.
    pub async fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("BITCOIND_EXE").filter(|program| !program.is_empty()) else {
            println!("skipped: set BITCOIND_EXE to a bitcoind (`.ci/bitcoind` prints one) to run this test");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        // Free at this moment; whoever takes it before bitcoind does makes this test fail loudly.
        let rpc_port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(&program)
            .arg(format!("-datadir={}", directory.path().display()))
            .arg(format!("-rpcport={rpc_port}"))
            .arg(format!("-rpcuser={USER}"))
            .arg(format!("-rpcpassword={USER}"))
            .args([
                "-regtest",
                "-server",
                "-listen=0",
                "-txindex=1",
                "-fallbackfee=0.00002",
            ])
            .args([
                "-rpcbind=127.0.0.1",
                "-rpcallowip=127.0.0.1",
                "-rpcthreads=8",
                "-rpcworkqueue=256",
            ])
            .args(["-dbcache=16", "-printtoconsole=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let bitcoind = Self {
            _child: child,
            _directory: directory,
            rpc_port,
        };
        let up = timeout(PATIENCE, async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            while bitcoind.try_rpc("getblockchaininfo", json!([])).await.is_err() {
                again.tick().await;
            }
        });
        up.await.expect("bitcoind starts");
        bitcoind.rpc("createwallet", json!(["miner"])).await;
        // A reward can be spent when a hundred blocks are on top of it; twenty of them are enough for every test.
        bitcoind.mine(120).await;
        Some(bitcoind)
    }

    /// Calls a method that must succeed.
    pub async fn rpc(&self, method: &str, params: Value) -> Value {
        match self.try_rpc(method, params).await {
            Ok(answer) => answer,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    /// Calls a method, of the miner's wallet if it is a wallet's; the error is what bitcoind said, or why it did not answer.
    pub async fn try_rpc(&self, method: &str, params: Value) -> Result<Value, String> {
        json_rpc(self.rpc_port, "/wallet/miner", method, params).await
    }

    /// Mines that many blocks at once, to the wallet; answers their hashes.
    pub async fn mine(&self, blocks: u32) -> Vec<String> {
        let address = self.rpc("getnewaddress", json!([])).await;
        let hashes = self.rpc("generatetoaddress", json!([blocks, address])).await;
        serde_json::from_value(hashes).unwrap()
    }

    /// Pays an address from the miner's wallet; the transaction waits for [`Self::mine`].
    pub async fn pay(&self, address: &str, sats: u64) -> String {
        let bitcoin = format!("{}.{:08}", sats / 100_000_000, sats % 100_000_000);
        let txid = self.rpc("sendtoaddress", json!([address, bitcoin])).await;
        txid.as_str().unwrap().to_owned()
    }

    /// How many blocks there are after the first.
    pub async fn height(&self) -> u64 {
        self.rpc("getblockcount", json!([])).await.as_u64().unwrap()
    }
}
