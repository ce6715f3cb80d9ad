use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn id(byte: u8) -> NodeId {
    NodeId([byte; 32])
}

/// This node pays `msat` to one router, where `ways` are the routers of the ways there are.
fn pay(fairness: &mut Fairness, router: u8, msat: u64, ways: &[&[u8]]) {
    let ways: Vec<Vec<NodeId>> = ways
        .iter()
        .map(|way| way.iter().copied().map(id).collect())
        .collect();
    let earned = [(id(router), msat)];
    let carried = Carried {
        earned: &earned,
        units: msat / 10,
        ways: &ways,
    };
    fairness.note_carried(&carried, NOW);
}

fn share(fairness: &Fairness, router: u8) -> Share {
    let shares = fairness.shares(NOW);
    let entity = fairness.entity_of(&id(router));
    shares.entities.get(&entity).copied().unwrap_or_default()
}

fn surcharges(fairness: &Fairness) -> Surcharges {
    fairness.surcharges(NOW)
}

#[test]
fn share_of_who_is_the_only_way_is_nobodys_fault() {
    let mut fairness = Fairness::default();
    pay(&mut fairness, 1, 2_000_000, &[&[1]]);
    let only = share(&fairness, 1);
    assert_eq!(
        (only.observed_ppm, only.unavoidable_ppm, only.excess_ppm()),
        (1_000_000, 1_000_000, 0)
    );
    assert_eq!(surcharges(&fairness), Surcharges::default());
}

#[test]
fn of_two_providers_neither_is_left_out_however_small_the_receipts_and_however_long_ago() {
    let policy = FairnessPolicy {
        minimum_sample_msat: 1,
        ..FairnessPolicy::default()
    };
    let mut fairness = Fairness::new(policy, None);
    for _ in 0..3 {
        let carried = Carried {
            earned: &[(id(1), 5)],
            units: 1,
            ways: &[vec![id(1)], vec![id(2)]],
        };
        fairness.note_carried(&carried, NOW);
    }
    assert_eq!(share(&fairness, 1).unavoidable_ppm, 500_000);
    for hours in 0..48 {
        let later = UnixMillis(NOW.0 + hours * 3_600_000);
        let found = fairness.surcharges(later);
        assert!(found.excluded.is_empty(), "after {hours} h");
    }
}

#[test]
fn node_with_two_providers_never_excludes_either() {
    let mut fairness = Fairness::default();
    // It prefers the cheaper one as long as it is not told otherwise: seven of ten.
    pay(&mut fairness, 1, 7_000_000, &[&[1], &[2]]);
    pay(&mut fairness, 2, 3_000_000, &[&[1], &[2]]);
    assert_eq!(share(&fairness, 1).excess_ppm(), 200_000);
    let found = surcharges(&fairness);
    assert!(found.excluded.is_empty());
    assert!(
        found.by_node[&id(1)] > found.by_node[&id(2)],
        "but one becomes dearer"
    );
    // Even if all went over one: with the other alone left, the same would be said of that.
    let mut all = Fairness::default();
    pay(&mut all, 1, 10_000_000, &[&[1], &[2]]);
    assert_eq!(share(&all, 1).excess_ppm(), 500_000);
    assert!(surcharges(&all).excluded.is_empty());
}

#[test]
fn entity_of_fifty_nodes_has_one_share() {
    let ways: Vec<Vec<u8>> = (0..4).map(|way| vec![way + 100]).collect();
    let ways: Vec<&[u8]> = ways.iter().map(Vec::as_slice).collect();
    let mut fairness = Fairness::default();
    for node in 1..=50 {
        fairness.tie(id(node), Tie::Operator(id(200)));
        pay(&mut fairness, node, 100_000, &ways);
    }
    for other in 100..104 {
        pay(&mut fairness, other, 250_000, &ways);
    }
    assert_eq!(share(&fairness, 7).observed_ppm, 833_333);
    let found = surcharges(&fairness);
    assert_eq!(
        found.excluded.len(),
        50,
        "all its nodes, also those that earned little"
    );
    let apart = fairness.shares(NOW).by_fees;
    assert_eq!((apart.entities, apart.top1_ppm), (5, 833_333));
}

#[test]
fn group_of_many_entities_is_capped_as_one() {
    let mut fairness = Fairness::default();
    for node in 1..=50 {
        fairness.place(id(node), format!("9.9.{node}.1").parse().unwrap());
        pay(&mut fairness, node, 100_000, &[&[100], &[101], &[102], &[103]]);
    }
    let shares = fairness.shares(NOW);
    let group = NetworkGroup::V4([9, 9]);
    assert_eq!(shares.groups.get(&group).map(Share::excess_ppm), Some(1_000_000));
    assert_eq!(surcharges(&fairness).excluded.len(), 50);
    fairness.place(id(1), "9.8.0.1".parse().unwrap());
    fairness.forget(&id(2));
    assert_eq!(
        surcharges(&fairness).excluded.len(),
        48,
        "who moved or left is no longer there"
    );
}

