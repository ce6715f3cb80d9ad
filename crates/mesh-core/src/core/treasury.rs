//! Passing the treasury's part on.
//!
//! ```text
//! asked, or due ─► what is to be paid? ─► written down: begun, in flight ─► the wallet pays ─► written down: paid, or put back
//!                                                      │                          │
//!                                  a later life begins here          unknown: looked up until it is known
//! ```
//! One payment at a time. It is written down before the wallet hears of it, and whatever has no certain outcome is looked
//! up and never paid a second time: an invoice by its payment hash, an offer by asking again under the same reference,
//! which pays nothing again. No session ever waits for any of it.

use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::event::{Answer, CommandId, Payment, Record, Refusal, WalletQuestion};
use crate::ledger::{Entry, EntryKind, LedgerAccount};
use crate::time::{Instant, Now};
use crate::treasury::{TreasuryBill, TreasuryPayee, TreasuryPayment, TreasuryPolicy, TreasuryState};

use super::under_way::just_begun;
use super::{Asked, Core, Timer};

/// How long the wallet may try: longer than for a share, since nobody waits.
const PAYMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long after a look-up that told nothing the wallet is asked again.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(60);

/// How long after a restart a payment begun by the earlier life is looked up: what that life handed to the wallet in its
/// last instant may still be on its way there, and must not pass for never begun.
const FIRST_LOOK_UP: Duration = Duration::from_secs(5);

/// How long after a failure the next payment is begun by itself.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// Whole satoshi only: many services behind Lightning addresses take no fractions. What is left over stays owed.
const GRAIN_MSAT: u64 = 1000;

/// What a node remembers of paying its treasury.
#[derive(Default)]
pub(super) struct Treasury {
    policy: Option<TreasuryPolicy>,
    /// What is to be paid is being found out: how much, and who waits.
    asking: Option<(u64, Option<CommandId>)>,
    under_way: Option<TreasuryPayment>,
    /// Who waits for the payment under way.
    waiting: Option<CommandId>,
    not_before: Instant,
}

impl Core {
    /// Names how the treasury is paid. Without this it is never paid, and what is owed stays owed.
    pub fn set_treasury(&mut self, policy: TreasuryPolicy) {
        self.treasury.policy = Some(policy);
    }

    /// How this node stands with its treasury.
    pub(super) fn treasury_state(&self) -> TreasuryState {
        let under_way = self.treasury.under_way.as_ref();
        TreasuryState {
            owed_msat: self.treasury_owed_msat,
            policy: self.treasury.policy,
            asking: self.treasury.asking.is_some(),
            under_way: under_way.map(|payment| (payment.amount_msat, payment.begun)),
        }
    }

    /// Begins to pay `amount_msat`, or all that is owed.
    pub(super) fn pay_treasury(
        &mut self,
        command: CommandId,
        amount_msat: Option<u64>,
    ) -> Result<Option<Answer>, Box<Refusal>> {
        let amount_msat = amount_msat.unwrap_or(self.treasury_owed_msat / GRAIN_MSAT * GRAIN_MSAT);
        self.ask_for_bill(amount_msat, Some(command))
            .map(|()| None)
            .map_err(Refusal::own)
    }

    /// Pays by itself once enough is owed.
    pub(super) fn pay_treasury_if_due(&mut self, now: Now) {
        let threshold_msat = self.treasury.policy.map_or(0, |policy| policy.threshold_msat);
        let due = threshold_msat > 0 && self.treasury_owed_msat >= threshold_msat;
        if !due || now.instant < self.treasury.not_before {
            return;
        }
        let amount_msat = self.treasury_owed_msat / GRAIN_MSAT * GRAIN_MSAT;
        // One that is under way already is the reason why so much is owed.
        let _ = self.ask_for_bill(amount_msat, None);
    }

