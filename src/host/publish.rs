//! What this module tells the node's other modules: routes found and not found, payments that came.
//!
//! The node allows a module a hundred requests a second, and packets are pushed to modules out of the same hundred. So only
//! so many events leave in a second, and what waits for its turn is bounded: of a route, or a failure, to one destination
//! only the newest waits, and when there are too many the oldest go. Both are counted. A payment is told after its record is
//! durable: the node's events come after what they follow from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mesh_core::event::Event;
use node_ipc::{EventPayload, NodeClient};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// The pause between two events: 20 a second, a fifth of what the node allows for everything.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// Events that wait for their turn: some seconds of them. Older news are worth little.
const MAX_WAITING: usize = 128;

/// Whoever passes events on: the node, or a test.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Tells the other modules. Whether it was told.
    async fn publish(&self, payload: EventPayload) -> bool;
}

#[async_trait]
impl Publisher for NodeClient {
    async fn publish(&self, payload: EventPayload) -> bool {
        match Self::publish(self, payload).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "an event was not published");
                false
            }
        }
    }
}

/// What became of events that others were to be told of.
#[derive(Debug, Default)]
pub struct PublishCounts {
    told: AtomicU64,
    untold: AtomicU64,
    overtaken: AtomicU64,
    dropped: AtomicU64,
}

impl PublishCounts {
    /// By name.
    pub fn all(&self) -> [(&'static str, u64); 4] {
        [
            ("published", &self.told),
            ("not taken by the node", &self.untold),
            ("overtaken by newer ones", &self.overtaken),
            ("dropped: too many", &self.dropped),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

fn count(counter: &AtomicU64, times: u64) {
    counter.fetch_add(times, Ordering::Relaxed);
}

/// What others are told of an event; none of most.
fn payload(event: &Event) -> Option<EventPayload> {
    match event {
        Event::RouteDiscovered { path, msat_per_unit } => Some(EventPayload::RouteDiscovered {
            destination: path.last()?.0.to_vec(),
            route_path: path.iter().map(ToString::to_string).collect(),
            route_cost: *msat_per_unit,
        }),
        Event::RouteFailed { destination, reason } => Some(EventPayload::RouteFailed {
            destination: destination.0.to_vec(),
            reason: reason.as_str().to_owned(),
        }),
        Event::PaymentVerified {
            payment_hash,
            invoice,
            credit_msat,
            treasury_msat,
        } => Some(EventPayload::PaymentVerified {
            payment_id: hex::encode(payment_hash),
            amount_msats: credit_msat.saturating_add(*treasury_msat),
            invoice: invoice.clone().unwrap_or_default(),
        }),
        _ => None,
    }
}

/// Whether the newer says all that is still worth saying.
fn overtakes(newer: &EventPayload, older: &EventPayload) -> bool {
    match (newer, older) {
        (
            EventPayload::RouteDiscovered {
                destination: to,
                route_path: by,
                ..
            },
            EventPayload::RouteDiscovered {
                destination,
                route_path,
                ..
            },
        ) => to == destination && by == route_path,
        (
            EventPayload::RouteFailed { destination: to, .. },
            EventPayload::RouteFailed { destination, .. },
        ) => to == destination,
        _ => false,
    }
}

/// Events that wait for their turn.
#[derive(Default)]
struct Waiting(VecDeque<EventPayload>);

impl Waiting {
    fn put(&mut self, payload: EventPayload, counts: &PublishCounts) {
        let before = self.0.len();
        self.0.retain(|older| !overtakes(&payload, older));
        count(&counts.overtaken, (before - self.0.len()) as u64);
        if self.0.len() >= MAX_WAITING {
            // Money is told before routes are: they are found again.
            let route = |payload: &EventPayload| !matches!(payload, EventPayload::PaymentVerified { .. });
            let oldest = self.0.iter().position(route).unwrap_or_default();
            self.0.remove(oldest);
            count(&counts.dropped, 1);
        }
        self.0.push_back(payload);
    }
}

/// Tells others what happens, until the node has stopped.
pub async fn publish_for_ever(
    mut events: Receiver<Arc<Event>>,
    publisher: Arc<dyn Publisher>,
    counts: Arc<PublishCounts>,
) {
    let mut waiting = Waiting::default();
    let mut turn = interval(PUBLISH_EVERY);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One at a time, beside the reading: while the node is slow to take one, the others are still heard.
    let mut telling = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(told) = telling.join_next() => {
                count(if matches!(told, Ok(true)) { &counts.told } else { &counts.untold }, 1);
            }
            _ = turn.tick(), if telling.is_empty() && !waiting.0.is_empty() => {
                if let Some(payload) = waiting.0.pop_front() {
                    let publisher = publisher.clone();
                    telling.spawn(async move { publisher.publish(payload).await });
                }
            }
            event = events.recv() => match event {
                Ok(event) => {
                    if let Some(payload) = payload(&event) {
                        waiting.put(payload, &counts);
                    }
                }
                Err(RecvError::Lagged(missed)) => count(&counts.dropped, missed),
                Err(RecvError::Closed) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
