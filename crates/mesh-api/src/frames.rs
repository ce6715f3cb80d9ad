//! What goes over the mesh's own Unix socket, `api.sock` in its data directory.
//!
//! For hosts whose inter-module call does not work, and for programs that are no modules. A frame is its length as u32,
//! little endian, and then one message in the layout of [`codec`](crate::codec). The client speaks first:
//!
//! ```text
//! → Hello { version: 1, name: "chat", takes_deliveries: true }
//! ← Welcome { version: 1, node_id }
//! → Call { id: 7, method: "get_node_id", payload: [] }
//! ← Answered { id: 7, payload }                              or Failed { id: 7, failure, reason }
//! ← Deliver { id: 1, handler_method: "on_chat", delivery }   if it takes deliveries and registered a protocol
//! → Handled { id: 1, error: None }                           or Some(reason): it comes again later
//! ← Goodbye { reason }                                       and the connection ends
//! ```
//!
//! Ids of calls are the client's: any that no call under way has. Answers come in any order.
//!
//! **Who calls.** Whoever can open the socket is the operator's own user. The name says whose quotes, sessions and
//! protocols are meant: those of all connections that give the same one. It is no authentication: all clients of the socket spend
//! from the one small budget of unidentified callers, whatever they call themselves, and none of them is the module that
//! the host knows by the same name.

use serde::{Deserialize, Serialize};

use crate::bounded::AtMost;
use crate::codec::{size, wire};
use crate::limits::{MAX_METHOD_NAME_BYTES, MAX_POLL_RESPONSE_BYTES, MAX_REASON_BYTES};
use crate::sessions::Delivery;
use crate::types::NodeId;

/// The socket's name in the mesh's data directory.
pub const SOCKET_FILE: &str = "api.sock";

/// The version of these messages. Another one is refused with a [`FromMesh::Goodbye`].
pub const VERSION: u32 = 1;

/// Bytes before a message: its length as u32, little endian.
pub const LENGTH_BYTES: usize = 4;

/// Longest name of a client, in bytes: that of a module.
pub const MAX_NAME_BYTES: usize = 64;

/// Longest request, in bytes: the largest packet with the largest proofs fits.
pub const MAX_REQUEST_BYTES: usize = 512 * 1024;

/// Longest answer, in bytes: a poll's.
pub const MAX_ANSWER_BYTES: usize = MAX_POLL_RESPONSE_BYTES;

/// Calls of one connection that may be under way at once; further ones fail as [`Failure::Busy`].
pub const MAX_CALLS_IN_FLIGHT: usize = 32;

/// From the client to the mesh. The order is part of the layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMesh {
    /// 0: who the client is; once, and first.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Under which name its quotes, sessions and protocols are kept: 1 to 64 bytes without control characters.
        #[serde(with = "AtMost::<MAX_NAME_BYTES>")]
        name: String,
        /// Whether packets for its protocols are to be pushed over this connection. Of several connections of one name
        /// the newest gets them.
        takes_deliveries: bool,
    },
    /// 1: calls a method.
    Call {
        /// Ties the answer to it.
        id: u64,
        /// The method's name, at most 64 bytes.
        #[serde(with = "AtMost::<MAX_METHOD_NAME_BYTES>")]
        method: String,
        /// The encoded request, at most 512 KiB.
        #[serde(with = "AtMost::<MAX_REQUEST_BYTES>")]
        payload: Vec<u8>,
    },
    /// 2: what became of a delivery.
    Handled {
        /// The delivery's.
        id: u64,
        /// Why it was not handled, at most 1,024 bytes; `None` if it was, and it never comes again.
        #[serde(with = "AtMost::<MAX_REASON_BYTES>")]
        error: Option<String>,
    },
}

