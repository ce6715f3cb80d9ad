//! What a run came to: one structure for programs, a table of it for people, and the checks that decide.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::judge::{Judgement, PlaneJudgement};
use super::scenario::{Expectations, Phase};
use super::traffic::TrafficReport;

/// The names of the planes in reports.
pub const PLANE_NAMES: [&str; 2] = ["cost", "hops"];

/// Most destinations that the table lists; JSON lists all.
const LISTED_DESTINATIONS: usize = 64;

/// What a run of a scenario came to. How long it took by the clock on the wall is not in it: two runs of the same
/// scenario under the same seed give the same report, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// The network.
    pub topology: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// How many links.
    pub links: usize,
    /// Whose routes were watched.
    pub destinations: Vec<usize>,
    /// The seed.
    pub seed: u64,
    /// A hash over every frame that arrived, with its time and ends, in their order.
    pub event_hash: String,
    /// How much time passed in the simulation, in milliseconds.
    pub simulated_ms: u64,
    /// Things that happened.
    pub events: u64,
    /// Frames that arrived.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that did not arrive.
    pub lost: u64,
    /// The villains.
    pub villains: Vec<usize>,
    /// Phase by phase.
    pub phases: Vec<PhaseReport>,
    /// What nodes refused, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// The first few circles of next hops.
    pub first_loops: Vec<String>,
    /// The first few feasible distances that rose.
    pub first_risen: Vec<String>,
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
    /// Whether all of it holds.
    pub ok: bool,
}

/// What a phase came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// When it began, in milliseconds of the simulation.
    pub began_ms: u64,
    /// How long it lasted, in milliseconds.
    pub lasted_ms: u64,
    /// Whether it ended because routes had stopped changing; none when it was to last for a fixed time.
    pub became_quiet: Option<bool>,
    /// The nodes killed at its beginning.
    pub killed: Vec<usize>,
    /// Live nodes at its end.
    pub live_nodes: usize,
    /// Directions of live links at its end.
    pub directions: usize,
    /// Both planes.
    pub planes: [PlaneReport; 2],
    /// Updates sent that carried anything, both planes together.
    pub update_frames: u64,
    /// Announcements sent.
    pub announcements: u64,
    /// Of those, with what is announced and not only its signed digest.
    pub announcement_bodies: u64,
    /// Updates repeated for want of an acknowledgement.
    pub repeated: u64,
    /// Fresh sequence numbers made for others.
    pub seqnos_made: u64,
    /// All routes against the oracle's at its end.
    pub judgement: Judgement,
    /// Packets between honest nodes, when there were any.
    pub traffic: Option<TrafficReport>,
    /// Whether villains misbehaved.
    pub villains_at_work: bool,
}

/// One plane in one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PlaneReport {
    /// How long after the beginning of the phase the last route changed, in milliseconds; 0 when none did.
    pub converged_ms: u64,
    /// Route entries in updates.
    pub entries: u64,
    /// The same per directed link and destination, in thousandths.
    pub entries_per_mille: u64,
    /// Requests for a sequence number.
    pub requests: u64,
    /// Times that a router changed a route.
    pub changes: u64,
    /// Circles of next hops that came about.
    pub loops: u64,
    /// Feasible distances that rose.
    pub risen: u64,
}

/// Something that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// What was found.
    pub found: String,
    /// Whether it holds.
    pub ok: bool,
}

