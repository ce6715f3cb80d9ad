//! Refusals that docs/REFUSALS.md lists and no other test shows at a whole node.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::time::Duration;

use common::row;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Funding, QuotedSlice};
use mesh_core::identity::NodeId;
use mesh_core::limits::SEQUENCE_WINDOW;
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::TrafficClass;
use mesh_sim::{LinkSpec, NodeIndex, Random, RawPayer, Simulation};

/// BOLT 11, "please send 0.00025 BTC within one minute": of the main network, while everybody here is on regtest.
const MAINNET_INVOICE: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqf\
qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27k\
yke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";

fn quotes(sim: &mut Simulation, from: NodeIndex, to: NodeIndex) -> QuotedSlice {
    let path = sim.discover(from, to).unwrap()[0].path.clone();
    sim.quote(from, &path, TrafficClass::Paid, 500, Buying::Everywhere)
        .unwrap()
}

fn shown(invoice: &str, preimage: [u8; 32]) -> PaymentProof {
    PaymentProof::Lightning {
        invoice: invoice.to_owned(),
        preimage,
        amount_msats: 1_000_000,
        timestamp: 0,
        expires_at: u64::MAX,
    }
}

/// A opens over B with this proof and is refused by it for this reason; nobody's credit changes.
#[track_caller]
fn refused(
    sim: &mut Simulation,
    [a, b]: [NodeIndex; 2],
    slice: &QuotedSlice,
    proofs: Vec<(NodeId, PaymentProof)>,
    reason: DropReason,
) {
    let credit = sim.status(b).unwrap().payers_credit_msat;
    let refusal = sim.open(a, slice, Funding::Proofs(proofs)).unwrap_err();
    assert_eq!((refusal.reason, refusal.by), (reason, Some(sim.id(b))));
    assert_eq!(sim.status(b).unwrap().payers_credit_msat, credit);
    sim.audit().unwrap();
}

#[test]
fn invoice_of_another_network_is_refused_by_name() {
    let (mut sim, [a, b, c]) = row(1, [0, 3, 5]);
    let slice = quotes(&mut sim, a, c);
    let proofs = vec![(sim.id(b), shown(MAINNET_INVOICE, [1; 32]))];
    refused(&mut sim, [a, b], &slice, proofs, DropReason::WrongNetwork);
}

#[test]
fn paid_invoice_shown_after_redeem_by_is_expired() {
    let (mut sim, [a, b, c]) = row(2, [0, 3, 5]);
    let slice = quotes(&mut sim, a, c);
    let now = sim.now().unix;
    let mut pay = |invoice: &str| {
        let paid = sim.lightning.pay(a, invoice, u64::MAX, now, &mut Random::new(0));
        paid.unwrap().preimage
    };
    let proofs: Vec<_> = slice
        .payees
        .iter()
        .map(|payee| {
            let invoice = payee.invoice.clone().unwrap();
            let preimage = pay(&invoice);
            (payee.payee, shown(&invoice, preimage))
        })
        .collect();
    let last = slice.payees.iter().map(|payee| payee.redeem_by).max().unwrap();
    sim.run_for(last - now + Duration::from_secs(1));
    let slice = quotes(&mut sim, a, c);
    let credit = sim.status(b).unwrap().payers_credit_msat;
    let refusal = sim.open(a, &slice, Funding::Proofs(proofs)).unwrap_err();
    assert_eq!(
        (refusal.reason, refusal.by),
        (DropReason::ProofExpired, Some(sim.id(b)))
    );
    assert_eq!(sim.status(b).unwrap().payers_credit_msat, credit);
}

#[test]
fn packet_overtaken_by_more_than_the_window_is_too_old_and_draws_nothing() {
    let (mut sim, [_, b, c]) = row(3, [0, 3, 5]);
    let m = sim.add_villain();
    sim.connect(m, b, LinkSpec::default());
    sim.run_for(Duration::from_millis(100));
    let payer = RawPayer { me: m, via: b };
    let certificate = payer.discover(&mut sim, c).unwrap();
    let units = 2 * SEQUENCE_WINDOW;
    let request = payer
        .quote_request(&sim, certificate, TrafficClass::Paid, units, true)
        .unwrap();
    let quotes = payer.quotes(&mut sim, &request).unwrap();
    let proofs: Vec<_> = quotes
        .iter()
        .map(|quote| payer.pay(&mut sim, quote).unwrap())
        .collect();
    let mut session = payer
        .open(&mut sim, TrafficClass::Paid, &quotes, &proofs, 0)
        .unwrap();
    sim.inject(m, b, session.frame.clone());
    sim.settle();
    let now = sim.now().unix;
    let packets: Vec<_> = (0..=SEQUENCE_WINDOW)
        .map(|_| session.packet(now, b"overtaken").unwrap())
        .collect();
    for packet in &packets[1..] {
        sim.inject(m, b, packet.clone());
    }
    sim.settle();
    let credit = sim.status(b).unwrap().payers_credit_msat;
    sim.inject(m, b, packets[0].clone());
    sim.settle();
    assert_eq!(sim.drops(b, DropReason::TooOld), 1);
    assert_eq!(sim.status(b).unwrap().payers_credit_msat, credit);
    assert_eq!(sim.deliveries(c).len() as u64, SEQUENCE_WINDOW);
    sim.audit().unwrap();
}

#[test]
fn offer_one_msat_below_the_signed_prices_gets_no_quote() {
    let (mut sim, [_, b, c]) = row(4, [0, 3, 5]);
    let m = sim.add_villain();
    sim.connect(m, b, LinkSpec::default());
    sim.run_for(Duration::from_millis(100));
    let payer = RawPayer { me: m, via: b };
    let certificate = payer.discover(&mut sim, c).unwrap();
    let mut request = payer
        .quote_request(&sim, certificate, TrafficClass::Paid, 500, true)
        .unwrap();
    request.total_msat -= 1;
    let refused = payer.quotes(&mut sim, &request);
    assert_eq!(refused.unwrap_err(), DropReason::ShareTooSmall);
}
