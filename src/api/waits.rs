//! How many calls may wait for something.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::client::Client;
use crate::handle::lock;

/// Calls that wait at once, all callers together: each keeps a task and, at a host, a place among its open calls.
const MAX_WAITS: usize = 64;

/// Of one caller: one for each protocol of a busy module.
const MAX_WAITS_PER_CLIENT: usize = 8;

/// The calls that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Waits {
    by_client: Arc<Mutex<BTreeMap<Client, Waiting>>>,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: usize,
    life: Arc<Life>,
}

/// One life of a client that calls: a module's ends with its process, and the calls that it left waiting with it.
#[derive(Debug, Default)]
struct Life {
    over: AtomicBool,
    end: Notify,
}

/// A place among the calls that wait; free again when dropped.
pub(super) struct Place {
    waits: Waits,
    client: Client,
    life: Arc<Life>,
}

impl Place {
    /// Whether the life that the call belongs to is over.
    pub(super) fn is_over(&self) -> bool {
        self.life.over.load(Ordering::Relaxed)
    }

    /// Comes back when it is.
    pub(super) fn end(&self) -> Notified<'_> {
        self.life.end.notified()
    }
}

impl Waits {
    /// Calls that wait.
    pub(super) fn count(&self) -> usize {
        lock(&self.by_client).values().map(|waiting| waiting.calls).sum()
    }

    /// A place, if there is one.
    pub(super) fn enter(&self, client: &Client) -> Option<Place> {
        let mut by_client = lock(&self.by_client);
        let all: usize = by_client.values().map(|waiting| waiting.calls).sum();
        let own = by_client.get(client).map_or(0, |waiting| waiting.calls);
        if all >= MAX_WAITS || own >= MAX_WAITS_PER_CLIENT {
            return None;
        }
        let waiting = by_client.entry(client.clone()).or_default();
        waiting.calls += 1;
        Some(Place {
            waits: self.clone(),
            client: client.clone(),
            life: waiting.life.clone(),
        })
    }

    /// A life of this client is over: the calls that it left waiting are answered with nothing, now, and what they would have
    /// fetched is its next life's. To be told at the desk, so that no such call is just taking something.
    pub(super) fn end(&self, client: &Client) {
        if let Some(waiting) = lock(&self.by_client).get_mut(client) {
            let life = std::mem::take(&mut waiting.life);
            life.over.store(true, Ordering::Relaxed);
            life.end.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_client = lock(&self.waits.by_client);
        if let Some(own) = by_client.get_mut(&self.client) {
            own.calls -= 1;
            if own.calls == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::spending::{Caller, ModuleName};

    #[test]
    fn one_caller_cannot_take_all_places_and_a_place_is_free_again() {
        let waits = Waits::default();
        let client = |number: usize| Client::over_socket(ModuleName::new(number.to_string()).unwrap());
        let greedy: Vec<_> = (0..100).filter_map(|_| waits.enter(&client(0))).collect();
        assert_eq!(greedy.len(), MAX_WAITS_PER_CLIENT);
        let others: Vec<_> = (1..100)
            .filter_map(|number| waits.enter(&client(number)))
            .collect();
        assert_eq!(greedy.len() + others.len(), MAX_WAITS);
        assert!(waits.enter(&Client::of(Caller::Operator)).is_none());
        drop(greedy);
        assert!(waits.enter(&client(0)).is_some());
    }

    #[test]
    fn the_end_of_a_life_ends_its_own_calls_and_neither_the_next_life_s_nor_anybody_else_s() {
        let waits = Waits::default();
        let client = |name: &str| Client::of(Caller::Module(ModuleName::new(name).unwrap()));
        let (old, other) = (
            waits.enter(&client("m")).unwrap(),
            waits.enter(&client("n")).unwrap(),
        );
        waits.end(&client("m"));
        waits.end(&client("nobody"));
        let new = waits.enter(&client("m")).unwrap();
        assert_eq!(
            [old.is_over(), other.is_over(), new.is_over()],
            [true, false, false]
        );
        drop((old, new));
        assert_eq!(waits.count(), 1);
    }
}
