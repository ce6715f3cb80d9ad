//! Discovery: as requester, as router, as destination.

use std::time::Duration;

use crate::discovery::plan::{Ask, Round, plan_round, wider_ring};
use crate::discovery::{OwnDiscovery, Passing};
use crate::drop_reason::DropReason;
use crate::event::{Answer, Channel, CommandId, Event, LinkId, Refusal};
use crate::identity::NodeId;
use crate::limits::{
    CLOCK_SKEW, DISCOVERY_GATHER, DISCOVERY_TIMEOUT, MAX_DISCOVERY_TIME, MAX_HOPS,
    MAX_ROUTES_PER_DESTINATION, RETRY_INTERVAL, ROUTE_LIFETIME,
};
use crate::message::{ControlMessage, DiscoveryMode, DiscoveryRequest, RequestId, RouteCertificate};
use crate::neighbours::Neighbour;
use crate::time::Now;

use super::candidates::Wanted;
use super::{Core, Timer};

/// As requester.
impl Core {
    pub(super) fn start_discovery(
        &mut self,
        now: Now,
        command: CommandId,
        destination: NodeId,
        max_hops: u8,
        timeout: Duration,
        refresh: bool,
    ) -> Result<Option<Answer>, Box<Refusal>> {
        if destination == self.node_id() || max_hops == 0 {
            return Err(Refusal::own(DropReason::BadCommand));
        }
        let max_hops = max_hops.min(MAX_HOPS as u8);
        if !refresh {
            let known = self.routes_at_hand(now, &destination, max_hops);
            if !known.is_empty() {
                return Ok(Some(Answer::Routes(known)));
            }
        }
        let timeout = timeout.min(MAX_DISCOVERY_TIME);
        let discovery = OwnDiscovery {
            destination,
            max_hops,
            deadline: now.unix + timeout,
            rounds: 0,
            retry_after: RETRY_INTERVAL,
            asked_at: now.instant,
            gathering: false,
            ring: 0,
            exhausted: false,
            asked: Vec::new(),
            silent: Vec::new(),
        };
        self.discovery.start(command, discovery).map_err(Refusal::own)?;
        self.set_timer(now.instant + timeout, Timer::DiscoveryEnds(command));
        self.ask_round(now, command);
        // With a way in hand, if not a good one, nobody waits longer for a better one than answers take as a rule.
        if !refresh && !self.known_routes(now, &destination, max_hops).is_empty() {
            if let Some(discovery) = self.discovery.own_mut(command) {
                discovery.gathering = true;
            }
            self.set_timer(now.instant + RETRY_INTERVAL, Timer::DiscoveryGathered(command));
        }
        Ok(None)
    }

    /// Nothing was heard for a while: asks again, in other ways.
    pub(super) fn retry_discovery(&mut self, now: Now, command: CommandId) {
        let Some(discovery) = self.discovery.own_mut(command) else {
            return;
        };
        if !discovery.gathering {
            discovery.next_round();
            discovery.asked_at = now.instant;
            self.ask_round(now, command);
        }
    }

