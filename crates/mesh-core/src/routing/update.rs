//! What neighbours tell each other about routes.

use serde::{Deserialize, Serialize};

use crate::announcement::Announcement;
use crate::drop_reason::DropReason;
use crate::identity::{NodeId, SignatureVerifier};
use crate::limits::{
    MAX_ANNOUNCEMENTS_PER_UPDATE, MAX_COST, MAX_HOPS, MAX_REQUEST_HOPS, MAX_ROUTES_PER_UPDATE,
};

/// The metric of a destination that cannot be reached.
pub const INFINITE: u32 = u32::MAX;

/// Routing runs twice, independently: a hop limit makes the cheapest way unusable to those it is too long for, and the
/// shortest way is seldom the cheapest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Plane {
    /// Latency classes and a constant per hop, summed along the way.
    Cost,
    /// Hops; what is further than a route may be long is unreachable.
    Hops,
}

impl Plane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cost, Self::Hops];

    /// Its place in arrays of one entry per plane.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The largest metric of a destination that can be reached.
    pub const fn largest(self) -> u32 {
        match self {
            Self::Cost => MAX_COST,
            Self::Hops => MAX_HOPS as u32,
        }
    }

    /// The name in reports and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Hops => "hops",
        }
    }
}

/// How far away a destination is, and by which of its seqnos that was measured (RFC 8966 §3.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distance {
    /// The destination's number.
    pub seqno: u64,
    /// The metric; [`INFINITE`] retracts the route.
    pub metric: u32,
}

impl Distance {
    /// Whether it is strictly better than `other`: fresher, or as fresh and nearer.
    pub fn is_better_than(self, other: Self) -> bool {
        self.seqno > other.seqno || (self.seqno == other.seqno && self.metric < other.metric)
    }
}

/// One route of the sender's, in the planes in which it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteUpdate {
    /// To whom.
    pub origin: NodeId,
    /// How far from the sender, by [`Plane::index`]; none where nothing changed.
    pub planes: [Option<Distance>; 2],
}

/// What changed at the sender since its last update. Updates of one link are numbered; one is under way at a time, and
/// it is repeated with what is true by then until it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingUpdate {
    /// Its number on this link, from 1.
    pub number: u64,
    /// Announcements that the receiver may not have; they come first, since a route is refused without them.
    pub announcements: Vec<Announcement>,
    /// Routes.
    pub routes: Vec<RouteUpdate>,
}

impl RoutingUpdate {
    /// Checks shape and signatures; one unfit part refuses the whole, since an honest neighbour sends none.
    pub fn check(&self, verifier: &dyn SignatureVerifier) -> Result<(), DropReason> {
        let fits = self.announcements.len() <= MAX_ANNOUNCEMENTS_PER_UPDATE
            && self.routes.len() <= MAX_ROUTES_PER_UPDATE
            && self.number > 0;
        if !fits {
            return Err(DropReason::Malformed);
        }
        self.announcements
            .iter()
            .try_for_each(|announcement| announcement.check(verifier))
    }
}

/// Asks for a route with at least this seqno (RFC 8966 §3.8.1.2): sent by a node whose only ways are not feasible, and
/// handed on towards the origin until somebody has such a route or the origin makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeqnoRequest {
    /// To whom a route is wanted.
    pub origin: NodeId,
    /// In which plane.
    pub plane: Plane,
    /// The least seqno that helps.
    pub seqno: u64,
    /// How often it may still be handed on.
    pub hops: u8,
}

impl SeqnoRequest {
    /// Checks its shape.
    pub fn check(&self) -> Result<(), DropReason> {
        if (1..=MAX_REQUEST_HOPS).contains(&self.hops) && self.seqno > 0 {
            Ok(())
        } else {
            Err(DropReason::Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresher_beats_nearer_and_equal_beats_nothing() {
        let distance = |seqno, metric| Distance { seqno, metric };
        assert!(distance(2, 900).is_better_than(distance(1, 1)));
        assert!(distance(2, 8).is_better_than(distance(2, 9)));
        assert!(!distance(2, 9).is_better_than(distance(2, 9)));
        assert!(!distance(1, 1).is_better_than(distance(2, 900)));
    }
}
