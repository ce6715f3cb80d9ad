//! Links that come and go: each is used again only after a pause that grows while it goes on (in the spirit of route flap
//! damping, RFC 2439, but at the link, where the cause is).
//!
//! One link that flaps once a second would else be news for every node in every second. A neighbour that does it on
//! purpose costs the mesh a bounded number of updates, and only its own link rests.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::NodeId;
use crate::limits::{FLAP_PAUSE, FLAP_PAUSE_MOST, FORGIVEN_FLAPS, MAX_FLAPPING_NEIGHBOURS, STABLE_LINK};

/// The neighbours whose links broke soon after they came up, with how often in a row.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    short_lives: BTreeMap<NodeId, u32>,
}

impl Flaps {
    /// A link went down after it had lived for this long.
    pub(super) fn went_down(&mut self, neighbour: &NodeId, lived: Duration) {
        if lived >= STABLE_LINK {
            self.short_lives.remove(neighbour);
            return;
        }
        // A full table forgives: links of honest neighbours last, so it is full of those that flap already.
        if self.short_lives.contains_key(neighbour) || self.short_lives.len() < MAX_FLAPPING_NEIGHBOURS {
            let lives = self.short_lives.entry(*neighbour).or_default();
            *lives = lives.saturating_add(1);
        }
    }

    /// How long a new link to this neighbour is not used.
    pub(super) fn pause(&self, neighbour: &NodeId) -> Duration {
        let lives = self.short_lives.get(neighbour).copied().unwrap_or(0);
        match lives.checked_sub(FORGIVEN_FLAPS + 1) {
            None => Duration::ZERO,
            Some(more) => FLAP_PAUSE.saturating_mul(1 << more.min(16)).min(FLAP_PAUSE_MOST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEIGHBOUR: NodeId = NodeId([1; 32]);
    const SHORT: Duration = Duration::from_millis(500);

    #[test]
    fn a_link_that_goes_on_flapping_rests_ever_longer_and_one_that_lasts_is_forgiven() {
        let mut flaps = Flaps::default();
        let pauses: Vec<u64> = (0..10)
            .map(|_| {
                flaps.went_down(&NEIGHBOUR, SHORT);
                flaps.pause(&NEIGHBOUR).as_secs()
            })
            .collect();
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        flaps.went_down(&NEIGHBOUR, STABLE_LINK);
        assert_eq!(flaps.pause(&NEIGHBOUR), Duration::ZERO);
    }

    #[test]
    fn thousands_of_flapping_strangers_take_no_more_room_than_there_is() {
        let mut flaps = Flaps::default();
        for number in 0..2 * MAX_FLAPPING_NEIGHBOURS as u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            flaps.went_down(&NodeId(id), SHORT);
        }
        assert_eq!(flaps.short_lives.len(), MAX_FLAPPING_NEIGHBOURS);
    }
}
