//! MeshModuleAPI: what other modules call, as method name and bytes, translated into commands of the core.
//!
//! Served here: `send_packet`, `discover_route`, `quote_route`, `open_session`, `close_session`, `get_routing_stats` and
//! `get_node_id`. The others need a host that can call modules back; they are refused by name.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use mesh_api::{
    ApiRequest, CallError, CloseSessionRequest, CloseSessionResponse, DiscoverRouteRequest,
    DiscoverRouteResponse, GetNodeIdRequest, GetNodeIdResponse, GetRoutingStatsRequest, MeshStats, Method,
    ModuleCaller, OpenSessionRequest, OpenSessionResponse, PayeeQuote, PaymentProof, QuoteRouteRequest,
    QuoteRouteResponse, ReplayStats, RouteQuote, RoutingStats, SendPacketRequest, SendPacketResponse,
    SessionInfo, Wire,
};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{
    Answer, Buying, Command, Funding, OpenedSession, QuotedSlice, Refusal, RouteInfo, Status,
};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::{DISCOVERY_TIMEOUT, MAX_HOPS, REPLAY_MEMORY};
use mesh_core::packet::units_of;
use mesh_core::payment_proof::PaymentProof as CoreProof;
use mesh_core::routing_policy::{MeshMode, TrafficClass};

use crate::handle::{CommandError, NodeHandle, SendRequest, lock};

/// Quotes remembered until they are paid; the oldest is forgotten first, its payments stay credit.
const MAX_REMEMBERED_QUOTES: usize = 256;

/// How long a packet may travel if its sender does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// What the mesh may pay by itself, for callers who bring no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AutoPay {
    /// The most that one slice may cost, in msat; 0 switches auto-pay off.
    pub max_total_msat: u64,
    /// The most that Lightning fees may cost per payment, in msat.
    pub max_fee_msat: u64,
}

/// The ModuleAPI of one node.
pub struct MeshModuleApi {
    node: NodeHandle,
    auto_pay: AutoPay,
    quotes: Mutex<VecDeque<QuotedSlice>>,
    sessions: Mutex<BTreeMap<[u8; 16], OpenedSession>>,
}

impl MeshModuleApi {
    /// The API of a node, with what it may pay by itself.
    pub fn new(node: NodeHandle, auto_pay: AutoPay) -> Self {
        Self {
            node,
            auto_pay,
            quotes: Mutex::default(),
            sessions: Mutex::default(),
        }
    }

    /// Answers one call.
    pub async fn handle(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>, CallError> {
        match method.parse::<Method>().map_err(refused)? {
            Method::SendPacket => encode(&self.send_packet(decode(payload)?).await),
            Method::DiscoverRoute => encode(&self.discover_route(decode(payload)?).await),
            Method::QuoteRoute => encode(&self.quote_route(decode(payload)?).await),
            Method::OpenSession => encode(&self.open_session(decode(payload)?).await),
            Method::CloseSession => encode(&self.close_session(decode(payload)?).await),
            Method::GetRoutingStats => {
                decode::<GetRoutingStatsRequest>(payload)?;
                encode(&self.stats().await.map_err(refused)?)
            }
            Method::GetNodeId => {
                decode::<GetNodeIdRequest>(payload)?;
                encode(&GetNodeIdResponse {
                    node_id: self.node.node_id().0,
                })
            }
            method @ (Method::RegisterProtocolHandler
            | Method::GetSession
            | Method::PollDeliveries
            | Method::GetNetworkState) => Err(refused(format!(
                "{method} is not served by a standalone node; read deliveries with `listen`"
            ))),
        }
    }
}

#[async_trait]
impl ModuleCaller for MeshModuleApi {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        self.handle(method, &payload).await
    }
}

/// Sending.
impl MeshModuleApi {
    async fn send_packet(&self, request: SendPacketRequest) -> SendPacketResponse {
        match self.try_send(request).await {
            Ok(response) => response,
            Err(reason) => SendPacketResponse::refused(reason),
        }
    }

    async fn try_send(&self, request: SendPacketRequest) -> Result<SendPacketResponse, String> {
        let payload = Bytes::from(request.payload.clone());
        let protocol_id = request.protocol_id.clone().unwrap_or_default();
        let ttl = request.ttl.map_or(DEFAULT_TTL, Duration::from_secs);
        let Some(proof) = &request.payment_proof else {
            return self.send_by_auto_pay(&request, payload, protocol_id, ttl).await;
        };
        let (session, path, price_msat) = match proof {
            PaymentProof::Session { session_id } => self.known_session(session_id, &request)?,
            proof => self.open_with_proof(proof, &request).await?,
        };
        let sent = self.node.send(session, &protocol_id, payload, ttl).await;
        let packet_id = sent.map_err(|error| error.to_string())?;
        Ok(sent_response(packet_id, path.len(), price_msat))
    }

