//! A stand-in for the Lightning network, for the simulator only: one ledger for everybody, but real BOLT11 invoices, so
//! that what payees read, check and refuse is what they would meet outside.
//!
//! A payment happens at one moment: it debits the payer by amount and fee, credits the payee and books the fee, or it
//! does nothing. So money is conserved by construction, and [`Lightning::conserved`] recounts it all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Payment, WalletAnswer, WalletQuestion};
use mesh_core::time::UnixMillis;
use mesh_core::verifier::{InvoiceFacts, Settlement, read_invoice};
use sha2::Digest;

use crate::node::NodeIndex;
use crate::random::{MILLION, Random};

/// How wallets behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalletSpec {
    /// How long a wallet takes to answer anything.
    pub answers_after: Duration,
    /// How long a payment is under way.
    pub pays_after: Duration,
    /// How long after the payer has its preimage the payee's wallet reports it settled.
    pub settles_after: Duration,
    /// What Lightning nodes take, in parts per million of the amount.
    pub fee_ppm: u32,
    /// Payments that fail without anything spent, in parts per million.
    pub fails: u32,
    /// Payments that go through while the wallet cannot tell so until it is asked again, in parts per million.
    pub unknown: u32,
    /// Whether wallets cannot say what became of a payment, as while it is held on its way.
    pub holds: bool,
    /// Whether a payment may get into a wallet's books some time after it was asked for, as with a service.
    pub books_later: bool,
}

impl Default for WalletSpec {
    fn default() -> Self {
        Self {
            answers_after: Duration::from_millis(2),
            pays_after: Duration::from_millis(80),
            settles_after: Duration::ZERO,
            fee_ppm: 1000,
            fails: 0,
            unknown: 0,
            holds: false,
            books_later: false,
        }
    }
}

/// A payment that went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledPayment {
    /// Who paid.
    pub payer: NodeIndex,
    /// Who was paid.
    pub payee: NodeIndex,
    /// What arrived, in msat.
    pub amount_msat: u64,
    /// What it cost on the way, in msat.
    pub fee_msat: u64,
    /// The payment hash.
    pub payment_hash: [u8; 32],
    /// When the payee's wallet reports it.
    pub visible: UnixMillis,
}

struct Issued {
    payee: NodeIndex,
    preimage: [u8; 32],
    expires: UnixMillis,
    settled: Option<SettledPayment>,
}

/// Everybody's wallets.
pub struct Lightning {
    /// How wallets behave from now on.
    pub spec: WalletSpec,
    keys: BTreeMap<NodeIndex, SecretKey>,
    balances: BTreeMap<NodeIndex, u64>,
    /// What cannot be moved for now.
    locked: BTreeMap<NodeIndex, u64>,
    issued: BTreeMap<[u8; 32], Issued>,
    fees_msat: u64,
    poured_in_msat: u64,
    invoices_made: u64,
    /// How often wallets were asked what became of a payment.
    pub look_ups: u64,
}

/// What became of a question at the moment it was looked at.
pub(crate) enum Outcome {
    Answer(WalletAnswer),
    LookAgainAfter(Duration),
}

impl Lightning {
    pub(crate) fn new() -> Self {
        Self {
            spec: WalletSpec::default(),
            keys: BTreeMap::new(),
            balances: BTreeMap::new(),
            locked: BTreeMap::new(),
            issued: BTreeMap::new(),
            fees_msat: 0,
            poured_in_msat: 0,
            invoices_made: 0,
            look_ups: 0,
        }
    }

    /// Gives a node a wallet with this balance; returns the key it receives at.
    #[allow(clippy::expect_used)] // a BLAKE3 output is no secp256k1 key once in 2¹²⁸
    pub(crate) fn open_wallet(&mut self, node: NodeIndex, secret: [u8; 32], balance_msat: u64) -> [u8; 33] {
        let key = SecretKey::from_slice(&secret).expect("a random secret is a key");
        self.keys.insert(node, key);
        self.balances.insert(node, balance_msat);
        self.poured_in_msat += balance_msat;
        PublicKey::from_secret_key(&Secp256k1::new(), &key).serialize()
    }

    /// What a node's wallet holds, in msat.
    pub fn balance_msat(&self, node: NodeIndex) -> u64 {
        self.balances.get(&node).copied().unwrap_or(0)
    }

