//! The filter for class `stratum_setup`: the messages that set up a Stratum V2 connection, so that a miner
//! finds out over the mesh whether a pool would have him. Everything after that is mining, which pays.
//!
//! Source: Stratum V2 specification, sections 3.2 (framing), 3.6.1–3.6.3 (the messages) and 8 (their
//! numbers). The frames are in clear here, without the Noise encryption that Stratum V2 has on its own
//! connections.

/// Largest message of this class, in bytes with its frame header: a `SetupConnection` whose five texts all
/// have the greatest length the specification allows.
pub const STRATUM_SETUP_MAX_BYTES: usize = HEADER_BYTES + 9 + 256 + 2 + 4 * 256;

const HEADER_BYTES: usize = 6;

const SETUP_CONNECTION: u8 = 0x00;
const SETUP_CONNECTION_SUCCESS: u8 = 0x01;
const SETUP_CONNECTION_ERROR: u8 = 0x02;

/// A piece of a message.
enum Field {
    /// Numbers of this many bytes altogether.
    Fixed(usize),
    /// A text: one byte of length, then as many bytes.
    Text,
}

/// Whether `payload` is one frame with a set-up message, built as the specification says, and nothing else.
///
/// A frame is extension type (u16), message type (u8) and length (u24), all little-endian, then the content.
/// The set-up messages belong to no extension and to no channel, so the extension type is 0.
/// `ChannelEndpointChanged` and `Reconnect`, the other common messages, belong to a connection that stands
/// already.
pub(super) fn is_setup_message(payload: &[u8]) -> bool {
    let Some((header, content)) = payload.split_first_chunk::<HEADER_BYTES>() else {
        return false;
    };
    let [extension_low, extension_high, kind, l0, l1, l2] = *header;
    [extension_low, extension_high] == [0, 0]
        && usize::try_from(u32::from_le_bytes([l0, l1, l2, 0])) == Ok(content.len())
        && fields(kind).is_some_and(|fields| consists_of(content, fields))
}

fn fields(kind: u8) -> Option<&'static [Field]> {
    use Field::{Fixed, Text};
    match kind {
        // Protocol, least and greatest version, flags; host; port; vendor, hardware, firmware, device.
        SETUP_CONNECTION => Some(&[Fixed(9), Text, Fixed(2), Text, Text, Text, Text]),
        // Version used, flags.
        SETUP_CONNECTION_SUCCESS => Some(&[Fixed(6)]),
        // Flags, error code.
        SETUP_CONNECTION_ERROR => Some(&[Fixed(4), Text]),
        _ => None,
    }
}

/// Whether `content` is these fields and ends with the last of them.
fn consists_of(content: &[u8], fields: &[Field]) -> bool {
    let end = fields.iter().try_fold(content, |rest, field| match field {
        Field::Fixed(bytes) => rest.get(*bytes..),
        Field::Text => {
            let (length, rest) = rest.split_first()?;
            rest.get(usize::from(*length)..)
        }
    });
    end.is_some_and(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32).to_le_bytes();
        [&[0, 0, kind], &length[..3], content].concat()
    }

    fn text(text: &[u8]) -> Vec<u8> {
        [&[text.len() as u8], text].concat()
    }

    fn setup_connection_with(texts: [&[u8]; 5]) -> Vec<u8> {
        let [host, device @ ..] = texts;
        let mut content = vec![0];
        content.extend(2u16.to_le_bytes());
        content.extend(2u16.to_le_bytes());
        content.extend(6u32.to_le_bytes());
        content.extend(text(host));
        content.extend(34_254u16.to_le_bytes());
        content.extend(device.into_iter().flat_map(text));
        frame(SETUP_CONNECTION, &content)
    }

    fn setup_connection() -> Vec<u8> {
        setup_connection_with([b"pool.example", b"Bitmain", b"S9i 13.5", b"braiins-os", b""])
    }

    fn error() -> Vec<u8> {
        frame(
            SETUP_CONNECTION_ERROR,
            &[&[0; 4][..], &text(b"unsupported-protocol")].concat(),
        )
    }

    #[test]
    fn the_three_set_up_messages_are_accepted() {
        assert!(is_setup_message(&setup_connection()));
        assert!(is_setup_message(&frame(
            SETUP_CONNECTION_SUCCESS,
            &[2, 0, 0, 0, 0, 0]
        )));
        assert!(is_setup_message(&error()));
    }

    #[test]
    fn longest_message_of_the_specification_fits_exactly() {
        let longest = setup_connection_with([&[b'x'; 255]; 5]);
        assert!(is_setup_message(&longest));
        assert_eq!(longest.len(), STRATUM_SETUP_MAX_BYTES);
    }

    #[test]
    fn mining_under_the_name_of_set_up_is_refused() {
        for kind in 3..=u8::MAX {
            let mut mining = setup_connection();
            mining[2] = kind;
            assert!(!is_setup_message(&mining), "type {kind:#04x}");
        }
    }

    #[test]
    fn extension_and_channel_messages_are_refused() {
        for (at, byte) in [(0, 1), (1, 0x80), (1, 0x40)] {
            let mut extended = setup_connection();
            extended[at] = byte;
            assert!(!is_setup_message(&extended));
        }
    }

    #[test]
    fn data_behind_the_last_field_is_refused_even_when_the_length_admits_it() {
        assert!(!is_setup_message(&frame(SETUP_CONNECTION_SUCCESS, &[0; 7])));
        let with_tail = [&setup_connection()[HEADER_BYTES..], b"smuggled"].concat();
        assert!(!is_setup_message(&frame(SETUP_CONNECTION, &with_tail)));
    }

    #[test]
    fn length_that_lies_is_refused() {
        for length in [0, 5, 7, 255] {
            let mut lying = frame(SETUP_CONNECTION_SUCCESS, &[0; 6]);
            lying[3] = length;
            assert!(!is_setup_message(&lying), "{length}");
        }
    }

    #[test]
    fn trailing_bytes_and_cut_messages_are_refused() {
        for message in [setup_connection(), error()] {
            assert!(!is_setup_message(&[&message[..], &[0]].concat()));
            for length in 0..message.len() {
                assert!(!is_setup_message(&message[..length]));
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_in_a_true_frame_never_panic(
            kind in 0u8..4, content in proptest::collection::vec(any::<u8>(), 0..60)
        ) {
            let _ = is_setup_message(&frame(kind, &content));
        }
    }
}
