//! Entries as they leave the program: names, JSON and CSV. All of it is stable: a name or a column never changes its
//! meaning, and new ones come behind.

use mesh_core::ledger::{EntryKind, LedgerAccount, SessionMemo};
use mesh_core::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::query::{BookedEntry, Id, party_of};

/// The header of the CSV; docs/LEDGER.md says what the columns mean.
pub const CSV_HEADER: &str = "number,time,at_unix_ms,kind,session,payment,account,party,msat,packets,units,spent_msat,left_msat,receipted";

/// An entry as it is written in JSON and as it travels over the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryJson {
    /// Its number.
    pub number: u64,
    /// When it was booked, in Unix ms.
    pub at_unix_ms: u64,
    /// Why: [`kind_name`].
    pub kind: String,
    /// The session, in hexadecimal.
    pub session: Option<String>,
    /// The payment hash or outpoint, in hexadecimal.
    pub payment: Option<String>,
    /// What moved.
    pub postings: Vec<PostingJson>,
    /// What a session that ended had done.
    pub memo: Option<MemoJson>,
}

/// A movement on one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostingJson {
    /// The account's name.
    pub account: String,
    /// Whose account, where there is one for each payee or payer: node id or account key in hexadecimal.
    pub party: Option<String>,
    /// How much, in msat.
    pub msat: i64,
}

/// What a session that ended had done; see [`SessionMemo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoJson {
    /// Packets.
    pub packets: u64,
    /// Units.
    pub units: u64,
    /// What they cost, in msat.
    pub spent_msat: u64,
    /// What is left, in msat.
    pub left_msat: u64,
    /// Packets that receipts cover.
    pub receipted: u64,
}

impl From<BookedEntry> for EntryJson {
    fn from(booked: BookedEntry) -> Self {
        let BookedEntry { number, entry } = booked;
        let posting = |posting: &mesh_core::ledger::Posting| PostingJson {
            account: account_kind(&posting.account).to_owned(),
            party: party_of(&posting.account).map(|party| Id(party).to_string()),
            msat: posting.msat,
        };
        Self {
            number,
            at_unix_ms: entry.at.0,
            kind: kind_name(entry.kind).to_owned(),
            session: entry.session.map(|session| session.to_string()),
            payment: entry.payment.map(|payment| Id(payment).to_string()),
            postings: entry.postings.iter().map(posting).collect(),
            memo: entry.memo.map(MemoJson::from),
        }
    }
}

impl From<SessionMemo> for MemoJson {
    fn from(memo: SessionMemo) -> Self {
        Self {
            packets: memo.packets,
            units: memo.units,
            spent_msat: memo.spent_msat,
            left_msat: memo.left_msat,
            receipted: memo.receipted,
        }
    }
}

impl EntryJson {
    /// The entry as rows of the CSV: one for each posting, one without account when nothing moved. No field needs quotes:
    /// all are numbers, names of ours and hexadecimal digits.
    pub fn csv_rows(&self) -> Vec<String> {
        let plain = |text: &Option<String>| text.clone().unwrap_or_default();
        let head = format!(
            "{},{},{},{},{},{}",
            self.number,
            rfc3339(UnixMillis(self.at_unix_ms)),
            self.at_unix_ms,
            self.kind,
            plain(&self.session),
            plain(&self.payment)
        );
        let memo = self.memo.map_or_else(
            || ",,,,".to_owned(),
            |memo| {
                format!(
                    "{},{},{},{},{}",
                    memo.packets, memo.units, memo.spent_msat, memo.left_msat, memo.receipted
                )
            },
        );
        if self.postings.is_empty() {
            return vec![format!("{head},,,,{memo}")];
        }
        let row = |posting: &PostingJson| {
            let party = plain(&posting.party);
            format!("{head},{},{party},{},{memo}", posting.account, posting.msat)
        };
        self.postings.iter().map(row).collect()
    }
}

/// A moment in UTC as RFC 3339 writes it, to the millisecond.
pub fn rfc3339(at: UnixMillis) -> String {
    let since = std::time::Duration::from_millis(at.0);
    match std::time::UNIX_EPOCH.checked_add(since) {
        // humantime writes years of at most four digits.
        Some(time) if at.0 < 253_402_300_800_000 => humantime::format_rfc3339_millis(time).to_string(),
        _ => format!("{}ms", at.0),
    }
}

