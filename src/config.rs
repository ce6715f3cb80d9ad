//! The operator's configuration: `config.toml`.
//!
//! Every key has a default, so that an empty file, or none, is a working node. Whatever is in the file and is not
//! understood is refused with its line: an unknown key, a value out of its range, two values that cannot both hold.
//! What is allowed but probably not meant is told at the start ([`Config::warnings`]). `config.example.toml` names
//! every key with its default and its meaning.
//!
//! The keys of `[mesh]` may also stand at the root of the file, as installations of the module under a node have them. A
//! node hands what its own configuration says of the module over in environment variables, which go before the file.

mod chain;
mod fairness;
mod host;
mod layers;
mod ldk;
mod payments;
mod reader;
mod reload;
mod remote;
mod sections;
mod treasury;
mod variables;

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_core::identity::{NodeId, Signature};
use mesh_core::limits::ROUTE_LIFETIME;
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::SpendingCaps;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::EndpointConfig;
use toml::de::DeTable;
use zeroize::Zeroizing;

pub use chain::{BitcoindConfig, ChainBackend, ChainConfig, DEFAULT_RELAY_FEE, NodeChainConfig};
pub use fairness::FairnessConfig;
pub(crate) use fairness::shown as shown_percent;
pub use host::HostConfig;
pub use ldk::{DEFAULT_ANCHOR_RESERVE_SATS, LdkChain, LdkConfig, MAX_ALIAS_BYTES, RpcAuth};
pub use reader::{Place, Problem};
use reader::{Problems, Section};
pub use reload::Changes;
pub use remote::{KeySource, RemoteWallet};
pub use variables::{VARIABLE_PREFIX, Variable};

use crate::treasury::TreasuryConfig;

/// Largest configuration file that is read, in bytes: a thousand neighbours fit ten times over.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// The port mesh nodes listen on unless told otherwise.
pub const DEFAULT_PORT: u16 = 8334;

/// Everything an operator can set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `[mesh]`: the node itself.
    pub mesh: MeshConfig,
    /// `[wallet]`: what it is paid with.
    pub wallet: WalletConfig,
    /// `[chain]`: how it is paid on the chain.
    pub chain: ChainConfig,
    /// `[payments]`: what it may spend.
    pub payments: PaymentsConfig,
    /// `[treasury]`: whither the treasury's part goes; none when nobody is named.
    pub treasury: Option<TreasuryConfig>,
    /// `[fairness]`: how much anybody may earn of what it pays.
    pub fairness: FairnessConfig,
    /// `[host]`: what it makes of the machine and the Bitcoin node it lives with.
    pub host: HostConfig,
    /// What was read and has no effect any more, each a sentence for the log at the start.
    pub notes: Vec<String>,
}

/// `[mesh]`: the node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig {
    /// Whether `run` starts a node at all.
    pub enabled: bool,
    /// What the node carries.
    pub mode: MeshMode,
    /// Where it listens. Port 0 takes any free one.
    pub listen_addr: SocketAddr,
    /// Where its state is kept; none is the default place.
    pub data_dir: Option<PathBuf>,
    /// What it charges per unit (a started KiB of payload), in msat.
    pub price_msat_per_unit: u64,
    /// The Bitcoin network its invoices are for.
    pub network: BitcoinNetwork,
    /// Its operator's key, if it names one.
    pub operator: Option<NodeId>,
    /// The operator's signature over this node's id, which makes the claim one that others believe.
    pub operator_signature: Option<Signature>,
    /// Whether the node announces itself.
    pub announce: bool,
    /// Where it says that it can be dialled.
    pub addresses: Vec<String>,
    /// How long a discovered route is kept at the most.
    pub route_lifetime: Duration,
    /// Whether links may run over the Bitcoin node's own connections too; only as a module of such a node.
    pub node_carrier: bool,
    /// Neighbours at once, 1 to [`MAX_NEIGHBOURS`](mesh_core::limits::MAX_NEIGHBOURS).
    pub max_peers: usize,
    /// Neighbours that a link is kept to; all different.
    pub peers: Vec<Peer>,
    /// `[mesh.limits]`: what strangers may take.
    pub limits: Limits,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            mode: MeshMode::PaymentGated,
            listen_addr: SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)),
            data_dir: None,
            price_msat_per_unit: 10,
            network: BitcoinNetwork::Mainnet,
            operator: None,
            operator_signature: None,
            announce: true,
            addresses: Vec::new(),
            route_lifetime: ROUTE_LIFETIME,
            node_carrier: false,
            max_peers: EndpointConfig::default().max_peers,
            peers: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// A neighbour that a link is kept to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `host:port`; the host is a name or an address, IPv6 in brackets.
    pub address: String,
    /// Who must be there; nobody else is believed.
    pub node_id: NodeId,
}

