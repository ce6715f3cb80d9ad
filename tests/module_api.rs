//! The ModuleAPI end to end: bytes in, packets over real links, real Lightning, bytes out.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

mod common;

use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::api::{AutoPay, MeshModuleApi};
use blvm_mesh::wallet::devnet::Devnet;
use blvm_mesh::wallet::{PayRequest, Wallet};
use common::{PATIENCE, TestNode, wait_linked};
use mesh_api::{
    DiscoverRouteRequest, MeshClient, OpenSessionRequest, OpenSessionResponse, PayeeProof, PaymentProof,
    QuoteRouteRequest, QuoteRouteResponse, RouteQuote, SendPacketRequest,
};
use mesh_core::routing_policy::MeshMode;

const AUTO_PAY: AutoPay = AutoPay {
    max_total_msat: 10_000_000,
    max_fee_msat: 100_000,
};

struct Line {
    devnet: Devnet,
    nodes: Vec<TestNode>,
}

impl Line {
    /// Payer, router, destination, each with a Lightning node.
    async fn start() -> Self {
        let devnet = Devnet::line(3, 1_000_000, 7).await.unwrap();
        let mut nodes = Vec::new();
        for index in 0..3u8 {
            let wallet = devnet.wallet(usize::from(index)).unwrap();
            nodes.push(TestNode::start(index + 1, MeshMode::PaymentGated, wallet).await);
        }
        nodes[0].connect(&nodes[1]);
        nodes[1].connect(&nodes[2]);
        wait_linked(&[(&nodes[0], 1), (&nodes[1], 2), (&nodes[2], 1)]).await;
        Self { devnet, nodes }
    }

    fn client(&self, auto_pay: AutoPay) -> MeshClient<Arc<MeshModuleApi>> {
        MeshClient::new(Arc::new(MeshModuleApi::new(
            self.nodes[0].node.handle().clone(),
            auto_pay,
        )))
    }

    fn request(&self, payment_proof: Option<PaymentProof>) -> SendPacketRequest {
        SendPacketRequest {
            destination: self.nodes[2].id().0,
            payload: b"over two hops".to_vec(),
            payment_proof,
            protocol_id: Some("chat".to_owned()),
            ttl: Some(30),
        }
    }

    async fn quote(&self, client: &MeshClient<Arc<MeshModuleApi>>) -> RouteQuote {
        let request = QuoteRouteRequest {
            destination: self.nodes[2].id().0,
            max_hops: None,
            timeout_seconds: Some(10),
            units: 100,
            max_fee_msat: None,
            avoid: Vec::new(),
            method: Default::default(),
        };
        match client.quote_route(request).await.unwrap() {
            QuoteRouteResponse::Quoted(quote) => quote,
            QuoteRouteResponse::Refused { reason } => panic!("{reason}"),
        }
    }

    /// Pays one quoted invoice from the payer's wallet, as a module with a wallet of its own would.
    async fn pay(&self, quote: &RouteQuote, payee: usize) -> PaymentProof {
        let quoted = &quote.payees[payee];
        let invoice = quoted.invoice.clone().unwrap();
        let request = PayRequest {
            bolt11: invoice.clone(),
            max_fee_msat: 10_000,
            max_cltv_blocks: mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS,
            timeout: Duration::from_secs(20),
        };
        let paid = self.devnet.wallet(0).unwrap().pay(request).await.unwrap();
        PaymentProof::Lightning {
            invoice,
            preimage: paid.preimage,
            amount_msats: paid.amount_msat,
            timestamp: 0,
            expires_at: quoted.redeem_by_unix_ms / 1000,
        }
    }

    async fn stop(self) {
        for node in self.nodes {
            node.node.stop().await;
        }
        self.devnet.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_finds_pays_and_sends_within_the_limits() {
    let line = Line::start().await;
    let client = line.client(AUTO_PAY);
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
async fn without_auto_pay_the_answer_says_that_payment_is_required() {
    let line = Line::start().await;
    let client = line.client(AutoPay::default());
    let before = line.devnet.wallet(0).unwrap().balance_msat();
    let refused = client.send_packet(line.request(None)).await.unwrap();
    assert!(!refused.success);
    assert!(refused.error.unwrap().contains("payment required"));
    line.devnet.wait_quiet().await.unwrap();
    assert_eq!(
        line.devnet.wallet(0).unwrap().balance_msat(),
        before,
        "nothing was paid"
    );
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_proof_counts_for_its_own_payee_and_the_others_are_listed_as_missing() {
    let line = Line::start().await;
    let client = line.client(AutoPay::default());
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
    let line = Line::start().await;
    let client = line.client(AUTO_PAY);
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
