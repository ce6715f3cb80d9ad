//! The frames of the carrier, byte for byte; PROTOCOL.md, "Links over the node's connections", has them as a table.
//!
//! All integers are big-endian. An *ask* and its *answer* agree on a conversation, in which each side has a token of its
//! own; *carry* moves bytes of both streams at once and says how many were taken; *end* is the last word.
//!
//! Whatever a frame provokes is never longer than the frame: an answer is as long as an ask, and an end, which may answer
//! a carry, is shorter than either. So nobody can use a node to send others more than he sends himself.

use bytes::Bytes;
use mesh_net::CloseReason;

/// How every frame begins; other programs' mesh packets begin otherwise ("MESH").
pub const MAGIC: [u8; 4] = *b"MLNK";

/// The version of this format.
pub const VERSION: u8 = 1;

/// Bytes of an ask or an answer, all of them.
pub const ASK_BYTES: usize = 22;

/// Bytes of an end, all of them.
pub const END_BYTES: usize = 15;

/// Bytes of a carry before its chunks.
pub const CARRY_HEADER_BYTES: usize = 42;

/// Bytes of both chunks of a carry together. A block or transaction of the node's waits behind a frame for as long as the
/// frame takes on the wire: 64 KiB are 50 ms on a slow uplink of 10 Mbit/s, and at [`FRAMES_PER_SECOND`] carry 2.6 MB/s.
///
/// [`FRAMES_PER_SECOND`]: super::FRAMES_PER_SECOND
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// The longest frame.
pub const MAX_FRAME_BYTES: usize = CARRY_HEADER_BYTES + MAX_CHUNK_BYTES;

const _: () = assert!(
    END_BYTES <= ASK_BYTES && ASK_BYTES <= CARRY_HEADER_BYTES,
    "no answer is longer than what it answers"
);

/// What a side calls the conversation; drawn at random by each, so that frames of an earlier one are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// A frame, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Shall we talk?
    Ask {
        /// The asker's.
        from: Token,
    },
    /// Yes; the asker dials.
    Answer {
        /// The asker's.
        to: Token,
        /// The answerer's.
        from: Token,
    },
    /// Bytes of the streams.
    Carry(Carry),
    /// The conversation is over.
    End {
        /// What the ending side was called, or took itself to be called by a frame that it knows nothing of.
        from: Token,
        /// Why.
        why: End,
    },
}

/// Bytes of both streams and how far the other direction has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carry {
    /// The receiver's.
    pub(crate) to: Token,
    /// Counts this side's carries from zero: one that is missing was lost.
    pub(crate) number: u64,
    /// Bytes of each stream that this side has taken in all.
    pub(crate) taken: [u64; 2],
    /// The next bytes of each stream: data, control.
    pub(crate) chunks: [Bytes; 2],
}

/// Why a conversation ends, as the other side is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The link is no longer wanted.
    Closed,
    /// Frames were lost.
    Lost,
    /// More was sent than the window allows.
    Overrun,
    /// There is no such conversation: this side was restarted.
    Unknown,
    /// No place for another link.
    Refused,
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a frame of this carrier: {0}")]
pub(crate) struct Unreadable(pub(crate) &'static str);

impl End {
    const ALL: [Self; 5] = [
        Self::Closed,
        Self::Lost,
        Self::Overrun,
        Self::Unknown,
        Self::Refused,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Closed => 1,
            Self::Lost => 2,
            Self::Overrun => 3,
            Self::Unknown => 4,
            Self::Refused => 5,
        }
    }

    /// What our link ends with when it is told this.
    pub(crate) const fn as_told(self) -> CloseReason {
        match self {
            Self::Closed | Self::Refused => CloseReason::PeerClosed,
            Self::Lost => CloseReason::FramesLost,
            Self::Overrun => CloseReason::WindowOverrun,
            Self::Unknown => CloseReason::CarrierReset,
        }
    }

    /// What the other side is told when our link ends with `reason`.
    pub(crate) const fn telling(reason: CloseReason) -> Self {
        match reason {
            CloseReason::FramesLost => Self::Lost,
            CloseReason::WindowOverrun => Self::Overrun,
            _ => Self::Closed,
        }
    }
}

