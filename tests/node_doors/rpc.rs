//! JSON-RPC through the node, over real links and real Lightning.

use std::sync::Arc;

use blvm_mesh::api::MeshModuleApi;
use blvm_mesh::host::rpc::{METHODS, RpcDoor, RpcError};
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::wallet::devnet::Devnet;
use blvm_mesh::wallet::{PayRequest, Wallet};
use mesh_api::{PaymentProof, SendPacketRequest};
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::SpendingCaps;
use serde_json::{Value, json};

use crate::common::{TestNode, eventually, node_config, wait_linked};

const CAPS: SpendingCaps = SpendingCaps {
    per_packet_msat: 10_000,
    max_total_msat: 20_000,
    per_hour_msat: 100_000,
    per_day_msat: 100_000,
    per_destination_day_msat: 100_000,
    per_caller_day_msat: 50_000,
    unidentified_day_msat: 0,
    max_fee_msat: 2_000,
};

/// A payer and a payee over one link, each with a Lightning node, each with its door.
struct Line {
    devnet: Devnet,
    nodes: Vec<TestNode>,
    doors: Vec<RpcDoor>,
}

impl Line {
    async fn start() -> Self {
        let devnet = Devnet::line(2, 1_000_000, 3).await.unwrap();
        let (mut nodes, mut doors) = (vec![], vec![]);
        for index in 0..2u8 {
            let wallet = devnet.wallet(usize::from(index)).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let config = NodeConfig {
                spending: CAPS,
                ..node_config(index + 1, MeshMode::PaymentGated, wallet, &directory)
            };
            let node = RunningNode::start(config).await.unwrap();
            let api = Arc::new(MeshModuleApi::new(node.handle().clone()));
            doors.push(RpcDoor::new(api).unwrap());
            nodes.push(TestNode { node, directory });
        }
        nodes[0].connect(&nodes[1]);
        wait_linked(&[(&nodes[0], 1), (&nodes[1], 1)]).await;
        Self { devnet, nodes, doors }
    }

    fn payee(&self) -> String {
        self.nodes[1].id().to_string()
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.doors[0].answer(method, params).await
    }

