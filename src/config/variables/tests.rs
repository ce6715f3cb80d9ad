use std::path::Path;

use super::super::{Config, ConfigError, MeshMode, Place, WalletBackend};
use super::*;
use proptest::prelude::*;

fn variable(name: &str, value: &str) -> Variable {
    Variable {
        name: format!("{VARIABLE_PREFIX}{name}"),
        value: Some(value.to_owned()),
    }
}

fn variables(list: &[(&str, &str)]) -> Vec<Variable> {
    list.iter().map(|(name, value)| variable(name, value)).collect()
}

fn read(text: &str, list: &[(&str, &str)]) -> Result<Config, String> {
    Config::read(text, "config.toml", &variables(list)).map_err(|error| error.to_string())
}

#[test]
fn variables_go_before_the_file_and_leave_the_rest_of_it() {
    let file = "max_peers = 50\n[mesh]\nmode = \"open\"\nannounce = false\n[mesh.limits]\nmax_handshakes = 9";
    let config = read(
        file,
        &[
            ("MODE", "bitcoin_only"),
            ("MESH.MAX_PEERS", "7"),
            ("MESH.LIMITS.FREE_BYTES_PER_SECOND", "0"),
            ("ENABLED", "false"),
        ],
    )
    .unwrap();
    assert_eq!(
        (config.mesh.mode, config.mesh.max_peers),
        (MeshMode::BitcoinOnly, 7)
    );
    assert!(!config.mesh.announce && !config.mesh.enabled);
    assert_eq!(config.mesh.limits.max_handshakes, 9);
    assert_eq!(config.mesh.limits.free_bytes_per_second, 0);
}

#[test]
fn without_a_file_there_are_the_defaults_and_the_variables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let load = |list: &[(&str, &str)]| Config::load_for_module(&path, &variables(list));
    assert_eq!(load(&[]).unwrap(), Config::default());
    assert_eq!(load(&[("MODE", "open")]).unwrap().mesh.mode, MeshMode::Open);
    let unreadable = Config::load_for_module(folder.path(), &[]);
    assert!(matches!(unreadable, Err(ConfigError::Unreadable { .. })));
    assert!(Config::load_for_module(Path::new("/nonexistent/config.toml"), &[]).is_ok());
}

#[test]
fn what_the_node_adds_for_every_module_is_no_business_of_ours() {
    let own = [
        ("VERSION", "0.1.0"),
        ("DATABASE_BACKEND", "rocksdb"),
        ("NODE_P2P_LISTEN_IP", "0.0.0.0"),
        ("NODE_P2P_LISTEN_PORT", "8333"),
    ];
    assert_eq!(read("", &own).unwrap(), Config::default());
}

#[test]
fn an_unknown_variable_is_refused_by_its_name() {
    assert_eq!(
        read("", &[("LISTEN_ADR", "127.0.0.1:1")]).unwrap_err(),
        "MODULE_CONFIG_LISTEN_ADR: unknown key `listen_adr`; did you mean `listen_addr`?"
    );
    let said = read("", &[("MESH.COLOUR", "red")]).unwrap_err();
    assert!(
        said.starts_with("MODULE_CONFIG_MESH.COLOUR: unknown key `colour` in [mesh]"),
        "{said}"
    );
}

#[test]
fn a_wrong_value_is_refused_with_the_variable_it_came_in() {
    assert_eq!(
        read("", &[("ENABLED", "maybe")]).unwrap_err(),
        "MODULE_CONFIG_ENABLED: `enabled = maybe` in [mesh]: expected true or false, without quotes"
    );
    let said = read("", &[("MAX_PEERS", "many")]).unwrap_err();
    assert!(
        said.starts_with("MODULE_CONFIG_MAX_PEERS: `max_peers = many`"),
        "{said}"
    );
    let not_text = Variable {
        name: "MODULE_CONFIG_MODE".into(),
        value: None,
    };
    let error = Config::read("", "config.toml", &[not_text]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("MODULE_CONFIG_MODE: is not valid UTF-8")
    );
}

#[test]
fn two_variables_for_one_key_must_say_the_same() {
    assert!(read("", &[("MAX_PEERS", "9"), ("MESH.MAX_PEERS", "9")]).is_ok());
    let said = read("", &[("MAX_PEERS", "9"), ("MESH.MAX_PEERS", "8")]).unwrap_err();
    assert!(
        said.contains("MODULE_CONFIG_MAX_PEERS") && said.contains("MODULE_CONFIG_MESH.MAX_PEERS"),
        "{said}"
    );
}

#[test]
fn a_text_that_looks_like_a_number_stays_a_text_where_a_text_is_wanted() {
    let config = read("[chain]\nwallet = \"x\"", &[("CHAIN.WALLET", "123")]);
    config.unwrap();
}

