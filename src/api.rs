//! MeshModuleAPI: what other modules call, as method name and bytes, translated into commands of the core.
//!
//! Every call comes with its [`Caller`], as the host authenticated it. Quotes, sessions and protocols belong to the caller
//! who asked for them: to everybody else they are unknown. What the mesh may pay by itself is decided by the core, within
//! the operator's caps ([`mesh_core::spending`]).
//!
//! What arrives at the node waits at the front desk (`desk.rs`) until its owner is called or asks. One of these serves a node:
//! the host's modules, the socket's clients and whoever else there is share it.

mod client;
mod courier;
mod desk;
mod handlers;
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
use registrations::{Registration, Registrations};
use shelf::Shelves;
use waits::Waits;

pub use client::Client;
pub use courier::ModuleCalls;
pub(crate) use courier::{Door, OpenDoor};
pub use desk::DeliveryCounters;
pub use registrations::{REGISTRATIONS_FILE, RegistrationsError};

/// The ModuleAPI of one node.
pub struct MeshModuleApi {
    node: NodeHandle,
    mode: OnceCell<MeshMode>,
    shelves: Mutex<Shelves>,
    front: Arc<Front>,
    registrations: tokio::sync::Mutex<Arc<Registrations>>,
    waits: Waits,
    courier: JoinHandle<()>,
}

impl MeshModuleApi {
    /// The API of a node; registrations of protocols last as long as this. Must be called within a tokio runtime.
    pub fn new(node: NodeHandle) -> Self {
        Self::with_registrations(node, Registrations::default(), Vec::new())
    }

    /// The API of a node that keeps its state in `data_dir`, with the protocols that were registered there before. Must be
    /// called within a tokio runtime, by who holds the directory's lock.
    ///
    /// # Errors
    /// [`RegistrationsError`]: the file with them cannot be read. A damaged one is set aside and no error.
    pub fn open(node: NodeHandle, data_dir: &Path) -> Result<Self, RegistrationsError> {
        let registrations = Registrations::in_directory(data_dir);
        let known = registrations.read()?;
        Ok(Self::with_registrations(node, registrations, known))
    }

    fn with_registrations(node: NodeHandle, registrations: Registrations, known: Vec<Registration>) -> Self {
        let (mut desk, now) = (Desk::new(), Instant::now());
        for Registration {
            protocol,
            owner,
            method,
        } in known
        {
            match desk.may_register(now, &owner, &protocol) {
                Ok(()) => desk.register(now, owner, &protocol, method),
                Err(taken) => tracing::warn!(%owner, ?protocol, %taken, "an old registration is forgotten"),
            }
        }
        let front = Arc::new(Front::new(desk));
        let courier = courier::run(front.clone(), node.clone(), node.deliveries(None));
        Self {
            node,
            mode: OnceCell::new(),
            shelves: Mutex::default(),
            front,
            registrations: tokio::sync::Mutex::new(Arc::new(registrations)),
            waits: Waits::default(),
            courier: tokio::spawn(courier),
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
        lock(&self.front.desk).counters()
    }

    /// Calls that wait for something.
    pub fn waiting_calls(&self) -> usize {
        self.waits.count()
    }

    /// The host says that a module runs: what could not be pushed to it is pushed again.
    pub(crate) fn module_came(&self, name: &str) {
        // What has no module's name has no handlers either.
        if let Ok(client) = Client::module(name) {
            self.front.heard_of(&client);
        }
    }

    /// The host says that a module is gone: nothing is pushed to it until it is heard of again.
    pub(crate) fn module_went(&self, name: &str) {
        if let Ok(client) = Client::module(name) {
            lock(&self.front.desk).is_gone(&client);
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
            Method::AwaitNetworkChange => {
                let changed = self.await_network_change(client, decode(payload)?).await;
                encode(&changed.map_err(refused)?)
            }
        }
    }
}

impl Drop for MeshModuleApi {
    fn drop(&mut self) {
        self.courier.abort();
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
