use mesh_core::fairness::policy::{Caps, FairnessPolicy};
use mesh_sim::market::{Market, play};
use mesh_sim::network::{Topology, find_folder};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let folder = find_folder(std::path::Path::new(".")).unwrap();
    let num = |n: usize, d: u64| args.get(n).map_or(d, |a| a.parse().unwrap());
    let name = &args[1];
    let topology = Topology::load(&folder.join(format!("{name}.edges"))).unwrap();
    if args[2] == "limit" {
        for seed in 1..=num(7, 1) {
            let market = Market { payers: 0, purchases_per_day: 0, days: (0, 0), prices_msat: (num(5, 10), num(6, 10)), policy: None, destinations: 0, ties: Vec::new(), seed };
            println!("{name} {:?}", mesh_sim::market::limit(&topology, &market, num(3, 3000) as usize, num(4, 20) as usize, 1.0 + num(8, 5) as f64 / 100.0).unwrap());
        }
        return;
    }
    for seed in 1..=num(9, 1) {
        let mut base = 0;
        let mut hhi = 0;
        for fair in [false, true] {
            let policy = FairnessPolicy {
                entity: Caps { soft_ppm: num(2, 50_000) as u32, hard_ppm: num(3, 300_000) as u32 },
                price_at_hard_cap_percent: num(4, 400) as u32,
                ..Default::default()
            };
            let market = Market {
                payers: num(5, 100) as usize,
                purchases_per_day: num(6, 100),
                days: (2, 1),
                prices_msat: (num(7, 10), num(8, 10)),
                policy: fair.then_some(policy),
                destinations: 0,
                ties: Vec::new(),
                seed,
            };
            let start = std::time::Instant::now();
            let o = play(&topology, &market).unwrap();
            let total: u64 = o.earned.values().sum();
            let mut tops: Vec<_> = o.earned.iter().map(|(e, m)| (*m, e)).collect(); tops.sort(); tops.reverse();
            for (m, e) in tops.iter().take(4) { print!("[{:.2}% una {:.2}%] ", 100.0 * *m as f64 / total as f64, 100.0 * o.unavoidable.get(e).copied().unwrap_or(0) as f64 / total as f64); }
            println!();
            if !fair { base = o.mean_cost; hhi = o.fees.hhi_ppm }
            println!("{name} seed {seed} fair {fair}: top1 {:.2}% top5 {:.2}% hhi {} ({:+.1}%) nak50 {} cost {} ({:+.2}%) routers {} changes {} noroute {} [{:?}]",
                o.fees.top1_ppm as f64 / 1e4, o.fees.top5_ppm as f64 / 1e4, o.fees.hhi_ppm, 100.0*(o.fees.hhi_ppm as f64/hhi as f64-1.0), o.fees.nakamoto_50, o.mean_cost, 100.0*(o.mean_cost as f64/base as f64-1.0), o.mean_routers, o.changes, o.without_route, start.elapsed());
        }
    }
}
