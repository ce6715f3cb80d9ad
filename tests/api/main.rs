//! What arrives reaches its owner: by calls of the host, over the socket, by polls, after restarts; and nobody else, and
//! nothing twice.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;

mod deliveries;
mod hostile;
mod lives;
mod network;
mod socket;
mod stage;
