//! A node's life from start to stop: what it takes up from an earlier one, sweeps now and then, says of itself, and writes
//! down at the end.

use std::collections::BTreeMap;

use crate::drop_reason::DropReason;
use crate::event::{Answer, Record, Status, WalletQuestion};
use crate::limits::{HOUSEKEEPING_INTERVAL, LEASES_PER_STEP, MAX_PENDING_INVOICES, WEIGHTS_PER_STEP};
use crate::time::Now;

use super::{Asked, Core, FORGET_ON_AFTER, Timer};

impl Core {
    /// Takes up what an earlier life wrote down, in the order it was written.
    pub fn restore(&mut self, records: impl IntoIterator<Item = Record>, now: Now) -> Result<(), DropReason> {
        let mut spending = BTreeMap::new();
        for record in records {
            match record {
                Record::QuoteKey(key) => self.quotes.insert_key(key)?,
                Record::QuoteKeyErased(id) => {
                    self.quotes.erase_key(&id);
                }
                Record::Invoice(invoice) => self.quotes.insert_invoice(invoice),
                Record::InvoiceClosed {
                    payment_hash,
                    redeemed_until,
                } => {
                    self.quotes.close_invoice(&payment_hash);
                    if let Some(until) = redeemed_until {
                        self.replay.redeem(&payment_hash, until, now.unix)?;
                    }
                }
                Record::Account(account) => self.accounts.restore(account)?,
                Record::OwnSeqno(seqno) => self.announcer.resume_behind(seqno),
                Record::AnnouncementSeen {
                    origin,
                    seqno,
                    expires,
                } => self.routes.vector.restore_seen(origin, seqno, expires),
                Record::AnnouncementForgotten { .. } => {}
                Record::TreasuryOwed(msat) => self.treasury_owed_msat = msat,
                Record::Earned(msat) => self.earned_msat = msat,
                Record::Proof(proof) if proof.is_under_way() => {
                    self.payer.under_way.insert(proof.payment_hash, proof);
                }
                Record::Proof(proof) => {
                    self.payer.under_way.remove(&proof.payment_hash);
                    let purse = self.payer.purses.at(&proof.payee)?;
                    purse.proofs.insert(proof.payment_hash, proof);
                }
                Record::ProofRedeemed { payment_hash } => {
                    self.payer.under_way.remove(&payment_hash);
                    self.payer.purses.forget_proof(&payment_hash);
                }
                Record::Booked(_) => {}
                Record::OutputQuote(quote) => self.chain.quotes.insert(quote)?,
                Record::OutputQuoteClosed(bill) => {
                    self.chain.quotes.close(&bill);
                }
                Record::Honoured(output) => self.restore_honoured(*output, now)?,
                Record::Bill(bill) => self.payer.bills.insert(bill),
                Record::BillForgotten(bill) => {
                    self.payer.bills.forget(&bill);
                }
                Record::Spending(spent) => {
                    spending.insert(spent.id, spent);
                }
                Record::SpendingForgotten(id) => {
                    spending.remove(&id);
                }
                Record::Weighed(weighed) => self.fair.restore(*weighed, now.unix),
                Record::TreasuryBegun(payment) => self.restore_treasury(now, Some(*payment)),
                Record::TreasuryDone => self.restore_treasury(now, None),
                Record::Credit { payee, msat } => {
                    let purse = self.payer.purses.at(&payee)?;
                    (purse.credit_msat, purse.durable_msat) = (msat, msat);
                }
            }
        }
        for spent in spending.into_values() {
            if let Some(counted_now) = self.spending.restore(now, *spent) {
                self.persist_soon(Record::Spending(Box::new(counted_now)));
            }
        }
        self.resume_payments(now);
        Ok(())
    }

    /// Writes down what leases still cover, for an orderly stop, or before one may come: nobody loses anything by it.
    pub fn flush(&mut self, now: Now) {
        while let Some(lease) = self.accounts.oldest() {
            self.write_lease(now.unix, &lease);
        }
        for payee in self.payer.purses.unwritten() {
            self.write_spent(now.unix, &payee, false);
        }
        while self.write_weights(WEIGHTS_PER_STEP) {}
    }

    /// Flushes, and holds the answer back until all of it is durable: behind a record that says nothing new.
    pub(super) fn flush_now(&mut self, now: Now) -> Answer {
        self.flush(now);
        self.persist(Record::Earned(self.earned_msat));
        Answer::Done
    }

    pub(super) fn housekeeping(&mut self, now: Now) {
        self.discovery.expire(now.instant);
        self.quote_relays.expire(now.instant);
        self.routes.cache.expire(now.unix);
        self.write_oldest_leases(now.unix, LEASES_PER_STEP);
        self.expire_proofs(now.unix);
        self.forget_spending(now);
        self.forget_seen(now);
        self.keep_fair(now);
        self.delays.expire(now.instant);
        if self.replay.expire(now.unix) {
            self.set_timer(now.instant + FORGET_ON_AFTER, Timer::ForgetRedeemed);
        }
        for id in self.quotes.expire_keys(now.unix) {
            self.persist(Record::QuoteKeyErased(id));
        }
        for payment_hash in self.quotes.expire_invoices(now.unix) {
            self.persist(Record::InvoiceClosed {
                payment_hash,
                redeemed_until: None,
            });
        }
        self.forget_bills_and_output_quotes(now);
        // A wallet that answers nothing is not asked more and more, and keeps room for questions about new quotes.
        if self.asked.len() < MAX_PENDING_INVOICES / 2 {
            for payment_hash in self.quotes.take_unpaid(now.unix) {
                let question = WalletQuestion::Settlement { payment_hash };
                self.ask_wallet(Asked::SettlementOf(payment_hash), question);
            }
        }
        // Money goes out only while its records have room.
        if self.pauses.admit().is_ok() {
            self.pay_treasury_if_due(now);
        }
        self.set_timer(now.instant + HOUSEKEEPING_INTERVAL, Timer::Housekeeping);
    }

    pub(super) fn status(&self, now: Now) -> Status {
        let neighbours: Vec<_> = self.neighbours.live().collect();
        Status {
            node_id: self.node_id(),
            mode: self.mode,
            price_msat_per_unit: self.price.msat_per_unit,
            pauses: self.pauses.all(),
            routes: self.routes.cache.cached_routes(),
            announced_nodes: self.routes.vector.destinations(),
            reachable_nodes: self.reachable_nodes(now),
            routing: self.routes.vector.counters,
            neighbours,
            sessions: self.sessions.len(),
            own_sessions: self
                .payer
                .sessions
                .values()
                .filter(|session| !session.closing)
                .count(),
            payers_credit_msat: self.accounts.total_msat(),
            own_credit_msat: self.payer.purses.total_credit_msat(),
            earned_msat: self.earned_msat,
            treasury_owed_msat: self.treasury_owed_msat,
            redeemed: self.replay.stats(self.sessions.len()).active_hashes,
            dropped: self
                .dropped
                .iter()
                .map(|(reason, count)| (*reason, *count))
                .collect(),
        }
    }
}
