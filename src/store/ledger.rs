//! The ledger's tables, and how entries get into them.
//!
//! An entry goes into the same commit as the records it was made with, and the running sums with it. The tables are
//! opened once for a commit and the sums written once for it, so that what a commit costs hardly grows with the entries
//! in it.
//!
//! | table | key | value |
//! |---|---|---|
//! | `ledger` | number, from 1, without gaps | the entry (postcard) |
//! | `ledger_by_session` | session, number | |
//! | `ledger_by_party` | payee's node id or payer's account key, number | |
//! | `balances` | account (postcard) | msat; accounts at zero are not in it |
//! | `totals` | [`Total::number`] | msat |
//! | `ledger_suspects` | number of its own | an entry that does not balance (postcard) |
//!
//! There is no index by time: entries are numbered in the order of their times, because the wall clock that they are
//! booked at never runs backwards.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::ledger::{Entry, LedgerAccount};
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::{decode, encode};
use crate::ledger::books::{Books, Total, totals_of};
use crate::ledger::query::party_of;

pub(super) const LEDGER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ledger");
pub(super) const BY_SESSION: TableDefinition<'_, ([u8; 16], u64), ()> =
    TableDefinition::new("ledger_by_session");
pub(super) const BY_PARTY: TableDefinition<'_, ([u8; 32], u64), ()> = TableDefinition::new("ledger_by_party");
pub(super) const BALANCES: TableDefinition<'_, &[u8], i128> = TableDefinition::new("balances");
pub(super) const TOTALS: TableDefinition<'_, u8, u128> = TableDefinition::new("totals");
pub(super) const SUSPECTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ledger_suspects");

/// Makes the tables; the number of entries that could not be booked in earlier lives.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<u64, redb::Error> {
    transaction.open_table(LEDGER)?;
    transaction.open_table(BY_SESSION)?;
    transaction.open_table(BY_PARTY)?;
    transaction.open_table(BALANCES)?;
    transaction.open_table(TOTALS)?;
    Ok(transaction.open_table(SUSPECTS)?.len()?)
}

/// The ledger within one commit.
pub(super) struct Booking<'t> {
    entries: Table<'t, u64, &'static [u8]>,
    by_session: Table<'t, ([u8; 16], u64), ()>,
    by_party: Table<'t, ([u8; 32], u64), ()>,
    balances: Table<'t, &'static [u8], i128>,
    totals: Table<'t, u8, u128>,
    suspects: Table<'t, u64, &'static [u8]>,
    last: u64,
    /// Sums as this commit leaves them, of the accounts and totals that it touches.
    touched: BTreeMap<LedgerAccount, i128>,
    touched_totals: BTreeMap<Total, u128>,
    refused: u64,
}

impl<'t> Booking<'t> {
    pub(super) fn begin(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let entries = transaction.open_table(LEDGER)?;
        let last = entries.last()?.map_or(0, |(number, _)| number.value());
        Ok(Self {
            entries,
            by_session: transaction.open_table(BY_SESSION)?,
            by_party: transaction.open_table(BY_PARTY)?,
            balances: transaction.open_table(BALANCES)?,
            totals: transaction.open_table(TOTALS)?,
            suspects: transaction.open_table(SUSPECTS)?,
            last,
            touched: BTreeMap::new(),
            touched_totals: BTreeMap::new(),
            refused: 0,
        })
    }

    /// Books an entry. One that does not balance is a defect of this program: money would appear or vanish. The records
    /// beside it are true all the same, and without them a redeemed payment could be redeemed again, so they are
    /// written; the entry is put apart, where the audit shows it, and never counted.
    pub(super) fn book(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        if !self.add_to_balances(entry)? {
            return self.put_apart(entry);
        }
        for (total, msat) in totals_of(entry) {
            let before = match self.touched_totals.get(&total) {
                Some(sum) => *sum,
                None => self.totals.get(total.number())?.map_or(0, |sum| sum.value()),
            };
            self.touched_totals
                .insert(total, before.saturating_add(u128::from(msat)));
        }
        self.last += 1;
        self.entries.insert(self.last, encode(entry)?.as_slice())?;
        if let Some(session) = entry.session {
            self.by_session.insert((session.0, self.last), ())?;
        }
        let parties: BTreeSet<_> = entry
            .postings
            .iter()
            .filter_map(|p| party_of(&p.account))
            .collect();
        for party in parties {
            self.by_party.insert((party, self.last), ())?;
        }
        Ok(())
    }

    /// Writes the sums; says how many entries were put apart.
    pub(super) fn finish(mut self) -> Result<u64, redb::Error> {
        for (account, balance) in &self.touched {
            let key = encode(account)?;
            if *balance == 0 {
                self.balances.remove(key.as_slice())?;
            } else {
                self.balances.insert(key.as_slice(), balance)?;
            }
        }
        for (total, sum) in &self.touched_totals {
            self.totals.insert(total.number(), sum)?;
        }
        Ok(self.refused)
    }

    fn add_to_balances(&mut self, entry: &Entry) -> Result<bool, redb::Error> {
        if !entry.is_balanced() {
            return Ok(false);
        }
        let mut after = Vec::with_capacity(entry.postings.len());
        for posting in &entry.postings {
            let before = match self.touched.get(&posting.account) {
                Some(balance) => *balance,
                None => self
                    .balances
                    .get(encode(&posting.account)?.as_slice())?
                    .map_or(0, |balance| balance.value()),
            };
            match before.checked_add(i128::from(posting.msat)) {
                Some(balance) => after.push((posting.account, balance)),
                None => return Ok(false),
            }
        }
        self.touched.extend(after);
        Ok(true)
    }

    fn put_apart(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        tracing::error!(
            ?entry,
            "an entry of the ledger does not balance: it is put apart and not counted; `blvm-mesh audit` shows it, please report it"
        );
        let number = self.suspects.last()?.map_or(0, |(number, _)| number.value()) + 1;
        self.suspects.insert(number, encode(entry)?.as_slice())?;
        self.refused += 1;
        Ok(())
    }
}

/// The running sums.
pub(super) fn read_books(
    balances: &impl ReadableTable<&'static [u8], i128>,
    totals: &impl ReadableTable<u8, u128>,
) -> Result<Books, redb::Error> {
    let mut books = Books::default();
    for row in balances.iter()? {
        let (account, balance) = row?;
        books.balances.insert(decode(account.value())?, balance.value());
    }
    for row in totals.iter()? {
        let (number, sum) = row?;
        if let Some(total) = Total::from_number(number.value()) {
            books.totals.insert(total, sum.value());
        }
    }
    Ok(books)
}

#[cfg(test)]
mod tests;
