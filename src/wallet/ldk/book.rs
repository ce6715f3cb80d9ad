//! What the Lightning node's own payment store does not say, in a small database beside it.
//!
//! * **Begun**: a payment is written here before it is handed to the node, and struck out when the node says what became
//!   of it. One that is still here after a crash may be under way or not.
//! * **Offers**: which payment paid an offer under which reference, so that one reference pays once.
//! * **Paid**: the outcome of a payment that the node's store does not know, for the same reason.
//! * **Invoices**: until when each unpaid invoice of ours can be paid, which the node keeps to itself.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::wallet::{PaymentHash, PaymentOutcome, WalletError};

const BEGUN: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("begun");
const OFFERS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("offers");
const PAID: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("paid");
const INVOICES: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("invoices");

/// The database's name within the Lightning node's folder.
const FILE: &str = "payments.redb";

/// A payment about to be handed to the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// What the payee is to receive, in msat.
    pub(super) amount_msat: u64,
    /// The block from which on none of it can be under way any more: whatever was locked has come back.
    pub(super) resolved_at_height: u32,
}

/// A payment to an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfferPayment {
    /// What the payee is to receive, in msat.
    pub(super) amount_msat: u64,
    /// The node's name for the payment, once it has one.
    pub(super) payment_id: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
struct PaidRow {
    preimage: [u8; 32],
    amount_msat: u64,
    fee_msat: u64,
}

/// The database. Every write is durable before it answers.
pub(super) struct Book {
    database: Database,
}

impl Book {
    /// Opens it in the Lightning node's folder; makes it at the first start.
    pub(super) fn open(folder: &Path) -> Result<Self, redb::Error> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(FILE))?;
        let database = Database::builder().create_with_backend(FileBackend::new(file)?)?;
        let transaction = database.begin_write()?;
        transaction.open_table(BEGUN)?;
        transaction.open_table(OFFERS)?;
        transaction.open_table(PAID)?;
        transaction.open_table(INVOICES)?;
        transaction.commit()?;
        Ok(Self { database })
    }

    pub(super) fn begin(&self, hash: &PaymentHash, begun: &Begun) -> Result<(), WalletError> {
        self.put(BEGUN, hash, begun)
    }

    pub(super) fn begun(&self, hash: &PaymentHash) -> Result<Option<Begun>, WalletError> {
        self.get(BEGUN, hash)
    }

    /// What became of the payment is known.
    pub(super) fn strike_out(&self, hash: &PaymentHash) -> Result<(), WalletError> {
        match self.begun(hash)? {
            Some(_) => self.remove(BEGUN, &[*hash]),
            None => Ok(()),
        }
    }

    /// Whether any payment fell into the gap at the last crash and is not explained yet.
    pub(super) fn all_begun(&self) -> Result<Vec<PaymentHash>, WalletError> {
        let read = || -> Result<Vec<PaymentHash>, redb::Error> {
            let table = self.database.begin_read()?.open_table(BEGUN)?;
            let mut hashes = Vec::new();
            for row in table.iter()? {
                hashes.push(row?.0.value());
            }
            Ok(hashes)
        };
        read().map_err(refused)
    }

    pub(super) fn note_offer(&self, reference: &[u8; 32], payment: &OfferPayment) -> Result<(), WalletError> {
        self.put(OFFERS, reference, payment)
    }

    /// The payment was never begun.
    pub(super) fn forget_offer(&self, reference: &[u8; 32]) -> Result<(), WalletError> {
        self.remove(OFFERS, &[*reference])
    }

    pub(super) fn offer(&self, reference: &[u8; 32]) -> Result<Option<OfferPayment>, WalletError> {
        self.get(OFFERS, reference)
    }

    pub(super) fn note_paid(&self, hash: &PaymentHash, paid: &PaymentOutcome) -> Result<(), WalletError> {
        let row = PaidRow {
            preimage: paid.preimage,
            amount_msat: paid.amount_msat,
            fee_msat: paid.fee_msat,
        };
        self.put(PAID, hash, &row)
    }

    pub(super) fn paid(&self, hash: &PaymentHash) -> Result<Option<PaymentOutcome>, WalletError> {
        let row: Option<PaidRow> = self.get(PAID, hash)?;
        Ok(row.map(|row| PaymentOutcome {
            preimage: row.preimage,
            amount_msat: row.amount_msat,
            fee_msat: row.fee_msat,
        }))
    }

    pub(super) fn note_invoice(&self, hash: &PaymentHash, expires_at: u64) -> Result<(), WalletError> {
        let written = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction.open_table(INVOICES)?.insert(hash, expires_at)?;
            transaction.commit()?;
            Ok(())
        };
        written().map_err(refused)
    }

    pub(super) fn forget_invoices(&self, hashes: &[PaymentHash]) -> Result<(), WalletError> {
        self.remove(INVOICES, hashes)
    }

    /// Every invoice with the unix second of its expiry.
    pub(super) fn invoices(&self) -> Result<Vec<(PaymentHash, u64)>, WalletError> {
        let read = || -> Result<Vec<(PaymentHash, u64)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(INVOICES)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (hash, expires_at) = row?;
                rows.push((hash.value(), expires_at.value()));
            }
            Ok(rows)
        };
        read().map_err(refused)
    }

    fn put(
        &self,
        table: TableDefinition<'_, [u8; 32], &[u8]>,
        key: &[u8; 32],
        value: &impl Serialize,
    ) -> Result<(), WalletError> {
        let bytes = postcard::to_stdvec(value).map_err(refused)?;
        let written = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction.open_table(table)?.insert(key, bytes.as_slice())?;
            transaction.commit()?;
            Ok(())
        };
        written().map_err(refused)
    }

    fn remove<V: redb::Value>(
        &self,
        table: TableDefinition<'_, [u8; 32], V>,
        keys: &[[u8; 32]],
    ) -> Result<(), WalletError> {
        let removed = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(table)?;
                for key in keys {
                    table.remove(key)?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        removed().map_err(refused)
    }

    fn get<T: DeserializeOwned>(
        &self,
        table: TableDefinition<'_, [u8; 32], &[u8]>,
        key: &[u8; 32],
    ) -> Result<Option<T>, WalletError> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(table)?;
            Ok(table.get(key)?.map(|row| row.value().to_vec()))
        };
        let Some(bytes) = read().map_err(refused)? else {
            return Ok(None);
        };
        postcard::from_bytes(&bytes).map(Some).map_err(refused)
    }
}

