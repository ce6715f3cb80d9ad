//! The books: every movement of money as an entry of the ledger, put out together with the records that it changes.

use crate::account::{AccountSlot, Lease};
use crate::event::{Output, Payment, Record};
use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::ledger::{Entry, EntryKind, LedgerAccount, SessionMemo};
use crate::payer::PurchasedProof;
use crate::payment_proof::PaymentProof;
use crate::quotes::InvoiceRecord;
use crate::time::UnixMillis;

use super::Core;

/// Records.
impl Core {
    /// Durable before anything after it is done.
    pub(super) fn persist(&mut self, record: Record) {
        self.records += 1;
        self.outputs.push_back(Output::Persist(Box::new(record)));
    }

    /// Durable soon; nothing waits for it.
    pub(super) fn persist_soon(&mut self, record: Record) {
        self.records += 1;
        self.outputs.push_back(Output::PersistSoon(Box::new(record)));
    }

    pub(super) fn book(&mut self, entry: Entry) {
        self.persist(Record::Booked(Box::new(entry)));
    }
}

/// As payee.
impl Core {
    /// Writes down, behind a draw from this account, what is used up of leases.
    pub(super) fn write_due_leases(&mut self, at: UnixMillis, drawn: AccountSlot) {
        for lease in self.accounts.due(drawn) {
            self.write_lease(at, &lease);
        }
    }

    /// Writes down the draws that have waited longest, at most so many accounts'. Whether there are more.
    pub(super) fn write_oldest_leases(&mut self, at: UnixMillis, most: usize) -> bool {
        for _ in 0..most {
            let Some(lease) = self.accounts.oldest() else {
                return false;
            };
            self.write_lease(at, &lease);
        }
        true
    }

    pub(super) fn write_lease(&mut self, at: UnixMillis, lease: &Lease) {
        let entry = Entry::new(at, EntryKind::Drawn)
            .debit(LedgerAccount::PayerCredit(lease.record.key), lease.drawn_msat)
            .credit(LedgerAccount::Earned, lease.drawn_msat);
        self.persist_soon(Record::Booked(Box::new(entry)));
        self.persist_soon(Record::Account(lease.record));
        self.accounts.written_as(lease, self.records);
    }

    /// What a redeemed payment brought: credit for the payer, the treasury's part, and for this node what was paid beyond
    /// the quote.
    pub(super) fn book_credited(
        &mut self,
        at: UnixMillis,
        session: SessionId,
        invoice: &InvoiceRecord,
        arrived_msat: u64,
    ) {
        let owed_msat = invoice.credit_msat.saturating_add(invoice.treasury_msat);
        let entry = Entry::new(at, EntryKind::Credited)
            .of_session(session)
            .of_payment(invoice.payment_hash)
            .debit(LedgerAccount::Wallet, arrived_msat)
            .credit(LedgerAccount::PayerCredit(invoice.account), invoice.credit_msat)
            .credit(LedgerAccount::TreasuryOwed, invoice.treasury_msat)
            .credit(LedgerAccount::Earned, arrived_msat.saturating_sub(owed_msat));
        self.book(entry);
    }
}

/// As payer.
impl Core {
    pub(super) fn book_begun(&mut self, at: UnixMillis, begun: &PurchasedProof) {
        let amount_msat = amount_of(begun);
        let entry = Entry::new(at, EntryKind::PaymentBegun)
            .of_payment(begun.payment_hash)
            .debit(LedgerAccount::InFlight, amount_msat)
            .credit(LedgerAccount::Wallet, amount_msat);
        self.book(entry);
    }

    /// A payment went through. What the payee passes on to the treasury is spent with it; what arrived beyond the quote is
    /// too.
    pub(super) fn book_made(&mut self, at: UnixMillis, begun: &PurchasedProof, payment: &Payment) {
        let quoted_msat = amount_of(begun);
        let beyond_msat = payment.amount_msat.saturating_sub(quoted_msat);
        let beside_credit_msat = quoted_msat.saturating_sub(begun.credit_msat);
        let entry = Entry::new(at, EntryKind::PaymentMade)
            .of_payment(begun.payment_hash)
            .credit(LedgerAccount::InFlight, quoted_msat)
            .debit(LedgerAccount::Paid(begun.payee), begun.credit_msat)
            .debit(
                LedgerAccount::Carriage(begun.payee),
                beside_credit_msat.saturating_add(beyond_msat),
            )
            .debit(LedgerAccount::LightningFees, payment.fee_msat)
            .credit(
                LedgerAccount::Wallet,
                payment.fee_msat.saturating_add(beyond_msat),
            );
        self.book(entry);
    }

    pub(super) fn book_failed(&mut self, at: UnixMillis, begun: &PurchasedProof) {
        let amount_msat = amount_of(begun);
        let entry = Entry::new(at, EntryKind::PaymentFailed)
            .of_payment(begun.payment_hash)
            .credit(LedgerAccount::InFlight, amount_msat)
            .debit(LedgerAccount::Wallet, amount_msat);
        self.book(entry);
    }

