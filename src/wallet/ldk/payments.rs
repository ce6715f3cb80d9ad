//! Paying invoices, each at most once.
//!
//! The node refuses to pay one payment hash twice, and its store says what became of it. Two gaps are left. Between the
//! moment the node sends a payment and the moment its store knows of it, a kill makes it forget that it ever began. And a
//! kill between the moment its store knows of a payment and the moment its channels do leaves it pending there for ever.
//! So each payment is in the [book](super::book) from before it is handed over until the node says what became of it.
//! One that is still there after a crash is of unknown outcome until then, or until so many blocks have passed that
//! nothing of it can be under way. Asking again for one that the node's store does not know hands it to the node again,
//! which joins the first attempt if there was one.

use std::time::Duration;

use ldk_node::NodeError;
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning::routing::router::RouteParametersConfig;
use ldk_node::payment::{PaymentDetails, PaymentDirection, PaymentKind, PaymentStatus as NodeStatus};
use tokio::time::Instant;

use super::book::Begun;
use super::{Inner, LdkWallet, MAX_WAIT, lock, unavailable, unix_now};
use crate::wallet::invoice::PayableInvoice;
use crate::wallet::{PayRequest, PaymentHash, PaymentOutcome, PaymentStatus, WalletError};

/// Blocks after which nothing of a payment can be under way, beyond the blocks it was allowed to be locked for: time for
/// a closed channel's transactions to be mined.
const RESOLVED_MARGIN_BLOCKS: u32 = 2016;

/// How long a payment waits for the other end of a channel to be connected again, at the most.
const RECONNECT_WAIT: Duration = Duration::from_secs(15);

/// How often it looks: connections come without an event.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn pay(wallet: &LdkWallet, request: PayRequest) -> Result<PaymentOutcome, WalletError> {
    let deadline = Instant::now() + request.timeout.min(MAX_WAIT);
    let inner = &wallet.inner;
    let invoice = PayableInvoice::parse(&request.bolt11, inner.network)?;
    let payment_hash = invoice.payment_hash();
    if let PaymentStatus::Succeeded(outcome) = inner.payment_status(&payment_hash)? {
        return Ok(outcome);
    }
    if inner.must_send(&payment_hash)? {
        invoice.check_not_expired(unix_now())?;
        refuse_own(inner, &invoice)?;
        wait_for_funds(inner, invoice.amount_msat(), deadline).await?;
        wallet
            .blocking(move |inner| inner.hand_over(&invoice, &request))
            .await?;
    }
    let look = || inner.payment_status(&payment_hash);
    let in_flight = |status: &PaymentStatus| *status == PaymentStatus::InFlight;
    let left = deadline.saturating_duration_since(Instant::now());
    outcome(inner.wait_while(look, in_flight, left).await?, payment_hash)
}

/// What a status means to whoever asked to pay.
pub(super) fn outcome(
    status: PaymentStatus,
    payment_hash: PaymentHash,
) -> Result<PaymentOutcome, WalletError> {
    match status {
        PaymentStatus::Succeeded(outcome) => Ok(outcome),
        PaymentStatus::Failed(why) => Err(why),
        PaymentStatus::InFlight | PaymentStatus::Unknown => Err(WalletError::OutcomeUnknown { payment_hash }),
    }
}

/// Refuses what would fail now, as far as that can be known without paying.
pub(super) fn check(inner: &Inner, request: &PayRequest) -> Result<(), WalletError> {
    let invoice = PayableInvoice::parse(&request.bolt11, inner.network)?;
    invoice.check_not_expired(unix_now())?;
    refuse_own(inner, &invoice)?;
    let funds = inner.funds();
    if funds.when_connected_msat < invoice.amount_msat() {
        return Err(funds.too_little_for(invoice.amount_msat()));
    }
    Ok(())
}

fn refuse_own(inner: &Inner, invoice: &PayableInvoice) -> Result<(), WalletError> {
    if invoice.payee() == inner.node.node_id().serialize() {
        return Err(WalletError::InvoiceInvalid {
            reason: "it is this wallet's own".to_owned(),
        });
    }
    Ok(())
}

