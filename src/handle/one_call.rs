//! Sending with one call: everything from the route to the payment, and the session kept for the next packet.

use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Command, Funding, Refusal, RouteInfo};

use super::reuse::SessionKey;
use super::{CommandError, NodeHandle, OpenedRoute, SendRequest, SentPacket, lock};

/// Units that are bought at first: a first slice is small, since a payer that is cheated loses one.
pub(crate) const FIRST_SLICE_UNITS: u64 = 256;

impl NodeHandle {
    /// One call: finds a route, asks for quotes, pays within the limits, opens a session, sends. The next packet to the
    /// same destination goes over the same session as long as it holds credit and carries: when a link on its way breaks
    /// or nobody receipts its packets, the next one takes another known route, or one that is found then. Packets under
    /// way at that moment are lost.
    pub async fn send_packet(&self, request: SendRequest) -> Result<SentPacket, CommandError> {
        let key = request.key();
        if let Some(known) = self.reusable(&key) {
            match self.send_over(&known, &request).await {
                Err(error) if !is_worn_out(&error) => return Err(error),
                Err(_) => lock(&self.sessions).remove(known.session),
                sent => return sent,
            }
        }
        self.close_ended().await;
        let opened = self.open_route(&request).await?;
        lock(&self.sessions).insert(key, opened.clone());
        self.send_over(&opened, &request).await
    }

    fn reusable(&self, key: &SessionKey) -> Option<OpenedRoute> {
        lock(&self.sessions).get(key)
    }

    async fn close_ended(&self) {
        let ended = lock(&self.sessions).take_to_close();
        for session in ended {
            // Refused when it was closed meanwhile, which is as well.
            if let Err(error) = self.command(Command::Close { session }).await {
                tracing::debug!(%session, %error, "not closed");
            }
        }
    }

    async fn send_over(
        &self,
        route: &OpenedRoute,
        request: &SendRequest,
    ) -> Result<SentPacket, CommandError> {
        let packet_id = self
            .send(
                route.session,
                &request.protocol_id,
                request.payload.clone(),
                request.ttl,
            )
            .await?;
        let OpenedRoute {
            session,
            path,
            total_msat,
            msat_per_unit,
        } = route.clone();
        Ok(SentPacket {
            packet_id,
            session,
            path,
            total_msat,
            msat_per_unit,
        })
    }

    /// Over a known route; when all of those turn out to be broken, over one that is found now.
    async fn open_route(&self, request: &SendRequest) -> Result<OpenedRoute, CommandError> {
        match self.open_one_of(false, request).await {
            Err(error) if error.reason() == Some(DropReason::NextHopGone) => {
                self.open_one_of(true, request).await
            }
            opened => opened,
        }
    }

    /// Tries the routes in turn, best first; the last refusal is the answer when none opens.
    async fn open_one_of(&self, refresh: bool, request: &SendRequest) -> Result<OpenedRoute, CommandError> {
        let routes = self
            .discover(request.destination, request.max_hops, request.timeout, refresh)
            .await?;
        let units = request.units().max(FIRST_SLICE_UNITS);
        let mut refused = CommandError::Refused(Refusal::own(DropReason::NoRoute));
        for route in routes {
            let mut opened = self.open_over(route.clone(), units, request).await;
            // After a crash this node may show what was credited before it: refused once, it knows better.
            if matches!(&opened, Err(error) if error.reason() == Some(DropReason::AlreadyRedeemed)) {
                opened = self.open_over(route, units, request).await;
            }
            match opened {
                Ok(opened) => return Ok(opened),
                // Money may be on its way over this route: trying the next would pay twice.
                Err(error) if error.reason() == Some(DropReason::PaymentUnknown) => return Err(error),
                // The cheapest that is too dear says more than why a dearer one failed.
                Err(_) if refused.reason() == Some(DropReason::LimitReached) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    async fn open_over(
        &self,
        route: RouteInfo,
        units: u64,
        request: &SendRequest,
    ) -> Result<OpenedRoute, CommandError> {
        let slice = self
            .quote(
                route.path,
                request.class,
                units,
                Buying::WhereNeeded,
                request.timeout,
            )
            .await?;
        let (max_total_msat, max_fee_msat) = (request.max_total_msat, request.max_fee_msat);
        let funding = match request.auto_pay.clone() {
            None => Funding::Wallet {
                proofs: Vec::new(),
                max_total_msat,
                max_fee_msat,
                keep_funded: true,
            },
            Some(caller) => Funding::AutoPay {
                proofs: Vec::new(),
                caller,
                packet_units: request.units(),
                most_msat: max_total_msat,
                max_fee_msat,
                keep_funded: true,
            },
        };
        let opened = self.open(slice.id, funding).await?;
        Ok(OpenedRoute {
            session: opened.session,
            path: opened.path,
            total_msat: slice.total_msat,
            msat_per_unit: slice.total_msat.div_ceil(slice.units.max(1)),
        })
    }
}

/// Whether a new session would help.
fn is_worn_out(error: &CommandError) -> bool {
    let worn_out = [
        DropReason::UnknownSession,
        DropReason::CreditSpent,
        DropReason::Expired,
        DropReason::NextHopGone,
        DropReason::SessionSilent,
    ];
    error.reason().is_some_and(|reason| worn_out.contains(&reason))
}
