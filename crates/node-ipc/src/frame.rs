//! Frames: four bytes of length, big-endian, then so many bytes.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::message::{self, Message};

/// The longest frame either side accepts: the node's own limit.
pub const MAX_FRAME: usize = 40 * 1024 * 1024;

/// Bytes of a frame's length.
const HEAD: usize = 4;

/// Bytes asked of the socket at a time. Memory for a frame grows as it arrives, so a length alone costs nothing.
const READ_STEP: usize = 64 * 1024;

/// A buffer that grew beyond this for one long frame is given back when it is empty.
const KEPT_BUFFER: usize = 1024 * 1024;

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side closed, or the socket failed.
    #[error("the connection closed: {0}")]
    Closed(String),
    /// A frame above [`MAX_FRAME`]: after it nothing can be found any more.
    #[error("a frame of {0} bytes, above the limit of {MAX_FRAME}: not a node, or a broken one")]
    TooLong(usize),
}

/// Cuts a stream into frames. Waiting for a frame may be given up at any moment without losing bytes.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame's contents.
    ///
    /// # Errors
    /// [`FrameError`]; after one, every call fails.
    pub async fn next(&mut self) -> Result<BytesMut, FrameError> {
        loop {
            if let Some(frame) = self.take_whole()? {
                return Ok(frame);
            }
            self.buffer.reserve(READ_STEP);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(FrameError::Closed("end of stream".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(FrameError::Closed(error.to_string())),
            }
        }
    }

    fn take_whole(&mut self) -> Result<Option<BytesMut>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        if self.buffer.len() - HEAD < length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let frame = self.buffer.split_to(length);
        if self.buffer.is_empty() && length > KEPT_BUFFER {
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }
}

/// A message as a frame; `None` when it is above [`MAX_FRAME`].
pub fn framed(message: &Message) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    message::put(message, &mut frame);
    let length = frame.len() - HEAD;
    let head = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME)?;
    frame[..HEAD].copy_from_slice(&head.to_be_bytes());
    Some(frame)
}
