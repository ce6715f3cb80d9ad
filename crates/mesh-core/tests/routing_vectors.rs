//! The test vectors of PROTOCOL.md for announcements, routing updates and requests. What is signed is put together here a
//! second time from the document's words alone.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a panic is how a test says no

mod vectors;

use mesh_core::announcement::{Announcement, Body, Head, ListedNeighbour, OperatorCertificate};
use mesh_core::identity::{Ed25519Verifier, Identity, SignatureContext, SignatureVerifier};
use mesh_core::message::{
    ControlMessage, DiscoveryMode, DiscoveryRequest, Price, RoutingUpdate, SeqnoRequest,
};
use mesh_core::routing::Plane;
use mesh_core::routing::update::{Distance, INFINITE, RouteUpdate};
use mesh_core::time::UnixMillis;
use vectors::Vectors;

/// The moment all vectors are made at, and an hour later.
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const EXPIRES: UnixMillis = UnixMillis(NOW.0 + 3_600_000);

fn identity(byte: u8) -> Identity {
    Identity::from_seed([byte; 32]).unwrap()
}

fn body() -> Body {
    let origin = identity(0x0b).node_id();
    Body {
        price: Price {
            msat_per_unit: 4,
            payable: true,
        },
        operator: Some(OperatorCertificate::sign(&origin, &identity(0x0c))),
        addresses: vec!["192.0.2.1:8334".to_owned()],
        neighbours: vec![ListedNeighbour {
            node: identity(0x0a).node_id(),
            cost: 11,
        }],
    }
}

#[test]
fn announcement() {
    let mut vectors = Vectors::default();
    let (origin, bytes) = (identity(0x0b), body().encode().unwrap());
    let head = Head::sign(7, EXPIRES, &bytes, &origin);
    let digest = blake3::hash(&bytes);
    let signed = [
        &origin.node_id().0[..],
        &7u64.to_be_bytes(),
        &EXPIRES.0.to_be_bytes(),
        digest.as_bytes(),
    ]
    .concat();
    let verified = Ed25519Verifier.verify(
        &origin.node_id(),
        SignatureContext::Announcement,
        &signed,
        &head.signature,
    );
    assert!(verified);
    vectors.add("body", &bytes);
    vectors.add("body digest", digest.as_bytes());
    vectors.add("bytes the origin signs, behind the context", signed);
    vectors.add("origin's signature", head.signature.0);
    vectors.assert_written("announcement");
}

#[test]
fn routing_messages() {
    let mut vectors = Vectors::default();
    let bytes = body().encode().unwrap();
    let head = Head::sign(7, EXPIRES, &bytes, &identity(0x0b));
    let update = RoutingUpdate {
        number: 1,
        announcements: vec![Announcement { head, body: None }],
        routes: vec![RouteUpdate {
            origin: identity(0x0b).node_id(),
            planes: [
                Some(Distance { seqno: 7, metric: 11 }),
                Some(Distance {
                    seqno: 6,
                    metric: INFINITE,
                }),
            ],
        }],
    };
    let request = SeqnoRequest {
        origin: identity(0x0b).node_id(),
        plane: Plane::Hops,
        seqno: 7,
        hops: 64,
    };
    let messages = [
        ("update", ControlMessage::RoutingUpdate(Box::new(update))),
        ("acknowledgement", ControlMessage::RoutingAck { number: 1 }),
        ("request for a seqno", ControlMessage::SeqnoRequest(request)),
    ];
    for (name, message) in messages {
        let frame = message.encode().unwrap();
        assert_eq!(ControlMessage::decode(&frame).unwrap(), message);
        vectors.add(name, &frame);
    }
    vectors.assert_written("routing messages");
}

#[test]
fn discovery_requests() {
    let mut vectors = Vectors::default();
    let id = |byte| identity(byte).node_id();
    let request = |mode| DiscoveryRequest {
        nonce: [0xd0; 16],
        destination: id(0x0b),
        max_hops: 10,
        deadline: UnixMillis(NOW.0 + 30_000),
        path: vec![id(0x01)],
        mode,
    };
    let modes = [
        (
            "along a route",
            DiscoveryMode::Route {
                ahead: vec![id(0x0a), id(0x0b)],
            },
        ),
        (
            "as a branch",
            DiscoveryMode::Branch {
                tag: 1,
                avoid: vec![id(0x0d)],
            },
        ),
        ("in a ring", DiscoveryMode::Ring { avoid: Vec::new() }),
    ];
    for (name, mode) in modes {
        let frame = ControlMessage::DiscoveryRequest(request(mode)).encode().unwrap();
        vectors.add(name, frame);
    }
    vectors.assert_written("discovery requests");
}
