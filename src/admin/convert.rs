//! From the core's words to those of the admin socket.

use std::collections::BTreeMap;

use mesh_core::event::{Delivery, LinkId, NetworkNode, NetworkPage, QuotedSlice, Refusal, RouteInfo, Status};
use mesh_core::identity::NodeId;
use mesh_core::routing::RoutingCounters;
use mesh_net::{Carrier, CounterSnapshot, Traffic};

use super::backend::{Backend, NodeInfo};
use super::wire::{
    AdminError, DeliveryReply, LinkOver, LinksReply, NetworkNodeReply, NetworkReply, PayeeReply, PeerReply,
    PeersReply, QuoteReply, RouteReply, RoutesReply, RoutingReply, SendReply, StatusReply, Text, codes,
};
use crate::handle::{CommandError, SentPacket};

pub(super) fn status(status: Status, info: &NodeInfo, backend: &dyn Backend) -> StatusReply {
    let named =
        |(reason, count): (mesh_core::drop_reason::DropReason, u64)| (reason.as_str().to_owned(), count);
    StatusReply {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: Text(status.node_id),
        listen_addr: info.listen_addr,
        mode: status.mode,
        price_msat_per_unit: status.price_msat_per_unit,
        refuses_new: status
            .pauses
            .iter()
            .map(|pause| pause.reason().as_str().to_owned())
            .collect(),
        network: info.network.clone(),
        wallet: info.wallet.clone(),
        uptime_seconds: info.started.elapsed().as_secs(),
        peers: status.neighbours.len(),
        peers_over_node: over_node(&status, backend),
        routes: status.routes,
        announced_nodes: status.announced_nodes,
        reachable_nodes: status.reachable_nodes,
        routing: routing(&status.routing),
        sessions: status.sessions,
        own_sessions: status.own_sessions,
        payers_credit_msat: status.payers_credit_msat,
        own_credit_msat: status.own_credit_msat,
        earned_msat: status.earned_msat,
        treasury_owed_msat: status.treasury_owed_msat,
        redeemed_payments: status.redeemed,
        undelivered: backend.undelivered(),
        dropped: status.dropped.into_iter().map(named).collect(),
        links: link_counters(&backend.link_counters()),
    }
}

fn over_node(status: &Status, backend: &dyn Backend) -> usize {
    let over_node = |(_, node): &&(LinkId, NodeId)| backend.link_over(node) == Some(Carrier::Node);
    status.neighbours.iter().filter(over_node).count()
}

fn routing(counters: &RoutingCounters) -> RoutingReply {
    RoutingReply {
        updates: counters.update_frames_sent,
        repeated: counters.repeated,
        routes_told: counters.routes_sent,
        announcements: counters.announcements_sent,
        seqno_requests: counters.requests_sent,
        seqnos_made: counters.seqnos_made,
    }
}

pub(super) fn network(page: NetworkPage) -> NetworkReply {
    let node = |node: NetworkNode| NetworkNodeReply {
        node_id: Text(node.id),
        hops: node.hops,
        cost: node.cost,
        price_msat: node.price.msat_per_unit,
        operator: node.operator.map(Text),
        expires_unix_ms: node.expires.0,
        over: texts(node.over),
        neighbours: node.neighbours.iter().map(|listed| Text(listed.node)).collect(),
    };
    NetworkReply {
        total_nodes: page.total_nodes,
        total_links: page.total_links,
        nodes: page.nodes.into_iter().map(node).collect(),
        next: page.next.map(Text),
    }
}

fn link_counters(links: &CounterSnapshot) -> LinksReply {
    let pair = |traffic: Traffic| (traffic.frames, traffic.bytes);
    let closed: BTreeMap<String, u64> = links
        .closed_by_reason()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.as_str().to_owned(), count))
        .collect();
    LinksReply {
        accepted: links.accepted,
        dialled: links.dialled,
        links_up: links.links_up,
        data_received: pair(links.data_received),
        data_sent: pair(links.data_sent),
        control_received: pair(links.control_received),
        control_sent: pair(links.control_sent),
        data_frames_dropped: links.data_frames_dropped,
        closed,
    }
}

