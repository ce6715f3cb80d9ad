//! The quotes this node gave as payee: keys that open sessions, and invoices that buy credit.
//!
//! The two are kept apart because they end differently. A key opens one session and is erased with it, or when it was
//! not used in time. An invoice that was paid stays redeemable until redeem-by, in whatever open its proof is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::keys::DhSecret;
use crate::limits::{MAX_OPEN_QUOTES, MAX_OPEN_QUOTES_PER_NEIGHBOUR, PAY_BY};
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
    /// Until when it may be paid.
    pub pay_by: UnixMillis,
    /// Until when it is redeemed.
    pub redeem_by: UnixMillis,
    /// The neighbour the quote was asked over.
    pub previous: NodeId,
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

/// Keys or invoices forgotten in one step. A full table emptied at once would be 65,536 records to write and a step of
/// many milliseconds; at one step each five seconds this still forgets faster than the control budget of a
/// neighbour makes new ones.
pub const EXPIRED_PER_STEP: usize = 1024;

/// All open quotes of this node.
#[derive(Default)]
pub struct QuoteBook {
    keys: BTreeMap<QuoteId, QuoteKey>,
    keys_by_expiry: BTreeSet<(UnixMillis, QuoteId)>,
    invoices: BTreeMap<[u8; 32], InvoiceRecord>,
    invoices_by_expiry: BTreeSet<(UnixMillis, [u8; 32])>,
    /// Invoices not known to be paid, and when the wallet is to be asked about them.
    unpaid: BTreeMap<[u8; 32], UnixMillis>,
    unpaid_by_time: BTreeSet<(UnixMillis, [u8; 32])>,
    per_neighbour: BTreeMap<NodeId, usize>,
}

/// How long after pay-by the wallet is asked whether an invoice was paid: what arrived in time is settled by then.
const ASK_AFTER_PAY_BY: Duration = Duration::from_secs(60);

/// Invoices that the wallet is asked about in one step.
const ASKED_PER_STEP: usize = 64;

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
        self.erase_key(&record.id);
        self.keys_by_expiry.insert((record.expires, record.id));
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
        self.keys_by_expiry.remove(&(key.record.expires, *id));
        self.release(&key.record.previous);
        true
    }

    /// Erases up to [`EXPIRED_PER_STEP`] keys that were not used in time; their names come back.
    pub fn expire_keys(&mut self, now: UnixMillis) -> Vec<QuoteId> {
        let expired: Vec<QuoteId> = expired(&self.keys_by_expiry, now);
        for id in &expired {
            self.erase_key(id);
        }
        expired
    }

    /// Remembers an invoice.
    pub fn insert_invoice(&mut self, record: InvoiceRecord) {
        self.close_invoice(&record.payment_hash);
        self.invoices_by_expiry
            .insert((record.redeem_by, record.payment_hash));
        self.ask_at(record.payment_hash, record.pay_by + ASK_AFTER_PAY_BY);
        *self.per_neighbour.entry(record.previous).or_default() += 1;
        self.invoices.insert(record.payment_hash, record);
    }

    /// A bounded part of the invoices that can no longer be paid: whether they were is the wallet's to say. Each is
    /// named once, then again a while later unless [`QuoteBook::note_paid`] or [`QuoteBook::close_invoice`] follows.
    /// Without asking, a neighbour that never pays would fill the table for a day.
    pub fn take_unpaid(&mut self, now: UnixMillis) -> Vec<[u8; 32]> {
        let due = self.unpaid_by_time.iter().take_while(|(ask, _)| *ask < now);
        let due: Vec<[u8; 32]> = due
            .take(ASKED_PER_STEP)
            .map(|(_, payment_hash)| *payment_hash)
            .collect();
        for payment_hash in &due {
            self.ask_at(*payment_hash, now + PAY_BY);
        }
        due
    }

    fn ask_at(&mut self, payment_hash: [u8; 32], at: UnixMillis) {
        if let Some(before) = self.unpaid.insert(payment_hash, at) {
            self.unpaid_by_time.remove(&(before, payment_hash));
        }
        self.unpaid_by_time.insert((at, payment_hash));
    }

    /// An invoice was paid: it stays until it is redeemed or its time is over, and no longer counts against the
    /// neighbour.
    pub fn note_paid(&mut self, payment_hash: &[u8; 32]) {
        let Some(ask) = self.unpaid.remove(payment_hash) else {
            return;
        };
        self.unpaid_by_time.remove(&(ask, *payment_hash));
        if let Some(previous) = self.invoices.get(payment_hash).map(|invoice| invoice.previous) {
            self.release(&previous);
        }
    }

    fn release(&mut self, neighbour: &NodeId) {
        if let Some(count) = self.per_neighbour.get_mut(neighbour) {
            *count -= 1;
            if *count == 0 {
                self.per_neighbour.remove(neighbour);
            }
        }
    }

    /// The invoice with that payment hash.
    pub fn invoice(&self, payment_hash: &[u8; 32]) -> Option<&InvoiceRecord> {
        self.invoices.get(payment_hash)
    }

    /// Forgets an invoice: it was redeemed, or can no longer be.
    pub fn close_invoice(&mut self, payment_hash: &[u8; 32]) -> bool {
        // While it is there, so that it no longer counts against its neighbour.
        self.note_paid(payment_hash);
        let Some(record) = self.invoices.remove(payment_hash) else {
            return false;
        };
        self.invoices_by_expiry.remove(&(record.redeem_by, *payment_hash));
        true
    }

    /// Forgets up to [`EXPIRED_PER_STEP`] invoices beyond their redeem-by; their payment hashes come back.
    pub fn expire_invoices(&mut self, now: UnixMillis) -> Vec<[u8; 32]> {
        let expired = expired(&self.invoices_by_expiry, now);
        for payment_hash in &expired {
            self.close_invoice(payment_hash);
        }
        expired
    }
}

