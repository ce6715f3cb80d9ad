//! Scenarios: what a network is put through and what must come of it, as data.
//!
//! A scenario is a TOML file. It names a topology, the seeds it is run under, phases in their order, villains, traffic,
//! and expectations. What it does not name has a default; a key that means nothing is refused by name, since a misspelt
//! expectation would never fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::NetworkSpec;
use super::generators::Generator;
use super::links::{Faults, Latency};
use super::topology::{Topology, TopologyError, find_folder};
use super::villains::VillainKind;
use crate::random::{MILLION, Random};

/// Networks with more nodes have only some of them as destinations, unless the scenario says how many.
pub const ALL_DESTINATIONS_UP_TO: usize = 1000;

/// How many then.
pub const SAMPLED_DESTINATIONS: usize = 64;

/// Longest simulated time of a phase, in seconds: a week.
const MAX_PHASE_SECONDS: u64 = 7 * 24 * 3600;

/// What a network is put through.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it shows, for people.
    #[serde(default)]
    pub about: String,
    /// It is run once under each.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// The network.
    pub topology: TopologySource,
    /// Whose routes are watched.
    #[serde(default)]
    pub destinations: Destinations,
    /// Links.
    #[serde(default)]
    pub links: LinkSettings,
    /// What links do to frames until a phase says otherwise.
    #[serde(default)]
    pub faults: Faults,
    /// Whether routers keep to the feasibility condition. Without it they loop: that is how the detector is tested.
    #[serde(default = "yes")]
    pub feasibility: bool,
    /// What happens, in order.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// Nodes that do not play by the rules.
    #[serde(default, rename = "villain")]
    pub villains: Vec<VillainSettings>,
    /// Packets between honest nodes.
    #[serde(default)]
    pub traffic: Option<TrafficSettings>,
    /// What must hold.
    #[serde(default)]
    pub expect: Expectations,
}

/// Where a network comes from: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopologySource {
    /// The name of a real network in the folder of topologies, or the path of a file.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// A made-up network.
    #[serde(default)]
    pub generate: Option<Generator>,
}

/// Whose routes are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(untagged)]
pub enum Destinations {
    /// All nodes' in a small network, of a large one those of [`SAMPLED_DESTINATIONS`].
    #[default]
    Default,
    /// Those of so many nodes, drawn by seed, and of the busiest node.
    Count(usize),
}

/// Links.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkSettings {
    /// Shortest latency of a direction, in microseconds.
    pub least_us: u64,
    /// Longest, in microseconds; latencies are drawn by seed.
    pub most_us: u64,
    /// Where the topology knows distances, light's time over them is added to `least_us` instead.
    pub by_distance: bool,
    /// How long after a link broke or came back its ends notice, in milliseconds.
    pub notice_ms: u64,
    /// Links that come up together are up within this of each other, in milliseconds.
    pub spread_ms: u64,
}

/// A part of a scenario: something is done, then time passes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phase {
    /// What it is called.
    pub name: String,
    /// These nodes are killed.
    pub kill: Option<Pick>,
    /// All nodes that were killed so far are started again.
    pub restart: bool,
    /// The links between two halves of the network are cut; the halves are drawn by seed, each connected.
    pub partition: bool,
    /// All cut links are mended.
    pub heal: bool,
    /// Links break and come back during the phase.
    pub churn: Option<Churn>,
    /// Wall clocks jump.
    pub clock_jump: Option<ClockJump>,
    /// From now on links do this to frames.
    pub faults: Option<Faults>,
    /// From now on villains misbehave, or no more.
    pub villains: Option<bool>,
    /// From now on packets are sent, or no more.
    pub traffic: Option<bool>,
    /// How long it lasts, in seconds, unless `until_quiet`.
    pub for_s: u64,
    /// It ends when no route has changed for that many milliseconds.
    pub until_quiet_ms: Option<u64>,
    /// The longest it may take to become quiet, in seconds; longer is a failure.
    pub within_s: Option<u64>,
    /// Whether its routes are judged against the oracle at its end; those of a phase that ends quiet are.
    pub judged: Option<bool>,
}

