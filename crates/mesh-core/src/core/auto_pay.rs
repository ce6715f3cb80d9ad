//! Auto-pay: the operator's money, spent for others on this machine. It is set aside within his caps before a payee is even
//! probed, and settled when the last payment is decided; the rules are [`crate::spending`]'s.

use crate::drop_reason::DropReason;
use crate::event::{Record, Refusal};
use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::message::RequestId;
use crate::payer::{Opening, QuoteSet, Ration};
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
    /// Whether he draws credit that is there: one who shows proofs draws what he paid himself.
    pub(super) draws: bool,
}

fn ration(set: &QuoteSet, wanted: &Wanted) -> Ration {
    let units = set.request.units;
    let quotes = set.quotes.iter().flatten().map(|accepted| &accepted.quote);
    let drawn = quotes.filter(|quote| wanted.draws && quote.invoice.is_none());
    Ration {
        units,
        msat_per_unit: set.request.total_msat.div_ceil(units.max(1)),
        drawn_msat: drawn.fold(0, |sum, quote| {
            sum.saturating_add(quote.price_msat.saturating_mul(units))
        }),
    }
}

impl Core {
    /// Sets aside what a purchase may cost, and says what Lightning fees may cost per payment, in msat. The record of it
    /// becomes durable before the first payment is made.
    pub(super) fn set_aside(
        &mut self,
        now: Now,
        quotes: RequestId,
        wanted: &Wanted,
        amounts_msat: &[u64],
        opening: &mut Opening,
    ) -> Result<u64, Option<SpendingRefusal>> {
        let Some(set) = self.payer.quote_sets.get(&quotes) else {
            return Err(None);
        };
        let destination = set.payees().last().copied().ok_or(None)?;
        let ration = ration(set, wanted);
        let shares_msat = sum(amounts_msat);
        let payments = amounts_msat.len() as u64;
        // What the caller allows beyond the shares is for the fees, the same for each payment.
        let for_fees = wanted.most_msat.checked_sub(shares_msat).ok_or(None)? / payments.max(1);
        let max_fee_msat = for_fees
            .min(wanted.max_fee_msat)
            .min(self.spending.caps().max_fee_msat);
        let purchase = Purchase {
            destination,
            shares_msat,
            fees_msat: max_fee_msat.saturating_mul(payments),
            packet_msat: ration.msat_per_unit.saturating_mul(wanted.packet_units),
            drawn_msat: ration.drawn_msat,
        };
        // Not the quotes' name: opened again after a part of them was paid, they would have the second purchase take the
        // first one's place in the store.
        let name = self.entropy.bytes16();
        let reserved = self.spending.reserve(now, name, &wanted.caller, &purchase);
        let (reservation, record) = reserved.map_err(Some)?;
        opening.set_aside = Some(reservation);
        opening.ration = Some(ration);
        self.write_spending(record);
        Ok(max_fee_msat)
    }

    /// Nobody has to be paid. What the session may draw of credit that is there counts all the same, unless auto-pay is
    /// off: then no caller's budget bought it.
    pub(super) fn count_drawn(
        &mut self,
        now: Now,
        quotes: RequestId,
        wanted: &Wanted,
        opening: &mut Opening,
    ) -> Result<(), Box<Refusal>> {
        let set = self.payer.quote_sets.get(&quotes);
        let draws = set.is_some_and(|set| ration(set, wanted).drawn_msat > 0);
        if draws && self.spending.caps().is_on() {
            let counted = self.set_aside(now, quotes, wanted, &[], opening);
            counted.map_err(|limit| self.limit_reached(quotes, Vec::new(), limit))?;
            self.settle_spending(now, opening);
        }
        Ok(())
    }

    /// All payments of a purchase are decided.
    pub(super) fn settle_spending(&mut self, now: Now, opening: &mut Opening) {
        if let Some(reservation) = opening.set_aside.take() {
            let paid = opening.paid.iter().fold(opening.uncertain_msat, |sum, paid| {
                sum.saturating_add(paid.1).saturating_add(paid.2)
            });
            // A session that does not open draws nothing.
            let opens = opening.failure.is_none();
            let drawn = opening
                .ration
                .filter(|_| opens)
                .map_or(0, |ration| ration.drawn_msat);
            let record = self.spending.settle(now, reservation, paid, drawn);
            self.write_spending(record);
        }
    }

    fn write_spending(&mut self, record: SpendingRecord) {
        self.persist(if record.is_empty() {
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
        let ration = session.and_then(|session| session.ration);
        let price = ration.map(|ration| ration.msat_per_unit.saturating_mul(units));
        let limit = price.and_then(|price| self.spending.allows_packet(price).err());
        Box::new(Refusal {
            limit: limit.filter(|_| reason == DropReason::LimitReached),
            ..*Refusal::own(reason)
        })
    }
}
