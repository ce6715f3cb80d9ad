//! Sessions by hand: what they cost, how far they have got, whose they are.

use mesh_api::{MeshClient, OpenSessionRequest, PaymentProof, SessionInfo};
use mesh_core::spending::{ModuleName, SpendingCaps};

use crate::common::{PATIENCE, eventually};
use crate::line::{CAPS, Client, Line, opened};

async fn session(client: &Client, id: [u8; 16]) -> SessionInfo {
    client.get_session(id).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_tells_what_was_sent_what_arrived_and_what_is_left() {
    let line = Line::start(CAPS).await;
    let client = line.module("chat");
    let quote = line.quote(&client).await;
    let open = OpenSessionRequest {
        quote_id: quote.quote_id,
        payment_proof: None,
        max_fee_msat: None,
    };
    let fresh = opened(client.open_session(open).await.unwrap());
    assert_eq!(fresh.route, quote.route);
    assert_eq!((fresh.packets_sent, fresh.packets_receipted), (0, 0));
    assert!(
        fresh.units_remaining >= 100,
        "at least what was quoted: {}",
        fresh.units_remaining
    );

    let mut arrivals = line.nodes[2].node.handle().deliveries(Some("chat".to_owned()));
    let proof = PaymentProof::Session {
        session_id: fresh.session_id,
    };
    for number in 0..7u8 {
        let mut request = line.request(Some(proof.clone()));
        request.payload = vec![number; 2_000];
        let sent = client.send_packet(request).await.unwrap();
        assert!(sent.success, "{:?}", sent.error);
        assert_eq!(sent.route_length, 2);
        // Two units, at what a hundred cost in all.
        let msat = 2 * quote.total_fee_msat.div_ceil(100);
        assert_eq!(sent.estimated_cost_sats, msat.div_ceil(1000));
        let arrived = tokio::time::timeout(PATIENCE, arrivals.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(arrived.packet_id, sent.packet_id);
    }
    let now = session(&client, fresh.session_id).await;
    assert_eq!(
        (now.packets_sent, now.route.as_slice()),
        (7, quote.route.as_slice())
    );
    assert_eq!(now.expires_at_unix_ms, fresh.expires_at_unix_ms);
    assert_eq!(now.units_remaining, fresh.units_remaining - 14);
    let receipted = eventually("all receipts", async || {
        let now = session(&client, fresh.session_id).await;
        (now.packets_receipted == 7).then_some(now)
    })
    .await;
    assert_eq!(receipted.bytes_receipted, 7 * 2_000);

    // To anybody else it does not exist, and closed it is gone.
    let stranger = line.module("stranger");
    assert_eq!(stranger.get_session(fresh.session_id).await.unwrap(), None);
    assert!(client.close_session(fresh.session_id).await.unwrap().closed);
    assert_eq!(client.get_session(fresh.session_id).await.unwrap(), None);
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_looked_for_within_the_hops_and_the_time_that_were_asked_for() {
    let line = Line::start(CAPS).await;
    let client = line.module("chat");
    let route = |max_hops, timeout_seconds| mesh_api::DiscoverRouteRequest {
        destination: line.nodes[2].id().0,
        max_hops,
        timeout_seconds,
    };
    let near = client.discover_route(route(Some(1), Some(1))).await.unwrap();
    assert_eq!(near.route, None, "it is two hops away");
    assert!(
        (900..10_000).contains(&near.discovery_time_ms),
        "{}",
        near.discovery_time_ms
    );
    let found = client.discover_route(route(Some(2), Some(10))).await.unwrap();
    assert_eq!(found.route.unwrap().len(), 3);
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_name_on_the_socket_is_no_new_budget() {
    let line = Line::start(SpendingCaps {
        unidentified_day_msat: 14_000,
        ..CAPS
    })
    .await;
    let named = |name: &str| {
        let name = ModuleName::new(name).unwrap();
        MeshClient::new(line.api.for_client(blvm_mesh::api::Client::over_socket(name)))
    };
    let sent = named("one").send_packet(line.large_request()).await.unwrap();
    assert!(sent.success, "{:?}", sent.error);
    let refused = named("another").send_packet(line.large_request()).await.unwrap();
    let error = refused.error.unwrap();
    assert!(error.contains("unidentified_day_msat = 14000"), "{error}");
    line.stop().await;
}
