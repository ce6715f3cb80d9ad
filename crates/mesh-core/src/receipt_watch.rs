//! Whether a session of one's own has fallen silent: packets go out, and the receipts that they pay for do not come.
//!
//! A receipt is due soon after every packet, but what comes back is prepaid (BACK_ALLOWANCE_*), and somebody who sends a
//! small packet now and then pays for one receipt in many packets. The source knows what it sent and what came back, so
//! it knows when a receipt can be afforded. Only from then on is silence a sign.
//!
//! Only what nobody on the way can repeat is counted as come back: newer receipts, and one ack for every open sent. Else a
//! router that swallows packets could hand the source an old error again and again, until no receipt seemed affordable
//! and nobody ever noticed.
//!
//! Silence is the absence of any word. Packets that a hop refused by name, or that were under way when a link broke, are
//! accounted for and await no receipt; but a hop that does nothing but refuse is in the end as good as silent.

use std::time::Duration;

use crate::back::Receipt;
use crate::limits::{
    BACK_ALLOWANCE_BASE_BYTES, BACK_ALLOWANCE_BYTES_PER_UNIT, MAX_ACK_FRAME_BYTES, MAX_RECEIPT_FRAME_BYTES,
    SESSION_SILENT_AFTER,
};
use crate::time::Instant;

/// How often packets that are out may be excused by a refusal until a newer receipt has to come.
const MAX_EXCUSES: u8 = 8;

/// What the source of one session awaits.
#[derive(Debug, Default)]
pub struct ReceiptWatch {
    /// Packets sent.
    packets: u64,
    /// Packets up to the highest one that the destination receipted.
    covered: u64,
    /// Units sent: each buys bytes on the way back.
    units: u64,
    /// Bytes that came back, or may have.
    came_back: u64,
    /// Since when an affordable receipt is awaited.
    awaited_since: Option<Instant>,
    timer_runs: bool,
    silent: bool,
    /// Refusals since the newest receipt that accounted for packets.
    excuses: u8,
    /// One packet whose receipt is timed: how many were sent up to it, and when it was.
    timed: Option<(u64, Instant)>,
    round_trip: Option<Duration>,
}

/// What the timer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing is awaited.
    All,
    /// A receipt is awaited, but not yet overdue: look again at this moment.
    LookAgain(Instant),
    /// A receipt is overdue: the session is silent from now on.
    Nothing,
}

impl ReceiptWatch {
    /// A packet went out. The moment to look whether its receipt came, unless a timer runs already.
    pub fn sent(&mut self, units: u64, now: Instant) -> Option<Instant> {
        self.packets += 1;
        self.units = self.units.saturating_add(units);
        if self.awaited_since.is_none() && self.can_be_afforded() {
            self.awaited_since = Some(now);
        }
        if self.timed.is_none() && self.can_be_afforded() {
            self.timed = Some((self.packets, now));
        }
        let look_at = self.awaited_since? + SESSION_SILENT_AFTER;
        (!std::mem::replace(&mut self.timer_runs, true)).then_some(look_at)
    }

    /// The open went out, or went out again: its ack is paid for from the same allowance.
    pub fn open_sent(&mut self) {
        self.came_back = self.came_back.saturating_add(MAX_ACK_FRAME_BYTES);
    }

    /// A newer receipt came, in a frame of this many bytes. It says that the route carries, also when it does not cover
    /// the last packet. The moment to look again, as for [`ReceiptWatch::sent`].
    pub fn receipted(&mut self, receipt: &Receipt, frame_bytes: usize, now: Instant) -> Option<Instant> {
        self.came_back = self.came_back.saturating_add(frame_bytes as u64);
        self.excuses = 0;
        self.covered = self.covered.max(receipt.highest_sequence.saturating_add(1));
        if let Some((_, sent)) = self.timed.take_if(|(packets, _)| *packets <= self.covered) {
            // Longer than this means that a receipt was lost, which says nothing of the way's length.
            self.round_trip = Some(now - sent).filter(|trip| *trip < SESSION_SILENT_AFTER);
        }
        self.awaited_since = (self.covered < self.packets && self.can_be_afforded()).then_some(now);
        let look_at = self.awaited_since? + SESSION_SILENT_AFTER;
        (!std::mem::replace(&mut self.timer_runs, true)).then_some(look_at)
    }

    /// How long a packet's receipt took, if that was found out since this was last asked: a packet is timed after another.
    pub fn take_round_trip(&mut self) -> Option<Duration> {
        self.round_trip.take()
    }

    /// A hop said why packets end with it, or the first link broke: what is out will not be receipted, and is no sign.
    pub fn refused(&mut self) {
        if self.awaited_since.is_some() && self.excuses < MAX_EXCUSES {
            self.excuses += 1;
            self.covered = self.packets;
            self.awaited_since = None;
            self.timed = None;
        }
    }

    /// The timer fired.
    pub fn look(&mut self, now: Instant) -> Heard {
        let overdue_at = self.awaited_since.map(|since| since + SESSION_SILENT_AFTER);
        match overdue_at {
            Some(at) if at > now => Heard::LookAgain(at),
            Some(_) if !self.silent => {
                self.silent = true;
                Heard::Nothing
            }
            _ => {
                self.timer_runs = false;
                Heard::All
            }
        }
    }

