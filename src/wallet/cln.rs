//! A Core Lightning node, over its REST plugin `clnrest`.
//!
//! Written to the published schemas of Core Lightning 25.12; not yet run against a live node. It needs 25.02 or newer.
//! Each method of the node is a `POST /v1/<method>` with its parameters by name; an error comes with the code that the
//! method's documentation gives.
//!
//! * **Invoices with a description hash** are made from the description itself (`deschashonly`): the node hashes it and
//!   takes nothing but UTF-8. A bare hash cannot be had from it by any method (`createinvoice` wants a text too), which is
//!   why [`InvoiceRequest`] carries the text.
//! * **Payments** go through `xpay`. The older `pay` refuses an invoice with a description hash unless it is told the
//!   description, which whoever asks this wallet to pay need not know.
//! * **A failed `xpay` may leave parts under way.** Only the node's list of payments (`listpays`) says that all are over.
//! * **Offers**: the invoice fetched for a reference is kept in the node's data store before it is paid, so that the same
//!   reference pays the same invoice, whatever crashes in between.
//!
//! The rune needs to allow the methods getinfo, invoice, listinvoices, xpay, listpays, getroutes, listpeerchannels,
//! fetchinvoice, decode, datastore and listdatastore; it should allow no others.

mod offer;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::invoice::PayableInvoice;
use super::rest::{Answer, Api, Attempt, Backend, said, shortened, unavailable};
use super::{
    Balance, InvoiceRequest, InvoiceStatus, LightningNetwork, OfferRequest, PayRequest, PaymentHash,
    PaymentOutcome, PaymentStatus, Probe, WalletError, WalletInfo,
};
use crate::http::{HttpError, StatusCode};
use wire::{Channels, Complaint, GetInfo, Invoices, MadeInvoice, Paid, Pay, Pays, Routes, State};

/// The header that carries the rune.
pub(super) const KEY_HEADER: &str = "rune";

/// The node's codes for payments that failed (`xpay`, `getroutes`).
mod codes {
    pub(super) const REFUSED_BY_PAYEE: i64 = 203;
    pub(super) const NO_ROUTE: i64 = 205;
    pub(super) const TOO_DEAR: i64 = 206;
    pub(super) const EXPIRED: i64 = 207;
    pub(super) const TIMED_OUT: i64 = 210;
    pub(super) const TOO_POOR: i64 = 215;
    pub(super) const NO_CAPACITY: i64 = 220;
}

/// A fee nobody pays, for asking what the cheapest route costs: all the bitcoin there will ever be, in msat.
const ANY_FEE_MSAT: u64 = 21_000_000 * 100_000_000 * 1_000;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Cln {
    api: Api,
    info: WalletInfo,
    network: LightningNetwork,
}

/// Why a method gave no result.
#[derive(Debug)]
enum Trouble {
    /// The node says no, with a code.
    Said(Complaint),
    /// It was not heard, or not understood.
    Http(HttpError),
    /// Somebody in between answered.
    Strange(String),
}

impl Cln {
    /// Asks the node who it is.
    pub(super) async fn connect(api: Api) -> Result<Self, WalletError> {
        let told: GetInfo = call(&api, "getinfo", &json!({}))
            .await
            .map_err(WalletError::from)?;
        let network = told.network().ok_or_else(|| WalletError::Unavailable {
            reason: "Core Lightning is on a network that is none of bitcoin, testnet, signet and regtest"
                .to_owned(),
        })?;
        let info = WalletInfo {
            backend: "cln",
            network: Some(network),
            payee: Some(told.key()?),
        };
        Ok(Self { api, info, network })
    }

    /// The network its invoices are for.
    pub(super) fn network(&self) -> LightningNetwork {
        self.network
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, parameters: &Value) -> Result<T, WalletError> {
        Ok(call(&self.api, method, parameters).await?)
    }

    async fn channels(&self) -> Result<Channels, WalletError> {
        self.ask("listpeerchannels", &json!({})).await
    }