/// A node that has just started is not connected to the other ends of its channels yet; what they hold is not lost.
pub(super) async fn wait_for_funds(
    inner: &Inner,
    amount_msat: u64,
    deadline: Instant,
) -> Result<(), WalletError> {
    let patience = deadline.min(Instant::now() + RECONNECT_WAIT);
    loop {
        let funds = inner.funds();
        if funds.now_msat >= amount_msat {
            return Ok(());
        }
        if funds.when_connected_msat < amount_msat || Instant::now() >= patience {
            return Err(funds.too_little_for(amount_msat));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub(super) fn limits(max_fee_msat: u64, max_cltv_blocks: u32) -> RouteParametersConfig {
    RouteParametersConfig {
        max_total_routing_fee_msat: Some(max_fee_msat),
        max_total_cltv_expiry_delta: max_cltv_blocks,
        ..RouteParametersConfig::default()
    }
}

impl Inner {
    /// What the node's own store says of a payment, ours or to us.
    pub(super) fn record(&self, id: &[u8; 32]) -> Option<PaymentDetails> {
        self.node.payment(&PaymentId(*id))
    }

    pub(super) fn payment_status(&self, hash: &PaymentHash) -> Result<PaymentStatus, WalletError> {
        if let Some(outcome) = self.book.paid(hash)? {
            return Ok(PaymentStatus::Succeeded(outcome));
        }
        let record = self.outgoing(hash);
        let status = record.as_ref().map(|record| self.status_of(record));
        Ok(match status {
            Some(PaymentStatus::InFlight) if self.is_over(hash)? => PaymentStatus::Failed(nothing_left()),
            Some(known @ (PaymentStatus::Succeeded(_) | PaymentStatus::InFlight)) => known,
            _ if self.is_doubtful(hash)? => PaymentStatus::InFlight,
            Some(failed) => failed,
            None => PaymentStatus::Unknown,
        })
    }

    /// What a record of the node's store means.
    pub(super) fn status_of(&self, record: &PaymentDetails) -> PaymentStatus {
        let amount_msat = record.amount_msat.unwrap_or_default();
        match (record.status, preimage(&record.kind)) {
            (NodeStatus::Succeeded, Some(preimage)) => PaymentStatus::Succeeded(PaymentOutcome {
                preimage,
                amount_msat,
                fee_msat: record.fee_paid_msat.unwrap_or_default(),
            }),
            (NodeStatus::Failed, _) => {
                PaymentStatus::Failed(lock(&self.failures).why(&record.id.0, amount_msat))
            }
            (NodeStatus::Succeeded | NodeStatus::Pending, _) => PaymentStatus::InFlight,
        }
    }

    fn outgoing(&self, hash: &PaymentHash) -> Option<PaymentDetails> {
        self.record(hash)
            .filter(|record| record.direction == PaymentDirection::Outbound)
    }

    /// Whether it was begun and nobody can say whether it is under way.
    fn is_doubtful(&self, hash: &PaymentHash) -> Result<bool, WalletError> {
        let begun = self.book.begun(hash)?;
        Ok(begun.is_some_and(|begun| self.height() < begun.resolved_at_height))
    }

    /// Whether so many blocks have passed since it was begun that, had it arrived or failed, the node would have said so.
    /// Its store calls a payment pending for ever that a kill kept from being sent.
    pub(super) fn is_over(&self, hash: &PaymentHash) -> Result<bool, WalletError> {
        let begun = self.book.begun(hash)?;
        Ok(begun.is_some_and(|begun| self.height() >= begun.resolved_at_height))
    }

    /// Whether the node is not at it, as far as its store knows.
    fn must_send(&self, hash: &PaymentHash) -> Result<bool, WalletError> {
        let status = self.payment_status(hash)?;
        let unsent = match status {
            PaymentStatus::Succeeded(_) => false,
            PaymentStatus::Unknown | PaymentStatus::Failed(_) => true,
            // In doubt: the node's store does not know it.
            PaymentStatus::InFlight => self
                .outgoing(hash)
                .is_none_or(|record| record.status == NodeStatus::Failed),
        };
        Ok(unsent)
    }

    /// Hands the payment to the node, unless it is at it already. Blocks for the disk.
    fn hand_over(&self, invoice: &PayableInvoice, request: &PayRequest) -> Result<(), WalletError> {
        let _turn = lock(&self.sending);
        let hash = invoice.payment_hash();
        if !self.must_send(&hash)? {
            return Ok(());
        }
        // The event of an earlier attempt's failure must not be taken for this one's.
        self.wait_for_events();
        let doubtful = self.is_doubtful(&hash)?;
        if self.is_over(&hash)? {
            // The node would not pay again what its store calls pending.
            self.node.remove_payment(&PaymentId(hash)).map_err(unavailable)?;
        }
        if !doubtful {
            let locked = request.max_cltv_blocks.saturating_add(RESOLVED_MARGIN_BLOCKS);
            let begun = Begun {
                amount_msat: invoice.amount_msat(),
                resolved_at_height: self.height().saturating_add(locked),
            };
            self.book.begin(&hash, &begun)?;
        }
        let limits = limits(request.max_fee_msat, request.max_cltv_blocks);
        let unknown = WalletError::OutcomeUnknown { payment_hash: hash };
        match self.node.bolt11_payment().send(invoice.as_bolt11(), Some(limits)) {
            // Struck out when the node says what became of it.
            Ok(_) => Ok(()),
            // The node is at it since before the crash; what becomes of it comes as an event.
            Err(NodeError::DuplicatePayment) => Ok(()),
            // It may have begun, and its store may not know.
            Err(NodeError::PersistenceFailed) => Err(unknown),
            // That the node cannot begin it now says nothing of what it began before the crash.
            Err(_) if doubtful => Err(unknown),
            Err(error) => {
                self.book.strike_out(&hash)?;
                Err(self.why_not_sent(error, invoice.amount_msat(), request.max_fee_msat))
            }
        }
    }

    fn why_not_sent(&self, error: NodeError, amount_msat: u64, max_fee_msat: u64) -> WalletError {
        match error {
            NodeError::PaymentSendingFailed => {
                let funds = self.funds();
                if funds.now_msat < amount_msat {
                    return funds.too_little_for(amount_msat);
                }
                WalletError::Failed {
                    reason: format!(
                        "no Lightning route to the payee carries {amount_msat} msat for at most {max_fee_msat} msat in fees \
                         now; try later, a higher fee limit, or a channel to it"
                    ),
                }
            }
            other => unavailable(other),
        }
    }

    /// Until the node's queue of events is empty; it is emptied at the speed of the disk.
    fn wait_for_events(&self) {
        let started = std::time::Instant::now();
        while self.node.next_event().is_some() && started.elapsed() < RECONNECT_WAIT {
            std::thread::sleep(LOOK_AGAIN / 10);
        }
    }

    /// After a start: payments that went through need the book no more. The others stay in doubt until the node says what
    /// became of them.
    pub(super) fn explain_begun(&self) -> Result<(), WalletError> {
        for hash in self.book.all_begun()? {
            let status = self.payment_status(&hash)?;
            if matches!(status, PaymentStatus::Succeeded(_)) {
                self.book.strike_out(&hash)?;
            } else {
                let payment = hex::encode(hash);
                tracing::warn!(
                    payment,
                    "it is not known yet whether this payment was begun before the node was killed"
                );
            }
        }
        Ok(())
    }
}

fn nothing_left() -> WalletError {
    WalletError::Failed {
        reason:
            "it was begun when the node was killed, and so many blocks later nothing of it can be under way"
                .to_owned(),
    }
}

fn preimage(kind: &PaymentKind) -> Option<[u8; 32]> {
    match kind {
        PaymentKind::Bolt11 { preimage, .. }
        | PaymentKind::Bolt11Jit { preimage, .. }
        | PaymentKind::Bolt12Offer { preimage, .. }
        | PaymentKind::Bolt12Refund { preimage, .. }
        | PaymentKind::Spontaneous { preimage, .. } => preimage.map(|preimage| preimage.0),
        PaymentKind::Onchain { .. } => None,
    }
}
