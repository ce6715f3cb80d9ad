//! The world: nodes, links, virtual time, and the queue of what happens next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::check::check;
use mesh_core::core::{Core, CoreConfig};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{
    Answer, Command, CommandId, Delivery, Event, Input, LinkId, Output, QuotedSlice, Record, Refusal, Status,
    Ticket, WalletQuestion,
};
use mesh_core::identity::{Identity, NodeId};
use mesh_core::keys::SessionId;
use mesh_core::message::RequestId;
use mesh_core::packet::{FrameKind, PacketId, PacketView, Preamble, units_of};
use mesh_core::time::{Instant, Now, UnixMillis};
use mesh_core::verifier::BitcoinNetwork;

use crate::faults::{LinkSpec, Plan, Plans, Stage};
use crate::lightning::{Lightning, Outcome};
use crate::node::{CrashPoint, CrashWhen, Dropped, NodeIndex, NodeSpec, SimNode};
use crate::random::Random;
use crate::verifier::MemoisingVerifier;

/// Virtual time starts here: some day in 2027, so that invoices and clocks look like real ones.
const EPOCH: UnixMillis = UnixMillis(1_800_000_000_000);

/// How long after a link broke its ends notice.
const LINK_NOTICE: Duration = Duration::from_millis(50);

/// What may be written soon is written within this time.
const WRITTEN_SOON_MICROS: u64 = 50_000;

/// What a command came to.
pub type CommandOutcome = Result<Answer, Box<Refusal>>;

/// Changes what passes in one direction of a link: what comes out is sent on instead of what went in.
pub type Tamper = Box<dyn FnMut(Stage, &Bytes) -> Vec<Bytes>>;

enum Happening {
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
}

struct Direction {
    spec: LinkSpec,
    tamper: Option<Tamper>,
}

/// What the audit needs to know about a session.
#[derive(Default)]
pub(crate) struct SessionNotes {
    pub(crate) prices: BTreeMap<NodeId, u64>,
}

/// A network of nodes.
pub struct Simulation {
    seed: u64,
    random: Random,
    now: u64,
    next_happening: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub(crate) nodes: Vec<SimNode>,
    directions: BTreeMap<(NodeIndex, NodeIndex), Direction>,
    cut: BTreeSet<(NodeIndex, NodeIndex)>,
    plans: Plans,
    next_link: u64,
    signatures: Arc<MemoisingVerifier>,
    /// Everybody's wallets.
    pub lightning: Lightning,

    next_command: u64,
    answers: BTreeMap<CommandId, CommandOutcome>,
    unanswered: BTreeMap<CommandId, NodeIndex>,
    quoted: BTreeMap<RequestId, QuotedSlice>,
    opening: BTreeMap<CommandId, RequestId>,
    sending: BTreeMap<CommandId, (String, Bytes)>,
    pub(crate) sent: BTreeMap<PacketId, (String, Bytes)>,
    pub(crate) sessions: BTreeMap<SessionId, SessionNotes>,
    pub(crate) own_sessions: BTreeSet<(NodeIndex, SessionId)>,
    pub(crate) carried_units: BTreeMap<(NodeIndex, SessionId), u64>,
    hash: blake3::Hasher,
}

