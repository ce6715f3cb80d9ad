//! As payee: honoured outputs are looked after until they are final.
//!
//! A reorganisation may take an honoured output out of the best chain. What is left of its credit is then taken back and
//! the rest is booked as lost; if it comes back, it is credited again. Both are decided on the chain source's word about
//! the transaction itself, asked after its block was found to have left the best chain: a block that is replaced by
//! another with the same payment in it changes nothing for anybody.
//!
//! An account is one: what is taken back may have been bought with another payment of the same payer. He paid with money
//! that is not there.

use crate::chain::{ChainQuestion, CovenantFacts, FundingFacts, Standing, WatchedAs};
use crate::chain_book::{HonouredOutput, HonouredState};
use crate::drop_reason::DropReason;
use crate::event::{Event, Record};
use crate::ledger::{Entry, EntryKind, LedgerAccount};
use crate::limits::{CHAIN_RECHECK_EVERY, FINAL_DEPTH, MAX_BLOCKS_ASKED, MAX_OUTPUTS_ASKED};
use crate::time::{Now, UnixMillis};

use super::chain::{ChainAsked, credited};
use super::{Core, Timer};

impl Core {
    /// Looks after an honoured output until it is final.
    pub(super) fn look_after(&mut self, now: Now, output: HonouredOutput) {
        if let WatchedAs::Bound { transaction, .. } = &output.watched_as {
            let transaction = transaction.clone();
            self.ask_chain(ChainAsked::Settle, ChainQuestion::Broadcast { transaction });
        }
        self.chain.watched.insert(output);
        if !self.chain.watching
            && let Some(policy) = &self.chain.policy
        {
            self.chain.watching = true;
            self.set_timer(now.instant + policy.watch_every, Timer::WatchChain);
        }
    }

    /// One round. While the last one is not answered no new one begins.
    pub(super) fn watch_chain(&mut self, now: Now) {
        let Some(policy) = self
            .chain
            .policy
            .as_ref()
            .filter(|_| !self.chain.watched.is_empty())
        else {
            self.chain.watching = false;
            return;
        };
        self.set_timer(now.instant + policy.watch_every, Timer::WatchChain);
        if !self.is_watching() {
            self.ask_about_blocks();
        }
    }

    /// A round out of turn: the host saw the chain change. Whoever can make hosts believe that it changes all the time gets
    /// no more than a question every [`CHAIN_RECHECK_EVERY`].
    pub(super) fn recheck_chain(&mut self, now: Now) {
        if self.chain.recheck_set || self.chain.policy.is_none() || self.chain.watched.is_empty() {
            return;
        }
        self.chain.recheck_set = true;
        let at = self.chain.recheck_from.max(now.instant);
        self.chain.recheck_from = at + CHAIN_RECHECK_EVERY;
        self.set_timer(at, Timer::RecheckChain);
    }

    /// A round that is under way may have asked before the chain changed: then another follows it.
    pub(super) fn recheck_due(&mut self, now: Now) {
        self.chain.recheck_set = false;
        if self.is_watching() {
            self.recheck_chain(now);
        } else if !self.chain.watched.is_empty() {
            self.ask_about_blocks();
        }
    }

    fn is_watching(&self) -> bool {
        self.chain.asked.values().any(|asked| {
            matches!(
                asked,
                ChainAsked::Blocks(_) | ChainAsked::StandingOf(_) | ChainAsked::Settle
            )
        })
    }

    fn ask_about_blocks(&mut self) {
        let standing = self.chain.watched.iter().filter(|output| is_standing(output));
        // Together and in order: the blocks furthest down first, which become final and make room for others.
        let blocks: std::collections::BTreeSet<(u32, [u8; 32])> =
            standing.map(|output| (output.height, output.block)).collect();
        let blocks: Vec<[u8; 32]> = blocks
            .into_iter()
            .take(MAX_BLOCKS_ASKED)
            .map(|(_, block)| block)
            .collect();
        // With no block to ask about, the tip's height alone is what is wanted.
        let question = ChainQuestion::Blocks {
            blocks: blocks.clone(),
        };
        self.ask_chain(ChainAsked::Blocks(blocks), question);
    }

