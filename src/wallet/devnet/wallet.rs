//! The wallet of one devnet node.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lightning::bitcoin::hashes::{Hash, sha256};
use lightning::ln::channelmanager::{
    Bolt11InvoiceParameters, Bolt11PaymentError, PaymentId, Retry, RetryableSendFailure,
};
use lightning::routing::router::{PaymentParameters, RouteParameters, RouteParametersConfig, Router};
use lightning::types::payment::{PaymentHash as LdkPaymentHash, PaymentSecret};
use lightning_invoice::{Bolt11InvoiceDescription, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::book::{Begin, Stage};
use super::node::{LightningNode, owned_msat, unix_now};
use crate::wallet::invoice::{MAX_INVOICE_EXPIRY, PayableInvoice};
use crate::wallet::{
    Balance, CreatedInvoice, InvoiceRequest, InvoiceStatus, LightningNetwork, PayRequest, PaymentHash,
    PaymentOutcome, PaymentStatus, Preimage, Probe, Wallet, WalletError, WalletInfo,
};

/// How many routes are tried before a payment is given up.
const ATTEMPTS: u32 = 10;

/// How long to wait, after the caller's time ran out, for the node to say that nothing was on its way. It knows at
/// once and needs one turn of its loop to say it; only when money is under way does this pass in vain.
const GIVE_UP: Duration = Duration::from_millis(200);

/// The longest anybody waits here, whatever he asks for: a day, far beyond any payment. It keeps the arithmetic on
/// points in time from overflowing.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// A [`Wallet`] over one Lightning node of a [`Devnet`](super::Devnet).
///
/// Cheap to clone by `Arc`; lives as long as the devnet runs. After its shutdown it can still be asked what was
/// settled and paid, but no longer pays.
#[derive(Debug)]
pub struct DevnetWallet {
    node: Arc<LightningNode>,
    stopped: watch::Receiver<bool>,
}

#[async_trait]
impl Wallet for DevnetWallet {
    async fn info(&self) -> Result<WalletInfo, WalletError> {
        Ok(WalletInfo {
            backend: "devnet",
            network: Some(LightningNetwork::Regtest),
            payee: Some(self.node.id.serialize()),
        })
    }

    async fn create_invoice(&self, request: InvoiceRequest) -> Result<CreatedInvoice, WalletError> {
        self.check_running()?;
        if request.amount_msat == 0 {
            return Err(WalletError::InvalidRequest {
                reason: "an invoice over 0 msat",
            });
        }
        let expiry = expiry_seconds(request.expiry)?;
        self.node.invoices().make_room(unix_now())?;
        let hash = Sha256(sha256::Hash::from_byte_array(request.description_hash()));
        let parameters = Bolt11InvoiceParameters {
            amount_msats: Some(request.amount_msat),
            description: Bolt11InvoiceDescription::Hash(hash),
            invoice_expiry_delta_secs: Some(expiry),
            ..Bolt11InvoiceParameters::default()
        };
        let invoice = self
            .node
            .manager
            .create_bolt11_invoice(parameters)
            .map_err(|error| WalletError::Failed {
                reason: format!("the node made no invoice: {error:?}"),
            })?;
        let payment_hash = *invoice.payment_hash().as_ref();
        let expires_at = invoice.expires_at().unwrap_or(Duration::MAX);
        self.node.invoices().issued(
            payment_hash,
            request.amount_msat,
            invoice.payment_secret().0,
            expires_at,
        );
        Ok(CreatedInvoice {
            bolt11: invoice.to_string(),
            payment_hash,
        })
    }

    async fn invoice_status(&self, payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError> {
        Ok(self.node.invoices().status(&payment_hash, unix_now()))
    }

    async fn wait_settled(
        &self,
        payment_hash: PaymentHash,
        timeout: Duration,
    ) -> Result<InvoiceStatus, WalletError> {
        let watched = self.node.invoices().watch(&payment_hash);
        let Some((mut stage, expires_at)) = watched else {
            return Ok(InvoiceStatus::Unknown);
        };
        // One second more than the expiry: the whole of its last second still counts.
        let payable = expires_at
            .saturating_sub(unix_now())
            .saturating_add(Duration::from_secs(1));
        let settled = |stage: &Stage| matches!(stage, Stage::Settled(_));
        let wait = timeout.min(payable).min(MAX_WAIT);
        let _ = tokio::time::timeout(wait, stage.wait_for(settled)).await;
        self.invoice_status(payment_hash).await
    }

    async fn pay(&self, request: PayRequest) -> Result<PaymentOutcome, WalletError> {
        let invoice = PayableInvoice::parse(&request.bolt11, LightningNetwork::Regtest)?;
        let payment_hash = invoice.payment_hash();
        if let PaymentStatus::Succeeded(outcome) = self.node.payments().status(&payment_hash) {
            return Ok(outcome);
        }
        self.check_running()?;
        invoice.check_not_expired(unix_now())?;
        if invoice.payee() == self.node.id.serialize() {
            return Err(WalletError::InvoiceInvalid {
                reason: "it is this wallet's own".to_owned(),
            });
        }
        let deadline = Instant::now() + request.timeout.min(MAX_WAIT);
        let begun = self
            .node
            .payments()
            .begin(payment_hash, invoice.amount_msat(), request.max_fee_msat)?;
        match begun {
            Begin::Paid(outcome) => Ok(outcome),
            Begin::Join(status) => match outcome_by(status, deadline).await {
                Some(outcome) => outcome,
                None => Err(WalletError::OutcomeUnknown { payment_hash }),
            },
            Begin::Send(status) => {
                self.send(&invoice, &request);
                match outcome_by(status.clone(), deadline).await {
                    Some(outcome) => outcome,
                    None => self.give_up(payment_hash, status).await,
                }
            }
        }
    }

    async fn payment_status(&self, payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError> {
        Ok(self.node.payments().status(&payment_hash))
    }

    async fn probe(&self, request: &PayRequest) -> Result<Probe, WalletError> {
        let invoice = PayableInvoice::parse(&request.bolt11, LightningNetwork::Regtest)?;
        self.check_running()?;
        invoice.check_not_expired(unix_now())?;
        let payee = PaymentParameters::from_bolt11_invoice(invoice.as_bolt11())
            .with_max_total_cltv_expiry_delta(request.max_cltv_blocks);
        let mut question = RouteParameters::from_payment_params_and_value(payee, invoice.amount_msat());
        question.max_total_routing_fee_msat = Some(request.max_fee_msat);
        let channels = self.node.manager.list_usable_channels();
        let first_hops: Vec<_> = channels.iter().collect();
        let in_flight = self.node.manager.compute_inflight_htlcs();
        let found = self
            .node
            .router
            .find_route(&self.node.id, &question, Some(&first_hops), in_flight);
        match found {
            Ok(route) => Ok(Probe::Reachable {
                fee_msat: route.get_total_fees(),
            }),
            Err(_) => Err(self.why_no_route(&invoice, request.max_fee_msat)),
        }
    }

    async fn balance(&self) -> Result<Balance, WalletError> {
        let mut balance = Balance {
            receivable_msat: Some(0),
            ..Balance::default()
        };
        let mut receivable = 0_u64;
        for channel in self.node.manager.list_channels() {
            balance.owned_msat = balance.owned_msat.saturating_add(owned_msat(&channel));
            for htlc in &channel.pending_outbound_htlcs {
                balance.outgoing_msat = balance.outgoing_msat.saturating_add(htlc.amount_msat);
            }
            if channel.is_usable {
                balance.spendable_msat = balance
                    .spendable_msat
                    .saturating_add(channel.next_outbound_htlc_limit_msat);
                receivable = receivable.saturating_add(channel.inbound_capacity_msat);
            }
        }
        balance.receivable_msat = Some(receivable);
        Ok(balance)
    }
}

impl DevnetWallet {
    pub(super) fn new(node: Arc<LightningNode>, stopped: watch::Receiver<bool>) -> Self {
        Self { node, stopped }
    }

    /// The node's name in the devnet.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Everything this node owns in its channels, in msat: exact when none of its payments is in flight.
    #[must_use]
    pub fn balance_msat(&self) -> u64 {
        self.node.manager.list_channels().iter().map(owned_msat).sum()
    }

    /// Gives away the preimage of one of this wallet's own invoices, paid or not, as a dishonest insider would.
    ///
    /// For tests and the demo only: to show that a correct preimage of an invoice that nobody has paid buys nothing.
    #[must_use]
    pub fn leak_preimage_of_own_invoice(&self, payment_hash: PaymentHash) -> Option<Preimage> {
        let secret = self.node.invoices().payment_secret(&payment_hash)?;
        let preimage = self
            .node
            .manager
            .get_payment_preimage(LdkPaymentHash(payment_hash), PaymentSecret(secret))
            .ok()?;
        Some(preimage.0)
    }

    /// Stops this node where it would look up an arriving payment, until the guard is dropped. Blocks a thread.
    #[cfg(test)]
    pub(super) fn hold_incoming_payments(&self) -> impl Drop + '_ {
        self.node.invoices()
    }

    /// Hands the payment to the node. Whatever becomes of it, even a refusal on the spot, is noted in the book.
    fn send(&self, invoice: &PayableInvoice, request: &PayRequest) {
        let payment_hash = invoice.payment_hash();
        let limits = RouteParametersConfig::default()
            .with_max_total_routing_fee_msat(request.max_fee_msat)
            .with_max_total_cltv_expiry_delta(request.max_cltv_blocks);
        let sent = self.node.manager.pay_for_bolt11_invoice(
            invoice.as_bolt11(),
            PaymentId(payment_hash),
            None,
            limits,
            Retry::Attempts(ATTEMPTS),
        );
        let refusal = match sent {
            Ok(()) => return,
            // The node is at it already: not a failure, and not ours to call one.
            Err(Bolt11PaymentError::SendingFailed(RetryableSendFailure::DuplicatePayment)) => return,
            Err(Bolt11PaymentError::SendingFailed(RetryableSendFailure::PaymentExpired)) => {
                WalletError::InvoiceExpired
            }
            Err(Bolt11PaymentError::SendingFailed(RetryableSendFailure::RouteNotFound)) => {
                self.why_no_route(invoice, request.max_fee_msat)
            }
            Err(other) => WalletError::Failed {
                reason: format!("{other:?}"),
            },
        };
        self.node.payments().failed(&payment_hash, refusal);
    }

    /// The caller's time is up: stop trying, and find out whether anything is under way.
    async fn give_up(
        &self,
        payment_hash: PaymentHash,
        status: watch::Receiver<PaymentStatus>,
    ) -> Result<PaymentOutcome, WalletError> {
        self.node.manager.abandon_payment(PaymentId(payment_hash));
        match outcome_by(status, Instant::now() + GIVE_UP).await {
            Some(outcome) => outcome,
            None => Err(WalletError::OutcomeUnknown { payment_hash }),
        }
    }

    /// Why the router found nothing: too little money, too low a fee limit, or truly no way.
    fn why_no_route(&self, invoice: &PayableInvoice, limit_msat: u64) -> WalletError {
        let amount_msat = invoice.amount_msat();
        let channels = self.node.manager.list_usable_channels();
        let spendable_msat = channels.iter().fold(0_u64, |sum, channel| {
            sum.saturating_add(channel.next_outbound_htlc_limit_msat)
        });
        if spendable_msat < amount_msat {
            return WalletError::InsufficientFunds {
                needed_msat: amount_msat,
                spendable_msat,
            };
        }
        let payee = PaymentParameters::from_bolt11_invoice(invoice.as_bolt11());
        let mut question = RouteParameters::from_payment_params_and_value(payee, amount_msat);
        question.max_total_routing_fee_msat = None;
        let in_flight = self.node.manager.compute_inflight_htlcs();
        let first_hops: Vec<_> = channels.iter().collect();
        match self
            .node
            .router
            .find_route(&self.node.id, &question, Some(&first_hops), in_flight)
        {
            Ok(route) if route.get_total_fees() > limit_msat => WalletError::FeeLimit {
                limit_msat,
                cheapest_msat: route.get_total_fees(),
            },
            _ => WalletError::NoRoute { amount_msat },
        }
    }

    fn check_running(&self) -> Result<(), WalletError> {
        // The sender lives in the devnet: without it nothing moves any more.
        if *self.stopped.borrow() || self.stopped.has_changed().is_err() {
            return Err(WalletError::Unavailable {
                reason: "the devnet was shut down".to_owned(),
            });
        }
        Ok(())
    }
}

/// How the payment ended, unless it has not by `deadline`.
async fn outcome_by(
    mut status: watch::Receiver<PaymentStatus>,
    deadline: Instant,
) -> Option<Result<PaymentOutcome, WalletError>> {
    let ended = timeout_at(
        deadline,
        status.wait_for(|status| *status != PaymentStatus::InFlight),
    )
    .await;
    match ended.ok()?.ok()?.clone() {
        PaymentStatus::Succeeded(outcome) => Some(Ok(outcome)),
        PaymentStatus::Failed(error) => Some(Err(error)),
        PaymentStatus::InFlight | PaymentStatus::Unknown => None,
    }
}

fn expiry_seconds(expiry: Duration) -> Result<u32, WalletError> {
    if expiry.is_zero() || expiry > MAX_INVOICE_EXPIRY {
        return Err(WalletError::InvalidRequest {
            reason: "an invoice expiry outside 1 second to 1 year",
        });
    }
    let seconds = expiry.as_secs() + u64::from(expiry.subsec_nanos() > 0);
    u32::try_from(seconds).map_err(|_| WalletError::InvalidRequest {
        reason: "an invoice expiry beyond 1 year",
    })
}
