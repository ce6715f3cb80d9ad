//! Lightning addresses: from `name@host` to an invoice over a given amount (LUD-16, LUD-06).
//!
//! Two questions are asked: `https://host/.well-known/lnurlp/name` says where invoices come from and for which amounts;
//! the place it names gives one. Both answers come from somebody who would rather be paid more than less, and somewhere
//! else than meant: the invoice must be over exactly the amount that was asked for and must commit to the description
//! that the first answer gave. Whether it can be paid at all (network, expiry) is the wallet's to say.

use std::time::Duration;

use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::http::{HttpClient, HttpError, Method, Request, Response, Url};
use crate::wallet::invoice::MAX_INVOICE_LENGTH;

/// The longest answer that is read, in bytes: LUD-06 lets the description carry a picture of 100 KiB in base64, which
/// may be escaped once more.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// How long each of the two questions may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest address that is taken, in bytes: as for electronic mail (RFC 5321 section 4.5.3.1).
const MAX_ADDRESS_BYTES: usize = 320;

/// The longest text of a stranger that is repeated in an error, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// Why an address gave no invoice. Nothing was paid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LnurlError {
    /// Not a Lightning address.
    #[error("{address:?} is no Lightning address: {reason}; write it as name@example.org")]
    BadAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Its server was not heard.
    #[error("the Lightning address cannot be asked: {0}")]
    Http(#[from] HttpError),
    /// Its server answered with an error.
    #[error("{host} refuses: {reason}")]
    Refused {
        /// Whose server.
        host: String,
        /// What it said.
        reason: String,
    },
    /// It takes no such amount.
    #[error(
        "the address takes {min_msat} to {max_msat} msat at once, not {amount_msat} msat; pay an amount within that"
    )]
    AmountOutOfRange {
        /// What was to be paid, in msat.
        amount_msat: u64,
        /// The least it takes, in msat.
        min_msat: u64,
        /// The most it takes, in msat.
        max_msat: u64,
    },
    /// It answers, but not as such a server does.
    #[error("{host} does not answer as a Lightning address does: {reason}")]
    NotAnAddressServer {
        /// Whose server.
        host: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The invoice it gave is not the one that was asked for.
    #[error("{host} gave an invoice that must not be paid: {reason}")]
    WrongInvoice {
        /// Whose server.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the first question is answered with (LUD-06 step 3).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayParameters {
    callback: String,
    min_sendable: u64,
    max_sendable: u64,
    /// JSON as a text, kept as it came: the invoice commits to these very bytes.
    metadata: String,
}

/// What the second question is answered with (LUD-06 step 5).
#[derive(Debug, Deserialize)]
struct PayAnswer {
    pr: String,
}

/// The error form of either answer, and the tag of the first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Envelope {
    status: String,
    reason: String,
    tag: String,
}

/// Asks the server of `address` for a BOLT 11 invoice over exactly `amount_msat`.
///
/// Plain HTTP is spoken to loopback only, and only if the address itself names this machine.
///
/// # Errors
/// [`LnurlError`].
pub async fn invoice_for(address: &str, amount_msat: u64, http: &HttpClient) -> Result<String, LnurlError> {
    let first = first_url(address)?;
    let host = first.host().to_owned();
    let parameters = pay_parameters(&ask(http, first.clone()).await?, &host)?;
    let (min_msat, max_msat) = (parameters.min_sendable, parameters.max_sendable);
    if !(min_msat..=max_msat).contains(&amount_msat) {
        return Err(LnurlError::AmountOutOfRange {
            amount_msat,
            min_msat,
            max_msat,
        });
    }
    let second = callback_url(&parameters.callback, amount_msat, &first)?;
    let answer = ask(http, second).await?;
    refuse_error(&envelope(&answer)?, &answer, &host)?;
    let invoice = answer.json::<PayAnswer>()?.pr;
    check_invoice(&invoice, amount_msat, &parameters.metadata)
        .map_err(|reason| LnurlError::WrongInvoice { host, reason })?;
    Ok(invoice)
}

