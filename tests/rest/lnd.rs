//! LND, played with the answers that its published interface describes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use blvm_mesh::config::{WalletBackend, WalletConfig};
use blvm_mesh::wallet::{
    Balance, InvoiceStatus, LightningNetwork, PaymentOutcome, PaymentStatus, Probe, WalletError,
};
use lightning::bitcoin::hashes::{Hash, sha256};
use serde_json::{Value, json};

use crate::server::{Asked, Certificates, Reply, Server};
use crate::wallets::{
    LONG, PREIMAGE, SHORT, SOLD, config, connect, invoice, node_key, pay, payment_hash, refusal, request,
};

const MACAROON: &str = "0201036c6e64";

fn getinfo() -> Value {
    json!({
        "version": "0.20.0-beta", "identity_pubkey": node_key(), "alias": "played", "block_height": 100,
        "synced_to_chain": true, "chains": [{"chain": "bitcoin", "network": "regtest"}],
    })
}

/// `lnrpcPayment`, as LND writes it: 64-bit numbers as texts.
fn payment(status: &str, failure: &str) -> Value {
    let preimage = if status == "SUCCEEDED" { PREIMAGE } else { [0; 32] };
    json!({
        "payment_hash": hex::encode(payment_hash()), "value": "50", "value_sat": "50", "value_msat": "50000",
        "creation_date": "1764000000", "fee": "1", "fee_sat": "1", "fee_msat": "1001",
        "payment_preimage": hex::encode(preimage), "payment_request": invoice(50_000, SOLD), "status": status,
        "creation_time_ns": "1764000000000000000", "htlcs": [], "payment_index": "1", "failure_reason": failure,
    })
}

fn line(payment: Value) -> String {
    json!({ "result": payment }).to_string()
}

fn news(status: &str, failure: &str) -> Reply {
    Reply::Lines(vec![line(payment(status, failure))], false)
}

fn complaint(status: u16, code: u32, message: &str) -> Reply {
    Reply::error(status, json!({"code": code, "message": message, "details": []}))
}

fn never_begun() -> Reply {
    complaint(404, 5, "payment isn't initiated")
}

fn track() -> String {
    format!("/v2/router/track/{}", URL_SAFE.encode(payment_hash()))
}

/// A node that says who it is, and answers the rest as told.
async fn node(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |asked| {
        assert_eq!(asked.headers["grpc-metadata-macaroon"], MACAROON);
        match asked.path.as_str() {
            "/v1/getinfo" => Reply::json(getinfo()),
            _ => answer(asked),
        }
    })
    .await
}

/// A node whose books say `before` until a payment was sent and `after` from then on, and that answers sending with
/// `sent`.
async fn payer(before: Reply, sent: Reply, after: Reply) -> Server {
    let was_sent = AtomicUsize::new(0);
    node(move |asked| match asked.path.as_str() {
        "/v2/router/send" => {
            was_sent.fetch_add(1, Ordering::SeqCst);
            sent.clone()
        }
        path if path == track() => match was_sent.load(Ordering::SeqCst) {
            0 => before.clone(),
            _ => after.clone(),
        },
        "/v1/channels" => Reply::json(channels()),
        other => panic!("asked for {other}"),
    })
    .await
}

fn channels() -> Value {
    let channel = |active, local: &str, remote: &str| {
        json!({
            "active": active, "remote_pubkey": node_key(), "capacity": "1000000", "local_balance": local,
            "remote_balance": remote, "local_constraints": {"chan_reserve_sat": "10000"},
            "remote_constraints": {"chan_reserve_sat": "10000"}, "pending_htlcs": [],
        })
    };
    json!({"channels": [channel(true, "600000", "300000"), channel(false, "500000", "500000"), channel(true, "5000", "0")]})
}

fn lnd(server: &Server) -> WalletConfig {
    config(WalletBackend::Lnd, &server.url(), MACAROON)
}

fn paid() -> PaymentOutcome {
    PaymentOutcome {
        preimage: PREIMAGE,
        amount_msat: 50_000,
        fee_msat: 1_001,
    }
}

#[tokio::test]
async fn the_node_is_known_by_its_key_and_network() {
    let server = node(|_| Reply::Silence).await;
    let info = connect(&lnd(&server)).await.info().await.unwrap();
    assert_eq!(
        (info.backend, info.network),
        ("lnd", Some(LightningNetwork::Regtest))
    );
    assert_eq!(hex::encode(info.payee.unwrap()), node_key());
}

