//! Who is linked, who is being dialled, and which of two connections stays.
//!
//! **Simultaneous dials.** Two nodes that dial each other at the same time make two pairs of connections. The pair
//! dialled by the node with the lower id stays. The lower node enforces this alone: between sending its own hellos
//! and their answer it is *committed*, and refuses what the other dials; before that it gives its own attempt up for
//! a pair that arrives complete. The higher node accepts whatever the lower dials. So exactly one pair is ever
//! accepted by both, without a link that comes up only to be closed again.
//!
//! **Dead links.** Who dials has no link. If a neighbour dials while a link to it stands here, the link is dead at its
//! end: certainly so when its instance changed (it was restarted) or when it dialled the link itself; then the new
//! pair replaces it. Otherwise the attempt may just have crossed ours: it is refused and the standing link poked,
//! so that a dead one fails at once and the neighbour's next attempt succeeds.
//!
//! **Two carriers.** A neighbour has one link, whatever it runs over. A direct one takes the place of one over the
//! Bitcoin node and is never replaced by such, unless the neighbour was restarted; a wanted peer is dialled directly
//! also while it is linked over the node. Crossing dials are settled for each carrier by itself.
//!
//! Nothing here waits or does input and output.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use mesh_core::identity::NodeId;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::queue::LinkSender;
use crate::{Carrier, CloseReason, DialError, LinkId, NetError};

/// Peers to keep dialling. Each costs a sleeping task; a hundred times the links a node can have is no list of
/// neighbours any more.
const MAX_WANTED: usize = 1024;

/// Of the places for links, the share kept free for wanted peers that are not linked yet: one half, so that strangers
/// cannot push out the operator's own choice, nor dead entries in that choice keep all strangers out.
const RESERVED_DIVISOR: usize = 2;

/// Link tasks that may exist for each place, counting those that ended but whose `Down` the consumer has not taken
/// yet: a neighbour that comes and goes before a slow consumer must not leave a task behind each time.
const TASKS_PER_PLACE: usize = 2;

/// A link that stands.
struct Live {
    sender: LinkSender,
    dialled: bool,
    instance: u64,
    carrier: Carrier,
}

/// Somebody to keep a link to.
struct Wanted {
    address: SocketAddr,
    task: Option<AbortHandle>,
    last_error: Option<DialError>,
}

struct Peer {
    live: Option<Live>,
    wanted: Option<Wanted>,
    /// Attempts whose hellos are sent and not answered yet, by carrier.
    committed: Commitments,
    /// Resolves when the latest link of this peer has reported its end.
    latest_ended: Option<oneshot::Receiver<()>>,
    /// Whether a direct link stands, for the dialling task.
    linked: watch::Sender<bool>,
}

impl Live {
    /// Whether it stays although the neighbour, running as `instance`, dials over `carrier`.
    fn outlasts(&self, carrier: Carrier, instance: u64, i_am_lower: bool) -> bool {
        let better = self.carrier < carrier;
        let crossed = self.carrier == carrier && self.dialled && i_am_lower;
        self.instance == instance && (better || crossed)
    }
}

/// Attempts under way whose hellos are sent, by carrier: over the node there may be several to one peer, if it is
/// connected to our node more than once.
#[derive(Debug, Default)]
struct Commitments {
    direct: usize,
    node: usize,
}

impl Commitments {
    fn over(&mut self, carrier: Carrier) -> &mut usize {
        match carrier {
            Carrier::Direct => &mut self.direct,
            Carrier::Node => &mut self.node,
        }
    }

    fn any_over(&self, carrier: Carrier) -> bool {
        match carrier {
            Carrier::Direct => self.direct > 0,
            Carrier::Node => self.node > 0,
        }
    }

    fn any(&self) -> bool {
        self.direct > 0 || self.node > 0
    }
}

impl Peer {
    /// Whether a link stands that is at least as good as one over `carrier`.
    fn has_as_good(&self, carrier: Carrier) -> bool {
        self.live.as_ref().is_some_and(|live| live.carrier <= carrier)
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            live: None,
            wanted: None,
            committed: Commitments::default(),
            latest_ended: None,
            linked: watch::Sender::new(false),
        }
    }
}