/// `[mesh.limits]`: what strangers may take. All but the first are those of the same name in [`EndpointConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Free bytes each neighbour may send per second; 0 refuses all free packets.
    pub free_bytes_per_second: u64,
    /// Unfinished inbound connections at once, from everywhere.
    pub max_handshakes: usize,
    /// Unfinished inbound connections at once from one address; a neighbour needs two.
    pub max_handshakes_per_address: usize,
    /// Inbound connections a minute from one address.
    pub accepts_per_minute_per_address: u32,
    /// Whether the two limits above bind loopback too.
    pub limit_loopback: bool,
    /// From the TCP connection to the proven neighbour.
    pub handshake_timeout: Duration,
    /// A keep-alive follows this much silence.
    pub keepalive_interval: Duration,
    /// A link from which nothing came this long is closed.
    pub idle_timeout: Duration,
    /// Bytes of packets waiting for one neighbour before the newest are dropped.
    pub data_queue_bytes: usize,
    /// Bytes of packets waiting for all neighbours together.
    pub total_data_queue_bytes: usize,
    /// Bytes of control messages waiting for one neighbour before its link is closed.
    pub control_queue_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let endpoint = EndpointConfig::default();
        Self {
            // Room for a few transactions a second; 128 neighbours at it fill a common uplink of 64 Mbit/s.
            free_bytes_per_second: 65_536,
            max_handshakes: endpoint.max_handshakes,
            max_handshakes_per_address: endpoint.max_handshakes_per_address,
            accepts_per_minute_per_address: endpoint.accepts_per_minute_per_address,
            limit_loopback: endpoint.limit_loopback,
            handshake_timeout: endpoint.handshake_timeout,
            keepalive_interval: endpoint.keepalive_interval,
            idle_timeout: endpoint.idle_timeout,
            data_queue_bytes: endpoint.data_queue_bytes,
            total_data_queue_bytes: endpoint.total_data_queue_bytes,
            control_queue_bytes: endpoint.control_queue_bytes,
        }
    }
}

/// `[wallet]`: what the node is paid with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WalletConfig {
    /// The Lightning backend.
    pub backend: WalletBackend,
    /// `[wallet.ldk]`; always there when that is the backend.
    pub ldk: Option<LdkConfig>,
    /// Where it is; always there for the backends that are spoken to over REST.
    pub remote: Option<RemoteWallet>,
}

/// The Lightning backends a node can be configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WalletBackend {
    /// No wallet: the node is not paid and does not pay.
    #[default]
    None,
    /// An LNbits wallet.
    LnBits,
    /// An LND node.
    Lnd,
    /// A Core Lightning node.
    Cln,
    /// A Lightning node inside this program, if it was built with the feature `ldk`.
    Ldk,
}

impl WalletConfig {
    /// A wallet that is spoken to over REST.
    #[must_use]
    pub fn over_rest(backend: WalletBackend, remote: RemoteWallet) -> Self {
        Self {
            backend,
            remote: Some(remote),
            ldk: None,
        }
    }
}

impl WalletBackend {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LnBits => "lnbits",
            Self::Lnd => "lnd",
            Self::Cln => "cln",
            Self::Ldk => "ldk",
        }
    }
}

/// `[payments]`: what the node may spend when it is asked to send and the request names no limits of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentsConfig {
    /// Whether it pays at all for requests without a limit.
    pub auto_pay: bool,
    /// What it pays at the most if it does; no cap is above one that bounds it.
    pub caps: SpendingCaps,
}

impl Default for PaymentsConfig {
    /// Small enough that a module gone wild costs the operator some cents a day: at a price of 10 msat a unit, the day's
    /// cap carries some 100 MiB over two hops.
    fn default() -> Self {
        Self {
            auto_pay: false,
            caps: SpendingCaps {
                per_packet_msat: 20_000,
                max_total_msat: 100_000,
                per_hour_msat: 500_000,
                per_day_msat: 2_000_000,
                per_destination_day_msat: 1_000_000,
                per_caller_day_msat: 1_000_000,
                unidentified_day_msat: 100_000,
                max_fee_msat: 5_000,
            },
        }
    }
}

impl PaymentsConfig {
    /// What the node may pay by itself: the caps, or nothing.
    pub fn spending(&self) -> SpendingCaps {
        if self.auto_pay {
            self.caps
        } else {
            SpendingCaps::default()
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; {}", .path.display(), read_advice(.source))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than [`MAX_CONFIG_BYTES`].
    #[error("{} is larger than {MAX_CONFIG_BYTES} bytes and no configuration of this program; check the path", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Something is said that cannot be honoured. Shown one problem to a line, each as `file:line: what`, or
    /// `VARIABLE: what` for one that an environment variable brought in.
    #[error("{}", Listed { file, problems })]
    Invalid {
        /// How the file is called in messages.
        file: String,
        /// What is wrong, in the order of lines; at least one.
        problems: Vec<Problem>,
    },
}

fn read_advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "give --config the path of an existing file, or leave it out for the defaults"
        }
        std::io::ErrorKind::PermissionDenied => "make it readable for the user this program runs as",
        std::io::ErrorKind::InvalidData => "save it as UTF-8 text",
        _ => "check the path and the disk",
    }
}

