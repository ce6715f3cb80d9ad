use super::super::{Config, MeshMode};
use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, "config.toml").map_err(|error| error.to_string())
}

#[test]
fn an_existing_flat_file_means_what_its_section_would() {
    let flat = parse(
        "enabled = false\nmode = \"open\"\nlisten_addr = \"127.0.0.1:1\"\nmax_peers = 50\n\
         [limits]\nmax_handshakes = 9\n[wallet]\nbackend = \"none\"",
    );
    let section = parse(
        "[mesh]\nenabled = false\nmode = \"open\"\nlisten_addr = \"127.0.0.1:1\"\nmax_peers = 50\n\
         [mesh.limits]\nmax_handshakes = 9",
    );
    assert_eq!(flat.unwrap(), section.unwrap());
}

#[test]
fn the_documented_section_is_read() {
    let config =
        parse("[mesh]\nenabled = true\nmode = \"payment_gated\"\nlisten_addr = \"0.0.0.0:8334\"\n").unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn a_key_at_the_root_and_in_the_section_is_taken_if_both_say_the_same_and_refused_with_both_lines_if_not() {
    let same = "mode = \"open\"\nmax_peers = 9\n[mesh]\nmode = \"open\"\nmax_peers = 9\nannounce = false";
    let config = parse(same).unwrap();
    assert_eq!((config.mesh.mode, config.mesh.max_peers), (MeshMode::Open, 9));
    assert!(!config.mesh.announce);
    let said = parse("mode = \"open\"\n[mesh]\nmode = \"bitcoin_only\"").unwrap_err();
    assert_eq!(
        said,
        "config.toml:1: `mode` is also set on line 3, to something else; keep one of the two"
    );
    let said = parse("[limits]\nmax_handshakes = 9\n[mesh.limits]\nmax_handshakes = 8").unwrap_err();
    assert!(said.contains("`max_handshakes` is also set on line 4"), "{said}");
}

#[test]
fn every_key_of_the_section_may_stand_at_the_root() {
    let listed = parse("[mesh]\nzzzzzzzz = 1").unwrap_err();
    let mut of_the_section: Vec<&str> = listed.split("known here: ").nth(1).unwrap().split(", ").collect();
    let mut flat = FLAT_KEYS.to_vec();
    of_the_section.sort_unstable();
    flat.sort_unstable();
    assert_eq!(of_the_section, flat);
}

#[test]
fn an_unknown_key_at_the_root_is_refused_with_its_line_and_the_one_it_resembles() {
    assert_eq!(
        parse("mode = \"open\"\nlisten_adr = \"127.0.0.1:1\"").unwrap_err(),
        "config.toml:2: unknown key `listen_adr`; did you mean `listen_addr`?"
    );
    assert_eq!(
        parse("[walet]\nbackend = \"none\"").unwrap_err(),
        "config.toml:1: unknown section `walet`; did you mean `wallet`?"
    );
}

#[test]
fn peers_of_an_existing_file_are_kept_and_one_without_an_id_is_refused() {
    let id = "ab".repeat(32);
    let config = parse(&format!(
        "peers = [{{ address = \"127.0.0.1:1\", node_id_hex = \"{id}\" }}]"
    ));
    assert_eq!(config.unwrap().mesh.peers[0].node_id.to_string(), id);
    let said = parse("peers = [{ address = \"127.0.0.1:1\" }]").unwrap_err();
    assert!(said.contains("`node_id` is missing in [mesh.peers]"), "{said}");
    let other = "cd".repeat(32);
    let said = parse(&format!(
        "[[peers]]\naddress = \"127.0.0.1:1\"\nnode_id = \"{id}\"\nnode_id_hex = \"{other}\""
    ));
    assert!(said.unwrap_err().contains("`node_id_hex` and `node_id` differ"));
}

#[test]
fn keys_that_have_no_effect_any_more_are_told_and_those_that_cannot_be_honoured_refused() {
    let config =
        parse("max_peers = 50\nrate_limit_per_minute = 120\npeer_list = []\nbootstrap_nodes = []").unwrap();
    assert_eq!(config.mesh.max_peers, 50);
    let told = config.warnings();
    assert!(
        told.iter()
            .any(|told| told.contains("rate_limit_per_minute on line 2 has no effect")),
        "{told:?}"
    );
    for key in ["peer_list", "bootstrap_nodes"] {
        let said = parse(&format!("[mesh]\n{key} = [\"192.0.2.1:8334\"]")).unwrap_err();
        assert!(said.starts_with(&format!("config.toml:2: `{key}`")), "{said}");
    }
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
    let seed = "5eed".repeat(16);
    for text in [
        format!("identity_seed_hex = \"{seed}\""),
        format!("[mesh]\nidentity_seed_hex = \"{seed}\""),
    ] {
        let said = parse(&text).unwrap_err();
        assert!(said.contains("identity.key") && !said.contains(&seed), "{said}");
    }
}

#[test]
fn a_mesh_that_is_no_section_is_refused_as_such() {
    let said = parse("mesh = 5\nmode = \"open\"").unwrap_err();
    assert!(said.contains("`mesh` must be a section"), "{said}");
}
