//! Quotes and sessions, each for the caller who asked.

use std::time::Instant;

use mesh_api::limits::clip_reason;
use mesh_api::{
    CloseSessionRequest, CloseSessionResponse, GetQuoteRequest, GetSessionRequest, GetSessionResponse,
    OpenSessionRequest, OpenSessionResponse, QuoteRouteRequest, QuoteRouteResponse, SessionInfo,
};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{
    Answer, Buying, Command, Funding, OpenedSession, QuotedSlice, Refusal, RouteInfo, SessionState,
};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::payment_proof::PaymentProof as CoreProof;

use super::MeshModuleApi;
use super::client::Client;
use super::look::looking_for;
use super::proofs::{core_method, payee_quotes, proofs_for, route_quote, wire_path};
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
        client: &Client,
        request: QuoteRouteRequest,
    ) -> QuoteRouteResponse {
        match self.try_quote(client, &request, Buying::WhereNeeded).await {
            Ok(slice) => QuoteRouteResponse::Quoted(route_quote(&slice)),
            Err(reason) => QuoteRouteResponse::Refused {
                reason: clip_reason(reason),
            },
        }
    }

    /// The cheapest route that the caller allows, quoted and kept for him.
    pub(super) async fn try_quote(
        &self,
        client: &Client,
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
        let timeout = looking_for(request.timeout_seconds);
        let quoted = self
            .node
            .quote_by(
                core_method(request.method),
                route.path,
                class,
                request.units,
                buying,
                timeout,
            )
            .await;
        let slice = quoted.map_err(|error| error.to_string())?;
        if request.max_fee_msat.is_some_and(|most| slice.total_msat > most) {
            return Err(format!(
                "the cheapest route costs {} msat, more than max_fee_msat",
                slice.total_msat
            ));
        }
        self.keep_quote(client, &slice)?;
        Ok(slice)
    }

    pub(super) fn keep_quote(&self, client: &Client, slice: &QuotedSlice) -> Result<(), String> {
        let kept = lock(&self.shelves).keep_quote(Instant::now(), client, slice.clone());
        kept.map_err(|reason| reason.to_string())
    }

    pub(super) fn get_quote(&self, client: &Client, request: &GetQuoteRequest) -> QuoteRouteResponse {
        match lock(&self.shelves).quote(client, &request.quote_id) {
            Some(slice) => QuoteRouteResponse::Quoted(route_quote(&slice)),
            None => QuoteRouteResponse::Refused {
                reason: DropReason::UnknownQuote.to_string(),
            },
        }
    }

    pub(super) async fn open_session(
        &self,
        client: &Client,
        request: OpenSessionRequest,
    ) -> OpenSessionResponse {
        let known = lock(&self.shelves).quote(client, &request.quote_id);
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
        match self.open_quoted(client, &slice, paying).await {
            Ok(opened) => OpenSessionResponse::Opened(self.info_of(&opened, slice.units).await),
            Err(refusal) => OpenSessionResponse::Refused {
                reason: clip_reason(refusal.to_string()),
                missing_payees: payee_quotes(&slice, |payee| refusal.missing.contains(payee)),
            },
        }
    }

    pub(super) async fn get_session(
        &self,
        client: &Client,
        request: &GetSessionRequest,
    ) -> GetSessionResponse {
        let session = SessionId(request.session_id);
        let known = lock(&self.shelves).session(client, &session).is_some();
        let state = if known {
            self.session_state(session).await
        } else {
            None
        };
        GetSessionResponse {
            session: state.map(|state| session_info(session, state)),
        }
    }

    /// The session was opened a moment ago; unless it has ended since, the core says how far it has got.
    async fn info_of(&self, opened: &OpenedSession, units: u64) -> SessionInfo {
        let state = self.session_state(opened.session).await;
        session_info(
            opened.session,
            state.unwrap_or_else(|| SessionState {
                path: opened.path.clone(),
                expires: opened.expires,
                units_left: units,
                packets: 0,
                receipted_packets: 0,
                receipted_bytes: 0,
            }),
        )
    }

    async fn session_state(&self, session: SessionId) -> Option<SessionState> {
        match self.node.command(Command::Session { session }).await {
            Ok(Answer::Session(state)) => Some(*state),
            _ => None,
        }
    }

    /// Opens a session over one of the caller's quotes and keeps it for him.
    pub(super) async fn open_quoted(
        &self,
        client: &Client,
        slice: &QuotedSlice,
        paying: Paying,
    ) -> Result<OpenedSession, Box<Refusal>> {
        let funding = Funding::AutoPay {
            proofs: paying.proofs,
            caller: client.caller().clone(),
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
        let kept = lock(&self.shelves).keep_session(Instant::now(), client, slice, opened.clone());
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
        client: &Client,
        request: CloseSessionRequest,
    ) -> CloseSessionResponse {
        let session = SessionId(request.session_id);
        let known = lock(&self.shelves).remove_session(client, &session);
        let closed = known && self.node.command(Command::Close { session }).await.is_ok();
        let credit_left_msat = self.status().await.map_or(0, |status| status.own_credit_msat);
        CloseSessionResponse {
            closed,
            credit_left_msat,
        }
    }
}

fn session_info(session: SessionId, state: SessionState) -> SessionInfo {
    SessionInfo {
        session_id: session.0,
        route: wire_path(&state.path),
        expires_at_unix_ms: state.expires.0,
        units_remaining: state.units_left,
        packets_sent: state.packets,
        packets_receipted: state.receipted_packets,
        bytes_receipted: state.receipted_bytes,
    }
}
