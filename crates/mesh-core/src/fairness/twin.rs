//! The slow, obvious twin of the kept sums: it adds up the weights of all nodes each time it is asked.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::durable::WeighedNode;
use super::entities::Entity;
use super::measures::ppm;
use super::policy::Caps;
use super::weights::{Amount, Left, STEP, Weights};
use super::*;

const SOFT: Caps = Caps {
    soft_ppm: 50_000,
    hard_ppm: 150_000,
};

const POLICY: FairnessPolicy = FairnessPolicy {
    entity: SOFT,
    group: Caps {
        soft_ppm: 100_000,
        hard_ppm: 200_000,
    },
    price_at_hard_cap_percent: 400,
    minimum_sample_msat: 10_000,
};

/// What can happen. Nodes are numbered from 0 to 23.
#[derive(Debug, Clone)]
enum Event {
    Tie(u8, u8),
    Place(u8, u8),
    Forget(u8),
    Carry {
        earned: Vec<(u8, u64)>,
        units: u64,
        ways: Vec<BTreeSet<u8>>,
    },
    Later(u64),
    Back(u64),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let node = 0u8..24;
    let ways = prop::collection::vec(prop::collection::btree_set(node.clone(), 0..4), 0..5);
    let earned = prop::collection::vec((node.clone(), 0u64..1_000_000), 1..4);
    prop_oneof![
        4 => (node.clone(), 0u8..10).prop_map(|(node, tie)| Event::Tie(node, tie)),
        3 => (node.clone(), 0u8..5).prop_map(|(node, network)| Event::Place(node, network)),
        3 => node.prop_map(Event::Forget),
        8 => (earned, 0u64..500_000, ways).prop_map(|(earned, units, ways)| Event::Carry { earned, units, ways }),
        2 => (0u64..200).prop_map(Event::Later),
        1 => (1_000u64..4_000).prop_map(Event::Later),
        1 => (0u64..300).prop_map(Event::Back),
        1 => Just(Event::Restart),
    ]
}

fn id(byte: u8) -> NodeId {
    NodeId([byte; 32])
}

fn ids(bytes: &BTreeSet<u8>) -> Vec<NodeId> {
    bytes.iter().copied().map(id).collect()
}

/// The weights alone, kept by node and added to as the definition says.
#[derive(Default)]
struct Twin {
    paid: Weights,
    unavoidable: Weights,
    forced: Weights,
}

impl Twin {
    fn carry(&mut self, carried: &Carried<'_>, entities: &Entities, now: UnixMillis) {
        for weights in [&mut self.paid, &mut self.unavoidable, &mut self.forced] {
            weights.advance(now);
        }
        for (router, msat) in carried.earned {
            self.paid.add(*router, *msat, carried.units, now);
        }
        let (fees, units) = Parts::of(carried, entities);
        for (weights, fees, units) in [
            (&mut self.unavoidable, fees.unavoidable, units.unavoidable),
            (&mut self.forced, fees.forced, units.forced),
        ] {
            for (router, fees) in fees {
                weights.add_weight(router, (fees, 0), now);
            }
            for (router, units) in units {
                weights.add_weight(router, (0, units), now);
            }
        }
    }

    fn restore(&mut self, weighed: &WeighedNode, now: UnixMillis) {
        self.paid.restore(weighed.node, weighed.paid, now);
        self.unavoidable.restore(weighed.node, weighed.unavoidable, now);
        self.forced.restore(weighed.node, weighed.forced, now);
    }

    fn shares(&self, fairness: &Fairness, now: UnixMillis) -> Shares {
        let entity = |node: &NodeId| Some(fairness.entity_of(node));
        let group = |node: &NodeId| fairness.group_of(node);
        let fees = |left: Left, sum: Amount| left.fees(sum);
        let units = |left: Left, sum: Amount| left.units(sum);
        let now_left = self.paid.left(now);
        let all = sums(&self.paid, |_| Some(()));
        let total = all.get(&()).copied().unwrap_or_default();
        let by_entity = sums(&self.paid, entity);
        let earned = u128::from(now_left.fees(total)) * u128::from(COMPARISON_UNITS);
        let carried = u128::from(now_left.units(total));
        let fees_sample = u128::from(now_left.fees(total)).max(Weights::in_scale(POLICY.minimum_sample_msat));
        let units_sample = carried.max(Weights::in_scale(MINIMUM_SAMPLE_UNITS));
        Shares {
            entities: self.shares_of(entity, fees, fees_sample, now),
            groups: self.shares_of(group, fees, fees_sample, now),
            entities_by_units: self.shares_of(entity, units, units_sample, now),
            groups_by_units: self.shares_of(group, units, units_sample, now),
            by_fees: Measures::of(by_entity.values().map(|sum| now_left.fees(*sum))),
            by_units: Measures::of(by_entity.values().map(|sum| now_left.units(*sum))),
            usual_msat: earned.checked_div(carried).unwrap_or(0) as u64,
        }
    }

