//! The operator's configuration: `config.toml`.
//!
//! Every key has a default, so that an empty file, or none, is a working node. Whatever is in the file and is not
//! understood is refused with its line: an unknown key, a value out of its range, two values that cannot both hold.
//! What is allowed but probably not meant is told at the start ([`Config::warnings`]). `config.example.toml` names
//! every key with its default and its meaning.

mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_core::identity::NodeId;
use mesh_core::limits::MAX_NEIGHBOURS;
use mesh_core::routing_policy::MeshMode;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::{EndpointConfig, MAX_CONTROL_FRAME_BYTES, MAX_DATA_FRAME_BYTES};
use toml::de::DeTable;

pub use reader::Problem;
use reader::{Located, Problems, Section, boolean, number, text};

/// Largest configuration file that is read, in bytes: a thousand neighbours fit ten times over.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// The port mesh nodes listen on unless told otherwise.
pub const DEFAULT_PORT: u16 = 8334;

/// Most millisatoshi that can be asked for: all the bitcoin there will ever be.
const MAX_MSAT: u64 = 21_000_000 * 100_000_000 * 1_000;

/// Largest number TOML promises to carry (a signed 64-bit integer).
const MAX_INTEGER: u64 = i64::MAX as u64;

/// Longest time that can be configured, in seconds: a day.
const MAX_SECONDS: u64 = 86_400;

/// Largest queue that can be configured, in bytes: 4 GiB.
const MAX_QUEUE_BYTES: u64 = 4 << 30;

/// Everything an operator can set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `[mesh]`: the node itself.
    pub mesh: MeshConfig,
    /// `[wallet]`: what it is paid with.
    pub wallet: WalletConfig,
    /// `[payments]`: what it may spend.
    pub payments: PaymentsConfig,
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
    /// Neighbours at once, 1 to [`MAX_NEIGHBOURS`].
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
}

/// The Lightning backends a node can be configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WalletBackend {
    /// No wallet: the node is not paid and does not pay.
    #[default]
    None,
}

/// `[payments]`: what the node may spend when it is asked to send and the request names no limits of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentsConfig {
    /// Whether it pays at all for requests without a limit.
    pub auto_pay: bool,
    /// The most one purchase of credit may cost, all shares together, in msat.
    pub max_total_msat: u64,
    /// The most Lightning fees may cost per payment, in msat.
    pub max_fee_msat: u64,
}

