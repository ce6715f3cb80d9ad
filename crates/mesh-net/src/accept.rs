//! Letting strangers in, up to a point.
//!
//! Until a connection has proven whose it is, it may be anybody's and cost the sender nothing. So the cheap checks
//! come first: how many from this address, how many in all, is the first byte that of a TLS handshake; only then the
//! handshake, which costs us about a third of a millisecond. Each stage has its deadline and its name.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_core::identity::NodeId;
use rustls::Error as TlsError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::debug;

use crate::carried::CarriedPair;
use crate::endpoint::Shared;
use crate::hello::{Hello, Refusal};
use crate::link::{self, Pair};
use crate::tls::peer_of;
use crate::wire::{Carrier, Wire};
use crate::{Channel, CloseReason, EndpointConfig};

/// Addresses remembered at once. At sixty accepts a minute each, far more than one machine can serve.
const MAX_ADDRESSES: usize = 4096;

/// The window of the accept rate.
const MINUTE: Duration = Duration::from_secs(60);

/// The pause after the system would not give us a connection: out of descriptors lasts a while, and trying again at
/// once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The first byte of every TLS handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Takes connections from the listener until the endpoint shuts down.
pub(crate) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                shared.counters.closed(CloseReason::AcceptFailed);
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
        match Visit::begin(&shared, address) {
            Ok(visit) => shared.spawn(receive(visit, Wire::Tcp(stream))),
            Err(reason) => shared.counters.closed(reason),
        }
    }
}

/// Takes two streams that a carrier brings, under the same limits.
pub(crate) fn receive_carried(shared: &Arc<Shared>, pair: CarriedPair) -> Result<(), CloseReason> {
    // Who asks over the node needs no address of his own, so that he must not take the places of those who have one.
    if shared.gate().inside >= shared.config.max_handshakes / 2 {
        return Err(CloseReason::TooManyHandshakes);
    }
    let visits = (
        Visit::begin(shared, pair.address)?,
        Visit::begin(shared, pair.address)?,
    );
    let wires = pair.into_wires();
    shared.spawn(receive(visits.0, wires.0));
    shared.spawn(receive(visits.1, wires.1));
    Ok(())
}

/// A connection between accept and link, counted against the limits as long as this lives.
struct Visit {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Visit {
    fn begin(shared: &Arc<Shared>, address: SocketAddr) -> Result<Self, CloseReason> {
        shared
            .gate()
            .enter(address.ip(), Instant::now(), &shared.config)?;
        Ok(Self {
            shared: shared.clone(),
            address,
        })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.shared.gate().leave(self.address.ip());
    }
}

async fn receive(visit: Visit, wire: Wire) {
    let (shared, address) = (visit.shared.clone(), visit.address);
    if let Err(reason) = greet(visit, wire).await {
        debug!(%address, %reason, "connection refused");
        shared.counters.closed(reason);
    }
}

/// From a bare connection to a parked half or a link.
async fn greet(visit: Visit, wire: Wire) -> Result<(), CloseReason> {
    let deadline = Instant::now() + visit.shared.config.handshake_timeout;
    let carrier = match &wire {
        Wire::Tcp(stream) => {
            look_before(stream, deadline).await?;
            Carrier::Direct
        }
        Wire::Carried(_) => Carrier::Node,
    };
    let (peer, mut stream) = shake_hands(&visit.shared, wire, deadline).await?;
    let hello = timeout_at(deadline, Hello::read(&mut stream))
        .await
        .map_err(|_| CloseReason::HelloTimeout)??;
    if hello.refusal.is_some() {
        return Err(CloseReason::BadHello);
    }
    let half = Half {
        channel: hello.channel,
        instance: hello.instance,
        carrier,
        stream,
    };
    let key = (peer, hello.pair);
    let Some((data, control)) = meet(&visit.shared, key, half, deadline).await? else {
        return Ok(());
    };
    let instance = data.instance;
    let pair = Pair {
        data: data.stream,
        control: control.stream,
        id: hello.pair,
        address: visit.address,
        carrier,
    };
    decide(&visit.shared, peer, instance, pair, deadline).await
}

/// The cheap look at a socket before the dear handshake.
async fn look_before(stream: &TcpStream, deadline: Instant) -> Result<(), CloseReason> {
    let mut first = [0];
    let length = timeout_at(deadline, stream.peek(&mut first))
        .await
        .map_err(|_| CloseReason::HalfOpen)?
        .map_err(|_| CloseReason::ConnectionLost)?;
    if length == 0 {
        return Err(CloseReason::PeerClosed);
    }
    if first != [TLS_HANDSHAKE] {
        return Err(CloseReason::NotTls);
    }
    stream.set_nodelay(true).map_err(|_| CloseReason::ConnectionLost)
}

async fn shake_hands(
    shared: &Shared,
    stream: Wire,
    deadline: Instant,
) -> Result<(NodeId, TlsStream<Wire>), CloseReason> {
    let stream = timeout_at(deadline, TlsAcceptor::from(shared.tls.server()).accept(stream))
        .await
        .map_err(|_| CloseReason::HandshakeTimeout)?
        .map_err(|error| explain(&error))?;
    let peer = peer_of(stream.get_ref().1).ok_or(CloseReason::HandshakeFailed)?;
    if peer == shared.me {
        return Err(CloseReason::SelfConnection);
    }
    Ok((peer, stream.into()))
}

fn explain(error: &std::io::Error) -> CloseReason {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidMessage(_)) => CloseReason::NotTls,
        Some(_) => CloseReason::HandshakeFailed,
        None => CloseReason::of(error),
    }
}

