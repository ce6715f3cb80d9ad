//! Invoices of our own.
//!
//! The node makes them, claims what arrives for them and books it; that booking alone is called settled. It keeps every
//! invoice for ever, paid or not, and quotes cost strangers nothing, so unpaid ones are removed from its store when
//! they can no longer be paid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ldk_node::Node;
use ldk_node::bitcoin::hashes::{Hash, sha256};
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning_invoice::{Bolt11InvoiceDescription, Sha256};
use ldk_node::payment::{PaymentDetails, PaymentDirection, PaymentStatus as NodeStatus};

use super::book::Book;
use super::{Inner, lock, unavailable, unix_now};
use crate::wallet::invoice::MAX_INVOICE_EXPIRY;
use crate::wallet::{CreatedInvoice, InvoiceRequest, InvoiceStatus, PaymentHash, WalletError};

/// Unpaid invoices at once. Each takes about 600 bytes of memory.
pub(super) const MAX_UNPAID: usize = 100_000;

/// How long after its expiry a payment is still taken in: the node judges by the time of the latest block, which may
/// lag by two hours, and adds two hours of its own. Until then the invoice is not called expired.
pub(super) const LATE: Duration = Duration::from_secs(6 * 3600);

/// How long after its expiry an unpaid invoice is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Unpaid invoices that are forgotten at one go, so that nobody waits long.
const FORGET_AT_ONCE: usize = 256;

/// Until when our unpaid invoices can be paid.
#[derive(Default)]
pub(super) struct Invoices {
    expiry: BTreeMap<PaymentHash, u64>,
    by_expiry: BTreeSet<(u64, PaymentHash)>,
}

impl Invoices {
    /// Reads the book. What the node made and nobody wrote down was never given to anybody, and goes.
    pub(super) fn restore(book: &Book, node: &Node) -> Result<Self, WalletError> {
        let mut invoices = Self::default();
        for (hash, expires_at) in book.invoices()? {
            invoices.note(hash, expires_at);
        }
        for record in node.list_payments_with_filter(|record| is_unpaid(record)) {
            if !invoices.expiry.contains_key(&record.id.0) {
                node.remove_payment(&record.id).map_err(unavailable)?;
            }
        }
        Ok(invoices)
    }

    fn note(&mut self, hash: PaymentHash, expires_at: u64) {
        self.expiry.insert(hash, expires_at);
        self.by_expiry.insert((expires_at, hash));
    }

    fn forget(&mut self, hash: &PaymentHash) {
        if let Some(expires_at) = self.expiry.remove(hash) {
            self.by_expiry.remove(&(expires_at, *hash));
        }
    }

    /// Those that expired before the unix second `before`, the oldest first.
    fn old(&self, before: u64) -> Vec<PaymentHash> {
        let old = self
            .by_expiry
            .iter()
            .take_while(|(expires_at, _)| *expires_at < before);
        old.take(FORGET_AT_ONCE).map(|(_, hash)| *hash).collect()
    }
}

fn is_unpaid(record: &PaymentDetails) -> bool {
    record.direction == PaymentDirection::Inbound
        && record.status == NodeStatus::Pending
        && matches!(record.kind, ldk_node::payment::PaymentKind::Bolt11 { .. })
}

impl Inner {
    pub(super) fn create_invoice(&self, request: &InvoiceRequest) -> Result<CreatedInvoice, WalletError> {
        if request.amount_msat == 0 {
            return Err(WalletError::InvalidRequest {
                reason: "an invoice over 0 msat",
            });
        }
        let expiry = expiry_seconds(request.expiry)?;
        self.forget_old_invoices()?;
        if lock(&self.invoices).expiry.len() >= MAX_UNPAID {
            return Err(WalletError::LimitReached {
                what: "unpaid invoices",
                limit: MAX_UNPAID,
            });
        }
        let hash = sha256::Hash::from_byte_array(request.description_hash());
        let invoice = self
            .node
            .bolt11_payment()
            .receive(
                request.amount_msat,
                &Bolt11InvoiceDescription::Hash(Sha256(hash)),
                expiry,
            )
            .map_err(unavailable)?;
        let payment_hash = *invoice.payment_hash().as_ref();
        let expires_at = invoice.expires_at().unwrap_or(Duration::MAX).as_secs();
        self.book.note_invoice(&payment_hash, expires_at)?;
        lock(&self.invoices).note(payment_hash, expires_at);
        Ok(CreatedInvoice {
            bolt11: invoice.to_string(),
            payment_hash,
        })
    }

