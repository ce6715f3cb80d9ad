//! What all wallets behind a REST interface have in common: the contract of [`Wallet`], kept over a line that breaks.
//!
//! A [`Backend`] says how one service is asked; [`RestWallet`] decides what may be concluded from its answers. The one
//! hard case is a payment whose request was sent and whose answer was not heard. The service may have paid, may be
//! paying, or may yet receive the request: all three look the same from here. So
//!
//! * a payment is written down as begun before its request leaves, and counts as under way until the service tells its
//!   outcome, or until the invoice has been expired for [`AFTER_EXPIRY`], when no service pays it any more;
//! * while it is written down it is never begun again, only looked up;
//! * it failed only if the service says so of this very attempt.
//!
//! What is written down here is lost when the process ends. A request of its last instant may still wait at the service
//! (LNbits makes the payments of a wallet one after another), so that a payment which the service's books do not know may
//! get into them later ([`Wallet::may_book_later`]): the next life does not take it for failed before minutes are over.

mod api;
mod begun;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

pub(super) use api::{Answer, Api, said, shortened, unavailable};
use begun::{Begin, Begun};

use super::invoice::{MAX_INVOICE_EXPIRY, PayableInvoice};
use super::{
    Balance, CreatedInvoice, InvoiceRequest, InvoiceStatus, LightningNetwork, MAX_DESCRIPTION_BYTES,
    OfferRequest, PayRequest, PaymentHash, PaymentOutcome, PaymentStatus, Probe, Wallet, WalletError,
    WalletInfo,
};

/// How long after its expiry an invoice may still be in a request that is on its way to the service.
const AFTER_EXPIRY: Duration = Duration::from_secs(600);

/// Pauses between two questions after the same thing: short at first, because most payments take a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The longest that is waited for anything, whatever was asked for: a day.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How one service is asked. Methods ask once and do not wait, except [`Backend::begin`].
#[async_trait]
pub(super) trait Backend: fmt::Debug + Send + Sync {
    /// Who and where it is.
    async fn info(&self) -> Result<WalletInfo, WalletError>;

    /// Makes an invoice; the request has been checked, the answer will be.
    async fn create_invoice(&self, request: &InvoiceRequest, seconds: u64) -> Result<String, WalletError>;

    /// What became of an invoice of ours.
    async fn invoice_status(&self, payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError>;

    /// What the service's books say of a payment.
    async fn look_up(&self, payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError>;

    /// Sends a payment off and waits for its outcome until `deadline` at the most.
    async fn begin(&self, invoice: &PayableInvoice, request: &PayRequest, deadline: Instant) -> Attempt;

    /// As [`Wallet::probe`]; the invoice has been checked.
    async fn probe(&self, invoice: &PayableInvoice, request: &PayRequest) -> Result<Probe, WalletError>;

    /// As [`Wallet::balance`].
    async fn balance(&self) -> Result<Balance, WalletError>;

    /// As [`Wallet::pay_offer`].
    async fn pay_offer(&self, _request: OfferRequest) -> Result<PaymentOutcome, WalletError> {
        Err(WalletError::NotOffered {
            what: "payments to BOLT 12 offers",
        })
    }

    /// As [`Wallet::granularity_msat`].
    fn granularity_msat(&self) -> u64 {
        1
    }
}

/// What came of sending a payment off.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The service paid.
    Paid(PaymentOutcome),
    /// The service says that it will not pay, or that this attempt failed.
    Refused(WalletError),
    /// The request never left this machine.
    NotSent(WalletError),
    /// Nobody knows: no answer, half an answer, or one that leaves it open.
    Unheard(String),
}

/// A wallet over REST.
#[derive(Debug)]
pub(super) struct RestWallet<B> {
    backend: B,
    network: LightningNetwork,
    begun: Begun,
}

impl<B: Backend> RestWallet<B> {
    /// A wallet whose service has told that it is on `network`.
    pub(super) fn new(backend: B, network: LightningNetwork) -> Self {
        Self {
            backend,
            network,
            begun: Begun::default(),
        }
    }

    /// Asks until the payment's outcome is known or the time is over.
    async fn follow(
        &self,
        payment_hash: PaymentHash,
        deadline: Instant,
    ) -> Result<PaymentOutcome, WalletError> {
        let mut pauses = Pauses::until(deadline);
        loop {
            match self.payment_status(payment_hash).await {
                Ok(PaymentStatus::Succeeded(paid)) => return Ok(paid),
                Ok(PaymentStatus::Failed(error)) => return Err(error),
                // Not heard is not failed; the next question may be.
                Ok(PaymentStatus::InFlight | PaymentStatus::Unknown) | Err(_) => {}
            }
            if !pauses.next().await {
                return Err(WalletError::OutcomeUnknown { payment_hash });
            }
        }
    }

