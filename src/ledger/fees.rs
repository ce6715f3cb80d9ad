//! What a node earned, spent and owes: the ledger's sums under the names that operators ask for.

use std::collections::BTreeMap;

use mesh_core::ledger::LedgerAccount;
use serde::{Deserialize, Serialize};

use super::books::{Books, Total};

/// The sums of the ledger, each in msat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeesReport {
    /// Income: what packets drew from payers' credit here.
    pub earned_msat: i64,
    /// What payers may still draw on here.
    pub payers_credit_msat: i64,
    /// Credit sold in slices of which this node is the destination.
    pub sold_as_destination_msat: u64,
    /// Credit sold in slices that this node carries on as a router.
    pub sold_as_router_msat: u64,
    /// The treasury's part, as collected.
    pub treasury_collected_msat: u64,
    /// Of it: not yet passed on.
    pub treasury_owed_msat: i64,
    /// Of it: passed on.
    pub treasury_paid_msat: u64,
    /// Payments to payees that went through.
    pub paid_msat: u64,
    /// What Lightning nodes took on top of them and of the treasury's.
    pub lightning_fees_msat: i64,
    /// Payments begun whose outcome is not known.
    pub in_flight_msat: i64,
    /// Payments made and not yet redeemed at their payees.
    pub unredeemed_msat: i64,
    /// Prepaid credit at payees.
    pub credit_at_others_msat: i64,
    /// Spent: what payees carried, and the treasury's part that they collected.
    pub carriage_msat: i64,
    /// Lost: credit denied, payments never redeemed, outputs taken back.
    pub lost_msat: i64,
    /// Payments that failed and were put back.
    pub put_back_msat: u64,
    /// Paid from elsewhere and brought as proof.
    pub brought_msat: i64,
    /// What the mesh put into the wallet, less what it took out.
    pub wallet_msat: i64,
    /// Confirmed outputs that paid this node.
    pub on_chain_msat: i64,
    /// Payments refused since the node started, by reason; none when the node does not run.
    pub refused: Option<BTreeMap<String, u64>>,
}

impl FeesReport {
    /// The report of some books.
    pub fn of(books: &Books) -> Self {
        let own = |account: LedgerAccount| to_i64(books.balance(&account));
        let owed = |account: LedgerAccount| to_i64(-books.balance(&account));
        let all = |counts: fn(&LedgerAccount) -> bool| to_i64(books.sum(counts));
        let total = |total| u64::try_from(books.total(total)).unwrap_or(u64::MAX);
        Self {
            earned_msat: owed(LedgerAccount::Earned),
            payers_credit_msat: to_i64(
                -books.sum(|account| matches!(account, LedgerAccount::PayerCredit(_))),
            ),
            sold_as_destination_msat: total(Total::SoldAsDestination),
            sold_as_router_msat: total(Total::SoldAsRouter),
            treasury_collected_msat: total(Total::TreasuryCollected),
            treasury_owed_msat: owed(LedgerAccount::TreasuryOwed),
            treasury_paid_msat: total(Total::TreasuryPaid),
            paid_msat: total(Total::PaidToPayees),
            lightning_fees_msat: own(LedgerAccount::LightningFees),
            in_flight_msat: own(LedgerAccount::InFlight),
            unredeemed_msat: all(|account| matches!(account, LedgerAccount::Paid(_))),
            credit_at_others_msat: all(|account| matches!(account, LedgerAccount::CreditAt(_))),
            carriage_msat: all(|account| matches!(account, LedgerAccount::Carriage(_))),
            lost_msat: own(LedgerAccount::Lost),
            put_back_msat: total(Total::PutBack),
            brought_msat: owed(LedgerAccount::Outside),
            wallet_msat: own(LedgerAccount::Wallet),
            on_chain_msat: own(LedgerAccount::OnChain),
            refused: None,
        }
    }
}

/// All money there is fits; what does not is a defect that the audit shows.
fn to_i64(msat: i128) -> i64 {
    i64::try_from(msat).unwrap_or(if msat < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::identity::NodeId;
    use mesh_core::ledger::{Entry, EntryKind};
    use mesh_core::time::UnixMillis;

    #[test]
    fn what_is_owed_and_earned_is_shown_without_the_ledgers_sign() {
        let mut books = Books::default();
        let (payer, payee) = (
            LedgerAccount::PayerCredit([1; 32]),
            LedgerAccount::CreditAt(NodeId([2; 32])),
        );
        let entry = |kind| Entry::new(UnixMillis(1), kind);
        for entry in [
            entry(EntryKind::Credited)
                .debit(LedgerAccount::Wallet, 70)
                .credit(payer, 60)
                .credit(LedgerAccount::TreasuryOwed, 10),
            entry(EntryKind::Drawn)
                .debit(payer, 25)
                .credit(LedgerAccount::Earned, 25),
            entry(EntryKind::ProofBrought)
                .debit(payee, 7)
                .credit(LedgerAccount::Outside, 7),
        ] {
            books.add(&entry).unwrap();
        }
        let report = FeesReport::of(&books);
        assert_eq!((report.earned_msat, report.payers_credit_msat), (25, 35));
        assert_eq!(
            (report.treasury_owed_msat, report.sold_as_destination_msat),
            (10, 60)
        );
        assert_eq!((report.credit_at_others_msat, report.brought_msat), (7, 7));
        assert_eq!((report.wallet_msat, report.lost_msat), (70, 0));
    }
}
