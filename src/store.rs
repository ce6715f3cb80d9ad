//! What survives a kill -9: the core's records in one embedded database, written by one thread.
//!
//! Records that queue up while a commit is under way go into the next one together, so a commit's fsync is shared by
//! all who wait for it. A disk that refuses is asked again until the node is stopped: whoever waits for durability goes
//! on waiting and nothing is lost or shown too early. [`StoreHealth`] says whether it refuses. What is durable can be read
//! beside the writer ([`StoreReader`]).

mod ledger;
mod reader;

mod chain;
mod weighed;

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use mesh_core::account::AccountRecord;
use mesh_core::event::Record;
use mesh_core::identity::NodeId;
use mesh_core::limits::{CLOCK_SKEW, REPLAY_MEMORY};
use mesh_core::time::UnixMillis;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::handle::lock;
use ledger::Booking;
use reader::Shared;
pub use reader::{ActedOn, IndexRows, Snapshot, StoreReader};

const QUOTE_KEYS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("quote_keys");
const INVOICES: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("invoices");
const REDEEMED: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("redeemed");
const ACCOUNTS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("accounts");
const PROOFS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("proofs");
/// The payment to the treasury that is under way; at most one row.
const TREASURY: TableDefinition<'_, (), &[u8]> = TableDefinition::new("treasury");
const CREDIT: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("credit");
/// Origin to (seqno, expires).
const ANNOUNCED: TableDefinition<'_, [u8; 32], (u64, u64)> = TableDefinition::new("announced");
/// Auto-payments of the last day, by the quotes they paid.
const SPENDING: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("spending");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

const TREASURY_OWED: &str = "treasury_owed_msat";
const EARNED: &str = "earned_msat";
const OWN_SEQNO: &str = "own_seqno";
const WALL_CLOCK: &str = "wall_clock_unix_ms";

/// Batches that may wait for the writer: the manager hands over the next only when the last is durable.
const QUEUE: usize = 2;

/// Bytes of the database that are kept in memory unless told otherwise: the tables that a node works on, not a ledger of
/// years.
pub const DEFAULT_CACHE_BYTES: usize = 64 << 20;

/// How long a refused commit waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How often a disk that refuses is asked again once the node is being stopped: whoever stops it waits for this long.
const LAST_ATTEMPTS: u32 = 3;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is in the database makes no sense.
    #[error(
        "the database {path} cannot be read: {reason}; restore it from a backup, or move it away to start with empty accounts"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the database said.
        reason: String,
    },
    /// The disk or the operating system refuses.
    #[error(
        "the database {path} cannot be opened and written: {reason}; check the disk's free space and the file's permissions"
    )]
    Refused {
        /// The file.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// Two nodes on one database would both spend what is in it.
    #[error("the database {path} is in use by another process; stop that one first")]
    InUse {
        /// The file.
        path: String,
    },
    /// The writer is gone.
    #[error("the database writer has stopped; restart the node")]
    Stopped,
}

impl StoreError {
    fn of(path: &str, error: &redb::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse { path },
            redb::Error::Io(io) if io.kind() != std::io::ErrorKind::InvalidData => {
                Self::Refused { path, reason }
            }
            _ => Self::Unreadable { path, reason },
        }
    }
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

/// How the writing goes. Read by whoever tells the operator.
#[derive(Debug, Default)]
pub struct StoreHealth {
    commits: AtomicU64,
    failures: AtomicU64,
    suspects: AtomicU64,
    refuses: AtomicBool,
    stopping: AtomicBool,
}

impl StoreHealth {
    /// Commits done.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Commits that failed and were tried again.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Entries of the ledger that do not balance, of all lives: each is a defect of this program. They are put apart and
    /// not counted, and `blvm-mesh audit` shows them.
    pub fn suspect_entries(&self) -> u64 {
        self.suspects.load(Ordering::Relaxed)
    }

    /// Whether the disk refused the latest attempt: until it takes one, this node opens no session, credits no payment
    /// and pays nobody.
    pub fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }
}

/// How the database is opened: at the start, and again whenever it failed.
type Open = Box<dyn Fn() -> Result<Database, redb::Error> + Send>;

/// The database and its writer thread.
pub struct Store {
    batches: Option<mpsc::SyncSender<Batch>>,
    writer: Option<JoinHandle<()>>,
    health: Arc<StoreHealth>,
    reader: StoreReader,
}

impl Store {
    /// Opens or creates the database and reads what is in it.
    pub fn open(path: &Path) -> Result<(Self, Restored), StoreError> {
        Self::open_with_cache(path, DEFAULT_CACHE_BYTES)
    }