    /// What the node's code means for a payment of this amount, of which nothing is under way.
    async fn failure(&self, complaint: Complaint, needed_msat: u64) -> WalletError {
        match complaint.code {
            codes::REFUSED_BY_PAYEE => WalletError::Rejected,
            codes::NO_ROUTE | codes::NO_CAPACITY => WalletError::NoRoute {
                amount_msat: needed_msat,
            },
            codes::EXPIRED => WalletError::InvoiceExpired,
            codes::TIMED_OUT => WalletError::Timeout,
            codes::TOO_POOR => {
                let channels = self.channels().await;
                WalletError::InsufficientFunds {
                    needed_msat,
                    spendable_msat: channels.map_or(0, |channels| channels.spendable_msat()),
                }
            }
            code => WalletError::Failed {
                reason: format!(
                    "Core Lightning says: {} (code {code})",
                    shortened(&complaint.message)
                ),
            },
        }
    }

    /// The payments of this hash in the node's list: one, unless it was tried again after a failure.
    async fn pays(&self, payment_hash: PaymentHash) -> Result<Vec<Pay>, WalletError> {
        let asked = json!({"payment_hash": hex::encode(payment_hash)});
        let listed: Pays = self.ask("listpays", &asked).await?;
        Ok(listed.pays)
    }

    async fn route_fee(
        &self,
        invoice: &PayableInvoice,
        maxfee_msat: u64,
        maxdelay: u32,
    ) -> Result<u64, Trouble> {
        let own = self.info.payee.unwrap_or([0; 33]);
        let asked = json!({
            "source": hex::encode(own),
            "destination": hex::encode(invoice.payee()),
            "amount_msat": invoice.amount_msat(),
            "layers": ["auto.localchans", "auto.sourcefree"],
            "maxfee_msat": maxfee_msat,
            "final_cltv": invoice.as_bolt11().min_final_cltv_expiry_delta(),
            "maxdelay": maxdelay,
        });
        let found: Routes = call(&self.api, "getroutes", &asked).await?;
        Ok(found.fee_msat())
    }
}

#[async_trait]
impl Backend for Cln {
    async fn info(&self) -> Result<WalletInfo, WalletError> {
        let _: GetInfo = self.ask("getinfo", &json!({})).await?;
        Ok(self.info.clone())
    }

    async fn create_invoice(&self, request: &InvoiceRequest, seconds: u64) -> Result<String, WalletError> {
        let asked = json!({
            "amount_msat": request.amount_msat,
            "label": label()?,
            "description": request.description,
            "expiry": seconds,
            "deschashonly": true,
        });
        let made: MadeInvoice = self.ask("invoice", &asked).await?;
        Ok(made.bolt11)
    }

