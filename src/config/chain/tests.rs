use super::*;
use crate::config::{Config, ConfigError};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "config.toml")
}

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn every_key_of_the_section_is_taken_as_written() {
    let config = parse(
        r#"
        [chain]
        backend = "bitcoind"
        url = "http://127.0.0.1:18443"
        wallet = "mesh-1"
        user = "mesh"
        password_file = "/etc/mesh/password"
        watch_interval_seconds = 5
        ctv_enforced_from_height = 900000

        [[chain.depths]]
        up_to_sats = 5000
        blocks = 1

        [[chain.depths]]
        up_to_sats = 50000
        blocks = 4
        "#,
    )
    .unwrap()
    .chain;
    let Some(ChainBackend::Bitcoind(backend)) = config.backend else {
        panic!("it is bitcoind");
    };
    assert_eq!(
        (backend.url.as_str(), backend.wallet.as_str()),
        ("http://127.0.0.1:18443", "mesh-1")
    );
    let login = Login::Password {
        user: "mesh".into(),
        file: "/etc/mesh/password".into(),
    };
    assert_eq!(backend.login, login);
    assert_eq!(config.policy.watch_every, Duration::from_secs(5));
    assert_eq!(config.policy.ctv_enforced_from, Some(900_000));
    assert_eq!(config.policy.depth_for(5000), Some(1));
    assert_eq!(config.policy.depth_for(5001), Some(4));
    assert_eq!(config.policy.depth_for(50_001), None);
}

#[test]
fn backend_without_a_way_to_log_in_is_refused() {
    for text in [
        "[chain]\nbackend = \"bitcoind\"",
        "[chain]\nbackend = \"bitcoind\"\nuser = \"mesh\"",
        "[chain]\nbackend = \"bitcoind\"\ncookie_file = \"/a\"\nuser = \"mesh\"\npassword_file = \"/b\"",
    ] {
        assert!(refusal(text).contains("cookie_file"), "{text}");
    }
}

#[test]
fn password_never_goes_over_the_network_in_clear() {
    let refused = refusal("[chain]\nurl = \"http://node.example:8332\"");
    assert!(refused.contains("everybody could read"), "{refused}");
    assert!(parse("[chain]\nurl = \"https://node.example:8332\"").is_ok());
}

#[test]
fn depths_that_do_not_rise_are_refused_with_their_line() {
    let step = |sats: u64, blocks: u64| format!("[[chain.depths]]\nup_to_sats = {sats}\nblocks = {blocks}\n");
    for (second, why) in [
        ((9000, 3), "order"),
        ((20_000, 2), "order"),
        ((20_000, 0), "from 1 to 100"),
    ] {
        let text = step(10_000, 2) + &step(second.0, second.1);
        let refused = refusal(&text);
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn wallet_names_and_paths_that_could_lead_elsewhere_are_refused() {
    for line in [
        "wallet = \"../other\"",
        "wallet = \"\"",
        "cookie_file = \"cookie\"",
        "user = \"a:b\"",
        "backend = \"lnd\"",
    ] {
        assert!(parse(&format!("[chain]\n{line}")).is_err(), "{line}");
    }
}

const DESCRIPTOR: &str = "wpkh([73c5da0a/84h/0h/0h]xpub6CatWdiZiodmUeTDp8LT5or8nmbKNcuyvz7WyksVFkKB4RHwCD3XyuvPEbvqAQY3rAPshWcMLoP2fMFMKHPJ4ZeZXYVUhLv1VMrjPC7PW6V/0/*)";

#[test]
fn node_is_asked_with_the_descriptor_that_is_written() {
    let text = format!("[chain]\nbackend = \"node\"\ndescriptor = \"{DESCRIPTOR}\"\n");
    let Some(ChainBackend::Node(node)) = parse(&text).unwrap().chain.backend else {
        panic!("it is the node");
    };
    assert_eq!(node.descriptor, DESCRIPTOR.parse().unwrap());
    assert_eq!(node.relay_fee_sats_per_kvb, DEFAULT_RELAY_FEE);
    let Some(ChainBackend::Node(node)) = parse(&(text + "relay_fee_sats_per_kvb = 5000"))
        .unwrap()
        .chain
        .backend
    else {
        panic!("it is the node");
    };
    assert_eq!(node.relay_fee_sats_per_kvb, 5000);
}

#[test]
fn keys_of_the_other_backend_are_refused_each_by_name() {
    let node = format!("[chain]\nbackend = \"node\"\ndescriptor = \"{DESCRIPTOR}\"\n");
    for (key, line) in [
        ("url", "url = \"http://127.0.0.1:8332\""),
        ("wallet", "wallet = \"mesh\""),
        ("cookie_file", "cookie_file = \"/cookie\""),
        ("user", "user = \"mesh\""),
        ("password_file", "password_file = \"/password\""),
    ] {
        let refused = refusal(&format!("{node}{line}\n"));
        assert!(refused.contains(&format!("`{key}` has no meaning")), "{refused}");
        assert!(refused.contains("config.toml:4"), "{refused}");
    }
    for backend in ["none", "bitcoind"] {
        let login = "cookie_file = \"/cookie\"";
        let refused = refusal(&format!(
            "[chain]\nbackend = \"{backend}\"\n{login}\ndescriptor = \"{DESCRIPTOR}\""
        ));
        assert!(refused.contains("`descriptor` has a meaning with"), "{refused}");
    }
}

#[test]
fn node_without_a_descriptor_is_refused() {
    let refused = refusal("[chain]\nbackend = \"node\"");
    assert!(refused.contains("needs `descriptor`"), "{refused}");
}

#[test]
fn private_descriptor_is_refused_without_being_shown() {
    let secret = DESCRIPTOR.replace("xpub", "xprv");
    let refused = refusal(&format!("[chain]\nbackend = \"node\"\ndescriptor = \"{secret}\""));
    assert!(refused.contains("without private keys"), "{refused}");
    assert!(!refused.contains("CatWdi"), "{refused}");
}
