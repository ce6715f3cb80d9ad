//! Discovery: as requester, as router, as destination.

use std::time::Duration;

use crate::discovery::OwnDiscovery;
use crate::drop_reason::DropReason;
use crate::event::{Answer, Channel, CommandId, Event, Refusal, RouteInfo};
use crate::identity::NodeId;
use crate::limits::{
    CLOCK_SKEW, DISCOVERY_GATHER, DISCOVERY_TIMEOUT, MAX_HOPS, MAX_ROUTES_PER_DESTINATION, RETRY_INTERVAL,
    ROUTE_LIFETIME,
};
use crate::message::{ControlMessage, DiscoveryRequest, RouteCertificate};
use crate::neighbours::Neighbour;
use crate::time::Now;

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
        let known = self.known_routes(now, &destination, max_hops);
        if !refresh && !known.is_empty() {
            return Ok(Some(Answer::Routes(known)));
        }
        let timeout = timeout.min(DISCOVERY_TIMEOUT);
        let discovery = OwnDiscovery {
            destination,
            max_hops,
            deadline: now.unix + timeout,
            nonces: Vec::new(),
            retry_after: RETRY_INTERVAL,
            gathering: false,
        };
        self.discovery.start(command, discovery).map_err(Refusal::own)?;
        self.set_timer(now.instant + timeout, Timer::DiscoveryEnds(command));
        self.retry_discovery(now, command);
        Ok(None)
    }

    /// Asks all neighbours under a fresh nonce.
    pub(super) fn retry_discovery(&mut self, now: Now, command: CommandId) {
        let nonce = self.entropy.bytes16();
        let me = self.node_id();
        let Some(discovery) = self
            .discovery
            .own_mut(command)
            .filter(|discovery| !discovery.gathering)
        else {
            return;
        };
        let retry_at = now.instant + discovery.retry_after;
        discovery.retry_after *= 2;
        let request = DiscoveryRequest {
            nonce,
            destination: discovery.destination,
            max_hops: discovery.max_hops,
            deadline: discovery.deadline,
            path: vec![me],
        };
        self.discovery.add_nonce(command, nonce);
        self.set_timer(retry_at, Timer::DiscoveryRetry(command));
        self.spread(&request);
    }

    /// Sends a request to every neighbour it has not passed.
    fn spread(&mut self, request: &DiscoveryRequest) {
        let Ok(frame) = ControlMessage::DiscoveryRequest(request.clone()).encode() else {
            return self.count(DropReason::Oversize);
        };
        let straight = self.neighbours.link_to(&request.destination);
        let last_hop = request.path.len() >= usize::from(request.max_hops);
        let links: Vec<_> = match straight {
            // Only the destination itself can still be reached within the hops allowed.
            _ if last_hop => straight.into_iter().collect(),
            _ => {
                let fresh = self
                    .neighbours
                    .live()
                    .filter(|(_, id)| !request.path.contains(id));
                fresh.map(|(link, _)| link).collect()
            }
        };
        for link in links {
            self.transmit(link, Channel::Control, frame.clone());
        }
    }

    fn known_routes(&self, now: Now, destination: &NodeId, max_hops: u8) -> Vec<RouteInfo> {
        let mut routes = self
            .routes
            .cache
            .find(destination, usize::from(max_hops), now.unix);
        // What fell silent before costs what one would pay to avoid it, but stays on offer.
        routes.sort_by_cached_key(|route| self.blame.rank_of(route, now.instant));
        routes.into_iter().map(|route| route.info()).collect()
    }

    /// A path to a node this one asked for; its signatures were checked.
    fn on_own_discovery_response(
        &mut self,
        now: Now,
        from: NodeId,
        certificate: RouteCertificate,
    ) -> Result<(), DropReason> {
        let command = self
            .discovery
            .asked(&certificate.nonce)
            .ok_or(DropReason::Unsolicited)?;
        let discovery = self.discovery.own_mut(command).ok_or(DropReason::Unsolicited)?;
        let as_asked = certificate.destination() == Some(&discovery.destination)
            && certificate.hops() <= usize::from(discovery.max_hops)
            && certificate.path.get(1) == Some(&from);
        if !as_asked {
            return Err(DropReason::Unsolicited);
        }
        if certificate.valid_until() < now.unix {
            return Err(DropReason::Expired);
        }
        let (destination, max_hops) = (discovery.destination, discovery.max_hops);
        let path = certificate.path.clone();
        self.routes.cache.insert(certificate, now.unix)?;
        // Only a route that can be used ends the search: one priced beyond all money must not keep the rest waiting.
        let first = self
            .discovery
            .own_mut(command)
            .is_some_and(|discovery| !std::mem::replace(&mut discovery.gathering, true));
        self.event(Event::RouteDiscovered { path });
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
        let me = self.node_id();
        if request.path.last() != Some(&previous) || request.path.contains(&me) {
            return Err(DropReason::BadRoute);
        }
        let requester = *request.path.first().ok_or(DropReason::BadRoute)?;
        let max_hops = usize::from(request.max_hops).min(MAX_HOPS);
        if request.path.len() > max_hops {
            return Err(DropReason::BadRoute);
        }
        let missed = request.deadline + CLOCK_SKEW < now.unix;
        if missed || request.deadline > now.unix + DISCOVERY_TIMEOUT + CLOCK_SKEW {
            return Err(DropReason::Expired);
        }
        let is_destination = request.destination == me;
        self.discovery
            .note(requester, request.nonce, previous, is_destination, now.instant)?;
        request.path.push(me);
        if is_destination {
            let expires = now.unix + ROUTE_LIFETIME;
            let certificate =
                RouteCertificate::sign(request.nonce, request.path, self.price, expires, &self.identity);
            return self.send_message(&previous, &ControlMessage::DiscoveryResponse(certificate));
        }
        self.spread(&request);
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
        let previous = *certificate.path.get(place - 1).ok_or(DropReason::BadRoute)?;
        let requester = *certificate.requester().ok_or(DropReason::BadRoute)?;
        if !self.discovery.came_over(requester, certificate.nonce, &previous) {
            return Err(DropReason::Unsolicited);
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
