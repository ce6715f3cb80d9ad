//! `blvm-mesh fees`: what was earned, spent and is owed.

use super::books::Books;
use super::show::{signed_msat, table};
use super::{CliError, Global, print_answer};
use crate::ledger::FeesReport;

/// Shows the sums.
pub(super) async fn run(global: &Global) -> Result<(), CliError> {
    let report = Books::open(global).await?.fees().await?;
    print_answer(global.json, &report, show)
}

pub(crate) fn show(report: &FeesReport) -> String {
    let mut table = table(&["", "msat"], &[1]);
    let unsigned = |msat: u64| i64::try_from(msat).unwrap_or(i64::MAX);
    let rows = [
        ("earned by carrying", report.earned_msat),
        ("payers' credit here, to be earned", report.payers_credit_msat),
        (
            "credit sold as destination",
            unsigned(report.sold_as_destination_msat),
        ),
        ("credit sold as router", unsigned(report.sold_as_router_msat)),
        (
            "treasury's part collected",
            unsigned(report.treasury_collected_msat),
        ),
        ("  of it owed", report.treasury_owed_msat),
        ("  of it paid", unsigned(report.treasury_paid_msat)),
        ("paid to payees", unsigned(report.paid_msat)),
        ("brought as proof, paid from elsewhere", report.brought_msat),
        ("Lightning fees", report.lightning_fees_msat),
        ("pending: payments in flight", report.in_flight_msat),
        ("pending: paid and not redeemed", report.unredeemed_msat),
        ("prepaid credit at payees", report.credit_at_others_msat),
        ("spent on carriage", report.carriage_msat),
        ("lost", report.lost_msat),
        ("payments that failed, put back", unsigned(report.put_back_msat)),
        ("into the wallet, less out of it", report.wallet_msat),
        ("on-chain outputs received", report.on_chain_msat),
    ];
    for (name, msat) in rows {
        table.add_row([name.to_owned(), signed_msat(msat)]);
    }
    for (reason, count) in report.refused.iter().flatten() {
        table.add_row([
            format!("refused since the start: {reason}"),
            format!("{count} times"),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_losses_are_shown_by_name() {
        let report = FeesReport {
            earned_msat: 1_234_567,
            lost_msat: -5,
            refused: Some([("not_settled".to_owned(), 3)].into()),
            ..FeesReport::default()
        };
        let shown = show(&report);
        assert!(shown.contains("1 234 567") && shown.contains("-5"), "{shown}");
        assert!(shown.contains("refused since the start: not_settled"), "{shown}");
    }
}
