//! What was spent stays spent: the two structures that say so, beside slow and obvious twins.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::drop_reason::DropReason;
use mesh_core::limits::{REPLAY_MEMORY, SEQUENCE_WINDOW};
use mesh_core::replay::{SequenceWindow, SingleUse};
use mesh_core::time::UnixMillis;

use crate::cast::{NOW, choose};

/// Steps of one input at the most.
const STEPS: usize = 300;

/// Entries are forgotten in hours.
const HOUR: u64 = 3_600_000;

/// Windows and sets under any sequence of numbers, hashes and pauses: never is anything accepted twice, nor refused
/// without the reason that the twin would give.
pub fn replay(data: &[u8]) {
    let (how, data) = choose(data);
    if how & 1 == 0 {
        window(data);
    } else {
        single_use(data, usize::from(how >> 1));
    }
}

fn window(data: &[u8]) {
    let mut window = SequenceWindow::new();
    let mut seen = BTreeSet::new();
    let mut near = 0u64;
    for step in data.as_chunks::<3>().0.iter().take(STEPS) {
        let offset = u64::from(u16::from_le_bytes([step[1], step[2]]));
        let sequence = match step[0] % 4 {
            0 => near.wrapping_add(offset),
            1 => near.wrapping_sub(offset),
            2 => u64::MAX - offset,
            _ => near.saturating_add(offset << 8),
        };
        let expected = if seen.contains(&sequence) && near - sequence < SEQUENCE_WINDOW {
            Err(DropReason::Duplicate)
        } else if sequence < near && near - sequence >= SEQUENCE_WINDOW {
            Err(DropReason::TooOld)
        } else {
            Ok(())
        };
        assert_eq!(window.check(sequence), expected);
        // As with a packet whose tag is bad: what is checked and not marked leaves no trace.
        if expected.is_ok() && step[0] & 0x80 == 0 {
            window.mark(sequence);
            seen.insert(sequence);
            near = near.max(sequence);
        }
        assert_eq!(window.highest(), near);
    }
}

fn single_use(data: &[u8], capacity: usize) {
    let mut set = SingleUse::new(&[3; 32], capacity);
    let mut until: BTreeMap<u8, u64> = BTreeMap::new();
    let mut now = NOW.0;
    for step in data.as_chunks::<2>().0.iter().take(STEPS) {
        match step[0] % 4 {
            0 => now += u64::from(step[1]) * HOUR / 7,
            1 => {
                set.expire(UnixMillis(now));
            }
            _ => {
                let hash = *blake3::hash(&step[1..]).as_bytes();
                let expires = now + u64::from(step[0]) * HOUR;
                let live = until.values().filter(|until| **until > now).count();
                match set.insert(&hash, UnixMillis(expires), UnixMillis(now)) {
                    Ok(()) => {
                        assert!(
                            until.get(&step[1]).is_none_or(|until| *until <= now),
                            "spent twice"
                        );
                        let memory = REPLAY_MEMORY.as_millis() as u64;
                        until.insert(step[1], expires.max(now + memory));
                        assert!(live < capacity);
                    }
                    Err(DropReason::AlreadyRedeemed) => assert!(until.contains_key(&step[1])),
                    Err(reason) => assert_eq!(reason, DropReason::TableFull),
                }
            }
        }
        assert!(set.len() <= capacity);
        for (number, until) in &until {
            let hash = *blake3::hash(&[*number]).as_bytes();
            assert!(*until <= now || set.contains(&hash), "forgotten early");
        }
    }
}
