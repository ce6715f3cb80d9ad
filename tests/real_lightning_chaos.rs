//! Five daemons with Lightning nodes of their own on a real bitcoind, each in a process that is killed with -9 at random
//! moments while they pay each other; and then the books, to the last millisatoshi.
//!
//! The short run is part of every `cargo test --features ldk` that has a BITCOIND_EXE. The long one:
//!
//! ```text
//! BITCOIND_EXE="$(.ci/bitcoind)" cargo test --features ldk --test real_lightning_chaos -- --ignored --nocapture
//! ```
//!
//! MESH_SESSIONS says how many sessions, MESH_SEED which random numbers. The numbers choose who pays whom, who is killed
//! and when; what is under way at that moment is the machine's.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![cfg(all(unix, feature = "ldk"))]

#[path = "chaos/mod.rs"]
mod chaos;
mod common;

use chaos::run;

/// Sessions of the short run.
const SHORT: usize = 12;

/// Sessions of the long run, unless MESH_SESSIONS says otherwise.
const LONG: usize = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn seed() -> u64 {
    number("MESH_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 16 | 0xb17c)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_daemons_pay_each_other_and_not_a_msat_is_lost_or_made() {
    run(SHORT, seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes; the command is at the top of this file"]
async fn killed_daemons_pay_each_other_in_hundreds_of_sessions_and_not_a_msat_is_lost_or_made() {
    let sessions = number("MESH_SESSIONS").map_or(LONG, |sessions| usize::try_from(sessions).unwrap());
    run(sessions, seed()).await;
}
