//! The budget beside a naive twin that remembers every payment: whatever happens, they say the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What happens to a node that auto-pays.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Reserve {
        caller: u8,
        destination: u8,
        shares: u64,
        fees: u64,
    },
    /// The wallet pays a part, in percent, of what some reservation holds.
    Pay {
        which: prop::sample::Index,
        percent: u64,
    },
    /// Some reservation is settled with what was paid of it.
    Settle(prop::sample::Index),
    /// kill -9, and a start.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u64..=20_000_000_000).prop_map(Step::Wait),
        2 => (0u64..=90_000_000).prop_map(Step::Wait),
        8 => (0..4u8, 0..3u8, 0u64..=1_100, 0u64..=150).prop_map(|(caller, destination, shares, fees)| {
            Step::Reserve { caller, destination, shares, fees }
        }),
        8 => (any::<prop::sample::Index>(), 0u64..=100).prop_map(|(which, percent)| Step::Pay { which, percent }),
        6 => any::<prop::sample::Index>().prop_map(Step::Settle),
        1 => Just(Step::Restart),
    ]
}

fn caller(number: u8) -> Caller {
    match number {
        0 => Caller::Operator,
        1 => module("one"),
        2 => module("two"),
        _ => Caller::Unidentified,
    }
}

/// The slow and obvious twin: every payment with its exact moment.
#[derive(Default)]
struct Judge {
    payments: Vec<(u64, Caller, NodeId, u64)>,
}

impl Judge {
    /// What left the wallet within the closed window that ends at `now`.
    fn within(&self, now: u64, window: Duration, counts: impl Fn(&Caller, &NodeId) -> bool) -> u64 {
        let counted = self.payments.iter().filter(|(paid_at, caller, destination, _)| {
            now - paid_at <= micros(window) && counts(caller, destination)
        });
        counted.map(|(.., msat)| msat).sum()
    }

    fn holds(&mut self, now: u64) {
        self.payments.retain(|(paid_at, ..)| now - paid_at <= micros(DAY));
        assert!(self.within(now, HOUR, |_, _| true) <= CAPS.per_hour_msat);
        assert!(self.within(now, DAY, |_, _| true) <= CAPS.per_day_msat);
        for number in 0..4 {
            let cap = CAPS.of_caller(&caller(number)).1;
            assert!(self.within(now, DAY, |who, _| *who == caller(number)) <= cap);
        }
        for number in 0..3 {
            let to = NodeId([number; 32]);
            assert!(
                self.within(now, DAY, |_, destination| *destination == to) <= CAPS.per_destination_day_msat
            );
        }
    }
}

/// A node in time that does not forget what it wrote down.
struct Life {
    spending: Spending,
    disk: BTreeMap<RequestId, SpendingRecord>,
    /// Microseconds since the beginning of the test, and at the last start.
    time: u64,
    started: u64,
    under_way: Vec<(Reservation, u64)>,
    next: u128,
    judge: Judge,
}

