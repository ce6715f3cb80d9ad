//! Weights that fade: what was earned lately, by whom.
//!
//! A weight that fades would have to be touched whenever time passes, and so would every sum of weights. Instead what is
//! added *later* counts for more (Cormode, Shkapenyuk, Srivastava, Xu: "Forward decay", 2009): what was there before is not
//! touched, sums of integers stay exact whatever the order in which they were made, and only who looks at one divides by
//! how much later it is. Before the numbers grow too large, all are divided at once.

use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::NodeId;
use crate::limits::MAX_WEIGHED_NODES;
use crate::time::UnixMillis;

/// How long a weight lasts on average: the window in which shares are looked at.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Weights fade in steps of this length, so that the same events give the same weights whenever they are looked at.
pub const STEP: Duration = Duration::from_secs(15 * 60);

/// Steps in a window.
const WINDOW_STEPS: u64 = 96;

/// exp(-1/96) in 64-bit fixed point with 63 bits behind the point: what is left of a weight after one step, 96 of which
/// make the window.
const FADE: u64 = 9_127_793_911_778_274_719;

/// Bits behind the point of a weight, so that one of a few msat does not fade to nothing in one step.
const POINT: u32 = 10;

/// Further bits behind the point of an [`Amount`], so that what is added late and divided by as much is what was added.
const AMOUNT_POINT: u32 = 30;

/// Steps after which all amounts are divided by what they have grown by: 16 windows, in which what is added grows by
/// less than 2^24. With all bits behind the point an msat is below 2^64, and there will never be more than 2^61 of them.
const REBASE_STEPS: u64 = 16 * WINDOW_STEPS;

/// Weights forgotten at once when there is no room, so that not every new one has all of them compared.
const FORGOTTEN_AT_ONCE: usize = MAX_WEIGHED_NODES / 64;

/// What one node earned, and over how many units, as far as it still counts: as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Weight {
    /// In 1/1024 msat.
    fees: u64,
    /// In 1/1024 units.
    units: u64,
    /// The step it was last brought up to.
    step: u64,
}

/// Fees and units, the later ones grown: only to be added to, or compared with, amounts of the same [`Weights`], until
/// [`Weights::advance`] says that these were divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount {
    pub(super) fees: u128,
    pub(super) units: u128,
}

impl Weight {
    /// Whether nothing is left of it.
    pub fn is_nothing(&self) -> bool {
        self.fees == 0 && self.units == 0
    }
}

impl Amount {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.fees = self.fees.saturating_add(other.fees);
        self.units = self.units.saturating_add(other.units);
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        self.fees = self.fees.saturating_sub(other.fees);
        self.units = self.units.saturating_sub(other.units);
    }
}

/// What is left of amounts at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Left(u64);

impl Left {
    /// Fees in 1/1024 msat.
    pub(super) fn fees(self, amount: Amount) -> u64 {
        self.of(amount.fees)
    }

    /// In 1/1024 units.
    pub(super) fn units(self, amount: Amount) -> u64 {
        self.of(amount.units)
    }

    /// Rounded to the nearest.
    fn of(self, grown: u128) -> u64 {
        let left = scaled_wide(grown, self.0).saturating_add(1 << (AMOUNT_POINT - 1)) >> AMOUNT_POINT;
        u64::try_from(left).unwrap_or(u64::MAX)
    }
}

/// What adding a weight came to.
#[derive(Debug, Default)]
pub struct Added {
    pub(super) amount: Amount,
    /// Who was forgotten to make room, with what.
    pub(super) forgotten: Vec<(NodeId, Amount)>,
}

/// Fading weights by node.
///
/// Bounded: beyond [`MAX_WEIGHED_NODES`] the lightest are forgotten, which an attacker with many nodes can only bring about
/// by earning more than those he drives out.
#[derive(Debug, Default)]
pub struct Weights {
    by_node: BTreeMap<NodeId, Amount>,
    total: Amount,
    /// The step at which amounts are as they are.
    base: u64,
    /// The step to which they fade: the latest one that was seen.
    latest: u64,
}

impl Weights {
    /// Adds what a node earned.
    pub fn add(&mut self, node: NodeId, fee_msat: u64, units: u64, now: UnixMillis) -> Added {
        let weight = (Self::in_scale(fee_msat), Self::in_scale(units));
        self.add_weight(node, weight, now)
    }

    /// Adds what a node earned, in 1/1024 msat and 1/1024 units.
    pub(super) fn add_weight(&mut self, node: NodeId, (fees, units): (u128, u128), now: UnixMillis) -> Added {
        self.advance(now);
        let amount = Amount {
            fees: self.grown(fees),
            units: self.grown(units),
        };
        if amount.is_nothing() {
            return Added::default();
        }
        let full = self.by_node.len() >= MAX_WEIGHED_NODES && !self.by_node.contains_key(&node);
        let forgotten = if full { self.forget_lightest() } else { Vec::new() };
        *self.by_node.entry(node).or_default() += amount;
        self.total += amount;
        Added { amount, forgotten }
    }

