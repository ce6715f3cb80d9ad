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
use crate::keys::{DhSecret, HopContext, HopSecret, SessionId};
use crate::limits::{MAX_CONTROL_BYTES, MAX_HOPS};
use crate::message::{QuoteId, read_exactly};
use crate::packet::{FrameKind, PREAMBLE_BYTES, Preamble};
use crate::payment_proof::PaymentProof;
use crate::routing_policy::TrafficClass;
use crate::time::UnixMillis;

pub use crate::back::{BackMessage, HopErrorView, HopRefusal, Receipt, build_hop_error};
pub use crate::source_session::{SourceSession, split_content};

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
        // The source sealed it so: not `Malformed`, for which the neighbour that only passed it on would be blamed.
        let hop_box: HopBox = read_exactly(&plain).map_err(|_| DropReason::SealBroken)?;
        if self.shape_holds(&hop_box) {
            Ok((hop_box, secret))
        } else {
            Err(DropReason::BadRoute)
        }
    }

    /// Only the last hop has no next and a destination's part, and that part has one back secret for each router: with
    /// more of them a source would have the destination keep a thousand keys for the price of one session.
    fn shape_holds(&self, hop_box: &HopBox) -> bool {
        match (&hop_box.next, &hop_box.destination) {
            (None, Some(destination)) => {
                self.is_destination() && destination.back_secrets.len() + 1 == usize::from(self.hops)
            }
            (Some(_), None) => !self.is_destination(),
            _ => false,
        }
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
        let frame = assemble(&self.ephemeral.public(), &quote_ids, &boxes)?;
        let session = SourceSession::new(session_id(&transcript(&frame)), &secrets, self.class);
        Ok((frame, session))
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

/// The frame of these parts, for the first hop.
fn assemble(ephemeral: &[u8; 32], quote_ids: &[QuoteId], boxes: &[Vec<u8>]) -> Result<Bytes, DropReason> {
    let mut frame = BytesMut::new();
    frame.put_slice(
        &Preamble {
            kind: FrameKind::Open,
            hops: quote_ids.len() as u8,
            index: 0,
        }
        .to_bytes(),
    );
    frame.put_slice(ephemeral);
    frame.put_slice(quote_ids.as_flattened());
    for sealed in boxes {
        frame.put_u16(u16::try_from(sealed.len()).map_err(|_| DropReason::Oversize)?);
    }
    for sealed in boxes {
        frame.put_slice(sealed);
    }
    if frame.len() > MAX_CONTROL_BYTES {
        return Err(DropReason::Oversize);
    }
    Ok(frame.freeze())
}

#[cfg(test)]
pub(crate) mod tests {
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

    pub(crate) fn open(hops: u8) -> (Bytes, SourceSession) {
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

    pub(crate) fn unseal(frame: &[u8], index: u8) -> Result<(HopBox, HopSecret), DropReason> {
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

    /// An open of one hop whose box says `hop_box`, as a hostile source would build it.
    fn open_saying(hop_box: &HopBox) -> Bytes {
        open_holding(postcard::to_stdvec(hop_box).unwrap())
    }

    fn open_holding(plain: Vec<u8>) -> Bytes {
        let hop = plans(1).remove(0);
        let context = HopContext {
            ephemeral: secret(2).public(),
            account: hop.account.public(),
            quote: hop.quote_key,
            node: hop.node,
            index: 0,
        };
        let hop_secret = HopSecret::of_payer(&secret(2), &hop.account, &context).unwrap();
        let sealed = hop_secret.seal().seal_vec(0, &[0], plain);
        assemble(&secret(2).public(), &[hop.quote_id], &[sealed]).unwrap()
    }

    #[test]
    fn box_of_nonsense_is_not_held_against_the_neighbour_that_passed_it_on() {
        let refused = unseal(&open_holding(vec![0xff; 40]), 0);
        assert_eq!(refused.unwrap_err(), DropReason::SealBroken);
    }

    #[test]
    fn box_with_more_back_secrets_than_routers_is_refused() {
        let hop_box = |back_secrets| HopBox {
            next: None,
            class: TrafficClass::Paid,
            expires: UnixMillis(99),
            proof: None,
            destination: Some(DestinationBox {
                back_secrets,
                source: None,
            }),
        };
        assert!(unseal(&open_saying(&hop_box(Vec::new())), 0).is_ok());
        let refused = unseal(&open_saying(&hop_box(vec![[1; 32]; 900])), 0);
        assert_eq!(refused.unwrap_err(), DropReason::BadRoute);
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
