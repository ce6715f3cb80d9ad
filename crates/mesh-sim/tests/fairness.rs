//! Whole markets of payers who look after who earns their money: what it does, and what it does not do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use mesh_core::fairness::entities::Tie;
use mesh_core::fairness::policy::FairnessPolicy;
use mesh_sim::market::{Market, Outcome, node_id, play};
use mesh_sim::network::Topology;

/// Two exchanges with forty customers between them, and `routers` between the exchanges: nodes 2 and on.
fn between(routers: u32) -> Topology {
    let mut text = String::new();
    for router in 2..2 + routers {
        text += &format!("0 {router}\n{router} 1\n");
    }
    for customer in 2 + routers..42 + routers {
        text += &format!("{} {customer}\n", customer % 2);
    }
    Topology::parse(&text, "between").unwrap()
}

fn market(ties: Vec<(u32, Tie)>, policy: Option<FairnessPolicy>, seed: u64) -> Market {
    Market {
        payers: 20,
        purchases_per_day: 100,
        days: (2, 1),
        prices_msat: (10, 10),
        policy,
        destinations: 0,
        ties,
        seed,
    }
}

/// What `nodes` earned of what all routers between the exchanges did.
fn share_of(outcome: &Outcome, nodes: std::ops::Range<u32>, routers: u32) -> f64 {
    let earned = |nodes: std::ops::Range<u32>| -> u64 {
        let ids: BTreeSet<_> = nodes.map(node_id).collect();
        let theirs = outcome
            .earned
            .iter()
            .filter(|(entity, _)| ids.contains(&entity.0));
        theirs.map(|(_, msat)| *msat).sum()
    };
    earned(nodes) as f64 / earned(2..2 + routers) as f64
}

#[test]
fn operator_of_half_of_all_routers_earns_what_one_of_them_would() {
    let topology = between(20);
    for tie in [Tie::Operator(node_id(99)), Tie::Payee([7; 33])] {
        let ties: Vec<_> = (2..12).map(|node| (node, tie)).collect();
        let outcome = play(&topology, &market(ties, Some(FairnessPolicy::default()), 1)).unwrap();
        let share = share_of(&outcome, 2..12, 20);
        assert!(share < 0.15, "ten nodes behind {tie:?} earn {share}");
    }
    let apart = play(&topology, &market(Vec::new(), Some(FairnessPolicy::default()), 1)).unwrap();
    let share = share_of(&apart, 2..12, 20);
    assert!(
        (0.4..0.6).contains(&share),
        "ten truly separate ones of twenty earn {share}"
    );
}

#[test]
fn exchange_without_whom_there_is_no_way_is_neither_priced_nor_left_out() {
    let topology = between(4);
    let fair = play(&topology, &market(Vec::new(), Some(FairnessPolicy::default()), 2)).unwrap();
    let unfair = play(&topology, &market(Vec::new(), None, 2)).unwrap();
    assert_eq!((fair.without_route, unfair.without_route), (0, 0));
    assert_eq!(fair.mean_cost, unfair.mean_cost);
    let exchanges = |outcome: &Outcome| share_of(outcome, 0..2, 4);
    assert!((exchanges(&fair) - exchanges(&unfair)).abs() < 0.01);
}
