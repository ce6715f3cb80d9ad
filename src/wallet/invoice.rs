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

/// An invoice that is well-formed, rightly signed, for our network, and names its amount.
///
/// Whether it has expired is asked apart ([`Self::check_not_expired`]): somebody who asks again to pay what he has
/// paid already is owed the first outcome, however old the invoice is by then.
#[derive(Clone, Debug)]
pub struct PayableInvoice {
    parsed: Bolt11Invoice,
    amount_msat: u64,
}

impl PayableInvoice {
    /// Reads `bolt11` for a wallet on `network`.
    ///
    /// # Errors
    /// [`WalletError::InvoiceInvalid`], [`WalletError::WrongNetwork`].
    pub fn parse(bolt11: &str, network: LightningNetwork) -> Result<Self, WalletError> {
        if bolt11.len() > MAX_INVOICE_LENGTH {
            return Err(invalid(format!("it is longer than {MAX_INVOICE_LENGTH} bytes")));
        }
        let parsed: Bolt11Invoice = bolt11.parse().map_err(|error| match error {
            ParseOrSemanticError::ParseError(Bolt11ParseError::UnknownCurrency) => {
                WalletError::WrongNetwork { wallet: network }
            }
            other => invalid(other.to_string()),
        })?;
        if network_of(&parsed) != Some(network) {
            return Err(WalletError::WrongNetwork { wallet: network });
        }
        let amount_msat = parsed
            .amount_milli_satoshis()
            .filter(|amount| *amount > 0)
            .ok_or_else(|| {
                invalid("it names no amount, and what is owed must not be left to a guess".to_owned())
            })?;
        Ok(Self { parsed, amount_msat })
    }

    /// Refuses it when its last second has passed at the unix time `now`.
    ///
    /// # Errors
    /// [`WalletError::InvoiceExpired`].
    pub fn check_not_expired(&self, now: Duration) -> Result<(), WalletError> {
        if self.parsed.would_expire(now) {
            Err(WalletError::InvoiceExpired)
        } else {
            Ok(())
        }
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

/// The network of an invoice; `None` for networks that no wallet here can be on.
pub(super) fn network_of(invoice: &Bolt11Invoice) -> Option<LightningNetwork> {
    match invoice.currency() {
        Currency::Bitcoin => Some(LightningNetwork::Bitcoin),
        Currency::BitcoinTestnet => Some(LightningNetwork::Testnet),
        Currency::Signet => Some(LightningNetwork::Signet),
        Currency::Regtest => Some(LightningNetwork::Regtest),
        Currency::Simnet => None,
    }
}

fn invalid(reason: String) -> WalletError {
    WalletError::InvoiceInvalid { reason }
}

#[cfg(test)]
mod tests {
    use lightning::bitcoin::hashes::{Hash, sha256};
    use lightning::bitcoin::secp256k1::{Secp256k1, SecretKey};
    use lightning_invoice::{InvoiceBuilder, PaymentSecret};
    use proptest::prelude::*;

    use super::*;

    /// Issued at unix time 1,000 and payable for 60 s.
    fn invoice(currency: Currency, amount_msat: Option<u64>) -> String {
        let key = SecretKey::from_slice(&[7; 32]).unwrap();
        let builder = InvoiceBuilder::new(currency)
            .description_hash(sha256::Hash::from_byte_array([1; 32]))
            .payment_hash(sha256::Hash::from_byte_array([2; 32]))
            .payment_secret(PaymentSecret([3; 32]))
            .duration_since_epoch(Duration::from_secs(1_000))
            .expiry_time(Duration::from_secs(60))
            .min_final_cltv_expiry_delta(18);
        let builder = match amount_msat {
            Some(amount) => builder.amount_milli_satoshis(amount),
            None => builder,
        };
        builder
            .build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &key))
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_good_invoice_tells_amount_hash_and_payee() {
        let text = invoice(Currency::Regtest, Some(123_456));
        assert!(text.starts_with(LightningNetwork::Regtest.bolt11_prefix()));
        let read = PayableInvoice::parse(&text, LightningNetwork::Regtest).unwrap();
        let key = SecretKey::from_slice(&[7; 32]).unwrap();
        assert_eq!((read.amount_msat(), read.payment_hash()), (123_456, [2; 32]));
        assert_eq!(read.payee(), key.public_key(&Secp256k1::new()).serialize());
    }

    #[test]
    fn an_invoice_of_another_network_is_refused_by_name() {
        for (currency, text_network) in [
            (Currency::Bitcoin, LightningNetwork::Bitcoin),
            (Currency::BitcoinTestnet, LightningNetwork::Testnet),
            (Currency::Signet, LightningNetwork::Signet),
        ] {
            let text = invoice(currency, Some(1_000));
            assert_eq!(
                PayableInvoice::parse(&text, LightningNetwork::Regtest).unwrap_err(),
                WalletError::WrongNetwork {
                    wallet: LightningNetwork::Regtest
                }
            );
            assert!(text.starts_with(text_network.bolt11_prefix()));
            assert!(PayableInvoice::parse(&text, text_network).is_ok());
        }
    }

    #[test]
    fn an_invoice_without_an_amount_is_refused() {
        let text = invoice(Currency::Regtest, None);
        let refused = PayableInvoice::parse(&text, LightningNetwork::Regtest);
        assert!(
            matches!(refused, Err(WalletError::InvoiceInvalid { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_changed_letter_or_a_megabyte_is_refused() {
        let mut text = invoice(Currency::Regtest, Some(1_000));
        assert!(PayableInvoice::parse(&text.repeat(100), LightningNetwork::Regtest).is_err());
        let last = text.pop().unwrap();
        text.push(if last == 'q' { 'p' } else { 'q' });
        let refused = PayableInvoice::parse(&text, LightningNetwork::Regtest);
        assert!(
            matches!(refused, Err(WalletError::InvoiceInvalid { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn an_invoice_expires_after_its_last_second() {
        let text = invoice(Currency::Regtest, Some(1_000));
        let read = PayableInvoice::parse(&text, LightningNetwork::Regtest).unwrap();
        assert_eq!(read.check_not_expired(Duration::from_secs(1_060)), Ok(()));
        assert_eq!(
            read.check_not_expired(Duration::from_secs(1_061)),
            Err(WalletError::InvoiceExpired)
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(lnbcrt)?[ -~]{0,200}") {
            let _ = PayableInvoice::parse(&text, LightningNetwork::Regtest);
        }
    }
}
