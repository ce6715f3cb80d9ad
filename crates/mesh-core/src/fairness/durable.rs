//! What of shares survives a restart: whoever is told by them to go around somebody must not forget it in a crash, and
//! nobody must be able to have his share forgotten by bringing one about.

use serde::{Deserialize, Serialize};

use crate::identity::NodeId;
use crate::time::UnixMillis;

use super::Fairness;
use super::weights::Weight;

/// What one node earned of this node's money, as it is written down; of nothing, it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeighedNode {
    /// Whose it is.
    pub node: NodeId,
    /// What it was paid.
    pub paid: Weight,
    /// What would have been its part if all ways that have nobody in common were used alike.
    pub unavoidable: Weight,
    /// What of that is at cuts.
    pub forced: Weight,
}

impl WeighedNode {
    /// Whether it says that nothing is left.
    pub fn is_nothing(&self) -> bool {
        [self.paid, self.unavoidable, self.forced]
            .iter()
            .all(Weight::is_nothing)
    }
}

impl Fairness {
    /// Nodes whose weights changed since they were last written down.
    pub fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    /// The weights of at most so many of them.
    pub fn take_unwritten(&mut self, most: usize) -> Vec<WeighedNode> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(node) = self.unwritten.pop_first()
        {
            taken.push(WeighedNode {
                node,
                paid: self.paid.weights().get(&node),
                unavoidable: self.unavoidable.weights().get(&node),
                forced: self.forced.weights().get(&node),
            });
        }
        taken
    }

    /// Takes up what an earlier life wrote down. What finds no room, or has faded since, is written off.
    pub fn restore(&mut self, weighed: WeighedNode, now: UnixMillis) {
        self.sweep(now);
        let (node, owners) = (weighed.node, self.owners(&weighed.node));
        let kinds = [
            (&mut self.paid, weighed.paid),
            (&mut self.unavoidable, weighed.unavoidable),
            (&mut self.forced, weighed.forced),
        ];
        let mut is_all = true;
        for (tally, weight) in kinds {
            is_all &= tally.restore(node, weight, now, owners) || weight.is_nothing();
        }
        if !is_all {
            self.unwritten.insert(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Carried, Fairness};
    use super::*;
    use crate::limits::MAX_WEIGHED_NODES;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn id(number: u64) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    fn pay(fairness: &mut Fairness, router: u64, at: UnixMillis) {
        let (earned, ways) = (
            [(id(router), 5_000_000)],
            [vec![id(router)], vec![id(router + 1)]],
        );
        let carried = Carried {
            earned: &earned,
            units: 1_000,
            ways: &ways,
        };
        fairness.note_carried(&carried, at);
    }

    #[test]
    fn what_was_written_down_makes_the_same_shares_and_each_change_is_written_once() {
        let mut fairness = Fairness::default();
        pay(&mut fairness, 1, NOW);
        pay(&mut fairness, 3, NOW);
        let written = fairness.take_unwritten(usize::MAX);
        assert_eq!((written.len(), fairness.unwritten()), (4, 0));
        let mut again = Fairness::default();
        for weighed in written {
            again.restore(weighed, NOW);
        }
        assert_eq!(again.shares(NOW), fairness.shares(NOW));
        assert!(!again.shares(NOW).entities.is_empty());
        assert_eq!(again.unwritten(), 0, "nothing new in it");
        pay(&mut fairness, 1, NOW);
        assert_eq!(fairness.unwritten(), 2);
        assert_eq!(fairness.take_unwritten(1).len(), 1, "in parts, if there are many");
        assert_eq!(fairness.unwritten(), 1);
    }

    #[test]
    fn what_faded_while_the_node_was_down_is_written_off() {
        let mut fairness = Fairness::default();
        pay(&mut fairness, 1, UnixMillis(0));
        let mut again = Fairness::default();
        for weighed in fairness.take_unwritten(usize::MAX) {
            again.restore(weighed, NOW);
        }
        assert!(again.shares(NOW).entities.is_empty());
        assert_eq!(again.unwritten(), 2);
        let written = again.take_unwritten(3);
        assert_eq!(written.len(), 2);
        assert!(written.iter().all(WeighedNode::is_nothing));
    }

    #[test]
    fn what_fades_while_it_runs_is_written_off_too() {
        let mut fairness = Fairness::default();
        pay(&mut fairness, 1, UnixMillis(0));
        fairness.take_unwritten(usize::MAX);
        fairness.sweep(NOW);
        let written = fairness.take_unwritten(3);
        assert_eq!(written.len(), 2);
        assert!(written.iter().all(WeighedNode::is_nothing));
    }

    #[test]
    fn file_with_more_nodes_than_are_remembered_is_cut_down_to_those() {
        let mut fairness = Fairness::default();
        pay(&mut fairness, 0, NOW);
        let pattern = fairness.take_unwritten(1).remove(0);
        let mut again = Fairness::default();
        for number in 0..MAX_WEIGHED_NODES as u64 + 10 {
            let node = id(number);
            again.restore(WeighedNode { node, ..pattern }, NOW);
        }
        assert_eq!(again.unwritten(), 10);
        assert!(again.take_unwritten(10).iter().all(WeighedNode::is_nothing));
    }
}
