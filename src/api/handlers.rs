//! Protocols and what arrives for them: registering, giving up, polling, waiting.

use std::time::{Duration, Instant};

use mesh_api::limits::{MAX_DELIVERIES_PER_POLL, MAX_POLL_RESPONSE_BYTES, MAX_TIMEOUT_SECONDS};
use mesh_api::{
    AwaitDeliveriesRequest, PollDeliveriesRequest, PollDeliveriesResponse, RegisterProtocolRequest,
    RegisterProtocolResponse, UnregisterProtocolRequest, UnregisterProtocolResponse,
};

use super::MeshModuleApi;
use super::client::Client;
use super::courier::wire_delivery;
use super::registrations::Registration;
use crate::handle::lock;
use mesh_core::event::Delivery;

/// What an answer to a poll takes beside its packets, in bytes, and each packet beside its payload and protocol, generously.
const POLL_OVERHEAD_BYTES: usize = 64;
const PACKET_OVERHEAD_BYTES: usize = 160;

/// Longest wait of a call that comes through the host: a node gives calls up after a minute, and what is taken out of the
/// queue later reaches nobody.
const LONGEST_WAIT_THROUGH_HOST: Duration = Duration::from_secs(50);

impl MeshModuleApi {
    pub(super) async fn register_protocol(
        &self,
        client: &Client,
        request: RegisterProtocolRequest,
    ) -> RegisterProtocolResponse {
        let RegisterProtocolRequest {
            protocol_id,
            handler_method,
        } = request;
        // Whoever holds this is the only one who changes who owns what.
        let registrations = self.registrations.lock().await;
        let new = Registration {
            protocol: protocol_id.clone(),
            owner: client.clone(),
            method: handler_method.clone(),
        };
        let all = {
            let desk = lock(&self.front.desk);
            if let Err(taken) = desk.may_register(Instant::now(), client, &protocol_id) {
                tracing::warn!(%client, protocol = ?protocol_id, %taken, "protocol not registered");
                return RegisterProtocolResponse { success: false };
            }
            all_registrations(&desk, Some(new))
        };
        let known = lock(&self.front.desk).registrations().eq(all
            .iter()
            .map(|one| (one.protocol.as_str(), &one.owner, one.method.as_str())));
        if !known && let Err(error) = write(&registrations, all).await {
            tracing::error!(%client, protocol = ?protocol_id, %error, "protocol not registered");
            return RegisterProtocolResponse { success: false };
        }
        lock(&self.front.desk).register(Instant::now(), client.clone(), &protocol_id, handler_method);
        self.front.wake();
        RegisterProtocolResponse { success: true }
    }

    pub(super) async fn unregister_protocol(
        &self,
        client: &Client,
        request: UnregisterProtocolRequest,
    ) -> UnregisterProtocolResponse {
        let registrations = self.registrations.lock().await;
        let rest = {
            let desk = lock(&self.front.desk);
            if !desk.owns(client, &request.protocol_id) {
                return UnregisterProtocolResponse { success: false };
            }
            let mut all = all_registrations(&desk, None);
            all.retain(|one| one.protocol != request.protocol_id);
            all
        };
        if let Err(error) = write(&registrations, rest).await {
            tracing::error!(%client, protocol = ?request.protocol_id, %error, "protocol not given up");
            return UnregisterProtocolResponse { success: false };
        }
        let success = lock(&self.front.desk).unregister(client, &request.protocol_id);
        UnregisterProtocolResponse { success }
    }

    /// What waits for the client. Nothing of what belongs to others, though an answer cannot say so: `register_protocol_handler`
    /// tells whose a protocol is.
    pub(super) fn poll_deliveries(
        &self,
        client: &Client,
        request: &PollDeliveriesRequest,
    ) -> PollDeliveriesResponse {
        let most = (request.max_deliveries as usize).clamp(1, MAX_DELIVERIES_PER_POLL);
        let mut room = MAX_POLL_RESPONSE_BYTES - POLL_OVERHEAD_BYTES;
        let fits = |delivery: &Delivery| {
            let bytes = delivery.payload.len() + delivery.protocol_id.len() + PACKET_OVERHEAD_BYTES;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        let protocol = request.protocol_id.as_deref().unwrap_or_default();
        let polled = lock(&self.front.desk).poll(Instant::now(), client, protocol, most, fits);
        PollDeliveriesResponse {
            deliveries: polled.deliveries.into_iter().map(wire_delivery).collect(),
            more: polled.more,
            dropped: polled.dropped,
        }
    }

    pub(super) async fn await_deliveries(
        &self,
        client: &Client,
        request: AwaitDeliveriesRequest,
    ) -> PollDeliveriesResponse {
        let poll = PollDeliveriesRequest {
            protocol_id: request.protocol_id,
            max_deliveries: request.max_deliveries,
        };
        let place = self.waits.enter(client);
        let patience = match place {
            Some(_) => Duration::from_secs(request.timeout_seconds.min(MAX_TIMEOUT_SECONDS)),
            None => Duration::ZERO,
        };
        let patience = match client.module_name() {
            Some(_) => patience.min(LONGEST_WAIT_THROUGH_HOST),
            None => patience,
        };
        let until = tokio::time::Instant::now() + patience;
        loop {
            let arrival = self.front.arrivals.notified();
            tokio::pin!(arrival);
            // Before looking, else what comes between the look and the wait is missed.
            arrival.as_mut().enable();
            let polled = self.poll_deliveries(client, &poll);
            let is_something = !polled.deliveries.is_empty() || polled.dropped > 0;
            if is_something || tokio::time::timeout_at(until, arrival).await.is_err() {
                return polled;
            }
        }
    }
}

fn all_registrations(desk: &super::desk::Desk, new: Option<Registration>) -> Vec<Registration> {
    let known = desk
        .registrations()
        .map(|(protocol, owner, method)| Registration {
            protocol: protocol.to_owned(),
            owner: owner.clone(),
            method: method.to_owned(),
        });
    let mut all: Vec<Registration> = known
        .filter(|one| new.as_ref().is_none_or(|new| new.protocol != one.protocol))
        .chain(new.clone())
        .collect();
    all.sort_by(|one, other| one.protocol.cmp(&other.protocol));
    all
}

/// Off the runtime's threads: a disk may take its time.
async fn write(
    registrations: &std::sync::Arc<super::registrations::Registrations>,
    all: Vec<Registration>,
) -> Result<(), String> {
    let registrations = registrations.clone();
    let written = tokio::task::spawn_blocking(move || registrations.write(&all)).await;
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
