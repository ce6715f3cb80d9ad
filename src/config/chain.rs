//! `[chain]`: how the node is paid on the chain.

use std::path::PathBuf;
use std::time::Duration;

use mesh_core::chain::{ChainPolicy, DepthStep};
use mesh_core::limits::FINAL_DEPTH;

use super::reader::{Problems, Section, number, text};
use crate::chain::bitcoind::Login;
use crate::chain::node::scripts::PublicDescriptor;
use crate::http::Url;

/// All satoshis there will ever be.
const MAX_SATS: u64 = 21_000_000 * 100_000_000;

/// Steps that can be configured: nobody needs one for each block.
const MAX_STEPS: usize = 16;

/// Largest height that can be configured: some eight thousand years of blocks.
const MAX_HEIGHT: u64 = 500_000_000;

/// What blvm-node relays unless told otherwise, and most of the network with it: 1 sat per virtual byte.
pub const DEFAULT_RELAY_FEE: u64 = 1000;

/// Highest relay fee that can be configured: a thousand times the usual one.
const MAX_RELAY_FEE: u64 = 1_000_000;

/// `[chain]`: how the node is paid on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainConfig {
    /// Whom it asks; none when it is not paid on the chain.
    pub backend: Option<ChainBackend>,
    /// How deep which payments must be, and from when the chain enforces covenants.
    pub policy: ChainPolicy,
}

impl Default for ChainConfig {
    fn default() -> Self {
        let step = |up_to_sats, blocks| DepthStep { up_to_sats, blocks };
        Self {
            backend: None,
            policy: ChainPolicy {
                steps: vec![step(100_000, 2), step(10_000_000, 3), step(100_000_000, 6)],
                ctv_enforced_from: None,
                watch_every: Duration::from_secs(30),
            },
        }
    }
}

/// Whom the node asks about the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainBackend {
    /// A Bitcoin Core or Knots node.
    Bitcoind(BitcoindConfig),
    /// The blvm-node that started this program as its module.
    Node(Box<NodeChainConfig>),
}

/// The node that this program is a module of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeChainConfig {
    /// Whose scripts are quoted.
    pub descriptor: PublicDescriptor,
    /// The least fee rate that the node relays, in sats per 1,000 virtual bytes.
    pub relay_fee_sats_per_kvb: u64,
}

/// A Bitcoin Core or Knots node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitcoindConfig {
    /// Its RPC address.
    pub url: String,
    /// The wallet whose scripts are quoted.
    pub wallet: String,
    /// How it knows us.
    pub login: Login,
}

pub(super) fn read_chain(mut section: Section<'_>, problems: &mut Problems<'_>) -> ChainConfig {
    let default = ChainConfig::default();
    let steps = section.sections("depths", "chain.depths", problems);
    let backend = read_backend(&mut section, problems);
    let watch = section.value("watch_interval_seconds", problems, number(1..=3600, "seconds"));
    let enforced = section.value(
        "ctv_enforced_from_height",
        problems,
        number(0..=MAX_HEIGHT, "blocks"),
    );
    section.finish(problems);
    ChainConfig {
        backend,
        policy: ChainPolicy {
            steps: read_steps(steps, problems).unwrap_or(default.policy.steps),
            ctv_enforced_from: enforced.and_then(|found| u32::try_from(found.value).ok()),
            watch_every: watch.map_or(default.policy.watch_every, |found| {
                Duration::from_secs(found.value)
            }),
        },
    }
}