    /// Locks all that a node's wallet holds, as a channel does whose peer is gone.
    pub fn lock(&mut self, node: NodeIndex) {
        let held = self.balances.get_mut(&node).map(std::mem::take).unwrap_or(0);
        *self.locked.entry(node).or_default() += held;
    }

    /// Gives back what was locked.
    pub fn unlock(&mut self, node: NodeIndex) {
        *self.balances.entry(node).or_default() += self.locked.remove(&node).unwrap_or(0);
    }

    /// All payments that went through, by payment hash.
    pub fn settled(&self) -> impl Iterator<Item = &SettledPayment> {
        self.issued.values().filter_map(|issued| issued.settled.as_ref())
    }

    /// What Lightning nodes took in all, in msat.
    pub fn fees_msat(&self) -> u64 {
        self.fees_msat
    }

    /// Whether all balances and fees sum to what was poured in.
    pub fn conserved(&self) -> bool {
        let held: u64 = self.balances.values().chain(self.locked.values()).sum();
        held + self.fees_msat == self.poured_in_msat
    }

    /// The preimage of an invoice, as a Lightning node learns it that a payment was to pass through: it is no money.
    pub fn preimage(&self, invoice: &str) -> Option<[u8; 32]> {
        let facts = read_invoice(invoice).ok()?;
        self.issued.get(&facts.payment_hash).map(|issued| issued.preimage)
    }

    /// Makes an invoice of a node's wallet, as its node would ask for it; villains ask for whatever they like.
    /// Returns it with its payment hash and preimage.
    pub fn issue(
        &mut self,
        payee: NodeIndex,
        amount_msat: u64,
        description_hash: [u8; 32],
        expiry: Duration,
        now: UnixMillis,
    ) -> Result<(String, [u8; 32], [u8; 32]), DropReason> {
        let key = *self.keys.get(&payee).ok_or(DropReason::PaymentsUnavailable)?;
        self.invoices_made += 1;
        let mut hasher = blake3::Hasher::new_keyed(&key.secret_bytes());
        let preimage = *hasher
            .update(&self.invoices_made.to_be_bytes())
            .finalize()
            .as_bytes();
        let payment_hash: [u8; 32] = sha2::Sha256::digest(preimage).into();
        let invoice = InvoiceBuilder::new(Currency::Regtest)
            .amount_milli_satoshis(amount_msat)
            .description_hash(sha256::Hash::from_byte_array(description_hash))
            .payment_hash(sha256::Hash::from_byte_array(payment_hash))
            .payment_secret(PaymentSecret(*blake3::hash(&preimage).as_bytes()))
            .duration_since_epoch(Duration::from_secs(now.seconds()))
            .expiry_time(expiry)
            .min_final_cltv_expiry_delta(18)
            .build_signed(|hash| Secp256k1::signing_only().sign_ecdsa_recoverable(hash, &key))
            .map_err(|_| DropReason::PaymentsUnavailable)?;
        let issued = Issued {
            payee,
            preimage,
            expires: UnixMillis(now.seconds() * 1000) + expiry,
            settled: None,
        };
        self.issued.insert(payment_hash, issued);
        Ok((invoice.to_string(), payment_hash, preimage))
    }

    /// Pays an invoice at this moment, or does nothing. The same one twice pays once.
    pub fn pay(
        &mut self,
        payer: NodeIndex,
        invoice: &str,
        max_fee_msat: u64,
        now: UnixMillis,
        random: &mut Random,
    ) -> Result<Payment, DropReason> {
        let facts = read_invoice(invoice)?;
        let issued = self
            .issued
            .get_mut(&facts.payment_hash)
            .ok_or(DropReason::PaymentFailed)?;
        let preimage = issued.preimage;
        if let Some(settled) = &issued.settled {
            // Somebody else's payment does not tell this payer the preimage.
            let mine = settled.payer == payer;
            return mine
                .then(|| payment(preimage, settled))
                .ok_or(DropReason::PaymentFailed);
        }
        let amount_msat = facts.amount_msat.ok_or(DropReason::PaymentFailed)?;
        let fee_msat = amount_msat * u64::from(self.spec.fee_ppm) / u64::from(MILLION);
        let purse = self.balances.get_mut(&payer).ok_or(DropReason::PaymentFailed)?;
        let too_dear = fee_msat > max_fee_msat || *purse < amount_msat + fee_msat;
        if facts.expires < now || too_dear || random.chance(self.spec.fails) {
            return Err(DropReason::PaymentFailed);
        }
        *purse -= amount_msat + fee_msat;
        *self.balances.entry(issued.payee).or_default() += amount_msat;
        self.fees_msat += fee_msat;
        let settled = SettledPayment {
            payer,
            payee: issued.payee,
            amount_msat,
            fee_msat,
            payment_hash: facts.payment_hash,
            visible: now + self.spec.settles_after,
        };
        issued.settled = Some(settled);
        Ok(payment(preimage, &settled))
    }

