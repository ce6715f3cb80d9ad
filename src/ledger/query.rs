//! How the ledger is asked: by time, session and the other party, a page at a time.

use std::fmt;
use std::str::FromStr;

use mesh_core::ledger::{Entry, LedgerAccount};
use mesh_core::time::UnixMillis;

/// Most entries on one page.
pub const MAX_LEDGER_PAGE: usize = 1000;

/// Most entries that are looked at for one page: a question that matches few of many is answered over several pages
/// and never holds up anybody for long.
pub const MAX_LOOKED_AT: usize = 20_000;

/// Bytes that travel and are shown as hexadecimal digits: a session, an account key, a payment hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Id<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Text that is not the hexadecimal digits asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} hexadecimal digits are wanted, as the ledger shows them with --full-ids or --json", 2 * .0)]
pub struct NotHex(usize);

impl<const N: usize> FromStr for Id<N> {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| NotHex(N))?;
        Ok(Self(bytes))
    }
}

/// In which order entries come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were booked.
    #[default]
    OldestFirst,
    /// The other way round.
    NewestFirst,
}

/// Which entries are wanted. All conditions must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerQuery {
    /// Booked at or after this moment.
    pub since: Option<UnixMillis>,
    /// Of this session.
    pub session: Option<[u8; 16]>,
    /// With a posting on an account of this party: a payee's node id, or a payer's account key.
    pub party: Option<[u8; 32]>,
    /// In which order.
    pub order: Order,
    /// Behind this entry, in that order: [`LedgerPage::next`] of the page before.
    pub beyond: Option<u64>,
    /// Most entries wanted; at most [`MAX_LEDGER_PAGE`] are given.
    pub limit: usize,
}

impl LedgerQuery {
    /// Whether an entry is wanted.
    pub fn wants(&self, entry: &Entry) -> bool {
        let of_party = |party| entry.postings.iter().any(|p| party_of(&p.account) == Some(party));
        self.since.is_none_or(|since| entry.at >= since)
            && self
                .session
                .is_none_or(|session| entry.session.is_some_and(|of| of.0 == session))
            && self.party.is_none_or(of_party)
    }
}

/// An entry with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookedEntry {
    /// Entries are numbered from 1, without gaps.
    pub number: u64,
    /// The entry.
    pub entry: Entry,
}

/// Some entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerPage {
    /// The entries, in the order asked for.
    pub entries: Vec<BookedEntry>,
    /// Where the next page begins; none when there is nothing more. A page may be short, even empty, and yet not the
    /// last.
    pub next: Option<u64>,
}

/// Whose account it is, if it is one of many: the payee, or the payer's account key.
pub fn party_of(account: &LedgerAccount) -> Option<[u8; 32]> {
    match account {
        LedgerAccount::Paid(node) | LedgerAccount::CreditAt(node) | LedgerAccount::Carriage(node) => {
            Some(node.0)
        }
        LedgerAccount::PayerCredit(key) => Some(*key),
        LedgerAccount::Wallet
        | LedgerAccount::OnChain
        | LedgerAccount::InFlight
        | LedgerAccount::LightningFees
        | LedgerAccount::Lost
        | LedgerAccount::TreasuryOwed
        | LedgerAccount::Earned
        | LedgerAccount::Outside => None,
    }
}
