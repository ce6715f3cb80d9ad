//! The ModuleAPI end to end: bytes in, packets over real links, real Lightning, bytes out.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

#[path = "../common/mod.rs"]
mod common;

#[cfg(unix)]
mod fairness;
mod line;
mod sessions;

use common::PATIENCE;
use line::{CAPS, Line, OFF, opened, payment_required, refused_open, refused_quote};
use mesh_api::{
    CloseSessionResponse, DiscoverRouteRequest, OpenSessionRequest, OpenSessionResponse, PayeeProof,
    PaymentProof,
};
use mesh_core::spending::SpendingCaps;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_finds_pays_and_sends_within_the_caps() {
    let line = Line::start(CAPS).await;
    let client = line.module("chat");
    let mut arrivals = line.nodes[2].node.handle().deliveries(Some("chat".to_owned()));
    let sent = client.send_packet(line.request(None)).await.unwrap();
    assert_eq!(
        (sent.success, sent.error.as_deref(), sent.route_length),
        (true, None, 2)
    );
    assert!(sent.estimated_cost_sats >= 1);
    let delivery = tokio::time::timeout(PATIENCE, arrivals.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        delivery.packet_id, sent.packet_id,
        "the id is the one on the wire"
    );
    assert_eq!(&delivery.payload[..], b"over two hops");

    let found = client
        .discover_route(DiscoverRouteRequest {
            destination: line.nodes[2].id().0,
            max_hops: Some(3),
            timeout_seconds: Some(5),
        })
        .await
        .unwrap();
    assert_eq!(found.route.unwrap().len(), 3);
    assert_eq!(client.get_node_id().await.unwrap(), line.nodes[0].id().0);
    assert_eq!(client.get_routing_stats().await.unwrap().routing.direct_peers, 1);
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_auto_pay_the_answer_is_a_quote_and_whoever_pays_it_may_send() {
    let line = Line::start(OFF).await;
    let client = line.module("chat");
    let before = line.balance();
    let refused = client.send_packet(line.request(None)).await.unwrap();
    let quote = payment_required(&client, refused, "auto-pay is off").await;
    line.devnet.wait_quiet().await.unwrap();
    assert_eq!(line.balance(), before, "nothing was paid");
    let asked: u64 = quote.payees.iter().map(|payee| payee.amount_msat).sum();
    assert_eq!((quote.route.len(), asked), (3, quote.total_fee_msat));

    let proof = line.pay_all(&quote).await;
    let mut arrivals = line.nodes[2].node.handle().deliveries(Some("chat".to_owned()));
    let sent = client.send_packet(line.request(Some(proof))).await.unwrap();
    assert!(sent.success, "{:?}", sent.error);
    let arrived = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap();
    assert_eq!(arrived.unwrap().packet_id, sent.packet_id);
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_on_a_packet_and_on_a_purchase_are_named_in_the_refusal() {
    let line = Line::start(SpendingCaps {
        per_packet_msat: 100,
        max_total_msat: 8_000,
        ..CAPS
    })
    .await;
    let client = line.module("chat");
    let before = line.balance();
    let too_dear = client.send_packet(line.large_request()).await.unwrap();
    payment_required(&client, too_dear, "per_packet_msat = 100").await;
    let too_much = client.send_packet(line.request(None)).await.unwrap();
    let quote = payment_required(&client, too_much, "max_total_msat = 8000").await;

    // The same for a session by hand, and what it would take is listed.
    let open = |max_fee_msat| OpenSessionRequest {
        quote_id: quote.quote_id,
        payment_proof: None,
        max_fee_msat,
    };
    match client.open_session(open(None)).await.unwrap() {
        OpenSessionResponse::Refused {
            reason,
            missing_payees,
        } => {
            assert!(reason.contains("max_total_msat"), "{reason}");
            assert_eq!(missing_payees, quote.payees);
        }
        opened => panic!("{opened:?}"),
    }
    line.devnet.wait_quiet().await.unwrap();
    assert_eq!(line.balance(), before, "nothing was paid");
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_own_limit_bounds_what_the_mesh_pays_for_it() {
    let line = Line::start(CAPS).await;
    let client = line.module("chat");
    let quote = line.quote(&client).await;
    let open = |max_fee_msat| OpenSessionRequest {
        quote_id: quote.quote_id,
        payment_proof: None,
        max_fee_msat,
    };
    let too_low = quote.total_fee_msat - 1;
    let refused = refused_open(client.open_session(open(Some(too_low))).await.unwrap());
    assert!(refused.contains("limit_reached"), "{refused}");
    let before = line.balance();
    let enough = quote.total_fee_msat + 4_000;
    opened(client.open_session(open(Some(enough))).await.unwrap());
    line.devnet.wait_quiet().await.unwrap();
    assert!(before - line.balance() <= enough);
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_module_has_its_own_budget_and_its_own_session_and_strangers_share_one_all_of_it_after_a_restart()
 {
    let mut line = Line::start(SpendingCaps {
        per_caller_day_msat: 14_000,
        unidentified_day_msat: 5_000,
        ..CAPS
    })
    .await;
    let (greedy, modest) = (line.module("greedy"), line.module("modest"));
    let before = line.balance();
    let sent = greedy.send_packet(line.large_request()).await.unwrap();
    assert!(sent.success, "{:?}", sent.error);
    // What is left of the slice does not carry another, and the budget buys no other.
    let refused = greedy.send_packet(line.large_request()).await.unwrap();
    payment_required(&greedy, refused, "per_caller_day_msat = 14000").await;
    line.devnet.wait_quiet().await.unwrap();
    let after_greedy = line.balance();
    assert!(before - after_greedy <= 14_000);

    let stranger = line.unidentified();
    let refused = stranger.send_packet(line.request(None)).await.unwrap();
    let error = refused.error.unwrap();
    assert!(error.contains("unidentified_day_msat = 5000"), "{error}");

    let sent = modest.send_packet(line.request(None)).await.unwrap();
    assert!(sent.success, "{:?}", sent.error);
    line.devnet.wait_quiet().await.unwrap();
    let after_modest = line.balance();
    assert!(
        after_modest < after_greedy,
        "its own session, out of its own budget"
    );

    line.restart_payer().await;
    let greedy = line.module("greedy");
    // Credit is there for it now, and it is not what this module's budget bought.
    let refused = greedy.send_packet(line.large_request()).await.unwrap();
    let quote = payment_required(&greedy, refused, "per_caller_day_msat").await;
    assert!(quote.payees.iter().all(|payee| payee.invoice.is_some()));
    line.devnet.wait_quiet().await.unwrap();
    assert_eq!(line.balance(), after_modest, "the restart refilled nothing");
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hour_the_day_and_the_destination_have_their_caps_for_all_callers_together() {
    for (caps, named) in [
        (
            SpendingCaps {
                per_hour_msat: 15_000,
                ..CAPS
            },
            "per_hour_msat = 15000",
        ),
        (
            SpendingCaps {
                per_day_msat: 15_000,
                ..CAPS
            },
            "per_day_msat = 15000",
        ),
        (
            SpendingCaps {
                per_destination_day_msat: 15_000,
                ..CAPS
            },
            "per_destination_day_msat = 15000",
        ),
    ] {
        let line = Line::start(caps).await;
        let sent = line
            .module("first")
            .send_packet(line.large_request())
            .await
            .unwrap();
        assert!(sent.success, "{:?}", sent.error);
        let second = line.module("second");
        let refused = second.send_packet(line.large_request()).await.unwrap();
        payment_required(&second, refused, named).await;
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotes_and_sessions_of_another_caller_are_unknown() {
    let line = Line::start(OFF).await;
    let (owner, thief) = (line.module("owner"), line.module("thief"));
    let quote = line.quote(&owner).await;
    let proof = line.pay_all(&quote).await;
    let open = || OpenSessionRequest {
        quote_id: quote.quote_id,
        payment_proof: Some(proof.clone()),
        max_fee_msat: None,
    };
    // The thief has seen everything, preimages too.
    let seen = refused_quote(thief.get_quote(quote.quote_id).await.unwrap());
    assert!(seen.starts_with("unknown_quote"), "{seen}");
    let stolen = refused_open(thief.open_session(open()).await.unwrap());
    assert!(stolen.starts_with("unknown_quote"), "{stolen}");
    let sent = thief
        .send_packet(line.request(Some(proof.clone())))
        .await
        .unwrap();
    assert!(!sent.success);
    assert!(
        sent.error
            .unwrap()
            .contains("pays no quote that this caller was given")
    );

    let session = opened(owner.open_session(open()).await.unwrap()).session_id;
    let over = Some(PaymentProof::Session { session_id: session });
    let error = thief
        .send_packet(line.request(over.clone()))
        .await
        .unwrap()
        .error
        .unwrap();
    assert!(error.starts_with("unknown_session"), "{error}");
    let CloseSessionResponse { closed, .. } = thief.close_session(session).await.unwrap();
    assert!(!closed);
    let sent = owner.send_packet(line.request(over)).await.unwrap();
    assert!(sent.success, "{:?}", sent.error);
    assert!(owner.close_session(session).await.unwrap().closed);
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_proof_counts_for_its_own_payee_and_the_others_are_listed_as_missing() {
    let line = Line::start(OFF).await;
    let client = line.module("chat");
    let quote = line.quote(&client).await;
    let for_router = line.pay(&quote, 0).await;
    let open = |payment_proof| OpenSessionRequest {
        quote_id: quote.quote_id,
        payment_proof,
        max_fee_msat: None,
    };
    match client.open_session(open(Some(for_router.clone()))).await.unwrap() {
        OpenSessionResponse::Refused { missing_payees, .. } => {
            let missing: Vec<_> = missing_payees.iter().map(|payee| payee.payee).collect();
            assert_eq!(missing, [line.nodes[2].id().0]);
        }
        opened => panic!("{opened:?}"),
    }
    // With the missing payee paid as well, the same quote opens, and the packet goes.
    let proof = |payee: usize, proof| PayeeProof {
        payee: quote.payees[payee].payee,
        proof,
    };
    let for_destination = line.pay(&quote, 1).await;
    let all = PaymentProof::Split {
        proofs: vec![proof(0, for_router), proof(1, for_destination)],
    };
    let mut arrivals = line.nodes[2].node.handle().deliveries(Some("chat".to_owned()));
    let sent = client.send_packet(line.request(Some(all))).await.unwrap();
    assert!(sent.success, "{:?}", sent.error);
    tokio::time::timeout(PATIENCE, arrivals.recv())
        .await
        .unwrap()
        .unwrap();
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_payees_are_paid_by_the_mesh_when_its_operator_allows() {
    let line = Line::start(CAPS).await;
    let client = line.module("chat");
    let quote = line.quote(&client).await;
    let for_router = line.pay(&quote, 0).await;
    let mut arrivals = line.nodes[2].node.handle().deliveries(Some("chat".to_owned()));
    let sent = client.send_packet(line.request(Some(for_router))).await.unwrap();
    assert!(sent.success, "{:?}", sent.error);
    tokio::time::timeout(PATIENCE, arrivals.recv())
        .await
        .unwrap()
        .unwrap();
    line.stop().await;
}
