use super::sections::parse_host_and_port;
use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "config.toml")
}

/// What is said of a wrong text.
fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config, Config::default());
    assert!(config.mesh.enabled);
    assert_eq!(config.mesh.mode, MeshMode::PaymentGated);
    assert_eq!(config.mesh.listen_addr.to_string(), "0.0.0.0:8334");
    assert_eq!(config.mesh.price_msat_per_unit, 10);
    assert_eq!(config.mesh.max_peers, 128);
    assert!(!config.mesh.node_carrier, "off by default");
    assert!(!config.payments.auto_pay);
}

#[test]
fn the_example_is_the_defaults_and_names_every_key() {
    let example = include_str!("../../config.example.toml");
    assert_eq!(parse(example).unwrap(), Config::default());
    // The keys a section knows are listed when none resembles the given one.
    let listed = refusal(
        "[mesh]\nzzzzzzzz = 1\n[mesh.limits]\nzzzzzzzz = 1\n[wallet]\nzzzzzzzz = 1\n\
         [wallet.lnbits]\nzzzzzzzz = 1\n[wallet.lnd]\nzzzzzzzz = 1\n[wallet.cln]\nzzzzzzzz = 1\n\
         [wallet.ldk]\nzzzzzzzz = 1\n[wallet.ldk.chain]\nzzzzzzzz = 1\n[payments]\nzzzzzzzz = 1\n\
         [chain]\nzzzzzzzz = 1\n[fairness]\nzzzzzzzz = 1",
    );
    let known: Vec<&str> = listed
        .lines()
        .flat_map(|line| line.split("known here: ").nth(1).unwrap().split(", "))
        .collect();
    assert!(known.len() > 20, "{listed}");
    for key in known {
        let named = example.contains(&format!("\n{key} = "))
            || example.contains(&format!("\n# {key} = "))
            || ["mesh", "wallet", "wallet.ldk"]
                .iter()
                .any(|section| example.contains(&format!("[{section}.{key}]")))
            || example.contains(&format!("[[chain.{key}]]"));
        assert!(named, "{key} is not in config.example.toml");
    }
}

