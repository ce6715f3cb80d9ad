//! A small HTTP client for the few services this node's operator names: Lightning wallets, Lightning addresses.
//!
//! One request, one connection, one answer. What a stranger at the other end could do with more is left out:
//!
//! * **Bounded.** Each request names the longest answer it takes and the longest time it waits.
//! * **No redirects.** An answer that points elsewhere is an answer, not an order: following it would carry the
//!   request, and its key, to whoever wrote it.
//! * **TLS 1.3**, against the machine's certificate authorities or one certificate that is trusted alone ([`Trust`]).
//!   Plain HTTP goes to loopback only, unless the operator allows it.
//! * **Secrets stay secret.** Keys are [`Secret`]s: overwritten when dropped, shown by no `Debug`, in no error.
//!
//! An error tells whether the request can have been acted on ([`HttpError::nothing_sent`]): money hangs on it.

mod error;
mod secret;
mod trust;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
pub use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

pub use error::HttpError;
pub use secret::{MAX_SECRET_BYTES, Secret, SecretError};
pub use trust::{PinnedCertificate, Trust};

/// How long one connection, its name look-up and its TLS handshake may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// The longest URL that is asked, in bytes.
pub const MAX_URL_BYTES: usize = 2048;

/// Bytes of headers that an answer may have, and of the buffer it is read through.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Where unencrypted HTTP may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    /// To this machine only: nobody is between.
    #[default]
    LoopbackOnly,
    /// Anywhere, because the operator says that the network in between is his own.
    Anywhere,
}

/// Sends requests.
#[derive(Clone, Debug)]
pub struct HttpClient {
    tls: Option<Arc<rustls::ClientConfig>>,
    plain: PlainHttp,
}

/// What is asked.
#[derive(Debug)]
pub struct Request {
    method: Method,
    url: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    /// The longest answer that is taken, in bytes. Of an answer that is read line by line: the longest line.
    max_answer: usize,
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// What it carries.
    pub body: Vec<u8>,
    host: String,
}

/// An absolute `http` or `https` URL, looked at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    uri: hyper::Uri,
    https: bool,
    host: String,
    port: u16,
}

impl HttpClient {
    /// A client that believes `trust`.
    ///
    /// # Errors
    /// [`HttpError::Setup`]: TLS cannot be set up with that. A machine without certificate authorities is no error
    /// here but at the first request that needs one.
    pub fn new(trust: &Trust, plain: PlainHttp) -> Result<Self, HttpError> {
        let tls = trust.client_config()?.map(Arc::new);
        Ok(Self { tls, plain })
    }

    /// Sends a request and reads the whole answer, both within `limit`.
    ///
    /// # Errors
    /// [`HttpError`]. A status that tells of a failure is an answer and no error here.
    pub async fn send(&self, request: Request, limit: Duration) -> Result<Response, HttpError> {
        let deadline = Instant::now() + limit;
        let max = request.max_answer;
        let mut answer = self.open(request, deadline).await?;
        let mut body = Vec::new();
        while let Some(part) = answer.part(deadline).await? {
            if body.len() + part.len() > max {
                return Err(HttpError::Oversized {
                    host: answer.host,
                    limit: max,
                });
            }
            body.extend_from_slice(&part);
        }
        Ok(Response {
            status: answer.status,
            body,
            host: answer.host,
        })
    }

