//! The real cores find routes like the oracle's, and never send packets round in circles: the scenarios that every change
//! has to pass.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may fail, and says what it skips

use std::path::{Path, PathBuf};

use mesh_sim::network::{Destinations, Report, Scenario, ScenarioError, TopologyError, play};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
}

/// Plays a scenario under its first seed; none when its network is a real one and the folder of those is absent.
fn run(file: &str) -> Option<Report> {
    run_changed(file, |_| {})
}

fn run_changed(file: &str, change: impl FnOnce(&mut Scenario)) -> Option<Report> {
    let mut scenario = Scenario::load(&scenarios().join(file)).unwrap();
    change(&mut scenario);
    match scenario.topology(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        Ok(topology) => Some(play(&scenario, &topology, scenario.seeds[0], |_| {})),
        Err(ScenarioError::Topology {
            source: TopologyError::NoFolder,
            ..
        }) => {
            println!("skipped {file}: the folder of real topologies is absent");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn holds(file: &str) {
    if let Some(report) = run(file) {
        assert!(report.ok, "{}", report.to_text());
    }
}

#[test]
fn ring_goes_the_long_way_round_when_a_node_dies() {
    holds("ci/ring.toml");
}

#[test]
fn grid_with_many_equal_ways_is_as_good_as_the_oracle() {
    holds("ci/grid.toml");
}

#[test]
fn death_of_a_hub_is_survived() {
    holds("ci/barabasi-albert.toml");
}

#[test]
fn small_world_is_as_good_as_the_oracle() {
    holds("ci/watts-strogatz.toml");
}

#[test]
fn detector_sees_the_loops_that_the_feasibility_condition_prevents() {
    let file = "ci/ring.toml";
    let mut scenario = Scenario::load(&scenarios().join(file)).unwrap();
    scenario.feasibility = false;
    let topology = scenario.topology(Path::new(".")).unwrap();
    let report = play(&scenario, &topology, 1, |_| {});
    let loops: u64 = report.phases[1].planes.iter().map(|plane| plane.loops).sum();
    assert!(loops > 0 && !report.ok, "{}", report.to_text());
}

#[test]
fn same_seed_gives_the_same_report_byte_for_byte_and_another_seed_another() {
    let scenario = Scenario::load(&scenarios().join("ci/ring.toml")).unwrap();
    let topology = scenario.topology(Path::new(".")).unwrap();
    let report = |seed| serde_json::to_string(&play(&scenario, &topology, seed, |_| {})).unwrap();
    assert_eq!(report(7), report(7));
    assert_ne!(report(7), report(8));
}

#[test]
fn every_scenario_can_be_read() {
    let mut folders = vec![scenarios()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                Scenario::load(&path).unwrap();
                count += 1;
            }
        }
    }
    assert!(count >= 30, "{count}");
}

#[test]
fn misspelt_expectation_is_refused_by_name() {
    let text = std::fs::read_to_string(scenarios().join("ci/ring.toml")).unwrap();
    let misspelt = text.replace("loops_at_most", "loops_at_moist");
    let error = Scenario::parse(&misspelt, Path::new("x.toml")).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("loops_at_moist") && error.contains("x.toml"),
        "{error}"
    );
}

/// One seed of three real networks, each to the nodes of a few destinations: an unoptimised build takes too long for all.
#[test]
fn small_real_networks_are_as_good_as_the_oracle() {
    for name in ["freifunk-leipzig", "freifunk-bielefeld", "freifunk-ulm"] {
        let file = format!("matrix/{name}.toml");
        let few = |scenario: &mut Scenario| scenario.destinations = Destinations::Count(48);
        if let Some(report) = run_changed(&file, few) {
            assert!(report.ok, "{}", report.to_text());
        }
    }
}
