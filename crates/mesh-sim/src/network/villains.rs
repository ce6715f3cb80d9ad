//! Nodes that do not play by the rules. Each has a real core, which keeps it in the network like anybody else; what leaves
//! it is changed on the way out, and it does more than its core asks for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use mesh_core::announcement::{Announcement, Body, Head};
use mesh_core::certificate::DiscoveryMode;
use mesh_core::identity::{Identity, NodeId};
use mesh_core::message::{
    ControlMessage, DiscoveryRequest, Price, RouteCertificate, RoutingUpdate, SeqnoRequest,
};
use mesh_core::routing::Plane;
use mesh_core::routing::update::{Distance, INFINITE, RouteUpdate};
use mesh_core::time::UnixMillis;
use serde::Deserialize;

use super::{Happening, Network};
use crate::random::Random;
use crate::world::identity;

/// What a villain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VillainKind {
    /// Does nothing wrong: what its place alone is worth, to compare others with.
    Behaves,
    /// Says that it is next to everybody.
    LiesAboutMetric,
    /// Carries no packets, and otherwise behaves.
    BlackHole,
    /// Says that it is next to everybody and carries no packets.
    LuringBlackHole,
    /// Tells old announcements and distances instead of what is true now.
    Replays,
    /// Asks and announces as fast as it can.
    Floods,
    /// Its links come and go once a second.
    Flaps,
    /// Says that it is everybody, and answers what is asked of others.
    AnswersForOthers,
}

/// How often a flooder acts.
const FLOOD_EVERY: Duration = Duration::from_millis(20);

/// Messages of each sort that a flooder sends to each neighbour each time: five hundred a second, more than twice what
/// is allowed.
const FLOOD_MESSAGES: usize = 5;

/// Made-up nodes that a flooder announces.
const MADE_UP_NODES: usize = 256;

/// How long a flapper's links are up, and then down.
const FLAP_EVERY: Duration = Duration::from_millis(500);

/// How long a liar's links are down when it begins to lie: when they are back it tells everybody everything anew.
const LIAR_AWAY_MS: u32 = 1000;

/// Nodes whose old announcements and distances a replayer keeps.
const MAX_REPLAYED: usize = 4096;

/// A villain's state.
pub(super) struct Villain {
    kind: VillainKind,
    /// Set while it misbehaves.
    pub(super) at_work: bool,
    identity: Identity,
    random: Random,
    old_heads: BTreeMap<NodeId, Head>,
    old_distances: BTreeMap<NodeId, [Option<Distance>; 2]>,
    made_up: VecDeque<Announcement>,
    links_down: bool,
}

impl Villain {
    pub(super) fn new(kind: VillainKind, secret: [u8; 32], seed: u64) -> Self {
        Self {
            kind,
            at_work: false,
            identity: identity(secret),
            random: Random::new(seed),
            old_heads: BTreeMap::new(),
            old_distances: BTreeMap::new(),
            made_up: VecDeque::new(),
            links_down: false,
        }
    }

    /// Whether it hands packets of others on.
    pub(super) fn carries_packets(&self) -> bool {
        let swallows = matches!(self.kind, VillainKind::BlackHole | VillainKind::LuringBlackHole);
        !(self.at_work && swallows)
    }

    /// What it sends instead of a control frame; none when the frame itself.
    pub(super) fn instead_of(&mut self, frame: &[u8]) -> Option<Bytes> {
        let changes = match self.kind {
            VillainKind::LiesAboutMetric | VillainKind::LuringBlackHole => self.at_work,
            VillainKind::AnswersForOthers => self.at_work,
            // It learns what to replay before it begins.
            VillainKind::Replays => true,
            VillainKind::Behaves | VillainKind::BlackHole | VillainKind::Floods | VillainKind::Flaps => false,
        };
        if !changes {
            return None;
        }
        let Ok(ControlMessage::RoutingUpdate(mut update)) = ControlMessage::decode(frame) else {
            return None;
        };
        match self.kind {
            VillainKind::Replays => self.replay(&mut update),
            VillainKind::AnswersForOthers => claim(&mut update, 0),
            _ => claim(&mut update, 1),
        }
        ControlMessage::RoutingUpdate(update).encode().ok()
    }

