//! The world: nodes, links, virtual time, and the queue of what happens next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::chain::{ChainPolicy, ChainQuestion};
use mesh_core::check::check;
use mesh_core::event::{Answer, CommandId, Input, LinkId, QuotedSlice, Refusal, Ticket, WalletQuestion};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::message::RequestId;
use mesh_core::packet::{FrameKind, PacketId, Preamble};
use mesh_core::time::{Instant, Now, UnixMillis};

use crate::chain::Chain;
use crate::faults::{LinkSpec, Plans, Stage};
use crate::lightning::{Lightning, Outcome};
use crate::node::{NodeIndex, SimNode};
use crate::random::Random;
use crate::verifier::MemoisingVerifier;

/// Virtual time starts here: some day in 2027, so that invoices and clocks look like real ones.
const EPOCH: UnixMillis = UnixMillis(1_800_000_000_000);

/// What a command came to.
pub type CommandOutcome = Result<Answer, Box<Refusal>>;

/// Changes what passes in one direction of a link: what comes out is sent on instead of what went in.
pub type Tamper = Box<dyn FnMut(Stage, &Bytes) -> Vec<Bytes>>;

pub(crate) enum Happening {
    Frame {
        link: LinkId,
        from: NodeIndex,
        to: NodeIndex,
        frame: Bytes,
    },
    LinkUp {
        node: NodeIndex,
        peer: NodeIndex,
        link: LinkId,
    },
    LinkDown {
        node: NodeIndex,
        link: LinkId,
    },
    Wake {
        node: NodeIndex,
    },
    Write {
        node: NodeIndex,
        life: u64,
    },
    Wallet {
        node: NodeIndex,
        life: u64,
        ticket: Ticket,
        question: WalletQuestion,
        asked: UnixMillis,
    },
    Chain {
        node: NodeIndex,
        life: u64,
        ticket: Ticket,
        question: ChainQuestion,
    },
}

pub(crate) struct Direction {
    pub(crate) spec: LinkSpec,
    pub(crate) tamper: Option<Tamper>,
}

/// What the audit needs to know about a session.
#[derive(Default)]
pub(crate) struct SessionNotes {
    pub(crate) prices: BTreeMap<NodeId, u64>,
}

/// A network of nodes.
pub struct Simulation {
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) now: u64,
    pub(crate) next_happening: u64,
    pub(crate) queue: BTreeMap<(u64, u64), Happening>,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) directions: BTreeMap<(NodeIndex, NodeIndex), Direction>,
    pub(crate) cut: BTreeSet<(NodeIndex, NodeIndex)>,
    pub(crate) plans: Plans,
    pub(crate) next_link: u64,
    pub(crate) signatures: Arc<MemoisingVerifier>,
    /// Everybody's wallets.
    pub lightning: Lightning,
    /// The chain that everybody sees.
    pub chain: Chain,
    /// How nodes that start from now on are paid on it; not at all if none.
    pub chain_policy: Option<ChainPolicy>,

    pub(crate) next_command: u64,
    pub(crate) answers: BTreeMap<CommandId, CommandOutcome>,
    pub(crate) unanswered: BTreeMap<CommandId, NodeIndex>,
    pub(crate) quoted: BTreeMap<RequestId, QuotedSlice>,
    pub(crate) opening: BTreeMap<CommandId, RequestId>,
    pub(crate) sending: BTreeMap<CommandId, (String, Bytes)>,
    pub(crate) sent: BTreeMap<PacketId, (String, Bytes)>,
    pub(crate) sessions: BTreeMap<SessionId, SessionNotes>,
    pub(crate) own_sessions: BTreeSet<(NodeIndex, SessionId)>,
    pub(crate) carried_units: BTreeMap<(NodeIndex, SessionId), u64>,
    pub(crate) hash: blake3::Hasher,
}

/// Time.
impl Simulation {
    /// The moment it is.
    pub fn now(&self) -> Now {
        Now {
            instant: Instant(self.now),
            unix: EPOCH + Duration::from_micros(self.now),
        }
    }

    /// The moment it is by a node's own clocks: the monotonic one is everybody's, the wall clock may be wrong.
    pub fn now_at(&self, node: NodeIndex) -> Now {
        let now = self.now();
        let unix = now
            .unix
            .0
            .saturating_add_signed(self.nodes[node.0].clock_ahead_ms);
        Now {
            unix: UnixMillis(unix),
            ..now
        }
    }

