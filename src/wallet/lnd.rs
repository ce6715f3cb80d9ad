//! An LND node, over its REST interface.
//!
//! Written to LND's published interface (`lightning.swagger.json` and `router.swagger.json` of lnd 0.20); not yet run
//! against a live node. Payments go through the router (`/v2/router/send`), which takes limits of fee and lock time and
//! writes a payment down before anything leaves, so that its books (`/v2/router/track`) are complete.
//!
//! The key is a macaroon in hexadecimal digits. It needs the permissions `info:read`, `invoices:read`,
//! `invoices:write`, `offchain:read` and `offchain:write`; it should have no others.

mod wire;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::invoice::PayableInvoice;
use super::rest::{Answer, Api, Attempt, Backend, shortened, unavailable, unix_now};
use super::{
    Balance, InvoiceRequest, InvoiceStatus, LightningNetwork, PayRequest, PaymentHash, PaymentOutcome,
    PaymentStatus, Probe, WalletError, WalletInfo,
};
use crate::http::{Response, Streaming};
use wire::{
    ChannelBalance, Channels, Complaint, GetInfo, Invoice, MadeInvoice, Payment, Routes, State, Status,
    Streamed,
};

/// The header that carries the macaroon.
pub(super) const KEY_HEADER: &str = "grpc-metadata-macaroon";

/// gRPC's codes for an answer that says nothing of what was done: none at all (somebody in between answers in a JSON of
/// his own), CANCELLED, DEADLINE_EXCEEDED, INTERNAL (a stream torn down), UNAVAILABLE.
const UNHEARD_CODES: [u32; 5] = [0, 1, 4, 13, 14];

/// gRPC's code for what does not exist: NOT_FOUND.
const NOT_FOUND: u32 = 5;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Lnd {
    api: Api,
    network: LightningNetwork,
}

impl Lnd {
    /// Asks the node who it is.
    pub(super) async fn connect(api: Api) -> Result<Self, WalletError> {
        let told: GetInfo = get(&api, "v1/getinfo").await?;
        let network = told.network().ok_or_else(|| WalletError::Unavailable {
            reason: "LND is on a network that is none of bitcoin, testnet, signet and regtest".to_owned(),
        })?;
        Ok(Self { api, network })
    }

    /// The network its invoices are for.
    pub(super) fn network(&self) -> LightningNetwork {
        self.network
    }

    async fn channels(&self) -> Result<Channels, WalletError> {
        get(&self.api, "v1/channels").await
    }

    /// What became of a payment that failed, in our words.
    async fn failure(&self, payment: &Payment) -> WalletError {
        let needed_msat = payment.value_msat;
        match payment.failure_reason.as_str() {
            "FAILURE_REASON_TIMEOUT" => WalletError::Timeout,
            "FAILURE_REASON_NO_ROUTE" => WalletError::NoRoute {
                amount_msat: needed_msat,
            },
            "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS" => WalletError::Rejected,
            "FAILURE_REASON_INSUFFICIENT_BALANCE" => self.too_poor(needed_msat).await,
            other => WalletError::Failed {
                reason: format!("LND says {:?}", shortened(other)),
            },
        }
    }

    async fn too_poor(&self, needed_msat: u64) -> WalletError {
        let channels = self.channels().await;
        WalletError::InsufficientFunds {
            needed_msat,
            spendable_msat: channels.map_or(0, |channels| channels.spendable_msat()),
        }
    }

    async fn status(
        &self,
        payment: &Payment,
        payment_hash: PaymentHash,
    ) -> Result<PaymentStatus, WalletError> {
        Ok(match payment.status {
            Status::Succeeded => PaymentStatus::Succeeded(outcome(payment, payment_hash)?),
            Status::Failed => PaymentStatus::Failed(self.failure(payment).await),
            Status::UnderWay => PaymentStatus::InFlight,
        })
    }

    /// What came of a payment whose last news is `payment`.
    async fn concluded(&self, payment: &Payment, payment_hash: PaymentHash) -> Attempt {
        match self.status(payment, payment_hash).await {
            Ok(PaymentStatus::Succeeded(paid)) => Attempt::Paid(paid),
            Ok(PaymentStatus::Failed(error)) => Attempt::Refused(error),
            Ok(PaymentStatus::InFlight | PaymentStatus::Unknown) => {
                Attempt::Unheard("LND stopped telling while it was under way".to_owned())
            }
            Err(error) => Attempt::Unheard(error.to_string()),
        }
    }

