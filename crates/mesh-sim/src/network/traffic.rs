//! Packets between honest nodes, sent as a user sends them: find routes, open a session over the first of them, send, and
//! start over when it breaks. Which route comes first is the core's affair, and so is noticing that one fell silent.
//!
//! A packet counts when it was wanted at a moment at which a way of at most ten honest, live nodes existed; it is delivered
//! when it arrives, however late. Packets wait for a session, but not for ever.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use mesh_core::event::{
    Answer, Buying, Command, CommandId, Delivery, Event, Funding, QuotedSlice, RouteInfo,
};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::{DISCOVERY_TIMEOUT, MAX_HOPS};
use mesh_core::routing_policy::TrafficClass;
use serde::Serialize;

use super::oracle::UNREACHABLE;
use super::scenario::{TrafficSettings, draw};
use super::{Happening, Network};
use crate::random::Random;
use crate::simulation::CommandOutcome;

/// How long a user waits after a failure before trying again.
const PAUSE: Duration = Duration::from_millis(500);

/// Packets of one pair that wait for a session; older ones are given up.
const MAX_WAITING: usize = 64;

/// How long a packet may take.
const TIME_TO_LIVE: Duration = Duration::from_secs(10);

/// How many units a session is opened for: more than it will carry.
const UNITS: u64 = 1_000_000;

/// Packets of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TrafficReport {
    /// Packets that were wanted while an honest way existed.
    pub sent: u64,
    /// Of those, how many arrived.
    pub delivered: u64,
    /// The same in parts per million; a million when none were wanted.
    pub delivery_ppm: u32,
    /// Of the packets that went out over a session, those whose route had a villain in it, in parts per million.
    pub villains_share_ppm: u32,
    /// Sessions opened.
    pub opened: u64,
}

impl TrafficReport {
    pub(super) fn to_text(self) -> String {
        format!(
            "{} of {} packets arrive, {} ppm over villains, {} sessions",
            self.delivered, self.sent, self.villains_share_ppm, self.opened
        )
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    sent: u64,
    delivered: u64,
    over_sessions: u64,
    over_villains: u64,
    opened: u64,
}

/// What a pair is at.
enum Stage {
    /// Tries at this moment.
    Waits(u64),
    /// Asked its node for something.
    Asked,
    /// Has something to ask next.
    Asks(Box<Command>),
    /// Has a session, and whether its route has a villain in it.
    Sends { session: SessionId, over_villain: bool },
}

struct Pair {
    source: usize,
    destination: usize,
    stage: Stage,
    next_packet: u64,
    waiting: VecDeque<u64>,
    /// Packets that count and have not arrived, with the phase they were wanted in.
    under_way: BTreeMap<u64, usize>,
    honest_way: bool,
}

/// All pairs.
pub(super) struct Traffic {
    pairs: Vec<Pair>,
    asked: BTreeMap<CommandId, usize>,
    villains: Vec<bool>,
    interval: Duration,
    running: bool,
    phase: usize,
    counted: Vec<Counted>,
    /// The state of the links when honest ways were last looked for.
    looked_at: Option<u64>,
}

impl Traffic {
    /// Draws the pairs: destinations from `destinations`, nobody a villain.
    pub(super) fn new(
        settings: TrafficSettings,
        nodes: usize,
        destinations: &[u32],
        villains: &[usize],
        seed: u64,
    ) -> Self {
        let mut random = Random::new(seed ^ 0x7af1c);
        let mut is_villain = vec![false; nodes];
        for villain in villains {
            is_villain[*villain] = true;
        }
        let honest: Vec<usize> = destinations
            .iter()
            .map(|node| *node as usize)
            .filter(|node| !is_villain[*node])
            .collect();
        let sources: Vec<usize> = draw(nodes, &mut random)
            .filter(|node| !is_villain[*node])
            .collect();
        let mut pairs = Vec::new();
        for source in sources.into_iter().cycle().take(settings.pairs) {
            let destination = honest[random.below(honest.len() as u64) as usize];
            if source != destination {
                pairs.push(Pair::new(source, destination));
            }
        }
        Self {
            pairs,
            asked: BTreeMap::new(),
            villains: is_villain,
            interval: Duration::from_micros(1_000_000 / settings.packets_per_s.max(1)),
            running: false,
            phase: 0,
            counted: Vec::new(),
            looked_at: None,
        }
    }

    pub(super) fn report(&self, phase: usize) -> TrafficReport {
        let counted = self.counted.get(phase).copied().unwrap_or_default();
        let ppm = |part: u64, whole: u64| (part * 1_000_000).checked_div(whole);
        TrafficReport {
            sent: counted.sent,
            delivered: counted.delivered,
            delivery_ppm: ppm(counted.delivered, counted.sent).unwrap_or(1_000_000) as u32,
            villains_share_ppm: ppm(counted.over_villains, counted.over_sessions).unwrap_or(0) as u32,
            opened: counted.opened,
        }
    }

