//! The set of what was redeemed.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use crate::drop_reason::DropReason;
use crate::limits::REPLAY_MEMORY;
use crate::time::UnixMillis;

/// Most hashes a set can be made for: 1.4 GB of them, more than a node redeems in years.
pub const MAX_CAPACITY: usize = 1 << 26;

/// Slots swept by one call to [`SingleUse::expire`]: about 10 µs, a fifth of what a step of the core may take.
const SLOTS_PER_SWEEP: usize = 4096;

/// Slots behind the last home, for the last run. Runs of entries without a gap are some ten long; one of 512
/// does not happen, and if it did, what does not fit would be refused.
const SPARE_SLOTS: usize = 512;

/// Slots a look-up reads at once, without a branch between them: how far it has to read is random, so asking after
/// each slot whether to go on is mispredicted, and then the processor cannot run ahead to the next look-up.
const WINDOW: usize = 8;

/// Entries are forgotten in hours: coarse enough for 24 bits, fine enough to keep no more than a 24th too many.
const MILLIS_PER_HOUR: u64 = 3_600_000;

/// Low bits of an entry that hold the hour it may be forgotten in, since 1970.
const HOUR_BITS: u32 = 24;

/// The last hour that fits, in the year 3883: an entry that expires then or later is never forgotten.
const NEVER: u128 = (1 << HOUR_BITS) - 1;

/// A slot without an entry. No entry is 0, because its hour is at least the 24th.
const EMPTY: u128 = 0;

/// Which 32-byte hashes were redeemed, each kept until it has expired and [`REPLAY_MEMORY`] has passed since
/// it was redeemed, whichever is later.
///
/// **Never forgets early.** It holds up to a fixed number of hashes and refuses the next
/// ([`DropReason::TableFull`]): an attacker who floods it keeps others from redeeming for a while, but can
/// spend nothing twice. A clock that runs backwards does not shorten anybody's memory either: the latest
/// moment ever given counts.
///
/// **What is stored** is not the hash but 104 bits of a keyed fingerprint of it, which with the hour of
/// expiry fill 16 bytes. Two hashes with the same fingerprint would have an honest proof refused as already
/// redeemed; among a million live entries a new one meets that with probability 2⁻⁸⁴. A replay is never
/// accepted, since the same hash always has the same fingerprint. The hashes have to come out of a
/// cryptographic hash function (payment hashes do; hash an outpoint first), because the fingerprint is fast
/// rather than strong; the key keeps an attacker who can choose among hashes from crowding one place. It
/// differs from node to node and is never stored, so a store keeps the hashes themselves and inserts them
/// again after a restart.
///
/// **How.** One array in ascending order with gaps, three quarters full at the most. A fingerprint, as a
/// fraction of 2⁶⁴, points to a *home* in proportion; its entry lies there or behind, with no gap between. A
/// look-up goes to the home and reads on until it meets an equal entry, or a greater one, or a gap: two to
/// three slots on average, usually one cache line. An insertion moves the rest of its run on by one, into the
/// next gap; forgetting moves what is kept of a run back. Runs do not depend on each other, so the sweep can
/// stop after any.
///
/// **Costs**: 21⅓ bytes per hash of capacity, allocated once and for all, touched by the system only where
/// used. Nothing is ever resized, so no insertion waits for it. Every entry is looked at once in each hour of
/// its life, when the sweep comes by; that is a nanosecond or two.
pub struct SingleUse {
    high: FixedState,
    low: FixedState,
    slots: Slots,
    len: usize,
    capacity: usize,
    latest: UnixMillis,
    sweep: Sweep,
}

/// One pass over all slots for what is due at `hour`; the slots before `next` are done.
struct Sweep {
    hour: u128,
    next: usize,
}

