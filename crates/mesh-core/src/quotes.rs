//! The quotes this node gave as payee: keys that open sessions, and invoices that buy credit.
//!
//! The two are kept apart because they end differently. A key opens one session and is erased with it, or when it was
//! not used in time. An invoice that was paid stays redeemable until redeem-by, in whatever open its proof is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::keys::DhSecret;
use crate::limits::{MAX_OPEN_QUOTES, MAX_OPEN_QUOTES_PER_NEIGHBOUR};
use crate::message::QuoteId;
use crate::open::Transcript;
use crate::routing_policy::TrafficClass;
use crate::time::UnixMillis;
use crate::verifier::QuotedInvoice;

/// A quote's key and what a session opened with it may do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteKeyRecord {
    /// The quote's name.
    pub id: QuoteId,
    /// The X25519 secret that opens the session's box.
    pub secret: [u8; 32],
    /// The payer's account key.
    pub account: [u8; 32],
    /// The neighbour the session comes from.
    pub previous: NodeId,
    /// The neighbour it goes to; none at the destination.
    pub next: Option<NodeId>,
    /// What it carries.
    pub class: TrafficClass,
    /// What it draws per unit, in msat.
    pub price_msat: u64,
    /// When an unused key is erased.
    pub expires: UnixMillis,
}

impl std::fmt::Debug for QuoteKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "QuoteKeyRecord({}, {} msat per unit)",
            hex::encode(self.id),
            self.price_msat
        )
    }
}

/// An invoice this node quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceRecord {
    /// Its payment hash.
    pub payment_hash: [u8; 32],
    /// The account key that its description hash commits to.
    pub account: [u8; 32],
    /// The payer's credit when it is paid, in msat.
    pub credit_msat: u64,
    /// The treasury's part in it, in msat.
    pub treasury_msat: u64,
    /// Until when it is redeemed.
    pub redeem_by: UnixMillis,
}

impl InvoiceRecord {
    /// What a proof of it is judged by.
    pub fn quoted(&self) -> QuotedInvoice {
        QuotedInvoice {
            account: self.account,
            amount_msat: self.credit_msat.saturating_add(self.treasury_msat),
            redeem_by: self.redeem_by,
        }
    }
}

/// A quote that can open a session, or has opened one.
pub struct QuoteKey {
    /// The key and its terms.
    pub record: QuoteKeyRecord,
    /// The key, ready to use.
    pub key: DhSecret,
    /// The one session it opened.
    pub opened: Option<Transcript>,
}

/// All open quotes of this node.
#[derive(Default)]
pub struct QuoteBook {
    keys: BTreeMap<QuoteId, QuoteKey>,
    invoices: BTreeMap<[u8; 32], InvoiceRecord>,
    per_neighbour: BTreeMap<NodeId, usize>,
}

impl QuoteBook {
    /// Whether one more quote may be given to a request that came over `previous`.
    pub fn check_room(&self, previous: &NodeId) -> Result<(), DropReason> {
        let full = self.keys.len() >= MAX_OPEN_QUOTES
            || self.invoices.len() >= MAX_OPEN_QUOTES
            || self.per_neighbour.get(previous).copied().unwrap_or(0) >= MAX_OPEN_QUOTES_PER_NEIGHBOUR;
        if full { Err(DropReason::TableFull) } else { Ok(()) }
    }

    /// Remembers a key.
    pub fn insert_key(&mut self, record: QuoteKeyRecord) -> Result<(), DropReason> {
        let key = DhSecret::new(record.secret)?;
        *self.per_neighbour.entry(record.previous).or_default() += 1;
        self.keys.insert(
            record.id,
            QuoteKey {
                record,
                key,
                opened: None,
            },
        );
        Ok(())
    }

    /// The quote of that name.
    pub fn key(&self, id: &QuoteId) -> Option<&QuoteKey> {
        self.keys.get(id)
    }

    /// Ties the key to the one session it opens.
    pub fn mark_opened(&mut self, id: &QuoteId, transcript: Transcript) {
        if let Some(key) = self.keys.get_mut(id) {
            key.opened = Some(transcript);
        }
    }

    /// Erases a key; whether there was one.
    pub fn erase_key(&mut self, id: &QuoteId) -> bool {
        let Some(key) = self.keys.remove(id) else {
            return false;
        };
        if let Some(count) = self.per_neighbour.get_mut(&key.record.previous) {
            *count -= 1;
            if *count == 0 {
                self.per_neighbour.remove(&key.record.previous);
            }
        }
        true
    }

    /// Erases the keys that were not used in time; their names come back.
    pub fn expire_keys(&mut self, now: UnixMillis) -> Vec<QuoteId> {
        let expired: Vec<QuoteId> = self
            .keys
            .values()
            .filter(|key| key.record.expires < now)
            .map(|key| key.record.id)
            .collect();
        for id in &expired {
            self.erase_key(id);
        }
        expired
    }

    /// Remembers an invoice.
    pub fn insert_invoice(&mut self, record: InvoiceRecord) {
        self.invoices.insert(record.payment_hash, record);
    }

    /// The invoice with that payment hash.
    pub fn invoice(&self, payment_hash: &[u8; 32]) -> Option<&InvoiceRecord> {
        self.invoices.get(payment_hash)
    }

    /// Forgets an invoice: it was redeemed, or can no longer be.
    pub fn close_invoice(&mut self, payment_hash: &[u8; 32]) -> bool {
        self.invoices.remove(payment_hash).is_some()
    }

    /// Invoices beyond their redeem-by: their payment hashes, removed.
    pub fn expire_invoices(&mut self, now: UnixMillis) -> Vec<[u8; 32]> {
        let expired: Vec<[u8; 32]> = self
            .invoices
            .values()
            .filter(|invoice| invoice.redeem_by < now)
            .map(|invoice| invoice.payment_hash)
            .collect();
        for payment_hash in &expired {
            self.invoices.remove(payment_hash);
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u32, expires: u64) -> QuoteKeyRecord {
        let mut name = [0; 16];
        name[..4].copy_from_slice(&id.to_be_bytes());
        QuoteKeyRecord {
            id: name,
            secret: [1; 32],
            account: [2; 32],
            previous: NodeId([3; 32]),
            next: None,
            class: TrafficClass::Paid,
            price_msat: 1,
            expires: UnixMillis(expires),
        }
    }

    #[test]
    fn a_flooding_neighbour_fills_only_its_own_share() {
        let mut book = QuoteBook::default();
        for id in 0..MAX_OPEN_QUOTES_PER_NEIGHBOUR as u32 {
            book.insert_key(record(id, 10)).unwrap();
        }
        assert_eq!(book.check_room(&NodeId([3; 32])), Err(DropReason::TableFull));
        assert_eq!(book.check_room(&NodeId([4; 32])), Ok(()));
        assert_eq!(book.expire_keys(UnixMillis(10)).len(), 0);
        assert_eq!(
            book.expire_keys(UnixMillis(11)).len(),
            MAX_OPEN_QUOTES_PER_NEIGHBOUR
        );
        assert_eq!(book.check_room(&NodeId([3; 32])), Ok(()));
    }

    #[test]
    fn secret_key_never_shows_in_debug_output() {
        assert!(!format!("{:?}", record(1, 1)).contains("1, 1, 1"));
    }
}
