//! What this node carries, and for what: the mode, the classes of traffic, and the filter on free content.
//!
//! An operator chooses a [`MeshMode`]; a session has a [`TrafficClass`], fixed when it is opened and for its
//! life. Two questions follow. [`RoutingPolicyEngine::admit`] answers at the open whether the class is
//! carried and whether it has to be paid for. [`RoutingPolicyEngine::check_content`] answers for each packet
//! of a free *named* class whether the payload is what the class is named for; such payloads travel in clear,
//! so that every router can look.
//!
//! | mode | Bitcoin P2P | governance | Stratum V2 set-up | paid | open |
//! |---|---|---|---|---|---|
//! | `bitcoin_only` | free | refused | refused | refused | refused |
//! | `payment_gated` | free | free | free | for payment | refused |
//! | `open` | free | free | free | free | free |
//!
//! **Classification is never trusted to be more than a filter.** Whoever wants to can hide data in a
//! well-formed Bitcoin transaction or in the text of a vote, and no check of form will tell. What the filter
//! does is take away the convenience: free traffic cannot be arbitrary bytes, each message is no longer than
//! its kind needs, and the rest is up to the byte quota per neighbour and the lowest priority that free
//! traffic has.

mod bitcoin_p2p;
mod governance;
mod stratum;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::limits::MAX_PAYLOAD_BYTES;

pub use bitcoin_p2p::{BITCOIN_P2P_MAX_BYTES, BITCOIN_P2P_MAX_MESSAGES};
pub use governance::{GOVERNANCE_MAX_BYTES, GovernanceKind, encode_governance};
pub use stratum::STRATUM_SETUP_MAX_BYTES;

/// What a node carries. The order is fixed: it is the encoding in postcard and bincode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeshMode {
    /// Bitcoin P2P messages only, free. Everything else is refused.
    BitcoinOnly,
    /// The named classes free, everything else for payment.
    PaymentGated,
    /// Everything, free.
    Open,
}

/// What a session carries. The order is fixed: it is the encoding in postcard, part of the wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficClass {
    /// Anything, sealed, paid for per packet; at a node in mode `open` the price is zero.
    Paid,
    /// Anything, sealed, over nodes in mode `open` only.
    Open,
    /// Messages of the Bitcoin peer-to-peer protocol, in clear.
    BitcoinP2p,
    /// Messages of Bitcoin Commons governance, in clear.
    Governance,
    /// The messages that set up a Stratum V2 connection, in clear.
    StratumSetup,
}

/// On what terms a class is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Terms {
    /// At price zero, within the neighbour's quota of free bytes and at the lowest priority.
    Free,
    /// For this node's price.
    Paid,
}

/// A text that names no mode or class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not a {what}: expected one of {expected}")]
pub struct UnknownName {
    what: &'static str,
    given: String,
    expected: String,
}

impl MeshMode {
    /// All modes, in their fixed order.
    pub const ALL: [Self; 3] = [Self::BitcoinOnly, Self::PaymentGated, Self::Open];

    /// The name in configuration and display.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BitcoinOnly => "bitcoin_only",
            Self::PaymentGated => "payment_gated",
            Self::Open => "open",
        }
    }
}

impl fmt::Display for MeshMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MeshMode {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        by_name("mesh mode", text, &Self::ALL, Self::as_str)
    }
}

impl TrafficClass {
    /// All classes, in their fixed order.
    pub const ALL: [Self; 5] = [
        Self::Paid,
        Self::Open,
        Self::BitcoinP2p,
        Self::Governance,
        Self::StratumSetup,
    ];

    /// The name in configuration, metrics and display.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Open => "open",
            Self::BitcoinP2p => "bitcoin_p2p",
            Self::Governance => "governance",
            Self::StratumSetup => "stratum_setup",
        }
    }

    /// Whether payloads of this class travel in clear, so that each router can check them: the free named
    /// classes do.
    pub fn is_in_clear(self) -> bool {
        matches!(self, Self::BitcoinP2p | Self::Governance | Self::StratumSetup)
    }

    /// Largest payload of one packet of this class, in bytes.
    pub fn max_payload_bytes(self) -> usize {
        match self {
            Self::Paid | Self::Open => MAX_PAYLOAD_BYTES,
            Self::BitcoinP2p => BITCOIN_P2P_MAX_BYTES,
            Self::Governance => GOVERNANCE_MAX_BYTES,
            Self::StratumSetup => STRATUM_SETUP_MAX_BYTES,
        }
    }
}

impl fmt::Display for TrafficClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TrafficClass {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        by_name("traffic class", text, &Self::ALL, Self::as_str)
    }
}

/// Decides by the operator's mode what is carried. Pure: the same question has the same answer, whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingPolicyEngine {
    mode: MeshMode,
}

impl RoutingPolicyEngine {
    /// The policy of a node in `mode`.
    pub fn new(mode: MeshMode) -> Self {
        Self { mode }
    }

    /// The mode it decides by.
    pub fn mode(&self) -> MeshMode {
        self.mode
    }

