//! The sections of `config.toml`: which keys there are, what they may be, and what contradicts what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_core::identity::{NodeId, Signature};
use mesh_core::limits::{MAX_ADDRESS_BYTES, MAX_ANNOUNCED_ADDRESSES, MAX_NEIGHBOURS, ROUTE_LIFETIME};
use mesh_core::routing_policy::MeshMode;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::{MAX_CONTROL_FRAME_BYTES, MAX_DATA_FRAME_BYTES};

use super::chain::read_chain;
use super::fairness::read_fairness;
use super::host::read_host;
use super::ldk::read_ldk;
use super::payments::read_payments;
use super::reader::{Located, Problems, Section, boolean, number, text, texts};
use super::remote::{CLN, LNBITS, LND, Names, read_remote};
use super::treasury::read_treasury;
use super::{Config, DEFAULT_PORT, Limits, MeshConfig, Peer, WalletBackend, WalletConfig};

/// Most millisatoshi that can be asked for: all the bitcoin there will ever be.
pub(super) const MAX_MSAT: u64 = 21_000_000 * 100_000_000 * 1_000;

/// Largest number TOML promises to carry (a signed 64-bit integer).
const MAX_INTEGER: u64 = i64::MAX as u64;

/// Longest time that can be configured, in seconds: a day.
const MAX_SECONDS: u64 = 86_400;

/// Largest queue that can be configured, in bytes: 4 GiB.
const MAX_QUEUE_BYTES: u64 = 4 << 30;

pub(super) fn read_config(mut root: Section<'_>, problems: &mut Problems<'_>) -> Config {
    let mesh = root.section("mesh", "mesh", problems);
    let wallet = root.section("wallet", "wallet", problems);
    let chain = root.section("chain", "chain", problems);
    let payments = root.section("payments", "payments", problems);
    let treasury = root.section("treasury", "treasury", problems);
    let fairness = root.section("fairness", "fairness", problems);
    let host = root.section("host", "host", problems);
    root.finish(problems);
    Config {
        mesh: read_mesh(mesh, problems),
        wallet: read_wallet(wallet, problems),
        chain: read_chain(chain, problems),
        payments: read_payments(payments, problems),
        treasury: read_treasury(treasury, problems),
        fairness: read_fairness(fairness, problems),
        host: read_host(host, problems),
        notes: Vec::new(),
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
    let operator_signature = mesh.value("operator_signature", problems, text(parse_signature));
    let signature_at = operator_signature.as_ref().map(|found| found.offset);
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
        operator_signature: operator_signature.map(|found| found.value),
        announce: or(mesh.value("announce", problems, boolean), default.announce),
        addresses: or(
            mesh.value(
                "addresses",
                problems,
                texts(MAX_ANNOUNCED_ADDRESSES, parse_announced_address),
            ),
            default.addresses,
        ),
        route_lifetime: mesh
            .value(
                "route_lifetime_seconds",
                problems,
                number(1..=ROUTE_LIFETIME.as_secs(), "seconds"),
            )
            .map_or(default.route_lifetime, |found| Duration::from_secs(found.value)),
        node_carrier: or(
            mesh.value("node_carrier", problems, boolean),
            default.node_carrier,
        ),
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
    if let (Some(at), None) = (signature_at, config.operator) {
        problems.add(
            at,
            "`operator_signature` needs `operator`, the key that signed; add it",
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
        let node_id = read_node_id(&mut section, problems);
        section.finish(problems);
        let (Some(address), Some(node_id)) = (address, node_id) else {
            continue;
        };
        if let Some(first) = seen.insert(node_id.value, node_id.offset) {
            let first = problems.place(first);
            problems.add(
                node_id.offset,
                format!("the same node_id as {first}: one link joins two nodes; remove one of the entries"),
            );
        }
        peers.push(Peer {
            address: address.value,
            node_id: node_id.value,
        });
    }
    peers
}

/// `node_id`, or `node_id_hex` as earlier versions of the module called it.
fn read_node_id(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<Located<NodeId>> {
    let former = section.value("node_id_hex", problems, text(str::parse::<NodeId>));
    let Some(former) = former else {
        return section.required("node_id", problems, text(str::parse::<NodeId>));
    };
    let node_id = section.value("node_id", problems, text(str::parse::<NodeId>));
    if node_id.is_some_and(|node_id| node_id.value != former.value) {
        problems.add(
            former.offset,
            "`node_id_hex` and `node_id` differ; remove one of them",
        );
    }
    Some(former)
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
    let mut remote = |names: &Names, name, of| {
        let inner = section.section(names.section, name, problems);
        read_remote(inner, names, backend == of, problems)
    };
    let lnbits = remote(&LNBITS, "wallet.lnbits", WalletBackend::LnBits);
    let lnd = remote(&LND, "wallet.lnd", WalletBackend::Lnd);
    let cln = remote(&CLN, "wallet.cln", WalletBackend::Cln);
    let ldk = section.section("ldk", "wallet.ldk", problems);
    section.finish(problems);
    WalletConfig {
        backend,
        ldk: read_ldk(ldk, backend == WalletBackend::Ldk, problems),
        remote: lnbits.or(lnd).or(cln),
    }
}

pub(super) fn or<T>(found: Option<Located<T>>, default: T) -> T {
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

pub(super) fn parse_host_and_port(text: &str) -> Result<String, String> {
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

/// A host and a port as an announcement carries it.
fn parse_announced_address(text: &str) -> Result<String, String> {
    let address = parse_host_and_port(text)?;
    if address.len() <= MAX_ADDRESS_BYTES {
        Ok(address)
    } else {
        Err(format!("a host and a port of at most {MAX_ADDRESS_BYTES} bytes"))
    }
}

fn parse_signature(text: &str) -> Result<Signature, String> {
    let mut bytes = [0; 64];
    hex::decode_to_slice(text.trim(), &mut bytes)
        .map(|()| Signature(bytes))
        .map_err(|_| "128 hexadecimal digits, the operator's Ed25519 signature over the node's id".into())
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
        "lnbits" => Ok(WalletBackend::LnBits),
        "lnd" => Ok(WalletBackend::Lnd),
        "cln" => Ok(WalletBackend::Cln),
        "ldk" if cfg!(feature = "ldk") => Ok(WalletBackend::Ldk),
        "ldk" => Err("another backend: this build has no ldk; build with --features ldk".into()),
        "blvm-lightning" => Err(
            "another backend: the module blvm-lightning calls payments settled that it did not see, makes invoices without the \
             commitment that payers check, and has no call that pays. Name what stands behind it here, such as \"lnbits\"; \
             docs/WALLETS.md says more"
                .into(),
        ),
        "devnet" => Err(
            "\"none\", \"lnbits\", \"lnd\", \"cln\" or \"ldk\": the devnet wallet is play money and lives only inside \
             `blvm-mesh demo`"
                .into(),
        ),
        _ => Err("\"none\", \"lnbits\", \"lnd\", \"cln\" or \"ldk\"".into()),
    }
}
