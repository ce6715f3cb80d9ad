//! TLS 1.3 with raw public keys (RFC 8446, RFC 7250): who is at the other end is decided here and nowhere else.
//!
//! Each side shows its Ed25519 key as a bare SubjectPublicKeyInfo and signs the handshake with it (CertificateVerify);
//! the key is the node id. Without that signature anybody could copy a key and be whom he likes, so both verifiers
//! below check it themselves and accept no other scheme. No session is resumed and nothing is sent before the
//! handshake is done (0-RTT): what is sent early can be replayed.

use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use mesh_core::identity::{Identity, NodeId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerMisbehaved, ServerConfig, SignatureAlgorithm, SignatureScheme,
};

/// The protocol name both sides must offer (ALPN), so that no other service's handshake can be passed off as ours.
pub(crate) const ALPN: &[u8] = b"blvm-mesh/1";

/// A SubjectPublicKeyInfo of an Ed25519 key is these bytes (RFC 8410 section 4) and the key; there is no other way
/// to encode it in DER.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Somebody else answered than was dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected node {expected}, found {found}")]
pub(crate) struct WrongIdentity {
    pub(crate) expected: NodeId,
    pub(crate) found: NodeId,
}

/// What an endpoint needs to shake hands in either role.
pub(crate) struct TlsIdentity {
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    server: Arc<ServerConfig>,
}

impl TlsIdentity {
    pub(crate) fn new(identity: &Identity) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(identity.seed())
            .map_err(|_| Error::General("the identity is not a valid Ed25519 seed".into()))?;
        let spki = spki_of(&identity.node_id());
        let signing = NodeKey {
            pair: Arc::new(pair),
            spki: spki.clone(),
        };
        let key = Arc::new(CertifiedKey::new(
            vec![CertificateDer::from(spki)],
            Arc::new(signing),
        ));
        let provider = Arc::new(crypto());
        let server = Arc::new(server_config(&key, &provider)?);
        Ok(Self {
            key,
            provider,
            server,
        })
    }

    /// For inbound connections: any node may show its key, and must prove it.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For dialling `expected`: any other key ends the handshake before we show ours.
    pub(crate) fn client(&self, expected: NodeId) -> Result<Arc<ClientConfig>, Error> {
        self.client_with(Arc::new(ExpectNode(expected)))
    }

    /// For dialling somebody whose id is to be learnt: any node may show its key, and must prove it. Our key is shown
    /// to whoever answers, as a listener shows it to whoever dials.
    pub(crate) fn client_of_anybody(&self) -> Result<Arc<ClientConfig>, Error> {
        self.client_with(Arc::new(AnyNode))
    }

    fn client_with(&self, verifier: Arc<dyn ServerCertVerifier>) -> Result<Arc<ClientConfig>, Error> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Arc::new(config))
    }
}

/// The proven node id of a connection whose handshake is done; `None` if it did not agree on our protocol name or
/// shows no key, which the handshake should have refused already.
pub(crate) fn peer_of(connection: &CommonState) -> Option<NodeId> {
    if connection.alpn_protocol() != Some(ALPN) {
        return None;
    }
    match connection.peer_certificates()? {
        [key] => node_of(key).ok(),
        _ => None,
    }
}

fn server_config(key: &Arc<CertifiedKey>, provider: &Arc<CryptoProvider>) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyNode))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.ignore_client_order = true;
    Ok(config)
}

/// AES-128-GCM first because it costs least where the processor has AES, and every one in question has. The hybrid
/// key exchange first because traffic recorded today may meet a quantum computer later.
fn crypto() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![provider::kx_group::X25519MLKEM768, provider::kx_group::X25519],
        ..provider::default_provider()
    }
}

fn spki_of(node: &NodeId) -> Vec<u8> {
    [&SPKI_PREFIX[..], &node.0].concat()
}

fn node_of(spki: &[u8]) -> Result<NodeId, Error> {
    let key = spki
        .strip_prefix(&SPKI_PREFIX)
        .and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.map(NodeId)
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// Whether whoever showed the key `spki` also signed this handshake with it.
fn verify_handshake(
    message: &[u8],
    spki: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    UnparsedPublicKey::new(&ED25519, node_of(spki)?.0)
        .verify(message, signed.signature())
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|_| CertificateError::BadSignature.into())
}

fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".into())
}

/// The node's key as rustls wants it.
#[derive(Clone)]
struct NodeKey {
    pair: Arc<Ed25519KeyPair>,
    spki: Vec<u8>,
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey")
    }
}

impl SigningKey for NodeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ED25519)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for NodeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// The dialler's verifier: one node and no other.
#[derive(Debug)]
struct ExpectNode(NodeId);

