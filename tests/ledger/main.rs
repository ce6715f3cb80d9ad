//! The ledger of real nodes: killed between commits, asked over the command line, and compared with a wallet.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)] // shared with the tests of the HTTP client
#[path = "../rest/server.rs"]
mod server;

mod commands;
mod killed;
mod treasury;

use blvm_mesh::store::Store;
use mesh_core::account::AccountRecord;
use mesh_core::event::Record;
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::ledger::{Entry, EntryKind, LedgerAccount};
use mesh_core::time::UnixMillis;

const PAYER: [u8; 32] = [1; 32];
const PAYEE: NodeId = NodeId([2; 32]);

/// The records of the `number`th sale and of what follows from it, as the core makes them: three entries.
fn sale(number: u64) -> Vec<Record> {
    let at = UnixMillis(1_700_000_000_000 + number);
    let sold = Entry::new(at, EntryKind::Credited)
        .debit(LedgerAccount::Wallet, 7000)
        .credit(LedgerAccount::PayerCredit(PAYER), 6000)
        .credit(LedgerAccount::TreasuryOwed, 1000);
    let drawn = Entry::new(at, EntryKind::Drawn)
        .of_session(SessionId([3; 16]))
        .debit(LedgerAccount::PayerCredit(PAYER), 2000)
        .credit(LedgerAccount::Earned, 2000);
    let brought = Entry::new(at, EntryKind::ProofBrought)
        .debit(LedgerAccount::CreditAt(PAYEE), 5)
        .credit(LedgerAccount::Outside, 5);
    vec![
        Record::Booked(Box::new(sold)),
        Record::TreasuryOwed(1000 * number),
        Record::Booked(Box::new(drawn)),
        Record::Account(AccountRecord {
            key: PAYER,
            balance_msat: 4000 * number,
        }),
        Record::Booked(Box::new(brought)),
        Record::Credit {
            payee: PAYEE,
            msat: 5 * number,
        },
    ]
}

/// Writes records and waits until they are durable.
fn write(store: &Store, records: Vec<Record>) {
    let (done, wait) = std::sync::mpsc::channel();
    store
        .submit(records, UnixMillis(1_700_000_001_000), move || {
            done.send(()).unwrap()
        })
        .unwrap();
    wait.recv().unwrap();
}
