//! A price that follows the fee rate of the chain: when blocks are full, being paid and settling is dear for everybody.
//!
//! The configured price holds at the reference fee rate; at another it is as much higher or lower, within bounds. The
//! operator names the bounds because the fee rate is not his: a single block of spam doubles it, and whoever sits in the
//! node can tell of any. A price moves only when it would move by a tenth, and not twice within a minute: every change is
//! announced to the whole mesh and takes the old routes away.

use std::time::Duration;

/// Least time between two changes.
pub const REPRICE_EVERY: Duration = Duration::from_secs(60);

/// A price that is less than this much away from what it should be stays, in percent.
const STAYS_WITHIN_PERCENT: u128 = 10;

/// How the price follows the fee rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeRatePricing {
    /// The fee rate at which the configured price holds, in satoshi per virtual byte; at least 1.
    pub reference_sat_per_vbyte: u64,
    /// The least that is asked, in percent of the configured price; 1 to 100.
    pub least_percent: u64,
    /// The most that is asked, in percent of the configured price; 100 or more.
    pub most_percent: u64,
}

impl Default for FeeRatePricing {
    fn default() -> Self {
        Self {
            reference_sat_per_vbyte: 10,
            least_percent: 50,
            most_percent: 400,
        }
    }
}

impl FeeRatePricing {
    /// What is asked per unit at a fee rate, in msat, rounded up. A rate of 0 is one that nobody knows: the configured
    /// price then holds.
    pub fn price_msat(&self, configured_msat: u64, sat_per_vbyte: u64) -> u64 {
        if sat_per_vbyte == 0 {
            return configured_msat;
        }
        let rate = u128::from(sat_per_vbyte) * 100;
        let percent = rate / u128::from(self.reference_sat_per_vbyte.max(1));
        let percent = percent.clamp(self.least_percent.into(), self.most_percent.into());
        let msat = (u128::from(configured_msat) * percent).div_ceil(100);
        u64::try_from(msat).unwrap_or(u64::MAX)
    }

    /// The price to change to, if the present one is too far from what it should be.
    pub fn change(&self, configured_msat: u64, present_msat: u64, sat_per_vbyte: u64) -> Option<u64> {
        let wanted = self.price_msat(configured_msat, sat_per_vbyte);
        let away = u128::from(wanted.abs_diff(present_msat)) * 100;
        (away > u128::from(present_msat) * STAYS_WITHIN_PERCENT).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: FeeRatePricing = FeeRatePricing {
        reference_sat_per_vbyte: 10,
        least_percent: 50,
        most_percent: 400,
    };

    #[test]
    fn price_moves_with_the_fee_rate_and_never_out_of_its_bounds() {
        let prices = [0, 1, 5, 10, 20, 40, 41, u64::MAX].map(|rate| RULE.price_msat(10, rate));
        assert_eq!(prices, [10, 5, 5, 10, 20, 40, 40, 40]);
        assert_eq!(RULE.price_msat(0, 1000), 0, "who carries for nothing goes on so");
        assert_eq!(RULE.price_msat(1, 1), 1, "rounded up");
        assert_eq!(RULE.price_msat(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn price_stays_until_it_is_a_tenth_off() {
        assert_eq!(RULE.change(100, 100, 11), None);
        assert_eq!(RULE.change(100, 100, 9), None);
        assert_eq!(RULE.change(100, 100, 12), Some(120));
        assert_eq!(RULE.change(100, 120, 10), Some(100));
        assert_eq!(RULE.change(0, 0, 500), None);
    }
}
