//! What the node owns and can move.

use ldk_node::payment::{PaymentDetails, PaymentDirection, PaymentKind, PaymentStatus as NodeStatus};
use ldk_node::{ChannelDetails, LightningBalance};

use super::Inner;
use crate::wallet::lightning_node::PaymentTotals;
use crate::wallet::{Balance, WalletError};

/// What could be paid.
pub(super) struct Funds {
    /// Now, in all channels together, in msat.
    pub(super) now_msat: u64,
    /// Once the other ends of all channels are connected, in msat.
    pub(super) when_connected_msat: u64,
}

impl Funds {
    pub(super) fn too_little_for(&self, needed_msat: u64) -> WalletError {
        if self.when_connected_msat >= needed_msat {
            return WalletError::Failed {
                reason: "the Lightning nodes at the other end of the channels are not connected now"
                    .to_owned(),
            };
        }
        WalletError::InsufficientFunds {
            needed_msat,
            spendable_msat: self.when_connected_msat,
        }
    }
}

impl Inner {
    pub(super) fn funds(&self) -> Funds {
        let channels = self.node.list_channels();
        let sum = |counts: fn(&ChannelDetails) -> bool| {
            let counted = channels.iter().filter(|channel| counts(channel));
            counted.fold(0_u64, |sum, channel| {
                sum.saturating_add(channel.next_outbound_htlc_limit_msat)
            })
        };
        Funds {
            now_msat: sum(|channel| channel.is_usable),
            when_connected_msat: sum(|channel| channel.is_channel_ready),
        }
    }

    pub(super) fn balance(&self) -> Balance {
        let channels = self.node.list_channels();
        let owned = channels.iter().map(owned_msat);
        let usable = channels.iter().filter(|channel| channel.is_usable);
        let receivable = usable.map(|channel| channel.inbound_capacity_msat);
        let in_flight = self.node.list_balances().lightning_balances;
        Balance {
            owned_msat: owned.fold(0, u64::saturating_add),
            spendable_msat: self.funds().now_msat,
            receivable_msat: Some(receivable.fold(0, u64::saturating_add)),
            outgoing_msat: in_flight.iter().map(outgoing_msat).fold(0, u64::saturating_add),
        }
    }
}

/// Sums over everything that the node's store holds.
pub(super) fn totals(inner: &Inner) -> Result<PaymentTotals, WalletError> {
    let mut totals = PaymentTotals::default();
    let is_lightning = |record: &&PaymentDetails| !matches!(record.kind, PaymentKind::Onchain { .. });
    for record in inner.node.list_payments_with_filter(is_lightning) {
        let amount_msat = record.amount_msat.unwrap_or(0);
        let sum = match (record.direction, record.status) {
            (PaymentDirection::Inbound, NodeStatus::Succeeded) => &mut totals.received_msat,
            (PaymentDirection::Outbound, NodeStatus::Succeeded) => &mut totals.paid_msat,
            (PaymentDirection::Outbound, NodeStatus::Pending) if !inner.is_over(&record.id.0)? => {
                &mut totals.pending_msat
            }
            _ => continue,
        };
        *sum = sum.saturating_add(amount_msat);
        if record.status == NodeStatus::Succeeded {
            totals.fees_msat = totals.fees_msat.saturating_add(record.fee_paid_msat.unwrap_or(0));
        }
    }
    Ok(totals)
}

/// What is ours in a channel. The node tells what can be sent and received, from which it follows; of a channel whose
/// one side is below its reserve, from the other side.
pub(super) fn owned_msat(channel: &ChannelDetails) -> u64 {
    let reserve = channel.unspendable_punishment_reserve.unwrap_or(0);
    if channel.outbound_capacity_msat > 0 {
        return channel
            .outbound_capacity_msat
            .saturating_add(sat_to_msat(reserve));
    }
    let theirs = channel
        .inbound_capacity_msat
        .saturating_add(sat_to_msat(channel.counterparty_unspendable_punishment_reserve));
    sat_to_msat(channel.channel_value_sats).saturating_sub(theirs)
}

/// What we have offered and is neither paid nor returned. The node lists whole sat, and apart from them the msat beyond.
fn outgoing_msat(balance: &LightningBalance) -> u64 {
    match balance {
        LightningBalance::ClaimableOnChannelClose {
            outbound_payment_htlc_rounded_msat: own,
            outbound_forwarded_htlc_rounded_msat: forwarded,
            ..
        } => own.saturating_add(*forwarded),
        LightningBalance::MaybeTimeoutClaimableHTLC { amount_satoshis, .. } => sat_to_msat(*amount_satoshis),
        _ => 0,
    }
}

pub(super) const fn sat_to_msat(sat: u64) -> u64 {
    sat.saturating_mul(1_000)
}
