//! What modules, operators and the disk give.

use lightning_invoice::Currency;
use mesh_api::{
    CloseSessionRequest, CloseSessionResponse, Concentration, Delivery, DiscoverRouteRequest,
    DiscoverRouteResponse, GetNetworkStateRequest, GetNetworkStateResponse, GetNodeIdRequest,
    GetNodeIdResponse, GetRoutingStatsRequest, GetSessionRequest, GetSessionResponse, MeshMode, MeshStats,
    Method, NodeState, OpenSessionRequest, OpenSessionResponse, PayeeProof, PayeeQuote, PaymentProof,
    PollDeliveriesRequest, PollDeliveriesResponse, QuoteRouteRequest, QuoteRouteResponse,
    RegisterProtocolRequest, RegisterProtocolResponse, ReplayStats, RouteQuote, RoutingStats,
    SendPacketRequest, SendPacketResponse, SessionInfo, Wire, encode,
};
use mesh_core::account::AccountRecord;
use mesh_core::ledger::{Entry, EntryKind, LedgerAccount};
use mesh_core::payer::PurchasedProof;
use mesh_core::quotes::{InvoiceRecord, QuoteKeyRecord};
use mesh_core::routing_policy::TrafficClass;
use mesh_core::time::UnixMillis;

use super::{Seeds, wire};
use crate::cast::{self, NOW, identity};
use crate::files::Row;

pub(super) fn add(seeds: &mut Seeds) {
    requests(seeds);
    answers(seeds);
    rows(seeds);
    admin(seeds);
    replays(seeds);
    seeds.add(
        "config",
        "copy of example",
        include_str!("../../../../config.example.toml"),
    );
    seeds.add("config", "empty", "");
    let config =
        "[mesh]\nmode = \"open\"\nlisten_addr = \"127.0.0.1:0\"\npeers = []\n\n[payments]\nauto_pay = true\n";
    seeds.add("config", "short", config);
    seeds.add(
        "config",
        "unknown keys",
        "[mesh]\nmoed = \"open\"\n[walet]\nbackend = 7\n",
    );
    seeds.add(
        "scenario",
        "copy of watts strogatz",
        include_str!("../../../../scenarios/ci/watts-strogatz.toml"),
    );
    seeds.add(
        "scenario",
        "copy of churn",
        include_str!("../../../../scenarios/faults/churn.toml"),
    );
    seeds.add(
        "scenario",
        "copy of black hole",
        include_str!("../../../../scenarios/villains/black-hole.toml"),
    );
    seeds.add(
        "scenario",
        "edges",
        "# nodes=4\n# columns=u v km\n0 1 3.5\n1 2 0.1\n2 3 12\n",
    );
}

/// A message of `method`, as the target chooses it.
pub(super) fn message<T: Wire>(seeds: &mut Seeds, method: Method, answer: bool, name: &str, value: &T) {
    let place = Method::ALL.iter().position(|known| *known == method).unwrap();
    seeds.chosen(
        "api",
        name,
        (place as u8) << 1 | u8::from(answer),
        encode(value).unwrap(),
    );
}

fn proofs() -> Vec<PaymentProof> {
    let lightning = PaymentProof::Lightning {
        invoice: wire::invoice(Currency::Regtest, Some(15_000), true),
        preimage: [21; 32],
        amount_msats: 15_000,
        timestamp: 1,
        expires_at: 2,
    };
    let on_chain = PaymentProof::OnChainSettlement {
        payment_request_id: "a quote".to_owned(),
        tx_hash: [5; 32],
        amount_sats: 6,
        timestamp: 7,
    };
    let covenant = PaymentProof::InstantSettlement {
        covenant_proof: vec![8; 20],
        output_index: 9,
        merkle_proof: vec![[10; 32]; 2],
        amount_sats: 11,
        timestamp: 12,
    };
    let proofs = vec![PayeeProof {
        payee: [13; 32],
        proof: lightning.clone(),
    }];
    vec![lightning, on_chain, covenant, PaymentProof::Split { proofs }]
}

