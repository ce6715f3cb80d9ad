//! What a node sends to a module: its own words, and those of every other module and every peer of its network.

use node_ipc::message::{Decoded, decode, encode};

/// A frame's contents: what is understood is understood fully, so it says the same when it is written and read again, and
/// what is not understood is told apart without harm.
pub fn node(data: &[u8]) {
    if let Ok(Decoded::Known(message)) = decode(data) {
        let again = decode(&encode(&message)).expect("what we write we read");
        // As text, because a number in it may be none, which equals nothing.
        assert_eq!(format!("{again:?}"), format!("{:?}", Decoded::Known(message)));
    }
}
