//! The message that opens a session: one sealed box per hop, in one frame that is forwarded hop by hop.
//!
//! ```text
//!  0          8               40            40+16n       40+18n
//!  preamble │ ephemeral key │ n quote ids │ n lengths │ n sealed boxes (first router first)
//! ```
//! The preamble's `hops` is n, its `index` the place of the hop the frame is sent to; `index` alone changes on the way,
//! and a hop whose box does not open under the index it reads refuses. The transcript is BLAKE3 over the frame with index
//! 0; its first 16 bytes are the session id, and every tag and payload key is derived from that id: one altered bit in
//! anybody's box and source and hops no longer talk about the same session.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::drop_reason::DropReason;
use crate::identity::{Identity, NodeId, Signature, SignatureContext, SignatureVerifier};
use crate::keys::{Cipher, DhSecret, HopContext, HopSecret, PayloadSeal, SessionId, TAG_BYTES, TagKey};
use crate::limits::{MAX_CONTROL_BYTES, MAX_HOPS, MAX_PROTOCOL_ID_BYTES};
use crate::message::QuoteId;
use crate::packet::{self, FrameKind, PREAMBLE_BYTES, PacketId, PacketParts, PacketView, Preamble};
use crate::payment_proof::PaymentProof;
use crate::routing_policy::TrafficClass;
use crate::time::UnixMillis;

const EPHEMERAL_END: usize = PREAMBLE_BYTES + 32;

/// What one hop learns from its box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopBox {
    /// The next hop; `None` at the destination.
    pub next: Option<NodeId>,
    /// What the session carries, for its whole life.
    pub class: TrafficClass,
    /// When the session ends.
    pub expires: UnixMillis,
    /// The payment that is redeemed with this open; none when the account holds enough, or nothing costs.
    pub proof: Option<PaymentProof>,
    /// What only the destination learns.
    pub destination: Option<DestinationBox>,
}

/// What only the destination learns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationBox {
    /// The routers' back secrets in route order: with them the destination makes the reverse tags.
    pub back_secrets: Vec<[u8; 32]>,
    /// The source's name and signature; none when it wishes to stay unauthenticated.
    pub source: Option<(NodeId, Signature)>,
}

/// The whole transcript's hash; its first half is the session id.
pub type Transcript = [u8; 32];

/// An open whose shape was checked.
#[derive(Debug, Clone, Copy)]
pub struct OpenView<'a> {
    /// Number of hops, 1 to 10.
    pub hops: u8,
    /// The place of the hop the frame was sent to, 0 to `hops` − 1.
    pub index: u8,
    /// The session's ephemeral public key.
    pub ephemeral: [u8; 32],
    /// Hash of all that no hop may change.
    pub transcript: Transcript,
    quote_ids: &'a [QuoteId],
    sealed: &'a [u8],
}

