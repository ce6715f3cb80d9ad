//! What neighbours send.

use mesh_core::announcement::{Announcement, Body};
use mesh_core::check::check;
use mesh_core::drop_reason::DropReason;
use mesh_core::identity::Ed25519Verifier;
use mesh_core::keys::{PayloadSeal, TAG_BYTES, TagKey};
use mesh_core::limits::{
    MAX_ANNOUNCED_ADDRESSES, MAX_CONTROL_BYTES, MAX_FRAME_BYTES, MAX_HOPS, MAX_LISTED_NEIGHBOURS,
    MAX_PROTOCOL_ID_BYTES,
};
use mesh_core::message::ControlMessage;
use mesh_core::open::{BackMessage, HopErrorView, HopRefusal, OpenView, split_content};
use mesh_core::packet::{self, FrameKind, PREAMBLE_BYTES, PacketParts, PacketView, Preamble};
use mesh_core::routing_policy::{GovernanceKind, TrafficClass, check_content, encode_governance};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::cast::{self, Credulous, HOPS, NOW, SESSION, choose};

/// Preambles and packets: what is accepted is as long as it says, only the real session's packets pass its tags and seals,
/// and what does pass is, byte for byte, what the source would build.
pub fn packet(data: &[u8]) {
    if let Ok(preamble) = Preamble::parse(data) {
        assert_eq!(preamble.to_bytes(), data[..PREAMBLE_BYTES]);
    }
    let Ok(view) = PacketView::parse(data) else {
        return;
    };
    assert_eq!(view.frame_bytes(), data.len());
    assert!(data.len() <= MAX_FRAME_BYTES && usize::from(view.hops) <= MAX_HOPS);
    assert!((1..=257).contains(&view.units()));
    let session = &*SESSION;
    let tag_keys: Vec<TagKey> = session
        .hops
        .iter()
        .map(|hop| hop.tag_key(&view.session))
        .collect();
    let tagged = (0..=u8::MAX)
        .zip(&tag_keys)
        .filter(|(index, key)| view.tag_matches(*index, key))
        .count();
    assert!(
        !view.tag_matches(view.hops, &tag_keys[0]),
        "a tag that is not there"
    );
    let seal = PayloadSeal::new(&session.hops[1].data_key(&view.session), false);
    let in_clear = PayloadSeal::new(&Zeroizing::new([7; 32]), true);
    let opened = [view.open(&seal), view.open(&in_clear)];
    for content in opened.iter().flatten() {
        assert_eq!(content.len() + TAG_BYTES, view.sealed().len());
    }
    if let [Some(content), _] = &opened
        && tagged == tag_keys.len()
        && usize::from(view.hops) == tag_keys.len()
    {
        let parts = PacketParts {
            kind: view.kind,
            session: view.session,
            sequence: view.sequence,
            expiry: view.expiry,
            tag_keys: &tag_keys,
            seal: &seal,
        };
        let (rebuilt, id) = packet::build(&parts, &[content]).unwrap();
        assert_eq!((&rebuilt[..], id), (data, view.packet_id()));
    }
}

/// Opens, as they travel and as a hop finds its box: an open whose bytes differ in anything but the index is another
/// session, and a box says what its shape allows.
pub fn open(data: &[u8]) {
    let (how, data) = choose(data);
    if how & 1 == 0 {
        open_frame(data);
    } else {
        open_frame(&sealed_to_the_only_hop(data));
    }
}

fn open_frame(frame: &[u8]) {
    let Ok(view) = OpenView::parse(frame) else {
        return;
    };
    assert!(frame.len() <= MAX_CONTROL_BYTES);
    assert!((1..=MAX_HOPS).contains(&usize::from(view.hops)) && view.index < view.hops);
    let real = &SESSION.open;
    let differs = frame.len() != real.len()
        || frame
            .iter()
            .zip(real.iter())
            .enumerate()
            .any(|(at, (a, b))| at != 7 && a != b);
    assert_eq!(differs, view.session() != SESSION.source.id());
    let (node, quote, account) = match view.index {
        0 => (cast::node(0), cast::quote_key(0), cast::account_key(0)),
        _ => (cast::node(1), cast::quote_key(1), cast::account_key(1)),
    };
    if let Ok((hop_box, _)) = view.unseal(&node, &quote, &account.public()) {
        assert_eq!(hop_box.next.is_none(), view.is_destination());
        assert_eq!(hop_box.destination.is_some(), view.is_destination());
        if let Some(destination) = &hop_box.destination {
            assert_eq!(destination.back_secrets.len() + 1, usize::from(view.hops));
            if let Some((source, signature)) = &destination.source {
                let _ = view.source_signed(&node, source, signature, &Ed25519Verifier);
            }
        }
        comes_back(&hop_box);
    }
}

