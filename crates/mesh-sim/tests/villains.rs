//! Crimes, each with the name it is refused by. The audit afterwards shows that nobody lost anything to them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::{SEEDS, row};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Event, Funding, QuotedSlice};
use mesh_core::identity::NodeId;
use mesh_core::message::{ControlMessage, Price, QuoteAnswer, RouteCertificate};
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{LinkSpec, NodeIndex, NodeSpec, RawPayer, RawSession, Simulation, Stage};

/// Honest A-B-C, and a real node M at B whose user is a villain.
fn with_a_bad_payer(seed: u64) -> (Simulation, [NodeIndex; 4]) {
    let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
    let m = sim.add_node(NodeSpec::paid(0));
    sim.connect(m, b, LinkSpec::default());
    sim.run_for(Duration::from_millis(100));
    (sim, [a, b, c, m])
}

/// Honest A-B-C, and a villain M without a core at B.
fn with_a_raw_villain(seed: u64) -> (Simulation, [NodeIndex; 4]) {
    let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
    let m = sim.add_villain();
    sim.connect(m, b, LinkSpec::default());
    sim.run_for(Duration::from_millis(100));
    (sim, [a, b, c, m])
}

fn quotes(sim: &mut Simulation, from: NodeIndex, to: NodeIndex) -> QuotedSlice {
    let path = sim.discover(from, to).unwrap()[0].path.clone();
    sim.quote(from, &path, TrafficClass::Paid, 500, Buying::Everywhere)
        .unwrap()
}

fn proof(invoice: &str, preimage: [u8; 32]) -> PaymentProof {
    PaymentProof::Lightning {
        invoice: invoice.to_owned(),
        preimage,
        amount_msats: 1_000_000,
        timestamp: 0,
        expires_at: u64::MAX,
    }
}

/// Pays all quotes of a slice over Lightning and returns the proofs.
fn pay_all(sim: &mut Simulation, payer: NodeIndex, slice: &QuotedSlice) -> Vec<(NodeId, PaymentProof)> {
    let now = sim.now().unix;
    let mut pay = |invoice: &str| {
        sim.lightning
            .pay(payer, invoice, u64::MAX, now, &mut mesh_sim::Random::new(0))
            .unwrap()
            .preimage
    };
    let payees = slice.payees.iter();
    payees
        .map(|payee| {
            let invoice = payee.invoice.clone().unwrap();
            (payee.payee, proof(&invoice, pay(&invoice)))
        })
        .collect()
}

/// M opens with these proofs and is refused by B for this reason.
#[track_caller]
fn refused(
    sim: &mut Simulation,
    m: NodeIndex,
    b: NodeIndex,
    slice: &QuotedSlice,
    proofs: Vec<(NodeId, PaymentProof)>,
    reason: DropReason,
) {
    let credit = sim.status(b).unwrap().payers_credit_msat;
    let refusal = sim.open(m, slice, Funding::Proofs(proofs)).unwrap_err();
    assert_eq!((refusal.reason, refusal.by), (reason, Some(sim.id(b))));
    assert_eq!(sim.status(b).unwrap().payers_credit_msat, credit);
}

#[test]
fn proof_of_somebody_else_is_worth_nothing_to_a_thief_and_everything_to_its_owner() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, m]) = with_a_bad_payer(seed);
        let owned = quotes(&mut sim, a, c);
        let proofs = pay_all(&mut sim, a, &owned);
        let stolen = quotes(&mut sim, m, c);
        refused(
            &mut sim,
            m,
            b,
            &stolen,
            proofs.clone(),
            DropReason::WrongAccountKey,
        );
        sim.open(a, &owned, Funding::Proofs(proofs)).unwrap();
        assert_eq!(sim.audit().unwrap().unredeemed, 0);
    }
}

