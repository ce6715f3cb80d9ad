#![allow(clippy::panic)] // a test that cannot go on says where

use super::*;
use crate::chain::Place;
use crate::identity::NodeId;
use crate::time::UnixMillis;
use proptest::prelude::*;

/// The published hashes of BIP-119, if they are at hand: they belong to the BIP's repository and are not copied here.
fn published() -> Option<serde_json::Value> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = match std::env::var_os("MESH_BIP119") {
        Some(folder) => Some(std::path::PathBuf::from(folder).join("ctvhash.json")),
        None => here
            .ancestors()
            .map(|above| above.join("shared/bip119/ctvhash.json"))
            .find(|file| file.exists()),
    };
    let Some(file) = file else {
        println!(
            "skipped: set MESH_BIP119 to a folder that has ctvhash.json of BIP-119 to compare its hashes"
        );
        return None;
    };
    Some(serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
}

#[test]
fn every_published_hash_of_bip_119_comes_out() {
    let Some(published) = published() else { return };
    let mut compared = 0;
    // The first entry says what the others are.
    for case in published
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case.is_object())
    {
        let bytes = hex::decode(case["hex_tx"].as_str().unwrap()).unwrap();
        let transaction: Transaction = deserialize(&bytes).unwrap();
        let places = case["spend_index"].as_array().unwrap();
        for (place, expected) in places.iter().zip(case["result"].as_array().unwrap()) {
            let place = u32::try_from(place.as_u64().unwrap()).unwrap();
            let hash = template_hash(&transaction, place);
            assert_eq!(hex::encode(hash), expected.as_str().unwrap(), "{}", case["desc"]);
            compared += 1;
        }
    }
    assert_eq!(compared, 400);
}

const FORMS: [CovenantForm; 3] = [CovenantForm::Bare, CovenantForm::Wsh, CovenantForm::Taproot];
const FUNDING: OutPoint = OutPoint {
    txid: [7; 32],
    vout: 1,
};

fn script(byte: u8) -> Vec<u8> {
    [&[0, 20], [byte; 20].as_slice()].concat()
}

fn outputs() -> Vec<TxOutput> {
    let output = |byte, sats| TxOutput {
        script: script(byte),
        sats,
    };
    vec![output(1, 3000), output(2, 7000)]
}

/// The quote of the second of two payees.
fn quote() -> OutputQuote {
    OutputQuote {
        bill: [9; 32],
        script: script(2),
        account: [1; 32],
        credit_msat: 6_000_000,
        treasury_msat: 1_000_000,
        redeem_by: UnixMillis(1),
        previous: NodeId([1; 32]),
        split: vec![3000, 7000],
        place: 1,
    }
}

fn policy(ctv_enforced_from: Option<u32>) -> ChainPolicy {
    ChainPolicy {
        steps: Vec::new(),
        ctv_enforced_from,
        watch_every: std::time::Duration::from_secs(1),
    }
}

const PLACE: Place = Place {
    block: [3; 32],
    height: 100,
    depth: 6,
};

fn funded(covenant: &Covenant) -> CovenantFacts {
    let output = TxOutput {
        script: covenant.script().unwrap(),
        sats: covenant.least_sats(1000).unwrap(),
    };
    CovenantFacts {
        funding: FundingFacts::Unspent(output, PLACE),
        settling: Standing::Unconfirmed,
        fee_floor: 1000,
    }
}

fn shown(covenant: &Covenant) -> PaymentProof {
    covenant.proof([9; 32], &FUNDING, 0).unwrap()
}

/// What comes of a covenant on a chain that enforces it, after `change`.
fn judged(form: CovenantForm, change: impl FnOnce(&mut Covenant)) -> Result<Found, DropReason> {
    let mut covenant = Covenant::paying(form, &outputs());
    change(&mut covenant);
    let proof = shown(&covenant);
    question(&proof, &quote())?;
    judge(&proof, &quote(), &policy(Some(100)), &funded(&covenant))
}

#[test]
fn covenant_in_every_form_is_money_where_the_chain_enforces_it() {
    for form in FORMS {
        let found = judged(form, |_| {}).unwrap();
        assert_eq!((found.outpoint, found.sats, found.place), (FUNDING, 7000, PLACE));
        let WatchedAs::Bound {
            settling,
            transaction,
        } = found.watched_as
        else {
            panic!("not settled yet")
        };
        let transaction: Transaction = deserialize(&transaction).unwrap();
        assert_eq!(transaction.compute_txid().to_byte_array(), settling);
        assert_eq!(transaction.input[0].previous_output.vout, FUNDING.vout);
    }
}

