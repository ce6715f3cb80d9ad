//! The methods by name, and which answer belongs to which question.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::codec::Wire;
use crate::concentration::{GetConcentrationRequest, GetConcentrationResponse};
use crate::limits::{MAX_METHOD_NAME_BYTES, MAX_TIMEOUT_SECONDS};
use crate::sessions::{
    CloseSessionRequest, CloseSessionResponse, GetNetworkStateRequest, GetNetworkStateResponse,
    GetQuoteRequest, GetSessionRequest, GetSessionResponse, OpenSessionRequest, OpenSessionResponse,
    PollDeliveriesRequest, PollDeliveriesResponse, QuoteRouteRequest, QuoteRouteResponse,
};
use crate::types::{
    DiscoverRouteRequest, DiscoverRouteResponse, GetNodeIdRequest, GetNodeIdResponse, GetRoutingStatsRequest,
    MeshStats, RegisterProtocolRequest, RegisterProtocolResponse, SendPacketRequest, SendPacketResponse,
};
use crate::waiting::{
    AwaitDeliveriesRequest, AwaitNetworkChangeRequest, AwaitNetworkChangeResponse, UnregisterProtocolRequest,
    UnregisterProtocolResponse,
};

/// How long the mesh looks for a route when the caller does not say.
pub const DEFAULT_DISCOVERY_TIME: Duration = Duration::from_secs(30);

/// How long opening may take: settling payments, then one round trip with the destination.
pub const OPENING_TIME: Duration = Duration::from_secs(60);

/// A method of the mesh's ModuleAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// [`SendPacketRequest`] to [`SendPacketResponse`].
    SendPacket,
    /// [`DiscoverRouteRequest`] to [`DiscoverRouteResponse`].
    DiscoverRoute,
    /// [`RegisterProtocolRequest`] to [`RegisterProtocolResponse`].
    RegisterProtocolHandler,
    /// [`GetRoutingStatsRequest`] to [`MeshStats`].
    GetRoutingStats,
    /// [`GetNodeIdRequest`] to [`GetNodeIdResponse`].
    GetNodeId,
    /// [`QuoteRouteRequest`] to [`QuoteRouteResponse`].
    QuoteRoute,
    /// [`OpenSessionRequest`] to [`OpenSessionResponse`].
    OpenSession,
    /// [`CloseSessionRequest`] to [`CloseSessionResponse`].
    CloseSession,
    /// [`GetSessionRequest`] to [`GetSessionResponse`].
    GetSession,
    /// [`PollDeliveriesRequest`] to [`PollDeliveriesResponse`].
    PollDeliveries,
    /// [`GetNetworkStateRequest`] to [`GetNetworkStateResponse`].
    GetNetworkState,
    /// [`GetQuoteRequest`] to [`QuoteRouteResponse`].
    GetQuote,
    /// [`UnregisterProtocolRequest`] to [`UnregisterProtocolResponse`].
    UnregisterProtocolHandler,
    /// [`AwaitDeliveriesRequest`] to [`PollDeliveriesResponse`].
    AwaitDeliveries,
    /// [`AwaitNetworkChangeRequest`] to [`AwaitNetworkChangeResponse`].
    AwaitNetworkChange,
    /// [`GetConcentrationRequest`] to [`GetConcentrationResponse`].
    GetConcentration,
}

/// A name that no method of the mesh has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mesh has no method {shown}: see the list of methods in API.md")]
pub struct UnknownMethod {
    shown: String,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 16] = [
        Method::SendPacket,
        Method::DiscoverRoute,
        Method::RegisterProtocolHandler,
        Method::GetRoutingStats,
        Method::GetNodeId,
        Method::QuoteRoute,
        Method::OpenSession,
        Method::CloseSession,
        Method::GetSession,
        Method::PollDeliveries,
        Method::GetNetworkState,
        Method::GetQuote,
        Method::UnregisterProtocolHandler,
        Method::AwaitDeliveries,
        Method::AwaitNetworkChange,
        Method::GetConcentration,
    ];

    /// The name it is called by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::SendPacket => "send_packet",
            Method::DiscoverRoute => "discover_route",
            Method::RegisterProtocolHandler => "register_protocol_handler",
            Method::GetRoutingStats => "get_routing_stats",
            Method::GetNodeId => "get_node_id",
            Method::QuoteRoute => "quote_route",
            Method::OpenSession => "open_session",
            Method::CloseSession => "close_session",
            Method::GetSession => "get_session",
            Method::PollDeliveries => "poll_deliveries",
            Method::GetNetworkState => "get_network_state",
            Method::GetQuote => "get_quote",
            Method::UnregisterProtocolHandler => "unregister_protocol_handler",
            Method::AwaitDeliveries => "await_deliveries",
            Method::AwaitNetworkChange => "await_network_change",
            Method::GetConcentration => "get_concentration",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        Method::ALL
            .into_iter()
            .find(|method| method.as_str() == name)
            .ok_or_else(|| unknown(name))
    }
}

