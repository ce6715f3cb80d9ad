//! Prepaid accounts: the credit of payers at this node, in msat.
//!
//! An account belongs to an account key, not to a route or a session: when a route breaks, what is left here serves the
//! next. Draws happen in memory; an account is written down whenever it was drawn by a lease since the last time, so a
//! crash forgets at most one lease of draws. Forgotten draws are this node's loss: the payer can spend them again.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::limits::{ACCOUNT_LEASE_MSAT, MAX_ACCOUNTS};

/// An account as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// The payer's account key.
    pub key: [u8; 32],
    /// What it holds, in msat.
    pub balance_msat: u64,
}

/// Where an account is kept: valid as long as the process lives once the account was credited, and before that until
/// [`Accounts::slot`] is called for another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountSlot(usize);

struct Account {
    key: [u8; 32],
    balance_msat: u64,
    durable_msat: u64,
}

/// All payers' accounts at this node.
pub struct Accounts {
    slots: Vec<Account>,
    by_key: HashMap<[u8; 32], usize, FixedState>,
    /// The one slot that was opened and never credited. The next new key takes it over, so that asking costs no room.
    never_credited: Option<usize>,
    total_msat: u64,
    drawn_msat: u64,
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
        account.durable_msat = record.balance_msat;
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
            durable_msat: 0,
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

    /// Adds a verified payment. The returned record is made durable together with the payment's redemption, else a
    /// crash between the two would lose the payer's money or let it be redeemed twice.
    pub fn credit(&mut self, slot: AccountSlot, msat: u64) -> Result<AccountRecord, DropReason> {
        // All money there is fits u64 (2.1e18 msat); an overflow means a wallet that reports nonsense.
        let total = self
            .total_msat
            .checked_add(msat)
            .ok_or(DropReason::LimitReached)?;
        let account = &mut self.slots[slot.0];
        account.balance_msat += msat;
        account.durable_msat = account.balance_msat;
        self.total_msat = total;
        if self.never_credited == Some(slot.0) {
            self.never_credited = None;
        }
        Ok(AccountRecord {
            key: account.key,
            balance_msat: account.balance_msat,
        })
    }

    /// Takes back up to `msat` of what an account holds, because the money that it was credited for is gone: how much was
    /// left to take, and the record of it. What packets drew is spent and stays so.
    pub fn take_back(&mut self, key: &[u8; 32], msat: u64) -> Option<(u64, AccountRecord)> {
        let account = &mut self.slots[*self.by_key.get(key)?];
        let taken = account.balance_msat.min(msat);
        account.balance_msat -= taken;
        account.durable_msat = account.balance_msat;
        self.total_msat -= taken;
        let record = AccountRecord {
            key: account.key,
            balance_msat: account.balance_msat,
        };
        Some((taken, record))
    }

    /// Takes `msat` for one packet. A record comes back when a lease is used up and the draw is to be written down.
    pub fn draw(&mut self, slot: AccountSlot, msat: u64) -> Result<Option<AccountRecord>, DropReason> {
        let account = &mut self.slots[slot.0];
        account.balance_msat = account
            .balance_msat
            .checked_sub(msat)
            .ok_or(DropReason::CreditSpent)?;
        self.total_msat -= msat;
        self.drawn_msat = self.drawn_msat.saturating_add(msat);
        if account.durable_msat - account.balance_msat < ACCOUNT_LEASE_MSAT {
            return Ok(None);
        }
        account.durable_msat = account.balance_msat;
        Ok(Some(AccountRecord {
            key: account.key,
            balance_msat: account.balance_msat,
        }))
    }

    /// The record of an account whose draws are not all written down, for an orderly stop or the end of a session.
    pub fn settle(&mut self, slot: AccountSlot) -> Option<AccountRecord> {
        let account = &mut self.slots[slot.0];
        if account.durable_msat == account.balance_msat {
            return None;
        }
        account.durable_msat = account.balance_msat;
        Some(AccountRecord {
            key: account.key,
            balance_msat: account.balance_msat,
        })
    }

    /// What all payers hold here, in msat.
    pub fn total_msat(&self) -> u64 {
        self.total_msat
    }

    /// What packets drew since the process started, in msat.
    pub fn drawn_msat(&self) -> u64 {
        self.drawn_msat
    }

    /// All accounts, oldest first.
    pub fn slots(&self) -> impl Iterator<Item = AccountSlot> + use<> {
        (0..self.slots.len()).map(AccountSlot)
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

    #[test]
    fn a_crash_gives_back_at_most_one_lease() {
        let mut accounts = Accounts::new(1);
        let slot = accounts.slot(&[1; 32]).unwrap();
        let mut durable = accounts.credit(slot, 1_000_000).unwrap();
        for _ in 0..777 {
            if let Some(record) = accounts.draw(slot, 999).unwrap() {
                durable = record;
            }
            assert!(durable.balance_msat - accounts.balance_msat(slot) < ACCOUNT_LEASE_MSAT);
        }
        let mut restarted = Accounts::new(2);
        restarted.restore(durable).unwrap();
        assert!(
            restarted.balance_of(&[1; 32]) >= accounts.balance_msat(slot),
            "the payer never loses by it"
        );
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
        assert_eq!((taken, record.balance_msat, accounts.total_msat()), (70, 0, 0));
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
