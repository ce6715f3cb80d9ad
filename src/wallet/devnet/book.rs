//! What one devnet wallet remembers: the invoices it issued and the payments it began.
//!
//! Both books answer from memory and wake whoever waits; neither knows anything of Lightning. Both are bounded and,
//! when full, refuse the new: a settled invoice forgotten could be shown again, a payment forgotten be paid again.
//! Only what can never matter any more is dropped to make room: invoices that expired unpaid, payments that failed.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::wallet::{InvoiceStatus, PaymentHash, PaymentOutcome, PaymentStatus, Preimage, WalletError};

/// The most invoices, and the most payments, that one wallet remembers: about 150 MB, and at several hundred payments
/// a second, all that this machinery can do, a quarter of an hour's worth. A devnet lives for minutes.
pub(super) const MAX_RECORDS: usize = 1 << 19;

/// Invoices issued by this wallet.
#[derive(Debug)]
pub(super) struct InvoiceBook {
    limit: usize,
    invoices: HashMap<PaymentHash, Invoice>,
}

#[derive(Debug)]
struct Invoice {
    amount_msat: u64,
    /// From which, with the hash, the node derives the preimage.
    payment_secret: [u8; 32],
    /// Unix time after which a payment is sent back.
    expires_at: Duration,
    stage: watch::Sender<Stage>,
}

/// How far the payment of an invoice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has paid.
    Open,
    /// A payment has arrived and is being claimed: not money yet, and no longer subject to expiry.
    Claiming,
    /// Claimed: the amount, in msat, is ours.
    Settled(u64),
}

impl InvoiceBook {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            invoices: HashMap::new(),
        }
    }

    /// Refuses a new invoice when the book is full, after dropping what expired unpaid.
    pub(super) fn make_room(&mut self, now: Duration) -> Result<(), WalletError> {
        if self.invoices.len() >= self.limit {
            self.invoices
                .retain(|_, invoice| *invoice.stage.borrow() != Stage::Open || invoice.expires_at >= now);
        }
        if self.invoices.len() >= self.limit {
            return Err(WalletError::LimitReached {
                what: "outstanding and settled invoices",
                limit: self.limit,
            });
        }
        Ok(())
    }

    /// Notes an invoice. Call [`Self::make_room`] first.
    pub(super) fn issued(
        &mut self,
        payment_hash: PaymentHash,
        amount_msat: u64,
        payment_secret: [u8; 32],
        expires_at: Duration,
    ) {
        let stage = watch::Sender::new(Stage::Open);
        self.invoices.insert(
            payment_hash,
            Invoice {
                amount_msat,
                payment_secret,
                expires_at,
                stage,
            },
        );
    }

    /// A payment over `amount_msat` has arrived: whether to claim it. If not it must be sent back.
    ///
    /// Sent back is what nobody asked for, what is too little, what comes too late (else an invoice reported as
    /// expired could still turn into money), and what comes twice (else a payer who retries elsewhere loses it).
    pub(super) fn may_claim(&mut self, payment_hash: &PaymentHash, amount_msat: u64, now: Duration) -> bool {
        let Some(invoice) = self.invoices.get(payment_hash) else {
            return false;
        };
        let open = *invoice.stage.borrow() == Stage::Open;
        let claim = open && amount_msat >= invoice.amount_msat && now <= invoice.expires_at;
        if claim {
            invoice.stage.send_replace(Stage::Claiming);
        }
        claim
    }

    /// The claim is done: `amount_msat` is ours.
    pub(super) fn settled(&mut self, payment_hash: &PaymentHash, amount_msat: u64) {
        if let Some(invoice) = self.invoices.get(payment_hash) {
            invoice.stage.send_replace(Stage::Settled(amount_msat));
        }
    }

    pub(super) fn status(&self, payment_hash: &PaymentHash, now: Duration) -> InvoiceStatus {
        let Some(invoice) = self.invoices.get(payment_hash) else {
            return InvoiceStatus::Unknown;
        };
        match *invoice.stage.borrow() {
            Stage::Settled(amount_msat) => InvoiceStatus::Settled { amount_msat },
            Stage::Open if now > invoice.expires_at => InvoiceStatus::Expired,
            Stage::Open | Stage::Claiming => InvoiceStatus::Open,
        }
    }

    /// Where to wait for settlement, and until when it makes sense; `None` for an unknown invoice.
    pub(super) fn watch(&self, payment_hash: &PaymentHash) -> Option<(watch::Receiver<Stage>, Duration)> {
        let invoice = self.invoices.get(payment_hash)?;
        Some((invoice.stage.subscribe(), invoice.expires_at))
    }

    pub(super) fn payment_secret(&self, payment_hash: &PaymentHash) -> Option<[u8; 32]> {
        self.invoices
            .get(payment_hash)
            .map(|invoice| invoice.payment_secret)
    }
}