    /// Brings these up to a moment. Who was forgotten, if all amounts were divided and those that had faded to nothing
    /// forgotten: sums that were made of them are to be made anew then.
    ///
    /// A clock that is set back stops the fading until it has caught up, for a window at the most; set back further, it was
    /// wrong before, and time goes on from here.
    pub fn advance(&mut self, now: UnixMillis) -> Option<Vec<NodeId>> {
        let step = step_of(now);
        if self.by_node.is_empty() {
            (self.base, self.latest) = (step, step);
            return None;
        }
        let was_wrong = step + WINDOW_STEPS < self.latest;
        if !was_wrong && step.saturating_sub(self.base) <= REBASE_STEPS {
            self.latest = step.max(self.latest);
            return None;
        }
        Some(self.rebase(step))
    }

    /// What all together earned.
    pub(super) fn total(&self) -> Amount {
        self.total
    }

    /// What a node earned.
    pub(super) fn of(&self, node: &NodeId) -> Amount {
        self.by_node.get(node).copied().unwrap_or_default()
    }

    /// What each earned, by id.
    pub(super) fn amounts(&self) -> impl Iterator<Item = (NodeId, Amount)> + '_ {
        self.by_node.iter().map(|(node, amount)| (*node, *amount))
    }

    /// What is left of amounts at a moment.
    pub(super) fn left(&self, now: UnixMillis) -> Left {
        Left(faded(1 << 63, step_of(now).max(self.latest) - self.base))
    }

    /// What each node's fees still weigh, in 1/1024 msat, by id; those that faded to nothing are left out.
    pub fn fees(&self, now: UnixMillis) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let left = self.left(now);
        let fees = self
            .amounts()
            .map(move |(node, amount)| (node, left.fees(amount)));
        fees.filter(|(_, fees)| *fees > 0)
    }

    /// What each node's units still weigh, in 1/1024 units, by id.
    pub fn units(&self, now: UnixMillis) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let left = self.left(now);
        let units = self
            .amounts()
            .map(move |(node, amount)| (node, left.units(amount)));
        units.filter(|(_, units)| *units > 0)
    }

    /// Millisatoshi in the scale of [`Weights::fees`], or units in that of [`Weights::units`]: parts of a small receipt would
    /// be nothing in whole msat, and who pays by single units would not know what he cannot avoid.
    pub fn in_scale(number: u64) -> u128 {
        u128::from(number) << POINT
    }

    /// What a node's weight is, to be written down; it fades by itself.
    pub fn get(&self, node: &NodeId) -> Weight {
        let (left, amount) = (Left(self.left_of_one()), self.of(node));
        Weight {
            fees: left.fees(amount),
            units: left.units(amount),
            step: self.latest,
        }
    }

    /// Takes up what an earlier life wrote down, the last of it last. Whether there was something to take up, and room.
    ///
    /// A weight of the future would not fade until then: the clock was wrong when it was written, or the file was
    /// tampered with. It counts as one of now.
    pub fn restore(&mut self, node: NodeId, weight: Weight, now: UnixMillis) -> bool {
        self.advance(now);
        let steps = self.latest.saturating_sub(weight.step);
        let amount = Amount {
            fees: self.grown(u128::from(faded(weight.fees, steps))),
            units: self.grown(u128::from(faded(weight.units, steps))),
        };
        let is_full = self.by_node.len() >= MAX_WEIGHED_NODES && !self.by_node.contains_key(&node);
        let before = self.by_node.remove(&node).unwrap_or_default();
        self.total -= before;
        if amount.is_nothing() || is_full {
            return false;
        }
        self.by_node.insert(node, amount);
        self.total += amount;
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

    /// What is left of one that was added at the base, in 63-bit fixed point: at least 2^39, as it is no longer ago than
    /// [`REBASE_STEPS`].
    fn left_of_one(&self) -> u64 {
        faded(1 << 63, self.latest.saturating_sub(self.base))
    }

    /// As much later as these have been brought up to, so much more it counts.
    fn grown(&self, weight: u128) -> u128 {
        let growth = (1u128 << (63 + AMOUNT_POINT)) / u128::from(self.left_of_one().max(1));
        weight.saturating_mul(growth)
    }

    /// Divides all by what it has grown by. Of whom nothing is left.
    fn rebase(&mut self, step: u64) -> Vec<NodeId> {
        let left = faded(1 << 63, step.max(self.latest) - self.base);
        for amount in self.by_node.values_mut() {
            amount.fees = scaled_wide(amount.fees, left);
            amount.units = scaled_wide(amount.units, left);
        }
        (self.base, self.latest) = (step, step);
        self.total = Amount::default();
        let (now, mut forgotten) = (Left(1 << 63), Vec::new());
        self.by_node.retain(|node, amount| {
            let is_left = now.fees(*amount) > 0 || now.units(*amount) > 0;
            if is_left {
                self.total += *amount;
            } else {
                forgotten.push(*node);
            }
            is_left
        });
        forgotten
    }

    fn forget_lightest(&mut self) -> Vec<(NodeId, Amount)> {
        let mut all: Vec<(Amount, NodeId)> = self
            .by_node
            .iter()
            .map(|(node, amount)| (*amount, *node))
            .collect();
        all.select_nth_unstable(FORGOTTEN_AT_ONCE);
        all.truncate(FORGOTTEN_AT_ONCE);
        for (amount, node) in &all {
            self.by_node.remove(node);
            self.total -= *amount;
        }
        all.into_iter().map(|(amount, node)| (node, amount)).collect()
    }
}

