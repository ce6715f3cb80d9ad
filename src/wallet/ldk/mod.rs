//! The wallet of a node that has no other: a Lightning node inside this program (`ldk-node`).
//!
//! ```text
//! <data_dir>/lightning/       0700
//! ├── seed.words              0600  24 words: whoever reads them has the coins
//! ├── ldk_node_data.sqlite    the node's own: channels, coins, payments
//! └── payments.redb           what the node's payment store does not say (`book`)
//! ```
//!
//! # What a kill leaves
//!
//! The node writes a channel's state before it tells the other side of it, and this program writes a payment down before
//! it hands it to the node, so nothing is paid twice and no money is forgotten. But the node keeps each channel in two
//! records, written one after the other. A kill between them leaves them apart, and then the node closes that channel
//! by itself at the next start, as its safety demands: what was in it comes back on-chain, less the miners' fee and
//! after the channel's delay. It happens only to channels that a payment was crossing at that moment.
//!
//! # Threads
//!
//! The node runs on threads of its own: it checks signatures and waits for the disk where it stands, which on the
//! daemon's threads would delay packets.

mod balance;
mod book;
mod channels;
mod events;
mod invoices;
mod offers;
mod payments;
mod seed;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ldk_node::bitcoin::Network;
use ldk_node::config::{AnchorChannelsConfig, Config as NodeConfig};
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::logger::{LogLevel, LogRecord, LogWriter};
use ldk_node::{BuildError, Builder, Node, NodeError};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::book::Book;
use self::events::Failures;
use self::invoices::Invoices;
pub use self::seed::{SeedError, backup, restore};
use super::lightning_node::LightningNode;
use super::{
    Balance, CreatedInvoice, InvoiceRequest, InvoiceStatus, LightningNetwork, OfferRequest, PayRequest,
    PaymentHash, PaymentOutcome, PaymentStatus, Probe, Wallet, WalletError, WalletInfo,
};
use crate::config::{LdkChain, LdkConfig, RpcAuth};
use crate::data_dir::{DataDir, DataDirError, expand_home};

/// Threads of the Lightning node: one may wait for the disk while the other goes on.
const THREADS: usize = 2;

/// The longest anybody waits here, whatever he asks for: a day, far beyond any payment. It keeps the arithmetic on
/// points in time from overflowing.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Longest cookie file that is read, in bytes; bitcoind's has about 80.
const MAX_COOKIE_BYTES: usize = 512;

/// Why the embedded Lightning node does not start.
#[derive(Debug, thiserror::Error)]
pub enum LdkError {
    /// The seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// A path.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The cookie of the Bitcoin node.
    #[error(
        "cannot read the Bitcoin node's cookie file {file}: {reason}; is bitcoind running, and may this user read it?"
    )]
    Cookie {
        /// Which file.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The book beside the node.
    #[error(
        "the Lightning wallet's payments.redb cannot be opened: {0}; check the disk's free space and the file's permissions"
    )]
    Book(Box<redb::Error>),
    /// The threads.
    #[error("the Lightning node's threads cannot be started: {0}; check the system's limits")]
    Threads(#[source] std::io::Error),
    /// What was written down cannot be used.
    #[error(
        "the Lightning node cannot be set up: {0} (its log says more); check the folder lightning/ and [wallet.ldk]"
    )]
    Build(BuildError),
    /// It cannot run.
    #[error(
        "the Lightning node does not start: {0} (its log says more); check that the chain source of [wallet.ldk.chain] \
         answers, and that nothing else listens on listen_addr"
    )]
    Start(NodeError),
    /// The book says what no book can.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// The wallet over the embedded Lightning node.
pub struct LdkWallet {
    inner: Arc<Inner>,
    threads: Threads,
}

/// The Lightning node's threads. They end with this, without being waited for: who drops it may not be allowed to wait,
/// and the node is as safe as after a kill.
struct Threads(Mutex<Option<Runtime>>);

impl Threads {
    fn end(&self) {
        if let Some(runtime) = lock(&self.0).take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end();
    }
}

/// The Lightning node's log, one level lower than it thinks: it tells of every step of every payment at "info".
struct NodeLog;

