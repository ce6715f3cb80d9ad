//! The one loop: owns the core, feeds it what happens, obeys what it says.
//!
//! ```text
//!  links ─┐                                   ┌─► links (one batch per link and turn)
//!  checks ─┤      ┌──────┐   outputs, in order ├─► readers of deliveries, events, answers
//!  wallet ─┼─────►│ core │────────────────────┼─► wallet tasks
//!  commands┤      └──────┘                     └─► store ─► (durable) ─► what had to wait for it
//!  time ───┘
//! ```
//! Everything that comes in is taken from bounded queues, and when the disk is behind nothing new is taken at all, so
//! memory is bounded by what the queues hold. Packets of open sessions go out at once; whatever follows a record waits
//! until the record is durable.

mod outgoing;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mesh_core::bucket::TokenBucket;
use mesh_core::core::Core;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Channel, CommandId, Event, Input, LinkId, Output, Record, Refusal};
use mesh_core::limits::{CONTROL_BURST, CONTROL_MESSAGES_PER_SECOND, MAX_PENDING_COMMANDS};
use mesh_core::packet::{FrameKind, Preamble};
use mesh_core::routing::snapshot::RouteSnapshot;
use mesh_core::time::{Instant, Now};
use mesh_net::{Carrier, LinkEvent, LinkSender, Transport};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::chain::ChainSource;
use crate::clock::Clock;
use crate::handle::{CommandInbox, Readers};
use crate::store::Store;
use crate::treasury::Treasury;
use crate::wallet::Wallet;
use crate::workers::Checker;

/// Outputs that may wait for the disk before nothing new is taken in.
const MAX_HELD: usize = 65_536;

/// Records that may wait for the disk before nothing new is taken in: leases are written behind the packets they cover,
/// so with a disk that refuses they would pile up as long as packets are paid for.
const MAX_UNWRITTEN: usize = 65_536;

/// Frames no neighbour may send that one link is forgiven at once: software that is merely newer stays below.
const MISBEHAVIOUR_BURST: u64 = 32;

/// Such frames forgiven per second, so that an old mistake does not end a link that stands for months.
const MISBEHAVIOUR_FORGIVEN_PER_SECOND: u64 = 1;

/// How long changed routes wait for company before readers see them: publishing copies a few pages of the table.
const ROUTES_WAIT: Duration = Duration::from_millis(5);

/// Commands taken in one turn: senders of many packets are served a batch at a time, so that their packets leave as one.
const COMMANDS_PER_TURN: usize = 64;

/// Link events taken in one turn before the outgoing batches are handed over: enough to fill batches under load, few
/// enough that a packet waits no longer than it takes to decide a few hundred others.
const EVENTS_PER_TURN: usize = 16;

/// The parts a manager is made of.
pub(crate) struct ManagerParts {
    pub(crate) core: Core,
    pub(crate) clock: Clock,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) link_events: mpsc::Receiver<LinkEvent>,
    pub(crate) commands: mpsc::Receiver<CommandInbox>,
    pub(crate) readers: Arc<std::sync::Mutex<Readers>>,
    pub(crate) routes: Arc<ArcSwap<RouteSnapshot>>,
    pub(crate) generations: watch::Sender<u64>,
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    pub(crate) wallet: Arc<dyn Wallet>,
    pub(crate) chain: Option<Arc<dyn ChainSource>>,
    pub(crate) treasury: Option<Treasury>,
    pub(crate) store: Store,
    pub(crate) safe: watch::Receiver<u64>,
    pub(crate) stop: oneshot::Receiver<()>,
}

struct Link {
    sender: LinkSender,
    control_budget: TokenBucket,
    misbehaviour: TokenBucket,
    /// The link is being closed for misbehaviour: what is still in flight on it is not looked at.
    condemned: bool,
    data: Vec<Bytes>,
    data_bytes: usize,
    control: Vec<Bytes>,
}

