//! Samples of quotes, sessions, deliveries and the network's state.

use super::*;

sample!(
    QuoteRouteRequest,
    (
        id(),
        any::<Option<u8>>(),
        any::<Option<u64>>(),
        any::<u64>(),
        any::<Option<u64>>(),
        ids(MAX_AVOIDED_NODES)
    )
        .prop_map(
            |(destination, max_hops, timeout_seconds, units, max_fee_msat, avoid)| QuoteRouteRequest {
                destination,
                max_hops,
                timeout_seconds,
                units,
                max_fee_msat,
                avoid
            }
        ),
    QuoteRouteRequest {
        destination: [1; 32],
        max_hops: Some(2),
        timeout_seconds: Some(3),
        units: 4,
        max_fee_msat: Some(5),
        avoid: vec![[6; 32]; MAX_AVOIDED_NODES],
    }
);

fn payee_quotes() -> impl Strategy<Value = Vec<PayeeQuote>> {
    let payee = (id(), any::<[u64; 3]>(), option::of(text())).prop_map(
        |(payee, [amount_msat, pay_by_unix_ms, redeem_by_unix_ms], invoice)| PayeeQuote {
            payee,
            amount_msat,
            invoice,
            pay_by_unix_ms,
            redeem_by_unix_ms,
        },
    );
    vec(payee, 0..=MAX_PAYEES)
}

fn largest_payees() -> Vec<PayeeQuote> {
    let payee = PayeeQuote {
        payee: [1; 32],
        amount_msat: 2,
        invoice: Some(full(MAX_INVOICE_BYTES)),
        pay_by_unix_ms: 3,
        redeem_by_unix_ms: 4,
    };
    vec![payee; MAX_PAYEES]
}

sample!(
    QuoteRouteResponse,
    prop_oneof![
        (
            any::<[u8; 16]>(),
            ids(MAX_ROUTE_NODES),
            any::<u64>(),
            payee_quotes()
        )
            .prop_map(
                |(quote_id, route, total_fee_msat, payees)| QuoteRouteResponse::Quoted(RouteQuote {
                    quote_id,
                    route: cut_route(route),
                    total_fee_msat,
                    payees
                })
            ),
        text().prop_map(|reason| QuoteRouteResponse::Refused { reason }),
    ],
    QuoteRouteResponse::Quoted(RouteQuote {
        quote_id: [1; 16],
        route: vec![[2; 32]; MAX_ROUTE_NODES],
        total_fee_msat: 3,
        payees: largest_payees(),
    })
);

sample!(
    GetQuoteRequest,
    any::<[u8; 16]>().prop_map(|quote_id| GetQuoteRequest { quote_id }),
    GetQuoteRequest { quote_id: [1; 16] }
);

sample!(
    OpenSessionRequest,
    (
        any::<[u8; 16]>(),
        option::of(PaymentProof::any()),
        any::<Option<u64>>()
    )
        .prop_map(|(quote_id, payment_proof, max_fee_msat)| OpenSessionRequest {
            quote_id,
            payment_proof,
            max_fee_msat
        }),
    OpenSessionRequest {
        quote_id: [1; 16],
        payment_proof: Some(PaymentProof::largest()),
        max_fee_msat: Some(2)
    }
);

fn session() -> impl Strategy<Value = SessionInfo> {
    (any::<[u8; 16]>(), ids(MAX_ROUTE_NODES), any::<[u64; 5]>()).prop_map(
        |(
            session_id,
            route,
            [
                expires_at_unix_ms,
                units_remaining,
                sent,
                packets_receipted,
                bytes_receipted,
            ],
        )| {
            SessionInfo {
                session_id,
                route: cut_route(route),
                expires_at_unix_ms,
                units_remaining,
                packets_sent: sent,
                packets_receipted,
                bytes_receipted,
            }
        },
    )
}

