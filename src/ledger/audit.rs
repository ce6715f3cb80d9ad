//! The audit: every figure is derived again from all entries and compared with what the node goes by.
//!
//! One snapshot of the database is read from the first entry to the last. The audit itself trusts nothing but the
//! entries; what differs from them is a finding, in one line: what, how much, what to do. It changes nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mesh_core::identity::NodeId;
use mesh_core::ledger::{Entry, LedgerAccount};
use mesh_core::payer::PurchasedProof;
use mesh_core::payment_proof::PaymentProof;
use mesh_core::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::books::{Books, Total, Unbookable};
use super::export::account_name;
use super::query::party_of;
use super::wallet_check::{Claim, claim_of};
use crate::store::{ActedOn, IndexRows, Snapshot};

/// Most findings that are listed; more are counted.
pub const MAX_FINDINGS: usize = 1000;

/// Most payments that are compared with the wallet: the newest.
pub const MAX_COMPARED: usize = 1000;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// For programs: which kind of finding.
    pub code: String,
    /// What, and how much.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.what, self.advice)
    }
}

const ALTERED: &str =
    "stop the node and keep a copy of the database: it was altered from outside, or the disk is failing";
const REPORT: &str =
    "a defect of this program: please report it with the output of `blvm-mesh ledger --json`";

/// What the audit of the books found, before the wallet was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audited {
    /// Entries read.
    pub entries: u64,
    /// When the first was booked.
    pub first_at: Option<UnixMillis>,
    /// When the last was booked.
    pub last_at: Option<UnixMillis>,
    /// What all entries add up to.
    pub books: Books,
    /// What is not as it should be; at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more_findings: u64,
    /// What the newest payments should look like in the wallet, oldest first.
    pub claims: VecDeque<(u64, [u8; 32], Claim)>,
    /// Payments in all entries.
    pub payments: u64,
}

impl Audited {
    /// Adds a finding.
    pub fn find(&mut self, code: &str, what: String, advice: &str) {
        if self.findings.len() >= MAX_FINDINGS {
            self.more_findings += 1;
            return;
        }
        self.findings.push(Finding {
            code: code.to_owned(),
            what,
            advice: advice.to_owned(),
        });
    }
}

/// Audits the books.
///
/// # Errors
/// What the database says; that it cannot be read at all is no finding.
pub fn audit(snapshot: &Snapshot) -> Result<Audited, redb::Error> {
    let mut audited = Audited::default();
    let rows = derive(snapshot, &mut audited)?;
    compare_sums(&mut audited, &snapshot.books()?);
    compare_index(&mut audited, rows, snapshot.index_rows()?);
    compare_records(&mut audited, &snapshot.acted_on()?);
    for (number, entry) in snapshot.suspects()? {
        let shown = entry.map_or_else(|| "unreadable".to_owned(), |entry| format!("{entry:?}"));
        audited.find(
            "suspect_entry",
            format!("entry {number} of those put apart does not balance: {shown}"),
            REPORT,
        );
    }
    Ok(audited)
}

/// Reads all entries; the rows that the indices should have.
fn derive(snapshot: &Snapshot, audited: &mut Audited) -> Result<IndexRows, redb::Error> {
    let mut rows = IndexRows::default();
    let mut expected = 1;
    snapshot.for_each_entry(|number, entry| {
        if number != expected {
            let (first, last) = (expected, number.saturating_sub(1));
            audited.find("missing_entry", missing(first, last), ALTERED);
        }
        expected = number.saturating_add(1);
        audited.entries += 1;
        match entry {
            Ok(entry) => take(audited, number, &entry, &mut rows),
            Err(why) => {
                let what = format!("entry {number} cannot be read ({why})");
                audited.find("unreadable_entry", what, ALTERED);
            }
        }
    })?;
    let sum = audited.books.sum(|_| true);
    if sum != 0 {
        let what = format!("all accounts together hold {sum} msat instead of 0");
        audited.find("not_conserved", what, ALTERED);
    }
    Ok(rows)
}

fn missing(first: u64, last: u64) -> String {
    match last.saturating_sub(first) {
        0 => format!("entry {first} is missing"),
        more => format!("entries {first} to {last} are missing, {} in all", more + 1),
    }
}

fn take(audited: &mut Audited, number: u64, entry: &Entry, rows: &mut IndexRows) {
    if audited.last_at.is_some_and(|last| entry.at < last) {
        let what = format!("entry {number} is booked at an earlier time than the one before");
        audited.find("time_runs_backwards", what, ALTERED);
    }
    audited.first_at.get_or_insert(entry.at);
    audited.last_at = Some(entry.at);
    match audited.books.add(entry) {
        Ok(()) => {}
        Err(why @ Unbookable::Unbalanced) => {
            let sum: i128 = entry.postings.iter().map(|p| i128::from(p.msat)).sum();
            let what = format!("entry {number} sums to {sum} msat ({why})");
            audited.find("unbalanced_entry", what, ALTERED);
        }
        Err(why @ Unbookable::TooLarge) => {
            audited.find("unbalanced_entry", format!("entry {number}: {why}"), ALTERED);
        }
    }
    rows.by_session += u64::from(entry.session.is_some());
    let parties: BTreeSet<_> = entry
        .postings
        .iter()
        .filter_map(|p| party_of(&p.account))
        .collect();
    rows.by_party += parties.len() as u64;
    if let (Some(payment), Some(claim)) = (entry.payment, claim_of(entry)) {
        audited.payments += u64::from(claim != Claim::Begun);
        if audited.claims.len() >= MAX_COMPARED {
            audited.claims.pop_front();
        }
        audited.claims.push_back((number, payment, claim));
    }
}

