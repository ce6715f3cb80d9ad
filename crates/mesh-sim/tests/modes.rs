//! What each mode carries, and for what.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::Event;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_sim::{LinkSpec, NodeIndex, NodeSpec, RawPayer, RawSession, Simulation};
use sha2::{Digest, Sha256};

fn row_of<const N: usize>(seed: u64, specs: [NodeSpec; N]) -> (Simulation, [NodeIndex; N]) {
    let mut sim = Simulation::new(seed);
    let nodes = specs.map(|spec| sim.add_node(spec));
    for pair in nodes.windows(2) {
        sim.connect(pair[0], pair[1], LinkSpec::default());
    }
    sim.run_for(Duration::from_millis(100));
    (sim, nodes)
}

/// A `ping` of the Bitcoin peer-to-peer protocol on regtest.
fn ping() -> Vec<u8> {
    let content = [7u8; 8];
    let checksum = Sha256::digest(Sha256::digest(content));
    let command = b"ping\0\0\0\0\0\0\0\0";
    [
        &[0xfa, 0xbf, 0xb5, 0xda][..],
        command,
        &8u32.to_le_bytes(),
        &checksum[..4],
        &content,
    ]
    .concat()
}

#[test]
fn open_network_carries_for_nothing_and_asks_no_wallet() {
    for class in [TrafficClass::Open, TrafficClass::Paid] {
        let spec = NodeSpec {
            payable: false,
            ..NodeSpec::free(MeshMode::Open)
        };
        let (mut sim, [a, .., d]) = row_of(1, [spec; 4]);
        let trip = sim.establish_once(a, d, class, 100).unwrap();
        assert_eq!((trip.quoted.total_msat, trip.opened.paid.len()), (0, 0));
        for _ in 0..300 {
            sim.send(a, trip.session, "", b"free").unwrap();
        }
        sim.settle();
        assert_eq!(sim.deliveries(d).len(), 300);
        sim.audit().unwrap();
    }
}

#[test]
fn free_traffic_beyond_the_quota_is_refused_and_comes_back_with_time() {
    let spec = NodeSpec {
        free_bytes_per_second: 1_000_000,
        ..NodeSpec::free(MeshMode::Open)
    };
    let (mut sim, [a, b, c]) = row_of(2, [spec; 3]);
    let trip = sim.establish_once(a, c, TrafficClass::Open, 100).unwrap();
    for _ in 0..100 {
        sim.send(a, trip.session, "", &[0; 100_000]).unwrap();
    }
    sim.settle();
    let carried = sim.deliveries(c).len();
    assert!((19..24).contains(&carried), "{carried}");
    assert!(sim.drops(b, DropReason::FreeQuotaSpent) > 70);
    sim.send(a, trip.session, "", &[0; 100_000]).unwrap();
    sim.settle();
    assert_eq!(sim.deliveries(c).len(), carried + 1);
}

#[test]
fn bitcoin_only_node_refuses_everything_else_by_name() {
    let spec = NodeSpec::free(MeshMode::BitcoinOnly);
    for class in TrafficClass::ALL {
        let (mut sim, [a, b, c]) = row_of(3, [NodeSpec::paid(0), spec, NodeSpec::paid(5)]);
        let outcome = sim.establish_once(a, c, class, 100);
        match (class, outcome) {
            (TrafficClass::BitcoinP2p, Ok(trip)) => {
                sim.send(a, trip.session, "", &ping()).unwrap();
                sim.settle();
                assert_eq!(sim.deliveries(c).len(), 1);
            }
            (TrafficClass::BitcoinP2p, Err(refusal)) => panic!("{refusal}"),
            (_, Ok(_)) => panic!("{class} is carried"),
            (_, Err(refusal)) => {
                assert_eq!(refusal.reason, DropReason::ClassRefused, "{class}");
                assert!(
                    refusal.by == Some(sim.id(b)) || refusal.by == Some(sim.id(c)),
                    "{class}"
                );
                assert_eq!(sim.lightning.settled().count(), 0, "nothing was paid for it");
            }
        }
        sim.audit().unwrap();
    }
}

#[test]
fn named_free_class_costs_nothing_at_nodes_that_charge_for_the_rest() {
    let (mut sim, [a, .., c]) = row_of(4, [NodeSpec::paid(0), NodeSpec::paid(30), NodeSpec::paid(50)]);
    let trip = sim.establish_once(a, c, TrafficClass::BitcoinP2p, 100).unwrap();
    assert_eq!(trip.quoted.total_msat, 0);
    sim.send(a, trip.session, "bitcoin", &ping()).unwrap();
    sim.settle();
    assert_eq!(&sim.deliveries(c)[0].payload[..], ping());
    assert_eq!(sim.lightning.settled().count(), 0);
    sim.audit().unwrap();
}

