//! As payee: being paid on the chain. Scripts are quoted, and outputs to them redeemed for credit.
//!
//! What is honoured is written down together with the credit, and for ever: the same output buys nothing again, whatever
//! becomes of quotes, sessions and restarts. `chain_watch.rs` looks after it until it is final.

use std::collections::BTreeMap;

use crate::chain::{
    BillId, ChainAnswer, ChainPolicy, ChainQuestion, CovenantFacts, Found, OutputQuote, PaymentFacts,
    PaymentMethod, QuotedOutput, bill_id, bill_of, judge_payment,
};
use crate::chain_book::{Bill, HonouredOutput, HonouredState, OutputQuotes, Watched};
use crate::drop_reason::DropReason;
use crate::event::{Event, Output, Record, Ticket};
use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::ledger::{Entry, EntryKind, LedgerAccount};
use crate::limits::{MAX_PENDING_INVOICES, MAX_PENDING_OPENS};
use crate::payment_proof::PaymentProof;
use crate::time::{Instant, Now, UnixMillis};

use super::Core;
use super::payee::PendingOpen;
use super::quoting::{Due, PendingQuote};

/// What is honoured on the chain is remembered for ever.
const FOR_EVER: UnixMillis = UnixMillis(u64::MAX);

/// Why a question was put to the chain source.
pub(super) enum ChainAsked {
    /// For a script to quote.
    ScriptFor(Box<PendingQuote>),
    /// Because of the proof in this open.
    ProofOf(SessionId),
    /// To see whether these blocks are still in the best chain.
    Blocks(Vec<[u8; 32]>),
    /// To see what became of the output that paid this bill.
    StandingOf(BillId),
    /// To settle the covenant that paid this bill.
    Settle,
}

/// Everything of payments on the chain, as payee.
#[derive(Default)]
pub(super) struct ChainDesk {
    /// None: this node is not paid on the chain.
    pub(super) policy: Option<ChainPolicy>,
    pub(super) quotes: OutputQuotes,
    pub(super) watched: Watched,
    pub(super) asked: BTreeMap<Ticket, ChainAsked>,
    /// Whether the timer that looks after honoured outputs is set.
    pub(super) watching: bool,
    /// Whether the timer of a round out of turn is set.
    pub(super) recheck_set: bool,
    /// When the next round out of turn may be.
    pub(super) recheck_from: Instant,
}

impl Core {
    /// Lets this node be paid on the chain, from now on. Without it proofs of such payments are refused by their kind.
    pub fn take_payments_on_chain(&mut self, policy: ChainPolicy) {
        self.chain.policy = Some(policy);
    }

    pub(super) fn ask_chain(&mut self, asked: ChainAsked, question: ChainQuestion) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.chain.asked.insert(ticket, asked);
        self.outputs.push_back(Output::AskChain { ticket, question });
    }

    pub(super) fn on_chain(&mut self, now: Now, ticket: Ticket, answer: ChainAnswer) {
        match (self.chain.asked.remove(&ticket), answer) {
            (Some(ChainAsked::ScriptFor(pending)), ChainAnswer::Script(script)) => {
                self.on_script(*pending, script);
            }
            (Some(ChainAsked::ProofOf(session)), ChainAnswer::Payment(facts)) => {
                self.decide_open(now, &session, |core, pending| {
                    core.redeem_payment(now, pending, &facts?)
                });
            }
            (Some(ChainAsked::ProofOf(session)), ChainAnswer::Covenant(facts)) => {
                self.decide_open(now, &session, |core, pending| {
                    core.redeem_covenant(now, pending, &facts?)
                });
            }
            (Some(ChainAsked::Blocks(blocks)), ChainAnswer::Blocks(found)) => {
                self.on_blocks(&blocks, found);
            }
            (Some(ChainAsked::StandingOf(bill)), ChainAnswer::Payment(facts)) => {
                self.on_standing(now, &bill, facts.map(|facts| facts.standing));
            }
            (Some(ChainAsked::StandingOf(bill)), ChainAnswer::Covenant(facts)) => {
                self.on_bound(now, &bill, facts);
            }
            (Some(ChainAsked::Settle), ChainAnswer::Broadcast(_)) => {}
            // The hands answered something that was not asked: a fault of theirs, which must not pass for money.
            _ => self.count(DropReason::Unsolicited),
        }
    }
}

