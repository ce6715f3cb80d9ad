//! Both ends of the socket against a node that only pretends.

mod fake;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::Delivery;
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::routing_policy::TrafficClass;
use mesh_core::spending::Caller;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::*;
use crate::config::{Config, LiveConfig, PaymentsConfig};
use fake::FakeNode;

const HERE: NodeId = NodeId([1; 32]);
const THERE: NodeId = NodeId([2; 32]);

/// A server over a fake node, in a folder that goes with it.
struct Stage {
    node: Arc<FakeNode>,
    server: AdminServer,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new(node: FakeNode, payments: PaymentsConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let node = Arc::new(node);
        let server = AdminServer::start(&path, service(node.clone(), payments)).unwrap();
        Self {
            node,
            server,
            path,
            _folder: folder,
        }
    }

    fn plain() -> Self {
        Self::new(FakeNode::default(), PaymentsConfig::default())
    }

    async fn client(&self) -> AdminClient {
        AdminClient::connect(&self.path).await.unwrap()
    }

    /// A connection that may say anything.
    async fn raw(&self) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(&self.path).await.unwrap())
    }
}

fn service(node: Arc<FakeNode>, payments: PaymentsConfig) -> AdminService {
    let info = NodeInfo {
        listen_addr: Some("127.0.0.1:8334".parse().unwrap()),
        network: "regtest".into(),
        wallet: "none".into(),
        started: Instant::now(),
    };
    AdminService::new(node, info, live(payments))
}

fn live(payments: PaymentsConfig) -> LiveConfig {
    Arc::new(Mutex::new(Config {
        payments,
        ..Config::default()
    }))
}

async fn say(raw: &mut BufReader<UnixStream>, line: &[u8]) -> Value {
    raw.get_mut().write_all(line).await.unwrap();
    raw.get_mut().write_all(b"\n").await.unwrap();
    hear(raw).await
}

async fn hear(raw: &mut BufReader<UnixStream>) -> Value {
    let mut answer = String::new();
    raw.read_line(&mut answer).await.unwrap();
    serde_json::from_str(&answer).unwrap_or(Value::Null)
}

fn send_to(destination: NodeId) -> SendParams {
    SendParams {
        destination: Text(destination),
        payload_hex: "00ff".into(),
        protocol: "chat".into(),
        class: TrafficClass::Paid,
        ttl_ms: 5_000,
        max_hops: 4,
        timeout_ms: 6_000,
        max_total_msat: Some(11),
        max_fee_msat: Some(12),
    }
}

