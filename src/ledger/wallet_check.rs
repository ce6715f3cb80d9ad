//! Comparing the ledger with the wallet, payment by payment.
//!
//! The wallet may hold and move other money than the mesh's, so its balance proves nothing by itself; it is shown, not
//! judged. What can be judged is each payment that the ledger names: an invoice booked as paid must be settled in the
//! wallet with that much, a payment booked as made must have gone through there for that amount with its fees, and one
//! booked as failed must not.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mesh_core::ledger::{Entry, EntryKind, LedgerAccount};
use serde::{Deserialize, Serialize};

use super::audit::{Audited, Finding};
use super::query::Id;
use crate::wallet::{InvoiceStatus, PaymentOutcome, PaymentStatus, Wallet, WalletError};

/// Pause between two questions: an audit must not keep the wallet from its work.
const PACE: Duration = Duration::from_millis(5);

/// What the ledger says of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// This node's invoice was paid.
    Received {
        /// With at least this, in msat.
        msat: u64,
    },
    /// A payment was begun and has no outcome yet.
    Begun,
    /// A payment went through.
    Paid {
        /// What left the wallet, with Lightning fees, in msat.
        msat: u64,
    },
    /// The treasury was paid: as [`Claim::Paid`], but perhaps to an offer, which is looked up by no payment hash.
    TreasuryPaid {
        /// What left the wallet, with Lightning fees, in msat.
        msat: u64,
    },
    /// A payment certainly did not go through.
    Failed,
}

/// What an entry says of a Lightning payment of the wallet's; none when it says nothing.
pub fn claim_of(entry: &Entry) -> Option<Claim> {
    let moved = |account: LedgerAccount| {
        let posting = entry.postings.iter().find(|posting| posting.account == account);
        posting.map_or(0, |posting| posting.msat)
    };
    let in_flight = moved(LedgerAccount::InFlight);
    // What had left it when the payment was begun, and what left it on top.
    let on_top = moved(LedgerAccount::Wallet).min(0).unsigned_abs();
    let msat = in_flight.unsigned_abs().saturating_add(on_top);
    match entry.kind {
        EntryKind::Credited => u64::try_from(moved(LedgerAccount::Wallet))
            .ok()
            .filter(|msat| *msat > 0)
            .map(|msat| Claim::Received { msat }),
        EntryKind::PaymentBegun => Some(Claim::Begun),
        EntryKind::PaymentMade if in_flight < 0 => Some(Claim::Paid { msat }),
        EntryKind::TreasuryPaid if in_flight < 0 => Some(Claim::TreasuryPaid { msat }),
        EntryKind::PaymentFailed => Some(Claim::Failed),
        _ => None,
    }
}

/// What the comparison showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletReport {
    /// Payments compared.
    pub compared: u64,
    /// Payments of all entries; more than [`MAX_COMPARED`](super::audit::MAX_COMPARED) are not compared.
    pub payments: u64,
    /// What the wallet owns, in msat, with money that is none of the mesh's.
    pub owned_msat: Option<u64>,
    /// What is worth knowing and nothing wrong.
    pub notes: Vec<String>,
}

/// Compares the newest payments with the wallet; findings go to `audited`.
pub async fn compare(audited: &mut Audited, wallet: &dyn Wallet) -> WalletReport {
    let mut report = WalletReport {
        payments: audited.payments,
        ..WalletReport::default()
    };
    let claims = std::mem::take(&mut audited.claims);
    for (payment, (number, claim)) in latest(claims) {
        match judge(wallet, number, payment, claim).await {
            Ok(Judged::Well) => {}
            Ok(Judged::Note(note)) => report.notes.push(note),
            Ok(Judged::Finding(code, what)) => audited.find(code, what, COMPARE_ADVICE),
            Err(WalletError::NoWallet) => {
                report
                    .notes
                    .push("this node has no wallet to compare with".to_owned());
                return report;
            }
            Err(error) => {
                let compared = report.compared;
                let what = format!("after {compared} payments the wallet did not answer any more: {error}");
                audited.find("wallet_unavailable", what, "see to the wallet and audit again");
                return report;
            }
        }
        report.compared += u64::from(claim != Claim::Begun);
        tokio::time::sleep(PACE).await;
    }
    match wallet.balance().await {
        Ok(balance) => report.owned_msat = Some(balance.owned_msat),
        Err(error) => report
            .notes
            .push(format!("the wallet does not tell its balance: {error}")),
    }
    report
}

