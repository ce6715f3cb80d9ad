//! Plays a market of routes with and without payers who look after who earns their money, or looks for the least that the
//! largest could have. Figures are in docs/FAIRNESS.md.
//!
//! ```text
//! market TOPOLOGY SOFT_PPM HARD_PPM PERCENT PAYERS PURCHASES_PER_DAY [LEAST_PRICE MOST_PRICE SEEDS]
//! market TOPOLOGY limit PAIRS ROUNDS [LEAST_PRICE MOST_PRICE SEEDS BUDGET_PERCENT]
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;

use mesh_core::fairness::policy::{Caps, FairnessPolicy};
use mesh_sim::market::{Market, Outcome, limit, play};
use mesh_sim::network::{Topology, find_folder};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number =
        |place: usize, otherwise: u64| args.get(place).map_or(otherwise, |text| text.parse().unwrap());
    let name = args.get(1).map_or("lightning-2025-04-30-highcap", String::as_str);
    let folder = find_folder(Path::new(".")).unwrap();
    let topology = Topology::load(&folder.join(format!("{name}.edges"))).unwrap();
    if args.get(2).is_some_and(|what| what == "limit") {
        for seed in 1..=number(7, 1) {
            let market = market(0, 0, (number(5, 10), number(6, 10)), None, seed);
            let budget = 1.0 + number(8, 5) as f64 / 100.0;
            let found = limit(
                &topology,
                &market,
                number(3, 1500) as usize,
                number(4, 10) as usize,
                budget,
            );
            println!("{name} seed {seed}: {:?}", found.unwrap());
        }
        return;
    }
    let policy = FairnessPolicy {
        entity: Caps {
            soft_ppm: number(2, 50_000) as u32,
            hard_ppm: number(3, 300_000) as u32,
        },
        price_at_hard_cap_percent: number(4, 400) as u32,
        ..Default::default()
    };
    for seed in 1..=number(9, 1) {
        let played = |policy| {
            let market = market(
                number(5, 100),
                number(6, 100),
                (number(7, 10), number(8, 10)),
                policy,
                seed,
            );
            play(&topology, &market).unwrap()
        };
        let (without, with) = (played(None), played(Some(policy)));
        show(name, seed, &without, &without);
        show(name, seed, &with, &without);
    }
}

fn market(
    payers: u64,
    purchases: u64,
    prices: (u64, u64),
    policy: Option<FairnessPolicy>,
    seed: u64,
) -> Market {
    Market {
        payers: payers as usize,
        purchases_per_day: purchases,
        prices_msat: prices,
        policy,
        seed,
        ..Market::default()
    }
}

fn show(name: &str, seed: u64, outcome: &Outcome, base: &Outcome) {
    let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
    let change = |new: f64, old: f64| 100.0 * (new / old - 1.0);
    println!(
        "{name} seed {seed}: top1 {:.2} % top5 {:.2} % HHI {} ({:+.1} %) half of all: {} cost {:+.2} % without route {}",
        percent(outcome.fees.top1_ppm),
        percent(outcome.fees.top5_ppm),
        outcome.fees.hhi_ppm,
        change(f64::from(outcome.fees.hhi_ppm), f64::from(base.fees.hhi_ppm)),
        outcome.fees.nakamoto_50,
        change(outcome.mean_cost as f64, base.mean_cost as f64),
        outcome.without_route,
    );
}
