//! Keeping a link to a wanted peer: dial, wait while it stands, dial again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_core::identity::NodeId;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error as TlsError};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{TlsConnector, TlsStream};
use tracing::debug;

use crate::carried::{CarriedDial, CarriedPair};
use crate::endpoint::Shared;
use crate::hello::Hello;
use crate::link::{self, Pair};
use crate::tls::{WrongIdentity, peer_of};
use crate::wire::{Carrier, Wire};
use crate::{Channel, CloseReason, DialError};

/// A link that stood this long shows that peer and path are well, and the next pause is the shortest again. Without
/// it a neighbour that accepts and closes at once would be dialled four times a second forever.
const PROVEN_AFTER: Duration = Duration::from_secs(30);

/// Runs until it is aborted by `remove_peer` or shutdown.
pub(crate) async fn keep_linked(shared: Arc<Shared>, peer: NodeId, mut linked: watch::Receiver<bool>) {
    let mut backoff = shared.config.initial_backoff;
    loop {
        let since = Instant::now();
        if linked.wait_for(|linked| !linked).await.is_err() {
            return;
        }
        if since.elapsed() >= PROVEN_AFTER {
            backoff = shared.config.initial_backoff;
        }
        let address = shared.registry().dial_address(&peer);
        if let Some(address) = address {
            match dial(&shared, peer, address).await {
                Ok(()) => shared.registry().set_dial_error(&peer, None),
                Err(error) => {
                    debug!(peer = %peer.short(), %error, "dialling failed");
                    shared.counters.closed(error.reason());
                    shared.registry().set_dial_error(&peer, Some(error));
                }
            }
        }
        // Also after success: if the link stands, the wait above takes over; if it died at once, this is the pause.
        sleep(shared.jittered(backoff)).await;
        backoff = backoff.saturating_mul(2).min(shared.config.max_backoff);
    }
}

/// One attempt over TCP, at most the handshake timeout long.
async fn dial(shared: &Arc<Shared>, peer: NodeId, address: SocketAddr) -> Result<(), DialError> {
    shared.counters.dialled.fetch_add(1, Ordering::Relaxed);
    let attempt = async {
        let (data, control) =
            tokio::try_join!(connect(shared, peer, address), connect(shared, peer, address))?;
        pair_up(shared, peer, [data, control], address, Carrier::Direct).await
    };
    timeout(shared.config.handshake_timeout, attempt)
        .await
        .unwrap_or(Err(DialError::Timeout { address }))
}

/// One attempt over streams that are carried, at most the handshake timeout long.
pub(crate) async fn dial_carried(
    shared: &Arc<Shared>,
    pair: CarriedPair,
    expected: Option<NodeId>,
) -> CarriedDial {
    shared.counters.dialled.fetch_add(1, Ordering::Relaxed);
    let address = pair.address;
    let mut learnt = None;
    let attempt = async {
        let (data, control) = pair.into_wires();
        let ((peer, data), (other, control)) = tokio::try_join!(
            secure(shared, data, expected, address),
            secure(shared, control, expected, address)
        )?;
        if peer != other {
            return Err(DialError::WrongIdentity {
                expected: peer,
                found: other,
            });
        }
        if peer == shared.me {
            return Err(DialError::Unneeded(CloseReason::SelfConnection));
        }
        learnt = Some(peer);
        pair_up(shared, peer, [data, control], address, Carrier::Node).await
    };
    let outcome = timeout(shared.config.handshake_timeout, attempt)
        .await
        .unwrap_or(Err(DialError::Timeout { address }));
    CarriedDial {
        peer: learnt,
        outcome,
    }
}

/// From two connections to `peer` to a link.
async fn pair_up(
    shared: &Arc<Shared>,
    peer: NodeId,
    [data, control]: [TlsStream<Wire>; 2],
    address: SocketAddr,
    carrier: Carrier,
) -> Result<(), DialError> {
    let id = shared
        .random()
        .map_err(|_| DialError::Unneeded(CloseReason::Requested))?;
    let pair = Pair {
        data,
        control,
        id,
        address,
        carrier,
    };
    introduce(shared, peer, pair).await
}