    /// Keeps what it tells first of everybody, and once at work tells nothing else.
    fn replay(&mut self, update: &mut RoutingUpdate) {
        for announcement in &mut update.announcements {
            let head = announcement.head;
            if self.old_heads.len() < MAX_REPLAYED || self.old_heads.contains_key(&head.origin) {
                let old = *self.old_heads.entry(head.origin).or_insert(head);
                if self.at_work && old != head {
                    *announcement = Announcement {
                        head: old,
                        body: None,
                    };
                }
            }
        }
        for route in &mut update.routes {
            let reachable = |distance: &Distance| distance.metric != INFINITE;
            if !route.planes.iter().flatten().all(reachable) && !self.at_work
                || self.old_distances.len() >= MAX_REPLAYED && !self.old_distances.contains_key(&route.origin)
            {
                continue;
            }
            let old = self.old_distances.entry(route.origin).or_insert(route.planes);
            for (told, old) in route.planes.iter_mut().zip(old) {
                *old = old.or(*told);
                if self.at_work && told.is_some() {
                    *told = *old;
                }
            }
        }
    }

    /// What it sends to each neighbour beside what its core asks for.
    fn flood(&mut self, known: &[NodeId], now: UnixMillis) -> Vec<Bytes> {
        let mut frames = Vec::new();
        for _ in 0..FLOOD_MESSAGES {
            let request = DiscoveryRequest {
                nonce: std::array::from_fn(|_| self.random.next_u64() as u8),
                destination: NodeId(std::array::from_fn(|_| self.random.next_u64() as u8)),
                max_hops: 10,
                deadline: UnixMillis(now.0 + 30_000),
                path: vec![self.identity.node_id()],
                mode: DiscoveryMode::Ring { avoid: Vec::new() },
            };
            frames.push(ControlMessage::DiscoveryRequest(request));
            if let Some(origin) = known.get(self.random.below(known.len() as u64) as usize) {
                let request = SeqnoRequest {
                    origin: *origin,
                    plane: Plane::ALL[self.random.below(2) as usize],
                    seqno: 1_000_000,
                    hops: 64,
                };
                frames.push(ControlMessage::SeqnoRequest(request));
            }
        }
        frames.push(ControlMessage::RoutingUpdate(Box::new(self.made_up_update(now))));
        frames
            .iter()
            .filter_map(|message| message.encode().ok())
            .collect()
    }

    /// Announces a node that does not exist, next door.
    fn made_up_update(&mut self, now: UnixMillis) -> RoutingUpdate {
        let announcement = if self.made_up.len() < MADE_UP_NODES {
            let nobody = identity(std::array::from_fn(|_| self.random.next_u64() as u8));
            announce(&nobody, UnixMillis(now.0 + 3_000_000))
        } else {
            self.made_up.pop_front()
        };
        let number = 1 + self.random.below(u64::MAX - 1);
        let routes = announcement.iter().map(|announcement| RouteUpdate {
            origin: announcement.head.origin,
            planes: [Some(Distance {
                seqno: announcement.head.seqno,
                metric: 1,
            }); 2],
        });
        let update = RoutingUpdate {
            number,
            routes: routes.collect(),
            announcements: announcement.iter().cloned().collect(),
        };
        self.made_up.extend(announcement);
        update
    }
}

/// Claims to be that far from everybody.
fn claim(update: &mut RoutingUpdate, metric: u32) {
    for route in &mut update.routes {
        for told in route.planes.iter_mut().flatten() {
            told.metric = metric;
        }
    }
}

fn announce(identity: &Identity, expires: UnixMillis) -> Option<Announcement> {
    let body = Body {
        price: Price {
            msat_per_unit: 0,
            payable: false,
        },
        operator: None,
        addresses: Vec::new(),
        neighbours: Vec::new(),
    };
    let bytes = body.encode().ok()?;
    Some(Announcement {
        head: Head::sign(1, expires, &bytes, identity),
        body: Some(bytes),
    })
}