#[test]
fn where_the_chain_does_not_enforce_it_only_a_settled_covenant_is_money() {
    for enforced in [None, Some(101)] {
        let covenant = Covenant::paying(CovenantForm::Wsh, &outputs());
        let proof = shown(&covenant);
        let mut facts = funded(&covenant);
        let open = judge(&proof, &quote(), &policy(enforced), &facts);
        assert_eq!(open, Err(DropReason::CtvNotEnforced));
        facts.settling = Standing::Confirmed(PLACE);
        // Whatever became of the funding: it was spent by this very transaction.
        facts.funding = FundingFacts::Gone;
        let settled = judge(&proof, &quote(), &policy(enforced), &facts).unwrap();
        assert!(matches!(settled.watched_as, WatchedAs::Paid { .. }));
    }
}

#[test]
fn stolen_or_waiting_funding_is_no_money_even_where_it_is_enforced() {
    let covenant = Covenant::paying(CovenantForm::Wsh, &outputs());
    let with = |funding| CovenantFacts {
        funding,
        ..funded(&covenant)
    };
    let judged = |facts: &CovenantFacts| judge(&shown(&covenant), &quote(), &policy(Some(0)), facts);
    assert_eq!(judged(&with(FundingFacts::Gone)), Err(DropReason::FundingSpent));
    assert_eq!(
        judged(&with(FundingFacts::Unconfirmed)),
        Err(DropReason::Unconfirmed)
    );
}

#[test]
fn template_that_could_not_be_settled_at_once_by_anybody_is_refused() {
    type Change = fn(&mut Covenant);
    let changes: [Change; 6] = [
        |covenant| covenant.template.lock_time = absolute::LockTime::from_consensus(500),
        |covenant| covenant.template.input[0].sequence = Sequence::ZERO,
        |covenant| covenant.template.input.push(covenant.template.input[0].clone()),
        |covenant| covenant.template.input.clear(),
        |covenant| covenant.template.input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]),
        |covenant| covenant.template.input[0].previous_output.vout = 0,
    ];
    for change in changes {
        for form in FORMS {
            assert_eq!(judged(form, change), Err(DropReason::TemplateMismatch));
        }
    }
}

#[test]
fn covenant_that_pays_anything_but_the_split_is_refused() {
    type Change = fn(&mut Covenant);
    let changes: [Change; 6] = [
        |covenant| covenant.template.output[1].value = Amount::from_sat(6999),
        |covenant| covenant.template.output[0].value = Amount::from_sat(2999),
        |covenant| covenant.template.output[1].script_pubkey = ScriptBuf::from_bytes(script(3)),
        |covenant| covenant.template.output.swap(0, 1),
        |covenant| covenant.template.output.push(covenant.template.output[0].clone()),
        |covenant| covenant.template.output.truncate(1),
    ];
    for change in changes {
        assert_eq!(judged(CovenantForm::Wsh, change), Err(DropReason::OutputMismatch));
    }
}

#[test]
fn covenant_with_dust_in_it_cannot_be_relayed_and_is_refused() {
    let mut dusty = outputs();
    dusty[0].sats = 100;
    let quote = OutputQuote {
        split: vec![100, 7000],
        ..quote()
    };
    let covenant = Covenant::paying(CovenantForm::Wsh, &dusty);
    assert_eq!(
        question(&shown(&covenant), &quote),
        Err(DropReason::TemplateMismatch)
    );
}

#[test]
fn covenant_that_holds_too_little_for_the_fee_is_refused() {
    for form in FORMS {
        let covenant = Covenant::paying(form, &outputs());
        let facts = CovenantFacts {
            fee_floor: 1010,
            ..funded(&covenant)
        };
        let judged = judge(&shown(&covenant), &quote(), &policy(Some(0)), &facts);
        assert_eq!(judged, Err(DropReason::Underpaid), "{form:?}");
    }
}