impl Default for PaymentsConfig {
    fn default() -> Self {
        Self {
            auto_pay: false,
            max_total_msat: 100_000,
            max_fee_msat: 5_000,
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
    /// The file says something that cannot be honoured. Shown one problem to a line, each as `file:line: what`.
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
            write!(f, "{separator}{}:{}: {}", self.file, problem.line, problem.what)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or says something that cannot be honoured.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        // One byte more than allowed tells a file at the limit from one above it.
        file.take(MAX_CONFIG_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
            });
        }
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a configuration from its text; `file` is what messages call it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every problem found.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let mut problems = Problems::new(text);
        let config = match DeTable::parse(text) {
            Ok(document) => read_config(Section::root(&document), &mut problems),
            Err(error) => {
                let offset = error.span().map(|span| span.start).unwrap_or_default();
                problems.add(offset, format!("not valid TOML: {}", error.message()));
                Self::default()
            }
        };
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
        let WalletBackend::None = self.wallet.backend;
        let mut warnings = Vec::new();
        if self.mesh.mode == MeshMode::PaymentGated {
            warnings.push(
                "mode is payment_gated but [wallet] backend is \"none\": this node cannot be paid and therefore carries \
                 paid traffic for nobody; it still carries the free classes, and sends and receives for itself"
                    .to_owned(),
            );
        } else if self.mesh.price_msat_per_unit != MeshConfig::default().price_msat_per_unit {
            warnings.push(format!(
                "price_msat_per_unit = {} has no effect: mode {} charges nothing",
                self.mesh.price_msat_per_unit, self.mesh.mode
            ));
        }
        if self.payments.auto_pay {
            warnings.push(
                "auto_pay is on but [wallet] backend is \"none\": this node cannot pay, and sending over nodes that \
                 charge is refused"
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

fn read_config(mut root: Section<'_>, problems: &mut Problems<'_>) -> Config {
    let mesh = root.section("mesh", "mesh", problems);
    let wallet = root.section("wallet", "wallet", problems);
    let payments = root.section("payments", "payments", problems);
    root.finish(problems);
    Config {
        mesh: read_mesh(mesh, problems),
        wallet: read_wallet(wallet, problems),
        payments: read_payments(payments, problems),
    }
}

fn read_mesh(mut mesh: Section<'_>, problems: &mut Problems<'_>) -> MeshConfig {
    let default = MeshConfig::default();
    let peers = mesh.sections("peers", "mesh.peers", problems);
    let limits = mesh.section("limits", "mesh.limits", problems);
    let max_peers = mesh.value(
        "max_peers",
        problems,
        number(1..=MAX_NEIGHBOURS as u64, "neighbours"),
    );
    let max_peers_at = max_peers.map_or(mesh.offset, |found| found.offset);
    let config = MeshConfig {
        enabled: or(mesh.value("enabled", problems, boolean), default.enabled),
        mode: or(mesh.value("mode", problems, text(parse_mode)), default.mode),
        listen_addr: or(
            mesh.value("listen_addr", problems, text(parse_listen_addr)),
            default.listen_addr,
        ),
        data_dir: mesh
            .value("data_dir", problems, text(parse_data_dir))
            .map(|found| found.value),
        price_msat_per_unit: or(
            mesh.value("price_msat_per_unit", problems, number(0..=MAX_MSAT, "msat")),
            default.price_msat_per_unit,
        ),
        network: or(
            mesh.value("network", problems, text(parse_network)),
            default.network,
        ),
        operator: mesh
            .value("operator", problems, text(str::parse::<NodeId>))
            .map(|found| found.value),
        max_peers: max_peers.map_or(default.max_peers, |found| to_usize(found.value)),
        peers: read_peers(peers, problems),
        limits: read_limits(limits, problems),
    };
    if config.peers.len() > config.max_peers {
        problems.add(
            max_peers_at,
            format!(
                "{} neighbours are configured but max_peers is {}; raise it or remove some",
                config.peers.len(),
                config.max_peers
            ),
        );
    }
    mesh.finish(problems);
    config
}

fn read_peers(sections: Vec<Section<'_>>, problems: &mut Problems<'_>) -> Vec<Peer> {
    let mut peers = Vec::with_capacity(sections.len());
    let mut seen = BTreeMap::new();
    for mut section in sections {
        let address = section.required("address", problems, text(parse_host_and_port));
        let node_id = section.required("node_id", problems, text(str::parse::<NodeId>));
        section.finish(problems);
        let (Some(address), Some(node_id)) = (address, node_id) else {
            continue;
        };
        if let Some(first) = seen.insert(node_id.value, node_id.offset) {
            let line = problems.line(first);
            problems.add(
                node_id.offset,
                format!(
                    "the same node_id as on line {line}: one link joins two nodes; remove one of the entries"
                ),
            );
        }
        peers.push(Peer {
            address: address.value,
            node_id: node_id.value,
        });
    }
    peers
}

fn read_limits(mut section: Section<'_>, problems: &mut Problems<'_>) -> Limits {
    let default = Limits::default();
    let mut whole = |key, least: u64, most: u64, unit, default: u64| {
        let found = section.value(key, problems, number(least..=most, unit));
        let offset = found.map_or(section.offset, |found| found.offset);
        Located {
            value: or(found, default),
            offset,
        }
    };
    let seconds = |span: Duration| span.as_secs();
    let free = whole(
        "free_bytes_per_second",
        0,
        MAX_INTEGER,
        "bytes",
        default.free_bytes_per_second,
    );
    let handshakes = whole(
        "max_handshakes",
        2,
        65_536,
        "connections",
        default.max_handshakes as u64,
    );
    let per_address = whole(
        "max_handshakes_per_address",
        2,
        65_536,
        "connections",
        default.max_handshakes_per_address as u64,
    );
    let accepts = whole(
        "accepts_per_minute_per_address",
        2,
        u64::from(u32::MAX),
        "connections",
        u64::from(default.accepts_per_minute_per_address),
    );
    let handshake = whole(
        "handshake_timeout_seconds",
        1,
        MAX_SECONDS,
        "seconds",
        seconds(default.handshake_timeout),
    );
    let keepalive = whole(
        "keepalive_interval_seconds",
        1,
        MAX_SECONDS,
        "seconds",
        seconds(default.keepalive_interval),
    );
    let idle = whole(
        "idle_timeout_seconds",
        1,
        MAX_SECONDS,
        "seconds",
        seconds(default.idle_timeout),
    );
    let data = whole(
        "data_queue_bytes",
        MAX_DATA_FRAME_BYTES as u64,
        MAX_QUEUE_BYTES,
        "bytes",
        default.data_queue_bytes as u64,
    );
    let total = whole(
        "total_data_queue_bytes",
        MAX_DATA_FRAME_BYTES as u64,
        MAX_QUEUE_BYTES,
        "bytes",
        default.total_data_queue_bytes as u64,
    );
    let control = whole(
        "control_queue_bytes",
        MAX_CONTROL_FRAME_BYTES as u64,
        MAX_QUEUE_BYTES,
        "bytes",
        default.control_queue_bytes as u64,
    );
    let limit_loopback = or(
        section.value("limit_loopback", problems, boolean),
        default.limit_loopback,
    );
    section.finish(problems);
    if per_address.value > handshakes.value {
        problems.add(
            per_address.offset,
            "max_handshakes_per_address is above max_handshakes, which bounds all addresses together; lower it",
        );
    }
    if idle.value <= keepalive.value {
        problems.add(
            idle.offset,
            "idle_timeout_seconds must be longer than keepalive_interval_seconds, else quiet links are cut; \
             three times as long suits most",
        );
    }
    if total.value < data.value {
        problems.add(
            total.offset,
            "total_data_queue_bytes is below data_queue_bytes, which bounds one neighbour alone; raise it",
        );
    }
    Limits {
        free_bytes_per_second: free.value,
        max_handshakes: to_usize(handshakes.value),
        max_handshakes_per_address: to_usize(per_address.value),
        accepts_per_minute_per_address: u32::try_from(accepts.value).unwrap_or(u32::MAX),
        limit_loopback,
        handshake_timeout: Duration::from_secs(handshake.value),
        keepalive_interval: Duration::from_secs(keepalive.value),
        idle_timeout: Duration::from_secs(idle.value),
        data_queue_bytes: to_usize(data.value),
        total_data_queue_bytes: to_usize(total.value),
        control_queue_bytes: to_usize(control.value),
    }
}

fn read_wallet(mut section: Section<'_>, problems: &mut Problems<'_>) -> WalletConfig {
    let backend = or(
        section.value("backend", problems, text(parse_backend)),
        WalletBackend::None,
    );
    section.finish(problems);
    WalletConfig { backend }
}

fn read_payments(mut section: Section<'_>, problems: &mut Problems<'_>) -> PaymentsConfig {
    let default = PaymentsConfig::default();
    let auto_pay = section.value("auto_pay", problems, boolean);
    let max_total = section.value("max_total_msat", problems, number(0..=MAX_MSAT, "msat"));
    let max_fee = section.value("max_fee_msat", problems, number(0..=MAX_MSAT, "msat"));
    section.finish(problems);
    if let (Some(auto_pay), Some(total)) = (auto_pay, max_total)
        && auto_pay.value
        && total.value == 0
    {
        problems.add(
            auto_pay.offset,
            "auto_pay = true with max_total_msat = 0 can never pay; raise the limit or turn auto_pay off",
        );
    }
    PaymentsConfig {
        auto_pay: or(auto_pay, default.auto_pay),
        max_total_msat: or(max_total, default.max_total_msat),
        max_fee_msat: or(max_fee, default.max_fee_msat),
    }
}

fn or<T>(found: Option<Located<T>>, default: T) -> T {
    found.map_or(default, |found| found.value)
}

/// Only 32-bit machines can fail to hold a checked range; there the limit is what memory can be addressed.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn parse_mode(text: &str) -> Result<MeshMode, String> {
    text.parse()
        .map_err(|_| "\"payment_gated\", \"bitcoin_only\" or \"open\"".to_owned())
}

fn parse_network(text: &str) -> Result<BitcoinNetwork, String> {
    match text {
        "bitcoin" => Ok(BitcoinNetwork::Mainnet),
        "testnet" => Ok(BitcoinNetwork::Testnet),
        "signet" => Ok(BitcoinNetwork::Signet),
        "regtest" => Ok(BitcoinNetwork::Regtest),
        _ => Err("\"bitcoin\", \"testnet\", \"signet\" or \"regtest\"".to_owned()),
    }
}

fn parse_listen_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "an IP address and a port, such as \"0.0.0.0:{DEFAULT_PORT}\", \"127.0.0.1:{DEFAULT_PORT}\" or \"[::]:{DEFAULT_PORT}\""
        )
    })
}

