//! Sessions at a hop: what was fixed when a session opened, so that a packet is decided by one look-up.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use foldhash::fast::FixedState;

use crate::account::AccountSlot;
use crate::drop_reason::DropReason;
use crate::identity::NodeId;
use crate::keys::{Cipher, PayloadSeal, SessionId, TagKey};
use crate::limits::{BACK_ALLOWANCE_BASE_BYTES, BACK_ALLOWANCE_BYTES_PER_UNIT, MAX_SESSIONS};
use crate::neighbours::Neighbour;
use crate::open::Transcript;
use crate::replay::SequenceWindow;
use crate::routing_policy::TrafficClass;
use crate::time::{Instant, UnixMillis};

/// One session at this hop.
pub struct HopSession {
    /// This hop's place: 0 for the first router.
    pub index: u8,
    /// Number of hops.
    pub hops: u8,
    /// Whence packets must come.
    pub previous: Neighbour,
    /// Whither they go; none at the destination.
    pub next: Option<Neighbour>,
    /// What the session carries.
    pub class: TrafficClass,
    /// What a unit costs, in msat.
    pub price_msat: u64,
    /// The account that pays; none when nothing costs.
    pub account: Option<AccountSlot>,
    /// The open that made it.
    pub transcript: Transcript,
    /// Checks this hop's forward tags.
    pub tag_key: TagKey,
    /// Checks this hop's reverse tags.
    pub back_tag_key: TagKey,
    /// Seals errors for the source.
    pub errors: Cipher,
    /// Sequence numbers seen on the way there.
    pub window: SequenceWindow,
    /// Sequence numbers seen on the way back.
    pub back_window: SequenceWindow,
    /// When it ends.
    pub expires: UnixMillis,
    /// Bytes that may still come back.
    pub back_allowance: u64,
    /// Packets drawn for.
    pub packets: u64,
    /// Units of them.
    pub units: u64,
    /// When the last of them came, or the open.
    pub last_packet: Instant,
    /// The source sends no more.
    pub closing: bool,
    /// When this hop last sent an error to the source; errors are at most ten per second.
    pub last_error: Option<Instant>,
    /// What only the destination has.
    pub end: Option<Box<DestinationEnd>>,
}

impl HopSession {
    /// The allowance a session starts with.
    pub const FIRST_BACK_ALLOWANCE: u64 = BACK_ALLOWANCE_BASE_BYTES;

    /// Counts `units` drawn: each buys some bytes on the way back.
    pub fn grant_back(&mut self, units: u64) {
        self.back_allowance = self
            .back_allowance
            .saturating_add(units.saturating_mul(BACK_ALLOWANCE_BYTES_PER_UNIT));
    }

    /// Takes `bytes` from the allowance.
    pub fn spend_back(&mut self, bytes: usize) -> Result<(), DropReason> {
        self.back_allowance = self
            .back_allowance
            .checked_sub(bytes as u64)
            .ok_or(DropReason::BackAllowanceSpent)?;
        Ok(())
    }
}

/// What the destination of a session has beside what every hop has.
pub struct DestinationEnd {
    /// The source, if it proved its name.
    pub source: Option<NodeId>,
    /// Opens payloads.
    pub payload: PayloadSeal,
    /// Seals what goes back.
    pub back: PayloadSeal,
    /// The routers' reverse tag keys.
    pub back_tag_keys: Vec<TagKey>,
    /// The next sequence number on the way back.
    pub back_sequence: u64,
    /// Payload bytes that arrived and counted.
    pub bytes: u64,
    /// The highest sequence number that arrived.
    pub highest_sequence: u64,
    /// How many of the packets the last receipt covered.
    pub receipted: u64,
    /// Whether a timer for the next receipt is running.
    pub receipt_due: bool,
}

/// All sessions through or to this node.
pub struct Sessions {
    by_id: HashMap<SessionId, HopSession, FixedState>,
    /// Every session at its next hop, so that those over a broken link are found without looking at all others.
    by_next: BTreeSet<(Neighbour, SessionId)>,
}

impl Sessions {
    /// None yet. `hash_seed` keeps strangers from choosing ids that collide.
    pub fn new(hash_seed: u64) -> Self {
        Self {
            by_id: HashMap::with_hasher(FixedState::with_seed(hash_seed)),
            by_next: BTreeSet::new(),
        }
    }

