//! Every message of `node-ipc`, byte for byte what the published node's own types make of it, in both directions.
#![allow(clippy::unwrap_used, missing_docs)]

mod answers;
mod events;
mod invocations;
mod requests;

use blvm_node::module::ipc::protocol::ModuleMessage;
use node_ipc::Message;
use node_ipc::message::{Decoded, decode, encode};

/// Fails unless both sides write the same bytes, and read each other's.
fn same(ours: &Message, theirs: &ModuleMessage) {
    let their_bytes = bincode::serialize(theirs).unwrap();
    assert_eq!(
        encode(ours),
        their_bytes,
        "other bytes than the node's for {ours:?}"
    );
    assert_eq!(
        decode(&their_bytes),
        Ok(Decoded::Known(ours.clone())),
        "read otherwise than the node wrote"
    );
    let read: ModuleMessage = bincode::deserialize(&encode(ours)).unwrap();
    assert_eq!(
        format!("{read:?}"),
        format!("{theirs:?}"),
        "the node reads otherwise than we wrote"
    );
}

/// A hash that tells its bytes' order.
fn hash(first: u8) -> [u8; 32] {
    std::array::from_fn(|at| first.wrapping_add(u8::try_from(at).unwrap()))
}

fn text(text: &str) -> String {
    text.to_owned()
}
