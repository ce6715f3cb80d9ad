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

pub mod plan;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::event::{CommandId, LinkId};
use crate::fair_share::FairShare;
use crate::identity::NodeId;
use crate::limits::{
    DISCOVERIES_PASSED_BURST, DISCOVERIES_PASSED_PER_SECOND, DISCOVERY_TIMEOUT, MAX_ANSWERS_PER_REQUEST,
    MAX_ASKED_NONCES, MAX_COPIES_PER_REQUEST, MAX_PENDING_COMMANDS, MAX_SILENT_PATHS, RELAY_MEMORY,
};
use crate::message::{DiscoveryMode, DiscoveryRequest, RequestId, RouteCertificate};
use crate::relays::Relays;
use crate::time::{Instant, UnixMillis};

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

/// Sixteen bytes stand for a list of nodes: nobody finds two lists with the same.
type PathDigest = [u8; 16];

fn digest(path: &[NodeId]) -> PathDigest {
    let mut hasher = blake3::Hasher::new_derive_key("blvm-mesh/1 discovery path");
    for node in path {
        hasher.update(&node.0);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

/// One copy of a request that was sent on or, at the destination, answered.
#[derive(Debug)]
struct Sent {
    /// Of the path as far as this node; of the whole path when the request named it.
    path: PathDigest,
    /// Whence it came, and over which link; none when it is this node's own.
    back: Option<(NodeId, LinkId)>,
    /// To whom it went; none if to all.
    next: Option<NodeId>,
    /// What goes to one node is answered once.
    answered: bool,
}

/// What was sent on of one request, and what may therefore come back.
#[derive(Debug)]
struct Passed {
    destination: NodeId,
    max_hops: usize,
    whole: bool,
    seen: Instant,
    sent: Vec<Sent>,
    /// The paths answered to a request that went to all.
    answers: Vec<PathDigest>,
}

impl Passed {
    fn new(request: &DiscoveryRequest, seen: Instant) -> Self {
        Self {
            destination: request.destination,
            max_hops: request.most_hops(),
            whole: matches!(request.mode, DiscoveryMode::Route { .. }),
            seen,
            sent: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Takes an answer that came from `from` to the node at `place`, if it is one to what was sent on, and was not given
    /// before; says whither it goes.
    fn take(
        &mut self,
        certificate: &RouteCertificate,
        place: usize,
        from: &NodeId,
        now: Instant,
    ) -> Result<Option<(NodeId, LinkId)>, DropReason> {
        let path = &certificate.path;
        let fits =
            certificate.destination() == Some(&self.destination) && certificate.hops() <= self.max_hops;
        let asked_over = if self.whole { path.len() } else { place + 1 };
        let asked_over = digest(path.get(..asked_over).ok_or(DropReason::BadRoute)?);
        let sent = self
            .sent
            .iter_mut()
            .find(|sent| fits && sent.path == asked_over && sent.next.is_none_or(|next| next == *from))
            .ok_or(DropReason::Unsolicited)?;
        if now - self.seen > DISCOVERY_TIMEOUT {
            return Err(DropReason::Expired);
        }
        if sent.next.is_some() {
            if std::mem::replace(&mut sent.answered, true) {
                return Err(DropReason::Unsolicited);
            }
            return Ok(sent.back);
        }
        let answer = digest(path);
        if self.answers.contains(&answer) {
            return Err(DropReason::Unsolicited);
        }
        // No single neighbour's fault: a lying destination may have answered over several.
        if self.answers.len() >= MAX_ANSWERS_PER_REQUEST {
            return Err(DropReason::AlreadyRelayed);
        }
        self.answers.push(answer);
        Ok(sent.back)
    }
}

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
    budget: FairShare,
    own: BTreeMap<CommandId, OwnDiscovery>,
    asked: BTreeMap<RequestId, (CommandId, Passed)>,
    asked_by_age: VecDeque<(Instant, RequestId)>,
}

impl Default for RouteDiscovery {
    fn default() -> Self {
        Self {
            passed: Relays::default(),
            budget: FairShare::new(DISCOVERIES_PASSED_PER_SECOND, DISCOVERIES_PASSED_BURST),
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
        let path = match &request.mode {
            DiscoveryMode::Route { ahead } => digest(&[&request.path[..], ahead].concat()),
            _ => digest(&request.path),
        };
        let sent = Sent {
            path,
            back: Some(back),
            next,
            answered: false,
        };
        let Some(known) = self.passed.get_mut(&key) else {
            let mut passed = Passed::new(request, now);
            passed.sent.push(sent);
            return self.passed.insert(key, passed, back.0, now);
        };
        // One nonce under which different things are asked is no honest requester's.
        let same = known.destination == request.destination && known.max_hops == request.most_hops();
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

    /// Whether one more request that came from `previous` may be sent on: what this node may send its neighbours is
    /// shared among those it sends it for.
    pub fn may_pass(&mut self, previous: &NodeId, now: Instant) -> bool {
        self.budget.take(previous, now)
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
        let path = match &request.mode {
            DiscoveryMode::Route { ahead } => digest(&[&request.path[..], ahead].concat()),
            _ => digest(&request.path),
        };
        let sent = Sent {
            path,
            back: None,
            next,
            answered: false,
        };
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
