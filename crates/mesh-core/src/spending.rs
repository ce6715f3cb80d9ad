//! What this node may pay by itself for others on this machine: auto-pay.
//!
//! A module that sends without a proof of payment spends the operator's money. It may, within caps that the operator set
//! ([`SpendingCaps`], all zero unless he sets them): on the price of one packet, on one purchase, and on what leaves the
//! wallet within any hour, any day, any day to one destination, and any day for one caller. Callers whom the host did not
//! name share one budget, since whoever may go unnamed could otherwise take as many budgets as he invents names.
//!
//! # One purchase
//!
//! [`Spending::reserve`] before anything is paid, with the most that it may cost: shares and Lightning fees. What is
//! reserved counts as spent, so that two purchases at once do not both take the last of a budget. [`Spending::settle`]
//! afterwards with what it did cost. A payment whose outcome is not known is settled as paid: it may be.
//!
//! # Which clock
//!
//! The windows slide on the monotonic clock: whoever sets the machine's clock forward would otherwise refill every
//! budget. A restart forgets that clock, so each purchase is written down with its unix time ([`SpendingRecord`]), before
//! it is paid and with the most it may cost, and a later life counts it at its age. The wall clock never runs backwards
//! ([`crate::time::UnixMillis`]), so an age is never below zero; a clock that stands still makes budgets free later. What
//! remains is a clock that is set forward and a restart after it, which frees what it makes old: a machine whose clock an
//! attacker may set, and who restarts its node, is his already.
//!
//! # Credit that is there
//!
//! Credit that earlier purchases left at a payee belongs to the node, and any caller's session may draw it. No money leaves
//! the wallet for it, but it does count in the budget of the caller: else an unidentified caller would use up what a module
//! bought, and the module's budget would pay for it twice. A session that auto-pay opened carries no more units than it was
//! counted for.

mod budget;
mod caller;
mod caps;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::NodeId;
use crate::limits::{MAX_SPENDING_CALLERS, MAX_SPENDING_DESTINATIONS, MAX_SPENDING_RECORDS};
use crate::message::RequestId;
use crate::time::{Now, UnixMillis};

use budget::{Budget, DAY, DAY_STEP, Drawn};
pub use caller::{BadModuleName, Caller, ModuleName};
use caps::within;
pub use caps::{SpendingCap, SpendingCaps, SpendingRefusal, SpendingTable};
use window::{Moment, micros};

/// Where the timeline stands when the monotonic clock stands at zero, in microseconds: what an earlier life spent lies
/// before it, and twice a day is older than anything that counts.
const ORIGIN: Moment = 2 * 24 * 3600 * 1_000_000;

/// A purchase that somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purchase {
    /// Where the packets are to go.
    pub destination: NodeId,
    /// What all payees who are to be paid now are paid, in msat.
    pub shares_msat: u64,
    /// The most that Lightning fees may add for all payments together, in msat.
    pub fees_msat: u64,
    /// What one packet costs, in msat.
    pub packet_msat: u64,
    /// What the session may draw of credit that is there already, in msat.
    pub drawn_msat: u64,
}

/// A purchase as it is written down: once with the most that it may cost, before anything is paid, and again under the
/// same name when it is known what it did cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendingRecord {
    /// Its name, given to no other.
    pub id: RequestId,
    /// When.
    pub at: UnixMillis,
    /// For whom.
    pub caller: Caller,
    /// To whom.
    pub destination: NodeId,
    /// How much left the wallet, Lightning fees included, in msat.
    pub msat: u64,
    /// How much credit that was there the caller may draw, in msat.
    pub drawn_msat: u64,
    /// Whether it is known what it did cost.
    pub decided: bool,
}

impl SpendingRecord {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.msat == 0 && self.drawn_msat == 0
    }
}

/// Money that is set aside for one purchase. It counts as spent until it is settled.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is reserved counts as spent until it is settled"]
pub struct Reservation {
    id: RequestId,
    at: Moment,
    caller: Caller,
    destination: NodeId,
    msat: u64,
    drawn_msat: u64,
}

impl Reservation {
    /// What is set aside, in msat.
    pub fn msat(&self) -> u64 {
        self.msat
    }

