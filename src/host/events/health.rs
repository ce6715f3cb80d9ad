//! How this module is, in the words and figures of its node.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::event::{Answer, Command, Status};
use node_ipc::{Metric, MetricValue, ModuleHealth, NodeClient, Request};

use crate::handle::NodeHandle;

/// A node that does not tell its own state within this time is not well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells the node. What does not get there is told at the next check.
pub(super) async fn report(node: &NodeHandle, client: &NodeClient) {
    let status = status(node).await;
    let healthy = status.is_some() && !node.store_health().refuses();
    let health = if healthy {
        ModuleHealth::Healthy
    } else {
        ModuleHealth::Unresponsive
    };
    let mut requests = vec![Request::ReportModuleHealth { health }];
    if let Some(status) = status {
        requests.extend(metrics(&status).map(|metric| Request::ReportMetric { metric }));
    }
    for request in requests {
        if let Err(error) = client.request(request).await {
            tracing::debug!(%error, "the node was not told how this module is");
            return;
        }
    }
}

async fn status(node: &NodeHandle) -> Option<Status> {
    let asked = node.command(Command::Status);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(Answer::Status(status))) => Some(*status),
        _ => None,
    }
}

/// Few, because each is a request of the hundred that a node takes in a second.
fn metrics(status: &Status) -> impl Iterator<Item = Metric> + use<> {
    let timestamp = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let dropped = status.dropped.iter().map(|(_, count)| count).sum();
    let gauge = |value: usize| MetricValue::Gauge(value as f64);
    [
        ("mesh_neighbours", gauge(status.neighbours.len())),
        ("mesh_reachable_nodes", gauge(status.reachable_nodes)),
        ("mesh_sessions", gauge(status.sessions)),
        ("mesh_own_sessions", gauge(status.own_sessions)),
        ("mesh_refusing_new_sessions", gauge(status.pauses.len())),
        ("mesh_earned_msat", MetricValue::Counter(status.earned_msat)),
        ("mesh_dropped", MetricValue::Counter(dropped)),
    ]
    .into_iter()
    .map(move |(name, value)| Metric {
        name: name.to_owned(),
        value,
        labels: Vec::new(),
        timestamp,
    })
}
