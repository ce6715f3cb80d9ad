//! Who gets what, and what nobody gets.

use bytes::Bytes;
use mesh_core::keys::SessionId;
use mesh_core::spending::{Caller, ModuleName};

use super::pace::PUSHES_PER_SECOND;
use super::*;

fn module(name: &str) -> Client {
    Client::of(Caller::Module(ModuleName::new(name).unwrap()))
}

fn socket(name: &str) -> Client {
    Client::over_socket(ModuleName::new(name).unwrap())
}

fn packet(protocol: &str, number: u64, bytes: usize) -> Delivery {
    Delivery {
        source: None,
        session: SessionId([0; 16]),
        sequence: number,
        packet_id: [0; 32],
        protocol_id: protocol.to_owned(),
        payload: Bytes::from(vec![0; bytes]),
    }
}

fn everybody(_: &Client) -> bool {
    true
}

fn poll(desk: &mut Desk, now: Instant, client: &Client, protocol: &str) -> Vec<u64> {
    let polled = desk.poll(now, client, protocol, usize::MAX, |_| true);
    polled
        .deliveries
        .iter()
        .map(|delivery| delivery.sequence)
        .collect()
}

/// The sequence numbers that pushes bring while every one succeeds, until nothing more may go at this moment.
fn push_all(desk: &mut Desk, now: Instant) -> Vec<u64> {
    let mut pushed = Vec::new();
    while let Some(push) = desk.next_push(now, everybody) {
        pushed.push(push.delivery.sequence);
        desk.pushed(now, &push, Outcome::Handled);
    }
    pushed
}

/// The bytes that are counted are those that are there.
fn bytes_are_right(desk: &Desk) {
    let there: usize = desk.handlers.values().map(|handler| handler.queue.bytes()).sum();
    assert_eq!(desk.bytes, there);
}

#[test]
fn two_modules_fight_for_a_protocol_and_the_first_has_it() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let (first, second) = (module("first"), module("second"));
    desk.may_register(now, &first, "chat").unwrap();
    desk.register(now, first.clone(), "chat", "on".into());
    assert_eq!(
        desk.may_register(now, &second, "chat"),
        Err(Taken::By(first.clone()))
    );
    assert!(!desk.unregister(&second, "chat"));
    desk.arrived(now, packet("chat", 1, 1));
    assert_eq!(
        poll(&mut desk, now, &second, "chat"),
        [0u64; 0],
        "nor can it fetch what is the first one's"
    );
    assert!(
        desk.may_register(now, &first, "chat").is_ok(),
        "again is no quarrel"
    );

    assert!(desk.unregister(&first, "chat"));
    desk.may_register(now, &second, "chat").unwrap();
    desk.register(now, second.clone(), "chat", String::new());
    assert_eq!(
        poll(&mut desk, now, &second, "chat"),
        [1],
        "what waited goes to whoever has it next"
    );
    bytes_are_right(&desk);
}

#[test]
fn an_owner_that_is_gone_and_silent_keeps_its_protocol_for_a_day_and_one_that_is_heard_of_for_ever() {
    for owner in [module("owner"), socket("owner")] {
        let (mut desk, start) = (Desk::new(), Instant::now());
        let other = module("other");
        desk.register(start, owner.clone(), "chat", "on".into());
        let almost = start + LAPSES_AFTER - Duration::from_secs(1);
        desk.is_gone(&owner);
        assert!(desk.may_register(almost, &other, "chat").is_err());
        desk.heard_of(almost, &owner);
        desk.is_gone(&owner);
        assert!(
            desk.may_register(almost + LAPSES_AFTER / 2, &other, "chat")
                .is_err()
        );
        let late = almost + LAPSES_AFTER;
        desk.may_register(late, &other, "chat").unwrap();
        desk.register(late, other.clone(), "chat", "on".into());
        assert!(desk.owns(&other, "chat") && !desk.owns(&owner, "chat"));
    }
}

#[test]
fn a_module_with_nothing_to_do_lives_and_keeps_its_protocol_until_the_host_says_it_is_gone() {
    let (mut desk, start) = (Desk::new(), Instant::now());
    let (quiet, other) = (module("quiet"), module("other"));
    desk.register(start, quiet.clone(), "chat", "on".into());
    let late = start + LAPSES_AFTER * 30;
    assert_eq!(desk.silent_owner(late, "chat"), Some(&quiet));
    assert_eq!(
        desk.may_register(late, &other, "chat"),
        Err(Taken::By(quiet.clone()))
    );
    desk.is_gone(&quiet);
    desk.may_register(late, &other, "chat").unwrap();

    // What was registered in an earlier life of the node may be gone since.
    let mut desk = Desk::new();
    desk.restore_owner(start, quiet.clone(), "chat", "on".into());
    assert!(desk.may_register(start, &other, "chat").is_err());
    desk.may_register(late, &other, "chat").unwrap();
    desk.arrived(start, packet("chat", 1, 1));
    assert_eq!(push_all(&mut desk, start), [1]);
    assert!(
        desk.may_register(late, &other, "chat").is_err(),
        "it took a packet, so it lives"
    );
}

