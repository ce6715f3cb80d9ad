//! Plays a market of routes with and without payers who look after who earns their money, looks for the least that the
//! largest could have, or shows what an earner gains who splits. Figures are in docs/FAIRNESS.md.
//!
//! ```text
//! market TOPOLOGY SOFT_PPM HARD_PPM PERCENT PAYERS PURCHASES_PER_DAY [LEAST_PRICE MOST_PRICE SEEDS]
//! market TOPOLOGY limit PAIRS ROUNDS [LEAST_PRICE MOST_PRICE SEEDS BUDGET_PERCENT]
//! market split [SEEDS]
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;

use mesh_core::fairness::measures::Measures;
use mesh_core::fairness::policy::{Caps, FairnessPolicy};
use mesh_sim::market::{Behind, Market, Outcome, limit, play, share_of_split};
use mesh_sim::network::{Topology, find_folder};

/// The arguments after the program's name.
struct Arguments(Vec<String>);

impl Arguments {
    fn text(&self, place: usize, otherwise: &'static str) -> &str {
        self.0.get(place).map_or(otherwise, String::as_str)
    }

    fn number(&self, place: usize, otherwise: u64) -> u64 {
        self.0.get(place).map_or(otherwise, |text| text.parse().unwrap())
    }
}

fn main() {
    let arguments = Arguments(std::env::args().skip(1).collect());
    match (arguments.text(0, ""), arguments.text(1, "")) {
        ("split", _) => show_splits(arguments.number(1, 3)),
        (name, "limit") => show_limit(&load(name), &arguments),
        (name, _) => show_market(&load(name), &arguments),
    }
}

fn load(name: &str) -> Topology {
    let folder = find_folder(Path::new(".")).unwrap();
    Topology::load(&folder.join(format!("{name}.edges"))).unwrap()
}

fn show_limit(topology: &Topology, arguments: &Arguments) {
    for seed in 1..=arguments.number(6, 1) {
        let market = Market {
            prices_msat: (arguments.number(4, 10), arguments.number(5, 10)),
            seed,
            ..Market::default()
        };
        let budget = 1.0 + arguments.number(7, 5) as f64 / 100.0;
        let (pairs, rounds) = (arguments.number(2, 1500), arguments.number(3, 10));
        let found = limit(topology, &market, pairs as usize, rounds as usize, budget);
        println!("{} seed {seed}: {:?}", topology.name, found.unwrap());
    }
}

fn show_market(topology: &Topology, arguments: &Arguments) {
    let policy = FairnessPolicy {
        entity: Caps {
            soft_ppm: arguments.number(1, 50_000) as u32,
            hard_ppm: arguments.number(2, 100_000) as u32,
        },
        price_at_hard_cap_percent: arguments.number(3, 2_000) as u32,
        ..Default::default()
    };
    let seeds = arguments.number(8, 3);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for seed in 1..=seeds {
        let played = |policy| {
            let market = Market {
                payers: arguments.number(4, 60) as usize,
                purchases_per_day: arguments.number(5, 100),
                prices_msat: (arguments.number(6, 10), arguments.number(7, 10)),
                policy,
                seed,
                ..Market::default()
            };
            play(topology, &market).unwrap()
        };
        without.push(played(None));
        with.push(played(Some(policy)));
        show(seed, &without[without.len() - 1], "without");
        show(seed, &with[with.len() - 1], "with   ");
    }
    let of = |outcomes: &[Outcome], what: fn(&Outcome) -> f64| outcomes.iter().map(what).collect::<Vec<_>>();
    let change = |what: fn(&Outcome) -> f64| -> Vec<f64> {
        let pairs = without.iter().zip(&with);
        pairs
            .map(|(old, new)| 100.0 * (what(new) / what(old) - 1.0))
            .collect()
    };
    println!(
        "{}, {seeds} seeds, mean (range): top1 {} % to {} %, HHI {} %, cost {} %",
        topology.name,
        mean_and_range(&of(&without, |outcome| percent(outcome.fees.top1_ppm))),
        mean_and_range(&of(&with, |outcome| percent(outcome.fees.top1_ppm))),
        mean_and_range(&change(|outcome| f64::from(outcome.fees.hhi_ppm))),
        mean_and_range(&change(|outcome| outcome.mean_cost as f64)),
    );
}

fn percent(ppm: u32) -> f64 {
    f64::from(ppm) / 10_000.0
}

fn mean_and_range(values: &[f64]) -> String {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{mean:.1} ({least:.1} to {most:.1})")
}

fn show(seed: u64, outcome: &Outcome, policy: &str) {
    let Measures {
        top1_ppm,
        top5_ppm,
        hhi_ppm,
        nakamoto_50,
        ..
    } = outcome.fees;
    println!(
        "seed {seed} {policy}: top1 {:.2} % top5 {:.2} % HHI {:.4} half of all: {nakamoto_50} cost {:.3} msat a unit, \
         without route {}",
        percent(top1_ppm),
        percent(top5_ppm),
        f64::from(hhi_ppm) / 1e6,
        outcome.mean_cost as f64 / 1000.0,
        outcome.without_route,
    );
}

/// Of 20 equals and one who splits: what he carries, by how many parts and what they have in common.
fn show_splits(seeds: u64) {
    for behind in [Behind::Operator, Behind::Payee, Behind::Network, Behind::Nothing] {
        for parts in [1, 2, 5, 10, 50] {
            let share = |policy: Option<FairnessPolicy>| {
                let shares = (1..=seeds).map(|seed| {
                    let market = Market {
                        policy,
                        seed,
                        ..Market::default()
                    };
                    100.0 * share_of_split(parts, behind, &market).unwrap()
                });
                mean_and_range(&shares.collect::<Vec<_>>())
            };
            println!(
                "{parts} parts, common {behind:?}: without {} %, with {} %",
                share(None),
                share(Some(FairnessPolicy::default()))
            );
        }
    }
}
