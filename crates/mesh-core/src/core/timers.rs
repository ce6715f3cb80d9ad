//! What happens when its time has come.

use crate::time::Now;

use super::{Core, FORGET_ON_AFTER, Timer};

impl Core {
    pub(super) fn on_timeout(&mut self, now: Now) {
        self.route_timeout(now);
        while let Some((_, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now.instant) {
            self.timers.pop_first();
            match timer {
                Timer::Housekeeping => self.housekeeping(now),
                Timer::ForgetRedeemed => {
                    if self.replay.expire(now.unix) {
                        self.set_timer(now.instant + FORGET_ON_AFTER, Timer::ForgetRedeemed);
                    }
                }
                Timer::SessionEnds(session) => self.end_session(now, &session),
                Timer::SessionIdle(session) => self.end_if_idle(now, &session),
                Timer::ReceiptDue(session) => self.receipt_due(&session),
                Timer::DiscoveryRetry(command) => self.retry_discovery(now, command),
                Timer::DiscoveryGathered(command) => self.discovery_gathered(now, command),
                Timer::DiscoveryEnds(command) => self.end_discovery(now, command),
                Timer::QuoteRetry(quotes) => self.retry_quotes(now, quotes),
                Timer::QuoteEnds(quotes) => self.quotes_timed_out(now, quotes),
                Timer::QuoteSetExpires(quotes) => self.expire_quotes(now, quotes),
                Timer::Announce => self.announce_if_due(now),
                Timer::WatchChain => self.watch_chain(now),
                Timer::RecheckChain => self.recheck_due(now),
                Timer::LookUpPayments => self.look_up_payments(now),
                Timer::TopUp(session) => self.top_up_if_due(now, &session),
                Timer::LookUpTreasury => self.look_up_treasury(now),
                Timer::OpenRetry(session) => self.retry_open(now, &session),
                Timer::OpenEnds(session) => self.open_timed_out(now, &session),
                Timer::ReceiptOverdue(session) => self.receipt_overdue(now, &session),
                Timer::TellOfBreak(neighbour) => self.tell_of_break(now, neighbour),
                Timer::OwnSessionEnds(session) => {
                    // Refused when it was closed before, which is as well.
                    let _ = self.close_own(now, &session);
                }
                Timer::OwnSessionIdle(session) => self.close_own_if_idle(now, &session),
                Timer::OwnSessionGone(session) => self.forget_own(now, &session),
            }
        }
    }
}
