//! What the API gave to whom: quotes and sessions belong to the caller who asked for them, and to nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use mesh_core::drop_reason::DropReason;
use mesh_core::event::{OpenedSession, QuotedSlice};
use mesh_core::keys::SessionId;
use mesh_core::limits::{PAY_BY, SESSION_LIFETIME};
use mesh_core::message::RequestId;

use super::client::Client;
use super::proofs::msat_per_unit;

/// Quotes kept for one caller; its oldest is forgotten first.
const MAX_QUOTES_PER_CALLER: usize = 64;

/// Sessions kept for one caller; its oldest is closed first.
const MAX_SESSIONS_PER_CALLER: usize = 256;

/// Callers who keep something: the modules of one node and its socket's clients.
const MAX_CLIENTS: usize = 512;

/// All callers' quotes and sessions.
#[derive(Default)]
pub(super) struct Shelves {
    by_client: BTreeMap<Client, Shelf>,
}

#[derive(Default)]
struct Shelf {
    quotes: VecDeque<(Instant, QuotedSlice)>,
    sessions: VecDeque<KeptSession>,
}

struct KeptSession {
    since: Instant,
    opened: OpenedSession,
    msat_per_unit: u64,
}

impl Shelf {
    /// Forgets what can no longer be used. Whether nothing is left.
    fn forget(&mut self, now: Instant) -> bool {
        let younger = |kept: Instant, lifetime: Duration| now.saturating_duration_since(kept) < lifetime;
        self.quotes.retain(|(kept, _)| younger(*kept, PAY_BY));
        self.sessions.retain(|kept| younger(kept.since, SESSION_LIFETIME));
        self.quotes.is_empty() && self.sessions.is_empty()
    }
}

impl Shelves {
    /// Keeps a quote for a caller.
    ///
    /// # Errors
    /// [`DropReason::TableFull`] when more callers than a node has modules hold something.
    pub(super) fn keep_quote(
        &mut self,
        now: Instant,
        client: &Client,
        slice: QuotedSlice,
    ) -> Result<(), DropReason> {
        let quotes = &mut self.shelf(now, client)?.quotes;
        if quotes.len() >= MAX_QUOTES_PER_CALLER {
            quotes.pop_front();
        }
        quotes.push_back((now, slice));
        Ok(())
    }

    /// A quote that this caller was given.
    pub(super) fn quote(&self, client: &Client, id: &RequestId) -> Option<QuotedSlice> {
        self.find_quote(client, |slice| slice.id == *id)
    }

    /// The oldest quote of this caller that fits.
    pub(super) fn find_quote(
        &self,
        client: &Client,
        fits: impl Fn(&QuotedSlice) -> bool,
    ) -> Option<QuotedSlice> {
        let quotes = self.by_client.get(client)?.quotes.iter();
        quotes.map(|(_, slice)| slice).find(|slice| fits(slice)).cloned()
    }

    /// Keeps a session that one of the caller's quotes opened; the quote is used up. A session that has to make room
    /// comes back, to be closed.
    ///
    /// # Errors
    /// As [`Shelves::keep_quote`].
    pub(super) fn keep_session(
        &mut self,
        now: Instant,
        client: &Client,
        quoted: &QuotedSlice,
        opened: OpenedSession,
    ) -> Result<Option<SessionId>, DropReason> {
        let shelf = self.shelf(now, client)?;
        shelf.quotes.retain(|(_, slice)| slice.id != quoted.id);
        let full = shelf.sessions.len() >= MAX_SESSIONS_PER_CALLER;
        let oldest = if full { shelf.sessions.pop_front() } else { None };
        shelf.sessions.push_back(KeptSession {
            since: now,
            opened,
            msat_per_unit: msat_per_unit(quoted),
        });
        Ok(oldest.map(|oldest| oldest.opened.session))
    }

    /// A session that this caller opened, and what a unit costs over it, in msat.
    pub(super) fn session(&self, client: &Client, id: &SessionId) -> Option<(OpenedSession, u64)> {
        let sessions = &self.by_client.get(client)?.sessions;
        let found = sessions.iter().find(|kept| kept.opened.session == *id)?;
        Some((found.opened.clone(), found.msat_per_unit))
    }

