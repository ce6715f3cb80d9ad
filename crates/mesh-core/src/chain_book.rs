//! What a node remembers of payments on the chain: scripts it quoted, outputs it honoured, and, as payer, the bills that
//! others gave it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::chain::{BillId, Found, OutPoint, OutputQuote, WatchedAs};
use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::limits::{MAX_BILLS, MAX_OUTPUT_QUOTES, MAX_OUTPUT_QUOTES_PER_NEIGHBOUR, MAX_WATCHED_OUTPUTS};
use crate::quotes::EXPIRED_PER_STEP;
use crate::time::UnixMillis;

/// The scripts this node quoted that are neither redeemed nor expired.
#[derive(Default)]
pub struct OutputQuotes {
    quotes: BTreeMap<BillId, OutputQuote>,
    by_expiry: BTreeSet<(UnixMillis, BillId)>,
    scripts: BTreeSet<Vec<u8>>,
    per_neighbour: BTreeMap<NodeId, usize>,
}

impl OutputQuotes {
    /// Whether one more quote may be given to a request that came over `previous`.
    pub fn check_room(&self, previous: &NodeId) -> Result<(), DropReason> {
        let of_neighbour = self.per_neighbour.get(previous).copied().unwrap_or(0);
        if self.quotes.len() >= MAX_OUTPUT_QUOTES || of_neighbour >= MAX_OUTPUT_QUOTES_PER_NEIGHBOUR {
            Err(DropReason::TableFull)
        } else {
            Ok(())
        }
    }

    /// Remembers a quote. A script that is in another quote is refused: one payment would look like both.
    pub fn insert(&mut self, quote: OutputQuote) -> Result<(), DropReason> {
        self.close(&quote.bill);
        if !self.scripts.insert(quote.script.clone()) {
            return Err(DropReason::ChainUnavailable);
        }
        self.by_expiry.insert((quote.redeem_by, quote.bill));
        *self.per_neighbour.entry(quote.previous).or_default() += 1;
        self.quotes.insert(quote.bill, quote);
        Ok(())
    }

    /// The quote of that name.
    pub fn get(&self, bill: &BillId) -> Option<&OutputQuote> {
        self.quotes.get(bill)
    }

    /// Forgets a quote: it was redeemed, or can no longer be.
    pub fn close(&mut self, bill: &BillId) -> bool {
        let Some(quote) = self.quotes.remove(bill) else {
            return false;
        };
        self.by_expiry.remove(&(quote.redeem_by, *bill));
        self.scripts.remove(&quote.script);
        if let Some(count) = self.per_neighbour.get_mut(&quote.previous) {
            *count -= 1;
            if *count == 0 {
                self.per_neighbour.remove(&quote.previous);
            }
        }
        true
    }

    /// Forgets a bounded part of the quotes beyond their redeem-by; their names come back.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<BillId> {
        let due = self
            .by_expiry
            .iter()
            .take_while(|(redeem_by, _)| *redeem_by < now);
        let due: Vec<BillId> = due.take(EXPIRED_PER_STEP).map(|(_, bill)| *bill).collect();
        for bill in &due {
            self.close(bill);
        }
        due
    }
}

/// How it stands with an honoured output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HonouredState {
    /// In the best chain; its credit was given.
    Standing,
    /// Not in the best chain any more. What was left of its credit was taken back, and is given again if it comes back.
    TakenBack {
        /// The height of the tip when that was found.
        at_height: u32,
    },
    /// Too deep to be taken back. No longer looked after, and remembered for ever.
    Final,
    /// Taken back, and given up. Remembered for ever all the same.
    Lost,
}

/// An output that was honoured. Never forgotten: its owner could show it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HonouredOutput {
    /// The output.
    pub outpoint: OutPoint,
    /// The bill that it paid.
    pub bill: BillId,
    /// The account that it was credited to.
    pub account: [u8; 32],
    /// What it pays this node, in msat.
    pub value_msat: u64,
    /// The credit that rests on it, in msat: what was given, or after it was taken back what was taken.
    pub credit_msat: u64,
    /// The treasury's part that rests on it, in msat, likewise.
    pub treasury_msat: u64,
    /// What it pays beyond what was quoted, in msat: the payee's.
    pub excess_msat: u64,
    /// How it is looked after.
    pub watched_as: WatchedAs,
    /// The block it was last found in.
    pub block: [u8; 32],
    /// That block's height.
    pub height: u32,
    /// How it stands.
    pub state: HonouredState,
}

impl HonouredOutput {
    /// An output that was found to pay a quote.
    pub fn new(quote: &OutputQuote, found: &Found) -> Result<Self, DropReason> {
        let value_msat = found
            .sats
            .checked_mul(crate::chain::MSAT_PER_SAT)
            .ok_or(DropReason::LimitReached)?;
        Ok(Self {
            outpoint: found.outpoint,
            bill: quote.bill,
            account: quote.account,
            value_msat,
            credit_msat: quote.credit_msat,
            treasury_msat: quote.treasury_msat,
            excess_msat: value_msat.saturating_sub(quote.credit_msat.saturating_add(quote.treasury_msat)),
            watched_as: found.watched_as.clone(),
            block: found.place.block,
            height: found.place.height,
            state: HonouredState::Standing,
        })
    }

