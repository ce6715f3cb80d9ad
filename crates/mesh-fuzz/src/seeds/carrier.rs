//! What comes over the Bitcoin node's connections.

use blvm_mesh::carrier::fuzzing::{carry, short_frames, wrapped};

use super::Seeds;

/// How the target `carrier` takes its input.
const FRAME: u8 = 0;
const PACKET: u8 = 1;
const SCRIPT: u8 = 2;

pub(super) fn add(seeds: &mut Seeds) {
    for (name, frame) in short_frames() {
        seeds.chosen("carrier", name, FRAME, &frame);
        seeds.chosen(
            "carrier",
            &format!("{name} in its envelope"),
            PACKET,
            wrapped(&frame),
        );
    }
    let both = carry(3, [5, 6], b"data", b"control");
    seeds.chosen("carrier", "carry", FRAME, &both);
    seeds.chosen("carrier", "carry in its envelope", PACKET, wrapped(&both));
    seeds.chosen("carrier", "carry of nothing", FRAME, carry(0, [0; 2], b"", b""));
    let mut unknown_reason = short_frames()[2].1.clone();
    if let Some(reason) = unknown_reason.last_mut() {
        *reason = 200;
    }
    seeds.chosen("carrier", "end of a later version", FRAME, unknown_reason);
    seeds.chosen("carrier", "in order", SCRIPT, [0, 1, 2, 3, 4, 5]);
    seeds.chosen("carrier", "doubled and late", SCRIPT, [1, 1, 2, 0, 0, 3]);
    seeds.chosen("carrier", "lost", SCRIPT, [0, 2, 3, 4, 5, 6, 7]);
    seeds.chosen("carrier", "a lie about what was taken", SCRIPT, [0, 255, 1]);
}
