//! How concentrated shares are.

/// Parts per million.
pub const PPM: u64 = 1_000_000;

/// How fees, or packets, were spread. Shares are in parts per million, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measures {
    /// Who earned anything.
    pub entities: u64,
    /// Share of the largest.
    pub top1_ppm: u32,
    /// Share of the five largest together.
    pub top5_ppm: u32,
    /// Herfindahl–Hirschman index: the sum of the squared shares. One over it is how many equals would be as
    /// concentrated.
    pub hhi_ppm: u32,
    /// The fewest that together have more than a third; 0 if nobody has anything.
    pub nakamoto_33: u32,
    /// The fewest that together have more than half; 0 if nobody has anything.
    pub nakamoto_50: u32,
}

impl Measures {
    /// Of these weights, in any order.
    pub fn of(weights: impl IntoIterator<Item = u64>) -> Self {
        let mut weights: Vec<u64> = weights.into_iter().filter(|weight| *weight > 0).collect();
        weights.sort_unstable_by_key(|weight| std::cmp::Reverse(*weight));
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        if total == 0 {
            return Self::default();
        }
        let first = |count: usize| {
            weights
                .iter()
                .take(count)
                .map(|weight| u128::from(*weight))
                .sum::<u128>()
        };
        Self {
            entities: weights.len() as u64,
            top1_ppm: ppm(first(1), total),
            top5_ppm: ppm(first(5), total),
            hhi_ppm: hhi_ppm(&weights, total),
            nakamoto_33: fewest_above(&weights, total, 3),
            nakamoto_50: fewest_above(&weights, total, 2),
        }
    }
}

/// `part` of `whole` in parts per million, rounded down; 0 of nothing.
pub fn ppm(part: u128, whole: u128) -> u32 {
    // No more than a million if part <= whole, which is capped here.
    let share = part.min(whole).saturating_mul(u128::from(PPM)).checked_div(whole);
    share.unwrap_or(0) as u32
}

fn hhi_ppm(weights: &[u64], total: u128) -> u32 {
    // Shares in 2^-40ths, so that thousands of small ones do not all round to nothing.
    let squares = weights.iter().map(|weight| {
        let share = (u128::from(*weight) << 40) / total;
        share * share
    });
    let sum: u128 = squares.sum();
    ppm(sum >> 40, 1 << 40)
}

fn fewest_above(weights: &[u64], total: u128, parts: u128) -> u32 {
    let mut sum = 0;
    let mut count = 0;
    for weight in weights {
        sum += u128::from(*weight);
        count += 1;
        if sum * parts > total {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equals_are_as_concentrated_as_their_number_says() {
        let measures = Measures::of([10; 20]);
        assert_eq!((measures.top1_ppm, measures.top5_ppm), (50_000, 250_000));
        assert_eq!(measures.hhi_ppm, 49_999, "one twentieth, rounded down");
        assert_eq!((measures.nakamoto_33, measures.nakamoto_50), (7, 11));
    }

    #[test]
    fn one_who_has_all_is_all_there_is_and_nobody_is_nothing() {
        let monopoly = Measures::of([0, u64::MAX, 0]);
        assert_eq!(
            (monopoly.entities, monopoly.top1_ppm, monopoly.hhi_ppm),
            (1, 1_000_000, 1_000_000)
        );
        assert_eq!((monopoly.nakamoto_33, monopoly.nakamoto_50), (1, 1));
        assert_eq!(Measures::of([]), Measures::default());
        assert_eq!(Measures::of([0, 0]), Measures::default());
    }

    proptest! {
        #[test]
        fn measures_stay_within_what_they_mean(weights in prop::collection::vec(0u64..u64::MAX, 0..200)) {
            let measures = Measures::of(weights.iter().copied());
            prop_assert!(u64::from(measures.top5_ppm) <= PPM && measures.top1_ppm <= measures.top5_ppm);
            // A square of the largest share is in the index, and the index is no more than the largest share.
            let top1 = u64::from(measures.top1_ppm);
            prop_assert!(u64::from(measures.hhi_ppm) <= top1 + 1);
            prop_assert!(u64::from(measures.hhi_ppm) + 2 >= top1 * top1 / PPM);
            prop_assert!(measures.nakamoto_33 <= measures.nakamoto_50);
            prop_assert!(u64::from(measures.nakamoto_50) <= measures.entities);
        }

        /// Splitting a weight never makes it look more concentrated; merging never less.
        #[test]
        fn merging_two_never_lowers_concentration(mut weights in prop::collection::vec(1u64..1 << 40, 2..50)) {
            let apart = Measures::of(weights.iter().copied());
            let merged = weights.pop().unwrap();
            weights[0] += merged;
            let together = Measures::of(weights.iter().copied());
            prop_assert!(together.hhi_ppm + 1 >= apart.hhi_ppm);
            prop_assert!(together.top1_ppm >= apart.top1_ppm);
            prop_assert!(together.nakamoto_50 <= apart.nakamoto_50);
        }
    }
}