/// From the mesh to the client. The order is part of the layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromMesh {
    /// 0: the answer to the hello.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// The node that this mesh belongs to.
        node_id: NodeId,
    },
    /// 1: what a call brought.
    Answered {
        /// The call's.
        id: u64,
        /// The encoded response, at most 4 MiB.
        #[serde(with = "AtMost::<MAX_ANSWER_BYTES>")]
        payload: Vec<u8>,
    },
    /// 2: a call that brought nothing.
    Failed {
        /// The call's.
        id: u64,
        /// What kind of failure it is.
        failure: Failure,
        /// What went wrong and what would help, at most 1,024 bytes.
        #[serde(with = "AtMost::<MAX_REASON_BYTES>")]
        reason: String,
    },
    /// 3: a packet that arrived. The next for the same protocol comes when this one is handled.
    Deliver {
        /// Ties [`ToMesh::Handled`] to it.
        id: u64,
        /// The method that was registered for its protocol, at most 64 bytes.
        #[serde(with = "AtMost::<MAX_METHOD_NAME_BYTES>")]
        handler_method: String,
        /// The packet.
        delivery: Delivery,
    },
    /// 4: the mesh hangs up.
    Goodbye {
        /// Why, at most 1,024 bytes.
        #[serde(with = "AtMost::<MAX_REASON_BYTES>")]
        reason: String,
    },
}

/// How a call failed. The order is part of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// 0: the mesh refused it: no such method, a request that cannot be read.
    Refused,
    /// 1: too many calls are under way; nothing was done, and the same call may be made again.
    Busy,
}

wire!(
    ToMesh,
    size::VARIANT + size::U64 + size::block(MAX_METHOD_NAME_BYTES) + size::block(MAX_REQUEST_BYTES)
);
wire!(
    FromMesh,
    size::VARIANT + size::U64 + size::block(MAX_ANSWER_BYTES)
);

/// A message with its length before it, as it goes over the socket.
///
/// # Errors
/// As [`encode`](crate::codec::encode).
pub fn framed<T: crate::codec::Wire>(message: &T) -> Result<Vec<u8>, crate::codec::CodecError> {
    crate::codec::encode_behind(vec![0; LENGTH_BYTES], message).map(|mut frame| {
        // No truncation: a message is at most 4 MiB and a little.
        let length = (frame.len() - LENGTH_BYTES) as u32;
        frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        frame
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Wire;
    use crate::*;

    #[test]
    fn every_request_and_every_answer_fits_a_frame() {
        fn fits<R: ApiRequest>() {
            assert!(R::MAX_ENCODED_BYTES <= MAX_REQUEST_BYTES, "{}", R::NAME);
            assert!(R::Response::MAX_ENCODED_BYTES <= MAX_ANSWER_BYTES, "{}", R::NAME);
        }
        fits::<SendPacketRequest>();
        fits::<DiscoverRouteRequest>();
        fits::<RegisterProtocolRequest>();
        fits::<GetRoutingStatsRequest>();
        fits::<GetNodeIdRequest>();
        fits::<QuoteRouteRequest>();
        fits::<GetQuoteRequest>();
        fits::<OpenSessionRequest>();
        fits::<CloseSessionRequest>();
        fits::<GetSessionRequest>();
        fits::<PollDeliveriesRequest>();
        fits::<GetNetworkStateRequest>();
        fits::<UnregisterProtocolRequest>();
        fits::<AwaitDeliveriesRequest>();
        fits::<AwaitNetworkChangeRequest>();
        fits::<GetConcentrationRequest>();
        const { assert!(Delivery::MAX_ENCODED_BYTES + 100 <= MAX_ANSWER_BYTES) };
    }

    #[test]
    fn a_frame_is_its_length_and_the_message() {
        let message = ToMesh::Handled { id: 1, error: None };
        let frame = framed(&message).unwrap();
        let body = encode(&message).unwrap();
        assert_eq!(frame[..4], u32::try_from(body.len()).unwrap().to_le_bytes());
        assert_eq!(frame[4..], body);
    }
}