impl ServerCertVerifier for ExpectNode {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = node_of(key)?;
        if found != self.0 {
            let wrong = WrongIdentity {
                expected: self.0,
                found,
            };
            return Err(CertificateError::Other(OtherError(Arc::new(wrong))).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// The listener's verifier, and that of who dials somebody yet unknown: any node, as long as it proves its key.
#[derive(Debug)]
struct AnyNode;

impl ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        node_of(key).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyNode {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        node_of(key).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CipherSuite, ClientConnection, NamedGroup, ServerConnection};

    use super::*;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    fn shake(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    ) -> Result<(NodeId, NodeId, ClientConnection), Error> {
        let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
        let mut client = ClientConnection::new(client, name)?;
        let mut server = ServerConnection::new(server)?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            let mut wire = &wire[..];
            while !wire.is_empty() {
                server.read_tls(&mut wire).unwrap();
                server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            let mut wire = &wire[..];
            while !wire.is_empty() {
                client.read_tls(&mut wire).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok((peer_of(&client).unwrap(), peer_of(&server).unwrap(), client))
    }

    #[test]
    fn both_sides_learn_the_others_proven_id_over_the_preferred_algorithms() {
        let (alice, bob) = (identity(1), identity(2));
        let client = TlsIdentity::new(&alice).unwrap().client(bob.node_id()).unwrap();
        let server = TlsIdentity::new(&bob).unwrap().server();
        let (at_client, at_server, connection) = shake(client, server).unwrap();
        assert_eq!((at_client, at_server), (bob.node_id(), alice.node_id()));
        let suite = connection.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(
            connection.negotiated_key_exchange_group().unwrap().name(),
            NamedGroup::X25519MLKEM768
        );
    }

    #[test]
    fn dialling_another_node_than_expected_fails_by_name() {
        let client = TlsIdentity::new(&identity(1))
            .unwrap()
            .client(identity(3).node_id())
            .unwrap();
        let server = TlsIdentity::new(&identity(2)).unwrap().server();
        let error = shake(client, server).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, Error::InvalidCertificate(CertificateError::Other(_))),
            "{error:?}"
        );
    }

    /// A thief who shows `shown`'s key but can only sign with his own.
    fn thief(shown: &Identity, own: &Identity) -> TlsIdentity {
        let mut thief = TlsIdentity::new(own).unwrap();
        let pair = Arc::new(Ed25519KeyPair::from_seed_unchecked(own.seed()).unwrap());
        let spki = spki_of(&shown.node_id());
        let signing = NodeKey {
            pair,
            spki: spki.clone(),
        };
        thief.key = Arc::new(CertifiedKey::new(
            vec![CertificateDer::from(spki)],
            Arc::new(signing),
        ));
        thief.server = Arc::new(server_config(&thief.key, &thief.provider).unwrap());
        thief
    }

    #[test]
    fn copied_key_without_its_secret_is_refused_in_both_roles() {
        let (alice, bob, mallory) = (identity(1), identity(2), identity(6));
        let bad_signature = |result: Result<_, Error>| {
            let error = result
                .map(|_: (NodeId, NodeId, ClientConnection)| ())
                .unwrap_err();
            assert_eq!(error, CertificateError::BadSignature.into());
        };
        let client = TlsIdentity::new(&alice).unwrap().client(bob.node_id()).unwrap();
        bad_signature(shake(client, thief(&bob, &mallory).server()));
        let client = TlsIdentity::new(&alice).unwrap().client_of_anybody().unwrap();
        bad_signature(shake(client, thief(&bob, &mallory).server()));
        let client = thief(&alice, &mallory).client(bob.node_id()).unwrap();
        bad_signature(shake(client, TlsIdentity::new(&bob).unwrap().server()));
    }

    #[test]
    fn client_that_offers_no_protocol_name_of_ours_is_not_a_peer() {
        let bob = identity(2);
        let client = TlsIdentity::new(&identity(1))
            .unwrap()
            .client(bob.node_id())
            .unwrap();
        let mut client = ClientConfig::clone(&client);
        client.alpn_protocols = vec![b"h2".to_vec()];
        assert!(shake(Arc::new(client), TlsIdentity::new(&bob).unwrap().server()).is_err());
    }

    #[test]
    fn only_the_one_encoding_of_an_ed25519_key_is_a_node_id() {
        let spki = spki_of(&identity(4).node_id());
        assert_eq!(node_of(&spki).unwrap(), identity(4).node_id());
        assert!(node_of(&spki[..43]).is_err());
        assert!(node_of(&[&spki[..], &[0]].concat()).is_err());
        assert!(node_of(&[]).is_err());
    }
}
