//! The filter for class `bitcoin_p2p`: whole messages of the Bitcoin peer-to-peer protocol, version 1
//! framing.

use sha2::{Digest, Sha256};

use crate::limits::MAX_PAYLOAD_BYTES;

/// Largest payload of this class, in bytes: a whole packet, since a transaction of standard size has to fit.
/// Bitcoin itself allows messages up to 4,000,000 bytes; a block that does not fit is fetched over ordinary
/// connections.
pub const BITCOIN_P2P_MAX_BYTES: usize = MAX_PAYLOAD_BYTES;

/// Most messages in one packet. Each costs two hashes however short it is; without a bound a packet of 10,000
/// empty messages would cost ten times as much to check as one of the same size with a transaction in it.
pub const BITCOIN_P2P_MAX_MESSAGES: usize = 128;

/// Start of a message on mainnet, testnet3, testnet4, the default signet (BIP 325) and regtest.
const MAGICS: [[u8; 4]; 5] = [
    [0xf9, 0xbe, 0xb4, 0xd9],
    [0x0b, 0x11, 0x09, 0x07],
    [0x1c, 0x16, 0x3f, 0x28],
    [0x0a, 0x03, 0xcf, 0x40],
    [0xfa, 0xbf, 0xb5, 0xda],
];

/// Anything up to the packet's own limit.
const ANY: u32 = u32::MAX;

/// The commands that are carried, with the least and greatest length of their payload in bytes. Where the
/// protocol fixes or bounds the length, so does this: a `ping` of 200 KiB would be a free packet of anybody's
/// data.
///
/// Not on the list: `alert` and `reject`, which no current node sends or reads and which carry free text, and
/// every private command.
const COMMANDS: &[(&str, u32, u32)] = &[
    // Fixed fields and a user agent of up to 256 bytes; early versions end after the first address.
    ("version", 46, 344),
    ("verack", 0, 0),
    ("wtxidrelay", 0, 0),
    ("sendaddrv2", 0, 0),
    // BIP 330: version and salt.
    ("sendtxrcncl", 12, 12),
    ("sendheaders", 0, 0),
    ("sendcmpct", 9, 9),
    ("feefilter", 8, 8),
    ("ping", 0, 8),
    ("pong", 8, 8),
    ("getaddr", 0, 0),
    // Up to 1,000 addresses of 30 bytes, in BIP 155 form of up to 4 + 9 + 1 + 3 + 512 + 2 bytes.
    ("addr", 1, 3 + 1_000 * 30),
    ("addrv2", 1, 3 + 1_000 * 531),
    // Up to 50,000 entries of 36 bytes, which is more than a packet holds.
    ("inv", 1, ANY),
    ("getdata", 1, ANY),
    ("notfound", 1, ANY),
    // Version, up to 101 hashes of a locator, and where to stop.
    ("getblocks", 37, 4 + 3 + 102 * 32),
    ("getheaders", 37, 4 + 3 + 102 * 32),
    // Up to 2,000 headers of 80 bytes with an empty list each.
    ("headers", 1, 3 + 2_000 * 81),
    ("mempool", 0, 0),
    ("tx", 10, ANY),
    ("block", 81, ANY),
    ("merkleblock", 84, ANY),
    ("cmpctblock", 88, ANY),
    ("getblocktxn", 33, ANY),
    ("blocktxn", 33, ANY),
    // BIP 37.
    ("filterload", 10, 3 + 36_000 + 9),
    ("filteradd", 1, 3 + 520),
    ("filterclear", 0, 0),
    // BIP 157.
    ("getcfilters", 37, 37),
    ("cfilter", 34, ANY),
    ("getcfheaders", 37, 37),
    ("cfheaders", 66, 1 + 32 + 32 + 3 + 2_000 * 32),
    ("getcfcheckpt", 33, 33),
    ("cfcheckpt", 34, ANY),
];

/// Whether `payload` is one or more whole messages of one Bitcoin network and nothing else.
///
/// A message is magic, 12-byte command padded with zeros, length (u32, little-endian), checksum (the first
/// four bytes of the double SHA-256 of the content), content.
pub(super) fn is_messages(payload: &[u8]) -> bool {
    let Some(messages) = split(payload) else {
        return false;
    };
    messages
        .iter()
        .all(|message| message.checksum == double_sha256_start(message.content))
}

struct Message<'a> {
    checksum: [u8; 4],
    content: &'a [u8],
}