#[test]
fn invoice_the_payer_made_for_himself_is_not_mine() {
    let (mut sim, [.., b, c, m]) = with_a_bad_payer(1);
    let slice = quotes(&mut sim, m, c);
    let (now, hour) = (sim.now().unix, Duration::from_secs(3600));
    let (invoice, _, preimage) = sim.lightning.issue(m, 1_000_000, [1; 32], hour, now).unwrap();
    let shown = vec![(sim.id(b), proof(&invoice, preimage))];
    refused(&mut sim, m, b, &slice, shown, DropReason::InvoiceNotMine);
    // Not even an invoice of B's own wallet that was never quoted, paid in full.
    let slice = quotes(&mut sim, m, c);
    let (invoice, ..) = sim.lightning.issue(b, 1_000_000, [1; 32], hour, now).unwrap();
    let paid = sim
        .lightning
        .pay(m, &invoice, u64::MAX, now, &mut mesh_sim::Random::new(0))
        .unwrap();
    let shown = vec![(sim.id(b), proof(&invoice, paid.preimage))];
    refused(&mut sim, m, b, &slice, shown, DropReason::InvoiceNotMine);
}

#[test]
fn preimage_without_a_settled_payment_is_no_money() {
    let (mut sim, [.., b, c, m]) = with_a_bad_payer(2);
    let slice = quotes(&mut sim, m, c);
    let invoice = slice.payees[0].invoice.clone().unwrap();
    let preimage = sim.lightning.preimage(&invoice).unwrap();
    let shown = vec![(sim.id(b), proof(&invoice, preimage))];
    refused(&mut sim, m, b, &slice, shown, DropReason::NotSettled);
    let slice = quotes(&mut sim, m, c);
    let shown = vec![(sim.id(b), proof(&invoice, [0; 32]))];
    refused(&mut sim, m, b, &slice, shown, DropReason::WrongPreimage);
    sim.audit().unwrap();
}

#[test]
fn payment_that_settles_a_moment_later_is_waited_for() {
    let (mut sim, [a, _, c, _]) = with_a_bad_payer(3);
    sim.lightning.spec.settles_after = Duration::from_secs(3);
    sim.establish_once(a, c, TrafficClass::Paid, 500).unwrap();
    assert_eq!(sim.audit().unwrap().unredeemed, 0);
}

#[test]
fn proof_shown_twice_buys_once() {
    for seed in SEEDS {
        let (mut sim, [.., b, c, m]) = with_a_bad_payer(seed);
        let slice = quotes(&mut sim, m, c);
        let proofs = pay_all(&mut sim, m, &slice);
        sim.open(m, &slice, Funding::Proofs(proofs.clone())).unwrap();
        let slice = quotes(&mut sim, m, c);
        refused(&mut sim, m, b, &slice, proofs, DropReason::AlreadyRedeemed);
        sim.audit().unwrap();
    }
}

#[test]
fn open_without_a_proof_is_refused_and_names_who_misses_payment() {
    let (mut sim, [.., b, c, m]) = with_a_bad_payer(4);
    let slice = quotes(&mut sim, m, c);
    refused(&mut sim, m, b, &slice, Vec::new(), DropReason::PaymentMissing);
    sim.audit().unwrap();
}

/// The villain's own paid session to C, over B.
fn raw_session(sim: &mut Simulation, [b, c, m]: [NodeIndex; 3]) -> RawSession {
    let payer = RawPayer { me: m, via: b };
    let certificate = payer.discover(sim, c).unwrap();
    let request = payer
        .quote_request(sim, certificate, TrafficClass::Paid, 20, true)
        .unwrap();
    let quotes = payer.quotes(sim, &request).unwrap();
    let proofs: Vec<_> = quotes
        .iter()
        .map(|quote| payer.pay(sim, quote).unwrap())
        .collect();
    let session = payer.open(sim, TrafficClass::Paid, &quotes, &proofs, 0).unwrap();
    sim.inject(m, b, session.frame.clone());
    sim.settle();
    assert!(session.is_acked(&sim.inbox(m)));
    session
}

