//! As source: a session whose packets nobody receipts is silent. Its route is passed over, its credit stays.

use crate::event::Event;
use crate::keys::SessionId;
use crate::open::Receipt;
use crate::receipt_watch::Heard;
use crate::time::Now;

use super::{Core, Timer};

impl Core {
    /// A newer receipt came: whoever carried it is cleared of some blame.
    ///
    /// Nobody is credited with more than was sent, nor twice with the same: a destination could else sign for any number,
    /// and have whoever it dislikes on the route pass for a monopolist.
    pub(super) fn note_receipt(&mut self, now: Now, receipt: &Receipt, frame_bytes: usize) {
        let Some(session) = self.payer.sessions.get_mut(&receipt.session) else {
            return;
        };
        self.blame.note_receipt(&session.path, now.instant);
        let overdue_at = session.watch.receipted(receipt, frame_bytes, now.instant);
        if let Some(round_trip) = session.watch.take_round_trip() {
            self.delays.note(&session.path, round_trip, now.instant);
        }
        let units = newly_receipted(&mut session.credited_units, receipt.units, session.units);
        let (path, prices_msat) = (session.path.clone(), session.prices_msat.clone());
        if let Some(at) = overdue_at {
            self.set_timer(at, Timer::ReceiptOverdue(receipt.session));
        }
        self.note_carried(now, &path, &prices_msat, units);
        self.top_up_if_due(now, &receipt.session);
    }

    pub(super) fn receipt_overdue(&mut self, now: Now, id: &SessionId) {
        let Some(session) = self.payer.sessions.get_mut(id).filter(|session| !session.closing) else {
            return;
        };
        match session.watch.look(now.instant) {
            Heard::All => {}
            Heard::LookAgain(at) => self.set_timer(at, Timer::ReceiptOverdue(*id)),
            Heard::Nothing => {
                let receipted = session.receipt.as_ref().map_or(0, |receipt| receipt.units);
                let lost_units = session.units.saturating_sub(receipted);
                let payees = session.path.iter().skip(1).zip(&session.sellers);
                for ((payee, seller), price) in payees.zip(&session.prices_msat) {
                    let lost_msat = price.saturating_mul(lost_units);
                    self.losses.note(*payee, *seller, lost_msat, now.instant);
                }
                let path = session.path.clone();
                self.blame.note_silent(&path, now.instant);
                self.routes.cache.forget(&path);
                self.event(Event::SessionSilent { session: *id, path });
            }
        }
    }
}

/// How many of `sent` units a receipt for `receipted` confirms that none before it did.
fn newly_receipted(credited: &mut u64, receipted: u64, sent: u64) -> u64 {
    let new = receipted.min(sent).saturating_sub(*credited);
    *credited += new;
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_credited_once_though_receipts_go_up_and_down() {
        let mut credited = 0;
        let receipts = [100, 0, 100, 40, 100];
        let new: u64 = receipts
            .iter()
            .map(|units| newly_receipted(&mut credited, *units, 100))
            .sum();
        assert_eq!(new, 100);
    }

    #[test]
    fn receipt_for_more_than_was_sent_hides_nothing_of_what_is_sent_later() {
        let mut credited = 0;
        assert_eq!(newly_receipted(&mut credited, u64::MAX, 10), 10);
        assert_eq!(newly_receipted(&mut credited, u64::MAX, 35), 25);
        assert_eq!(newly_receipted(&mut credited, 35, 35), 0);
    }
}