fn expired<K: Copy>(by_expiry: &BTreeSet<(UnixMillis, K)>, now: UnixMillis) -> Vec<K> {
    by_expiry
        .iter()
        .take_while(|(expires, _)| *expires < now)
        .take(EXPIRED_PER_STEP)
        .map(|(_, key)| *key)
        .collect()
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
        let mut erased = 0;
        while let step @ 1.. = book.expire_keys(UnixMillis(11)).len() {
            assert!(step <= EXPIRED_PER_STEP);
            erased += step;
        }
        assert_eq!(erased, MAX_OPEN_QUOTES_PER_NEIGHBOUR);
        assert_eq!(book.check_room(&NodeId([3; 32])), Ok(()));
    }

    #[test]
    fn quote_taken_from_the_store_twice_counts_once() {
        let mut book = QuoteBook::default();
        book.insert_key(record(1, 10)).unwrap();
        book.insert_key(record(1, 20)).unwrap();
        assert!(
            book.expire_keys(UnixMillis(15)).is_empty(),
            "the newer record counts"
        );
        assert!(book.erase_key(&record(1, 20).id));
        assert!(book.per_neighbour.is_empty() && book.keys_by_expiry.is_empty());
    }

    #[test]
    fn invoices_are_forgotten_after_redeem_by_and_not_before() {
        let invoice = |byte, redeem_by| InvoiceRecord {
            payment_hash: [byte; 32],
            account: [2; 32],
            credit_msat: 1000,
            treasury_msat: 0,
            pay_by: UnixMillis(1),
            redeem_by: UnixMillis(redeem_by),
            previous: NodeId([9; 32]),
        };
        let mut book = QuoteBook::default();
        for record in [invoice(1, 10), invoice(2, 20), invoice(3, 5)] {
            book.insert_invoice(record);
        }
        assert!(book.close_invoice(&[3; 32]) && !book.close_invoice(&[3; 32]));
        assert!(book.expire_invoices(UnixMillis(10)).is_empty());
        assert_eq!(book.expire_invoices(UnixMillis(11)), [[1; 32]]);
        assert!(book.invoice(&[1; 32]).is_none() && book.invoice(&[2; 32]).is_some());
    }

    #[test]
    fn unpaid_invoices_are_asked_about_and_fill_only_their_neighbours_share() {
        let invoice = |number: u32| {
            let mut payment_hash = [0; 32];
            payment_hash[..4].copy_from_slice(&number.to_be_bytes());
            InvoiceRecord {
                payment_hash,
                account: [2; 32],
                credit_msat: 1000,
                treasury_msat: 0,
                pay_by: UnixMillis(0),
                redeem_by: UnixMillis(u64::MAX),
                previous: NodeId([3; 32]),
            }
        };
        let mut book = QuoteBook::default();
        for number in 0..MAX_OPEN_QUOTES_PER_NEIGHBOUR as u32 {
            book.insert_invoice(invoice(number));
        }
        let (flooder, honest) = (NodeId([3; 32]), NodeId([4; 32]));
        assert_eq!(book.check_room(&flooder), Err(DropReason::TableFull));
        assert_eq!(book.check_room(&honest), Ok(()));
        assert!(
            book.take_unpaid(UnixMillis(0)).is_empty(),
            "they may still be paid"
        );

        let asked = book.take_unpaid(UnixMillis(0) + ASK_AFTER_PAY_BY + Duration::from_secs(1));
        assert_eq!(asked.len(), ASKED_PER_STEP);
        book.note_paid(&asked[0]);
        book.note_paid(&asked[0]);
        assert!(
            book.invoice(&asked[0]).is_some(),
            "what was paid stays redeemable"
        );
        assert!(
            asked[1..]
                .iter()
                .all(|payment_hash| book.close_invoice(payment_hash))
        );
        assert_eq!(book.check_room(&flooder), Ok(()));
        let counted = MAX_OPEN_QUOTES_PER_NEIGHBOUR - ASKED_PER_STEP;
        assert_eq!(
            (book.unpaid.len(), book.per_neighbour[&flooder]),
            (counted, counted)
        );
        assert_eq!(book.unpaid_by_time.len(), counted);
    }

    #[test]
    fn secret_key_never_shows_in_debug_output() {
        assert!(!format!("{:?}", record(1, 1)).contains("1, 1, 1"));
    }
}