    fn ask_for_bill(&mut self, amount_msat: u64, command: Option<CommandId>) -> Result<(), DropReason> {
        let treasury = &mut self.treasury;
        let busy = treasury.asking.is_some() || treasury.under_way.is_some();
        let payable = amount_msat > 0 && amount_msat <= self.treasury_owed_msat;
        if treasury.policy.is_none() || busy || !payable {
            return Err(DropReason::BadCommand);
        }
        treasury.asking = Some((amount_msat, command));
        self.ask_wallet(Asked::TreasuryBill, WalletQuestion::TreasuryBill { amount_msat });
        Ok(())
    }

    /// The hands found out what is to be paid, or could not.
    pub(super) fn on_treasury_bill(&mut self, now: Now, bill: Result<TreasuryBill, DropReason>) {
        let Some((amount_msat, command)) = self.treasury.asking.take() else {
            return;
        };
        let begun = bill.and_then(|bill| self.treasury_payment(now, amount_msat, bill));
        match begun {
            Ok(payment) => {
                let entry = Entry::new(now.unix, EntryKind::PaymentBegun)
                    .of_payment(payment.reference)
                    .debit(LedgerAccount::InFlight, amount_msat)
                    .credit(LedgerAccount::Wallet, amount_msat);
                self.persist(Record::Booked(Box::new(entry)));
                self.persist(Record::TreasuryBegun(Box::new(payment.clone())));
                self.treasury.waiting = command;
                self.treasury.under_way = Some(payment);
                self.ask_for_treasury_payment();
            }
            Err(reason) => self.treasury_refused(now, command, reason),
        }
    }

    /// Checks the bill: whoever made it would rather be paid more than less, and twice than once.
    fn treasury_payment(
        &mut self,
        now: Now,
        amount_msat: u64,
        bill: TreasuryBill,
    ) -> Result<TreasuryPayment, DropReason> {
        let policy = self.treasury.policy.ok_or(DropReason::BadCommand)?;
        // A reorganisation may have taken back what was owed when the bill was asked for.
        if amount_msat > self.treasury_owed_msat {
            return Err(DropReason::BadCommand);
        }
        let (payee, reference) = match bill {
            TreasuryBill::Invoice { invoice, facts } => {
                if facts.network != self.verifier.network() {
                    return Err(DropReason::WrongNetwork);
                }
                if facts.amount_msat != Some(amount_msat) {
                    return Err(DropReason::QuoteMismatch);
                }
                if facts.expires <= now.unix {
                    return Err(DropReason::Expired);
                }
                // Joined to a payment for carriage, it would be booked twice and paid once.
                if self.payer.under_way.contains_key(&facts.payment_hash) {
                    return Err(DropReason::InvoiceInvalid);
                }
                (TreasuryPayee::Invoice(invoice), facts.payment_hash)
            }
            TreasuryBill::Offer(offer) => (TreasuryPayee::Offer(offer), self.entropy.bytes32()),
        };
        Ok(TreasuryPayment {
            reference,
            payee,
            amount_msat,
            max_fee_msat: policy.max_fee_msat,
            begun: now.unix,
        })
    }

    fn ask_for_treasury_payment(&mut self) {
        let Some(payment) = &self.treasury.under_way else {
            return;
        };
        let question = match &payment.payee {
            TreasuryPayee::Invoice(invoice) => WalletQuestion::Pay {
                invoice: invoice.clone(),
                max_fee_msat: payment.max_fee_msat,
                timeout: PAYMENT_TIMEOUT,
            },
            TreasuryPayee::Offer(_) => pay_offer(payment),
        };
        self.ask_wallet(Asked::TreasuryPayment(payment.reference), question);
    }

    /// Asks what became of the payment under way.
    pub(super) fn look_up_treasury(&mut self, now: Now) {
        let Some(payment) = &self.treasury.under_way else {
            return;
        };
        let question = match &payment.payee {
            TreasuryPayee::Invoice(_) => WalletQuestion::LookUp {
                payment_hash: payment.reference,
                just_begun: just_begun(now, payment.begun),
            },
            TreasuryPayee::Offer(_) => pay_offer(payment),
        };
        self.ask_wallet(Asked::TreasuryPayment(payment.reference), question);
    }