impl<'a> OpenView<'a> {
    /// Checks the shape of an open.
    pub fn parse(frame: &'a [u8]) -> Result<Self, DropReason> {
        if frame.len() > MAX_CONTROL_BYTES {
            return Err(DropReason::Oversize);
        }
        let preamble = Preamble::parse(frame)?;
        if preamble.kind != FrameKind::Open {
            return Err(DropReason::UnknownKind);
        }
        let hops = usize::from(preamble.hops);
        if hops == 0 || hops > MAX_HOPS || preamble.index >= preamble.hops {
            return Err(DropReason::BadRoute);
        }
        let body = frame.get(PREAMBLE_BYTES..).ok_or(DropReason::Malformed)?;
        let (ephemeral, rest) = body.split_first_chunk::<32>().ok_or(DropReason::Malformed)?;
        let (quote_ids, rest) = rest.split_at_checked(hops * 16).ok_or(DropReason::Malformed)?;
        let (lengths, boxes) = rest.split_at_checked(hops * 2).ok_or(DropReason::Malformed)?;
        let lengths = lengths
            .as_chunks::<2>()
            .0
            .iter()
            .map(|length| usize::from(u16::from_be_bytes(*length)));
        let before: usize = lengths.clone().take(usize::from(preamble.index)).sum();
        let own = lengths
            .clone()
            .nth(usize::from(preamble.index))
            .ok_or(DropReason::Malformed)?;
        if lengths.sum::<usize>() != boxes.len() {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            hops: preamble.hops,
            index: preamble.index,
            ephemeral: *ephemeral,
            transcript: transcript(frame),
            quote_ids: quote_ids.as_chunks::<16>().0,
            sealed: boxes.get(before..before + own).ok_or(DropReason::Malformed)?,
        })
    }

    /// The session this open would open.
    pub fn session(&self) -> SessionId {
        session_id(&self.transcript)
    }

    /// The quote whose key opens this hop's box.
    pub fn quote_id(&self) -> QuoteId {
        self.quote_ids
            .get(usize::from(self.index))
            .copied()
            .unwrap_or_default()
    }

    /// Whether this is the last hop.
    pub fn is_destination(&self) -> bool {
        self.index + 1 == self.hops
    }

    /// Opens this hop's box. It succeeds only for the node the box was sealed to, at the place it was sealed for, with
    /// the account key that the quote was made for.
    pub fn unseal(
        &self,
        node: &NodeId,
        quote: &DhSecret,
        account: &[u8; 32],
    ) -> Result<(HopBox, HopSecret), DropReason> {
        let context = HopContext {
            ephemeral: self.ephemeral,
            account: *account,
            quote: quote.public(),
            node: *node,
            index: self.index,
        };
        let secret = HopSecret::of_hop(quote, &context)?;
        let plain = secret
            .seal()
            .open(0, &[self.index], self.sealed)
            .ok_or(DropReason::SealBroken)?;
        let (hop_box, rest): (HopBox, _) =
            postcard::take_from_bytes(&plain).map_err(|_| DropReason::Malformed)?;
        let last = self.is_destination();
        let shape_holds =
            rest.is_empty() && hop_box.next.is_none() == last && hop_box.destination.is_some() == last;
        if !shape_holds {
            return Err(DropReason::BadRoute);
        }
        Ok((hop_box, secret))
    }

    /// As the destination: whether the named source signed this open.
    pub fn source_signed(
        &self,
        destination: &NodeId,
        source: &NodeId,
        signature: &Signature,
        verifier: &dyn SignatureVerifier,
    ) -> bool {
        let message = source_bytes(&self.ephemeral, self.quote_ids, destination);
        verifier.verify(source, SignatureContext::SessionSource, &message, signature)
    }
}

/// The same frame for the next hop: a copy whose index is one higher.
pub fn advance(frame: &[u8]) -> Bytes {
    let mut copy = BytesMut::from(frame);
    if let Some(index) = copy.get_mut(7) {
        *index = index.saturating_add(1);
    }
    copy.freeze()
}

fn session_id(transcript: &Transcript) -> SessionId {
    let mut id = [0; 16];
    id.copy_from_slice(&transcript[..16]);
    SessionId(id)
}

fn transcript(frame: &[u8]) -> Transcript {
    let mut hasher = blake3::Hasher::new_derive_key("blvm-mesh/1 open transcript");
    if let Some((preamble, body)) = frame.split_first_chunk::<PREAMBLE_BYTES>() {
        hasher.update(&preamble[..7]).update(&[0]).update(body);
    }
    *hasher.finalize().as_bytes()
}

/// What the source signs: the ephemeral key makes it unique, the quote ids name the whole route.
fn source_bytes(ephemeral: &[u8; 32], quote_ids: &[QuoteId], destination: &NodeId) -> Vec<u8> {
    [ephemeral.as_slice(), quote_ids.as_flattened(), &destination.0].concat()
}

/// One hop as the source sees it when it opens a session.
#[derive(Debug, Clone)]
pub struct HopPlan {
    /// The hop.
    pub node: NodeId,
    /// Its quote.
    pub quote_id: QuoteId,
    /// The quote's X25519 key.
    pub quote_key: [u8; 32],
    /// The payer's account at this hop.
    pub account: DhSecret,
    /// The payment to redeem there.
    pub proof: Option<PaymentProof>,
}

