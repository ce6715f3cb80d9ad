//! On-demand discovery: requests spread, signed answers come back the way they went.
//!
//! A request is relayed by each node for each of the first few ways it came, so the requester learns of several paths;
//! it carries the ids it passed, so no copy visits a node twice. An answer is one path: the destination signs it whole,
//! every router on the way back adds its signed place and price. A lost message is made good by asking again under a
//! new nonce: relays know nothing of repetitions and need not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::event::CommandId;
use crate::identity::NodeId;
use crate::limits::{MAX_ANSWERS_PER_REQUEST, MAX_COPIES_PER_REQUEST, MAX_PENDING_COMMANDS};
use crate::message::RequestId;
use crate::relays::Relays;
use crate::time::{Instant, UnixMillis};

/// Who asked, and under which nonce.
type RelayKey = (NodeId, RequestId);

/// A discovery of this node's own.
#[derive(Debug)]
pub struct OwnDiscovery {
    /// Whom to find.
    pub destination: NodeId,
    /// Longest path wanted.
    pub max_hops: u8,
    /// When the caller stops waiting.
    pub deadline: UnixMillis,
    /// The nonces asked under so far.
    pub nonces: Vec<RequestId>,
    /// How long to wait before asking again; doubles each time.
    pub retry_after: Duration,
    /// Whether a first answer came and the rest is being gathered.
    pub gathering: bool,
}

/// What a node remembers of discoveries: others' requests passing by, and its own.
#[derive(Default)]
pub struct RouteDiscovery {
    seen: Relays<RelayKey, Vec<NodeId>>,
    own: BTreeMap<CommandId, OwnDiscovery>,
    by_nonce: BTreeMap<RequestId, CommandId>,
}

impl RouteDiscovery {
    /// Notes that a request came over `previous`; refuses copies beyond what is relayed or, at the destination,
    /// answered.
    pub fn note(
        &mut self,
        requester: NodeId,
        nonce: RequestId,
        previous: NodeId,
        is_destination: bool,
        now: Instant,
    ) -> Result<(), DropReason> {
        let most = if is_destination {
            MAX_ANSWERS_PER_REQUEST
        } else {
            MAX_COPIES_PER_REQUEST
        };
        let key = (requester, nonce);
        match self.seen.get_mut(&key) {
            Some(ways) if ways.len() >= most => Err(DropReason::AlreadyRelayed),
            // Half for one neighbour: a villain that repeats what it hears would else use up the honest ways.
            Some(ways) if ways.iter().filter(|way| **way == previous).count() >= most / 2 => {
                Err(DropReason::AlreadyRelayed)
            }
            Some(ways) => {
                ways.push(previous);
                Ok(())
            }
            None => self.seen.insert(key, vec![previous], previous, now),
        }
    }

    /// Whether the request that an answer belongs to came over `previous`, so that the answer may go back there.
    pub fn came_over(&mut self, requester: NodeId, nonce: RequestId, previous: &NodeId) -> bool {
        self.seen
            .get_mut(&(requester, nonce))
            .is_some_and(|ways| ways.contains(previous))
    }

    /// Starts a discovery of this node's own.
    pub fn start(&mut self, command: CommandId, discovery: OwnDiscovery) -> Result<(), DropReason> {
        if self.own.len() >= MAX_PENDING_COMMANDS {
            return Err(DropReason::TableFull);
        }
        self.own.insert(command, discovery);
        Ok(())
    }

    /// A discovery under way.
    pub fn own_mut(&mut self, command: CommandId) -> Option<&mut OwnDiscovery> {
        self.own.get_mut(&command)
    }

    /// Asks again under `nonce`.
    pub fn add_nonce(&mut self, command: CommandId, nonce: RequestId) {
        if let Some(discovery) = self.own.get_mut(&command) {
            discovery.nonces.push(nonce);
            self.by_nonce.insert(nonce, command);
        }
    }

    /// The discovery an answer belongs to.
    pub fn asked(&self, nonce: &RequestId) -> Option<CommandId> {
        self.by_nonce.get(nonce).copied()
    }

    /// Ends a discovery.
    pub fn finish(&mut self, command: CommandId) -> Option<OwnDiscovery> {
        let discovery = self.own.remove(&command)?;
        for nonce in &discovery.nonces {
            self.by_nonce.remove(nonce);
        }
        Some(discovery)
    }

    /// Forgets what is too old to be answered.
    pub fn expire(&mut self, now: Instant) {
        self.seen.expire(now);
    }
}