impl Report {
    /// Decides what was expected.
    pub(super) fn judge(&mut self, expect: &Expectations, phases: &[Phase]) {
        let mut checks = Vec::new();
        let mut check = |name: String, found: String, ok: bool| checks.push(Check { name, found, ok });
        let sum = |of: fn(&PlaneReport) -> u64| -> u64 {
            let planes = self.phases.iter().flat_map(|phase| &phase.planes);
            planes.map(of).sum()
        };
        let (loops, risen) = (sum(|plane| plane.loops), sum(|plane| plane.risen));
        if let Some(most) = expect.loops_at_most {
            check(format!("loops ≤ {most}"), loops.to_string(), loops <= most);
        }
        if let Some(least) = expect.loops_at_least {
            check(format!("loops ≥ {least}"), loops.to_string(), loops >= least);
        }
        if let Some(most) = expect.risen_at_most {
            let name = format!("feasible distances that rise ≤ {most}");
            check(name, risen.to_string(), risen <= most);
        }
        for (phase, asked) in self.phases.iter().zip(phases) {
            phase.check(asked, expect, &mut check);
        }
        let beside_villains = self.phases.iter().filter(|phase| phase.villains_at_work);
        let traffic: Vec<&TrafficReport> = beside_villains
            .filter_map(|phase| phase.traffic.as_ref())
            .collect();
        if let Some(least) = expect.delivery_ppm {
            let sent: u64 = traffic.iter().map(|phase| phase.sent).sum();
            let delivered: u64 = traffic.iter().map(|phase| phase.delivered).sum();
            let found = delivered * 1_000_000 / sent.max(1);
            let name = format!("delivery beside villains ≥ {least} ppm");
            let text = format!("{found} ppm ({delivered} of {sent})");
            check(name, text, sent > 0 && found >= u64::from(least));
        }
        if expect.villains_share_falls {
            let shares: Vec<u32> = traffic.iter().map(|phase| phase.villains_share_ppm).collect();
            let falls = matches!((shares.first(), shares.last()), (Some(first), Some(last)) if last < first);
            check(
                "villains' share of routes falls".into(),
                format!("{shares:?} ppm"),
                falls,
            );
        }
        self.ok = checks.iter().all(|check| check.ok);
        self.checks = checks;
    }

    /// The report as people read it.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{} · {} ({} nodes, {} links) · seed {} · {} s simulated\n",
            self.scenario,
            self.topology,
            self.nodes,
            self.links,
            self.seed,
            self.simulated_ms / 1000
        );
        text += &self.destinations_text();
        text += &format!("\n{}\n\n", self.phases_table());
        for phase in &self.phases {
            text += &format!("{}: {}\n", phase.name, phase.notes());
        }
        for line in self.first_loops.iter().chain(&self.first_risen) {
            text += &format!("  {line}\n");
        }
        text += &format!(
            "{} events, {} frames, {} bytes, {} frames lost · hash {}\n",
            self.events,
            self.frames,
            self.bytes,
            self.lost,
            self.event_hash.get(..16).unwrap_or_default()
        );
        if !self.dropped.is_empty() {
            let reasons: Vec<_> = self
                .dropped
                .iter()
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect();
            text += &format!("refused: {}\n", reasons.join(", "));
        }
        for check in &self.checks {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            text += &format!("{mark} {}: {}\n", check.name, check.found);
        }
        text
    }

    fn destinations_text(&self) -> String {
        if self.destinations.len() == self.nodes {
            return "destinations: all\n".into();
        }
        let shown = self.destinations.iter().take(LISTED_DESTINATIONS);
        let shown: Vec<_> = shown.map(ToString::to_string).collect();
        let more = self.destinations.len().saturating_sub(LISTED_DESTINATIONS);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let count = self.destinations.len();
        format!("{count} destinations: {}{more}\n", shown.join(" "))
    }

    fn phases_table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "phase",
            "plane",
            "last change",
            "told",
            "requests",
            "loops",
            "reached of reachable",
            "worse",
            "ghosts",
        ]);
        for column in 2..9 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for phase in &self.phases {
            for plane in 0..2 {
                table.add_row(phase.row(plane));
            }
        }
        table
    }
}

/// Many runs as one Markdown table, a row for each run and phase, both planes in a cell (cost / hops).
pub fn markdown(reports: &[Report]) -> String {
    let mut text =
        "| scenario | nodes | links | destinations | seed | phase | last change, ms | entries per link and \
        destination | loops | reached of reachable | worse | gap to the optimum within 10 hops |\n\
        |---|---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for report in reports {
        for phase in &report.phases {
            text += &report.markdown_row(phase);
        }
    }
    text
}

