//! What a module may ask the node for.

/// The capabilities of `blvm-node` 0.1.83, as a manifest writes them. The node passes over any other name without a
/// word, and the calls behind it are then denied. It also takes each in `CamelCase`.
pub const KNOWN: [&str; 26] = [
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

/// Whether the node grants anything for this name.
pub fn is_known(capability: &str) -> bool {
    KNOWN
        .iter()
        .any(|known| *known == capability || camel_case(known) == capability)
}

fn camel_case(name: &str) -> String {
    // The one name whose second form is not its words with capitals.
    if name == "read_utxo" {
        return "ReadUTXO".to_owned();
    }
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_ascii_uppercase().to_string() + letters.as_str()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_node_are_known_and_nothing_near_them() {
        for known in [
            "read_utxo",
            "ReadUTXO",
            "register_rpc_endpoint",
            "RegisterRpcEndpoint",
        ] {
            assert!(is_known(known), "{known}");
        }
        for unknown in ["", "ReadUtxo", "read-utxo", "Read_Blockchain", "mesh"] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }
}
