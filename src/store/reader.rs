//! Reading the ledger beside the writer: a page, the sums, or everything as it was at one moment.
//!
//! A reader sees what was durable when it began and holds the writer up in nothing. Only a database that failed cannot be
//! opened anew while somebody reads it, so readers read a bounded page and let go; the audit alone reads everything, and
//! waits for nobody while it does.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};

use mesh_core::identity::NodeId;
use mesh_core::ledger::Entry;
use mesh_core::payer::PurchasedProof;
use mesh_core::time::UnixMillis;
use mesh_core::treasury::TreasuryPayment;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
};

use super::ledger::{BALANCES, BY_PARTY, BY_SESSION, LEDGER, SUSPECTS, TOTALS, read_books};
use super::{
    ACCOUNTS, CREDIT, DEFAULT_CACHE_BYTES, NUMBERS, PROOFS, StoreError, TREASURY, TREASURY_OWED, decode,
};
use crate::handle::lock;
use crate::ledger::Books;
use crate::ledger::query::{BookedEntry, LedgerPage, LedgerQuery, MAX_LEDGER_PAGE, MAX_LOOKED_AT, Order};

/// The open database, shared by the writer with those who read; none while it is closed because the disk refused.
pub(super) type Shared = Arc<Mutex<Option<Arc<Database>>>>;

/// Reads what is durable. Cheap to clone.
#[derive(Clone)]
pub struct StoreReader {
    path: Arc<str>,
    database: Shared,
}

impl StoreReader {
    pub(super) fn new(path: &str, database: Shared) -> Self {
        Self {
            path: path.into(),
            database,
        }
    }

    pub(super) fn database(&self) -> Shared {
        self.database.clone()
    }

    /// Opens the database of a node that does not run. As long as this reader lives, the node cannot be started.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a node runs on it; else as [`super::Store::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let failed = |error: redb::Error| StoreError::of(&name, &error);
        let mut builder = Database::builder();
        let opened = builder.set_cache_size(DEFAULT_CACHE_BYTES).open(path);
        let database = opened.map_err(|error| failed(error.into()))?;
        // As every start does it: tables that an older version lacks, and away with what nobody can show again.
        super::prepare(&database).map_err(failed)?;
        Ok(Self::new(&name, Arc::new(Mutex::new(Some(Arc::new(database))))))
    }

    /// A page of entries. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn page(&self, query: &LedgerQuery) -> Result<LedgerPage, StoreError> {
        self.read(|snapshot| snapshot.page(query))
    }

    /// The running sums. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn books(&self) -> Result<Books, StoreError> {
        self.read(Snapshot::books)
    }

    /// Reads everything as it is at this moment. Blocks for as long as `read` takes.
    ///
    /// # Errors
    /// [`StoreError`], also those of `read`.
    pub fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = lock(&self.database).clone();
        let database = database.ok_or_else(|| StoreError::Refused {
            path: self.path.to_string(),
            reason: "the disk refuses, and the database is closed until it does not".to_owned(),
        })?;
        let snapshot = database.begin_read().map_err(redb::Error::from).map(Snapshot);
        let done = snapshot.and_then(|snapshot| read(&snapshot));
        done.map_err(|error| StoreError::of(&self.path, &error))
    }
}

/// The database as it was at one moment.
pub struct Snapshot(ReadTransaction);

/// The records that the node acts on and that the ledger must agree with, in msat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActedOn {
    /// Payers' accounts by their keys.
    pub accounts: BTreeMap<[u8; 32], u64>,
    /// This node's credit by payee.
    pub credit: BTreeMap<NodeId, u64>,
    /// This node's payments that are under way or not redeemed.
    pub proofs: Vec<PurchasedProof>,
    /// The payment to the treasury that is under way, if there is one.
    pub treasury_begun_msat: u64,
    /// What is owed to the treasury.
    pub treasury_owed_msat: u64,
}

/// How many rows the two indices have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexRows {
    /// By session.
    pub by_session: u64,
    /// By the other party.
    pub by_party: u64,
}

type Entries = ReadOnlyTable<u64, &'static [u8]>;

impl Snapshot {
    /// The running sums.
    ///
    /// # Errors
    /// What the database says.
    pub fn books(&self) -> Result<Books, redb::Error> {
        read_books(&self.0.open_table(BALANCES)?, &self.0.open_table(TOTALS)?)
    }

    /// Hands every entry to `each`, oldest first: its number, and the entry or why it cannot be read.
    ///
    /// # Errors
    /// What the database says.
    pub fn for_each_entry(
        &self,
        mut each: impl FnMut(u64, Result<Entry, String>),
    ) -> Result<(), redb::Error> {
        for row in self.0.open_table(LEDGER)?.iter()? {
            let (number, bytes) = row?;
            each(
                number.value(),
                postcard::from_bytes(bytes.value()).map_err(|e| e.to_string()),
            );
        }
        Ok(())
    }

    /// Entries that were put apart because they do not balance, with their numbers.
    ///
    /// # Errors
    /// What the database says.
    pub fn suspects(&self) -> Result<Vec<(u64, Option<Entry>)>, redb::Error> {
        let mut suspects = Vec::new();
        for row in self.0.open_table(SUSPECTS)?.iter()?.take(MAX_LEDGER_PAGE) {
            let (number, bytes) = row?;
            suspects.push((number.value(), postcard::from_bytes(bytes.value()).ok()));
        }
        Ok(suspects)
    }