    /// Sends a request whose answer comes line by line, and returns once its status is there.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn open(&self, request: Request, deadline: Instant) -> Result<Streaming, HttpError> {
        let (host, max_line) = (request.url.host.clone(), request.max_answer);
        let connecting = timeout_at(deadline, timeout(CONNECT_TIMEOUT, self.connect(&request.url)));
        let stream = match connecting.await {
            Ok(Ok(connected)) => connected?,
            Ok(Err(_)) | Err(_) => return Err(HttpError::Timeout { host, sent: false }),
        };
        let exchanged = timeout_at(deadline, exchange(stream, request)).await;
        let (status, body, driver) = exchanged.map_err(|_| HttpError::Timeout {
            host: host.clone(),
            sent: true,
        })??;
        Ok(Streaming {
            status,
            host,
            max_line,
            body,
            waiting: Vec::new(),
            _driver: driver,
        })
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Stream>, HttpError> {
        let unreachable = |reason: String| HttpError::Unreachable {
            host: url.host.clone(),
            reason,
        };
        let mut found = tokio::net::lookup_host((url.host.as_str(), url.port))
            .await
            .map_err(|error| unreachable(format!("its name is not found: {error}")))?
            .take(MAX_ADDRESSES)
            .peekable();
        if found.peek().is_none() {
            return Err(unreachable("its name has no address".to_owned()));
        }
        let mut why = None;
        for address in found {
            self.check_plain(url, address)?;
            match TcpStream::connect(address).await {
                Ok(tcp) => return self.secure(url, tcp).await,
                Err(error) => why = Some(format!("{address}: {error}")),
            }
        }
        Err(unreachable(why.unwrap_or_default()))
    }

    /// Asked of the address and not of the name: whoever answers for names could send `localhost` anywhere.
    fn check_plain(&self, url: &Url, address: SocketAddr) -> Result<(), HttpError> {
        if url.https || self.plain == PlainHttp::Anywhere || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(HttpError::PlainHttp {
            host: url.host.clone(),
        })
    }

    async fn secure(&self, url: &Url, tcp: TcpStream) -> Result<Box<dyn Stream>, HttpError> {
        // A question is one small packet; waiting to fill it delays every payment. Failing costs only that.
        let _ = tcp.set_nodelay(true);
        if !url.https {
            return Ok(Box::new(tcp));
        }
        let host = url.host.clone();
        let Some(config) = &self.tls else {
            return Err(HttpError::NoAuthorities { host });
        };
        let name = ServerName::try_from(host.clone()).map_err(|error| HttpError::Unreachable {
            host: host.clone(),
            reason: format!("its name cannot be in a certificate: {error}"),
        })?;
        let connected = TlsConnector::from(config.clone()).connect(name, tcp).await;
        let stream = connected.map_err(|error| HttpError::Tls {
            host,
            reason: error.to_string(),
        })?;
        Ok(Box::new(stream))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request,
) -> Result<(StatusCode, Incoming, JoinSet<()>), HttpError> {
    let host = request.url.host.clone();
    let interrupted = |error: hyper::Error| HttpError::Interrupted {
        host: host.clone(),
        reason: said_by(&error),
    };
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(interrupted)?;
    // The connection lives as long as its answer: dropping the set ends it.
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // What goes wrong on it is told to whoever reads the answer.
        let _ = connection.await;
    });
    let response = sender
        .send_request(request.into_hyper()?)
        .await
        .map_err(interrupted)?;
    Ok((response.status(), response.into_body(), driver))
}