/// One of the two connections, waiting for the other.
pub(crate) struct Half {
    channel: Channel,
    instance: u64,
    carrier: Carrier,
    stream: TlsStream<Wire>,
}

/// Halves that wait, by who sent them and which pair they belong to. No more than there are visits, because each is
/// held by one.
pub(crate) type Halves = HashMap<(NodeId, [u8; 16]), oneshot::Sender<Half>>;

/// Brings the two halves together, data before control, in the task of the one that came first; for the second there
/// is nothing left to do.
async fn meet(
    shared: &Shared,
    key: (NodeId, [u8; 16]),
    half: Half,
    deadline: Instant,
) -> Result<Option<(Half, Half)>, CloseReason> {
    let (hand, mut other) = oneshot::channel();
    {
        let mut halves = shared.halves();
        if let Some(first) = halves.remove(&key) {
            return first
                .send(half)
                .map(|()| None)
                .map_err(|_| CloseReason::PairIncomplete);
        }
        halves.insert(key, hand);
    }
    let other = match timeout_at(deadline, &mut other).await {
        Ok(received) => received.map_err(|_| CloseReason::PairIncomplete)?,
        Err(_) => {
            shared.halves().remove(&key);
            return Err(CloseReason::PairIncomplete);
        }
    };
    match (half.channel, other.channel) {
        _ if half.instance != other.instance || half.carrier != other.carrier => Err(CloseReason::BadHello),
        (Channel::Data, Channel::Control) => Ok(Some((half, other))),
        (Channel::Control, Channel::Data) => Ok(Some((other, half))),
        _ => Err(CloseReason::BadHello),
    }
}

/// Lets the pair in as a link, or says why not.
async fn decide(
    shared: &Arc<Shared>,
    peer: NodeId,
    instance: u64,
    mut pair: Pair,
    deadline: Instant,
) -> Result<(), CloseReason> {
    let sender = link::new_sender(shared, peer)?;
    // No await from here to the spawn: an abort in between would leave a link without a task.
    let admitted = shared
        .registry()
        .admit_inbound(sender.clone(), instance, pair.carrier);
    match admitted {
        Ok(admission) => {
            shared.spawn_link(link::run(shared.clone(), pair, sender, admission, Some(deadline)));
            Ok(())
        }
        Err(reason) => {
            // Best effort: a peer that does not read its refusal finds the connection closed.
            let refusal = Some(Refusal::for_reason(reason));
            let _ = timeout_at(deadline, pair.say_hello(shared.instance, refusal)).await;
            Err(reason)
        }
    }
}

/// What one address is doing.
#[derive(Debug)]
struct Visitor {
    inside: usize,
    accepted: u32,
    window_start: Instant,
}

/// Counts connections that are not links yet, in all and by address.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inside: usize,
    visitors: HashMap<IpAddr, Visitor>,
}