/// What a link that was let in needs to know.
pub(crate) struct Admission {
    /// The end of its predecessor, to be waited for before it reports `Up`.
    pub(crate) predecessor: Option<oneshot::Receiver<()>>,
    /// To be dropped when it has reported `Down`.
    pub(crate) ended: oneshot::Sender<()>,
}

/// The state of all neighbours of one endpoint.
pub(crate) struct Registry {
    me: NodeId,
    max_peers: usize,
    allowed: Option<BTreeSet<NodeId>>,
    peers: BTreeMap<NodeId, Peer>,
    links: BTreeMap<LinkId, LinkSender>,
    tasks: usize,
    closing: bool,
}

impl Registry {
    pub(crate) fn new(me: NodeId, max_peers: usize, allowed: Option<BTreeSet<NodeId>>) -> Self {
        Self {
            me,
            max_peers,
            allowed,
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            tasks: 0,
            closing: false,
        }
    }

    /// Notes a peer to dial. `Some` when a dialling task must be started and given to [`Registry::set_dial_task`].
    pub(crate) fn want(
        &mut self,
        peer: NodeId,
        address: SocketAddr,
    ) -> Result<Option<watch::Receiver<bool>>, NetError> {
        if self.closing {
            return Err(NetError::ShutDown);
        }
        if peer == self.me {
            return Err(NetError::OwnId(peer));
        }
        if let Some(wanted) = self.peers.get_mut(&peer).and_then(|known| known.wanted.as_mut()) {
            wanted.address = address;
            return Ok(None);
        }
        if self.peers.values().filter(|known| known.wanted.is_some()).count() >= MAX_WANTED {
            return Err(NetError::TooManyPeers { max: MAX_WANTED });
        }
        let known = self.peers.entry(peer).or_default();
        known.wanted = Some(Wanted {
            address,
            task: None,
            last_error: None,
        });
        Ok(Some(known.linked.subscribe()))
    }

    pub(crate) fn set_dial_task(&mut self, peer: &NodeId, task: AbortHandle) {
        match self.peers.get_mut(peer).and_then(|known| known.wanted.as_mut()) {
            Some(wanted) => wanted.task = Some(task),
            None => task.abort(),
        }
    }

    pub(crate) fn unwant(&mut self, peer: &NodeId) {
        if let Some(wanted) = self.peers.get_mut(peer).and_then(|known| known.wanted.take())
            && let Some(task) = wanted.task
        {
            task.abort();
        }
        self.forget_if_vacant(peer);
    }

    /// Where to dial `peer`, if it still is to be dialled and there is a place for it.
    pub(crate) fn dial_address(&self, peer: &NodeId) -> Option<SocketAddr> {
        let full = self.live_links() >= self.max_peers;
        let known = self.peers.get(peer).filter(|known| match &known.live {
            Some(live) => live.carrier > Carrier::Direct,
            None => !full,
        })?;
        known.wanted.as_ref().map(|wanted| wanted.address)
    }

    pub(crate) fn set_dial_error(&mut self, peer: &NodeId, error: Option<DialError>) {
        if let Some(wanted) = self.peers.get_mut(peer).and_then(|known| known.wanted.as_mut()) {
            wanted.last_error = error;
        }
    }

    pub(crate) fn dial_error(&self, peer: &NodeId) -> Option<DialError> {
        self.peers.get(peer)?.wanted.as_ref()?.last_error.clone()
    }

    /// Before our hellos are sent: from here the other side may consider the pair accepted.
    pub(crate) fn commit(&mut self, peer: &NodeId, carrier: Carrier) -> Result<(), CloseReason> {
        if carrier == Carrier::Node {
            // Nobody asked for this very peer: the rules for strangers hold.
            self.check_open()?;
            self.check_allowed(peer)?;
            self.peers.entry(*peer).or_default();
        }
        let known = self.peers.get_mut(peer).ok_or(CloseReason::Requested)?;
        if known.has_as_good(carrier) {
            return Err(CloseReason::Duplicate);
        }
        *known.committed.over(carrier) += 1;
        Ok(())
    }

    /// The attempt is over, whatever came of it.
    pub(crate) fn uncommit(&mut self, peer: &NodeId, carrier: Carrier) {
        if let Some(known) = self.peers.get_mut(peer) {
            let committed = known.committed.over(carrier);
            *committed = committed.saturating_sub(1);
        }
        self.forget_if_vacant(peer);
    }

