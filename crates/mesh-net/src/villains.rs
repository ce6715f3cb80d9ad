//! Tests against neighbours that speak TLS well and then misbehave: real sockets, hand-made bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::identity::{Identity, NodeId};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::frame::header;
use crate::hello::{Hello, Refusal};
use crate::tls::TlsIdentity;
use crate::{
    Channel, CloseReason, Endpoint, EndpointConfig, LinkEvent, MAX_CONTROL_FRAME_BYTES, MAX_DATA_FRAME_BYTES,
    Transport,
};

/// Longer than anything here takes; only a broken link layer ever waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Victim {
    id: NodeId,
    endpoint: Endpoint,
    events: mpsc::Receiver<LinkEvent>,
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32]).unwrap()
}

fn victim(handshake_timeout: Duration) -> Victim {
    let (sender, events) = mpsc::channel(16);
    let config = EndpointConfig {
        listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        handshake_timeout,
        ..EndpointConfig::default()
    };
    let identity = identity(1);
    Victim {
        id: identity.node_id(),
        endpoint: Endpoint::bind(config, &identity, sender).unwrap(),
        events,
    }
}

impl Victim {
    async fn connect(&self, villain: &Identity) -> TlsStream<TcpStream> {
        let config = TlsIdentity::new(villain).unwrap().client(self.id).unwrap();
        let address = self.endpoint.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(config)
            .connect(ServerName::from(address.ip()), stream)
            .await
            .unwrap()
    }

    /// A link like an honest node would make it: data and control.
    async fn link(&mut self, villain: &Identity) -> (TlsStream<TcpStream>, TlsStream<TcpStream>) {
        let (mut data, mut control) = (self.connect(villain).await, self.connect(villain).await);
        hello(Channel::Data, 1).write(&mut data).await.unwrap();
        hello(Channel::Control, 1).write(&mut control).await.unwrap();
        assert_eq!(Hello::read(&mut data).await.unwrap().refusal, None);
        assert_eq!(Hello::read(&mut control).await.unwrap().refusal, None);
        assert!(matches!(self.next().await, LinkEvent::Up { .. }));
        (data, control)
    }

    async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn down(&mut self) -> CloseReason {
        match self.next().await {
            LinkEvent::Down { reason, .. } => reason,
            other => panic!("expected Down, got {other:?}"),
        }
    }

    async fn closed(&self, reason: CloseReason) {
        let counted = async {
            while self.endpoint.counters().closed(reason) == 0 {
                tokio::task::yield_now().await;
            }
        };
        let counted = timeout(PATIENCE, counted).await;
        assert!(
            counted.is_ok(),
            "{reason} never came: {:?}",
            self.endpoint.counters()
        );
    }
}

fn hello(channel: Channel, pair: u8) -> Hello {
    Hello {
        channel,
        refusal: None,
        instance: 7,
        pair: [pair; 16],
    }
}

#[tokio::test]
async fn frame_announced_too_long_ends_the_link_on_either_channel() {
    let mut victim = victim(PATIENCE);
    for (data_bytes, control_bytes) in [(MAX_DATA_FRAME_BYTES + 1, 0), (0, MAX_CONTROL_FRAME_BYTES + 1)] {
        let (mut data, mut control) = victim.link(&identity(2)).await;
        data.write_all(&(data_bytes as u32).to_be_bytes()).await.unwrap();
        control
            .write_all(&(control_bytes as u32).to_be_bytes())
            .await
            .unwrap();
        assert_eq!(victim.down().await, CloseReason::FrameTooLong);
    }
}

#[tokio::test]
async fn whole_frames_before_the_crime_are_still_delivered() {
    let mut victim = victim(PATIENCE);
    let (mut data, _control) = victim.link(&identity(2)).await;
    let stream = [&header(4)[..], b"good", &u32::MAX.to_be_bytes()].concat();
    data.write_all(&stream).await.unwrap();
    match victim.next().await {
        LinkEvent::Frames { frames, .. } => assert_eq!(frames, ["good"]),
        other => panic!("expected frames, got {other:?}"),
    }
    assert_eq!(victim.down().await, CloseReason::FrameTooLong);
}

#[tokio::test]
async fn forged_record_on_an_established_link_ends_it() {
    let mut victim = victim(PATIENCE);
    let (data, _control) = victim.link(&identity(2)).await;
    let (mut wire, _tls) = data.into_inner();
    wire.write_all(&[23, 3, 3, 0, 32]).await.unwrap();
    wire.write_all(&[0; 32]).await.unwrap();
    assert_eq!(victim.down().await, CloseReason::TlsViolation);
}

