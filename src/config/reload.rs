//! What another configuration changes: what can take effect in a running node, and what needs a restart, by its key.
//!
//! Live are prices, neighbours, what may be spent, and how the price follows the fee rate. All else shapes what was built at the
//! start: sockets, keys, the wallet, the books.

use mesh_core::identity::NodeId;
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::SpendingCaps;

use super::{Config, Peer};

/// What changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The new price, in msat per unit.
    pub price_msat_per_unit: Option<u64>,
    /// Neighbours that are new, or have a new address.
    pub peers_added: Vec<Peer>,
    /// Neighbours that are no longer wanted.
    pub peers_removed: Vec<NodeId>,
    /// What the node may now pay by itself.
    pub spending: Option<SpendingCaps>,
    /// The keys that take effect now.
    pub live: Vec<&'static str>,
    /// The keys that take effect after a restart.
    pub restart: Vec<&'static str>,
}

impl Changes {
    /// From one configuration to another.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self {
            restart: needing_restart(old, new),
            ..Self::default()
        };
        if old.mesh.price_msat_per_unit != new.mesh.price_msat_per_unit {
            changes.live.push("mesh.price_msat_per_unit");
        }
        if old.mesh.peers != new.mesh.peers {
            changes.live.push("mesh.peers");
            let kept = |peer: &&Peer| !old.mesh.peers.contains(peer);
            changes.peers_added = new.mesh.peers.iter().filter(kept).cloned().collect();
            let wanted = |id: &NodeId| new.mesh.peers.iter().any(|peer| peer.node_id == *id);
            let gone = old.mesh.peers.iter().map(|peer| peer.node_id);
            changes.peers_removed = gone.filter(|id| !wanted(id)).collect();
        }
        if old.payments != new.payments {
            changes.live.push("payments");
            changes.spending = Some(new.payments.spending());
        }
        if old.host.pricing != new.host.pricing {
            changes.live.push("host.price_follows_fee_rate");
        }
        // A price that no longer follows anything goes back to what is configured.
        let priced = old.mesh.price_msat_per_unit != new.mesh.price_msat_per_unit
            || old.host.pricing != new.host.pricing;
        let has_price = old.mesh.mode == MeshMode::PaymentGated;
        changes.price_msat_per_unit = (priced && has_price).then_some(new.mesh.price_msat_per_unit);
        changes
    }

    /// What the configuration in force is afterwards: of the new one only what took effect.
    pub fn in_force(old: &Config, new: Config) -> Config {
        let mut config = old.clone();
        config.mesh.price_msat_per_unit = new.mesh.price_msat_per_unit;
        config.mesh.peers = new.mesh.peers;
        config.payments = new.payments;
        config.host.pricing = new.host.pricing;
        config
    }
}

macro_rules! keys {
    ($old:ident, $new:ident: $($name:literal => $($field:ident).+,)*) => {{
        let mut changed = Vec::new();
        $(if $old.$($field).+ != $new.$($field).+ { changed.push($name); })*
        changed
    }};
}