/// Keys of a backend that is not the wanted one are refused if they say something about how this node is paid: whoever wrote
/// them believes that they hold.
fn read_backend(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<ChainBackend> {
    let backend = section.value("backend", problems, text(parse_backend));
    let at = backend.as_ref().map_or(section.offset, |found| found.offset);
    let kind = backend.map_or(Kind::None, |found| found.value);
    let bitcoind = read_bitcoind(section, at, kind, problems);
    let node = read_node(section, at, kind, problems);
    match kind {
        Kind::None => None,
        Kind::Bitcoind => bitcoind.map(ChainBackend::Bitcoind),
        Kind::Node => node.map(|node| ChainBackend::Node(Box::new(node))),
    }
}

fn read_bitcoind(
    section: &mut Section<'_>,
    at: usize,
    kind: Kind,
    problems: &mut Problems<'_>,
) -> Option<BitcoindConfig> {
    let url = section.value("url", problems, text(parse_url));
    let wallet = section.value("wallet", problems, text(parse_wallet));
    let cookie = section.value("cookie_file", problems, text(parse_path));
    let user = section.value("user", problems, text(parse_user));
    let password = section.value("password_file", problems, text(parse_path));
    if kind == Kind::Node {
        let present = [
            ("url", url.as_ref().map(|found| found.offset)),
            ("wallet", wallet.as_ref().map(|found| found.offset)),
            ("cookie_file", cookie.as_ref().map(|found| found.offset)),
            ("user", user.as_ref().map(|found| found.offset)),
            ("password_file", password.as_ref().map(|found| found.offset)),
        ];
        for (key, at) in present {
            if let Some(at) = at {
                problems.add(at, format!("`{key}` has no meaning with backend = \"node\"; remove it, or use backend = \"bitcoind\""));
            }
        }
    }
    let login = match (cookie, user, password) {
        (Some(cookie), None, None) => Some(Login::Cookie(cookie.value)),
        (None, Some(user), Some(password)) => Some(Login::Password {
            user: user.value,
            file: password.value,
        }),
        _ => None,
    };
    if kind == Kind::Bitcoind && login.is_none() {
        problems.add(
            at,
            "backend = \"bitcoind\" in [chain] needs either `cookie_file`, or `user` and `password_file`",
        );
    }
    Some(BitcoindConfig {
        url: url.map_or_else(|| "http://127.0.0.1:8332".to_owned(), |found| found.value),
        wallet: wallet.map_or_else(|| "blvm-mesh".to_owned(), |found| found.value),
        login: login?,
    })
}

fn read_node(
    section: &mut Section<'_>,
    at: usize,
    kind: Kind,
    problems: &mut Problems<'_>,
) -> Option<NodeChainConfig> {
    // Not shown again when it is refused: a private key may have been pasted.
    let written = section.secret("descriptor", problems);
    let relay_fee = section.value(
        "relay_fee_sats_per_kvb",
        problems,
        number(0..=MAX_RELAY_FEE, "sats"),
    );
    if kind != Kind::Node {
        let present = [
            ("descriptor", written.as_ref().map(|found| found.offset)),
            (
                "relay_fee_sats_per_kvb",
                relay_fee.as_ref().map(|found| found.offset),
            ),
        ];
        for (key, at) in present {
            if let Some(at) = at {
                problems.add(
                    at,
                    format!(
                        "`{key}` has a meaning with backend = \"node\" only; remove it, or set that backend"
                    ),
                );
            }
        }
        return None;
    }
    let Some(written) = written else {
        problems.add(
            at,
            "backend = \"node\" in [chain] needs `descriptor`, such as \"wpkh(xpub…/0/*)\": the node has no wallet to get scripts from",
        );
        return None;
    };
    let descriptor = written.value.parse::<PublicDescriptor>();
    if let Err(expected) = &descriptor {
        problems.add(
            written.offset,
            format!("`descriptor` in [chain]: expected {expected}"),
        );
    }
    Some(NodeChainConfig {
        descriptor: descriptor.ok()?,
        relay_fee_sats_per_kvb: relay_fee.map_or(DEFAULT_RELAY_FEE, |found| found.value),
    })
}

/// None when there are none.
fn read_steps(sections: Vec<Section<'_>>, problems: &mut Problems<'_>) -> Option<Vec<DepthStep>> {
    let mut steps: Vec<DepthStep> = Vec::new();
    for mut section in sections {
        let at = section.offset;
        let up_to = section.required("up_to_sats", problems, number(1000..=MAX_SATS, "sats"));
        let blocks = section.required("blocks", problems, number(1..=u64::from(FINAL_DEPTH), "blocks"));
        section.finish(problems);
        let (Some(up_to), Some(blocks)) = (up_to, blocks) else {
            continue;
        };
        let step = DepthStep {
            up_to_sats: up_to.value,
            blocks: u32::try_from(blocks.value).unwrap_or(FINAL_DEPTH),
        };
        let rises = steps
            .last()
            .is_none_or(|last| step.up_to_sats > last.up_to_sats && step.blocks > last.blocks);
        if !rises {
            problems.add(
                at,
                "each [[chain.depths]] must have more sats and more blocks than the one before it; put them in order",
            );
        }
        if steps.len() == MAX_STEPS {
            problems.add(
                at,
                format!("more than {MAX_STEPS} of [[chain.depths]]; remove some"),
            );
        }
        steps.push(step);
    }
    (!steps.is_empty()).then_some(steps)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Bitcoind,
    Node,
}

fn parse_backend(text: &str) -> Result<Kind, String> {
    match text {
        "none" => Ok(Kind::None),
        "bitcoind" => Ok(Kind::Bitcoind),
        "node" => Ok(Kind::Node),
        _ => Err(
            "\"none\", \"bitcoind\" (Bitcoin Core or Knots) or \"node\" (the blvm-node that this program is a module of)"
                .to_owned(),
        ),
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if url.is_https() || url.names_loopback() => Ok(text.to_owned()),
        Ok(_) => Err(
            "https://…, or http:// to this machine: over the network everybody could read the password"
                .into(),
        ),
        Err(error) => Err(format!(
            "an RPC address such as \"http://127.0.0.1:8332\" ({error})"
        )),
    }
}

/// What can stand in a URL as it is.
fn parse_wallet(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(fits) && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err("a wallet's name of at most 64 letters, digits, dots, dashes and underscores".to_owned())
    }
}

fn parse_user(text: &str) -> Result<String, String> {
    if (1..=64).contains(&text.len()) && !text.contains(':') && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("a user's name of at most 64 characters, without colons".to_owned())
    }
}

pub(super) fn parse_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() || path.starts_with("~") {
        Ok(path)
    } else {
        Err("an absolute path or one that begins with ~/".to_owned())
    }
}

#[cfg(test)]
mod tests;