/// Whether `address` is written as a Lightning address.
///
/// # Errors
/// [`LnurlError::BadAddress`].
pub fn check_address(address: &str) -> Result<(), LnurlError> {
    first_url(address).map(drop)
}

/// `https://host/.well-known/lnurlp/name`. This machine itself is asked without TLS: nobody can listen in between, and
/// nobody certifies `localhost`.
fn first_url(address: &str) -> Result<Url, LnurlError> {
    let wrong = |reason| LnurlError::BadAddress {
        address: shortened(address),
        reason,
    };
    if address.len() > MAX_ADDRESS_BYTES {
        return Err(wrong("it is too long"));
    }
    let (name, host) = address.split_once('@').ok_or_else(|| wrong("it has no @"))?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.+".contains(c);
    // Dots alone would be a way up in the path.
    if name.is_empty() || !name.chars().all(allowed) || name.chars().all(|c| c == '.') {
        return Err(wrong("before the @ there may be only a-z, 0-9 and - _ . +"));
    }
    if host.is_empty() || host.contains(['/', '?', '#', '@', '\\']) {
        return Err(wrong("after the @ there must be a host"));
    }
    let url = |scheme| Url::parse(&format!("{scheme}://{host}/.well-known/lnurlp/{name}"));
    let encrypted = url("https").map_err(|_| wrong("after the @ there must be a host"))?;
    if encrypted.names_loopback() {
        return Ok(url("http")?);
    }
    Ok(encrypted)
}

/// Where the invoice is asked for. The server chooses it, so it may be anywhere, but not in the clear.
fn callback_url(callback: &str, amount_msat: u64, first: &Url) -> Result<Url, LnurlError> {
    let not_one = |reason| LnurlError::NotAnAddressServer {
        host: first.host().to_owned(),
        reason,
    };
    let given = Url::parse(callback).map_err(|_| not_one("the callback it names is no URL"))?;
    // Only an address of this machine may send us to this machine: what listens here trusts its neighbours.
    if given.names_loopback() && !first.names_loopback() {
        return Err(not_one("the callback it names is on this machine"));
    }
    if !given.is_https() && !given.names_loopback() {
        return Err(not_one("the callback it names is not https"));
    }
    let joint = if given.query().is_some() { '&' } else { '?' };
    let before_fragment = callback.split('#').next().unwrap_or_default();
    Ok(Url::parse(&format!(
        "{before_fragment}{joint}amount={amount_msat}"
    ))?)
}

async fn ask(http: &HttpClient, url: Url) -> Result<Response, LnurlError> {
    let request = Request::new(Method::GET, url, MAX_ANSWER_BYTES);
    Ok(http.send(request, ANSWER_TIMEOUT).await?)
}

fn pay_parameters(answer: &Response, host: &str) -> Result<PayParameters, LnurlError> {
    let head = envelope(answer)?;
    refuse_error(&head, answer, host)?;
    if head.tag != "payRequest" {
        return Err(LnurlError::NotAnAddressServer {
            host: host.to_owned(),
            reason: "it offers something else than to be paid",
        });
    }
    Ok(answer.json()?)
}

/// An answer that is not even JSON is told by its status: servers that know no such name answer with a web page.
fn envelope(answer: &Response) -> Result<Envelope, HttpError> {
    match answer.json() {
        Err(_) if !answer.status.is_success() => Ok(Envelope::default()),
        read => read,
    }
}

fn refuse_error(head: &Envelope, answer: &Response, host: &str) -> Result<(), LnurlError> {
    let said_error = head.status.eq_ignore_ascii_case("ERROR");
    if !said_error && answer.status.is_success() {
        return Ok(());
    }
    let reason = if head.reason.is_empty() {
        format!("it answers {}", answer.status)
    } else {
        shortened(&head.reason)
    };
    Err(LnurlError::Refused {
        host: host.to_owned(),
        reason,
    })
}