#[test]
fn whoever_spends_more_than_he_paid_is_stopped_at_the_first_hop() {
    for seed in SEEDS {
        let (mut sim, [_, b, c, m]) = with_a_raw_villain(seed);
        let mut session = raw_session(&mut sim, [b, c, m]);
        let credit = sim.status(b).unwrap().payers_credit_msat;
        for _ in 0..100 {
            let packet = session.packet(sim.now().unix, b"more than I paid for").unwrap();
            sim.inject(m, b, packet);
        }
        sim.settle();
        let carried = sim.deliveries(c).len();
        assert!((20..100).contains(&carried));
        assert_eq!(sim.drops(b, DropReason::CreditSpent), 100 - carried);
        let told = session.refusals(&sim.inbox(m));
        assert!(
            told.iter()
                .all(|(hop, refusal)| (*hop, refusal.reason) == (0, DropReason::CreditSpent))
        );
        assert_eq!(told.len(), 1, "a flood of refused packets is no flood of errors");
        let left = sim.status(b).unwrap().payers_credit_msat;
        assert!(left < credit / carried as u64 + 1);
        sim.audit().unwrap();
    }
}

#[test]
fn expired_packet_is_carried_by_nobody() {
    let (mut sim, [_, b, c, m]) = with_a_raw_villain(1);
    let mut session = raw_session(&mut sim, [b, c, m]);
    let (expired, _) = session
        .source
        .packet("", b"late", mesh_core::time::UnixMillis(1))
        .unwrap();
    sim.inject(m, b, expired);
    sim.settle();
    assert_eq!(
        (sim.drops(b, DropReason::Expired), sim.deliveries(c).len()),
        (1, 0)
    );
    sim.audit().unwrap();
}

#[test]
fn second_open_with_the_same_quotes_is_refused_and_the_first_goes_on() {
    let (mut sim, [_, b, c, m]) = with_a_raw_villain(2);
    let payer = RawPayer { me: m, via: b };
    let certificate = payer.discover(&mut sim, c).unwrap();
    let request = payer
        .quote_request(&sim, certificate, TrafficClass::Paid, 20, true)
        .unwrap();
    let quotes = payer.quotes(&mut sim, &request).unwrap();
    let proofs: Vec<_> = quotes
        .iter()
        .map(|quote| payer.pay(&mut sim, quote).unwrap())
        .collect();
    let mut first = payer
        .open(&mut sim, TrafficClass::Paid, &quotes, &proofs, 0)
        .unwrap();
    let second = payer.open(&mut sim, TrafficClass::Paid, &quotes, &[], 1).unwrap();
    for frame in [&first.frame, &second.frame, &first.frame] {
        sim.inject(m, b, frame.clone());
        sim.settle();
    }
    assert_eq!(sim.drops(b, DropReason::DifferingOpen), 1);
    let heard = sim.inbox(m);
    assert!(heard.iter().any(|(_, frame)| Stage::of(frame) == Stage::Refused));
    assert!(first.is_acked(&heard) && !second.is_acked(&heard));
    let packet = first.packet(sim.now().unix, b"still here").unwrap();
    sim.inject(m, b, packet);
    sim.settle();
    assert_eq!(sim.deliveries(c).len(), 1);
    sim.audit().unwrap();
}

/// A's packets to C, recorded on the way from A to B.
fn recorded_packets(sim: &mut Simulation, [a, b, c]: [NodeIndex; 3]) -> Vec<Bytes> {
    let kept: Rc<RefCell<Vec<Bytes>>> = Rc::default();
    let keep = kept.clone();
    sim.tamper(
        a,
        b,
        Box::new(move |stage, frame| {
            if stage == Stage::Data {
                keep.borrow_mut().push(frame.clone());
            }
            vec![frame.clone()]
        }),
    );
    let trip = sim.establish(a, c, TrafficClass::Paid, 500).unwrap();
    for number in 0..10u8 {
        sim.send(a, trip.session, "", &[number; 50]).unwrap();
    }
    sim.settle();
    kept.take()
}