#[tokio::test]
async fn every_term_of_a_way_and_every_part_of_a_share_reaches_the_client() {
    let stage = Stage::plain();
    let mut raw = stage.raw().await;
    let asked = json!({ "method": "explain", "params": { "destination": "03".repeat(32) } });
    let told = say(&mut raw, asked.to_string().as_bytes()).await;
    let (here, there, far) = (HERE.to_string(), THERE.to_string(), "03".repeat(32));
    assert_eq!(
        told["ok"]["candidates"],
        json!([{
            "path": [here, there, far], "quoted": true, "fee_msat": 1, "failures_msat": 2, "latency_msat": 3,
            "concentration_msat": 4, "hysteresis_msat": 5, "score_msat": 6, "excluded": true,
            "diversity": "relaxed: two routers are in the same network AS7", "chosen": true,
        }])
    );
    let told = say(&mut raw, br#"{"method": "shares"}"#).await;
    let share = |name: &str, nodes: u64, surcharge_msat: u64, left_out: bool| {
        json!({
            "name": name, "nodes": nodes, "observed_ppm": 400_000, "packets_ppm": 0, "unavoidable_ppm": 100_000, "forced_ppm": 20_000,
            "excess_ppm": 300_000, "surcharge_msat": surcharge_msat, "left_out": left_out,
        })
    };
    assert_eq!(told["ok"]["entities"], json!([share(&there, 2, 10, true)]));
    assert_eq!(told["ok"]["groups"], json!([share("203.0.0.0/16", 3, 0, false)]));
    assert_eq!(
        told["ok"]["entity_caps"],
        json!({ "soft_ppm": 100_000, "hard_ppm": 300_000 })
    );
    assert_eq!(told["ok"]["by_fees"]["nakamoto_50"], 1);
    assert_eq!(told["ok"]["by_packets"]["top1_ppm"], 1_000_000);
    assert_eq!(told["ok"]["transit_is_not_counted"], true);
}

#[tokio::test]
async fn one_connection_carries_every_method() {
    let stage = Stage::plain();
    let mut client = stage.client().await;

    let status: StatusReply = client.call(&Request::Status).await.unwrap();
    assert_eq!(
        (
            status.node_id,
            status.peers,
            status.peers_over_node,
            status.undelivered
        ),
        (Text(HERE), 1, 1, 3)
    );
    assert_eq!(status.dropped["bad_tag"], 9);
    assert_eq!((status.earned_msat, status.treasury_owed_msat), (6, 7));
    assert_eq!(status.listen_addr.unwrap().port(), 8334);

    let peers: PeersReply = client.call(&Request::Peers).await.unwrap();
    assert_eq!(
        peers.peers,
        [PeerReply {
            node_id: Text(THERE),
            link: 5,
            over: Some(LinkOver::Node),
        }]
    );

    assert_eq!((status.announced_nodes, status.reachable_nodes), (11, 10));
    assert_eq!(status.routing.routes_told, [12, 13]);
    let params = |after| NetworkParams { after, max_nodes: 3 };
    let page: NetworkReply = client.call(&Request::Network(params(None))).await.unwrap();
    assert_eq!((page.total_nodes, page.next), (2, Some(Text(THERE))));
    assert_eq!((page.nodes[0].price_msat, page.nodes[0].cost), (21, Some(3)));
    let last: NetworkReply = client.call(&Request::Network(params(page.next))).await.unwrap();
    assert_eq!(last.next, None);
    let priced: Result<DoneReply, _> = client
        .call(&Request::SetPrice(SetPriceParams { msat_per_unit: 5 }))
        .await;
    assert!(priced.is_ok());

    let routes: RoutesReply = client.call(&Request::Routes).await.unwrap();
    assert!(routes.routes.is_empty());

    let discover = DiscoverParams {
        destination: Text(THERE),
        max_hops: 3,
        timeout_ms: 100,
        refresh: true,
    };
    let found: RoutesReply = client.call(&Request::Discover(discover)).await.unwrap();
    assert_eq!(found.routes[0].path, [Text(HERE), Text(THERE)]);
    assert_eq!(
        (found.routes[0].msat_per_unit, found.routes[0].expires_unix_ms),
        (17, 1234)
    );

    let quote = QuoteParams {
        destination: Text(THERE),
        units: 64,
        class: TrafficClass::Paid,
        max_hops: 3,
        timeout_ms: 100,
    };
    let quoted: QuoteReply = client.call(&Request::Quote(quote)).await.unwrap();
    assert_eq!((quoted.units, quoted.total_msat), (64, 900));
    assert_eq!(quoted.payees[0].invoice.as_deref(), Some("lnbcrt1"));

    let sent: SendReply = client.call(&Request::Send(send_to(THERE))).await.unwrap();
    assert_eq!((sent.packet_id, sent.total_msat), ("07".repeat(32), 9));
    let asked = stage.node.sent.lock().unwrap().pop().unwrap();
    assert_eq!(
        (asked.destination, &asked.payload[..]),
        (THERE, &[0x00, 0xff][..])
    );
    assert_eq!(
        (asked.protocol_id.as_str(), asked.ttl, asked.timeout),
        ("chat", Duration::from_secs(5), Duration::from_secs(6))
    );
    assert_eq!(
        (asked.max_hops, asked.max_total_msat, asked.max_fee_msat),
        (4, 11, 12)
    );
}

#[tokio::test]
async fn a_send_without_limits_pays_what_the_operators_caps_allow_and_one_with_limits_what_they_say() {
    let mut payments = PaymentsConfig::default();
    payments.caps.max_fee_msat = 5;
    let stage = Stage::new(FakeNode::default(), payments);
    let own_limit = |max_total_msat| SendParams {
        max_total_msat,
        max_fee_msat: None,
        ..send_to(THERE)
    };
    for (limit, auto_pay, most) in [(None, Some(Caller::Operator), u64::MAX), (Some(0), None, 0)] {
        let request = Request::Send(own_limit(limit));
        let _: SendReply = stage.client().await.call(&request).await.unwrap();
        let asked = stage.node.sent.lock().unwrap().pop().unwrap();
        assert_eq!((asked.auto_pay, asked.max_total_msat), (auto_pay, most));
        assert_eq!(asked.max_fee_msat, 5);
    }
}

#[tokio::test]
async fn a_send_after_a_reload_goes_by_the_new_fee_cap() {
    let node = Arc::new(FakeNode::default());
    let config = live(PaymentsConfig::default());
    let info = NodeInfo {
        listen_addr: None,
        network: "regtest".into(),
        wallet: "none".into(),
        started: Instant::now(),
    };
    let service = AdminService::new(node.clone(), info, config.clone());
    for fee_msat in [5, 1_234] {
        config.lock().unwrap().payments.caps.max_fee_msat = fee_msat;
        let send = SendParams {
            max_fee_msat: None,
            ..send_to(THERE)
        };
        service.answer(Request::Send(send)).await.unwrap();
        let asked = node.sent.lock().unwrap().pop().unwrap();
        assert_eq!(asked.max_fee_msat, fee_msat);
    }
}

#[tokio::test]
async fn a_refusal_arrives_with_its_name_its_advice_and_who_said_it() {
    let node = FakeNode {
        refuse: Some(DropReason::NoRoute),
        ..FakeNode::default()
    };
    let stage = Stage::new(node, PaymentsConfig::default());
    let Err(ClientError::Refused(error)) = stage.client().await.call::<StatusReply>(&Request::Status).await
    else {
        panic!("not refused");
    };
    assert_eq!(error.code, "no_route");
    assert_eq!(error.advice, DropReason::NoRoute.advice());
    assert_eq!(
        (error.by, error.missing),
        (Some(Box::new(Text(THERE))), vec![Text(HERE)])
    );
}

#[tokio::test]
async fn garbage_is_refused_and_the_connection_lives_on() {
    let stage = Stage::plain();
    let mut raw = stage.raw().await;
    let there = THERE.to_string();
    let cases = [
        (json!("text"), "bad_request", "not a request"),
        (json!({}), "bad_request", "missing field `method`"),
        (
            json!({"method": "status", "extra": 1}),
            "bad_request",
            "unknown field `extra`",
        ),
        (json!({"method": "fly"}), "unknown_method", "no method `fly`"),
        (
            json!({"method": "status", "params": {"a": 1}}),
            "bad_request",
            "unknown field `a`",
        ),
        (
            json!({"method": "discover"}),
            "bad_request",
            "missing field `destination`",
        ),
        (
            json!({"method": "discover", "params": {"destination": "me"}}),
            "bad_request",
            "64 hexadecimal digits",
        ),
        (
            json!({"method": "discover", "params": {"destination": there, "max_hops": 11}}),
            "bad_request",
            "1 to 10",
        ),
        (
            json!({"method": "discover", "params": {"destination": there, "timeout_ms": 0}}),
            "bad_request",
            "timeout_ms",
        ),
        (
            json!({"method": "discover", "params": {"destination": there, "hops": 1}}),
            "bad_request",
            "unknown field `hops`",
        ),
        (
            json!({"method": "quote", "params": {"destination": there, "units": 0}}),
            "bad_request",
            "units",
        ),
        (
            json!({"method": "quote", "params": {"destination": there, "units": -1}}),
            "bad_request",
            "invalid value",
        ),
        (
            json!({"method": "send", "params": {"destination": there, "payload_hex": "0"}}),
            "bad_request",
            "hexadecimal",
        ),
        (
            json!({"method": "send", "params": {"destination": there, "payload_hex": "", "ttl_ms": u64::MAX}}),
            "bad_request",
            "ttl_ms",
        ),
        (
            json!({"method": "listen", "params": {"protocol": "x".repeat(65)}}),
            "bad_request",
            "64 bytes",
        ),
    ];
    for (request, code, message) in cases {
        let answer = say(&mut raw, request.to_string().as_bytes()).await;
        assert_eq!(answer["error"]["code"], code, "{request} gave {answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains(message), "{request} gave {said}");
    }
    for garbage in [&b"\xff\xfe"[..], b"", b"{", b"[[[[[[[["] {
        assert_eq!(say(&mut raw, garbage).await["error"]["code"], "bad_request");
    }
    assert_eq!(say(&mut raw, br#"{"method":"status"}"#).await["ok"]["peers"], 1);
    assert_eq!(
        say(&mut raw, br#"{"method":"status","params":null}"#).await["ok"]["peers"],
        1
    );
    assert_eq!(
        say(&mut raw, br#"{"method":"status","params":{}}"#).await["ok"]["peers"],
        1
    );
}

#[tokio::test]
async fn the_largest_payload_fits_and_one_byte_more_is_refused_with_the_reason() {
    let stage = Stage::plain();
    let mut client = stage.client().await;
    let limit = mesh_core::limits::MAX_PAYLOAD_BYTES;
    let sized = |bytes: usize| SendParams {
        payload_hex: "ab".repeat(bytes),
        ..send_to(THERE)
    };
    let _: SendReply = client.call(&Request::Send(sized(limit))).await.unwrap();
    assert_eq!(stage.node.sent.lock().unwrap()[0].payload.len(), limit);
    let error = client
        .call::<SendReply>(&Request::Send(sized(limit + 1)))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("split it"), "{error}");
}

#[tokio::test]
async fn a_line_without_end_is_refused_and_cut_off() {
    let stage = Stage::plain();
    let mut raw = stage.raw().await;
    let flood = vec![b'x'; MAX_REQUEST_BYTES + 1];
    raw.get_mut().write_all(&flood).await.unwrap();
    assert_eq!(hear(&mut raw).await["error"]["code"], "line_too_long");
    assert_eq!(hear(&mut raw).await, Value::Null, "the connection is closed");
}

#[tokio::test]
async fn a_listener_gets_what_arrives_and_is_forgotten_when_it_hangs_up() {
    let stage = Stage::plain();
    let mut client = stage.client().await;
    client
        .listen(ListenParams {
            protocol: Some("chat".into()),
        })
        .await
        .unwrap();
    let (protocol, reader) = stage.node.readers.lock().unwrap().pop().unwrap();
    assert_eq!(protocol.as_deref(), Some("chat"));
    for sequence in 0..3 {
        let delivery = Delivery {
            source: Some(THERE),
            session: SessionId([8; 16]),
            sequence,
            packet_id: [7; 32],
            protocol_id: "chat".into(),
            payload: Bytes::from_static(b"hello"),
        };
        reader.send(delivery).await.unwrap();
        let heard = client.next_delivery().await.unwrap().unwrap();
        assert_eq!((heard.source, heard.sequence), (Some(Text(THERE)), sequence));
        assert_eq!(hex::decode(&heard.payload_hex).unwrap(), b"hello");
    }
    drop(client);
    reader.closed().await;
}

#[tokio::test]
async fn when_the_node_stops_listeners_learn_it_and_the_socket_is_gone() {
    let stage = Stage::plain();
    let mut client = stage.client().await;
    client.listen(ListenParams::default()).await.unwrap();
    stage.server.stop().await;
    assert_eq!(client.next_delivery().await.unwrap(), None);
    assert!(!stage.path.exists());
    let error = AdminClient::connect(&stage.path).await.err().unwrap();
    assert!(error.to_string().contains("blvm-mesh run"), "{error}");
}

#[tokio::test]
async fn one_client_too_many_is_turned_away_with_the_reason_and_a_freed_place_is_taken() {
    let stage = Stage::plain();
    let mut clients = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut client = stage.client().await;
        let _: StatusReply = client.call(&Request::Status).await.unwrap();
        clients.push(client);
    }
    let error = stage
        .client()
        .await
        .call::<StatusReply>(&Request::Status)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused(error) if error.code == codes::TOO_MANY_CONNECTIONS),
        "{error}"
    );
    // A listener hangs up: that its reader is gone tells when the server noticed.
    let mut listener = clients.pop().unwrap();
    listener.listen(ListenParams::default()).await.unwrap();
    let (_, reader) = stage.node.readers.lock().unwrap().pop().unwrap();
    drop(listener);
    reader.closed().await;
    while stage
        .client()
        .await
        .call::<StatusReply>(&Request::Status)
        .await
        .is_err()
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_told_and_let_go() {
    let stage = Stage::plain();
    let mut raw = stage.raw().await;
    assert_eq!(hear(&mut raw).await["error"]["code"], "idle");
    assert_eq!(hear(&mut raw).await, Value::Null);
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::plain();
    let mode = std::fs::metadata(&stage.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_live_socket_is_not_taken_over_a_dead_one_is_and_a_file_is_left_alone() {
    let stage = Stage::plain();
    let again = || {
        AdminServer::start(
            &stage.path,
            service(stage.node.clone(), PaymentsConfig::default()),
        )
    };
    assert!(matches!(again(), Err(BindError::InUse(_))));
    let _: StatusReply = stage.client().await.call(&Request::Status).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(dead.exists(), "a listener that dies leaves its socket");
    let revived = AdminServer::start(&dead, service(stage.node.clone(), PaymentsConfig::default())).unwrap();
    let mut client = AdminClient::connect(&dead).await.unwrap();
    let _: StatusReply = client.call(&Request::Status).await.unwrap();
    revived.stop().await;

    std::fs::write(&dead, "precious").unwrap();
    let refused = AdminServer::start(&dead, service(stage.node.clone(), PaymentsConfig::default()));
    assert!(matches!(refused, Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read(&dead).unwrap(), b"precious");
}
