//! The bytes of packets: a header view that is checked once and cannot panic afterwards, and the matching builder.
//!
//! ```text
//!  0      4    5      6      7       8            24         32       40       44        44+16n
//!  "MESH" │ 1 │ kind │ hops │ index │ session id │ sequence │ expiry │ length │ n tags … │ sealed payload ‖ 16-byte tag
//! ```
//! All integers are big-endian; expiry is in milliseconds since 1970; `length` counts the sealed payload with its tag.
//! A tag covers the hop's index, the session id, sequence, expiry, length and the payload's tag: 53 bytes, one BLAKE3
//! compression, so that no hop ever hashes the payload.

use bytes::{BufMut, Bytes, BytesMut};

use crate::drop_reason::DropReason;
use crate::keys::{PayloadSeal, SessionId, TAG_BYTES, TagKey};
use crate::limits::{MAX_FRAME_BYTES, MAX_HOPS, MAX_INNER_HEADER_BYTES, UNIT_BYTES};
use crate::time::UnixMillis;

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"MESH";

/// The protocol version this node speaks.
pub const VERSION: u8 = 1;

/// Bytes of the preamble that every frame begins with.
pub const PREAMBLE_BYTES: usize = 8;

/// Bytes of a packet's header before its tags.
pub const HEADER_BYTES: usize = 44;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A session packet on its way to the destination.
    Data = 1,
    /// Ack or receipt on its way back to the source.
    Back = 2,
    /// A hop's authenticated error on its way back to the source.
    HopError = 3,
    /// The message that opens a session.
    Open = 4,
    /// A control message: discovery or quotes.
    Control = 16,
}

/// The preamble that every frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// What follows.
    pub kind: FrameKind,
    /// The number of hops or tags; 0 in control messages.
    pub hops: u8,
    /// The hop index in opens and hop errors; else 0.
    pub index: u8,
}

impl Preamble {
    /// Reads and checks the first eight bytes.
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let Some(([m0, m1, m2, m3, version, kind, hops, index], _)) =
            frame.split_first_chunk::<PREAMBLE_BYTES>()
        else {
            return Err(DropReason::Malformed);
        };
        if [*m0, *m1, *m2, *m3] != MAGIC {
            return Err(DropReason::Malformed);
        }
        if *version != VERSION {
            return Err(DropReason::UnknownVersion);
        }
        let kind = match kind {
            1 => FrameKind::Data,
            2 => FrameKind::Back,
            3 => FrameKind::HopError,
            4 => FrameKind::Open,
            16 => FrameKind::Control,
            _ => return Err(DropReason::UnknownKind),
        };
        Ok(Self {
            kind,
            hops: *hops,
            index: *index,
        })
    }

    /// The eight bytes.
    pub fn to_bytes(self) -> [u8; PREAMBLE_BYTES] {
        let [m0, m1, m2, m3] = MAGIC;
        [m0, m1, m2, m3, VERSION, self.kind as u8, self.hops, self.index]
    }
}

/// A data or back packet whose header was checked.
#[derive(Debug, Clone, Copy)]
pub struct PacketView<'a> {
    /// [`FrameKind::Data`] or [`FrameKind::Back`].
    pub kind: FrameKind,
    /// Number of tags.
    pub hops: u8,
    /// The session it belongs to.
    pub session: SessionId,
    /// Its place in the session's sequence in this direction.
    pub sequence: u64,
    /// When it becomes worthless.
    pub expiry: UnixMillis,
    tags: &'a [[u8; TAG_BYTES]],
    sealed: &'a [u8],
    header: &'a [u8],
}

/// The name of a packet on the wire: BLAKE3(session id ‖ sequence ‖ payload tag).
pub type PacketId = [u8; 32];

