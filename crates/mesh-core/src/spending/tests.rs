mod twin;

use super::budget::HOUR;
use super::*;
use crate::limits::MAX_MODULE_NAME_BYTES;
use crate::time::Instant;

const SECOND: u64 = 1_000_000;

const CAPS: SpendingCaps = SpendingCaps {
    per_packet_msat: 100,
    max_total_msat: 1_000,
    per_hour_msat: 3_000,
    per_day_msat: 10_000,
    per_destination_day_msat: 5_000,
    per_caller_day_msat: 4_000,
    unidentified_day_msat: 2_000,
    max_fee_msat: 50,
};

/// Caps that forbid nothing but what a test is about.
const WIDE: SpendingCaps = SpendingCaps {
    per_packet_msat: u64::MAX,
    max_total_msat: u64::MAX,
    per_hour_msat: u64::MAX,
    per_day_msat: u64::MAX,
    per_destination_day_msat: u64::MAX,
    per_caller_day_msat: u64::MAX,
    unidentified_day_msat: u64::MAX,
    max_fee_msat: u64::MAX,
};

fn at(seconds: u64) -> Now {
    Now {
        instant: Instant(seconds * SECOND),
        unix: UnixMillis(1_700_000_000_000 + seconds * 1000),
    }
}

fn module(name: &str) -> Caller {
    Caller::Module(ModuleName::new(name).unwrap())
}

fn purchase(destination: u8, shares_msat: u64) -> Purchase {
    Purchase {
        destination: NodeId([destination; 32]),
        shares_msat,
        fees_msat: 0,
        packet_msat: 1,
        drawn_msat: 0,
    }
}

/// Spending with a fresh name for every purchase.
struct Payer {
    spending: Spending,
    next: u128,
}

impl Payer {
    fn new(caps: SpendingCaps) -> Self {
        Self {
            spending: Spending::new(caps),
            next: 0,
        }
    }

    fn reserve(
        &mut self,
        seconds: u64,
        caller: &Caller,
        purchase: &Purchase,
    ) -> Result<Reservation, SpendingRefusal> {
        self.next += 1;
        let id = self.next.to_be_bytes();
        let reserved = self.spending.reserve(at(seconds), id, caller, purchase);
        reserved.map(|(reservation, _)| reservation)
    }

    /// Reserves and pays in full.
    fn pay(&mut self, seconds: u64, caller: &Caller, purchase: &Purchase) -> Result<(), SpendingRefusal> {
        let reservation = self.reserve(seconds, caller, purchase)?;
        let msat = reservation.msat();
        self.spending.settle(at(seconds), reservation, msat, 0);
        Ok(())
    }

