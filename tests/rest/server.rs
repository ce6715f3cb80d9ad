//! A server on loopback that answers as it is told, well or badly.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use blvm_mesh::http::{HttpClient, PlainHttp, Trust};
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A question as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// `Null` without a body.
    pub(crate) body: Value,
}

/// How it is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// With a whole answer.
    Status(u16, Vec<u8>),
    /// With these lines; then the connection stays open (`true`) or ends.
    Lines(Vec<String>, bool),
    /// With a part of an answer, and then the connection breaks.
    Broken,
    /// Not at all; the connection stays open.
    Silence,
    /// Elsewhere.
    Redirect(String),
}

impl Reply {
    pub(crate) fn json(value: Value) -> Self {
        Self::error(200, value)
    }

    pub(crate) fn error(status: u16, value: Value) -> Self {
        Self::Status(status, value.to_string().into_bytes())
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer).await
    }

    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, log, answer) = (tls.clone(), log.clone(), answer.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(tcp, &log, answer.as_ref()).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, &log, answer.as_ref()).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            asked,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that was asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often something was asked at this path, whatever the query.
    pub(crate) fn times(&self, path: &str) -> usize {
        let asked = self.asked();
        let at = asked
            .iter()
            .filter(|asked| asked.path.split('?').next() == Some(path));
        at.count()
    }
}

async fn serve(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    log: &Mutex<Vec<Asked>>,
    answer: &(dyn Fn(&Asked) -> Reply + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    let Some(asked) = read(&mut stream).await else {
        return;
    };
    log.lock().unwrap().push(asked.clone());
    let head = |status: u16, more: &str| {
        format!("HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\n{more}\r\n")
    };
    // Whoever stopped listening in the middle is part of some tests.
    match answer(&asked) {
        Reply::Status(status, body) => {
            let length = format!("content-length: {}\r\n", body.len());
            let _ = stream.write_all(head(status, &length).as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
        Reply::Lines(lines, stays_open) => {
            let _ = stream.write_all(head(200, "").as_bytes()).await;
            for line in lines {
                let _ = stream.write_all(format!("{line}\n").as_bytes()).await;
            }
            let _ = stream.flush().await;
            if stays_open {
                std::future::pending::<()>().await;
            }
        }
        Reply::Broken => {
            let _ = stream
                .write_all(head(200, "content-length: 1000\r\n").as_bytes())
                .await;
            let _ = stream.write_all(b"{\"half").await;
        }
        Reply::Silence => std::future::pending().await,
        Reply::Redirect(to) => {
            let more = format!("location: {to}\r\ncontent-length: 0\r\n");
            let _ = stream.write_all(head(307, &more).as_bytes()).await;
        }
    }
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

/// Certificates as Lightning nodes make them.
pub(crate) struct Certificates {
    /// What the client is given to trust: the authority, or the server's own.
    pub(crate) authority_pem: String,
    pub(crate) server_pem: String,
    pub(crate) acceptor: TlsAcceptor,
}

impl Certificates {
    /// A server certificate for this name, signed by an authority made for the purpose, as Core Lightning does it.
    pub(crate) fn signed_for(name: &str) -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(parameters, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let server = parameters.signed_by(&key, &issuer).unwrap();
        Self::with(authority.pem(), &server, &key)
    }

    /// A certificate that signs itself, may sign others, and names anything: as LND makes `tls.cert`.
    pub(crate) fn self_signed_for(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let server = parameters.self_signed(&key).unwrap();
        Self::with(server.pem(), &server, &key)
    }

    /// An impostor's handshake: the certificate of another, signed with a key of his own.
    pub(crate) fn showing(another: &Self) -> TlsAcceptor {
        let own = rcgen::KeyPair::generate().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = provider
            .key_provider
            .load_private_key(rustls::pki_types::PrivateKeyDer::Pkcs8(
                own.serialize_der().into(),
            ))
            .unwrap();
        let shown = rustls::pki_types::CertificateDer::from_pem_slice(another.server_pem.as_bytes()).unwrap();
        let resolver =
            rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(vec![shown], key));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        TlsAcceptor::from(Arc::new(config))
    }

    fn with(authority_pem: String, server: &rcgen::Certificate, key: &rcgen::KeyPair) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![server.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Self {
            authority_pem,
            server_pem: server.pem(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }
}

/// A client as a daemon makes it for a wallet on this machine.
pub(crate) fn client() -> HttpClient {
    HttpClient::new(&Trust::System, PlainHttp::LoopbackOnly).unwrap()
}
