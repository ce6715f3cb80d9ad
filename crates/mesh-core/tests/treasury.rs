//! The treasury is paid once, whatever happens in between: a node that is killed at any step, a wallet that cannot tell, a
//! service that bills something else.

#![allow(clippy::unwrap_used)] // a panic is how a test says no

use std::sync::Arc;
use std::time::Duration;

use mesh_core::core::{Announcing, Core, CoreConfig};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{
    Answer, Command, CommandId, Input, Output, Payment, Record, Refusal, Ticket, WalletAnswer, WalletQuestion,
};
use mesh_core::identity::{Ed25519Verifier, Identity};
use mesh_core::ledger::{Entry, LedgerAccount};
use mesh_core::routing_policy::MeshMode;
use mesh_core::time::{Instant, Now, UnixMillis};
use mesh_core::treasury::{TreasuryBill, TreasuryPayment, TreasuryPolicy};
use mesh_core::verifier::{BitcoinNetwork, InvoiceFacts};

const OWED: u64 = 12_345;
const PAID: u64 = 12_000;
const FEE: u64 = 7;
const HASH: [u8; 32] = [5; 32];

/// What a kill leaves behind: only what was made durable.
#[derive(Default, Clone)]
struct Disk {
    owed_msat: u64,
    begun: Option<TreasuryPayment>,
    entries: Vec<Entry>,
}

impl Disk {
    fn write(&mut self, record: Record) {
        match record {
            Record::TreasuryOwed(msat) => self.owed_msat = msat,
            Record::TreasuryBegun(payment) => self.begun = Some(*payment),
            Record::TreasuryDone => self.begun = None,
            Record::Booked(entry) => {
                assert!(entry.is_balanced(), "{entry:?}");
                self.entries.push(*entry);
            }
            other => panic!("not the treasury's: {other:?}"),
        }
    }

    fn records(&self) -> Vec<Record> {
        let begun = self
            .begun
            .clone()
            .map(|payment| Record::TreasuryBegun(Box::new(payment)));
        begun
            .into_iter()
            .chain([Record::TreasuryOwed(self.owed_msat)])
            .collect()
    }

    fn booked(&self, account: LedgerAccount) -> i64 {
        let postings = self.entries.iter().flat_map(|entry| &entry.postings);
        let of_account = postings.filter(|posting| posting.account == account);
        of_account.map(|posting| posting.msat).sum()
    }

    /// The ledger and the records tell the same.
    fn agrees(&self) {
        let owed = i64::try_from(OWED).unwrap() - self.booked(LedgerAccount::TreasuryOwed);
        assert_eq!(owed, i64::try_from(self.owed_msat).unwrap());
        let in_flight = self.begun.as_ref().map_or(0, |payment| payment.amount_msat);
        assert_eq!(
            self.booked(LedgerAccount::InFlight),
            i64::try_from(in_flight).unwrap()
        );
    }
}

/// A wallet that keeps its word: a payment is made at most once for one reference.
#[derive(Default)]
struct Wallet {
    paid: Vec<[u8; 32]>,
    /// Payments from now on are made, and it cannot say so until it is looked up.
    unsure: bool,
    /// Payments from now on fail.
    broken: bool,
}

impl Wallet {
    fn pay(&mut self, reference: [u8; 32]) -> Result<Payment, DropReason> {
        if self.broken && !self.paid.contains(&reference) {
            return Err(DropReason::PaymentFailed);
        }
        let first = !self.paid.contains(&reference);
        if first {
            self.paid.push(reference);
        }
        if first && self.unsure {
            return Err(DropReason::PaymentUnknown);
        }
        Ok(payment())
    }

    fn answer(&mut self, question: &WalletQuestion) -> WalletAnswer {
        match question {
            WalletQuestion::TreasuryBill { amount_msat } => {
                WalletAnswer::TreasuryBill(Ok(invoice(*amount_msat)))
            }
            WalletQuestion::Pay { .. } => WalletAnswer::Paid(self.pay(HASH)),
            WalletQuestion::PayOffer { reference, .. } => WalletAnswer::Paid(self.pay(*reference)),
            WalletQuestion::LookUp { payment_hash, .. } if self.paid.contains(payment_hash) => {
                WalletAnswer::Paid(Ok(payment()))
            }
            WalletQuestion::LookUp { .. } => WalletAnswer::Paid(Err(DropReason::PaymentFailed)),
            other => panic!("not the treasury's: {other:?}"),
        }
    }
}

fn payment() -> Payment {
    Payment {
        preimage: [6; 32],
        amount_msat: PAID,
        fee_msat: FEE,
    }
}

fn facts(amount_msat: u64) -> InvoiceFacts {
    InvoiceFacts {
        network: BitcoinNetwork::Regtest,
        payee: [2; 33],
        payment_hash: HASH,
        description_hash: None,
        amount_msat: Some(amount_msat),
        expires: UnixMillis(u64::MAX),
    }
}

fn invoice(amount_msat: u64) -> TreasuryBill {
    TreasuryBill::Invoice {
        invoice: "an invoice".to_owned(),
        facts: facts(amount_msat),
    }
}