#[test]
fn first_packets_make_no_monopolist() {
    let mut fairness = Fairness::default();
    let sample = fairness.policy().minimum_sample_msat;
    pay(&mut fairness, 1, sample / 100, &[&[1], &[2], &[3], &[4]]);
    assert!(share(&fairness, 1).observed_ppm <= 10_000);
    assert_eq!(surcharges(&fairness), Surcharges::default());
    pay(&mut fairness, 1, sample / 25, &[&[1], &[2], &[3], &[4]]);
    let found = surcharges(&fairness);
    let usual_msat = fairness.shares(NOW).usual_msat;
    assert!(found.excluded.is_empty() && found.by_node[&id(1)] < usual_msat);
}

#[test]
fn who_charges_nothing_and_carries_everything_is_left_out_all_the_same() {
    let mut fairness = Fairness::default();
    let ways = [vec![id(1)], vec![id(2)], vec![id(3)], vec![id(4)]];
    for (router, msat, times) in [(2, 1_000_000, 1), (1, 0, 9)] {
        let carried = Carried {
            earned: &[(id(router), msat)],
            units: times * MINIMUM_SAMPLE_UNITS,
            ways: &ways,
        };
        fairness.note_carried(&carried, NOW);
    }
    let shares = fairness.shares(NOW);
    assert!(!shares.entities.contains_key(&Entity(id(1))), "it earned nothing");
    assert_eq!(shares.entities_by_units[&Entity(id(1))].observed_ppm, 900_000);
    assert_eq!(shares.entities_by_units[&Entity(id(1))].unavoidable_ppm, 250_000);
    assert!(surcharges(&fairness).excluded.contains(&id(1)));
}

#[test]
fn shares_without_fees_are_none() {
    let mut fairness = Fairness::default();
    pay(&mut fairness, 1, 0, &[&[1]]);
    assert_eq!(share(&fairness, 1).observed_ppm, 0);
    assert_eq!(fairness.shares(NOW).usual_msat, 0);
}

#[test]
fn nodes_reached_at_one_public_address_are_one_wherever_they_say_that_they_are() {
    let mut fairness = Fairness::default();
    fairness.place(id(1), "9.9.9.9".parse().unwrap());
    fairness.place(id(2), "9.9.9.9".parse().unwrap());
    assert_ne!(
        fairness.entity_of(&id(1)),
        fairness.entity_of(&id(2)),
        "a claim ties nobody"
    );
    fairness.reached_at(id(1), "2a01:4f8:1:2::5".parse().unwrap());
    fairness.reached_at(id(2), "2a01:4f8:1:2::6".parse().unwrap());
    assert_eq!(fairness.entity_of(&id(1)), fairness.entity_of(&id(2)));
    fairness.place(id(1), "9.9.9.9".parse().unwrap());
    let group = fairness.group_of(&id(1)).unwrap();
    assert_eq!(group.to_string(), "2a01:04f8::/32", "where it was reached counts");
    fairness.reached_at(id(3), "127.0.0.1".parse().unwrap());
    fairness.reached_at(id(4), "127.0.0.1".parse().unwrap());
    assert_ne!(fairness.entity_of(&id(3)), fairness.entity_of(&id(4)));
    assert_eq!(fairness.group_of(&id(3)), None);
}

#[test]
fn who_leaves_and_comes_again_under_another_id_takes_its_share_along() {
    let ways: &[&[u8]] = &[&[1], &[100], &[101], &[102], &[103]];
    let mut fairness = Fairness::default();
    for node in 1..=5 {
        fairness.tie(id(node), Tie::Operator(id(200)));
        fairness.place(id(node), format!("9.9.{node}.1").parse().unwrap());
        pay(&mut fairness, node, 1_000_000, ways);
        fairness.forget(&id(node));
    }
    for other in 100..105 {
        pay(&mut fairness, other, 1_000_000, ways);
    }
    fairness.tie(id(6), Tie::Operator(id(200)));
    assert_eq!(
        share(&fairness, 6).observed_ppm,
        500_000,
        "what five earned that are gone"
    );
    assert_eq!(surcharges(&fairness).excluded, BTreeSet::from([id(6)]));
    fairness.place(id(7), "9.9.7.1".parse().unwrap());
    let group = fairness.group_of(&id(7)).unwrap();
    let shares = fairness.shares(NOW);
    assert_eq!(
        shares.groups[&group].observed_ppm, 500_000,
        "and their network has"
    );
    assert!(surcharges(&fairness).by_node.contains_key(&id(7)));
}
