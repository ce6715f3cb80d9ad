//! What meets a stranger's bytes here, opened for the fuzz targets. Not part of this crate's interface.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mesh_core::verifier::BitcoinNetwork;
use mesh_net::CloseReason;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::conversation::Conversation;
use super::envelope::Envelope;
use super::frame::{Carry, End, Frame, Token};
use super::pipe::{PipeStream, pipe};

/// The receiver's token in what [`carry`] writes and [`hear`] takes.
const OURS: Token = Token(1);

/// A frame as this version would write what it read in `bytes`; none when it is no frame.
pub fn frame(bytes: &[u8]) -> Option<Vec<u8>> {
    let frame = Frame::decode(&Bytes::copy_from_slice(bytes)).ok()?;
    Some(frame.encode())
}

/// A packet of the node's without its envelope, if it has one.
pub fn unwrapped(packet: &[u8]) -> &[u8] {
    Envelope::of(BitcoinNetwork::Regtest).unwrap(packet)
}

/// A frame in its envelope, as it is given to the node.
pub fn wrapped(frame: &[u8]) -> Vec<u8> {
    Envelope::of(BitcoinNetwork::Regtest).wrap(frame)
}

/// One frame of each kind that is not [`carry`].
pub fn short_frames() -> [(&'static str, Vec<u8>); 3] {
    let (to, from) = (Token(3), Token(4));
    [
        ("ask", Frame::Ask { from }.encode()),
        ("answer", Frame::Answer { to, from }.encode()),
        (
            "end",
            Frame::End {
                from,
                why: End::Overrun,
            }
            .encode(),
        ),
    ]
}

/// Carry number `number`, with these bytes of the data and of the control stream.
pub fn carry(number: u64, taken: [u64; 2], data: &[u8], control: &[u8]) -> Vec<u8> {
    let carry = Carry {
        to: OURS,
        number,
        taken,
        chunks: [Bytes::copy_from_slice(data), Bytes::copy_from_slice(control)],
    };
    Frame::Carry(carry).encode()
}

/// What a link reads of both streams when these frames come, and why the conversation ended, if it did. Nothing is read in
/// between, so it is never more than two windows.
pub fn hear(frames: impl IntoIterator<Item = Vec<u8>>) -> ([Vec<u8>; 2], Option<CloseReason>) {
    let work = Arc::new(Notify::new());
    let (data, data_stream) = pipe(work.clone());
    let (control, control_stream) = pipe(work);
    let now = Instant::now();
    let mut conversation = Conversation::new(OURS, Token(2), [data, control], now);
    let carries = frames
        .into_iter()
        .filter_map(|frame| match Frame::decode(&frame.into()) {
            Ok(Frame::Carry(carry)) => Some(carry),
            _ => None,
        });
    let ended = carries
        .map(|carry| conversation.hear(carry, now))
        .find_map(Result::err);
    ([data_stream, control_stream].map(all_of), ended)
}

/// All that can be read now.
fn all_of(mut stream: PipeStream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut room = [0; 4096];
    loop {
        let mut buffer = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        match polled {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => read.extend_from_slice(buffer.filled()),
            _ => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::carrier::{MAX_CHUNK_BYTES, MAX_EARLY_FRAMES, WINDOW_BYTES};

    /// What is sent of a stream, in a chunk for each frame.
    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..40)
    }

    fn carries(chunks: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let numbered = (0..).zip(chunks);
        numbered
            .map(|(number, chunk)| carry(number, [0; 2], chunk, &[number as u8]))
            .collect()
    }

    proptest! {
        #[test]
        fn carry_of_any_length_is_read_as_it_was_written_in_its_envelope_too(
            number in any::<u64>(),
            taken in any::<[u64; 2]>(),
            (data, control) in (0..=MAX_CHUNK_BYTES).prop_flat_map(|data| (Just(data), 0..=MAX_CHUNK_BYTES - data)),
        ) {
            let written = carry(number, taken, &vec![1; data], &vec![2; control]);
            prop_assert_eq!(frame(&written), Some(written.clone()));
            let in_envelope = wrapped(&written);
            prop_assert_eq!(unwrapped(&in_envelope), &written[..]);
        }

        #[test]
        fn frame_cut_anywhere_in_its_header_is_none(cut in 0_usize..42) {
            let written = carry(9, [8, 7], b"data", b"control");
            prop_assert_eq!(frame(&written[..cut]), None);
        }

        #[test]
        fn doubled_and_late_frames_change_nothing_of_what_a_link_reads(
            chunks in chunks(),
            doubled in prop::collection::vec(any::<bool>(), 40),
            late in 1..=MAX_EARLY_FRAMES,
        ) {
            let mut frames = Vec::new();
            // Of each group the first comes last: it is late by all the others.
            for group in carries(&chunks).chunks(late + 1) {
                let mut group = group.to_vec();
                group.rotate_left(1);
                frames.extend(group);
            }
            let twice = frames.into_iter().zip(&doubled);
            let frames = twice.flat_map(|(frame, doubled)| vec![frame; 1 + usize::from(*doubled)]);
            let (read, ended) = hear(frames);
            prop_assert_eq!(ended, None);
            prop_assert_eq!(&read[0], &chunks.concat());
            prop_assert_eq!(read[1].len(), chunks.len());
        }

        #[test]
        fn nothing_behind_a_lost_frame_is_read(chunks in chunks(), lost in any::<prop::sample::Index>()) {
            let lost = lost.index(chunks.len());
            let mut frames = carries(&chunks);
            frames.remove(lost);
            let (read, ended) = hear(frames);
            prop_assert_eq!(&read[0], &chunks[..lost].concat());
            let behind = chunks.len() - lost - 1;
            prop_assert_eq!(ended.is_some(), behind > MAX_EARLY_FRAMES);
        }
    }

    #[test]
    fn who_sends_more_than_the_window_is_cut_off_and_fills_no_more_than_it() {
        let (read, ended) = hear((0..9).map(|number| carry(number, [0; 2], &[5; 60_000], b"")));
        assert_eq!(ended, Some(CloseReason::WindowOverrun));
        assert!(read[0].len() <= WINDOW_BYTES, "{}", read[0].len());
    }
}