pub(super) fn peers(status: &Status, backend: &dyn Backend) -> PeersReply {
    let peer = |(link, node): &(LinkId, NodeId)| PeerReply {
        node_id: Text(*node),
        link: link.0,
        over: backend.link_over(node).map(LinkOver::from),
    };
    PeersReply {
        peers: status.neighbours.iter().map(peer).collect(),
    }
}

pub(super) fn routes(routes: Vec<RouteInfo>) -> RoutesReply {
    let route = |route: RouteInfo| RouteReply {
        path: texts(route.path),
        msat_per_unit: route.msat_per_unit,
        prices_msat: route.prices.iter().map(|price| price.msat_per_unit).collect(),
        expires_unix_ms: route.expires.0,
    };
    RoutesReply {
        routes: routes.into_iter().map(route).collect(),
    }
}

pub(super) fn quote(slice: QuotedSlice) -> QuoteReply {
    let payee = |payee: mesh_core::event::QuotedPayee| PayeeReply {
        node_id: Text(payee.payee),
        amount_msat: payee.amount_msat,
        treasury_msat: payee.treasury_msat,
        price_msat: payee.price_msat,
        invoice: payee.invoice,
        pay_by_unix_ms: payee.pay_by.0,
        redeem_by_unix_ms: payee.redeem_by.0,
    };
    QuoteReply {
        path: texts(slice.path),
        class: slice.class,
        units: slice.units,
        total_msat: slice.total_msat,
        payees: slice.payees.into_iter().map(payee).collect(),
    }
}

pub(super) fn sent(packet: SentPacket) -> SendReply {
    SendReply {
        packet_id: hex::encode(packet.packet_id),
        session: packet.session.to_string(),
        path: texts(packet.path),
        total_msat: packet.total_msat,
    }
}

pub(super) fn delivery(delivery: &Delivery) -> DeliveryReply {
    DeliveryReply {
        source: delivery.source.map(Text),
        session: delivery.session.to_string(),
        sequence: delivery.sequence,
        packet_id: hex::encode(delivery.packet_id),
        protocol: delivery.protocol_id.clone(),
        payload_hex: hex::encode(&delivery.payload),
    }
}

impl From<CommandError> for AdminError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refusal) => refused(*refusal),
            CommandError::Stopped => Self::new(codes::STOPPED, "the node is stopping", "start it again"),
            CommandError::Busy => Self::new(
                codes::BUSY,
                "the node has too many commands waiting",
                "try again in a moment",
            ),
            CommandError::Unexpected => unexpected(),
        }
    }
}

/// The node's answer does not fit the question.
pub(super) fn unexpected() -> AdminError {
    AdminError::new(
        codes::INTERNAL,
        "the node's answer does not fit the command",
        "please report this",
    )
}

fn refused(refusal: Refusal) -> AdminError {
    let message = match refusal.by {
        Some(node) => format!("node {node} refused: {}", refusal.reason.as_str()),
        None => format!("refused: {}", refusal.reason.as_str()),
    };
    // A cap says by itself what to do.
    let (message, advice) = match refusal.limit {
        Some(limit) => (
            format!("{message}: {limit}"),
            "name a limit of your own (max_total_msat), which asks no cap, or raise the cap in [payments]",
        ),
        None => (message, refusal.reason.advice()),
    };
    AdminError {
        by: refusal.by.map(|node| Box::new(Text(node))),
        missing: texts(refusal.missing),
        ..AdminError::new(refusal.reason.as_str(), message, advice)
    }
}

fn texts(nodes: Vec<NodeId>) -> Vec<Text<NodeId>> {
    nodes.into_iter().map(Text).collect()
}
