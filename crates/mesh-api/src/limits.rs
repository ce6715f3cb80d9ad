//! How long every field may be, each limit with its reason.
//!
//! A decoder checks the length a message announces against these before it reserves memory, so that twenty hostile
//! bytes cannot cost gigabytes. An encoder checks them too: what this crate encodes, it decodes.

/// Largest payload of one packet, in bytes. Larger data is the sender's to cut up.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Most hops of a route: nine routers and the destination.
pub const MAX_HOPS: usize = 10;

/// Most node ids in a route: the source and one for each hop.
pub const MAX_ROUTE_NODES: usize = MAX_HOPS + 1;

/// Most payees of one route: every hop may earn a share, the source pays them.
pub const MAX_PAYEES: usize = MAX_HOPS;

/// Longest name of a protocol, in bytes. Names are compared for every delivered packet.
pub const MAX_PROTOCOL_ID_BYTES: usize = 64;

/// Longest name of a method, in bytes: our own names and those of modules' handlers.
pub const MAX_METHOD_NAME_BYTES: usize = 64;

/// Longest BOLT11 invoice, in bytes: what the Lightning library itself accepts.
pub const MAX_INVOICE_BYTES: usize = 7_089;

/// Longest script that is quoted, in bytes: the largest witness program.
pub const MAX_SCRIPT_BYTES: usize = 42;

/// Longest name of an on-chain payment request, in bytes: a hash in hexadecimal digits fits twice.
pub const MAX_PAYMENT_REQUEST_ID_BYTES: usize = 128;

/// Longest covenant proof (BIP-119 template with its outputs), in bytes: eleven outputs of any standard script fit
/// many times over.
pub const MAX_COVENANT_PROOF_BYTES: usize = 16 * 1024;

/// Most steps of a Merkle path: a block of 4 million weight units holds fewer than 2^17 transactions; 32 leaves room.
pub const MAX_MERKLE_STEPS: usize = 32;

/// Longest explanation in an answer, in bytes. Explanations are for people; programs read the other fields.
pub const MAX_REASON_BYTES: usize = 1024;

/// Most nodes a caller may ask to be avoided: four earlier routes' worth.
pub const MAX_AVOIDED_NODES: usize = 64;

/// Most packets handed over by one poll.
pub const MAX_DELIVERIES_PER_POLL: usize = 64;

/// Largest answer to a poll, in bytes. Hosts refuse frames of 40 MiB; a tenth keeps a poll from delaying other calls.
pub const MAX_POLL_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// Most nodes in one page of the network's state. Callers ask for the next page.
pub const MAX_NODES_PER_PAGE: usize = 256;

/// Most neighbours listed of any one node.
pub const MAX_LISTED_NEIGHBOURS: usize = 128;

/// Most shares listed of entities, and of network groups: those below are each less than half a percent.
pub const MAX_LISTED_SHARES: usize = 256;

/// Longest time that a call may ask the mesh to spend on it, in seconds. A caller that wants longer calls again.
pub const MAX_TIMEOUT_SECONDS: u64 = 300;

/// Cuts an explanation to [`MAX_REASON_BYTES`] between two characters, so that an answer never fails to encode because
/// its error was too eloquent.
pub fn clip_reason(text: impl Into<String>) -> String {
    let mut text = text.into();
    let cut = (0..=MAX_REASON_BYTES.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at));
    text.truncate(cut.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let clipped = clip_reason("é".repeat(MAX_REASON_BYTES));
        assert_eq!(clipped.len(), MAX_REASON_BYTES);
        let odd = clip_reason(format!("x{}", "é".repeat(MAX_REASON_BYTES)));
        assert_eq!(odd.len(), MAX_REASON_BYTES - 1);
        assert_eq!(clip_reason("short"), "short");
    }
}