/// One life of a node.
struct Life {
    core: Core,
    now: Now,
    disk: Disk,
    questions: Vec<(Ticket, WalletQuestion)>,
    answers: Vec<Result<Answer, Box<Refusal>>>,
}

impl Life {
    fn begin(disk: Disk, threshold_msat: u64) -> Self {
        let now = Now {
            instant: Instant(0),
            unix: UnixMillis(1_700_000_000_000),
        };
        let config = CoreConfig {
            spending: Default::default(),
            mode: MeshMode::PaymentGated,
            price_msat_per_unit: 1,
            network: BitcoinNetwork::Regtest,
            lightning_key: Some([2; 33]),
            operator: None,
            announcing: Announcing {
                enabled: false,
                ..Announcing::default()
            },
            free_bytes_per_second: 0,
            route_lifetime: mesh_core::limits::ROUTE_LIFETIME,
            account_secret: [9; 32],
            seed: [8; 32],
        };
        let identity = Identity::from_seed([1; 32]).unwrap();
        let mut core = Core::new(config, identity, Arc::new(Ed25519Verifier), now);
        core.set_treasury(TreasuryPolicy {
            threshold_msat,
            max_fee_msat: 100,
        });
        core.restore(disk.records(), now).unwrap();
        Self {
            core,
            now,
            disk,
            questions: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn owing() -> Self {
        let disk = Disk {
            owed_msat: OWED,
            ..Disk::default()
        };
        Self::begin(disk, 0)
    }

    fn feed(&mut self, input: Input) {
        self.core.handle(self.now, input);
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Persist(record) => self.disk.write(*record),
                Output::AskWallet { ticket, question } => self.questions.push((ticket, question)),
                Output::Answer { answer, .. } => self.answers.push(answer),
                _ => {}
            }
        }
    }

    fn pays(&mut self, amount_msat: Option<u64>) {
        self.feed(Input::Command {
            id: CommandId(1),
            command: Command::PayTreasury { amount_msat },
        });
    }

    /// Hands the next question to the wallet and its answer back.
    fn wallet_answers(&mut self, wallet: &mut Wallet) {
        let (ticket, question) = self.questions.remove(0);
        let answer = wallet.answer(&question);
        self.feed(Input::Wallet { ticket, answer });
    }

    fn answered(&mut self, answer: WalletAnswer) {
        let (ticket, _) = self.questions.remove(0);
        self.feed(Input::Wallet { ticket, answer });
    }

    fn waits(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.core.next_timeout().filter(|at| *at <= end.instant) {
            self.now = self.now + (at - self.now.instant);
            self.feed(Input::Timeout);
        }
        self.now = end;
    }

    fn settle(&mut self, wallet: &mut Wallet) {
        for _ in 0..5 {
            self.waits(Duration::from_secs(70));
            while !self.questions.is_empty() {
                self.wallet_answers(wallet);
            }
        }
    }

    fn refusal(&mut self) -> DropReason {
        self.answers.pop().unwrap().unwrap_err().reason
    }
}

#[test]
fn whole_satoshi_are_paid_the_fee_is_booked_and_the_rest_stays_owed() {
    let (mut life, mut wallet) = (Life::owing(), Wallet::default());
    life.pays(None);
    life.wallet_answers(&mut wallet);
    let in_flight = life.disk.booked(LedgerAccount::InFlight);
    assert_eq!(
        in_flight,
        i64::try_from(PAID).unwrap(),
        "durable before it is paid"
    );
    assert_eq!(wallet.paid.len(), 0);
    life.wallet_answers(&mut wallet);
    let answer = life.answers.pop().unwrap().unwrap();
    assert!(matches!(
        answer,
        Answer::TreasuryPaid {
            amount_msat: PAID,
            fee_msat: FEE
        }
    ));
    assert_eq!(life.disk.owed_msat, OWED - PAID);
    assert_eq!(
        life.disk.booked(LedgerAccount::LightningFees),
        i64::try_from(FEE).unwrap()
    );
    assert_eq!(
        life.disk.booked(LedgerAccount::Wallet),
        -i64::try_from(PAID + FEE).unwrap()
    );
    life.disk.agrees();
}

/// After 0 to 2 answers of the wallet, with the last question perhaps carried out and its answer lost.
#[test]
fn node_killed_at_any_step_pays_once() {
    for answers in 0..=2 {
        for last_is_carried_out in [false, true] {
            let (mut life, mut wallet) = (Life::owing(), Wallet::default());
            life.pays(None);
            for _ in 0..answers {
                life.wallet_answers(&mut wallet);
            }
            if last_is_carried_out && let Some((_, question)) = life.questions.first() {
                let _ = wallet.answer(question);
            }
            let mut next = Life::begin(life.disk, 0);
            next.settle(&mut wallet);
            next.disk.agrees();
            assert!(next.disk.begun.is_none(), "decided");
            let paid = wallet.paid.len() as u64;
            assert_eq!(next.disk.owed_msat, OWED - paid * PAID, "after {answers} answers");
            next.pays(None);
            next.settle(&mut wallet);
            next.disk.agrees();
            assert_eq!(wallet.paid, [HASH], "after {answers} answers");
        }
    }
}

