//! A module for one test: gets itself served by the published node, asks for the chain's tip and notes new blocks, one JSON
//! object to a line in `DATA_DIR/smoke.jsonl`.
//!
//! The node as published serves one connection at a time, and keeps that one for itself: the connection by which it watches
//! over the module. [`dance`] makes it give that up. It is fit for a test on an idle machine and for nothing else.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use node_ipc::frame::framed;
use node_ipc::{Event, EventKind, EventPayload, Incoming, Message, NodeClient, Options, Request};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let data_dir = PathBuf::from(std::env::var("DATA_DIR")?);
    let mut notes = OpenOptions::new()
        .create(true)
        .append(true)
        .open(data_dir.join("smoke.jsonl"))?;
    let ended = run(&mut notes).await;
    if let Err(error) = &ended {
        note(&mut notes, &json!({"failed": error.to_string()}))?;
    }
    ended
}

async fn run(notes: &mut File) -> Outcome<()> {
    let socket = PathBuf::from(std::env::var("SOCKET_PATH")?);
    let (name, id) = (std::env::var("MODULE_NAME")?, std::env::var("MODULE_ID")?);
    dance(&socket, &name, &id)?;
    let options = Options {
        subscriptions: vec![EventKind::NewBlock],
        ..Options::new(socket, name, id, env!("CARGO_PKG_VERSION"))
    };
    let (node, mut incoming) = NodeClient::start(options);
    while let Some(incoming) = incoming.recv().await {
        match incoming {
            Incoming::Connected { node_version } => {
                let (tip, height) = (node.chain_tip().await?, node.block_height().await?);
                note(
                    notes,
                    &json!({"node_version": node_version, "tip": hex(&tip), "height": height}),
                )?;
            }
            Incoming::Event(Event {
                payload: Some(EventPayload::NewBlock { block_hash, height }),
                ..
            }) => {
                let known = node.block_by_height(height).await?.is_some();
                note(
                    notes,
                    &json!({"new_block": hex(&block_hash), "height": height, "known": known}),
                )?;
            }
            Incoming::Event(_) | Incoming::Invocation(_) => {}
            Incoming::Disconnected { reason } => note(notes, &json!({"disconnected": reason}))?,
        }
    }
    Ok(())
}

/// How long the first connection is held: the node's own waits behind it by then.
const HOLD: Duration = Duration::from_millis(300);

/// When in a second of the node's clock the requests are sent: early enough that the node's own connection is served in the
/// same second.
const INTO_THE_SECOND: Duration = Duration::from_millis(20);

/// More than the node allows in a second.
const TOO_MANY: u64 = 130;

/// Connects before the node does and asks too much under the id that the node's own connection uses, too. The node drops us
/// at the 101st request, and itself at its first, for the second is not over. Then its only place is free.
fn dance(socket: &Path, name: &str, id: &str) -> Outcome<()> {
    let mut stream = connect(socket)?;
    let handshake = Request::Handshake {
        module_id: id.to_owned(),
        module_name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    stream.write_all(&frame(0, handshake)?)?;
    std::thread::sleep(HOLD);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let this_second = Duration::from_nanos(u64::from(now.subsec_nanos()));
    std::thread::sleep(Duration::from_secs(1) + INTO_THE_SECOND - this_second);
    let mut requests = Vec::new();
    for number in 1..=TOO_MANY {
        requests.extend(frame(number, Request::GetChainTip)?);
    }
    // The node may hang up before it has read them all.
    let _ = stream.write_all(&requests);
    let _ = stream.read_to_end(&mut Vec::new());
    Ok(())
}

/// How often the socket is tried: the node's own connection comes a tenth of a second after this program has started.
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// How often at most.
const TRIES: u32 = 5000;

/// Connects. The node may start its modules a moment before it listens.
fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    for _ in 0..TRIES {
        if let Ok(stream) = UnixStream::connect(socket) {
            return Ok(stream);
        }
        std::thread::sleep(TRY_AGAIN);
    }
    UnixStream::connect(socket)
}

fn frame(number: u64, request: Request) -> Outcome<Vec<u8>> {
    Ok(framed(&Message::Request(number, request)).ok_or("a request is longer than a frame")?)
}

fn note(notes: &mut File, line: &Value) -> std::io::Result<()> {
    notes.write_all(format!("{line}\n").as_bytes())
}

/// As JSON-RPC writes hashes: back to front.
fn hex(hash: &[u8]) -> String {
    hash.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}