    /// What rests on it no more, in msat: it was taken back after packets had drawn it or the treasury was paid.
    pub fn lost_msat(&self) -> u64 {
        let rests = self.credit_msat.saturating_add(self.treasury_msat);
        self.value_msat
            .saturating_sub(rests.saturating_add(self.excess_msat))
    }
}

/// Honoured outputs that are not yet final.
#[derive(Default)]
pub struct Watched {
    by_bill: BTreeMap<BillId, HonouredOutput>,
    /// Where the next round of look-ups goes on.
    cursor: BillId,
}

impl Watched {
    /// Whether one more can be looked after.
    pub fn check_room(&self) -> Result<(), DropReason> {
        if self.by_bill.len() >= MAX_WATCHED_OUTPUTS {
            Err(DropReason::TableFull)
        } else {
            Ok(())
        }
    }

    /// Looks after an output from now on, or has news of it.
    pub fn insert(&mut self, output: HonouredOutput) {
        self.by_bill.insert(output.bill, output);
    }

    /// The output that paid a bill, if it is looked after.
    pub fn get(&self, bill: &BillId) -> Option<&HonouredOutput> {
        self.by_bill.get(bill)
    }

    /// No longer looks after an output.
    pub fn remove(&mut self, bill: &BillId) -> Option<HonouredOutput> {
        self.by_bill.remove(bill)
    }

    /// Whether nothing is looked after.
    pub fn is_empty(&self) -> bool {
        self.by_bill.is_empty()
    }

    /// Outputs looked after.
    pub fn len(&self) -> usize {
        self.by_bill.len()
    }

    /// All outputs looked after.
    pub fn iter(&self) -> impl Iterator<Item = &HonouredOutput> {
        self.by_bill.values()
    }

    /// What a reorganisation that reaches down to `height` would take back, in sats: all that stands there or higher.
    pub fn at_stake_sats(&self, height: u32) -> u64 {
        let higher = self
            .by_bill
            .values()
            .filter(|output| output.state == HonouredState::Standing && output.height >= height);
        higher.fold(0, |sum, output| {
            sum.saturating_add(output.value_msat / crate::chain::MSAT_PER_SAT)
        })
    }

    /// Up to `most` outputs of those that `wanted` chooses, going on where the last call ended: with many of them all
    /// have their turn.
    pub fn next_round(
        &mut self,
        most: usize,
        wanted: impl Fn(&HonouredOutput) -> bool,
    ) -> Vec<HonouredOutput> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let behind = self.by_bill.range((Excluded(self.cursor), Unbounded));
        let before = self.by_bill.range((Unbounded, Included(self.cursor)));
        let round: Vec<HonouredOutput> = behind
            .chain(before)
            .map(|(_, output)| output)
            .filter(|output| wanted(output))
            .take(most)
            .cloned()
            .collect();
        if let Some(last) = round.last() {
            self.cursor = last.bill;
        }
        round
    }
}

/// Another node's quote to be paid on the chain: what a payment of it is worth to this node as payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// Its name.
    pub id: BillId,
    /// Who is to be paid.
    pub payee: NodeId,
    /// The credit that paying it buys, in msat.
    pub credit_msat: u64,
    /// The treasury's part in it, in msat.
    pub treasury_msat: u64,
    /// Until when the payment is redeemed.
    pub redeem_by: UnixMillis,
    /// Whether it was: shown again, it would be refused and the session with it.
    pub redeemed: bool,
}

/// Bills of others that could still be shown, as far as this node knows.
#[derive(Default)]
pub struct Bills {
    by_id: BTreeMap<BillId, Bill>,
    by_expiry: BTreeSet<(UnixMillis, BillId)>,
}

impl Bills {
    /// Whether as many more fit.
    pub fn check_room(&self, more: usize) -> Result<(), DropReason> {
        if self.by_id.len().saturating_add(more) > MAX_BILLS {
            Err(DropReason::TableFull)
        } else {
            Ok(())
        }
    }

    /// Remembers a bill.
    pub fn insert(&mut self, bill: Bill) {
        self.forget(&bill.id);
        self.by_expiry.insert((bill.redeem_by, bill.id));
        self.by_id.insert(bill.id, bill);
    }

    /// The bill of that name.
    pub fn get(&self, id: &BillId) -> Option<&Bill> {
        self.by_id.get(id)
    }

    /// The payment of a bill was redeemed; the bill as it now is, if it is one of this payee's that was not.
    pub fn redeemed(&mut self, payee: &NodeId, id: &BillId) -> Option<Bill> {
        let bill = self.by_id.get_mut(id)?;
        if bill.redeemed || bill.payee != *payee {
            return None;
        }
        bill.redeemed = true;
        Some(*bill)
    }

    /// Forgets a bill: its payment can no longer be redeemed.
    pub fn forget(&mut self, id: &BillId) -> bool {
        let Some(bill) = self.by_id.remove(id) else {
            return false;
        };
        self.by_expiry.remove(&(bill.redeem_by, *id));
        true
    }

    /// Forgets a bounded part of those that can no longer be redeemed; their names come back.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<BillId> {
        let due = self
            .by_expiry
            .iter()
            .take_while(|(redeem_by, _)| *redeem_by < now);
        let due: Vec<BillId> = due.take(EXPIRED_PER_STEP).map(|(_, id)| *id).collect();
        for id in &due {
            self.forget(id);
        }
        due
    }
}

#[cfg(test)]
mod tests;
