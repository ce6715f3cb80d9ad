//! What the tests of both wallets need: invoices as their nodes write them, and what is asked of a wallet.

use std::sync::Arc;
use std::time::Duration;

use blvm_mesh::config::{KeySource, RemoteWallet, WalletBackend, WalletConfig};
use blvm_mesh::http::{Secret, Url};
use blvm_mesh::wallet::{InvoiceRequest, PayRequest, Wallet, build};
use lightning::bitcoin::hashes::{Hash, sha256};
use lightning::bitcoin::secp256k1::{Secp256k1, SecretKey};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// How long a payment is given that will not be answered.
pub(crate) const SHORT: Duration = Duration::from_millis(700);

pub(crate) const PREIMAGE: [u8; 32] = [0x5a; 32];

pub(crate) fn payment_hash() -> [u8; 32] {
    sha256::Hash::hash(&PREIMAGE).to_byte_array()
}

/// The key of the node that is paid, and that the played node has too where it makes invoices.
pub(crate) fn node_key() -> String {
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    hex::encode(key.public_key(&Secp256k1::new()).serialize())
}

/// An invoice over this much, payable with [`PREIMAGE`], for what is sold.
pub(crate) fn invoice(amount_msat: u64, description: &str) -> String {
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    InvoiceBuilder::new(Currency::Regtest)
        .description_hash(sha256::Hash::hash(description.as_bytes()))
        .payment_hash(sha256::Hash::from_byte_array(payment_hash()))
        .payment_secret(PaymentSecret([3; 32]))
        .current_timestamp()
        .expiry_time(Duration::from_secs(600))
        .min_final_cltv_expiry_delta(18)
        .amount_milli_satoshis(amount_msat)
        .build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &key))
        .unwrap()
        .to_string()
}

pub(crate) const SOLD: &str = "blvm-mesh/1 invoice payee=a1";

pub(crate) fn request(amount_msat: u64) -> InvoiceRequest {
    InvoiceRequest {
        amount_msat,
        description: SOLD.into(),
        expiry: Duration::from_secs(600),
    }
}

pub(crate) fn pay(timeout: Duration) -> PayRequest {
    PayRequest {
        bolt11: invoice(50_000, SOLD),
        max_fee_msat: 1_200,
        max_cltv_blocks: 1_008,
        timeout,
    }
}

pub(crate) fn config(backend: WalletBackend, url: &str, key: &str) -> WalletConfig {
    let remote = RemoteWallet {
        url: Url::parse(url).unwrap(),
        key: KeySource::Inline(Secret::new(key.to_owned())),
        certificate_file: None,
        allow_plain_http: false,
    };
    WalletConfig::over_rest(backend, remote)
}

pub(crate) async fn connect(config: &WalletConfig) -> Arc<dyn Wallet> {
    build::connect_within(config, Duration::ZERO).await.unwrap()
}

pub(crate) async fn refusal(config: &WalletConfig) -> String {
    let refused = build::connect_within(config, Duration::ZERO).await;
    refused.unwrap_err().to_string()
}
