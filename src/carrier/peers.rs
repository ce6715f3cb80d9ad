//! Whom the node is connected to, who of them speaks this too, and who asks whom.
//!
//! A peer is asked some seconds after it came, so that a direct link comes first where there is one, and again with
//! growing pauses while there is none. One that never answers is asked [`MAX_UNANSWERED`] times and then left alone: most
//! Bitcoin nodes carry no mesh. Who asks dials; of crossing asks the lower token's stays.
//!
//! A peer's address is what the node calls the connection. Who is behind it is learnt in the handshake, and remembered
//! only to leave a peer alone to which there is a link already, and to expect the same one next time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::identity::NodeId;
use mesh_net::{CarriedPair, CarrierPort, CloseReason};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;

use super::conversation::Conversation;
use super::counters::{Counters, count};
use super::frame::{Carry, End, Frame, Token};
use super::pipe::{PipeStream, pipe};

/// Peers known at once: twice what a node connects to by default.
pub const MAX_PEERS: usize = 256;

/// Conversations at once. At the budget of frames more could not even keep their links alive and say anything.
pub const MAX_CONVERSATIONS: usize = 64;

/// Asks, answers and ends that wait to be sent: more than a second's budget need not be promised.
const MAX_SMALL_FRAMES: usize = 64;

/// From a peer's coming to the first ask: time for a direct link to be made.
pub const FIRST_ASK_AFTER: Duration = Duration::from_secs(3);

/// How long an answer is waited for.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Asks without an answer after which a peer is left alone until it asks by itself.
pub const MAX_UNANSWERED: u32 = 3;

/// The pause after a conversation ended or an ask got no answer; doubled each time.
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A conversation that lasted this long shows that peer and way are well: the next pause is the shortest.
const PROVEN_AFTER: Duration = Duration::from_secs(30);

/// How soon it is looked again whether a peer with a link needs another.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Of one peer's asks, and of its stray frames, one is answered in this time.
const ANSWER_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Stage {
    /// Nothing is said; when to ask, if ever.
    Quiet { ask_at: Option<Instant> },
    /// We asked.
    Asking { mine: Token, until: Instant },
    /// We talk.
    Talking(Box<Conversation>),
}

#[derive(Debug)]
struct Peer {
    stage: Stage,
    pause: Duration,
    unanswered: u32,
    /// Who proved to be there.
    learnt: Option<NodeId>,
    /// Our token in the latest conversation that we dialled over.
    dialled_as: Option<Token>,
    /// Before this it gets no further answer.
    answer_again_at: Instant,
}

/// A conversation agreed on that this side is to dial over.
pub(crate) struct Dial {
    pub(crate) peer: SocketAddr,
    pub(crate) mine: Token,
    pub(crate) expected: Option<NodeId>,
    pub(crate) pair: CarriedPair,
}

/// All peers, and what is to be sent to them.
pub(crate) struct Peers {
    port: CarrierPort,
    counters: Arc<Counters>,
    /// Whom the streams tell of work.
    work: Arc<Notify>,
    peers: BTreeMap<SocketAddr, Peer>,
    talking: usize,
    small: VecDeque<(SocketAddr, Frame)>,
    /// Whether a small frame went last: they take turns with the conversations.
    small_went: bool,
    /// The conversation that spoke last: the next one after it is next.
    spoke: Option<SocketAddr>,
}

impl Peers {
    pub(crate) fn new(port: CarrierPort, counters: Arc<Counters>, work: Arc<Notify>) -> Self {
        Self {
            port,
            counters,
            work,
            peers: BTreeMap::new(),
            talking: 0,
            small: VecDeque::new(),
            small_went: false,
            spoke: None,
        }
    }

    /// The node has a new connection. One that stands under this address already is over.
    pub(crate) fn came(&mut self, address: SocketAddr, now: Instant) {
        self.went(address);
        self.meet(address, now);
    }

