//! A node that only pretends.

use std::sync::Mutex;

use async_trait::async_trait;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{
    Answer, Command, Delivery, LinkId, NetworkNode, NetworkPage, QuotedPayee, QuotedSlice, Refusal,
    RouteInfo, Status,
};
use mesh_core::fairness::Share;
use mesh_core::fairness::entities::Entity;
use mesh_core::fairness::explain::{Candidate, Diversity, Twice};
use mesh_core::fairness::groups::NetworkGroup;
use mesh_core::fairness::measures::Measures;
use mesh_core::fairness::policy::FairnessPolicy;
use mesh_core::fairness::report::{Report, Row};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::message::Price;
use mesh_core::pause::Pause;
use mesh_core::routing::RoutingCounters;
use mesh_core::routing_policy::{MeshMode, TrafficClass};
use mesh_core::time::UnixMillis;
use mesh_net::memory::MemoryNetwork;
use mesh_net::{Carrier, EndpointConfig, Transport};
use tokio::sync::mpsc;

use super::{HERE, THERE};
use crate::admin::Backend;
use crate::handle::{CommandError, SendRequest, SentPacket};

/// Answers every command from a script of its own and remembers what was sent.
#[derive(Default)]
pub(super) struct FakeNode {
    pub(super) sent: Mutex<Vec<SendRequest>>,
    /// Readers with the protocol each asked for.
    pub(super) readers: Mutex<Vec<(Option<String>, mpsc::Sender<Delivery>)>>,
    pub(super) refuse: Option<DropReason>,
}

#[async_trait]
impl Backend for FakeNode {
    async fn command(&self, command: Command) -> Result<Answer, CommandError> {
        if let Some(reason) = self.refuse {
            let refusal = Refusal {
                by: Some(THERE),
                missing: vec![HERE],
                ..*Refusal::own(reason)
            };
            return Err(CommandError::Refused(Box::new(refusal)));
        }
        Ok(match command {
            Command::Status => Answer::Status(Box::new(status())),
            Command::Routes => Answer::Routes(Vec::new()),
            Command::Discover { destination, .. } => Answer::Routes(vec![route(destination)]),
            Command::Quote {
                path, class, units, ..
            } => Answer::Quoted(Box::new(slice(path, class, units))),
            Command::Network { after, most } => Answer::Network(Box::new(network(after, most))),
            Command::Explain { destination } => Answer::Explained(vec![candidate(destination)]),
            Command::Shares => Answer::Shares(Box::new(report())),
            _ => Answer::Done,
        })
    }

    async fn send_packet(&self, request: SendRequest) -> Result<SentPacket, CommandError> {
        let path = vec![HERE, request.destination];
        self.sent.lock().unwrap().push(request);
        Ok(SentPacket {
            packet_id: [7; 32],
            session: SessionId([8; 16]),
            path,
            total_msat: 9,
            msat_per_unit: 1,
        })
    }

    fn deliveries(&self, protocol: Option<String>) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(8);
        self.readers.lock().unwrap().push((protocol, sender));
        receiver
    }

    fn undelivered(&self) -> u64 {
        3
    }

    fn link_counters(&self) -> mesh_net::CounterSnapshot {
        let (events, _) = mpsc::channel(1);
        let address = "127.0.0.1:1".parse().unwrap();
        MemoryNetwork::new(EndpointConfig::default())
            .join(HERE, address, events)
            .counters()
    }

    fn link_over(&self, neighbour: &NodeId) -> Option<Carrier> {
        (*neighbour == THERE).then_some(Carrier::Node)
    }
}

fn candidate(destination: NodeId) -> Candidate {
    Candidate {
        path: vec![HERE, THERE, destination],
        quoted: true,
        fee_msat: 1,
        failures_msat: 2,
        latency_msat: 3,
        concentration_msat: 4,
        hysteresis_msat: 5,
        score_msat: 6,
        excluded: true,
        diversity: Diversity::Relaxed(Twice::Group(NetworkGroup::Asn(7))),
        chosen: true,
    }
}

fn report() -> Report {
    let share = Share {
        observed_ppm: 400_000,
        unavoidable_ppm: 100_000,
        forced_ppm: 20_000,
    };
    Report {
        policy: FairnessPolicy::default(),
        by_fees: Measures::of([4, 6]),
        by_units: Measures::of([1]),
        usual_msat: 9,
        entities: vec![Row {
            who: Entity(THERE),
            nodes: 2,
            share,
            by_units: Share::default(),
            surcharge_msat: 10,
            excluded: true,
        }],
        groups: vec![Row {
            who: NetworkGroup::V4([203, 0]),
            nodes: 3,
            share,
            by_units: Share::default(),
            surcharge_msat: 0,
            excluded: false,
        }],
    }
}

fn status() -> Status {
    Status {
        node_id: HERE,
        mode: MeshMode::Open,
        price_msat_per_unit: 1,
        pauses: vec![Pause::DiskLow],
        neighbours: vec![(LinkId(5), THERE)],
        routes: 1,
        announced_nodes: 11,
        reachable_nodes: 10,
        routing: RoutingCounters {
            routes_sent: [12, 13],
            ..RoutingCounters::default()
        },
        sessions: 2,
        own_sessions: 3,
        payers_credit_msat: 4,
        own_credit_msat: 5,
        earned_msat: 6,
        treasury_owed_msat: 7,
        redeemed: 8,
        dropped: vec![(DropReason::BadTag, 9)],
    }
}

fn network(after: Option<NodeId>, most: usize) -> NetworkPage {
    let node = NetworkNode {
        id: THERE,
        price: Price {
            msat_per_unit: 21,
            payable: true,
        },
        operator: None,
        expires: UnixMillis(1234),
        neighbours: Vec::new(),
        hops: Some(1),
        cost: Some(most as u32),
        over: vec![THERE],
    };
    NetworkPage {
        total_nodes: 2,
        total_links: 1,
        nodes: vec![node],
        next: after.is_none().then_some(THERE),
    }
}

fn route(destination: NodeId) -> RouteInfo {
    RouteInfo {
        path: vec![HERE, destination],
        prices: vec![Price {
            msat_per_unit: 10,
            payable: true,
        }],
        msat_per_unit: 17,
        expires: UnixMillis(1234),
    }
}

fn slice(path: Vec<NodeId>, class: TrafficClass, units: u64) -> QuotedSlice {
    let payee = QuotedPayee {
        payee: THERE,
        amount_msat: 900,
        treasury_msat: 100,
        price_msat: 10,
        invoice: Some("lnbcrt1".into()),
        output: None,
        pay_by: UnixMillis(1),
        redeem_by: UnixMillis(2),
    };
    QuotedSlice {
        id: [0; 16],
        path,
        class,
        units,
        method: Default::default(),
        total_msat: 900,
        payees: vec![payee],
    }
}