#[test]
fn all_values_arrive_where_they_belong() {
    let id = "ab".repeat(32);
    let config = parse(&format!(
        r#"
        [mesh]
        enabled = false
        mode = "open"
        listen_addr = "[::1]:0"
        data_dir = "/var/lib/mesh"
        price_msat_per_unit = 1_000
        network = "regtest"
        operator = "{id}"
        operator_signature = "{id}{id}"
        announce = false
        node_carrier = true
        route_lifetime_seconds = 60
        addresses = ["mesh.example.org:8334", "[2001:db8::1]:8334"]
        max_peers = 7
        [[mesh.peers]]
        address = "mesh.example.org:8334"
        node_id = "{id}"
        [mesh.limits]
        free_bytes_per_second = 0
        max_handshakes = 9
        max_handshakes_per_address = 3
        accepts_per_minute_per_address = 4
        limit_loopback = true
        handshake_timeout_seconds = 5
        keepalive_interval_seconds = 6
        idle_timeout_seconds = 7
        data_queue_bytes = 300_000
        total_data_queue_bytes = 400_000
        control_queue_bytes = 70_000
        [wallet]
        backend = "none"
        [payments]
        auto_pay = true
        per_packet_msat = 10
        max_total_msat = 11
        per_hour_msat = 12
        per_day_msat = 17
        per_destination_day_msat = 14
        per_caller_day_msat = 15
        unidentified_day_msat = 16
        max_fee_msat = 13
        [treasury]
        address = "treasury@example.org"
        threshold_msat = 13
        max_fee_msat = 14
        "#
    ))
    .unwrap();
    let mesh = &config.mesh;
    assert!(!mesh.enabled);
    assert_eq!(
        (mesh.mode, mesh.network),
        (MeshMode::Open, BitcoinNetwork::Regtest)
    );
    assert_eq!(mesh.data_dir.as_deref(), Some(Path::new("/var/lib/mesh")));
    assert_eq!(mesh.price_msat_per_unit, 1000);
    assert_eq!(mesh.operator, Some(NodeId([0xab; 32])));
    assert_eq!(mesh.operator_signature, Some(Signature([0xab; 64])));
    assert!(!mesh.announce);
    assert!(mesh.node_carrier);
    assert_eq!(mesh.route_lifetime.as_secs(), 60);
    assert_eq!(mesh.addresses, ["mesh.example.org:8334", "[2001:db8::1]:8334"]);
    assert_eq!(mesh.peers[0].address, "mesh.example.org:8334");
    assert_eq!(mesh.limits.free_bytes_per_second, 0);
    let endpoint = config.endpoint();
    assert_eq!(endpoint.listen_addr, Some("[::1]:0".parse().unwrap()));
    assert_eq!((endpoint.max_peers, endpoint.max_handshakes), (7, 9));
    assert_eq!(endpoint.max_handshakes_per_address, 3);
    assert_eq!(endpoint.accepts_per_minute_per_address, 4);
    assert!(endpoint.limit_loopback);
    assert_eq!(endpoint.handshake_timeout.as_secs(), 5);
    assert_eq!(endpoint.keepalive_interval.as_secs(), 6);
    assert_eq!(endpoint.idle_timeout.as_secs(), 7);
    assert_eq!(endpoint.data_queue_bytes, 300_000);
    assert_eq!(endpoint.total_data_queue_bytes, 400_000);
    assert_eq!(endpoint.control_queue_bytes, 70_000);
    let caps = SpendingCaps {
        per_packet_msat: 10,
        max_total_msat: 11,
        per_hour_msat: 12,
        per_day_msat: 17,
        per_destination_day_msat: 14,
        per_caller_day_msat: 15,
        unidentified_day_msat: 16,
        max_fee_msat: 13,
    };
    assert_eq!(config.payments, PaymentsConfig { auto_pay: true, caps });
    assert_eq!(config.payments.spending(), caps);
    let treasury = config.treasury.unwrap();
    assert_eq!(treasury.destination.to_string(), "treasury@example.org");
    assert_eq!((treasury.threshold_msat, treasury.max_fee_msat), (13, 14));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_one_it_resembles() {
    assert_eq!(
        refusal("# a comment\n[mesh]\nlisen_addr = \"0.0.0.0:1\"\n"),
        "config.toml:3: unknown key `lisen_addr` in [mesh]; did you mean `listen_addr`?"
    );
}

#[test]
fn unknown_sections_and_keys_of_nested_sections_are_named_too() {
    assert_eq!(
        refusal("[mesh]\n\n[mseh]\nx = 1"),
        "config.toml:3: unknown section `mseh`; did you mean `mesh`?"
    );
    let peer = format!(
        "[[mesh.peers]]\naddress = \"a:1\"\nnode_id = \"{}\"\nnod_id = 1",
        "ab".repeat(32)
    );
    assert_eq!(
        refusal(&peer),
        "config.toml:4: unknown key `nod_id` in [mesh.peers]; did you mean `node_id`?"
    );
    assert!(
        refusal("[mesh.limits]\nmax_handshake = 3").starts_with("config.toml:2: unknown key `max_handshake`")
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_lines() {
    let said = refusal("[payments]\nauto_pay = 1\n[mesh]\nmode = \"free\"\nbogus_key_name = 1\n");
    let lines: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["config.toml:2:", "config.toml:4:", "config.toml:5:"]);
}

#[test]
fn each_wrong_value_is_refused_with_its_line_and_what_was_expected() {
    let cases = [
        (
            "[mesh]\nenabled = \"yes\"",
            "2: `enabled = \"yes\"` in [mesh]: expected true or false",
        ),
        (
            "[mesh]\nmode = \"free\"",
            "2: `mode = \"free\"` in [mesh]: expected \"payment_gated\"",
        ),
        (
            "[mesh]\nlisten_addr = \"8334\"",
            "expected an IP address and a port",
        ),
        ("[mesh]\nlisten_addr = 8334", "expected a text in double quotes"),
        ("[mesh]\ndata_dir = \"state\"", "expected an absolute path"),
        (
            "[mesh]\nprice_msat_per_unit = -1",
            "`price_msat_per_unit = -1` in [mesh]: expected a whole number of msat",
        ),
        (
            "[mesh]\nprice_msat_per_unit = 1.5",
            "expected a whole number of msat",
        ),
        (
            "[mesh]\nprice_msat_per_unit = 99999999999999999999999",
            "expected a whole number of msat",
        ),
        (
            "[mesh]\nnetwork = \"mainnet\"",
            "expected \"bitcoin\", \"testnet\"",
        ),
        ("[mesh]\noperator = \"me\"", "64 hexadecimal digits"),
        ("[mesh]\noperator_signature = \"ab\"", "128 hexadecimal digits"),
        (
            "[mesh]\naddresses = [\"a:1\", \"b:1\", \"c:1\", \"d:1\", \"e:1\"]",
            "at most 4",
        ),
        ("[mesh]\naddresses = [\"nowhere\"]", "a host and a port"),
        ("[mesh]\nmax_peers = 0", "from 1 to 16384"),
        ("[mesh]\npeers = 3", "must be a list of sections"),
        ("[mesh]\npeers = [3]", "must be a list of sections"),
        ("mesh = 3", "1: `mesh` must be a section"),
        (
            "[[mesh.peers]]\naddress = \"a:1\"",
            "1: `node_id` is missing in [mesh.peers]",
        ),
        ("[[mesh.peers]]\nnode_id = \"00\"", "64 hexadecimal digits"),
        ("[mesh.limits]\nmax_handshakes = 1", "from 2 to 65536"),
        ("[mesh.limits]\nlimit_loopback = 0", "expected true or false"),
        (
            "[mesh.limits]\ndata_queue_bytes = 10",
            "expected a whole number of bytes",
        ),
        (
            "[mesh.limits]\nhandshake_timeout_seconds = 0",
            "expected a whole number of seconds from 1",
        ),
        (
            "[wallet]\nbackend = \"devnet\"",
            "lives only inside `blvm-mesh demo`",
        ),
        (
            "[wallet]\nbackend = \"lndd\"",
            "2: `backend = \"lndd\"` in [wallet]: expected \"none\"",
        ),
        (
            "[payments]\nmax_fee_msat = true",
            "expected a whole number of msat",
        ),
        ("[mesh\nmode = 1", "1: not valid TOML"),
        (
            "[mesh]\nmode = \"open\"\nmode = \"open\"",
            "3: not valid TOML: duplicate key",
        ),
    ];
    for (text, expected) in cases {
        let said = refusal(text);
        assert!(
            said.contains(expected),
            "{text:?} gave {said:?}, not {expected:?}"
        );
    }
}

#[test]
fn addresses_of_peers_are_host_and_port() {
    for good in [
        "a:1",
        "mesh.example.org:8334",
        "192.0.2.1:65535",
        "[2001:db8::1]:8334",
        "abc.onion:8334",
    ] {
        assert_eq!(parse_host_and_port(good).as_deref(), Ok(good));
    }
    for bad in [
        "",
        ":1",
        "a",
        "a:",
        "a:0",
        "a:65536",
        "2001:db8::1:8334",
        "[a]:1",
        "http://a:1",
        "a b:1",
        "a\n:1",
        "u@a:1",
    ] {
        assert!(parse_host_and_port(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn contradictions_are_refused_at_their_line() {
    let peers: String = (1..=3)
        .map(|n| {
            format!(
                "[[mesh.peers]]\naddress = \"a:1\"\nnode_id = \"{}\"\n",
                format!("0{n}").repeat(32)
            )
        })
        .collect();
    let cases = [
        (
            format!("[mesh]\nmax_peers = 2\n{peers}"),
            ":2: 3 neighbours are configured but max_peers is 2",
        ),
        (format!("{peers}{peers}"), ":12: the same node_id as on line 3"),
        (
            "[mesh.limits]\nidle_timeout_seconds = 15".to_owned(),
            ":2: idle_timeout_seconds must be longer",
        ),
        (
            "[mesh.limits]\nmax_handshakes = 4".to_owned(),
            "max_handshakes_per_address is above max_handshakes",
        ),
        (
            "[mesh.limits]\ntotal_data_queue_bytes = 300000".to_owned(),
            ":2: total_data_queue_bytes is below",
        ),
        (
            "[payments]\nauto_pay = true\nmax_total_msat = 0".to_owned(),
            ":2: auto_pay = true with max_total_msat = 0",
        ),
        (
            "[payments]\nauto_pay = true\nper_day_msat = 0".to_owned(),
            ":2: auto_pay = true with per_day_msat = 0",
        ),
        (
            "[payments]\nper_hour_msat = 8\nper_day_msat = 7".to_owned(),
            ":2: per_hour_msat is above per_day_msat = 7",
        ),
        (
            "[payments]\nmax_total_msat = 500_001".to_owned(),
            ":2: max_total_msat is above per_hour_msat = 500000",
        ),
        (
            "[payments]\nmax_total_msat = 8\nper_packet_msat = 9".to_owned(),
            ":3: per_packet_msat is above max_total_msat = 8",
        ),
        (
            "[payments]\nper_destination_day_msat = 2_000_001".to_owned(),
            ":2: per_destination_day_msat is above per_day_msat",
        ),
        (
            "[payments]\nper_caller_day_msat = 2_000_001".to_owned(),
            ":2: per_caller_day_msat is above per_day_msat",
        ),
        (
            "[payments]\nunidentified_day_msat = 2_000_001".to_owned(),
            ":2: unidentified_day_msat is above per_day_msat",
        ),
        (
            "[treasury]\nthreshold_msat = 5".to_owned(),
            ":2: `threshold_msat` without `address` or `offer`",
        ),
        (
            "[treasury]\naddress = \"nobody\"".to_owned(),
            "no Lightning address",
        ),
        ("[treasury]\noffer = \"lnbc1\"".to_owned(), "a BOLT12 offer"),
    ];
    for (text, expected) in cases {
        let said = refusal(&text);
        assert!(
            said.contains(expected),
            "{text:?} gave {said:?}, not {expected:?}"
        );
    }
}

#[test]
fn auto_pay_that_is_off_allows_nothing_whatever_the_caps_say() {
    let off = parse("[payments]\nmax_total_msat = 5").unwrap().payments;
    assert_eq!(off.spending(), SpendingCaps::default());
    assert!(!off.spending().is_on());
}

#[test]
fn lowering_one_cap_lowers_what_it_bounds() {
    let day = parse("[payments]\nauto_pay = true\nper_day_msat = 50_000").unwrap();
    let caps = day.payments.spending();
    assert_eq!(
        [
            caps.per_day_msat,
            caps.per_hour_msat,
            caps.max_total_msat,
            caps.per_destination_day_msat,
            caps.per_caller_day_msat,
            caps.unidentified_day_msat
        ],
        [50_000; 6]
    );
    assert_eq!(caps.per_packet_msat, 20_000);
    let total = parse("[payments]\nauto_pay = true\nmax_total_msat = 11").unwrap();
    assert_eq!(total.payments.spending().per_packet_msat, 11);
    assert_eq!(total.payments.spending().per_hour_msat, 500_000);
}

#[test]
fn unidentified_callers_can_be_left_without_a_budget() {
    let config = parse("[payments]\nauto_pay = true\nunidentified_day_msat = 0").unwrap();
    assert_eq!(config.payments.spending().unidentified_day_msat, 0);
}

#[test]
fn a_node_that_cannot_be_paid_says_so_at_the_start() {
    let warnings = Config::default().warnings();
    assert!(
        warnings[0].contains("carries paid traffic for nobody"),
        "{warnings:?}"
    );
    assert!(parse("[mesh]\nmode = \"open\"").unwrap().warnings().is_empty());
    let priced = parse("[mesh]\nmode = \"open\"\nprice_msat_per_unit = 3").unwrap();
    assert!(priced.warnings()[0].contains("charges nothing"));
    let paying = parse("[mesh]\nmode = \"open\"\n[payments]\nauto_pay = true").unwrap();
    assert!(paying.warnings()[0].contains("cannot pay"));
}

#[test]
fn a_wallet_over_rest_needs_an_address_and_one_key() {
    let config = parse(
        "[wallet]\nbackend = \"lnd\"\n[wallet.lnd]\nurl = \"https://node.example.org:8080\"\n\
         macaroon_file = \"~/m\"\ncertificate_file = \"/c.pem\"",
    );
    let remote = config.unwrap().wallet.remote.unwrap();
    assert_eq!(remote.url.host(), "node.example.org");
    assert_eq!(remote.key, KeySource::File("~/m".into()));
    assert_eq!(remote.certificate_file.as_deref(), Some(Path::new("/c.pem")));
    assert!(!remote.allow_plain_http);

    let bare = refusal("[wallet]\nbackend = \"cln\"");
    assert!(
        bare.contains("`url` is missing in [wallet.cln]") && bare.contains("`rune_file` is missing"),
        "{bare}"
    );
    let cases = [
        (
            "[wallet.lnbits]\nurl = \"node.example.org\"",
            "2: `url = \"node.example.org\"` in [wallet.lnbits]: expected an address",
        ),
        (
            "[wallet.lnbits]\nurl = \"http://node.example.org\"",
            "2: plain http to another machine shows the key",
        ),
        (
            "[wallet.lnd]\nurl = \"http://127.0.0.1:1\"\ncertificate_file = \"/c\"",
            "3: `certificate_file` has no effect with http",
        ),
        (
            "[wallet.cln]\nrune = \"r\"\nrune_file = \"/r\"",
            "2: `rune` and `rune_file` are both there",
        ),
        ("[wallet.lnd]\nmacaroon_file = \"m\"", "expected an absolute path"),
        (
            "[wallet.lnd]\nrune = \"r\"",
            "2: unknown key `rune` in [wallet.lnd]",
        ),
    ];
    for (text, expected) in cases {
        let said = refusal(text);
        assert!(
            said.contains(expected),
            "{text:?} gave {said:?}, not {expected:?}"
        );
    }
    let own_network = "[wallet.lnbits]\nurl = \"http://192.0.2.1\"\nallow_plain_http = true";
    assert!(parse(own_network).is_ok());
}

#[test]
fn a_key_in_the_configuration_is_shown_nowhere() {
    let with_key = |key: &str| {
        format!(
            "[wallet]\nbackend = \"lnbits\"\n[wallet.lnbits]\nurl = \"http://127.0.0.1:5000\"\napi_key = {key}"
        )
    };
    let config = parse(&with_key("\"53cr37\"")).unwrap();
    let Some(KeySource::Inline(key)) = config.wallet.remote.as_ref().map(|remote| &remote.key) else {
        panic!("{config:?}");
    };
    assert_eq!(key.expose(), "53cr37");
    assert!(!format!("{config:?}").contains("53cr37"));
    let said = refusal(&with_key("5377"));
    assert!(
        said.contains("`api_key` in [wallet.lnbits]") && !said.contains("5377"),
        "{said}"
    );
}

#[test]
fn files_that_are_missing_binary_or_endless_are_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let said = |path: &Path| Config::load(path).unwrap_err().to_string();
    assert!(said(&path).contains("give --config the path of an existing file"));
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(said(&path).contains("save it as UTF-8"));
    std::fs::write(&path, vec![b'#'; MAX_CONFIG_BYTES as usize + 1]).unwrap();
    assert!(said(&path).contains("is larger than"));
    std::fs::write(&path, "[mesh]\nmode = 1").unwrap();
    assert!(said(&path).starts_with(&format!("{}:2: ", path.display())));
    std::fs::write(&path, "[mesh]\nmode = \"open\"").unwrap();
    assert_eq!(Config::load(&path).unwrap().mesh.mode, MeshMode::Open);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]a-z_.=\"0-9\n{},#é -]{0,80}") {
        let _ = Config::parse(&text, "f");
        let _ = Config::parse(&format!("[mesh]\n{text}"), "f");
    }
}

#[test]
fn module_that_cannot_tell_settled_from_unpaid_is_refused_as_a_wallet() {
    let refused = refusal("[wallet]\nbackend = \"blvm-lightning\"");
    for why in [
        "did not see",
        "commitment",
        "no call that pays",
        "\"lnbits\"",
        "docs/WALLETS.md",
    ] {
        assert!(refused.contains(why), "{refused}");
    }
}
