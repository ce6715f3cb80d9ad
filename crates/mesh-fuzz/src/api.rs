//! What modules send over IPC or the socket, and what the mesh answers them.

use std::time::Duration;

use mesh_api::frames::{FromMesh, ToMesh, framed};
use mesh_api::limits::MAX_TIMEOUT_SECONDS;
use mesh_api::{ApiRequest, Method, Wire, decode, encode, encoded_len, methods};

use crate::cast::choose;

/// Every request and answer, chosen by the first byte: nothing longer than its limit is looked at, what is accepted has
/// exactly one spelling, and no request makes the mesh work for longer than it may be asked to.
pub fn api(data: &[u8]) {
    let (which, data) = choose(data);
    let method = Method::ALL[usize::from(which >> 1) % Method::ALL.len()];
    let answer = which & 1 == 1;
    // Exhaustive, so that a new method does not compile without a target.
    match method {
        Method::SendPacket => exchange::<mesh_api::SendPacketRequest>(data, answer),
        Method::DiscoverRoute => exchange::<mesh_api::DiscoverRouteRequest>(data, answer),
        Method::RegisterProtocolHandler => exchange::<mesh_api::RegisterProtocolRequest>(data, answer),
        Method::GetRoutingStats => exchange::<mesh_api::GetRoutingStatsRequest>(data, answer),
        Method::GetNodeId => exchange::<mesh_api::GetNodeIdRequest>(data, answer),
        Method::QuoteRoute => exchange::<mesh_api::QuoteRouteRequest>(data, answer),
        Method::GetQuote => exchange::<mesh_api::GetQuoteRequest>(data, answer),
        Method::OpenSession => exchange::<mesh_api::OpenSessionRequest>(data, answer),
        Method::CloseSession => exchange::<mesh_api::CloseSessionRequest>(data, answer),
        Method::GetSession => exchange::<mesh_api::GetSessionRequest>(data, answer),
        Method::PollDeliveries => exchange::<mesh_api::PollDeliveriesRequest>(data, answer),
        Method::GetNetworkState => exchange::<mesh_api::GetNetworkStateRequest>(data, answer),
        Method::UnregisterProtocolHandler => exchange::<mesh_api::UnregisterProtocolRequest>(data, answer),
        Method::AwaitDeliveries => exchange::<mesh_api::AwaitDeliveriesRequest>(data, answer),
        Method::AwaitNetworkChange => exchange::<mesh_api::AwaitNetworkChangeRequest>(data, answer),
        Method::GetConcentration => exchange::<mesh_api::GetConcentrationRequest>(data, answer),
    }
    let _ = String::from_utf8_lossy(data).parse::<Method>();
}

/// Messages over the API's socket, in both directions: what is accepted has exactly one spelling, and goes out in one frame.
pub fn socket(data: &[u8]) {
    let (from_mesh, data) = choose(data);
    if from_mesh & 1 == 0 {
        one_frame::<ToMesh>(data);
    } else {
        one_frame::<FromMesh>(data);
    }
}

fn one_frame<T: Wire>(data: &[u8]) {
    if let Some(message) = one_spelling::<T>(data) {
        let frame = framed(&message).unwrap();
        assert_eq!(frame[..4], u32::try_from(data.len()).unwrap().to_le_bytes());
        assert_eq!(frame[4..], *data);
    }
}

fn exchange<R: ApiRequest>(data: &[u8], answer: bool) {
    if answer {
        one_spelling::<R::Response>(data);
    } else if let Some(request) = one_spelling::<R>(data) {
        let most = Duration::from_secs(MAX_TIMEOUT_SECONDS) + methods::OPENING_TIME;
        assert!(request.working_time() <= most);
    }
}

fn one_spelling<T: Wire>(data: &[u8]) -> Option<T> {
    let value = decode::<T>(data).ok()?;
    assert!(data.len() <= T::MAX_ENCODED_BYTES);
    assert_eq!(encode(&value).unwrap(), data, "{} has two spellings", T::NAME);
    assert_eq!(encoded_len(&value).unwrap(), data.len() as u64);
    Some(value)
}
