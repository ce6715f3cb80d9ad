//! Payments whose outcome is not known: begun by an earlier life, or left open by the wallet.
//!
//! A payment is written down before the wallet is asked to make it. Else a node killed in between would have paid for a
//! preimage that only its wallet knows and that it never shows to anybody. What was begun is looked up in the wallet
//! until the wallet knows: never paid again, since that might be twice.

use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::event::{Payment, Record, WalletQuestion};
use crate::payer::{AcceptedQuote, PurchasedProof};
use crate::payment_proof::PaymentProof;
use crate::time::{Instant, Now, UnixMillis};

use super::{Asked, Core, Timer};

/// How long after a look-up that told nothing the wallet is asked again.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(60);

/// How long after its beginning a payment may be on its way into the books of the wallet's service: one that makes a
/// wallet's payments one after another lets the last of a route wait for all the others. Whoever took it for never made
/// and paid again would pay twice.
const ARRIVES_WITHIN: Duration = Duration::from_secs(600);

/// Whether a payment that was begun then may still be on its way.
pub(super) fn just_begun(now: Now, begun: UnixMillis) -> bool {
    now.unix <= begun + ARRIVES_WITHIN
}

impl Core {
    /// Looks for what an earlier life left open.
    pub(super) fn resume_payments(&mut self, now: Now) {
        if !self.payer.under_way.is_empty() {
            self.look_up_at(now.instant);
        }
    }

    /// Writes down that the payment of this quote is about to begin.
    pub(super) fn note_begun(&mut self, now: Now, accepted: &AcceptedQuote) {
        if let Some(begun) = purchase(
            now,
            accepted,
            PurchasedProof::UNDER_WAY,
            accepted.quote.amount_msat,
        ) {
            self.book_begun(now.unix, &begun);
            self.persist(Record::Proof(begun));
        }
    }

    /// A payment went through.
    pub(super) fn note_paid(&mut self, now: Now, accepted: &AcceptedQuote, payment: &Payment) {
        let begun = purchase(
            now,
            accepted,
            PurchasedProof::UNDER_WAY,
            accepted.quote.amount_msat,
        );
        if let Some(begun) = begun {
            self.book_made(now.unix, &begun, payment);
        }
    }

    /// A payment did not go through. One of unknown outcome is money until the opposite is known.
    pub(super) fn note_failed(&mut self, now: Now, accepted: &AcceptedQuote, reason: DropReason) {
        let Some(begun) = purchase(
            now,
            accepted,
            PurchasedProof::UNDER_WAY,
            accepted.quote.amount_msat,
        ) else {
            return;
        };
        if reason == DropReason::PaymentUnknown {
            self.payer.under_way.insert(begun.payment_hash, begun);
            self.look_up_at(now.instant + LOOK_UP_INTERVAL);
        } else {
            self.book_failed(now.unix, &begun);
            self.persist(Record::ProofRedeemed {
                payment_hash: begun.payment_hash,
            });
        }
    }

    /// One look-up at a time for all payments together: were each to bring the next for all, a payee that holds back two
    /// payments would have this node ask its wallet twice as often every minute.
    pub(super) fn look_up_at(&mut self, at: Instant) {
        if !std::mem::replace(&mut self.payer.look_up_due, true) {
            self.set_timer(at, Timer::LookUpPayments);
        }
    }

    /// Asks the wallet what became of every payment of unknown outcome.
    pub(super) fn look_up_payments(&mut self, now: Now) {
        self.payer.look_up_due = false;
        let unknown: Vec<([u8; 32], UnixMillis)> = self
            .payer
            .under_way
            .iter()
            .map(|(hash, begun)| (*hash, begun_at(begun)))
            .collect();
        for (payment_hash, begun) in unknown {
            let question = WalletQuestion::LookUp {
                payment_hash,
                just_begun: just_begun(now, begun),
            };
            self.ask_wallet(Asked::LookUp(payment_hash), question);
        }
    }

    pub(super) fn on_look_up(
        &mut self,
        now: Now,
        payment_hash: [u8; 32],
        found: Result<Payment, DropReason>,
    ) {
        let Some(begun) = self.payer.under_way.remove(&payment_hash) else {
            return;
        };
        match (found, begun.proof.clone()) {
            (
                Ok(payment),
                PaymentProof::Lightning {
                    invoice,
                    timestamp,
                    expires_at,
                    ..
                },
            ) => {
                self.book_made(now.unix, &begun, &payment);
                self.keep_proof(PurchasedProof {
                    proof: PaymentProof::Lightning {
                        invoice,
                        preimage: payment.preimage,
                        amount_msats: payment.amount_msat,
                        timestamp,
                        expires_at,
                    },
                    ..begun
                });
            }
            // Also beyond redeem-by: a payee who held the money up until then may still take it, and the books must not say
            // that it came back.
            (Err(reason), _) if reason != DropReason::PaymentFailed => {
                self.payer.under_way.insert(payment_hash, begun);
                self.look_up_at(now.instant + LOOK_UP_INTERVAL);
            }
            _ => {
                self.book_failed(now.unix, &begun);
                self.persist(Record::ProofRedeemed { payment_hash });
                let quotes = self.payer.quote_sets.values_mut().flat_map(|set| &mut set.quotes);
                for accepted in quotes.flatten() {
                    accepted.booked &= accepted.payment_hash != Some(payment_hash);
                }
            }
        }
    }
}

/// When it was begun; written down in whole seconds.
fn begun_at(begun: &PurchasedProof) -> UnixMillis {
    match begun.proof {
        PaymentProof::Lightning { timestamp, .. } => UnixMillis(timestamp.saturating_mul(1000)),
        _ => UnixMillis(0),
    }
}

/// What paying this quote buys; none when there is nothing to pay.
pub(super) fn purchase(
    now: Now,
    accepted: &AcceptedQuote,
    preimage: [u8; 32],
    amount_msats: u64,
) -> Option<PurchasedProof> {
    Some(PurchasedProof {
        payee: accepted.quote.payee,
        payment_hash: accepted.payment_hash?,
        proof: PaymentProof::Lightning {
            invoice: accepted.quote.invoice.clone()?,
            preimage,
            amount_msats,
            timestamp: now.unix.seconds(),
            expires_at: accepted.quote.redeem_by.seconds(),
        },
        credit_msat: accepted.terms.credit_msat,
        redeem_by: accepted.quote.redeem_by,
    })
}
