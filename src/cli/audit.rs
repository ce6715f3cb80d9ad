//! `blvm-mesh audit`: one line for each finding, and an exit code for scripts.

use super::books::Books;
use super::{CliError, Global, print_answer};
use crate::ledger::AuditReport;
use crate::ledger::export::rfc3339;
use mesh_core::time::UnixMillis;

/// Audits and shows what was found. Findings are exit code 1.
pub(super) async fn run(global: &Global) -> Result<(), CliError> {
    let report = Books::open(global).await?.audit().await?;
    print_answer(global.json, &report, show)?;
    match report.is_clean() {
        true => Ok(()),
        false => {
            let count = report.findings.len() as u64 + report.more_findings;
            Err(CliError::Failed(format!(
                "{count} finding{}",
                if count == 1 { "" } else { "s" }
            )))
        }
    }
}

pub(crate) fn show(report: &AuditReport) -> String {
    let mut lines = vec![entries_line(report), wallet_line(report)];
    let notes = report.wallet.iter().flat_map(|wallet| &wallet.notes);
    lines.extend(notes.map(|note| format!("note: {note}")));
    lines.extend(
        report
            .findings
            .iter()
            .map(|finding| format!("finding: {finding}")),
    );
    if report.more_findings > 0 {
        lines.push(format!("finding: {} more, not listed", report.more_findings));
    }
    if report.is_clean() {
        lines.push("clean: every figure is what its entries say".to_owned());
    }
    lines.join("\n")
}

fn entries_line(report: &AuditReport) -> String {
    let span = report.first_at_unix_ms.zip(report.last_at_unix_ms);
    let span = span.map_or_else(String::new, |(first, last)| {
        format!(
            " from {} to {}",
            rfc3339(UnixMillis(first)),
            rfc3339(UnixMillis(last))
        )
    });
    format!("{} entries{span}", report.entries)
}

fn wallet_line(report: &AuditReport) -> String {
    let account = report.wallet_account_msat;
    let booked = format!("by the ledger the mesh brought the wallet {account} msat in all");
    let Some(wallet) = &report.wallet else {
        return format!("{booked}; not compared with the wallet, because the node does not run");
    };
    let compared = format!(
        "{booked}; {} of {} payments compared with the wallet",
        wallet.compared, wallet.payments
    );
    match wallet.owned_msat {
        Some(owned) => format!("{compared}, which owns {owned} msat with money that is not the mesh's"),
        None => compared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Finding, WalletReport};

    fn report() -> AuditReport {
        AuditReport {
            entries: 2,
            first_at_unix_ms: Some(0),
            last_at_unix_ms: Some(1000),
            wallet_account_msat: -7,
            wallet: Some(WalletReport {
                compared: 1,
                payments: 1,
                owned_msat: Some(50),
                notes: vec!["n".into()],
            }),
            findings: Vec::new(),
            more_findings: 0,
        }
    }

    #[test]
    fn clean_audit_says_so_and_what_was_compared() {
        let shown = show(&report());
        assert!(
            shown.contains("2 entries from 1970-01-01T00:00:00.000Z to"),
            "{shown}"
        );
        assert!(
            shown.contains("-7 msat") && shown.contains("1 of 1 payments compared"),
            "{shown}"
        );
        assert!(
            shown.ends_with("clean: every figure is what its entries say"),
            "{shown}"
        );
    }

    #[test]
    fn every_finding_is_one_line_and_none_is_clean() {
        let finding = Finding {
            code: "missing_entry".into(),
            what: "entry 3 is missing".into(),
            advice: "restore".into(),
        };
        let shown = show(&AuditReport {
            findings: vec![finding],
            more_findings: 4,
            wallet: None,
            ..report()
        });
        assert!(
            shown.contains("\nfinding: missing_entry: entry 3 is missing; restore\n"),
            "{shown}"
        );
        assert!(shown.ends_with("finding: 4 more, not listed"), "{shown}");
        assert!(shown.contains("node does not run"), "{shown}");
    }
}