async fn connect(shared: &Shared, peer: NodeId, address: SocketAddr) -> Result<TlsStream<Wire>, DialError> {
    let failed = |error: std::io::Error| DialError::Connect {
        address,
        message: error.to_string(),
    };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let (_, stream) = secure(shared, Wire::Tcp(stream), Some(peer), address).await?;
    Ok(stream)
}

/// TLS over a bare connection: who is at its end, and proved it. Without `expected` anybody may be.
async fn secure(
    shared: &Shared,
    wire: Wire,
    expected: Option<NodeId>,
    address: SocketAddr,
) -> Result<(NodeId, TlsStream<Wire>), DialError> {
    let config = match expected {
        Some(peer) => shared.tls.client(peer),
        None => shared.tls.client_of_anybody(),
    };
    let config = config.map_err(|error| tls_error(address, error.to_string()))?;
    // An address as the name, because then none is sent: who listens to the wire need not know whom we look for.
    let stream = TlsConnector::from(config)
        .connect(ServerName::from(address.ip()), wire)
        .await
        .map_err(|error| explain(address, &error))?;
    let found = peer_of(stream.get_ref().1)
        .filter(|found| expected.is_none_or(|expected| expected == *found))
        .ok_or_else(|| tls_error(address, "the protocol name was not agreed on".into()))?;
    Ok((found, stream.into()))
}

/// Says hello on both connections and hears the answers; on agreement the link starts.
async fn introduce(shared: &Arc<Shared>, peer: NodeId, mut pair: Pair) -> Result<(), DialError> {
    let (address, carrier) = (pair.address, pair.carrier);
    shared
        .registry()
        .commit(&peer, carrier)
        .map_err(DialError::Unneeded)?;
    let _committed = Committed {
        shared,
        peer,
        carrier,
    };
    let lost = |error: std::io::Error| explain(address, &error);
    pair.say_hello(shared.instance, None).await.map_err(lost)?;
    let (data, control) = tokio::try_join!(Hello::read(&mut pair.data), Hello::read(&mut pair.control))
        .map_err(|reason| DialError::Hello { address, reason })?;
    if let Some(refusal) = data.refusal.or(control.refusal) {
        return Err(DialError::Refused(refusal));
    }
    let expected = |channel| Hello {
        channel,
        refusal: None,
        instance: data.instance,
        pair: pair.id,
    };
    if data != expected(Channel::Data) || control != expected(Channel::Control) {
        return Err(DialError::Hello {
            address,
            reason: CloseReason::BadHello,
        });
    }
    let sender = link::new_sender(shared, peer).map_err(DialError::Unneeded)?;
    // No await from here to the spawn: an abort in between would leave a link without a task.
    let admission = shared
        .registry()
        .admit_outbound(sender.clone(), data.instance, carrier)
        .map_err(DialError::Unneeded)?;
    shared.spawn_link(link::run(shared.clone(), pair, sender, admission, None));
    Ok(())
}

/// Ends the commitment however the attempt ends.
struct Committed<'s> {
    shared: &'s Shared,
    peer: NodeId,
    carrier: Carrier,
}

impl Drop for Committed<'_> {
    fn drop(&mut self) {
        self.shared.registry().uncommit(&self.peer, self.carrier);
    }
}

fn tls_error(address: SocketAddr, message: String) -> DialError {
    DialError::Tls { address, message }
}

/// What rustls meant, out of the I/O error it travels in.
fn explain(address: SocketAddr, error: &std::io::Error) -> DialError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    if let Some(TlsError::InvalidCertificate(CertificateError::Other(other))) = inner
        && let Some(WrongIdentity { expected, found }) = other.0.downcast_ref()
    {
        return DialError::WrongIdentity {
            expected: *expected,
            found: *found,
        };
    }
    if let Some(reason) = CloseReason::told_by(error) {
        return DialError::Carrier { address, reason };
    }
    match inner {
        Some(_) => tls_error(address, error.to_string()),
        None => DialError::Connect {
            address,
            message: error.to_string(),
        },
    }
}
