//! The words of the ledger: double entry, append-only, in millisatoshi.
//!
//! Every movement of money is one [`Entry`] whose postings sum to zero. The core makes it together with the records that
//! the movement changes ([`Record::Booked`](crate::event::Record::Booked)), so both become durable at once or not at all,
//! and every balance this node acts on can be derived again from the entries alone.
//!
//! A posting is positive when it adds to what this node owns or has spent, and negative when it adds to what this node
//! owes or has earned:
//!
//! | account | grows by | means |
//! |---|---|---|
//! | `Wallet` | + | what the mesh put into the wallet, less what it took out |
//! | `OnChain` | + | confirmed outputs that paid this node |
//! | `InFlight` | + | payments begun whose outcome is not known |
//! | `Paid` | + | payments made to a payee and not yet redeemed there |
//! | `CreditAt` | + | this node's prepaid credit at a payee |
//! | `Carriage` | + | spent: packets carried by a payee, and the treasury's part that it collected |
//! | `LightningFees` | + | spent: what Lightning nodes took on the way |
//! | `Lost` | + | credit denied, payments never redeemed in time, outputs taken back by a reorganisation |
//! | `PayerCredit` | − | what a payer may still draw on at this node |
//! | `TreasuryOwed` | − | the treasury's part collected and not yet passed on |
//! | `Earned` | − | this node's income |
//! | `Outside` | − | money that somebody on this machine paid from elsewhere and brought as proof |

use serde::{Deserialize, Serialize};

use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::time::UnixMillis;

/// An account of the ledger; the [module](self) says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LedgerAccount {
    /// What the mesh put into the wallet, less what it took out.
    Wallet,
    /// Confirmed outputs that paid this node.
    OnChain,
    /// Payments begun whose outcome is not known.
    InFlight,
    /// Payments made to this payee and not yet redeemed there.
    Paid(NodeId),
    /// Prepaid credit at this payee.
    CreditAt(NodeId),
    /// Spent on what this payee carried or collected.
    Carriage(NodeId),
    /// Spent on Lightning fees.
    LightningFees,
    /// Lost.
    Lost,
    /// What the payer with this account key may still draw on.
    PayerCredit([u8; 32]),
    /// Owed to the treasury.
    TreasuryOwed,
    /// Income.
    Earned,
    /// Paid from elsewhere.
    Outside,
}

/// Why money moved, or what ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// As payee: a proof was redeemed for credit.
    Credited,
    /// As payee: packets drew credit.
    Drawn,
    /// As payee: the treasury was paid, or the payment to it failed and was put back.
    TreasuryPaid,
    /// As payee: a reorganisation took an honoured output back.
    Revoked,
    /// As payer: a payment was handed to the wallet.
    PaymentBegun,
    /// As payer: it went through.
    PaymentMade,
    /// As payer: it certainly did not.
    PaymentFailed,
    /// As payer: somebody on this machine brought a proof of a payment of his own.
    ProofBrought,
    /// As payer: the payee credited a payment.
    Redeemed,
    /// As payer: packets spent credit.
    Spent,
    /// As payer: the payee holds less credit than this node believed.
    Denied,
    /// As payer: a payment was not redeemed in time.
    ProofExpired,
    /// A session ended; moves nothing, says what was left.
    SessionClosed,
}

/// One movement on one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// The account.
    pub account: LedgerAccount,
    /// How much, in msat, with the sign that the [module](self) explains.
    pub msat: i64,
}

/// What a session that ended had done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMemo {
    /// Packets: drawn for at a hop, sent at the source.
    pub packets: u64,
    /// Units of them.
    pub units: u64,
    /// What they cost at this node (at a hop) or in all (at the source), in msat.
    pub spent_msat: u64,
    /// What the account that it drew on still holds (at a hop), or all accounts along its route together (at the
    /// source), in msat: it stays the payer's.
    pub left_msat: u64,
    /// Packets that the destination's newest receipt covers (at the source; 0 at routers).
    pub receipted: u64,
}

/// One entry. Its postings sum to zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was booked.
    pub at: UnixMillis,
    /// Why.
    pub kind: EntryKind,
    /// The session that it belongs to, where it belongs to one.
    pub session: Option<SessionId>,
    /// The Lightning payment or outpoint that it belongs to, where it belongs to one.
    pub payment: Option<[u8; 32]>,
    /// What moved; never the same account twice.
    pub postings: Vec<Posting>,
    /// What a session that ended had done.
    pub memo: Option<SessionMemo>,
}

impl Entry {
    /// An entry without postings; add them with [`Entry::debit`] and [`Entry::credit`].
    pub fn new(at: UnixMillis, kind: EntryKind) -> Self {
        Self {
            at,
            kind,
            session: None,
            payment: None,
            postings: Vec::new(),
            memo: None,
        }
    }

    /// The entry with one more posting. One of nothing is left out. All money there is fits 63 bits; what does not is cut
    /// to them, and the entry is then refused as unbalanced instead of wrapping.
    #[must_use]
    pub fn debit(self, account: LedgerAccount, msat: u64) -> Self {
        self.post(account, i64::try_from(msat).unwrap_or(i64::MAX))
    }

    /// As [`Entry::debit`], on the other side.
    #[must_use]
    pub fn credit(self, account: LedgerAccount, msat: u64) -> Self {
        self.post(account, -i64::try_from(msat).unwrap_or(i64::MAX))
    }

    /// The entry of a session.
    #[must_use]
    pub fn of_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// The entry of a payment.
    #[must_use]
    pub fn of_payment(mut self, payment: [u8; 32]) -> Self {
        self.payment = Some(payment);
        self
    }

    /// Whether the postings sum to zero, each account once.
    pub fn is_balanced(&self) -> bool {
        let sum: i128 = self.postings.iter().map(|posting| i128::from(posting.msat)).sum();
        let accounts: std::collections::BTreeSet<_> =
            self.postings.iter().map(|posting| posting.account).collect();
        sum == 0 && accounts.len() == self.postings.len()
    }

    fn post(mut self, account: LedgerAccount, msat: i64) -> Self {
        if msat == 0 {
            return self;
        }
        match self
            .postings
            .iter_mut()
            .find(|posting| posting.account == account)
        {
            Some(posting) => posting.msat = posting.msat.saturating_add(msat),
            None => self.postings.push(Posting { account, msat }),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_sided_entry_is_not_balanced() {
        let entry = Entry::new(UnixMillis(1), EntryKind::Drawn).credit(LedgerAccount::Earned, 5);
        assert!(!entry.is_balanced());
        assert!(entry.debit(LedgerAccount::PayerCredit([1; 32]), 5).is_balanced());
    }

    #[test]
    fn more_than_all_money_is_refused_instead_of_wrapped() {
        let entry = Entry::new(UnixMillis(1), EntryKind::Drawn)
            .debit(LedgerAccount::Wallet, u64::MAX)
            .credit(LedgerAccount::Earned, u64::MAX - 1)
            .credit(LedgerAccount::TreasuryOwed, 1);
        assert!(!entry.is_balanced());
    }

    proptest! {
        #[test]
        fn what_is_debited_and_credited_alike_balances(moves in proptest::collection::vec(0u64..=1 << 50, 0..8)) {
            let mut entry = Entry::new(UnixMillis(1), EntryKind::Credited);
            for msat in &moves {
                entry = entry.debit(LedgerAccount::Wallet, *msat).credit(LedgerAccount::TreasuryOwed, *msat);
            }
            prop_assert!(entry.is_balanced());
        }
    }
}
