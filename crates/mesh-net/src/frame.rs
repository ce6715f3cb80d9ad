//! Frames on a connection: a big-endian u32 length, then as many bytes. Length zero is a keep-alive.
//!
//! The reader copies what TLS decrypted into one buffer and cuts frames out of it by reference. A frame longer than
//! the buffer gets a buffer of its own, and only once its length was found allowed: a neighbour can make this node
//! hold at most one frame and three buffers for each connection, while it sends.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::Channel;

/// The longest body on a data connection: a packet of 256 KiB and room for its header.
pub const MAX_DATA_FRAME_BYTES: usize = Channel::Data.max_frame_bytes();

/// The longest body on a control connection: longer messages are split by who sends them, so that none delays
/// another for long.
pub const MAX_CONTROL_FRAME_BYTES: usize = Channel::Control.max_frame_bytes();

/// Bytes of the length in front of each body.
pub(crate) const HEADER_BYTES: usize = 4;

/// The buffer frames are cut from: four full TLS records, so that one read of the socket is one batch.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers kept for use again: enough for a consumer two events behind, little enough for a hundred neighbours.
const MAX_RETIRED: usize = 2;

/// A frame announced longer than its channel allows. The connection cannot go on: where the next frame begins is
/// only known to who waits for the end of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {given} bytes was announced where {max} are allowed")]
pub(crate) struct FrameTooLong {
    given: usize,
    max: usize,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
    /// Handles on earlier buffers, to be used again once the consumer has dropped the frames cut from them: memory
    /// that is warm costs half of what the allocator and the kernel take for fresh memory.
    retired: VecDeque<BytesMut>,
    max_body: usize,
}

impl FrameReader {
    pub(crate) fn new(max_body: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            retired: VecDeque::new(),
            max_body,
        }
    }

    /// Takes bytes as they come. Frames appear in `frames` at the latest with the next [`FrameReader::flush`].
    pub(crate) fn feed(&mut self, mut input: &[u8], frames: &mut Vec<Bytes>) -> Result<(), FrameTooLong> {
        while !input.is_empty() {
            if self.room() == 0 {
                self.flush(frames)?;
                self.make_room();
            }
            let (now, later) = input.split_at(input.len().min(self.room()));
            self.buffer.extend_from_slice(now);
            input = later;
        }
        Ok(())
    }

    /// Hands out every frame that is complete, also those before one that is too long.
    pub(crate) fn flush(&mut self, frames: &mut Vec<Bytes>) -> Result<(), FrameTooLong> {
        let (end, result) = self.complete();
        let mut complete = self.buffer.split_to(end).freeze();
        while let Some((header, _)) = complete.split_first_chunk::<HEADER_BYTES>() {
            let body = u32::from_be_bytes(*header) as usize;
            let mut frame = complete.split_to(HEADER_BYTES + body);
            if body > 0 {
                frames.push(frame.split_off(HEADER_BYTES));
            }
        }
        result
    }

    /// Where the last complete frame ends, and whether what follows may be a frame.
    fn complete(&self) -> (usize, Result<(), FrameTooLong>) {
        let mut end = 0;
        loop {
            match self.body_length(end) {
                Ok(Some(body)) if end + HEADER_BYTES + body <= self.buffer.len() => {
                    end += HEADER_BYTES + body
                }
                Ok(_) => return (end, Ok(())),
                Err(too_long) => return (end, Err(too_long)),
            }
        }
    }

    /// Gives the buffer back while the connection is silent; a hundred idle neighbours should cost nothing.
    pub(crate) fn release_if_empty(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.retired.clear();
    }

    fn room(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }

    /// The length of the body whose header begins at `start`, if the header is all there.
    fn body_length(&self, start: usize) -> Result<Option<usize>, FrameTooLong> {
        let Some((header, _)) = self.buffer.get(start..).and_then(|rest| rest.split_first_chunk()) else {
            return Ok(None);
        };
        let given = u32::from_be_bytes(*header) as usize;
        if given > self.max_body {
            return Err(FrameTooLong {
                given,
                max: self.max_body,
            });
        }
        Ok(Some(given))
    }

    /// A new buffer that holds the frame just begun to its end, with its beginning moved over. Called after `flush`,
    /// so the length at the front was checked.
    fn make_room(&mut self) {
        let frame = match self.body_length(0) {
            Ok(Some(body)) => HEADER_BYTES + body,
            Ok(None) | Err(_) => HEADER_BYTES,
        };
        let mut next = self.reclaim(frame.max(BUFFER_BYTES));
        next.extend_from_slice(&self.buffer);
        let mut retired = std::mem::replace(&mut self.buffer, next);
        retired.clear();
        self.retired.push_back(retired);
        if self.retired.len() > MAX_RETIRED {
            self.retired.pop_front();
        }
    }

    /// An empty buffer with room for `length` bytes: an earlier one that nobody uses any more, or a new one.
    fn reclaim(&mut self, length: usize) -> BytesMut {
        match self
            .retired
            .iter_mut()
            .position(|retired| retired.try_reclaim(length))
        {
            Some(unused) => self.retired.remove(unused).unwrap_or_default(),
            None => BytesMut::with_capacity(length),
        }
    }
}