impl<'a> PacketView<'a> {
    /// Checks the header of a data or back packet.
    pub fn parse(frame: &'a [u8]) -> Result<Self, DropReason> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(DropReason::Oversize);
        }
        let preamble = Preamble::parse(frame)?;
        if !matches!(preamble.kind, FrameKind::Data | FrameKind::Back) || preamble.index != 0 {
            return Err(DropReason::UnknownKind);
        }
        let (header, rest) = frame
            .split_at_checked(HEADER_BYTES)
            .ok_or(DropReason::Malformed)?;
        let fields = header
            .split_first_chunk::<PREAMBLE_BYTES>()
            .ok_or(DropReason::Malformed)?
            .1;
        let (session, fields) = fields.split_first_chunk::<16>().ok_or(DropReason::Malformed)?;
        let (sequence, fields) = fields.split_first_chunk::<8>().ok_or(DropReason::Malformed)?;
        let (expiry, fields) = fields.split_first_chunk::<8>().ok_or(DropReason::Malformed)?;
        let (length, _) = fields.split_first_chunk::<4>().ok_or(DropReason::Malformed)?;
        if usize::from(preamble.hops) > MAX_HOPS {
            return Err(DropReason::BadRoute);
        }
        let (tags, sealed) = rest
            .split_at_checked(usize::from(preamble.hops) * TAG_BYTES)
            .ok_or(DropReason::Malformed)?;
        if sealed.len() != u32::from_be_bytes(*length) as usize || sealed.len() < TAG_BYTES {
            return Err(DropReason::Malformed);
        }
        Ok(Self {
            kind: preamble.kind,
            hops: preamble.hops,
            session: SessionId(*session),
            sequence: u64::from_be_bytes(*sequence),
            expiry: UnixMillis(u64::from_be_bytes(*expiry)),
            tags: tags.as_chunks::<TAG_BYTES>().0,
            sealed,
            header,
        })
    }

    /// The whole frame's length, in bytes.
    pub fn frame_bytes(&self) -> usize {
        self.header.len() + self.tags.len() * TAG_BYTES + self.sealed.len()
    }

    /// Whether the tag at `index` was made with `key` over this header.
    pub fn tag_matches(&self, index: u8, key: &TagKey) -> bool {
        let Some(tag) = self.tags.get(usize::from(index)) else {
            return false;
        };
        let Some(seal_tag) = self.sealed.last_chunk::<TAG_BYTES>() else {
            return false;
        };
        key.verify(&tag_input(index, self.header, seal_tag), tag)
    }

    /// The content, if nothing was altered.
    pub fn open(&self, seal: &PayloadSeal) -> Option<Vec<u8>> {
        seal.open(self.sequence, associated_data(self.header), self.sealed)
    }

    /// The content and its tag as they travel, for classes that travel in clear.
    pub fn sealed(&self) -> &'a [u8] {
        self.sealed
    }

    /// How many units this packet costs: one per started KiB of content, at least one.
    pub fn units(&self) -> u64 {
        units_of(self.sealed.len() - TAG_BYTES)
    }

    /// Whether it says that the source sends no more: its content is empty, which no other packet's is. The tags cover the
    /// length, so nobody on the way can make one of another packet.
    pub fn is_close(&self) -> bool {
        self.sealed.len() == TAG_BYTES
    }

    /// The packet's name.
    pub fn packet_id(&self) -> PacketId {
        packet_id(
            &self.session,
            self.sequence,
            self.sealed.last_chunk::<TAG_BYTES>().unwrap_or(&[0; TAG_BYTES]),
        )
    }
}

/// Units that a packet costs.
pub fn units_of_packet(protocol_id: &str, payload: &[u8]) -> u64 {
    units_of(protocol_id.len().saturating_add(payload.len()).saturating_add(1))
}

/// Units that `content_bytes` bytes of content cost: one per started KiB, at least one. The largest inner header is
/// free, so that a payload of a whole number of KiB costs just as many units whatever its protocol is called.
pub fn units_of(content_bytes: usize) -> u64 {
    (content_bytes
        .saturating_sub(MAX_INNER_HEADER_BYTES)
        .div_ceil(UNIT_BYTES) as u64)
        .max(1)
}

fn packet_id(session: &SessionId, sequence: u64, seal_tag: &[u8; TAG_BYTES]) -> PacketId {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&session.0)
        .update(&sequence.to_be_bytes())
        .update(seal_tag);
    *hasher.finalize().as_bytes()
}

/// Index ‖ session ‖ sequence ‖ expiry ‖ length ‖ payload tag: 53 bytes.
fn tag_input(index: u8, header: &[u8], seal_tag: &[u8; TAG_BYTES]) -> [u8; 53] {
    let mut input = [0; 53];
    input[0] = index;
    let fields = associated_data(header);
    // Both sides are 36 bytes: every caller passes a header of HEADER_BYTES.
    for (to, from) in input[1..37].iter_mut().zip(fields) {
        *to = *from;
    }
    input[37..].copy_from_slice(seal_tag);
    input
}

/// The header without the preamble: what the payload's own tag covers besides the payload.
fn associated_data(header: &[u8]) -> &[u8] {
    header.get(PREAMBLE_BYTES..HEADER_BYTES).unwrap_or_default()
}

/// What a packet is built from.
pub struct PacketParts<'a> {
    /// [`FrameKind::Data`] or [`FrameKind::Back`].
    pub kind: FrameKind,
    /// The session it belongs to.
    pub session: SessionId,
    /// Its sequence number; never used twice under one key.
    pub sequence: u64,
    /// When it becomes worthless.
    pub expiry: UnixMillis,
    /// The tag keys, in the order of the hop indices.
    pub tag_keys: &'a [TagKey],
    /// The end-to-end seal.
    pub seal: &'a PayloadSeal,
}