impl SingleUse {
    /// An empty set for up to `capacity` hashes, or [`MAX_CAPACITY`] if that is less. `seed` keys the
    /// fingerprints; whoever knows it can crowd places.
    pub fn new(seed: &[u8; 32], capacity: usize) -> Self {
        let key = |purpose: &str| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&blake3::derive_key(purpose, seed)[..8]);
            FixedState::with_seed(u64::from_le_bytes(bytes))
        };
        let capacity = capacity.min(MAX_CAPACITY);
        let slots = Slots::new(capacity);
        Self {
            high: key("blvm-mesh/1 single use, high half of the fingerprint"),
            low: key("blvm-mesh/1 single use, low half of the fingerprint"),
            sweep: Sweep {
                hour: 0,
                next: slots.slots.len(),
            },
            slots,
            len: 0,
            capacity,
            latest: UnixMillis::default(),
        }
    }

    /// Redeems `hash`, once: [`DropReason::AlreadyRedeemed`] when it is in the set, [`DropReason::TableFull`]
    /// when the set is full of what may not be forgotten yet. It stays until `expires` and for
    /// [`REPLAY_MEMORY`] from now at the least.
    pub fn insert(
        &mut self,
        hash: &[u8; 32],
        expires: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), DropReason> {
        self.latest = self.latest.max(now);
        let fingerprint = self.fingerprint(hash);
        if self.slots.contains(fingerprint) {
            return Err(DropReason::AlreadyRedeemed);
        }
        if self.len >= self.capacity {
            self.expire(now);
        }
        let keep_until = expires.max(self.latest + REPLAY_MEMORY);
        let hour = u128::from(keep_until.0.div_ceil(MILLIS_PER_HOUR)).min(NEVER);
        if self.len >= self.capacity || !self.slots.insert(fingerprint | hour) {
            return Err(DropReason::TableFull);
        }
        self.len += 1;
        Ok(())
    }

    /// Whether `hash` is in the set. It may be for up to about an hour after it could have been forgotten.
    pub fn contains(&self, hash: &[u8; 32]) -> bool {
        self.slots.contains(self.fingerprint(hash))
    }

    /// Forgets what is due, in a part of the set so that a step of the core stays short. Returns whether this
    /// hour's pass is unfinished: call again at the next opportunity. A caller that never does only keeps
    /// more than needed.
    pub fn expire(&mut self, now: UnixMillis) -> bool {
        self.latest = self.latest.max(now);
        let end = self.slots.slots.len();
        let hour = u128::from(self.latest.0 / MILLIS_PER_HOUR);
        if self.sweep.next == end && hour > self.sweep.hour {
            self.sweep = Sweep { hour, next: 0 };
        }
        let (next, forgotten) = self
            .slots
            .forget(self.sweep.next, SLOTS_PER_SWEEP, self.sweep.hour);
        self.sweep.next = next;
        self.len -= forgotten;
        next < end
    }

    /// Hashes in the set, those included that are due but not yet swept.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Hashes it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The upper 104 bits of the keyed fingerprint, the lower 24 zero.
    fn fingerprint(&self, hash: &[u8; 32]) -> u128 {
        let half = |state: &FixedState| {
            let mut hasher = state.build_hasher();
            hasher.write(hash);
            u128::from(hasher.finish())
        };
        fingerprint_of(half(&self.high) << 64 | half(&self.low))
    }
}

impl fmt::Debug for SingleUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SingleUse");
        shown
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

fn fingerprint_of(entry: u128) -> u128 {
    entry >> HOUR_BITS << HOUR_BITS
}

fn is_due(entry: u128, hour: u128) -> bool {
    let forget_at = entry & NEVER;
    forget_at <= hour && forget_at < NEVER
}

/// The array: entries ascending, each at its home or behind it without a gap between.
struct Slots {
    slots: Box<[u128]>,
    homes: usize,
}

impl Slots {
    /// Room for `capacity` entries when the homes are three quarters full.
    fn new(capacity: usize) -> Self {
        let homes = capacity.saturating_add(capacity / 3 + 1);
        let spare = capacity.min(SPARE_SLOTS) + 1;
        Self {
            slots: vec![EMPTY; homes.saturating_add(spare)].into_boxed_slice(),
            homes,
        }
    }

    /// Where an entry belongs. A greater fingerprint never belongs before a smaller one.
    fn home(&self, entry: u128) -> usize {
        (((entry >> 64) * self.homes as u128) >> 64) as usize
    }