    async fn send_by_auto_pay(
        &self,
        request: &SendPacketRequest,
        payload: Bytes,
        protocol_id: String,
        ttl: Duration,
    ) -> Result<SendPacketResponse, String> {
        let units = units_of(payload.len());
        let send = SendRequest {
            destination: NodeId(request.destination),
            payload,
            protocol_id,
            ttl,
            max_hops: MAX_HOPS as u8,
            timeout: DISCOVERY_TIMEOUT,
            class: self.class().await.map_err(|error| error.to_string())?,
            max_total_msat: self.auto_pay.max_total_msat,
            max_fee_msat: self.auto_pay.max_fee_msat,
        };
        let sent = self
            .node
            .send_packet(send)
            .await
            .map_err(|error| self.explain(&error))?;
        let price_msat = sent.msat_per_unit.saturating_mul(units);
        Ok(sent_response(sent.packet_id, sent.path.len(), price_msat))
    }

    fn known_session(
        &self,
        session_id: &[u8; 16],
        request: &SendPacketRequest,
    ) -> Result<(SessionId, Vec<NodeId>, u64), String> {
        let sessions = lock(&self.sessions);
        let opened = sessions
            .get(session_id)
            .ok_or_else(|| DropReason::UnknownSession.to_string())?;
        if opened.path.last() != Some(&NodeId(request.destination)) {
            return Err("the session leads to another destination; open one to this destination".to_owned());
        }
        Ok((opened.session, opened.path.clone(), 0))
    }

    /// Redeems a proof for the quote it pays: a lone Lightning proof counts for the payee whose invoice it is.
    async fn open_with_proof(
        &self,
        proof: &PaymentProof,
        request: &SendPacketRequest,
    ) -> Result<(SessionId, Vec<NodeId>, u64), String> {
        let slice = {
            let quotes = lock(&self.quotes);
            let paid = quotes.iter().find(|slice| {
                slice.path.last() == Some(&NodeId(request.destination))
                    && !proofs_for(slice, proof).is_empty()
            });
            paid.cloned()
        };
        let slice = slice.ok_or("the proof pays no quote of this node to this destination; ask quote_route, pay its invoices, and send again")?;
        let per_unit = slice.total_msat.div_ceil(slice.units.max(1));
        let opened = self
            .open(&slice, proofs_for(&slice, proof), None)
            .await
            .map_err(|refusal| {
                let missing: Vec<String> = refusal.missing.iter().map(NodeId::to_string).collect();
                let unpaid = if missing.is_empty() {
                    String::new()
                } else {
                    format!("; not paid: {}", missing.join(", "))
                };
                format!("{refusal}{unpaid}")
            })?;
        Ok((
            opened.session,
            opened.path,
            per_unit.saturating_mul(units_of(request.payload.len())),
        ))
    }

    async fn open(
        &self,
        slice: &QuotedSlice,
        proofs: Vec<(NodeId, CoreProof)>,
        max_total_msat: Option<u64>,
    ) -> Result<OpenedSession, Box<Refusal>> {
        let allowed = self.auto_pay.max_total_msat;
        let funding = Funding::Wallet {
            proofs,
            max_total_msat: max_total_msat.map_or(allowed, |most| most.min(allowed)),
            max_fee_msat: self.auto_pay.max_fee_msat,
            keep_funded: false,
        };
        let opened = match self.node.open(slice.id, funding).await {
            Ok(opened) => opened,
            Err(CommandError::Refused(refusal)) => return Err(refusal),
            Err(_) => return Err(Refusal::own(DropReason::BadCommand)),
        };
        lock(&self.quotes).retain(|known| known.id != slice.id);
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= MAX_REMEMBERED_QUOTES {
            sessions.pop_first();
        }
        sessions.insert(opened.session.0, opened.clone());
        Ok(opened)
    }

    fn explain(&self, error: &CommandError) -> String {
        match error.reason() {
            Some(DropReason::LimitReached) if self.auto_pay.max_total_msat == 0 => {
                "payment required: auto-pay is off; ask quote_route, pay its invoices and send with payment_proof, or set auto_pay in [payments]".to_owned()
            }
            _ => error.to_string(),
        }
    }
}

