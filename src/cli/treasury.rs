//! `blvm-mesh treasury`: what is owed to the treasury, and paying it.

use clap::Subcommand;
use mesh_core::time::UnixMillis;

use super::books::Books;
use super::show::{signed_msat, table};
use super::{CliError, Global, ask, print_answer};
use crate::admin::{AdminClient, PayTreasuryParams, Request, TreasuryPaidReply, TreasuryReply};
use crate::ledger::export::rfc3339;

/// What `treasury` is asked for.
#[derive(Subcommand)]
pub(super) enum TreasuryCommand {
    /// Show what is owed and was paid, and whither
    Show,
    /// Pay now
    Pay {
        /// How much, in msat [default: all that is owed, in whole satoshi]
        #[arg(long, value_name = "MSAT", value_parser = clap::value_parser!(u64).range(1..))]
        amount: Option<u64>,
    },
}

/// Shows, or pays.
pub(super) async fn run(global: &Global, command: TreasuryCommand) -> Result<(), CliError> {
    match command {
        TreasuryCommand::Show => print_answer(global.json, &state(global).await?, show),
        TreasuryCommand::Pay { amount } => {
            let request = Request::PayTreasury(PayTreasuryParams { amount_msat: amount });
            ask(global, request, |paid: &TreasuryPaidReply| {
                format!(
                    "paid {} msat to the treasury, for {} msat in Lightning fees",
                    paid.amount_msat, paid.fee_msat
                )
            })
            .await
        }
    }
}

/// Of the running node; or what the books of one say that does not run, and what its configuration would have it do.
async fn state(global: &Global) -> Result<TreasuryReply, CliError> {
    let mut books = Books::open(global).await?;
    if let Books::Running(client) = &mut books {
        return of_running(client).await;
    }
    let fees = books.fees().await?;
    let config = super::locate(global)?.config.treasury;
    Ok(TreasuryReply {
        destination: config.as_ref().map(|config| config.destination.to_string()),
        owed_msat: u64::try_from(fees.treasury_owed_msat).unwrap_or(0),
        paid_msat: fees.treasury_paid_msat,
        threshold_msat: config.as_ref().map_or(0, |config| config.threshold_msat),
        max_fee_msat: config.as_ref().map_or(0, |config| config.max_fee_msat),
        asking: false,
        under_way: None,
    })
}

async fn of_running(client: &mut AdminClient) -> Result<TreasuryReply, CliError> {
    Ok(client.call(&Request::Treasury).await?)
}

pub(crate) fn show(reply: &TreasuryReply) -> String {
    let mut table = table(&[], &[]);
    let msat = |msat: u64| format!("{} msat", signed_msat(i64::try_from(msat).unwrap_or(i64::MAX)));
    let destination = reply.destination.as_deref();
    table.add_row(["paid to", destination.unwrap_or("nobody: [treasury] names none")]);
    table.add_row(["owed".to_owned(), msat(reply.owed_msat)]);
    table.add_row(["paid so far".to_owned(), msat(reply.paid_msat)]);
    let by_itself = match (reply.threshold_msat, destination) {
        (0, _) | (_, None) => "never; with `blvm-mesh treasury pay`".to_owned(),
        (threshold, _) => format!("from {} on", msat(threshold)),
    };
    table.add_row(["paid by itself".to_owned(), by_itself]);
    table.add_row(["Lightning fees at most".to_owned(), msat(reply.max_fee_msat)]);
    if let Some(under_way) = reply.under_way {
        let begun = rfc3339(UnixMillis(under_way.begun_unix_ms));
        table.add_row([
            "under way".to_owned(),
            format!(
                "{}, begun {begun}, outcome not known",
                msat(under_way.amount_msat)
            ),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::UnderWayReply;

    #[test]
    fn what_is_owed_and_under_way_is_shown() {
        let mut reply = TreasuryReply {
            destination: Some("t@example.org".into()),
            owed_msat: 12_345,
            paid_msat: 1,
            threshold_msat: 5000,
            max_fee_msat: 9,
            asking: false,
            under_way: Some(UnderWayReply {
                amount_msat: 12_000,
                begun_unix_ms: 0,
            }),
        };
        let shown = show(&reply);
        assert!(
            shown.contains("12 345 msat") && shown.contains("from 5 000 msat on"),
            "{shown}"
        );
        assert!(shown.contains("12 000 msat, begun 1970-01-01"), "{shown}");
        reply.destination = None;
        assert!(show(&reply).contains("names none"));
    }
}