#[test]
fn pushes_of_a_protocol_go_one_at_a_time_and_in_order() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    desk.register(now, module("m"), "chat", "on".into());
    for number in 0..5 {
        desk.arrived(now, packet("chat", number, 1));
    }
    let first = desk.next_push(now, everybody).unwrap();
    assert_eq!((first.delivery.sequence, first.method.as_str()), (0, "on"));
    assert!(
        desk.next_push(now, everybody).is_none(),
        "the second waits for the first"
    );
    desk.pushed(now, &first, Outcome::Handled);
    assert_eq!(push_all(&mut desk, now), [1, 2, 3, 4]);
    assert_eq!(desk.counters().pushed, 5);
    bytes_are_right(&desk);
}

#[test]
fn a_handler_that_hangs_holds_up_its_own_module_only() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    for number in 0..10 {
        let protocol = format!("slow{number}");
        desk.register(now, module("slow"), &protocol, "on".into());
        desk.arrived(now, packet(&protocol, number, 1));
    }
    desk.register(now, module("quick"), "z", "on".into());
    desk.arrived(now, packet("z", 99, 1));
    let mut under_way = Vec::new();
    while let Some(push) = desk.next_push(now, everybody) {
        under_way.push(push);
    }
    let slow = under_way.iter().filter(|push| push.owner == module("slow"));
    assert_eq!(slow.count(), MAX_PUSHES_PER_CLIENT);
    assert!(under_way.iter().any(|push| push.delivery.sequence == 99));
    for push in &under_way {
        desk.pushed(now, push, Outcome::Handled);
    }
    assert_eq!(push_all(&mut desk, now).len(), 10 - MAX_PUSHES_PER_CLIENT);
}

#[test]
fn a_packet_that_its_handler_chokes_on_is_tried_three_times_and_left_to_the_poll() {
    let (mut desk, mut now) = (Desk::new(), Instant::now());
    let owner = module("m");
    desk.register(now, owner.clone(), "chat", "on".into());
    for number in 0..3 {
        desk.arrived(now, packet("chat", number, 1));
    }
    let mut tried = Vec::new();
    for _ in 0..6 {
        while let Some(push) = desk.next_push(now, everybody) {
            tried.push(push.delivery.sequence);
            let outcome = if push.delivery.sequence == 0 {
                Outcome::Failed
            } else {
                Outcome::Handled
            };
            desk.pushed(now, &push, outcome);
        }
        now = desk.next_moment(now, everybody).unwrap_or(now);
    }
    assert_eq!(tried, [0, 0, 0, 1, 2]);
    assert_eq!(desk.counters().push_failures, 3);
    bytes_are_right(&desk);

    // A module that registers has just started: the packet is pushed again.
    desk.register(now, owner.clone(), "chat", "on".into());
    assert_eq!(push_all(&mut desk, now), [0]);
    assert_eq!(poll(&mut desk, now, &owner, "chat"), [0u64; 0], "nothing twice");
}

#[test]
fn what_is_being_pushed_is_not_polled_and_comes_back_to_its_place_if_that_fails() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let owner = module("m");
    desk.register(now, owner.clone(), "chat", "on".into());
    for number in 0..3 {
        desk.arrived(now, packet("chat", number, 1));
    }
    let first = desk.next_push(now, everybody).unwrap();
    let polled = desk.poll(now, &owner, "chat", 1, |_| true);
    assert_eq!((polled.deliveries[0].sequence, polled.more), (1, true));
    desk.pushed(now, &first, Outcome::Failed);
    assert_eq!(poll(&mut desk, now, &owner, "chat"), [0, 2]);
    desk.pushed(now, &first, Outcome::Handled);
    assert_eq!(poll(&mut desk, now, &owner, "chat"), [0u64; 0]);
    bytes_are_right(&desk);
}

