//! What entries add up to: a balance for each account, and totals of what balances do not tell.

use std::collections::BTreeMap;

use mesh_core::ledger::{Entry, EntryKind, LedgerAccount};

/// A sum that no balance tells: what came in or went out by one door since the first entry, in msat. It only grows.
///
/// The number is its key in the database and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Total {
    /// Credit sold in slices of which this node is the destination: it collected the treasury's part with them.
    SoldAsDestination = 1,
    /// Credit sold in slices without a treasury's part: those that this node carries on as a router.
    SoldAsRouter = 2,
    /// The treasury's part, as it was collected.
    TreasuryCollected = 3,
    /// The treasury's part, as it was passed on.
    TreasuryPaid = 4,
    /// Payments to payees that went through, without Lightning fees.
    PaidToPayees = 5,
    /// Payments, the treasury's included, that certainly did not go through and were put back.
    PutBack = 6,
}

impl Total {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::SoldAsDestination,
        Self::SoldAsRouter,
        Self::TreasuryCollected,
        Self::TreasuryPaid,
        Self::PaidToPayees,
        Self::PutBack,
    ];

    /// Its key in the database.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The total with this key; none for one that this version does not know.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|total| total.number() == number)
    }

    /// Its name in JSON and in findings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SoldAsDestination => "sold_as_destination",
            Self::SoldAsRouter => "sold_as_router",
            Self::TreasuryCollected => "treasury_collected",
            Self::TreasuryPaid => "treasury_paid",
            Self::PaidToPayees => "paid_to_payees",
            Self::PutBack => "put_back",
        }
    }
}

/// What an entry adds to the totals.
pub fn totals_of(entry: &Entry) -> Vec<(Total, u64)> {
    let sum = |counts: fn(&LedgerAccount) -> bool, sign: i64| -> u64 {
        let postings = entry.postings.iter().filter(|posting| counts(&posting.account));
        let of_sign = postings.filter(|posting| posting.msat.signum() == sign);
        of_sign.fold(0, |sum: u64, posting| {
            sum.saturating_add(posting.msat.unsigned_abs())
        })
    };
    let credit = |account: &LedgerAccount| matches!(account, LedgerAccount::PayerCredit(_));
    let owed = |account: &LedgerAccount| matches!(account, LedgerAccount::TreasuryOwed);
    let in_flight = |account: &LedgerAccount| matches!(account, LedgerAccount::InFlight);
    let mut totals = Vec::new();
    match entry.kind {
        EntryKind::Credited => {
            let treasury = sum(owed, -1);
            let role = match treasury {
                0 => Total::SoldAsRouter,
                _ => Total::SoldAsDestination,
            };
            totals.extend([(role, sum(credit, -1)), (Total::TreasuryCollected, treasury)]);
        }
        EntryKind::TreasuryPaid => totals.push((Total::TreasuryPaid, sum(owed, 1))),
        EntryKind::PaymentMade => totals.push((Total::PaidToPayees, sum(in_flight, -1))),
        EntryKind::PaymentFailed => totals.push((Total::PutBack, sum(in_flight, -1))),
        _ => {}
    }
    totals.retain(|(_, msat)| *msat > 0);
    totals
}

/// Why an entry cannot be booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unbookable {
    /// Its postings do not sum to zero, or name an account twice.
    #[error("its postings do not sum to zero, or name an account twice")]
    Unbalanced,
    /// A balance would leave what 128 bits hold.
    #[error("a balance would become larger than all money there is")]
    TooLarge,
}

/// The sums of some entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// The balance of each account that is not zero, in msat, with the sign of the
    /// [chart of accounts](mesh_core::ledger).
    pub balances: BTreeMap<LedgerAccount, i128>,
    /// The totals that are not zero, in msat.
    pub totals: BTreeMap<Total, u128>,
}

