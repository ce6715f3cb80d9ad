//! The Bitcoin message around each frame.
//!
//! What a node does with a module's packet differs. One sends it on as the payload of a `mesh` message. Another (0.1.83 as
//! published) writes the bytes to the peer as they are, and anything but a Bitcoin message there makes the peer hang up:
//! turned on by somebody with such a node, the carrier would cost him all his connections. So a frame is always wrapped in
//! a Bitcoin message of our own making: harmless there, 24 bytes more here. Who receives takes frames with and without.

use mesh_core::verifier::BitcoinNetwork;
use sha2::{Digest, Sha256};

/// Bytes of a Bitcoin message's header: magic, command, length, checksum.
pub(crate) const ENVELOPE_BYTES: usize = 24;

const COMMAND: &[u8; 12] = b"mesh\0\0\0\0\0\0\0\0";

/// How messages of one Bitcoin network begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope {
    magic: [u8; 4],
}

impl Envelope {
    pub(crate) const fn of(network: BitcoinNetwork) -> Self {
        let magic = match network {
            BitcoinNetwork::Mainnet => [0xf9, 0xbe, 0xb4, 0xd9],
            BitcoinNetwork::Testnet => [0x0b, 0x11, 0x09, 0x07],
            BitcoinNetwork::Signet => [0x0a, 0x03, 0xcf, 0x40],
            BitcoinNetwork::Regtest => [0xfa, 0xbf, 0xb5, 0xda],
        };
        Self { magic }
    }

    pub(crate) fn wrap(&self, frame: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(ENVELOPE_BYTES + frame.len());
        message.extend(self.magic);
        message.extend(COMMAND);
        message.extend((frame.len() as u32).to_le_bytes());
        message.extend(checksum(frame));
        message.extend_from_slice(frame);
        message
    }

    /// What is inside, or the whole where there is no envelope. Length and checksum are not looked at: the node did, and
    /// what matters is authenticated above.
    pub(crate) fn unwrap<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        match packet.split_at_checked(ENVELOPE_BYTES) {
            Some((header, frame)) if header.starts_with(&self.magic) => frame,
            _ => packet,
        }
    }
}

fn checksum(payload: &[u8]) -> [u8; 4] {
    let twice = Sha256::digest(Sha256::digest(payload));
    [twice[0], twice[1], twice[2], twice[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_the_node_is_a_bitcoin_message_that_any_peer_can_skip() {
        let message = Envelope::of(BitcoinNetwork::Mainnet).wrap(b"");
        // The empty payload's checksum, as in every `verack` on the main network.
        let verack = hex::decode("f9beb4d9").unwrap();
        assert_eq!(message[..4], verack[..]);
        assert_eq!(&message[4..16], b"mesh\0\0\0\0\0\0\0\0");
        assert_eq!(message[16..], [0, 0, 0, 0, 0x5d, 0xf6, 0xe0, 0xe2]);
    }

    #[test]
    fn frame_is_found_with_its_envelope_and_without() {
        let envelope = Envelope::of(BitcoinNetwork::Regtest);
        let wrapped = envelope.wrap(b"MLNK and more");
        assert_eq!(envelope.unwrap(&wrapped), b"MLNK and more");
        assert_eq!(envelope.unwrap(b"MLNK bare"), b"MLNK bare");
        assert_eq!(envelope.unwrap(b""), b"");
    }
}
