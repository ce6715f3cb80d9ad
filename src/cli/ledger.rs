//! `blvm-mesh ledger`: the entries as a table, as JSON or as CSV.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use mesh_core::identity::NodeId;

use super::books::Books;
use super::show::{self, Ids};
use super::{CliError, Global};
use crate::admin::{LedgerParams, Text};
use crate::ledger::export::{CSV_HEADER, EntryJson};
use crate::ledger::{Id, MAX_LEDGER_PAGE};

/// What `ledger` is asked for.
#[derive(Args)]
pub(super) struct LedgerArgs {
    /// Only entries since then: a span back from now (90s, 15m, 36h, 7d), or a moment in UTC (2026-11-24 or
    /// 2026-11-24T12:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// Only entries of this session
    #[arg(long, value_name = "ID")]
    session: Option<Id<16>>,
    /// Only entries about this payee
    #[arg(long, value_name = "NODE_ID", conflicts_with = "payer")]
    payee: Option<NodeId>,
    /// Only entries about the payer with this account key
    #[arg(long, value_name = "KEY")]
    payer: Option<Id<32>>,
    /// The newest so many of them; 0 is all
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// As CSV, one row for each posting
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// A span back from now, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    At(SystemTime),
}

impl Since {
    fn unix_ms(self, now: SystemTime) -> u64 {
        let moment = match self {
            Self::Ago(span) => now.checked_sub(span).unwrap_or(UNIX_EPOCH),
            Self::At(moment) => moment,
        };
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

fn parse_since(text: &str) -> Result<Since, String> {
    let moment = match text.len() {
        // A date alone is its first moment.
        10 => humantime::parse_rfc3339_weak(&format!("{text}T00:00:00Z")),
        _ => humantime::parse_rfc3339_weak(text),
    };
    match (humantime::parse_duration(text), moment) {
        (Ok(span), _) => Ok(Since::Ago(span)),
        (_, Ok(moment)) => Ok(Since::At(moment)),
        _ => Err("a span such as 36h or 7d, or a moment such as 2026-11-24 or 2026-11-24T12:00:00Z".into()),
    }
}

/// Shows the entries.
pub(super) async fn run(global: &Global, args: LedgerArgs, ids: Ids) -> Result<(), CliError> {
    let mut books = Books::open(global).await?;
    let params = LedgerParams {
        since_unix_ms: args.since.map(|since| since.unix_ms(SystemTime::now())),
        session: args.session.map(Text),
        party: args.payee.map(|node| Id(node.0)).or(args.payer).map(Text),
        newest_first: args.limit > 0,
        ..LedgerParams::default()
    };
    let mut writer = Writer::new(global.json, args.csv, ids);
    writer.begin()?;
    if args.limit == 0 {
        return stream_all(&mut books, params, &mut writer).await;
    }
    let (entries, more) = newest(&mut books, params, args.limit).await?;
    for entry in entries.iter().rev() {
        writer.write(entry)?;
    }
    writer.end()?;
    if more {
        let limit = args.limit;
        // Not to the standard output, where scripts read.
        let _ = writeln!(io::stderr(), "the newest {limit}; all with --limit 0");
    }
    Ok(())
}

/// Oldest first, a page at a time, so that any number of entries takes the memory of a page.
async fn stream_all(
    books: &mut Books,
    mut params: LedgerParams,
    writer: &mut Writer,
) -> Result<(), CliError> {
    loop {
        let page = books.page(&params).await?;
        for entry in &page.entries {
            writer.write(entry)?;
        }
        writer.flush_table()?;
        match page.next {
            Some(next) => params.beyond = Some(next),
            None => return writer.end(),
        }
    }
}

/// The newest `limit` entries, newest first, and whether there are more.
async fn newest(
    books: &mut Books,
    mut params: LedgerParams,
    limit: usize,
) -> Result<(Vec<EntryJson>, bool), CliError> {
    let mut entries = Vec::new();
    loop {
        params.limit = (limit - entries.len()).min(MAX_LEDGER_PAGE);
        let page = books.page(&params).await?;
        entries.extend(page.entries);
        match page.next {
            None => return Ok((entries, false)),
            Some(_) if entries.len() >= limit => return Ok((entries, true)),
            Some(next) => params.beyond = Some(next),
        }
    }
}

/// Writes entries in the form asked for.
struct Writer {
    out: io::StdoutLock<'static>,
    form: Form,
    ids: Ids,
}

enum Form {
    Json,
    Csv,
    /// The entries not yet shown, and whether any were.
    Table(Vec<EntryJson>, bool),
}

impl Writer {
    fn new(as_json: bool, as_csv: bool, ids: Ids) -> Self {
        let form = match (as_json, as_csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Table(Vec::new(), false),
        };
        let out = io::stdout().lock();
        Self { out, form, ids }
    }

    fn begin(&mut self) -> Result<(), CliError> {
        match self.form {
            Form::Csv => self.line(CSV_HEADER),
            _ => Ok(()),
        }
    }

    fn write(&mut self, entry: &EntryJson) -> Result<(), CliError> {
        match &mut self.form {
            Form::Json => {
                let json = serde_json::to_string(entry).map_err(|e| CliError::Failed(e.to_string()))?;
                self.line(&json)
            }
            Form::Csv => entry.csv_rows().iter().try_for_each(|row| self.line(row)),
            Form::Table(entries, _) => {
                entries.push(entry.clone());
                Ok(())
            }
        }
    }

    /// A table's columns fit a page of entries; all of them together would be held in memory.
    fn flush_table(&mut self) -> Result<(), CliError> {
        let Form::Table(entries, shown) = &mut self.form else {
            return Ok(());
        };
        if entries.is_empty() {
            return Ok(());
        }
        *shown = true;
        let table = show::ledger(&std::mem::take(entries), self.ids);
        self.line(table.trim_end())
    }

    fn end(&mut self) -> Result<(), CliError> {
        self.flush_table()?;
        if matches!(self.form, Form::Table(_, false)) {
            self.line("no entries: nothing was booked yet, or nothing that fits")?;
        }
        self.out.flush().map_err(CliError::Output)
    }

    fn line(&mut self, line: &str) -> Result<(), CliError> {
        writeln!(self.out, "{line}").map_err(CliError::Output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_back_or_a_moment() {
        let now = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let shown = |text: &str| parse_since(text).map(|since| since.unix_ms(now));
        assert_eq!(shown("36h"), Ok((1_764_000_000 - 36 * 3600) * 1000));
        assert_eq!(shown("7d"), Ok((1_764_000_000 - 7 * 86_400) * 1000));
        assert_eq!(shown("2025-11-24"), Ok(1_763_942_400_000));
        assert_eq!(shown("2025-11-24T16:00:00Z"), Ok(1_764_000_000_000));
        assert_eq!(shown("9000y"), Ok(0));
        for nonsense in ["", "yesterday", "2025-13-01", "5", "-5m"] {
            assert!(shown(nonsense).is_err(), "{nonsense}");
        }
    }
}