    fn count(&mut self) -> &mut Counted {
        if self.counted.len() <= self.phase {
            self.counted.resize(self.phase + 1, Counted::default());
        }
        &mut self.counted[self.phase]
    }
}

impl Pair {
    fn new(source: usize, destination: usize) -> Self {
        Self {
            source,
            destination,
            stage: Stage::Waits(0),
            next_packet: 0,
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            honest_way: false,
        }
    }
}

impl Network {
    /// From now on packets are wanted, or no more, and count for this phase.
    pub(super) fn set_traffic(&mut self, running: bool, phase: usize) {
        let Some(traffic) = self.traffic.as_mut() else {
            return;
        };
        traffic.phase = phase;
        if running {
            traffic.count();
        }
        if running && !traffic.running {
            let interval = u64::try_from(traffic.interval.as_micros()).unwrap_or(u64::MAX);
            for pair in 0..traffic.pairs.len() {
                let after = Duration::from_micros(self.random.below(interval));
                let pair = pair as u32;
                self.queue
                    .push((self.now() + after).0, Happening::PacketWanted { pair });
            }
        }
        if let Some(traffic) = self.traffic.as_mut() {
            traffic.running = running;
        }
    }

    pub(super) fn packet_wanted(&mut self, pair: usize) {
        self.look_for_honest_ways();
        let Some(traffic) = self.traffic.as_mut().filter(|traffic| traffic.running) else {
            return;
        };
        let (interval, phase) = (traffic.interval, traffic.phase);
        let state = &mut traffic.pairs[pair];
        let packet = state.next_packet;
        state.next_packet += 1;
        state.waiting.push_back(packet);
        if state.waiting.len() > MAX_WAITING {
            state.waiting.pop_front();
        }
        if state.honest_way {
            state.under_way.insert(packet, phase);
            traffic.count().sent += 1;
        }
        let number = pair as u32;
        self.schedule(interval, Happening::PacketWanted { pair: number });
        self.go_on(pair);
    }

    /// A pair does what is next.
    pub(super) fn go_on(&mut self, pair: usize) {
        let now = self.now;
        let Some(traffic) = self.traffic.as_mut() else {
            return;
        };
        let state = &mut traffic.pairs[pair];
        let (source, destination) = (state.source, self.nodes[state.destination].id);
        let command = match &mut state.stage {
            Stage::Asked => return,
            Stage::Waits(until) if *until > now || state.waiting.is_empty() => return,
            Stage::Waits(_) => discover(destination),
            Stage::Asks(command) => (**command).clone(),
            Stage::Sends {
                session,
                over_villain,
            } => {
                let (session, over_villain) = (*session, *over_villain);
                return self.send_waiting(pair, session, over_villain);
            }
        };
        let id = self.next_command_id();
        if let Some(traffic) = self.traffic.as_mut() {
            traffic.pairs[pair].stage = Stage::Asked;
            traffic.asked.insert(id, pair);
        }
        self.give_command(source, id, command);
    }

    fn send_waiting(&mut self, pair: usize, session: SessionId, over_villain: bool) {
        while let Some(traffic) = self.traffic.as_mut() {
            let state = &mut traffic.pairs[pair];
            let still_open = matches!(&state.stage, Stage::Sends { session: open, .. } if *open == session);
            let source = state.source;
            let Some(packet) = state.waiting.front().copied().filter(|_| still_open) else {
                return;
            };
            state.waiting.pop_front();
            let counted = traffic.count();
            counted.over_sessions += 1;
            counted.over_villains += u64::from(over_villain);
            let id = self.next_command_id();
            let command = Command::Send {
                session,
                protocol_id: String::new(),
                payload: payload(pair, packet),
                ttl: TIME_TO_LIVE,
            };
            if let Some(traffic) = self.traffic.as_mut() {
                traffic.asked.insert(id, pair);
            }
            self.give_command(source, id, command);
        }
    }

    /// Whether an answer was for a pair.
    pub(super) fn traffic_answered(&mut self, id: CommandId, answer: &CommandOutcome) -> bool {
        let now = self.now;
        let Some(traffic) = self.traffic.as_mut() else {
            return false;
        };
        let Some(pair) = traffic.asked.remove(&id) else {
            return false;
        };
        let over_villain = |path: &[NodeId]| {
            path.iter().any(|id| {
                let node = self.by_id.get(id);
                node.is_some_and(|node| traffic.villains[*node as usize])
            })
        };
        let next = match answer {
            Ok(Answer::Routes(routes)) => routes.first().map(|route| Stage::Asks(Box::new(quote(route)))),
            Ok(Answer::Quoted(slice)) => Some(Stage::Asks(Box::new(open(slice)))),
            Ok(Answer::Opened(opened)) => {
                let over_villain = over_villain(&opened.path);
                traffic.count().opened += 1;
                Some(Stage::Sends {
                    session: opened.session,
                    over_villain,
                })
            }
            Ok(_) => return true,
            Err(_) => None,
        };
        let state = &mut traffic.pairs[pair];
        let pause = if next.is_some() { Duration::ZERO } else { PAUSE };
        state.stage = next.unwrap_or(Stage::Waits(now + micros(pause)));
        self.schedule(pause, Happening::TrafficGoesOn { pair: pair as u32 });
        true
    }

