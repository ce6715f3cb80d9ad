//! The ledger's tables against a slow twin, and the audit against a hand that alters them.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use mesh_core::account::AccountRecord;
use mesh_core::event::Record;
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::ledger::EntryKind;
use mesh_core::time::UnixMillis;
use proptest::prelude::*;

use super::super::{ACCOUNTS, CREDIT, NUMBERS, Store, StoreReader, TREASURY_OWED, full_disk::Disk};
use super::*;
use crate::ledger::audit::{Audited, audit};
use crate::ledger::{BookedEntry, LedgerPage, LedgerQuery, Order};

const PAYER: [u8; 32] = [1; 32];
const PAYEE: NodeId = NodeId([2; 32]);

fn write(store: &Store, records: Vec<Record>) {
    let (done, wait) = mpsc::channel();
    store
        .submit(records, UnixMillis(u64::MAX / 2), move || done.send(()).unwrap())
        .unwrap();
    wait.recv().unwrap();
}

fn booked(entry: Entry) -> Record {
    Record::Booked(Box::new(entry))
}

/// A sale and some draws, with the records beside them, as the core makes them.
fn sale(number: u64) -> Vec<Record> {
    let sold = Entry::new(UnixMillis(number), EntryKind::Credited)
        .of_payment([number as u8; 32])
        .debit(LedgerAccount::Wallet, 70)
        .credit(LedgerAccount::PayerCredit(PAYER), 60)
        .credit(LedgerAccount::TreasuryOwed, 10);
    let drawn = Entry::new(UnixMillis(number), EntryKind::Drawn)
        .of_session(SessionId([number as u8; 16]))
        .debit(LedgerAccount::PayerCredit(PAYER), 20)
        .credit(LedgerAccount::Earned, 20);
    let brought = Entry::new(UnixMillis(number), EntryKind::ProofBrought)
        .debit(LedgerAccount::CreditAt(PAYEE), 5)
        .credit(LedgerAccount::Outside, 5);
    vec![
        booked(sold),
        Record::TreasuryOwed(10 * number),
        booked(drawn),
        Record::Account(AccountRecord {
            key: PAYER,
            balance_msat: 40 * number,
        }),
        booked(brought),
        Record::Credit {
            payee: PAYEE,
            msat: 5 * number,
        },
    ]
}

fn audited(reader: &StoreReader) -> Audited {
    reader.read(audit).unwrap()
}

fn codes(audited: &Audited) -> Vec<&str> {
    audited
        .findings
        .iter()
        .map(|finding| finding.code.as_str())
        .collect()
}

#[test]
fn entry_that_does_not_balance_is_put_apart_and_the_records_beside_it_are_kept() {
    let disk = Disk::new();
    let (store, _) = disk.open().unwrap();
    let crooked = Entry::new(UnixMillis(2), EntryKind::Credited).debit(LedgerAccount::Wallet, 1);
    let mut records = sale(1);
    records.insert(3, booked(crooked));
    write(&store, records);
    assert_eq!(store.health().suspect_entries(), 1);
    let found = audited(&store.reader());
    assert_eq!(codes(&found), ["suspect_entry"]);
    assert_eq!(
        (found.entries, found.books.balance(&LedgerAccount::Wallet)),
        (3, 70)
    );
    drop(store);
    let (store, restored) = disk.open().unwrap();
    assert!(restored.records.contains(&Record::TreasuryOwed(10)));
    assert_eq!(store.health().suspect_entries(), 1, "remembered by later lives");
}

#[test]
fn entries_that_waited_for_a_full_disk_are_booked_once_and_readers_are_told_meanwhile() {
    let disk = Disk::new();
    let (store, _) = disk.open().unwrap();
    let (reader, health) = (store.reader(), store.health());
    disk.set_full(true);
    let (done, wait) = mpsc::channel();
    store
        .submit(sale(1), UnixMillis(9), move || done.send(()).unwrap())
        .unwrap();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while health.failures() < 2 {
        assert!(std::time::Instant::now() < patience);
        std::thread::yield_now();
    }
    if let Err(error) = reader.books() {
        assert!(error.to_string().contains("disk"), "{error}");
    }
    disk.set_full(false);
    wait.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    let found = audited(&reader);
    assert_eq!((codes(&found), found.entries), (Vec::<&str>::new(), 3));
}

/// A node's database after a few sales, closed, to be altered by hand.
struct Altered {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Altered {
    fn by(alter: impl FnOnce(&WriteTransaction)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.redb");
        let (store, _) = Store::open(&path).unwrap();
        for number in 1..=4 {
            write(&store, sale(number));
        }
        drop(store);
        let altered = Self {
            _folder: folder,
            path,
        };
        assert_eq!(altered.findings(), Vec::<String>::new(), "clean before");
        let database = redb::Database::open(&altered.path).unwrap();
        let transaction = database.begin_write().unwrap();
        alter(&transaction);
        transaction.commit().unwrap();
        drop(database);
        altered.findings()
    }