    fn ask_round(&mut self, now: Now, command: CommandId) {
        let Some(discovery) = self.discovery.own(command) else {
            return;
        };
        let (destination, retry_at) = (discovery.destination, now.instant + discovery.retry_after);
        self.fair.look(now);
        if self.fair.known(&destination, now.instant).is_some() {
            self.count_ways(now, &destination);
        }
        let Some(discovery) = self.discovery.own(command) else {
            return;
        };
        let wanted = Wanted {
            destination,
            max_hops: discovery.max_hops,
            silent: &discovery.silent,
        };
        let candidates = self.candidates(now, &wanted);
        let successors = self.successors(&destination);
        let asks = plan_round(&Round {
            number: discovery.rounds,
            max_hops: discovery.max_hops,
            candidates: &candidates,
            successors: &successors,
            silent: &discovery.silent,
        });
        self.set_timer(retry_at, Timer::DiscoveryRetry(command));
        let from_graph = !candidates.is_empty();
        if let Some(discovery) = self.discovery.own_mut(command) {
            discovery.exhausted |= from_graph;
        }
        // The branches of a round share a nonce, so that a router that sees two leads them apart; each route and ring
        // has its own, which nobody knows who is not asked by it.
        let (branch_nonce, mut branches) = (self.entropy.bytes16(), 0..);
        for ask in asks {
            match ask {
                Ask::Route(path) => {
                    let ahead = path.get(1..).unwrap_or_default().to_vec();
                    let nonce = self.entropy.bytes16();
                    let next = ahead.first().copied();
                    self.ask(now, command, nonce, None, DiscoveryMode::Route { ahead }, next);
                    self.note_asked(command, path);
                }
                Ask::Branch { first, avoid } => {
                    let tag = branches.next().unwrap_or(0);
                    let mode = DiscoveryMode::Branch { tag, avoid };
                    self.ask(now, command, branch_nonce, None, mode, Some(first));
                    let mut path = vec![self.node_id(), first];
                    path.extend(Some(destination).filter(|destination| *destination != first));
                    self.note_asked(command, path);
                }
                Ask::Ring { max_hops, avoid } => self.ask_ring(now, command, max_hops, avoid),
            }
        }
    }

    fn ask_ring(&mut self, now: Now, command: CommandId, max_hops: u8, avoid: Vec<NodeId>) {
        let nonce = self.entropy.bytes16();
        if let Some(discovery) = self.discovery.own_mut(command) {
            discovery.ring = discovery.ring.max(max_hops);
        }
        let mode = DiscoveryMode::Ring { avoid };
        self.ask(now, command, nonce, Some(max_hops), mode, None);
    }

    /// No more answers are expected to what was asked. With a single way in hand, and no graph that knew no other, a
    /// second one is looked for once, further out: who has one way only is at the mercy of whoever sits on it.
    pub(super) fn discovery_gathered(&mut self, now: Now, command: CommandId) {
        let Some(discovery) = self.discovery.own(command) else {
            return;
        };
        let known = self.known_routes(now, &discovery.destination, discovery.max_hops);
        let hops = known
            .first()
            .map_or(0, |route| route.path.len().saturating_sub(1));
        let hops = u8::try_from(hops).unwrap_or(u8::MAX);
        let wider = wider_ring(discovery.ring, hops, discovery.max_hops)
            .filter(|_| known.len() == 1 && !discovery.exhausted);
        let Some(max_hops) = wider else {
            return self.end_discovery(now, command);
        };
        // The first way answered within this time, and the ring now reaches at most three times as far. Nobody waits long
        // for a second way with the first in hand.
        let wait = ((now.instant - discovery.asked_at) * 3).min(RETRY_INTERVAL * 4);
        if let Some(discovery) = self.discovery.own_mut(command) {
            discovery.exhausted = true;
        }
        self.ask_ring(now, command, max_hops, Vec::new());
        self.set_timer(now.instant + wait, Timer::DiscoveryGathered(command));
    }

    /// Sends one request, to `next` or to all neighbours.
    fn ask(
        &mut self,
        now: Now,
        command: CommandId,
        nonce: RequestId,
        max_hops: Option<u8>,
        mode: DiscoveryMode,
        next: Option<NodeId>,
    ) {
        let me = self.node_id();
        let Some(discovery) = self.discovery.own(command) else {
            return;
        };
        let request = DiscoveryRequest {
            nonce,
            destination: discovery.destination,
            max_hops: max_hops.unwrap_or(discovery.max_hops),
            // Relays serve a request for half a minute; who waits longer asks again.
            deadline: discovery.deadline.min(now.unix + DISCOVERY_TIMEOUT),
            path: vec![me],
            mode,
        };
        self.discovery.ask(command, &request, next, now.instant);
        let sent = match next {
            Some(next) => self.send_message(&next, &ControlMessage::DiscoveryRequest(request)),
            None => self.spread(&request),
        };
        if let Err(reason) = sent {
            self.count(reason);
        }
    }

    fn note_asked(&mut self, command: CommandId, path: Vec<NodeId>) {
        if let Some(discovery) = self.discovery.own_mut(command) {
            discovery.asked.push(path);
        }
    }