#[test]
fn a_packet_whose_push_fails_after_its_owner_gave_the_protocol_up_goes_to_the_next_owner() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    desk.register(now, module("old"), "chat", "on".into());
    desk.arrived(now, packet("chat", 5, 1));
    let push = desk.next_push(now, everybody).unwrap();
    assert!(desk.unregister(&module("old"), "chat"));
    desk.pushed(now, &push, Outcome::Unreachable);
    desk.register(now, module("new"), "chat", "on".into());
    assert_eq!(push_all(&mut desk, now), [5]);
    bytes_are_right(&desk);
}

#[test]
fn an_owner_out_of_reach_is_tried_ever_more_rarely_and_then_again_when_it_is_heard_of() {
    let (mut desk, start) = (Desk::new(), Instant::now());
    let owner = socket("tool");
    desk.register(start, owner.clone(), "chat", "on".into());
    desk.arrived(start, packet("chat", 7, 1));
    let mut now = start;
    let mut tries = 0;
    loop {
        let push = desk.next_push(now, everybody).unwrap();
        desk.pushed(now, &push, Outcome::Unreachable);
        tries += 1;
        match desk.next_moment(now, everybody) {
            Some(moment) => now = moment,
            None => break,
        }
    }
    assert_eq!(tries, MAX_UNREACHABLE);
    assert!(now - start > Duration::from_secs(200), "{:?}", now - start);
    assert!(desk.next_push(now + LAPSES_AFTER, everybody).is_none());
    assert!(desk.heard_of(now, &owner));
    assert_eq!(push_all(&mut desk, now), [7], "it was never lost");
}

#[test]
fn an_owner_that_the_host_says_is_gone_is_left_alone_until_it_is_heard_of_and_others_are_not() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let (gone, there) = (module("gone"), module("there"));
    desk.register(now, gone.clone(), "chat", "on".into());
    desk.register(now, there, "news", "on".into());
    desk.is_gone(&gone);
    desk.arrived(now, packet("chat", 1, 1));
    desk.arrived(now, packet("news", 2, 1));
    assert_eq!(push_all(&mut desk, now), [2]);
    assert!(desk.heard_of(now, &gone));
    assert_eq!(push_all(&mut desk, now), [1], "it was never lost");
}

#[test]
fn a_flood_is_bounded_the_newest_are_dropped_and_the_poll_says_how_many() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let owner = module("m");
    desk.register(now, owner.clone(), "chat", String::new());
    for number in 0..3_000 {
        desk.arrived(now, packet("chat", number, 100));
    }
    let polled = desk.poll(now, &owner, "chat", usize::MAX, |_| true);
    let got: Vec<u64> = polled
        .deliveries
        .iter()
        .map(|delivery| delivery.sequence)
        .collect();
    assert_eq!(got, (0..MAX_QUEUED as u64).collect::<Vec<_>>());
    assert_eq!((polled.more, polled.dropped), (false, 3_000 - MAX_QUEUED as u64));
    assert_eq!(
        desk.poll(now, &owner, "chat", 1, |_| true).dropped,
        0,
        "told once"
    );

    for number in 0..200 {
        desk.arrived(now, packet("chat", number, 256 << 10));
    }
    assert!(desk.bytes <= MAX_QUEUED_BYTES && desk.bytes > MAX_QUEUED_BYTES / 2);
    for other in 0..20 {
        let protocol = format!("other{other}");
        desk.register(now, module("greedy"), &protocol, String::new());
        for number in 0..100 {
            desk.arrived(now, packet(&protocol, number, 256 << 10));
        }
    }
    assert!(desk.bytes <= MAX_ALL_QUEUED_BYTES);
    bytes_are_right(&desk);
}

#[test]
fn the_host_is_never_asked_more_than_fifty_times_a_second_and_the_socket_needs_no_pace() {
    let (mut desk, start) = (Desk::new(), Instant::now());
    for number in 0..10 {
        let protocol = format!("p{number}");
        desk.register(start, module(&protocol), &protocol, "on".into());
        for sequence in 0..20 {
            desk.arrived(start, packet(&protocol, sequence, 1));
        }
    }
    desk.register(start, socket("s"), "socket", "on".into());
    for sequence in 0..500 {
        desk.arrived(start, packet("socket", sequence, 1));
    }
    assert_eq!(push_all(&mut desk, start).len(), PUSHES_PER_SECOND + 500);
    let next = desk.next_moment(start, everybody).unwrap();
    assert_eq!(next, start + Duration::from_secs(1));
    assert_eq!(push_all(&mut desk, next).len(), PUSHES_PER_SECOND);
    // Everybody had a turn.
    let left = (0..10).map(|number| desk.handlers[&format!("p{number}")].queue.len());
    assert!(left.clone().max() <= left.min().map(|least| least + 1));
}

