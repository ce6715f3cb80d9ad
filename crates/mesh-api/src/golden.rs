//! The layout as committed bytes, compared with the real bincode 1.3.
//!
//! A change here is a change that breaks every module built before it: make a new method instead.

mod later;
mod plain;

use serde::Serialize;

use crate::codec::{Wire, decode, encode};
use crate::frames::{Failure, FromMesh, ToMesh};
use crate::*;

/// The committed bytes are what we write, what bincode writes for our type, and what we read as the value.
fn is<T: Wire + PartialEq + std::fmt::Debug>(value: T, committed: &str) -> Vec<u8> {
    let committed = from_hex(committed);
    let written = encode(&value).unwrap();
    assert_eq!(hex::encode(&written), hex::encode(&committed), "{}", T::NAME);
    assert_eq!(
        bincode::serialize(&value).unwrap(),
        committed,
        "{} in bincode",
        T::NAME
    );
    assert_eq!(decode::<T>(&committed).unwrap(), value);
    committed
}

/// As [`is`], for a published type: the real bincode also reads and writes the same bytes for the plain struct.
fn is_also<T, P>(value: T, plain: P, committed: &str)
where
    T: Wire + PartialEq + std::fmt::Debug,
    P: Serialize + serde::de::DeserializeOwned,
{
    let committed = is(value, committed);
    assert_eq!(
        bincode::serialize(&plain).unwrap(),
        committed,
        "{} as a plain struct",
        T::NAME
    );
    let read: P = bincode::deserialize(&committed).unwrap();
    assert_eq!(bincode::serialize(&read).unwrap(), committed);
}

/// Spaces part the fields; `xx*n` is the byte xx n times.
fn from_hex(text: &str) -> Vec<u8> {
    let field = |field: &str| match field.split_once('*') {
        Some((byte, times)) => hex::decode(byte).unwrap().repeat(times.parse().unwrap()),
        None => hex::decode(field).unwrap(),
    };
    text.split_whitespace().flat_map(field).collect()
}

#[test]
fn send_packet() {
    is_also(
        SendPacketRequest {
            destination: [0x11; 32],
            payload: vec![1, 2, 3],
            payment_proof: Some(PaymentProof::Session {
                session_id: [0x22; 16],
            }),
            protocol_id: Some("chat".into()),
            ttl: Some(60),
        },
        plain::SendPacketRequest {
            destination: [0x11; 32],
            payload: vec![1, 2, 3],
            payment_proof: Some(plain::PaymentProof::Session {
                session_id: [0x22; 16],
            }),
            protocol_id: Some("chat".into()),
            ttl: Some(60),
        },
        "11*32 0300000000000000 010203 01 04000000 22*16 01 0400000000000000 63686174 01 3c00000000000000",
    );
    is_also(
        SendPacketRequest {
            destination: [0x11; 32],
            payload: vec![],
            payment_proof: None,
            protocol_id: None,
            ttl: None,
        },
        plain::SendPacketRequest {
            destination: [0x11; 32],
            payload: vec![],
            payment_proof: None,
            protocol_id: None,
            ttl: None,
        },
        "11*32 0000000000000000 00 00 00",
    );
    is_also(
        SendPacketResponse {
            success: true,
            packet_id: [0x33; 32],
            route_length: 3,
            estimated_cost_sats: 258,
            error: None,
        },
        plain::SendPacketResponse {
            success: true,
            packet_id: [0x33; 32],
            route_length: 3,
            estimated_cost_sats: 258,
            error: None,
        },
        "01 33*32 0300000000000000 0201000000000000 00",
    );
    is_also(
        SendPacketResponse::refused("no way"),
        plain::SendPacketResponse {
            success: false,
            packet_id: [0; 32],
            route_length: 0,
            estimated_cost_sats: 0,
            error: Some("no way".into()),
        },
        "00 00*32 0000000000000000 0000000000000000 01 0600000000000000 6e6f20776179",
    );
    let words = "payment required: quote 01010101010101010101010101010101: why";
    assert_eq!(
        SendPacketResponse::payment_required([1; 16], "why"),
        SendPacketResponse::refused(words),
        "modules read these words"
    );
}