/// An open of one hop whose box holds `plain`, as a hostile source can seal it.
fn sealed_to_the_only_hop(plain: &[u8]) -> Vec<u8> {
    let preamble = Preamble {
        kind: FrameKind::Open,
        hops: 1,
        index: 0,
    };
    let boxed = SESSION.hops[0].seal().seal_vec(0, &[0], plain.to_vec());
    let length = (boxed.len() as u16).to_be_bytes();
    [
        &preamble.to_bytes()[..],
        &cast::context(0).ephemeral,
        &[0xc0; 16],
        &length,
        &boxed,
    ]
    .concat()
}

/// What comes back to a source: packets of kind back, what a destination sealed in them, and hops' errors.
pub fn back(data: &[u8]) {
    let session = &*SESSION;
    let id = session.source.id();
    let (how, data) = choose(data);
    match how % 4 {
        0 => {
            if let Ok(view) = HopErrorView::parse(data) {
                assert!(usize::from(view.hop) < MAX_HOPS && data.len() <= 128);
                let _ = session.source.open_error(&view);
            }
        }
        1 => {
            let preamble = Preamble {
                kind: FrameKind::HopError,
                hops: 0,
                index: 1,
            };
            let sealed = session.hops[1].error_cipher(&id).seal_vec(3, &[], data.to_vec());
            let frame = [&preamble.to_bytes()[..], &id.0, &3u64.to_be_bytes(), &sealed].concat();
            match HopErrorView::parse(&frame) {
                Ok(view) => match session.source.open_error(&view) {
                    Ok(refusal) => {
                        comes_back(&refusal);
                        assert_eq!(read::<HopRefusal>(data), Some(refusal));
                    }
                    // Not a word for which a neighbour that only passed it on is blamed.
                    Err(reason) => assert_eq!(reason, DropReason::PayloadAltered),
                },
                Err(reason) => assert_eq!(reason, DropReason::Oversize),
            }
        }
        2 => {
            if let Ok(view) = PacketView::parse(data) {
                let _ = session.source.open_back(&view);
            }
        }
        _ => {
            let parts = PacketParts {
                kind: FrameKind::Back,
                session: id,
                sequence: 5,
                expiry: NOW,
                tag_keys: &[],
                seal: &PayloadSeal::Sealed(session.hops[1].back_cipher(&id)),
            };
            let Ok((frame, _)) = packet::build(&parts, &[data]) else {
                return;
            };
            let view = PacketView::parse(&frame).unwrap();
            match session.source.open_back(&view) {
                Ok(message) => {
                    comes_back(&message);
                    if let BackMessage::Receipt(receipt) = message {
                        let _ = receipt.verify(&cast::node(HOPS - 1), &Ed25519Verifier);
                    }
                }
                Err(reason) => assert_eq!(reason, DropReason::PayloadAltered),
            }
        }
    }
}

/// Control messages: what is read comes back the same, is never longer when a relay writes it again, and is refused or
/// taken without a panic whoever asks and however lenient the signatures are checked.
pub fn control(data: &[u8]) {
    let (how, data) = choose(data);
    let frame = if how & 1 == 0 {
        data.to_vec()
    } else {
        control_frame(data)
    };
    let Ok(message) = ControlMessage::decode(&frame) else {
        return;
    };
    assert!(frame.len() <= MAX_CONTROL_BYTES);
    let again = message.encode().expect("what was read can be handed on");
    assert!(again.len() <= frame.len());
    assert_eq!(ControlMessage::decode(&again).unwrap(), message);
    for node in [1, 2, 3] {
        let me = cast::identity(node).node_id();
        let real = check(&frame, &me, &Ed25519Verifier);
        let credulous = check(&frame, &me, &Credulous);
        assert!(
            real.is_err() || credulous.is_ok(),
            "real signatures convince the credulous, too"
        );
        if let Ok(checked) = credulous {
            sound(checked.into_parts().0);
        }
    }
}