impl Gate {
    fn enter(&mut self, address: IpAddr, now: Instant, config: &EndpointConfig) -> Result<(), CloseReason> {
        if self.inside >= config.max_handshakes {
            return Err(CloseReason::TooManyHandshakes);
        }
        let key = group(address);
        let limited = config.limit_loopback || !key.is_loopback();
        if !self.visitors.contains_key(&key) && self.visitors.len() >= MAX_ADDRESSES {
            self.visitors
                .retain(|_, visitor| visitor.inside > 0 || now - visitor.window_start < MINUTE);
            if self.visitors.len() >= MAX_ADDRESSES {
                return Err(CloseReason::TooManyAddresses);
            }
        }
        let fresh = Visitor {
            inside: 0,
            accepted: 0,
            window_start: now,
        };
        let visitor = self.visitors.entry(key).or_insert(fresh);
        if now - visitor.window_start >= MINUTE {
            visitor.accepted = 0;
            visitor.window_start = now;
        }
        if limited && visitor.inside >= config.max_handshakes_per_address {
            return Err(CloseReason::AddressBusy);
        }
        if limited && visitor.accepted >= config.accepts_per_minute_per_address {
            return Err(CloseReason::AddressTooOften);
        }
        visitor.inside += 1;
        visitor.accepted = visitor.accepted.saturating_add(1);
        self.inside += 1;
        Ok(())
    }

    fn leave(&mut self, address: IpAddr) {
        self.inside = self.inside.saturating_sub(1);
        if let Some(visitor) = self.visitors.get_mut(&group(address)) {
            visitor.inside = visitor.inside.saturating_sub(1);
        }
    }
}

/// What counts as one address: an IPv6 customer has a whole /64 and could use a new one for every attempt.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        canonical => canonical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EndpointConfig {
        EndpointConfig {
            max_handshakes: 10,
            max_handshakes_per_address: 2,
            accepts_per_minute_per_address: 3,
            ..EndpointConfig::default()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_few_at_once_and_few_a_minute() {
        let (mut gate, now, config) = (Gate::default(), Instant::now(), config());
        let flooder = address("192.0.2.1");
        let enter = |gate: &mut Gate, now| gate.enter(flooder, now, &config);
        assert_eq!(enter(&mut gate, now), Ok(()));
        assert_eq!(enter(&mut gate, now), Ok(()));
        assert_eq!(enter(&mut gate, now), Err(CloseReason::AddressBusy));
        gate.leave(flooder);
        assert_eq!(enter(&mut gate, now), Ok(()));
        gate.leave(flooder);
        assert_eq!(enter(&mut gate, now), Err(CloseReason::AddressTooOften));
        assert_eq!(enter(&mut gate, now + MINUTE), Ok(()));
        assert_eq!(gate.enter(address("192.0.2.2"), now, &config), Ok(()));
    }

    #[test]
    fn a_whole_ipv6_slash_64_is_one_address_and_mapped_ipv4_is_ipv4() {
        assert_eq!(
            group(address("2001:db8::1:2")),
            group(address("2001:db8::ffff:3"))
        );
        assert_ne!(group(address("2001:db8:0:1::1")), group(address("2001:db8::1")));
        assert_eq!(group(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn flood_from_many_addresses_meets_the_limit_for_all() {
        let (mut gate, now, config) = (Gate::default(), Instant::now(), config());
        let inside = (0..200u8).filter(|i| gate.enter(IpAddr::from([10, 0, 0, *i]), now, &config).is_ok());
        assert_eq!(inside.count(), 10);
        assert_eq!(
            gate.enter(address("10.1.0.1"), now, &config),
            Err(CloseReason::TooManyHandshakes)
        );
    }

    #[test]
    fn addresses_are_forgotten_after_their_minute_and_never_too_many() {
        let (mut gate, now, config) = (Gate::default(), Instant::now(), config());
        let visit = |gate: &mut Gate, number: u32, now| {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            let result = gate.enter(address, now, &config);
            if result.is_ok() {
                gate.leave(address);
            }
            result
        };
        for number in 0..MAX_ADDRESSES as u32 {
            assert_eq!(visit(&mut gate, number, now), Ok(()));
        }
        assert_eq!(
            visit(&mut gate, 1_000_000, now),
            Err(CloseReason::TooManyAddresses)
        );
        assert_eq!(visit(&mut gate, 1_000_000, now + MINUTE), Ok(()));
        assert_eq!(gate.visitors.len(), 1);
    }

    #[test]
    fn loopback_is_limited_only_if_told_so() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let mut config = config();
        for _ in 0..5 {
            assert_eq!(gate.enter(address("127.0.0.1"), now, &config), Ok(()));
        }
        config.limit_loopback = true;
        assert_eq!(
            gate.enter(address("127.0.0.1"), now, &config),
            Err(CloseReason::AddressBusy)
        );
    }
}
