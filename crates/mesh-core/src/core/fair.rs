//! As source: who earns what of this node's money, and which of the known routes follows from it.
//!
//! A receipt says what was carried; what its session pays per unit says who earned it. What follows is looked at once a
//! minute, so that no packet waits for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::announcement::Body;
use crate::event::{LinkId, Record};
use crate::fairness::asmap::Asmap;
use crate::fairness::durable::WeighedNode;
use crate::fairness::entities::{AddressBlock, Tie};
use crate::fairness::policy::{FairnessPolicy, HYSTERESIS_PARTS, PolicyError};
use crate::fairness::report::Report;
use crate::fairness::{Carried, Fairness, Shares, Surcharges};
use crate::identity::NodeId;
use crate::limits::{MAX_HOPS, MAX_ROUTE_DESTINATIONS, ROUTE_LIFETIME, WEIGHTS_PER_STEP};
use crate::time::{Instant, Now, UnixMillis};

use super::Core;

/// How often it is looked at what follows from shares: they are of a day, and fade in steps of a quarter of an hour.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How often weights are written down: every receipt changes some, and each is worth little.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How old a count of the ways to a destination in use may become: links come and go, and of a destination that was found
/// before anything was announced no ways were known.
const COUNT_AGAIN_AFTER: Duration = Duration::from_secs(300);

/// How long a node makes do with ways over somebody who should be gone around before it looks for another again.
const SEEK_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// How long the ways to a destination are remembered: a route to it may be used for so long after they were counted.
const WAYS_LIFETIME: Duration = Duration::from_secs(2 * ROUTE_LIFETIME.as_secs());

/// What is known of one destination.
#[derive(Default)]
pub(super) struct Known {
    /// The routers of the ways there that have nobody in common.
    ways: Vec<Vec<NodeId>>,
    /// When they were counted; none if never.
    counted_at: Option<Instant>,
    /// The route whose packets were receipted last.
    used: Vec<NodeId>,
    /// When a better way was last looked for beside those known.
    sought_at: Option<Instant>,
    /// When any of it was last new.
    at: Instant,
}

/// This node's view of who earns its money.
pub(super) struct FairDesk {
    fairness: Fairness,
    surcharges: Surcharges,
    looked_at: Option<Instant>,
    written_at: Option<Instant>,
    /// Something was carried, or somebody joined others, since then; or somebody costs something, which fades.
    changed: bool,
    /// At most [`MAX_ROUTE_DESTINATIONS`].
    destinations: BTreeMap<NodeId, Known>,
    /// Breaks ties between equally dear paths, in this node's own way across restarts.
    chance: [u8; 32],
}

impl FairDesk {
    pub(super) fn new(account_secret: &[u8; 32]) -> Self {
        Self {
            fairness: Fairness::default(),
            surcharges: Surcharges::default(),
            looked_at: None,
            written_at: None,
            changed: false,
            destinations: BTreeMap::new(),
            chance: blake3::derive_key("blvm-mesh ties between paths", account_secret),
        }
    }

    /// Takes up what an earlier life wrote down.
    pub(super) fn restore(&mut self, weighed: WeighedNode, now: UnixMillis) {
        self.fairness.restore(weighed, now);
        self.changed = true;
    }

    pub(super) fn surcharges(&self) -> &Surcharges {
        &self.surcharges
    }

    /// Another number for every destination, so that equally dear paths are all used.
    pub(super) fn tie_break(&self, destination: &NodeId) -> u64 {
        let mut number = [0; 8];
        number.copy_from_slice(&blake3::keyed_hash(&self.chance, &destination.0).as_bytes()[..8]);
        u64::from_le_bytes(number)
    }

    /// What is known of a destination that is being looked for or paid for now; none when there are too many.
    pub(super) fn known(&mut self, destination: &NodeId, now: Instant) -> Option<&mut Known> {
        if !self.destinations.contains_key(destination) && self.destinations.len() >= MAX_ROUTE_DESTINATIONS {
            return None;
        }
        let known = self.destinations.entry(*destination).or_default();
        known.at = now;
        Some(known)
    }

    /// The destination in use whose ways were counted the longest ago, if that was too long: one at a time.
    fn counted_longest_ago(&self, now: Instant) -> Option<NodeId> {
        let used = self
            .destinations
            .iter()
            .filter(|(_, known)| !known.used.is_empty());
        let oldest = used.min_by_key(|(_, known)| known.counted_at);
        let is_due = |at: Instant| at + COUNT_AGAIN_AFTER <= now;
        oldest
            .filter(|(_, known)| known.counted_at.is_none_or(is_due))
            .map(|(destination, _)| *destination)
    }

