//! What the wallet says, handed to whoever asked.

use crate::drop_reason::DropReason;
use crate::event::{Ticket, WalletAnswer};
use crate::time::Now;

use super::{Asked, Core};

impl Core {
    pub(super) fn on_wallet(&mut self, now: Now, ticket: Ticket, answer: WalletAnswer) {
        match (self.asked.remove(&ticket), answer) {
            (Some(Asked::InvoiceFor(pending)), WalletAnswer::Invoice(invoice)) => {
                self.on_invoice(*pending, invoice)
            }
            (Some(Asked::ProofOf(session)), WalletAnswer::Proof(found)) => {
                self.on_proof(now, &session, found)
            }
            (Some(Asked::Payment { quotes, place }), WalletAnswer::Paid(paid)) => {
                self.on_payment(now, quotes, place, paid);
            }
            // The hands answered something that was not asked: a fault of theirs, which must not pass for money.
            _ => self.count(DropReason::Unsolicited),
        }
    }
}
