//! Payment-gated mesh networking for Bitcoin nodes: the hands around [`mesh_core`].
//!
//! A program that embeds a node builds a [`node::NodeConfig`], starts a [`node::RunningNode`] and talks to it through
//! [`handle::NodeHandle`]. Everything a node decides is decided in [`mesh_core::core::Core`]; this package owns the
//! sockets, the disk, the clock and the wallet, and obeys. ARCHITECTURE.md shows the whole.

pub mod admin;
pub mod api;
pub mod carrier;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod data_dir;
pub mod demo;
mod disk;
pub mod fairness;
pub mod handle;
pub mod host;
pub mod http;
pub mod ledger;
pub mod lnurl;
mod manager;
pub mod node;
pub mod operator;
pub mod pricing;
pub mod resources;
pub mod socket;
pub mod store;
pub mod treasury;
pub mod wallet;
mod workers;