/// A villain's free session of class `bitcoin_p2p` to C over the router B.
fn bitcoin_session(seed: u64) -> (Simulation, [NodeIndex; 3], RawSession) {
    let (mut sim, [b, c]) = row_of(seed, [NodeSpec::paid(3), NodeSpec::paid(5)]);
    let m = sim.add_villain();
    sim.connect(m, b, LinkSpec::default());
    sim.run_for(Duration::from_millis(100));
    let payer = RawPayer { me: m, via: b };
    let certificate = payer.discover(&mut sim, c).unwrap();
    let class = TrafficClass::BitcoinP2p;
    let mut request = payer.quote_request(&sim, certificate, class, 20, false).unwrap();
    request.total_msat = 0;
    let quotes = payer.quotes(&mut sim, &request).unwrap();
    let session = payer.open(&mut sim, class, &quotes, &[], 0).unwrap();
    sim.inject(m, b, session.frame.clone());
    sim.settle();
    assert!(session.is_acked(&sim.inbox(m)));
    (sim, [b, c, m], session)
}

#[test]
fn data_smuggled_under_a_free_class_is_stopped_at_the_first_router() {
    let (mut sim, [b, c, m], mut session) = bitcoin_session(5);
    for payload in [&b"a letter to my aunt"[..], &[], &[ping(), vec![0]].concat()] {
        let packet = session.packet(sim.now().unix, payload).unwrap();
        sim.inject(m, b, packet);
        sim.run_for(Duration::from_secs(1));
    }
    let honest = session.packet(sim.now().unix, &ping()).unwrap();
    sim.inject(m, b, honest);
    sim.settle();
    assert_eq!(sim.drops(b, DropReason::ContentMismatch), 3);
    assert!(sim.dropped(c).is_empty());
    assert_eq!(sim.deliveries(c).len(), 1);
    let told = session.refusals(&sim.inbox(m));
    assert!(
        told.iter()
            .all(|(hop, refusal)| (*hop, refusal.reason) == (0, DropReason::ContentMismatch))
    );
    assert_eq!(told.len(), 3);
}

#[test]
fn node_without_a_wallet_refuses_paid_traffic_by_name() {
    let poor = NodeSpec {
        payable: false,
        ..NodeSpec::paid(3)
    };
    let (mut sim, [a, b, c]) = row_of(6, [NodeSpec::paid(0), poor, NodeSpec::paid(5)]);
    let refusal = sim.establish_once(a, c, TrafficClass::Paid, 100).unwrap_err();
    assert_eq!(
        (refusal.reason, refusal.by),
        (DropReason::PaymentsUnavailable, Some(sim.id(b)))
    );
    assert_eq!(sim.lightning.settled().count(), 0);
}

#[test]
fn limit_of_the_payer_is_kept_and_names_who_stays_unpaid() {
    let (mut sim, [a, b, c]) = row_of(7, [NodeSpec::paid(0), NodeSpec::paid(3), NodeSpec::paid(5)]);
    let path = sim.discover(a, c).unwrap()[0].path.clone();
    let quoted = sim
        .quote(
            a,
            &path,
            TrafficClass::Paid,
            100,
            mesh_core::event::Buying::WhereNeeded,
        )
        .unwrap();
    let funding = mesh_core::event::Funding::Wallet {
        proofs: Vec::new(),
        max_total_msat: quoted.total_msat - 1,
        max_fee_msat: 1000,
        keep_funded: false,
    };
    let refusal = sim.open(a, &quoted, funding).unwrap_err();
    assert_eq!(refusal.reason, DropReason::LimitReached);
    assert_eq!(refusal.missing, [b, c].map(|node| sim.id(node)));
    assert_eq!(sim.lightning.settled().count(), 0);
}

#[test]
fn payment_is_announced_once_by_each_payee() {
    let (mut sim, [a, b, c]) = row_of(8, [NodeSpec::paid(0), NodeSpec::paid(3), NodeSpec::paid(5)]);
    sim.establish_once(a, c, TrafficClass::Paid, 100).unwrap();
    for node in [b, c] {
        let verified = sim
            .events(node)
            .iter()
            .filter(|event| matches!(event, Event::PaymentVerified { .. }));
        assert_eq!(verified.count(), 1);
    }
}
