use super::*;
use crate::chain::Place;

fn quote(byte: u8, redeem_by: u64) -> OutputQuote {
    OutputQuote {
        bill: [byte; 32],
        script: vec![byte; 22],
        account: [1; 32],
        credit_msat: 5_000_000,
        treasury_msat: 1_000_000,
        redeem_by: UnixMillis(redeem_by),
        previous: NodeId([3; 32]),
        split: Vec::new(),
        place: 0,
    }
}

fn honoured(byte: u8, height: u32, sats: u64) -> HonouredOutput {
    let found = Found {
        outpoint: OutPoint {
            txid: [byte; 32],
            vout: 0,
        },
        sats,
        place: Place {
            block: [byte; 32],
            height,
            depth: 1,
        },
        watched_as: WatchedAs::Paid { txid: [byte; 32] },
    };
    HonouredOutput::new(&quote(byte, 0), &found).unwrap()
}

#[test]
fn script_that_the_chain_source_gives_twice_is_quoted_once() {
    let mut quotes = OutputQuotes::default();
    quotes.insert(quote(1, 10)).unwrap();
    let again = OutputQuote {
        script: quote(1, 10).script,
        ..quote(2, 10)
    };
    assert_eq!(quotes.insert(again.clone()), Err(DropReason::ChainUnavailable));
    assert!(quotes.close(&[1; 32]) && !quotes.close(&[1; 32]));
    assert_eq!(quotes.insert(again), Ok(()));
}

#[test]
fn quotes_are_forgotten_after_redeem_by_and_not_before_and_make_room() {
    let mut quotes = OutputQuotes::default();
    quotes.insert(quote(1, 10)).unwrap();
    quotes.insert(quote(2, 20)).unwrap();
    quotes.insert(quote(1, 10)).unwrap();
    assert!(quotes.expire(UnixMillis(10)).is_empty());
    assert_eq!(quotes.expire(UnixMillis(11)), [[1; 32]]);
    assert!(quotes.get(&[1; 32]).is_none() && quotes.get(&[2; 32]).is_some());
    assert_eq!(quotes.expire(UnixMillis(21)), [[2; 32]]);
    assert!(quotes.per_neighbour.is_empty() && quotes.scripts.is_empty() && quotes.by_expiry.is_empty());
}

#[test]
fn what_a_reorganisation_would_take_is_all_that_stands_as_high_or_higher() {
    let mut watched = Watched::default();
    for (byte, height, sats) in [(1, 10, 6000), (2, 11, 7000), (3, 12, 8000)] {
        watched.insert(honoured(byte, height, sats));
    }
    let gone = HonouredOutput {
        state: HonouredState::TakenBack { at_height: 12 },
        ..honoured(4, 12, 90_000)
    };
    watched.insert(gone);
    let at_stake = [9, 10, 11, 12, 13].map(|height| watched.at_stake_sats(height));
    assert_eq!(at_stake, [21_000, 21_000, 15_000, 8000, 0]);
}

#[test]
fn every_output_has_its_turn_however_many_there_are() {
    let mut watched = Watched::default();
    for byte in 0..10 {
        watched.insert(honoured(byte, 1, 6000));
    }
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let round = watched.next_round(3, |output| output.bill[0] != 5);
        assert_eq!(round.len(), 3);
        seen.extend(round.iter().map(|output| output.bill[0]));
    }
    assert_eq!(seen.len(), 9);
    assert!(!seen.contains(&5));
}

#[test]
fn full_table_of_watched_outputs_refuses_the_new_and_forgets_none() {
    let mut watched = Watched::default();
    for number in 0..MAX_WATCHED_OUTPUTS as u32 {
        let mut output = honoured(1, 1, 6000);
        output.bill[..4].copy_from_slice(&number.to_be_bytes());
        assert_eq!(watched.check_room(), Ok(()));
        watched.insert(output);
    }
    assert_eq!(watched.check_room(), Err(DropReason::TableFull));
    assert_eq!(watched.len(), MAX_WATCHED_OUTPUTS);
}

#[test]
fn excess_and_loss_are_what_is_left_of_the_value() {
    let mut output = honoured(1, 1, 6500);
    assert_eq!((output.excess_msat, output.lost_msat()), (500_000, 0));
    // Taken back when 2,000,000 of its credit were drawn and the treasury was paid.
    (output.credit_msat, output.treasury_msat) = (3_000_000, 0);
    assert_eq!(output.lost_msat(), 3_000_000);
}

#[test]
fn bills_are_bounded_and_forgotten_in_time() {
    let bill = |byte: u8, redeem_by| Bill {
        id: [byte; 32],
        payee: NodeId([1; 32]),
        credit_msat: 1,
        treasury_msat: 0,
        redeem_by: UnixMillis(redeem_by),
        redeemed: false,
    };
    let mut bills = Bills::default();
    bills.insert(bill(1, 10));
    bills.insert(bill(2, 20));
    assert_eq!(bills.check_room(MAX_BILLS - 2), Ok(()));
    assert_eq!(bills.check_room(MAX_BILLS - 1), Err(DropReason::TableFull));
    let (payee, other) = (NodeId([1; 32]), NodeId([2; 32]));
    assert_eq!(bills.redeemed(&other, &[2; 32]), None);
    assert!(bills.redeemed(&payee, &[2; 32]).unwrap().redeemed && bills.get(&[2; 32]).unwrap().redeemed);
    assert_eq!(bills.redeemed(&payee, &[2; 32]), None, "once");
    assert!(bills.expire(UnixMillis(10)).is_empty());
    assert_eq!(bills.expire(UnixMillis(11)), [[1; 32]]);
    assert!(bills.get(&[1; 32]).is_none());
}
