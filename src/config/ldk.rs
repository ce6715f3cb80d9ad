//! `[wallet.ldk]`: the Lightning node that lives inside this program.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::{Located, Problems, Section, number, text};
use super::sections::{or, parse_host_and_port};

/// What is kept on-chain for each channel, in sat, unless told otherwise: enough to get a commitment transaction mined
/// when fees are high.
pub const DEFAULT_ANCHOR_RESERVE_SATS: u64 = 25_000;

/// Longest alias the Lightning network gossips, in bytes (BOLT 7).
pub const MAX_ALIAS_BYTES: usize = 32;

/// Most sat that can be asked for: all the bitcoin there will ever be.
const MAX_SATS: u64 = 21_000_000 * 100_000_000;

/// `[wallet.ldk]`: the embedded Lightning node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LdkConfig {
    /// Where it listens for other Lightning nodes; nowhere if none, and then it can only dial.
    pub listen_addr: Option<SocketAddr>,
    /// What it calls itself to the Lightning network. Its channels are public, and it forwards for others, only if it
    /// has an alias and listens.
    pub alias: Option<String>,
    /// What is kept on-chain for each channel, in sat, to get its closing mined.
    pub anchor_reserve_sats: u64,
    /// Where it learns of blocks and transactions.
    pub chain: LdkChain,
}

/// `[wallet.ldk.chain]`: where blocks and transactions come from.
#[derive(Clone, PartialEq, Eq)]
pub enum LdkChain {
    /// A Bitcoin Core or Knots node, over JSON-RPC.
    Bitcoind {
        /// Its host name or address.
        host: String,
        /// Its RPC port.
        port: u16,
        /// How to log in.
        auth: RpcAuth,
    },
    /// An Esplora server, over HTTP.
    Esplora {
        /// Its API's address.
        url: String,
    },
    /// An Electrum server.
    Electrum {
        /// Its address (`tcp://…` or `ssl://…`).
        url: String,
    },
}

/// How to log in to a Bitcoin node.
#[derive(Clone, PartialEq, Eq)]
pub enum RpcAuth {
    /// The file bitcoind writes at each of its starts; read when this program starts.
    CookieFile(PathBuf),
    /// A user and a password (`rpcauth` of bitcoin.conf).
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

/// Without the password: configurations are printed in logs.
impl fmt::Debug for LdkChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bitcoind { host, port, .. } => write!(f, "bitcoind at {host}:{port}"),
            Self::Esplora { url } => write!(f, "esplora at {url}"),
            Self::Electrum { url } => write!(f, "electrum at {url}"),
        }
    }
}

/// Reads the section; `None` when the wallet is another one, or something in it is wrong.
pub(super) fn read_ldk(
    mut section: Section<'_>,
    is_wallet: bool,
    problems: &mut Problems<'_>,
) -> Option<LdkConfig> {
    let listen_addr = section.value("listen_addr", problems, text(parse_listen_addr));
    let alias = section.value("alias", problems, text(parse_alias));
    let reserve = section.value("anchor_reserve_sats", problems, number(0..=MAX_SATS, "sat"));
    let chain = section.section("chain", "wallet.ldk.chain", problems);
    section.finish(problems);
    let chain = read_chain(chain, is_wallet, problems);
    is_wallet.then_some(())?;
    Some(LdkConfig {
        listen_addr: listen_addr.map(|found| found.value),
        alias: alias.map(|found| found.value),
        anchor_reserve_sats: or(reserve, DEFAULT_ANCHOR_RESERVE_SATS),
        chain: chain?,
    })
}

