//! Sessions that serve more than one packet, and how it is noticed that one of them is dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::event::Event;
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use tokio::sync::broadcast;
use tokio::time::Instant;

/// Sessions remembered for reuse by [`NodeHandle::send_packet`].
const MAX_REUSED_SESSIONS: usize = 1024;

/// How long a session may go without a receipt after a packet before it is taken for dead: the destination signs one
/// within 200 ms. A router that was killed and started again has forgotten the session, and tells nobody, since it can
/// no longer know who is its source.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(5);

/// Sessions that are kept for the next packet to the same destination and of the same class.
pub(crate) struct Reusable {
    routes: BTreeMap<(NodeId, u8), OpenedRoute>,
    events: broadcast::Receiver<Arc<Event>>,
}

impl Reusable {
    pub(crate) fn new(events: broadcast::Receiver<Arc<Event>>) -> Self {
        Self {
            routes: BTreeMap::new(),
            events,
        }
    }

    /// The session to use again, unless nothing is heard of it any more.
    pub(super) fn get(&mut self, key: &(NodeId, u8)) -> Option<OpenedRoute> {
        self.listen();
        let route = self.routes.get(key)?;
        if route
            .silent_since
            .is_some_and(|since| since.elapsed() > RECEIPT_PATIENCE)
        {
            tracing::info!(session = %route.session, "no receipts come: a new session is opened");
            self.routes.remove(key);
            return None;
        }
        Some(route.clone())
    }

    /// The session is worn out.
    pub(super) fn remove(&mut self, key: &(NodeId, u8)) {
        self.routes.remove(key);
    }

    /// Takes in what receipts came meanwhile.
    fn listen(&mut self) {
        use broadcast::error::TryRecvError;
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    if let Event::Receipt(receipt) = event.as_ref() {
                        let mut routes = self.routes.values_mut();
                        if let Some(route) = routes.find(|route| route.session == receipt.session) {
                            route.silent_since = None;
                        }
                    }
                }
                // What was missed may have been receipts: nothing is taken for dead because of it.
                Err(TryRecvError::Lagged(_)) => {
                    for route in self.routes.values_mut() {
                        route.silent_since = None;
                    }
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    pub(super) fn insert(&mut self, key: (NodeId, u8), route: OpenedRoute) {
        if self.routes.len() >= MAX_REUSED_SESSIONS {
            self.routes.pop_first();
        }
        self.routes.insert(key, route);
    }

    /// A packet went out over a session: from now on a receipt is awaited, unless one was already.
    pub(super) fn sent(&mut self, key: &(NodeId, u8), session: SessionId) {
        if let Some(route) = self.routes.get_mut(key)
            && route.session == session
        {
            route.silent_since.get_or_insert_with(Instant::now);
        }
    }
}

/// A session that is kept for the next packet.
#[derive(Debug, Clone)]
pub(crate) struct OpenedRoute {
    pub(super) session: SessionId,
    /// Since when a receipt is awaited.
    pub(super) silent_since: Option<Instant>,
    pub(super) path: Vec<NodeId>,
    pub(super) total_msat: u64,
    pub(super) msat_per_unit: u64,
}