/// Builds a packet around `content` (given in parts that are joined).
pub fn build(parts: &PacketParts<'_>, content: &[&[u8]]) -> Result<(Bytes, PacketId), DropReason> {
    let content_bytes: usize = content.iter().map(|part| part.len()).sum();
    let sealed_bytes = content_bytes + TAG_BYTES;
    let tags_end = HEADER_BYTES + parts.tag_keys.len() * TAG_BYTES;
    if parts.tag_keys.len() > MAX_HOPS {
        return Err(DropReason::BadRoute);
    }
    if tags_end + sealed_bytes > MAX_FRAME_BYTES {
        return Err(DropReason::Oversize);
    }
    let mut frame = BytesMut::with_capacity(tags_end + sealed_bytes);
    frame.put_slice(
        &Preamble {
            kind: parts.kind,
            hops: parts.tag_keys.len() as u8,
            index: 0,
        }
        .to_bytes(),
    );
    frame.put_slice(&parts.session.0);
    frame.put_u64(parts.sequence);
    frame.put_u64(parts.expiry.0);
    frame.put_u32(sealed_bytes as u32);
    frame.put_bytes(0, tags_end - HEADER_BYTES);
    for part in content {
        frame.put_slice(part);
    }
    let (head, content) = frame.split_at_mut(tags_end);
    let seal_tag = parts.seal.seal(parts.sequence, associated_data(head), content);
    for (index, key) in parts.tag_keys.iter().enumerate() {
        let tag = key.tag(&tag_input(index as u8, head, &seal_tag));
        head[HEADER_BYTES + index * TAG_BYTES..][..TAG_BYTES].copy_from_slice(&tag);
    }
    frame.put_slice(&seal_tag);
    Ok((
        frame.freeze(),
        packet_id(&parts.session, parts.sequence, &seal_tag),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn tag_keys(hops: usize) -> Vec<TagKey> {
        (0..hops)
            .map(|index| TagKey::of_back_secret(&[index as u8; 32], &SessionId([1; 16])))
            .collect()
    }

    fn packet(hops: usize, sequence: u64, content: &[u8]) -> (Bytes, PacketId) {
        let seal = PayloadSeal::new(&Zeroizing::new([3; 32]), false);
        let keys = tag_keys(hops);
        let parts = PacketParts {
            kind: FrameKind::Data,
            session: SessionId([1; 16]),
            sequence,
            expiry: UnixMillis(77),
            tag_keys: &keys,
            seal: &seal,
        };
        build(&parts, &[content]).unwrap()
    }

    proptest! {
        #[test]
        fn built_packets_come_back_whole(hops in 0usize..=10, sequence: u64, content in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let (frame, id) = packet(hops, sequence, &content);
            let view = PacketView::parse(&frame).unwrap();
            prop_assert_eq!((view.hops as usize, view.sequence, view.expiry), (hops, sequence, UnixMillis(77)));
            prop_assert_eq!(view.packet_id(), id);
            prop_assert_eq!(view.units(), units_of(content.len()));
            for (index, key) in tag_keys(hops).iter().enumerate() {
                prop_assert!(view.tag_matches(index as u8, key));
                prop_assert!(!view.tag_matches(index as u8 + 1, key));
            }
            prop_assert_eq!(view.open(&PayloadSeal::new(&Zeroizing::new([3; 32]), false)).unwrap(), content);
        }

        #[test]
        fn a_flipped_bit_anywhere_is_noticed_by_somebody(bit in 0usize..(44 + 32 + 50 + 16) * 8) {
            let (frame, id) = packet(2, 9, &[7; 50]);
            let mut altered = frame.to_vec();
            altered[bit / 8] ^= 1 << (bit % 8);
            if let Ok(view) = PacketView::parse(&altered) {
                let keys = tag_keys(2);
                let tags_hold = view.hops == 2 && keys.iter().enumerate().all(|(i, key)| view.tag_matches(i as u8, key));
                let opens = view.kind == FrameKind::Data && view.open(&PayloadSeal::new(&Zeroizing::new([3; 32]), false)).is_some();
                prop_assert!(!(tags_hold && opens && view.packet_id() == id));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), with_magic: bool) {
            let mut bytes = bytes;
            if with_magic && bytes.len() >= 6 {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[4] = VERSION;
                bytes[5] = 1;
            }
            let _ = PacketView::parse(&bytes);
        }
    }

    #[test]
    fn unknown_version_and_kind_are_refused_by_name() {
        let (frame, _) = packet(1, 1, b"x");
        let with = |at: usize, byte: u8| {
            let mut altered = frame.to_vec();
            altered[at] = byte;
            PacketView::parse(&altered).unwrap_err()
        };
        assert_eq!(with(4, 2), DropReason::UnknownVersion);
        assert_eq!(with(5, 99), DropReason::UnknownKind);
        assert_eq!(with(5, FrameKind::Open as u8), DropReason::UnknownKind);
        assert_eq!(with(0, b'm'), DropReason::Malformed);
        assert_eq!(with(6, 11), DropReason::BadRoute);
    }

    #[test]
    fn payload_beyond_the_limit_is_refused_when_built() {
        let seal = PayloadSeal::new(&Zeroizing::new([3; 32]), false);
        let parts = PacketParts {
            kind: FrameKind::Data,
            session: SessionId([1; 16]),
            sequence: 1,
            expiry: UnixMillis(1),
            tag_keys: &[],
            seal: &seal,
        };
        assert_eq!(
            build(&parts, &[&vec![0; MAX_FRAME_BYTES]]).unwrap_err(),
            DropReason::Oversize
        );
    }

    #[test]
    fn units_are_started_kibibytes_of_payload() {
        assert_eq!(
            [0, 1, 1024 + 65, 1025 + 65, 262_144 + 65].map(units_of),
            [1, 1, 1, 2, 256]
        );
    }
}
