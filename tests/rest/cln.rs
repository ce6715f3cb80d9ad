//! Core Lightning, played with the answers that its published schemas describe.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use blvm_mesh::config::{WalletBackend, WalletConfig};
use blvm_mesh::wallet::{
    Balance, InvoiceStatus, LightningNetwork, OfferRequest, PaymentOutcome, PaymentStatus, Probe, WalletError,
};
use serde_json::{Value, json};

use crate::server::{Asked, Certificates, Reply, Server};
use crate::wallets::{
    LONG, PREIMAGE, SHORT, SOLD, config, connect, invoice, node_key, pay, payment_hash, refusal, request,
};

const RUNE: &str = "tU-RLjMiDpY2U0o3W1oFowar36RFGpWloPbW9-RuZdo9MyZpZD0wMjRi";

fn getinfo() -> Value {
    json!({
        "id": node_key(), "alias": "played", "color": "023456", "network": "regtest", "blockheight": 100,
        "version": "v25.12", "fees_collected_msat": 0,
    })
}

/// clnrest answers success with 201.
fn done(result: Value) -> Reply {
    Reply::error(201, result)
}

fn complaint(code: i64, message: &str) -> Reply {
    Reply::error(500, json!({"code": code, "message": message}))
}

fn pays(statuses: &[&str]) -> Reply {
    let one = |status: &&str| {
        let mut pay = json!({
            "bolt11": invoice(50_000, SOLD), "destination": node_key(), "payment_hash": hex::encode(payment_hash()),
            "status": status, "created_at": 1_764_000_000, "created_index": 1,
        });
        if *status == "complete" {
            pay["preimage"] = hex::encode(PREIMAGE).into();
            pay["amount_msat"] = 50_000.into();
            pay["amount_sent_msat"] = 51_001.into();
        }
        pay
    };
    done(json!({"pays": statuses.iter().map(one).collect::<Vec<_>>()}))
}

fn xpaid() -> Reply {
    done(json!({
        "payment_preimage": hex::encode(PREIMAGE), "amount_msat": 50_000, "amount_sent_msat": 51_001,
        "failed_parts": 0, "successful_parts": 1,
    }))
}

fn paid() -> PaymentOutcome {
    PaymentOutcome {
        preimage: PREIMAGE,
        amount_msat: 50_000,
        fee_msat: 1_001,
    }
}

/// A node that says who it is, and answers the rest as told, by method.
async fn node(answer: impl Fn(&str, &Asked) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |asked| {
        assert_eq!(
            (asked.method.as_str(), asked.headers["rune"].as_str()),
            ("POST", RUNE)
        );
        match asked.path.strip_prefix("/v1/").unwrap() {
            "getinfo" => done(getinfo()),
            method => answer(method, asked),
        }
    })
    .await
}

/// A node whose list says `before` until a payment was sent and `after` from then on.
async fn payer(before: Reply, sent: Reply, after: Reply) -> Server {
    let was_sent = AtomicUsize::new(0);
    node(move |method, _| match method {
        "xpay" => {
            was_sent.fetch_add(1, Ordering::SeqCst);
            sent.clone()
        }
        "listpays" if was_sent.load(Ordering::SeqCst) == 0 => before.clone(),
        "listpays" => after.clone(),
        "listpeerchannels" => done(channels()),
        other => panic!("asked for {other}"),
    })
    .await
}

fn channels() -> Value {
    let channel = |state: &str, connected: bool| {
        json!({
            "peer_id": node_key(), "peer_connected": connected, "state": state, "opener": "local", "features": [],
            "to_us_msat": 400_000, "total_msat": 1_000_000, "spendable_msat": 350_000, "receivable_msat": 500_000,
            "htlcs": [
                {"direction": "out", "id": 1, "amount_msat": 20_000, "expiry": 200, "state": "SENT_ADD_ACK_REVOCATION"},
                {"direction": "in", "id": 2, "amount_msat": 30_000, "expiry": 200, "state": "RCVD_ADD_ACK_REVOCATION"},
            ],
        })
    };
    let states = [
        ("CHANNELD_NORMAL", true),
        ("CHANNELD_NORMAL", false),
        ("ONCHAIN", false),
    ];
    json!({"channels": states.map(|(state, connected)| channel(state, connected))})
}