    /// Whether a session of this class is carried, and on what terms; [`DropReason::ClassRefused`] when it is
    /// not.
    pub fn admit(&self, class: TrafficClass) -> Result<Terms, DropReason> {
        use TrafficClass::{BitcoinP2p, Governance, Open, Paid, StratumSetup};
        match (self.mode, class) {
            (MeshMode::Open, _) => Ok(Terms::Free),
            (MeshMode::PaymentGated, BitcoinP2p | Governance | StratumSetup) => Ok(Terms::Free),
            (MeshMode::PaymentGated, Paid) => Ok(Terms::Paid),
            (MeshMode::BitcoinOnly, BitcoinP2p) => Ok(Terms::Free),
            (MeshMode::PaymentGated, Open) | (MeshMode::BitcoinOnly, _) => Err(DropReason::ClassRefused),
        }
    }

    /// Whether a packet's payload may travel in a session of `class`: see [`check_content`].
    pub fn check_content(&self, class: TrafficClass, payload: &[u8]) -> Result<(), DropReason> {
        check_content(class, payload)
    }
}

/// Whether `payload` is what `class` promises; [`DropReason::ContentMismatch`] when it is not, or is larger
/// than [`TrafficClass::max_payload_bytes`]. Paid and open payloads are sealed and may be anything, so only
/// their size counts. A filter and no more: what passes has the form of its class, whatever it means.
///
/// Lengths and names are checked before anything is hashed. The dearest payload that passes, 256 KiB of
/// Bitcoin messages, costs two SHA-256 passes over it; the byte quota of free traffic bounds how often.
pub fn check_content(class: TrafficClass, payload: &[u8]) -> Result<(), DropReason> {
    let matches = payload.len() <= class.max_payload_bytes()
        && match class {
            TrafficClass::Paid | TrafficClass::Open => true,
            TrafficClass::BitcoinP2p => bitcoin_p2p::is_messages(payload),
            TrafficClass::Governance => governance::is_message(payload),
            TrafficClass::StratumSetup => stratum::is_setup_message(payload),
        };
    if matches {
        Ok(())
    } else {
        Err(DropReason::ContentMismatch)
    }
}

fn by_name<T: Copy>(
    what: &'static str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, UnknownName> {
    all.iter()
        .copied()
        .find(|item| name(*item) == text)
        .ok_or_else(|| UnknownName {
            what,
            // Enough to recognise a typing error; the text may come from a file of any size.
            given: text.chars().take(80).collect(),
            expected: all.iter().map(|item| name(*item)).collect::<Vec<_>>().join(", "),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_mode_treats_every_class_as_documented() {
        use Terms::{Free, Paid};
        let table = [
            // Paid, Open, BitcoinP2p, Governance, StratumSetup
            (MeshMode::BitcoinOnly, [None, None, Some(Free), None, None]),
            (
                MeshMode::PaymentGated,
                [Some(Paid), None, Some(Free), Some(Free), Some(Free)],
            ),
            (MeshMode::Open, [Some(Free); 5]),
        ];
        for (mode, terms) in table {
            for (class, expected) in TrafficClass::ALL.into_iter().zip(terms) {
                let decided = RoutingPolicyEngine::new(mode).admit(class);
                assert_eq!(
                    decided,
                    expected.ok_or(DropReason::ClassRefused),
                    "{mode} {class}"
                );
            }
        }
    }

    #[test]
    fn names_come_back_and_unknown_names_are_refused_with_the_known_ones() {
        for mode in MeshMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for class in TrafficClass::ALL {
            assert_eq!(class.to_string().parse(), Ok(class));
        }
        let error = "Open".parse::<MeshMode>().unwrap_err().to_string();
        assert_eq!(
            error,
            "'Open' is not a mesh mode: expected one of bitcoin_only, payment_gated, open"
        );
    }

    #[test]
    fn encoding_on_the_wire_never_changes() {
        let encode = |class: TrafficClass| postcard::to_allocvec(&class).unwrap();
        assert_eq!(
            TrafficClass::ALL.map(encode),
            [[0], [1], [2], [3], [4]].map(Vec::from)
        );
        let encode = |mode: MeshMode| postcard::to_allocvec(&mode).unwrap();
        assert_eq!(MeshMode::ALL.map(encode), [[0], [1], [2]].map(Vec::from));
    }

    #[test]
    fn no_class_carries_more_than_its_limit() {
        for class in TrafficClass::ALL {
            let payload = vec![0; class.max_payload_bytes() + 1];
            assert_eq!(
                check_content(class, &payload),
                Err(DropReason::ContentMismatch),
                "{class}"
            );
        }
        assert_eq!(
            check_content(TrafficClass::Paid, &vec![7; MAX_PAYLOAD_BYTES]),
            Ok(())
        );
    }

    #[test]
    fn nothing_at_all_is_no_message_of_any_named_class() {
        for class in TrafficClass::ALL {
            assert_eq!(check_content(class, &[]).is_err(), class.is_in_clear(), "{class}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_travel_free_under_a_name(
            payload in proptest::collection::vec(any::<u8>(), 0..2000)
        ) {
            for class in TrafficClass::ALL.into_iter().filter(|class| class.is_in_clear()) {
                let verdict = check_content(class, &payload);
                // Random bytes begin like a set-up frame once in 2⁴⁶, and like the other classes more seldom
                // still.
                prop_assert_eq!(verdict, Err(DropReason::ContentMismatch), "{}", class);
            }
        }
    }
}