    async fn invoice_status(&self, payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError> {
        let asked = json!({"payment_hash": hex::encode(payment_hash)});
        let listed: Invoices = self.ask("listinvoices", &asked).await?;
        let Some(invoice) = listed.invoices.first() else {
            return Ok(InvoiceStatus::Unknown);
        };
        match (invoice.status.as_str(), invoice.amount_received_msat) {
            ("paid", Some(amount_msat)) => Ok(InvoiceStatus::Settled { amount_msat }),
            ("unpaid", _) => Ok(InvoiceStatus::Open),
            ("expired", _) => Ok(InvoiceStatus::Expired),
            (other, _) => Err(WalletError::Unavailable {
                reason: format!("Core Lightning calls an invoice {:?}", shortened(other)),
            }),
        }
    }

    async fn look_up(&self, payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError> {
        let pays = self.pays(payment_hash).await?;
        if let Some(paid) = pays.iter().find(|pay| pay.status == State::Complete) {
            return Ok(PaymentStatus::Succeeded(paid.outcome(payment_hash)?));
        }
        if pays.iter().any(|pay| pay.status != State::Failed) {
            return Ok(PaymentStatus::InFlight);
        }
        Ok(match pays.last() {
            None => PaymentStatus::Unknown,
            Some(_) => PaymentStatus::Failed(WalletError::Failed {
                reason: "Core Lightning says that it failed".to_owned(),
            }),
        })
    }

    async fn begin(&self, invoice: &PayableInvoice, request: &PayRequest, deadline: Instant) -> Attempt {
        let payment = Payment {
            invstring: &request.bolt11,
            payment_hash: invoice.payment_hash(),
            amount_msat: invoice.amount_msat(),
            maxfee_msat: request.max_fee_msat,
            maxdelay: Some(request.max_cltv_blocks),
        };
        self.xpay(payment, deadline).await
    }

    async fn probe(&self, invoice: &PayableInvoice, request: &PayRequest) -> Result<Probe, WalletError> {
        if !invoice.as_bolt11().route_hints().is_empty() {
            // The question for routes takes no hints, and without them the payee may seem out of reach.
            return Ok(Probe::NotOffered);
        }
        let (limit_msat, blocks) = (request.max_fee_msat, request.max_cltv_blocks);
        let within_limit = self.route_fee(invoice, limit_msat, blocks).await;
        let said = match within_limit {
            Ok(fee_msat) => return Ok(Probe::Reachable { fee_msat }),
            Err(Trouble::Said(said)) => said,
            Err(other) => return Err(other.into()),
        };
        if said.code == codes::TOO_DEAR
            && let Ok(cheapest_msat) = self.route_fee(invoice, ANY_FEE_MSAT, blocks).await
            && cheapest_msat > limit_msat
        {
            return Err(WalletError::FeeLimit {
                limit_msat,
                cheapest_msat,
            });
        }
        Err(self.failure(said, invoice.amount_msat()).await)
    }

    async fn balance(&self) -> Result<Balance, WalletError> {
        Ok(self.channels().await?.balance())
    }

    async fn pay_offer(&self, request: OfferRequest) -> Result<PaymentOutcome, WalletError> {
        self.pay_offer_once(request).await
    }
}

/// What is to be paid with `xpay`.
struct Payment<'p> {
    invstring: &'p str,
    payment_hash: PaymentHash,
    amount_msat: u64,
    maxfee_msat: u64,
    maxdelay: Option<u32>,
}

impl Cln {
    async fn xpay(&self, payment: Payment<'_>, deadline: Instant) -> Attempt {
        let limit = deadline.saturating_duration_since(Instant::now());
        let mut asked = json!({
            "invstring": payment.invstring,
            "maxfee": payment.maxfee_msat,
            // The node is to give up a moment before we do: its own words are worth more than our clock.
            "retry_for": limit.saturating_sub(Duration::from_secs(1)).as_secs().max(1),
        });
        if let (Some(blocks), Some(asked)) = (payment.maxdelay, asked.as_object_mut()) {
            asked.insert("maxdelay".to_owned(), blocks.into());
        }
        match call_within::<Paid>(&self.api, "xpay", &asked, limit).await {
            Ok(paid) => match paid.outcome(payment.payment_hash) {
                Ok(outcome) => Attempt::Paid(outcome),
                Err(error) => Attempt::Unheard(error.to_string()),
            },
            Err(Trouble::Said(complaint)) => {
                Attempt::Refused(self.failure(complaint, payment.amount_msat).await)
            }
            Err(Trouble::Http(error)) if error.nothing_sent() => Attempt::NotSent(unavailable(error)),
            Err(Trouble::Http(error)) => Attempt::Unheard(error.to_string()),
            Err(Trouble::Strange(what)) => Attempt::Unheard(what),
        }
    }
}

/// A name that no other invoice of the node has.
fn label() -> Result<String, WalletError> {
    let mut unique = [0; 16];
    aws_lc_rs::rand::fill(&mut unique).map_err(|_| WalletError::Failed {
        reason: "the operating system gives no randomness".to_owned(),
    })?;
    Ok(format!("blvm-mesh {}", hex::encode(unique)))
}

async fn call<T: DeserializeOwned>(api: &Api, method: &str, parameters: &Value) -> Result<T, Trouble> {
    result(api.post(&format!("v1/{method}"), parameters).await)
}

async fn call_within<T: DeserializeOwned>(
    api: &Api,
    method: &str,
    parameters: &Value,
    limit: Duration,
) -> Result<T, Trouble> {
    result(api.post_within(&format!("v1/{method}"), parameters, limit).await)
}

fn result<T: DeserializeOwned>(answer: Result<Answer, HttpError>) -> Result<T, Trouble> {
    match answer? {
        Answer::Success(response) => Ok(response.json()?),
        Answer::Error(response) => match response.json::<Complaint>() {
            // clnrest says the node's own errors with 500, and with 404 what the node has no method for.
            Ok(said)
                if [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::NOT_FOUND].contains(&response.status) =>
            {
                Err(Trouble::Said(said))
            }
            _ => Err(Trouble::Strange(said(&response))),
        },
    }
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<Trouble> for WalletError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Http(error) => unavailable(error),
            Trouble::Strange(reason) => Self::Unavailable { reason },
            Trouble::Said(said) => Self::Unavailable {
                reason: format!(
                    "Core Lightning says: {} (code {})",
                    shortened(&said.message),
                    said.code
                ),
            },
        }
    }
}
