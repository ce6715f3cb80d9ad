//! What this node lost to others: packets paid for that nobody receipted, and credit that a payee denied.
//!
//! Who sells credit and carries nothing takes a slice each time; under a new route or with another of its nodes it takes the
//! next. So losses are counted per node and per operator that it claims, and who has cost this node enough within a day sells
//! it nothing more until the day is over. Nobody checks the claim: were only the operator counted, a thief would claim another
//! with every certificate and never be counted twice, or an honest node's id and have that one shunned.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::NodeId;
use crate::limits::{MAX_LOSERS, MAX_LOSS_PER_DAY_MSAT};
use crate::time::Instant;

/// A day.
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, Copy)]
struct Loss {
    msat: u64,
    since: Instant,
}

/// Losses of the last day, by who caused them.
#[derive(Debug, Default)]
pub struct Losses {
    by_seller: BTreeMap<Seller, Loss>,
}

/// Who sold: kept apart, so that no node is counted for what others claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seller {
    Node(NodeId),
    Operator(NodeId),
}

impl Seller {
    fn of(node: NodeId, operator: NodeId) -> impl Iterator<Item = Self> {
        let claimed = (operator != node).then_some(Self::Operator(operator));
        [Self::Node(node)].into_iter().chain(claimed)
    }
}

impl Losses {
    /// Notes a loss of `msat` to this node of this operator. The oldest is forgotten when there are too many.
    pub fn note(&mut self, node: NodeId, operator: NodeId, msat: u64, now: Instant) {
        if msat == 0 {
            return;
        }
        self.by_seller.retain(|_, loss| now - loss.since < DAY);
        for seller in Seller::of(node, operator) {
            if self.by_seller.len() >= MAX_LOSERS && !self.by_seller.contains_key(&seller) {
                let oldest = self.by_seller.iter().min_by_key(|(_, loss)| loss.since);
                if let Some(oldest) = oldest.map(|(seller, _)| *seller) {
                    self.by_seller.remove(&oldest);
                }
            }
            let loss = self
                .by_seller
                .entry(seller)
                .or_insert(Loss { msat: 0, since: now });
            loss.msat = loss.msat.saturating_add(msat);
        }
    }

    /// Whether this node, or its operator, has cost enough for a day.
    pub fn is_too_much(&self, node: NodeId, operator: NodeId, now: Instant) -> bool {
        Seller::of(node, operator).any(|seller| {
            self.by_seller
                .get(&seller)
                .is_some_and(|loss| now - loss.since < DAY && loss.msat >= MAX_LOSS_PER_DAY_MSAT)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIEF: NodeId = NodeId([1; 32]);

    fn hours(hours: u64) -> Instant {
        Instant(hours * 3_600_000_000)
    }

    #[test]
    fn many_small_thefts_add_up_and_are_forgiven_after_a_day() {
        let mut losses = Losses::default();
        for hour in 0..3 {
            assert!(!losses.is_too_much(THIEF, THIEF, hours(hour)));
            losses.note(THIEF, THIEF, MAX_LOSS_PER_DAY_MSAT / 3 + 1, hours(hour));
        }
        assert!(losses.is_too_much(THIEF, THIEF, hours(3)));
        assert!(!losses.is_too_much(NodeId([2; 32]), NodeId([2; 32]), hours(3)));
        assert!(!losses.is_too_much(THIEF, THIEF, hours(24)));
        losses.note(THIEF, THIEF, 1, hours(25));
        assert!(
            !losses.is_too_much(THIEF, THIEF, hours(25)),
            "a new day begins at nothing"
        );
    }

    #[test]
    fn thief_who_claims_another_operator_each_time_is_counted_and_nobody_whom_he_claims_is() {
        let mut losses = Losses::default();
        let honest = NodeId([2; 32]);
        for claim in [honest, NodeId([3; 32]), NodeId([4; 32])] {
            losses.note(THIEF, claim, MAX_LOSS_PER_DAY_MSAT / 3 + 1, hours(1));
        }
        assert!(losses.is_too_much(THIEF, NodeId([5; 32]), hours(1)));
        losses.note(THIEF, honest, MAX_LOSS_PER_DAY_MSAT, hours(1));
        assert!(!losses.is_too_much(honest, honest, hours(1)));
        assert!(
            losses.is_too_much(NodeId([6; 32]), honest, hours(1)),
            "another node of his"
        );
    }

    #[test]
    fn any_number_of_thieves_takes_bounded_room() {
        let mut losses = Losses::default();
        for thief in 0..2 * MAX_LOSERS as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&thief.to_be_bytes());
            losses.note(NodeId(id), NodeId(id), 1, Instant(thief));
        }
        assert_eq!(losses.by_seller.len(), MAX_LOSERS);
    }
}