    async fn attempt(
        &self,
        invoice: &PayableInvoice,
        request: &PayRequest,
        deadline: Instant,
    ) -> Result<PaymentOutcome, WalletError> {
        let payment_hash = invoice.payment_hash();
        match self.backend.begin(invoice, request, deadline).await {
            Attempt::Paid(paid) => self.paid(payment_hash, paid),
            Attempt::NotSent(error) => {
                self.begun.forget(&payment_hash);
                Err(error)
            }
            Attempt::Refused(error) => self.refused(payment_hash, error, deadline).await,
            Attempt::Unheard(reason) => {
                let hash = hex::encode(payment_hash);
                tracing::warn!(
                    payment = hash,
                    reason,
                    "no outcome was heard of a payment; looking it up"
                );
                self.follow(payment_hash, deadline).await
            }
        }
    }

    /// A refusal may mean that it was paid before, or leave a part of the payment under way: the books decide.
    async fn refused(
        &self,
        payment_hash: PaymentHash,
        error: WalletError,
        deadline: Instant,
    ) -> Result<PaymentOutcome, WalletError> {
        match self.backend.look_up(payment_hash).await {
            Ok(PaymentStatus::Succeeded(paid)) => self.paid(payment_hash, paid),
            Ok(PaymentStatus::Unknown | PaymentStatus::Failed(_)) => {
                self.begun.forget(&payment_hash);
                Err(error)
            }
            Ok(PaymentStatus::InFlight) | Err(_) => {
                // This attempt is over, so what the books say from now on holds for it.
                self.begun.answered(&payment_hash);
                self.follow(payment_hash, deadline).await
            }
        }
    }

    /// A preimage that does not fit proves nothing, and whoever relies on it is refused by the payee.
    fn paid(&self, payment_hash: PaymentHash, paid: PaymentOutcome) -> Result<PaymentOutcome, WalletError> {
        if <[u8; 32]>::from(Sha256::digest(paid.preimage)) != payment_hash {
            return Err(WalletError::OutcomeUnknown { payment_hash });
        }
        self.begun.forget(&payment_hash);
        Ok(paid)
    }
}

#[async_trait]
impl<B: Backend> Wallet for RestWallet<B> {
    async fn info(&self) -> Result<WalletInfo, WalletError> {
        self.backend.info().await
    }

    async fn create_invoice(&self, request: InvoiceRequest) -> Result<CreatedInvoice, WalletError> {
        let seconds = check_request(&request, self.backend.granularity_msat())?;
        let bolt11 = self.backend.create_invoice(&request, seconds).await?;
        let payment_hash = check_created(&bolt11, &request).map_err(|what| WalletError::Failed {
            reason: format!("the wallet made another invoice than it was asked for ({what})"),
        })?;
        Ok(CreatedInvoice { bolt11, payment_hash })
    }

