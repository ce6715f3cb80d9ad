//! The auditor: each node's books against its wallet, and everybody's books against everybody else's.

use std::collections::BTreeMap;

use blvm_mesh::admin::{LedgerParams, LedgerReply, Request};
use blvm_mesh::ledger::{AuditReport, EntryJson};
use mesh_core::limits::CRASH_LOSS_MSAT;

use super::NODES;
use crate::common::lightning::{Node, until};

/// What a payee booked of one payment.
struct Credited {
    payee: usize,
    account: String,
    msat: i64,
    treasury_msat: i64,
}

/// What a payer booked of one payment.
struct Made {
    payer: usize,
    payee: String,
    msat: i64,
    treasury_msat: i64,
}

/// All books, put together.
pub struct Books {
    credited: BTreeMap<String, Credited>,
    made: BTreeMap<String, Made>,
    /// Per payer and payee, in msat: what the payer believes to hold there, and what the payee holds for it.
    believed: BTreeMap<(usize, usize), i64>,
    held: BTreeMap<(usize, usize), i64>,
    /// Per node, in msat.
    lost: [i64; NODES],
    spent_at: [i64; NODES],
    drawn_at: [i64; NODES],
}

/// What of an entry moved on accounts of this kind.
fn moved(entry: &EntryJson, account: &str) -> i64 {
    let postings = entry.postings.iter().filter(|posting| posting.account == account);
    postings.map(|posting| posting.msat).sum()
}

fn party(entry: &EntryJson, account: &str) -> Option<String> {
    let mut postings = entry.postings.iter();
    postings.find(|posting| posting.account == account)?.party.clone()
}

/// Waits until no payment is undecided in anybody's ledger, then lets each node audit itself.
pub async fn audit_each(nodes: &[Node]) {
    for node in nodes {
        until(
            &format!("the payments of {} to be decided", node.name),
            async || {
                let entries = ledger(node).await;
                entries.iter().map(|entry| moved(entry, "in_flight")).sum::<i64>() == 0
            },
        )
        .await;
        let report: AuditReport = node.call(&Request::Audit).await;
        let wallet = report.wallet.as_ref().unwrap();
        println!(
            "{}: {} entries, {} payments compared",
            node.name, report.entries, wallet.compared
        );
        assert!(report.is_clean(), "{}: {:#?}", node.name, report.findings);
    }
}

async fn ledger(node: &Node) -> Vec<EntryJson> {
    let mut entries = Vec::new();
    let mut params = LedgerParams::default();
    loop {
        let page: LedgerReply = node.call(&Request::Ledger(params.clone())).await;
        entries.extend(page.entries);
        match page.next {
            Some(next) => params.beyond = Some(next),
            None => return entries,
        }
    }
}

impl Books {
    pub async fn read(nodes: &[Node]) -> Self {
        let mut books = Self {
            credited: BTreeMap::new(),
            made: BTreeMap::new(),
            believed: BTreeMap::new(),
            held: BTreeMap::new(),
            lost: [0; NODES],
            spent_at: [0; NODES],
            drawn_at: [0; NODES],
        };
        let mut ledgers = Vec::new();
        for node in nodes {
            ledgers.push(ledger(node).await);
        }
        let names: BTreeMap<String, usize> = (0..)
            .zip(nodes)
            .map(|(i, node)| (node.id.to_string(), i))
            .collect();
        for (number, entries) in ledgers.iter().enumerate() {
            for entry in entries {
                books.take(number, entry, &names);
            }
        }
        // An account key is the payer's whose payment it was credited with.
        let owners: BTreeMap<(usize, String), usize> = books
            .credited
            .iter()
            .map(|(payment, credited)| {
                let made = books.made.get(payment).expect("who was credited has paid");
                ((credited.payee, credited.account.clone()), made.payer)
            })
            .collect();
        for (number, entries) in ledgers.iter().enumerate() {
            for posting in entries.iter().flat_map(|entry| &entry.postings) {
                if posting.account == "payer_credit" {
                    let payer = owners[&(number, posting.party.clone().unwrap())];
                    *books.held.entry((payer, number)).or_default() -= posting.msat;
                }
            }
        }
        books
    }

    fn take(&mut self, node: usize, entry: &EntryJson, names: &BTreeMap<String, usize>) {
        assert_eq!(
            entry.postings.iter().map(|posting| posting.msat).sum::<i64>(),
            0,
            "{entry:?}"
        );
        self.lost[node] += moved(entry, "lost");
        for posting in &entry.postings {
            if posting.account == "credit_at" {
                let payee = names[posting.party.as_ref().unwrap()];
                *self.believed.entry((node, payee)).or_default() += posting.msat;
                if entry.kind == "spent" {
                    self.spent_at[payee] -= posting.msat;
                }
            }
        }
        match entry.kind.as_str() {
            "drawn" => self.drawn_at[node] += moved(entry, "payer_credit"),
            "credited" => {
                let credited = Credited {
                    payee: node,
                    account: party(entry, "payer_credit").unwrap(),
                    msat: moved(entry, "wallet"),
                    treasury_msat: -moved(entry, "treasury_owed"),
                };
                let payment = entry.payment.clone().unwrap();
                let before = self.credited.insert(payment.clone(), credited);
                assert!(before.is_none(), "payment {payment} was honoured twice");
            }
            "payment_made" => {
                let made = Made {
                    payer: node,
                    payee: party(entry, "paid").unwrap(),
                    msat: moved(entry, "paid") + moved(entry, "carriage"),
                    treasury_msat: moved(entry, "carriage"),
                };
                let payment = entry.payment.clone().unwrap();
                assert!(
                    self.made.insert(payment.clone(), made).is_none(),
                    "{payment} was booked twice"
                );
            }
            _ => {}
        }
    }