fn read_chain(mut section: Section<'_>, is_wallet: bool, problems: &mut Problems<'_>) -> Option<LdkChain> {
    let offset = section.offset;
    let (kind, url) = if is_wallet {
        (
            section.required("kind", problems, text(parse_kind)),
            section.required("url", problems, text(parse_url)),
        )
    } else {
        (
            section.value("kind", problems, text(parse_kind)),
            section.value("url", problems, text(parse_url)),
        )
    };
    let cookie_file = section.value("cookie_file", problems, text(parse_cookie_file));
    let user = section.value("user", problems, text(parse_login));
    let password = section.value("password", problems, text(parse_login));
    section.finish(problems);
    let (kind, url) = (kind?, url?);
    if kind.value != Kind::Bitcoind {
        if let Some(login) = cookie_file
            .map(|found| found.offset)
            .or(user.map(|found| found.offset))
        {
            problems.add(login, "only kind = \"bitcoind\" takes a login; remove it");
        }
        return kind.value.server(url, problems);
    }
    let auth = match (cookie_file, user, password) {
        (Some(file), None, None) => RpcAuth::CookieFile(file.value),
        (None, Some(user), Some(password)) => RpcAuth::Password {
            user: user.value,
            password: password.value,
        },
        _ => {
            let what = "kind = \"bitcoind\" takes either `cookie_file`, or `user` and `password`; give one of the two";
            problems.add(offset, what);
            return None;
        }
    };
    let Some((host, port)) = http_host_and_port(&url.value) else {
        let what = "`url` of a bitcoind is its RPC's, such as \"http://127.0.0.1:8332\": plain HTTP with a port, and no path";
        problems.add(url.offset, what);
        return None;
    };
    Some(LdkChain::Bitcoind { host, port, auth })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bitcoind,
    Esplora,
    Electrum,
}

impl Kind {
    /// A server of this kind that needs no login.
    fn server(self, url: Located<String>, problems: &mut Problems<'_>) -> Option<LdkChain> {
        let schemes: &[&str] = match self {
            Self::Electrum => &["tcp://", "ssl://"],
            Self::Bitcoind | Self::Esplora => &["http://", "https://"],
        };
        if !schemes.iter().any(|scheme| url.value.starts_with(scheme)) {
            problems.add(
                url.offset,
                format!("`url` of this kind begins with {}", schemes.join(" or ")),
            );
            return None;
        }
        let url = url.value;
        Some(match self {
            Self::Electrum => LdkChain::Electrum { url },
            Self::Bitcoind | Self::Esplora => LdkChain::Esplora { url },
        })
    }
}

fn parse_kind(text: &str) -> Result<Kind, &'static str> {
    match text {
        "bitcoind" => Ok(Kind::Bitcoind),
        "esplora" => Ok(Kind::Esplora),
        "electrum" => Ok(Kind::Electrum),
        _ => Err("\"bitcoind\", \"esplora\" or \"electrum\""),
    }
}

fn parse_url(text: &str) -> Result<String, &'static str> {
    let visible = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    match text.split_once("://") {
        Some((_, rest)) if visible && !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("an address such as \"http://127.0.0.1:8332\""),
    }
}

/// bitcoind speaks plain HTTP, on the root path.
fn http_host_and_port(url: &str) -> Option<(String, u16)> {
    let place = url.strip_prefix("http://")?;
    let place = parse_host_and_port(place.strip_suffix('/').unwrap_or(place)).ok()?;
    let (host, port) = place.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

fn parse_cookie_file(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if path.is_absolute() || path.starts_with("~") {
        return Ok(path);
    }
    Err("an absolute path or one that begins with ~/, such as \"~/.bitcoin/.cookie\"")
}

fn parse_login(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err("a text of 1 to 256 visible characters");
    }
    Ok(text.to_owned())
}

fn parse_alias(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_ALIAS_BYTES || text.chars().any(char::is_control) {
        return Err(format!("a name of 1 to {MAX_ALIAS_BYTES} bytes"));
    }
    Ok(text.to_owned())
}