impl Link {
    /// A full queue is counted by the link; its Down comes if it is gone. The packets in the batch are lost, as packets
    /// may be.
    fn hand_over(&mut self) {
        self.data_bytes = 0;
        for refused in [
            self.sender.try_send_control(std::mem::take(&mut self.control)),
            self.sender.try_send_data(std::mem::take(&mut self.data)),
        ] {
            if let Err(error) = refused {
                tracing::debug!(%error, "not sent");
            }
        }
    }
}

enum Held {
    Output(Output),
    /// Everything behind waits until this many records are durable.
    Until(u64),
}

/// Owns the core and runs the loop.
pub(crate) struct MeshManager {
    core: Core,
    clock: Clock,
    transport: Arc<dyn Transport>,
    links: HashMap<LinkId, Link>,
    touched: Vec<LinkId>,
    replies: BTreeMap<CommandId, oneshot::Sender<Result<Answer, Box<Refusal>>>>,
    next_command: u64,
    readers: Arc<std::sync::Mutex<Readers>>,
    routes: Arc<ArcSwap<RouteSnapshot>>,
    /// Counts what readers of the routes were shown.
    generations: watch::Sender<u64>,
    /// When changed routes are to be published; none while nothing changed.
    publish_at: Option<Instant>,
    events: broadcast::Sender<Arc<Event>>,
    wallet: Arc<dyn Wallet>,
    chain: Option<Arc<dyn ChainSource>>,
    treasury: Option<Treasury>,
    checker: Checker,
    inputs: mpsc::Sender<Input>,
    tasks: JoinSet<()>,

    store: Store,
    unwritten: Vec<Record>,
    /// When they are to be written; at once if something waits for them.
    write_at: Instant,
    submitted: u64,
    durable: u64,
    commit_under_way: bool,
    committed: mpsc::Sender<()>,
    held: VecDeque<Held>,

    /// How many deliveries to modules are safe.
    safe: watch::Receiver<u64>,
    /// Receipts that wait until so many are.
    receipts: VecDeque<(u64, LinkId, Bytes)>,
}

/// What woke the loop.
enum Woken {
    Link(LinkEvent),
    Input(Input),
    Command(CommandInbox),
    Committed,
    /// More of what was delivered is safe.
    Safe,
    Timeout,
    Stop,
}

impl MeshManager {
    /// Runs the loop until it is told to stop or its links are gone; flushes what is not yet durable.
    pub(crate) async fn run(parts: ManagerParts) {
        let ManagerParts {
            core,
            clock,
            transport,
            link_events,
            commands,
            readers,
            routes,
            generations,
            events,
            wallet,
            chain,
            treasury,
            store,
            safe,
            stop,
        } = parts;
        let (inputs, inputs_out) = mpsc::channel(1024);
        let (committed, committed_out) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        let checker = Checker::start(core.node_id(), inputs.clone(), &mut tasks);
        let manager = Self {
            core,
            clock,
            transport,
            links: HashMap::new(),
            touched: Vec::new(),
            replies: BTreeMap::new(),
            next_command: 0,
            readers,
            routes,
            generations,
            publish_at: None,
            events,
            wallet,
            chain,
            treasury,
            checker,
            inputs,
            tasks,
            store,
            unwritten: Vec::new(),
            write_at: Instant(0),
            submitted: 0,
            durable: 0,
            commit_under_way: false,
            committed,
            held: VecDeque::new(),
            safe: safe.clone(),
            receipts: VecDeque::new(),
        };
        let sources = Sources {
            link_events,
            inputs: inputs_out,
            commands,
            committed: committed_out,
            safe,
            stop,
        };
        manager.turn_until_stopped(sources).await;
    }

