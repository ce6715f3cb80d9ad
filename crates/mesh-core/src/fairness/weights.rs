//! Weights that fade: what was earned lately, by whom.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::NodeId;
use crate::limits::MAX_WEIGHED_NODES;
use crate::time::UnixMillis;

/// How long a weight lasts on average: the window in which shares are looked at.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Weights fade in steps of this length, so that the same events give the same weights whenever they are looked at.
pub const STEP: Duration = Duration::from_secs(15 * 60);

/// exp(-1/96) in 64-bit fixed point with 63 bits behind the point: what is left of a weight after one step, 96 of which
/// make the window.
const FADE: u64 = 9_127_793_911_778_274_719;

/// Bits behind the point of a weight, so that one of a few msat does not fade to nothing in one step.
const POINT: u32 = 10;

/// What one node earned, and over how many units, as far as it still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Weight {
    /// In 1/1024 msat.
    fees: u64,
    /// In 1/1024 units.
    units: u64,
    /// The step it was last brought up to.
    step: u64,
}

impl Weight {
    /// A weight read back from disk at its step.
    fn at(self, step: u64) -> Self {
        let steps = step.saturating_sub(self.step);
        Self {
            fees: faded(self.fees, steps),
            units: faded(self.units, steps),
            step: step.max(self.step),
        }
    }

    /// Whether nothing is left of it.
    pub fn is_nothing(&self) -> bool {
        self.fees == 0 && self.units == 0
    }
}

/// Fading weights by node.
///
/// Bounded: beyond [`MAX_WEIGHED_NODES`] the lightest is forgotten, which an attacker with many nodes can only bring about
/// by earning more than those he drives out.
#[derive(Debug, Default)]
pub struct Weights {
    by_node: BTreeMap<NodeId, Weight>,
}

impl Weights {
    /// Adds what a node earned. Who was forgotten for it.
    pub fn add(&mut self, node: NodeId, fee_msat: u64, units: u64, now: UnixMillis) -> Option<NodeId> {
        let is_full = !self.by_node.contains_key(&node) && self.by_node.len() >= MAX_WEIGHED_NODES;
        let forgotten = if is_full { self.forget_lightest(now) } else { None };
        let step = step_of(now);
        let weight = self.by_node.entry(node).or_default();
        *weight = weight.at(step);
        weight.fees = weight.fees.saturating_add(fee_msat.saturating_mul(1 << POINT));
        weight.units = weight.units.saturating_add(units.saturating_mul(1 << POINT));
        forgotten
    }

    /// What each node's fees still weigh, in 1/1024 msat, by id; those that faded to nothing are left out.
    pub fn fees(&self, now: UnixMillis) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let step = step_of(now);
        let faded = self
            .by_node
            .iter()
            .map(move |(node, weight)| (*node, weight.at(step).fees));
        faded.filter(|(_, fees)| *fees > 0)
    }

    /// What each node's units still weigh, in 1/1024 units, by id.
    pub fn units(&self, now: UnixMillis) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let step = step_of(now);
        let faded = self
            .by_node
            .iter()
            .map(move |(node, weight)| (*node, weight.at(step).units));
        faded.filter(|(_, units)| *units > 0)
    }

    /// Millisatoshi in the scale of [`Weights::fees`].
    pub fn in_scale(msat: u64) -> u128 {
        u128::from(msat) << POINT
    }

    /// Forgets what has faded to nothing, and says whose it was.
    pub fn sweep(&mut self, now: UnixMillis) -> Vec<NodeId> {
        let step = step_of(now);
        let mut forgotten = Vec::new();
        self.by_node.retain(|node, weight| {
            let is_left = !weight.at(step).is_nothing();
            if !is_left {
                forgotten.push(*node);
            }
            is_left
        });
        forgotten
    }

    /// What a node's weight was when it last grew, to be written down; it fades by itself.
    pub fn get(&self, node: &NodeId) -> Weight {
        self.by_node.get(node).copied().unwrap_or_default()
    }

    /// Takes up what an earlier life wrote down, the last of it last. Whether there was something to take up, and room.
    ///
    /// A weight of the future would not fade until then: the clock was wrong when it was written, or the file was
    /// tampered with. It counts as one of now.
    pub fn restore(&mut self, node: NodeId, mut weight: Weight, now: UnixMillis) -> bool {
        let is_full = !self.by_node.contains_key(&node) && self.by_node.len() >= MAX_WEIGHED_NODES;
        weight.step = weight.step.min(step_of(now));
        if weight.at(step_of(now)).is_nothing() {
            self.by_node.remove(&node);
            return false;
        }
        if is_full {
            return false;
        }
        self.by_node.insert(node, weight);
        true
    }

    /// How many nodes have weight.
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether nobody has any.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    fn forget_lightest(&mut self, now: UnixMillis) -> Option<NodeId> {
        let step = step_of(now);
        let lightest = self.by_node.iter().min_by_key(|(_, weight)| {
            let weight = weight.at(step);
            (weight.fees, weight.units)
        });
        let lightest = lightest.map(|(node, _)| *node)?;
        self.by_node.remove(&lightest);
        Some(lightest)
    }
}