/// Quotes.
impl Core {
    /// What is to be paid on the chain goes to a script that nobody was ever given before.
    pub(super) fn ask_for_script(
        &mut self,
        pending: PendingQuote,
        method: PaymentMethod,
    ) -> Result<(), DropReason> {
        let policy = self
            .chain
            .policy
            .as_ref()
            .ok_or(DropReason::PaymentsUnavailable)?;
        if method == PaymentMethod::Ctv && !covenants::TAKEN {
            return Err(DropReason::ProofKindRefused);
        }
        let sats = pending.terms.amount_msat() / crate::chain::MSAT_PER_SAT;
        policy.depth_for(sats).ok_or(DropReason::LimitReached)?;
        self.chain.quotes.check_room(&pending.previous)?;
        if self.chain.asked.len() >= MAX_PENDING_INVOICES {
            return Err(DropReason::TableFull);
        }
        self.ask_chain(
            ChainAsked::ScriptFor(Box::new(pending)),
            ChainQuestion::FreshScript,
        );
        Ok(())
    }

    fn on_script(&mut self, pending: PendingQuote, script: Result<Vec<u8>, DropReason>) {
        let sats = pending.terms.amount_msat() / crate::chain::MSAT_PER_SAT;
        let policy = self.chain.policy.as_ref();
        let depth = policy.and_then(|policy| policy.depth_for(sats));
        let due = script.and_then(|script| {
            let depth = depth.ok_or(DropReason::LimitReached)?;
            let bill = bill_id(&pending.description_hash(&self.node_id()), &script);
            Ok(Due::Output(QuotedOutput { script, depth }, bill))
        });
        self.give_or_refuse(pending, due);
    }

    pub(super) fn note_output_quote(
        &mut self,
        pending: &PendingQuote,
        bill: BillId,
        script: &[u8],
    ) -> Result<(), DropReason> {
        let quote = OutputQuote {
            bill,
            script: script.to_vec(),
            account: pending.account,
            credit_msat: pending.terms.credit_msat,
            treasury_msat: pending.terms.treasury_msat,
            redeem_by: pending.redeem_by,
            previous: pending.previous,
            split: pending.split.0.clone(),
            place: pending.split.1,
        };
        self.chain.quotes.insert(quote.clone())?;
        self.persist(Record::OutputQuote(quote));
        Ok(())
    }

    pub(super) fn forget_bills_and_output_quotes(&mut self, now: Now) {
        for bill in self.chain.quotes.expire(now.unix) {
            self.persist(Record::OutputQuoteClosed(bill));
        }
        for bill in self.payer.bills.expire(now.unix) {
            self.persist(Record::BillForgotten(bill));
        }
    }
}

/// Proofs.
impl Core {
    /// What the chain source is to be asked about the proof in an open. Whatever can be refused without asking is.
    pub(super) fn question_about(
        &self,
        now: Now,
        pending: &PendingOpen,
    ) -> Result<ChainQuestion, DropReason> {
        let proof = pending.proof().ok_or(DropReason::PaymentMissing)?;
        let quote = self.quote_shown(now, pending)?;
        if self.pending_opens.len() >= MAX_PENDING_OPENS {
            return Err(DropReason::TableFull);
        }
        match proof {
            PaymentProof::OnChainSettlement { tx_hash, .. } => Ok(ChainQuestion::Payment { txid: *tx_hash }),
            proof => covenants::question(proof, quote),
        }
    }

    /// The quote that a proof pays, if the one who shows it may redeem it. The order goes from what a stranger could get
    /// wrong to what was this node's to remember, so that the reason names the first thing to mend.
    fn quote_shown(&self, now: Now, pending: &PendingOpen) -> Result<&OutputQuote, DropReason> {
        let proof = pending.proof().ok_or(DropReason::PaymentMissing)?;
        let is_covenant = matches!(proof, PaymentProof::InstantSettlement { .. });
        if self.chain.policy.is_none() || (is_covenant && !covenants::TAKEN) {
            return Err(DropReason::ProofKindRefused);
        }
        let bill = bill_of(proof).ok_or(DropReason::InvoiceInvalid)?;
        if let Some(HonouredState::TakenBack { .. }) =
            self.chain.watched.get(&bill).map(|output| output.state)
        {
            return Err(DropReason::Reorganised);
        }
        if self.replay.is_redeemed(&bill) {
            return Err(DropReason::AlreadyRedeemed);
        }
        let quote = self.chain.quotes.get(&bill).ok_or(DropReason::InvoiceNotMine)?;
        let key = self.quotes.key(pending.quote()).ok_or(DropReason::UnknownQuote)?;
        if quote.account != key.record.account {
            return Err(DropReason::WrongAccountKey);
        }
        if now.unix > quote.redeem_by {
            return Err(DropReason::ProofExpired);
        }
        Ok(quote)
    }