    async fn turn_until_stopped(mut self, mut sources: Sources) {
        loop {
            let deadline = self.next_deadline();
            let open = self.held.len() < MAX_HELD && self.unwritten.len() < MAX_UNWRITTEN;
            let room = self.replies.len() < MAX_PENDING_COMMANDS;
            let held_back = !self.receipts.is_empty();
            let woken = sources.next(deadline, open, room, held_back).await;
            match woken {
                Woken::Stop => break,
                Woken::Link(event) => {
                    self.on_link_event(event);
                    for _ in 1..EVENTS_PER_TURN {
                        let Ok(event) = sources.link_events.try_recv() else {
                            break;
                        };
                        self.on_link_event(event);
                    }
                    // A neighbour that never pauses must not keep this node's own people from being heard.
                    if room {
                        self.take_commands(&mut sources.commands);
                    }
                }
                Woken::Input(input) => self.feed(input),
                Woken::Command(inbox) => {
                    self.on_command(inbox);
                    self.take_commands(&mut sources.commands);
                }
                Woken::Committed => {
                    self.on_committed();
                    self.feed(Input::Durable {
                        records: self.durable,
                    });
                }
                Woken::Safe => self.send_receipts(),
                Woken::Timeout => self.feed(Input::Timeout),
            }
            while self.tasks.try_join_next().is_some() {}
            self.hand_over_batches();
            self.publish_routes();
            self.write();
        }
        self.stop(sources).await;
    }

    /// When the loop is to turn though nothing comes in: the core's next timer, or leases that waited long enough. The
    /// core is then fed a timeout in either case; one that comes early changes nothing.
    fn next_deadline(&self) -> Option<tokio::time::Instant> {
        let write_at = (!self.unwritten.is_empty() && !self.commit_under_way).then_some(self.write_at);
        let timeout = self.core.next_timeout();
        let next = timeout.into_iter().chain(write_at).chain(self.publish_at).min();
        next.map(|instant| self.clock.deadline(instant))
    }

    /// Shows readers the routes as they are, at most every [`ROUTES_WAIT`].
    fn publish_routes(&mut self) {
        if !self.core.routes_changed() {
            return;
        }
        let now = self.clock.now().instant;
        if *self.publish_at.get_or_insert(now + ROUTES_WAIT) > now {
            return;
        }
        self.publish_at = None;
        if let Some(snapshot) = self.core.publish_routes() {
            self.routes.store(Arc::new(snapshot));
            self.generations.send_modify(|generation| *generation += 1);
        }
    }

    fn take_commands(&mut self, commands: &mut mpsc::Receiver<CommandInbox>) {
        for _ in 1..COMMANDS_PER_TURN {
            let Ok(inbox) = commands.try_recv() else {
                break;
            };
            self.on_command(inbox);
        }
    }

    /// An orderly stop: links say goodbye, then what only leases cover is written down.
    async fn stop(mut self, sources: Sources) {
        drop(sources.link_events);
        self.transport.shutdown().await;
        let now = self.clock.now();
        self.core.flush(now);
        self.drain(now);
        self.tasks.shutdown().await;
        let Self {
            store,
            unwritten,
            mut clock,
            ..
        } = self;
        // Dropping the store waits for the writer, which may wait for a disk: off the runtime's threads.
        let last_write = tokio::task::spawn_blocking(move || {
            // At most one batch is under way, so there is room for this one.
            if let Err(error) = store.submit(unwritten, clock.now().unix, || {}) {
                tracing::error!(%error, "the last records were not written");
            }
            drop(store);
        });
        if last_write.await.is_err() {
            tracing::error!(
                "the last records could not be written; leases not written back are this node's loss"
            );
        }
    }
}

struct Sources {
    link_events: mpsc::Receiver<LinkEvent>,
    inputs: mpsc::Receiver<Input>,
    commands: mpsc::Receiver<CommandInbox>,
    committed: mpsc::Receiver<()>,
    safe: watch::Receiver<u64>,
    stop: oneshot::Receiver<()>,
}