#[test]
fn payment_of_unknown_outcome_is_looked_up_and_nothing_else_is_paid_meanwhile() {
    let mut life = Life::owing();
    let mut wallet = Wallet {
        unsure: true,
        ..Wallet::default()
    };
    life.pays(Some(PAID));
    life.wallet_answers(&mut wallet);
    life.wallet_answers(&mut wallet);
    assert_eq!(life.refusal(), DropReason::PaymentUnknown);
    life.pays(Some(1000));
    assert_eq!(life.refusal(), DropReason::BadCommand);
    // Two look-ups tell nothing; anything but a certain failure leaves the money in flight.
    for reason in [DropReason::PaymentUnknown, DropReason::Timeout] {
        life.waits(Duration::from_secs(61));
        assert!(matches!(
            life.questions[0].1,
            WalletQuestion::LookUp {
                payment_hash: HASH,
                just_begun: true
            }
        ));
        life.answered(WalletAnswer::Paid(Err(reason)));
        life.disk.agrees();
        assert!(life.disk.begun.is_some());
    }
    life.settle(&mut wallet);
    assert_eq!((life.disk.owed_msat, wallet.paid.len()), (OWED - PAID, 1));
    life.disk.agrees();
}

#[test]
fn failed_payment_is_put_back_and_is_owed_as_before() {
    let mut life = Life::owing();
    let mut wallet = Wallet {
        broken: true,
        ..Wallet::default()
    };
    life.pays(None);
    life.settle(&mut wallet);
    assert_eq!(life.refusal(), DropReason::PaymentFailed);
    assert_eq!(
        (life.disk.owed_msat, life.disk.booked(LedgerAccount::Wallet)),
        (OWED, 0)
    );
    life.disk.agrees();
}

#[test]
fn bill_over_another_amount_network_or_time_is_not_paid() {
    let wrong = [
        (facts(PAID + 1), DropReason::QuoteMismatch),
        (
            InvoiceFacts {
                amount_msat: None,
                ..facts(PAID)
            },
            DropReason::QuoteMismatch,
        ),
        (
            InvoiceFacts {
                network: BitcoinNetwork::Mainnet,
                ..facts(PAID)
            },
            DropReason::WrongNetwork,
        ),
        (
            InvoiceFacts {
                expires: UnixMillis(1),
                ..facts(PAID)
            },
            DropReason::Expired,
        ),
    ];
    for (facts, reason) in wrong {
        let mut life = Life::owing();
        life.pays(None);
        let invoice = "an invoice".to_owned();
        let bill = TreasuryBill::Invoice { invoice, facts };
        life.answered(WalletAnswer::TreasuryBill(Ok(bill)));
        assert_eq!(life.refusal(), reason);
        assert!(life.questions.is_empty() && life.disk.entries.is_empty());
    }
}

#[test]
fn offer_is_paid_again_under_the_same_reference_only() {
    let mut life = Life::owing();
    let mut wallet = Wallet {
        unsure: true,
        ..Wallet::default()
    };
    life.pays(None);
    life.answered(WalletAnswer::TreasuryBill(Ok(TreasuryBill::Offer(
        "lno1".to_owned(),
    ))));
    life.wallet_answers(&mut wallet);
    let reference = life.disk.begun.clone().unwrap().reference;
    let mut next = Life::begin(life.disk, 0);
    next.settle(&mut wallet);
    assert_eq!(wallet.paid, [reference]);
    assert_eq!(next.disk.owed_msat, OWED - PAID);
    next.disk.agrees();
}

#[test]
fn more_than_is_owed_nothing_and_a_second_payment_at_once_are_refused() {
    let mut life = Life::owing();
    for amount in [0, OWED + 1] {
        life.pays(Some(amount));
        assert_eq!(life.refusal(), DropReason::BadCommand);
    }
    life.pays(Some(OWED));
    life.pays(Some(1));
    assert_eq!(life.refusal(), DropReason::BadCommand);
    assert_eq!(life.questions.len(), 1);
}

#[test]
fn from_the_threshold_on_it_is_paid_by_itself_and_after_a_failure_not_at_once_again() {
    let disk = Disk {
        owed_msat: OWED,
        ..Disk::default()
    };
    let mut idle = Life::begin(disk.clone(), OWED + 1);
    idle.waits(Duration::from_secs(3600));
    assert!(idle.questions.is_empty(), "below the threshold");
    let mut life = Life::begin(disk, OWED);
    life.waits(Duration::from_secs(10));
    life.answered(WalletAnswer::TreasuryBill(Err(DropReason::TreasuryUnreachable)));
    life.waits(Duration::from_secs(590));
    assert!(
        life.questions.is_empty(),
        "a server that is down is not asked all the time"
    );
    life.waits(Duration::from_secs(20));
    assert_eq!(life.questions.len(), 1);
    let mut wallet = Wallet::default();
    life.settle(&mut wallet);
    assert_eq!((life.disk.owed_msat, wallet.paid.len()), (OWED - PAID, 1));
    life.disk.agrees();
}