fn parse_listen_addr(text: &str) -> Result<SocketAddr, &'static str> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err("an IP address and a port, such as \"0.0.0.0:9735\""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, WalletBackend};
    #[cfg(feature = "ldk")]
    use super::*;

    /// What a file with this `[wallet]` and below says.
    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, "config.toml").map_err(|error| error.to_string())
    }

    #[cfg(not(feature = "ldk"))]
    #[test]
    fn a_build_without_ldk_refuses_it_by_name_and_says_how_to_build_one() {
        let said = parse("[wallet]\nbackend = \"ldk\"\n").unwrap_err();
        assert!(
            said.contains("this build has no ldk") && said.contains("--features ldk"),
            "{said}"
        );
    }

    #[cfg(feature = "ldk")]
    fn ldk(text: &str) -> Result<LdkConfig, String> {
        let config = parse(&format!("[wallet]\nbackend = \"ldk\"\n{text}"))?;
        assert_eq!(config.wallet.backend, WalletBackend::Ldk);
        Ok(config.wallet.ldk.expect("an ldk section"))
    }

    #[cfg(feature = "ldk")]
    #[test]
    fn all_values_arrive_where_they_belong() {
        let config = ldk(
            "[wallet.ldk]\nlisten_addr = \"127.0.0.1:9735\"\nalias = \"anna\"\nanchor_reserve_sats = 1000\n\
             [wallet.ldk.chain]\nkind = \"bitcoind\"\nurl = \"http://127.0.0.1:8332\"\nuser = \"u\"\npassword = \"p\"",
        )
        .unwrap();
        let chain = LdkChain::Bitcoind {
            host: "127.0.0.1".into(),
            port: 8332,
            auth: RpcAuth::Password {
                user: "u".into(),
                password: "p".into(),
            },
        };
        let expected = LdkConfig {
            listen_addr: Some("127.0.0.1:9735".parse().unwrap()),
            alias: Some("anna".into()),
            anchor_reserve_sats: 1000,
            chain,
        };
        assert_eq!(config, expected);
        let shown = format!("{config:?}");
        assert!(!shown.contains("\"p\""), "the password is not shown: {shown}");
    }

    #[cfg(feature = "ldk")]
    #[test]
    fn each_kind_of_chain_source_is_read_and_the_rest_has_defaults() {
        let cookie =
            ldk("[wallet.ldk.chain]\nkind = \"bitcoind\"\nurl = \"http://[::1]:1/\"\ncookie_file = \"~/c\"")
                .unwrap();
        let auth = RpcAuth::CookieFile("~/c".into());
        let (host, port) = ("[::1]".to_owned(), 1);
        assert_eq!(cookie.chain, LdkChain::Bitcoind { host, port, auth });
        assert_eq!(
            (cookie.listen_addr, cookie.alias, cookie.anchor_reserve_sats),
            (None, None, DEFAULT_ANCHOR_RESERVE_SATS)
        );
        let url = "https://esplora.example.org/api".to_owned();
        let esplora = ldk(&format!(
            "[wallet.ldk.chain]\nkind = \"esplora\"\nurl = \"{url}\""
        ))
        .unwrap();
        assert_eq!(esplora.chain, LdkChain::Esplora { url });
        let url = "ssl://electrum.example.org:50002".to_owned();
        let electrum = ldk(&format!(
            "[wallet.ldk.chain]\nkind = \"electrum\"\nurl = \"{url}\""
        ))
        .unwrap();
        assert_eq!(electrum.chain, LdkChain::Electrum { url });
    }

    #[cfg(feature = "ldk")]
    #[test]
    fn what_cannot_be_a_chain_source_is_refused_with_its_line() {
        let bitcoind = "[wallet.ldk.chain]\nkind = \"bitcoind\"\nurl = \"http://127.0.0.1:8332\"\n";
        for (text, expected) in [
            (String::new(), "`kind` is missing in [wallet.ldk.chain]"),
            (
                "[wallet.ldk.chain]\nkind = \"core\"".into(),
                "expected \"bitcoind\", \"esplora\"",
            ),
            (bitcoind.into(), "either `cookie_file`, or `user` and `password`"),
            (
                format!("{bitcoind}user = \"u\""),
                "either `cookie_file`, or `user` and `password`",
            ),
            (format!("{bitcoind}cookie_file = \"here\""), "an absolute path"),
            (
                "[wallet.ldk.chain]\nkind = \"bitcoind\"\nurl = \"https://a:1\"\ncookie_file = \"/c\"".into(),
                "plain HTTP with a port",
            ),
            (
                "[wallet.ldk.chain]\nkind = \"electrum\"\nurl = \"http://a:1\"".into(),
                "begins with tcp:// or ssl://",
            ),
            (
                "[wallet.ldk.chain]\nkind = \"esplora\"\nurl = \"http://a:1\"\nuser = \"u\"".into(),
                "only kind = \"bitcoind\" takes a login",
            ),
            (
                format!("[wallet.ldk]\nlisten_addr = \"127.0.0.1:0\"\n{bitcoind}cookie_file = \"/c\""),
                "an IP address and a port",
            ),
            (
                format!(
                    "[wallet.ldk]\nalias = \"{}\"\n{bitcoind}cookie_file = \"/c\"",
                    "a".repeat(33)
                ),
                "1 to 32 bytes",
            ),
        ] {
            let said = ldk(&text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn another_wallet_may_leave_the_section_in_the_file() {
        let config = parse("[wallet.ldk.chain]\nkind = \"esplora\"\nurl = \"http://a:1\"").unwrap();
        assert_eq!(config.wallet.backend, WalletBackend::None);
        assert_eq!(config.wallet.ldk, None);
    }
}