#[test]
fn output_with_another_way_to_be_spent_is_refused() {
    let covenant = Covenant::paying(CovenantForm::Taproot, &outputs());
    let proof = shown(&covenant);
    let secp = Secp256k1::new();
    let nums = XOnlyPublicKey::from_slice(&NUMS).unwrap();
    let payers = XOnlyPublicKey::from_slice(
        &hex::decode("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap(),
    )
    .unwrap();
    let leaf = covenant.opened();
    let second_leaf = TaprootBuilder::new()
        .add_leaf(1, leaf.clone())
        .unwrap()
        .add_leaf(1, ScriptBuf::from_bytes(vec![0x51]))
        .unwrap()
        .finalize(&secp, nums)
        .unwrap();
    let payers_key = TaprootBuilder::new()
        .add_leaf(0, leaf)
        .unwrap()
        .finalize(&secp, payers)
        .unwrap();
    for sweepable in [second_leaf, payers_key] {
        let script = ScriptBuf::new_p2tr_tweaked(sweepable.output_key()).into_bytes();
        let facts = CovenantFacts {
            funding: FundingFacts::Unspent(
                TxOutput {
                    script,
                    sats: 1_000_000,
                },
                PLACE,
            ),
            ..funded(&covenant)
        };
        let judged = judge(&proof, &quote(), &policy(Some(0)), &facts);
        assert_eq!(judged, Err(DropReason::TemplateMismatch));
    }
}

#[test]
fn each_form_is_bound_to_its_own_script() {
    let scripts = FORMS.map(|form| Covenant::paying(form, &outputs()).script().unwrap());
    assert_eq!(scripts[0].len(), 34);
    assert_eq!(
        (scripts[0][0], scripts[0][33]),
        (0x20, 0xb3),
        "push 32 bytes, OP_NOP4"
    );
    assert_eq!((scripts[1].len(), &scripts[1][..2]), (34, [0, 0x20].as_slice()));
    assert_eq!(
        (scripts[2].len(), &scripts[2][..2]),
        (34, [0x51, 0x20].as_slice())
    );
}

#[test]
fn bill_of_a_covenant_is_read_without_understanding_covenants() {
    let proof = shown(&Covenant::paying(CovenantForm::Taproot, &outputs()));
    assert_eq!(crate::chain::bill_of(&proof), Some([9; 32]));
}

proptest! {
    #[test]
    fn hash_changes_with_whatever_the_template_commits_to(sats in 1000u64..1 << 40, place in 0u32..4, lock in any::<u32>()) {
        let mut changed = Covenant::paying(CovenantForm::Wsh, &outputs()).template;
        let before = template_hash(&changed, 0);
        changed.output[0].value = Amount::from_sat(sats);
        changed.lock_time = absolute::LockTime::from_consensus(lock);
        let same = sats == 3000 && lock == 0 && place == 0;
        prop_assert_eq!(template_hash(&changed, place) == before, same);
        // What it spends, and how, is not committed to.
        let committed = template_hash(&changed, place);
        changed.input[0].previous_output.vout = place;
        changed.input[0].witness.push([1, 2, 3]);
        prop_assert_eq!(template_hash(&changed, place), committed);
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let proof = PaymentProof::InstantSettlement {
            covenant_proof: bytes,
            output_index: 0,
            merkle_proof: Vec::new(),
            amount_sats: 0,
            timestamp: 0,
        };
        prop_assert!(question(&proof, &quote()).is_err());
    }

    #[test]
    fn altered_proof_is_refused_or_asks_about_another_output(place in 32usize..200, bit in 0u8..8) {
        let honest = shown(&Covenant::paying(CovenantForm::Wsh, &outputs()));
        let PaymentProof::InstantSettlement { mut covenant_proof, .. } = honest.clone() else { panic!("a covenant") };
        let place = place % covenant_proof.len();
        prop_assume!(place >= 32);
        covenant_proof[place] ^= 1 << bit;
        let altered = PaymentProof::InstantSettlement {
            covenant_proof,
            output_index: 1,
            merkle_proof: Vec::new(),
            amount_sats: 0,
            timestamp: 0,
        };
        let covenant = Covenant::paying(CovenantForm::Wsh, &outputs());
        let facts = funded(&covenant);
        // Its form, its funding or the part of another payee may have changed: then its script or its output has too.
        if let (Ok(asked), Ok(before)) = (question(&altered, &quote()), question(&honest, &quote())) {
            let other = asked != before;
            let refused = judge(&altered, &quote(), &policy(Some(0)), &facts).is_err();
            prop_assert!(other || refused);
        }
    }
}
