//! A wallet that knows something else than the ledger is found out, payment by payment.

use async_trait::async_trait;
use mesh_core::identity::NodeId;
use mesh_core::time::UnixMillis;

use super::*;
use crate::wallet::{Balance, CreatedInvoice, InvoiceRequest, PayRequest, PaymentHash, Probe, WalletInfo};

const PAYMENT: PaymentHash = [4; 32];

/// A wallet that says what it is told to say.
#[derive(Debug)]
struct Told {
    invoice: InvoiceStatus,
    payment: PaymentStatus,
    answers: bool,
}

impl Told {
    fn unavailable() -> WalletError {
        WalletError::Unavailable {
            reason: "it is down".to_owned(),
        }
    }
}

#[async_trait]
impl Wallet for Told {
    async fn info(&self) -> Result<WalletInfo, WalletError> {
        Err(Self::unavailable())
    }

    async fn create_invoice(&self, _: InvoiceRequest) -> Result<CreatedInvoice, WalletError> {
        Err(Self::unavailable())
    }

    async fn invoice_status(&self, _: PaymentHash) -> Result<InvoiceStatus, WalletError> {
        if self.answers {
            Ok(self.invoice)
        } else {
            Err(Self::unavailable())
        }
    }

    async fn wait_settled(&self, _: PaymentHash, _: Duration) -> Result<InvoiceStatus, WalletError> {
        Ok(self.invoice)
    }

    async fn pay(&self, _: PayRequest) -> Result<PaymentOutcome, WalletError> {
        panic!("an audit pays nobody")
    }

    async fn payment_status(&self, _: PaymentHash) -> Result<PaymentStatus, WalletError> {
        Ok(self.payment.clone())
    }

    async fn probe(&self, _: &PayRequest) -> Result<Probe, WalletError> {
        Ok(Probe::NotOffered)
    }

    async fn balance(&self) -> Result<Balance, WalletError> {
        Ok(Balance {
            owned_msat: 99,
            ..Balance::default()
        })
    }
}

fn succeeded(amount_msat: u64, fee_msat: u64) -> PaymentStatus {
    PaymentStatus::Succeeded(PaymentOutcome {
        preimage: [0; 32],
        amount_msat,
        fee_msat,
    })
}

fn entry(kind: EntryKind) -> Entry {
    let entry = Entry::new(UnixMillis(1), kind).of_payment(PAYMENT);
    let payee = LedgerAccount::Paid(NodeId([2; 32]));
    match kind {
        EntryKind::Credited => entry
            .debit(LedgerAccount::Wallet, 70)
            .credit(LedgerAccount::PayerCredit([1; 32]), 70),
        EntryKind::PaymentMade => entry
            .debit(payee, 30)
            .debit(LedgerAccount::LightningFees, 2)
            .credit(LedgerAccount::InFlight, 30)
            .credit(LedgerAccount::Wallet, 2),
        EntryKind::TreasuryPaid => entry
            .debit(LedgerAccount::TreasuryOwed, 30)
            .debit(LedgerAccount::LightningFees, 2)
            .credit(LedgerAccount::InFlight, 30)
            .credit(LedgerAccount::Wallet, 2),
        EntryKind::PaymentFailed => entry
            .debit(LedgerAccount::Wallet, 30)
            .credit(LedgerAccount::InFlight, 30),
        _ => entry
            .debit(LedgerAccount::InFlight, 30)
            .credit(LedgerAccount::Wallet, 30),
    }
}

/// What is found when the ledger has these entries of one payment and the wallet says that.
async fn found(
    kinds: &[EntryKind],
    invoice: InvoiceStatus,
    payment: PaymentStatus,
    answers: bool,
) -> (Vec<String>, WalletReport) {
    let mut audited = Audited::default();
    for (number, kind) in (1..).zip(kinds) {
        let claim = claim_of(&entry(*kind)).unwrap();
        audited.claims.push_back((number, PAYMENT, claim));
        audited.payments += 1;
    }
    let wallet = Told {
        invoice,
        payment,
        answers,
    };
    let report = compare(&mut audited, &wallet).await;
    let findings = audited.findings.iter().map(ToString::to_string).collect();
    (findings, report)
}

#[tokio::test(start_paused = true)]
async fn wallet_that_says_the_same_is_no_finding() {
    let settled = InvoiceStatus::Settled { amount_msat: 70 };
    let begun = EntryKind::PaymentBegun;
    for (kinds, payment) in [
        (vec![EntryKind::Credited], PaymentStatus::Unknown),
        (vec![begun, EntryKind::PaymentMade], succeeded(30, 2)),
        (vec![begun, EntryKind::PaymentMade], succeeded(31, 1)),
        (vec![begun, EntryKind::TreasuryPaid], succeeded(30, 2)),
        (vec![begun, EntryKind::PaymentFailed], PaymentStatus::Unknown),
    ] {
        let (findings, report) = found(&kinds, settled, payment, true).await;
        assert_eq!(findings, Vec::<String>::new(), "{kinds:?}");
        assert_eq!((report.compared, report.owned_msat), (1, Some(99)));
        assert!(report.notes.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn wallet_that_says_something_else_is_a_finding_with_both_amounts() {
    let settled = InvoiceStatus::Settled { amount_msat: 69 };
    let cases = [
        (
            EntryKind::Credited,
            PaymentStatus::Unknown,
            "70 msat, the wallet received 69 msat",
        ),
        (
            EntryKind::PaymentMade,
            succeeded(30, 3),
            "booked as 32 msat with fees, the wallet says 30 msat and 3",
        ),
        (
            EntryKind::PaymentMade,
            PaymentStatus::Unknown,
            "booked as paid with 32 msat",
        ),
        (EntryKind::PaymentFailed, succeeded(30, 2), "booked as failed"),
        (
            EntryKind::TreasuryPaid,
            PaymentStatus::InFlight,
            "booked as paid with 32 msat",
        ),
    ];
    for (kind, payment, says) in cases {
        let (findings, _) = found(&[kind], settled, payment, true).await;
        assert_eq!(findings.len(), 1, "{kind:?}");
        assert!(
            findings[0].starts_with("wallet_differs: entry 1, payment 0404"),
            "{findings:?}"
        );
        assert!(findings[0].contains(says), "{findings:?}");
    }
    let (findings, _) = found(
        &[EntryKind::Credited],
        InvoiceStatus::Unknown,
        PaymentStatus::Unknown,
        true,
    )
    .await;
    assert!(findings[0].contains("the wallet says Unknown"), "{findings:?}");
}

#[tokio::test(start_paused = true)]
async fn payment_without_outcome_and_one_to_an_offer_are_noted() {
    for kind in [EntryKind::PaymentBegun, EntryKind::TreasuryPaid] {
        let (findings, report) = found(&[kind], InvoiceStatus::Open, PaymentStatus::Unknown, true).await;
        assert_eq!((findings.len(), report.notes.len()), (0, 1), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn wallet_that_does_not_answer_does_not_pass_for_one_that_agrees() {
    let (findings, report) = found(
        &[EntryKind::Credited],
        InvoiceStatus::Open,
        PaymentStatus::Unknown,
        false,
    )
    .await;
    assert!(
        findings[0].starts_with("wallet_unavailable: after 0 payments"),
        "{findings:?}"
    );
    assert_eq!(report.compared, 0);
}
