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
use super::desk::{Desk, Taken};
use super::registrations::Registration;
use mesh_core::event::Delivery;

/// What an answer to a poll takes beside its packets, in bytes, and each packet beside its payload and protocol, generously.
const POLL_OVERHEAD_BYTES: usize = 64;
const PACKET_OVERHEAD_BYTES: usize = 160;

/// How long a call that finds no place to wait takes: a program that asks in a loop must not keep a processor busy.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

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
        self.front.look_for_owner(Instant::now(), client, &protocol_id);
        let registering = self.front.desk(|desk| {
            desk.may_register(Instant::now(), client, &protocol_id)?;
            let all = all_registrations(desk, Some(new));
            let known = desk.registrations().eq(all.iter().map(Registration::parts));
            Ok::<_, Taken>((all, known))
        });
        let (all, known) = match registering {
            Ok(registering) => registering,
            Err(taken) => {
                tracing::warn!(%client, protocol = ?protocol_id, %taken, "protocol not registered");
                return RegisterProtocolResponse { success: false };
            }
        };
        if !known && let Err(error) = write(&registrations, all).await {
            tracing::error!(%client, protocol = ?protocol_id, %error, "protocol not registered");
            return RegisterProtocolResponse { success: false };
        }
        self.front.desk(|desk| {
            // A module that registers has just started. What its earlier life waits for reaches nobody.
            if client.module_name().is_some() {
                self.waits.end(client);
            }
            desk.register(Instant::now(), client.clone(), &protocol_id, handler_method);
        });
        self.front.wake();
        RegisterProtocolResponse { success: true }
    }

    pub(super) async fn unregister_protocol(
        &self,
        client: &Client,
        request: UnregisterProtocolRequest,
    ) -> UnregisterProtocolResponse {
        let registrations = self.registrations.lock().await;
        let rest = self.front.desk(|desk| {
            let mut all = all_registrations(desk, None);
            all.retain(|one| one.protocol != request.protocol_id);
            desk.owns(client, &request.protocol_id).then_some(all)
        });
        let Some(rest) = rest else {
            return UnregisterProtocolResponse { success: false };
        };
        if let Err(error) = write(&registrations, rest).await {
            tracing::error!(%client, protocol = ?request.protocol_id, %error, "protocol not given up");
            return UnregisterProtocolResponse { success: false };
        }
        let success = self
            .front
            .desk(|desk| desk.unregister(client, &request.protocol_id));
        UnregisterProtocolResponse { success }
    }

    /// What waits for the client. Nothing of what belongs to others, though an answer cannot say so: `register_protocol_handler`
    /// tells whose a protocol is.
    pub(super) fn poll_deliveries(
        &self,
        client: &Client,
        request: &PollDeliveriesRequest,
    ) -> PollDeliveriesResponse {
        self.front.desk(|desk| poll(desk, client, request))
    }

    /// The same, and waits for the first. A call of a module's earlier life takes nothing: see [`Waits::end`].
    ///
    /// [`Waits::end`]: super::waits::Waits::end
    pub(super) async fn await_deliveries(
        &self,
        client: &Client,
        request: AwaitDeliveriesRequest,
    ) -> PollDeliveriesResponse {
        let request_for = PollDeliveriesRequest {
            protocol_id: request.protocol_id,
            max_deliveries: request.max_deliveries,
        };
        let Some(place) = self.waits.enter(client) else {
            // Not before others had a turn, else whoever asks on and on is never one too many.
            tokio::time::sleep(SHORTEST_WAIT).await;
            return self.poll_deliveries(client, &request_for);
        };
        let patience = Duration::from_secs(request.timeout_seconds.min(MAX_TIMEOUT_SECONDS));
        let patience = match client.module_name() {
            Some(_) => patience.min(LONGEST_WAIT_THROUGH_HOST),
            None => patience,
        };
        let until = tokio::time::Instant::now() + patience;
        loop {
            let (arrival, end) = (self.front.arrivals.notified(), place.end());
            tokio::pin!(arrival, end);
            // Before looking, else what comes between the look and the wait is missed.
            arrival.as_mut().enable();
            end.as_mut().enable();
            let polled = self
                .front
                .desk(|desk| (!place.is_over()).then(|| poll(desk, client, &request_for)));
            let Some(polled) = polled else {
                return nothing();
            };
            if !polled.deliveries.is_empty() || polled.dropped > 0 {
                return polled;
            }
            tokio::select! {
                () = arrival => {}
                () = end => {}
                () = tokio::time::sleep_until(until) => return polled,
            }
        }
    }
}

fn nothing() -> PollDeliveriesResponse {
    PollDeliveriesResponse {
        deliveries: Vec::new(),
        more: false,
        dropped: 0,
    }
}

fn poll(desk: &mut Desk, client: &Client, request: &PollDeliveriesRequest) -> PollDeliveriesResponse {
    let most = (request.max_deliveries as usize).clamp(1, MAX_DELIVERIES_PER_POLL);
    let mut room = MAX_POLL_RESPONSE_BYTES - POLL_OVERHEAD_BYTES;
    let fits = |delivery: &Delivery| {
        let bytes = delivery.payload.len() + delivery.protocol_id.len() + PACKET_OVERHEAD_BYTES;
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    };
    let protocol = request.protocol_id.as_deref().unwrap_or_default();
    let polled = desk.poll(Instant::now(), client, protocol, most, fits);
    PollDeliveriesResponse {
        deliveries: polled.deliveries.into_iter().map(wire_delivery).collect(),
        more: polled.more,
        dropped: polled.dropped,
    }
}

fn all_registrations(desk: &Desk, new: Option<Registration>) -> Vec<Registration> {
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