    fn findings(&self) -> Vec<String> {
        let reader = StoreReader::open(Path::new(&self.path)).unwrap();
        let found = audited(&reader);
        assert_eq!(found.findings.len(), codes(&found).len());
        found.findings.iter().map(ToString::to_string).collect()
    }
}

fn some(findings: &[String], code: &str, says: &str) {
    let found = findings
        .iter()
        .any(|finding| finding.starts_with(code) && finding.contains(says));
    assert!(found, "no {code} that says {says:?} among {findings:#?}");
    assert!(
        findings.iter().all(|finding| !finding.contains('\n')),
        "one line each"
    );
}

#[test]
fn audit_finds_an_entry_that_was_taken_out() {
    let findings = Altered::by(|transaction| {
        transaction.open_table(LEDGER).unwrap().remove(4).unwrap();
    });
    some(&findings, "missing_entry", "entry 4 is missing");
    some(
        &findings,
        "balance_differs",
        "wallet is 280 msat, its entries sum to 210 msat",
    );
    some(&findings, "account_differs", "60 msat apart");
    some(&findings, "record_differs", "treasury is 40 msat in the records");
    some(&findings, "total_differs", "sold_as_destination");
    some(&findings, "index_differs", "by party");
}

#[test]
fn audit_finds_the_last_entries_cut_off() {
    let findings = Altered::by(|transaction| {
        let mut entries = transaction.open_table(LEDGER).unwrap();
        entries.retain(|number, _| number <= 9).unwrap();
    });
    some(
        &findings,
        "balance_differs",
        "earned is -80 msat, its entries sum to -60 msat",
    );
    some(&findings, "credit_differs", "5 msat apart");
}

#[test]
fn audit_finds_an_altered_balance_and_an_altered_total() {
    let findings = Altered::by(|transaction| {
        let key = encode(&LedgerAccount::Earned).unwrap();
        let mut balances = transaction.open_table(BALANCES).unwrap();
        balances.insert(key.as_slice(), -1_000_000).unwrap();
        let mut totals = transaction.open_table(TOTALS).unwrap();
        totals.insert(Total::TreasuryCollected.number(), 1).unwrap();
    });
    some(&findings, "balance_differs", "earned is -1000000 msat");
    some(
        &findings,
        "total_differs",
        "treasury_collected is 1 msat, the entries say 40 msat",
    );
    assert_eq!(findings.len(), 2);
}

#[test]
fn audit_finds_an_entry_that_was_made_unbalanced_or_unreadable() {
    let crooked = Entry::new(UnixMillis(2), EntryKind::Drawn).credit(LedgerAccount::Earned, 20);
    let findings = Altered::by(|transaction| {
        let mut entries = transaction.open_table(LEDGER).unwrap();
        entries.insert(5, encode(&crooked).unwrap().as_slice()).unwrap();
        entries.insert(6, [255; 3].as_slice()).unwrap();
    });
    some(&findings, "unbalanced_entry", "entry 5 sums to -20 msat");
    some(&findings, "unreadable_entry", "entry 6");
}

#[test]
fn audit_finds_records_that_say_something_else_than_the_ledger() {
    let findings = Altered::by(|transaction| {
        let mut accounts = transaction.open_table(ACCOUNTS).unwrap();
        accounts.insert(PAYER, 1000).unwrap();
        accounts.insert([9; 32], 3).unwrap();
        transaction.open_table(CREDIT).unwrap().remove(PAYEE.0).unwrap();
        let mut numbers = transaction.open_table(NUMBERS).unwrap();
        numbers.insert(TREASURY_OWED, 0).unwrap();
    });
    some(
        &findings,
        "account_differs",
        "is 1000 msat in the records that the node acts on and 160 msat",
    );
    some(&findings, "account_differs", &hex::encode([9; 32]));
    some(&findings, "credit_differs", "20 msat apart");
    some(&findings, "record_differs", "owed to the treasury is 0 msat");
    assert_eq!(findings.len(), 4);
}

#[test]
fn audit_finds_times_that_run_backwards_and_an_index_that_misses_a_session() {
    let findings = Altered::by(|transaction| {
        let mut entries = transaction.open_table(LEDGER).unwrap();
        let mut last: Entry = decode(entries.get(12).unwrap().unwrap().value()).unwrap();
        last.at = UnixMillis(0);
        entries.insert(12, encode(&last).unwrap().as_slice()).unwrap();
        let mut index = transaction.open_table(BY_SESSION).unwrap();
        index.pop_first().unwrap();
    });
    some(&findings, "time_runs_backwards", "entry 12");
    some(&findings, "index_differs", "3 and 12 rows");
    assert_eq!(findings.len(), 2);
}

#[test]
fn reader_of_a_running_nodes_database_is_told_that_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.redb");
    let (store, _) = Store::open(&path).unwrap();
    let error = StoreReader::open(&path).err().unwrap();
    assert!(matches!(error, super::super::StoreError::InUse { .. }), "{error}");
    let reader = store.reader();
    drop(store);
    // A reader that outlives its node keeps nobody from the file, and says why it reads nothing.
    assert!(reader.books().is_err());
    StoreReader::open(&path).unwrap();
}