    /// The fee of a route within these limits; `None` if LND finds none.
    async fn route_fee(
        &self,
        invoice: &PayableInvoice,
        max_fee_msat: Option<u64>,
        max_cltv_blocks: u32,
    ) -> Result<Option<u64>, WalletError> {
        let payee = hex::encode(invoice.payee());
        let (amount, last) = (
            invoice.amount_msat(),
            invoice.as_bolt11().min_final_cltv_expiry_delta(),
        );
        let mut path = format!(
            "v1/graph/routes/{payee}/0?amt_msat={amount}&final_cltv_delta={last}&cltv_limit={max_cltv_blocks}&use_mission_control=true"
        );
        if let Some(limit) = max_fee_msat {
            path += &format!("&fee_limit.fixed_msat={limit}");
        }
        let answer = self.api.get(&path).await.map_err(unavailable)?;
        if let Answer::Error(response) = &answer {
            let said = complaint(response);
            if said.message.contains("unable to find a path") {
                return Ok(None);
            }
            if said.message.contains("insufficient local balance") {
                return Err(self.too_poor(amount).await);
            }
        }
        let found: Routes = answer.read()?;
        Ok(found.routes.first().map(|route| route.total_fees_msat))
    }
}

#[async_trait]
impl Backend for Lnd {
    async fn info(&self) -> Result<WalletInfo, WalletError> {
        let told: GetInfo = get(&self.api, "v1/getinfo").await?;
        Ok(WalletInfo {
            backend: "lnd",
            network: told.network(),
            payee: Some(told.key()?),
        })
    }

    async fn create_invoice(&self, request: &InvoiceRequest, seconds: u64) -> Result<String, WalletError> {
        let body = json!({
            "value_msat": request.amount_msat.to_string(),
            "description_hash": STANDARD.encode(request.description_hash()),
            "expiry": seconds.to_string(),
        });
        let answer = self.api.post("v1/invoices", &body).await.map_err(unavailable)?;
        let made: MadeInvoice = answer.read()?;
        Ok(made.payment_request)
    }

