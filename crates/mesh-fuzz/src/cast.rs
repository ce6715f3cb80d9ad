//! Who plays in the targets: the nodes, keys and the one session of the test vectors, so that inputs can be sealed and
//! signed for real.

use std::sync::LazyLock;

use bytes::Bytes;
use mesh_core::identity::{Identity, NodeId, Signature, SignatureContext, SignatureVerifier};
use mesh_core::keys::{DhSecret, HopContext, HopSecret};
use mesh_core::open::{HopPlan, OpenPlan, SourceSession};
use mesh_core::routing_policy::TrafficClass;
use mesh_core::time::UnixMillis;

/// The moment everything happens at.
pub(crate) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Hops of the session: one router and the destination.
pub(crate) const HOPS: u8 = 2;

pub(crate) fn identity(byte: u8) -> Identity {
    Identity::from_seed([byte; 32]).unwrap()
}

pub(crate) fn secret(byte: u8) -> DhSecret {
    DhSecret::new([byte; 32]).unwrap()
}

/// The session's keys at each hop, the frame that opened it and its id.
pub(crate) struct Session {
    pub(crate) open: Bytes,
    pub(crate) source: SourceSession,
    pub(crate) hops: Vec<HopSecret>,
}

/// Made once: key agreement costs a hundred times what a target does.
pub(crate) static SESSION: LazyLock<Session> = LazyLock::new(|| {
    let (open, source) = open_session();
    Session {
        open,
        source,
        hops: (0..HOPS)
            .map(|index| HopSecret::of_hop(&quote_key(index), &context(index)).unwrap())
            .collect(),
    }
});

/// The open message and the source's side of its session.
pub(crate) fn open_session() -> (Bytes, SourceSession) {
    let plan = |index: u8| HopPlan {
        node: node(index),
        quote_id: [0xc0 + index; 16],
        quote_key: quote_key(index).public(),
        account: account_key(index),
        proof: None,
    };
    let hops: Vec<_> = (0..HOPS).map(plan).collect();
    let plan = OpenPlan {
        hops: &hops,
        class: TrafficClass::Paid,
        expires: UnixMillis(NOW.0 + 3_600_000),
        ephemeral: secret(2),
        source: Some(&identity(1)),
    };
    plan.build().unwrap()
}

pub(crate) fn node(index: u8) -> NodeId {
    identity(10 + index).node_id()
}

pub(crate) fn quote_key(index: u8) -> DhSecret {
    secret(20 + index)
}

pub(crate) fn account_key(index: u8) -> DhSecret {
    secret(30 + index)
}

pub(crate) fn context(index: u8) -> HopContext {
    HopContext {
        ephemeral: secret(2).public(),
        account: account_key(index).public(),
        quote: quote_key(index).public(),
        node: node(index),
        index,
    }
}

/// Takes nearly every signature for good, so that what lies behind a signature check is reached. Real signatures all pass.
pub(crate) struct Credulous;

impl SignatureVerifier for Credulous {
    fn verify(&self, _: &NodeId, _: SignatureContext, _: &[u8], signature: &Signature) -> bool {
        // The last byte of a real one is at most 0x10: its number is below the group's order.
        signature.0[63] < 0x80
    }
}

/// Splits off the first byte, which chooses; an empty input chooses 0.
pub(crate) fn choose(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(first, rest)| (*first, rest))
}
