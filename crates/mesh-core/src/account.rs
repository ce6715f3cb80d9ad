//! Prepaid accounts: the credit of payers at this node, in msat.
//!
//! An account belongs to an account key, not to a route or a session: when a route breaks, what is left here serves the
//! next. Draws happen in memory and are written down a lease at a time. What was drawn and is not yet known to be durable
//! is forgotten by a crash, and the payer can spend it again: this node's loss, never the payer's. All accounts together
//! it never exceeds [`CRASH_LOSS_MSAT`] (or one packet, if that is dearer): before it would, packets are refused until
//! the disk has caught up.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::limits::{ACCOUNT_LEASE_MSAT, CRASH_LOSS_MSAT, LEASES_PER_STEP, MAX_ACCOUNTS};

/// An account as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// The payer's account key.
    pub key: [u8; 32],
    /// What it holds, in msat.
    pub balance_msat: u64,
}

/// Draws of one account that are to be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The account as it is after them.
    pub record: AccountRecord,
    /// What they come to, in msat.
    pub drawn_msat: u64,
    slot: AccountSlot,
}

/// Where an account is kept: valid as long as the process lives once the account was credited, and before that until
/// [`Accounts::slot`] is called for another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountSlot(usize);

struct Account {
    key: [u8; 32],
    balance_msat: u64,
    /// What the newest record of it says.
    recorded_msat: u64,
    /// Whether a record of draws is on its way to the disk.
    writing: bool,
    /// Whether it stands in the queue of accounts with draws that no record tells.
    queued: bool,
}

/// All payers' accounts at this node.
pub struct Accounts {
    slots: Vec<Account>,
    by_key: HashMap<[u8; 32], usize, FixedState>,
    /// The one slot that was opened and never credited. The next new key takes it over, so that asking costs no room.
    never_credited: Option<usize>,
    total_msat: u64,
    drawn_msat: u64,
    /// Accounts with draws that no record tells, those drawn from first in front.
    unrecorded: VecDeque<usize>,
    unrecorded_msat: u64,
    /// Records of draws on their way to the disk: the record's number, the account, what they come to.
    writing: VecDeque<(u64, usize, u64)>,
    writing_msat: u64,
}