impl Books {
    /// Adds an entry; one that is refused changes nothing.
    ///
    /// # Errors
    /// [`Unbookable`].
    pub fn add(&mut self, entry: &Entry) -> Result<(), Unbookable> {
        if !entry.is_balanced() {
            return Err(Unbookable::Unbalanced);
        }
        let mut changed = Vec::with_capacity(entry.postings.len());
        for posting in &entry.postings {
            let balance = self.balance(&posting.account);
            let balance = balance.checked_add(i128::from(posting.msat));
            changed.push((posting.account, balance.ok_or(Unbookable::TooLarge)?));
        }
        for (account, balance) in changed {
            if balance == 0 {
                self.balances.remove(&account);
            } else {
                self.balances.insert(account, balance);
            }
        }
        for (total, msat) in totals_of(entry) {
            let sum = self.totals.entry(total).or_default();
            *sum = sum.saturating_add(u128::from(msat));
        }
        Ok(())
    }

    /// The balance of an account, in msat.
    pub fn balance(&self, account: &LedgerAccount) -> i128 {
        self.balances.get(account).copied().unwrap_or(0)
    }

    /// A total, in msat.
    pub fn total(&self, total: Total) -> u128 {
        self.totals.get(&total).copied().unwrap_or(0)
    }

    /// The sum over all accounts of which `counts` says so, in msat.
    pub fn sum(&self, counts: impl Fn(&LedgerAccount) -> bool) -> i128 {
        let counted = self.balances.iter().filter(|(account, _)| counts(account));
        counted.fold(0, |sum: i128, (_, balance)| sum.saturating_add(*balance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::identity::NodeId;
    use mesh_core::time::UnixMillis;

    const PAYER: LedgerAccount = LedgerAccount::PayerCredit([1; 32]);

    fn entry(kind: EntryKind) -> Entry {
        Entry::new(UnixMillis(1), kind)
    }

    #[test]
    fn unbalanced_entry_changes_nothing() {
        let mut books = Books::default();
        let one_sided = entry(EntryKind::Credited).debit(LedgerAccount::Wallet, 5);
        assert_eq!(books.add(&one_sided), Err(Unbookable::Unbalanced));
        assert_eq!(books, Books::default());
    }

    #[test]
    fn account_that_is_empty_again_is_not_listed() {
        let mut books = Books::default();
        let sold = entry(EntryKind::Credited)
            .debit(LedgerAccount::Wallet, 5)
            .credit(PAYER, 5);
        let drawn = entry(EntryKind::Drawn)
            .debit(PAYER, 5)
            .credit(LedgerAccount::Earned, 5);
        books.add(&sold).unwrap();
        books.add(&drawn).unwrap();
        let expected = [(LedgerAccount::Wallet, 5), (LedgerAccount::Earned, -5)];
        assert_eq!(books.balances, BTreeMap::from(expected));
    }

    #[test]
    fn totals_tell_destination_from_router_and_what_the_treasury_got() {
        let mut books = Books::default();
        let payee = LedgerAccount::Paid(NodeId([9; 32]));
        let entries = [
            entry(EntryKind::Credited)
                .debit(LedgerAccount::Wallet, 70)
                .credit(PAYER, 60)
                .credit(LedgerAccount::TreasuryOwed, 10),
            entry(EntryKind::Credited)
                .debit(LedgerAccount::Wallet, 15)
                .credit(PAYER, 15),
            entry(EntryKind::TreasuryPaid)
                .debit(LedgerAccount::TreasuryOwed, 8)
                .credit(LedgerAccount::InFlight, 8),
            entry(EntryKind::PaymentMade)
                .debit(payee, 30)
                .debit(LedgerAccount::LightningFees, 1)
                .credit(LedgerAccount::InFlight, 30)
                .credit(LedgerAccount::Wallet, 1),
            entry(EntryKind::PaymentFailed)
                .debit(LedgerAccount::Wallet, 4)
                .credit(LedgerAccount::InFlight, 4),
        ];
        for entry in &entries {
            books.add(entry).unwrap();
        }
        let totals = Total::ALL.map(|total| books.total(total));
        assert_eq!(totals, [60, 15, 10, 8, 30, 4]);
        assert_eq!(books.sum(|_| true), 0);
    }

    #[test]
    fn keys_of_totals_come_back() {
        for total in Total::ALL {
            assert_eq!(Total::from_number(total.number()), Some(total));
        }
        assert_eq!(Total::from_number(0), None);
    }
}