fn cln(server: &Server) -> WalletConfig {
    config(WalletBackend::Cln, &server.url(), RUNE)
}

#[tokio::test]
async fn the_node_is_known_by_its_key_and_network() {
    let server = node(|_, _| Reply::Silence).await;
    let info = connect(&cln(&server)).await.info().await.unwrap();
    assert_eq!(
        (info.backend, info.network),
        ("cln", Some(LightningNetwork::Regtest))
    );
    assert_eq!(hex::encode(info.payee.unwrap()), node_key());
}

#[tokio::test]
async fn an_invoice_is_made_from_the_text_that_its_hash_commits_to() {
    let labels = Mutex::new(Vec::new());
    let server = node(move |method, asked| {
        assert_eq!(method, "invoice");
        let body = &asked.body;
        assert_eq!((&body["description"], &body["deschashonly"]), (&SOLD.into(), &true.into()));
        assert_eq!((&body["amount_msat"], &body["expiry"]), (&50_001.into(), &600.into()));
        let label = body["label"].as_str().unwrap().to_owned();
        let mut labels = labels.lock().unwrap();
        if labels.contains(&label) {
            return complaint(900, "Duplicate label");
        }
        labels.push(label);
        done(json!({
            "payment_hash": hex::encode(payment_hash()), "expires_at": 1_764_000_600, "bolt11": invoice(50_001, SOLD),
            "payment_secret": "03".repeat(32), "created_index": 1,
        }))
    })
    .await;
    let wallet = connect(&cln(&server)).await;
    for _ in 0..2 {
        let made = wallet.create_invoice(request(50_001)).await.unwrap();
        assert_eq!(
            (made.bolt11, made.payment_hash),
            (invoice(50_001, SOLD), payment_hash())
        );
    }
}

#[tokio::test]
async fn only_a_paid_invoice_is_money() {
    let states = Mutex::new(vec!["paid", "expired", "unpaid"]);
    let server = node(move |method, asked| {
        assert_eq!(method, "listinvoices");
        assert_eq!(asked.body["payment_hash"], hex::encode(payment_hash()));
        let Some(state) = states.lock().unwrap().pop() else {
            return done(json!({"invoices": []}));
        };
        let mut listed = json!({
            "label": "l", "payment_hash": hex::encode(payment_hash()), "status": state, "expires_at": 1, "created_index": 1,
        });
        if state == "paid" {
            listed["amount_received_msat"] = 50_007.into();
        }
        done(json!({"invoices": [listed]}))
    })
    .await;
    let wallet = connect(&cln(&server)).await;
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(wallet.invoice_status(payment_hash()).await.unwrap());
    }
    let settled = InvoiceStatus::Settled { amount_msat: 50_007 };
    assert_eq!(
        said,
        [
            InvoiceStatus::Open,
            InvoiceStatus::Expired,
            settled,
            InvoiceStatus::Unknown
        ]
    );
}

#[tokio::test]
async fn a_payment_keeps_its_limits_and_tells_its_preimage() {
    let server = payer(pays(&[]), xpaid(), pays(&["complete"])).await;
    let wallet = connect(&cln(&server)).await;
    assert_eq!(wallet.pay(pay(LONG)).await, Ok(paid()));
    let asked = server.asked();
    let sent = &asked.iter().find(|asked| asked.path == "/v1/xpay").unwrap().body;
    assert_eq!(
        (&sent["maxfee"], &sent["maxdelay"]),
        (&1_200.into(), &1_008.into())
    );
    let seconds = sent["retry_for"].as_u64().unwrap();
    assert!((20..30).contains(&seconds), "{seconds}");

    assert_eq!(wallet.pay(pay(LONG)).await, Ok(paid()), "the first outcome again");
    assert_eq!(server.times("/v1/xpay"), 1, "and nothing was sent for it");
    assert_eq!(
        wallet.payment_status(payment_hash()).await,
        Ok(PaymentStatus::Succeeded(paid()))
    );
}