    /// A session of this node's came to an end, or says that it carries nothing.
    pub(super) fn traffic_heard(&mut self, event: &Event) {
        let broken = match event {
            Event::HopRefused { session, .. }
            | Event::SessionClosed { session }
            | Event::SessionSilent { session, .. } => *session,
            _ => return,
        };
        let Some(traffic) = self.traffic.as_mut() else {
            return;
        };
        let mut pairs = traffic.pairs.iter_mut().enumerate();
        let hit =
            pairs.find(|(_, pair)| matches!(&pair.stage, Stage::Sends { session, .. } if *session == broken));
        if let Some((pair, state)) = hit {
            state.stage = Stage::Waits(self.now);
            let pair = pair as u32;
            self.schedule(Duration::ZERO, Happening::TrafficGoesOn { pair });
        }
    }

    pub(super) fn traffic_delivered(&mut self, delivery: &Delivery) {
        let Some(traffic) = self.traffic.as_mut() else {
            return;
        };
        let Some((pair, packet)) = parse(&delivery.payload) else {
            return;
        };
        let state = traffic.pairs.get_mut(pair);
        if let Some(phase) = state.and_then(|state| state.under_way.remove(&packet))
            && let Some(counted) = traffic.counted.get_mut(phase)
        {
            counted.delivered += 1;
        }
    }

    /// Pairs whose source died start over when it is back; what it had asked is never answered.
    pub(super) fn traffic_lost_node(&mut self, node: usize) {
        let Some(traffic) = self.traffic.as_mut() else {
            return;
        };
        for pair in traffic.pairs.iter_mut().filter(|pair| pair.source == node) {
            pair.stage = Stage::Waits(self.now);
            pair.waiting.clear();
        }
        let pairs = &traffic.pairs;
        traffic.asked.retain(|_, pair| pairs[*pair].source != node);
    }

    /// Looks for ways without villains, when links have come or gone since.
    fn look_for_honest_ways(&mut self) {
        let version = self.links.version;
        let Some(traffic) = &self.traffic else {
            return;
        };
        if traffic.looked_at == Some(version) {
            return;
        }
        let mut directions = Vec::new();
        for (a, b) in self.live_links() {
            if !traffic.villains[a] && !traffic.villains[b] {
                directions.extend([(a as u32, b as u32, 1), (b as u32, a as u32, 1)]);
            }
        }
        let graph = super::oracle::Graph::new(self.nodes.len(), &directions);
        let ways: Vec<bool> = traffic
            .pairs
            .iter()
            .map(|pair| {
                let ends_run = self.is_up(pair.source) && self.is_up(pair.destination);
                ends_run && graph.hops_to(pair.destination)[pair.source] != UNREACHABLE
            })
            .collect();
        if let Some(traffic) = self.traffic.as_mut() {
            traffic.looked_at = Some(version);
            for (pair, way) in traffic.pairs.iter_mut().zip(ways) {
                pair.honest_way = way;
            }
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 2)
}

fn payload(pair: usize, packet: u64) -> Bytes {
    [(pair as u64).to_be_bytes(), packet.to_be_bytes()]
        .concat()
        .into()
}

fn parse(payload: &[u8]) -> Option<(usize, u64)> {
    let (pair, packet) = payload.split_first_chunk()?;
    let packet = u64::from_be_bytes(packet.try_into().ok()?);
    Some((u64::from_be_bytes(*pair) as usize, packet))
}

fn discover(destination: NodeId) -> Command {
    Command::Discover {
        destination,
        max_hops: MAX_HOPS as u8,
        timeout: DISCOVERY_TIMEOUT,
        refresh: false,
    }
}

fn quote(route: &RouteInfo) -> Command {
    Command::Quote {
        path: route.path.clone(),
        class: TrafficClass::Open,
        units: UNITS,
        buying: Buying::WhereNeeded,
        method: Default::default(),
        timeout: DISCOVERY_TIMEOUT,
    }
}

fn open(slice: &QuotedSlice) -> Command {
    Command::Open {
        quotes: slice.id,
        funding: Funding::Wallet {
            proofs: Vec::new(),
            max_total_msat: 0,
            max_fee_msat: 0,
            keep_funded: false,
        },
        sign_as_source: true,
    }
}