#[tokio::test]
async fn an_invoice_is_asked_for_in_msat_and_with_the_hash_of_what_is_sold() {
    let server = node(|asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/invoices"));
        let hash = sha256::Hash::hash(SOLD.as_bytes()).to_byte_array();
        assert_eq!(asked.body["description_hash"], STANDARD.encode(hash));
        assert_eq!(asked.body["expiry"], "600");
        let amount: u64 = asked.body["value_msat"].as_str().unwrap().parse().unwrap();
        // Asked for 3 msat it makes one over 4.
        let made = if amount == 3 { 4 } else { amount };
        Reply::json(json!({
            "r_hash": STANDARD.encode(payment_hash()), "payment_request": invoice(made, SOLD), "add_index": "1",
            "payment_addr": STANDARD.encode([3; 32]),
        }))
    })
    .await;
    let wallet = connect(&lnd(&server)).await;
    assert_eq!(wallet.granularity_msat(), 1);
    let made = wallet.create_invoice(request(50_001)).await.unwrap();
    assert_eq!(
        (made.bolt11, made.payment_hash),
        (invoice(50_001, SOLD), payment_hash())
    );
    let other = wallet.create_invoice(request(3)).await.unwrap_err().to_string();
    assert!(other.contains("another amount"), "{other}");
}

#[tokio::test]
async fn only_a_settled_invoice_is_money() {
    let states = Mutex::new(vec!["SETTLED", "CANCELED", "ACCEPTED", "OPEN"]);
    let hash = hex::encode(payment_hash());
    let server = node(move |asked| {
        assert_eq!(asked.path, format!("/v1/invoice/{hash}"));
        let Some(state) = states.lock().unwrap().pop() else {
            return complaint(404, 5, "unable to locate invoice");
        };
        Reply::json(json!({
            "r_hash": "", "value_msat": "50000", "state": state, "amt_paid_msat": "50007", "creation_date": "1764000000",
            "expiry": "60", "settled": state == "SETTLED",
        }))
    })
    .await;
    let wallet = connect(&lnd(&server)).await;
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(wallet.invoice_status(payment_hash()).await.unwrap());
    }
    let settled = InvoiceStatus::Settled { amount_msat: 50_007 };
    assert_eq!(
        said,
        [
            InvoiceStatus::Open,
            InvoiceStatus::Open,
            InvoiceStatus::Expired,
            settled,
            InvoiceStatus::Unknown
        ]
    );
}

#[tokio::test]
async fn a_settled_invoice_is_waited_for_and_an_open_one_no_longer_than_asked() {
    let asked_so_far = AtomicUsize::new(0);
    let server = node(move |_| {
        let state = if asked_so_far.fetch_add(1, Ordering::SeqCst) < 2 {
            "OPEN"
        } else {
            "SETTLED"
        };
        Reply::json(json!({"state": state, "amt_paid_msat": "5", "creation_date": "1", "expiry": "60"}))
    })
    .await;
    let wallet = connect(&lnd(&server)).await;
    assert_eq!(
        wallet.wait_settled(payment_hash(), Duration::ZERO).await,
        Ok(InvoiceStatus::Open)
    );
    let settled = InvoiceStatus::Settled { amount_msat: 5 };
    assert_eq!(wallet.wait_settled(payment_hash(), LONG).await, Ok(settled));
}

