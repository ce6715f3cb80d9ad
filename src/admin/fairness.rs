//! Who earns what the node pays, and why it would take one route and not another.
//!
//! Shares are in parts per million, amounts in msat for 10,000 units where nothing else is said.

use mesh_core::event::{Answer, Command};
use mesh_core::fairness::explain::Candidate;
use mesh_core::fairness::measures::Measures;
use mesh_core::fairness::policy::Caps;
use mesh_core::fairness::report::{Report, Row};
use mesh_core::identity::NodeId;
use serde::{Deserialize, Serialize};

use super::backend::{AdminService, guarded};
use super::wire::{AdminError, Text};
use super::{LOOKUP_GUARD, convert};

/// Parameters of `explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainParams {
    /// To whom.
    pub destination: Text<NodeId>,
}

/// Every way to a node that is known, best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainReply {
    /// The ways; confirmed ones come first.
    pub candidates: Vec<CandidateReply>,
}

/// One way, and what it is compared by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateReply {
    /// All nodes, this one first, the destination last.
    pub path: Vec<Text<NodeId>>,
    /// Whether everybody on it signed a price; else it is known from announcements only.
    pub quoted: bool,
    /// What the payees would be paid.
    pub fee_msat: u64,
    /// What avoiding its routers is worth for having fallen silent before.
    pub failures_msat: u64,
    /// What its round trip is worth.
    pub latency_msat: u64,
    /// What avoiding its routers is worth for the share that they have already.
    pub concentration_msat: u64,
    /// Taken off, because it is the route in use.
    pub hysteresis_msat: u64,
    /// The sum, by which ways are compared; the lowest wins.
    pub score_msat: u64,
    /// Whether somebody on it is above a hard cap: it then comes after all ways that are not over such.
    pub excluded: bool,
    /// `strict`, or `relaxed` and why: then it comes after all ways that are strict.
    pub diversity: String,
    /// The one that the next session would take.
    pub chosen: bool,
}

/// How what the node paid in the last day, and holds receipts for, was spread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharesReply {
    /// How concentrated the fees are, by entity.
    pub by_fees: SpreadReply,
    /// How concentrated the packets are, in units (a started KiB), by entity.
    pub by_packets: SpreadReply,
    /// What a router was usually paid.
    pub usual_msat: u64,
    /// Fees below which what is missing counts as paid to nobody in particular, in msat.
    pub minimum_sample_msat: u64,
    /// What avoiding a share at its hard cap is worth, in percent of what is usual.
    pub worth_at_hard_cap_percent: u32,
    /// The caps of one entity.
    pub entity_caps: CapsReply,
    /// The caps of one network group.
    pub group_caps: CapsReply,
    /// Entities, named by the least id among their nodes, the largest share first.
    pub entities: Vec<ShareReply>,
    /// Network groups, the largest share first.
    pub groups: Vec<ShareReply>,
    /// Always true: what the node carries for others is in no share, and nothing follows from it. A rival could send it.
    pub transit_is_not_counted: bool,
}

/// How concentrated shares are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadReply {
    /// Entities that have anything.
    pub entities: u64,
    /// Share of the largest.
    pub top1_ppm: u32,
    /// Share of the five largest together.
    pub top5_ppm: u32,
    /// The sum of the squared shares.
    pub hhi_ppm: u32,
    /// The fewest that together have more than a third; 0 if nobody has anything.
    pub nakamoto_33: u32,
    /// The fewest that together have more than half; 0 if nobody has anything.
    pub nakamoto_50: u32,
}

/// What a share may grow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapsReply {
    /// From a tenth of it avoiding somebody is worth a little, above it more.
    pub soft_ppm: u32,
    /// Above it he is left out where there is an alternative.
    pub hard_ppm: u32,
}

/// Somebody's share, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareReply {
    /// Whose: a node's id in full, or a network such as `AS64500` or `203.0.0.0/16`.
    pub name: String,
    /// How many nodes of it are known.
    pub nodes: usize,
    /// What it is of all fees.
    pub observed_ppm: u32,
    /// What it is of all packets, in units.
    pub packets_ppm: u32,
    /// What it would be if all ways that have nobody in common were used alike.
    pub unavoidable_ppm: u32,
    /// What of that is where there is no way without it.
    pub forced_ppm: u32,
    /// Observed less unavoidable.
    pub excess_ppm: u32,
    /// What routes over it are counted dearer by, for its share of fees or of packets.
    pub surcharge_msat: u64,
    /// Whether it is left out where there is an alternative.
    pub left_out: bool,
}

impl AdminService {
    pub(super) async fn explain(&self, params: ExplainParams) -> Result<ExplainReply, AdminError> {
        let command = Command::Explain {
            destination: params.destination.0,
        };
        match guarded(LOOKUP_GUARD, self.backend().command(command)).await? {
            Answer::Explained(candidates) => Ok(ExplainReply {
                candidates: candidates.into_iter().map(candidate).collect(),
            }),
            _ => Err(convert::unexpected()),
        }
    }

    pub(super) async fn shares(&self) -> Result<SharesReply, AdminError> {
        match guarded(LOOKUP_GUARD, self.backend().command(Command::Shares)).await? {
            Answer::Shares(report) => Ok(shares(&report)),
            _ => Err(convert::unexpected()),
        }
    }
}

fn candidate(candidate: Candidate) -> CandidateReply {
    CandidateReply {
        path: candidate.path.into_iter().map(Text).collect(),
        quoted: candidate.quoted,
        fee_msat: candidate.fee_msat,
        failures_msat: candidate.failures_msat,
        latency_msat: candidate.latency_msat,
        concentration_msat: candidate.concentration_msat,
        hysteresis_msat: candidate.hysteresis_msat,
        score_msat: candidate.score_msat,
        excluded: candidate.excluded,
        diversity: candidate.diversity.to_string(),
        chosen: candidate.chosen,
    }
}

/// What is told of a report, here and by JSON-RPC.
pub(crate) fn shares(report: &Report) -> SharesReply {
    let policy = &report.policy;
    SharesReply {
        by_fees: spread(&report.by_fees),
        by_packets: spread(&report.by_units),
        usual_msat: report.usual_msat,
        minimum_sample_msat: policy.minimum_sample_msat,
        worth_at_hard_cap_percent: policy.price_at_hard_cap_percent,
        entity_caps: caps(policy.entity),
        group_caps: caps(policy.group),
        entities: report.entities.iter().map(|row| share(row, row.who.0)).collect(),
        groups: report.groups.iter().map(|row| share(row, row.who)).collect(),
        transit_is_not_counted: true,
    }
}

fn spread(measures: &Measures) -> SpreadReply {
    SpreadReply {
        entities: measures.entities,
        top1_ppm: measures.top1_ppm,
        top5_ppm: measures.top5_ppm,
        hhi_ppm: measures.hhi_ppm,
        nakamoto_33: measures.nakamoto_33,
        nakamoto_50: measures.nakamoto_50,
    }
}

fn caps(caps: Caps) -> CapsReply {
    CapsReply {
        soft_ppm: caps.soft_ppm,
        hard_ppm: caps.hard_ppm,
    }
}

fn share<K>(row: &Row<K>, name: impl ToString) -> ShareReply {
    ShareReply {
        name: name.to_string(),
        nodes: row.nodes,
        observed_ppm: row.share.observed_ppm,
        packets_ppm: row.by_units.observed_ppm,
        unavoidable_ppm: row.share.unavoidable_ppm,
        forced_ppm: row.share.forced_ppm,
        excess_ppm: row.share.excess_ppm(),
        surcharge_msat: row.surcharge_msat,
        left_out: row.excluded,
    }
}
