//! Who carries what the node pays for.

use mesh_api::limits::MAX_LISTED_SHARES;
use mesh_api::{
    Concentration, EntityShare, GetConcentrationRequest, GetConcentrationResponse, GroupShare, Share,
    ShareCaps, Spread,
};
use mesh_core::event::{Answer, Command};
use mesh_core::fairness::groups::NetworkGroup;
use mesh_core::fairness::measures::Measures;
use mesh_core::fairness::policy::Caps;
use mesh_core::fairness::report::{Report, Row};

use super::MeshModuleApi;
use crate::handle::CommandError;

impl MeshModuleApi {
    pub(super) async fn concentration(
        &self,
        request: &GetConcentrationRequest,
    ) -> Result<GetConcentrationResponse, CommandError> {
        let most = (request.max_shares as usize).clamp(1, MAX_LISTED_SHARES);
        let report = self.shares().await?;
        Ok(GetConcentrationResponse {
            by_fees: spread(&report.by_fees),
            by_packets: spread(&report.by_units),
            usual_msat: report.usual_msat,
            minimum_sample_msat: report.policy.minimum_sample_msat,
            worth_at_hard_cap_percent: report.policy.price_at_hard_cap_percent,
            entity_caps: share_caps(report.policy.entity),
            group_caps: share_caps(report.policy.group),
            entities: report
                .entities
                .iter()
                .take(most)
                .map(|row| EntityShare {
                    entity: row.who.0.0,
                    nodes: nodes(row),
                    share: share(row),
                })
                .collect(),
            groups: report
                .groups
                .iter()
                .take(most)
                .map(|row| GroupShare {
                    group: group(row.who),
                    nodes: nodes(row),
                    share: share(row),
                })
                .collect(),
        })
    }

    /// All shares, and what they are judged by.
    pub(crate) async fn shares(&self) -> Result<Report, CommandError> {
        match self.node.command(Command::Shares).await? {
            Answer::Shares(report) => Ok(*report),
            _ => Err(CommandError::Unexpected),
        }
    }
}

/// The part of it that the network's state has had room for from the beginning.
pub(super) fn in_short(report: &Report) -> Concentration {
    let fees = &report.by_fees;
    Concentration {
        entities: fees.entities,
        top1_ppm: fees.top1_ppm,
        top5_ppm: fees.top5_ppm,
        hhi_ppm: fees.hhi_ppm,
        nakamoto: fees.nakamoto_50,
    }
}

fn spread(measures: &Measures) -> Spread {
    Spread {
        entities: measures.entities,
        top1_ppm: measures.top1_ppm,
        top5_ppm: measures.top5_ppm,
        hhi_ppm: measures.hhi_ppm,
        nakamoto_33: measures.nakamoto_33,
        nakamoto_50: measures.nakamoto_50,
    }
}

fn share_caps(caps: Caps) -> ShareCaps {
    ShareCaps {
        soft_ppm: caps.soft_ppm,
        hard_ppm: caps.hard_ppm,
    }
}

fn share<K>(row: &Row<K>) -> Share {
    Share {
        observed_ppm: row.share.observed_ppm,
        packets_ppm: row.by_units.observed_ppm,
        unavoidable_ppm: row.share.unavoidable_ppm,
        forced_ppm: row.share.forced_ppm,
        excess_ppm: row.share.excess_ppm(),
        surcharge_msat: row.surcharge_msat,
        left_out: row.excluded,
    }
}

fn nodes<K>(row: &Row<K>) -> u32 {
    u32::try_from(row.nodes).unwrap_or(u32::MAX)
}

fn group(group: NetworkGroup) -> mesh_api::NetworkGroup {
    match group {
        NetworkGroup::Asn(asn) => mesh_api::NetworkGroup::Asn(asn),
        NetworkGroup::V4(bytes) => mesh_api::NetworkGroup::V4(bytes),
        NetworkGroup::V6(bytes) => mesh_api::NetworkGroup::V6(bytes),
    }
}
