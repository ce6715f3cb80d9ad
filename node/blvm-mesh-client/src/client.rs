//! The mesh's methods, one by one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use blvm_node::module::traits::NodeAPI;
use mesh_api::{
    ApiRequest, AwaitDeliveriesRequest, AwaitNetworkChangeRequest, AwaitNetworkChangeResponse, ClientError,
    CloseSessionRequest, CloseSessionResponse, DiscoverRouteRequest, DiscoverRouteResponse,
    GetConcentrationRequest, GetConcentrationResponse, GetNetworkStateRequest, GetNetworkStateResponse,
    GetNodeIdRequest, GetQuoteRequest, GetRoutingStatsRequest, GetSessionRequest, MeshStats, NodeId,
    OpenSessionRequest, OpenSessionResponse, PaymentProof, PollDeliveriesRequest, PollDeliveriesResponse,
    QuoteId, QuoteRouteRequest, QuoteRouteResponse, RegisterProtocolRequest, SendPacketRequest,
    SendPacketResponse, SessionId, SessionInfo, UnregisterProtocolRequest,
};

use crate::caller::NodeApiCaller;
use crate::error::MeshError;

/// The mesh module, called through the node.
///
/// Every call ends: with an answer, an error, or [`ClientError::TimedOut`] when the time that the mesh may work on the request and a
/// grace have passed, or the time set by [`with_timeout`](MeshClient::with_timeout). No call is repeated: a packet or a payment
/// must not happen twice because an answer was lost. Calls must be made within a tokio runtime.
///
/// A clone shares the connection; it costs nothing.
#[derive(Clone)]
pub struct MeshClient {
    mesh: mesh_api::MeshClient<NodeApiCaller>,
    timeout: Option<Duration>,
}

impl fmt::Debug for MeshClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MeshClient")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The calls that the system's documentation names. `caller_module_id` is there for its sake: who calls is for the node to
/// say, and the mesh believes nobody else.
///
/// # Errors
/// [`MeshError`], here and in all calls below.
impl MeshClient {
    /// A client of the mesh that is loaded as `mesh_module_id`, usually "blvm-mesh".
    pub fn new(node_api: Arc<dyn NodeAPI>, mesh_module_id: String) -> Self {
        Self {
            mesh: mesh_api::MeshClient::new(NodeApiCaller::new(node_api, mesh_module_id)),
            timeout: None,
        }
    }

    /// Sends a packet. A response with `success: false` says why in `error`.
    ///
    /// Without a proof of payment the mesh pays by itself, within the limits its operator set.
    pub async fn send_packet(
        &self,
        _caller_module_id: &str,
        destination: NodeId,
        payload: Vec<u8>,
        payment_proof: Option<PaymentProof>,
        protocol_id: Option<String>,
    ) -> Result<SendPacketResponse, MeshError> {
        self.send(SendPacketRequest {
            destination,
            payload,
            payment_proof,
            protocol_id,
            ttl: None,
        })
        .await
    }

    /// Looks for a route without using it.
    pub async fn discover_route(
        &self,
        _caller_module_id: &str,
        destination: NodeId,
        max_hops: Option<u8>,
    ) -> Result<DiscoverRouteResponse, MeshError> {
        self.call(&DiscoverRouteRequest {
            destination,
            max_hops,
            timeout_seconds: None,
        })
        .await
    }

    /// Has packets of a protocol handed to a method of the calling module's API. To be done again when the mesh has been restarted.
    pub async fn register_protocol_handler(
        &self,
        _caller_module_id: &str,
        protocol_id: String,
        handler_method: String,
    ) -> Result<(), MeshError> {
        let request = RegisterProtocolRequest {
            protocol_id,
            handler_method,
        };
        if self.call(&request).await?.success {
            Ok(())
        } else {
            Err(MeshError::NotRegistered {
                protocol_id: request.protocol_id,
            })
        }
    }
}

/// All other calls.
impl MeshClient {
    /// The same client, whose calls end after `timeout` at the latest.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }

    /// Sends a packet, with all that can be said of it.
    pub async fn send(&self, request: SendPacketRequest) -> Result<SendPacketResponse, MeshError> {
        self.call(&request).await
    }

    /// Gives a protocol up, so that another module can have it; `false` if it was not this module's.
    pub async fn unregister_protocol_handler(&self, protocol_id: String) -> Result<bool, MeshError> {
        Ok(self
            .call(&UnregisterProtocolRequest { protocol_id })
            .await?
            .success)
    }

    /// The mesh at a glance.
    pub async fn get_routing_stats(&self) -> Result<MeshStats, MeshError> {
        self.call(&GetRoutingStatsRequest {}).await
    }

    /// The id of the node this mesh belongs to.
    pub async fn get_node_id(&self) -> Result<NodeId, MeshError> {
        Ok(self.call(&GetNodeIdRequest {}).await?.node_id)
    }

    /// Asks what a route costs, with invoices to pay.
    pub async fn quote_route(&self, request: QuoteRouteRequest) -> Result<QuoteRouteResponse, MeshError> {
        self.call(&request).await
    }

    /// A quote that the mesh gave this module before.
    pub async fn get_quote(&self, quote_id: QuoteId) -> Result<QuoteRouteResponse, MeshError> {
        self.call(&GetQuoteRequest { quote_id }).await
    }

    /// Binds a quoted route for packets.
    pub async fn open_session(&self, request: OpenSessionRequest) -> Result<OpenSessionResponse, MeshError> {
        self.call(&request).await
    }

    /// Ends a session.
    pub async fn close_session(&self, session_id: SessionId) -> Result<CloseSessionResponse, MeshError> {
        self.call(&CloseSessionRequest { session_id }).await
    }

    /// How far a session has got; `None` if this module has no such session.
    pub async fn get_session(&self, session_id: SessionId) -> Result<Option<SessionInfo>, MeshError> {
        Ok(self.call(&GetSessionRequest { session_id }).await?.session)
    }

    /// Fetches packets that have arrived for this module.
    pub async fn poll_deliveries(
        &self,
        request: PollDeliveriesRequest,
    ) -> Result<PollDeliveriesResponse, MeshError> {
        self.call(&request).await
    }

    /// The same, and waits for the first if there is none. A node gives calls up after a minute: wait less.
    pub async fn await_deliveries(
        &self,
        request: AwaitDeliveriesRequest,
    ) -> Result<PollDeliveriesResponse, MeshError> {
        self.call(&request).await
    }

    /// A page of what the node knows about the network.
    pub async fn get_network_state(
        &self,
        request: GetNetworkStateRequest,
    ) -> Result<GetNetworkStateResponse, MeshError> {
        self.call(&request).await
    }

    /// Waits until the network is no longer what the caller saw. A node gives calls up after a minute: wait less.
    pub async fn await_network_change(
        &self,
        request: AwaitNetworkChangeRequest,
    ) -> Result<AwaitNetworkChangeResponse, MeshError> {
        self.call(&request).await
    }

    /// Who earns what this node pays, and what follows from it.
    pub async fn get_concentration(
        &self,
        request: GetConcentrationRequest,
    ) -> Result<GetConcentrationResponse, MeshError> {
        self.call(&request).await
    }

    /// Any request by its type.
    pub async fn call<R: ApiRequest>(&self, request: &R) -> Result<R::Response, MeshError> {
        let call = self.mesh.call(request);
        let Some(timeout) = self.timeout else {
            return Ok(call.await?);
        };
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ClientError::TimedOut {
                method: R::METHOD,
                waited: timeout,
            }
            .into()),
        }
    }
}
