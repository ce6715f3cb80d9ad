//! Everybody's books, gone over from outside: what was paid, credited, drawn and delivered must fit together.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::event::Record;
use mesh_core::keys::SessionId;
use mesh_core::ledger::{Entry, LedgerAccount};
use mesh_core::limits::CRASH_LOSS_MSAT;

use crate::lightning::SettledPayment;
use crate::node::NodeIndex;
use crate::simulation::Simulation;

/// What the whole network's books come to, in msat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Books {
    /// What payees received over Lightning.
    pub paid: u64,
    /// What Lightning nodes took on the way.
    pub lightning_fees: u64,
    /// What payees credited to payers' accounts.
    pub credited: u64,
    /// What destinations owe the treasury.
    pub treasury: u64,
    /// What was paid and is not yet redeemed; its proofs are in the payers' hands.
    pub unredeemed: u64,
    /// What packets drew.
    pub drawn: u64,
    /// What payers still hold in accounts.
    pub balances: u64,
}

/// Something that does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Discrepancy {
    /// The wallets do not sum to what was poured in.
    #[error("the simulator's own wallets made or lost money")]
    WalletsDoNotSum,
    /// A payee credited a payment twice.
    #[error("node {node:?} credited payment {} twice", hex(.payment_hash))]
    CreditedTwice {
        /// The payee.
        node: NodeIndex,
        /// The payment.
        payment_hash: [u8; 32],
    },
    /// A payee credited what its wallet never received, or another amount.
    #[error("node {node:?} credited {booked} msat for payment {} but received {received}", hex(.payment_hash))]
    CreditedWrongly {
        /// The payee.
        node: NodeIndex,
        /// The payment.
        payment_hash: [u8; 32],
        /// Credit and treasury's part.
        booked: u64,
        /// What the wallet received.
        received: u64,
    },
    /// A payment was neither credited, nor does its payer hold the proof.
    #[error("{} msat that {:?} paid to {:?} were not credited, and the payer has no proof", .0.amount_msat, .0.payer, .0.payee)]
    PaymentLost(SettledPayment),
    /// A payee's credits are not what was drawn and what is left.
    #[error("node {node:?} credited {credited} msat, but packets drew {drawn} and accounts hold {balances}")]
    AccountsDoNotSum {
        /// The payee.
        node: NodeIndex,
        /// What it credited.
        credited: u64,
        /// What packets drew.
        drawn: u64,
        /// What payers hold.
        balances: u64,
    },
    /// A destination owes the treasury something else than it collected for it.
    #[error("node {node:?} collected {collected} msat for the treasury but books {owed}")]
    TreasuryDoesNotSum {
        /// The destination.
        node: NodeIndex,
        /// What it collected.
        collected: u64,
        /// What it says it owes.
        owed: u64,
    },
    /// An entry of a ledger does not sum to zero.
    #[error("node {node:?} booked what does not balance: {entry:?}")]
    EntryUnbalanced {
        /// Whose.
        node: NodeIndex,
        /// The entry.
        entry: Box<Entry>,
    },
    /// What a node acts on, or its wallet holds, is not what its ledger says.
    #[error("node {node:?}: the ledger has {ledger} msat on {account:?}, but {record} msat are there")]
    LedgerDiffers {
        /// Whose.
        node: NodeIndex,
        /// Which account.
        account: LedgerAccount,
        /// What the entries come to, in msat with the ledger's sign.
        ledger: i64,
        /// What is there.
        record: i64,
    },
    /// A packet was delivered twice.
    #[error("node {node:?} delivered packet {sequence} of {session} twice")]
    DeliveredTwice {
        /// The destination.
        node: NodeIndex,
        /// The session.
        session: SessionId,
        /// The packet.
        sequence: u64,
    },
    /// What was delivered is not what was sent.
    #[error("node {node:?} delivered in packet {sequence} of {session} what nobody sent")]
    NotWhatWasSent {
        /// The destination.
        node: NodeIndex,
        /// The session.
        session: SessionId,
        /// The packet.
        sequence: u64,
    },
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What one payee wrote down about money.
#[derive(Default)]
struct PayeeBooks {
    /// Per redeemed payment: credit and the treasury's part.
    redeemed: BTreeMap<[u8; 32], (u64, u64)>,
    accounts: BTreeMap<[u8; 32], u64>,
    treasury_owed: u64,
}

impl Simulation {
    /// Goes over everybody's books. Call it when nothing is under way.
    ///
    /// A crashed hop may have forgotten draws of up to [`CRASH_LOSS_MSAT`], to its own loss and never to its payers';
    /// everything else has to fit to the msat.
    pub fn audit(&mut self) -> Result<Books, Vec<Discrepancy>> {
        let mut found = Vec::new();
        let mut books = Books::default();
        if !self.lightning.conserved() {
            found.push(Discrepancy::WalletsDoNotSum);
        }
        let payments: BTreeMap<_, _> = self
            .lightning
            .settled()
            .map(|payment| (payment.payment_hash, *payment))
            .collect();
        books.paid = payments.values().map(|payment| payment.amount_msat).sum();
        books.lightning_fees = self.lightning.fees_msat();
        let mut credited = BTreeSet::new();
        for node in self.all_nodes() {
            let payee = self.read_books(node, &mut found);
            self.check_credits(node, &payee, &payments, &mut found);
            self.check_accounts(node, &payee, &mut books, &mut found);
            credited.extend(payee.redeemed.keys().copied());
            self.check_deliveries(node, &mut found);
            if !self.nodes[node.0].is_villain {
                self.check_ledger(node, &mut found);
            }
        }
        for payment in payments
            .values()
            .filter(|payment| !credited.contains(&payment.payment_hash))
        {
            books.unredeemed += payment.amount_msat;
            if !self.holds_proof(payment) {
                found.push(Discrepancy::PaymentLost(*payment));
            }
        }
        if found.is_empty() { Ok(books) } else { Err(found) }
    }