/// Some nodes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Pick {
    /// By a word.
    Word(PickWord),
    /// By number.
    Numbers(Vec<usize>),
    /// So many live ones, drawn by seed; villains are not among them.
    Random {
        /// How many.
        random: usize,
    },
}

/// Some nodes, by a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PickWord {
    /// The live node with most live links.
    Busiest,
}

/// Links that break and come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// How many links break per second.
    pub links_per_s: u64,
    /// For how long, in seconds.
    pub for_s: u64,
    /// After how long a broken link comes back, in milliseconds.
    pub down_ms: u64,
}

/// Wall clocks that jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockJump {
    /// How many nodes', drawn by seed.
    pub nodes: usize,
    /// By how much, in milliseconds; negative is back.
    pub ms: i64,
}

/// Villains of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VillainSettings {
    /// What they do.
    pub kind: VillainKind,
    /// Who they are.
    pub at: Pick,
}

/// Packets between honest nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficSettings {
    /// How many pairs of a source and a destination, drawn by seed.
    pub pairs: usize,
    /// Packets of each pair per second.
    pub packets_per_s: u64,
}

/// What must hold, in every phase unless said otherwise. What is not named is not judged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expectations {
    /// Circles of next hops in both planes, in the whole run, at the most.
    pub loops_at_most: Option<u64>,
    /// Circles there must be at the least: for the run that shows that the detector sees.
    pub loops_at_least: Option<u64>,
    /// Feasible distances that rise, in the whole run, at the most.
    pub risen_at_most: Option<u64>,
    /// In every judged phase each plane reaches whom its oracle reaches.
    pub reach_as_oracle: bool,
    /// In every judged phase each plane's routes are as good as its oracle's.
    pub optimal_as_oracle: bool,
    /// Update entries per plane, directed link and destination, in thousandths, in phases that kill.
    pub updates_per_mille_at_death: Option<u64>,
    /// Packets between honest nodes that arrive, in parts per million, over all phases that villains misbehave in.
    pub delivery_ppm: Option<u32>,
    /// Villains' share of the routes in use falls from the first phase they misbehave in to the last.
    pub villains_share_falls: bool,
}

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no scenario.
    #[error("{path}: {source}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// It says something that cannot be done.
    #[error("scenario '{name}': {problem}")]
    Unsound {
        /// Which scenario.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Its network cannot be had.
    #[error("scenario '{name}': {source}")]
    Topology {
        /// Which scenario.
        name: String,
        /// Why.
        source: TopologyError,
    },
}

fn one_seed() -> Vec<u64> {
    vec![1]
}

fn yes() -> bool {
    true
}

impl Default for LinkSettings {
    fn default() -> Self {
        let spec = NetworkSpec::default();
        Self {
            least_us: *spec.latency.range_us.start(),
            most_us: *spec.latency.range_us.end(),
            by_distance: false,
            notice_ms: spec.notice.as_millis() as u64,
            spread_ms: spec.spread.as_millis() as u64,
        }
    }
}

