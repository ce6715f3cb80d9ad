//! The desk's hands: takes in what arrives at the node and calls handlers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mesh_api::CallError;
use mesh_core::event::Delivery;
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinSet};

use super::client::Client;
use super::desk::{DeliveryCounters, Desk, Outcome, Push};
use super::journal::Journal;
use crate::handle::{NodeHandle, lock};

/// How long a handler may take. The next packet of its protocol waits for it.
const HANDLING_TIME: Duration = Duration::from_secs(10);

/// Pushes under way to all owners together: as many as a host's slowest half of modules may hold up.
const MAX_PUSHES: usize = 64;

/// How long pushes under way are waited for when the node stops: what is not answered by then is pushed again at the next start.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long after a protocol was wanted of a silent module the host is asked whether that runs. While a node loads a module
/// again, which is when modules register, a question about modules stops it for good; loading takes a second.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// How long the host may take for its answer.
const ASKING_TIME: Duration = Duration::from_secs(5);

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

    /// Whether a module of that name runs; `None` when the host does not say.
    async fn is_running(&self, module: &str) -> Option<bool> {
        let _ = module;
        None
    }
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
    desk: Mutex<Desk>,
    journal: Journal,
    ways: Mutex<Ways>,
    /// Something may be pushed that could not before.
    wake: Notify,
    /// Something arrived.
    pub(super) arrivals: Notify,
    /// The node stops.
    stop: Notify,
    /// The host is being asked about a module: one question at a time.
    asking: AtomicBool,
}

impl Front {
    pub(super) fn new(desk: Desk, journal: Journal) -> Self {
        Self {
            desk: Mutex::new(desk),
            journal,
            ways: Mutex::default(),
            wake: Notify::new(),
            arrivals: Notify::new(),
            stop: Notify::new(),
            asking: AtomicBool::new(false),
        }
    }

    /// Does something at the desk, and notes what is to be written down of it before anybody else comes to the desk.
    pub(super) fn desk<R>(&self, act: impl FnOnce(&mut Desk) -> R) -> R {
        let mut desk = lock(&self.desk);
        let result = act(&mut desk);
        self.journal.note(desk.take_moves(), desk.arrivals());
        result
    }

    /// What became of what arrived.
    pub(super) fn counters(&self) -> DeliveryCounters {
        DeliveryCounters {
            on_disk: self.journal.on_disk(),
            ..lock(&self.desk).counters()
        }
    }

    /// Has the courier end once it has taken in what arrived.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
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
        self.desk(|desk| desk.heard_of(Instant::now(), &client));
        self.wake.notify_one();
        OpenDoor {
            front: self.clone(),
            client,
            number,
        }
    }

    /// A client called.
    pub(super) fn heard_of(&self, client: &Client) {
        if self.desk(|desk| desk.heard_of(Instant::now(), client)) {
            self.wake.notify_one();
        }
    }

    /// Somebody wants a protocol: if its silent owner has an open connection, that is as good as a word of it. About a silent
    /// module the host is asked, later and beside this; what it answers counts for whoever asks next.
    pub(super) fn look_for_owner(self: &Arc<Self>, now: Instant, client: &Client, protocol: &str) {
        let Some(owner) = self.desk(|desk| desk.silent_owner(now, protocol).cloned()) else {
            return;
        };
        if owner == *client {
            return;
        }
        let Some(module) = owner.module_name() else {
            if lock(&self.ways).doors.contains_key(&owner) {
                self.desk(|desk| desk.heard_of(now, &owner));
            }
            return;
        };
        let Some(host) = lock(&self.ways).host.clone() else {
            return;
        };
        if self.asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (front, module, owner) = (self.clone(), module.as_str().to_owned(), owner.clone());
        tokio::spawn(async move {
            tokio::time::sleep(ASK_AFTER).await;
            let answer = tokio::time::timeout(ASKING_TIME, host.is_running(&module)).await;
            match answer {
                Ok(Some(true)) => front.heard_of(&owner),
                Ok(Some(false)) => front.desk(|desk| desk.is_gone(&owner)),
                // Nothing is known, and what is not known to be gone keeps what it has.
                Ok(None) | Err(_) => {}
            }
            front.asking.store(false, Ordering::Relaxed);
        });
    }

    /// Something else changed that the courier cannot see.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn next_push(&self, now: Instant) -> Option<(Push, Way)> {
        let ways = lock(&self.ways);
        let push = self.desk(|desk| desk.next_push(now, |client| ways.reaches(client)))?;
        let way = ways.to(&push.owner);
        drop(ways);
        if way.is_none() {
            self.desk(|desk| desk.pushed(now, &push, Outcome::Unreachable));
        }
        Some((push, way?))
    }

    fn next_moment(&self, now: Instant) -> Option<Instant> {
        let ways = lock(&self.ways);
        self.desk(|desk| desk.next_moment(now, |client| ways.reaches(client)))
    }

    fn take_in(&self, node: &NodeHandle, arrived: impl Iterator<Item = Delivery>) {
        let now = Instant::now();
        self.desk(|desk| {
            for delivery in arrived {
                if !desk.arrived(now, delivery) {
                    node.count_undelivered();
                }
            }
        });
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

/// The packets that are on their way to handlers.
#[derive(Default)]
struct Pushes {
    tasks: JoinSet<Outcome>,
    under_way: HashMap<Id, Arc<Push>>,
}

impl Pushes {
    fn begin(&mut self, push: Push, way: Way) {
        let push = Arc::new(push);
        let task = self.tasks.spawn(hand_over(push.clone(), way));
        self.under_way.insert(task.id(), push);
    }

    /// The next that ends; none when there are none.
    async fn ended(&mut self) -> Option<(Arc<Push>, Outcome)> {
        let (task, outcome) = match self.tasks.join_next_with_id().await? {
            Ok(ended) => ended,
            // A host's carrier that panics must not keep a protocol waiting for its answer for ever.
            Err(error) => (error.id(), Outcome::Failed),
        };
        Some((self.under_way.remove(&task)?, outcome))
    }
}

/// Takes in and pushes out until the node stops.
pub(super) async fn run(front: Arc<Front>, node: NodeHandle, mut arrivals: mpsc::Receiver<Delivery>) {
    let mut pushes = Pushes::default();
    let mut some = Vec::with_capacity(ARRIVALS_PER_TURN);
    loop {
        let now = Instant::now();
        while pushes.tasks.len() < MAX_PUSHES
            && let Some((push, way)) = front.next_push(now)
        {
            pushes.begin(push, way);
        }
        let next = front.next_moment(now).unwrap_or(now + Duration::from_secs(3600));
        tokio::select! {
            taken = arrivals.recv_many(&mut some, ARRIVALS_PER_TURN) => {
                if taken == 0 {
                    break;
                }
                front.take_in(&node, some.drain(..));
            }
            Some((push, outcome)) = pushes.ended() => {
                front.desk(|desk| desk.pushed(Instant::now(), &push, outcome));
            }
            () = front.wake.notified() => {}
            () = front.stop.notified() => break,
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
    front.take_in(&node, std::iter::from_fn(|| arrivals.try_recv().ok()));
    let last = async {
        while let Some((push, outcome)) = pushes.ended().await {
            front.desk(|desk| desk.pushed(Instant::now(), &push, outcome));
        }
    };
    // Those that take longer are pushed again at the next start.
    let _ = tokio::time::timeout(LAST_ANSWERS, last).await;
    front.desk(Desk::close);
    front.journal.close().await;
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

#[cfg(test)]
mod tests;