fn step_of(now: UnixMillis) -> u64 {
    now.0 / STEP.as_millis() as u64
}

/// `weight * FADE^steps`, rounded down at each squaring: two machines get the same.
fn faded(weight: u64, steps: u64) -> u64 {
    // After 64 windows nothing is left of the largest weight: exp(-64) is below 2^-92.
    if steps >= 64 * 96 {
        return 0;
    }
    let (mut factor, mut steps, mut left) = (FADE, steps, weight);
    while steps > 0 {
        if steps & 1 == 1 {
            left = scaled(left, factor);
        }
        factor = scaled(factor, factor);
        steps >>= 1;
    }
    left
}

fn scaled(value: u64, factor: u64) -> u64 {
    ((u128::from(value) * u128::from(factor)) >> 63) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn hours(hours: u64) -> UnixMillis {
        UnixMillis(hours * 3_600_000)
    }

    fn fees(weights: &Weights, now: UnixMillis) -> u64 {
        weights.fees(now).map(|(_, fees)| fees >> POINT).sum()
    }

    #[test]
    fn after_a_day_a_weight_is_worth_a_little_more_than_a_third() {
        let mut weights = Weights::default();
        weights.add(NODE, 1_000_000, 1, hours(0));
        let after_a_day = fees(&weights, hours(24));
        assert!(
            (367_870..=367_880).contains(&after_a_day),
            "1/e, but {after_a_day}"
        );
        assert!(fees(&weights, hours(24 * 70)) == 0);
        weights.sweep(hours(24 * 70));
        assert!(weights.is_empty());
    }

    #[test]
    fn weights_written_down_and_read_back_go_on_fading() {
        let mut weights = Weights::default();
        weights.add(NODE, 5_000, 3, hours(1));
        let mut again = Weights::default();
        assert!(again.restore(NODE, weights.get(&NODE), hours(2)));
        assert_eq!(fees(&again, hours(30)), fees(&weights, hours(30)));
        assert!(fees(&again, hours(30)) < 5_000);
    }

    #[test]
    fn weight_of_the_future_that_a_file_tells_of_fades_from_now_on() {
        let mut tampered = Weights::default();
        tampered.add(NODE, u64::MAX, u64::MAX, UnixMillis(u64::MAX));
        let mut again = Weights::default();
        assert!(again.restore(NODE, tampered.get(&NODE), hours(1)));
        assert!(fees(&again, hours(25)) < fees(&tampered, hours(25)));
        assert_eq!(fees(&again, hours(24 * 70)), 0);
        assert!(
            !again.restore(NODE, Weight::default(), hours(1)),
            "nothing is nothing"
        );
    }

    #[test]
    fn clock_set_back_makes_nothing_heavier() {
        let mut weights = Weights::default();
        weights.add(NODE, 5_000, 1, hours(48));
        assert_eq!(fees(&weights, hours(0)), 5_000);
        weights.add(NODE, 0, 0, hours(0));
        assert_eq!(fees(&weights, hours(48)), 5_000);
    }

    #[test]
    fn crowd_of_nodes_that_earn_little_drives_out_only_what_earned_less() {
        let mut weights = Weights::default();
        weights.add(NODE, 1_000, 1, hours(0));
        for n in 0..=MAX_WEIGHED_NODES as u64 {
            let mut crowd = [0xff; 32];
            crowd[..8].copy_from_slice(&n.to_be_bytes());
            weights.add(NodeId(crowd), 1, 1, hours(0));
        }
        assert_eq!(weights.len(), MAX_WEIGHED_NODES);
        assert!(!weights.get(&NODE).is_nothing());
    }

    proptest! {
        /// Looking at a weight in between changes it by no more than the rounding of each step.
        #[test]
        fn fading_in_two_goes_is_fading_in_one(weight in 0u64..1 << 50, first in 0u64..500, second in 0u64..500) {
            let at_once = faded(weight, first + second);
            let in_two = faded(faded(weight, first), second);
            prop_assert!(at_once.abs_diff(in_two) <= 24 + (weight >> 50), "{at_once} {in_two}");
            prop_assert!(at_once <= weight);
        }
    }
}