fn requests(seeds: &mut Seeds) {
    for (number, proof) in proofs().into_iter().enumerate() {
        let send = SendPacketRequest {
            destination: [1; 32],
            payload: b"hello".to_vec(),
            payment_proof: Some(proof.clone()),
            protocol_id: Some("chat".to_owned()),
            ttl: Some(60),
        };
        message(
            seeds,
            Method::SendPacket,
            false,
            &format!("send packet {number}"),
            &send,
        );
        let open = OpenSessionRequest {
            quote_id: [2; 16],
            payment_proof: Some(proof),
            max_fee_msat: Some(5),
        };
        message(
            seeds,
            Method::OpenSession,
            false,
            &format!("open session {number}"),
            &open,
        );
    }
    let discover = DiscoverRouteRequest {
        destination: [1; 32],
        max_hops: Some(4),
        timeout_seconds: Some(30),
    };
    message(seeds, Method::DiscoverRoute, false, "discover route", &discover);
    let register = RegisterProtocolRequest {
        protocol_id: "chat".to_owned(),
        handler_method: "on_chat".to_owned(),
    };
    message(
        seeds,
        Method::RegisterProtocolHandler,
        false,
        "register protocol",
        &register,
    );
    message(
        seeds,
        Method::GetRoutingStats,
        false,
        "get routing stats",
        &GetRoutingStatsRequest {},
    );
    message(
        seeds,
        Method::GetNodeId,
        false,
        "get node id",
        &GetNodeIdRequest {},
    );
    let quote = QuoteRouteRequest {
        destination: [1; 32],
        max_hops: Some(10),
        timeout_seconds: None,
        units: 1000,
        max_fee_msat: Some(100_000),
        avoid: vec![[3; 32], [4; 32]],
        method: mesh_api::PaymentMethod::OnChain,
    };
    message(seeds, Method::QuoteRoute, false, "quote route", &quote);
    let session_id = [5; 16];
    message(
        seeds,
        Method::CloseSession,
        false,
        "close session",
        &CloseSessionRequest { session_id },
    );
    message(
        seeds,
        Method::GetSession,
        false,
        "get session",
        &GetSessionRequest { session_id },
    );
    let poll = PollDeliveriesRequest {
        protocol_id: Some("chat".to_owned()),
        max_deliveries: 16,
    };
    message(seeds, Method::PollDeliveries, false, "poll deliveries", &poll);
    let state = GetNetworkStateRequest {
        after: Some([6; 32]),
        max_nodes: 100,
    };
    message(seeds, Method::GetNetworkState, false, "get network state", &state);
}

fn answers(seeds: &mut Seeds) {
    message(
        seeds,
        Method::SendPacket,
        true,
        "refused packet",
        &SendPacketResponse::refused("no route"),
    );
    let discovered = DiscoverRouteResponse {
        route: Some(vec![[1; 32], [2; 32], [3; 32]]),
        route_cost_sats: 3,
        discovery_time_ms: 40,
    };
    message(
        seeds,
        Method::DiscoverRoute,
        true,
        "discovered route",
        &discovered,
    );
    let registered = RegisterProtocolResponse { success: true };
    message(
        seeds,
        Method::RegisterProtocolHandler,
        true,
        "registered protocol",
        &registered,
    );
    let stats = MeshStats {
        enabled: true,
        mode: MeshMode::PaymentGated,
        routing: RoutingStats {
            total_routes: 3,
            direct_peers: 2,
            cached_routes: 1,
            route_expiry_seconds: 3600,
        },
        replay: ReplayStats {
            active_hashes: 5,
            tracked_peers: 6,
            expiry_seconds: 86_400,
        },
    };
    message(seeds, Method::GetRoutingStats, true, "routing stats", &stats);
    message(
        seeds,
        Method::GetNodeId,
        true,
        "node id",
        &GetNodeIdResponse { node_id: [7; 32] },
    );
    let payee = PayeeQuote {
        payee: [3; 32],
        amount_msat: 15_000,
        invoice: Some(wire::invoice(Currency::Regtest, Some(15_000), true)),
        pay_by_unix_ms: NOW.0,
        redeem_by_unix_ms: NOW.0 + 1,
        output: None,
    };
    let quoted = QuoteRouteResponse::Quoted(RouteQuote {
        quote_id: [2; 16],
        route: vec![[1; 32], [3; 32]],
        total_fee_msat: 15_000,
        payees: vec![payee.clone()],
    });
    message(seeds, Method::QuoteRoute, true, "quoted route", &quoted);
    let session = SessionInfo {
        session_id: [5; 16],
        route: vec![[1; 32], [3; 32]],
        expires_at_unix_ms: NOW.0,
        units_remaining: 1,
        packets_sent: 2,
        packets_receipted: 3,
        bytes_receipted: 4,
    };
    message(
        seeds,
        Method::OpenSession,
        true,
        "opened session",
        &OpenSessionResponse::Opened(session.clone()),
    );
    let refused = OpenSessionResponse::Refused {
        reason: "payment_missing".to_owned(),
        missing_payees: vec![payee],
    };
    message(seeds, Method::OpenSession, true, "refused session", &refused);
    let closed = CloseSessionResponse {
        closed: true,
        credit_left_msat: 9,
    };
    message(seeds, Method::CloseSession, true, "closed session", &closed);
    message(
        seeds,
        Method::GetSession,
        true,
        "session",
        &GetSessionResponse {
            session: Some(session),
        },
    );
    let delivery = Delivery {
        source: Some([1; 32]),
        protocol_id: Some("chat".to_owned()),
        payload: b"hello".to_vec(),
        packet_id: [8; 32],
        session_id: [5; 16],
        sequence: 7,
    };
    let polled = PollDeliveriesResponse {
        deliveries: vec![delivery],
        more: false,
        dropped: 0,
    };
    message(seeds, Method::PollDeliveries, true, "polled deliveries", &polled);
    let state = GetNetworkStateResponse {
        node_id: [1; 32],
        mode: MeshMode::Open,
        total_nodes: 2,
        nodes: vec![NodeState {
            node_id: [2; 32],
            hops: Some(1),
            price_msat_per_unit: 10,
            expires_at_unix_ms: NOW.0,
            neighbours: vec![[1; 32]],
        }],
        next: Some([2; 32]),
        concentration: Concentration {
            entities: 2,
            top1_ppm: 500_000,
            top5_ppm: 1_000_000,
            hhi_ppm: 500_000,
            nakamoto: 1,
        },
    };
    message(seeds, Method::GetNetworkState, true, "network state", &state);
}

