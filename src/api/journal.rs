//! What waits for the owners of protocols, on disk: its senders have this node's receipts for it.
//!
//! Packets never wait for the disk. What the desk takes in and gives away is noted here, and written behind it by a task of its
//! own: all that gathered within [`WRITE_AFTER`], or sooner [`WRITE_TOGETHER`] of them, in one commit. A packet that was
//! handled before its turn came never touches the disk. A crash costs, of what waited, at the most what came within that
//! time and that of the commit under way; its senders have no receipts for that, since those wait for the disk where packets do
//! not ([`Safe`]). And what was handled or polled within that time is handed over once more.
//!
//! The database is not that of the books: payloads are large, and money is not to queue behind them. A disk that refuses is
//! asked again; what waits then waits in memory, within the desk's bounds. A database that is damaged is set aside and said so:
//! what was in it is lost, and the mesh runs.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mesh_core::event::Delivery;
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use tokio::sync::Notify;

use super::courier::wire_delivery;
use super::desk::Move;
use crate::handle::{Safe, lock};

/// The database's name within the data directory.
pub const DELIVERIES_FILE: &str = "deliveries.redb";

/// How long what came waits for company before it is written: a commit takes a disk some milliseconds, and most handlers are
/// done sooner, so that most packets are never written.
pub const WRITE_AFTER: Duration = Duration::from_millis(20);

/// Moves that are written without waiting for more, so that a crash forgets few packets however fast they come.
pub const WRITE_TOGETHER: usize = 64;

/// How long a disk that refused is left alone.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How often a disk that refuses is asked when the node stops.
const LAST_ATTEMPTS: u32 = 3;

/// Bytes of the database that are kept in memory: it is written and read once, at the start.
const CACHE_BYTES: usize = 4 << 20;

/// Arrival's number to the packet, as [`mesh_api`] encodes it.
const WAITING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("waiting");

/// Why what waits cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk or the operating system refuses.
    #[error(
        "the packets that wait for modules cannot be kept in {}: {reason}; check the disk's free space and the file's permissions",
        .path.display()
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// Two on one database would hand everything over twice.
    #[error("{} is in use by another process; stop that one first", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

type Open = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

/// What is to be written: each packet's latest move. `None` for one that is to be forgotten.
type Changes = BTreeMap<u64, Option<Delivery>>;

fn has_packets(changes: &Changes) -> bool {
    changes.values().any(Option::is_some)
}

#[derive(Default)]
struct Noted {
    changes: Changes,
    /// Arrivals that are noted, packets for which there was nothing to note included.
    arrivals: u64,
    /// Packets are being written.
    writing: bool,
}

impl Noted {
    /// So many arrivals are safe, if no packet waits for the disk. What is only to be forgotten holds nothing back.
    fn all_safe(&self) -> Option<u64> {
        let waits = self.writing || has_packets(&self.changes);
        (!waits).then_some(self.arrivals)
    }
}

/// The packets that wait; without a disk they last as long as the process.
#[derive(Clone, Default)]
pub(super) struct Journal {
    written: Option<Arc<Written>>,
}

struct Written {
    open: Open,
    /// Held while something is written, so that what was noted first is written first. None after a failure, and at the end.
    disk: Mutex<Option<Database>>,
    noted: Mutex<Noted>,
    /// Whoever has receipts wait for what is not safe.
    safe: OnceLock<Safe>,
    /// There is something to write.
    some: Notify,
    /// There is so much that it is written at once.
    many: Notify,
    on_disk: AtomicU64,
    refuses: AtomicBool,
    /// Nothing is noted any more.
    closed: AtomicBool,
}

impl Journal {
    /// Opens or creates the database, and tells what is in it, in the order of arrival.
    ///
    /// # Errors
    /// [`JournalError`]. A damaged database is set aside and no error.
    pub(super) fn open(directory: &Path, left: impl FnMut(u64, Delivery)) -> Result<Self, JournalError> {
        let path = directory.join(DELIVERIES_FILE);
        let file = path.clone();
        let open = move || {
            crate::store::make_private(&file)?;
            let mut builder = Database::builder();
            let created = builder.set_cache_size(CACHE_BYTES).create(&file);
            created.map_err(redb::Error::from)
        };
        Self::open_with(&path, Box::new(open), left)
    }

