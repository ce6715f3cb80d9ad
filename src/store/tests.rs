//! What the store promises, with disks that refuse.

use super::full_disk::Disk;
use super::*;
use mesh_core::quotes::InvoiceRecord;
use mesh_core::spending::{Caller, ModuleName, SpendingRecord};

fn invoice(byte: u8) -> InvoiceRecord {
    InvoiceRecord {
        payment_hash: [byte; 32],
        account: [2; 32],
        credit_msat: 3,
        treasury_msat: 4,
        pay_by: UnixMillis(5),
        redeem_by: UnixMillis(5),
        previous: NodeId([6; 32]),
    }
}

fn seen(byte: u8) -> Record {
    Record::AnnouncementSeen {
        origin: NodeId([byte; 32]),
        seqno: u64::from(byte) + 10,
        expires: UnixMillis(99),
    }
}

fn spending(byte: u8, msat: u64) -> Record {
    Record::Spending(Box::new(SpendingRecord {
        id: [byte; 16],
        at: UnixMillis(7),
        caller: Caller::Module(ModuleName::new("chat").unwrap()),
        destination: NodeId([8; 32]),
        msat,
        drawn_msat: 9,
        decided: true,
    }))
}

fn write(store: &Store, records: Vec<Record>) {
    let (done, wait) = mpsc::channel();
    let told = move || done.send(()).unwrap();
    store.submit(records, UnixMillis(77), told).unwrap();
    wait.recv().unwrap();
}

#[test]
fn what_is_durable_comes_back_as_it_was_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.redb");
    let (store, empty) = Store::open(&path).unwrap();
    assert!(empty.records.is_empty());
    let account = |balance_msat| {
        Record::Account(AccountRecord {
            key: [1; 32],
            balance_msat,
        })
    };
    write(
        &store,
        vec![
            Record::Invoice(invoice(1)),
            Record::Invoice(invoice(2)),
            account(10),
        ],
    );
    let redeemed = Record::InvoiceClosed {
        payment_hash: [1; 32],
        redeemed_until: Some(UnixMillis(9)),
    };
    write(
        &store,
        vec![
            account(13),
            redeemed.clone(),
            Record::TreasuryOwed(4),
            Record::OwnSeqno(64),
            seen(1),
            seen(2),
            spending(1, 900),
            spending(2, 1_000),
        ],
    );
    let forgotten = Record::AnnouncementForgotten {
        origin: NodeId([1; 32]),
    };
    write(
        &store,
        vec![
            forgotten,
            Record::OwnSeqno(128),
            spending(2, 800),
            Record::SpendingForgotten([1; 16]),
        ],
    );
    drop(store);
    let (_store, restored) = Store::open(&path).unwrap();
    let expected = [
        Record::Invoice(invoice(2)),
        redeemed,
        account(13),
        spending(2, 800),
        seen(2),
        Record::OwnSeqno(128),
        Record::TreasuryOwed(4),
    ];
    assert_eq!(restored.records, expected);
    assert_eq!(restored.wall_clock, UnixMillis(77));
}

/// Two routers that were paid, as their record is written.
fn weighed() -> [Record; 2] {
    use mesh_core::fairness::{Carried, Fairness};
    let mut fairness = Fairness::default();
    let earned = [(NodeId([1; 32]), 5_000), (NodeId([2; 32]), 6_000)];
    let ways = [earned.map(|(router, _)| router).to_vec()];
    let carried = Carried {
        earned: &earned,
        units: 10,
        ways: &ways,
    };
    fairness.note_carried(&carried, UnixMillis(1_800_000_000_000));
    let written = fairness.take_unwritten(2);
    [0, 1].map(|place| Record::Weighed(Box::new(written[place])))
}

#[test]
fn shares_come_back_until_they_are_written_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.redb");
    let (store, _) = Store::open(&path).unwrap();
    write(&store, weighed().to_vec());
    drop(store);
    let (store, restored) = Store::open(&path).unwrap();
    assert_eq!(restored.records, weighed());
    let Record::Weighed(mut gone) = weighed()[0].clone() else {
        unreachable!()
    };
    gone.paid = Default::default();
    gone.unavoidable = Default::default();
    gone.forced = Default::default();
    write(&store, vec![Record::Weighed(gone)]);
    drop(store);
    let (_store, restored) = Store::open(&path).unwrap();
    assert_eq!(restored.records, weighed()[1..]);
}