/// The header of a body of `length` bytes. Lengths are checked when a batch is accepted for sending.
pub(crate) fn header(length: usize) -> [u8; HEADER_BYTES] {
    debug_assert!(length <= MAX_DATA_FRAME_BYTES);
    (length as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(bodies: &[Vec<u8>]) -> Vec<u8> {
        bodies
            .iter()
            .flat_map(|body| [&header(body.len())[..], body].concat())
            .collect()
    }

    fn read_in_pieces(stream: &[u8], cuts: &[usize], max: usize) -> Result<Vec<Bytes>, FrameTooLong> {
        let mut reader = FrameReader::new(max);
        let mut frames = Vec::new();
        let mut rest = stream;
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
            reader.feed(piece, &mut frames)?;
            reader.flush(&mut frames)?;
            rest = later;
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_yields_the_same_frames(
            bodies in prop::collection::vec(
                prop_oneof![
                    8 => prop::collection::vec(any::<u8>(), 0..200),
                    1 => (0..200_000usize, any::<u8>()).prop_map(|(length, fill)| vec![fill; length]),
                ],
                0..40,
            ),
            cuts in prop::collection::vec(prop_oneof![1..20usize, 1..100_000usize], 1..20),
        ) {
            let frames = read_in_pieces(&encode(&bodies), &cuts, MAX_DATA_FRAME_BYTES).unwrap();
            let sent: Vec<_> = bodies.into_iter().filter(|body| !body.is_empty()).collect();
            prop_assert_eq!(frames, sent);
        }

        #[test]
        fn no_stream_of_bytes_makes_the_reader_panic_or_hold_more_than_a_frame(
            stream in prop::collection::vec(any::<u8>(), 0..5_000),
            cuts in prop::collection::vec(1..700usize, 1..10),
        ) {
            if let Ok(frames) = read_in_pieces(&stream, &cuts, 1_000) {
                prop_assert!(frames.iter().all(|frame| (1..=1_000).contains(&frame.len())));
            }
        }
    }

    #[test]
    fn longest_frame_passes_and_one_byte_more_is_refused_at_its_header() {
        let stream = encode(&[vec![7; 1_000]]);
        assert_eq!(read_in_pieces(&stream, &[64], 1_000).unwrap().len(), 1);
        let refused = read_in_pieces(&header(1_001), &[4], 1_000);
        assert_eq!(
            refused,
            Err(FrameTooLong {
                given: 1_001,
                max: 1_000
            })
        );
    }

    #[test]
    fn announcing_a_huge_frame_reserves_nothing() {
        let mut reader = FrameReader::new(MAX_CONTROL_FRAME_BYTES);
        let mut frames = Vec::new();
        reader.feed(&u32::MAX.to_be_bytes(), &mut frames).unwrap();
        assert!(reader.flush(&mut frames).is_err());
        assert!(reader.buffer.capacity() <= BUFFER_BYTES);
    }

    #[test]
    fn buffer_is_used_again_only_after_all_its_frames_were_dropped() {
        let mut reader = FrameReader::new(MAX_DATA_FRAME_BYTES);
        let body = |fill: u8| encode(&[vec![fill; 200_000]]);
        let mut held = Vec::new();
        reader.feed(&body(1), &mut held).unwrap();
        reader.flush(&mut held).unwrap();
        let first = held[0].as_ptr();
        reader.feed(&body(2), &mut held).unwrap();
        reader.flush(&mut held).unwrap();
        assert!(held[0].iter().all(|byte| *byte == 1));
        held.clear();
        reader.feed(&body(3), &mut held).unwrap();
        reader.flush(&mut held).unwrap();
        assert_eq!(held[0].as_ptr(), first);
        assert!(held[0].iter().all(|byte| *byte == 3));
    }

    #[test]
    fn small_frames_of_one_read_share_one_buffer() {
        let mut reader = FrameReader::new(1_000);
        let mut frames = Vec::new();
        reader
            .feed(&encode(&[vec![1; 100], vec![2; 100]]), &mut frames)
            .unwrap();
        reader.flush(&mut frames).unwrap();
        let gap = frames[1].as_ptr() as usize - frames[0].as_ptr() as usize;
        assert_eq!(gap, 100 + HEADER_BYTES);
    }
}
