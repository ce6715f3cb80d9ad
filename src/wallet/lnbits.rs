//! An LNbits wallet, over LNbits' REST interface.
//!
//! LNbits keeps accounts for many on one Lightning node, or on none: wallets of one LNbits pay each other in its books.
//! What it does not offer, it does not pretend to:
//!
//! * **Whole satoshi only.** LNbits cuts the amount of an invoice down to whole satoshi without a word; asked for a
//!   fraction, this wallet refuses ([`Wallet::granularity_msat`](super::Wallet::granularity_msat) is 1,000). It pays
//!   invoices over fractions.
//! * **Fee limit.** LNbits lets nobody name one: its operator sets a reserve (2 sat or 1 %), and that is the most a
//!   payment may cost. A payment whose reserve is above the caller's limit is refused before it is begun.
//! * **Lock time.** LNbits lets nobody limit it; that of its Lightning node holds.
//! * **Its Lightning key** is told by no question an ordinary wallet may ask, so an invoice is made at the start and
//!   read. It is never shown to anybody and expires unpaid.
//!
//! Written to and tested with LNbits 1.6.

use async_trait::async_trait;
use lightning_invoice::Bolt11Invoice;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::invoice::{PayableInvoice, network_of};
use super::rest::{Answer, Api, Attempt, Backend, said, unavailable, unix_now};
use super::{
    Balance, InvoiceRequest, InvoiceStatus, LightningNetwork, PayRequest, PaymentHash, PaymentOutcome,
    PaymentStatus, Probe, WalletError, WalletInfo,
};
use crate::http::{Response, StatusCode};

/// The header that carries the key.
pub(super) const KEY_HEADER: &str = "x-api-key";

const MSAT_PER_SAT: u64 = 1_000;

/// The status LNbits has for payments that went wrong.
const PAYMENT_ERROR: u16 = 520;

/// How long the invoice may be paid that is made to read the Lightning key from, in seconds.
const PROBE_INVOICE_SECONDS: u64 = 60;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct LnBits {
    api: Api,
    info: WalletInfo,
    network: LightningNetwork,
}

/// `GET /api/v1/wallet`.
#[derive(Debug, Deserialize)]
struct Account {
    /// In msat; what is under way to others, and the fees reserved for it, has left it.
    balance: i64,
    /// Shown to the admin key only.
    id: Option<String>,
}

/// A payment as LNbits shows it, in either direction.
#[derive(Debug, Deserialize)]
struct Payment {
    checking_id: String,
    payment_hash: String,
    /// In msat; negative for what we pay.
    amount: i64,
    /// In msat, of either sign; a reserve until the payment is done.
    fee: i64,
    status: String,
    preimage: Option<String>,
    bolt11: String,
}

/// `GET /api/v1/payments/{hash}`.
#[derive(Debug, Deserialize)]
struct Shown {
    /// Missing when the payment is not one of this wallet's.
    details: Option<Payment>,
}

/// The body of an answer that tells of an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Complaint {
    /// `failed`, `pending` or `success`: what LNbits knows of the payment.
    status: String,
}

#[derive(Debug, Deserialize)]
struct Reserve {
    /// In msat.
    fee_reserve: u64,
}

impl LnBits {
    /// Asks LNbits who it is.
    pub(super) async fn connect(api: Api) -> Result<Self, WalletError> {
        let account = account(&api).await?;
        if account.id.is_none() {
            tracing::warn!("the LNbits key is an invoice key: this node can be paid and cannot pay");
        }
        let made = create(
            &api,
            MSAT_PER_SAT,
            "blvm-mesh: which node signs invoices",
            PROBE_INVOICE_SECONDS,
        )
        .await?;
        let unreadable = || WalletError::Unavailable {
            reason: "LNbits makes invoices that cannot be read".to_owned(),
        };
        let invoice: Bolt11Invoice = made.parse().map_err(|_| unreadable())?;
        let network = network_of(&invoice).ok_or_else(unreadable)?;
        let info = WalletInfo {
            backend: "lnbits",
            network: Some(network),
            payee: Some(invoice.get_payee_pub_key().serialize()),
        };
        Ok(Self { api, info, network })
    }

    /// The network its invoices are for.
    pub(super) fn network(&self) -> LightningNetwork {
        self.network
    }

    async fn account(&self) -> Result<Account, WalletError> {
        account(&self.api).await
    }

    async fn spendable_msat(&self) -> Result<u64, WalletError> {
        Ok(u64::try_from(self.account().await?.balance).unwrap_or(0))
    }

