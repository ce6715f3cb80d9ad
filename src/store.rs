//! What survives a kill -9: the core's records in one embedded database, written by one thread.
//!
//! Records that queue up while a commit is under way go into the next one together, so a commit's fsync is shared by
//! all who wait for it. A disk that refuses is asked again until the node is stopped: whoever waits for durability goes
//! on waiting and nothing is lost or shown too early.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use mesh_core::account::AccountRecord;
use mesh_core::event::Record;
use mesh_core::identity::NodeId;
use mesh_core::limits::REPLAY_MEMORY;
use mesh_core::time::UnixMillis;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

const QUOTE_KEYS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("quote_keys");
const INVOICES: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("invoices");
const REDEEMED: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("redeemed");
const ACCOUNTS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("accounts");
const PROOFS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("proofs");
const CREDIT: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("credit");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

const TREASURY_OWED: &str = "treasury_owed_msat";
const WALL_CLOCK: &str = "wall_clock_unix_ms";

/// Batches that may wait for the writer: the manager hands over the next only when the last is durable.
const QUEUE: usize = 2;

/// How long a refused commit waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened or read.
    #[error(
        "the database {path} cannot be read: {reason}; restore it from a backup, or move it away to start with empty accounts"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the database said.
        reason: String,
    },
    /// The writer is gone.
    #[error("the database writer has stopped; restart the node")]
    Stopped,
}

/// What was written down in an earlier life.
#[derive(Debug, Default)]
pub struct Restored {
    /// For [`mesh_core::core::Core::restore`].
    pub records: Vec<Record>,
    /// The latest wall-clock time seen.
    pub wall_clock: UnixMillis,
}

struct Batch {
    records: Vec<Record>,
    wall_clock: UnixMillis,
    done: Box<dyn FnOnce() + Send>,
}

/// The database and its writer thread.
pub struct Store {
    batches: Option<mpsc::SyncSender<Batch>>,
    writer: Option<JoinHandle<()>>,
    failures: Arc<AtomicU64>,
    commits: Arc<AtomicU64>,
}

impl Store {
    /// Opens or creates the database and reads what is in it.
    pub fn open(path: &Path) -> Result<(Self, Restored), StoreError> {
        let unreadable = |reason: String| StoreError::Unreadable {
            path: path.display().to_string(),
            reason,
        };
        let database = Database::create(path).map_err(|error| unreadable(error.to_string()))?;
        prepare(&database).map_err(|error| unreadable(error.to_string()))?;
        let restored = load(&database).map_err(|error| unreadable(error.to_string()))?;
        let (batches, queue) = mpsc::sync_channel(QUEUE);
        let (failures, commits) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (failures.clone(), commits.clone());
        let writer = std::thread::Builder::new()
            .name("mesh-store".to_owned())
            .spawn(move || write_loop(&database, &queue, &counters.0, &counters.1))
            .map_err(|error| unreadable(error.to_string()))?;
        let store = Self {
            batches: Some(batches),
            writer: Some(writer),
            failures,
            commits,
        };
        Ok((store, restored))
    }

    /// Hands records over in their order; `done` is called when they are durable. Does not block as long as the
    /// caller waits for each batch before it hands over the next.
    pub fn submit(
        &self,
        records: Vec<Record>,
        wall_clock: UnixMillis,
        done: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let batch = Batch {
            records,
            wall_clock,
            done: Box::new(done),
        };
        let batches = self.batches.as_ref().ok_or(StoreError::Stopped)?;
        batches.try_send(batch).map_err(|_| StoreError::Stopped)
    }

    /// Commits that failed and were tried again.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Commits done.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

impl Drop for Store {
    /// Waits for what was handed over.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to wait for.
            let _ = writer.join();
        }
    }
}

fn write_loop(database: &Database, queue: &mpsc::Receiver<Batch>, failures: &AtomicU64, commits: &AtomicU64) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter());
        let mut attempts = 0u32;
        while let Err(error) = commit(database, &group) {
            failures.fetch_add(1, Ordering::Relaxed);
            attempts += 1;
            tracing::error!(%error, attempts, "the database refused to write; everything that waits for it goes on waiting: check the disk");
            std::thread::sleep(RETRY_AFTER);
        }
        commits.fetch_add(1, Ordering::Relaxed);
        for batch in group {
            (batch.done)();
        }
    }
}

/// Makes the tables, and forgets redemptions that nobody can show again: beyond redeem-by and the replay memory.
fn prepare(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let clock = transaction
        .open_table(NUMBERS)?
        .get(WALL_CLOCK)?
        .map_or(0, |clock| clock.value());
    let forget_before = UnixMillis(clock) - UnixMillis(0);
    let forget_before = forget_before.saturating_sub(REPLAY_MEMORY).as_millis();
    transaction
        .open_table(REDEEMED)?
        .retain(|_, until| u128::from(until) >= forget_before)?;
    transaction.open_table(QUOTE_KEYS)?;
    transaction.open_table(INVOICES)?;
    transaction.open_table(ACCOUNTS)?;
    transaction.open_table(PROOFS)?;
    transaction.open_table(CREDIT)?;
    transaction.open_table(NUMBERS)?;
    transaction.commit()?;
    Ok(())
}

