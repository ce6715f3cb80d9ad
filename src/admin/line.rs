//! Lines of bounded length.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// It goes on beyond the limit. What follows cannot be told from the next line any more.
    #[error("a line is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The connection broke, or ended within a line.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The next line without its end, of at most `limit` bytes; `None` at the end of the stream. Never holds more than
/// the limit and one buffer, whatever is sent. Not to be used again after an error, nor after being dropped half-way.
pub(super) async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> Result<Option<Vec<u8>>, LineError> {
    let mut line = Vec::new();
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            return match line.is_empty() {
                true => Ok(None),
                false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            };
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (part, consumed) = match end.and_then(|end| Some((buffer.get(..end)?, end + 1))) {
            Some(whole) => whole,
            None => (buffer, buffer.len()),
        };
        if line.len() + part.len() > limit {
            return Err(LineError::TooLong { limit });
        }
        line.extend_from_slice(part);
        reader.consume(consumed);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn lines(text: &[u8], limit: usize) -> Vec<Result<Vec<u8>, LineError>> {
        // A buffer smaller than the lines, so that they are put together from parts.
        let mut reader = BufReader::with_capacity(3, text);
        let mut lines = Vec::new();
        loop {
            match read_line(&mut reader, limit).await {
                Ok(None) => return lines,
                Ok(Some(line)) => lines.push(Ok(line)),
                Err(error) => {
                    lines.push(Err(error));
                    return lines;
                }
            }
        }
    }

    #[tokio::test]
    async fn lines_come_out_as_they_were_written() {
        let read = lines(b"first\n\nthird line\n", 10).await;
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, [&b"first"[..], b"", b"third line"]);
    }

    #[tokio::test]
    async fn a_line_one_byte_too_long_is_refused() {
        let read = lines(b"12345678901\n", 10).await;
        assert!(matches!(read[..], [Err(LineError::TooLong { limit: 10 })]));
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_line_gives_no_line() {
        let read = lines(b"whole\nhal", 10).await;
        assert!(matches!(read[..], [Ok(_), Err(LineError::Io(_))]));
    }
}