    /// A pair dialled by us was accepted by the other side.
    pub(crate) fn admit_outbound(
        &mut self,
        sender: LinkSender,
        instance: u64,
        carrier: Carrier,
    ) -> Result<Admission, CloseReason> {
        let peer = sender.peer();
        self.check_open()?;
        let known = self.peers.get(&peer);
        let wanted = carrier == Carrier::Direct || known.is_some_and(|known| known.wanted.is_some());
        match known.and_then(|known| known.live.as_ref()) {
            Some(live) if live.carrier <= carrier => return Err(CloseReason::Duplicate),
            Some(worse) => worse.sender.close(CloseReason::Superseded),
            None => self.check_room(&peer, wanted)?,
        }
        Ok(self.install(sender, instance, true, carrier))
    }

    /// A complete pair came in.
    pub(crate) fn admit_inbound(
        &mut self,
        sender: LinkSender,
        instance: u64,
        carrier: Carrier,
    ) -> Result<Admission, CloseReason> {
        let peer = sender.peer();
        self.check_open()?;
        self.check_allowed(&peer)?;
        let i_am_lower = self.me < peer;
        let known = self.peers.get(&peer);
        let wanted = known.is_some_and(|known| known.wanted.is_some());
        let crossing = i_am_lower
            && known.is_some_and(|known| !known.has_as_good(carrier) && known.committed.any_over(carrier));
        match known.and_then(|known| known.live.as_ref()) {
            Some(live) if live.outlasts(carrier, instance, i_am_lower) => {
                live.sender.poke();
                return Err(CloseReason::Duplicate);
            }
            _ if crossing => return Err(CloseReason::Duplicate),
            Some(live) => live.sender.close(CloseReason::Superseded),
            None => self.check_room(&peer, wanted)?,
        }
        Ok(self.install(sender, instance, false, carrier))
    }

    /// A link is over: it takes no more place. Its task still has to report that.
    pub(crate) fn ended(&mut self, peer: &NodeId, link: LinkId) {
        self.links.remove(&link);
        if let Some(known) = self.peers.get_mut(peer)
            && known.live.as_ref().is_some_and(|live| live.sender.link() == link)
        {
            known.live = None;
            known.linked.send_replace(false);
        }
    }

    /// A link's task has reported its end.
    pub(crate) fn reported(&mut self, peer: &NodeId) {
        self.tasks = self.tasks.saturating_sub(1);
        self.forget_if_vacant(peer);
    }

    pub(crate) fn sender(&self, link: LinkId) -> Option<LinkSender> {
        self.links.get(&link).cloned()
    }

    /// What the link to `peer` runs over, if one stands.
    pub(crate) fn linked_over(&self, peer: &NodeId) -> Option<Carrier> {
        Some(self.peers.get(peer)?.live.as_ref()?.carrier)
    }

    pub(crate) fn live_links(&self) -> usize {
        self.links.len()
    }

