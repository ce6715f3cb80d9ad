//! Payments that were sent off and whose outcome is not known yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::wallet::PaymentHash;

/// Payments at once whose outcome is not known. The core has far fewer under way; what fills it is a service that
/// never answers, and beginning more there would not help.
const MAX_BEGUN: usize = 4096;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Begun {
    payments: Mutex<BTreeMap<PaymentHash, Entry>>,
}

/// One payment under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The unix time after which no request for it can be on its way any more.
    until: Duration,
    /// Whether the service's books may show the failure of an earlier attempt, which says nothing of this one.
    pub(super) failed_before: bool,
}

/// Whether a payment may be sent off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// It may, by whoever asked.
    First,
    /// Somebody has sent it off already.
    Already,
    /// There are that many already.
    Full(usize),
}

impl Begun {
    /// Writes a payment down, unless it is there.
    pub(super) fn begin(
        &self,
        payment_hash: PaymentHash,
        until: Duration,
        failed_before: bool,
        now: Duration,
    ) -> Begin {
        let mut payments = self.lock();
        if payments
            .get(&payment_hash)
            .is_some_and(|entry| now <= entry.until)
        {
            return Begin::Already;
        }
        if payments.len() >= MAX_BEGUN {
            payments.retain(|_, entry| now <= entry.until);
        }
        if payments.len() >= MAX_BEGUN {
            return Begin::Full(MAX_BEGUN);
        }
        let entry = Entry { until, failed_before };
        payments.insert(payment_hash, entry);
        Begin::First
    }

    /// The payment, if it is under way.
    pub(super) fn look(&self, payment_hash: &PaymentHash, now: Duration) -> Option<Entry> {
        let payments = self.lock();
        payments
            .get(payment_hash)
            .filter(|entry| now <= entry.until)
            .copied()
    }

    /// Its attempt was answered: the service's books hold for it from now on.
    pub(super) fn answered(&self, payment_hash: &PaymentHash) {
        if let Some(entry) = self.lock().get_mut(payment_hash) {
            entry.failed_before = false;
        }
    }

    /// Its outcome is known.
    pub(super) fn forget(&self, payment_hash: &PaymentHash) {
        self.lock().remove(payment_hash);
    }

    /// No call panics while it holds the lock, and the map is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PaymentHash, Entry>> {
        self.payments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Duration = Duration::from_secs(10);
    const LATE: Duration = Duration::from_secs(20);

    #[test]
    fn a_payment_is_begun_once_until_its_outcome_is_known_or_its_invoice_long_expired() {
        let begun = Begun::default();
        let first = || begun.begin([1; 32], LATE, false, EARLY);
        assert_eq!(first(), Begin::First);
        assert_eq!(first(), Begin::Already);
        assert!(begun.look(&[1; 32], LATE).is_some());
        assert!(begun.look(&[1; 32], LATE + EARLY).is_none());
        assert_eq!(begun.begin([1; 32], LATE * 2, false, LATE + EARLY), Begin::First);
        begun.forget(&[1; 32]);
        assert_eq!(first(), Begin::First);
    }

    #[test]
    fn there_are_never_more_than_the_bound_and_those_that_are_over_make_room() {
        let begun = Begun::default();
        let hash = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            hash
        };
        for number in 0..MAX_BEGUN {
            assert_eq!(begun.begin(hash(number), LATE, false, EARLY), Begin::First);
        }
        let one_more = || hash(MAX_BEGUN);
        assert_eq!(
            begun.begin(one_more(), LATE, false, EARLY),
            Begin::Full(MAX_BEGUN)
        );
        assert_eq!(
            begun.begin(one_more(), LATE * 2, false, LATE + EARLY),
            Begin::First
        );
    }
}