    fn read_books(&self, node: NodeIndex, found: &mut Vec<Discrepancy>) -> PayeeBooks {
        let mut books = PayeeBooks::default();
        let mut quoted = BTreeMap::new();
        for record in self.disk(node) {
            match record {
                Record::Invoice(invoice) => {
                    quoted.insert(invoice.payment_hash, (invoice.credit_msat, invoice.treasury_msat));
                }
                Record::InvoiceClosed {
                    payment_hash,
                    redeemed_until: Some(_),
                } => {
                    let parts = quoted.get(payment_hash).copied().unwrap_or_default();
                    if books.redeemed.insert(*payment_hash, parts).is_some() {
                        found.push(Discrepancy::CreditedTwice {
                            node,
                            payment_hash: *payment_hash,
                        });
                    }
                }
                Record::Account(account) => {
                    books.accounts.insert(account.key, account.balance_msat);
                }
                Record::TreasuryOwed(msat) => books.treasury_owed = *msat,
                _ => {}
            }
        }
        books
    }

    fn check_credits(
        &self,
        node: NodeIndex,
        payee: &PayeeBooks,
        payments: &BTreeMap<[u8; 32], SettledPayment>,
        found: &mut Vec<Discrepancy>,
    ) {
        for (payment_hash, (credit, treasury)) in &payee.redeemed {
            let payment = payments.get(payment_hash).filter(|payment| payment.payee == node);
            let received = payment.map_or(0, |payment| payment.amount_msat);
            if credit + treasury != received {
                found.push(Discrepancy::CreditedWrongly {
                    node,
                    payment_hash: *payment_hash,
                    booked: credit + treasury,
                    received,
                });
            }
        }
    }

    fn check_accounts(
        &mut self,
        node: NodeIndex,
        payee: &PayeeBooks,
        books: &mut Books,
        found: &mut Vec<Discrepancy>,
    ) {
        let credited: u64 = payee.redeemed.values().map(|(credit, _)| credit).sum();
        let collected: u64 = payee.redeemed.values().map(|(_, treasury)| treasury).sum();
        let drawn = self.drawn_at(node);
        let (balances, owed) = match self.status(node) {
            Some(status) => (status.payers_credit_msat, status.treasury_owed_msat),
            None => (payee.accounts.values().sum(), payee.treasury_owed),
        };
        let crashes = self.nodes[node.0].life;
        let may_be_forgotten = crashes * CRASH_LOSS_MSAT;
        let accounted = balances + drawn;
        if accounted < credited || accounted > credited + may_be_forgotten {
            found.push(Discrepancy::AccountsDoNotSum {
                node,
                credited,
                drawn,
                balances,
            });
        }
        if owed != collected {
            found.push(Discrepancy::TreasuryDoesNotSum {
                node,
                collected,
                owed,
            });
        }
        books.credited += credited;
        books.treasury += collected;
        books.drawn += drawn;
        books.balances += balances;
    }

    /// What packets drew at a node, counted from the outside: each one it passed on or delivered, at the quoted price.
    pub fn drawn_at(&self, node: NodeIndex) -> u64 {
        let id = self.id(node);
        let carried = self
            .carried_units
            .range((node, SessionId([0; 16]))..=(node, SessionId([255; 16])));
        carried
            .map(|((_, session), units)| {
                let price = self.sessions.get(session).and_then(|notes| notes.prices.get(&id));
                units * price.copied().unwrap_or(0)
            })
            .sum()
    }

    fn check_deliveries(&self, node: NodeIndex, found: &mut Vec<Discrepancy>) {
        let mut seen = BTreeSet::new();
        for delivery in self.deliveries(node) {
            let (session, sequence) = (delivery.session, delivery.sequence);
            if !seen.insert((session, sequence)) {
                found.push(Discrepancy::DeliveredTwice {
                    node,
                    session,
                    sequence,
                });
            }
            let what = (delivery.protocol_id.clone(), delivery.payload.clone());
            if self
                .sent
                .get(&delivery.packet_id)
                .is_some_and(|sent| *sent != what)
            {
                found.push(Discrepancy::NotWhatWasSent {
                    node,
                    session,
                    sequence,
                });
            }
        }
    }

    /// Whether the payer can still show the proof. Villains keep no books.
    fn holds_proof(&self, payment: &SettledPayment) -> bool {
        let mut held = self.nodes[payment.payer.0].is_villain;
        for record in self.disk(payment.payer) {
            match record {
                Record::Proof(proof) if proof.payment_hash == payment.payment_hash => {
                    held = !proof.is_under_way();
                }
                Record::ProofRedeemed { payment_hash } if *payment_hash == payment.payment_hash => {
                    held = false
                }
                _ => {}
            }
        }
        held
    }
}