#[test]
fn row_of_shares_that_makes_no_sense_is_refused_by_name_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.redb");
    drop(Store::open(&path).unwrap());
    let table: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("weighed");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(table)
        .unwrap()
        .insert([1; 32], &[0xff; 3][..])
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let Err(error) = Store::open(&path) else {
        panic!("it was read")
    };
    assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("mesh.redb"), "{error}");
}

#[test]
fn honoured_outputs_come_back_for_ever_each_as_it_stood_last() {
    use mesh_core::chain::{OutPoint, WatchedAs};
    use mesh_core::chain_book::{Bill, HonouredOutput, HonouredState};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.redb");
    let (store, _) = Store::open(&path).unwrap();
    let honoured = |byte: u8, state| {
        Record::Honoured(Box::new(HonouredOutput {
            outpoint: OutPoint {
                txid: [byte; 32],
                vout: 1,
            },
            bill: [byte; 32],
            account: [2; 32],
            value_msat: 3,
            credit_msat: 2,
            treasury_msat: 1,
            excess_msat: 0,
            watched_as: WatchedAs::Paid { txid: [byte; 32] },
            block: [4; 32],
            height: 5,
            state,
        }))
    };
    let bill = |byte: u8, redeemed| {
        Record::Bill(Bill {
            id: [byte; 32],
            payee: NodeId([1; 32]),
            credit_msat: 1,
            treasury_msat: 0,
            redeem_by: UnixMillis(9),
            redeemed,
        })
    };
    write(
        &store,
        vec![
            honoured(1, HonouredState::Standing),
            honoured(2, HonouredState::Standing),
            bill(1, false),
            bill(2, false),
        ],
    );
    write(
        &store,
        vec![
            honoured(1, HonouredState::Final),
            bill(1, true),
            Record::BillForgotten([2; 32]),
        ],
    );
    drop(store);
    for _ in 0..2 {
        let (_store, restored) = Store::open(&path).unwrap();
        let found = |wanted: &Record| restored.records.contains(wanted);
        assert!(found(&honoured(1, HonouredState::Final)) && found(&honoured(2, HonouredState::Standing)));
        assert!(!found(&honoured(1, HonouredState::Standing)));
        assert!(found(&bill(1, true)) && !found(&bill(2, false)));
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < patience, "{what} never came");
        std::thread::yield_now();
    }
}

#[test]
fn disk_that_was_full_takes_what_waited_for_it_and_nothing_counts_as_durable_before() {
    let disk = Disk::new();
    let (store, _) = disk.open().unwrap();
    let health = store.health();
    disk.set_full(true);
    let (done, wait) = mpsc::channel();
    let told = move || done.send(()).unwrap();
    store
        .submit(vec![Record::TreasuryOwed(5)], UnixMillis(1), told)
        .unwrap();
    wait_until("two refusals", || health.failures() >= 2);
    assert!(health.refuses() && health.commits() == 0);
    assert!(wait.try_recv().is_err(), "durable on a full disk");
    disk.set_full(false);
    wait.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(!health.refuses());
    drop(store);
    let (_, restored) = disk.open().unwrap();
    assert_eq!(restored.records, [Record::TreasuryOwed(5)]);
}

#[test]
fn node_on_a_full_disk_can_be_stopped() {
    let disk = Disk::new();
    let (store, _) = disk.open().unwrap();
    disk.set_full(true);
    let not_told = || panic!("durable on a full disk");
    store
        .submit(vec![Record::TreasuryOwed(5)], UnixMillis(1), not_told)
        .unwrap();
    let health = store.health();
    drop(store);
    assert!(health.refuses());
    disk.set_full(false);
    assert!(disk.open().unwrap().1.records.is_empty());
}

#[test]
fn database_that_cannot_be_written_or_is_in_use_is_refused_with_the_advice_that_helps() {
    let disk = Disk::new();
    disk.set_full(true);
    let error = disk.open().err().unwrap();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.redb");
    let (_first, _) = Store::open(&path).unwrap();
    let error = Store::open(&path).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

#[test]
fn file_that_is_no_database_is_refused_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.redb");
    std::fs::write(&path, vec![7; 10_000]).unwrap();
    let error = Store::open(&path).err().unwrap().to_string();
    assert!(error.contains("backup"), "{error}");
}

#[test]
fn database_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.redb");
    let _store = Store::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