    /// The payment of this hash in this wallet; where it paid its own invoice, the paying side.
    async fn find(&self, payment_hash: PaymentHash) -> Result<Option<Payment>, WalletError> {
        let hash = hex::encode(payment_hash);
        let answer = self
            .api
            .get(&format!("api/v1/payments/{hash}"))
            .await
            .map_err(unavailable)?;
        let shown: Option<Shown> = match &answer {
            Answer::Error(response) if response.status == StatusCode::NOT_FOUND => None,
            other => Some(other.read()?),
        };
        let Some(found) = shown.and_then(|shown| shown.details) else {
            // That question is answered to anybody, so "not found" may also mean that the key is no longer ours.
            self.account().await?;
            return Ok(None);
        };
        if found.payment_hash == hash {
            return Ok(Some(found));
        }
        Err(WalletError::Unavailable {
            reason: "LNbits shows another payment than it was asked for".to_owned(),
        })
    }

    async fn reserve_msat(&self, bolt11: &str) -> Result<u64, WalletError> {
        let path = format!("api/v1/payments/fee-reserve?invoice={bolt11}");
        let reserve: Reserve = get(&self.api, &path).await?;
        Ok(reserve.fee_reserve)
    }

    async fn check_fee(&self, request: &PayRequest) -> Result<(), WalletError> {
        let cheapest_msat = self.reserve_msat(&request.bolt11).await?;
        if cheapest_msat > request.max_fee_msat {
            return Err(WalletError::FeeLimit {
                limit_msat: request.max_fee_msat,
                cheapest_msat,
            });
        }
        Ok(())
    }

    /// What a refusal of LNbits is to us. Its texts are not an interface, so only what is sure is translated.
    async fn refusal(&self, response: &Response, needed_msat: u64) -> WalletError {
        let reason = said(response);
        if reason.contains("Insufficient balance") || reason.contains("You must reserve") {
            let spendable_msat = self.spendable_msat().await.unwrap_or(0);
            return WalletError::InsufficientFunds {
                needed_msat,
                spendable_msat,
            };
        }
        WalletError::Failed { reason }
    }
}

#[async_trait]
impl Backend for LnBits {
    async fn info(&self) -> Result<WalletInfo, WalletError> {
        self.account().await?;
        Ok(self.info.clone())
    }

    async fn create_invoice(&self, request: &InvoiceRequest, seconds: u64) -> Result<String, WalletError> {
        create(&self.api, request.amount_msat, &request.description, seconds).await
    }