#[tokio::test]
async fn an_error_while_parts_are_under_way_is_no_failure() {
    let server = payer(
        pays(&[]),
        complaint(209, "one part failed"),
        pays(&["failed", "pending"]),
    )
    .await;
    let wallet = connect(&cln(&server)).await;
    let unknown = wallet.pay(pay(SHORT)).await.unwrap_err();
    assert!(matches!(unknown, WalletError::OutcomeUnknown { .. }), "{unknown}");
    assert_eq!(
        wallet.payment_status(payment_hash()).await,
        Ok(PaymentStatus::InFlight)
    );

    let server = payer(
        pays(&[]),
        complaint(209, "one part failed"),
        pays(&["failed", "complete"]),
    )
    .await;
    assert_eq!(connect(&cln(&server)).await.pay(pay(LONG)).await, Ok(paid()));
}

#[tokio::test]
async fn a_payment_without_an_answer_has_an_unknown_outcome_and_is_never_sent_again() {
    for sent in [
        Reply::Silence,
        Reply::Broken,
        Reply::Status(502, b"<html>".to_vec()),
        Reply::Status(201, b"{".to_vec()),
        // Somebody in between, in a JSON of his own.
        Reply::error(500, json!({"message": "upstream timed out"})),
        Reply::error(500, json!({"code": null, "message": "the node's socket is gone"})),
    ] {
        // The list knows nothing of it: the request may still be on its way.
        let server = payer(pays(&[]), sent, pays(&[])).await;
        let wallet = connect(&cln(&server)).await;
        for _ in 0..2 {
            let unknown = wallet.pay(pay(SHORT)).await.unwrap_err();
            assert!(matches!(unknown, WalletError::OutcomeUnknown { .. }), "{unknown}");
        }
        assert_eq!(
            wallet.payment_status(payment_hash()).await,
            Ok(PaymentStatus::InFlight)
        );
        assert_eq!(server.times("/v1/xpay"), 1);
    }
}

#[tokio::test]
async fn each_failure_has_its_name_and_frees_the_invoice() {
    let poor = WalletError::InsufficientFunds {
        needed_msat: 50_000,
        spendable_msat: 350_000,
    };
    for (code, expected) in [
        (203, WalletError::Rejected),
        (205, WalletError::NoRoute { amount_msat: 50_000 }),
        (207, WalletError::InvoiceExpired),
        (210, WalletError::Timeout),
        (215, poor),
    ] {
        let server = payer(pays(&[]), complaint(code, "no"), pays(&["failed"])).await;
        let wallet = connect(&cln(&server)).await;
        for _ in 0..2 {
            assert_eq!(wallet.pay(pay(LONG)).await, Err(expected.clone()));
        }
        assert_eq!(
            server.times("/v1/xpay"),
            2,
            "after a known failure it may be tried again"
        );
    }
}

#[tokio::test]
async fn two_who_pay_the_same_invoice_at_once_pay_it_once() {
    let server = payer(pays(&[]), xpaid(), pays(&["complete"])).await;
    let wallet = connect(&cln(&server)).await;
    let (one, other) = tokio::join!(wallet.pay(pay(LONG)), wallet.pay(pay(LONG)));
    assert_eq!((one, other), (Ok(paid()), Ok(paid())));
    assert_eq!(server.times("/v1/xpay"), 1);
}

