//! Sending: with a proof of what the caller paid, over a session of his, or by auto-pay.
//!
//! What auto-pay may not pay is answered with "payment required" and a quote: the caller pays its invoices and sends
//! again with the proofs.

use std::time::Duration;

use bytes::Bytes;
use mesh_api::{PaymentProof, QuoteRouteRequest, SendPacketRequest, SendPacketResponse};
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Buying, QuotedSlice, Refusal};
use mesh_core::identity::NodeId;
use mesh_core::keys::SessionId;
use mesh_core::limits::{DISCOVERY_TIMEOUT, MAX_HOPS};
use mesh_core::packet::units_of_packet;

use super::MeshModuleApi;
use super::client::Client;
use super::proofs::{msat_per_unit, proofs_for};
use super::sessions::Paying;
use crate::handle::{CommandError, FIRST_SLICE_UNITS, SendRequest, lock};

/// How long a packet may travel if its sender does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// The session that a packet goes over.
struct Way {
    session: SessionId,
    path: Vec<NodeId>,
    price_msat: u64,
}

impl MeshModuleApi {
    pub(super) async fn send_packet(
        &self,
        client: &Client,
        request: SendPacketRequest,
    ) -> SendPacketResponse {
        let sent = match &request.payment_proof {
            Some(proof) => self.send_by_proof(client, proof, &request).await,
            None => return self.send_by_auto_pay(client, &request).await,
        };
        sent.unwrap_or_else(SendPacketResponse::refused)
    }

    async fn send_by_proof(
        &self,
        client: &Client,
        proof: &PaymentProof,
        request: &SendPacketRequest,
    ) -> Result<SendPacketResponse, String> {
        let way = match proof {
            PaymentProof::Session { session_id } => {
                self.known_session(client, &SessionId(*session_id), request)?
            }
            proof => self.open_with_proof(client, proof, request).await?,
        };
        let protocol_id = request.protocol_id.as_deref().unwrap_or_default();
        let payload = Bytes::from(request.payload.clone());
        let sent = self
            .node
            .send(way.session, protocol_id, payload, ttl_of(request))
            .await;
        let packet_id = sent.map_err(|error| error.to_string())?;
        Ok(sent_response(packet_id, way.path.len(), way.price_msat))
    }

    fn known_session(
        &self,
        client: &Client,
        session: &SessionId,
        request: &SendPacketRequest,
    ) -> Result<Way, String> {
        let kept = lock(&self.shelves).session(client, session);
        let (opened, msat_per_unit) = kept.ok_or_else(|| DropReason::UnknownSession.to_string())?;
        if opened.path.last() != Some(&NodeId(request.destination)) {
            return Err("the session leads to another destination; open one to this destination".to_owned());
        }
        Ok(Way {
            session: opened.session,
            path: opened.path,
            price_msat: msat_per_unit.saturating_mul(units_of_request(request)),
        })
    }

    /// Redeems a proof for the quote it pays: a lone Lightning proof counts for the payee whose invoice it is.
    async fn open_with_proof(
        &self,
        client: &Client,
        proof: &PaymentProof,
        request: &SendPacketRequest,
    ) -> Result<Way, String> {
        let paid = |slice: &QuotedSlice| {
            slice.path.last() == Some(&NodeId(request.destination)) && !proofs_for(slice, proof).is_empty()
        };
        let slice = lock(&self.shelves).find_quote(client, paid);
        let slice = slice.ok_or("the proof pays no quote that this caller was given to this destination; ask quote_route, pay its invoices, and send again")?;
        let per_unit = msat_per_unit(&slice);
        let packet_units = units_of_request(request);
        let paying = Paying {
            proofs: proofs_for(&slice, proof),
            packet_units,
            most_msat: u64::MAX,
        };
        let opened = self.open_quoted(client, &slice, paying).await;
        let opened = opened.map_err(|refusal| with_missing(&refusal))?;
        Ok(Way {
            session: opened.session,
            path: opened.path,
            price_msat: per_unit.saturating_mul(packet_units),
        })
    }

