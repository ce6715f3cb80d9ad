//! Links over streams that are no sockets: pipes in memory stand for any carrier.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_core::identity::{Identity, NodeId};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{
    CarriedDial, CarriedPair, Carrier, Channel, CloseReason, DialError, Endpoint, EndpointConfig, LinkEvent,
    Transport,
};

/// Longer than anything here takes; only a broken link layer ever waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    id: NodeId,
    endpoint: Endpoint,
    events: mpsc::Receiver<LinkEvent>,
}

fn config() -> EndpointConfig {
    EndpointConfig {
        listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        initial_backoff: Duration::from_millis(20),
        max_backoff: Duration::from_millis(100),
        ..EndpointConfig::default()
    }
}

fn start(seed: u8, config: EndpointConfig) -> Node {
    let (sender, events) = mpsc::channel(16);
    let identity = Identity::from_seed([seed; 32]).unwrap();
    Node {
        id: identity.node_id(),
        endpoint: Endpoint::bind(config, &identity, sender).unwrap(),
        events,
    }
}

fn pair(data: DuplexStream, control: DuplexStream) -> CarriedPair {
    CarriedPair {
        data: Box::new(data),
        control: Box::new(control),
        address: SocketAddr::from(([10, 0, 0, 1], 8333)),
    }
}

impl Node {
    async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn up(&mut self) -> (NodeId, bool, Carrier) {
        match self.next().await {
            LinkEvent::Up {
                peer,
                dialled,
                carrier,
                ..
            } => (peer, dialled, carrier),
            other => panic!("expected Up, got {other:?}"),
        }
    }

    async fn down(&mut self) -> CloseReason {
        match self.next().await {
            LinkEvent::Down { reason, .. } => reason,
            other => panic!("expected Down, got {other:?}"),
        }
    }

    /// Dials `other` over pipes.
    async fn carry_to(&self, other: &Node, expected: Option<NodeId>) -> CarriedDial {
        let (data, far_data) = tokio::io::duplex(64 * 1024);
        let (control, far_control) = tokio::io::duplex(64 * 1024);
        other
            .endpoint
            .carrier_port()
            .accept(pair(far_data, far_control))
            .unwrap();
        self.endpoint
            .carrier_port()
            .dial(pair(data, control), expected)
            .await
    }
}

#[tokio::test]
async fn stranger_over_a_carrier_is_learnt_proven_and_exchanges_frames() {
    let (mut a, mut b) = (start(1, config()), start(2, config()));
    let dialled = a.carry_to(&b, None).await;
    assert_eq!((dialled.peer, dialled.outcome), (Some(b.id), Ok(())));
    assert_eq!(a.up().await, (b.id, true, Carrier::Node));
    let LinkEvent::Up { sender, peer, .. } = b.next().await else {
        panic!("no link");
    };
    assert_eq!(peer, a.id);
    sender.try_send_data(vec!["over the carrier".into()]).unwrap();
    match a.next().await {
        LinkEvent::Frames { frames, channel, .. } => {
            assert_eq!(
                (channel, frames),
                (Channel::Data, vec!["over the carrier".into()])
            );
        }
        other => panic!("expected frames, got {other:?}"),
    }
}

#[tokio::test]
async fn somebody_else_than_expected_is_refused_by_name() {
    let (a, b) = (start(1, config()), start(2, config()));
    let expected = start(3, config()).id;
    let dialled = a.carry_to(&b, Some(expected)).await;
    let wrong = DialError::WrongIdentity {
        expected,
        found: b.id,
    };
    assert_eq!((dialled.peer, dialled.outcome), (None, Err(wrong)));
    assert_eq!(a.endpoint.live_links() + b.endpoint.live_links(), 0);
    assert_eq!(a.endpoint.counters().closed(CloseReason::WrongIdentity), 1);
}

#[tokio::test]
async fn stranger_that_is_not_on_the_list_gets_no_link_in_either_role() {
    let listed = EndpointConfig {
        allowed_peers: Some([start(9, config()).id].into()),
        ..config()
    };
    let (a, b) = (start(1, listed.clone()), start(2, config()));
    let refused = a.carry_to(&b, None).await;
    assert_eq!(refused.outcome, Err(DialError::Unneeded(CloseReason::NotAllowed)));
    let refused = b.carry_to(&a, None).await;
    assert!(
        matches!(refused.outcome, Err(DialError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(a.endpoint.live_links() + b.endpoint.live_links(), 0);
}

#[tokio::test]
async fn direct_link_takes_the_place_of_a_carried_one_whoever_dials() {
    for low_dials in [true, false] {
        let (mut a, mut b) = (start(1, config()), start(2, config()));
        a.carry_to(&b, None).await.outcome.unwrap();
        assert_eq!((a.up().await.2, b.up().await.2), (Carrier::Node, Carrier::Node));
        let (dialler, listener) = if (a.id < b.id) == low_dials {
            (&a, &b)
        } else {
            (&b, &a)
        };
        let address = listener.endpoint.local_addr().unwrap();
        dialler.endpoint.add_peer(address, listener.id).unwrap();
        for node in [&mut a, &mut b] {
            let reason = node.down().await;
            assert!(
                matches!(reason, CloseReason::Superseded | CloseReason::PeerClosed),
                "{reason}"
            );
            assert_eq!(node.up().await.2, Carrier::Direct);
        }
    }
}

#[tokio::test]
async fn carried_link_never_disturbs_a_direct_one() {
    let (mut a, mut b) = (start(1, config()), start(2, config()));
    a.endpoint
        .add_peer(b.endpoint.local_addr().unwrap(), b.id)
        .unwrap();
    a.up().await;
    b.up().await;
    for (one, other) in [(&a, &b), (&b, &a)] {
        let refused = one.carry_to(other, None).await;
        assert_eq!(refused.outcome, Err(DialError::Unneeded(CloseReason::Duplicate)));
        assert_eq!(refused.peer, Some(other.id));
    }
    assert_eq!(a.endpoint.carrier_port().link_to(&b.id), Some(Carrier::Direct));
    assert_eq!(a.endpoint.counters().links_up, 1);
}

#[tokio::test]
async fn a_full_node_refuses_strangers_over_a_carrier_too() {
    let one = EndpointConfig {
        max_peers: 1,
        ..config()
    };
    let (a, mut b, c) = (start(1, config()), start(2, one), start(3, config()));
    a.carry_to(&b, None).await.outcome.unwrap();
    b.up().await;
    let refused = c.carry_to(&b, None).await;
    assert!(
        matches!(refused.outcome, Err(DialError::Refused(_))),
        "{refused:?}"
    );
    let refused = b.carry_to(&c, None).await;
    assert_eq!(refused.outcome, Err(DialError::Unneeded(CloseReason::PeersFull)));
}

#[tokio::test]
async fn a_flood_of_carried_streams_meets_the_limits_of_connections() {
    let b = start(2, config());
    let port = b.endpoint.carrier_port();
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let (data, far_data) = tokio::io::duplex(64);
        let (control, far_control) = tokio::io::duplex(64);
        held.push((data, control));
        match port.accept(pair(far_data, far_control)) {
            Ok(()) => {}
            Err(reason) => {
                assert_eq!(reason, CloseReason::AddressBusy);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 16);
}
