//! What this node lost to others: packets paid for that nobody receipted, and credit that a payee denied.
//!
//! Who sells credit and carries nothing takes a slice each time; under a new route or with another of its nodes it takes the
//! next. So losses are counted per operator, or per node where none is claimed, and who has cost this node enough within a
//! day sells it nothing more until the day is over. Claims of an operator only ever merge nodes: a thief gains nothing by one,
//! and by none he is counted node by node.

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
    by_operator: BTreeMap<NodeId, Loss>,
}

impl Losses {
    /// Notes a loss of `msat` to this operator, or node. The oldest is forgotten when there are too many.
    pub fn note(&mut self, operator: NodeId, msat: u64, now: Instant) {
        if msat == 0 {
            return;
        }
        self.by_operator.retain(|_, loss| now - loss.since < DAY);
        if self.by_operator.len() >= MAX_LOSERS && !self.by_operator.contains_key(&operator) {
            let oldest = self.by_operator.iter().min_by_key(|(_, loss)| loss.since);
            if let Some(oldest) = oldest.map(|(operator, _)| *operator) {
                self.by_operator.remove(&oldest);
            }
        }
        let loss = self
            .by_operator
            .entry(operator)
            .or_insert(Loss { msat: 0, since: now });
        loss.msat = loss.msat.saturating_add(msat);
    }

    /// Whether this operator, or node, has cost enough for a day.
    pub fn is_too_much(&self, operator: &NodeId, now: Instant) -> bool {
        self.by_operator
            .get(operator)
            .is_some_and(|loss| now - loss.since < DAY && loss.msat >= MAX_LOSS_PER_DAY_MSAT)
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
            assert!(!losses.is_too_much(&THIEF, hours(hour)));
            losses.note(THIEF, MAX_LOSS_PER_DAY_MSAT / 3 + 1, hours(hour));
        }
        assert!(losses.is_too_much(&THIEF, hours(3)));
        assert!(!losses.is_too_much(&NodeId([2; 32]), hours(3)));
        assert!(!losses.is_too_much(&THIEF, hours(24)));
        losses.note(THIEF, 1, hours(25));
        assert!(
            !losses.is_too_much(&THIEF, hours(25)),
            "a new day begins at nothing"
        );
    }

    #[test]
    fn any_number_of_thieves_takes_bounded_room() {
        let mut losses = Losses::default();
        for thief in 0..2 * MAX_LOSERS as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&thief.to_be_bytes());
            losses.note(NodeId(id), 1, Instant(thief));
        }
        assert_eq!(losses.by_operator.len(), MAX_LOSERS);
    }
}
