//! What the operator allows, and how a refusal says what he does not.

use std::fmt;
use std::time::Duration;

use super::Caller;
use crate::limits::{MAX_SPENDING_CALLERS, MAX_SPENDING_DESTINATIONS, MAX_SPENDING_RECORDS};

/// What the operator allows, each in msat. All zero: auto-pay is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpendingCaps {
    /// The most that one packet may cost.
    pub per_packet_msat: u64,
    /// The most that one purchase of credit may cost, all shares together, without Lightning fees. Zero switches
    /// auto-pay off.
    pub max_total_msat: u64,
    /// The most that may leave the wallet within any hour, Lightning fees included; so the following.
    pub per_hour_msat: u64,
    /// Within any day.
    pub per_day_msat: u64,
    /// Within any day to one destination.
    pub per_destination_day_msat: u64,
    /// Within any day for one caller by name; the operator is one. Credit drawn counts too.
    pub per_caller_day_msat: u64,
    /// Within any day for all unidentified callers together. Credit drawn counts too.
    pub unidentified_day_msat: u64,
    /// The most that Lightning fees may cost per payment.
    pub max_fee_msat: u64,
}

impl SpendingCaps {
    /// Whether anything at all is allowed.
    pub fn is_on(&self) -> bool {
        self.max_total_msat > 0
    }

    /// The most that may leave the wallet within a day for a caller.
    pub(super) fn of_caller(&self, caller: &Caller) -> (SpendingCap, u64) {
        match caller {
            Caller::Operator | Caller::Module(_) => (SpendingCap::Caller, self.per_caller_day_msat),
            Caller::Unidentified => (SpendingCap::Unidentified, self.unidentified_day_msat),
        }
    }
}

/// One of the [`SpendingCaps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpendingCap {
    /// [`SpendingCaps::per_packet_msat`].
    Packet,
    /// [`SpendingCaps::max_total_msat`].
    Total,
    /// [`SpendingCaps::per_hour_msat`].
    Hour,
    /// [`SpendingCaps::per_day_msat`].
    Day,
    /// [`SpendingCaps::per_destination_day_msat`].
    Destination,
    /// [`SpendingCaps::per_caller_day_msat`].
    Caller,
    /// [`SpendingCaps::unidentified_day_msat`].
    Unidentified,
}

impl SpendingCap {
    /// The name it is configured by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Packet => "per_packet_msat",
            Self::Total => "max_total_msat",
            Self::Hour => "per_hour_msat",
            Self::Day => "per_day_msat",
            Self::Destination => "per_destination_day_msat",
            Self::Caller => "per_caller_day_msat",
            Self::Unidentified => "unidentified_day_msat",
        }
    }
}

/// Why this node does not pay by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpendingRefusal {
    /// The operator did not switch auto-pay on.
    #[error("auto-pay is off; pay the quoted invoices and show the proofs, or set auto_pay in [payments]")]
    Off,
    /// One of the caps forbids it.
    #[error(
        "{wanted_msat} msat are wanted and {} = {cap_msat} leaves {left_msat}{}; pay the quoted invoices and show the proofs, or raise the cap",
        .cap.as_str(),
        .frees_in.map(|span| format!(", enough again in {} s", span.as_secs().saturating_add(1))).unwrap_or_default()
    )]
    Above {
        /// Which.
        cap: SpendingCap,
        /// What it allows.
        cap_msat: u64,
        /// What is left of it.
        left_msat: u64,
        /// What was wanted, with the most that Lightning fees may cost where the cap counts them.
        wanted_msat: u64,
        /// How long until it is allowed if nothing else is spent meanwhile; none when waiting does not help.
        frees_in: Option<Duration>,
    },
    /// More is kept in mind than there is room for, and what was spent is never forgotten early.
    #[error(
        "this node keeps account of auto-payments {0} and has no room for another; it frees as they grow a day old"
    )]
    TableFull(SpendingTable),
}

/// What [`Spending`](super::Spending) keeps a bounded number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpendingTable {
    /// [`MAX_SPENDING_DESTINATIONS`].
    Destinations,
    /// [`MAX_SPENDING_CALLERS`].
    Callers,
    /// [`MAX_SPENDING_RECORDS`].
    Records,
}

impl fmt::Display for SpendingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Destinations => write!(f, "to {MAX_SPENDING_DESTINATIONS} destinations"),
            Self::Callers => write!(f, "for {MAX_SPENDING_CALLERS} callers"),
            Self::Records => write!(f, "of {MAX_SPENDING_RECORDS} purchases"),
        }
    }
}

/// A cap that does not depend on what was spent before.
pub(super) fn within(cap: SpendingCap, cap_msat: u64, wanted_msat: u64) -> Result<(), SpendingRefusal> {
    if wanted_msat <= cap_msat {
        return Ok(());
    }
    Err(SpendingRefusal::Above {
        cap,
        cap_msat,
        left_msat: cap_msat,
        wanted_msat,
        frees_in: None,
    })
}