/// Routes, quotes, sessions, statistics.
impl MeshModuleApi {
    async fn discover_route(&self, request: DiscoverRouteRequest) -> DiscoverRouteResponse {
        let started = Instant::now();
        let routes = self
            .routes_to(request.destination, request.max_hops, request.timeout_seconds)
            .await;
        let cheapest = routes.ok().and_then(|routes| routes.into_iter().next());
        DiscoverRouteResponse {
            route_cost_sats: cheapest
                .as_ref()
                .map_or(0, |route| route.msat_per_unit.div_ceil(1000)),
            route: cheapest.map(|route| wire_path(&route.path)),
            discovery_time_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn routes_to(
        &self,
        destination: [u8; 32],
        max_hops: Option<u8>,
        timeout_seconds: Option<u64>,
    ) -> Result<Vec<RouteInfo>, CommandError> {
        let max_hops = max_hops.unwrap_or(MAX_HOPS as u8);
        let timeout = timeout_seconds.map_or(DISCOVERY_TIMEOUT, Duration::from_secs);
        self.node
            .discover(NodeId(destination), max_hops, timeout, false)
            .await
    }

    async fn quote_route(&self, request: QuoteRouteRequest) -> QuoteRouteResponse {
        match self.try_quote(&request).await {
            Ok(slice) => {
                let quoted = RouteQuote {
                    quote_id: slice.id,
                    route: wire_path(&slice.path),
                    total_fee_msat: slice.total_msat,
                    payees: payee_quotes(&slice, |_| true),
                };
                let mut quotes = lock(&self.quotes);
                if quotes.len() >= MAX_REMEMBERED_QUOTES {
                    quotes.pop_front();
                }
                quotes.push_back(slice);
                QuoteRouteResponse::Quoted(quoted)
            }
            Err(reason) => QuoteRouteResponse::Refused {
                reason: mesh_api::limits::clip_reason(reason),
            },
        }
    }

    async fn try_quote(&self, request: &QuoteRouteRequest) -> Result<QuotedSlice, String> {
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
            .quote(route.path, class, request.units, Buying::WhereNeeded, timeout)
            .await;
        let slice = quoted.map_err(|error| error.to_string())?;
        if request.max_fee_msat.is_some_and(|most| slice.total_msat > most) {
            return Err(format!(
                "the cheapest route costs {} msat, more than max_fee_msat",
                slice.total_msat
            ));
        }
        Ok(slice)
    }

    async fn open_session(&self, request: OpenSessionRequest) -> OpenSessionResponse {
        let known = lock(&self.quotes)
            .iter()
            .find(|slice| slice.id == request.quote_id)
            .cloned();
        let Some(slice) = known else {
            return OpenSessionResponse::Refused {
                reason: DropReason::UnknownQuote.to_string(),
                missing_payees: Vec::new(),
            };
        };
        let proofs = request
            .payment_proof
            .as_ref()
            .map_or_else(Vec::new, |proof| proofs_for(&slice, proof));
        match self.open(&slice, proofs, request.max_fee_msat).await {
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
                reason: mesh_api::limits::clip_reason(refusal.to_string()),
                missing_payees: payee_quotes(&slice, |payee| refusal.missing.contains(payee)),
            },
        }
    }

    async fn close_session(&self, request: CloseSessionRequest) -> CloseSessionResponse {
        let session = SessionId(request.session_id);
        let known = lock(&self.sessions).remove(&request.session_id).is_some();
        let closed = known && self.node.command(Command::Close { session }).await.is_ok();
        let credit_left_msat = self.status().await.map_or(0, |status| status.own_credit_msat);
        CloseSessionResponse {
            closed,
            credit_left_msat,
        }
    }

    async fn status(&self) -> Result<Status, CommandError> {
        match self.node.command(Command::Status).await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(CommandError::Unexpected),
        }
    }

    async fn stats(&self) -> Result<MeshStats, CommandError> {
        let status = self.status().await?;
        Ok(MeshStats {
            enabled: true,
            mode: match status.mode {
                MeshMode::BitcoinOnly => mesh_api::MeshMode::BitcoinOnly,
                MeshMode::PaymentGated => mesh_api::MeshMode::PaymentGated,
                MeshMode::Open => mesh_api::MeshMode::Open,
            },
            routing: RoutingStats {
                total_routes: status.reachable_nodes,
                direct_peers: status.neighbours.len(),
                cached_routes: status.routes,
                route_expiry_seconds: self.node.route_lifetime().as_secs(),
            },
            replay: ReplayStats {
                active_hashes: status.redeemed,
                tracked_peers: status.sessions,
                expiry_seconds: REPLAY_MEMORY.as_secs(),
            },
        })
    }

