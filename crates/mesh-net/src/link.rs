//! A link's life: from two finished connections to the last event about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_core::identity::NodeId;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsStream;
use tracing::debug;

use crate::endpoint::Shared;
use crate::hello::{Hello, Refusal};
use crate::pump::{Pump, TlsSocket};
use crate::queue::LinkSender;
use crate::registry::Admission;
use crate::wire::{Carrier, Wire};
use crate::{Channel, CloseReason, LinkEvent};

/// The two connections of one neighbour, both past TLS and hello.
pub(crate) struct Pair {
    pub(crate) data: TlsStream<Wire>,
    pub(crate) control: TlsStream<Wire>,
    pub(crate) id: [u8; 16],
    pub(crate) address: SocketAddr,
    pub(crate) carrier: Carrier,
}

impl Pair {
    /// Says hello on both: the dialler's opening, or the answer to it.
    pub(crate) async fn say_hello(&mut self, instance: u64, refusal: Option<Refusal>) -> std::io::Result<()> {
        let hello = |channel| Hello {
            channel,
            refusal,
            instance,
            pair: self.id,
        };
        let (data, control) = (hello(Channel::Data), hello(Channel::Control));
        tokio::try_join!(data.write(&mut self.data), control.write(&mut self.control)).map(|_| ())
    }
}

/// Makes the sender of a link to `peer` that is about to be admitted.
pub(crate) fn new_sender(shared: &Shared, peer: NodeId) -> Result<LinkSender, CloseReason> {
    let link = crate::next_link_id();
    let (data, control) = shared.queue_limits();
    Ok(LinkSender::new(
        link,
        peer,
        data,
        control,
        shared.counters.clone(),
    ))
}

/// Runs an admitted link to its end. For an inbound one the answer to the hellos is still to be sent, by `answer_by`;
/// if that fails, the link never was: no event tells of it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut pair: Pair,
    sender: LinkSender,
    admission: Admission,
    answer_by: Option<Instant>,
) {
    let (peer, link) = (sender.peer(), sender.link());
    let Admission { predecessor, ended } = admission;
    let answered = match answer_by {
        Some(deadline) => timeout_at(deadline, pair.say_hello(shared.instance, None))
            .await
            .is_ok_and(|r| r.is_ok()),
        None => true,
    };
    let reason = if answered {
        if let Some(predecessor) = predecessor {
            // It ends with the other half being dropped; no value is ever sent.
            let _ = predecessor.await;
        }
        serve(&shared, pair, &sender, answer_by.is_none()).await
    } else {
        sender.close(CloseReason::ConnectionLost);
        shared.registry().ended(&peer, link);
        CloseReason::ConnectionLost
    };
    debug!(%link, peer = %peer.short(), %reason, "link ended");
    shared.counters.closed(reason);
    drop(ended);
    shared.registry().reported(&peer);
}

/// `Up`, everything between, `Down`.
async fn serve(shared: &Shared, pair: Pair, sender: &LinkSender, dialled: bool) -> CloseReason {
    let (peer, link) = (sender.peer(), sender.link());
    let (address, carrier) = (pair.address, pair.carrier);
    let pump = |stream, channel| {
        let (socket, events) = (into_socket(stream), shared.events.clone());
        Pump::new(socket, channel, sender.clone(), events, shared.patience())
    };
    let mut data = pump(pair.data, Channel::Data);
    let mut control = pump(pair.control, Channel::Control);

    let up = LinkEvent::Up {
        link,
        peer,
        address,
        dialled,
        carrier,
        sender: sender.clone(),
    };
    let reason = if shared.events.send(up).await.is_ok() {
        shared.counters.links_up.fetch_add(1, Ordering::Relaxed);
        debug!(%link, peer = %peer.short(), %address, dialled, carrier = carrier.as_str(), "link up");
        tokio::select! {
            biased;
            reason = control.run() => reason,
            reason = data.run() => reason,
        }
    } else {
        CloseReason::ConsumerGone
    };

    sender.close(reason);
    shared.registry().ended(&peer, link);
    control.say_goodbye();
    data.say_goodbye();
    let last = [
        control.leftovers(),
        data.leftovers(),
        Some(LinkEvent::Down { link, peer, reason }),
    ];
    for event in last.into_iter().flatten() {
        // Without a consumer there is nobody to tell.
        let _ = shared.events.send(event).await;
    }
    reason
}

fn into_socket(stream: TlsStream<Wire>) -> TlsSocket {
    match stream {
        TlsStream::Client(stream) => {
            let (socket, tls) = stream.into_inner();
            TlsSocket::new(socket, tls.into())
        }
        TlsStream::Server(stream) => {
            let (socket, tls) = stream.into_inner();
            TlsSocket::new(socket, tls.into())
        }
    }
}