#[test]
fn what_nobody_owns_waits_for_whoever_asks_first_bounded_and_not_for_ever() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    desk.arrived(now, packet("early", 1, 1));
    desk.arrived(now, packet("", 2, 1));
    assert_eq!(poll(&mut desk, now, &module("any"), ""), [2]);
    desk.register(now, module("m"), "early", "on".into());
    assert_eq!(push_all(&mut desk, now), [1]);

    for number in 0..1_000 {
        let protocol = format!("nobodys{}", number % 7);
        desk.arrived(now, packet(&protocol, number, 100));
    }
    assert_eq!(desk.counters().unclaimed, 256);
    assert_eq!(desk.counters().dropped_unclaimed, 1_000 - 256);
    assert_eq!(
        poll(&mut desk, now, &module("any"), "nobodys0").first(),
        Some(&749),
        "the newest are kept"
    );
    let later = now + Duration::from_secs(601);
    assert_eq!(poll(&mut desk, later, &module("any"), "nobodys1"), [0u64; 0]);
    assert_eq!(desk.counters().unclaimed, 0);
}

#[test]
fn nobody_takes_the_whole_table() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let mut owned = 0;
    for number in 0..MAX_PROTOCOLS {
        let protocol = format!("p{number}");
        if desk.may_register(now, &module("greedy"), &protocol).is_ok() {
            desk.register(now, module("greedy"), &protocol, String::new());
            owned += 1;
        }
    }
    assert_eq!(owned, MAX_PROTOCOLS_PER_CLIENT);
    for number in 0..MAX_PROTOCOLS {
        let (client, protocol) = (module(&number.to_string()), format!("q{number}"));
        if desk.may_register(now, &client, &protocol).is_ok() {
            desk.register(now, client, &protocol, String::new());
        }
    }
    assert_eq!(desk.registrations().count(), MAX_PROTOCOLS);
    assert_eq!(
        desk.may_register(now, &module("late"), "late"),
        Err(Taken::TooMany)
    );
}

#[test]
fn nothing_overtakes_a_packet_that_was_being_pushed_while_its_protocol_changed_hands() {
    for next_owner in [module("old"), module("new")] {
        let (mut desk, now) = (Desk::new(), Instant::now());
        desk.register(now, module("old"), "chat", "on".into());
        for number in 1..=3 {
            desk.arrived(now, packet("chat", number, 1));
        }
        let push = desk.next_push(now, everybody).unwrap();
        assert!(desk.unregister(&module("old"), "chat"));
        desk.register(now, next_owner.clone(), "chat", "on".into());
        assert!(
            desk.next_push(now, everybody).is_none(),
            "the first is still with its old handler"
        );
        desk.pushed(now, &push, Outcome::Unreachable);
        let mut got = Vec::new();
        let later = now + LONGEST_PAUSE;
        got.extend(push_all(&mut desk, later));
        assert_eq!(got, [1, 2, 3], "to {next_owner}");
        bytes_are_right(&desk);
    }
}

#[test]
fn a_handler_s_success_counts_though_its_module_gave_the_protocol_up_meanwhile() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    desk.register(now, module("old"), "chat", "on".into());
    desk.arrived(now, packet("chat", 1, 1));
    let push = desk.next_push(now, everybody).unwrap();
    desk.unregister(&module("old"), "chat");
    desk.register(now, module("new"), "chat", "on".into());
    desk.pushed(now, &push, Outcome::Handled);
    assert_eq!(push_all(&mut desk, now), [0u64; 0], "nothing twice");
    assert_eq!(told(&mut desk), [Told::Came(1), Told::Went(1)]);
}

/// [`Move`]s by the packets' sequence numbers.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Came(u64),
    Went(u64),
}

/// What was told; numbers of arrival and sequence numbers must be the same in the test that asks.
fn told(desk: &mut Desk) -> Vec<Told> {
    let told = desk.take_moves().into_iter().map(|one| match one {
        Move::Came(number, delivery) => {
            assert_eq!(number, delivery.sequence);
            Told::Came(number)
        }
        Move::Went(number) => Told::Went(number),
    });
    told.collect()
}

