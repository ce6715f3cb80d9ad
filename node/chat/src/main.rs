//! A chat over the mesh: a whole module of a node, as an example for whoever writes one.
//!
//! The node starts this program and talks with it over a socket ([`NodeClient`]). Through the node the program
//! calls the mesh, which is a module, too ([`mesh`]), and the mesh calls it when a message has arrived.
//!
//! * JSON-RPC `chatsend DESTINATION TEXT` sends a message, and answers when it is on its way;
//! * JSON-RPC `chatid` tells under which id others reach this node;
//! * what arrives is a line in `DATA_DIR/received.jsonl`, what the node and the mesh tell of is one in
//!   `DATA_DIR/events.jsonl`.

mod history;
mod mesh;

use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_module::mesh_api::{self, Delivery};
use mesh_module::node_ipc::{
    EventKind, Incoming, Invocation, InvocationAnswer, InvocationKind, LogLevel, NodeClient, Options,
};
use mesh_module::{MESH, has_come_up};
use serde_json::{Value, json};

use history::{Events, Received};
use mesh::Mesh;

/// What this module is told of, beside its messages.
const EVENTS: [EventKind; 6] = [
    EventKind::ModuleLoaded,
    EventKind::NewBlock,
    EventKind::BlockMined,
    EventKind::RouteDiscovered,
    EventKind::RouteFailed,
    EventKind::PaymentVerified,
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data_dir = PathBuf::from(std::env::var("DATA_DIR")?);
    let options = Options {
        subscriptions: EVENTS.to_vec(),
        api_methods: vec![mesh::HANDLER.to_owned()],
        rpc_endpoints: vec![
            (
                "chatsend".to_owned(),
                "chatsend DESTINATION TEXT: sends a message".to_owned(),
            ),
            (
                "chatid".to_owned(),
                "chatid: the id under which others reach this node".to_owned(),
            ),
        ],
        ..Options::new(
            std::env::var("SOCKET_PATH")?,
            std::env::var("MODULE_NAME")?,
            std::env::var("MODULE_ID")?,
            env!("CARGO_PKG_VERSION"),
        )
    };
    let (node, mut incoming) = NodeClient::start(options);
    let mesh = Arc::new(Mesh::new(node.clone()));
    let mut received = Received::open(&data_dir)?;
    let mut events = Events::open(&data_dir)?;
    let mut registering = tokio::spawn(async {});
    let node_process = parent_id();
    loop {
        let incoming = tokio::select! {
            incoming = incoming.recv() => incoming,
            () = gone(node_process) => return Ok(()),
        };
        let Some(incoming) = incoming else {
            return Ok(());
        };
        // A mesh that was not there before, or has been started anew, does not know us.
        if has_come_up(MESH, &incoming) {
            registering.abort();
            registering = tokio::spawn(register(node.clone(), Arc::clone(&mesh)));
        }
        match incoming {
            // When the connection is lost, the client looks for another by itself.
            Incoming::Connected { .. } | Incoming::Disconnected { .. } => {}
            Incoming::Event(event) => events.add(&event)?,
            Incoming::Invocation(call) => on_call(call, &mesh, &mut received),
        }
    }
}

/// How often we look whether the node still lives. It kills its modules when it stops, but may be killed itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Comes back when the process that spawned us has ended.
async fn gone(node_process: u32) {
    while parent_id() == node_process {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn register(node: NodeClient, mesh: Arc<Mesh>) {
    match mesh.register().await {
        Ok(()) => node.log(LogLevel::Info, "chat", "messages for this node arrive here"),
        Err(error) => node.log(LogLevel::Error, "chat", &error.to_string()),
    }
}

fn on_call(call: Invocation, mesh: &Arc<Mesh>, received: &mut Received) {
    match &call.kind {
        InvocationKind::ModuleApi { method, params, .. } if method == mesh::HANDLER => {
            let answer = take(params, received).map(|()| InvocationAnswer::ModuleApi(Vec::new()));
            call.answer(answer);
        }
        // Sending takes as long as the mesh takes: meanwhile messages arrive.
        InvocationKind::Rpc { method, params } => {
            let (mesh, method, params) = (Arc::clone(mesh), method.clone(), params.clone());
            tokio::spawn(async move {
                let answer = on_rpc(&mesh, &method, &params).await;
                call.answer(answer.map(InvocationAnswer::Rpc));
            });
        }
        other => {
            let refusal = format!("chat has no such call: {other:?}");
            call.answer(Err(refusal));
        }
    }
}

/// Writes down a message from the mesh. It is ours once the mesh has our answer, so the file comes first.
fn take(params: &[u8], received: &mut Received) -> Result<(), String> {
    let delivery = mesh_api::decode::<Delivery>(params).map_err(|error| error.to_string())?;
    received.add(&delivery).map_err(|error| error.to_string())
}

async fn on_rpc(mesh: &Mesh, method: &str, params: &Value) -> Result<Value, String> {
    match (method, params.as_array().map(Vec::as_slice)) {
        ("chatid", _) => Ok(json!(mesh.own_id().await.map_err(|error| error.to_string())?)),
        ("chatsend", Some([Value::String(destination), Value::String(text)])) => {
            let sent = mesh.send(destination, text).await;
            sent.map_err(|error| error.to_string())
        }
        _ => Err(format!(
            "chat does not know {method} with these parameters: {params}"
        )),
    }
}
