//! The sliding window over a session's sequence numbers.

use crate::drop_reason::DropReason;
use crate::limits::SEQUENCE_WINDOW;

const WORD_BITS: u64 = u64::BITS as u64;

/// One word more than the window needs: the word of the highest number is only partly used, and the words
/// behind it must still cover the whole window (RFC 6479 section 2).
const WORDS: usize = (SEQUENCE_WINDOW / WORD_BITS + 1) as usize;

const _: () = assert!(
    SEQUENCE_WINDOW.is_multiple_of(WORD_BITS),
    "the window is made of whole words"
);

/// Which of the last [`SEQUENCE_WINDOW`] sequence numbers were seen: the anti-replay bitmap of RFC 6479, as a
/// ring of words that is cleared a word at a time when the window moves, instead of being shifted bit by bit.
///
/// The order of use is the contract: [`check`](Self::check) first, which changes nothing, then the packet's
/// tag, and [`mark`](Self::mark) only when the tag is good. Marking before would let anybody move the window
/// far ahead with one forged number, and have every honest packet refused as too old.
///
/// Exact, for every number from 0 to `u64::MAX`: a number that was marked is never accepted again, and one
/// that was not is refused only when it lies behind the window. Never allocates. 272 bytes.
#[derive(Debug, Clone)]
pub struct SequenceWindow {
    /// The highest number seen, or 0 when its bit is not set: nothing was seen yet.
    highest: u64,
    /// Bit `n % 64` of word `n / 64 % WORDS` stands for number n, while n lies in the words the window
    /// touches.
    seen: [u64; WORDS],
}

impl SequenceWindow {
    /// A window that has seen nothing.
    pub fn new() -> Self {
        Self {
            highest: 0,
            seen: [0; WORDS],
        }
    }

    /// A window that takes every number below `first_fresh` for seen: after a restart, when it is only known
    /// that numbers up to some bound may have been accepted. Refusing a few unseen ones is the price of never
    /// counting a packet twice.
    pub fn resume_at(first_fresh: u64) -> Self {
        let Some(highest) = first_fresh.checked_sub(1) else {
            return Self::new();
        };
        let mut window = Self {
            highest,
            seen: [u64::MAX; WORDS],
        };
        window.seen[slot(highest)] = u64::MAX >> (WORD_BITS - 1 - highest % WORD_BITS);
        window
    }

    /// Whether `sequence` may still be accepted: [`DropReason::Duplicate`] when it was seen,
    /// [`DropReason::TooOld`] when it lies behind the window, where it cannot be told.
    pub fn check(&self, sequence: u64) -> Result<(), DropReason> {
        if sequence > self.highest {
            return Ok(());
        }
        if self.highest - sequence >= SEQUENCE_WINDOW {
            return Err(DropReason::TooOld);
        }
        if self.seen[slot(sequence)] & bit(sequence) != 0 {
            Err(DropReason::Duplicate)
        } else {
            Ok(())
        }
    }

    /// Marks `sequence` as seen. Only for a number that [`check`](Self::check) has just passed; any other
    /// would at worst have an unseen number refused, never a seen one accepted.
    pub fn mark(&mut self, sequence: u64) {
        debug_assert_eq!(self.check(sequence), Ok(()), "mark only what check has passed");
        if sequence > self.highest {
            self.move_to(sequence);
        }
        self.seen[slot(sequence)] |= bit(sequence);
        debug_assert_eq!(self.check(sequence), Err(DropReason::Duplicate));
    }

    /// The highest number seen; 0 when none was.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Clears the words that the window newly touches: each of them stood for numbers now behind it.
    fn move_to(&mut self, highest: u64) {
        let (old_word, new_word) = (self.highest / WORD_BITS, highest / WORD_BITS);
        if new_word - old_word >= WORDS as u64 {
            self.seen = [0; WORDS];
        } else {
            for word in old_word + 1..=new_word {
                self.seen[(word % WORDS as u64) as usize] = 0;
            }
        }
        self.highest = highest;
    }
}

impl Default for SequenceWindow {
    fn default() -> Self {
        Self::new()
    }
}

