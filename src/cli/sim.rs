//! `blvm-mesh sim`: plays scenarios of whole networks and reports.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mesh_sim::network::{Progress, Report, Scenario, ScenarioError, Topology, play};

use super::{CliError, print_answer};

/// How often the progress bar is drawn, per second.
const DRAWN_PER_SECOND: u8 = 5;

/// Plays every scenario under each of its seeds, or under one seed alone, and shows each report as it comes.
pub(super) fn run(files: &[PathBuf], only_seed: Option<u64>, as_json: bool) -> Result<(), CliError> {
    let mut failed = Vec::new();
    for file in files {
        let scenario = Scenario::load(file).map_err(unusable)?;
        let topology = scenario.topology(&folder_of(file)).map_err(unusable)?;
        let seeds = only_seed.map_or_else(|| scenario.seeds.clone(), |seed| vec![seed]);
        for seed in seeds {
            let report = play_one(&scenario, &topology, seed);
            print_answer(as_json, &report, Report::to_text)?;
            if !report.ok {
                failed.push(format!("{} under seed {seed}", report.scenario));
            }
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(CliError::Failed(format!(
            "not as expected: {}; the reports show what",
            failed.join(", ")
        ))),
    }
}

fn unusable(error: ScenarioError) -> CliError {
    CliError::Usage(error.to_string())
}

/// Where the search for the folder of real networks begins.
fn folder_of(file: &Path) -> PathBuf {
    let full = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    full.parent().map(Path::to_owned).unwrap_or_default()
}

/// Plays one run, and says on the standard error how fast it was: the report itself holds nothing that differs between
/// two runs.
fn play_one(scenario: &Scenario, topology: &Topology, seed: u64) -> Report {
    let bar = bar(&format!("{} seed {seed}", scenario.name));
    let began = Instant::now();
    let report = play(scenario, topology, seed, |progress| show(&bar, progress));
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let rate = report.simulated_ms as f64 / 1000.0 / seconds;
    // Without a standard error there is nobody to tell.
    let _ = writeln!(
        io::stderr(),
        "{}: {seconds:.1} s, {rate:.1} simulated s per s",
        report.scenario
    );
    report
}

fn bar(name: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
    let bar = ProgressBar::with_draw_target(Some(0), target);
    // The template is a constant; if it were wrong, the bar would look plain and nothing else.
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:32} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar
}

fn show(bar: &ProgressBar, progress: Progress<'_>) {
    let Progress {
        phase,
        index,
        phases,
        simulated,
        longest,
        events,
    } = progress;
    bar.set_length(longest.as_millis() as u64);
    bar.set_position(simulated.as_millis() as u64);
    bar.set_message(format!(
        "{phase} ({} of {phases}), {:.1} s simulated, {events} events",
        index + 1,
        simulated.as_secs_f64()
    ));
}