    /// Draws the consequences of shares if that was long enough ago.
    pub(super) fn look(&mut self, now: Now) {
        let due = self
            .looked_at
            .is_none_or(|at| at + LOOK_AGAIN_AFTER <= now.instant);
        if due && self.changed {
            self.fairness.sweep(now.unix);
            self.surcharges = self.fairness.surcharges(now.unix);
            self.looked_at = Some(now.instant);
            self.changed = !self.surcharges.by_node.is_empty();
        }
    }

    /// What avoiding these routers is worth for the shares that they have.
    pub(super) fn concentration_msat(&self, routers: &[NodeId]) -> u64 {
        let surcharge = |router| self.surcharges.by_node.get(router).copied().unwrap_or(0);
        routers.iter().map(surcharge).fold(0, u64::saturating_add)
    }

    /// Whether one of these routers is to be left out where there is an alternative.
    pub(super) fn excludes(&self, routers: &[NodeId]) -> bool {
        routers
            .iter()
            .any(|router| self.surcharges.excluded.contains(router))
    }

    /// Whether a path is over somebody above a hard cap, or somebody who serves twice.
    pub(super) fn is_flawed(&self, path: &[NodeId]) -> bool {
        let routers = routers_of(path);
        self.excludes(routers) || self.fairness.twice(routers).is_some()
    }

    /// Whose nodes are, and where.
    pub(super) fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    /// Whether the network may be asked for another way than those known, which are all over somebody who should be gone
    /// around: it was not for a while.
    pub(super) fn may_seek(&self, destination: &NodeId, now: Instant) -> bool {
        match self.destinations.get(destination) {
            Some(known) => known.sought_at.is_none_or(|at| at + SEEK_AGAIN_AFTER <= now),
            // Where there is no room to remember it, it would be asked every time.
            None => self.destinations.len() < MAX_ROUTE_DESTINATIONS,
        }
    }

    /// It is being asked, or there is nothing to ask for.
    pub(super) fn note_sought(&mut self, destination: &NodeId, now: Instant) {
        if let Some(known) = self.known(destination, now) {
            known.sought_at = Some(now);
        }
    }

    /// What is taken off for a path's being in use.
    pub(super) fn hysteresis_msat(&self, path: &[NodeId], sum_msat: u64) -> u64 {
        let known = path.last().and_then(|to| self.destinations.get(to));
        match known {
            Some(known) if known.used == path => sum_msat / HYSTERESIS_PARTS,
            _ => 0,
        }
    }
}

impl Core {
    /// What shares may grow to before routes around whoever has them are worth more, and a map of networks for the coarser
    /// shares. Without, it is [`FairnessPolicy::default`], and network groups are prefixes of addresses.
    /// To be set before the first input: in which networks nodes are is known of later announcements only. What an earlier
    /// life had paid, restored before or after, is kept.
    ///
    /// # Errors
    /// [`PolicyError`] when the caps contradict each other; nothing is changed then.
    pub fn set_fairness(&mut self, policy: FairnessPolicy, asmap: Option<Asmap>) -> Result<(), PolicyError> {
        policy.check()?;
        self.fair.fairness.set_policy(policy, asmap);
        Ok(())
    }

    /// All shares of what this node paid, as of now. Sums them up: for a person's question, not for every packet.
    pub fn shares(&self, at: UnixMillis) -> Shares {
        self.fair.fairness.shares(at)
    }

    /// The same, with what follows from each, largest first.
    pub fn shares_report(&self, at: UnixMillis) -> Report {
        self.fair.fairness.report(at)
    }

    /// A node announced itself: whose it is, and where.
    ///
    /// The operator signed for the node, and the node shows it, so they are one. An address is only said to be its own,
    /// which costs nothing: it says in which network the node is counted, and never makes it one with another. A liar
    /// could else make one entity of two rivals by announcing the addresses of both.
    pub(super) fn note_owner(&mut self, node: NodeId, body: &Body) {
        let operator = body.operator.map(|certificate| certificate.operator);
        self.fair.changed |= self.fair.fairness.owned_by(node, operator);
        // Addresses that many have at once say nothing of whose network a node is in.
        let public = body.addresses.iter().find_map(|address| {
            let ip = address.parse::<std::net::SocketAddr>().ok()?.ip();
            AddressBlock::of(ip).map(|_| ip)
        });
        if let Some(ip) = public {
            self.fair.fairness.place(node, ip);
        }
    }