fn commit(database: &Database, group: &[Batch]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for batch in group {
        for record in &batch.records {
            apply(&transaction, record)?;
        }
    }
    if let Some(wall_clock) = group.iter().map(|batch| batch.wall_clock).max() {
        transaction
            .open_table(NUMBERS)?
            .insert(WALL_CLOCK, wall_clock.0)?;
    }
    transaction.commit()?;
    Ok(())
}

fn apply(transaction: &WriteTransaction, record: &Record) -> Result<(), redb::Error> {
    match record {
        Record::QuoteKey(key) => {
            transaction
                .open_table(QUOTE_KEYS)?
                .insert(key.id, encode(key)?.as_slice())?;
        }
        Record::QuoteKeyErased(id) => {
            transaction.open_table(QUOTE_KEYS)?.remove(id)?;
        }
        Record::Invoice(invoice) => {
            transaction
                .open_table(INVOICES)?
                .insert(invoice.payment_hash, encode(invoice)?.as_slice())?;
        }
        Record::InvoiceClosed {
            payment_hash,
            redeemed_until,
        } => {
            transaction.open_table(INVOICES)?.remove(payment_hash)?;
            if let Some(until) = redeemed_until {
                transaction.open_table(REDEEMED)?.insert(payment_hash, until.0)?;
            }
        }
        Record::Account(account) => {
            transaction
                .open_table(ACCOUNTS)?
                .insert(account.key, account.balance_msat)?;
        }
        Record::TreasuryOwed(msat) => {
            transaction.open_table(NUMBERS)?.insert(TREASURY_OWED, msat)?;
        }
        Record::Proof(proof) => {
            transaction
                .open_table(PROOFS)?
                .insert(proof.payment_hash, encode(proof)?.as_slice())?;
        }
        Record::ProofRedeemed { payment_hash } => {
            transaction.open_table(PROOFS)?.remove(payment_hash)?;
        }
        Record::Credit { payee, msat } => {
            transaction.open_table(CREDIT)?.insert(payee.0, msat)?;
        }
    }
    Ok(())
}

fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>, redb::Error> {
    postcard::to_stdvec(value).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, redb::Error> {
    postcard::from_bytes(bytes).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

fn load(database: &Database) -> Result<Restored, redb::Error> {
    let transaction = database.begin_read()?;
    let mut records = Vec::new();
    for entry in transaction.open_table(QUOTE_KEYS)?.iter()? {
        records.push(Record::QuoteKey(decode(entry?.1.value())?));
    }
    for entry in transaction.open_table(INVOICES)?.iter()? {
        records.push(Record::Invoice(decode(entry?.1.value())?));
    }
    for entry in transaction.open_table(REDEEMED)?.iter()? {
        let (payment_hash, until) = entry?;
        records.push(Record::InvoiceClosed {
            payment_hash: payment_hash.value(),
            redeemed_until: Some(UnixMillis(until.value())),
        });
    }
    for entry in transaction.open_table(ACCOUNTS)?.iter()? {
        let (key, balance) = entry?;
        records.push(Record::Account(AccountRecord {
            key: key.value(),
            balance_msat: balance.value(),
        }));
    }
    for entry in transaction.open_table(PROOFS)?.iter()? {
        records.push(Record::Proof(decode(entry?.1.value())?));
    }
    for entry in transaction.open_table(CREDIT)?.iter()? {
        let (payee, msat) = entry?;
        records.push(Record::Credit {
            payee: NodeId(payee.value()),
            msat: msat.value(),
        });
    }
    let numbers = transaction.open_table(NUMBERS)?;
    if let Some(owed) = numbers.get(TREASURY_OWED)? {
        records.push(Record::TreasuryOwed(owed.value()));
    }
    let wall_clock = numbers
        .get(WALL_CLOCK)?
        .map_or(UnixMillis(0), |clock| UnixMillis(clock.value()));
    Ok(Restored { records, wall_clock })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::quotes::InvoiceRecord;

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
            vec![account(13), redeemed.clone(), Record::TreasuryOwed(4)],
        );
        drop(store);
        let (_store, restored) = Store::open(&path).unwrap();
        let expected = [
            Record::Invoice(invoice(2)),
            redeemed,
            account(13),
            Record::TreasuryOwed(4),
        ];
        assert_eq!(restored.records, expected);
        assert_eq!(restored.wall_clock, UnixMillis(77));
    }

    #[test]
    fn file_that_is_no_database_is_refused_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh.redb");
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        let error = Store::open(&path).err().unwrap().to_string();
        assert!(error.contains("backup"), "{error}");
    }
}
