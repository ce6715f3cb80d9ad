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

use crate::endpoint::Shared;
use crate::hello::Hello;
use crate::link::{self, Pair};
use crate::tls::{WrongIdentity, peer_of};
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

/// One attempt, at most the handshake timeout long.
async fn dial(shared: &Arc<Shared>, peer: NodeId, address: SocketAddr) -> Result<(), DialError> {
    shared.counters.dialled.fetch_add(1, Ordering::Relaxed);
    let attempt = async {
        let (data, control) =
            tokio::try_join!(connect(shared, peer, address), connect(shared, peer, address))?;
        let id = shared
            .random()
            .map_err(|_| DialError::Unneeded(CloseReason::Requested))?;
        introduce(
            shared,
            peer,
            Pair {
                data,
                control,
                id,
                address,
            },
        )
        .await
    };
    timeout(shared.config.handshake_timeout, attempt)
        .await
        .unwrap_or(Err(DialError::Timeout { address }))
}

async fn connect(
    shared: &Shared,
    peer: NodeId,
    address: SocketAddr,
) -> Result<TlsStream<TcpStream>, DialError> {
    let failed = |error: std::io::Error| DialError::Connect {
        address,
        message: error.to_string(),
    };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let config = shared
        .tls
        .client(peer)
        .map_err(|error| tls_error(address, error.to_string()))?;
    // An address as the name, because then none is sent: who listens to the wire need not know whom we look for.
    let stream = TlsConnector::from(config)
        .connect(ServerName::from(address.ip()), stream)
        .await
        .map_err(|error| explain(address, &error))?;
    if peer_of(stream.get_ref().1) != Some(peer) {
        return Err(tls_error(address, "the protocol name was not agreed on".into()));
    }
    Ok(stream.into())
}

/// Says hello on both connections and hears the answers; on agreement the link starts.
async fn introduce(shared: &Arc<Shared>, peer: NodeId, mut pair: Pair) -> Result<(), DialError> {
    shared.registry().commit(&peer).map_err(DialError::Unneeded)?;
    let _committed = Committed { shared, peer };
    let address = pair.address;
    let lost = |error: std::io::Error| DialError::Connect {
        address,
        message: error.to_string(),
    };
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
        .admit_outbound(sender.clone(), data.instance)
        .map_err(DialError::Unneeded)?;
    shared.spawn_link(link::run(shared.clone(), pair, sender, admission, None));
    Ok(())
}

/// Ends the commitment however the attempt ends.
struct Committed<'s> {
    shared: &'s Shared,
    peer: NodeId,
}

impl Drop for Committed<'_> {
    fn drop(&mut self) {
        self.shared.registry().uncommit(&self.peer);
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
    match inner {
        Some(_) => tls_error(address, error.to_string()),
        None => DialError::Connect {
            address,
            message: error.to_string(),
        },
    }
}
