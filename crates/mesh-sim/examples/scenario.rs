//! Plays scenarios without building the program: `cargo run --release -p mesh-sim --example scenario -- FILE… [--json]
//! [--seed N]`. Like `blvm-mesh sim`, but without a progress bar; exits with 1 when an expectation fails.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use mesh_sim::network::{Scenario, ScenarioError, play};

fn main() -> ExitCode {
    let (mut files, mut as_json, mut seed) = (Vec::new(), false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => as_json = true,
            "--seed" => seed = arguments.next().and_then(|seed| seed.parse().ok()),
            _ => files.push(argument),
        }
    }
    let mut all_hold = true;
    for file in &files {
        match run(Path::new(file), as_json, seed) {
            Ok(holds) => all_hold &= holds,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "error: {error}");
                return ExitCode::from(2);
            }
        }
    }
    if all_hold {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(file: &Path, as_json: bool, only_seed: Option<u64>) -> Result<bool, ScenarioError> {
    let scenario = Scenario::load(file)?;
    let topology = scenario.topology(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let seeds = only_seed.map_or_else(|| scenario.seeds.clone(), |seed| vec![seed]);
    let mut all_hold = true;
    for seed in seeds {
        let began = Instant::now();
        let report = play(&scenario, &topology, seed, |_| {});
        let text = if as_json {
            serde_json::to_string(&report).unwrap_or_default()
        } else {
            report.to_text()
        };
        let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
        let seconds = began.elapsed().as_secs_f64();
        let rate = report.simulated_ms as f64 / 1000.0 / seconds;
        let _ = writeln!(std::io::stderr(), "{seconds:.1} s, {rate:.1} simulated s per s\n");
        all_hold &= report.ok;
    }
    Ok(all_hold)
}