impl LogWriter for NodeLog {
    fn log(&self, record: LogRecord<'_>) {
        let (said, place) = (record.args, record.module_path);
        match record.level {
            LogLevel::Gossip | LogLevel::Trace | LogLevel::Debug => tracing::trace!(place, "{said}"),
            LogLevel::Info => tracing::debug!(place, "{said}"),
            LogLevel::Warn => tracing::info!(place, "{said}"),
            LogLevel::Error => tracing::warn!(place, "{said}"),
        }
    }
}

/// What the wallet's tasks share.
struct Inner {
    node: Node,
    book: Book,
    network: LightningNetwork,
    listen_addr: Option<std::net::SocketAddr>,
    /// Counts the node's events: whoever waits for an outcome looks again at each.
    changed: watch::Sender<u64>,
    /// Why payments failed, as far as it is remembered.
    failures: Mutex<Failures>,
    invoices: Mutex<Invoices>,
    /// One payment is handed over at a time, so that the book and the node agree.
    sending: Mutex<()>,
}

impl fmt::Debug for LdkWallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LdkWallet({})", self.inner.node.node_id())
    }
}

impl LdkWallet {
    /// Starts the node on what the data directory holds; makes a new one at the first start. Waits until the chain
    /// source has answered once.
    ///
    /// # Errors
    /// [`LdkError`].
    pub async fn start(
        config: &LdkConfig,
        network: LightningNetwork,
        data_dir: &DataDir,
    ) -> Result<Arc<Self>, LdkError> {
        let seed = seed::read_or_make(data_dir)?;
        let folder = seed::folder(data_dir.path());
        let book = Book::open(&folder).map_err(|error| LdkError::Book(Box::new(error)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("lightning")
            .enable_all()
            .build()
            .map_err(LdkError::Threads)?;
        let handle = runtime.handle().clone();
        // From here on, also when this is given up half-way.
        let threads = Threads(Mutex::new(Some(runtime)));
        let mut builder = Builder::from_config(node_config(config, network, &folder));
        builder
            .set_entropy_bip39_mnemonic(seed, None)
            .set_custom_logger(Arc::new(NodeLog))
            .set_runtime(handle.clone());
        if let Some(alias) = &config.alias {
            builder.set_node_alias(alias.clone()).map_err(LdkError::Build)?;
        }
        set_chain(&mut builder, &config.chain)?;
        let (changed, _) = watch::channel(0);
        let listen_addr = config.listen_addr;
        // Reads the disk and asks the chain source.
        let started = tokio::task::spawn_blocking(move || {
            let node = builder.build().map_err(LdkError::Build)?;
            let inner = Inner {
                invoices: Mutex::new(Invoices::restore(&book, &node)?),
                node,
                book,
                network,
                listen_addr,
                changed,
                failures: Mutex::default(),
                sending: Mutex::default(),
            };
            inner.explain_begun()?;
            inner.node.start().map_err(LdkError::Start)?;
            Ok::<_, LdkError>(Arc::new(inner))
        });
        let inner = started
            .await
            .unwrap_or(Err(LdkError::Build(BuildError::RuntimeSetupFailed)))?;
        handle.spawn(events::consume(Arc::clone(&inner)));
        handle.spawn(events::keep_connected(Arc::clone(&inner)));
        Ok(Arc::new(Self { inner, threads }))
    }

    /// Runs what waits for the disk or the node where waiting hurts nobody. What was begun runs to its end even if nobody
    /// waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, WalletError> + Send + 'static,
    ) -> Result<T, WalletError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|error| {
                Err(WalletError::Unavailable {
                    reason: format!("its work ended badly: {error}"),
                })
            })
    }
}

#[async_trait]
impl Wallet for LdkWallet {
    async fn info(&self) -> Result<WalletInfo, WalletError> {
        Ok(WalletInfo {
            backend: "ldk",
            network: Some(self.inner.network),
            payee: Some(self.inner.node.node_id().serialize()),
        })
    }

    async fn create_invoice(&self, request: InvoiceRequest) -> Result<CreatedInvoice, WalletError> {
        self.blocking(move |inner| inner.create_invoice(&request)).await
    }

