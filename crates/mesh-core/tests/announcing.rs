//! What a whole core makes of announcements, its own and others', told by one neighbour.

#![allow(clippy::unwrap_used)] // a panic is how a test says no

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::announcement::{Announcement, Body, Head, OperatorCertificate};
use mesh_core::certificate::Price;
use mesh_core::check::check;
use mesh_core::core::{Announcing, Core, CoreConfig};
use mesh_core::event::{Input, LinkId, Output};
use mesh_core::identity::{Ed25519Verifier, Identity};
use mesh_core::message::{ControlMessage, RoutingUpdate};
use mesh_core::routing_policy::MeshMode;
use mesh_core::time::{Instant, Now, UnixMillis};
use mesh_core::verifier::BitcoinNetwork;

const LINK: LinkId = LinkId(1);
const HOUR: Duration = Duration::from_secs(3600);

fn identity(byte: u8) -> Identity {
    Identity::from_seed([byte; 32]).unwrap()
}

fn body() -> Bytes {
    let body = Body {
        price: Price {
            msat_per_unit: 5,
            payable: true,
        },
        operator: None,
        addresses: Vec::new(),
        neighbours: Vec::new(),
    };
    body.encode().unwrap()
}

struct Lab {
    core: Core,
    now: Now,
    number: u64,
}

impl Lab {
    /// Node 1 and its neighbour 2.
    fn new(announces: bool) -> Self {
        Self::announcing(Announcing {
            enabled: announces,
            ..Announcing::default()
        })
    }

    fn announcing(announcing: Announcing) -> Self {
        let now = Now {
            instant: Instant(0),
            unix: UnixMillis(1_700_000_000_000),
        };
        let config = CoreConfig {
            mode: MeshMode::Open,
            price_msat_per_unit: 0,
            network: BitcoinNetwork::Regtest,
            lightning_key: None,
            operator: None,
            announcing,
            free_bytes_per_second: 0,
            spending: Default::default(),
            route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
            account_secret: [9; 32],
            seed: [8; 32],
        };
        let core = Core::new(config, identity(1), Arc::new(Ed25519Verifier), now);
        let mut lab = Self { core, now, number: 0 };
        let peer = identity(2).node_id();
        lab.core.handle(now, Input::LinkUp { link: LINK, peer });
        lab
    }

    fn hears(&mut self, head: Head, body: Option<Bytes>) {
        self.number += 1;
        let update = RoutingUpdate {
            number: self.number,
            announcements: vec![Announcement { head, body }],
            routes: Vec::new(),
        };
        let frame = ControlMessage::RoutingUpdate(Box::new(update)).encode().unwrap();
        let message = check(&frame, &self.core.node_id(), &Ed25519Verifier).unwrap();
        let message = Box::new(message);
        self.core.handle(self.now, Input::Message { link: LINK, message });
    }

    /// Announcements that it told its neighbour by the end of this time. Nothing is acknowledged.
    fn tells(&mut self, within: Duration) -> Vec<Head> {
        let end = self.now + within;
        let mut heads = Vec::new();
        loop {
            while let Some(output) = self.core.poll_output() {
                if let Output::Transmit { frame, .. } = output
                    && let Ok(ControlMessage::RoutingUpdate(update)) = ControlMessage::decode(&frame)
                {
                    heads.extend(update.announcements.iter().map(|announcement| announcement.head));
                }
            }
            let Some(at) = self.core.next_timeout().filter(|at| *at <= end.instant) else {
                break;
            };
            self.now = self.now + (at - self.now.instant);
            self.core.handle(self.now, Input::Timeout);
        }
        self.now = end;
        heads
    }
}

#[test]
fn node_that_announces_nothing_keeps_silent_though_an_announcement_of_an_earlier_life_comes_back() {
    for announces in [false, true] {
        let mut lab = Lab::new(announces);
        let earlier = Head::sign(40, lab.now.unix + HOUR, &body(), &identity(1));
        lab.hears(earlier, Some(body()));
        let told = lab.tells(Duration::from_secs(5));
        assert_eq!(told.is_empty(), !announces);
        assert!(told.last().is_none_or(|head| head.seqno > 40));
    }
}

#[test]
fn certificate_of_the_operator_is_shown_until_its_end_and_no_longer() {
    let (me, operator) = (identity(1).node_id(), identity(7));
    let begin = UnixMillis(1_700_000_000_000);
    let mut lab = Lab::announcing(Announcing {
        certificate: Some(OperatorCertificate::sign(&me, &operator)),
        certificate_until: Some(begin + HOUR),
        ..Announcing::default()
    });
    let shown = |lab: &Lab| lab.core.routing().graph.facts(&me).unwrap().operator;
    lab.tells(HOUR - Duration::from_secs(1));
    assert_eq!(shown(&lab), Some(operator.node_id()));
    // Announcements are made anew every half hour.
    lab.tells(HOUR / 2 + Duration::from_secs(10));
    assert_eq!(shown(&lab), None);
}

#[test]
fn node_whose_announcement_is_made_anew_without_its_body_stays_in_the_graph_until_that_ends() {
    let mut lab = Lab::new(false);
    let origin = identity(9);
    lab.hears(Head::sign(1, lab.now.unix + HOUR, &body(), &origin), Some(body()));
    lab.tells(HOUR / 2);
    lab.hears(Head::sign(2, lab.now.unix + HOUR, &body(), &origin), None);
    lab.tells(HOUR - Duration::from_secs(1));
    assert!(lab.core.routing().graph.facts(&origin.node_id()).is_some());
    lab.tells(Duration::from_secs(10));
    assert!(lab.core.routing().graph.facts(&origin.node_id()).is_none());
}

#[test]
fn wall_clock_that_jumps_takes_nobody_out_of_the_graph() {
    let mut lab = Lab::new(false);
    let origin = identity(9);
    lab.hears(Head::sign(1, lab.now.unix + HOUR, &body(), &origin), Some(body()));
    lab.now.unix = lab.now.unix + 2 * HOUR;
    lab.tells(HOUR / 2);
    assert!(lab.core.routing().graph.facts(&origin.node_id()).is_some());
}