    fn record(&self, at: UnixMillis, msat: u64, drawn_msat: u64) -> SpendingRecord {
        SpendingRecord {
            id: self.id,
            at,
            caller: self.caller.clone(),
            destination: self.destination,
            msat,
            drawn_msat,
            decided: false,
        }
    }
}

/// What this node paid by itself within the last day, and what it may still pay.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Spending {
    caps: SpendingCaps,
    hour: Budget,
    day: Budget,
    destinations: BTreeMap<NodeId, Budget>,
    callers: BTreeMap<Caller, Budget>,
    /// What is written down, oldest first.
    records: BTreeSet<(Moment, RequestId)>,
}

impl Spending {
    /// Nothing spent yet.
    pub fn new(caps: SpendingCaps) -> Self {
        Self {
            caps,
            hour: Budget::of_an_hour(),
            day: Budget::of_a_day(),
            destinations: BTreeMap::new(),
            callers: BTreeMap::new(),
            records: BTreeSet::new(),
        }
    }

    /// What the operator allows.
    pub fn caps(&self) -> &SpendingCaps {
        &self.caps
    }

    /// Other caps from now on. What was paid or set aside before counts under them as well.
    pub fn set_caps(&mut self, caps: SpendingCaps) {
        self.caps = caps;
    }

    /// Whether a packet at this price may be sent over a session that auto-pay opened.
    ///
    /// # Errors
    /// [`SpendingRefusal::Above`] the cap per packet.
    pub fn allows_packet(&self, packet_msat: u64) -> Result<(), SpendingRefusal> {
        within(SpendingCap::Packet, self.caps.per_packet_msat, packet_msat)
    }

    /// Sets money aside for a purchase, under a name that no other has. The record must be durable before anything is paid.
    ///
    /// # Errors
    /// [`SpendingRefusal`]; nothing is set aside then.
    pub fn reserve(
        &mut self,
        now: Now,
        id: RequestId,
        caller: &Caller,
        purchase: &Purchase,
    ) -> Result<(Reservation, SpendingRecord), SpendingRefusal> {
        let at = moment(now);
        if !self.caps.is_on() {
            return Err(SpendingRefusal::Off);
        }
        self.allows_packet(purchase.packet_msat)?;
        within(SpendingCap::Total, self.caps.max_total_msat, purchase.shares_msat)?;
        let msat = purchase.shares_msat.saturating_add(purchase.fees_msat);
        self.hour
            .allows(at, SpendingCap::Hour, self.caps.per_hour_msat, msat)?;
        self.day
            .allows(at, SpendingCap::Day, self.caps.per_day_msat, msat)?;
        self.make_room(at, caller, &purchase.destination)?;
        let to_destination = self.caps.per_destination_day_msat;
        let destination = self.destinations.get(&purchase.destination);
        destination.unwrap_or(&Budget::of_a_day()).allows(
            at,
            SpendingCap::Destination,
            to_destination,
            msat,
        )?;
        let (cap, for_caller) = self.caps.of_caller(caller);
        let known = self.callers.get(caller);
        let used_msat = msat.saturating_add(purchase.drawn_msat);
        known
            .unwrap_or(&Budget::of_a_day())
            .allows(at, cap, for_caller, used_msat)?;

        let reservation = Reservation {
            id,
            at,
            caller: caller.clone(),
            destination: purchase.destination,
            msat,
            drawn_msat: purchase.drawn_msat,
        };
        for (budget, drawn) in self.budgets_of(caller, &purchase.destination) {
            budget.hold(msat.saturating_add(drawn.of(purchase.drawn_msat)));
        }
        self.records.insert((at, id));
        let record = reservation.record(now.unix, msat, purchase.drawn_msat);
        Ok((reservation, record))
    }

