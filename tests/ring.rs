//! A ring of five daemons: routers in use are killed, and one is stopped so that it takes packets and carries none.
//! Whoever sends notices nothing but the packets that were under way.
// In a test a panic is the report, and the times are printed for whoever wants to know them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use blvm_mesh::admin::{AdminClient, ClientError, ListenParams, Request, SendParams, SendReply, Text};
use common::daemons::{Daemon, Home, PATIENCE};
use mesh_core::identity::NodeId;
use mesh_core::routing_policy::TrafficClass;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Two hundred packets a second.
const PACE: Duration = Duration::from_millis(5);

/// A, B, C, D, E, each dialling the one before it, and E dialling A.
struct Ring {
    homes: Vec<Home>,
    daemons: Vec<Option<Daemon>>,
    ids: Vec<NodeId>,
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;
const E: usize = 4;

impl Ring {
    async fn start() -> Self {
        let homes: Vec<Home> = (0..5).map(|_| Home::new()).collect();
        let mut ring = Self {
            homes,
            daemons: Vec::new(),
            ids: Vec::new(),
        };
        for node in [A, B, C, D, E] {
            ring.homes[node].configure("127.0.0.1:0", &ring.before(node));
            let daemon = Daemon::start(&ring.homes[node]).await;
            ring.ids.push(daemon.node_id.parse().unwrap());
            ring.daemons.push(Some(daemon));
        }
        for home in &ring.homes {
            home.wait_for_peers(2).await;
        }
        ring
    }

    fn daemon(&self, node: usize) -> &Daemon {
        self.daemons[node].as_ref().unwrap()
    }

    async fn client(&self, node: usize) -> AdminClient {
        let socket = self.homes[node].path().join("admin.sock");
        AdminClient::connect(&socket).await.unwrap()
    }

    /// `kill -9`.
    async fn kill(&mut self, node: usize) {
        let daemon = self.daemons[node].take().unwrap();
        // The same port again, as a configured node has.
        self.homes[node].configure(&daemon.listen_addr, &self.before(node));
        daemon.kill().await;
    }

    async fn start_again(&mut self, node: usize) {
        self.daemons[node] = Some(Daemon::start(&self.homes[node]).await);
        self.homes[node].wait_for_peers(2).await;
    }

    /// Whom a node dials, of those that run.
    fn before(&self, node: usize) -> Vec<&Daemon> {
        let dialled: &[usize] = match node {
            A => &[],
            E => &[D, A],
            _ => &[node - 1],
        };
        let running = dialled.iter().filter_map(|node| self.daemons[*node].as_ref());
        running.collect()
    }

    fn path(&self, over: &[usize]) -> Vec<NodeId> {
        over.iter().map(|node| self.ids[*node]).collect()
    }
}

/// What the two ends of a stream see.
enum Seen {
    /// A packet went out over this route.
    Sent(u64, Vec<NodeId>),
    /// A packet was refused.
    Refused(String),
    /// A packet arrived.
    Arrived(u64, Instant),
}

/// Numbered packets from A to C, as long as this lives.
struct Stream {
    seen: mpsc::UnboundedReceiver<Seen>,
    /// Ended with the stream.
    _ends: JoinSet<()>,
    routes: BTreeMap<u64, Vec<NodeId>>,
    arrivals: BTreeMap<u64, Instant>,
    refused: Vec<String>,
}

impl Stream {
    async fn from_a_to_c(ring: &Ring) -> Self {
        let (events, seen) = mpsc::unbounded_channel();
        let mut listener = ring.client(C).await;
        listener.listen(ListenParams { protocol: None }).await.unwrap();
        let sender = ring.client(A).await;
        let mut ends = JoinSet::new();
        ends.spawn(listen(listener, events.clone()));
        ends.spawn(send(sender, ring.ids[C], events));
        Self {
            seen,
            _ends: ends,
            routes: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            refused: Vec::new(),
        }
    }

    async fn look(&mut self) {
        let seen = timeout(PATIENCE, self.seen.recv()).await;
        match seen.expect("something happens").expect("both ends go on") {
            Seen::Sent(number, route) => {
                self.routes.insert(number, route);
            }
            Seen::Arrived(number, at) => {
                self.arrivals.insert(number, at);
            }
            Seen::Refused(why) => self.refused.push(why),
        }
    }

