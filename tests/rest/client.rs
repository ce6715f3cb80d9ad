//! The HTTP client against servers that behave badly.

use std::time::Duration;

use blvm_mesh::http::{
    HttpClient, HttpError, Method, PinnedCertificate, PlainHttp, Request, Secret, StatusCode, Trust, Url,
};
use serde_json::json;
use tokio::time::Instant;

use crate::server::{Certificates, Reply, Server, client};

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(30);

fn get(url: &str) -> Request {
    Request::new(Method::GET, Url::parse(url).unwrap(), 1_000)
}

#[tokio::test]
async fn a_request_arrives_with_its_key_and_body_and_the_answer_comes_back() {
    let server = Server::start(|_| Reply::json(json!({"answer": 42}))).await;
    let request = Request::new(
        Method::POST,
        Url::parse(&server.url()).unwrap().join("v1/x?y=z").unwrap(),
        100,
    )
    .secret_header("x-api-key", &Secret::new("private".into()))
    .unwrap()
    .json(&json!({"question": "?"}))
    .unwrap();
    let answer = client().send(request, LONG).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json::<serde_json::Value>().unwrap()["answer"], 42);
    let asked = &server.asked()[0];
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("POST", "/v1/x?y=z")
    );
    assert_eq!(asked.headers["x-api-key"], "private");
    assert_eq!(asked.headers["host"], server.address.to_string());
    assert_eq!(asked.body["question"], "?");
}

#[tokio::test]
async fn a_redirect_is_not_followed_so_that_no_key_goes_elsewhere() {
    let thief = Server::start(|_| Reply::json(json!({}))).await;
    let to = thief.url();
    let server = Server::start(move |_| Reply::Redirect(to.clone())).await;
    let answer = client().send(get(&server.url()), LONG).await.unwrap();
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert!(thief.asked().is_empty());
}

#[tokio::test]
async fn an_answer_longer_than_asked_for_is_not_read_on() {
    let server = Server::start(|_| Reply::Status(200, vec![b'x'; 1_001])).await;
    let refused = client().send(get(&server.url()), LONG).await.unwrap_err();
    assert!(
        matches!(refused, HttpError::Oversized { limit: 1_000, .. }),
        "{refused}"
    );
    let fits = Server::start(|_| Reply::Status(200, vec![b'x'; 1_000])).await;
    assert_eq!(
        client().send(get(&fits.url()), LONG).await.unwrap().body.len(),
        1_000
    );
    let endless = Server::start(|_| Reply::Lines(vec!["x".repeat(2_000)], true)).await;
    let mut lines = client()
        .open(get(&endless.url()), Instant::now() + LONG)
        .await
        .unwrap();
    let refused = lines.next_line(Instant::now() + LONG).await.unwrap_err();
    assert!(matches!(refused, HttpError::Oversized { .. }), "{refused}");
}

#[tokio::test]
async fn silence_and_a_broken_answer_are_told_apart_from_a_request_that_never_left() {
    let silent = Server::start(|_| Reply::Silence).await;
    let late = client().send(get(&silent.url()), SOON).await.unwrap_err();
    assert!(
        matches!(late, HttpError::Timeout { sent: true, .. }) && !late.nothing_sent(),
        "{late}"
    );

    let broken = Server::start(|_| Reply::Broken).await;
    let cut = client().send(get(&broken.url()), LONG).await.unwrap_err();
    assert!(
        matches!(cut, HttpError::Interrupted { .. }) && !cut.nothing_sent(),
        "{cut}"
    );

    let gone = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let refused = client()
        .send(get(&format!("http://{gone}")), LONG)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, HttpError::Unreachable { .. }) && refused.nothing_sent(),
        "{refused}"
    );
}

#[tokio::test]
async fn lines_come_one_by_one_as_they_are_written() {
    let said = vec!["one".to_owned(), String::new(), "two".to_owned()];
    let server = Server::start(move |_| Reply::Lines(said.clone(), true)).await;
    let mut lines = client()
        .open(get(&server.url()), Instant::now() + LONG)
        .await
        .unwrap();
    let deadline = Instant::now() + LONG;
    assert_eq!(lines.next_line(deadline).await.unwrap().unwrap(), b"one");
    assert_eq!(lines.next_line(deadline).await.unwrap().unwrap(), b"two");
    let late = lines.next_line(Instant::now() + SOON).await.unwrap_err();
    assert!(matches!(late, HttpError::Timeout { sent: true, .. }), "{late}");

    let ends = Server::start(|_| Reply::Lines(vec!["last".into()], false)).await;
    let mut lines = client()
        .open(get(&ends.url()), Instant::now() + LONG)
        .await
        .unwrap();
    assert_eq!(lines.next_line(deadline).await.unwrap().unwrap(), b"last");
    assert_eq!(lines.next_line(deadline).await.unwrap(), None);
}

