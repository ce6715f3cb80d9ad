//! What must not be forgotten of payments on the chain: quoted scripts, honoured outputs, bills of others.
//!
//! Honoured outputs stay for ever: each of them could be shown again at any time.

use mesh_core::event::Record;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{decode, encode};

const OUTPUT_QUOTES: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("output_quotes");
/// By the outpoint's key, so that an output is in here once, however often its state changed.
const HONOURED: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("honoured_outputs");
const BILLS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("bills");

/// Makes the tables.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(OUTPUT_QUOTES)?;
    transaction.open_table(HONOURED)?;
    transaction.open_table(BILLS)?;
    Ok(())
}

/// Writes a record that is of the chain; others are somebody else's.
pub(super) fn apply(transaction: &WriteTransaction, record: &Record) -> Result<(), redb::Error> {
    match record {
        Record::OutputQuote(quote) => {
            transaction
                .open_table(OUTPUT_QUOTES)?
                .insert(quote.bill, encode(quote)?.as_slice())?;
        }
        Record::OutputQuoteClosed(bill) => {
            transaction.open_table(OUTPUT_QUOTES)?.remove(bill)?;
        }
        Record::Honoured(output) => {
            transaction
                .open_table(HONOURED)?
                .insert(output.outpoint.key(), encode(output)?.as_slice())?;
        }
        Record::Bill(bill) => {
            transaction
                .open_table(BILLS)?
                .insert(bill.id, encode(bill)?.as_slice())?;
        }
        Record::BillForgotten(bill) => {
            transaction.open_table(BILLS)?.remove(bill)?;
        }
        _ => {}
    }
    Ok(())
}

/// All that was written, for [`mesh_core::core::Core::restore`].
pub(super) fn load(transaction: &ReadTransaction, records: &mut Vec<Record>) -> Result<(), redb::Error> {
    for entry in transaction.open_table(HONOURED)?.iter()? {
        records.push(Record::Honoured(Box::new(decode(entry?.1.value())?)));
    }
    for entry in transaction.open_table(OUTPUT_QUOTES)?.iter()? {
        records.push(Record::OutputQuote(decode(entry?.1.value())?));
    }
    for entry in transaction.open_table(BILLS)?.iter()? {
        records.push(Record::Bill(decode(entry?.1.value())?));
    }
    Ok(())
}
