//! Who earns what a node pays, from real payments and receipts to what the operator, modules and JSON-RPC are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blvm_mesh::admin::{AdminServer, AdminService, NodeInfo};
use blvm_mesh::api::MeshModuleApi;
use blvm_mesh::config::{LiveConfig, PaymentsConfig};
use blvm_mesh::fairness::Fairness;
use blvm_mesh::host::rpc::RpcDoor;
use blvm_mesh::node::{NodeConfig, RunningNode};
use blvm_mesh::wallet::devnet::Devnet;
use mesh_api::{Concentration, GetConcentrationRequest, GetNetworkStateRequest, MeshClient};
use mesh_core::fairness::Share;
use mesh_core::fairness::policy::FairnessPolicy;
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::{Caller, ModuleName, SpendingCaps};
use serde_json::{Value, json};

use crate::common::daemons::Home;
use crate::common::{TestNode, eventually, node_config, wait_linked};

const PAYER: usize = 0;
const CHEAP: usize = 1;
const DEAR: usize = 2;
const DESTINATION: usize = 3;

/// What each node charges, in msat per unit. So far apart that no slow moment of this machine makes the dear way the better one:
/// a second of round trip is worth 100,000 msat for the units that are compared, the difference is five times that.
const PRICES_MSAT: [u64; 4] = [10, 5, 20, 10];

/// Two of the minutes after which a node looks at shares again.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(120);

/// The units that ways are compared for.
const COMPARED_UNITS: u64 = 10_000;

/// Whatever was paid is all there is, so that shares of fees are whole numbers.
fn policy() -> FairnessPolicy {
    FairnessPolicy {
        minimum_sample_msat: 1,
        price_at_hard_cap_percent: 1_000,
        ..FairnessPolicy::default()
    }
}

/// Two ways of two hops between a payer and a destination, over a cheap router and over a dear one; all with Lightning nodes.
/// The payer's command line is asked in processes of its own.
struct Diamond {
    devnet: Devnet,
    nodes: Vec<TestNode>,
    api: Arc<MeshModuleApi>,
    admin: AdminServer,
    home: Home,
}

impl Diamond {
    async fn start() -> Self {
        let ways = [
            (PAYER, CHEAP),
            (PAYER, DEAR),
            (CHEAP, DESTINATION),
            (DEAR, DESTINATION),
        ];
        let devnet = Devnet::mesh(4, &ways, 1_000_000, 11).await.unwrap();
        let mut nodes = Vec::new();
        for (place, price_msat_per_unit) in PRICES_MSAT.into_iter().enumerate() {
            let wallet = devnet.wallet(place).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let seed = u8::try_from(place + 1).unwrap();
            let mut config = NodeConfig {
                price_msat_per_unit,
                ..node_config(seed, MeshMode::PaymentGated, wallet, &directory)
            };
            if place == PAYER {
                config.spending = SpendingCaps {
                    max_total_msat: 200_000,
                    per_packet_msat: 200_000,
                    ..PaymentsConfig::default().caps
                };
                config.fairness = Fairness {
                    policy: policy(),
                    asmap: None,
                };
            }
            let node = RunningNode::start(config).await.unwrap();
            nodes.push(TestNode { node, directory });
        }
        for (from, to) in ways {
            nodes[from].connect(&nodes[to]);
        }
        let linked: Vec<_> = nodes.iter().map(|node| (node, 2)).collect();
        wait_linked(&linked).await;
        let payer = &nodes[PAYER];
        let info = NodeInfo {
            listen_addr: payer.node.listen_addr(),
            network: "regtest".to_owned(),
            wallet: "devnet".to_owned(),
            started: Instant::now(),
        };
        let backend = Arc::new(payer.node.handle().clone());
        let service = AdminService::new(backend, info, LiveConfig::default());
        let admin = AdminServer::start(&payer.directory.path().join("admin.sock"), service).unwrap();
        let home = Home::at(payer.directory.path());
        let api = Arc::new(MeshModuleApi::new(payer.node.handle().clone()));
        Self {
            devnet,
            nodes,
            api,
            admin,
            home,
        }
    }

