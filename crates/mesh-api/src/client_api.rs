//! [`MeshClient`]: the mesh as a module author sees it, over anything that carries a call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::codec::{CodecError, decode, encode};
use crate::concentration::{GetConcentrationRequest, GetConcentrationResponse};
use crate::methods::{ApiRequest, Method};
use crate::sessions::{
    CloseSessionRequest, CloseSessionResponse, GetNetworkStateRequest, GetNetworkStateResponse,
    GetQuoteRequest, GetSessionRequest, OpenSessionRequest, OpenSessionResponse, PollDeliveriesRequest,
    PollDeliveriesResponse, QuoteRouteRequest, QuoteRouteResponse, SessionInfo,
};
use crate::types::{
    DiscoverRouteRequest, DiscoverRouteResponse, GetNodeIdRequest, GetRoutingStatsRequest, MeshStats, NodeId,
    QuoteId, RegisterProtocolRequest, RegisterProtocolResponse, SendPacketRequest, SendPacketResponse,
    SessionId,
};
use crate::waiting::{
    AwaitDeliveriesRequest, AwaitNetworkChangeRequest, AwaitNetworkChangeResponse, UnregisterProtocolRequest,
    UnregisterProtocolResponse,
};

/// How long a client waits for an answer beyond the time the mesh may work on the request: the way there and back
/// through a busy host.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Carries calls to the mesh module: the host's inter-module call, a socket, or a test.
///
/// An implementation gives up cleanly when its future is dropped; the client does that when it has waited long enough.
#[async_trait]
pub trait ModuleCaller: Send + Sync {
    /// Calls `method` of the mesh with an encoded request and returns the encoded response.
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError>;
}

#[async_trait]
impl<C: ModuleCaller + ?Sized> ModuleCaller for Arc<C> {
    async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        (**self).call(method, payload).await
    }
}

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The mesh was not reached. The call had no effect, or its effect is unknown if the connection broke meanwhile.
    #[error("the mesh module cannot be reached: {reason}; check that it is loaded and running")]
    Unreachable {
        /// What the carrier says.
        reason: String,
    },
    /// The mesh, or the host on its behalf, refused the call.
    #[error("the mesh module refused the call: {reason}")]
    Refused {
        /// What was answered instead.
        reason: String,
    },
}

/// Why a method of [`MeshClient`] has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request breaks a limit; nothing was sent.
    #[error("{method} was not called: {source}")]
    Request {
        /// The method that was to be called.
        method: Method,
        /// Which limit.
        source: CodecError,
    },
    /// The call itself failed.
    #[error("{method}: {source}")]
    Call {
        /// The method that was called.
        method: Method,
        /// How it failed.
        source: CallError,
    },
    /// No answer in time. The mesh may have acted all the same: ask `get_session` before paying again.
    #[error("{method} was not answered within {waited:?}; it may still take effect")]
    TimedOut {
        /// The method that was called.
        method: Method,
        /// How long the client waited.
        waited: Duration,
    },
    /// The answer is no value of the response's type.
    #[error("{method} was answered with something else: {source}")]
    Response {
        /// The method that was called.
        method: Method,
        /// What is wrong with the answer.
        source: CodecError,
    },
}

/// Typed calls to the mesh.
///
/// Every call ends: with the answer, an error of the carrier, or [`ClientError::TimedOut`] when the time that the mesh
/// may work on the request ([`ApiRequest::working_time`]) and a grace have passed. The timer is tokio's, so calls must be
/// made within a tokio runtime with its timer enabled. No call is repeated by the client: a packet or a payment must
/// not happen twice because an answer was lost.
///
/// ```
/// # use mesh_api::{ClientError, MeshClient, ModuleCaller, NodeId, SendPacketRequest};
/// # async fn greet<C: ModuleCaller>(caller: C, destination: NodeId) -> Result<(), ClientError> {
/// let mesh = MeshClient::new(caller);
/// let sent = mesh
///     .send_packet(SendPacketRequest {
///         destination,
///         payload: b"hello".to_vec(),
///         payment_proof: None,
///         protocol_id: Some("greetings".to_string()),
///         ttl: Some(60),
///     })
///     .await?;
/// if let Some(reason) = sent.error {
///     eprintln!("not sent: {reason}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MeshClient<C> {
    caller: C,
    grace: Duration,
}

impl<C: ModuleCaller> MeshClient<C> {
    /// A client that calls the mesh through `caller`.
    pub fn new(caller: C) -> Self {
        MeshClient {
            caller,
            grace: DEFAULT_GRACE,
        }
    }