    async fn invoice_status(&self, payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError> {
        self.backend.invoice_status(payment_hash).await
    }

    async fn wait_settled(
        &self,
        payment_hash: PaymentHash,
        timeout: Duration,
    ) -> Result<InvoiceStatus, WalletError> {
        let mut pauses = Pauses::until(deadline(timeout));
        loop {
            let status = self.backend.invoice_status(payment_hash).await;
            let may_change = match &status {
                Ok(status) => *status == InvoiceStatus::Open,
                Err(error) => matches!(error, WalletError::Unavailable { .. }),
            };
            if !may_change || !pauses.next().await {
                return status;
            }
        }
    }

    async fn pay(&self, request: PayRequest) -> Result<PaymentOutcome, WalletError> {
        let invoice = PayableInvoice::parse(&request.bolt11, self.network)?;
        let (payment_hash, deadline) = (invoice.payment_hash(), deadline(request.timeout));
        let failed_before = match self.payment_status(payment_hash).await? {
            PaymentStatus::Succeeded(paid) => return Ok(paid),
            PaymentStatus::InFlight => return self.follow(payment_hash, deadline).await,
            PaymentStatus::Failed(_) => true,
            PaymentStatus::Unknown => false,
        };
        invoice.check_not_expired(unix_now())?;
        let expires = invoice.as_bolt11().expires_at().unwrap_or(Duration::MAX);
        let until = expires.saturating_add(AFTER_EXPIRY);
        match self.begun.begin(payment_hash, until, failed_before, unix_now()) {
            Begin::First => self.attempt(&invoice, &request, deadline).await,
            Begin::Already => self.follow(payment_hash, deadline).await,
            Begin::Full(limit) => Err(WalletError::LimitReached {
                what: "payments at once",
                limit,
            }),
        }
    }

    async fn payment_status(&self, payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError> {
        // Before the service is asked: an attempt that begins meanwhile is not in its answer.
        let begun = self.begun.look(&payment_hash, unix_now());
        match self.backend.look_up(payment_hash).await? {
            PaymentStatus::Succeeded(paid) => self.paid(payment_hash, paid).map(PaymentStatus::Succeeded),
            PaymentStatus::Unknown if begun.is_some() => Ok(PaymentStatus::InFlight),
            PaymentStatus::Failed(_) if begun.is_some_and(|begun| begun.failed_before) => {
                Ok(PaymentStatus::InFlight)
            }
            PaymentStatus::Failed(error) => {
                self.begun.forget(&payment_hash);
                Ok(PaymentStatus::Failed(error))
            }
            other => Ok(other),
        }
    }

    async fn probe(&self, request: &PayRequest) -> Result<Probe, WalletError> {
        let invoice = PayableInvoice::parse(&request.bolt11, self.network)?;
        invoice.check_not_expired(unix_now())?;
        let within = tokio::time::timeout(request.timeout, self.backend.probe(&invoice, request));
        within.await.unwrap_or_else(|_| {
            Err(WalletError::Unavailable {
                reason: "it found no route within the time it was given".to_owned(),
            })
        })
    }

    async fn pay_offer(&self, request: OfferRequest) -> Result<PaymentOutcome, WalletError> {
        self.backend.pay_offer(request).await
    }

    fn granularity_msat(&self) -> u64 {
        self.backend.granularity_msat()
    }

    fn may_book_later(&self) -> bool {
        true
    }

    async fn balance(&self) -> Result<Balance, WalletError> {
        self.backend.balance().await
    }
}

/// The expiry in whole seconds, of a request that a service can be asked for.
fn check_request(request: &InvoiceRequest, granularity_msat: u64) -> Result<u64, WalletError> {
    let impossible = |reason| WalletError::InvalidRequest { reason };
    if request.amount_msat == 0 {
        return Err(impossible("an invoice over 0 msat"));
    }
    if !request.amount_msat.is_multiple_of(granularity_msat) {
        return Err(impossible(
            "an invoice over a fraction of a satoshi, from a wallet that counts whole satoshi only",
        ));
    }
    if request.expiry.is_zero() || request.expiry > MAX_INVOICE_EXPIRY {
        return Err(impossible("an expiry of nothing or of more than a year"));
    }
    let text = &request.description;
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if text.is_empty() || text.len() > MAX_DESCRIPTION_BYTES || !printable {
        return Err(impossible(
            "a description that is empty, too long or not printable ASCII",
        ));
    }
    Ok(request.expiry.as_secs() + u64::from(request.expiry.subsec_nanos() > 0))
}

/// The payment hash of an invoice that is what was asked for; the error says what is not.
fn check_created(bolt11: &str, request: &InvoiceRequest) -> Result<PaymentHash, &'static str> {
    let made: Bolt11Invoice = bolt11.parse().map_err(|_| "it cannot be read")?;
    if made.amount_milli_satoshis() != Some(request.amount_msat) {
        return Err("another amount");
    }
    let wanted = request.description_hash();
    match made.description() {
        Bolt11InvoiceDescriptionRef::Hash(hash) if AsRef::<[u8; 32]>::as_ref(&hash.0) == &wanted => {
            Ok(*made.payment_hash().as_ref())
        }
        _ => Err("another description hash"),
    }
}

/// When a wait that begins now is over.
fn deadline(wait: Duration) -> Instant {
    Instant::now() + wait.min(LONGEST_WAIT)
}

/// The system's time since 1970.
pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Pauses that grow, up to a moment.
struct Pauses {
    deadline: Instant,
    pause: Duration,
}

impl Pauses {
    fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            pause: FIRST_PAUSE,
        }
    }

    /// Waits; `false` once the time is over. Never sleeps past it.
    async fn next(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.deadline {
            return false;
        }
        tokio::time::sleep_until((now + self.pause).min(self.deadline)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests;