    /// What a payee booked of a payment is what its payer booked, and every other payment is still good for credit.
    pub async fn check_payments(&self, nodes: &[Node]) {
        let mut received = [0; NODES];
        let mut paid = [0; NODES];
        for (payment, credited) in &self.credited {
            let made = &self.made[payment];
            assert_eq!(
                (made.msat, made.treasury_msat),
                (credited.msat, credited.treasury_msat),
                "payment {payment}"
            );
            assert_eq!(
                made.payee,
                nodes[credited.payee].id.to_string(),
                "payment {payment}"
            );
        }
        let mut not_shown = 0;
        for (payment, made) in &self.made {
            let payee = nodes
                .iter()
                .position(|node| node.id.to_string() == made.payee)
                .unwrap();
            received[payee] += made.msat;
            paid[made.payer] += made.msat;
            not_shown += if self.credited.contains_key(payment) {
                0
            } else {
                made.msat
            };
        }
        for (number, node) in nodes.iter().enumerate() {
            let wallet = node.balance().await.payments.unwrap();
            assert_eq!(wallet.paid_msat, paid[number] as u64, "paid by {}", node.name);
            assert_eq!(
                wallet.received_msat, received[number] as u64,
                "received by {}",
                node.name
            );
        }
        println!(
            "{} payments made, {} credited, each once; {not_shown} msat paid and not shown to the payee yet",
            self.made.len(),
            self.credited.len()
        );
    }

    /// Whatever a payer believes to hold, the payee holds for it, but for what the payer's own crashes made it forget that
    /// it spent. And what payees carried unpaid stays within what their crashes may cost.
    pub fn check_credit(&self, deaths: &[usize; NODES], packets_lost_msat: i64) {
        let crash_loss = |node: usize| CRASH_LOSS_MSAT as i64 * deaths[node] as i64;
        for (&(payer, payee), believed) in &self.believed {
            let held = self.held.get(&(payer, payee)).copied().unwrap_or(0);
            let forgotten = crash_loss(payer);
            assert!(
                held + forgotten >= *believed,
                "node {payer} holds {believed} msat at node {payee}, which says {held}"
            );
        }
        for (node, crashes) in deaths.iter().enumerate() {
            assert!(
                self.lost[node] <= crash_loss(node),
                "node {node} was denied {} msat of credit, more than its {crashes} crashes explain",
                self.lost[node]
            );
            let unpaid = self.spent_at[node] - self.drawn_at[node];
            assert!(
                unpaid <= crash_loss(node) + packets_lost_msat,
                "node {node} carried {unpaid} msat without booking them in {crashes} crashes"
            );
        }
        println!(
            "denied {:?} msat; spent at {:?}, drawn {:?} msat",
            self.lost, self.spent_at, self.drawn_at
        );
    }

    /// 60 % to the destination, 30 % to the routers in equal parts, 10 % to the treasury, rounded as the rules say.
    pub fn check_shares(&self) {
        // A destination collects the treasury's part with its own, so from the two follows the whole price.
        let mut pools = std::collections::BTreeSet::new();
        let (mut alone, mut with_routers) = (0, 0);
        for made in self.made.values().filter(|made| made.treasury_msat > 0) {
            let prices = made.treasury_msat * 10..made.treasury_msat * 10 + 10;
            let pool_of = |price: i64| price * 3 / 10;
            if prices.contains(&made.msat) {
                alone += 1;
            } else {
                let price = prices.clone().find(|price| price - pool_of(*price) == made.msat);
                let price =
                    price.unwrap_or_else(|| panic!("{} of {} is no share", made.treasury_msat, made.msat));
                pools.insert(pool_of(price));
                with_routers += 1;
            }
        }
        let routers: Vec<i64> = self
            .made
            .values()
            .filter(|made| made.treasury_msat == 0)
            .map(|made| made.msat)
            .collect();
        for share in &routers {
            let is_share = |pool: &i64| {
                (1..NODES as i64 - 1).any(|count| (pool / count..=(pool + count - 1) / count).contains(share))
            };
            assert!(
                pools.iter().any(is_share),
                "{share} is no router's share of {pools:?}"
            );
        }
        println!(
            "shares are exact: {alone} destinations without routers, {with_routers} with, {} routers",
            routers.len()
        );
        assert!(
            with_routers > 0 && !routers.is_empty(),
            "nobody was paid over a router"
        );
    }
}