/// The messages in `payload`, everything about them checked but the checksums, which cost the most.
fn split(payload: &[u8]) -> Option<Vec<Message<'_>>> {
    let network = payload
        .first_chunk::<4>()
        .filter(|magic| MAGICS.contains(magic))?;
    let mut messages = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() && messages.len() < BITCOIN_P2P_MAX_MESSAGES {
        let (magic, after) = rest.split_first_chunk::<4>()?;
        let (command, after) = after.split_first_chunk::<12>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (checksum, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        if magic != network || !is_carried(command, length) {
            return None;
        }
        let (content, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        messages.push(Message {
            checksum: *checksum,
            content,
        });
        rest = after;
    }
    rest.is_empty().then_some(messages)
}

fn is_carried(command: &[u8; 12], length: u32) -> bool {
    COMMANDS.iter().any(|(name, least, most)| {
        let (start, padding) = command.split_at(name.len().min(command.len()));
        start == name.as_bytes()
            && padding.iter().all(|byte| *byte == 0)
            && (*least..=*most).contains(&length)
    })
}

fn double_sha256_start(content: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(Sha256::digest(content)));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAINNET: [u8; 4] = MAGICS[0];

    fn message(magic: [u8; 4], command: &str, content: &[u8]) -> Vec<u8> {
        let mut padded = [0; 12];
        padded[..command.len()].copy_from_slice(command.as_bytes());
        let length = (content.len() as u32).to_le_bytes();
        [
            &magic[..],
            &padded,
            &length,
            &double_sha256_start(content),
            content,
        ]
        .concat()
    }

    fn ping() -> Vec<u8> {
        message(MAINNET, "ping", &7u64.to_le_bytes())
    }

    /// A `version` message as a node of protocol 70016 would send it.
    fn version() -> Vec<u8> {
        let address = [&1u64.to_le_bytes()[..], &[0; 16], &8333u16.to_be_bytes()].concat();
        let user_agent = b"/blvm:0.1.0/";
        let content = [
            &70_016i32.to_le_bytes()[..],
            &1u64.to_le_bytes(),
            &1_700_000_000i64.to_le_bytes(),
            &address,
            &address,
            &0x1234u64.to_le_bytes(),
            &[user_agent.len() as u8],
            user_agent,
            &840_000i32.to_le_bytes(),
            &[1],
        ]
        .concat();
        message(MAINNET, "version", &content)
    }

    #[test]
    fn published_verack_bytes_are_accepted() {
        let verack = hex::decode("f9beb4d976657261636b000000000000000000005df6e0e2").unwrap();
        assert!(is_messages(&verack));
    }

    #[test]
    fn true_messages_of_every_network_are_accepted() {
        assert!(is_messages(&version()));
        for magic in MAGICS {
            assert!(is_messages(&message(magic, "ping", &[1; 8])));
        }
        assert!(is_messages(
            &[version(), message(MAINNET, "verack", &[]), ping()].concat()
        ));
    }

    #[test]
    fn every_listed_command_is_accepted_at_its_bounds_and_refused_beyond() {
        for (name, least, most) in COMMANDS {
            let of_length = |length: u32| is_messages(&message(MAINNET, name, &vec![0; length as usize]));
            assert!(of_length(*least), "{name}");
            assert!(*least == 0 || !of_length(least - 1), "{name}");
            if *most != ANY {
                assert!(of_length(*most) && !of_length(most + 1), "{name}");
            }
        }
    }

    #[test]
    fn data_smuggled_under_a_name_of_ones_own_is_refused() {
        for command in [
            "mesh",
            "data",
            "alert",
            "reject",
            "",
            "PING",
            "pin",
            "pings",
            "sendtxrcnclx",
        ] {
            assert!(!is_messages(&message(MAINNET, command, &[1; 8])), "{command}");
        }
    }

    #[test]
    fn bytes_hidden_in_the_padding_of_the_command_are_refused() {
        let mut sneaky = ping();
        sneaky[15] = b'x';
        assert!(!is_messages(&sneaky));
    }

    #[test]
    fn altered_checksum_or_content_is_refused() {
        for at in [20, 23, 24, 31] {
            let mut altered = ping();
            altered[at] ^= 1;
            assert!(!is_messages(&altered), "byte {at}");
        }
    }

    #[test]
    fn length_that_lies_is_refused() {
        for length in [0u32, 7, 9, u32::MAX] {
            let mut lying = ping();
            lying[16..20].copy_from_slice(&length.to_le_bytes());
            assert!(!is_messages(&lying), "{length}");
        }
    }

    #[test]
    fn trailing_bytes_and_cut_messages_are_refused() {
        assert!(!is_messages(&[ping(), vec![0]].concat()));
        assert!(!is_messages(&[ping(), ping()[..24].to_vec()].concat()));
        let version = version();
        for length in 0..version.len() {
            assert!(!is_messages(&version[..length]));
        }
    }

    #[test]
    fn unknown_network_and_networks_mixed_are_refused() {
        assert!(!is_messages(&message([1, 2, 3, 4], "ping", &[1; 8])));
        assert!(!is_messages(
            &[ping(), message(MAGICS[1], "ping", &[1; 8])].concat()
        ));
    }

    #[test]
    fn flood_of_empty_messages_in_one_packet_is_refused() {
        let verack = message(MAINNET, "verack", &[]);
        assert!(is_messages(&verack.repeat(BITCOIN_P2P_MAX_MESSAGES)));
        assert!(!is_messages(&verack.repeat(BITCOIN_P2P_MAX_MESSAGES + 1)));
    }

    proptest! {
        #[test]
        fn any_one_flipped_bit_is_refused(bit in 0usize..32 * 8) {
            let mut altered = ping();
            altered[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!is_messages(&altered));
        }

        #[test]
        fn bytes_behind_a_true_start_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            for keep in [4, 16, 20, 24] {
                let _ = is_messages(&[&ping()[..keep], &tail].concat());
            }
        }
    }
}
