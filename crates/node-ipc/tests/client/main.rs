//! The conversation with a node that behaves in every way a node may, and in some that it may not.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod bounds;
mod calls;
mod connection;
mod registrations;
mod stage;
mod strange_nodes;
