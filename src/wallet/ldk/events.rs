//! What the node tells by itself, and links that it has to keep.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ldk_node::Event;
use ldk_node::lightning::events::PaymentFailureReason;
use ldk_node::payment::PaymentDirection;

use super::{Inner, lock};
use crate::wallet::{PaymentHash, PaymentOutcome, WalletError};

/// Failed payments whose reason is remembered. Who asks later learns only that they failed.
const MAX_FAILURES: usize = 1024;

/// How long to wait before an event that could not be written down is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How often nodes with which there is a channel are dialled when they are not connected. The node itself does so once a
/// minute, which is long for a payment that waits.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(3);

/// Why payments failed, the latest [`MAX_FAILURES`] of them.
#[derive(Default)]
pub(super) struct Failures {
    reasons: BTreeMap<[u8; 32], Option<PaymentFailureReason>>,
    order: VecDeque<[u8; 32]>,
}

impl Failures {
    fn note(&mut self, payment: [u8; 32], reason: Option<PaymentFailureReason>) {
        if self.reasons.insert(payment, reason).is_none() {
            self.order.push_back(payment);
        }
        while self.order.len() > MAX_FAILURES {
            if let Some(oldest) = self.order.pop_front() {
                self.reasons.remove(&oldest);
            }
        }
    }

    /// What the failure of a payment of this amount is called.
    pub(super) fn why(&self, payment: &[u8; 32], amount_msat: u64) -> WalletError {
        match self.reasons.get(payment).copied().flatten() {
            Some(PaymentFailureReason::RecipientRejected | PaymentFailureReason::InvoiceRequestRejected) => {
                WalletError::Rejected
            }
            Some(PaymentFailureReason::RouteNotFound) => WalletError::NoRoute { amount_msat },
            Some(PaymentFailureReason::PaymentExpired) => WalletError::InvoiceExpired,
            Some(PaymentFailureReason::RetriesExhausted) => WalletError::Failed {
                reason: "every route that was tried failed on the way".to_owned(),
            },
            Some(PaymentFailureReason::InvoiceRequestExpired) => WalletError::Failed {
                reason: "the payee did not answer the request for an invoice".to_owned(),
            },
            Some(other) => WalletError::Failed {
                reason: format!("the Lightning node says: {other:?}"),
            },
            None => WalletError::Failed {
                reason: "the Lightning node gave it up".to_owned(),
            },
        }
    }
}

/// Takes the node's events one by one, for as long as it runs. An event counts as handled only when what it changes here
/// is durable; the node keeps it until then, also across a kill.
pub(super) async fn consume(inner: Arc<Inner>) {
    loop {
        let event = inner.node.next_event_async().await;
        let handled =
            handle(&inner, &event).and_then(|()| inner.node.event_handled().map_err(super::unavailable));
        if let Err(error) = handled {
            tracing::error!(%error, "an event of the Lightning node waits");
            tokio::time::sleep(RETRY_AFTER).await;
            continue;
        }
        inner.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn handle(inner: &Inner, event: &Event) -> Result<(), WalletError> {
    match event {
        Event::PaymentSuccessful {
            payment_id,
            payment_hash,
            payment_preimage,
            fee_paid_msat,
        } => {
            let id = payment_id.map_or(payment_hash.0, |id| id.0);
            let preimage = payment_preimage.map(|preimage| preimage.0);
            paid(inner, &id, &payment_hash.0, preimage, fee_paid_msat.unwrap_or(0))
        }
        Event::PaymentFailed {
            payment_id, reason, ..
        } => {
            if let Some(id) = payment_id {
                lock(&inner.failures).note(id.0, *reason);
                inner.book.strike_out(&id.0)?;
            }
            Ok(())
        }
        Event::ChannelReady {
            counterparty_node_id, ..
        } => {
            let peer = counterparty_node_id.map(|id| id.to_string());
            tracing::info!(peer, "a Lightning channel is ready");
            Ok(())
        }
        Event::ChannelClosed {
            counterparty_node_id,
            reason,
            ..
        } => {
            let peer = counterparty_node_id.map(|id| id.to_string());
            let reason = reason.as_ref().map(ToString::to_string);
            tracing::warn!(
                peer,
                reason,
                "a Lightning channel was closed; what was in it comes back on-chain"
            );
            Ok(())
        }
        // Invoices are looked up where they are asked for; the rest is the node's own business.
        _ => Ok(()),
    }
}

/// A payment arrived. Where the node's store does not know it, because a kill came between, it is written down here.
fn paid(
    inner: &Inner,
    id: &[u8; 32],
    hash: &PaymentHash,
    preimage: Option<[u8; 32]>,
    fee_msat: u64,
) -> Result<(), WalletError> {
    let known = inner
        .record(id)
        .is_some_and(|record| record.direction == PaymentDirection::Outbound);
    if known {
        return inner.book.strike_out(id);
    }
    match (inner.book.begun(hash)?, preimage) {
        (Some(begun), Some(preimage)) => {
            let outcome = PaymentOutcome {
                preimage,
                amount_msat: begun.amount_msat,
                fee_msat,
            };
            inner.book.note_paid(hash, &outcome)?;
            inner.book.strike_out(hash)
        }
        _ => {
            let payment = hex::encode(hash);
            tracing::warn!(payment, "a payment succeeded that this wallet has no record of");
            Ok(())
        }
    }
}

/// Dials the nodes at the other end of channels again and again while they are away.
pub(super) async fn keep_connected(inner: Arc<Inner>) {
    let mut again = tokio::time::interval(RECONNECT_INTERVAL);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        for peer in inner.node.list_peers() {
            if peer.is_connected || !peer.is_persisted {
                continue;
            }
            // Who is not there now is dialled at the next round.
            let _ = inner.node.connect(peer.node_id, peer.address, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_failures_keep_their_reason_and_every_failure_says_that_nothing_moved() {
        let mut failures = Failures::default();
        let payment = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            id
        };
        for number in 0..=MAX_FAILURES {
            failures.note(payment(number), Some(PaymentFailureReason::RecipientRejected));
        }
        assert_eq!(failures.reasons.len(), MAX_FAILURES);
        assert_eq!(failures.why(&payment(1), 5), WalletError::Rejected);
        let forgotten = failures.why(&payment(0), 5);
        assert!(matches!(forgotten, WalletError::Failed { .. }), "{forgotten}");
        failures.note(payment(1), Some(PaymentFailureReason::RouteNotFound));
        assert_eq!(
            failures.why(&payment(1), 5),
            WalletError::NoRoute { amount_msat: 5 }
        );
        assert_eq!(
            failures.order.len(),
            MAX_FAILURES,
            "noted again is not remembered twice"
        );
        for reason in [
            PaymentFailureReason::RetriesExhausted,
            PaymentFailureReason::PaymentExpired,
            PaymentFailureReason::InvoiceRequestExpired,
            PaymentFailureReason::UserAbandoned,
        ] {
            failures.note(payment(2), Some(reason));
            assert!(failures.why(&payment(2), 5).nothing_moved(), "{reason:?}");
        }
    }
}
