//! What it takes to look a route up while a writer changes a thousand routes a second: snapshots as the core publishes
//! them, beside concurrent maps that could stand in their place (see `contenders.rs`).
//!
//! One reader on one thread looks up destinations that exist, in random order, each as likely as any other, as many
//! different ones as there are in the table; the order is computed before. It reads the best successor of what it
//! finds. The writer on another thread changes five routes every five milliseconds, and publishes them where there is
//! something to publish. All tables use the same hash function, the same key and the same value.
//!
//! ```text
//! cargo bench -p mesh-core --bench lookup
//! cargo bench -p mesh-core --bench lookup -- snapshot
//! ```
//! What counts is the reader's time on a processor (`/proc/thread-self/schedstat`), so that other work on the machine,
//! which takes turns with it, is not counted; what that work does to the caches is. Beside the times it prints what the writer took for five changes, and the bytes that a route takes.
// A benchmark that cannot set up has nothing to say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod contenders;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contenders::{Contender, DashMap, LeftRight, Papaya, Snapshot, SnapshotLoaded};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mesh_core::identity::NodeId;
use mesh_core::limits::MAX_ALTERNATIVES;
use mesh_core::routing::snapshot::{RouteEntry, SnapshotWriter, Successor};
use mesh_core::time::UnixMillis;

/// Sizes of the table, in destinations.
const DESTINATIONS: [usize; 3] = [10_000, 100_000, 1_000_000];

/// How often the writer publishes.
const PERIOD: Duration = Duration::from_millis(5);

/// Changes before each publication: a thousand a second.
const CHANGES: usize = 5;

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

    fn id(&mut self) -> NodeId {
        let mut id = [0; 32];
        for word in id.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        NodeId(id)
    }

    fn entry(&mut self) -> RouteEntry {
        let successors = [(); MAX_ALTERNATIVES].map(|()| Successor {
            neighbour: self.below(64) as u32,
            cost: self.below(1000) as u32,
            hops: 1 + self.below(10) as u8,
        });
        let price = self.next() % 1000;
        RouteEntry::new(&successors, price, UnixMillis(1_700_000_000_000)).unwrap()
    }
}

/// A table's contents and the order in which it is read.
struct Workload {
    routes: Vec<(NodeId, RouteEntry)>,
    order: Vec<NodeId>,
}

impl Workload {
    fn new(destinations: usize) -> Self {
        let mut random = Random(destinations as u64);
        let routes: Vec<_> = (0..destinations).map(|_| (random.id(), random.entry())).collect();
        let order = (0..destinations)
            .map(|_| routes[random.below(destinations)].0)
            .collect();
        Self { routes, order }
    }
}

/// Changes routes until told to stop. Returns what each turn took.
fn write(mut writer: impl Contender, routes: &[(NodeId, RouteEntry)], stop: &AtomicBool) -> Vec<Duration> {
    let mut random = Random(1);
    let mut turns = Vec::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let changes = [(); CHANGES].map(|()| (routes[random.below(routes.len())].0, random.entry()));
        let started = Instant::now();
        for (id, entry) in changes {
            writer.set(id, entry);
        }
        writer.publish();
        turns.push(started.elapsed());
        // From the time it was due, so that a turn that came late does not lower the rate.
        due += PERIOD;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    turns
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

fn measure<C: Contender + Send>(criterion: &mut Criterion, workload: &Workload) {
    let destinations = workload.routes.len();
    let mut group = criterion.benchmark_group("look up");
    group
        .throughput(Throughput::Elements(1))
        .sample_size(30)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    let mut turns = Vec::new();
    group.bench_function(BenchmarkId::new(C::NAME, destinations), |bencher| {
        let (writer, mut reader) = C::build(&workload.routes);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| write(writer, &workload.routes, &stop));
            let mut order = workload.order.iter().cycle();
            bencher.iter_custom(|count| {
                let started = time_on_processor();
                let mut read = 0_u64;
                for id in order.by_ref().take(count as usize) {
                    read += u64::from(C::look_up(&mut reader, id).expect("all are there").cost);
                }
                black_box(read);
                time_on_processor() - started
            });
            stop.store(true, Ordering::Relaxed);
            turns = writing.join().expect("the writer does not panic");
        });
    });
    group.finish();
    report_turns(C::NAME, destinations, turns);
}

fn report_turns(name: &str, destinations: usize, mut turns: Vec<Duration>) {
    turns.sort_unstable();
    if let (Some(median), Some(late)) = (turns.get(turns.len() / 2), turns.get(turns.len() * 99 / 100)) {
        println!("{name}, {destinations}: five changes published in {median:?}, 99 of 100 within {late:?}");
    }
}

fn report_bytes(workload: &Workload) {
    let mut writer = SnapshotWriter::new(1);
    for (id, entry) in &workload.routes {
        writer.set(*id, *entry);
    }
    let destinations = workload.routes.len();
    let bytes = writer.publish().bytes() as f64 / destinations as f64;
    println!("snapshot, {destinations}: {bytes:.1} bytes per route");
}

fn benches(criterion: &mut Criterion) {
    for destinations in DESTINATIONS {
        let workload = Workload::new(destinations);
        report_bytes(&workload);
        measure::<Snapshot>(criterion, &workload);
        measure::<SnapshotLoaded>(criterion, &workload);
        measure::<DashMap>(criterion, &workload);
        measure::<Papaya>(criterion, &workload);
        measure::<LeftRight>(criterion, &workload);
    }
}

criterion_group!(lookup_benches, benches);
criterion_main!(lookup_benches);