#[tokio::test]
async fn plain_http_leaves_this_machine_only_if_the_operator_says_so() {
    // 192.0.2.0/24 is nobody's (RFC 5737): the refusal must come before a connection is tried.
    let refused = client().send(get("http://192.0.2.1:1/"), LONG).await.unwrap_err();
    assert_eq!(
        refused,
        HttpError::PlainHttp {
            host: "192.0.2.1".into()
        }
    );
    let allowed = HttpClient::new(&Trust::System, PlainHttp::Anywhere).unwrap();
    let tried = allowed.send(get("http://192.0.2.1:1/"), SOON).await.unwrap_err();
    assert!(!matches!(tried, HttpError::PlainHttp { .. }), "{tried}");
}

fn pinned(pem: &str) -> HttpClient {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let certificate = PinnedCertificate::from_pem_file(file.path()).unwrap();
    HttpClient::new(&Trust::Pinned(certificate), PlainHttp::LoopbackOnly).unwrap()
}

#[tokio::test]
async fn the_pinned_certificate_is_believed_whatever_it_names_and_no_other_is() {
    let own = Certificates::self_signed_for("some.other.name");
    let other = Certificates::self_signed_for("127.0.0.1");
    let server = Server::start_with(Some(own.acceptor), |_| Reply::json(json!({}))).await;
    let url = format!("https://{}/", server.address);
    assert!(pinned(&own.server_pem).send(get(&url), LONG).await.is_ok());

    let refused = pinned(&other.server_pem).send(get(&url), LONG).await.unwrap_err();
    assert!(
        matches!(refused, HttpError::Tls { .. }) && refused.nothing_sent(),
        "{refused}"
    );
    let refused = client().send(get(&url), LONG).await.unwrap_err();
    assert!(refused.nothing_sent(), "{refused}");
    assert_eq!(server.asked().len(), 1, "nobody else's request was heard");
}

#[tokio::test]
async fn a_pinned_authority_vouches_for_the_name_that_was_asked_and_for_no_other() {
    let right = Certificates::signed_for("127.0.0.1");
    let server = Server::start_with(Some(right.acceptor), |_| Reply::json(json!({}))).await;
    let url = format!("https://{}/", server.address);
    assert!(pinned(&right.authority_pem).send(get(&url), LONG).await.is_ok());

    let wrong = Certificates::signed_for("other.example");
    let server = Server::start_with(Some(wrong.acceptor), |_| Reply::json(json!({}))).await;
    let url = format!("https://{}/", server.address);
    let refused = pinned(&wrong.authority_pem)
        .send(get(&url), LONG)
        .await
        .unwrap_err();
    assert!(matches!(refused, HttpError::Tls { .. }), "{refused}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_copy_of_the_pinned_certificate_without_its_key_is_not_believed() {
    let right = Certificates::self_signed_for("127.0.0.1");
    let thief = Certificates::showing(&right);
    let server = Server::start_with(Some(thief), |_| Reply::json(json!({}))).await;
    let url = format!("https://{}/", server.address);
    let refused = pinned(&right.server_pem).send(get(&url), LONG).await.unwrap_err();
    assert!(matches!(refused, HttpError::Tls { .. }), "{refused}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn certificate_files_that_hold_none_or_several_are_refused_by_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let said = |content: &str| {
        std::fs::write(file.path(), content).unwrap();
        PinnedCertificate::from_pem_file(file.path())
            .unwrap_err()
            .to_string()
    };
    let name = file.path().display().to_string();
    let none = said("");
    assert!(none.contains(&name) && none.contains("no certificate"), "{none}");
    let one = Certificates::self_signed_for("a").server_pem;
    assert!(said(&one.repeat(2)).contains("more than one"));
    assert!(said(&"x".repeat(70_000)).contains("too large"));
}
