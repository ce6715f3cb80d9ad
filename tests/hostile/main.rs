//! A running node among hostile neighbours and strangers: it stays up, serves the honest meanwhile, calls every crime
//! by its name, and holds a bounded amount of memory.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod floods;
mod malformed;
mod stage;
mod strangers;
