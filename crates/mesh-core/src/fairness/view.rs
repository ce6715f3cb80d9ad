//! Shares at one moment, and what follows from them.

use std::collections::BTreeMap;

use super::entities::Entity;
use super::measures::{Measures, PPM, ppm};
use super::policy::Caps;
use super::tally::Whole;
use super::weights::{Amount, Left, Weights};
use super::{Fairness, Share, Shares, Surcharges};
use crate::identity::NodeId;
use crate::routing::COMPARISON_UNITS;
use crate::time::UnixMillis;

/// All that was earned, as it counts at one moment.
struct View<'f> {
    fairness: &'f Fairness,
    paid: Left,
    unavoidable: Left,
    forced: Left,
    /// What shares are parts of, in 1/1024 msat.
    sample: u128,
    /// What a router was usually paid for [`COMPARISON_UNITS`], in msat.
    usual_msat: u64,
}

impl Fairness {
    /// All shares: goes through all who earned anything, for a person's question.
    ///
    /// As long as less than [`FairnessPolicy::minimum_sample_msat`](super::policy::FairnessPolicy) was paid, what is missing
    /// counts as paid to nobody in particular: the first packets of a node must not make a monopolist of whoever carried
    /// them.
    pub fn shares(&self, now: UnixMillis) -> Shares {
        let view = View::new(self, now);
        let mut entities = BTreeMap::new();
        let (mut fees, mut units) = (Vec::new(), Vec::new());
        for (entity, whole, amount) in self.paid_entities(0) {
            fees.push(view.paid.fees(amount));
            units.push(view.paid.units(amount));
            if view.paid.fees(amount) > 0 {
                entities.insert(entity, view.share(&whole));
            }
        }
        let groups = self.paid.groups();
        let paid = groups.filter(|(_, amount)| view.paid.fees(*amount) > 0);
        Shares {
            groups: paid
                .map(|(group, _)| (group, view.share(&Whole::Group(group))))
                .collect(),
            by_fees: Measures::of(fees),
            by_units: Measures::of(units),
            entities,
            usual_msat: view.usual_msat,
        }
    }

    /// What follows from shares: nodes of an entity or group above its soft cap cost, above its hard cap they are left out.
    /// Who is in both, or in one for two reasons, costs the dearer.
    ///
    /// Looks closely only at those that have enough of what was paid to be above a cap: all of it takes some tens of
    /// microseconds with ten thousand entities.
    pub fn surcharges(&self, now: UnixMillis) -> Surcharges {
        let view = View::new(self, now);
        let mut surcharges = Surcharges::default();
        let caps = &self.policy.entity;
        for (_, whole, _) in self.paid_entities(self.least_above(caps)) {
            view.charge(&mut surcharges, caps, &whole);
        }
        let caps = &self.policy.group;
        let least = self.least_above(caps);
        for (group, _) in self.paid.groups().filter(|(_, amount)| amount.fees >= least) {
            view.charge(&mut surcharges, caps, &Whole::Group(group));
        }
        surcharges
    }

    /// Entities whose fees are at least so much.
    fn paid_entities(&self, least: u128) -> impl Iterator<Item = (Entity, Whole, Amount)> + '_ {
        let nodes = self.paid.weights().amounts();
        let alone = nodes
            .filter(move |(node, amount)| amount.fees >= least && self.entities.tree_of(node).is_none())
            .map(|(node, amount)| (Entity(node), Whole::Node(node), amount));
        let several = self.paid.trees().filter(move |(_, amount)| amount.fees >= least);
        alone.chain(several.map(|(tree, amount)| (self.entities.name_of(tree), Whole::Tree(tree), amount)))
    }

    /// Whoever was paid less has no share above the lower of two caps.
    fn least_above(&self, caps: &Caps) -> u128 {
        self.paid.weights().total().fees / u128::from(PPM) * u128::from(caps.soft_ppm.min(caps.hard_ppm))
    }

    /// The nodes of an entity or group that are part of the network.
    fn nodes_of(&self, whole: &Whole) -> Vec<NodeId> {
        match whole {
            Whole::Node(node) => vec![*node],
            Whole::Tree(tree) => self.entities.members_of(*tree),
            Whole::Group(group) => self.members.get(group).into_iter().flatten().copied().collect(),
        }
    }
}

impl<'f> View<'f> {
    fn new(fairness: &'f Fairness, now: UnixMillis) -> Self {
        let paid = fairness.paid.weights().left(now);
        let total = fairness.paid.weights().total();
        Self {
            fairness,
            paid,
            unavoidable: fairness.unavoidable.weights().left(now),
            forced: fairness.forced.weights().left(now),
            sample: u128::from(paid.fees(total)).max(Weights::in_scale(fairness.policy.minimum_sample_msat)),
            usual_msat: usual_msat(paid.fees(total), paid.units(total)),
        }
    }

    fn share(&self, whole: &Whole) -> Share {
        let Fairness {
            paid,
            unavoidable,
            forced,
            ..
        } = self.fairness;
        let of_sample = |fees: u64| ppm(u128::from(fees), self.sample);
        Share {
            observed_ppm: of_sample(self.paid.fees(paid.of(whole))),
            unavoidable_ppm: of_sample(self.unavoidable.fees(unavoidable.of(whole))),
            forced_ppm: of_sample(self.forced.fees(forced.of(whole))),
        }
    }

    fn charge(&self, surcharges: &mut Surcharges, caps: &Caps, whole: &Whole) {
        let share = self.share(whole);
        let price = self.fairness.policy.price_msat(caps, share, self.usual_msat);
        let excluded = caps.excludes(share);
        if price == 0 && !excluded {
            return;
        }
        for node in self.fairness.nodes_of(whole) {
            let dearest = surcharges.by_node.entry(node).or_default();
            *dearest = price.max(*dearest);
            if excluded {
                surcharges.excluded.insert(node);
            }
        }
    }
}

fn usual_msat(fees: u64, units: u64) -> u64 {
    let msat = u128::from(fees)
        .saturating_mul(u128::from(COMPARISON_UNITS))
        .checked_div(u128::from(units));
    u64::try_from(msat.unwrap_or(0)).unwrap_or(u64::MAX)
}