/// The name came from another program: what is shown of it is short and has no control characters, so that it can
/// neither flood nor forge a log.
fn unknown(name: &str) -> UnknownMethod {
    let start: String = name.chars().take(MAX_METHOD_NAME_BYTES).collect();
    UnknownMethod {
        shown: format!("{start:?}"),
    }
}

/// A request, the method that takes it and the answer it gets.
pub trait ApiRequest: Wire + Send + Sync {
    /// The method to call.
    const METHOD: Method;

    /// What it answers.
    type Response: Wire;

    /// How long the mesh itself may work on this request before it answers. A client waits this long and a little more.
    fn working_time(&self) -> Duration {
        Duration::ZERO
    }
}

macro_rules! api_request {
    ($method:ident: $request:ident => $response:ident $(, $self:ident takes $time:expr)?) => {
        impl ApiRequest for $request {
            const METHOD: Method = Method::$method;
            type Response = $response;
            $(fn working_time(&$self) -> Duration {
                $time
            })?
        }
    };
}

api_request!(SendPacket: SendPacketRequest => SendPacketResponse, self takes DEFAULT_DISCOVERY_TIME + OPENING_TIME);
api_request!(DiscoverRoute: DiscoverRouteRequest => DiscoverRouteResponse, self takes looking_for(self.timeout_seconds));
api_request!(RegisterProtocolHandler: RegisterProtocolRequest => RegisterProtocolResponse);
api_request!(GetRoutingStats: GetRoutingStatsRequest => MeshStats);
api_request!(GetNodeId: GetNodeIdRequest => GetNodeIdResponse);
api_request!(QuoteRoute: QuoteRouteRequest => QuoteRouteResponse, self takes looking_for(self.timeout_seconds));
api_request!(OpenSession: OpenSessionRequest => OpenSessionResponse, self takes OPENING_TIME);
api_request!(CloseSession: CloseSessionRequest => CloseSessionResponse);
api_request!(GetSession: GetSessionRequest => GetSessionResponse);
api_request!(PollDeliveries: PollDeliveriesRequest => PollDeliveriesResponse);
api_request!(GetNetworkState: GetNetworkStateRequest => GetNetworkStateResponse);
api_request!(GetQuote: GetQuoteRequest => QuoteRouteResponse);
api_request!(UnregisterProtocolHandler: UnregisterProtocolRequest => UnregisterProtocolResponse);
api_request!(AwaitDeliveries: AwaitDeliveriesRequest => PollDeliveriesResponse, self takes waiting(self.timeout_seconds));
api_request!(AwaitNetworkChange: AwaitNetworkChangeRequest => AwaitNetworkChangeResponse, self takes waiting(self.timeout_seconds));
api_request!(GetConcentration: GetConcentrationRequest => GetConcentrationResponse);

fn looking_for(timeout_seconds: Option<u64>) -> Duration {
    timeout_seconds.map_or(DEFAULT_DISCOVERY_TIME, waiting)
}

fn waiting(timeout_seconds: u64) -> Duration {
    Duration::from_secs(timeout_seconds.min(MAX_TIMEOUT_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_name_and_by_no_other() {
        for method in Method::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
            assert!(method.as_str().len() <= MAX_METHOD_NAME_BYTES);
            assert!(method.as_str().to_uppercase().parse::<Method>().is_err());
        }
    }

    #[test]
    fn a_hostile_name_cannot_forge_a_line_of_the_log() {
        let shown = format!("x\nERROR all sats lost{}", "!".repeat(1 << 20))
            .parse::<Method>()
            .unwrap_err()
            .to_string();
        assert!(!shown.contains('\n') && shown.len() < 200, "{shown}");
    }

    #[test]
    fn a_caller_cannot_ask_for_eternity() {
        let asks = |timeout_seconds| DiscoverRouteRequest {
            destination: [0; 32],
            max_hops: None,
            timeout_seconds,
        };
        assert_eq!(asks(None).working_time(), Duration::from_secs(30));
        assert_eq!(asks(Some(5)).working_time(), Duration::from_secs(5));
        assert_eq!(
            asks(Some(u64::MAX)).working_time(),
            Duration::from_secs(MAX_TIMEOUT_SECONDS)
        );
    }
}