    /// The first slot in which this fingerprint's entry is or would have to be put.
    fn place(&self, fingerprint: u128) -> usize {
        let mut at = self.home(fingerprint);
        while self
            .slots
            .get(at)
            .is_some_and(|slot| *slot != EMPTY && *slot < fingerprint)
        {
            at += 1;
        }
        at
    }

    /// Whether an entry with this fingerprint is there.
    fn contains(&self, fingerprint: u128) -> bool {
        let mut at = self.home(fingerprint);
        while let Some(window) = self.slots.get(at..).and_then(<[u128]>::first_chunk::<WINDOW>) {
            let (mut found, mut passed) = (false, false);
            for slot in window {
                found |= (fingerprint_of(*slot) == fingerprint) & (*slot != EMPTY);
                passed |= (*slot >= fingerprint) | (*slot == EMPTY);
            }
            if found | passed {
                return found;
            }
            at += WINDOW;
        }
        false
    }

    /// Puts in an entry whose fingerprint is not there yet. `false` when there is no gap behind its place.
    fn insert(&mut self, entry: u128) -> bool {
        let at = self.place(fingerprint_of(entry));
        let Some(run) = self.slots.iter().skip(at).position(|slot| *slot == EMPTY) else {
            return false;
        };
        self.slots.copy_within(at..at + run, at + 1);
        self.slots[at] = entry;
        true
    }

