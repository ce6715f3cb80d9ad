//! One node's ledger against everything else that it wrote down, and against its wallet.

use std::collections::BTreeMap;

use mesh_core::event::Record;
use mesh_core::identity::NodeId;
use mesh_core::ledger::{Entry, LedgerAccount};
use mesh_core::payer::PurchasedProof;
use mesh_core::payment_proof::PaymentProof;

use crate::audit::Discrepancy;
use crate::node::NodeIndex;
use crate::simulation::Simulation;

/// What a node's records other than its ledger say that its accounts hold, in msat with the ledger's signs.
#[derive(Default)]
struct Held {
    payers: BTreeMap<[u8; 32], i64>,
    credit: BTreeMap<NodeId, i64>,
    proofs: BTreeMap<[u8; 32], PurchasedProof>,
    treasury_owed: i64,
}

impl Simulation {
    /// Every entry balances, and every balance that the node acts on follows from the entries alone.
    pub(crate) fn check_ledger(&self, node: NodeIndex, found: &mut Vec<Discrepancy>) {
        let mut balances: BTreeMap<LedgerAccount, i64> = BTreeMap::new();
        let mut held = Held::default();
        for record in self.disk(node) {
            match record {
                Record::Booked(entry) => post(node, entry, &mut balances, found),
                Record::Account(account) => {
                    held.payers.insert(account.key, -(account.balance_msat as i64));
                }
                Record::Credit { payee, msat } => {
                    held.credit.insert(*payee, *msat as i64);
                }
                Record::Proof(proof) => {
                    held.proofs.insert(proof.payment_hash, proof.clone());
                }
                Record::ProofRedeemed { payment_hash } => {
                    held.proofs.remove(payment_hash);
                }
                Record::TreasuryOwed(msat) => held.treasury_owed = -(*msat as i64),
                _ => {}
            }
        }
        let mut expected = held.into_accounts();
        // Income and spending have no record of their own: the rest has to make them up.
        for (account, msat) in &balances {
            let derived = expected.remove(account).unwrap_or(0);
            let is_held = !matches!(
                account,
                LedgerAccount::Wallet
                    | LedgerAccount::OnChain
                    | LedgerAccount::Carriage(_)
                    | LedgerAccount::LightningFees
                    | LedgerAccount::Lost
                    | LedgerAccount::Earned
                    | LedgerAccount::Outside
            );
            if is_held && derived != *msat {
                found.push(Discrepancy::LedgerDiffers {
                    node,
                    account: *account,
                    ledger: *msat,
                    record: derived,
                });
            }
        }
        for (account, record) in expected.into_iter().filter(|(_, msat)| *msat != 0) {
            found.push(Discrepancy::LedgerDiffers {
                node,
                account,
                ledger: 0,
                record,
            });
        }
        // Here callers who pay by themselves do so out of the same wallet, behind the ledger's back.
        let untold = [LedgerAccount::InFlight, LedgerAccount::Outside];
        let has_wallet = self.nodes[node.0].lightning_key.is_some();
        if has_wallet
            && untold
                .iter()
                .all(|account| balances.get(account).copied().unwrap_or(0) == 0)
        {
            self.check_wallet(node, &balances, found);
        }
    }

    /// With nothing in flight the wallet holds what the ledger says, and what others paid and have not yet redeemed.
    fn check_wallet(
        &self,
        node: NodeIndex,
        balances: &BTreeMap<LedgerAccount, i64>,
        found: &mut Vec<Discrepancy>,
    ) {
        let redeemed: std::collections::BTreeSet<_> = self
            .disk(node)
            .iter()
            .filter_map(|record| match record {
                Record::InvoiceClosed {
                    payment_hash,
                    redeemed_until: Some(_),
                } => Some(*payment_hash),
                _ => None,
            })
            .collect();
        let waiting: u64 = self
            .lightning
            .settled()
            .filter(|payment| payment.payee == node && !redeemed.contains(&payment.payment_hash))
            .map(|payment| payment.amount_msat)
            .sum();
        let poured_in = self.nodes[node.0].spec.balance_msat as i64;
        let wallet = self.lightning.balance_msat(node) as i64 - poured_in - waiting as i64;
        let ledger = balances.get(&LedgerAccount::Wallet).copied().unwrap_or(0);
        if wallet != ledger {
            found.push(Discrepancy::LedgerDiffers {
                node,
                account: LedgerAccount::Wallet,
                ledger,
                record: wallet,
            });
        }
    }
}

fn post(
    node: NodeIndex,
    entry: &Entry,
    balances: &mut BTreeMap<LedgerAccount, i64>,
    found: &mut Vec<Discrepancy>,
) {
    if !entry.is_balanced() {
        found.push(Discrepancy::EntryUnbalanced {
            node,
            entry: Box::new(entry.clone()),
        });
    }
    for posting in &entry.postings {
        *balances.entry(posting.account).or_default() += posting.msat;
    }
}

impl Held {
    fn into_accounts(self) -> BTreeMap<LedgerAccount, i64> {
        let mut accounts: BTreeMap<LedgerAccount, i64> = BTreeMap::new();
        accounts.extend(
            self.payers
                .into_iter()
                .map(|(key, msat)| (LedgerAccount::PayerCredit(key), msat)),
        );
        accounts.extend(
            self.credit
                .into_iter()
                .map(|(payee, msat)| (LedgerAccount::CreditAt(payee), msat)),
        );
        accounts.insert(LedgerAccount::TreasuryOwed, self.treasury_owed);
        for proof in self.proofs.into_values() {
            let (account, msat) = match &proof.proof {
                PaymentProof::Lightning { amount_msats, .. } if proof.is_under_way() => {
                    (LedgerAccount::InFlight, *amount_msats)
                }
                _ => (LedgerAccount::Paid(proof.payee), proof.credit_msat),
            };
            *accounts.entry(account).or_default() += msat as i64;
        }
        accounts
    }
}