/// As `load_module_config` of blvm-node 0.1.83 makes them of a `config.toml` beside the binary: every sub-key, then its
/// value as TOML, all joined by commas.
#[test]
fn a_section_beside_the_binary_survives_the_nodes_flattening() {
    let id = "ab".repeat(32);
    let mesh = format!(
        "mesh.addresses,[\"mesh.example.org:8334\", \"b:1\"],mesh.enabled,true,mesh.limits,{{ max_handshakes = 9, \
         limit_loopback = true }},mesh.listen_addr,\"127.0.0.1:0\",mesh.max_peers,7,mesh.mode,\"open\",mesh.peers,[{{ \
         address = \"a:1\", node_id = \"{id}\" }}]"
    );
    let config = read("", &[("MESH", &mesh), ("WALLET", "wallet.backend,\"none\"")]).unwrap();
    assert_eq!(config.mesh.mode, MeshMode::Open);
    assert_eq!(config.mesh.addresses, ["mesh.example.org:8334", "b:1"]);
    assert_eq!((config.mesh.max_peers, config.mesh.limits.max_handshakes), (7, 9));
    assert!(config.mesh.limits.limit_loopback);
    assert_eq!(config.mesh.peers[0].address, "a:1");
    assert_eq!(config.wallet.backend, WalletBackend::None);
}

#[test]
fn a_section_that_does_not_arrive_whole_is_refused_with_where_to_write_it() {
    for broken in [
        "mesh.mode",
        "mesh.mode,\"open",
        "mesh.mode,\"open\",other,1",
        "mesh.mode,open",
    ] {
        let said = read("", &[("MESH", broken)]).unwrap_err();
        assert!(
            said.starts_with("MODULE_CONFIG_MESH: ")
                && said.contains("config.toml in the module's data directory"),
            "{broken}: {said}"
        );
    }
    let said = read("", &[("MESH", "on")]).unwrap_err();
    assert!(said.contains("`mesh` must be a section"), "{said}");
}

#[test]
fn lists_arrive_in_each_of_the_ways_a_node_writes_them() {
    let id = "ab".repeat(32);
    let sections = format!("{{ address = \"a:1\", node_id = \"{id}\" }}");
    let indexed = [
        ("PEERS[0].ADDRESS", "a:1"),
        ("PEERS[0].NODE_ID", id.as_str()),
        ("ADDRESSES[0]", "x:1"),
        ("ADDRESSES[10]", "z:1"),
        ("ADDRESSES[2]", "y:1"),
    ];
    let joined = [("PEERS", sections.as_str()), ("ADDRESSES", "x:1,y:1,z:1")];
    let quoted = [
        ("MESH.PEERS", sections.as_str()),
        ("ADDRESSES", "\"x:1\",\"y:1\",\"z:1\""),
    ];
    for list in [&indexed[..], &joined, &quoted] {
        let config = read("", list).unwrap();
        assert_eq!(config.mesh.peers[0].address, "a:1", "{list:?}");
        assert_eq!(config.mesh.addresses, ["x:1", "y:1", "z:1"], "{list:?}");
    }
}

#[test]
fn no_secret_of_a_variable_is_repeated() {
    let secret = "s3cr3t".repeat(4);
    let wallet =
        format!("wallet.backend,\"lnbitz\",wallet.lnbits,{{ url = \"nowhere\", api_key = \"{secret}\" }}");
    let said = read("", &[("WALLET", &wallet), ("IDENTITY_SEED_HEX", &secret)]).unwrap_err();
    assert!(
        said.contains("MODULE_CONFIG_WALLET") && said.contains("MODULE_CONFIG_IDENTITY_SEED_HEX"),
        "{said}"
    );
    assert!(!said.contains(&secret), "{said}");
    assert!(!format!("{:?}", variable("X", &secret)).contains(&secret));
}

#[test]
fn places_are_lines_or_variables() {
    let error = Config::read("x = 1", "f", &variables(&[("Y", "1")])).unwrap_err();
    let ConfigError::Invalid { problems, .. } = error else {
        panic!("{error}")
    };
    let places: Vec<Place> = problems.into_iter().map(|problem| problem.place).collect();
    assert_eq!(
        places,
        [Place::Line(1), Place::Variable("MODULE_CONFIG_Y".into())]
    );
}

proptest! {
    #[test]
    fn no_variable_makes_the_reader_panic(name in "(MESH|PEERS|WALLET|\\PC)?[A-Z_.\\[\\]0-9]{0,12}", value in "(mesh\\.)?[a-z,\"'{}\\[\\]=\\\\ 0-9é]{0,24}") {
        let _ = read("mode = \"open\"", &[(&name, &value)]);
    }
}
