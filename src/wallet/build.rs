//! From the configuration to a wallet that answers.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cln::{self, Cln};
use super::lnbits::{self, LnBits};
use super::lnd::{self, Lnd};
use super::none::NoWallet;
use super::rest::{Api, RestWallet};
use super::{Wallet, WalletError};
use crate::config::{KeySource, RemoteWallet, WalletBackend, WalletConfig};
use crate::data_dir::{DataDirError, expand_home};
use crate::http::{HttpClient, HttpError, PinnedCertificate, PlainHttp, Secret, SecretError, Trust};

/// How long a wallet that does not answer is asked again at the start. After a power cut a Lightning node takes longer
/// to start than this program.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two questions.
const CONNECT_PAUSE: Duration = Duration::from_secs(2);

/// Permission bits of everybody else: a key that they have is no key.
const FOREIGN_READ: u32 = 0o004;

/// Why there is no wallet.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The key cannot be had.
    #[error(transparent)]
    Key(#[from] SecretError),
    /// A path cannot be.
    #[error(transparent)]
    Path(#[from] DataDirError),
    /// The certificate, or TLS.
    #[error("section [wallet]: {0}")]
    Setup(#[from] HttpError),
    /// The backend was named and not described.
    #[error(
        "section [wallet] names a backend but not where it is; add its section as config.example.toml shows"
    )]
    NotConfigured,
    /// It is no other program.
    #[error("the ldk wallet is part of this program: it is started, not connected to")]
    Embedded,
    /// It was asked for [`CONNECT_PATIENCE`].
    #[error("the {backend} wallet at {url} did not answer in {} s: {source}", .patience.as_secs())]
    Unreachable {
        /// Which kind.
        backend: &'static str,
        /// Where.
        url: String,
        /// How long it was asked.
        patience: Duration,
        /// What went wrong the last time.
        source: WalletError,
    },
}

/// The wallet that the configuration names, once it answers; asked again for [`CONNECT_PATIENCE`] at the most.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(config: &WalletConfig) -> Result<Arc<dyn Wallet>, ConnectError> {
    connect_within(config, CONNECT_PATIENCE).await
}

/// As [`connect`], with a patience of one's own.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect_within(
    config: &WalletConfig,
    patience: Duration,
) -> Result<Arc<dyn Wallet>, ConnectError> {
    let (header, read_key): (_, ReadKey) = match config.backend {
        WalletBackend::None => return Ok(Arc::new(NoWallet)),
        WalletBackend::LnBits => (lnbits::KEY_HEADER, Secret::from_text_file),
        WalletBackend::Lnd => (lnd::KEY_HEADER, Secret::hex_of_file),
        WalletBackend::Cln => (cln::KEY_HEADER, Secret::from_text_file),
        WalletBackend::Ldk => return Err(ConnectError::Embedded),
    };
    let remote = config.remote.as_ref().ok_or(ConnectError::NotConfigured)?;
    let deadline = Instant::now() + patience;
    loop {
        let why = match open(config.backend, api(remote, header, read_key)?).await {
            Ok(wallet) => return Ok(wallet),
            Err(why) => why,
        };
        if Instant::now() >= deadline {
            return Err(ConnectError::Unreachable {
                backend: config.backend.name(),
                url: remote.url.to_string(),
                patience,
                source: why,
            });
        }
        tracing::warn!(wallet = config.backend.name(), %why, "the wallet does not answer yet; asking again");
        tokio::time::sleep_until((Instant::now() + CONNECT_PAUSE).min(deadline)).await;
    }
}

type ReadKey = fn(&Path) -> Result<Secret, SecretError>;

async fn open(backend: WalletBackend, api: Api) -> Result<Arc<dyn Wallet>, WalletError> {
    Ok(match backend {
        WalletBackend::None | WalletBackend::Ldk => Arc::new(NoWallet),
        WalletBackend::LnBits => {
            let lnbits = LnBits::connect(api).await?;
            let network = lnbits.network();
            Arc::new(RestWallet::new(lnbits, network))
        }
        WalletBackend::Lnd => {
            let lnd = Lnd::connect(api).await?;
            let network = lnd.network();
            Arc::new(RestWallet::new(lnd, network))
        }
        WalletBackend::Cln => {
            let cln = Cln::connect(api).await?;
            let network = cln.network();
            Arc::new(RestWallet::new(cln, network))
        }
    })
}

/// Key and certificate are read anew for each try: a node that starts at the same time may write others.
fn api(remote: &RemoteWallet, header: &'static str, read_key: ReadKey) -> Result<Api, ConnectError> {
    let key = match &remote.key {
        KeySource::Inline(key) => key.clone(),
        KeySource::File(path) => {
            let path = expand_home(path)?;
            warn_if_open(&path);
            read_key(&path)?
        }
    };
    let trust = match &remote.certificate_file {
        None => Trust::System,
        Some(path) => Trust::Pinned(PinnedCertificate::from_pem_file(&expand_home(path)?)?),
    };
    let plain = if remote.allow_plain_http {
        PlainHttp::Anywhere
    } else {
        PlainHttp::LoopbackOnly
    };
    let http = HttpClient::new(&trust, plain)?;
    Ok(Api::new(http, remote.url.clone(), header, key))
}

/// No refusal: whose file it is and who else must read it is the Lightning node's business.
fn warn_if_open(path: &Path) {
    let mode = std::fs::metadata(path).map(|found| found.permissions().mode());
    if mode.is_ok_and(|mode| mode & FOREIGN_READ != 0) {
        let path = path.display();
        tracing::warn!(%path, "everybody on this machine can read the key to the wallet; run chmod o-r on it");
    }
}
