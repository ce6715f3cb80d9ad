//! How much of one purchase could not have gone another way.

use std::collections::{BTreeMap, BTreeSet};

use super::Carried;
use super::entities::{Entities, Entity};
use super::weights::Weights;
use crate::identity::NodeId;

/// What is nobody's fault of one purchase, by router, in the scale of [`Weights::in_scale`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// What would be his if all ways were used alike; and never less than a k-th of what his entity was paid, where there
    /// are k ways and it is on one: else one of two providers would be left out because the other's way is longer.
    pub(super) unavoidable: BTreeMap<NodeId, u128>,
    /// What was paid to those whose entity is on every way.
    pub(super) forced: BTreeMap<NodeId, u128>,
}

impl Parts {
    pub(super) fn of(carried: &Carried<'_>, entities: &Entities) -> Self {
        let entity = |router: &NodeId| entities.entity_of(router);
        let ways: Vec<BTreeSet<Entity>> = carried
            .ways
            .iter()
            .map(|way| way.iter().map(entity).collect())
            .collect();
        let on_ways = |entity: &Entity| ways.iter().filter(|way| way.contains(entity)).count() as u128;
        let all_ways = ways.len() as u128;
        let mut parts = Self::default();
        parts.equal_parts(carried, |router| on_ways(&entity(router)) < all_ways);
        let paid = paid_by_entity(carried, entities);
        for (entity, (router, paid)) in paid {
            let on_ways = on_ways(&entity);
            if on_ways > 0 && on_ways == all_ways {
                *parts.forced.entry(router).or_default() += paid;
                *parts.unavoidable.entry(router).or_default() += paid;
            } else if on_ways > 0 {
                let has: u128 = parts
                    .unavoidable
                    .iter()
                    .filter(|(router, _)| entities.entity_of(router) == entity)
                    .map(|(_, fees)| fees)
                    .sum();
                let least = (paid * on_ways).div_ceil(all_ways);
                *parts.unavoidable.entry(router).or_default() += least.saturating_sub(has);
            }
        }
        parts
    }

    /// Each way has an equal part of what was paid, and each router on it that can be avoided an equal part of that.
    fn equal_parts(&mut self, carried: &Carried<'_>, can_be_avoided: impl Fn(&NodeId) -> bool) {
        let all: u128 = carried
            .earned
            .iter()
            .map(|(_, msat)| Weights::in_scale(*msat))
            .sum();
        let ways = carried.ways.len() as u128;
        for way in carried.ways {
            let part = all / (ways * way.len() as u128).max(1);
            for router in way.iter().filter(|router| can_be_avoided(router)) {
                *self.unavoidable.entry(*router).or_default() += part;
            }
        }
    }
}

/// What each entity was paid, and one of its routers that were.
fn paid_by_entity(carried: &Carried<'_>, entities: &Entities) -> BTreeMap<Entity, (NodeId, u128)> {
    let mut paid = BTreeMap::new();
    for (router, msat) in carried.earned {
        let sum = paid.entry(entities.entity_of(router)).or_insert((*router, 0u128));
        sum.1 += Weights::in_scale(*msat);
    }
    paid
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entities::Tie;
    use super::*;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    fn parts(earned: &[(u8, u64)], ways: &[&[u8]], entities: &Entities) -> Parts {
        let earned: Vec<_> = earned.iter().map(|(router, msat)| (id(*router), *msat)).collect();
        let ways: Vec<Vec<NodeId>> = ways
            .iter()
            .map(|way| way.iter().copied().map(id).collect())
            .collect();
        let carried = Carried {
            earned: &earned,
            units: 1,
            ways: &ways,
        };
        Parts::of(&carried, entities)
    }

    #[test]
    fn one_of_two_providers_has_half_of_what_it_was_paid_however_long_the_other_way_is() {
        let parts = parts(&[(1, 3), (9, 3)], &[&[2, 9], &[1, 8, 7]], &Entities::default());
        // A sixth of six msat would be his by way length; of the three that he was paid half is more.
        assert_eq!(parts.unavoidable[&id(1)], Weights::in_scale(3) / 2);
        assert_eq!(parts.forced, BTreeMap::new());
    }

    #[test]
    fn all_that_the_only_provider_was_paid_is_forced_however_long_the_ways_behind_it_are() {
        let parts = parts(&[(1, 5), (2, 5)], &[&[1, 2], &[1, 3, 4, 5]], &Entities::default());
        assert_eq!(parts.forced, BTreeMap::from([(id(1), Weights::in_scale(5))]));
        assert_eq!(parts.unavoidable[&id(1)], Weights::in_scale(5));
    }

    #[test]
    fn two_nodes_of_one_operator_that_are_on_all_ways_are_a_cut() {
        let mut entities = Entities::default();
        for node in [3, 4] {
            entities.tie(id(node), Tie::Operator(id(90)));
        }
        let parts = parts(&[(1, 5), (3, 5)], &[&[1, 3], &[2, 4]], &entities);
        assert_eq!(parts.forced, BTreeMap::from([(id(3), Weights::in_scale(5))]));
        assert!(!parts.unavoidable.contains_key(&id(4)));
    }

    proptest! {
        /// So an entity on one of two ways never has more than twice what is unavoidable, whatever the purchases.
        #[test]
        fn whoever_is_on_a_way_has_at_least_its_kth_of_what_he_was_paid(
            earned in prop::collection::vec((1u8..12, 0u64..=u64::MAX), 1..9),
            ways in prop::collection::vec(prop::collection::vec(1u8..12, 1..9), 1..16),
        ) {
            let ways: Vec<&[u8]> = ways.iter().map(Vec::as_slice).collect();
            let parts = parts(&earned, &ways, &Entities::default());
            for router in earned.iter().map(|(router, _)| *router) {
                let paid: u128 = earned
                    .iter()
                    .filter(|(other, _)| *other == router)
                    .map(|(_, msat)| Weights::in_scale(*msat))
                    .sum();
                let on_ways = ways.iter().filter(|way| way.contains(&router)).count() as u128;
                let unavoidable = parts.unavoidable.get(&id(router)).copied().unwrap_or(0);
                prop_assert!(unavoidable * ways.len() as u128 >= paid * on_ways);
                let forced = parts.forced.get(&id(router)).copied().unwrap_or(0);
                prop_assert_eq!(forced, if on_ways == ways.len() as u128 { paid } else { 0 });
            }
        }
    }
}