    /// Drops what is due at `hour` from `start` on, in at least `count` slots and until the end of a run. Says
    /// where it stopped, and how many it dropped.
    ///
    /// It may start within a run: the slots before stay as they are, and nothing is moved before `start`.
    fn forget(&mut self, start: usize, count: usize, hour: u128) -> (usize, usize) {
        let (mut at, mut free, mut forgotten) = (start, start, 0);
        while let Some(&entry) = self.slots.get(at) {
            if entry == EMPTY {
                if at >= start.saturating_add(count) {
                    break;
                }
            } else if is_due(entry, hour) {
                self.slots[at] = EMPTY;
                forgotten += 1;
            } else {
                free = free.max(self.home(entry));
                self.slots[at] = EMPTY;
                self.slots[free] = entry;
                free += 1;
            }
            at += 1;
        }
        (at, forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const HOUR: u64 = MILLIS_PER_HOUR;
    const DAY: u64 = 24 * HOUR;
    const START: UnixMillis = UnixMillis(480_000 * HOUR + 1234);

    fn hash(number: u64) -> [u8; 32] {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    fn later(millis: u64) -> UnixMillis {
        UnixMillis(START.0 + millis)
    }

    fn sweep(set: &mut SingleUse, now: UnixMillis) {
        while set.expire(now) {}
        while set.expire(now) {}
    }

    #[test]
    fn proof_spent_once_is_refused_the_second_time() {
        let mut set = SingleUse::new(&[7; 32], 10);
        assert_eq!(set.insert(&hash(1), later(HOUR), START), Ok(()));
        assert_eq!(
            set.insert(&hash(1), later(HOUR), START),
            Err(DropReason::AlreadyRedeemed)
        );
        assert!(set.contains(&hash(1)) && !set.contains(&hash(2)));
    }

    #[test]
    fn flood_fills_the_set_but_never_makes_it_forget() {
        let mut set = SingleUse::new(&[7; 32], 5000);
        for number in 0..5000 {
            assert_eq!(set.insert(&hash(number), later(DAY), later(number)), Ok(()));
        }
        for number in 5000..6000 {
            assert_eq!(
                set.insert(&hash(number), later(DAY), later(DAY - 1)),
                Err(DropReason::TableFull)
            );
        }
        for number in 0..5000 {
            assert_eq!(
                set.insert(&hash(number), later(DAY), later(DAY)),
                Err(DropReason::AlreadyRedeemed)
            );
        }
        assert_eq!(set.len(), 5000);
    }

    #[test]
    fn short_lived_proof_is_remembered_for_a_day_all_the_same() {
        let mut set = SingleUse::new(&[7; 32], 10);
        set.insert(&hash(1), START, START).unwrap();
        sweep(&mut set, later(DAY - 1));
        assert!(set.contains(&hash(1)));
        sweep(&mut set, later(DAY + HOUR));
        assert!(!set.contains(&hash(1)) && set.is_empty());
    }

    #[test]
    fn long_lived_proof_is_remembered_until_it_expires() {
        let mut set = SingleUse::new(&[7; 32], 10);
        set.insert(&hash(1), later(40 * DAY), START).unwrap();
        set.insert(&hash(2), UnixMillis(u64::MAX), START).unwrap();
        sweep(&mut set, later(40 * DAY - 1));
        assert!(set.contains(&hash(1)));
        sweep(&mut set, UnixMillis(u64::MAX));
        assert!(!set.contains(&hash(1)) && set.contains(&hash(2)));
    }

    #[test]
    fn clock_set_back_forgets_nothing_early() {
        let mut set = SingleUse::new(&[7; 32], 10);
        set.insert(&hash(1), later(DAY), later(DAY)).unwrap();
        set.insert(&hash(2), START, UnixMillis(5)).unwrap();
        sweep(&mut set, UnixMillis(6));
        sweep(&mut set, later(2 * DAY - 1));
        assert!(set.contains(&hash(1)) && set.contains(&hash(2)));
    }

    #[test]
    fn full_set_takes_new_proofs_once_the_old_are_due() {
        let mut set = SingleUse::new(&[7; 32], 20_000);
        for number in 0..20_000 {
            set.insert(&hash(number), START, START).unwrap();
        }
        let now = later(DAY + HOUR);
        assert_eq!(
            (20_000..40_000)
                .filter(|number| set.insert(&hash(*number), now, now).is_ok())
                .count(),
            20_000
        );
        assert_eq!(set.len(), 20_000);
    }

    #[test]
    fn set_without_capacity_refuses_everything() {
        assert_eq!(
            SingleUse::new(&[7; 32], 0).insert(&hash(1), START, START),
            Err(DropReason::TableFull)
        );
    }

    #[test]
    fn entry_costs_at_most_22_bytes_in_a_full_set() {
        for capacity in [10_000, 100_000, 1_000_000] {
            let slots = SingleUse::new(&[7; 32], capacity).slots;
            assert!(size_of_val(&*slots.slots) <= 22 * capacity + 16 * SPARE_SLOTS);
        }
    }

    #[test]
    fn entry_that_finds_no_gap_is_refused_and_nothing_is_lost() {
        let mut slots = Slots {
            slots: vec![EMPTY; 3].into_boxed_slice(),
            homes: 2,
        };
        let last_home = |number: u128| u128::MAX - (number << HOUR_BITS);
        assert!(slots.insert(last_home(1)) && slots.insert(last_home(0)) && !slots.insert(last_home(2)));
        assert!(slots.contains(fingerprint_of(last_home(0))) && slots.contains(fingerprint_of(last_home(1))));
    }

    #[test]
    fn same_seed_gives_the_same_fingerprints_and_another_seed_others() {
        let fingerprint = |seed| SingleUse::new(&[seed; 32], 10).fingerprint(&hash(1));
        assert_eq!(fingerprint(1), fingerprint(1));
        assert_ne!(fingerprint(1), fingerprint(2));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert { number: u64, lives: u64 },
        Wait(u64),
        Expire,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u64..60, 0..3 * DAY).prop_map(|(number, lives)| Step::Insert { number, lives }),
            2 => (0..6 * HOUR).prop_map(Step::Wait),
            1 => Just(Step::Expire),
        ]
    }

    /// Entries that crowd: few different leading bits, so that runs are long and reach the end.
    fn any_entry() -> impl Strategy<Value = u128> {
        let anywhere = any::<u128>().prop_map(|entry| entry | 1);
        let crowded = (
            prop_oneof![Just(0u8), Just(1), Just(128), Just(255)],
            0u32..40,
            1u128..100,
        )
            .prop_map(|(lead, middle, hour)| {
                u128::from(lead) << 120 | u128::from(middle) << HOUR_BITS | hour
            });
        prop_oneof![anywhere, crowded]
    }

    fn assert_in_order(slots: &Slots, len: usize) {
        let entries: Vec<u128> = slots
            .slots
            .iter()
            .copied()
            .filter(|slot| *slot != EMPTY)
            .collect();
        assert!(entries.is_sorted() && entries.len() == len);
        for (at, slot) in slots.slots.iter().enumerate().filter(|(_, slot)| **slot != EMPTY) {
            let home = slots.home(*slot);
            assert!(home <= at && slots.slots[home..at].iter().all(|between| *between != EMPTY));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_twin(steps in proptest::collection::vec(any_step(), 1..300)) {
            let mut set = SingleUse::new(&[3; 32], 30);
            let mut twin: BTreeMap<u64, u64> = BTreeMap::new();
            let mut now = START;
            for step in steps {
                match step {
                    Step::Wait(millis) => now.0 += millis,
                    Step::Expire => {
                        sweep(&mut set, now);
                        for (number, until) in &twin {
                            prop_assert!(set.contains(&hash(*number)) || now.0 >= *until);
                            prop_assert!(!set.contains(&hash(*number)) || now.0 < until + HOUR);
                        }
                    }
                    Step::Insert { number, lives } => {
                        let verdict = set.insert(&hash(number), UnixMillis(now.0 + lives), now);
                        let live = twin.values().filter(|until| **until > now.0).count();
                        match verdict {
                            Ok(()) => {
                                prop_assert!(twin.get(&number).is_none_or(|until| *until <= now.0));
                                twin.insert(number, now.0 + lives.max(DAY));
                            }
                            Err(DropReason::AlreadyRedeemed) => prop_assert!(twin.contains_key(&number)),
                            Err(reason) => {
                                prop_assert_eq!(reason, DropReason::TableFull);
                                let about_due = twin.values().filter(|until| now.0 < **until + HOUR).count();
                                prop_assert!(live <= 30 && about_due >= 30);
                            }
                        }
                    }
                }
                prop_assert!(set.len() <= 30);
                prop_assert!(twin.iter().all(|(n, until)| *until <= now.0 || set.contains(&hash(*n))));
            }
        }

        #[test]
        fn crowded_slots_keep_their_order_and_find_what_they_hold(
            entries in proptest::collection::vec(any_entry(), 1..200),
            later in proptest::collection::vec(any_entry(), 1..100),
            hour in 0u128..120,
            step in 1usize..50,
        ) {
            let mut slots = Slots::new(300);
            let mut twin = BTreeMap::new();
            let insert = |slots: &mut Slots, twin: &mut BTreeMap<u128, u128>, entry| {
                let fingerprint = fingerprint_of(entry);
                assert_eq!(slots.contains(fingerprint), twin.contains_key(&fingerprint));
                if !slots.contains(fingerprint) {
                    assert!(slots.insert(entry));
                    twin.insert(fingerprint, entry);
                }
                assert_in_order(slots, twin.len());
            };
            for entry in entries {
                insert(&mut slots, &mut twin, entry);
            }
            let (before, mut start, mut later) = (twin.clone(), 0, later.into_iter());
            while start < slots.slots.len() {
                let (next, forgotten) = slots.forget(start, step, hour);
                let len = twin.len();
                twin.retain(|fingerprint, _| slots.contains(*fingerprint));
                prop_assert_eq!(len - twin.len(), forgotten);
                assert_in_order(&slots, twin.len());
                prop_assert!(next > start || next == slots.slots.len());
                start = next;
                // What comes in between two steps may push entries across the place where the sweep stands.
                if let Some(entry) = later.next() {
                    insert(&mut slots, &mut twin, fingerprint_of(entry) | 200);
                }
            }
            prop_assert!(twin.values().all(|entry| !is_due(*entry, hour)));
            prop_assert!(before.iter().all(|(at, entry)| is_due(*entry, hour) || twin.contains_key(at)));
        }
    }
}