const COMPARE_ADVICE: &str =
    "compare with the wallet's own list of payments; if another wallet was used before, that one knows";

/// One claim for each payment: the last.
fn latest(claims: VecDeque<(u64, [u8; 32], Claim)>) -> BTreeMap<[u8; 32], (u64, Claim)> {
    let last = claims
        .into_iter()
        .map(|(number, payment, claim)| (payment, (number, claim)));
    last.collect()
}

enum Judged {
    Well,
    Note(String),
    Finding(&'static str, String),
}

async fn judge(
    wallet: &dyn Wallet,
    number: u64,
    payment: [u8; 32],
    claim: Claim,
) -> Result<Judged, WalletError> {
    let name = format!("entry {number}, payment {}", Id(payment));
    if let Claim::Received { msat } = claim {
        let status = wallet.invoice_status(payment).await?;
        return Ok(judge_invoice(&name, msat, status));
    }
    let status = wallet.payment_status(payment).await?;
    Ok(judge_payment(&name, claim, status))
}

fn judge_invoice(name: &str, msat: u64, status: InvoiceStatus) -> Judged {
    match status {
        InvoiceStatus::Settled { amount_msat } if amount_msat >= msat => Judged::Well,
        InvoiceStatus::Settled { amount_msat } => Judged::Finding(
            "wallet_differs",
            format!("{name}: booked as received with {msat} msat, the wallet received {amount_msat} msat"),
        ),
        status => Judged::Finding(
            "wallet_differs",
            format!("{name}: booked as received with {msat} msat, the wallet says {status:?}"),
        ),
    }
}

fn judge_payment(name: &str, claim: Claim, status: PaymentStatus) -> Judged {
    let differs = |what: String| Judged::Finding("wallet_differs", format!("{name}: {what}"));
    match (claim, status) {
        (Claim::Paid { msat } | Claim::TreasuryPaid { msat }, PaymentStatus::Succeeded(paid)) => {
            let PaymentOutcome {
                amount_msat,
                fee_msat,
                ..
            } = paid;
            if amount_msat.saturating_add(fee_msat) == msat {
                Judged::Well
            } else {
                differs(format!(
                    "booked as {msat} msat with fees, the wallet says {amount_msat} msat and {fee_msat} msat fee"
                ))
            }
        }
        (Claim::TreasuryPaid { .. }, PaymentStatus::Unknown) => Judged::Note(format!(
            "{name}: paid to the treasury's offer, which the wallet cannot look up by this number"
        )),
        (Claim::Paid { msat, .. } | Claim::TreasuryPaid { msat, .. }, status) => differs(format!(
            "booked as paid with {msat} msat, the wallet says {status:?}"
        )),
        (Claim::Failed, PaymentStatus::Failed(_) | PaymentStatus::Unknown) => Judged::Well,
        (Claim::Failed, status) => differs(format!("booked as failed, the wallet says {status:?}")),
        (Claim::Begun, status) => Judged::Note(format!(
            "{name}: under way; the wallet says {status:?}, and the node looks it up until it is decided"
        )),
        (Claim::Received { .. }, _) => Judged::Well,
    }
}

/// The whole audit as it leaves the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Entries read.
    pub entries: u64,
    /// When the first was booked, in Unix ms.
    pub first_at_unix_ms: Option<u64>,
    /// When the last was booked, in Unix ms.
    pub last_at_unix_ms: Option<u64>,
    /// What the mesh put into the wallet less what it took out, by the ledger, in msat.
    pub wallet_account_msat: i64,
    /// The comparison with the wallet; none when the node does not run, because only the running node has a wallet.
    pub wallet: Option<WalletReport>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub more_findings: u64,
}

impl AuditReport {
    /// The report of an audit.
    pub fn new(audited: Audited, wallet: Option<WalletReport>) -> Self {
        let account = audited.books.balance(&LedgerAccount::Wallet);
        Self {
            entries: audited.entries,
            first_at_unix_ms: audited.first_at.map(|at| at.0),
            last_at_unix_ms: audited.last_at.map(|at| at.0),
            wallet_account_msat: i64::try_from(account).unwrap_or(if account < 0 {
                i64::MIN
            } else {
                i64::MAX
            }),
            wallet,
            findings: audited.findings,
            more_findings: audited.more_findings,
        }
    }

    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.more_findings == 0
    }
}

#[cfg(test)]
mod tests;