struct Listed<'e> {
    file: &'e str,
    problems: &'e [Problem],
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n" };
            match &problem.place {
                Place::Line(line) => write!(f, "{separator}{}:{line}: {}", self.file, problem.what)?,
                Place::Variable(name) => write!(f, "{separator}{name}: {}", problem.what)?,
            }
        }
        Ok(())
    }
}

/// The text of a configuration file, which may hold a key to a wallet.
fn read_file(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = Zeroizing::new(String::new());
    // One byte more than allowed tells a file at the limit from one above it.
    file.take(MAX_CONFIG_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or says something that cannot be honoured.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::read(&read_file(path)?, &path.display().to_string(), &[])
    }

    /// Reads the file at `path`, or the defaults if there is none, and over it what a node handed to its module in
    /// environment variables.
    ///
    /// # Errors
    /// As [`Config::load`], but a file that is not there is none.
    pub fn load_for_module(path: &Path, variables: &[Variable]) -> Result<Self, ConfigError> {
        let text = match read_file(path) {
            Err(ConfigError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Zeroizing::default()
            }
            read => read?,
        };
        Self::read(&text, &path.display().to_string(), variables)
    }

    /// Reads a configuration from its text; `file` is what messages call it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every problem found.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        Self::read(text, file, &[])
    }

    fn read(text: &str, file: &str, variables: &[Variable]) -> Result<Self, ConfigError> {
        let mut problems = Problems::new(text, variables);
        let parsed = DeTable::parse(text).map(toml::Spanned::into_inner);
        let document = parsed.unwrap_or_else(|error| {
            let offset = error.span().map(|span| span.start).unwrap_or_default();
            problems.add(offset, format!("not valid TOML: {}", error.message()));
            DeTable::default()
        });
        let mut notes = Vec::new();
        let document = layers::together(document, variables, &mut problems, &mut notes);
        let mut config = sections::read_config(Section::root(&document), &mut problems);
        config.notes = notes;
        let problems = problems.into_sorted();
        if problems.is_empty() {
            return Ok(config);
        }
        Err(ConfigError::Invalid {
            file: file.to_owned(),
            problems,
        })
    }

    /// What is allowed but probably not meant, each a sentence for the log at the start.
    pub fn warnings(&self) -> Vec<String> {
        let no_wallet = self.wallet.backend == WalletBackend::None;
        let gated = self.mesh.mode == MeshMode::PaymentGated;
        let mut warnings = self.notes.clone();
        if gated && no_wallet {
            warnings.push(
                "mode is payment_gated but [wallet] backend is \"none\": this node cannot be paid and therefore carries \
                 paid traffic for nobody; it still carries the free classes, and sends and receives for itself"
                    .to_owned(),
            );
        }
        if !gated && self.mesh.price_msat_per_unit != MeshConfig::default().price_msat_per_unit {
            warnings.push(format!(
                "price_msat_per_unit = {} has no effect: mode {} charges nothing",
                self.mesh.price_msat_per_unit, self.mesh.mode
            ));
        }
        if self.treasury.is_some() && no_wallet {
            warnings.push(
                "[treasury] names whom to pay but [wallet] backend is \"none\": nothing is collected and nothing can be paid"
                    .to_owned(),
            );
        }
        if self.payments.auto_pay && no_wallet {
            warnings.push(
                "auto_pay is on but [wallet] backend is \"none\": this node cannot pay, and sending over nodes that \
                 charge is refused"
                    .to_owned(),
            );
        }
        if self.chain.policy.ctv_enforced_from.is_some() && !cfg!(feature = "ctv") {
            warnings.push(
                "ctv_enforced_from_height has no effect: this program was built without the feature ctv and takes no covenants"
                    .to_owned(),
            );
        }
        warnings
    }

    /// What this configuration means for the links.
    pub fn endpoint(&self) -> EndpointConfig {
        let limits = &self.mesh.limits;
        EndpointConfig {
            listen_addr: Some(self.mesh.listen_addr),
            max_peers: self.mesh.max_peers,
            max_handshakes: limits.max_handshakes,
            max_handshakes_per_address: limits.max_handshakes_per_address,
            accepts_per_minute_per_address: limits.accepts_per_minute_per_address,
            limit_loopback: limits.limit_loopback,
            handshake_timeout: limits.handshake_timeout,
            keepalive_interval: limits.keepalive_interval,
            idle_timeout: limits.idle_timeout,
            data_queue_bytes: limits.data_queue_bytes,
            total_data_queue_bytes: limits.total_data_queue_bytes,
            control_queue_bytes: limits.control_queue_bytes,
            ..EndpointConfig::default()
        }
    }
}

#[cfg(test)]
mod tests;
