//! What the core takes to decide one packet, without any I/O: at a router of a paid session, at its destination, when
//! the packet is refused, and when it is the first one of a session, which opens it.
//!
//! The sessions are real: quotes, proofs and the open went through the same cores (see `route.rs`). Packets are made
//! a chunk at a time outside the measured stretch and lie in one buffer, as links hand them over.
//!
//! ```text
//! cargo bench -p mesh-core --bench decide
//! ```
//! Where other work on the machine blurs the time, count instructions: with `DECIDE_COUNT=100000` the benchmark decides
//! that many packets at the router and nothing else, and
//! `valgrind --tool=callgrind --toggle-collect='decide::decide' BINARY` counts those instructions alone.
// A benchmark that cannot set up has nothing to say.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod opens;
mod route;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group};
use mesh_core::core::Core;
use mesh_core::event::{Input, LinkId, Output};
use mesh_core::time::{Now, UnixMillis};
use route::{FROM_ROUTER, FROM_SOURCE, Route};

/// Packets made at once: what a few reads of a socket bring, so that they are as warm as in life.
const CHUNK: u64 = 256;

/// Sessions opened at one router in turn.
const OPENS: u64 = 8;

/// Payload bytes of one packet.
const PAYLOAD: usize = 1024;

/// One packet in, everything that follows out.
#[inline(never)]
fn decide(core: &mut Core, now: Now, link: LinkId, frame: Bytes) -> u64 {
    core.handle(now, Input::Frame { link, frame });
    let mut let_through = 0;
    while let Some(output) = core.poll_output() {
        let_through += u64::from(matches!(output, Output::Forward { .. } | Output::Deliver(_)));
        black_box(output);
    }
    let_through
}

/// As they come from a link: slices of one buffer.
fn as_one_read(frames: &[Bytes]) -> Vec<Bytes> {
    let mut buffer = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
    frames.iter().for_each(|frame| buffer.extend_from_slice(frame));
    let mut buffer = buffer.freeze();
    frames.iter().map(|frame| buffer.split_to(frame.len())).collect()
}

/// Times `count` packets that `make` builds, a chunk at a time; all of them, or none, are let through.
fn time(
    count: u64,
    route: &mut Route,
    make: impl Fn(&mut Route, u64) -> Vec<Bytes>,
    at: impl Fn(&mut Route) -> (&mut Core, LinkId),
    passes: bool,
) -> Duration {
    let mut spent = Vec::new();
    let mut left = count;
    while left > 0 {
        let chunk = left.min(CHUNK);
        let frames = as_one_read(&make(route, chunk));
        let now = route.tick();
        let (core, link) = at(route);
        let started = Instant::now();
        let mut through = 0;
        for frame in frames {
            through += decide(core, now, link, frame);
        }
        spent.push(started.elapsed().as_secs_f64() / chunk as f64);
        assert_eq!(
            through,
            if passes { chunk } else { 0 },
            "what is measured is what was meant"
        );
        left -= chunk;
    }
    typical(spent, count)
}

/// What `count` would have taken at the median of what one took, chunk by chunk: a chunk in which the machine turned to
/// another program says nothing of this one.
fn typical(mut seconds_each: Vec<f64>, count: u64) -> Duration {
    seconds_each.sort_by(f64::total_cmp);
    let median = seconds_each.get(seconds_each.len() / 2).copied();
    Duration::from_secs_f64(median.unwrap_or(0.0) * count as f64)
}

fn packets(route: &mut Route, count: u64) -> Vec<Bytes> {
    (0..count).map(|_| route.packet(&[7; PAYLOAD])).collect()
}

fn forged(route: &mut Route, count: u64) -> Vec<Bytes> {
    packets(route, count)
        .into_iter()
        .map(|packet| {
            let mut packet = BytesMut::from(packet);
            // The first byte of the first hop's tag.
            packet[44] ^= 1;
            packet.freeze()
        })
        .collect()
}

/// Times the first packet of `count` sessions at a router: the open that makes the session.
fn time_opens(count: u64) -> Duration {
    let now = Now {
        unix: UnixMillis(1_700_000_000_000),
        ..Now::default()
    };
    let mut spent = Vec::new();
    let mut left = count;
    while left > 0 {
        let chunk = left.min(OPENS);
        let (mut router, frames) = opens::opens(now, chunk);
        let started = Instant::now();
        for frame in frames {
            router.handle(
                now,
                Input::Frame {
                    link: FROM_SOURCE,
                    frame,
                },
            );
            while let Some(output) = router.poll_output() {
                assert!(!matches!(output, Output::Dropped { .. }), "{output:?}");
                black_box(output);
            }
        }
        spent.push(started.elapsed().as_secs_f64() / chunk as f64);
        left -= chunk;
    }
    typical(spent, count)
}

fn at_router(route: &mut Route) -> (&mut Core, LinkId) {
    (&mut route.router, FROM_SOURCE)
}

fn at_destination(route: &mut Route) -> (&mut Core, LinkId) {
    (&mut route.destination, FROM_ROUTER)
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide 1 KiB");
    group.throughput(Throughput::Elements(1));
    let mut route = Route::open();
    group.bench_function("router, paid", |bencher| {
        bencher.iter_custom(|count| time(count, &mut route, packets, at_router, true));
    });
    let mut route = Route::open();
    group.bench_function("destination, paid", |bencher| {
        bencher.iter_custom(|count| time(count, &mut route, packets, at_destination, true));
    });
    let mut route = Route::open();
    group.bench_function("router, forged tag", |bencher| {
        bencher.iter_custom(|count| time(count, &mut route, forged, at_router, false));
    });
    let mut route = Route::open();
    let seen = route.packet(&[7; PAYLOAD]);
    let now = route.tick();
    assert_eq!(decide(&mut route.router, now, FROM_SOURCE, seen.clone()), 1);
    group.bench_function("router, duplicate", |bencher| {
        let again = |_: &mut Route, count| vec![seen.clone(); count as usize];
        bencher.iter_custom(|count| time(count, &mut route, again, at_router, false));
    });
    group.finish();
    criterion.bench_function("first packet of a session, router", |bencher| {
        bencher.iter_custom(time_opens);
    });
}

criterion_group!(decide_benches, benches);

fn main() {
    let counted = std::env::var("DECIDE_COUNT")
        .ok()
        .and_then(|count| count.parse().ok());
    if let Some(count) = counted {
        time(count, &mut Route::open(), packets, at_router, true);
        return;
    }
    decide_benches();
    Criterion::default().configure_from_args().final_summary();
}