#[test]
fn packet_on_somebody_elses_session_and_replayed_packet_draw_nothing() {
    for seed in SEEDS {
        let (mut sim, [a, b, c, m]) = with_a_raw_villain(seed);
        let packets = recorded_packets(&mut sim, [a, b, c]);
        let credit = sim.status(b).unwrap().payers_credit_msat;
        for packet in &packets {
            sim.inject(m, b, packet.clone());
            sim.inject(a, b, packet.clone());
        }
        sim.settle();
        assert_eq!(sim.drops(b, DropReason::WrongHop), packets.len());
        assert_eq!(sim.drops(b, DropReason::Duplicate), packets.len());
        assert_eq!(sim.status(b).unwrap().payers_credit_msat, credit);
        assert_eq!(sim.deliveries(c).len(), packets.len());
        sim.audit().unwrap();
    }
}

/// B is a relay that flips one bit of every packet it passes on.
fn flipping(seed: u64, at: impl Fn(&[u8]) -> usize + 'static, reason: DropReason) {
    let (mut sim, [a, b, c]) = row(seed, [0, 3, 5]);
    let trip = sim.establish(a, c, TrafficClass::Paid, 500).unwrap();
    sim.tamper(
        b,
        c,
        Box::new(move |stage, frame| {
            let mut altered = frame.to_vec();
            if stage == Stage::Data {
                let at = at(&altered);
                altered[at] ^= 1;
            }
            vec![altered.into()]
        }),
    );
    let credit = sim.status(c).unwrap().payers_credit_msat;
    sim.send(a, trip.session, "", b"untouched").unwrap();
    sim.settle();
    assert_eq!((sim.drops(c, reason), sim.deliveries(c).len()), (1, 0));
    assert_eq!(
        sim.status(c).unwrap().payers_credit_msat,
        credit,
        "nothing is drawn for it"
    );
    sim.audit().unwrap();
}

#[test]
fn altered_payload_is_noticed_by_the_destination() {
    flipping(1, |frame| frame.len() - 17, DropReason::PayloadAltered);
}

#[test]
fn altered_header_breaks_the_tag() {
    // Sequence, expiry, the hop's own tag, and the payload's tag that all tags cover.
    flipping(2, |_| 30, DropReason::BadTag);
    flipping(3, |_| 39, DropReason::BadTag);
    flipping(4, |_| 44 + 16, DropReason::BadTag);
    flipping(5, |frame| frame.len() - 1, DropReason::BadTag);
}

#[test]
fn relay_that_swaps_an_invoice_is_found_out_before_anything_is_paid() {
    let (mut sim, [a, b, c]) = row(6, [0, 3, 5]);
    let (now, hour) = (sim.now().unix, Duration::from_secs(3600));
    let (mine, ..) = sim.lightning.issue(b, 5000, [1; 32], hour, now).unwrap();
    sim.tamper(
        b,
        a,
        Box::new(move |_, frame| {
            let Ok(ControlMessage::QuoteResponse(mut response)) = ControlMessage::decode(frame) else {
                return vec![frame.clone()];
            };
            if let QuoteAnswer::Quote(quote) = &mut response.answer {
                quote.invoice = Some(mine.clone());
            }
            vec![ControlMessage::QuoteResponse(response).encode().unwrap()]
        }),
    );
    let refusal = sim.establish_once(a, c, TrafficClass::Paid, 500).unwrap_err();
    assert_eq!(refusal.reason, DropReason::Timeout);
    assert!(sim.drops(a, DropReason::BadSignature) > 0);
    assert_eq!(sim.lightning.settled().count(), 0);
}

#[test]
fn relay_that_lowers_anothers_price_in_a_discovery_is_found_out() {
    let (mut sim, [a, b, c, d]) = row(7, [0, 3, 5, 2]);
    sim.tamper(
        b,
        a,
        Box::new(move |_, frame| {
            let Ok(ControlMessage::DiscoveryResponse(mut certificate)) = ControlMessage::decode(frame) else {
                return vec![frame.clone()];
            };
            certificate.destination_price.msat_per_unit = 0;
            vec![ControlMessage::DiscoveryResponse(certificate).encode().unwrap()]
        }),
    );
    assert_eq!(sim.discover(a, d).unwrap_err().reason, DropReason::NoRoute);
    assert!(sim.drops(a, DropReason::BadSignature) > 0);
    assert_eq!(sim.drops(c, DropReason::BadSignature), 0);
}

