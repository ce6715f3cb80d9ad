//! blvm-mesh

pub mod admin;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod demo;
pub mod handle;
mod manager;
pub mod node;
pub mod store;
pub mod wallet;
mod workers;