#[tokio::test]
async fn losing_one_connection_closes_the_other() {
    let mut victim = victim(PATIENCE);
    for keep_control in [true, false] {
        let (data, control) = victim.link(&identity(2)).await;
        let (mut kept, lost) = if keep_control {
            (control, data)
        } else {
            (data, control)
        };
        drop(lost);
        assert_eq!(victim.down().await, CloseReason::PeerClosed);
        let rest = timeout(PATIENCE, kept.read_to_end(&mut Vec::new())).await;
        assert!(rest.is_ok(), "the other connection was left open");
    }
}

#[tokio::test]
async fn hellos_that_make_no_sense_are_refused_by_name() {
    let victim = victim(PATIENCE);
    let mut stream = victim.connect(&identity(2)).await;
    stream.write_all(&header(3)).await.unwrap();
    stream.write_all(&[0, 1, 0]).await.unwrap();
    victim.closed(CloseReason::BadHello).await;

    let mut stream = victim.connect(&identity(2)).await;
    stream.write_all(&header(28)).await.unwrap();
    stream.write_all(&[0xff; 28]).await.unwrap();
    victim.closed(CloseReason::WrongVersion).await;
}

#[tokio::test]
async fn two_connections_of_one_purpose_are_no_link() {
    let victim = victim(PATIENCE);
    let (mut one, mut two) = (
        victim.connect(&identity(2)).await,
        victim.connect(&identity(2)).await,
    );
    hello(Channel::Data, 1).write(&mut one).await.unwrap();
    hello(Channel::Data, 1).write(&mut two).await.unwrap();
    victim.closed(CloseReason::BadHello).await;
    assert_eq!(victim.endpoint.live_links(), 0);
}

#[tokio::test]
async fn halves_of_different_nodes_are_never_joined() {
    let victim = victim(Duration::from_millis(300));
    let (mut one, mut two) = (
        victim.connect(&identity(2)).await,
        victim.connect(&identity(3)).await,
    );
    hello(Channel::Data, 1).write(&mut one).await.unwrap();
    hello(Channel::Control, 1).write(&mut two).await.unwrap();
    victim.closed(CloseReason::PairIncomplete).await;
    assert_eq!(victim.endpoint.live_links(), 0);
}

#[tokio::test]
async fn neighbour_that_shakes_hands_and_says_nothing_is_dropped() {
    let victim = victim(Duration::from_millis(300));
    let _mute = victim.connect(&identity(2)).await;
    victim.closed(CloseReason::HelloTimeout).await;
}

#[tokio::test]
async fn node_with_our_own_key_is_refused_as_ourselves() {
    let victim = victim(PATIENCE);
    let _twin = victim.connect(&identity(1)).await;
    victim.closed(CloseReason::SelfConnection).await;
}

#[tokio::test]
async fn client_without_a_key_is_refused() {
    let victim = victim(PATIENCE);
    let with_key = TlsIdentity::new(&identity(2)).unwrap().client(victim.id).unwrap();
    let mut config = rustls::ClientConfig::clone(&with_key);
    config.client_auth_cert_resolver = Arc::new(NoKey);
    let address = victim.endpoint.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    // In TLS 1.3 the client is done before the server judges it; what comes back is the alert.
    if let Ok(mut stream) = connector.connect(ServerName::from(address.ip()), stream).await {
        assert!(timeout(PATIENCE, stream.read_u8()).await.unwrap().is_err());
    }
    victim.closed(CloseReason::HandshakeFailed).await;
}

#[derive(Debug)]
struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn refusal_is_told_to_who_is_refused() {
    let (sender, _events) = mpsc::channel(16);
    let config = EndpointConfig {
        listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        allowed_peers: Some(Default::default()),
        ..EndpointConfig::default()
    };
    let identity_1 = identity(1);
    let endpoint = Endpoint::bind(config, &identity_1, sender).unwrap();
    let victim = Victim {
        id: identity_1.node_id(),
        endpoint,
        events: _events,
    };
    let (mut data, mut control) = (
        victim.connect(&identity(2)).await,
        victim.connect(&identity(2)).await,
    );
    hello(Channel::Data, 1).write(&mut data).await.unwrap();
    hello(Channel::Control, 1).write(&mut control).await.unwrap();
    assert_eq!(
        Hello::read(&mut data).await.unwrap().refusal,
        Some(Refusal::NotAllowed)
    );
    assert_eq!(
        Hello::read(&mut control).await.unwrap().refusal,
        Some(Refusal::NotAllowed)
    );
}
