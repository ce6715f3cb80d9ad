//! The layouts that came later: what waits, and what goes over the socket.

use super::*;

#[test]
fn giving_up_and_waiting() {
    is(
        UnregisterProtocolRequest {
            protocol_id: "chat".into(),
        },
        "0400000000000000 63686174",
    );
    is(UnregisterProtocolResponse { success: true }, "01");
    is(
        AwaitDeliveriesRequest {
            protocol_id: Some("chat".into()),
            max_deliveries: 64,
            timeout_seconds: 30,
        },
        "01 0400000000000000 63686174 40000000 1e00000000000000",
    );
    is(
        AwaitNetworkChangeRequest {
            generation: 1,
            timeout_seconds: 30,
        },
        "0100000000000000 1e00000000000000",
    );
    is(
        AwaitNetworkChangeResponse {
            generation: 1,
            changed: true,
            neighbours: 2,
            announced_nodes: 3,
            reachable_nodes: 4,
        },
        "0100000000000000 01 0200000000000000 0300000000000000 0400000000000000",
    );
}

#[test]
fn concentration() {
    is(GetConcentrationRequest { max_shares: 3 }, "03000000");
    let spread = |entities| Spread {
        entities,
        top1_ppm: 1,
        top5_ppm: 2,
        hhi_ppm: 3,
        nakamoto_33: 4,
        nakamoto_50: 5,
    };
    let share = Share {
        observed_ppm: 1,
        packets_ppm: 6,
        unavoidable_ppm: 2,
        forced_ppm: 3,
        excess_ppm: 4,
        surcharge_msat: 5,
        left_out: true,
    };
    let group = |group| GroupShare {
        group,
        nodes: 8,
        share,
    };
    let spread_bytes = "01000000 02000000 03000000 04000000 05000000";
    let share_bytes = "01000000 06000000 02000000 03000000 04000000 0500000000000000 01";
    is(
        GetConcentrationResponse {
            by_fees: spread(6),
            by_packets: spread(7),
            usual_msat: 9,
            minimum_sample_msat: 10,
            worth_at_hard_cap_percent: 11,
            entity_caps: ShareCaps {
                soft_ppm: 12,
                hard_ppm: 13,
            },
            group_caps: ShareCaps {
                soft_ppm: 14,
                hard_ppm: 15,
            },
            entities: vec![EntityShare {
                entity: [0x11; 32],
                nodes: 2,
                share,
            }],
            groups: vec![
                group(NetworkGroup::Asn(3)),
                group(NetworkGroup::V4([9, 1])),
                group(NetworkGroup::V6([0x20, 1, 0x0d, 0xb8])),
            ],
        },
        &format!(
            "0600000000000000 {spread_bytes} 0700000000000000 {spread_bytes} 0900000000000000 0a00000000000000 0b000000
             0c000000 0d000000 0e000000 0f000000
             0100000000000000 11*32 02000000 {share_bytes}
             0300000000000000 00000000 03000000 08000000 {share_bytes} 01000000 09 01 08000000 {share_bytes}
             02000000 20 01 0d b8 08000000 {share_bytes}"
        ),
    );
}

#[test]
fn frames_to_the_mesh() {
    is(
        ToMesh::Hello {
            version: 1,
            name: "chat".into(),
            takes_deliveries: true,
        },
        "00000000 01000000 0400000000000000 63686174 01",
    );
    is(
        ToMesh::Call {
            id: 7,
            method: "get".into(),
            payload: vec![1, 2],
        },
        "01000000 0700000000000000 0300000000000000 676574 0200000000000000 0102",
    );
    is(
        ToMesh::Handled { id: 7, error: None },
        "02000000 0700000000000000 00",
    );
    is(
        ToMesh::Handled {
            id: 7,
            error: Some("no".into()),
        },
        "02000000 0700000000000000 01 0200000000000000 6e6f",
    );
}

#[test]
fn frames_from_the_mesh() {
    is(
        FromMesh::Welcome {
            version: 1,
            node_id: [0x11; 32],
        },
        "00000000 01000000 11*32",
    );
    is(
        FromMesh::Answered {
            id: 7,
            payload: vec![1, 2],
        },
        "01000000 0700000000000000 0200000000000000 0102",
    );
    is(
        FromMesh::Failed {
            id: 7,
            failure: Failure::Refused,
            reason: "no".into(),
        },
        "02000000 0700000000000000 00000000 0200000000000000 6e6f",
    );
    is(
        FromMesh::Failed {
            id: 7,
            failure: Failure::Busy,
            reason: String::new(),
        },
        "02000000 0700000000000000 01000000 0000000000000000",
    );
    is(
        FromMesh::Deliver {
            id: 7,
            handler_method: "on".into(),
            delivery: Delivery {
                source: None,
                protocol_id: Some("chat".into()),
                payload: vec![9],
                packet_id: [0x22; 32],
                session_id: [0x33; 16],
                sequence: 4,
            },
        },
        "03000000 0700000000000000 0200000000000000 6f6e
         00 01 0400000000000000 63686174 0100000000000000 09 22*32 33*16 0400000000000000",
    );
    is(
        FromMesh::Goodbye { reason: "bye".into() },
        "04000000 0300000000000000 627965",
    );
}