    fn open_with(path: &Path, open: Open, mut left: impl FnMut(u64, Delivery)) -> Result<Self, JournalError> {
        let failed = |error: &redb::Error| failure(path, error);
        let read = open().and_then(|database| Ok((read_all(&database)?, database)));
        let (found, database) = match read {
            Err(error) if is_damage(&error) => {
                set_aside(path, &error)?;
                let database = open().map_err(|error| failed(&error))?;
                (read_all(&database).map_err(|error| failed(&error))?, database)
            }
            read => read.map_err(|error| failed(&error))?,
        };
        let written = Written {
            open,
            disk: Mutex::new(Some(database)),
            noted: Mutex::default(),
            safe: OnceLock::new(),
            some: Notify::new(),
            many: Notify::new(),
            on_disk: AtomicU64::new(found.len() as u64),
            refuses: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        };
        for (number, packet) in found {
            match packet {
                Some(delivery) => left(number, delivery),
                None => {
                    tracing::error!(file = %path.display(), number, "a packet that waited for a module cannot be read and is lost");
                    lock(&written.noted).changes.insert(number, None);
                }
            }
        }
        written.some.notify_one();
        Ok(Self {
            written: Some(Arc::new(written)),
        })
    }

    /// Whether what waits outlives the process.
    pub(super) fn lasts(&self) -> bool {
        self.written.is_some()
    }

    /// From now on this is told how many arrivals are safe. Once.
    pub(super) fn tell(&self, safe: Safe) {
        if let Some(written) = &self.written {
            // There is one front desk, and it is told of once.
            let _ = written.safe.set(safe);
        }
    }

    /// Notes what is to be written, now that there were so many arrivals in all. Does not wait for it.
    pub(super) fn note(&self, moves: Vec<Move>, arrivals: u64) {
        let Some(written) = &self.written else {
            return;
        };
        let mut noted = lock(&written.noted);
        if written.closed.load(Ordering::Relaxed) || (moves.is_empty() && noted.arrivals == arrivals) {
            return;
        }
        noted.arrivals = arrivals;
        for one in moves {
            match one {
                Move::Came(number, delivery) => {
                    noted.changes.insert(number, Some(delivery));
                }
                // What was not written need not be forgotten.
                Move::Went(number) => match noted.changes.remove(&number) {
                    Some(Some(_)) => {}
                    Some(None) | None => {
                        noted.changes.insert(number, None);
                    }
                },
            }
        }
        let (safe, waiting) = (noted.all_safe(), noted.changes.len());
        drop(noted);
        written.say_safe(safe);
        if waiting > 0 {
            written.some.notify_one();
        }
        if waiting >= WRITE_TOGETHER {
            written.many.notify_one();
        }
    }

    /// Packets that are on disk.
    pub(super) fn on_disk(&self) -> u64 {
        self.written
            .as_ref()
            .map_or(0, |written| written.on_disk.load(Ordering::Relaxed))
    }

