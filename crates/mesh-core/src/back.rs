//! What comes back to the source: the destination's acks and receipts, and the errors of hops on the way.
//!
//! Acks and receipts travel as [`BackMessage`]s in packets of kind `Back`, sealed by the destination and tagged for each
//! router with the reverse tags that the open handed out. An error is one hop's own word, sealed for the source alone:
//!
//! ```text
//!  0                              8            24        32
//!  preamble (index: hop's place) │ session id │ counter │ sealed HopRefusal ‖ 16-byte tag
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::identity::{Identity, NodeId, Signature, SignatureContext, SignatureVerifier};
use crate::keys::{Cipher, SessionId, TAG_BYTES};
use crate::limits::MAX_HOPS;
use crate::message::read_exactly;
use crate::packet::{FrameKind, PREAMBLE_BYTES, Preamble};

/// What a destination tells the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackMessage {
    /// The session is open: data may flow.
    OpenAck,
    /// What arrived so far.
    Receipt(Receipt),
}

/// The destination's signed word on what arrived: cumulative, so that the newest alone counts and a lost one is no loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The session.
    pub session: SessionId,
    /// Packets that arrived and counted.
    pub packets: u64,
    /// Payload bytes in them.
    pub bytes: u64,
    /// Units drawn.
    pub units: u64,
    /// The highest sequence number that arrived.
    pub highest_sequence: u64,
    /// The destination's signature.
    pub signature: Signature,
}

impl Receipt {
    fn signed_bytes(&self) -> Vec<u8> {
        let numbers = [self.packets, self.bytes, self.units, self.highest_sequence];
        self.session
            .0
            .iter()
            .copied()
            .chain(numbers.iter().flat_map(|number| number.to_be_bytes()))
            .collect()
    }

    /// Signs it as the destination.
    pub fn sign(mut self, destination: &Identity) -> Self {
        self.signature = destination.sign(SignatureContext::Receipt, &self.signed_bytes());
        self
    }

    /// Whether the destination signed it.
    pub fn verify(&self, destination: &NodeId, verifier: &dyn SignatureVerifier) -> bool {
        verifier.verify(
            destination,
            SignatureContext::Receipt,
            &self.signed_bytes(),
            &self.signature,
        )
    }
}

/// Why a hop refused, for the source's eyes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopRefusal {
    /// Why.
    pub reason: DropReason,
    /// What the account at this hop holds, in msat.
    pub credit_msat: u64,
}

const ERROR_HEADER_BYTES: usize = PREAMBLE_BYTES + 16 + 8;
const MAX_ERROR_BYTES: usize = 128;

/// A hop's error: preamble (index: the hop's place) ‖ session id ‖ counter ‖ sealed [`HopRefusal`].
#[derive(Debug, Clone, Copy)]
pub struct HopErrorView<'a> {
    /// The session.
    pub session: SessionId,
    /// The place of the hop that sent it.
    pub hop: u8,
    counter: u64,
    sealed: &'a [u8],
}

impl<'a> HopErrorView<'a> {
    /// Checks the shape of a hop error.
    pub fn parse(frame: &'a [u8]) -> Result<Self, DropReason> {
        if frame.len() > MAX_ERROR_BYTES {
            return Err(DropReason::Oversize);
        }
        let preamble = Preamble::parse(frame)?;
        if preamble.kind != FrameKind::HopError || preamble.hops != 0 {
            return Err(DropReason::UnknownKind);
        }
        let body = frame.get(PREAMBLE_BYTES..).ok_or(DropReason::Malformed)?;
        let (session, body) = body.split_first_chunk::<16>().ok_or(DropReason::Malformed)?;
        let (counter, sealed) = body.split_first_chunk::<8>().ok_or(DropReason::Malformed)?;
        if usize::from(preamble.index) >= MAX_HOPS || sealed.len() < TAG_BYTES {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            session: SessionId(*session),
            hop: preamble.index,
            counter: u64::from_be_bytes(*counter),
            sealed,
        })
    }
}

impl HopErrorView<'_> {
    /// What it says, if the hop with this cipher said so.
    pub(crate) fn open(&self, cipher: &Cipher) -> Result<HopRefusal, DropReason> {
        let plain = cipher
            .open(self.counter, &[], self.sealed)
            .ok_or(DropReason::PayloadAltered)?;
        // The hop sealed it so, perhaps with a reason of a newer version: not `Malformed`, for which the neighbour that
        // only passed it on would be blamed.
        read_exactly(&plain).map_err(|_| DropReason::PayloadAltered)
    }
}

/// Builds a hop's error. `counter` never repeats for one session at one hop.
pub fn build_hop_error(
    session: &SessionId,
    hop: u8,
    cipher: &Cipher,
    counter: u64,
    refusal: &HopRefusal,
) -> Bytes {
    let mut frame = BytesMut::with_capacity(ERROR_HEADER_BYTES + 32);
    frame.put_slice(
        &Preamble {
            kind: FrameKind::HopError,
            hops: 0,
            index: hop,
        }
        .to_bytes(),
    );
    frame.put_slice(&session.0);
    frame.put_u64(counter);
    // A struct of two integers always encodes.
    let plain = postcard::to_stdvec(refusal).unwrap_or_default();
    frame.put_slice(&cipher.seal_vec(counter, &[], plain));
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Ed25519Verifier;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    #[test]
    fn receipt_of_another_destination_is_no_receipt() {
        let receipt = Receipt {
            session: SessionId([1; 16]),
            packets: 1,
            bytes: 2,
            units: 3,
            highest_sequence: 4,
            signature: Signature([0; 64]),
        }
        .sign(&identity(3));
        assert!(receipt.verify(&identity(3).node_id(), &Ed25519Verifier));
        assert!(!receipt.verify(&identity(4).node_id(), &Ed25519Verifier));
        assert!(
            !Receipt {
                packets: 9,
                ..receipt
            }
            .verify(&identity(3).node_id(), &Ed25519Verifier)
        );
    }
}
