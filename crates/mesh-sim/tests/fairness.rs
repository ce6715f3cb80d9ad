//! Whole markets of payers who look after who earns their money: what it does, and what it does not do.
//!
//! Every payer knows the whole network and his own receipts, and nothing of the others. Figures with more payers and other
//! seeds are in docs/FAIRNESS.md.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use mesh_core::fairness::policy::{Caps, FairnessPolicy};
use mesh_sim::market::{Behind, HONEST, Market, Outcome, between, play, share_of, share_of_split};
use mesh_sim::network::{Topology, find_folder};

fn fair(seed: u64) -> Market {
    Market {
        policy: Some(FairnessPolicy::default()),
        seed,
        ..Market::default()
    }
}

fn gain(parts: u32, behind: Behind, market: &Market) -> f64 {
    share_of_split(parts, behind, market).unwrap()
}

#[test]
fn who_splits_into_fifty_nodes_of_one_operator_or_one_lightning_node_gains_nothing() {
    let alone = gain(1, Behind::Nothing, &fair(1));
    for behind in [Behind::Operator, Behind::Payee] {
        let split = gain(50, behind, &fair(1));
        assert!(split < alone + 0.02, "alone {alone}, fifty behind one {behind:?} {split}");
    }
}

/// A network may earn more than an entity: whoever rents a place in one shares it with strangers. So up to its caps there
/// is something to gain, and above nothing; where the operator lets a network have no more than an entity, nothing at all.
#[test]
fn fifty_nodes_of_one_network_earn_no_more_than_a_network_may() {
    let defaults = FairnessPolicy::default();
    let without = gain(50, Behind::Network, &Market { policy: None, ..fair(1) });
    assert!(without > 0.6, "fifty of seventy earn {without}");
    let split = gain(50, Behind::Network, &fair(1));
    println!("{split}");
    assert!(split < f64::from(defaults.group.soft_ppm) / 1e6, "{split}");
    let strict = FairnessPolicy {
        group: defaults.entity,
        ..defaults
    };
    let strict = Market {
        policy: Some(strict),
        ..fair(1)
    };
    let split = gain(50, Behind::Network, &strict);
    println!("{split}");
    assert!(split < f64::from(defaults.entity.soft_ppm) / 1e6, "{split}");
}

/// The table in docs/FAIRNESS.md: this is what nobody can tell from honest growth.
#[test]
fn who_splits_into_truly_separate_networks_gains_their_number_and_no_more() {
    for parts in [1, 2, 5, 10, 50] {
        let equal = f64::from(parts) / f64::from(parts + HONEST);
        let split = gain(parts, Behind::Nothing, &fair(1));
        println!("{parts} {split}");
        assert!(split < equal * 1.1 + 0.01, "{parts} parts earn {split}, and {equal} of all are theirs");
    }
}

#[test]
fn who_charges_nothing_stops_at_the_hard_cap_where_there_are_alternatives() {
    let routers = 2..2 + HONEST;
    let war = |policy| Market {
        own_prices_msat: vec![(2, 0)],
        policy,
        ..fair(1)
    };
    // Who charges nothing earns nothing: what he carries counts.
    let carried = |market: &Market| {
        let outcome = play(&between(HONEST), market).unwrap();
        println!("{:?}", share_of(&outcome, 2..3, routers.clone()));
    };
    carried(&war(None));
    carried(&war(Some(FairnessPolicy::default())));
}
