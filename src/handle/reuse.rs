//! Sessions that serve more than one packet, until the core says that one of them is broken, silent or closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::Event;
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::spending::Caller;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;

/// Sessions remembered for reuse by [`NodeHandle::send_packet`](super::NodeHandle::send_packet).
const MAX_REUSED_SESSIONS: usize = 1024;

/// By whose auto-pay, to whom, and of which class.
pub(super) type SessionKey = (Option<Caller>, NodeId, u8);

/// Sessions that are kept for the next packet of the same caller to the same destination and of the same class.
pub(crate) struct Reusable {
    routes: BTreeMap<SessionKey, OpenedRoute>,
    events: broadcast::Receiver<Arc<Event>>,
    /// Broken and silent ones that the core still keeps.
    to_close: Vec<SessionId>,
}

impl Reusable {
    pub(crate) fn new(events: broadcast::Receiver<Arc<Event>>) -> Self {
        Self {
            routes: BTreeMap::new(),
            events,
            to_close: Vec::new(),
        }
    }

    /// The session to use again, unless it is known to carry nothing any more.
    pub(super) fn get(&mut self, key: &SessionKey) -> Option<OpenedRoute> {
        self.listen();
        self.routes.get(key).cloned()
    }

    /// The session is worn out.
    pub(super) fn remove(&mut self, session: SessionId) {
        self.routes.retain(|_, route| route.session != session);
    }

    /// Takes in what became of sessions meanwhile.
    fn listen(&mut self) {
        loop {
            match self.events.try_recv() {
                Ok(event) => {
                    self.follow(&event);
                    if let Some((session, why)) = ended(&event)
                        && self.routes.values().any(|route| route.session == session)
                    {
                        tracing::info!(%session, why, "the next packet takes another session");
                        self.remove(session);
                        if !matches!(event.as_ref(), Event::SessionClosed { .. }) {
                            self.to_close.push(session);
                        }
                    }
                }
                // What was missed is said again: the core refuses what is silent or closed, and the hop before a broken
                // link refuses the next packet.
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// A session that is kept funded goes on over another route, at another price.
    fn follow(&mut self, event: &Event) {
        let Event::SessionContinued {
            session,
            path,
            msat_per_unit,
            ..
        } = event
        else {
            return;
        };
        let continued = self.routes.values_mut().filter(|route| route.session == *session);
        for route in continued {
            route.path.clone_from(path);
            route.msat_per_unit = *msat_per_unit;
        }
    }

    /// Sessions that nobody will use again: the core has room for so many only.
    pub(super) fn take_to_close(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.to_close)
    }

    pub(super) fn insert(&mut self, key: SessionKey, route: OpenedRoute) {
        if self.routes.len() >= MAX_REUSED_SESSIONS {
            self.routes.pop_first();
        }
        self.routes.insert(key, route);
    }
}

/// The session that an event says the next packet had better not take, and why.
fn ended(event: &Event) -> Option<(SessionId, &'static str)> {
    match event {
        Event::HopRefused { session, refusal, .. }
            if matches!(
                refusal.reason,
                DropReason::NextHopGone | DropReason::UnknownSession
            ) =>
        {
            Some((*session, refusal.reason.as_str()))
        }
        Event::SessionSilent { session, .. } => Some((*session, DropReason::SessionSilent.as_str())),
        Event::SessionClosed { session } => Some((*session, "closed")),
        _ => None,
    }
}

/// A session that is kept for the next packet.
#[derive(Debug, Clone)]
pub(crate) struct OpenedRoute {
    pub(super) session: SessionId,
    pub(super) path: Vec<NodeId>,
    pub(super) total_msat: u64,
    pub(super) msat_per_unit: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::open::HopRefusal;

    const KEY: SessionKey = (None, NodeId([9; 32]), 0);

    fn route(session: u8) -> OpenedRoute {
        OpenedRoute {
            session: SessionId([session; 16]),
            path: Vec::new(),
            total_msat: 0,
            msat_per_unit: 0,
        }
    }

    fn refused(reason: DropReason) -> Event {
        Event::HopRefused {
            session: SessionId([1; 16]),
            hop: NodeId([2; 32]),
            refusal: HopRefusal {
                reason,
                credit_msat: 0,
            },
        }
    }

    fn is_reused_after(event: Event) -> bool {
        let (events, receiver) = broadcast::channel(8);
        let mut sessions = Reusable::new(receiver);
        sessions.insert(KEY, route(1));
        sessions.insert((None, NodeId([8; 32]), 0), route(2));
        let closes_itself = matches!(event, Event::SessionClosed { .. });
        events.send(Arc::new(event)).unwrap();
        let reused = sessions.get(&KEY).is_some();
        let to_close = sessions.take_to_close();
        assert_eq!(to_close.is_empty(), reused || closes_itself);
        assert!(
            sessions.get(&(None, NodeId([8; 32]), 0)).is_some(),
            "others are not concerned"
        );
        reused
    }

    #[test]
    fn session_that_is_broken_silent_or_closed_is_not_used_again() {
        let session = SessionId([1; 16]);
        let path = Vec::new();
        assert!(!is_reused_after(refused(DropReason::NextHopGone)));
        assert!(!is_reused_after(refused(DropReason::UnknownSession)));
        assert!(!is_reused_after(Event::SessionSilent { session, path }));
        assert!(!is_reused_after(Event::SessionClosed { session }));
        assert!(is_reused_after(refused(DropReason::FreeQuotaSpent)));
    }

    #[test]
    fn session_that_goes_on_over_another_route_says_so_and_at_what_price() {
        let (events, receiver) = broadcast::channel(8);
        let mut sessions = Reusable::new(receiver);
        sessions.insert(KEY, route(1));
        let path = vec![NodeId([1; 32]), NodeId([2; 32]), NodeId([9; 32])];
        let continued = Event::SessionContinued {
            session: SessionId([1; 16]),
            by: SessionId([3; 16]),
            path: path.clone(),
            prices_msat: vec![20, 30],
            msat_per_unit: 56,
        };
        events.send(Arc::new(continued)).unwrap();
        let kept = sessions.get(&KEY).unwrap();
        assert_eq!(
            (kept.session, kept.path, kept.msat_per_unit),
            (SessionId([1; 16]), path, 56)
        );
    }

    #[test]
    fn worn_out_session_does_not_take_its_successor_with_it() {
        let (_events, receiver) = broadcast::channel(8);
        let mut sessions = Reusable::new(receiver);
        sessions.insert(KEY, route(2));
        sessions.remove(SessionId([1; 16]));
        assert!(sessions.get(&KEY).is_some());
    }
}