    /// The same client with another grace than [`DEFAULT_GRACE`].
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        MeshClient { grace, ..self }
    }

    /// Sends one packet. A response with `success: false` says why in `error`.
    ///
    /// # Errors
    /// [`ClientError`] if there was no response; as for every method below.
    pub async fn send_packet(&self, request: SendPacketRequest) -> Result<SendPacketResponse, ClientError> {
        self.call(&request).await
    }

    /// Looks for a route without using it.
    pub async fn discover_route(
        &self,
        request: DiscoverRouteRequest,
    ) -> Result<DiscoverRouteResponse, ClientError> {
        self.call(&request).await
    }

    /// Has packets of a protocol handed to a method of the calling module.
    pub async fn register_protocol_handler(
        &self,
        request: RegisterProtocolRequest,
    ) -> Result<RegisterProtocolResponse, ClientError> {
        self.call(&request).await
    }

    /// The mesh at a glance.
    pub async fn get_routing_stats(&self) -> Result<MeshStats, ClientError> {
        self.call(&GetRoutingStatsRequest {}).await
    }

    /// The id of the node this mesh belongs to.
    pub async fn get_node_id(&self) -> Result<NodeId, ClientError> {
        Ok(self.call(&GetNodeIdRequest {}).await?.node_id)
    }

    /// Asks what a route costs, with invoices to pay.
    pub async fn quote_route(&self, request: QuoteRouteRequest) -> Result<QuoteRouteResponse, ClientError> {
        self.call(&request).await
    }

    /// Binds a quoted route for packets.
    pub async fn open_session(
        &self,
        request: OpenSessionRequest,
    ) -> Result<OpenSessionResponse, ClientError> {
        self.call(&request).await
    }

    /// Ends a session.
    pub async fn close_session(&self, session_id: SessionId) -> Result<CloseSessionResponse, ClientError> {
        self.call(&CloseSessionRequest { session_id }).await
    }

    /// How far a session has got; `None` if the calling module has no such session.
    pub async fn get_session(&self, session_id: SessionId) -> Result<Option<SessionInfo>, ClientError> {
        Ok(self.call(&GetSessionRequest { session_id }).await?.session)
    }

    /// Fetches packets that have arrived for the calling module.
    pub async fn poll_deliveries(
        &self,
        request: PollDeliveriesRequest,
    ) -> Result<PollDeliveriesResponse, ClientError> {
        self.call(&request).await
    }

    /// A page of what the node knows about the network.
    pub async fn get_network_state(
        &self,
        request: GetNetworkStateRequest,
    ) -> Result<GetNetworkStateResponse, ClientError> {
        self.call(&request).await
    }

    /// A quote that the mesh gave the calling module before, such as the one that a refused packet requires
    /// ([`SendPacketResponse::required_quote`]).
    pub async fn get_quote(&self, quote_id: QuoteId) -> Result<QuoteRouteResponse, ClientError> {
        self.call(&GetQuoteRequest { quote_id }).await
    }

    /// Gives a protocol up, so that another module can have it.
    pub async fn unregister_protocol_handler(
        &self,
        protocol_id: impl Into<String>,
    ) -> Result<UnregisterProtocolResponse, ClientError> {
        let protocol_id = protocol_id.into();
        self.call(&UnregisterProtocolRequest { protocol_id }).await
    }

    /// Fetches packets that have arrived for the calling module, and waits for the first if there is none.
    pub async fn await_deliveries(
        &self,
        request: AwaitDeliveriesRequest,
    ) -> Result<PollDeliveriesResponse, ClientError> {
        self.call(&request).await
    }

    /// Waits until what the node knows of the network is no longer what the caller saw.
    pub async fn await_network_change(
        &self,
        request: AwaitNetworkChangeRequest,
    ) -> Result<AwaitNetworkChangeResponse, ClientError> {
        self.call(&request).await
    }

    /// Who carries what this node pays for.
    pub async fn get_concentration(
        &self,
        request: GetConcentrationRequest,
    ) -> Result<GetConcentrationResponse, ClientError> {
        self.call(&request).await
    }

    /// Any request by its type.
    pub async fn call<R: ApiRequest>(&self, request: &R) -> Result<R::Response, ClientError> {
        let method = R::METHOD;
        let payload = encode(request).map_err(|source| ClientError::Request { method, source })?;
        let patience = request.working_time().saturating_add(self.grace);
        let answer = tokio::time::timeout(patience, self.caller.call(method.as_str(), payload))
            .await
            .map_err(|_| ClientError::TimedOut {
                method,
                waited: patience,
            })?
            .map_err(|source| ClientError::Call { method, source })?;
        decode(&answer).map_err(|source| ClientError::Response { method, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_PAYLOAD_BYTES;
    use std::sync::Mutex;

    /// Answers every call alike, or never, and keeps what it was asked.
    struct Scripted {
        answer: Option<Result<Vec<u8>, CallError>>,
        asked: Mutex<Vec<(String, Vec<u8>)>>,
    }

    fn answering(answer: Result<Vec<u8>, CallError>) -> MeshClient<Arc<Scripted>> {
        MeshClient::new(Arc::new(Scripted {
            answer: Some(answer),
            asked: Mutex::default(),
        }))
    }

    fn silent() -> MeshClient<Arc<Scripted>> {
        MeshClient::new(Arc::new(Scripted {
            answer: None,
            asked: Mutex::default(),
        }))
    }

    #[async_trait]
    impl ModuleCaller for Scripted {
        async fn call(&self, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
            self.asked.lock().unwrap().push((method.to_owned(), payload));
            match &self.answer {
                Some(answer) => answer.clone(),
                None => std::future::pending().await,
            }
        }
    }

    fn packet(payload: Vec<u8>) -> SendPacketRequest {
        SendPacketRequest {
            destination: [1; 32],
            payload,
            payment_proof: None,
            protocol_id: None,
            ttl: Some(60),
        }
    }

    #[tokio::test]
    async fn a_packet_goes_out_encoded_under_its_methods_name_and_the_answer_comes_back_typed() {
        let sent = SendPacketResponse {
            success: true,
            packet_id: [2; 32],
            route_length: 3,
            estimated_cost_sats: 4,
            error: None,
        };
        let client = answering(Ok(encode(&sent).unwrap()));
        assert_eq!(client.send_packet(packet(b"hello".to_vec())).await.unwrap(), sent);
        let asked = client.caller.asked.lock().unwrap().clone();
        assert_eq!(
            asked,
            [(
                "send_packet".to_owned(),
                encode(&packet(b"hello".to_vec())).unwrap()
            )]
        );
    }

    #[tokio::test]
    async fn every_method_is_called_by_its_own_name() {
        let client = answering(Err(CallError::Refused {
            reason: "not today".into(),
        }));
        let (destination, session_id) = ([1; 32], [2; 16]);
        let _ = client.send_packet(packet(vec![])).await;
        let _ = client
            .discover_route(DiscoverRouteRequest {
                destination,
                max_hops: None,
                timeout_seconds: None,
            })
            .await;
        let _ = client
            .register_protocol_handler(RegisterProtocolRequest {
                protocol_id: "chat".into(),
                handler_method: "on_chat".into(),
            })
            .await;
        let _ = client.get_routing_stats().await;
        let _ = client.get_node_id().await;
        let _ = client
            .quote_route(QuoteRouteRequest {
                destination,
                max_hops: None,
                timeout_seconds: None,
                units: 1,
                max_fee_msat: None,
                avoid: vec![],
                method: Default::default(),
            })
            .await;
        let _ = client
            .open_session(OpenSessionRequest {
                quote_id: session_id,
                payment_proof: None,
                max_fee_msat: None,
            })
            .await;
        let _ = client.close_session(session_id).await;
        let _ = client.get_session(session_id).await;
        let _ = client
            .poll_deliveries(PollDeliveriesRequest {
                protocol_id: None,
                max_deliveries: 1,
            })
            .await;
        let _ = client
            .get_network_state(GetNetworkStateRequest {
                after: None,
                max_nodes: 1,
            })
            .await;
        let _ = client.get_quote(session_id).await;
        let _ = client.unregister_protocol_handler("chat").await;
        let _ = client
            .await_deliveries(AwaitDeliveriesRequest {
                protocol_id: None,
                max_deliveries: 1,
                timeout_seconds: 1,
            })
            .await;
        let _ = client
            .await_network_change(AwaitNetworkChangeRequest {
                generation: 0,
                timeout_seconds: 1,
            })
            .await;
        let _ = client
            .get_concentration(GetConcentrationRequest { max_shares: 1 })
            .await;
        let asked: Vec<String> = client
            .caller
            .asked
            .lock()
            .unwrap()
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(asked, Method::ALL.map(|method| method.as_str().to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_mesh_is_given_up_after_the_time_the_request_asked_for_and_the_grace() {
        let asks = DiscoverRouteRequest {
            destination: [1; 32],
            max_hops: None,
            timeout_seconds: Some(5),
        };
        let start = tokio::time::Instant::now();
        let failed = silent()
            .with_grace(Duration::from_secs(2))
            .discover_route(asks)
            .await
            .unwrap_err();
        assert!(
            matches!(failed, ClientError::TimedOut { method: Method::DiscoverRoute, waited }
            if waited == Duration::from_secs(7))
        );
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test]
    async fn a_refused_call_names_its_method_and_reason() {
        let failed = answering(Err(CallError::Refused {
            reason: "not today".into(),
        }))
        .get_node_id()
        .await;
        let failed = failed.unwrap_err();
        assert!(matches!(
            failed,
            ClientError::Call {
                method: Method::GetNodeId,
                source: CallError::Refused { .. }
            }
        ));
        assert_eq!(
            failed.to_string(),
            "get_node_id: the mesh module refused the call: not today"
        );
    }

    #[tokio::test]
    async fn an_oversized_packet_never_leaves_the_caller() {
        let client = silent();
        let failed = client
            .send_packet(packet(vec![0; MAX_PAYLOAD_BYTES + 1]))
            .await
            .unwrap_err();
        assert!(matches!(
            failed,
            ClientError::Request {
                method: Method::SendPacket,
                ..
            }
        ));
        assert!(client.caller.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_garbled_answer_is_an_error_and_not_a_guess() {
        let failed = answering(Ok(vec![2; 57])).get_routing_stats().await.unwrap_err();
        assert!(matches!(
            failed,
            ClientError::Response {
                method: Method::GetRoutingStats,
                ..
            }
        ));
    }
}
