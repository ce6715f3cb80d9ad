//! Invoices and proofs of payment: strangers' text that decides about money.

use std::time::Duration;

use blvm_mesh::wallet::LightningNetwork;
use blvm_mesh::wallet::invoice::PayableInvoice;
use mesh_core::payment_proof::PaymentProof;
use mesh_core::verifier::{BitcoinNetwork, read_invoice};

use crate::wire::{comes_back, read};

/// BOLT 11 invoices. The two readers, of the payee and of the payer's wallet, must not disagree about what an invoice
/// says: else a payer pays one sum and is credited another.
pub fn invoice(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let facts = read_invoice(text);
    for (wallet, network) in [
        (LightningNetwork::Bitcoin, BitcoinNetwork::Mainnet),
        (LightningNetwork::Testnet, BitcoinNetwork::Testnet),
        (LightningNetwork::Signet, BitcoinNetwork::Signet),
        (LightningNetwork::Regtest, BitcoinNetwork::Regtest),
    ] {
        let Ok(payable) = PayableInvoice::parse(text, wallet) else {
            continue;
        };
        let facts = facts.as_ref().expect("what a wallet pays a payee can read");
        assert_eq!(facts.network, network);
        assert_eq!(facts.amount_msat, Some(payable.amount_msat()));
        assert_eq!(facts.payment_hash, payable.payment_hash());
        assert_eq!(facts.payee, payable.payee());
        assert!(payable.amount_msat() > 0);
        let _ = payable.check_not_expired(Duration::from_secs(u64::MAX / 2));
        let _ = payable.check_not_expired(Duration::ZERO);
    }
}

/// Proofs as they travel in boxes and lie in the store: they come back the same, no split holds a split, and no preimage
/// is ever shown.
pub fn proof(data: &[u8]) {
    let Some(proof) = read::<PaymentProof>(data) else {
        return;
    };
    comes_back(&proof);
    if let PaymentProof::Split { proofs } = &proof {
        assert!(
            proofs
                .iter()
                .all(|(_, proof)| !matches!(proof, PaymentProof::Split { .. }))
        );
    }
    assert!(
        format!("{proof:?}").len() < 100,
        "what is logged of a proof is short"
    );
}