    async fn invoice_status(&self, payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError> {
        Ok(self.inner.invoice_status(&payment_hash))
    }

    async fn wait_settled(
        &self,
        payment_hash: PaymentHash,
        timeout: Duration,
    ) -> Result<InvoiceStatus, WalletError> {
        let is_open = |status: &InvoiceStatus| *status == InvoiceStatus::Open;
        let look = || Ok(self.inner.invoice_status(&payment_hash));
        self.inner.wait_while(look, is_open, timeout).await
    }

    async fn pay(&self, request: PayRequest) -> Result<PaymentOutcome, WalletError> {
        payments::pay(self, request).await
    }

    async fn payment_status(&self, payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError> {
        match self.inner.payment_status(&payment_hash)? {
            PaymentStatus::Unknown => self.inner.offer_status(&payment_hash),
            known => Ok(known),
        }
    }

    async fn probe(&self, request: &PayRequest) -> Result<Probe, WalletError> {
        payments::check(&self.inner, request)?;
        // ldk-node sends probes but does not say what came of them.
        Ok(Probe::NotOffered)
    }

    async fn pay_offer(&self, request: OfferRequest) -> Result<PaymentOutcome, WalletError> {
        offers::pay(self, request).await
    }

    async fn balance(&self) -> Result<Balance, WalletError> {
        self.blocking(|inner| Ok(inner.balance())).await
    }

    fn lightning_node(&self) -> Option<&dyn LightningNode> {
        Some(self)
    }
}

impl Inner {
    /// Looks again at each event until `waits` does not hold any more or the time is up; answers what it saw last.
    async fn wait_while<T>(
        &self,
        look: impl Fn() -> Result<T, WalletError>,
        waits: impl Fn(&T) -> bool,
        timeout: Duration,
    ) -> Result<T, WalletError> {
        let mut changed = self.changed.subscribe();
        let deadline = tokio::time::Instant::now() + timeout.min(MAX_WAIT);
        loop {
            changed.mark_unchanged();
            let seen = look()?;
            if !waits(&seen) {
                return Ok(seen);
            }
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return look(),
            }
        }
    }

    fn height(&self) -> u32 {
        self.node.status().current_best_block.height
    }
}

fn node_config(config: &LdkConfig, network: LightningNetwork, folder: &std::path::Path) -> NodeConfig {
    NodeConfig {
        storage_dir_path: folder.display().to_string(),
        network: match network {
            LightningNetwork::Bitcoin => Network::Bitcoin,
            LightningNetwork::Testnet => Network::Testnet,
            LightningNetwork::Signet => Network::Signet,
            LightningNetwork::Regtest => Network::Regtest,
        },
        listening_addresses: config
            .listen_addr
            .map(|address| vec![SocketAddress::from(address)]),
        anchor_channels_config: Some(AnchorChannelsConfig {
            per_channel_reserve_sats: config.anchor_reserve_sats,
            ..AnchorChannelsConfig::default()
        }),
        ..NodeConfig::default()
    }
}

fn set_chain(builder: &mut Builder, chain: &LdkChain) -> Result<(), LdkError> {
    match chain {
        LdkChain::Bitcoind { host, port, auth } => {
            let (user, password) = match auth {
                RpcAuth::Password { user, password } => (user.clone(), password.clone()),
                RpcAuth::CookieFile(file) => read_cookie(&expand_home(file)?)?,
            };
            builder.set_chain_source_bitcoind_rpc(host.clone(), *port, user, password);
        }
        LdkChain::Esplora { url } => {
            builder.set_chain_source_esplora(url.clone(), None);
        }
        LdkChain::Electrum { url } => {
            builder.set_chain_source_electrum(url.clone(), None);
        }
    }
    Ok(())
}

/// `user:password`, as bitcoind writes it.
fn read_cookie(file: &std::path::Path) -> Result<(String, String), LdkError> {
    let refused = |reason: String| LdkError::Cookie {
        file: file.display().to_string(),
        reason,
    };
    let text = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
    let text = text.get(..text.len().min(MAX_COOKIE_BYTES)).unwrap_or_default();
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim().split_once(':'))
        .map(|(user, password)| (user.to_owned(), password.to_owned()))
        .ok_or_else(|| refused("it does not hold a user and a password".to_owned()))
}

/// A thread that panicked half-way through one of these short sections leaves nothing that the next would trip over.
fn lock<T>(place: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    place.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What the node answers once it is stopped, and whatever it says that has no better name.
fn unavailable(error: NodeError) -> WalletError {
    WalletError::Unavailable {
        reason: match error {
            NodeError::NotRunning => "the Lightning node has been stopped".to_owned(),
            other => format!("the Lightning node says: {other}"),
        },
    }
}

#[cfg(test)]
mod tests;
