//! LNbits, started on loopback with its play-money funding source.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::config::{KeySource, RemoteWallet, WalletBackend, WalletConfig};
use blvm_mesh::http::{HttpClient, Method, PlainHttp, Request, Secret, Trust, Url};
use blvm_mesh::wallet::{Wallet, build};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval, timeout};

/// Its start takes tens of seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

const ADMIN: &str = "mesh-admin";
const PASSWORD: &str = "for a test only";

pub(crate) struct LnBitsServer {
    process: Child,
    pub(crate) url: String,
    http: HttpClient,
    admin: Secret,
    _data: TempDir,
}

/// A wallet there, with its keys.
pub(crate) struct Account {
    pub(crate) admin_key: String,
    pub(crate) invoice_key: String,
}

impl LnBitsServer {
    pub(crate) async fn start(python: &OsStr) -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = free_port();
        // LNbits looks for its own files below the directory it is started in.
        let home = "import lnbits, pathlib; print(pathlib.Path(lnbits.__file__).parent.parent)";
        let home = Command::new(python).args(["-c", home]).output().await.unwrap();
        assert!(home.status.success(), "{}", String::from_utf8_lossy(&home.stderr));
        let home = PathBuf::from(String::from_utf8(home.stdout).unwrap().trim());
        let log = std::fs::File::create(data.path().join("log")).unwrap();
        let process = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lnbits/serve.py"))
            .arg(port.to_string())
            .current_dir(home)
            .env("LNBITS_DATA_FOLDER", data.path())
            .env("LNBITS_EXTENSIONS_PATH", data.path())
            .env("LNBITS_BACKEND_WALLET_CLASS", "FakeWallet")
            .env("LNBITS_ADMIN_UI", "true")
            .env("LNBITS_EXTENSIONS_MANIFESTS", "[]")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut server = Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            http: HttpClient::new(&Trust::System, PlainHttp::LoopbackOnly).unwrap(),
            admin: Secret::new("Bearer nobody".into()),
            _data: data,
        };
        server.install().await;
        server
    }

    /// The first question that is answered gives the administrator his password.
    async fn install(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut again = interval(Duration::from_millis(250));
        let body = json!({"username": ADMIN, "password": PASSWORD, "password_repeat": PASSWORD});
        loop {
            again.tick().await;
            let ended = self.process.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "LNbits does not start: {ended:?}"
            );
            if let Some(said) = self
                .try_ask(Method::PUT, "api/v1/auth/first_install", &body)
                .await
            {
                let token = said["access_token"].as_str().unwrap();
                self.admin = Secret::new(format!("Bearer {token}"));
                return;
            }
        }
    }

    async fn try_ask(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        let url = Url::parse(&self.url).unwrap().join(path).unwrap();
        let request = Request::new(method, url, 100_000)
            .secret_header("authorization", &self.admin)
            .unwrap()
            .json(body)
            .unwrap();
        let answer = self.http.send(request, Duration::from_secs(30)).await.ok()?;
        answer.status.is_success().then(|| answer.json().unwrap())
    }

    /// A new wallet with this much in it.
    pub(crate) async fn account(&self, sat: u64) -> Account {
        let name = json!({"name": "mesh"});
        let made = self
            .try_ask(Method::POST, "api/v1/account", &name)
            .await
            .expect("an account");
        if sat > 0 {
            let credit = json!({"id": made["id"], "amount": sat});
            let credited = self.try_ask(Method::PUT, "users/api/v1/balance", &credit).await;
            assert!(credited.is_some(), "the administrator may give play money");
        }
        let key = |name: &str| made[name].as_str().unwrap().to_owned();
        Account {
            admin_key: key("adminkey"),
            invoice_key: key("inkey"),
        }
    }

    pub(crate) fn config(&self, key: &str) -> WalletConfig {
        let remote = RemoteWallet {
            url: Url::parse(&self.url).unwrap(),
            key: KeySource::Inline(Secret::new(key.to_owned())),
            certificate_file: None,
            allow_plain_http: false,
        };
        WalletConfig::over_rest(WalletBackend::LnBits, remote)
    }

    pub(crate) async fn wallet(&self, key: &str) -> Arc<dyn Wallet> {
        build::connect(&self.config(key)).await.unwrap()
    }

    pub(crate) async fn stop(mut self) {
        timeout(PATIENCE, self.process.kill()).await.unwrap().unwrap();
    }
}

/// Nobody is told which port LNbits would take, so it is given one that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
