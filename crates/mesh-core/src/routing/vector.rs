//! The distance vector: loop-free routes to everybody who announces himself, by the rules of Babel (RFC 8966 §3.5–3.8).
//!
//! # The algorithm
//!
//! Every node tells its neighbours how far each destination is from it. A node selects, for each destination and in each
//! [`Plane`], the neighbour over which it is nearest, among those whose advertisement is feasible; `plane.rs` says why
//! that can never close a loop. A node whose only ways are infeasible asks for a fresh seqno; the request goes towards the
//! origin until somebody has such a route, or the origin makes one (`requests.rs`), and it is repeated until it helped.
//!
//! What differs from Babel, and why:
//! - Links are reliable and authenticated, so nothing is repeated periodically: updates are incremental, one at a time is
//!   under way to each neighbour, and is acknowledged (`exchange.rs`). When a link goes down everything heard over it is
//!   forgotten, when one comes up everything is told.
//! - A seqno counts only if the origin signed an announcement with it or a later one: nobody else can make routes fresher.
//! - A next hop is told, in time, that this node is no way for it any more (split horizon with a late retraction): it
//!   would else keep an old metric and ask for seqnos to make it feasible.
//! - A fresher seqno alone is told lazily, unless somebody asked for it.
//!
//! # Contract
//!
//! Pure as the core is: feed an event with the moment it happened, then take what is to be sent ([`DistanceVector::take_messages`])
//! and what became known ([`DistanceVector::take_news`]); call [`DistanceVector::on_timeout`] at
//! [`DistanceVector::next_timeout`].

mod announcements;
mod ends;
mod intake;
mod links;
mod outflow;
mod own;
mod queries;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;

use crate::announcement::{Body, Head};
use crate::event::LinkId;
use crate::identity::NodeId;
use crate::limits::{LAZY_UPDATE_DELAY, UPDATE_DELAY, UPDATE_JITTER};
use crate::message::ControlMessage;
use crate::routing::exchange::{Exchange, Index};
use crate::routing::flaps::Flaps;
use crate::routing::pace::Pace;
use crate::routing::plane::{Need, PlaneRoutes, Selected, Slot};
use crate::routing::requests::Wanted;
use crate::routing::update::Plane;
use crate::time::{Instant, UnixMillis};

pub use queries::NextHop;

/// A node that announced itself.
struct Destination {
    id: NodeId,
    head: Head,
    body: Option<Bytes>,
    /// Whether the announcement holds. By the monotonic clock from the moment it came: a wall clock that jumps later
    /// takes no routes away.
    alive: bool,
    planes: [PlaneRoutes; 2],
    /// Whether it is in the list of what changed.
    changed: bool,
    introduced_by: NodeId,
    /// When its announcement holds no more; once it does not, when the destination is forgotten.
    ends_at: Instant,
    /// How often its announcements are handed on.
    spread: Pace,
    /// Whether a timer is set to hand the newest one on.
    spreading: bool,
    /// How often neighbours whose routes were refused are still to be asked for theirs.
    rounds: u8,
}

/// What waits for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Exchange(Slot),
    Admit(Slot),
    Request(Index, Plane),
    Ends(Index),
    Spread(Index),
    AskAgain(Index),
    Seqno,
}

/// Something that became known and concerns others than the routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A node announced itself anew.
    Announced {
        /// The node.
        origin: NodeId,
        /// What it says.
        body: Body,
        /// Until when that holds.
        expires: UnixMillis,
    },
    /// A node's announcement no longer holds.
    Withdrawn {
        /// The node.
        origin: NodeId,
    },
    /// A head was taken up: older ones are refused from now on, after a restart too.
    Seen {
        /// The node.
        origin: NodeId,
        /// The head's number.
        seqno: u64,
        /// Until when it could be replayed.
        expires: UnixMillis,
    },
    /// A destination was forgotten, and with it what was seen of it.
    Forgotten {
        /// The node.
        origin: NodeId,
    },
    /// Somebody announced this node's own id with a number this node never used: an earlier life's that was not
    /// restored, or a second node with the same key.
    OwnIdSeen {
        /// The number.
        seqno: u64,
    },
    /// This node has to make a fresh seqno in this plane.
    SeqnoWanted {
        /// The plane.
        plane: Plane,
    },
}

/// How much routing said, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoutingCounters {
    /// Updates sent that carried anything.
    pub update_frames_sent: u64,
    /// Routes told, by plane, retractions included.
    pub routes_sent: [u64; 2],
    /// Announcement heads sent, with or without their bodies.
    pub announcements_sent: u64,
    /// Bodies among them.
    pub bodies_sent: u64,
    /// Updates repeated because no acknowledgement came.
    pub repeated: u64,
    /// Requests for a seqno sent for this node's own need, by plane.
    pub requests_sent: [u64; 2],
    /// Requests handed on for others.
    pub requests_handed_on: u64,
    /// Seqnos made because others asked.
    pub seqnos_made: u64,
}