    async fn invoice_status(&self, payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError> {
        let path = format!("v1/invoice/{}", hex::encode(payment_hash));
        let answer = self.api.get(&path).await.map_err(unavailable)?;
        if let Answer::Error(response) = &answer
            && is_no_invoice(&complaint(response))
        {
            return Ok(InvoiceStatus::Unknown);
        }
        let invoice: Invoice = answer.read()?;
        Ok(match invoice.state {
            State::Settled => InvoiceStatus::Settled {
                amount_msat: invoice.amt_paid_msat,
            },
            // LND cancels invoices when they expire.
            State::Canceled if invoice.expires() <= unix_now().as_secs() => InvoiceStatus::Expired,
            State::Canceled => InvoiceStatus::Cancelled,
            // Money that is held and not claimed may go back.
            State::Open | State::Accepted => InvoiceStatus::Open,
        })
    }

    async fn look_up(&self, payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError> {
        let path = format!("v2/router/track/{}", URL_SAFE.encode(payment_hash));
        let (mut lines, deadline) = self.api.get_streaming(&path).await.map_err(unavailable)?;
        match next(&mut lines, deadline).await {
            Ok(Some(payment)) => self.status(&payment, payment_hash).await,
            Ok(None) => Err(WalletError::Unavailable {
                reason: "LND says nothing of a payment it knows".to_owned(),
            }),
            Err(Unheard::Said(said)) if said.code == NOT_FOUND => Ok(PaymentStatus::Unknown),
            Err(why) => Err(WalletError::Unavailable {
                reason: why.to_string(),
            }),
        }
    }

    async fn begin(&self, invoice: &PayableInvoice, request: &PayRequest, deadline: Instant) -> Attempt {
        // LND is to give up a moment before we do: its own words are worth more than our clock.
        let seconds = request.timeout.as_secs().saturating_sub(1).max(1);
        let body = json!({
            "payment_request": request.bolt11,
            "fee_limit_msat": request.max_fee_msat.to_string(),
            "cltv_limit": request.max_cltv_blocks,
            "timeout_seconds": seconds.min(u64::from(i32::MAX.unsigned_abs())),
            "no_inflight_updates": true,
        });
        let mut lines = match self.api.post_streaming("v2/router/send", &body, deadline).await {
            Ok(lines) => lines,
            Err(error) if error.nothing_sent() => return Attempt::NotSent(unavailable(error)),
            Err(error) => return Attempt::Unheard(error.to_string()),
        };
        loop {
            match next(&mut lines, deadline).await {
                Ok(Some(payment)) if payment.status == Status::UnderWay => {}
                Ok(Some(payment)) => return self.concluded(&payment, invoice.payment_hash()).await,
                Ok(None) => return Attempt::Unheard("LND ended its answer before the payment".to_owned()),
                Err(Unheard::Said(said)) if !UNHEARD_CODES.contains(&said.code) => {
                    return Attempt::Refused(WalletError::Failed {
                        reason: format!("LND says: {}", shortened(&said.message)),
                    });
                }
                Err(why) => return Attempt::Unheard(why.to_string()),
            }
        }
    }

    async fn probe(&self, invoice: &PayableInvoice, request: &PayRequest) -> Result<Probe, WalletError> {
        if !invoice.as_bolt11().route_hints().is_empty() {
            // LND's question for routes takes no hints, and without them the payee may seem out of reach.
            return Ok(Probe::NotOffered);
        }
        let (limit_msat, blocks) = (request.max_fee_msat, request.max_cltv_blocks);
        if let Some(fee_msat) = self.route_fee(invoice, Some(limit_msat), blocks).await? {
            return Ok(Probe::Reachable { fee_msat });
        }
        Err(match self.route_fee(invoice, None, blocks).await? {
            Some(cheapest_msat) => WalletError::FeeLimit {
                limit_msat,
                cheapest_msat,
            },
            None => WalletError::NoRoute {
                amount_msat: invoice.amount_msat(),
            },
        })
    }

    async fn balance(&self) -> Result<Balance, WalletError> {
        let sums: ChannelBalance = get(&self.api, "v1/balance/channels").await?;
        let channels = self.channels().await?;
        Ok(Balance {
            owned_msat: sums.local_balance.msat,
            spendable_msat: channels.spendable_msat(),
            receivable_msat: Some(channels.receivable_msat()),
            outgoing_msat: sums.unsettled_local_balance.msat,
        })
    }
}

async fn get<T: DeserializeOwned>(api: &Api, path: &str) -> Result<T, WalletError> {
    api.get(path).await.map_err(unavailable)?.read()
}

fn complaint(response: &Response) -> Complaint {
    response.json().unwrap_or_default()
}

/// LND before 0.18 has no code of its own for this.
fn is_no_invoice(said: &Complaint) -> bool {
    said.code == NOT_FOUND
        || said.message.contains("unable to locate invoice")
        || said.message.contains("there are no existing invoices")
}

/// Why no news of a payment came.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    /// LND said why.
    #[error("LND says: {} (code {})", shortened(&.0.message), .0.code)]
    Said(Complaint),
    /// The line broke, or what came over it is no news.
    #[error("{0}")]
    Broken(String),
}

/// The next news of a payment; `None` at the end of the answer.
async fn next(lines: &mut Streaming, deadline: Instant) -> Result<Option<Payment>, Unheard> {
    let line = lines.next_line(deadline).await;
    let Some(line) = line.map_err(|error| Unheard::Broken(error.to_string()))? else {
        return Ok(None);
    };
    let broken =
        |error: serde_json::Error| Unheard::Broken(format!("LND's answer cannot be understood: {error}"));
    if !lines.status.is_success() {
        // An error before the first news comes bare.
        return Err(Unheard::Said(serde_json::from_slice(&line).map_err(broken)?));
    }
    match serde_json::from_slice(&line).map_err(broken)? {
        Streamed::Result(payment) => Ok(Some(*payment)),
        Streamed::Error(said) => Err(Unheard::Said(said)),
    }
}

fn outcome(paid: &Payment, payment_hash: PaymentHash) -> Result<PaymentOutcome, WalletError> {
    let mut preimage = [0; 32];
    hex::decode_to_slice(&paid.payment_preimage, &mut preimage)
        .map_err(|_| WalletError::OutcomeUnknown { payment_hash })?;
    Ok(PaymentOutcome {
        preimage,
        amount_msat: paid.value_msat,
        fee_msat: paid.fee_msat,
    })
}
