//! What a call of the mesh costs, the way it takes by and by: the node itself, the ModuleAPI in this process, the socket.
//!
//! ```text
//! cargo bench --bench api            all of it, a minute
//! cargo bench --bench api -- call    only what has the word in its name
//! ```
//!
//! Two nodes of mode `open`, neighbours over TLS on loopback, all in this process on two threads; the sending node has an
//! open session with the other. Packets carry 1 KiB. `call/…` is one call after the other, from the caller's point of view.
//! `packets/…` is as many packets as 32 callers send at once (`node, batches`: one sender of 64 to a command), until the last
//! has arrived; no more than a window of them is under way. `delivery/…` is from the send to the handler at the other node,
//! whose word is awaited before the next.
// A benchmark that cannot set up has nothing to say.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesh_api::{GetNodeIdRequest, MeshClient, ModuleCaller};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use stage::{PAYLOAD, PROTOCOL, Stage, TTL, WAYS, Way};

/// Callers at once.
const CALLERS: u64 = 32;

/// Packets under way at once: fewer than a reader may fall behind.
const WINDOW: u64 = 128;

/// Packets in one command.
const BATCH: u64 = 64;

fn api(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // Until the end of the process, so that callers can be tasks.
    let stage: &'static Stage = Box::leak(Box::new(runtime.block_on(Stage::start())));
    calls(criterion, &runtime, stage);
    packets(criterion, &runtime, stage);
    deliveries(criterion, &runtime, stage);
}

fn calls(criterion: &mut Criterion, runtime: &Runtime, stage: &Stage) {
    let mut group = criterion.benchmark_group("call");
    group.bench_function("get_node_id, in process", |bencher| {
        bencher.iter_custom(|calls| runtime.block_on(node_ids(&stage.in_process, calls)));
    });
    group.bench_function("get_node_id, socket", |bencher| {
        bencher.iter_custom(|calls| runtime.block_on(node_ids(&stage.socket, calls)));
    });
    for way in WAYS {
        group.bench_function(format!("send, {}", way.name()), |bencher| {
            bencher.iter_custom(|calls| {
                runtime.block_on(timed(async {
                    for _ in 0..calls {
                        stage.send(way).await;
                    }
                }))
            });
        });
    }
}

fn packets(criterion: &mut Criterion, runtime: &Runtime, stage: &'static Stage) {
    let mut group = criterion.benchmark_group("packets");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.bench_function("node, batches", |bencher| {
        bencher.iter_custom(|packets| runtime.block_on(timed(batches(stage, packets))));
    });
    for way in WAYS {
        group.bench_function(way.name(), |bencher| {
            bencher.iter_custom(|packets| runtime.block_on(timed(at_once(stage, way, packets))));
        });
    }
}

fn deliveries(criterion: &mut Criterion, runtime: &Runtime, stage: &Stage) {
    let mut group = criterion.benchmark_group("delivery");
    group.bench_function("to a reader of the node", |bencher| {
        bencher.iter_custom(|packets| {
            runtime.block_on(timed(async {
                for _ in 0..packets {
                    let before = stage.arrived();
                    stage.send(Way::Node).await;
                    stage.wait_for(before + 1).await;
                }
            }))
        });
    });
    group.bench_function("to a handler over the socket", |bencher| {
        bencher.iter_custom(|packets| runtime.block_on(timed(stage.to_handler(packets))));
    });
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let started = Instant::now();
    work.await;
    started.elapsed()
}

async fn node_ids<C: ModuleCaller>(client: &MeshClient<C>, calls: u64) -> Duration {
    timed(async {
        for _ in 0..calls {
            client.call(&GetNodeIdRequest {}).await.unwrap();
        }
    })
    .await
}

/// As many as one sender of batches gets through.
async fn batches(stage: &Stage, packets: u64) {
    let payload = Bytes::from_static(&PAYLOAD);
    let begun = stage.arrived();
    let mut sent = 0;
    while sent < packets {
        let batch = BATCH.min(packets - sent);
        stage
            .wait_for(begun + (sent + batch).saturating_sub(WINDOW))
            .await;
        let payloads = vec![payload.clone(); batch as usize];
        let node = stage.from.handle();
        node.send_many(stage.session, PROTOCOL, payloads, TTL)
            .await
            .unwrap();
        sent += batch;
    }
    stage.wait_for(begun + packets).await;
}

/// As many as so many callers at once get through.
async fn at_once(stage: &'static Stage, way: Way, packets: u64) {
    let begun = stage.arrived();
    let begun_sends = Arc::new(AtomicU64::new(0));
    let callers: JoinSet<()> = (0..CALLERS)
        .map(|caller| {
            let begun_sends = begun_sends.clone();
            async move {
                for _ in 0..packets / CALLERS + u64::from(caller < packets % CALLERS) {
                    let sends = begun_sends.fetch_add(1, Ordering::Relaxed);
                    stage.wait_for(begun + sends.saturating_sub(WINDOW)).await;
                    stage.send(way).await;
                }
            }
        })
        .collect();
    callers.join_all().await;
    stage.wait_for(begun + packets).await;
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = api
}
criterion_main!(benches);