sample!(
    OpenSessionResponse,
    prop_oneof![
        session().prop_map(OpenSessionResponse::Opened),
        (text(), payee_quotes()).prop_map(|(reason, missing_payees)| OpenSessionResponse::Refused {
            reason,
            missing_payees
        }),
    ],
    OpenSessionResponse::Refused {
        reason: full(MAX_REASON_BYTES),
        missing_payees: largest_payees()
    }
);
sample!(
    CloseSessionRequest,
    any::<[u8; 16]>().prop_map(|session_id| CloseSessionRequest { session_id }),
    CloseSessionRequest { session_id: [1; 16] }
);
sample!(
    CloseSessionResponse,
    any::<(bool, u64)>().prop_map(|(closed, credit_left_msat)| CloseSessionResponse {
        closed,
        credit_left_msat
    }),
    CloseSessionResponse {
        closed: true,
        credit_left_msat: 1
    }
);
sample!(
    GetSessionRequest,
    any::<[u8; 16]>().prop_map(|session_id| GetSessionRequest { session_id }),
    GetSessionRequest { session_id: [1; 16] }
);
sample!(
    GetSessionResponse,
    option::of(session()).prop_map(|session| GetSessionResponse { session }),
    GetSessionResponse {
        session: Some(SessionInfo {
            session_id: [1; 16],
            route: vec![[2; 32]; MAX_ROUTE_NODES],
            expires_at_unix_ms: 3,
            units_remaining: 4,
            packets_sent: 5,
            packets_receipted: 6,
            bytes_receipted: 7,
        })
    }
);
sample!(
    PollDeliveriesRequest,
    (option::of(text()), any::<u32>()).prop_map(|(protocol_id, max_deliveries)| PollDeliveriesRequest {
        protocol_id,
        max_deliveries
    }),
    PollDeliveriesRequest {
        protocol_id: Some(full(MAX_PROTOCOL_ID_BYTES)),
        max_deliveries: 1
    }
);
sample!(
    Delivery,
    (
        option::of(id()),
        option::of(text()),
        bytes(MAX_PAYLOAD_BYTES),
        id(),
        any::<[u8; 16]>(),
        any::<u64>()
    )
        .prop_map(
            |(source, protocol_id, payload, packet_id, session_id, sequence)| Delivery {
                source,
                protocol_id,
                payload,
                packet_id,
                session_id,
                sequence
            }
        ),
    Delivery {
        source: Some([1; 32]),
        protocol_id: Some(full(MAX_PROTOCOL_ID_BYTES)),
        payload: vec![2; MAX_PAYLOAD_BYTES],
        packet_id: [3; 32],
        session_id: [4; 16],
        sequence: 5,
    }
);
sample!(
    PollDeliveriesResponse,
    (vec(Delivery::any(), 0..4), any::<bool>(), any::<u64>()).prop_map(|(deliveries, more, dropped)| {
        PollDeliveriesResponse {
            deliveries,
            more,
            dropped,
        }
    }),
    largest_poll()
);

/// Fifteen full packets and one that fills the answer to its last byte.
fn largest_poll() -> PollDeliveriesResponse {
    let mut poll = PollDeliveriesResponse {
        deliveries: vec![Delivery::largest(); 16],
        more: true,
        dropped: 1,
    };
    let over = encoded_len(&poll).unwrap() - MAX_POLL_RESPONSE_BYTES as u64;
    poll.deliveries[15]
        .payload
        .truncate(MAX_PAYLOAD_BYTES - usize::try_from(over).unwrap());
    poll
}

sample!(
    GetNetworkStateRequest,
    (option::of(id()), any::<u32>())
        .prop_map(|(after, max_nodes)| GetNetworkStateRequest { after, max_nodes }),
    GetNetworkStateRequest {
        after: Some([1; 32]),
        max_nodes: 2
    }
);

fn node_state() -> impl Strategy<Value = NodeState> {
    (
        id(),
        any::<Option<u8>>(),
        any::<[u64; 2]>(),
        ids(MAX_LISTED_NEIGHBOURS),
    )
        .prop_map(
            |(node_id, hops, [price_msat_per_unit, expires_at_unix_ms], neighbours)| NodeState {
                node_id,
                hops,
                price_msat_per_unit,
                expires_at_unix_ms,
                neighbours,
            },
        )
}

sample!(
    GetNetworkStateResponse,
    (
        id(),
        MeshMode::any(),
        any::<[u64; 2]>(),
        vec(node_state(), 0..5),
        option::of(id()),
        any::<[u32; 4]>()
    )
        .prop_map(
            |(
                node_id,
                mode,
                [total_nodes, entities],
                nodes,
                next,
                [top1_ppm, top5_ppm, hhi_ppm, nakamoto],
            )| {
                let concentration = Concentration {
                    entities,
                    top1_ppm,
                    top5_ppm,
                    hhi_ppm,
                    nakamoto,
                };
                GetNetworkStateResponse {
                    node_id,
                    mode,
                    total_nodes,
                    nodes,
                    next,
                    concentration,
                }
            }
        ),
    GetNetworkStateResponse {
        node_id: [1; 32],
        mode: MeshMode::Open,
        total_nodes: 2,
        nodes: vec![
            NodeState {
                node_id: [3; 32],
                hops: Some(4),
                price_msat_per_unit: 5,
                expires_at_unix_ms: 6,
                neighbours: vec![[7; 32]; MAX_LISTED_NEIGHBOURS],
            };
            MAX_NODES_PER_PAGE
        ],
        next: Some([8; 32]),
        concentration: Concentration {
            entities: 9,
            top1_ppm: 10,
            top5_ppm: 11,
            hhi_ppm: 12,
            nakamoto: 13
        },
    }
);