    /// What the payee's own programs are handed.
    async fn received(&self, protocol: &str) -> Value {
        eventually("a packet", async || {
            let polled = self.doors[1]
                .answer("meshpollreceived", json!({ "protocol_id": protocol }))
                .await;
            let packet = polled.unwrap()["packets"][0].clone();
            (!packet.is_null()).then_some(packet)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packet_sent_by_json_rpc_is_paid_arrives_once_and_is_polled_with_its_name() {
    let line = Line::start().await;
    let params = json!({
        "destination_hex": line.payee(), "payload_hex": hex::encode("hello"), "protocol_id": "app-v1", "ttl_seconds": 30,
    });
    let sent = line.call("meshsendpacket", params).await.unwrap();
    assert_eq!(
        (&sent["success"], &sent["error"]),
        (&json!(true), &Value::Null),
        "{sent}"
    );
    assert!(sent["estimated_cost_sats"].as_u64().unwrap() >= 1);
    let packet = line.received("app-v1").await;
    assert_eq!(packet["payload_hex"], hex::encode("hello"));
    assert_eq!(packet["packet_id"], sent["packet_id"]);
    assert_eq!(packet["source_hex"], line.nodes[0].id().to_string());
    let again = line.doors[1]
        .answer("meshpollreceived", json!([{ "protocol_id": "app-v1" }]))
        .await
        .unwrap();
    assert_eq!(again["packets"], json!([]));
    assert!(
        line.nodes[1].status().await.payers_credit_msat > 0,
        "it was paid for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoded_request_as_it_is_documented_is_sent_as_well() {
    let line = Line::start().await;
    let request = SendPacketRequest {
        destination: line.nodes[1].id().0,
        payload: b"encoded".to_vec(),
        payment_proof: None,
        protocol_id: Some("app-v1".to_owned()),
        ttl: None,
    };
    let params = json!({
        "request_hex": hex::encode(mesh_api::encode(&request).unwrap()), "mesh_module_id": "blvm-mesh",
    });
    let sent = line.call("meshsendpacket", params).await.unwrap();
    assert_eq!(sent["success"], true, "{sent}");
    assert_eq!(
        line.received("app-v1").await["payload_hex"],
        hex::encode("encoded")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quote_tells_the_true_price_and_who_is_to_be_paid() {
    let line = Line::start().await;
    let quoted = line
        .call(
            "meshquoteroute",
            json!({ "destination_hex": line.payee(), "units": 1000, "base_fee_sats": 5 }),
        )
        .await
        .unwrap();
    let msat = quoted["fee_msats"].as_u64().unwrap();
    assert!(msat >= 10_000, "a thousand units at 10 msat: {quoted}");
    assert_eq!(quoted["fee_sats"].as_u64().unwrap(), msat.div_ceil(1000));
    assert_eq!(quoted["payees"][0]["payee"], line.payee());
    assert!(
        quoted["payees"][0]["invoice"]
            .as_str()
            .unwrap()
            .starts_with("lnbcrt")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hop_invoice_asks_at_most_what_was_asked_for_and_paying_it_buys_credit() {
    let line = Line::start().await;
    let asked = 50_000;
    let params = json!({ "destination_hex": line.payee(), "amount_msats": asked, "expiry_seconds": 3600 });
    let given = line.call("meshrequesthopinvoice", params).await.unwrap();
    let amount = given["amount_msats"].as_u64().unwrap();
    assert!(amount <= asked && amount > asked / 2, "{given}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(given["expires_at"].as_u64().unwrap() > now);

    let invoice = given["invoice"].as_str().unwrap().to_owned();
    let wallet = line.devnet.wallet(0).unwrap();
    let paid = wallet
        .pay(PayRequest {
            bolt11: invoice.clone(),
            max_fee_msat: 5_000,
            max_cltv_blocks: mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS,
            timeout: crate::common::PATIENCE,
        })
        .await
        .unwrap();
    assert_eq!(paid.amount_msat, amount);
    let request = SendPacketRequest {
        destination: line.nodes[1].id().0,
        payload: b"by its proof".to_vec(),
        payment_proof: Some(PaymentProof::Lightning {
            invoice,
            preimage: paid.preimage,
            amount_msats: amount,
            timestamp: 0,
            expires_at: 0,
        }),
        protocol_id: Some("app-v1".to_owned()),
        ttl: None,
    };
    let params = json!({ "request_hex": hex::encode(mesh_api::encode(&request).unwrap()) });
    let sent = line.call("meshsendpacket", params).await.unwrap();
    assert_eq!(sent["success"], true, "{sent}");
    assert_eq!(
        line.received("app-v1").await["payload_hex"],
        hex::encode("by its proof")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_unknown_or_out_of_range_is_refused_by_name() {
    let line = Line::start().await;
    let payee = line.payee();
    for (method, params, named) in [
        ("meshsendpacket", json!({}), "request_hex"),
        ("meshsendpacket", json!({ "request_hex": "zz" }), "request_hex"),
        ("meshsendpacket", json!({ "request_hex": "00" }), "request_hex"),
        (
            "meshsendpacket",
            json!({ "request_hex": "00", "ttl_seconds": 1 }),
            "request_hex",
        ),
        (
            "meshsendpacket",
            json!({ "destination_hex": "11", "payload_hex": "" }),
            "destination_hex",
        ),
        (
            "meshsendpacket",
            json!({ "destination_hex": payee, "payload_hex": "0" }),
            "payload_hex",
        ),
        (
            "meshsendpacket",
            json!({ "destination_hex": payee, "payload_hex": "00".repeat(300_000) }),
            "payload_hex",
        ),
        (
            "meshsendpacket",
            json!({ "destination_hex": payee, "payload_hex": "", "money": 1 }),
            "money",
        ),
        ("meshpollreceived", json!({ "max_packets": 0 }), "max_packets"),
        ("meshpollreceived", json!({ "max_packets": 65 }), "max_packets"),
        ("meshpollreceived", json!({ "protocol_id": "x".repeat(65) }), "64"),
        ("meshpollreceived", json!([1, 2]), "one object"),
        ("meshquoteroute", json!({}), "destination_hex"),
        (
            "meshquoteroute",
            json!({ "destination_hex": payee, "units": 0 }),
            "units",
        ),
        (
            "meshquoteroute",
            json!({ "destination_hex": payee, "max_hops": 11 }),
            "max_hops",
        ),
        (
            "meshquoteroute",
            json!({ "destination_hex": payee, "base_fee_sats": "much" }),
            "expected u64",
        ),
        (
            "meshrequesthopinvoice",
            json!({ "destination_hex": payee }),
            "amount_msats",
        ),
        (
            "meshrequesthopinvoice",
            json!({ "destination_hex": payee, "amount_msats": 0 }),
            "amount_msats",
        ),
        (
            "meshrequesthopinvoice",
            json!({ "destination_hex": payee, "amount_msats": 1 }),
            "amount_msats",
        ),
        (
            "meshrequesthopinvoice",
            json!({ "destination_hex": payee, "amount_msats": 1000, "expiry_seconds": 0 }),
            "expiry_seconds",
        ),
        ("meshgetconcentration", json!({ "max_shares": 257 }), "max_shares"),
    ] {
        let refused = line.call(method, params.clone()).await.unwrap_err();
        assert!(
            matches!(refused, RpcError::InvalidParams(_)),
            "{method} {params}: {refused}"
        );
        assert!(
            refused.to_string().contains(named),
            "{method} {params}: {refused}"
        );
    }
    let unknown = line.call("meshfly", json!({})).await.unwrap_err();
    assert!(
        METHODS.iter().all(|(name, _)| unknown.to_string().contains(name)),
        "{unknown}"
    );
}
