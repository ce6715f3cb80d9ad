//! Samples of who carries what.

use super::*;

fn spread() -> impl Strategy<Value = Spread> {
    any::<(u64, [u32; 5])>().prop_map(
        |(entities, [top1_ppm, top5_ppm, hhi_ppm, nakamoto_33, nakamoto_50])| Spread {
            entities,
            top1_ppm,
            top5_ppm,
            hhi_ppm,
            nakamoto_33,
            nakamoto_50,
        },
    )
}

fn caps() -> impl Strategy<Value = ShareCaps> {
    any::<[u32; 2]>().prop_map(|[soft_ppm, hard_ppm]| ShareCaps { soft_ppm, hard_ppm })
}

fn share() -> impl Strategy<Value = Share> {
    any::<([u32; 5], u64, bool)>().prop_map(
        |([observed_ppm, packets_ppm, unavoidable_ppm, forced_ppm, excess_ppm], surcharge_msat, left_out)| {
            Share {
                observed_ppm,
                packets_ppm,
                unavoidable_ppm,
                forced_ppm,
                excess_ppm,
                surcharge_msat,
                left_out,
            }
        },
    )
}

fn group() -> impl Strategy<Value = NetworkGroup> {
    prop_oneof![
        any::<u32>().prop_map(NetworkGroup::Asn),
        any::<[u8; 2]>().prop_map(NetworkGroup::V4),
        any::<[u8; 4]>().prop_map(NetworkGroup::V6),
    ]
}

sample!(
    GetConcentrationRequest,
    any::<u32>().prop_map(|max_shares| GetConcentrationRequest { max_shares }),
    GetConcentrationRequest { max_shares: 1 }
);
sample!(
    GetConcentrationResponse,
    (
        (spread(), spread()),
        any::<[u64; 2]>(),
        any::<u32>(),
        (caps(), caps()),
        vec((id(), any::<u32>(), share()), 0..4),
        vec((group(), any::<u32>(), share()), 0..4),
    )
        .prop_map(
            |(
                (by_fees, by_packets),
                [usual_msat, minimum_sample_msat],
                worth_at_hard_cap_percent,
                (entity_caps, group_caps),
                entities,
                groups,
            )| GetConcentrationResponse {
                by_fees,
                by_packets,
                usual_msat,
                minimum_sample_msat,
                worth_at_hard_cap_percent,
                entity_caps,
                group_caps,
                entities: entities
                    .into_iter()
                    .map(|(entity, nodes, share)| EntityShare { entity, nodes, share })
                    .collect(),
                groups: groups
                    .into_iter()
                    .map(|(group, nodes, share)| GroupShare { group, nodes, share })
                    .collect(),
            }
        ),
    GetConcentrationResponse {
        by_fees: Spread::default(),
        by_packets: Spread::default(),
        usual_msat: 1,
        minimum_sample_msat: 2,
        worth_at_hard_cap_percent: 3,
        entity_caps: ShareCaps::default(),
        group_caps: ShareCaps::default(),
        entities: vec![
            EntityShare {
                entity: [1; 32],
                nodes: 2,
                share: Share::default(),
            };
            MAX_LISTED_SHARES
        ],
        groups: vec![
            GroupShare {
                group: NetworkGroup::V6([1; 4]),
                nodes: 2,
                share: Share::default(),
            };
            MAX_LISTED_SHARES
        ],
    }
);
