//! What a Bitcoin node's events, command line and JSON-RPC do to a mesh node, and what they cannot do.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod events;
mod rpc;
mod stage;
