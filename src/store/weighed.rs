//! What nodes earned of this node's money lately, for shares. At most as many rows as the core remembers nodes: it writes
//! off whoever it forgets.

use mesh_core::event::Record;
use mesh_core::fairness::durable::WeighedNode;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{decode, encode};

const WEIGHED: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("weighed");

/// Makes the table.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(WEIGHED)?;
    Ok(())
}

pub(super) fn apply(transaction: &WriteTransaction, weighed: &WeighedNode) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(WEIGHED)?;
    if weighed.is_nothing() {
        table.remove(weighed.node.0)?;
    } else {
        table.insert(weighed.node.0, encode(weighed)?.as_slice())?;
    }
    Ok(())
}

/// All that was written, for [`mesh_core::core::Core::restore`].
pub(super) fn load(transaction: &ReadTransaction, records: &mut Vec<Record>) -> Result<(), redb::Error> {
    for entry in transaction.open_table(WEIGHED)?.iter()? {
        records.push(Record::Weighed(Box::new(decode(entry?.1.value())?)));
    }
    Ok(())
}
