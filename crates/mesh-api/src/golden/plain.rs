//! The published types as a module author would write them down with serde alone, no field attribute among them.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(super) struct SendPacketRequest {
    pub(super) destination: [u8; 32],
    pub(super) payload: Vec<u8>,
    pub(super) payment_proof: Option<PaymentProof>,
    pub(super) protocol_id: Option<String>,
    pub(super) ttl: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SendPacketResponse {
    pub(super) success: bool,
    pub(super) packet_id: [u8; 32],
    pub(super) route_length: usize,
    pub(super) estimated_cost_sats: u64,
    pub(super) error: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiscoverRouteRequest {
    pub(super) destination: [u8; 32],
    pub(super) max_hops: Option<u8>,
    pub(super) timeout_seconds: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DiscoverRouteResponse {
    pub(super) route: Option<Vec<[u8; 32]>>,
    pub(super) route_cost_sats: u64,
    pub(super) discovery_time_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RegisterProtocolRequest {
    pub(super) protocol_id: String,
    pub(super) handler_method: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RegisterProtocolResponse {
    pub(super) success: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) enum MeshMode {
    BitcoinOnly,
    PaymentGated,
    Open,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RoutingStats {
    pub(super) total_routes: usize,
    pub(super) direct_peers: usize,
    pub(super) cached_routes: usize,
    pub(super) route_expiry_seconds: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReplayStats {
    pub(super) active_hashes: usize,
    pub(super) tracked_peers: usize,
    pub(super) expiry_seconds: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct MeshStats {
    pub(super) enabled: bool,
    pub(super) mode: MeshMode,
    pub(super) routing: RoutingStats,
    pub(super) replay: ReplayStats,
}

#[derive(Serialize, Deserialize)]
pub(super) enum PaymentProof {
    Lightning {
        invoice: String,
        preimage: [u8; 32],
        amount_msats: u64,
        timestamp: u64,
        expires_at: u64,
    },
    OnChainSettlement {
        payment_request_id: String,
        tx_hash: [u8; 32],
        amount_sats: u64,
        timestamp: u64,
    },
    InstantSettlement {
        covenant_proof: Vec<u8>,
        output_index: u32,
        merkle_proof: Vec<[u8; 32]>,
        amount_sats: u64,
        timestamp: u64,
    },
    Split {
        proofs: Vec<PayeeProof>,
    },
    Session {
        session_id: [u8; 16],
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct PayeeProof {
    pub(super) payee: [u8; 32],
    pub(super) proof: PaymentProof,
}