/// The distance vector of one node.
pub struct DistanceVector {
    me: NodeId,
    destinations: Vec<Option<Destination>>,
    vacant: Vec<Index>,
    by_id: HashMap<NodeId, Index, FixedState>,
    introduced: BTreeMap<NodeId, usize>,
    /// What an earlier life had seen, until the origin is heard of again.
    floors: BTreeMap<NodeId, (u64, UnixMillis)>,

    exchanges: Vec<Option<Exchange>>,
    by_neighbour: BTreeMap<NodeId, Slot>,
    by_link: HashMap<LinkId, Slot, FixedState>,
    flaps: Flaps,
    /// Costs of the links by plane and slot; [`INFINITE`] where there is none.
    costs: [Vec<u32>; 2],

    own: Option<Index>,
    /// The seqnos this node advertises itself with, by plane.
    own_seqnos: [u64; 2],
    wanted_seqnos: [bool; 2],
    seqno_pace: Pace,

    timers: BTreeSet<(Instant, Due)>,
    messages: Vec<(LinkId, ControlMessage)>,
    news: Vec<News>,
    changed: Vec<Index>,
    jitter: u64,
    feasibility: bool,
    /// How much was said.
    pub counters: RoutingCounters,
}

impl DistanceVector {
    /// One that knows nobody. The seed hides the places of ids in tables from those who choose ids, and spreads updates
    /// in time.
    pub fn new(me: NodeId, seed: u64) -> Self {
        Self {
            me,
            destinations: Vec::new(),
            vacant: Vec::new(),
            by_id: HashMap::with_hasher(FixedState::with_seed(seed)),
            introduced: BTreeMap::new(),
            floors: BTreeMap::new(),
            exchanges: Vec::new(),
            by_neighbour: BTreeMap::new(),
            by_link: HashMap::with_hasher(FixedState::with_seed(seed)),
            flaps: Flaps::default(),
            costs: [Vec::new(), Vec::new()],
            own: None,
            own_seqnos: [0; 2],
            wanted_seqnos: [false; 2],
            seqno_pace: Pace::default(),
            timers: BTreeSet::new(),
            messages: Vec::new(),
            news: Vec::new(),
            changed: Vec::new(),
            jitter: seed,
            feasibility: true,
            counters: RoutingCounters::default(),
        }
    }

    /// Takes any route as feasible. For one purpose: the test that shows that a detector of loops finds the loops which
    /// the feasibility condition prevents.
    #[doc(hidden)]
    pub fn without_feasibility(&mut self) {
        self.feasibility = false;
    }

    /// What is to be sent since this was last asked.
    pub fn take_messages(&mut self) -> Vec<(LinkId, ControlMessage)> {
        std::mem::take(&mut self.messages)
    }

    /// What became known since this was last asked.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Destinations of which something was heard, or whose route changed, since this was last asked.
    pub fn take_changed(&mut self) -> Vec<NodeId> {
        let changed = std::mem::take(&mut self.changed);
        let mut ids = Vec::with_capacity(changed.len());
        for index in changed {
            if let Some(destination) = self.destination_mut(index) {
                destination.changed = false;
                ids.push(destination.id);
            }
        }
        ids
    }

    /// When [`DistanceVector::on_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant) {
        while let Some((_, due)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            match due {
                Due::Exchange(slot) => self.exchange_due(slot, now),
                Due::Admit(slot) => self.admit_if_due(slot, now),
                Due::Request(index, plane) => self.ask_if_due(index, plane, now),
                Due::Ends(index) => self.end(index, now),
                Due::Spread(index) => self.spread(index, now),
                Due::AskAgain(index) => self.ask_again_due(index, now),
                Due::Seqno => self.seqno_due(now),
            }
        }
    }
}

/// Selection and what follows from it.
impl DistanceVector {
    fn reselect(&mut self, index: Index, plane: Plane, now: Instant) {
        let Some(destination) = self.destinations.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let costs = &self.costs[plane.index()];
        let routes = &mut destination.planes[plane.index()];
        let before = routes.selected;
        let after = match destination.alive {
            true => routes.select(plane, costs, self.feasibility),
            false => routes.selected.take().and(None),
        };
        self.note_changed(index);
        if before != after {
            self.tell_selection(index, plane, before, after, now);
        }
        self.consider_asking(index, plane, now);
    }

    fn tell_selection(
        &mut self,
        index: Index,
        plane: Plane,
        before: Option<Selected>,
        after: Option<Selected>,
        now: Instant,
    ) {
        let metric = |route: Option<Selected>| route.map(|route| route.distance.metric);
        let next_hop = |route: Option<Selected>| route.map(|route| route.neighbour);
        let next = next_hop(after);
        if metric(before) != metric(after) {
            for slot in self.slots() {
                if Some(slot) == next {
                    self.mark_lazily(slot, index, plane, now);
                } else {
                    self.mark(slot, index, plane, now);
                }
            }
        } else if next_hop(before) != next {
            if let Some(slot) = next_hop(before) {
                self.mark(slot, index, plane, now);
            }
            if let Some(slot) = next {
                self.mark_lazily(slot, index, plane, now);
            }
        } else {
            for slot in self.slots() {
                if Some(slot) != next {
                    self.mark_lazily(slot, index, plane, now);
                }
            }
        }
        self.serve_waiting(index, plane, after, now);
    }