impl Scenario {
    /// Reads a scenario's file.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads a scenario's text; `path` is for the errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|source| ScenarioError::Malformed {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let problem = if self.phases.is_empty() {
            "it has no phase"
        } else if self.seeds.is_empty() {
            "it has no seed"
        } else if self.topology.file.is_some() == self.topology.generate.is_some() {
            "topology needs either file or generate"
        } else if self.links.least_us > self.links.most_us {
            "links.least_us is above links.most_us"
        } else if self.phases.iter().any(|phase| !phase.lasts()) {
            "each phase needs either for_s, or until_quiet_ms and within_s, of a week at the most"
        } else if self.destinations == Destinations::Count(0) {
            "it needs a destination"
        } else if let Some(traffic) = &self.traffic
            && (traffic.pairs == 0 || !(1..=1000).contains(&traffic.packets_per_s))
        {
            "traffic needs a pair, and 1 to 1000 packets per second of each"
        } else {
            return self.faults.check().map_err(|problem| self.unsound(problem));
        };
        Err(self.unsound(problem))
    }

    fn unsound(&self, problem: impl Into<String>) -> ScenarioError {
        ScenarioError::Unsound {
            name: self.name.clone(),
            problem: problem.into(),
        }
    }

    /// The network it is played on; `beside` is where the search for the folder of real networks begins.
    pub fn topology(&self, beside: &Path) -> Result<Topology, ScenarioError> {
        let made = match (&self.topology.file, &self.topology.generate) {
            (Some(file), _) if file.components().count() == 1 && file.extension().is_none() => {
                find_folder(beside)
                    .and_then(|folder| Topology::load(&folder.join(file).with_extension("edges")))
            }
            (Some(file), _) => Topology::load(file),
            (None, Some(generator)) => generator.make(),
            (None, None) => Err(TopologyError::Impossible("no topology is named".into())),
        };
        made.map_err(|source| ScenarioError::Topology {
            name: self.name.clone(),
            source,
        })
    }

    /// Whose routes are watched in a run under `seed`, in order.
    pub fn destinations(&self, topology: &Topology, seed: u64) -> Vec<usize> {
        let count = match self.destinations {
            Destinations::Count(count) => count,
            Destinations::Default if topology.nodes <= ALL_DESTINATIONS_UP_TO => topology.nodes,
            Destinations::Default => SAMPLED_DESTINATIONS,
        };
        let mut random = Random::new(seed ^ 0xde57);
        let busiest = topology.busiest();
        let mut chosen = vec![busiest];
        chosen.extend(draw(topology.nodes, &mut random).filter(|node| *node != busiest));
        chosen.truncate(count);
        chosen.sort_unstable();
        chosen
    }

    /// What its networks are made of.
    pub fn network_spec(&self) -> NetworkSpec {
        NetworkSpec {
            latency: Latency {
                range_us: self.links.least_us..=self.links.most_us,
                by_distance: self.links.by_distance,
            },
            notice: Duration::from_millis(self.links.notice_ms),
            spread: Duration::from_millis(self.links.spread_ms),
            feasibility: self.feasibility,
        }
    }
}

impl Phase {
    fn lasts(&self) -> bool {
        match (self.until_quiet_ms, self.within_s) {
            (Some(quiet), Some(within)) => {
                self.for_s == 0 && (1..=MAX_PHASE_SECONDS).contains(&within) && quiet <= within * 1000
            }
            (None, None) => (1..=MAX_PHASE_SECONDS).contains(&self.for_s),
            _ => false,
        }
    }

    /// Whether its routes are judged against the oracle at its end.
    pub fn is_judged(&self) -> bool {
        self.judged.unwrap_or(self.until_quiet_ms.is_some())
    }

    /// The longest it takes.
    pub fn longest(&self) -> Duration {
        Duration::from_secs(self.within_s.unwrap_or(self.for_s))
    }
}

impl Faults {
    fn check(&self) -> Result<(), String> {
        let rates = [
            self.loss_ppm,
            self.stall_ppm,
            self.reorder_ppm,
            self.duplicate_ppm,
        ];
        if rates.iter().all(|rate| *rate <= MILLION) {
            Ok(())
        } else {
            Err("a rate of faults is above a million in a million".into())
        }
    }
}

/// All of `nodes` in an order drawn by seed (Fisher and Yates).
pub(super) fn draw(nodes: usize, random: &mut Random) -> impl Iterator<Item = usize> + use<'_> {
    let mut left: Vec<usize> = (0..nodes).collect();
    std::iter::from_fn(move || {
        let place = random.below(left.len() as u64) as usize;
        (!left.is_empty()).then(|| left.swap_remove(place))
    })
}