fn rows(seeds: &mut Seeds) {
    let later = UnixMillis(NOW.0 + 3_600_000);
    let mut rows = vec![
        Row::QuoteKey(QuoteKeyRecord {
            id: [0xc0; 16],
            secret: *cast::quote_key(0).secret(),
            account: cast::account_key(0).public(),
            previous: identity(1).node_id(),
            next: Some(cast::node(1)),
            class: TrafficClass::Paid,
            price_msat: 10,
            expires: later,
        }),
        Row::Invoice(InvoiceRecord {
            payment_hash: [1; 32],
            account: cast::account_key(0).public(),
            credit_msat: 9_000,
            treasury_msat: 1_000,
            pay_by: later,
            redeem_by: later,
            previous: identity(1).node_id(),
        }),
        Row::Redeemed([2; 32], later),
        Row::Account(AccountRecord {
            key: cast::account_key(0).public(),
            balance_msat: 1_000,
        }),
        Row::Credit(cast::node(1), 500),
        Row::Announced(cast::node(1), 7, later),
        Row::OwnSeqno(3),
        Row::TreasuryOwed(100),
        Row::Entry(Box::new(
            Entry::new(NOW, EntryKind::Credited)
                .debit(LedgerAccount::Wallet, 10_000)
                .credit(LedgerAccount::PayerCredit([3; 32]), 10_000),
        )),
    ];
    for (number, (_, proof)) in wire::proofs().into_iter().enumerate() {
        rows.push(Row::Proof(PurchasedProof {
            payee: cast::node(1),
            payment_hash: [number as u8; 32],
            proof,
            credit_msat: 7,
            redeem_by: later,
        }));
    }
    for (number, row) in rows.iter().enumerate() {
        let name = format!("{number} {}", variant(row));
        seeds.add(
            "records",
            &name,
            postcard::to_stdvec(std::slice::from_ref(row)).unwrap(),
        );
    }
    seeds.add("records", "all", postcard::to_stdvec(&rows).unwrap());
}

/// The name of an enum's variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let shown = format!("{value:?}");
    shown
        .chars()
        .take_while(|letter| letter.is_alphanumeric())
        .collect()
}

fn admin(seeds: &mut Seeds) {
    let node = identity(1).node_id();
    let requests = [
        ("status", r#"{"method":"status"}"#.to_owned()),
        ("unknown method", r#"{"method":"fly"}"#.to_owned()),
        (
            "network",
            r#"{"method":"network","params":{"max_nodes":3}}"#.to_owned(),
        ),
        (
            "set price",
            r#"{"method":"set_price","params":{"msat_per_unit":7}}"#.to_owned(),
        ),
        (
            "discover",
            format!(r#"{{"method":"discover","params":{{"destination":"{node}","max_hops":4}}}}"#),
        ),
        (
            "quote",
            format!(r#"{{"method":"quote","params":{{"destination":"{node}","units":10,"class":"open"}}}}"#),
        ),
        (
            "send",
            format!(
                r#"{{"method":"send","params":{{"destination":"{node}","payload_hex":"00ff","protocol":"chat","max_total_msat":9}}}}"#
            ),
        ),
        (
            "listen",
            r#"{"method":"listen","params":{"protocol":"chat"}}"#.to_owned(),
        ),
    ];
    for (name, line) in requests {
        seeds.chosen("admin", &format!("request {name}"), 11, line);
    }
    let answers = [
        (
            2,
            "routes",
            format!(
                r#"{{"ok":{{"routes":[{{"path":["{node}"],"msat_per_unit":3,"prices_msat":[3],"expires_unix_ms":9}}]}}}}"#
            ),
        ),
        (
            5,
            "sent",
            format!(r#"{{"ok":{{"packet_id":"00","session":"11","path":["{node}"],"total_msat":0}}}}"#),
        ),
        (6, "listening", r#"{"ok":{"listening":true}}"#.to_owned()),
        (
            6,
            "refused",
            format!(
                r#"{{"error":{{"code":"no_route","message":"none","advice":"wait","missing":["{node}"]}}}}"#
            ),
        ),
    ];
    for (which, name, line) in answers {
        seeds.chosen("admin", &format!("answer {name}"), which, line);
    }
}

fn replays(seeds: &mut Seeds) {
    let steps: Vec<u8> = (0..60u8)
        .flat_map(|n| [n % 4, n.wrapping_mul(37), n / 8])
        .collect();
    seeds.chosen("replay", "window", 0, steps);
    let steps: Vec<u8> = (0..120u8).flat_map(|n| [n.wrapping_mul(7), n % 24]).collect();
    seeds.chosen("replay", "set of 20", 41, &steps);
    seeds.chosen("replay", "set of none", 1, &steps);
}
