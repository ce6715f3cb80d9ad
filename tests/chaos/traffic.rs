//! Who pays whom: several payers at a time, each purchase as large as one packet uses up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use blvm_mesh::admin::{AdminClient, ClientError, Request, SendParams, SendReply, Text};
use mesh_core::identity::NodeId;
use mesh_core::routing_policy::TrafficClass;
use tokio::task::JoinSet;

use super::{NODES, Random};
use crate::common::lightning::Node;

/// Payers at a time.
const DRIVERS: usize = 3;

/// How long a payer whose daemon is dead, or knows no way, waits before the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest time without a new session before the run is given up.
const STANDSTILL: Duration = Duration::from_secs(300);

/// A payload that uses up most of what one purchase buys, and costs less than a crash may.
const PAYLOAD_BYTES: usize = 240 * 1024;

pub struct Traffic {
    sessions: Arc<AtomicUsize>,
    wanted: usize,
    given_up: Arc<AtomicBool>,
    drivers: JoinSet<Sent>,
}

/// What the payers saw.
#[derive(Default)]
pub struct Sent {
    pub sessions: usize,
    seen: BTreeSet<String>,
    attempts: usize,
    /// Sends that came to nothing: their packets may have been spent for and lost on the way.
    pub failures: usize,
    refusals: BTreeMap<String, usize>,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sessions in {} sends, refused: {:?}",
            self.sessions, self.attempts, self.refusals
        )
    }
}

impl Traffic {
    pub fn start(nodes: &[Node], wanted: usize, seed: u64) -> Self {
        let sockets: Arc<Vec<(PathBuf, NodeId)>> = Arc::new(
            nodes
                .iter()
                .map(|node| (node.home.path().join("admin.sock"), node.id))
                .collect(),
        );
        let sessions = Arc::new(AtomicUsize::new(0));
        let given_up = Arc::new(AtomicBool::new(false));
        let mut drivers = JoinSet::new();
        for number in 0..DRIVERS {
            let random = Random(seed ^ (number as u64 + 1) << 32);
            let (sockets, sessions) = (sockets.clone(), sessions.clone());
            let given_up = given_up.clone();
            drivers.spawn(drive(sockets, random, sessions, wanted, given_up));
        }
        Self {
            sessions,
            wanted,
            given_up,
            drivers,
        }
    }

    pub fn goes_on(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) < self.wanted && !self.given_up.load(Ordering::Relaxed)
    }

    pub fn so_far(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub async fn finish(self) -> Sent {
        let mut sent = Sent::default();
        for one in self.drivers.join_all().await {
            sent.attempts += one.attempts;
            sent.failures += one.failures;
            for (reason, count) in one.refusals {
                *sent.refusals.entry(reason).or_default() += count;
            }
        }
        sent.sessions = self.sessions.load(Ordering::Relaxed);
        sent
    }
}

async fn drive(
    nodes: Arc<Vec<(PathBuf, NodeId)>>,
    mut random: Random,
    sessions: Arc<AtomicUsize>,
    wanted: usize,
    given_up: Arc<AtomicBool>,
) -> Sent {
    let mut sent = Sent::default();
    let mut last = std::time::Instant::now();
    while sessions.load(Ordering::Relaxed) < wanted && !given_up.load(Ordering::Relaxed) {
        let payer = random.below(NODES);
        let payee = (payer + 1 + random.below(NODES - 1)) % NODES;
        sent.attempts += 1;
        match send(&nodes[payer].0, nodes[payee].1).await {
            Ok(reply) => {
                last = std::time::Instant::now();
                if sent.seen.insert(reply.session) {
                    sessions.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => {
                let reason = match error {
                    ClientError::Refused(refused) => refused.code,
                    _ => "killed".to_owned(),
                };
                *sent.refusals.entry(reason).or_default() += 1;
                sent.failures += 1;
                if last.elapsed() > STANDSTILL {
                    given_up.store(true, Ordering::Relaxed);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    sent
}

async fn send(socket: &std::path::Path, to: NodeId) -> Result<SendReply, ClientError> {
    let mut client = AdminClient::connect(socket).await?;
    let params = SendParams {
        destination: Text(to),
        payload_hex: "5a".repeat(PAYLOAD_BYTES),
        protocol: "chaos".to_owned(),
        class: TrafficClass::Paid,
        ttl_ms: 30_000,
        max_hops: 10,
        timeout_ms: 3_000,
        max_total_msat: Some(u64::MAX >> 16),
        max_fee_msat: Some(1_000_000),
    };
    client.call(&Request::Send(params)).await
}