fn parse_host_and_port(text: &str) -> Result<String, String> {
    let well_formed = || {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_fits = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            // 253 characters are the longest domain name (RFC 1035 section 2.3.4).
            None => !host.is_empty() && host.len() <= 253 && !host.contains([':', '[', ']', '/', '@']),
        };
        let visible = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        (port != 0 && host_fits && visible).then(|| text.to_owned())
    };
    well_formed().ok_or_else(|| {
        format!("a host and a port, such as \"mesh.example.org:{DEFAULT_PORT}\", \"192.0.2.1:{DEFAULT_PORT}\" or \"[2001:db8::1]:{DEFAULT_PORT}\"")
    })
}

fn parse_data_dir(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() || path.starts_with("~") {
        return Ok(path);
    }
    Err(
        "an absolute path or one that begins with ~/, because where the program is started must not matter"
            .into(),
    )
}

fn parse_backend(text: &str) -> Result<WalletBackend, String> {
    match text {
        "none" => Ok(WalletBackend::None),
        "devnet" => Err("\"none\": the devnet wallet is play money and lives only inside `blvm-mesh demo`".into()),
        _ => Err("\"none\", the only backend a daemon can have in this version; the devnet wallet lives only inside \
                  `blvm-mesh demo`"
            .into()),
    }
}

#[cfg(test)]
mod tests;
