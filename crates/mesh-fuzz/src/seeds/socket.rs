//! What goes over the API's socket, and the calls that came with it.

use mesh_api::frames::{Failure, FromMesh, ToMesh, VERSION};
use mesh_api::{
    AwaitDeliveriesRequest, AwaitNetworkChangeRequest, AwaitNetworkChangeResponse, Delivery, EntityShare,
    GetConcentrationRequest, GetConcentrationResponse, GroupShare, Method, NetworkGroup, Share, ShareCaps,
    Spread, UnregisterProtocolRequest, UnregisterProtocolResponse, encode,
};

use super::Seeds;
use super::local::message;

pub(super) fn add(seeds: &mut Seeds) {
    calls(seeds);
    concentration(seeds);
    to_mesh(seeds);
    from_mesh(seeds);
}

fn calls(seeds: &mut Seeds) {
    let give_up = UnregisterProtocolRequest {
        protocol_id: "chat".to_owned(),
    };
    let method = Method::UnregisterProtocolHandler;
    message(seeds, method, false, "unregister protocol", &give_up);
    let given_up = UnregisterProtocolResponse { success: true };
    message(seeds, method, true, "unregistered protocol", &given_up);
    let wait = AwaitDeliveriesRequest {
        protocol_id: Some("chat".to_owned()),
        max_deliveries: 64,
        timeout_seconds: 30,
    };
    message(seeds, Method::AwaitDeliveries, false, "await deliveries", &wait);
    let wait = AwaitNetworkChangeRequest {
        generation: 7,
        timeout_seconds: 30,
    };
    let method = Method::AwaitNetworkChange;
    message(seeds, method, false, "await network change", &wait);
    let change = AwaitNetworkChangeResponse {
        generation: 8,
        changed: true,
        neighbours: 2,
        announced_nodes: 3,
        reachable_nodes: 4,
    };
    message(seeds, method, true, "network change", &change);
}

fn concentration(seeds: &mut Seeds) {
    let method = Method::GetConcentration;
    let asked = GetConcentrationRequest { max_shares: 256 };
    message(seeds, method, false, "get concentration", &asked);
    let share = Share {
        observed_ppm: 400_000,
        packets_ppm: 450_000,
        unavoidable_ppm: 300_000,
        forced_ppm: 200_000,
        excess_ppm: 100_000,
        surcharge_msat: 5,
        left_out: true,
    };
    let groups = [
        NetworkGroup::Asn(64_500),
        NetworkGroup::V4([9, 1]),
        NetworkGroup::V6([0x20, 1, 0x0d, 0xb8]),
    ];
    let told = GetConcentrationResponse {
        by_fees: Spread {
            entities: 3,
            top1_ppm: 400_000,
            top5_ppm: 1_000_000,
            hhi_ppm: 340_000,
            nakamoto_33: 1,
            nakamoto_50: 2,
        },
        by_packets: Spread::default(),
        usual_msat: 30_000,
        minimum_sample_msat: 1_000_000,
        worth_at_hard_cap_percent: 400,
        entity_caps: ShareCaps {
            soft_ppm: 100_000,
            hard_ppm: 300_000,
        },
        group_caps: ShareCaps::default(),
        entities: vec![EntityShare {
            entity: [1; 32],
            nodes: 2,
            share,
        }],
        groups: groups
            .map(|group| GroupShare {
                group,
                nodes: 1,
                share,
            })
            .to_vec(),
    };
    message(seeds, method, true, "concentration", &told);
}

fn to_mesh(seeds: &mut Seeds) {
    let messages = [
        (
            "hello",
            ToMesh::Hello {
                version: VERSION,
                name: "chat".to_owned(),
                takes_deliveries: true,
            },
        ),
        (
            "call",
            ToMesh::Call {
                id: 7,
                method: "get_node_id".to_owned(),
                payload: Vec::new(),
            },
        ),
        ("handled", ToMesh::Handled { id: 7, error: None }),
        (
            "not handled",
            ToMesh::Handled {
                id: 7,
                error: Some("busy".to_owned()),
            },
        ),
    ];
    for (name, message) in messages {
        seeds.chosen("socket", name, 0, encode(&message).unwrap());
    }
}

fn from_mesh(seeds: &mut Seeds) {
    let delivery = Delivery {
        source: Some([1; 32]),
        protocol_id: Some("chat".to_owned()),
        payload: b"hello".to_vec(),
        packet_id: [2; 32],
        session_id: [3; 16],
        sequence: 4,
    };
    let messages = [
        (
            "welcome",
            FromMesh::Welcome {
                version: VERSION,
                node_id: [5; 32],
            },
        ),
        (
            "answered",
            FromMesh::Answered {
                id: 7,
                payload: vec![6; 32],
            },
        ),
        (
            "failed",
            FromMesh::Failed {
                id: 7,
                failure: Failure::Busy,
                reason: "later".to_owned(),
            },
        ),
        (
            "deliver",
            FromMesh::Deliver {
                id: 1,
                handler_method: "on_chat".to_owned(),
                delivery,
            },
        ),
        (
            "goodbye",
            FromMesh::Goodbye {
                reason: "no hello came".to_owned(),
            },
        ),
    ];
    for (name, message) in messages {
        seeds.chosen("socket", name, 1, encode(&message).unwrap());
    }
}
