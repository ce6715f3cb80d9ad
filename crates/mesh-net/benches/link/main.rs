//! What a link costs by itself: one hop between two endpoints over loopback, both ends in one thread, so that the time
//! shown is all the processor time of sending and receiving.
// A benchmark that cannot set up has nothing to say.
#![allow(clippy::unwrap_used, missing_docs)]

mod bare;

use std::hint::black_box;
use std::net::SocketAddr;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesh_core::identity::Identity;
use mesh_net::{Endpoint, EndpointConfig, LinkEvent, LinkSender, RECOMMENDED_EVENT_QUEUE, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Messages of one round: what a busy router has under way on one link.
const ROUND: usize = 1024;

/// What bare TLS writes at once.
const CHUNK: usize = 64 * 1024;

struct Hop {
    runtime: Runtime,
    sender: LinkSender,
    received: mpsc::Receiver<LinkEvent>,
    _ends: (Endpoint, Endpoint),
}

fn hop() -> Hop {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (sender, received, ends) = runtime.block_on(async {
        let (a, b) = (
            Identity::from_seed([1; 32]).unwrap(),
            Identity::from_seed([2; 32]).unwrap(),
        );
        let (to_a, mut from_a) = mpsc::channel(RECOMMENDED_EVENT_QUEUE);
        let (to_b, mut from_b) = mpsc::channel(RECOMMENDED_EVENT_QUEUE);
        let listening = EndpointConfig {
            listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..EndpointConfig::default()
        };
        let at_b = Endpoint::bind(listening, &b, to_b).unwrap();
        let at_a = Endpoint::bind(EndpointConfig::default(), &a, to_a).unwrap();
        at_a.add_peer(at_b.local_addr().unwrap(), b.node_id()).unwrap();
        let Some(LinkEvent::Up { sender, .. }) = from_a.recv().await else {
            panic!("no link")
        };
        from_b.recv().await.unwrap();
        (sender, from_b, (at_a, at_b))
    });
    Hop {
        runtime,
        sender,
        received,
        _ends: ends,
    }
}

impl Hop {
    /// Sends `count` frames in batches of `batch` and waits until all have arrived.
    fn round(&mut self, frame: &Bytes, count: usize, batch: usize) {
        self.runtime.block_on(async {
            let mut arrived = 0;
            for _ in 0..count / batch {
                self.sender.try_send_data(vec![frame.clone(); batch]).unwrap();
            }
            while arrived < count {
                match self.received.recv().await.unwrap() {
                    LinkEvent::Frames { frames, .. } => arrived += black_box(frames).len(),
                    other => panic!("{other:?}"),
                }
            }
        });
    }
}

fn one_hop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one hop");
    let mut hop = hop();
    for (name, length, count, batch) in [
        ("1 KiB in batches of 64", 1024, ROUND, 64),
        ("1 KiB in batches of 8", 1024, ROUND, 8),
        ("64 B in batches of 64", 64, ROUND, 64),
        ("1 KiB alone", 1024, 1, 1),
        ("256 KiB", 256 * 1024, 8, 1),
    ] {
        let frame = Bytes::from(vec![7; length]);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| bencher.iter(|| hop.round(&frame, count, batch)));
    }
    group.finish();
}

/// The same megabyte over TLS alone, counted in messages of 1 KiB.
fn bare_tls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bare TLS");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (mut from, to) = runtime.block_on(bare::pair());
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    runtime.spawn(async move {
        let mut to = to;
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = to.read(&mut buffer).await {
            arrived.send(length).unwrap();
        }
    });
    let chunk = vec![7; CHUNK];
    group.throughput(Throughput::Elements(ROUND as u64));
    group.bench_function("1 KiB as 64 KiB writes", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                for _ in 0..ROUND * 1024 / CHUNK {
                    from.write_all(&chunk).await.unwrap();
                    from.flush().await.unwrap();
                }
                let mut left = ROUND * 1024;
                while left > 0 {
                    left -= arrivals.recv().await.unwrap();
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, bare_tls, one_hop);
criterion_main!(benches);
