//! The first frame on each connection, in both directions.
//!
//! The dialler says hello on both of its connections, naming each one's purpose and the pair they form. The other
//! side answers when it has both and has decided: its own hello accepts, or names why not. Nothing else may be sent
//! before the answer.
//!
//! Body, all big-endian: version u16, purpose u8 (0 data, 1 control), status u8 (0 accepted), instance u64, pair 16
//! bytes. A later version may append; what is appended is ignored.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::frame::{HEADER_BYTES, header};
use crate::{Channel, CloseReason};

/// The version of this protocol.
const VERSION: u16 = 1;

/// Bytes of the body as written here.
const BODY_BYTES: usize = 28;

/// The longest body read from a later version: enough to append, too short to be a burden.
const MAX_BODY_BYTES: usize = 256;

/// Why a peer would not have us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has a link to us already, or is dialling us just now, and that one stays.
    #[error("another connection between us takes precedence")]
    Duplicate,
    /// It has as many neighbours as it wants.
    #[error("it has no room for another neighbour")]
    PeersFull,
    /// It does not know us.
    #[error("it only accepts nodes on its list")]
    NotAllowed,
    /// Something newer than this version.
    #[error("refusal code {0}, unknown to this version")]
    Unknown(u8),
}

/// What a hello says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) channel: Channel,
    /// `Some` only in an answer that refuses.
    pub(crate) refusal: Option<Refusal>,
    /// Drawn when an endpoint starts. A different one shows that the peer was restarted and old links are dead.
    pub(crate) instance: u64,
    /// Drawn by the dialler for each attempt; which two connections belong together.
    pub(crate) pair: [u8; 16],
}

impl Refusal {
    /// The refusal that tells the peer what we counted as `reason`.
    pub(crate) fn for_reason(reason: CloseReason) -> Self {
        match reason {
            CloseReason::PeersFull => Self::PeersFull,
            CloseReason::NotAllowed => Self::NotAllowed,
            _ => Self::Duplicate,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Duplicate => 1,
            Self::PeersFull => 2,
            Self::NotAllowed => 3,
            Self::Unknown(code) => code,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::Duplicate),
            2 => Some(Self::PeersFull),
            3 => Some(Self::NotAllowed),
            other => Some(Self::Unknown(other)),
        }
    }
}

impl Hello {
    pub(crate) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        stream.write_all(&self.encode()).await?;
        stream.flush().await
    }

    /// Reads exactly one hello and not a byte more: what follows belongs to the frame reader.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, CloseReason> {
        let mut length = [0; HEADER_BYTES];
        stream.read_exact(&mut length).await.map_err(unread)?;
        let length = u32::from_be_bytes(length) as usize;
        let mut body = [0; MAX_BODY_BYTES];
        let body = body.get_mut(..length).ok_or(CloseReason::BadHello)?;
        stream.read_exact(body).await.map_err(unread)?;
        Self::decode(body)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let channel = match self.channel {
            Channel::Data => 0,
            Channel::Control => 1,
        };
        let mut frame = Vec::with_capacity(HEADER_BYTES + BODY_BYTES);
        frame.extend(header(BODY_BYTES));
        frame.extend(VERSION.to_be_bytes());
        frame.extend([channel, self.refusal.map_or(0, Refusal::code)]);
        frame.extend(self.instance.to_be_bytes());
        frame.extend(self.pair);
        frame
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, CloseReason> {
        let (version, rest) = body.split_first_chunk::<2>().ok_or(CloseReason::BadHello)?;
        if u16::from_be_bytes(*version) != VERSION {
            return Err(CloseReason::WrongVersion);
        }
        let ([channel, status], rest) = rest.split_first_chunk().ok_or(CloseReason::BadHello)?;
        let (instance, rest) = rest.split_first_chunk().ok_or(CloseReason::BadHello)?;
        let (pair, _appended) = rest.split_first_chunk().ok_or(CloseReason::BadHello)?;
        let channel = match channel {
            0 => Channel::Data,
            1 => Channel::Control,
            _ => return Err(CloseReason::BadHello),
        };
        Ok(Self {
            channel,
            refusal: Refusal::from_code(*status),
            instance: u64::from_be_bytes(*instance),
            pair: *pair,
        })
    }
}

/// Why there is no hello: a carrier names its own end, anything else is a hello that broke off.
fn unread(error: std::io::Error) -> CloseReason {
    CloseReason::told_by(&error).unwrap_or(CloseReason::BadHello)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(refusal: Option<Refusal>) -> Hello {
        Hello {
            channel: Channel::Control,
            refusal,
            instance: 0x0102_0304_0506_0708,
            pair: [9; 16],
        }
    }

    #[tokio::test]
    async fn hello_arrives_as_sent_and_leaves_what_follows() {
        for refusal in [
            None,
            Some(Refusal::Duplicate),
            Some(Refusal::PeersFull),
            Some(Refusal::Unknown(77)),
        ] {
            let mut wire = hello(refusal).encode();
            wire.extend(b"next");
            let mut stream = &wire[..];
            assert_eq!(Hello::read(&mut stream).await, Ok(hello(refusal)));
            assert_eq!(stream, b"next");
        }
    }

    #[tokio::test]
    async fn other_versions_and_broken_hellos_are_told_apart() {
        let mut newer = hello(None).encode();
        newer[5] = 2;
        assert_eq!(Hello::read(&mut &newer[..]).await, Err(CloseReason::WrongVersion));
        let mut purpose = hello(None).encode();
        purpose[6] = 9;
        assert_eq!(Hello::read(&mut &purpose[..]).await, Err(CloseReason::BadHello));
        assert_eq!(
            Hello::read(&mut &header(257)[..]).await,
            Err(CloseReason::BadHello)
        );
        assert_eq!(Hello::read(&mut &header(0)[..]).await, Err(CloseReason::BadHello));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Hello::decode(&body);
        }
    }
}