/// The stable name of a kind of entry.
pub fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Credited => "credited",
        EntryKind::Drawn => "drawn",
        EntryKind::TreasuryPaid => "treasury_paid",
        EntryKind::Revoked => "revoked",
        EntryKind::PaymentBegun => "payment_begun",
        EntryKind::PaymentMade => "payment_made",
        EntryKind::PaymentFailed => "payment_failed",
        EntryKind::ProofBrought => "proof_brought",
        EntryKind::Redeemed => "redeemed",
        EntryKind::Spent => "spent",
        EntryKind::Denied => "denied",
        EntryKind::ProofExpired => "proof_expired",
        EntryKind::SessionClosed => "session_closed",
    }
}

/// The stable name of an account, without the party.
pub fn account_kind(account: &LedgerAccount) -> &'static str {
    match account {
        LedgerAccount::Wallet => "wallet",
        LedgerAccount::OnChain => "on_chain",
        LedgerAccount::InFlight => "in_flight",
        LedgerAccount::Paid(_) => "paid",
        LedgerAccount::CreditAt(_) => "credit_at",
        LedgerAccount::Carriage(_) => "carriage",
        LedgerAccount::LightningFees => "lightning_fees",
        LedgerAccount::Lost => "lost",
        LedgerAccount::PayerCredit(_) => "payer_credit",
        LedgerAccount::TreasuryOwed => "treasury_owed",
        LedgerAccount::Earned => "earned",
        LedgerAccount::Outside => "outside",
    }
}

/// The name of an account with its party, as findings call it.
pub fn account_name(account: &LedgerAccount) -> String {
    match party_of(account) {
        Some(party) => format!("{} {}", account_kind(account), Id(party)),
        None => account_kind(account).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::identity::NodeId;
    use mesh_core::keys::SessionId;
    use mesh_core::ledger::Entry;

    fn booked(number: u64, entry: Entry) -> EntryJson {
        EntryJson::from(BookedEntry { number, entry })
    }

    fn redeemed() -> EntryJson {
        let payee = NodeId([2; 32]);
        let entry = Entry::new(UnixMillis(1_764_000_000_123), EntryKind::Redeemed)
            .of_session(SessionId([1; 16]))
            .of_payment([3; 32])
            .debit(LedgerAccount::CreditAt(payee), 90)
            .debit(LedgerAccount::Carriage(payee), 10)
            .credit(LedgerAccount::Paid(payee), 100);
        booked(7, entry)
    }

    fn closed() -> EntryJson {
        let mut entry = Entry::new(UnixMillis(5), EntryKind::SessionClosed);
        entry.memo = Some(SessionMemo {
            packets: 1,
            units: 2,
            spent_msat: 3,
            left_msat: 4,
            receipted: 5,
        });
        booked(8, entry)
    }

    /// Spreadsheets and scripts of operators read these columns: they may grow at the end and change nowhere else.
    #[test]
    fn csv_is_the_documented_one() {
        let (session, payment, payee) = ("01".repeat(16), "03".repeat(32), "02".repeat(32));
        let head = format!("7,2025-11-24T16:00:00.123Z,1764000000123,redeemed,{session},{payment}");
        let expected = [
            format!("{head},credit_at,{payee},90,,,,,"),
            format!("{head},carriage,{payee},10,,,,,"),
            format!("{head},paid,{payee},-100,,,,,"),
        ];
        assert_eq!(redeemed().csv_rows(), expected);
        let expected = ["8,1970-01-01T00:00:00.005Z,5,session_closed,,,,,,1,2,3,4,5"];
        assert_eq!(closed().csv_rows(), expected);
        let columns = CSV_HEADER.split(',').count();
        for row in [redeemed(), closed()].iter().flat_map(EntryJson::csv_rows) {
            assert_eq!(row.split(',').count(), columns, "{row}");
        }
    }

    #[test]
    fn json_is_the_documented_one() {
        let (session, payment, payee) = ("01".repeat(16), "03".repeat(32), "02".repeat(32));
        let expected = serde_json::json!({
            "number": 7, "at_unix_ms": 1_764_000_000_123_u64, "kind": "redeemed",
            "session": session, "payment": payment,
            "postings": [
                {"account": "credit_at", "party": payee, "msat": 90},
                {"account": "carriage", "party": payee, "msat": 10},
                {"account": "paid", "party": payee, "msat": -100},
            ],
            "memo": null,
        });
        assert_eq!(serde_json::to_value(redeemed()).unwrap(), expected);
        let memo =
            serde_json::json!({"packets": 1, "units": 2, "spent_msat": 3, "left_msat": 4, "receipted": 5});
        assert_eq!(serde_json::to_value(closed()).unwrap()["memo"], memo);
    }

    #[test]
    fn moments_beyond_the_calendar_are_written_all_the_same() {
        assert_eq!(rfc3339(UnixMillis(u64::MAX)), format!("{}ms", u64::MAX));
    }
}
