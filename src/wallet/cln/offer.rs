//! Paying an offer at most once for one reference.
//!
//! Each question to an offer gives another invoice with another payment hash, so the node's own care not to pay a hash
//! twice does not help. What was fetched for a reference is therefore written into the node's data store before it is
//! paid: whoever comes again with the reference, in this life or a later one, finds that invoice and pays it and no
//! other, until it has expired unpaid.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::wire::{Decoded, Fetched, Stored};
use super::{Attempt, Backend, Cln, Payment, Trouble, call_within};
use crate::wallet::rest::unix_now;
use crate::wallet::{OfferRequest, PaymentHash, PaymentOutcome, PaymentStatus, WalletError};

/// The node's code for a key that is there already, and for one that somebody has changed meanwhile.
const TAKEN: [i64; 2] = [1202, 1204];

/// How often the node is asked what became of a payment under way.
const PAUSE: Duration = Duration::from_millis(500);

/// How long after its expiry an invoice may still be in a request that is on its way to the node.
const AFTER_EXPIRY: Duration = Duration::from_secs(600);

/// An invoice that was fetched for a reference.
struct Kept {
    invoice: String,
    payment_hash: PaymentHash,
    amount_msat: u64,
    expires: Duration,
    /// The node's count of changes to this record.
    generation: Option<u64>,
}

impl Cln {
    pub(super) async fn pay_offer_once(&self, request: OfferRequest) -> Result<PaymentOutcome, WalletError> {
        let deadline = Instant::now() + request.timeout;
        let kept = self.invoice_for(&request).await?;
        let payment_hash = kept.payment_hash;
        match self.look_up(payment_hash).await? {
            PaymentStatus::Succeeded(paid) => return Ok(paid),
            PaymentStatus::InFlight => return self.follow_offer(payment_hash, deadline).await,
            PaymentStatus::Unknown | PaymentStatus::Failed(_) => {}
        }
        let payment = Payment {
            invstring: &kept.invoice,
            payment_hash,
            amount_msat: kept.amount_msat,
            maxfee_msat: request.max_fee_msat,
            maxdelay: None,
        };
        match self.xpay(payment, deadline).await {
            Attempt::Paid(paid) => Ok(paid),
            Attempt::NotSent(error) => Err(error),
            Attempt::Unheard(_) => self.follow_offer(payment_hash, deadline).await,
            Attempt::Refused(error) => match self.look_up(payment_hash).await {
                Ok(PaymentStatus::Succeeded(paid)) => Ok(paid),
                Ok(PaymentStatus::Unknown | PaymentStatus::Failed(_)) => Err(error),
                Ok(PaymentStatus::InFlight) | Err(_) => self.follow_offer(payment_hash, deadline).await,
            },
        }
    }

    /// The invoice kept for this reference, or a new one that is kept from now on.
    async fn invoice_for(&self, request: &OfferRequest) -> Result<Kept, WalletError> {
        let key = json!(["blvm-mesh", "offer", hex::encode(request.reference)]);
        let found: Stored = self.ask("listdatastore", &json!({"key": key})).await?;
        let replaced = match found.datastore.first() {
            None => None,
            Some(record) => {
                let text = record.string.clone().unwrap_or_default();
                let kept = self.decoded(text, record.generation).await?;
                if !self.is_over(&kept).await? {
                    return check_amount(kept, request);
                }
                Some(kept)
            }
        };
        let fetched = self.fetch(request).await?;
        let mut record = json!({"key": key, "string": fetched.invoice, "mode": "must-create"});
        if let (Some(old), Some(record)) = (&replaced, record.as_object_mut()) {
            record.insert("mode".to_owned(), "must-replace".into());
            record.insert("generation".to_owned(), old.generation.into());
        }
        match super::call::<serde_json::Value>(&self.api, "datastore", &record).await {
            Ok(_) => Ok(fetched),
            Err(Trouble::Said(said)) if TAKEN.contains(&said.code) => Err(WalletError::Failed {
                reason: "the same payment is being made by somebody else at this moment".to_owned(),
            }),
            Err(other) => Err(other.into()),
        }
    }

    /// Whether a kept invoice can never be paid any more and was not.
    async fn is_over(&self, kept: &Kept) -> Result<bool, WalletError> {
        if unix_now() <= kept.expires + AFTER_EXPIRY {
            return Ok(false);
        }
        let status = self.look_up(kept.payment_hash).await?;
        Ok(matches!(
            status,
            PaymentStatus::Unknown | PaymentStatus::Failed(_)
        ))
    }

    async fn fetch(&self, request: &OfferRequest) -> Result<Kept, WalletError> {
        let seconds = request.timeout.as_secs().max(1);
        let asked = json!({
            "offer": request.offer,
            "amount_msat": request.amount_msat,
            "timeout": seconds,
        });
        let fetched = call_within::<Fetched>(&self.api, "fetchinvoice", &asked, request.timeout).await;
        let fetched = fetched.map_err(|trouble| match trouble {
            Trouble::Said(said) => WalletError::Failed {
                reason: format!("the offer gave no invoice: {}", super::shortened(&said.message)),
            },
            other => other.into(),
        })?;
        check_amount(self.decoded(fetched.invoice, None).await?, request)
    }

    async fn decoded(&self, invoice: String, generation: Option<u64>) -> Result<Kept, WalletError> {
        let unreadable = || WalletError::InvoiceInvalid {
            reason: "it is no BOLT 12 invoice".to_owned(),
        };
        let read: Decoded = self.ask("decode", &json!({"string": invoice})).await?;
        let mut payment_hash = [0; 32];
        hex::decode_to_slice(&read.invoice_payment_hash, &mut payment_hash).map_err(|_| unreadable())?;
        if !read.valid {
            return Err(unreadable());
        }
        let expires = read
            .invoice_created_at
            .saturating_add(read.invoice_relative_expiry);
        Ok(Kept {
            invoice,
            payment_hash,
            amount_msat: read.invoice_amount_msat,
            expires: Duration::from_secs(expires),
            generation,
        })
    }

    async fn follow_offer(
        &self,
        payment_hash: PaymentHash,
        deadline: Instant,
    ) -> Result<PaymentOutcome, WalletError> {
        loop {
            // A failure seen here may be that of an earlier attempt: asking again with the reference settles it.
            if let Ok(PaymentStatus::Succeeded(paid)) = self.look_up(payment_hash).await {
                return Ok(paid);
            }
            if Instant::now() >= deadline {
                return Err(WalletError::OutcomeUnknown { payment_hash });
            }
            tokio::time::sleep_until((Instant::now() + PAUSE).min(deadline)).await;
        }
    }
}

/// The issuer of an offer may answer with any amount.
fn check_amount(kept: Kept, request: &OfferRequest) -> Result<Kept, WalletError> {
    if kept.amount_msat == request.amount_msat {
        return Ok(kept);
    }
    Err(WalletError::InvoiceInvalid {
        reason: format!(
            "it asks for {} msat instead of {}",
            kept.amount_msat, request.amount_msat
        ),
    })
}
