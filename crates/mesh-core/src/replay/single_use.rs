//! The set of what was redeemed.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use foldhash::quality::FixedState;

use crate::drop_reason::DropReason;
use crate::limits::REPLAY_MEMORY;
use crate::time::UnixMillis;

/// Most hashes a set can be made for: 1.1 GB of them, more than a node redeems in years.
pub const MAX_CAPACITY: usize = 1 << 26;

/// Entries that fit into one shard before its table doubles: 7/8 of 2048 places of 13 bytes, as the standard
/// library's hash table allocates them.
const SHARD_CAPACITY: usize = 1792;

/// Entries a shard holds on average when the set is full. Chance fills some shards more than others; this
/// leaves room for nearly five standard deviations, so that hardly any has to double.
const ENTRIES_PER_SHARD: usize = 1600;

/// Shards swept by one call to [`SingleUse::expire`]: about 25 µs, half of what a step of the core may take.
const SHARDS_PER_SWEEP: usize = 2;

/// Entries are forgotten in hours: coarse enough for 24 bits, fine enough to keep no more than a 24th too
/// many.
const MILLIS_PER_HOUR: u64 = 3_600_000;

/// Low bits of an entry's last word that hold the hour it may be forgotten in, since 1970.
const HOUR_BITS: u32 = 24;

/// The last hour that fits, in the year 3883: an entry that expires then or later is never forgotten.
const NEVER: u32 = (1 << HOUR_BITS) - 1;

/// Which 32-byte hashes were redeemed, each kept until it has expired and [`REPLAY_MEMORY`] has passed since
/// it was redeemed, whichever is later.
///
/// **Never forgets early.** It holds up to a fixed number of hashes and refuses the next
/// ([`DropReason::TableFull`]): an attacker who floods it keeps others from redeeming for a while, but can
/// spend nothing twice. A clock that runs backwards does not shorten anybody's memory either: the latest
/// moment ever given counts.
///
/// **What is stored** is not the hash but a keyed fingerprint of it: 72 bits, which with the hour of expiry fill 12
/// bytes, beside the choice of the shard. Two hashes with the same fingerprint in one shard would have an honest proof
/// refused as already redeemed; a new one meets that with probability 2⁻⁶¹, however many shards there are. A replay is never
/// accepted, since the same hash always has the same fingerprint. The hashes have to come out of a
/// cryptographic hash function (payment hashes do; hash an outpoint first), because the fingerprint is fast
/// rather than strong; the key keeps an attacker who can choose among hashes from crowding one place. It
/// differs from node to node and is never stored, so a store keeps the hashes themselves and inserts them
/// again after a restart.
///
/// **How.** The set is cut into shards by the leading bits of the fingerprint; each is a hash table of its
/// own, small enough that rebuilding or sweeping one fits into a step of the core. One big table would double
/// all at once, which at a million entries takes tens of milliseconds and leaves it half empty.
///
/// **Costs**: 17 bytes per hash of capacity in a full set, up to twice that per hash while it fills. A shard is
/// rebuilt when it doubles on the way to 1792 entries, and by the sweep once an hour when something in it is
/// due: some 12 µs, or 8 ns for each entry it holds.
pub struct SingleUse {
    high: FixedState,
    low: FixedState,
    shards: Box<[Shard]>,
    len: usize,
    capacity: usize,
    latest: UnixMillis,
    sweep: Sweep,
}

/// One pass over all shards for what is due at `hour`; the shards before `next` are done.
struct Sweep {
    hour: u64,
    next: usize,
}