fn compare_sums(audited: &mut Audited, running: &Books) {
    let accounts: BTreeSet<LedgerAccount> = running.balances.keys().copied().collect();
    let accounts: Vec<_> = accounts
        .union(&audited.books.balances.keys().copied().collect())
        .copied()
        .collect();
    for account in accounts {
        let (kept, derived) = (running.balance(&account), audited.books.balance(&account));
        if kept != derived {
            let what = format!(
                "the running balance of {} is {kept} msat, its entries sum to {derived} msat",
                account_name(&account)
            );
            audited.find("balance_differs", what, ALTERED);
        }
    }
    for total in Total::ALL {
        let (kept, derived) = (running.total(total), audited.books.total(total));
        if kept != derived {
            let what = format!(
                "the running total {} is {kept} msat, the entries say {derived} msat",
                total.as_str()
            );
            audited.find("total_differs", what, ALTERED);
        }
    }
}

fn compare_index(audited: &mut Audited, expected: IndexRows, found: IndexRows) {
    if expected != found {
        let what = format!(
            "the indices have {} and {} rows (by session, by party) instead of {} and {}: questions with --session, \
             --payee or --payer miss entries",
            found.by_session, found.by_party, expected.by_session, expected.by_party
        );
        audited.find("index_differs", what, ALTERED);
    }
}

/// The records that the node acts on say what it owes and owns; the entries must say the same.
fn compare_records(audited: &mut Audited, acted_on: &ActedOn) {
    let books = audited.books.clone();
    let mut accounts: BTreeMap<[u8; 32], i128> = BTreeMap::new();
    let mut credit: BTreeMap<NodeId, i128> = BTreeMap::new();
    let mut paid: BTreeMap<NodeId, i128> = BTreeMap::new();
    for (account, balance) in &books.balances {
        match account {
            LedgerAccount::PayerCredit(key) => accounts.insert(*key, -balance),
            LedgerAccount::CreditAt(payee) => credit.insert(*payee, *balance),
            LedgerAccount::Paid(payee) => paid.insert(*payee, *balance),
            _ => None,
        };
    }
    let held = |msat: &u64| i128::from(*msat);
    let kept = acted_on.accounts.iter().map(|(key, msat)| (*key, held(msat)));
    let name = |key: &[u8; 32]| format!("the account of payer {}", hex::encode(key));
    compare(audited, "account_differs", kept, accounts, name);
    let kept = acted_on.credit.iter().map(|(payee, msat)| (*payee, held(msat)));
    compare(audited, "credit_differs", kept, credit, |payee| {
        format!("this node's credit at payee {payee}")
    });
    let (under_way, unredeemed): (Vec<_>, Vec<_>) =
        acted_on.proofs.iter().partition(|proof| proof.is_under_way());
    let mut kept: BTreeMap<NodeId, i128> = BTreeMap::new();
    for proof in unredeemed {
        *kept.entry(proof.payee).or_default() += i128::from(proof.credit_msat);
    }
    compare(audited, "payment_differs", kept.into_iter(), paid, |payee| {
        format!("what was paid to payee {payee} and is not redeemed")
    });
    let shares: i128 = under_way.into_iter().map(amount).sum();
    let in_flight = shares + i128::from(acted_on.treasury_begun_msat);
    let sums = [
        (
            "what is in flight",
            in_flight,
            books.balance(&LedgerAccount::InFlight),
        ),
        (
            "what is owed to the treasury",
            i128::from(acted_on.treasury_owed_msat),
            -books.balance(&LedgerAccount::TreasuryOwed),
        ),
    ];
    for (name, kept, derived) in sums {
        if kept != derived {
            differs(audited, "record_differs", name, kept, derived);
        }
    }
}

fn compare<K: Ord + Copy>(
    audited: &mut Audited,
    code: &str,
    kept: impl Iterator<Item = (K, i128)>,
    mut derived: BTreeMap<K, i128>,
    name: impl Fn(&K) -> String,
) {
    for (key, kept) in kept {
        let derived = derived.remove(&key).unwrap_or(0);
        if kept != derived {
            differs(audited, code, &name(&key), kept, derived);
        }
    }
    for (key, derived) in derived {
        differs(audited, code, &name(&key), 0, derived);
    }
}

fn differs(audited: &mut Audited, code: &str, name: &str, kept: i128, derived: i128) {
    let what = format!(
        "{name} is {kept} msat in the records that the node acts on and {derived} msat by the ledger, {} msat apart",
        kept.abs_diff(derived)
    );
    audited.find(code, what, ALTERED);
}

/// What a payment under way moves, in msat: credit and the treasury's part.
fn amount(proof: &PurchasedProof) -> i128 {
    match &proof.proof {
        PaymentProof::Lightning { amount_msats, .. } => i128::from(*amount_msats),
        // Payments by this node's wallet are Lightning payments; whatever else is shown was paid from elsewhere.
        _ => i128::from(proof.credit_msat),
    }
}