fn slot(sequence: u64) -> usize {
    (sequence / WORD_BITS % WORDS as u64) as usize
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The slow, obvious twin: remembers every number there was.
    #[derive(Default)]
    struct Twin(BTreeSet<u64>);

    impl Twin {
        fn check(&self, sequence: u64) -> Result<(), DropReason> {
            let highest = self.0.last().copied().unwrap_or(0);
            if highest.saturating_sub(sequence) >= SEQUENCE_WINDOW {
                Err(DropReason::TooOld)
            } else if self.0.contains(&sequence) {
                Err(DropReason::Duplicate)
            } else {
                Ok(())
            }
        }
    }

    fn accept(window: &mut SequenceWindow, sequence: u64) -> Result<(), DropReason> {
        window.check(sequence).map(|()| window.mark(sequence))
    }

    #[test]
    fn replayed_packet_is_refused_and_reordered_packet_is_not() {
        let mut window = SequenceWindow::new();
        assert_eq!(accept(&mut window, 5), Ok(()));
        assert_eq!(accept(&mut window, 5), Err(DropReason::Duplicate));
        assert_eq!(accept(&mut window, 0), Ok(()));
        assert_eq!(accept(&mut window, 0), Err(DropReason::Duplicate));
        assert_eq!(accept(&mut window, 3), Ok(()));
    }

    #[test]
    fn window_reaches_exactly_as_far_back_as_it_says() {
        for highest in [
            SEQUENCE_WINDOW,
            SEQUENCE_WINDOW + 63,
            64 * 1000,
            64 * 1000 + 63,
            u64::MAX,
        ] {
            let mut window = SequenceWindow::new();
            assert_eq!(accept(&mut window, highest), Ok(()));
            assert_eq!(
                accept(&mut window, highest - SEQUENCE_WINDOW),
                Err(DropReason::TooOld)
            );
            assert_eq!(accept(&mut window, highest - SEQUENCE_WINDOW + 1), Ok(()));
            assert_eq!(
                accept(&mut window, highest - SEQUENCE_WINDOW + 1),
                Err(DropReason::Duplicate)
            );
            assert_eq!(accept(&mut window, highest), Err(DropReason::Duplicate));
        }
    }

    #[test]
    fn forged_number_that_fails_its_tag_does_not_move_the_window() {
        let mut window = SequenceWindow::new();
        assert_eq!(accept(&mut window, 1), Ok(()));
        assert_eq!(window.check(u64::MAX), Ok(()));
        assert_eq!(accept(&mut window, 2), Ok(()));
    }

    #[test]
    fn last_number_of_all_is_accepted_once() {
        let mut window = SequenceWindow::new();
        assert_eq!(accept(&mut window, u64::MAX), Ok(()));
        assert_eq!(accept(&mut window, u64::MAX), Err(DropReason::Duplicate));
        assert_eq!(accept(&mut window, u64::MAX - 1), Ok(()));
        assert_eq!(window.highest(), u64::MAX);
    }

    #[test]
    fn costs_272_bytes() {
        assert_eq!(size_of::<SequenceWindow>(), 272);
    }

    /// Numbers that crowd around the highest one and around multiples of the ring, where a mistake would be.
    fn any_sequence() -> impl Strategy<Value = u64> {
        let ring = WORDS as u64 * WORD_BITS;
        let near = (0u64..8, 0u64..2 * SEQUENCE_WINDOW).prop_map(move |(turn, offset)| turn * ring + offset);
        let last = (0u64..3000).prop_map(|back| u64::MAX - back);
        prop_oneof![4 => 0u64..200, 4 => near, 1 => any::<u64>(), 1 => last]
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_twin(sequences in proptest::collection::vec(any_sequence(), 1..400)) {
            let (mut window, mut twin) = (SequenceWindow::new(), Twin::default());
            for sequence in sequences {
                let verdict = accept(&mut window, sequence);
                prop_assert_eq!(verdict, twin.check(sequence), "sequence {}", sequence);
                if verdict.is_ok() {
                    twin.0.insert(sequence);
                }
            }
        }

        #[test]
        fn agrees_with_the_twin_while_the_session_creeps_on(
            steps in proptest::collection::vec((0u64..150, 0u64..SEQUENCE_WINDOW + 100), 1..400)
        ) {
            let (mut window, mut twin, mut front) = (SequenceWindow::new(), Twin::default(), 0);
            for (ahead, behind) in steps {
                front += ahead;
                for sequence in [front, front.saturating_sub(behind)] {
                    let verdict = accept(&mut window, sequence);
                    prop_assert_eq!(verdict, twin.check(sequence));
                    if verdict.is_ok() {
                        twin.0.insert(sequence);
                    }
                }
            }
        }

        #[test]
        fn resumed_window_takes_everything_below_for_seen_and_nothing_else(
            first in any_sequence(),
            jump in 0u64..200,
            offsets in proptest::collection::vec(0u64..3000, 1..50),
        ) {
            let mut window = SequenceWindow::resume_at(first);
            let front = first.saturating_add(jump);
            prop_assert_eq!(accept(&mut window, front), Ok(()));
            let mut twin = Twin(BTreeSet::from([front]));
            for offset in offsets {
                if let Some(below) = first.checked_sub(1 + offset) {
                    prop_assert!(window.check(below).is_err());
                }
                let above = first.saturating_add(offset);
                let verdict = accept(&mut window, above);
                prop_assert_eq!(verdict, twin.check(above));
                twin.0.insert(above);
            }
        }
    }
}
