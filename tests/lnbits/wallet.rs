//! What the wallet contract says, asked of LNbits.

use std::time::Duration;

use blvm_mesh::wallet::{
    InvoiceRequest, InvoiceStatus, LightningNetwork, PayRequest, PaymentStatus, Probe, Wallet, WalletError,
    build,
};
use lightning::bitcoin::hashes::{Hash, sha256};
use lightning::bitcoin::secp256k1::{Secp256k1, SecretKey};
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescriptionRef, Currency, InvoiceBuilder, PaymentSecret,
};
use sha2::{Digest, Sha256};

use crate::server::LnBitsServer;

const LONG: Duration = Duration::from_secs(60);

fn request(amount_msat: u64) -> InvoiceRequest {
    InvoiceRequest {
        amount_msat,
        description: "blvm-mesh/1 invoice payee=a1".into(),
        expiry: Duration::from_secs(600),
    }
}

fn pay(bolt11: &str, max_fee_msat: u64) -> PayRequest {
    PayRequest {
        bolt11: bolt11.to_owned(),
        max_fee_msat,
        max_cltv_blocks: 1_008,
        timeout: LONG,
    }
}

async fn owned(wallet: &dyn Wallet) -> u64 {
    wallet.balance().await.unwrap().owned_msat
}

pub(crate) async fn invoices_carry_the_amount_and_what_they_are_for(server: &LnBitsServer) {
    let (one, other) = (server.account(0).await, server.account(0).await);
    let (one, other) = (
        server.wallet(&one.admin_key).await,
        server.wallet(&other.admin_key).await,
    );
    let info = one.info().await.unwrap();
    assert_eq!(
        (info.backend, info.network),
        ("lnbits", Some(LightningNetwork::Bitcoin))
    );
    assert_eq!(
        other.info().await.unwrap().payee,
        info.payee,
        "one node signs for all"
    );

    let request = request(12_000);
    let made = one.create_invoice(request.clone()).await.unwrap();
    let invoice: Bolt11Invoice = made.bolt11.parse().unwrap();
    assert_eq!(invoice.amount_milli_satoshis(), Some(12_000));
    assert_eq!(Some(invoice.get_payee_pub_key().serialize()), info.payee);
    let Bolt11InvoiceDescriptionRef::Hash(hash) = invoice.description() else {
        panic!("{invoice}");
    };
    assert_eq!(AsRef::<[u8; 32]>::as_ref(&hash.0), &request.description_hash());
    assert_eq!(
        one.invoice_status(made.payment_hash).await,
        Ok(InvoiceStatus::Open)
    );
    assert_eq!(
        other.invoice_status(made.payment_hash).await,
        Ok(InvoiceStatus::Unknown)
    );
    assert_eq!(
        one.payment_status(made.payment_hash).await,
        Ok(PaymentStatus::Unknown)
    );
}

pub(crate) async fn fraction_of_a_satoshi_is_refused_rather_than_cut_off(server: &LnBitsServer) {
    let account = server.account(0).await;
    let wallet = server.wallet(&account.admin_key).await;
    assert_eq!(wallet.granularity_msat(), 1_000);
    for amount in [0, 1, 999, 1_500, 2_001] {
        let refused = wallet.create_invoice(request(amount)).await;
        assert!(
            matches!(refused, Err(WalletError::InvalidRequest { .. })),
            "{refused:?}"
        );
    }
}

pub(crate) async fn payment_arrives_once_however_often_it_is_asked_for(server: &LnBitsServer) {
    let (payer, payee) = (server.account(1_000).await, server.account(0).await);
    let (payer, payee) = (
        server.wallet(&payer.admin_key).await,
        server.wallet(&payee.admin_key).await,
    );
    let made = payee.create_invoice(request(5_000)).await.unwrap();
    let asked = pay(&made.bolt11, 2_000);
    assert_eq!(payer.probe(&asked).await, Ok(Probe::NotOffered));

    let waiting = payee.wait_settled(made.payment_hash, LONG);
    // The second asks while the first is under way, the third afterwards.
    let both = async { tokio::join!(payer.pay(asked.clone()), payer.pay(asked.clone())) };
    let (settled, (first, second)) = tokio::join!(waiting, both);
    let (first, third) = (first.unwrap(), payer.pay(asked).await.unwrap());
    assert_eq!((first, first), (second.unwrap(), third));
    assert_eq!((first.amount_msat, first.fee_msat), (5_000, 0));
    assert_eq!(
        <[u8; 32]>::from(Sha256::digest(first.preimage)),
        made.payment_hash
    );
    assert_eq!(settled, Ok(InvoiceStatus::Settled { amount_msat: 5_000 }));

    assert_eq!(
        payer.payment_status(made.payment_hash).await,
        Ok(PaymentStatus::Succeeded(first))
    );
    assert_eq!(
        payee.payment_status(made.payment_hash).await,
        Ok(PaymentStatus::Unknown)
    );
    assert_eq!(
        (owned(payer.as_ref()).await, owned(payee.as_ref()).await),
        (995_000, 5_000)
    );
    assert_eq!(payer.balance().await.unwrap().outgoing_msat, 0);

    // Somebody who pays what another has paid learns no preimage and pays nothing.
    let late = server.account(1_000).await;
    let late = server.wallet(&late.admin_key).await;
    let refused = late.pay(pay(&made.bolt11, 2_000)).await.unwrap_err();
    assert!(refused.nothing_moved(), "{refused}");
    assert_eq!(owned(late.as_ref()).await, 1_000_000);
}

