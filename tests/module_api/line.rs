//! A payer, a router and a destination with real Lightning, and the payer's API.

use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::api::{CallerApi, MeshModuleApi};
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::wallet::devnet::Devnet;
use blvm_mesh::wallet::{PayRequest, Wallet};
use mesh_api::{
    MeshClient, OpenSessionResponse, PayeeProof, PaymentProof, QuoteRouteRequest, QuoteRouteResponse,
    RouteQuote, SendPacketRequest, SendPacketResponse, SessionInfo,
};
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::{Caller, ModuleName, SpendingCaps};

use crate::common::{TestNode, node_config, wait_linked};

/// A slice over this line costs some 8,600 msat and two Lightning fees.
pub(crate) const CAPS: SpendingCaps = SpendingCaps {
    per_packet_msat: 10_000,
    max_total_msat: 20_000,
    per_hour_msat: 100_000,
    per_day_msat: 100_000,
    per_destination_day_msat: 100_000,
    per_caller_day_msat: 50_000,
    unidentified_day_msat: 50_000,
    max_fee_msat: 2_000,
};

pub(crate) const OFF: SpendingCaps = SpendingCaps {
    max_total_msat: 0,
    ..CAPS
};

pub(crate) type Client = MeshClient<CallerApi>;

pub(crate) struct Line {
    pub(crate) devnet: Devnet,
    pub(crate) nodes: Vec<TestNode>,
    caps: SpendingCaps,
    pub(crate) api: Arc<MeshModuleApi>,
}

impl Line {
    /// Payer, router, destination, each with a Lightning node; the payer pays by itself within the caps.
    pub(crate) async fn start(caps: SpendingCaps) -> Self {
        let devnet = Devnet::line(3, 1_000_000, 7).await.unwrap();
        let mut nodes = vec![];
        for index in 0..3u8 {
            let wallet = devnet.wallet(usize::from(index)).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let config = NodeConfig {
                spending: if index == 0 { caps } else { SpendingCaps::default() },
                ..node_config(index + 1, MeshMode::PaymentGated, wallet, &directory)
            };
            let node = RunningNode::start(config).await.unwrap();
            nodes.push(TestNode { node, directory });
        }
        nodes[0].connect(&nodes[1]);
        nodes[1].connect(&nodes[2]);
        wait_linked(&[(&nodes[0], 1), (&nodes[1], 2), (&nodes[2], 1)]).await;
        let api = Arc::new(MeshModuleApi::new(nodes[0].node.handle().clone()));
        Self {
            devnet,
            nodes,
            caps,
            api,
        }
    }

    /// The payer is stopped and started again.
    pub(crate) async fn restart_payer(&mut self) {
        let TestNode { node, directory } = self.nodes.remove(0);
        node.stop().await;
        let wallet = self.devnet.wallet(0).unwrap();
        let config = NodeConfig {
            spending: self.caps,
            ..node_config(1, MeshMode::PaymentGated, wallet, &directory)
        };
        let node = RunningNode::start(config).await.unwrap();
        self.nodes.insert(0, TestNode { node, directory });
        self.nodes[0].connect(&self.nodes[1]);
        wait_linked(&[(&self.nodes[0], 1)]).await;
        self.api = Arc::new(MeshModuleApi::new(self.nodes[0].node.handle().clone()));
    }

    pub(crate) fn module(&self, name: &str) -> Client {
        let caller = Caller::Module(ModuleName::new(name).unwrap());
        MeshClient::new(self.api.for_caller(caller))
    }

    pub(crate) fn unidentified(&self) -> MeshClient<Arc<MeshModuleApi>> {
        MeshClient::new(self.api.clone())
    }

    pub(crate) fn balance(&self) -> u64 {
        self.devnet.wallet(0).unwrap().balance_msat()
    }

    pub(crate) fn request(&self, payment_proof: Option<PaymentProof>) -> SendPacketRequest {
        SendPacketRequest {
            destination: self.nodes[2].id().0,
            payload: b"over two hops".to_vec(),
            payment_proof,
            protocol_id: Some("chat".to_owned()),
            ttl: Some(30),
        }
    }

    /// A packet that takes most of a slice.
    pub(crate) fn large_request(&self) -> SendPacketRequest {
        SendPacketRequest {
            payload: vec![7; 200 * 1024],
            ..self.request(None)
        }
    }

    pub(crate) async fn quote(&self, client: &Client) -> RouteQuote {
        let request = QuoteRouteRequest {
            destination: self.nodes[2].id().0,
            max_hops: None,
            timeout_seconds: Some(10),
            units: 100,
            max_fee_msat: None,
            avoid: Vec::new(),
            method: Default::default(),
        };
        quoted(client.quote_route(request).await.unwrap())
    }

    /// Pays all invoices of a quote, as a module with a wallet of its own would.
    pub(crate) async fn pay_all(&self, quote: &RouteQuote) -> PaymentProof {
        let mut proofs = Vec::new();
        for (place, quoted) in quote.payees.iter().enumerate() {
            if quoted.invoice.is_some() {
                let (payee, proof) = (quoted.payee, self.pay(quote, place).await);
                proofs.push(PayeeProof { payee, proof });
            }
        }
        PaymentProof::Split { proofs }
    }

    /// Pays one quoted invoice from the payer's wallet, as a module with a wallet of its own would.
    pub(crate) async fn pay(&self, quote: &RouteQuote, payee: usize) -> PaymentProof {
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

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.node.stop().await;
        }
        self.devnet.shutdown().await;
    }
}

/// The quote in an answer that must be one.
pub(crate) fn quoted(answer: QuoteRouteResponse) -> RouteQuote {
    match answer {
        QuoteRouteResponse::Quoted(quote) => quote,
        QuoteRouteResponse::Refused { reason } => panic!("{reason}"),
    }
}

pub(crate) fn refused_quote(answer: QuoteRouteResponse) -> String {
    match answer {
        QuoteRouteResponse::Refused { reason } => reason,
        QuoteRouteResponse::Quoted(quote) => panic!("{quote:?}"),
    }
}

pub(crate) fn opened(answer: OpenSessionResponse) -> SessionInfo {
    match answer {
        OpenSessionResponse::Opened(session) => session,
        refused => panic!("{refused:?}"),
    }
}

pub(crate) fn refused_open(answer: OpenSessionResponse) -> String {
    match answer {
        OpenSessionResponse::Refused { reason, .. } => reason,
        opened => panic!("{opened:?}"),
    }
}

/// The answer is "payment required", it names the cap, and the quote that it names can be had.
pub(crate) async fn payment_required(client: &Client, answer: SendPacketResponse, cap: &str) -> RouteQuote {
    let error = answer.error.clone().unwrap();
    assert!(!answer.success);
    assert!(error.contains(cap), "{error}");
    let id = answer
        .required_quote()
        .unwrap_or_else(|| panic!("no quote: {error}"));
    let quote = quoted(client.get_quote(id).await.unwrap());
    assert_eq!(quote.quote_id, id);
    quote
}