    /// Forgets a session. Whether this caller had it.
    pub(super) fn remove_session(&mut self, client: &Client, id: &SessionId) -> bool {
        let Some(shelf) = self.by_client.get_mut(client) else {
            return false;
        };
        let before = shelf.sessions.len();
        shelf.sessions.retain(|kept| kept.opened.session != *id);
        shelf.sessions.len() < before
    }

    fn shelf(&mut self, now: Instant, client: &Client) -> Result<&mut Shelf, DropReason> {
        if !self.by_client.contains_key(client) && self.by_client.len() >= MAX_CLIENTS {
            self.by_client.retain(|_, shelf| !shelf.forget(now));
            if self.by_client.len() >= MAX_CLIENTS {
                return Err(DropReason::TableFull);
            }
        }
        Ok(self.by_client.entry(client.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::identity::NodeId;
    use mesh_core::routing_policy::TrafficClass;
    use mesh_core::spending::{Caller, ModuleName};
    use mesh_core::time::UnixMillis;

    fn module(name: &str) -> Client {
        Client::of(Caller::Module(ModuleName::new(name).unwrap()))
    }

    fn slice(id: u8) -> QuotedSlice {
        QuotedSlice {
            method: Default::default(),
            id: [id; 16],
            path: vec![NodeId([1; 32]), NodeId([2; 32])],
            class: TrafficClass::Paid,
            units: 1,
            total_msat: 1,
            payees: Vec::new(),
        }
    }

    fn session(id: u16) -> OpenedSession {
        let mut name = [0; 16];
        name[..2].copy_from_slice(&id.to_be_bytes());
        OpenedSession {
            session: SessionId(name),
            path: Vec::new(),
            paid: Vec::new(),
            expires: UnixMillis(0),
        }
    }

    #[test]
    fn what_one_caller_was_given_no_other_has() {
        let (mut shelves, now) = (Shelves::default(), Instant::now());
        shelves.keep_quote(now, &module("a"), slice(1)).unwrap();
        shelves
            .keep_session(now, &module("a"), &slice(9), session(1))
            .unwrap();
        let id = session(1).session;
        let namesake = Client::over_socket(ModuleName::new("a").unwrap());
        for stranger in [
            module("b"),
            namesake,
            Client::of(Caller::Unidentified),
            Client::of(Caller::Operator),
        ] {
            assert!(shelves.quote(&stranger, &[1; 16]).is_none());
            assert!(shelves.session(&stranger, &id).is_none());
            assert!(!shelves.remove_session(&stranger, &id));
        }
        assert!(shelves.quote(&module("a"), &[1; 16]).is_some());
        assert!(shelves.remove_session(&module("a"), &id));
        assert!(shelves.session(&module("a"), &id).is_none());
    }

    #[test]
    fn caller_that_asks_for_ever_loses_its_own_oldest_and_nobody_elses() {
        let (mut shelves, now) = (Shelves::default(), Instant::now());
        shelves.keep_quote(now, &module("modest"), slice(1)).unwrap();
        for id in 0..=MAX_QUOTES_PER_CALLER {
            shelves
                .keep_quote(now, &module("greedy"), slice(id as u8))
                .unwrap();
        }
        assert!(shelves.quote(&module("greedy"), &[0; 16]).is_none());
        assert!(shelves.quote(&module("greedy"), &[1; 16]).is_some());
        assert!(shelves.quote(&module("modest"), &[1; 16]).is_some());
        let mut to_close = Vec::new();
        for id in 0..=MAX_SESSIONS_PER_CALLER as u16 {
            let kept = shelves.keep_session(now, &module("greedy"), &slice(0), session(id));
            to_close.extend(kept.unwrap());
        }
        assert_eq!(to_close, [session(0).session]);
    }

    #[test]
    fn more_callers_than_a_node_has_modules_are_refused_until_others_have_nothing_left() {
        let (mut shelves, now) = (Shelves::default(), Instant::now());
        for number in 0..MAX_CLIENTS {
            shelves
                .keep_quote(now, &module(&number.to_string()), slice(1))
                .unwrap();
        }
        let late = module("late");
        assert_eq!(
            shelves.keep_quote(now, &late, slice(1)),
            Err(DropReason::TableFull)
        );
        assert!(shelves.keep_quote(now + PAY_BY, &late, slice(1)).is_ok());
    }
}