impl Report {
    fn markdown_row(&self, phase: &PhaseReport) -> String {
        let said = |of: fn(&PlaneReport) -> String| phase.planes.each_ref().map(of).join(" / ");
        let found = |of: fn(&PlaneJudgement) -> String| phase.judgement.planes.each_ref().map(of).join(" / ");
        let gap = &phase.judgement.gap;
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} ppm, worst {} ‰ |\n",
            self.scenario,
            self.nodes,
            self.links,
            self.destinations.len(),
            self.seed,
            phase.name,
            said(|plane| plane.converged_ms.to_string()),
            said(|plane| thousandths(plane.entries_per_mille)),
            said(|plane| plane.loops.to_string()),
            found(|plane| format!("{} of {}", plane.reached, plane.reachable)),
            found(|plane| plane.suboptimal.to_string()),
            gap.excess_ppm,
            gap.worst_per_mille,
        )
    }
}

impl PhaseReport {
    fn check(&self, asked: &Phase, expect: &Expectations, check: &mut impl FnMut(String, String, bool)) {
        let name = &self.name;
        if self.became_quiet == Some(false) {
            check(
                format!("{name}: becomes quiet"),
                "routes still change".into(),
                false,
            );
        }
        for (plane, plane_name) in PLANE_NAMES.iter().enumerate() {
            let found = &self.judgement.planes[plane];
            if asked.is_judged() && expect.reach_as_oracle {
                let ok = found.reached == found.reachable && found.ghosts == 0;
                let ghosts = found.ghosts;
                check(
                    format!("{name}: {plane_name} reaches whom the oracle reaches"),
                    format!("{} of {}, {ghosts} ghosts", found.reached, found.reachable),
                    ok,
                );
            }
            if asked.is_judged() && expect.optimal_as_oracle {
                check(
                    format!("{name}: {plane_name} as good as the oracle"),
                    format!("{} worse", found.suboptimal),
                    found.suboptimal == 0,
                );
            }
            if let Some(most) = expect.updates_per_mille_at_death
                && asked.kill.is_some()
            {
                let entries = self.planes[plane].entries_per_mille;
                check(
                    format!(
                        "{name}: {plane_name} entries per link and destination ≤ {}",
                        thousandths(most)
                    ),
                    thousandths(entries),
                    entries <= most,
                );
            }
        }
    }

    fn row(&self, plane: usize) -> Vec<String> {
        let (said, found) = (&self.planes[plane], &self.judgement.planes[plane]);
        let first = plane == 0;
        let only_first = |text: String| if first { text } else { String::new() };
        let rose = match said.risen {
            0 => String::new(),
            risen => format!(" +{risen} rose"),
        };
        vec![
            only_first(self.name.clone()),
            PLANE_NAMES[plane].to_owned(),
            format!("{} ms", said.converged_ms),
            thousandths(said.entries_per_mille),
            said.requests.to_string(),
            format!("{}{rose}", said.loops),
            format!("{} of {}", found.reached, found.reachable),
            found.suboptimal.to_string(),
            found.ghosts.to_string(),
        ]
    }

    /// What has no column of its own.
    fn notes(&self) -> String {
        let gap = &self.judgement.gap;
        let mut notes = vec![
            format!("{} updates", self.update_frames),
            format!(
                "{} announcements ({} with their bodies)",
                self.announcements, self.announcement_bodies
            ),
            format!(
                "cheapest ways {} ppm above the cheapest within 10 hops (worst {} ‰), {} of them too long",
                gap.excess_ppm, gap.worst_per_mille, gap.too_long
            ),
        ];
        notes.extend(self.traffic.as_ref().map(|traffic| traffic.to_text()));
        for (found, name) in self.judgement.planes.iter().zip(PLANE_NAMES) {
            if found.wrong_metric > 0 {
                notes.push(format!("{} metrics of {name} are off", found.wrong_metric));
            }
        }
        if self.judgement.unmeasured > 0 {
            notes.push(format!("{} links unmeasured", self.judgement.unmeasured));
        }
        notes.join("; ")
    }
}

fn thousandths(number: u64) -> String {
    format!("{}.{:03}", number / 1000, number % 1000)
}