    /// When the first packet after `since` arrived over this route, of twenty that did.
    async fn arrives_over(&mut self, route: &[NodeId], since: Instant) -> Instant {
        let flows = timeout(PATIENCE, async {
            loop {
                let over_it = self.arrivals.iter().filter(|(number, at)| {
                    **at > since && self.routes.get(number).is_some_and(|taken| taken == route)
                });
                let over_it: Vec<Instant> = over_it.map(|(_, at)| *at).collect();
                if over_it.len() >= 20 {
                    return over_it[0];
                }
                self.look().await;
            }
        });
        let flows = flows.await;
        flows.unwrap_or_else(|_| panic!("packets take the other way; refused: {:?}", self.refused))
    }

    /// Says what the break cost.
    async fn report(&mut self, what: &str, broke_at: Instant, first: Instant) {
        let last_arrived = self.arrivals.keys().next_back().copied().unwrap_or_default();
        while self
            .routes
            .keys()
            .next_back()
            .is_none_or(|sent| *sent < last_arrived)
        {
            self.look().await;
        }
        let lost = self
            .routes
            .range(..last_arrived)
            .filter(|(number, _)| !self.arrivals.contains_key(number));
        println!(
            "{what}: first delivery over the other way after {} ms; so far {} packets sent, {} lost, {} refused",
            (first - broke_at).as_millis(),
            self.routes.len(),
            lost.count(),
            self.refused.len(),
        );
    }
}

async fn listen(mut listener: AdminClient, events: mpsc::UnboundedSender<Seen>) {
    while let Ok(Some(delivery)) = listener.next_delivery().await {
        let number = u64::from_str_radix(&delivery.payload_hex, 16).unwrap();
        if events.send(Seen::Arrived(number, Instant::now())).is_err() {
            return;
        }
    }
}

async fn send(mut sender: AdminClient, destination: NodeId, events: mpsc::UnboundedSender<Seen>) {
    let mut pace = tokio::time::interval(PACE);
    for number in 0.. {
        pace.tick().await;
        let sent: Result<SendReply, ClientError> = sender.call(&packet(destination, number)).await;
        let seen = match sent {
            Ok(reply) => Seen::Sent(number, reply.path.iter().map(|node| node.0).collect()),
            Err(refused @ ClientError::Refused(_)) => Seen::Refused(refused.to_string()),
            Err(error) => panic!("{error}"),
        };
        if events.send(seen).is_err() {
            return;
        }
    }
}

fn packet(destination: NodeId, number: u64) -> Request {
    Request::Send(SendParams {
        destination: Text(destination),
        payload_hex: format!("{number:016x}"),
        protocol: String::new(),
        class: TrafficClass::Open,
        ttl_ms: 10_000,
        max_hops: 10,
        timeout_ms: 2_000,
        max_total_msat: None,
        max_fee_msat: None,
    })
}

#[tokio::test]
async fn traffic_goes_on_over_the_other_side_when_the_router_in_use_is_killed() {
    let mut ring = Ring::start().await;
    let (short, long) = (ring.path(&[A, B, C]), ring.path(&[A, E, D, C]));
    let mut stream = Stream::from_a_to_c(&ring).await;
    stream.arrives_over(&short, Instant::now()).await;

    let killed = Instant::now();
    ring.kill(B).await;
    let first = stream.arrives_over(&long, killed).await;
    stream.report("first router killed", killed, first).await;

    // B comes back; then a router that is nobody's neighbour at the source dies, and the hop before it has to say so.
    ring.start_again(B).await;
    let killed = Instant::now();
    ring.kill(D).await;
    let first = stream.arrives_over(&short, killed).await;
    stream.report("second router killed", killed, first).await;
}

#[tokio::test]
async fn traffic_goes_on_over_the_other_side_when_the_router_in_use_takes_packets_and_carries_none() {
    let ring = Ring::start().await;
    let (short, long) = (ring.path(&[A, B, C]), ring.path(&[A, E, D, C]));
    let mut stream = Stream::from_a_to_c(&ring).await;
    stream.arrives_over(&short, Instant::now()).await;

    let stopped = Instant::now();
    ring.daemon(B).signal("-STOP").await;
    let first = stream.arrives_over(&long, stopped).await;
    stream.report("first router stopped", stopped, first).await;
}
