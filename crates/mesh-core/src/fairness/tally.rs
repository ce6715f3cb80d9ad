//! Sums of weights by entity and by group, kept up with everything that is added, tied or placed, so that nobody has to go
//! through all nodes to know what one entity has.
//!
//! Sums are of integers that are never rounded (see [`weights`](super::weights)), so that they are, to the last bit, what
//! counting anew would give. That is done only when the weights themselves were divided, and for entities when their
//! forest was grown anew.

use std::collections::BTreeMap;

use super::groups::NetworkGroup;
use super::weights::{Amount, Weight, Weights};
use crate::identity::NodeId;
use crate::time::UnixMillis;

/// Of whom a sum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// A node that never showed a tie.
    Node(NodeId),
    /// All nodes in one tree of [`Entities`](super::entities::Entities).
    Tree(u32),
    /// All nodes in one network.
    Group(NetworkGroup),
}

/// To which sums a node's weight belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Owners {
    /// The tree it is in, if it ever showed a tie.
    pub(super) tree: Option<u32>,
    /// The network it is in, if that is known.
    pub(super) group: Option<NetworkGroup>,
}

/// Weights by node, and their sums.
#[derive(Debug, Default)]
pub(super) struct Tally {
    weights: Weights,
    /// Of trees that have something.
    trees: BTreeMap<u32, Amount>,
    /// Of groups that have something.
    groups: BTreeMap<NetworkGroup, Amount>,
}

impl Tally {
    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What a node, an entity of several or a group has.
    pub(super) fn of(&self, whole: &Whole) -> Amount {
        let sum = match whole {
            Whole::Node(node) => return self.weights.of(node),
            Whole::Tree(tree) => self.trees.get(tree),
            Whole::Group(group) => self.groups.get(group),
        };
        sum.copied().unwrap_or_default()
    }

    /// Trees that have something.
    pub(super) fn trees(&self) -> impl Iterator<Item = (u32, Amount)> + '_ {
        self.trees.iter().map(|(tree, amount)| (*tree, *amount))
    }

    /// Groups that have something.
    pub(super) fn groups(&self) -> impl Iterator<Item = (NetworkGroup, Amount)> + '_ {
        self.groups.iter().map(|(group, amount)| (*group, *amount))
    }

    /// Brings all up to a moment. Who was forgotten, if those were that had faded to nothing; then all is to be
    /// recounted.
    pub(super) fn advance(&mut self, now: UnixMillis) -> Option<Vec<NodeId>> {
        self.weights.advance(now)
    }

    /// Adds what a node earned, in the scale of [`Weights::in_scale`]; [`Tally::advance`] was called for the same moment. Who
    /// was forgotten to make room.
    pub(super) fn add(
        &mut self,
        node: NodeId,
        weight: (u128, u128),
        now: UnixMillis,
        owners: impl Fn(&NodeId) -> Owners,
    ) -> Vec<NodeId> {
        let added = self.weights.add_weight(node, weight, now);
        self.give(owners(&node), added.amount);
        let forget = |(node, amount): (NodeId, Amount)| {
            self.take(owners(&node), amount);
            node
        };
        added.forgotten.into_iter().map(forget).collect()
    }

    /// Takes up what an earlier life wrote down of a node: [`Weights::restore`]. [`Tally::advance`] was called for the same
    /// moment.
    pub(super) fn restore(&mut self, node: NodeId, weight: Weight, now: UnixMillis, owners: Owners) -> bool {
        self.take(owners, self.weights.of(&node));
        let is_taken_up = self.weights.restore(node, weight, now);
        self.give(owners, self.weights.of(&node));
        is_taken_up
    }

    /// What a node has belongs to other sums now.
    pub(super) fn move_node(&mut self, node: &NodeId, from: Owners, to: Owners) {
        if from != to {
            let amount = self.weights.of(node);
            self.take(from, amount);
            self.give(to, amount);
        }
    }

    /// Two trees became one.
    pub(super) fn unite(&mut self, gone: u32, stays: u32) {
        let sum = self.trees.remove(&gone).unwrap_or_default();
        give(&mut self.trees, Some(stays), sum);
    }

    /// All trees are numbered anew.
    pub(super) fn regrow(&mut self, nodes: impl Iterator<Item = (NodeId, u32)>) {
        self.trees.clear();
        for (node, tree) in nodes {
            give(&mut self.trees, Some(tree), self.weights.of(&node));
        }
    }

    /// Makes all sums anew.
    pub(super) fn recount(&mut self, owners: impl Fn(&NodeId) -> Owners) {
        self.trees.clear();
        self.groups.clear();
        for (node, amount) in self.weights.amounts() {
            let owners = owners(&node);
            give(&mut self.trees, owners.tree, amount);
            give(&mut self.groups, owners.group, amount);
        }
    }

    fn give(&mut self, owners: Owners, amount: Amount) {
        give(&mut self.trees, owners.tree, amount);
        give(&mut self.groups, owners.group, amount);
    }

    fn take(&mut self, owners: Owners, amount: Amount) {
        take(&mut self.trees, owners.tree, amount);
        take(&mut self.groups, owners.group, amount);
    }
}

fn give<K: Ord>(sums: &mut BTreeMap<K, Amount>, owner: Option<K>, amount: Amount) {
    if let Some(owner) = owner.filter(|_| !amount.is_nothing()) {
        *sums.entry(owner).or_default() += amount;
    }
}

fn take<K: Ord>(sums: &mut BTreeMap<K, Amount>, owner: Option<K>, amount: Amount) {
    let Some(owner) = owner else { return };
    if let Some(sum) = sums.get_mut(&owner) {
        *sum -= amount;
        if sum.is_nothing() {
            sums.remove(&owner);
        }
    }
}
