//! Auto-pay: the operator's money, spent for others on this machine. It is set aside within his caps before a payee is even
//! probed, and settled when the last payment is decided; the rules are [`crate::spending`]'s.

use crate::drop_reason::DropReason;
use crate::event::{Record, Refusal};
use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::message::RequestId;
use crate::payer::{Opening, SpendingLimits};
use crate::spending::{Caller, Purchase, SpendingRecord, SpendingRefusal};
use crate::time::Now;

use super::Core;
use super::pay::quoted_slice;
use super::purchase::sum;

/// What somebody wants paid for him.
pub(super) struct Wanted {
    pub(super) caller: Caller,
    /// Units of the packet that is to be sent first.
    pub(super) packet_units: u64,
    /// His own limit on shares and Lightning fees together, in msat.
    pub(super) most_msat: u64,
    /// His own limit on Lightning fees per payment, in msat.
    pub(super) max_fee_msat: u64,
}

impl Core {
    /// Sets aside what a purchase may cost, and says how much it may. The record of it becomes durable before the first
    /// payment does.
    pub(super) fn set_aside(
        &mut self,
        now: Now,
        quotes: RequestId,
        wanted: &Wanted,
        amounts_msat: &[u64],
        opening: &mut Opening,
    ) -> Result<SpendingLimits, Option<SpendingRefusal>> {
        let Some(set) = self.payer.quote_sets.get(&quotes) else {
            return Err(None);
        };
        let path = &set.request.certificate.path;
        let destination = path.last().copied().ok_or(None)?;
        let msat_per_unit = set.request.total_msat.div_ceil(set.request.units.max(1));
        let shares_msat = sum(amounts_msat);
        let payments = (amounts_msat.len() as u64).max(1);
        // What the caller allows beyond the shares is for the fees, the same for each payment.
        let for_fees = wanted.most_msat.checked_sub(shares_msat).ok_or(None)? / payments;
        let max_fee_msat = for_fees
            .min(wanted.max_fee_msat)
            .min(self.spending.caps().max_fee_msat);
        let purchase = Purchase {
            destination,
            shares_msat,
            fees_msat: max_fee_msat.saturating_mul(payments),
            packet_msat: msat_per_unit.saturating_mul(wanted.packet_units),
        };
        let reserved = self.spending.reserve(now, quotes, &wanted.caller, &purchase);
        let (reservation, record) = reserved.map_err(Some)?;
        opening.set_aside = Some(reservation);
        opening.msat_per_unit = Some(msat_per_unit);
        self.write_spending(record);
        Ok(SpendingLimits {
            max_total_msat: shares_msat,
            max_fee_msat,
        })
    }

    /// All payments of a purchase are decided.
    pub(super) fn settle_spending(&mut self, now: Now, opening: &mut Opening) {
        if let Some(reservation) = opening.set_aside.take() {
            let paid = opening.paid.iter().fold(opening.uncertain_msat, |sum, paid| {
                sum.saturating_add(paid.1).saturating_add(paid.2)
            });
            let record = self.spending.settle(now, reservation, paid);
            self.write_spending(record);
        }
    }

    fn write_spending(&mut self, record: SpendingRecord) {
        self.persist(if record.msat == 0 {
            Record::SpendingForgotten(record.id)
        } else {
            Record::Spending(Box::new(record))
        });
    }

    /// Forgets what was spent longer ago than any cap looks back.
    pub(super) fn forget_spending(&mut self, now: Now) {
        for id in self.spending.forget(now) {
            self.persist_soon(Record::SpendingForgotten(id));
        }
    }

    /// The refusal of a purchase above a limit, with everything that the caller needs to pay it by himself.
    pub(super) fn limit_reached(
        &self,
        quotes: RequestId,
        missing: Vec<NodeId>,
        limit: Option<SpendingRefusal>,
    ) -> Box<Refusal> {
        let set = self.payer.quote_sets.get(&quotes);
        Box::new(Refusal {
            missing,
            limit,
            quote: set.map(|set| Box::new(quoted_slice(set))),
            ..*Refusal::own(DropReason::LimitReached)
        })
    }

    /// Why a packet was not sent, with the cap where it was one.
    pub(super) fn packet_refused(&self, id: &SessionId, units: u64, reason: DropReason) -> Box<Refusal> {
        let session = self.payer.sessions.get(&self.payer.current(id));
        let price = session.and_then(|session| session.msat_per_unit);
        let limit = price.and_then(|price| self.spending.allows_packet(price.saturating_mul(units)).err());
        Box::new(Refusal {
            limit: limit.filter(|_| reason == DropReason::LimitReached),
            ..*Refusal::own(reason)
        })
    }
}
