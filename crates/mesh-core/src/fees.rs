//! Who gets how much: the split of a payment, and the least payment that covers everybody's price.
//!
//! A *slice* is one purchase of credit along a route. Of its total F the destination keeps 60 %, the routers
//! 30 % between them, and the treasury 10 %. The split is made once per slice, in whole millisatoshi, and is
//! nested:
//!
//! ```text
//! F ──┬── P = ⌊4F/10⌋ ──┬── treasury = ⌊P/4⌋        (the same as ⌊F/10⌋)
//!     │                 └── routers' pool = P − treasury, equally; the first ones get the odd msat
//!     └── destination = F − P
//! ```
//!
//! Nested, because rounding 30 % and 10 % down separately would let the destination's share *fall* by one
//! msat when F rises by one, and then "the least total that covers every price" could not be found by looking
//! for it. Here each step moves by nought or one when F rises by one, so no share ever falls, and the shares
//! sum to F by construction.
//!
//! Payer and payees each compute these figures by themselves, and a payee refuses when they differ: every
//! function here is exact, without floats, and answers [`FeeError::Overflow`] rather than a wrapped figure.

use crate::chain::MSAT_PER_SAT;
use crate::limits::MAX_HOPS;

/// Most routers on a route: every hop but the last, which is the destination.
pub const MAX_ROUTERS: usize = MAX_HOPS - 1;

/// Why no fee could be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeeError {
    /// More routers than a route may have.
    #[error("a route with {routers} routers is too long: at most {MAX_ROUTERS} fit; choose a shorter route")]
    TooManyRouters {
        /// Routers asked for.
        routers: usize,
    },
    /// The figure does not fit in 64 bits of millisatoshi: more than all bitcoin there will ever be.
    #[error(
        "the fee exceeds 2^64 msat, more than all bitcoin: the prices make no sense, choose another route"
    )]
    Overflow,
}

/// One slice's total, split among treasury, routers and destination. The parts sum to the total exactly, and
/// none of them is smaller than in the split of a smaller total over as many routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    treasury: u64,
    pool: u64,
    routers: usize,
    destination: u64,
}

impl Split {
    /// Splits `total_msat` on a route with `routers` routers (0 to [`MAX_ROUTERS`]) between source and
    /// destination. Without routers their part is the destination's.
    pub fn of(total_msat: u64, routers: usize) -> Result<Self, FeeError> {
        check_routers(routers)?;
        let shared = two_fifths(total_msat);
        let treasury = shared / 4;
        let pool = if routers == 0 { 0 } else { shared - treasury };
        Ok(Self {
            treasury,
            pool,
            routers,
            destination: total_msat - treasury - pool,
        })
    }

    /// The total that was split, in msat.
    pub fn total_msat(&self) -> u64 {
        self.treasury + self.pool + self.destination
    }

    /// The treasury's part, in msat: 10 %, rounded down. The destination collects it and owes it on.
    pub fn treasury_msat(&self) -> u64 {
        self.treasury
    }

    /// What all routers get together, in msat: 30 %, or nothing where there are none.
    pub fn routers_msat(&self) -> u64 {
        self.pool
    }

    /// The destination's own share, in msat, without the treasury's part that it collects.
    pub fn destination_msat(&self) -> u64 {
        self.destination
    }

    /// Payees on the route: the routers and the destination.
    pub fn payees(&self) -> usize {
        self.routers + 1
    }

    /// The own share in msat of the payee at hop `index`: 0 is the first router, the last is the destination.
    /// `None` beyond the destination.
    pub fn share(&self, index: usize) -> Option<u64> {
        if index < self.routers {
            let routers = self.routers as u64;
            Some(self.pool / routers + u64::from((index as u64) < self.pool % routers))
        } else if index == self.routers {
            Some(self.destination)
        } else {
            None
        }
    }

    /// What is paid to the payee at hop `index`, in msat: its share, and at the destination the treasury's
    /// part as well. `None` beyond the destination. The payments sum to the total.
    pub fn payment(&self, index: usize) -> Option<u64> {
        let share = self.share(index)?;
        Some(if index == self.routers {
            share + self.treasury
        } else {
            share
        })
    }
}

