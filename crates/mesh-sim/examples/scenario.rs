//! Plays scenarios without building the program: `cargo run --release -p mesh-sim --example scenario -- FILE… [--json |
//! --markdown] [--seed N]`. Like `blvm-mesh sim`, but without a progress bar; exits with 1 when an expectation fails.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use mesh_sim::network::{Report, Scenario, ScenarioError, markdown, play};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Markdown,
}

fn main() -> ExitCode {
    let (mut files, mut format, mut seed) = (Vec::new(), Format::Text, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => format = Format::Json,
            "--markdown" => format = Format::Markdown,
            "--seed" => seed = arguments.next().and_then(|seed| seed.parse().ok()),
            _ => files.push(argument),
        }
    }
    let mut reports = Vec::new();
    for file in &files {
        match run(Path::new(file), format, seed) {
            Ok(more) => reports.extend(more),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "error: {error}");
                return ExitCode::from(2);
            }
        }
    }
    if format == Format::Markdown {
        let _ = write!(std::io::stdout(), "{}", markdown(&reports));
    }
    if reports.iter().all(|report| report.ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(file: &Path, format: Format, only_seed: Option<u64>) -> Result<Vec<Report>, ScenarioError> {
    let scenario = Scenario::load(file)?;
    let topology = scenario.topology(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let seeds = only_seed.map_or_else(|| scenario.seeds.clone(), |seed| vec![seed]);
    let mut reports = Vec::new();
    for seed in seeds {
        let began = Instant::now();
        let report = play(&scenario, &topology, seed, |_| {});
        let text = match format {
            Format::Json => serde_json::to_string(&report).unwrap_or_default() + "\n",
            Format::Text => report.to_text(),
            Format::Markdown => String::new(),
        };
        let _ = write!(std::io::stdout(), "{text}");
        let seconds = began.elapsed().as_secs_f64();
        let rate = report.simulated_ms as f64 / 1000.0 / seconds;
        let verdict = if report.ok { "holds" } else { "FAILS" };
        let name = &report.scenario;
        let _ = writeln!(
            std::io::stderr(),
            "{name} seed {seed}: {verdict}, {seconds:.1} s, {rate:.1} simulated s per s"
        );
        reports.push(report);
    }
    Ok(reports)
}
