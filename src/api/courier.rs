//! The desk's hands: takes in what arrives at the node and calls handlers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mesh_api::CallError;
use mesh_core::event::Delivery;
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinSet};

use super::client::Client;
use super::desk::{Desk, Outcome, Push};
use crate::handle::{NodeHandle, lock};

/// How long a handler may take. The next packet of its protocol waits for it.
const HANDLING_TIME: Duration = Duration::from_secs(10);

/// Pushes under way to all owners together: as many as a host's slowest half of modules may hold up.
const MAX_PUSHES: usize = 64;

/// Packets taken in at a time before pushes are looked after.
const ARRIVALS_PER_TURN: usize = 64;

/// Calls modules of the host: how what arrives reaches a module that registered a handler.
#[async_trait]
pub trait ModuleCalls: Send + Sync {
    /// Calls `method` of the module of that name. An answer, whatever is in it, says that the packet was handled.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] if the module was not reached: it is tried again for long.
    /// [`CallError::Refused`] if it, or the host for it, answered an error: it is tried again twice.
    async fn call_module(&self, module: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError>;
}

/// A connection over which a client takes what arrives for it.
#[async_trait]
pub(crate) trait Door: Send + Sync {
    /// Hands over a packet and waits until the client says what became of it.
    async fn hand_over(&self, method: &str, delivery: mesh_api::Delivery) -> Result<(), CallError>;
}

#[derive(Clone)]
enum Way {
    Host(Arc<dyn ModuleCalls>, String),
    Door(Arc<dyn Door>),
}

/// An open door and its number.
type NumberedDoor = (u64, Arc<dyn Door>);

/// Where owners can be reached.
#[derive(Default)]
struct Ways {
    host: Option<Arc<dyn ModuleCalls>>,
    /// Of each client the newest last.
    doors: BTreeMap<Client, Vec<NumberedDoor>>,
    numbers: u64,
}

impl Ways {
    fn to(&self, client: &Client) -> Option<Way> {
        if let Some(module) = client.module_name() {
            let host = self.host.clone()?;
            return Some(Way::Host(host, module.as_str().to_owned()));
        }
        let (_, newest) = self.doors.get(client)?.last()?;
        Some(Way::Door(newest.clone()))
    }

    fn reaches(&self, client: &Client) -> bool {
        match client.module_name() {
            Some(_) => self.host.is_some(),
            None => self.doors.contains_key(client),
        }
    }
}

/// The desk, and where its owners are: shared by the API and the courier.
pub(super) struct Front {
    pub(super) desk: Mutex<Desk>,
    ways: Mutex<Ways>,
    /// Something may be pushed that could not before.
    wake: Notify,
    /// Something arrived.
    pub(super) arrivals: Notify,
}

impl Front {
    pub(super) fn new(desk: Desk) -> Self {
        Self {
            desk: Mutex::new(desk),
            ways: Mutex::default(),
            wake: Notify::new(),
            arrivals: Notify::new(),
        }
    }

    pub(super) fn call_modules_through(&self, host: Arc<dyn ModuleCalls>) {
        lock(&self.ways).host = Some(host);
        self.wake.notify_one();
    }

    /// A client takes what arrives for it over this connection, until the guard is dropped.
    pub(super) fn open_door(self: &Arc<Self>, client: Client, door: Arc<dyn Door>) -> OpenDoor {
        let number = {
            let mut ways = lock(&self.ways);
            ways.numbers += 1;
            let number = ways.numbers;
            ways.doors.entry(client.clone()).or_default().push((number, door));
            number
        };
        lock(&self.desk).heard_of(Instant::now(), &client);
        self.wake.notify_one();
        OpenDoor {
            front: self.clone(),
            client,
            number,
        }
    }

    /// A client called.
    pub(super) fn heard_of(&self, client: &Client) {
        if lock(&self.desk).heard_of(Instant::now(), client) {
            self.wake.notify_one();
        }
    }

    /// Something else changed that the courier cannot see.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn next_push(&self, now: Instant) -> Option<(Push, Way)> {
        let ways = lock(&self.ways);
        let push = lock(&self.desk).next_push(now, |client| ways.reaches(client))?;
        let way = ways.to(&push.owner);
        drop(ways);
        if way.is_none() {
            lock(&self.desk).pushed(now, &push, Outcome::Unreachable);
        }
        Some((push, way?))
    }

