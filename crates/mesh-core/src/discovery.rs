//! On-demand discovery: requests go out, signed answers come back the way they went.
//!
//! A requester asks in rounds ([`plan`] chooses what). A request carries the ids it passed and goes one of three ways: a
//! *route* along the path that the requester named, a *branch* along each router's best successor, a *ring* to all
//! neighbours, each of which passes on the first few copies. An answer is one path: the destination signs it whole, every
//! router on the way back adds its signed place and price.
//!
//! A relay remembers of a request where it came from and what it sent on, for [`RELAY_MEMORY`], and takes an answer only
//! if it fits: over the neighbour asked, over exactly the path sent on, once. Whoever sends another is at fault, since
//! every honest relay checked the same before. So memory is kept a little longer than anybody honest answers, and an answer
//! goes back only over the very link its request came by: a neighbour that was started anew has forgotten it and would
//! take it for unsolicited.
//!
//! A lost message is made good by asking again under a new nonce: relays know nothing of repetitions and need not.

mod passed;
pub mod plan;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::event::{CommandId, LinkId};
use crate::fair_share::FairShare;
use crate::identity::NodeId;
use crate::limits::{
    DISCOVERIES_PASSED_BURST, DISCOVERIES_PASSED_PER_SECOND, MAX_ANSWERS_PER_REQUEST, MAX_ASKED_NONCES,
    MAX_COPIES_PER_REQUEST, MAX_PENDING_COMMANDS, MAX_SILENT_PATHS, RELAY_MEMORY,
};
use crate::message::{DiscoveryMode, DiscoveryRequest, RequestId, RouteCertificate};
use crate::relays::Relays;
use crate::time::{Instant, UnixMillis};

use passed::{Passed, Sent};

/// A discovery of this node's own.
#[derive(Debug)]
pub struct OwnDiscovery {
    /// Whom to find.
    pub destination: NodeId,
    /// Longest path wanted.
    pub max_hops: u8,
    /// When the caller stops waiting.
    pub deadline: UnixMillis,
    /// Rounds asked so far.
    pub rounds: u32,
    /// How long to wait before asking again; doubles each time.
    pub retry_after: Duration,
    /// When this round began.
    pub asked_at: Instant,
    /// Whether a first answer came and the rest is being gathered.
    pub gathering: bool,
    /// The widest ring asked, in hops; 0 when there was none.
    pub ring: u8,
    /// Whether more need not be looked for: the graph named all ways it knows, or a second way was looked for already.
    pub exhausted: bool,
    /// Paths asked for in this round, each a whole route or a branch's first hop between its ends.
    pub asked: Vec<Vec<NodeId>>,
    /// Those of earlier rounds, of which nothing was heard.
    pub silent: Vec<Vec<NodeId>>,
}

impl OwnDiscovery {
    /// A new round begins though nothing was heard: what was asked stayed silent.
    pub fn next_round(&mut self) {
        for path in std::mem::take(&mut self.asked) {
            if !self.silent.contains(&path) {
                self.silent.push(path);
            }
        }
        let surplus = self.silent.len().saturating_sub(MAX_SILENT_PATHS);
        self.silent.drain(..surplus);
        self.rounds += 1;
        self.retry_after *= 2;
    }
}

/// Which way a request went: each is remembered by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Route,
    Branch(u8),
    Ring,
}

impl Kind {
    const FIRST: Self = Self::Route;
    const LAST: Self = Self::Ring;

    fn of(mode: &DiscoveryMode) -> Self {
        match mode {
            DiscoveryMode::Route { .. } => Self::Route,
            DiscoveryMode::Branch { tag, .. } => Self::Branch(*tag),
            DiscoveryMode::Ring { .. } => Self::Ring,
        }
    }
}

/// Who asked, under which nonce, and which way.
type RelayKey = (NodeId, RequestId, Kind);

/// A request as it comes in and goes on.
#[derive(Debug, Clone, Copy)]
pub struct Passing<'a> {
    /// The request, this node added to its path.
    pub request: &'a DiscoveryRequest,
    /// Whence it came, and over which link.
    pub back: (NodeId, LinkId),
    /// To whom it goes; none if to all, or to nobody.
    pub next: Option<NodeId>,
}

