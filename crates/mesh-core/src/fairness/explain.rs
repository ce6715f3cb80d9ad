//! Why this way and not another: everything that a path is compared by, term by term.
//!
//! All terms are what one would pay, in msat for [`COMPARISON_UNITS`](crate::routing::COMPARISON_UNITS), so that they add
//! up. Routes are chosen by this very reckoning; there is no second one for show.

use std::collections::BTreeMap;

use crate::identity::NodeId;

use super::Fairness;
use super::entities::Entity;
use super::groups::NetworkGroup;

/// One path to a destination, and what it is compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// All nodes, source first, destination last.
    pub path: Vec<NodeId>,
    /// Everybody on it signed a price, so that quotes can be asked for; else it is known from announcements only.
    pub quoted: bool,
    /// What the payees would be paid for the units compared.
    pub fee_msat: u64,
    /// What avoiding its routers is worth for having fallen silent before; every receipt over them halves it.
    pub failures_msat: u64,
    /// What its round trip is worth.
    pub latency_msat: u64,
    /// What avoiding its routers is worth for the share that they have already.
    pub concentration_msat: u64,
    /// Taken off, because it is the route in use: another must be better by as much.
    pub hysteresis_msat: u64,
    /// What is compared; the lowest wins.
    pub score_msat: u64,
    /// Somebody on it is above a hard cap: it comes after all that are not over such.
    pub excluded: bool,
    /// Whether its routers are independent of one another: it comes after all whose are.
    pub diversity: Diversity,
    /// The one that the next session would take, if it is confirmed, or asks for first.
    pub chosen: bool,
}

impl Candidate {
    /// The smaller, the better.
    pub fn rank(&self) -> (bool, bool, u64) {
        (
            self.excluded,
            self.diversity != Diversity::Strict,
            self.score_msat,
        )
    }

    /// Whether it is over somebody above a hard cap, or somebody who serves twice: whatever it costs, another is better.
    pub fn is_flawed(&self) -> bool {
        self.excluded || self.diversity != Diversity::Strict
    }

    /// Whether it is without the flaw that `other` has.
    pub fn mends(&self, other: &Self) -> bool {
        other.is_flawed() && !self.is_flawed()
    }
}

/// Whether the routers of a path are independent of one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Diversity {
    /// No entity and no network group serves twice, as far as is known. So is it with a single router.
    #[default]
    Strict,
    /// Somebody serves twice: who sees the packets at both places knows more of them than each place tells.
    Relaxed(Twice),
}

/// Who serves twice on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twice {
    /// One entity.
    Entity(Entity),
    /// One network group.
    Group(NetworkGroup),
}

impl std::fmt::Display for Diversity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Strict => f.write_str("strict"),
            Self::Relaxed(Twice::Entity(entity)) => {
                write!(f, "relaxed: two routers are of the same entity {}", entity.0)
            }
            Self::Relaxed(Twice::Group(group)) => {
                write!(f, "relaxed: two routers are in the same network {group}")
            }
        }
    }
}

impl Fairness {
    /// Whether these routers of one path are independent of one another.
    pub fn diversity(&self, routers: &[NodeId]) -> Diversity {
        let twice = self.twice(routers);
        twice.map_or(Diversity::Strict, |(twice, _)| Diversity::Relaxed(twice))
    }

    /// Who serves twice on a path, and the first two routers that are his. Of an entity and a group, the entity is told: it
    /// is the closer tie.
    pub fn twice(&self, routers: &[NodeId]) -> Option<(Twice, [NodeId; 2])> {
        let of_entity = first_twice(routers, |router| Some(self.entity_of(router)));
        let by_entity = of_entity.map(|(entity, both)| (Twice::Entity(entity), both));
        by_entity.or_else(|| {
            let of_group = first_twice(routers, |router| self.group_of(router));
            of_group.map(|(group, both)| (Twice::Group(group), both))
        })
    }

    /// All nodes of whoever serves twice but one: without them, he cannot.
    pub fn all_but(&self, twice: Twice, kept: &NodeId) -> Vec<NodeId> {
        let mut nodes = match twice {
            Twice::Entity(_) => self.entities.members(kept),
            Twice::Group(group) => self.members.get(&group).into_iter().flatten().copied().collect(),
        };
        nodes.retain(|node| node != kept);
        nodes
    }
}

fn first_twice<K: Ord + Copy>(
    routers: &[NodeId],
    key: impl Fn(&NodeId) -> Option<K>,
) -> Option<(K, [NodeId; 2])> {
    let mut seen: BTreeMap<K, NodeId> = BTreeMap::new();
    routers.iter().find_map(|router| {
        let key = key(router)?;
        let earlier = seen.insert(key, *router)?;
        Some((key, [earlier, *router]))
    })
}

#[cfg(test)]
mod tests {
    use super::super::entities::Tie;
    use super::*;

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    #[test]
    fn node_whose_id_is_the_operators_key_is_one_with_his_other_nodes() {
        let mut fairness = Fairness::default();
        fairness.owned_by(id(2), Some(id(1)));
        fairness.owned_by(id(1), None);
        fairness.owned_by(id(3), None);
        assert_eq!(fairness.entity_of(&id(2)), fairness.entity_of(&id(1)));
        assert_eq!(fairness.entity_of(&id(3)), Entity(id(3)));
    }

    #[test]
    fn entity_that_serves_twice_is_named_before_a_network_that_does() {
        let mut fairness = Fairness::default();
        for (node, address) in [(1, "9.1.0.1"), (2, "9.2.0.1"), (3, "9.1.0.2"), (4, "9.3.0.1")] {
            fairness.place(id(node), address.parse().unwrap());
        }
        fairness.tie(id(2), Tie::Payee([7; 33]));
        fairness.tie(id(4), Tie::Payee([7; 33]));
        let diversity = |routers: &[u8]| {
            let routers: Vec<NodeId> = routers.iter().copied().map(id).collect();
            fairness.diversity(&routers)
        };
        assert_eq!(diversity(&[]), Diversity::Strict);
        assert_eq!(diversity(&[1, 2, 9, 8]), Diversity::Strict);
        let group = fairness.group_of(&id(1)).unwrap();
        assert_eq!(diversity(&[1, 3]), Diversity::Relaxed(Twice::Group(group)));
        let twice = Diversity::Relaxed(Twice::Entity(Entity(id(2))));
        assert_eq!(diversity(&[1, 4, 3, 2]), twice);
        assert!(
            twice
                .to_string()
                .starts_with("relaxed: two routers are of the same entity")
        );
        assert_eq!(fairness.all_but(Twice::Group(group), &id(1)), [id(3)]);
        assert_eq!(fairness.all_but(Twice::Entity(Entity(id(2))), &id(4)), [id(2)]);
    }

    #[test]
    fn who_is_above_a_hard_cap_comes_last_and_who_serves_twice_before_him_whatever_they_cost() {
        let candidate = |excluded, diversity, score_msat| Candidate {
            path: Vec::new(),
            quoted: true,
            fee_msat: 0,
            failures_msat: 0,
            latency_msat: 0,
            concentration_msat: 0,
            hysteresis_msat: 0,
            score_msat,
            excluded,
            diversity,
            chosen: false,
        };
        let relaxed = Diversity::Relaxed(Twice::Entity(Entity(id(1))));
        let order = [
            candidate(false, Diversity::Strict, 8),
            candidate(false, Diversity::Strict, 9),
            candidate(false, relaxed, 1),
            candidate(true, Diversity::Strict, 1),
            candidate(true, relaxed, 0),
        ];
        assert!(order.is_sorted_by_key(Candidate::rank));
    }
}
