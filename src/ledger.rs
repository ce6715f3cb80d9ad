//! The ledger in the hands: what the core's entries add up to, and how they are asked for, shown and audited.
//!
//! The core makes every [`Entry`](mesh_core::ledger::Entry) together with the records that it changes, and
//! [`Store`](crate::store::Store) writes both in one commit, with the running sums beside them. So there are always two
//! ways to every figure: the running sum, which `blvm-mesh fees` reads, and the sum over all entries, which only
//! `blvm-mesh audit` makes, to compare the two with each other, with the records that the node acts on, and with the
//! wallet. docs/LEDGER.md is the operator's side of it.

pub mod audit;
pub mod books;
pub mod export;
pub mod fees;
pub mod query;
pub mod wallet_check;

pub use audit::Finding;
pub use books::{Books, Total};
pub use export::EntryJson;
pub use fees::FeesReport;
pub use query::{BookedEntry, Id, LedgerPage, LedgerQuery, MAX_LEDGER_PAGE, Order};
pub use wallet_check::{AuditReport, WalletReport};