fn step_of(now: UnixMillis) -> u64 {
    now.0 / STEP.as_millis() as u64
}

/// `weight * FADE^steps`, rounded down at each squaring: two machines get the same.
fn faded(weight: u64, steps: u64) -> u64 {
    // After 64 windows nothing is left of the largest weight: exp(-64) is below 2^-92.
    if steps >= 64 * WINDOW_STEPS {
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

/// The same of a wide number; `factor` is at most 2^63, one.
fn scaled_wide(value: u128, factor: u64) -> u128 {
    let (high, low, factor) = (value >> 64, value & u128::from(u64::MAX), u128::from(factor));
    ((high * factor) << 1) + ((low * factor) >> 63)
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
        assert_eq!(weights.advance(hours(24 * 70)), Some(vec![NODE]));
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
    fn weights_written_down_at_different_times_are_read_back_as_of_one() {
        let other = NodeId([2; 32]);
        let mut weights = Weights::default();
        weights.add(NODE, 1_000_000, 1, hours(0));
        let first = weights.get(&NODE);
        weights.add(other, 1_000_000, 1, hours(24));
        let mut again = Weights::default();
        assert!(again.restore(NODE, first, hours(26)));
        assert!(again.restore(other, weights.get(&other), hours(26)));
        for (there, here) in again.fees(hours(30)).zip(weights.fees(hours(30))) {
            assert!(
                there.0 == here.0 && there.1.abs_diff(here.1) <= 20,
                "{there:?} {here:?}"
            );
        }
        assert_eq!(again.of(&NODE).fees + again.of(&other).fees, again.total().fees);
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
        assert_eq!(again.total(), Amount::default());
    }

    #[test]
    fn clock_set_back_makes_nothing_heavier_and_one_set_back_far_was_wrong() {
        let mut weights = Weights::default();
        weights.add(NODE, 5_000, 1, hours(48));
        assert_eq!(fees(&weights, hours(30)), 5_000);
        weights.add(NODE, 0, 0, hours(30));
        assert_eq!(fees(&weights, hours(48)), 5_000);
        weights.add(NODE, 5_000, 1, hours(1_000_000));
        weights.add(NODE, 5_000, 1, hours(50));
        assert_eq!(fees(&weights, hours(50)), 10_000, "what was before is all gone");
        assert!(fees(&weights, hours(74)) < 4_000, "and what there is fades again");
    }

    #[test]
    fn crowd_of_nodes_that_earn_little_drives_out_only_what_earned_less() {
        let mut weights = Weights::default();
        weights.add(NODE, 1_000, 1, hours(0));
        let mut forgotten = 0;
        for n in 0..=MAX_WEIGHED_NODES as u64 {
            let mut crowd = [0xff; 32];
            crowd[..8].copy_from_slice(&n.to_be_bytes());
            forgotten += weights.add(NodeId(crowd), 1, 1, hours(0)).forgotten.len();
        }
        assert_eq!(weights.len() + forgotten, MAX_WEIGHED_NODES + 2);
        assert!(weights.len() <= MAX_WEIGHED_NODES);
        assert!(!weights.get(&NODE).is_nothing());
        let all: u128 = weights.amounts().map(|(_, amount)| amount.fees).sum();
        assert_eq!(all, weights.total().fees);
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

        /// What is added late and looked at at once is what was added, and what is looked at later is what fading leaves,
        /// however often all amounts were divided since.
        #[test]
        fn growing_and_dividing_is_fading(msat in 0u64..1 << 50, added in 0u64..1_000, steps in 0u64..5_000) {
            let at = |step: u64| UnixMillis(step * STEP.as_millis() as u64);
            let mut weights = Weights::default();
            weights.add(NODE, 1, 1, at(0));
            let other = NodeId([2; 32]);
            weights.add(other, msat, 1, at(added));
            let now = |weights: &Weights, step: u64| weights.left(at(step)).fees(weights.of(&other));
            let whole = msat << POINT;
            prop_assert!(now(&weights, added).abs_diff(whole) <= 1 + (whole >> 29));
            for step in (added..added + steps).step_by(700) {
                weights.advance(at(step));
            }
            let left = faded(whole, steps);
            prop_assert!(now(&weights, added + steps).abs_diff(left) <= 30 + (left >> 28), "{left}");
        }
    }
}
