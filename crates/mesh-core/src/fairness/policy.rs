//! What an operator lets shares grow to, and what this node would pay to keep them below.

use super::Share;
use super::measures::PPM;

/// By how much a share may seem larger than it is beside another, in parts per million: both are rounded down, and fade by
/// themselves in steps that are rounded too. Without it one of two providers who was paid everything would be left out,
/// because half of a share looks a little less than half.
const ROUNDING_PPM: u32 = 1_000;

/// The part of its soft cap at which a share starts to cost. Not at nothing: who has so little is not worth naming to every
/// search for a path, and of those above there are at most ten for each whole soft cap in one.
const BEGIN_PART: u32 = 10;

/// The route used last keeps its place unless another is better by more than one part in this many of its rank: shares
/// that go up and down must not make routes go back and forth.
pub const HYSTERESIS_PARTS: u64 = 8;

/// When a share starts to cost, and when who has it is gone around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Up to this share, in parts per million, avoiding it is worth a little, from a tenth of it on; above, twice as much
    /// for every percent.
    pub soft_ppm: u32,
    /// Above this share, in parts per million, whoever has it is left out where there is an alternative; see
    /// [`Caps::excludes`].
    pub hard_ppm: u32,
}

impl Caps {
    /// The share, in parts per million, up to which nothing follows from one.
    pub fn begin_ppm(&self) -> u32 {
        (self.soft_ppm / BEGIN_PART).min(self.hard_ppm)
    }

    /// Whether who has this share is left out where there is an alternative: above the hard cap, and above twice what
    /// could not have gone another way. So of two providers neither ever is, and nobody at a cut.
    pub fn excludes(&self, share: Share) -> bool {
        let avoidable = share
            .unavoidable_ppm
            .saturating_mul(2)
            .saturating_add(ROUNDING_PPM);
        share.observed_ppm > self.hard_ppm.max(avoidable)
    }
}

/// The operator's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairnessPolicy {
    /// Of one entity.
    pub entity: Caps,
    /// Of one network group.
    pub group: Caps,
    /// What avoiding a share at the hard cap is worth, in percent of what a router is usually paid. How it rises to that, and
    /// from there: [`FairnessPolicy::price_msat`].
    pub price_at_hard_cap_percent: u32,
    /// Fees paid in the window below which shares say little, in msat: what is missing counts as if it had been spread
    /// evenly.
    pub minimum_sample_msat: u64,
}

impl Default for FairnessPolicy {
    fn default() -> Self {
        Self {
            entity: Caps {
                soft_ppm: 100_000,
                hard_ppm: 300_000,
            },
            group: Caps {
                soft_ppm: 250_000,
                hard_ppm: 500_000,
            },
            price_at_hard_cap_percent: 1_000,
            minimum_sample_msat: 1_000_000,
        }
    }
}

/// Why a policy is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A soft cap at or above its hard cap, or a hard cap above one.
    #[error("a soft cap must be below its hard cap, and no hard cap is above 100 %")]
    Caps,
    /// A group's cap below an entity's.
    #[error("a network group holds entities: its caps must not be below those of an entity")]
    GroupBelowEntity,
}

impl FairnessPolicy {
    /// Whether its caps can hold together.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn check(&self) -> Result<(), PolicyError> {
        let rising = |caps: &Caps| caps.soft_ppm < caps.hard_ppm && u64::from(caps.hard_ppm) <= PPM;
        if !rising(&self.entity) || !rising(&self.group) {
            return Err(PolicyError::Caps);
        }
        if self.group.soft_ppm < self.entity.soft_ppm || self.group.hard_ppm < self.entity.hard_ppm {
            return Err(PolicyError::GroupBelowEntity);
        }
        Ok(())
    }

    /// What avoiding whoever has this share is worth, where routers are usually paid `usual_msat`: from nothing at a tenth of
    /// the soft cap in a straight line, and twice as steep from the soft cap to the hard cap. Above, it goes on rising for
    /// what is more than unavoidable only. What could not have gone another way at all costs nothing.
    ///
    /// A payer who only minds shares above the soft cap has everybody just below it, and pays most for the last percent.
    /// Many who each pay a little to have every share smaller spread twice as much for the same money. That it rises no
    /// further below the unavoidable keeps prices honest where few share everything: avoiding each of them is worth the
    /// same then, and the cheaper one is taken.
    pub fn price_msat(&self, caps: &Caps, share: Share, usual_msat: u64) -> u64 {
        let begin = caps.soft_ppm / BEGIN_PART;
        let above = |cap: u32| u128::from(share.observed_ppm.saturating_sub(cap.max(share.forced_ppm)));
        let room = |cap: u32| u128::from(caps.hard_ppm.saturating_sub(cap));
        let at_hard_cap = (room(begin) + room(caps.soft_ppm)).max(1);
        let below = (above(begin) + above(caps.soft_ppm)).min(at_hard_cap);
        let beyond = 2 * above(caps.hard_ppm.max(share.unavoidable_ppm));
        let worth = u128::from(usual_msat) * u128::from(self.price_at_hard_cap_percent);
        u64::try_from(worth * (below + beyond) / (at_hard_cap * 100)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(observed_ppm: u32, unavoidable_ppm: u32, forced_ppm: u32) -> u64 {
        let policy = FairnessPolicy::default();
        let share = Share {
            observed_ppm,
            unavoidable_ppm,
            forced_ppm,
        };
        policy.price_msat(&policy.entity, share, 1_000)
    }

    #[test]
    fn price_begins_below_the_soft_cap_and_is_twice_as_steep_above_it() {
        assert_eq!((price(0, 0, 0), price(10_000, 0, 0)), (0, 0));
        let gentle = price(90_000, 0, 0) - price(80_000, 0, 0);
        let steep = price(210_000, 0, 0) - price(200_000, 0, 0);
        assert_eq!((gentle, steep), (204, 408));
        assert_eq!(
            price(300_000, 0, 0),
            10_000,
            "ten times what is usual, at the hard cap"
        );
        let policy = FairnessPolicy::default();
        let all = Share {
            observed_ppm: u32::MAX,
            ..Share::default()
        };
        let dearest = policy.price_msat(&policy.entity, all, u64::MAX);
        assert_eq!(dearest, u64::MAX, "and never overflows");
    }

    #[test]
    fn what_cannot_go_another_way_costs_nothing() {
        assert_eq!(price(400_000, 400_000, 400_000), 0);
        assert!(price(500_000, 400_000, 400_000) > 0);
    }

    #[test]
    fn of_few_who_share_everything_only_who_has_more_than_is_unavoidable_is_dearer() {
        assert_eq!(price(480_000, 500_000, 0), price(500_000, 500_000, 0));
        assert_eq!(price(520_000, 500_000, 0) - price(500_000, 500_000, 0), 816);
    }

    #[test]
    fn caps_that_contradict_each_other_are_refused() {
        let policy = FairnessPolicy::default();
        assert_eq!(policy.check(), Ok(()));
        let with = |change: fn(&mut FairnessPolicy)| {
            let mut changed = policy;
            change(&mut changed);
            changed.check()
        };
        assert_eq!(
            with(|p| p.entity.soft_ppm = p.entity.hard_ppm),
            Err(PolicyError::Caps)
        );
        assert_eq!(with(|p| p.group.hard_ppm = 1_000_001), Err(PolicyError::Caps));
        assert_eq!(
            with(|p| p.group.hard_ppm = 299_999),
            Err(PolicyError::GroupBelowEntity)
        );
        assert_eq!(
            with(|p| p.group.soft_ppm = 99_999),
            Err(PolicyError::GroupBelowEntity)
        );
    }
}