    /// Writes what is noted, for ever.
    pub(super) async fn run(self) {
        let Some(written) = self.written else {
            return;
        };
        loop {
            written.some.notified().await;
            tokio::select! {
                () = tokio::time::sleep(WRITE_AFTER) => {}
                () = written.many.notified() => {}
            }
            while !written.clone().attempt().await {
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }

    /// Writes what is left and closes the database; nothing is noted any more.
    pub(super) async fn close(&self) {
        let Some(written) = &self.written else {
            return;
        };
        for attempt in 1..=LAST_ATTEMPTS {
            if written.clone().attempt().await {
                break;
            }
            if attempt == LAST_ATTEMPTS {
                tracing::error!(
                    "the disk refuses and the node stops: packets that wait for modules and are not written are lost"
                );
            }
        }
        written.closed.store(true, Ordering::Relaxed);
        lock(&written.disk).take();
    }
}

impl Written {
    /// One commit, off the runtime's threads. Whether all that was noted when it began is on disk.
    async fn attempt(self: Arc<Self>) -> bool {
        let attempt = tokio::task::spawn_blocking(move || self.write());
        attempt.await.unwrap_or(false)
    }

    fn write(&self) -> bool {
        let mut disk = lock(&self.disk);
        let (changes, arrivals) = {
            let mut noted = lock(&self.noted);
            if noted.changes.is_empty() || self.closed.load(Ordering::Relaxed) {
                return true;
            }
            noted.writing = has_packets(&noted.changes);
            (std::mem::take(&mut noted.changes), noted.arrivals)
        };
        let opened = disk.take();
        let attempt = || {
            let database = opened.map_or_else(|| (self.open)(), Ok)?;
            Ok((commit(&database, &changes)?, database))
        };
        // A database that panics refuses: what it was to write is still to be written. It is opened anew, so nothing half done
        // of it is used.
        let done = std::panic::catch_unwind(AssertUnwindSafe(attempt))
            .unwrap_or_else(|_| Err(redb::Error::Io(std::io::Error::other("it panicked"))));
        match done {
            Ok((on_disk, database)) => {
                *disk = Some(database);
                self.on_disk.store(on_disk, Ordering::Relaxed);
                let safe = {
                    let mut noted = lock(&self.noted);
                    noted.writing = false;
                    noted.all_safe().unwrap_or(arrivals)
                };
                self.say_safe(Some(safe));
                if self.refuses.swap(false, Ordering::Relaxed) {
                    tracing::warn!("the disk takes the packets that wait for modules again");
                }
                true
            }
            // A database that failed once refuses everything until it is opened anew.
            Err(error) => {
                let safe = self.take_back(changes);
                self.say_safe(safe);
                self.refuses.store(true, Ordering::Relaxed);
                tracing::error!(%error, "the disk refuses the packets that wait for modules: they wait in memory, and a crash would lose them; check the disk");
                false
            }
        }
    }

    /// Changes that were not written, unless something newer is noted. So many arrivals are safe nevertheless, if all are.
    fn take_back(&self, changes: Changes) -> Option<u64> {
        let mut noted = lock(&self.noted);
        noted.writing = false;
        for (number, change) in changes {
            noted.changes.entry(number).or_insert(change);
        }
        noted.all_safe()
    }

    fn say_safe(&self, arrivals: Option<u64>) {
        if let (Some(safe), Some(arrivals)) = (self.safe.get(), arrivals) {
            safe.are(arrivals);
        }
    }
}

/// How many packets are there afterwards.
fn commit(database: &Database, changes: &Changes) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let mut table = transaction.open_table(WAITING)?;
    for (number, change) in changes {
        let Some(delivery) = change else {
            table.remove(number)?;
            continue;
        };
        match mesh_api::encode(&wire_delivery(delivery.clone())) {
            Ok(packet) => {
                table.insert(number, packet.as_slice())?;
            }
            // No packet is longer than what its encoding takes; one that were must not keep the others from the disk.
            Err(error) => {
                tracing::error!(%error, "a packet that waits for a module cannot be kept on disk");
            }
        }
    }
    let count = table.len()?;
    drop(table);
    transaction.commit()?;
    Ok(count)
}

/// All packets in the order of their arrival; none for one that makes no sense.
fn read_all(database: &Database) -> Result<Vec<(u64, Option<Delivery>)>, redb::Error> {
    let creating = database.begin_write()?;
    creating.open_table(WAITING)?;
    creating.commit()?;
    let transaction = database.begin_read()?;
    let mut found = Vec::new();
    for row in transaction.open_table(WAITING)?.iter()? {
        let (number, packet) = row?;
        let delivery = mesh_api::decode(packet.value()).ok().map(core_delivery);
        found.push((number.value(), delivery));
    }
    Ok(found)
}

/// A packet in the words of the core.
fn core_delivery(delivery: mesh_api::Delivery) -> Delivery {
    Delivery {
        source: delivery.source.map(NodeId),
        session: SessionId(delivery.session_id),
        sequence: delivery.sequence,
        packet_id: delivery.packet_id,
        protocol_id: delivery.protocol_id.unwrap_or_default(),
        payload: Bytes::from(delivery.payload),
    }
}

fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::DatabaseAlreadyOpen => false,
        redb::Error::Io(io) => io.kind() == std::io::ErrorKind::InvalidData,
        _ => true,
    }
}

fn failure(path: &Path, error: &redb::Error) -> JournalError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => JournalError::InUse { path },
        error => JournalError::Refused {
            path,
            reason: error.to_string(),
        },
    }
}

fn set_aside(path: &Path, error: &redb::Error) -> Result<(), JournalError> {
    let aside = path.with_extension("damaged");
    tracing::error!(%error, file = %path.display(), aside = %aside.display(), "the packets that waited for modules are damaged and set aside: they are lost");
    std::fs::rename(path, aside).map_err(|error| failure(path, &redb::Error::Io(error)))
}

#[cfg(test)]
mod tests;
