//! How many calls may wait for something.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::client::Client;
use crate::handle::lock;

/// Calls that wait at once, all callers together: each keeps a task and, at a host, a place among its open calls.
const MAX_WAITS: usize = 64;

/// Of one caller: one for each protocol of a busy module.
const MAX_WAITS_PER_CLIENT: usize = 8;

/// The calls that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Waits {
    by_client: Arc<Mutex<BTreeMap<Client, usize>>>,
}

/// A place among the calls that wait; free again when dropped.
pub(super) struct Place {
    waits: Waits,
    client: Client,
}

impl Waits {
    /// Calls that wait.
    pub(super) fn count(&self) -> usize {
        lock(&self.by_client).values().sum()
    }

    /// A place, if there is one.
    pub(super) fn enter(&self, client: &Client) -> Option<Place> {
        let mut by_client = lock(&self.by_client);
        let all: usize = by_client.values().sum();
        let own = by_client.get(client).copied().unwrap_or_default();
        if all >= MAX_WAITS || own >= MAX_WAITS_PER_CLIENT {
            return None;
        }
        by_client.insert(client.clone(), own + 1);
        Some(Place {
            waits: self.clone(),
            client: client.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_client = lock(&self.waits.by_client);
        if let Some(own) = by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
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
}