    /// Whether the session fell silent; it stays so.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// As every hop counts: a hop that saw all packets lets one more receipt pass.
    fn can_be_afforded(&self) -> bool {
        let bought = self.units.saturating_mul(BACK_ALLOWANCE_BYTES_PER_UNIT);
        let allowed = bought.saturating_add(BACK_ALLOWANCE_BASE_BYTES);
        allowed >= self.came_back.saturating_add(MAX_RECEIPT_FRAME_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::back::BackMessage;
    use crate::identity::Signature;
    use crate::keys::{Cipher, PayloadSeal, SessionId, TagKey};
    use crate::limits::MAX_HOPS;
    use crate::packet::{self, FrameKind, PacketParts};
    use crate::time::UnixMillis;

    const SECOND: u64 = 1_000_000;

    fn receipt(highest_sequence: u64) -> Receipt {
        Receipt {
            session: SessionId([0; 16]),
            packets: highest_sequence,
            bytes: u64::MAX,
            units: u64::MAX,
            highest_sequence,
            signature: Signature([0; 64]),
        }
    }

    #[test]
    fn packet_without_a_receipt_for_three_seconds_makes_the_session_silent_for_good() {
        let mut watch = ReceiptWatch::default();
        assert_eq!(watch.sent(1, Instant(0)), Some(Instant(3 * SECOND)));
        assert_eq!(watch.sent(1, Instant(SECOND)), None, "one timer is enough");
        assert_eq!(watch.look(Instant(3 * SECOND)), Heard::Nothing);
        assert!(watch.is_silent());
        watch.receipted(&receipt(1), 250, Instant(4 * SECOND));
        assert!(watch.is_silent());
        assert_eq!(watch.look(Instant(9 * SECOND)), Heard::All);
    }

    #[test]
    fn one_packet_after_another_is_timed_and_one_whose_receipt_was_lost_is_not() {
        let mut watch = ReceiptWatch::default();
        watch.sent(1, Instant(0));
        watch.sent(1, Instant(SECOND / 10));
        watch.receipted(&receipt(0), 250, Instant(SECOND / 2));
        assert_eq!(watch.take_round_trip(), Some(Duration::from_millis(500)));
        assert_eq!(watch.take_round_trip(), None, "told once");
        watch.receipted(&receipt(1), 250, Instant(SECOND));
        assert_eq!(watch.take_round_trip(), None, "it was not timed");
        watch.sent(1, Instant(2 * SECOND));
        watch.sent(1, Instant(60 * SECOND));
        watch.receipted(&receipt(3), 250, Instant(61 * SECOND));
        assert_eq!(watch.take_round_trip(), None);
    }

    #[test]
    fn every_newer_receipt_starts_the_wait_anew_and_a_full_one_ends_it() {
        let mut watch = ReceiptWatch::default();
        watch.sent(1, Instant(0));
        watch.sent(1, Instant(SECOND));
        watch.receipted(&receipt(0), 250, Instant(2 * SECOND));
        assert_eq!(
            watch.look(Instant(3 * SECOND)),
            Heard::LookAgain(Instant(5 * SECOND))
        );
        watch.receipted(&receipt(1), 250, Instant(4 * SECOND));
        assert_eq!(watch.look(Instant(5 * SECOND)), Heard::All);
        assert_eq!(watch.sent(1, Instant(60 * SECOND)), Some(Instant(63 * SECOND)));
    }

    #[test]
    fn silence_is_no_sign_while_no_receipt_can_be_afforded() {
        let mut watch = ReceiptWatch::default();
        watch.receipted(&receipt(0), BACK_ALLOWANCE_BASE_BYTES as usize, Instant(0));
        let needed = MAX_RECEIPT_FRAME_BYTES.div_ceil(BACK_ALLOWANCE_BYTES_PER_UNIT);
        for number in 1..needed {
            assert_eq!(watch.sent(1, Instant(number * SECOND)), None);
            assert_eq!(watch.look(Instant(number * SECOND)), Heard::All);
        }
        let paid_for = Instant(needed * SECOND);
        assert_eq!(watch.sent(1, paid_for), Some(paid_for + SESSION_SILENT_AFTER));
        assert_eq!(watch.look(paid_for + SESSION_SILENT_AFTER), Heard::Nothing);
    }

    #[test]
    fn what_was_refused_by_name_is_no_silence_but_nobody_lives_on_refusals() {
        let mut watch = ReceiptWatch::default();
        for number in 1..=u64::from(MAX_EXCUSES) {
            watch.sent(1, Instant(10 * number * SECOND));
            watch.refused();
            assert_eq!(watch.look(Instant((10 * number + 9) * SECOND)), Heard::All);
        }
        watch.sent(1, Instant(100 * SECOND));
        watch.refused();
        assert_eq!(watch.look(Instant(103 * SECOND)), Heard::Nothing);
    }

    fn frame_bytes(message: &BackMessage) -> u64 {
        let secret = [7; 32];
        let tag_keys = vec![TagKey::of_back_secret(&secret, &SessionId([0; 16])); MAX_HOPS - 1];
        let parts = PacketParts {
            kind: FrameKind::Back,
            session: SessionId([0; 16]),
            sequence: u64::MAX - 1,
            expiry: UnixMillis(u64::MAX),
            tag_keys: &tag_keys,
            seal: &PayloadSeal::Sealed(Cipher::new(&secret)),
        };
        let content = postcard::to_stdvec(message).unwrap();
        packet::build(&parts, &[&content]).unwrap().0.len() as u64
    }

    #[test]
    fn the_longest_receipt_and_ack_are_as_long_as_the_limits_say() {
        let longest = Receipt {
            packets: u64::MAX,
            ..receipt(u64::MAX)
        };
        assert_eq!(
            frame_bytes(&BackMessage::Receipt(longest)),
            MAX_RECEIPT_FRAME_BYTES
        );
        assert_eq!(frame_bytes(&BackMessage::OpenAck), MAX_ACK_FRAME_BYTES);
    }
}
