//! Reading somebody else's invoice before money is spent on it.
//!
//! Every backend that takes a BOLT 11 string sends it through [`PayableInvoice::parse`] first, so that the same
//! invoices are refused for the same named reasons whichever wallet is configured.

use std::time::Duration;

use lightning_invoice::{Bolt11Invoice, Bolt11ParseError, Currency, ParseOrSemanticError};

use super::{LightningNetwork, PaymentHash, WalletError};

/// The longest an invoice of ours may stay payable. Quotes live for minutes; a year is far beyond any use, and
/// keeps the arithmetic on unix times far from its edges.
pub const MAX_INVOICE_EXPIRY: Duration = Duration::from_secs(365 * 24 * 3600);

/// The longest BOLT 11 text that is looked at, in bytes. An invoice with a description hash takes about 300; the
/// bound keeps a stranger from buying seconds of parsing with a megabyte.
pub const MAX_INVOICE_LENGTH: usize = 4096;

/// An invoice that is well-formed, rightly signed, for our network, names its amount, and has not expired.
#[derive(Clone, Debug)]
pub struct PayableInvoice {
    parsed: Bolt11Invoice,
    amount_msat: u64,
}

impl PayableInvoice {
    /// Reads `bolt11` for a wallet on `network`, at the unix time `now`.
    ///
    /// # Errors
    /// [`WalletError::InvoiceInvalid`], [`WalletError::WrongNetwork`], [`WalletError::InvoiceExpired`].
    pub fn parse(bolt11: &str, network: LightningNetwork, now: Duration) -> Result<Self, WalletError> {
        if bolt11.len() > MAX_INVOICE_LENGTH {
            return Err(invalid(format!("it is longer than {MAX_INVOICE_LENGTH} bytes")));
        }
        let parsed: Bolt11Invoice = bolt11.parse().map_err(|error| match error {
            ParseOrSemanticError::ParseError(Bolt11ParseError::UnknownCurrency) => {
                WalletError::WrongNetwork { wallet: network }
            }
            other => invalid(other.to_string()),
        })?;
        if !same_network(parsed.currency(), network) {
            return Err(WalletError::WrongNetwork { wallet: network });
        }
        let amount_msat = parsed
            .amount_milli_satoshis()
            .filter(|amount| *amount > 0)
            .ok_or_else(|| {
                invalid("it names no amount, and what is owed must not be left to a guess".to_owned())
            })?;
        if parsed.would_expire(now) {
            return Err(WalletError::InvoiceExpired);
        }
        Ok(Self { parsed, amount_msat })
    }

    /// What it asks for, in msat; never 0.
    #[must_use]
    pub const fn amount_msat(&self) -> u64 {
        self.amount_msat
    }

    /// Its payment hash.
    #[must_use]
    pub fn payment_hash(&self) -> PaymentHash {
        *self.parsed.payment_hash().as_ref()
    }

    /// The compressed public key that signed it.
    #[must_use]
    pub fn payee(&self) -> [u8; 33] {
        self.parsed.get_payee_pub_key().serialize()
    }

    /// The parsed invoice, for backends that take it as such.
    #[must_use]
    pub const fn as_bolt11(&self) -> &Bolt11Invoice {
        &self.parsed
    }
}

fn invalid(reason: String) -> WalletError {
    WalletError::InvoiceInvalid { reason }
}

fn same_network(currency: Currency, network: LightningNetwork) -> bool {
    matches!(
        (currency, network),
        (Currency::Bitcoin, LightningNetwork::Bitcoin)
            | (Currency::BitcoinTestnet, LightningNetwork::Testnet)
            | (Currency::Signet, LightningNetwork::Signet)
            | (Currency::Regtest, LightningNetwork::Regtest)
    )
}