    pub(crate) fn schedule(&mut self, after: Duration, happening: Happening) -> (u64, u64) {
        self.schedule_at(Instant(self.now) + after, happening)
    }

    pub(crate) fn schedule_at(&mut self, at: Instant, happening: Happening) -> (u64, u64) {
        self.next_happening += 1;
        let key = (at.0.max(self.now), self.next_happening);
        self.queue.insert(key, happening);
        key
    }

    /// Lets the next thing happen; false when nothing is left.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), happening)) = self.queue.pop_first() else {
            return false;
        };
        self.now = at;
        self.hash.update(&at.to_be_bytes());
        self.happen(happening);
        true
    }

    /// Lets everything happen until that much time has passed.
    pub fn run_for(&mut self, span: Duration) {
        let end = (Instant(self.now) + span).0;
        while self
            .queue
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= end)
        {
            self.step();
        }
        self.now = end;
    }

    /// Lets things happen until `done`, or until `limit` has passed; whether it is done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = (Instant(self.now) + limit).0;
        while !done(self) {
            if self.queue.first_key_value().is_none_or(|((at, _), _)| *at > end) {
                return false;
            }
            self.step();
        }
        true
    }

    /// Lets two seconds pass: whatever is under way has arrived then, and receipts are written.
    pub fn settle(&mut self) {
        self.run_for(Duration::from_secs(2));
    }

    pub(crate) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Frame {
                link,
                from,
                to,
                frame,
            } => {
                if self.nodes[to.0].links.get(&from) == Some(&link) {
                    self.hash.update(&frame);
                    self.receive(link, from, to, frame);
                }
            }
            Happening::LinkUp { node, peer, link } => {
                if self.nodes[node.0].links.get(&peer) == Some(&link) {
                    let peer = self.nodes[peer.0].id;
                    self.feed(node, Input::LinkUp { link, peer });
                }
            }
            Happening::LinkDown { node, link } => self.feed(node, Input::LinkDown { link }),
            Happening::Write { node, life } => {
                if self.nodes[node.0].life == life {
                    let soon = std::mem::take(&mut self.nodes[node.0].soon);
                    self.nodes[node.0].disk.extend(soon);
                    self.tell_durable(node);
                }
            }
            Happening::Wake { node } => {
                self.nodes[node.0].wake = None;
                self.feed(node, Input::Timeout);
            }
            Happening::Wallet {
                node,
                life,
                ticket,
                question,
                asked,
            } => {
                let now = self.now().unix;
                match self
                    .lightning
                    .look_at(node, &question, asked, now, &mut self.random)
                {
                    Outcome::LookAgainAfter(span) => {
                        self.schedule(
                            span,
                            Happening::Wallet {
                                node,
                                life,
                                ticket,
                                question,
                                asked,
                            },
                        );
                    }
                    Outcome::Answer(answer) => {
                        self.note(&answer);
                        // The wallet goes on while its node is down, but nobody hears what it says.
                        if self.nodes[node.0].life == life {
                            self.feed(node, Input::Wallet { ticket, answer });
                        }
                    }
                }
            }
            Happening::Chain {
                node,
                life,
                ticket,
                question,
            } => {
                let answer = self.chain.answer(&question);
                self.note(&answer);
                if self.nodes[node.0].life == life {
                    self.feed(node, Input::Chain { ticket, answer });
                }
            }
        }
    }

    pub(crate) fn receive(&mut self, link: LinkId, from: NodeIndex, to: NodeIndex, frame: Bytes) {
        if self.nodes[to.0].is_villain {
            self.nodes[to.0].inbox.push((from, frame));
            return;
        }
        let is_control = Preamble::parse(&frame).is_ok_and(|preamble| preamble.kind == FrameKind::Control);
        let input = if is_control {
            match check(&frame, &self.nodes[to.0].id, self.signatures.as_ref()) {
                Ok(message) => Input::Message {
                    link,
                    message: Box::new(message),
                },
                Err(reason) => Input::Rejected { link, reason },
            }
        } else {
            Input::Frame { link, frame }
        };
        self.feed(to, input);
    }
}