impl Frame {
    /// As it is sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ask { from } => begin(1, ASK_BYTES, [Token(0), *from]),
            Self::Answer { to, from } => begin(2, ASK_BYTES, [*to, *from]),
            Self::Carry(carry) => carry.encode(),
            Self::End { from, why } => {
                let mut frame = begin(4, END_BYTES, [*from]);
                frame.push(why.code());
                frame
            }
        }
    }

    /// Reads what came; chunks are slices of it.
    pub(crate) fn decode(frame: &Bytes) -> Result<Self, Unreadable> {
        let short = Unreadable("too short");
        if frame.len() > MAX_FRAME_BYTES {
            return Err(Unreadable("too long"));
        }
        let (magic, rest) = frame.split_first_chunk::<4>().ok_or(short)?;
        let ([version, kind], rest) = rest.split_first_chunk().ok_or(short)?;
        if *magic != MAGIC {
            return Err(Unreadable("another magic"));
        }
        if *version != VERSION {
            return Err(Unreadable("another version"));
        }
        let (first, rest) = take_u64(rest).ok_or(short)?;
        match (kind, rest) {
            (1 | 2, rest) => {
                let (from, rest) = take_u64(rest).ok_or(short)?;
                let (to, from) = (Token(first), Token(from));
                match (kind, rest) {
                    (1, []) if first == 0 => Ok(Self::Ask { from }),
                    (2, []) => Ok(Self::Answer { to, from }),
                    _ => Err(Unreadable("something follows, or an ask names a receiver")),
                }
            }
            (3, rest) => Carry::decode(Token(first), rest, frame).map(Self::Carry),
            (4, [code]) => {
                let known = End::ALL.into_iter().find(|end| end.code() == *code);
                Ok(Self::End {
                    from: Token(first),
                    // A later version may know more reasons; over it is all the same.
                    why: known.unwrap_or(End::Closed),
                })
            }
            _ => Err(Unreadable("another kind")),
        }
    }
}

impl Carry {
    fn encode(&self) -> Vec<u8> {
        let [data, control] = &self.chunks;
        let length = CARRY_HEADER_BYTES + data.len() + control.len();
        debug_assert!(length <= MAX_FRAME_BYTES);
        let mut frame = begin(3, length, [self.to]);
        for number in [self.number, self.taken[0], self.taken[1]] {
            frame.extend(number.to_be_bytes());
        }
        frame.extend((data.len() as u32).to_be_bytes());
        frame.extend_from_slice(data);
        frame.extend_from_slice(control);
        frame
    }

    fn decode(to: Token, rest: &[u8], frame: &Bytes) -> Result<Self, Unreadable> {
        let short = Unreadable("too short");
        let (number, rest) = take_u64(rest).ok_or(short)?;
        let (data_taken, rest) = take_u64(rest).ok_or(short)?;
        let (control_taken, rest) = take_u64(rest).ok_or(short)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > rest.len() {
            return Err(Unreadable("a chunk longer than the frame"));
        }
        let mut chunks = frame.slice(CARRY_HEADER_BYTES..);
        let data = chunks.split_to(length);
        Ok(Self {
            to,
            number,
            taken: [data_taken, control_taken],
            chunks: [data, chunks],
        })
    }
}

fn begin<const N: usize>(kind: u8, length: usize, tokens: [Token; N]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length);
    frame.extend(MAGIC);
    frame.extend([VERSION, kind]);
    for token in tokens {
        frame.extend(token.0.to_be_bytes());
    }
    frame
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn carry(data: &[u8], control: &[u8]) -> Frame {
        Frame::Carry(Carry {
            to: Token(7),
            number: 3,
            taken: [5, u64::MAX],
            chunks: [Bytes::copy_from_slice(data), Bytes::copy_from_slice(control)],
        })
    }

    #[test]
    fn every_frame_is_read_as_it_was_written_and_has_the_documented_length() {
        let ends = End::ALL.map(|why| Frame::End { from: Token(9), why });
        let ask = Frame::Ask { from: Token(1) };
        let answer = Frame::Answer {
            to: Token(1),
            from: Token(2),
        };
        assert_eq!(
            (ask.encode().len(), answer.encode().len()),
            (ASK_BYTES, ASK_BYTES)
        );
        assert_eq!(ends[0].encode().len(), END_BYTES);
        assert_eq!(carry(b"", b"").encode().len(), CARRY_HEADER_BYTES);
        let frames = [
            ask,
            answer,
            carry(b"", b""),
            carry(b"data", b""),
            carry(b"", b"control"),
        ];
        for frame in frames.into_iter().chain(ends) {
            assert_eq!(Frame::decode(&frame.encode().into()), Ok(frame));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic_or_be_read_as_what_they_are_not(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..80),
                prop::collection::vec(any::<u8>(), 0..80)
                    .prop_map(|rest| [&MAGIC[..], &[VERSION, 1 + rest.len() as u8 % 4], &rest].concat()),
            ],
        ) {
            if let Ok(frame) = Frame::decode(&bytes.clone().into()) {
                let again = frame.encode();
                // An unknown reason is read as the plainest one; all else is written back as it came.
                prop_assert_eq!(&again[..14], &bytes[..14]);
                prop_assert_eq!(again.len(), bytes.len());
            }
        }
    }
}