    fn id(&self, place: usize) -> String {
        self.nodes[place].id().to_string()
    }

    /// Until the payer knows of both ways: before, the one that it knows is the only one.
    async fn knows_both_ways(&self) {
        eventually("both ways in the graph", async || {
            let network = self.home.ask_json(&["network"]).await;
            (network["total_links"] == 4).then_some(())
        })
        .await;
    }

    async fn send(&self) {
        let sent = self
            .home
            .ask_json(&["send", &self.id(DESTINATION), "paid for", "--protocol", "test"])
            .await;
        assert_eq!(
            sent["path"][1],
            self.id(CHEAP),
            "the cheaper way is taken: {sent}"
        );
    }

    async fn shares_once_receipted(&self) -> Value {
        eventually("a receipt", async || {
            let shares = self.home.ask_json(&["shares"]).await;
            (!shares["entities"].as_array().unwrap().is_empty()).then_some(shares)
        })
        .await
    }

    async fn stop(self) {
        self.admin.stop().await;
        for node in self.nodes {
            node.node.stop().await;
        }
        self.devnet.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn share_of_who_was_paid_and_what_follows_are_told_alike_to_operator_module_and_json_rpc() {
    let mesh = Diamond::start().await;
    mesh.knows_both_ways().await;
    let nothing = mesh.home.ask_json(&["shares"]).await;
    assert_eq!(
        (&nothing["entities"], &nothing["by_fees"]["entities"]),
        (&json!([]), &json!(0))
    );
    mesh.send().await;

    let shares = mesh.shares_once_receipted().await;
    let usual = PRICES_MSAT[CHEAP] * COMPARED_UNITS;
    let policy = policy();
    let all_of_it = Share {
        observed_ppm: 1_000_000,
        unavoidable_ppm: 500_000,
        forced_ppm: 0,
    };
    let surcharge = policy.price_msat(&policy.entity, all_of_it, usual);
    assert!(surcharge > 10 * usual, "it is worth more than at the hard cap");
    assert_eq!(shares["usual_msat"], usual, "{shares}");
    assert_eq!(
        shares["entities"],
        json!([{
            // One unit of the hundred thousand that say something.
            "name": mesh.id(CHEAP), "nodes": 1, "observed_ppm": 1_000_000, "packets_ppm": 10, "unavoidable_ppm": 500_000, "forced_ppm": 0,
            "excess_ppm": 500_000, "surcharge_msat": surcharge,
            // Above the hard cap, and not above twice what is unavoidable: of two providers neither is left out.
            "left_out": false,
        }])
    );
    for measures in ["by_fees", "by_packets"] {
        assert_eq!(
            shares[measures],
            json!({
                "entities": 1, "top1_ppm": 1_000_000, "top5_ppm": 1_000_000, "hhi_ppm": 1_000_000, "nakamoto_33": 1,
                "nakamoto_50": 1,
            })
        );
    }
    assert_eq!(
        (
            &shares["entity_caps"]["hard_ppm"],
            &shares["group_caps"]["soft_ppm"]
        ),
        (&json!(300_000), &json!(250_000))
    );
    let table = mesh.home.ask(&["shares"]).await;
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("100 %") && table.contains("not acted upon"),
        "{table}"
    );

    explained(&mesh, surcharge).await;

    let module = Caller::Module(ModuleName::new("watcher").unwrap());
    let client = MeshClient::new(mesh.api.for_caller(module));
    let told = client
        .get_concentration(GetConcentrationRequest { max_shares: 9 })
        .await
        .unwrap();
    assert_eq!(told.entities.len(), 1);
    assert_eq!(told.entities[0].entity, mesh.nodes[CHEAP].id().0);
    let share = told.entities[0].share;
    assert_eq!(
        (
            share.observed_ppm,
            share.unavoidable_ppm,
            share.excess_ppm,
            share.surcharge_msat
        ),
        (1_000_000, 500_000, 500_000, surcharge)
    );
    assert_eq!((told.by_fees.nakamoto_33, told.minimum_sample_msat), (1, 1));
    let request = GetNetworkStateRequest {
        after: None,
        max_nodes: 1,
    };
    let state = client.get_network_state(request).await.unwrap();
    assert_eq!(
        state.concentration,
        Concentration {
            entities: 1,
            top1_ppm: 1_000_000,
            top5_ppm: 1_000_000,
            hhi_ppm: 1_000_000,
            nakamoto: 1,
        }
    );

    let door = RpcDoor::new(mesh.api.clone()).unwrap();
    let by_rpc = door
        .answer("meshgetconcentration", json!({ "max_shares": 1 }))
        .await
        .unwrap();
    assert_eq!(by_rpc, mesh.home.ask_json(&["shares"]).await);
    mesh.stop().await;
}

/// What is told once the node has drawn the consequences of what it paid, which it does once a minute.
async fn once_looked_at(mesh: &Diamond, destination: &str) -> Value {
    let told = tokio::time::timeout(LOOKED_AT_WITHIN, async {
        let mut again = tokio::time::interval(Duration::from_millis(500));
        loop {
            again.tick().await;
            let told = mesh.home.ask_json(&["routes", "--explain", destination]).await;
            let candidates = told["candidates"].as_array().unwrap();
            if candidates
                .iter()
                .any(|candidate| candidate["concentration_msat"] != 0)
            {
                return told;
            }
        }
    });
    told.await.expect("shares are looked at")
}

/// Every way is told with every term, the terms add up, and the one that is cheaper and has everything already is no longer
/// the one that would be taken.
async fn explained(mesh: &Diamond, surcharge: u64) {
    let destination = mesh.id(DESTINATION);
    mesh.home.ask_json(&["discover", &destination, "--refresh"]).await;
    let told = once_looked_at(mesh, &destination).await;
    let candidates = told["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 2, "{told}");
    let number = |candidate: &Value, term: &str| candidate[term].as_u64().unwrap();
    for candidate in candidates {
        let terms = ["fee_msat", "failures_msat", "latency_msat", "concentration_msat"];
        let sum: u64 = terms.iter().map(|term| number(candidate, term)).sum();
        let in_use = number(candidate, "hysteresis_msat");
        assert_eq!(number(candidate, "score_msat"), sum - in_use, "{told}");
        assert_eq!(
            (&candidate["excluded"], &candidate["diversity"]),
            (&json!(false), &json!("strict"))
        );
        assert_eq!(candidate["path"][2], destination);
    }
    let (first, second) = (&candidates[0], &candidates[1]);
    assert_eq!(
        (&first["path"][1], &first["chosen"]),
        (&json!(mesh.id(DEAR)), &json!(true)),
        "{told}"
    );
    assert_eq!(
        (&second["path"][1], &second["chosen"]),
        (&json!(mesh.id(CHEAP)), &json!(false))
    );
    assert_eq!(
        (
            number(first, "concentration_msat"),
            number(second, "concentration_msat")
        ),
        (0, surcharge)
    );
    assert!(number(second, "hysteresis_msat") > 0, "it is in use: {told}");
    assert!(number(first, "fee_msat") > number(second, "fee_msat"), "{told}");
    let table = mesh.home.ask(&["routes", "--explain", &destination]).await;
    let table = String::from_utf8(table.stdout).unwrap();
    let chosen = table
        .lines()
        .find(|line| line.trim_start().starts_with('→'))
        .unwrap();
    let dear = &mesh.id(DEAR)[..8];
    assert!(chosen.contains(dear), "{table}");
}