impl Accounts {
    /// No accounts yet. `hash_seed` keeps strangers from choosing keys that collide.
    pub fn new(hash_seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            by_key: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            never_credited: None,
            total_msat: 0,
            drawn_msat: 0,
            unrecorded: VecDeque::new(),
            unrecorded_msat: 0,
            writing: VecDeque::new(),
            writing_msat: 0,
        }
    }

    /// Takes an account from the store.
    pub fn restore(&mut self, record: AccountRecord) -> Result<(), DropReason> {
        let AccountSlot(slot) = self.slot(&record.key)?;
        let account = &mut self.slots[slot];
        let others_msat = self.total_msat - account.balance_msat;
        self.total_msat = others_msat
            .checked_add(record.balance_msat)
            .ok_or(DropReason::LimitReached)?;
        account.balance_msat = record.balance_msat;
        account.recorded_msat = record.balance_msat;
        self.never_credited = None;
        Ok(())
    }

    /// The account of a key, opened empty if there is none. An account that is opened and not credited before this is
    /// called again is forgotten: else a stranger could fill the table by opening sessions it never paid for, and
    /// those who did pay could not be credited.
    pub fn slot(&mut self, key: &[u8; 32]) -> Result<AccountSlot, DropReason> {
        if let Some(slot) = self.by_key.get(key) {
            return Ok(AccountSlot(*slot));
        }
        let fresh = Account {
            key: *key,
            balance_msat: 0,
            recorded_msat: 0,
            writing: false,
            queued: false,
        };
        let slot = match self.never_credited {
            Some(slot) => {
                let unpaid = std::mem::replace(&mut self.slots[slot], fresh);
                self.by_key.remove(&unpaid.key);
                slot
            }
            None if self.slots.len() >= MAX_ACCOUNTS => return Err(DropReason::TableFull),
            None => {
                self.slots.push(fresh);
                self.slots.len() - 1
            }
        };
        self.never_credited = Some(slot);
        self.by_key.insert(*key, slot);
        Ok(AccountSlot(slot))
    }

    /// What an account holds, in msat.
    pub fn balance_msat(&self, slot: AccountSlot) -> u64 {
        self.slots[slot.0].balance_msat
    }

    /// What the account of a key holds, in msat; 0 if there is none.
    pub fn balance_of(&self, key: &[u8; 32]) -> u64 {
        self.by_key
            .get(key)
            .map_or(0, |slot| self.slots[*slot].balance_msat)
    }

    /// Adds a verified payment. The returned record is made durable together with the payment's redemption, else a crash
    /// between the two would lose the payer's money or let it be redeemed twice. It tells no draws: those have records
    /// of their own.
    pub fn credit(&mut self, slot: AccountSlot, msat: u64) -> Result<AccountRecord, DropReason> {
        // All money there is fits u64 (2.1e18 msat); an overflow means a wallet that reports nonsense.
        let total = self
            .total_msat
            .checked_add(msat)
            .ok_or(DropReason::LimitReached)?;
        let account = &mut self.slots[slot.0];
        account.balance_msat += msat;
        account.recorded_msat += msat;
        self.total_msat = total;
        if self.never_credited == Some(slot.0) {
            self.never_credited = None;
        }
        Ok(AccountRecord {
            key: account.key,
            balance_msat: account.recorded_msat,
        })
    }

    /// Takes back up to `msat` of what an account holds, because the money that it was credited for is gone: how much was
    /// left to take, and the record of it. What packets drew is spent and stays so; it has records of its own.
    pub fn take_back(&mut self, key: &[u8; 32], msat: u64) -> Option<(u64, AccountRecord)> {
        let account = &mut self.slots[*self.by_key.get(key)?];
        let taken = account.balance_msat.min(msat);
        account.balance_msat -= taken;
        account.recorded_msat -= taken;
        self.total_msat -= taken;
        let record = AccountRecord {
            key: account.key,
            balance_msat: account.recorded_msat,
        };
        Some((taken, record))
    }

    /// Takes `msat` for one packet. Whether draws are to be written down now: take them with [`Accounts::due`].
    pub fn draw(&mut self, slot: AccountSlot, msat: u64) -> Result<bool, DropReason> {
        let unconfirmed = self.unconfirmed_msat();
        let account = &mut self.slots[slot.0];
        let balance_msat = account
            .balance_msat
            .checked_sub(msat)
            .ok_or(DropReason::CreditSpent)?;
        // A crash would forget all that is unconfirmed. The first packet passes however dear it is.
        if unconfirmed > 0 && unconfirmed.saturating_add(msat) > CRASH_LOSS_MSAT {
            return Err(DropReason::DiskBehind);
        }
        account.balance_msat = balance_msat;
        self.total_msat -= msat;
        self.drawn_msat = self.drawn_msat.saturating_add(msat);
        self.unrecorded_msat = self.unrecorded_msat.saturating_add(msat);
        if !account.queued && msat > 0 {
            account.queued = true;
            self.unrecorded.push_back(slot.0);
        }
        let lease_used_up = account.recorded_msat - balance_msat >= ACCOUNT_LEASE_MSAT && !account.writing;
        Ok(lease_used_up || self.many_unrecorded())
    }

    /// The leases to be written down after a draw from this account: its own if it is used up, and the oldest of the
    /// others when all together come to half of what a crash may cost.
    pub fn due(&mut self, drawn: AccountSlot) -> Vec<Lease> {
        let account = &self.slots[drawn.0];
        let used_up = account.recorded_msat - account.balance_msat >= ACCOUNT_LEASE_MSAT;
        let own = if used_up && !account.writing {
            self.lease(drawn)
        } else {
            None
        };
        let mut due: Vec<Lease> = own.into_iter().collect();
        while self.many_unrecorded() && due.len() < LEASES_PER_STEP {
            let Some(lease) = self.oldest() else { break };
            due.push(lease);
        }
        due
    }

    /// The draws of one account that no record tells yet.
    pub fn lease(&mut self, slot: AccountSlot) -> Option<Lease> {
        let account = &mut self.slots[slot.0];
        let drawn_msat = account.recorded_msat - account.balance_msat;
        if drawn_msat == 0 {
            return None;
        }
        account.recorded_msat = account.balance_msat;
        account.writing = true;
        self.unrecorded_msat -= drawn_msat;
        Some(Lease {
            record: AccountRecord {
                key: account.key,
                balance_msat: account.balance_msat,
            },
            drawn_msat,
            slot,
        })
    }

    /// The draws of the account that has waited longest to be written down.
    pub fn oldest(&mut self) -> Option<Lease> {
        while let Some(slot) = self.unrecorded.pop_front() {
            self.slots[slot].queued = false;
            let lease = self.lease(AccountSlot(slot));
            if lease.is_some() {
                return lease;
            }
        }
        None
    }

    /// A lease was handed to the disk as the record with this number.
    pub fn written_as(&mut self, lease: &Lease, record: u64) {
        self.writing_msat = self.writing_msat.saturating_add(lease.drawn_msat);
        self.writing.push_back((record, lease.slot.0, lease.drawn_msat));
    }

    /// All records up to this number are durable.
    pub fn confirm(&mut self, records: u64) {
        while let Some((number, slot, msat)) = self.writing.front().copied() {
            if number > records {
                return;
            }
            self.writing.pop_front();
            self.writing_msat -= msat;
            self.slots[slot].writing = false;
        }
    }

    /// What a crash at this moment would forget of what packets drew, in msat.
    pub fn unconfirmed_msat(&self) -> u64 {
        self.unrecorded_msat.saturating_add(self.writing_msat)
    }

    fn many_unrecorded(&self) -> bool {
        self.unrecorded_msat >= CRASH_LOSS_MSAT / 2
    }

    /// What all payers hold here, in msat.
    pub fn total_msat(&self) -> u64 {
        self.total_msat
    }

    /// What packets drew since the process started, in msat.
    pub fn drawn_msat(&self) -> u64 {
        self.drawn_msat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn more_than_the_credit_is_refused_and_draws_nothing() {
        let mut accounts = Accounts::new(1);
        let slot = accounts.slot(&[1; 32]).unwrap();
        accounts.credit(slot, 100).unwrap();
        assert_eq!(accounts.draw(slot, 101), Err(DropReason::CreditSpent));
        assert_eq!(accounts.balance_msat(slot), 100);
        accounts.draw(slot, 100).unwrap();
        assert_eq!(accounts.draw(slot, 1), Err(DropReason::CreditSpent));
    }

    /// What the disk holds after all leases that a sequence of draws hands out; `commits` says when it is asked to.
    fn draw_and_write(draws: &[(u8, u64, bool)]) -> (Accounts, std::collections::BTreeMap<[u8; 32], u64>) {
        let mut accounts = Accounts::new(1);
        let mut disk = std::collections::BTreeMap::new();
        for payer in 0..4 {
            let slot = accounts.slot(&[payer; 32]).unwrap();
            let record = accounts.credit(slot, 100 * CRASH_LOSS_MSAT).unwrap();
            disk.insert(record.key, record.balance_msat);
        }
        let (mut number, mut on_the_way) = (0, Vec::new());
        for (payer, msat, disk_writes) in draws {
            let slot = accounts.slot(&[*payer; 32]).unwrap();
            if accounts.draw(slot, *msat).unwrap_or(false) {
                for lease in accounts.due(slot) {
                    number += 1;
                    accounts.written_as(&lease, number);
                    on_the_way.push(lease.record);
                }
            }
            if *disk_writes {
                disk.extend(
                    on_the_way
                        .drain(..)
                        .map(|record| (record.key, record.balance_msat)),
                );
                accounts.confirm(number);
            }
        }
        (accounts, disk)
    }

    #[test]
    fn with_a_disk_that_stands_still_packets_are_refused_before_a_crash_would_cost_too_much() {
        let mut accounts = Accounts::new(1);
        let slot = accounts.slot(&[1; 32]).unwrap();
        accounts.credit(slot, 10 * CRASH_LOSS_MSAT).unwrap();
        let drawn = (0..).take_while(|_| accounts.draw(slot, 999).is_ok()).count() as u64 * 999;
        assert!(drawn <= CRASH_LOSS_MSAT && drawn > CRASH_LOSS_MSAT - 999);
        assert_eq!(accounts.draw(slot, 999), Err(DropReason::DiskBehind));
        let lease = accounts.lease(slot).unwrap();
        accounts.written_as(&lease, 7);
        accounts.confirm(6);
        assert_eq!(accounts.draw(slot, 999), Err(DropReason::DiskBehind));
        accounts.confirm(7);
        accounts.draw(slot, 999).unwrap();
        assert_eq!(accounts.unconfirmed_msat(), 999);
    }

    #[test]
    fn packet_dearer_than_a_crash_may_cost_is_carried_when_nothing_else_is_at_stake() {
        let mut accounts = Accounts::new(1);
        let slot = accounts.slot(&[1; 32]).unwrap();
        accounts.credit(slot, 10 * CRASH_LOSS_MSAT).unwrap();
        assert_eq!(accounts.draw(slot, 2 * CRASH_LOSS_MSAT), Ok(true));
        assert_eq!(accounts.draw(slot, 1), Err(DropReason::DiskBehind));
    }

    #[test]
    fn account_that_is_drawn_from_fast_is_written_once_a_commit() {
        let mut accounts = Accounts::new(1);
        let slot = accounts.slot(&[1; 32]).unwrap();
        accounts.credit(slot, CRASH_LOSS_MSAT).unwrap();
        let mut leases = 0;
        for _ in 0..40 {
            if accounts.draw(slot, ACCOUNT_LEASE_MSAT / 2).unwrap() {
                for lease in accounts.due(slot) {
                    leases += 1;
                    accounts.written_as(&lease, leases);
                }
            }
        }
        assert_eq!(leases, 1, "the next is due when this one is durable");
        accounts.confirm(leases);
        assert_eq!(accounts.draw(slot, 1), Ok(true));
    }

    proptest! {
        #[test]
        fn a_crash_costs_this_node_no_more_than_its_constant_and_the_payers_nothing(
            draws in proptest::collection::vec((0u8..4, 0u64..200_000, proptest::bool::weighted(0.05)), 1..400)
        ) {
            let (accounts, disk) = draw_and_write(&draws);
            let mut forgotten = 0;
            for payer in 0..4u8 {
                let (kept, truth) = (disk[&[payer; 32]], accounts.balance_of(&[payer; 32]));
                prop_assert!(kept >= truth, "the payer loses nothing");
                forgotten += kept - truth;
            }
            prop_assert_eq!(forgotten, accounts.unconfirmed_msat());
            prop_assert!(forgotten <= CRASH_LOSS_MSAT);
        }
    }

    #[test]
    fn strangers_who_never_pay_take_no_room_from_those_who_do() {
        let mut accounts = Accounts::new(1);
        let payer = accounts.slot(&[255; 32]).unwrap();
        accounts.credit(payer, 5).unwrap();
        for stranger in 0..100 {
            let slot = accounts.slot(&[stranger; 32]).unwrap();
            assert_eq!(accounts.balance_msat(slot), 0);
        }
        assert_eq!((accounts.slots.len(), accounts.by_key.len()), (2, 2));
        let late = accounts.slot(&[99; 32]).unwrap();
        accounts.credit(late, 7).unwrap();
        accounts.slot(&[1; 32]).unwrap();
        let held = [[255; 32], [99; 32], [1; 32]].map(|key| accounts.balance_of(&key));
        assert_eq!(held, [5, 7, 0]);
    }

    #[test]
    fn records_that_sum_to_more_than_all_money_are_refused_instead_of_overflowing() {
        let mut accounts = Accounts::new(1);
        let record = |byte, balance_msat| AccountRecord {
            key: [byte; 32],
            balance_msat,
        };
        accounts.restore(record(1, u64::MAX)).unwrap();
        assert_eq!(accounts.restore(record(2, 1)), Err(DropReason::LimitReached));
        accounts.restore(record(1, 3)).unwrap();
        accounts.restore(record(2, 1)).unwrap();
        assert_eq!(accounts.total_msat(), 4);
    }

    #[test]
    fn no_more_is_taken_back_than_is_left() {
        let mut accounts = Accounts::new(1);
        let slot = accounts.slot(&[1; 32]).unwrap();
        accounts.credit(slot, 100).unwrap();
        accounts.draw(slot, 30).unwrap();
        let (taken, record) = accounts.take_back(&[1; 32], 100).unwrap();
        // What was drawn has a record of its own, which is still to come.
        assert_eq!((taken, record.balance_msat, accounts.total_msat()), (70, 30, 0));
        assert_eq!(accounts.take_back(&[1; 32], 100).unwrap().0, 0);
        assert_eq!(accounts.take_back(&[2; 32], 1), None);
    }

    #[test]
    fn absurd_credit_is_refused_instead_of_overflowing() {
        let mut accounts = Accounts::new(1);
        let slot = accounts.slot(&[1; 32]).unwrap();
        accounts.credit(slot, u64::MAX).unwrap();
        assert_eq!(accounts.credit(slot, 1), Err(DropReason::LimitReached));
    }

    proptest! {
        #[test]
        fn money_is_conserved(moves in proptest::collection::vec((0u8..4, any::<bool>(), 0u64..50_000), 1..200)) {
            let mut accounts = Accounts::new(1);
            let (mut paid_in, mut drawn) = (0u64, 0u64);
            for (who, pays, msat) in moves {
                let slot = accounts.slot(&[who; 32]).unwrap();
                if pays {
                    accounts.credit(slot, msat).unwrap();
                    paid_in += msat;
                } else if accounts.draw(slot, msat).is_ok() {
                    drawn += msat;
                }
                prop_assert_eq!(accounts.total_msat() + drawn, paid_in);
                prop_assert_eq!(accounts.drawn_msat(), drawn);
            }
        }
    }
}
