//! How much of one purchase could not have gone another way.

use std::collections::{BTreeMap, BTreeSet};

use super::Carried;
use super::entities::{Entities, Entity};
use super::weights::Weights;
use crate::identity::NodeId;

/// What is nobody's fault of one purchase, by router, in the scale of [`Weights::in_scale`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// What would be his if all ways were used alike; and never less than a k-th of what his entity has, where there are k
    /// ways and it is on one: else one of two providers would be left out because the other's way is longer.
    pub(super) unavoidable: BTreeMap<NodeId, u128>,
    /// What those have whose entity is on every way.
    pub(super) forced: BTreeMap<NodeId, u128>,
}

impl Parts {
    /// Of the fees, and of the units, which every router carried all of.
    pub(super) fn of(carried: &Carried<'_>, entities: &Entities) -> (Self, Self) {
        let ways = Ways::new(carried.ways, entities);
        let earned = carried.earned.iter();
        let fees: Vec<_> = earned
            .clone()
            .map(|(router, msat)| (*router, Weights::in_scale(*msat)))
            .collect();
        let units: Vec<_> = earned
            .map(|(router, _)| (*router, Weights::in_scale(carried.units)))
            .collect();
        (Self::of_each(&fees, &ways), Self::of_each(&units, &ways))
    }

    fn of_each(earned: &[(NodeId, u128)], ways: &Ways<'_>) -> Self {
        let mut parts = Self::default();
        let of_entity = parts.equal_parts(earned.iter().map(|(_, number)| number).sum(), ways);
        for (entity, (router, earned)) in ways.by_entity(earned) {
            let on = ways.with(&entity);
            if on == 0 {
                continue;
            }
            let unavoidable = if on == ways.count() {
                parts.forced.insert(router, earned);
                earned
            } else {
                let has = of_entity.get(&entity).copied().unwrap_or(0);
                (earned * on).div_ceil(ways.count()).saturating_sub(has)
            };
            *parts.unavoidable.entry(router).or_default() += unavoidable;
        }
        parts
    }

    /// Each way has an equal part of all, and each router on it that can be avoided an equal part of that. What each entity
    /// has of it.
    fn equal_parts(&mut self, all: u128, ways: &Ways<'_>) -> BTreeMap<Entity, u128> {
        let mut of_entity = BTreeMap::new();
        for way in &ways.ways {
            let part = all / (ways.count() * way.len() as u128).max(1);
            for (router, entity) in way.iter().filter(|(_, entity)| ways.with(entity) < ways.count()) {
                *self.unavoidable.entry(*router).or_default() += part;
                *of_entity.entry(*entity).or_default() += part;
            }
        }
        of_entity
    }
}

/// The ways of a purchase, and whose routers are on each.
struct Ways<'w> {
    ways: Vec<Vec<(NodeId, Entity)>>,
    entities: &'w Entities,
    on: BTreeMap<Entity, u128>,
}

impl<'w> Ways<'w> {
    fn new(ways: &[Vec<NodeId>], entities: &'w Entities) -> Self {
        let whose = |router: &NodeId| (*router, entities.entity_of(router));
        let ways: Vec<Vec<_>> = ways.iter().map(|way| way.iter().map(whose).collect()).collect();
        let mut on = BTreeMap::new();
        for way in &ways {
            let entities: BTreeSet<Entity> = way.iter().map(|(_, entity)| *entity).collect();
            for entity in entities {
                *on.entry(entity).or_default() += 1;
            }
        }
        Self { ways, entities, on }
    }

    fn count(&self) -> u128 {
        self.ways.len() as u128
    }

    /// How many ways an entity is on.
    fn with(&self, entity: &Entity) -> u128 {
        self.on.get(entity).copied().unwrap_or(0)
    }

    /// What each entity earned, and one of its routers that did.
    fn by_entity(&self, earned: &[(NodeId, u128)]) -> BTreeMap<Entity, (NodeId, u128)> {
        let mut sums = BTreeMap::new();
        for (router, number) in earned {
            let sum = sums
                .entry(self.entities.entity_of(router))
                .or_insert((*router, 0u128));
            sum.1 += number;
        }
        sums
    }
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
        Parts::of(&carried, entities).0
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