pub(crate) async fn payment_whose_reserve_is_above_the_limit_is_not_begun(server: &LnBitsServer) {
    let (payer, payee) = (server.account(1_000).await, server.account(0).await);
    let (payer, payee) = (
        server.wallet(&payer.admin_key).await,
        server.wallet(&payee.admin_key).await,
    );
    let made = payee.create_invoice(request(5_000)).await.unwrap();
    let refused = WalletError::FeeLimit {
        limit_msat: 1_999,
        cheapest_msat: 2_000,
    };
    assert_eq!(payer.pay(pay(&made.bolt11, 1_999)).await, Err(refused.clone()));
    assert_eq!(payer.probe(&pay(&made.bolt11, 1_999)).await, Err(refused));
    assert_eq!(
        payer.payment_status(made.payment_hash).await,
        Ok(PaymentStatus::Unknown)
    );
    assert!(
        payer.pay(pay(&made.bolt11, 2_000)).await.is_ok(),
        "it is not held against it"
    );
}

pub(crate) async fn payment_beyond_the_balance_moves_nothing(server: &LnBitsServer) {
    let (payer, payee) = (server.account(10).await, server.account(0).await);
    let (payer, payee) = (
        server.wallet(&payer.admin_key).await,
        server.wallet(&payee.admin_key).await,
    );
    let made = payee.create_invoice(request(11_000)).await.unwrap();
    let refused = WalletError::InsufficientFunds {
        needed_msat: 11_000,
        spendable_msat: 10_000,
    };
    assert_eq!(payer.probe(&pay(&made.bolt11, 5_000)).await, Err(refused.clone()));
    assert_eq!(payer.pay(pay(&made.bolt11, 5_000)).await, Err(refused));
    assert_eq!(owned(payer.as_ref()).await, 10_000);
    assert_eq!(
        payee.invoice_status(made.payment_hash).await,
        Ok(InvoiceStatus::Open)
    );
}

/// An invoice of a node that this LNbits has no channel to: its play money reaches nobody outside.
fn foreign_invoice() -> String {
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    InvoiceBuilder::new(Currency::Bitcoin)
        .description_hash(sha256::Hash::from_byte_array([1; 32]))
        .payment_hash(sha256::Hash::from_byte_array([2; 32]))
        .payment_secret(PaymentSecret([3; 32]))
        .current_timestamp()
        .min_final_cltv_expiry_delta(18)
        .amount_milli_satoshis(5_000)
        .build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &key))
        .unwrap()
        .to_string()
}

pub(crate) async fn payment_that_nobody_can_make_fails_and_moves_nothing(server: &LnBitsServer) {
    let payer = server.account(1_000).await;
    let payer = server.wallet(&payer.admin_key).await;
    for _ in 0..2 {
        let refused = payer.pay(pay(&foreign_invoice(), 2_000)).await.unwrap_err();
        assert!(matches!(refused, WalletError::Failed { .. }), "{refused:?}");
        assert!(refused.nothing_moved());
    }
    assert_eq!(owned(payer.as_ref()).await, 1_000_000);
}

pub(crate) async fn unpaid_invoice_expires(server: &LnBitsServer) {
    let payee = server.account(0).await;
    let payee = server.wallet(&payee.admin_key).await;
    let mut request = request(5_000);
    request.expiry = Duration::from_secs(1);
    let made = payee.create_invoice(request).await.unwrap();
    assert_eq!(
        payee.wait_settled(made.payment_hash, LONG).await,
        Ok(InvoiceStatus::Expired)
    );
}

pub(crate) async fn wrong_key_is_told(server: &LnBitsServer) {
    let config = server.config("00112233445566778899aabbccddeeff");
    let refused = build::connect_within(&config, Duration::ZERO)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains(&server.url) && refused.contains("key"),
        "{refused}"
    );
    assert!(!refused.contains("00112233"), "{refused}");
}

pub(crate) async fn key_that_only_receives_cannot_pay(server: &LnBitsServer) {
    let (payer, payee) = (server.account(1_000).await, server.account(0).await);
    let (payer, payee) = (
        server.wallet(&payer.invoice_key).await,
        server.wallet(&payee.invoice_key).await,
    );
    let made = payee.create_invoice(request(5_000)).await.unwrap();
    let refused = payer.pay(pay(&made.bolt11, 2_000)).await.unwrap_err();
    assert!(refused.to_string().contains("refuses the key"), "{refused}");
    assert_eq!(owned(payer.as_ref()).await, 1_000_000);
}