    async fn invoice_status(&self, payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError> {
        let Some(found) = self.find(payment_hash).await? else {
            return Ok(InvoiceStatus::Unknown);
        };
        if found.amount < 0 {
            return Ok(paid_to_itself(&found));
        }
        Ok(match found.status.as_str() {
            "success" => InvoiceStatus::Settled {
                // What a service behind LNbits took for receiving never arrived here.
                amount_msat: found
                    .amount
                    .unsigned_abs()
                    .saturating_sub(found.fee.unsigned_abs()),
            },
            "failed" if expired(&found) => InvoiceStatus::Expired,
            "failed" => InvoiceStatus::Cancelled,
            _ => InvoiceStatus::Open,
        })
    }

    async fn look_up(&self, payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError> {
        let found = self.find(payment_hash).await?;
        // An invoice of our own that we did not pay ourselves is no payment of ours.
        let Some(found) = found.filter(|found| found.amount < 0) else {
            return Ok(PaymentStatus::Unknown);
        };
        Ok(match found.status.as_str() {
            "success" => PaymentStatus::Succeeded(outcome(&found, payment_hash)?),
            "failed" => PaymentStatus::Failed(failed()),
            _ => PaymentStatus::InFlight,
        })
    }

    async fn begin(&self, invoice: &PayableInvoice, request: &PayRequest, deadline: Instant) -> Attempt {
        if let Err(error) = self.check_fee(request).await {
            return Attempt::NotSent(error);
        }
        let body = json!({"out": true, "bolt11": request.bolt11});
        let limit = deadline.saturating_duration_since(Instant::now());
        let answer = match self.api.post_within("api/v1/payments", &body, limit).await {
            Ok(answer) => answer,
            Err(error) if error.nothing_sent() => return Attempt::NotSent(unavailable(error)),
            Err(error) => return Attempt::Unheard(error.to_string()),
        };
        match &answer {
            Answer::Success(response) => match response.json::<Payment>() {
                Ok(paid) if paid.status == "success" => match outcome(&paid, invoice.payment_hash()) {
                    Ok(outcome) => Attempt::Paid(outcome),
                    Err(error) => Attempt::Unheard(error.to_string()),
                },
                // So it answers when asked again for one that failed: it never tries a payment hash twice.
                Ok(payment) if payment.status == "failed" => Attempt::Refused(failed()),
                Ok(payment) => Attempt::Unheard(format!("LNbits says that it is {:?}", payment.status)),
                Err(error) => Attempt::Unheard(error.to_string()),
            },
            Answer::Error(response) if is_refusal(response) => {
                Attempt::Refused(self.refusal(response, invoice.amount_msat()).await)
            }
            Answer::Error(response) => Attempt::Unheard(said(response)),
        }
    }

    async fn probe(&self, invoice: &PayableInvoice, request: &PayRequest) -> Result<Probe, WalletError> {
        self.check_fee(request).await?;
        let spendable_msat = self.spendable_msat().await?;
        if spendable_msat < invoice.amount_msat() {
            return Err(WalletError::InsufficientFunds {
                needed_msat: invoice.amount_msat(),
                spendable_msat,
            });
        }
        Ok(Probe::NotOffered)
    }

    async fn balance(&self) -> Result<Balance, WalletError> {
        let owned_msat = self.spendable_msat().await?;
        let path = "api/v1/payments?status=pending&amount[lt]=0&limit=1000";
        let pending: Vec<Payment> = get(&self.api, path).await?;
        // The filter is checked here: LNbits ignores filters that it does not know.
        let under_way = pending
            .iter()
            .filter(|payment| payment.amount < 0 && payment.status == "pending")
            .map(|payment| {
                payment
                    .amount
                    .unsigned_abs()
                    .saturating_add(payment.fee.unsigned_abs())
            });
        Ok(Balance {
            owned_msat,
            spendable_msat: owned_msat,
            receivable_msat: None,
            outgoing_msat: under_way.fold(0, u64::saturating_add),
        })
    }

    fn granularity_msat(&self) -> u64 {
        MSAT_PER_SAT
    }
}

async fn get<T: serde::de::DeserializeOwned>(api: &Api, path: &str) -> Result<T, WalletError> {
    api.get(path).await.map_err(unavailable)?.read()
}

/// Our wallet; LNbits says of a key that it does not know that there is no such wallet.
async fn account(api: &Api) -> Result<Account, WalletError> {
    let answer = api.get("api/v1/wallet").await.map_err(unavailable)?;
    match &answer {
        Answer::Error(response) if response.status == StatusCode::NOT_FOUND => {
            Err(WalletError::Unavailable {
                reason: "LNbits has no wallet with this key: check the key in section [wallet.lnbits]"
                    .to_owned(),
            })
        }
        known => known.read(),
    }
}

/// Makes an invoice over whole satoshi. The description goes in full: Lightning nodes behind LNbits that hash it
/// themselves take nothing else, and for the others LNbits hashes it.
async fn create(api: &Api, amount_msat: u64, description: &str, seconds: u64) -> Result<String, WalletError> {
    let body = json!({
        "out": false,
        "unit": "sat",
        "amount": amount_msat / MSAT_PER_SAT,
        "unhashed_description": hex::encode(description),
        "expiry": seconds,
    });
    let made: Payment = api
        .post("api/v1/payments", &body)
        .await
        .map_err(unavailable)?
        .read()?;
    Ok(made.bolt11)
}

fn failed() -> WalletError {
    WalletError::Failed {
        reason: "LNbits says that it failed, and tries no invoice twice; ask the payee for another"
            .to_owned(),
    }
}

/// Whether LNbits says for sure that it did not pay: it names the payment failed, or did not take the request.
fn is_refusal(response: &Response) -> bool {
    match response.status.as_u16() {
        PAYMENT_ERROR => response
            .json::<Complaint>()
            .is_ok_and(|said| said.status == "failed"),
        status => (400..500).contains(&status),
    }
}

/// An invoice of this wallet that it paid itself: LNbits books both sides at once and shows the paying one.
fn paid_to_itself(found: &Payment) -> InvoiceStatus {
    if found.status == "success" && found.checking_id.starts_with("internal_") {
        return InvoiceStatus::Settled {
            amount_msat: found.amount.unsigned_abs(),
        };
    }
    InvoiceStatus::Open
}

fn expired(found: &Payment) -> bool {
    let invoice: Option<Bolt11Invoice> = found.bolt11.parse().ok();
    invoice.is_none_or(|invoice| invoice.would_expire(unix_now()))
}

/// Without a preimage a payment may be done and proves nothing yet: LNbits learns it later from some backends.
fn outcome(paid: &Payment, payment_hash: PaymentHash) -> Result<PaymentOutcome, WalletError> {
    let mut preimage = [0; 32];
    let read = paid
        .preimage
        .as_ref()
        .map(|digits| hex::decode_to_slice(digits, &mut preimage));
    if !matches!(read, Some(Ok(()))) {
        return Err(WalletError::OutcomeUnknown { payment_hash });
    }
    Ok(PaymentOutcome {
        preimage,
        amount_msat: paid.amount.unsigned_abs(),
        fee_msat: paid.fee.unsigned_abs(),
    })
}