/// An error with what caused it: hyper's own words alone say only where it happened.
fn said_by(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// An answer that comes in pieces. Dropping it closes the connection.
#[derive(Debug)]
pub struct Streaming {
    /// Its status.
    pub status: StatusCode,
    host: String,
    max_line: usize,
    body: Incoming,
    waiting: Vec<u8>,
    _driver: JoinSet<()>,
}

impl Streaming {
    /// The next line that is not empty, without its end; `None` at the end of the answer.
    ///
    /// # Errors
    /// [`HttpError::Timeout`] at the deadline, [`HttpError::Oversized`] for a line longer than the request takes,
    /// [`HttpError::Interrupted`].
    pub async fn next_line(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, HttpError> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let rest = self.waiting.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.waiting, rest);
                line.truncate(end);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            match self.part(deadline).await? {
                Some(part) if self.waiting.len() + part.len() <= self.max_line => {
                    self.waiting.extend_from_slice(&part);
                }
                Some(_) => {
                    return Err(HttpError::Oversized {
                        host: self.host.clone(),
                        limit: self.max_line,
                    });
                }
                None => {
                    let last = std::mem::take(&mut self.waiting);
                    return Ok((!last.trim_ascii().is_empty()).then_some(last));
                }
            }
        }
    }

    async fn part(&mut self, deadline: Instant) -> Result<Option<Bytes>, HttpError> {
        loop {
            let next = timeout_at(deadline, self.body.frame()).await;
            let next = next.map_err(|_| HttpError::Timeout {
                host: self.host.clone(),
                sent: true,
            })?;
            match next {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(HttpError::Interrupted {
                        host: self.host.clone(),
                        reason: said_by(&error),
                    });
                }
                Some(Ok(frame)) => {
                    // Anything else is trailers, which nobody here reads.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl Request {
    /// A request without a body, whose answer is at most `max_answer` bytes long.
    #[must_use]
    pub fn new(method: Method, url: Url, max_answer: usize) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Vec::new(),
            max_answer,
        }
    }

    /// With a header that carries a secret.
    ///
    /// # Errors
    /// [`HttpError::Setup`]: the secret has bytes that no header can carry.
    pub fn secret_header(mut self, name: &'static str, secret: &Secret) -> Result<Self, HttpError> {
        let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| HttpError::Setup {
            reason: format!(
                "the key for the header {name} has characters that no header can carry; check it"
            ),
        })?;
        value.set_sensitive(true);
        self.headers.push((HeaderName::from_static(name), value));
        Ok(self)
    }

    /// With a JSON body.
    ///
    /// # Errors
    /// [`HttpError::Setup`]: it cannot be written as JSON.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self, HttpError> {
        self.body = serde_json::to_vec(body).map_err(|error| HttpError::Setup {
            reason: format!("the request cannot be written as JSON: {error}"),
        })?;
        let kind = HeaderValue::from_static("application/json");
        self.headers.push((CONTENT_TYPE, kind));
        Ok(self)
    }

    fn into_hyper(self) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
        let wrong = |reason: String| HttpError::Setup { reason };
        let path = self.url.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.authority();
        let host = HeaderValue::from_str(&authority).map_err(|error| wrong(error.to_string()))?;
        let mut request = hyper::Request::builder()
            .method(self.method)
            .uri(path)
            .header(HOST, host)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "blvm-mesh");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request
            .body(Full::new(Bytes::from(self.body)))
            .map_err(|error| wrong(error.to_string()))
    }
}

impl Response {
    /// The body read as JSON.
    ///
    /// # Errors
    /// [`HttpError::Malformed`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|error| HttpError::Malformed {
            host: self.host.clone(),
            reason: error.to_string(),
        })
    }
}

impl Url {
    /// Reads an absolute `http://` or `https://` URL without user name and fragment.
    ///
    /// # Errors
    /// [`HttpError::BadUrl`].
    pub fn parse(text: &str) -> Result<Self, HttpError> {
        let wrong = |reason: &str| HttpError::BadUrl {
            reason: reason.to_owned(),
        };
        if text.len() > MAX_URL_BYTES {
            return Err(wrong("it is too long"));
        }
        let uri: hyper::Uri = text.parse().map_err(|_| wrong("it is not a URL"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        };
        if uri
            .authority()
            .is_none_or(|authority| authority.as_str().contains('@'))
        {
            return Err(wrong("it must name a host, and no user before it"));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self {
            https,
            host,
            port,
            uri,
        })
    }

    /// The URL of a path below this one; `path` begins without a slash and may end in a query.
    ///
    /// # Errors
    /// [`HttpError::BadUrl`].
    pub fn join(&self, path: &str) -> Result<Self, HttpError> {
        let base = self.uri.path().trim_end_matches('/');
        Self::parse(&format!("{}://{}{base}/{path}", self.scheme(), self.authority()))
    }

    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.https
    }

    /// The host: a name or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its query, without the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// Whether the host is written as an address of this machine, or as `localhost`.
    #[must_use]
    pub fn names_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }

    const fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Display for Url {
    /// Without the query: what is in there is nobody's business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.uri.path())
    }
}

#[cfg(test)]
mod tests;