impl SingleUse {
    /// An empty set for up to `capacity` hashes, or [`MAX_CAPACITY`] if that is less. `seed` keys the
    /// fingerprints; whoever knows it can crowd places.
    pub fn new(seed: &[u8; 32], capacity: usize) -> Self {
        let capacity = capacity.min(MAX_CAPACITY);
        let shards = capacity.div_ceil(ENTRIES_PER_SHARD).max(1);
        let key = |purpose: &str| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&blake3::derive_key(purpose, seed)[..8]);
            FixedState::with_seed(u64::from_le_bytes(bytes))
        };
        Self {
            high: key("blvm-mesh/1 single use, high half of the fingerprint"),
            low: key("blvm-mesh/1 single use, low half of the fingerprint"),
            shards: (0..shards).map(|_| Shard::default()).collect(),
            len: 0,
            capacity,
            latest: UnixMillis::default(),
            sweep: Sweep {
                hour: 0,
                next: shards,
            },
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
        let keep_until = expires.max(self.latest + REPLAY_MEMORY);
        let fingerprint = self.fingerprint(hash);
        let entry = Entry::new(fingerprint, keep_until);
        let shard = self.shard_of(fingerprint);
        if self.shards[shard].contains(&entry) {
            return Err(DropReason::AlreadyRedeemed);
        }
        if self.len >= self.capacity {
            self.expire(now);
        }
        if self.len >= self.capacity {
            return Err(DropReason::TableFull);
        }
        if self.shards[shard].len() >= SHARD_CAPACITY {
            // The pass has not come here yet, and proofs that took the place of what it forgot elsewhere crowd in.
            self.sweep_shard(shard, self.latest.0 / MILLIS_PER_HOUR);
        }
        self.shards[shard].insert(entry);
        self.len += 1;
        Ok(())
    }

    /// Whether `hash` is in the set. It may be for up to about an hour after it could have been forgotten.
    pub fn contains(&self, hash: &[u8; 32]) -> bool {
        let fingerprint = self.fingerprint(hash);
        self.shards[self.shard_of(fingerprint)].contains(&Entry::new(fingerprint, UnixMillis(0)))
    }

    /// Forgets what is due, in a part of the set so that a step of the core stays short. Returns whether this
    /// hour's pass is unfinished: call again at the next opportunity. A caller that never does only keeps
    /// more than needed.
    pub fn expire(&mut self, now: UnixMillis) -> bool {
        self.latest = self.latest.max(now);
        let hour = self.latest.0 / MILLIS_PER_HOUR;
        if self.sweep.next == self.shards.len() && hour > self.sweep.hour {
            self.sweep = Sweep { hour, next: 0 };
        }
        let end = self.shards.len().min(self.sweep.next + SHARDS_PER_SWEEP);
        for shard in self.sweep.next..end {
            self.sweep_shard(shard, self.sweep.hour);
        }
        self.sweep.next = end;
        end < self.shards.len()
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

    /// Bytes it takes in memory, near enough: the standard library gives a table that takes 7/8 of n entries n places
    /// of an entry and a byte.
    pub fn bytes(&self) -> usize {
        let places: usize = self.shards.iter().map(|shard| shard.capacity() / 7 * 8).sum();
        (size_of::<Entry>() + 1) * places + size_of_val(&*self.shards)
    }

    fn fingerprint(&self, hash: &[u8; 32]) -> u128 {
        let half = |state: &FixedState| {
            let mut hasher = state.build_hasher();
            hasher.write(hash);
            u128::from(hasher.finish())
        };
        half(&self.high) << 64 | half(&self.low)
    }

    /// The leading 64 bits, as a fraction of 2⁶⁴, times the number of shards: always less than that number.
    fn shard_of(&self, fingerprint: u128) -> usize {
        (((fingerprint >> 64) * self.shards.len() as u128) >> 64) as usize
    }

    /// Copies what is to be kept into a fresh table. Removing entries one by one would leave marks in the old
    /// one that count as full, and sooner or later have it doubled with half of it empty. The order in which
    /// the old one is gone through does not show: neither what is due nor what is found depends on it.
    fn sweep_shard(&mut self, shard: usize, hour: u64) {
        let shard = &mut self.shards[shard];
        let due = shard.iter().filter(|entry| entry.is_due(hour)).count();
        if due == 0 {
            return;
        }
        let mut kept = Shard::with_capacity_and_hasher(shard.len() - due, BuildHasherDefault::default());
        kept.extend(shard.iter().filter(|entry| !entry.is_due(hour)));
        *shard = kept;
        self.len -= due;
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

type Shard = HashSet<Entry, BuildHasherDefault<AlreadyHashed>>;

/// The lower 72 bits of a fingerprint and the hour it may be forgotten in. Entries with the same fingerprint are equal,
/// whatever their hours. The upper 64 bits chose the shard; of those an entry keeps the 8 least telling ones.
///
/// Small words, because what a search in a large set costs is the wait for memory: 12 bytes keep a million entries in
/// reach of more caches than 16 do.
#[derive(Debug, Clone, Copy)]
struct Entry([u32; 3]);

impl Entry {
    fn new(fingerprint: u128, keep_until: UnixMillis) -> Self {
        let hours = keep_until.0.div_ceil(MILLIS_PER_HOUR);
        let hour = u32::try_from(hours).map_or(NEVER, |hour| hour.min(NEVER));
        let high = (fingerprint >> 64) as u32;
        let [mid, low] = [(fingerprint >> 32) as u32, fingerprint as u32];
        Self([low, mid, high << HOUR_BITS | hour])
    }

    fn is_due(self, hour: u64) -> bool {
        let forget_at = self.0[2] & NEVER;
        u64::from(forget_at) <= hour && forget_at < NEVER
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let [low, mid, high] = self.0;
        let [other_low, other_mid, other_high] = other.0;
        (low, mid, high >> HOUR_BITS) == (other_low, other_mid, other_high >> HOUR_BITS)
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [low, mid, _] = self.0;
        state.write_u64(u64::from(mid) << 32 | u64::from(low));
    }
}

/// A fingerprint is its own hash: its lower 64 bits; the upper ones chose the shard.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Entries write one u64 and nothing else; this keeps the hasher whole should that ever change.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
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
    fn full_set_takes_new_proofs_once_the_old_are_due_and_never_doubles_a_shard_for_it() {
        let mut set = SingleUse::new(&[7; 32], 16_000);
        for generation in 0..4 {
            let now = later(generation * (DAY + HOUR));
            for number in 0..16_000 {
                let hash = hash(generation * 16_000 + number);
                if set.insert(&hash, now, now).is_err() {
                    sweep(&mut set, now);
                    assert_eq!(set.insert(&hash, now, now), Ok(()));
                }
                assert!(set.shards.iter().all(|shard| shard.capacity() <= SHARD_CAPACITY));
            }
        }
        assert_eq!(set.len(), 16_000);
    }

    #[test]
    fn set_without_capacity_refuses_everything() {
        assert_eq!(
            SingleUse::new(&[7; 32], 0).insert(&hash(1), START, START),
            Err(DropReason::TableFull)
        );
    }

    #[test]
    fn entry_costs_at_most_24_bytes_in_a_full_set() {
        let mut set = SingleUse::new(&[7; 32], 100_000);
        for number in 0..100_000 {
            set.insert(&hash(number), START, START).unwrap();
        }
        let bytes = set.bytes();
        assert!(bytes <= 24 * set.len(), "{bytes} bytes");
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
    }
}
