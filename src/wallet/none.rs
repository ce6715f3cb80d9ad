//! The wallet of a node that has none.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    Balance, CreatedInvoice, InvoiceRequest, InvoiceStatus, PayRequest, PaymentHash, PaymentOutcome,
    PaymentStatus, Probe, Wallet, WalletError, WalletInfo,
};

/// Stands in where no wallet is configured (nodes of mode `open`).
///
/// It owns nothing and refuses everything that concerns money with [`WalletError::NoWallet`], which says what to
/// configure; it never pretends. Looking up an invoice is refused too: answering `Unknown` would let a
/// misconfigured node tell its payers that they had not paid.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWallet;

#[async_trait]
impl Wallet for NoWallet {
    async fn info(&self) -> Result<WalletInfo, WalletError> {
        Ok(WalletInfo {
            backend: "none",
            network: None,
            payee: None,
        })
    }

    async fn create_invoice(&self, _request: InvoiceRequest) -> Result<CreatedInvoice, WalletError> {
        Err(WalletError::NoWallet)
    }

    async fn invoice_status(&self, _payment_hash: PaymentHash) -> Result<InvoiceStatus, WalletError> {
        Err(WalletError::NoWallet)
    }

    async fn wait_settled(
        &self,
        _payment_hash: PaymentHash,
        _timeout: Duration,
    ) -> Result<InvoiceStatus, WalletError> {
        Err(WalletError::NoWallet)
    }

    async fn pay(&self, _request: PayRequest) -> Result<PaymentOutcome, WalletError> {
        Err(WalletError::NoWallet)
    }

    async fn payment_status(&self, _payment_hash: PaymentHash) -> Result<PaymentStatus, WalletError> {
        Err(WalletError::NoWallet)
    }

    async fn probe(&self, _request: &PayRequest) -> Result<Probe, WalletError> {
        Err(WalletError::NoWallet)
    }

    async fn balance(&self) -> Result<Balance, WalletError> {
        Ok(Balance {
            receivable_msat: Some(0),
            ..Balance::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_wallet_every_money_operation_is_refused_by_name() {
        let wallet = NoWallet;
        let invoice = InvoiceRequest {
            amount_msat: 1_000,
            description: String::new(),
            expiry: Duration::from_secs(60),
        };
        let pay = PayRequest {
            bolt11: "lnbcrt1".into(),
            max_fee_msat: 0,
            max_cltv_blocks: 144,
            timeout: Duration::from_secs(1),
        };
        assert_eq!(wallet.create_invoice(invoice).await, Err(WalletError::NoWallet));
        assert_eq!(wallet.pay(pay).await, Err(WalletError::NoWallet));
        assert_eq!(wallet.invoice_status([0; 32]).await, Err(WalletError::NoWallet));
        assert_eq!(
            wallet.wait_settled([0; 32], Duration::from_secs(9)).await,
            Err(WalletError::NoWallet)
        );
        assert_eq!(wallet.payment_status([0; 32]).await, Err(WalletError::NoWallet));
        assert!(
            WalletError::NoWallet.to_string().contains("[wallet]"),
            "it says what to configure"
        );
    }

    #[tokio::test]
    async fn without_a_wallet_the_balance_is_zero_and_there_is_no_payee() {
        assert_eq!(NoWallet.balance().await.unwrap().owned_msat, 0);
        assert_eq!(NoWallet.info().await.unwrap().payee, None);
    }
}