    fn redeem_payment(
        &mut self,
        now: Now,
        pending: &PendingOpen,
        facts: &PaymentFacts,
    ) -> Result<(), DropReason> {
        let Some(PaymentProof::OnChainSettlement { tx_hash, .. }) = pending.proof() else {
            return Err(DropReason::ProofKindRefused);
        };
        let quote = self.quote_shown(now, pending)?.clone();
        let found = judge_payment(&quote, *tx_hash, facts)?;
        self.honour(now, pending.session(), &quote, &found)
    }

    fn redeem_covenant(
        &mut self,
        now: Now,
        pending: &PendingOpen,
        facts: &CovenantFacts,
    ) -> Result<(), DropReason> {
        let quote = self.quote_shown(now, pending)?.clone();
        let proof = pending.proof().ok_or(DropReason::PaymentMissing)?;
        let policy = self.chain.policy.as_ref().ok_or(DropReason::ProofKindRefused)?;
        let found = covenants::judge(proof, &quote, policy, facts)?;
        self.honour(now, pending.session(), &quote, &found)
    }

    /// Books what was found to be money, if it is deep enough and never was before.
    fn honour(
        &mut self,
        now: Now,
        session: SessionId,
        quote: &OutputQuote,
        found: &Found,
    ) -> Result<(), DropReason> {
        let outpoint = found.outpoint.key();
        if self.replay.is_redeemed(&outpoint) {
            return Err(DropReason::AlreadyRedeemed);
        }
        let policy = self.chain.policy.as_ref().ok_or(DropReason::ProofKindRefused)?;
        let others = self.chain.watched.at_stake_sats(found.place.height);
        if found.place.depth < policy.depth_at_stake(found.sats.saturating_add(others)) {
            return Err(DropReason::Unconfirmed);
        }
        self.chain.watched.check_room()?;
        let honoured = HonouredOutput::new(quote, found)?;
        let slot = self.accounts.slot(&quote.account)?;
        let treasury_owed = self
            .treasury_owed_msat
            .checked_add(quote.treasury_msat)
            .ok_or(DropReason::LimitReached)?;
        // Both names are remembered: the bill, so that a second output to its script buys nothing, and the output, so
        // that a wallet that gives one script twice does no harm.
        self.replay.redeem(&outpoint, FOR_EVER, now.unix)?;
        self.replay.redeem(&quote.bill, FOR_EVER, now.unix)?;
        let record = self.accounts.credit(slot, quote.credit_msat)?;
        self.chain.quotes.close(&quote.bill);
        self.treasury_owed_msat = treasury_owed;
        self.earned_msat = self.earned_msat.saturating_add(quote.credit_msat);
        self.persist(Record::Account(record));
        self.persist(Record::TreasuryOwed(treasury_owed));
        self.persist(Record::OutputQuoteClosed(quote.bill));
        self.persist(Record::Earned(self.earned_msat));
        self.book(credited(now.unix, &honoured).of_session(session));
        self.persist(Record::Honoured(Box::new(honoured.clone())));
        self.event(Event::PaymentVerified {
            payment_hash: quote.bill,
            invoice: None,
            credit_msat: quote.credit_msat,
            treasury_msat: quote.treasury_msat,
        });
        self.look_after(now, honoured);
        Ok(())
    }

    /// Takes up an output that an earlier life honoured.
    pub(super) fn restore_honoured(&mut self, output: HonouredOutput, now: Now) -> Result<(), DropReason> {
        for name in [output.outpoint.key(), output.bill] {
            // The same output may come again, as it stood later.
            if !self.replay.is_redeemed(&name) {
                self.replay.redeem(&name, FOR_EVER, now.unix)?;
            }
        }
        match output.state {
            HonouredState::Standing | HonouredState::TakenBack { .. } => self.look_after(now, output),
            HonouredState::Final | HonouredState::Lost => {
                self.chain.watched.remove(&output.bill);
            }
        }
        Ok(())
    }
}

