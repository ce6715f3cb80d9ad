//! Lightning addresses, whose servers would rather be paid more, elsewhere, or for something else.

use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::lnurl::{LnurlError, invoice_for};
use lightning::bitcoin::hashes::{Hash, sha256};
use lightning::bitcoin::secp256k1::{Secp256k1, SecretKey};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use serde_json::{Value, json};

use crate::server::{Asked, Reply, Server, client};

const METADATA: &str =
    r#"[["text/plain","for \"the\" tréasury"],["text/identifier","treasury@example.org"]]"#;

fn invoice(amount_msat: u64, description: &str) -> String {
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    InvoiceBuilder::new(Currency::Regtest)
        .description_hash(sha256::Hash::hash(description.as_bytes()))
        .payment_hash(sha256::Hash::from_byte_array([2; 32]))
        .payment_secret(PaymentSecret([3; 32]))
        .duration_since_epoch(Duration::from_secs(1_000))
        .min_final_cltv_expiry_delta(18)
        .amount_milli_satoshis(amount_msat)
        .build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &key))
        .unwrap()
        .to_string()
}

/// A server that plays by the rules except for what `first` and `second` change in its answers.
async fn address_server(
    first: impl Fn(&mut Value) + Send + Sync + 'static,
    second: impl Fn(&Asked) -> Value + Send + Sync + 'static,
) -> Server {
    let (first, second) = (Arc::new(first), Arc::new(second));
    Server::start(move |asked| {
        if asked.path.starts_with("/pay") {
            return Reply::json(second(asked));
        }
        assert_eq!(asked.path, "/.well-known/lnurlp/treasury");
        let host = &asked.headers["host"];
        let mut answer = json!({
            "tag": "payRequest", "callback": format!("http://{host}/pay?for=treasury"),
            "minSendable": 1_000, "maxSendable": 100_000, "metadata": METADATA,
        });
        first(&mut answer);
        Reply::json(answer)
    })
    .await
}

async fn ask(server: &Server, amount_msat: u64) -> Result<String, LnurlError> {
    invoice_for(&format!("treasury@{}", server.address), amount_msat, &client()).await
}

fn honest(asked: &Asked) -> Value {
    assert_eq!(asked.path, "/pay?for=treasury&amount=12345");
    json!({"pr": invoice(12_345, METADATA), "routes": []})
}

#[tokio::test]
async fn an_address_gives_an_invoice_over_exactly_what_was_asked() {
    let server = address_server(|_| {}, honest).await;
    assert_eq!(ask(&server, 12_345).await.unwrap(), invoice(12_345, METADATA));
}

#[tokio::test]
async fn an_amount_the_address_does_not_take_is_refused_before_an_invoice_is_asked_for() {
    let server = address_server(|_| {}, honest).await;
    for amount in [0, 999, 100_001] {
        let refused = ask(&server, amount).await.unwrap_err();
        assert_eq!(
            refused,
            LnurlError::AmountOutOfRange {
                amount_msat: amount,
                min_msat: 1_000,
                max_msat: 100_000
            }
        );
    }
    assert_eq!(server.times("/pay"), 0);
}

#[tokio::test]
async fn an_invoice_over_more_or_less_or_for_something_else_is_not_handed_out() {
    for (amount, description, expected) in [
        (12_346, METADATA, "over 12346 msat"),
        (12_344, METADATA, "over 12344 msat"),
        (12_345, "something else", "does not commit"),
    ] {
        let server = address_server(|_| {}, move |_| json!({"pr": invoice(amount, description)})).await;
        let refused = ask(&server, 12_345).await.unwrap_err();
        assert!(matches!(refused, LnurlError::WrongInvoice { .. }), "{refused}");
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    let server = address_server(|_| {}, |_| json!({"pr": "lnbc1garbled"})).await;
    let refused = ask(&server, 12_345).await.unwrap_err();
    assert!(matches!(refused, LnurlError::WrongInvoice { .. }), "{refused}");
}

#[tokio::test]
async fn what_the_server_refuses_is_told_with_its_reason() {
    let said = json!({"status": "ERROR", "reason": "no such name"});
    let server = address_server(move |answer| *answer = said.clone(), honest).await;
    let refused = ask(&server, 12_345).await.unwrap_err().to_string();
    assert!(refused.contains("no such name"), "{refused}");
    let server = address_server(|_| {}, |_| json!({"status": "ERROR", "reason": "node is down"})).await;
    let refused = ask(&server, 12_345).await.unwrap_err().to_string();
    assert!(refused.contains("node is down"), "{refused}");
    let missing = Server::start(|_| Reply::Status(404, b"<html>not here</html>".to_vec())).await;
    let refused = ask(&missing, 12_345).await.unwrap_err();
    assert!(
        matches!(&refused, LnurlError::Refused { reason, .. } if reason.contains("404")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_server_that_offers_something_else_or_answers_garbage_is_refused() {
    let withdraw = |answer: &mut Value| answer["tag"] = "withdrawRequest".into();
    let refused = ask(&address_server(withdraw, honest).await, 12_345)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, LnurlError::NotAnAddressServer { .. }),
        "{refused}"
    );
    let elsewhere = |answer: &mut Value| answer["callback"] = "http://192.0.2.1/pay".into();
    let refused = ask(&address_server(elsewhere, honest).await, 12_345)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, LnurlError::NotAnAddressServer { .. }),
        "{refused}"
    );
    let negative = |answer: &mut Value| answer["minSendable"] = (-1).into();
    let refused = ask(&address_server(negative, honest).await, 12_345)
        .await
        .unwrap_err();
    assert!(matches!(refused, LnurlError::Http(_)), "{refused}");
    let garbage = Server::start(|_| Reply::Status(200, b"not json".to_vec())).await;
    let refused = ask(&garbage, 12_345).await.unwrap_err();
    assert!(matches!(refused, LnurlError::Http(_)), "{refused}");
}