#[tokio::test]
async fn a_probe_tells_the_fee_or_why_there_is_no_way() {
    let server = node(|method, asked| {
        assert_eq!(method, "getroutes");
        let body = &asked.body;
        assert_eq!((&body["source"], &body["destination"]), (&node_key().into(), &node_key().into()));
        assert_eq!((&body["amount_msat"], &body["maxdelay"]), (&50_000.into(), &1_008.into()));
        if body["maxfee_msat"] == 1_200 {
            return complaint(206, "Route too expensive");
        }
        // Two parts, told as versions before and after 26.06 do.
        let part = |field: &str, sent: u64| json!({
            "probability_ppm": 900_000, "amount_msat": 25_000, "final_cltv": 18,
            "path": [{"short_channel_id_dir": "1x1x1/0", field: sent}, {"short_channel_id_dir": "2x1x1/0", field: 25_000}],
        });
        done(json!({"probability_ppm": 900_000, "routes": [part("amount_msat", 25_400), part("amount_in_msat", 25_900)]}))
    })
    .await;
    let wallet = connect(&cln(&server)).await;
    let mut asked = pay(LONG);
    asked.max_fee_msat = 1_300;
    assert_eq!(
        wallet.probe(&asked).await,
        Ok(Probe::Reachable { fee_msat: 1_300 })
    );
    asked.max_fee_msat = 1_200;
    let too_dear = WalletError::FeeLimit {
        limit_msat: 1_200,
        cheapest_msat: 1_300,
    };
    assert_eq!(wallet.probe(&asked).await, Err(too_dear));

    let nowhere = node(|_, _| complaint(205, "Unable to find a route")).await;
    let refused = connect(&cln(&nowhere)).await.probe(&asked).await;
    assert_eq!(refused, Err(WalletError::NoRoute { amount_msat: 50_000 }));
}

#[tokio::test]
async fn the_balance_counts_open_channels_without_what_is_under_way() {
    let server = node(|_, _| done(channels())).await;
    let expected = Balance {
        owned_msat: 760_000,
        spendable_msat: 350_000,
        receivable_msat: Some(500_000),
        outgoing_msat: 40_000,
    };
    assert_eq!(connect(&cln(&server)).await.balance().await, Ok(expected));
}