fn check_invoice(invoice: &str, amount_msat: u64, metadata: &str) -> Result<(), String> {
    if invoice.len() > MAX_INVOICE_LENGTH {
        return Err(format!("it is longer than {MAX_INVOICE_LENGTH} bytes"));
    }
    let read: Bolt11Invoice = invoice
        .parse()
        .map_err(|error| format!("it cannot be read: {error}"))?;
    match read.amount_milli_satoshis() {
        Some(asked) if asked == amount_msat => {}
        Some(asked) => return Err(format!("it is over {asked} msat instead of {amount_msat}")),
        None => return Err("it names no amount".to_owned()),
    }
    let wanted: [u8; 32] = Sha256::digest(metadata.as_bytes()).into();
    match read.description() {
        Bolt11InvoiceDescriptionRef::Hash(hash) if AsRef::<[u8; 32]>::as_ref(&hash.0) == &wanted => Ok(()),
        _ => Err("it does not commit to the description that was offered (LUD-06 step 6)".to_owned()),
    }
}

/// A stranger's text, short and without what would move a terminal's cursor.
fn shortened(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_SHOWN_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_the_well_known_place_and_only_this_machine_is_asked_in_the_clear() {
        let at = |address| first_url(address).unwrap().to_string();
        assert_eq!(
            at("satoshi@example.org"),
            "https://example.org:443/.well-known/lnurlp/satoshi"
        );
        assert_eq!(
            at("a+tag.x_y-z@sub.example.org:8443"),
            "https://sub.example.org:8443/.well-known/lnurlp/a+tag.x_y-z"
        );
        assert!(at("a@127.0.0.1:99").starts_with("http://127.0.0.1:99/"));
        assert!(at("a@localhost:99").starts_with("http://localhost:99/"));
    }

    #[test]
    fn what_is_no_address_is_refused_before_anybody_is_asked() {
        for bad in [
            "",
            "a",
            "@b.org",
            "a@",
            "A@b.org",
            "a b@c.org",
            "..@b.org",
            "a/../b@c.org",
            "a@b/c",
            "a@b?c",
            "a@u@b.org",
            "a@b c",
            "é@b.org",
            "a@b.org#x",
        ] {
            assert!(
                matches!(first_url(bad), Err(LnurlError::BadAddress { .. })),
                "{bad:?} gave {:?}",
                first_url(bad)
            );
        }
        assert!(check_address(&format!("{}@b.org", "a".repeat(400))).is_err());
    }

    #[test]
    fn a_callback_may_not_be_in_the_clear_nor_send_us_to_our_own_machine() {
        let first = first_url("a@example.org").unwrap();
        let refused = |callback| callback_url(callback, 5, &first).unwrap_err().to_string();
        assert!(refused("http://example.org/pay").contains("not https"));
        assert!(refused("http://127.0.0.1/pay").contains("on this machine"));
        assert!(refused("https://localhost/pay").contains("on this machine"));
        assert!(refused("ftp://example.org").contains("no URL"));
        let own = first_url("a@127.0.0.1:1").unwrap();
        assert!(callback_url("http://127.0.0.1:2/pay", 5, &own).is_ok());
    }

    #[test]
    fn the_amount_is_added_to_whatever_query_the_callback_has() {
        let first = first_url("a@example.org").unwrap();
        let query = |callback| {
            let url = callback_url(callback, 5, &first).unwrap();
            url.query().unwrap().to_owned()
        };
        assert_eq!(query("https://example.org/pay"), "amount=5");
        assert_eq!(query("https://example.org/pay?id=1"), "id=1&amount=5");
        assert_eq!(query("https://example.org/pay?id=1#there"), "id=1&amount=5");
    }

    #[test]
    fn what_a_stranger_says_is_repeated_briefly_and_harmlessly() {
        assert_eq!(shortened("a\u{1b}[2Jb\n"), "a[2Jb");
        assert_eq!(shortened(&"x".repeat(1000)).len(), MAX_SHOWN_CHARS);
    }
}