#[test]
fn what_waits_for_an_owner_is_told_when_it_comes_and_when_it_is_handled_polled_or_dropped() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let owner = module("m");
    desk.arrived(now, packet("chat", 1, 1));
    assert_eq!(told(&mut desk), [], "nobody owns it");
    desk.register(now, owner.clone(), "chat", "on".into());
    assert_eq!(told(&mut desk), [Told::Came(1)]);
    desk.arrived(now, packet("chat", 2, 1));
    assert_eq!(told(&mut desk), [Told::Came(2)]);

    let push = desk.next_push(now, everybody).unwrap();
    assert_eq!(told(&mut desk), [], "it is not handled yet");
    desk.pushed(now, &push, Outcome::Failed);
    assert_eq!(told(&mut desk), [], "and waits again");
    assert_eq!(poll(&mut desk, now, &owner, "chat"), [1, 2]);
    assert_eq!(told(&mut desk), [Told::Went(1), Told::Went(2)]);

    desk.register(now, owner.clone(), "chat", String::new());
    for _ in 0..=MAX_QUEUED {
        desk.arrived(now, packet("chat", desk.numbers + 1, 1));
    }
    let came = told(&mut desk);
    assert_eq!(
        came.len(),
        MAX_QUEUED,
        "what found no room is nothing to write down"
    );
    // Given up, most of it finds no room among what nobody owns.
    desk.unregister(&owner, "chat");
    assert_eq!(told(&mut desk).len(), MAX_QUEUED - 256);
    desk.arrived(now + Duration::from_secs(601), packet("other", 0, 1));
    assert_eq!(told(&mut desk).len(), 256, "and the rest is forgotten in time");
}

#[test]
fn what_an_earlier_life_left_waits_in_its_order_before_what_comes_and_its_owner_gets_it_once() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let owner = module("m");
    desk.restore_owner(now, owner.clone(), "chat", "on".into());
    desk.restore(now, 7, packet("chat", 7, 1));
    desk.restore(now, 9, packet("chat", 9, 1));
    desk.restore(now, 10, packet("nobodys", 10, 1));
    assert_eq!(told(&mut desk), [], "it is written already");
    desk.arrived(now, packet("chat", 11, 1));
    assert_eq!(told(&mut desk), [Told::Came(11)]);
    assert_eq!(push_all(&mut desk, now), [7, 9, 11]);
    assert_eq!(told(&mut desk), [Told::Went(7), Told::Went(9), Told::Went(11)]);
    assert_eq!(desk.counters().restored, 3);
    desk.register(now, owner, "nobodys", "on".into());
    assert_eq!(push_all(&mut desk, now), [10]);
    assert_eq!(told(&mut desk), [Told::Went(10)]);
}

#[test]
fn a_restart_drops_nothing_of_a_full_queue_of_which_one_packet_was_being_pushed() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let owner = module("m");
    desk.restore_owner(now, owner.clone(), "chat", "on".into());
    let last = MAX_QUEUED as u64 + 1;
    for number in 1..=last {
        desk.restore(now, number, packet("chat", number, 1));
    }
    assert_eq!(told(&mut desk), [], "all of it stays on disk");
    assert_eq!(desk.counters().restored, last);
    desk.arrived(now, packet("chat", last + 1, 1));
    assert_eq!(desk.counters().dropped_full, 1, "what is new finds no room");
    bytes_are_right(&desk);
    assert_eq!(
        poll(&mut desk, now, &owner, "chat"),
        (1..=last).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_left_without_its_registration_waits_for_one_whatever_others_send_and_leaves_by_age() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let last = MAX_QUEUED as u64 + 1;
    for number in 1..=last {
        desk.restore(now, number, packet("chat", number, 1));
        desk.restore(now, last + number, packet("old", number, 1));
    }
    for number in 0..300 {
        desk.arrived(now, packet("flood", number, 1));
    }
    assert_eq!(told(&mut desk), []);
    assert_eq!(
        desk.counters().dropped_unclaimed,
        300 - 256,
        "a flood drops its own"
    );
    desk.register(now, module("m"), "chat", String::new());
    bytes_are_right(&desk);
    assert_eq!(
        poll(&mut desk, now, &module("m"), "chat"),
        (1..=last).collect::<Vec<_>>()
    );
    assert_eq!(told(&mut desk).len() as u64, last);
    desk.arrived(now + Duration::from_secs(601), packet("other", 0, 1));
    assert_eq!(told(&mut desk).len() as u64, last, "nobody came for it");
    assert_eq!(desk.counters().unclaimed, 1);
}

#[test]
fn a_desk_that_closes_gives_nothing_away() {
    let (mut desk, now) = (Desk::new(), Instant::now());
    let owner = module("m");
    desk.register(now, owner.clone(), "chat", "on".into());
    desk.arrived(now, packet("chat", 1, 1));
    desk.close();
    assert!(desk.next_push(now, everybody).is_none());
    assert_eq!(poll(&mut desk, now, &owner, "chat"), [0u64; 0]);
}
