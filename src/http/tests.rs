use super::*;

#[test]
fn a_url_tells_host_port_and_whether_it_is_encrypted() {
    let url = Url::parse("https://node.example.org:8080/base/").unwrap();
    assert!(url.is_https() && !url.names_loopback());
    assert_eq!((url.host(), url.port), ("node.example.org", 8080));
    assert_eq!(
        url.join("v1/getinfo?a=1").unwrap().uri.path_and_query().unwrap(),
        "/base/v1/getinfo?a=1"
    );
    let plain = Url::parse("http://[::1]:3010").unwrap();
    assert!(plain.names_loopback() && !plain.is_https());
    assert_eq!(plain.authority(), "[::1]:3010");
    assert_eq!(Url::parse("https://a.org").unwrap().port, 443);
    assert!(Url::parse("http://127.0.0.1").unwrap().names_loopback());
}

#[test]
fn what_is_no_url_of_ours_is_refused() {
    for bad in [
        "",
        "a.org",
        "/path",
        "ftp://a.org",
        "https://",
        "https://user:key@a.org",
        "https://:80",
        "http://a b",
    ] {
        assert!(
            matches!(Url::parse(bad), Err(HttpError::BadUrl { .. })),
            "{bad:?} gave {:?}",
            Url::parse(bad)
        );
    }
    assert!(Url::parse(&format!("https://a.org/{}", "x".repeat(MAX_URL_BYTES))).is_err());
}

#[test]
fn a_url_is_shown_without_its_query() {
    let url = Url::parse("https://a.org/pay?key=private").unwrap();
    assert_eq!(url.to_string(), "https://a.org:443/pay");
}

#[test]
fn a_key_in_a_header_is_not_shown_with_the_request() {
    let url = Url::parse("https://a.org/").unwrap();
    let request = Request::new(Method::GET, url, 10)
        .secret_header("x-api-key", &Secret::new("private".into()))
        .unwrap();
    assert!(!format!("{request:?}").contains("private"));
    let url = Url::parse("https://a.org/").unwrap();
    let broken = Request::new(Method::GET, url, 10).secret_header("rune", &Secret::new("pri\nvate".into()));
    let said = broken.unwrap_err().to_string();
    assert!(said.contains("rune") && !said.contains("vate"), "{said}");
}

#[test]
fn only_what_never_left_counts_as_not_sent() {
    let host = String::new;
    assert!(
        HttpError::Unreachable {
            host: host(),
            reason: host()
        }
        .nothing_sent()
    );
    assert!(
        HttpError::Timeout {
            host: host(),
            sent: false
        }
        .nothing_sent()
    );
    assert!(
        !HttpError::Timeout {
            host: host(),
            sent: true
        }
        .nothing_sent()
    );
    assert!(
        !HttpError::Interrupted {
            host: host(),
            reason: host()
        }
        .nothing_sent()
    );
}
