use super::*;
use proptest::prelude::*;

fn quote() -> OutputQuote {
    OutputQuote {
        bill: [9; 32],
        script: vec![1, 2, 3],
        account: [1; 32],
        credit_msat: 5_000_000,
        treasury_msat: 1_000_000,
        redeem_by: UnixMillis(1),
        previous: NodeId([1; 32]),
        split: Vec::new(),
        place: 0,
    }
}

fn output(script: &[u8], sats: u64) -> TxOutput {
    TxOutput {
        script: script.to_vec(),
        sats,
    }
}

const PLACE: Place = Place {
    block: [3; 32],
    height: 7,
    depth: 2,
};

fn judged(standing: Standing, outputs: Vec<TxOutput>) -> Result<(u32, u64), DropReason> {
    judge_payment(&quote(), [5; 32], &PaymentFacts { standing, outputs })
        .map(|found| (found.outpoint.vout, found.sats))
}

#[test]
fn largest_output_to_the_quoted_script_is_the_payment() {
    let mine = &[1, 2, 3];
    let outputs = vec![
        output(&[9], 50_000),
        output(mine, 1000),
        output(mine, 6000),
        output(mine, 6000),
    ];
    assert_eq!(judged(Standing::Confirmed(PLACE), outputs), Ok((2, 6000)));
}

#[test]
fn each_crime_has_its_own_reason() {
    let enough = || vec![output(&[1, 2, 3], 6000)];
    let confirmed = Standing::Confirmed(PLACE);
    assert_eq!(
        judged(Standing::Unconfirmed, enough()),
        Err(DropReason::Unconfirmed)
    );
    assert_eq!(
        judged(Standing::Replaced, enough()),
        Err(DropReason::FundingSpent)
    );
    assert_eq!(
        judged(confirmed, vec![output(&[1, 2], 6000)]),
        Err(DropReason::OutputMismatch)
    );
    assert_eq!(judged(confirmed, Vec::new()), Err(DropReason::OutputMismatch));
    assert_eq!(
        judged(confirmed, vec![output(&[1, 2, 3], 5999)]),
        Err(DropReason::Underpaid)
    );
}

#[test]
fn bill_is_named_after_the_terms_the_account_key_and_the_script() {
    let names = [
        bill_id(&[1; 32], &[1]),
        bill_id(&[2; 32], &[1]),
        bill_id(&[1; 32], &[2]),
    ];
    assert!(names[0] != names[1] && names[0] != names[2]);
    let shown = |id: String| PaymentProof::OnChainSettlement {
        payment_request_id: id,
        tx_hash: [0; 32],
        amount_sats: 0,
        timestamp: 0,
    };
    assert_eq!(bill_of(&shown(hex::encode(names[0]))), Some(names[0]));
    for nonsense in ["", "00", "zz", &"0".repeat(63), &"0".repeat(66)] {
        assert_eq!(bill_of(&shown(nonsense.to_owned())), None);
    }
}

#[test]
fn outpoint_is_shown_as_people_write_it_and_remembered_hashed() {
    let mut txid = [0; 32];
    txid[0] = 0xab;
    let first = OutPoint { txid, vout: 0 };
    let second = OutPoint { txid, vout: 1 };
    assert!(first.to_string().ends_with("ab:0"));
    assert_ne!(first.key(), second.key());
}

fn policy() -> ChainPolicy {
    let step = |up_to_sats, blocks| DepthStep { up_to_sats, blocks };
    ChainPolicy {
        steps: vec![step(1000, 1), step(5000, 3)],
        ctv_enforced_from: Some(10),
        watch_every: Duration::from_secs(1),
    }
}

#[test]
fn more_at_stake_asks_for_more_depth_and_beyond_the_last_cap_for_finality() {
    let depths = [1, 1000, 1001, 5000, 5001].map(|sats| policy().depth_at_stake(sats));
    assert_eq!(depths, [1, 1, 3, 3, FINAL_DEPTH]);
    assert_eq!(policy().depth_for(5001), None);
}

#[test]
fn covenants_are_enforced_from_the_configured_height_on_and_never_by_default() {
    assert!(!policy().enforces_ctv(9) && policy().enforces_ctv(10));
    let never = ChainPolicy {
        ctv_enforced_from: None,
        ..policy()
    };
    assert!(!never.enforces_ctv(u32::MAX));
}

#[test]
fn names_of_methods_come_back() {
    for method in [
        PaymentMethod::Lightning,
        PaymentMethod::OnChain,
        PaymentMethod::Ctv,
    ] {
        assert_eq!(method.as_str().parse::<PaymentMethod>(), Ok(method));
    }
    assert!("cash".parse::<PaymentMethod>().is_err());
}

proptest! {
    #[test]
    fn totals_on_the_chain_split_into_whole_satoshis_of_exactly_sixty_thirty_ten(
        times in 1u64..1 << 30,
        routers in 0usize..10,
    ) {
        let total = times * crate::fees::total_step_msat(routers);
        let split = crate::fees::Split::of(total, routers).unwrap();
        for place in 0..=routers {
            prop_assert_eq!(split.payment(place).unwrap() % MSAT_PER_SAT, 0);
            prop_assert_eq!(split.share(place).unwrap(), split.share(if place == routers { routers } else { 0 }).unwrap());
        }
        prop_assert_eq!(split.treasury_msat() * 10, total);
        if routers > 0 {
            prop_assert_eq!(split.routers_msat() * 10, 3 * total);
            prop_assert_eq!(split.destination_msat() * 10, 6 * total);
        }
    }
}