    /// The session of that id.
    pub fn get_mut(&mut self, id: &SessionId) -> Option<&mut HopSession> {
        self.by_id.get_mut(id)
    }

    /// Whether one more session fits.
    pub fn check_room(&self) -> Result<(), DropReason> {
        if self.by_id.len() >= MAX_SESSIONS {
            Err(DropReason::TableFull)
        } else {
            Ok(())
        }
    }

    /// Adds a session.
    pub fn insert(&mut self, id: SessionId, session: HopSession) {
        let next = session.next;
        if let Some(old) = self.by_id.insert(id, session)
            && let Some(old_next) = old.next
        {
            self.by_next.remove(&(old_next, id));
        }
        if let Some(next) = next {
            self.by_next.insert((next, id));
        }
    }

    /// Takes a session out.
    pub fn remove(&mut self, id: &SessionId) -> Option<HopSession> {
        let session = self.by_id.remove(id)?;
        if let Some(next) = session.next {
            self.by_next.remove(&(next, *id));
        }
        Some(session)
    }

    /// The sessions whose packets go on to this neighbour, in the order of their ids, those behind `after` only.
    pub fn going_to(
        &self,
        next: Neighbour,
        after: Option<SessionId>,
    ) -> impl Iterator<Item = SessionId> + '_ {
        let start = match after {
            Some(id) => Bound::Excluded((next, id)),
            None => Bound::Included((next, SessionId([0; 16]))),
        };
        let end = Bound::Included((next, SessionId([u8::MAX; 16])));
        self.by_next.range((start, end)).map(|(_, id)| *id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::LinkId;
    use crate::neighbours::Neighbours;

    fn session(previous: Neighbour, next: Option<Neighbour>) -> HopSession {
        let secret = [1; 32];
        let tag_key = TagKey::of_back_secret(&secret, &SessionId([0; 16]));
        HopSession {
            index: 0,
            hops: 2,
            previous,
            next,
            class: TrafficClass::Paid,
            price_msat: 0,
            account: None,
            transcript: [0; 32],
            tag_key: tag_key.clone(),
            back_tag_key: tag_key,
            errors: Cipher::new(&secret),
            window: SequenceWindow::new(),
            back_window: SequenceWindow::new(),
            expires: UnixMillis(0),
            back_allowance: HopSession::FIRST_BACK_ALLOWANCE,
            packets: 0,
            units: 0,
            last_packet: Instant(0),
            closing: false,
            last_error: None,
            end: None,
        }
    }

    #[test]
    fn sessions_are_found_by_their_next_neighbour_page_by_page_and_leave_nothing_behind() {
        let mut neighbours = Neighbours::new(1, 0);
        let mut neighbour = |byte| {
            let (link, id) = (LinkId(u64::from(byte)), NodeId([byte; 32]));
            neighbours.link_up(link, id, Instant(0)).unwrap()
        };
        let [before, left, right] = [1, 2, 3].map(&mut neighbour);
        let mut sessions = Sessions::new(1);
        let ids: Vec<SessionId> = [0, 1, 7, 100, 254, 255]
            .map(|byte| SessionId([byte; 16]))
            .to_vec();
        for (place, id) in ids.iter().enumerate() {
            let next = [Some(left), Some(right), None][place % 3];
            sessions.insert(*id, session(before, next));
        }
        let going_to = |sessions: &Sessions, next, after| sessions.going_to(next, after).collect::<Vec<_>>();
        assert_eq!(going_to(&sessions, left, None), [ids[0], ids[3]]);
        assert_eq!(going_to(&sessions, left, Some(ids[0])), [ids[3]]);
        assert_eq!(going_to(&sessions, right, None), [ids[1], ids[4]]);
        assert!(going_to(&sessions, before, None).is_empty());
        sessions.insert(ids[0], session(before, Some(right)));
        assert_eq!(
            going_to(&sessions, left, None),
            [ids[3]],
            "a session goes one way"
        );
        for id in &ids {
            sessions.remove(id).unwrap();
        }
        assert!(sessions.is_empty() && sessions.by_next.is_empty());
    }
}