    /// A neighbour is connected from, or was dialled at, this address. Nobody can claim another's: so whoever shares it is
    /// one.
    pub(super) fn note_reached(&mut self, link: LinkId, address: IpAddr) {
        let neighbour = self.neighbours.on_link(link);
        if let Some(Ok(node)) = neighbour.map(|neighbour| self.id_of(neighbour)) {
            self.fair.fairness.reached_at(node, address);
            self.fair.changed = true;
        }
    }

    /// A link ends. Of a neighbour that announced nothing nobody will say when it is gone for good, and who comes with ever
    /// new ids must not fill up what is remembered of owners.
    pub(super) fn forget_unannounced(&mut self, link: LinkId) {
        let neighbour = self.neighbours.on_link(link);
        if let Some(Ok(node)) = neighbour.map(|neighbour| self.id_of(neighbour))
            && self.routes.graph.facts(&node).is_none()
        {
            self.forget_owner(&node);
        }
    }

    /// A payee's invoice was issued by this Lightning node, which committed to the payee's id in it.
    pub(super) fn note_payee_key(&mut self, payee: NodeId, key: [u8; 33]) {
        self.fair.changed |= self.fair.fairness.tie(payee, Tie::Payee(key));
    }

    /// A node is no longer part of the network.
    pub(super) fn forget_owner(&mut self, node: &NodeId) {
        self.fair.fairness.forget(node);
    }

    /// How many ways there are to a destination that is being looked for, or was and is in use: the dear part, not done
    /// when packets are carried.
    pub(super) fn count_ways(&mut self, now: Now, destination: &NodeId) {
        let me = self.node_id();
        let entities = self.fair.fairness.entities();
        let ways = self.routes.graph.ways_among(&me, destination, MAX_HOPS, entities);
        if let Some(known) = self.fair.destinations.get_mut(destination) {
            known.ways = ways;
            known.counted_at = Some(now.instant);
        }
    }

    /// Units were receipted that each payee on `path` was paid so much for. Where no ways are known, the one used is taken
    /// for the only one: what nobody knows to be avoidable is not acted upon.
    pub(super) fn note_carried(&mut self, now: Now, path: &[NodeId], prices_msat: &[u64], units: u64) {
        let routers = routers_of(path);
        let Some(destination) = path.last().filter(|_| units > 0 && !routers.is_empty()) else {
            return;
        };
        let earned: Vec<(NodeId, u64)> = routers
            .iter()
            .zip(prices_msat)
            .map(|(router, price)| (*router, price.saturating_mul(units)))
            .collect();
        let mut ways = vec![routers.to_vec()];
        if let Some(known) = self.fair.known(destination, now.instant) {
            if known.used != path {
                known.used = path.to_vec();
            }
            if !known.ways.is_empty() {
                ways.clone_from(&known.ways);
            }
        }
        let carried = Carried {
            earned: &earned,
            units,
            ways: &ways,
        };
        self.fair.fairness.note_carried(&carried, now.unix);
        self.fair.changed = true;
        if self.fair.fairness.unwritten() >= WEIGHTS_PER_STEP {
            self.write_weights(WEIGHTS_PER_STEP);
        }
    }

    /// Writes down what at most so many nodes earned. Whether there are more.
    pub(super) fn write_weights(&mut self, most: usize) -> bool {
        for weighed in self.fair.fairness.take_unwritten(most) {
            self.persist_soon(Record::Weighed(Box::new(weighed)));
        }
        self.fair.fairness.unwritten() > 0
    }

    /// Looks at what follows and writes down what it follows from if that was long enough ago, and forgets destinations that
    /// were not used for long.
    pub(super) fn keep_fair(&mut self, now: Now) {
        self.fair.look(now);
        if let Some(destination) = self.fair.counted_longest_ago(now.instant) {
            self.count_ways(now, &destination);
        }
        let is_due = |at: Instant| at + WRITE_AGAIN_AFTER <= now.instant;
        if self.fair.written_at.is_none_or(is_due) && !self.write_weights(WEIGHTS_PER_STEP) {
            self.fair.written_at = Some(now.instant);
        }
        self.fair
            .destinations
            .retain(|_, known| known.at + WAYS_LIFETIME > now.instant);
    }
}

/// The nodes between source and destination.
pub(super) fn routers_of(path: &[NodeId]) -> &[NodeId] {
    path.get(1..path.len().saturating_sub(1)).unwrap_or_default()
}
