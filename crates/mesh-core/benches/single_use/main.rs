//! What it takes to know that a payment was redeemed before: the set of the redeemed at ten thousand to a million live
//! hashes.
//!
//! Hashes are asked for in random order, each as likely as any other; the order is computed before. *Hit* asks for one
//! that was redeemed (a replay), *miss* for one that was not, *redeem* asks and inserts in a set with room for one in
//! sixteen more. What counts is this thread's time on a processor (`/proc/thread-self/schedstat`).
//!
//! ```text
//! cargo bench -p mesh-core --bench single_use
//! ```
//! It then lets days pass over the hashes and says what one step of forgetting took.
// A benchmark that cannot set up has nothing to say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use mesh_core::replay::SingleUse;
use mesh_core::time::UnixMillis;

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];

/// Turns of each set; the median of what they say counts.
const TURNS: usize = 21;

/// Look-ups in one turn: enough for the caches to hold what they can of the largest set.
const LOOKUPS: usize = 500_000;

/// Redemptions in one turn: as many as there is room for at the least size.
const REDEMPTIONS: usize = 625;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

const HOUR: u64 = 3_600_000;

type Hash = [u8; 32];

/// Random numbers from a counter (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn hash(&mut self) -> Hash {
        let mut hash = [0; 32];
        for word in hash.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        hash
    }
}

/// How long this thread has run since it began.
fn time_on_processor() -> Duration {
    // The kernel brings the figure up to date when the thread gives way.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps it");
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.expect("its first figure is a number"))
}

/// Nanoseconds for each of `count` things done.
fn timed(count: usize, work: impl FnOnce()) -> f64 {
    let started = time_on_processor();
    work();
    (time_on_processor() - started).as_nanos() as f64 / count as f64
}

fn count_in(set: &SingleUse, order: &[Hash]) -> usize {
    order.iter().filter(|hash| set.contains(hash)).count()
}

/// A set of `known`, with room for one in sixteen more.
fn set_of(known: &[Hash]) -> SingleUse {
    let mut set = SingleUse::new(&[7; 32], known.len() + known.len() / 16);
    for hash in known {
        set.insert(hash, NOW, NOW).expect("there is room");
    }
    set
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn measure(size: usize) {
    let mut random = Random(size as u64);
    let known: Vec<Hash> = (0..size).map(|_| random.hash()).collect();
    let mut set = set_of(&known);
    let [mut hit, mut miss, mut redeem] = [(); 3].map(|()| Vec::new());
    for _ in 0..TURNS {
        let hits: Vec<Hash> = (0..LOOKUPS).map(|_| known[random.below(size)]).collect();
        let misses: Vec<Hash> = (0..LOOKUPS).map(|_| random.hash()).collect();
        hit.push(timed(LOOKUPS, || assert_eq!(count_in(&set, &hits), LOOKUPS)));
        miss.push(timed(LOOKUPS, || assert_eq!(count_in(&set, &misses), 0)));
    }
    while set.len() + REDEMPTIONS <= set.capacity() {
        let new: Vec<Hash> = (0..REDEMPTIONS).map(|_| random.hash()).collect();
        redeem.push(timed(REDEMPTIONS, || {
            for hash in &new {
                black_box(set.insert(hash, NOW, NOW)).expect("there is room");
            }
        }));
    }
    let [hit, miss, redeem] = [hit, miss, redeem].map(median);
    let (live, bytes) = (set.len(), set.bytes() as f64 / set.len() as f64);
    println!(
        "{live:>9} live: hit {hit:5.1} ns, miss {miss:5.1} ns, redeem {redeem:5.1} ns, {bytes:4.1} bytes per hash"
    );
}

/// Hashes redeemed over a day, then forgotten hour after hour: what the steps of all passes took.
fn forget(size: usize) {
    let mut set = SingleUse::new(&[7; 32], size);
    let mut random = Random(1);
    for number in 0..size {
        let now = UnixMillis(NOW.0 + 24 * HOUR * number as u64 / size as u64);
        set.insert(&random.hash(), now, now).expect("there is room");
    }
    let mut steps = Vec::new();
    for hour in 25..50 {
        let now = UnixMillis(NOW.0 + hour * HOUR);
        let mut more = true;
        while more {
            let started = Instant::now();
            more = set.expire(now);
            steps.push(started.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
    assert!(set.is_empty(), "all of it is due by then");
    let (count, all) = (steps.len(), steps.iter().sum::<f64>());
    steps.sort_by(f64::total_cmp);
    let (median, most) = (steps[count / 2], steps[count * 99 / 100]);
    let each = all * 1000.0 / size as f64;
    println!(
        "forgetting {size}: {count} steps, median {median:.1} µs, 99 of 100 within {most:.1} µs, {each:.0} ns per hash"
    );
}

fn main() {
    SIZES.into_iter().for_each(measure);
    SIZES.into_iter().for_each(forget);
}
