//! Values of every type for the tests: arbitrary ones, and the largest that is legal.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::codec::Wire;
use crate::frames::{Failure, FromMesh, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, ToMesh};
use crate::limits::*;
use crate::*;

/// A type of the API that the tests can make values of.
pub(crate) trait Sample: Wire + Clone + PartialEq + std::fmt::Debug {
    /// Any legal value, mostly small.
    fn any() -> BoxedStrategy<Self>;
    /// A value with every field at its limit.
    fn largest() -> Self;
}

/// Expands `$body!(Type)` for every type that crosses the API.
macro_rules! for_every_type {
    ($body:ident) => {
        $body!(
            SendPacketRequest,
            SendPacketResponse,
            DiscoverRouteRequest,
            DiscoverRouteResponse,
            RegisterProtocolRequest,
            RegisterProtocolResponse,
            GetRoutingStatsRequest,
            MeshMode,
            RoutingStats,
            ReplayStats,
            MeshStats,
            GetNodeIdRequest,
            GetNodeIdResponse,
            PaymentProof,
            QuoteRouteRequest,
            QuoteRouteResponse,
            OpenSessionRequest,
            OpenSessionResponse,
            CloseSessionRequest,
            CloseSessionResponse,
            GetSessionRequest,
            GetSessionResponse,
            PollDeliveriesRequest,
            PollDeliveriesResponse,
            Delivery,
            GetNetworkStateRequest,
            GetNetworkStateResponse,
            GetQuoteRequest,
            UnregisterProtocolRequest,
            UnregisterProtocolResponse,
            AwaitDeliveriesRequest,
            AwaitNetworkChangeRequest,
            AwaitNetworkChangeResponse,
            GetConcentrationRequest,
            GetConcentrationResponse,
            ToMesh,
            FromMesh
        );
    };
}
pub(crate) use for_every_type;

macro_rules! sample {
    ($type:ident, $any:expr, $largest:expr) => {
        impl Sample for $type {
            fn any() -> BoxedStrategy<Self> {
                $any.boxed()
            }
            fn largest() -> Self {
                $largest
            }
        }
    };
}

/// After the macro, which they use.
mod concentration;
mod frames;
mod sessions;
mod waiting;

fn id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>()
}

fn ids(most: usize) -> impl Strategy<Value = Vec<NodeId>> {
    vec(id(), 0..=most.min(12))
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=most.min(300))
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé]{0,30}"
}

fn full(length: usize) -> String {
    "x".repeat(length)
}

fn single_proof() -> BoxedStrategy<PaymentProof> {
    prop_oneof![
        (text(), id(), any::<[u64; 3]>()).prop_map(
            |(invoice, preimage, [amount_msats, timestamp, expires_at])| {
                PaymentProof::Lightning {
                    invoice,
                    preimage,
                    amount_msats,
                    timestamp,
                    expires_at,
                }
            }
        ),
        (text(), id(), any::<[u64; 2]>()).prop_map(
            |(payment_request_id, tx_hash, [amount_sats, timestamp])| {
                PaymentProof::OnChainSettlement {
                    payment_request_id,
                    tx_hash,
                    amount_sats,
                    timestamp,
                }
            }
        ),
        (
            bytes(MAX_COVENANT_PROOF_BYTES),
            any::<u32>(),
            ids(MAX_MERKLE_STEPS),
            any::<[u64; 2]>()
        )
            .prop_map(
                |(covenant_proof, output_index, merkle_proof, [amount_sats, timestamp])| {
                    PaymentProof::InstantSettlement {
                        covenant_proof,
                        output_index,
                        merkle_proof,
                        amount_sats,
                        timestamp,
                    }
                }
            ),
        any::<[u8; 16]>().prop_map(|session_id| PaymentProof::Session { session_id }),
    ]
    .boxed()
}

sample!(
    PaymentProof,
    prop_oneof![
        4 => single_proof(),
        1 => vec((id(), single_proof()), 0..=MAX_PAYEES).prop_map(|parts| PaymentProof::Split {
            proofs: parts.into_iter().map(|(payee, proof)| PayeeProof { payee, proof }).collect()
        }),
    ],
    PaymentProof::Split {
        proofs: vec![
            PayeeProof {
                payee: [1; 32],
                proof: PaymentProof::InstantSettlement {
                    covenant_proof: vec![2; MAX_COVENANT_PROOF_BYTES],
                    output_index: 3,
                    merkle_proof: vec![[4; 32]; MAX_MERKLE_STEPS],
                    amount_sats: 5,
                    timestamp: 6,
                },
            };
            MAX_PAYEES
        ]
    }
);