    /// Refuses everything from now on and tells all links to end.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        for sender in self.links.values() {
            sender.close(CloseReason::Shutdown);
        }
    }

    fn check_room(&self, peer: &NodeId, wanted: bool) -> Result<(), CloseReason> {
        let unlinked =
            |(id, known): &(&NodeId, &Peer)| *id != peer && known.wanted.is_some() && known.live.is_none();
        let reserved = match wanted {
            true => 0,
            false => self
                .peers
                .iter()
                .filter(unlinked)
                .count()
                .min(self.max_peers / RESERVED_DIVISOR),
        };
        let full = self.links.len() + reserved >= self.max_peers;
        let clogged = self.tasks >= self.max_peers.saturating_mul(TASKS_PER_PLACE);
        if full || clogged {
            Err(CloseReason::PeersFull)
        } else {
            Ok(())
        }
    }

    fn check_allowed(&self, peer: &NodeId) -> Result<(), CloseReason> {
        let wanted = self.peers.get(peer).is_some_and(|known| known.wanted.is_some());
        match &self.allowed {
            Some(allowed) if !wanted && !allowed.contains(peer) => Err(CloseReason::NotAllowed),
            _ => Ok(()),
        }
    }

    fn check_open(&self) -> Result<(), CloseReason> {
        if self.closing {
            Err(CloseReason::Shutdown)
        } else {
            Ok(())
        }
    }

    fn install(&mut self, sender: LinkSender, instance: u64, dialled: bool, carrier: Carrier) -> Admission {
        let known = self.peers.entry(sender.peer()).or_default();
        if let Some(replaced) = known.live.take() {
            self.links.remove(&replaced.sender.link());
        }
        let (ended, has_ended) = oneshot::channel();
        let predecessor = known.latest_ended.replace(has_ended);
        self.links.insert(sender.link(), sender.clone());
        known.live = Some(Live {
            sender,
            dialled,
            instance,
            carrier,
        });
        known.linked.send_replace(carrier == Carrier::Direct);
        self.tasks += 1;
        Admission { predecessor, ended }
    }

    fn forget_if_vacant(&mut self, peer: &NodeId) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        // A closed channel means the last link's task is through; an open one, that it still has to report.
        if known
            .latest_ended
            .as_mut()
            .is_some_and(|ended| ended.try_recv().is_err_and(is_closed))
        {
            known.latest_ended = None;
        }
        let in_use = known.live.is_some() || known.wanted.is_some() || known.committed.any();
        if !in_use && known.latest_ended.is_none() {
            self.peers.remove(peer);
        }
    }
}

