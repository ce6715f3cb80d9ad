//! Quotes and sessions, each for the caller who asked.

use std::time::{Duration, Instant};

use mesh_api::limits::clip_reason;
use mesh_api::{
    CloseSessionRequest, CloseSessionResponse, GetQuoteRequest, OpenSessionRequest, OpenSessionResponse,
    QuoteRouteRequest, QuoteRouteResponse, SessionInfo,
};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, Command, Funding, OpenedSession, QuotedSlice, Refusal, RouteInfo};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::DISCOVERY_TIMEOUT;
use mesh_core::payment_proof::PaymentProof as CoreProof;
use mesh_core::spending::Caller;

use super::MeshModuleApi;
use super::proofs::{payee_quotes, proofs_for, route_quote, wire_path};
use crate::handle::{CommandError, lock};

/// How a session is to be paid.
pub(super) struct Paying {
    /// What the caller paid by himself, each proof for its payee.
    pub(super) proofs: Vec<(NodeId, CoreProof)>,
    /// Units of the packet that is to be sent first.
    pub(super) packet_units: u64,
    /// The most that the mesh may pay for the rest, in msat, Lightning fees included; its caps apply besides.
    pub(super) most_msat: u64,
}

impl MeshModuleApi {
    pub(super) async fn quote_route(
        &self,
        caller: &Caller,
        request: QuoteRouteRequest,
    ) -> QuoteRouteResponse {
        match self.try_quote(caller, &request, Buying::WhereNeeded).await {
            Ok(slice) => QuoteRouteResponse::Quoted(route_quote(&slice)),
            Err(reason) => QuoteRouteResponse::Refused {
                reason: clip_reason(reason),
            },
        }
    }

    /// The cheapest route that the caller allows, quoted and kept for him.
    pub(super) async fn try_quote(
        &self,
        caller: &Caller,
        request: &QuoteRouteRequest,
        buying: Buying,
    ) -> Result<QuotedSlice, String> {
        let routes = self
            .routes_to(request.destination, request.max_hops, request.timeout_seconds)
            .await;
        let routes = routes.map_err(|error| error.to_string())?;
        let avoided = |route: &RouteInfo| route.path.iter().any(|node| request.avoid.contains(&node.0));
        let route = routes.into_iter().find(|route| !avoided(route));
        let route = route.ok_or("every known route passes a node that is to be avoided")?;
        let class = self.class().await.map_err(|error| error.to_string())?;
        let timeout = request
            .timeout_seconds
            .map_or(DISCOVERY_TIMEOUT, Duration::from_secs);
        let quoted = self
            .node
            .quote(route.path, class, request.units, buying, timeout)
            .await;
        let slice = quoted.map_err(|error| error.to_string())?;
        if request.max_fee_msat.is_some_and(|most| slice.total_msat > most) {
            return Err(format!(
                "the cheapest route costs {} msat, more than max_fee_msat",
                slice.total_msat
            ));
        }
        self.keep_quote(caller, &slice)?;
        Ok(slice)
    }

    pub(super) fn keep_quote(&self, caller: &Caller, slice: &QuotedSlice) -> Result<(), String> {
        let kept = lock(&self.shelves).keep_quote(Instant::now(), caller, slice.clone());
        kept.map_err(|reason| reason.to_string())
    }

    pub(super) fn get_quote(&self, caller: &Caller, request: &GetQuoteRequest) -> QuoteRouteResponse {
        match lock(&self.shelves).quote(caller, &request.quote_id) {
            Some(slice) => QuoteRouteResponse::Quoted(route_quote(&slice)),
            None => QuoteRouteResponse::Refused {
                reason: DropReason::UnknownQuote.to_string(),
            },
        }
    }

    pub(super) async fn open_session(
        &self,
        caller: &Caller,
        request: OpenSessionRequest,
    ) -> OpenSessionResponse {
        let known = lock(&self.shelves).quote(caller, &request.quote_id);
        let Some(slice) = known else {
            return OpenSessionResponse::Refused {
                reason: DropReason::UnknownQuote.to_string(),
                missing_payees: Vec::new(),
            };
        };
        let paying = Paying {
            proofs: request
                .payment_proof
                .as_ref()
                .map_or_else(Vec::new, |proof| proofs_for(&slice, proof)),
            packet_units: 1,
            most_msat: request.max_fee_msat.unwrap_or(u64::MAX),
        };
        match self.open(caller, &slice, paying).await {
            Ok(opened) => OpenSessionResponse::Opened(SessionInfo {
                session_id: opened.session.0,
                route: wire_path(&opened.path),
                expires_at_unix_ms: opened.expires.0,
                units_remaining: slice.units,
                packets_sent: 0,
                packets_receipted: 0,
                bytes_receipted: 0,
            }),
            Err(refusal) => OpenSessionResponse::Refused {
                reason: clip_reason(refusal.to_string()),
                missing_payees: payee_quotes(&slice, |payee| refusal.missing.contains(payee)),
            },
        }
    }

    /// Opens a session over one of the caller's quotes and keeps it for him.
    pub(super) async fn open(
        &self,
        caller: &Caller,
        slice: &QuotedSlice,
        paying: Paying,
    ) -> Result<OpenedSession, Box<Refusal>> {
        let funding = Funding::AutoPay {
            proofs: paying.proofs,
            caller: caller.clone(),
            packet_units: paying.packet_units,
            most_msat: paying.most_msat,
            max_fee_msat: u64::MAX,
            keep_funded: false,
        };
        let opened = match self.node.open(slice.id, funding).await {
            Ok(opened) => opened,
            Err(CommandError::Refused(refusal)) => return Err(refusal),
            Err(_) => return Err(Refusal::own(DropReason::BadCommand)),
        };
        let session = opened.session;
        let kept = lock(&self.shelves).keep_session(Instant::now(), caller, &slice.id, opened.clone());
        let (to_close, kept) = match kept {
            Ok(oldest) => (oldest, Ok(opened)),
            Err(reason) => (Some(session), Err(Refusal::own(reason))),
        };
        if let Some(session) = to_close
            && let Err(error) = self.node.command(Command::Close { session }).await
        {
            tracing::debug!(%session, %error, "not closed");
        }
        kept
    }

    pub(super) async fn close_session(
        &self,
        caller: &Caller,
        request: CloseSessionRequest,
    ) -> CloseSessionResponse {
        let session = SessionId(request.session_id);
        let known = lock(&self.shelves).remove_session(caller, &session);
        let closed = known && self.node.command(Command::Close { session }).await.is_ok();
        let credit_left_msat = self.status().await.map_or(0, |status| status.own_credit_msat);
        CloseSessionResponse {
            closed,
            credit_left_msat,
        }
    }
}