#[test]
fn answer_nobody_asked_for_is_dropped_by_requester_and_relay() {
    let (mut sim, [a, b, c, m]) = with_a_raw_villain(8);
    let free = Price {
        msat_per_unit: 0,
        payable: true,
    };
    let expires = sim.now().unix + Duration::from_secs(600);
    let me = sim.identity(m);
    let lure = |sim: &mut Simulation, path: &[NodeIndex], nonce| {
        let path = path.iter().map(|node| sim.id(*node)).collect();
        let certificate = RouteCertificate::sign(nonce, path, free, expires, &me);
        let frame = ControlMessage::DiscoveryResponse(certificate).encode().unwrap();
        sim.inject(m, b, frame);
        sim.settle();
    };
    lure(&mut sim, &[b, m], [1; 16]);
    assert_eq!(sim.drops(b, DropReason::Unsolicited), 1, "B asked for nothing");
    lure(&mut sim, &[a, b, m], [2; 16]);
    assert_eq!(
        sim.drops(b, DropReason::Unsolicited),
        2,
        "no such request passed B"
    );
    lure(&mut sim, &[a, c, m], [3; 16]);
    assert_eq!(sim.drops(b, DropReason::WrongHop), 1, "B is not on that path");
}

#[test]
fn flood_of_requests_is_bounded_and_others_are_served_meanwhile() {
    let (mut sim, [a, b, c, m]) = with_a_raw_villain(9);
    for number in 0..5000 {
        let request = RawPayer::discovery_request(&sim, number, c, &[m]);
        let frame = ControlMessage::DiscoveryRequest(request).encode().unwrap();
        sim.inject(m, b, frame);
    }
    let before = sim.now().instant;
    sim.establish_once(a, c, TrafficClass::Paid, 500).unwrap();
    assert!(sim.now().instant - before < Duration::from_secs(3));
    assert!(sim.drops(b, DropReason::RateLimited) > 3000);
    sim.audit().unwrap();
}

#[test]
fn loop_in_a_requests_path_is_refused() {
    let (mut sim, [a, b, c, m]) = with_a_raw_villain(10);
    let payer = RawPayer { me: m, via: b };
    for (number, path) in [&[m, b, m][..], &[a, c, a, m], &[m, a, m], &[a, c]]
        .into_iter()
        .enumerate()
    {
        let request = RawPayer::discovery_request(&sim, number as u64, c, path);
        payer
            .say(&mut sim, &ControlMessage::DiscoveryRequest(request))
            .unwrap();
        sim.settle();
        assert_eq!(sim.drops(b, DropReason::BadRoute), number + 1, "{path:?}");
    }
    assert!(sim.dropped(c).is_empty());
}

#[test]
fn neighbour_that_floods_copies_of_anothers_request_does_not_starve_the_honest_way() {
    // A-B-C, and a villain M beside B that hears A's request as early as B does and is quicker to pass it on.
    let (mut sim, [a, _, c]) = row(11, [0, 3, 5]);
    let m = sim.add_villain();
    let quick = LinkSpec {
        latency: Duration::from_micros(100),
        ..LinkSpec::default()
    };
    sim.connect(a, m, quick.clone());
    sim.connect(m, c, quick);
    sim.run_for(Duration::from_millis(100));
    let (destination, from) = (sim.id(c), sim.id(m));
    let id = sim.command(
        a,
        mesh_core::event::Command::Discover {
            destination,
            max_hops: 10,
            timeout: Duration::from_secs(10),
            refresh: false,
        },
    );
    let mut copied = 0;
    while !sim.is_answered(id) && sim.step() {
        for (_, frame) in sim.inbox(m) {
            if let Ok(ControlMessage::DiscoveryRequest(mut request)) = ControlMessage::decode(&frame) {
                request.path.push(from);
                let frame = ControlMessage::DiscoveryRequest(request).encode().unwrap();
                for _ in 0..20 {
                    sim.inject(m, c, frame.clone());
                }
                copied += 1;
            }
        }
    }
    assert!(copied > 0);
    let found = sim.wait(id).unwrap();
    assert!(found.is_ok(), "{found:?}");
}

