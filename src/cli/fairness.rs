//! Shares, and the terms by which routes are compared, as a person reads them.

use comfy_table::Table;
use mesh_core::identity::NodeId;

use super::show::{Ids, grouped, table};
use crate::admin::{CapsReply, ExplainReply, ShareReply, SharesReply, SpreadReply, Text};
use crate::config::shown_percent;

/// Most rows of a table; `--json` shows all.
const SHOWN_ROWS: usize = 20;

/// Every way, one to a row, best first.
pub(crate) fn explained(reply: &ExplainReply, ids: Ids) -> String {
    if reply.candidates.is_empty() {
        return "no way known; find some with `blvm-mesh discover`".into();
    }
    let mut table = table(
        &[
            "",
            "way",
            "known by",
            "fee",
            "failures",
            "latency",
            "concentration",
            "in use",
            "score",
            "remarks",
        ],
        &[3, 4, 5, 6, 7, 8],
    );
    for candidate in &reply.candidates {
        let in_use = match candidate.hysteresis_msat {
            0 => "0".to_owned(),
            msat => format!("-{}", grouped(msat)),
        };
        let mut remarks = Vec::new();
        if candidate.excluded {
            remarks.push("over a hard cap");
        }
        if candidate.diversity != "strict" {
            remarks.push(&candidate.diversity);
        }
        table.add_row([
            if candidate.chosen { "→" } else { "" }.to_owned(),
            ids.path(&candidate.path),
            if candidate.quoted {
                "quotes"
            } else {
                "announcements"
            }
            .to_owned(),
            grouped(candidate.fee_msat),
            grouped(candidate.failures_msat),
            grouped(candidate.latency_msat),
            grouped(candidate.concentration_msat),
            in_use,
            grouped(candidate.score_msat),
            remarks.join("; "),
        ]);
    }
    format!(
        "{table}\nmsat for 10 000 units; the lowest score wins, ways with remarks come last; → is what the next session takes"
    )
}

/// How fees were spread, who has how much, and what follows.
pub(crate) fn shares(reply: &SharesReply, ids: Ids) -> String {
    if reply.entities.is_empty() {
        return "nothing was paid to routers in the last day; shares are of what this node paid and holds receipts for".into();
    }
    let entity = |share: &ShareReply| match share.name.parse::<NodeId>() {
        Ok(id) => ids.show(&Text(id)),
        Err(_) => share.name.clone(),
    };
    let mut told = format!(
        "{}\n\n{}",
        spreads(&reply.by_fees, &reply.by_packets),
        rows("entity", &reply.entities, reply.entity_caps, entity)
    );
    if !reply.groups.is_empty() {
        let group = |share: &ShareReply| share.name.clone();
        told += &format!("\n\n{}", rows("network", &reply.groups, reply.group_caps, group));
    }
    told + "\n\nof what this node paid in the last day and holds receipts for; what it carries for others is not counted and not acted upon"
}

fn percent(ppm: u32) -> String {
    format!("{} %", shown_percent(ppm))
}

fn spreads(fees: &SpreadReply, packets: &SpreadReply) -> Table {
    let mut table = table(
        &[
            "",
            "entities",
            "largest",
            "five largest",
            "HHI",
            "Nakamoto 1/3",
            "Nakamoto 1/2",
        ],
        &[1, 2, 3, 4, 5, 6],
    );
    for (name, spread) in [("by fees", fees), ("by packets", packets)] {
        table.add_row([
            name.to_owned(),
            spread.entities.to_string(),
            percent(spread.top1_ppm),
            percent(spread.top5_ppm),
            format!("{:.4}", f64::from(spread.hhi_ppm) / 1e6),
            spread.nakamoto_33.to_string(),
            spread.nakamoto_50.to_string(),
        ]);
    }
    table
}