    fn shares_of<K: Ord + Copy>(
        &self,
        key: impl Fn(&NodeId) -> Option<K>,
        left: impl Fn(Left, Amount) -> u64,
        sample: u128,
        now: UnixMillis,
    ) -> BTreeMap<K, Share> {
        let kinds = [&self.paid, &self.unavoidable, &self.forced];
        let [paid, unavoidable, forced] = kinds.map(|weights| {
            let sums = sums(weights, &key).into_iter();
            sums.map(|(key, sum)| (key, left(weights.left(now), sum)))
                .collect::<BTreeMap<_, _>>()
        });
        let share = |key: &K| {
            let of = |sums: &BTreeMap<K, u64>| ppm(u128::from(sums.get(key).copied().unwrap_or(0)), sample);
            Share {
                observed_ppm: of(&paid),
                unavoidable_ppm: of(&unavoidable),
                forced_ppm: of(&forced),
            }
        };
        let earners = paid.iter().filter(|(_, weight)| **weight > 0);
        earners.map(|(key, _)| (*key, share(key))).collect()
    }
}

fn sums<K: Ord>(weights: &Weights, key: impl Fn(&NodeId) -> Option<K>) -> BTreeMap<K, Amount> {
    let mut sums: BTreeMap<K, Amount> = BTreeMap::new();
    for (node, amount) in weights.amounts() {
        if let Some(key) = key(&node) {
            *sums.entry(key).or_default() += amount;
        }
    }
    sums
}

/// What follows from shares, entity by entity and group by group.
fn surcharges(fairness: &Fairness, shares: &Shares) -> Surcharges {
    let mut found = Surcharges::default();
    let mut charge = |caps: &Caps, share: Share, nodes: Vec<NodeId>| {
        let price = POLICY.price_msat(caps, share, shares.usual_msat);
        for node in nodes {
            if price > 0 || caps.excludes(share) {
                let dearest = found.by_node.entry(node).or_default();
                *dearest = price.max(*dearest);
            }
            if caps.excludes(share) {
                found.excluded.insert(node);
            }
        }
    };
    for (Entity(name), share) in shares.entities.iter().chain(&shares.entities_by_units) {
        charge(&POLICY.entity, *share, fairness.entities.members(name));
    }
    for (group, share) in shares.groups.iter().chain(&shares.groups_by_units) {
        let members = fairness.members.get(group).into_iter().flatten();
        charge(&POLICY.group, *share, members.copied().collect());
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happened in whatever order, kept sums say what adding everything up says, to the last bit.
    #[test]
    fn kept_sums_are_what_counting_anew_gives(events in prop::collection::vec(event(), 1..80)) {
        let mut fairness = Fairness::new(POLICY, None);
        let mut twin = Twin::default();
        let mut disk: BTreeMap<NodeId, WeighedNode> = BTreeMap::new();
        let mut now = UnixMillis(1_800_000_000_000);
        for event in events {
            match event {
                Event::Tie(node, tie) => {
                    fairness.tie(id(node), Tie::Operator(id(100 + tie)));
                }
                Event::Place(node, network) => {
                    fairness.place(id(node), IpAddr::from([9, network, node, 1]));
                }
                Event::Forget(node) => fairness.forget(&id(node)),
                Event::Carry { earned, units, ways } => {
                    let earned: Vec<_> = earned.iter().map(|(node, msat)| (id(*node), *msat)).collect();
                    let ways: Vec<_> = ways.iter().map(ids).collect();
                    let carried = Carried { earned: &earned, units, ways: &ways };
                    fairness.note_carried(&carried, now);
                    twin.carry(&carried, fairness.entities(), now);
                }
                Event::Later(steps) => now.0 += steps * STEP.as_millis() as u64,
                Event::Back(steps) => now.0 -= steps * STEP.as_millis() as u64,
                Event::Restart => {
                    let changed = fairness.take_unwritten(usize::MAX).into_iter();
                    disk.extend(changed.map(|weighed| (weighed.node, weighed)));
                    (fairness, twin) = (Fairness::new(POLICY, None), Twin::default());
                    for weighed in disk.values() {
                        fairness.restore(*weighed, now);
                        twin.restore(weighed, now);
                    }
                }
            }
            let shares = fairness.shares(now);
            prop_assert_eq!(&shares, &twin.shares(&fairness, now));
            prop_assert_eq!(fairness.surcharges(now), surcharges(&fairness, &shares));
        }
    }
}
