//! `[wallet.lnbits]`, `[wallet.lnd]`, `[wallet.cln]`: wallets that are spoken to over REST.

use std::path::PathBuf;

use super::reader::{Located, Problems, Section, boolean, text};
use super::sections::or;
use crate::http::{Secret, Url};

/// A wallet at another address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteWallet {
    /// Its address, `https://host:port`.
    pub url: Url,
    /// The key to it.
    pub key: KeySource,
    /// The one certificate that is trusted there; without it, what this machine trusts.
    pub certificate_file: Option<PathBuf>,
    /// Whether plain http may leave this machine.
    pub allow_plain_http: bool,
}

/// Where the key to a wallet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file, read when this program starts.
    File(PathBuf),
    /// In the configuration.
    Inline(Secret),
}

/// What the keys of a section are called.
pub(super) struct Names {
    /// The section itself.
    pub(super) section: &'static str,
    /// The key, written out.
    pub(super) key: &'static str,
    /// The file it is in.
    pub(super) key_file: &'static str,
}

/// `[wallet.lnbits]`.
pub(super) const LNBITS: Names = Names {
    section: "lnbits",
    key: "api_key",
    key_file: "api_key_file",
};

/// `[wallet.lnd]`.
pub(super) const LND: Names = Names {
    section: "lnd",
    key: "macaroon",
    key_file: "macaroon_file",
};

/// `[wallet.cln]`.
pub(super) const CLN: Names = Names {
    section: "cln",
    key: "rune",
    key_file: "rune_file",
};

/// Reads the section; `None` when the wallet is another one, or something in it is wrong.
pub(super) fn read_remote(
    mut section: Section<'_>,
    names: &Names,
    is_wallet: bool,
    problems: &mut Problems<'_>,
) -> Option<RemoteWallet> {
    let offset = section.offset;
    let url = if is_wallet {
        section.required("url", problems, text(parse_url))
    } else {
        section.value("url", problems, text(parse_url))
    };
    let file = section.value(names.key_file, problems, text(parse_file));
    let inline = section.secret(names.key, problems);
    let certificate = section.value("certificate_file", problems, text(parse_file));
    let allow_plain_http = section.value("allow_plain_http", problems, boolean);
    section.finish(problems);
    let key = match (file, inline) {
        (Some(_), Some(inline)) => {
            let (key, key_file) = (names.key, names.key_file);
            problems.add(
                inline.offset,
                format!("`{key}` and `{key_file}` are both there; keep one"),
            );
            None
        }
        (Some(file), None) => Some(KeySource::File(file.value)),
        (None, Some(inline)) => Some(KeySource::Inline(Secret::new(inline.value))),
        (None, None) => {
            if is_wallet {
                let (section, key_file) = (names.section, names.key_file);
                problems.add(
                    offset,
                    format!("`{key_file}` is missing in [wallet.{section}]; add it"),
                );
            }
            None
        }
    };
    let allow_plain_http = or(allow_plain_http, false);
    if let Some(url) = &url {
        check_plain(url, certificate.as_ref(), allow_plain_http, problems);
    }
    is_wallet.then_some(())?;
    Some(RemoteWallet {
        url: url?.value,
        key: key?,
        certificate_file: certificate.map(|found| found.value),
        allow_plain_http,
    })
}

/// Told before anything is sent, with the line.
fn check_plain(
    url: &Located<Url>,
    certificate: Option<&Located<PathBuf>>,
    allow_plain_http: bool,
    problems: &mut Problems<'_>,
) {
    if url.value.is_https() {
        return;
    }
    if !url.value.names_loopback() && !allow_plain_http {
        problems.add(
            url.offset,
            "plain http to another machine shows the key to everybody in between; use https, or set \
             allow_plain_http = true if the network is yours alone",
        );
    }
    if let Some(certificate) = certificate {
        problems.add(
            certificate.offset,
            "`certificate_file` has no effect with http; write the url with https, or remove it",
        );
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string());
    url.ok().filter(|url| url.query().is_none()).ok_or_else(|| {
        "an address such as \"https://127.0.0.1:8080\", without user, query and fragment".into()
    })
}

fn parse_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() || path.starts_with("~") {
        return Ok(path);
    }
    Err("an absolute path or one that begins with ~/".into())
}
