//! Shares as a person or another program is told them: largest first, each with what follows from it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::time::UnixMillis;

use super::entities::Entity;
use super::groups::NetworkGroup;
use super::measures::Measures;
use super::policy::{Caps, FairnessPolicy};
use super::{Fairness, Share};

/// All shares at a moment, and what they are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The operator's caps.
    pub policy: FairnessPolicy,
    /// How concentrated fees are, by entity.
    pub by_fees: Measures,
    /// How concentrated units are, by entity.
    pub by_units: Measures,
    /// What a router was usually paid for [`COMPARISON_UNITS`](crate::routing::COMPARISON_UNITS), in msat.
    pub usual_msat: u64,
    /// Shares of entities, the largest first.
    pub entities: Vec<Row<Entity>>,
    /// Shares of network groups, the largest first.
    pub groups: Vec<Row<NetworkGroup>>,
}

/// Somebody's share, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<K> {
    /// Whose.
    pub who: K,
    /// How many nodes of it are known, at least 1.
    pub nodes: usize,
    /// How large, of fees.
    pub share: Share,
    /// How large, of units: who charges less than others carries more than he earns.
    pub by_units: Share,
    /// What routes over it are counted dearer by for either, in msat for
    /// [`COMPARISON_UNITS`](crate::routing::COMPARISON_UNITS).
    pub surcharge_msat: u64,
    /// Whether it is left out where there is an alternative, for either.
    pub excluded: bool,
}

impl Fairness {
    /// All shares as of now. Sums everything up: for a person's question, not for every packet.
    pub fn report(&self, now: UnixMillis) -> Report {
        let shares = self.shares(now);
        let judged = |caps| Judged {
            policy: self.policy,
            caps,
            usual_msat: shares.usual_msat,
        };
        let entity_nodes = |entity: &Entity| self.entities.members(&entity.0).len();
        let group_nodes = |group: &NetworkGroup| self.members.get(group).map_or(0, |members| members.len());
        Report {
            policy: self.policy,
            by_fees: shares.by_fees,
            by_units: shares.by_units,
            usual_msat: shares.usual_msat,
            entities: judged(self.policy.entity).rows(
                &shares.entities,
                &shares.entities_by_units,
                entity_nodes,
            ),
            groups: judged(self.policy.group).rows(&shares.groups, &shares.groups_by_units, group_nodes),
        }
    }
}

/// What shares are judged by.
struct Judged {
    policy: FairnessPolicy,
    caps: Caps,
    usual_msat: u64,
}

impl Judged {
    fn rows<K: Copy + Ord>(
        &self,
        fees: &BTreeMap<K, Share>,
        units: &BTreeMap<K, Share>,
        nodes: impl Fn(&K) -> usize,
    ) -> Vec<Row<K>> {
        let all: BTreeSet<&K> = fees.keys().chain(units.keys()).collect();
        let row = |who: &K| {
            let share = fees.get(who).copied().unwrap_or_default();
            let by_units = units.get(who).copied().unwrap_or_default();
            let price = |share| self.policy.price_msat(&self.caps, share, self.usual_msat);
            Row {
                who: *who,
                // Who earned and left is still one.
                nodes: nodes(who).max(1),
                share,
                by_units,
                surcharge_msat: price(share).max(price(by_units)),
                excluded: self.caps.excludes(share) || self.caps.excludes(by_units),
            }
        };
        let mut rows: Vec<Row<K>> = all.into_iter().map(row).collect();
        rows.sort_by_key(|row| {
            (
                Reverse((row.share.observed_ppm, row.by_units.observed_ppm)),
                row.who,
            )
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::Carried;
    use super::super::entities::Tie;
    use super::*;
    use crate::identity::NodeId;

    fn node(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    #[test]
    fn report_is_of_entities_largest_first_with_what_follows_from_each_share() {
        let mut fairness = Fairness::new(FairnessPolicy::default(), None);
        for member in [1, 2] {
            fairness.tie(node(member), Tie::Operator(node(90)));
            fairness.place(node(member), [203, 0, 113, member].into());
        }
        let now = UnixMillis(1_000_000_000);
        let mut carry = |router: u8, msat: u64| {
            let carried = Carried {
                earned: &[(node(router), msat)],
                units: msat / 10,
                // Ten ways: a tenth is unavoidable, nothing is forced.
                ways: &(10..20).map(|way| vec![node(way)]).collect::<Vec<_>>(),
            };
            fairness.note_carried(&carried, now);
        };
        carry(1, 3_000_000);
        carry(2, 4_000_000);
        carry(3, 2_900_000);
        carry(4, 100_000);
        let report = fairness.report(now);
        let told: Vec<_> = report
            .entities
            .iter()
            .map(|row| (row.who.0, row.nodes, row.share.observed_ppm, row.excluded))
            .collect();
        assert_eq!(
            told,
            [
                (node(1), 2, 700_000, true),
                (node(3), 1, 290_000, false),
                (node(4), 1, 10_000, false)
            ]
        );
        assert_eq!(report.usual_msat, 100_000);
        for row in &report.entities {
            let policy = FairnessPolicy::default();
            let price = |share| policy.price_msat(&policy.entity, share, 100_000);
            assert_eq!(row.surcharge_msat, price(row.share).max(price(row.by_units)));
        }
        assert!(report.entities[0].surcharge_msat > report.entities[1].surcharge_msat);
        let groups: Vec<_> = report
            .groups
            .iter()
            .map(|row| (row.who.to_string(), row.nodes))
            .collect();
        assert_eq!(groups, [("203.0.0.0/16".to_owned(), 2)]);
        assert_eq!(report.by_fees.top1_ppm, 700_000);
    }

    #[test]
    fn who_charges_nothing_and_carries_everything_is_told_and_judged_by_what_he_carries() {
        let mut fairness = Fairness::new(FairnessPolicy::default(), None);
        let now = UnixMillis(1_000_000_000);
        for (router, msat) in [(1, 0), (2, 2_000_000)] {
            let carried = Carried {
                earned: &[(node(router), msat)],
                units: if msat == 0 { 900_000 } else { 100_000 },
                ways: &(10..20).map(|way| vec![node(way)]).collect::<Vec<_>>(),
            };
            fairness.note_carried(&carried, now);
        }
        let report = fairness.report(now);
        let free = report.entities.iter().find(|row| row.who.0 == node(1)).unwrap();
        assert_eq!(
            (free.share.observed_ppm, free.by_units.observed_ppm),
            (0, 900_000)
        );
        assert!(free.excluded && free.surcharge_msat > 0);
    }
}
