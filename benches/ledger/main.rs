//! What booking costs with a disk that syncs, and how long a node takes to come back with a million entries behind it.
//!
//! `commit/N` is one durable commit of N leases, each an entry of the ledger and the account that it changes, as packets
//! make them; a commit is one fsync however many share it. `recovery/…` is what a start does with the database: opening it
//! and restoring the core, after an orderly stop and from what a kill leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)] // a benchmark that cannot go on says why

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant as Wall};

use blvm_mesh::store::Store;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesh_core::account::AccountRecord;
use mesh_core::core::{Announcing, Core, CoreConfig};
use mesh_core::event::Record;
use mesh_core::identity::{Ed25519Verifier, Identity};
use mesh_core::ledger::{Entry, EntryKind, LedgerAccount};
use mesh_core::routing_policy::MeshMode;
use mesh_core::time::{Instant, Now, UnixMillis};
use mesh_core::verifier::BitcoinNetwork;

/// Entries and redeemed payments that the recovering node has behind it.
const LIFETIME: u64 = 1_000_000;

/// Payers among whom they are.
const PAYERS: u64 = 1000;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn hash(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

/// One lease: what packets drew from a payer's account.
fn lease(number: u64) -> [Record; 2] {
    let key = hash(number % PAYERS);
    let entry = Entry::new(UnixMillis(number), EntryKind::Drawn)
        .debit(LedgerAccount::PayerCredit(key), 1000)
        .credit(LedgerAccount::Earned, 1000);
    let account = AccountRecord {
        key,
        balance_msat: number,
    };
    [Record::Booked(Box::new(entry)), Record::Account(account)]
}

fn redeemed(number: u64) -> Record {
    Record::InvoiceClosed {
        payment_hash: hash(number),
        redeemed_until: Some(NOW + Duration::from_secs(86_400)),
    }
}

fn write(store: &Store, records: Vec<Record>) {
    let (done, wait) = mpsc::channel();
    store
        .submit(records, NOW, move || done.send(()).unwrap())
        .unwrap();
    wait.recv().unwrap();
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.sample_size(20).measurement_time(Duration::from_secs(8));
    for together in [1u64, 8, 64, 512] {
        let folder = folder();
        let (store, _) = Store::open(&folder.path().join("mesh.redb")).unwrap();
        let mut number = 0;
        group.throughput(Throughput::Elements(together));
        group.bench_function(together.to_string(), |bencher| {
            bencher.iter(|| {
                let records = (0..together).flat_map(|_| {
                    number += 1;
                    lease(number)
                });
                write(&store, records.collect());
            });
        });
    }
    group.finish();
}

/// A database with a lifetime in it: closed in order, and as a kill leaves it.
fn lifetime(folder: &Path) -> (PathBuf, PathBuf) {
    let (closed, killed) = (folder.join("closed.redb"), folder.join("killed.redb"));
    let (store, _) = Store::open(&closed).unwrap();
    for some in 0..LIFETIME / 10_000 {
        let numbers = some * 10_000..(some + 1) * 10_000;
        let records = numbers.flat_map(|number| {
            let [entry, account] = lease(number);
            [entry, account, redeemed(number)]
        });
        write(&store, records.collect());
    }
    std::fs::copy(&closed, &killed).unwrap();
    drop(store);
    (closed, killed)
}

fn core(now: Now) -> Core {
    let config = CoreConfig {
        mode: MeshMode::PaymentGated,
        price_msat_per_unit: 1,
        network: BitcoinNetwork::Regtest,
        lightning_key: Some([2; 33]),
        operator: None,
        announcing: Announcing::default(),
        free_bytes_per_second: 0,
        route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
        account_secret: [9; 32],
        seed: [8; 32],
    };
    let identity = Identity::from_seed([1; 32]).unwrap();
    Core::new(config, identity, Arc::new(Ed25519Verifier), now)
}

fn come_back(path: &Path) -> Store {
    let (store, restored) = Store::open(path).unwrap();
    let now = Now {
        instant: Instant(0),
        unix: restored.wall_clock,
    };
    let mut core = core(now);
    core.restore(restored.records, now).unwrap();
    black_box(core);
    store
}

fn recovery(criterion: &mut Criterion) {
    let folder = folder();
    let (closed, killed) = lifetime(folder.path());
    println!("database of {} bytes", std::fs::metadata(&closed).unwrap().len());
    let image = folder.path().join("image.redb");
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for (name, from) in [("after an orderly stop", &closed), ("after a kill", &killed)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    std::fs::copy(from, &image).unwrap();
                    let begun = Wall::now();
                    let store = come_back(&image);
                    spent += begun.elapsed();
                    drop(store);
                }
                spent
            });
        });
    }
    group.finish();
    let reader = blvm_mesh::store::StoreReader::open(&closed).unwrap();
    let begun = Wall::now();
    let found = reader.read(blvm_mesh::ledger::audit::audit).unwrap();
    println!("audit of {} entries: {:?}", found.entries, begun.elapsed());
    let begun = Wall::now();
    black_box(reader.books().unwrap());
    println!("fees: {:?}", begun.elapsed());
}

criterion_group!(benches, commits, recovery);
criterion_main!(benches);