    /// Whether a payment of this invoice could be made at this moment; chance may still have it fail.
    fn probe(
        &self,
        payer: NodeIndex,
        invoice: &str,
        max_fee_msat: u64,
        now: UnixMillis,
    ) -> Result<(), DropReason> {
        let facts = read_invoice(invoice)?;
        let amount_msat = facts.amount_msat.ok_or(DropReason::PaymentFailed)?;
        let fee_msat = amount_msat * u64::from(self.spec.fee_ppm) / u64::from(MILLION);
        let purse = self.balances.get(&payer).copied().unwrap_or(0);
        let known = self.issued.contains_key(&facts.payment_hash);
        let payable =
            known && facts.expires >= now && fee_msat <= max_fee_msat && purse >= amount_msat + fee_msat;
        payable.then_some(()).ok_or(DropReason::PaymentFailed)
    }

    fn is_settled(&self, invoice: &str) -> bool {
        let issued = read_invoice(invoice)
            .ok()
            .and_then(|facts| self.issued.get(&facts.payment_hash));
        issued.is_some_and(|issued| issued.settled.is_some())
    }

    /// How long after it was asked a question is first looked at.
    pub(crate) fn delay(&self, question: &WalletQuestion) -> Duration {
        match question {
            WalletQuestion::Pay { .. } | WalletQuestion::PayOffer { .. } => self.spec.pays_after,
            WalletQuestion::CreateInvoice { .. }
            | WalletQuestion::CheckProof { .. }
            | WalletQuestion::Settlement { .. }
            | WalletQuestion::Probe { .. }
            | WalletQuestion::TreasuryBill { .. }
            | WalletQuestion::LookUp { .. } => self.spec.answers_after,
        }
    }

    pub(crate) fn look_at(
        &mut self,
        node: NodeIndex,
        question: &WalletQuestion,
        asked: UnixMillis,
        now: UnixMillis,
        random: &mut Random,
    ) -> Outcome {
        Outcome::Answer(match question {
            WalletQuestion::CreateInvoice {
                amount_msat,
                description,
                expiry,
            } => {
                let hash = sha2::Sha256::digest(description).into();
                let made = self.issue(node, *amount_msat, hash, *expiry, now);
                WalletAnswer::Invoice(made.map(|(invoice, payment_hash, _)| (invoice, payment_hash)))
            }
            WalletQuestion::Pay {
                invoice,
                max_fee_msat,
                ..
            } => {
                let known_before = self.is_settled(invoice);
                let paid = self.pay(node, invoice, *max_fee_msat, now, random);
                let untold = !known_before && paid.is_ok() && random.chance(self.spec.unknown);
                WalletAnswer::Paid(if untold {
                    Err(DropReason::PaymentUnknown)
                } else {
                    paid
                })
            }
            WalletQuestion::Probe {
                invoice,
                max_fee_msat,
                ..
            } => WalletAnswer::Probed(self.probe(node, invoice, *max_fee_msat, now)),
            // Nobody plays the treasury here: what nodes owe it is audited, not paid.
            WalletQuestion::TreasuryBill { .. } => {
                WalletAnswer::TreasuryBill(Err(DropReason::PaymentsUnavailable))
            }
            WalletQuestion::PayOffer { .. } => WalletAnswer::Paid(Err(DropReason::PaymentFailed)),
            WalletQuestion::Settlement { payment_hash } => {
                WalletAnswer::Settlement(self.settlement_of(node, payment_hash, now))
            }
            WalletQuestion::LookUp {
                payment_hash,
                just_begun,
            } => {
                let found = self.look_up(node, payment_hash);
                let may_come = found.is_err() && *just_begun && self.spec.books_later;
                WalletAnswer::Paid(if may_come {
                    Err(DropReason::PaymentUnknown)
                } else {
                    found
                })
            }
            WalletQuestion::CheckProof { invoice, wait } => match self.settlement(node, invoice, now) {
                Ok((_, Settlement::Open)) if now < asked + *wait => {
                    return Outcome::LookAgainAfter(Duration::from_millis(100));
                }
                found => WalletAnswer::Proof(found),
            },
        })
    }