#[test]
fn discover_route() {
    is_also(
        DiscoverRouteRequest {
            destination: [0x11; 32],
            max_hops: Some(10),
            timeout_seconds: Some(30),
        },
        plain::DiscoverRouteRequest {
            destination: [0x11; 32],
            max_hops: Some(10),
            timeout_seconds: Some(30),
        },
        "11*32 01 0a 01 1e00000000000000",
    );
    is_also(
        DiscoverRouteResponse {
            route: Some(vec![[0x11; 32], [0x22; 32]]),
            route_cost_sats: 5,
            discovery_time_ms: 1000,
        },
        plain::DiscoverRouteResponse {
            route: Some(vec![[0x11; 32], [0x22; 32]]),
            route_cost_sats: 5,
            discovery_time_ms: 1000,
        },
        "01 0200000000000000 11*32 22*32 0500000000000000 e803000000000000",
    );
}

#[test]
fn register_protocol_handler() {
    is_also(
        RegisterProtocolRequest {
            protocol_id: "chat".into(),
            handler_method: "on_chat".into(),
        },
        plain::RegisterProtocolRequest {
            protocol_id: "chat".into(),
            handler_method: "on_chat".into(),
        },
        "0400000000000000 63686174 0700000000000000 6f6e5f63686174",
    );
    is_also(
        RegisterProtocolResponse { success: true },
        plain::RegisterProtocolResponse { success: true },
        "01",
    );
}

#[test]
fn statistics_and_node_id() {
    is(GetRoutingStatsRequest {}, "");
    is(GetNodeIdRequest {}, "");
    is(GetNodeIdResponse { node_id: [0x11; 32] }, "11*32");
    is_also(
        MeshStats {
            enabled: true,
            mode: MeshMode::PaymentGated,
            routing: RoutingStats {
                total_routes: 1,
                direct_peers: 2,
                cached_routes: 3,
                route_expiry_seconds: 3600,
            },
            replay: ReplayStats {
                active_hashes: 4,
                tracked_peers: 5,
                expiry_seconds: 86_400,
            },
        },
        plain::MeshStats {
            enabled: true,
            mode: plain::MeshMode::PaymentGated,
            routing: plain::RoutingStats {
                total_routes: 1,
                direct_peers: 2,
                cached_routes: 3,
                route_expiry_seconds: 3600,
            },
            replay: plain::ReplayStats {
                active_hashes: 4,
                tracked_peers: 5,
                expiry_seconds: 86_400,
            },
        },
        "01 01000000
         0100000000000000 0200000000000000 0300000000000000 100e000000000000
         0400000000000000 0500000000000000 8051010000000000",
    );
    is_also(MeshMode::BitcoinOnly, plain::MeshMode::BitcoinOnly, "00000000");
    is_also(MeshMode::PaymentGated, plain::MeshMode::PaymentGated, "01000000");
    is_also(MeshMode::Open, plain::MeshMode::Open, "02000000");
    is(
        RoutingStats {
            total_routes: usize::MAX,
            direct_peers: 0,
            cached_routes: 0,
            route_expiry_seconds: 1,
        },
        if usize::BITS == 64 {
            "ff*8 00*16 0100000000000000"
        } else {
            "ffffffff00000000 00*16 0100000000000000"
        },
    );
    is(
        ReplayStats {
            active_hashes: 1,
            tracked_peers: 2,
            expiry_seconds: 3,
        },
        "0100000000000000 0200000000000000 0300000000000000",
    );
}

#[test]
fn payment_proofs() {
    is_also(
        PaymentProof::Lightning {
            invoice: "lnbc1".into(),
            preimage: [0x22; 32],
            amount_msats: 1000,
            timestamp: 1,
            expires_at: 2,
        },
        plain::PaymentProof::Lightning {
            invoice: "lnbc1".into(),
            preimage: [0x22; 32],
            amount_msats: 1000,
            timestamp: 1,
            expires_at: 2,
        },
        "00000000 0500000000000000 6c6e626331 22*32 e803000000000000 0100000000000000 0200000000000000",
    );
    is_also(
        PaymentProof::OnChainSettlement {
            payment_request_id: "pr".into(),
            tx_hash: [0x33; 32],
            amount_sats: 7,
            timestamp: 1,
        },
        plain::PaymentProof::OnChainSettlement {
            payment_request_id: "pr".into(),
            tx_hash: [0x33; 32],
            amount_sats: 7,
            timestamp: 1,
        },
        "01000000 0200000000000000 7072 33*32 0700000000000000 0100000000000000",
    );
    is_also(
        PaymentProof::InstantSettlement {
            covenant_proof: vec![0xaa, 0xbb],
            output_index: 1,
            merkle_proof: vec![[0x44; 32]],
            amount_sats: 7,
            timestamp: 1,
        },
        plain::PaymentProof::InstantSettlement {
            covenant_proof: vec![0xaa, 0xbb],
            output_index: 1,
            merkle_proof: vec![[0x44; 32]],
            amount_sats: 7,
            timestamp: 1,
        },
        "02000000 0200000000000000 aabb 01000000 0100000000000000 44*32 0700000000000000 0100000000000000",
    );
    is_also(
        PaymentProof::Session {
            session_id: [0x22; 16],
        },
        plain::PaymentProof::Session {
            session_id: [0x22; 16],
        },
        "04000000 22*16",
    );
}