/// What a node remembers of discoveries: others' requests passing by, and its own.
pub struct RouteDiscovery {
    passed: Relays<RelayKey, Passed>,
    rings: FairShare,
    /// Routes and branches, by whom they go to.
    straight: BTreeMap<NodeId, FairShare>,
    own: BTreeMap<CommandId, OwnDiscovery>,
    asked: BTreeMap<RequestId, (CommandId, Passed)>,
    asked_by_age: VecDeque<(Instant, RequestId)>,
}

impl Default for RouteDiscovery {
    fn default() -> Self {
        Self {
            passed: Relays::default(),
            rings: FairShare::new(DISCOVERIES_PASSED_PER_SECOND, DISCOVERIES_PASSED_BURST),
            straight: BTreeMap::new(),
            own: BTreeMap::new(),
            asked: BTreeMap::new(),
            asked_by_age: VecDeque::new(),
        }
    }
}

/// Others' requests.
impl RouteDiscovery {
    /// Notes that a request came and where it goes; refuses copies beyond what is relayed or, at the destination,
    /// answered.
    pub fn note(&mut self, passing: Passing<'_>, now: Instant) -> Result<(), DropReason> {
        let Passing { request, back, next } = passing;
        let requester = *request.path.first().ok_or(DropReason::BadRoute)?;
        let kind = Kind::of(&request.mode);
        let key = (requester, request.nonce, kind);
        let sent = Sent::new(request, Some(back), next);
        let Some(known) = self.passed.get_mut(&key) else {
            let mut passed = Passed::new(request, now);
            passed.sent.push(sent);
            return self.passed.insert(key, passed, back.0, now);
        };
        // One nonce under which different things are asked is no honest requester's.
        let same = known.is_about(request);
        let is_destination = request.path.last() == Some(&request.destination);
        let most = match kind {
            Kind::Route | Kind::Branch(_) => 1,
            Kind::Ring if is_destination => MAX_ANSWERS_PER_REQUEST,
            Kind::Ring => MAX_COPIES_PER_REQUEST,
        };
        let over = |way: &&Sent| way.back.is_some_and(|(previous, _)| previous == back.0);
        // Half for one neighbour: a villain that repeats what it hears would else use up the honest ways.
        let room = known.sent.len() < most && known.sent.iter().filter(over).count() < most / 2;
        // The same path twice would be answered twice, and the second answer held against who gave it.
        if !same || !room || known.sent.iter().any(|way| way.path == sent.path) {
            return Err(DropReason::AlreadyRelayed);
        }
        known.sent.push(sent);
        Ok(())
    }

    /// Whether one more request that came from `previous` may be sent on, to `next` or to all. What this node may send over
    /// a link is shared among those it sends it for; a ring goes over all links, so rings have one budget.
    pub fn may_pass(&mut self, previous: &NodeId, next: Option<NodeId>, now: Instant) -> bool {
        let budget = match next {
            None => &mut self.rings,
            Some(next) => self
                .straight
                .entry(next)
                .or_insert_with(|| FairShare::new(DISCOVERIES_PASSED_PER_SECOND, DISCOVERIES_PASSED_BURST)),
        };
        budget.take(previous, now)
    }

    /// The nodes that other branches of the same request were sent to.
    pub fn other_branches(&mut self, request: &DiscoveryRequest) -> Vec<NodeId> {
        let Some(requester) = request.path.first().copied() else {
            return Vec::new();
        };
        let key = |kind| (requester, request.nonce, kind);
        self.passed
            .range_mut(key(Kind::Branch(0)), key(Kind::Branch(u8::MAX)))
            .flat_map(|(_, passed)| passed.sent.iter().filter_map(|sent| sent.next))
            .collect()
    }