/// What the core may rely on in a message that was checked.
fn sound(message: ControlMessage) {
    match message {
        ControlMessage::DiscoveryRequest(request) => {
            assert!((1..=request.most_hops()).contains(&request.path.len()));
        }
        ControlMessage::DiscoveryResponse(certificate) => {
            assert!((2..=MAX_HOPS + 1).contains(&certificate.path.len()));
            assert!(certificate.attestations.len() + 2 <= certificate.path.len());
            assert!(certificate.valid_until() <= certificate.expires);
        }
        ControlMessage::QuoteRequest(request) => {
            let hops = request.certificate.hops();
            assert_eq!((request.accounts.len(), request.buying.len()), (hops, hops));
            let terms: Vec<_> = (1..=hops).map(|place| request.terms(place)).collect();
            if let Ok(terms) = terms.into_iter().collect::<Result<Vec<_>, _>>() {
                let bought: u128 = terms.iter().map(|terms| u128::from(terms.amount_msat())).sum();
                assert!(
                    bought <= u128::from(request.total_msat),
                    "payees take more than is offered"
                );
            }
            assert!(request.terms(0).is_err() && request.terms(hops + 1).is_err());
        }
        ControlMessage::RoutingUpdate(update) => {
            for announcement in &update.announcements {
                bounded(announcement);
            }
        }
        ControlMessage::QuoteResponse(_)
        | ControlMessage::SeqnoRequest(_)
        | ControlMessage::RoutingAck { .. }
        | ControlMessage::Refused => {}
    }
}

fn bounded(announcement: &Announcement) {
    if let Some(bytes) = &announcement.body {
        let body = Body::decode(bytes, &announcement.head.origin).expect("it was checked");
        assert!(body.addresses.len() <= MAX_ANNOUNCED_ADDRESSES);
        assert!(body.neighbours.len() <= MAX_LISTED_NEIGHBOURS);
    }
}

/// Announcements and their bodies: both within their bounds, and what a node encodes it can decode.
pub fn announcement(data: &[u8]) {
    let (how, data) = choose(data);
    let origin = cast::node(0);
    if how & 1 == 0 {
        let Ok(body) = Body::decode(data, &origin) else {
            return;
        };
        let bytes = body.encode().unwrap();
        assert!(bytes.len() <= data.len());
        assert_eq!(Body::decode(&bytes, &origin).unwrap(), body);
        let head = mesh_core::announcement::Head::sign(1, NOW, &bytes, &cast::identity(10));
        let certified = body
            .operator
            .is_none_or(|operator| operator.verify(&origin, &Ed25519Verifier));
        let announcement = Announcement {
            head,
            body: Some(bytes),
        };
        assert_eq!(announcement.check(&Ed25519Verifier).is_ok(), certified);
    } else if let Some(announcement) = read::<Announcement>(data) {
        comes_back(&announcement);
        if announcement.check(&Credulous).is_ok() {
            bounded(&announcement);
            let _ = announcement.head.check_expiry(NOW);
        }
    }
}

/// What is inside a packet: name and payload account for every byte, and the filters of the free classes hold their sizes.
pub fn content(data: &[u8]) {
    if let Ok((name, payload)) = split_content(data) {
        assert!(name.len() <= MAX_PROTOCOL_ID_BYTES);
        assert_eq!([&[name.len() as u8], name.as_bytes(), payload].concat(), data);
    }
    for class in TrafficClass::ALL {
        let verdict = check_content(class, data);
        assert!(verdict.is_err() || data.len() <= class.max_payload_bytes());
        assert!(matches!(verdict, Ok(()) | Err(DropReason::ContentMismatch)));
    }
    let (how, body) = choose(data);
    let kinds = [
        GovernanceKind::Proposal,
        GovernanceKind::Vote,
        GovernanceKind::Signature,
        GovernanceKind::Veto,
    ];
    if let Some(message) = encode_governance(kinds[usize::from(how % 4)], body) {
        assert_eq!(check_content(TrafficClass::Governance, &message), Ok(()));
    }
}

/// A control frame around `body`.
pub(crate) fn control_frame(body: &[u8]) -> Vec<u8> {
    let preamble = Preamble {
        kind: FrameKind::Control,
        hops: 0,
        index: 0,
    };
    [&preamble.to_bytes()[..], body].concat()
}

/// Postcard without leftovers, as the wire is read.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// What was read, written and read again is the same.
pub(crate) fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = postcard::to_stdvec(value).unwrap();
    assert_eq!(read::<T>(&bytes).as_ref(), Some(value));
}
