//! Plays a scenario: makes its network, takes it through its phases, and writes the report.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use mesh_core::routing::RoutingCounters;
use mesh_core::time::Instant;

use super::judge::judge;
use super::report::{PLANE_NAMES, PhaseReport, PlaneReport, Report};
use super::scenario::{Churn, ClockJump, Phase, Pick, PickWord, Scenario, draw};
use super::topology::Topology;
use super::traffic::Traffic;
use super::watch::PLANES;
use super::{Happening, Network};
use crate::random::Random;

/// How often progress is told and quiet is looked for.
const SLICE: Duration = Duration::from_millis(100);

/// Packets that are under way when the last phase ends have this long to arrive.
const LAST_PACKETS: Duration = Duration::from_secs(3);

/// How often two halves of a network are drawn before halves that are not all connected are taken.
const PARTITION_TRIES: usize = 32;

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The phase's name.
    pub phase: &'a str,
    /// Which phase it is, from 0.
    pub index: usize,
    /// How many there are.
    pub phases: usize,
    /// How much time has passed in the simulation.
    pub simulated: Duration,
    /// How much may pass at the most, all phases together.
    pub longest: Duration,
    /// What has happened so far.
    pub events: u64,
}

/// Plays a scenario on its topology under one seed, and tells `progress` ten times per simulated second where it is.
pub fn play(
    scenario: &Scenario,
    topology: &Topology,
    seed: u64,
    mut progress: impl FnMut(Progress<'_>),
) -> Report {
    let destinations = scenario.destinations(topology, seed);
    let mut player = Player::new(scenario, topology, &destinations, seed);
    let mut phases = Vec::new();
    for (index, phase) in scenario.phases.iter().enumerate() {
        phases.push(player.play(index, phase, &mut progress));
    }
    player.network.set_traffic(false, scenario.phases.len());
    if let Some(traffic) = &scenario.traffic
        && traffic.pairs > 0
    {
        player.network.run_for(LAST_PACKETS);
    }
    for (index, (report, phase)) in phases.iter_mut().zip(&scenario.phases).enumerate() {
        let traffic = player.network.traffic.as_ref();
        report.traffic = traffic
            .filter(|_| player.sends.contains(&index))
            .map(|traffic| traffic.report(index));
        debug_assert_eq!(report.name, phase.name);
    }
    player.report(destinations, phases)
}

struct Player<'a> {
    scenario: &'a Scenario,
    topology: &'a Topology,
    network: Network,
    random: Random,
    killed: BTreeSet<usize>,
    villains: Vec<usize>,
    at_work: bool,
    sending: bool,
    /// Phases in which packets were sent.
    sends: BTreeSet<usize>,
    seed: u64,
}

/// What had been counted when a phase began.
struct Before {
    at: Instant,
    said: RoutingCounters,
    changes: [u64; PLANES],
    loops: [u64; PLANES],
    risen: [u64; PLANES],
}

impl<'a> Player<'a> {
    fn new(scenario: &'a Scenario, topology: &'a Topology, destinations: &[usize], seed: u64) -> Self {
        let mut network = Network::new(topology, destinations, scenario.network_spec(), seed);
        network.set_faults(scenario.faults);
        let mut player = Self {
            scenario,
            topology,
            network,
            random: Random::new(seed ^ 0x91a7),
            killed: BTreeSet::new(),
            villains: Vec::new(),
            at_work: false,
            sending: false,
            sends: BTreeSet::new(),
            seed,
        };
        for settings in &scenario.villains {
            for node in player.pick(&settings.at) {
                player.network.corrupt(node, settings.kind);
            }
        }
        player.villains = player.network.villains();
        if let Some(settings) = scenario.traffic {
            let announced = player.network.watch.destinations();
            let traffic = Traffic::new(settings, topology.nodes, announced, &player.villains, seed);
            player.network.traffic = Some(traffic);
        }
        player
    }

