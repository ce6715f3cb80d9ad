//! The node's books behind the admin socket: the ledger a page at a time, its sums, its audit.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::Status;
use mesh_core::time::UnixMillis;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::wire::{AdminError, Text, codes};
use crate::ledger::wallet_check::compare;
use crate::ledger::{
    AuditReport, EntryJson, FeesReport, Id, LedgerPage, LedgerQuery, MAX_LEDGER_PAGE, Order, audit,
};
use crate::store::{StoreError, StoreReader};
use crate::treasury::TreasuryConfig;
use crate::wallet::Wallet;

/// Parameters of `ledger`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerParams {
    /// Only entries booked at or after this moment, in Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_unix_ms: Option<u64>,
    /// Only entries of this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Text<Id<16>>>,
    /// Only entries that move something on an account of this party: a payee's node id or a payer's account key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub party: Option<Text<Id<32>>>,
    /// Whether the newest come first.
    pub newest_first: bool,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beyond: Option<u64>,
    /// Most entries wanted, 1 to [`MAX_LEDGER_PAGE`]; 0 or left out is that many.
    pub limit: usize,
}

impl LedgerParams {
    /// As a question to the ledger.
    ///
    /// # Errors
    /// An [`AdminError`] for a limit that no page has.
    pub fn query(&self) -> Result<LedgerQuery, AdminError> {
        if self.limit > MAX_LEDGER_PAGE {
            return Err(AdminError::bad_request(format!(
                "limit must be from 1 to {MAX_LEDGER_PAGE}"
            )));
        }
        Ok(LedgerQuery {
            since: self.since_unix_ms.map(UnixMillis),
            session: self.session.map(|Text(session)| session.0),
            party: self.party.map(|Text(party)| party.0),
            order: if self.newest_first {
                Order::NewestFirst
            } else {
                Order::OldestFirst
            },
            beyond: self.beyond,
            limit: if self.limit == 0 {
                MAX_LEDGER_PAGE
            } else {
                self.limit
            },
        })
    }
}

/// A page of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerReply {
    /// The entries, in the order asked for.
    pub entries: Vec<EntryJson>,
    /// `beyond` of the next page; none after the last. A page may be short and yet not the last.
    pub next: Option<u64>,
}

impl From<LedgerPage> for LedgerReply {
    fn from(page: LedgerPage) -> Self {
        Self {
            entries: page.entries.into_iter().map(EntryJson::from).collect(),
            next: page.next,
        }
    }
}

/// The books of a running node.
#[derive(Clone)]
pub struct NodeBooks {
    reader: StoreReader,
    wallet: Arc<dyn Wallet>,
    treasury: Option<TreasuryConfig>,
    /// One audit at a time: each reads the whole ledger.
    auditing: Arc<Semaphore>,
}

impl NodeBooks {
    /// The books in a store, the wallet to compare them with, and the treasury that is owed.
    pub fn new(reader: StoreReader, wallet: Arc<dyn Wallet>, treasury: Option<TreasuryConfig>) -> Self {
        Self {
            reader,
            wallet,
            treasury,
            auditing: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) async fn page(&self, params: LedgerParams) -> Result<LedgerReply, AdminError> {
        let query = params.query()?;
        self.read(move |reader| reader.page(&query))
            .await
            .map(LedgerReply::from)
    }

    pub(super) async fn fees(&self, status: &Status) -> Result<FeesReport, AdminError> {
        let books = self.read(|reader| reader.books()).await?;
        Ok(FeesReport {
            refused: Some(refused_payments(status)),
            ..FeesReport::of(&books)
        })
    }

    /// Audits the books and compares them with the wallet.
    ///
    /// # Errors
    /// [`AdminError`]: an audit is under way, or the database cannot be read.
    pub async fn audit(&self) -> Result<AuditReport, AdminError> {
        let Ok(_turn) = self.auditing.try_acquire() else {
            return Err(AdminError::new(
                codes::BUSY,
                "an audit is under way",
                "wait for it: each reads the whole ledger",
            ));
        };
        let mut audited = self.read(|reader| reader.read(audit::audit)).await?;
        let compared = compare(&mut audited, self.wallet.as_ref()).await;
        Ok(AuditReport::new(audited, Some(compared)))
    }

    pub(super) fn treasury(&self) -> Option<&TreasuryConfig> {
        self.treasury.as_ref()
    }

    pub(super) async fn treasury_paid_msat(&self) -> Result<u64, AdminError> {
        let books = self.read(|reader| reader.books()).await?;
        Ok(FeesReport::of(&books).treasury_paid_msat)
    }

    /// Off the runtime's threads: the disk may take its time.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&StoreReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let reader = self.reader.clone();
        let done = tokio::task::spawn_blocking(move || read(&reader)).await;
        match done {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(AdminError::new(
                codes::UNREADABLE,
                error.to_string(),
                "look at the node's log",
            )),
            Err(_) => Err(super::convert::unexpected()),
        }
    }
}

/// Refusals that are about payments: codes 40 to 59, and credit that is spent.
fn refused_payments(status: &Status) -> BTreeMap<String, u64> {
    let about_payment =
        |reason: DropReason| matches!(reason.code(), 40..=59) || reason == DropReason::CreditSpent;
    let dropped = status.dropped.iter();
    let refused = dropped.filter(|(reason, _)| about_payment(*reason));
    refused
        .map(|(reason, count)| (reason.as_str().to_owned(), *count))
        .collect()
}
