//! What comes over a connection before anybody is known or anything is a message.

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