sample!(
    SendPacketRequest,
    (
        id(),
        bytes(MAX_PAYLOAD_BYTES),
        option::of(PaymentProof::any()),
        option::of(text()),
        any::<Option<u64>>()
    )
        .prop_map(
            |(destination, payload, payment_proof, protocol_id, ttl)| SendPacketRequest {
                destination,
                payload,
                payment_proof,
                protocol_id,
                ttl
            }
        ),
    SendPacketRequest {
        destination: [1; 32],
        payload: vec![2; MAX_PAYLOAD_BYTES],
        payment_proof: Some(PaymentProof::largest()),
        protocol_id: Some(full(MAX_PROTOCOL_ID_BYTES)),
        ttl: Some(3),
    }
);

sample!(
    SendPacketResponse,
    (
        any::<bool>(),
        id(),
        any::<usize>(),
        any::<u64>(),
        option::of(text())
    )
        .prop_map(
            |(success, packet_id, route_length, estimated_cost_sats, error)| SendPacketResponse {
                success,
                packet_id,
                route_length,
                estimated_cost_sats,
                error
            }
        ),
    SendPacketResponse::refused(full(2 * MAX_REASON_BYTES))
);

sample!(
    DiscoverRouteRequest,
    (id(), any::<Option<u8>>(), any::<Option<u64>>()).prop_map(|(destination, max_hops, timeout_seconds)| {
        DiscoverRouteRequest {
            destination,
            max_hops,
            timeout_seconds,
        }
    }),
    DiscoverRouteRequest {
        destination: [1; 32],
        max_hops: Some(10),
        timeout_seconds: Some(300)
    }
);

sample!(
    DiscoverRouteResponse,
    (
        option::of(ids(MAX_ROUTE_NODES).prop_map(cut_route)),
        any::<u64>(),
        any::<u64>()
    )
        .prop_map(
            |(route, route_cost_sats, discovery_time_ms)| DiscoverRouteResponse {
                route,
                route_cost_sats,
                discovery_time_ms
            }
        ),
    DiscoverRouteResponse {
        route: Some(vec![[1; 32]; MAX_ROUTE_NODES]),
        route_cost_sats: 2,
        discovery_time_ms: 3
    }
);

sample!(
    RegisterProtocolRequest,
    (text(), text()).prop_map(|(protocol_id, handler_method)| RegisterProtocolRequest {
        protocol_id,
        handler_method
    }),
    RegisterProtocolRequest {
        protocol_id: full(MAX_PROTOCOL_ID_BYTES),
        handler_method: full(MAX_METHOD_NAME_BYTES)
    }
);
sample!(
    RegisterProtocolResponse,
    any::<bool>().prop_map(|success| RegisterProtocolResponse { success }),
    RegisterProtocolResponse { success: true }
);
sample!(
    GetRoutingStatsRequest,
    Just(GetRoutingStatsRequest {}),
    GetRoutingStatsRequest {}
);
sample!(
    MeshMode,
    prop_oneof![
        Just(MeshMode::BitcoinOnly),
        Just(MeshMode::PaymentGated),
        Just(MeshMode::Open)
    ],
    MeshMode::Open
);
sample!(
    RoutingStats,
    (any::<[usize; 3]>(), any::<u64>()).prop_map(
        |([total_routes, direct_peers, cached_routes], route_expiry_seconds)| RoutingStats {
            total_routes,
            direct_peers,
            cached_routes,
            route_expiry_seconds
        }
    ),
    RoutingStats {
        total_routes: 1,
        direct_peers: 2,
        cached_routes: 3,
        route_expiry_seconds: 4
    }
);
sample!(
    ReplayStats,
    (any::<[usize; 2]>(), any::<u64>()).prop_map(|([active_hashes, tracked_peers], expiry_seconds)| {
        ReplayStats {
            active_hashes,
            tracked_peers,
            expiry_seconds,
        }
    }),
    ReplayStats {
        active_hashes: 1,
        tracked_peers: 2,
        expiry_seconds: 3
    }
);
sample!(
    MeshStats,
    (
        any::<bool>(),
        MeshMode::any(),
        RoutingStats::any(),
        ReplayStats::any()
    )
        .prop_map(|(enabled, mode, routing, replay)| MeshStats {
            enabled,
            mode,
            routing,
            replay
        }),
    MeshStats {
        enabled: true,
        mode: MeshMode::Open,
        routing: RoutingStats::largest(),
        replay: ReplayStats::largest()
    }
);
sample!(GetNodeIdRequest, Just(GetNodeIdRequest {}), GetNodeIdRequest {});
sample!(
    GetNodeIdResponse,
    id().prop_map(|node_id| GetNodeIdResponse { node_id }),
    GetNodeIdResponse { node_id: [1; 32] }
);

/// A strategy's list may be one longer than a route.
fn cut_route(mut route: Vec<NodeId>) -> Vec<NodeId> {
    route.truncate(MAX_ROUTE_NODES);
    route
}
