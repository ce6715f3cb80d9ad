//! What fairness costs when routes are chosen: comparing four paths, keeping shares up, and looking at what follows from
//! them, with ten thousand entities that this node paid lately; on the graph the ways to a destination, and what chance
//! between equals adds to a search for paths.
//!
//! ```text
//! cargo bench -p mesh-core --bench selection
//! ```
//! Comparing four paths must stay within a few microseconds; a step of the core within 50. None of this is done for a
//! packet.
//!
//! Where other work on the machine blurs the time, count instructions: with `SELECTION_COUNT=1000` the benchmark does one
//! thing that many times and nothing else, the one that `SELECTION_OF` names (`rank`, `look`, `shares`, `carried`,
//! `ways`, `paths`), and `valgrind --tool=callgrind --toggle-collect='selection::*::counted' BINARY` counts those
//! instructions alone. What is on the graph says so and is left out when the network is not there.
// A benchmark that cannot set up has nothing to say; what it says goes to whoever ran it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod network;
mod payer;
#[path = "../paths/topology.rs"]
mod topology;

use std::hint::black_box;

use criterion::{Criterion, criterion_group};
use network::Network;
use payer::Payer;

fn benches(criterion: &mut Criterion) {
    payer::benches(criterion);
    match Network::read() {
        Some(network) => network.benches(criterion),
        None => println!("skipped: no {} (see benches/paths)", network::NAME),
    }
}

criterion_group! {
    name = selection_benches;
    config = Criterion::default().sample_size(50);
    targets = benches
}

/// Does one thing so often.
fn count(what: &str, count: usize) {
    match what {
        "ways" | "paths" => {
            let network = Network::read().expect("the network is there");
            for pair in network.pairs.iter().cycle().take(count) {
                match what {
                    "ways" => drop(black_box(network::counted::ways(&network, *pair))),
                    _ => drop(black_box(network::counted::paths(&network, *pair, Some(7)))),
                }
            }
        }
        _ => {
            let mut payer = Payer::new();
            for _ in 0..count {
                match what {
                    "rank" => drop(black_box(payer::counted::rank(&payer))),
                    "look" => payer::counted::look(&mut payer),
                    "shares" => drop(black_box(payer::counted::shares(&payer))),
                    "carried" => payer::counted::carried(&mut payer, payer::USUAL),
                    other => panic!("nothing is called {other}"),
                }
            }
        }
    }
}

fn main() {
    let counted = std::env::var("SELECTION_COUNT")
        .ok()
        .and_then(|count| count.parse().ok());
    if let Some(counted) = counted {
        let what = std::env::var("SELECTION_OF").unwrap_or_else(|_| "rank".to_owned());
        count(&what, counted);
        return;
    }
    selection_benches();
    Criterion::default().configure_from_args().final_summary();
}
