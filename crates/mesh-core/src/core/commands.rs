//! Commands, each handed to the part of the core that carries it out.

use crate::event::{Answer, Command, CommandId, Refusal};
use crate::packet::units_of_packet;
use crate::time::Now;

use super::Core;

impl Core {
    pub(super) fn on_command(&mut self, now: Now, id: CommandId, command: Command) {
        let outcome = match command {
            Command::Discover {
                destination,
                max_hops,
                timeout,
                refresh,
            } => self.start_discovery(now, id, destination, max_hops, timeout, refresh),
            Command::Quote {
                path,
                class,
                units,
                buying,
                method,
                timeout,
            } => self
                .admit_new()
                .and_then(|()| self.start_quotes(now, id, &path, class, units, buying, method, timeout)),
            Command::Open {
                quotes,
                funding,
                sign_as_source,
            } => self.start_opening(now, id, quotes, funding, sign_as_source),
            Command::Send {
                session,
                protocol_id,
                payload,
                ttl,
            } => self
                .send(now, &session, &protocol_id, &payload, ttl)
                .map(|(packet_id, sequence)| Some(Answer::Sent { packet_id, sequence }))
                .map_err(|reason| {
                    self.packet_refused(&session, units_of_packet(&protocol_id, &payload), reason)
                }),
            Command::SendMany {
                session,
                protocol_id,
                payloads,
                ttl,
            } => self
                .send_many(now, &session, &protocol_id, &payloads, ttl)
                .map(Some)
                .map_err(Refusal::own),
            Command::Close { session } => self.close_named(now, &session).map(Some).map_err(Refusal::own),
            Command::PayTreasury { amount_msat } => {
                self.admit_new().and_then(|()| self.pay_treasury(id, amount_msat))
            }
            Command::Shares => Ok(Some(Answer::Shares(Box::new(self.shares_report(now.unix))))),
            Command::Explain { destination } => Ok(Some(Answer::Explained(self.explain(now, &destination)))),
            Command::Treasury => Ok(Some(Answer::Treasury(Box::new(self.treasury_state())))),
            Command::Session { session } => self
                .session_state(&session)
                .map(|state| Some(Answer::Session(Box::new(state))))
                .map_err(Refusal::own),
            Command::Status => Ok(Some(Answer::Status(Box::new(self.status(now))))),
            Command::Routes => Ok(Some(Answer::Routes(
                self.routes
                    .cache
                    .all(now.unix)
                    .map(|route| route.info())
                    .collect(),
            ))),
            Command::Network { after, most } => {
                Ok(Some(Answer::Network(Box::new(self.network_page(after, most)))))
            }
            Command::SetPrice { msat_per_unit } => {
                self.set_price(now, msat_per_unit).map(Some).map_err(Refusal::own)
            }
            Command::AcceptSessions { accept, because } => {
                self.pauses.set(because, !accept);
                Ok(Some(Answer::Done))
            }
            Command::Flush => Ok(Some(self.flush_now(now))),
            Command::RecheckChain => {
                self.recheck_chain(now);
                Ok(Some(Answer::Done))
            }
            Command::SetSpendingCaps { caps } => {
                self.spending.set_caps(caps);
                Ok(Some(Answer::Done))
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(answer)) => self.answer(id, Ok(answer)),
            Err(refusal) => self.answer(id, Err(refusal)),
        }
    }

    /// Nothing new is bought or opened while this node takes nothing new itself.
    fn admit_new(&self) -> Result<(), Box<Refusal>> {
        self.pauses.admit().map_err(Refusal::own)
    }
}