/// The least total in msat at which every router's share covers its minimum, in route order, and the
/// destination's own share covers its own. 0 when all minimums are 0: a wholly free route costs nothing.
pub fn least_total(router_minimums_msat: &[u64], destination_minimum_msat: u64) -> Result<u64, FeeError> {
    let routers = router_minimums_msat.len();
    check_routers(routers)?;
    let for_routers = router_minimums_msat
        .iter()
        .enumerate()
        .map(|(index, &minimum)| least_total_for_router(index, routers, minimum))
        .max()
        .unwrap_or(0);
    let for_destination = least_total_for_destination(routers, destination_minimum_msat);
    u64::try_from(for_routers.max(for_destination)).map_err(|_| FeeError::Overflow)
}

/// What offered totals are multiples of over a route with `routers` routers, in msat: then every share is a whole
/// satoshi and every part exactly 60, 30 and 10 %. Wallets such as LNbits make invoices over whole satoshis only, and
/// outputs on the chain hold nothing else.
pub fn total_step_msat(routers: usize) -> u64 {
    // A router gets 3/10 of the total divided by their number, the treasury 1/10.
    10 * MSAT_PER_SAT * routers.max(1) as u64
}

/// The price in msat of a slice of `units` units of traffic: the least total at which every payee gets at
/// least its price for all of them, and at least `min_share_msat`, since common Lightning nodes refuse
/// smaller payments. The minimum holds for payees with price 0 too: on a route that costs anything the split
/// gives them a share all the same, and it has to be payable. A route on which everybody's price is 0 costs
/// 0.
pub fn slice_total(
    router_prices_msat: &[u64],
    destination_price_msat: u64,
    units: u64,
    min_share_msat: u64,
) -> Result<u64, FeeError> {
    check_routers(router_prices_msat.len())?;
    let prices = router_prices_msat.iter().chain([&destination_price_msat]);
    if units == 0 || prices.into_iter().all(|&price| price == 0) {
        return Ok(0);
    }
    let minimum = |price: u64| {
        Ok(price
            .checked_mul(units)
            .ok_or(FeeError::Overflow)?
            .max(min_share_msat))
    };
    let mut minimums = [0; MAX_ROUTERS];
    for (slot, &price) in minimums.iter_mut().zip(router_prices_msat) {
        *slot = minimum(price)?;
    }
    least_total(
        &minimums[..router_prices_msat.len()],
        minimum(destination_price_msat)?,
    )
}

/// What a route is estimated to cost in msat before anybody signed a price: `base_cost_msat` per hop, of
/// which there are `route_len`, and `ppm` millionths of the amount sent, rounded down.
pub fn calculate_fee(
    route_len: usize,
    base_cost_msat: u64,
    amount_msat: u64,
    ppm: u64,
) -> Result<u64, FeeError> {
    let hops = u64::try_from(route_len).map_err(|_| FeeError::Overflow)?;
    let base = u128::from(base_cost_msat) * u128::from(hops);
    let percentage = u128::from(amount_msat) * u128::from(ppm) / 1_000_000;
    // Two products of 64-bit numbers may exceed 128 bits by their sum.
    let fee = base.checked_add(percentage).ok_or(FeeError::Overflow)?;
    u64::try_from(fee).map_err(|_| FeeError::Overflow)
}

fn check_routers(routers: usize) -> Result<(), FeeError> {
    if routers > MAX_ROUTERS {
        Err(FeeError::TooManyRouters { routers })
    } else {
        Ok(())
    }
}

/// ⌊4F/10⌋, in 64 bits for every F.
fn two_fifths(total: u64) -> u64 {
    total / 5 * 2 + total % 5 * 2 / 5
}

/// The least F that gives router `index` of `routers` at least `minimum`: the three roundings of the split
/// undone one after the other, each time for the smallest figure that still rounds to enough.
fn least_total_for_router(index: usize, routers: usize, minimum: u64) -> u128 {
    if minimum == 0 {
        return 0;
    }
    // share = ⌊(pool + routers − 1 − index) / routers⌋, since the first routers get the odd msat.
    let pool = u128::from(minimum) * routers as u128 - (routers - 1 - index) as u128;
    // pool = P − ⌊P/4⌋ = ⌈3P/4⌉
    let shared = 4 * (pool - 1) / 3 + 1;
    // P = ⌊2F/5⌋
    (5 * shared).div_ceil(2)
}

