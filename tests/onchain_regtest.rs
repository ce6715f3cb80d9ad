//! Paid on a real chain: nodes that ask a bitcoind on a regression-test chain, which BITCOIND_EXE names; skipped, saying
//! so, without one.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on says where

mod common;
#[path = "onchain/mod.rs"]
mod onchain;
