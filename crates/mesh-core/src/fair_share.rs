//! A budget that many share: who uses little gets through though somebody else uses all there is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bucket::TokenBucket;
use crate::identity::NodeId;
use crate::time::Instant;

/// How often what somebody used counts half as much as before.
const HALVED_EVERY: Duration = Duration::from_secs(1);

/// A token bucket whose lower half is kept for neighbours that lately used less than an even share.
///
/// A relay may send each of its neighbours only so much. If it spent that on whoever shouts loudest, one flooding
/// neighbour would make it drop the requests of all the others at the next hop, where they can no longer be told apart.
pub struct FairShare {
    bucket: TokenBucket,
    burst: u64,
    used: BTreeMap<NodeId, u64>,
    total: u64,
    halved: Instant,
}

impl FairShare {
    /// A full budget.
    pub fn new(per_second: u64, burst: u64) -> Self {
        let start = Instant(0);
        Self {
            bucket: TokenBucket::new(per_second, burst, start),
            burst,
            used: BTreeMap::new(),
            total: 0,
            halved: start,
        }
    }

    /// Takes one token for `who` if it is there and is not kept for others.
    pub fn take(&mut self, who: &NodeId, now: Instant) -> bool {
        self.halve(now);
        let mine = self.used.get(who).copied().unwrap_or(0);
        // One more than those who are active: whoever comes next must find something.
        let shares = self.used.len() as u64 + 1;
        let below_share = mine.saturating_mul(shares) <= self.total;
        let granted = (self.bucket.left(now) > self.burst / 2 || below_share) && self.bucket.take(1, now);
        if granted {
            self.total += 1;
            self.used.insert(*who, mine + 1);
        }
        granted
    }

    /// Whether it is as good as new: nobody used any of it for a while.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.halve(now);
        self.used.is_empty() && self.bucket.left(now) >= self.burst
    }

    fn halve(&mut self, now: Instant) {
        let times = (now - self.halved).as_secs() / HALVED_EVERY.as_secs();
        if times == 0 {
            return;
        }
        self.halved = self.halved + Duration::from_secs(times * HALVED_EVERY.as_secs());
        self.used.retain(|_, used| {
            *used = used
                .checked_shr(u32::try_from(times).unwrap_or(u32::MAX))
                .unwrap_or(0);
            *used > 0
        });
        self.total = self.used.values().sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_takes_all_leaves_enough_for_one_who_takes_little() {
        let (loud, quiet) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut share = FairShare::new(100, 500);
        let mut granted = [0; 2];
        for milli in 0..60_000u64 {
            let now = Instant(milli * 1000);
            granted[0] += u64::from(share.take(&loud, now));
            if milli % 100 == 0 {
                granted[1] += u64::from(share.take(&quiet, now));
            }
        }
        assert_eq!(granted[1], 600, "ten a second are below an even share");
        assert!((5_000..=6_000).contains(&granted[0]), "{granted:?}");
    }

    #[test]
    fn many_loud_ones_get_no_more_than_there_is_and_leave_nothing_behind() {
        let mut share = FairShare::new(100, 500);
        let mut granted = 0;
        for milli in 0..10_000u64 {
            for loud in 0..4u8 {
                granted += u64::from(share.take(&NodeId([loud; 32]), Instant(milli * 1000)));
            }
        }
        assert!(granted <= 500 + 1000, "{granted}");
        assert!(!share.is_full(Instant(10_000_000)) && share.is_full(Instant(3_600_000_000)));
        share.take(&NodeId([9; 32]), Instant(3_600_000_000));
        assert_eq!((share.used.len(), share.total), (1, 1));
    }
}