    fn play(&mut self, index: usize, phase: &Phase, progress: &mut impl FnMut(Progress<'_>)) -> PhaseReport {
        let before = self.before();
        let killed = self.begin(phase, index);
        let end = before.at + phase.longest();
        let longest = self.scenario.phases.iter().map(Phase::longest).sum();
        let mut became_quiet = phase.until_quiet_ms.map(|_| false);
        while self.network.now() < end {
            self.network.run_to((self.network.now() + SLICE).min(end));
            progress(Progress {
                phase: &phase.name,
                index,
                phases: self.scenario.phases.len(),
                simulated: self.network.now() - Instant(0),
                longest,
                events: self.network.totals().events,
            });
            if self.is_quiet(phase, before.at) {
                became_quiet = Some(true);
                break;
            }
        }
        self.phase_report(phase, &before, killed, became_quiet)
    }

    /// Does what a phase begins with; whom it killed.
    fn begin(&mut self, phase: &Phase, index: usize) -> Vec<usize> {
        let killed = phase
            .kill
            .as_ref()
            .map(|pick| self.pick(pick))
            .unwrap_or_default();
        for node in &killed {
            self.network.kill(*node);
            self.killed.insert(*node);
        }
        if phase.restart {
            for node in std::mem::take(&mut self.killed) {
                self.network.restart(node);
            }
        }
        if phase.partition {
            self.partition();
        }
        if phase.heal {
            self.network.heal_all();
        }
        if let Some(churn) = phase.churn {
            self.churn(churn);
        }
        if let Some(jump) = phase.clock_jump {
            self.jump_clocks(jump);
        }
        if let Some(faults) = phase.faults {
            self.network.set_faults(faults);
        }
        if let Some(at_work) = phase.villains {
            self.at_work = at_work;
            self.network.set_villains(at_work);
        }
        self.sending = phase.traffic.unwrap_or(self.sending);
        if self.sending {
            self.sends.insert(index);
        }
        self.network.set_traffic(self.sending, index);
        killed
    }

    fn is_quiet(&self, phase: &Phase, began: Instant) -> bool {
        let Some(quiet) = phase.until_quiet_ms else {
            return false;
        };
        let disturbed = began + Duration::from_secs(phase.churn.map_or(0, |churn| churn.for_s));
        let changed = self.network.watch().last_change_us().into_iter().max();
        let since = disturbed.max(Instant(changed.unwrap_or_default()));
        self.network.now() - since >= Duration::from_millis(quiet)
    }

    fn pick(&mut self, pick: &Pick) -> Vec<usize> {
        match pick {
            Pick::Word(PickWord::Busiest) => self.network.busiest().into_iter().collect(),
            Pick::Numbers(numbers) => {
                let known = numbers.iter().filter(|node| **node < self.topology.nodes);
                known.copied().collect()
            }
            Pick::Random { random } => {
                let mut fit: BTreeSet<usize> = self.network.live().collect();
                fit.retain(|node| !self.villains.contains(node));
                draw(self.topology.nodes, &mut self.random)
                    .filter(|node| fit.contains(node))
                    .take(*random)
                    .collect()
            }
        }
    }

    /// Cuts the links between two halves: one grows from a node drawn by seed, the other is the rest.
    fn partition(&mut self) {
        let neighbours = self.topology.neighbours();
        let mut half = Vec::new();
        for _ in 0..PARTITION_TRIES {
            half = grow_half(&neighbours, &mut self.random);
            if is_rest_connected(&neighbours, &half) {
                break;
            }
        }
        for edge in &self.topology.edges {
            if half[edge.a as usize] != half[edge.b as usize] {
                self.network.cut(edge.a as usize, edge.b as usize);
            }
        }
    }

    fn churn(&mut self, churn: Churn) {
        let links = self.topology.edges.len() as u64;
        for _ in 0..churn.links_per_s.saturating_mul(churn.for_s) {
            let after = Duration::from_micros(self.random.below(churn.for_s.saturating_mul(1_000_000)));
            let link = self.random.below(links) as u32;
            let down_ms = u32::try_from(churn.down_ms).unwrap_or(u32::MAX);
            self.network
                .schedule(after, Happening::LinkBreaks { link, down_ms });
        }
    }

    fn jump_clocks(&mut self, jump: ClockJump) {
        let nodes: Vec<usize> = draw(self.topology.nodes, &mut self.random)
            .take(jump.nodes)
            .collect();
        for node in nodes {
            self.network.jump_clock(node, jump.ms);
        }
    }

    fn before(&self) -> Before {
        let watch = self.network.watch();
        Before {
            at: self.network.now(),
            said: self.network.said(),
            changes: watch.changes(),
            loops: watch.loops(),
            risen: watch.risen(),
        }
    }

    fn phase_report(
        &self,
        phase: &Phase,
        before: &Before,
        killed: Vec<usize>,
        became_quiet: Option<bool>,
    ) -> PhaseReport {
        let after = self.before();
        let directions = self.network.live_links().count() * 2;
        let (said, said_before) = (&after.said, &before.said);
        PhaseReport {
            name: phase.name.clone(),
            began_ms: before.at.0 / 1000,
            lasted_ms: (after.at - before.at).as_millis() as u64,
            became_quiet,
            killed,
            live_nodes: self.network.live().count(),
            directions,
            planes: [0, 1].map(|plane| self.plane_report(plane, directions, before, &after)),
            update_frames: said.update_frames_sent - said_before.update_frames_sent,
            announcements: said.announcements_sent - said_before.announcements_sent,
            announcement_bodies: said.bodies_sent - said_before.bodies_sent,
            repeated: said.repeated - said_before.repeated,
            seqnos_made: said.seqnos_made - said_before.seqnos_made,
            judgement: judge(&self.network),
            traffic: None,
            villains_at_work: self.at_work,
        }
    }

    fn plane_report(&self, plane: usize, directions: usize, before: &Before, after: &Before) -> PlaneReport {
        let watch = self.network.watch();
        let entries = after.said.routes_sent[plane] - before.said.routes_sent[plane];
        let each = (directions * watch.destinations().len()).max(1) as u64;
        PlaneReport {
            converged_ms: watch.last_change_us()[plane].saturating_sub(before.at.0) / 1000,
            entries,
            entries_per_mille: entries * 1000 / each,
            requests: after.said.requests_sent[plane] - before.said.requests_sent[plane],
            changes: after.changes[plane] - before.changes[plane],
            loops: after.loops[plane] - before.loops[plane],
            risen: after.risen[plane] - before.risen[plane],
        }
    }

    fn report(self, destinations: Vec<usize>, phases: Vec<PhaseReport>) -> Report {
        let network = &self.network;
        let totals = network.totals();
        let mut report = Report {
            scenario: self.scenario.name.clone(),
            topology: self.topology.name.clone(),
            nodes: self.topology.nodes,
            links: self.topology.edges.len(),
            destinations,
            seed: self.seed,
            event_hash: blake3::Hash::from(network.event_hash()).to_hex().to_string(),
            simulated_ms: network.now().0 / 1000,
            events: totals.events,
            frames: totals.frames,
            bytes: totals.bytes,
            lost: totals.lost,
            villains: self.villains.clone(),
            phases,
            dropped: dropped(network),
            first_loops: loops_text(network),
            first_risen: risen_text(network),
            checks: Vec::new(),
            ok: false,
        };
        report.judge(&self.scenario.expect, &self.scenario.phases);
        report
    }
}

fn dropped(network: &Network) -> std::collections::BTreeMap<String, u64> {
    let dropped = network.dropped().iter();
    dropped
        .map(|(reason, count)| (reason.as_str().to_owned(), *count))
        .collect()
}

fn loops_text(network: &Network) -> Vec<String> {
    let loops = network.watch().first_loops().iter();
    let text = loops.map(|found| {
        format!(
            "loop at {} µs, {} plane, to {}: {:?}",
            found.at_us, PLANE_NAMES[found.plane], found.destination, found.nodes
        )
    });
    text.collect()
}

fn risen_text(network: &Network) -> Vec<String> {
    let risen = network.watch().first_risen().iter();
    let text = risen.map(|found| {
        format!(
            "feasible distance rose at {} µs, {} plane, at {} to {}: {:?} → {:?}",
            found.at_us, PLANE_NAMES[found.plane], found.node, found.destination, found.before, found.after
        )
    });
    text.collect()
}

/// Half of all nodes, connected with each other: true for those in it.
fn grow_half(neighbours: &[Vec<u32>], random: &mut Random) -> Vec<bool> {
    let mut half = vec![false; neighbours.len()];
    let start = random.below(neighbours.len() as u64) as usize;
    let mut border = vec![start];
    let mut inside = 0;
    while inside < neighbours.len() / 2 && !border.is_empty() {
        let place = random.below(border.len() as u64) as usize;
        let node = border.swap_remove(place);
        if !std::mem::replace(&mut half[node], true) {
            inside += 1;
            let outside = neighbours[node].iter().map(|next| *next as usize);
            border.extend(outside.filter(|next| !half[*next]));
        }
    }
    half
}

fn is_rest_connected(neighbours: &[Vec<u32>], half: &[bool]) -> bool {
    let mut seen = half.to_vec();
    let Some(start) = half.iter().position(|inside| !inside) else {
        return true;
    };
    seen[start] = true;
    let mut waiting = VecDeque::from([start]);
    while let Some(node) = waiting.pop_front() {
        for next in &neighbours[node] {
            if !std::mem::replace(&mut seen[*next as usize], true) {
                waiting.push_back(*next as usize);
            }
        }
    }
    seen.iter().all(|seen| *seen)
}