    /// A purchase is decided: `spent_msat` left the wallet, Lightning fees included, or may have; `drawn_msat` of credit may
    /// be drawn. The record replaces the one of the reservation.
    pub fn settle(
        &mut self,
        now: Now,
        reservation: Reservation,
        spent_msat: u64,
        drawn_msat: u64,
    ) -> SpendingRecord {
        let at = moment(now);
        let record = SpendingRecord {
            decided: true,
            ..reservation.record(now.unix, spent_msat, drawn_msat)
        };
        let Reservation { msat, .. } = reservation;
        for (budget, drawn) in self.budgets_of(&record.caller, &record.destination) {
            let held = msat.saturating_add(drawn.of(reservation.drawn_msat));
            budget.settle(at, held, spent_msat.saturating_add(drawn.of(drawn_msat)));
        }
        self.records.remove(&(reservation.at, record.id));
        if !record.is_empty() {
            self.records.insert((at, record.id));
        }
        record
    }

    /// Takes up what an earlier life wrote down. A purchase that it left undecided may have been paid at any moment since, so
    /// it counts from now on; the record that comes back says so and replaces the old one.
    pub fn restore(&mut self, now: Now, record: SpendingRecord) -> Option<SpendingRecord> {
        let undecided = !record.decided;
        let record = SpendingRecord {
            at: if undecided { now.unix } else { record.at },
            decided: true,
            ..record
        };
        // Both times are cut to milliseconds, which may make it look one older than it is.
        let age = (now.unix - record.at).saturating_sub(Duration::from_millis(1));
        let at = moment(now).saturating_sub(micros(age));
        for (budget, drawn) in self.budgets_of(&record.caller, &record.destination) {
            let used = record.msat.saturating_add(drawn.of(record.drawn_msat));
            budget.window.add(at, used);
        }
        self.records.insert((at, record.id));
        undecided.then_some(record)
    }

    /// Forgets what no longer counts, and names the records that need no longer be kept.
    pub fn forget(&mut self, now: Now) -> Vec<RequestId> {
        let at = moment(now);
        self.hour.forget(at);
        self.day.forget(at);
        self.destinations.retain(|_, budget| !budget.forget(at));
        self.callers.retain(|_, budget| !budget.forget(at));
        let oldest = at.saturating_sub(micros(DAY + DAY_STEP)).saturating_add(1);
        let kept = self.records.split_off(&(oldest, RequestId::default()));
        let old = std::mem::replace(&mut self.records, kept);
        old.into_iter().map(|(_, id)| id).collect()
    }

    /// Room for one more destination, caller and record, should they be new.
    fn make_room(
        &mut self,
        at: Moment,
        caller: &Caller,
        destination: &NodeId,
    ) -> Result<(), SpendingRefusal> {
        let new_destination = !self.destinations.contains_key(destination);
        if new_destination && self.destinations.len() >= MAX_SPENDING_DESTINATIONS {
            self.destinations.retain(|_, budget| !budget.forget(at));
        }
        if new_destination && self.destinations.len() >= MAX_SPENDING_DESTINATIONS {
            return Err(SpendingRefusal::TableFull(SpendingTable::Destinations));
        }
        let new_caller = !self.callers.contains_key(caller);
        if new_caller && self.callers.len() >= MAX_SPENDING_CALLERS {
            self.callers.retain(|_, budget| !budget.forget(at));
        }
        if new_caller && self.callers.len() >= MAX_SPENDING_CALLERS {
            return Err(SpendingRefusal::TableFull(SpendingTable::Callers));
        }
        if self.records.len() >= MAX_SPENDING_RECORDS {
            return Err(SpendingRefusal::TableFull(SpendingTable::Records));
        }
        Ok(())
    }

    /// All budgets that a purchase counts in, and whether drawn credit does too.
    fn budgets_of(&mut self, caller: &Caller, destination: &NodeId) -> [(&mut Budget, Drawn); 4] {
        let destination = self.destinations.entry(*destination);
        let caller = self.callers.entry(caller.clone());
        [
            (&mut self.hour, Drawn::Ignored),
            (&mut self.day, Drawn::Ignored),
            (destination.or_insert_with(Budget::of_a_day), Drawn::Ignored),
            (caller.or_insert_with(Budget::of_a_day), Drawn::Counted),
        ]
    }
}

fn moment(now: Now) -> Moment {
    now.instant.0.saturating_add(ORIGIN)
}

#[cfg(test)]
mod tests;