    /// Somebody on this machine paid a quote from elsewhere and shows the proof.
    pub(super) fn book_brought(&mut self, at: UnixMillis, proof: &PurchasedProof, treasury_msat: u64) {
        let entry = Entry::new(at, EntryKind::ProofBrought)
            .of_payment(proof.payment_hash)
            .debit(LedgerAccount::Paid(proof.payee), proof.credit_msat)
            .debit(LedgerAccount::Carriage(proof.payee), treasury_msat)
            .credit(
                LedgerAccount::Outside,
                proof.credit_msat.saturating_add(treasury_msat),
            );
        self.book(entry);
    }

    /// A payee credited a payment of this node's: it is credit there from now on.
    pub(super) fn redeemed_at(&mut self, at: UnixMillis, payee: &NodeId, payment_hash: &[u8; 32]) {
        let Some(credit_msat) = self.payer.purses.redeemed(payee, payment_hash) else {
            return;
        };
        let entry = Entry::new(at, EntryKind::Redeemed)
            .of_payment(*payment_hash)
            .debit(LedgerAccount::CreditAt(*payee), credit_msat)
            .credit(LedgerAccount::Paid(*payee), credit_msat);
        self.book(entry);
        self.write_spent(at, payee, true);
        self.persist(Record::ProofRedeemed {
            payment_hash: *payment_hash,
        });
    }

    /// Writes down what this node spent of its credit at a payee since that was last done, and what is left there. With
    /// `always` also when nothing was spent.
    pub(super) fn write_spent(&mut self, at: UnixMillis, payee: &NodeId, always: bool) {
        let Ok(purse) = self.payer.purses.at(payee) else {
            return;
        };
        let (left_msat, spent_msat) = (purse.credit_msat, purse.unwritten_msat());
        if spent_msat == 0 && !always {
            return;
        }
        purse.durable_msat = left_msat;
        if spent_msat > 0 {
            self.persist_soon(Record::Booked(Box::new(spent(at, payee, spent_msat))));
        }
        self.persist_soon(Record::Credit {
            payee: *payee,
            msat: left_msat,
        });
    }

    /// The payee holds less than this node believed: by how much, in msat. After a crash this node may believe too much;
    /// else the payee cheats.
    pub(super) fn deny(&mut self, at: UnixMillis, payee: &NodeId, left_msat: u64) -> u64 {
        self.write_spent(at, payee, false);
        let Ok(purse) = self.payer.purses.at(payee) else {
            return 0;
        };
        let denied_msat = purse.credit_msat.saturating_sub(left_msat);
        if denied_msat == 0 {
            return 0;
        }
        (purse.credit_msat, purse.durable_msat) = (left_msat, left_msat);
        let entry = Entry::new(at, EntryKind::Denied)
            .debit(LedgerAccount::Lost, denied_msat)
            .credit(LedgerAccount::CreditAt(*payee), denied_msat);
        self.persist_soon(Record::Booked(Box::new(entry)));
        self.persist_soon(Record::Credit {
            payee: *payee,
            msat: left_msat,
        });
        denied_msat
    }

    /// Payments that can no longer be redeemed are lost.
    pub(super) fn expire_proofs(&mut self, at: UnixMillis) {
        for proof in self.payer.purses.expire_proofs(at) {
            let entry = Entry::new(at, EntryKind::ProofExpired)
                .of_payment(proof.payment_hash)
                .debit(LedgerAccount::Lost, proof.credit_msat)
                .credit(LedgerAccount::Paid(proof.payee), proof.credit_msat);
            self.book(entry);
            self.persist(Record::ProofRedeemed {
                payment_hash: proof.payment_hash,
            });
        }
    }

    /// A session over which money was spent has ended: what it had done, and what is left.
    pub(super) fn book_closed(&mut self, at: UnixMillis, session: SessionId, memo: SessionMemo) {
        let mut entry = Entry::new(at, EntryKind::SessionClosed).of_session(session);
        entry.memo = Some(memo);
        self.persist_soon(Record::Booked(Box::new(entry)));
    }
}

/// What packets spent at a payee.
pub(super) fn spent(at: UnixMillis, payee: &NodeId, msat: u64) -> Entry {
    Entry::new(at, EntryKind::Spent)
        .debit(LedgerAccount::Carriage(*payee), msat)
        .credit(LedgerAccount::CreditAt(*payee), msat)
}

/// What a payment is for, in msat: credit and the treasury's part.
fn amount_of(begun: &PurchasedProof) -> u64 {
    match &begun.proof {
        PaymentProof::Lightning { amount_msats, .. } => *amount_msats,
        _ => begun.credit_msat,
    }
}