    /// Neighbours with a live link that the distance vector allows as next hop, best first.
    fn successors(&self, destination: &NodeId) -> Vec<NodeId> {
        let mut successors = self.routes.vector.successors(destination);
        successors.retain(|next| self.neighbours.link_to(next).is_some());
        successors
    }

    /// A path to a node this one asked for; its signatures were checked.
    fn on_own_discovery_response(
        &mut self,
        now: Now,
        from: NodeId,
        certificate: RouteCertificate,
    ) -> Result<(), DropReason> {
        certificate.check_shape()?;
        let command = self.discovery.own_answered(&certificate, &from, now.instant)?;
        if certificate.valid_until() < now.unix {
            return Err(DropReason::Expired);
        }
        let path = certificate.path.clone();
        self.routes.cache.insert(certificate, now.unix)?;
        let found = self.routes.cache.get(&path, now.unix);
        let msat_per_unit = found.map_or(0, |route| route.info().msat_per_unit);
        self.event(Event::RouteDiscovered { path, msat_per_unit });
        // The discovery may be over: then the route is only kept.
        let Some(discovery) = self.discovery.own_mut(command) else {
            return Ok(());
        };
        // Only a route that can be used ends the search: one priced beyond all money must not keep the rest waiting.
        let first = !std::mem::replace(&mut discovery.gathering, true);
        let (destination, max_hops) = (discovery.destination, discovery.max_hops);
        if self.known_routes(now, &destination, max_hops).len() >= MAX_ROUTES_PER_DESTINATION {
            self.end_discovery(now, command);
        } else if first {
            self.set_timer(now.instant + DISCOVERY_GATHER, Timer::DiscoveryGathered(command));
        }
        Ok(())
    }

    pub(super) fn end_discovery(&mut self, now: Now, command: CommandId) {
        let Some(discovery) = self.discovery.finish(command) else {
            return;
        };
        let routes = self.known_routes(now, &discovery.destination, discovery.max_hops);
        if routes.is_empty() {
            let reason = DropReason::NoRoute;
            self.event(Event::RouteFailed {
                destination: discovery.destination,
                reason,
            });
            self.answer(command, Err(Refusal::own(reason)));
        } else {
            self.answer(command, Ok(Answer::Routes(routes)));
        }
    }
}

/// As router and destination.
impl Core {
    pub(super) fn on_discovery_request(
        &mut self,
        now: Now,
        from: Neighbour,
        mut request: DiscoveryRequest,
    ) -> Result<(), DropReason> {
        let previous = self.id_of(from)?;
        let link = self.neighbours.link_of(from).ok_or(DropReason::NextHopGone)?;
        let me = self.node_id();
        if request.path.last() != Some(&previous) || request.path.contains(&me) {
            return Err(DropReason::BadRoute);
        }
        let missed = request.deadline + CLOCK_SKEW < now.unix;
        if missed || request.deadline > now.unix + DISCOVERY_TIMEOUT + CLOCK_SKEW {
            return Err(DropReason::Expired);
        }
        if let DiscoveryMode::Route { ahead } = &mut request.mode {
            // Who is not named would be paid for a place that the requester did not choose.
            if ahead.first() != Some(&me) {
                return Err(DropReason::WrongHop);
            }
            ahead.remove(0);
        }
        request.path.push(me);
        let back = (previous, link);
        if request.destination == me {
            return self.answer_discovery(now, back, request);
        }
        self.pass_discovery_on(now, back, request)
    }

    fn answer_discovery(
        &mut self,
        now: Now,
        back: (NodeId, LinkId),
        request: DiscoveryRequest,
    ) -> Result<(), DropReason> {
        let passing = Passing {
            request: &request,
            back,
            next: None,
        };
        self.discovery.note(passing, now.instant)?;
        let expires = now.unix + ROUTE_LIFETIME;
        let certificate =
            RouteCertificate::sign(request.nonce, request.path, self.price, expires, &self.identity);
        self.send_message(&back.0, &ControlMessage::DiscoveryResponse(certificate))
    }

