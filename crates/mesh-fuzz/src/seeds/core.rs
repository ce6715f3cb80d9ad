//! Scripts for the whole router; see [`machine`](crate::machine) for what the steps mean.

use mesh_core::packet::PREAMBLE_BYTES;

use super::{Seeds, wire};

const PACKET: u8 = 2;
const BACK: u8 = 3;
const OPEN: u8 = 4;
const WAIT: u8 = 5;
const LINK: u8 = 6;
const COMMAND: u8 = 7;
const FROM_DESTINATION: u8 = 0x80;

pub(super) fn add(seeds: &mut Seeds) {
    for (name, message) in wire::control_messages() {
        let frame = message.encode().unwrap();
        let body = &frame[PREAMBLE_BYTES..];
        let [low, high] = (body.len() as u16).to_le_bytes();
        // From either side, then the wallet's word, then half a minute.
        let script = [
            &[1, low, high][..],
            body,
            &[1 | FROM_DESTINATION, low, high],
            body,
            &[LINK, 2, 0],
            &[WAIT, 30, 10],
        ]
        .concat();
        seeds.add("core", name, script);
    }
    let session = [
        [PACKET, 0, 0],
        [PACKET | 1 << 3, 0, 0],
        // Altered in its tag, seen before, and from the wrong side.
        [PACKET | 2 << 3, 44, 1],
        [PACKET, 0, 0],
        [PACKET | FROM_DESTINATION, 0, 0],
        [BACK | FROM_DESTINATION, 0, 0],
        [BACK | 7 << 3 | FROM_DESTINATION, 0, 0],
        // The same open again, and one that differs.
        [OPEN, 0, 0],
        [OPEN, 100, 1],
        [WAIT, 1, 10],
    ];
    seeds.add("core", "packets of a session", session.concat());
    let broken = [
        [LINK | FROM_DESTINATION, 0, 0],
        [PACKET, 0, 0],
        [WAIT, 60, 10],
        [LINK | FROM_DESTINATION, 1, 0],
        [LINK, 0, 0],
        [LINK, 1, 0],
        [OPEN, 0, 0],
        [WAIT, 255, 14],
    ];
    seeds.add("core", "broken links", broken.concat());
    let commands = [0, 1, 2, 3, 4, 69, 9].map(|how| [COMMAND, how, 0]);
    seeds.add(
        "core",
        "commands",
        [&commands.concat()[..], &[WAIT, 30, 10]].concat(),
    );
}