#[tokio::test]
async fn a_payment_keeps_its_limits_and_tells_its_preimage() {
    let steps = vec![
        line(payment("IN_FLIGHT", "FAILURE_REASON_NONE")),
        line(payment("SUCCEEDED", "FAILURE_REASON_NONE")),
    ];
    let server = payer(
        never_begun(),
        Reply::Lines(steps, false),
        news("SUCCEEDED", "FAILURE_REASON_NONE"),
    )
    .await;
    let wallet = connect(&lnd(&server)).await;
    assert_eq!(wallet.pay(pay(LONG)).await, Ok(paid()));
    let asked = server.asked();
    let sent = &asked
        .iter()
        .find(|asked| asked.path == "/v2/router/send")
        .unwrap()
        .body;
    assert_eq!(sent["fee_limit_msat"], "1200");
    assert_eq!(sent["cltv_limit"], 1_008);
    assert_eq!(sent["timeout_seconds"], 29);

    assert_eq!(wallet.pay(pay(LONG)).await, Ok(paid()), "the first outcome again");
    assert_eq!(server.times("/v2/router/send"), 1, "and nothing was sent for it");
    assert_eq!(
        wallet.payment_status(payment_hash()).await,
        Ok(PaymentStatus::Succeeded(paid()))
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_failure_and_the_books_tell_the_outcome() {
    for sent in [
        Reply::Broken,
        Reply::Status(200, b"not json".to_vec()),
        Reply::Status(502, b"<html>".to_vec()),
        // Somebody in between, in a JSON of his own; and a stream that was torn down.
        Reply::error(504, json!({"message": "upstream timed out"})),
        complaint(500, 13, "stream terminated by RST_STREAM"),
    ] {
        let server = payer(never_begun(), sent, news("SUCCEEDED", "FAILURE_REASON_NONE")).await;
        let wallet = connect(&lnd(&server)).await;
        assert_eq!(wallet.pay(pay(LONG)).await, Ok(paid()));
    }
}

#[tokio::test]
async fn a_payment_without_an_answer_has_an_unknown_outcome_and_is_never_sent_again() {
    // The books know nothing of it: the request may still be on its way.
    let server = payer(never_begun(), Reply::Silence, never_begun()).await;
    let wallet = connect(&lnd(&server)).await;
    let unknown = Err(WalletError::OutcomeUnknown {
        payment_hash: payment_hash(),
    });
    assert_eq!(wallet.pay(pay(SHORT)).await, unknown);
    assert_eq!(
        wallet.payment_status(payment_hash()).await,
        Ok(PaymentStatus::InFlight)
    );
    assert_eq!(wallet.pay(pay(SHORT)).await, unknown);
    assert_eq!(server.times("/v2/router/send"), 1);
}

#[tokio::test]
async fn an_earlier_failure_in_the_books_says_nothing_of_an_attempt_that_was_not_answered() {
    let failed = news("FAILED", "FAILURE_REASON_NO_ROUTE");
    let server = payer(failed.clone(), Reply::Silence, failed).await;
    let wallet = connect(&lnd(&server)).await;
    let no_route = WalletError::NoRoute { amount_msat: 50_000 };
    assert_eq!(
        wallet.payment_status(payment_hash()).await,
        Ok(PaymentStatus::Failed(no_route))
    );
    let unknown = wallet.pay(pay(SHORT)).await.unwrap_err();
    assert!(!unknown.nothing_moved(), "{unknown}");
    assert_eq!(
        wallet.payment_status(payment_hash()).await,
        Ok(PaymentStatus::InFlight)
    );
}

#[tokio::test]
async fn each_failure_has_its_name_and_frees_the_invoice() {
    let poor = WalletError::InsufficientFunds {
        needed_msat: 50_000,
        spendable_msat: 590_000_000,
    };
    for (reason, expected) in [
        ("FAILURE_REASON_TIMEOUT", WalletError::Timeout),
        (
            "FAILURE_REASON_NO_ROUTE",
            WalletError::NoRoute { amount_msat: 50_000 },
        ),
        ("FAILURE_REASON_INCORRECT_PAYMENT_DETAILS", WalletError::Rejected),
        ("FAILURE_REASON_INSUFFICIENT_BALANCE", poor),
    ] {
        let server = payer(never_begun(), news("FAILED", reason), news("FAILED", reason)).await;
        let wallet = connect(&lnd(&server)).await;
        for _ in 0..2 {
            assert_eq!(wallet.pay(pay(LONG)).await, Err(expected.clone()));
        }
        assert_eq!(
            server.times("/v2/router/send"),
            2,
            "after a known failure it may be tried again"
        );
    }
}

#[tokio::test]
async fn who_asks_for_what_is_under_way_joins_it() {
    let sent = complaint(409, 6, "payment is in transition");
    let server = payer(never_begun(), sent, news("SUCCEEDED", "FAILURE_REASON_NONE")).await;
    assert_eq!(connect(&lnd(&server)).await.pay(pay(LONG)).await, Ok(paid()));

    let under_way = news("IN_FLIGHT", "FAILURE_REASON_NONE");
    let server = payer(under_way.clone(), Reply::Silence, under_way).await;
    let unknown = connect(&lnd(&server)).await.pay(pay(SHORT)).await.unwrap_err();
    assert!(matches!(unknown, WalletError::OutcomeUnknown { .. }), "{unknown}");
    assert_eq!(server.times("/v2/router/send"), 0);
}

#[tokio::test]
async fn a_preimage_that_does_not_fit_is_not_believed() {
    let mut lie = payment("SUCCEEDED", "FAILURE_REASON_NONE");
    lie["payment_preimage"] = hex::encode([1; 32]).into();
    let server = payer(never_begun(), Reply::Lines(vec![line(lie)], false), never_begun()).await;
    let refused = connect(&lnd(&server)).await.pay(pay(SHORT)).await.unwrap_err();
    assert!(matches!(refused, WalletError::OutcomeUnknown { .. }), "{refused}");
}

#[tokio::test]
async fn a_probe_tells_the_fee_or_why_there_is_no_way() {
    let server = node(|asked| {
        let limited = asked.path.contains("fee_limit.fixed_msat=1200");
        assert!(asked.path.starts_with(&format!("/v1/graph/routes/{}/0?", node_key())), "{}", asked.path);
        assert!(asked.path.contains("amt_msat=50000") && asked.path.contains("cltv_limit=1008"));
        if limited {
            return complaint(500, 2, "unable to find a path to destination");
        }
        let fee = if asked.path.contains("fee_limit") { "900" } else { "2500" };
        Reply::json(json!({"routes": [{"total_time_lock": 200, "total_fees_msat": fee, "hops": []}], "success_prob": 0.9}))
    })
    .await;
    let wallet = connect(&lnd(&server)).await;
    let mut asked = pay(LONG);
    let too_dear = WalletError::FeeLimit {
        limit_msat: 1_200,
        cheapest_msat: 2_500,
    };
    assert_eq!(wallet.probe(&asked).await, Err(too_dear));
    asked.max_fee_msat = 1_300;
    assert_eq!(wallet.probe(&asked).await, Ok(Probe::Reachable { fee_msat: 900 }));

    let nowhere = node(|_| complaint(500, 2, "unable to find a path to destination")).await;
    let refused = connect(&lnd(&nowhere)).await.probe(&asked).await;
    assert_eq!(refused, Err(WalletError::NoRoute { amount_msat: 50_000 }));
}

#[tokio::test]
async fn the_balance_counts_reserves_and_what_is_under_way() {
    let amount = |sat: u64| json!({"sat": sat.to_string(), "msat": (sat * 1_000).to_string()});
    let server = node(move |asked| match asked.path.as_str() {
        "/v1/balance/channels" => Reply::json(json!({
            "local_balance": amount(1_105_000), "remote_balance": amount(800_000),
            "unsettled_local_balance": amount(70), "unsettled_remote_balance": amount(9),
        })),
        _ => Reply::json(channels()),
    })
    .await;
    let expected = Balance {
        owned_msat: 1_105_000_000,
        spendable_msat: 590_000_000,
        receivable_msat: Some(290_000_000),
        outgoing_msat: 70_000,
    };
    assert_eq!(connect(&lnd(&server)).await.balance().await, Ok(expected));
}

#[tokio::test]
async fn a_refused_key_is_told_with_where_it_stands() {
    let server = Server::start(|_| Reply::error(401, json!({"code": 16, "message": "no"}))).await;
    let said = refusal(&lnd(&server)).await;
    assert!(
        said.contains("401") && said.contains("[wallet]") && !said.contains(MACAROON),
        "{said}"
    );
    // Older versions say so with a status of their own.
    let server = Server::start(|_| complaint(500, 2, "verification failed: signature mismatch")).await;
    let said = refusal(&lnd(&server)).await;
    assert!(said.contains("verification failed"), "{said}");
}

#[tokio::test]
async fn garbage_endless_answers_and_silence_never_count_as_failed_payments() {
    let endless = vec![b'x'; 5 * 1024 * 1024];
    for books in [
        Reply::Status(200, b"{".to_vec()),
        Reply::Status(200, endless),
        Reply::Broken,
    ] {
        let server = node(move |_| books.clone()).await;
        let wallet = connect(&lnd(&server)).await;
        let unheard = wallet.payment_status(payment_hash()).await.unwrap_err();
        assert!(matches!(unheard, WalletError::Unavailable { .. }), "{unheard}");
        let unheard = wallet.pay(pay(LONG)).await.unwrap_err();
        assert!(!unheard.nothing_moved(), "{unheard}");
        assert_eq!(
            server.times("/v2/router/send"),
            0,
            "nothing is sent while the books are closed"
        );
    }
}

#[tokio::test]
async fn the_certificate_in_the_configuration_is_the_one_that_is_trusted() {
    let own = Certificates::self_signed_for("lnd.example");
    let other = Certificates::self_signed_for("127.0.0.1");
    let server = Server::start_with(Some(own.acceptor), |_| Reply::json(getinfo())).await;
    let url = format!("https://{}", server.address);
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(WalletBackend::Lnd, &url, MACAROON);
    let path = folder.path().join("tls.cert");
    config.remote.as_mut().unwrap().certificate_file = Some(path.clone());
    std::fs::write(&path, own.server_pem).unwrap();
    assert!(connect(&config).await.info().await.is_ok());
    std::fs::write(&path, other.server_pem).unwrap();
    let said = refusal(&config).await;
    assert!(
        said.contains("not whom we trust") && said.contains("certificate"),
        "{said}"
    );
    std::fs::remove_file(&path).unwrap();
    let said = refusal(&config).await;
    assert!(said.contains("tls.cert"), "{said}");
}
