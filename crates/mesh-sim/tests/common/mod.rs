//! The networks and faults that several tests use.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part

use std::time::Duration;

use mesh_sim::{FaultRates, LinkSpec, NodeIndex, NodeSpec, Simulation};

/// Enough for chance to differ, few enough to be quick.
pub const SEEDS: std::ops::Range<u64> = 1..6;

/// Nodes in a row with these prices, the first of which pays nobody.
pub fn row<const N: usize>(seed: u64, prices: [u64; N]) -> (Simulation, [NodeIndex; N]) {
    let mut sim = Simulation::new(seed);
    let nodes = prices.map(|price| sim.add_node(NodeSpec::paid(price)));
    for pair in nodes.windows(2) {
        sim.connect(pair[0], pair[1], LinkSpec::default());
    }
    sim.run_for(Duration::from_millis(100));
    (sim, nodes)
}

/// A-B-C-D-E in a row and a shortcut from B to E.
pub fn five_nodes(seed: u64) -> (Simulation, [NodeIndex; 5]) {
    let (mut sim, nodes) = row(seed, [0, 3, 5, 2, 7]);
    sim.connect(nodes[1], nodes[4], LinkSpec::default());
    sim.run_for(Duration::from_millis(100));
    (sim, nodes)
}

/// Ten frames in a hundred lost, ten doubled, ten overtaken, and everything late by chance.
pub fn soup() -> FaultRates {
    FaultRates {
        loss: 100_000,
        duplicate: 100_000,
        reorder: 100_000,
        jitter: Duration::from_millis(40),
    }
}

/// Gives every direction of every link these rates.
pub fn make_faulty(sim: &mut Simulation, rates: FaultRates) {
    for (from, to) in sim.directions() {
        sim.link_mut(from, to).rates = rates;
    }
}
