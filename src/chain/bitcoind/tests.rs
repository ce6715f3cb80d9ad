//! A node that answers as Bitcoin Core documents it, and as it does when something is wrong.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers each call with the next of these replies (status and body), and keeps what it was asked.
struct Scripted {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn node(replies: Vec<(u16, Value)>) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    let task = tokio::spawn(async move {
        for (status, body) in replies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4096];
            // Short requests: the body is there when its last brace is.
            while !request.ends_with(b"}") {
                let read = stream.read(&mut part).await.unwrap();
                request.extend_from_slice(&part[..read]);
            }
            notes.lock().unwrap().push(String::from_utf8(request).unwrap());
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Scripted { url, asked, task }
}

fn result(value: Value) -> (u16, Value) {
    (200, json!({"result": value, "error": null, "id": "blvm-mesh"}))
}

fn refusal(code: i64) -> (u16, Value) {
    (
        500,
        json!({"result": null, "error": {"code": code, "message": "no"}, "id": "blvm-mesh"}),
    )
}

struct Desk {
    source: Bitcoind,
    node: Scripted,
    _password: tempfile::TempDir,
}

async fn desk(replies: Vec<(u16, Value)>) -> Desk {
    let node = node(replies).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let login = Login::Password {
        user: "mesh".into(),
        file,
    };
    Desk {
        source: Bitcoind::new(&node.url, "blvm-mesh", login).unwrap(),
        node,
        _password: folder,
    }
}

/// A transaction with one output of 5,000 sats to the script 0x51, as it travels.
const PAYS_5000: &str = "02000000010000000000000000000000000000000000000000000000000000000000000000ffffffff00ffffffff018813000000000000015100000000";

fn wallet_transaction(confirmations: i64) -> Value {
    json!({
        "confirmations": confirmations,
        "blockhash": "00".repeat(31) + "ab",
        "blockheight": 100,
        "hex": PAYS_5000,
        "amount": 0.00005,
    })
}

#[tokio::test]
async fn confirmed_waiting_and_replaced_transactions_are_told_apart() {
    let mut replies: Vec<_> = [3, 0, -2].map(|depth| result(wallet_transaction(depth))).into();
    replies.push(refusal(NOT_FOUND));
    let desk = desk(replies).await;
    let mut standings = Vec::new();
    for _ in 0..3 {
        let known = desk.source.transaction([7; 32]).await.unwrap().unwrap();
        assert_eq!(
            (known.outputs[0].sats, known.outputs[0].script.as_slice()),
            (5000, [0x51].as_slice())
        );
        standings.push(known.standing);
    }
    let mut block = [0; 32];
    block[0] = 0xab;
    let place = Place {
        block,
        height: 100,
        depth: 3,
    };
    let expected = [
        Standing::Confirmed(place),
        Standing::Unconfirmed,
        Standing::Replaced,
    ];
    assert_eq!(standings, expected);
    assert_eq!(desk.source.transaction([7; 32]).await.unwrap(), None);
    let asked = desk.node.asked.lock().unwrap();
    assert!(
        asked[0].starts_with("POST /wallet/blvm-mesh HTTP/1.1"),
        "{}",
        asked[0]
    );
    assert!(
        asked[0].contains("Basic bWVzaDpzZWNyZXQ="),
        "mesh:secret in base64"
    );
}

#[tokio::test]
async fn fresh_script_comes_from_the_wallet_and_is_labelled() {
    let desk = desk(vec![
        result(json!("bcrt1qaddress")),
        result(json!({"scriptPubKey": "0014aabb"})),
    ])
    .await;
    assert_eq!(desk.source.fresh_script().await.unwrap(), [0, 0x14, 0xaa, 0xbb]);
    let asked = desk.node.asked.lock().unwrap();
    assert!(asked[0].contains("getnewaddress") && asked[0].contains("blvm-mesh"));
}

#[tokio::test]
async fn unspent_output_is_placed_in_its_block_and_its_amount_is_exact() {
    let tip = "11".repeat(32);
    let desk = desk(vec![
        result(json!({
            "bestblock": tip,
            "confirmations": 4,
            "value": 20_999_999.999_999_99,
            "scriptPubKey": {"hex": "51"},
        })),
        result(json!({"confirmations": 1, "height": 103})),
        result(json!("22".repeat(32))),
    ])
    .await;
    let outpoint = OutPoint {
        txid: [1; 32],
        vout: 2,
    };
    let FundingFacts::Unspent(output, place) = desk.source.output(outpoint).await.unwrap() else {
        panic!("it is unspent");
    };
    assert_eq!(output.sats, 2_099_999_999_999_999);
    assert_eq!((place.height, place.depth, place.block), (100, 4, [0x22; 32]));
}

#[tokio::test]
async fn output_that_is_spent_or_waits_is_told_from_one_that_stands() {
    let waits = json!({"bestblock": "11", "confirmations": 0, "value": 1.0, "scriptPubKey": {"hex": "51"}});
    let desk = desk(vec![
        result(Value::Null),
        result(Value::Null),
        result(Value::Null),
        result(waits),
    ])
    .await;
    let outpoint = OutPoint {
        txid: [1; 32],
        vout: 0,
    };
    assert_eq!(desk.source.output(outpoint).await.unwrap(), FundingFacts::Gone);
    assert_eq!(
        desk.source.output(outpoint).await.unwrap(),
        FundingFacts::Unconfirmed
    );
}

#[tokio::test]
async fn block_outside_the_best_chain_has_no_depth() {
    let header = |confirmations: i64| result(json!({"confirmations": confirmations, "height": 9}));
    let desk = desk(vec![header(5), header(-1), refusal(NOT_FOUND)]).await;
    let mut depths = Vec::new();
    for _ in 0..3 {
        depths.push(desk.source.depth([1; 32]).await.unwrap());
    }
    assert_eq!(depths, [Some(5), None, None]);
}

#[tokio::test]
async fn higher_of_the_two_fee_floors_counts() {
    let desk = desk(vec![result(
        json!({"mempoolminfee": 0.000_012_34, "minrelaytxfee": 0.000_01}),
    )])
    .await;
    assert_eq!(desk.source.fee_floor().await.unwrap(), 1234);
}

#[tokio::test]
async fn whatever_is_wrong_is_said_with_what_to_do() {
    let desk = desk(vec![
        (401, json!(null)),
        refusal(NO_WALLET),
        refusal(-28),
        (200, json!({"result": {"blocks": "many"}, "error": null})),
        (503, json!("Work queue depth exceeded")),
    ])
    .await;
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(desk.source.tip().await.unwrap_err().to_string());
    }
    let expected = [
        "cookie_file",
        "loadwallet",
        "(-28)",
        "makes no sense",
        "status 503",
    ];
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    drop(desk.node);
}

#[tokio::test]
async fn transaction_that_the_network_has_already_counts_as_handed_over() {
    let desk = desk(vec![result(json!("txid")), refusal(KNOWN_ALREADY), refusal(-26)]).await;
    assert!(desk.source.broadcast(&[1, 2]).await.is_ok());
    assert!(desk.source.broadcast(&[1, 2]).await.is_ok());
    assert!(desk.source.broadcast(&[1, 2]).await.is_err());
}

#[tokio::test]
async fn password_is_never_sent_over_the_network_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cookie");
    std::fs::write(&file, "__cookie__:secret").unwrap();
    // An address that leads nowhere (RFC 5737): whoever tried to reach it would wait until the time is over.
    let far = Bitcoind::new("http://192.0.2.1:8332", "w", Login::Cookie(file)).unwrap();
    let refused = far.tip().await.unwrap_err();
    assert!(
        matches!(
            &refused,
            ChainError::Unreachable(crate::http::HttpError::PlainHttp { .. })
        ),
        "{refused}"
    );
}