    /// Takes an answer for somebody else, come from `from` to this node at `place`; says to whom it goes, and over which
    /// link.
    pub fn answered(
        &mut self,
        certificate: &RouteCertificate,
        place: usize,
        from: &NodeId,
        now: Instant,
    ) -> Result<(NodeId, LinkId), DropReason> {
        let requester = *certificate.requester().ok_or(DropReason::BadRoute)?;
        let key = |kind| (requester, certificate.nonce, kind);
        let mut outcome = Err(DropReason::Unsolicited);
        for (_, passed) in self.passed.range_mut(key(Kind::FIRST), key(Kind::LAST)) {
            outcome = passed.take(certificate, place, from, now);
            // The same answer may fit two branches; only if it fits none is it unsolicited.
            if outcome != Err(DropReason::Unsolicited) {
                break;
            }
        }
        outcome?.ok_or(DropReason::Unsolicited)
    }

    /// Forgets what is too old to be answered.
    pub fn expire(&mut self, now: Instant) {
        self.passed.expire(now);
        self.straight.retain(|_, budget| !budget.is_full(now));
        while let Some((_, nonce)) = self
            .asked_by_age
            .front()
            .filter(|(asked, _)| now - *asked > RELAY_MEMORY || self.asked_by_age.len() > MAX_ASKED_NONCES)
        {
            self.asked.remove(nonce);
            self.asked_by_age.pop_front();
        }
    }
}

/// This node's own.
impl RouteDiscovery {
    /// Starts a discovery.
    pub fn start(&mut self, command: CommandId, discovery: OwnDiscovery) -> Result<(), DropReason> {
        if self.own.len() >= MAX_PENDING_COMMANDS {
            return Err(DropReason::TableFull);
        }
        self.own.insert(command, discovery);
        Ok(())
    }

    /// A discovery under way.
    pub fn own(&self, command: CommandId) -> Option<&OwnDiscovery> {
        self.own.get(&command)
    }

    /// A discovery under way, to change it.
    pub fn own_mut(&mut self, command: CommandId) -> Option<&mut OwnDiscovery> {
        self.own.get_mut(&command)
    }

    /// Notes that `request` was sent, to `next` or to all.
    pub fn ask(
        &mut self,
        command: CommandId,
        request: &DiscoveryRequest,
        next: Option<NodeId>,
        now: Instant,
    ) {
        let sent = Sent::new(request, None, next);
        if let Some((_, passed)) = self.asked.get_mut(&request.nonce) {
            return passed.sent.push(sent);
        }
        let mut passed = Passed::new(request, now);
        passed.sent.push(sent);
        self.asked.insert(request.nonce, (command, passed));
        self.asked_by_age.push_back((now, request.nonce));
        self.expire(now);
    }

    /// Takes an answer to a request of this node's own, and says to which command; it may be over since.
    pub fn own_answered(
        &mut self,
        certificate: &RouteCertificate,
        from: &NodeId,
        now: Instant,
    ) -> Result<CommandId, DropReason> {
        let (command, passed) = self
            .asked
            .get_mut(&certificate.nonce)
            .ok_or(DropReason::Unsolicited)?;
        passed.take(certificate, 0, from, now)?;
        Ok(*command)
    }