fn rows(kind: &str, shares: &[ShareReply], caps: CapsReply, name: impl Fn(&ShareReply) -> String) -> String {
    let mut table = table(
        &[
            kind,
            "nodes",
            "of fees",
            "of packets",
            "unavoidable",
            "of it forced",
            "excess",
            "soft cap",
            "hard cap",
            "dearer by (msat)",
            "",
        ],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9],
    );
    for share in shares.iter().take(SHOWN_ROWS) {
        table.add_row([
            name(share),
            share.nodes.to_string(),
            percent(share.observed_ppm),
            percent(share.packets_ppm),
            percent(share.unavoidable_ppm),
            percent(share.forced_ppm),
            percent(share.excess_ppm),
            percent(caps.soft_ppm),
            percent(caps.hard_ppm),
            grouped(share.surcharge_msat),
            if share.left_out { "left out" } else { "" }.to_owned(),
        ]);
    }
    match shares.len().saturating_sub(SHOWN_ROWS) {
        0 => table.to_string(),
        more => format!("{table}\n{more} more with --json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::CandidateReply;

    fn id(byte: u8) -> Text<NodeId> {
        Text(NodeId([byte; 32]))
    }

    fn spread() -> SpreadReply {
        SpreadReply {
            entities: 3,
            top1_ppm: 450_000,
            top5_ppm: 1_000_000,
            hhi_ppm: 345_600,
            nakamoto_33: 1,
            nakamoto_50: 2,
        }
    }

    fn share(name: String) -> ShareReply {
        ShareReply {
            name,
            nodes: 2,
            observed_ppm: 450_000,
            packets_ppm: 470_000,
            unavoidable_ppm: 100_000,
            forced_ppm: 50_000,
            excess_ppm: 350_000,
            surcharge_msat: 1_234_567,
            left_out: true,
        }
    }

    fn reply(entities: usize) -> SharesReply {
        SharesReply {
            by_fees: spread(),
            by_packets: spread(),
            usual_msat: 1,
            minimum_sample_msat: 2,
            worth_at_hard_cap_percent: 3,
            entity_caps: CapsReply {
                soft_ppm: 100_000,
                hard_ppm: 300_000,
            },
            group_caps: CapsReply {
                soft_ppm: 250_000,
                hard_ppm: 500_000,
            },
            entities: vec![share("ab".repeat(32)); entities],
            groups: vec![share("AS64500".into())],
            transit_is_not_counted: true,
        }
    }

    #[test]
    fn shares_are_shown_with_caps_and_what_follows() {
        let shown = shares(&reply(1), Ids::new(false));
        for part in [
            "abababab",
            "45 %",
            "10 %",
            "5 %",
            "35 %",
            "47 %",
            "30 %",
            "1 234 567",
            "left out",
            "AS64500",
            "50 %",
            "0.3456",
            "not acted upon",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(shares(&reply(0), Ids::new(false)).starts_with("nothing was paid"));
        let long = shares(&reply(30), Ids::new(true));
        assert!(long.contains("10 more with --json") && long.contains(&"ab".repeat(32)));
    }

    #[test]
    fn every_term_of_every_way_is_shown() {
        let way = |chosen, excluded, diversity: &str| CandidateReply {
            path: vec![id(1), id(2), id(3)],
            quoted: chosen,
            fee_msat: 10_001,
            failures_msat: 10_002,
            latency_msat: 10_003,
            concentration_msat: 10_004,
            hysteresis_msat: 10_005,
            score_msat: 10_006,
            excluded,
            diversity: diversity.into(),
            chosen,
        };
        let reply = ExplainReply {
            candidates: vec![way(true, false, "strict"), way(false, true, "relaxed: why")],
        };
        let shown = explained(&reply, Ids::new(false));
        for part in [
            "→",
            "01010101 → 02020202 → 03030303",
            "10 001",
            "10 002",
            "10 003",
            "10 004",
            "-10 005",
            "10 006",
            "quotes",
            "announcements",
            "over a hard cap; relaxed: why",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let none = ExplainReply { candidates: vec![] };
        assert!(explained(&none, Ids::new(false)).contains("discover"));
    }
}