impl Life {
    fn new() -> Self {
        Self {
            spending: Spending::new(CAPS),
            disk: BTreeMap::new(),
            time: 0,
            started: 0,
            under_way: Vec::new(),
            next: 0,
            judge: Judge::default(),
        }
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant(self.time - self.started),
            unix: UnixMillis(1_700_000_000_000 + self.time / 1000),
        }
    }

    fn write(&mut self, record: SpendingRecord) {
        if record.is_empty() {
            self.disk.remove(&record.id);
        } else {
            self.disk.insert(record.id, record);
        }
    }

    fn step(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Wait(micros) => self.time += micros,
            Step::Reserve {
                caller: number,
                destination,
                shares,
                fees,
            } => {
                self.next += 1;
                let wanted = Purchase {
                    fees_msat: fees,
                    ..purchase(destination, shares)
                };
                let id = self.next.to_be_bytes();
                match self.spending.reserve(now, id, &caller(number), &wanted) {
                    Ok((reservation, record)) => {
                        self.write(record);
                        self.under_way.push((reservation, 0));
                    }
                    Err(SpendingRefusal::Above {
                        frees_in: Some(frees_in),
                        ..
                    }) if self.under_way.is_empty() => {
                        self.is_free_then(id, &caller(number), &wanted, frees_in)
                    }
                    Err(_) => {}
                }
            }
            Step::Pay { which, percent } if !self.under_way.is_empty() => {
                let which = which.index(self.under_way.len());
                let (reservation, paid) = &mut self.under_way[which];
                let part = (reservation.msat - *paid) * percent / 100;
                *paid += part;
                let (caller, destination) = (reservation.caller.clone(), reservation.destination);
                self.judge.payments.push((self.time, caller, destination, part));
                self.judge.holds(self.time);
            }
            Step::Settle(which) if !self.under_way.is_empty() => {
                let (reservation, paid) = self.under_way.swap_remove(which.index(self.under_way.len()));
                let record = self.spending.settle(now, reservation, paid, 0);
                self.write(record);
            }
            Step::Pay { .. } | Step::Settle(_) => {}
            Step::Restart => {
                self.started = self.time;
                self.under_way.clear();
                self.spending = Spending::new(CAPS);
                let now = self.now();
                for record in std::mem::take(&mut self.disk).into_values() {
                    let written = record.clone();
                    let record = self.spending.restore(now, record).unwrap_or(written);
                    self.write(record);
                }
                for id in self.spending.forget(now) {
                    self.disk.remove(&id);
                }
            }
        }
    }

    /// Reserves, pays and settles at once, if it may.
    fn take(&mut self, number: u8, destination: u8, shares: u64) {
        self.step(Step::Reserve {
            caller: number,
            destination,
            shares,
            fees: 0,
        });
        if let Some((reservation, _)) = self.under_way.pop() {
            let (msat, to) = (reservation.msat, reservation.destination);
            self.judge.payments.push((self.time, caller(number), to, msat));
            self.judge.holds(self.time);
            let record = self.spending.settle(self.now(), reservation, msat, 0);
            self.write(record);
        }
    }

    /// A cap that says when it frees keeps its word: it does not refuse the same purchase then.
    fn is_free_then(&self, id: RequestId, who: &Caller, wanted: &Purchase, frees_in: Duration) {
        let refusing = |spending: &Spending, now| {
            let mut copy = spending.clone(); // the question must not change the budgets
            match copy.reserve(now, id, who, wanted) {
                Err(SpendingRefusal::Above { cap, .. }) => Some(cap),
                _ => None,
            }
        };
        let first = refusing(&self.spending, self.now());
        let then = Now {
            instant: self.now().instant + frees_in,
            ..self.now()
        };
        assert!(first.is_some());
        assert_ne!(refusing(&self.spending, then), first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_hour_and_no_day_ever_sees_more_than_its_cap_leave_the_wallet(steps in prop::collection::vec(step(), 1..120)) {
        let mut life = Life::new();
        for step in steps {
            life.step(step);
        }
        // Nothing is held for ever: two days after everything was settled, all of it is free again.
        let now = life.now();
        for (reservation, paid) in std::mem::take(&mut life.under_way) {
            life.spending.settle(now, reservation, paid, 0);
        }
        life.step(Step::Wait(2 * 24 * 3600 * SECOND));
        let now = life.now();
        life.spending.forget(now);
        prop_assert!(life.spending.destinations.is_empty() && life.spending.callers.is_empty());
        prop_assert!(life.spending.records.is_empty());
        let all = life.spending.reserve(now, [0xff; 16], &module("one"), &purchase(1, CAPS.max_total_msat));
        prop_assert!(all.is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever takes all that he gets, at the very moments at which windows slide.
    #[test]
    fn no_window_sees_more_than_its_cap_from_callers_that_take_all_they_get(
        waits in prop::collection::vec((0u64..=75, 0u64..=3, any::<bool>()), 1..40),
        restarts in any::<prop::sample::Index>(),
    ) {
        let mut life = Life::new();
        for (place, (minutes, few, daily)) in waits.iter().enumerate() {
            let step = if *daily { 20 * 60 } else { 60 };
            life.step(Step::Wait((minutes * step * SECOND + few).saturating_sub(1)));
            if place == restarts.index(waits.len()) {
                life.step(Step::Restart);
            }
            for taker in 0..4 {
                for shares in [1_000, 500, 100, 10, 1] {
                    life.take(taker, taker % 3, shares);
                }
            }
        }
    }
}