    fn pass_discovery_on(
        &mut self,
        now: Now,
        back: (NodeId, LinkId),
        request: DiscoveryRequest,
    ) -> Result<(), DropReason> {
        let next = match &request.mode {
            DiscoveryMode::Route { ahead } => ahead.first().copied(),
            DiscoveryMode::Branch { .. } => Some(self.next_of_branch(&request).ok_or(DropReason::NoRoute)?),
            DiscoveryMode::Ring { .. } => None,
        };
        // A route may name anybody: nothing is remembered or budgeted for who is no neighbour.
        if next.is_some_and(|next| self.neighbours.link_to(&next).is_none()) {
            return Err(DropReason::NextHopGone);
        }
        let passing = Passing {
            request: &request,
            back,
            next,
        };
        self.discovery.note(passing, now.instant)?;
        if !self.discovery.may_pass(&back.0, next, now.instant) {
            return Err(DropReason::RateLimited);
        }
        match next {
            Some(next) => self.send_message(&next, &ControlMessage::DiscoveryRequest(request)),
            None => self.spread(&request),
        }
    }

    /// Where a branch goes on: the best successor that it may pass and that no other branch of the same request was
    /// sent to, or else the best that it may pass.
    fn next_of_branch(&mut self, request: &DiscoveryRequest) -> Option<NodeId> {
        let destination = request.destination;
        let is_near = self.neighbours.link_to(&destination).is_some();
        if request.path.len() >= request.most_hops() {
            return is_near.then_some(destination);
        }
        let mut successors = self.successors(&destination);
        if is_near && !successors.contains(&destination) {
            successors.push(destination);
        }
        let avoid = request.mode.avoid();
        successors
            .retain(|next| *next == destination || !request.path.contains(next) && !avoid.contains(next));
        let others = self.discovery.other_branches(request);
        let fresh = successors.iter().find(|next| !others.contains(next));
        fresh.or(successors.first()).copied()
    }

    /// Sends a ring's request to every neighbour it may still reach: not to whom it passed, not to whom it leaves out.
    fn spread(&mut self, request: &DiscoveryRequest) -> Result<(), DropReason> {
        let frame = ControlMessage::DiscoveryRequest(request.clone()).encode()?;
        let destination = request.destination;
        let links: Vec<_> = if request.path.len() >= request.most_hops() {
            // Only the destination itself can still be reached within the hops allowed.
            self.neighbours.link_to(&destination).into_iter().collect()
        } else {
            let avoid = request.mode.avoid();
            let may_go =
                |id: &NodeId| *id == destination || !request.path.contains(id) && !avoid.contains(id);
            let fresh = self.neighbours.live().filter(|(_, id)| may_go(id));
            fresh.map(|(link, _)| link).collect()
        };
        for link in links {
            self.transmit(link, Channel::Control, frame.clone());
        }
        Ok(())
    }

    pub(super) fn on_discovery_response(
        &mut self,
        now: Now,
        from: Neighbour,
        mut certificate: RouteCertificate,
    ) -> Result<(), DropReason> {
        let from = self.id_of(from)?;
        let me = self.node_id();
        if certificate.requester() == Some(&me) {
            return self.on_own_discovery_response(now, from, certificate);
        }
        let place = certificate.next_attester().ok_or(DropReason::BadRoute)?;
        let my_turn =
            certificate.path.get(place) == Some(&me) && certificate.path.get(place + 1) == Some(&from);
        if !my_turn {
            return Err(DropReason::WrongHop);
        }
        let (previous, link) = self.discovery.answered(&certificate, place, &from, now.instant)?;
        // On another link is another life of the neighbour: it knows nothing of its request any more.
        if self.neighbours.link_to(&previous) != Some(link) {
            return Err(DropReason::NextHopGone);
        }
        certificate.attest(
            self.price,
            self.operator,
            now.unix + ROUTE_LIFETIME,
            &self.identity,
        )?;
        self.send_message(&previous, &ControlMessage::DiscoveryResponse(certificate))
    }
}