/// Making the world.
impl Simulation {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            now: 0,
            next_happening: 0,
            queue: BTreeMap::new(),
            nodes: Vec::new(),
            directions: BTreeMap::new(),
            cut: BTreeSet::new(),
            plans: Plans::default(),
            next_link: 0,
            signatures: Arc::default(),
            lightning: Lightning::new(),
            next_command: 0,
            answers: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            quoted: BTreeMap::new(),
            opening: BTreeMap::new(),
            sending: BTreeMap::new(),
            sent: BTreeMap::new(),
            sessions: BTreeMap::new(),
            own_sessions: BTreeSet::new(),
            carried_units: BTreeMap::new(),
            hash: blake3::Hasher::new(),
        }
    }

    /// Adds an honest node and starts it.
    pub fn add_node(&mut self, spec: NodeSpec) -> NodeIndex {
        let node = self.add(spec, false);
        self.start(node);
        node
    }

    /// Adds a villain: a name and a wallet, but no core. It sends what it is told ([`Simulation::inject`]) and keeps
    /// what it receives ([`Simulation::inbox`]).
    pub fn add_villain(&mut self) -> NodeIndex {
        self.add(NodeSpec::paid(0), true)
    }

    fn add(&mut self, spec: NodeSpec, is_villain: bool) -> NodeIndex {
        let node = NodeIndex(self.nodes.len());
        let secret = self.secret_of(node, "identity", 0);
        let wallet = self.secret_of(node, "wallet", 0);
        let lightning_key = spec
            .payable
            .then(|| self.lightning.open_wallet(node, wallet, spec.balance_msat));
        self.nodes.push(SimNode {
            id: identity(secret).node_id(),
            secret,
            spec,
            lightning_key,
            core: None,
            is_villain,
            life: 0,
            disk: Vec::new(),
            soon: Vec::new(),
            crash: None,
            wake: None,
            links: BTreeMap::new(),
            inbox: Vec::new(),
            dropped: Vec::new(),
            events: Vec::new(),
            deliveries: Vec::new(),
        });
        node
    }

    fn secret_of(&self, node: NodeIndex, purpose: &str, life: u64) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("mesh-sim secrets");
        hasher
            .update(&self.seed.to_be_bytes())
            .update(&(node.0 as u64).to_be_bytes());
        hasher.update(&life.to_be_bytes()).update(purpose.as_bytes());
        *hasher.finalize().as_bytes()
    }

    #[allow(clippy::panic)] // a disk that the core itself wrote and cannot read is a bug of the core
    fn start(&mut self, node: NodeIndex) {
        let now = self.now();
        let life = self.nodes[node.0].life;
        let (seed, account_secret) = (
            self.secret_of(node, "seed", life),
            self.secret_of(node, "account", 0),
        );
        let state = &mut self.nodes[node.0];
        let config = CoreConfig {
            mode: state.spec.mode,
            price_msat_per_unit: state.spec.price_msat,
            network: BitcoinNetwork::Regtest,
            lightning_key: state.lightning_key,
            operator: None,
            free_bytes_per_second: state.spec.free_bytes_per_second,
            account_secret,
            seed,
        };
        let mut core = Core::new(config, identity(state.secret), self.signatures.clone(), now);
        if let Err(reason) = core.restore(state.disk.iter().cloned(), now) {
            panic!("node {} cannot read what it wrote down: {reason}", node.0);
        }
        state.core = Some(core);
        self.after_input(node);
    }

    /// Connects two nodes; both directions are alike until [`Simulation::link_mut`] changes one.
    pub fn connect(&mut self, a: NodeIndex, b: NodeIndex, spec: LinkSpec) {
        for direction in [(a, b), (b, a)] {
            let spec = spec.clone();
            self.directions
                .insert(direction, Direction { spec, tamper: None });
        }
        self.link_up(a, b);
    }

    /// One direction of a link, to change how it behaves from now on.
    ///
    /// # Panics
    /// When the two are not connected.
    pub fn link_mut(&mut self, from: NodeIndex, to: NodeIndex) -> &mut LinkSpec {
        &mut self.direction(from, to).spec
    }

    /// All directions of all links.
    pub fn directions(&self) -> Vec<(NodeIndex, NodeIndex)> {
        self.directions.keys().copied().collect()
    }

    /// Puts a villain on one direction of a link: a relay that alters, holds back or makes up what passes.
    ///
    /// # Panics
    /// When the two are not connected.
    pub fn tamper(&mut self, from: NodeIndex, to: NodeIndex, tamper: Tamper) {
        self.direction(from, to).tamper = Some(tamper);
    }

    #[allow(clippy::expect_used)] // documented at the callers
    fn direction(&mut self, from: NodeIndex, to: NodeIndex) -> &mut Direction {
        self.directions
            .get_mut(&(from, to))
            .expect("the nodes are connected")
    }

    /// Plans a fault.
    pub fn plan(&mut self, plan: Plan) {
        self.plans.add(plan);
    }

    /// Breaks a link; both ends notice a moment later. What is under way on it is lost.
    pub fn cut(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cut.extend([(a, b), (b, a)]);
        self.link_down(a, b);
    }

    /// Mends a link.
    pub fn heal(&mut self, a: NodeIndex, b: NodeIndex) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
        self.link_up(a, b);
    }

    fn link_up(&mut self, a: NodeIndex, b: NodeIndex) {
        let connected = self.directions.contains_key(&(a, b)) && !self.cut.contains(&(a, b));
        if !connected || !self.nodes[a.0].is_up() || !self.nodes[b.0].is_up() {
            return;
        }
        self.link_down(a, b);
        self.next_link += 1;
        let link = LinkId(self.next_link);
        for (node, peer) in [(a, b), (b, a)] {
            self.nodes[node.0].links.insert(peer, link);
            self.schedule(LINK_NOTICE, Happening::LinkUp { node, peer, link });
        }
    }

    fn link_down(&mut self, a: NodeIndex, b: NodeIndex) {
        for (node, peer) in [(a, b), (b, a)] {
            if let Some(link) = self.nodes[node.0].links.remove(&peer) {
                self.schedule(LINK_NOTICE, Happening::LinkDown { node, link });
            }
        }
    }

    /// Kills a node as kill -9 does: it keeps what it wrote down.
    pub fn kill(&mut self, node: NodeIndex) {
        let state = &mut self.nodes[node.0];
        state.core = None;
        state.life += 1;
        state.crash = None;
        state.soon.clear();
        if let Some(wake) = state.wake.take() {
            self.queue.remove(&wake);
        }
        let peers: Vec<_> = self.nodes[node.0].links.keys().copied().collect();
        for peer in peers {
            self.link_down(node, peer);
        }
        self.unanswered.retain(|_, asked| *asked != node);
    }

    /// Starts a killed node from what it wrote down; its links come up again.
    pub fn restart(&mut self, node: NodeIndex) {
        self.start(node);
        let peers: Vec<_> = self
            .directions
            .keys()
            .filter(|(from, _)| *from == node)
            .map(|(_, to)| *to)
            .collect();
        for peer in peers {
            self.link_up(node, peer);
        }
    }

    /// Kills the node when it next writes down a record of this kind.
    pub fn crash_at(&mut self, node: NodeIndex, point: CrashPoint, when: impl Fn(&Record) -> bool + 'static) {
        let when: CrashWhen = Box::new(when);
        self.nodes[node.0].crash = Some((point, when));
    }
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

    fn schedule(&mut self, after: Duration, happening: Happening) -> (u64, u64) {
        self.schedule_at(Instant(self.now) + after, happening)
    }

    fn schedule_at(&mut self, at: Instant, happening: Happening) -> (u64, u64) {
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

    fn happen(&mut self, happening: Happening) {
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
        }
    }

    fn receive(&mut self, link: LinkId, from: NodeIndex, to: NodeIndex, frame: Bytes) {
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

/// The core's hands.
impl Simulation {
    fn feed(&mut self, node: NodeIndex, input: Input) {
        let now = self.now();
        if let Some(core) = self.nodes[node.0].core.as_mut() {
            core.handle(now, input);
            self.after_input(node);
        }
    }

    fn after_input(&mut self, node: NodeIndex) {
        let Some(core) = self.nodes[node.0].core.as_mut() else {
            return;
        };
        let outputs: Vec<Output> = std::iter::from_fn(|| core.poll_output()).collect();
        let timeout = core.next_timeout();
        if let Some(old) = self.nodes[node.0].wake.take() {
            self.queue.remove(&old);
        }
        self.nodes[node.0].wake = timeout.map(|at| self.schedule_at(at, Happening::Wake { node }));
        self.write_and_obey(node, outputs);
    }

    /// The records of one input are one transaction, which takes with it what was to be written soon; what stands
    /// behind the first of them waits for it.
    fn write_and_obey(&mut self, node: NodeIndex, outputs: Vec<Output>) {
        let records: Vec<Record> = outputs.iter().filter_map(record_in).collect();
        let must_wait = outputs.iter().any(|output| matches!(output, Output::Persist(_)));
        let state = &mut self.nodes[node.0];
        let crash = match &state.crash {
            Some((point, when)) if must_wait && records.iter().any(when) => Some(*point),
            _ => None,
        };
        if must_wait && crash != Some(CrashPoint::BeforeWriting) {
            let soon = std::mem::take(&mut state.soon);
            state.disk.extend(soon.into_iter().chain(records));
        } else if !records.is_empty() {
            state.soon.extend(records);
            let life = state.life;
            let after = Duration::from_micros(self.random.below(WRITTEN_SOON_MICROS));
            self.schedule(after, Happening::Write { node, life });
        }
        for output in outputs {
            if crash.is_some() && matches!(output, Output::Persist(_)) {
                return self.kill(node);
            }
            self.obey(node, output);
        }
    }

    fn obey(&mut self, node: NodeIndex, output: Output) {
        match output {
            Output::Persist(record) | Output::PersistSoon(record) => self.note(&record),
            Output::Transmit { link, frame, .. } | Output::Forward { link, frame } => {
                self.transmit(node, link, frame);
            }
            Output::Deliver(delivery) => {
                self.note(&delivery);
                let units = units_of(1 + delivery.protocol_id.len() + delivery.payload.len());
                *self.carried_units.entry((node, delivery.session)).or_default() += units;
                self.nodes[node.0].deliveries.push(*delivery);
            }
            Output::AskWallet { ticket, question } => {
                let (life, asked) = (self.nodes[node.0].life, self.now().unix);
                let after = self.lightning.delay(&question);
                self.schedule(
                    after,
                    Happening::Wallet {
                        node,
                        life,
                        ticket,
                        question,
                        asked,
                    },
                );
            }
            Output::Answer { id, answer } => self.note_answer(node, id, answer),
            Output::Event(event) => {
                self.note(&event);
                self.nodes[node.0].events.push(*event);
            }
            Output::Dropped { reason, link } => {
                self.note(&reason);
                let links = &self.nodes[node.0].links;
                let from = links
                    .iter()
                    .find(|(_, id)| Some(**id) == link)
                    .map(|(peer, _)| *peer);
                let at = self.now().unix;
                self.nodes[node.0].dropped.push(Dropped { at, reason, from });
            }
        }
    }

    fn transmit(&mut self, node: NodeIndex, link: LinkId, frame: Bytes) {
        let peer = self.nodes[node.0]
            .links
            .iter()
            .find(|(_, id)| **id == link)
            .map(|(peer, _)| *peer);
        if let Ok(view) = PacketView::parse(&frame)
            && view.kind == FrameKind::Data
            && !self.own_sessions.contains(&(node, view.session))
        {
            *self.carried_units.entry((node, view.session)).or_default() += view.units();
        }
        // A frame for a link that just broke is lost with it.
        if let Some(peer) = peer {
            self.put_on_link(node, peer, frame);
        }
    }

    fn put_on_link(&mut self, from: NodeIndex, to: NodeIndex, frame: Bytes) {
        let Some(link) = self.nodes[from.0].links.get(&to).copied() else {
            return;
        };
        let Some(direction) = self.directions.get_mut(&(from, to)) else {
            return;
        };
        let frames = match &mut direction.tamper {
            Some(tamper) => tamper(Stage::of(&frame), &frame),
            None => vec![frame],
        };
        for frame in frames {
            let stage = Stage::of(&frame);
            let arrivals = match self.directions.get(&(from, to)) {
                Some(direction) => direction.spec.arrivals(stage, &mut self.random),
                None => return,
            };
            for after in self.plans.apply(stage, from, to, arrivals) {
                let frame = frame.clone();
                self.schedule(
                    after,
                    Happening::Frame {
                        link,
                        from,
                        to,
                        frame,
                    },
                );
            }
        }
    }

    /// Sends a frame from a node over its own link, whatever the node itself would say to that.
    pub fn inject(&mut self, from: NodeIndex, to: NodeIndex, frame: Bytes) {
        self.put_on_link(from, to, frame);
    }
}

/// Commands, and what is known of the nodes.
impl Simulation {
    /// Gives a node a command.
    pub fn command(&mut self, node: NodeIndex, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        match &command {
            Command::Open { quotes, .. } => {
                self.opening.insert(id, *quotes);
            }
            Command::Send {
                protocol_id, payload, ..
            } => {
                self.sending.insert(id, (protocol_id.clone(), payload.clone()));
            }
            _ => {}
        }
        if self.nodes[node.0].core.is_some() {
            self.unanswered.insert(id, node);
        }
        self.feed(node, Input::Command { id, command });
        id
    }

    #[allow(clippy::panic)] // the core broke its contract
    fn note_answer(&mut self, node: NodeIndex, id: CommandId, answer: CommandOutcome) {
        self.note(&answer);
        match &answer {
            Ok(Answer::Quoted(slice)) => {
                self.quoted.insert(slice.id, (**slice).clone());
            }
            Ok(Answer::Opened(opened)) => {
                let slice = self.opening.get(&id).and_then(|quotes| self.quoted.get(quotes));
                let payees = slice.map(|slice| slice.payees.as_slice()).unwrap_or_default();
                let prices = payees
                    .iter()
                    .map(|payee| (payee.payee, payee.price_msat))
                    .collect();
                self.note_session(node, opened.session, prices);
            }
            Ok(Answer::Sent { packet_id, .. }) => {
                if let Some(what) = self.sending.remove(&id) {
                    self.sent.insert(*packet_id, what);
                }
            }
            _ => {}
        }
        if self.unanswered.remove(&id).is_none() || self.answers.insert(id, answer).is_some() {
            panic!("command {id:?} was answered twice");
        }
    }

    /// Tells the audit what a session draws per unit at each payee; sessions opened by command are known already.
    pub fn note_session(&mut self, source: NodeIndex, session: SessionId, prices: BTreeMap<NodeId, u64>) {
        self.own_sessions.insert((source, session));
        self.sessions.insert(session, SessionNotes { prices });
    }

    /// What a command came to, once.
    pub fn take_answer(&mut self, id: CommandId) -> Option<CommandOutcome> {
        self.answers.remove(&id)
    }

    /// Whether a command has been answered.
    pub fn is_answered(&self, id: CommandId) -> bool {
        self.answers.contains_key(&id)
    }

    /// Commands that running nodes have not answered yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// A node's own account of itself; none while it is down.
    pub fn status(&mut self, node: NodeIndex) -> Option<Status> {
        let id = self.command(node, Command::Status);
        match self.take_answer(id) {
            Some(Ok(Answer::Status(status))) => Some(*status),
            _ => None,
        }
    }

    /// A node's id.
    pub fn id(&self, node: NodeIndex) -> NodeId {
        self.nodes[node.0].id
    }

    /// A node's secret name, for villains who have one.
    pub fn identity(&self, node: NodeIndex) -> Identity {
        identity(self.nodes[node.0].secret)
    }

    /// All nodes, villains included.
    pub fn all_nodes(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..self.nodes.len()).map(NodeIndex)
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: NodeIndex) -> bool {
        self.nodes[node.0].is_up()
    }

    /// What arrived at a node, over all its lives.
    pub fn deliveries(&self, node: NodeIndex) -> &[Delivery] {
        &self.nodes[node.0].deliveries
    }

    /// What a node announced, over all its lives.
    pub fn events(&self, node: NodeIndex) -> &[Event] {
        &self.nodes[node.0].events
    }

    /// What a node refused, over all its lives.
    pub fn dropped(&self, node: NodeIndex) -> &[Dropped] {
        &self.nodes[node.0].dropped
    }

    /// How often a node refused something for this reason.
    pub fn drops(&self, node: NodeIndex, reason: DropReason) -> usize {
        self.nodes[node.0]
            .dropped
            .iter()
            .filter(|dropped| dropped.reason == reason)
            .count()
    }

    /// What a node wrote down, oldest first.
    pub fn disk(&self, node: NodeIndex) -> &[Record] {
        &self.nodes[node.0].disk
    }

    /// Takes what a villain received, oldest first.
    pub fn inbox(&mut self, villain: NodeIndex) -> Vec<(NodeIndex, Bytes)> {
        std::mem::take(&mut self.nodes[villain.0].inbox)
    }

    /// How many frames wait in a villain's inbox.
    pub fn heard(&self, villain: NodeIndex) -> usize {
        self.nodes[villain.0].inbox.len()
    }

    /// The checker of signatures that all nodes share.
    pub fn signatures(&self) -> Arc<MemoisingVerifier> {
        self.signatures.clone()
    }

    /// A hash over everything that happened so far, in its order.
    pub fn event_hash(&self) -> [u8; 32] {
        *self.hash.finalize().as_bytes()
    }

    fn note(&mut self, what: &impl std::fmt::Debug) {
        self.hash.update(format!("{what:?}").as_bytes());
    }
}

fn record_in(output: &Output) -> Option<Record> {
    match output {
        Output::Persist(record) | Output::PersistSoon(record) => Some((**record).clone()),
        _ => None,
    }
}

#[allow(clippy::expect_used)] // Ed25519 takes any 32 bytes as a seed
fn identity(secret: [u8; 32]) -> Identity {
    Identity::from_seed(secret).expect("any 32 bytes are a seed")
}