/// A book that cannot be read or written is a wallet that cannot be asked: whatever it would have said is unknown.
fn refused(error: impl std::fmt::Display) -> WalletError {
    WalletError::Unavailable {
        reason: format!(
            "its database {FILE} cannot be read or written ({error}); check the disk's free space"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_after_a_restart_and_what_was_struck_out_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Begun {
            amount_msat: 7,
            resolved_at_height: 9,
        };
        let offer = OfferPayment {
            amount_msat: 5,
            payment_id: Some([4; 32]),
        };
        let paid = PaymentOutcome {
            preimage: [3; 32],
            amount_msat: 2,
            fee_msat: 1,
        };
        {
            let book = Book::open(folder.path()).unwrap();
            book.begin(&[1; 32], &begun).unwrap();
            book.begin(&[2; 32], &begun).unwrap();
            book.strike_out(&[2; 32]).unwrap();
            book.note_offer(&[1; 32], &offer).unwrap();
            book.note_paid(&[1; 32], &paid).unwrap();
            book.note_invoice(&[1; 32], 100).unwrap();
            book.note_invoice(&[2; 32], 200).unwrap();
            book.forget_invoices(&[[2; 32]]).unwrap();
        }
        let book = Book::open(folder.path()).unwrap();
        assert_eq!(book.all_begun().unwrap(), [[1; 32]]);
        assert_eq!(book.begun(&[1; 32]).unwrap(), Some(begun));
        assert_eq!(book.begun(&[2; 32]).unwrap(), None);
        assert_eq!(book.offer(&[1; 32]).unwrap(), Some(offer));
        assert_eq!(book.paid(&[1; 32]).unwrap(), Some(paid));
        assert_eq!(book.invoices().unwrap(), [([1; 32], 100)]);
    }
}
