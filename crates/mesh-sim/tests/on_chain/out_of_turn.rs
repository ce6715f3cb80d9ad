//! The host says that the chain changed: honoured payments are looked after at once, and no more often than is good.

use std::time::Duration;

use mesh_core::chain::ChainPolicy;
use mesh_core::event::{Answer, Command, Event};
use mesh_core::limits::CHAIN_RECHECK_EVERY;

use crate::{Stage, policy};

/// Far longer than the tests wait.
const NEVER: Duration = Duration::from_secs(3600);

fn taken_back(event: &Event) -> bool {
    matches!(event, Event::OutputTakenBack { .. })
}

/// A payment two deep is honoured, and by itself nobody looks after it for an hour.
fn honoured() -> Stage {
    let mut stage = Stage::new(ChainPolicy {
        watch_every: NEVER,
        ..policy()
    });
    let slice = stage.quote();
    let txid = stage.pay(&slice);
    stage.sim.chain.mine(2);
    stage.open(&slice, txid).unwrap();
    stage.sim.run_for(CHAIN_RECHECK_EVERY * 2);
    stage
}

fn recheck(stage: &mut Stage) {
    let id = stage.sim.command(stage.destination, Command::RecheckChain);
    assert!(matches!(stage.sim.take_answer(id), Some(Ok(Answer::Done))));
}

#[test]
fn reorganisation_that_the_host_tells_of_takes_the_credit_at_once() {
    let mut stage = honoured();
    stage.sim.chain.take_away(2);
    stage.sim.chain.forget_waiting();
    stage.sim.chain.mine(3);
    stage.sim.run_for(Duration::from_secs(60));
    assert_eq!(stage.happened(stage.destination, taken_back), 0, "nobody looked");
    recheck(&mut stage);
    stage.sim.run_for(Duration::from_millis(200));
    assert_eq!(stage.happened(stage.destination, taken_back), 1);
    assert_eq!(stage.credit_at(stage.destination), 0);
}

#[test]
fn forged_news_of_the_chain_change_nothing_and_cost_one_look_a_second() {
    let mut stage = honoured();
    let held = stage.credit_at(stage.destination);
    let before = stage.sim.chain.asked;
    for _ in 0..100 {
        for _ in 0..10 {
            recheck(&mut stage);
        }
        stage.sim.run_for(Duration::from_millis(100));
    }
    let asked = stage.sim.chain.asked - before;
    assert!((9..=11).contains(&asked), "{asked} looks in ten seconds");
    assert_eq!(stage.credit_at(stage.destination), held);
    assert_eq!(stage.happened(stage.destination, taken_back), 0);
}

#[test]
fn news_that_come_while_a_look_is_under_way_are_looked_at_after_it() {
    let mut stage = honoured();
    recheck(&mut stage);
    // Asked, and the chain changes before the next look is due.
    stage.sim.run_for(Duration::from_millis(200));
    stage.sim.chain.take_away(2);
    stage.sim.chain.forget_waiting();
    stage.sim.chain.mine(3);
    recheck(&mut stage);
    stage.sim.run_for(CHAIN_RECHECK_EVERY);
    assert_eq!(stage.happened(stage.destination, taken_back), 1);
}
