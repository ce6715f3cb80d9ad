//! Values to bytes and back: the layout of bincode 1.3, with limits.
//!
//! The layout is the one of `bincode::serialize` with its defaults, so that a module written with plain serde structs
//! understands the mesh without this crate: integers little endian at their full width, lengths and counts as u64, an
//! option as one byte 0 or 1 and then the value, an enum as a u32 index of the variant and then its fields, arrays and
//! structs without any header.
//!
//! Beyond that layout the decoder is stricter than `bincode::deserialize`:
//!
//! * Bytes after the value are refused. A value has exactly one encoding, so two programs cannot read the same message
//!   differently, and a caller built for another version is told so instead of being half understood.
//! * A message longer than its type allows is refused before it is looked at, a field longer than its own limit before
//!   memory is reserved for it.
//! * Nothing nests: decoding uses a bounded stack whatever the bytes.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type that crosses the ModuleAPI, and how many bytes it may take there.
pub trait Wire: Serialize + DeserializeOwned {
    /// The type's name in error messages.
    const NAME: &'static str;
    /// The most bytes an encoded value may have. Unless said otherwise at the type it follows from the fields' limits.
    const MAX_ENCODED_BYTES: usize;
}

/// Why a value could not be encoded or bytes could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The message is longer than any legal value of its type. It was not looked at.
    #[error("{length} bytes are too many for a {name}, which has at most {limit}: send less in one call")]
    TooLarge {
        /// The type that was to be decoded.
        name: &'static str,
        /// How long the message is, in bytes.
        length: usize,
        /// How long it may be, in bytes.
        limit: usize,
    },
    /// The bytes are no value of this type: cut short, too long in one field, trailing bytes, an unknown variant.
    #[error("bytes are not a {name}: {source}; check that both sides speak the same version of the mesh API")]
    Malformed {
        /// The type that was to be decoded.
        name: &'static str,
        /// What bincode or a field's limit objected to.
        source: bincode::Error,
    },
    /// The value breaks a limit, so nobody would accept its encoding.
    #[error("this {name} cannot be encoded: {source}; shorten the field that is too long")]
    Unencodable {
        /// The type of the value.
        name: &'static str,
        /// What a field's limit objected to.
        source: bincode::Error,
    },
}

/// Encodes a value.
///
/// # Errors
/// [`CodecError::Unencodable`] if a field or the whole breaks its limit.
pub fn encode<T: Wire>(value: &T) -> Result<Vec<u8>, CodecError> {
    // No truncation: MAX_ENCODED_BYTES is a constant far below 2^32.
    layout()
        .with_limit(T::MAX_ENCODED_BYTES as u64)
        .serialize(value)
        .map_err(|source| CodecError::Unencodable {
            name: T::NAME,
            source,
        })
}

/// Encodes a value behind bytes that are there already.
pub(crate) fn encode_behind<T: Wire>(mut bytes: Vec<u8>, value: &T) -> Result<Vec<u8>, CodecError> {
    let written = layout()
        .with_limit(T::MAX_ENCODED_BYTES as u64)
        .serialize_into(&mut bytes, value);
    written.map(|()| bytes).map_err(|source| CodecError::Unencodable {
        name: T::NAME,
        source,
    })
}

/// How many bytes [`encode`] would make, without making them.
///
/// # Errors
/// [`CodecError::Unencodable`] if a field breaks its limit. The limit of the whole is not applied, so that a list can be
/// filled up to it.
pub fn encoded_len<T: Wire>(value: &T) -> Result<u64, CodecError> {
    layout()
        .serialized_size(value)
        .map_err(|source| CodecError::Unencodable {
            name: T::NAME,
            source,
        })
}

/// Decodes a value from bytes that anybody may have written.
///
/// # Errors
/// [`CodecError::TooLarge`] or [`CodecError::Malformed`]; never a panic, and never more memory than a legal value of
/// this type needs.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > T::MAX_ENCODED_BYTES {
        return Err(CodecError::TooLarge {
            name: T::NAME,
            length: bytes.len(),
            limit: T::MAX_ENCODED_BYTES,
        });
    }
    layout()
        .deserialize(bytes)
        .map_err(|source| CodecError::Malformed {
            name: T::NAME,
            source,
        })
}

