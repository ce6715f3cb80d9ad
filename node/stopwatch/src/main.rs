//! A module that times its calls of the mesh, for docs/BENCHMARKS.md.
//!
//! JSON-RPC `stopwatch CALLS` asks the mesh so often for its node's id, `stopwatch CALLS DESTINATION` sends so many packets
//! of 1 KiB; one call after the other, each from this module to the node to the mesh and back. The answer is in microseconds.

use std::time::{Duration, Instant};

use mesh_module::ThroughNode;
use mesh_module::mesh_api::{MeshClient, NodeId, SendPacketRequest};
use mesh_module::node_ipc::{Incoming, InvocationAnswer, InvocationKind, NodeClient, Options};
use serde_json::{Value, json};

type Mesh = MeshClient<ThroughNode>;

/// Forty calls a second: half of what a node allows a module, so that no call waits for its turn.
const PACE: Duration = Duration::from_millis(25);

/// What a call through the node may take in all: it gives up after half a minute.
const MOST_CALLS: u64 = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options {
        rpc_endpoints: vec![(
            "stopwatch".to_owned(),
            "stopwatch CALLS [DESTINATION]: times calls of the mesh".to_owned(),
        )],
        ..Options::new(
            std::env::var("SOCKET_PATH")?,
            std::env::var("MODULE_NAME")?,
            std::env::var("MODULE_ID")?,
            env!("CARGO_PKG_VERSION"),
        )
    };
    let (node, mut incoming) = NodeClient::start(options);
    while let Some(incoming) = incoming.recv().await {
        if let Incoming::Invocation(call) = incoming {
            let mesh = MeshClient::new(ThroughNode::new(node.clone()));
            let kind = call.kind.clone();
            tokio::spawn(async move {
                call.answer(answer(&mesh, &kind).await.map(InvocationAnswer::Rpc));
            });
        }
    }
    Ok(())
}

async fn answer(mesh: &Mesh, kind: &InvocationKind) -> Result<Value, String> {
    let InvocationKind::Rpc { params, .. } = kind else {
        return Err("stopwatch answers JSON-RPC only".to_owned());
    };
    let calls = params.get(0).and_then(Value::as_u64).unwrap_or_default();
    if !(1..=MOST_CALLS).contains(&calls) {
        return Err(format!("CALLS is a number from 1 to {MOST_CALLS}"));
    }
    let destination = match params.get(1).and_then(Value::as_str) {
        Some(text) => Some(node_id(text)?),
        None => None,
    };
    let mut times = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for _ in 0..calls {
        pace.tick().await;
        let started = Instant::now();
        match destination {
            Some(destination) => send(mesh, destination).await?,
            None => drop(mesh.get_node_id().await.map_err(|error| error.to_string())?),
        }
        times.push(started.elapsed().as_micros());
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    Ok(json!({"calls": calls, "p50_us": at(50), "p90_us": at(90), "p99_us": at(99)}))
}

async fn send(mesh: &Mesh, destination: NodeId) -> Result<(), String> {
    let request = SendPacketRequest {
        destination,
        payload: vec![0; 1024],
        payment_proof: None,
        protocol_id: Some("stopwatch-v1".to_owned()),
        ttl: Some(60),
    };
    let sent = mesh
        .send_packet(request)
        .await
        .map_err(|error| error.to_string())?;
    if sent.success {
        return Ok(());
    }
    Err(sent.error.unwrap_or_default())
}

fn node_id(text: &str) -> Result<NodeId, String> {
    let mut id = NodeId::default();
    hex::decode_to_slice(text, &mut id).map_err(|_| format!("{text:?} is no node's id"))?;
    Ok(id)
}