    /// The same with so many bytes of it kept in memory.
    pub fn open_with_cache(path: &Path, cache_bytes: usize) -> Result<(Self, Restored), StoreError> {
        let file = path.to_owned();
        let open = move || {
            make_private(&file)?;
            let mut builder = Database::builder();
            let created = builder.set_cache_size(cache_bytes).create(&file);
            created.map_err(redb::Error::from)
        };
        Self::open_with(&path.display().to_string(), Box::new(open))
    }

    fn open_with(path: &str, open: Open) -> Result<(Self, Restored), StoreError> {
        let failed = |error: redb::Error| StoreError::of(path, &error);
        let database = open().map_err(failed)?;
        let suspects = prepare(&database).map_err(failed)?;
        let restored = load(&database).map_err(failed)?;
        let (batches, queue) = mpsc::sync_channel(QUEUE);
        let health = Arc::new(StoreHealth::default());
        health.suspects.store(suspects, Ordering::Relaxed);
        let database: Shared = Arc::new(Mutex::new(Some(Arc::new(database))));
        let reader = StoreReader::new(path, database.clone());
        let writer = Writer {
            open,
            database,
            health: health.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("mesh-store".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| failed(redb::Error::Io(error)))?;
        let store = Self {
            batches: Some(batches),
            writer: Some(writer),
            health,
            reader,
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

    /// Reads what is durable, beside the writer.
    pub fn reader(&self) -> StoreReader {
        self.reader.clone()
    }

    /// How the writing goes.
    pub fn health(&self) -> Arc<StoreHealth> {
        self.health.clone()
    }
}

impl Drop for Store {
    /// Waits for what was handed over, but not for a disk that goes on refusing.
    fn drop(&mut self) {
        self.health.stopping.store(true, Ordering::Relaxed);
        self.batches = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to wait for.
            let _ = writer.join();
        }
        // Readers that outlive the store must not keep the file from being opened again.
        lock(&self.reader.database()).take();
    }
}

/// The thread that writes.
struct Writer {
    open: Open,
    database: Shared,
    health: Arc<StoreHealth>,
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Batch>) {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            group.extend(queue.try_iter());
            if !self.make_durable(&group) {
                return;
            }
            for batch in group {
                (batch.done)();
            }
        }
    }

    /// Tries until it is done; gives up only when the node is being stopped and the disk still refuses.
    fn make_durable(&mut self, group: &[Batch]) -> bool {
        let mut last_attempts = 0;
        while let Err(error) = self.attempt(group) {
            self.health.failures.fetch_add(1, Ordering::Relaxed);
            self.health.refuses.store(true, Ordering::Relaxed);
            let attempts = self.health.failures();
            if self.health.stopping.load(Ordering::Relaxed) {
                last_attempts += 1;
                if last_attempts >= LAST_ATTEMPTS {
                    tracing::error!(%error, "the database refuses to write and the node stops: what waited for it was never shown to anybody, and leases not written back are this node's loss");
                    return false;
                }
            }
            tracing::error!(%error, attempts, "the database refused to write; everything that waits for it goes on waiting: check the disk");
            std::thread::sleep(RETRY_AFTER);
        }
        if self.health.refuses.swap(false, Ordering::Relaxed) {
            tracing::warn!("the database takes what is written again");
        }
        self.health.commits.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// One commit. A database that failed once refuses everything until it is opened anew, so after a failure it is.
    fn attempt(&mut self, group: &[Batch]) -> Result<(), redb::Error> {
        let opened = lock(&self.database).clone();
        let database = match opened {
            Some(database) => database,
            None => Arc::new((self.open)()?),
        };
        // Readers have it meanwhile; after a failure they get none until it is opened anew.
        *lock(&self.database) = Some(database.clone());
        match commit(&database, group) {
            Ok(suspects) => {
                self.health.suspects.fetch_add(suspects, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                lock(&self.database).take();
                Err(error)
            }
        }
    }
}

/// Creates a database's file readable by its owner alone: it holds the secret keys of open quotes and unredeemed preimages.
pub(crate) fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path).map(drop)
}

/// Makes the tables, and forgets redemptions and announcements that nobody can show again: beyond redeem-by and the replay
/// memory, and beyond their expiry.
/// How many entries of the ledger were put apart so far.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
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
    let oldest = UnixMillis(clock).0.saturating_sub(CLOCK_SKEW.as_millis() as u64);
    transaction
        .open_table(ANNOUNCED)?
        .retain(|_, (_, expires)| expires >= oldest)?;
    transaction.open_table(QUOTE_KEYS)?;
    transaction.open_table(INVOICES)?;
    transaction.open_table(ACCOUNTS)?;
    transaction.open_table(PROOFS)?;
    transaction.open_table(CREDIT)?;
    transaction.open_table(SPENDING)?;
    transaction.open_table(TREASURY)?;
    weighed::prepare(&transaction)?;
    transaction.open_table(NUMBERS)?;
    chain::prepare(&transaction)?;
    let suspects = ledger::prepare(&transaction)?;
    transaction.commit()?;
    Ok(suspects)
}