    /// What modules send: paid where the node's mode asks for payment, else what the mode carries for free.
    async fn class(&self) -> Result<TrafficClass, CommandError> {
        Ok(match self.status().await?.mode {
            MeshMode::PaymentGated => TrafficClass::Paid,
            MeshMode::Open => TrafficClass::Open,
            MeshMode::BitcoinOnly => TrafficClass::BitcoinP2p,
        })
    }
}

fn sent_response(packet_id: [u8; 32], path_nodes: usize, price_msat: u64) -> SendPacketResponse {
    SendPacketResponse {
        success: true,
        packet_id,
        route_length: path_nodes.saturating_sub(1),
        estimated_cost_sats: price_msat.div_ceil(1000),
        error: None,
    }
}

/// Which payees of a slice a proof pays: a lone Lightning proof its own payee, a split everybody it names.
fn proofs_for(slice: &QuotedSlice, proof: &PaymentProof) -> Vec<(NodeId, CoreProof)> {
    match proof {
        PaymentProof::Lightning { invoice, .. } => {
            let issuer = slice
                .payees
                .iter()
                .find(|payee| payee.invoice.as_ref() == Some(invoice));
            issuer
                .and_then(|payee| Some((payee.payee, core_proof(proof)?)))
                .into_iter()
                .collect()
        }
        PaymentProof::Split { proofs } => {
            let on_route = proofs
                .iter()
                .filter(|part| slice.payees.iter().any(|payee| payee.payee.0 == part.payee));
            on_route
                .filter_map(|part| Some((NodeId(part.payee), core_proof(&part.proof)?)))
                .collect()
        }
        PaymentProof::OnChainSettlement { .. }
        | PaymentProof::InstantSettlement { .. }
        | PaymentProof::Session { .. } => Vec::new(),
    }
}

/// The core's form of a proof that a payee can judge by itself.
fn core_proof(proof: &PaymentProof) -> Option<CoreProof> {
    match proof.clone() {
        PaymentProof::Lightning {
            invoice,
            preimage,
            amount_msats,
            timestamp,
            expires_at,
        } => Some(CoreProof::Lightning {
            invoice,
            preimage,
            amount_msats,
            timestamp,
            expires_at,
        }),
        PaymentProof::OnChainSettlement {
            payment_request_id,
            tx_hash,
            amount_sats,
            timestamp,
        } => Some(CoreProof::OnChainSettlement {
            payment_request_id,
            tx_hash,
            amount_sats,
            timestamp,
        }),
        PaymentProof::InstantSettlement {
            covenant_proof,
            output_index,
            merkle_proof,
            amount_sats,
            timestamp,
        } => Some(CoreProof::InstantSettlement {
            covenant_proof,
            output_index,
            merkle_proof,
            amount_sats,
            timestamp,
        }),
        PaymentProof::Split { .. } | PaymentProof::Session { .. } => None,
    }
}

fn payee_quotes(slice: &QuotedSlice, wanted: impl Fn(&NodeId) -> bool) -> Vec<PayeeQuote> {
    let quoted = slice.payees.iter().filter(|payee| wanted(&payee.payee));
    let wire = quoted.map(|payee| PayeeQuote {
        payee: payee.payee.0,
        amount_msat: payee.amount_msat,
        invoice: payee.invoice.clone(),
        pay_by_unix_ms: payee.pay_by.0,
        redeem_by_unix_ms: payee.redeem_by.0,
    });
    wire.collect()
}

fn wire_path(path: &[NodeId]) -> Vec<[u8; 32]> {
    path.iter().map(|node| node.0).collect()
}

fn decode<T: ApiRequest>(payload: &[u8]) -> Result<T, CallError> {
    mesh_api::decode(payload).map_err(refused)
}

fn encode<T: Wire>(response: &T) -> Result<Vec<u8>, CallError> {
    mesh_api::encode(response).map_err(refused)
}

fn refused(reason: impl ToString) -> CallError {
    CallError::Refused {
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn limits_that_both_sides_state_agree() {
        assert_eq!(
            mesh_api::limits::MAX_PAYLOAD_BYTES,
            mesh_core::limits::MAX_PAYLOAD_BYTES
        );
        assert_eq!(mesh_api::limits::MAX_HOPS, mesh_core::limits::MAX_HOPS);
        assert_eq!(
            mesh_api::limits::MAX_PROTOCOL_ID_BYTES,
            mesh_core::limits::MAX_PROTOCOL_ID_BYTES
        );
    }
}