fn is_closed(error: oneshot::error::TryRecvError) -> bool {
    error == oneshot::error::TryRecvError::Closed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::queue::QueueLimits;

    const INSTANCE: u64 = 1;

    fn node(byte: u8) -> NodeId {
        NodeId([byte; 32])
    }

    fn address() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 8334))
    }

    fn sender(peer: u8) -> LinkSender {
        let limits = QueueLimits {
            bytes: 100,
            batches: 10,
            shared: None,
        };
        LinkSender::new(
            crate::next_link_id(),
            node(peer),
            limits.clone(),
            limits,
            Arc::default(),
        )
    }

    fn registry(me: u8, max_peers: usize) -> Registry {
        Registry::new(node(me), max_peers, None)
    }

    fn dialling(me: u8, peer: u8) -> Registry {
        let mut registry = registry(me, 10);
        registry.want(node(peer), address()).unwrap();
        registry.commit(&node(peer), Carrier::Direct).unwrap();
        registry
    }

    fn inbound(registry: &mut Registry, peer: u8, instance: u64) -> Result<LinkSender, CloseReason> {
        let sender = sender(peer);
        registry
            .admit_inbound(sender.clone(), instance, Carrier::Direct)
            .map(|_| sender)
    }

    fn outbound(registry: &mut Registry, peer: u8) -> Result<LinkSender, CloseReason> {
        let sender = sender(peer);
        registry
            .admit_outbound(sender.clone(), INSTANCE, Carrier::Direct)
            .map(|_| sender)
    }

    #[test]
    fn of_crossing_dials_both_ends_keep_the_one_by_the_lower_id() {
        let mut low = dialling(1, 2);
        let mut high = dialling(2, 1);
        assert_eq!(
            inbound(&mut low, 2, INSTANCE).unwrap_err(),
            CloseReason::Duplicate
        );
        inbound(&mut high, 1, INSTANCE).unwrap();
        outbound(&mut low, 2).unwrap();
        assert_eq!(outbound(&mut high, 1).unwrap_err(), CloseReason::Duplicate);
    }

    #[test]
    fn lower_node_takes_a_complete_pair_while_its_own_hello_is_not_sent() {
        let mut low = registry(1, 10);
        low.want(node(2), address()).unwrap();
        inbound(&mut low, 2, INSTANCE).unwrap();
        assert_eq!(low.commit(&node(2), Carrier::Direct), Err(CloseReason::Duplicate));
    }

    #[test]
    fn standing_link_by_the_lower_node_survives_a_crossing_dial_but_not_a_restart() {
        let mut low = dialling(1, 2);
        let standing = outbound(&mut low, 2).unwrap();
        low.uncommit(&node(2), Carrier::Direct);
        assert_eq!(
            inbound(&mut low, 2, INSTANCE).unwrap_err(),
            CloseReason::Duplicate
        );
        assert_eq!(standing.try_send_data(vec!["alive".into()]), Ok(()));
        inbound(&mut low, 2, INSTANCE + 1).unwrap();
        let superseded = crate::SendError::LinkDown(CloseReason::Superseded);
        assert_eq!(standing.try_send_data(vec!["dead".into()]), Err(superseded));
        assert_eq!(low.live_links(), 1);
    }

    #[test]
    fn who_dials_again_has_lost_the_link_it_dialled_before() {
        for (me, peer) in [(1, 2), (2, 1)] {
            let mut registry = registry(me, 10);
            let first = inbound(&mut registry, peer, INSTANCE).unwrap();
            inbound(&mut registry, peer, INSTANCE).unwrap();
            assert!(first.try_send_data(vec!["dead".into()]).is_err());
        }
    }

    #[test]
    fn later_link_is_told_to_wait_for_the_end_of_the_earlier() {
        let mut registry = registry(1, 10);
        let first = registry
            .admit_inbound(sender(2), INSTANCE, Carrier::Direct)
            .unwrap();
        assert!(first.predecessor.is_none());
        let second = registry
            .admit_inbound(sender(2), INSTANCE, Carrier::Direct)
            .unwrap();
        let mut end_of_first = second.predecessor.unwrap();
        assert_eq!(end_of_first.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(first.ended);
        assert_eq!(end_of_first.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn strangers_fill_half_the_places_while_wanted_peers_are_away() {
        let mut registry = registry(1, 4);
        for wanted in 100..110 {
            registry.want(node(wanted), address()).unwrap();
        }
        inbound(&mut registry, 2, INSTANCE).unwrap();
        inbound(&mut registry, 3, INSTANCE).unwrap();
        assert_eq!(
            inbound(&mut registry, 4, INSTANCE).unwrap_err(),
            CloseReason::PeersFull
        );
        inbound(&mut registry, 100, INSTANCE).unwrap();
        outbound(&mut registry, 101).unwrap();
        assert_eq!(
            inbound(&mut registry, 102, INSTANCE).unwrap_err(),
            CloseReason::PeersFull
        );
    }

    #[test]
    fn neighbours_that_come_and_go_before_a_slow_consumer_leave_few_tasks_and_no_memory() {
        let mut registry = registry(1, 2);
        let mut admissions = Vec::new();
        let mut refused = 0;
        for peer in 2..100 {
            let sender = sender(peer);
            match registry.admit_inbound(sender.clone(), INSTANCE, Carrier::Direct) {
                Ok(admission) => admissions.push((node(peer), admission)),
                Err(reason) => {
                    assert_eq!(reason, CloseReason::PeersFull);
                    refused += 1;
                }
            }
            registry.ended(&node(peer), sender.link());
        }
        assert_eq!(
            (admissions.len(), refused),
            (2 * TASKS_PER_PLACE, 98 - 2 * TASKS_PER_PLACE)
        );
        for (peer, admission) in admissions {
            drop(admission);
            registry.reported(&peer);
        }
        assert!(registry.peers.is_empty() && registry.links.is_empty() && registry.tasks == 0);
    }

    #[test]
    fn end_of_a_replaced_link_does_not_touch_its_successor() {
        let mut registry = registry(1, 10);
        let first = inbound(&mut registry, 2, INSTANCE).unwrap();
        let second = inbound(&mut registry, 2, INSTANCE).unwrap();
        registry.ended(&node(2), first.link());
        assert!(registry.sender(second.link()).is_some());
        assert_eq!(
            registry.commit(&node(2), Carrier::Direct),
            Err(CloseReason::Duplicate)
        );
    }

    #[test]
    fn closed_registry_lets_nobody_in() {
        let mut registry = registry(1, 10);
        let standing = inbound(&mut registry, 2, INSTANCE).unwrap();
        registry.close();
        assert!(standing.try_send_control(vec!["late".into()]).is_err());
        for peer in [2, 3] {
            assert_eq!(
                inbound(&mut registry, peer, INSTANCE).unwrap_err(),
                CloseReason::Shutdown
            );
        }
        assert!(matches!(
            registry.want(node(4), address()),
            Err(NetError::ShutDown)
        ));
    }
}
