//! Why this way and not another: everything that a path is compared by, term by term.
//!
//! All terms are what one would pay, in msat for [`COMPARISON_UNITS`](crate::routing::COMPARISON_UNITS), so that they add
//! up. Routes are chosen by this very reckoning; there is no second one for show.

use std::collections::BTreeSet;

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
    /// The one that the next session would take.
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
    /// Whether these routers of one path are independent of one another. Of an entity and a group that serve twice, the
    /// entity is told: it is the closer tie.
    pub fn diversity(&self, routers: &[NodeId]) -> Diversity {
        let entities = routers.iter().map(|router| self.entity_of(router));
        let groups = routers.iter().filter_map(|router| self.group_of(router));
        let twice = first_twice(entities)
            .map(Twice::Entity)
            .or_else(|| first_twice(groups).map(Twice::Group));
        twice.map_or(Diversity::Strict, Diversity::Relaxed)
    }
}

fn first_twice<T: Ord + Copy>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    all.find(|one| !seen.insert(*one))
}