fn account() -> impl Strategy<Value = LedgerAccount> {
    prop_oneof![
        Just(LedgerAccount::Wallet),
        Just(LedgerAccount::InFlight),
        Just(LedgerAccount::Earned),
        Just(LedgerAccount::TreasuryOwed),
        (0u8..4).prop_map(|key| LedgerAccount::PayerCredit([key; 32])),
        (0u8..4).prop_map(|node| LedgerAccount::CreditAt(NodeId([node; 32]))),
        (2u8..6).prop_map(|node| LedgerAccount::Paid(NodeId([node; 32]))),
    ]
}

fn kind() -> impl Strategy<Value = EntryKind> {
    proptest::sample::select(vec![
        EntryKind::Credited,
        EntryKind::Drawn,
        EntryKind::TreasuryPaid,
        EntryKind::PaymentMade,
        EntryKind::PaymentFailed,
        EntryKind::SessionClosed,
    ])
}

prop_compose! {
    fn entry()(
        kind in kind(),
        later in 0u64..3,
        session in proptest::option::of(0u8..4),
        moves in proptest::collection::vec((account(), account(), 0u64..1 << 40), 0..4),
    ) -> (u64, Entry) {
        let mut entry = Entry::new(UnixMillis(0), kind);
        entry.session = session.map(|session| SessionId([session; 16]));
        for (from, to, msat) in moves {
            entry = entry.debit(to, msat).credit(from, msat);
        }
        // Two moves may undo each other and leave a posting of nothing, which balances all the same.
        (later, entry)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn running_sums_and_pages_are_what_all_entries_say(
        entries in proptest::collection::vec(entry(), 1..60),
        together in 1usize..8,
        page in 1usize..9,
        since in 0u64..40,
        session in proptest::option::of(0u8..4),
        party in proptest::option::of(0u8..6),
    ) {
        let mut at = 0;
        let entries: Vec<Entry> = entries.into_iter().map(|(later, entry)| {
            at += later;
            Entry { at: UnixMillis(at), ..entry }
        }).collect();
        let disk = Disk::new();
        let (store, _) = disk.open().unwrap();
        for some in entries.chunks(together) {
            write(&store, some.iter().cloned().map(booked).collect());
        }
        let mut derived = Books::default();
        for entry in &entries {
            derived.add(entry).unwrap();
        }
        let reader = store.reader();
        prop_assert_eq!(reader.books().unwrap(), derived.clone());
        let found = audited(&reader);
        prop_assert_eq!(&found.books, &derived);
        prop_assert_eq!(found.books.sum(|_| true), 0);
        let of_books = |code: &&str| !["account_differs", "credit_differs", "payment_differs", "record_differs"].contains(code);
        prop_assert_eq!(codes(&found).into_iter().filter(of_books).count(), 0);

        let query = LedgerQuery {
            since: Some(UnixMillis(since)),
            session: session.map(|session| [session; 16]),
            party: party.map(|party| [party; 32]),
            limit: page,
            ..LedgerQuery::default()
        };
        let numbered = (1..).zip(entries);
        let wanted = numbered.map(|(number, entry)| BookedEntry { number, entry });
        let mut wanted: Vec<_> = wanted.filter(|booked| query.wants(&booked.entry)).collect();
        prop_assert_eq!(all_pages(&reader, query), wanted.clone());
        wanted.reverse();
        let newest_first = LedgerQuery { order: Order::NewestFirst, ..query };
        prop_assert_eq!(all_pages(&reader, newest_first), wanted);
    }
}

fn all_pages(reader: &StoreReader, mut query: LedgerQuery) -> Vec<BookedEntry> {
    let mut entries = Vec::new();
    loop {
        let LedgerPage { entries: some, next } = reader.page(&query).unwrap();
        assert!(some.len() <= query.limit);
        entries.extend(some);
        match next {
            Some(next) => query.beyond = Some(next),
            None => return entries,
        }
    }
}