    /// The node's connection is gone.
    pub(crate) fn went(&mut self, address: SocketAddr) {
        self.end(address, CloseReason::CarrierGone, None, Instant::now());
        self.peers.remove(&address);
        self.small.retain(|(peer, _)| *peer != address);
    }

    /// The node said whom it is connected to: events may have been lost.
    pub(crate) fn are(&mut self, connected: &[SocketAddr], now: Instant) {
        let gone: Vec<_> = self
            .peers
            .keys()
            .filter(|address| !connected.contains(address))
            .copied()
            .collect();
        for address in gone {
            self.went(address);
        }
        for address in connected {
            self.meet(*address, now);
        }
    }

    /// Everything under way may be lost: conversations begin anew.
    pub(crate) fn forget_conversations(&mut self, now: Instant) {
        let addresses: Vec<_> = self.peers.keys().copied().collect();
        for address in addresses {
            self.end(address, CloseReason::CarrierGone, Some(End::Closed), now);
        }
    }

    /// Knows the peer from now on, if there is room.
    fn meet(&mut self, address: SocketAddr, now: Instant) -> Option<&mut Peer> {
        if !self.peers.contains_key(&address) && self.peers.len() >= MAX_PEERS {
            return None;
        }
        let peer = self.peers.entry(address).or_insert_with(|| Peer {
            stage: Stage::Quiet {
                ask_at: Some(now + FIRST_ASK_AFTER),
            },
            pause: FIRST_PAUSE,
            unanswered: 0,
            learnt: None,
            dialled_as: None,
            answer_again_at: now,
        });
        Some(peer)
    }

    /// A frame came. What is to be dialled over, if it was an answer.
    pub(crate) fn hear(&mut self, address: SocketAddr, frame: Frame, now: Instant) -> Option<Dial> {
        match frame {
            Frame::Ask { from } => {
                self.hear_ask(address, from, now);
                None
            }
            Frame::Answer { to, from } => self.hear_answer(address, to, from, now),
            Frame::Carry(carry) => {
                self.hear_carry(address, carry, now);
                None
            }
            Frame::End { from, why } => {
                match self.conversation(address) {
                    Some(conversation) if conversation.theirs == from => {
                        self.end(address, why.as_told(), None, now);
                    }
                    _ => count(&self.counters.stray),
                }
                None
            }
        }
    }

    fn hear_ask(&mut self, address: SocketAddr, theirs: Token, now: Instant) {
        let Some(peer) = self.meet(address, now) else {
            return self.port.count(CloseReason::PeersFull);
        };
        let mine = match &peer.stage {
            // The answer is under way, or our ask is and theirs will be dropped.
            Stage::Talking(conversation) if conversation.theirs == theirs => return,
            Stage::Asking { mine, .. } if *mine <= theirs => return,
            Stage::Asking { mine, .. } => Some(*mine),
            Stage::Talking(_) | Stage::Quiet { .. } => None,
        };
        if now < peer.answer_again_at {
            count(&self.counters.flooded);
            return;
        }
        peer.answer_again_at = now + ANSWER_INTERVAL;
        self.end(address, CloseReason::CarrierReset, None, now);
        // Counted now: who starts again takes the place that he had.
        if self.talking >= MAX_CONVERSATIONS {
            return self.port.count(CloseReason::PeersFull);
        }
        let Some(mine) = mine.or_else(draw_token) else {
            return;
        };
        count(&self.counters.asks_answered);
        let pair = self.talk(address, mine, theirs, now);
        let frame = match self.port.accept(pair) {
            Ok(()) => Frame::Answer {
                to: theirs,
                from: mine,
            },
            Err(reason) => {
                debug!(%address, %reason, "no link over the node");
                self.end(address, reason, None, now);
                return;
            }
        };
        self.send(address, frame);
    }

    fn hear_answer(&mut self, address: SocketAddr, to: Token, from: Token, now: Instant) -> Option<Dial> {
        let asked = match self.peers.get_mut(&address) {
            Some(peer) => matches!(peer.stage, Stage::Asking { mine, .. } if mine == to).then_some(peer),
            None => None,
        };
        let Some(peer) = asked else {
            count(&self.counters.stray);
            return None;
        };
        peer.unanswered = 0;
        peer.dialled_as = Some(to);
        let expected = peer.learnt;
        let pair = self.talk(address, to, from, now);
        Some(Dial {
            peer: address,
            mine: to,
            expected,
            pair,
        })
    }

