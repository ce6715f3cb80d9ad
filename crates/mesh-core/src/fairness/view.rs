//! Shares at one moment, and what follows from them.

use std::collections::BTreeMap;

use super::entities::Entity;
use super::measures::{Measures, PPM, ppm};
use super::policy::Caps;
use super::tally::Whole;
use super::weights::{Amount, Left, Weights};
use super::{Fairness, MINIMUM_SAMPLE_UNITS, Share, Shares, Surcharges};
use crate::identity::NodeId;
use crate::routing::COMPARISON_UNITS;
use crate::time::UnixMillis;

/// All that was earned, as it counts at one moment.
struct View<'f> {
    fairness: &'f Fairness,
    paid: Left,
    unavoidable: Left,
    forced: Left,
    /// What shares are parts of, in 1/1024 msat, and in 1/1024 units.
    fees_sample: u128,
    units_sample: u128,
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
        let mut shares = Shares {
            usual_msat: view.usual_msat,
            ..Shares::default()
        };
        let (mut fees, mut units) = (Vec::new(), Vec::new());
        for (entity, whole, amount) in self.paid_entities(Amount::default()) {
            fees.push(view.paid.fees(amount));
            units.push(view.paid.units(amount));
            view.put(
                entity,
                whole,
                amount,
                (&mut shares.entities, &mut shares.entities_by_units),
            );
        }
        for (group, amount) in self.paid.groups() {
            let both = (&mut shares.groups, &mut shares.groups_by_units);
            view.put(group, Whole::Group(group), amount, both);
        }
        shares.by_fees = Measures::of(fees);
        shares.by_units = Measures::of(units);
        shares
    }

    /// What follows from shares: nodes of an entity or group above its soft cap cost, above its hard cap they are left out.
    /// Who is in both, or in one for two reasons, costs the dearer. Shares of fees and of units count alike: by fees alone,
    /// whoever charges nothing could carry everything.
    ///
    /// Passes over all entities and groups, and looks closely only at those with enough for anything to follow.
    pub fn surcharges(&self, now: UnixMillis) -> Surcharges {
        let view = View::new(self, now);
        let mut surcharges = Surcharges::default();
        let caps = &self.policy.entity;
        for (_, whole, _) in self.paid_entities(self.least_above(caps)) {
            view.charge(&mut surcharges, caps, &whole);
        }
        let caps = &self.policy.group;
        let least = self.least_above(caps);
        for (group, _) in self.paid.groups().filter(|(_, amount)| reaches(amount, &least)) {
            view.charge(&mut surcharges, caps, &Whole::Group(group));
        }
        surcharges
    }

    /// Entities whose fees, or units, are at least so much.
    fn paid_entities(&self, least: Amount) -> impl Iterator<Item = (Entity, Whole, Amount)> + '_ {
        let nodes = self.paid.weights().amounts();
        let alone = nodes
            .filter(move |(node, amount)| reaches(amount, &least) && self.entities.tree_of(node).is_none())
            .map(|(node, amount)| (Entity(node), Whole::Node(node), amount));
        let several = self
            .paid
            .trees()
            .filter(move |(_, amount)| reaches(amount, &least));
        alone.chain(several.map(|(tree, amount)| (self.entities.name_of(tree), Whole::Tree(tree), amount)))
    }

    /// From less than this nothing follows.
    fn least_above(&self, caps: &Caps) -> Amount {
        let total = self.paid.weights().total();
        let begin = |of: u128| of / u128::from(PPM) * u128::from(caps.begin_ppm());
        Amount {
            fees: begin(total.fees),
            units: begin(total.units),
        }
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
            fees_sample: u128::from(paid.fees(total))
                .max(Weights::in_scale(fairness.policy.minimum_sample_msat)),
            units_sample: u128::from(paid.units(total)).max(Weights::in_scale(MINIMUM_SAMPLE_UNITS)),
            usual_msat: usual_msat(paid.fees(total), paid.units(total)),
        }
    }

    fn by_fees(&self, whole: &Whole) -> Share {
        self.share(whole, Left::fees, self.fees_sample)
    }

    fn by_units(&self, whole: &Whole) -> Share {
        self.share(whole, Left::units, self.units_sample)
    }

    fn share(&self, whole: &Whole, left: impl Fn(Left, Amount) -> u64, sample: u128) -> Share {
        let Fairness {
            paid,
            unavoidable,
            forced,
            ..
        } = self.fairness;
        let of_sample = |weight: u64| ppm(u128::from(weight), sample);
        Share {
            observed_ppm: of_sample(left(self.paid, paid.of(whole))),
            unavoidable_ppm: of_sample(left(self.unavoidable, unavoidable.of(whole))),
            forced_ppm: of_sample(left(self.forced, forced.of(whole))),
        }
    }

    /// Notes the shares of one, of fees if it has earned any, and of units.
    fn put<K: Ord + Copy>(
        &self,
        key: K,
        whole: Whole,
        amount: Amount,
        (fees, units): (&mut BTreeMap<K, Share>, &mut BTreeMap<K, Share>),
    ) {
        if self.paid.fees(amount) > 0 {
            fees.insert(key, self.by_fees(&whole));
        }
        if self.paid.units(amount) > 0 {
            units.insert(key, self.by_units(&whole));
        }
    }

    fn charge(&self, surcharges: &mut Surcharges, caps: &Caps, whole: &Whole) {
        let shares = [self.by_fees(whole), self.by_units(whole)];
        let policy = &self.fairness.policy;
        let prices = shares.map(|share| policy.price_msat(caps, share, self.usual_msat));
        let price = prices.into_iter().max().unwrap_or(0);
        let excluded = shares.iter().any(|share| caps.excludes(*share));
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

/// Whether either is at least so much.
fn reaches(amount: &Amount, least: &Amount) -> bool {
    amount.fees >= least.fees || amount.units >= least.units
}

fn usual_msat(fees: u64, units: u64) -> u64 {
    let msat = u128::from(fees)
        .saturating_mul(u128::from(COMPARISON_UNITS))
        .checked_div(u128::from(units));
    u64::try_from(msat.unwrap_or(0)).unwrap_or(u64::MAX)
}
