//! What the wallet says, handed to whoever asked.

use crate::drop_reason::DropReason;
use crate::event::{Record, Ticket, WalletAnswer};
use crate::time::Now;
use crate::verifier::Settlement;

use super::{Asked, Core};

impl Core {
    /// What the wallet says of an invoice whose time to be paid is over.
    fn on_unpaid(&mut self, payment_hash: [u8; 32], settlement: Settlement) {
        match settlement {
            Settlement::Settled { .. } => self.quotes.note_paid(&payment_hash),
            // A payment may still hang between paid and not paid: asked again later.
            Settlement::Open => {}
            Settlement::Unknown | Settlement::Dead => {
                if self.quotes.close_invoice(&payment_hash) {
                    self.persist(Record::InvoiceClosed {
                        payment_hash,
                        redeemed_until: None,
                    });
                }
            }
        }
    }

    pub(super) fn on_wallet(&mut self, now: Now, ticket: Ticket, answer: WalletAnswer) {
        match (self.asked.remove(&ticket), answer) {
            (Some(Asked::InvoiceFor(pending)), WalletAnswer::Invoice(invoice)) => {
                self.on_invoice(*pending, invoice)
            }
            (Some(Asked::ProofOf(session)), WalletAnswer::Proof(found)) => {
                self.on_proof(now, &session, found)
            }
            (Some(Asked::Probe { quotes, place }), WalletAnswer::Probed(found)) => {
                self.on_probe(now, quotes, place, found);
            }
            (Some(Asked::Payment { quotes, place }), WalletAnswer::Paid(paid)) => {
                self.on_payment(now, quotes, place, paid);
            }
            (Some(Asked::LookUp(payment_hash)), WalletAnswer::Paid(found)) => {
                self.on_look_up(now, payment_hash, found);
            }
            (Some(Asked::SettlementOf(payment_hash)), WalletAnswer::Settlement(settlement)) => {
                self.on_unpaid(payment_hash, settlement);
            }
            (Some(Asked::TreasuryBill), WalletAnswer::TreasuryBill(bill)) => self.on_treasury_bill(now, bill),
            (Some(Asked::TreasuryPayment(reference)), WalletAnswer::Paid(paid)) => {
                self.on_treasury_paid(now, reference, paid);
            }
            // The hands answered something that was not asked: a fault of theirs, which must not pass for money.
            _ => self.count(DropReason::Unsolicited),
        }
    }
}