/// A path to `destination` over the villain that it signs in the destination's name too.
fn forged_answer(villain: &Identity, request: &DiscoveryRequest, now: UnixMillis) -> Option<Bytes> {
    let price = Price {
        msat_per_unit: 0,
        payable: false,
    };
    let mut path = request.path.clone();
    path.extend([villain.node_id(), request.destination]);
    let expires = UnixMillis(now.0 + 3_000_000);
    let mut certificate = RouteCertificate::sign(request.nonce, path, price, expires, villain);
    certificate.attest(price, None, expires, villain).ok()?;
    ControlMessage::DiscoveryResponse(certificate).encode().ok()
}

impl Network {
    /// Makes a node a villain, which behaves until it is set to work.
    pub fn corrupt(&mut self, node: usize, kind: VillainKind) {
        let secret = self.nodes[node].secret;
        let villain = Villain::new(kind, secret, self.seed ^ (node as u64) << 32);
        self.nodes[node].villain = Some(Box::new(villain));
    }

    /// Sets all villains to work, or to rest.
    pub fn set_villains(&mut self, at_work: bool) {
        for node in 0..self.nodes.len() {
            let Some(villain) = self.nodes[node].villain.as_mut() else {
                continue;
            };
            if std::mem::replace(&mut villain.at_work, at_work) != at_work {
                self.watch.distrust(node, at_work);
                self.schedule(Duration::ZERO, Happening::VillainActs { node: node as u32 });
            }
        }
    }

    /// The villains.
    pub fn villains(&self) -> Vec<usize> {
        let nodes = 0..self.nodes.len();
        nodes.filter(|node| self.nodes[*node].villain.is_some()).collect()
    }

    pub(super) fn villain_acts(&mut self, node: usize) {
        let now = self.now_at(node).unix;
        let known: Vec<NodeId> = self
            .watch
            .destinations()
            .iter()
            .map(|node| self.nodes[*node as usize].id)
            .collect();
        let Some(villain) = self.nodes[node].villain.as_mut() else {
            return;
        };
        let again = match villain.kind {
            VillainKind::Floods if villain.at_work => {
                let frames = villain.flood(&known, now);
                self.send_to_all(node, &frames);
                FLOOD_EVERY
            }
            VillainKind::Flaps if villain.at_work || villain.links_down => {
                villain.links_down = !villain.links_down;
                let down = villain.links_down;
                for place in 0..self.links.of_node[node].len() {
                    let (peer, _) = self.links.of_node[node][place];
                    let _ = match down {
                        true => self.cut(node, peer as usize),
                        false => self.heal(node, peer as usize),
                    };
                }
                FLAP_EVERY
            }
            VillainKind::BlackHole | VillainKind::Floods | VillainKind::Flaps => return,
            _ => {
                for place in 0..self.links.of_node[node].len() {
                    let (_, link) = self.links.of_node[node][place];
                    self.break_link(link, LIAR_AWAY_MS);
                }
                return;
            }
        };
        self.schedule(again, Happening::VillainActs { node: node as u32 });
    }

    fn send_to_all(&mut self, node: usize, frames: &[Bytes]) {
        for place in 0..self.links.of_node[node].len() {
            let (_, link) = self.links.of_node[node][place];
            if self.links.all[link as usize].up {
                let id = self.links.id(link as usize);
                for frame in frames {
                    self.send_frame(node, id, frame.clone());
                }
            }
        }
    }

    /// What a villain makes of a frame that it received; false when its core shall not see it.
    pub(super) fn villain_hears(
        &mut self,
        node: usize,
        link: mesh_core::event::LinkId,
        frame: &[u8],
    ) -> bool {
        let now = self.now_at(node).unix;
        let Some(villain) = self.nodes[node].villain.as_ref() else {
            return true;
        };
        if !villain.at_work || villain.kind != VillainKind::AnswersForOthers {
            return true;
        }
        match ControlMessage::decode(frame) {
            Ok(ControlMessage::DiscoveryRequest(request)) => {
                if let Some(answer) = forged_answer(&villain.identity, &request, now) {
                    self.send_frame(node, link, answer);
                }
                false
            }
            _ => true,
        }
    }
}
