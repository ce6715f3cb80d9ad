//! Whom the client believes to be who he says.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::HttpError;

/// The largest certificate file that is read, in bytes.
const MAX_CERTIFICATE_BYTES: u64 = 64 * 1024;

/// Who vouches for a server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The certificate authorities that this machine trusts.
    System,
    /// One certificate, and no authority of the machine's.
    Pinned(PinnedCertificate),
}

/// The one certificate that is trusted: the server's own, or that of the authority which signed it.
///
/// A server that shows exactly this certificate is believed whatever name and dates stand in it: Lightning nodes sign
/// their own certificates, often for other names than they are reached under, and the operator has vouched for this
/// one by hand. A server that shows another is believed only if this one signed it for the name that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedCertificate(CertificateDer<'static>);

impl PinnedCertificate {
    /// The certificate in a PEM file (`tls.cert` of LND; `ca.pem` or `server.pem` of Core Lightning).
    ///
    /// # Errors
    /// [`HttpError::Certificate`]: unreadable, too large, or not exactly one certificate.
    pub fn from_pem_file(path: &Path) -> Result<Self, HttpError> {
        let wrong = |reason: String| HttpError::Certificate {
            path: path.to_owned(),
            reason,
        };
        let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mut pem = Vec::new();
        file.take(MAX_CERTIFICATE_BYTES + 1)
            .read_to_end(&mut pem)
            .map_err(|error| wrong(error.to_string()))?;
        if pem.len() as u64 > MAX_CERTIFICATE_BYTES {
            return Err(wrong("it is too large for a certificate".to_owned()));
        }
        Self::from_pem(&pem).map_err(wrong)
    }

    /// The certificate in a PEM text; the error says why there is none.
    fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(2).collect();
        let found = found.map_err(|error| format!("it is not PEM: {error}"))?;
        match <[CertificateDer<'static>; 1]>::try_from(found) {
            Ok([certificate]) => Ok(Self(certificate)),
            Err(found) if found.is_empty() => Err("it holds no certificate".to_owned()),
            Err(_) => Err("it holds more than one certificate; keep the one to trust".to_owned()),
        }
    }
}

impl Trust {
    /// How to shake hands; `None` when nobody is trusted because the machine has no authorities.
    pub(super) fn client_config(&self) -> Result<Option<ClientConfig>, HttpError> {
        let setup = |error: Error| HttpError::Setup {
            reason: format!("TLS cannot be set up: {error}"),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(setup)?;
        let mut config = match self {
            Self::System => {
                let Some(roots) = system_roots() else {
                    return Ok(None);
                };
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::Pinned(PinnedCertificate(pinned)) => {
                let verifier = PinVerifier::new(pinned.clone(), provider).map_err(setup)?;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
                    .with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(config))
    }
}

fn system_roots() -> Option<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some certificate authorities of this machine could not be read");
    }
    let mut roots = RootCertStore::empty();
    // One that cannot be read vouches for nobody; the others still do.
    roots.add_parsable_certificates(found.certs);
    (!roots.is_empty()).then_some(roots)
}

#[derive(Debug)]
struct PinVerifier {
    pinned: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
    /// For certificates that the pinned one signed; none if it cannot sign any.
    signed: Option<Arc<WebPkiServerVerifier>>,
}

impl PinVerifier {
    fn new(pinned: CertificateDer<'static>, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone())?;
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        Ok(Self {
            pinned,
            provider,
            signed: signed.ok(),
        })
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity.as_ref() == self.pinned.as_ref() {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.signed {
            Some(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("this client speaks TLS 1.3 only".to_owned()))
    }

    /// That the server holds the certificate's key: without this anybody could show a copy of it.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