    fn settlement(
        &self,
        node: NodeIndex,
        invoice: &str,
        now: UnixMillis,
    ) -> Result<(InvoiceFacts, Settlement), DropReason> {
        let facts = read_invoice(invoice)?;
        let settlement = self.settlement_of(node, &facts.payment_hash, now);
        Ok((facts, settlement))
    }

    fn settlement_of(&self, node: NodeIndex, payment_hash: &[u8; 32], now: UnixMillis) -> Settlement {
        let issued = self
            .issued
            .get(payment_hash)
            .filter(|issued| issued.payee == node);
        match issued {
            None => Settlement::Unknown,
            Some(issued) => match issued.settled {
                Some(settled) if settled.visible <= now => Settlement::Settled {
                    amount_msat: settled.amount_msat,
                },
                None if issued.expires < now => Settlement::Dead,
                Some(_) | None => Settlement::Open,
            },
        }
    }

    fn look_up(&mut self, node: NodeIndex, payment_hash: &[u8; 32]) -> Result<Payment, DropReason> {
        self.look_ups += 1;
        if self.spec.holds {
            return Err(DropReason::PaymentUnknown);
        }
        let issued = self.issued.get(payment_hash);
        let paid =
            issued.and_then(|issued| Some((issued, issued.settled.filter(|settled| settled.payer == node)?)));
        let (issued, settled) = paid.ok_or(DropReason::PaymentFailed)?;
        Ok(payment(issued.preimage, &settled))
    }
}

fn payment(preimage: [u8; 32], settled: &SettledPayment) -> Payment {
    Payment {
        preimage,
        amount_msat: settled.amount_msat,
        fee_msat: settled.fee_msat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn two_wallets() -> Lightning {
        let mut lightning = Lightning::new();
        lightning.open_wallet(NodeIndex(0), [1; 32], 10_000);
        lightning.open_wallet(NodeIndex(1), [2; 32], 0);
        lightning
    }

    #[test]
    fn paying_twice_pays_once_and_money_is_conserved() {
        let mut lightning = two_wallets();
        let mut random = Random::new(1);
        let (invoice, _, preimage) = lightning
            .issue(NodeIndex(1), 5000, [7; 32], Duration::from_secs(60), NOW)
            .unwrap();
        for _ in 0..2 {
            let paid = lightning
                .pay(NodeIndex(0), &invoice, 100, NOW, &mut random)
                .unwrap();
            assert_eq!(
                (paid.preimage, paid.amount_msat, paid.fee_msat),
                (preimage, 5000, 5)
            );
        }
        assert_eq!(lightning.balance_msat(NodeIndex(0)), 4995);
        assert_eq!(lightning.balance_msat(NodeIndex(1)), 5000);
        assert!(lightning.conserved());
        let facts = read_invoice(&invoice).unwrap();
        assert_eq!(
            (facts.description_hash, facts.amount_msat),
            (Some([7; 32]), Some(5000))
        );
    }

    #[test]
    fn too_dear_too_late_or_too_poor_spends_nothing() {
        let mut lightning = two_wallets();
        let mut random = Random::new(1);
        let mut issue = |amount| {
            let issued = lightning.issue(NodeIndex(1), amount, [7; 32], Duration::from_secs(60), NOW);
            issued.unwrap().0
        };
        let (small, large) = (issue(5000), issue(10_000));
        let late = NOW + Duration::from_secs(100);
        assert!(lightning.pay(NodeIndex(0), &small, 4, NOW, &mut random).is_err());
        assert!(lightning.pay(NodeIndex(0), &small, 5, late, &mut random).is_err());
        assert!(
            lightning
                .pay(NodeIndex(0), &large, 100, NOW, &mut random)
                .is_err()
        );
        assert_eq!(lightning.balance_msat(NodeIndex(0)), 10_000);
    }
}
