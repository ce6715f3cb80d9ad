//! Links over streams that somebody else carries: the same handshake, hello, queues and limits as over TCP.
//!
//! Who the neighbour is need not be known before: its key is learnt from the handshake, in which it proves it, as
//! that of a stranger who dials in. So a carried link, whichever side began it, is let in by the rules for strangers.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use mesh_core::identity::NodeId;

use crate::endpoint::{Endpoint, Shared};
use crate::wire::{CarriedStream, Carrier, Wire};
use crate::{CloseReason, DialError, accept, dial};

/// Two streams to one neighbour's node: both ends must agree which is which.
pub struct CarriedPair {
    /// For packets.
    pub data: CarriedStream,
    /// For control messages.
    pub control: CarriedStream,
    /// Where the carrier says that they lead; shown to people and counted against its limits, never believed.
    pub address: SocketAddr,
}

/// What came of dialling over a carrier.
#[derive(Debug)]
pub struct CarriedDial {
    /// Who answered and proved it, if it came that far.
    pub peer: Option<NodeId>,
    /// Whether a link came of it.
    pub outcome: Result<(), DialError>,
}

/// The way of a carrier into an [`Endpoint`]. It does not keep the endpoint alive: after its end everything is
/// refused as [`CloseReason::Shutdown`].
#[derive(Clone)]
pub struct CarrierPort {
    shared: Weak<Shared>,
}

impl std::fmt::Debug for CarrierPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CarrierPort")
    }
}

impl Endpoint {
    /// The way in for streams that are not TCP.
    pub fn carrier_port(&self) -> CarrierPort {
        CarrierPort {
            shared: Arc::downgrade(self.shared()),
        }
    }
}

impl CarrierPort {
    /// Takes streams that the other side began; it is the client of the handshake. Returns at once. An error says why
    /// not; it is counted.
    pub fn accept(&self, pair: CarriedPair) -> Result<(), CloseReason> {
        let shared = self.shared.upgrade().ok_or(CloseReason::Shutdown)?;
        let result = accept::receive_carried(&shared, pair);
        if let Err(reason) = result {
            shared.counters.closed(reason);
        }
        result
    }

    /// Dials over streams that this side began. At most the handshake timeout long. With `expected` nobody else is
    /// accepted; without, whoever answers is taken as a stranger who dialled in would be.
    pub async fn dial(&self, pair: CarriedPair, expected: Option<NodeId>) -> CarriedDial {
        let Some(shared) = self.shared.upgrade() else {
            return CarriedDial {
                peer: None,
                outcome: Err(DialError::Unneeded(CloseReason::Shutdown)),
            };
        };
        let dialled = dial::dial_carried(&shared, pair, expected).await;
        if let Err(error) = &dialled.outcome {
            shared.counters.closed(error.reason());
        }
        dialled
    }

    /// What the link to `peer` runs over, if one stands.
    pub fn link_to(&self, peer: &NodeId) -> Option<Carrier> {
        self.shared.upgrade()?.registry().linked_over(peer)
    }

    /// Whether nobody is left to give a link to.
    pub fn is_closed(&self) -> bool {
        self.shared.strong_count() == 0
    }

    /// Counts an end that the carrier decided and no link can tell of.
    pub fn count(&self, reason: CloseReason) {
        if let Some(shared) = self.shared.upgrade() {
            shared.counters.closed(reason);
        }
    }
}

impl CarriedPair {
    pub(crate) fn into_wires(self) -> (Wire, Wire) {
        (Wire::Carried(self.data), Wire::Carried(self.control))
    }
}

impl Carrier {
    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Node => "node",
        }
    }
}