    /// How many rows the indices have.
    ///
    /// # Errors
    /// What the database says.
    pub fn index_rows(&self) -> Result<IndexRows, redb::Error> {
        Ok(IndexRows {
            by_session: self.0.open_table(BY_SESSION)?.len()?,
            by_party: self.0.open_table(BY_PARTY)?.len()?,
        })
    }

    /// The records that the node acts on.
    ///
    /// # Errors
    /// What the database says.
    pub fn acted_on(&self) -> Result<ActedOn, redb::Error> {
        let mut acted_on = ActedOn::default();
        for row in self.0.open_table(ACCOUNTS)?.iter()? {
            let (key, msat) = row?;
            acted_on.accounts.insert(key.value(), msat.value());
        }
        for row in self.0.open_table(CREDIT)?.iter()? {
            let (payee, msat) = row?;
            acted_on.credit.insert(NodeId(payee.value()), msat.value());
        }
        for row in self.0.open_table(PROOFS)?.iter()? {
            acted_on.proofs.push(decode(row?.1.value())?);
        }
        for row in self.0.open_table(TREASURY)?.iter()? {
            let payment: TreasuryPayment = decode(row?.1.value())?;
            acted_on.treasury_begun_msat = payment.amount_msat;
        }
        let owed = self.0.open_table(NUMBERS)?.get(TREASURY_OWED)?;
        acted_on.treasury_owed_msat = owed.map_or(0, |owed| owed.value());
        Ok(acted_on)
    }

    fn page(&self, query: &LedgerQuery) -> Result<LedgerPage, redb::Error> {
        let entries = self.0.open_table(LEDGER)?;
        let Some(range) = self.range(&entries, query)? else {
            return Ok(LedgerPage::default());
        };
        // Of two conditions the session has fewer entries: a party's may be all there are.
        if let Some(session) = query.session {
            let index = self.0.open_table(BY_SESSION)?;
            let rows = index.range((session, range.0)..=(session, range.1))?;
            let numbers = rows.map(|row| Ok(row?.0.value().1));
            return collect(query, in_order(numbers, query.order), |number| {
                get(&entries, number)
            });
        }
        if let Some(party) = query.party {
            let index = self.0.open_table(BY_PARTY)?;
            let rows = index.range((party, range.0)..=(party, range.1))?;
            let numbers = rows.map(|row| Ok(row?.0.value().1));
            return collect(query, in_order(numbers, query.order), |number| {
                get(&entries, number)
            });
        }
        let rows = entries.range(range.0..=range.1)?;
        let numbers = rows.map(|row| Ok(row?.0.value()));
        collect(query, in_order(numbers, query.order), |number| {
            get(&entries, number)
        })
    }

    /// The numbers among which the wanted entries are; none when there can be none.
    fn range(&self, entries: &Entries, query: &LedgerQuery) -> Result<Option<(u64, u64)>, redb::Error> {
        let Some(last) = entries.last()?.map(|(number, _)| number.value()) else {
            return Ok(None);
        };
        let since = match query.since {
            Some(since) => first_since(entries, last, since)?,
            None => 1,
        };
        let (from, to) = match (query.order, query.beyond) {
            (_, None) => (since, last),
            (Order::OldestFirst, Some(beyond)) => (since.max(beyond.saturating_add(1)), last),
            (Order::NewestFirst, Some(beyond)) => (since, last.min(beyond.saturating_sub(1))),
        };
        Ok((from <= to).then_some((from, to)))
    }
}

fn get(entries: &Entries, number: u64) -> Result<Option<Entry>, redb::Error> {
    match entries.get(number)? {
        Some(bytes) => decode(bytes.value()).map(Some),
        None => Ok(None),
    }
}

/// The first entry booked at or after `since`, by halving: times rise with the numbers. Behind the last if there is none.
fn first_since(entries: &Entries, last: u64, since: UnixMillis) -> Result<u64, redb::Error> {
    let (mut low, mut high) = (1, last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        // An entry that is missing was tampered with, which the audit tells; the next one stands for it.
        let found = entries
            .range((Bound::Included(middle), Bound::Excluded(high)))?
            .next();
        let Some((number, bytes)) = found.transpose()?.map(|(number, bytes)| (number.value(), bytes)) else {
            high = middle;
            continue;
        };
        if decode::<Entry>(bytes.value())?.at < since {
            low = number + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn in_order<'a, T: 'a>(
    rows: impl DoubleEndedIterator<Item = T> + 'a,
    order: Order,
) -> Box<dyn Iterator<Item = T> + 'a> {
    match order {
        Order::OldestFirst => Box::new(rows),
        Order::NewestFirst => Box::new(rows.rev()),
    }
}

/// The wanted entries among `numbers`, until the page is full or enough was looked at.
fn collect(
    query: &LedgerQuery,
    numbers: impl Iterator<Item = Result<u64, redb::StorageError>>,
    entry: impl Fn(u64) -> Result<Option<Entry>, redb::Error>,
) -> Result<LedgerPage, redb::Error> {
    let limit = query.limit.min(MAX_LEDGER_PAGE);
    let mut page = LedgerPage::default();
    for (seen, number) in numbers.enumerate() {
        if page.entries.len() >= limit || seen >= MAX_LOOKED_AT {
            return Ok(page);
        }
        let number = number?;
        page.next = Some(number);
        if let Some(entry) = entry(number)?.filter(|entry| query.wants(entry)) {
            page.entries.push(BookedEntry { number, entry });
        }
    }
    page.next = None;
    Ok(page)
}