/// A node with a data store, whose offer gives another invoice each time it is asked.
async fn treasury(amount_msat: u64, sent: Reply, after: Reply) -> Server {
    let store = Mutex::new(BTreeMap::<String, String>::new());
    let (fetched, was_sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    node(move |method, asked| match method {
        "listdatastore" => {
            let found = store.lock().unwrap().get(&asked.body["key"].to_string()).cloned();
            let record = found.map(|text| json!({"key": asked.body["key"], "generation": 0, "string": text}));
            done(json!({"datastore": record.into_iter().collect::<Vec<_>>()}))
        }
        "datastore" => {
            assert_eq!(asked.body["mode"], "must-create");
            let text = asked.body["string"].as_str().unwrap().to_owned();
            store.lock().unwrap().insert(asked.body["key"].to_string(), text);
            done(json!({"key": asked.body["key"], "generation": 0}))
        }
        "fetchinvoice" => {
            assert_eq!(
                (&asked.body["offer"], &asked.body["amount_msat"]),
                (&"lno1treasury".into(), &50_000.into())
            );
            let number = fetched.fetch_add(1, Ordering::SeqCst);
            done(json!({"invoice": format!("lni1{number}"), "changes": {}}))
        }
        "decode" => done(json!({
            "type": "bolt12 invoice", "valid": true, "invoice_amount_msat": amount_msat,
            "invoice_payment_hash": hex::encode(payment_hash()), "invoice_created_at": now,
        })),
        "xpay" => {
            assert_eq!(
                (&asked.body["invstring"], &asked.body["maxfee"]),
                (&"lni10".into(), &1_200.into())
            );
            was_sent.fetch_add(1, Ordering::SeqCst);
            sent.clone()
        }
        "listpays" if was_sent.load(Ordering::SeqCst) == 0 => pays(&[]),
        "listpays" => after.clone(),
        other => panic!("asked for {other}"),
    })
    .await
}

fn offer(timeout: std::time::Duration) -> OfferRequest {
    OfferRequest {
        offer: "lno1treasury".into(),
        amount_msat: 50_000,
        max_fee_msat: 1_200,
        reference: [9; 32],
        timeout,
    }
}

#[tokio::test]
async fn an_offer_is_paid_once_for_one_reference() {
    let server = treasury(50_000, xpaid(), pays(&["complete"])).await;
    let wallet = connect(&cln(&server)).await;
    for _ in 0..2 {
        assert_eq!(wallet.pay_offer(offer(LONG)).await, Ok(paid()));
    }
    assert_eq!(
        (server.times("/v1/fetchinvoice"), server.times("/v1/xpay")),
        (1, 1)
    );
}

#[tokio::test]
async fn an_offer_whose_payment_was_not_answered_is_paid_with_the_same_invoice_after_a_restart() {
    let server = treasury(50_000, Reply::Silence, pays(&["pending"])).await;
    let unknown = connect(&cln(&server))
        .await
        .pay_offer(offer(SHORT))
        .await
        .unwrap_err();
    assert!(matches!(unknown, WalletError::OutcomeUnknown { .. }), "{unknown}");
    let unknown = connect(&cln(&server))
        .await
        .pay_offer(offer(SHORT))
        .await
        .unwrap_err();
    assert!(matches!(unknown, WalletError::OutcomeUnknown { .. }), "{unknown}");
    assert_eq!(
        (server.times("/v1/fetchinvoice"), server.times("/v1/xpay")),
        (1, 1)
    );
}

#[tokio::test]
async fn an_offer_that_answers_with_another_amount_is_not_paid() {
    let server = treasury(50_001, xpaid(), pays(&["complete"])).await;
    let refused = connect(&cln(&server))
        .await
        .pay_offer(offer(LONG))
        .await
        .unwrap_err();
    assert!(matches!(refused, WalletError::InvoiceInvalid { .. }), "{refused}");
    assert_eq!(server.times("/v1/xpay"), 0);
}

#[tokio::test]
async fn a_refused_rune_is_told_with_where_it_stands() {
    for (status, code) in [(401, 1502), (403, 1501)] {
        let server =
            Server::start(move |_| Reply::error(status, json!({"code": code, "message": "no"}))).await;
        let said = refusal(&cln(&server)).await;
        assert!(
            said.contains(&status.to_string()) && said.contains("[wallet]"),
            "{said}"
        );
        assert!(!said.contains(RUNE), "{said}");
    }
}

#[tokio::test]
async fn garbage_and_silence_never_count_as_failed_payments() {
    for list in [
        Reply::Status(201, b"{".to_vec()),
        Reply::Broken,
        complaint(-1, "database is locked"),
    ] {
        let server = node(move |_, _| list.clone()).await;
        let wallet = connect(&cln(&server)).await;
        let unheard = wallet.pay(pay(LONG)).await.unwrap_err();
        assert!(!unheard.nothing_moved(), "{unheard}");
        assert_eq!(
            server.times("/v1/xpay"),
            0,
            "nothing is sent while the list cannot be read"
        );
    }
}

#[tokio::test]
async fn the_authority_of_the_node_vouches_for_it() {
    let signed = Certificates::signed_for("localhost");
    let server = Server::start_with(Some(signed.acceptor), |_| done(getinfo())).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, signed.authority_pem).unwrap();
    let url = format!("https://localhost:{}", server.address.port());
    let mut config = config(WalletBackend::Cln, &url, RUNE);
    config.remote.as_mut().unwrap().certificate_file = Some(path);
    assert!(connect(&config).await.info().await.is_ok());
}