    fn hear_carry(&mut self, address: SocketAddr, carry: Carry, now: Instant) {
        let to = carry.to;
        let result = match self.conversation(address) {
            Some(conversation) if conversation.mine == to => conversation.hear(carry, now),
            _ => return self.hear_stray(address, to, now),
        };
        if let Err(reason) = result {
            self.end(address, reason, Some(End::telling(reason)), now);
        }
    }

    /// A frame of a conversation that is over: the other side is told, seldom.
    fn hear_stray(&mut self, address: SocketAddr, to: Token, now: Instant) {
        count(&self.counters.stray);
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        if now >= peer.answer_again_at {
            peer.answer_again_at = now + ANSWER_INTERVAL;
            self.send(
                address,
                Frame::End {
                    from: to,
                    why: End::Unknown,
                },
            );
        }
    }

    /// A dial came to its end, perhaps after its conversation did; its streams tell by themselves whether it failed.
    pub(crate) fn learn(&mut self, address: SocketAddr, mine: Token, found: NodeId) {
        if let Some(peer) = self.peers.get_mut(&address)
            && peer.dialled_as == Some(mine)
        {
            peer.learnt = Some(found);
        }
    }

    /// Another than the expected one may be there now: next time nobody is expected.
    pub(crate) fn unlearn(&mut self, address: SocketAddr) {
        if let Some(peer) = self.peers.get_mut(&address) {
            peer.learnt = None;
        }
    }

    /// Does what is due. Returns when it should be called again at the latest.
    pub(crate) fn tend(&mut self, now: Instant) -> Option<Instant> {
        let addresses: Vec<_> = self.peers.keys().copied().collect();
        addresses
            .into_iter()
            .filter_map(|address| self.tend_one(address, now))
            .min()
    }

    fn tend_one(&mut self, address: SocketAddr, now: Instant) -> Option<Instant> {
        let peer = self.peers.get_mut(&address)?;
        match &mut peer.stage {
            Stage::Quiet { ask_at } => {
                let at = (*ask_at)?;
                if now < at {
                    return Some(at);
                }
                if self.port.is_closed() {
                    return None;
                }
                let linked = peer.learnt.is_some_and(|id| self.port.link_to(&id).is_some());
                if linked || self.talking >= MAX_CONVERSATIONS {
                    let again = now + LOOK_AGAIN;
                    *ask_at = Some(again);
                    return Some(again);
                }
                self.ask(address, now)
            }
            Stage::Asking { until, .. } if now < *until => Some(*until),
            Stage::Asking { .. } => {
                peer.unanswered += 1;
                let pause = peer.next_pause();
                let ask_at = (peer.unanswered < MAX_UNANSWERED).then(|| now + pause);
                peer.stage = Stage::Quiet { ask_at };
                ask_at
            }
            Stage::Talking(conversation) => {
                if let Err(reason) = conversation.check(now) {
                    self.end(address, reason, Some(End::telling(reason)), now);
                } else if conversation.is_over() {
                    self.end(address, CloseReason::PeerClosed, Some(End::Closed), now);
                } else {
                    return conversation.patience_ends();
                }
                self.tend_one(address, now)
            }
        }
    }

    fn ask(&mut self, address: SocketAddr, now: Instant) -> Option<Instant> {
        let mine = draw_token()?;
        let until = now + ANSWER_WITHIN;
        self.peers.get_mut(&address)?.stage = Stage::Asking { mine, until };
        count(&self.counters.asks_sent);
        self.send(address, Frame::Ask { from: mine });
        Some(until)
    }

