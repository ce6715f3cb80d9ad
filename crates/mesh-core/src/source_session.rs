//! The source's side of an open session: it makes the packets, and reads what comes back.

use bytes::Bytes;

use crate::back::{BackMessage, HopErrorView, HopRefusal};
use crate::drop_reason::DropReason;
use crate::keys::{Cipher, HopSecret, PayloadSeal, SessionId, TagKey};
use crate::limits::MAX_PROTOCOL_ID_BYTES;
use crate::message::read_exactly;
use crate::packet::{self, FrameKind, PacketId, PacketParts, PacketView};
use crate::routing_policy::TrafficClass;
use crate::time::UnixMillis;

/// The source's side of an open session: it makes packets and reads what comes back.
pub struct SourceSession {
    id: SessionId,
    tag_keys: Vec<TagKey>,
    payload: PayloadSeal,
    back: PayloadSeal,
    errors: Vec<Cipher>,
    next_sequence: u64,
}

impl SourceSession {
    pub(crate) fn new(id: SessionId, secrets: &[HopSecret], class: TrafficClass) -> Self {
        let destination = &secrets[secrets.len() - 1];
        Self {
            id,
            tag_keys: secrets.iter().map(|secret| secret.tag_key(&id)).collect(),
            payload: PayloadSeal::new(&destination.data_key(&id), class.is_in_clear()),
            back: PayloadSeal::Sealed(destination.back_cipher(&id)),
            errors: secrets.iter().map(|secret| secret.error_cipher(&id)).collect(),
            next_sequence: 0,
        }
    }

    /// The session's name.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Number of hops.
    pub fn hops(&self) -> usize {
        self.tag_keys.len()
    }

    /// Packets made so far.
    pub fn packets(&self) -> u64 {
        self.next_sequence
    }

    /// The next packet of the session.
    pub fn packet(
        &mut self,
        protocol_id: &str,
        payload: &[u8],
        expiry: UnixMillis,
    ) -> Result<(Bytes, PacketId), DropReason> {
        if protocol_id.len() > MAX_PROTOCOL_ID_BYTES {
            return Err(DropReason::Oversize);
        }
        let parts = PacketParts {
            kind: FrameKind::Data,
            session: self.id,
            sequence: self.next_sequence,
            expiry,
            tag_keys: &self.tag_keys,
            seal: &self.payload,
        };
        let built = packet::build(
            &parts,
            &[&[protocol_id.len() as u8], protocol_id.as_bytes(), payload],
        )?;
        self.next_sequence += 1;
        Ok(built)
    }

    /// The packet that tells all hops that no more will come.
    pub fn close(&mut self, expiry: UnixMillis) -> Result<Bytes, DropReason> {
        let parts = PacketParts {
            kind: FrameKind::Data,
            session: self.id,
            sequence: self.next_sequence,
            expiry,
            tag_keys: &self.tag_keys,
            seal: &self.payload,
        };
        let (frame, _) = packet::build(&parts, &[])?;
        self.next_sequence += 1;
        Ok(frame)
    }

    /// What the destination sent back, if nobody altered it.
    pub fn open_back(&self, view: &PacketView<'_>) -> Result<BackMessage, DropReason> {
        let plain = view.open(&self.back).ok_or(DropReason::PayloadAltered)?;
        // The destination sealed it so: not `Malformed`, for which the neighbour that only passed it on would be blamed.
        read_exactly(&plain).map_err(|_| DropReason::PayloadAltered)
    }

    /// Why a hop refused, if it was that hop who said so.
    pub fn open_error(&self, error: &HopErrorView<'_>) -> Result<HopRefusal, DropReason> {
        let cipher = self.errors.get(usize::from(error.hop));
        error.open(cipher.ok_or(DropReason::BadRoute)?)
    }
}

impl std::fmt::Debug for SourceSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SourceSession({}, {} hops)", self.id, self.hops())
    }
}