    /// Those who asked for a seqno are told as soon as there is a route with it.
    fn serve_waiting(&mut self, index: Index, plane: Plane, route: Option<Selected>, now: Instant) {
        let Some(route) = route else { return };
        let Some(routes) = self.plane_mut(index, plane) else {
            return;
        };
        let served = routes
            .handed
            .take_if(|handed| handed.served_by(route.distance.seqno).is_some());
        let Some(handed) = served else { return };
        for slot in handed.served_by(route.distance.seqno).unwrap_or_default() {
            if *slot != route.neighbour {
                self.mark(*slot, index, plane, now);
            }
        }
    }

    /// Starts, hurries or ends this node's own request.
    fn consider_asking(&mut self, index: Index, plane: Plane, now: Instant) {
        let jitter = self.jitter(UPDATE_JITTER);
        let costs = &self.costs[plane.index()];
        let Some(destination) = self.destinations.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        let routes = &mut destination.planes[plane.index()];
        let need = if destination.alive {
            routes.need(plane, costs)
        } else {
            Need::None
        };
        let before = routes.wanted.as_ref().map(|wanted| wanted.ask_at);
        match (need, &mut routes.wanted) {
            (Need::None, wanted) => *wanted = None,
            (need, Some(wanted)) => wanted.became(need, now, jitter),
            (need, empty @ None) => *empty = Some(Box::new(Wanted::new(need, now, jitter))),
        }
        let after = routes.wanted.as_ref().map(|wanted| wanted.ask_at);
        if before == after {
            return;
        }
        // One timer per want: a neighbour whose routes come and go would else pile them up.
        if let Some(at) = before {
            self.timers.remove(&(at, Due::Request(index, plane)));
        }
        if let Some(at) = after {
            self.timers.insert((at, Due::Request(index, plane)));
        }
    }
}

/// Small tools.
impl DistanceVector {
    fn destination_mut(&mut self, index: Index) -> Option<&mut Destination> {
        self.destinations.get_mut(index as usize)?.as_mut()
    }

    fn destination(&self, index: Index) -> Option<&Destination> {
        self.destinations.get(index as usize)?.as_ref()
    }

    fn plane_mut(&mut self, index: Index, plane: Plane) -> Option<&mut PlaneRoutes> {
        Some(&mut self.destination_mut(index)?.planes[plane.index()])
    }

    fn exchange_mut(&mut self, slot: Slot) -> Option<&mut Exchange> {
        self.exchanges.get_mut(slot as usize)?.as_mut()
    }

    fn note_changed(&mut self, index: Index) {
        if let Some(destination) = self.destination_mut(index)
            && !std::mem::replace(&mut destination.changed, true)
        {
            self.changed.push(index);
        }
    }

    /// The places of all exchanges; some may be vacant.
    fn slots(&self) -> std::ops::Range<Slot> {
        0..self.exchanges.len() as Slot
    }

    fn mark(&mut self, slot: Slot, index: Index, plane: Plane, now: Instant) {
        let at = now + UPDATE_DELAY + self.jitter(UPDATE_JITTER);
        if let Some(exchange) = self.exchange_mut(slot) {
            exchange.mark(index, Some(plane), at);
            self.arm(slot);
        }
    }

    fn mark_lazily(&mut self, slot: Slot, index: Index, plane: Plane, now: Instant) {
        let at = now + LAZY_UPDATE_DELAY + self.jitter(LAZY_UPDATE_DELAY);
        if let Some(exchange) = self.exchange_mut(slot) {
            exchange.mark_lazily(index, plane, at);
            self.arm(slot);
        }
    }

    /// Sets the timer of an exchange to when it is next due.
    fn arm(&mut self, slot: Slot) {
        let Some(exchange) = self.exchange_mut(slot) else {
            return;
        };
        let Some(at) = exchange.due() else { return };
        if exchange.armed.is_none_or(|armed| at < armed) {
            let old = exchange.armed.replace(at);
            if let Some(old) = old {
                self.timers.remove(&(old, Due::Exchange(slot)));
            }
            self.timers.insert((at, Due::Exchange(slot)));
        }
    }

    /// A span below `most` (splitmix64, Steele, Lea and Flood 2014): spreads in time, hides nothing.
    fn jitter(&mut self, most: Duration) -> Duration {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.jitter ^ (self.jitter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros((mixed ^ (mixed >> 31)) % micros)
    }
}