fn layout() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .reject_trailing_bytes()
}

/// The encoded sizes of fields in bytes, to sum up the largest value of a type.
pub(crate) mod size {
    pub(crate) const BOOL: usize = 1;
    pub(crate) const U8: usize = 1;
    pub(crate) const U32: usize = 4;
    pub(crate) const U64: usize = 8;
    pub(crate) const ID16: usize = 16;
    pub(crate) const ID32: usize = 32;
    pub(crate) const VARIANT: usize = 4;

    /// Text or bytes of at most `max` bytes.
    pub(crate) const fn block(max: usize) -> usize {
        U64 + max
    }

    /// A list of at most `count` items of at most `each` bytes.
    pub(crate) const fn list(count: usize, each: usize) -> usize {
        U64 + count * each
    }

    /// A value that may be absent.
    pub(crate) const fn option(value: usize) -> usize {
        1 + value
    }

    /// The larger of two variants.
    pub(crate) const fn larger(a: usize, b: usize) -> usize {
        if a > b { a } else { b }
    }
}

/// Says that a type crosses the ModuleAPI in at most so many bytes.
macro_rules! wire {
    ($type:ident, $max:expr) => {
        impl $crate::codec::Wire for $type {
            const NAME: &'static str = stringify!($type);
            const MAX_ENCODED_BYTES: usize = $max;
        }
    };
}
pub(crate) use wire;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_PAYLOAD_BYTES;
    use crate::types::{GetNodeIdResponse, RegisterProtocolResponse, SendPacketRequest};

    fn packet(payload_bytes: usize) -> SendPacketRequest {
        SendPacketRequest {
            destination: [1; 32],
            payload: vec![0; payload_bytes],
            payment_proof: None,
            protocol_id: None,
            ttl: None,
        }
    }

    #[test]
    fn a_payload_of_exactly_the_limit_travels_and_one_byte_more_does_not() {
        let bytes = encode(&packet(MAX_PAYLOAD_BYTES)).unwrap();
        assert_eq!(
            decode::<SendPacketRequest>(&bytes).unwrap(),
            packet(MAX_PAYLOAD_BYTES)
        );

        assert!(matches!(
            encode(&packet(MAX_PAYLOAD_BYTES + 1)),
            Err(CodecError::Unencodable { .. })
        ));
        let plain = bincode::serialize(&(
            [1u8; 32],
            vec![0u8; MAX_PAYLOAD_BYTES + 1],
            None::<u8>,
            None::<String>,
            None::<u64>,
        ));
        let refused = decode::<SendPacketRequest>(&plain.unwrap()).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("262145 bytes exceed the limit of 262144"),
            "{refused}"
        );
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&RegisterProtocolResponse { success: true }).unwrap();
        assert_eq!(bytes, [1]);
        bytes.push(0);
        assert!(matches!(
            decode::<RegisterProtocolResponse>(&bytes),
            Err(CodecError::TooLarge { .. })
        ));
        let mut bytes = encode(&packet(3)).unwrap();
        bytes.push(0);
        assert!(matches!(
            decode::<SendPacketRequest>(&bytes),
            Err(CodecError::Malformed { .. })
        ));
    }

    #[test]
    fn a_message_over_its_types_limit_is_not_even_looked_at() {
        let refused = decode::<GetNodeIdResponse>(&[0; 33]).unwrap_err();
        assert!(matches!(
            refused,
            CodecError::TooLarge {
                length: 33,
                limit: 32,
                ..
            }
        ));
    }

    #[test]
    fn a_message_cut_short_anywhere_is_refused() {
        let bytes = encode(&packet(3)).unwrap();
        for end in 0..bytes.len() {
            assert!(
                decode::<SendPacketRequest>(&bytes[..end]).is_err(),
                "{end} bytes were enough"
            );
        }
    }
}