/// The least F that leaves the destination at least `minimum`: it keeps ⌈3F/5⌉, and ⌈9F/10⌉ without routers.
fn least_total_for_destination(routers: usize, minimum: u64) -> u128 {
    if minimum == 0 {
        return 0;
    }
    let below = u128::from(minimum) - 1;
    if routers == 0 {
        10 * below / 9 + 1
    } else {
        5 * below / 3 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_totals_split_into_whole_satoshis_and_whole_percentages() {
        for routers in 0..=MAX_ROUTERS {
            for times in [1, 2, 7] {
                let offered = times * total_step_msat(routers);
                let split = Split::of(offered, routers).unwrap();
                assert_eq!(split.treasury_msat() * 10, offered);
                if routers > 0 {
                    assert_eq!(split.destination_msat() * 10, offered * 6);
                    assert_eq!(split.routers_msat() * 10, offered * 3);
                }
                for share in 0..split.payees() {
                    assert_eq!(split.payment(share).unwrap() % MSAT_PER_SAT, 0);
                }
            }
        }
    }

    use proptest::prelude::*;

    fn shares(split: &Split) -> Vec<u64> {
        (0..split.payees())
            .map(|index| split.share(index).unwrap())
            .collect()
    }

    #[test]
    fn sixty_thirty_ten_exactly_where_it_divides() {
        let split = Split::of(100_000, 3).unwrap();
        assert_eq!(shares(&split), [10_000, 10_000, 10_000, 60_000]);
        assert_eq!(split.treasury_msat(), 10_000);
        assert_eq!(split.payment(3), Some(70_000));
        assert_eq!(split.share(4), None);
        assert_eq!(split.payment(4), None);
    }

    #[test]
    fn first_routers_get_the_odd_millisatoshi() {
        let split = Split::of(1_010, 4).unwrap();
        assert_eq!(split.routers_msat(), 303);
        assert_eq!(shares(&split), [76, 76, 76, 75, 606]);
    }

    #[test]
    fn without_routers_their_part_is_the_destinations() {
        let split = Split::of(1_009, 0).unwrap();
        assert_eq!(
            (
                split.treasury_msat(),
                split.routers_msat(),
                split.destination_msat()
            ),
            (100, 0, 909)
        );
    }

    #[test]
    fn whole_range_of_totals_is_split_without_overflow() {
        for routers in 0..=MAX_ROUTERS {
            for total in [0, 1, 2, 3, 4, 5, 9, 10, u64::MAX - 1, u64::MAX] {
                assert_eq!(Split::of(total, routers).unwrap().total_msat(), total);
            }
        }
        assert_eq!(
            Split::of(1, MAX_ROUTERS + 1),
            Err(FeeError::TooManyRouters {
                routers: MAX_ROUTERS + 1
            })
        );
    }

    #[test]
    fn free_route_costs_nothing_and_one_price_makes_every_share_payable() {
        assert_eq!(slice_total(&[0, 0], 0, 64, 1_000), Ok(0));
        assert_eq!(slice_total(&[5, 5], 5, 0, 1_000), Ok(0));
        let split = Split::of(slice_total(&[0, 0], 1, 1, 1_000).unwrap(), 2).unwrap();
        assert!(shares(&split).iter().all(|share| *share >= 1_000));
    }

    #[test]
    fn price_beyond_all_bitcoin_is_refused_instead_of_wrapped() {
        assert_eq!(least_total(&[], u64::MAX), Err(FeeError::Overflow));
        assert_eq!(least_total(&[u64::MAX; MAX_ROUTERS], 0), Err(FeeError::Overflow));
        assert_eq!(slice_total(&[2], 0, u64::MAX, 1), Err(FeeError::Overflow));
        assert_eq!(
            least_total(&[0; MAX_HOPS], 0),
            Err(FeeError::TooManyRouters { routers: MAX_HOPS })
        );
        assert_eq!(
            slice_total(&[0; MAX_HOPS], 0, 1, 1),
            Err(FeeError::TooManyRouters { routers: MAX_HOPS })
        );
    }

    #[test]
    fn estimate_is_base_per_hop_and_a_percentage_of_the_amount() {
        assert_eq!(calculate_fee(3, 1_000, 5_000_000, 100), Ok(3_500));
        assert_eq!(calculate_fee(0, u64::MAX, 1_999_999, 1), Ok(1));
        // The sum of the two parts exceeds even 128 bits, by so little that it would wrap to a plausible fee.
        assert_eq!(
            calculate_fee(usize::MAX, u64::MAX, u64::MAX, 2_000_001),
            Err(FeeError::Overflow)
        );
        assert_eq!(calculate_fee(2, u64::MAX, 0, 0), Err(FeeError::Overflow));
        assert_eq!(
            calculate_fee(usize::MAX, u64::MAX, u64::MAX, u64::MAX),
            Err(FeeError::Overflow)
        );
    }

    /// Totals of every magnitude: uniform numbers alone would be of 63 bits, and never small.
    fn any_total() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift)
    }

    proptest! {
        #[test]
        fn nothing_is_made_or_lost_on_any_route(total in any_total(), routers in 0..=MAX_ROUTERS) {
            let split = Split::of(total, routers).unwrap();
            let sum: u128 = shares(&split).into_iter().map(u128::from).sum();
            prop_assert_eq!(sum + u128::from(split.treasury_msat()), u128::from(total));
            let paid: u128 = (0..split.payees()).map(|index| u128::from(split.payment(index).unwrap())).sum();
            prop_assert_eq!(paid, u128::from(total));
            prop_assert_eq!(split.treasury_msat(), total / 10);
        }

        #[test]
        fn tenths_are_exact_when_the_total_divides(tenth in 0..=u64::MAX / 10, routers in 1..=MAX_ROUTERS) {
            let split = Split::of(tenth * 10, routers).unwrap();
            prop_assert_eq!(split.destination_msat(), tenth * 6);
            prop_assert_eq!(split.routers_msat(), tenth * 3);
            prop_assert_eq!(split.treasury_msat(), tenth);
        }

        #[test]
        fn no_share_falls_when_the_total_rises(
            total in any_total(), more in prop_oneof![1u64..20, any_total()], routers in 0..=MAX_ROUTERS
        ) {
            let less = Split::of(total, routers).unwrap();
            let more = Split::of(total.saturating_add(more), routers).unwrap();
            prop_assert!(more.treasury_msat() >= less.treasury_msat());
            for (before, after) in shares(&less).into_iter().zip(shares(&more)) {
                prop_assert!(after >= before);
            }
        }

        #[test]
        fn least_total_covers_every_minimum_and_one_less_does_not(
            routers in proptest::collection::vec(any_total().prop_map(|m| m >> 6), 0..=MAX_ROUTERS),
            destination in any_total().prop_map(|minimum| minimum >> 1),
        ) {
            let covers = |total| {
                let split = Split::of(total, routers.len()).unwrap();
                let minimums = routers.iter().chain([&destination]);
                shares(&split).iter().zip(minimums).all(|(share, minimum)| share >= minimum)
            };
            let total = least_total(&routers, destination).unwrap();
            prop_assert!(covers(total));
            prop_assert!(total == 0 || !covers(total - 1));
        }

        #[test]
        fn least_total_answers_overflow_only_when_no_total_covers(
            routers in proptest::collection::vec(any::<u64>(), 0..=MAX_ROUTERS), destination in any::<u64>(),
        ) {
            let most = shares(&Split::of(u64::MAX, routers.len()).unwrap());
            let needs = routers.iter().chain([&destination]);
            let coverable = most.iter().zip(needs).all(|(most, need)| most >= need);
            prop_assert_eq!(least_total(&routers, destination).is_ok(), coverable);
        }

        #[test]
        fn slice_pays_everybody_the_price_of_every_unit(
            routers in proptest::collection::vec(0u64..1_000_000, 0..=MAX_ROUTERS),
            destination in 0u64..1_000_000, units in 1u64..100_000, min_share in 0u64..10_000,
        ) {
            let total = slice_total(&routers, destination, units, min_share).unwrap();
            let prices = routers.iter().chain([&destination]);
            for (share, price) in shares(&Split::of(total, routers.len()).unwrap()).iter().zip(prices) {
                prop_assert!(*share >= price * units);
                prop_assert!(total == 0 || *share >= min_share);
            }
        }
    }
}
