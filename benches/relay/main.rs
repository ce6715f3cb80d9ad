//! What it costs to carry a message one hop further: real nodes beside bare TLS links, in one run.
//!
//! ```text
//! cargo bench --bench relay          all of it, under a minute
//! cargo bench --bench relay -- open  only lines whose name contains the word
//! ```
//!
//! # Method
//!
//! A *line* is a source, some routers and a destination, joined by TLS over loopback, all in this process on two
//! threads. Three kinds of lines carry the same messages:
//!
//! * **bare**: the links alone (`mesh_net::Endpoint`); what comes in on one goes out on the next as it is;
//! * **open**: complete nodes (core, store, loop) of mode `open`: free sessions, credit replaced by byte quotas;
//! * **paid**: complete nodes of mode `payment_gated`, whose session was quoted, paid over Lightning (a devnet, shut
//!   down before anything is measured) and opened with the proofs; every packet draws credit at every hop.
//!
//! Each kind is measured over one hop (source and destination only) and over three (two routers between them). Source
//! and destination do more than a router: they make load, seal, open, deliver. The same work is in both lines, so the
//! *difference* is what two more hops cost, and half of it is one hop: receive, decrypt, decide, encrypt, send. What one
//! hop costs altogether is shown beside it as *ends*: mostly load generator, source and destination.
//!
//! Processor time is the scheduler's account of all threads of the process, system calls included
//! (`/proc/self/task/*/schedstat`, nanoseconds). Rounds of all lines alternate, so that whatever else the machine does
//! hits all of them alike; shown are medians over the rounds, and the ratio of a kind to bare is the median of the
//! ratios within each round.
//!
//! No more than a window of messages is under way, so that nothing is ever dropped; a round that loses one fails.
// A benchmark that cannot set up has nothing to say; its table goes to standard output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod bare;
mod line;
mod mesh;
mod meter;

use std::collections::BTreeMap;

use line::{Line, Load};
use mesh_core::routing_policy::MeshMode;
use meter::{Cost, median};

/// Rounds that the medians are taken over.
const ROUNDS: usize = 7;

const LOADS: [Load; 2] = [
    Load {
        name: "1 KiB",
        bytes: 1024,
        messages: 30_000,
        window: 256,
        batch: 64,
    },
    Load {
        name: "256 KiB",
        bytes: 256 * 1024,
        messages: 600,
        window: 12,
        batch: 1,
    },
];

/// Hops of the short and the long line of each kind.
const HOPS: [usize; 2] = [1, 3];

const KINDS: [&str; 3] = ["bare", "open", "paid"];

fn main() {
    // cargo passes `--bench`; whatever else there is, is a word to look for.
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // Spawned, so that all of it runs on the two workers and none on this thread.
    runtime.block_on(runtime.spawn(compare(wanted))).unwrap();
}

async fn compare(wanted: Option<String>) {
    let mut lines: BTreeMap<(&str, usize), Box<dyn Line>> = BTreeMap::new();
    for kind in KINDS {
        if wanted
            .as_ref()
            .is_some_and(|word| kind != "bare" && !kind.contains(word))
        {
            continue;
        }
        for hops in HOPS {
            let line: Box<dyn Line> = match kind {
                "bare" => Box::new(bare::BareLine::start(hops).await),
                "open" => Box::new(mesh::MeshLine::start(hops, MeshMode::Open).await),
                _ => Box::new(mesh::MeshLine::start(hops, MeshMode::PaymentGated).await),
            };
            lines.insert((kind, hops), line);
        }
    }
    for load in &LOADS {
        let mut rounds: Vec<BTreeMap<(&str, usize), Cost>> = Vec::new();
        for round in 0..=ROUNDS {
            let mut costs = BTreeMap::new();
            for (name, line) in &mut lines {
                costs.insert(*name, Cost::of(line.carry(load)).await);
            }
            // The first round warms caches and allocators.
            if round > 0 {
                rounds.push(costs);
            }
        }
        show(load, &rounds);
    }
}

fn show(load: &Load, rounds: &[BTreeMap<(&str, usize), Cost>]) {
    let messages = load.messages as f64;
    let rate = |costs: &BTreeMap<_, Cost>, kind, hops| messages / costs[&(kind, hops)].wall.as_secs_f64();
    let cpu = |costs: &BTreeMap<_, Cost>, kind, hops| costs[&(kind, hops)].cpu.as_secs_f64() * 1e6 / messages;
    let per_hop = |costs: &BTreeMap<_, Cost>, kind| (cpu(costs, kind, 3) - cpu(costs, kind, 1)) / 2.0;
    println!(
        "\n{} × {} messages, medians of {} rounds",
        load.messages,
        load.name,
        rounds.len()
    );
    println!("        msg/s 1 hop  msg/s 3 hops   ends µs   per hop µs (least)    ÷ bare");
    for kind in KINDS {
        if !rounds[0].contains_key(&(kind, 1)) {
            continue;
        }
        let over = |figure: &dyn Fn(&BTreeMap<_, Cost>) -> f64| median(rounds.iter().map(figure).collect());
        let least = rounds
            .iter()
            .map(|costs| per_hop(costs, kind))
            .fold(f64::INFINITY, f64::min);
        println!(
            "{kind:<6} {:>12.0} {:>13.0} {:>9.2} {:>12.2} ({least:.2}) {:>9.2}",
            over(&|costs| rate(costs, kind, 1)),
            over(&|costs| rate(costs, kind, 3)),
            over(&|costs| cpu(costs, kind, 1)),
            over(&|costs| per_hop(costs, kind)),
            over(&|costs| per_hop(costs, kind) / per_hop(costs, "bare")),
        );
    }
}