/// The entry of an output that is credited, the first time or again.
pub(super) fn credited(at: UnixMillis, output: &HonouredOutput) -> Entry {
    Entry::new(at, EntryKind::Credited)
        .of_payment(output.outpoint.key())
        .debit(LedgerAccount::OnChain, output.value_msat)
        .credit(LedgerAccount::PayerCredit(output.account), output.credit_msat)
        .credit(LedgerAccount::TreasuryOwed, output.treasury_msat)
        .credit(LedgerAccount::Earned, output.excess_msat)
        .credit(LedgerAccount::Lost, output.lost_msat())
}

/// As payer: bills of others.
impl Core {
    /// Remembers what payments of these bills will be worth: they are mostly shown with later quotes.
    pub(super) fn note_bills(&mut self, bills: Vec<Bill>) {
        for bill in bills {
            self.payer.bills.insert(bill);
            self.persist(Record::Bill(bill));
        }
    }

    /// A payee credited a payment, perhaps one of a bill. Only now is it this node's: that somebody on this machine paid it
    /// from elsewhere, and the credit that it bought, are booked together.
    pub(super) fn bill_redeemed_at(&mut self, at: UnixMillis, payee: &NodeId, id: &BillId) {
        let Some(bill) = self.payer.bills.redeemed(payee, id) else {
            return;
        };
        match self.payer.purses.at(payee) {
            Ok(purse) => {
                purse.credit_msat = purse.credit_msat.saturating_add(bill.credit_msat);
                purse.durable_msat = purse.durable_msat.saturating_add(bill.credit_msat);
                purse.redemptions += 1;
            }
            Err(reason) => return self.count(reason),
        }
        let brought = Entry::new(at, EntryKind::ProofBrought)
            .of_payment(bill.id)
            .debit(LedgerAccount::Paid(*payee), bill.credit_msat)
            .debit(LedgerAccount::Carriage(*payee), bill.treasury_msat)
            .credit(
                LedgerAccount::Outside,
                bill.credit_msat.saturating_add(bill.treasury_msat),
            );
        let redeemed = Entry::new(at, EntryKind::Redeemed)
            .of_payment(bill.id)
            .debit(LedgerAccount::CreditAt(*payee), bill.credit_msat)
            .credit(LedgerAccount::Paid(*payee), bill.credit_msat);
        self.book(brought);
        self.book(redeemed);
        self.write_spent(at, payee, true);
        self.persist(Record::Bill(bill));
    }

    /// This node's wallet pays over Lightning only: what is to be paid on the chain the caller has paid, or is told whom
    /// he has not.
    pub(super) fn check_bills_paid(
        &self,
        quotes: crate::message::RequestId,
        opening: &crate::payer::Opening,
    ) -> Result<(), Box<crate::event::Refusal>> {
        let Some(set) = self.payer.quote_sets.get(&quotes) else {
            return Ok(());
        };
        let unpaid = set
            .quotes
            .iter()
            .flatten()
            .zip(&opening.proofs)
            .filter(|(accepted, proof)| accepted.quote.output.is_some() && proof.is_none());
        let missing: Vec<_> = unpaid.map(|(accepted, _)| accepted.quote.payee).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Box::new(crate::event::Refusal {
            missing,
            ..*crate::event::Refusal::own(DropReason::PaymentMissing)
        }))
    }
}

/// Covenants, as far as this build takes them.
#[cfg(feature = "ctv")]
mod covenants {
    pub(super) use crate::ctv::{judge, question};

    pub(super) const TAKEN: bool = true;
}

/// Without the feature `ctv` none is taken: they are refused by their kind before any of this is asked.
#[cfg(not(feature = "ctv"))]
mod covenants {
    use crate::chain::{ChainPolicy, ChainQuestion, CovenantFacts, Found, OutputQuote};
    use crate::drop_reason::DropReason;
    use crate::payment_proof::PaymentProof;

    pub(super) const TAKEN: bool = false;

    pub(super) fn question(_: &PaymentProof, _: &OutputQuote) -> Result<ChainQuestion, DropReason> {
        Err(DropReason::ProofKindRefused)
    }

    pub(super) fn judge(
        _: &PaymentProof,
        _: &OutputQuote,
        _: &ChainPolicy,
        _: &CovenantFacts,
    ) -> Result<Found, DropReason> {
        Err(DropReason::ProofKindRefused)
    }
}