    /// Ends a discovery. Its nonces are remembered: an answer that comes late is no crime and still worth having.
    pub fn finish(&mut self, command: CommandId) -> Option<OwnDiscovery> {
        self.own.remove(&command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::limits::DISCOVERY_TIMEOUT;
    use crate::message::Price;

    const NOW: Instant = Instant(1_000_000);

    fn id(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    fn ids(nodes: &[u8]) -> Vec<NodeId> {
        nodes.iter().copied().map(id).collect()
    }

    fn ring() -> DiscoveryMode {
        DiscoveryMode::Ring { avoid: Vec::new() }
    }

    fn branch(tag: u8) -> DiscoveryMode {
        DiscoveryMode::Branch {
            tag,
            avoid: Vec::new(),
        }
    }

    fn route(ahead: &[u8]) -> DiscoveryMode {
        DiscoveryMode::Route { ahead: ids(ahead) }
    }

    /// A request of node 1 for node 9, as the last of `path` has it.
    fn request(path: &[u8], mode: DiscoveryMode) -> DiscoveryRequest {
        DiscoveryRequest {
            nonce: [7; 16],
            destination: id(9),
            max_hops: 4,
            deadline: UnixMillis(0),
            path: ids(path),
            mode,
        }
    }

    /// An answer to it; nobody looks at signatures here, they were checked before.
    fn answer(path: &[u8]) -> RouteCertificate {
        let price = Price {
            msat_per_unit: 1,
            payable: true,
        };
        let anybody = Identity::from_seed([1; 32]).unwrap();
        RouteCertificate::sign([7; 16], ids(path), price, UnixMillis(1), &anybody)
    }

    fn pass(
        discovery: &mut RouteDiscovery,
        request: &DiscoveryRequest,
        next: Option<u8>,
    ) -> Result<(), DropReason> {
        let previous = request.path[request.path.len() - 2];
        let back = (previous, LinkId(u64::from(previous.0[0])));
        let next = next.map(id);
        discovery.note(Passing { request, back, next }, NOW)
    }

    #[test]
    fn route_is_answered_over_its_own_path_and_once() {
        let mut discovery = RouteDiscovery::default();
        pass(&mut discovery, &request(&[1, 2, 3], route(&[4, 9])), Some(4)).unwrap();
        let mut take = |path: &[u8], from| discovery.answered(&answer(path), 2, &id(from), NOW);
        assert_eq!(
            take(&[1, 2, 3, 5, 9], 5),
            Err(DropReason::Unsolicited),
            "another way"
        );
        assert_eq!(
            take(&[1, 2, 3, 4, 9], 5),
            Err(DropReason::Unsolicited),
            "another neighbour"
        );
        assert_eq!(
            take(&[1, 6, 3, 4, 9], 4),
            Err(DropReason::Unsolicited),
            "never came from there"
        );
        assert_eq!(take(&[1, 2, 3, 4, 9], 4), Ok((id(2), LinkId(2))));
        assert_eq!(
            take(&[1, 2, 3, 4, 9], 4),
            Err(DropReason::Unsolicited),
            "answered already"
        );
    }

    #[test]
    fn branches_are_answered_each_once_wherever_they_lead() {
        let mut discovery = RouteDiscovery::default();
        pass(&mut discovery, &request(&[1, 2, 3], branch(0)), Some(4)).unwrap();
        pass(&mut discovery, &request(&[1, 5, 3], branch(1)), Some(6)).unwrap();
        assert_eq!(
            pass(&mut discovery, &request(&[1, 8, 3], branch(1)), Some(6)),
            Err(DropReason::AlreadyRelayed)
        );
        assert_eq!(
            discovery.other_branches(&request(&[1, 7, 3], branch(2))),
            ids(&[4, 6])
        );
        let mut take = |path: &[u8], from| discovery.answered(&answer(path), 2, &id(from), NOW);
        assert_eq!(
            take(&[1, 2, 3, 6, 9], 6),
            Err(DropReason::Unsolicited),
            "went to 4"
        );
        assert_eq!(take(&[1, 5, 3, 6, 9], 6), Ok((id(5), LinkId(5))));
        assert_eq!(take(&[1, 2, 3, 4, 9], 4), Ok((id(2), LinkId(2))));
        assert_eq!(take(&[1, 2, 3, 4, 9], 4), Err(DropReason::Unsolicited), "again");
    }

    #[test]
    fn ring_is_answered_by_each_path_once_and_within_the_hops_asked_for() {
        let mut discovery = RouteDiscovery::default();
        pass(&mut discovery, &request(&[1, 2, 3], ring()), None).unwrap();
        let mut take = |path: &[u8], from| discovery.answered(&answer(path), 2, &id(from), NOW);
        assert!(take(&[1, 2, 3, 9], 9).is_ok());
        assert!(take(&[1, 2, 3, 4, 9], 4).is_ok());
        assert_eq!(take(&[1, 2, 3, 4, 9], 4), Err(DropReason::Unsolicited), "again");
        assert_eq!(
            take(&[1, 2, 3, 4, 5, 9], 4),
            Err(DropReason::Unsolicited),
            "five hops"
        );
        assert_eq!(
            take(&[1, 2, 3, 4], 4),
            Err(DropReason::Unsolicited),
            "somebody else"
        );
    }

    #[test]
    fn villain_with_many_names_behind_one_neighbour_takes_half_of_a_rings_answers() {
        let mut discovery = RouteDiscovery::default();
        pass(&mut discovery, &request(&[1, 3], ring()), None).unwrap();
        let mut take = |path: &[u8]| discovery.answered(&answer(path), 1, &id(path[2]), NOW);
        let full = Err(DropReason::AlreadyRelayed);
        for name in 20..24 {
            assert!(take(&[1, 3, 10, name, 9]).is_ok());
        }
        assert_eq!(take(&[1, 3, 10, 24, 9]), full, "the fifth over 10");
        for honest in 11..15 {
            assert!(take(&[1, 3, honest, 9]).is_ok());
        }
        assert_eq!(take(&[1, 3, 15, 9]), full, "the ninth of all");
    }

    #[test]
    fn copies_of_a_ring_come_over_different_ways_and_from_different_neighbours() {
        let mut discovery = RouteDiscovery::default();
        let mut came = |path: &[u8]| pass(&mut discovery, &request(path, ring()), None);
        let refused = Err(DropReason::AlreadyRelayed);
        assert_eq!(came(&[1, 2, 3]), Ok(()));
        assert_eq!(came(&[1, 2, 3]), refused, "the same path");
        assert_eq!(came(&[1, 4, 2, 3]), Ok(()));
        assert_eq!(came(&[1, 5, 2, 3]), refused, "the third from 2");
        assert_eq!(came(&[1, 5, 3]), Ok(()));
        assert_eq!(came(&[1, 6, 3]), Ok(()));
        assert_eq!(came(&[1, 7, 3]), refused, "the fifth");
        let mut other = request(&[1, 8, 3], ring());
        other.destination = id(10);
        assert_eq!(
            pass(&mut discovery, &other, None),
            refused,
            "another question, same nonce"
        );
    }

    #[test]
    fn late_answer_is_told_from_one_nobody_asked_for() {
        let mut discovery = RouteDiscovery::default();
        pass(&mut discovery, &request(&[1, 2, 3], ring()), None).unwrap();
        let late = NOW + DISCOVERY_TIMEOUT + Duration::from_secs(1);
        discovery.expire(late);
        let path = [1, 2, 3, 9];
        let answered = discovery.answered(&answer(&path), 2, &id(9), late);
        assert_eq!(answered, Err(DropReason::Expired));
        let forgotten = NOW + RELAY_MEMORY + Duration::from_secs(1);
        discovery.expire(forgotten);
        let answered = discovery.answered(&answer(&path), 2, &id(9), forgotten);
        assert_eq!(answered, Err(DropReason::Unsolicited));
    }

    #[test]
    fn own_questions_are_remembered_after_the_discovery_ended_and_not_for_ever() {
        let mut discovery = RouteDiscovery::default();
        let command = CommandId(3);
        discovery.ask(command, &request(&[1], ring()), None, NOW);
        discovery.finish(command);
        let take = |discovery: &mut RouteDiscovery, path: &[u8]| {
            discovery.own_answered(&answer(path), &ids(path)[1], NOW)
        };
        assert_eq!(take(&mut discovery, &[1, 2, 9]), Ok(command));
        assert_eq!(
            take(&mut discovery, &[1, 2, 9]),
            Err(DropReason::Unsolicited),
            "again"
        );
        discovery.expire(NOW + RELAY_MEMORY + Duration::from_secs(1));
        assert_eq!(take(&mut discovery, &[1, 3, 9]), Err(DropReason::Unsolicited));
        assert!(discovery.asked.is_empty() && discovery.asked_by_age.is_empty());
    }

    #[test]
    fn silent_paths_are_remembered_within_bounds_newest_last() {
        let mut own = OwnDiscovery {
            destination: id(9),
            max_hops: 10,
            deadline: UnixMillis(0),
            rounds: 0,
            retry_after: Duration::from_millis(500),
            asked_at: NOW,
            gathering: false,
            ring: 0,
            exhausted: false,
            asked: Vec::new(),
            silent: Vec::new(),
        };
        for round in 0..20 {
            own.asked = vec![ids(&[1, round, 9]), ids(&[1, 200, 9])];
            own.next_round();
        }
        assert_eq!((own.silent.len(), own.rounds), (MAX_SILENT_PATHS, 20));
        assert_eq!(own.silent.last().unwrap()[1], id(19));
    }
}