    /// What the wallet says of the payment under way.
    pub(super) fn on_treasury_paid(
        &mut self,
        now: Now,
        reference: [u8; 32],
        paid: Result<Payment, DropReason>,
    ) {
        let Some(payment) = self.treasury.under_way.take_if(|p| p.reference == reference) else {
            return;
        };
        let waiting = self.treasury.waiting.take();
        match paid {
            Ok(paid) => {
                self.treasury_paid(now, &payment, &paid);
                if let Some(command) = waiting {
                    let answer = Answer::TreasuryPaid {
                        amount_msat: paid.amount_msat,
                        fee_msat: paid.fee_msat,
                    };
                    self.answer(command, Ok(answer));
                }
            }
            Err(DropReason::PaymentFailed) => {
                let entry = Entry::new(now.unix, EntryKind::PaymentFailed)
                    .of_payment(reference)
                    .debit(LedgerAccount::Wallet, payment.amount_msat)
                    .credit(LedgerAccount::InFlight, payment.amount_msat);
                self.persist(Record::Booked(Box::new(entry)));
                self.persist(Record::TreasuryDone);
                self.treasury_refused(now, waiting, DropReason::PaymentFailed);
            }
            // Anything but a certain failure may have moved money.
            Err(_) => {
                self.treasury.under_way = Some(payment);
                self.set_timer(now.instant + LOOK_UP_INTERVAL, Timer::LookUpTreasury);
                if let Some(command) = waiting {
                    self.answer(command, Err(Refusal::own(DropReason::PaymentUnknown)));
                }
            }
        }
    }

    fn treasury_paid(&mut self, now: Now, payment: &TreasuryPayment, paid: &Payment) {
        // What was owed may have shrunk while the payment was under way, if the chain took an output back; and a wallet
        // may pay a little more than the invoice says. Neither makes the debt negative.
        let settled_msat = payment.amount_msat.min(self.treasury_owed_msat);
        let over_msat = paid.amount_msat.saturating_sub(payment.amount_msat);
        let cost_msat = paid.fee_msat.saturating_add(over_msat);
        self.treasury_owed_msat -= settled_msat;
        let entry = Entry::new(now.unix, EntryKind::TreasuryPaid)
            .of_payment(payment.reference)
            .debit(LedgerAccount::TreasuryOwed, settled_msat)
            .debit(LedgerAccount::Lost, payment.amount_msat - settled_msat)
            .debit(LedgerAccount::LightningFees, cost_msat)
            .credit(LedgerAccount::InFlight, payment.amount_msat)
            .credit(LedgerAccount::Wallet, cost_msat);
        self.persist(Record::Booked(Box::new(entry)));
        self.persist(Record::TreasuryOwed(self.treasury_owed_msat));
        self.persist(Record::TreasuryDone);
    }

    fn treasury_refused(&mut self, now: Now, waiting: Option<CommandId>, reason: DropReason) {
        self.treasury.not_before = now.instant + RETRY_AFTER;
        match waiting {
            Some(command) => self.answer(command, Err(Refusal::own(reason))),
            None => self.drop_own(reason),
        }
    }

    /// Takes up a payment that an earlier life began.
    pub(super) fn restore_treasury(&mut self, now: Now, payment: Option<TreasuryPayment>) {
        if payment.is_some() {
            self.set_timer(now.instant + FIRST_LOOK_UP, Timer::LookUpTreasury);
        }
        self.treasury.under_way = payment;
    }
}

fn pay_offer(payment: &TreasuryPayment) -> WalletQuestion {
    let offer = match &payment.payee {
        TreasuryPayee::Offer(text) | TreasuryPayee::Invoice(text) => text.clone(),
    };
    WalletQuestion::PayOffer {
        offer,
        amount_msat: payment.amount_msat,
        max_fee_msat: payment.max_fee_msat,
        reference: payment.reference,
        timeout: PAYMENT_TIMEOUT,
    }
}