fn needing_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    keys!(old, new:
        "mesh.enabled" => mesh.enabled,
        "mesh.mode" => mesh.mode,
        "mesh.listen_addr" => mesh.listen_addr,
        "mesh.data_dir" => mesh.data_dir,
        "mesh.network" => mesh.network,
        "mesh.operator" => mesh.operator,
        "mesh.operator_signature" => mesh.operator_signature,
        "mesh.announce" => mesh.announce,
        "mesh.addresses" => mesh.addresses,
        "mesh.route_lifetime_seconds" => mesh.route_lifetime,
        "mesh.max_peers" => mesh.max_peers,
        "mesh.node_carrier" => mesh.node_carrier,
        "mesh.limits" => mesh.limits,
        "wallet" => wallet,
        "chain" => chain,
        "treasury" => treasury,
        "fairness" => fairness,
        "host.least_free_disk_mib" => host.least_free_disk_mib,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        Config::parse(text, "f").unwrap()
    }

    fn changes(old: &str, new: &str) -> Changes {
        Changes::between(&read(old), &read(new))
    }

    const A: &str = "[[mesh.peers]]\naddress = \"a.example:1\"\nnode_id = \"0101010101010101010101010101010101010101010101010101010101010101\"\n";
    const B: &str = "[[mesh.peers]]\naddress = \"b.example:1\"\nnode_id = \"0202020202020202020202020202020202020202020202020202020202020202\"\n";

    #[test]
    fn the_same_configuration_changes_nothing() {
        assert_eq!(changes(A, A), Changes::default());
    }

    #[test]
    fn prices_neighbours_and_caps_change_while_the_node_runs() {
        let moved = A.replace("a.example", "c.example");
        let new = format!(
            "{moved}{B}[mesh]\nprice_msat_per_unit = 77\n[payments]\nauto_pay = true\n[host]\nprice_follows_fee_rate = true"
        );
        let found = changes(A, &new);
        assert_eq!(found.price_msat_per_unit, Some(77));
        let added: Vec<&str> = found
            .peers_added
            .iter()
            .map(|peer| peer.address.as_str())
            .collect();
        assert_eq!(added, ["c.example:1", "b.example:1"]);
        assert_eq!(found.peers_removed, []);
        assert!(found.spending.is_some_and(|caps| caps.is_on()));
        assert_eq!(
            found.live,
            [
                "mesh.price_msat_per_unit",
                "mesh.peers",
                "payments",
                "host.price_follows_fee_rate"
            ]
        );
        assert_eq!(found.restart, [""; 0]);
        let gone = changes(&format!("{A}{B}"), B);
        assert_eq!(gone.peers_removed, [NodeId([1; 32])]);
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays_as_it_was() {
        let new = "[mesh]\nmax_peers = 3\nlisten_addr = \"127.0.0.1:1\"\nprice_msat_per_unit = 5\n[mesh.limits]\nmax_handshakes = 99";
        let found = changes("", new);
        assert_eq!(
            found.restart,
            ["mesh.listen_addr", "mesh.max_peers", "mesh.limits"]
        );
        let in_force = Changes::in_force(&read(""), read(new));
        assert_eq!(in_force.mesh.max_peers, Config::default().mesh.max_peers);
        assert_eq!(in_force.mesh.price_msat_per_unit, 5);
        assert_eq!(
            Changes::between(&in_force, &read(new)).restart,
            found.restart,
            "it is said again until it is done"
        );
    }

    #[test]
    fn every_section_is_compared() {
        let sections = [
            "[wallet]\nbackend = \"lnbits\"\n[wallet.lnbits]\nurl = \"http://127.0.0.1:5000\"\napi_key = \"k\"",
            "[treasury]\naddress = \"a@example.org\"",
            "[host]\nleast_free_disk_mib = 1",
            "[fairness]\nentity_soft_cap_percent = 5",
            "[mesh]\nenabled = false",
            "[mesh]\nmode = \"open\"",
            "[mesh]\nnetwork = \"regtest\"",
            "[mesh]\nannounce = false",
            "[mesh]\naddresses = [\"a.example:1\"]",
            "[mesh]\nroute_lifetime_seconds = 5",
            "[mesh]\ndata_dir = \"/d\"",
        ];
        for text in sections {
            assert_eq!(changes("", text).restart.len(), 1, "{text}");
        }
    }

    #[test]
    fn price_that_no_longer_follows_goes_back_to_what_is_configured() {
        let found = changes("[host]\nprice_follows_fee_rate = true", "");
        assert_eq!(found.price_msat_per_unit, Some(10));
    }

    #[test]
    fn node_that_carries_for_nothing_gets_no_price() {
        let open = "[mesh]\nmode = \"open\"\n";
        let found = changes(open, &format!("{open}price_msat_per_unit = 5"));
        assert_eq!(found.price_msat_per_unit, None);
    }
}
