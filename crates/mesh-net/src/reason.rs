//! Why a connection or a link ended: one list for events, logs, metrics and tests.

/// Declares the reasons with their names once, so that none can lack a name or a counter.
macro_rules! close_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a connection was refused or a link ended. Every end has exactly one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl CloseReason {
            /// Every reason, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in logs, metrics and the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

close_reasons! {
    // A link ended.
    /// The neighbour closed the connection.
    PeerClosed => "peer_closed",
    /// The connection broke: reset, unreachable, timed out in TCP.
    ConnectionLost => "connection_lost",
    /// Nothing came for the idle timeout, not even a keep-alive.
    Idle => "idle",
    /// A frame was announced longer than its channel allows.
    FrameTooLong => "frame_too_long",
    /// Bytes that TLS refuses came on an established connection: broken or forged records.
    TlsViolation => "tls_violation",
    /// The neighbour did not take its control messages; it gets a fresh link and a fresh start.
    ControlOverflow => "control_overflow",
    /// A newer connection of the same neighbour, or a better one, took its place.
    Superseded => "superseded",
    /// This node wanted it closed.
    Requested => "requested",
    /// This node closed it because the neighbour broke the protocol above the link.
    Misbehaved => "misbehaved",
    /// This node is shutting down.
    Shutdown => "shutdown",
    /// Nobody reads the events any more.
    ConsumerGone => "consumer_gone",
    /// Frames of a carried link were lost on the way: what follows makes no sense.
    FramesLost => "frames_lost",
    /// The neighbour sent more over a carrier than it was allowed to have under way.
    WindowOverrun => "window_overrun",
    /// The neighbour began anew over the carrier: it was restarted, or had given the link up.
    CarrierReset => "carrier_reset",
    /// The carrier's connection to the neighbour is gone, or takes nothing more.
    CarrierGone => "carrier_gone",

    // A connection never became a link.
    /// TCP could not connect.
    ConnectFailed => "connect_failed",
    /// TCP was opened and not one byte came in time (half-open).
    HalfOpen => "half_open",
    /// The handshake was begun and not finished in time (slow-loris).
    HandshakeTimeout => "handshake_timeout",
    /// The handshake was done and the hello did not come in time.
    HelloTimeout => "hello_timeout",
    /// What came is not TLS.
    NotTls => "not_tls",
    /// TLS, but not as we speak it: version, key type, signature, protocol name.
    HandshakeFailed => "handshake_failed",
    /// The node that answered is not the one that was dialled.
    WrongIdentity => "wrong_identity",
    /// The node has our own id: we reached ourselves, or our key was copied.
    SelfConnection => "self_connection",
    /// The hello cannot be understood or does not fit.
    BadHello => "bad_hello",
    /// The neighbour speaks another version.
    WrongVersion => "wrong_version",
    /// Only one of the two connections came.
    PairIncomplete => "pair_incomplete",
    /// A link to this neighbour stands or is just being dialled, and that one stays.
    Duplicate => "duplicate",
    /// As many neighbours as allowed.
    PeersFull => "peers_full",
    /// The node is not on the list of allowed ones.
    NotAllowed => "not_allowed",
    /// The other side refused; its reason is in the dial error.
    RefusedByPeer => "refused_by_peer",
    /// Too many unfinished connections from one address.
    AddressBusy => "address_busy",
    /// Too many connections a minute from one address.
    AddressTooOften => "address_too_often",
    /// Too many unfinished connections in all.
    TooManyHandshakes => "too_many_handshakes",
    /// Too many different addresses in the last minute to keep count of.
    TooManyAddresses => "too_many_addresses",
    /// A frame on a carrier that nobody can read.
    BadCarrierFrame => "bad_carrier_frame",
    /// More frames came over a carrier than it takes in.
    CarrierFlood => "carrier_flood",
    /// The system would not hand over a connection (out of file descriptors, for example).
    AcceptFailed => "accept_failed",
}

/// What a carried stream ends with: see [`ByteStream`](crate::ByteStream).
impl std::error::Error for CloseReason {}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_place() {
        let names: std::collections::BTreeSet<_> =
            CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), CloseReason::ALL.len());
        for (place, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