/// The name and payload inside a packet's content.
pub fn split_content(content: &[u8]) -> Result<(&str, &[u8]), DropReason> {
    let (length, rest) = content.split_first().ok_or(DropReason::Malformed)?;
    let (name, payload) = rest
        .split_at_checked(usize::from(*length))
        .ok_or(DropReason::Malformed)?;
    if name.len() > MAX_PROTOCOL_ID_BYTES {
        return Err(DropReason::Malformed);
    }
    Ok((
        std::str::from_utf8(name).map_err(|_| DropReason::Malformed)?,
        payload,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::back::build_hop_error;
    use crate::open::advance;
    use crate::open::tests::{open, unseal};

    #[test]
    fn packets_and_answers_speak_the_same_keys() {
        let (frame, mut session) = open(2);
        let (router_box, router) = unseal(&frame, 0).unwrap();
        let (_, destination) = unseal(&advance(&frame), 1).unwrap();
        assert_eq!(router_box.class, TrafficClass::Paid);
        let id = session.id();

        let (packet, _) = session.packet("chat", b"hello", UnixMillis(5)).unwrap();
        let view = PacketView::parse(&packet).unwrap();
        assert!(view.tag_matches(0, &router.tag_key(&id)) && view.tag_matches(1, &destination.tag_key(&id)));
        let content = view
            .open(&PayloadSeal::new(&destination.data_key(&id), false))
            .unwrap();
        assert_eq!(split_content(&content).unwrap(), ("chat", b"hello".as_slice()));

        let back = PacketParts {
            kind: FrameKind::Back,
            session: id,
            sequence: 0,
            expiry: UnixMillis(5),
            tag_keys: &[TagKey::of_back_secret(&router.back_secret(), &id)],
            seal: &PayloadSeal::Sealed(destination.back_cipher(&id)),
        };
        let (ack, _) = packet::build(&back, &[&postcard::to_stdvec(&BackMessage::OpenAck).unwrap()]).unwrap();
        assert_eq!(
            session.open_back(&PacketView::parse(&ack).unwrap()).unwrap(),
            BackMessage::OpenAck
        );
    }

    #[test]
    fn nonsense_that_a_far_node_sealed_is_not_held_against_the_neighbour_that_passed_it_on() {
        let (frame, session) = open(1);
        let (_, destination) = unseal(&frame, 0).unwrap();
        let id = session.id();
        let nonsense = PacketParts {
            kind: FrameKind::Back,
            session: id,
            sequence: 0,
            expiry: UnixMillis(5),
            tag_keys: &[],
            seal: &PayloadSeal::Sealed(destination.back_cipher(&id)),
        };
        let (back, _) = packet::build(&nonsense, &[&[0xff; 9]]).unwrap();
        let opened = session.open_back(&PacketView::parse(&back).unwrap());
        assert_eq!(opened, Err(DropReason::PayloadAltered));

        let refusal = HopRefusal {
            reason: DropReason::CreditSpent,
            credit_msat: 3,
        };
        let mut error = build_hop_error(&id, 0, &destination.error_cipher(&id), 0, &refusal).to_vec();
        error.truncate(error.len() - 18);
        let unknown_reason = vec![250, 3];
        error.extend(destination.error_cipher(&id).seal_vec(0, &[], unknown_reason));
        let opened = session.open_error(&HopErrorView::parse(&error).unwrap());
        assert_eq!(opened, Err(DropReason::PayloadAltered));
    }

    #[test]
    fn a_hops_error_is_believed_only_from_that_hop() {
        let (frame, session) = open(2);
        let (_, router) = unseal(&frame, 0).unwrap();
        let refusal = HopRefusal {
            reason: DropReason::CreditSpent,
            credit_msat: 3,
        };
        let error = build_hop_error(&session.id(), 0, &router.error_cipher(&session.id()), 0, &refusal);
        assert_eq!(
            session.open_error(&HopErrorView::parse(&error).unwrap()).unwrap(),
            refusal
        );
        let mut other_hop = error.to_vec();
        other_hop[7] = 1;
        let view = HopErrorView::parse(&other_hop).unwrap();
        assert_eq!(session.open_error(&view), Err(DropReason::PayloadAltered));
    }
}