/// How many entries of the ledger were put apart.
fn commit(database: &Database, group: &[Batch]) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let mut booking = None;
    for record in group.iter().flat_map(|batch| &batch.records) {
        match record {
            Record::Booked(entry) => match &mut booking {
                Some(booking) => Booking::book(booking, entry)?,
                None => booking.insert(Booking::begin(&transaction)?).book(entry)?,
            },
            record => apply(&transaction, record)?,
        }
    }
    let suspects = booking.map_or(Ok(0), Booking::finish)?;
    if let Some(wall_clock) = group.iter().map(|batch| batch.wall_clock).max() {
        transaction
            .open_table(NUMBERS)?
            .insert(WALL_CLOCK, wall_clock.0)?;
    }
    transaction.commit()?;
    Ok(suspects)
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
        Record::Earned(msat) => {
            transaction.open_table(NUMBERS)?.insert(EARNED, msat)?;
        }
        Record::OwnSeqno(seqno) => {
            transaction.open_table(NUMBERS)?.insert(OWN_SEQNO, seqno)?;
        }
        Record::AnnouncementSeen {
            origin,
            seqno,
            expires,
        } => {
            transaction
                .open_table(ANNOUNCED)?
                .insert(origin.0, (*seqno, expires.0))?;
        }
        Record::AnnouncementForgotten { origin } => {
            transaction.open_table(ANNOUNCED)?.remove(origin.0)?;
        }
        Record::Proof(proof) => {
            transaction
                .open_table(PROOFS)?
                .insert(proof.payment_hash, encode(proof)?.as_slice())?;
        }
        Record::ProofRedeemed { payment_hash } => {
            transaction.open_table(PROOFS)?.remove(payment_hash)?;
        }
        Record::TreasuryBegun(payment) => {
            transaction
                .open_table(TREASURY)?
                .insert((), encode(payment)?.as_slice())?;
        }
        Record::TreasuryDone => {
            transaction.open_table(TREASURY)?.remove(())?;
        }
        // Booked all together in a commit, by `Booking`.
        Record::Booked(_) => {}
        Record::Credit { payee, msat } => {
            transaction.open_table(CREDIT)?.insert(payee.0, msat)?;
        }
        Record::OutputQuote(_)
        | Record::OutputQuoteClosed(_)
        | Record::Honoured(_)
        | Record::Bill(_)
        | Record::BillForgotten(_) => chain::apply(transaction, record)?,
        Record::Spending(spending) => {
            transaction
                .open_table(SPENDING)?
                .insert(spending.id, encode(spending)?.as_slice())?;
        }
        Record::SpendingForgotten(id) => {
            transaction.open_table(SPENDING)?.remove(id)?;
        }
        Record::Weighed(weighed) => weighed::apply(transaction, weighed)?,
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
    for entry in transaction.open_table(TREASURY)?.iter()? {
        records.push(Record::TreasuryBegun(decode(entry?.1.value())?));
    }
    for entry in transaction.open_table(CREDIT)?.iter()? {
        let (payee, msat) = entry?;
        records.push(Record::Credit {
            payee: NodeId(payee.value()),
            msat: msat.value(),
        });
    }
    for entry in transaction.open_table(SPENDING)?.iter()? {
        records.push(Record::Spending(decode(entry?.1.value())?));
    }
    weighed::load(&transaction, &mut records)?;
    for entry in transaction.open_table(ANNOUNCED)?.iter()? {
        let (origin, seen) = entry?;
        let (seqno, expires) = seen.value();
        records.push(Record::AnnouncementSeen {
            origin: NodeId(origin.value()),
            seqno,
            expires: UnixMillis(expires),
        });
    }
    chain::load(&transaction, &mut records)?;
    let numbers = transaction.open_table(NUMBERS)?;
    if let Some(seqno) = numbers.get(OWN_SEQNO)? {
        records.push(Record::OwnSeqno(seqno.value()));
    }
    if let Some(earned) = numbers.get(EARNED)? {
        records.push(Record::Earned(earned.value()));
    }
    if let Some(owed) = numbers.get(TREASURY_OWED)? {
        records.push(Record::TreasuryOwed(owed.value()));
    }
    let wall_clock = numbers
        .get(WALL_CLOCK)?
        .map_or(UnixMillis(0), |clock| UnixMillis(clock.value()));
    Ok(Restored { records, wall_clock })
}

#[cfg(test)]
pub(crate) mod full_disk;
#[cfg(test)]
mod tests;
