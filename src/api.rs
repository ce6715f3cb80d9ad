//! MeshModuleAPI: what other modules call, as method name and bytes, translated into commands of the core.
//!
//! Every call comes with its [`Caller`], as the host authenticated it. Quotes, sessions and protocols belong to the caller
//! who asked for them: to everybody else they are unknown. What the mesh may pay by itself is decided by the core, within
//! the operator's caps ([`mesh_core::spending`]).
//!
//! What arrives at the node waits at the front desk (`desk.rs`) until its owner is called or asks. One of these serves a node:
//! the host's modules, the socket's clients and whoever else there is share it.

mod client;
mod concentration;
mod courier;
mod desk;
mod handlers;
mod journal;
mod look;
mod network;
mod proofs;
mod registrations;
mod send;
mod sessions;
mod shelf;
mod waits;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use mesh_api::{
    ApiRequest, CallError, GetNodeIdRequest, GetNodeIdResponse, GetRoutingStatsRequest, Method, ModuleCaller,
    Wire,
};
use mesh_core::routing_policy::MeshMode;
use mesh_core::spending::Caller;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::handle::{NodeHandle, lock};
use courier::Front;
use desk::Desk;
use journal::Journal;
use registrations::{Registration, Registrations};
use shelf::Shelves;
use waits::Waits;

pub use client::Client;
pub use courier::ModuleCalls;
pub(crate) use courier::{Door, OpenDoor};
pub use desk::DeliveryCounters;
pub use journal::{DELIVERIES_FILE, JournalError, WRITE_AFTER, WRITE_TOGETHER};
pub use registrations::{REGISTRATIONS_FILE, RegistrationsError};

