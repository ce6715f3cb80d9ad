//! Sends hellos to other nodes and keeps those that arrive.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use mesh_module::mesh_api::{Delivery, MeshClient, NodeId, SendPacketRequest, decode};
use mesh_module::node_ipc::{
    EventKind, Incoming, Invocation, InvocationAnswer, InvocationKind, LogLevel, NodeClient, Options,
};
use mesh_module::{MESH, ThroughNode, has_come_up, register};
use serde_json::{Value, json};

/// What both ends agree on, and our method that the mesh calls.
const PROTOCOL: &str = "hello-v1";
const HANDLER: &str = "on_hello";

type Mesh = MeshClient<ThroughNode>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let inbox = PathBuf::from(std::env::var("DATA_DIR")?).join("hellos.txt");
    let mut options = Options::new(
        std::env::var("SOCKET_PATH")?,
        std::env::var("MODULE_NAME")?,
        std::env::var("MODULE_ID")?,
        env!("CARGO_PKG_VERSION"),
    );
    options.subscriptions = vec![EventKind::ModuleLoaded];
    options.api_methods = vec![HANDLER.to_owned()];
    options.rpc_endpoints = vec![("hellosend".to_owned(), "hellosend NODE TEXT".to_owned())];
    let (node, mut incoming) = NodeClient::start(options);
    let mesh = MeshClient::new(ThroughNode::new(node.clone()));

    let mut registering = tokio::spawn(async {});
    while let Some(incoming) = incoming.recv().await {
        if has_come_up(MESH, &incoming) {
            registering.abort();
            registering = tokio::spawn(registered(node.clone(), mesh.clone()));
        }
        if let Incoming::Invocation(call) = incoming {
            on_call(call, &mesh, &inbox);
        }
    }
    Ok(())
}

async fn registered(node: NodeClient, mesh: Mesh) {
    match register(&mesh, PROTOCOL, HANDLER).await {
        Ok(()) => node.log(LogLevel::Info, "hello", "hellos arrive here"),
        Err(error) => node.log(LogLevel::Error, "hello", &error.to_string()),
    }
}

fn on_call(call: Invocation, mesh: &Mesh, inbox: &Path) {
    match &call.kind {
        // From the mesh: a packet has arrived. Answer soon; without an answer it comes again.
        InvocationKind::ModuleApi { method, params, .. } if method == HANDLER => {
            let kept = keep(params, inbox).map(|()| InvocationAnswer::ModuleApi(Vec::new()));
            call.answer(kept.map_err(|error| error.to_string()));
        }
        // From the node's JSON-RPC. Sending takes its time, so it has a task of its own.
        InvocationKind::Rpc { params, .. } => {
            let (mesh, params) = (mesh.clone(), params.clone());
            tokio::spawn(async move {
                let sent = send(&mesh, &params).await.map(InvocationAnswer::Rpc);
                call.answer(sent.map_err(|error| error.to_string()));
            });
        }
        other => {
            let refusal = format!("hello has no such call: {other:?}");
            call.answer(Err(refusal));
        }
    }
}

fn keep(params: &[u8], inbox: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let hello: Delivery = decode(params)?;
    let mut inbox = OpenOptions::new().create(true).append(true).open(inbox)?;
    writeln!(inbox, "{}", String::from_utf8_lossy(&hello.payload))?;
    Ok(())
}

async fn send(mesh: &Mesh, params: &Value) -> Result<Value, Box<dyn std::error::Error>> {
    let (Some(node), Some(text)) = (params[0].as_str(), params[1].as_str()) else {
        return Err("hellosend NODE TEXT".into());
    };
    let mut destination = NodeId::default();
    hex::decode_to_slice(node, &mut destination)?;
    let sent = mesh
        .send_packet(SendPacketRequest {
            destination,
            payload: text.as_bytes().to_vec(),
            payment_proof: None,
            protocol_id: Some(PROTOCOL.to_owned()),
            ttl: Some(60),
        })
        .await?;
    match sent.error {
        None => Ok(json!({ "hops": sent.route_length, "sats": sent.estimated_cost_sats })),
        Some(reason) => Err(reason.into()),
    }
}