/// Inside a split every kind of proof is read by a second description of the fields; its order is pinned here too.
#[test]
fn split_payment_proof() {
    let ours = [
        PaymentProof::Lightning {
            invoice: "ln".into(),
            preimage: [0x22; 32],
            amount_msats: 3,
            timestamp: 4,
            expires_at: 5,
        },
        PaymentProof::OnChainSettlement {
            payment_request_id: "pr".into(),
            tx_hash: [0x33; 32],
            amount_sats: 7,
            timestamp: 1,
        },
        PaymentProof::InstantSettlement {
            covenant_proof: vec![0xaa],
            output_index: 1,
            merkle_proof: vec![],
            amount_sats: 7,
            timestamp: 1,
        },
        PaymentProof::Session {
            session_id: [0x55; 16],
        },
    ];
    let plainly = [
        plain::PaymentProof::Lightning {
            invoice: "ln".into(),
            preimage: [0x22; 32],
            amount_msats: 3,
            timestamp: 4,
            expires_at: 5,
        },
        plain::PaymentProof::OnChainSettlement {
            payment_request_id: "pr".into(),
            tx_hash: [0x33; 32],
            amount_sats: 7,
            timestamp: 1,
        },
        plain::PaymentProof::InstantSettlement {
            covenant_proof: vec![0xaa],
            output_index: 1,
            merkle_proof: vec![],
            amount_sats: 7,
            timestamp: 1,
        },
        plain::PaymentProof::Session {
            session_id: [0x55; 16],
        },
    ];
    is_also(
        PaymentProof::Split {
            proofs: ours
                .into_iter()
                .map(|proof| PayeeProof {
                    payee: [0x66; 32],
                    proof,
                })
                .collect(),
        },
        plain::PaymentProof::Split {
            proofs: plainly
                .into_iter()
                .map(|proof| plain::PayeeProof {
                    payee: [0x66; 32],
                    proof,
                })
                .collect(),
        },
        "03000000 0400000000000000
         66*32 00000000 0200000000000000 6c6e 22*32 0300000000000000 0400000000000000 0500000000000000
         66*32 01000000 0200000000000000 7072 33*32 0700000000000000 0100000000000000
         66*32 02000000 0100000000000000 aa 01000000 0000000000000000 0700000000000000 0100000000000000
         66*32 04000000 55*16",
    );
}

#[test]
fn quotes() {
    is(
        QuoteRouteRequest {
            destination: [0x11; 32],
            max_hops: Some(4),
            timeout_seconds: None,
            units: 256,
            max_fee_msat: Some(9),
            avoid: vec![[0x77; 32]],
            method: PaymentMethod::OnChain,
        },
        "11*32 01 04 00 0001000000000000 01 0900000000000000 0100000000000000 77*32 01000000",
    );
    is(
        QuoteRouteResponse::Quoted(RouteQuote {
            quote_id: [0x88; 16],
            route: vec![[0x11; 32]],
            total_fee_msat: 2000,
            payees: vec![payee_quote()],
        }),
        "00000000 88*16 0100000000000000 11*32 d007000000000000 0100000000000000
         66*32 d007000000000000 01 0200000000000000 6c6e 0100000000000000 0200000000000000 00",
    );
    is(
        QuoteRouteResponse::Quoted(RouteQuote {
            quote_id: [0x88; 16],
            route: vec![],
            total_fee_msat: 1,
            payees: vec![PayeeQuote {
                invoice: None,
                output: Some(QuotedOutput {
                    payment_request_id: "ab".into(),
                    script: vec![0x51, 0x52],
                    confirmations: 3,
                }),
                ..payee_quote()
            }],
        }),
        "00000000 88*16 0000000000000000 0100000000000000 0100000000000000
         66*32 d007000000000000 00 0100000000000000 0200000000000000
         01 0200000000000000 6162 0200000000000000 5152 03000000",
    );
    is(
        QuoteRouteResponse::Refused { reason: "far".into() },
        "01000000 0300000000000000 666172",
    );
    is(GetQuoteRequest { quote_id: [0x88; 16] }, "88*16");
}