/// Why what an earlier life of the node left for modules cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Who registered which protocol.
    #[error(transparent)]
    Registrations(#[from] RegistrationsError),
    /// The packets that wait.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The ModuleAPI of one node.
pub struct MeshModuleApi {
    node: NodeHandle,
    mode: OnceCell<MeshMode>,
    shelves: Mutex<Shelves>,
    front: Arc<Front>,
    registrations: tokio::sync::Mutex<Arc<Registrations>>,
    waits: Waits,
    courier: Mutex<Option<JoinHandle<()>>>,
    writer: JoinHandle<()>,
}

impl MeshModuleApi {
    /// The API of a node; registrations of protocols and what waits for their owners last as long as this. Must be called
    /// within a tokio runtime.
    pub fn new(node: NodeHandle) -> Self {
        Self::start(node, Desk::new(), Registrations::default(), Journal::default())
    }

    /// The API of a node that keeps its state in `data_dir`, with the protocols that were registered there before and the
    /// packets that waited for their owners. Must be called within a tokio runtime, by who holds the directory's lock, and only
    /// after an earlier one was [stopped](MeshModuleApi::stop).
    ///
    /// # Errors
    /// [`OpenError`]: a file cannot be read or written. A damaged one is set aside and no error.
    pub fn open(node: NodeHandle, data_dir: &Path) -> Result<Self, OpenError> {
        let registrations = Registrations::in_directory(data_dir);
        let (mut desk, now) = (Desk::new(), Instant::now());
        let known = registrations.read()?;
        for Registration {
            protocol,
            owner,
            method,
        } in known
        {
            match desk.may_register(now, &owner, &protocol) {
                Ok(()) => desk.restore_owner(now, owner, &protocol, method),
                Err(taken) => tracing::warn!(%owner, ?protocol, %taken, "an old registration is forgotten"),
            }
        }
        let journal = Journal::open(data_dir, |number, delivery| desk.restore(now, number, delivery))?;
        journal.note(desk.take_moves(), 0);
        let counters = desk.counters();
        if counters.restored > 0 {
            tracing::info!(
                packets = counters.restored,
                "packets of an earlier life wait for their modules"
            );
        }
        Ok(Self::start(node, desk, registrations, journal))
    }

    fn start(node: NodeHandle, desk: Desk, registrations: Registrations, journal: Journal) -> Self {
        let front = Arc::new(Front::new(desk, journal.clone()));
        let arrivals = if journal.lasts() {
            let (arrivals, safe) = node.deliveries_to_keep();
            journal.tell(safe);
            arrivals
        } else {
            node.deliveries(None)
        };
        let courier = courier::run(front.clone(), node.clone(), arrivals);
        Self {
            node,
            mode: OnceCell::new(),
            shelves: Mutex::default(),
            front,
            registrations: tokio::sync::Mutex::new(Arc::new(registrations)),
            waits: Waits::default(),
            courier: Mutex::new(Some(tokio::spawn(courier))),
            writer: tokio::spawn(journal.run()),
        }
    }

    /// The same API, which from now on calls modules through this. Without it modules poll.
    #[must_use]
    pub fn with_module_calls(self, calls: Arc<dyn ModuleCalls>) -> Self {
        self.call_modules_through(calls);
        self
    }

    /// As [`MeshModuleApi::with_module_calls`], for an API that is shared already.
    pub fn call_modules_through(&self, calls: Arc<dyn ModuleCalls>) {
        self.front.call_modules_through(calls);
    }

    /// The API as one caller has it. Whoever makes this vouches for the caller's name.
    pub fn for_caller(self: &Arc<Self>, caller: Caller) -> CallerApi {
        self.for_client(Client::of(caller))
    }

    /// The API as one client has it. Whoever makes this vouches for its name.
    pub fn for_client(self: &Arc<Self>, client: Client) -> CallerApi {
        CallerApi {
            api: self.clone(),
            client,
        }
    }

    /// The node that this is the API of.
    pub fn node(&self) -> &NodeHandle {
        &self.node
    }

    /// What became of what arrived.
    pub fn delivery_counters(&self) -> DeliveryCounters {
        self.front.counters()
    }

    /// Ends deliveries, in order: what arrived and was neither handled nor polled is on disk when this comes back, and nothing
    /// is handed over any more.
    pub async fn stop(&self) {
        self.front.stop();
        let courier = lock(&self.courier).take();
        if let Some(courier) = courier
            && let Err(error) = courier.await
        {
            tracing::error!(%error, "what delivers to modules ended badly");
        }
    }

    /// Calls that wait for something.
    pub fn waiting_calls(&self) -> usize {
        self.waits.count()
    }

    /// The host says that a module runs: what could not be pushed to it is pushed again, and calls of an earlier life of it that
    /// still wait are answered with nothing.
    pub fn module_came(&self, name: &str) {
        // What has no module's name has no handlers either.
        if let Ok(client) = Client::module(name) {
            self.front.desk(|_| self.waits.end(&client));
            self.front.heard_of(&client);
        }
    }

    /// The host says that a module is gone: nothing is pushed to it until it is heard of again, and its calls that still wait
    /// take nothing.
    pub fn module_went(&self, name: &str) {
        if let Ok(client) = Client::module(name) {
            self.front.desk(|desk| {
                self.waits.end(&client);
                desk.is_gone(&client);
            });
        }
    }

    /// A client takes what arrives for it over this connection, until the guard is dropped.
    pub(crate) fn open_door(&self, client: Client, door: Arc<dyn Door>) -> OpenDoor {
        self.front.open_door(client, door)
    }

    /// Answers one call of a caller whom the host authenticated.
    pub async fn handle(&self, caller: &Caller, method: &str, payload: &[u8]) -> Result<Vec<u8>, CallError> {
        self.handle_for(&Client::of(caller.clone()), method, payload)
            .await
    }

    /// Answers one call of a client.
    ///
    /// # Errors
    /// [`CallError::Refused`] for what is no call: an unknown method, bytes that are no request; or when the node stops. That
    /// something is not to be had is an answer.
    pub async fn handle_for(
        &self,
        client: &Client,
        method: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let method = method.parse::<Method>().map_err(refused)?;
        self.front.heard_of(client);
        match method {
            Method::SendPacket => encode(&self.send_packet(client, decode(payload)?).await),
            Method::DiscoverRoute => encode(&self.discover_route(decode(payload)?).await),
            Method::QuoteRoute => encode(&self.quote_route(client, decode(payload)?).await),
            Method::GetQuote => encode(&self.get_quote(client, &decode(payload)?)),
            Method::OpenSession => encode(&self.open_session(client, decode(payload)?).await),
            Method::CloseSession => encode(&self.close_session(client, decode(payload)?).await),
            Method::GetSession => encode(&self.get_session(client, &decode(payload)?).await),
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
            Method::RegisterProtocolHandler => {
                encode(&self.register_protocol(client, decode(payload)?).await)
            }
            Method::UnregisterProtocolHandler => {
                encode(&self.unregister_protocol(client, decode(payload)?).await)
            }
            Method::PollDeliveries => encode(&self.poll_deliveries(client, &decode(payload)?)),
            Method::AwaitDeliveries => encode(&self.await_deliveries(client, decode(payload)?).await),
            Method::GetNetworkState => encode(&self.network_state(&decode(payload)?).await.map_err(refused)?),
            Method::GetConcentration => {
                encode(&self.concentration(&decode(payload)?).await.map_err(refused)?)
            }
            Method::AwaitNetworkChange => {
                let changed = self.await_network_change(client, decode(payload)?).await;
                encode(&changed.map_err(refused)?)
            }
        }
    }
}

impl Drop for MeshModuleApi {
    fn drop(&mut self) {
        if let Some(courier) = lock(&self.courier).take() {
            courier.abort();
        }
        self.writer.abort();
    }
}

/// Whoever calls without saying who he is.
#[async_trait]
impl ModuleCaller for MeshModuleApi {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        self.handle(&Caller::Unidentified, method, &payload).await
    }
}

/// The API as one caller has it: [`MeshModuleApi::for_caller`].
#[derive(Clone)]
pub struct CallerApi {
    api: Arc<MeshModuleApi>,
    client: Client,
}

#[async_trait]
impl ModuleCaller for CallerApi {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        self.api.handle_for(&self.client, method, &payload).await
    }
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
        assert_eq!(
            mesh_api::limits::MAX_SCRIPT_BYTES,
            mesh_core::chain::MAX_SCRIPT_BYTES
        );
    }
}
