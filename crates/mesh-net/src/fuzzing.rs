//! The two decoders that meet a stranger's bytes, opened for the fuzz targets. Not part of this crate's interface.

use bytes::Bytes;

use crate::frame::FrameReader;
use crate::hello::Hello;
use crate::{Channel, CloseReason};

/// What the reader of a connection makes of a stream that comes in pieces of `piece` bytes: the frames before the first
/// that is too long, and whether there was none such.
pub fn frames(stream: &[u8], piece: usize, channel: Channel) -> (Vec<Bytes>, bool) {
    let mut reader = FrameReader::new(channel.max_frame_bytes());
    let mut frames = Vec::new();
    for piece in stream.chunks(piece.max(1)) {
        let read = reader.feed(piece, &mut frames);
        if read.and_then(|()| reader.flush(&mut frames)).is_err() {
            return (frames, false);
        }
    }
    (frames, true)
}

/// A hello's body as this version would write what it read in `body`.
///
/// # Errors
/// Why the connection is closed instead.
pub fn hello(body: &[u8]) -> Result<Vec<u8>, CloseReason> {
    Hello::decode(body).map(|hello| hello.encode().split_off(crate::frame::HEADER_BYTES))
}