fn payee_quote() -> PayeeQuote {
    PayeeQuote {
        payee: [0x66; 32],
        amount_msat: 2000,
        invoice: Some("ln".into()),
        pay_by_unix_ms: 1,
        redeem_by_unix_ms: 2,
        output: None,
    }
}

#[test]
fn sessions() {
    is(
        OpenSessionRequest {
            quote_id: [0x88; 16],
            payment_proof: Some(PaymentProof::Split { proofs: vec![] }),
            max_fee_msat: Some(9),
        },
        "88*16 01 03000000 0000000000000000 01 0900000000000000",
    );
    let session = || SessionInfo {
        session_id: [0x99; 16],
        route: vec![[0x11; 32]],
        expires_at_unix_ms: 1,
        units_remaining: 2,
        packets_sent: 3,
        packets_receipted: 4,
        bytes_receipted: 5,
    };
    is(
        OpenSessionResponse::Opened(session()),
        "00000000 99*16 0100000000000000 11*32 0100000000000000 0200000000000000 0300000000000000
         0400000000000000 0500000000000000",
    );
    is(
        OpenSessionResponse::Refused {
            reason: "pay".into(),
            missing_payees: vec![payee_quote()],
        },
        "01000000 0300000000000000 706179 0100000000000000
         66*32 d007000000000000 01 0200000000000000 6c6e 0100000000000000 0200000000000000 00",
    );
    is(
        CloseSessionRequest {
            session_id: [0x99; 16],
        },
        "99*16",
    );
    is(
        CloseSessionResponse {
            closed: true,
            credit_left_msat: 258,
        },
        "01 0201000000000000",
    );
    is(
        GetSessionRequest {
            session_id: [0x99; 16],
        },
        "99*16",
    );
    is(GetSessionResponse { session: None }, "00");
    is(
        GetSessionResponse {
            session: Some(session()),
        },
        "01 99*16 0100000000000000 11*32 0100000000000000 0200000000000000 0300000000000000
         0400000000000000 0500000000000000",
    );
}

#[test]
fn deliveries() {
    let delivery = || Delivery {
        source: Some([0x11; 32]),
        protocol_id: Some("chat".into()),
        payload: vec![1, 2],
        packet_id: [0x33; 32],
        session_id: [0x99; 16],
        sequence: 7,
    };
    let bytes = "01 11*32 01 0400000000000000 63686174 0200000000000000 0102 33*32 99*16 0700000000000000";
    is(delivery(), bytes);
    is(
        PollDeliveriesRequest {
            protocol_id: None,
            max_deliveries: 64,
        },
        "00 40000000",
    );
    is(
        PollDeliveriesResponse {
            deliveries: vec![delivery()],
            more: true,
            dropped: 2,
        },
        &format!("0100000000000000 {bytes} 01 0200000000000000"),
    );
}

#[test]
fn network_state() {
    is(
        GetNetworkStateRequest {
            after: Some([0x11; 32]),
            max_nodes: 3,
        },
        "01 11*32 03000000",
    );
    is(
        GetNetworkStateResponse {
            node_id: [0x11; 32],
            mode: MeshMode::Open,
            total_nodes: 1,
            nodes: vec![NodeState {
                node_id: [0x22; 32],
                hops: Some(2),
                price_msat_per_unit: 5,
                expires_at_unix_ms: 6,
                neighbours: vec![[0x33; 32]],
            }],
            next: None,
            concentration: Concentration {
                entities: 1,
                top1_ppm: 2,
                top5_ppm: 3,
                hhi_ppm: 4,
                nakamoto: 5,
            },
        },
        "11*32 02000000 0100000000000000 0100000000000000
         22*32 01 02 0500000000000000 0600000000000000 0100000000000000 33*32
         00 0100000000000000 02000000 03000000 04000000 05000000",
    );
}