#[test]
fn absurdly_priced_route_that_answers_first_does_not_hold_up_the_others() {
    let (mut sim, [a, _, c]) = row(12, [0, 3, 5]);
    let dear = sim.add_node(NodeSpec::paid(u64::MAX));
    let quick = LinkSpec {
        latency: Duration::from_micros(100),
        ..LinkSpec::default()
    };
    sim.connect(a, dear, quick.clone());
    sim.connect(dear, c, quick);
    sim.run_for(Duration::from_millis(100));
    let before = sim.now().instant;
    assert_eq!(sim.discover(a, c).unwrap().len(), 1);
    assert!(sim.now().instant - before < Duration::from_secs(2));
}

#[test]
fn old_refusal_shown_again_does_not_make_the_payer_forget_what_it_bought_since() {
    let (mut sim, [a, b, c]) = row(13, [0, 3, 5]);
    let errors: Rc<RefCell<Vec<Bytes>>> = Rc::default();
    let keep = errors.clone();
    sim.tamper(
        b,
        a,
        Box::new(move |stage, frame| {
            if stage == Stage::HopError {
                keep.borrow_mut().push(frame.clone());
            }
            vec![frame.clone()]
        }),
    );
    // The payer spends, is killed before it wrote that down, and is told better by B on a session of its next life.
    let first = sim.establish(a, c, TrafficClass::Paid, 10).unwrap();
    for _ in 0..5 {
        sim.send(a, first.session, "", b"x").unwrap();
    }
    sim.settle();
    sim.kill(a);
    sim.run_for(Duration::from_secs(1));
    sim.restart(a);
    sim.run_for(Duration::from_secs(1));
    let session = sim.establish(a, c, TrafficClass::Paid, 5).unwrap();
    while sim.send(a, session.session, "", b"x").is_ok() {}
    sim.settle();
    let is_spent = |event: &Event| matches!(event, Event::HopRefused { refusal, .. } if refusal.reason == DropReason::CreditSpent);
    assert!(sim.events(a).iter().any(is_spent));
    sim.establish(a, c, TrafficClass::Paid, 1000).unwrap();
    let bought = sim.status(a).unwrap().own_credit_msat;
    let old = errors.borrow().clone();
    for error in old {
        sim.inject(b, a, error);
    }
    sim.settle();
    assert_eq!(sim.status(a).unwrap().own_credit_msat, bought);
    sim.audit().unwrap();
}

#[test]
fn answer_to_an_open_never_goes_to_who_took_the_place_of_a_neighbour_that_left() {
    let (mut sim, [_, b, c, m]) = with_a_raw_villain(14);
    let payer = RawPayer { me: m, via: b };
    let certificate = payer.discover(&mut sim, c).unwrap();
    let request = payer
        .quote_request(&sim, certificate, TrafficClass::Paid, 20, true)
        .unwrap();
    let quotes = payer.quotes(&mut sim, &request).unwrap();
    sim.lightning.spec.settles_after = Duration::from_secs(3);
    let proofs: Vec<_> = quotes
        .iter()
        .map(|quote| payer.pay(&mut sim, quote).unwrap())
        .collect();
    let session = payer
        .open(&mut sim, TrafficClass::Paid, &quotes, &proofs, 0)
        .unwrap();
    sim.inject(m, b, session.frame.clone());
    sim.run_for(Duration::from_millis(100));
    sim.cut(m, b);
    sim.run_for(Duration::from_millis(100));
    let stranger = sim.add_villain();
    sim.connect(stranger, b, LinkSpec::default());
    sim.run_for(Duration::from_secs(10));
    let told_of_sessions = |(_, frame): &&(NodeIndex, bytes::Bytes)| Stage::of(frame) != Stage::RoutingUpdate;
    assert_eq!(sim.inbox(stranger).iter().filter(told_of_sessions).count(), 0);
    sim.audit().unwrap();
}