/// What an open is built from.
pub struct OpenPlan<'a> {
    /// The hops, first router first, destination last.
    pub hops: &'a [HopPlan],
    /// What the session carries.
    pub class: TrafficClass,
    /// When it ends.
    pub expires: UnixMillis,
    /// The session's ephemeral key: fresh for each session.
    pub ephemeral: DhSecret,
    /// Who signs as source; `None` to stay unauthenticated.
    pub source: Option<&'a Identity>,
}

impl OpenPlan<'_> {
    /// The frame to send to the first hop, and the source's side of the session.
    pub fn build(&self) -> Result<(Bytes, SourceSession), DropReason> {
        if self.hops.is_empty() || self.hops.len() > MAX_HOPS {
            return Err(DropReason::BadRoute);
        }
        let secrets = self.hop_secrets()?;
        let quote_ids: Vec<QuoteId> = self.hops.iter().map(|hop| hop.quote_id).collect();
        let boxes = self.seal_boxes(&secrets, &quote_ids)?;

        let mut frame = BytesMut::new();
        frame.put_slice(
            &Preamble {
                kind: FrameKind::Open,
                hops: self.hops.len() as u8,
                index: 0,
            }
            .to_bytes(),
        );
        frame.put_slice(&self.ephemeral.public());
        frame.put_slice(quote_ids.as_flattened());
        for sealed in &boxes {
            frame.put_u16(u16::try_from(sealed.len()).map_err(|_| DropReason::Oversize)?);
        }
        for sealed in &boxes {
            frame.put_slice(sealed);
        }
        if frame.len() > MAX_CONTROL_BYTES {
            return Err(DropReason::Oversize);
        }
        debug_assert!(frame.len() > EPHEMERAL_END);
        let session = SourceSession::new(session_id(&transcript(&frame)), &secrets, self.class);
        Ok((frame.freeze(), session))
    }

    fn hop_secrets(&self) -> Result<Vec<HopSecret>, DropReason> {
        let secret_of = |(index, hop): (usize, &HopPlan)| {
            let context = HopContext {
                ephemeral: self.ephemeral.public(),
                account: hop.account.public(),
                quote: hop.quote_key,
                node: hop.node,
                index: index as u8,
            };
            HopSecret::of_payer(&self.ephemeral, &hop.account, &context)
        };
        self.hops.iter().enumerate().map(secret_of).collect()
    }

    fn seal_boxes(&self, secrets: &[HopSecret], quote_ids: &[QuoteId]) -> Result<Vec<Vec<u8>>, DropReason> {
        let seal = |(index, (hop, secret)): (usize, (&HopPlan, &HopSecret))| {
            let next = self.hops.get(index + 1).map(|next| next.node);
            let destination = next.is_none().then(|| DestinationBox {
                back_secrets: secrets[..index].iter().map(HopSecret::back_secret).collect(),
                source: self.source.map(|source| {
                    let message = source_bytes(&self.ephemeral.public(), quote_ids, &hop.node);
                    (
                        source.node_id(),
                        source.sign(SignatureContext::SessionSource, &message),
                    )
                }),
            });
            let hop_box = HopBox {
                next,
                class: self.class,
                expires: self.expires,
                proof: hop.proof.clone(),
                destination,
            };
            let plain = postcard::to_stdvec(&hop_box).map_err(|_| DropReason::Malformed)?;
            Ok(secret.seal().seal_vec(0, &[index as u8], plain))
        };
        self.hops.iter().zip(secrets).enumerate().map(seal).collect()
    }
}

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
    fn new(id: SessionId, secrets: &[HopSecret], class: TrafficClass) -> Self {
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

    /// What the destination sent back, if nobody altered it.
    pub fn open_back(&self, view: &PacketView<'_>) -> Result<BackMessage, DropReason> {
        let plain = view.open(&self.back).ok_or(DropReason::PayloadAltered)?;
        postcard::from_bytes(&plain).map_err(|_| DropReason::Malformed)
    }

    /// Why a hop refused, if it was that hop who said so.
    pub fn open_error(&self, error: &HopErrorView<'_>) -> Result<HopRefusal, DropReason> {
        let cipher = self
            .errors
            .get(usize::from(error.hop))
            .ok_or(DropReason::BadRoute)?;
        let plain = cipher
            .open(error.counter, &[], error.sealed)
            .ok_or(DropReason::PayloadAltered)?;
        postcard::from_bytes(&plain).map_err(|_| DropReason::Malformed)
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
    use proptest::prelude::*;

    fn identity(byte: u8) -> Identity {
        Identity::from_seed([byte; 32]).unwrap()
    }

    fn secret(byte: u8) -> DhSecret {
        DhSecret::new([byte; 32]).unwrap()
    }

    /// Hop i has identity 10+i, quote key 20+i; the payer's account there is 30+i.
    fn plans(hops: u8) -> Vec<HopPlan> {
        let plan = |index: u8| HopPlan {
            node: identity(10 + index).node_id(),
            quote_id: [index; 16],
            quote_key: secret(20 + index).public(),
            account: secret(30 + index),
            proof: None,
        };
        (0..hops).map(plan).collect()
    }

    fn open(hops: u8) -> (Bytes, SourceSession) {
        let source = identity(1);
        OpenPlan {
            hops: &plans(hops),
            class: TrafficClass::Paid,
            expires: UnixMillis(99),
            ephemeral: secret(2),
            source: Some(&source),
        }
        .build()
        .unwrap()
    }

    fn unseal(frame: &[u8], index: u8) -> Result<(HopBox, HopSecret), DropReason> {
        let view = OpenView::parse(frame)?;
        view.unseal(
            &identity(10 + index).node_id(),
            &secret(20 + index),
            &secret(30 + index).public(),
        )
    }

    #[test]
    fn every_hop_opens_its_own_box_and_agrees_on_the_session() {
        for hops in 1..=10 {
            let (mut frame, session) = open(hops);
            for index in 0..hops {
                let view = OpenView::parse(&frame).unwrap();
                assert_eq!(view.session(), session.id());
                assert_eq!(view.quote_id(), [index; 16]);
                let (hop_box, _) = unseal(&frame, index).unwrap();
                assert_eq!(
                    hop_box.next,
                    plans(hops).get(usize::from(index) + 1).map(|hop| hop.node)
                );
                frame = advance(&frame);
            }
            assert_eq!(OpenView::parse(&frame).unwrap_err(), DropReason::BadRoute);
        }
    }

    #[test]
    fn nobody_opens_anothers_box() {
        let (frame, _) = open(3);
        assert_eq!(unseal(&frame, 1).unwrap_err(), DropReason::SealBroken);
        assert_eq!(unseal(&advance(&frame), 0).unwrap_err(), DropReason::SealBroken);
        let view = OpenView::parse(&frame).unwrap();
        let stolen_account = view.unseal(&identity(10).node_id(), &secret(20), &secret(77).public());
        assert_eq!(stolen_account.unwrap_err(), DropReason::SealBroken);
    }

    #[test]
    fn altering_a_later_box_changes_the_session_for_everybody() {
        let (frame, session) = open(3);
        let mut altered = frame.to_vec();
        *altered.last_mut().unwrap() ^= 1;
        assert_ne!(OpenView::parse(&altered).unwrap().session(), session.id());
    }

    #[test]
    fn destination_knows_the_source_by_its_signature() {
        let (frame, _) = open(2);
        let frame = advance(&frame);
        let view = OpenView::parse(&frame).unwrap();
        let (hop_box, _) = unseal(&frame, 1).unwrap();
        let (source, signature) = hop_box.destination.unwrap().source.unwrap();
        let here = identity(11).node_id();
        assert!(view.source_signed(&here, &source, &signature, &Ed25519Verifier));
        assert!(!view.source_signed(&here, &identity(5).node_id(), &signature, &Ed25519Verifier));
    }

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

    proptest! {
        #[test]
        fn altered_opens_never_panic_and_never_open_unnoticed(at in 0usize..400, flip in 1u8..) {
            let (frame, session) = open(2);
            let mut altered = frame.to_vec();
            let at = at % altered.len();
            altered[at] ^= flip;
            if let Ok(view) = OpenView::parse(&altered) && at != 7 {
                let _ = unseal(&altered, view.index);
                prop_assert_ne!(view.session(), session.id());
            }
        }
    }
}