/// Payments begun by this wallet.
#[derive(Debug)]
pub(super) struct PaymentBook {
    limit: usize,
    payments: HashMap<PaymentHash, Payment>,
}

#[derive(Debug)]
struct Payment {
    amount_msat: u64,
    max_fee_msat: u64,
    status: watch::Sender<PaymentStatus>,
}

/// What to do about a request to pay.
#[derive(Debug)]
pub(super) enum Begin {
    /// Nobody has paid it yet: send it, and wait here.
    Send(watch::Receiver<PaymentStatus>),
    /// It is on its way already: only wait.
    Join(watch::Receiver<PaymentStatus>),
    /// It was paid before: this came of it.
    Paid(PaymentOutcome),
}

impl PaymentBook {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            payments: HashMap::new(),
        }
    }

    /// Decides, in one step, who sends a payment: of any number of callers exactly one gets [`Begin::Send`], until
    /// [`Self::failed`] frees the hash again.
    pub(super) fn begin(
        &mut self,
        payment_hash: PaymentHash,
        amount_msat: u64,
        max_fee_msat: u64,
    ) -> Result<Begin, WalletError> {
        if let Some(payment) = self.payments.get_mut(&payment_hash) {
            let status = payment.status.borrow().clone();
            return Ok(match status {
                PaymentStatus::Succeeded(outcome) => Begin::Paid(outcome),
                PaymentStatus::InFlight => Begin::Join(payment.status.subscribe()),
                PaymentStatus::Failed(_) | PaymentStatus::Unknown => {
                    (payment.amount_msat, payment.max_fee_msat) = (amount_msat, max_fee_msat);
                    payment.status.send_replace(PaymentStatus::InFlight);
                    Begin::Send(payment.status.subscribe())
                }
            });
        }
        self.make_room()?;
        let (status, receiver) = watch::channel(PaymentStatus::InFlight);
        self.payments.insert(
            payment_hash,
            Payment {
                amount_msat,
                max_fee_msat,
                status,
            },
        );
        Ok(Begin::Send(receiver))
    }

    /// The payee has it. Where the node does not say what it cost, the most that was allowed is booked.
    pub(super) fn succeeded(
        &mut self,
        payment_hash: &PaymentHash,
        preimage: Preimage,
        amount_msat: Option<u64>,
        fee_msat: Option<u64>,
    ) {
        if let Some(payment) = self.payments.get(payment_hash) {
            payment
                .status
                .send_replace(PaymentStatus::Succeeded(PaymentOutcome {
                    preimage,
                    amount_msat: amount_msat.unwrap_or(payment.amount_msat),
                    fee_msat: fee_msat.unwrap_or(payment.max_fee_msat),
                }));
        }
    }

    /// It is certain that nothing moved and nothing will. A success noted before stays a success.
    pub(super) fn failed(&mut self, payment_hash: &PaymentHash, error: WalletError) {
        if let Some(payment) = self.payments.get(payment_hash) {
            payment.status.send_if_modified(|status| {
                let in_flight = *status == PaymentStatus::InFlight;
                if in_flight {
                    *status = PaymentStatus::Failed(error);
                }
                in_flight
            });
        }
    }

    pub(super) fn status(&self, payment_hash: &PaymentHash) -> PaymentStatus {
        self.payments
            .get(payment_hash)
            .map_or(PaymentStatus::Unknown, |payment| payment.status.borrow().clone())
    }

    /// What the payment was asked to be: amount and most fee, in msat.
    pub(super) fn terms(&self, payment_hash: &PaymentHash) -> Option<(u64, u64)> {
        self.payments
            .get(payment_hash)
            .map(|payment| (payment.amount_msat, payment.max_fee_msat))
    }

    fn make_room(&mut self) -> Result<(), WalletError> {
        if self.payments.len() >= self.limit {
            self.payments
                .retain(|_, payment| !matches!(*payment.status.borrow(), PaymentStatus::Failed(_)));
        }
        if self.payments.len() >= self.limit {
            return Err(WalletError::LimitReached {
                what: "payments in flight and made",
                limit: self.limit,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: PaymentHash = [1; 32];
    const NOW: Duration = Duration::from_secs(1_000);
    const LATER: Duration = Duration::from_secs(2_000);

    fn one_invoice() -> InvoiceBook {
        let mut book = InvoiceBook::new(2);
        book.make_room(NOW).unwrap();
        book.issued(HASH, 500, [9; 32], NOW);
        book
    }

    #[test]
    fn an_arriving_payment_is_not_money_before_it_is_claimed() {
        let mut book = one_invoice();
        assert_eq!(book.status(&HASH, NOW), InvoiceStatus::Open);
        assert!(book.may_claim(&HASH, 500, NOW));
        assert_eq!(book.status(&HASH, NOW), InvoiceStatus::Open);
        assert_eq!(
            book.status(&HASH, LATER),
            InvoiceStatus::Open,
            "what is being claimed does not expire"
        );
        book.settled(&HASH, 501);
        assert_eq!(
            book.status(&HASH, LATER),
            InvoiceStatus::Settled { amount_msat: 501 }
        );
    }

    #[test]
    fn unknown_short_late_and_second_payments_are_sent_back() {
        let mut book = one_invoice();
        assert!(!book.may_claim(&[2; 32], 500, NOW));
        assert!(!book.may_claim(&HASH, 499, NOW));
        assert!(!book.may_claim(&HASH, 500, LATER));
        assert_eq!(book.status(&HASH, LATER), InvoiceStatus::Expired);
        assert!(book.may_claim(&HASH, 500, NOW));
        assert!(!book.may_claim(&HASH, 500, NOW));
        book.settled(&HASH, 500);
        assert!(!book.may_claim(&HASH, 500, NOW));
    }

    #[test]
    fn a_full_book_forgets_only_what_expired_unpaid() {
        let mut book = one_invoice();
        book.issued([2; 32], 500, [9; 32], NOW);
        assert!(matches!(
            book.make_room(NOW),
            Err(WalletError::LimitReached { limit: 2, .. })
        ));
        assert!(book.may_claim(&HASH, 500, NOW));
        book.settled(&HASH, 500);
        assert_eq!(book.make_room(LATER), Ok(()));
        assert_eq!(book.status(&[2; 32], LATER), InvoiceStatus::Unknown);
        assert_eq!(
            book.status(&HASH, LATER),
            InvoiceStatus::Settled { amount_msat: 500 }
        );
    }

    #[test]
    fn of_many_who_pay_one_invoice_one_sends() {
        let mut book = PaymentBook::new(2);
        assert!(matches!(book.begin(HASH, 500, 5), Ok(Begin::Send(_))));
        assert!(matches!(book.begin(HASH, 500, 5), Ok(Begin::Join(_))));
        book.succeeded(&HASH, [7; 32], Some(500), Some(1));
        let paid = PaymentOutcome {
            preimage: [7; 32],
            amount_msat: 500,
            fee_msat: 1,
        };
        assert!(matches!(book.begin(HASH, 500, 5), Ok(Begin::Paid(outcome)) if outcome == paid));
        book.failed(&HASH, WalletError::Timeout);
        assert_eq!(
            book.status(&HASH),
            PaymentStatus::Succeeded(paid),
            "a success is final"
        );
    }

    #[test]
    fn only_a_known_failure_frees_the_invoice() {
        let mut book = PaymentBook::new(1);
        assert!(matches!(book.begin(HASH, 500, 5), Ok(Begin::Send(_))));
        assert!(matches!(
            book.begin([2; 32], 1, 1),
            Err(WalletError::LimitReached { .. })
        ));
        book.failed(&HASH, WalletError::Rejected);
        assert_eq!(book.status(&HASH), PaymentStatus::Failed(WalletError::Rejected));
        assert!(matches!(book.begin(HASH, 500, 7), Ok(Begin::Send(_))));
        assert_eq!(book.terms(&HASH), Some((500, 7)));
        book.succeeded(&HASH, [7; 32], None, None);
        let outcome = PaymentOutcome {
            preimage: [7; 32],
            amount_msat: 500,
            fee_msat: 7,
        };
        assert_eq!(
            book.status(&HASH),
            PaymentStatus::Succeeded(outcome),
            "unsaid costs are booked at their worst"
        );
    }

    #[test]
    fn a_failed_payment_makes_room_for_a_new_one() {
        let mut book = PaymentBook::new(1);
        assert!(book.begin(HASH, 500, 5).is_ok());
        book.failed(&HASH, WalletError::Rejected);
        assert!(matches!(book.begin([2; 32], 1, 1), Ok(Begin::Send(_))));
        assert_eq!(book.status(&HASH), PaymentStatus::Unknown);
    }
}