    async fn send_by_auto_pay(&self, client: &Client, request: &SendPacketRequest) -> SendPacketResponse {
        let class = match self.class().await {
            Ok(class) => class,
            Err(error) => return SendPacketResponse::refused(error.to_string()),
        };
        let units = units_of_request(request);
        let send = SendRequest {
            destination: NodeId(request.destination),
            payload: Bytes::from(request.payload.clone()),
            protocol_id: request.protocol_id.clone().unwrap_or_default(),
            ttl: ttl_of(request),
            max_hops: MAX_HOPS as u8,
            timeout: DISCOVERY_TIMEOUT,
            class,
            max_total_msat: u64::MAX,
            max_fee_msat: u64::MAX,
            auto_pay: Some(client.caller().clone()),
        };
        match self.node.send_packet(send).await {
            Ok(sent) => {
                let price_msat = sent.msat_per_unit.saturating_mul(units);
                sent_response(sent.packet_id, sent.path.len(), price_msat)
            }
            Err(CommandError::Refused(refusal)) if refusal.limit.is_some() => {
                self.payment_required(client, request, &refusal).await
            }
            Err(error) => SendPacketResponse::refused(error.to_string()),
        }
    }

    /// The quote that was refused; a fresh one when there is none, or none of its payees would be paid, because credit is
    /// there that this caller may not draw.
    async fn payment_required(
        &self,
        client: &Client,
        request: &SendPacketRequest,
        refusal: &Refusal,
    ) -> SendPacketResponse {
        let payable = |slice: &&QuotedSlice| slice.payees.iter().any(|payee| payee.invoice.is_some());
        let quoted = match refusal.quote.as_deref().filter(payable) {
            Some(slice) => self.keep_quote(client, slice).map(|()| slice.clone()),
            None => {
                let wanted = QuoteRouteRequest {
                    method: mesh_api::PaymentMethod::default(),
                    destination: request.destination,
                    max_hops: None,
                    timeout_seconds: None,
                    units: units_of_request(request).max(FIRST_SLICE_UNITS),
                    max_fee_msat: None,
                    avoid: Vec::new(),
                };
                self.try_quote(client, &wanted, Buying::Everywhere).await
            }
        };
        match quoted {
            Ok(slice) => {
                let to_pay = slice.payees.iter().filter(|payee| payee.invoice.is_some());
                let (payees, msat) = to_pay.fold((0u64, 0u64), |(payees, sum), payee| {
                    (payees + 1, sum.saturating_add(payee.amount_msat))
                });
                SendPacketResponse::payment_required(
                    slice.id,
                    format!("{msat} msat to {payees} payees, see get_quote; {refusal}"),
                )
            }
            Err(reason) => SendPacketResponse::refused(format!("{refusal}; no quote: {reason}")),
        }
    }
}

fn units_of_request(request: &SendPacketRequest) -> u64 {
    units_of_packet(
        request.protocol_id.as_deref().unwrap_or_default(),
        &request.payload,
    )
}

fn ttl_of(request: &SendPacketRequest) -> Duration {
    request.ttl.map_or(DEFAULT_TTL, Duration::from_secs)
}

fn with_missing(refusal: &Refusal) -> String {
    if refusal.missing.is_empty() {
        return refusal.to_string();
    }
    let missing: Vec<String> = refusal.missing.iter().map(NodeId::to_string).collect();
    format!("{refusal}; not paid: {}", missing.join(", "))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_lives_as_long_as_its_sender_says_and_a_minute_if_he_does_not() {
        let request = |ttl| SendPacketRequest {
            destination: [0; 32],
            payload: Vec::new(),
            payment_proof: None,
            protocol_id: None,
            ttl,
        };
        assert_eq!(ttl_of(&request(None)), DEFAULT_TTL);
        assert_eq!(ttl_of(&request(Some(7))), Duration::from_secs(7));
        assert_eq!(
            ttl_of(&request(Some(u64::MAX))),
            Duration::from_secs(u64::MAX),
            "the session's end bounds it"
        );
    }
}
