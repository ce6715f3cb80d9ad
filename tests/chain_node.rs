//! Paid on a chain that a blvm-node tells of: whole mesh nodes, each with the client of the node's module protocol, on the
//! socket of a node that is played.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on says where

mod common;
#[path = "chain_node/mod.rs"]
mod stage;
