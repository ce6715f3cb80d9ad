//! `module.toml`, which a node reads before it starts us.

/// The names a node (0.1.83) knows; with any other it warns, and the module lacks what it meant.
const KNOWN: &[&str] = &[
    "read_blockchain",
    "read_utxo",
    "read_chain_state",
    "subscribe_events",
    "send_transactions",
    "read_mempool",
    "read_network",
    "network_access",
    "read_lightning",
    "read_payment",
    "read_storage",
    "write_storage",
    "manage_storage",
    "read_filesystem",
    "write_filesystem",
    "manage_filesystem",
    "register_rpc_endpoint",
    "manage_timers",
    "report_metrics",
    "read_metrics",
    "discover_modules",
    "publish_events",
    "call_module",
    "register_module_api",
    "submit_block",
    "queue_inbound_block",
];

#[test]
fn the_manifest_says_what_the_package_says_and_asks_for_what_nodes_know() {
    let manifest: toml::Table = include_str!("../../module.toml").parse().unwrap();
    let text = |key: &str| manifest[key].as_str().unwrap().to_owned();
    assert_eq!(text("name"), env!("CARGO_PKG_NAME"));
    assert_eq!(text("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text("description"), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(text("entry_point"), "blvm-mesh");
    assert!(!text("author").is_empty());
    // A table above them would take the capabilities in.
    assert!(manifest.values().all(|value| !value.is_table()));
    let capabilities = manifest["capabilities"].as_array().unwrap();
    for capability in capabilities {
        let name = capability.as_str().unwrap();
        assert!(KNOWN.contains(&name), "{name}");
        assert_eq!(
            capabilities.iter().filter(|other| *other == capability).count(),
            1,
            "{name}"
        );
    }
    for needed in [
        "read_blockchain",
        "subscribe_events",
        "register_module_api",
        "call_module",
    ] {
        assert!(
            capabilities.iter().any(|name| name.as_str() == Some(needed)),
            "{needed}"
        );
    }
}