    fn next_moment(&self, now: Instant) -> Option<Instant> {
        let ways = lock(&self.ways);
        lock(&self.desk).next_moment(now, |client| ways.reaches(client))
    }

    fn take_in(&self, node: &NodeHandle, arrived: impl Iterator<Item = Delivery>) {
        let now = Instant::now();
        let mut desk = lock(&self.desk);
        for delivery in arrived {
            if !desk.arrived(now, delivery) {
                node.count_undelivered();
            }
        }
        drop(desk);
        self.arrivals.notify_waiters();
    }
}

/// An open connection for deliveries; closed when dropped.
pub(crate) struct OpenDoor {
    front: Arc<Front>,
    client: Client,
    number: u64,
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        let mut ways = lock(&self.front.ways);
        if let Some(doors) = ways.doors.get_mut(&self.client) {
            doors.retain(|(number, _)| *number != self.number);
            if doors.is_empty() {
                ways.doors.remove(&self.client);
            }
        }
    }
}

/// Takes in and pushes out until the node stops.
pub(super) async fn run(front: Arc<Front>, node: NodeHandle, mut arrivals: mpsc::Receiver<Delivery>) {
    let mut pushes: JoinSet<Outcome> = JoinSet::new();
    let mut under_way: HashMap<Id, Arc<Push>> = HashMap::new();
    let mut some = Vec::with_capacity(ARRIVALS_PER_TURN);
    loop {
        let now = Instant::now();
        while pushes.len() < MAX_PUSHES
            && let Some((push, way)) = front.next_push(now)
        {
            let push = Arc::new(push);
            let task = pushes.spawn(hand_over(push.clone(), way));
            under_way.insert(task.id(), push);
        }
        let next = front.next_moment(now).unwrap_or(now + Duration::from_secs(3600));
        tokio::select! {
            taken = arrivals.recv_many(&mut some, ARRIVALS_PER_TURN) => {
                if taken == 0 {
                    return;
                }
                front.take_in(&node, some.drain(..));
            }
            Some(ended) = pushes.join_next_with_id() => {
                let (task, outcome) = match ended {
                    Ok(ended) => ended,
                    // A host's carrier that panics must not keep a protocol waiting for its answer for ever.
                    Err(error) => (error.id(), Outcome::Failed),
                };
                if let Some(push) = under_way.remove(&task) {
                    lock(&front.desk).pushed(Instant::now(), &push, outcome);
                }
            }
            () = front.wake.notified() => {}
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
}

async fn hand_over(push: Arc<Push>, way: Way) -> Outcome {
    let delivery = wire_delivery(push.delivery.clone());
    let handed = async {
        match way {
            Way::Door(door) => door.hand_over(&push.method, delivery).await,
            Way::Host(host, module) => {
                let payload = mesh_api::encode(&delivery).map_err(super::refused)?;
                host.call_module(&module, &push.method, payload).await.map(drop)
            }
        }
    };
    match tokio::time::timeout(HANDLING_TIME, handed).await {
        Ok(Ok(())) => Outcome::Handled,
        Ok(Err(CallError::Unreachable { reason })) => {
            tracing::debug!(owner = %push.owner, protocol = ?push.protocol, reason, "owner not reached; its packet waits");
            Outcome::Unreachable
        }
        Ok(Err(CallError::Refused { reason })) => {
            tracing::warn!(owner = %push.owner, protocol = ?push.protocol, method = ?push.method, reason, "the handler did not take a packet");
            Outcome::Failed
        }
        Err(_) => {
            tracing::warn!(owner = %push.owner, protocol = ?push.protocol, method = ?push.method, waited = ?HANDLING_TIME, "the handler did not answer; it may be given the packet again");
            Outcome::Failed
        }
    }
}

/// A packet in the words of the API.
pub(super) fn wire_delivery(delivery: Delivery) -> mesh_api::Delivery {
    mesh_api::Delivery {
        source: delivery.source.map(|source| source.0),
        protocol_id: Some(delivery.protocol_id).filter(|protocol| !protocol.is_empty()),
        payload: delivery.payload.into(),
        packet_id: delivery.packet_id,
        session_id: delivery.session.0,
        sequence: delivery.sequence,
    }
}