    /// Which cap refuses, what is left of it, and when it frees.
    fn refused_by(
        &mut self,
        seconds: u64,
        caller: &Caller,
        purchase: &Purchase,
    ) -> (SpendingCap, u64, Option<Duration>) {
        match self.reserve(seconds, caller, purchase) {
            Err(SpendingRefusal::Above {
                cap,
                left_msat,
                frees_in,
                ..
            }) => (cap, left_msat, frees_in),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn without_the_operators_word_nothing_is_paid() {
    let mut payer = Payer::new(SpendingCaps::default());
    for caller in [Caller::Operator, module("chat"), Caller::Unidentified] {
        let refused = payer.reserve(0, &caller, &purchase(1, 1));
        assert_eq!(refused, Err(SpendingRefusal::Off));
    }
}

#[test]
fn one_packet_may_not_cost_more_than_its_cap() {
    let mut payer = Payer::new(CAPS);
    let dear = Purchase {
        packet_msat: 101,
        ..purchase(1, 500)
    };
    assert_eq!(
        payer.refused_by(0, &module("chat"), &dear),
        (SpendingCap::Packet, 100, None)
    );
    assert!(payer.spending.allows_packet(100).is_ok());
    assert!(payer.spending.allows_packet(101).is_err());
}

#[test]
fn one_purchase_may_not_cost_more_than_its_cap() {
    let mut payer = Payer::new(CAPS);
    assert_eq!(
        payer.refused_by(0, &module("chat"), &purchase(1, 1_001)),
        (SpendingCap::Total, 1_000, None)
    );
    assert_eq!(payer.pay(0, &module("chat"), &purchase(1, 1_000)), Ok(()));
}

#[test]
fn an_hour_has_its_cap_and_says_when_it_frees() {
    let mut payer = Payer::new(CAPS);
    for (place, caller) in ["a", "b", "c"].iter().enumerate() {
        payer
            .pay(place as u64 * 600, &module(caller), &purchase(1, 900))
            .unwrap();
    }
    let (cap, left, frees_in) = payer.refused_by(1800, &module("d"), &purchase(1, 400));
    assert_eq!((cap, left), (SpendingCap::Hour, 300));
    // The first is forgotten an hour and a step after the beginning of its step.
    assert_eq!(frees_in, Some(Duration::from_secs(3660 - 1800)));
    assert!(payer.pay(3659, &module("d"), &purchase(1, 301)).is_err());
    assert_eq!(payer.pay(3660, &module("d"), &purchase(1, 400)), Ok(()));
}

#[test]
fn a_day_has_its_cap() {
    let mut payer = Payer::new(SpendingCaps {
        per_destination_day_msat: u64::MAX,
        ..CAPS
    });
    for hour in 0..10 {
        payer
            .pay(hour * 4000, &module(&format!("m{hour}")), &purchase(1, 1_000))
            .unwrap();
    }
    let (cap, left, frees_in) = payer.refused_by(50_000, &module("last"), &purchase(1, 1));
    assert_eq!((cap, left), (SpendingCap::Day, 0));
    assert!(frees_in.is_some_and(|span| span.as_secs() <= 24 * 3600 + 900 - 50_000));
}

#[test]
fn a_destination_has_its_cap_and_takes_nothing_from_another() {
    let mut payer = Payer::new(CAPS);
    for hour in 0..5 {
        payer
            .pay(hour * 4000, &module(&format!("m{hour}")), &purchase(1, 1_000))
            .unwrap();
    }
    let (cap, left, _) = payer.refused_by(20_000, &module("x"), &purchase(1, 1));
    assert_eq!((cap, left), (SpendingCap::Destination, 0));
    assert_eq!(payer.pay(20_000, &module("x"), &purchase(2, 1_000)), Ok(()));
}

#[test]
fn a_caller_has_its_cap_and_takes_nothing_from_another() {
    let mut payer = Payer::new(CAPS);
    for hour in 0..4 {
        payer
            .pay(hour * 4000, &module("greedy"), &purchase(hour as u8, 1_000))
            .unwrap();
    }
    let (cap, left, _) = payer.refused_by(16_000, &module("greedy"), &purchase(9, 1));
    assert_eq!((cap, left), (SpendingCap::Caller, 0));
    assert_eq!(payer.pay(16_000, &module("modest"), &purchase(9, 1_000)), Ok(()));
    assert_eq!(payer.pay(16_000, &Caller::Operator, &purchase(9, 1_000)), Ok(()));
}

#[test]
fn unidentified_callers_share_one_budget_whatever_others_have() {
    let mut payer = Payer::new(CAPS);
    payer.pay(0, &Caller::Unidentified, &purchase(1, 1_000)).unwrap();
    payer
        .pay(4000, &Caller::Unidentified, &purchase(2, 1_000))
        .unwrap();
    let (cap, left, _) = payer.refused_by(8000, &Caller::Unidentified, &purchase(3, 1));
    assert_eq!((cap, left), (SpendingCap::Unidentified, 0));
    assert_eq!(payer.pay(8000, &module("named"), &purchase(3, 1_000)), Ok(()));
}

#[test]
fn two_purchases_at_once_do_not_both_take_the_last_of_a_budget() {
    let mut payer = Payer::new(CAPS);
    let first = payer
        .reserve(0, &Caller::Unidentified, &purchase(1, 1_000))
        .unwrap();
    let second = payer
        .reserve(0, &Caller::Unidentified, &purchase(2, 1_000))
        .unwrap();
    assert!(payer.reserve(0, &Caller::Unidentified, &purchase(3, 1)).is_err());
    // What was certainly not paid is free again at once; what was paid is not.
    payer.spending.settle(at(1), first, 0, 0);
    payer.spending.settle(at(1), second, 900, 0);
    let too_much = Purchase {
        fees_msat: 101,
        ..purchase(3, 1_000)
    };
    let (_, left, _) = payer.refused_by(1, &Caller::Unidentified, &too_much);
    assert_eq!(left, 2_000 - 900);
}

#[test]
fn lightning_fees_count_and_what_was_not_needed_of_them_is_given_back() {
    let mut payer = Payer::new(CAPS);
    let with_fees = Purchase {
        fees_msat: 150,
        ..purchase(1, 1_000)
    };
    let reservation = payer.reserve(0, &Caller::Unidentified, &with_fees).unwrap();
    assert_eq!(reservation.msat(), 1_150);
    payer.spending.settle(at(0), reservation, 1_010, 0);
    let (_, left, _) = payer.refused_by(0, &Caller::Unidentified, &purchase(1, 991));
    assert_eq!(left, 990);
}

#[test]
fn credit_that_others_bought_counts_for_whoever_draws_it_and_for_no_other_budget() {
    let mut payer = Payer::new(CAPS);
    let draws = Purchase {
        drawn_msat: 1_500,
        ..purchase(1, 0)
    };
    let reservation = payer.reserve(0, &Caller::Unidentified, &draws).unwrap();
    assert_eq!(
        payer.refused_by(0, &Caller::Unidentified, &draws).0,
        SpendingCap::Unidentified
    );
    let record = payer.spending.settle(at(0), reservation, 0, 1_500);
    let (cap, left, _) = payer.refused_by(0, &Caller::Unidentified, &draws);
    assert_eq!((cap, left), (SpendingCap::Unidentified, 500));
    // No money left the wallet: the hour has all of its budget.
    for number in 0..3 {
        payer
            .pay(0, &module(&number.to_string()), &purchase(1, 1_000))
            .unwrap();
    }
    let mut later = Spending::new(CAPS);
    later.restore(at(5), record);
    assert!(
        later
            .reserve(at(5), [9; 16], &Caller::Unidentified, &draws)
            .is_err()
    );
    // A purchase that failed draws nothing.
    let reservation = payer.reserve(0, &Caller::Operator, &draws).unwrap();
    assert!(payer.spending.settle(at(0), reservation, 0, 0).is_empty());
}

#[test]
fn refusal_takes_nothing() {
    let mut payer = Payer::new(CAPS);
    for _ in 0..100 {
        assert!(
            payer
                .reserve(0, &Caller::Unidentified, &purchase(1, 1_001))
                .is_err()
        );
    }
    assert_eq!(payer.pay(0, &Caller::Unidentified, &purchase(1, 1_000)), Ok(()));
}

#[test]
fn full_tables_refuse_the_new_by_name_and_forget_nothing() {
    let mut payer = Payer::new(SpendingCaps {
        per_destination_day_msat: 10,
        ..WIDE
    });
    let destination = |number: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Purchase {
            destination: NodeId(id),
            ..purchase(0, 10)
        }
    };
    for number in 0..MAX_SPENDING_DESTINATIONS {
        payer.pay(0, &module("m"), &destination(number)).unwrap();
    }
    let one_more = destination(MAX_SPENDING_DESTINATIONS);
    let full = |table| Err(SpendingRefusal::TableFull(table));
    assert_eq!(
        payer.pay(3600, &module("m"), &one_more),
        full(SpendingTable::Destinations)
    );
    assert!(
        payer.pay(3600, &module("m"), &destination(0)).is_err(),
        "the first is remembered"
    );
    // A day and a step later there is room again.
    assert_eq!(payer.pay(24 * 3600 + 900, &module("m"), &one_more), Ok(()));

    let mut payer = Payer::new(WIDE);
    for number in 0..MAX_SPENDING_CALLERS {
        payer
            .pay(0, &module(&number.to_string()), &purchase(1, 1))
            .unwrap();
    }
    assert_eq!(
        payer.pay(0, &module("one more"), &purchase(1, 1)),
        full(SpendingTable::Callers)
    );
    assert_eq!(payer.pay(0, &module("0"), &purchase(1, 1)), Ok(()));

    for _ in MAX_SPENDING_CALLERS + 1..MAX_SPENDING_RECORDS {
        payer.pay(0, &module("0"), &purchase(1, 1)).unwrap();
    }
    assert_eq!(
        payer.pay(0, &module("0"), &purchase(1, 1)),
        full(SpendingTable::Records)
    );
    assert_eq!(
        payer.spending.forget(at(24 * 3600 + 900)).len(),
        MAX_SPENDING_RECORDS
    );
    assert_eq!(payer.pay(24 * 3600 + 900, &module("0"), &purchase(1, 1)), Ok(()));
}

#[test]
fn names_of_modules_are_short_and_forge_no_log() {
    assert!(ModuleName::new("chat-1.2").is_ok());
    assert!(ModuleName::new("x".repeat(MAX_MODULE_NAME_BYTES)).is_ok());
    for bad in ["", "a\nERROR", &"x".repeat(MAX_MODULE_NAME_BYTES + 1)] {
        assert_eq!(ModuleName::new(bad), Err(BadModuleName));
    }
    let bytes = postcard::to_stdvec("a\nb").unwrap();
    assert!(postcard::from_bytes::<ModuleName>(&bytes).is_err());
}

#[test]
fn restart_refills_no_budget() {
    let mut payer = Payer::new(CAPS);
    let paid = payer
        .spending
        .reserve(at(1000), [1; 16], &Caller::Unidentified, &purchase(1, 900))
        .unwrap();
    let kept = payer.spending.settle(at(1000), paid.0, 900, 0);
    // Killed while it is under way: it may have been paid.
    let (_under_way, reserved) = payer
        .spending
        .reserve(at(2000), [2; 16], &Caller::Unidentified, &purchase(1, 1_000))
        .unwrap();

    let restarted = |hours: u64| {
        let now = Now {
            instant: Instant(5),
            ..at(2000 + hours * 3600)
        };
        let mut later = Spending::new(CAPS);
        for record in [&reserved, &kept] {
            later.restore(now, record.clone());
        }
        let most = later.reserve(now, [3; 16], &Caller::Unidentified, &purchase(1, 1_000));
        (most.map(|(reservation, _)| reservation.msat()), later)
    };
    for hours in [0, 5, 20] {
        let (refused, mut later) = restarted(hours);
        assert!(
            matches!(refused, Err(SpendingRefusal::Above { left_msat: 100, .. })),
            "{refused:?} after {hours} h"
        );
        assert!(later.forget(at(0)).is_empty());
    }
    // A day later what was decided is forgotten, and what was not counts from the restart on.
    let (refused, mut later) = restarted(25);
    assert_eq!(refused, Ok(1_000));
    let forgotten = later.forget(Now {
        instant: Instant(5),
        ..at(0)
    });
    assert_eq!(forgotten, [[1; 16]]);
}

#[test]
fn clock_set_forward_refills_no_budget_of_a_running_node() {
    let mut payer = Payer::new(CAPS);
    payer.pay(0, &Caller::Unidentified, &purchase(1, 1_000)).unwrap();
    payer.pay(1, &Caller::Unidentified, &purchase(1, 1_000)).unwrap();
    let next_year = Now {
        instant: Instant(2 * SECOND),
        unix: UnixMillis(1_800_000_000_000),
    };
    let refused = payer
        .spending
        .reserve(next_year, [9; 16], &Caller::Unidentified, &purchase(1, 1));
    assert!(refused.is_err());
}
