//! What comes over a connection before anybody is known or anything is a message.
//!
//! A connection is TCP of our own, or the Bitcoin node's.

use blvm_mesh::carrier::{self, MAX_EARLY_FRAMES, MAX_FRAME_BYTES, WINDOW_BYTES};
use mesh_core::event::Channel;
use mesh_net::fuzzing;

use crate::cast::choose;

/// Frames and hellos. However a stream is cut into pieces, the same frames come out of it, none longer than its channel
/// allows; a hello that is understood is written again as it was, but for what a later version appended.
pub fn frames(data: &[u8]) {
    let (how, data) = choose(data);
    let (piece, stream) = choose(data);
    let channel = if how & 1 == 0 {
        Channel::Data
    } else {
        Channel::Control
    };
    let (whole, sound) = fuzzing::frames(stream, usize::MAX, channel);
    assert_eq!(
        fuzzing::frames(stream, usize::from(piece), channel),
        (whole.clone(), sound)
    );
    assert!(
        whole
            .iter()
            .all(|frame| (1..=channel.max_frame_bytes()).contains(&frame.len()))
    );
    let taken: usize = whole.iter().map(|frame| frame.len() + 4).sum();
    assert!(taken <= stream.len());
    if let Ok(again) = fuzzing::hello(data) {
        assert_eq!(again, data[..again.len()]);
    }
}

/// What comes over the Bitcoin node's connections instead of one of ours. A frame that is understood is within its limit, is
/// written again as it was (but for a reason that a later version knows), and is found in its envelope; and whatever
/// frames come, in whatever order and number, a link reads a beginning of what was sent, within the window.
pub fn carrier(data: &[u8]) {
    let (how, data) = choose(data);
    match how % 3 {
        0 => frame(data),
        1 => frame(carrier::fuzzing::unwrapped(data)),
        _ => script(data),
    }
}

fn frame(bytes: &[u8]) {
    let Some(again) = carrier::fuzzing::frame(bytes) else {
        return;
    };
    assert!(again.len() <= MAX_FRAME_BYTES);
    assert_eq!(again.len(), bytes.len());
    assert_eq!(again[..14], bytes[..14]);
    // Kind 4 is an end, whose last byte is the reason.
    if bytes[5] != 4 {
        assert_eq!(again, bytes);
    }
    assert_eq!(carrier::fuzzing::frame(&again).as_ref(), Some(&again));
    let wrapped = carrier::fuzzing::wrapped(&again);
    assert_eq!(carrier::fuzzing::unwrapped(&wrapped), again);
}

/// Each byte is a carry that is delivered, by its number, and the first of them also say how long the chunks are. What a
/// number carries never changes, so there is one truth of what was sent.
fn script(data: &[u8]) {
    const NUMBERS: u8 = 32;
    const STEPS: usize = 300;
    let data = data.get(..STEPS).unwrap_or(data);
    let lengths = |number: u8| {
        let [data_length, control_length] = [0, 1].map(|of| {
            let at = usize::from(number) * 2 + of;
            data.get(at).map_or(0, |length| usize::from(*length) * 40)
        });
        (data_length, control_length)
    };
    let chunk = |number: u8| {
        let (data, control) = lengths(number);
        (vec![number; data], vec![!number; control])
    };
    let delivered = data.iter().map(|step| {
        let number = step % NUMBERS;
        let (data, control) = chunk(number);
        // A lie about what was taken ends the conversation; it must not do more.
        let taken = if *step == u8::MAX { [1; 2] } else { [0; 2] };
        carrier::fuzzing::carry(u64::from(number), taken, &data, &control)
    });
    let (read, ended) = carrier::fuzzing::hear(delivered);
    let (sent_data, sent_control): (Vec<_>, Vec<_>) = (0..NUMBERS).map(chunk).unzip();
    for (read, sent) in read.iter().zip([sent_data.concat(), sent_control.concat()]) {
        assert!(read.len() <= WINDOW_BYTES);
        assert!(sent.starts_with(read), "something else than what was sent");
    }
    let highest = data.iter().map(|step| step % NUMBERS).max().unwrap_or(0);
    if usize::from(highest) < MAX_EARLY_FRAMES && !data.contains(&u8::MAX) {
        assert_eq!(ended, None, "nothing was too early");
    }
}
