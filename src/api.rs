//! MeshModuleAPI: what other modules call, as method name and bytes, translated into commands of the core.
//!
//! Served here: `send_packet`, `discover_route`, `quote_route`, `get_quote`, `open_session`, `close_session`,
//! `get_routing_stats` and `get_node_id`. The others need a host that can call modules back; they are refused by name.
//!
//! Every call comes with its [`Caller`], as the host authenticated it. Quotes and sessions belong to the caller who
//! asked for them: to everybody else they are unknown. What the mesh may pay by itself is decided by the core, within the
//! operator's caps ([`mesh_core::spending`]).

mod look;
mod proofs;
mod send;
mod sessions;
mod shelf;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mesh_api::{
    ApiRequest, CallError, GetNodeIdRequest, GetNodeIdResponse, GetRoutingStatsRequest, Method, ModuleCaller,
    Wire,
};
use mesh_core::spending::Caller;

use crate::handle::NodeHandle;
use shelf::Shelves;

/// The ModuleAPI of one node.
pub struct MeshModuleApi {
    node: NodeHandle,
    shelves: Mutex<Shelves>,
}

impl MeshModuleApi {
    /// The API of a node.
    pub fn new(node: NodeHandle) -> Self {
        Self {
            node,
            shelves: Mutex::default(),
        }
    }

    /// The API as one caller has it. Whoever makes this vouches for the caller's name.
    pub fn for_caller(self: &Arc<Self>, caller: Caller) -> CallerApi {
        CallerApi {
            api: self.clone(),
            caller,
        }
    }

    /// Answers one call of a caller whom the host authenticated.
    pub async fn handle(&self, caller: &Caller, method: &str, payload: &[u8]) -> Result<Vec<u8>, CallError> {
        match method.parse::<Method>().map_err(refused)? {
            Method::SendPacket => encode(&self.send_packet(caller, decode(payload)?).await),
            Method::DiscoverRoute => encode(&self.discover_route(decode(payload)?).await),
            Method::QuoteRoute => encode(&self.quote_route(caller, decode(payload)?).await),
            Method::GetQuote => encode(&self.get_quote(caller, &decode(payload)?)),
            Method::OpenSession => encode(&self.open_session(caller, decode(payload)?).await),
            Method::CloseSession => encode(&self.close_session(caller, decode(payload)?).await),
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
    caller: Caller,
}

#[async_trait]
impl ModuleCaller for CallerApi {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        self.api.handle(&self.caller, method, &payload).await
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
    }
}