impl Sources {
    async fn next(
        &mut self,
        deadline: Option<tokio::time::Instant>,
        open: bool,
        room: bool,
        held_back: bool,
    ) -> Woken {
        let far = tokio::time::Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            biased;
            _ = &mut self.stop => Woken::Stop,
            Some(()) = self.committed.recv() => Woken::Committed,
            // Unless receipts wait for it the loop need not know.
            Ok(()) = self.safe.changed(), if held_back => Woken::Safe,
            () = tokio::time::sleep_until(deadline.unwrap_or(far)) => Woken::Timeout,
            Some(input) = self.inputs.recv(), if open => Woken::Input(input),
            event = self.link_events.recv(), if open => event.map_or(Woken::Stop, Woken::Link),
            Some(inbox) = self.commands.recv(), if open && room => Woken::Command(inbox),
        }
    }
}

/// What comes in.
impl MeshManager {
    fn on_link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up {
                link,
                peer,
                sender,
                address,
                carrier,
                ..
            } => {
                let now = self.clock.now();
                tracing::info!(peer = %peer.short(), %address, "link up");
                let control_budget =
                    TokenBucket::new(CONTROL_MESSAGES_PER_SECOND, CONTROL_BURST, now.instant);
                let misbehaviour =
                    TokenBucket::new(MISBEHAVIOUR_FORGIVEN_PER_SECOND, MISBEHAVIOUR_BURST, now.instant);
                self.links.insert(
                    link,
                    Link {
                        sender,
                        control_budget,
                        misbehaviour,
                        condemned: false,
                        data: Vec::new(),
                        data_bytes: 0,
                        control: Vec::new(),
                    },
                );
                self.feed(Input::LinkUp { link, peer });
                // Where a carried link leads is only said.
                if carrier == Carrier::Direct {
                    let address = address.ip();
                    self.feed(Input::Reached { link, address });
                }
            }
            LinkEvent::Down { link, peer, reason } => {
                tracing::info!(peer = %peer.short(), reason = reason.as_str(), "link down");
                self.links.remove(&link);
                self.feed(Input::LinkDown { link });
            }
            LinkEvent::Frames {
                link,
                channel,
                frames,
            } => {
                if self.links.get(&link).is_none_or(|state| state.condemned) {
                    return;
                }
                let now = self.clock.now();
                for frame in frames {
                    self.on_frame(now, link, channel, frame);
                }
            }
        }
    }

    fn on_frame(&mut self, now: Now, link: LinkId, channel: Channel, frame: Bytes) {
        let input = match (Preamble::parse(&frame).map(|preamble| preamble.kind), channel) {
            (Ok(FrameKind::Data | FrameKind::Back), Channel::Data) => Input::Frame { link, frame },
            // An open may wait for the wallet, and a slice would keep the whole buffer that the link read it into.
            (Ok(FrameKind::Open | FrameKind::HopError), Channel::Control) => Input::Frame {
                link,
                frame: Bytes::copy_from_slice(&frame),
            },
            (Ok(FrameKind::Control), Channel::Control) => match self.submit_check(now, link, frame) {
                Ok(()) => return,
                Err(reason) => Input::Rejected { link, reason },
            },
            // A packet on the control connection would delay control messages: that is what there are two for.
            (Ok(_), _) => Input::Rejected {
                link,
                reason: DropReason::Malformed,
            },
            (Err(reason), _) => Input::Rejected { link, reason },
        };
        self.feed_at(now, input);
    }

    /// Signature checks are dear, so a flooding neighbour is stopped before them.
    fn submit_check(&mut self, now: Now, link: LinkId, frame: Bytes) -> Result<(), DropReason> {
        let state = self.links.get_mut(&link).ok_or(DropReason::Unsolicited)?;
        if !state.control_budget.take(1, now.instant) {
            return Err(DropReason::RateLimited);
        }
        self.checker.submit(link, &frame)
    }

    fn on_command(&mut self, inbox: CommandInbox) {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        self.replies.insert(id, inbox.reply);
        self.feed(Input::Command {
            id,
            command: inbox.command,
        });
    }

    fn feed(&mut self, input: Input) {
        let now = self.clock.now();
        self.feed_at(now, input);
    }

    fn feed_at(&mut self, now: Now, input: Input) {
        self.core.handle(now, input);
        self.drain(now);
    }
}
