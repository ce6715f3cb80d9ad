//! What keeps a Lightning node going: the loop that moves its messages, payments and events.
//!
//! LDK's own background processor does the same, but lets forwarded payments wait up to some 50 ms so that
//! observers cannot link them by time. In a devnet nobody is to be hidden from, and a payment should take
//! milliseconds, so this loop forwards at once.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lightning::events::{
    Event, EventHandler, EventsProvider, PathFailure, PaymentFailureReason, ReplayEvent,
};
use lightning::routing::scoring::ScoreUpdate;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::node::{LightningNode, unix_now};
use crate::wallet::WalletError;

/// LDK asks for its clock to be told about once a minute; forgetting finished payments depends on it.
///
/// Peers are not pinged: both ends of every connection live in this process, and under heavy load on a small machine
/// a late pong would only cut a healthy link.
const TICK: Duration = Duration::from_secs(60);

/// Runs `node` until `stop` says true or its sender is gone.
pub(super) async fn run(node: Arc<LightningNode>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        node.manager.process_pending_events(&*node);
        node.chain_monitor.process_pending_events(&*node);
        node.peers.process_events();
        let forwards = node.manager.needs_pending_htlc_processing();
        if forwards {
            node.manager.process_pending_htlc_forwards();
        }
        node.news.send_replace(());
        if forwards && !*stop.borrow() {
            // It may say so again at once, waiting for a peer that runs on this very thread.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = node.manager.get_event_or_persistence_needed_future() => {}
            () = node.chain_monitor.get_update_future() => {}
            _ = tick.tick() => node.manager.timer_tick_occurred(),
            // A dropped sender means the devnet itself is gone.
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

impl EventHandler for LightningNode {
    fn handle_event(&self, event: Event) -> Result<(), ReplayEvent> {
        self.learn_from(&event);
        match event {
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                ..
            } => {
                // Errors here end the channel, which whoever opened it is waiting to see.
                let funded = match self.chain.draw_from_faucet(output_script, channel_value_satoshis) {
                    Ok(transaction) => self
                        .manager
                        .funding_transaction_generated(
                            temporary_channel_id,
                            counterparty_node_id,
                            transaction,
                        )
                        .map_err(|error| format!("{error:?}")),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(error) = funded {
                    tracing::warn!(node = %self.name, %error, "cannot fund a devnet channel");
                    let _ = self.manager.force_close_broadcasting_latest_txn(
                        &temporary_channel_id,
                        &counterparty_node_id,
                        error,
                    );
                }
            }
            Event::PaymentClaimable {
                payment_hash,
                amount_msat,
                purpose,
                ..
            } => {
                let wanted = self
                    .invoices()
                    .may_claim(&payment_hash.0, amount_msat, unix_now());
                match purpose.preimage() {
                    Some(preimage) if wanted => self.manager.claim_funds(preimage),
                    _ => self.manager.fail_htlc_backwards(&payment_hash),
                }
            }
            Event::PaymentClaimed {
                payment_hash,
                amount_msat,
                ..
            } => {
                self.invoices().settled(&payment_hash.0, amount_msat);
            }
            Event::PaymentSent {
                payment_hash,
                payment_preimage,
                amount_msat,
                fee_paid_msat,
                ..
            } => {
                self.payments()
                    .succeeded(&payment_hash.0, payment_preimage.0, amount_msat, fee_paid_msat);
            }
            Event::PaymentFailed {
                payment_id, reason, ..
            } => {
                let mut payments = self.payments();
                let amount_msat = payments.terms(&payment_id.0).map_or(0, |(amount, _)| amount);
                payments.failed(&payment_id.0, why_failed(reason, amount_msat));
            }
            Event::ChannelClosed {
                channel_id, reason, ..
            } => {
                tracing::warn!(node = %self.name, %channel_id, %reason, "a devnet channel was closed");
            }
            _ => {}
        }
        Ok(())
    }
}

impl LightningNode {
    /// Lets router and scorer learn from how a payment fared, as LDK's background processor does.
    fn learn_from(&self, event: &Event) {
        let now = unix_now();
        let scorer = || self.scorer.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::PaymentPathFailed {
                path,
                short_channel_id,
                payment_failed_permanently,
                failure,
                ..
            } => {
                if let PathFailure::OnPath {
                    network_update: Some(update),
                } = failure
                {
                    self.graph.handle_network_update(update);
                }
                if let Some(channel) = short_channel_id {
                    scorer().payment_path_failed(path, *channel, now);
                } else if *payment_failed_permanently {
                    // It reached the payee, so every channel on the way could carry it.
                    scorer().probe_successful(path, now);
                }
            }
            Event::PaymentPathSuccessful { path, .. } => scorer().payment_path_successful(path, now),
            _ => {}
        }
    }
}

fn why_failed(reason: Option<PaymentFailureReason>, amount_msat: u64) -> WalletError {
    match reason {
        Some(PaymentFailureReason::RecipientRejected) => WalletError::Rejected,
        Some(PaymentFailureReason::UserAbandoned) => WalletError::Timeout,
        Some(PaymentFailureReason::RetriesExhausted | PaymentFailureReason::RouteNotFound) => {
            WalletError::NoRoute { amount_msat }
        }
        Some(PaymentFailureReason::PaymentExpired) => WalletError::InvoiceExpired,
        other => WalletError::Failed {
            reason: format!("{other:?}"),
        },
    }
}