    pub(super) fn on_blocks(
        &mut self,
        blocks: &[[u8; 32]],
        found: Result<(u32, Vec<Option<u32>>), DropReason>,
    ) {
        let (tip, depths) = match found {
            Ok((tip, depths)) if depths.len() == blocks.len() => (tip, depths),
            // Nothing is known, so nothing changes.
            Ok(_) => return self.count(DropReason::ChainUnavailable),
            Err(reason) => return self.count(reason),
        };
        let (mut gone, mut r#final) = (Vec::new(), Vec::new());
        for (block, depth) in blocks.iter().zip(depths) {
            match depth {
                None => gone.push(*block),
                Some(depth) if depth >= FINAL_DEPTH => r#final.push(*block),
                Some(_) => {}
            }
        }
        let finished: Vec<HonouredOutput> = self
            .chain
            .watched
            .iter()
            .filter_map(|output| finished(output, &r#final, tip))
            .collect();
        for output in finished {
            self.chain.watched.remove(&output.bill);
            self.persist(Record::Honoured(Box::new(output)));
        }
        self.look_up_gone(&gone);
    }

    /// Asks what became of outputs whose block left the best chain, of those that left it earlier, and of covenants that
    /// are not settled yet.
    fn look_up_gone(&mut self, gone: &[[u8; 32]]) {
        let round = self.chain.watched.next_round(MAX_OUTPUTS_ASKED, |output| {
            !is_standing(output)
                || gone.contains(&output.block)
                || matches!(output.watched_as, WatchedAs::Bound { .. })
        });
        for output in round {
            let question = match output.watched_as {
                WatchedAs::Paid { txid } => ChainQuestion::Payment { txid },
                WatchedAs::Bound { settling, .. } => ChainQuestion::Covenant {
                    funding: output.outpoint,
                    settling,
                },
            };
            self.ask_chain(ChainAsked::StandingOf(output.bill), question);
        }
    }

    /// What became of a transaction that paid this node.
    pub(super) fn on_standing(&mut self, now: Now, bill: &[u8; 32], standing: Result<Standing, DropReason>) {
        let standing = match standing {
            Ok(standing) => standing,
            Err(reason) => return self.count(reason),
        };
        let Some(mut output) = self.chain.watched.get(bill).cloned() else {
            return;
        };
        match (output.state, standing) {
            (HonouredState::Standing, Standing::Confirmed(place))
                if (output.block, output.height) == (place.block, place.height) => {}
            (HonouredState::Standing, Standing::Confirmed(place)) => {
                (output.block, output.height) = (place.block, place.height);
                self.persist(Record::Honoured(Box::new(output.clone())));
                self.chain.watched.insert(output);
            }
            (HonouredState::Standing, _) => self.take_back(now, output),
            (HonouredState::TakenBack { .. }, Standing::Confirmed(place)) => {
                let policy = self.chain.policy.as_ref();
                let sats = output.value_msat / crate::chain::MSAT_PER_SAT;
                if policy.is_some_and(|policy| place.depth >= policy.depth_at_stake(sats)) {
                    (output.block, output.height) = (place.block, place.height);
                    self.give_again(now, output);
                }
            }
            _ => {}
        }
    }

    /// What became of a covenant that was honoured before it was settled.
    pub(super) fn on_bound(&mut self, now: Now, bill: &[u8; 32], facts: Result<CovenantFacts, DropReason>) {
        let facts = match facts {
            Ok(facts) => facts,
            Err(reason) => return self.count(reason),
        };
        let Some(mut output) = self.chain.watched.get(bill).cloned() else {
            return;
        };
        let WatchedAs::Bound {
            settling,
            transaction,
        } = output.watched_as.clone()
        else {
            return;
        };
        if let Standing::Confirmed(_) = facts.settling {
            // From now on it is a payment like any other.
            output.watched_as = WatchedAs::Paid { txid: settling };
            self.persist(Record::Honoured(Box::new(output.clone())));
            self.chain.watched.insert(output);
            return self.on_standing(now, bill, Ok(facts.settling));
        }
        let standing = match facts.funding {
            FundingFacts::Unspent(_, place) => Standing::Confirmed(place),
            FundingFacts::Unconfirmed => Standing::Unconfirmed,
            FundingFacts::Gone => Standing::Replaced,
        };
        if let Standing::Confirmed(_) = standing {
            self.ask_chain(ChainAsked::Settle, ChainQuestion::Broadcast { transaction });
        }
        self.on_standing(now, bill, Ok(standing));
    }

    /// The payment is not in the best chain any more: what is left of its credit is taken, the rest is lost.
    fn take_back(&mut self, now: Now, mut output: HonouredOutput) {
        let (taken_msat, account) = match self.accounts.take_back(&output.account, output.credit_msat) {
            Some((taken, record)) => (taken, Some(record)),
            None => (0, None),
        };
        let treasury_msat = output.treasury_msat.min(self.treasury_owed_msat);
        self.treasury_owed_msat -= treasury_msat;
        self.earned_msat = self.earned_msat.saturating_sub(output.credit_msat);
        (output.credit_msat, output.treasury_msat) = (taken_msat, treasury_msat);
        output.state = HonouredState::TakenBack {
            at_height: output.height,
        };
        if let Some(record) = account {
            self.persist(Record::Account(record));
        }
        self.persist(Record::TreasuryOwed(self.treasury_owed_msat));
        self.persist(Record::Earned(self.earned_msat));
        self.book(revoked(now.unix, &output));
        self.persist(Record::Honoured(Box::new(output.clone())));
        self.drop_own(DropReason::Reorganised);
        self.event(Event::OutputTakenBack {
            outpoint: output.outpoint,
            taken_msat,
            lost_msat: output.lost_msat(),
        });
        self.chain.watched.insert(output);
    }

    /// It is back, and deep enough: what was taken is credited again, once.
    fn give_again(&mut self, now: Now, mut output: HonouredOutput) {
        let Ok(slot) = self.accounts.slot(&output.account) else {
            return self.count(DropReason::TableFull);
        };
        let Some(treasury_owed) = self.treasury_owed_msat.checked_add(output.treasury_msat) else {
            return self.count(DropReason::LimitReached);
        };
        let record = match self.accounts.credit(slot, output.credit_msat) {
            Ok(record) => record,
            Err(reason) => return self.count(reason),
        };
        self.treasury_owed_msat = treasury_owed;
        self.earned_msat = self.earned_msat.saturating_add(output.credit_msat);
        output.state = HonouredState::Standing;
        self.persist(Record::Account(record));
        self.persist(Record::TreasuryOwed(treasury_owed));
        self.persist(Record::Earned(self.earned_msat));
        self.book(credited(now.unix, &output));
        self.persist(Record::Honoured(Box::new(output.clone())));
        self.event(Event::OutputCameBack {
            outpoint: output.outpoint,
            credit_msat: output.credit_msat,
        });
        self.chain.watched.insert(output);
    }
}

fn is_standing(output: &HonouredOutput) -> bool {
    output.state == HonouredState::Standing
}

/// An output as it is remembered from now on, if there is nothing more to look after: it is too deep to be taken back,
/// or was taken back so long ago that it will not return. A covenant is not done before it is settled.
fn finished(output: &HonouredOutput, r#final: &[[u8; 32]], tip: u32) -> Option<HonouredOutput> {
    let state = match output.state {
        HonouredState::Standing if r#final.contains(&output.block) => HonouredState::Final,
        HonouredState::TakenBack { at_height } if tip >= at_height.saturating_add(2 * FINAL_DEPTH) => {
            HonouredState::Lost
        }
        _ => return None,
    };
    let watched_as = output.watched_as.clone();
    let settled = matches!(watched_as, WatchedAs::Paid { .. }) || state == HonouredState::Lost;
    settled.then(|| HonouredOutput {
        state,
        ..output.clone()
    })
}

/// The entry of an output that was taken back: it has the amounts that were taken, and the rest is lost.
fn revoked(at: UnixMillis, output: &HonouredOutput) -> Entry {
    Entry::new(at, EntryKind::Revoked)
        .of_payment(output.outpoint.key())
        .credit(LedgerAccount::OnChain, output.value_msat)
        .debit(LedgerAccount::PayerCredit(output.account), output.credit_msat)
        .debit(LedgerAccount::TreasuryOwed, output.treasury_msat)
        .debit(LedgerAccount::Earned, output.excess_msat)
        .debit(LedgerAccount::Lost, output.lost_msat())
}