    pub(super) fn invoice_status(&self, payment_hash: &PaymentHash) -> InvoiceStatus {
        let record = self.record(payment_hash);
        let Some(record) = record.filter(|record| record.direction == PaymentDirection::Inbound) else {
            return InvoiceStatus::Unknown;
        };
        match (record.status, record.amount_msat) {
            (NodeStatus::Succeeded, Some(amount_msat)) => InvoiceStatus::Settled { amount_msat },
            // A payment that the node sent back does not spoil the invoice.
            _ => self.unpaid_status(payment_hash),
        }
    }

    fn unpaid_status(&self, payment_hash: &PaymentHash) -> InvoiceStatus {
        match lock(&self.invoices).expiry.get(payment_hash) {
            None => InvoiceStatus::Unknown,
            Some(expires_at) if unix_now().as_secs() > expires_at.saturating_add(LATE.as_secs()) => {
                InvoiceStatus::Expired
            }
            Some(_) => InvoiceStatus::Open,
        }
    }

    /// Makes room: invoices that were paid need no place here, and those long expired are removed from the node too.
    fn forget_old_invoices(&self) -> Result<(), WalletError> {
        let before = unix_now().saturating_sub(FORGOTTEN).as_secs();
        let old = lock(&self.invoices).old(before);
        if old.is_empty() {
            return Ok(());
        }
        for hash in &old {
            if self.record(hash).is_some_and(|record| is_unpaid(&record)) {
                self.node.remove_payment(&PaymentId(*hash)).map_err(unavailable)?;
            }
        }
        self.book.forget_invoices(&old)?;
        let mut invoices = lock(&self.invoices);
        for hash in &old {
            invoices.forget(hash);
        }
        Ok(())
    }
}

/// Whole seconds; a fraction counts as a second.
fn expiry_seconds(expiry: Duration) -> Result<u32, WalletError> {
    let seconds = expiry.as_secs() + u64::from(expiry.subsec_nanos() > 0);
    match u32::try_from(seconds) {
        Ok(seconds) if seconds > 0 && expiry <= MAX_INVOICE_EXPIRY => Ok(seconds),
        _ => Err(WalletError::InvalidRequest {
            reason: "an invoice that expires at once or in more than a year",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_invoices_are_forgotten_first_and_never_more_than_a_handful_at_once() {
        let mut invoices = Invoices::default();
        for number in 0..600_u16 {
            let mut hash = [0; 32];
            hash[..2].copy_from_slice(&number.to_be_bytes());
            invoices.note(hash, 1000 - u64::from(number));
        }
        let old = invoices.old(1000);
        assert_eq!(old.len(), FORGET_AT_ONCE);
        assert_eq!(old[0][..2], 599_u16.to_be_bytes());
        for hash in &old {
            invoices.forget(hash);
        }
        assert_eq!(invoices.expiry.len(), 600 - FORGET_AT_ONCE);
        assert_eq!(invoices.by_expiry.len(), invoices.expiry.len());
        assert!(invoices.old(0).is_empty());
    }

    #[test]
    fn an_expiry_of_nothing_or_of_more_than_a_year_is_refused_and_fractions_are_seconds() {
        assert!(expiry_seconds(Duration::ZERO).is_err());
        assert!(expiry_seconds(MAX_INVOICE_EXPIRY + Duration::from_secs(1)).is_err());
        assert_eq!(expiry_seconds(Duration::from_millis(1)), Ok(1));
        assert_eq!(expiry_seconds(Duration::from_millis(60_500)), Ok(61));
    }
}
