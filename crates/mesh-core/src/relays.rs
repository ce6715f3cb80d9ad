//! Bounded memory of what passed by, so that answers find their way back and nothing circles.

use std::collections::{BTreeMap, VecDeque};

use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::limits::{MAX_PENDING_RELAYS, MAX_PENDING_RELAYS_PER_NEIGHBOUR, RELAY_MEMORY};
use crate::time::Instant;

/// Requests that passed by lately, each charged to the neighbour that brought it first.
pub struct Relays<K, V> {
    entries: BTreeMap<K, (NodeId, V)>,
    by_age: VecDeque<(Instant, K)>,
    per_neighbour: BTreeMap<NodeId, usize>,
}

impl<K: Ord + Copy, V> Default for Relays<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_age: VecDeque::new(),
            per_neighbour: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy, V> Relays<K, V> {
    /// What is remembered of `key`, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// What is remembered of all keys from `first` to `last`, in their order.
    pub fn range_mut(&mut self, first: K, last: K) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries
            .range_mut(first..=last)
            .map(|(key, (_, value))| (key, value))
    }

    /// Remembers `key`. When the table or this neighbour's share of it is full, the new is refused: forgetting the
    /// old instead would let a flood cut off answers that others wait for.
    pub fn insert(&mut self, key: K, value: V, brought_by: NodeId, now: Instant) -> Result<(), DropReason> {
        self.expire(now);
        let share = self.per_neighbour.get(&brought_by).copied().unwrap_or(0);
        if self.entries.len() >= MAX_PENDING_RELAYS || share >= MAX_PENDING_RELAYS_PER_NEIGHBOUR {
            return Err(DropReason::TableFull);
        }
        self.entries.insert(key, (brought_by, value));
        self.by_age.push_back((now, key));
        *self.per_neighbour.entry(brought_by).or_default() += 1;
        Ok(())
    }

    /// Forgets what is older than any honest answer.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, key)) = self.by_age.front().filter(|(seen, _)| now - *seen > RELAY_MEMORY) {
            if let Some((brought_by, _)) = self.entries.remove(key)
                && let Some(share) = self.per_neighbour.get_mut(&brought_by)
            {
                *share -= 1;
                if *share == 0 {
                    self.per_neighbour.remove(&brought_by);
                }
            }
            self.by_age.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flooder_fills_its_own_share_and_time_empties_it() {
        let (flooder, honest) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut relays = Relays::default();
        for key in 0..MAX_PENDING_RELAYS_PER_NEIGHBOUR {
            relays.insert(key, (), flooder, Instant(0)).unwrap();
        }
        assert_eq!(
            relays.insert(usize::MAX, (), flooder, Instant(0)),
            Err(DropReason::TableFull)
        );
        relays.insert(usize::MAX, (), honest, Instant(0)).unwrap();
        let later = Instant(0) + RELAY_MEMORY + Duration::from_secs(1);
        relays.insert(usize::MAX - 1, (), flooder, later).unwrap();
        assert_eq!(
            (
                relays.entries.len(),
                relays.by_age.len(),
                relays.per_neighbour.len()
            ),
            (1, 1, 1)
        );
    }
}