    /// What to send next, and to whom: small frames and conversations take turns, and so do conversations.
    pub(crate) fn next_frame(&mut self) -> Option<(SocketAddr, Frame)> {
        if self.small_went {
            self.small_went = false;
            if let Some(said) = self.next_carry() {
                return Some(said);
            }
        }
        match self.small.pop_front() {
            Some(small) => {
                self.small_went = true;
                Some(small)
            }
            None => self.next_carry(),
        }
    }

    fn next_carry(&mut self) -> Option<(SocketAddr, Frame)> {
        let after = self
            .spoke
            .map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let turn: Vec<_> = self
            .peers
            .range((after, std::ops::Bound::Unbounded))
            .chain(self.peers.iter())
            .filter(|(_, peer)| matches!(peer.stage, Stage::Talking(_)))
            .map(|(address, _)| *address)
            .take(self.talking)
            .collect();
        for address in turn {
            if let Some(frame) = self.conversation(address).and_then(Conversation::next_frame) {
                self.spoke = Some(address);
                return Some((address, frame));
            }
        }
        None
    }

    /// Whether nobody is talked to and nothing waits to be sent.
    pub(crate) fn have_said_all(&self) -> bool {
        self.talking == 0 && self.small.is_empty()
    }

    /// The node did not take a frame for this peer.
    pub(crate) fn was_refused(&mut self, address: SocketAddr, now: Instant) {
        count(&self.counters.refused);
        self.end(address, CloseReason::CarrierGone, None, now);
    }

    fn conversation(&mut self, address: SocketAddr) -> Option<&mut Conversation> {
        match &mut self.peers.get_mut(&address)?.stage {
            Stage::Talking(conversation) => Some(conversation),
            _ => None,
        }
    }

    /// Begins a conversation and makes its streams.
    fn talk(&mut self, address: SocketAddr, mine: Token, theirs: Token, now: Instant) -> CarriedPair {
        let (data, data_stream) = pipe(self.work.clone());
        let (control, control_stream) = pipe(self.work.clone());
        if let Some(peer) = self.peers.get_mut(&address) {
            let conversation = Conversation::new(mine, theirs, [data, control], now);
            peer.stage = Stage::Talking(Box::new(conversation));
            self.talking += 1;
            count(&self.counters.conversations);
        }
        let boxed = |stream: PipeStream| -> mesh_net::CarriedStream { Box::new(stream) };
        CarriedPair {
            data: boxed(data_stream),
            control: boxed(control_stream),
            address,
        }
    }

    /// Ends what goes on with a peer, a conversation by name; the other side is told `why` if it does not know.
    fn end(&mut self, address: SocketAddr, reason: CloseReason, why: Option<End>, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        if matches!(peer.stage, Stage::Quiet { .. }) {
            return;
        }
        let pause = peer.next_pause();
        let ask_at = Some(now + pause);
        if let Stage::Talking(conversation) = std::mem::replace(&mut peer.stage, Stage::Quiet { ask_at }) {
            debug!(%address, %reason, "conversation over the node ended");
            if now - conversation.since >= PROVEN_AFTER {
                peer.pause = FIRST_PAUSE;
                peer.stage = Stage::Quiet {
                    ask_at: Some(now + peer.next_pause()),
                };
            }
            conversation.end(reason);
            self.talking -= 1;
            if let Some(why) = why {
                let from = conversation.mine;
                self.send(address, Frame::End { from, why });
            }
        }
    }

    fn send(&mut self, address: SocketAddr, frame: Frame) {
        if self.small.len() >= MAX_SMALL_FRAMES {
            count(&self.counters.unsent);
            return;
        }
        self.small.push_back((address, frame));
    }
}

impl Peer {
    /// The pause from now on, at least half of what it says: nodes that lost each other together must not ask together.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        let spread = draw_token().map_or(0, |token| token.0 as u32);
        pause / 2 + (pause / 2).mul_f64(f64::from(spread) / f64::from(u32::MAX))
    }
}

/// `None` when the system gives no randomness: then nothing is begun.
fn draw_token() -> Option<Token> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(Token(u64::from_be_bytes(bytes)))
}
