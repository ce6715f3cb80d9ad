//! What can go wrong with money: each error says what failed, why, and what to do.

use thiserror::Error;

use super::LightningNetwork;

/// Why a wallet did not do what it was asked.
///
/// The one distinction that must never be blurred is [`Self::nothing_moved`]: after `true` a caller may pay somebody
/// else instead, after `false` he would risk paying twice.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WalletError {
    /// This node has no wallet.
    #[error(
        "this node has no Lightning wallet, so it can neither be paid nor pay: configure one in section [wallet], or set mode = \"open\""
    )]
    NoWallet,

    /// The request makes no sense to any backend.
    #[error("the wallet was asked for something impossible: {reason}")]
    InvalidRequest {
        /// What is impossible about it.
        reason: &'static str,
    },

    /// The invoice cannot be paid by anybody: garbled, wrongly signed, without an amount, …
    #[error("the invoice cannot be paid: {reason}; ask the payee for another")]
    InvoiceInvalid {
        /// What is wrong with it.
        reason: String,
    },

    /// The invoice was once good.
    #[error("the invoice has expired; ask the payee for another")]
    InvoiceExpired,

    /// The invoice is for another network.
    #[error(
        "the invoice is for another network than this wallet's ({wallet}): paying it would move other coins or none; ask the payee for a {wallet} invoice"
    )]
    WrongNetwork {
        /// The network of this wallet.
        wallet: LightningNetwork,
    },

    /// The wallet does not hold enough.
    #[error(
        "the wallet can send {spendable_msat} msat, the payment takes {needed_msat} msat and its fees: add funds or open a channel"
    )]
    InsufficientFunds {
        /// The amount of the invoice, in msat.
        needed_msat: u64,
        /// What can be sent now, in msat.
        spendable_msat: u64,
    },

    /// There is a route, but not for so little.
    #[error(
        "the cheapest route found costs {cheapest_msat} msat, the limit is {limit_msat} msat: raise the fee limit or pay more at once"
    )]
    FeeLimit {
        /// What the caller allowed, in msat.
        limit_msat: u64,
        /// What the cheapest route found would cost, in msat.
        cheapest_msat: u64,
    },

    /// Nobody can carry it at any price.
    #[error(
        "no Lightning route to the payee can carry {amount_msat} msat now: try later, or a smaller amount"
    )]
    NoRoute {
        /// The amount of the invoice, in msat.
        amount_msat: u64,
    },

    /// The payee sent it back.
    #[error(
        "the payee refused the payment (unknown, expired or already paid there); ask for another invoice"
    )]
    Rejected,

    /// Time ran out before any of it was on its way, and the payment was given up for good.
    #[error("the payment was given up when its time ran out, and nothing was paid; it may be tried again")]
    Timeout,

    /// Time ran out while money was on its way.
    #[error(
        "the outcome of payment {} is not known yet and the money may have left: look it up, do not pay again elsewhere",
        hex::encode(payment_hash)
    )]
    OutcomeUnknown {
        /// The payment to look up with `payment_status`.
        payment_hash: [u8; 32],
    },

    /// The backend has no such thing.
    #[error("this wallet does not offer {what}: choose another backend in section [wallet]")]
    NotOffered {
        /// What it does not offer.
        what: &'static str,
    },

    /// A bound on what is remembered was reached.
    #[error("the wallet refuses more {what}: its limit of {limit} is reached; try later")]
    LimitReached {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },

    /// The backend does not answer, or is shutting down.
    #[error("the wallet is not available: {reason}; check that the Lightning node runs and is reachable")]
    Unavailable {
        /// What the backend said, or did not say.
        reason: String,
    },

    /// The backend gave the payment up for a reason of its own; nothing was paid.
    #[error("the payment failed and nothing was paid: {reason}")]
    Failed {
        /// The backend's reason.
        reason: String,
    },
}

impl WalletError {
    /// Whether it is certain that the payment this error answers moved no money and never will.
    ///
    /// Not so for [`Self::OutcomeUnknown`] and [`Self::Unavailable`]: a backend that stops answering in the middle
    /// of a payment may have made it.
    #[must_use]
    pub const fn nothing_moved(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown { .. } | Self::Unavailable { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_is_never_called_a_failure() {
        assert!(
            !WalletError::OutcomeUnknown {
                payment_hash: [7; 32]
            }
            .nothing_moved()
        );
        assert!(
            !WalletError::Unavailable {
                reason: String::new()
            }
            .nothing_moved()
        );
        assert!(WalletError::Timeout.nothing_moved());
        assert!(WalletError::NoWallet.nothing_moved());
    }

    #[test]
    fn an_unknown_outcome_names_the_payment_to_look_up() {
        let text = WalletError::OutcomeUnknown {
            payment_hash: [0xab; 32],
        }
        .to_string();
        assert!(text.contains(&"ab".repeat(32)), "{text}");
    }
}
